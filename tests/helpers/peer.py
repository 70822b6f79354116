#!/usr/bin/env python3
"""A peer that is not ours, scripted on the command line.

    peer.py connect HOST PORT STEP...     one connection to a server
    peer.py listen HOST PORT STEP...      prints its port (0: a free one), then
                                          serves one connection

Steps, done in order:
    accept            (listen only) the next connection; the first is implied
    send TEXT         all of TEXT, with Python's escapes: \\x1b, \\n
    random N          N bytes, always the same ones
    zeros N           N zero bytes, for a flood; waits as long as it takes
    receive N         exactly N bytes; ends with status 1 if fewer come
    expect TEXT       exactly these bytes
    dribble N         sends back N bytes, one at a time, each as it arrives
    echo              sends back all that arrives until the end
    end               expects the end of the stream; tells what came before it
    half-close        SHUT_WR: no more from us, and we still receive
    reset             RST instead of a polite end
    close             close()
    hold              does nothing until standard input ends
    say TEXT          a line on standard output, for a test to wait for

A receive that would wait for more than 20 seconds ends it with status 1.
"""
import random
import socket
import struct
import sys


def fail(text):
    sys.exit(f"peer: {text}")


def receive(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            fail(f"the end came after {len(data)} of {size} bytes: {data[:64]!r}")
        data += piece
    return data


def text_bytes(text):
    return text.encode("utf-8").decode("unicode_escape").encode("latin-1")


def perform(connection, listener, steps):
    while steps:
        step = steps.pop(0)
        if step == "accept":
            connection = listener.accept()[0]
            connection.settimeout(20)
        elif step == "send":
            connection.sendall(text_bytes(steps.pop(0)))
        elif step == "random":
            connection.sendall(random.Random(1).randbytes(int(steps.pop(0))))
        elif step == "zeros":
            connection.settimeout(None)
            connection.sendall(bytes(int(steps.pop(0))))
            connection.settimeout(20)
        elif step == "receive":
            receive(connection, int(steps.pop(0)))
        elif step == "expect":
            wanted = text_bytes(steps.pop(0))
            came = receive(connection, len(wanted))
            if came != wanted:
                fail(f"expected {wanted!r}, got {came!r}")
        elif step == "dribble":
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(int(steps.pop(0))):
                connection.sendall(receive(connection, 1))
        elif step == "echo":
            while data := connection.recv(65536):
                connection.sendall(data)
        elif step == "end":
            count = 0
            while data := connection.recv(65536):
                count += len(data)
            print(f"{count} bytes before the end", flush=True)
        elif step == "half-close":
            connection.shutdown(socket.SHUT_WR)
        elif step == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                  struct.pack("ii", 1, 0))
            connection.close()
        elif step == "close":
            connection.close()
        elif step == "hold":
            sys.stdin.read()
        elif step == "say":
            print(steps.pop(0), flush=True)
        else:
            fail(f"no such step: {step}")


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in ("connect", "listen"):
        sys.exit(__doc__)
    role, host, port, *steps = sys.argv[1:]
    if role == "connect":
        connection = socket.create_connection((host, int(port)), timeout=20)
        perform(connection, None, steps)
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(port)))
    listener.listen()
    listener.settimeout(600)  # a reader types more slowly than a test
    print(listener.getsockname()[1], flush=True)
    perform(None, listener, ["accept", *steps])


try:
    main()
except OSError as error:
    fail(error)
except KeyboardInterrupt:
    sys.exit(130)  # without a word, as other programs end by Ctrl-C
