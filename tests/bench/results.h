/*
 * results: what the instruments tell about the answers that they had.
 */
#ifndef BENCH_RESULTS_H
#define BENCH_RESULTS_H

#include <stdint.h>

#include "../../common/histogram.h" /* struct histogram */

/* Nanoseconds, of a clock that nobody sets. */
uint64_t now_ns(void);

/* Prints how many there were a second, and how long they took, since began;
 * dies if it cannot. */
void print_results(const struct histogram *latencies, uint64_t began);

#endif
