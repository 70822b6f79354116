#!/usr/bin/env bash
# make-zoo.sh WORK: certificates with one fault each, for the tests of stage 4.
# 04-tls/make-certs.sh --bad runs it in its FOLDER, where the CA is, and holds
# the lock, which is the folder WORK in it.
#
# In FOLDER/bad, NAME.pem is a certificate, followed by the CAs between it and
# ca.pem where it has some, and NAME-key.pem is its key. list.txt says what is
# wrong with each. The folder appears whole, and stays until its good ones have
# less than a day to live, the CA is another, or this script has changed, of
# which the folder keeps a copy.
set -u

# --- Who is in the zoo --------------------------------------------------------

# A line for each: its name, what is wrong with it, and how it differs from a
# good server's certificate (or, after "client", a client's). See issue() for
# what may differ.
zoo() {
    beast good-rsa 'good: RSA, 2048 bits' key=rsa
    beast rsa4096 'good: RSA, 4096 bits' key=rsa4096
    beast ecc384 'good: ECDSA on P-384' key=p384
    beast ed25519 'good: Ed25519' key=ed25519
    beast chain 'good: a CA between, which it brings along' \
        issuer=between chain=between
    beast no-subject 'good: no subject, only names' \
        subject=/ san="critical, $names"
    beast many-sans 'good: 1,000 names, 997 of them before localhost' \
        san="$thousand"
    beast server-only 'good for a server, and for no client'

    beast expired 'ended yesterday' from=-2 to=-1
    beast not-yet-valid 'begins in a month' from=30 to=31
    beast revoked 'revoked: crl.pem says so'

    beast wrong-host 'for other.example, and no address' san=DNS:other.example
    beast wrong-ip 'for 127.0.0.9, and no name' san=IP:127.0.0.9
    beast no-san 'localhost is its common name (CN) only' san=
    beast wildcard 'for *.example.org' san='DNS:*.example.org'
    beast partial-wildcard 'for w*.example.org' san='DNS:w*.example.org'
    beast wildcard-tld 'for *.org' san='DNS:*.org'

    beast self-signed 'signed by itself' issuer=self
    beast unknown-ca 'signed by other-ca.pem' issuer=other-ca
    beast incomplete-chain 'the CA between is left out' issuer=between
    beast not-a-ca 'signed with the key of a server' issuer=server chain=server
    beast pathlen 'a CA below one that may have none below' \
        issuer=below chain='below between'
    beast name-constraints 'its CA may sign for .example.org only' \
        issuer=limited chain=limited
    beast client-only 'for clients, shown by a server' use=clientAuth

    beast weak-rsa-1024 'RSA, 1024 bits' key=rsa1024
    beast sha1-leaf 'signed with SHA-1' digest=sha1
    beast sha1-intermediate 'the CA between is signed with SHA-1' \
        issuer=sha1 chain=sha1

    beast mismatch 'the key is that of another' own=second
    beast encrypted 'the key is encrypted: pass phrase "secret"' own=locked
    rubbish garbage 'a frame of PEM with nothing of sense in it' \
        '-----BEGIN CERTIFICATE-----' bm90IGEgY2VydGlmaWNhdGU= \
        '-----END CERTIFICATE-----'
    rubbish empty 'no byte at all'

    client client-expired 'ended yesterday' from=-2 to=-1
    client client-revoked 'revoked: crl.pem says so'
    client client-unknown-ca 'signed by other-ca.pem' issuer=other-ca
    client client-self-signed 'signed by itself' issuer=self
    client client-cn-only 'no name but a common name (CN)' san=

    list other-ca.pem 'a CA that nobody trusts'
    list crl.pem 'what the CA has revoked: revoked, client-revoked'
}
names='DNS:localhost, IP:127.0.0.1, IP:::1'
thousand=$(printf 'DNS:name-%d.example.org, ' {1..997})$names

# The CAs between (and one that is none, and one that is not ours). They may
# sign servers' certificates only, but for pathlen, where one has another below.
authorities() {
    local may_sign='ca=critical, CA:TRUE, pathlen:0'
    issue between "$may_sign" key=second subject='/CN=CA between'
    issue below "$may_sign" key=second subject='/CN=CA below' issuer=between
    issue limited "$may_sign" key=second subject='/CN=CA of example.org' \
        more='nameConstraints = critical, permitted;DNS:.example.org'
    issue sha1 "$may_sign" key=second subject='/CN=CA by SHA-1' digest=sha1
    issue other-ca "$may_sign" key=second subject='/CN=other CA' issuer=self
    issue server key=second subject='/CN=server'
}

# --- How they are made --------------------------------------------------------

# issue NAME [SETTING=VALUE...]: $parts/NAME.pem. "openssl ca" may date it as
# we like, which "openssl x509" of OpenSSL 3.0 may not.
issue() {
    local issuer=ca       # whose part signs, or self
    local key=first       # which of keys()
    local from=0 to=7     # its life, in days from now
    local subject=/CN=localhost san=$names use=serverAuth digest=sha256
    local ca=             # basicConstraints of one that is a CA
    local more=           # another line of extensions
    [[ $# -eq 1 ]] || local "${@:2}"

    local signer=(-cert "$parts/$issuer.pem" -keyfile "$parts/$issuer-key.pem")
    [[ $issuer == self ]] && signer=(-selfsign -keyfile "$parts/$key.key")
    {
        echo "basicConstraints = ${ca:-critical, CA:FALSE}"
        if [[ $ca ]]; then
            echo 'keyUsage = critical, keyCertSign, cRLSign'
        else
            echo 'keyUsage = critical, digitalSignature'
            echo "extendedKeyUsage = $use"
            [[ $san ]] && echo "subjectAltName = $san"
        fi
        echo 'subjectKeyIdentifier = hash'
        [[ $issuer == self ]] || echo 'authorityKeyIdentifier = keyid'
        echo "$more"
    } >"$parts/extensions"
    quietly openssl ca -config "$parts/config" -batch -notext -md "$digest" \
        -startdate "$(moment "$from")" -enddate "$(moment "$to")" \
        -in "$parts/$key.request" -subj "$subject" "${signer[@]}" \
        -extfile "$parts/extensions" -out "$parts/$1.pem"
    cp "$parts/$key.key" "$parts/$1-key.pem" || exit 1
}

# beast NAME WHAT [SETTING=VALUE...]: issues it and puts it into the zoo. Two
# more settings: "chain", the parts that come after it in NAME.pem, and "own",
# which of keys() NAME-key.pem is, if not the one that belongs to it.
beast() {
    list "$1.pem" "$2"
    local chain='' own='' differs=() setting part
    for setting in "${@:3}"; do
        case $setting in
        chain=* | own=*) local "$setting" ;;
        *) differs+=("$setting") ;;
        esac
    done
    issue "$1" "${differs[@]}"
    for part in "$1" $chain; do
        cat "$parts/$part.pem" || exit 1
    done >"$bad/$1.pem"
    cp "$parts/$1-key.pem" "$bad" || exit 1
    [[ -z $own ]] || cp "$parts/$own.key" "$bad/$1-key.pem" || exit 1
}

client() {
    beast "$1" "$2" use=clientAuth san=DNS:client.example \
        subject=/CN=client.example "${@:3}"
}

# rubbish NAME WHAT [LINE...]: files that are no certificate and no key
rubbish() {
    list "$1.pem" "$2"
    [[ $# -eq 2 ]] || printf '%s\n' "${@:3}" >"$bad/$1.pem"
    touch "$bad/$1.pem"
    cp "$bad/$1.pem" "$bad/$1-key.pem"
}

# revoke NAME...: writes the list of what is revoked
revoke() {
    local name ca=(-config "$parts/config" -cert ca.pem -keyfile ca-key.pem)
    for name; do
        quietly openssl ca "${ca[@]}" -revoke "$parts/$name.pem"
    done
    quietly openssl ca "${ca[@]}" -gencrl -crldays 7 -out "$bad/crl.pem"
}

# Most share one key: what is wrong with them is elsewhere. RSA keys take long
# to find, one of 4,096 bits much longer than all the rest; four primes in place
# of two make it ten times as fast, and nobody but its owner can tell.
keys() {
    local searches=() search found=yes
    new_key rsa4096 RSA rsa_keygen_bits:4096 rsa_keygen_primes:4
    new_key rsa RSA rsa_keygen_bits:2048
    new_key rsa1024 RSA rsa_keygen_bits:1024
    new_key first EC ec_paramgen_curve:P-256
    new_key second EC ec_paramgen_curve:P-256
    new_key p384 EC ec_paramgen_curve:P-384
    new_key ed25519 ED25519
    for search in "${searches[@]}"; do
        wait "$search" || found=
    done
    [[ $found ]] || exit 1
    quietly openssl pkey -in "$parts/first.key" -aes256 \
        -passout pass:secret -out "$parts/locked.key"
}

# new_key NAME ALGORITHM [OPTION...]: a key, and a request to certify it
new_key() {
    local options=() option
    for option in "${@:3}"; do
        options+=(-pkeyopt "$option")
    done
    {
        quietly openssl genpkey -algorithm "$2" "${options[@]}" \
            -out "$parts/$1.key"
        quietly openssl req -new -key "$parts/$1.key" -subj "/CN=$1" \
            -config "$parts/config" -out "$parts/$1.request"
    } &
    searches+=($!)
}

# What "openssl ca" wants to know before it does anything. Its database is for
# the revoked: they are those that it once signed.
config() {
    cat <<CONFIG
[req]
distinguished_name = names
[names]
[ca]
default_ca = zoo
[zoo]
database = $parts/database
unique_subject = no
new_certs_dir = $parts
rand_serial = yes
crlnumber = $parts/crlnumber
default_md = sha256
policy = policy
crl_extensions = crl
[policy]
commonName = optional
[crl]
authorityKeyIdentifier = keyid
CONFIG
}

moment() { printf '%(%Y%m%d%H%M%SZ)T' $((now + $1 * 86400)); }

list() { printf 'bad/%-23s %s\n' "$1" "$2" >>"$bad/list.txt"; }

quietly() {
    local output
    output=$("$@" 2>&1) || give_up "$1 $2: $output"
}

give_up() {
    echo "make-zoo: $*" >&2
    exit 1
}

# still_good: made by this script for this CA, and not long ago
still_good() {
    cmp -s "$0" bad/make-zoo.sh &&
        openssl x509 -in bad/good-rsa.pem -noout -checkend 86400 &&
        openssl verify -no_check_time -CAfile ca.pem -no-CApath -no-CAstore \
            bad/good-rsa.pem
} >/dev/null 2>&1

if [[ $# -ne 1 || ! -f ca.pem || ! -d ${1:-} ]]; then
    echo "make-zoo: \"04-tls/make-certs.sh --bad\" runs this" >&2
    exit 2
fi
still_good && exit

export TZ=UTC0
umask 077
parts=$1/parts
bad=$1/bad
printf -v now '%(%s)T' -1
mkdir "$parts" "$bad" || exit 1
config >"$parts/config" && touch "$parts/database" &&
    echo 01 >"$parts/crlnumber" && cp ca.pem ca-key.pem "$parts" || exit 1
keys
authorities
zoo
revoke revoked client-revoked
cp "$parts/other-ca.pem" "$0" "$bad" && chmod 755 "$bad" &&
    find "$bad" -type f ! -name '*-key.pem' -exec chmod 644 {} + || exit 1
[[ ! -e bad ]] || mv bad "$1/old" || exit 1
mv "$bad" bad && cat bad/list.txt
