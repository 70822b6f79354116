# Exercise 4.1: what the suite of stage 4 asks of make-certs.sh as well, where
# its tests need more than is to be written.
#
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load ../../tests/helpers/common

setup() {
    common_setup
    certs=$tmp/certs
}
teardown() { common_teardown; }

make_certs() { timeout -k 5 60 "$build/make-certs.sh" "$@" 3>&-; }
quietly_make_certs() { make_certs "$@" >/dev/null; }

# spy COMMAND TEXT: before what is in PATH, a COMMAND that runs TEXT, in which
# "real" is the one that it stands for
spy() {
    mkdir -p "$tmp/spies"
    printf '#!/usr/bin/env bash\nreal() { %q "$@"; }\n%s\n' \
        "$(command -v "$1")" "$2" >"$tmp/spies/$1"
    chmod +x "$tmp/spies/$1"
}

# remember: what would show that a file was written, or made anew; changed:
# fails with the files that were
remember() { (cd "$certs" && stat -c '%n %i %a %y' ./* | sort >"$tmp/before"); }
changed() { # BUT-FOR
    local names
    names=$(cd "$certs" && stat -c '%n %i %a %y' ./* | sort | comm -3 "$tmp/before" - |
        sed 's|^\t*\./\([^ ]*\) .*|\1|' | sort -u | grep -vx -e "${1:-nothing}" | paste -sd ' ')
    [[ -z $names ]] || fail "these have changed: $names"
}

@test "openssl takes the server for localhost, and the client for a client" {
    quietly_make_certs "$certs"
    cd "$certs"
    local trust=(-x509_strict -CAfile ca.pem -no-CApath -no-CAstore)
    run openssl verify "${trust[@]}" ca.pem
    assert_output 'ca.pem: OK'
    run openssl verify "${trust[@]}" -purpose sslserver -verify_hostname localhost server.pem
    assert_output 'server.pem: OK'
    run openssl verify "${trust[@]}" -purpose sslserver -verify_ip ::1 server.pem
    assert_output 'server.pem: OK'
    run openssl verify "${trust[@]}" -purpose sslclient -verify_hostname client.example client.pem
    assert_output 'client.pem: OK'
}

@test "each key is of the certificate beside it, and of no other" {
    quietly_make_certs "$certs"
    cd "$certs"
    for who in ca server client; do
        assert_equal "$who-key.pem: $(openssl pkey -in $who-key.pem -pubout)" \
            "$who-key.pem: $(openssl x509 -in $who.pem -noout -pubkey)"
    done
    run bash -c 'for key in *-key.pem; do openssl pkey -in "$key" -pubout | sha256sum; done | sort -u | wc -l'
    assert_output 3
}

@test "a server and a client believe each other by these files" {
    quietly_make_certs "$certs"
    run env CERTS="$certs" timeout "${limit:-20}" python3 - <<'PYTHON'
import socket, ssl, sys, threading
sys.path.insert(0, "tests/helpers")
import tls_peer
said = {}
def serve(listener, who):
    with tls_peer.Peer(listener.accept()[0], tls_peer.server_context(ca="ca"), server=True) as peer:
        try:
            peer.handshake()
            said[who] = "believed by the server"
        except ssl.SSLError as error:
            said[who] = f"not believed by the server: {error.verify_message if hasattr(error, 'verify_message') else error.reason}"
for who, cert in ("a client with a certificate", "client"), ("a client without one", None):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener, who))
        server.start()
        try:
            with tls_peer.connect(*listener.getsockname(), tls_peer.client_context(cert=cert)) as peer:
                peer.handshake()
                print("the client believes the server")
                peer.wait_for_end()
        except ssl.SSLCertVerificationError as error:
            print(f"the client does not believe the server: {error.verify_message}")
        server.join()
    print(f"{who} is {said[who]}")
PYTHON
    assert_output 'the client believes the server
a client with a certificate is believed by the server
the client believes the server
a client without one is not believed by the server: PEER_DID_NOT_RETURN_A_CERTIFICATE'
}

@test "a key is its owner's alone, a certificate is for all" {
    for mask in 000 077; do
        (umask $mask && quietly_make_certs "$tmp/$mask")
        run stat -c '%n %a' "$tmp/$mask"/*.pem
        assert_output "$(for file in ca-key:600 ca:644 client-key:600 client:644 server-key:600 server:644; do
            echo "$tmp/$mask/${file%:*}.pem ${file#*:}"; done)"
    done
}

@test "at no moment can others read a key" {
    look='find '"$certs"' -type f -perm /077 -exec grep -l PRIVATE {} + |
        sed "s/.*/& can be read when ${0##*/} $1 is called/" >>'"$tmp/seen
        real \"\$@\""
    for command in openssl chmod mv; do spy "$command" "$look"; done
    (umask 000 && PATH=$tmp/spies:$PATH quietly_make_certs "$certs")
    run cat "$tmp/seen"
    assert_output ''
}

@test "a second run writes nothing, with --rsa neither" {
    quietly_make_certs "$certs"
    remember
    for option in -- --rsa; do
        run make_certs $option "$certs"
        assert_output ''
        assert_success
        changed
    done
}

@test "a certificate that is lost is made again for the key that is there" {
    quietly_make_certs "$certs"
    remember
    rm "$certs/server.pem"
    run make_certs "$certs"
    assert_success
    changed server.pem
    assert_equal "$(openssl x509 -in "$certs/server.pem" -noout -pubkey)" \
        "$(openssl pkey -in "$certs/server-key.pem" -pubout)"
}

@test "a step that fails ends it, and is told" {
    # Of the steps that make something: what looks at what is there may fail.
    spy openssl "case \"\$*\" in
        genpkey* | req* | ecparam* | ca* | *x509*-req*)
            echo \"\$1\" >>$tmp/steps
            [[ \$(wc -l <$tmp/steps) != \$(cat $tmp/fails) ]] || { echo 'no luck today' >&2; exit 1; } ;;
        esac
        real \"\$@\""
    local step name
    for step in 1 2 3 4 5; do
        : >"$tmp/steps"
        echo $step >"$tmp/fails"
        PATH=$tmp/spies:$PATH run make_certs "$tmp/$step"
        name=$(sed -n "${step}p" "$tmp/steps")
        [[ -n $name ]] || break
        ((status != 0)) || fail "step $step, openssl $name, failed, and yet all was well"
        [[ $output == *"no luck today"* ]] ||
            fail "step $step, openssl $name, failed, and its error was not told: $output"
        for file in "$tmp/$step"/*.pem; do
            [[ ! -e $file || -s $file ]] ||
                fail "step $step, openssl $name, failed, and left an empty ${file##*/}"
        done
    done
    ((step > 2)) || fail "openssl has made nothing: $output"
}
