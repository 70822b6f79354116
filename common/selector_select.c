/*
 * selector_select: the back end on select(). Each wait hands the kernel two
 * sets of bits, all of them up to the highest descriptor, and looks through
 * both when they come back. A set ends at FD_SETSIZE.
 */
#include "selector.h"
#include "selector_backend.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/select.h>

struct state {
    fd_set readers, writers;
    int highest;
};

static void *open_select(void)
{
    return calloc(1, sizeof(struct state)); /* two empty sets */
}

static bool change_select(void *data, int fd, int before, int after)
{
    struct state *state = data;

    (void)before;
    if (fd >= FD_SETSIZE) {
        errno = ERANGE;
        return false;
    }
    FD_CLR(fd, &state->readers);
    FD_CLR(fd, &state->writers);
    if (after & SELECTOR_READ)
        FD_SET(fd, &state->readers);
    if (after & SELECTOR_WRITE)
        FD_SET(fd, &state->writers);
    if (fd > state->highest)
        state->highest = fd;
    return true;
}

static int wait_select(void *data, struct selector *selector, long timeout_ms)
{
    struct state *state = data;
    const struct timespec timeout = {timeout_ms / 1000,
                                     timeout_ms % 1000 * 1000000};
    fd_set readable = state->readers, writable = state->writers;

    if (pselect(state->highest + 1, &readable, &writable, NULL,
                timeout_ms < 0 ? NULL : &timeout, NULL) < 0)
        return -1;
    for (int fd = 0; fd <= state->highest; fd++) {
        int ready = (FD_ISSET(fd, &readable) ? SELECTOR_READ : 0) |
                    (FD_ISSET(fd, &writable) ? SELECTOR_WRITE : 0);

        if (ready != 0)
            selector_mark(selector, fd, ready);
    }
    return 0;
}

const struct selector_backend selector_select = {
    .name = "select",
    .open = open_select,
    .close = free,
    .change = change_select,
    .wait = wait_select,
};
