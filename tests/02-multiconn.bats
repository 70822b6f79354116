# Stage 2: many connections at a time. multiconn-server and c10k-server keep
# the same promises, so most tests run against both, and against each back end
# of c10k-server.
#
# SERVERS says which servers of $BUILD are tested, with a semicolon between
# them (default: all that this stage has).

# Each test is a subshell, and the helpers set variables for it.
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load helpers/common

IFS=';' read -ra servers <<<"${SERVERS:-multiconn-server;c10k-server -b select;c10k-server -b poll;c10k-server -b epoll}"

setup() { common_setup; }
teardown() {
    [[ -n $BATS_TEST_COMPLETED ]] || echo "The server was: ${server_under_test:-none of \$SERVERS}"
    common_teardown
}

# --- The command line --------------------------------------------------------

@test "-h and --help print the usage on standard output" {
    for program in discard-server multiconn-server multiconn-client c10k-server c10k-client; do
        for option in -h --help; do
            run --separate-stderr "$build/$program" $option
            assert_success
            assert_output --partial "Usage: $program [OPTIONS]"
            assert_equal "$stderr" ""
        done
        run timeout 5 bash -c '"$1" -h >/dev/full' - "$build/$program"
        assert_failure 1
        assert_output "$program: standard output: No space left on device"
    done
}

@test "bad usage is one line that says what is wrong, the usage, and status 2" {
    bad() { # PART-OF-THE-MESSAGE PROGRAM ARGUMENT...
        run --separate-stderr timeout 5 "$build/$2" "${@:3}"
        assert_equal "$status: $*" "2: $*"
        assert_output ""
        assert_equal "${stderr_lines[0]%%:*}" "$2"
        [[ ${stderr_lines[0]} == *"$1"* ]] || fail "$*: ${stderr_lines[0]}"
        assert_equal "${stderr_lines[1]%% \[*}" "Usage: $2"
    }
    for program in multiconn-client c10k-client; do
        bad 'too few arguments' $program
        bad 'too few arguments' $program 127.0.0.1
        bad 'too few arguments' $program 127.0.0.1 1
        for count in 0 1x '' -1 1000001 ' 1' 99999999999999999999; do
            bad 'must be a number from 1 to 1000000' $program -- 127.0.0.1 1 "$count"
        done
        bad "'0'" $program 127.0.0.1 0 1
        bad 'time-out' $program -t 0 127.0.0.1 1 1
    done
    bad 'one too many' c10k-client 127.0.0.1 1 1 1
    for option in --rounds --size; do
        for value in 0 -1 1x '' 1073741825000; do
            bad 'must be a number from 1' c10k-client $option "$value" 127.0.0.1 1 1
        done
    done
    bad '1073741824' c10k-client --size 1073741825 127.0.0.1 1 1
    bad 'must be a number from 0' c10k-client --idle -1 127.0.0.1 1 1
    for program in c10k-server c10k-client; do
        bad 'must be epoll or poll or select' $program -b kqueue 127.0.0.1 1 1
        bad 'needs a value' $program -b
    done
    for program in discard-server multiconn-server c10k-server; do
        bad 'one too many' $program 127.0.0.1 0 x
        bad 'number from 0' $program 127.0.0.1 65536
        bad "'-x'" $program -x
    done
    bad "'-t'" discard-server -t 1
    bad "'-b'" multiconn-server -b poll
}

@test "a host that does not resolve is an error in words" {
    for program in discard-server multiconn-server c10k-server "multiconn-client" "c10k-client"; do
        run --separate-stderr timeout 20 "$build/$program" no.such.host.invalid 4321 1
        [[ $program == *-client ]] || run --separate-stderr timeout 20 "$build/$program" no.such.host.invalid 4321
        assert_failure 1
        assert_output ""
        [[ $stderr == "$program: resolve no.such.host.invalid: "?* ]] || fail "$stderr"
    done
}

@test "without arguments a server serves 127.0.0.1 port 65432" {
    own_network
    for server_under_test in "${servers[@]}" discard-server; do
        read -ra words <<<"$server_under_test"
        start_server "${words[@]}"
        assert_equal "$(cat "$tmp/out")" 'Listening on 127.0.0.1:65432'
        [[ $server_under_test == discard-server ]] || serves
        stop_server
    done
}

@test "a second server on a busy port says so and ends with status 1" {
    for server_under_test in "${servers[@]}" discard-server; do
        start -q
        run timeout 5 "$build/${words[0]}" 127.0.0.1 "$port"
        assert_failure 1
        assert_output "${words[0]}: listen on 127.0.0.1:$port: Address already in use"
        stop_server
    done
}

@test "IPv6 works, and its addresses are written in brackets" {
    own_network
    "${net[@]}" cat /proc/net/if_inet6 | grep -q . || skip "no IPv6 here"
    for server_under_test in "${servers[@]}"; do
        read -ra words <<<"$server_under_test"
        start_server "${words[@]}" ::1 0
        serves
        said 'Accepted connection from [::1]:'
        run ours multiconn-client ::1 "$port" 2
        assert_success
        assert_line "Starting connection 1 to [::1]:$port"
        stop_server
    done
}

# --- Conversations -----------------------------------------------------------

@test "a server narrates, and -q leaves only where it listens" {
    for server_under_test in "${servers[@]}"; do
        start
        peer connect 127.0.0.1 "$port" send Hello expect Hello close
        said 'Closing connection to'
        stop_server
        assert_equal "$(sed 's/:[0-9]*$/:PORT/' "$tmp/out")" "Listening on 127.0.0.1:PORT
Accepted connection from 127.0.0.1:PORT
Echoing 'Hello' to 127.0.0.1:PORT
Closing connection to 127.0.0.1:PORT"
        assert_equal "$(sed -n 's/.* //p' "$tmp/out" | sort -u | wc -l)" 2
        assert_equal "$(cat "$tmp/err")" ""

        start -q
        serves
        stop_server
        assert_equal "$(cat "$tmp/out")" "Listening on 127.0.0.1:$port"
    done
}

@test "what a peer sends reaches the terminal as printable text only" {
    for server_under_test in "${servers[@]}" discard-server; do
        start
        start_peer hostile connect 127.0.0.1 "$port" \
            send '\x1b[2J\x00\xc2\x9b\r\n%n\xf0\x9f\x90\xb6'\' hold
        said "'\\x1b[2J\\x00\\xc2\\x9b\\r\\n%n🐶\\'' "
        stop_server
    done
}

@test "1, 100 and 1,000 clients that send what and when they like get their bytes back" {
    for server_under_test in "${servers[@]}"; do
        start -q
        for count in 1 100 1000; do
            crowd $count talk
        done
        stops_without_a_word
    done
}

@test "what one receive does not take is not forgotten" {
    for server_under_test in "${servers[@]}"; do
        start -q
        kill -STOP "$server"
        wait_for stopped "$server"
        # All of it is there before the server looks for the first time.
        start_peer large connect 127.0.0.1 "$port" random 60000 say sent receive 60000 say back
        wait_for grep -q sent "$tmp/large"
        kill -CONT "$server"
        wait_for grep -q back "$tmp/large"
        stop_server
    done
}

@test "all 256 values, and zeros, come back by socat and nc" {
    python3 -c 'import sys
sys.stdout.buffer.write(bytes(range(256)) * 100 + bytes(5000) + b"end")' >"$tmp/in"
    for server_under_test in "${servers[@]}"; do
        start -q
        timeout 10 socat -t 10 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/back"
        cmp "$tmp/in" "$tmp/back"
        timeout 10 nc -N 127.0.0.1 "$port" <"$tmp/in" >"$tmp/back"
        cmp "$tmp/in" "$tmp/back"
        stops_without_a_word
    done
}

@test "the textbook's client gets its two messages back on 1, 100 and 500 connections" {
    for server_under_test in "${servers[@]}"; do
        start -q
        for count in 1 100 500; do
            run timeout 20 python3 tests/helpers/textbook.py client 127.0.0.1 "$port" $count
            assert_success
            assert_output "$count connections got their bytes back"
        done
        stops_without_a_word
    done
}

@test "our clients work with the textbook's server" {
    start_textbook_server
    run ours multiconn-client -q 127.0.0.1 "$textbook_port" 100
    assert_success
    assert_output ""
    for backend in select poll epoll; do
        run ours c10k-client -q -b $backend --idle 5 --size 10000 127.0.0.1 "$textbook_port" 20
        assert_success
    done
}

@test "a client that sends 1 MB and half-closes before it reads gets all of it, then the end" {
    for server_under_test in "${servers[@]}"; do
        start -q
        crowd 10 late
        random_file "$tmp/in" 1000000
        timeout 20 socat -t 20 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/back"
        cmp "$tmp/in" "$tmp/back"
        stops_without_a_word
    done
}

@test "what waits to be sent when a client half-closes is sent" {
    for server_under_test in "${servers[@]}"; do
        server_env=("LD_PRELOAD=$build/shim.so" SHIM_SEND=100)
        start -q
        kill -STOP "$server"
        wait_for stopped "$server"
        # The end has come before the server begins to answer.
        start_peer brief connect 127.0.0.1 "$port" random 20000 half-close say sent receive 20000 end
        wait_for grep -q sent "$tmp/brief"
        kill -CONT "$server"
        wait_for gone "$peer"
        ! grep -q 'peer: ' "$tmp/brief" || ! peer connect "$host" "$port" random 20000 receive 20000 ||
            echo "evidence: who does not half-close gets all"
        ended "$peer" 0
        stop_server
    done
}

@test "100 MB come back whole, in constant memory" {
    random_file "$tmp/in" 100000000
    for server_under_test in "${servers[@]}"; do
        start -q
        timeout 40 socat -b 65536 -t 20 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/back"
        cmp "$tmp/in" "$tmp/back"
        local peak
        peak=$(awk '/^VmHWM/ { print $2 }' "/proc/$server/status")
        ((peak < 50000)) || fail "the server used $peak kB"
        stops_without_a_word
    done
}

# --- What the kernel may do --------------------------------------------------

@test "a kernel that gives and takes a few bytes at a time changes nothing" {
    for server_under_test in "${servers[@]}"; do
        for limits in "SHIM_RECEIVE=1" "SHIM_SEND=1" "SHIM_RECEIVE=5000 SHIM_SEND=333"; do
            read -ra limits <<<"LD_PRELOAD=$build/shim.so $limits"
            server_env=("${limits[@]}")
            start -q
            # So few that what comes back tells what is wrong.
            run peer connect 127.0.0.1 "$port" send abcdefgh expect abcdefgh
            assert_output ''
            crowd 10 talk
            stops_without_a_word
        done
    done
}

@test "calls that a signal interrupts are made again" {
    server_env=("LD_PRELOAD=$build/shim.so" SHIM_EINTR=3)
    for server_under_test in "${servers[@]}"; do
        start -q
        crowd 30 talk
        crowd 3 late
        # The shim does not spare a write to a self-pipe, as the kernel would.
        kill "$server"
        kill -INT "$server" 2>/dev/null || true
        ended "$server" 0
        assert_equal "$(cat "$tmp/err")" ""
    done
}

@test "the smallest kernel buffers: real short sends in both directions, and nothing is lost" {
    own_network
    "${net[@]}" sh -c 'echo 4096 4096 4096 >/proc/sys/net/ipv4/tcp_rmem &&
        echo 4096 4096 4096 >/proc/sys/net/ipv4/tcp_wmem' ||
        skip "this user may not set the buffers of a network namespace"
    random_file "$tmp/in" 300000
    for server_under_test in "${servers[@]}"; do
        start -q -t 10
        timeout 20 "${net[@]}" socat -b 1000 -t 20 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/back"
        cmp "$tmp/in" "$tmp/back"
        crowd 20 talk
        run ours multiconn-client -q -t 10 127.0.0.1 "$port" 10 "$(printf '%0100000d' 0)" "$(printf '%0100000d' 1)"
        assert_success
        stops_without_a_word
        start -q -t 10
        run ours c10k-client -q -t 10 --size 200000 --rounds 2 127.0.0.1 "$port" 10
        assert_success
        stops_without_a_word
    done
}

@test "each error of accept that passes is survived" {
    needs_strace
    for server_under_test in "${servers[@]}" discard-server; do
        for error in EAGAIN ECONNABORTED ENFILE; do
            server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o /dev/null -e "trace=accept,accept4"
            -e "inject=accept,accept4:error=$error:when=1..2")
            start
            peer connect 127.0.0.1 "$port" send hello half-close end
            said "'hello'"
            stop_server
            # What befell a client while it waited is no lack of the server's.
            [[ $error == ENFILE ]] || assert_equal "$(cat "$tmp/err")" ""
        done
    done
}

@test "a client that is gone before accept() keeps nobody waiting" {
    for server_under_test in "${servers[@]}"; do
        server_env=("LD_PRELOAD=$build/shim.so" SHIM_TAKEN=2)
        start -q
        run timeout 20 python3 - "$port" <<'PYTHON'
import socket, sys

def connect():
    return socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)

first = connect()
first.sendall(b"one")
assert first.recv(3) == b"one"
second = connect()
assert second.recv(1) == b"", "was not taken"
first.sendall(b"two")
assert first.recv(3) == b"two"
PYTHON
        assert_success
        stop_server
    done
}

@test "a wait that a signal interrupts goes on, and one that cannot work ends the program" {
    needs_strace
    for server_under_test in "${servers[@]}" discard-server; do
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o /dev/null -e "trace=$waits"
            -e "inject=$waits:error=EINTR:when=1..6")
        start
        peer connect 127.0.0.1 "$port" send hello half-close end
        said "'hello'"
        stops_without_a_word
        server_env[-1]="inject=$waits:error=EBADF:when=3"
        start -q
        peer connect 127.0.0.1 "$port" send hello half-close end || true
        ended "$server" 1
        run cat "$tmp/err"
        assert_output --regexp "^${words[0]}: [a-z]+: Bad file descriptor\$"
    done
}

@test "without descriptors a server says so once, does not spin, and goes on when there are some again" {
    for server_under_test in "${servers[@]}"; do
        server_env=(prlimit --nofile=20)
        start -q
        start_crowd first 10 hold
        crowd_says "10 served"
        local first=$crowd
        start_crowd second 10 hold
        complained "${words[0]}: accept: Too many open files"
        local before
        before=$(ticks "$server")
        sleep 0.5
        (($(ticks "$server") - before <= 3)) || fail "the server is busy waiting"
        assert_equal "$(grep -c . "$tmp/err")" 1
        # Connections of its own close.
        kill "$first"
        ended "$first" 0
        crowd_says "10 served"
        kill "$crowd"
        ended "$crowd" 0
        stop_server
    done
}

@test "without descriptors a server recovers although no connection of its own closes" {
    for server_under_test in "${servers[@]}"; do
        start -q
        start_crowd held 10 hold
        crowd_says "10 served"
        # Fewer than it has; for fewer than it watches, poll() would fail.
        prlimit --pid "$server" --nofile=14:
        start_peer waiting connect 127.0.0.1 "$port" send x expect x say served hold
        complained "${words[0]}: accept: Too many open files"
        prlimit --pid "$server" --nofile=100:
        wait_for grep -q served "$tmp/waiting"
        # And when it happens again, it is said again.
        prlimit --pid "$server" --nofile=14:
        start_peer again connect 127.0.0.1 "$port" send x hold
        wait_for lines_of_err 2
        kill "$crowd"
        ended "$crowd" 0
        stop_server
    done
}

@test "without memory a connection is dropped, and the others go on" {
    for server_under_test in "${servers[@]}"; do
        ! sanitized "${server_under_test%% *}" || skip "a sanitizer needs memory without a limit"
        start -q
        start_crowd held 10 hold
        crowd_says "10 served"
        local data
        data=$(awk '/^VmData/ { print $2 * 1024 }' "/proc/$server/status")
        prlimit --pid "$server" --data="$((data + 100000)):"
        local held=$crowd
        start_crowd deaf 40 deaf
        complained ': Cannot allocate memory'
        crowd_says refused
        run grep -vE "^${words[0]}: connection from 127.0.0.1:[0-9]+: (.*: )?Cannot allocate memory" "$tmp/err"
        assert_output ""
        kill "$held"
        ended "$held" 0
        stop_server
    done
}

@test "every system call of the programs fails once: no crash, no hang, no wrong bytes" {
    needs_strace
    run timeout 120 python3 tests/helpers/torture.py "$build" "${servers[@]}" \
        "multiconn-client @ 2" "c10k-client --idle 1 @ 2"
    assert_success
    [[ $output =~ ([0-9]+)\ calls ]]
    ((BASH_REMATCH[1] > 100)) || fail "too few calls were tried: $output"
}

@test "a server stopped and continued in mid-stream loses nothing, and signals without a meaning do no harm" {
    random_file "$tmp/in" 3000000
    for server_under_test in "${servers[@]}"; do
        start -q
        : >"$tmp/back"
        timeout 20 socat -t 20 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/back" 3>&- &
        local transfer=$!
        for share in 100000 1000000 2000000; do
            wait_for at_least $share "$tmp/back"
            kill -STOP "$server"
            wait_for stopped "$server"
            kill -CONT "$server"
            for signal in CHLD WINCH URG PIPE CONT; do
                kill -$signal "$server"
            done
        done
        wait $transfer
        cmp "$tmp/in" "$tmp/back"
        stops_without_a_word
    done
}

@test "no descriptor is inherited by programs that a later version may start" {
    for server_under_test in "${servers[@]}" discard-server; do
        start
        start_peer held connect 127.0.0.1 "$port" send x hold
        said "'x'"
        descriptors_close_on_exec "$server" 2
        stop_server
    done
    start_peer silent listen 127.0.0.1 0 receive 2 say heard hold
    for client_under_test in multiconn-client c10k-client; do
        start_peer silent listen 127.0.0.1 0 receive 2 say heard hold
        "$build/$client_under_test" 127.0.0.1 "$peer_port" 1 >/dev/null 2>&1 3>&- &
        started+=("$!")
        wait_for grep -q heard "$tmp/silent"
        descriptors_close_on_exec "$!" 1
    done
}

@test "a full disk on standard output is an error" {
    for server_under_test in "${servers[@]}" discard-server; do
        read -ra words <<<"$server_under_test"
        run timeout 5 bash -c '"$@" 127.0.0.1 0 >/dev/full' - "$build/${words[0]}" "${words[@]:1}"
        assert_failure 1
        assert_output "${words[0]}: standard output: No space left on device"
    done
    start_textbook_server
    for program in multiconn-client c10k-client "c10k-client -q"; do
        read -ra words <<<"$program"
        run timeout 10 bash -c '"$@" >/dev/full' - "$build/${words[0]}" "${words[@]:1}" 127.0.0.1 "$textbook_port" 2
        assert_failure 1
        assert_output "${words[0]}: standard output: No space left on device"
    done
}

@test "closed standard streams do no harm" {
    own_network
    for server_under_test in "${servers[@]}" discard-server; do
        read -ra words <<<"$server_under_test"
        "${net[@]}" "$build/${words[0]}" "${words[@]:1}" <&- >&- 2>&- 3>&- &
        local process=$!
        started+=("$process")
        wait_for listens 65432
        host=127.0.0.1 port=65432
        if [[ $server_under_test != discard-server ]]; then
            serves
            run "${net[@]}" bash -c '"$1"/multiconn-client 127.0.0.1 65432 3 >&- 2>&- <&-' - "$build"
            assert_success
            run "${net[@]}" bash -c '"$1"/c10k-client 127.0.0.1 65432 3 >&- 2>&- <&-' - "$build"
            assert_success
        fi
        kill "$process"
        ended "$process" 0
    done
}

# --- What a peer may do ------------------------------------------------------

@test "900 clients that dribble are served, and one that does not, too" {
    for server_under_test in "${servers[@]}"; do
        start -q
        start_crowd dribblers 900 dribble
        [[ -z ${EVIDENCE:-} ]] || fewer 900
        crowd_says "900 served"
        serves
        crowd 10 talk
        kill "$crowd"
        ended "$crowd" 0
        stops_without_a_word
    done
}

@test "clients that never read cost little memory, keep nobody waiting, and lose nothing" {
    for server_under_test in "${servers[@]}"; do
        start -q
        local before grown
        before=$(resident "$server")
        start_crowd deaf 50 deaf
        [[ -z ${EVIDENCE:-} ]] || grows
        crowd_says '50 served'
        serves
        crowd 10 talk
        grown=$(($(resident "$server") - before))
        ((grown < 2000)) || sanitized "${words[0]}" || fail "grew by $grown kB"
        # What waits in the kernel is bounded, too: each could take 4 MB.
        run ss -tmnH "sport = :$port"
        [[ $output =~ ,tb([0-9]+), ]]
        ((BASH_REMATCH[1] <= 262144)) || fail "a queue may hold ${BASH_REMATCH[1]} bytes"
        kill "$crowd"
        ended "$crowd" 0
        stops_without_a_word
    done
}

@test "clients that never read are closed after -t, and the next is served" {
    for server_under_test in "${servers[@]}"; do
        start -q -t 0.3
        for _ in 1 2 3; do
            start_peer deaf connect 127.0.0.1 "$port" zeros 20000000
        done
        wait_for lines_of_err 3
        assert_equal "$(sed 's/:[0-9]*: /:PORT: /' "$tmp/err" | sort -u)" \
            "${words[0]}: connection from 127.0.0.1:PORT: Connection timed out"
        serves
        stop_server
    done
}

@test "-t closes who says nothing, not too early, and not who says a little now and then" {
    for server_under_test in "${servers[@]}"; do
        # On a busy machine, a script may have no turn for a second.
        start_apart -q -t 1.5
        start_script <<'PYTHON'
import socket, sys, time
began = time.monotonic()
silent, busy = (socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
                for _ in range(2))
silent.settimeout(0.1)
closed = False
while time.monotonic() - began < 3.5:
    busy.sendall(b"x")
    assert busy.recv(1) == b"x"
    try:
        if closed:
            time.sleep(0.1)
        else:
            sys.exit(f"got {silent.recv(1)}")
    except TimeoutError:
        pass
    except ConnectionResetError:
        assert time.monotonic() - began > 1.48, "closed too early"
        closed = True
assert closed
PYTHON
    done
    for server_under_test in "${servers[@]}"; do
        ends_apart
        assert_equal "$(sed 's/:[0-9]*: /:PORT: /' "$tmp/err")" \
            "${words[0]}: connection from 127.0.0.1:PORT: Connection timed out"
    done
}

@test "a client that is given up while its answer waits is told so by a reset, not by an end" {
    needs_strace
    for server_under_test in "${servers[@]}"; do
        # No send() finds room, and so the answer waits until -t.
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o /dev/null -e trace=sendto
            -e inject=sendto:error=EAGAIN)
        start -q -t 0.3
        run timeout 20 python3 - "$port" <<'PYTHON'
import socket, sys
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
client.sendall(b"hello")
try:
    sys.exit(f"got {client.recv(100)}")
except ConnectionResetError:
    pass
PYTHON
        assert_success
        stop_server
    done
}

@test "a client that is given up while the kernel has its answer is told so by a reset, and nothing is kept for it" {
    for server_under_test in "${servers[@]}"; do
        start -q -t 0.3
        run timeout 20 python3 - "$port" <<'PYTHON'
import errno, select, socket, sys
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
client.connect(("127.0.0.1", int(sys.argv[1])))
# As much as one queue takes, so that no output waits in the server.
client.sendall(bytes(30000))
# What is not read leaves no room for a polite end: only a reset comes past it.
ended = select.poll()
ended.register(client, 0)
assert ended.poll(10000), "not ended"
error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
assert error == errno.ECONNRESET, error
PYTHON
        assert_success
        run ss -tnH state all "sport = :$port"
        refute_output --partial FIN-WAIT
        stop_server
    done
}

@test "-t does not close who reads slowly what he is sent" {
    for server_under_test in "${servers[@]}"; do
        start_apart -q -t 1.5
        start_script <<'PYTHON'
import socket, sys, threading, time
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
client.connect(("127.0.0.1", int(sys.argv[1])))
data = bytes(range(250)) * 4800
threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR))).start()
back = b""
began = time.monotonic()
while piece := client.recv(16384):
    back += piece
    if time.monotonic() - began < 4:
        time.sleep(0.05)
assert back == data, len(back)
assert time.monotonic() - began > 3, "too fast for this test"
PYTHON
    done
    for server_under_test in "${servers[@]}"; do
        ends_apart
        assert_equal "$(cat "$tmp/err")" ""
    done
}

@test "a connection is not served any more in the turn that ends it" {
    needs_strace
    for server_under_test in "${servers[@]}"; do
        # The third wait tells of "again", and it is late when it returns.
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o /dev/null -e trace="$waits"
            -e inject="$waits":delay_exit=1500000:when=3)
        start -t 1
        peer connect 127.0.0.1 "$port" send hello expect hello send again half-close end || true
        [[ -z ${EVIDENCE:-} ]] || ! gone "$server" || otherwise -t 0.3
        serves
        stop_server
        run grep -v 'Connection timed out' "$tmp/err"
        assert_output ""
    done
}

@test "a server asks no name server who its clients are" {
    for server_under_test in "${servers[@]}"; do
        # Whoever asks one waits three seconds for the answer.
        server_env=("LD_PRELOAD=$build/shim.so" SHIM_RESOLVER=3)
        start -q
        run ours multiconn-client -q -t 2 127.0.0.1 "$port" 5
        assert_success
        stop_server
    done
}

@test "a clock that is set does not matter" {
    # The shim sets it an hour ahead whenever somebody looks.
    for server_under_test in "${servers[@]}"; do
        server_env=("LD_PRELOAD=$build/shim.so")
        start -q -t 60
        start_peer held connect 127.0.0.1 "$port" send x expect x say one send x expect x say two hold
        serves
        wait_for grep -q two "$tmp/held"
        for client_under_test in multiconn-client c10k-client; do
            run timeout 20 env "LD_PRELOAD=$build/shim.so" "$build/$client_under_test" -q 127.0.0.1 "$port" 2
            assert_success
        done
        stops_without_a_word
    done
}

@test "a client that floods gets one receive a turn, and others are served" {
    needs_strace
    for server_under_test in "${servers[@]}" discard-server; do
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o "$tmp/trace"
 -e "trace=$waits,read,recvfrom,recvmsg")
        start -q
        timeout 20 socat -b 200000 '/dev/zero!!/dev/null' "TCP:127.0.0.1:$port" 3>&- &
        started+=("$!")
        wait_for at_least 30000 "$tmp/trace"
        [[ $server_under_test == discard-server ]] || serves
        stop_server
        run awk -F '[(,]' '
            /^(p?select|p?poll|epoll_)/ { delete heard; begun = 1; next }
            begun && /^[a-z]+\([0-9]/ && heard[$2]++ { again++ }
            /^recv/ { all++ }
            END { print (all > 100 && !again) ? "once" : again + 0 " of " all }' "$tmp/trace"
        assert_output once
        kill "${started[-1]}" 2>/dev/null || true
    done
}

@test "rude clients among 100 polite ones do not disturb them" {
    for server_under_test in "${servers[@]}"; do
        # A polite one, too, may have no turn for a second on a busy machine.
        start -q -t 2
        timeout 30 python3 tests/helpers/rude.py 127.0.0.1 "$port" 7 3>&- &
        local rude=$!
        start_peer flood connect 127.0.0.1 "$port" zeros 20000000
        until gone $rude; do # by itself, or ended by force, which is a failure
            crowd 100 talk
        done
        ended $rude 0
        crowd 100 talk
        stop_server
    done
}

@test "a client that resets costs one line on standard error, and no signal" {
    for server_under_test in "${servers[@]}" discard-server; do
        start
        peer connect 127.0.0.1 "$port" send x reset
        said 'Closing connection to'
        assert_equal "$(sed 's/:[0-9]*: /:PORT: /' "$tmp/err")" \
            "${words[0]}: connection from 127.0.0.1:PORT: Connection reset by peer"
        kill -STOP "$server"
        wait_for stopped "$server"
        peer connect 127.0.0.1 "$port" random 60000 reset
        peer connect 127.0.0.1 "$port" reset
        kill -CONT "$server"
        peer connect 127.0.0.1 "$port" send alive half-close end
        said alive
        stop_server
    done
}

@test "a client that half-closes and then resets before all is sent does not kill by SIGPIPE" {
    for server_under_test in "${servers[@]}"; do
        start -q
        run timeout 20 python3 - "$port" <<'PYTHON'
import socket, subprocess, sys, time

def half_closes_in_mid_echo(size):
    """Sends so much that the server has the end, and cannot send all back."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", int(sys.argv[1])))
    client.sendall(bytes(size))
    client.shutdown(socket.SHUT_WR)
    until = time.monotonic() + 1
    while time.monotonic() < until:
        if b":" in subprocess.check_output(
                ["ss", "-tnH", "state", "close-wait", f"sport = :{sys.argv[1]}"]):
            return client  # to be closed: what it has not read makes the kernel reset
        time.sleep(0.01)

assert any(half_closes_in_mid_echo(size) for size in range(100000, 220000, 10000))
PYTHON
        assert_success
        complained 'connection from'
        run grep -vE "^${words[0]}: connection from .*: (Broken pipe|Connection reset by peer)\$" "$tmp/err"
        assert_output ""
        serves
        stop_server
    done
}

@test "bytes, ends, resets and newcomers in one turn do not mix, though descriptors are used anew" {
    for server_under_test in "${servers[@]}"; do
        start -q
        run timeout 30 python3 - "$server" "$port" <<'PYTHON'
import os, random, signal, socket, struct, sys, time
server, port = map(int, sys.argv[1:])
chance = random.Random(1)

def connect():
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    return client, chance.randbytes(20)

def check(client, own):
    came = client.recv(len(own), socket.MSG_WAITALL)
    assert came == own, f"{came!r} instead of {own!r}"

def nothing_more(client):
    client.setblocking(False)
    try:
        raise AssertionError(f"more came: {client.recv(100)!r}")
    except BlockingIOError:
        client.settimeout(10)

standing = [connect() for _ in range(40)]
for _ in range(20):
    for client, own in standing:
        client.sendall(own)
        check(client, own)
    os.kill(server, signal.SIGSTOP)
    while open(f"/proc/{server}/stat").read().rsplit(")")[1].split()[0] != "T":
        time.sleep(0.001)
    chance.shuffle(standing)
    stay, leave = standing[:20], standing[20:]
    silent, saying = stay[:5], stay[5:]
    for number, (client, own) in enumerate(leave):
        if number % 2:
            client.sendall(own)
        if number % 4 < 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    for client, own in saying:
        client.sendall(own)
    newcomers = [connect() for _ in leave]
    for client, own in newcomers[:10]:
        client.sendall(own)
    os.kill(server, signal.SIGCONT)
    for client, own in saying + newcomers[:10]:
        check(client, own)
    for client, own in newcomers[10:]:
        client.sendall(own)
        check(client, own)
    for client, own in stay + newcomers:
        nothing_more(client)
    standing = stay + newcomers
PYTHON
        assert_success
        serves
        stop_server
    done
}

@test "1,100 clients: select() takes what fits into its sets and refuses the others, poll() and epoll take all" {
    needs_descriptors 4096
    for server_under_test in "${servers[@]}"; do
        server_env=(prlimit --nofile=4096)
        start -q
        start_crowd all 1100 hold
        crowd_says refused
        run cat "$crowd_output"
        [[ $output =~ ([0-9]+)\ served,\ ([0-9]+)\ refused ]]
        local refused=${BASH_REMATCH[2]}
        case $server_under_test in
        multiconn-server | *select) ((refused > 76 && refused < 90)) || fail "$output" ;;
        *) ((refused == 0)) || fail "$output" ;;
        esac
        wait_for lines_of_err "$refused"
        run grep -vE "^${words[0]}: connection from 127.0.0.1:[0-9]+: descriptor 1[0-9]{3}: [a-zA-Z]" "$tmp/err"
        assert_output ""
        kill "$crowd" # and those who are served are served once more
        ended "$crowd" 0
        serves
        stop_server
    done
}

@test "a server that is started with 1,024 descriptors open does not write past a set" {
    needs_descriptors 4096
    for server_under_test in "${servers[@]}" discard-server; do
        read -ra words <<<"$server_under_test"
        run timeout 5 python3 - "$build/${words[0]}" "${words[@]:1}" 127.0.0.1 0 <<'PYTHON'
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
null = os.open("/dev/null", os.O_RDONLY)
for fd in range(null + 1, 1100):
    os.dup2(null, fd)
os.set_inheritable(null, True)
os.execv("/usr/bin/env", ["env", "timeout", "-s", "TERM", "0.3", *sys.argv[1:]])
PYTHON
        if [[ $server_under_test == *poll ]]; then
            assert_failure 124 # it serves, until "timeout" ends it
        else
            assert_failure 1
            assert_line --regexp "^${words[0]}: .*[a-z]"
        fi
    done
}

@test "100 clients that say nothing, and one that does not read, cost no processor time" {
    local -A processes before
    for server_under_test in "${servers[@]}" discard-server; do
        start_apart -q
        processes[$server_under_test]=$server
        if [[ $server_under_test == discard-server ]]; then
            start_peer idle connect 127.0.0.1 "$port" send x say said hold
            wait_for grep -q said "$tmp/idle"
            continue
        fi
        start_crowd idle 100 hold
        crowd_says '100 served'
        start_crowd deaf 1 deaf
        crowd_says '1 served'
        start_script <<'PYTHON'
import socket, sys, time
# Among clients that first send and then read, more and more, some read what
# the server had to keep and has nothing more to add to.
clients = []
for size in range(40000, 300000, 4000):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", int(sys.argv[1])))
    client.sendall(bytes(size))
    clients.append((client, size))
for client, size in clients:
    assert len(client.recv(size, socket.MSG_WAITALL)) == size
print("all came back", flush=True)
time.sleep(60)
PYTHON
        wait_for grep -q 'all came back' "$tmp/said"
        wait_for waits "$server"
    done
    for server_under_test in "${servers[@]}" discard-server; do
        wait_for waits "${processes[$server_under_test]}"
        before[$server_under_test]=$(ticks "${processes[$server_under_test]}")
    done
    sleep 1
    for server_under_test in "${servers[@]}" discard-server; do
        server=${processes[$server_under_test]}
        (($(ticks "$server") == before[$server_under_test])) ||
            fail "the server is busy waiting"
    done
}

@test "10,000 connections leave no descriptor and no memory behind" {
    for server_under_test in "${servers[@]}"; do
        start -q
        local before memory
        before=$(descriptors "$server")
        crowd 50 churn
        go_away_in_mid_echo
        wait_for has_descriptors "$server" "$before"
        memory=$(resident "$server")
        crowd $((1000 / ${#servers[@]})) churn # ten connections each
        go_away_in_mid_echo
        wait_for has_descriptors "$server" "$before"
        memory=$(($(resident "$server") - memory))
        ((memory < 300)) || sanitized "${words[0]}" || fail "grew by $memory kB"
        stop_server
    done
}

@test "no descriptor is closed twice" {
    needs_strace
    for server_under_test in "${servers[@]}" discard-server; do
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o "$tmp/trace" -e "trace=close")
        start
        local before
        before=$(grep -c 'close(' "$tmp/trace")
        peer connect 127.0.0.1 "$port" send x half-close end
        peer connect 127.0.0.1 "$port" send x reset
        said 'Closing connection'
        wait_for grep -q reset "$tmp/err"
        stop_server
        run grep -c 'close(' "$tmp/trace"
        assert_output $((before + 2))
        run grep EBADF "$tmp/trace"
        assert_failure
    done
}

# --- Stopping and starting ---------------------------------------------------

@test "SIGINT and SIGTERM stop a server with status 0: idle, in mid-echo, and twice" {
    for server_under_test in "${servers[@]}" discard-server; do
        for signal in INT TERM; do
            start -q
            stop_server $signal
            start
            start_peer deaf connect 127.0.0.1 "$port" zeros 20000000
            said 'Accepted connection from'
            kill -$signal "$server"
            kill -$signal "$server" 2>/dev/null || true
            ended "$server" 0
        done
    done
}

@test "clients that flood do not keep a server from stopping" {
    for server_under_test in "${servers[@]}" discard-server; do
        start -q
        local floods=()
        for _ in 1 2 3 4; do
            socat -b 1000000 '/dev/zero!!/dev/null' "TCP:127.0.0.1:$port" 2>/dev/null 3>&- &
            floods+=("$!")
        done
        started+=("${floods[@]}")
        wait_for has_used "$server" 10
        stop_server
        for flood in "${floods[@]}"; do
            wait_for gone "$flood"
        done
    done
}

@test "a signal right before a wait is not slept through" {
    for server_under_test in "${servers[@]}" discard-server; do
        for wait in 1 2 3; do
            server_env=("LD_PRELOAD=$build/shim.so" "SHIM_TERM=$wait")
            start
            # Each client makes at least one wait end.
            [[ $wait -eq 1 ]] || peer connect 127.0.0.1 "$port" send x half-close end || true
            [[ -z ${EVIDENCE:-} ]] || takes_two "$server"
            ended "$server" 0
        done
    done
}

@test "a signal at any moment of 200 starts, services and stops is honoured" {
    for server_under_test in "${servers[@]}" discard-server; do
        read -ra words <<<"$server_under_test"
        run timeout 50 python3 - "$build/${words[0]}" "${words[@]:1}" <<'PYTHON'
import os, random, signal, socket, subprocess, sys, time
chance = random.Random(1)
for turn in range(50):
    server = subprocess.Popen([*sys.argv[1:], "127.0.0.1", "0"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    port = int(server.stdout.readline().rsplit(b":")[-1])
    with socket.socket() as client:
        if turn % 2:
            client.connect(("127.0.0.1", port))
            client.setblocking(False)
            client.send(bytes(chance.choice([1, 100000])))
            time.sleep(chance.random() / 200)
        for _ in range(2):
            os.kill(server.pid, chance.choice([signal.SIGINT, signal.SIGTERM]))
            until = time.monotonic_ns() + chance.randrange(60_000)
            while time.monotonic_ns() < until:
                pass
        assert server.wait(5) == 0, server.returncode
        assert server.stderr.read() == b""
PYTHON
        assert_success
    done
}

@test "a restart on the same port works while old connections are in TIME_WAIT" {
    own_network
    for server_under_test in "${servers[@]}"; do
        read -ra words <<<"$server_under_test"
        start_server "${words[@]}" 127.0.0.1 65432
        # The server's own end makes it the side that closes first.
        start_peer held connect 127.0.0.1 65432 send x expect x say ready hold
        wait_for grep -q ready "$tmp/held"
        stop_server
        kill "$peer"
        wait_for in_time_wait 65432
        start_server "${words[@]}" 127.0.0.1 65432
        serves
        stop_server
    done
}

# --- discard-server ----------------------------------------------------------

@test "discard-server says what it receives, answers nothing, and ends with its clients" {
    start_server discard-server 127.0.0.1 0
    start_peer silent connect 127.0.0.1 "$port" say connected hold
    wait_for grep -q connected "$tmp/silent"
    run peer connect 127.0.0.1 "$port" send Hello half-close end
    assert_success
    assert_output "0 bytes before the end"
    stop_server
    assert_equal "$(sed 's/:[0-9]*$/:PORT/' "$tmp/out")" "Listening on 127.0.0.1:PORT
Accepted connection from 127.0.0.1:PORT
Accepted connection from 127.0.0.1:PORT
Received 'Hello' from 127.0.0.1:PORT
Closing connection to 127.0.0.1:PORT"
    assert_equal "$(cat "$tmp/err")" ""
}

@test "discard-server hears a client that was silent while another one spoke" {
    start_server discard-server 127.0.0.1 0
    run timeout 20 python3 - "$port" "$tmp/out" <<'PYTHON'
import socket, sys, time
patient, lively = (socket.create_connection(("127.0.0.1", int(sys.argv[1])))
                   for _ in range(2))

def say(client, what):
    client.sendall(what)
    until = time.monotonic() + 8
    while what not in open(sys.argv[2], "rb").read():
        assert time.monotonic() < until, f"{what!r} is not heard"
        time.sleep(0.01)

say(lively, b"first")
say(lively, b"second")
say(patient, b"third")
PYTHON
    assert_success
}

@test "discard-server shows all lines that came together" {
    start_server discard-server 127.0.0.1 0
    start_peer lines connect 127.0.0.1 "$port" send 'one\ntwo\nthree\n' hold
    said one
    said two
    said three
}

@test "discard-server hears 1,100 clients as far as select() can, and refuses the others" {
    needs_descriptors 4096
    server_env=(prlimit --nofile=4096)
    start_server discard-server 127.0.0.1 0
    run timeout 30 python3 - "$port" "$tmp/out" "$tmp/err" <<'PYTHON'
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
clients = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(1100)]
while open(sys.argv[2]).read().count("Accepted") + open(sys.argv[3]).read().count("\n") < 1100:
    time.sleep(0.01)
for turn in (b"first", b"second"):
    for number, client in enumerate(clients):
        try:
            client.sendall(b"%d %s." % (number, turn))
        except ConnectionError:
            pass
for client in clients:
    try:
        client.shutdown(socket.SHUT_WR)
        client.recv(1)
    except OSError:
        pass
PYTHON
    assert_success
    stop_server
    assert_equal "$(sort "$tmp/err" | uniq -d)" ""
    local accepted refused
    accepted=$(grep -c '^Accepted' "$tmp/out")
    refused=$(grep -cE "^discard-server: connection from 127.0.0.1:[0-9]+: descriptor 1[0-9]{3}: too high" "$tmp/err")
    assert_equal $((accepted + refused)) 1100
    ((accepted > 1010)) || fail "only $accepted were accepted"
    assert_equal "$(grep -c '^Closing' "$tmp/out")" "$accepted"
    assert_equal "$(sed -n "s/^Received '\(.*\)' from .*/\1/p" "$tmp/out" | grep -o second | wc -l)" "$accepted"
}

@test "discard-server without descriptors says so once, does not spin, and recovers" {
    start_server discard-server 127.0.0.1 0
    start_peer held connect 127.0.0.1 "$port" send first hold
    said first
    prlimit --pid "$server" --nofile=4:
    start_peer waiting connect 127.0.0.1 "$port" send waiting hold
    complained 'discard-server: accept: Too many open files'
    local before
    before=$(ticks "$server")
    sleep 0.5
    (($(ticks "$server") - before <= 3)) || fail "the server is busy waiting"
    assert_equal "$(grep -c . "$tmp/err")" 1
    prlimit --pid "$server" --nofile=20:
    said waiting
}

@test "discard-server leaves nothing behind after 1,000 clients" {
    start_server discard-server -q 127.0.0.1 0
    local before
    before=$(descriptors "$server")
    timeout 20 python3 - "$port" <<'PYTHON'
import socket, sys
for _ in range(1000):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
        client.sendall(b"x" * 1000)
PYTHON
    wait_for has_descriptors "$server" "$before"
    stop_server
    assert_equal "$(cat "$tmp/err")" ""
}

# --- multiconn-client --------------------------------------------------------

@test "multiconn-client says what it does" {
    start_peer server listen 127.0.0.1 0 receive 44 \
        send 'Message 1 from client.Message 2 from client.' end close
    run --separate-stderr ours multiconn-client 127.0.0.1 "$peer_port" 1
    assert_success
    assert_output "Starting connection 1 to 127.0.0.1:$peer_port
Sending 'Message 1 from client.' to connection 1
Sending 'Message 2 from client.' to connection 1
Received 'Message 1 from client.Message 2 from client.' from connection 1
Closing connection 1"
    assert_equal "$stderr" ""
    wait_for grep -q '^0 bytes before the end' "$tmp/server"
}

@test "multiconn-client sends any messages on each of many connections: none, many, empty, and of 1 MB in all" {
    local large
    large=$(printf '%0100000d' 7)
    for server_under_test in "${servers[@]}"; do
        start -q
        run ours multiconn-client 127.0.0.1 "$port" 2 one '' "it's" ''
        assert_success
        assert_equal "$(grep -c "^Sending 'one'\|^Sending 'it\\\\'s'" <<<"$output")" 4
        assert_equal "$(grep -c '^Closing connection' <<<"$output")" 2
        run ours multiconn-client 127.0.0.1 "$port" 2 ''
        assert_success
        assert_equal "$(grep -c '^Closing connection' <<<"$output")" 2
        run ours multiconn-client -q 127.0.0.1 "$port" 20 {1..100}
        assert_success
        run ours multiconn-client -q 127.0.0.1 "$port" 5 "$large" "$large" "$large" "$large" "$large" "$large" "$large" "$large" "$large" "$large"
        assert_success
        assert_output ""
        run ours multiconn-client -q 127.0.0.1 "$port" 900
        assert_success
        stops_without_a_word
    done
}

@test "multiconn-client bears short counts and interrupted calls" {
    server_under_test=${servers[0]}
    start -q
    for limits in SHIM_RECEIVE=1 SHIM_SEND=1 SHIM_EINTR=2; do
        run timeout 20 env "LD_PRELOAD=$build/shim.so" $limits "$build/multiconn-client" \
            127.0.0.1 "$port" 10 first second
        assert_success
        assert_equal "$(grep -c "^Sending '" <<<"$output")" 20
        run timeout 20 env "LD_PRELOAD=$build/shim.so" $limits "$build/c10k-client" \
            -q --size 3000 --rounds 3 --idle 2 127.0.0.1 "$port" 10
        assert_success
    done
}

@test "stop and continue interrupt a client's wait, and it goes on waiting" {
    for client_under_test in multiconn-client c10k-client; do
        start_peer silent listen 127.0.0.1 0 receive 4 say heard hold
        "$build/$client_under_test" -t 30 127.0.0.1 "$peer_port" 1 >"$tmp/client" 2>&1 3>&- &
        local client=$!
        started+=("$client")
        wait_for grep -q heard "$tmp/silent"
        for _ in 1 2 3; do
            kill -STOP "$client"
            wait_for stopped "$client"
            kill -CONT "$client"
            wait_for waits "$client"
        done
        run grep "^$client_under_test:" "$tmp/client"
        assert_output ""
    done
}

@test "multiconn-client: refused, and given up when nobody answers" {
    own_network
    run ours multiconn-client -q 127.0.0.1 4321 2
    assert_failure 1
    assert_output "multiconn-client: connection 1 to 127.0.0.1:4321: Connection refused, got 0 of 44 bytes
multiconn-client: connection 2 to 127.0.0.1:4321: Connection refused, got 0 of 44 bytes
multiconn-client: 2 of 2 connections failed"
    net=()
    full_listener
    local began=${EPOCHREALTIME/./}
    run ours multiconn-client -q -t 0.4 127.0.0.1 "$full_port" 2
    ((${EPOCHREALTIME/./} - began > 380000)) || fail "given up too early"
    assert_failure 1
    assert_output "multiconn-client: connection 1 to 127.0.0.1:$full_port: Connection timed out, got 0 of 44 bytes
multiconn-client: connection 2 to 127.0.0.1:$full_port: Connection timed out, got 0 of 44 bytes
multiconn-client: 2 of 2 connections failed"
}

@test "multiconn-client waits for a connect() that takes its time" {
    full_listener
    "$build/multiconn-client" -t 30 127.0.0.1 "$full_port" 1 >"$tmp/client" 2>&1 3>&- &
    local client=$!
    started+=("$client")
    wait_for half_open_or_gone "$full_port" "$client"
    touch "$tmp/go"
    ended "$client" 0
    run cat "$tmp/client"
    assert_line "Closing connection 1"
}

@test "a wait that a signal interrupts does not make multiconn-client take a connect() for ended" {
    needs_strace
    own_network
    full_listener 127.0.0.2
    start_server multiconn-server 127.0.0.1 "$full_port"
    # The name has both addresses, the one that does not answer first.
    run timeout 20 "${net[@]}" env ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 strace -qq -o /dev/null \
        -E "LD_PRELOAD=$build/shim.so" -e trace=pselect6 -e inject=pselect6:error=EINTR:when=1 \
        "$build/multiconn-client" -q -t 0.5 two.example "$full_port" 1
    if [[ $status -ne 0 && ${EVIDENCE:-} ]] &&
        timeout 20 "${net[@]}" env "LD_PRELOAD=$build/shim.so" "$build/multiconn-client" -q -t 0.5 two.example "$full_port" 1; then
        echo "evidence: without a signal, the second address is served"
    fi
    assert_success
}

@test "both clients try each address of a name, and say the last error" {
    server_under_test=${servers[0]}
    start -q
    run timeout 20 env "LD_PRELOAD=$build/shim.so" "$build/multiconn-client" -q two.example "$port" 3
    if [[ $status -ne 0 && ${EVIDENCE:-} ]]; then
        timeout 20 strace -qq -o "$tmp/calls" -E "LD_PRELOAD=$build/shim.so" -e trace=sendto,recvfrom,read,write \
            "$build/multiconn-client" -q two.example "$port" 1 2>/dev/null || true
        sed -n '/ECONNREFUSED/s/^/evidence: the client calls /p' "$tmp/calls"
    fi
    assert_success
    run timeout 20 env "LD_PRELOAD=$build/shim.so" "$build/c10k-client" -q two.example "$port" 3
    assert_success
    stop_server
    run timeout 20 env "LD_PRELOAD=$build/shim.so" "$build/multiconn-client" -q two.example "$port" 1
    assert_failure 1
    assert_line "multiconn-client: connection 1 to 127.0.0.1:$port: Connection refused, got 0 of 44 bytes"
    run timeout 20 env "LD_PRELOAD=$build/shim.so" "$build/c10k-client" -q two.example "$port" 1
    assert_failure 1
    assert_line "c10k-client: connection 1 to 127.0.0.1:$port: Connection refused"
}

@test "multiconn-client believes no server: each says why it failed, and the status is 1" {
    fails() { # WHY MESSAGE STEP...: what a server does makes it fail so
        start_peer bad listen 127.0.0.1 0 "${@:3}"
        run ours multiconn-client -q -t 1 127.0.0.1 "$peer_port" 1 "$2"
        assert_equal "$output" "multiconn-client: connection 1 to 127.0.0.1:$peer_port: $1
multiconn-client: 1 of 1 connections failed"
        assert_failure 1
    }
    fails 'not what was sent, got 0 of 5 bytes' Hello receive 5 send HellO hold
    fails 'more than was sent, got 0 of 5 bytes' Hello receive 5 send Hello! hold
    fails 'more than was sent, got 5 of 5 bytes' Hello receive 5 send Hello end send '!' close
    fails 'connection closed early, got 3 of 5 bytes' Hello receive 5 send Hel close
    fails 'connection closed early, got 0 of 5 bytes' Hello receive 5 close
    fails 'Connection reset by peer, got 0 of 5 bytes' Hello receive 5 reset
    fails 'Connection reset by peer, got 5 of 5 bytes' Hello receive 5 send Hello end reset
    fails 'Connection timed out, got 2 of 5 bytes' Hello receive 5 send He hold
    fails 'Connection timed out, got 5 of 5 bytes' Hello receive 5 send Hello hold
    fails 'Connection timed out, got 0 of 100000 bytes' "$(printf '%0100000d' 0)" receive 1 hold
}

@test "multiconn-client counts who failed, and the others go on" {
    local good=(receive 44 send 'Message 1 from client.Message 2 from client.' end close)
    start_peer one_liar listen 127.0.0.1 0 "${good[@]}" accept receive 44 send nonsense close accept "${good[@]}"
    run ours multiconn-client 127.0.0.1 "$peer_port" 3
    assert_failure 1
    assert_line "multiconn-client: connection 2 to 127.0.0.1:$peer_port: not what was sent, got 0 of 44 bytes"
    assert_line "multiconn-client: 1 of 3 connections failed"
    assert_line 'Closing connection 1'
    assert_line 'Closing connection 3'
}

@test "multiconn-client with 1,100 connections: those that do not fit into a set fail, and the others go on" {
    needs_descriptors 4096
    start_server c10k-server -q 127.0.0.1 0
    run ours prlimit --nofile=4096 "$build/multiconn-client" -q 127.0.0.1 "$port" 1100
    assert_failure 1
    [[ ${lines[-1]} =~ ^multiconn-client:\ ([0-9]+)\ of\ 1100\ connections\ failed$ ]]
    local failed=${BASH_REMATCH[1]}
    ((failed > 76 && failed < 90)) || fail "$failed failed"
    assert_equal "$(grep -c 'too high for select(), got 0 of 44 bytes$' <<<"$output")" "$failed"
    stops_without_a_word
}

@test "both clients without descriptors: some connections fail, and the others go on" {
    server_under_test=${servers[0]}
    start -q
    for program in multiconn-client c10k-client; do
        run ours prlimit --nofile=20 "$build/$program" -q 127.0.0.1 "$port" 30
        assert_failure 1
        [[ ${lines[-1]} =~ ^$program:\ ([0-9]+)\ of\ 30\ connections\ failed$ ]]
        ((BASH_REMATCH[1] > 9 && BASH_REMATCH[1] < 25)) || fail "${lines[-1]}"
        assert_equal "$(grep -c 'Too many open files' <<<"$output")" "${BASH_REMATCH[1]}"
    done
    stops_without_a_word
}

@test "a client that waits costs no processor time" {
    for client_under_test in multiconn-client "c10k-client -b select" "c10k-client -b poll" "c10k-client -b epoll"; do
        read -ra words <<<"$client_under_test"
        start_peer silent listen 127.0.0.1 0 receive 4 say heard hold
        "$build/${words[0]}" "${words[@]:1}" 127.0.0.1 "$peer_port" 3 >/dev/null 2>&1 3>&- &
        local client=$! before
        started+=("$client")
        wait_for grep -q heard "$tmp/silent"
        wait_for waits "$client"
        before=$(ticks "$client")
        sleep 0.3
        (($(ticks "$client") == before)) || fail "$client_under_test is busy waiting"
    done
}

@test "what a server sends reaches the terminal as printable text only" {
    start_peer hostile listen 127.0.0.1 0 receive 5 send '\x1b[2J\x07' hold
    run ours multiconn-client 127.0.0.1 "$peer_port" 1 Hello
    assert_line "Received '\\x1b[2J\\a' from connection 1"
}

# --- c10k-client, the instrument ---------------------------------------------

@test "c10k-client prints its results, also with -q, on each back end, for one byte and for 1 MB" {
    start_server c10k-server -q 127.0.0.1 0
    for arguments in "-b select" "-b poll" "-b epoll" "--size 1 --rounds 1" "--size 1000000 --rounds 3" "--idle 20"; do
        read -ra arguments <<<"$arguments"
        run --separate-stderr ours c10k-client -q "${arguments[@]}" 127.0.0.1 "$port" 10
        assert_success
        assert_equal "$stderr" ""
        assert_equal "$(awk '{ $2 = $2 ~ /^[0-9.]+$/ ? "N" : "?" } 1' <<<"$output")" "requests/s N
MB/s N
p50 N ms
p90 N ms
p99 N ms
p99.9 N ms
max N ms"
    done
    run ours c10k-client --idle 5 127.0.0.1 "$port" 10
    assert_line 'Connected 15 connections'
    stops_without_a_word
}

@test "10,000 connections on epoll, of our client and of another: each gets its bytes, in 20 MB" {
    needs_descriptors 10100
    own_network
    start_server c10k-server -q -b epoll 127.0.0.1 0
    run ours c10k-client -q --rounds 2 127.0.0.1 "$port" 10000
    assert_success
    start_crowd all 10000 hold
    crowd_says '10000 served'
    local memory
    memory=$(resident "$server")
    ((memory < 20000)) || sanitized c10k-server || fail "10,000 connections take $memory kB"
    kill "$crowd"
    ended "$crowd" 0
    stops_without_a_word
}

@test "c10k-client believes no server: each says why it failed, and the status is 1" {
    fails() { # WHY STEP...: what a server does makes it fail so
        start_peer bad listen 127.0.0.1 0 "${@:2}"
        run --separate-stderr ours c10k-client -q -t 1 --size 4 127.0.0.1 "$peer_port" 1
        assert_equal "$stderr" "c10k-client: connection 1 to 127.0.0.1:$peer_port: $1
c10k-client: 1 of 1 connections failed"
        assert_failure 1
    }
    fails 'not what was sent' receive 4 send '\x00\x00\x00\x00' hold
    fails 'more than was sent' receive 4 send 12345 hold
    fails 'connection closed early' receive 4 close
    fails 'Connection reset by peer' receive 4 reset
    fails 'Connection timed out' receive 4 hold
    own_network
    run --separate-stderr ours c10k-client -q 127.0.0.1 4321 2
    assert_failure 1
    assert_equal "$stderr" "c10k-client: connection 1 to 127.0.0.1:4321: Connection refused
c10k-client: connection 2 to 127.0.0.1:4321: Connection refused
c10k-client: 2 of 2 connections failed"
    net=()
    full_listener
    run --separate-stderr ours c10k-client -q -t 0.3 127.0.0.1 "$full_port" 1
    assert_failure 1
    assert_line --regexp '^requests/s +0$'
    [[ $stderr == *"connection 1 to 127.0.0.1:$full_port: Connection timed out"* ]] || fail "$stderr"
}

@test "c10k-client counts idle connections that the server has dropped" {
    server_under_test=${servers[0]}
    start -q -t 0.3
    "$build/c10k-client" -q --idle 5 --rounds 1000000000 127.0.0.1 "$port" 1 >"$tmp/results" 2>"$tmp/client" 3>&- &
    local client=$!
    started+=("$client")
    wait_for lines_of_err 5
    kill -STOP "$client" # and the server drops the one that talks, too
    wait_for lines_of_err 6
    kill -CONT "$client"
    ended "$client" 1
    assert_equal "$(grep -c '^c10k-client: connection [2-6] to .*: Connection reset by peer$' "$tmp/client")" 5
    assert_equal "$(tail -n 1 "$tmp/client")" "c10k-client: 6 of 6 connections failed"
}

@test "c10k-client with 1,100 connections on select: those that do not fit into a set fail" {
    needs_descriptors 4096
    start_server c10k-server -q 127.0.0.1 0
    run --separate-stderr ours prlimit --nofile=4096 "$build/c10k-client" -q -b select 127.0.0.1 "$port" 1100
    assert_failure 1
    [[ ${stderr_lines[-1]} =~ ^c10k-client:\ ([0-9]+)\ of\ 1100\ connections\ failed$ ]]
    local failed=${BASH_REMATCH[1]}
    ((failed > 76 && failed < 90)) || fail "$failed failed"
    assert_equal "${#stderr_lines[@]}" $((failed + 1))
    stops_without_a_word
}

# --- make stage-2 ------------------------------------------------------------

@test "the live show of stage 2 shows two clients served beside a silent one, and says so if an echo is wrong" {
    run env BUILD="$build" scripts/stage.sh 2
    assert_success
    assert_line "client | Received 'Message 1 from client.Message 2 from client.' from connection 1" ||
        assert_line "client | Received 'Message 2 from client.' from connection 1"
    assert_line "client | Closing connection 2"
    assert_equal "$(grep -c '^server | Closing connection' <<<"$output")" 3

    mkdir "$tmp/liars"
    cp "$build/multiconn-client" "$tmp/liars/"
    cat >"$tmp/liars/multiconn-server" <<'SHELL'
#!/bin/sh
exec python3 -c 'import socket
listener = socket.create_server(("127.0.0.1", 0))
print("Listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
clients = []
while True:
    clients.append(listener.accept()[0])
    print("Accepted connection from somebody", flush=True)
    if len(clients) > 1:
        clients[-1].sendall(clients[-1].recv(100).upper())'
SHELL
    chmod +x "$tmp/liars/multiconn-server"
    run env BUILD="$tmp/liars" scripts/stage.sh 2
    assert_failure 1
    assert_line --partial 'not what was sent'
    assert_line --partial 'an echo was wrong'
}

# --- What these programs stand on --------------------------------------------

@test "buffers, deadlines, histograms and selectors do what their headers promise" {
    cc -std=c11 -D_POSIX_C_SOURCE=200809L -shared -fPIC -o "$tmp/common.so" \
        common/{buffer,deadline,histogram,selector,selector_select,selector_poll,selector_epoll}.c
    run timeout 30 python3 tests/helpers/units.py "$tmp/common.so"
    assert_success
}

# --- What these tests use ----------------------------------------------------

# Each system call by which a program can wait for many descriptors.
waits='?pselect6,?_newselect,?poll,?ppoll,?epoll_wait,?epoll_pwait'

# start [OPTION...]: the server under test, on a free port. Sets words to its
# name and options.
start() {
    read -ra words <<<"$server_under_test"
    start_server "${words[@]}" "$@" 127.0.0.1 0
}

# Several servers at a time, each with files of its own in a folder of its own:
# start_apart [OPTION...]       starts the server under test, as start does
# start_script                  starts a Python script that talks to it; it is
#                               read from standard input, and its arguments are
#                               the port, the server's process, and the folder
# ends_apart                    after the scripts of all have been started: the
#                               script of the server under test must succeed,
#                               and the server be stopped without trouble
start_apart() {
    apart
    mkdir "$tmp"
    start "$@"
    echo "$server" >"$tmp/server"
}
start_script() {
    cat >"$tmp/script"
    python3 "$tmp/script" "$port" "$server" "$tmp" >"$tmp/said" 2>&1 3>&- &
    started+=("$!")
    echo "$!" >"$tmp/running"
}
ends_apart() {
    apart
    read -ra words <<<"$server_under_test"
    local status=0
    patience=30 wait_for gone "$(cat "$tmp/running")"
    wait "$(cat "$tmp/running")" || status=$?
    ((status != 77)) || skip "$(cat "$tmp/said")"
    assert_equal "$status: $(cat "$tmp/said")" "0: "
    server=$(cat "$tmp/server")
    stop_server
}
apart() { tmp=$BATS_TEST_TMPDIR/${server_under_test// /}; }

half_open_or_gone() { gone "$2" || ss -tn state syn-sent "dport = :$1" | grep -q ":$1"; }

# For evidence: another server of the same kind, of which only this is told.
# otherwise OPTION...: whether it survives a client that it gives up
# fewer COUNT: whether it survives 50 clients where it has ended with so many
# And of the server under test:
# grows: how much memory it has used for clients that do not read
# takes_two PROCESS: whether a second signal ends it
otherwise() {
    local server port host tmp=$BATS_TEST_TMPDIR/otherwise server_env=()
    mkdir -p "$tmp"
    start "$@"
    peer connect 127.0.0.1 "$port" send hello expect hello end >"$tmp/end" 2>&1 || true
    gone "$server" || echo "evidence: another one survives a time-out that is not late"
}
fewer() {
    patience=60 wait_for says_or_gone "$1 served"
    ! grep -q "$1 served" "$crowd_output" || return 0
    gone "$server" || return 0
    local server port host crowd crowd_output tmp=$BATS_TEST_TMPDIR/fewer
    mkdir -p "$tmp"
    start -q
    start_crowd dribblers 50 dribble
    patience=60 wait_for says_or_gone '50 served'
    ! grep -q '50 served' "$crowd_output" || gone "$server" || echo "evidence: another one serves 50 such clients"
}
grows() {
    patience=60 wait_for says_or_gone '50 served'
    grep -q '50 served' "$crowd_output" || gone "$server" ||
        echo "evidence: the server's memory grew by $(($(awk '/^VmHWM/ { print $2 }' "/proc/$server/status") - before)) kB"
}
takes_two() {
    for _ in {1..400}; do
        ! gone "$1" || return 0
        sleep 0.01
    done
    kill "$1"
    for _ in {1..100}; do
        ! gone "$1" || { echo "evidence: a second signal ends the server" && fail "the first one did not"; }
        sleep 0.01
    done
}

stops_without_a_word() {
    stop_server
    assert_equal "$(cat "$tmp/err")" ""
}

# go_away_in_mid_echo: 50 clients end while the server has output for each
go_away_in_mid_echo() {
    start_crowd deaf 50 deaf
    crowd_says '50 served'
    kill -KILL "$crowd"
    wait_for gone "$crowd"
}

# crowd N WAY: see crowd.py
crowd() {
    timeout 60 "${net[@]}" python3 tests/helpers/crowd.py "$host" "$port" "$@" 3>&-
}

# start_crowd NAME N WAY: in the background, as process $crowd; output in
# $tmp/NAME
start_crowd() {
    crowd_output=$tmp/$1
    : >"$crowd_output" # or crowd_says would find what the last one of this name said
    "${net[@]}" python3 tests/helpers/crowd.py "$host" "$port" "${@:2}" >"$crowd_output" 2>&1 3>&- &
    crowd=$!
    started+=("$crowd")
}

crowd_says() { # for which a large one may take its time: it ends by itself
    patience=60 wait_for says_or_gone "$1"
    grep -q "$1" "$crowd_output" && return
    local status=0
    wait "$crowd" || status=$?
    fail "the crowd ended with status $status: $(cat "$crowd_output")"
}
says_or_gone() { grep -q "$1" "$crowd_output" || gone "$crowd"; }

# ours PROGRAM ARGUMENT...: a client of ours, ended by force after 30 s
ours() {
    local program=$1
    [[ $program == prlimit ]] || program=$build/$program
    timeout -s KILL 30 "${net[@]}" "$program" "${@:2}" 3>&-
}

start_textbook_server() {
    : >"$tmp/textbook"
    python3 tests/helpers/textbook.py server 127.0.0.1 0 >"$tmp/textbook" 2>&1 3>&- &
    started+=("$!")
    wait_for grep -q '^[0-9]' "$tmp/textbook"
    textbook_port=$(cat "$tmp/textbook")
}

descriptors_close_on_exec() { # PROCESS AT-LEAST
    local fd flags sockets=0
    for fd in "/proc/$1/fd"/*; do
        # What this shell has, too, it has passed on.
        [[ $(readlink "$fd") != "$(readlink "/proc/$BASHPID/fd/${fd##*/}")" && ${fd##*/} -gt 2 ]] || continue
        flags=$(awk '/^flags/ { print $2 }' "${fd/\/fd\//\/fdinfo\/}")
        (((8#$flags & 8#2000000) != 0)) || fail "descriptor $fd is not close-on-exec"
        sockets=$((sockets + 1))
    done
    ((sockets >= $2)) || fail "only $sockets descriptors"
}

needs_descriptors() {
    local most
    most=$(ulimit -Hn)
    [[ $most == unlimited ]] || ((most >= $1)) || skip "this user may open only $most descriptors"
}

# sanitized PROGRAM: is it built with a sanitizer, which needs much memory?
sanitized() { grep -q __asan_init "$build/$1"; }

resident() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; } # in kB
waits() { [[ $(ps -o stat= -p "$1") == S* ]]; }
has_used() { (($(ticks "$1") >= $2)); } # PROCESS TICKS
lines_of_err() { (($(wc -l <"$tmp/err") == $1)); }
