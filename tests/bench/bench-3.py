#!/usr/bin/env python3
"""bench-3.py: what an answer costs the server of stage 3, and what clients that
are costly cost the others.

Prints tables, in Markdown, and leaves them with the plot in $BUILD/bench-3. It
judges nothing: what was measured stands beside what was aimed at. Exit status
1: something could not be measured, or an answer was wrong.

The messages are those of the Python server of tests/helpers, which was written
from the specification: each byte of an answer is checked.
"""
import itertools
import socket
import string
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import (BUILD, RESULTS, TESTS, Plot, cpu_ns, give_up, hear,
                   measure_all, median, ratio, resident_mb, run, running,
                   show_aims, show_table, take_turns, values)

sys.path.insert(0, str(TESTS / "helpers"))
import protocol  # noqa: E402

REQUESTS = {
    "search": protocol.encode_json({"action": "search", "value": "ring"}),
    "sum": protocol.encode("binary/uint32-array", "binary",
                           struct.pack("=3I", 1, 2, 2**32 - 1)),
}
READING = """\
How to read them: only the ratios say something about the programs; the rest
says as much about this machine, whose processors the server and those who ask
it share. "Bare loop" is `tests/bench/bare-epoll.c`, which sends a ready answer
to whatever it receives. "Jansson alone" is what the library takes for the same
texts in a loop of its own (`tests/bench/jansson-alone.c`), where the caches of
the processor are all its own; so the sum of both is less than any server can
reach. For these the server and `tests/bench/ask-many.c` take turns on one
processor. In the table of requests per second they do not, and where there are
two processors, a second worker takes one from those who ask: what workers bring
is seen with clients elsewhere. `ask-many` asks again only when it has its
answer, so a server that stands still is asked less, and each p99 is flattered;
compare within a row. To repeat it: `make deps bench-3`, on a machine that does
nothing else."""
SERVERS = {
    "app-server": ["app-server", "-q", "127.0.0.1", 0],
    "app-server -w 2": ["app-server", "-q", "-w", 2, "127.0.0.1", 0],
    "bare loop": ["bare-epoll", "127.0.0.1", 0],
    "Python": [sys.executable, TESTS / "helpers/protocol.py", "serve"],
}


class Case(NamedTuple):
    """A server, and what it has to do."""
    server: str = "app-server"  # one of SERVERS, or "Jansson"
    what: str = "search"        # which of REQUESTS
    anew: bool = False          # a new connection for each request?
    active: int = 64            # connections that ask at a time
    idle: int = 0               # connections besides that have asked once
    requests: int = 20000
    in_turns: bool = False      # do server and client share one processor?
    beside: str = ""            # who else is there: one of BESIDE

    def file(self, which):
        return RESULTS / f"{self.what}.{which}"


class Sample(NamedTuple):
    """What one run has shown."""
    cost: float                 # µs of the server's CPU time for a request
    rate: float = 0             # requests per second
    p99: float = 0              # ms
    memory: float = 0           # MB, at the most


# --- Costly clients ---------------------------------------------------------

def costly_object(start, most):
    """An object that begins like this, of as many different keys as there is
    room for: of all JSON, it takes the longest to parse, byte for byte."""
    text = [start]
    length = len(start)
    for key in itertools.product(string.ascii_letters, repeat=3):
        text.append(',"%s":0' % "".join(key))
        length += len(text[-1])
        if length + len(text[-1]) + 1 > most:
            break
    return ("".join(text) + "}").encode()


def costly_message(end="}"):
    """The costliest message: both header and JSON as long as they may be. With
    another end it is refused, when all of it has been parsed."""
    content = costly_object('{"action":"x"', protocol.MOST_JSON)
    header = costly_object(
        '{"byteorder":"little","content-type":"text/json",'
        f'"content-encoding":"utf-8","content-length":{len(content)}', 0xffff)
    message = struct.pack(">H", len(header)) + header + content
    assert protocol.decode(message)
    return message[:-1] + end.encode()


def pipeline(port, done):
    """Sends it again and again, whether answers have come or not. Yields when
    one has."""
    message = costly_message()

    def send():
        try:
            while not done.is_set():
                client.sendall(message)
        except OSError:
            pass

    with socket.create_connection(("127.0.0.1", port)) as client:
        thread = threading.Thread(target=send)
        thread.start()
        while not done.is_set():
            if not client.recv(65536):
                give_up("the costly client was thrown out")
            yield
        client.shutdown(socket.SHUT_RDWR)
        thread.join()


def reconnect(message, port, done):
    """Sends it on a new connection, as soon as there is an answer."""
    while not done.is_set():
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(message)
            client.recv(65536)
            yield


@contextmanager
def one_costly(attack, port):
    """A client that sends costly messages without a pause."""
    began, done = threading.Event(), threading.Event()

    def work():
        for _ in attack(port, done):
            began.set()

    thread = threading.Thread(target=work)
    thread.start()
    began.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def dribblers(port):
    """900 clients, each of which sends a byte of a request every second."""
    clients = [socket.create_connection(("127.0.0.1", port))
               for _ in range(900)]
    request = REQUESTS["search"][:-1]
    done = threading.Event()

    def dribble():
        for at in range(len(request) * 10):
            for client in clients[at % 10::10]:
                client.send(request[at // 10:at // 10 + 1])
            if done.wait(0.1):
                return

    thread = threading.Thread(target=dribble)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        for client in clients:
            client.close()


BESIDE = {
    "": nullcontext,
    "a costly one that pipelines": partial(one_costly, pipeline),
    "a costly one that reconnects":
        partial(one_costly, partial(reconnect, costly_message())),
    "a costly one that is refused":
        partial(one_costly, partial(reconnect, costly_message("]"))),
    "900 dribblers": dribblers,
}


# --- One run ----------------------------------------------------------------

def processes_of(pid):
    """A server, or its workers, if it has any."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] or [pid]


def ask_jansson(case):
    with running(BUILD / "jansson-alone", case.requests, case.file("request"),
                 case.file("answer"), preexec_fn=take_turns) as jansson:
        return Sample(float(hear(jansson, r"CPU time ([\d.]+) us")))


def serving(case):
    command = list(SERVERS[case.server])
    if case.server == "bare loop":
        command.append(case.file("answer"))
    if command[0] != sys.executable:
        command[0] = BUILD / command[0]
    return running(*command, stderr=subprocess.DEVNULL if case.beside else None,
                   preexec_fn=take_turns if case.in_turns else None)


def asking(case, port):
    return running(BUILD / "ask-many",
                   "--rounds", case.requests // case.active,
                   "--anew", int(case.anew), "--idle", case.idle,
                   "127.0.0.1", port, case.active,
                   case.file("request"), case.file("answer"),
                   preexec_fn=take_turns if case.in_turns else None)


def measure(case):
    if case.server == "Jansson":
        return ask_jansson(case)
    with serving(case) as server:
        port = int(hear(server, r"Listening on .*:(\d+)"))
        pids = processes_of(server.pid)
        with BESIDE[case.beside](port) if case.beside else nullcontext(), \
                asking(case, port) as client:
            hear(client, "(Connected)")
            before = sum(map(cpu_ns, pids))
            rate = hear(client, r"requests/s +(\d+)")
            spent = sum(map(cpu_ns, pids)) - before
            memory = resident_mb(server.pid, "VmHWM")
            p99 = hear(client, r"p99 +([\d.]+) ms")
            if client.wait() != 0:
                give_up(case)
        server.terminate()
        server.wait()
    requests = case.requests // case.active * case.active
    return Sample(spent / requests / 1e3, float(rate), float(p99), memory)


# --- What is measured -------------------------------------------------------

def cost_of(what, anew, runs):
    """Compares with what an answer costs at least, and with Python. Returns
    rows of the aims, and that of the plot."""
    load = {"what": what, "anew": anew, "in_turns": True}
    cases = [Case(server, **load, requests=3200 if server == "Python" else
                  6400 if anew else 20000)
             for server in ("app-server", "bare loop", "Jansson", "Python")]
    name = f"{what}, {'a connection each' if anew else 'kept alive'}"
    samples = measure_all(name, cases, runs, measure)
    app, bare, jansson, python = (values(samples[case], "cost")
                                  for case in cases)
    least = [sum(pair) for pair in zip(bare, jansson)]
    medians = [median(samples[case], "cost") for case in cases]
    return ([(f"CPU time, app-server : bare loop + Jansson, {name}",
              *ratio(app, least), f"{1.25 if anew else 1.2} at most"),
             (f"CPU time, app-server : Python, {name}", *ratio(app, python),
              "0.25 expected" if anew else "0.33 expected")],
            [name, *(f"{cost:.2f}" for cost in medians)])


def throughput():
    rows = []
    for what in REQUESTS:
        for anew in (True, False):
            cases = [Case(server, what, anew,
                          requests=3200 if server == "Python" else
                          6400 if anew else 20000) for server in SERVERS]
            name = f"{what}, {'a connection each' if anew else 'kept alive'}"
            samples = measure_all(f"throughput, {name}", cases, 5, measure)
            rows.append([name, *(f"{median(samples[case], 'rate'):.0f}"
                                 for case in cases)])
    show_table("Requests per second, 64 at a time", ["request", *SERVERS], rows)


def beside(who, runs):
    load = {"active": 100, "requests": 50000}
    cases = [Case(**load, beside=who), Case(**load)]
    samples = measure_all(f"100 clients beside {who}", cases, runs, measure)
    p99s = [values(samples[case], "p99") for case in cases]
    return (f"p99 of 100 clients, beside {who} : without", *ratio(*p99s),
            "3 at most"), [f"beside {who}",
                           *(f"{median(samples[case], field):{form}}"
                             for case in reversed(cases)
                             for field, form in (("p99", ".2f"),
                                                 ("rate", ".0f")))]


def measure_stage():
    for what, request in REQUESTS.items():
        header, content, _ = protocol.decode(request)
        (RESULTS / f"{what}.request").write_bytes(request)
        (RESULTS / f"{what}.answer").write_bytes(
            protocol.answer(header, content))
    costs = [cost_of(what, anew, 11) for what in REQUESTS
             for anew in (True, False)]
    rows = [row for _, row in costs]
    title = "CPU time of the server per request, in µs, 64 at a time"
    lines = ["app-server", "bare loop", "Jansson alone", "Python"]
    show_table(title, ["request", *lines], rows)
    throughput()
    crowds = [beside(who, 11) for who in BESIDE if who]
    show_table("100 clients that are kept alive: p99, in ms, and requests per "
               "second", ["who else is there", "p99 alone", "rate alone",
                          "p99 beside", "rate beside"],
               [row for _, row in crowds])
    memory = measure(Case(active=1, idle=9999)).memory
    show_aims([*(aim for aims, _ in costs for aim in aims),
               *(aim for aim, _ in crowds),
               ("resident memory with 10,000 idle, at the most",
                f"{memory:.1f} MB", "-", "below 20 MB")])
    return [Plot.of("03-cost", title, lines, rows)]


run(3, measure_stage, READING)
