#!/usr/bin/env python3
"""Servers for a client that is graded: servers.py CLIENT SCENE. Each scene is a
function below that is marked @scene: it lets the client talk to servers that
do as they are told, and says of the first that is not treated as the
specification wants it what it did, what the client made of it, and what should
have been."""
import concurrent.futures
import json
import os
import pathlib
import socket
import sys
import time

sys.dont_write_bytecode = True
HELPERS = pathlib.Path(__file__).resolve().parents[2] / "tests/helpers"
sys.path.insert(0, str(HELPERS))
import app_peer  # noqa: E402
import protocol  # noqa: E402
from app_peer import encode, encode_json, frame, header_with  # noqa: E402

app_peer.PATIENCE = float(os.environ.get("limit") or 10)
SLOWNESS = app_peer.PATIENCE / 6  # what takes longer where patience is longer
KEYS = ["byteorder", "content-type", "content-encoding", "content-length"]
RING = ["search", "ring"]
SUM = ["sum", "1"]
FINE = encode_json({"result": "fine"})
CLIENT = ""


def short(data):
    text = repr(data)
    return text if len(text) < 100 else f"{text[:60]} … {text[-20:]}"


# --- The client -----------------------------------------------------------------

class Case:
    """What a server does, and what the client must make of it: it prints a
    line and ends with status 0, or, if printed is None, it prints nothing but
    a line on standard error, with told in it, and ends with status 1."""
    asked = False  # is what the client asks all that matters?

    def __init__(self, what, behave, arguments, printed=None, told="",
                 limit=None, within=None, statuses=None):
        self.what, self.behave, self.arguments = what, self.heard, arguments
        self.does, self.connections = behave, 0
        self.printed, self.told = printed, told
        self.limit = limit or f"{5 * SLOWNESS:g}"
        self.within = within  # seconds, from and, on a machine that is quick, to
        self.statuses = statuses or ((0,) if printed is not None else (1,))

    def heard(self, peer, number):
        self.connections += 1
        self.does(peer, number)

    def flaw(self):
        """What is wrong with the client, or None."""
        began = time.monotonic()
        status, output, said, complaints = app_peer.run_client(
            [CLIENT], self.arguments, self.behave, ["-t", self.limit])
        took = time.monotonic() - began
        output, said = (text.decode(errors="backslashreplace")
                        for text in (output, said))
        if status == "hangs":
            how = f"had not ended after {app_peer.PATIENCE:.0f} s"
        elif status < 0:
            how = f"was ended by signal {-status}"
        else:
            how = f"ended with status {status}"
        wanted = "" if self.printed is None else f"{self.printed}\n"
        lines = [f"the server {self.what}"] if self.what else []
        if complaints:
            return "\n".join([*lines, *map(str, complaints)])
        if self.asked:
            if self.connections > 0:
                return None
            lines += [f"the client {how}, and did not connect"]
        elif output != wanted:
            lines += [f"the client printed {short(output)}, not "
                      f"{short(wanted)}", f"it {how}"]
        elif status not in self.statuses:
            lines += [f"the client {how}, not "
                      + " or ".join(map(str, self.statuses))]
        elif self.printed is None and self.told not in said:
            lines += [f"{self.told!r} is not in what it said"]
        elif self.printed is None and not said.strip():
            lines += ["the client said nothing on standard error"]
        elif self.within and not (self.within[0] <= took
                                  <= self.within[1] * SLOWNESS):
            lines += [f"the client {how} after {took:.1f} s, with -t {self.limit}"]
        else:
            return None
        return "\n".join(lines + [f"it said: {said[-150:].strip()}"] * bool(said))


class Asked(Case):
    """The same, where what the client makes of the answer does not matter."""
    asked = True

    def __init__(self, words, judge, answer=FINE):
        def behave(peer, _):
            data = hear(peer)
            judge(data)
            peer.send(answer)
        super().__init__("", behave, words)


def check(cases, at_a_time=4):
    """Says what is wrong with the first that fails."""
    cases = list(cases)
    with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
        for at in range(0, len(cases), at_a_time):
            for flaw in pool.map(Case.flaw, cases[at:at + at_a_time]):
                if flaw:
                    sys.exit(flaw)


# --- What a server does ---------------------------------------------------------

def hear(peer):
    """The bytes of a request: until it is complete, or nothing more comes."""
    data = b""
    while True:
        try:
            if protocol.decode(data):
                # Is that all?
                if not peer.something_came(0.05):
                    return data
        except protocol.Wrong:
            pass
        if not peer.something_came(0.7):
            return data
        more = peer.stream.recv(65536)
        if not more:
            return data
        data += more


def taken(peer):
    """Waits until the client has read all that has arrived, or is gone: what
    comes next comes in a piece of its own. In /proc/net/tcp, a line of the
    client's socket has its port, ours, and how much is unread."""
    try:
        ours = f":{peer.raw.getsockname()[1]:04X}"
        client = f":{peer.raw.getpeername()[1]:04X}"
    except OSError:
        return
    until = time.monotonic() + app_peer.PATIENCE
    while time.monotonic() < until:
        lines = map(str.split, pathlib.Path("/proc/net/tcp").read_text()
                    .splitlines())
        unread = [line[4].split(":")[1] for line in lines
                  if line[1].endswith(client) and line[2].endswith(ours)]
        if not unread or int(unread[0], 16) == 0:
            return
        time.sleep(0.001)


def sends(data, then=lambda peer: peer.expect_lost(), step=None):
    """Hears a request, sends these bytes, step at a time, and then waits for
    the client's end."""
    def behave(peer, _):
        hear(peer)
        for at in range(0, len(data), step or len(data) or 1):
            peer.send(data[at:at + (step or len(data))])
            if step and at in (0, 1, 3, 50, 60, 100):
                taken(peer)
        then(peer)
    return behave


def closes(peer):
    peer.close()


def number(value, order, size=8):
    return encode("binary/uint64", "binary", value.to_bytes(size, order), order)


SCENES = {}


def scene(function):
    SCENES[function.__name__.replace("_", "-")] = function
    return function


# --- The request ----------------------------------------------------------------

def header_of(data):
    """The header of a request and what follows it. What is wrong with them is
    an AssertionError."""
    assert len(data) >= 2, f"{len(data)} bytes came, which is no request"
    size = int.from_bytes(data[:2], "big")
    assert len(data) >= 2 + size, \
        f"the first two bytes, {data[:2].hex(' ')}, announce a header of " \
        f"{size} bytes; {len(data) - 2} bytes came: {short(data[2:])}"
    try:
        header = protocol.parse("header", data[2:2 + size])
    except protocol.Wrong as wrong:
        raise AssertionError(f"{wrong}; the {size} bytes of the header are "
                             f"{short(data[2:2 + size])}") from wrong
    return header, data[2 + size:]


def content_of(data):
    header, content = header_of(data)
    known = [key for key in header if key in KEYS]
    assert known == KEYS, f"the keys of the header are {' '.join(header)}"
    try:
        protocol.check_header(header, protocol.MOST_CONTENT)
    except protocol.Wrong as wrong:
        raise AssertionError(str(wrong)) from wrong
    assert header["content-length"] == len(content), \
        f"content-length is {header['content-length']}, and {len(content)} " \
        f"bytes came after the header: {short(content)}"
    return header, content


@scene
def length():
    check([Asked(RING, header_of), Asked(SUM, header_of, number(1, "big"))])


@scene
def keys():
    def judge(data):
        header, _ = header_of(data)
        assert list(header) == KEYS, \
            f"the keys of the header are {' '.join(header)}"
        kind = header["content-type"], header["content-encoding"]
        if kind[0] != "binary/uint32-array":
            assert kind == ("text/json", "utf-8"), f"it is {kind}"
        assert header["byteorder"] in ("little", "big"), \
            f"byteorder is {header['byteorder']}"
        content_of(data)
    check([Asked(RING, judge), Asked(SUM, judge, number(1, "big"))])


@scene
def bytes_counted():
    check(Asked(["search", value], content_of)
          for value in ("a", "é", "🐶", "日本語 🐰"))


def judge_of(value):
    def judge(data):
        header, content = content_of(data)
        assert header["content-type"] == "text/json", \
            f"content-type is {header['content-type']}"
        try:
            request = protocol.parse("content", content)
        except protocol.Wrong as wrong:
            raise AssertionError(f"{wrong}: {short(content)}") from wrong
        wanted = {"action": "search", "value": value}
        came = {key: request.get(key) for key in wanted}
        assert came == wanted, f"it asks {short(came)}, not {short(wanted)}"
    return judge


@scene
def values():
    check(Asked(["search", value], judge_of(value))
          for value in ("ring", "", ' a "quoted"  one ', "back\\slash",
                        "line\nend\ttab \x01", "é 日本語 🐶 %s",
                        '", "action": "x', "y" * 100_000))


@scene
def numbers():
    def sums(wanted):
        def judge(data):
            header, content = content_of(data)
            assert header["content-type"] == "binary/uint32-array", \
                f"content-type is {header['content-type']}"
            assert len(content) == 4 * len(wanted), \
                f"{len(wanted)} numbers have {len(content)} bytes"
            order = header["byteorder"]
            came = tuple(int.from_bytes(content[at:at + 4], order)
                         for at in range(0, len(content), 4))
            assert came == wanted, \
                f"{content[:12].hex(' ')}, with byteorder {order}, is " \
                f"{short(came)}, not {short(wanted)}"
        return judge
    check(Asked(["sum", *map(str, wanted)], sums(wanted), number(7, "little"))
          for wanted in ((1, 2, 3), (256,), (4294967295, 0, 65536), (),
                         tuple(range(5000))))


@scene
def no_request():
    """Status 2, and no connection is needed to know it."""
    def nothing(peer, _):
        data = hear(peer)
        assert not data, f"the client sent {short(data)}"
    check(Case(f"is asked {' '.join(words)}", nothing, words, statuses=(2,))
          for words in (["search"], ["search", "a", "b"], ["sum", "x"],
                        ["sum", "1", "4294967296"], ["sum", "-1"],
                        ["sum", "1.5"], ["sum", ""]))


# --- The response ---------------------------------------------------------------

@scene
def results():
    check(Case(f"answers {text!r}, and closes",
               sends(encode_json({"result": text}), closes), RING,
               f"Got result: {text}")
          for text in ("fine", "", "🐾 Playing ball! 🏐", 'a "quoted" one', "%s"))


@scene
def sums():
    check(Case(f"answers {value}, {order} end first, and closes",
               sends(number(value, order), closes), SUM, f"Got sum: {value}")
          for value in (258, 2**40 + 5, 2**64 - 1)
          for order in ("little", "big"))


@scene
def pieces():
    check(Case(f"sends {step} at a time", sends(data, step=step), words, printed)
          for step, data, words, printed in (
              (1, FINE, RING, "Got result: fine"),
              (3, number(258, "big"), SUM, "Got sum: 258"),
              (1, encode_json({"result": "🐾 🏐"}), RING, "Got result: 🐾 🏐"),
              (50, FINE, RING, "Got result: fine")))


@scene
def odd():
    turned = dict(reversed(header_with(18).items()))
    content = b'{"result": "fine"}'
    known = {"more": [{"byteorder": 1.5e3}], **header_with(18), "x": None}
    escaped = (b'{"byteorder":"\\u0062ig","content-typ\\u0065":"text\\/json",'
               b'"content-encoding":"utf\\u002d8","content-length":18}')
    for what, header in (("sends the keys in another order", turned),
                         ("sends keys that nobody knows", known),
                         ("sends white space around the header", b" \n\t"
                          + json.dumps(turned, indent=2).encode() + b"\r\n "),
                         ("writes no blanks", json.dumps(
                             turned, separators=(",", ":")).encode()),
                         ("writes escapes", escaped)):
        check([Case(what, sends(frame(header, content)), RING,
                    "Got result: fine")])
    check(Case(f"answers {text}", sends(app_peer.json_content(text)), RING, printed)
          for text, printed in (
              ('{"x": {"error": "no"}, "result": "fine"}', "Got result: fine"),
              ('{"result":"\\u00e9\\ud83d\\udc36"}', "Got result: é🐶"),
              ('\n{ "result" : "fine" , "error" : 3 }\n', "Got result: fine")))


@scene
def large():
    text = "y" * (131072 - len('{"result": ""}'))
    header = {**header_with(18), "filler": ""}
    header["filler"] = "f" * (65535 - len(json.dumps(header)))
    check([Case("sends JSON of 131,072 bytes", sends(encode_json({"result": text})),
                RING, f"Got result: {text}"),
           Case("sends a header of 65,535 bytes",
                sends(frame(header, b'{"result": "fine"}')), RING,
                "Got result: fine")])


@scene
def held():
    """A response is complete by its length: nobody waits for the end, and what
    comes behind is no part of it."""
    for what, data in (("keeps the connection", FINE),
                       ("sends a byte more", FINE + b"x"),
                       ("answers twice", FINE + encode_json({"result": "2"}))):
        check([Case(what, sends(data), RING, "Got result: fine",
                    statuses=(0,) if data == FINE else (0, 1), within=(0, 4))])


# --- What is no result ----------------------------------------------------------

@scene
def errors():
    check([Case("answers an error", sends(encode_json({"error": "content: no"})),
                RING, told="content: no"),
           Case("answers an error to a sum",
                sends(encode_json({"error": "content: no"})), SUM,
                told="content: no"),
           Case("answers an error and a result", sends(encode_json(
               {"result": "fine", "error": "header: bad"})), RING,
                told="header: bad")])


@scene
def truncated():
    header = 2 + int.from_bytes(FINE[:2], "big")
    total = number(1, "big")
    check(Case(f"sends {cut} of {len(data)} bytes, and closes",
               sends(data[:cut], closes), words)
          for data, words, cut in (
              *((FINE, RING, cut) for cut in (0, 1, 2, 50, header - 1, header,
                                              header + 1, len(FINE) - 1)),
              *((total, SUM, len(total) - missing) for missing in (1, 8))))


@scene
def cut_off():
    """A reset instead of the rest."""
    check(Case(f"sends {cut} of {len(FINE)} bytes, and resets the connection",
               sends(FINE[:cut], app_peer.Peer.reset), RING)
          for cut in (0, 50, len(FINE) - 1))


@scene
def oversized():
    """Refused when it is announced; so the client does not wait for it."""
    for kind, size in (("text/json", 131073), ("binary/uint64", 1048577),
                       ("text/json", 10**9), ("binary/uint64", 2**32 + 8),
                       ("text/json", 2**32 + 18), ("binary/uint64", -1),
                       ("text/json", 2**63 - 1)):
        content = b'{"result": "fine"}' if kind == "text/json" else bytes(8)
        check([Case(f"announces {size} bytes of {kind}", sends(frame(
            header_with(size, content_type=kind), content)), RING,
            within=(0, 4))])


@scene
def headers():
    content = b'{"result": "fine"}'

    def broken():
        for key in KEYS:
            yield f"omits {key}", header_with(18, without=key)
        for key in KEYS[:3]:
            yield f"sends a number as {key}", {**header_with(18), key: 3}
        for order in ("Big", "", "middle"):
            yield f"sends the byteorder '{order}'", header_with(18, byteorder=order)
        for encoding in ("UTF-8", "utf-16", ""):
            yield f"sends JSON in the encoding '{encoding}'", \
                header_with(18, content_encoding=encoding)
        for size in ("18", 18.0, True, None):
            yield f"sends the content-length {json.dumps(size)}", header_with(size)
        text = json.dumps(header_with(18))
        yield "sends a key twice", text[:-1] + ', "content-length": 18}'
        yield "sends an unknown key twice", text[:-1] + ', "x": 1, "x": 2}'
        yield "sends an array", f"[{text}]"
        yield "sends something after the header's object", text + " {}"
        yield "sends a mark before the header", "\ufeff" + text
        yield "sends half a surrogate pair", text[:-1] + ', "x": "\\ud800"}'
        yield "sends \\u0000", text[:-1] + ', "x": "\\u0000"}'
        yield "sends no UTF-8", text.encode()[:-1] + b', "x": "\xc0\xaf"}'
        yield "sends no header at all", ""
    check(Case(what, sends(frame(header, content), closes), RING)
          for what, header in broken())


@scene
def contents():
    deep = "[" * 2048 + "]" * 2048
    check(Case(f"answers {text[:60]}", sends(app_peer.json_content(text), closes), RING)
          for text in ("{}", '{"result": 3}', '{"result": null}', '{"Result": "x"}',
                       '["result"]', '"result"', "", '{"result": "x"',
                       '{"result": "x"} x', '{"result": "x", "result": "y"}',
                       '{"result": "x", "a": {"b": 1, "b": 1}}',
                       '{"result": "\\ud800"}', '{"result": "x\\u0000y"}',
                       b'{"result": "\xff"}', '{"result": "x", "a": NaN}',
                       '{"result": "x", "a": 1e999}',
                       '{"result": "x", "a": 9223372036854775808}',
                       f'{{"result": "x", "a": {deep}}}'))
    check(Case(f"answers a sum of {size} bytes",
               sends(encode("binary/uint64", "binary", bytes(size)), closes), SUM)
          for size in (0, 7, 9, 16))


# --- Time -----------------------------------------------------------------------

@scene
def silent():
    def silence(peer, _):
        peer.expect_lost()
    cases = [Case("accepts, and says nothing", silence, RING, limit="0.7",
                  within=(0.6, 5))]
    for cut in (1, 60, len(FINE) - 1):
        cases.append(Case(f"sends {cut} of {len(FINE)} bytes, and no more",
                          sends(FINE[:cut]), RING, limit="0.7", within=(0.6, 5)))
    check(cases)


@scene
def dribbled():
    def dribble(data):
        def behave(peer, _):
            hear(peer)
            for at in range(len(data)):
                peer.send(data[at:at + 1])
                time.sleep(0.1)
        return behave
    check([Case("sends a header, a byte each 0.1 s", dribble(FINE), RING, limit="1",
                within=(0.9, 5)),
           Case("sends a header that never ends", dribble(b"\xff\xff" + b" " * 200),
                RING, limit="1", within=(0.9, 5))])


def narrow_listener(backlog=128):
    """One whose clients cannot send much before it is read: small segments,
    and a small buffer."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener


MANY = ["sum", *["7"] * 100_000]  # 400,000 bytes


@scene
def unread():
    app_peer.listen = narrow_listener

    def client_runs():
        return any(task.read_text() for task in
                   pathlib.Path("/proc/self/task").glob("*/children"))

    def never_reads(*_):
        until = time.monotonic() + app_peer.PATIENCE
        while client_runs() and time.monotonic() < until:
            time.sleep(0.02)
    check([Case("accepts, and never reads", never_reads, MANY, limit="0.7",
                within=(0.6, 5))])


@scene
def early():
    """An error while the request is still under way. The server reads no more
    of it, and closes a second later: a reset, since there is much unread."""
    app_peer.listen = narrow_listener

    def refuse(peer, _):
        peer.stream.recv(100)
        peer.send(encode_json({"error": "header: too much"}))
        peer.half_close()
        time.sleep(1)

    def refuse_and_read(peer, _):
        peer.stream.recv(100)
        peer.send(encode_json({"error": "header: too much"}))
        peer.half_close()
        peer.expect_lost()
    check([Case("answers an error in the middle of the request, and reads on",
                refuse_and_read, MANY, told="header: too much"),
           Case("answers an error in the middle of the request, reads no more, and "
                "closes a second later", refuse, MANY, told="header: too much")])


def main(client, name):
    global CLIENT
    CLIENT = client
    SCENES[name]()


if __name__ == "__main__":
    main(*sys.argv[1:])
