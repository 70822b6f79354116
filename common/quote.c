/* quote: see quote.h for what each function promises. */
#include "quote.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

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
static bool is_printable(uint32_t point)
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

/* Writes one byte as an escape to out and returns how many characters (2 or
 * 4), after which no zero comes. */
static size_t escape(unsigned char byte, char *out)
{
    static const char digits[] = "0123456789abcdef";
    static const char named[] = "\aa\bb\tt\nn\vv\ff\rr\\\\''";

    for (const char *pair = named; *pair != '\0'; pair += 2)
        if (byte == (unsigned char)pair[0]) {
            out[0] = '\\';
            out[1] = pair[1];
            return 2;
        }
    out[0] = '\\';
    out[1] = 'x';
    out[2] = digits[byte >> 4];
    out[3] = digits[byte & 15];
    return 4;
}

/* Writes the next character, or an escape for each of its bytes, to out: at
 * most 16 characters. Returns how many, and puts how many bytes it stands
 * for into *taken. */
static size_t show_next(const unsigned char *bytes, size_t len, char mark,
                        char *out, size_t *taken)
{
    uint32_t point;
    size_t length = decode_utf8(bytes, len, &point);
    size_t written = 0;

    *taken = length == 0 ? 1 : length;
    if (length == 0 || !is_printable(point) || point == '\\' ||
        point == (unsigned char)mark) {
        for (size_t i = 0; i < *taken; i++)
            written += escape(bytes[i], out + written);
        return written;
    }
    memcpy(out, bytes, length);
    return length;
}

/* Returns the first most (at most 64) bytes between two marks ("'" or ""). */
static struct quoted show(const void *data, size_t len, size_t most,
                          const char *mark)
{
    const unsigned char *bytes = data;
    size_t shown = len < most ? len : most;
    struct quoted result;
    char *out = result.text + sprintf(result.text, "%s", mark);

    for (size_t i = 0, taken; i < shown; i += taken) {
        char next[16];
        size_t length = show_next(bytes + i, len - i, *mark, next, &taken);

        if (taken > shown - i)
            break; /* a character that the limit would cut is left out */
        memcpy(out, next, length);
        out += length;
    }
    out += sprintf(out, "%s", mark);
    if (len > most)
        sprintf(out, "… (%zu bytes)", len);
    return result;
}

struct quoted quote(const void *bytes, size_t len)
{
    return show(bytes, len, 64, "'");
}

struct quoted quote_some(const void *bytes, size_t len, size_t most)
{
    return show(bytes, len, most, "'");
}

struct quoted printable(const void *bytes, size_t len)
{
    return show(bytes, len, 64, "");
}

size_t show_character(const unsigned char *bytes, size_t len, char *out,
                      size_t *taken)
{
    return show_next(bytes, len, '\0', out, taken);
}
