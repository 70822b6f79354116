# Exercise 2.2: what the suite of stage 2 sees as well, but in so small a case
# that what came back tells one mistake from another.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# exchange CLIENT:TEXT...: each of these clients sends, receives as many bytes
# or what comes within 0.7 s, and what came is printed, by client
exchange() {
    run timeout "${limit:-10}" python3 - "$port" "$@" <<'PYTHON'
import socket, sys
clients, came = {}, {}
for word in sys.argv[2:]:
    name, _, text = word.partition(":")
    if name not in clients:
        clients[name] = socket.create_connection(("127.0.0.1", int(sys.argv[1])),
                                                 timeout=0.7)
        came[name] = ""
    wanted = len(text)
    try:
        clients[name].sendall(text.encode())
        while wanted > 0:
            piece = clients[name].recv(wanted)
            came[name] += piece.decode() if piece else ", and the end"
            wanted = wanted - len(piece) if piece else 0
    except TimeoutError:
        pass
    except OSError as error:
        came[name] += f", and {error.strerror}"
print("; ".join(f"{name}: {text}" for name, text in came.items()))
PYTHON
}

@test "two clients that speak in turn get their bytes back" {
    start_server multiconn-server 127.0.0.1 0
    exchange first:one second:two first:three second:four
    assert_output 'first: onethree; second: twofour'
}

@test "what send() does not take is kept, and sent later" {
    server_env=("LD_PRELOAD=$build/shim.so" SHIM_SEND=3)
    start_server multiconn-server 127.0.0.1 0
    exchange client:abcdefghij client:klmnopqrst
    assert_output 'client: abcdefghijklmnopqrst'
}

@test "one who never reads keeps nobody waiting" {
    start_server multiconn-server -q 127.0.0.1 0
    : >"$tmp/deaf"
    python3 tests/helpers/crowd.py 127.0.0.1 "$port" 1 deaf >"$tmp/deaf" 2>&1 3>&- &
    started+=("$!")
    wait_for grep -q . "$tmp/deaf" # so much was sent that nothing more was taken
    exchange other:word
    assert_output 'other: word'
}
