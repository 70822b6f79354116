/*
 * file: a message that bench-3.py or bench-4.py has left for the instruments.
 */
#ifndef BENCH_FILE_H
#define BENCH_FILE_H

#include <stddef.h>

struct file {
    unsigned char *bytes; /* for free() */
    size_t len;           /* at least 1 */
};

/* Returns what is in a file; dies if that is nothing, or too much. */
struct file read_file(const char *path);

#endif
