#!/usr/bin/env python3
"""Peers of stage 3 that are not ours: protocol.py makes their messages.

    app_peer.py connect HOST PORT STEP...   one connection to a server
    app_peer.py listen STEP...              prints its port, then serves one
                                            connection after another
    app_peer.py SCENE HOST PORT [ARGUMENT...]
                                            one of the functions below that
                                            are marked @scene

Steps, done in order:
    search VALUE      sends a search
    result TEXT       a response {"result": TEXT}: a listener sends it, a
    error TEXT        client wants it to come; likewise an error
    message TYPE ENCODING TEXT
                      sends a message
    header JSON TEXT  sends this header, with its length before it, and TEXT
    raw TEXT          sends all of TEXT, with Python's escapes: \\x1b, \\n
    zeros N           sends N zero bytes, as far as they are taken
    request, response receives a message
    receive N         receives N bytes
    readable          waits until something has come, and leaves it there
    end               wants nothing more to come, and the end of the stream
    lost              wants the end of the stream, or a reset
    cut               wants a reset
    half-close, close, reset
    drop              closes; over TLS, without a word (close_notify)
    accept            (listen only) the next connection; the first is implied
    again             begins anew with the next connection
    hold              does nothing until standard input ends
    say TEXT          a line on standard output, for a test to wait for

What would wait for more than 20 seconds ends it with status 1.

If APP_TLS is set, all of this is over TLS: see tls_stream.py.
"""
import json
import os
import random
import re
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time

sys.dont_write_bytecode = True
import protocol  # noqa: E402
from protocol import encode, encode_json  # noqa: E402

TLS = "APP_TLS" in os.environ
if TLS:
    import tls_stream

PATIENCE = int(os.environ.get("limit") or 20)


# --- One connection ----------------------------------------------------------

class Peer:
    """One connection. All peers of the scenes are made by connect(). raw is
    the socket, and stream what bytes of the protocol go through: over TCP, the
    same."""

    def __init__(self, raw, host=None):
        self.raw = raw
        self.stream = tls_stream.Stream(raw, host) if TLS else raw
        self.input = b""
        raw.settimeout(PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def open(self):
        """The handshake, where there is one. Who sends or receives makes it,
        too."""
        if TLS:
            self.stream.handshake()

    def send(self, data):
        self.stream.sendall(data)

    def send_soon(self, data):
        """For a server that does not accept yet, or is stopped: over TLS, only
        hello is said to it, and these bytes are sent when it has answered."""
        if TLS:
            self.stream.send_soon(data)
        else:
            self.send(data)

    def something_came(self, seconds):
        """Within this time, and stays there."""
        if TLS:
            return self.stream.something_came(seconds)
        return bool(select.select([self.stream], [], [], seconds)[0])

    def dribble(self, data, interval):
        """Sends a byte at a time, until something comes or all is sent.
        Returns whether all is."""
        for at in range(len(data)):
            if self.something_came(interval):
                return False
            self.send(data[at:at + 1])
        return True

    def receive(self, most=1 << 30):
        """The next message, as (header, content)."""
        while (message := protocol.decode(self.input, most)) is None:
            more = self.stream.recv(65536)
            if not more:
                raise protocol.Wrong(f"the end came after {self.input!r}")
            self.input += more
        header, content, taken = message
        self.input = self.input[taken:]
        return header, content

    def ask(self, request):
        self.send(request)
        return self.receive()

    def expect_json(self, wanted):
        header, content = self.receive()
        kind = header["content-type"], header["content-encoding"]
        assert kind == ("text/json", "utf-8"), header
        came = json.loads(content)
        assert came == wanted, f"{short(came)} instead of {short(wanted)}"

    def expect_result(self, text):
        self.expect_json({"result": text})

    def expect_answer(self, request):
        """The answer to these bytes, which protocol.py knows, too. A sum may
        come in another byte order."""
        header, content, _ = protocol.decode(request, 1 << 30)
        wanted = protocol.decode(protocol.answer(header, content))[:2]
        came = self.receive()
        assert list(came[0]) == list(wanted[0]), f"keys {list(came[0])}"
        assert readable(came) == readable(wanted), \
            f"{short(readable(came))} instead of {short(readable(wanted))}"

    def expect_error(self, pattern):
        header, content = self.receive()
        kind = header["content-type"], header["content-encoding"]
        assert kind == ("text/json", "utf-8"), header
        came = json.loads(content)
        assert list(came) == ["error"], f"{short(came)}, not {pattern}"
        assert re.fullmatch(pattern, came["error"]), \
            f"{came['error']!r}, not {pattern!r}"

    def expect_end(self):
        assert not self.input, f"more came: {self.input[:80]!r}"
        more = self.stream.recv(65536)
        assert more == b"", f"more came: {more[:80]!r}"

    def expect_lost(self):
        """The end or a reset, after whatever comes before it."""
        try:
            while self.stream.recv(65536):
                pass
        except ConnectionError:
            pass

    def expect_reset(self):
        """After whatever comes before it."""
        try:
            while self.stream.recv(65536):
                pass
        except ConnectionResetError:
            return
        raise AssertionError("the end came, not a reset")

    def fill(self, request, patience=15):
        """Sends this request again and again, and reads nothing, until no
        more is taken. Returns how many were begun."""
        self.open()
        count = blocked = 0
        left = b""
        self.stream.setblocking(False)
        while blocked < patience:
            if not left:
                left = request
                count += 1
            try:
                left = left[self.stream.send(left):]
                blocked = 0
            except BlockingIOError:
                blocked += 1
                time.sleep(0.02)
        self.stream.settimeout(PATIENCE)
        return count

    def half_close(self):
        if TLS:
            self.stream.end()
        else:
            self.stream.shutdown(socket.SHUT_WR)

    def close(self):
        self.stream.close()

    def drop(self):
        """Over TLS: without close_notify, as if somebody had cut the line."""
        self.raw.close()

    def reset(self):
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, 0))
        self.raw.close()


def connect(host, port, receive_buffer=None):
    """The one place where peers of a server are made."""
    stream = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if receive_buffer:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    stream.settimeout(PATIENCE)
    stream.connect((host, int(port)))
    return Peer(stream, host)


def accept(listener):
    """The one place where peers of a client are made."""
    return Peer(listener.accept()[0])


async def open_connection(host, port):
    """For asyncio, which cannot end one half over TLS. Returns four functions:
    await read(), write(data), write_eof() and close()."""
    import asyncio
    reader, writer = await asyncio.open_connection(host, int(port))
    if not TLS:
        return (lambda: reader.read(65536)), writer.write, \
            writer.write_eof, writer.close
    engine = tls_stream.Engine(host)

    async def fetch():
        data = await reader.read(65536)
        if not data:
            raise tls_stream.Lost("the end came without close_notify")
        engine.feed(data)

    async def read():
        while (data := engine.read(65536)) is None:
            await fetch()
        return data

    def write_eof():
        writer.write(engine.end())
        writer.write_eof()

    while not engine.handshake():
        writer.write(engine.output())
        await fetch()
    writer.write(engine.output())
    return read, lambda data: writer.write(engine.write(data)), write_eof, \
        writer.close


def listen(backlog=128):
    listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    listener.settimeout(600)
    return listener


def thread_pool(size):
    import concurrent.futures  # late: not all scenes shall wait for it
    return concurrent.futures.ThreadPoolExecutor(size)


def raise_descriptor_limit():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# --- Messages ----------------------------------------------------------------

def search(value):
    return encode_json({"action": "search", "value": value})


def total(numbers, order="little"):
    return encode("binary/uint32-array", "binary",
                  b"".join(n.to_bytes(4, order) for n in numbers), order)


def binary(content, kind="binary/custom-client-binary-type"):
    return encode(kind, "binary", content)


def frame(header, content=b""):
    if isinstance(header, dict):
        header = json.dumps(header, ensure_ascii=False)
    if isinstance(header, str):
        header = header.encode()
    return struct.pack(">H", len(header)) + header + content


def header_with(length=0, without=None, **changes):
    """A good header, but for the changes."""
    header = {"byteorder": "little", "content-type": "text/json",
              "content-encoding": "utf-8", "content-length": length}
    for key, value in changes.items():
        header[key.replace("_", "-")] = value
    header.pop(without, None)
    return header


def json_content(text):
    text = text if isinstance(text, bytes) else text.encode()
    return frame(header_with(len(text)), text)


def short(value):
    text = repr(value)
    return text if len(text) < 300 else f"{text[:150]} ... {text[-150:]}"


def readable(message):
    """What a message says, whatever the byte order of its sum."""
    header, content = message
    kind = header["content-type"], header["content-encoding"]
    if kind[0] == "text/json":
        try:
            return (*kind, json.loads(content))
        except ValueError as error:
            raise protocol.Wrong(f"{short(content)} is not JSON: {error}") from error
    if kind[0] == "binary/uint64":
        return (*kind, len(content),
                int.from_bytes(content, header["byteorder"]))
    return (*kind, content)


def requests(chance):
    """Requests of every kind, among them the extreme ones."""
    odd = "\"\\/'\n\r\t\x01\x1f\x7f\x9b{}[]"
    values = ["morpheus", "ring", "🐶", "", "x", odd, "ä💍\u2028", "Ring",
              "ring ", "y" * 65536, "🐰" * 10000]
    yield from map(search, values)
    for action in ("", "Search", "search ", odd, "z" * 1000):
        yield encode_json({"action": action, "value": "ring"})
        yield encode_json({"action": action})
    yield encode_json({"value": "ring", "more": [1, {"a": None}],
                       "action": "search"})
    yield json_content(' \n\t{"action":\r"search" ,"value":"\\u0072ing"} \n')
    yield json_content('{"action": "search", "value": "\\ud83d\\udc36"}')
    for order in ("little", "big"):
        for numbers in ([], [0], [1, 2, 3], [2**32 - 1] * 1000, [2**31, 1],
                        [chance.randrange(2**32) for _ in range(999)]):
            yield total(numbers, order)
    for content in (b"", b"a", b"123456789", b"1234567890", b"12345678901",
                    bytes(range(256)), bytes(20), b"\xff" * 100000,
                    chance.randbytes(1 << 20)):
        yield binary(content)
    for kind in ("", "text/JSON", "text/json ", "binary/uint32-array2", "ä"):
        yield encode(kind, "whatever", b"any bytes \0\xff")
    header = {"more": None, "content-length": 37, "content-type": "text/json",
              "x": [[{}]], "content-encoding": "utf-8", "byteorder": "big"}
    content = b'{"action": "search", "value": "ring"}'
    yield frame(header, content)
    header["filler"] = ""
    header["filler"] = "f" * (65535 - len(json.dumps(header)))
    assert len(json.dumps(header)) == 65535
    yield frame(header, content)
    header = dict.fromkeys((f"k{n}" for n in range(5000)), 1)
    yield frame({**header, **header_with(37)}, content)
    yield frame(b" \r\n\t" + json.dumps(header_with(37)).encode() + b"\n ",
                content)


def expensive():
    """Legal, 128 KiB, and as much work as its receiver can be given."""
    start, end = '{"action": "search", "value": "ring", "x": [', "0]}"
    room = (128 << 10) - len(start) - len(end)
    return json_content(start + "[]," * (room // 3) + end)


# --- What breaks a rule ------------------------------------------------------

def json_flaws(make, part):
    """What can be wrong with JSON; make() makes a message of the text."""
    at = r" at byte \d+"
    deep = "[" * 2048 + "]" * 2048
    for text in ("", " ", "x", "null", "3", '"text"', "{", '{"a": 1} x',
                 "{} {}", "{}\0", '{"a": true\0}', "{'a': 1}", '{"a": 1,}',
                 '{"a" 1}',
                 '{"a": 00012}', '{"a": +5}', '{"a": NaN}', '{"a": .5}',
                 '{"a": "\n"}', '{"a": "\0"}', '{"a": "\\ud800"}',
                 '{"a": "\\udc36\\ud83d"}', '{"a": "\\x"}', "\ufeff{}",
                 "{} // no"):
        yield make(text), f"{part}: not JSON{at}"
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
                b"\xe2\x82", b"\x80"):
        yield make(b'{"a": "' + bad + b'"}'), f"{part}: not UTF-8{at}"
    yield make('{"a": 1, "a": 1}'), f"{part}: a key occurs twice{at}"
    yield make('{"a": {"b": 1, "b": 2}}'), f"{part}: a key occurs twice{at}"
    yield make('{"a": 1, "\\u0061": 1}'), f"{part}: a key occurs twice{at}"
    for number in ("9223372036854775808", "-9223372036854775809", "1e400",
                   "-1e400", "9" * 400):
        yield make(f'{{"a": {number}}}'), f"{part}: a number is too large{at}"
    for text in ('{"a": "\\u0000"}', '{"\\u0000": 1}', '{"a": "x\\u0000y"}'):
        yield make(text), rf"{part}: \\u0000 is not allowed{at}"
    yield make(f'{{"a": {deep}}}'), f"{part}: nested too deeply{at}"
    yield make("[" * 60000), f"{part}: nested too deeply{at}"
    for text in ("[]", '[{"action": "search", "value": "ring"}]'):
        yield make(text), f"{part}: not an object"


def flaws(most):
    """Yields (bytes, pattern of the error's text) for each rule; most is the
    server's -m."""
    yield from json_flaws(frame, "header")
    keys = ["byteorder", "content-type", "content-encoding", "content-length"]
    for key in keys:
        yield frame(header_with(without=key)), f"header: {key} is missing"
    for key in keys[:3]:
        for value in (3, None, ["little"], {"a": "utf-8"}, True):
            yield (frame({**header_with(), key: value}),
                   f"header: {key} is not a string")
    for value in ("", "Little", "middle", "big ", "little\x1b[2J"):
        shown = re.escape(value.replace("\x1b", "\\x1b"))
        yield (frame(header_with(byteorder=value)),
               f"header: byteorder is '{shown}', not 'little' or 'big'")
    yield (frame(header_with(byteorder="b" * 100)), "header: byteorder is '"
           + "b" * 40 + r"'… \(100 bytes\), not 'little' or 'big'")
    for value in ("3", 1.5, 37.0, True, None, [0]):
        yield (frame(header_with(value)),
               "header: content-length is not an integer")
    for text in ("1e3", "-0.0"):
        yield (frame(json.dumps(header_with(4711)).replace("4711", text)),
               "header: content-length is not an integer")
    for value in (-1, -2**63, 131073, 2**32 + 10, 2**53 + 1, 2**63 - 1):
        yield (frame(header_with(value)), "header: content-length is "
               f"{value}, not from 0 to 131072")
    for value in (-1, most + 1, 2**32 + 10, 2**63 - 1):
        yield (frame(header_with(value, content_type="binary/uint32-array")),
               f"header: content-length is {value}, not from 0 to {most}")
    for value in ("", "UTF-8", "utf8", "utf-16", "latin-1", "binary"):
        yield (frame(header_with(content_encoding=value)),
               f"header: content-encoding of text/json is '{value}', "
               "not 'utf-8'")
    # Of several flaws, the first in the order of the fields is told.
    bad = {"content-length": -1, "content-encoding": "x", "byteorder": "?"}
    yield frame({**bad, "content-type": 1}), r"header: byteorder is '\?', .*"
    bad["byteorder"] = "big"
    yield frame({**bad, "content-type": 1}), "header: content-type .*"
    bad["content-type"] = "text/json"
    yield frame(bad), "header: content-encoding .*"
    bad["content-encoding"] = "utf-8"
    yield frame(bad), "header: content-length .*"

    yield from json_flaws(json_content, "content")
    for text in ("{}", '{"action": null}', '{"action": ["search"]}',
                 '{"Action": "search", "value": "ring"}'):
        yield json_content(text), "content: action is missing, or not a string"
    for text in ('{"action": "search"}', '{"action": "search", "value": 3}',
                 '{"action": "search", "value": null}'):
        yield json_content(text), "content: value is missing, or not a string"
    for length in (1, 2, 3, 5, 7, 2001):
        yield (encode("binary/uint32-array", "binary", bytes(length)),
               "content: its length is no multiple of 4")
    yield (json_content('{"action":"%s"}' % ("x" * ((128 << 10) - 13))),
           "content: its result is longer than 131072 bytes")


# --- What a server does, where it does not do all -----------------------------

def answered(host, port, request):
    """What comes within a second, if it is not an error."""
    with connect(host, port) as peer:
        try:
            peer.send(request)
            came = peer.something_came(1) and peer.stream.recv(65536)
        except OSError:
            return b""
    return b"" if not came or b'"error"' in came else came


def evidence(host, port):
    """For the grader: small requests whose answers tell one mistake from
    another."""
    swapped = search("ring")
    swapped = swapped[1::-1] + swapped[2:]
    long = dict(filler="", **header_with(3, content_type="x"))
    headers = {}
    for length in (32767, 32768):
        long["filler"] = ""
        long["filler"] = "f" * (length - len(json.dumps(long)))
        headers[f"a header of {length} bytes"] = frame(long, b"abc")
    cases = {"a search": search("ring"),
             "the same, with the two bytes of the length swapped": swapped,
             "content of 1 byte": binary(b"x"), "content of 0 bytes": binary(b""),
             **headers}
    with thread_pool(len(cases)) as pool:
        came = pool.map(lambda request: answered(host, port, request), cases.values())
    good = [what for what, answers_ in zip(cases, came) if answers_]
    print("evidence: answered:", ", ".join(good) or "nothing")
    print("evidence: not answered:",
          ", ".join(what for what in cases if what not in good) or "nothing")
    print("evidence: of b'ab\\0cd', the first bytes are said to be:",
          answered(host, port, binary(b"ab\0cd")).rpartition(b": ")[2])
    together(host, port)


def together(host, port):
    """Of two requests that are sent at once, which are answered; and what is
    answered when a third one follows?"""
    words = []
    with connect(host, port) as peer:
        try:
            peer.send(search("first") + search("second"))
            while peer.something_came(0.7):
                words.append(readable(peer.receive())[2])
            peer.send(search("third"))
            while peer.something_came(0.7):
                words.append(readable(peer.receive())[2])
        except (OSError, protocol.Wrong):
            words.append("lost")
    words = re.findall("first|second|third|error|lost", str(words))
    print("evidence: first and second sent at once, third later; the answers:",
          ", ".join(words))


def with_evidence(call):
    """Calls it; if that fails, the evidence is collected for it."""
    def scene_with_evidence(host, port, *arguments):
        try:
            call(host, port, *arguments)
        except (OSError, AssertionError, protocol.Wrong):
            if "EVIDENCE" in os.environ:
                try:
                    evidence(host, port)
                except OSError:
                    pass
            raise
    scene_with_evidence.__name__ = call.__name__
    return scene_with_evidence


# --- Scenes: servers ---------------------------------------------------------

SCENES = {}


def scene(function):
    SCENES[function.__name__.replace("_", "-")] = function
    return function


@scene
def serves(host, port):
    """A new client has its answers, and then the end."""
    with connect(host, port) as peer:
        for request in (search("ring"), total([1, 2]), binary(b"hello")):
            peer.send(request)
            peer.expect_answer(request)
        peer.half_close()
        peer.expect_end()


@scene
@with_evidence
def answers(host, port):
    """All kinds of requests on one connection, one after another, and each
    once more alone, half-closed at once."""
    with connect(host, port) as peer:
        for request in requests(random.Random(1)):
            peer.send(request)
            peer.expect_answer(request)
        peer.half_close()
        peer.expect_end()
    for request in requests(random.Random(2)):
        with connect(host, port) as peer:
            peer.send(request)
            peer.half_close()
            peer.expect_answer(request)
            peer.expect_end()


@scene
def errors(host, port, most="1048576"):
    """Each flaw has its error, and then the end comes; requests behind it are
    not answered, those before it are, and other clients notice nothing."""
    with connect(host, port) as standing:
        count = 0
        for number, (data, pattern) in enumerate(flaws(int(most))):
            with connect(host, port) as peer:
                before = search(f"before {number}") * (number % 3)
                # What follows must not complete it.
                after = search("after") * 2
                peer.send(before + data + after)
                for _ in range(number % 3):
                    peer.expect_result(f"No match for 'before {number}'.")
                try:
                    peer.expect_error(pattern)
                    peer.expect_end()
                except (AssertionError, protocol.Wrong) as error:
                    raise AssertionError(f"{short(data)}: {error}") from error
            standing.send(search(str(number)))
            standing.expect_result(f"No match for '{number}'.")
            count += 1
        print(f"{count} errors")


@scene
def truncated(host, port):
    """The end at every byte of a message: what is before it is answered, and
    the error names the place."""
    request = search("ring")
    length = struct.unpack(">H", request[:2])[0]
    count = 0
    for cut in range(len(request)):
        place = "length" if cut < 2 else \
            "header" if cut < 2 + length else "content"
        with connect(host, port) as peer:
            peer.send(search("whole") + request[:cut])
            peer.half_close()
            peer.expect_result("No match for 'whole'.")
            if cut > 0:
                peer.expect_error(f"end of stream inside the {place}")
                count += 1
            peer.expect_end()
        if TLS:  # the same end, and nobody can say who made it
            with connect(host, port) as peer:
                peer.send(search("whole") + request[:cut])
                peer.expect_result("No match for 'whole'.")
                peer.drop()
                count += cut > 0
    print(f"{count} errors")


@scene
def cuts(host, port):
    """Three requests, cut in two at every byte; the server has taken the first
    part, and answered what is complete in it, when the second one comes: so
    says its answer to somebody who has asked later."""
    parts = [search("ring"), total([1, 2**32 - 1], "big"), binary(b"bytes")]
    data = b"".join(parts)
    ends = [len(parts[0]), len(parts[0] + parts[1]), len(data)]
    standing = connect(host, port)
    for cut in range(1, len(data)):
        with connect(host, port) as peer:
            peer.send(data[:cut])
            whole = sum(end <= cut for end in ends)
            for request in parts[:whole]:
                peer.expect_answer(request)
            standing.ask(parts[0])
            peer.send(data[cut:])
            for request in parts[whole:]:
                peer.expect_answer(request)
    with connect(host, port) as peer:
        for at in range(len(data)):
            peer.send(data[at:at + 1])
        for request in parts:
            peer.expect_answer(request)
    if TLS:
        record_cuts(host, port, parts, standing)
    standing.close()


def record_cuts(host, port, parts, standing):
    """Records with a request each, cut in two at every byte; and a whole
    conversation, handshake and end included, byte by byte."""
    with connect(host, port) as peer:
        peer.open()
        cut = 0
        data = b" "
        while cut < len(data):
            data = b"".join(map(peer.stream.engine.write, parts))
            peer.raw.sendall(data[:cut])
            standing.ask(parts[0])
            peer.raw.sendall(data[cut:])
            for request in parts:
                peer.expect_answer(request)
            cut += 1
    with connect(host, port) as peer:
        peer.stream.step = 1
        for request in parts:
            peer.send(request)
            peer.expect_answer(request)
        peer.half_close()
        peer.expect_end()


@scene
@with_evidence
def pipelined(host, port, count="1000"):
    """So many requests in one send, half-closed at once; and two and a half."""
    made = list(requests(random.Random(3)))[:9]
    with connect(host, port) as peer:
        def talk():
            try:
                peer.send(b"".join(made[n % 9] for n in range(int(count))))
                peer.half_close()
            except OSError:
                pass  # what does not come tells more
        speaker = threading.Thread(target=talk, daemon=True)
        speaker.start()
        for n in range(int(count)):
            peer.expect_answer(made[n % 9])
        peer.expect_end()
        speaker.join()
    with connect(host, port) as peer:
        peer.send(made[0] + made[1] + made[2][:60])
        peer.half_close()
        peer.expect_answer(made[0])
        peer.expect_answer(made[1])
        peer.expect_error("end of stream inside the header")
        peer.expect_end()
    with connect(host, port) as peer:
        peer.send(made[0] + made[1] + made[2][:60])
        peer.expect_answer(made[0])
        peer.expect_answer(made[1])
        peer.send(made[2][60:])
        peer.expect_answer(made[2])


def resident(process, key="VmRSS"):
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        return int(re.search(rf"{key}:\s+(\d+)", file.read())[1])


@scene
def many(host, port, process, count, most_kb):
    """So many requests on one connection, answered in order, in flat memory."""
    with connect(host, port) as peer:
        def talk(first, last):
            for n in range(first, last, 100):
                peer.send(b"".join(search(str(n + i)) for i in range(100)))
                for i in range(100):
                    peer.expect_result(f"No match for '{n + i}'.")
        talk(0, 1000)
        before = resident(process)
        talk(1000, int(count))
        grown = resident(process) - before
        assert grown <= int(most_kb), f"grew by {grown} kB"


@scene
def announced(host, port, process, most, most_kb):
    """A content-length over the limit is refused before a byte of the content
    comes; one within it takes no memory before its bytes come."""
    serves(host, port)
    before = resident(process, "VmHWM")
    data = resident(process, "VmData")
    for _ in range(20):
        with connect(host, port) as peer:
            peer.send(frame(header_with(int(most) + 1, content_type="x")))
            assert peer.something_came(PATIENCE), \
                f"a content-length of {int(most) + 1} is not refused"
            peer.expect_error("header: content-length is .*")
            peer.expect_end()
    held = []
    for _ in range(20):
        peer = connect(host, port)
        peer.send(frame(header_with(int(most), content_type="x")) + b"some")
        held.append(peer)
    serves(host, port)
    for peer in held:
        assert not peer.something_came(0), "refused"
    for key, was in (("VmHWM", before), ("VmData", data)):
        grown = resident(process, key) - was
        assert grown <= int(most_kb), f"{key} grew by {grown} kB"
    for peer in held:
        peer.reset()


@scene
def sized(host, port, most):
    """Content of exactly the limit is answered, and one byte more refused."""
    with connect(host, port) as peer:
        request = binary(bytes(int(most)))
        peer.send(request)
        peer.expect_answer(request)
        if int(most) >= 4:
            peer.send(total([7] * (int(most) // 4)))
            peer.expect_answer(total([7] * (int(most) // 4)))
        text = '{"action": "search", "value": "ring"}'
        request = json_content(text + " " * ((128 << 10) - len(text)))
        peer.send(request)  # JSON has a limit of its own
        peer.expect_answer(request)
        peer.send(frame(header_with(int(most) + 1, content_type="x")))
        peer.expect_error(f"header: content-length is {int(most) + 1}, not "
                          f"from 0 to {most}")
        peer.expect_end()


@scene
def deep(host, port):
    """2,048 levels are legal, 2,049 are not (the object counts)."""
    for levels in (10, 64, 2047, 2048):
        nested = "[" * levels + "]" * levels
        text = f'{{"action": "search", "value": "ring", "a": {nested}}}'
        with connect(host, port) as peer:
            peer.send(json_content(text))
            if levels < 2048:
                peer.expect_answer(search("ring"))
            else:
                peer.expect_error(r"content: nested too deeply at byte \d+")
                peer.expect_end()


@scene
def costly(host, port, process, most_kb):
    """The most expensive legal messages: each in less than 5 s, in bounded
    memory."""
    header = "{%s" % "".join(f'"{n}":[],' for n in range(6000))
    header += json.dumps(header_with(37))[1:]
    request = frame(header, b'{"action": "search", "value": "ring"}')
    with connect(host, port) as peer:
        for data in [request, expensive()] * 3:
            began = time.monotonic()
            peer.send(data)
            peer.expect_result("In the caves beneath the Misty Mountains. 💍")
            took = time.monotonic() - began
            assert took < 5, f"took {took} s"
    peak = resident(process, "VmHWM")
    assert peak < int(most_kb), f"used {peak} kB"


@scene
def fair(host, port, count="4"):
    """Clients that send the most expensive legal messages without end do not
    keep others from their answers."""
    raise_descriptor_limit()
    request = expensive() * 10
    done = threading.Event()
    came = [0] * int(count)

    def greedy(number):
        with connect(host, port) as peer:
            def talk():
                try:
                    while not done.is_set():
                        peer.send(request)
                except OSError:
                    pass
            speaker = threading.Thread(target=talk, daemon=True)
            speaker.start()
            while not done.is_set():
                came[number] += len(peer.stream.recv(65536))
            peer.raw.shutdown(socket.SHUT_RDWR)
            speaker.join()

    threads = [threading.Thread(target=greedy, args=(n,), daemon=True)
               for n in range(int(count))]
    for thread in threads:
        thread.start()
    while not all(came):
        time.sleep(0.01)
    with connect(host, port) as polite:
        for n in range(10):
            began = time.monotonic()
            polite.send(search(str(n)))
            polite.expect_result(f"No match for '{n}'.")
            took = time.monotonic() - began
            assert took < 5, f"an answer took {took} s"
    done.set()
    for thread in threads:
        thread.join(10)
    assert all(came), came


def costly_ways():
    """What a costly client can do, each as (request, does it break a rule?,
    does it connect anew for each?)."""
    good = expensive()
    header = json.dumps({"x": [0] * 20000, **header_with(0)},
                        separators=(",", ":"))
    return {"pipelines": (good, False, False),
            "reconnects": (good, False, True),
            "refused-content": (good[:-1] + b"]", True, True),
            "refused-header": (frame(header[:-1] + "]"), True, True)}


@scene
def pays(host, port, way, least="1000"):
    """One costly client beside eight who ask without a pause and do not wait
    for their answers. For each answer of the one, the others must have so many
    at least. Were all alike, it would be about ten times their number, since
    such a request is received in nine turns."""
    request, refused, anew = costly_ways()[way]
    question = search("ring")
    size = len(protocol.answer(*protocol.decode(question)[:2]))
    polite = [connect(host, port) for _ in range(8)]
    left = {peer: b"" for peer in polite}
    came = 0   # bytes of answers
    at = []    # how many there were at each answer of the costly one

    def receive_costly(peer):
        if refused:
            peer.expect_error("(header|content): not JSON at byte .*")
        else:
            peer.expect_result(json.loads(protocol.decode(
                protocol.answer(*protocol.decode(request)[:2]))[1])["result"])
        at.append(came)

    def pipeline():
        with connect(host, port) as peer:
            speaker = threading.Thread(target=peer.send, args=(request * 6,))
            speaker.start()
            for _ in range(5):
                receive_costly(peer)
            peer.receive()
            speaker.join()

    def reconnect():
        for _ in range(5):
            with connect(host, port) as peer:
                peer.send(request)
                receive_costly(peer)

    for peer in polite:
        peer.stream.setblocking(False)
    with thread_pool(1) as pool:
        costly = pool.submit(reconnect if anew else pipeline)
        while not costly.done():
            streams = [peer.stream for peer in polite]
            ready = select.select(streams, streams, [], PATIENCE)
            for peer in polite:
                if peer.stream in ready[0]:
                    came += len(peer.stream.recv(1 << 18))
                if peer.stream in ready[1]:
                    left[peer] = left[peer] or question * 500
                    left[peer] = left[peer][peer.stream.send(left[peer]):]
        costly.result()
    each = (at[-1] - at[0]) // size // (len(at) - 1)
    assert each >= int(least), f"{each} answers of others for a costly one"
    print(f"{each} answers of others for a costly one")


@scene
def rests_long(host, port):
    """Each turn of this server takes long: a rest ends after 2 s all the same,
    and then the answer comes, whatever -t is."""
    with connect(host, port) as peer:
        for _ in range(2):
            began = time.monotonic()
            peer.send(expensive())
            peer.expect_answer(expensive())
            took = time.monotonic() - began
            assert took > 1.9, f"answered after {took} s"


@scene
def stop_in_rest(host, port, process):
    """SIGTERM while a costly request rests: the end comes and no answer."""
    with connect(host, port) as peer, connect(host, port) as other:
        peer.send(expensive())
        for _ in range(50):  # turns, and it has been received after nine
            other.ask(search("ring"))
        os.kill(int(process), signal.SIGTERM)
        peer.expect_end()


@scene
def deadlines(host, port, seconds):
    """One client for each phase, all at the same time: each is ended at its
    deadline, not before it, and no byte puts it off."""
    limit = float(seconds)
    why = f"request not complete after {seconds} s"
    large = search("x" * 100000)

    def not_before(began):
        took = time.monotonic() - began
        assert took > limit - 0.01, f"ended after {took} s"

    def slow(data):
        """Byte by byte: whole, it would take 10 deadlines and more."""
        with connect(host, port) as peer:
            began = time.monotonic()
            assert not peer.dribble(data[:100], limit / 10), \
                "who sends a byte now and then is not ended, who sends none is"
            peer.expect_error(why)
            not_before(began)
            peer.expect_end()

    def half(data, before=b""):
        """A part of a message, and then nothing more."""
        with connect(host, port) as peer:
            began = time.monotonic()
            peer.send(before + data)
            if before:
                peer.expect_answer(before)
            peer.expect_error(why)
            not_before(began)
            peer.expect_end()

    def idle(requests_before):
        began = time.monotonic()  # before the server's clock can start
        with connect(host, port) as peer:
            for n in range(requests_before):
                began = time.monotonic()
                peer.send(search(str(n)))
                peer.receive()
            peer.expect_end()
            not_before(began)

    def never_reads():
        with connect(host, port, receive_buffer=4096) as peer:
            began = time.monotonic()
            try:
                peer.fill(large)
            except ConnectionError:
                not_before(began)  # a busy machine
                return
            watch = select.poll()
            watch.register(peer.raw, 0)  # errors and hang-ups only
            assert watch.poll(PATIENCE * 1000), "nothing happened"
            not_before(began)
            peer.expect_reset()

    def dribbles_responses():
        with connect(host, port, receive_buffer=4096) as peer:
            began = time.monotonic()
            try:
                peer.fill(large, patience=3)
                while peer.stream.recv(2000):
                    took = time.monotonic() - began
                    assert took < limit * 12 + 2, "not ended"  # 2 s: a rest
                    time.sleep(limit / 10)
            except ConnectionError:
                not_before(began)
                return
            raise AssertionError("the end came, not a reset")

    def steady():
        """Each request takes its time, and less than it may."""
        with connect(host, port) as peer:
            for n in range(5):
                request = search(str(n))
                for at in range(0, len(request), 40):
                    peer.send(request[at:at + 40])
                    time.sleep(limit / 10)
                peer.expect_result(f"No match for '{n}'.")

    whole = binary(bytes(100))
    with thread_pool(20) as pool:
        for future in [
                pool.submit(half, b"\0"), pool.submit(half, whole[:30]),
                pool.submit(half, whole[:-1]),
                pool.submit(half, whole[:-1], whole),
                pool.submit(idle, 0), pool.submit(idle, 3),
                pool.submit(never_reads),
                pool.submit(slow, whole), pool.submit(slow, b"\xff\xff" * 50),
                pool.submit(slow, frame(header_with(9999, content_type="x"),
                                        bytes(50))),
                pool.submit(dribbles_responses),
                pool.submit(steady)]:
            future.result()


@scene
def slow_content(host, port, seconds):
    """The header comes at once, then the content byte by byte."""
    limit = float(seconds)
    with connect(host, port) as peer:
        began = time.monotonic()
        peer.send(frame(header_with(9999, content_type="x")))
        assert not peer.dribble(bytes(100), limit / 10), "nothing came"
        peer.expect_error(f"request not complete after {seconds} s")
        assert time.monotonic() - began > limit - 0.01, "ended early"
        peer.expect_end()


@scene
def late_error(host, port):
    """Who has broken a rule, and is still sending 10 MB, has the reply."""
    data = bytes(10_000_000)
    for start, why in (
            (frame(header_with(10**7, content_type="x")),
             "header: content-length is 10000000, .*"),
            (b"\0\2[]", "header: not an object"),
            (encode("binary/uint32-array", "binary", b"1"),
             "content: its length is no multiple of 4")):
        with connect(host, port) as peer:
            peer.send(start)
            peer.expect_error(why)  # who waits for it has it, in any case
        try:
            with connect(host, port) as peer:
                peer.send(start)
                try:
                    peer.send(data)
                except ConnectionError:
                    pass  # it need not take it all
                peer.expect_error(why)
            with connect(host, port) as peer:  # exactly as much as is drained
                peer.send(start + bytes(900_000))
                peer.expect_error(why)
                peer.expect_end()
                peer.send(b"more")
        except ConnectionResetError as error:
            raise AssertionError("the reply was lost by a reset, since more was "
                                 "sent") from error


@scene
def drained(host, port):
    """After an error, no more than 1 MiB is taken."""
    with connect(host, port) as peer:
        peer.send(b"\0\2[]")
        peer.expect_error("header: not an object")
        sent = 0
        try:
            while sent < 50_000_000:
                sent += peer.stream.send(bytes(65536))
        except ConnectionError:
            pass
        assert 1 << 20 <= sent < 20_000_000, f"{sent} bytes were taken"


# --- Scenes: crowds ----------------------------------------------------------

@scene
def polite(host, port, count="100", seed="1"):
    """So many clients at a time, each with ten requests, in pieces, with
    pauses, some pipelined: none sees an error."""
    import asyncio  # late: not all scenes shall wait for it
    raise_descriptor_limit()

    async def one(number, at_once):
        chance = random.Random(f"{seed} {number}")
        made = [chance.choice([
            search(f"{number} {n}"), search(chance.choice(["ring", "🐶"])),
            total([chance.randrange(2**32) for _ in range(9)],
                  chance.choice(["little", "big"])),
            binary(chance.randbytes(chance.choice([0, 5, 3000])))])
            for n in range(10)]
        async with at_once:
            read, write, write_eof, close = await open_connection(host, port)

        async def talk():
            data = b"".join(made)
            while data:
                size = chance.choice([1, 60, 150, 2000])
                write(data[:size])
                data = data[size:]
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.random() / 200)
            write_eof()

        async def hear():
            data = b""
            for request in made:
                header, content, _ = protocol.decode(request)
                wanted = protocol.decode(protocol.answer(header, content))
                while (message := protocol.decode(data)) is None:
                    more = await read()
                    assert more, f"the end came after {data!r}"
                    data += more
                assert readable(message[:2]) == readable(wanted[:2]), message
                data = data[message[2]:]
            assert data == b"" and await read() == b"", "more came"

        await asyncio.gather(talk(), hear())
        close()

    async def crowd():
        at_once = asyncio.Semaphore(256)
        await asyncio.gather(*(one(n, at_once) for n in range(int(count))))

    asyncio.run(asyncio.wait_for(crowd(), 50))


def rude_ways():
    """Each takes a fresh connection and behaves badly on it."""
    request = search("x" * 1000)

    def goes_at_once(peer):
        peer.close()

    def resets_at_once(peer):
        peer.reset()

    def resets_in_mid_request(peer):
        peer.send(request[:500])
        peer.reset()

    def resets_with_answers_unread(peer):
        peer.send(request * 20)
        peer.stream.recv(1000)
        peer.reset()

    def closes_with_answers_unread(peer):
        peer.send(request * 20)
        peer.close()

    def half_closes_and_goes(peer):
        peer.send(request * 20)
        peer.half_close()
        peer.close()

    def sends_garbage(peer):
        try:
            peer.send(random.Random(1).randbytes(200000))
        except ConnectionError:
            return
        peer.expect_lost()

    def speaks_http(peer):
        peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def sends_zeros(peer):
        try:
            peer.send(bytes(3_000_000))
        except ConnectionError:
            pass

    def breaks_a_rule_and_resets(peer):
        peer.send(b"\0\2[]")
        peer.stream.recv(10)
        peer.reset()

    def promises_and_goes(peer):
        peer.send(frame(header_with(1000000, content_type="x")))
        peer.half_close()

    ways = [way for name, way in list(locals().items()) if name != "request"]
    return ways + (rude_ways_over_tls(request) if TLS else [])


def rude_ways_over_tls(request):
    def says_hello_and_goes(peer):
        peer.stream.hello()
        peer.drop()

    def says_half_of_hello(peer):
        peer.stream.engine.handshake()
        peer.raw.sendall(peer.stream.engine.output()[:100])
        peer.drop()

    def says_hello_and_resets(peer):
        peer.stream.hello()
        peer.reset()

    def speaks_without_tls(peer):
        peer.raw.sendall(request)
        peer.raw.recv(100)

    def turns_to_garbage(peer):
        peer.send(request)
        peer.raw.sendall(random.Random(1).randbytes(20000))
        peer.expect_lost()

    def flips_a_bit(peer):
        peer.send(request)
        data = bytearray(peer.stream.engine.write(request))
        data[100] ^= 1
        peer.raw.sendall(data)
        peer.expect_lost()

    def ends_inside_a_record(peer):
        peer.open()
        peer.raw.sendall(peer.stream.engine.write(request)[:500])
        peer.drop()

    def ends_without_close_notify(peer):
        peer.ask(request)
        peer.drop()

    return [way for name, way in list(locals().items()) if name != "request"]


@scene
def rude(host, port, count):
    """So many rude clients, one after another, while others are polite; and a
    client that was there before them is answered all the time."""
    ways = rude_ways()
    with connect(host, port) as standing:
        for n in range(int(count)):
            with connect(host, port) as peer:
                try:
                    ways[n % len(ways)](peer)
                except ConnectionError:
                    pass
            standing.send(search(str(n)))
            standing.expect_result(f"No match for '{n}'.")


@scene
def reset_everywhere(host, port):
    """A reset after every byte of a request, and of its answer."""
    request = search("ring")
    answer = len(protocol.answer(*protocol.decode(request)[:2]))
    with connect(host, port) as standing:
        for cut in range(len(request) + 1):
            with connect(host, port) as peer:
                peer.send(request[:cut])
                peer.reset()
        for cut in range(1, answer, 7):
            with connect(host, port) as peer:
                peer.send(request)
                peer.stream.recv(cut)
                peer.reset()
        standing.send(request)
        standing.expect_answer(request)


def hold_until_told():
    signal.sigwait({signal.SIGTERM})


def hold_back_sigterm():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


@scene
def hold(host, port, count, phase):
    """Brings so many clients into a phase, says how many are in it and how
    many were refused, and holds them there until SIGTERM; then, but for those
    that are closing, each has its answers."""
    hold_back_sigterm()
    raise_descriptor_limit()
    request = search("ring")
    large = search("x" * 100000)
    peers = []
    refused = 0

    def bring(peer):
        """Each has an answer first, so that it is known to be accepted; the
        next byte brings it into its phase."""
        peer.expect_result("No match for 'in'.")
        if phase == "request":
            peer.send(request[:60])
        elif phase == "response":
            peer.filled = peer.fill(large)
        elif phase == "closing":
            peer.send(b"\0\2[]")
            peer.expect_error("header: not an object")
            peer.expect_end()

    for first in range(0, int(count), 100):
        group = []
        for _ in range(first, min(first + 100, int(count))):
            buffer = 4096 if phase == "response" else None
            group.append(connect(host, port, receive_buffer=buffer))
            group[-1].send_soon(search("in"))
        for peer in group:
            try:
                bring(peer)
                peers.append(peer)
            except (ConnectionError, protocol.Wrong):
                refused += 1
                peer.close()
    print(f"{len(peers)} held, {refused} refused", flush=True)
    hold_until_told()
    for peer in peers:
        if phase == "idle":
            peer.send(request)
            peer.expect_answer(request)
        elif phase == "request":
            peer.send(request[60:])
            peer.expect_answer(request)
        elif phase == "response":
            # The last one has not been sent to its end.
            for _ in range(peer.filled - 1):
                peer.expect_answer(large)
        peer.close()


@scene
def slow(host, port, count):
    """So many clients that send their request a few bytes at a time; all are
    answered in the end."""
    hold_back_sigterm()
    raise_descriptor_limit()
    request = search("slow")
    peers = [connect(host, port) for _ in range(int(count))]
    step = 10
    for at in range(0, len(request) - step, step):
        for peer in peers:
            peer.send(request[at:at + step])
        if at == 0:
            print(f"{count} slow", flush=True)
            hold_until_told()
    for peer in peers:
        peer.send(request[at + step:])
        peer.expect_result("No match for 'slow'.")
        peer.close()


@scene
def churn(host, port, count):
    """So many connections, one after another, that end in every way."""
    ways = rude_ways()[:8]
    for n in range(int(count)):
        with connect(host, port) as peer:
            if n % 4:
                request = search(str(n))
                peer.send(request)
                peer.expect_answer(request)
            else:
                try:
                    ways[n // 4 % len(ways)](peer)
                except ConnectionError:
                    pass


@scene
def mixed(host, port, process):
    """Requests, ends, resets and newcomers in one turn of the server do not
    mix, though descriptors are used anew."""
    process = int(process)
    chance = random.Random(1)
    numbers = iter(range(10**9))

    def make():
        return connect(host, port), f"own {next(numbers)}"

    def ask(client):
        client[0].send(search(client[1]))

    def check(client):
        client[0].expect_result(f"No match for '{client[1]}'.")

    standing = [make() for _ in range(40)]
    for _ in range(15):
        for client in standing:
            ask(client)
            check(client)
        os.kill(process, signal.SIGSTOP)
        while state(process) != "T":
            time.sleep(0.001)
        chance.shuffle(standing)
        stay, leave = standing[:20], standing[20:]
        saying = stay[5:]
        for number, client in enumerate(leave):
            if number % 2:
                ask(client)
            if number % 4 < 2:
                client[0].reset()
            client[0].close()
        for client in saying:
            ask(client)
        newcomers = [make() for _ in leave]
        for client in newcomers[:10]:
            client[0].send_soon(search(client[1]))
        os.kill(process, signal.SIGCONT)
        for client in saying + newcomers[:10]:
            check(client)
        for client in newcomers[10:]:
            ask(client)
            check(client)
        for peer, _ in stay + newcomers:
            assert not peer.something_came(0), "more came"
        standing = stay + newcomers


def state(process):
    with open(f"/proc/{process}/stat", encoding="utf-8") as file:
        return file.read().rsplit(")")[1].split()[0]


@scene
def sigpipe(host, port, narration):
    """A client that half-closes, and then resets while a response waits: what
    the kernel has for the server's next send() is SIGPIPE."""
    import fcntl
    request = search("x" * 20000)
    with connect(host, port, receive_buffer=4096) as peer:
        wait_until_blocked(peer, request, narration)
        peer.half_close()
        while struct.unpack("i", fcntl.ioctl(peer.raw.fileno(), 0x5411,
                                             bytes(4)))[0]:  # SIOCOUTQ
            time.sleep(0.001)
        peer.reset()


@scene
def gone_at_the_end(host, port, process):
    """A client that half-closes in mid-request and resets, while the server
    is stopped: the server reads the end, and then cannot send its error."""
    process = int(process)
    for ending in (Peer.reset, Peer.close):
        with connect(host, port) as peer:
            peer.ask(search("in"))
            os.kill(process, signal.SIGSTOP)
            while state(process) != "T":
                time.sleep(0.001)
            peer.send(search("x")[:60])
            peer.half_close()
            ending(peer)
            os.kill(process, signal.SIGCONT)


@scene
def full(host, port, count):
    """With -n as many as count: who comes next waits, and is served as soon as
    one goes; twice."""
    peers = []
    for _ in range(int(count)):
        peers.append(connect(host, port))
        peers[-1].send(search("in"))
        peers[-1].expect_result("No match for 'in'.")
    for _ in range(2):
        waiting = connect(host, port)
        waiting.send_soon(search("waiting"))
        for peer in peers:  # those who are in are served all the while
            peer.send(search("ring"))
            peer.expect_answer(search("ring"))
        assert not waiting.something_came(0.2), "one too many is served"
        peers.pop(0).close()
        waiting.expect_result("No match for 'waiting'.")
        peers.append(waiting)


# --- Scenes: the end of a server ---------------------------------------------

@scene
def at_once(host, port, process, count):
    """So many clients come and ask before the server sees one of them. Leaves
    when one has its answer."""
    os.kill(int(process), signal.SIGSTOP)
    while state(process) != "T":
        time.sleep(0.001)
    peers = [connect(host, port) for _ in range(int(count))]
    for peer in peers:
        peer.send(search("x"))
    os.kill(int(process), signal.SIGCONT)
    assert select.select([peer.stream for peer in peers], [], [], PATIENCE)[0]


def wait_until_blocked(peer, request, narration):
    """Sends requests one at a time until the server, which narrates into this
    file, cannot send the response to one. Returns how many responses were
    begun; then there is one more request, and part of one."""
    before = narrated(narration, "Sending response")
    count = 0
    while True:
        peer.send(request)
        until = time.monotonic() + 0.3
        while narrated(narration, "Sending response") == before + count:
            if time.monotonic() > until:
                return count
            time.sleep(0.002)
        count += 1


def narrated(file_name, what):
    with open(file_name, encoding="utf-8") as file:
        return file.read().count(what)


@scene
def stop_in_response(host, port, process, narration):
    """SIGTERM while a response waits: it comes whole, and then the end; the
    request behind it is not answered."""
    large = search("x" * 100000)
    with connect(host, port, receive_buffer=4096) as peer:
        count = wait_until_blocked(peer, large, narration)
        os.kill(int(process), signal.SIGTERM)
        while True:
            try:
                connect(host, port).close()
            except ConnectionRefusedError:
                break
            except ConnectionError:
                pass
        for _ in range(count):
            peer.expect_answer(large)
        peer.expect_end()
        assert count > 1, count


@scene
def signals(host, port, *command):
    """A signal at any moment of a start, a service and a stop."""
    import subprocess
    chance = random.Random(1)
    for turn in range(40):
        server = subprocess.Popen([*command, "127.0.0.1", "0"],
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        port = int(server.stdout.readline().rsplit(b":")[-1])
        if turn % 2:
            peer = connect("127.0.0.1", port)
            peer.open()
            peer.raw.setblocking(False)
            peer.stream.send(search("ring") * chance.choice([1, 500]))
            time.sleep(chance.random() / 200)
        for _ in range(2):
            os.kill(server.pid, chance.choice([signal.SIGINT, signal.SIGTERM]))
            until = time.monotonic_ns() + chance.randrange(60_000)
            while time.monotonic_ns() < until:
                pass
        if turn % 2:
            peer.close()
        status = server.wait(8)
        said = server.stderr.read()
        assert status == 0, f"status {status}: {said}"
        assert b"response not taken" not in said, said


# --- Scenes: clients ---------------------------------------------------------

def run_client(command, arguments, behave, before, step=None):
    """Runs the client against a server that behaves so on each connection;
    arguments that are bytes are lines of standard input. Over TLS, the server
    sends step bytes at a time, handshake included. Returns (status,
    output, errors, what the server complains of)."""
    import subprocess
    complaints = []
    stdin = b""
    if isinstance(arguments, bytes):
        arguments, stdin = ["-"], arguments
    listener = listen()
    listener.settimeout(0.05)
    done = threading.Event()

    def serve_all():
        number = 0
        while not done.is_set():
            try:
                peer = accept(listener)
            except TimeoutError:
                continue
            except OSError:
                return
            with peer:
                try:
                    if step:
                        peer.stream.step = step
                    peer.open()
                    behave(peer, number)
                except (ConnectionError, TimeoutError):
                    pass
                except Exception as error:  # told by the scene
                    complaints.append(error)
            number += 1

    server = threading.Thread(target=serve_all, daemon=True)
    server.start()
    port = listener.getsockname()[1]
    try:
        result = subprocess.run(
            [*command, *before, "127.0.0.1", str(port), *arguments],
            input=stdin, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return "hangs", b"", b"", complaints
    finally:
        done.set()
        server.join(PATIENCE)
        listener.close()
    return result.returncode, result.stdout, \
        result.stderr.replace(b":%d" % port, b":PORT"), complaints


ASKED = ["search", "ring"]


def hostile():
    """Yields (what the server does, its way, arguments, how it is told)."""
    good = encode_json({"result": "fine"})
    tell = "response from 127.0.0.1:PORT: "

    def sends(data, end=Peer.close):
        def behave(peer, _):
            peer.receive()
            peer.send(data)
            end(peer)
        return behave

    def holds(peer):
        peer.expect_lost()

    for cut in range(len(good)):
        yield f"truncates after {cut}", sends(good[:cut]), ASKED, \
            f"{tell}truncated: the connection closed early"
    for cut in range(len(good) if TLS else 0):
        yield f"drops after {cut}", sends(good[:cut], Peer.drop), ASKED, \
            f"{tell}truncated: the connection closed early"
    for cut in (0, 1, 50, len(good) - 1):
        yield f"resets after {cut}", sends(good[:cut], Peer.reset), ASKED, \
            f"{tell}Connection reset by peer"
        yield f"is silent after {cut}", sends(good[:cut], holds), ASKED, \
            f"{tell}Connection timed out"
    yield "speaks HTTP", sends(b"HTTP/1.1 400 Bad Request\r\n\r\n", holds), \
        ASKED, f"{tell}Connection timed out"
    yield "speaks HTTP and closes", sends(b"HTTP/1.1 400 Bad\r\n\r\n"), \
        ASKED, f"{tell}truncated: the connection closed early"
    yield "speaks much HTTP", sends(b"HTTP/1.1 200 OK\r\n" + b"x" * 70000), \
        ASKED, rf"{tell}header: not JSON at byte \d+"
    yield "sends garbage", sends(random.Random(5).randbytes(70000)), ASKED, \
        rf"{tell}header: not (JSON|UTF-8) at byte \d+"
    yield "sends zeros", sends(bytes(1000)), ASKED, \
        rf"{tell}header: not JSON at byte \d+"
    for data, pattern in [*json_flaws(frame, "header")]:
        yield f"sends {data[:60]!r}", sends(data), ASKED, tell + pattern
    for key in header_with():
        yield f"omits {key}", sends(frame(header_with(without=key))), ASKED, \
            f"{tell}header: {key} is missing"
    yield "announces 1 GB", sends(frame(header_with(
        10**9, content_type="binary/x")), holds), ASKED, \
        f"{tell}header: content-length is 1000000000, not from 0 to 1048576"
    yield "announces 1 GB of JSON", sends(frame(header_with(10**9)), holds), \
        ASKED, f"{tell}header: content-length is 1000000000, not from 0 to " \
        "131072"
    yield "announces less than nothing", sends(frame(header_with(-5))), \
        ASKED, f"{tell}header: content-length is -5, not from 0 to 131072"
    yield "another encoding", sends(frame(header_with(
        2, content_encoding="utf-16"), b"{}")), ASKED, \
        f"{tell}header: content-encoding of text/json is 'utf-16', not 'utf-8'"
    for text in ("{}", '{"result": 3}', '{"result": null}', '{"error": 3}',
                 '{"result": ["a"]}', '{"Result": "x"}'):
        yield f"answers {text}", sends(json_content(text)), ASKED, \
            f"{tell}neither result nor error is a string in it"
    for data, pattern in [*json_flaws(json_content, "content")]:
        yield f"answers {data[:200]!r}", sends(data), ASKED, tell + pattern
    yield "an error", sends(encode_json({"error": "content: no"})), ASKED, \
        f"{tell}error 'content: no'"
    yield "an error with a result", sends(encode_json(
        {"result": "fine", "error": "no"})), ASKED, f"{tell}error 'no'"
    yield "an error that commands a terminal", sends(encode_json(
        {"error": "\x1b[2J\n\x9b"})), ASKED, \
        re.escape(f"{tell}error '\\x1b[2J\\n\\xc2\\x9b'")
    for length in (0, 7, 9, 16):
        yield f"a sum of {length} bytes", sends(encode(
            "binary/uint64", "binary", bytes(length))), ["sum", "1"], \
            f"{tell}a sum of {length} bytes, not 8"

    def replies_early(reset):
        """An error while the client still sends; none of it is read."""
        def behave(peer, _):
            peer.stream.recv(1000)
            peer.send(encode_json({"error": "too much"}))
            if reset:
                # As a server does that closes with much unread.
                while not select.select([peer.raw], [], [], 5)[0]:
                    pass
                time.sleep(0.1)
                peer.close()
            else:
                peer.half_close()
                peer.expect_lost()
        return behave

    megabyte = b"send " + b"y" * 10_000_000
    yield "an early error and an end", replies_early(False), megabyte, \
        f"{tell}error 'too much'"
    yield "an early error and a reset", replies_early(True), megabyte, \
        f"{tell}error 'too much'"

    def never_reads(peer, _):
        time.sleep(1.5)

    yield "never reads", never_reads, megabyte, \
        "request to 127.0.0.1:PORT: Connection timed out"

    def dribbles_for_ever(data):
        def behave(peer, _):
            peer.receive()
            for at in range(len(data)):
                peer.send(data[at:at + 1])
                time.sleep(0.05)
        return behave

    yield "dribbles a header", dribbles_for_ever(b"\xff\xff" + bytes(200)), \
        ASKED, f"{tell}Connection timed out"
    yield "dribbles a response", dribbles_for_ever(good), ASKED, \
        f"{tell}Connection timed out"
    yield "sends more than was asked for", sends(good + b"x", holds), ASKED, \
        f"{tell}more than was asked for"
    yield "answers twice", sends(good + good), ASKED, \
        f"{tell}more than was asked for"


@scene
def hostile_servers(_host, _port, *command):
    """The client believes none of them: one line, and status 1. An answer that
    is printed already stays printed, if what follows it is wrong."""
    name = os.path.basename(command[0])
    memory = None if "SANITIZED" in os.environ else 60_000
    cases = list(hostile())

    def attempt(case):
        what, behave, arguments, pattern = case
        status, output, said, complaints = run_client(
            command, arguments, behave, ["-t", "0.6"])
        if complaints:
            return f"{what}: the server complains: {complaints}"
        said = said.decode()
        if status != 1 or not re.fullmatch(f"{name}: {pattern}\n", said):
            return f"{what}: status {status}, {said!r}, not {pattern!r}"
        wanted = b"Got result: fine\n" if "more than was" in pattern else b""
        if output != wanted:
            return f"{what}: prints {output[:80]!r}"
        return None

    with thread_pool(6) as pool:
        failed = [text for text in pool.map(attempt, cases) if text]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if memory and peak > memory:
        failed.append(f"a client used {peak} kB")
    print(*failed, f"{len(cases)} servers, {len(failed)} complaints",
          sep="\n")
    sys.exit(1 if failed else 0)


@scene
def odd_servers(_host, _port, *command):
    """Odd but legal responses are understood."""
    fine = encode_json({"result": "fine"})

    def answers_with(data, size=None):
        def behave(peer, _):
            peer.receive()
            for at in range(0, len(data), size or len(data)):
                peer.send(data[at:at + (size or len(data))])
            peer.expect_lost()
        return behave

    def early(peer, _):
        """A good answer before the request is sent to its end, and the rest
        is taken later."""
        peer.stream.recv(1000)
        peer.send(encode("binary/x", "binary", b"early"))
        peer.half_close()
        peer.expect_lost()

    big = 2**64 - 1
    cases = [
        ("in one piece", answers_with(fine), ASKED, "Got result: fine"),
        ("in bytes", answers_with(fine, 1), ASKED, "Got result: fine"),
        ("in threes", answers_with(fine, 3), ASKED, "Got result: fine"),
        ("more in it", answers_with(frame(
            {"x": 1, **header_with(29)}, b'{"a": 1, "result": "fine"}   ')),
         ASKED, "Got result: fine"),
        ("characters", answers_with(encode_json({"result": "a\n\x1b'🐶"})),
         ASKED, "Got result: a\\n\\x1b'🐶"),
        ("empty", answers_with(encode_json({"result": ""})), ASKED,
         "Got result: "),
        ("much", answers_with(encode_json({"result": "z" * 131000}), 40000),
         ASKED, "Got result: " + "z" * 131000),
        ("bytes", answers_with(encode("binary/x", "binary", b"\0a\xff")),
         ["hello"], "Got response: '\\x00a\\xff'"),
        ("no bytes", answers_with(encode("binary/x", "binary", b"")),
         ["hello"], "Got response: ''"),
        ("a megabyte", answers_with(encode("b/x", "binary", b"m" * 2**20)),
         ["hello"], "Got response: '" + "m" * 64 + "'… (1048576 bytes)"),
        ("early", early, b"send " + b"y" * 10_000_000,
         "Got response: 'early'"),
    ]
    for order in ("little", "big"):
        for number in (1, 2**40 + 5, big):
            cases.append((f"{number}, {order}", answers_with(encode(
                "binary/uint64", "binary", number.to_bytes(8, order), order)),
                ["sum", "1"], f"Got sum: {number}"))
    cases = [(*case, None) for case in cases]
    if TLS:
        cases += [(f"trickled: {what}", *case, 1)
                  for what, *case, _ in cases[:2] + cases[-3:]]
    for what, behave, arguments, wanted, step in cases:
        status, output, said, complaints = run_client(
            command, arguments, behave, ["-t", "5"], step)
        assert not complaints, f"{what}: {complaints}"
        assert (status, output.decode(), said) == (0, wanted + "\n", b""), \
            f"{what}: status {status}, {output[:80]!r}, {said!r}"


@scene
def line_servers(_host, _port, *command):
    """Requests from standard input, one a line: which connections they take,
    and what happens when the server closes them."""
    lines = b"search ring\nsum 1 2 3\nhello there\nsearch a b \nhello\n"
    wanted = ("Got result: In the caves beneath the Misty Mountains. 💍\n"
              "Got sum: 6\n"
              "Got response: 'First 10 bytes of request: hellothere'\n"
              "Got result: No match for 'a b '.\n"
              "Got response: 'First 10 bytes of request: hello'\n").encode()
    heard = []

    def reply(peer):
        header, content = peer.receive()
        heard.append(content)
        peer.send(protocol.answer(header, content))
        assert peer.input == b"", "the client pipelines"

    def all_on_one(peer, number):
        assert number == 0, "a second connection"
        for _ in range(5):
            reply(peer)
        peer.expect_end()

    def one_each(peer, _):
        reply(peer)

    def two_each(peer, number):
        reply(peer)
        if number < 2:
            reply(peer)

    def closes_late(peer, _):
        """When the next request, or the end, is there already."""
        reply(peer)
        peer.stream.recv(65536)

    def resets_late(peer, _):
        """The same, without having read it: close() makes the reset."""
        reply(peer)
        select.select([peer.raw], [], [], PATIENCE)

    def resets(peer, _):
        reply(peer)
        peer.reset()

    for behave in (all_on_one, one_each, two_each, closes_late, resets_late):
        for ending in (lines, lines[:-1]):  # with and without a newline there
            heard.clear()
            status, output, said, complaints = run_client(
                command, ending, behave, ["-t", "5"])
            assert not complaints, f"{behave.__name__}: {complaints}"
            assert (status, output, said) == (0, wanted, b""), \
                f"{behave.__name__}: status {status}, {output!r}, {said!r}"
            assert len(heard) == 5, f"{behave.__name__}: {heard}"
    # A reset may come before the response is read, or after it: what is printed
    # is right, and the reset is told in a line, if it is seen.
    status, output, said, complaints = run_client(
        command, lines, resets, ["-t", "5"])
    assert output == wanted if status == 0 else wanted.startswith(output)
    assert re.fullmatch(rb"([a-z-]+: (end of|response from|request to) "
                        rb"127.0.0.1:PORT: [A-Za-z ]+\n)?", said), said
    assert status == 0 or (status == 1 and said), (status, said)
    assert not complaints, complaints

    def answers_once_and_then_never(peer, number):
        if number == 0:
            reply(peer)
        else:
            peer.receive()

    status, output, said, _ = run_client(
        command, lines, answers_once_and_then_never, ["-t", "5"])
    assert (status, output) == (1, wanted.splitlines(True)[0]), output
    assert re.fullmatch(rb"[a-z-]+: response from 127.0.0.1:PORT: truncated: "
                        rb"the connection closed early\n", said), said

    def sends_unasked(peer, number):
        """A response to no request, before the next one: not to be used."""
        header, content = peer.receive()
        answer = protocol.answer(header, content)
        if number > 0:
            peer.send(answer)
        else:
            peer.send(answer + encode_json({"result": "unasked"}))
            peer.expect_lost()

    status, output, said, _ = run_client(
        command, b"search x\nsearch y\n", sends_unasked, ["-t", "5"])
    assert b"unasked" not in output, output


# --- Steps -------------------------------------------------------------------

def text_bytes(text):
    return text.encode().decode("unicode_escape").encode("latin-1")


def perform(peer, listener, steps):
    script = list(steps)
    while steps:
        step = steps.pop(0)
        if step == "accept":
            peer = accept(listener)
            peer.open()
        elif step == "again":
            steps = ["accept", *script[1:]]
        elif step == "search":
            peer.send(search(steps.pop(0)))
        elif step in ("result", "error"):
            wanted = {step: steps.pop(0)}
            if listener:
                peer.send(encode_json(wanted))
            else:
                peer.expect_json(wanted)
        elif step == "message":
            kind, encoding, text = steps[:3]
            del steps[:3]
            peer.send(encode(kind, encoding, text_bytes(text)))
        elif step == "header":
            header, text = steps[:2]
            del steps[:2]
            peer.send(frame(header, text_bytes(text)))
        elif step == "raw":
            peer.send(text_bytes(steps.pop(0)))
        elif step == "zeros":
            peer.stream.settimeout(None)
            peer.send(bytes(int(steps.pop(0))))
            peer.stream.settimeout(PATIENCE)
        elif step in ("request", "response"):
            peer.receive()
        elif step == "receive":
            size = int(steps.pop(0))
            came = b""
            while len(came) < size and (
                    more := peer.stream.recv(size - len(came))):
                came += more
            assert len(came) == size, f"the end came after {came[:80]!r}"
        elif step == "readable":
            assert peer.something_came(PATIENCE)
        elif step == "end":
            peer.expect_end()
        elif step == "lost":
            peer.expect_lost()
        elif step == "cut":
            peer.expect_reset()
        elif step == "half-close":
            peer.half_close()
        elif step == "close":
            peer.close()
        elif step == "drop":
            peer.drop()
        elif step == "reset":
            peer.reset()
        elif step == "hold":
            sys.stdin.read()
        elif step == "say":
            print(steps.pop(0), flush=True)
        else:
            sys.exit(f"app_peer: no such step: {step}")


def main():
    if sys.argv[1:2] == ["listen"]:
        listener = listen()
        print(listener.getsockname()[1], flush=True)
        perform(None, listener, ["accept", *sys.argv[2:]])
        return
    if len(sys.argv) < 4 or sys.argv[1] not in {"connect", *SCENES}:
        sys.exit(__doc__)
    name, host, port, *arguments = sys.argv[1:]
    if name == "connect":
        perform(connect(host, port), None, arguments)
    else:
        SCENES[name](host, port, *arguments)


if __name__ == "__main__":
    try:
        main()
    except (OSError, AssertionError, protocol.Wrong,
            TimeoutError) as failure:
        at = failure.__traceback__
        while at.tb_next:
            at = at.tb_next
        sys.exit(f"app_peer: {str(failure) or type(failure).__name__}"[:2000])
