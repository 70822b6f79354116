# Exercise 4.4: which clients are served, by the names in their certificates.
# The clients are Python's ssl module, and the certificates openssl's.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

# Clients of our CA, each a certificate of one kind.
setup_file() {
    python3=$(python3 -c 'import sys; print(sys.executable)')
    export python3 CERTS=$BATS_FILE_TMPDIR/certs
    04-tls/make-certs.sh "$CERTS" >/dev/null
    certify other other.example DNS:other.example
    certify cn-only client.example ''
    certify cn-and-other client.example DNS:other.example
    certify several several DNS:first.example,DNS:second.example,IP:127.0.0.1
    certify letters letters DNS:CLIENT.Example
    certify wildcard wildcard 'DNS:*.clients.example'
    certify uri uri URI:client.example
    certify mail mail email:client.example
    certify longer longer DNS:client.example.net,DNS:xclient.example
    certify shorter shorter DNS:example,DNS:client.exampl
    certify zero zero "DER:$(der 'client.example\0.net')"
}

# certify FILE CN NAMES: a certificate for a client; NAMES as openssl wants them
certify() {
    local extensions=$BATS_FILE_TMPDIR/extensions
    echo "extendedKeyUsage = clientAuth" >"$extensions"
    [[ -z $3 ]] || echo "subjectAltName = $3" >>"$extensions"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -batch \
        -keyout "$CERTS/$1-key.pem" -subj "/CN=$2" -out "$BATS_FILE_TMPDIR/request"
    openssl x509 -req -in "$BATS_FILE_TMPDIR/request" -days 1 -out "$CERTS/$1.pem" \
        -CA "$CERTS/ca.pem" -CAkey "$CERTS/ca-key.pem" -extfile "$extensions"
} 2>/dev/null

# der NAME: a list of one DNS name, with a zero where \0 is, in hexadecimal
der() {
    python3 -c 'import sys
name = sys.argv[1].replace("\\0", "\0").encode()
print((bytes([48, len(name) + 2, 130, len(name)]) + name).hex(":"))' "$1"
}

setup() {
    common_setup
    list=$tmp/list
}
teardown() { common_teardown; }

# app_server NAMES [OPTION...]: a server whose list has these names, a line each
app_server() {
    [[ -z $1 ]] || printf '%s\n' "$1" >"$list"
    start_server tls-app-server --cert "$CERTS/server.pem" --key "$CERTS/server-key.pem" \
        --ca "$CERTS/ca.pem" --allow "$list" "${@:2}" 127.0.0.1 0
}

# become WHAT CERTIFICATE...: a client with each, or with "none", becomes served
# or refused, in both versions of TLS
become() {
    run timeout "${limit:-20}" "$python3" - "$host" "$port" "$@" <<<"$PYTHON"'
wanted, *certs = sys.argv[3:]
for cert in certs:
    for version in tls_peer.BOTH:
        context = tls_peer.client_context(version, cert if cert != "none" else None)
        tell(wanted, cert, context)'
    [[ $status -eq 0 && -z $output ]] || fail "$output"
}
# tell() says what becomes of a client, if it is not what is wanted.
PYTHON='
import os, signal, ssl, sys, time
sys.path.insert(0, "tests/helpers")
import tls_peer
host, port = sys.argv[1:3]
def tell(wanted, cert, context, session=None):
    try:
        with tls_peer.connect(host, port, context, session=session) as peer:
            peer.handshake()
            what = "served with its ticket" if peer.tls.session_reused else "served"
            peer.talk("app")
            session = peer.tls.session
            peer.end()
    except (OSError, AssertionError) as error:
        what = "refused"
        if "ALERT" not in str(error):
            what = f"not served, and no alert says why: {error}"
    if what != wanted:
        version = context.maximum_version.name[4:].replace("_", ".")
        print(f"a client with {cert}.pem, over TLS {version}: {what}", flush=True)
    return session
'

@test "a client whose name is in the list is served, and no other" {
    app_server client.example
    become served client
    become refused other none
    become served client
}

@test "the server's line says whose certificate it refuses, and why" {
    app_server client.example -q
    become refused other cn-only
    wait_for has_lines 4
    run sed 's/127.0.0.1:[0-9]*/ADDRESS/; s/: [^:]* *$/: WHY/' "$tmp/err"
    local line='tls-app-server: connection from ADDRESS: certificate of'
    assert_output "$line '/CN=other.example': WHY
$line '/CN=other.example': WHY
$line '/CN=client.example': WHY
$line '/CN=client.example': WHY"
    run cat "$tmp/out"
    assert_output "Listening on 127.0.0.1:$port"
}

@test "a name that is only the CN of a certificate does not count" {
    app_server client.example
    become refused cn-only cn-and-other
}

@test "any of a certificate's names may be any of the list's" {
    app_server $'nobody.example\nsecond.example\n\nclient.example'
    become served several client
    become refused other
    stop_server
    app_server first.example
    become served several
    become refused client
}

@test "letters may be large or small, and a * stands for nothing but itself" {
    app_server $'cLIENT.example\na.clients.example'
    become served client letters
    become refused wildcard
}

@test "what only resembles the name, or is of another kind, does not count" {
    app_server client.example
    become refused longer shorter zero uri mail
}

@test "without a list, an empty one and one without --ca: no start, and one line" {
    cannot_start() { # WHY OPTION...
        run --separate-stderr timeout "${limit:-5}" "$build/tls-app-server" --cert "$CERTS/server.pem" \
            --key "$CERTS/server-key.pem" --allow "$list" "${@:2}" 127.0.0.1 0
        assert_equal "$1: status $status, ${#stderr_lines[@]} line, ${stderr_lines[0]%%: *}: …, and on standard output: $output" \
            "$1: status 1, 1 line, tls-app-server: …, and on standard output: "
    }
    cannot_start 'the list is missing' --ca "$CERTS/ca.pem"
    : >"$list"
    cannot_start 'the list is empty' --ca "$CERTS/ca.pem"
    printf '\n\n' >"$list"
    cannot_start 'the list is two empty lines' --ca "$CERTS/ca.pem"
    echo client.example >"$list"
    cannot_start 'there is no --ca'
    app_server client.example
    become served client
}

@test "SIGHUP reads the list again, in each worker" {
    app_server client.example -w 2
    echo other.example >"$list"
    reload 2
    become refused client client
    become served other other
    echo client.example >>"$list"
    reload 4
    become served client other
}

@test "who is in the list comes back with a ticket" {
    app_server client.example
    comes_back 'served with its ticket'
}

@test "who has been taken out of the list does not come back with a ticket" {
    app_server $'client.example\nother.example'
    comes_back refused other.example
    become served other
}

@test "a list that is not good, at SIGHUP: a line says so, and the old one stays" {
    app_server client.example
    local count=0 spoil
    for spoil in 'rm "$list"' ': >"$list"' 'echo >"$list"'; do
        eval "$spoil"
        kill -HUP "$server"
        count=$((count + 1))
        wait_for has_lines $count
        run sed -n "${count}p" "$tmp/err"
        assert_output --partial 'tls-app-server: certificates not reloaded: '
        become served client
    done
    become refused other
}

reload() { # COUNT: so many in all, so far
    kill -HUP "$server"
    wait_for reloaded "$1"
}
reloaded() { (($(grep -c '^Reloaded the certificates$' "$tmp/out") == $1)); }
has_lines() { (($(wc -l <"$tmp/err") >= $1)); }

# comes_back WHAT [NAMES]: the client is served, and becomes WHAT when it comes
# back with the sessions that it got, after a reload with these names in the
# list, if there are some
comes_back() {
    run timeout "${limit:-20}" "$python3" - "$host" "$port" "$1" "$server" "$list" "$tmp/out" "${2-}" <<<"$PYTHON"'
wanted, server, path, out, names = sys.argv[3:]
kept = []
for version in tls_peer.BOTH:
    context = tls_peer.client_context(version, "client")
    kept.append((context, tell("served", "client", context)))
if names:
    with open(path, "w") as file:
        print(names, file=file)
    os.kill(int(server), signal.SIGHUP)
    until = time.monotonic() + 5
    while "Reloaded the certificates" not in open(out).read():
        if time.monotonic() > until:
            sys.exit("no line \"Reloaded the certificates\" after SIGHUP")
        time.sleep(0.01)
for context, session in kept:
    tell(wanted, "client", context, session)'
    [[ $status -eq 0 && -z $output ]] || fail "$output"
}
