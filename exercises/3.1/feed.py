#!/usr/bin/env python3
"""Gives bytes to "MESSAGE-TOOL decode" by a pipe; prints what that says, and
how it ended.

    feed.py MESSAGE-TOOL STEP...    the steps below, in order
    feed.py MESSAGE-TOOL vectors    each vector of docs/protocol.md, cut in two
                                    at every byte

    raw TEXT            all of TEXT, with Python's escapes: \\x00, \\n
    frame HEADER TEXT   this header, with its length before it, and TEXT
    pad N BEFORE AFTER  a header of N bytes: BEFORE, blanks, AFTER
    repeat N            what follows in the next step, N times
    each                from here on, a byte at a time
    shown N             by now, N messages must have been shown
    stop                it must have ended by now, though more could come

Each of the writes waits until the one before has been read.
"""
import fcntl
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.dont_write_bytecode = True
HELPERS = pathlib.Path(__file__).resolve().parents[2] / "tests/helpers"
sys.path.insert(0, str(HELPERS))
SECONDS = float(os.environ.get("limit") or 10)


class Failure(Exception):
    pass


def bytes_of(text):
    return text.encode().decode("unicode_escape").encode("latin-1")


def frame(header, content=b""):
    return struct.pack(">H", len(header)) + header + content


class Tool:
    """A message-tool at work."""

    def __init__(self, path):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([path, "decode"], bufsize=0,
                                        stdin=subprocess.PIPE,
                                        stdout=self.log, stderr=self.log)
        self.pipe = self.process.stdin

    def wait(self, condition):
        until = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > until:
                self.process.kill()
                self.process.wait()
                raise Failure(f"it was still running after {SECONDS:.0f} s")
            time.sleep(0.0002)

    def soon(self, condition):
        """Is it so, if it is given time? (What reads may be a child of what was
        started, and still be at work.)"""
        until = time.monotonic() + 2
        while not condition():
            if time.monotonic() > until:
                return False
            time.sleep(0.0002)
        return True

    def ended(self):
        return self.process.poll() is not None

    def left(self):
        """How many bytes in the pipe are not read yet."""
        answer = fcntl.ioctl(self.pipe, termios.FIONREAD, bytes(4))
        return struct.unpack("i", answer)[0]

    def waits(self):
        """Has it read all, and sleeps until more comes, or has it ended?"""
        if self.ended():
            return True
        if self.left() > 0:
            return False
        with open(f"/proc/{self.process.pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] == b"S"

    def give(self, data):
        """No piece is larger than what a pipe takes without waiting."""
        for at in range(0, len(data), 4096):
            if self.ended():
                return
            try:
                self.pipe.write(data[at:at + 4096])
            except BrokenPipeError:
                pass  # how it ended tells more
            self.wait(self.waits)

    def size(self):
        """How much it has said."""
        return os.fstat(self.log.fileno()).st_size

    def said(self, since=0):
        """What, from a size on."""
        self.log.seek(since)
        return self.log.read().decode(errors="replace")

    def shown(self):
        return len(re.findall("^content  ", self.said(), re.M))

    def end(self, since=0):
        """Returns what it has said, and how it ended."""
        self.pipe.close()
        self.wait(self.ended)
        status = self.process.returncode
        return self.said(since) + (f"exit status {status}" if status >= 0
                                   else f"ended by signal {-status}")


def perform(tool, steps):
    each, times = False, 1

    def give(data):
        nonlocal times
        data, times = data * times, 1
        step = 1 if each else len(data)
        for at in range(0, len(data), step):
            tool.give(data[at:at + step])

    while steps:
        match steps.pop(0):
            case "raw":
                give(bytes_of(steps.pop(0)))
            case "frame":
                give(frame(bytes_of(steps.pop(0)), bytes_of(steps.pop(0))))
            case "pad":
                size = int(steps.pop(0))
                before, after = bytes_of(steps.pop(0)), bytes_of(steps.pop(0))
                blanks = b" " * (size - len(before) - len(after))
                give(frame(before + blanks + after))
            case "repeat":
                times = int(steps.pop(0))
            case "each":
                each = True
            case "shown":
                wanted = int(steps.pop(0))
                tool.soon(lambda: tool.ended() or tool.shown() >= wanted)
                if not tool.ended() and tool.shown() != wanted:
                    raise Failure(f"{tool.shown()} messages were shown when "
                                  f"{wanted} had come")
            case "stop":
                if not tool.soon(tool.ended):
                    raise Failure("it waits for more, though it has all that "
                                  "it needs to refuse this")
            case other:
                sys.exit(f"feed: no such step: {other}")


def cut_vectors(path):
    """Those that have no error go through one process, a cut after the other;
    those that have one need a process each, and get it a byte at a time."""
    import vectors
    found = vectors.read_vectors()
    good = [vector for vector in found if vector.error() is None]
    tool = Tool(path)
    for vector in good:
        before, shown = tool.size(), tool.shown() + len(vector.responses)
        tool.give(vector.bytes)
        tool.soon(lambda: tool.ended() or tool.shown() >= shown)
        if tool.ended():
            raise Failure(f"{vector.name}: {tool.end(before)}")
        whole, size = tool.said(before), tool.size() - before
        if not whole:
            raise Failure(f"{vector.name}: nothing was shown of it")
        for cut in range(1, len(vector.bytes)):
            before = tool.size()
            tool.give(vector.bytes[:cut])
            tool.give(vector.bytes[cut:])
            tool.soon(lambda: tool.size() >= before + size)
            if tool.said(before) != whole:
                raise Failure(
                    f"{vector.name}, cut after {cut} of {len(vector.bytes)} "
                    f"bytes, shows:\n{tool.said(before)}")
    tool.end()
    for vector in found:
        if vector.error() is None:
            continue
        whole, pieces = Tool(path), Tool(path)
        whole.give(vector.bytes)
        for at in range(len(vector.bytes)):
            pieces.give(vector.bytes[at:at + 1])
        if (said := pieces.end()) != whole.end():
            raise Failure(f"{vector.name}, a byte at a time, gives:\n{said}")


def main(path, *steps):
    if steps == ("vectors",):
        cut_vectors(path)
        return 0
    tool = Tool(path)
    try:
        perform(tool, list(steps))
    finally:
        try:
            print(tool.end())
        except Failure:
            print(tool.said(), end="")
            raise
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except Failure as failure:
        sys.exit(str(failure))
