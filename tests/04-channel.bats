# Stage 4 from inside: the channel over TLS, without a server around it. The
# tests named here are those of tests/unit/tls-channel-test.c, which takes the
# name.

# shellcheck disable=SC2154 # variables of helpers/common

load helpers/common

setup_file() {
    [[ ${CERTS:-} ]] && return # a caller's
    export CERTS=$BATS_FILE_TMPDIR/certs
    04-tls/make-certs.sh "$CERTS"
}
setup() { common_setup; }
teardown() { common_teardown; }

# unit PROGRAM: runs the test of the same name as this one
unit() {
    run timeout -k 5 "${limit:-60}" "$build/$1" "$BATS_TEST_DESCRIPTION"
    assert_success
}

@test "every test of the channel over TLS is named here" {
    run "$build/tls-channel-test"
    assert_success
    assert [ "${#lines[@]}" -ge 4 ]
    for name in "${lines[@]}"; do
        grep -qF "@test \"$name\" { unit tls-channel-test; }" tests/04-channel.bats ||
            fail "$name"
    done
}

@test "a handshake in many small pieces takes more than one turn" { unit tls-channel-test; }
@test "a handshake waits for what is not there, and for nothing else" { unit tls-channel-test; }
@test "what has come is announced by the descriptor, or it is pending" { unit tls-channel-test; }
@test "a read takes one record, also if it is no data" { unit tls-channel-test; }
@test "what waits to be written may have moved when it is offered again" { unit tls-channel-test; }
@test "an error of one connection is not another's" { unit tls-channel-test; }
@test "what has come can be read, though a write has failed" { unit tls-channel-test; }
@test "the end is said once, and does not wait for the peer's" { unit tls-channel-test; }
