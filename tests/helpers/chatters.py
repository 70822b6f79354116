"""Clients of a chat, for scripts: who says what, and who hears it.

Each waits for $patience seconds (10), and ends the script with a sentence that
says what it got instead of what it should.
"""
import os
import socket
import struct
import sys

PATIENCE = float(os.environ.get("patience", 10))


def shown(data):
    if len(data) > 60:
        return f"{len(data)} bytes, {repr(bytes(data[:20]))[1:-1]}…"
    return repr(bytes(data))[1:] if data else "nothing"


def wrong(text):
    """Ends the script. Who has read all leaves without a reset, of which the
    server would have to speak."""
    for chatter in Chatter.all:
        chatter.socket.setblocking(False)
        try:
            while chatter.socket.recv(65536):
                pass
        except OSError:
            pass
    sys.exit(text)


class Chatter:
    all = []

    def __init__(self, name, port, receive_buffer=None):
        self.name, self.socket = name, socket.socket()
        self.all.append(self)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                   receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", int(port)))

    def says(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            wrong(f"{self.name} said {shown(data)}: {error.strerror or error}")

    def hears(self, wanted, and_then="no more within %g s" % PATIENCE):
        """Exactly these bytes come next; what comes behind them is for the
        next call."""
        came = bytearray()
        try:
            while len(came) < len(wanted) and wanted.startswith(came):
                piece = self.socket.recv(len(wanted) - len(came))
                if not piece:
                    and_then = "the end"
                    break
                came += piece
        except TimeoutError:
            pass
        except OSError as error:
            and_then = error.strerror
        if came == wanted:
            return
        if wanted.startswith(came):
            wrong(f"{self.name} got {shown(came)} and then {and_then}, where "
                  f"{shown(wanted)} was to come")
        # Of much, what is of interest begins shortly before the difference.
        at = next(at for at, byte in enumerate(came) if byte != wanted[at])
        at = max(0, at - 20) if len(wanted) > 60 else 0
        wrong(f"{self.name} got {shown(came[at:at + 60])}, where "
              f"{shown(wanted[at:at + 60])} was to come")

    def hears_the_end(self, perhaps=b""):
        """The end, or a reset, comes next, or first what is perhaps heard
        (None: anything)."""
        came = b""
        try:
            while piece := self.socket.recv(65536):
                came += piece
        except TimeoutError:
            wrong(f"{self.name} is still connected after {PATIENCE:g} s")
        except ConnectionError:
            pass
        if perhaps is not None and came not in (b"", perhaps):
            wrong(f"{self.name} got {shown(came)}, where the end was to come")

    def leaves(self):
        """As one leaves who has read all: without a reset."""
        self.finishes()
        self.hears_the_end(perhaps=None)

    def finishes(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            wrong(f"{self.name}'s connection has ended before it finished")

    def resets(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
        self.socket.close()


def meet(port, *names):
    """So many clients that are all there: each has heard the last one."""
    chatters = [Chatter(name, port) for name in names]
    settle(*chatters)
    return chatters


def settle(*chatters):
    """When the last has been heard by all others, the server has done with
    what came before."""
    for round_ in (b"hello\n", b"hello again\n"):
        chatters[-1].says(round_)
        for chatter in chatters[:-1]:
            chatter.hears(round_)


def sockets(process):
    """How many it has open."""
    count = 0
    for name in os.listdir(f"/proc/{process}/fd"):
        try:
            count += os.readlink(f"/proc/{process}/fd/{name}").startswith("socket:")
        except OSError:
            pass  # closed meanwhile
    return count
