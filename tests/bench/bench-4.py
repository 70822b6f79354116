#!/usr/bin/env python3
"""bench-4.py: what TLS costs the server of stage 4, beside a bare loop around
epoll and OpenSSL, and beside nginx, haproxy and stunnel that do the TLS for the
server of stage 3.

Prints tables, in Markdown, and leaves them with the plot in $BUILD/bench-4. It
judges nothing: what was measured stands beside what was aimed at. Exit status
1: something could not be measured, or an answer was wrong.

It starts each proxy itself, with a configuration and a port of its own, as one
process, and needs none of the system's. One that is not installed is left out.
"""
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import NamedTuple

from bench import (BUILD, RESULTS, TESTS, Plot, cpu_ns, give_up, hear,
                   measure_all, median, ratio, resident_mb, run, running,
                   show_aims, show_table, take_turns, values)

sys.path.insert(0, str(TESTS / "helpers"))
import protocol  # noqa: E402

RUNS = int(os.environ.get("RUNS", 9))  # RUNS=2: only to try whether it works
READING = """\
How to read them: only the ratios say something about the programs; the rest
says as much about this machine, and its OpenSSL. What is counted is the CPU
time of the server, while `tests/bench/tls-many.c`, which verifies each
certificate, takes turns with it on one processor. A connection with a handshake
is all of it: accept, handshake (TLS 1.3, ECDSA P-256), one search, its answer,
and the end. "Bare loop" is `tests/bench/bare-tls.c`, which sends a ready answer
to whatever it receives, where tls-app-server reads JSON, and looks it up.
nginx, haproxy and stunnel have app-server behind them, whose CPU time is part
of theirs, and whose memory is, too; "the proxy alone" is without it. As for
memory, a connection has had one answer before it is idle; where all connect at
once, the C library keeps for later what their handshakes had needed. In the
table of large content, server and client are not on one processor; an echo, in
steps of 4 KiB as in stage 1, counts once. To repeat it: `make deps bench-4`, on
a machine that does nothing else."""


# --- The servers ------------------------------------------------------------

def certs(name):
    return RESULTS / "certs" / name


TLS = ["--cert", certs("server.pem"), "--key", certs("server-key.pem")]
SERVERS = {
    "tls-app-server": ["tls-app-server", "-q", *TLS],
    "bare loop": ["bare-tls", *TLS],
    "app-server": ["app-server", "-q"],
    "bare loop, plain": ["bare-epoll"],
    "tls-echo-server": ["tls-echo-server", "-q", *TLS],
    "bare echo": ["bare-tls", *TLS],
    "echo-server": ["echo-server", "-q"],
}
PLAIN = ["app-server", "bare loop, plain", "echo-server"]
NGINX = """\
{module}
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
stream {{
    server {{
        listen 127.0.0.1:{port} ssl;
        proxy_pass 127.0.0.1:{behind};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {cert};
        ssl_certificate_key {key};
    }}
}}
"""
HAPROXY = """\
global
    nbthread 1
    maxconn 4096
defaults
    mode tcp
    timeout connect 60s
    timeout client 60s
    timeout server 60s
listen tls
    bind 127.0.0.1:{port} ssl crt {both}
    server behind 127.0.0.1:{behind}
"""
STUNNEL = """\
foreground = yes
syslog = no
debug = crit
pid =
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
options = -NO_TICKET
[tls]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{behind}
cert = {cert}
key = {key}
"""
PROXIES = {
    "nginx": (NGINX, ["nginx", "-e", "stderr", "-p", ".", "-c", "config"]),
    "haproxy": (HAPROXY, ["haproxy", "-q", "-db", "-f", "config"]),
    "stunnel": (STUNNEL, ["stunnel", "config"]),
}


def installed(name):
    # Programs that administrators start are not on everybody's PATH.
    program = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if name == "nginx" and program and not nginx_module():
        built = subprocess.run([program, "-V"], stderr=subprocess.PIPE,
                               text=True, check=True).stderr
        return program if "--with-stream " in built else None
    return program


def nginx_module():
    """What nginx carries TCP with, where it is not part of the program."""
    for folder in "/usr/lib/nginx/modules", "/usr/lib64/nginx/modules":
        if os.path.exists(f"{folder}/ngx_stream_module.so"):
            return f"load_module {folder}/ngx_stream_module.so;"
    return ""


def make_certs():
    """What is there stays. haproxy wants certificate and key in one file."""
    subprocess.run(["bash", TESTS.parent / "04-tls/make-certs.sh",
                    RESULTS / "certs"], check=True, stdout=subprocess.DEVNULL)
    both = [certs(name).read_bytes() for name in ("server.pem",
                                                  "server-key.pem")]
    certs("both.pem").touch(mode=0o600)
    certs("both.pem").write_bytes(b"".join(both))


@contextmanager
def serving(case):
    """Yields the port of a server, and its processes."""
    if case.server in PROXIES:
        with serving(case._replace(server="app-server")) as (behind, pids), \
                proxy(case, behind) as (port, pid):
            yield port, [pid, *pids]
        return
    program, *options = SERVERS[case.server]
    reply = [case.file("answer")] if case.server.startswith("bare loop") else []
    if reply and program == "bare-tls":
        options += ["--after", case.file("request").stat().st_size]
    with running(BUILD / program, *options, "127.0.0.1", 0, *reply,
                 preexec_fn=case.place()) as server:
        yield int(hear(server, r"Listening on .*:(\d+)")), [server.pid]


@contextmanager
def proxy(case, behind):
    folder = RESULTS / case.server
    folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config, (program, *options) = PROXIES[case.server]
    (folder / "config").write_text(config.format(
        port=port, behind=behind, cert=certs("server.pem").resolve(),
        key=certs("server-key.pem").resolve(),
        both=certs("both.pem").resolve(),
        module=nginx_module()))
    with open(folder / "log", "w", encoding="utf-8") as log, \
            running(installed(program), *options, cwd=folder, stderr=log,
                    preexec_fn=case.place()) as process:
        wait_for(port, process, folder / "log")
        yield port, process.pid


def wait_for(port, process, log):
    """A proxy does not say when it listens. It is asked again and again."""
    for _ in range(500):
        if process.poll() is not None:
            give_up(f"{process.args[0]}: ended: {log.read_text()}")
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)
    give_up(f"{process.args[0]}: does not listen: {log.read_text()}")


# --- One run ----------------------------------------------------------------

class Case(NamedTuple):
    """A server, and what it has to do."""
    server: str = "tls-app-server"  # one of SERVERS or PROXIES
    what: str = "search"            # which message
    anew: bool = False              # a new connection for each request?
    resume: bool = False            # and does it resume a session?
    active: int = 64                # connections that ask at a time
    idle: int = 0                   # connections besides that have asked once
    at_once: int = 64               # how many of these connect at a time
    rounds: int = 10                # requests of each
    in_turns: bool = True           # do server and client share a processor?

    def file(self, which):
        return RESULTS / f"{self.what}.{which}"

    def place(self):
        return take_turns if self.in_turns else None


class Sample(NamedTuple):
    """What one run has shown."""
    cost: float    # µs of the server's CPU time for a request
    proxy: float   # of this, the proxy's, if there is one
    rate: float    # requests per second
    memory: float  # kB that are resident when all are connected


def asking(case, port):
    options = ["--rounds", case.rounds, "--anew", int(case.anew),
               "--idle", case.idle]
    if case.server not in PLAIN:
        options += ["--ca", certs("ca.pem"), "--resume", int(case.resume),
                    "--at-once", case.at_once]
    return running(BUILD / ("ask-many" if case.server in PLAIN else "tls-many"),
                   *options, "127.0.0.1", port, case.active,
                   case.file("request"), case.file("answer"),
                   preexec_fn=case.place())


def measure(case):
    with serving(case) as (port, pids), asking(case, port) as client:
        hear(client, "(Connected)")
        before = [cpu_ns(pid) for pid in pids]
        memory = sum(resident_mb(pid) * 1e3 for pid in pids)
        rate = hear(client, r"requests/s +(\d+)")
        spent = [(cpu_ns(pid) - start) / 1e3 / (case.rounds * case.active)
                 for pid, start in zip(pids, before)]
        if client.wait() != 0:
            give_up(case)
    return Sample(sum(spent), spent[0], float(rate), memory)


# --- What is measured -------------------------------------------------------

def figures(samples, cases, field, form=".1f"):
    """Returns a cell for each case; one that was not measured is empty."""
    return [f"{median(samples[case], field):{form}}" if case in samples else "-"
            for case in cases]


def costs_of(name, runs, more=(), **load):
    """Measures how much CPU time an answer costs everybody. Returns the samples
    of the servers, and the rows of both tables."""
    names = ["tls-app-server", "bare loop", *PROXIES, *more]
    cases = {server: Case(server, **load) for server in names}
    samples = measure_all(name, [case for server, case in cases.items()
                                 if server not in PROXIES or installed(server)],
                          runs, measure)
    costs = {server: values(samples[case], "cost")
             for server, case in cases.items() if case in samples}
    shown = [cases[server] for server in names if server not in more]
    return (costs, [name, *figures(samples, shown, "cost")],
            [name, *figures(samples, shown[2:], "proxy")])


def large(what, servers, **load):
    """Rows of what a MB costs, and how many pass in a second."""
    cases = [Case(server, what, in_turns=False, **load) for server in servers
             if server not in PROXIES or installed(server)]
    samples = measure_all(f"large content, {what}", cases,
                          max(RUNS // 2, 2), measure)
    mb = (RESULTS / f"{what}.request").stat().st_size / 1e6
    return [[f"{what}, {case.server}",
             f"{median(samples[case], 'rate') * mb:.0f}",
             f"{median(samples[case], 'cost') / mb:.0f}"] for case in cases]


def memory_of(servers, at_once):
    """kB for each of 1,000 connections, beside none."""
    cells = []
    for server in servers:
        if server in PROXIES and not installed(server):
            cells.append("-")
            continue
        one, many = (measure(Case(server, active=1, rounds=1, idle=idle,
                                  at_once=at_once)).memory
                     for idle in (0, 1000))
        cells.append(f"{(many - one) / 1000:.1f}")
    return [f"if {at_once} connect at a time", *cells]


def write_messages():
    search = protocol.encode_json({"action": "search", "value": "ring"})
    megabyte = protocol.encode("binary/custom", "binary", bytes(1 << 20))
    echo = struct.pack(">1024I", *range(1024))
    messages = {"echo": (echo, echo)}
    for what, request in ("search", search), ("upload", megabyte):
        header, content, _ = protocol.decode(request)
        messages[what] = request, protocol.answer(header, content)
    for what, (request, answer) in messages.items():
        (RESULTS / f"{what}.request").write_bytes(request)
        (RESULTS / f"{what}.answer").write_bytes(answer)


def measure_stage():
    for name in PROXIES:
        if not installed(name):
            print(f'bench-4: without {name}: "make deps bench-4" installs it',
                  file=sys.stderr)
    make_certs()
    write_messages()
    full = costs_of("a connection, full handshake", RUNS, anew=True)
    resumed = costs_of("a connection, resumed", RUNS, anew=True, resume=True)
    kept = costs_of("a request, kept alive", RUNS, rounds=160,
                    more=["app-server", "bare loop, plain"])
    lines = ["tls-app-server", "bare loop", *PROXIES]
    title = "CPU time of the server, in µs, 64 at a time"
    rows = [row for _, row, _ in (full, resumed, kept)]
    show_table(title, ["what", *lines], rows)
    show_table("The proxy alone", ["what", *PROXIES],
               [row for _, _, row in (full, resumed, kept)])
    show_table("As many a second a processor can serve that does nothing else",
               ["what", *lines],
               [[row[0], *(cell if cell == "-" else f"{1e6 / float(cell):.0f}"
                           for cell in row[1:])] for row in rows])
    show_table("Large content: MB a second, and CPU time of the server, in µs",
               ["what", "MB/s", "µs for a MB"],
               large("echo", ["tls-echo-server", "bare echo", "echo-server"],
                     active=1, rounds=10000) +
               large("upload", ["tls-app-server", "bare loop", "app-server",
                                *PROXIES], active=4, rounds=20))
    memory = [memory_of(lines, at_once) for at_once in (64, 1000)]
    show_table("Resident memory of an idle connection, one of 1,000, in kB",
               ["when", *lines], memory)
    ours = "tls-app-server"
    least = [plain + tls - bare for plain, tls, bare in
             zip(kept[0]["app-server"], kept[0]["bare loop"],
                 kept[0]["bare loop, plain"])]
    show_aims([
        *((f"CPU time, {ours} : bare loop, {row[0]}",
           *ratio(costs[ours], costs["bare loop"]), "1.10 at most")
          for costs, row, _ in (full, resumed)),
        (f"CPU time, {ours} : app-server + what TLS costs the bare loop, "
         f"{kept[1][0]}", *ratio(kept[0][ours], least), "1.05 at most"),
        *((f"memory of an idle connection, {row[0]}",
           f"{row[1]} kB", "-", "35 kB at most, 16 wished")
          for row in memory)])
    return [Plot.of("04-cost", title, lines, rows)]


run(4, measure_stage, READING)
