# Exercise 3.3: JSON in UTF-16.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

# Some installations have a slow script before the real python3.
setup_file() {
    python3=$(python3 -c 'import sys; print(sys.executable)')
    export python3
}
setup() {
    common_setup
    start_server app-server -q 127.0.0.1 0
}
teardown() { common_teardown; }

# scene NAME [ARGUMENT...]: one of scenes.py, which says what is wrong
scene() {
    run timeout "$((${limit:-10} + 5))" "$python3" exercises/3.3/scenes.py "$port" "$@" 3>&-
    assert_output ''
}

@test "text with the big end first, and its mark" { scene big; }
@test "text with the little end first, and its mark" { scene little; }
@test "without a mark, byteorder says which end is first" { scene unmarked; }
@test "a mark counts more than byteorder" { scene disagree; }
@test "characters of two units, and a mark that is a character" { scene pairs; }
@test "an odd number of bytes is refused" { scene odd; }
@test "half a surrogate pair is refused, wherever it stands" { scene halves; }
@test "the limit is that of the bytes as they are sent" { scene limits; }
@test "the rules for JSON hold" { scene rules; }
@test "other names of encodings are refused, and both good ones named" { scene names; }
@test "UTF-8 is as before, and other types, too" { scene as-before; }
@test "a request that comes a byte at a time" { scene pieces; }

@test "1,000 requests leave no memory behind, and no descriptor" {
    scene many 20
    local memory open
    memory=$(resident)
    open=$(descriptors "$server")
    scene many 1000
    (($(resident) - memory < 20000)) ||
        fail "the server has grown by $(($(resident) - memory)) kB"
    assert_equal "$(descriptors "$server") descriptors" "$open descriptors"
}
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; } # in kB
