#!/usr/bin/env python3
"""The echo client of exercises 1.2 and 1.4 in Python: see echo_server.py."""
import getopt
import os
import socket
import sys
import time

USAGE = """Usage: [-t SECONDS] [-T SECONDS] [-q] [HOST [PORT [MESSAGE]]]
MESSAGE - is standard input; -t limits each wait, and -T all of them."""
STEP = 4096


def die(text):
    os.write(2, f"echo-client: {text}\n".encode(errors="replace"))
    os._exit(1)


def write_all(data):
    try:
        while data:
            data = data[os.write(1, data):]
    except OSError as error:
        die(f"standard output: {error.strerror}")


def why(error):
    return ("Connection timed out" if isinstance(error, TimeoutError)
            else error.strerror)


class Patience:
    """How long the next call may wait: for -t, and for what is left of -T."""
    def __init__(self, wait, total):
        self.wait, self.end = wait, total and time.monotonic() + total

    def limit(self, sock):
        left = self.end - time.monotonic() if self.end else self.wait
        if left <= 0:
            raise TimeoutError
        sock.settimeout(min(left, self.wait))
        return sock


def connect_any(host, port, patience):
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        die(f"resolve {host}: {getattr(error, 'strerror', error)}")
    for family, _, _, _, address in found:
        name = (f"[{address[0]}]:{port}" if family == socket.AF_INET6
                else f"{address[0]}:{port}")
        server = socket.socket(family)
        try:
            patience.limit(server).connect(address)
            return server, name
        except OSError as error:
            server.close()
            reason = why(error)
    die(f"connect to {name}: {reason}")


class Talk:
    def __init__(self, server, name, patience):
        self.server, self.name, self.patience = server, name, patience
        self.sent = self.received = self.wrong = 0

    def fail(self, what, reason):
        die(f"{what} {self.name}: {reason}, got {self.received} of "
            f"{self.sent} bytes")

    def receive(self, size):
        try:
            data = self.patience.limit(self.server).recv(size)
        except OSError as error:
            self.fail("receive from", why(error))
        self.received += len(data)
        return data

    def exchange(self, data):
        left, echo = data, b""
        try:
            while left:
                count = self.patience.limit(self.server).send(left)
                self.sent += count
                left = left[count:]
        except OSError as error:
            self.fail("send to", why(error))
        while len(echo) < len(data):
            piece = self.receive(len(data) - len(echo))
            if not piece:
                self.fail("receive from", "connection closed early")
            echo += piece
        for at, (sent, came) in enumerate(zip(data, echo)):
            if sent != came and not self.wrong:
                self.wrong = self.received - len(data) + at + 1
        return echo

    def finish(self):
        try:
            self.server.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # a reset came first, and receive() says so
        if self.receive(1):
            self.fail("receive from", "more than was sent")
        if self.wrong:
            die(f"receive from {self.name}: byte {self.wrong} is not the one "
                "that was sent")


def quote(data):
    text = data[:64].decode(errors="backslashreplace")
    text = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'" + (f"… ({len(data)} bytes)" if len(data) > 64 else "")


def main():
    try:
        options, arguments = getopt.getopt(sys.argv[1:], "t:T:qh")
        options = dict(options)
        if "-h" in options:
            print(USAGE)
            return
        patience = Patience(float(options.get("-t", 60)),
                            int(options["-T"]) if "-T" in options else None)
        if patience.end is not None and int(options["-T"]) < 1:
            raise ValueError
    except (getopt.GetoptError, ValueError):
        sys.stderr.write(f"echo-client: what is that?\n{USAGE}\n")
        sys.exit(2)
    host, port, message = (arguments
                           + ["127.0.0.1", "65432", "Hello, world"][len(arguments):])
    if host.startswith("[") and ":" in host and host.endswith("]"):
        host = host[1:-1]
    talk = Talk(*connect_any(host, int(port), patience), patience)
    if message == "-":
        try:
            while data := os.read(0, STEP):
                write_all(talk.exchange(data))
        except OSError as error:
            die(f"standard input: {error.strerror}")
    else:
        data = os.fsencode(message)
        echo = b"".join(talk.exchange(data[at:at + STEP])
                        for at in range(0, len(data), STEP))
        if "-q" not in options:
            write_all(f"Received {quote(echo)}\n".encode())
    talk.finish()


main()
