# What every suite uses: servers that are always stopped, clients that never
# hang, peers that are not ours. Loaded by: load helpers/common
#
# BUILD says which programs are tested (default: build).
# shellcheck disable=SC2034 # variables for the tests

bats_require_minimum_version 1.5.0
bats_load_library bats-support
bats_load_library bats-assert

cd "${BASH_SOURCE[0]%/*}/../.." || exit
build=$(realpath "${BUILD:-build}")
tmp=$BATS_TEST_TMPDIR

# A command prefix, set by own_network; the helpers put it before programs.
net=()

# start_server PROGRAM [ARGUMENT...]
#   Starts a program of ours in the background and waits for its first line.
#   Sets server (its process), host and port. Output: $tmp/out, errors:
#   $tmp/err. What stands in the array server_env is for it alone: variables
#   ("LD_PRELOAD=..."), then, maybe, a command that runs it ("prlimit
#   --nofile=20").
start_server() {
    : >"$tmp/out"
    : >"$tmp/err"
    "${net[@]}" env "${server_env[@]}" "$build/$1" "${@:2}" \
        >"$tmp/out" 2>"$tmp/err" </dev/null 3>&- &
    server=$!
    started+=("$server")
    wait_for listening_or_gone
    grep -q '^Listening on ' "$tmp/out" || fail "$1 does not start: $(cat "$tmp/err")"
    local at
    at=$(sed -n '1s/^Listening on //p' "$tmp/out")
    port=${at##*:}
    host=${at%:*}
    host=${host#[}
    host=${host%]}
}

listening_or_gone() {
    grep -q '^Listening on ' "$tmp/out" || gone "$server"
}

# stop_server [SIGNAL]: it must end at once, with exit status 0
stop_server() {
    kill -"${1:-TERM}" "$server"
    ended "$server" 0
}

# ended PROCESS STATUS: waits at most 10 s for its end and checks its status
ended() {
    local status=0
    wait_for gone "$1"
    wait "$1" || status=$?
    assert_equal "exit status $status" "exit status $2"
}

gone() {
    local state
    read -r _ _ state _ 2>/dev/null <"/proc/$1/stat" || return 0
    [[ $state == Z ]]
}

# is_child PROCESS: the number of one that has ended may be a stranger's by now
is_child() {
    local parent
    read -r _ _ _ parent _ 2>/dev/null <"/proc/$1/stat" && ((parent == BASHPID))
}

# wait_for COMMAND...: until it succeeds; fails after 10 s, or after $patience
wait_for() {
    local seconds=${patience:-10}
    local deadline=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            fail "waited $seconds s in vain for: $* (server said: $(tail -qn 20 "$tmp"/out "$tmp"/err 2>/dev/null))"
            return 1 # under run, fail does not end the loop
        fi
        sleep 0.01
    done
}

# said TEXT, complained TEXT: wait for a line of the server
said() { wait_for grep -qF -- "$1" "$tmp/out"; }
complained() { wait_for grep -qF -- "$1" "$tmp/err"; }

# serves: the server answers a new client correctly, asked by socat
serves() {
    local answer
    answer=$(printf 'still there?' |
        timeout "${limit:-10}" "${net[@]}" socat -t 10 - "TCP:$(bracketed "$host"):$port")
    assert_equal "$answer" 'still there?'
}

bracketed() {
    case $1 in
    *:*) echo "[$1]" ;;
    *) echo "$1" ;;
    esac
}

# start_peer NAME listen|connect ...: peer.py in the background, holding while
# the test runs; output in $tmp/NAME. A listener's port is put into peer_port.
start_peer() {
    local name=$1
    shift
    peer_output=$tmp/$name
    : >"$peer_output"
    "${net[@]}" python3 tests/helpers/peer.py "$@" \
        >"$tmp/$name" 2>&1 3>&- < <(exec sleep 60 3>&-) &
    peer=$!
    started+=("$peer")
    if [[ $1 == listen ]]; then
        wait_for grep -q '^[0-9]' "$tmp/$name"
        peer_port=$(head -n 1 "$tmp/$name")
    fi
}

peer() {
    timeout "${limit:-20}" "${net[@]}" python3 tests/helpers/peer.py "$@" 3>&-
}

# client ARGUMENT...: echo-client, ended by force after 20 s, or $limit (status
# 137). In the foreground, timeout(1) does not kill itself as well, and so its
# processor time is known to who waits for it.
client() {
    local status=0
    timeout --foreground -s KILL "${limit:-20}" "${net[@]}" "$build/echo-client" "$@" 3>&- || status=$?
    [[ $status -ne 137 || -z ${EVIDENCE:-} ]] || busy_or_not >&2
    return $status
}

# What a client that was ended by force did until then: it waited, or it span.
# The children of this shell are that client alone, where "run" made the shell.
busy_or_not() {
    times >"$tmp/times" # in a pipe, they would be those of another shell
    echo "evidence: the client was still running after ${limit:-20} s; processor time: $(tail -n 1 "$tmp/times")"
}

# start_client ARGUMENT...: echo-client in the background, as process $client;
# what it says goes to $tmp/client
start_client() {
    "${net[@]}" "$build/echo-client" "$@" >"$tmp/client" 2>&1 </dev/null 3>&- &
    client=$!
    started+=("$client")
}

# own_network: from here on the test has a loopback of its own, on which every
# port is free, and whose settings it may change
own_network() {
    local new=(unshare --net) into=(nsenter)
    if [[ $(id -u) -ne 0 ]]; then
        new=(unshare --user --map-root-user --net)
        into=(nsenter --user --preserve-credentials)
    fi
    if ! "${new[@]}" true 2>/dev/null; then
        skip "this user may not make a network namespace"
    fi
    "${new[@]}" sh -c 'ip link set lo up && echo up && exec sleep 120' \
        >"$tmp/network" 3>&- &
    started+=("$!")
    local holder=$!
    wait_for grep -q up "$tmp/network"
    net=("${into[@]}" "--target=$holder" --net)
}

# needs_strace: skips where tracing is forbidden
needs_strace() {
    if ! strace -o /dev/null true 2>/dev/null; then
        skip "strace may not trace here"
    fi
}

# full_listener [ADDRESS]: a listener whose backlog is full, so that the kernel
# drops further SYNs, until the file $tmp/go exists; then it echoes to all in
# turn. Its port is put into full_port.
full_listener() {
    : >"$tmp/full"
    "${net[@]}" python3 - "$tmp" "${1:-127.0.0.1}" 3>&- >"$tmp/full" <<'PYTHON' &
import os, socket, sys, time
listener = socket.socket()
listener.bind((sys.argv[2], 0))
listener.listen(0)
fillers = []
while True:
    filler = socket.socket()
    filler.settimeout(0.2)
    fillers.append(filler)
    try:
        filler.connect(listener.getsockname())
    except TimeoutError:
        break
filler.close()
print(listener.getsockname()[1], flush=True)
for _ in range(2000):
    if os.path.exists(f"{sys.argv[1]}/go"):
        break
    time.sleep(0.01)
for filler in fillers:
    filler.close()
listener.settimeout(15)
while True:
    peer = listener.accept()[0]
    while data := peer.recv(100):
        peer.sendall(data)
    peer.close()
PYTHON
    full=$!
    started+=("$full")
    wait_for grep -q . "$tmp/full"
    full_port=$(cat "$tmp/full")
}

# descriptors PROCESS: how many are open
descriptors() { find "/proc/$1/fd" -mindepth 1 | wc -l; }

# ticks PROCESS: processor time used so far, in clock ticks
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

# Questions for wait_for
has_descriptors() { (($(descriptors "$1") == $2)); }
at_least() { (($(wc -c <"$2") >= $1)); }
stopped() { [[ $(ps -o stat= -p "$1") == T* ]]; }
traced() { ! grep -q '^TracerPid:.0$' "/proc/$1/status"; }
listens() { "${net[@]}" ss -tln | grep -q ":$1 "; }
in_time_wait() { "${net[@]}" ss -tan state time-wait | grep -q ":$1 "; }

random_file() { # NAME BYTES: always the same bytes
    python3 -c 'import random, sys
sys.stdout.buffer.write(random.Random(1).randbytes(int(sys.argv[1])))' \
        "$2" >"$1"
}

common_setup() {
    started=()
    server_env=()
}

# evidence: what a failed test leaves to be seen, for the grader, in lines that
# begin with that word: what became of the server, what it said, and how what
# came back differs from what was sent
evidence() {
    local status=0 before used
    if [[ -z ${server:-} || ${BATS_TIMED_OUT:-} ]]; then
        : # there is none, or bats has ended it
    elif gone "$server"; then
        wait "$server" 2>/dev/null || status=$?
        if ((status > 128)); then
            echo "evidence: the server has ended, by signal $((status - 128)) ($(kill -l "$status"))"
        elif ((status != 127)); then # else the test itself has seen its end
            echo "evidence: the server has ended, with exit status $status"
        fi
    else
        before=$(wake_ups "$server") used=$(ticks "$server")
        sleep 1.2
        used=$(($(ticks "$server") - used))
        echo "evidence: the server is alive, woke $(($(wake_ups "$server") - before)) times in 1.2 s, and has $(sockets "$server") sockets"
        doing "$server" $used | sed 's/^/evidence: the server /'
        [[ -z ${port:-} || $(unread) -eq 0 ]] || echo "evidence: $(unread) bytes have come for the server, and wait in the kernel"
        ! grep -qs '^tfd:.* events: *8' "/proc/$server/fdinfo"/* || echo "evidence: the server's epoll is edge-triggered"
    fi
    brief "$tmp/err" | sed 's/^/evidence: the server said: /'
    [[ ! -s ${peer_output:-/dev/null} ]] || tail -n 3 "$peer_output" | cut -c 1-300 | sed 's/^/evidence: the peer said: /'
    brief "$tmp/client" | sed 's/^/evidence: the client said: /'
    [[ ! -e $tmp/in || ! -e $tmp/back ]] || python3 tests/helpers/compare.py "$tmp/in" "$tmp/back"
}

# brief FILE: its last lines; of a long one (the trace of a runtime, say) its
# first as well
brief() {
    [[ ! -s $1 ]] || grep -av '^ *$' "$1" | cut -c 1-300 |
        awk '{ line[NR] = $0 } END {
            if (NR > 6) print line[1] "\n" line[2] "\n" line[3] "\n…"
            for (i = NR > 6 ? NR - 1 : NR - 2; i <= NR; i++) if (i > 0) print line[i] }'
}

# doing PROCESS TICKS: which system call it waits in, or, if it has used more
# than a few ticks instead or makes many, some of those that it makes; nothing
# where strace may not look
doing() {
    local number
    read -r number _ 2>/dev/null <"/proc/$1/syscall" || true
    if (($2 == 0)) && [[ $number == "$("${CC:-cc}" -E -P - <<<$'#include <sys/syscall.h>\nSYS_sendto' | tail -n 1)" ]]; then
        echo 'waits in sendto()' # and strace would end the wait
        return
    fi
    timeout 0.3 strace -qq -o "$tmp/doing" -p "$1" 2>/dev/null
    [[ -s $tmp/doing ]] || return 0
    if (($2 > 12 || $(wc -l <"$tmp/doing") > 50)); then
        echo "does not wait: $(wc -l <"$tmp/doing") calls in 0.3 s, such as"
        sed -En '11,16{s/\[([^]]{20})[^]]*\]/[\1 …]/g; s/^/calls /; p}' "$tmp/doing" | cut -c 1-250
    else
        head -n 1 "$tmp/doing" |
            sed -E 's/^restart_syscall\(<\.\.\. resuming interrupted (system call )?/(/; s/^\(?([a-z0-9_]+).*/waits in \1()/'
    fi
}
unread() { "${net[@]}" ss -tnH "sport = :$port" | awk '{ sum += $2 } END { print sum + 0 }'; }
wake_ups() { awk '/^voluntary/ { print $2 }' "/proc/$1/status"; }
sockets() { find "/proc/$1/fd" -lname 'socket:*' | wc -l; }

common_teardown() {
    local process
    [[ -z ${EVIDENCE:-} || ${BATS_TEST_COMPLETED:-} == 1 ]] || evidence
    for process in "${started[@]}"; do
        is_child "$process" || continue
        kill -CONT "$process" 2>/dev/null
        disown "$process" 2>/dev/null # else bash tells how it ended
        kill -KILL "$process" 2>/dev/null
        wait_for gone "$process"
    done
    return 0
}
