#!/usr/bin/env python3
"""Multi-connection programs as textbooks for Python's selectors have them.

    textbook.py client HOST PORT N    opens N connections, sends two messages
                                      on each without waiting, and closes each
                                      when as many bytes came back as went out
    textbook.py server HOST PORT      prints its port; watches each connection
                                      for reading and writing all the time,
                                      and closes it when its client half-closes
"""
import selectors
import socket
import sys
import types

MESSAGES = [b"Message 1 from client.", b"Message 2 from client."]
BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE


def client(host, port, count):
    selector = selectors.DefaultSelector()
    for _ in range(count):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((host, port))
        selector.register(connection, BOTH, types.SimpleNamespace(
            wanted=b"".join(MESSAGES), got=b"", unsent=list(MESSAGES), out=b""))
    while selector.get_map():
        for key, events in selector.select(timeout=20):
            connection, data = key.fileobj, key.data
            if events & selectors.EVENT_READ:
                piece = connection.recv(1024)
                data.got += piece
                if not piece or len(data.got) >= len(data.wanted):
                    assert data.got == data.wanted, data.got
                    selector.unregister(connection)
                    connection.close()
                    continue
            if events & selectors.EVENT_WRITE:
                if not data.out and data.unsent:
                    data.out = data.unsent.pop(0)
                if data.out:
                    data.out = data.out[connection.send(data.out):]
    print(f"{count} connections got their bytes back")


def server(host, port):
    selector = selectors.DefaultSelector()
    listener = socket.create_server((host, port), backlog=1000)
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ)
    print(listener.getsockname()[1], flush=True)
    while True:
        for key, events in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                connection.setblocking(False)
                selector.register(connection, BOTH, bytearray())
                continue
            if events & selectors.EVENT_READ:
                piece = key.fileobj.recv(1024)
                if not piece:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    continue
                key.data.extend(piece)
            if events & selectors.EVENT_WRITE and key.data:
                del key.data[:key.fileobj.send(key.data)]


if sys.argv[1:2] == ["client"]:
    client(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
elif sys.argv[1:2] == ["server"]:
    server(sys.argv[2], int(sys.argv[3]))
else:
    sys.exit(__doc__)
