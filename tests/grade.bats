#!/usr/bin/env bats
# The grader, put to the test: right solutions get full marks, skeletons none,
# and wrong ones the right words. It grades in a copy of the repository, where
# "my-NAME" is the learner's folder NAME.
#
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/.." || return
    export copy=$BATS_FILE_TMPDIR/copy
    # Here others run beside it: what is proved is what it says, not how fast.
    export GRADE_SECONDS=165
    unset BUILD
    mkdir "$copy"
    cp -R Makefile common 0?-* scripts tests exercises docs "$copy"
    make -s -C "$copy" programs unit-programs build/shim.so >"$BATS_FILE_TMPDIR/made" 2>&1 ||
        { cat "$BATS_FILE_TMPDIR/made"; return 1; }
}

setup() {
    bats_load_library bats-support
    bats_load_library bats-assert
    cd "$copy" || return
}

# my NAME GOAL [VARIABLE=VALUE...]: a door, for the folder my-NAME
my() { run make -s --no-print-directory MY="my-$1" "${@:2}"; }

# solution NAME N.M: puts our solution of an exercise there
solution() {
    mkdir -p "my-$1/$2"
    python3 -B - "my-$1" "$2" <<'PYTHON'
import os, sys
os.environ["MY"] = sys.argv[1]
sys.path.insert(0, "scripts")
import exercises
exercise = exercises.Exercise(sys.argv[2])
for source, text in exercise.sources():
    source.write_text(text)
PYTHON
}

exercises() { (cd exercises && echo "$1".*); }

# wrong NAME OLD NEW: the reference's server, with one change
wrong() {
    solution "$1" 1.1
    python3 - "my-$1/1.1/echo-server.c" "${@:2}" <<'PYTHON'
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
assert old in text, old
open(path, "w").write(text.replace(old, new))
PYTHON
}

last_line() { [[ ${lines[-1]} == "$1" || ${lines[-2]} == "$1" ]] || fail "$output"; }

@test "the data of the exercises hold together: names, headings, points" {
    run python3 -B - <<'PYTHON'
import re, sys
sys.path.insert(0, "scripts")
import docs, exercises, museum

def read(target):
    file, _, heading = target.partition("#")
    if heading and heading not in docs.anchors(docs.ROOT / file):
        print(f"{exercise.number}: {target} leads nowhere")

points = dict.fromkeys("1234", 0)
for number in exercises.exercises():
    exercise = exercises.Exercise(number)
    points[number[0]] += exercise.points
    for _, target in exercise.writes:
        read(target)
    for check in exercise.checks:
        suite = exercises.ROOT / check["In"]
        if f'@test "{check["Check"]}" {{' not in suite.read_text():
            print(f"{number}: {suite} has no test: {check['Check']}")
        read(check["Read"])
        for field in ("Did", "Expected", "Ask", "Look"):
            if check[field] == exercises.checks_of([[("Check", "")]], "")[0][field]:
                print(f"{number}: {check['Check']}: {field} is missing")
suites = "".join(path.read_text() for pattern in ("tests/0*.bats", "exercises/*/checks.bats")
                 for path in exercises.ROOT.glob(pattern))
for name, card in museum.cards():
    signs = museum.signs(card)
    for field, text in card:
        if field in ("Caught by", "Also caught by") and not {text, None} & set(signs):
            print(f"{name}: nothing is Seen in: {text}")
    if not dict(card).get("Ask", "").endswith("?"):
        print(f"{name}: an Ask is a question")
    for sign in signs.values():
        # Tests move, and anything may be slow.
        if re.search(r"\.bats|\bline\b|not ok|in vain|timeout", sign):
            print(f"{name}: any failure may print this: {sign}")
    for field, text in card:
        if field in ("Caught by", "Also caught by") and f'@test "{text}" {{' not in suites:
            print(f"{name}: there is no test: {text}")
for stage, count in points.items():
    if count != 100:
        print(f"stage {stage} has {count} points")
PYTHON
    assert_success
    assert_output ""
}

# That each mistake is named is proved by "make mistakes"; here, that it comes
# to the learner: by the sign of a crash, of a byte, of what strace sees, in a
# client, and where other checks fail before the one that tells.
@test "a mistake of the museum is told by its name, with its question" {
    for name in sigpipe one-send leaked-descriptor stdout-unchecked accept-ends-server; do
        run tests/helpers/plant.sh $name
        assert_output --regexp "  Likely    $(tr 'a-z-' 'A-Z ' <<<"$name"): "
        assert_output --partial "docs/mistakes.md#$name"
    done
}

# What is begun compiles without a warning, and has no point: what is written
# already is worth none.
skeletons_score_nothing() { # STAGE
    local exercise points=0
    for exercise in $(exercises "$1"); do
        my skeleton start-"$exercise"
        if [[ $status -ne 0 ]]; then
            assert_output --partial "FROM=reference"
            my skeleton start-"$exercise" FROM=reference
        fi
        assert_success
    done
    my skeleton grade-"$1"
    assert_failure
    refute_output --partial warning
    last_line 'SCORE 0/100'
}

reference_scores_all() { # STAGE
    local exercise
    for exercise in $(exercises "$1"); do
        solution ours "$exercise"
    done
    my ours grade-"$1"
    assert_success
    refute_output --partial warning
    assert_equal "${lines[-1]}" 'SCORE 100/100'
    my ours solution-"$1.3"
    assert_success
    assert_output ''
}

@test "stage 1: skeletons compile without a warning, and score nothing" {
    skeletons_score_nothing 1
    assert_line --partial '1.1, listen_on() is not written yet (38 checks wait for it)'
    assert_line --partial 'my-skeleton/1.1/echo-server.c:33'
    refute_output --partial Also
}

@test "stage 2: skeletons compile without a warning, and score nothing" { skeletons_score_nothing 2; }
@test "stage 3: skeletons compile without a warning, and score nothing" { skeletons_score_nothing 3; }
@test "stage 4: skeletons compile without a warning, and score nothing" { skeletons_score_nothing 4; }
@test "stage 1: the reference and our solutions get full marks" { reference_scores_all 1; }
@test "stage 2: the reference and our solutions get full marks" { reference_scores_all 2; }
@test "stage 3: the reference and our solutions get full marks" { reference_scores_all 3; }
@test "stage 4: the reference and our solutions get full marks" { reference_scores_all 4; }

# full_marks POINTS N.M VARIABLE HELPER: a solution in another language
full_marks() {
    my python grade-"$2" "$3=python3 tests/helpers/$4"
    assert_success
    assert_equal "${lines[-1]}" "SCORE $1/$1"
}

@test "stage 1: solutions in Python get full marks, and checks that need C do not count" {
    full_marks 30 1.1 SERVER echo_server.py
    assert_line --partial '31 of 31 checks'
    full_marks 20 1.2 CLIENT echo_client.py
    full_marks 10 1.3 SERVER 'echo_server.py --upper'
    full_marks 20 1.4 CLIENT echo_client.py
    full_marks 20 1.5 SERVER 'echo_server.py --fork'
}

@test "stage 2: solutions in Python get full marks" {
    full_marks 15 2.1 SERVER 'multiconn_server.py --discard'
    full_marks 35 2.2 SERVER multiconn_server.py
    full_marks 15 2.3 CLIENT multiconn_client.py
    full_marks 15 2.4 SERVER multiconn_server.py
    full_marks 20 2.5 SERVER 'multiconn_server.py --chat'
}

@test "stage 3: solutions in Python get full marks" {
    full_marks 40 3.1 TOOL message_tool.py
    full_marks 15 3.2 SERVER app_server.py
    full_marks 20 3.3 SERVER app_server.py
    full_marks 25 3.4 CLIENT app_client.py
}

@test "what does not compile, or start, is told by its own error" {
    wrong syntax 'unsigned char buf[4096];' 'unsigned char buf[4096]'
    my syntax grade-1.1
    assert_failure
    assert_output --partial '1.1 does not compile'
    assert_output --partial 'my-syntax/1.1/echo-server.c:1'
    last_line 'SCORE 0/30'
    wrong ends '    announce(listener);' '    die("no idea"); announce(listener);'
    my ends grade-1.1
    assert_line --partial 'does not start. It ended with status 1'
    assert_line --partial 'echo-server: no idea'
    wrong mute '    announce(listener);' '    poll(NULL, 0, -1); announce(listener);'
    my mute grade-1.1
    assert_line --partial 'has not said "Listening on …" after 5 s'
    wrong flood '    announce(listener);' '    for (;;) narrate("here I am"); announce(listener);'
    my flood grade-1.1
    assert_line --partial 'prints without an end'
}

@test "a crash is told with the learner's own line, and the trace is kept" {
    wrong crash '        if (received == 0)' \
        '        memset(buf + 90, 0, (size_t)received + 4090); if (received == 0)'
    my crash grade-1.1
    assert_failure
    assert_output --partial 'a crash (SIG'
    assert_output --regexp 'my-crash/1.1/echo-server.c:1[0-9]+; the full'
    grep -q 'stack-buffer-overflow' my-crash/1.1/build/trace
}

@test "a server that hangs is given up within a minute, and nothing is left behind" {
    wrong hang '        if (received == 0)' \
        '        if (received > 0 && fork() == 0) { setsid(); if (fork() == 0) for (;;) pause(); _exit(0); } for (;;) poll(NULL, 0, -1); if (received == 0)'
    SECONDS=0
    my hang grade-1.1 GRADE_SECONDS=
    ((SECONDS < 60)) || fail "$SECONDS s"
    assert_failure
    assert_output --partial '"what is sent comes back"'
    assert_output --partial 'not one we know'
    run ps -eo args
    refute_output --partial my-hang
}

@test "a start never overwrites, a hint is one question, a solution is not given away" {
    my learner start-1
    assert_success
    echo '/* mine */' >>my-learner/1.1/echo-server.c
    my learner start-1.1
    assert_failure
    run tail -n 1 my-learner/1.1/echo-server.c
    assert_output '/* mine */'
    my learner hint-1.1
    assert_line --partial 'question 1 of'
    my learner hint-1.1
    assert_line --partial 'question 2 of'
    my learner solution-1.1
    assert_failure
    assert_output --partial 'make solution-1.1 MY=my-learner SHOW=anyway'
    my learner solution-1.1 SHOW=anyway
    assert_line '-/* mine */'
}

@test "the walkthroughs show what a start and a first grade print" {
    cp -R . "$BATS_TEST_TMPDIR/fresh"
    cd "$BATS_TEST_TMPDIR/fresh" || return
    local walkthrough goal goals shown=0
    for walkthrough in docs/0?-*.md; do
        mapfile -t goals < <(sed -nE 's/^\$ make ((start|grade)-[0-9.]+)$/\1/p' "$walkthrough")
        for goal in "${goals[@]}"; do
            run --separate-stderr make -s --no-print-directory "$goal"
            sed '/^  compile /d; /^  link /d' <<<"$output" >said
            awk -v first="$ make $goal" '/^```/ { shown = 0 } shown; $0 == first { shown = 1 }' \
                "$walkthrough" >shown
            run diff --ignore-blank-lines shown said
            assert_output ''
            shown=$((shown + 1))
        done
    done
    ((shown >= 3))
}
