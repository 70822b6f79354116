# Stage 3 from inside: messages, connections and the client, without a server
# between. The tests named here are those of the programs in tests/unit/, which
# take the name; then the vectors of docs/protocol.md, and random messages.

# shellcheck disable=SC2154 # variables of helpers/common

load helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# unit PROGRAM: runs the test of the same name as this one
unit() {
    run timeout -k 5 120 "$build/$1" "$BATS_TEST_DESCRIPTION"
    assert_success
}

@test "every test of the unit programs is named here" {
    for program in message-test connection-test client-test; do
        run "$build/$program"
        assert_success
        assert [ "${#lines[@]}" -ge 4 ]
        for name in "${lines[@]}"; do
            grep -qF "@test \"$name\" { unit $program; }" tests/03-message.bats ||
                fail "$program: $name"
        done
    done
}

# --- message.[ch] -------------------------------------------------------------

@test "a message gives the same result wherever it is cut" { unit message-test; }
@test "messages give the same results for every receive size to 4,096" { unit message-test; }
@test "a thousand messages in a row are decoded one by one" { unit message-test; }
@test "no byte behind what has come is read" { unit message-test; }
@test "a decoder says in which part the bytes so far end" { unit message-test; }
@test "every error of a header is told in the words of the specification" { unit message-test; }
@test "every error of content is told in the words of the specification" { unit message-test; }
@test "content-length is an integer in range, and nothing that looks like one" { unit message-test; }
@test "text that is no UTF-8, a lone surrogate and a zero are errors in any string" { unit message-test; }
@test "a zero byte ends nothing" { unit message-test; }
@test "values may be 2,048 deep and not more" { unit message-test; }
@test "a gigabyte that is announced takes no memory" { unit message-test; }
@test "of a header that takes megabytes, some hundred bytes are kept" { unit message-test; }
@test "decoding without memory, wherever it ends, is an error and leaks nothing" { unit message-test; }
@test "a text that there is no memory to parse is an error and leaks nothing" { unit message-test; }
@test "encoding without memory, wherever it ends, appends nothing and leaks nothing" { unit message-test; }
@test "a header that two bytes cannot count is not encoded" { unit message-test; }
@test "random messages are the same after encoding and decoding" { unit message-test; }
@test "a message is encoded with the keys and blanks of the specification" { unit message-test; }
@test "numbers of every length, in both orders, at any address" { unit message-test; }
@test "the order of this machine is known" { unit message-test; }

# --- connection.[ch] ----------------------------------------------------------

@test "requests get the same bytes of answers wherever they are cut" { unit connection-test; }
@test "requests get the same answers in pieces of every size" { unit connection-test; }
@test "requests get the same answers over a channel that waits for the other direction" { unit connection-test; }
@test "bytes that no readiness announces are read" { unit connection-test; }
@test "a phase begins with its first byte and with no other" { unit connection-test; }
@test "requests that came together have a turn each" { unit connection-test; }
@test "who has sent long JSON leaves turns to the others first" { unit connection-test; }
@test "who is refused after long JSON has left turns to the others, too" { unit connection-test; }
@test "a rest ends after a while with the answer, and without when the server stops" { unit connection-test; }
@test "the end of a stream inside a message is told with its place" { unit connection-test; }
@test "a deadline ends each phase in its own way" { unit connection-test; }
@test "after an error a megabyte is read on, and no more" { unit connection-test; }
@test "a channel that fails ends its connection only" { unit connection-test; }
@test "an end that is not polite is told, and answered by nothing" { unit connection-test; }
@test "a server that stops lets a response go, and waits without spinning" { unit connection-test; }
@test "a connection without memory ends and leaks nothing" { unit connection-test; }
@test "a connection without a channel is none" { unit connection-test; }
@test "an idle connection holds little, whatever is announced" { unit connection-test; }

# --- client.[ch] --------------------------------------------------------------

@test "a client asks over a channel that waits for the other direction" { unit client-test; }
@test "a client connects anew to a server that closes after each response" { unit client-test; }
@test "a response cut at any byte is truncated" { unit client-test; }
@test "a descriptor without a channel is closed once" { unit client-test; }
@test "a request of whose response a part has come is not sent again" { unit client-test; }
@test "all addresses have one deadline together" { unit client-test; }
@test "sending and receiving have a deadline each" { unit client-test; }
@test "a line takes little more memory than its request" { unit client-test; }

# --- The specification ---------------------------------------------------------

vectors() {
    run timeout -k 5 60 python3 tests/helpers/vectors.py "$@"
    assert_output "12 vectors without an error, 24 with one"
    assert_success
}

@test "the specification has its test vectors" {
    vectors count
}

@test "a message is shown as the test vectors have it" {
    vectors tool "$build/message-tool"
}

@test "the server answers as the test vectors have it, wherever they are cut" {
    start_server app-server -q 127.0.0.1 0
    vectors server "$host" "$port"
    stop_server
}

@test "the independent peer answers as the test vectors have it" {
    vectors model
}

@test "a test vector that is not kept is told" {
    mkdir -p "$tmp/tests" "$tmp/docs"
    cp -r tests/helpers "$tmp/tests"
    sed 's/Misty/Foggy/' docs/protocol.md >"$tmp/docs/protocol.md"
    run timeout 60 python3 "$tmp/tests/helpers/vectors.py" model
    assert_failure
    assert_output --partial "search-ring: instead of"
    sed 's/\\x20$//' docs/protocol.md >"$tmp/docs/protocol.md"
    run timeout 60 python3 "$tmp/tests/helpers/vectors.py" model
    assert_failure
    assert_output --partial "other-empty: instead of"
    sed 's/^-> error: header: not an object/-> x: y/' docs/protocol.md >"$tmp/docs/protocol.md"
    run timeout 60 python3 "$tmp/tests/helpers/vectors.py" tool "$build/message-tool"
    assert_failure
    assert_output --partial "header-array: it says:"
}

@test "random conversations, good and bad, end as an independent peer has it" {
    run timeout -k 5 120 python3 tests/helpers/differential.py "$build/converse" 60000
    assert_success
    assert_output --regexp '^60000 conversations, [0-9]{5} answers, [0-9]{5} of them errors: 0 differ$'
}
