#!/usr/bin/env bash
# mistake.sh show           lists the mistakes in tests/mistakes, one a line
# mistake.sh show NAME      shows one, and the test that is there for it fail
# mistake.sh prove NAME...  for each, a line of TAP: the reference passes that
#                           test, with the mistake in it, it fails, and from
#                           what it leaves, the grader tells this mistake
#
# A mistake is planted in a copy of the sources. The copies stay in
# $BUILD/mistakes, to be read and played with.
set -u
cd "$(dirname "$0")/.." || exit
unset MAKEFLAGS MAKELEVEL MFLAGS # the make below is no part of the one above
mkdir -p "${BUILD:-build}/mistakes" || exit
copies=$(realpath "${BUILD:-build}")/mistakes

known() {
    [[ $1 != */* && -f tests/mistakes/$1.patch ]]
}

# card NAME FIELD: what the card says, its wrapped lines joined
card() {
    awk -v field="$2: " '
        /^$/ { exit }
        /^  / { if (found) text = text substr($0, 2); next }
        { found = index($0, field) == 1 }
        found { text = substr($0, length(field) + 1) }
        END { print text }' "tests/mistakes/$1.patch"
}

# plant COPY PATCH [OTHER]: copies the sources, or another copy with all that is
# built in it, applies the patch, and builds. Where that fails, it says why.
plant() {
    local copy=$copies/$1
    rm -rf "$copy"
    if [[ -n ${3:-} ]]; then
        cp -a "$copies/$3" "$copy" || return
    else
        mkdir -p "$copy" && cp -R Makefile common 0?-* scripts tests exercises "$copy" || return
    fi
    if ! patch -p1 --fuzz=0 --force -d "$copy" <"$2" >"$copy/log" 2>&1; then
        echo "the patch does not apply:"
        cat "$copy/log"
        return 1
    fi
    if ! make -s -j 2 -C "$copy" BUILD=build programs unit-programs build/shim.so >"$copy/log" 2>&1; then
        echo "it does not build:"
        cat "$copy/log"
        return 1
    fi
}

# make_certs NAME...: what the tests of stage 4 need, and share here, if one of
# the mistakes is of that stage
make_certs() {
    local patches=("${@/#/tests/mistakes/}")
    grep -qs '^--- a/04-' "${patches[@]/%/.patch}" || return 0
    04-tls/make-certs.sh --bad "$copies/certs" >/dev/null || exit
}

# suite NAME: where the test is that the card of NAME names. Several suites may
# have a test of this name: the one of the stage that the patch is for is meant,
# or, for common, the first. Some are checks of an exercise.
suite() {
    local stage
    stage=$(sed -n 's|^--- a/\(0[0-9]\)-.*|\1|p' "tests/mistakes/$1.patch" | head -n 1)
    grep -slF -- "@test \"$(card "$1" 'Caught by')\" {" tests/"${stage:-0}"*.bats exercises/"${stage#0}"*/checks.bats | head -n 1
}

# bats_for COPY SUITE PATTERN [OPTION...]: runs these tests on the copy
bats_for() {
    BUILD=build CERTS=$copies/certs "$copies/$1/scripts/suite.sh" --tap "${@:4}" -f "^($3)\$" "$2" 2>&1
}

# pattern NAME: for bats, the name of the test
pattern() {
    card "$1" 'Caught by' | sed 's/[][\\.*^$+?(){}|]/\\&/g'
}

# examine COPY NAME: runs the test that the card of NAME names against the
# programs of the copy.
# Returns 0 if it passes, 1 if it fails, and 2 if it did not run; prints what
# bats says, without the plan, the time and the paths of the copy and of the
# test's own folder.
examine() {
    local test suite output
    test=$(card "$2" 'Caught by')
    suite=$(suite "$2")
    if [[ -z $suite ]]; then
        echo "no suite has the test \"$test\""
        return 2
    fi
    output=$(bats_for "$1" "$suite" "$(pattern "$2")")
    sed '/^1\.\.1$/d; /^# .*\.bats: [0-9]* s$/d
        s|/[^ ]*/bats-run-[^/]*/test/[0-9]*/||g' <<<"${output//"$copies/$1/"/}"
    grep -qxF -- "ok 1 $test" <<<"$output" && return
    grep -qxF -- "not ok 1 $test" <<<"$output" && return 1
    return 2
}

# rehearse NAME...: runs all their tests against the reference, those of a suite
# at once, which is quicker than one by one, and keeps which ones passed.
rehearse() {
    local name suite
    local -A patterns
    for name; do
        known "$name" && suite=$(suite "$name") && [[ $suite ]] &&
            patterns[$suite]+="|$(pattern "$name")"
    done
    for suite in "${!patterns[@]}"; do
        bats_for reference "$suite" "${patterns[$suite]#|}" --jobs 4 |
            sed -n "s|^ok [0-9]* |$suite |p"
    done >"$copies/passed"
}

passed() {
    grep -qsxF -- "$(suite "$1") $(card "$1" 'Caught by')" "$copies/passed"
}

show() {
    local name=$1 patch=tests/mistakes/$1.patch why
    if ! known "$name"; then
        echo "mistake: there is none called '$name'; \"make mistake\" lists them" >&2
        exit 2
    fi
    if ! why=$(plant "$name" "$patch"); then
        echo "mistake $name: $why" >&2
        exit 1
    fi
    make_certs "$name"
    printf '%s: %s\n' "$name" "$(card "$name" Mistake)"
    awk '/^$/ { exit }
        /^[^ ]/ { shown = !/^(Mistake|Caught by|Also caught by|Seen|Seen anywhere): /; if (shown) print "" }
        shown' "$patch"
    echo
    sed -n '/^--- a/,$p' "$patch"
    printf '\nThe test that is there for it, run against this program:\n\n'
    examine "$name" "$name"
    case $? in
    1) printf '\nThe test sees the mistake.\n' ;;
    *)
        printf '\nmistake %s: the test does not see it\n' "$name" >&2
        exit 1 ;;
    esac
}

# flaw NAME: says why the mistake is not proved to be caught, and known by its
# name, or nothing
flaw() {
    local output named
    known "$1" || { echo "there is no such mistake"; return; }
    plant "$1" "tests/mistakes/$1.patch" reference || return
    if grep 'warning:' "$copies/$1/log"; then
        echo "no test is needed where the compiler warns"
        return
    fi
    passed "$1" || output=$(examine reference "$1") || {
        echo "the reference, which has no mistake, does not pass the test:"
        echo "$output"
        return
    }
    # As the grader has it run: it looks closer, and does not wait as long.
    output=$(EVIDENCE=1 patience=4 limit=6 examine "$1" "$1")
    if [[ $? -ne 1 ]]; then
        echo "$output"
        return
    fi
    named=$(python3 -B scripts/grade.py name "$(card "$1" 'Caught by')" <<<"$output")
    [[ $named == "$1" ]] || printf '%s\n' "the grader names it: $named" "$output"
    # An exercise may have a check of its own that tells it from others.
    grep -q '^Also caught by: ' "tests/mistakes/$1.patch" &&
        BUILD=build CERTS=$copies/certs "$copies/$1/scripts/grade.py" name-in-exercises "$1"
}

# trial NUMBER NAME: prints the line of one mistake
trial() {
    local why
    why=$(flaw "$2")
    if [[ -n $why ]]; then
        echo "not ok $1 mistake $2 is not caught, or not known"
        echo "# ${why//$'\n'/$'\n'# }"
        return 1
    fi
    echo "ok $1 mistake $2 is caught by \"$(card "$2" 'Caught by')\""
}

# Many of these tests wait in vain, and use no processor meanwhile: there are
# twice as many trials at a time as processors.
prove() {
    local why status
    sh scripts/deps.sh need parallel || exit
    if ! why=$(plant reference /dev/null); then
        echo "mistake: without a mistake, $why" >&2
        exit 1
    fi
    make_certs "$@"
    rehearse "$@"
    echo "1..$#"
    parallel --will-cite --keep-order --jobs 200% \
        scripts/mistake.sh trial '{#}' '{}' ::: "$@" </dev/null
    status=$?
    echo "# $# mistakes: $SECONDS s"
    [[ $status -eq 0 ]]
}

sh scripts/deps.sh need make patch || exit
case ${1:-}${2+ NAME} in
show)
    for patch in tests/mistakes/*.patch; do
        name=$(basename "$patch" .patch)
        printf '%-24s %s\n' "$name" "$(card "$name" Mistake)"
    done ;;
"show NAME") show "${*:2}" ;;
"prove NAME") prove "${@:2}" ;;
"trial NAME") trial "$2" "$3" ;;
*)
    sed -n '2,/^#$/s/^# \{0,1\}//p' "$0" >&2
    exit 2 ;;
esac
