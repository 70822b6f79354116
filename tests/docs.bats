#!/usr/bin/env bats
# What the Markdown shows is what there is: its excerpts, links and names
# (scripts/docs.py), and what its transcripts print (helpers/transcripts.py).
# Both programs are themselves put to the test, on a repository and on
# documents that are made for the purpose: a check that cannot fail is none.
#
# What ShellCheck takes for commands in single quotes are code spans; and "run"
# sets $lines in the test that reads it.
# shellcheck disable=SC2016,SC2030,SC2031

bats_require_minimum_version 1.5.0

setup() {
    bats_load_library bats-support
    bats_load_library bats-assert
    cd "$BATS_TEST_DIRNAME/.." || return
    doc=$BATS_TEST_TMPDIR/doc.md
}

# --- the documents of this repository ---------------------------------------

transcripts_of() {
    run timeout -k 5 300 tests/helpers/transcripts.py "$1"
    assert_success
}

@test "docs: every excerpt, diff box, link and name is what the repository holds" {
    run timeout 60 scripts/docs.py check
    assert_success
    refute_output
}

@test "docs: the transcripts of README.md do what they show" {
    transcripts_of README.md
}

@test "docs: the transcripts of docs/README.md do what they show" {
    transcripts_of docs/README.md
}

@test "docs: the transcripts of docs/01-echo.md do what they show" {
    transcripts_of docs/01-echo.md
}

@test "docs: the transcripts of docs/02-multiconn.md do what they show" {
    transcripts_of docs/02-multiconn.md
}

@test "docs: the transcripts of docs/03-app-protocol.md do what they show" {
    transcripts_of docs/03-app-protocol.md
}

@test "docs: the transcripts of docs/04-tls.md do what they show" {
    transcripts_of docs/04-tls.md
}

@test "docs: the transcripts of docs/teaching.md do what they show" {
    export GRADE_SECONDS=165 # eight documents at a time
    transcripts_of docs/teaching.md
}

@test "docs: no document with a transcript is without a test here" {
    for file in README.md CONTRIBUTING.md docs/*.md; do
        if timeout 10 grep -q '^[[:space:]>]*```console' "$file"; then
            run timeout 10 grep -x "    transcripts_of $file" "$BATS_TEST_FILENAME"
            assert_success
        fi
    done
}

# --- scripts/docs.py --------------------------------------------------------

# A small repository whose one document is all right.
make_repository() {
    repo=$BATS_TEST_TMPDIR/repo
    mkdir -p "$repo"/{scripts,docs,common,01-echo,tests/mistakes}
    cp scripts/docs.py scripts/museum.py "$repo/scripts"
    printf 'all:\n\techo\n.PHONY: all stage-1 mistake mistakes docs\nstage-1:\n\techo\n' >"$repo/Makefile"
    printf 'void narrate(const char *text);\n' >"$repo/common/report.h"
    printf 'void narrate(const char *text)\n{\n    (void)text;\n}\n' >"$repo/common/report.c"
    cat >"$repo/01-echo/echo.c" <<'C'
#include "../common/report.h"

/*
 * Adds one.
 */
static int
add_one(int number)
{
    return number + 1;
}

int main(void)
{
    int sum = 0;

    for (int i = 0; i < 3; i++) {
        sum = add_one(sum);
        narrate("one more");
    }
    return sum;
}
C
    cat >"$repo/tests/mistakes/no-sum.patch" <<'PATCH'
Mistake: It adds *nothing*.
Looks like: it adds, and this --- prose above the headers --- says nothing of
  what it adds.
Seen: sum is 0

--- a/01-echo/echo.c
+++ b/01-echo/echo.c
@@ -8,2 +8,2 @@
 {
-    return number + 1;
+    return number;
@@ -20 +20 @@
-    return sum;
+    return 0;
PATCH
    cat >"$repo/docs/01-echo.md" <<'MD'
# The first stage

See [below](#whats-from-common), [the code](../01-echo/), `add_one()`,
`poll()`, `FD_SET()`, `common/report.h`, `build/echo`, `127.0.0.0/8`,
`tests/mistakes/NAME.patch`, and `make
stage-1`, `make stage-N X=1`, [no sum](mistakes.md#no-sum).

[`01-echo/echo.c`](../01-echo/echo.c), `add_one()`:

```c
/*
 * Adds one.
 */
static int
add_one(int number)
{
    return number + 1;
}
```

- [`01-echo/echo.c`](../01-echo/echo.c), part of `main()`:

  ```c
  for (int i = 0; i < 3; i++) {
      sum = add_one(sum);
      narrate("one more");
  }
  ```

[`common/report.h`](../common/report.h), in part:

```c
void narrate(const char *text);
```

[`tests/mistakes/no-sum.patch`](../tests/mistakes/no-sum.patch):

```diff
 {
-    return number + 1;
+    return number;
...
-    return sum;
+    return 0;
```

In a terminal:

```console
$ make all
```

## What's from `common/`

| function    | what it does |
| ----------- | ------------ |
| `narrate()` | tells        |
MD
    "$repo/scripts/docs.py" refresh
}

# spoil FILE SED-SCRIPT: the script must change the file.
spoil() {
    cp "$repo/$1" "$BATS_TEST_TMPDIR/before"
    timeout 10 sed -i "$2" "$repo/$1"
    run timeout 10 cmp -s "$repo/$1" "$BATS_TEST_TMPDIR/before"
    assert_failure 1
}

# The only complaint, and in which line.
assert_complaint() {
    run timeout 60 "$repo/scripts/docs.py" check
    assert_failure 1
    assert_equal "${#lines[@]}" 1
    assert_output --partial "$1"
}

@test "docs.py: a document that is all right is passed in silence, from anywhere" {
    make_repository
    cd /
    run timeout 60 "$repo/scripts/docs.py" check
    assert_success
    refute_output
}

@test "docs.py: bad usage is exit status 2" {
    run timeout 60 scripts/docs.py
    assert_failure 2
    run timeout 60 scripts/docs.py check /nonexistent.md
    assert_failure 2
}

@test "docs.py: a function that has changed is named with its line" {
    make_repository
    spoil 01-echo/echo.c 's/number + 1/number + 2/'
    assert_complaint "docs/01-echo.md:17: expected '    return number + 2;' as in 01-echo/echo.c:9, found '    return number + 1;'"
}

@test "docs.py: the comment above a function belongs to it" {
    make_repository
    spoil 01-echo/echo.c 's/Adds one/Adds 1/'
    assert_complaint "docs/01-echo.md:12: expected ' * Adds 1.'"
}

@test "docs.py: one wrong character in part of a function is named with its line" {
    make_repository
    spoil docs/01-echo.md 's/  narrate("one/  narrate("two/'
    assert_complaint "docs/01-echo.md:26: expected '    narrate(\"one more\");'"
}

@test "docs.py: a diff box that is not its patch is named with its line" {
    make_repository
    spoil docs/01-echo.md 's/^+    return 0/+    return 7/'
    assert_complaint "docs/01-echo.md:44: expected '+    return 0;'"
}

@test "docs.py: fences without a caption, a language or a terminal are named" {
    make_repository
    spoil docs/01-echo.md 's/, in part:$/, some of it:/'
    assert_complaint "docs/01-echo.md:32: a c fence needs a caption"
    make_repository
    spoil docs/01-echo.md 's/^```console/```/'
    assert_complaint "docs/01-echo.md:49: a fence must say what it is"
    make_repository
    spoil docs/01-echo.md 's/^In a terminal:/There:/'
    assert_complaint "docs/01-echo.md:49: the line above a console fence must name its terminal"
}

@test "docs.py: a link to no file and a link to no heading are named" {
    make_repository
    spoil docs/01-echo.md 's,(../01-echo/),(../02-echo/),'
    assert_complaint "docs/01-echo.md:3: the link ../02-echo/ leads nowhere"
    make_repository
    spoil docs/01-echo.md 's/#whats/#what/'
    assert_complaint "docs/01-echo.md:3: the link #what-from-common"
}

@test "docs.py: a misspelt function, path or program is named" {
    make_repository
    spoil docs/01-echo.md 's/^`poll()`/`pole()`/'
    assert_complaint "docs/01-echo.md:4: there is no function pole()"
    make_repository
    spoil docs/01-echo.md 's,`common/report.h`\,,`common/retort.h`\,,'
    assert_complaint "docs/01-echo.md:4: there is no common/retort.h"
    make_repository
    spoil docs/01-echo.md 's,build/echo,build/ohce,'
    assert_complaint "docs/01-echo.md:4: there is no build/ohce"
}

@test "docs.py: a goal that make does not know is named, in prose and transcript" {
    make_repository
    spoil docs/01-echo.md 's/^stage-1`/stage-7`/'
    assert_complaint "docs/01-echo.md:5: make has no target stage-7"
    make_repository
    spoil docs/01-echo.md 's/make all/make everything/'
    assert_complaint "docs/01-echo.md:50: make has no target everything"
}

@test "docs.py: a function of common/ that no walkthrough has explained is named" {
    make_repository
    spoil docs/01-echo.md '/^| `narrate/d'
    assert_complaint "docs/01-echo.md:1: 01-echo calls narrate()"
}

@test "docs.py: refresh brings excerpts and diff boxes up to date" {
    make_repository
    spoil 01-echo/echo.c 's/number + 1/number + 2/; s/one more/again/'
    spoil tests/mistakes/no-sum.patch 's/return 0/return 7/'
    run timeout 60 "$repo/scripts/docs.py" refresh
    assert_success
    assert_equal "${#lines[@]}" 3
    run timeout 60 "$repo/scripts/docs.py" check
    assert_success
    run timeout 10 grep -c 'number + 2;$\|^      narrate("again");$\|return 7;$' "$repo/docs/01-echo.md"
    assert_output 3
}

@test "docs.py: a catalogue of mistakes that is not what the cards say is named, and made anew" {
    make_repository
    run timeout 10 grep -x '### no-sum\|\*\*It adds \\\*nothing\\\*.\*\*\|what it adds.' "$repo/docs/mistakes.md"
    assert_equal "${#lines[@]}" 3
    run timeout 10 grep 'Seen' "$repo/docs/mistakes.md"
    assert_failure # what the grader looks for says nothing to a reader
    spoil tests/mistakes/no-sum.patch 's/^Looks like: it adds/&, it seems/'
    assert_complaint "docs/mistakes.md:1: not what the cards say: make docs"
    run timeout 60 "$repo/scripts/docs.py" refresh
    assert_success
    run timeout 60 "$repo/scripts/docs.py" check
    assert_success
}

@test "docs.py: a mistake that no walkthrough links to is named" {
    make_repository
    spoil docs/01-echo.md 's/mistakes.md#no-sum/mistakes.md/'
    assert_complaint "docs/mistakes.md:1: no walkthrough has a link to no-sum"
}

@test "docs.py: refresh says which excerpt it cannot find any more" {
    make_repository
    spoil 01-echo/echo.c 's/for (int i/for (long i/'
    run timeout 60 "$repo/scripts/docs.py" refresh
    assert_failure 1
    assert_output --partial "docs/01-echo.md:23: no place begins with 'for (int i"
}

# --- tests/helpers/transcripts.py -------------------------------------------

run_document() {
    cat >"$doc"
    run timeout -k 5 60 tests/helpers/transcripts.py "$doc"
}

@test "transcripts: a document without any is all right" {
    run_document <<'MD'
# Nothing to type
MD
    assert_success
    assert_output "$doc: 0 transcripts, 0 commands"
}

@test "transcripts: a wrong line of output fails and is named" {
    run_document <<'MD'
In a terminal:

```console
$ printf 'one\ntwo\n'
one
too
```
MD
    assert_failure 1
    assert_line --index 0 "$doc:6: expected 'too', got 'two'"
}

@test "transcripts: a line that is shown but not printed fails and is named" {
    run_document <<'MD'
In a terminal:

```console
$ echo one; exit
one
exit
two
```
MD
    assert_failure 1
    assert_line --index 0 "$doc:7: expected 'two', got nothing more"
}

@test "transcripts: a line that is printed but not shown fails and is named" {
    run_document <<'MD'
In a terminal:

```console
$ printf 'one\ntwo\n'
one
$ true
```
MD
    assert_failure 1
    assert_line --index 0 "$doc:5: terminal 1 also printed: 'two'"
}

@test "transcripts: what a program prints after its last fence fails" {
    run_document <<'MD'
Terminal 1:

```console
$ echo one; read -r -t 1; echo two
one
```

Terminal 2:

```console
$ sleep 2
$ true
```
MD
    assert_failure 1
    assert_line --index 0 "$doc:5: terminal 1 also printed: 'two'"
}

@test "transcripts: a fence that names no terminal fails" {
    run_document <<'MD'
There:

```console
$ true
```
MD
    assert_failure 1
    assert_output --partial "$doc:3: "
}

@test "transcripts: ports and process ids may differ, but only together" {
    run_document <<'MD'
In a terminal:

```console
$ echo 127.0.0.1:40001 :40002 :65432; echo "[1] 77"; echo "pid=77, pid 78"
127.0.0.1:50000 :50001 :65432
[1] 1234
pid=1234, pid 1235
```
MD
    assert_success
    run_document <<'MD'
In a terminal:

```console
$ echo :40001; echo :40001
:50000
:50001
```
MD
    assert_success # the kernel may choose a port a second time
    run_document <<'MD'
In a terminal:

```console
$ echo :40001; echo :40002
:50000
:50000
```
MD
    assert_failure 1
    assert_line --index 0 --partial "$doc:6: expected ':50000', got ':40002'"
    run_document <<'MD'
In a terminal:

```console
$ echo :65433
:65432
```
MD
    assert_failure 1
}

@test "transcripts: columns may be wider, and ... is any number of lines" {
    run_document <<'MD'
In a terminal:

```console
$ printf 'a      b\n'; seq 9; echo end
a   b
1
...
9
end
```
MD
    assert_success
}

@test "transcripts: keys and job control do what they do in a terminal" {
    run_document <<'MD'
In a terminal:

```console
$ sleep 50
^C
$ sleep 50
^Z
[1]+  Stopped                 sleep 50
$ fg
sleep 50
^\
Quit
$ cat
^D
$ sleep 50 &
[1] 4711
$ kill %1; wait
[1]+  Terminated              sleep 50
$ echo a \
>   b
a b
```
MD
    assert_success
    assert_output "$doc: 1 transcripts, 7 commands"
}

@test "transcripts: a key needs a program that it can reach" {
    run_document <<'MD'
In a terminal:

```console
$ true
^C
```
MD
    assert_failure 1
    assert_line --index 0 "$doc:5: terminal 1 runs no program that ^C could reach"
}

@test "transcripts: a server in one terminal answers a client in another" {
    cat >"$BATS_TEST_TMPDIR/server.py" <<'PY'
import socket
with socket.create_server(("127.0.0.1", 65432)) as listener:
    print("Listening on 127.0.0.1:65432", flush=True)
    while True:
        connection, (host, port) = listener.accept()
        print(f"Connected by {host}:{port}", flush=True)
        connection.sendall(b"hello\n")
        connection.close()
PY
    cat >"$BATS_TEST_TMPDIR/client.py" <<'PY'
import socket
with socket.create_connection(("127.0.0.1", 65432)) as connection:
    print(f"I am 127.0.0.1:{connection.getsockname()[1]}")
    print(connection.recv(99).decode(), end="")
PY
    export dir=$BATS_TEST_TMPDIR
    run_document <<'MD'
In terminal 1:

```console
$ python3 $dir/server.py 2>/dev/null
Listening on 127.0.0.1:65432
```

In Terminal 2:

```console
$ python3 $dir/client.py
I am 127.0.0.1:40000
hello
$ python3 $dir/client.py
I am 127.0.0.1:40001
hello
```

Back in terminal 1:

```console
Connected by 127.0.0.1:40000
Connected by 127.0.0.1:40001
^C
$ true
```
MD
    assert_success
    assert_output "$doc: 3 transcripts, 4 commands"
}
