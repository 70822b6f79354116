#!/bin/sh
# flags.sh FILE COMMAND: writes to FILE the warnings and hardening flags that
# the compiler accepts in silence. COMMAND is the compiler with the flags that
# it has already, in one word, as it would stand on a command line.
set -eu
file=$1
wanted=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <stdio.h>\nint main(void)\n{\n    return puts("") < 0;\n}\n' \
    >"$work/probe.c"

# accepted FLAG...: together with what is wanted, and without a word?
accepted() {
    eval "$wanted -Werror $* -o '$work/out' '$work/probe.c'" \
        >"$work/log" 2>&1 && ! [ -s "$work/log" ]
}

if ! accepted; then
    echo "flags.sh: this does not compile a small program: $wanted" >&2
    cat "$work/log" >&2
    rm -f "$file"
    exit 1
fi
cflags=
for flag in -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wformat=2 -Wvla \
    -Wundef -Wcast-align -Wcast-qual -Wwrite-strings -Wpointer-arith \
    -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
    -Wnull-dereference -Wduplicated-cond -Wduplicated-branches -Wlogical-op \
    -Wimplicit-fallthrough \
    -fstack-protector-strong -fstack-clash-protection -fcf-protection \
    -D_FORTIFY_SOURCE=2 -fPIE; do
    accepted -c "$flag" && cflags="$cflags $flag"
done
ldflags=
for flag in -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack; do
    accepted -fPIE "$flag" && ldflags="$ldflags $flag"
done
printf '# %s\nprobed_cflags :=%s\nprobed_ldflags :=%s\n' \
    "$wanted" "$cflags" "$ldflags" >"$file"
