# Exercise 1.4: a deadline for the whole conversation.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# start_dribbler: a server that sends a byte every 50 ms, for ever; its port is
# put into peer_port
start_dribbler() {
    : >"$tmp/dribbler"
    python3 - >"$tmp/dribbler" 3>&- <<'PYTHON' &
import socket, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
client = listener.accept()[0]
while True:
    client.send(b"x")
    time.sleep(0.05)
PYTHON
    started+=("$!")
    wait_for grep -q '^[0-9]' "$tmp/dribbler"
    peer_port=$(cat "$tmp/dribbler")
}

# given_up MESSAGE CLIENT-ARGUMENT...: after about a second, with this message
given_up() {
    local began=${EPOCHREALTIME/./} took
    run client "${@:2}"
    took=$(((${EPOCHREALTIME/./} - began) / 1000))
    ((status != 137)) || fail "the client was still waiting after ${limit:-20} s"
    assert_failure 1
    assert_output --regexp "^echo-client: $1\$"
    ((took >= 900)) || fail "given up after $took ms, which is before the deadline"
    ((took <= 2500)) || fail "given up after $took ms only"
}

@test "a server that dribbles for ever is given up after -T" {
    start_dribbler
    given_up "receive from 127.0.0.1:$peer_port: Connection timed out, got [1-9][0-9]* of 1000 bytes" \
        -t 30 -T 1 127.0.0.1 "$peer_port" "$(printf '%01000d' 0 | tr 0 x)"
}

@test "a server that says nothing is given up after -T, where that comes before -t" {
    start_peer silent listen 127.0.0.1 0 receive 12 hold
    given_up "receive from 127.0.0.1:$peer_port: Connection timed out, got 0 of 12 bytes" \
        -t 30 -T 1 127.0.0.1 "$peer_port"
}

@test "a connection that nobody answers is given up after -T" {
    full_listener
    given_up "connect to 127.0.0.1:$full_port: Connection timed out" \
        -t 30 -T 1 127.0.0.1 "$full_port"
}

@test "where -t comes before -T, it still counts" {
    start_peer silent listen 127.0.0.1 0 receive 12 hold
    given_up "receive from 127.0.0.1:$peer_port: Connection timed out, got 0 of 12 bytes" \
        -t 1 -T 30 127.0.0.1 "$peer_port"
}

@test "an echo that is in time comes back whole" {
    start_server echo-server 127.0.0.1 0
    run client -T 5 127.0.0.1 "$port"
    assert_output "Received 'Hello, world'"
    assert_success
    random_file "$tmp/in" 300000
    client -T 30 127.0.0.1 "$port" - <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
}

@test "-h tells of -T, and a -T that is no number is bad usage" {
    run client -h
    assert_output --partial ' -T'
    for time in 0 -1 x ''; do
        run client -T "$time" 127.0.0.1 1
        assert_failure 2
    done
}
