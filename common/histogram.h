/*
 * histogram: how often did each duration occur? For millions of values in a
 * bounded memory: values that are less than 1 % apart are counted together
 * (the idea of HdrHistogram: a fixed number of counters for each power of
 * two). An instrument for measuring, and no part of the lessons.
 */
#ifndef COMMON_HISTOGRAM_H
#define COMMON_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_BITS = 7, /* 2^7 counters a power of two: error below 2^-7 */
    HISTOGRAM_COUNTERS = (65 - HISTOGRAM_BITS) << HISTOGRAM_BITS
};

struct histogram {
    uint64_t counters[HISTOGRAM_COUNTERS];
    uint64_t count; /* of all values */
    uint64_t highest;
};

/* Counts a value, in any unit. */
void histogram_add(struct histogram *histogram, uint64_t value);

/* Returns a value that this share of all values (0 to 1) does not exceed, at
 * most 1 % too high; 0 if there are none. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);

#endif
