# Stage 4: TLS, tested from outside. The peers that are not ours are Python's
# ssl module (tls_peer.py), openssl's s_client and s_server, and GnuTLS. That
# stage 3's suite passes over TLS is tested there; here is what TLS adds.

# Each test is a subshell, and the helpers set variables for it. What stands in
# single quotes is for another shell.
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016,SC2009,SC2317

load helpers/common

setup_file() {
    # Some installations have a slow script before the real python3.
    python3=$(python3 -c 'import sys; print(sys.executable)')
    export python3
    [[ ${CERTS:-} ]] && return # a caller's
    export CERTS=$BATS_FILE_TMPDIR/certs
    04-tls/make-certs.sh --bad "$CERTS" >/dev/null
}
setup() {
    common_setup
    ca=$CERTS/ca.pem
    zoo=$CERTS/bad
}
teardown() { common_teardown; }

ring='Got result: In the caves beneath the Misty Mountains. 💍'
question() { printf '\0\153{"byteorder": "big", "content-type": "text/json", "content-encoding": "utf-8", "content-length": 37       }{"action": "search", "value": "ring"}'; }

# --- The command line --------------------------------------------------------

@test "-h and --help print the usage on standard output, with what TLS needs" {
    for program in tls-echo-server tls-echo-client tls-app-server tls-app-client; do
        for option in -h --help; do
            run --separate-stderr "$build/$program" $option
            assert_success
            assert_output --partial "Usage: $program [OPTIONS]"
            for needed in --cert --key --ca; do
                assert_output --partial "$needed FILE"
            done
            refute_output --partial insecure
            assert_equal "$stderr" ""
        done
        [[ $program == *-server ]] || assert_output --partial '--name NAME'
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
    for program in tls-echo-server tls-app-server; do
        bad "'cert': is needed" $program
        bad "'key': is needed" $program --cert "$CERTS/server.pem"
        bad "'cert': is needed" $program --key "$CERTS/server-key.pem" --ca "$ca"
        bad "'--name'" $program --name localhost
        bad "'--keylog'" $program --keylog x
        bad 'needs a value' $program --cert
    done
    for words in "tls-echo-client localhost 1" "tls-app-client localhost 1 search x"; do
        read -ra words <<<"$words"
        bad '--cert and --key go together' "${words[0]}" --cert x "${words[@]:1}"
        bad '--cert and --key go together' "${words[0]}" --key x "${words[@]:1}"
        bad "'--insecure'" "${words[0]}" --insecure "${words[@]:1}"
        for name in '' . .org localhost. a.example.org. "$(printf '%0254d' 0 | tr 0 x)"; do
            bad 'a certificate is for an address, or for a name without a dot' "${words[0]}" --name "$name" "${words[@]:1}"
        done
        bad 'without a dot' "${words[0]}" localhost. "${words[@]:2}"
        bad 'number' "${words[0]}" localhost 0 "${words[@]:3}"
    done
}

# --- The blocking echo -------------------------------------------------------

@test "our echo client and server: the message comes back, both narrate, -q does not" {
    echo_server
    run --separate-stderr echo_client localhost "$port"
    [[ -z ${EVIDENCE:-} || -z $stderr ]] || echo "evidence: our client says: $stderr" "; another: $(tls_peer serves echo 2>&1)"
    assert_success
    assert_output "Received 'Hello, world'"
    assert_equal "$stderr" ""
    run echo_client localhost "$port" ''
    assert_success
    assert_output "Received ''"
    run echo_client localhost "$port" "it's a 🐶"
    assert_output "Received 'it\\'s a 🐶'"
    run echo_client -q localhost "$port"
    assert_success
    assert_output ""
    closings 4
    stops_without_a_word
    run sed 's/:[0-9]*$/:PORT/' "$tmp/out"
    assert_output "$(echo 'Listening on 127.0.0.1:PORT'
        for _ in 1 2 3 4; do printf '%s 127.0.0.1:PORT\n' 'Connected by' 'Closing connection to'; done)"

    echo_server -q
    tls_peer serves echo
    stops_without_a_word
    assert_equal "$(cat "$tmp/out")" "Listening on 127.0.0.1:$port"
}

@test "a file of any size around the buffers' and the records' comes back through -" {
    echo_server
    for size in 0 1 4095 4096 4097 8192 16383 16384 16385 65537 1048576; do
        random_file "$tmp/in" $size
        echo_client localhost "$port" - <"$tmp/in" >"$tmp/back"
        cmp "$tmp/in" "$tmp/back"
    done
    run echo_client localhost "$port" "$(printf '%0100000d' 0)"
    assert_output "Received '$(printf '%064d' 0)'… (100000 bytes)"
    stops_without_a_word
}

@test "bytes are not strings, and records may be of any size" {
    echo_server
    tls_peer bytes-of-all-kinds
    python3 -c 'import sys
sys.stdout.buffer.write(bytes(range(256)) + bytes(5000) + b"end")' >"$tmp/in"
    echo_client localhost "$port" - <"$tmp/in" >"$tmp/back"
    cmp "$tmp/in" "$tmp/back"
    stops_without_a_word
}

@test "a client that says at once that 1 MiB was all gets it back, and then the end" {
    echo_server
    tls_peer half-closes 1048576
    tls_peer half-closes 0
    stops_without_a_word
}

@test "50 MB come back whole, in constant memory on both sides" {
    echo_server
    random_file "$tmp/in" 50000000
    run "$python3" - "$tmp" "$build/tls-echo-client" --ca "$ca" localhost "$port" - <<'PYTHON'
import resource, subprocess, sys
tmp, *command = sys.argv[1:]
with open(f"{tmp}/in", "rb") as source, open(f"{tmp}/back", "wb") as back:
    subprocess.run(command, stdin=source, stdout=back, timeout=50, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
PYTHON
    assert_success
    ((output < $(kilobytes 50000))) || fail "the client used $output kB"
    cmp "$tmp/in" "$tmp/back"
    local peak
    peak=$(awk '/^VmHWM/ { print $2 }' "/proc/$server/status")
    ((peak < $(kilobytes 50000))) || fail "the server used $peak kB"
}

@test "IPv6 works, its addresses are in brackets, and the certificate is for them" {
    own_network
    "${net[@]}" cat /proc/net/if_inet6 | grep -q . || skip "no IPv6 here"
    for kind in echo app; do
        start_server tls-$kind-server --cert "$CERTS/server.pem" --key "$CERTS/server-key.pem" ::1 0
        assert_equal "$(head -n 1 "$tmp/out")" "Listening on [::1]:$port"
        for name in ::1 '[::1]'; do
            run ${kind}_client "$name" "$port" hello
            assert_success
        done
        stops_without_a_word
        run ${kind}_client ::1 "$port" hello
        assert_failure 1
        assert_output "tls-$kind-client: connect to [::1]:$port: Connection refused"
    done
}

@test "SIGINT and SIGTERM stop the servers with status 0: idle, in a handshake, in mid-stream" {
    local signal kind
    for kind in echo app; do
        for signal in INT TERM; do
            ${kind}_server
            stops_without_a_word $signal
            ${kind}_server
            start_peer silent connect 127.0.0.1 "$port" send '\x16\x03\x01' say sent hold
            wait_for grep -q sent "$tmp/silent"
            said '127.0.0.1:'
            stops_without_a_word $signal
        done
    done
    echo_server
    echo_client localhost "$port" - </dev/zero >"$tmp/back" 2>"$tmp/client" &
    local transfer=$! status=0
    wait_for at_least 100000 "$tmp/back"
    stops_without_a_word INT
    wait $transfer || status=$?
    assert_equal "$status" 1
    run cat "$tmp/client"
    assert_output --regexp "^tls-echo-client: (receive from|send to) 127.0.0.1:$port: .*, got [0-9]+ of [0-9]+ bytes\$"
}

@test "a server that dies, and nobody there, are an error and status 1" {
    own_network
    for kind in echo app; do
        run ${kind}_client 127.0.0.1 4321 hello
        assert_failure 1
        assert_output "tls-$kind-client: connect to 127.0.0.1:4321: Connection refused"
    done
    echo_server -q
    "${net[@]}" "$build/tls-echo-client" --ca "$ca" 127.0.0.1 "$port" - </dev/zero >"$tmp/back" 2>"$tmp/client" 3>&- &
    local transfer=$! status=0
    wait_for at_least 1000000 "$tmp/back"
    kill -KILL "$server"
    wait $transfer || status=$?
    assert_equal "$status" 1
    run cat "$tmp/client"
    assert_output --regexp "^tls-echo-client: (receive from|send to) 127.0.0.1:$port: .*, got [0-9]+ of [0-9]+ bytes\$"
}

@test "a kernel that gives and takes a few bytes at a time changes nothing" {
    random_file "$tmp/in" 20000
    for limits in "SHIM_RECEIVE=1" "SHIM_SEND=1" "SHIM_RECEIVE=7 SHIM_SEND=3"; do
        read -ra limits <<<"LD_PRELOAD=$build/shim.so $limits"
        for server_env in "" "${limits[*]}"; do
            read -ra server_env <<<"$server_env"
            echo_server
            tls_peer half-closes 20000
            if [[ ${#server_env[@]} -eq 0 ]]; then
                timeout 20 env "${limits[@]}" "$build/tls-echo-client" --ca "$ca" localhost "$port" - <"$tmp/in" >"$tmp/back" 3>&-
            else
                echo_client localhost "$port" - <"$tmp/in" >"$tmp/back"
            fi
            cmp "$tmp/in" "$tmp/back"
            stops_without_a_word
        done
    done
}

@test "calls that a signal interrupts are made again" {
    random_file "$tmp/in" 100000
    for every in 2 3; do
        server_env=("LD_PRELOAD=$build/shim.so" "SHIM_EINTR=$every")
        echo_server
        tls_peer serves echo
        timeout 20 env "${server_env[@]}" "$build/tls-echo-client" --ca "$ca" localhost "$port" - <"$tmp/in" >"$tmp/back" 3>&-
        cmp "$tmp/in" "$tmp/back"
        run timeout 20 env "${server_env[@]}" "$build/tls-echo-client" --ca "$ca" localhost "$port"
        assert_success
        assert_output "Received 'Hello, world'"
        stops_without_a_word
    done
}

@test "a server and a client stopped and continued in mid-stream lose nothing" {
    echo_server
    random_file "$tmp/in" 20000000
    "$build/tls-echo-client" --ca "$ca" localhost "$port" - <"$tmp/in" >"$tmp/back" 3>&- &
    local transfer=$!
    started+=("$transfer")
    for share in 100000 3000000 6000000; do
        wait_for at_least $share "$tmp/back"
        for process in "$server" "$transfer"; do
            kill -STOP "$process"
            wait_for stopped "$process"
            kill -CONT "$process"
        done
    done
    patience=60 ended $transfer 0
    cmp "$tmp/in" "$tmp/back"
    stops_without_a_word
}

@test "with -t, a silent client is told on standard error, and the next is served" {
    echo_server -t 0.3
    for text in '' '\x16\x03\x01\x02\x00\x01\x00'; do
        start_peer silent connect 127.0.0.1 "$port" send "$text" say sent end
        wait_for grep -q 'before the end' "$tmp/silent"
    done
    tls_peer serves echo
    start_peer silent connect 127.0.0.1 "$port" send '' say sent hold
    wait_for grep -q sent "$tmp/silent"
    tls_peer serves echo
    run sed 's/127.0.0.1:[0-9]*/A/' "$tmp/err"
    assert_output "$(for _ in 1 2 3; do echo 'tls-echo-server: connection from A: Connection timed out'; done)"
}

@test "with -t, a silent server is given up, before the handshake and after it" {
    for kind in echo app; do
        start_peer silent listen 127.0.0.1 0 hold
        local began=${EPOCHREALTIME/./}
        run ${kind}_client -t 0.5 127.0.0.1 "$peer_port" hello
        assert_failure 1
        assert_output "tls-$kind-client: handshake with 127.0.0.1:$peer_port: Connection timed out"
        ((${EPOCHREALTIME/./} - began > 480000)) || fail "given up too early"
        # s_server takes what comes, and does not answer.
        openssl_server -tls1_3
        run ${kind}_client -t 0.5 127.0.0.1 "$peer_port" hello
        assert_failure 1
        assert_output --regexp "^tls-$kind-client: (receive|response) from 127.0.0.1:$peer_port: Connection timed out"
    done
}

@test "how servers end, cut off and lie: the clients say it in one line, and are never fooled" {
    run tls_scene ends-of-servers echo "$build/tls-echo-client" --ca "$ca" localhost @ hello
    assert_success
    ((output > 50)) || fail "$output"
    run tls_scene ends-of-servers app "$build/tls-app-client" --ca "$ca" localhost @ search x
    assert_success
    ((output > 70)) || fail "$output"
}

@test "a server that refuses early is heard, although the writing fails" {
    local big
    big=$(printf '%0100000d' 0)
    tls_scene early-error "$build/tls-app-client" --ca "$ca" localhost @ hello \
        "$big" "$big" "$big" "$big" "$big" "$big" "$big" "$big" "$big" "$big" "$big" "$big" "$big" "$big" "$big"
}

@test "a server may change its keys, and pad, in mid-answer; nothing but that is given up after -t" {
    tls_scene changes-keys app "$build/tls-app-client" -t 1 --ca "$ca" localhost @ search x
    tls_scene changes-keys echo "$build/tls-echo-client" -t 5 --ca "$ca" localhost @ hello
}

# --- Certificates and names --------------------------------------------------

@test "each beast of the zoo, shown by a server: the exact verdict, in one line, and status 1" {
    neither='who signed it is neither trusted nor shown (unable to get local issuer certificate)'
    no_name='it is not for the name that we want (hostname mismatch)'
    verdicts=$(
        cat <<TABLE
good-rsa
rsa4096
ecc384
ed25519
chain
no-subject
many-sans
server-only
revoked
expired          /CN=localhost: its time is over (certificate has expired)
not-yet-valid    /CN=localhost: its time has not come (certificate is not yet valid)
wrong-host       /CN=localhost: $no_name
wrong-ip         /CN=localhost: $no_name
no-san           /CN=localhost: $no_name
wildcard         /CN=localhost: $no_name
partial-wildcard /CN=localhost: $no_name
wildcard-tld     /CN=localhost: $no_name
self-signed      /CN=localhost: it vouches for itself, and we do not trust it (self-signed certificate)
unknown-ca       /CN=localhost: $neither
incomplete-chain /CN=localhost: $neither
not-a-ca         /CN=server: it signs for others, and is no CA (invalid CA certificate)
pathlen          /CN=CA between: it signs for a CA, and may not (path length constraint exceeded)
name-constraints /CN=localhost: its CA may not sign for this name (permitted subtree violation)
client-only      /CN=localhost: it was made for something else (unsuitable certificate purpose)
TABLE
    )
    local beast verdict
    while read -r beast verdict; do
        with_zoo "$beast"
        run app_client localhost "$port" search ring
        if [[ -z $verdict ]]; then
            [[ -z ${EVIDENCE:-} || $status -eq 0 ]] || echo "evidence: $beast: $(grep -c BEGIN "$zoo/$beast.pem") certificates in the file, $(
                openssl s_client -connect "127.0.0.1:$port" -showcerts </dev/null 2>/dev/null | grep -c BEGIN) shown"
            assert_equal "$beast: $status, $output" "$beast: 0, $ring"
            stops_without_a_word
        else
            assert_equal "$beast: $status, $output" "$beast: 1, tls-app-client: handshake with 127.0.0.1:$port: certificate of '${verdict/:/\':}"
            complained 'alert'
            stop_server
        fi
    done <<<"$verdicts"
    # What our servers do not even show (see below), others may.
    while read -r beast verdict; do
        openssl_server -cipher 'ALL:@SECLEVEL=0' -cert "$zoo/$beast.pem" -key "$zoo/$beast-key.pem" -cert_chain "$zoo/$beast.pem"
        run app_client localhost "$peer_port" search ring
        assert_equal "$beast: $status, $output" "$beast: 1, tls-app-client: handshake with 127.0.0.1:$peer_port: certificate of '${verdict/:/\':}"
        verdicts+=$'\n'$beast
    done <<'TABLE'
weak-rsa-1024    /CN=localhost: its key can be found out (EE certificate key too weak)
sha1-leaf        /CN=localhost: its signature can be forged (CA signature digest algorithm too weak)
sha1-intermediate /CN=CA by SHA-1: its signature can be forged (CA signature digest algorithm too weak)
TABLE
    # Nobody is left out: the others are not for servers, or not certificates.
    run diff <(sed -n 's|^bad/\([^ ]*\)\.pem.*|\1|p' "$zoo/list.txt" | sort) \
        <({ cut -d ' ' -f 1 <<<"$verdicts"; printf '%s\n' mismatch encrypted garbage empty other-ca crl \
            client-expired client-revoked client-unknown-ca client-self-signed client-cn-only; } | sort)
    assert_success
}

@test "each beast of the zoo, shown by a client: the server's exact verdict, and an alert" {
    app_server --ca "$ca"
    local beast alert verdict complaints=0
    while read -r beast alert verdict; do
        run app_client --cert "$CERTS/$beast.pem" --key "$CERTS/$beast-key.pem" localhost "$port" search ring
        if [[ $alert == good ]]; then
            assert_equal "$beast: $status, $output" "$beast: 0, $ring"
        else
            [[ -z ${EVIDENCE:-} || $status -ne 0 ]] || echo "evidence: who has no certificate is told: $(app_client localhost "$port" search ring 2>&1)"
            assert_equal "$beast: $status, $output" "$beast: 1, tls-app-client: response from 127.0.0.1:$port: ${alert//_/ }"
            complaints=$((complaints + 1))
            assert_equal "$(complaint $complaints)" "tls-app-server: connection from A: certificate of '${verdict/:/\':}"
        fi
    done <<'TABLE'
client good
bad/client-cn-only good
bad/client-revoked good
bad/client-expired sslv3_alert_certificate_expired /CN=client.example: its time is over (certificate has expired)
bad/client-unknown-ca tlsv1_alert_unknown_ca /CN=client.example: who signed it is neither trusted nor shown (unable to get local issuer certificate)
bad/client-self-signed tlsv1_alert_unknown_ca /CN=client.example: it vouches for itself, and we do not trust it (self-signed certificate)
bad/server-only sslv3_alert_unsupported_certificate /CN=localhost: it was made for something else (unsuitable certificate purpose)
bad/chain sslv3_alert_unsupported_certificate /CN=localhost: it was made for something else (unsuitable certificate purpose)
TABLE
    # What our client would not show, another may.
    timeout 10 openssl s_client -connect "127.0.0.1:$port" -cipher 'ALL:@SECLEVEL=0' \
        -cert "$zoo/weak-rsa-1024.pem" -key "$zoo/weak-rsa-1024-key.pem" </dev/null >"$tmp/s_client" 2>&1 3>&- || true
    complaints=$((complaints + 1))
    assert_equal "$(complaint $complaints)" "tls-app-server: connection from A: certificate of '/CN=localhost': its key can be found out (EE certificate key too weak)"
    tls_peer serves app client
    stop_server
    assert_equal "$(wc -l <"$tmp/err")" $complaints
}

@test "a CA file with a list of what it has revoked: the revoked are refused, the others are not" {
    cat "$ca" "$zoo/crl.pem" >"$tmp/ca"
    ca=$tmp/ca
    with_zoo revoked
    run app_client localhost "$port" search ring
    assert_failure 1
    assert_output "tls-app-client: handshake with 127.0.0.1:$port: certificate of '/CN=localhost': its CA has taken it back (certificate revoked)"
    stop_server
    # It lists what this CA has signed, and not what the CA between has.
    with_zoo chain
    run app_client localhost "$port" search ring
    assert_failure 1
    assert_output "tls-app-client: handshake with 127.0.0.1:$port: certificate of '/CN=localhost': there is no list of what its CA has taken back (unable to get certificate CRL)"
    stop_server
    app_server --ca "$tmp/ca"
    run app_client --cert "$CERTS/client.pem" --key "$CERTS/client-key.pem" localhost "$port" search ring
    assert_success
    run app_client --cert "$zoo/client-revoked.pem" --key "$zoo/client-revoked-key.pem" localhost "$port" search ring
    assert_failure 1
    assert_output "tls-app-client: response from 127.0.0.1:$port: sslv3 alert certificate revoked"
    complained "certificate of '/CN=client.example': its CA has taken it back (certificate revoked)"

    # A list that is too old is none.
    (
        cd "$tmp"
        printf '[ca]\ndefault_ca = c\n[c]\ndatabase = index\ndefault_md = sha256\n' >config
        : >index
        openssl ca -config config -gencrl -keyfile "$CERTS/ca-key.pem" -cert "$CERTS/ca.pem" \
            -crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z -out old.crl
    ) 2>/dev/null
    cat "$CERTS/ca.pem" "$tmp/old.crl" >"$tmp/ca"
    run app_client --cert "$CERTS/client.pem" --key "$CERTS/client-key.pem" localhost "$port" search ring
    assert_failure 1
    assert_output "tls-app-client: handshake with 127.0.0.1:$port: certificate of '/CN=localhost': the list of what its CA has taken back is too old (CRL has expired)"
}

@test "whom a certificate is for: names, wildcards and addresses in its list, and nothing else" {
    local beast name verdict
    declare -A verdicts=(
        [name]="certificate of '/CN=localhost': it is not for the name that we want (hostname mismatch)"
        [address]="certificate of '/CN=localhost': it is not for the address that we want (IP address mismatch)")
    while read -r beast name verdict; do
        if [[ $beast != "$last" ]]; then
            [[ -z $last ]] || stop_server
            with_zoo "$beast"
            last=$beast
        fi
        run app_client --name "$name" 127.0.0.1 "$port" search ring
        if [[ $verdict == yes ]]; then
            assert_equal "$beast for $name: $output" "$beast for $name: $ring"
            assert_success
        else
            [[ -z ${EVIDENCE:-} || $output != "$ring" ]] || {
                echo "evidence: for nobody.example: $(app_client --name nobody.example 127.0.0.1 "$port" search ring 2>&1)"
                echo "evidence: with another CA: $(app_client --ca "$zoo/other-ca.pem" --name nobody.example 127.0.0.1 "$port" search ring 2>&1)"
                grep -azqxE 'X509_VERIFY_PARAM_(set|add)1_host|SSL_(set|add)1_host|X509_check_host' "$build/tls-app-client" ||
                    echo "evidence: the client calls no function that takes the name to compare"
            }
            assert_equal "$beast for $name: $output" "$beast for $name: tls-app-client: handshake with 127.0.0.1:$port: ${verdicts[$verdict]}"
            assert_failure 1
        fi
    done <<'TABLE'
server-only localhost yes
server-only LocalHost yes
server-only 127.0.0.1 yes
server-only ::1 yes
server-only 0:0:0:0:0:0:0:1 yes
server-only 127.0.0.2 address
server-only ::2 address
server-only localhost.localdomain name
server-only a.localhost name
server-only ocalhost name
server-only 127.1 name
wildcard a.example.org yes
wildcard A.EXAMPLE.org yes
wildcard xn--a.example.org yes
wildcard example.org name
wildcard a.b.example.org name
wildcard a.example.org.evil name
wildcard localhost name
wildcard 127.0.0.1 address
partial-wildcard www.example.org name
partial-wildcard w.example.org name
partial-wildcard example.org name
wildcard-tld example.org name
wildcard-tld org name
wrong-host other.example yes
wrong-host 127.0.0.1 address
wrong-ip 127.0.0.9 yes
wrong-ip localhost name
no-san localhost name
no-san 127.0.0.1 address
TABLE
    # HOST is the name, if there is no --name.
    run app_client 127.0.0.1 "$port" search ring
    assert_output --partial "${verdicts[address]}"
    run echo_client localhost "$port"
    assert_output --partial "${verdicts[name]}"
}

@test "the server is told which name is meant, but no address (SNI)" {
    tls_server app cert bad/wildcard
    while read -r name told; do
        run app_client --name "$name" localhost "$peer_port" search ring
        assert_success
        wait_for grep -q " name=$told .*polite end" "$tmp/told"
    done <<'TABLE'
a.example.org a.example.org
B.example.org B.example.org
TABLE
    tls_server app
    run app_client localhost "$peer_port" search ring
    assert_success
    wait_for grep -q 'name=localhost .*polite end' "$tmp/told"
    run app_client 127.0.0.1 "$peer_port" search ring
    assert_success
    wait_for grep -q 'name=None .*polite end' "$tmp/told"
    run echo_client -t 0.5 --name ::1 127.0.0.1 "$peer_port" x
    wait_for has_lines 3 "$tmp/told"
    assert_equal "$(grep -c name=None "$tmp/told")" 2
}

@test "without --ca, a client trusts whom this system trusts; with it, nobody else" {
    echo_server
    mkdir "$tmp/none"
    run timeout 20 env SSL_CERT_FILE="$ca" "$build/tls-echo-client" localhost "$port"
    assert_success
    assert_output "Received 'Hello, world'"
    neither="certificate of '/CN=localhost': who signed it is neither trusted nor shown (unable to get local issuer certificate)"
    run timeout 20 env SSL_CERT_FILE=/dev/null SSL_CERT_DIR="$tmp/none" "$build/tls-echo-client" localhost "$port"
    [[ -z ${EVIDENCE:-} || $status -ne 0 ]] || {
        echo "evidence: where no CA is trusted, the client says: $output"
        output=$(env SHIM_VERIFY= "LD_PRELOAD=$build/shim.so" "$build/tls-echo-client" --ca "$ca" localhost "$port" 2>&1 >/dev/null 3>&-)
        echo "evidence: OpenSSL ${output:-is told nothing about verification}"
    }
    assert_failure 1
    assert_output "tls-echo-client: handshake with 127.0.0.1:$port: $neither"
    run timeout 20 env SSL_CERT_FILE="$ca" "$build/tls-echo-client" --ca "$zoo/other-ca.pem" localhost "$port"
    [[ -z ${EVIDENCE:-} || $status -ne 0 ]] || echo "evidence: with another CA than the server's, the client says: $output"
    assert_failure 1
    assert_output "tls-echo-client: handshake with 127.0.0.1:$port: $neither"
    # Nor may a client be one that the system trusts.
    server_env=("SSL_CERT_FILE=$ca")
    start_server tls-app-server --cert "$CERTS/server.pem" --key "$CERTS/server-key.pem" --ca "$zoo/other-ca.pem" 127.0.0.1 0
    run app_client --cert "$CERTS/client.pem" --key "$CERTS/client-key.pem" localhost "$port" search ring
    assert_failure 1
    assert_output "tls-app-client: response from 127.0.0.1:$port: tlsv1 alert unknown ca"
}

# --- Files -------------------------------------------------------------------

@test "a key that everybody may read is refused, with what mends it; one for a group is not" {
    cp "$CERTS/server.pem" "$CERTS/server-key.pem" "$tmp"
    cd "$tmp" # so that the line is not cut
    local mode
    exposed="key 'server-key.pem': everybody may read it; \"chmod 600\" mends that (and if anybody has, make a new one)"
    for mode in 644 604 666 o+r; do
        chmod $mode server-key.pem
        for program in tls-echo-server tls-app-server; do
            run timeout 5 "$build/$program" --cert server.pem --key server-key.pem 127.0.0.1 0
            assert_failure 1
            assert_output "$program: $exposed"
        done
        run timeout 5 "$build/tls-app-client" --ca "$ca" --cert server.pem --key server-key.pem localhost 1 search x
        assert_failure 1
        assert_output "tls-app-client: $exposed"
    done
    for mode in 600 640 400 440 660; do
        chmod $mode server-key.pem
        start_server tls-app-server --cert server.pem --key server-key.pem 127.0.0.1 0
        stops_without_a_word
    done
}

@test "files that are missing, no files, empty, garbage, or do not fit: no start, and one line" {
    cp "$CERTS"/*.pem "$zoo"/{garbage,garbage-key,encrypted,encrypted-key,mismatch,mismatch-key,weak-rsa-1024,weak-rsa-1024-key,sha1-leaf,sha1-leaf-key,sha1-intermediate,sha1-intermediate-key,crl}.pem "$tmp"
    cd "$tmp"
    mkdir -m 700 dir
    install -m 600 /dev/null empty
    head -c 100 server-key.pem >half
    chmod 600 half
    local cert key trust why
    while read -r cert key trust why; do
        trust=${trust/none/}
        for program in tls-echo-server tls-app-server; do
            run timeout 5 "$build/$program" --cert "$cert" --key "$key" ${trust:+--ca "$trust"} 127.0.0.1 0
            assert_equal "$status: $output" "1: $program: $why"
        done
    done <<'TABLE'
no server-key.pem none certificate 'no': No such file or directory
dir server-key.pem none certificate 'dir': no start line
empty server-key.pem none certificate 'empty': no start line
garbage.pem server-key.pem none certificate 'garbage.pem': too long
server-key.pem server-key.pem none certificate 'server-key.pem': no start line
weak-rsa-1024.pem weak-rsa-1024-key.pem none certificate 'weak-rsa-1024.pem': ee key too small
sha1-leaf.pem sha1-leaf-key.pem none certificate 'sha1-leaf.pem': ca md too weak
sha1-intermediate.pem sha1-intermediate-key.pem none certificate 'sha1-intermediate.pem': ca md too weak
server.pem no none key 'no': No such file or directory
server.pem dir none key 'dir': Is a directory
server.pem empty none key 'empty': there is no private key in it (in PEM form)
server.pem half none key 'half': there is no private key in it (in PEM form)
server.pem garbage-key.pem none key 'garbage-key.pem': there is no private key in it (in PEM form)
server.pem client-key.pem none key 'client-key.pem': it is not the key of the certificate (key values mismatch)
mismatch.pem mismatch-key.pem none key 'mismatch-key.pem': it is not the key of the certificate (key values mismatch)
server.pem server-key.pem no CA 'no': No such file or directory
server.pem server-key.pem dir CA 'dir': no certificate or crl found
server.pem server-key.pem empty CA 'empty': no certificate or crl found
server.pem server-key.pem garbage.pem CA 'garbage.pem': too long
server.pem server-key.pem server-key.pem CA 'server-key.pem': no certificate or crl found
TABLE
    for words in "--ca no:CA 'no': No such file or directory" "--ca empty:CA 'empty': no certificate or crl found" \
        "--cert no --key client-key.pem:certificate 'no': No such file or directory" \
        "--cert client.pem --key server-key.pem:key 'server-key.pem': it is not the key of the certificate (key values mismatch)" \
        "--keylog dir:key log 'dir': Is a directory"; do
        read -ra options <<<"${words%%:*}"
        for program in "tls-echo-client localhost 1" "tls-app-client localhost 1 search x"; do
            read -ra program <<<"$program"
            run timeout 5 "$build/${program[0]}" "${options[@]}" "${program[@]:1}"
            assert_equal "$status: $output" "1: ${program[0]}: ${words#*:}"
        done
    done
}

@test "an encrypted key is refused, and no pass phrase is asked for, also at a terminal" {
    cp "$zoo"/encrypted*.pem "$tmp"
    cd "$tmp"
    for program in tls-echo-server tls-app-server; do
        run timeout 10 "$python3" -c 'import os, pty, sys
status = pty.spawn(sys.argv[1:])
sys.exit(os.waitstatus_to_exitcode(status))' "$build/$program" --cert encrypted.pem --key encrypted-key.pem 127.0.0.1 0
        assert_equal "$status: ${output%$'\r'}" "1: $program: key 'encrypted-key.pem': it is encrypted, and nobody is asked for its pass phrase"
    done
}

# --- Peers of other makes ----------------------------------------------------

@test "openssl, GnuTLS and Python are served in TLS 1.2 and 1.3" {
    printf 'Hello, echo\n' >"$tmp/hello"
    question >"$tmp/question"
    for kind in echo app; do
        ${kind}_server
        local said=hello answer='Hello, echo'
        [[ $kind == echo ]] || said=question answer='beneath the Misty'
        tls_peer serves $kind
        for version in 1_2 1_3; do
            asks "$said" "$answer" openssl s_client -quiet -CAfile "$ca" -verify_return_error \
                -verify_hostname localhost -tls$version -connect "127.0.0.1:$port"
            asks "$said" "$answer" gnutls-cli --x509cafile "$ca" --verify-hostname localhost \
                --priority "NORMAL:-VERS-ALL:+VERS-TLS${version/_/.}" -p "$port" 127.0.0.1
        done
        stop_server
    done
}

@test "our clients are served by openssl, GnuTLS and Python in TLS 1.2 and 1.3" {
    own_network
    for version in 1.2 1.3; do
        "${net[@]}" gnutls-serv --echo -p 4433 --x509certfile "$CERTS/server.pem" --x509keyfile "$CERTS/server-key.pem" \
            --priority "NORMAL:-VERS-ALL:+VERS-TLS$version" >"$tmp/gnutls" 2>&1 </dev/null 3>&- &
        peer=$!
        started+=("$peer")
        wait_for listens 4433
        run echo_client 127.0.0.1 4433 $'Hello\n'
        assert_success
        assert_output "Received 'Hello\\n'"
        kill "$peer"
        wait_for gone "$peer"

        openssl_server -tls${version/./_}
        answer >&8
        run app_client 127.0.0.1 "$peer_port" search ring
        assert_success
        assert_output 'Got result: yes'
        tls_server echo $version
        run echo_client 127.0.0.1 "$peer_port"
        assert_output "Received 'Hello, world'"
        wait_for grep -q "^TLSv$version .*polite end" "$tmp/told"
        tls_server app $version alpn app-protocol/1
        run app_client 127.0.0.1 "$peer_port" search ring
        assert_output "$ring"
        wait_for grep -q "^TLSv$version .*alpn=app-protocol/1 .*polite end" "$tmp/told"
    done
}

@test "TLS 1.0 and 1.1, and suites without forward secrecy or with CBC, are refused with the right alert" {
    for kind in echo app; do
        start_server tls-$kind-server -q --cert "$zoo/good-rsa.pem" --key "$zoo/good-rsa-key.pem" 127.0.0.1 0
        while read -r alert options; do
            read -ra options <<<"$options"
            timeout 10 openssl s_client -connect "127.0.0.1:$port" "${options[@]}" </dev/null >"$tmp/s_client" 2>&1 3>&- || true
            run cat "$tmp/s_client"
            [[ -z ${EVIDENCE:-} || $output == *"SSL alert number"* ]] || {
                echo "evidence: taken: ${options[*]}"
                ! timeout 10 openssl s_client -connect "127.0.0.1:$port" -tls1_2 -cipher AES128-CCM </dev/null >/dev/null 2>&1 3>&- ||
                    echo "evidence: taken: AES128-CCM, which is not even among OpenSSL's default"
            }
            assert_output --partial "SSL alert number $alert"
        done <<'TABLE'
70 -tls1 -cipher ALL:@SECLEVEL=0
70 -tls1_1 -cipher ALL:@SECLEVEL=0
40 -tls1_2 -cipher ECDHE-RSA-AES128-SHA256
40 -tls1_2 -cipher ECDHE-RSA-AES256-SHA
40 -tls1_2 -cipher AES128-GCM-SHA256
40 -tls1_2 -cipher AES256-SHA
40 -tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256
40 -tls1_2 -cipher ECDHE-RSA-NULL-SHA:@SECLEVEL=0
40 -tls1_2 -cipher NULL-SHA256:@SECLEVEL=0
40 -tls1_3 -groups P-521
TABLE
        run timeout 10 gnutls-cli --no-ca-verification -p "$port" 127.0.0.1 --priority NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+3DES-CBC </dev/null
        assert_output --partial 'Handshake failed'
        for suite in ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES256-GCM-SHA384 ECDHE-RSA-CHACHA20-POLY1305; do
            timeout 10 openssl s_client -connect "127.0.0.1:$port" -tls1_2 -cipher $suite </dev/null >"$tmp/s_client" 2>&1 3>&-
            grep -q "Cipher is $suite" "$tmp/s_client"
        done
        # The server's order counts.
        timeout 10 openssl s_client -connect "127.0.0.1:$port" -tls1_2 -cipher ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256 </dev/null >"$tmp/s_client" 2>&1 3>&-
        grep -q 'Cipher is ECDHE-RSA-AES128-GCM-SHA256' "$tmp/s_client"
        stop_server
    done
}

@test "what our clients offer: TLS 1.2 and 1.3, nine suites, three groups, and no compression" {
    offer='compression 0
groups 29 23 24
suites 1302 1303 1301 c02b c02f c02c c030 cca9 cca8 ff
versions 304 303'
    run tls_scene offers "$build/tls-app-client" --ca "$ca" localhost @ search x
    assert_success
    assert_output "alpn app-protocol/1
$offer"
    run tls_scene offers "$build/tls-echo-client" --ca "$ca" localhost @ hello
    assert_output "$offer"
}

@test "our clients refuse servers with nothing but old TLS or weak suites" {
    for kind in echo app; do
        while read -r why; do
            read -ra options
            openssl_server -cert "$zoo/good-rsa.pem" -key "$zoo/good-rsa-key.pem" "${options[@]}"
            run ${kind}_client localhost "$peer_port" hello
            assert_failure 1
            assert_output "tls-$kind-client: handshake with 127.0.0.1:$peer_port: $why"
            kill "$peer"
        done <<'TABLE'
tlsv1 alert protocol version
-tls1 -cipher ALL:@SECLEVEL=0
tlsv1 alert protocol version
-tls1_1 -cipher ALL:@SECLEVEL=0
sslv3 alert handshake failure
-tls1_2 -cipher ECDHE-RSA-AES128-SHA256
sslv3 alert handshake failure
-tls1_2 -cipher AES128-GCM-SHA256
sslv3 alert handshake failure
-tls1_2 -cipher eNULL:@SECLEVEL=0
sslv3 alert handshake failure
-tls1_3 -groups P-521
TABLE
    done
}

@test "a client that wants to renegotiate is refused, and only its connection suffers" {
    for kind in echo app; do
        ${kind}_server
        talk_to_server -tls1_2
        question >&9
        wait_for grep -aq 'Misty\|"ring"' "$tmp/s_client"
        echo R >&9
        wait_for gone "$peer"
        grep -q 'no renegotiation' "$tmp/s_client"
        tls_peer serves $kind
        stop_server
    done
}

@test "a server that wants to renegotiate is refused, and the client says why it ends" {
    openssl_server -tls1_2
    "$build/tls-echo-client" --ca "$ca" localhost "$peer_port" $'hello\n' >"$tmp/client" 2>&1 3>&- &
    client=$!
    started+=("$client")
    wait_for grep -q '^hello' "$tmp/s_server"
    echo r >&8
    wait_for gone "$client"
    grep -q 'no renegotiation' "$tmp/s_server"
    assert_equal "$(cat "$tmp/client")" "tls-echo-client: receive from 127.0.0.1:$peer_port: sslv3 alert handshake failure, got 0 of 6 bytes"
}

@test "new keys in mid-conversation (KeyUpdate), one's own and the other's, change nothing" {
    for kind in echo app; do
        ${kind}_server
        talk_to_server -tls1_3
        for count in 1 2 3; do
            question >&9
            wait_for s_client_said $count 'Misty|"ring"'
            echo k >&9
            wait_for s_client_said $((2 * count - 1)) KEYUPDATE
            echo K >&9
            wait_for s_client_said $((2 * count)) KEYUPDATE
        done
        kill "$peer"
        tls_peer unusual $kind
        stop_server
    done
    openssl_server -tls1_3
    "$build/tls-echo-client" --ca "$ca" localhost "$peer_port" $'hello\n' >"$tmp/client" 2>&1 3>&- &
    client=$!
    started+=("$client")
    wait_for grep -q '^hello' "$tmp/s_server"
    echo k >&8
    wait_for grep -q SSL_do_handshake "$tmp/s_server"
    echo K >&8
    wait_for updated_twice
    echo hello >&8
    wait_for grep -q Received "$tmp/client"
}

@test "data before the handshake is complete (0-RTT) is not taken" {
    app_server
    talk_to_server -tls1_3 -sess_out "$tmp/session"
    question >&9
    wait_for s_client_said 1 Misty
    wait_for openssl sess_id -in "$tmp/session" -noout
    echo Q >&9
    wait_for gone "$peer"
    run openssl sess_id -in "$tmp/session" -noout -text
    assert_output --partial 'Max Early Data: 0'
    question >"$tmp/early"
    timeout 10 openssl s_client -connect "127.0.0.1:$port" -tls1_3 -sess_in "$tmp/session" -early_data "$tmp/early" </dev/null >"$tmp/s_client" 2>&1 3>&- || true
    run cat "$tmp/s_client"
    assert_output --partial 'Early data was not sent'
    refute_output --partial Misty
}

@test "the name of the protocol (ALPN): a match is chosen, none offered is accepted, another is refused" {
    app_server
    tls_peer alpn app-protocol/1 app-protocol/1
    tls_peer alpn app-protocol/1 h2 x app-protocol/1 http/1.1
    tls_peer alpn none
    for offers in h2 "http/1.1 app-protocol/2" app-protocol app-protocol/11 x; do
        read -ra offers <<<"$offers"
        tls_peer alpn refused "${offers[@]}"
        complained 'no application protocol'
    done
    timeout 10 openssl s_client -connect "127.0.0.1:$port" -alpn h2 </dev/null >"$tmp/s_client" 2>&1 3>&- || true
    grep -q 'SSL alert number 120' "$tmp/s_client"
    stop_server
    echo_server
    tls_peer alpn none h2
}

@test "a client takes a server without ALPN, but not one that chooses what was not offered" {
    tls_server app
    run app_client localhost "$peer_port" search ring
    assert_success
    wait_for grep -q 'alpn=None .*polite end' "$tmp/told"
    run tls_scene chooses-otherwise "$build/tls-app-client" --ca "$ca" localhost @ search x
    assert_success
    # Some versions of OpenSSL look, too, and are quicker.
    assert_output --regexp '^tls-app-client: handshake with A: (it chose a protocol that was not offered|bad extension)$'
}

# --- What a peer may do ------------------------------------------------------

@test "a handshake cut or reset at any stage costs a line, and the next client is served" {
    for kind in echo app; do
        ${kind}_server -t 10
        before=$(descriptors "$server")
        local count
        count=$(tls_peer handshakes-cut)
        closings "$count"
        # Two end after a handshake that is complete, and before a request: that
        # is an end like another to the app server, which narrates it.
        local lines_wanted=$count
        [[ $kind == echo ]] || lines_wanted=$((count - 2))
        assert_equal "$(wc -l <"$tmp/err")" "$lines_wanted"
        count=$((count + $(tls_peer handshakes-reset)))
        closings "$count"
        run grep -Ev ': (the peer ended it before it was complete|truncated: it ended without close_notify|Connection reset by peer|Broken pipe)$' "$tmp/err"
        assert_output ''
        recovers
    done
}

@test "resets and vanishings at each stage of a polite end disturb nobody" {
    for kind in echo app; do
        ${kind}_server -t 10
        before=$(descriptors "$server")
        local count
        count=$(tls_peer resets-at-the-end $kind)
        closings "$count"
        run grep -Ev ': (truncated: it ended without close_notify|Connection reset by peer|Broken pipe)$' "$tmp/err"
        assert_output ''
        recovers
    done
}

@test "close_notify followed by a reset is a polite end" {
    for kind in echo app; do
        ${kind}_server
        tls_peer ends-and-resets $kind
        closings 4
        assert_equal "$(cat "$tmp/err")" ''
        stop_server
    done
}

@test "the end without close_notify: within a request an error, after it a reason that is narrated" {
    app_server
    before=$(descriptors "$server")
    tls_peer cut-requests >"$tmp/wanted"
    closings "$(wc -l <"$tmp/wanted")"
    run diff "$tmp/wanted" <(sed -n 's/^Closing connection to [^ ]*: //p' "$tmp/out")
    assert_success
    run diff <(grep inside "$tmp/wanted") <(sed 's/.*: //' "$tmp/err")
    assert_success
    recovers
    # The echo has no lengths: there it is always an error.
    echo_server
    run tls_peer cut-echo
    assert_success
    complained 'truncated: it ended without close_notify'
    assert_equal "$(grep -c 'truncated: it ended without close_notify' "$tmp/err")" 2
}

@test "one flipped bit: an alert, and only that connection ends" {
    for kind in echo app; do
        ${kind}_server
        before=$(descriptors "$server")
        tls_peer flipped $kind
        complaint 6
        assert_equal "$(grep -c 'decryption failed or bad record mac$' "$tmp/err")" 6
        assert_equal "$(wc -l <"$tmp/err")" 6
        recovers
    done
}

@test "records that break the rules are refused with an alert; unusual ones are understood" {
    for kind in echo app; do
        ${kind}_server
        before=$(descriptors "$server")
        local count
        count=$(tls_peer forged $kind)
        complaint "$count"
        assert_equal "$(wc -l <"$tmp/err")" "$count"
        tls_peer unusual $kind
        recovers
    done
}

@test "plain HTTP, SSH, garbage of all kinds: a line for each, beside a client that notices nothing" {
    for kind in echo app; do
        ${kind}_server -t 10
        before=$(descriptors "$server")
        tls_peer garbage $kind 60
        complained 'http request'
        complained 'wrong version number'
        recovers
    done
}

@test "a flood of records that are no data does not keep others waiting, and has an end" {
    app_server -t 1
    before=$(descriptors "$server")
    for what in empty update wanted-update; do
        run tls_peer floods app $what 20
        assert_success
        assert_output --regexp '^[0-9]+ records, [0-9]+ answers of others, (ConnectionResetError|BrokenPipeError) after [0-4]\.'
    done
    assert_equal "$(grep -c 'no request after 1 s' "$tmp/err")" 2
    recovers
}

@test "a handshake has one deadline, whatever comes: silence, a half, all but a byte, a byte now and then" {
    app_server -t 1
    before=$(descriptors "$server")
    local count
    count=$(tls_peer late 1 "$server")
    assert_equal "$(grep -c 'handshake not complete after 1 s$' "$tmp/err")" "$count"
    assert_equal "$(wc -l <"$tmp/err")" "$count"
    recovers
}

@test "a handshake and a request that come a byte at a time, in time, are served" {
    for kind in echo app; do
        ${kind}_server
        tls_peer dribbles $kind 0.0005
        stops_without_a_word
    done
}

@test "calls that have to wait, are cut short or interrupted, all mixed, change nothing" {
    local big
    big=$(printf '%06000d' 0)
    for limits in "SHIM_EAGAIN=2" "SHIM_EAGAIN=3 SHIM_EINTR=5" "SHIM_EAGAIN=2 SHIM_RECEIVE=1 SHIM_SEND=1" \
        "SHIM_EAGAIN=3 SHIM_EINTR=7 SHIM_RECEIVE=100 SHIM_SEND=7"; do
        read -ra server_env <<<"LD_PRELOAD=$build/shim.so $limits"
        app_server
        tls_peer serves app
        tls_peer unusual app
        run timeout 20 env "${server_env[@]}" "$build/tls-app-client" --ca "$ca" localhost "$port" search "$big"
        assert_output "Got result: No match for '$big'."
        stops_without_a_word
    done
}

@test "a handshake that must wait until it can write costs no time, and goes on" {
    own_network
    "${net[@]}" sh -c 'echo 4096 4096 4096 >/proc/sys/net/ipv4/tcp_rmem &&
        echo 4096 4096 4096 >/proc/sys/net/ipv4/tcp_wmem' ||
        skip "this user may not set the buffers of a network namespace"
    for backend in epoll poll select; do
        with_zoo many-sans -t 10 -b $backend
        tls_peer slow-readers "$server"
        run app_client -t 10 localhost "$port" search "$(printf '%0100000d' 0)"
        assert_success
        stops_without_a_word
    done
}

@test "full records whose answers are not read: the server waits, and loses nothing" {
    app_server -q
    tls_peer backlog
    stops_without_a_word
}

@test "100 connections that rest take at most 25 kB each, and no time" {
    # Those that kept their buffers would take 31.
    app_server -q
    peer_output=$tmp/idle
    "$python3" tests/helpers/tls_peer.py idle "$host" "$port" 100 "$server" "$(kilobytes 25)" >"$peer_output" 2>&1 3>&- < <(exec sleep 60 3>&-) &
    peer=$!
    started+=("$peer")
    wait_for grep -q . "$tmp/idle"
    wait_for grep -q ' kB each$' "$tmp/idle"
    is_idle
    run gone "$peer"
    assert_failure
}

@test "800 clients, good and bad, leave no descriptor, no memory and no process" {
    app_server -q -t 10
    before=$(descriptors "$server")
    tls_peer churn "$server" 600 "$(kilobytes 1500)"
    recovers
    run ps -o pid= --ppid "$server"
    assert_output ''
}

# --- Certificates of clients (mutual TLS) -------------------------------------

@test "a client that is refused learns why, in both versions, also when it has sent its request already" {
    for kind in echo app; do
        ${kind}_server -q --ca "$ca"
        before=$(descriptors "$server")
        for size in 0 500000; do
            tls_peer refused-client 'ALERT_HANDSHAKE_FAILURE|CERTIFICATE_REQUIRED' $size
            tls_peer refused-client ALERT_UNKNOWN_CA $size bad/client-unknown-ca
        done
        tls_peer refused-client ALERT_UNSUPPORTED_CERTIFICATE 100 bad/server-only
        tls_peer refused-client ALERT_CERTIFICATE_EXPIRED 100 bad/client-expired
        local number
        while read -r number version; do
            timeout 10 openssl s_client -connect "127.0.0.1:$port" "$version" < <(question; exec sleep 5 3>&-) >"$tmp/s_client" 2>&1 3>&- || true
            run cat "$tmp/s_client"
            assert_output --partial "SSL alert number $number"
        done <<<$'40 -tls1_2\n116 -tls1_3'
        assert_equal "$(grep -vc 'connection from .*: \(peer did not return a certificate\|certificate of .*)\)$' "$tmp/err")" 0
        tls_peer serves $kind client
        recovers_with client
    done
}

@test "our refused clients say why, whatever they have sent" {
    local big
    big=$(printf '%0100000d' 0)
    app_server -q --ca "$ca"
    for _ in {1..10}; do
        run app_client localhost "$port" hello "$big" "$big" "$big" "$big" "$big"
        [[ -z ${EVIDENCE:-} || $status -ne 0 ]] || echo "evidence: a stranger's certificate: $(app_client --cert "$zoo/client-unknown-ca.pem" --key "$zoo/client-unknown-ca-key.pem" localhost "$port" search ring 2>&1)"
        assert_failure 1
        assert_output "tls-app-client: response from 127.0.0.1:$port: tlsv13 alert certificate required"
    done
    stop_server
    echo_server -q --ca "$ca"
    for _ in {1..10}; do
        run echo_client localhost "$port" "$big"
        assert_failure 1
        assert_output --regexp "^tls-echo-client: receive from 127.0.0.1:$port: tlsv13 alert certificate required, got 0 of [0-9]+ bytes\$"
    done
    run echo_client --cert "$CERTS/client.pem" --key "$CERTS/client-key.pem" localhost "$port"
    assert_success
    assert_output "Received 'Hello, world'"
}

# --- Resumption --------------------------------------------------------------

@test "sessions are resumed in TLS 1.2 and 1.3, with client certificates, and by any worker" {
    for options in "" "-w 2" "--ca $ca" "--ca $ca -w 3"; do
        read -ra options <<<"$options"
        app_server "${options[@]}"
        if [[ ${options[0]} == --ca ]]; then
            tls_peer resumes cert client
        else
            tls_peer resumes
        fi
        stops_without_a_word
    done
    app_server
    for version in 1_2 1_3; do
        talk_to_server -tls$version -sess_out "$tmp/session$version"
        question >&9
        wait_for s_client_said 1 Misty
        wait_for openssl sess_id -in "$tmp/session$version" -noout
        grep -q '^New, ' "$tmp/s_client"
        echo Q >&9
        wait_for gone "$peer"
        talk_to_server -tls$version -sess_in "$tmp/session$version"
        grep -q '^Reused, ' "$tmp/s_client"
        kill "$peer"
    done
}

@test "the client resumes when the server has closed after each reply" {
    for version in 1.2 1.3; do
        tls_server app one $version
        run --separate-stderr app_client localhost "$peer_port" - <<<$'search ring\nsearch ring\nsum 1 2\nhello'
        assert_success
        assert_output "$ring"$'\n'"$ring"$'\nGot sum: 3\nGot response: \'First 10 bytes of request: hello\''
        assert_equal "$stderr" ''
        wait_for has_lines 5 "$tmp/told"
        run sed -n 's/.* resumed=\([^ ]*\) .*/\1/p' "$tmp/told"
        assert_output $'False\nTrue\nTrue\nTrue'
    done
}

@test "a client that leaves a connection, and a server that gives one up, say so (close_notify)" {
    # Of three connections, the client leaves two to begin anew, and ends one.
    tls_server app one 1.3
    run app_client localhost "$peer_port" - < <(for _ in 1 2 3; do echo 'search ring'; sleep 0.3; done)
    assert_success
    wait_for has_lines 4 "$tmp/told"
    assert_equal "$(grep -c 'polite end$' "$tmp/told")" 3
    app_server -t 0.3
    tls_peer given-up
    complained 'no request after 0.3 s'
}

@test "sessions outlive SIGHUP; not where whom to trust has changed" {
    local options trust
    for workers in 1 2; do
        live_files
        start_server tls-app-server --cert "$live/server.pem" --key "$live/server-key.pem" --ca "$live/ca.pem" -w $workers 127.0.0.1 0
        start_scene session resumes-after yes client
        cp "$zoo/good-rsa.pem" "$live/server.pem"
        cp "$zoo/good-rsa-key.pem" "$live/server-key.pem"
        [[ -z ${EVIDENCE:-} ]] || ticket_key >"$tmp/key-before"
        reloads $workers
        [[ -z ${EVIDENCE:-} ]] || ticket_key | cmp -s - "$tmp/key-before" || echo "evidence: a reload changes the key of the tickets"
        echo >&7
        ended "$peer" 0
        start_scene session resumes-after no client
        cat "$zoo/other-ca.pem" >>"$live/ca.pem"
        reloads $((2 * workers))
        echo >&7
        ended "$peer" 0
        # What is revoked decides whom to trust, too.
        cp "$CERTS/ca.pem" "$live/ca.pem"
        reloads $((3 * workers))
        start_scene session resumes-after no client
        cat "$zoo/crl.pem" >>"$live/ca.pem"
        reloads $((4 * workers))
        echo >&7
        ended "$peer" 0
        tls_peer resumes cert client
        stops_without_a_word
    done
}

# --- New certificates without a stop -----------------------------------------

@test "SIGHUP: new connections see the new certificate, old ones live on, in each worker" {
    for workers in 1 3; do
        live_files
        start_server tls-app-server --cert "$live/server.pem" --key "$live/server-key.pem" -w $workers 127.0.0.1 0
        assert_equal "$(tls_peer shows)" "$(fingerprint "$CERTS/server.pem")"
        start_scene stays stays
        cp "$zoo/good-rsa.pem" "$live/server.pem"
        cp "$zoo/good-rsa-key.pem" "$live/server-key.pem"
        reloads $workers
        assert_equal "$(tls_peer shows 20)" "$(fingerprint "$zoo/good-rsa.pem")"
        echo >&7
        wait_for grep -q served "$tmp/stays"
        # Once more; and the connections from before both are still there.
        cp "$CERTS"/server{,-key}.pem "$live"
        reloads $((2 * workers))
        assert_equal "$(tls_peer shows)" "$(fingerprint "$CERTS/server.pem")"
        echo >&7
        wait_for has_lines 3 "$tmp/stays"
        exec 7>&-
        ended "$peer" 0
        stops_without_a_word
    done
}

@test "SIGHUP with files that are not good: a line that says why, and all goes on as before" {
    live_files
    start_server tls-app-server --cert "$live/server.pem" --key "$live/server-key.pem" --ca "$live/ca.pem" 127.0.0.1 0
    before=$(descriptors "$server")
    start_scene stays resumes-after yes client
    local count=0 file with why
    while read -r file with why; do
        live_files
        case $with in
        none) rm "$live/$file" ;;
        0644) chmod 644 "$live/$file" ;;
        *) cp "$zoo/$with" "$live/$file" ;;
        esac
        kill -HUP "$server"
        count=$((count + 1))
        complaint $count >"$tmp/line"
        assert_equal "$(sed "s|'$tmp/live/|'|; s|'[^']*$tmp/live/|'|" "$tmp/line" | sed 's/… ([0-9]* bytes)//')" \
            "tls-app-server: certificates not reloaded: $why"
        run app_client --ca "$CERTS/ca.pem" --cert "$CERTS/client.pem" --key "$CERTS/client-key.pem" localhost "$port" search ring
        assert_output "$ring"
    done <<'TABLE'
server.pem none certificate 'server.pem': No such file or directory
server.pem empty.pem certificate 'server.pem': no start line
server.pem garbage.pem certificate 'server.pem': too long
server.pem good-rsa.pem key 'server-key.pem': it is not the key of the certificate (key values mismatch)
server-key.pem none key 'server-key.pem': No such file or directory
server-key.pem garbage-key.pem key 'server-key.pem': there is no private key in it (in PEM form)
server-key.pem 0644 key 'server-key.pem': everybody may read it; "chmod 600" mends that (and if anybody has, make a new one)
ca.pem none CA 'ca.pem': No such file or directory
ca.pem empty.pem CA 'ca.pem': no certificate or crl found
TABLE
    echo >&7
    ended "$peer" 0
    live_files
    reloads 1
    tls_peer serves app client
    recovers_with client
}

@test "SIGHUP under load: no client sees an error" {
    for workers in 1 2; do
        live_files
        start_server tls-app-server -q --cert "$live/server.pem" --key "$live/server-key.pem" -w $workers 127.0.0.1 0
        start_scene load load
        local turn seen
        for turn in {1..5}; do
            live_files
            if ((turn % 2)); then
                cp "$zoo/good-rsa.pem" "$live/server.pem"
                cp "$zoo/good-rsa-key.pem" "$live/server-key.pem"
            fi
            kill -HUP "$server"
            wait_for shows_number $((turn % 2))
        done
        kill "$peer"
        ended "$peer" 0
        seen=$(tail -n 1 "$tmp/load")
        assert_equal "$seen" 2
        stops_without_a_word
    done
}

@test "with -q, a reload is not told, and one that fails is; 100 of them leave nothing behind" {
    live_files
    start_server tls-app-server -q --cert "$live/server.pem" --key "$live/server-key.pem" 127.0.0.1 0
    kill -HUP "$server"
    rm "$live/server.pem"
    sleep 0.1
    kill -HUP "$server"
    complained 'certificates not reloaded'
    tls_peer serves app
    assert_equal "$(cat "$tmp/out")" "Listening on 127.0.0.1:$port"
    live_files
    local memory
    before=$(descriptors "$server")
    for turn in {1..120}; do
        # What the first ones take, for good, does not count.
        ((turn != 20)) || memory=$(awk '/^VmRSS/ { print $2 }' "/proc/$server/status")
        kill -HUP "$server"
        ((turn % 20)) || tls_peer shows >/dev/null
    done
    wait_for waits "$server"
    memory=$(($(awk '/^VmRSS/ { print $2 }' "/proc/$server/status") - memory))
    ((memory < $(kilobytes 1000))) || fail "grew by $memory kB"
    recovers
}

# --- Looking on --------------------------------------------------------------

@test "--keylog: a file for its owner alone, with what deciphers a capture" {
    echo_server
    run echo_client --keylog "$tmp/new" localhost "$port"
    assert_equal "a new one: $(stat -c %a "$tmp/new")" "a new one: 600"
    install -m 666 /dev/null "$tmp/keys"
    for _ in 1 2; do
        run echo_client --keylog "$tmp/keys" localhost "$port"
        assert_success
        assert_equal "$(stat -c %a "$tmp/keys")" 600
    done
    run grep -Ec '^(CLIENT|SERVER)_TRAFFIC_SECRET_0 [0-9a-f]{64} [0-9a-f]{96}$' "$tmp/keys"
    assert_output 4
    run app_client --keylog "$tmp/nowhere/keys" localhost "$port" search ring
    assert_failure 1
    assert_output --partial 'No such file or directory'
    # Without the option there is none, whatever the environment says.
    run env SSLKEYLOGFILE="$tmp/unasked" "$build/tls-echo-client" --ca "$ca" localhost "$port"
    assert_success
    assert [ ! -e "$tmp/unasked" ]
}

@test "tshark reads our conversation with the key log, and not without" {
    command -v text2pcap >/dev/null && command -v tshark >/dev/null || skip '"make deps check" installs tshark'
    # socat passes on, and writes down, what goes over the wire: nobody needs
    # the right to capture, and no packet is missed.
    local relay
    echo_server
    socat -d -d -x TCP-LISTEN:0,bind=127.0.0.1 "TCP:127.0.0.1:$port" 2>"$tmp/relay" 3>&- &
    relay=$!
    started+=("$relay")
    wait_for grep -q 'listening on' "$tmp/relay"
    run echo_client --keylog "$tmp/keys" localhost \
        "$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$tmp/relay")" 'if you can read'
    assert_success
    wait_for gone "$relay"
    awk '/^>/ { side = "I" } /^</ { side = "O" } /^ / { print side, "0000" $0 "\n" }' "$tmp/relay" >"$tmp/bytes"
    text2pcap -q -D -T 40000,4433 "$tmp/bytes" "$tmp/capture"
    read_capture() { tshark -r "$tmp/capture" -d tcp.port==4433,tls "$@" 2>/dev/null; }
    run read_capture -o "tls.keylog_file:$tmp/keys" -x
    assert_output --partial 'if you can read'
    # Both sides have said that they had finished.
    run read_capture -o "tls.keylog_file:$tmp/keys" -Y 'tls.alert_message.desc == 0' -T fields -e tcp.srcport
    assert_output $'40000\n4433'
    run read_capture -x
    assert_success
    refute_output --partial 'if you can'
}

@test "sslscan finds TLS 1.2 and 1.3, six suites, and nothing that is weak" {
    command -v sslscan >/dev/null || skip '"make deps check" installs sslscan'
    for kind in echo app; do
        start_server tls-$kind-server -q -t 10 --cert "$CERTS/server.pem" --key "$CERTS/server-key.pem" 127.0.0.1 0
        before=$(descriptors "$server")
        run timeout 50 sslscan --no-colour "127.0.0.1:$port"
        assert_success
        for version in SSLv2 SSLv3 TLSv1.0 TLSv1.1; do
            assert_line --regexp "^$version +disabled$"
        done
        for version in TLSv1.2 TLSv1.3; do
            assert_line --regexp "^$version +enabled$"
            assert_line "$version not vulnerable to heartbleed"
        done
        assert_line 'Session renegotiation not supported'
        assert_line 'Server supports TLS Fallback SCSV'
        assert_equal "$(grep -E '^(Preferred|Accepted)' <<<"$output" | awk '{ print $2, $5 }' | sort)" \
            'TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256
TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384
TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305
TLSv1.3 TLS_AES_128_GCM_SHA256
TLSv1.3 TLS_AES_256_GCM_SHA384
TLSv1.3 TLS_CHACHA20_POLY1305_SHA256'
        recovers
    done
}

# bats test_tags=scanner
@test "testssl.sh finds no weak protocol, cipher or key exchange, and no vulnerability" {
    command -v testssl >/dev/null || command -v testssl.sh >/dev/null || skip '"make deps check" installs testssl.sh'
    app_server -q -t 10
    before=$(descriptors "$server")
    run timeout 300 "$(command -v testssl || command -v testssl.sh)" --warnings off --ip one --color 0 \
        --add-ca "$ca" --protocols --std --fs --server-preference --server-defaults --vulnerable \
        --jsonfile "$tmp/testssl.json" "127.0.0.1:$port" </dev/null
    run "$python3" - "$tmp/testssl.json" <<'PYTHON'
import json, sys
findings = json.load(open(sys.argv[1]))
# What a private CA for a tutorial does not have: a place where it publishes
# what it has revoked, months to live, and an entry in the DNS. And what this
# says of its own machine.
# Whether sessions are resumed it cannot always tell on a busy machine; tests
# above ask that themselves.
private = {"sessionresumption_ticket", "cert_revocation", "cert_expirationStatus", "cert_notAfter", "DNS_CAArecord", "engine_problem"}
good = {one["id"] for one in findings if one["severity"] in ("OK", "INFO")}
for one in findings:
    if one["severity"] not in ("OK", "INFO", "DEBUG") and one["id"] not in private:
        print(one["id"], one["severity"], one["finding"])
# Some are called otherwise in other versions.
for needed in ("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_NULL", "cipherlist_3DES_IDEA",
               "cipherlist_OBSOLETED cipherlist_AVERAGE", "FS PFS", "cipher_order", "cert_trust", "cert_chain_of_trust",
               "heartbleed", "CCS", "ROBOT", "secure_renego", "secure_client_renego", "CRIME_TLS", "POODLE_SSL",
               "SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "LUCKY13", "RC4"):
    if good.isdisjoint(needed.split()):
        print(needed, "was not looked at")
PYTHON
    assert_success
    assert_output ''
    recovers
}

# --- What these tests use ----------------------------------------------------

echo_server() { start_server tls-echo-server --cert "$CERTS/server.pem" --key "$CERTS/server-key.pem" "$@" 127.0.0.1 0; }
app_server() { start_server tls-app-server --cert "$CERTS/server.pem" --key "$CERTS/server-key.pem" "$@" 127.0.0.1 0; }
# with_zoo NAME [OPTION...]: tls-app-server with this beast's certificate
with_zoo() { start_server tls-app-server -q --cert "$zoo/$1.pem" --key "$zoo/$1-key.pem" "${@:2}" 127.0.0.1 0; }

# Clients, ended by force after 20 s (status 137)
echo_client() { timeout -s KILL 20 "${net[@]}" "$build/tls-echo-client" --ca "$ca" "$@" 3>&-; }
app_client() { timeout -s KILL 20 "${net[@]}" "$build/tls-app-client" --ca "$ca" "$@" 3>&-; }

# tls_peer SCENE [ARGUMENT...]: against the server under test;
# tls_scene SCENE [ARGUMENT...]: without one
tls_peer() { timeout 60 "${net[@]}" "$python3" tests/helpers/tls_peer.py "$1" "$host" "$port" "${@:2}" 3>&-; }
tls_scene() { timeout 60 "$python3" tests/helpers/tls_peer.py "$1" 127.0.0.1 0 "${@:2}" 3>&-; }

# openssl_server [OPTION...]: s_server in the background. Its standard input is
# descriptor 8; output: $tmp/s_server.
openssl_server() {
    local input=$tmp/input.$RANDOM
    mkfifo "$input"
    exec 8<>"$input"
    : >"$tmp/s_server"
    # shellcheck disable=SC2094 # the fifo is no file
    "${net[@]}" stdbuf -oL openssl s_server -accept 127.0.0.1:0 -cert "$CERTS/server.pem" -key "$CERTS/server-key.pem" \
        "$@" <"$input" >"$tmp/s_server" 2>&1 3>&- 8>&- &
    peer=$!
    started+=("$peer")
    wait_for grep -q '^ACCEPT .*:' "$tmp/s_server"
    peer_port=$(sed -n 's/^ACCEPT .*:\([0-9]*\)$/\1/p' "$tmp/s_server")
}

# answer: what a server of stage 3 says, for openssl's to send
answer() {
    printf '\0\153{"byteorder": "big", "content-type": "text/json", "content-encoding": "utf-8", "content-length": 17       }{"result": "yes"}'
}

# talk_to_server [OPTION...]: s_client in the background, with its standard input
# at descriptor 9, and its output in $tmp/s_client
talk_to_server() {
    local input=$tmp/input.$RANDOM
    mkfifo "$input"
    exec 9<>"$input"
    : >"$tmp/s_client"
    openssl s_client -connect "127.0.0.1:$port" -CAfile "$ca" "$@" <"$input" >"$tmp/s_client" 2>&1 3>&- 9>&- &
    peer=$!
    started+=("$peer")
    wait_for grep -q 'Verify return code: 0' "$tmp/s_client"
}
s_client_said() { (($(grep -aoE "$2" "$tmp/s_client" | wc -l) >= $1)); } # COUNT PATTERN

# asks FILE ANSWER COMMAND...: sends it, and waits until the answer comes
asks() {
    : >"$tmp/answer"
    "${@:3}" < <(cat "$tmp/$1"; exec sleep 30 3>&-) >"$tmp/answer" 2>&1 3>&- &
    local process=$!
    started+=("$process")
    wait_for grep -aq "$2" "$tmp/answer"
    kill "$process"
}

# recovers, recovers_with CERTIFICATE: a new client is served, what there was
# before is all that there is, and nothing is done without need
recovers() { recovers_with ''; }
recovers_with() {
    local kind=app
    ! grep -q 'tls-echo' "/proc/$server/cmdline" || kind="echo"
    # shellcheck disable=SC2086 # or nothing
    tls_peer serves $kind $1
    wait_for has_descriptors "$server" "$before"
    is_idle
    stop_server
}
is_idle() {
    local used
    wait_for waits "$server"
    used=$(ticks "$server")
    sleep 0.4
    # One tick may be the end of a phase; who waits busily takes dozens.
    (($(ticks "$server") <= used + 1)) || fail "the server is busy waiting"
}

# start_scene NAME SCENE [ARGUMENT...]: tls_peer in the background, until it says
# "ready"; its standard input is descriptor 7, output: $tmp/NAME
start_scene() {
    local input=$tmp/input.$RANDOM name=$1
    shift
    mkfifo "$input"
    peer_output=$tmp/$name
    : >"$peer_output"
    "$python3" tests/helpers/tls_peer.py "$1" "$host" "$port" "${@:2}" <"$input" >"$peer_output" 2>&1 3>&- &
    peer=$!
    started+=("$peer")
    exec 7>"$input"
    wait_for grep -q ready "$tmp/$name"
}

# live_files: in $live, good files that a test may change
live_files() {
    live=$tmp/live
    mkdir -p "$live"
    cp -p "$CERTS"/{server,server-key,ca}.pem "$live"
}
# reloads COUNT: SIGHUP, and so many reloads in all so far
reloads() {
    kill -HUP "$server"
    wait_for reloaded "$1"
}
# ticket_key: the name of the key that tickets are encrypted with
ticket_key() {
    openssl s_client -connect "127.0.0.1:$port" -tls1_2 -cert "$CERTS/client.pem" -key "$CERTS/client-key.pem" </dev/null 2>/dev/null |
        sed -n '/session ticket:/{n;p;}' | cut -c 1-60
}
reloaded() { (($(grep -c '^Reloaded the certificates$' "$tmp/out") == $1)); }
fingerprint() { openssl x509 -in "$1" -outform DER | sha256sum | cut -d ' ' -f 1; }
# shows_number 0|1: is it the certificate that was put there?
shows_number() {
    local file=$CERTS/server.pem
    (($1 == 0)) || file=$zoo/good-rsa.pem
    [[ $(tls_peer shows) == "$(fingerprint "$file")" ]]
}

# tls_server KIND [WISH...]: the server of tls_peer.py, what it says goes to
# $tmp/told
tls_server() {
    peer_output=$tmp/told
    : >"$peer_output"
    "${net[@]}" "$python3" tests/helpers/tls_peer.py serve 127.0.0.1 0 "$@" >"$tmp/told" 2>&1 </dev/null 3>&- &
    peer=$!
    started+=("$peer")
    wait_for grep -q '^[0-9]*$' "$tmp/told"
    wait_for has_lines 1 "$tmp/told"
    peer_port=$(head -n 1 "$tmp/told")
}

stops_without_a_word() { # [SIGNAL]
    stop_server "$@"
    assert_equal "$(cat "$tmp/err")" ""
}

# sanitized: is it built with a sanitizer, which needs much memory?
sanitized() { grep -q __asan_init "$build/tls-app-server"; }
kilobytes() { if sanitized; then echo 100000000; else echo "$1"; fi; }

# complaint N: the Nth line on the server's standard error, when it has come
complaint() {
    wait_for has_lines "$1" "$tmp/err"
    sed -n "$1{s/127.0.0.1:[0-9]*/A/;p}" "$tmp/err"
}

# Questions for wait_for
waits() { [[ $(ps -o stat= -p "$1") == S* ]]; }
updated_twice() { (($(grep -c SSL_do_handshake "$tmp/s_server") == 2)); }
closings() { wait_for has_closings "$1"; }
has_closings() { (($(grep -c '^Closing' "$tmp/out") >= $1)); }
has_lines() { (($(wc -l <"$2") >= $1)); }
