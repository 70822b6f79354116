# Exercise 1.3: an echo in capitals.
#
# To set another transform of bytes: put a command that does it to standard
# input into transform(), such as tr a-z n-za-m, or a script of yours; then
# change the Task and the texts in the file exercise. The checks stay as they
# are, since each asks that command for what it expects.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016,SC2018,SC2019

load ../../tests/helpers/common

transform() { LC_ALL=C tr a-z A-Z; }

setup() { common_setup; }
teardown() { common_teardown; }

# loud FILE: what the server makes of a file is what transform() makes of it
loud() {
    transform <"$1" >"$tmp/wanted"
    timeout "${limit:-10}" socat -t 10 - "TCP:127.0.0.1:$port" <"$1" >"$tmp/loud"
    run cmp "$tmp/wanted" "$tmp/loud"
    assert_output ""
}

@test "all 256 byte values come back as tr a-z A-Z makes them" {
    start_server echo-server 127.0.0.1 0
    python3 -c 'import sys
sys.stdout.buffer.write(bytes(range(1, 256)) + bytes(3) + "Straße, ça, 🐶".encode())' >"$tmp/in"
    loud "$tmp/in"
}

@test "a large file comes back in capitals" {
    start_server echo-server 127.0.0.1 0
    random_file "$tmp/in" 1000000
    loud "$tmp/in"
}

@test "capitals come back from a kernel that gives and takes a few bytes at a time" {
    random_file "$tmp/in" 10000
    server_env=("LD_PRELOAD=$build/shim.so" SHIM_RECEIVE=7 SHIM_SEND=3)
    start_server echo-server 127.0.0.1 0
    loud "$tmp/in"
}

@test "after clients that reset, the next gets its capitals" {
    start_server echo-server 127.0.0.1 0
    for _ in 1 2 3; do
        peer connect 127.0.0.1 "$port" random 60000 reset
    done
    peer connect 127.0.0.1 "$port" send 'still there?' expect "$(printf 'still there?' | transform)" close
}
