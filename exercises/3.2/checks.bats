# Exercise 3.2: an action that the server has not had before.
#
# To set another action than "length": put its name into action, and what it
# makes of a value, as an expression of Python, into result; then change the
# name, the Task and the texts in the file exercise. The checks stay as they
# are, since each asks Python for what it expects. (A result is a string, and
# for a value of 130,000 bytes it has no more than 131,000.)
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

action=length
result='str(len(value))'

# Some installations have a slow script before the real python3.
setup_file() {
    python3=$(python3 -c 'import sys; print(sys.executable)')
    export python3
}
setup() { common_setup; }
teardown() { common_teardown; }

# asks STEP...: on one connection to the server,
#   value TEXT      a request with this value, as Python writes strings; its
#                   result must be that of the expression
#   times N VALUE   so many of them, one after the other; VALUE is an expression
#   json TEXT       this JSON, which has a value, likewise
#   gets TEXT WHAT  this JSON; the response must be WHAT, which is JSON, too
#   end             the end must come
asks() {
    run timeout "$((${limit:-10} + 5))" "$python3" exercises/3.2/asks.py \
        "$port" "$action" "$result" "$@" 3>&-
    assert_output ''
}

no_value='{"error": "content: value is missing, or not a string"}'

@test "plain letters" {
    start_server app-server -q 127.0.0.1 0
    asks value abc value a value 'two words'
}

@test "no letters at all" {
    start_server app-server -q 127.0.0.1 0
    asks value ''
}

@test "a letter that takes two bytes in UTF-8, and one that takes three" {
    start_server app-server -q 127.0.0.1 0
    asks value é value € value 'Straße, ça, 日本語'
}

@test "an emoji, which takes four bytes" {
    start_server app-server -q 127.0.0.1 0
    asks value 🐶 value 'a🐶é'
}

@test "emoji and letters that are made of several code points" {
    start_server app-server -q 127.0.0.1 0
    asks value 'e\u0301' value '👩\u200d👩\u200d👧' value '🇩🇪' value 'a\u200bb'
}

@test "a value in the escapes of JSON" {
    start_server app-server -q 127.0.0.1 0
    asks json '{"action": "'$action'", "value": "\u00e9\ud83d\udc36\n\"\\"}'
}

@test "a value that is missing, or is no string" {
    start_server app-server -q 127.0.0.1 0
    for value in '' ', "value": 3' ', "value": null' ', "value": ["abc"]' ', "Value": "abc"'; do
        asks value x gets "{\"action\": \"$action\"$value}" "$no_value" end
    done
}

@test "the other actions are what they were" {
    start_server app-server -q 127.0.0.1 0
    asks value x gets '{"action": "search", "value": "ring"}' '{"result": "In the caves beneath the Misty Mountains. 💍"}' \
        gets "{\"action\": \"${action^}\", \"value\": \"x\"}" "{\"result\": \"Error: invalid action '${action^}'.\"}" \
        gets "{\"action\": \"$action \", \"value\": \"x\"}" "{\"result\": \"Error: invalid action '$action '.\"}" \
        gets '{"action": "search"}' "$no_value" end
}

@test "the largest values" {
    start_server app-server -q 127.0.0.1 0
    asks times 1 '"x" * 130000' times 1 '"é" * 65000' times 1 '"🐶" * 32000'
}

@test "2,000 requests leave no memory behind" {
    start_server app-server -q 127.0.0.1 0
    local before
    asks times 50 '"é" * 25000'
    before=$(resident)
    asks times 2000 '"é" * 25000'
    (($(resident) - before < 30000)) ||
        fail "the server has grown by $(($(resident) - before)) kB"
}
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; } # in kB
