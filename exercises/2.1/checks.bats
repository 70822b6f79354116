# Exercise 2.1: what the suite of stage 2 sees as well, in small cases; and
# "ulimit -n 20".
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# clients: runs a script from standard input, to which "heard" is known. What is
# wrong is what the script ends with.
clients() {
    cat >"$tmp/script"
    run timeout 15 python3 - "$port" "$tmp/out" < <(
        cat - "$tmp/script" <<'PYTHON'
import os, socket, sys, time
patience = float(os.environ.get("patience", 10))

def connect():
    return socket.create_connection(("127.0.0.1", int(sys.argv[1])))

def say(client, what):
    client.sendall(what.encode())

def is_heard(client, what, seconds=patience):
    host, port = client.getsockname()
    until = time.monotonic() + seconds
    while f"{what} from {host}:{port}\n" not in open(sys.argv[2]).read():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True

def heard(client, what):
    """Waits until the server has told that it has, once."""
    host, port = client.getsockname()
    line = f"Received '{what}' from {host}:{port}\n"
    until = time.monotonic() + patience
    while line not in (told := open(sys.argv[2]).read()):
        if time.monotonic() > until:
            sys.exit(f"not within {patience:g} s: {line}"
                     f"the last line was: {told.splitlines()[-1]}")
        time.sleep(0.01)
    if told.count(line) > 1:
        sys.exit(f"more than once: {line}")

PYTHON
    )
    ((status == 0)) || fail "$output"
}

@test "one client is heard, and its end is seen" {
    start_server discard-server 127.0.0.1 0
    peer connect 127.0.0.1 "$port" send Hello close
    run said 'Closing connection to' # or what has been said by then
    run sed '1d; s/:[0-9]*$/:PORT/' "$tmp/out"
    assert_output "Accepted connection from 127.0.0.1:PORT
Received 'Hello' from 127.0.0.1:PORT
Closing connection to 127.0.0.1:PORT"
    run cat "$tmp/err"
    assert_output ''
}

@test "who was silent while another one spoke is heard" {
    start_server discard-server 127.0.0.1 0
    clients <<'PYTHON'
silent, lively = connect(), connect()
say(lively, "one")
heard(lively, "one")
say(silent, "two")
if not is_heard(silent, "'two'"):
    say(lively, "three")
    sys.exit("since one client has spoken, another one is not heard; the first "
             + ("still is" if is_heard(lively, "'three'", 1) else "is not, either"))
PYTHON
}

@test "lines that come together are all heard, at once" {
    start_server discard-server 127.0.0.1 0
    clients <<'PYTHON'
client = connect()
say(client, "one\ntwo\nthree\n")
if not is_heard(client, "three\\n'"):
    before = is_heard(client, "two\\n'", 0)
    say(client, "four\n")
    for line in open(sys.argv[2]):
        if line.startswith("Received "):
            print("heard: " + line, end="")
    sys.exit(r"not heard, as one: Received 'one\ntwo\nthree\n'" + (
        "; the second is, since a fourth one was sent"
        if not before and is_heard(client, "two\\n'", 1) else ""))
PYTHON
}

@test "five clients that speak in turn are each heard in theirs" {
    start_server discard-server 127.0.0.1 0
    clients <<'PYTHON'
five = [connect() for _ in range(5)]
for turn in ("first", "second", "third"):
    for client in five:
        say(client, turn)
        heard(client, turn)
PYTHON
}

@test "a call that has to wait after all, or is interrupted, ends nobody" {
    for trouble in SHIM_EAGAIN=2 SHIM_EINTR=2; do
        server_env=("LD_PRELOAD=$build/shim.so" "$trouble")
        start_server discard-server 127.0.0.1 0
        clients <<'PYTHON'
five = [connect() for _ in range(5)]
for turn in ("first", "second", "third"):
    for client in five:
        say(client, turn)
        heard(client, turn)
PYTHON
        run cat "$tmp/err"
        assert_output ''
        stop_server
    done
}

@test "clients that say nothing cost no processor time" {
    start_server discard-server 127.0.0.1 0
    for client in 1 2 3 4 5; do
        start_peer silent$client connect 127.0.0.1 "$port" hold
    done
    peer connect 127.0.0.1 "$port" send gone close
    said 'Closing connection to'
    peer connect 127.0.0.1 "$port" send 'and another' close
    said "'and another'"
    sleep 0.1
    local before used
    before=$(ticks "$server")
    sleep 0.5
    used=$(($(ticks "$server") - before))
    ((used <= 3)) || fail "in 0.5 s in which nobody spoke, the server used ${used}0 ms of processor time"
}

@test "who finds no descriptor left, under ulimit -n 20, waits and is heard" {
    server_env=(prlimit --nofile=20)
    start_server discard-server 127.0.0.1 0
    clients <<'PYTHON'
crowd = [connect() for _ in range(24)]
for number, client in enumerate(crowd):
    say(client, f"number {number}")
for number, client in enumerate(crowd[:12]):
    heard(client, f"number {number}")
    client.close()
for number, client in enumerate(crowd[12:], start=12):
    heard(client, f"number {number}")
PYTHON
    complained 'accept: Too many open files'
}
