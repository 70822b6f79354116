#!/usr/bin/env bash
# fuzz.sh SECONDS: builds tests/fuzz/fuzz-message.c with libFuzzer and the
# sanitizers, and lets it look for bytes that break it. What it finds stays in
# the folder $BUILD/fuzz. Prints one line in the form of the test suites (TAP).
set -u
cd "$(dirname "$0")/.." || exit
sh scripts/deps.sh need clang libfuzzer pkg-config jansson || exit
seconds=${1:?}
out=${BUILD:-build}/fuzz
target=$out/fuzz-message
what="libFuzzer finds no bytes in $seconds s that break message.c or answer.c"
mkdir -p "$out/corpus"

read -ra jansson <<<"$(pkg-config --cflags --libs jansson)"
clang -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -g \
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    -o "$target" tests/fuzz/fuzz-message.c \
    03-app-protocol/{json,message,answer}.c common/*.c \
    "${jansson[@]}" || exit

# New inputs go to the first folder, the one in the repository is only read.
if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
    -max_len=4096 -print_final_stats=1 -dict=tests/fuzz/message.dict \
    -artifact_prefix="$out/" "$out/corpus" tests/fuzz/corpus \
    >"$out/log" 2>&1; then
    echo "ok 1 $what"
    grep -a -e '^Done ' -e '^stat::number_of_executed_units' \
        -e '^stat::average_exec_per_sec' "$out/log" | sed 's/^/# /'
else
    echo "not ok 1 $what"
    tail -n 60 "$out/log" | sed 's/^/# /'
    echo "# run it again with: $target FILE"
    exit 1
fi
