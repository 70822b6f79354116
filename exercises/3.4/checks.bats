# Exercise 3.4: a client from the specification, in any language. The servers
# are those of servers.py; the last two are the stage's, and one in Python.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

# Some installations have a slow script before the real python3.
setup_file() {
    python3=$(python3 -c 'import sys; print(sys.executable)')
    export python3
}
setup() { common_setup; }
teardown() { common_teardown; }

# scene NAME: one of servers.py, which says what is wrong
scene() {
    run timeout 40 "$python3" exercises/3.4/servers.py "$build/app-client" "$1" 3>&-
    assert_output ''
}

ask() {
    run --separate-stderr timeout "${limit:-10}" "$build/app-client" "$@" 3>&-
}

@test "a request begins with the length of its header, big end first" { scene length; }
@test "a header has its four keys, in their order" { scene keys; }
@test "content-length counts bytes, and so many follow" { scene bytes-counted; }
@test "values arrive as they were given" { scene values; }
@test "numbers arrive in the order that byteorder says" { scene numbers; }
@test "a result is printed" { scene results; }
@test "a response ends where its lengths say, and not with the connection" { scene held; }
@test "a sum is printed, whichever end comes first" { scene sums; }
@test "a response that comes in pieces is put together" { scene pieces; }
@test "a response that is odd and legal is understood" { scene odd; }
@test "the largest header and the longest result are understood" { scene large; }
@test "an error reply is told, and nothing is printed" { scene errors; }
@test "a response that ends too early is none" { scene truncated; }
@test "a response that a reset cuts off is none" { scene cut-off; }
@test "content that is announced too long is refused before it comes" { scene oversized; }
@test "a header that breaks a rule is refused" { scene headers; }
@test "content that breaks a rule is refused" { scene contents; }
@test "a silent server is given up after -t" { scene silent; }
@test "a response that dribbles is given up after -t" { scene dribbled; }
@test "a server that never reads is given up after -t" { scene unread; }
@test "an error that comes while the request is still sent is told" { scene early; }
@test "words that are no request are refused, with status 2" { scene no-request; }

@test "a server that is not there, and one that does not answer" {
    local closed
    closed=$(python3 -c 'import socket
s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    ask 127.0.0.1 "$closed" search ring
    assert_equal "status $status, output '$output'" "status 1, output ''"
    [[ -n $stderr ]] || fail "nothing on standard error"
    full_listener
    ask -t 0.5 127.0.0.1 "$full_port" search ring
    assert_equal "status $status, output '$output'" "status 1, output ''"
}

# answered PORT: by a server that knows all of the specification
answered() {
    ask 127.0.0.1 "$1" search ring
    assert_output 'Got result: In the caves beneath the Misty Mountains. 💍'
    ask 127.0.0.1 "$1" search 🐶
    assert_output 'Got result: 🐾 Playing ball! 🏐'
    ask 127.0.0.1 "$1" search "a 'b'"
    assert_output "Got result: No match for 'a 'b''."
    ask 127.0.0.1 "$1" sum 1 2 4294967295
    assert_output 'Got sum: 4294967298'
    ask 127.0.0.1 "$1" sum
    assert_output 'Got sum: 0'
    ask 127.0.0.1 "$1" search "$(printf '%0131072d' 0 | head -c 131060)"
    assert_equal "status $status, output '$output'" "status 1, output ''"
    [[ $stderr == *content-length* ]] || fail "it said: $stderr"
}

@test "the servers of this stage have answers, and are understood" {
    start_server app-server -q 127.0.0.1 0
    answered "$port"
    "$python3" tests/helpers/protocol.py serve 0 >"$tmp/python" 3>&- &
    started+=("$!")
    wait_for grep -q '^Listening' "$tmp/python"
    answered "$(sed -n '1s/.*://p' "$tmp/python")"
}
