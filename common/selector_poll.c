/*
 * selector_poll: the back end on poll(). Each wait hands the kernel a list
 * with an entry for each descriptor, however high its number, and looks
 * through it when it comes back.
 */
#include "selector.h"
#include "selector_backend.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>

struct state {
    struct pollfd *list;
    int *places; /* by descriptor: where in the list it stands */
    int count;   /* how many are in the list */
    int size;    /* how many have room in both, and in places */
};

static void *open_poll(void)
{
    return calloc(1, sizeof(struct state));
}

static void close_poll(void *data)
{
    struct state *state = data;

    free(state->list);
    free(state->places);
    free(state);
}

/* The list is never longer than the highest descriptor is high. */
static bool make_room(struct state *state, int fd)
{
    int size = state->size > 0 ? state->size : 64;
    struct pollfd *list;
    int *places;

    while (size <= fd)
        size *= 2;
    if (size == state->size)
        return true;
    list = realloc(state->list, (size_t)size * sizeof *list);
    if (list == NULL)
        return false;
    state->list = list;
    places = realloc(state->places, (size_t)size * sizeof *places);
    if (places == NULL)
        return false;
    state->places = places;
    state->size = size;
    return true;
}

static bool change_poll(void *data, int fd, int before, int after)
{
    struct state *state = data;

    if (before == 0) {
        if (!make_room(state, fd))
            return false;
        state->places[fd] = state->count++;
    }

    struct pollfd *entry = &state->list[state->places[fd]];
    if (after == 0) { /* the last one moves into the gap */
        *entry = state->list[--state->count];
        state->places[entry->fd] = (int)(entry - state->list);
        return true;
    }
    *entry = (struct pollfd){.fd = fd};
    if (after & SELECTOR_READ)
        entry->events |= POLLIN;
    if (after & SELECTOR_WRITE)
        entry->events |= POLLOUT;
    return true;
}

static int wait_poll(void *data, struct selector *selector, long timeout_ms)
{
    struct state *state = data;
    int left = poll(state->list, (nfds_t)state->count,
                    timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms);

    if (left < 0)
        return -1;
    for (int i = 0; left > 0 && i < state->count; i++) {
        int events = state->list[i].revents;
        int trouble = events & (POLLHUP | POLLERR | POLLNVAL);

        if (events == 0)
            continue;
        selector_mark(selector, state->list[i].fd,
                      (events & POLLIN || trouble ? SELECTOR_READ : 0) |
                          (events & POLLOUT || trouble ? SELECTOR_WRITE : 0));
        left--;
    }
    return 0;
}

const struct selector_backend selector_poll = {
    .name = "poll",
    .open = open_poll,
    .close = close_poll,
    .change = change_poll,
    .wait = wait_poll,
};
