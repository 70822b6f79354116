/*
 * options: the command line that all programs share,
 *
 *     PROGRAM [-t SECONDS] [-q] [HOST [PORT [more arguments]]]
 *
 * checked to the last character. Exit status 2 is bad usage, 0 is -h.
 */
#ifndef COMMON_OPTIONS_H
#define COMMON_OPTIONS_H

#include <stdbool.h>

struct options {
    /* Set by the program. */
    const char *arguments; /* as usage shows them: "[HOST [PORT]]" */
    const char *purpose;   /* what the program does, one sentence */
    int most_arguments;    /* how many it takes, HOST and PORT among them */
    bool listens;          /* a server: PORT may be 0, the kernel chooses */

    /* Set by parse_options(), to what is given or else to the default. */
    const char *host; /* name, or address without brackets; 127.0.0.1 */
    const char *port; /* decimal digits, 0 (or 1) to 65535; 65432 */
    long timeout_ms;  /* -t in milliseconds, 1 to 86,400,000; 60,000 */
    char **rest;      /* the arguments after PORT, and then NULL */
};

/*
 * To be called first in main(). Opens those of the three standard descriptors
 * that are closed on /dev/null, since the next socket would get their number
 * and with it what is printed. Sets the name for die() and warn(), and -q
 * for narrate(). Reads the command line into *options, whose strings then
 * belong to argv. Bad usage: one line on standard error, the usage, and exit
 * status 2; -h or --help: the usage on standard output, and exit status 0.
 */
void parse_options(struct options *options, int argc, char **argv);

#endif
