# Exercise 2.5: a chat, by the rules in docs/02-multiconn.md.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# chat [OPTION...]: starts the server, and runs a script from standard input,
# which begins with the names in chatters.py and talks to port. What is wrong
# is what the script ends with.
chat() {
    start_server chat-server "$@" 127.0.0.1 0
    cat >"$tmp/script"
    run timeout 15 env PYTHONPATH=tests/helpers python3 -B - "$port" "$server" < <(
        echo 'import os, random, signal, subprocess, sys, threading, time
from chatters import PATIENCE, Chatter, meet, settle, sockets, wrong
port, server = int(sys.argv[1]), int(sys.argv[2])'
        cat "$tmp/script"
    )
    ((status != 124)) || fail "the clients had not finished after 15 s"
    ((status == 0)) || fail "$output"
}

# was_told PATTERN: this is all that is on standard error
was_told() {
    run sed 's/:[0-9]*: /:PORT: /' "$tmp/err"
    assert_output "$1"
}

@test "what one says all others hear, and not the one who said it" {
    chat <<'PYTHON'
anna, bert, cleo = (Chatter(name, port) for name in ("Anna", "Bert", "Cleo"))
cleo.says(b"one\n")
anna.hears(b"one\n")
bert.hears(b"one\n")
anna.says(b"two\n")
bert.hears(b"two\n")
cleo.hears(b"two\n")
bert.says(b"three\n")
anna.hears(b"three\n")
cleo.hears(b"three\n")
PYTHON
}

@test "a line that comes in pieces goes out when it is complete" {
    chat <<'PYTHON'
anna, bert, cleo = meet(port, "Anna", "Bert", "Cleo")
anna.says(b"he")
settle(bert, cleo)
anna.says(b"ll")
settle(bert, cleo)
cleo.says(b"meanwhile\n")
bert.hears(b"meanwhile\n")
anna.says(b"o\n")
bert.hears(b"hello\n")
cleo.hears(b"hello\n")
PYTHON
}

@test "several lines that come together are heard at once, and half of one is not" {
    chat <<'PYTHON'
anna, bert, cleo = meet(port, "Anna", "Bert", "Cleo")
anna.says(b"one\ntwo\n\nthree\nfo")
bert.hears(b"one\ntwo\n\nthree\n")
cleo.hears(b"one\ntwo\n\nthree\n")
cleo.says(b"between\n")
bert.hears(b"between\n")
anna.says(b"ur\nfive\n")
bert.hears(b"four\nfive\n")
PYTHON
}

@test "a zero is a byte like all others, and only a newline ends a line" {
    chat <<'PYTHON'
anna, bert = meet(port, "Anna", "Bert")
for line in (b"one\0two\n", b"\0\0\n", b"\r\v\f\n", b"end\r\n", bytes(range(11, 256)) + b"\n"):
    bert.says(line)
    anna.hears(line)
PYTHON
}

@test "1,000 bytes are a line, and who sends one more is ended" {
    chat <<'PYTHON'
anna, bert, cleo = meet(port, "Anna", "Bert", "Cleo")
anna.says(b"a" * 400)
settle(bert, cleo)
anna.says(b"a" * 600)
settle(bert, cleo)
anna.says(b"\n" + b"b" * 1000 + b"\n")
for other in (bert, cleo):
    other.hears(b"a" * 1000 + b"\n" + b"b" * 1000 + b"\n")
# One byte too many, and no newline: who waits for it waits for ever.
anna.says(b"last words\n" + b"c" * 400)
for other in (bert, cleo):
    other.hears(b"last words\n")
anna.says(b"c" * 601)
anna.hears_the_end(perhaps=b"hello\nhello again\n" * 2)
bert.says(b"d" * 1001 + b"\nand more\n")
bert.hears_the_end()
doro, emil = meet(port, "Doro", "Emil")
cleo.hears(b"hello\nhello again\n")
PYTHON
    was_told 'chat-server: connection from 127.0.0.1:PORT: line too long
chat-server: connection from 127.0.0.1:PORT: line too long'
}

@test "a last line without its newline gets one" {
    chat <<'PYTHON'
anna, bert, cleo = meet(port, "Anna", "Bert", "Cleo")
anna.says(b"bye")
anna.finishes()
bert.hears(b"bye\n")
cleo.hears(b"bye\n")
anna.hears_the_end()
bert.says(b"me too\n")
bert.finishes()
cleo.hears(b"me too\n")
bert.hears_the_end()
doro, emil = meet(port, "Doro", "Emil")
cleo.hears(b"hello\nhello again\n")
PYTHON
    was_told ''
}

@test "who has finished still gets what waits for him, and then the end" {
    chat <<'PYTHON'
anna = Chatter("Anna", port, receive_buffer=4096)
bert, cleo = meet(port, "Bert", "Cleo")
anna.hears(b"hello\nhello again\n")
# Too much for the kernel to hold, and not too much for the server.
said = b""
for number in range(200):
    line = b"%999d\n" % number
    bert.says(line)
    cleo.hears(line)
    said += line
anna.finishes()
settle(bert, cleo)
anna.hears(said)
anna.hears_the_end(perhaps=b"hello\n")
PYTHON
    was_told ''
}

@test "who does not read for a while misses nothing" {
    chat <<'PYTHON'
anna = Chatter("Anna", port, receive_buffer=4096)
bert, cleo = meet(port, "Bert", "Cleo")
anna.hears(b"hello\nhello again\n")
for round_ in range(5):
    said = b""
    for number in range(200):
        line = b"%d %d" % (round_, number) + b"." * random.randrange(900) + b"\n"
        bert.says(line)
        cleo.hears(line)
        said += line
    anna.hears(said)
PYTHON
    was_told ''
}

@test "who never reads is ended, and the others go on" {
    chat <<'PYTHON'
anna = Chatter("Anna", port, receive_buffer=4096)
bert, cleo = meet(port, "Bert", "Cleo")
mine = anna.socket.getsockname()[1]

def kept(said):
    """How many of the bytes said are in the server, and not in the kernel."""
    ends = subprocess.check_output(["ss", "-tnH",
                                    f"( sport = :{port} and dport = :{mine} ) or "
                                    f"( sport = :{mine} and dport = :{port} )"], text=True)
    for end in ends.splitlines():
        _, unread, unsent, local, *_ = end.split()
        said -= int(unsent if local.endswith(f":{port}") else unread)
    return said

for number in range(16000):
    line = b"%999d\n" % number
    bert.says(line)
    cleo.hears(line)
    if number < 262 or number % 20:
        continue
    until = time.monotonic() + PATIENCE
    while (still := sockets(server) > 3) and (more := kept(1000 * number)) > 262144 + 16384:
        if time.monotonic() > until:
            wrong(f"one who has read nothing is still there, and {more} bytes wait for it in the server")
        time.sleep(0.02)
    if not still:
        break
else:
    wrong("who has read none of 16,000 lines of 1,000 bytes is still there")
settle(bert, cleo)
PYTHON
    was_told 'chat-server: connection from 127.0.0.1:PORT: too slow'
}

@test "who is ended by another's line is not heard any more in the same turn" {
    chat <<'PYTHON'
bert, cleo = meet(port, "Bert", "Cleo")
anna = Chatter("Anna", port, receive_buffer=4096)
anna.says(b"I talk, and do not read\n")
bert.hears(b"I talk, and do not read\n")
cleo.hears(b"I talk, and do not read\n")
for number in range(1100):
    said = b"".join(b"%2d.%996d\n" % (line, number) for line in range(15))
    os.kill(server, signal.SIGSTOP)
    # Both are ready when the server looks again.
    bert.says(said)
    try:
        anna.socket.sendall(b"\n")
    except ConnectionError:
        pass
    os.kill(server, signal.SIGCONT)
    came = b""
    while said[-1000:] not in came:
        piece = cleo.socket.recv(65536)
        if not piece:
            sys.exit("Cleo got the end, where lines were to come")
        came += piece
    if sockets(server) == 3:
        break
bert.leaves()
cleo.leaves()
PYTHON
    was_told 'chat-server: connection from 127.0.0.1:PORT: too slow'
}

@test "who comes next begins with nothing of who left" {
    chat <<'PYTHON'
bert, cleo = meet(port, "Bert", "Cleo")
for turn in range(5):
    anna = Chatter("Anna", port)
    anna.says(b"here\nhalf a li")
    bert.hears(b"here\n")
    cleo.hears(b"here\n")
    anna.resets()
    settle(bert, cleo)
    doro = Chatter("Doro", port)
    doro.says(b"whole\n")
    bert.hears(b"whole\n")
    cleo.hears(b"whole\n")
    cleo.says(b"welcome\n")
    doro.hears(b"welcome\n")
    bert.hears(b"welcome\n")
    doro.finishes()
    doro.hears_the_end()
PYTHON
    run grep -vF 'Connection reset by peer' "$tmp/err"
    assert_output ''
}

@test "the lines of 20 who speak at a time come whole, in their order" {
    chat -q <<'PYTHON'
crowd = meet(port, *(f"client {number}" for number in range(20)))
for number, chatter in enumerate(crowd[:-1]):
    chatter.number = number
crowd[-1].number = 19
LINES = 20
wrong = []

def speak(chatter):
    chance = random.Random(chatter.number)
    text = b"".join(b"%d %d%s\n" % (chatter.number, number, b"." * chance.randrange(300))
                    for number in range(LINES))
    while text:
        size = chance.choice([1, 10, 100, 1000])
        chatter.socket.sendall(text[:size])
        text = text[size:]

def listen(chatter):
    heard = {number: 0 for number in range(20) if number != chatter.number}
    try:
        with chatter.socket.makefile("rb") as lines:
            for _ in range(19 * LINES):
                line = lines.readline()
                speaker, number = line.rstrip(b".\n").split(b" ")
                if heard.get(int(speaker)) != int(number) or not line.endswith(b"\n"):
                    raise ValueError
                heard[int(speaker)] += 1
    except ValueError:
        wrong.append(f"{chatter.name} got {line[:60]!r}, which is no line or not the next of who said it")
    except OSError as error:
        wrong.append(f"{chatter.name} got {sum(heard.values())} of {19 * LINES} lines: {error}")

threads = [threading.Thread(target=what, args=(chatter,))
           for chatter in crowd for what in (speak, listen)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if wrong:
    sys.exit(wrong[0])
PYTHON
    was_told ''
}

@test "when nobody speaks, the server sleeps" {
    chat <<'PYTHON'
anna = Chatter("Anna", port, receive_buffer=4096)
bert, cleo = meet(port, "Bert", "Cleo")
anna.hears(b"hello\nhello again\n")
said = b"".join(b"%999d\n" % number for number in range(200))
for at in range(0, len(said), 10000):
    bert.says(said[at:at + 10000])
    cleo.hears(said[at:at + 10000])
anna.hears(said)  # what was to be sent is gone
doro = Chatter("Doro", port)
doro.says(b"half a li")
settle(bert, cleo)

def used():
    with open(f"/proc/{server}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])

time.sleep(0.1)
before = used()
time.sleep(0.7)
if used() - before > 3:
    sys.exit(f"in 0.7 s in which nobody spoke, the server used {(used() - before) * 10} ms of processor time")
PYTHON
}

@test "a kernel that gives and takes a few bytes at a time, and is interrupted, changes no line" {
    for limits in SHIM_RECEIVE=1 SHIM_SEND=3 SHIM_EINTR=3; do
        server_env=("LD_PRELOAD=$build/shim.so" "$limits")
        chat <<'PYTHON'
anna, bert, cleo = meet(port, "Anna", "Bert", "Cleo")
said = b"".join(b"%d %s\n" % (number, b"." * (number * 37 % 500)) for number in range(30))
for speaker in (anna, bert, cleo):
    speaker.says(said)
    for other in (anna, bert, cleo):
        if other is not speaker:
            other.hears(said)
PYTHON
        was_told ''
    done
}
