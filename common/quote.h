/*
 * quote: bytes that came from a peer, made fit to print. What they say is
 * shown, what they would do to a terminal is not done.
 */
#ifndef COMMON_QUOTE_H
#define COMMON_QUOTE_H

#include <stddef.h>

/* The result of quote(): text, as a value that its user need not free. */
struct quoted {
    char text[320];
};

/*
 * Returns the bytes in single quotes, as far as the first 64 of them go,
 * and, if there are more, "… (LEN bytes)" with their number. Printable
 * UTF-8 (RFC 3629) shows as itself. Everything else becomes an escape such
 * as \n or \x1b, so that no peer can write commands to a terminal (CWE-150).
 */
struct quoted quote(const void *bytes, size_t len);

/* The same with another limit, of at most 64 bytes. */
struct quoted quote_some(const void *bytes, size_t len, size_t most);

/* The same as quote(), but without the quotes. */
struct quoted printable(const void *bytes, size_t len);

/* Writes the next character as printable() would show it to out, which has
 * room for 16. Returns how many characters that were, and puts how many bytes
 * it stands for into *taken. */
size_t show_character(const unsigned char *bytes, size_t len, char *out,
                      size_t *taken);

#endif
