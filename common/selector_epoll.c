/*
 * selector_epoll: the back end on Linux's epoll(7). The kernel keeps the
 * list: it is told what changes, and tells who is ready, and nobody looks
 * through those who are not.
 */
#include "selector_backend.h"

#ifdef __linux__

#include "selector.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

struct state {
    int fd;
};

static void *open_epoll(void)
{
    struct state *state = malloc(sizeof *state);

    if (state == NULL)
        return NULL;
    state->fd = epoll_create1(EPOLL_CLOEXEC);
    if (state->fd >= 0)
        return state;
    free(state);
    return NULL;
}

static void close_epoll(void *data)
{
    struct state *state = data;

    close(state->fd);
    free(state);
}

static bool change_epoll(void *data, int fd, int before, int after)
{
    const struct state *state = data;
    struct epoll_event event = {.data.fd = fd};
    int change = before == 0  ? EPOLL_CTL_ADD
                 : after == 0 ? EPOLL_CTL_DEL
                              : EPOLL_CTL_MOD;

    if (after & SELECTOR_READ)
        event.events |= EPOLLIN;
    if (after & SELECTOR_WRITE)
        event.events |= EPOLLOUT;
    return epoll_ctl(state->fd, change, fd, &event) == 0;
}

static int wait_epoll(void *data, struct selector *selector, long timeout_ms)
{
    enum { AT_ONCE = 256 }; /* who is ready beyond that has the next turn */
    const struct state *state = data;
    struct epoll_event list[AT_ONCE];
    int count = epoll_wait(state->fd, list, AT_ONCE,
                           timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms);

    if (count < 0)
        return -1;
    for (int i = 0; i < count; i++) {
        uint32_t events = list[i].events;
        uint32_t trouble = events & (EPOLLHUP | EPOLLERR);

        selector_mark(selector, list[i].data.fd,
                      (events & EPOLLIN || trouble ? SELECTOR_READ : 0) |
                          (events & EPOLLOUT || trouble ? SELECTOR_WRITE : 0));
    }
    return 0;
}

const struct selector_backend selector_epoll = {
    .name = "epoll",
    .open = open_epoll,
    .close = close_epoll,
    .change = change_epoll,
    .wait = wait_epoll,
};

#endif
