#!/usr/bin/env python3
"""Peers of stage 4 that are not ours: Python's ssl module, fed by hand, so that
each byte on the wire is in our power.

    tls_peer.py SCENE HOST PORT [ARGUMENT...]

SCENE is one of the functions below that are marked @scene. CERTS in the
environment is the folder with the certificates. A server's KIND is "echo" or
"app". What would wait for more than 20 seconds ends it with status 1.
"""
import ctypes
import errno
import hashlib
import hmac
import os
import random
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings

sys.dont_write_bytecode = True
import protocol  # noqa: E402
from protocol import encode, encode_json  # noqa: E402

warnings.simplefilter("ignore", DeprecationWarning)  # of old versions
PATIENCE = int(os.environ.get("limit") or 20)
CERTS = os.environ["CERTS"]
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH = (V12, V13)


# --- One connection ----------------------------------------------------------

def client_context(version=None, cert=None):
    context = ssl.create_default_context(cafile=f"{CERTS}/ca.pem")
    limit(context, version)
    if cert:
        context.load_cert_chain(f"{CERTS}/{cert}.pem", f"{CERTS}/{cert}-key.pem")
    return context


def server_context(version=None, cert="server", ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    limit(context, version)
    context.load_cert_chain(f"{CERTS}/{cert}.pem", f"{CERTS}/{cert}-key.pem")
    if ca:
        context.load_verify_locations(f"{CERTS}/{ca}.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def limit(context, version):
    if version:
        context.minimum_version = context.maximum_version = version


class Peer:
    """TLS over a socket, with the bytes in our hands in between."""

    def __init__(self, stream, context, server=False, name="localhost", session=None):
        self.stream = stream
        self.came, self.goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.came, self.goes, server_side=server,
            server_hostname=None if server else name, session=session)
        self.input = b""
        stream.settimeout(PATIENCE)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def feed(self):
        data = self.stream.recv(65536)
        if data:
            self.came.write(data)
        else:
            self.came.write_eof()

    def flush(self):
        if self.goes.pending:  # to send nothing would wait, too
            self.stream.sendall(self.goes.read())

    def run(self, call, *arguments):
        while True:
            try:
                return call(*arguments)
            except ssl.SSLWantReadError:
                self.flush()
                self.feed()
            finally:
                self.flush()

    def handshake(self):
        self.run(self.tls.do_handshake)
        return self

    def flights(self):
        """A handshake; what goes to the other side is for the caller to send,
        before the next step is taken."""
        done = False
        while not done:
            try:
                self.tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            if self.goes.pending:
                yield self.goes.read()
            if not done:
                self.feed()

    def record(self, data):
        """The bytes of a record, or several, which are not sent."""
        self.tls.write(data)
        return self.goes.read()

    def send(self, data):
        self.stream.sendall(self.record(data))

    def read(self, size):
        """What comes next, or b"": close_notify, which Python tells in one of
        two ways, according to whether ours has gone."""
        try:
            return self.run(self.tls.read, size)
        except ssl.SSLZeroReturnError:
            return b""

    def receive(self, size):
        data = b""
        while len(data) < size:
            piece = self.read(size - len(data))
            assert piece, f"the end came after {data[:80]!r}"
            data += piece
        return data

    def message(self):
        """The next message of stage 3, as (header, content)."""
        while (message := protocol.decode(self.input, 1 << 30)) is None:
            more = self.read(65536)
            assert more, f"the end came after {self.input[:80]!r}"
            self.input += more
        header, content, taken = message
        self.input = self.input[taken:]
        return header, content

    def expect_result(self, text):
        _, content = self.message()
        wanted = encode_json({"result": text}).split(b"}", 1)[1]
        assert content == wanted, f"{content!r} instead of {wanted!r}"

    def say_end(self, send=True):
        """close_notify, and no more; what goes may be left to the caller."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:  # what the other side sends is not looked at yet
            pass
        if send:
            self.flush()

    def expect_end(self):
        """Nothing more, close_notify, and then the end of the stream."""
        more = self.read(1)
        assert more == b"", f"more came: {more!r}"
        more = self.stream.recv(100)
        assert more == b"", f"after close_notify came {more!r}"

    def expect_alert(self, name):
        """An alert, which Python calls so (or matches this pattern)."""
        try:
            more = self.run(self.tls.read, 1)
        except ssl.SSLError as error:
            assert re.search(name, str(error)), f"{error} instead of {name}"
            return
        raise AssertionError(f"{more!r} instead of {name}")

    def talk(self, kind, text="ring"):
        """One question and the right answer."""
        if kind == "echo":
            self.send(text.encode())
            came = self.receive(len(text.encode()))
            assert came == text.encode(), came
        else:
            self.send(search(text))
            self.expect_result(answer_to(text))

    def end(self):
        """The polite end of both sides."""
        self.say_end()
        self.expect_end()
        self.stream.close()

    def half_close(self):
        try:
            self.stream.shutdown(socket.SHUT_WR)
        except OSError as error:  # the other side has reset already
            assert error.errno == errno.ENOTCONN, error

    def reset(self):
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
        self.stream.close()

    def wait_for_end(self):
        """Takes what comes, until the other side has closed."""
        try:
            while self.stream.recv(65536):
                pass
        except ConnectionError:
            pass


def connect(host, port, context=None, **options):
    stream = socket.create_connection((host, int(port)), timeout=PATIENCE)
    return Peer(stream, context or client_context(), **options)


def search(value):
    return encode_json({"action": "search", "value": value})


def answer_to(value):
    return protocol.ANSWERS.get(value, f"No match for '{value}'.")


def in_threads(count, call):
    """Calls call(number) in so many threads; the first error is raised."""
    errors = []

    def one(number):
        try:
            call(number)
        except Exception as error:  # in a thread it would be lost
            errors.append(error)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class Bystander:
    """A client that is there all the time, and notices nothing. The echo server
    serves one at a time: there is none then."""

    def __init__(self, host, port, kind):
        self.peer = connect(host, port).handshake() if kind == "app" else None

    def check(self):
        if self.peer:
            self.peer.talk("app", "still here")

    def end(self):
        if self.peer:
            self.peer.end()


class Forger:
    """Sends any record in TLS 1.3 that the key allows, also what no library
    would send. The secrets come from the key log."""

    def __init__(self, stream, make_context, server=False):
        with tempfile.NamedTemporaryFile("r") as log:
            context = make_context(V13)
            context.keylog_filename = log.name
            self.peer = Peer(stream, context, server=server).handshake()
            who = "SERVER" if server else "CLIENT"
            line = re.search(rf"{who}_TRAFFIC_SECRET_0 \S+ (\S+)", log.read())
        self.secret = bytes.fromhex(line[1])
        suite = self.peer.tls.cipher()[0]
        assert suite == "TLS_AES_256_GCM_SHA384", suite
        self.crypto = ctypes.CDLL("libcrypto.so.3")
        self.crypto.EVP_aes_256_gcm.restype = ctypes.c_void_p
        self.crypto.EVP_CIPHER_CTX_new.restype = ctypes.c_void_p
        self.cipher = ctypes.c_void_p(self.crypto.EVP_CIPHER_CTX_new())
        self.algorithm = ctypes.c_void_p(self.crypto.EVP_aes_256_gcm())
        self.begin()

    def expand(self, label, size):
        """HKDF-Expand-Label (RFC 8446, 7.1) with an empty context."""
        label = b"tls13 " + label
        info = struct.pack(">HB", size, len(label)) + label + b"\0\1"
        return hmac.digest(self.secret, info, hashlib.sha384)[:size]

    def begin(self):
        self.key, self.iv = self.expand(b"key", 32), self.expand(b"iv", 12)
        self.number = 0

    def record(self, kind, data, padding=0):
        inner = data + bytes([kind]) + bytes(padding)
        header = struct.pack(">BHH", 23, 0x303, len(inner) + 16)
        nonce = (int.from_bytes(self.iv, "big") ^ self.number).to_bytes(12, "big")
        self.number += 1
        out, tag = ctypes.create_string_buffer(len(inner)), ctypes.create_string_buffer(16)
        count = ctypes.c_int()
        crypto, cipher = self.crypto, self.cipher
        crypto.EVP_EncryptInit_ex(cipher, self.algorithm, None, self.key, nonce)
        crypto.EVP_EncryptUpdate(cipher, None, ctypes.byref(count), header, 5)
        crypto.EVP_EncryptUpdate(cipher, out, ctypes.byref(count), inner, len(inner))
        crypto.EVP_EncryptFinal_ex(cipher, None, ctypes.byref(count))
        crypto.EVP_CIPHER_CTX_ctrl(cipher, 0x10, 16, tag)
        return header + out.raw + tag.raw

    def key_update(self, wants_one=0):
        record = self.record(22, bytes([24, 0, 0, 1, wants_one]))
        self.secret = self.expand(b"traffic upd", 48)
        self.begin()
        return record


def forge(host, port):
    stream = socket.create_connection((host, int(port)), timeout=PATIENCE)
    return Forger(stream, client_context)


# --- Scenes: servers ---------------------------------------------------------

SCENES = {}


def scene(function):
    SCENES[function.__name__.replace("_", "-")] = function
    return function


@scene
def serves(host, port, kind, cert=None):
    """A new client of each version has its answer, and the polite end."""
    for version in BOTH:
        with connect(host, port, client_context(version, cert)) as peer:
            peer.handshake()
            assert peer.tls.version() == version.name.replace("_", "."), peer.tls.version()
            assert peer.tls.compression() is None
            peer.talk(kind)
            peer.end()


@scene
def half_closes(host, port, size):
    """Sends so much and says that this was all, before it reads."""
    data = random.Random(1).randbytes(int(size))
    for version in BOTH:
        with connect(host, port, client_context(version)) as peer:
            peer.handshake()
            wire = peer.record(data)
            peer.say_end(send=False)
            wire += peer.goes.read()
            speaker = threading.Thread(target=peer.stream.sendall, args=(wire,))
            speaker.start()
            assert peer.receive(len(data)) == data
            peer.expect_end()
            speaker.join()


@scene
def bytes_of_all_kinds(host, port):
    """All values, zeros, records of a byte each, and of 16,384 bytes."""
    data = bytes(range(256)) + bytes(5000) + b"end"
    for version in BOTH:
        with connect(host, port, client_context(version)) as peer:
            peer.handshake()
            for sizes in ([len(data)], [1] * 300, [16384, 1, 16384, 16383]):
                for size in sizes:
                    piece = (data * 4)[:size]
                    peer.send(piece)
                    assert peer.receive(size) == piece
            peer.end()


# What the handshake is cut at: a byte, the head of a record, its half, all.
def cuts_of(flight):
    return sorted({0, 1, 4, 5, 6, len(flight) // 2, len(flight) - 1, len(flight)})


def cut_handshakes(host, port, end):
    """A handshake cut at many places; end(peer) is how."""
    count = 0
    for version in BOTH:
        number = 0
        while number < 2:
            with connect(host, port, client_context(version)) as probe:
                flights = probe.flights()
                for _ in range(number):
                    probe.stream.sendall(next(flights))
                places = cuts_of(next(flights))
            for place in places:
                with connect(host, port, client_context(version)) as peer:
                    flights = peer.flights()
                    for _ in range(number):
                        peer.stream.sendall(next(flights))
                    peer.stream.sendall(next(flights)[:place])
                    end(peer)
                    count += 1
            number += 1
            count += 1  # the probe
    return count


@scene
def handshakes_cut(host, port):
    def end(peer):
        peer.half_close()
        peer.wait_for_end()
    print(cut_handshakes(host, port, end))


@scene
def handshakes_reset(host, port):
    print(cut_handshakes(host, port, Peer.reset))


@scene
def resets_at_the_end(host, port, kind):
    """Resets and vanishings at each stage of a polite end."""
    def vanish(peer):
        peer.stream.close()

    count = 0
    for version in BOTH:
        for end in (Peer.reset, vanish):
            for stage in range(6):
                with connect(host, port, client_context(version)) as peer:
                    peer.handshake()
                    if stage >= 1:
                        peer.talk(kind)
                    if stage == 2:  # with the answer unread
                        peer.send(search("ring"))
                    if stage >= 3:
                        peer.say_end()
                    if stage == 4:
                        peer.half_close()
                    if stage == 5:
                        peer.expect_end()
                    end(peer)
                    count += 1
    print(count)


@scene
def ends_and_resets(host, port, kind):
    """Says its end, hears the server's, and resets; in one go, too."""
    for version in BOTH:
        for once in (False, True):
            with connect(host, port, client_context(version)) as peer:
                peer.handshake()
                peer.talk(kind)
                peer.say_end()
                if not once:
                    peer.expect_end()
                else:
                    # Until the server has read it, a reset would destroy it.
                    peer.stream.recv(1, socket.MSG_PEEK)
                peer.reset()


@scene
def given_up(host, port):
    """Asks nothing more, until the server closes, and says so."""
    for version in BOTH:
        with connect(host, port, client_context(version)) as peer:
            peer.handshake()
            peer.talk("app")
            peer.expect_end()


@scene
def cut_echo(host, port):
    """An end without close_notify, after an echo."""
    for version in BOTH:
        with connect(host, port, client_context(version)) as peer:
            peer.handshake()
            peer.talk("echo")
            peer.half_close()
            peer.wait_for_end()


@scene
def cut_requests(host, port):
    """The end of the stream, without close_notify, at every byte of a request
    in three records. Says what the server should complain of."""
    request = search("ring")
    head = struct.unpack(">H", request[:2])[0]
    parts = (request[:2], request[2:2 + head], request[2 + head:])
    for version in BOTH:
        at = step = 0
        while True:
            with connect(host, port, client_context(version)) as peer:
                peer.handshake()
                peer.talk("app", "before")
                wire = [peer.record(part) for part in parts]
                size = sum(map(len, wire))
                whole = sum(at >= sum(map(len, wire[:n])) for n in (1, 2, 3))
                peer.stream.sendall(b"".join(wire)[:at])
                peer.half_close()
                if whole == 3:
                    peer.expect_result(answer_to("ring"))
                peer.wait_for_end()
            # Of a part of a record, nobody knows what it was to be.
            print("end of stream inside the " + ("header", "content")[whole - 1]
                  if whole in (1, 2) else "truncated: it ended without close_notify",
                  flush=True)
            step = at == size
            if step:
                break
            at += 1 if at < 8 or size - at < 4 else 3


@scene
def flipped(host, port, kind):
    """One bit of a record is changed on its way: an alert, and the end; who is
    there at the same time notices nothing."""
    bystander = Bystander(host, port, kind)
    for version in BOTH:
        # The last byte of all; one in the middle; the first after the head.
        for place in (-1, 40, 5):
            with connect(host, port, client_context(version)) as peer:
                peer.handshake()
                peer.talk(kind)
                record = bytearray(peer.record(search("ring")))
                record[place] ^= 0x10
                peer.stream.sendall(record)
                peer.expect_alert("ALERT_BAD_RECORD_MAC")
            bystander.check()
    bystander.end()


@scene
def forged(host, port, kind):
    """Records that no library sends. Says how many the server refuses."""
    too_long = struct.pack(">BHH", 23, 0x303, 16384 + 257)
    cases = [
        (lambda f: f.record(23, b"x" * 16385), "ALERT_RECORD_OVERFLOW"),
        (lambda f: too_long + bytes(16384 + 257), "ALERT_RECORD_OVERFLOW"),
        (lambda f: struct.pack(">BHH", 23, 0x303, 65535), "ALERT_RECORD_OVERFLOW"),
        (lambda f: f.record(23, b"x")[:-17] + bytes(17), "ALERT"),
        (lambda f: struct.pack(">BHH", 23, 0x303, 5) + bytes(5), "ALERT"),
        (lambda f: b"GET / HTTP/1.0\r\n\r\n", "ALERT"),
        (lambda f: f.record(22, bytes([24, 0, 0, 1, 7])), "ALERT"),
        (lambda f: f.record(22, bytes([24, 0, 0, 2, 0, 0])), "ALERT"),
        (lambda f: f.record(22, bytes([1, 0, 0, 0])), "ALERT_UNEXPECTED_MESSAGE"),
        (lambda f: f.record(22, bytes([20, 255, 255, 255])), "ALERT"),
        (lambda f: f.record(22, bytes([24, 0, 0, 1, 0] * 2)), "ALERT"),
        (lambda f: f.record(22, b""), "ALERT"),
        (lambda f: f.record(20, b"\1"), "ALERT_UNEXPECTED_MESSAGE"),
        (lambda f: f.record(99, b"x"), "ALERT_UNEXPECTED_MESSAGE"),
        (lambda f: f.record(0, b"")[:5] + bytes(17), "ALERT"),
    ]
    bystander = Bystander(host, port, kind)
    for number, (make, alert) in enumerate(cases):
        forger = forge(host, port)
        with forger.peer as peer:
            peer.stream.sendall(make(forger))
            try:
                peer.expect_alert(alert)
            except AssertionError as error:
                raise AssertionError(f"case {number}: {error}") from error
        bystander.check()
    bystander.end()
    print(len(cases))


@scene
def unusual(host, port, kind):
    """Records that are unusual, and right: padded, of one byte, empty, and key
    updates in the middle of all."""
    forger = forge(host, port)
    request = search("ring")
    with forger.peer as peer:
        for at in range(len(request)):
            piece = forger.record(23, request[at:at + 1], padding=at)
            if at % 3 == 0:
                piece += forger.key_update()
            if at % 5 == 0:
                piece += forger.record(23, b"", padding=at)
            peer.stream.sendall(piece)
        if kind == "echo":
            assert peer.receive(len(request)) == request
        else:
            peer.expect_result(answer_to("ring"))


@scene
def floods(host, port, kind, what, seconds):
    """Sends records that are no data for so long, or until it is stopped, and
    meanwhile wants others to be served quickly. Says how it ended."""
    forger = forge(host, port)
    make = {"empty": lambda: forger.record(23, b""),
            "update": forger.key_update,
            "wanted-update": lambda: forger.key_update(1)}[what]
    late, count, ended = [], 0, "no end"
    stop = threading.Event()

    def others():
        with connect(host, port) as peer:
            peer.handshake()
            while not stop.is_set():
                began = time.monotonic()
                peer.talk(kind)
                late.append(time.monotonic() - began)
            peer.end()

    with forger.peer as peer:
        peer.stream.sendall(make())
        speaker = threading.Thread(target=others)
        speaker.start()
        began = time.monotonic()
        try:
            while time.monotonic() - began < float(seconds):
                peer.stream.sendall(b"".join(make() for _ in range(100)))
                count += 100
        except ConnectionError as error:
            ended = type(error).__name__
        ended += f" after {time.monotonic() - began:.1f} s"
        stop.set()
        speaker.join()
    late.sort()
    assert late and late[-1] < 2, f"{len(late)} answers, the slowest after {late[-1:]} s"
    print(f"{count} records, {len(late)} answers of others, {ended}")


@scene
def dribbles(host, port, kind, pause):
    """The handshake and a question, a byte at a time."""
    for version in BOTH:
        with connect(host, port, client_context(version)) as peer:
            for flight in peer.flights():
                for at in range(len(flight)):
                    peer.stream.sendall(flight[at:at + 1])
                    time.sleep(float(pause))
            for byte in peer.record(search("ring")):
                peer.stream.sendall(bytes([byte]))
            if kind == "echo":
                assert peer.receive(len(search("ring"))) == search("ring")
            else:
                peer.expect_result(answer_to("ring"))
            peer.end()


@scene
def late(host, port, seconds, process):
    """Handshakes that are not complete in time, however they pass it: silent,
    with half a ClientHello, with all but the last byte, a byte now and then.
    Each must end at the deadline, and no earlier; and who comes meanwhile is
    served."""
    seconds = float(seconds)
    begun = threading.Barrier(9)

    def wait(peer, began):
        peer.wait_for_end()
        took = time.monotonic() - began
        assert seconds * 0.99 <= took < seconds + 5, f"ended after {took:.2f} s"

    def one(number):
        began = time.monotonic()
        with connect(host, port, client_context(BOTH[number % 2])) as peer:
            flights = peer.flights()
            hello = next(flights)
            begun.wait(PATIENCE)
            if number < 2:
                pass
            elif number < 4:
                peer.stream.sendall(hello[:len(hello) // 2])
            elif number < 6:
                peer.stream.sendall(hello)
                peer.stream.sendall(next(flights)[:-1])
            else:
                try:
                    for at in range(len(hello)):
                        peer.stream.sendall(hello[at:at + 1])
                        time.sleep(0.05)
                        assert time.monotonic() - began < seconds + 5, "it may go on"
                except ConnectionError:
                    pass
            wait(peer, began)

    def good(number):
        if number < 8:
            one(number)
            return
        begun.wait(PATIENCE)
        try:
            with connect(host, port) as peer:
                peer.stream.settimeout(seconds + 4)
                peer.handshake()
                peer.talk("app")
        except TimeoutError as error:
            how = "waits" if state(process) == "S" else "is busy"
            raise AssertionError(f"nobody else is served: the server {how}") from error
    in_threads(9, good)
    print(8)


@scene
def garbage(host, port, kind, count):
    """So many peers that send garbage, in ways of all kinds, beside one that is
    good and notices nothing."""
    chance = random.Random(1)
    hello = next(connect(host, port).flights())
    kinds = [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n",
             chance.randbytes(3000), bytes(3000), b"\x16\x03\x01" + chance.randbytes(3000),
             hello[:60] + chance.randbytes(len(hello) - 60),
             hello + b"x" * 1000, b"\x80\x2e\x01\x00\x02" + bytes(60),
             b"\x15\x03\x01\x00\x02\x02\x28", b"\n"]

    def bad(number):
        for turn in range(int(count) // 10):
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as stream:
                stream.sendall(kinds[number])
                if turn % 3 == 0:
                    stream.shutdown(socket.SHUT_WR)
                    stream.settimeout(PATIENCE)
                    try:
                        while stream.recv(1000):
                            pass
                    except ConnectionError:
                        pass
                elif turn % 3 == 1:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def good(number):
        if number < 10:
            bad(number)
            return
        with connect(host, port) as standing:
            standing.handshake()
            for turn in range(20):
                standing.talk(kind, f"turn {turn}")
                with connect(host, port, client_context(BOTH[turn % 2])) as peer:
                    peer.handshake()
                    peer.talk(kind)
                    peer.end()
            standing.end()
    in_threads(11 if kind == "app" else 10, good)


@scene
def idle(host, port, count, process, most_kb):
    """So many clients, each with an answer, rest; one costs at most so much."""
    def resident():
        with open(f"/proc/{process}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])

    context = client_context()
    peers = []

    def bring(number):
        for _ in range(number):
            peer = connect(host, port, context).handshake()
            peer.talk("app")
            peers.append(peer)
    bring(10)  # what the first of all costs, libraries and all, counts not
    before = resident()
    bring(int(count))
    each = (resident() - before) / int(count)
    for peer in peers:
        peer.talk("app", "still there?")
    print(f"{each:.1f} kB each", flush=True)
    assert each <= float(most_kb), f"{each:.1f} kB a connection"
    sys.stdin.read()


@scene
def backlog(host, port):
    """Full records of requests, while no answer is read, until the server takes
    no more; then all answers, in order."""
    requests = [search(f"{number}" * 3000) for number in range(1000, 2200)]
    for version in BOTH:
        with connect(host, port, client_context(version)) as peer:
            peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            peer.handshake()
            data = b"".join(requests)
            wire = peer.record(data)
            blocked = threading.Event()

            def speak():
                at = 0
                peer.stream.settimeout(0.5)
                while at < len(wire):
                    try:
                        at += peer.stream.send(wire[at:at + 65536])
                    except TimeoutError:
                        blocked.set()
                blocked.set()
            speaker = threading.Thread(target=speak)
            speaker.start()
            assert blocked.wait(PATIENCE)
            assert speaker.is_alive(), "all was taken, with no answer read"
            peer.stream.settimeout(PATIENCE)
            for number in range(1000, 2200):
                peer.expect_result(answer_to(f"{number}" * 3000))
            speaker.join()
            peer.end()


def told_in_silence(host, port, version, cert, alert):
    with connect(host, port, client_context(version, cert)) as peer:
        try:
            peer.handshake()
            peer.expect_alert(alert)
        except ssl.SSLError as error:
            return bool(re.search(alert, str(error)))
        except (AssertionError, ConnectionError):
            return False
        return True


@scene
def refused_client(host, port, alert, size, cert=None):
    """A client whose certificate is refused: it has sent a request of so many
    bytes already when it learns it, and learns why, each time."""
    for version in BOTH:
        for _ in range(5):
            with connect(host, port, client_context(version, cert)) as peer:
                try:
                    peer.handshake()
                    peer.tls.write(bytes(int(size)))
                    peer.stream.sendall(peer.goes.read())
                    peer.expect_alert(alert)
                except ssl.SSLError as error:
                    assert re.search(alert, str(error)), error
                except ConnectionResetError as error:
                    has = "has" if told_in_silence(host, port, version, cert, alert) else "has not"
                    raise AssertionError("a reset came, and no alert; who sends nothing "
                                         f"{has} the alert") from error


@scene
def resumes(host, port, *ports_and_wishes):
    """[PORT...] [cert NAME] [not]: a session is resumed, at each port, or is
    not, in which case the handshake is full, and works."""
    wishes = list(ports_and_wishes)
    ports = [port] + [word for word in wishes if word.isdigit()]
    cert = wishes[wishes.index("cert") + 1] if "cert" in wishes else None
    for version in BOTH:
        context = client_context(version, cert)
        session = None
        for number in range(10):
            with connect(host, ports[number % len(ports)], context, session=session) as peer:
                peer.handshake()
                assert peer.tls.session_reused == (number > 0), f"{version} {number}"
                peer.talk("app")
                session = peer.tls.session
                peer.end()


@scene
def resumes_after(host, port, wanted, cert=None):
    """Makes a session of each version, says "ready", waits for a line, and tries
    to resume them: wanted is "yes" or "no"."""
    kept = []
    for version in BOTH:
        context = client_context(version, cert)
        with connect(host, port, context) as peer:
            peer.handshake()
            peer.talk("app")
            kept.append((context, peer.tls.session))
            peer.end()
    print("ready", flush=True)
    sys.stdin.readline()
    for context, session in kept:
        with connect(host, port, context, session=session) as peer:
            peer.handshake()
            assert peer.tls.session_reused == (wanted == "yes"), \
                f"{peer.tls.version()}: resumed: {peer.tls.session_reused}"
            peer.talk("app")
            peer.end()


def fingerprint(peer):
    return hashlib.sha256(peer.tls.getpeercert(True)).hexdigest()


@scene
def shows(host, port, count="1"):
    """The fingerprints of the certificates that so many clients see."""
    seen = set()
    for _ in range(int(count)):
        with connect(host, port) as peer:
            peer.handshake()
            seen.add(fingerprint(peer))
            peer.talk("app")
            peer.end()
    print(*sorted(seen), sep="\n")


@scene
def stays(host, port):
    """Talks, says "ready", and after each line that comes, talks again."""
    peers = [connect(host, port, client_context(version)).handshake() for version in BOTH]
    for peer in peers:
        peer.talk("app")
    print("ready", flush=True)
    for _ in sys.stdin:
        for peer in peers:
            peer.talk("app", "after")
        print("served", flush=True)
    for peer in peers:
        peer.end()


@scene
def load(host, port):
    """Clients without a pause, until SIGTERM: none may see an error. Says how
    many certificates they saw."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    seen = set()

    def one(number):
        context = client_context(BOTH[number % 2])
        while not stop.is_set():
            with connect(host, port, context) as peer:
                peer.handshake()
                seen.add(fingerprint(peer))
                peer.talk("app")
                peer.end()
    print("ready", flush=True)
    in_threads(4, one)
    print(len(seen))


def state(process):
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0]


def ticks(process):
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        words = file.read().rsplit(")", 1)[1].split()
    return int(words[11]) + int(words[12])


@scene
def slow_readers(host, port, process):
    """Says hello and takes nothing, so that the server's handshake has to wait
    until it can write; that costs it no time. Then all is taken, slowly."""
    peers = []
    for version in BOTH:
        peer = connect(host, port, client_context(version))
        peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        flights = peer.flights()
        peer.stream.sendall(next(flights))
        peers.append((peer, flights))
    time.sleep(0.3)
    before = ticks(process)
    time.sleep(0.6)
    assert ticks(process) - before <= 2, "the server is busy waiting"
    for peer, flights in peers:
        peer.feed = lambda peer=peer: peer.came.write(peer.stream.recv(1000))
        for flight in flights:
            peer.stream.sendall(flight)
        peer.talk("app")
        peer.end()
        peer.stream.close()


@scene
def churn(host, port, process, count, most_kb):
    """So many clients of all kinds, one after another: the memory stays."""
    def resident():
        with open(f"/proc/{process}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])

    contexts = [client_context(version) for version in BOTH]

    def some(number):
        for turn in range(number):
            with connect(host, port, contexts[turn % 2]) as peer:
                way = turn % 5
                if way == 0:
                    peer.stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    peer.wait_for_end()
                elif way == 1:
                    peer.stream.sendall(next(peer.flights())[:100])
                elif way == 2:
                    peer.handshake()
                    peer.stream.sendall(bytes(20))
                    peer.wait_for_end()
                elif way == 3:
                    peer.handshake()
                    peer.talk("app")
                    peer.reset()
                else:
                    peer.handshake()
                    peer.talk("app", "x" * 30000)
                    peer.end()
    some(200)
    before = resident()
    some(int(count))
    grown = resident() - before
    assert grown <= int(most_kb), f"grew by {grown} kB"


# --- Scenes: clients ---------------------------------------------------------

def answer_one(peer, kind):
    """Returns False if there was nothing to answer."""
    data = peer.read(65536)
    if data and kind == "app":
        peer.input += data
        peer.send(protocol.answer(*peer.message()))
    elif data:
        peer.send(data)
    return data != b""


@scene
def serve(host, _port, kind, *wishes):
    """A server, which says its port, and then a line about each connection.
    Wishes: "1.2" or "1.3"; "cert NAME"; "ca NAME", of its clients; "alpn NAME";
    "one", to end after one answer."""
    wishes = list(wishes)

    def wish(name):
        return wishes[wishes.index(name) + 1] if name in wishes else None

    version = V12 if "1.2" in wishes else V13 if "1.3" in wishes else None
    context = server_context(version, wish("cert") or "server", wish("ca"))
    names = []
    context.sni_callback = lambda _, name, __: names.append(name)
    if wish("alpn"):
        context.set_alpn_protocols([wish("alpn")])
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    print(listener.getsockname()[1], flush=True)
    while True:
        stream = listener.accept()[0]
        names.clear()
        with Peer(stream, context, server=True) as peer:
            try:
                peer.handshake()
                client = peer.tls.getpeercert()
                who = dict(part[0] for part in client["subject"])["commonName"] if client else None
                print(f"{peer.tls.version()} {peer.tls.cipher()[0]} name={names[0]} alpn={peer.tls.selected_alpn_protocol()}"
                      f" resumed={peer.tls.session_reused} client={who}", end=" ", flush=True)
                while answer_one(peer, kind) and "one" not in wishes:
                    pass
                if "one" in wishes:
                    peer.say_end()
                    peer.expect_end()
                else:
                    peer.say_end()
                print("polite end", flush=True)
            except (OSError, AssertionError) as error:
                print(error, flush=True)


def with_its_words(error, client):
    """The error of a server whose client may know more of it."""
    try:
        client.wait(2)
    except subprocess.TimeoutExpired:
        client.kill()
    said = client.communicate()[1].decode().strip()
    return AssertionError(f"{error}; the client said: {said or 'nothing'}")


def run_client(command, behave, context=None, server=True):
    """Runs a client, with the port where @ is, against a server that does
    behave(peer), and returns (status, output, errors)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = subprocess.Popen(
            [str(port) if word == "@" else word for word in command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        listener.settimeout(PATIENCE)
        with Peer(listener.accept()[0], context or server_context(), server) as peer:
            try:
                behave(peer)
            except ConnectionError:
                pass
            except (OSError, AssertionError) as error:
                peer.stream.close()
                raise with_its_words(error, client) from error
            output, errors = client.communicate(timeout=PATIENCE)
    return (client.returncode, output.decode(),
            errors.decode().replace(f"127.0.0.1:{port}", "A"))


REPLY = {"echo": b"hello", "app": encode_json({"result": "yes"})}


def take_request(peer, kind):
    """Returns the records of the reply, in three parts, not sent."""
    if kind == "echo":
        peer.receive(5)
    else:
        peer.message()
    reply = REPLY[kind]
    return [peer.record(part) for part in (reply[:2], reply[2:3], reply[3:])]


def take_end(peer):
    """Waits for the client's close_notify."""
    while peer.read(1000):
        pass


def endings(kind):
    """Yields (what, behave(peer), status, whether it shows the reply, what it
    complains of)."""
    if kind == "echo":
        def lost(why, count=0):
            return f"receive from A: {why}, got {count} of 5 bytes"
        cut, early = "truncated: it ended without close_notify", "ended early"
    else:
        def lost(why, count=0):
            return f"response from A: {why}"
        cut = early = "truncated: the connection closed early"
    polite = "truncated: it ended without close_notify"

    def after_request(act):
        def behave(peer):
            peer.handshake()
            act(peer, take_request(peer, kind))
        return behave

    def whole(end):
        def act(peer, wire):
            peer.stream.sendall(b"".join(wire))
            end(peer)
        return after_request(act)

    def say_and_wait(peer):
        peer.say_end()
        peer.half_close()

    def end_then_reset(peer):
        take_end(peer)
        peer.say_end()
        peer.reset()

    def reset_late(peer):
        take_end(peer)
        peer.reset()

    yield "all", whole(say_and_wait), 0, True, None
    yield "close_notify and a reset", whole(end_then_reset), 0, True, None
    yield ("no close_notify", whole(Peer.half_close), *(
        (1, True, lost(polite, 5)) if kind == "echo"
        else (0, True, f"end of A: {polite}")))
    yield ("reset at the end", whole(reset_late), *(
        (1, True, lost("Connection reset by peer", 5)) if kind == "echo"
        else (0, True, "end of A: Connection reset by peer")))

    def sends_more(peer, wire):
        peer.stream.sendall(b"".join(wire) + peer.record(b"!"))
        take_end(peer)
        say_and_wait(peer)
    yield "more", after_request(sends_more), 1, True, \
        lost("more than was sent", 6) if kind == "echo" else lost("more than was asked for")

    # The sizes of the three records in TLS 1.3: 22 bytes, and their contents.
    sizes = [22 + 2, 22 + 1, 22 + len(REPLY[kind]) - 3]
    for at in sorted({0, 1, 4, 5, 6, sizes[0] - 1, *range(0, sum(sizes), 9),
                      sizes[0], sizes[0] + sizes[1], sum(sizes) - 1}):
        count = 2 * (at >= sizes[0]) + (at >= sizes[0] + sizes[1])

        def cut_there(peer, wire, at=at):
            peer.stream.sendall(b"".join(wire)[:at])
            peer.half_close()
        yield f"cut at {at}", after_request(cut_there), 1, False, lost(cut, count)

        def reset_there(peer, wire, at=at):
            peer.stream.sendall(b"".join(wire)[:at])
            peer.reset()
        yield f"reset at {at}", after_request(reset_there), 1, False, \
            lost("Connection reset by peer", count)
    def end_early(peer):
        peer.handshake()
        if kind == "echo":
            peer.receive(5)
        else:
            peer.message()
        peer.send(REPLY[kind][:3])
        say_and_wait(peer)
    yield "close_notify in the middle", end_early, 1, False, lost(early, 3)

    def flip(peer, wire):
        record = bytearray(b"".join(wire))
        record[-1] ^= 1
        peer.stream.sendall(record)
        try:
            take_end(peer)
            raise AssertionError("a polite end instead of an alert")
        except ssl.SSLError as error:
            assert "ALERT_BAD_RECORD_MAC" in str(error), error
    yield "a flipped bit", after_request(flip), 1, False, \
        lost("decryption failed or bad record mac", 3)


def beginnings():
    """The same, for what is no handshake, or not a whole one."""
    broken = "handshake with A: the peer ended it before it was complete"

    def sends(data):
        def behave(peer):
            peer.stream.sendall(data)
            peer.half_close()
            peer.wait_for_end()
        return behave

    def first_flight(place, end):
        def behave(peer):
            peer.feed()
            flight = next(peer.flights())
            peer.stream.sendall(flight[:int(len(flight) * place)])
            end(peer)
        return behave

    def reset(peer):
        peer.feed()  # else it may be the connecting that fails
        peer.reset()

    yield "ends", Peer.half_close, broken
    yield "resets", reset, "handshake with A: Connection reset by peer"
    yield "HTTP", sends(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "handshake with A: wrong version number"
    yield "SSH", sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "handshake with A: wrong version number"
    yield "zeros", sends(bytes(1000)), "handshake with A: wrong version number"
    yield "an alert", sends(b"\x15\3\3\0\2\2\x28"), "handshake with A: sslv3 alert handshake failure"
    for place in (0.01, 0.5, 0.99):
        yield f"cut at {place}", first_flight(place, Peer.half_close), broken
        yield f"reset at {place}", first_flight(place, Peer.reset), \
            "handshake with A: Connection reset by peer"


@scene
def ends_of_servers(_host, _port, kind, *command):
    """Servers that end in ways of all kinds; what the client must say to each."""
    shown = {"echo": "Received 'hello'\n", "app": "Got result: yes\n"}[kind]
    program = os.path.basename(command[0])
    cases = list(endings(kind))
    for what, behave, why in beginnings():
        cases.append((what, behave, 1, False, why if kind == "app" else
                      why.replace("the peer ended it before it was complete",
                                  "truncated: it ended without close_notify")))

    wrong = []

    def some(number):
        for what, behave, status, shows, why in cases[number::3]:
            came = run_client(command, behave, server_context(V13))
            wanted = (status, shown * shows, f"{program}: {why}\n" if why else "")
            if came != wanted:
                wrong.append((what, f"{what}: {came} instead of {wanted}"))
    in_threads(3, some)
    if wrong:
        if "EVIDENCE" in os.environ:
            print("evidence: the ends that are taken wrong:",
                  ", ".join(sorted(what for what, _ in wrong)))
        raise AssertionError(wrong[0][1])
    print(len(cases))


@scene
def early_error(_host, _port, *command):
    """A server that answers before it has read the request, and is gone, by a
    reset, before the client looks: its next act is a write, which fails; and
    yet it is told why."""
    error = encode_json({"error": "no, thank you"})
    for version in BOTH:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
            client = subprocess.Popen(
                [port if word == "@" else word for word in command],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            with Peer(listener.accept()[0], server_context(version), server=True) as peer:
                try:
                    peer.handshake()
                    peer.stream.recv(1, socket.MSG_PEEK)  # the request has begun
                except OSError as error:
                    peer.stream.close()
                    raise with_its_words(error, client) from error
                os.kill(client.pid, signal.SIGSTOP)
                while "State:\tT" not in open(f"/proc/{client.pid}/status", encoding="ascii").read():
                    time.sleep(0.001)
                peer.send(error)
                peer.say_end()
                peer.reset()
            os.kill(client.pid, signal.SIGCONT)
            output, errors = client.communicate(timeout=PATIENCE)
            assert (client.returncode, output) == (1, b"") and b"no, thank you" in errors, \
                (client.returncode, output, errors)


@scene
def changes_keys(_host, _port, kind, *command):
    """A server that answers with padded and empty records, and key updates
    between them; and one that sends nothing else for ever, until the client
    gives up (but not the one that waits for bytes, and says that it may)."""
    for flood in (False, True) if kind == "app" else (False,):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
            client = subprocess.Popen(
                [port if word == "@" else word for word in command],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            with listener.accept()[0] as stream:
                try:
                    forger = Forger(stream, server_context, server=True)
                except OSError as error:
                    stream.close()
                    raise with_its_words(error, client) from error
                peer = forger.peer
                take_request(peer, kind)
                # Python has sent session tickets with the secret, and replies
                # that never left; the numbers of those that did are known.
                forger.number = 2
                began = time.monotonic()
                if flood:
                    try:
                        while time.monotonic() - began < 20:
                            peer.stream.sendall(b"".join(forger.key_update() for _ in range(50)))
                    except ConnectionError:
                        pass
                    output, errors = client.communicate(timeout=PATIENCE)
                    took = time.monotonic() - began
                    assert client.returncode == 1 and output == b"" and b"timed out" in errors, \
                        (client.returncode, output, errors)
                    assert took < 10, took
                    return
                for byte in REPLY[kind]:
                    peer.stream.sendall(forger.record(23, b"") + forger.key_update(1)
                                        + forger.record(23, bytes([byte]), 100))
                peer.stream.sendall(forger.record(21, b"\1\0"))
                peer.half_close()
                output, errors = client.communicate(timeout=PATIENCE)
                assert (client.returncode, errors) == (0, b""), (client.returncode, errors)


@scene
def alpn(host, port, wanted, *offers):
    """Offers these, and wants one of them, "none", or to be "refused"."""
    for version in BOTH:
        context = client_context(version)
        if offers:
            context.set_alpn_protocols(offers)
        with connect(host, port, context) as peer:
            try:
                peer.handshake()
                chosen = peer.tls.selected_alpn_protocol() or "none"
            except ssl.SSLError as error:
                assert "NO_APPLICATION_PROTOCOL" in str(error) or "(_ssl" in str(error), error
                chosen = "refused"
            assert chosen == wanted, f"{chosen} instead of {wanted}"


def client_hello(command):
    """The first record that a client sends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        client = subprocess.Popen([port if word == "@" else word for word in command],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with listener.accept()[0] as stream:
            head = stream.recv(5, socket.MSG_WAITALL)
            data = stream.recv(struct.unpack(">H", head[3:])[0], socket.MSG_WAITALL)
        client.wait(PATIENCE)
    return data


@scene
def offers(_host, _port, *command):
    """What a client offers, as numbers."""
    data = client_hello(command)
    at = 4 + 2 + 32

    def block(size):
        """The next field, which has its length before it."""
        nonlocal at
        length = int.from_bytes(data[at:at + size], "big")
        at += size + length
        return data[at - length:at]

    def numbers(field):
        return struct.unpack(f">{len(field) // 2}H", field)
    block(1)
    said = ["suites " + " ".join(f"{number:x}" for number in numbers(block(2))),
            "compression " + " ".join(str(method) for method in block(1))]
    at += 2
    while at < len(data):
        kind = struct.unpack(">H", data[at:at + 2])[0]
        at += 2
        field = block(2)
        if kind == 10:
            said.append("groups " + " ".join(map(str, numbers(field[2:]))))
        elif kind == 16:
            said.append("alpn " + field[3:].decode())
        elif kind == 43:
            said.append("versions " + " ".join(f"{number:x}" for number in numbers(field[1:])))
    print(*sorted(said), sep="\n")


@scene
def chooses_otherwise(_host, _port, *command):
    """A server whose choice in ALPN is one that was not offered: no library
    does that unless it is told to by its own callback. Says what the client
    says."""
    tls = ctypes.CDLL("libssl.so.3")
    pointer = ctypes.c_void_p
    for function in ("TLS_server_method", "SSL_CTX_new", "SSL_new"):
        getattr(tls, function).restype = pointer
    choice = ctypes.create_string_buffer(b"h2")

    @ctypes.CFUNCTYPE(ctypes.c_int, pointer, ctypes.POINTER(pointer),
                      ctypes.POINTER(ctypes.c_ubyte), pointer, ctypes.c_uint, pointer)
    def choose(_ssl, out, out_len, _offered, _len, _argument):
        out[0], out_len[0] = ctypes.addressof(choice), 2
        return 0
    context = pointer(tls.SSL_CTX_new(pointer(tls.TLS_server_method())))
    tls.SSL_CTX_use_certificate_chain_file(context, f"{CERTS}/server.pem".encode())
    tls.SSL_CTX_use_PrivateKey_file(context, f"{CERTS}/server-key.pem".encode(), 1)
    tls.SSL_CTX_set_alpn_select_cb(context, choose, None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        client = subprocess.Popen([port if word == "@" else word for word in command],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with listener.accept()[0] as stream:
            ssl_ = pointer(tls.SSL_new(context))
            tls.SSL_set_fd(ssl_, stream.fileno())
            tls.SSL_accept(ssl_)
            said = client.communicate(timeout=PATIENCE)[0].decode()
    assert client.returncode == 1, (client.returncode, said)
    print(said.replace(f"127.0.0.1:{port}", "A"), end="")


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in SCENES:
        sys.exit(__doc__)
    name, host, port, *arguments = sys.argv[1:]
    SCENES[name](host, port, *arguments)


if __name__ == "__main__":
    try:
        main()
    except (OSError, AssertionError, protocol.Wrong) as failure:
        if os.environ.get("TRACE"):
            raise
        sys.exit(f"tls_peer: {str(failure) or type(failure).__name__}"[:2000])
