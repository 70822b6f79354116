# Exercise 2.4: the server of 2.2, where select() cannot follow: its descriptors
# are above 1,100.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup() {
    common_setup
    local most
    most=$(ulimit -Hn)
    [[ $most == unlimited ]] || ((most >= 4096)) || skip "this user may open only $most descriptors"
}
teardown() { common_teardown; }

# start_above [VARIABLE...] [-- ARGUMENT...]: the server, to which 1,100 open
# descriptors are handed down
start_above() {
    server_env=(prlimit --nofile=4096 python3 -c 'import os, sys
null = os.open("/dev/null", os.O_RDONLY)
for fd in range(null + 1, 1100):
    os.dup2(null, fd)
os.execvp("env", ["env", *sys.argv[1:]])')
    while (($# > 0)) && [[ $1 != -- ]]; do
        server_env+=("$1")
        shift
    done
    start_server multiconn-server "${@:2}" 127.0.0.1 0
}

# crowd N WAY: clients that compare what comes back: see crowd.py
crowd() {
    run timeout 15 python3 tests/helpers/crowd.py 127.0.0.1 "$port" "$@"
    ((status != 124)) || fail "the clients had not finished after 15 s"
    ((status == 0)) || fail "$output"
}

# start_crowd N WAY: in the background, until all are served or refused; what
# they say is put into $tmp/crowd
start_crowd() {
    : >"$tmp/crowd"
    python3 tests/helpers/crowd.py 127.0.0.1 "$port" "$@" >"$tmp/crowd" 2>&1 3>&- &
    crowd=$!
    started+=("$crowd")
    patience=$((4 * ${patience:-10})) wait_for says_or_gone # a large one takes its time
    run cat "$tmp/crowd"
}
says_or_gone() { [[ -s $tmp/crowd ]] || gone "$crowd"; }

# end_crowd: all are served once more, or get what waits for them
end_crowd() {
    kill "$crowd"
    local status=0
    patience=$((4 * ${patience:-10})) wait_for gone "$crowd"
    wait "$crowd" || status=$?
    ((status == 0)) || fail "$(cat "$tmp/crowd")"
}

was_told() { # PATTERN: this is all that is on standard error
    run sed 's/:[0-9]*: /:PORT: /' "$tmp/err"
    assert_output "$1"
}

sleeps() { # the server, for half a second
    local before used
    before=$(ticks "$server")
    sleep 0.5
    used=$(($(ticks "$server") - before))
    ((used <= 3)) || fail "in 0.5 s in which nobody spoke, the server used ${used}0 ms of processor time"
}

@test "1,100 clients at a time are all served" {
    server_env=(prlimit --nofile=4096)
    start_server multiconn-server -q 127.0.0.1 0
    start_crowd 1100 hold
    assert_output '1100 served, 0 refused'
    end_crowd
    was_told ''
}

@test "a client with a descriptor above 1,100 gets its bytes back" {
    start_above
    serves
    was_told ''
}

@test "1 MB comes back to each of ten who half-close before they read" {
    start_above -- -q
    crowd 10 late
    was_told ''
}

@test "ten who never read keep nobody waiting, and lose nothing" {
    start_above -- -q
    start_crowd 10 deaf
    assert_output '10 served, 0 refused'
    serves
    end_crowd
    was_told ''
}

@test "50 clients that say nothing, and one that does not read, cost no processor time" {
    start_above -- -q
    start_crowd 50 hold
    assert_output '50 served, 0 refused'
    start_crowd 1 deaf
    assert_output '1 served, 0 refused'
    sleeps
    serves
}

@test "clients that come and go, many at a time, get their own bytes" {
    start_above -- -q
    crowd 30 churn
    crowd 100 talk
    was_told ''
}

@test "resets cost a line each, and no processor time" {
    start_above
    for _ in 1 2 3; do
        peer connect 127.0.0.1 "$port" send x expect x reset
    done
    wait_for lines_of_err 3
    start_crowd 3 deaf
    disown "$crowd"
    kill -KILL "$crowd" # which resets what it has not read
    wait_for lines_of_err 6
    sleeps
    serves
    run grep -vE ': (Connection reset by peer|Broken pipe)$' "$tmp/err"
    assert_output ''
}
lines_of_err() { (($(wc -l <"$tmp/err") >= $1)); }

@test "who says nothing is closed after -t, and who does not read, too" {
    start_above -- -q -t 0.5
    start_peer silent connect 127.0.0.1 "$port" hold
    start_peer deaf connect 127.0.0.1 "$port" zeros 20000000
    wait_for lines_of_err 2
    serves
    was_told 'multiconn-server: connection from 127.0.0.1:PORT: Connection timed out
multiconn-server: connection from 127.0.0.1:PORT: Connection timed out'
}

@test "without descriptors it says so once, does not spin, and goes on when there are some again" {
    start_above -- -q
    start_crowd 10 hold
    assert_output '10 served, 0 refused'
    prlimit --pid "$server" --nofile="$(($(highest) + 1))":
    start_peer waiting connect 127.0.0.1 "$port" send x expect x say served hold
    complained 'accept: Too many open files'
    sleeps
    was_told 'multiconn-server: accept: Too many open files'
    end_crowd
    wait_for grep -q served "$tmp/waiting"
}
highest() { find "/proc/$server/fd" -mindepth 1 -printf '%f\n' | sort -n | tail -n 1; }

@test "a kernel that gives and takes a few bytes at a time, and is interrupted, changes nothing" {
    for limits in SHIM_RECEIVE=50 SHIM_SEND=30 SHIM_EINTR=3; do
        start_above "LD_PRELOAD=$build/shim.so" "$limits" -- -q
        crowd 10 talk
        was_told ''
    done
}

@test "a signal stops it at once" {
    local fastest=100000 began took
    for _ in 1 2 3 4 5; do # since a busy machine may be slow, too
        start_above -- -q
        serves
        began=${EPOCHREALTIME/./}
        stop_server TERM
        took=$(((${EPOCHREALTIME/./} - began) / 1000))
        ((took > fastest)) || fastest=$took
        ((fastest > 700)) || break
    done
    ((fastest <= 700)) || fail "it ended $fastest ms after SIGTERM, and never sooner"
}

@test "SIGINT and SIGTERM stop it: idle, in mid-echo, and right before it waits" {
    for signal in INT TERM; do
        start_above -- -q
        start_peer deaf connect 127.0.0.1 "$port" zeros 20000000
        serves
        stop_server $signal
    done
    for wait in 1 2; do
        start_above "LD_PRELOAD=$build/shim.so" "SHIM_TERM=$wait" -- -q
        ((wait == 1)) || peer connect 127.0.0.1 "$port" send x half-close end || true
        ended "$server" 0
    done
}
