/* signal_pipe: see signal_pipe.h for what each function promises. */
#include "signal_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "report.h" /* die() */

/* A handler is given nothing but the number: these must be global. */
static volatile sig_atomic_t write_end;
static volatile sig_atomic_t patience;
static volatile sig_atomic_t told; /* to end */

static void on_signal(int signal_number)
{
    int error = errno; /* of whatever call the signal came in between */
    unsigned char byte = (unsigned char)signal_number;

    if (signal_number == SIGALRM)
        _exit(0);
    while (write(write_end, &byte, 1) < 0 && errno == EINTR)
        ; /* EAGAIN: the pipe is full, and says it already */
    if ((signal_number == SIGINT || signal_number == SIGTERM) && !told) {
        told = 1; /* who is told again and again does not get more time */
        alarm((unsigned)patience);
    }
    errno = error;
}

void add_to_signal_pipe(int signal_number)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t set;

    sigfillset(&action.sa_mask); /* one handler after the other */
    sigaction(signal_number, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, signal_number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int open_signal_pipe(unsigned patience_s)
{
    int ends[2];
    int before;

    if (pipe(ends) < 0)
        die("pipe: %s", strerror(errno));
    for (int i = 0; i < 2; i++)
        if (fcntl(ends[i], F_SETFD, FD_CLOEXEC) < 0 ||
            fcntl(ends[i], F_SETFL, O_NONBLOCK) < 0)
            die("pipe: %s", strerror(errno));
    before = write_end;
    write_end = ends[1];
    if (before > 0) /* its parent's */
        close(before);
    patience = (int)patience_s;
    told = 0;
    signal(SIGPIPE, SIG_IGN);
    add_to_signal_pipe(SIGALRM);
    add_to_signal_pipe(SIGINT);
    add_to_signal_pipe(SIGTERM);
    return ends[0];
}

int read_signal(int signal_pipe)
{
    unsigned char byte;

    return read(signal_pipe, &byte, 1) == 1 ? byte : 0;
}
