#!/usr/bin/env -S python3 -B
"""Hold the Markdown of this repository to what the repository contains.

usage: scripts/docs.py check [FILE...]
       scripts/docs.py refresh [FILE...]

check    complains, one line each, about everything the Markdown shows or
         names that is not so
refresh  rewrites the excerpts and diff boxes from their sources, and, without
         FILE, docs/mistakes.md from the cards of tests/mistakes

Without FILE: README.md, CONTRIBUTING.md and docs/*.md.  The conventions are
captions the reader sees as well; each is described where it is checked.
"""

import ctypes
import functools
import json
import os
import re
import subprocess
import sys
import textwrap
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import museum

ROOT = Path(__file__).resolve().parent.parent

# Every fence says what it is, so that none escapes its check by accident.
FENCES = {"c", "diff", "console", "text", "sh", "make", "hex"}

# Function-like macros of the system headers: the prose writes them as
# functions, but no library exports them.
HEADER_MACROS = set("""
    FD_CLR FD_ISSET FD_SET FD_ZERO
    WCOREDUMP WEXITSTATUS WIFEXITED WIFSIGNALED WIFSTOPPED WSTOPSIG WTERMSIG
    assert offsetof sigsetjmp va_arg va_copy va_end va_start
""".split())

# Words in capitals stand for something the reader fills in; these do not.
CAPITAL_NAMES = {"README", "CONTRIBUTING", "LICENSE", "NOTICE", "CHANGELOG"}

LINK = r"\[`(?P<path>[^`]+)`\]\((?P<link>[^)]+)\)"
C_CAPTION = re.compile(
    LINK + r", (?:(?P<part>part of )?`(?P<function>\w+)\(\)`|in part):")
DIFF_CAPTION = re.compile(LINK + ":")

problems = []


def complain(file, line, what):
    problems.append(f"{display(file)}:{line}: {what}")


def display(path):
    return os.path.relpath(path, ROOT)


# --- Markdown ---------------------------------------------------------------

class Fence(NamedTuple):
    info: str       # the word after the backticks
    line: int       # of the opening fence, counted from 1
    body: list      # the lines between the fences
    prefix: str     # what stands before the fence: the indentation of a list
    caption: str    # the last non-blank line above


class Markdown(NamedTuple):
    file: Path
    fences: list
    prose: str      # the document with its fences blanked, line for line
    headings: list  # (line, level, text)


@functools.lru_cache(maxsize=None)
def parse(file):
    fences, prose, headings = [], [], []
    lines = file.read_text(encoding="utf-8").splitlines()
    caption = ""  # the last line of prose that is not blank
    i = 0
    while i < len(lines):
        opening = re.match(r"([\s>]*)(`{3,}|~{3,})\s*([^\s`]*)[^`]*$", lines[i])
        if opening:
            prefix, marks, info = opening.groups()
            closing = re.compile(rf"[\s>]*{marks[0]}{{{len(marks)},}}\s*$")
            end = i + 1
            while end < len(lines) and not closing.match(lines[end]):
                end += 1
            body = [line[len(prefix):] for line in lines[i + 1:end]]
            fences.append(Fence(info, i + 1, body, prefix, caption))
            if end == len(lines):
                complain(file, i + 1, "this fence is never closed")
            prose += [""] * (end + 1 - i)
            caption = ""
            i = end + 1
            continue
        heading = re.match(r"(#{1,6})\s+(.*?)\s*#*$", lines[i])
        if heading:
            headings.append((i + 1, len(heading[1]), heading[2]))
        if lines[i].strip():
            caption = re.sub(r"^[\s>]*([-*+]\s|\d+\.\s)?\s*", "", lines[i]).rstrip()
        prose.append(lines[i])
        i += 1
    return Markdown(file, fences, "\n".join(prose) + "\n", headings)


def code_spans(text):
    """Yield (start, end, content) of every inline code span, also of one that
    is wrapped over two lines; but a span cannot leave its paragraph."""
    for paragraph in re.finditer(r"(?:.*\S.*\n)+", text):
        for span in re.finditer(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)",
                                paragraph[0], re.DOTALL):
            start = paragraph.start() + span.start()
            yield start, start + len(span[0]), " ".join(span[2].split())


def line_at(text, offset):
    return text.count("\n", 0, offset) + 1


# --- what the repository holds ----------------------------------------------

def sources(*patterns):
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(path for path in found if path.is_file())


@functools.lru_cache(maxsize=None)
def tags():
    """What Universal Ctags finds in the C, shell and bats files."""
    files = [path for path in sources("**/*.[ch]", "**/*.sh", "**/*.bash",
                                      "**/*.bats")
             if path.relative_to(ROOT).parts[0] not in ("build", ".git")]
    # A header is C++ to ctags unless told otherwise.
    command = ["ctags", "--options=NONE", "--languages=C,Sh", "--map-C=+.h",
               "--map-Sh=+.bats", "--map-Sh=+.bash", "--kinds-C=+p",
               "--fields=+neS", "--output-format=json", "-f", "-", "-L", "-"]
    try:
        version = subprocess.run(["ctags", "--version"], text=True,
                                 capture_output=True, check=False).stdout
        if not version.startswith("Universal Ctags"):
            raise FileNotFoundError
        result = subprocess.run(command, input="\n".join(map(str, files)),
                                text=True, capture_output=True, check=True)
    except FileNotFoundError:
        sys.exit("docs.py: needs Universal Ctags as ctags: "
                 "install the package universal-ctags")
    except subprocess.CalledProcessError as error:
        sys.exit(f"docs.py: ctags failed: {error.stderr.strip()}")
    return [json.loads(line) for line in result.stdout.splitlines()]


@functools.lru_cache(maxsize=None)
def defined_functions():
    return {tag["name"] for tag in tags() if tag["kind"] == "function"
            or (tag["kind"] == "macro" and "signature" in tag)}


def is_function(name):
    # The process is linked with the C library: what it exports is found here.
    return (name in defined_functions() or name in HEADER_MACROS
            or hasattr(ctypes.CDLL(None), name))


@functools.lru_cache(maxsize=None)
def programs():
    return {Path(tag["path"]).stem for tag in tags()
            if tag["name"] == "main" and tag["kind"] == "function"
            and re.match(r"0\d-", display(tag["path"]))}


@functools.lru_cache(maxsize=None)
def make_targets():
    """The targets and target patterns of the Makefile, as make itself says."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "BUILD")}
    environment["LC_ALL"] = "C"
    # -r: the built-in patterns would accept nearly any word.
    database = subprocess.run(["make", "-qpr"], cwd=ROOT, env=environment,
                              text=True, capture_output=True, check=False)
    targets, before = set(), ""
    for line in database.stdout.splitlines():
        rule = re.match(r"([^\s#:=][^:=]*)::?(?!=)", line)
        if rule and before != "# Not a target:":
            targets.update(rule[1].split())
        before = line
    return targets


def is_target(word):
    for target in make_targets():
        head, percent, tail = target.partition("%")
        if target == word:
            return True
        if (percent and len(word) > len(head + tail)
                and word.startswith(head) and word.endswith(tail)):
            return True
    return False


def has_placeholder(text):
    words = re.findall(r"(?<![A-Za-z])[A-Z]+(?![A-Za-z])", text)
    return any(word not in CAPITAL_NAMES for word in words)


def anchors(file):
    """The fragments GitHub gives the headings of a Markdown file."""
    seen, result = {}, set()
    for _, _, text in parse(file).headings:
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        result.add(f"{slug}-{count}" if count else slug)
    return result


# --- excerpts and diff boxes ------------------------------------------------

class Source(NamedTuple):
    """Where a fence says its lines come from."""
    path: Path
    first: int      # number of the first line below
    lines: list     # the lines it may be taken from
    whole: bool     # all of them, or a part?


def read_lines(path):
    # An editor strips the one blank of an empty context line in a diff box,
    # rightly so: blanks at the end of a line never count.
    return [line.rstrip()
            for line in path.read_text(encoding="utf-8").splitlines()]


def function_source(path, name, part):
    lines = read_lines(path)
    found = [tag for tag in tags() if tag["kind"] == "function"
             and tag["name"] == name and Path(tag["path"]) == path]
    if len(found) != 1:
        return f"{display(path)} has {len(found) or 'no'} definitions of {name}()"
    start, end = found[0]["line"] - 1, found[0]["end"]
    # ctags points at the name; the return type may stand on lines of its own.
    while start and re.match(r"[^\s#/].*(?<![;}/])$", lines[start - 1]):
        start -= 1
    if not part and start:
        above = start
        # A comment that ends a line of code belongs to that line.
        if re.match(r"(\s|/\*).*\*/$", lines[above - 1]):
            above -= 1
            while above and not lines[above].startswith("/*"):
                above -= 1
        while above and lines[above - 1].startswith("//"):
            above -= 1
        start = above
    return Source(path, start + 1, lines[start:end], not part)


def hunk_source(path):
    """The hunks of a patch, without the prose and the headers above them.
    The counts in @@ tell where a hunk ends: a removed line may look like a
    header."""
    hunks, old, new = [], 0, 0
    for line in read_lines(path):
        counts = re.match(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@", line)
        if old > 0 or new > 0:
            old -= not line.startswith(("+", "\\"))
            new -= not line.startswith(("-", "\\"))
            hunks[-1].append(line)
        elif counts:
            old, new = (1 if n is None else int(n) for n in counts.groups())
            hunks.append([])
        elif line.startswith("\\") and hunks:
            hunks[-1].append(line)
    if not hunks:
        return f"{display(path)} has no hunk"
    lines = hunks[0]
    for hunk in hunks[1:]:
        lines = lines + ["..."] + hunk
    return Source(path, 0, lines, True)


def locate(doc, fence):
    """The Source of a c or diff fence, or what is wrong with its caption."""
    if fence.info == "c":
        caption = C_CAPTION.fullmatch(fence.caption)
        if not caption:
            return ("a c fence needs a caption: [`FILE`](LINK), `NAME()`: or "
                    "…, part of `NAME()`: or …, in part:")
    else:
        caption = DIFF_CAPTION.fullmatch(fence.caption)
        if not caption:
            return "a diff fence needs a caption: [`FILE.patch`](LINK):"
    whole = fence.info == "diff" or (caption["function"] and not caption["part"])
    ends = fence.body[:1] + fence.body[-1:] if not whole else ["whole"]
    if not ends or not all(line.strip() for line in ends):
        return "an excerpt must begin and end with a line that is not empty"
    path = ROOT / caption["path"]
    if not path.is_file():
        return f"there is no file {caption['path']}"
    if (doc.file.parent / caption["link"]).resolve() != path.resolve():
        return f"the caption names {caption['path']} but links to {caption['link']}"
    if fence.info == "diff":
        return hunk_source(path)
    if caption["function"]:
        return function_source(path, caption["function"], caption["part"])
    return Source(path, 1, read_lines(path), False)


def dedent(lines):
    return textwrap.dedent("\n".join(lines)).split("\n")


def nearest(source, body):
    """Where the lines of the source resemble a part most, and these lines."""
    wanted = [line.strip() for line in body]
    best = max(range(max(1, len(source.lines) - len(body) + 1)),
               key=lambda at: sum(
                   line.strip() == want
                   for line, want in zip(source.lines[at:], wanted)))
    return best, dedent(source.lines[best:best + len(body)])


def is_part(source, body):
    size = len(body)
    return any(dedent(source.lines[at:at + size]) == body
               for at in range(len(source.lines) - size + 1))


def check_excerpt(doc, fence):
    source = locate(doc, fence)
    if isinstance(source, str):
        complain(doc.file, fence.line, source)
        return
    body = [line.rstrip() for line in fence.body]
    at, expected = 0, source.lines
    if not source.whole:
        body = dedent(body)
        if is_part(source, body):
            return
        at, expected = nearest(source, body)
    for i, (want, have) in enumerate(zip_longest(expected, body)):
        if want != have:
            want = "the end of the block" if want is None else repr(want)
            have = "the end of the block" if have is None else repr(have)
            where = display(source.path)
            if source.first:
                where += f":{source.first + at + i}"
            complain(doc.file, fence.line + 1 + i,
                     f"expected {want} as in {where}, found {have}")
            return


def refreshed(source, body):
    """The lines that belong into a fence now, or why they can't be told."""
    if source.whole:
        return source.lines
    body = dedent([line.rstrip() for line in body])
    if is_part(source, body):
        return body
    found = []
    for first, line in enumerate(source.lines):
        if line.strip() != body[0].strip():
            continue
        shift = len(line) - len(line.lstrip())
        shift -= len(body[0]) - len(body[0].lstrip())
        found += [(first, last)
                  for last in range(first, len(source.lines))
                  if shift >= 0
                  and source.lines[last] == " " * shift + body[-1]]
    if len(found) != 1:
        many = "several places begin" if found else "no place begins"
        return (f"{many} with {body[0]!r} and end{'' if found else 's'} with "
                f"{body[-1]!r} in {display(source.path)}: refresh it by hand")
    first, last = found[0]
    return dedent(source.lines[first:last + 1])


def refresh(doc):
    lines = doc.file.read_text(encoding="utf-8").splitlines()
    # From the end, so that the numbers of the lines above stay true.
    for fence in reversed(doc.fences):
        if fence.info not in ("c", "diff"):
            continue
        source = locate(doc, fence)
        body = source if isinstance(source, str) else refreshed(source, fence.body)
        if isinstance(body, str):
            complain(doc.file, fence.line, body)
            continue
        new = [(fence.prefix + line).rstrip() for line in body]
        where = slice(fence.line, fence.line + len(fence.body))
        if lines[where] != new:
            lines[where] = new
            print(f"{display(doc.file)}:{fence.line}: "
                  f"refreshed from {display(source.path)}")
            doc.file.write_text("\n".join(lines) + "\n", encoding="utf-8")


# --- the checks -------------------------------------------------------------

def check_fences(doc):
    for fence in doc.fences:
        if fence.info not in FENCES:
            complain(doc.file, fence.line,
                     f"a fence must say what it is, one of: "
                     f"{' '.join(sorted(FENCES))}; found {fence.info!r}")
        elif fence.info in ("c", "diff"):
            check_excerpt(doc, fence)
        elif fence.info == "sh" and display(doc.file) != "CONTRIBUTING.md":
            complain(doc.file, fence.line, "sh fences are for CONTRIBUTING.md; "
                     "what a reader types is a console transcript")
        elif fence.info == "console":
            # tests/helpers/transcripts.py runs it in the terminal named.
            if "terminal" not in fence.caption.lower():
                complain(doc.file, fence.line, "the line above a console fence "
                         "must name its terminal")
            for i, line in enumerate(fence.body, fence.line + 1):
                if re.match(r"\$ make(\s|$)", line):
                    check_make(doc, i, line[2:])


def check_links(doc):
    # What looks like a link inside a code span is none.
    text = doc.prose
    for start, end, _ in code_spans(text):
        text = text[:start] + re.sub(".", "x", text[start:end]) + text[end:]
    links = re.finditer(r"\]\(<?([^)\s>]+)|^\s*\[[^\]]+\]:\s+<?([^\s>]+)",
                        text, re.MULTILINE)
    for link in links:
        target = link[1] or link[2]
        if re.match(r"(https?|mailto):", target):
            continue
        line = line_at(text, link.start())
        path, _, fragment = target.partition("#")
        file = (doc.file.parent / path).resolve() if path else doc.file
        if path.startswith("/") or ROOT not in (file, *file.parents):
            complain(doc.file, line, f"the link {target} leaves the repository")
        elif not file.exists():
            complain(doc.file, line, f"the link {target} leads nowhere")
        elif fragment and file.suffix != ".md":
            complain(doc.file, line,
                     f"the link {target}: only Markdown has headings to lead to")
        elif fragment and fragment not in anchors(file):
            complain(doc.file, line,
                     f"the link {target}: {display(file)} has no such heading")


def check_spans(doc):
    for start, _, span in code_spans(doc.prose):
        line = line_at(doc.prose, start)
        function = re.fullmatch(r"([A-Za-z_]\w*)\(\)", span)
        if function:
            if not is_function(function[1]):
                complain(doc.file, line, f"there is no function {span}")
        elif re.match(r"make\s", span):
            check_make(doc, line, span)
        elif looks_like_path(span):
            check_path(doc, line, span)


def looks_like_path(span):
    if not re.fullmatch(r"[\w.][\w.+/-]*", span):
        return False
    if re.fullmatch(r"[\d.]+/\d+", span):  # a network: 127.0.0.0/8
        return False
    if re.fullmatch(r"(text|binary)/[\w-]+", span):  # a type of content
        return False
    return "/" in span or re.search(r"[^.]\.(c|h|md|bats|sh|py|patch)$", span)


def check_path(doc, line, span):
    program = re.fullmatch(r"(?:\./)?build/(.*)", span)
    if program:  # a clean checkout has no build/ yet
        exists = (not program[1] or program[1] in programs()
                  or is_target(f"build/{program[1]}"))
    else:
        exists = ((ROOT / span).exists() or (doc.file.parent / span).exists()
                  or "/" not in span and any(ROOT.glob(f"0*/{span}")))
    if not exists and not has_placeholder(span):
        complain(doc.file, line, f"there is no {span}"
                 + (" among the programs that are built" if program else ""))


def check_make(doc, line, command):
    # Only this command's words: not those behind a ; or | or a redirection,
    # and not what is quoted.
    command = re.sub("'[^']*'", "", command)
    words = re.split(r"\s\d?[;&|<>#]|;", command)[0].split()[1:]
    for word in words:
        if ("=" not in word and not word.startswith("-")
                and not has_placeholder(word) and not is_target(word)):
            complain(doc.file, line, f"make has no target {word}")


def glossed(file):
    """The functions a walkthrough explains: a row of a table or an item of a
    list in a section that is headed `… from common/`."""
    doc = parse(file)
    names, level, item = set(), 0, False
    heads = {line: (depth, text) for line, depth, text in doc.headings}
    for number, line in enumerate(doc.prose.splitlines(), 1):
        if number in heads:
            depth, text = heads[number]
            if "from common" in text.lower().replace("`", ""):
                level = depth
            elif depth <= level:
                level = 0
        if re.match(r"\s*([-*+]|\d+\.)\s|\s*\|", line):
            item = True
        elif line and not line[0].isspace():
            item = False
        if level and item:
            names.update(re.findall(r"`(\w+)\(\)`", line))
    return names


def check_glosses(files):
    """A reader of a stage meets only functions of common/ that its own or an
    earlier walkthrough has explained."""
    declared = {tag["name"] for tag in tags()
                if tag["kind"] in ("prototype", "function")
                and re.fullmatch(r"common/[^/]+\.h", display(tag["path"]))}
    known = set()
    for stage in sorted(ROOT.glob("0[0-9]-*/")):
        walkthroughs = sources(f"docs/{stage.name[:3]}*.md")
        for file in walkthroughs:
            known |= glossed(file)
        file = walkthroughs[0] if walkthroughs else ROOT / f"docs/{stage.name}.md"
        if file in files or not walkthroughs:
            code = "".join(path.read_text(encoding="utf-8")
                           for path in sources(f"{stage.name}/*.[ch]"))
            # A quotation mark as a character would begin a string.
            code = re.sub(r"""//[^\n]*|/\*.*?\*/|'"'|"(?:\\.|[^"\\])*\"""", "",
                          code, flags=re.DOTALL)
            called = set(re.findall(r"\b(\w+)\s*\(", code))
            for name in sorted(called & declared - known):
                complain(file, 1, f"{stage.name} calls {name}(), which no "
                         "section \"… from `common/`\" has explained so far")


# --- The catalogue of mistakes ----------------------------------------------

CATALOGUE = ROOT / "docs/mistakes.md"

CATALOGUE_HEAD = """# The museum of mistakes

The classic mistakes of socket programming, by name. Each is a patch in
[tests/mistakes](../tests/mistakes) with a card, and this page is its cards.
`make mistake NAME=…` plants one in a copy of the programs, shows the
difference, and runs the test that is there for it; `make mistakes` proves that
each is seen. The page is made by `make docs`: change the cards.
"""


def card(patch):
    """The fields of a card, and the stage that the mistake belongs to: that of
    the file that is changed, or else of the first suite that sees it."""
    text = patch.read_text(encoding="utf-8")
    fields = dict(next(museum.blocks(patch)))
    stage = re.search(r"^--- a/0(\d)-", text, re.M)
    if not stage:
        suites = (suite.name for suite in sources("tests/0*.bats") if
                  f'@test "{fields["Caught by"]}" {{' in suite.read_text())
        stage = re.match(r"0(\d)", next(suites))
    return int(stage[1]), patch.stem, fields


def catalogue():
    cards = sorted(card(patch) for patch in sources("tests/mistakes/*.patch"))
    lines, before = [CATALOGUE_HEAD], 0
    for stage, name, fields in cards:
        if stage != before:
            lines.append(f"## Stage {stage}\n")
        before = stage
        lines.append(f"### {name}\n")
        for field, text in fields.items():
            if field in ("Seen", "Seen anywhere", "Also caught by"):
                continue  # for the grader
            text = re.sub(r"([*<\[\\])", r"\\\1", text)
            shown = f"**{text}**" if field == "Mistake" else f"{field}: {text}"
            lines.append(textwrap.fill(shown, 80, break_long_words=False,
                                       break_on_hyphens=False) + "\n")
    return "\n".join(lines)


def check_catalogue():
    if not CATALOGUE.is_file() or CATALOGUE.read_text() != catalogue():
        complain(CATALOGUE, 1, "not what the cards say: make docs")
    prose = "".join(file.read_text() for file in sources("docs/0[0-9]-*.md"))
    for patch in sources("tests/mistakes/*.patch"):
        if f"](mistakes.md#{patch.stem})" not in prose:
            complain(CATALOGUE, 1, f"no walkthrough has a link to {patch.stem}")


def main(arguments):
    if not arguments or arguments[0] not in ("check", "refresh"):
        sys.stderr.write(__doc__)
        return 2
    files = [Path(name).resolve() for name in arguments[1:]]
    for file in files:
        if not file.is_file() or ROOT not in file.parents:
            sys.stderr.write(f"docs.py: {file}: no file of this repository\n")
            return 2
    museum = not files and bool(sources("tests/mistakes/*.patch"))
    if museum and arguments[0] == "refresh":
        CATALOGUE.write_text(catalogue(), encoding="utf-8")
    files = files or sources("README.md", "CONTRIBUTING.md", "docs/*.md")
    for file in files:
        doc = parse(file)
        if arguments[0] == "refresh":
            refresh(doc)
        else:
            check_fences(doc)
            check_links(doc)
            check_spans(doc)
    if arguments[0] == "check":
        check_glosses(files)
        if museum:
            check_catalogue()
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
