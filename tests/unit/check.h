/*
 * check: what the unit programs share. Each is a table of tests; a test is
 * named on the command line, and ends the program at the first thing that is
 * not as it should be. Without a name, all names are listed.
 *
 * The linker puts the functions __wrap_... below in the place of malloc() and
 * calloc() (-Wl,--wrap), and Jansson is told to use them, too: so memory can
 * be counted, and can be made to fail.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "../../03-app-protocol/message.h" /* struct message, struct decoder */
#include "../../common/buffer.h"           /* struct buffer */

struct test {
    const char *name;
    void (*run)(void);
};

/* The main() of a unit program; the table ends with {NULL}. */
int run_tests(const struct test *tests, int argc, char **argv);

/* Ends the program unless the condition holds. */
#define CHECK(condition)                                                       \
    ((condition) ? (void)0 : failed_check(__FILE__, __LINE__, #condition))
_Noreturn void failed_check(const char *file, int line, const char *what);

/* Ends the program, and shows both texts, unless they are equal. */
#define CHECK_TEXT(got, wanted) check_text(__FILE__, __LINE__, got, wanted)
void check_text(const char *file, int line, const char *got,
                const char *wanted);

/* What the test was at, which a failure shows. */
void now_at(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* --- Memory --------------------------------------------------------------- */

/* Starts to count; the fail-th allocation from here on fails, unless it is 0,
 * and all that follow succeed. spare: none of 32, 64, 128 … bytes fails:
 * Jansson 2.14 does not look whether the buffer for a word of its input could
 * grow, and then writes past another one. */
void count_memory(long fail, bool spare);

/* While the test itself needs memory, none is denied. */
void pause_memory(bool pause);

/* Since then: how many allocations there were, how many bytes at most at a
 * time, and how many bytes there are more than before. */
long allocations(void);
size_t memory_at_most(void);
long memory_left(void);

/* --- Bytes ---------------------------------------------------------------- */

/* Returns a copy of the bytes that ends where a page begins that nobody may
 * read, until the next call. */
const unsigned char *at_the_edge(const void *bytes, size_t len);

/* A random number below the limit, the same in every run. */
unsigned chance(unsigned limit);

/* Appends a message with this text for its header, whatever it is. */
void put_message(struct buffer *buffer, const char *header, const void *content,
                 size_t len);

/* Appends a good message, with content-length set right. */
void put_good(struct buffer *buffer, const char *byteorder, const char *type,
              const char *encoding, const void *content, size_t len);

#endif
