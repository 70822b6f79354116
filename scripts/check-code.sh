#!/usr/bin/env bash
# check-code.sh: what tools can see without running the programs. They find
# slips, not the mistakes of socket programming: those are the tests' matter.
set -u
cd "$(dirname "$0")/.." || exit
sh scripts/deps.sh need clang-format clang-tidy cppcheck shellcheck || exit
failed=0
number=0

# check NAME COMMAND...: one line in the form of the test suites (TAP)
check() {
    local output
    number=$((number + 1))
    if output=$("${@:2}" 2>&1); then
        echo "ok $number $1"
    else
        echo "not ok $number $1"
        printf '# %s\n' "${output//$'\n'/$'\n# '}"
        failed=1
    fi
}

sources=(common/*.[ch] 0*/*.[ch] tests/bench/*.[ch] tests/unit/*.[ch] tests/fuzz/*.c)
check "the C code is in the house's layout" \
    clang-format --dry-run --Werror "${sources[@]}" tests/helpers/*.c exercises/*.h
check "clang-tidy finds nothing" \
    clang-tidy --quiet --warnings-as-errors='*' \
    --checks='-*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-assignment-in-if-condition,clang-analyzer-*,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling,-clang-analyzer-valist.Uninitialized,performance-*,misc-unused-parameters,readability-misleading-indentation' \
    "${sources[@]}" -- -std=c11 -D_POSIX_C_SOURCE=200809L
check "cppcheck finds nothing" \
    cppcheck --quiet --std=c11 --enable=warning,portability,performance \
    --inline-suppr --error-exitcode=1 -D_POSIX_C_SOURCE=200809L "${sources[@]}"
check "shellcheck finds nothing" \
    shellcheck --external-sources scripts/*.sh 0*/*.sh .ci/run tests/*.bats exercises/*/*.bats \
    tests/helpers/*.bash tests/helpers/*.sh docs/teaching/*.sh docs/teaching/*/*.sh
exit $failed
