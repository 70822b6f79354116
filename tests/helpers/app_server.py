#!/usr/bin/env python3
"""The app-server of exercises 3.2 and 3.3 in Python, made of protocol.py: it
knows the action "length", and JSON in UTF-16. A thread for each client. The
grader must give it full marks. Usage: [-t SECONDS] [-q] [HOST [PORT]]"""
import getopt
import os
import signal
import socket
import sys
import threading

sys.dont_write_bytecode = True
import protocol  # noqa: E402

MOST_DRAINED = 1 << 20
CLOSING_SECONDS = 2


def length(request):
    return str(len(protocol.value_of(request)))


def from_utf_16(header, content):
    marks = {b"\xfe\xff": "utf-16-be", b"\xff\xfe": "utf-16-le"}
    name = marks.get(content[:2])
    if name:
        content = content[2:]
    else:
        name = "utf-16-be" if header["byteorder"] == "big" else "utf-16-le"
    try:
        return content.decode(name).encode()
    except UnicodeDecodeError as error:
        raise protocol.Wrong("content: not UTF-16") from error


protocol.ACTIONS["length"] = length
protocol.ENCODINGS["utf-16"] = from_utf_16


def complain(text):
    os.write(2, f"app-server: {text}\n".encode(errors="replace"))


def take_leave(client):
    """The lingering close of section 4."""
    client.shutdown(socket.SHUT_WR)
    client.settimeout(CLOSING_SECONDS)
    drained = 0
    while drained < MOST_DRAINED and (more := client.recv(65536)):
        drained += len(more)


def place(data):
    """Where the bytes of a message that is not complete end."""
    if len(data) < 2:
        return "length"
    return ("header" if len(data) < 2 + int.from_bytes(data[:2], "big")
            else "content")


def talk(client):
    data = b""
    while more := client.recv(65536):
        data += more
        while (message := protocol.decode(data)) is not None:
            header, content, taken = message
            client.sendall(protocol.answer(header, content))
            data = data[taken:]
    if data:
        raise protocol.Wrong(f"end of stream inside the {place(data)}")


def serve(client, peer, seconds):
    with client:
        client.settimeout(seconds)
        try:
            try:
                talk(client)
            except protocol.Wrong as wrong:
                complain(f"connection from {peer}: {wrong}")
                client.sendall(protocol.encode_json({"error": str(wrong)}))
                take_leave(client)
        except OSError as error:
            complain(f"connection from {peer}: {error.strerror or error}")


def main():
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda *_: os._exit(0))
    options, arguments = getopt.getopt(sys.argv[1:], "t:q")
    options = dict(options)
    host, port = arguments + ["127.0.0.1", "65432"][len(arguments):]
    listener = socket.create_server((host, int(port)), backlog=1024)
    host, port = listener.getsockname()[:2]
    print(f"Listening on {host}:{port}", flush=True)
    while True:
        client, (host, port) = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, daemon=True, args=(
            client, f"{host}:{port}", float(options.get("-t", 60)))).start()


main()
