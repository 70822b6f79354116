# Exercise 1.3: an echo that changes each byte on its way.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016,SC2018,SC2019

# What becomes of the bytes. A teacher changes it, here and in the words of the
# file exercise: see docs/teaching.md.
transform() { LC_ALL=C tr a-z A-Z; }

load ../../tests/helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# all_values: each of the 256 bytes, and some that are letters elsewhere only
all_values() {
    python3 -c 'import sys
sys.stdout.buffer.write(bytes(range(1, 256)) + bytes(3) + "Straße, ça, 🐶".encode())' >"$tmp/in"
}

# changed: what the server makes of $tmp/in is what transform makes of it
changed() {
    transform <"$tmp/in" >"$tmp/wanted"
    timeout "${limit:-10}" socat -t 10 - "TCP:127.0.0.1:$port" <"$tmp/in" >"$tmp/changed"
    run python3 - "$tmp/in" "$tmp/wanted" "$tmp/changed" <<'PYTHON'
import sys
sent, wanted, came = (open(name, "rb").read() for name in sys.argv[1:])
for at in range(len(wanted)):
    if wanted[at:at + 1] != came[at:at + 1]:
        sys.exit(f"byte {at + 1:,} of {len(wanted):,}: {sent[at:at + 1]!r} was sent, "
                 f"{wanted[at:at + 1]!r} expected, {came[at:at + 1] or 'nothing'!r} came")
if len(came) > len(wanted):
    sys.exit(f"{len(wanted):,} bytes were sent, {len(came):,} came")
PYTHON
    assert_output ""
}

@test "all 256 byte values come back as tr a-z A-Z makes them" {
    start_server echo-server 127.0.0.1 0
    all_values
    changed
}

@test "a large file comes back as tr a-z A-Z makes it" {
    start_server echo-server 127.0.0.1 0
    random_file "$tmp/in" 1000000
    changed
}

@test "a kernel that gives and takes a few bytes at a time: as tr a-z A-Z makes them" {
    random_file "$tmp/in" 10000
    server_env=("LD_PRELOAD=$build/shim.so" SHIM_RECEIVE=7 SHIM_SEND=3)
    start_server echo-server 127.0.0.1 0
    changed
}

@test "after clients that reset, the next gets its bytes as tr a-z A-Z makes them" {
    start_server echo-server 127.0.0.1 0
    for _ in 1 2 3; do
        peer connect 127.0.0.1 "$port" random 60000 reset
    done
    all_values
    changed
}
