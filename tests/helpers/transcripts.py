#!/usr/bin/env python3
"""Execute the console transcripts of a Markdown document, and compare.

usage: tests/helpers/transcripts.py FILE.md

All ```console fences of the document are one session, from the top to the
bottom, in the root of the repository. The line above a fence names its
terminal ("Terminal 2:"; just "terminal" is terminal 1). A terminal is an
interactive shell that lives until the end of the document. In a fence

    $ COMMAND      is typed; after a \\ at its end it goes on in "> " lines
    ^C ^Z ^D ^\\    alone on a line: that key is pressed
    ...            stands for any number of lines of output
    anything else  is a line of output

A program that is still running at the end of a fence goes on running. What
it prints from then on opens the next fence of its terminal: output that no
fence shows is an error. Ephemeral ports and process ids may have other
numbers than shown, if each number stands for the same one throughout.
"""

import fcntl
import os
import pty
import re
import resource
import secrets
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))
import docs  # noqa: E402: one idea of what a fence is, for both programs

STEP_SECONDS = 60
DOCUMENT_SECONDS = 240
# A program whose output is as shown is left running when it has been idle for
# so long: no output, no processor time, no new process.
IDLE_SECONDS = 0.3

KEYS = {"^C": b"\x03", "^Z": b"\x1a", "^D": b"\x04", "^\\": b"\x1c"}
PROMPT = f"<{secrets.token_hex(8)}>".encode()
EPHEMERAL = range(32768, 61000)  # net.ipv4.ip_local_port_range


class Failure(Exception):
    """What differs, and the number of its line in the document."""
    def __init__(self, line, what):
        super().__init__(what)
        self.line = line


# --- comparing --------------------------------------------------------------

WRONG, PARTIAL, COMPLETE = range(3)


class Match(NamedTuple):
    """How well printed lines are what is shown; the best is the greatest."""
    rank: int       # WRONG, PARTIAL: more may come, or COMPLETE
    shown: int      # index of the first line shown that is not there
    printed: int    # index of the first line printed that is not shown
    numbers: dict   # what the numbers that may differ stand for


def fold(line):
    """Split a line into its shape and the numbers that may differ."""
    numbers = []

    def note(found):
        kind = found.lastgroup
        number = found[kind]
        if kind == "port" and int(number) not in EPHEMERAL:
            return found[0]
        numbers.append((kind, number))
        return found[0][:-len(number)] + f"<{kind}>"

    shape = re.sub(r"(?::|127\.0\.0\.1 )(?P<port>\d{5})(?!\d)"
                   r"|(?:^\[\d+\] (?=\d+$)|\bpid[= ])(?P<pid>\d+)"
                   r"|\b0x(?P<pointer>[0-9a-f]{12})\b",
                   note, line.rstrip())
    # Columns are as wide as the longest entry of the day.
    return re.sub(r"[ \t]{2,}|\t", "  ", shape), numbers


def same_line(shown, printed, numbers):
    """The numbers known so far and from this line, or None if it differs."""
    shape, ours = fold(shown)
    other_shape, theirs = fold(printed)
    if shape != other_shape:
        return None
    numbers = dict(numbers)
    for our, their in zip(ours, theirs):
        # One way only: the kernel may choose a number again, and then two
        # that are shown stand for one.
        if numbers.setdefault(our, their) != their:
            return None
    return numbers


def compare(shown, printed, numbers, i=0, j=0):
    while i < len(shown) and shown[i] != "...":
        if j == len(printed):
            return Match(PARTIAL, i, j, numbers)
        known = same_line(shown[i], printed[j], numbers)
        if known is None:
            return Match(WRONG, i, j, numbers)
        numbers = known
        i, j = i + 1, j + 1
    if i == len(shown):
        return Match(COMPLETE if j == len(printed) else WRONG, i, j, numbers)
    return max((compare(shown, printed, numbers, i + 1, after)
                for after in range(j, len(printed) + 1)),
               key=lambda match: match[:3])


# --- terminals --------------------------------------------------------------

def processes(session):
    """{pid: (state, processor time)} of a session, from /proc/PID/stat."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of the program, in brackets, may contain anything.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[3]) == session:
            found[int(stat.parent.name)] = (fields[0], fields[11:15])
    return found


class Terminal:
    def __init__(self, name):
        self.name = name
        self.line = 0           # of the document, used last
        self.raw = b""          # output that no fence has shown so far
        self.prompt = False     # is the shell waiting for a command?
        self.key = False        # was a key the last that was typed?
        self.closed = False     # has the shell ended?
        self.shell, self.fd = pty.fork()
        if self.shell == 0:
            self.become_shell()

    def become_shell(self):
        try:
            modes = termios.tcgetattr(0)
            modes[3] &= ~termios.ECHO
            termios.tcsetattr(0, termios.TCSANOW, modes)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
            # Python ignores some of these, and whoever started us perhaps
            # others; a shell cannot give its programs back what it has not.
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP,
                           signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            # Else "Quit" would read "Quit (core dumped)" on some machines.
            hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
            resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
            environment = {
                name: value for name, value in os.environ.items()
                if not name.startswith("BATS_")
                and name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "BUILD")}
            # bats puts its own insides there; a reader's shell has not.
            path = [folder for folder in os.environ["PATH"].split(":")
                    if not folder.endswith("/bats-core")]
            # An empty HISTFILE: if it were unset, bash would set it.
            environment.update(PATH=":".join(path), PS1=PROMPT.decode(),
                               PS2="", HISTFILE="", TERM="dumb",
                               LC_ALL="C.UTF-8")
            os.chdir(ROOT)
            # The other terminals are none of its programs' business.
            os.closerange(3, 256)
            os.execvpe("bash", ["bash", "--norc", "--noprofile",
                                "--noediting", "-i"], environment)
        finally:
            os._exit(127)  # never return into a copy of this program

    def feed(self):
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # how a pty says that nobody has it open any more
            data = b""
        if not data:
            self.closed = self.prompt = True
            return
        self.raw = (self.raw + data).replace(b"\r\n", b"\n")
        # The reader sees a key as "^C", and a line feed ends that line: if
        # the program does not print one, then bash does.
        if self.key and self.raw != b"\r":
            self.key = False
            if self.raw.startswith(b"\n"):
                self.raw = self.raw[1:]
        before, prompt, after = self.raw.partition(PROMPT)
        if prompt:
            # What a program in the background prints may follow its prompt.
            self.prompt = True
            if before and not before.endswith(b"\n"):
                before += b"\n"
            self.raw = before + after

    def lines(self):
        """The lines that no fence has shown, the last one perhaps unfinished."""
        lines = self.raw.decode(errors="replace").split("\n")
        return lines if lines[-1] else lines[:-1]

    def send(self, data, key):
        self.raw, self.prompt, self.key = b"", False, key
        os.write(self.fd, data)

    def end(self):
        """End the shell and all that was started from it, and nothing else:
        until the shell is reaped, no other session can have its number."""
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT,
                       signal.SIGKILL):
            if number == signal.SIGKILL:
                patience = time.monotonic() + 1
                while self.alive() and time.monotonic() < patience:
                    time.sleep(0.02)
            for pid in self.alive():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
        os.close(self.fd)
        os.waitpid(self.shell, 0)

    def alive(self):
        return [pid for pid, (state, _) in processes(self.shell).items()
                if state != "Z"]


# --- the document -----------------------------------------------------------

class Step(NamedTuple):
    line: int       # of the document
    typed: str      # a command, a key, or "": only output
    shown: list     # the lines of output below


def steps(fence):
    result = [Step(fence.line, "", [])]
    body = iter(enumerate(fence.body, fence.line + 1))
    for number, text in body:
        if text.startswith("$ "):
            typed = text[2:]
            while typed.endswith("\\"):
                number, text = next(body, (number, ""))
                if not text.startswith("> "):
                    raise Failure(number, 'a command that ends in \\ goes on '
                                          'in a line that begins with "> "')
                typed += "\n" + text[2:]
            result.append(Step(number, typed, []))
        elif text in KEYS:
            result.append(Step(number, text, []))
        else:
            result[-1].shown.append(text)
    return result


class Session:
    def __init__(self):
        self.terminals = {}
        self.numbers = {}
        self.deadline = time.monotonic() + DOCUMENT_SECONDS
        self.commands = 0

    def terminal(self, number, line):
        if number not in self.terminals:
            terminal = self.terminals[number] = Terminal(f"terminal {number}")
            self.wait(terminal, Step(line, "", []), needs_prompt=True)
        return self.terminals[number]

    def pump(self, seconds):
        """Read all terminals, so that no program waits to get rid of output."""
        open_ones = {terminal.fd: terminal for terminal in
                     self.terminals.values() if not terminal.closed}
        ready = select.select(list(open_ones), [], [], seconds)[0]
        for fd in ready:
            open_ones[fd].feed()
        return bool(ready)

    def wait(self, terminal, step, needs_prompt):
        """Wait until the terminal has printed what the step shows, and either
        its prompt, or nothing more for a while."""
        terminal.line = step.line + len(step.shown)
        limit = min(time.monotonic() + STEP_SECONDS, self.deadline)
        idle_since, activity = time.monotonic(), None
        while True:
            if self.pump(0.02):
                activity = None
            match = compare(step.shown, terminal.lines(), self.numbers)
            if match.rank == COMPLETE and terminal.prompt:
                break
            if match.rank == WRONG and self.is_final(terminal, match):
                self.fail(terminal, step, match, "")
            now = time.monotonic()
            if match.rank == COMPLETE and not needs_prompt:
                before, activity = activity, processes(terminal.shell)
                if activity != before or any(
                        state in "RD" for state, _ in activity.values()):
                    idle_since = now
                if now - idle_since >= IDLE_SECONDS:
                    break
            else:
                idle_since, activity = now, None
            if now >= limit or terminal.closed:
                self.fail(terminal, step, match,
                          "" if terminal.closed else " in time")
        self.numbers = match.numbers
        terminal.raw = b""

    def is_final(self, terminal, match):
        """An unfinished last line that differs may yet become what is shown."""
        return (match.printed < len(terminal.lines()) - 1
                or terminal.raw.endswith(b"\n"))

    def fail(self, terminal, step, match, why):
        printed = terminal.lines()
        got = (repr(printed[match.printed]) if match.printed < len(printed)
               else f"nothing more{why}")
        line = step.line + 1 + match.shown
        if match.rank == COMPLETE:
            what = f"{terminal.name} shows no prompt again{why}"
            line = terminal.line
        elif match.shown == len(step.shown):
            what = f"{terminal.name} also printed: {got}"
            line = terminal.line
        else:
            want = step.shown[match.shown]
            what = f"expected {want!r}, got {got}"
            if (match.printed < len(printed)
                    and fold(want)[0] == fold(printed[match.printed])[0]):
                what += (" (each number must stand for the same number "
                         "throughout the document)")
        if time.monotonic() >= self.deadline:
            what += f"; the document took more than {DOCUMENT_SECONDS} s"
        sides = [f"  {name}:\n" + "".join(f"    | {text}\n" for text in side)
                 for name, side in (("shown", step.shown), ("printed", printed))
                 if side]
        raise Failure(line, what + "\n" + "".join(sides).rstrip())

    def run(self, fence):
        number = (re.search(r"terminal\s+(\d+)", fence.caption, re.IGNORECASE)
                  or re.search(r"(?i)terminal()", fence.caption))
        if not number:
            raise Failure(fence.line, "the line above a console fence must name "
                                      "its terminal")
        terminal = self.terminal(int(number[1] or 1), fence.line)
        todo = steps(fence)
        for step, following in zip(todo, todo[1:] + [None]):
            is_key = step.typed in KEYS
            if step.typed and terminal.closed:
                raise Failure(step.line, f"{terminal.name} has been closed")
            if is_key and terminal.prompt:
                raise Failure(step.line, f"{terminal.name} runs no program that "
                                         f"{step.typed} could reach")
            if is_key:
                terminal.send(KEYS[step.typed], True)
            elif step.typed:
                terminal.send(step.typed.encode() + b"\n", False)
                self.commands += 1
            self.wait(terminal, step, needs_prompt=(
                following is not None and following.typed not in KEYS))

    def finish(self):
        for terminal in self.terminals.values():
            if not terminal.closed:
                terminal.prompt = False  # one seen before must not end the wait
                self.wait(terminal, Step(terminal.line, "", []), False)


def isolate(arguments):
    """Go on in a network of our own: the documents use fixed ports, which a
    program outside may have, or another document that runs now."""
    if os.environ.pop("TRANSCRIPTS_ISOLATED", None):
        return None
    prefix = ["unshare", "--net"]
    if os.geteuid() != 0:
        prefix += ["--user", "--map-root-user"]
    prefix += ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        works = subprocess.run(prefix + ["true"], capture_output=True,
                               check=False).returncode == 0
    except FileNotFoundError:
        works = False
    if works:
        os.environ["TRANSCRIPTS_ISOLATED"] = "yes"
        os.execvp(prefix[0], prefix + [sys.executable, *arguments])
    # Then at least one document at a time. Closing the file unlocks it.
    (ROOT / "build").mkdir(exist_ok=True)
    lock = open(ROOT / "build" / "transcripts.lock", "w", encoding="utf-8")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def main(arguments):
    if len(arguments) != 2:
        sys.stderr.write(__doc__)
        return 2
    name = arguments[1]
    if not os.path.isfile(name):
        sys.stderr.write(f"transcripts.py: there is no file {name}\n")
        return 2
    lock = isolate(arguments)
    doc = docs.parse(Path(name))
    fences = [fence for fence in doc.fences if fence.info == "console"]
    # A test that has run out of time ends us: then end the terminals as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    session = Session()
    try:
        for fence in fences:
            session.run(fence)
        session.finish()
    except Failure as failure:
        print(f"{name}:{failure.line}: {failure}")
        return 1
    finally:
        for terminal in session.terminals.values():
            terminal.end()
        if lock:
            lock.close()
    print(f"{name}: {len(fences)} transcripts, {session.commands} commands")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
