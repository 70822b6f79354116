# Stage 3: an application protocol. The peers that are not ours are
# app_peer.py, nc and socat; what is right is said by protocol.py, which was
# written from the specification.
#
# APP_SERVER and APP_CLIENT say which programs of $BUILD are tested, each with
# options, if it needs any (default: app-server and app-client). The server is
# tested with each of its back ends.
#
# If APP_TLS is set, it is a folder with the certificates of 04-tls/make-certs.sh,
# and all of this is over TLS: the programs are those of stage 4, app_peer.py and
# torture.py speak TLS themselves (tls_stream.py), and what cannot, as nc, goes
# through a tunnel made by socat. Not over TLS are the tests that are tagged "tcp":
# message-tool and "make stage-3" have no network in them that could be another
# one; one recv() a turn is no measure for TLS, which reads the head of a record,
# and then its rest; Python's TLS is too slow to ask in every turn of a server;
# nobody is connected over TLS before the server has seen him; and OpenSSL sends
# by write(), as the program does to say what happens, so strace cannot fail the
# one without the other. The back ends know nothing of TLS: over it, select and
# poll are tested only where it matters who waits for what.

# Each test is a subshell, and the helpers set variables for it.
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016,SC2009,SC2013

load helpers/common

over_tls() { [[ -n ${APP_TLS:-} ]]; }
# either A B: A over TCP, B over TLS
either() { if over_tls; then echo "$2"; else echo "$1"; fi; }

default_server=app-server
default_client=app-client
if over_tls; then
    APP_TLS=$(realpath "$APP_TLS")
    export APP_TLS
    default_server="tls-app-server --cert $APP_TLS/server.pem --key $APP_TLS/server-key.pem"
    default_client="tls-app-client --ca $APP_TLS/ca.pem"
fi
read -ra app_server <<<"${APP_SERVER:-$default_server}"
read -ra app_client <<<"${APP_CLIENT:-$default_client}"
name=${app_server[0]}
client_name=${app_client[0]}
all_servers=("${app_server[*]} -b epoll" "${app_server[*]} -b poll" "${app_server[*]} -b select")
servers=("${all_servers[@]}")
over_tls && servers=("${all_servers[0]}")
server_under_test=${servers[0]}

# Some installations have a slow script before the real python3.
setup_file() {
    python3=$(python3 -c 'import sys; print(sys.executable)')
    export python3
}
setup() { common_setup; }
teardown() {
    [[ -n $BATS_TEST_COMPLETED ]] || echo "The server was: $server_under_test"
    common_teardown
}

# --- The command line --------------------------------------------------------

@test "-h and --help print the usage on standard output" {
    for program in "$name" "$client_name" message-tool; do
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
        local must=()
        [[ $2 != "$name" ]] || must=("${app_server[@]:1}")
        run --separate-stderr timeout 5 "$build/$2" "${must[@]}" "${@:3}"
        assert_equal "$status: $*" "2: $*"
        assert_output ""
        assert_equal "${stderr_lines[0]%%:*}" "$2"
        [[ ${stderr_lines[0]} == *"$1"* ]] || fail "$*: ${stderr_lines[0]}"
        assert_equal "${stderr_lines[1]%% \[*}" "Usage: $2"
    }
    local value
    for value in '' -1 x 1x ' 1' +1 0x10 1.5 99999999999999999999; do
        bad 'must be a number from 1 to 1000000' "$name" -n "$value"
        bad 'must be a number from 0 to 1073741824' "$name" -m "$value"
        bad 'must be a number from 1 to 256' "$name" -w "$value"
        bad 'must be a number from 0 to 65535' "$name" 127.0.0.1 "$value"
        bad 'must be a number from 1 to 65535' "$client_name" 127.0.0.1 "$value" hello
    done
    for value in '' 0 0.0009 86400.001 86401 -1 1e3 1,5 1.2.3 ' 1' inf; do
        bad 'must be a number of seconds, 0.001 to 86400' "$name" -t "$value"
        bad 'must be a number of seconds, 0.001 to 86400' "$client_name" -t "$value" 127.0.0.1 1 hello
    done
    bad 'must be a number from 1 to 1000000' "$name" -n 0
    bad 'must be a number from 1 to 1000000' "$name" -n 1000001
    bad 'must be a number from 0 to 1073741824' "$name" -m 1073741825
    bad 'must be a number from 1 to 256' "$name" -w 0
    bad 'must be a number from 1 to 256' "$name" -w 257
    bad 'must be epoll or poll or select' "$name" -b kqueue
    bad 'number from 0' "$name" 127.0.0.1 65536
    bad 'number from 1' "$client_name" 127.0.0.1 0 hello
    bad 'one too many' "$name" 127.0.0.1 0 x
    bad "'-x'" "$name" -x
    bad "'--no-such'" "$name" --no-such
    for option in -t -n -m -w -b; do
        bad 'needs a value' "$name" $option
    done
    for option in -n -m -w -b; do
        bad "'$option'" "$client_name" $option 1 127.0.0.1 1 hello
    done
    bad 'too few arguments' "$client_name"
    bad 'too few arguments' "$client_name" 127.0.0.1 1
    bad 'too few arguments' message-tool
    bad 'neither "encode ACTION" nor "decode"' message-tool encode
    bad 'neither "encode ACTION" nor "decode"' message-tool decode x
    bad 'neither "encode ACTION" nor "decode"' message-tool code
    bad "'-t'" message-tool -t 1 decode
}

@test "values at both ends of what is allowed are accepted" {
    for options in "-t 0.001" "-t 86400" "-t .5" "-t 5." "-n 1" "-n 1000000" "-m 0" "-m 1073741824" "-w 1" "-w 2" \
        "-b epoll" "-b poll" "-b select" "--timeout 1 --connections 5 --most 7 --workers 2 --backend poll --quiet"; do
        read -ra words <<<"$options"
        start "${words[@]}"
        stops_without_a_word
    done
    run "$build/$name" -w 256 -h
    assert_success
}

@test "a host that does not resolve is an error in words" {
    for command in "${app_server[*]} no.such.host.invalid 4321" "${app_client[*]} no.such.host.invalid 4321 hello"; do
        read -ra words <<<"$command"
        run --separate-stderr timeout 20 "$build/${words[0]}" "${words[@]:1}"
        assert_failure 1
        assert_output ""
        [[ $stderr == "${words[0]}: resolve no.such.host.invalid: "?* ]] || fail "$stderr"
    done
}

@test "without arguments the server serves 127.0.0.1 port 65432" {
    own_network
    start_server "${app_server[@]}"
    assert_equal "$(cat "$tmp/out")" 'Listening on 127.0.0.1:65432'
    answers
    stops_without_a_word
}

@test "a second server on a busy port says so and ends with status 1" {
    start -q
    for workers in 1 3; do
        run timeout 5 "$build/$name" "${app_server[@]:1}" -w $workers 127.0.0.1 "$port"
        assert_failure 1
        assert_output "$name: listen on 127.0.0.1:$port: Address already in use"
    done
}

@test "IPv6 works, its addresses are in brackets, and :: serves both families" {
    own_network
    "${net[@]}" cat /proc/net/if_inet6 | grep -q . || skip "no IPv6 here"
    start_server "${app_server[@]}" ::1 0
    assert_equal "$(head -n 1 "$tmp/out")" "Listening on [::1]:$port"
    answers
    said 'Accepted connection from [::1]:'
    run client ::1 "$port" search ring
    assert_output "$ring"
    run client '[::1]' "$port" search ring
    assert_output "$ring"
    stop_server
    run client ::1 "$port" search ring
    assert_failure 1
    assert_output "$client_name: connect to [::1]:$port: Connection refused"
    start_server "${app_server[@]}" :: 0
    run client 127.0.0.1 "$port" search ring
    assert_output "$ring"
    said 'Accepted connection from 127.0.0.1:'
    run client ::1 "$port" search ring
    assert_output "$ring"
    stops_without_a_word
}

@test "the server narrates, and -q leaves only where it listens, and a peer's fault" {
    for server_under_test in "${servers[@]}"; do
        start
        app_peer connect search ring result 'In the caves beneath the Misty Mountains. 💍' close
        said 'Closing connection'
        app_peer connect message binary/uint32-array binary '' response message text/plain x hello response close
        closings 2
        app_peer connect search ring header '[]' '' \
            result 'In the caves beneath the Misty Mountains. 💍' error 'header: not an object' end close
        closings 3
        stop_server
        assert_equal "$(sed 's/127.0.0.1:[0-9]*/A/' "$tmp/out")" 'Listening on A
Accepted connection from A
Received request {"action": "search", "value": "ring"} from A
Sending response to A
Closing connection to A
Accepted connection from A
Received binary/uint32-array request from A
Sending response to A
Received text/plain request from A
Sending response to A
Closing connection to A
Accepted connection from A
Received request {"action": "search", "value": "ring"} from A
Sending response to A
Closing connection to A: header: not an object'
        assert_equal "$(cat "$tmp/err")" "$name: connection from $(tail -n 1 "$tmp/out" | grep -o '127.0.0.1:[0-9]*'): header: not an object"

        start -q
        answers
        app_peer connect header '[]' '' error 'header: not an object' end close
        stop_server
        assert_equal "$(cat "$tmp/out")" "Listening on 127.0.0.1:$port"
        assert_equal "$(grep -c . "$tmp/err")" 1
    done
}

@test "what a peer sends reaches the terminal as printable text only" {
    start
    app_peer connect message $'x\x1b[2J\x7f' y '\x1b' response close
    said 'Received x\x1b[2J\x7f request from'
    app_peer connect header '{"byteorder": "little", "content-type": "\u001b[2J\n%n\u009b\u202e🐶", "content-encoding": "", "content-length": 0}' '' response close
    said 'Received \x1b[2J\n%n\xc2\x9b\xe2\x80\xae🐶 request from'
    app_peer connect message text/json utf-8 '{"\x1b[2J": "\xc2\x9b\xff\n"}' lost
    said 'Received request {"\x1b[2J": "\xc2\x9b\xff\n"}'
    app_peer connect header '{"byteorder": "\u001b[2J\u0007"}' '' close
    complained "header: byteorder is '\\x1b[2J\\a', not"
    stop_server
    run grep -P '[\x00-\x09\x0b-\x1f\x7f\x9b]' "$tmp/out" "$tmp/err"
    assert_failure 1
}

@test "at most 64 bytes of a request are shown, and no character in halves" {
    start
    app_peer connect search "$(printf 'é%.0s' {1..100})" response close
    said 'Received request {"action": "search", "value": "éééééééééééééééé… (233 bytes) from'
    app_peer connect message "$(printf '%070000d' 0 | head -c 60000)" x y response close
    said "Received $(printf '%064d' 0)… (60000 bytes) request from"
    stop_server
}

@test "a full disk on standard output is an error" {
    run timeout 5 bash -c '"$@" 127.0.0.1 0 >/dev/full' - "$build/$name" "${app_server[@]:1}"
    assert_failure 1
    assert_output "$name: standard output: No space left on device"
    start -q
    for request in "search ring" "sum 1" "hello"; do
        read -ra words <<<"$request"
        run timeout 5 bash -c '"$@" >/dev/full' - "$build/$client_name" "${app_client[@]:1}" 127.0.0.1 "$port" "${words[@]}"
        assert_failure 1
        assert_output "$client_name: standard output: No space left on device"
    done
    run bash -c '"$1" encode hello >/dev/full' - "$build/message-tool"
    assert_failure 1
    assert_output "message-tool: standard output: No space left on device"
    run bash -c '"$1" encode hello | "$1" decode >/dev/full' - "$build/message-tool"
    assert_failure 1
    assert_output "message-tool: standard output: No space left on device"
    stops_without_a_word
}

@test "a reader of standard output that goes away is an error, not a signal" {
    mkfifo "$tmp/pipe"
    "$build/$name" "${app_server[@]:1}" 127.0.0.1 0 >"$tmp/pipe" 2>"$tmp/err" 3>&- &
    local process=$!
    started+=("$process")
    read -r _ _ at <"$tmp/pipe"
    host=127.0.0.1 port=${at##*:}
    app_peer connect lost
    ended "$process" 1
    assert_equal "$(cat "$tmp/err")" "$name: standard output: Broken pipe"
}

@test "closed standard streams do no harm" {
    own_network
    "${net[@]}" "$build/$name" "${app_server[@]:1}" <&- >&- 2>&- 3>&- &
    local process=$!
    started+=("$process")
    wait_for listens 65432
    host=127.0.0.1 port=65432
    answers
    app_peer connect header '[]' '' error 'header: not an object' end
    run "${net[@]}" bash -c '"$@" 127.0.0.1 65432 search ring >&- 2>&- <&-' - "$build/$client_name" "${app_client[@]:1}"
    assert_success
    run "${net[@]}" bash -c '"$@" 127.0.0.1 65432 - <&-' - "$build/$client_name" "${app_client[@]:1}"
    assert_success
    assert_output ""
    kill "$process"
    ended "$process" 0
}

@test "no descriptor is inherited by programs that a later version may start" {
    for server_under_test in "${servers[@]}" "${servers[0]} -w 2"; do
        start -q
        start_app_peer held connect search x result "No match for 'x'." say held hold
        peer_says held
        local process least=4 # the listener, the signal pipe, the client
        for process in "$server" $(workers); do
            [[ $server_under_test != *-w* ]] || least=1
            descriptors_close_on_exec "$process" $least
        done
        kill "$peer"
        stop_server
    done
    start_app_peer silent listen request say heard hold
    start_client 127.0.0.1 "$peer_port" search x
    peer_says heard
    descriptors_close_on_exec "$client" 1
}

# --- Answers -----------------------------------------------------------------

@test "our client has the answers that the specification promises" {
    start -q
    asks() { # WANTED ACTION [VALUE...]
        run --separate-stderr client 127.0.0.1 "$port" "${@:2}"
        assert_equal "$status: $stderr" "0: "
        assert_output "$1"
    }
    asks 'Got result: Follow the white rabbit. 🐰' search morpheus
    asks "$ring" search ring
    asks 'Got result: 🐾 Playing ball! 🏐' search 🐶
    asks "Got result: No match for 'Ring'." search Ring
    asks "Got result: No match for ''." search ''
    asks "Got result: No match for ' ring'." search ' ring'
    asks "Got result: No match for 'a\"b\\\\c\\n\\t\\x1b{}'." search $'a"b\\c\n\t\e{}'
    asks "Got result: No match for 'it's'." search "it's"
    local long
    long=$(printf '%065536d' 0)
    asks "Got result: No match for '$long'." search "$long"
    asks 'Got sum: 0' sum
    asks 'Got sum: 6' sum 1 2 3
    asks 'Got sum: 12884901885' sum 4294967295 4294967295 4294967295
    asks 'Got sum: 7' sum 007
    asks "Got response: 'First 10 bytes of request: hello'" hello
    asks "Got response: 'First 10 bytes of request: hellotwowo'" hello two words
    asks "Got response: 'First 10 bytes of request: '" ''
    asks "Got response: 'First 10 bytes of request: \\x01\\xff\\\\'" $'\x01\xff\\'
    asks "Got response: 'First 10 bytes of request: 0000000000'" "$long" "$long" "$long"
    asks "Got response: 'First 10 bytes of request: binarysum'" binary sum
    stops_without_a_word
}

@test "words that are no request are refused before anything is sent" {
    start
    refuses() { # WHY ACTION [VALUE...]
        for program in "$client_name" message-tool; do
            local command=("$build/$client_name" "${app_client[@]:1}" 127.0.0.1 "$port")
            [[ $program == "$client_name" ]] || command=("$build/$program" encode)
            run --separate-stderr timeout 5 "${command[@]}" "${@:2}"
            assert_equal "$status: ${*:2}" "2: ${*:2}"
            assert_output ""
            assert_equal "${stderr_lines[0]}" "$program: request '$2': $1"
            assert_equal "${stderr_lines[1]%% \[*}" "Usage: $program"
        done
    }
    refuses 'search takes one value' search
    refuses 'search takes one value' search a b
    refuses 'the value is not UTF-8, or there is no memory' search $'\xff'
    for number in -1 4294967296 1x '' ' 1' 1.5 99999999999999999999 18446744073709551616; do
        refuses 'sum takes numbers from 0 to 4294967295' sum 1 "$number"
    done
    stop_server
    run grep -v '^Listening on' "$tmp/out"
    assert_output ""
}

@test "frames made by message-tool and sent by nc are answered" {
    start -q
    open_tunnel
    talk() { timeout 10 "${net[@]}" nc -N 127.0.0.1 "$plain_port" | "$build/message-tool" decode | sed -n 's/^content  *//p'; }
    encode() { "$build/message-tool" encode "$@"; }
    assert_equal "$(encode search ring | talk)" "'{\"result\": \"In the caves beneath the Misty Mountains. 💍\"}'"
    assert_equal "$(encode sum 1 2 3 | talk | sed 's/\\x00//g')" "'\\x06'"
    assert_equal "$(encode hello | talk)" "'First 10 bytes of request: hello'"
    run talk < <(encode search a; encode x; encode search b; encode sum; encode search c | head -c 50)
    assert_line --index 0 "'{\"result\": \"No match for \\'a\\'.\"}'"
    assert_line --index 1 "'First 10 bytes of request: x'"
    assert_line --index 2 "'{\"result\": \"No match for \\'b\\'.\"}'"
    assert_line --index 3 "'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'"
    assert_line --index 4 "'{\"error\": \"end of stream inside the header\"}'"
    assert_equal "${#lines[@]}" 5
    run bash -c 'printf "GET / HTTP/1.1\r\n\r\n" | timeout 10 nc -N 127.0.0.1 '"$plain_port | $build/message-tool decode"
    assert_line "content          '{\"error\": \"end of stream inside the header\"}'"
}

@test "another implementation gets the answers of the specification: every kind of request, whole and extreme" {
    for server_under_test in "${servers[@]}"; do
        start -q
        in_each_version app_peer answers
        open_tunnel
        run timeout 10 "$python3" tests/helpers/protocol.py ask 127.0.0.1 "$plain_port"
        assert_output '{"result": "In the caves beneath the Misty Mountains. 💍"}
4294967298
4294967298'
        stops_without_a_word
    done
}

@test "our client has the same answers from the server of another implementation" {
    start_reference_server
    start -q
    for request in "search ring" "search 🐶" "search ä\"\\" "sum 1 2 4294967295" "sum" "hello there" "search $(printf '%060000d' 0)"; do
        read -ra request <<<"$request"
        run client 127.0.0.1 "$reference_port" "${request[@]}"
        assert_success
        local theirs=$output
        run client 127.0.0.1 "$port" "${request[@]}"
        assert_success
        assert_output "$theirs"
    done
}

# bats test_tags=tcp
@test "message-tool shows what it made, cut anywhere, and refuses what breaks a rule" {
    local tool=$build/message-tool
    for request in "search ring" "sum 1 65536" "hello"; do
        read -ra words <<<"$request"
        "$tool" encode "${words[@]}" >"$tmp/message"
        run "$tool" decode <"$tmp/message"
        assert_success
        assert_line --regexp '^content-length +[0-9]+$'
        local whole=$output
        run timeout 10 env "LD_PRELOAD=$build/shim.so" SHIM_RECEIVE=1 "$tool" decode <"$tmp/message"
        assert_output "$whole"
        run bash -c 'head -c 1 "$1" | "$2" decode' - "$tmp/message" "$tool"
        assert_failure 1
        assert_output "message-tool: standard input: end of stream inside the length"
        run bash -c 'head -c 40 "$1" | "$2" decode' - "$tmp/message" "$tool"
        assert_failure 1
        assert_output "message-tool: standard input: end of stream inside the header"
        run bash -c 'head -c -1 "$1" | "$2" decode' - "$tmp/message" "$tool"
        assert_failure 1
        assert_output "message-tool: standard input: end of stream inside the content"
    done
    run "$tool" decode </dev/null
    assert_success
    assert_output ""
    run "$tool" decode < <(printf '\0\2[]')
    assert_failure 1
    assert_output "message-tool: standard input: header: not an object"
    run "$tool" decode <.
    assert_failure 1
    assert_output "message-tool: standard input: Is a directory"
}

# --- What breaks a rule ------------------------------------------------------

@test "each broken rule has its error, then the end; nobody else notices" {
    for server_under_test in "${servers[@]}"; do
        start -q
        run app_peer errors
        assert_success
        local count=${output% errors}
        ((count > 150)) || fail "only $count"
        stop_server
        # Each is told on standard error, too, with the peer's name.
        run grep -cE "^$name: connection from 127.0.0.1:[0-9]+: (header|content): [^[:cntrl:]]+$" "$tmp/err"
        assert_output "$count"
        assert_equal "$(grep -c . "$tmp/err")" "$count"
    done
}

@test "the end at any byte of a message is an error that names the place; between messages it is none" {
    for server_under_test in "${servers[@]}"; do
        start -q
        run app_peer truncated
        assert_success
        stop_server
        assert_equal "$(grep -c 'end of stream inside the ' "$tmp/err") errors" "$output"
        assert_equal "$(grep -c . "$tmp/err") errors" "$output"
    done
    over_tls || return 0
    # Nobody vouches for an end without close_notify; but all is answered.
    start
    app_peer connect search ring response drop
    said ': truncated: it ended without close_notify'
    stops_without_a_word
}

# --- A stream has no messages ------------------------------------------------

@test "a request cut at any byte is answered as a whole one" {
    for server_under_test in "${servers[@]}"; do
        start -q
        in_each_version app_peer cuts
        stops_without_a_word
    done
}

@test "a kernel that gives and takes a few bytes at a time changes nothing" {
    for server_under_test in "${servers[@]}"; do
        for limits in SHIM_RECEIVE=1 SHIM_SEND=1 "SHIM_RECEIVE=7 SHIM_SEND=3"; do
            read -ra limits <<<"LD_PRELOAD=$build/shim.so $limits"
            server_env=("${limits[@]}")
            start -q
            app_peer polite 10
            app_peer pipelined 20
            stop_server
        done
    done
    start -q
    for limits in SHIM_RECEIVE=1 SHIM_SEND=1 SHIM_EINTR=3; do
        run client_with "$limits" 127.0.0.1 "$port" search ring
        assert_output "$ring"
        run client_with "$limits" 127.0.0.1 "$port" - < <(printf 'search ring\nsum 1 2\n')
        assert_output "$ring
Got sum: 3"
    done
}

@test "calls that a signal interrupts are made again" {
    server_env=("LD_PRELOAD=$build/shim.so" SHIM_EINTR=3)
    for server_under_test in "${servers[@]}"; do
        start -q
        app_peer polite 30
        app_peer pipelined 50
        # The shim does not spare a write to a self-pipe, as the kernel would.
        kill "$server"
        kill -INT "$server" 2>/dev/null || true
        ended "$server" 0
        run grep -v 'end of stream inside' "$tmp/err"
        assert_output ""
    done
}

@test "1,000 requests in one send are answered in order; half of one waits for the rest" {
    for server_under_test in "${servers[@]}"; do
        start -q
        in_each_version app_peer pipelined 1000
        stop_server
    done
}

@test "10,000 requests on one connection are answered in order, in flat memory" {
    for server_under_test in "${servers[@]}"; do
        start -q
        app_peer many "$server" 10000 "$(kilobytes 500)"
        stops_without_a_word
    done
}

@test "the smallest kernel buffers: real short sends, and nothing is lost" {
    own_network
    "${net[@]}" sh -c 'echo 4096 4096 4096 >/proc/sys/net/ipv4/tcp_rmem &&
        echo 4096 4096 4096 >/proc/sys/net/ipv4/tcp_wmem' ||
        skip "this user may not set the buffers of a network namespace"
    for server_under_test in "${servers[@]}"; do
        start -q -t 20
        app_peer polite 20
        app_peer pipelined 100
        run client -t 20 127.0.0.1 "$port" search "$(printf '%0100000d' 0)"
        assert_output "Got result: No match for '$(printf '%0100000d' 0)'."
        stop_server
    done
}

@test "a server that is stopped and continued in mid-stream loses nothing, and signals without a meaning do no harm" {
    for server_under_test in "${servers[@]}"; do
        start
        app_peer pipelined 300 &
        local transfer=$!
        for count in 20 100 200; do
            wait_for responses_begun $count
            kill -STOP "$server"
            wait_for stopped "$server"
            kill -CONT "$server"
            for signal in CHLD WINCH URG PIPE CONT; do
                kill -$signal "$server"
            done
        done
        wait $transfer
        stop_server
    done
}

# --- Limits ------------------------------------------------------------------

@test "a content-length over the limit is refused before its content comes, and one within takes no memory in advance" {
    for most in 1048576 1073741824; do
        start -q -m $most
        app_peer announced "$server" $most "$(kilobytes "$(either 4000 6000)")"
        stop_server
    done
}

@test "-m is the limit of content, but not of JSON, to the byte" {
    for most in 0 1 4096 1048576 4000000; do
        start -q -m $most
        app_peer sized $most
        stop_server
    done
    start -q
    app_peer sized 1048576
    stop_server
    start -q -m 3000
    run app_peer errors 3000
    assert_success
    stop_server
}

@test "JSON may be nested 2,048 deep and no deeper" {
    start -q
    app_peer deep
    stop_server
}

@test "the most expensive legal messages take bounded time and memory" {
    start -q
    app_peer costly "$server" "$(kilobytes 60000)"
    stop_server
}

@test "clients that send the most expensive messages without end do not keep others from their answers" {
    for server_under_test in "${servers[@]}"; do
        start -q
        app_peer fair
        stop_server
    done
}

# bats test_tags=tcp
@test "who is costly leaves turns to the others first: pipelined, connected anew, or refused in the end" {
    for server_under_test in "${servers[@]}"; do
        start -q
        for way in pipelines reconnects refused-content refused-header; do
            app_peer pays $way
        done
        stop_server
    done
}

@test "a rest ends after 2 s, with the answer, however long the turns of the others are" {
    needs_strace
    for server_under_test in "${servers[@]}"; do
        # 2,000 such turns would take 10 s.
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o /dev/null -e "trace=$waits"
            -e "inject=$waits:delay_exit=5000")
        start_apart -q -t 0.5
        in_background rests-long
    done
    for server_under_test in "${servers[@]}"; do
        ends_apart
        stops_without_a_word
    done
}

@test "a server that stops does not wait for the end of a rest" {
    needs_strace
    for server_under_test in "${servers[@]}"; do
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o /dev/null -e "trace=$waits"
            -e "inject=$waits:delay_exit=5000")
        start
        app_peer stop-in-rest "$server"
        ended "$server" 0
        assert_equal "$(grep -c 'Closing connection to .*: the server stops' "$tmp/out")" 2
    done
}

@test "-n is how many are served at a time: the next waits until one goes" {
    for server_under_test in "${servers[@]}"; do
        start -q -n 3
        app_peer full 3
        stop_server
        start -q -n 1
        app_peer full 1
        stop_server
    done
}

# bats test_tags=tcp
@test "-n holds within one turn, too: of ten who have come at once, three are accepted" {
    for server_under_test in "${servers[@]}"; do
        start -n 3
        app_peer at-once "$server" 10
        stop_server
        run awk '/^Accepted/ && ++now > most { most = now }
            /^Closing/ { now-- }
            END { print most }' "$tmp/out"
        assert_output 3
    done
}

# --- Deadlines ---------------------------------------------------------------

@test "each phase ends at its deadline, not before, and no byte puts it off" {
    for server_under_test in "${servers[@]}"; do
        start_apart -q -t 0.5
        in_background deadlines 0.5
        in_background slow-content 0.5
    done
    for server_under_test in "${servers[@]}"; do
        ends_apart
        stop_server
        assert_equal "$(sed 's/.*:[0-9]*: //' "$tmp/err" | sort | uniq -c | awk '{ $1 = $1 } 1')" "2 no request after 0.5 s
8 request not complete after 0.5 s
2 response not taken after 0.5 s"
    done
}

# bats test_tags=tcp
@test "a client that is given up while its response waits is told so by a reset, not by an end" {
    needs_strace
    for server_under_test in "${servers[@]}"; do
        # No send() finds room, and so the response waits until -t.
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o /dev/null -e "trace=$sends"
            -e "inject=$sends:error=EAGAIN")
        start -q -t 0.3
        app_peer connect search x cut
        complained ': response not taken after 0.3 s'
        stop_server
    done
}

@test "after an error, at most 2 s are waited for the client, whatever -t is" {
    for server_under_test in "${servers[@]}"; do
        start_apart -t 60
        in_background connect header '[]' '' error 'header: not an object' end say now hold
    done
    local began=${EPOCHREALTIME/./}
    for server_under_test in "${servers[@]}"; do
        apart
        server=$(cat "$tmp/server")
        said 'Closing connection'
        ((${EPOCHREALTIME/./} - began > 1000000)) || fail "closed too early"
        stop_server
    done
}

@test "after an error, at most 1 MiB is taken from a client that goes on" {
    for server_under_test in "${servers[@]}"; do
        start -q
        app_peer drained
        stop_server
    done
}

@test "an error reaches a client that is still sending 10 MB, or that sends 1 MB first" {
    # nc does not read any more when its sending has failed, so it sends no
    # more than the server takes after an error.
    printf '\0\2[]' >"$tmp/in"
    head -c 1000000 /dev/zero >>"$tmp/in"
    for server_under_test in "${servers[@]}"; do
        start -q
        app_peer late-error
        open_tunnel
        for _ in 1 2 3; do
            timeout 10 "${net[@]}" nc -N 127.0.0.1 "$plain_port" <"$tmp/in" >"$tmp/back"
            run "$build/message-tool" decode <"$tmp/back"
            assert_success
            assert_line "content          '{\"error\": \"header: not an object\"}'"
        done
        stop_server
    done
}

@test "a clock that is set does not matter" {
    # The shim sets it an hour ahead whenever somebody looks.
    for server_under_test in "${servers[@]}"; do
        server_env=("LD_PRELOAD=$build/shim.so")
        start -q -t 60
        hold_phase idle 1 request
        answers
        release
        stops_without_a_word
    done
    start -q
    run client_with "" 127.0.0.1 "$port" search ring
    assert_output "$ring"
}

@test "a connection is not served any more in the turn that ends it" {
    needs_strace
    for server_under_test in "${servers[@]}"; do
        # This wait tells of a new request, and is late when it returns.
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o /dev/null -e "trace=$waits"
            -e "inject=$waits:delay_exit=1500000:when=$(either 3 5)")
        start_apart -t 1
        in_background connect search x result "No match for 'x'." search again lost
    done
    for server_under_test in "${servers[@]}"; do
        ends_apart
        use_port
        answers
        stop_server
        run grep -vE 'no request after 1 s|Connection reset by peer' "$tmp/err"
        assert_output ""
    done
}

@test "a server asks no name server who its clients are" {
    # Whoever asks one waits three seconds for the answer.
    server_env=("LD_PRELOAD=$build/shim.so" SHIM_RESOLVER=3)
    start -q -t 2
    run client_with SHIM_RESOLVER=3 -t 2 127.0.0.1 "$port" search ring
    assert_output "$ring"
    stops_without_a_word
}

# --- Rude clients ------------------------------------------------------------

@test "100 polite clients, then beside rude ones, see no error" {
    for server_under_test in "${all_servers[@]}"; do
        start -q -t 5
        app_peer polite 100
        in_each_version app_peer rude 100 &
        local rude=$! seed=2
        app_peer polite 100 $((seed++))
        until gone $rude; do
            app_peer polite 30 $((seed++))
        done
        wait $rude
        app_peer polite 100 $((seed++))
        stop_server
    done
}

@test "a client that resets, at any byte, costs one line on standard error and no signal" {
    for server_under_test in "${servers[@]}"; do
        start
        app_peer reset-everywhere
        app_peer sigpipe "$tmp/out"
        complained ': Broken pipe'
        answers
        stop_server
        run grep -vE "^$name: connection from 127.0.0.1:[0-9]+: (Connection reset by peer|Broken pipe|end of stream inside the [a-z]+)\$" "$tmp/err"
        assert_output ""
        # Each at most once; but a port may have been that of two, in turn.
        run awk '
            NR == FNR && /^Closing connection/ { sub(/:$/, "", $4); closed[$4]++ }
            NR != FNR && match($0, /127.0.0.1:[0-9]+/) { told[substr($0, RSTART, RLENGTH)]++ }
            END { for (peer in told) if (told[peer] > closed[peer]) print peer, told[peer], closed[peer] }' \
            "$tmp/out" "$tmp/err"
        assert_output ""
    done
}

@test "a client that ends in mid-request, and is gone when that is seen, is let go at once" {
    for server_under_test in "${all_servers[@]}"; do
        start
        app_peer gone-at-the-end "$server"
        closings 2 # not only when its time is over
        answers
        stop_server
    done
}

@test "floods of garbage, of zeros and of requests nobody reads do not disturb others" {
    for server_under_test in "${servers[@]}"; do
        start -q
        open_tunnel
        head -c 20000000 /dev/urandom >"$tmp/garbage"
        for _ in 1 2; do
            timeout 20 "${net[@]}" nc 127.0.0.1 "$plain_port" <"$tmp/garbage" >/dev/null 2>&1 3>&- &
            started+=("$!")
            timeout 20 "${net[@]}" nc 127.0.0.1 "$plain_port" </dev/zero >/dev/null 2>&1 3>&- &
            started+=("$!")
        done
        hold_phase response 3
        app_peer polite 50
        stop_server
    done
}

# bats test_tags=tcp
@test "a client that floods gets one receive a turn" {
    needs_strace
    for server_under_test in "${servers[@]}"; do
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o "$tmp/trace"
            -e "trace=$waits,read,recvfrom,recvmsg")
        start -q -m 1000000000
        start_app_peer flood connect header '{"byteorder": "little", "content-type": "x", "content-encoding": "", "content-length": 999999999}' '' zeros 999999999
        wait_for at_least 30000 "$tmp/trace"
        answers
        # What it reads when it is told to stop is another thing.
        cp "$tmp/trace" "$tmp/before"
        kill "$peer"
        stop_server
        run awk -F '[(,]' '
            /^(p?select|p?poll|epoll_)/ { delete heard; begun = 1; next }
            begun && /^[a-z]+\([0-9]/ && heard[$2]++ { again++ }
            /^recv/ { all++ }
            END { print (all > 100 && !again) ? "once" : again + 0 " of " all }' "$tmp/before"
        assert_output once
    done
}

@test "requests, ends, resets and newcomers in one turn do not mix, though descriptors are used anew" {
    for server_under_test in "${servers[@]}"; do
        start -q
        app_peer mixed "$server"
        answers
        stop_server
    done
}

@test "900 clients that are slow are served, and one that is not, too" {
    for server_under_test in "${servers[@]}"; do
        start -q
        : >"$tmp/slow"
        start_app_peer slow slow 900
        peer_says '900 slow'
        answers
        app_peer polite 20
        release
        stops_without_a_word
    done
}

@test "10,000 idle connections on epoll take less than 20 MB; over TLS, 1,000 less than 35 MB" {
    local count most
    count=$(either 10000 1000) most=$(either 20000 35000)
    needs_descriptors $((count + 100))
    own_network
    server_under_test=${servers[0]}
    start -q
    hold_phase idle "$count"
    peer_says "$count held, 0 refused"
    local memory
    memory=$(resident "$server")
    ((memory < $(kilobytes "$most"))) || fail "$count connections take $memory kB"
    release
    stops_without_a_word
}

@test "1,100 clients: select() takes what fits into its sets and refuses the others, poll() and epoll take all" {
    needs_descriptors 4096
    for server_under_test in "${all_servers[@]}"; do
        server_env=(prlimit --nofile=4096)
        start -q
        hold_phase idle 1100
        run cat "$tmp/held"
        [[ $output =~ ([0-9]+)\ held,\ ([0-9]+)\ refused ]]
        local refused=${BASH_REMATCH[2]}
        case $server_under_test in
        *select) ((refused > 76 && refused < 90)) || fail "$output" ;;
        *) ((refused == 0)) || fail "$output" ;;
        esac
        wait_for lines_of_err "$refused"
        run grep -vE "^$name: connection from 127.0.0.1:[0-9]+: descriptor 1[0-9]{3}: too high for select\(\)\$" "$tmp/err"
        assert_output ""
        release # and those who are held have one more answer
        answers
        stop_server
    done
}

@test "a server that is started with 1,024 descriptors open does not write past a set" {
    needs_descriptors 4096
    for server_under_test in "${servers[@]}"; do
        read -ra words <<<"$server_under_test"
        run timeout 5 "$python3" - "$build/${words[0]}" "${words[@]:1}" 127.0.0.1 0 <<'PYTHON'
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
            assert_line --regexp "^$name: .*[a-z]"
        fi
    done
}

@test "without descriptors the server says so once, does not spin, and goes on when there are some again" {
    for server_under_test in "${servers[@]}"; do
        server_env=(prlimit --nofile=20)
        start -q
        hold_phase idle 8
        start_app_peer more hold 10 idle
        complained "$name: accept: Too many open files"
        local before
        before=$(ticks "$server")
        sleep 0.5
        (($(ticks "$server") - before <= 3)) || fail "the server is busy waiting"
        assert_equal "$(grep -c . "$tmp/err")" 1
        release # connections of its own close
        wait_for grep -q '10 held, 0 refused' "$tmp/more"
        kill "$peer"
        ended "$peer" 0
        stop_server
    done
}

@test "without descriptors the server recovers although no connection of its own closes" {
    for server_under_test in "${servers[@]}"; do
        start -q
        hold_phase idle 8
        # Fewer than it has; for fewer than it watches, poll() would fail.
        prlimit --pid "$server" --nofile=13:
        start_app_peer waiting hold 1 idle
        complained "$name: accept: Too many open files"
        prlimit --pid "$server" --nofile=100:
        wait_for grep -q '1 held' "$tmp/waiting"
        # And when it happens again, it is said again.
        prlimit --pid "$server" --nofile=13:
        start_app_peer again connect search x hold
        wait_for lines_of_err 2
        release
        stop_server
    done
}

@test "without memory a connection is dropped, and the others go on" {
    ! sanitized || skip "a sanitizer needs memory without a limit"
    for server_under_test in "${servers[@]}"; do
        start -q
        hold_phase idle 10
        local data
        data=$(awk '/^VmData/ { print $2 * 1024 }' "/proc/$server/status")
        prlimit --pid "$server" --data="$((data + 300000)):"
        start_app_peer greedy connect header '{"byteorder": "little", "content-type": "x", "content-encoding": "", "content-length": 1000000}' '' zeros 999999 lost
        complained ': Cannot allocate memory'
        answers
        run grep -vE "^$name: connection from 127.0.0.1:[0-9]+: (.*: )?Cannot allocate memory" "$tmp/err"
        assert_output ""
        release
        stop_server
    done
}

@test "each error of accept that passes is survived" {
    needs_strace
    for server_under_test in "${servers[@]}"; do
        for error in EAGAIN ECONNABORTED ENFILE; do
            server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o /dev/null -e "trace=accept,accept4"
                -e "inject=accept,accept4:error=$error:when=1..2")
            start -q
            answers
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
        hold_phase idle 1
        app_peer connect lost # is taken by another process
        release
        answers
        stops_without_a_word
    done
}

@test "a wait that a signal interrupts goes on, and one that cannot work ends the program" {
    needs_strace
    for server_under_test in "${servers[@]}"; do
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o /dev/null -e "trace=$waits"
            -e "inject=$waits:error=EINTR:when=1..6")
        start -q
        answers
        stops_without_a_word
        server_env[-1]="inject=$waits:error=EBADF:when=3"
        start -q
        app_peer connect search x lost || true
        ended "$server" 1
        run cat "$tmp/err"
        assert_output --regexp "^$name: [a-z]+: Bad file descriptor\$"
    done
}

@test "every system call of the programs fails once: no crash, no hang, no wrong bytes" {
    needs_strace
    run timeout 120 "$python3" tests/helpers/torture.py "$build" "${servers[@]}" \
        "${app_client[*]} @ search ring" "${app_client[*]} @ -"
    assert_success
    [[ $output =~ ([0-9]+)\ calls ]]
    ((BASH_REMATCH[1] > 100)) || fail "too few calls were tried: $output"
}

@test "connections that end in every way leave no descriptor and no memory behind" {
    for server_under_test in "${servers[@]}"; do
        start -q
        local before memory
        before=$(descriptors "$server")
        app_peer churn 300
        wait_for has_descriptors "$server" "$before"
        memory=$(resident "$server")
        app_peer churn 2000
        wait_for has_descriptors "$server" "$before"
        memory=$(($(resident "$server") - memory))
        ((memory < $(kilobytes 500))) || fail "grew by $memory kB"
        stop_server
    done
}

@test "no descriptor is closed twice" {
    needs_strace
    for server_under_test in "${servers[@]}"; do
        server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o "$tmp/trace" -e "trace=close")
        start
        answers # and what is opened for the first answer only is closed again
        closings 1
        local before
        before=$(grep -c 'close(' "$tmp/trace")
        app_peer connect search x result "No match for 'x'." half-close end
        app_peer connect search x result "No match for 'x'." reset
        app_peer connect header '[]' '' error 'header: not an object' end close
        closings 4
        wait_for closed_in_trace $((before + 3))
        stop_server
        run grep EBADF "$tmp/trace"
        assert_failure
    done
}
closed_in_trace() { (($(grep -c 'close(' "$tmp/trace") == $1)); }

# --- Nothing to do -----------------------------------------------------------

@test "idle connections cost no processor time" { costs_no_time idle 100; }
@test "connections with half a request cost no processor time" { costs_no_time request 100; }
@test "connections whose response waits cost no processor time" { costs_no_time response 3; }
@test "connections that are closing cost no processor time" { costs_no_time closing 5; }

@test "a server that is full, and has clients waiting, costs no processor time" {
    for server_under_test in "${servers[@]}"; do
        start_apart -q -n 5
        hold_phase idle 5
        start_app_peer waiting connect search x hold
    done
    measure_nothing
}

# --- Stopping and starting ---------------------------------------------------

@test "SIGINT and SIGTERM stop a server with status 0 in every phase, also twice" {
    local -a processes=()
    local signal=INT process took
    for server_under_test in "${servers[@]}"; do
        for phase in none idle request response closing; do
            tmp=$BATS_TEST_TMPDIR/${server_under_test//[ \/]/}-$phase
            mkdir "$tmp"
            start -q
            processes+=("$server")
            [[ $phase == none ]] || hold_phase $phase 2
        done
    done
    local began=${EPOCHREALTIME/./}
    for process in "${processes[@]}"; do
        kill -$signal "$process"
        [[ $signal == INT ]] || kill -TERM "$process" 2>/dev/null || true
        if [[ $signal == INT ]]; then signal=TERM; else signal=INT; fi
    done
    for process in "${processes[@]}"; do
        ended "$process" 0
    done
    took=$((${EPOCHREALTIME/./} - began))
    ((took < 6000000)) || fail "it took $took µs"
}

@test "a response on its way comes whole when the server stops, then the end" {
    for server_under_test in "${servers[@]}"; do
        start
        app_peer stop-in-response "$server" "$tmp/out"
        ended "$server" 0
        # Who only looks whether the server still listens says no hello.
        run grep -v ': the peer ended it before it was complete$' "$tmp/err"
        assert_output ""
    done
}

@test "clients that flood do not keep a server from stopping" {
    "$build/message-tool" encode search ring >"$tmp/requests"
    for _ in {1..11}; do
        cat "$tmp/requests" "$tmp/requests" >"$tmp/twice"
        mv "$tmp/twice" "$tmp/requests"
    done
    for server_under_test in "${servers[@]}"; do
        start -q
        open_tunnel
        local floods=()
        for _ in 1 2 3 4; do
            (while cat "$tmp/requests"; do :; done) 2>/dev/null 3>&- |
                nc 127.0.0.1 "$plain_port" >/dev/null 2>&1 3>&- &
            floods+=("$!")
        done
        started+=("${floods[@]}")
        wait_for has_used "$server" 10
        stop_server
    done
}

@test "a standard output that nobody reads does not keep a server from stopping" {
    mkfifo "$tmp/pipe"
    exec {reader}<>"$tmp/pipe"
    "$build/$name" "${app_server[@]:1}" 127.0.0.1 0 >"$tmp/pipe" 2>"$tmp/err" 3>&- {reader}>&- &
    server=$!
    started+=("$server")
    local at
    read -r _ _ at <&"$reader"
    host=127.0.0.1 port=${at##*:}
    start_app_peer flood pipelined 5000
    wait_for waits_to_write "$server"
    stop_server
}

@test "a standard output that does not block, and is full, ends nothing and loses no line" {
    mkfifo "$tmp/pipe"
    exec {reader}<>"$tmp/pipe"
    "$python3" -c 'import os, sys; os.set_blocking(1, False); os.execv(sys.argv[1], sys.argv[1:])' \
        "$build/$name" "${app_server[@]:1}" 127.0.0.1 0 >"$tmp/pipe" 2>"$tmp/err" 3>&- {reader}>&- &
    server=$!
    started+=("$server")
    local at
    read -r _ _ at <&"$reader"
    host=127.0.0.1 port=${at##*:}
    start_app_peer flood pipelined 1000
    wait_for pipe_holds 60000
    cat <&"$reader" >"$tmp/out" 3>&- {reader}>&- &
    started+=("$!")
    ended "$peer" 0
    wait_for responses_begun 1000
    stop_server
    run grep -v 'end of stream inside' "$tmp/err"
    assert_output ""
    run grep -vE '^(Accepted connection|Received request|Received [^ ]+ request|Sending response|Closing connection) .*[0-9](: .*)?$' "$tmp/out"
    assert_output ""
}
pipe_holds() { # BYTES
    (($("$python3" -c 'import array, fcntl, termios
count = array.array("i", [0])
fcntl.ioctl(0, termios.FIONREAD, count)
print(count[0])' <&"$reader") >= $1))
}

@test "who is closing when the server stops has a second from then on, like all" {
    needs_strace
    server_env=(ASAN_OPTIONS=detect_leaks=0 strace -D -qq -o "$tmp/trace" -e 'trace=?epoll_wait,?epoll_pwait,read')
    server_under_test=${servers[0]}
    start
    hold_phase closing 1
    kill "$server"
    ended "$server" 0
    run awk '/^read\(.*"\\17", 1\)/ { told = 1 }
        told && /^epoll/ { sub(/(, NULL, [0-9]+)?\) += .*/, ""); if ($NF > 1001) print; waits++ }
        END { print waits ? "waits" : "none" }' "$tmp/trace"
    assert_output waits
}

@test "a signal right before a wait is not slept through" {
    for server_under_test in "${servers[@]}"; do
        for wait in 1 2 3; do
            server_env=("LD_PRELOAD=$build/shim.so" "SHIM_TERM=$wait")
            start -q
            # Each client makes at least one wait end.
            [[ $wait -eq 1 ]] || app_peer connect search x lost || true
            ended "$server" 0
        done
    done
}

@test "a signal at any moment of 160 starts, services and stops is honoured" {
    host=127.0.0.1 port=0
    for server_under_test in "${servers[@]}" "${app_server[*]} -w 2"; do
        read -ra words <<<"$server_under_test"
        app_peer signals "$build/${words[0]}" "${words[@]:1}"
    done
}

@test "a restart on the same port works while old connections are in TIME_WAIT" {
    own_network
    start_server "${app_server[@]}" -t 0.1 127.0.0.1 65432
    # The server's deadline makes it the side that closes first.
    app_peer connect end
    stop_server
    wait_for in_time_wait 65432
    start_server "${app_server[@]}" 127.0.0.1 65432
    answers
    stop_server
}

# --- Workers -----------------------------------------------------------------

@test "-w 3: each of three processes serves, and SIGTERM or SIGINT to the first one stops all" {
    for signal in TERM INT; do
        start -w 3
        local worker others
        wait_for has_workers 3
        for worker in $(workers); do
            others=$(workers | grep -vx "$worker")
            # shellcheck disable=SC2086 # a list
            kill -STOP $others
            for other in $others; do wait_for stopped "$other"; done
            answers
            # shellcheck disable=SC2086
            kill -CONT $others
        done
        app_peer polite 100
        local all
        all=$(workers)
        stops_without_a_word $signal
        for worker in $all; do wait_for gone "$worker"; done
        assert_equal "$(grep -c '^Listening' "$tmp/out")" 1
    done
}

@test "with workers, a stop waits for a response on its way, and a terminal's Ctrl-C reaches all" {
    start -w 2
    app_peer stop-in-response "$server" "$tmp/out"
    ended "$server" 0
    start -q -w 2
    hold_phase idle 4
    wait_for has_workers 2
    # shellcheck disable=SC2046
    kill -INT "$server" $(workers)
    ended "$server" 0
    assert_equal "$(cat "$tmp/err")" ""
}

@test "a worker that is killed ends all, with status 1 and a line" {
    start -q -w 3
    wait_for has_workers 3
    local all victim
    all=$(workers)
    victim=$(head -n 1 <<<"$all")
    hold_phase idle 5
    kill -KILL "$victim"
    ended "$server" 1
    assert_equal "$(cat "$tmp/err")" "$name: worker $victim ended"
    for worker in $all; do wait_for gone "$worker"; done
}

@test "a worker that is killed while all stop is told, too, by status 1 and a line" {
    start -q -w 2
    wait_for has_workers 2
    local victim other
    read -r victim other <<<"$(workers | tr '\n' ' ')"
    kill -STOP "$victim"
    wait_for stopped "$victim"
    kill "$server"
    wait_for gone "$other"
    kill -KILL "$victim"
    ended "$server" 1
    assert_equal "$(cat "$tmp/err")" "$name: worker $victim ended"
}

@test "workers whose parent is killed end, too" {
    start -q -w 3
    wait_for has_workers 3
    local all
    all=$(workers)
    hold_phase request 5
    kill -KILL "$server"
    for worker in $all; do wait_for gone "$worker"; done
    ended "$server" 137
}

@test "workers leave no zombies, and cost no processor time while they wait" {
    start -q -w 3
    wait_for has_workers 3
    hold_phase idle 10
    local before=0 after=0 process
    for process in "$server" $(workers); do
        wait_for waits "$process"
        before=$((before + $(ticks "$process")))
    done
    sleep 0.5
    for process in "$server" $(workers); do after=$((after + $(ticks "$process"))); done
    assert_equal $after $before
    release
    assert_equal "$(ps -o stat= --ppid "$server" | grep -c '^Z')" 0
    stop_server
}

@test "-n counts for each worker" {
    start -q -w 2 -n 2
    wait_for has_workers 2
    hold_phase idle 4
    start_app_peer fifth connect search x result "No match for 'x'." say served hold
    release # only now there is room
    wait_for grep -q served "$tmp/fifth"
    stop_server
}

# --- app-client --------------------------------------------------------------

@test "the client says that it was refused, and that nobody answers" {
    own_network
    run --separate-stderr client 127.0.0.1 4321 search ring
    assert_failure 1
    assert_output ""
    assert_equal "$stderr" "$client_name: connect to 127.0.0.1:4321: Connection refused"
    net=()
    full_listener
    local began=${EPOCHREALTIME/./}
    run --separate-stderr client -t 0.4 127.0.0.1 "$full_port" search ring
    ((${EPOCHREALTIME/./} - began > 390000)) || fail "given up too early"
    assert_failure 1
    assert_equal "$stderr" "$client_name: connect to 127.0.0.1:$full_port: Connection timed out"
}

@test "each address of a name is tried, and the last error is told" {
    start -q
    over_tls && app_client+=(--name localhost) # what the certificate says
    run client_with "" two.example "$port" search ring
    assert_output "$ring"
    stop_server
    run client_with "" two.example "$port" search ring
    assert_failure 1
    assert_output "$client_name: connect to 127.0.0.1:$port: Connection refused"
}

@test "the client believes no hostile server: one line that says why, and status 1" {
    host=127.0.0.1 port=0
    ! sanitized || export SANITIZED=1
    run app_peer hostile-servers "$build/$client_name" "${app_client[@]:1}"
    [[ -z ${EVIDENCE:-} || $status -eq 0 ]] || ! grep -aqzx clock "$build/$client_name" || echo "evidence: the client asks clock()"
    assert_success
    [[ $output =~ ([0-9]+)\ servers ]]
    ((BASH_REMATCH[1] > 200)) || fail "$output"
}

@test "the client understands what is odd and legal, byte by byte, in both byte orders" {
    host=127.0.0.1 port=0
    in_each_version app_peer odd-servers "$build/$client_name" "${app_client[@]:1}"
}

@test "what comes after a whole response, a reset or nothing, is told, and does not spoil it" {
    start_app_peer hasty listen request result fine end reset
    run --separate-stderr client -t 5 127.0.0.1 "$peer_port" search ring
    assert_success
    assert_output "Got result: fine"
    assert_equal "$stderr" "$client_name: end of 127.0.0.1:$peer_port: Connection reset by peer"
    start_app_peer patient listen request result fine end hold
    run --separate-stderr client -t 5 127.0.0.1 "$peer_port" search ring
    assert_success
    assert_output "Got result: fine"
    assert_equal "$stderr" "$client_name: end of 127.0.0.1:$peer_port: Connection timed out"
    over_tls || return 0
    start_app_peer silent listen request result fine drop
    run --separate-stderr client -t 5 127.0.0.1 "$peer_port" search ring
    assert_success
    assert_output "Got result: fine"
    assert_equal "$stderr" "$client_name: end of 127.0.0.1:$peer_port: truncated: it ended without close_notify"
}

@test "what a server sends after an early response is forgotten, and read for 2 s at most" {
    # Without a limit of memory it would take gigabytes.
    local limit=(prlimit --data=200000000)
    ! sanitized || limit=()
    local without_end
    read -ra without_end <<<"$(printf 'zeros 300000000 %.0s' {1..100})"
    start_app_peer endless listen receive 100 message binary/x binary early "${without_end[@]}"
    run --separate-stderr timeout -s KILL 60 "${limit[@]}" "$build/$client_name" "${app_client[@]:1}" \
        127.0.0.1 "$peer_port" - < <(printf 'send '; head -c 10000000 /dev/zero | tr '\0' x)
    assert_success
    assert_output "Got response: 'early'"
    assert_equal "$stderr" "$client_name: end of 127.0.0.1:$peer_port: Connection timed out"
}

@test "a client that waits costs no processor time, and a stop and continue do not disturb it" {
    start_app_peer silent listen request say heard hold
    start_client -t 30 127.0.0.1 "$peer_port" search ring
    peer_says heard
    wait_for waits "$client"
    local before
    before=$(ticks "$client")
    sleep 0.3
    assert_equal "$(ticks "$client")" "$before"
    for _ in 1 2 3; do
        kill -STOP "$client"
        wait_for stopped "$client"
        kill -CONT "$client"
        wait_for waits "$client"
    done
    assert_equal "$(cat "$tmp/client")" ""
}

@test "an error reply is told in one line, and nothing is printed" {
    start -q
    run --separate-stderr client 127.0.0.1 "$port" search "$(printf '%0131072d' 0 | head -c 131060)"
    assert_failure 1
    assert_output ""
    assert_equal "$stderr" "$client_name: response from 127.0.0.1:$port: error 'header: content-length is 131093, not from 0 to 131072'"
    # The reply comes while 5 MB are on their way.
    for _ in 1 2 3 4 5; do
        run --separate-stderr client 127.0.0.1 "$port" - < <(printf 'send '; head -c 5000000 /dev/zero | tr '\0' x)
        assert_failure 1
        assert_output ""
        assert_equal "$stderr" "$client_name: response from 127.0.0.1:$port: error 'header: content-length is 5000004, not from 0 to 1048576'"
    done
}

@test "requests from standard input share a connection, and get a new one when the server has closed it" {
    host=127.0.0.1 port=0
    in_each_version app_peer line-servers "$build/$client_name" "${app_client[@]:1}"
}

@test "standard input: no line, an empty line, blanks, no newline at the end, 1,000 lines" {
    start -q
    run client 127.0.0.1 "$port" - </dev/null
    assert_success
    assert_output ""
    run client 127.0.0.1 "$port" - < <(printf '\n')
    assert_success
    assert_output "Got response: 'First 10 bytes of request: '"
    run client 127.0.0.1 "$port" - < <(printf 'search \nsearch  a  b \nsum\nhello   \nsearch ring')
    assert_success
    assert_output "Got result: No match for ''.
Got result: No match for ' a  b '.
Got sum: 0
Got response: 'First 10 bytes of request: hello  '
$ring"
    run client 127.0.0.1 "$port" - < <(seq -f 'sum %g 1' 1000)
    assert_success
    assert_output "$(seq -f 'Got sum: %g' 2 1001)"
    stops_without_a_word
}

@test "a line that is no request ends the client with status 1, after those before it" {
    start -q
    run client 127.0.0.1 "$port" - < <(printf 'search ring\nhel\0lo\nsearch ring\n')
    assert_failure 1
    assert_output "$ring
$client_name: standard input: a line with a zero byte"
    run client 127.0.0.1 "$port" - < <(printf 'search ring\nsum 1 x\nsearch ring\n')
    assert_failure 1
    assert_output "$ring
$client_name: standard input: sum takes numbers from 0 to 4294967295"
    run client 127.0.0.1 "$port" - < <(printf 'search ring\nsearch\n')
    assert_failure 1
    assert_output "$ring
$client_name: standard input: search takes one value"
    run client 127.0.0.1 "$port" - <.
    assert_failure 1
    assert_output "$client_name: standard input: Is a directory"
}

@test "a line that there is no memory for is an error, not the end" {
    ! sanitized || skip "a sanitizer needs memory without a limit"
    start -q
    run timeout -s KILL 20 prlimit --data=50000000 "$build/$client_name" "${app_client[@]:1}" \
        127.0.0.1 "$port" - < <(printf 'search ring\n'; head -c 100000000 /dev/zero | tr '\0' x)
    assert_failure 1
    assert_output "$ring
$client_name: standard input: Cannot allocate memory"
}

@test "a line of which only a part can be read is no request" {
    needs_strace
    start
    mkfifo "$tmp/lines"
    # shellcheck disable=SC2094 # a pipe
    run --separate-stderr timeout -s KILL 20 env ASAN_OPTIONS=detect_leaks=0 strace -qq -o /dev/null -P "$tmp/lines" -e trace=read \
        -e inject=read:error=EIO:when=2 "$build/$client_name" "${app_client[@]:1}" 127.0.0.1 "$port" - \
        3>&- 4< <(printf 'search ri' >"$tmp/lines") <"$tmp/lines"
    assert_failure 1
    assert_output ""
    assert_equal "$stderr" "$client_name: standard input: Input/output error"
    stop_server
    run grep -v '^Listening on' "$tmp/out"
    assert_output ""
}

@test "the client does not pipeline: a line is answered before the next is read" {
    start
    mkfifo "$tmp/lines"
    exec {lines_fd}<>"$tmp/lines"
    "$build/$client_name" "${app_client[@]:1}" 127.0.0.1 "$port" - <"$tmp/lines" >"$tmp/answers" 2>&1 3>&- {lines_fd}>&- &
    local client=$!
    started+=("$client")
    for number in 1 2 3; do
        echo "sum $number" >&"$lines_fd"
        wait_for grep -qx "Got sum: $number" "$tmp/answers"
    done
    exec {lines_fd}>&-
    ended "$client" 0
    assert_equal "$(grep -c '^Accepted' "$tmp/out")" 1
}

# --- make stage-3 ------------------------------------------------------------

# bats test_tags=tcp
@test "the live show of stage 3 shows both sides, and says so if an answer is wrong" {
    run env BUILD="$build" scripts/stage.sh 3
    assert_success
    assert_line "client | $ring"
    assert_line --partial 'server | Received request {"action": "search", "value": "ring"} from '
    assert_line --partial 'server | Closing connection to '

    mkdir "$tmp/liars"
    cp "$build/app-client" "$build/message-tool" "$tmp/liars/"
    cat >"$tmp/liars/app-server" <<SHELL
#!/bin/sh
sed 's/the caves/the cellar/' "$PWD/tests/helpers/protocol.py" >"$tmp/liars/protocol.py"
exec python3 "$tmp/liars/protocol.py" serve 0
SHELL
    chmod +x "$tmp/liars/app-server"
    run timeout 40 env BUILD="$tmp/liars" scripts/stage.sh 3
    assert_failure 1
}

# --- What these tests use ----------------------------------------------------

ring='Got result: In the caves beneath the Misty Mountains. 💍'

# The one by which the server sends.
sends=$(either sendto write)

# Each system call by which a program can wait for many descriptors.
waits='?pselect6,?_newselect,?poll,?ppoll,?epoll_wait,?epoll_pwait'

# start [OPTION...]: the server under test, on a free port. Sets words to its
# name and options.
start() {
    read -ra words <<<"$server_under_test"
    start_server "${words[@]}" "$@" 127.0.0.1 0
}

# app_peer SCENE [ARGUMENT...]: app_peer.py against the server
# app_peer connect STEP...
app_peer() {
    timeout 60 "${net[@]}" "$python3" tests/helpers/app_peer.py "$1" "$host" "$port" "${@:2}" 3>&-
}

# in_each_version COMMAND...: over TLS once more, with a peer that knows no 1.3
in_each_version() {
    "$@"
    ! over_tls || APP_TLS_MOST=1.2 "$@"
}

# start_app_peer NAME SCENE [ARGUMENT...] | NAME connect STEP... | NAME listen
# STEP...: in the background, as process $peer, holding while the test runs;
# output in $tmp/NAME. A listener's port is put into peer_port.
start_app_peer() {
    local at=("$host" "$port")
    [[ $2 != listen ]] || at=()
    peer_output=$tmp/$1
    : >"$peer_output"
    "${net[@]}" "$python3" tests/helpers/app_peer.py "$2" "${at[@]}" "${@:3}" \
        >"$peer_output" 2>&1 3>&- < <(exec sleep 60 3>&-) &
    peer=$!
    started+=("$peer")
    if [[ $2 == listen ]]; then
        wait_for grep -q '^[0-9]' "$peer_output"
        peer_port=$(head -n 1 "$peer_output")
    fi
}

peer_says() {
    patience=60 wait_for says_or_gone "$1"
    grep -q "$1" "$peer_output" || fail "the peer ended: $(cat "$peer_output")"
}
says_or_gone() { grep -q "$1" "$peer_output" || gone "$peer"; }

# hold_phase PHASE COUNT: so many clients are in this phase from now on, as
# process $held; release: they go on, and have their answers
hold_phase() {
    start_app_peer held hold "$2" "$1"
    peer_says ' held, '
    held=$peer
}
release() {
    kill "${held:-$peer}"
    patience=60 ended "${held:-$peer}" 0
    held=
}

# answers: the server answers a new client
answers() { app_peer serves; }

# client ARGUMENT...: the client, ended by force after 20 s (status 137)
client() {
    timeout -s KILL 20 "${net[@]}" "$build/$client_name" "${app_client[@]:1}" "$@" 3>&-
}
client_with() { # VARIABLE=VALUE ARGUMENT...: in the shim
    timeout -s KILL 20 "${net[@]}" env "LD_PRELOAD=$build/shim.so" ${1:+"$1"} \
        "$build/$client_name" "${app_client[@]:1}" "${@:2}" 3>&-
}
start_client() {
    "${net[@]}" "$build/$client_name" "${app_client[@]:1}" "$@" >"$tmp/client" 2>&1 </dev/null 3>&- &
    client=$!
    started+=("$client")
}

start_reference_server() {
    : >"$tmp/reference"
    "${net[@]}" "$python3" tests/helpers/protocol.py serve 0 >"$tmp/reference" 2>&1 3>&- &
    started+=("$!")
    wait_for grep -q '^Listening' "$tmp/reference"
    reference_port=$(sed -n '1s/.*://p' "$tmp/reference")
    over_tls || return 0
    tunnel "OPENSSL-LISTEN:0,bind=127.0.0.1,fork,verify=0,cert=$APP_TLS/server.pem,key=$APP_TLS/server-key.pem" \
        "TCP:127.0.0.1:$reference_port"
    reference_port=$tunnel_port
}

# open_tunnel: sets plain_port, where who knows TCP only reaches the server
open_tunnel() {
    plain_port=$port
    over_tls || return 0
    tunnel TCP-LISTEN:0,bind=127.0.0.1,fork "OPENSSL:127.0.0.1:$port,cafile=$APP_TLS/ca.pem"
    plain_port=$tunnel_port
}

# tunnel LISTENING-ADDRESS ADDRESS: socat; sets tunnel_port
tunnel() {
    : >"$tmp/tunnel"
    "${net[@]}" socat -d -d "$@" 2>"$tmp/tunnel" </dev/null 3>&- &
    started+=("$!")
    wait_for grep -q ' listening on ' "$tmp/tunnel"
    tunnel_port=$(sed -n 's/.* listening on .*://p' "$tmp/tunnel")
}

# Several servers at a time, each with files of its own in a folder of its own:
# start_apart [OPTION...]       starts the server under test, as start does
# in_background SCENE ARGUMENT...
#                               app_peer against it
# ends_apart                    after those of all have been started: those of
#                               the server under test must succeed
start_apart() {
    apart
    mkdir "$tmp"
    start "$@"
    echo "$server" >"$tmp/server"
}
in_background() {
    start_app_peer "scene-$1" "$@"
    echo "$peer" >>"$tmp/running"
}
ends_apart() {
    apart
    local process status
    for process in $(cat "$tmp/running"); do
        status=0
        patience=30 wait_for gone "$process"
        wait "$process" || status=$?
        assert_equal "$status: $(cat "$tmp"/scene-*)" "0: "
    done
    server=$(cat "$tmp/server")
}
apart() { tmp=$BATS_TEST_TMPDIR/${server_under_test//[ \/]/}; }

# costs_no_time PHASE COUNT: so many clients in this phase, with each back end
costs_no_time() {
    local servers=("${all_servers[@]}")
    for server_under_test in "${servers[@]}"; do
        start_apart -q
    done
    for server_under_test in "${servers[@]}"; do
        apart
        server=$(cat "$tmp/server")
        use_port
        start_app_peer held hold "$2" "$1"
    done
    for server_under_test in "${servers[@]}"; do
        apart
        wait_for grep -q ' held, 0 refused' "$tmp/held"
    done
    measure_nothing
}
use_port() { port=$(sed -n '1s/.*://p' "$tmp/out"); }
measure_nothing() {
    local -A process_of before
    for server_under_test in "${servers[@]}"; do
        apart
        server=$(cat "$tmp/server")
        process_of[$server_under_test]=$server
        wait_for waits "$server"
        before[$server_under_test]=$(ticks "$server")
    done
    sleep 0.6
    for server_under_test in "${servers[@]}"; do
        # One tick may be the end of a phase; who waits busily takes dozens.
        (($(ticks "${process_of[$server_under_test]}") <= before[$server_under_test] + 1)) ||
            fail "the server is busy waiting"
    done
}

stops_without_a_word() { # [SIGNAL]
    stop_server "$@"
    assert_equal "$(cat "$tmp/err")" ""
}

workers() { ps -o pid= --ppid "$server" | tr -d ' '; }
has_workers() { (($(workers | wc -l) == $1)); }

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

# sanitized: is it built with a sanitizer, which needs much memory?
sanitized() { grep -q __asan_init "$build/$name"; }
# kilobytes N: as many as may be used; of a sanitized program, any number
kilobytes() { if sanitized; then echo 100000000; else echo "$1"; fi; }

resident() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; } # in kB
waits() { [[ $(ps -o stat= -p "$1") == S* ]]; }
waits_to_write() { [[ $(cat "/proc/$1/wchan") == *pipe* ]]; }
has_used() { (($(ticks "$1") >= $2)); } # PROCESS TICKS
lines_of_err() { (($(wc -l <"$tmp/err") == $1)); }
closings() { wait_for has_closings "$1"; }
has_closings() { (($(grep -c '^Closing' "$tmp/out") >= $1)); }
responses_begun() { (($(grep -c '^Sending' "$tmp/out") >= $1)); }
