#!/usr/bin/env bash
# stage.sh N: shows stage N live. Starts its server on a free port, runs its
# client against it, checks what came back, stops the server, and says what to
# do next. Exit status 0 if all was as it should be.
set -u
cd "$(dirname "$0")/.." || exit
build=${BUILD:-build}
stage=${1:-}
work=$(mktemp -d)
server=
options=()

clean_up() {
    [[ -z $server ]] || kill "$server" 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT

give_up() {
    echo "stage $stage: $1" >&2
    cat "$work/errors" >&2
    exit 1
}

# server_says TEXT [COUNT]: waits at most 10 s for so many lines of the server
# that have it
server_says() {
    local deadline=$((SECONDS + 10))
    until (($(grep -c "$1" "$work/server") >= ${2:-1})); do
        kill -0 "$server" 2>/dev/null || give_up "the server ended"
        ((SECONDS < deadline)) || give_up "the server does not say: $1"
        sleep 0.05
    done
}

label() { while read -r line; do printf '%s | %s\n' "$1" "$line"; done; }

# start_server PROGRAM [OPTION...]: and sets port
start_server() {
    echo "run    | $build/$1 ${*:2}${2:+ }127.0.0.1 0"
    : >"$work/server"
    "$build/$1" "${@:2}" 127.0.0.1 0 >"$work/server" 2>"$work/errors" &
    server=$!
    server_says '^Listening on'
    label server <"$work/server"
    port=$(sed -n '1s/.*://p' "$work/server")
}

# client PROGRAM ARGUMENT...: its lines are kept until the server's are
# complete, so that the order of what is shown does not depend on who prints
# first. Sets status.
client() {
    "$build/$1" "${@:2}" >"$work/client" 2>&1
    status=$?
}

stop_server() {
    kill "$server"
    wait "$server"
    status=$?
    server=
    [[ $status -eq 0 ]] || give_up "the server stopped with exit status $status"
}

show_1() {
    local message='Hello, world'
    start_server echo-server
    echo "run    | $build/echo-client 127.0.0.1 $port '$message'"
    client echo-client 127.0.0.1 "$port" "$message"
    if [[ $status -ne 0 || $(<"$work/client") != "Received '$message'" ]]; then
        sed -n '2,$p' "$work/server" | label server
        label client <"$work/client"
        give_up "sent '$message', which did not come back as it was (the client's exit status is $status)"
    fi
    server_says '^Closing connection'
    sed -n 2p "$work/server" | label server
    label client <"$work/client"
    sed -n '3,$p' "$work/server" | label server
    stop_server
    cat <<TEXT
Good: what was sent came back, and the server stopped when told to.

Read   docs/01-echo.md, beside 01-echo/echo-once.c
Try    terminal 1: $build/echo-server
       terminal 2: $build/echo-client 127.0.0.1 65432 'your own words'
       terminal 1: Ctrl-C stops the server
Break  make mistake NAME=one-send   ("make mistake" lists them all)
Next   make test-1, then the exercises at the end of the walkthrough
TEXT
}

show_2() {
    local silent
    start_server multiconn-server
    # The silent client of stage 1, which there kept everybody waiting.
    echo "run    | a client that connects and says nothing"
    exec {silent}<>"/dev/tcp/127.0.0.1/$port"
    server_says '^Accepted connection'
    echo "run    | $build/multiconn-client 127.0.0.1 $port 2"
    client multiconn-client 127.0.0.1 "$port" 2
    label client <"$work/client"
    [[ $status -eq 0 ]] || give_up "an echo was wrong (the client's exit status is $status)"
    server_says '^Closing connection' 2
    exec {silent}>&-
    server_says '^Closing connection' 3
    sed -n '2,$p' "$work/server" | label server
    stop_server
    cat <<TEXT
Good: two connections had their echo while a third said nothing.

Read   docs/02-multiconn.md, beside 02-multiconn/discard-server.c
Try    terminal 1: $build/c10k-server -q
       terminal 2: $build/c10k-client 127.0.0.1 65432 5000
       terminal 1: Ctrl-C stops the server
Break  make mistake NAME=always-writable   ("make mistake" lists them all)
Next   make test-2, make bench-2, then the exercises in the walkthrough
TEXT
}

# ask CLIENT EXPECTED WORD...: runs it, with $options, and it must print just
# that
ask() {
    local expected=$2
    echo "run    | $build/$1 ${options[*]}${options[*]:+ }127.0.0.1 $port ${*:3}"
    client "$1" "${options[@]}" 127.0.0.1 "$port" "${@:3}"
    label client <"$work/client"
    [[ $status -eq 0 && $(<"$work/client") == "$expected" ]] ||
        give_up "expected '$expected' (the client's exit status is $status)"
}

show_3() {
    start_server app-server
    echo "run    | $build/message-tool encode search ring   (the first 32 bytes)"
    "$build/message-tool" encode search ring | od -An -tx1 -N32 | label message
    ask app-client 'Got result: In the caves beneath the Misty Mountains. 💍' search ring
    ask app-client 'Got sum: 4294967298' sum 1 2 4294967295
    server_says '^Closing connection' 2
    sed -n '2,$p' "$work/server" | label server
    stop_server
    cat <<TEXT
Good: a length, a header that describes, content of two kinds, two answers.

Read   docs/03-app-protocol.md, and docs/protocol.md, which it is about
Try    terminal 1: $build/app-server
       terminal 2: $build/app-client 127.0.0.1 65432 search morpheus
       terminal 1: Ctrl-C stops the server
Break  make mistake NAME=one-receive-one-message   ("make mistake" lists them)
Next   make test-3, make bench-3, then the exercises in the walkthrough
TEXT
}

show_4() {
    local certs=$build/certs
    echo "run    | 04-tls/make-certs.sh $certs"
    04-tls/make-certs.sh "$certs" >"$work/errors" 2>&1 || give_up "no certificates"
    label files <"$work/errors"
    start_server tls-app-server --cert "$certs/server.pem" --key "$certs/server-key.pem"
    options=(--ca "$certs/ca.pem")
    ask tls-app-client 'Got result: In the caves beneath the Misty Mountains. 💍' search ring
    server_says '^Closing connection'
    # The same, to whom does not know this CA: it must refuse.
    options=()
    echo "run    | $build/tls-app-client 127.0.0.1 $port search ring"
    client tls-app-client 127.0.0.1 "$port" search ring
    label client <"$work/client"
    [[ $status -eq 1 ]] || give_up "a client that does not know the CA was content"
    server_says '^Closing connection' 2
    sed -n '2,$p' "$work/server" | label server
    stop_server
    cat <<TEXT
Good: one client knew whom it talks to, and one refused to talk to a stranger.

Read   docs/04-tls.md, beside 04-tls/tls-echo-server.c
Try    terminal 1: $build/tls-app-server --cert $certs/server.pem \\
                       --key $certs/server-key.pem
       terminal 2: $build/tls-app-client --ca $certs/ca.pem 127.0.0.1 65432 \\
                       search morpheus
       terminal 1: Ctrl-C stops the server
Break  make mistake NAME=no-verification   ("make mistake" lists them all)
Next   make test-4, make bench-4, then the exercises in the walkthrough
TEXT
}

case $stage in
1 | 2 | 3 | 4) "show_$stage" ;;
*)
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2 ;;
esac
