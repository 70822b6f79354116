# Exercise 1.1: what the suite of stage 1 sees as well, but in so small a case
# that what came back tells one mistake from another.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

# exchange TEXT...: sends each, receives as many bytes or what comes in time,
# and prints what came. Once something has not come, what else comes does so soon.
exchange() {
    run timeout $((${limit:-10} + 5)) python3 - "$port" "$@" <<'PYTHON'
import os, socket, sys
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])),
                                  timeout=float(os.environ.get("patience", 10)))
came = b""
for text in sys.argv[2:]:
    data = text.encode().decode("unicode_escape").encode("latin-1")
    wanted = len(came) + len(data)
    try:
        client.sendall(data)
        while len(came) < wanted:
            piece = client.recv(wanted - len(came))
            if not piece:
                came += b", and the end"
                wanted = 0
            came += piece
    except TimeoutError:
        client.settimeout(0.7)
    except OSError as error:
        came += f", and {error}".encode()
print(ascii(came)[2:-1])
PYTHON
}

@test "what is sent comes back" {
    start_server echo-server 127.0.0.1 0
    exchange hello 'and more'
    assert_output 'helloand more'
}

@test "what send() does not take is offered again" {
    server_env=("LD_PRELOAD=$build/shim.so" SHIM_SEND=3)
    start_server echo-server 127.0.0.1 0
    exchange abcdefghij klmnopqrst
    assert_output abcdefghijklmnopqrst
}

@test "a zero is a byte like all others" {
    start_server echo-server 127.0.0.1 0
    exchange 'one\x00two' three
    assert_output 'one\x00twothree'
}
