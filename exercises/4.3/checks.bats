# Exercise 4.3: what the suite of stage 4 sees as well, but in so small a case
# that what came tells one mistake from another.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup_file() {
    python3=$(python3 -c 'import sys; print(sys.executable)')
    export python3
    [[ ${CERTS:-} ]] && return # a caller's
    export CERTS=$BATS_FILE_TMPDIR/certs
    04-tls/make-certs.sh "$CERTS" >/dev/null
}
setup() { common_setup; }
teardown() { common_teardown; }

app_server() { # [OPTION...]
    start_server tls-app-server "$@" --cert "$CERTS/server.pem" --key "$CERTS/server-key.pem" 127.0.0.1 0
}

# talk VERSIONS ACT: clients that do ACT, some Python, with their peer after the
# handshake, each in one of these versions of TLS. It fails with what they do
# not like.
talk() {
    run timeout "${limit:-20}" "$python3" - "$host" "$port" "$1" "$2" 3>&- <<'PYTHON'
import os, ssl, sys, time
sys.path.insert(0, "tests/helpers")
import tls_peer
tls_peer.PATIENCE = 4
host, port, versions, act = sys.argv[1:]
for number in versions.split():
    version = {"1.2": tls_peer.V12, "1.3": tls_peer.V13}[number]
    doing = "the handshake"
    try:
        with tls_peer.connect(host, port, tls_peer.client_context(version)) as peer:
            peer.handshake()
            doing = "after the handshake"
            exec(act)
    except (OSError, AssertionError) as error:
        what = str(error)
        if isinstance(error, ssl.SSLEOFError):
            what = "the connection ended without close_notify"
        elif isinstance(error, TimeoutError):
            what = "nothing came"
        print(f"TLS {number}, {doing}: {what}")
        break  # the other would take as long
PYTHON
    [[ $status -eq 0 && -z $output ]] || fail "$output"
}

@test "a client of TLS 1.2 is served" {
    app_server
    talk 1.2 'peer.talk("app")'
}

@test "a client of TLS 1.3 is served" {
    app_server
    talk 1.3 'peer.talk("app")'
}

@test "your client is served by your server" {
    app_server
    run timeout "${limit:-20}" "$build/tls-app-client" -t 3 --ca "$CERTS/ca.pem" localhost "$port" search ring 3>&-
    assert_output 'Got result: In the caves beneath the Misty Mountains. 💍'
    assert_success
}

@test "a request in many records, and an answer of many, are whole" {
    app_server
    talk '1.2 1.3' 'peer.stream.sendall(b"".join(peer.record(bytes([byte])) for byte in tls_peer.search("ring")))
peer.expect_result(tls_peer.answer_to("ring"))
peer.talk("app", "x" * 60000)'
}

@test "a client that says close_notify hears it, and the end" {
    app_server
    talk '1.2 1.3' 'peer.talk("app"); peer.end()'
    wait_for has_closed 2
    run grep ^Closing "$tmp/out"
    refute_output --regexp ': [a-z]' # a reason
    assert_equal "$(cat "$tmp/err")" ''
}

@test "all requests in one record are answered, though no more comes" {
    app_server
    talk '1.2 1.3' 'peer.send(b"".join(tls_peer.search(f"{number:100}") for number in range(60)))
for number in range(60):
    doing = f"for {number} of 60 requests came answers; after that"
    peer.expect_result(tls_peer.answer_to(f"{number:100}"))'
}

@test "a handshake that is none, or ends early, costs a line, and ends nobody else" {
    app_server
    printf 'GET / HTTP/1.0\r\n\r\n' | timeout "${limit:-20}" nc -N 127.0.0.1 "$port" >"$tmp/nc" || true
    complained 'http request'
    timeout "${limit:-20}" nc -N 127.0.0.1 "$port" </dev/null >"$tmp/nc" || true
    complained 'the peer ended it before it was complete'
    talk 1.3 'peer.talk("app")'
    run cat "$tmp/err"
    assert_equal "${#lines[@]} lines" '2 lines'
}

@test "a client that is refused learns why, though it has sent much" {
    app_server -q --ca "$CERTS/ca.pem"
    run timeout "${limit:-20}" "$python3" tests/helpers/tls_peer.py refused-client "$host" "$port" \
        'ALERT_HANDSHAKE_FAILURE|CERTIFICATE_REQUIRED' 500000
    assert_output ''
    assert_success
}

# sleeps: some Python for talk: the server does, but for moments. How much time
# of the processor it takes would depend on who else wants some.
sleeps() {
    cat <<PYTHON
time.sleep(0.2)
states = ""
for _ in range(30):
    with open("/proc/$server/stat") as file:
        states += file.read().rpartition(")")[2].split()[0]
    time.sleep(0.02)
assert states.count("S") > 15, f"nobody says anything, and the server does not sleep, but runs: {states}"
PYTHON
}

@test "a client that is silent in its handshake costs no time" {
    app_server
    start_peer silent connect 127.0.0.1 "$port" say connected hold
    wait_for grep -q connected "$tmp/silent"
    talk 1.3 'peer.talk("app"); peer.end()'$'\n'"$(sleeps)"
}

@test "a client that is silent in the middle of a record costs no time" {
    app_server
    talk 1.3 'peer.talk("app")
peer.stream.sendall(peer.record(tls_peer.search("ring"))[:100])'$'\n'"$(sleeps)"
}

@test "a cut is told from an end" {
    app_server
    talk '1.2 1.3' 'peer.talk("app"); peer.half_close(); peer.wait_for_end()'
    wait_for has_closed 2
    talk '1.2 1.3' 'peer.stream.sendall(peer.record(tls_peer.search("ring")[:50])); peer.half_close(); peer.wait_for_end()'
    wait_for has_closed 4
    run sed 's/127.0.0.1:[0-9]*/ADDRESS/' "$tmp/err"
    assert_output 'tls-app-server: connection from ADDRESS: end of stream inside the header
tls-app-server: connection from ADDRESS: end of stream inside the header'
    run grep -c '^Closing connection to .*: truncated: it ended without close_notify$' "$tmp/out"
    assert_output 2
}
has_closed() { (($(grep -c ^Closing "$tmp/out") >= $1)); }
