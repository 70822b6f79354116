"""The museum of mistakes: the cards in tests/mistakes, and by what the grader
knows each mistake.

"Seen" is a pattern for what bats prints of the test that it is "Caught by" (or
"Also caught by"), "Seen anywhere" one for any check. It is never the line of a
test or a time, and no other mistake leaves what it finds.
"""
import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def blocks(path):
    """The blocks of a data file, one after the other, as lists of (field,
    text). Wrapped lines are indented."""
    block = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line and block:
            yield block
            block = []
        elif line[:1] == " ":
            field, text = block[-1]
            block[-1] = (field, f"{text} {line.strip()}")
        elif line[:1] not in ("", "#"):
            field, _, text = line.partition(": ")
            block.append((field, text))
    if block:
        yield block


@functools.lru_cache(maxsize=None)
def cards():
    """Of each mistake its name, and its card as a list of (field, text)."""
    return [(patch.stem, next(blocks(patch)))
            for patch in sorted(ROOT.glob("tests/mistakes/*.patch"))]


def signs(card):
    """For each test that catches a mistake, by what it is known there: a card
    names one test or more, and then what is seen in them. The key None stands
    for any test."""
    known, tests = {}, []
    for field, text in card:
        if field in ("Caught by", "Also caught by"):
            tests.append(text)
        elif field == "Seen":
            known.update(dict.fromkeys(tests, text))
            tests = []
        elif field == "Seen anywhere":
            known[None] = text
    return known


def signature(check, raw):
    """The mistake whose sign is seen where this check has failed, as its name
    and its card; None if there is none, or more than one."""
    found = []
    for name, card in cards():
        known = signs(card)
        sign = known.get(check, known.get(None))
        if sign and re.search(sign, raw, re.M):
            found.append((name, dict(card)))
    return found[0] if len(found) == 1 else None
