#!/usr/bin/env bash
# plant.sh NAME: plants the mistake NAME of the museum in the reference, as if a
# learner had made it, and grades that as the exercise that it belongs to. For
# tests/grade.bats, in a copy of the repository: the learner's folder is
# my-NAME there.
set -u
name=$1 patch=tests/mistakes/$1.patch
file=$(sed -n 's|^--- a/01-echo/\(.*\)|\1|p' "$patch")
case $file in
echo-server.c | echo-once.c) exercise=1.1 program=echo-server ;;
echo-client.c) exercise=1.2 program=echo-client ;;
*) echo "plant: $name is not of stage 1" >&2 && exit 2 ;;
esac
mine=my-$name/$exercise
rm -rf "my-$name"
mkdir -p "$mine"
sed 's|"../common/|"../../common/|' "01-echo/$program.c" >"$mine/$program.c"
if [[ $file == echo-once.c ]]; then
    # The mistake of echo-once, in the words of exercise 1.1.
    sed -i 's|^        int fd = socket(at->ai_family.*|        if (at->ai_family == AF_INET)\n            ((struct sockaddr_in *)(void *)at->ai_addr)->sin_port = (in_port_t)strtol(port, NULL, 10);\n&|
        s|#include <string.h>|#include <stdlib.h>\n&|' "$mine/$program.c"
else
    patch -s --fuzz=1 "$mine/$program.c" "$patch" || exit 2
fi
make -s MY="my-$name" "grade-$exercise" 2>&1
