#!/usr/bin/env bash
# make-certs.sh [--rsa] [--bad] [FOLDER]
#     makes a certificate authority (CA), and a key and a certificate each for
#     a server and a client, in FOLDER (if left out: build/certs). What is there
#     and good stays as it is.
#     --rsa   RSA keys in place of ECDSA
#     --bad   in FOLDER/bad, certificates with one fault each, for the tests
#
# Who holds which file:
#
#     CA          ca-key.pem       signs; nobody else ever sees it
#     everybody   ca.pem           says whose signature to trust
#     server      server-key.pem   proves that the server is who it says
#                 server.pem       says who that is; shown to each client
#     client      client-key.pem   the same two for a client, where the
#                 client.pem       server asks for them (mutual TLS)
#
# The three would sit on three machines. Here one folder plays them all. Read
# the extensions, then make_ca, make_key and certify; the rest keeps order.
set -u
unset CDPATH
here=$(cd "$(dirname "$0")" && pwd) || exit 1

# --- What the certificates say ------------------------------------------------

# Each party below is a section. "Critical" tells a reader who does not know an
# extension to refuse the certificate rather than to look away.
extensions() {
    cat <<'CONFIG'
[req]
distinguished_name = names
[names]

# The one that may sign others: certificates, and lists of revoked ones. With
# pathlen:1 there may be one CA between it and a server's certificate, no more.
[ca]
basicConstraints = critical, CA:TRUE, pathlen:1
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash

# A client compares the name or the address that it wanted with each entry of
# subjectAltName. Nobody looks at the subject's common name (CN) any more.
# "serverAuth": good for servers only, so that a client's is none.
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid

[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectAltName = DNS:client.example
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
CONFIG
}

# --- How they are made --------------------------------------------------------

# The CA signs its own certificate: no signature can make others trust it, they
# do because somebody gave them the file.
make_ca() {
    make_key ca
    quietly openssl req -x509 -new -key $work/ca-key.pem -days 90 \
        -subj '/CN=CA of the tutorial' -config $work/extensions \
        -extensions ca -out $work/ca.pem
    chmod 644 $work/ca.pem || exit 1
}

# make_key WHO: the secret that all else is about. It is made where it will be
# used and does not travel; who copies it can be WHO.
make_key() {
    quietly openssl genpkey "${key_type[@]}" -out "$work/$1-key.pem"
}

# certify WHO NAME: what goes to the CA is a request, in which WHO states its
# public key and signs with its private one, to show that it has it. The CA
# takes the key from it and writes around it what it has found to be true. The
# serial number is made up by openssl, 159 random bits: no two of a CA are the
# same though it keeps no count, and nobody can foresee the bytes that it signs.
certify() {
    local key=$1-key.pem
    [[ -e $work/$key ]] && key=$work/$key
    quietly openssl req -new -key "$key" -subj "/CN=$2" \
        -config $work/extensions -out "$work/$1-request.pem"

    quietly openssl x509 -req -in "$work/$1-request.pem" -days 30 \
        -CA ca.pem -CAkey ca-key.pem \
        -extfile $work/extensions -extensions "$1" -out "$work/$1.pem"
    quietly openssl verify "${trust[@]}" -purpose "ssl$1" "$work/$1.pem"
    chmod 644 "$work/$1.pem" || exit 1
}

# --- What is there already ----------------------------------------------------

# A CA in use is never replaced: what it has signed would be worth nothing from
# one moment to the next, and those who trust it would have to be told.
check_ca() {
    local why
    [[ -e ca.pem ]] ||
        give_up "$folder has ca-key.pem, but not ca.pem:" \
            "remove ca-key.pem, and there will be a new CA"
    [[ -e ca-key.pem ]] ||
        give_up "$folder has ca.pem, but not ca-key.pem:" \
            "put it back, or remove ca.pem, and there will be a new CA"
    fits ca-key.pem ca.pem ||
        give_up "$folder: ca-key.pem is not the key of ca.pem:" \
            "remove both, and there will be a new CA"
    why=$(openssl verify "${trust[@]}" ca.pem 2>&1) ||
        give_up "$folder/ca.pem is no longer good" \
            "($(sed -n 's/.*lookup: *//p' <<<"$why" | head -n 1)):" \
            "remove it and ca-key.pem, and there will be a new CA"
}

# A new CA is where it is looked for when both of its files are good.
new_ca() {
    make_ca
    mv -f $work/ca-key.pem $work/ca.pem . || exit 1
    made ca-key.pem "the CA's key, to sign with: the CA holds it, nobody else"
    made ca.pem "the CA's certificate: all who are to trust the CA hold a copy"
}

# keep_or_make WHO NAME: a certificate that is renewed is for the key that is
# there, so that at no moment a program finds two files that do not fit.
keep_or_make() {
    good "$1" && return
    usable "$1-key.pem" || make_key "$1"
    certify "$1" "$2"
    if [[ -e $work/$1-key.pem ]]; then
        mv -f "$work/$1-key.pem" "$work/$1.pem" . || exit 1
        made "$1-key.pem" "the $1's key, the proof: the $1 holds it, nobody else"
    else
        mv -f "$work/$1.pem" . || exit 1
    fi
    made "$1.pem" "the $1's certificate: the $1 holds it, and shows it to all"
}

# good WHO: its files fit, last for another day, and are signed by this CA
good() {
    fits "$1-key.pem" "$1.pem" &&
        openssl x509 -in "$1.pem" -noout -checkend 86400 &&
        openssl verify "${trust[@]}" -no_check_time -purpose "ssl$1" "$1.pem"
} >/dev/null 2>&1

# fits KEY CERTIFICATE: both have the same public key
fits() {
    local key
    key=$(public "$1") &&
        [[ $key == "$(openssl x509 -in "$2" -noout -pubkey)" ]]
} 2>/dev/null

usable() {
    public "$1" >/dev/null 2>&1
}

# public KEY: its public half. A pass phrase is not asked for.
public() {
    openssl pkey -in "$1" -passin pass: -pubout
}

# --- Keeping order ------------------------------------------------------------

give_up() {
    echo "make-certs: $*" >&2
    exit 1
}

usage() {
    echo "usage:"
    sed -n '2,/^#$/s/^# \{0,1\}//p' "$here/make-certs.sh"
}

bad_usage() {
    echo "make-certs: $1" >&2
    usage >&2
    exit 2
}

# quietly COMMAND...: what it says is told only if it fails
quietly() {
    local output
    output=$("$@" 2>&1) || give_up "$1 $2: $output"
}

made() {
    printf '%-15s %s\n' "$1" "$2" || exit 1
}

there() { [[ -e $1 || -L $1 ]]; }

# In this folder a file becomes what it should be, with its final mode, before
# it moves to where it is looked for. Only one run can make the folder: so it is
# a lock, too.
take_work_folder() {
    local tries=0
    [[ -w . ]] || give_up "$folder: nothing can be written here"
    until mkdir $work 2>/dev/null; do
        tries=$((tries + 1))
        [[ $tries -eq 10 ]] &&
            echo "make-certs: waiting for a run that has $folder/$work" >&2
        [[ $tries -lt 300 ]] ||
            give_up "$folder/$work is in the way: if no other run is at work," \
                "remove it"
        sleep 0.1
    done
    trap 'exit 1' HUP INT TERM
    trap leave_work_folder EXIT
}

# One signal to stop often comes with a second, which rm shall not feel.
leave_work_folder() {
    trap '' HUP INT TERM
    rm -rf $work
}

key_type=(-algorithm EC -pkeyopt ec_paramgen_curve:P-256)
bad=
while [[ ${1:-} == -* ]]; do
    case $1 in
    -h | --help)
        usage
        exit ;;
    --rsa) key_type=(-algorithm RSA -pkeyopt rsa_keygen_bits:2048) ;;
    --bad) bad=yes ;;
    --)
        shift
        break ;;
    *) bad_usage "unknown option '$1'" ;;
    esac
    shift
done
[[ $# -le 1 ]] || bad_usage "too many arguments"
[[ ${1-.} ]] || bad_usage "FOLDER is empty"
command -v openssl >/dev/null ||
    give_up 'openssl is missing: "make deps" installs it'

if [[ $# -eq 0 ]]; then
    cd "$here/.." || exit 1
fi
folder=${1:-${BUILD:-build}/certs}
[[ $folder != -* ]] || folder=./$folder

# Certificates are for everybody, in a folder that others cannot change. But
# no file starts its life readable: between open() and a later chmod, another
# process could open it, and keep it open.
umask go-w
mkdir -p "$folder" && cd "$folder" || exit 1
umask 077
work=.making
# This CA alone is trusted, not those that came with the system.
trust=(-x509_strict -CAfile ca.pem -no-CApath -no-CAstore)

take_work_folder
extensions >$work/extensions || exit 1
if there ca.pem || there ca-key.pem; then
    check_ca
else
    new_ca
fi
keep_or_make server localhost
keep_or_make client client.example
[[ -z $bad ]] || "$here/../tests/helpers/make-zoo.sh" $work || exit 1
