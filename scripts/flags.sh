#!/bin/sh
# flags.sh FILE COMPILER [FLAGS...]: writes to FILE the warnings and hardening
# flags that this compiler accepts in silence together with FLAGS.
set -eu
file=$1
shift

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <stdio.h>\nint main(void)\n{\n    return puts("") < 0;\n}\n' \
    >"$work/probe.c"

# accepted STEP FLAG: STEP is -c to compile or nothing to link as well
accepted() {
    # shellcheck disable=SC2086 # an empty step and flags in words are meant
    $compiler -Werror $1 $2 -o "$work/out" "$work/probe.c" >"$work/log" 2>&1 &&
        ! [ -s "$work/log" ]
}

compiler="$*"
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
    accepted "" "-fPIE $flag" && ldflags="$ldflags $flag"
done
printf 'probed_for := %s\nprobed_cflags :=%s\nprobed_ldflags :=%s\n' \
    "$compiler" "$cflags" "$ldflags" >"$file"
