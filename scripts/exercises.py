#!/usr/bin/env -S python3 -B
"""The exercises: begun, helped along, compared. The Makefile calls it.

usage: exercises.py start N.M | hint N.M | solution N.M
       exercises.py start N            the first of a stage

What is taken from the environment: FROM=reference (start), SHOW=anyway
(solution), BUILD, and MY, the learner's folder (my).

An exercise is a folder in exercises/ with a file of that name that holds all
that is particular to it: its title and points, which functions of which file
are to be written, its hints, and its checks. grade.py has what is done with
these.
"""
import difflib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from museum import blocks

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("BUILD", "build"))
MY = Path(os.environ.get("MY") or "my")
STAGES = {"1": "01-echo", "2": "02-multiconn", "3": "03-app-protocol",
          "4": "04-tls"}


def give_up(text):
    sys.exit(f"grade: {text}")


class Exercise:
    def __init__(self, number):
        self.number = number
        self.folder = ROOT / "exercises" / number
        if not (self.folder / "exercise").is_file():
            give_up(f"there is no exercise {number}; there are: "
                    + " ".join(exercises()))
        head, *others = blocks(self.folder / "exercise")
        self.head = dict(head)
        self.stage = STAGES[number[0]]
        self.title, self.programs = self.head["Title"], self.head["Program"].split()
        self.program = self.programs[0]
        self.points = int(self.head["Points"])
        self.variables = dict(word.split("=", 1) for word
                              in self.head.get("With", "").split())
        self.writes = [text.split() for field, text in head if field == "Write"]
        self.hints = [text for block in others for field, text in block
                      if field == "Hint"]
        self.checks = checks_of(others, f"tests/{self.stage}.bats")
        hidden = hidden_checks(number)
        self.checks += hidden
        self.hidden = len(hidden)
        self.mine = MY / number
        self.file = self.head.get("File", f"{self.program}.c")
        self.source = self.mine / self.file
        # Files that stand beside it, as the stage has them, and may be changed.
        self.also = self.head.get("Also", "").split()
        self.stand = self.mine / "build"  # where its program is graded

    def variable(self):
        """By which its program is replaced by any command."""
        kind = self.program.rpartition("-")[2]
        return {"server": "SERVER", "client": "CLIENT"}.get(kind, "TOOL")

    def base(self):
        """The exercise that this one begins with, or None."""
        found = self.head["From"]
        return Exercise(found) if re.fullmatch(r"\d\.\d", found) else None

    def reference(self):
        """Our own solution, as text."""
        patch = self.folder / "solution.patch"
        if self.head["From"] == "nothing":
            return (self.folder / self.file).read_text(encoding="utf-8")
        return patched(self.beginning(), patch)

    def sources(self):
        """Our own solution: for each file of it, where it is in my/N.M, and its
        text there."""
        yield self.source, moved(self, self.reference())
        for name in self.also:
            text = (ROOT / self.stage / name).read_text(encoding="utf-8")
            yield self.mine / name, moved(self, patched(
                text, self.folder / f"solution-{Path(name).stem}.patch"))

    def beginning(self):
        """What it begins with, complete: nothing emptied yet."""
        base = self.base()
        if base:
            return base.reference()
        return (ROOT / self.head["From"]).read_text(encoding="utf-8")

    def score(self):
        """The last result: points, of how many."""
        try:
            kept = json.loads((self.stand / "score.json").read_text())
            return kept["points"], kept["of"]
        except (OSError, ValueError, KeyError):
            return 0, self.points

    def finished(self):
        points, full = self.score()
        return self.source.exists() and points == full


def patched(text, patch):
    if not patch.exists():
        return text
    with Scratch() as scratch:
        file = scratch / "patched"
        file.write_text(text, encoding="utf-8")
        subprocess.run(["patch", "-s", "--fuzz=0", file, patch], check=True)
        return file.read_text(encoding="utf-8")


def checks_of(found, suite):
    """Those blocks that are checks, as dictionaries; suite is where they are,
    unless they say so."""
    return [{"In": suite, "Did": "what its name says", "Expected": "what its "
             "name says", "Ask": "What does the name of the check promise?",
             "Look": "what you wrote", "Read": "docs/README.md", **dict(block)}
            for block in found if block[0][0] == "Check"]


def hidden_checks(number):
    """Those of a teacher, in the folder HIDDEN. A fault of theirs must not cost
    a learner points: it ends the program with status 2."""
    if not os.environ.get("HIDDEN"):
        return []
    folder = Path(os.environ["HIDDEN"]).resolve()
    found = folder / number / "exercise"
    suite = folder / number / "checks.bats"
    wrong = None
    checks = []
    if not folder.is_dir():
        wrong = "it is no folder"
    elif found.is_file() != suite.is_file():
        wrong = f"{number} has only one of exercise and checks.bats"
    elif found.is_file():
        checks = checks_of(blocks(found), str(suite))
        named = sorted(check["Check"] for check in checks)
        tests = sorted(re.findall(r'^@test "(.*)" \{', suite.read_text(), re.M))
        counted = subprocess.run(["bats", "--count", suite], check=False, text=True,
                                 capture_output=True)
        if named != tests:
            wrong = ("only one of exercise and checks.bats has: "
                     + "; ".join(sorted(set(named) ^ set(tests))))
        elif counted.stdout.strip() != str(len(tests)):
            wrong = f"bats says: {(counted.stderr or counted.stdout).strip()}"
    if wrong:
        sys.stderr.write(f"grade: HIDDEN={folder}: {wrong}\n")
        sys.exit(2)
    return checks


def door(verb, number, **variables):
    """What to type for it, with what had to be typed this time."""
    words = [f"make {verb}-{number}"]
    if MY != Path("my"):
        words.append(f"MY={shlex.quote(str(MY))}")
    return " ".join(words + [f"{name}={shlex.quote(value)}"
                             for name, value in variables.items()])


def exercises(stage=""):
    return sorted(path.parent.name
                  for path in ROOT.glob("exercises/*/exercise")
                  if path.parent.name.startswith(stage))


class Scratch:
    """A folder for the time being."""
    def __enter__(self):
        BUILD.mkdir(exist_ok=True)
        self.path = BUILD / f"scratch-{os.getpid()}"
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


# --- Start --------------------------------------------------------------------

# The house's layout: a function begins and ends at the left margin.
FUNCTION = r"^(?P<head>[a-z][^\n;{{]*\b{}\((?P<parameters>[^;{{]*)\))\n{{\n(?P<body>.*?)^}}\n"


def function(text, name):
    return re.search(FUNCTION.format(name), text, re.M | re.S)


def script_skeleton(exercise):
    """The same of a shell script. A function that is not written says what
    UNWRITTEN() in exercises/unwritten.h would."""
    text = exercise.beginning()
    for name, read in exercise.writes:
        text = re.sub(
            rf"^{name}\(\) {{\n.*?^}}\n",
            f'{name}() {{\n    echo "{exercise.source.stem}: {name}() is not written yet: '
            f'{exercise.source}:$LINENO; read {read}" >&2\n    exit 99\n}}\n',
            text, count=1, flags=re.M | re.S)
    return text


def skeleton(exercise):
    """The reference, with the bodies of some functions taken out. Parameters,
    and functions that only these bodies call, are mentioned, so that the
    compiler does not warn of what is not used yet."""
    if exercise.file.endswith(".sh"):
        return script_skeleton(exercise)
    text = exercise.beginning()
    names = [name for name, _ in exercise.writes]
    rest = text
    for name in names:
        rest = rest.replace(function(text, name)[0], "")
    rest = re.sub(r"/\*.*?\*/", "", rest, flags=re.S)
    for name, read in exercise.writes:
        found = function(text, name)
        parameters = re.findall(r"(\w+)(?:,|$)", found["parameters"])
        callees = set(re.findall(r"\b(\w+)\(", found["body"])) - {name}
        # A helper, too, that nothing else calls is for this function.
        lonely = sorted(callee for callee in callees if function(text, callee)
                        and not re.search(rf"\b{callee}\(", rest.replace(
                            (function(rest, callee) or [""])[0], "")))
        used = [word for word in parameters + lonely if word != "void"]
        body = (f'    UNWRITTEN("{read}");\n'
                + "".join(f"    (void){word};\n" for word in used))
        text = text.replace(found[0], f"{found['head']}\n{{\n{body}}}\n")
    if not names:
        return text
    include = '#include "../exercises/unwritten.h" /* UNWRITTEN() */\n'
    at = [match.end() for match in re.finditer(r"^#include.*\n", text, re.M)][-1]
    return text[:at] + include + text[at:]


def moved(exercise, text):
    """The text of a file of the stage's folder, as it has to be in my/N.M: its
    includes, or a script's ways to other files, lead from there."""
    def include(match):
        path = os.path.normpath(f"{exercise.stage}/{match[2]}")
        return f'{match[1]}"../../{path}"'
    if exercise.file.endswith(".sh"):
        return text.replace('"$here/..', '"$here/../..')
    return re.sub(r'^(#include )"([^"]+)"', include, text, flags=re.M)


def start(exercise):
    if exercise.source.exists():
        give_up(f"{exercise.source} is there already, and stays as it is; to "
                f"begin anew, move {exercise.mine} away")
    base = exercise.base()
    if exercise.head["From"] == "nothing":
        text = None
    elif not base:
        text = moved(exercise, skeleton(exercise))
    elif os.environ.get("FROM") == "reference":
        text = moved(base, base.reference())
    elif base.finished():
        text = base.source.read_text(encoding="utf-8", errors="replace")
    else:
        points, full = base.score()
        give_up(f"{exercise.number} begins with your finished {base.number}, whose "
                f"last result is {points}/{full}: {door('grade', base.number)}; or "
                f"with the reference's: "
                f"{door('start', exercise.number, FROM='reference')}")
    exercise.mine.mkdir(parents=True, exist_ok=True)
    if text is not None:
        exercise.source.write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            exercise.source.chmod(0o755)
    for name in exercise.also:
        if not (exercise.mine / name).exists():
            given = (ROOT / exercise.stage / name).read_text(encoding="utf-8")
            (exercise.mine / name).write_text(moved(exercise, given),
                                              encoding="utf-8")
    print(f"{exercise.number} {exercise.title} {exercise.head['Stars']}, "
          f"{exercise.points} points: {exercise.source}\n")
    task = exercise.head["Task"].replace(f"my/{exercise.number}", str(exercise.mine))
    print(textwrap.fill(task, 80) + "\n")
    print(f"Then   {door('grade', exercise.number)}")
    print(f"Hint   {door('hint', exercise.number)}")


# --- Hints, and the solution --------------------------------------------------

def hint(exercise):
    """One question at a time, from the first to the last, and round again."""
    exercise.stand.mkdir(parents=True, exist_ok=True)
    kept = exercise.stand / "hints"
    told = int(kept.read_text()) if kept.exists() else 0
    at = told % len(exercise.hints)
    again = ", from the beginning" if told and not at else ""
    print(f"{exercise.number}, question {at + 1} of {len(exercise.hints)}{again}:\n")
    print(textwrap.fill(exercise.hints[at], 80))
    kept.write_text(str(at + 1))


def solution(exercise):
    if not exercise.source.exists():
        give_up(f"not begun: {door('start', exercise.number)}")
    if not exercise.writes and not any(
            path.name.startswith("solution") or path.name == exercise.file
            for path in exercise.folder.iterdir()):
        give_up(f"there is no solution of {exercise.number} here")
    if not exercise.finished() and os.environ.get("SHOW") != "anyway":
        points, full = exercise.score()
        give_up(f"your last result is {points}/{full}. The way to the rest teaches "
                f"more than the answer: {door('hint', exercise.number)}. To see it all "
                f"the same: {door('solution', exercise.number, SHOW='anyway')}")
    for source, ours in exercise.sources():
        mine = source.read_text(encoding="utf-8", errors="replace")
        sys.stdout.writelines(difflib.unified_diff(
            mine.splitlines(True), ours.splitlines(True),
            str(source), f"our {exercise.number}"))


def numbers_of(wish):
    """The exercises meant by N.M, or by N."""
    numbers = exercises(wish) if re.fullmatch(r"\d", wish) else [wish]
    if not numbers:
        give_up(f"there are no exercises of stage {wish}")
    return numbers


def main(arguments):
    os.chdir(ROOT)
    verbs = {"start": start, "hint": hint, "solution": solution}
    if len(arguments) != 2 or arguments[0] not in verbs or not re.fullmatch(
            r"\d(\.\d)?", arguments[1]):
        sys.exit(__doc__)
    verbs[arguments[0]](Exercise(numbers_of(arguments[1])[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
