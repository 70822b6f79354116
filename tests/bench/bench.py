"""bench.py: what bench-2.py, bench-3.py and bench-4.py share: how a program is
run and watched, how runs become figures, and how these are shown.

Each figure is the median of several runs, each with a server of its own. The
runs of what is compared alternate, so that what disturbs one disturbs the
other, too, and a ratio is the median of the ratios of neighbours.
"""
import datetime
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

NAME = Path(sys.argv[0]).stem
BUILD = Path(os.environ.get("BUILD", "build"))
RESULTS = BUILD / NAME
TESTS = Path(__file__).resolve().parent.parent


# --- One run ----------------------------------------------------------------

def give_up(why):
    sys.exit(f"{NAME}: not measured: {why}")


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
    """Of all threads of a process, and of those that have ended: its clock, as
    clock_getcpuclockid() makes it on Linux."""
    return time.clock_gettime_ns(~pid << 3 | 2)


def resident_mb(pid, field="VmRSS"):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def take_turns():
    """To be called in programs that are to share one processor."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


# --- Many runs --------------------------------------------------------------

def measure_all(what, cases, runs, measure):
    """Returns the samples of each case, in the order of the runs."""
    print(f"{NAME}: {what} …", file=sys.stderr)
    samples = {case: [] for case in cases}
    for _ in range(runs):
        for case in cases:
            samples[case].append(measure(case))
    return samples


def values(samples, field):
    return [getattr(sample, field) for sample in samples]


def median(samples, field):
    return statistics.median(values(samples, field))


def ratio(samples, others):
    """Returns the median, and where the middle half of the ratios lies."""
    low, middle, high = statistics.quantiles(
        (sample / other for sample, other in zip(samples, others)), n=4)
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


def show_aims(rows):
    show_table("What was aimed at (a ratio is the median of pairs of runs)",
               ["what", "measured", "half of the pairs", "aim"], rows)


def show_where():
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    command = (BUILD / "flags.mk").read_text().split("\n")[0].lstrip("# ")
    version = subprocess.run([command.split()[0], "--version"], text=True,
                             stdout=subprocess.PIPE, check=True).stdout
    show(f"- machine: {model[1] if model else platform.machine()}, "
         f"{os.cpu_count()} cores, {platform.system()} {platform.release()}\n"
         f"- compiler: {version.splitlines()[0]}, as `{command}`\n"
         f"- command: `make {NAME}`, on {datetime.date.today()}")


class Plot(NamedTuple):
    file: str
    title: str
    text: str  # for those who do not see it

    @staticmethod
    def of(name, title, lines, rows):
        """A row has its place on the x axis and the values of all lines. They
        are left for gnuplot, and told in words."""
        data = "\n".join(" ".join(f'"{cell}"' if " " in cell else cell
                                  for cell in row) for row in rows)
        (RESULTS / f"{name}.dat").write_text(data + "\n")
        columns = zip(*rows)
        places = ", ".join(next(columns))
        told = "; ".join(
            f"{line} {', '.join(column).replace('-', 'not possible')}"
            for line, column in zip(lines, columns))
        return Plot(f"{name}.svg", title, f"{title}, for {places}: {told}")


def draw(plots):
    subprocess.run(["gnuplot", TESTS / f"bench/{NAME}.gp"], cwd=RESULTS,
                   check=True)
    for plot in plots:
        svg = (RESULTS / plot.file).read_text(encoding="utf-8")
        svg = svg.replace("<svg ", '<svg role="img" ', 1)
        for tag, text in ("title", plot.title), ("desc", plot.text):
            svg = re.sub(f"<{tag}>.*?</{tag}>", f"<{tag}>{text}</{tag}>", svg,
                         count=1)
        (RESULTS / plot.file).write_text(svg, encoding="utf-8")


def run(stage, measure_stage, closing=""):
    """Measures a stage, whose function returns its plots, and leaves all that
    was shown."""
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= highest < 10100:
        give_up("10,000 connections need 10,100 descriptors, and "
                f'"ulimit -Hn" is {highest}')
    RESULTS.mkdir(parents=True, exist_ok=True)
    try:
        show_where()
        plots = measure_stage()
        draw(plots)
    except KeyboardInterrupt:
        sys.exit(130)
    images = [f"![{plot.text}]({plot.file})" for plot in plots]
    (RESULTS / f"0{stage}-figures.md").write_text(
        "\n\n".join([f"# Figures of stage {stage}", *shown, *images,
                     *([closing] if closing else [])]) + "\n",
        encoding="utf-8")
    print(f"{NAME}: the tables and plots are in {RESULTS}", file=sys.stderr)
