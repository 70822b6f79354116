# Exercise 2.3: what the suite of stage 2 does not see: that nothing waits, and
# that what failed is closed.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# start_script [ADDRESS]: a server in Python, read from standard input, with a
# listener; what it says goes to $tmp/server. Sets script and script_port.
start_script() {
    cat >"$tmp/script"
    : >"$tmp/server"
    python3 - "${1:-127.0.0.1}" >"$tmp/server" 2>&1 3>&- < <(
        echo 'import os, socket, sys
listener = socket.create_server((sys.argv[1], 0))
listener.settimeout(float(os.environ.get("patience", 10)))
print(listener.getsockname()[1], flush=True)
def accept():
    client = listener.accept()[0]
    client.settimeout(listener.gettimeout())
    return client
def finish(client):
    client.sendall(b"Hello")
    if client.recv(10) != b"":
        sys.exit("more came than Hello")
    client.close()'
        cat "$tmp/script"
    ) &
    script=$!
    started+=("$script")
    wait_for grep -q . "$tmp/server"
    script_port=$(head -n 1 "$tmp/server")
}

ended_well() { # the script, or what it says is told
    local status=0
    patience=$((3 * ${patience:-10})) wait_for gone "$script"
    wait "$script" || status=$?
    ((status == 0)) || fail "the server: $(tail -n 1 "$tmp/server")"
}

# start_client ARGUMENT...: yours, in the background; what it says goes to
# $tmp/client
start_client() {
    "$build/multiconn-client" "$@" >"$tmp/client" 2>&1 </dev/null 3>&- &
    client=$!
    started+=("$client")
}

@test "three connections are begun before any is answered" {
    start_script <<'PYTHON'
clients = []
for number in range(3):
    try:
        clients.append(accept())
    except TimeoutError:
        sys.exit(f"{number} of 3 connections came, and no more while they wait for their answers")
for client in clients:
    if client.recv(5, socket.MSG_WAITALL) != b"Hello":
        sys.exit("Hello did not come")
for client in clients:
    finish(client)
PYTHON
    start_client 127.0.0.1 "$script_port" 3 Hello
    ended_well
    ended "$client" 0
    run grep -c '^Closing connection [123]$' "$tmp/client"
    assert_output 3
}

@test "no connect is waited for" {
    full_listener
    start_client -t 30 127.0.0.1 "$full_port" 3
    run wait_for three_or_gone
    run half_open
    ((output == 3)) || fail "$output of 3 connections are under way at a time"
}
half_open() { ss -tnH state syn-sent "dport = :$full_port" | wc -l; }
three_or_gone() { gone "$client" || (($(half_open) == 3)); }

@test "a connection that failed is closed at once, while others go on" {
    start_script <<'PYTHON'
first, second = accept(), accept()
for client in first, second:
    client.recv(5, socket.MSG_WAITALL)
first.sendall(b"nonsense")
try:
    if first.recv(10) != b"":
        sys.exit("more came than Hello")
except ConnectionError:
    pass
except TimeoutError:
    sys.exit("the connection that failed is still there")
finish(second)
PYTHON
    start_client -t 30 127.0.0.1 "$script_port" 2 Hello
    ended_well
    ended "$client" 1
    run grep 'not what was sent\|more than was sent' "$tmp/client"
    assert_output --regexp "^multiconn-client: connection [12] to 127.0.0.1:$script_port: [a-z ]* sent, got 0 of 5 bytes\$"
}

@test "each lie of a server ends its own connection, and no other" {
    start_script <<'PYTHON'
import struct
clients = [accept() for _ in range(5)]
for client in clients:
    client.recv(5, socket.MSG_WAITALL)
clients[0].sendall(b"HellO")
clients[1].sendall(b"Hello!")
clients[2].sendall(b"Hel")
clients[2].close()
clients[3].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
clients[3].close()
for client in clients[:2]:
    try:
        client.recv(10)
    except TimeoutError:
        sys.exit("a connection that failed is still there")
    except ConnectionError:
        pass
finish(clients[4])
PYTHON
    start_client -q 127.0.0.1 "$script_port" 5 Hello
    ended_well
    ended "$client" 1
    run sed 's/.*connection [1-5] to [0-9.:]*: //; s/^multiconn-client: //' "$tmp/client"
    run sort <<<"$output"
    assert_output "4 of 5 connections failed
Connection reset by peer, got 0 of 5 bytes
connection closed early, got 3 of 5 bytes
more than was sent, got 0 of 5 bytes
not what was sent, got 0 of 5 bytes"
}

@test "the next address is for who was not connected, and not for who was lied to" {
    start_script 127.0.0.2 <<'PYTHON'
client = accept()
client.recv(5, socket.MSG_WAITALL)
client.sendall(b"HellO")
client.recv(10)
PYTHON
    # The name has two addresses; at the second, nobody listens.
    run timeout "${limit:-10}" env "LD_PRELOAD=$build/shim.so" "$build/multiconn-client" -q two.example "$script_port" 1 Hello
    assert_output "multiconn-client: connection 1 to 127.0.0.2:$script_port: not what was sent, got 0 of 5 bytes
multiconn-client: 1 of 1 connections failed"
}
