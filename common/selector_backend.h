/*
 * selector_backend: what selector.c asks of select(), poll() and epoll. A
 * back end knows descriptors and interests; who they belong to is none of
 * its business.
 */
#ifndef COMMON_SELECTOR_BACKEND_H
#define COMMON_SELECTOR_BACKEND_H

#include <stdbool.h>

struct selector;

struct selector_backend {
    const char *name;

    /* Returns the state that the other functions are given, or NULL and
     * errno. */
    void *(*open)(void);
    void (*close)(void *state);

    /* Changes the interest in fd: 0 stands for none, before or after. Returns
     * false and errno if it cannot; from something to none, it always can. */
    bool (*change)(void *state, int fd, int before, int after);

    /* Waits as selector_wait() does, calls selector_mark() for each that is
     * ready, and returns 0, or -1 and errno. */
    int (*wait)(void *state, struct selector *selector, long timeout_ms);
};

extern const struct selector_backend selector_select, selector_poll,
    selector_epoll;

/* Notes that fd is ready. */
void selector_mark(struct selector *selector, int fd, int ready);

#endif
