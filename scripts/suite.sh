#!/usr/bin/env bash
# suite.sh [BATS OPTION...] FILE...: runs bats suites against the programs in
# the folder $BUILD, and says how long it took. No test at all is a failure.
set -u
cd "$(dirname "$0")/.." || exit
sh scripts/deps.sh need bats bats-support bats-assert socat nc python3 strace \
    ctags ss ps cmp unshare parallel xxd openssl-tool gnutls-cli || exit
export BATS_LIB_PATH=${BATS_LIB_PATH:+$BATS_LIB_PATH:}/usr/lib/bats:/usr/share/bats:/usr/lib:/usr/local/lib:/opt/homebrew/lib
export PATH=$PATH:/usr/sbin:/sbin

started=$SECONDS
files=()
for argument; do [[ $argument == *.bats ]] && files+=("$argument"); done
if [[ $(bats --count "${files[@]}") -eq 0 ]]; then
    echo "suite: no test in: ${files[*]}" >&2
    exit 1
fi
bats "$@"
status=$?
echo "# ${files[*]}: $((SECONDS - started)) s"
exit $status
