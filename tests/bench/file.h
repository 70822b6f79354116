/*
 * file: a message that bench-3.py has left for the instruments.
 */
#ifndef BENCH_FILE_H
#define BENCH_FILE_H

#include <stddef.h>

enum { MOST_BYTES = 4096 }; /* more than any message that is measured */

struct file {
    unsigned char bytes[MOST_BYTES];
    size_t len; /* at least 1 */
};

/* Returns what is in a file; dies if that is nothing, or too much. */
struct file read_file(const char *path);

#endif
