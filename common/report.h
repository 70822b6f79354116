/*
 * report: what a program says to the person who runs it. Errors go to
 * standard error, the story of what happens goes to standard output, and
 * bytes that came from a peer are quoted (see quote.h) before they are shown.
 */
#ifndef COMMON_REPORT_H
#define COMMON_REPORT_H

#include <stddef.h>

/*
 * Sets the name that stands before each error: the part of argv0 after its
 * last slash. argv0 must live as long as the program. parse_options() calls
 * this, and be_quiet() for -q.
 */
void report_as(const char *argv0);

/* Returns that name. */
const char *program_name(void);

/* Silences narrate() from here on. */
void be_quiet(void);

/*
 * Prints "PROGRAM: " and the formatted text as one line on standard error
 * and ends the program with exit status 1. For errors of set-up and of
 * clients; a server never calls it for what a peer did.
 */
_Noreturn void die(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Prints the same line as die(), and returns: for a peer's errors. */
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Prints the formatted text as one line on standard output, unbuffered, so
 * that a pipe or a log file has it at once. With -q it prints nothing. Dies
 * if standard output cannot be written.
 */
void narrate(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Prints BEFORE, the bytes as quote() makes them, and the formatted text, with
 * spaces between, like narrate(): "Echoing 'hello' to 127.0.0.1:40000". With
 * -q it does nothing, and above all does not quote, which would cost a server
 * that is asked to be fast more than its system calls do.
 */
void narrate_bytes(const char *before, const void *bytes, size_t len,
                   const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same, with text that is fit to print, but not in quotes. */
void narrate_text(const char *before, const void *bytes, size_t len,
                  const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Prints a result: before, and all of the bytes, as text that is fit to
 * print, in one line, also with -q. Dies if it cannot be written. */
void print_text(const char *before, const void *bytes, size_t len);

#endif
