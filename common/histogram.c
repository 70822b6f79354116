/* histogram: see histogram.h for what each function promises. */
#include "histogram.h"

#include <stddef.h>

/* A value below 2^8 has a counter of its own. Of a higher one, the highest
 * eight bits, the first of which is 1, and the number of the others count. */
static size_t counter_of(uint64_t value)
{
    unsigned shift = 0;

    while (value >> shift >= 2u << HISTOGRAM_BITS)
        shift++;
    return (size_t)((uint64_t)shift << HISTOGRAM_BITS) +
           (size_t)(value >> shift);
}

/* The highest value that has this counter. */
static uint64_t highest_of(size_t counter)
{
    size_t shift = counter >> HISTOGRAM_BITS;

    if (shift > 0)
        shift--;
    return (((uint64_t)counter - ((uint64_t)shift << HISTOGRAM_BITS) + 1)
            << shift) -
           1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->counters[counter_of(value)]++;
    histogram->count++;
    if (value > histogram->highest)
        histogram->highest = value;
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t passed = 0;

    for (size_t i = 0; i < HISTOGRAM_COUNTERS; i++) {
        passed += histogram->counters[i];
        if (passed > 0 && (double)passed >= share * (double)histogram->count) {
            uint64_t value = highest_of(i);

            return value < histogram->highest ? value : histogram->highest;
        }
    }
    return 0;
}
