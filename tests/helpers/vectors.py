#!/usr/bin/env python3
"""The test vectors in docs/protocol.md, put to whoever claims to speak it.

    vectors.py count                how many there are
    vectors.py model                to protocol.py
    vectors.py tool MESSAGE-TOOL    to "message-tool decode"
    vectors.py server HOST PORT     to a server, cut at several places

Says how many it has tried; complains of each that fails, and then fails.
"""

import json
import pathlib
import re
import socket
import subprocess
import sys

import protocol

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs/protocol.md"
NAME = re.compile(r"([a-z0-9-]+): .+")
BYTES = re.compile(r"((?:[0-9a-f]{2} ?){1,16}) *\|.{1,16}\|")
RESPONSE = re.compile(r"-> (\S+):(?: (.*))?")


class Vector:
    def __init__(self, name):
        self.name = name
        self.bytes = b""
        self.responses = []  # (type, content as the document shows it)

    def error(self):
        """The text of its error, or None."""
        kind, text = self.responses[-1]
        return text if kind == "error" else None


def read_vectors():
    section = DOCUMENT.read_text().split("\n## 7. ")[1].split("\n## ")[0]
    vectors = []
    for block in re.findall(r"^```text\n(.*?)^```$", section, re.M | re.S):
        for line in block.splitlines():
            if match := NAME.fullmatch(line):
                vectors.append(Vector(match[1]))
            elif match := BYTES.fullmatch(line):
                vectors[-1].bytes += bytes.fromhex(match[1])
            elif match := RESPONSE.fullmatch(line):
                vectors[-1].responses.append((match[1], match[2] or ""))
            elif line:
                sys.exit(f"{DOCUMENT.name}: what is this? {line}")
    names = {vector.name for vector in vectors}
    if len(names) < len(vectors) or \
            not all(vector.responses for vector in vectors):
        sys.exit(f"{DOCUMENT.name}: a name twice, or a vector cut short")
    return vectors


def pattern_of(text):
    """A text of the document, in which N after "byte" is any number."""
    return re.escape(text).replace(r"at\ byte\ N", r"at\ byte\ [0-9]+")


def is_meant(response, header, content):
    """Is this the response that the document shows?"""
    kind, text = response
    if kind in ("error", "text/json"):
        if (header["content-type"], header["content-encoding"]) != \
                ("text/json", "utf-8"):
            return False
        value = json.loads(content)
        if kind == "text/json":
            return value == json.loads(text)
        return list(value) == ["error"] and \
            re.fullmatch(pattern_of(text), value["error"]) is not None
    if (header["content-type"], header["content-encoding"]) != \
            (kind, "binary"):
        return False
    if kind == "binary/uint64":
        return len(content) == 8 and \
            int.from_bytes(content, header["byteorder"]) == int(text)
    return content == text.encode().decode("unicode_escape").encode("latin-1")


def check_responses(vector, output):
    """Are these bytes what the document says comes back? Or what else?"""
    for response in vector.responses:
        message = protocol.decode(output)
        if message is None:
            return f"instead of {response}: {output!r}"
        header, content, taken = message
        output = output[taken:]
        if not is_meant(response, header, content):
            return f"instead of {response}: {header}, {content!r}"
    return f"too much: {output!r}" if output else None


def try_model(vector):
    output, rest = b"", vector.bytes
    wanted = vector.error()
    try:
        while (message := protocol.decode(rest)) is not None:
            header, content, taken = message
            output += protocol.answer(header, content)
            rest = rest[taken:]
        if rest:
            raise protocol.Wrong("end of stream inside a message")
    except protocol.Wrong as error:
        # Its words are its own: only what they are about is compared.
        if wanted is None or \
                str(error).split(":")[0].split(" inside")[0] != \
                wanted.split(":")[0].split(" inside")[0]:
            return f"it says: {error}"
        vector.responses.pop()
    else:
        if wanted is not None:
            return "it finds no error"
    return check_responses(vector, output)


def try_tool(vector, tool):
    done = subprocess.run([tool, "decode"], input=vector.bytes, timeout=10,
                          capture_output=True, check=False)
    rest, lengths = vector.bytes, []
    error = vector.error()
    if error is not None and error.startswith("content:"):
        error = None  # it shows content, whatever it is
    try:
        while (message := protocol.decode(rest)) is not None:
            header, content, taken = message
            lengths += [(header["content-type"], header["byteorder"],
                         str(len(content)))]
            rest = rest[taken:]
    except protocol.Wrong:
        pass
    shown = re.findall(r"^byteorder +'(.*)'\ncontent-type +'(.*)'\n"
                       r"content-encoding +'.*'\ncontent-length +(\d+)\n",
                       done.stdout.decode(), re.M)
    if [(kind, order, length) for order, kind, length in shown] != lengths:
        return f"it shows: {done.stdout.decode()}{done.stderr.decode()}"
    said = done.stderr.decode()
    wanted = "" if error is None else \
        f"{re.escape(pathlib.Path(tool).name)}: standard input: " \
        f"{pattern_of(error)}\n"
    if not re.fullmatch(wanted, said):
        return f"it says: {said}"
    if done.returncode != (0 if error is None else 1):
        return f"exit status {done.returncode}"
    return None


def try_server(vector, host, port):
    size = len(vector.bytes)
    for cuts in ([], [1], [2], [size // 2], [size - 1], range(1, size, 7)):
        output = b""
        with socket.create_connection((host, port), timeout=10) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            start = 0
            for cut in [*cuts, size]:
                stream.sendall(vector.bytes[start:cut])
                start = cut
            stream.shutdown(socket.SHUT_WR)
            while more := stream.recv(65536):
                output += more
        flaw = check_responses(vector, output)
        if flaw is not None:
            return f"cut at {list(cuts)}: {flaw}"
    return None


def main(arguments):
    vectors = read_vectors()
    bad = sum(vector.error() is not None for vector in vectors)
    summary = f"{len(vectors) - bad} vectors without an error, {bad} with one"
    failed = 0
    match arguments:
        case ["count"]:
            ask = None
        case ["model"]:
            ask = try_model
        case ["tool", tool]:
            def ask(vector):
                return try_tool(vector, tool)
        case ["server", host, port]:
            def ask(vector):
                return try_server(vector, host, int(port))
        case _:
            sys.exit(__doc__)
    for vector in vectors if ask else []:
        flaw = ask(vector)
        if flaw is not None:
            print(f"{vector.name}: {flaw}")
            failed += 1
    print(summary if failed == 0 else f"{failed} have failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
