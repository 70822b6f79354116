/* results: see results.h for what its functions promise. */
#include "results.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../../common/report.h" /* die() */

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void print_results(const struct histogram *latencies, uint64_t began)
{
    double seconds = (double)(now_ns() - began) / 1e9;

    printf("requests/s %12.0f\n", (double)latencies->count / seconds);
    printf("p50        %12.3f ms\n",
           (double)histogram_quantile(latencies, 0.5) / 1e6);
    printf("p99        %12.3f ms\n",
           (double)histogram_quantile(latencies, 0.99) / 1e6);
    if (fflush(stdout) == EOF)
        die("standard output: %s", strerror(errno));
}
