/*
 * selector: which of many descriptors are ready? One API over select(),
 * poll() and epoll, as Python's module "selectors" has it. You add a
 * descriptor with what you want to do and with data of yours; wait returns
 * when somebody is ready, and next tells you who, one after the other.
 *
 * Readiness is level-triggered: what is still ready in the next turn is told
 * again. A hang-up or an error is told as whatever the descriptor is watched
 * for: the call on it will say what it is.
 */
#ifndef COMMON_SELECTOR_H
#define COMMON_SELECTOR_H

#include <stdbool.h>

enum { SELECTOR_READ = 1, SELECTOR_WRITE = 2 };

struct selector;

struct selector_event {
    int fd;
    int ready;  /* SELECTOR_READ, SELECTOR_WRITE, or both */
    void *data; /* what was added with fd */
};

/* The back ends that this system has, the best one first, the last NULL. */
extern const char *const selector_backends[];

/* Returns a selector on one of selector_backends, for selector_free(), or
 * NULL and errno. selector_free() closes none of the descriptors. */
struct selector *selector_new(const char *backend);
void selector_free(struct selector *selector);

/*
 * Watches a descriptor that is not watched yet. interest is SELECTOR_READ,
 * SELECTOR_WRITE, both, or 0: not now. Returns false and errno if it cannot:
 * ENOMEM, or ERANGE if select() cannot watch a number as high as this. data
 * stays yours.
 */
bool selector_add(struct selector *selector, int fd, int interest, void *data);

/* Changes the interest of a descriptor that was added. Returns false and errno
 * if it cannot, as selector_add(), and then nothing has changed. From some
 * interest to 0 it always can. */
bool selector_modify(struct selector *selector, int fd, int interest);

/* Forgets a descriptor that was added: to be called before close(). What is
 * left of this turn says no more of it, also if its number is added anew. */
void selector_remove(struct selector *selector, int fd);

/*
 * Waits until a descriptor is ready, at most timeout_ms milliseconds, or for
 * ever if that is less than 0. Returns how many are ready, which are all that
 * are, 0 when the time is up or a signal came, or -1 and errno.
 */
int selector_wait(struct selector *selector, long timeout_ms);

/* Puts the next that is ready into *event. Returns false if there is none
 * left in this turn. */
bool selector_next(struct selector *selector, struct selector_event *event);

#endif
