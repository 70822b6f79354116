#!/usr/bin/env python3
"""bench-2.py: what many connections cost the servers of stage 2.

Prints tables, in Markdown, and leaves them with the plots in $BUILD/bench-2.
It judges nothing: what was measured stands beside what was aimed at. Exit
status 1: something could not be measured.

The cost of a request is CPU time of the server, user and system, which on a
busy machine is steadier than the time on the wall.
"""
import subprocess
import sys
from contextlib import nullcontext
from typing import NamedTuple

from bench import (BUILD, TESTS, Plot, cpu_ns, give_up, hear, measure_all,
                   median, ratio, resident_mb, run, running, show_aims,
                   show_table, take_turns, values)

BACKENDS = "select", "poll", "epoll"
MOST_OF_SELECT = 1000  # connections: the descriptors end at FD_SETSIZE


class Case(NamedTuple):
    """A server, and what it has to do."""
    server: str = "epoll"   # a back end of c10k-server, or "bare"
    active: int = 64        # connections that ask and ask
    idle: int = 0           # connections besides that say nothing
    size: int = 64          # bytes of a message
    requests: int = 40000
    rude: bool = False      # does one more client flood, and never read?
    in_turns: bool = False  # do server and client share one processor?


class Sample(NamedTuple):
    """What one run has shown."""
    cost: float             # µs of the server's CPU time for a request
    rate: float             # requests per second
    p99: float              # ms
    memory: float           # MB


# --- One run ----------------------------------------------------------------

def serving(case):
    command = ["c10k-server", "-q", "-b", case.server]
    if case.server == "bare":
        command = ["bare-epoll"]
    return running(BUILD / command[0], *command[1:], "127.0.0.1", 0,
                   preexec_fn=take_turns if case.in_turns else None)


def asking(case, port):
    return running(BUILD / "c10k-client",
                   "--rounds", case.requests // case.active,
                   "--size", case.size, "--idle", case.idle,
                   "127.0.0.1", port, case.active,
                   preexec_fn=take_turns if case.in_turns else None)


def flooding(port):
    return running(sys.executable, TESTS / "helpers/peer.py", "connect",
                   "127.0.0.1", port, "say", "here I come", "zeros", 10**8,
                   stderr=subprocess.DEVNULL)


def measure(case):
    with serving(case) as server:
        port = hear(server, r"Listening on .*:(\d+)")
        with flooding(port) if case.rude else nullcontext() as rude:
            if rude:
                hear(rude, "(here I come)")
            with asking(case, port) as client:
                hear(client, "(Connected)")
                before = cpu_ns(server.pid)
                rate = hear(client, r"requests/s +(\d+)")
                spent = cpu_ns(server.pid) - before
                memory = resident_mb(server.pid)
                p99 = hear(client, r"p99 +([\d.]+) ms")
                if client.wait() != 0:
                    give_up(case)
            server.terminate()  # first: it would tell of the rude one's end
            server.wait()
    requests = case.requests // case.active * case.active
    return Sample(spent / requests / 1e3, float(rate), float(p99), memory)


# --- What is measured -------------------------------------------------------

def columns(samples, field, form, what):
    """Returns rows with a number of connections (what: "idle" or "active"),
    and the median for each back end, or "-" where it was not measured."""
    found = {}
    for case, runs in samples.items():
        row = found.setdefault(getattr(case, what),
                               dict.fromkeys(BACKENDS, "-"))
        row[case.server] = form.format(median(runs, field))
    return [[str(count), *row.values()] for count, row in found.items()]


def against_idle():
    """Returns the plot, and the growth of poll's cost."""
    cases = [Case(backend, idle=idle) for idle in (0, 100, 900, 9000)
             for backend in BACKENDS
             if backend != "select" or idle < MOST_OF_SELECT]
    samples = measure_all("idle connections", cases, 5, measure)
    title = ("CPU time of the server per request, in µs, "
             "on 64 active connections, against idle connections")
    rows = columns(samples, "cost", "{:.2f}", "idle")
    show_table(title, ["idle", *BACKENDS], rows)
    return (Plot.of("02-cost-idle", title, BACKENDS, rows),
            ratio(values(samples[Case("poll", idle=9000)], "cost"),
                  values(samples[Case("poll")], "cost")))


def against_active():
    """Returns the plot."""
    cases = [Case(backend, active) for active in (1, 4, 16, 64, 256, 900)
             for backend in BACKENDS]
    samples = measure_all("active connections", cases, 5, measure)
    title = "Requests per second against active connections"
    rows = columns(samples, "rate", "{:.0f}", "active")
    show_table(title, ["active", *BACKENDS], rows)
    show_table("CPU time of the server per request, in µs, in these runs",
               ["active", *BACKENDS], columns(samples, "cost", "{:.2f}",
                                              "active"))
    return Plot.of("02-throughput", title, BACKENDS, rows)


def compare(what, case, other, field, runs):
    samples = measure_all(what, [case, other], runs, measure)
    return what, *ratio(values(samples[case], field),
                        values(samples[other], field))


def against_aims(growth):
    def against_bare(what, runs, **load):
        return compare(f"CPU time, c10k-server : bare loop, {what}",
                       Case(**load, in_turns=True),
                       Case("bare", **load, in_turns=True), "cost", runs)

    rows = [
        (*against_bare("64 active", 11), "1.05 at most"),
        (*against_bare("900 active", 21, active=900), "1.05 at most"),
        (*against_bare("1 GB through one connection", 11, active=1,
                       size=1000000, requests=1000), "1.2 at most"),
        (*compare("CPU time on epoll, 9,000 idle : none",
                  Case(idle=9000, in_turns=True), Case(in_turns=True), "cost",
                  7),
         "1.05 at most"),
        ("CPU time on poll, 9,000 idle : none", *growth, "grows"),
        (*compare("p99 of 100 clients, beside a rude one : without",
                  Case(active=100, rude=True), Case(active=100), "p99", 11),
         "3 at most"),
        ("resident memory with 10,000 idle",
         f"{measure(Case(active=1, idle=10000)).memory:.1f} MB", "-",
         "below 20 MB"),
    ]
    show_aims(rows)


def measure_stage():
    idle, growth = against_idle()
    plots = [idle, against_active()]
    against_aims(growth)
    return plots


run(2, measure_stage)
