/*
 * selector: see selector.h for what each function promises. This file knows
 * whose a descriptor is, and who is ready in this turn; the three files
 * selector_*.c know how to ask the kernel.
 */
#include "selector.h"
#include "selector_backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct registration {
    int interest;
    int ready; /* in this turn, and not told yet */
    void *data;
};

struct selector {
    const struct selector_backend *backend;
    void *state;                /* of the back end */
    struct registration *table; /* by descriptor */
    int *marked;                /* the descriptors that are ready */
    int size;                   /* of both */
    int count, next;            /* how many are marked, which is next */
};

static const struct selector_backend *const backends[] = {
#ifdef __linux__
    &selector_epoll,
#endif
    &selector_poll,
    &selector_select,
};

const char *const selector_backends[] = {
#ifdef __linux__
    "epoll",
#endif
    "poll",
    "select",
    NULL,
};

struct selector *selector_new(const char *backend)
{
    struct selector *selector = calloc(1, sizeof *selector);

    if (selector == NULL)
        return NULL;
    errno = EINVAL;
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (strcmp(backends[i]->name, backend) == 0) {
            selector->backend = backends[i];
            selector->state = backends[i]->open();
        }
    if (selector->state != NULL)
        return selector;
    free(selector);
    return NULL;
}

void selector_free(struct selector *selector)
{
    selector->backend->close(selector->state);
    free(selector->table);
    free(selector->marked);
    free(selector);
}

/* Makes the table and the list long enough for descriptor fd. */
static bool make_room(struct selector *selector, int fd)
{
    int size = selector->size > 0 ? selector->size : 64;
    struct registration *table;
    int *marked;

    while (size <= fd)
        size *= 2;
    if (size == selector->size)
        return true;
    marked = realloc(selector->marked, (size_t)size * sizeof *marked);
    if (marked == NULL)
        return false;
    selector->marked = marked;
    table = realloc(selector->table, (size_t)size * sizeof *table);
    if (table == NULL)
        return false;
    memset(table + selector->size, 0,
           (size_t)(size - selector->size) * sizeof *table);
    selector->table = table;
    selector->size = size;
    return true;
}

bool selector_add(struct selector *selector, int fd, int interest, void *data)
{
    if (!make_room(selector, fd) ||
        (interest != 0 &&
         !selector->backend->change(selector->state, fd, 0, interest)))
        return false;
    selector->table[fd] = (struct registration){interest, 0, data};
    return true;
}

bool selector_modify(struct selector *selector, int fd, int interest)
{
    struct registration *entry = &selector->table[fd];

    if (interest == entry->interest)
        return true;
    if (!selector->backend->change(selector->state, fd, entry->interest,
                                   interest))
        return false;
    entry->interest = interest;
    return true;
}

void selector_remove(struct selector *selector, int fd)
{
    selector_modify(selector, fd, 0);
    selector->table[fd] = (struct registration){0, 0, NULL};
}

void selector_mark(struct selector *selector, int fd, int ready)
{
    selector->table[fd].ready = ready;
    selector->marked[selector->count++] = fd;
}

int selector_wait(struct selector *selector, long timeout_ms)
{
    selector->count = selector->next = 0;
    if (selector->backend->wait(selector->state, selector, timeout_ms) == 0 ||
        errno == EINTR)
        return selector->count;
    return -1;
}

bool selector_next(struct selector *selector, struct selector_event *event)
{
    while (selector->next < selector->count) {
        int fd = selector->marked[selector->next++];
        struct registration *entry = &selector->table[fd];
        int ready = entry->ready & entry->interest;

        entry->ready = 0;
        if (ready == 0)
            continue; /* removed, or changed, in this turn */
        *event = (struct selector_event){fd, ready, entry->data};
        return true;
    }
    return false;
}
