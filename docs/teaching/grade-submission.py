#!/usr/bin/env python3
"""Grades what somebody has handed in, and trusts nothing of it.

usage: grade-submission.py FOLDER N.M...

In FOLDER are the files of an exercise: in my/N.M, in N.M, or in FOLDER itself.
Regular files with plain names are copied into a new folder, and no links, no
folder called build, and nothing that is named like a result. There they are
graded, each exercise by itself, with a copy of the programs in build/, without
a terminal, and where this machine lets a common user have that (unshare),
without a network, a sight of other processes, and the right to write elsewhere.

Prints an object of JSON: "points", "of", "first" (the first failure, in a
line), "report" (what the learner would have seen, and what was not copied),
"alone" (whether it was without all that), and "exercises", a list of the same
for each. The exit status is 0 if it ran to the end, and 1 if something could
not be graded.

What is taken from the environment: HIDDEN, SERVER, CLIENT, TOOL as by "make
grade"; in a command, $SUBMISSION is the folder of the files. GRADE_SECONDS.
"""
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))
import grade  # noqa: E402

MOST_FILES, MOST_BYTES = 100, 1 << 20
MOST_REPORT = 20000
# For an exercise: what grade.py allows itself, and the compiler besides.
SECONDS = 2 * grade.GRADED_SECONDS + 60
PASSED_ON = ("PATH", "LANG", "LC_ALL", "CC", "BATS_LIB_PATH", "GRADE_SECONDS",
             "HIDDEN", "SERVER", "CLIENT", "TOOL")
# A network and processes of its own, none of the sockets and of the memory by
# which services are spoken to, and no file to be written but in $0. "true" is
# the rehearsal: it ends with 124 where all but the last can be had.
ALONE = """
mount --bind "$0" "$0" && ip link set lo up || exit 125
for folder in /run /dev/shm; do
    [ ! -d "$folder" ] || mount -t tmpfs tmpfs "$folder" || exit 125
done
[ -d "$0" ] || exit 125
mount -o remount,bind,ro / 2>/dev/null || [ "$1" != true ] || exit 124
exec "$@"
"""


def source_of(folder, number):
    """Where the files of the exercise are: not where a link leads to."""
    for found in (folder / "my" / number, folder / number):
        if found.is_dir() and found.resolve() == found:
            return found
    return folder


def wanted(path, kind):
    """May the file or folder of this name and kind be copied?"""
    name = os.path.basename(path)
    if (not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*", name)
            or name in ("build", "score.json", "junit.xml")):
        return False
    return (stat.S_ISDIR(kind.st_mode)
            or stat.S_ISREG(kind.st_mode) and kind.st_size <= MOST_BYTES)


def collect(source, target, left_out):
    """Copies what may be copied, and notes what may not."""
    target.mkdir(parents=True)
    count = 0
    for folder, folders, files in os.walk(source):
        inner = target / os.path.relpath(folder, source)
        inner.mkdir(exist_ok=True)
        for name in sorted(folders + files):
            path = f"{folder}/{name}"
            if count == MOST_FILES or not wanted(path, os.lstat(path)):
                left_out.append(ascii(os.path.relpath(path, source))[1:-1])
                if name in folders:
                    folders.remove(name)
            elif name in files:
                shutil.copyfile(path, inner / name, follow_symlinks=False)
                count += 1


def copy_build(build, target):
    """The programs, and of what they were made: make finds all up to date."""
    target.mkdir()
    for path in build.iterdir() if build.is_dir() else []:
        if path.is_file():
            shutil.copy2(path, target)
        elif re.fullmatch(r"common|tests|0\d-.*", path.name):
            shutil.copytree(path, target / path.name)


def alone(work):
    """What to put before a command so that it is without a network, or nothing
    if this machine does not allow that; and whether it cannot write, either."""
    words = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid",
             "--fork", "--kill-child", "--mount-proc", "sh", "-c", ALONE, work]
    try:
        done = subprocess.run([*words, "true"], capture_output=True, check=False)
        return words if done.returncode in (0, 124) else [], done.returncode == 0
    except OSError:
        return [], False


def run(command, work, environment):
    """Runs it to the end, or for SECONDS, without the terminal, into which it
    could type. Returns its status, and what it printed."""
    with open(work / "printed", "wb+") as printed:
        process = subprocess.Popen(command, cwd=ROOT, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=printed,
                                   stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:  # after Ctrl-C, too, which it does not hear
            process.kill()
            process.wait()
            grade.end_children()
        printed.seek(max(0, printed.seek(0, os.SEEK_END) - MOST_REPORT))
        return process.returncode, printed.read().decode(errors="replace")


def believed(score, full, lines, status):
    """The points of score.json, which a program may have written itself after
    it had ended its grader: ValueError, if that did not say the same."""
    points = score["points"]
    if (type(points) is not int or not 0 <= points <= full or score["of"] != full
            or lines[-1:] != [f"SCORE {points}/{full}"]
            or (status == 0) != (points == full)):
        raise ValueError
    return points


def graded(number, folder):
    """The result of one exercise."""
    left_out = []
    exercise = grade.Exercise(number)
    with tempfile.TemporaryDirectory(
            prefix="grade-", ignore_cleanup_errors=True) as name:
        work = Path(name).resolve()
        mine = work / "my" / number
        collect(source_of(folder, number), mine, left_out)
        copy_build(ROOT / (os.environ.get("BUILD") or "build"), work / "build")
        environment = {variable: os.environ[variable] for variable in PASSED_ON
                       if variable in os.environ}
        environment.update(MY=str(work / "my"), BUILD=str(work / "build"),
                           SUBMISSION=str(mine), HOME=name, TMPDIR=name)
        if "HIDDEN" in environment:
            environment["HIDDEN"] = str(Path(environment["HIDDEN"]).resolve())
        within, shut = alone(name)
        status, printed = run([*within, "make", "-s", "--no-print-directory",
                               f"grade-{number}"], work, environment)
        # What the learner would have seen, in the learner's own folder.
        printed = printed.replace(f" MY={work}/my", "").replace(f"{work}/", "")
        lines = [line for line in printed.splitlines()
                 if not re.match(r"  (compile|link) |make: \*\*\* ", line)]
        result = {"exercise": number, "points": 0, "of": exercise.points,
                  "first": "", "alone": shut, "graded": True}
        try:
            score = json.loads((work / "my" / "score.json").read_text())
            result["points"] = believed(score, exercise.points, lines, status)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            result.update(graded=False, first="could not be graded: "
                          + (lines or ["the grader ended without a word"])[-1][:200])
    if result["graded"] and result["points"] < result["of"]:
        first = [line for line in lines if line.startswith("First failure: ")]
        result["first"] = (first[0].removeprefix("First failure: ") if first
                           else f"{number}, not begun")
        if left_out and not first:
            result["first"] += f" (left out: {', '.join(left_out[:3])})"
    if left_out:
        lines.append("\nLeft out: " + ", ".join(left_out[:20]))
    result["report"] = "\n".join(lines)
    return result


def main(arguments):
    if len(arguments) < 2 or not os.path.isdir(arguments[0]):
        sys.stderr.write(__doc__)
        return 2
    folder = Path(arguments[0]).resolve()
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # where ip(8) is
    grade.adopt_orphans()
    for wish in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(wish, lambda *_: sys.exit(130))
    results = [graded(number, folder) for number in arguments[1:]]
    print(json.dumps({
        "points": sum(result["points"] for result in results),
        "of": sum(result["of"] for result in results),
        "first": next((r["first"] for r in results if r["first"]), ""),
        "report": "\n\n".join(result["report"] for result in results),
        "alone": all(result["alone"] for result in results),
        "exercises": results}, indent=2))
    return 0 if all(result["graded"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
