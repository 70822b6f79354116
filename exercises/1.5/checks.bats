# Exercise 1.5: a process for each client.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016,SC2009

load ../../tests/helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# start_crowd NUMBER [HOW]: so many clients at a time, of whom the last to come
# is served first; then the end of all of them, or reset, or hold
start_crowd() {
    : >"$tmp/crowd"
    python3 - "$port" "$@" >"$tmp/crowd" 2>&1 3>&- <<'PYTHON' &
import socket, struct, sys, time
port, number, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
clients = [socket.create_connection(("127.0.0.1", port), timeout=3)
           for _ in range(number)]
try:
    for at, client in reversed(list(enumerate(clients))):
        client.sendall(b"%d" % at)
        if client.recv(10) != b"%d" % at:
            sys.exit("a client got something else, or the end")
except TimeoutError:
    sys.exit(f"{number} clients at a time: the {at + 1}th waits in vain while "
             "others are connected")
if how == ["reset"]:
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
for client in clients if how != ["hold"] else []:
    client.close()
print("served", flush=True)
time.sleep(20 if how == ["hold"] else 0)
PYTHON
    crowd=$!
    started+=("$crowd")
    wait_for served_or_not
    run cat "$tmp/crowd"
    assert_output served
}
served_or_not() { [[ -s $tmp/crowd ]]; }
has_children() { ps -o stat= --ppid "$server" | grep -q .; }
none_runs() { ! ps -o stat= --ppid "$server" | grep -q '^[^Z]'; }
no_children() { ! has_children; }

@test "a busy client is served beside a silent one" {
    start_server echo-server 127.0.0.1 0
    start_peer silent connect 127.0.0.1 "$port" say connected hold
    wait_for grep -q connected "$tmp/silent"
    random_file "$tmp/in" 300000
    client -t 3 127.0.0.1 "$port" - <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
}

@test "20 clients at a time leave one banner in a log" {
    start_server echo-server 127.0.0.1 0
    start_crowd 20
    wait_for none_runs # what it had in a buffer has been written
    assert_equal "$(grep -c '^Listening on ' "$tmp/out") banner" "1 banner"
    assert_equal "$(cat "$tmp/err")" ""
}

@test "children that have ended are no zombies" {
    start_server echo-server 127.0.0.1 0
    start_crowd 5 hold
    wait_for has_children
    kill "$crowd"
    wait_for no_children
    start_crowd 5
    wait_for no_children
}

@test "the server keeps no client's descriptor, and each client sees the end" {
    start_server echo-server -t 1 127.0.0.1 0
    start_crowd 3
    local before
    before=$(descriptors "$server")
    start_crowd 10 hold
    assert_equal "$(descriptors "$server") descriptors" "$before descriptors"
    # Its time-out closes a connection: who else holds it, holds up the end.
    peer connect 127.0.0.1 "$port" send x expect x end
}

@test "clients that reset end nobody else" {
    start_server echo-server 127.0.0.1 0
    start_crowd 10 reset
    serves
    start_crowd 3
}

@test "the server stops at once, and its port is free, while clients are served" {
    own_port=$(python3 -c 'import socket
s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    start_server echo-server 127.0.0.1 "$own_port"
    start_crowd 3 hold
    stop_server
    start_server echo-server 127.0.0.1 "$own_port"
    start_crowd 3
}
