# Exercise 3.1: the ladder, through message-tool. Small cases first, in which
# one mistake shows in another way than the next.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

# Some installations have a slow script before the real python3.
setup_file() {
    python3=$(python3 -c 'import sys; print(sys.executable)')
    export python3
}
setup() { common_setup; }
teardown() {
    [[ ${BATS_TEST_COMPLETED:-} == 1 || ! -s $tmp/header ]] ||
        echo "evidence: the header was: $(cat "$tmp/header")"
    common_teardown
}

# feed STEP...: gives bytes to message-tool; what it says is $output
feed() {
    run timeout -k 5 $((${limit:-10} + 5)) \
        "$python3" exercises/3.1/feed.py "$build/message-tool" "$@" 3>&-
}

# header LENGTH [TYPE [ENCODING]]: a good one
header() {
    printf '{"byteorder": "big", "content-type": "%s", "content-encoding": "%s", "content-length": %s}' \
        "${2-x}" "${3-y}" "$1"
}

# shows LENGTH BYTES CONTENT [TYPE [ENCODING [BYTEORDER]]]: what is said of a
# good message, whose header has so many bytes
shows() {
    printf "length           %s\nbyteorder        '%s'\ncontent-type     '%s'\ncontent-encoding '%s'\ncontent-length   %s\ncontent          %s\n" \
        "$1" "${6-big}" "${4-x}" "${5-y}" "$2" "$3"
}

# refused WHY: WHY is a regular expression
refused() {
    assert_output --regexp "^message-tool: standard input: $1"$'\n''exit status 1$'
}

# good_end: after much output, exit status 0
good_end() { [[ ${lines[-1]} == 'exit status 0' ]] || fail "$(tail -n 2 <<<"$output")"; }

# --- The length in front -------------------------------------------------------

@test "a length has its big end first" {
    feed pad 769 '[' ']' shown 0
    refused 'header: not an object'
}

@test "a message that is there is shown" {
    feed frame "$(header 2)" hi
    assert_output "$(shows 87 2 "'hi'")
exit status 0"
}

@test "a header may have 65,535 bytes" {
    for size in 32767 32768 65535; do
        feed pad "$size" '{' "$(header 2 | cut -c 2-)" raw hi
        assert_output "$(shows "$size" 2 "'hi'")
exit status 0"
    done
}

@test "a header of no bytes is no JSON" {
    feed raw '\x00\x00' stop
    refused 'header: not JSON at byte [0-9]+'
}

# --- A stream has no messages ---------------------------------------------------

@test "what has not come yet is waited for" {
    feed raw '\x00' shown 0 raw '\x57' shown 0 raw "$(header 2 | cut -c -40)" \
        shown 0 raw "$(header 2 | cut -c 41-)" shown 0 raw h shown 0 raw i shown 1
    assert_output "$(shows 87 2 "'hi'")
exit status 0"
}

@test "a message that comes a byte at a time is shown once, with its last byte" {
    feed each frame "$(header 3)" hi shown 0 raw '!' shown 1
    assert_output "$(shows 87 3 "'hi!'")
exit status 0"
}

@test "content of no bytes is complete when the header is" {
    feed frame "$(header 0)" '' shown 1
    assert_output "$(shows 87 0 "''")
exit status 0"
}

@test "of a message and a half in one piece, one is shown, and the other when it is whole" {
    feed raw "\\x00\\x57$(header 2)hi\\x00\\x57$(header 3)a" shown 1 raw bc shown 2
    assert_output "$(shows 87 2 "'hi'")
$(shows 87 3 "'abc'")
exit status 0"
}

@test "a thousand messages in a row are shown one by one" {
    feed repeat 1000 raw "\\x00\\x57$(header 2)hi" shown 1000
    good_end
    assert_equal "$(grep -c "^content          'hi'$" <<<"$output") of 1000" '1000 of 1000'
}

@test "a zero byte in the content is a byte like all others" {
    feed frame "$(header 6)" 'a\x00b\x00\x00c' shown 1
    assert_output "$(shows 87 6 "'a\\x00b\\x00\\x00c'")
exit status 0"
}

# --- The length can lie ---------------------------------------------------------

@test "4,294,967,306 is not 10" {
    feed frame "$(header 4294967306)" 0123456789 stop
    refused 'header: content-length is 4294967306, not from 0 to 1073741824'
}

@test "no length is below 0" {
    for size in -1 -9223372036854775808; do
        feed frame "$(header $size)" '' stop
        refused "header: content-length is $size, not from 0 to 1073741824"
    done
}

@test "content that is too long is refused before it comes, and not one byte less" {
    feed frame "$(header 1073741825)" '' stop
    refused 'header: content-length is 1073741825, not from 0 to 1073741824'
    feed frame "$(header 1073741824)" some shown 0
    refused 'end of stream inside the content'
    feed frame "$(header 131073 text/json utf-8)" '' stop
    refused 'header: content-length is 131073, not from 0 to 131072'
    feed frame "$(header 131072 text/json utf-8)" some shown 0
    refused 'end of stream inside the content'
}

@test "what is announced takes no memory before it comes" {
    feed_with_little_memory() {
        run timeout -k 5 20 prlimit --data=150000000 \
            "$python3" exercises/3.1/feed.py "$build/message-tool" "$@" 3>&-
    }
    feed_with_little_memory frame "$(header 1073741824)" some shown 0
    refused 'end of stream inside the content'
}

@test "a content-length is an integer" {
    for size in '"2"' 2.0 2e0 null; do
        feed frame "$(header "$size")" hi stop
        refused 'header: content-length is not an integer'
    done
    feed frame "$(header -0)" '' shown 1
    assert_output "$(shows 88 0 "''")
exit status 0"
}

# --- The fields of a header -----------------------------------------------------

# altered SED-COMMAND WHY: a good header, but for what sed has changed
altered() {
    header 0 | sed "$1" >"$tmp/header"
    feed frame "$(cat "$tmp/header")" '' stop
    refused "$2"
}

@test "a key that is missing is named" {
    altered 's/"byteorder": "big", //' 'header: byteorder is missing'
    altered 's/"content-type": "x", //' 'header: content-type is missing'
    altered 's/"content-encoding": "y", //' 'header: content-encoding is missing'
    altered 's/, "content-length": 0//' 'header: content-length is missing'
}

@test "a value that should be a string is one" {
    altered 's/"big"/1/' 'header: byteorder is not a string'
    altered 's/"x"/null/' 'header: content-type is not a string'
    altered 's/"y"/["y"]/' 'header: content-encoding is not a string'
}

@test "byteorder is little or big, and nothing else" {
    feed frame "$(header 1 | sed s/big/little/)" '\xff' shown 1
    assert_output "$(shows 90 1 "'\\xff'" x y little)
exit status 0"
    altered s/big/Big/ "header: byteorder is 'Big', not 'little' or 'big'"
    altered s/big// "header: byteorder is '', not 'little' or 'big'"
    altered 's/big/bigger/' "header: byteorder is 'bigger', not 'little' or 'big'"
}

@test "what a header has instead is shown in 40 bytes, and commands no terminal" {
    local long
    long=$(printf '%0100d' 0)
    altered "s/big/$long/" "header: byteorder is '${long:60}'… \(100 bytes\), not 'little' or 'big'"
    altered 's/big/\\\\u001b[2J/' "header: byteorder is '\\\\x1b\[2J', not 'little' or 'big'"
}

@test "JSON is in UTF-8, and its encoding is compared byte by byte" {
    feed frame "$(header 2 text/json utf-8)" '{}' shown 1
    assert_output "$(shows 99 2 "'{}'" text/json utf-8)
exit status 0"
    for encoding in UTF-8 utf-16 utf-80; do
        feed frame "$(header 2 text/json "$encoding")" '{}' stop
        refused "header: content-encoding of text/json is '$encoding', not 'utf-8'"
    done
    feed frame "$(header 2 text/JSON utf-16)" hi shown 1
    assert_output "$(shows 100 2 "'hi'" text/JSON utf-16)
exit status 0"
}

@test "of several flaws, the first in the order of the fields is told" {
    altered 's/"big"/1/; s/"content-type": "x", //; s/: 0/: -1/' 'header: byteorder is not a string'
    altered 's/"x"/1/; s/"y"/1/; s/: 0/: -1/' 'header: content-type is not a string'
    altered 's/"y"/1/; s/: 0/: -1/' 'header: content-encoding is not a string'
    feed frame "$(header -1 text/json latin-1)" '' stop
    refused "header: content-encoding of text/json is 'latin-1', not 'utf-8'"
}

@test "keys in another order, keys that are not known, escapes: understood" {
    feed frame '{"content-length" :2, "more": {"byteorder": []},\n "content-encoding":"\\u0079", "content-type":"\\u0078","byteorder":"big"} ' hi shown 1
    assert_output --partial "content-type     'x'
content-encoding 'y'
content-length   2
content          'hi'
exit status 0"
}

@test "a key that occurs twice is refused, known or not" {
    altered 's/}/, "content-length": 0}/' 'header: a key occurs twice at byte [0-9]+'
    altered 's/}/, "z": {"a": 1, "a": 1}}/' 'header: a key occurs twice at byte [0-9]+'
}

@test "what is no JSON, and no UTF-8, is refused" {
    altered 's/"x"/"\\xff"/' 'header: not UTF-8 at byte [0-9]+'
    altered 's/"x"/"\\\\u0000"/' 'header: \\u0000 is not allowed at byte [0-9]+'
    altered 's/$/ {}/' 'header: not JSON at byte [0-9]+'
    altered 's/}$//' 'header: not JSON at byte [0-9]+'
    altered 's/^.*$/[1, 2]/' 'header: not an object'
}

# --- All together ---------------------------------------------------------------

@test "after a message, nothing of it is left" {
    # The limit of JSON, the type, a long header: each is of the one before.
    feed pad 5000 '{' "$(header 2 text/json utf-8 | cut -c 2-)" raw '{}' shown 1 \
        frame "$(header 131073)" '' repeat 131073 raw z shown 2 frame "$(header 1)" q shown 3
    good_end
    assert_line --index 11 "content          '$(printf '%064d' 0 | tr 0 z)'… (131073 bytes)"
    assert_line --index 17 "content          'q'"
}

@test "large headers leave no memory behind" {
    local many
    many=$(seq -f '"%g": [], ' 5000 | tr -d '\n')
    run timeout -k 5 20 prlimit --data=150000000 \
        "$python3" exercises/3.1/feed.py "$build/message-tool" \
        repeat 250 frame "{$many$(header 1 | cut -c 2-)" i shown 250 3>&-
    good_end
}

@test "each test vector of the specification gives the same wherever it is cut" {
    run timeout -k 5 30 "$python3" exercises/3.1/feed.py "$build/message-tool" vectors 3>&-
    assert_output ''
}
