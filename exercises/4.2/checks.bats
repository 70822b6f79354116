# Exercise 4.2: a client over TLS, against servers that are not ours and do one
# thing each, and against the certificates of the zoo.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup_file() {
    python3=$(python3 -c 'import sys; print(sys.executable)')
    export python3
    [[ ${CERTS:-} ]] && return # a caller's
    export CERTS=$BATS_FILE_TMPDIR/certs
    04-tls/make-certs.sh --bad "$CERTS" >/dev/null
}
setup() {
    common_setup
    client_env=()
    zoo=$CERTS/bad
}
teardown() { common_teardown; }

# told WANTED ACT [VERSION]: a client that says hello, in TLS 1.2 and 1.3 or in one
# of them, to a server that does ACT, some Python, with its peer after the
# handshake. It fails with what the server did not like, and with what the
# client says, if that is not WANTED.
told() {
    run timeout "${limit:-20}" "$python3" - "$1" "$2" "${3:-1.2 1.3}" "${client_env[@]}" "$build/tls-echo-client" \
        -t 2 --ca "$CERTS/ca.pem" localhost @ hello 3>&- <<'PYTHON'
import signal, ssl, sys
sys.path.insert(0, "tests/helpers")
import tls_peer
from tls_peer import take_end
wanted, act, versions, *command = sys.argv[1:]
for number in versions.split():
    version = {"1.2": tls_peer.V12, "1.3": tls_peer.V13}[number]
    seen = []
    def behave(peer):
        try:
            peer.handshake()
            exec(act)
        except ssl.SSLEOFError:
            seen.append("the client ended its side without close_notify")
        except (OSError, AssertionError) as error:
            seen.append(f"the server met: {error}")
    status, output, errors = tls_peer.run_client(
        command, behave, tls_peer.server_context(version))
    said = f"{output}{errors}"[:500].strip()
    if status < 0:
        said += f" and was ended by signal {-status} ({signal.Signals(-status).name})"
    elif status > 0:
        said += f" (status {status})"
    if said != wanted:
        seen.append(f"the client said: {said or 'nothing'}")
    for line in seen:
        print(f"TLS {number}: {line}")
PYTHON
    [[ $status -eq 0 && -z $output ]] || fail "$output"
}
good="Received 'hello'"

# says CERTIFICATE NAME WANTED: what a client says first that wants NAME, and is
# shown this certificate: good, or why not. Adds a line to $wrong if that is not
# it. With "alert", the server has to hear of it. How the connection ends is
# another matter: the server does not wait.
says() {
    local said client
    : >"$tmp/client"
    start_server tls-echo-server -q --cert "$zoo/$1.pem" --key "$zoo/$1-key.pem" 127.0.0.1 0
    "$build/tls-echo-client" -t 5 --ca "$CERTS/ca.pem" --name "$2" 127.0.0.1 "$port" hello >"$tmp/client" 2>&1 </dev/null 3>&- &
    client=$!
    started+=("$client")
    wait_for said_or_gone "$client"
    [[ -z ${4:-} ]] || wait_for told_by_an_alert
    disown "$server" && kill -KILL "$server"
    server=
    wait_for gone "$client"
    said=$(head -n 1 "$tmp/client")
    said=${said//"127.0.0.1:$port"/A}
    said=${said/#"$good"/good}
    said=${said#"tls-echo-client: handshake with A: "}
    [[ $said == "$3" ]] || wrong+="$1.pem, for $2: ${said:-nothing}"$'\n'
}
told_by_an_alert() { grep -q alert "$tmp/err" || grep -q "^$good" "$tmp/client"; }
said_or_gone() { [[ -s $tmp/client ]] || gone "$1"; }
name='it is not for the name that we want (hostname mismatch)'
address='it is not for the address that we want (IP address mismatch)'
neither='who signed it is neither trusted nor shown (unable to get local issuer certificate)'
all_said() { [[ -z $wrong ]] || fail "$wrong"; }

echoes='peer.send(peer.receive(5)); peer.say_end(); peer.half_close(); peer.wait_for_end()'

@test "a message comes back over TLS 1.2" {
    told "$good" "$echoes" 1.2
}

@test "a message comes back over TLS 1.3" {
    told "$good" "$echoes" 1.3
}

@test "what comes back in five records is one message" {
    told "$good" '
for byte in peer.receive(5):
    peer.send(bytes([byte]))
peer.say_end(); peer.half_close(); peer.wait_for_end()'
}

@test "the client says that it has finished, by close_notify" {
    told "$good" 'peer.send(peer.receive(5)); take_end(peer); peer.say_end(); peer.half_close()'
}

@test "an end without close_notify is an error, though all has come" {
    told "$good
tls-echo-client: receive from A: truncated: it ended without close_notify, got 5 of 5 bytes (status 1)" \
        'peer.send(peer.receive(5)); peer.half_close(); peer.wait_for_end()'
}

@test "an end before all has come is an error, with close_notify, too" {
    told 'tls-echo-client: receive from A: ended early, got 3 of 5 bytes (status 1)' \
        'peer.send(peer.receive(5)[:3]); peer.say_end(); peer.half_close(); peer.wait_for_end()'
    told 'tls-echo-client: receive from A: truncated: it ended without close_notify, got 3 of 5 bytes (status 1)' \
        'peer.send(peer.receive(5)[:3]); peer.half_close(); peer.wait_for_end()'
}

@test "more than was sent is an error, also after our close_notify" {
    told "$good
tls-echo-client: receive from A: more than was sent, got 6 of 5 bytes (status 1)" \
        'peer.send(peer.receive(5)); take_end(peer); peer.send(b"!"); peer.say_end(); peer.half_close()'
}

@test "a server that nobody vouches for is refused, and told by an alert" {
    wrong=
    for beast in unknown-ca incomplete-chain; do
        says $beast localhost "certificate of '/CN=localhost': $neither" alert
    done
    says self-signed localhost "certificate of '/CN=localhost': it vouches for itself, and we do not trust it (self-signed certificate)"
    says good-rsa localhost good
    all_said
}

@test "a server with a good certificate for another name is refused" {
    wrong=
    says wrong-host localhost "certificate of '/CN=localhost': $name"
    says wrong-host other.example good
    says no-san localhost "certificate of '/CN=localhost': $name"
    says wrong-ip 127.0.0.1 "certificate of '/CN=localhost': $address"
    says wrong-ip 127.0.0.9 good
    all_said
}

@test "which names a certificate is for" {
    wrong=
    while read -r beast wanted verdict; do
        says "$beast" "$wanted" "$verdict"
    done <<TABLE
server-only LocalHost good
server-only ::1 good
server-only localhost.localdomain certificate of '/CN=localhost': $name
server-only 127.0.0.2 certificate of '/CN=localhost': $address
wildcard a.example.org good
wildcard example.org certificate of '/CN=localhost': $name
wildcard a.b.example.org certificate of '/CN=localhost': $name
partial-wildcard www.example.org certificate of '/CN=localhost': $name
many-sans name-997.example.org good
TABLE
    all_said
}

@test "each beast of the zoo: the exact verdict" {
    wrong=
    while read -r beast verdict; do
        says "$beast" localhost "${verdict/\/CN/certificate of \'\/CN}"
    done <<TABLE
rsa4096          good
ecc384           good
ed25519          good
chain            good
no-subject       good
revoked          good
expired          /CN=localhost': its time is over (certificate has expired)
not-yet-valid    /CN=localhost': its time has not come (certificate is not yet valid)
not-a-ca         /CN=server': it signs for others, and is no CA (invalid CA certificate)
pathlen          /CN=CA between': it signs for a CA, and may not (path length constraint exceeded)
name-constraints /CN=localhost': its CA may not sign for this name (permitted subtree violation)
client-only      /CN=localhost': it was made for something else (unsuitable certificate purpose)
TABLE
    all_said
}

@test "the server is told which name is meant (SNI), and no address" {
    : >"$tmp/told"
    "$python3" tests/helpers/tls_peer.py serve 127.0.0.1 0 echo >"$tmp/told" 2>&1 </dev/null 3>&- &
    started+=("$!")
    wait_for grep -q '^[0-9]' "$tmp/told"
    wrong='' number=1
    for wanted in localhost 127.0.0.1 ::1; do
        timeout "${limit:-20}" "$build/tls-echo-client" -t 2 --ca "$CERTS/ca.pem" --name $wanted \
            127.0.0.1 "$(head -n 1 "$tmp/told")" hello >"$tmp/client" 2>&1 3>&- || true
        number=$((number + 1))
        wait_for has_lines $number "$tmp/told"
        said=$(sed -n "$number{s/.* name=\([^ ]*\) .*/\1/p}" "$tmp/told")
        [[ $wanted == localhost ]] || wanted=None
        [[ $said == "$wanted" ]] || wrong+="the server was told: ${said:-nothing, or only half a line}; it should be $wanted"$'\n'
    done
    all_said
}
has_lines() { (($(wc -l <"$2") >= $1)); }

@test "a kernel that gives and takes a byte at a time changes nothing" {
    client_env=(env "LD_PRELOAD=$build/shim.so" SHIM_RECEIVE=1 SHIM_SEND=1)
    told "$good" 'peer.send(peer.receive(5)); take_end(peer); peer.say_end(); peer.half_close()'
}

# The server looks for a certificate when the client's handshake is over; it says
# why it refuses, and resets. Then the client has something to send.
@test "a server that has refused us already is heard, although the sending fails" {
    run timeout "${limit:-20}" "$python3" - "$build/tls-echo-client" -t 2 --ca "$CERTS/ca.pem" localhost 3>&- <<'PYTHON'
import os, socket, ssl, subprocess, sys
sys.path.insert(0, "tests/helpers")
import tls_peer
with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]
    client = subprocess.Popen([*sys.argv[1:], str(port), "-"], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with tls_peer.Peer(listener.accept()[0], tls_peer.server_context(tls_peer.V13, ca="ca"), True) as peer:
        try:
            peer.handshake()
        except OSError:
            pass
        peer.reset()
    errors = client.communicate(b"hello")[1].decode()
print(errors.replace(f"127.0.0.1:{port}", "A"), end="")
PYTHON
    assert_output 'tls-echo-client: receive from A: tlsv13 alert certificate required, got 0 of 0 bytes'
}
