/* report: see report.h for what each function promises. */
#include "report.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quote.h"

/* Set at the start, before anything is said, and only read from then on. */
static const char *program = "program";
static bool quiet = false;

void report_as(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');

    program = slash != NULL ? slash + 1 : argv0;
}

void be_quiet(void)
{
    quiet = true;
}

const char *program_name(void)
{
    return program;
}

/* Waits until fd takes something. Returns false and errno if it cannot. */
static bool wait_to_write(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLOUT};

    return poll(&wait, 1, -1) >= 0 || errno == EINTR;
}

/*
 * Writes prefix and the formatted text as one line to fd, by one write() as a
 * rule, so that the lines of programs that share a terminal do not mix.
 * Control characters in it become "?", whoever put them there. Returns false
 * and errno if it cannot. No stdio: after a failed write it forgets what it
 * held, and EINTR is such a failure.
 */
static bool write_line(int fd, const char *prefix, const char *format,
                       va_list arguments) __attribute__((format(printf, 3, 0)));

static bool write_line(int fd, const char *prefix, const char *format,
                       va_list arguments)
{
    char line[1024];
    size_t used = (size_t)snprintf(line, sizeof line / 2, "%s", prefix);
    size_t room = sizeof line - used;
    size_t len = (size_t)vsnprintf(line + used, room, format, arguments);

    used += len < room ? len : room - 1;
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    for (size_t done = 0; done < used;) {
        ssize_t n = write(fd, line + done, used - done);

        /* Whether a pipe blocks is not up to us: O_NONBLOCK belongs to the open
         * file, which we share with whoever has started us. */
        if (n < 0 && errno == EAGAIN && wait_to_write(fd))
            continue;
        if (n < 0 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static void write_error(const char *format, va_list arguments)
    __attribute__((format(printf, 1, 0)));

static void write_error(const char *format, va_list arguments)
{
    char prefix[256];

    snprintf(prefix, sizeof prefix, "%s: ", program);
    write_line(STDERR_FILENO, prefix, format, arguments);
}

void die(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    write_error(format, arguments);
    va_end(arguments);
    exit(EXIT_FAILURE);
}

void warn(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    write_error(format, arguments);
    va_end(arguments);
}

void narrate(const char *format, ...)
{
    va_list arguments;
    bool written;

    if (quiet)
        return;
    va_start(arguments, format);
    written = write_line(STDOUT_FILENO, "", format, arguments);
    va_end(arguments);
    if (!written)
        die("standard output: %s", strerror(errno));
}

static void narrate_with(const char *before, const char *shown,
                         const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

static void narrate_with(const char *before, const char *shown,
                         const char *format, va_list arguments)
{
    char prefix[400];

    snprintf(prefix, sizeof prefix, "%s %s ", before, shown);
    if (!write_line(STDOUT_FILENO, prefix, format, arguments))
        die("standard output: %s", strerror(errno));
}

void narrate_bytes(const char *before, const void *bytes, size_t len,
                   const char *format, ...)
{
    va_list arguments;

    if (quiet)
        return;
    va_start(arguments, format);
    narrate_with(before, quote(bytes, len).text, format, arguments);
    va_end(arguments);
}

void narrate_text(const char *before, const void *bytes, size_t len,
                  const char *format, ...)
{
    va_list arguments;

    if (quiet)
        return;
    va_start(arguments, format);
    narrate_with(before, printable(bytes, len).text, format, arguments);
    va_end(arguments);
}

void print_text(const char *before, const void *data, size_t len)
{
    const unsigned char *bytes = data;

    fputs(before, stdout);
    for (size_t i = 0, taken; i < len; i += taken) {
        char next[16];
        size_t shown = show_character(bytes + i, len - i, next, &taken);

        fwrite(next, 1, shown, stdout);
    }
    putchar('\n');
    if (fflush(stdout) == EOF || ferror(stdout))
        die("standard output: %s", strerror(errno));
}
