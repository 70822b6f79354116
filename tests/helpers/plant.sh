#!/usr/bin/env bash
# plant.sh NAME: plants the mistake NAME of the museum in the reference, as if a
# learner had made it, and grades that as the exercise that it belongs to. For
# tests/grade.bats, in a copy of the repository: the learner's folder is
# my-NAME there.
set -u
name=$1 patch=tests/mistakes/$1.patch
file=$(sed -n 's|^--- a/\(0[12]-.*\)|\1|p' "$patch")
case $file in
01-echo/echo-server.c | 01-echo/echo-once.c) exercise=1.1 whole=01-echo/echo-server.c ;;
01-echo/echo-client.c) exercise=1.2 whole=$file ;;
02-multiconn/discard-server.c) exercise=2.1 whole=$file ;;
02-multiconn/multiconn-server.c) exercise=2.2 whole=$file ;;
02-multiconn/multiconn-client.c) exercise=2.3 whole=$file ;;
*) echo "plant: $name is of no exercise" >&2 && exit 2 ;;
esac
mine=my-$name/$exercise/${whole##*/}
rm -rf "my-$name"
mkdir -p "${mine%/*}"
cp "$whole" "$mine"
if [[ $file == 01-echo/echo-once.c ]]; then
    # The mistake of echo-once, in the words of exercise 1.1.
    sed -i 's|^        int fd = socket(at->ai_family.*|        if (at->ai_family == AF_INET)\n            ((struct sockaddr_in *)(void *)at->ai_addr)->sin_port = (in_port_t)strtol(port, NULL, 10);\n&|
        s|#include <string.h>|#include <stdlib.h>\n&|' "$mine"
else
    patch -s "$mine" "$patch" || exit 2
fi
sed -i 's|"../common/|"../../common/|' "$mine"
make -s MY="my-$name" "grade-$exercise" 2>&1
