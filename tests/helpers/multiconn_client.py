#!/usr/bin/env python3
"""The client of exercise 2.3 in Python: see multiconn_server.py.
Usage: [-t SECONDS] [-q] HOST PORT CONNECTIONS [MESSAGE...]"""
import errno
import getopt
import os
import selectors
import socket
import sys
import time

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def complain(text):
    os.write(2, f"multiconn-client: {text}\n".encode())


def die(text):
    complain(text)
    os._exit(1)


def say(text):
    os.write(1, text.encode(errors="surrogateescape") + b"\n")


def quote(data):
    """What came from a peer, as text that does nothing to a terminal."""
    text = data[:64].decode(errors="surrogateescape")
    text = "".join("\\" + c if c in "\\'" else c if c.isprintable() else
                   {"\n": "\\n", "\a": "\\a"}.get(c) or "".join(
                       f"\\x{byte:02x}" for byte in c.encode(errors="surrogateescape"))
                   for c in text)
    return f"'{text}'" + (f"… ({len(data)} bytes)" if len(data) > 64 else "")


class Failure(Exception):
    """Why a connection fails."""


class Connection:
    failed = 0

    def __init__(self, number, addresses):
        self.number, self.addresses = number, addresses
        self.socket, self.standing = None, False
        self.sent = self.received = 0
        self.ends = list(ENDS)  # where the messages end that are still to be sent
        self.start()

    def start(self):
        self.family, *_, self.address = self.addresses[0]
        host, port = self.address[:2]
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        narrate(f"Starting connection {self.number} to {self.name}")
        self.progress = time.monotonic()
        try:
            self.socket = socket.socket(self.family)
            self.socket.setblocking(False)
            error = self.socket.connect_ex(self.address)
            if error not in (0, errno.EINPROGRESS, errno.EINTR):
                raise OSError(error, os.strerror(error))
            selector.register(self.socket, WRITE, self)
        except OSError as error:
            self.fail(error.strerror)

    def hang_up(self):
        if self.socket:
            if self.socket in selector.get_map():
                selector.unregister(self.socket)
            self.socket.close()
        self.socket = None

    def fail(self, why):
        self.hang_up()
        if not self.standing and len(self.addresses) > 1:
            self.addresses = self.addresses[1:]
            self.start()
            return
        Connection.failed += 1
        complain(f"connection {self.number} to {self.name}: {why}, "
                 f"got {self.received} of {len(SCRIPT)} bytes")

    def ready(self, events):
        try:
            if not self.standing:
                self.end_connect()
            elif events & READ:
                self.hear()
            else:
                self.speak()
        except BlockingIOError:
            pass
        except OSError as error:
            self.fail(error.strerror)
        except Failure as failure:
            self.fail(failure)
        self.progress = time.monotonic()
        if self.standing and self.socket:
            selector.modify(self.socket, READ | WRITE if self.sent < len(SCRIPT)
                            else READ, self)

    def end_connect(self):
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        self.standing = True
        self.finish_if_complete()

    def finish_if_complete(self):
        if self.received == len(SCRIPT):
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # a reset came first, and recv() says so

    def speak(self):
        end = self.ends[0]
        before = self.sent
        self.sent += self.socket.send(SCRIPT[before:end])
        if before in STARTS:
            narrate(f"Sending {quote(SCRIPT[before:end])} to connection {self.number}")
        if self.sent == end:
            self.ends.pop(0)

    def hear(self):
        data = self.socket.recv(16384)
        if not data and self.received < len(SCRIPT):
            raise Failure("connection closed early")
        if not data:
            narrate(f"Closing connection {self.number}")
            self.hang_up()
            return
        narrate(f"Received {quote(data)} from connection {self.number}")
        if len(data) > self.sent - self.received:
            raise Failure("more than was sent")
        if data != SCRIPT[self.received:self.received + len(data)]:
            raise Failure("not what was sent")
        self.received += len(data)
        self.finish_if_complete()


def take_turn(connections):
    standing = [each for each in connections if each.socket]
    if not standing:
        return False
    first = min(each.progress for each in standing)
    ready = selector.select(max(0, first + TIMEOUT - time.monotonic()))
    for key, events in ready:
        if key.fileobj is key.data.socket:
            key.data.ready(events)
    served = {key.data for key, _ in ready}
    for each in standing:
        if (each not in served and each.socket
                and time.monotonic() - each.progress > TIMEOUT):
            each.fail(os.strerror(errno.ETIMEDOUT))
    return True


options, arguments = getopt.getopt(sys.argv[1:], "t:q")
options = dict(options)
HOST, PORT, COUNT, *messages = map(os.fsencode, arguments)
TIMEOUT = float(options.get("-t", 60))
narrate = (lambda text: None) if "-q" in options else say
messages = [message for message in messages or [b"Message 1 from client.",
                                                b"Message 2 from client."] if message]
SCRIPT = b"".join(messages)
ENDS = [sum(map(len, messages[:at + 1])) for at in range(len(messages))]
STARTS = {0, *ENDS}
selector = selectors.DefaultSelector()
try:
    found = socket.getaddrinfo(HOST.decode(), PORT.decode(), type=socket.SOCK_STREAM)
except socket.gaierror as error:
    die(f"resolve {HOST.decode()}: {error.strerror}")
everybody = [Connection(number + 1, found) for number in range(int(COUNT))]
while take_turn(everybody):
    pass
if Connection.failed:
    die(f"{Connection.failed} of {int(COUNT)} connections failed")
