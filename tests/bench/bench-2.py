#!/usr/bin/env python3
"""bench-2.py: what many connections cost the servers of stage 2.

Prints tables, in Markdown, and leaves them with the plots in $BUILD/bench-2.
It judges nothing: what was measured stands beside what was aimed at. Exit
status 1: something could not be measured.

The cost of a request is CPU time of the server, user and system, which on a
busy machine is steadier than the time on the wall. Each figure is the median
of several runs, each with a server of its own. The runs of what is compared
alternate, so that what disturbs one disturbs the other, too, and a ratio is
the median of the ratios of neighbours.
"""
import datetime
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

BUILD = Path(os.environ.get("BUILD", "build"))
RESULTS = BUILD / "bench-2"
TESTS = Path(__file__).resolve().parent.parent
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

def give_up(why):
    sys.exit(f"bench-2: not measured: {why}")


@contextmanager
def running(*command, **how):
    """A program that is ended with the block, if it has not ended by then."""
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE,
                          text=True, **how) as process:
        try:
            yield process
        finally:
            process.terminate()


def hear(process, pattern):
    """Reads lines of a program until one matches. Returns what its group
    matches."""
    for line in process.stdout:
        if match := re.match(pattern, line):
            return match[1]
    return give_up(f"{' '.join(process.args)}: ended without '{pattern}'")


def cpu_ns(pid):
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def resident_mb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def take_turns():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def serving(case):
    command = ["c10k-server", "-q", "-b", case.server]
    if case.server == "bare":
        command = ["bare-epoll-echo"]
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


# --- Many runs --------------------------------------------------------------

def measure_all(what, cases, runs):
    """Returns the samples of each case, in the order of the runs."""
    print(f"bench-2: {what} …", file=sys.stderr)
    samples = {case: [] for case in cases}
    for _ in range(runs):
        for case in cases:
            samples[case].append(measure(case))
    return samples


def median(samples, field):
    return statistics.median(getattr(sample, field) for sample in samples)


def ratio(samples, others, field):
    """Returns the median, and where the middle half of the ratios lies."""
    low, middle, high = statistics.quantiles(
        (getattr(sample, field) / getattr(other, field)
         for sample, other in zip(samples, others)), n=4)
    return f"{middle:.2f}", f"{low:.2f} to {high:.2f}"


# --- What is shown ----------------------------------------------------------

shown = []


def show(text):
    shown.append(text)
    print(text + "\n", flush=True)


def show_table(title, heads, rows):
    """A Markdown table that reads well as it is: words to the left, numbers
    to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    left = [cell[0].isalpha() for cell in rows[0]]
    rule = ["-" * width if words else "-" * (width - 1) + ":"
            for width, words in zip(widths, left)]
    lines = [" | ".join(cell.ljust(width) if words else cell.rjust(width)
                        for cell, width, words in zip(row, widths, left))
             for row in (heads, rule, *rows)]
    show("\n".join([title, "", *(f"| {line} |" for line in lines)]))


def show_where():
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    command = (BUILD / "flags.mk").read_text().split("\n")[0].lstrip("# ")
    version = subprocess.run([command.split()[0], "--version"], text=True,
                             stdout=subprocess.PIPE, check=True).stdout
    show(f"- machine: {model[1] if model else platform.machine()}, "
         f"{os.cpu_count()} cores, {platform.system()} {platform.release()}\n"
         f"- compiler: {version.splitlines()[0]}, as `{command}`\n"
         f"- command: `make bench-2`, on {datetime.date.today()}")


def columns(samples, field, form, what):
    """Returns rows with a number of connections (what: "idle" or "active"),
    and the median for each back end, or "-" where it was not measured."""
    found = {}
    for case, runs in samples.items():
        row = found.setdefault(getattr(case, what),
                               dict.fromkeys(BACKENDS, "-"))
        row[case.server] = form.format(median(runs, field))
    return [[str(count), *row.values()] for count, row in found.items()]


class Plot(NamedTuple):
    file: str
    title: str
    text: str  # for those who do not see it

    @staticmethod
    def of(name, title, rows):
        """Its data is left for gnuplot, and told in words."""
        data = "\n".join(" ".join(row) for row in rows)
        (RESULTS / f"{name}.dat").write_text(data + "\n")
        lines = zip(*rows)
        counts = ", ".join(next(lines))
        values = "; ".join(f"{backend} {', '.join(line)}"
                           for backend, line in zip(BACKENDS, lines))
        return Plot(f"{name}.svg", title, f"{title}, for {counts}: "
                    f"{values.replace('-', 'not possible')}")


def draw(plots):
    subprocess.run(["gnuplot", TESTS / "bench/bench-2.gp"], cwd=RESULTS,
                   check=True)
    for plot in plots:
        svg = (RESULTS / plot.file).read_text(encoding="utf-8")
        svg = svg.replace("<svg ", '<svg role="img" ', 1)
        for tag, text in ("title", plot.title), ("desc", plot.text):
            svg = re.sub(f"<{tag}>.*?</{tag}>", f"<{tag}>{text}</{tag}>", svg,
                         count=1)
        (RESULTS / plot.file).write_text(svg, encoding="utf-8")


# --- What is measured -------------------------------------------------------

def against_idle():
    """Returns the plot, and the growth of poll's cost."""
    cases = [Case(backend, idle=idle) for idle in (0, 100, 900, 9000)
             for backend in BACKENDS
             if backend != "select" or idle < MOST_OF_SELECT]
    samples = measure_all("idle connections", cases, 5)
    title = ("CPU time of the server per request, in µs, "
             "on 64 active connections, against idle connections")
    rows = columns(samples, "cost", "{:.2f}", "idle")
    show_table(title, ["idle", *BACKENDS], rows)
    return (Plot.of("02-cost-idle", title, rows),
            ratio(samples[Case("poll", idle=9000)], samples[Case("poll")],
                  "cost"))


def against_active():
    """Returns the plot."""
    cases = [Case(backend, active) for active in (1, 4, 16, 64, 256, 900)
             for backend in BACKENDS]
    samples = measure_all("active connections", cases, 5)
    title = "Requests per second against active connections"
    rows = columns(samples, "rate", "{:.0f}", "active")
    show_table(title, ["active", *BACKENDS], rows)
    show_table("CPU time of the server per request, in µs, in these runs",
               ["active", *BACKENDS], columns(samples, "cost", "{:.2f}",
                                              "active"))
    return Plot.of("02-throughput", title, rows)


def compare(what, case, other, field, runs):
    samples = measure_all(what, [case, other], runs)
    return what, *ratio(samples[case], samples[other], field)


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
    show_table("What was aimed at (a ratio is the median of pairs of runs)",
               ["what", "measured", "half of the pairs", "aim"], rows)


def main():
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= highest < 10100:
        give_up("10,000 connections need 10,100 descriptors, and "
                f'"ulimit -Hn" is {highest}')
    RESULTS.mkdir(parents=True, exist_ok=True)
    show_where()
    idle, growth = against_idle()
    plots = [idle, against_active()]
    against_aims(growth)
    draw(plots)
    images = [f"![{plot.text}]({plot.file})" for plot in plots]
    (RESULTS / "02-figures.md").write_text(
        "\n\n".join(["# Figures of stage 2", *shown, *images]) + "\n",
        encoding="utf-8")
    print(f"bench-2: the tables and plots are in {RESULTS}", file=sys.stderr)


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
