#!/usr/bin/env bats
# 04-tls/make-certs.sh: who holds which file, what the certificates say, what
# stays and what is renewed, and the zoo of certificates with one fault each.
# What is right is said by "openssl verify", and by openssl's server and client.
#
# "run" sets $output in the test that reads it. What stands in single quotes is
# for another shell.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load helpers/common

# is_graded: a learner's script is to be tested, with those tests that need no zoo
is_graded() { [[ -x $build/make-certs.sh ]]; }

# The zoo takes a second: all tests that only read it share one.
setup_file() {
    export zoo=$BATS_FILE_TMPDIR/zoo
    is_graded && return
    04-tls/make-certs.sh --bad "$zoo" >"$BATS_FILE_TMPDIR/said"
}

setup() {
    common_setup
    certs=$tmp/certs
    script=04-tls/make-certs.sh
    ! is_graded || script=$build/make-certs.sh
}
teardown() { common_teardown; }

make_certs() {
    timeout -k 5 60 "$script" "$@" 3>&-
}

# verify FOLDER FILE [OPTION...]: FILE is looked for in FOLDER, and so are the
# certificates between it and the CA. No other CA is trusted.
verify() {
    openssl verify -x509_strict -CAfile "$1/ca.pem" -no-CApath -no-CAstore \
        -untrusted "$1/$2" "${@:3}" "$1/$2"
}

# verdict FOLDER FILE [OPTION...]: "OK", or each error's number, depth and text
verdict() {
    verify "$@" 2>&1 | sed -n 's/.*: OK$/OK/p
        s/^error \([0-9]*\) at \([0-9]*\) depth lookup: */\1 @\2 /p' | paste -sd ';'
}

# text FILE FIELD: the line or lines of a certificate after FIELD
text() {
    openssl x509 -in "$1" -noout -text | grep -A 1 -- "$2" | sed 1d | sed 's/^ *//'
}

# state FOLDER: all that would show that a file was written, or made anew
state() {
    (cd "$1" && find . -type f ! -path './bad/*' -exec stat -c '%n %i %Y %a' {} + -exec cat {} + | sort)
}

pair_fits() {
    [[ $(openssl pkey -in "$1-key.pem" -pubout) == "$(openssl x509 -in "$1.pem" -noout -pubkey)" ]]
}

all_is_well() {
    local who
    run ls -A "$1"
    assert_output $'ca-key.pem\nca.pem\nclient-key.pem\nclient.pem\nserver-key.pem\nserver.pem'
    for who in ca server client; do
        pair_fits "$1/$who" || fail "$who: the key does not fit"
    done
    assert_equal "$(verdict "$1" ca.pem)" OK
    assert_equal "$(verdict "$1" server.pem -purpose sslserver -verify_hostname localhost)" OK
    assert_equal "$(verdict "$1" client.pem -purpose sslclient -verify_hostname client.example)" OK
}

# a_leaf DAYS NAME EXTENSIONS: a certificate by the CA of $certs, and its key
a_leaf() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc \
        -keyout "$certs/$2-key.pem" -subj /CN=leaf -out "$tmp/request" 2>/dev/null
    openssl x509 -req -in "$tmp/request" -days "$1" -CA "$certs/ca.pem" \
        -CAkey "$certs/ca-key.pem" -set_serial 7 -out "$certs/$2.pem" \
        -extfile <(echo "authorityKeyIdentifier = keyid"
            echo "subjectAltName = DNS:localhost"
            echo "extendedKeyUsage = $3") 2>/dev/null
}

# spy COMMAND TEXT: before what is in PATH, a COMMAND that runs TEXT, in which
# "real" is the one that it stands for
spy() {
    mkdir -p "$tmp/spies"
    printf '#!/usr/bin/env bash\nreal() { %q "$@"; }\n%s\n' \
        "$(command -v "$1")" "$2" >"$tmp/spies/$1"
    chmod +x "$tmp/spies/$1"
}

# --- What is made ---------------------------------------------------------------

@test "six files are made, and a line for each says who holds it" {
    run make_certs "$certs"
    assert_success
    assert_equal "${#lines[@]}" 6
    assert_line --regexp '^ca-key\.pem .*the CA holds it, nobody else$'
    assert_line --regexp '^ca\.pem .*all who are to trust the CA hold a copy$'
    assert_line --regexp '^server-key\.pem .*the server holds it, nobody else$'
    assert_line --regexp '^server\.pem .*the server holds it, and shows it to all$'
    assert_line --regexp '^client-key\.pem .*the client holds it, nobody else$'
    assert_line --regexp '^client\.pem .*the client holds it, and shows it to all$'
    all_is_well "$certs"
}

@test "the CA signs certificates and lists of revoked ones, for 90 days" {
    make_certs "$certs" >/dev/null
    ca=$certs/ca.pem
    assert_equal "$(text "$ca" 'Basic Constraints: critical')" 'CA:TRUE, pathlen:1'
    assert_equal "$(text "$ca" 'Key Usage: critical')" 'Certificate Sign, CRL Sign'
    assert_equal "$(text "$ca" 'Extended Key Usage')" ''
    openssl x509 -in "$ca" -noout -checkend $((90 * 86400 - 60))
    refute openssl x509 -in "$ca" -noout -checkend $((90 * 86400 + 1))
}

@test "a server's certificate is for servers, a client's for clients, for 30 days" {
    make_certs "$certs" >/dev/null
    for who in server client; do
        leaf=$certs/$who.pem
        assert_equal "$(text "$leaf" 'Basic Constraints: critical')" 'CA:FALSE'
        assert_equal "$(text "$leaf" 'Key Usage: critical')" 'Digital Signature'
        assert_equal "$(text "$leaf" 'Authority Key Identifier')" \
            "$(text "$certs/ca.pem" 'Subject Key Identifier')"
        assert [ -n "$(text "$leaf" 'Subject Key Identifier')" ]
        openssl x509 -in "$leaf" -noout -checkend $((30 * 86400 - 60))
        refute openssl x509 -in "$leaf" -noout -checkend $((30 * 86400 + 1))
    done
    assert_equal "$(text "$certs/server.pem" 'Extended Key')" 'TLS Web Server Authentication'
    assert_equal "$(text "$certs/client.pem" 'Extended Key')" 'TLS Web Client Authentication'
    wrong='26 @0 unsuitable certificate purpose'
    assert_equal "$(verdict "$certs" server.pem -purpose sslclient)" "$wrong"
    assert_equal "$(verdict "$certs" client.pem -purpose sslserver)" "$wrong"
}

@test "the server's certificate is for localhost and its two addresses, and no more" {
    make_certs "$certs" >/dev/null
    assert_equal "$(text "$certs/server.pem" 'Alternative Name')" \
        'DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1'
    for address in 127.0.0.1 ::1; do
        assert_equal "$(verdict "$certs" server.pem -verify_ip "$address")" OK
    done
    for address in 127.0.0.2 ::2; do
        assert_equal "$(verdict "$certs" server.pem -verify_ip "$address")" '64 @0 IP address mismatch'
    done
    assert_equal "$(verdict "$certs" server.pem -verify_hostname other.example)" '62 @0 hostname mismatch'
}

@test "serials are random, and long" {
    serials=
    for run in 1 2 3; do
        make_certs "$tmp/$run" >/dev/null
        for who in ca server client; do
            serials+=$(openssl x509 -in "$tmp/$run/$who.pem" -noout -serial | sed 's/serial=//')$'\n'
        done
    done
    # Of 160 bits, the first is zero; one in 256 begins with a byte of zeros,
    # which is not shown, and so on. RFC 5280 allows 20 bytes and no sign.
    run grep -cE '^([0-7][0-9A-F]{39}|[0-9A-F]{34,38})$' <<<"$serials"
    assert_output 9
    run sort -u <<<"${serials%$'\n'}"
    assert_equal "${#lines[@]}" 9
}

@test "keys are ECDSA on P-256, and RSA with --rsa" {
    make_certs "$certs" >/dev/null
    make_certs --rsa "$tmp/rsa" >/dev/null
    all_is_well "$tmp/rsa"
    for who in ca server client; do
        run openssl pkey -in "$certs/$who-key.pem" -noout -text
        assert_output --partial 'NIST CURVE: P-256'
        run openssl pkey -in "$tmp/rsa/$who-key.pem" -noout -text
        assert_output --partial 'Private-Key: (2048 bit, 2 primes)'
    done
    run verify "$tmp/rsa" server.pem -auth_level 2
    assert_success
}

@test "a server and a client trust each other with these files" {
    make_certs "$certs"
    port=$(python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    openssl s_server -accept "127.0.0.1:$port" -cert "$certs/server.pem" \
        -key "$certs/server-key.pem" -CAfile "$certs/ca.pem" -no-CApath \
        -no-CAstore -Verify 1 -verify_return_error -rev \
        >"$tmp/out" 2>&1 3>&- </dev/null &
    started+=("$!")
    wait_for listens "$port"
    connect=(timeout 20 openssl s_client -connect "127.0.0.1:$port" -quiet
        -CAfile "$certs/ca.pem" -no-CApath -no-CAstore -verify_return_error
        -verify_hostname localhost)
    run bash -c '(echo hello; sleep 0.5) | "$@" 2>&1' - "${connect[@]}" \
        -cert "$certs/client.pem" -key "$certs/client-key.pem"
    assert_output --partial olleh
    run bash -c '(echo hello; sleep 0.5) | "$@" 2>&1' - "${connect[@]}"
    refute_output --partial olleh
    assert_output --partial 'certificate required'
}

# --- Who may read it --------------------------------------------------------------

@test "keys are their owner's alone, certificates are for all, whatever the umask" {
    for mask in 000 022 077; do
        options=()
        [[ $mask != 000 ]] || options=(--bad)
        (umask "$mask" && make_certs "${options[@]}" "$tmp/$mask")
        run find "$tmp/$mask" -name '*-key.pem' ! -perm 600
        refute_output
        run find "$tmp/$mask" -type f ! -name '*-key.pem' ! -perm 644
        refute_output
        run find "$tmp/$mask" -type d -perm /022
        refute_output
    done
    run find "$tmp/000" -name '*-key.pem'
    assert [ "${#lines[@]}" -gt 35 ]
}

@test "at no moment is a key readable by others" {
    look='look() {
        [[ $(umask) == 0077 ]] || echo "umask $(umask): ${0##*/} $*"
        find '"$certs"' -type f -perm /077 -exec grep -l PRIVATE {} +
    } >>'"$tmp"'/seen 2>/dev/null
    echo "${0##*/}" >>'"$tmp"'/called
    look "$@"; real "$@"; status=$?; look "$@"; exit "$status"'
    for command in openssl mv cp chmod rm; do spy "$command" "$look"; done
    (umask 000 && PATH=$tmp/spies:$PATH make_certs --bad "$certs")
    run sort -u "$tmp/called"
    assert_output $'chmod\ncp\nmv\nopenssl\nrm'
    run cat "$tmp/seen"
    refute_output
}

@test "the programs that make keys open them for their owner alone" {
    needs_strace
    (umask 000 && strace -f -qq -o "$tmp/trace" -e trace=umask,open,openat,creat,chmod,fchmod,fchmodat \
        04-tls/make-certs.sh "$certs")
    # The last umask before the first key, and none after it, shuts others out.
    run awk '/umask\(/ { match($0, /umask\([0-7]*/); mask = substr($0, RSTART + 6, RLENGTH - 6) }
        /O_CREAT/ && /-key\.pem"/ { made++; if (mask != "077" && !/0600\)/) print }
        /chmod/ && /-key\.pem"/ && !/0600\)/ { print }
        END { print made " keys" }' "$tmp/trace"
    assert_output '3 keys'
}

# --- What stays, and what is renewed ------------------------------------------------

@test "a second run says nothing and leaves every byte as it is" {
    make_certs --bad "$certs"
    before=$(state "$certs"; find "$certs/bad" -exec stat -c '%n %i %Y' {} +)
    for option in -- --rsa --bad; do
        run make_certs "$option" "$certs"
        assert_success
        refute_output
        assert_equal "$(state "$certs"; find "$certs/bad" -exec stat -c '%n %i %Y' {} +)" "$before"
    done
}

# renewed WHO WHY: the next run makes WHO.pem anew, for the key that is there,
# and nothing else
renewed() {
    local key others
    key=$(cat "$certs/$1-key.pem")
    others=$(cd "$certs" && ls -i --ignore="$1.pem")
    run make_certs "$certs"
    assert_success
    assert_output --regexp "^$1\.pem [^"$'\n'"]*\$" # $2
    assert_equal "$(cat "$certs/$1-key.pem")" "$key"
    assert_equal "$(cd "$certs" && ls -i --ignore="$1.pem")" "$others"
    all_is_well "$certs"
}

@test "a certificate that is missing, ended, or not as it should be is renewed for its key" {
    make_certs "$certs"
    rm "$certs/server.pem"
    renewed server 'it is missing'
    rm "$certs/client.pem"
    renewed client 'it is missing'
    for age in -1 0; do
        a_leaf "$age" server serverAuth
        renewed server 'it has ended'
        a_leaf "$age" client clientAuth
        renewed client 'it has ended'
    done
    a_leaf 30 server clientAuth
    renewed server 'it is for clients'
    cp "$certs/client.pem" "$certs/server.pem"
    renewed server "it is the client's"
    cp "$certs/server-key.pem" "$tmp"
    a_leaf 30 server serverAuth
    cp "$tmp/server-key.pem" "$certs"
    renewed server 'its key is another'
    cp "$zoo/server.pem" "$zoo/server-key.pem" "$certs"
    renewed server 'it is signed by another CA of the same name'
    echo rubbish >"$certs/server.pem"
    renewed server 'it is none'
    : >"$certs/client.pem"
    renewed client 'it is none'
}

@test "a certificate stays while it has more than a day to live" {
    make_certs "$certs"
    a_leaf 2 server serverAuth
    before=$(state "$certs")
    run make_certs "$certs"
    assert_success
    refute_output
    assert_equal "$(state "$certs")" "$before"
}

@test "a key that is lost or no key gets a successor, and a new certificate" {
    make_certs "$certs"
    spoil=('rm "$1"' 'echo rubbish >"$1"' 
        'openssl pkey -in "$1" -aes256 -passout pass:x -out "$2" && cp "$2" "$1"')
    for how in "${spoil[@]}"; do
        bash -c "$how" - "$certs/server-key.pem" "$tmp/encrypted"
        others=$(cd "$certs" && ls -i --ignore='server*')
        run make_certs "$certs"
        assert_success
        assert_equal "${#lines[@]}" 2
        assert_line --index 0 --partial server-key.pem
        assert_line --index 1 --partial server.pem
        assert_equal "$(cd "$certs" && ls -i --ignore='server*')" "$others"
        all_is_well "$certs"
    done
}

@test "a new CA certifies the keys that are there" {
    make_certs "$certs"
    rm "$certs/ca.pem" "$certs/ca-key.pem"
    keys=$(cat "$certs"/*-key.pem)
    run make_certs "$certs"
    assert_success
    assert_equal "${#lines[@]}" 4
    assert_equal "$(cat "$certs"/{client,server}-key.pem)" "$keys"
    all_is_well "$certs"
}

# refuses TEXT: the next run says it, fails, and touches nothing
refuses() {
    local before
    before=$(state "$certs")
    run --separate-stderr make_certs "$certs"
    assert_failure 1
    refute_output
    assert_equal "${#stderr_lines[@]}" 1
    assert_equal "$stderr" "make-certs: $certs$1"
    assert_equal "$(state "$certs")" "$before"
    assert [ ! -e "$certs/.making" ]
}

@test "a CA that is half there, or has ended, is told and not replaced" {
    make_certs "$certs"
    cp -r "$certs" "$tmp/whole"
    rm "$certs/ca.pem"
    refuses ' has ca-key.pem, but not ca.pem: remove ca-key.pem, and there will be a new CA'
    cp "$zoo/ca.pem" "$certs"
    refuses ': ca-key.pem is not the key of ca.pem: remove both, and there will be a new CA'
    echo rubbish >"$certs/ca.pem"
    refuses ': ca-key.pem is not the key of ca.pem: remove both, and there will be a new CA'
    cp "$tmp/whole/ca.pem" "$certs"
    rm "$certs/ca-key.pem"
    refuses ' has ca.pem, but not ca-key.pem: put it back, or remove ca.pem, and there will be a new CA'
    ln -s "$tmp/unplugged" "$certs/ca-key.pem"
    refuses ' has ca.pem, but not ca-key.pem: put it back, or remove ca.pem, and there will be a new CA'
    rm "$certs/ca.pem"
    refuses ' has ca-key.pem, but not ca.pem: remove ca-key.pem, and there will be a new CA'
    rm "$certs/ca-key.pem"
    cp "$tmp/whole/ca-key.pem" "$certs"
    openssl x509 -in "$tmp/whole/ca.pem" -signkey "$certs/ca-key.pem" -days -1 -out "$certs/ca.pem"
    refuses '/ca.pem is no longer good (certificate has expired): remove it and ca-key.pem, and there will be a new CA'
    cp "$tmp/whole/ca.pem" "$certs"
    run make_certs "$certs"
    assert_success
    refute_output
}

# --- When it does not go well ---------------------------------------------------------

@test "runs at the same time make one set of files between them" {
    for round in 1 2 3; do
        runs=()
        for number in 1 2 3 4; do
            make_certs "$tmp/$round" >"$tmp/said-$number" 2>&1 &
            runs+=("$!")
        done
        for number in "${runs[@]}"; do wait "$number"; done
        run grep -hv 'waiting for a run' "$tmp"/said-?
        assert_equal "${#lines[@]}" 6
        all_is_well "$tmp/$round"
    done
}

@test "a run waits for one that is at work" {
    mkdir -p "$certs/.making"
    make_certs "$certs" >"$tmp/out" 2>"$tmp/err" &
    complained "make-certs: waiting for a run that has $certs/.making"
    run ls -A "$certs"
    assert_output .making
    rmdir "$certs/.making"
    wait "$!"
    all_is_well "$certs"
}

@test "whichever call of openssl fails, its error is told and no file is half made" {
    spy openssl "number=\$((\$(cat $tmp/number) + 1))
        echo \$number >$tmp/number
        [[ \$number != \$(cat $tmp/fails) ]] || { echo 'no luck today' >&2; exit 1; }
        real \"\$@\""
    PATH=$tmp/spies:$PATH
    failed=0
    for ((call = 1; call < 100; call++)); do
        echo 0 >"$tmp/number"
        echo "$call" >"$tmp/fails"
        run make_certs "$tmp/$call"
        (($(cat "$tmp/number") < call)) && break
        # A check of what is there may fail: that is what it is for.
        if ((status != 0)); then
            assert_failure 1
            failed=$((failed + 1))
            assert_line --regexp '^make-certs: openssl [a-z0-9]+: .*no luck today'
            assert [ ! -e "$tmp/$call/.making" ]
            for file in "$tmp/$call"/*.pem; do
                who=${file%.pem}
                [[ ! -e $file ]] || pair_fits "${who%-key}"
            done
        fi
        echo 0 >"$tmp/fails"
        run make_certs "$tmp/$call"
        assert_success
        all_is_well "$tmp/$call"
    done
    assert_equal "$failed of $((call - 1)) calls" '10 of 14 calls'
}

@test "a run that is stopped leaves nothing half made" {
    # To the whole group, as Ctrl-C does, in the middle of certifying; and once
    # more while it tidies up, as timeout does.
    spy openssl '[[ "$1 ${@: -1}" != "x509 .making/server.pem" ]] || kill -s "$signal" 0
        real "$@"'
    spy rm 'kill -s "$signal" $$; real "$@"'
    for signal in INT TERM HUP; do
        export signal
        PATH=$tmp/spies:$PATH run make_certs "$tmp/$signal"
        assert_failure
        wait_for [ ! -e "$tmp/$signal/.making" ]
        run ls -A "$tmp/$signal"
        assert_output $'ca-key.pem\nca.pem'
        make_certs "$tmp/$signal"
        all_is_well "$tmp/$signal"
    done
}

@test "a reader that has gone leaves no half of a CA" {
    bash -c '04-tls/make-certs.sh "$1" | true' - "$certs"
    wait_for [ ! -e "$certs/.making" ]
    make_certs "$certs"
    all_is_well "$certs"
}

@test "without openssl, a line says what installs it" {
    mkdir "$tmp/few"
    for command in bash env dirname sed; do
        ln -s "$(command -v "$command")" "$tmp/few"
    done
    run --separate-stderr env PATH="$tmp/few" 04-tls/make-certs.sh "$certs"
    assert_failure 1
    refute_output
    assert_equal "$stderr" 'make-certs: openssl is missing: "make deps" installs it'
    assert [ ! -e "$certs" ]
}

@test "a folder that cannot be is told" {
    echo >"$tmp/file"
    for folder in "$tmp/file" "$tmp/file/in-it" /proc/none; do
        run make_certs "$folder"
        assert_failure 1
        assert_output --regexp '^mkdir: .*(/file|/proc/none)'
    done
    mkdir -p "$certs/server.pem"
    run make_certs "$certs"
    assert_failure 1
    assert_output --partial "server.pem"
}

# --- How it is called -----------------------------------------------------------------

@test "usage is shown on demand, and after a line that says what is wrong" {
    for option in -h --help; do
        run --separate-stderr make_certs "$option"
        assert_success
        assert_line --index 1 'make-certs.sh [--rsa] [--bad] [FOLDER]'
        assert_line --partial '--bad'
        refute_line --partial 'set -u'
        assert_equal "$stderr" ''
    done
    while IFS='|' read -r complaint arguments; do
        eval "arguments=($arguments)"
        run --separate-stderr make_certs "${arguments[@]}"
        assert_failure 2
        refute_output
        assert_equal "${stderr_lines[0]}" "make-certs: $complaint"
        assert_equal "${stderr_lines[2]}" 'make-certs.sh [--rsa] [--bad] [FOLDER]'
    done <<ROWS
unknown option '-x'|-x "$certs"
unknown option '--rsa=2048'|--rsa=2048 "$certs"
too many arguments|"$certs" "$certs"
too many arguments|--rsa -- "$certs" --bad
FOLDER is empty|""
ROWS
    assert [ ! -e "$certs" ]
}

@test "FOLDER is \$BUILD/certs if left out, from wherever it is called" {
    mkdir -p "$tmp/repository/tests" "$tmp/elsewhere"
    cp -r 04-tls "$tmp/repository"
    cp -r tests/helpers "$tmp/repository/tests"
    cd "$tmp/elsewhere"
    env -u BUILD "$tmp/repository/04-tls/make-certs.sh"
    all_is_well "$tmp/repository/build/certs"
    BUILD=build/variant "$tmp/repository/04-tls/make-certs.sh"
    all_is_well "$tmp/repository/build/variant/certs"
    BUILD=$tmp/far ../repository/04-tls/make-certs.sh
    all_is_well "$tmp/far/certs"
    CDPATH=$tmp/repository ../repository/04-tls/make-certs.sh build
    all_is_well "$tmp/elsewhere/build"
    BUILD=$tmp/far ../repository/04-tls/make-certs.sh 'two words; $one'
    all_is_well "$tmp/elsewhere/two words; \$one"
    ../repository/04-tls/make-certs.sh --bad -- -dash
    assert [ -e "$tmp/elsewhere/-dash/bad/good-rsa.pem" ]
    LC_ALL=C run ls -A "$tmp/elsewhere"
    assert_output $'-dash\nbuild\ntwo words; $one'
}

# --- The zoo --------------------------------------------------------------------------

# What "openssl verify" makes of each, at the security level of Debian's TLS.
# "openssl verify" takes a common name for a name where there is no other
# (no-san), and a program that is right does not.
verdicts() {
    cat <<'ROWS'
good-rsa           sslserver localhost       OK
rsa4096            sslserver localhost       OK
ecc384             sslserver localhost       OK
ed25519            sslserver localhost       OK
chain              sslserver localhost       OK
no-subject         sslserver localhost       OK
many-sans          sslserver localhost       OK
many-sans          sslserver name-1.example.org OK
server-only        sslserver localhost       OK
server-only        sslclient -               26 @0 unsuitable certificate purpose
expired            sslserver localhost       10 @0 certificate has expired
not-yet-valid      sslserver localhost       9 @0 certificate is not yet valid
revoked            sslserver localhost       OK
revoked            crl       -               23 @0 certificate revoked
good-rsa           crl       -               OK
wrong-host         sslserver localhost       62 @0 hostname mismatch
wrong-host         sslserver other.example   OK
wrong-host         sslserver 127.0.0.1       64 @0 IP address mismatch
wrong-ip           sslserver 127.0.0.1       64 @0 IP address mismatch
wrong-ip           sslserver 127.0.0.9       OK
no-san             sslserver localhost       OK
no-san             sslserver 127.0.0.1       64 @0 IP address mismatch
wildcard           sslserver www.example.org OK
wildcard           sslserver a.b.example.org 62 @0 hostname mismatch
wildcard           sslserver example.org     62 @0 hostname mismatch
wildcard           sslserver localhost       62 @0 hostname mismatch
partial-wildcard   sslserver www.example.org OK
partial-wildcard   sslserver localhost       62 @0 hostname mismatch
wildcard-tld       sslserver example.org     62 @0 hostname mismatch
self-signed        sslserver localhost       18 @0 self-signed certificate
unknown-ca         sslserver localhost       20 @0 unable to get local issuer certificate
incomplete-chain   sslserver localhost       20 @0 unable to get local issuer certificate
not-a-ca           sslserver localhost       79 @1 invalid CA certificate;26 @1 unsuitable certificate purpose;32 @1 key usage does not include certificate signing
pathlen            sslserver localhost       25 @2 path length constraint exceeded;25 @3 path length constraint exceeded
name-constraints   sslserver localhost       47 @0 permitted subtree violation
client-only        sslserver localhost       26 @0 unsuitable certificate purpose
client-only        sslclient -               OK
weak-rsa-1024      sslserver localhost       66 @0 EE certificate key too weak
sha1-leaf          sslserver localhost       68 @0 CA signature digest algorithm too weak
sha1-intermediate  sslserver localhost       68 @1 CA signature digest algorithm too weak
mismatch           sslserver localhost       OK
encrypted          sslserver localhost       OK
garbage            sslserver localhost       no certificate
empty              sslserver localhost       no certificate
client-expired     sslclient -               10 @0 certificate has expired
client-revoked     sslclient -               OK
client-revoked     crl       -               23 @0 certificate revoked
client-unknown-ca  sslclient -               20 @0 unable to get local issuer certificate
client-self-signed sslclient -               18 @0 self-signed certificate
client-cn-only     sslclient -               OK
ROWS
}

@test "each beast of the zoo has its fault and no other" {
    while read -r beast purpose name _; do
        options=(-auth_level 2)
        case $purpose in
        crl) options+=(-crl_check -CRLfile "$zoo/bad/crl.pem") ;;
        *) options+=(-purpose "$purpose") ;;
        esac
        case $name in
        -) ;;
        127.*) options+=(-verify_ip "$name") ;;
        *) options+=(-verify_hostname "$name") ;;
        esac
        cp "$zoo/bad/$beast.pem" "$tmp/beast.pem"
        cp "$zoo/ca.pem" "$tmp"
        got=$(verdict "$tmp" beast.pem "${options[@]}")
        printf '%-18s %-9s %-15s %s\n' "$beast" "$purpose" "$name" "${got:-no certificate}"
    done < <(verdicts) >"$tmp/verdicts"
    run diff <(verdicts) "$tmp/verdicts"
    assert_success
}

@test "each beast of the zoo has a verdict here, a line in its list, and a key" {
    named=$(verdicts | cut -d ' ' -f 1 | sort -u)
    assert_equal "$(sed -n 's|^bad/\([^ ]*\)\.pem .*|\1|p' "$zoo/bad/list.txt" |
        grep -vx -e other-ca -e crl | sort)" "$named"
    assert_equal "$(cd "$zoo/bad" && printf '%s\n' *-key.pem | sed 's/-key\.pem$//' | sort)" "$named"
    assert_equal "$(cd "$zoo/bad" && printf '%s\n' *.pem | grep -v -e '-key\.pem$' \
        -e '^other-ca\.pem$' -e '^crl\.pem$' | sed 's/\.pem$//' | sort)" "$named"
    run cat "$BATS_FILE_TMPDIR/said"
    assert_equal "$(sed 1,6d <<<"$output")" "$(cat "$zoo/bad/list.txt")"
}

@test "the keys of the zoo fit, but for those whose fault it is" {
    for key in "$zoo"/bad/*-key.pem; do
        pair=${key%-key.pem}
        case ${pair##*/} in
        mismatch)
            run pair_fits "$pair"
            assert_failure
            openssl pkey -in "$key" -noout ;;
        encrypted)
            run openssl pkey -in "$key" -passin pass: -noout
            assert_failure
            assert_equal "$(openssl pkey -in "$key" -passin pass:secret -pubout)" \
                "$(openssl x509 -in "$pair.pem" -noout -pubkey)" ;;
        garbage | empty)
            run openssl pkey -in "$key" -noout
            assert_failure ;;
        *) pair_fits "$pair" || fail "$pair" ;;
        esac
    done
}

@test "each beast of the zoo is of the size and kind that its name says" {
    cd "$zoo/bad"
    assert_equal "$(grep -c BEGIN chain.pem incomplete-chain.pem not-a-ca.pem pathlen.pem |
        paste -sd ' ')" 'chain.pem:2 incomplete-chain.pem:1 not-a-ca.pem:2 pathlen.pem:3'
    assert_equal "$(text many-sans.pem 'Alternative Name' | tr ',' '\n' | wc -l)" 1000
    assert_equal "$(text no-subject.pem 'Alternative Name: critical' | cut -d , -f 1)" DNS:localhost
    assert_equal "$(openssl x509 -in no-subject.pem -noout -subject -nameopt RFC2253)" 'subject='
    assert_equal "$(openssl x509 -in no-san.pem -noout -subject -nameopt RFC2253)" 'subject=CN=localhost'
    for beast in no-san client-cn-only; do
        assert_equal "$(text "$beast.pem" 'Alternative Name')" ''
    done
    while read -r beast kind; do
        run openssl x509 -in "$beast.pem" -noout -text
        assert_output --partial "$kind"
    done <<'ROWS'
good-rsa Public-Key: (2048 bit)
rsa4096 Public-Key: (4096 bit)
weak-rsa-1024 Public-Key: (1024 bit)
ecc384 NIST CURVE: P-384
ed25519 Public Key Algorithm: ED25519
sha1-leaf Signature Algorithm: ecdsa-with-SHA1
ROWS
}

@test "the zoo is made anew for a new CA, and before its good ones end" {
    cp -r "$zoo" "$certs"
    rm "$certs/ca.pem" "$certs/ca-key.pem"
    run make_certs --bad "$certs"
    assert_success
    assert_line --partial bad/good-rsa.pem
    assert_equal "$(verdict "$certs" bad/good-rsa.pem)" OK
    cp "$certs/bad/expired.pem" "$certs/bad/good-rsa.pem"
    run make_certs --bad "$certs"
    assert_success
    assert_line --index 0 --partial bad/good-rsa.pem
    assert_equal "$(verdict "$certs" bad/good-rsa.pem)" OK
    run ls -A "$certs"
    assert_output $'bad\nca-key.pem\nca.pem\nclient-key.pem\nclient.pem\nserver-key.pem\nserver.pem'
}

@test "a zoo that cannot be made leaves the old one" {
    cp -r "$zoo" "$certs"
    echo >>"$certs/bad/make-zoo.sh"
    before=$(cat "$certs"/bad/*)
    spy openssl '[[ $* != *-gencrl* ]] || { echo "no luck today" >&2; exit 1; }
        real "$@"'
    PATH=$tmp/spies:$PATH run make_certs --bad "$certs"
    assert_failure 1
    assert_output 'make-zoo: openssl ca: no luck today'
    assert_equal "$(cat "$certs"/bad/*)" "$before"
    assert [ ! -e "$certs/.making" ]
}
