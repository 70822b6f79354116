# Stage 1: echo-once, echo-client, echo-server, tested from outside.

# Each test is a subshell, and the helpers set variables for it.
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# --- The command line --------------------------------------------------------

@test "-h and --help print the usage on standard output" {
    for program in echo-server echo-client; do
        for option in -h --help; do
            run --separate-stderr "$build/$program" $option
            assert_success
            assert_output --partial "Usage: $program [OPTIONS] [HOST [PORT"
            assert_equal "$stderr" ""
        done
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
    for program in echo-server echo-client; do
        for port in -1 65536 80x '' ' 80' 1e3 0x50 +80 8.0 99999999999999999999 18446744073709551696; do
            bad 'number from' $program -- 127.0.0.1 "$port"
        done
        for time in 0 0.0009 86400.001 1e3 '' . ' 1' -1 +1 1s 1.2.3 inf nan 0x10 99999999999999999999; do
            bad 'time-out' $program -t "$time"
        done
        bad "'-x'" $program -x
        bad "'--nonsense'" $program --nonsense
        bad "'-q'" $program --quiet=yes
        bad 'needs a value' $program -t
    done
    bad 'time-out' echo-server -t 86400.0001
    bad "'0'" echo-client 127.0.0.1 0
    bad 'one too many' echo-server 127.0.0.1 0 x
    bad 'one too many' echo-client 127.0.0.1 1 x y
    bad 'one too many' echo-client 127.0.0.1 1 -- x
    bad '\x1b[2J' echo-server 127.0.0.1 $'\e[2J'
}

@test "values at both ends of what is allowed are accepted" {
    for time in 0.001 86400 86400.000 .5 5. 007; do
        start_server echo-server -t $time -- 127.0.0.1 0
        stop_server
    done
    start_server echo-server 127.0.0.1 00000
    run client -t 86400 127.0.0.1 "00$port"
    assert_success
}

@test "a host that does not resolve is an error in words" {
    for program in echo-server echo-client; do
        for name in no.such.host.invalid '' 127.0.0.1.2.3 '[127.0.0.1]' '[::1'; do
            run --separate-stderr timeout "${limit:-20}" "$build/$program" "$name" 4321
            assert_failure 1
            assert_output ""
            [[ $stderr == "$program: resolve $name: "?* ]] || fail "$stderr"
        done
    done
}

@test "an error is one line, whatever is in it" {
    local long
    long=$(printf '%02000d' 0 | tr 0 x) # zeros alone would be an address
    for name in $'two\nlines' $'\e[31mred' "$long"; do
        run timeout "${limit:-20}" "$build/echo-client" "$name" 4321
        assert_failure 1
        assert_equal "${#lines[@]}" 1
        ((${#output} < 1024)) || fail "longer than a line may be"
        [[ $output != *$'\e'* ]] || fail "an escape reaches the terminal"
    done
}

@test "without arguments the server serves 127.0.0.1 port 65432, and the client goes there" {
    own_network
    start_server echo-server
    run head -n 1 "$tmp/out"
    assert_output 'Listening on 127.0.0.1:65432'
    run client
    assert_success
    assert_output "Received 'Hello, world'"
}

@test "a second server on a busy port says so and ends with status 1" {
    start_server echo-server 127.0.0.1 0
    run timeout 5 "$build/echo-server" 127.0.0.1 "$port"
    assert_failure 1
    assert_output "echo-server: listen on 127.0.0.1:$port: Address already in use"
    run timeout 5 env "LD_PRELOAD=$build/shim.so" "$build/echo-server" 127.0.0.1 "$port"
    assert_output "echo-server: listen on 127.0.0.1:$port: Address already in use"
    serves
}

@test "an address that is not this machine's cannot be served" {
    run timeout 5 "$build/echo-server" 203.0.113.1 0
    assert_failure 1
    assert_output "echo-server: listen on 203.0.113.1:0: Cannot assign requested address"
}

@test "a privileged port is refused to a common user" {
    own_network
    [[ $(id -u) -eq 0 ]] || skip "only root can become another user here"
    chmod 755 "$tmp"
    cp "$build/echo-server" "$tmp/"
    run timeout 5 "${net[@]}" setpriv --reuid 65534 --clear-groups --no-new-privs \
        --bounding-set=-all --inh-caps=-all cat /proc/sys/net/ipv4/ip_unprivileged_port_start
    ((output > 80)) || skip "every user may use port 80 here"
    run timeout 5 "${net[@]}" setpriv --reuid 65534 --clear-groups "$tmp/echo-server" 127.0.0.1 80
    assert_failure 1
    assert_output "echo-server: listen on 127.0.0.1:80: Permission denied"
}

# --- One conversation --------------------------------------------------------

@test "the server narrates, and -q leaves only where it listens" {
    start_server echo-server 127.0.0.1 0
    serves
    said 'Closing connection to'
    stop_server
    run sed 's/:[0-9]*$/:PORT/' "$tmp/out"
    assert_output "$(printf '%s 127.0.0.1:PORT\n' 'Listening on' 'Connected by' 'Closing connection to')"
    assert_equal "$(cat "$tmp/err")" ""

    start_server echo-server -q 127.0.0.1 0
    serves
    stop_server
    assert_equal "$(cat "$tmp/out")" "Listening on 127.0.0.1:$port"
}

@test "our client and our server: the message comes back" {
    start_server echo-server 127.0.0.1 0
    run --separate-stderr client 127.0.0.1 "$port"
    assert_success
    assert_output "Received 'Hello, world'"
    assert_equal "$stderr" ""
    run client 127.0.0.1 "$port" "it's a \\ and a 🐶"
    assert_output "Received 'it\\'s a \\\\ and a 🐶'"
    run client -q 127.0.0.1 "$port"
    assert_success
    assert_output ""
}

@test "a message of no bytes, and a long one, come back" {
    start_server echo-server 127.0.0.1 0
    run client 127.0.0.1 "$port" ""
    assert_success
    assert_output "Received ''"
    run client 127.0.0.1 "$port" "$(printf '%0100000d' 0)"
    assert_success
    assert_output "Received '$(printf '%064d' 0)'… (100000 bytes)"
}

@test "a file of any size around the buffers' comes back through -" {
    start_server echo-server 127.0.0.1 0
    for size in 0 1 4095 4096 4097 8192 65535 65536 65537 1048576; do
        random_file "$tmp/in" $size
        client 127.0.0.1 "$port" - <"$tmp/in" >"$tmp/back"
        cmp "$tmp/in" "$tmp/back"
    done
}

@test "bytes are not strings: all 256 values, and zeros, come back" {
    start_server echo-server 127.0.0.1 0
    python3 -c 'import sys
sys.stdout.buffer.write(bytes(range(256)) + bytes(5000) + b"end")' >"$tmp/in"
    client 127.0.0.1 "$port" - <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
    timeout "${limit:-10}" socat -t 10 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
}

@test "socat, nc, bash and python3 get their bytes back" {
    start_server echo-server 127.0.0.1 0
    assert_equal "$(printf hello | timeout "${limit:-10}" socat -t 10 - "TCP:127.0.0.1:$port")" hello
    assert_equal "$(printf hello | timeout "${limit:-10}" nc -N 127.0.0.1 "$port")" hello
    run timeout "${limit:-10}" bash -c "exec 4<>/dev/tcp/127.0.0.1/$port
        printf 'hello\n' >&4 && read -r line <&4 && echo \"\$line\""
    assert_output hello
    peer connect 127.0.0.1 "$port" send 'Hello, world' expect 'Hello, world' close
}

@test "our client works with the echo servers of others" {
    start_peer once listen 127.0.0.1 0 echo close
    run client 127.0.0.1 "$peer_port"
    assert_success
    assert_output "Received 'Hello, world'"

    timeout "${limit:-20}" socat -d -d TCP-LISTEN:0,bind=127.0.0.1 EXEC:cat 2>"$tmp/socat" 3>&- &
    started+=("$!")
    wait_for grep -q 'listening on' "$tmp/socat"
    run client 127.0.0.1 "$(sed -n 's/.*listening on.*://p' "$tmp/socat")"
    assert_success
    assert_output "Received 'Hello, world'"
}

@test "IPv6 works, and its addresses are written in brackets" {
    own_network
    "${net[@]}" cat /proc/net/if_inet6 | grep -q . || skip "no IPv6 here"
    start_server echo-server ::1 0
    assert_equal "$(head -n 1 "$tmp/out")" "Listening on [::1]:$port"
    serves
    said 'Connected by [::1]:'
    run client '[::1]' "$port"
    assert_success
    stop_server
    run client ::1 "$port"
    assert_failure 1
    assert_output "echo-client: connect to [::1]:$port: Connection refused"
}

@test ":: serves both families, and IPv4 peers look like IPv4" {
    own_network
    "${net[@]}" cat /proc/net/if_inet6 | grep -q . || skip "no IPv6 here"
    start_server echo-server :: 0
    run client ::1 "$port"
    assert_success
    said 'Connected by [::1]:'
    run client 127.0.0.1 "$port"
    assert_success
    said 'Connected by 127.0.0.1:'
    stop_server
    "${net[@]}" sh -c 'echo 1 >/proc/sys/net/ipv6/bindv6only' || skip "cannot set bindv6only"
    start_server echo-server :: 0
    run client 127.0.0.1 "$port"
    assert_success
}

@test "a client that half-closes after 1 MB gets all of it, then the end" {
    start_server echo-server 127.0.0.1 0
    random_file "$tmp/in" 1000000
    timeout "${limit:-20}" socat -t 20 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
}

@test "100 MB come back whole, in constant memory on both sides" {
    start_server echo-server 127.0.0.1 0
    random_file "$tmp/in" 100000000
    run python3 - "$tmp" "$build/echo-client" "$port" <<'PYTHON'
import resource, subprocess, sys
tmp, client, port = sys.argv[1:]
with open(f"{tmp}/in", "rb") as source, open(f"{tmp}/back", "wb") as back:
    subprocess.run([client, "127.0.0.1", port, "-"], stdin=source,
                   stdout=back, timeout=50, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
PYTHON
    assert_success
    ((output < 50000)) || fail "the client used $output kB"
    cmp "$tmp/in" "$tmp/back"
    local peak
    peak=$(awk '/^VmHWM/ { print $2 }' "/proc/$server/status")
    ((peak < 50000)) || fail "the server used $peak kB"
}

@test "the client sends at most 4,096 bytes before it wants them back" {
    start_peer counter listen 127.0.0.1 0 end
    head -c 100000 /dev/zero >"$tmp/in"
    run client -t 0.5 127.0.0.1 "$peer_port" - <"$tmp/in"
    assert_failure 1
    assert_output "echo-client: receive from 127.0.0.1:$peer_port: Connection timed out, got 0 of 4096 bytes"
    wait_for grep -q '^4096 bytes before the end' "$tmp/counter"
}

# --- What the kernel may do --------------------------------------------------

@test "a kernel that gives and takes a few bytes at a time changes nothing" {
    random_file "$tmp/in" 20000
    for limits in "SHIM_RECEIVE=1" "SHIM_SEND=1" "SHIM_RECEIVE=7 SHIM_SEND=3"; do
        read -ra limits <<<"LD_PRELOAD=$build/shim.so $limits"
        server_env=("${limits[@]}")
        start_server echo-server 127.0.0.1 0
        timeout "${limit:-20}" socat -t 20 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/back"
        cmp "$tmp/in" "$tmp/back"
        stop_server
        server_env=()
        start_server echo-server 127.0.0.1 0
        timeout "${limit:-20}" env "${limits[@]}" "$build/echo-client" 127.0.0.1 "$port" - <"$tmp/in" >"$tmp/back" 3>&-
        cmp "$tmp/in" "$tmp/back"
        stop_server
    done
}

@test "calls that a signal interrupts are made again" {
    random_file "$tmp/in" 100000
    server_env=("LD_PRELOAD=$build/shim.so" SHIM_EINTR=3)
    start_server echo-server 127.0.0.1 0
    timeout "${limit:-20}" env "LD_PRELOAD=$build/shim.so" SHIM_EINTR=2 "$build/echo-client" \
        127.0.0.1 "$port" - <"$tmp/in" >"$tmp/back" 3>&-
    cmp "$tmp/in" "$tmp/back"
    run timeout "${limit:-20}" env "LD_PRELOAD=$build/shim.so" SHIM_EINTR=2 "$build/echo-client" 127.0.0.1 "$port"
    assert_success
    assert_output "Received 'Hello, world'"
    serves
    assert_equal "$(cat "$tmp/err")" ""
}

@test "a server stopped and continued in mid-stream loses nothing" {
    start_server echo-server 127.0.0.1 0
    random_file "$tmp/in" 3000000
    client 127.0.0.1 "$port" - <"$tmp/in" >"$tmp/back" &
    local transfer=$!
    for share in 100000 1000000 2000000; do
        wait_for at_least $share "$tmp/back"
        kill -STOP "$server"
        wait_for stopped "$server"
        kill -CONT "$server"
    done
    wait $transfer
    cmp "$tmp/in" "$tmp/back"

    timeout "${limit:-20}" socat -t 20 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/back" 3>&- &
    transfer=$!
    wait_for at_least 100000 "$tmp/back"
    kill -STOP "$server"
    wait_for stopped "$server"
    kill -CONT "$server"
    wait $transfer
    cmp "$tmp/in" "$tmp/back"
    assert_equal "$(cat "$tmp/err")" ""
}

@test "stop and continue interrupt a wait with a time-out, and it goes on waiting" {
    start_server echo-server -t 30 127.0.0.1 0
    start_peer slow connect 127.0.0.1 "$port" send one expect one say ready hold
    wait_for grep -q ready "$tmp/slow"
    for _ in 1 2 3; do
        stop_and_continue "$server"
    done
    start_peer silent listen 127.0.0.1 0 receive 12 hold
    start_client -t 30 127.0.0.1 "$peer_port"
    wait_for connected_to "$peer_port"
    stop_and_continue "$client"
    assert_equal "$(cat "$tmp/client" "$tmp/err")" ""
}

@test "a connect that a signal interrupts goes on, and is not begun again" {
    full_listener
    start_client -t 30 127.0.0.1 "$full_port"
    wait_for half_open_to "$full_port"
    stop_and_continue "$client"
    assert_equal "$(cat "$tmp/client")" ""
    touch "$tmp/go"
    ended "$client" 0
    assert_equal "$(cat "$tmp/client")" "Received 'Hello, world'"
}

@test "an interrupted connect still fails with its reason, or at its time-out" {
    full_listener
    start_client -t 30 127.0.0.1 "$full_port"
    wait_for half_open_to "$full_port"
    stop_and_continue "$client"
    kill -KILL "$full"
    ended "$client" 1
    assert_equal "$(cat "$tmp/client")" "echo-client: connect to 127.0.0.1:$full_port: Connection refused"

    full_listener
    start_client -t 1 127.0.0.1 "$full_port"
    wait_for half_open_to "$full_port"
    stop_and_continue "$client"
    ended "$client" 1
    assert_equal "$(cat "$tmp/client")" "echo-client: connect to 127.0.0.1:$full_port: Connection timed out"
}

@test "100 kB come back whole through the smallest socket buffers" {
    own_network
    "${net[@]}" sh -c 'echo 4096 4096 4096 >/proc/sys/net/ipv4/tcp_rmem &&
        echo 4096 4096 4096 >/proc/sys/net/ipv4/tcp_wmem' ||
        skip "this user may not set the buffers of a network namespace"
    start_server echo-server -t 5 127.0.0.1 0
    random_file "$tmp/in" 100000
    client -t 5 127.0.0.1 "$port" - <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
    run client -t 5 127.0.0.1 "$port" "$(printf '%0100000d' 0)"
    assert_success
    # Not socat's usual 8,192: that is the very step that two ends can block on.
    timeout "${limit:-20}" "${net[@]}" socat -b 1000 -t 20 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
    assert_equal "$(cat "$tmp/err")" ""
}

@test "each error of accept that passes is survived" {
    needs_strace
    for error in ECONNABORTED EPROTO ENETDOWN ENOPROTOOPT EHOSTUNREACH EPERM EMFILE ENFILE ENOBUFS ENOMEM EINTR EAGAIN; do
        start_server echo-server 127.0.0.1 0
        strace -qq -o /dev/null -e trace=accept,accept4 -e inject=accept,accept4:error=$error:when=1..2 -p "$server" 3>&- &
        local tracer=$!
        wait_for traced "$server"
        serves
        serves
        stop_server
        wait $tracer || true
    done
}

@test "without descriptors the server says so once, does not spin, and recovers" {
    start_server echo-server 127.0.0.1 0
    prlimit --pid "$server" --nofile=4:
    # The accept() under way has its descriptor already; the next has none.
    serves &
    started+=("$!")
    start_peer waiting connect 127.0.0.1 "$port" send x expect x say served hold
    complained 'echo-server: accept: Too many open files'
    local before
    before=$(ticks "$server")
    sleep 1
    (($(ticks "$server") - before <= 5)) || fail "the server is busy waiting"
    assert_equal "$(grep -c . "$tmp/err")" 1
    prlimit --pid "$server" --nofile=1000:
    wait_for grep -q served "$tmp/waiting"
    # And when it happens again, it is said again.
    prlimit --pid "$server" --nofile=4:
    kill -KILL "$peer"
    serves &
    started+=("$!")
    start_peer another connect 127.0.0.1 "$port" send x expect x hold
    wait_for two_complaints
}

@test "no descriptor is inherited by programs that a later version may start" {
    start_server echo-server 127.0.0.1 0
    start_peer held connect 127.0.0.1 "$port" send x expect x say served hold
    wait_for grep -q served "$tmp/held"
    start_peer silent listen 127.0.0.1 0 receive 12 say heard hold
    start_client 127.0.0.1 "$peer_port"
    wait_for grep -q heard "$tmp/silent"
    local fd sockets=0
    for fd in "/proc/$server/fd"/* "/proc/$client/fd"/*; do
        [[ $(readlink "$fd") == socket:* ]] || continue
        local info=$fd flags
        flags=$(awk '/^flags/ { print $2 }' "${info/\/fd\//\/fdinfo\/}")
        (((8#$flags & 8#2000000) != 0)) || fail "descriptor $fd is not close-on-exec"
        sockets=$((sockets + 1))
    done
    assert_equal "$sockets" 3
}

# traces_writes MESSAGE: what the client hears of a full disk
traces_writes() {
    strace -qq -o "$tmp/writes" -e trace=write "$build/echo-client" 127.0.0.1 "$port" "$1" <<<data >/dev/full || true
    sed -n '/^write(1,/s/^/evidence: /p' "$tmp/writes"
}

@test "a full disk on standard output is an error" {
    for buffered in -oL -o0 -o4096; do
        run timeout 5 bash -c 'stdbuf "$2" "$1"/echo-server -h >/dev/full' - "$build" $buffered
        assert_failure 1
        assert_output "echo-server: standard output: No space left on device"
    done
    run timeout 5 bash -c '"$1"/echo-server 127.0.0.1 0 >/dev/full' - "$build"
    assert_failure 1
    assert_output "echo-server: standard output: No space left on device"
    start_server echo-server 127.0.0.1 0
    for message in 'Hello, world' -; do
        run bash -c 'echo data | "$1"/echo-client 127.0.0.1 "$2" "$3" >/dev/full' - "$build" "$port" "$message"
        [[ $status -ne 0 || -z ${EVIDENCE:-} ]] || traces_writes "$message"
        assert_failure 1
        assert_output "echo-client: standard output: No space left on device"
    done
    serves
}

@test "a reader of standard output that goes away is an error, not a signal" {
    for program in echo-server echo-client; do
        run bash -c '(read -r _; "$1" -h; echo "status $?" >&2) < <(exec sleep 0.1) | true' - "$build/$program"
        assert_line "status 1"
    done
    start_server echo-server 127.0.0.1 0
    run bash -c 'head -c 1000000 /dev/zero | "$1"/echo-client 127.0.0.1 "$2" - | head -c 10 >/dev/null
        echo "status ${PIPESTATUS[1]}"' - "$build" "$port"
    assert_line "echo-client: standard output: Broken pipe"
    assert_line "status 1"
}

@test "closed standard streams do no harm" {
    start_server echo-server 127.0.0.1 0
    run bash -c '"$1"/echo-client 127.0.0.1 "$2" >&- 2>&- <&-' - "$build" "$port"
    assert_success
    run bash -c '"$1"/echo-client 127.0.0.1 "$2" - <&-' - "$build" "$port"
    assert_success
    assert_output ""
    own_network
    for program in echo-server echo-once; do
        "${net[@]}" "$build/$program" <&- >&- 2>&- 3>&- &
        local process=$!
        started+=("$process")
        wait_for listens 65432
        host=127.0.0.1 port=65432 serves
        kill "$process" 2>/dev/null || true
        wait_for gone "$process"
    done
}

@test "standard input that cannot be read is an error" {
    start_server echo-server 127.0.0.1 0
    run client 127.0.0.1 "$port" - <"$tmp"
    assert_failure 1
    assert_output "echo-client: standard input: Is a directory"
}

@test "every system call of the programs fails once: no crash, no hang, no wrong bytes" {
    needs_strace
    run timeout 120 python3 tests/helpers/torture.py "$build" \
        echo-server "echo-client @ hello" "echo-client @ -"
    assert_success
    [[ $output =~ ([0-9]+)\ calls ]]
    ((BASH_REMATCH[1] > 100)) || fail "too few calls were tried: $output"
}

# --- What a peer may do ------------------------------------------------------

@test "200 clients reset, vanish, say nothing, never read or half-close: the next is served" {
    start_server echo-server -t 0.05 127.0.0.1 0
    local before
    before=$(descriptors "$server")
    run timeout 50 python3 tests/helpers/rude.py 127.0.0.1 "$port" 200
    assert_success
    serves
    wait_for has_descriptors "$server" "$before"
    stop_server
}

@test "a client that resets in mid-echo costs one line on standard error" {
    start_server echo-server 127.0.0.1 0
    start_peer rude connect 127.0.0.1 "$port" send x expect x reset
    said 'Closing connection to'
    run sed 's/:[0-9]*: /:PORT: /' "$tmp/err"
    assert_output "echo-server: connection from 127.0.0.1:PORT: Connection reset by peer"
    serves
}

@test "a client that resets in the middle of a large answer does not kill by SIGPIPE" {
    start_server echo-server 127.0.0.1 0
    for _ in 1 2 3; do
        kill -STOP "$server"
        wait_for stopped "$server"
        peer connect 127.0.0.1 "$port" random 60000 reset
        kill -CONT "$server"
        serves
    done
    needs_strace
    strace -qq -o /dev/null -e trace=sendto -e inject=sendto:error=EPIPE:signal=PIPE:when=1 -p "$server" 3>&- &
    local tracer=$!
    wait_for traced "$server"
    peer connect 127.0.0.1 "$port" send x end || true
    serves
    stop_server
    wait $tracer || true
}

@test "a client that has gone before it was accepted is not missed" {
    start_server echo-server 127.0.0.1 0
    kill -STOP "$server"
    wait_for stopped "$server"
    peer connect 127.0.0.1 "$port" reset
    peer connect 127.0.0.1 "$port" send lost close
    kill -CONT "$server"
    serves
}

@test "a client that says nothing is closed after -t, with a line that names it" {
    start_server echo-server -t 0.3 127.0.0.1 0
    python3 - "$port" 3>&- <<'PYTHON' &
import socket, sys, time
began = time.monotonic()  # before: the server may see it first
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
assert client.recv(1) == b""
assert time.monotonic() - began > 0.28, "closed too early"
PYTHON
    local silent=$!
    started+=("$silent")
    ended "$silent" 0
    run sed 's/:[0-9]*: /:PORT: /' "$tmp/err"
    assert_output "echo-server: connection from 127.0.0.1:PORT: Connection timed out"
    serves
}

@test "without -t, the limit is 60 seconds" {
    needs_strace
    start_server echo-server 127.0.0.1 0
    # (The leak sanitizer, where it is built in, cannot run under strace.)
    ASAN_OPTIONS=detect_leaks=0 \
        strace -qq -o "$tmp/trace" -e trace=setsockopt "$build/echo-client" 127.0.0.1 "$port"
    run grep -cE 'SO_(RCV|SND)TIMEO[A-Z_]*, ("<\\0\\0|.*tv_sec=60)' "$tmp/trace"
    assert_output 2
}

@test "what waits for a slow reader is bounded, so that each read of it lets the server go on" {
    start_server echo-server -t 30 127.0.0.1 0
    start_peer deaf connect 127.0.0.1 "$port" zeros 20000000
    # tb is the limit of the send queue: the kernel would let it grow to 4 MB.
    wait_for send_queue_waits "$port"
    run ss -tmnH "sport = :$port"
    [[ $output =~ ,tb([0-9]+), ]]
    ((BASH_REMATCH[1] <= 131072)) || fail "the queue may hold ${BASH_REMATCH[1]} bytes"
}

@test "a client that never reads is closed after -t" {
    start_server echo-server -t 0.5 127.0.0.1 0
    start_peer deaf connect 127.0.0.1 "$port" zeros 20000000
    complained 'Connection timed out'
    serves
}

@test "with -q a peer's fault is still reported" {
    start_server echo-server -q -t 0.1 127.0.0.1 0
    run peer connect 127.0.0.1 "$port" end
    complained 'Connection timed out'
}

@test "no descriptor is closed twice" {
    needs_strace
    start_server echo-server 127.0.0.1 0
    strace -qq -o "$tmp/trace" -e trace=close -p "$server" 3>&- &
    local tracer=$!
    started+=("$tracer")
    wait_for traced "$server"
    serves
    peer connect 127.0.0.1 "$port" send x expect x reset
    serves
    stop_server
    wait $tracer || true
    run grep EBADF "$tmp/trace"
    assert_failure
    run grep -c 'close(' "$tmp/trace"
    assert_output 3
}

@test "500 clients that arrive at once are all served" {
    start_server echo-server 127.0.0.1 0
    run timeout 50 python3 - "$port" <<'PYTHON'
import socket, sys
clients = [socket.socket() for _ in range(500)]
for client in clients:
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", int(sys.argv[1])))
for number, client in enumerate(clients):
    client.settimeout(20)
    client.sendall(b"%d." % number)
    assert client.recv(10) == b"%d." % number
    client.close()
PYTHON
    assert_success
}

@test "1,000 connections leave no descriptor and no memory behind" {
    start_server echo-server -q 127.0.0.1 0
    local before memory
    a_thousand_connections() {
        python3 - "$port" <<'PYTHON'
import socket, sys
for _ in range(1000):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
PYTHON
    }
    before=$(descriptors "$server")
    # A runtime that manages its memory comes to rest first.
    for _ in 1 2 3; do a_thousand_connections; done
    serves
    memory=$(awk '/^VmRSS/ { print $2 }' "/proc/$server/status")
    a_thousand_connections
    serves
    wait_for has_descriptors "$server" "$before"
    memory=$(($(awk '/^VmRSS/ { print $2 }' "/proc/$server/status") - memory))
    ((memory < 1000)) || fail "grew by $memory kB"
}

# --- Stopping and starting ---------------------------------------------------

@test "SIGINT and SIGTERM stop the server with status 0: idle, in mid-echo, and twice" {
    for signal in INT TERM; do
        start_server echo-server 127.0.0.1 0
        stop_server $signal
        start_server echo-server 127.0.0.1 0
        start_peer held connect 127.0.0.1 "$port" send x expect x say served hold
        wait_for grep -q served "$tmp/held"
        stop_server $signal
        start_server echo-server 127.0.0.1 0
        start_peer deaf connect 127.0.0.1 "$port" say started zeros 20000000
        said 'Connected by'
        kill -$signal "$server"
        kill -$signal "$server" 2>/dev/null || true
        ended "$server" 0
    done
}

@test "a signal at any moment of a start, a service and a stop is honoured" {
    run timeout 50 python3 - "$build/echo-server" <<'PYTHON'
import os, random, signal, socket, subprocess, sys, time
chance = random.Random(1)
for turn in range(150):
    server = subprocess.Popen([sys.argv[1], "127.0.0.1", "0"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    port = int(server.stdout.readline().rsplit(b":")[-1])
    with socket.socket() as client:
        if turn % 2:
            client.connect(("127.0.0.1", port))
            client.setblocking(False)
            client.send(bytes(chance.choice([1, 100000])))
            time.sleep(chance.random() / 200)
        os.kill(server.pid, chance.choice([signal.SIGINT, signal.SIGTERM]))
        # A second one, while the handler of the first starts or runs.
        until = time.monotonic_ns() + chance.randrange(60_000)
        while time.monotonic_ns() < until:
            pass
        os.kill(server.pid, chance.choice([signal.SIGINT, signal.SIGTERM]))
        assert server.wait(5) == 0, server.returncode
        assert server.stderr.read() == b""
PYTHON
    assert_success
}

@test "a second signal finds the handler still in its place" {
    needs_strace
    : >"$tmp/out"
    strace -D -qq -o "$tmp/trace" -e trace=rt_sigaction "$build/echo-server" 127.0.0.1 0 >"$tmp/out" 3>&- &
    server=$!
    started+=("$server")
    wait_for grep -q Listening "$tmp/out"
    stop_server
    for signal in SIGINT SIGTERM; do
        run grep "($signal, {" "$tmp/trace"
        assert_success
        refute_output --partial SA_RESETHAND
    done
}

@test "a restart on the same port works while old connections are in TIME_WAIT" {
    own_network
    for program in echo-server echo-once; do
        if [[ $program == echo-server ]]; then
            start_server echo-server -t 0.1 127.0.0.1 65432
            # The server's time-out makes it the side that closes first.
            peer connect 127.0.0.1 65432 end
            stop_server
        else
            start_server echo-once
            start_peer held connect 127.0.0.1 65432 send x expect x say ready hold
            wait_for grep -q ready "$tmp/held"
            kill "$server"
            wait_for gone "$server"
            kill "$peer"
        fi
        wait_for in_time_wait 65432
        start_server $program
        serves
        kill "$server" || true
        wait_for gone "$server"
    done
}

# --- The client and bad servers ----------------------------------------------

# counts_ends: how often the client learns in a second that the stream has ended
counts_ends() {
    start_peer early listen 127.0.0.1 0 receive 12 send Hel close
    timeout 1 strace -qq -o "$tmp/calls" -e trace=recvfrom,read "$build/echo-client" 127.0.0.1 "$peer_port" >/dev/null 2>&1 || true
    echo "evidence: recv() said $(grep -c '^recvfrom.* = 0$' "$tmp/calls") times that the stream has ended"
}

@test "a server that closes early: how much came, and status 1" {
    start_peer bad listen 127.0.0.1 0 receive 12 send Hel close
    run client 127.0.0.1 "$peer_port"
    [[ $status -ne 137 || -z ${EVIDENCE:-} ]] || counts_ends
    assert_failure 1
    assert_output "echo-client: receive from 127.0.0.1:$peer_port: connection closed early, got 3 of 12 bytes"
}

@test "a server that resets: how much came, and status 1" {
    start_peer bad listen 127.0.0.1 0 receive 4096 random 4096 receive 1 reset
    head -c 8192 /dev/zero >"$tmp/in"
    local status=0
    client 127.0.0.1 "$peer_port" - <"$tmp/in" >"$tmp/back" 2>"$tmp/client" || status=$?
    assert_equal "$status" 1
    run cat "$tmp/client"
    assert_output --regexp "^echo-client: (receive from|send to) 127.0.0.1:$peer_port: (Connection reset by peer|Broken pipe), got 4096 of [0-9]+ bytes\$"
    assert_equal "$(wc -c <"$tmp/back")" 4096
}

@test "a server that dies in the middle of a transfer: how much came, and status 1" {
    start_server echo-server -q 127.0.0.1 0
    client 127.0.0.1 "$port" - </dev/zero >"$tmp/back" 2>"$tmp/client" &
    local transfer=$!
    wait_for at_least 1000000 "$tmp/back"
    kill -KILL "$server"
    local status=0
    wait $transfer || status=$?
    assert_equal "$status" 1
    run cat "$tmp/client"
    assert_output --regexp "^echo-client: (receive from|send to) 127.0.0.1:$port: .*, got [0-9]+ of [0-9]+ bytes\$"
    # What came back was written, but for the step that did not come whole.
    local got=${output##*got }
    assert_equal "$(wc -c <"$tmp/back")" "$((${got%% *} / 4096 * 4096))"
}

@test "a reset instead of the end is an error" {
    start_peer bad listen 127.0.0.1 0 receive 12 send 'Hello, world' end reset
    run client 127.0.0.1 "$peer_port"
    assert_failure 1
    assert_line --partial 'Connection reset by peer, got 12 of 12 bytes'
}

@test "a server that sends other bytes, or more bytes, does not pass" {
    start_peer liar listen 127.0.0.1 0 receive 12 send 'Hello, wOrld' end close
    run client 127.0.0.1 "$peer_port"
    assert_failure 1
    assert_line "Received 'Hello, wOrld'"
    assert_line "echo-client: receive from 127.0.0.1:$peer_port: byte 9 is not the one that was sent"

    start_peer talker listen 127.0.0.1 0 receive 12 send 'Hello, world!' end close
    run client 127.0.0.1 "$peer_port"
    assert_failure 1
    assert_line --partial 'more than was sent'

    start_peer late listen 127.0.0.1 0 receive 4096 random 4096 receive 904 random 904 end close
    random_file "$tmp/in" 5000
    run bash -c '"$1"/echo-client 127.0.0.1 "$2" - <"$3" 2>&1 >/dev/null' - "$build" "$peer_port" "$tmp/in"
    assert_failure 1
    assert_output --partial 'byte 4097 is not the one that was sent'
}

@test "a server that sends one byte at a time is understood" {
    start_peer dribbler listen 127.0.0.1 0 dribble 5000 end close
    random_file "$tmp/in" 5000
    client 127.0.0.1 "$peer_port" - <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
}

@test "a server that says nothing is given up after -t" {
    start_peer silent listen 127.0.0.1 0 receive 12 hold
    local began=${EPOCHREALTIME/./}
    run client -t 0.5 127.0.0.1 "$peer_port"
    assert_failure 1
    assert_output "echo-client: receive from 127.0.0.1:$peer_port: Connection timed out, got 0 of 12 bytes"
    ((${EPOCHREALTIME/./} - began > 480000)) || fail "given up too early"
}

@test "a server that never reads is given up after -t" {
    start_peer deaf listen 127.0.0.1 0 hold
    run client -t 0.3 127.0.0.1 "$peer_port" "$(printf '%0100000d' 0)"
    assert_failure 1
    assert_output --partial 'Connection timed out'
}

@test "a refused connection is an error at once" {
    own_network
    run client 127.0.0.1 4321
    assert_failure 1
    assert_output "echo-client: connect to 127.0.0.1:4321: Connection refused"
}

@test "a connection that nobody answers is given up after -t" {
    full_listener
    run client -t 0.3 127.0.0.1 "$full_port"
    assert_failure 1
    assert_output "echo-client: connect to 127.0.0.1:$full_port: Connection timed out"
}

@test "each address of a name is tried, and the last error is told" {
    start_server echo-server 127.0.0.1 0
    run timeout "${limit:-20}" env "LD_PRELOAD=$build/shim.so" "$build/echo-client" two.example "$port"
    assert_success
    assert_output "Received 'Hello, world'"
    stop_server
    run timeout "${limit:-20}" env "LD_PRELOAD=$build/shim.so" "$build/echo-client" two.example "$port"
    assert_failure 1
    assert_output "echo-client: connect to 127.0.0.1:$port: Connection refused"
    full_listener
    run timeout "${limit:-20}" env "LD_PRELOAD=$build/shim.so" "$build/echo-client" -t 0.3 two.example "$full_port"
    assert_failure 1
    assert_output "echo-client: connect to 127.0.0.1:$full_port: Connection timed out"
}

@test "a server on a name serves its first address that works" {
    start_server echo-server 127.0.0.2 0
    server_env=("LD_PRELOAD=$build/shim.so")
    start_server echo-server two.example "$port"
    assert_equal "$(head -n 1 "$tmp/out")" "Listening on 127.0.0.1:$port"
    serves
}

@test "what a peer sends reaches the terminal as printable text only" {
    start_peer hostile listen 127.0.0.1 0 receive 12 \
        send '\x1b[2J\x07\x00\x9b\xc2\x9b\r\n\x7f' end close
    run client 127.0.0.1 "$peer_port"
    assert_line "Received '\\x1b[2J\\a\\x00\\x9b\\xc2\\x9b\\r\\n\\x7f'"
    start_peer hostile listen 127.0.0.1 0 receive 20 \
        send '\xf0\x9f\x90\xb6\xc0\xaf\xed\xa0\x80\xe2\x80\xae\xf5\x80\x80\x80\xe2\x82xy' end close
    run client 127.0.0.1 "$peer_port" 12345678901234567890
    assert_line "Received '🐶\\xc0\\xaf\\xed\\xa0\\x80\\xe2\\x80\\xae\\xf5\\x80\\x80\\x80\\xe2\\x82xy'"
    start_peer hostile listen 127.0.0.1 0 receive 10 \
        send '\xe2\x81\xa6\xef\xbb\xbf\xd8\x9c\xc2\xad' end close
    run client 127.0.0.1 "$peer_port" 1234567890
    assert_line "Received '\\xe2\\x81\\xa6\\xef\\xbb\\xbf\\xd8\\x9c\\xc2\\xad'"
}

@test "at most 64 bytes of a message are shown, and no character in halves" {
    start_server echo-server 127.0.0.1 0
    local x63
    x63=$(printf '%063d' 0)
    run client 127.0.0.1 "$port" "${x63}a"
    assert_output "Received '${x63}a'"
    run client 127.0.0.1 "$port" "${x63}ab"
    assert_output "Received '${x63}a'… (65 bytes)"
    run client 127.0.0.1 "$port" "${x63}🐶"
    assert_output "Received '${x63}'… (67 bytes)"
}

# --- echo-once ---------------------------------------------------------------

@test "echo-once serves one client on port 65432 and ends" {
    own_network
    start_server echo-once
    assert_equal "$(cat "$tmp/out")" "Listening on 127.0.0.1:65432"
    random_file "$tmp/in" 1000000
    timeout "${limit:-20}" "${net[@]}" socat -t 20 - TCP:127.0.0.1:65432 <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
    ended "$server" 0
    run sed 's/:[0-9]*$/:PORT/' "$tmp/out"
    assert_output "$(printf '%s 127.0.0.1:PORT\n' 'Listening on' 'Connected by' 'Closing connection to')"
    run timeout 5 "${net[@]}" bash -c '"$1"/echo-once >/dev/full' - "$build"
    assert_failure 1
    assert_output "echo-once: standard output: No space left on device"
}

@test "echo-once sends every byte, and tells errors in one line" {
    own_network
    random_file "$tmp/in" 50000
    server_env=("LD_PRELOAD=$build/shim.so" SHIM_RECEIVE=7 SHIM_SEND=3)
    start_server echo-once
    timeout "${limit:-20}" "${net[@]}" socat -t 20 - TCP:127.0.0.1:65432 <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
    ended "$server" 0
    server_env=()
    start_server echo-once
    run timeout 5 "${net[@]}" "$build/echo-once"
    assert_failure 1
    assert_output "echo-once: bind to 127.0.0.1:65432: Address already in use"
    kill -STOP "$server"
    wait_for stopped "$server"
    peer connect 127.0.0.1 65432 random 60000 reset
    kill -CONT "$server"
    ended "$server" 1
    run cat "$tmp/err"
    assert_output --regexp '^echo-once: (recv|send): (Connection reset by peer|Broken pipe)$'
}

# --- make stage-1 ------------------------------------------------------------

@test "the live show of stage 1 shows both sides, and says so if the echo is wrong" {
    run env BUILD="$build" scripts/stage.sh 1
    assert_success
    assert_line --regexp '^server \| Listening on 127.0.0.1:[0-9]+$'
    assert_line --regexp '^server \| Connected by '
    assert_line "client | Received 'Hello, world'"
    assert_line --regexp '^server \| Closing connection to '

    mkdir "$tmp/liars"
    cp "$build/echo-client" "$tmp/liars/"
    cat >"$tmp/liars/echo-server" <<'SHELL'
#!/bin/sh
exec python3 -c 'import socket
listener = socket.create_server(("127.0.0.1", 0))
print("Listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
client = listener.accept()[0]
client.sendall(client.recv(100).upper())'
SHELL
    chmod +x "$tmp/liars/echo-server"
    run env BUILD="$tmp/liars" scripts/stage.sh 1
    assert_failure 1
    assert_line "client | Received 'HELLO, WORLD'"
    assert_line --partial "sent 'Hello, world', which did not come back as it was"
}

# --- What these tests wait for -----------------------------------------------

stop_and_continue() {
    kill -STOP "$1"
    wait_for stopped "$1"
    kill -CONT "$1"
    wait_for waits "$1"
}
two_complaints() { (($(grep -c 'Too many open files' "$tmp/err") == 2)); }
send_queue_waits() { (($(ss -tnH state established "sport = :$1" | awk '{ print $2 }') > 0)); }
waits() { [[ $(ps -o stat= -p "$1") == S* ]]; }
connected_to() { ss -tn state established "dport = :$1" | grep -q ":$1"; }
half_open_to() { ss -tn state syn-sent "dport = :$1" | grep -q ":$1"; }
