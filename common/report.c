/* report: see report.h for what each function promises. */
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

void narrate_bytes(const char *before, const void *bytes, size_t len,
                   const char *format, ...)
{
    char prefix[400];
    va_list arguments;
    bool written;

    if (quiet)
        return;
    snprintf(prefix, sizeof prefix, "%s %s ", before, quote(bytes, len).text);
    va_start(arguments, format);
    written = write_line(STDOUT_FILENO, prefix, format, arguments);
    va_end(arguments);
    if (!written)
        die("standard output: %s", strerror(errno));
}

/*
 * Returns the length (1 to 4) of the UTF-8 sequence that bytes begin with and
 * puts its code point into *point, or returns 0 if they begin with none: a
 * stray or missing continuation byte, more bytes than needed, half a
 * surrogate pair, or a number above U+10FFFF (RFC 3629, section 4).
 */
static size_t decode_utf8(const unsigned char *bytes, size_t len,
                          uint32_t *point)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = bytes[0] < 0x80             ? 1
                    : (bytes[0] & 0xe0) == 0xc0 ? 2
                    : (bytes[0] & 0xf0) == 0xe0 ? 3
                    : (bytes[0] & 0xf8) == 0xf0 ? 4
                                                : 0;

    if (length == 0 || length > len)
        return 0;
    *point = length == 1 ? bytes[0] : bytes[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
        *point = *point << 6 | (bytes[i] & 0x3f);
    }
    if (*point < smallest[length] || *point > 0x10ffff ||
        (*point >= 0xd800 && *point <= 0xdfff))
        return 0;
    return length;
}

/* Controls (C0, DEL, C1) command a terminal. Separators of lines, and marks
 * that hide text or turn its direction, fool its reader. */
static bool printable(uint32_t point)
{
    return point >= 0x20 && !(point >= 0x7f && point <= 0x9f) &&
           point != 0xad && point != 0x61c && point != 0x180e &&
           !(point >= 0x200b && point <= 0x200f) &&
           !(point >= 0x2028 && point <= 0x202e) &&
           !(point >= 0x2060 && point <= 0x206f) && point != 0xfeff &&
           !(point >= 0xfff9 && point <= 0xfffb) &&
           !(point >= 0xe0000 && point <= 0xe0fff) &&
           (point & 0xfffe) != 0xfffe;
}

/* Writes one byte as an escape to out and returns how many characters. */
static size_t escape(unsigned char byte, char *out)
{
    static const char named[] = "\aa\bb\tt\nn\vv\ff\rr\\\\''";

    for (const char *pair = named; *pair != '\0'; pair += 2)
        if (byte == (unsigned char)pair[0]) {
            out[0] = '\\';
            out[1] = pair[1];
            return 2;
        }
    return (size_t)snprintf(out, 5, "\\x%02x", byte);
}

struct quoted quote(const void *data, size_t len)
{
    enum { SHOWN = 64 }; /* each at most four characters: \x00 */
    const unsigned char *bytes = data;
    size_t shown = len < SHOWN ? len : SHOWN;
    struct quoted result = {""};
    char *out = result.text;

    *out++ = '\'';
    for (size_t i = 0; i < shown;) {
        uint32_t point;
        size_t length = decode_utf8(bytes + i, len - i, &point);

        if (length > shown - i)
            break; /* a character that the limit would cut is left out */
        if (length == 0 || !printable(point) || point == '\\' ||
            point == '\'') {
            length = length == 0 ? 1 : length;
            for (size_t end = i + length; i < end; i++)
                out += escape(bytes[i], out);
            continue;
        }
        memcpy(out, bytes + i, length);
        out += length;
        i += length;
    }
    *out++ = '\'';
    *out = '\0';
    if (len > SHOWN)
        snprintf(out, sizeof result.text - (size_t)(out - result.text),
                 "… (%zu bytes)", len);
    return result;
}
