/*
 * options: the command line that all programs share,
 *
 *     PROGRAM [-t SECONDS] [-q] [HOST [PORT [more arguments]]]
 *
 * and the options that one program adds to it, checked to the last character.
 * Exit status 2 is bad usage, 0 is -h.
 */
#ifndef COMMON_OPTIONS_H
#define COMMON_OPTIONS_H

#include <stdbool.h>

/* An option of one program. Its value is a number if number is set, and else
 * one of choices, if these are set, and else any text. */
struct program_option {
    char letter;                /* 'b' for -b; 0: it has a long name only */
    const char *name;           /* "backend" for --backend */
    const char *value;          /* what usage calls its value: "NAME" */
    const char *purpose;        /* what usage says of it, a few words */
    long *number;               /* where a number is put: decimal digits, */
    long lowest, highest;       /* in this range */
    const char **choice;        /* where a text is put; it is one of */
    const char *const *choices; /* these words, the last of them NULL, if set */
    bool needed;                /* it must be given, and has such a text */
};

struct options {
    /* Set by the program. */
    const char *arguments; /* as usage shows them: "[HOST [PORT]]" */
    const char *purpose;   /* what the program does, one sentence */
    int least_arguments;   /* how many it needs, HOST and PORT among them, */
    int most_arguments;    /* and takes; -1: any number */
    bool listens;          /* a server: PORT may be 0, the kernel chooses */
    bool no_timeout;       /* it has no -t */
    const char *timeout;   /* what -t is; NULL: "the longest time without
                            * progress" */
    bool no_address;       /* it has no HOST and PORT: rest is all */
    const struct program_option *own; /* the last has no name; NULL: none.
                                       * It must live as long as this */

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

/* Bad usage that only the program can see: the argument called what, as it was
 * given, and why it is wrong. */
_Noreturn void usage_error(const struct options *options, const char *what,
                           const char *given, const char *why);

/* Returns the number that an argument of options->rest stands for: decimal
 * digits, lowest to highest. Anything else, or NULL, is bad usage of the
 * argument called what. */
long parse_argument(const struct options *options, const char *what,
                    const char *text, long lowest, long highest);

#endif
