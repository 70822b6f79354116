#!/usr/bin/env python3
"""rude.py HOST PORT N: N clients, one after another, each rude in one way."""
import socket
import struct
import sys


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                      struct.pack("ii", 1, 0))


def reset_at_once(client):
    reset(client)


def reset_in_mid_echo(client):
    client.sendall(b"x" * 50000)
    client.recv(1000)
    reset(client)


def vanish_with_unread_answer(client):
    client.sendall(b"x" * 1000)


def say_nothing(client):
    try:
        client.recv(1)
    except ConnectionResetError:  # from stage 2 on
        pass


def never_read(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    try:
        while True:
            client.sendall(b"x" * 100000)
    except ConnectionError:  # and not that the server keeps it
        pass


def half_close(client):
    client.sendall(b"y" * 5000)
    client.shutdown(socket.SHUT_WR)
    got = b""
    while piece := client.recv(65536):
        got += piece
    assert got == b"y" * 5000, len(got)


def half_close_and_go(client):
    client.shutdown(socket.SHUT_WR)


WAYS = [reset_at_once, reset_in_mid_echo, vanish_with_unread_answer,
        say_nothing, never_read, half_close, half_close_and_go]

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    with socket.socket() as rude:
        rude.settimeout(20)
        rude.connect((host, port))
        WAYS[number % len(WAYS)](rude)
