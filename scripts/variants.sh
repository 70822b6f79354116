#!/usr/bin/env bash
# variants.sh: builds with every compiler that is here, without a warning, and
# runs the suites of all stages together with the sanitizers looking on: for
# each test that is the second time, in another order, beside others.
set -u
cd "$(dirname "$0")/.." || exit
sh scripts/deps.sh need clang || exit
base=${BUILD:-build}
failed=0

# variant NAME COMPILER CFLAGS: without a warning?
variant() {
    echo "variant $1: $2 $3"
    make -s -j2 BUILD="$base/$1" CC="$2" CFLAGS="$3" programs unit-programs \
        bench-programs "$base/$1/shim.so" >"$base/$1.log" 2>&1 && return
    cat "$base/$1.log"
    failed=1
}

mkdir -p "$base"
variant gcc gcc "-O2 -Werror"
variant gcc-O0 gcc "-O0 -Werror -fanalyzer"
variant clang clang "-O2 -Werror"
variant unsigned gcc "-O2 -Werror -funsigned-char"
sanitize="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -U_FORTIFY_SOURCE"
variant sanitized gcc "$sanitize -Werror"

# The shim is loaded before the sanitizer's library: that is meant.
ASAN_OPTIONS=verify_asan_link_order=0 BUILD=$base/sanitized \
    scripts/suite.sh --jobs 8 --filter-tags '!scanner' tests/0[123]*.bats \
    tests/04-tls.bats tests/04-channel.bats || failed=1
exit $failed
