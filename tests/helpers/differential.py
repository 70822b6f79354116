#!/usr/bin/env python3
"""differential.py CONVERSE [CASES [SEED]]: asks two that were written apart,
the server's own code (the program tests/unit/converse.c) and protocol.py, what
is to be answered to random conversations, good and bad ones, and compares.

Both must give the same answers, in content and type, up to the same place; and
where an error is the last, both must name the same part and the same field.
What differs is printed, and is the exit status.
"""

import json
import random
import re
import struct
import subprocess
import sys

import protocol

FIELDS = ("byteorder", "content-type", "content-encoding", "content-length")
NUMBERS = ("0", "1", "4", "-0", "-1", "1.0", "1e0", "1E400", "-1e999", "00",
           "01", "+1", ".5", "1.", "0x1", "1e-999", "2147483648", "4294967296",
           "4294967300", "9007199254740993", "9223372036854775807",
           "9223372036854775808", "-9223372036854775808",
           "-9223372036854775809", "18446744073709551616", "131072", "131073",
           "1048576", "1048577", "NaN", "Infinity", "-", "1" * 400)
TEXTS = ("", "ring", "morpheus", "🐶", "é", "\u00e9\u0301", "\uffff", "\x7f",
         "a'b", 'a"b', "a\\b", "a\nb", "\ufeff", "text/json", "utf-8", "x" * 50,
         "%s%n", "\U0010ffff")
RAW = (b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"\\ud83d\\udc36", b"\\u00e9",
       b"\\uFFFF", b"\\x", b"\\u12", b"\xff", b"\xc0\x80", b"\xed\xa0\x80",
       b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xef\xbb\xbf", b"\0", b"\n", b"\x1f",
       b"\\/", b"\x80", b"\xf0\x9f\x90\xb6")
TYPES = ("text/json", "binary/uint32-array", "binary/uint64", "x", "text/JSON")


class Cases:
    """Makes conversations: bytes that a client might send."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def some(self, things):
        return self.random.choice(things)

    def rarely(self, one_in):
        return self.random.randrange(one_in) == 0

    def string(self):
        if self.rarely(8):
            return b'"' + self.some(RAW) + b'"'
        text = self.some(TEXTS)
        ascii_only = self.rarely(3)
        return json.dumps(text, ensure_ascii=ascii_only).encode()

    def value(self, depth=0):
        """A random JSON value, as bytes."""
        kind = self.random.randrange(9 if depth < 4 else 6)
        if kind < 3:
            return self.string()
        if kind == 3:
            return self.some(NUMBERS).encode()
        if kind < 6:
            return self.some((b"true", b"false", b"null", b"1", b"[]", b"{}"))
        parts = range(self.random.randrange(4))
        if kind == 6:
            return b"[" + b",".join(self.value(depth + 1) for _ in parts) + b"]"
        return self.object([(self.string(), self.value(depth + 1))
                            for _ in parts])

    def object(self, pairs):
        blank = self.some((b"", b"", b" ", b"\n", b"\t ", b"\r"))
        return b"{" + blank + (b"," + blank).join(
            key + blank + b": " + value for key, value in pairs) + b"}" + blank

    def content(self, kind):
        if kind != "text/json":
            size = self.some((0, 4, 8, 12, 1, 10, 11, 400))
            return self.random.randbytes(size)
        if self.rarely(10):
            return self.value()
        if self.rarely(25):
            depth = self.some((5, 2046, 2047, 2048, 2049, 3000))
            inner = self.some((b"", b"1", b'""', b"{}", b'{"":[]}'))
            return b'{"action": "x", "y": ' + b"[" * depth + inner + \
                b"]" * depth + b"}"
        if self.rarely(400):
            value = self.some(('"', "\x01", "é", "x")) * self.some(
                (21839, 21840, 21841, 65530, 65532, 65534, 131030, 131040))
            return json.dumps({"action": "search", "value": value},
                              ensure_ascii=False).encode()
        pairs = [(b'"action"', self.some((b'"search"', self.string()))),
                 (b'"value"', self.string())]
        if self.rarely(4):
            pairs.append((self.string(), self.value()))
        if self.rarely(6):
            pairs.pop(self.random.randrange(len(pairs)))
        if self.rarely(6):
            self.random.shuffle(pairs)
        if self.rarely(12) and pairs:
            place = self.random.randrange(len(pairs))
            pairs[place] = (pairs[place][0], self.value())
        return self.object(pairs)

    def damage(self, data):
        """Bytes like these, but not these."""
        at = self.random.randrange(len(data) + 1)
        kind = self.random.randrange(5)
        if kind == 0:
            return data[:at]
        if kind == 1:
            return data[:at] + self.some(RAW) + data[at:]
        if kind == 2:
            return data[:at] + self.random.randbytes(1) + data[at + 1:]
        if kind == 3:
            return data[:at] + data[at + self.random.randrange(1, 4):]
        return data[:at] + self.some((b'"', b"{", b"]", b",", b" ", b"\\")) + \
            data[at:]

    def message(self):
        kind = self.some(TYPES)
        content = self.content(kind)
        if self.rarely(10):
            content = self.damage(content)
        encoding = "utf-8" if kind == "text/json" else self.some(TEXTS)
        pairs = [(key.encode(), value.encode()) for key, value in (
            ('"byteorder"', self.some(('"big"', '"little"'))),
            ('"content-type"', json.dumps(kind)),
            ('"content-encoding"', json.dumps(encoding, ensure_ascii=False)),
            ('"content-length"', str(len(content))))]
        if self.rarely(3):
            pairs.append((self.string(), self.value()))
        if self.rarely(3):
            self.random.shuffle(pairs)
        if self.rarely(8):
            pairs.pop(self.random.randrange(len(pairs)))
        if self.rarely(20):
            pairs.append(self.some(pairs) if pairs else (b'""', b"1"))
        if self.rarely(6) and pairs:
            place = self.random.randrange(len(pairs))
            pairs[place] = (pairs[place][0], self.value())
        if self.rarely(8):
            pairs = [(key, self.some(NUMBERS).encode()
                      if key == b'"content-length"' else value)
                     for key, value in pairs]
        header = self.object(pairs) if not self.rarely(40) else self.value()
        if self.rarely(12):
            header = self.damage(header)
        return struct.pack(">H", len(header)) + header + content

    def conversation(self):
        data = b"".join(self.message()
                        for _ in range(self.some((1, 1, 1, 2, 3))))
        if self.rarely(15):
            data = self.damage(data)
        return data


def part_of(error):
    """What an error is about: the part, and the field if it names one."""
    part = re.split(":| inside", error)[0]
    for word in (*FIELDS, "action", "value", "its length", "its result"):
        if error.startswith(f"{part}: {word} "):
            return part, word
    return part, ""


def meaning(header, content):
    """A response as something that can be compared."""
    kind = header["content-type"]
    if kind == "text/json":
        value = json.loads(content)
        if "error" in value:
            return "error", part_of(value["error"])
        return kind, header["content-encoding"], value
    if kind == "binary/uint64":
        content = int.from_bytes(content, header["byteorder"])
    return kind, header["content-encoding"], content


def wanted_of(data):
    """What protocol.py answers."""
    responses = []
    try:
        while (message := protocol.decode(data)) is not None:
            header, content, taken = message
            response = protocol.decode(protocol.answer(header, content))
            responses.append(meaning(*response[:2]))
            data = data[taken:]
        if data:
            raise protocol.Wrong("end of stream inside a message")
    except protocol.Wrong as error:
        responses.append(("error", part_of(str(error))))
    return responses


def got_of(data):
    """What the server's code has answered."""
    responses = []
    while data:
        header, content, taken = protocol.decode(data)
        responses.append(meaning(header, content))
        data = data[taken:]
    return responses


def main(converse, count=20000, seed=1):
    cases = Cases(seed)
    differ = errors = answers = 0
    # In parts, so that neither side has to wait with a full pipe.
    for start in range(0, count, 1000):
        batch = [cases.conversation() for _ in range(min(1000, count - start))]
        told = subprocess.run(
            [converse], check=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=100,
            input=b"".join(struct.pack(">I", len(data)) + data
                           for data in batch)).stdout
        for number, data in enumerate(batch, start):
            size, = struct.unpack(">I", told[:4])
            got, told = got_of(told[4:4 + size]), told[4 + size:]
            wanted = wanted_of(data)
            answers += len(wanted)
            if wanted and wanted[-1][0] == "error":
                errors += 1
            if got != wanted:
                differ += 1
                print(f"{number}: {data[:3000]!r}\n  the server: {got}\n"
                      f"  protocol.py: {wanted}"[:5000])
    print(f"{count} conversations, {answers} answers, {errors} of them errors: "
          f"{differ} differ")
    return differ != 0


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
