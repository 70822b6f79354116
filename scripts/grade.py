#!/usr/bin/env -S python3 -B
"""What a learner wrote, graded. The Makefile calls it.

usage: grade.py N.M           one exercise
       grade.py N             a stage
       grade.py               all that is begun

What is taken from the environment: SERVER, CLIENT or TOOL=COMMAND (the program
to grade instead of the one in my/), HIDDEN=FOLDER (more checks), BUILD, and MY,
the learner's folder (my).

A check is a test of a bats suite, which is run with BUILD set to a folder in
which the learner's program stands beside the reference's others, and with the
variables of the exercise's field "With". The checks that the skeleton would
pass are not among them, so that points are only for what was written.

For scripts/mistake.sh:
       grade.py name CHECK <OUTPUT         the mistake that bats' output shows
       grade.py name-in-exercises NAME     what is wrong with that, in a copy
                                           in which NAME is planted
"""
import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import xml.etree.ElementTree as xml
from pathlib import Path

from exercises import (BUILD, MY, ROOT, Exercise, door, exercises, give_up,
                       numbers_of)
from museum import cards, signature, signs

# For an exercise: nobody waits for more than a minute. What waits within a check
# is in proportion; GRADE_SECONDS is for machines that have much else to do.
GRADED_SECONDS = int(os.environ.get("GRADE_SECONDS") or 55)
CRASHES = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV"}
KERNEL_NAMES = {"accept4": "accept", "recvfrom": "recv", "sendto": "send",
                "pselect6": "select", "ppoll": "poll",
                "epoll_pwait": "epoll_wait"}
CALLS = re.compile(rf"\b({'|'.join(KERNEL_NAMES)})\(")
# Not "undefined": with gcc, that one's reports go past log_path, to standard
# error, and end the program before the other's.
SANITIZE = "-O1 -g -fsanitize=address -fno-omit-frame-pointer -U_FORTIFY_SOURCE"


# --- Running what may hang, crash or flood ------------------------------------

def adopt_orphans():
    """What a program leaves behind becomes a child of this one, to be found
    and ended at the end. (PR_SET_CHILD_SUBREAPER; on Linux only.)"""
    try:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    except AttributeError:
        pass


def children():
    result = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            result.append(int(stat.parent.name))
    return result


def end_children():
    """Ends all that was started, and what that has started."""
    while running := children():
        for process in running:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def limit_compiler():
    """For a source that would take the compiler all memory, or all time."""
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (30, 30))


def make(target, *variables):
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", "-s", f"MY={MY}", *variables, target],
                          env=environment, text=True, check=False,
                          errors="replace", stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          preexec_fn=limit_compiler)


def built(exercise, build=BUILD, *variables):
    """Builds the learner's programs. Returns their paths, and what make said;
    no path if it failed."""
    if not exercise.file.endswith(".c"):
        return [exercise.source], ""
    paths = [f"{build}/{exercise.mine}/{program}" for program in exercise.programs]
    said = ""
    for path in paths:
        result = make(path, f"BUILD={build}", *variables)
        said = "\n".join(line for line in result.stdout.splitlines()
                         if not re.match(r"  (compile|link) |make: ", line))
        if result.returncode != 0:
            return [], said or result.stdout
    return [Path(path) for path in paths], said


def prepare(exercise, command, paths=()):
    """Fills the folder in which the programs are graded: they, and beside them
    the reference's others."""
    programs = exercise.stand / "programs"
    shutil.rmtree(programs, ignore_errors=True)
    programs.mkdir(parents=True)
    for other in BUILD.iterdir():
        if other.is_file() and os.access(other, os.X_OK):
            (programs / other.name).symlink_to(other.resolve())
    if command:
        mine = programs / exercise.program
        mine.unlink(missing_ok=True)
        mine.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        mine.chmod(0o755)
    for path in paths:
        (programs / path.name).unlink(missing_ok=True)
        shutil.copy(path, programs)
        (programs / path.name).chmod(0o755)
    return programs


def certificates():
    """The folder of those that the tests of stage 4 need, made once."""
    made = BUILD / "certs-graded"
    result = subprocess.run(["04-tls/make-certs.sh", "--bad", made], check=False,
                            capture_output=True, text=True)
    if result.returncode != 0:
        give_up(f"no certificates for the tests: {result.stderr}")
    return str(made.resolve())


def limit_files():
    """No file that a program writes grows beyond 64 MB: SIGXFSZ ends it."""
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))


def first_start(exercise, programs):
    """Runs the program once by itself. Returns what is wrong with its start,
    so that its own error is told first, or None."""
    serves = exercise.variable() == "SERVER"
    arguments = exercise.head.get("Start", "127.0.0.1 0" if serves else None)
    if arguments is None:
        return None
    arguments = arguments.replace("CERTS", os.environ.get("CERTS", "")).split()
    log, seconds = programs.parent / "first-start", 5
    with open(log, "wb") as out:
        try:
            process = subprocess.Popen([programs / exercise.program, *arguments],
                                       stdout=out, stderr=out,
                                       stdin=subprocess.DEVNULL,
                                       preexec_fn=limit_files)
        except OSError as error:
            return f"cannot be run: {error}"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with open(log, "rb") as printed:
            if serves and re.match(rb"Listening on .*\n", printed.read(100)):
                break
        if log.stat().st_size > 1 << 20:
            break
        time.sleep(0.02)
    status = process.poll()
    size = log.stat().st_size
    with open(log, "rb") as printed:
        said = printed.read(1500).decode(errors="replace").strip()
    said = "\n".join(line[:200] for line in said.splitlines()[:6])
    end_children()
    log.unlink()
    if "is not written yet" in said:
        return None
    if size > 1 << 20:
        return f"prints without an end; it begins with:\n{said}"
    if serves and not said.startswith("Listening on "):
        how = (f"has not said \"Listening on …\" after {seconds} s"
               if status is None else how_it_ended(status))
        return f"does not start. It {how}" + (f":\n{said}" if said else "")
    if not serves and status is None:
        return f"had not ended after {seconds} s" + (f":\n{said}" if said else "")
    return None


def how_it_ended(status):
    if status < 0:
        return f"was ended by signal {-status} ({signal.Signals(-status).name})"
    return f"ended with status {status}"


def run_checks(checks, programs, until, share=None, **variables):
    """Runs checks. Returns a dictionary of what was seen of each: "" if it
    passed, None if it was skipped. Those that time did not allow are missing.
    Until a check has failed, all the time there is may be used, and then no
    more than share."""
    environment = {**os.environ, "BUILD": str(programs), "EVIDENCE": "1",
                   "HELPERS": str(ROOT / "tests/helpers"),
                   "patience": str(GRADED_SECONDS // 12),
                   "limit": str(GRADED_SECONDS // 9),
                   "BATS_TEST_TIMEOUT": str(GRADED_SECONDS // 3), **variables}
    # Nothing of a bats that this may be run by: neither its variables, nor
    # the folder of its parts, which is first in its PATH.
    environment["PATH"] = os.pathsep.join(
        folder for folder in environment["PATH"].split(os.pathsep)
        if not os.path.exists(f"{folder}/bats-exec-test"))
    for name in list(environment):
        if (name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MY")
                or name.startswith("BATS_") and name not in
                ("BATS_LIB_PATH", "BATS_TEST_TIMEOUT")):
            del environment[name]
    names = "|".join(re.sub(r"([\\.*^$+?(){}|[\]])", r"\\\1", check["Check"])
                     for check in checks)
    files = sorted({check["In"] for check in checks})
    # One file after the other: else what the second says comes when it ends.
    # What a test leaves when its time is up goes with this folder.
    environment["TMPDIR"] = tempfile.mkdtemp(prefix="grade-")
    process = subprocess.Popen(
        ["scripts/suite.sh", "--tap", "--jobs", "4",
         "--no-parallelize-across-files", "-f", f"^({names})$", *files],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, preexec_fn=limit_files)
    seen, name, rest, said = {}, None, b"", []
    while (left := until - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            break
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in (line.decode(errors="replace") for line in lines):
            result = re.match(r"(not )?ok \d+ (.*?)(?: # (skip|timeout).*)?$", line)
            if result:
                name = result[2]
                seen[name] = None if result[3] == "skip" else ""
                if result[1]:
                    seen[name] = "it did not end in time\n" if result[3] else "\n"
                    until = min(until, share or until)
            elif re.match(r"# \S.*\.bats: \d+ s$", line):
                pass  # the time of the suite, after its last test
            elif line.startswith("#") and name and seen[name]:
                seen[name] += line[2:] + "\n"
            elif not re.match(r"1\.\.\d+$|# ", line):
                said.append(line)
    end_children()
    shutil.rmtree(environment["TMPDIR"], ignore_errors=True)
    if not seen and said:
        give_up("the tests did not run: " + "\n".join(said[:5]))
    return seen


# --- What a failure means -----------------------------------------------------

def tidy(text):
    """Without the folders of this run."""
    text = re.sub(r"/\S*/bats-run-[^/ ]*/test/\d+/", "", text)
    return text.replace(f"{ROOT}/", "")


def what_was_seen(raw):
    """In plain words, from what bats and the helpers say of a failure."""
    words, section = [], None
    body = raw.partition("' failed")[2] or raw
    body = re.sub(r"( in vain for: .*?) \(server said: .*?\)$", r"\1", body,
                  flags=re.M | re.S)
    for line in tidy(body).splitlines():
        if line.startswith("evidence: "):
            words.append(line[10:])
        elif line == "--":
            section = None
        elif re.match(r"-- .* --$", line):
            section = line[3:-3]
        elif section and (value := re.match(
                r"(actual|status|output|stderr|line)\b[^:]*:\s?(.*)", line)):
            if value[1] == "line" and "not contain" in section:
                continue  # what was looked for, and not what was there
            text = value[2] or ("" if "(" in line else "nothing")
            if value[1] == "status" or (value[1] == "actual"
                                        and "status differs" in section):
                text = f"exit status {text}"
            words.append(text)
            section += " +"
        elif section and re.match(r"(expected|substring|regexp|index)\b", line):
            section = section.replace(" +", "")
        elif section and section.endswith(" +"):
            words.append(line.strip())
        elif vain := re.match(r"waited (\d+) s in vain for: (?:grep -qF -- "
                              r"(.*) \S+$)?", line):
            words.append(f"not within {vain[1]} s"
                         + (f": {vain[2]}" if vain[2] else ""))
        elif not section and line.strip() and not re.match(
                r"\(|`|\[| in test file|Traceback|  |bats warning", line):
            words.append(line.strip())
    if raw.startswith("it did"):
        words.insert(0, "it did not end in time")
    # Of what Python says of itself, the last line tells most.
    words = [word for word in words
             if not re.match(r'Traceback|File "|\^+$|assert ', word)]
    words = [word.removeprefix("evidence: ") for word in words
             if word not in ("due to timeout", "Terminated")
             and not re.match(r"/\S+: line \d+: +\d+ [A-Z]", word)]
    # strace has the kernel's names; 124 is what timeout(1) says.
    words = [CALLS.sub(lambda call: KERNEL_NAMES[call[1]] + "(", word)
             for word in words]
    words = ["it was still running when its time was up"
             if word == "exit status 124" else word for word in words]
    # For signatures. It tells a learner nothing that doing() does not.
    words = [word for word in words
             if not word.startswith("the server is alive, woke ")] or words
    unique = list(dict.fromkeys(word[:200] for word in words if word))
    return unique[:9] or ["that the check failed, and no more"]


def crash_signal(raw):
    number = re.search(r"by signal (\d+)|(?:exit )?status\s*:?\s*(1[23]\d)\b", raw)
    number = number and (int(number[1]) if number[1] else int(number[2]) - 128)
    return number if number in CRASHES else None


def trace(exercise, check, until):
    """Runs a check that crashed again, with the sanitizers looking on. Returns
    a line that says where, and keeps the full trace in a file."""
    paths, _ = built(exercise, BUILD / "sanitized", f"CFLAGS={SANITIZE}")
    if not paths:
        return None
    programs = prepare(exercise, None, paths)
    log = exercise.stand.resolve() / "trace"
    for old in exercise.stand.glob("trace*"):
        old.unlink()
    options = f"log_path={log}:handle_abort=1:verify_asan_link_order=0:detect_leaks=0"
    run_checks([check], programs, min(until, time.monotonic() + 15),
               ASAN_OPTIONS=options, **exercise.variables)
    reports = sorted(exercise.stand.glob("trace.*"))
    if not reports:
        return None
    text = tidy(reports[0].read_text(errors="replace"))
    for report in reports:
        report.unlink()
    (exercise.stand / "trace").write_text(text)
    frame = re.search(rf"#\d+ \S+ in (\w+) \S*?({exercise.source}:\d+)", text)
    what = re.search(r"ERROR: \w+: (.*?)(?: on | at pc|\n)", text)
    return (f"{what[1] if what else 'a crash'}, in "
            + (f"{frame[1]}(), {frame[2]}" if frame else "no line of yours")
            + f"; the full trace: {exercise.stand / 'trace'}")


# --- Grade --------------------------------------------------------------------

class Result:
    """What the grade of an exercise came to."""
    def __init__(self, exercise, command):
        self.exercise, self.command = exercise, command
        self.points, self.of = 0, exercise.points
        self.passed, self.checks = 0, len(exercise.checks)
        self.first = []     # the block on the first failure, (label, text)
        self.title = ""     # its first line
        self.others = []    # the checks that failed besides
        self.note = ""      # instead of counts: "not begun"
        self.seen = {}      # of each check that ran: see run_checks()


    def counts(self, check):
        return not (self.command and check.get("Needs") == "C")

    def record(self):
        return {"exercise": self.exercise.number, "points": self.points,
                "of": self.of, "passed": self.passed, "checks": self.checks}


def grade(exercise, command, until, share=None):
    result = Result(exercise, command)
    given = {exercise.variable(): command} if command else {}
    again = (f"{door('grade', exercise.number, **given)}      "
             f"Hint: {door('hint', exercise.number)}")
    checks = [check for check in exercise.checks if result.counts(check)]
    result.checks = len(checks)
    paths = []
    if not command:
        if not exercise.source.exists():
            result.note = f"not begun: {door('start', exercise.number)}"
            if exercise.head["From"] == "nothing":  # perhaps it is
                result.note = f"no {exercise.source} yet"
            return result
        paths, said = built(exercise)
        if not paths:
            lines = tidy(said).splitlines()
            result.title = f"First failure: {exercise.number} does not compile"
            result.first = [("Saw", "\n".join(lines[:12])),
                            ("Look", str(exercise.source)), ("Again", again)]
            return result
        if "warning:" in said:
            print(printable(tidy(said)))
    programs = prepare(exercise, command, paths)
    trouble = first_start(exercise, programs)
    if trouble:
        result.title = (f"First failure: {exercise.number}, "
                        f"{exercise.program} {trouble.partition(chr(10))[0].rstrip(':')}")
        result.first = [("Saw", trouble.partition("\n")[2] or "no word of it"),
                        ("Look", str(command or exercise.source)),
                        ("Again", again)]
        return result

    seen = result.seen = run_checks(checks, programs, until, share,
                                    **exercise.variables)
    checks = [check for check in checks if seen.get(check["Check"], "") is not None]
    result.checks = len(checks)
    result.passed = sum(seen.get(check["Check"]) == "" for check in checks)
    result.points = result.of * result.passed // max(1, len(checks))
    failed = [check for check in checks if seen.get(check["Check"])]
    late = [check for check in checks if check["Check"] not in seen]
    unwritten = [re.search(r"(\w+)\(\) is not written yet: (\S+); read ([^\s)]+)",
                           seen[check["Check"]]) for check in failed]
    result.others = [check["Check"] for check, found in zip(failed, unwritten)
                     if not found][1:]
    if any(unwritten):
        # One failure, however many checks wait for that function. (Where a
        # check does not show what the program said, its status does.)
        first = next(filter(None, unwritten))
        unwritten = [found or re.search(r"(status|actual)\s*:\s*99$", seen[check["Check"]], re.M)
                     for check, found in zip(failed, unwritten)]
        count = sum(found is not None for found in unwritten) + len(late)
        result.others = [check["Check"] for check, found
                         in zip(failed, unwritten) if not found]
        result.title = (f"First failure: {exercise.number}, {first[1]}() is not "
                        f"written yet ({count} checks wait for it)")
        result.first = [("Look", first[2]), ("Read", first[3]), ("Again", again)]
    elif failed:
        # The first in which a mistake shows by name tells most.
        first = next((check for check in failed if
                      signature(check["Check"], seen[check["Check"]])), failed[0])
        result.title = f"First failure: {exercise.number}, \"{first['Check']}\""
        result.first = explain(exercise, first, seen[first["Check"]],
                               command, until) + [("Again", again)]
        result.others = [check["Check"] for check in failed if check is not first]
    elif late and time.monotonic() < until - 1:
        result.title = f"First failure: {exercise.number}, not all checks ran"
        result.first = [("Saw", "no result of: " + "; ".join(
            check["Check"] for check in late[:3])), ("Again", again)]
    elif late:
        result.title = f"First failure: {exercise.number}, the time was up"
        result.first = [("Saw", f"{len(late)} checks had no time any more, and none "
                         "before them failed: the machine may be busy"),
                        ("Again", again)]
    if late and failed:
        result.others.append(f"({len(late)} had no time any more)")
    return result


def explain(exercise, check, raw, command, until):
    mistake = signature(check["Check"], raw)
    crashed = crash_signal(raw)
    words = what_was_seen(raw)
    read = check["Read"]
    likely, ask = "not one we know", check["Ask"]
    if mistake:
        name, card = mistake
        likely = f"{name.replace('-', ' ').upper()}: {card['Mistake']}"
        ask = card["Ask"]
        read += f", docs/mistakes.md#{name}"
    elif crashed:
        where = None if command else trace(exercise, check, until)
        likely = f"a crash ({CRASHES[crashed]}): " + (where or "no trace of it")
        ask = ("Which index, length or pointer does that line take for granted?"
               if where else ask)
    look = command or f"{exercise.source}, {check['Look']}"
    return [("Did", check["Did"]), ("Expected", check["Expected"]),
            ("Saw", "\n".join(words)), ("Likely", likely), ("Ask", ask),
            ("Look", look), ("Read", read)]


# --- The report ---------------------------------------------------------------

COLOURED = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def colour(code, text):
    return f"\033[{code}m{text}\033[0m" if COLOURED else text


def printable(text):
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1]
                   for c in text)


def field(label, text):
    lines = [part for line in printable(text).splitlines()
             for part in textwrap.wrap(line, 68, break_long_words=label == "Saw",
                                       break_on_hyphens=False) or [""]]
    if label in ("Again", "Read"):
        lines = printable(text).splitlines()
    print(f"  {colour(36, f'{label:<10}')}" + f"\n{'':12}".join(lines))


def report(results):
    for result in results:
        exercise = result.exercise
        full = result.points == result.of
        print(f"{exercise.number} {exercise.title:<20}"
              + colour(32 if full else 33, f"{result.points:>3}/{result.of}") + "   "
              + (result.note or f"{result.passed} of {result.checks} checks"
                 + (f", {exercise.hidden} of them hidden" if exercise.hidden else "")))
    for result in results:
        if result.first:
            print()
            print(colour(31, result.title))
            for label, text in result.first:
                field(label, text)
            for other in result.others[:5]:
                print(f"  Also      {other}")
            if len(result.others) > 5:
                print(f"            and {len(result.others) - 5} more")
            break
    points = sum(result.points for result in results)
    full = sum(result.of for result in results)
    if points == full:
        print()
        for result in results if len(results) == 1 else results[-1:]:
            print(f"Now you can {result.exercise.head['Now you can']}")
            print(f"Next: {result.exercise.head['Next']}")
            if not result.command:
                print(f"Compare: {door('solution', result.exercise.number)}")
    print(f"SCORE {points}/{full}")
    return points == full


def keep(results):
    """What a teacher's tools read: score.json, and junit.xml, in MY."""
    (MY / "score.json").write_text(json.dumps({
        "points": sum(result.points for result in results),
        "of": sum(result.of for result in results),
        "exercises": [result.record() for result in results]}, indent=2) + "\n")
    suites = xml.Element("testsuites")
    for result in results:
        exercise = result.exercise
        suite = xml.SubElement(suites, "testsuite", tests=str(result.checks), name=
                               f"{exercise.number} {exercise.title}",
                               failures=str(result.checks - result.passed))
        for check in exercise.checks:
            name, seen = check["Check"], result.seen.get(check["Check"])
            case = xml.SubElement(suite, "testcase", name=name,
                                  classname=exercise.number)
            if name not in result.seen and not result.counts(check):
                xml.SubElement(case, "skipped", message="needs C")
            elif name not in result.seen:
                xml.SubElement(case, "failure", message=result.note or "not run")
            elif seen is None:
                xml.SubElement(case, "skipped")
            elif seen:
                xml.SubElement(case, "failure", message="failed").text = printable(
                    "\n".join(what_was_seen(seen)))
    xml.indent(suites)
    xml.ElementTree(suites).write(MY / "junit.xml", encoding="utf-8",
                                  xml_declaration=True)


def grade_all(numbers):
    adopt_orphans()
    for wish in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(wish, lambda *_: sys.exit(130))
    if any(number[0] == "4" for number in numbers) and "CERTS" not in os.environ:
        os.environ["CERTS"] = certificates()
    results = []
    try:
        for number in numbers:
            exercise = Exercise(number)
            command = os.environ.get(exercise.variable())
            others = {"SERVER", "CLIENT", "TOOL"} & set(os.environ)
            if others and not command:
                give_up(f"{number} is graded by {exercise.variable()}=COMMAND, and "
                        f"not by {', '.join(others)}")
            if command and len(numbers) > 1:
                give_up(f"{exercise.variable()}=… is for one exercise: "
                        "make grade-N.M")
            exercise.stand.mkdir(parents=True, exist_ok=True)
            # All that a stage needs to fail takes no longer than it to pass.
            now = time.monotonic()
            share = now + GRADED_SECONDS / min(len(numbers), 4)
            result = grade(exercise, command, now + GRADED_SECONDS, share)
            results.append(result)
            (exercise.stand / "score.json").write_text(
                json.dumps(result.record()) + "\n")
    finally:
        end_children()
    keep(results)
    return report(results)


def name_mistake(check):
    """For scripts/mistake.sh, which proves that each mistake is named."""
    found = signature(check, "".join(line[2:] for line in sys.stdin
                                     if line.startswith("#")))
    print(found[0] if found else "not one we know")


def name_in_exercises(name):
    """Likewise, in a copy in which the mistake is planted: says for which checks
    of an exercise, which its card names besides, the grader would not name it.
    (An exercise that goes beyond the reference cannot be graded with that.)"""
    adopt_orphans()
    card = dict(cards())[name]
    patch = (ROOT / f"tests/mistakes/{name}.patch").read_text(encoding="utf-8")
    for check, exercise in [(check, exercise) for exercise in map(Exercise, exercises())
                            for check in exercise.checks
                            if check["Check"] in signs(card)
                            and check["In"].startswith("exercises/")
                            and f"--- a/{exercise.head['From']}\n" in patch
                            and ("Caught by", check["Check"]) not in card]:
        if exercise.number[0] == "4" and "CERTS" not in os.environ:
            os.environ["CERTS"] = certificates()
        raw = run_checks([check], BUILD.resolve(), time.monotonic() + 60,
                         **exercise.variables).get(check["Check"])
        found = raw and signature(check["Check"], raw)
        if not found or found[0] != name:
            print(f"exercise {exercise.number}, \"{check['Check']}\": the grader "
                  f"calls it {found[0] if found else 'not one we know'}\n{raw}")


def main(arguments):
    os.chdir(ROOT)
    if arguments[:1] == ["name"] and len(arguments) == 2:
        return name_mistake(arguments[1])
    if arguments[:1] == ["name-in-exercises"] and len(arguments) == 2:
        return name_in_exercises(arguments[1])
    if not arguments:
        numbers = [number for number in exercises()
                   if Exercise(number).source.exists()]
        if not numbers:
            give_up(f"nothing is begun: {door('start', '1.1')}")
    elif len(arguments) == 1 and re.fullmatch(r"\d(\.\d)?", arguments[0]):
        numbers = numbers_of(arguments[0])
    else:
        sys.exit(__doc__)
    return 0 if grade_all(numbers) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:  # who read the report has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
