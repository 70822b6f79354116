#!/usr/bin/env python3
"""torture.py BUILD COMMAND...: fails every system call of programs in turn.

A COMMAND is a server ("c10k-server -b poll"), or a client, with @ where the
address of a server belongs ("echo-client @ hello"). Programs whose name has
"app-" in it speak the protocol of stage 3, the others echo.

One conversation is recorded with strace. Then, for each call that the program
made after it started (its first act is to open /dev/null) and for each error,
the conversation is held again with that one call failing by fault injection.
Wrong is: death by a signal, a hang, exit status 0 with wrong bytes, an error
without a line on standard error, a server that no longer serves, and
EINTR seen from outside where a signal can cause it.

If APP_TLS is set, all of it is over TLS: see tls_stream.py.
"""
import collections
import concurrent.futures
import functools
import os
import re
import shlex
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
import protocol  # noqa: E402

TLS = "APP_TLS" in os.environ
if TLS:
    import tls_stream

BUILD, *COMMANDS = sys.argv[1:]
MESSAGE = bytes(range(256)) * 20
LINES = b"search ring\nsum 1 2\nhello\n"
REQUESTS = [protocol.encode_json({"action": "search", "value": "ring"}),
            protocol.encode("binary/uint32-array", "binary", bytes(2000)),
            protocol.encode("binary/other", "binary", b"hello")]
RESPONSES = [protocol.answer(*protocol.decode(request)[:2])
             for request in REQUESTS]
ANSWERS = (b"Got result: %b\nGot sum: 3\nGot response: "
           b"'First 10 bytes of request: hello'\n"
           % protocol.ANSWERS["ring"].encode())
ERRORS = ["EIO", "ENOMEM", "EINTR"]
# Calls that a signal can interrupt. (connect is one too, but an injected
# error skips the call, while a real signal leaves it under way.)
WAITS = {"pselect6", "poll", "epoll_wait"}
INTERRUPTIBLE = {"recvfrom", "sendto", "accept", "read", "write", *WAITS}
# app-client catches no signal, and stopping it interrupts only these.
INTERRUPTIBLE_BY_STOP = {"recvfrom", "sendto", *WAITS}
# Calls that must be made again when select() was too optimistic. (Not in
# programs that block: there, EAGAIN means that the time is up.)
MAY_HAVE_TO_WAIT = {"recvfrom", "sendto", "accept"}
# An injected error skips the call. A real close() closes all the same, brk
# tells failure otherwise, the calls about signals fail for bad arguments
# only, and the return from a signal handler never. With one thread, a futex
# wakes nobody, and libc gives up where it cannot fail.
NEVER_FAIL = {"close", "futex", "brk", "rt_sigaction", "rt_sigpending",
              "rt_sigreturn", "rt_sigprocmask", "exit_group"}
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}


def spawn(program, arguments, options, log, **streams):
    """Starts a traced program; -D makes the program, not strace, our child."""
    return subprocess.Popen(
        ["strace", "-D", "-qq", "-o", log, *options, f"{BUILD}/{program}",
         *arguments], env=ENVIRONMENT, stderr=subprocess.PIPE, **streams)


def speaks_protocol(program):
    return "app-" in program


def ask(port, message, answer):
    """A client of the server: True if the whole answer came back."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        try:
            if TLS:
                client = tls_stream.Stream(client, "127.0.0.1")
            client.sendall(message)
            if TLS:
                client.end()
            else:
                client.shutdown(socket.SHUT_WR)
            came = b""
            while piece := client.recv(65536):
                came += piece
        except TimeoutError:
            raise
        except OSError:
            return False
    assert answer.startswith(came), "wrong bytes"
    return came == answer


def told(program, errors):
    """One line for each error; where there is one connection, one error."""
    lines = errors.count(b"\n")
    one_only = program.startswith("echo-") or program.endswith("app-client")
    return lines >= 1 and (lines == 1 or not one_only) and \
        re.fullmatch(rb"(%s: [^\n]+\n)+" % program.encode(), errors)


def may_end(program, errors):
    """What may end a server that listens already: it cannot say what it does,
    or cannot watch its listener, its signals or its clients."""
    return told(program, errors) and re.search(
        rb": (standard output|listener|pselect|selector|select|poll|epoll|"
        rb"pipe|fcntl): ", errors)


def stop(server):
    """Returns the exit status. Where the very call that passes the signal on
    has failed, it takes a second one."""
    server.terminate()
    try:
        return server.wait(1)
    except subprocess.TimeoutExpired:
        server.terminate()
        return server.wait(10)


def run_server(program, arguments, options, log):
    """Returns (perfect, what is wrong or None)."""
    server = spawn(program, ["-t", "5", *arguments, "127.0.0.1", "0"], options,
                   log, stdout=subprocess.PIPE)
    try:
        first = server.stdout.readline()
        if not first:
            status = server.wait(10)
            errors = server.stderr.read()
            if status != 1 or not told(program, errors):
                return False, f"status {status}, {errors!r}"
            return False, None
        port = int(first.rsplit(b":")[-1])
        try:
            talk = (b"".join(REQUESTS), b"".join(RESPONSES)) \
                if speaks_protocol(program) else (MESSAGE, MESSAGE)
            answers = [ask(port, *talk) for _ in range(3)]
        except TimeoutError:
            return False, "hangs"
        except (ConnectionRefusedError, ConnectionResetError):
            status = server.wait(10)
            errors = server.stderr.read()
            if status == 1 and may_end(program, errors):
                return False, None
            return False, f"no longer serves: status {status}, {errors!r}"
        status = stop(server)
        errors = server.stderr.read()
        if status == 1 and may_end(program, errors):
            return False, None
        # One fault may cost one connection, and no more.
        if answers.count(False) > 1 or status != 0:
            return False, f"answers {answers}, status {status}, {errors!r}"
        return all(answers) and errors == b"", None
    finally:
        server.kill()
        server.stdout.close()
        server.stderr.close()


def run_client(ports, program, arguments, options, log):
    at = arguments.index("@")
    port = ports[speaks_protocol(program)]
    client = spawn(program, ["-t", "5", *arguments[:at], "127.0.0.1", port,
                             *arguments[at + 1:]],
                   options, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said, expected = MESSAGE, {
        "hello": b"Received 'hello'\n", "-": MESSAGE}.get(arguments[-1])
    if speaks_protocol(program):
        said, expected = LINES, {
            "ring": ANSWERS.splitlines(True)[0], "-": ANSWERS}[arguments[-1]]
    try:
        output, errors = client.communicate(said, timeout=10)
    except subprocess.TimeoutExpired:
        client.kill()
        return False, "hangs"
    if client.returncode == 0:
        right = expected is None or output == expected
        return True, None if right else f"passes {output[:80]!r}"
    if speaks_protocol(program) and not expected.startswith(output):
        return False, f"passes {output[:80]!r}"
    if client.returncode != 1 or not (told(program, errors)
                                      or b"standard error" in errors):
        return False, f"status {client.returncode}, {errors!r}"
    return False, None


def calls_after_start(log):
    """Yields (name, n, early): the nth call of that name, from the start on.
    An early one is made before there is a socket: it is about files, and for
    these nothing waits, and so no signal interrupts it."""
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
                yield name, count[name], not count["socket"]


def errors_for(early):
    """A TLS library reads many files, for which one error is as another."""
    return ERRORS[:1] if TLS and early else ERRORS


def is_sanitized(program):
    """A sanitizer makes calls of its own; they are none of our business."""
    with open(f"{BUILD}/{program}", "rb") as file:
        return b"__asan_init" in file.read()


class Echo(socketserver.BaseRequestHandler):
    """What the clients talk to."""
    def handle(self):
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except ConnectionError:
            pass


class Application(socketserver.BaseRequestHandler):
    """The same for the clients of stage 3."""
    def handle(self):
        stream = tls_stream.Stream(self.request) if TLS else self.request
        connection = protocol.Connection(stream)
        try:
            while connection.hear():
                pass
            if TLS:
                stream.end()
        except ConnectionError:
            pass


def torture(ports, folder):
    its_own = {"mmap", "munmap", "mprotect", "madvise", "sigaltstack"}
    cases = []
    for name in COMMANDS:
        program, *arguments = shlex.split(name)
        run = functools.partial(run_client, ports) if "@" in arguments \
            else run_server
        run = functools.partial(run, program, arguments)
        log = f"{folder}/log"
        perfect, wrong = run([], log)
        if not perfect:
            sys.exit(f"{name} fails without any fault: {wrong}")
        skipped = its_own if is_sanitized(program) else set()
        spurious = [] if program.startswith("echo-") else ["EAGAIN"]
        cases += [(name, run, call, n, early, error)
                  for call, n, early in calls_after_start(log)
                  if call not in skipped
                  for error in errors_for(early) +
                  spurious * (call in MAY_HAVE_TO_WAIT)]

    def attempt(number):
        name, run, call, n, early, error = cases[number]
        perfect, wrong = run(["-e", f"inject={call}:error={error}:when={n}"],
                             f"{folder}/log{number}")
        if not wrong and not perfect and (error == "EAGAIN" or (
                error == "EINTR" and not early and call in
                (INTERRUPTIBLE_BY_STOP if "app-client" in name
                 else INTERRUPTIBLE))):
            wrong = f"{error} is seen from outside"
        return wrong and f"{name}: {call} no. {n} fails with {error}: {wrong}"

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        complaints = [text for text in pool.map(attempt, range(len(cases)))
                      if text]
    print(*complaints, sep="\n")
    print(f"{len(cases)} calls failed in turn, {len(complaints)} complaints")
    sys.exit(1 if complaints else 0)


def serve_in_background(handler):
    """Returns the port."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return str(server.server_address[1])


socketserver.ThreadingTCPServer.daemon_threads = True
with tempfile.TemporaryDirectory() as scratch:
    torture([serve_in_background(Echo), serve_in_background(Application)],
            scratch)
