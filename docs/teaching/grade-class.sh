#!/usr/bin/env bash
# grade-class.sh FOLDER N.M...: grades what a class has handed in, a folder in
# FOLDER for each learner, and prints a table (CSV): name, points, of how many,
# and the first failure. REPORTS=FOLDER keeps there what each would have seen.
#
# A name that a spreadsheet would take for a formula gets a ' before it.
set -u
if [[ $# -lt 2 || ! -d $1 ]]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd) || exit
class=$(cd "$1" && pwd) || exit
shift
for exercise; do
    [[ -e $here/../../exercises/$exercise/exercise ]] ||
        { echo "grade-class: there is no exercise $exercise" >&2 && exit 2; }
done
[[ -z ${REPORTS:-} ]] || mkdir -p "$REPORTS" || exit

# row NAME [REPORT]: a line of the table, from the result on standard input; it
# fails if that was not graded alone
row() {
    python3 -c '
import csv, json, re, sys

def safe(text):
    text = "".join(c if c.isprintable() else "?" for c in str(text))
    return "\u0027" + text if re.match("[=+@-]", text) else text

try:
    result = json.load(sys.stdin)
except ValueError:
    result = {"points": 0, "of": "?", "first": "could not be graded"}
csv.writer(sys.stdout, lineterminator="\n").writerow(
    [safe(sys.argv[1]), result["points"], result["of"], safe(result["first"])])
if len(sys.argv) > 2:
    with open(sys.argv[2], "w", errors="replace") as file:
        file.write(result.get("report", result["first"]) + "\n")
sys.exit(not result.get("alone", True))
' "$@"
}

# Once for all of them: each gets a copy.
if ! said=$(make -s -C "$here/../.." programs unit-programs build/shim.so 2>&1); then
    printf '%s\n' "$said" >&2
    exit 1
fi
alone=yes
echo 'name,points,of,first failure'
for folder in "$class"/*/; do
    folder=${folder%/}
    name=${folder##*/}
    [[ $name != '*' ]] || continue
    "$here/grade-submission.py" "$folder" "$@" |
        row "$name" ${REPORTS:+"$REPORTS/$name.txt"} || alone=no
done
[[ $alone == yes ]] ||
    echo "grade-class: some had the network, or all rights of yours, while they ran" >&2
