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
    struct epoll_event *list; /* for who is ready: has room for all */
    int count, size;          /* how many are watched, and have room */
};

static bool make_room(struct state *state)
{
    int size = state->size > 0 ? 2 * state->size : 64;
    struct epoll_event *list;

    if (state->count < state->size)
        return true;
    list = realloc(state->list, (size_t)size * sizeof *list);
    if (list == NULL)
        return false;
    state->list = list;
    state->size = size;
    return true;
}

static void close_epoll(void *data)
{
    struct state *state = data;

    if (state->fd >= 0)
        close(state->fd);
    free(state->list);
    free(state);
}

static void *open_epoll(void)
{
    struct state *state = calloc(1, sizeof *state);

    if (state == NULL)
        return NULL;
    state->fd = epoll_create1(EPOLL_CLOEXEC);
    if (state->fd >= 0 && make_room(state))
        return state;
    close_epoll(state);
    return NULL;
}

static bool change_epoll(void *data, int fd, int before, int after)
{
    struct state *state = data;
    struct epoll_event event = {.data.fd = fd};
    int change = before == 0  ? EPOLL_CTL_ADD
                 : after == 0 ? EPOLL_CTL_DEL
                              : EPOLL_CTL_MOD;

    if (after & SELECTOR_READ)
        event.events |= EPOLLIN;
    if (after & SELECTOR_WRITE)
        event.events |= EPOLLOUT;
    if ((before == 0 && !make_room(state)) ||
        epoll_ctl(state->fd, change, fd, &event) < 0)
        return false;
    state->count += (after != 0) - (before != 0);
    return true;
}

static int wait_epoll(void *data, struct selector *selector, long timeout_ms)
{
    const struct state *state = data;
    int count = epoll_wait(state->fd, state->list, state->size,
                           timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms);

    if (count < 0)
        return -1;
    for (int i = 0; i < count; i++) {
        uint32_t events = state->list[i].events;
        uint32_t trouble = events & (EPOLLHUP | EPOLLERR);

        selector_mark(selector, state->list[i].data.fd,
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
