# Exercise 2.2: what the suite of stage 2 sees as well, but in so small a case
# that what came back tells one mistake from another.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# exchange CLIENT:TEXT...: each of these clients sends, receives as many bytes
# or what comes in time, and what came is printed, by client. Once something has
# not come, what else comes does so soon.
exchange() {
    run timeout $((${limit:-10} + 5)) python3 - "$port" "$@" <<'PYTHON'
import os, socket, sys
clients, came = {}, {}
patience = float(os.environ.get("patience", 10))
for word in sys.argv[2:]:
    name, _, text = word.partition(":")
    if name not in clients:
        clients[name] = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        came[name] = ""
    clients[name].settimeout(patience)
    wanted = len(text)
    try:
        clients[name].sendall(text.encode())
        while wanted > 0:
            piece = clients[name].recv(wanted)
            came[name] += piece.decode() if piece else ", and the end"
            wanted = wanted - len(piece) if piece else 0
    except TimeoutError:
        patience = 0.7
    except OSError as error:
        came[name] += f", and {error.strerror}"
print("; ".join(f"{name}: {text}" for name, text in came.items()))
PYTHON
}

@test "two clients that speak in turn get their bytes back" {
    start_server multiconn-server 127.0.0.1 0
    exchange first:one second:two first:three second:four
    assert_output 'first: onethree; second: twofour'
}

@test "who finishes gets the rest, and then the end" {
    start_server multiconn-server 127.0.0.1 0
    run peer connect 127.0.0.1 "$port" send Hello half-close expect Hello end
    ((status != 124)) || fail "no end came within ${limit:-20} s"
    assert_output '0 bytes before the end'
}

@test "what send() does not take is kept, and sent later" {
    server_env=("LD_PRELOAD=$build/shim.so" SHIM_SEND=3)
    start_server multiconn-server 127.0.0.1 0
    exchange client:abcdefghij client:klmnopqrst
    assert_output 'client: abcdefghijklmnopqrst'
}

@test "one who never reads keeps nobody waiting, and does not fill the server's memory" {
    start_server multiconn-server -q 127.0.0.1 0
    run timeout 15 python3 - "$port" "$server" <<'PYTHON'
import re, socket, sys, time

def memory():
    with open(f"/proc/{sys.argv[2]}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])

before = memory()
deaf = socket.socket()
deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
deaf.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
deaf.connect(("127.0.0.1", int(sys.argv[1])))
deaf.setblocking(False)
sent, last = 0, time.monotonic()
while time.monotonic() - last < 0.3:
    try:
        sent += deaf.send(bytes(65536))
        last = time.monotonic()
    except BlockingIOError:
        time.sleep(0.01)
    if sent > 20_000_000:
        sys.exit("of a client that never reads, 20,000,000 bytes were taken, and "
                 f"more would be; the server's memory grew by {memory() - before} kB")
def used():
    with open(f"/proc/{sys.argv[2]}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return 10 * (int(fields[11]) + int(fields[12]))

before = used()
other = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2)
other.sendall(b"word")
try:
    came = other.recv(4)
except TimeoutError:
    sys.exit("the other client has waited 2 s for its answer, in vain, while the "
             f"server used {used() - before} ms of processor time")
if came != b"word":
    sys.exit(f"the other client sent 'word' and got {came!r}")
PYTHON
    ((status == 0)) || fail "$output"
}

@test "when nobody speaks, the server sleeps" {
    start_server multiconn-server 127.0.0.1 0
    exchange first:one second:two
    for client in 1 2 3; do
        start_peer silent$client connect 127.0.0.1 "$port" send x expect x say served hold
        wait_for grep -q served "$tmp/silent$client"
    done
    sleep 0.1
    local before used
    before=$(ticks "$server")
    sleep 0.5
    used=$(($(ticks "$server") - before))
    ((used <= 3)) || fail "in 0.5 s in which nobody spoke, the server used ${used}0 ms of processor time"
}

@test "100 clients that send what and when they like get their bytes back" {
    start_server multiconn-server -q 127.0.0.1 0
    run timeout 15 python3 tests/helpers/crowd.py 127.0.0.1 "$port" 100 talk
    ((status != 124)) || fail "the clients had not finished after 15 s"
    ((status == 0)) || fail "$output"
    run cat "$tmp/err"
    assert_output ''
}

# shimmed VARIABLE: ten clients get their bytes back from a server to which the
# kernel is less obliging than it usually is: see shim.c
shimmed() {
    server_env=("LD_PRELOAD=$build/shim.so" "$1")
    start_server multiconn-server -q 127.0.0.1 0
    run timeout 15 python3 tests/helpers/crowd.py 127.0.0.1 "$port" 10 talk
    ((status != 124)) || fail "the clients had not finished after 15 s"
    ((status == 0)) || fail "$output"
    run cat "$tmp/err"
    assert_output ''
}

@test "a kernel that gives a few bytes at a time, or takes a few, changes nothing" {
    shimmed SHIM_RECEIVE=50
    shimmed SHIM_SEND=30
}

@test "a call that a signal interrupts is made again" {
    shimmed SHIM_EINTR=3
}

@test "a call that has to wait after all changes nothing" {
    shimmed SHIM_EAGAIN=3
}

@test "-t begins anew when a byte is taken, too" {
    start_server multiconn-server -q -t 3 127.0.0.1 0
    run timeout 20 python3 - "$port" <<'PYTHON'
import socket, subprocess, sys, time
port = int(sys.argv[1])
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
client.settimeout(10)
client.connect(("127.0.0.1", port))
mine = client.getsockname()[1]

def queues():
    """How many bytes the kernel holds: for the server, and for the client."""
    told = subprocess.check_output(["ss", "-tnH",
                                    f"( sport = :{port} and dport = :{mine} ) or "
                                    f"( sport = :{mine} and dport = :{port} )"])
    ends = [line.split() for line in told.decode().splitlines()]
    server = next(end for end in ends if end[3].endswith(f":{port}"))
    client = next(end for end in ends if end[3].endswith(f":{mine}"))
    return int(server[1]), int(server[2]) + int(client[1])

# As much as makes the server have all of it, and not be able to send all: it
# hears nothing more of this client.
sent = 0
while sent < 8_000_000:
    client.sendall(bytes(8192))
    sent += 8192
    said = time.monotonic()
    while queues() != (0, sent) and time.monotonic() < said + 0.4:
        time.sleep(0.01)
    if queues() != (0, sent):
        break

def until(moment, latest):
    """A busy machine may let a script wait for so long that it proves nothing."""
    time.sleep(max(0, said + moment - time.monotonic()))
    if time.monotonic() > said + latest:
        sys.exit(77)

until(2, 2.9)
came = 0
while came < sent and (piece := client.recv(sent - came)):
    came += len(piece)
if came < sent:
    sys.exit(f"a client that did not read for 2 s, with -t 3, got {came} of {sent} bytes")
until(3.6, 4.8)
try:
    client.sendall(b"x")
    came = client.recv(1)
except OSError as error:
    came = error.strerror
if came != b"x":
    sys.exit("a client took its bytes after 2 s, with -t 3; when it spoke again "
             f"after 3.6 s, it got {came or 'the end'}")
PYTHON
    ((status != 77)) || skip "this machine is too busy"
    ((status == 0)) || fail "$output"
}
