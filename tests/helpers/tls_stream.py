"""TLS for the peers of the tests: a socket's ways, on a connection over TLS.

Python's own SSLSocket cannot end its half of a conversation and go on reading,
say hello and leave it at that, or be read and written by two threads. So here
OpenSSL works on bytes in memory (Engine), and Stream moves them.

APP_TLS in the environment is the folder with the certificates. APP_TLS_MOST,
if set, is the highest version: 1.2.
"""
import functools
import os
import select
import socket
import ssl
import threading
import time


class Lost(ConnectionError):
    """The connection has ended in a way that TLS does not allow."""


@functools.cache
def context_for(server):
    """Clients trust the CA of the folder only, and check the name."""
    folder = os.environ["APP_TLS"]
    context = ssl.SSLContext(
        ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    if server:
        context.load_cert_chain(f"{folder}/server.pem",
                                f"{folder}/server-key.pem")
    else:
        context.load_verify_locations(f"{folder}/ca.pem")
    context.set_alpn_protocols(["app-protocol/1"])
    if os.environ.get("APP_TLS_MOST") == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


class Engine:
    """TLS without a network: host is who the server is, or None in a server.
    Two threads may use it, one to read and one to write."""

    def __init__(self, host=None):
        self.lock = threading.Lock()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context_for(host is None).wrap_bio(
            self.incoming, self.outgoing, host is None, host)
        self.plain = b""  # deciphered, and not asked for yet
        self.ended = False  # close_notify has come

    def feed(self, data):
        with self.lock:
            self.incoming.write(data)

    def output(self):
        """What is to be sent now."""
        with self.lock:
            return self.outgoing.read()

    def handshake(self):
        """Goes on with it as far as it goes. Is it complete?"""
        with self.lock:
            try:
                self.tls.do_handshake()
                return True
            except ssl.SSLWantReadError:
                return False

    def write(self, data):
        """Returns what is to be sent."""
        with self.lock:
            for at in range(0, len(data), 16384):
                self.tls.write(data[at:at + 16384])
            return self.outgoing.read()

    def decipher(self):
        """Is there something to be read, or the end?"""
        with self.lock:
            return self._decipher()

    def _decipher(self):
        try:
            if not self.plain and not self.ended:
                self.plain = self.tls.read(16384)
                self.ended = not self.plain
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            raise Lost(str(error)) from error
        return True

    def read(self, size):
        """Returns b"" at the end, None if more must be fed first."""
        with self.lock:
            if not self._decipher():
                return None
            data, self.plain = self.plain[:size], self.plain[size:]
            return data

    def end(self):
        """Returns the close_notify that is to be sent. OpenSSL then looks for
        the other side's, and may find none of its data in the way."""
        with self.lock:
            kept = b""
            while not self.ended and self._decipher():
                kept, self.plain = kept + self.plain, b""
            self.plain = kept
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass  # not there yet
            return self.outgoing.read()


class Stream:
    """A connection. The handshake is made by the first who sends or receives.
    What is not defined here is the socket's: settimeout(), fileno() …"""

    def __init__(self, raw, host=None):
        self.raw = raw
        self.engine = Engine(host)
        self.opening = threading.Lock()
        self.open = False
        self.early = b""  # to be sent when the handshake is complete
        self.unsent = b""  # enciphered, and not taken by the kernel
        self.failure = None  # what something_came() has met
        self.step = 0  # how many bytes are sent at a time, if not all

    def __getattr__(self, name):
        return getattr(self.raw, name)

    def _send(self, data):
        data, self.unsent = self.unsent + data, b""
        step = self.step or len(data)
        for at in range(0, len(data), max(step, 1)):
            self.raw.sendall(data[at:at + step])

    def _fetch(self):
        """Receives once. The end is none without close_notify."""
        if self.failure:
            raise self.failure
        data = self.raw.recv(65536)
        if not data:
            raise Lost("the end came without close_notify")
        self.engine.feed(data)

    def hello(self):
        """What a client can say before the server has answered."""
        if not self.open:
            self.engine.handshake()
            self._send(self.engine.output())

    def handshake(self):
        with self.opening:
            while not self.open:
                try:
                    self.open = self.engine.handshake()
                except ssl.SSLError as error:
                    raise Lost(f"handshake: {error}") from error
                finally:
                    self._send(self.engine.output())  # it may be an alert
                if not self.open:
                    self._fetch()
            early, self.early = self.early, b""
            if early:
                self._send(self.engine.write(early))

    def send_soon(self, data):
        """Sends, but does not wait for a handshake."""
        if self.open:
            self.sendall(data)
        else:
            self.hello()
            self.early += data

    def sendall(self, data):
        self.handshake()
        for at in range(0, len(data), 1 << 16):
            self._send(self.engine.write(data[at:at + (1 << 16)]))

    def send(self, data):
        """Sends a record, of which the kernel may take a part only: then the
        next send() begins with the rest."""
        self.handshake()
        data = data[:16384]
        if self.raw.gettimeout() != 0:
            self.sendall(data)
            return len(data)
        self.flush()
        if self.unsent:
            raise BlockingIOError
        self.unsent = self.engine.write(data)
        self.flush()
        return len(data)

    def flush(self):
        """What the kernel takes of what was sent already."""
        try:
            while self.unsent:
                sent = self.raw.send(self.unsent, socket.MSG_DONTWAIT)
                self.unsent = self.unsent[sent:]
        except BlockingIOError:
            pass

    def recv(self, size):
        self.handshake()
        while (data := self.engine.read(size)) is None:
            if self.unsent:
                self.flush()
                wait = select.poll()
                wait.register(self.raw, select.POLLIN | select.POLLOUT)
                if wait.poll(20000)[0][1] == select.POLLOUT:
                    continue
            self._fetch()
        return data

    def something_came(self, seconds):
        """Data, the end or a failure; but not what is TLS's own, as tickets
        are. The next recv() has it."""
        until = time.monotonic() + seconds
        wait = select.poll()
        wait.register(self.raw, select.POLLIN)
        while not (self.open and self.engine.decipher()):
            if not wait.poll(max(0, 1000 * (until - time.monotonic()))):
                return False
            if not self.open:
                return True
            try:
                self._fetch()
            except OSError as error:
                self.failure = error
                return True
        return True

    def end(self):
        """Ends our half: close_notify, and then what TCP has for it."""
        self.handshake()
        self._send(self.engine.end())
        self.raw.shutdown(socket.SHUT_WR)

    def close(self):
        """Politely, if the kernel has room for a close_notify."""
        try:
            if self.open:
                self.unsent += self.engine.end()
                self.flush()
        except OSError:
            pass
        self.raw.close()
