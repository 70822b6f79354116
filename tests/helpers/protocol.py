#!/usr/bin/env python3
"""The protocol of docs/protocol.md once more, in Python, written from the
specification: an independent peer for the tests of stage 3.

    protocol.py serve [PORT]      a server for many clients, one thread
    protocol.py ask HOST PORT     sends a search and a sum, checks the answers

As a module: encode(), decode(), answer() and Wrong, whose text is the TEXT of
section 4; and two tables that a server can add to, ACTIONS and ENCODINGS.
"""

import json
import selectors
import socket
import struct
import sys
import unicodedata

MOST_JSON = 128 << 10
MOST_CONTENT = 1 << 20
ANSWERS = {
    "morpheus": "Follow the white rabbit. 🐰",
    "ring": "In the caves beneath the Misty Mountains. 💍",
    "🐶": "🐾 Playing ball! 🏐",
}


class Wrong(Exception):
    """What breaks a rule; its text begins with the part that does."""


NAMED = dict(zip(b"\a\b\t\n\v\f\r\\'", "abtnvfr\\'"))


def quote(data, most=40):
    """Bytes that were sent, as TEXT shows them."""
    shown, left = "", most
    for character in data.decode(errors="surrogateescape"):
        taken = character.encode(errors="surrogateescape")
        left -= len(taken)
        if left < 0:
            break
        if (unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
                or character in "\\'"):
            character = "".join(f"\\{NAMED[byte]}" if byte in NAMED
                                else f"\\x{byte:02x}" for byte in taken)
        shown += character
    return f"'{shown}'" + (f"… ({len(data)} bytes)" if len(data) > most else "")


def encode(content_type, encoding, content, byteorder=sys.byteorder):
    """A message, as the wire has it."""
    header = json.dumps({
        "byteorder": byteorder,
        "content-type": content_type,
        "content-encoding": encoding,
        "content-length": len(content),
    }, ensure_ascii=False).encode()
    return struct.pack(">H", len(header)) + header + content


def encode_json(value):
    return encode("text/json", "utf-8",
                  json.dumps(value, ensure_ascii=False).encode())


def no_twins(pairs):
    if len({key for key, _ in pairs}) < len(pairs):
        raise Wrong("a key occurs twice")
    return dict(pairs)


def integer(digits):
    number = int(digits)
    if not -2**63 <= number < 2**63:
        raise Wrong("a number is too large")
    return number


def real(digits):
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise Wrong("a number is too large")
    return number


def constant(word):
    raise ValueError(word)


def check(value, depth):
    """The rules for JSON that Python's parser does not keep."""
    if depth > 2048:
        raise Wrong("nested too deeply")
    if isinstance(value, str):
        if "\0" in value:
            raise Wrong("\\u0000 is not allowed")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Wrong("not JSON") from error
    elif isinstance(value, (list, dict)):
        if isinstance(value, dict):
            for key in value:
                check(key, depth)
            value = value.values()
        for part in value:
            check(part, depth + 1)


def parse(part, data):
    """The JSON object that data is."""
    sys.setrecursionlimit(20000)
    try:
        value = json.loads(data.decode(), object_pairs_hook=no_twins,
                           parse_int=integer, parse_float=real,
                           parse_constant=constant)
        check(value, 1)
    except UnicodeDecodeError as error:
        raise Wrong(f"{part}: not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise Wrong(f"{part}: nested too deeply at byte {len(data)}") from error
    except ValueError as error:
        at = getattr(error, "pos", len(data))
        raise Wrong(f"{part}: not JSON at byte {at}") from error
    except Wrong as error:  # noticed when all has been read
        raise Wrong(f"{part}: {error} at byte {len(data)}") from error
    if isinstance(value, list):
        raise Wrong(f"{part}: not an object")
    if not isinstance(value, dict):
        raise Wrong(f"{part}: not JSON at byte 0")
    return value


def check_header(header, most_content):
    for key in ("byteorder", "content-type", "content-encoding"):
        if key not in header:
            raise Wrong(f"header: {key} is missing")
        if not isinstance(header[key], str):
            raise Wrong(f"header: {key} is not a string")
        if key == "byteorder" and header[key] not in ("little", "big"):
            raise Wrong(f"header: byteorder is {quote(header[key].encode())}, "
                        "not 'little' or 'big'")
    is_json = header["content-type"] == "text/json"
    encoding = header["content-encoding"]
    if is_json and encoding not in ENCODINGS:
        raise Wrong("header: content-encoding of text/json is "
                    f"{quote(encoding.encode())}, not "
                    + " or ".join(f"'{name}'" for name in ENCODINGS))
    if "content-length" not in header:
        raise Wrong("header: content-length is missing")
    length = header["content-length"]
    if type(length) is not int:
        raise Wrong("header: content-length is not an integer")
    most = MOST_JSON if is_json else most_content
    if not 0 <= length <= most:
        raise Wrong(f"header: content-length is {length}, not from 0 to {most}")


def decode(data, most_content=MOST_CONTENT):
    """The message at the head of data, as (header, content, bytes taken), or
    None if it is not complete. Raises Wrong."""
    if len(data) < 2:
        return None
    length, = struct.unpack(">H", data[:2])
    if len(data) < 2 + length:
        return None
    header = parse("header", data[2:2 + length])
    check_header(header, most_content)
    end = 2 + length + header["content-length"]
    if len(data) < end:
        return None
    return header, data[2 + length:end], end


def value_of(request):
    if not isinstance(request.get("value"), str):
        raise Wrong("content: value is missing, or not a string")
    return request["value"]


def search(request):
    value = value_of(request)
    return ANSWERS.get(value, f"No match for '{value}'.")


# What an action makes of a request, and how an encoding of JSON becomes UTF-8.
ACTIONS = {"search": search}
ENCODINGS = {"utf-8": lambda header, content: content}


def perform(request):
    if not isinstance(request.get("action"), str):
        raise Wrong("content: action is missing, or not a string")
    if request["action"] not in ACTIONS:
        return f"Error: invalid action '{request['action']}'."
    return ACTIONS[request["action"]](request)


def answer(header, content):
    """The response to a message. Raises Wrong."""
    if header["content-type"] == "text/json":
        text = ENCODINGS[header["content-encoding"]](header, content)
        response = encode_json({"result": perform(parse("content", text))})
        if decode_length(response) > MOST_JSON:
            raise Wrong("content: its result is longer than 131072 bytes")
        return response
    if header["content-type"] == "binary/uint32-array":
        if len(content) % 4:
            raise Wrong("content: its length is no multiple of 4")
        mark = "<" if header["byteorder"] == "little" else ">"
        numbers = struct.unpack(f"{mark}{len(content) // 4}I", content)
        return encode("binary/uint64", "binary",
                      sum(numbers).to_bytes(8, sys.byteorder))
    return encode("binary/custom-server-binary-type", "binary",
                  b"First 10 bytes of request: " + content[:10])


def decode_length(message):
    return len(message) - 2 - struct.unpack(">H", message[:2])[0]


class Connection:
    def __init__(self, stream):
        self.stream = stream
        self.input = b""

    def hear(self):
        """Receives once and answers. Returns False at the end."""
        data = self.stream.recv(65536)
        self.input += data
        try:
            while (message := decode(self.input)) is not None:
                header, content, taken = message
                self.input = self.input[taken:]
                self.stream.sendall(answer(header, content))
            if not data and self.input:
                raise Wrong("end of stream inside a message")
        except Wrong as error:
            self.stream.sendall(encode_json({"error": str(error)}))
            return False
        return bool(data)


def serve(port):
    """Serves many clients. Its own faults are plain: it waits in sendall()."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    print(f"Listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                stream, _ = listener.accept()
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(stream, selectors.EVENT_READ,
                                  Connection(stream))
                continue
            try:
                alive = key.data.hear()
            except OSError:
                alive = False
            if not alive:
                selector.unregister(key.fileobj)
                key.fileobj.close()


def receive(stream, most_content=MOST_CONTENT):
    """The next message of a stream, as (header, content)."""
    data = b""
    while (message := decode(data, most_content)) is None:
        more = stream.recv(65536)
        if not more:
            raise Wrong(f"truncated after {len(data)} bytes")
        data += more
    header, content, taken = message
    if taken != len(data):
        raise Wrong("more than was asked for")
    return header, content


def ask(host, port):
    with socket.create_connection((host, port), timeout=10) as stream:
        stream.sendall(encode_json({"action": "search", "value": "ring"}))
        print(receive(stream)[1].decode())
        for order in ("little", "big"):
            content = b"".join(n.to_bytes(4, order) for n in (1, 2, 2**32 - 1))
            stream.sendall(encode("binary/uint32-array", "binary", content,
                                  order))
            header, content = receive(stream)
            print(int.from_bytes(content, header["byteorder"]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    elif sys.argv[1:2] == ["ask"] and len(sys.argv) == 4:
        ask(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(__doc__)
