#!/usr/bin/env python3
"""Asks a server in UTF-16: scenes.py PORT SCENE. Says what is not as expected."""
import json
import pathlib
import socket
import sys

sys.dont_write_bytecode = True
HELPERS = pathlib.Path(__file__).resolve().parents[2] / "tests/helpers"
sys.path.insert(0, str(HELPERS))
import protocol  # noqa: E402

NAMES = {"big": "utf-16-be", "little": "utf-16-le"}
MARKS = {"big": b"\xfe\xff", "little": b"\xff\xfe", "": b""}
OTHER = {"big": "little", "little": "big"}
RING = {"result": "In the caves beneath the Misty Mountains. 💍"}
NOT_UTF_16 = {"error": "content: not UTF-16"}
HALF = 0xd83d  # the first half of a surrogate pair
REST = 0xdc36  # and the second one


def short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 200 else f"{text[:120]} … {text[-40:]}"


def search(value):
    return json.dumps({"action": "search", "value": value}, ensure_ascii=False)


def no_match(value):
    return {"result": f"No match for '{value}'."}


def units(order, *numbers):
    """The units of UTF-16: code points, or halves of pairs."""
    return b"".join(number.to_bytes(2, order) for number in numbers)


def in_value(order, *numbers):
    """A search for these units."""
    before, after = search("|").split("|")
    return (before.encode(NAMES[order]) + units(order, *numbers)
            + after.encode(NAMES[order]))


class Peer:
    """A connection; the port is that of all."""
    port = 0

    def __init__(self):
        self.stream = socket.create_connection(("127.0.0.1", Peer.port), 5)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""

    def receive(self):
        """The next response as a value, or what came instead, in words."""
        while (message := protocol.decode(self.input)) is None:
            try:
                more = self.stream.recv(65536)
            except TimeoutError:
                return "nothing within 5 s"
            except OSError as error:
                return f"the end of the connection ({error.strerror})"
            if not more:
                return "the end of the connection"
            self.input += more
        header, content, taken = message
        self.input = self.input[taken:]
        if header["content-type"] != "text/json":
            return content.decode("latin-1")
        return json.loads(content)

    def ask(self, what, content, wanted, order="big", encoding="utf-16",
            kind="text/json", step=None):
        """Sends content, with this order in its header; step bytes at a time."""
        data = protocol.encode(kind, encoding, content, order)
        try:
            for at in range(0, len(data), step or len(data)):
                self.stream.sendall(data[at:at + (step or len(data))])
        except OSError:
            pass  # what has come tells more
        came = self.receive()
        if came != wanted:
            begin = content[:8].hex(" ") + (" …" if len(content) > 8 else "")
            sys.exit(f"{what}; byteorder {order}; content "
                     f"{begin or 'of no bytes'}\ngot {short(came)}\n"
                     f"not {short(wanted)}")
        if isinstance(wanted, dict) and "error" in wanted:
            if (came := self.receive()) != "the end of the connection":
                sys.exit(f"{what}: after the error, {short(came)} came, "
                         "not the end")


def ask(*arguments, **more):
    """The same on a connection of its own."""
    Peer().ask(*arguments, **more)


# --- The scenes -----------------------------------------------------------------

def marked(order):
    peer = Peer()
    for _ in range(2):
        peer.ask(f"with the mark for {order} end first",
                 MARKS[order] + search("ring").encode(NAMES[order]), RING, order)


def big():
    marked("big")


def little():
    marked("little")


def unmarked():
    for order in NAMES:
        ask("without a mark", search("ring").encode(NAMES[order]), RING, order)


def disagree():
    for order in NAMES:
        ask(f"with the mark for {order} end first",
            MARKS[order] + search("ring").encode(NAMES[order]), RING,
            OTHER[order])


def pairs():
    for order in NAMES:
        for value, wanted in (("🐶", {"result": "🐾 Playing ball! 🏐"}),
                              ("é€💍\U0010ffff", None), ("a\ufeffb", None)):
            for mark in (MARKS[order], b""):
                ask(f"a search for {ascii(value)}",
                    mark + search(value).encode(NAMES[order]),
                    wanted or no_match(value), order)


def odd():
    for order in NAMES:
        good = MARKS[order] + search("ring").encode(NAMES[order])
        for size in (1, 3, len(good) - 1):
            ask(f"{size} bytes", good[:size], NOT_UTF_16, order)
        ask("one byte more", good + b"\0", NOT_UTF_16, order)


def halves():
    for order in NAMES:
        for numbers in ((HALF,), (REST,), (HALF, 0x61), (0x61, REST),
                        (HALF, HALF, REST), (REST, HALF)):
            shown = " ".join(f"{number:04x}" for number in numbers)
            ask(f"a value of the units {shown}", in_value(order, *numbers),
                NOT_UTF_16, order)
        ask("half a pair at the end",
            search("ring").encode(NAMES[order]) + units(order, HALF),
            NOT_UTF_16, order)
        ask("a whole pair", in_value(order, HALF, REST),
            {"result": "🐾 Playing ball! 🏐"}, order)


def refused_json(what, text, wanted, order="big"):
    """text is bytes, or text for each order; wanted begins the error."""
    peer = Peer()
    data = text if isinstance(text, bytes) else text.encode(NAMES[order])
    peer.stream.sendall(protocol.encode("text/json", "utf-16", data, order))
    came = peer.receive()
    if not isinstance(came, dict) or not came.get("error", "").startswith(wanted):
        sys.exit(f"{what}; byteorder {order}\ngot {short(came)}\n"
                 f"not an error \"{wanted}…\"")


def rules():
    for order in NAMES:
        mark = MARKS[order]
        not_json = "content: not JSON at byte "
        refused_json("no bytes", b"", not_json, order)
        refused_json("a mark and no more", mark, not_json, order)
        refused_json("two marks", mark + mark + search("x").encode(NAMES[order]),
                     not_json, order)
        refused_json("half a pair as an escape", search("x").replace(
            "x", "\\ud83d"), not_json, order)
        refused_json("text in UTF-8", search("ring").encode() + b" ",
                     not_json, order)
        refused_json("an array", "[]", "content: not an object", order)
        refused_json("a key twice", '{"a": 1, "a": 1}',
                     "content: a key occurs twice at byte ", order)
        refused_json("no action", "{}",
                     "content: action is missing, or not a string", order)


def names():
    for name in ("UTF-16", "utf-16le", "utf-16be", "utf-1", "utf-32", ""):
        ask(f"the encoding '{name}'", search("ring").encode("utf-16"),
            {"error": f"header: content-encoding of text/json is '{name}', "
             "not 'utf-8' or 'utf-16'"}, encoding=name)


def as_before():
    peer = Peer()
    peer.ask("UTF-16", search("ring").encode("utf-16-be"), RING)
    for order in NAMES:
        for value, wanted in (("ring", RING), ("é💍", no_match("é💍"))):
            peer.ask("UTF-8", search(value).encode(), wanted, order, "utf-8")
    peer.ask("UTF-16 again", search("ring").encode("utf-16-le"), RING, "little")
    peer.ask("another type", b"\xfe\xff\0a",
             "First 10 bytes of request: \xfe\xff\0a", kind="x")
    peer = Peer()
    data = b"\xef\xbb\xbf" + search("ring").encode()
    peer.stream.sendall(protocol.encode("text/json", "utf-8", data))
    if "not JSON" not in short(peer.receive()):
        sys.exit("UTF-8 with a mark is no JSON, and was not refused")


def limits():
    room = 131072 - len((search("ring")[:-1] + ', "x": ""}').encode("utf-16-be"))
    for what, filler in (("letters", "x"), ("characters that take 3 bytes in "
                                            "UTF-8", "漢"), ("emoji", "🐶")):
        count = room // len(filler.encode("utf-16-be"))
        text = search("ring")[:-1] + f', "x": "{filler * count}"}}'
        ask(f"{count} {what} besides", text.encode("utf-16-be"), RING)
    ask("131,074 bytes", b" \0" * 65537,
        {"error": "header: content-length is 131074, not from 0 to 131072"})


def pieces():
    for order in NAMES:
        ask("a byte at a time",
            MARKS[order] + search("🐶").encode(NAMES[order]),
            {"result": "🐾 Playing ball! 🏐"}, order, step=1)


def many(count="1000"):
    """Requests of 100,000 bytes, half of them good."""
    text = search("ring")[:-1] + f', "x": "{"漢" * 49000}"}}'
    good = MARKS["little"] + text.encode("utf-16-le")
    bad = in_value("big", *[0x6f22] * 49000, HALF)
    peer = Peer()
    for _ in range(int(count) // 2):
        peer.ask("one of many", good, RING)
        ask("one of many", bad, NOT_UTF_16)


SCENES = {function.__name__.replace("_", "-"): function for function in (
    big, little, unmarked, disagree, pairs, odd, halves, rules, names, as_before,
    limits, pieces, many)}

if __name__ == "__main__":
    Peer.port = int(sys.argv[1])
    try:
        SCENES[sys.argv[2]](*sys.argv[3:])
    except protocol.Wrong as wrong:
        sys.exit(f"the response breaks a rule: {wrong}")
