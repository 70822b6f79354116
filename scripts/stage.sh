#!/usr/bin/env bash
# stage-1.sh: shows stage 1 live. Starts echo-server on a free port, runs
# echo-client against it, checks the echo, stops the server, and says what to
# do next. Exit status 0 if all was as it should be.
set -u
cd "$(dirname "$0")/.." || exit
build=${BUILD:-build}
message='Hello, world'
work=$(mktemp -d)
server=

clean_up() {
    [[ -z $server ]] || kill "$server" 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT

give_up() {
    echo "stage 1: $1" >&2
    cat "$work/errors" >&2
    exit 1
}

# server_says TEXT: waits at most 10 s for a line of the server that has it
server_says() {
    local deadline=$((SECONDS + 10))
    until grep -q "$1" "$work/server"; do
        kill -0 "$server" 2>/dev/null || give_up "the server ended"
        ((SECONDS < deadline)) || give_up "the server does not say: $1"
        sleep 0.05
    done
}

label() { while read -r line; do printf '%s | %s\n' "$1" "$line"; done; }

echo "run    | $build/echo-server 127.0.0.1 0"
: >"$work/server"
"$build/echo-server" 127.0.0.1 0 >"$work/server" 2>"$work/errors" &
server=$!
server_says '^Listening on'
label server <"$work/server"
port=$(sed -n '1s/.*://p' "$work/server")

# The client's lines are kept until the server's are complete, so that the
# order of what is shown does not depend on who prints first.
echo "run    | $build/echo-client 127.0.0.1 $port '$message'"
"$build/echo-client" 127.0.0.1 "$port" "$message" >"$work/client" 2>&1
status=$?
if [[ $status -ne 0 || $(<"$work/client") != "Received '$message'" ]]; then
    sed -n '2,$p' "$work/server" | label server
    label client <"$work/client"
    give_up "sent '$message', which did not come back as it was (the client's exit status is $status)"
fi
server_says '^Closing connection'
sed -n 2p "$work/server" | label server
label client <"$work/client"
sed -n '3,$p' "$work/server" | label server

kill "$server"
wait "$server"
stopped=$?
server=
[[ $stopped -eq 0 ]] || give_up "the server stopped with exit status $stopped"
cat <<TEXT
Good: what was sent came back, and the server stopped when told to.

Read   docs/01-echo.md, beside 01-echo/echo-once.c
Try    terminal 1: $build/echo-server
       terminal 2: $build/echo-client 127.0.0.1 65432 'your own words'
       terminal 1: Ctrl-C stops the server
Break  make mistake NAME=one-send   ("make mistake" lists them all)
Next   make test-1, then the exercises at the end of the walkthrough
TEXT
