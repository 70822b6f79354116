#!/usr/bin/env python3
"""torture.py BUILD: fails every system call of stage 1's programs in turn.

One conversation is recorded with strace. Then, for each call that the program
made after it started (its first act is to open /dev/null) and for each error,
the conversation is held again with that one call failing by fault injection.
Wrong is: death by a signal, a hang, exit status 0 with wrong bytes, an error
without its one line on standard error, a server that no longer serves, and
EINTR seen from outside where a signal can cause it.
"""
import collections
import concurrent.futures
import os
import re
import socket
import subprocess
import sys
import tempfile

BUILD = sys.argv[1]
MESSAGE = bytes(range(256)) * 20
ERRORS = ["EIO", "ENOMEM", "EINTR"]
# Calls that a signal can interrupt. (connect is one too, but an injected
# error skips the call, while a real signal leaves it under way.)
INTERRUPTIBLE = {"recvfrom", "sendto", "accept", "read", "write", "poll"}
# An injected error skips the call. A real close() closes all the same, brk
# tells failure otherwise, and sigaction() fails for bad arguments only.
NEVER_FAIL = {"close", "brk", "rt_sigaction", "exit_group"}
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}


def spawn(program, arguments, options, log, **streams):
    """Starts a traced program; -D makes the program, not strace, our child."""
    return subprocess.Popen(
        ["strace", "-D", "-qq", "-o", log, *options, f"{BUILD}/{program}",
         *arguments], env=ENVIRONMENT, stderr=subprocess.PIPE, **streams)


def ask(port):
    """A client of the server: True if the whole echo came back."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        try:
            client.sendall(MESSAGE)
            client.shutdown(socket.SHUT_WR)
            came = b""
            while piece := client.recv(65536):
                came += piece
        except TimeoutError:
            raise
        except OSError:
            return False
    assert MESSAGE.startswith(came), "wrong bytes"
    return came == MESSAGE


def one_line(program, errors):
    return re.fullmatch(rb"%s: [^\n]+\n" % program.encode(), errors)


def run_server(options, log):
    """Returns (perfect, what is wrong or None)."""
    server = spawn("echo-server", ["-t", "5", "127.0.0.1", "0"], options, log,
                   stdout=subprocess.PIPE)
    try:
        first = server.stdout.readline()
        if not first:
            status = server.wait(10)
            errors = server.stderr.read()
            if status != 1 or not one_line("echo-server", errors):
                return False, f"status {status}, {errors!r}"
            return False, None
        port = int(first.rsplit(b":")[-1])
        try:
            answers = [ask(port), ask(port), ask(port)]
        except TimeoutError:
            return False, "hangs"
        except (ConnectionRefusedError, ConnectionResetError):
            status = server.wait(10)
            errors = server.stderr.read()
            # The one thing after its start that may end a server.
            if status == 1 and b"standard output: " in errors:
                return False, None
            return False, f"no longer serves: status {status}, {errors!r}"
        server.terminate()
        status = server.wait(10)
        errors = server.stderr.read()
        if b"standard output: " in errors and status == 1:
            return False, None
        # One fault may cost one connection, and no more.
        if answers.count(False) > 1 or status != 0:
            return False, f"answers {answers}, status {status}, {errors!r}"
        return all(answers) and errors == b"", None
    finally:
        server.kill()
        server.stdout.close()
        server.stderr.close()


def run_client(port, arguments, options, log):
    client = spawn("echo-client", ["-t", "5", "127.0.0.1", port, *arguments],
                   options, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    data, expected = b"", b"Received 'hello'\n"
    if arguments == ["-"]:
        data = expected = MESSAGE
    try:
        output, errors = client.communicate(data, timeout=10)
    except subprocess.TimeoutExpired:
        client.kill()
        return False, "hangs"
    if client.returncode == 0:
        return True, None if output == expected else f"passes {output[:80]!r}"
    if client.returncode != 1 or not (one_line("echo-client", errors)
                                      or b"standard error" in errors):
        return False, f"status {client.returncode}, {errors!r}"
    return False, None


def calls_after_start(log):
    """Yields (name, n): the nth call of that name, from the start on."""
    count = collections.Counter()
    started = False
    with open(log, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            match = re.match(r"([a-z_0-9]+)\(", line)
            if not match:
                continue
            name = match.group(1)
            count[name] += 1
            started = started or '"/dev/null"' in line
            if started and name not in NEVER_FAIL:
                yield name, count[name]


def is_sanitized(program):
    """A sanitizer makes calls of its own; they are none of our business."""
    with open(f"{BUILD}/{program}", "rb") as file:
        return b"__asan_init" in file.read()


def torture(reference, folder):
    port = reference.stdout.readline().decode().strip().rsplit(":")[-1]
    its_own = {"mmap", "munmap", "mprotect", "madvise", "sigaltstack"}
    cases = []
    for name, run in [
            ("echo-server", run_server),
            ("echo-client hello",
             lambda *rest: run_client(port, ["hello"], *rest)),
            ("echo-client -", lambda *rest: run_client(port, ["-"], *rest))]:
        log = f"{folder}/log"
        perfect, wrong = run([], log)
        if not perfect:
            sys.exit(f"{name} fails without any fault: {wrong}")
        skipped = its_own if is_sanitized(name.split()[0]) else set()
        cases += [(name, run, call, n, error)
                  for call, n in calls_after_start(log) if call not in skipped
                  for error in ERRORS]

    def attempt(number):
        name, run, call, n, error = cases[number]
        perfect, wrong = run(["-e", f"inject={call}:error={error}:when={n}"],
                             f"{folder}/log{number}")
        if not wrong and not perfect and error == "EINTR" and \
                call in INTERRUPTIBLE:
            wrong = "EINTR is seen from outside"
        return wrong and f"{name}: {call} no. {n} fails with {error}: {wrong}"

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        complaints = [text for text in pool.map(attempt, range(len(cases)))
                      if text]
    print(*complaints, sep="\n")
    print(f"{len(cases)} calls failed in turn, {len(complaints)} complaints")
    sys.exit(1 if complaints else 0)


with tempfile.TemporaryDirectory() as scratch:
    server = subprocess.Popen(
        [f"{BUILD}/echo-server", "-q", "127.0.0.1", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        torture(server, scratch)
    finally:
        server.kill()
