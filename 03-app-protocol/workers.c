/* workers: see workers.h for what its functions promise. */
#include "workers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/report.h"      /* die(), warn() */
#include "../common/signal_pipe.h" /* add_to_signal_pipe(), read_signal() */

static pid_t *workers;
static long workers_count;

static void tell_workers(int signal_number)
{
    for (long i = 0; i < workers_count; i++)
        if (workers[i] > 0)
            kill(workers[i], signal_number);
}

int become_worker(long count)
{
    int lifeline[2];

    workers = calloc((size_t)count, sizeof *workers);
    if (workers == NULL || pipe(lifeline) < 0 ||
        fcntl(lifeline[0], F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(lifeline[1], F_SETFD, FD_CLOEXEC) < 0)
        die("workers: %s", strerror(errno));
    add_to_signal_pipe(SIGCHLD);
    for (workers_count = 0; workers_count < count; workers_count++) {
        pid_t pid = fork();

        if (pid == 0) {
            free(workers);
            close(lifeline[1]);
            return lifeline[0];
        }
        if (pid < 0) {
            int error = errno;

            tell_workers(SIGTERM);
            die("fork: %s", strerror(error));
        }
        workers[workers_count] = pid;
    }
    close(lifeline[0]);
    return -1; /* the other end stays open as long as this process lives */
}

/* Notes which workers have ended. Returns how many are left; *died becomes
 * true if one did without having been told to, or badly. */
static long count_workers(bool stopping, bool *died)
{
    long left = 0;

    for (long i = 0; i < workers_count; i++) {
        int status;

        if (workers[i] > 0 && waitpid(workers[i], &status, WNOHANG) > 0) {
            if (!stopping || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                warn("worker %d ended", (int)workers[i]);
                *died = true;
            }
            workers[i] = 0;
        }
        left += workers[i] > 0;
    }
    return left;
}

/* Returns the number of the next signal; waits for it. */
static int next_signal(int signals)
{
    struct pollfd wait = {.fd = signals, .events = POLLIN};
    int number;

    while ((number = read_signal(signals)) == 0)
        if (poll(&wait, 1, -1) < 0 && errno != EINTR)
            die("poll: %s", strerror(errno));
    return number;
}

int wait_for_workers(int signals)
{
    bool stopping = false, died = false;
    int number;

    while (count_workers(stopping, &died) > 0) {
        if (died && !stopping) {
            stopping = true;
            tell_workers(SIGTERM);
        }
        number = next_signal(signals);
        if (number == SIGCHLD)
            continue;
        if (number != SIGHUP) /* which asks for new files, and is no end */
            stopping = true;
        tell_workers(number);
    }
    free(workers);
    return died ? EXIT_FAILURE : EXIT_SUCCESS;
}
