#!/usr/bin/env python3
"""Classroom 50 runs this in the folder of a submission. Beside it stands
repository.tar, the teacher's copy of the tutorial, which is what grades; what
is in the submission is only graded. Writes result.json and release-body.md.
The exit status is not 0 if it could not be graded at all."""
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

EXERCISES = ["1.3"]  # what this assignment is


def write(name, text):
    """A new file, whatever of that name was handed in."""
    path = Path(name)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def grade(scratch):
    subprocess.run(["tar", "-C", scratch, "-xf",
                    Path(__file__).resolve().parent / "repository.tar"], check=True)
    graded = subprocess.run(
        [Path(scratch) / "docs/teaching/grade-submission.py", os.getcwd(),
         *EXERCISES], stdout=subprocess.PIPE, check=False)
    if graded.returncode != 0:
        sys.exit(f"not graded: {graded.stdout.decode(errors='replace')}")
    return json.loads(graded.stdout)


def main():
    with tempfile.TemporaryDirectory() as scratch:
        result = grade(scratch)
    given = {name: os.environ.get(name, "") for name in
             ("CLASSROOM", "ASSIGNMENT", "SUBMISSION_TAG", "COMMIT_URL",
              "RELEASE_URL", "REVIEW_URL")}
    now = datetime.datetime.now(datetime.timezone.utc)
    write("result.json", json.dumps({
        "schema": "classroom50/result/v1",
        "classroom": given["CLASSROOM"],
        "assignment": given["ASSIGNMENT"],
        "submission": given["SUBMISSION_TAG"],
        "commit": given["COMMIT_URL"],
        "release": given["RELEASE_URL"],
        "review": given["REVIEW_URL"] or given["COMMIT_URL"],
        "datetime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "score": result["points"],
        "max-score": result["of"],
        "tests": [{"test-name": exercise["exercise"],
                   "passed": exercise["points"] == exercise["of"],
                   "score": exercise["points"], "max-score": exercise["of"]}
                  for exercise in result["exercises"]]}, indent=2) + "\n")
    write("release-body.md", "```text\n" + result["report"].replace("```", "'''")
          + "\n```\n")


main()
