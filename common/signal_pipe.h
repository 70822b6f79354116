/*
 * signal_pipe: a signal as one more descriptor in a loop (the self-pipe, from
 * stage 2). A handler writes the number of the signal into a pipe, and the
 * loop finds the other end readable. What is in a pipe waits there, so the
 * signal may come at any moment.
 */
#ifndef COMMON_SIGNAL_PIPE_H
#define COMMON_SIGNAL_PIPE_H

/*
 * Catches SIGINT and SIGTERM, also if they were blocked when the program
 * began, and ignores SIGPIPE. Returns the descriptor to watch; dies if there
 * is none. A child process that calls it gets a pipe of its own.
 *
 * patience_s seconds after the first SIGINT or SIGTERM the program ends at
 * once, with exit status 0, wherever it is then: it may stand before a
 * standard output that nobody reads.
 */
int open_signal_pipe(unsigned patience_s);

/* Catches another signal, too, which does not end the program. To be called
 * after open_signal_pipe(). */
void add_to_signal_pipe(int signal_number);

/* Returns the number of the next signal that came, or 0 if none has. */
int read_signal(int signal_pipe);

#endif
