#!/usr/bin/env python3
"""crowd.py HOST PORT N WAY: N clients of an echo server at a time.

Each has bytes of its own, the same in every run, and compares what comes back.
A wrong byte, a missing one or one too many ends it with status 1. Ways:

    talk      up to 50,000 bytes in pieces of random sizes, with pauses, while
              it reads; half-closes; wants all of them back, and then the end
    late      sends 1 MB and half-closes before it reads a byte; then it reads
              slowly, and wants all of them back, and then the end
    churn     a message and its echo, on ten connections one after another
    hold      sends a message and wants it back; when SIGTERM comes, once more
    dribble   sends a byte, wants it back, and pauses, until SIGTERM comes
    deaf      sends and does not read, until no more is taken; when SIGTERM
              comes, it half-closes, and wants all back, and then the end

In the last three ways, a client may also be refused: its connection ends
before the server has served it. They print "S served, R refused" when that is
decided for each.
"""
import asyncio
import random
import resource
import signal
import socket
import sys

HOST, PORT, COUNT, WAY = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


MUCH = random.Random(1).randbytes(8_000_000)


class Crowd:
    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.at_once = asyncio.Semaphore(256)
        self.stop = asyncio.Event()
        self.loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        self.served = self.refused = 0

    async def connect(self):
        client = socket.socket(socket.AF_INET6 if ":" in HOST else socket.AF_INET)
        client.setblocking(False)
        if WAY == "deaf":  # for whom less is more
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        async with self.at_once:
            await self.loop.sock_connect(client, (HOST, PORT))
        return client

    async def send(self, client, data):
        await self.loop.sock_sendall(client, data)

    async def expect(self, client, data, slowly=False):
        """Exactly these bytes; more of them would be seen by the next call."""
        at = 0
        while at < len(data):
            piece = await self.loop.sock_recv(client, min(len(data) - at, 65536))
            assert piece, f"the end came after {at} of {len(data)} bytes"
            assert piece == data[at:at + len(piece)], f"wrong after byte {at}"
            at += len(piece)
            if slowly:
                await asyncio.sleep(0.002)

    async def expect_end(self, client):
        more = await self.loop.sock_recv(client, 1)
        assert more == b"", f"more came than was sent: {more!r}"

    async def until_stopped(self, served=True):
        self.served += served
        self.refused += not served
        if self.served + self.refused == COUNT:
            print(f"{self.served} served, {self.refused} refused", flush=True)
        await self.stop.wait()

    async def talk(self, client, chance):
        data = chance.randbytes(chance.choice([0, 1, 100, 5000, 50000]))

        async def speak():
            at = 0
            while at < len(data):
                size = chance.choice([1, 100, 4096, 30000])
                await self.send(client, data[at:at + size])
                at += size
                await asyncio.sleep(chance.random() / 100)
            client.shutdown(socket.SHUT_WR)

        await asyncio.gather(speak(), self.expect(client, data))
        await self.expect_end(client)

    async def late(self, client, chance):
        data = chance.randbytes(1_000_000)
        await self.send(client, data)
        client.shutdown(socket.SHUT_WR)
        await self.expect(client, data, slowly=True)
        await self.expect_end(client)

    async def churn(self, client, chance):
        for _ in range(10):
            message = chance.randbytes(8)
            await self.send(client, message)
            await self.expect(client, message)
            client.close()
            client = await self.connect()
        client.close()

    async def hold(self, client, chance):
        message = chance.randbytes(100)
        try:
            await self.send(client, message)
            first = await self.loop.sock_recv(client, 1)
        except ConnectionError:
            first = b""
        if not first:
            await self.until_stopped(served=False)
            return
        assert first == message[:1], "wrong first byte"
        await self.expect(client, message[1:])
        await self.until_stopped()
        await self.send(client, message)
        await self.expect(client, message)

    async def dribble(self, client, chance):
        said = False
        while not self.stop.is_set():
            byte = chance.randbytes(1)
            await self.send(client, byte)
            await self.expect(client, byte)
            if not said:
                said = True
                asyncio.ensure_future(self.until_stopped())
            await asyncio.sleep(chance.random() / 2)

    async def deaf(self, client, chance):
        data = memoryview(MUCH)[chance.randrange(1000):]
        sent = patience = 0
        try:
            while patience < 20 and sent < len(data):
                try:
                    sent += client.send(data[sent:sent + 65536])
                    patience = 0
                except BlockingIOError:
                    patience += 1
                    await asyncio.sleep(0.02)
        except ConnectionError:
            await self.until_stopped(served=False)
            return
        assert patience == 20, f"all of its {sent} bytes were taken"
        await self.until_stopped()
        client.shutdown(socket.SHUT_WR)
        await self.expect(client, data[:sent])
        await self.expect_end(client)

    async def one(self, number):
        client = await self.connect()
        with client:
            await getattr(self, WAY)(client, random.Random(number))


async def main():
    crowd = Crowd()
    await asyncio.gather(*(crowd.one(number) for number in range(COUNT)))


if WAY not in ("talk", "late", "churn", "hold", "dribble", "deaf"):
    sys.exit(__doc__)
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
try:
    asyncio.run(asyncio.wait_for(main(), 50))
except (OSError, AssertionError, asyncio.TimeoutError) as error:
    sys.exit(f"crowd: {WAY}: {str(error) or type(error).__name__}")
