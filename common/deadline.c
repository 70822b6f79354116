/* deadline: see deadline.h for what each function promises. */
#include "deadline.h"

#include <stddef.h>
#include <time.h>

long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void deadlines_start(struct deadlines *deadlines, long length_ms)
{
    deadlines->length_ms = length_ms;
    deadlines->ends.next = deadlines->ends.previous = &deadlines->ends;
}

void deadline_set(struct deadlines *deadlines, struct deadline *deadline,
                  long long now)
{
    struct deadline *ends = &deadlines->ends;

    /* A clock that is cut to milliseconds is up to 1 ms behind. */
    deadline->at = now + deadlines->length_ms + 1;
    if (ends->previous == deadline)
        return; /* it is the last one already */
    deadline_clear(deadline);
    deadline->previous = ends->previous;
    deadline->next = ends;
    ends->previous->next = deadline;
    ends->previous = deadline;
}

void deadline_clear(struct deadline *deadline)
{
    if (deadline->next == NULL)
        return;
    deadline->previous->next = deadline->next;
    deadline->next->previous = deadline->previous;
    deadline->next = deadline->previous = NULL;
}

long deadlines_wait(const struct deadlines *deadlines, long long now)
{
    const struct deadline *first = deadlines->ends.next;

    if (first == &deadlines->ends)
        return -1;
    return first->at <= now ? 0 : (long)(first->at - now);
}

void *deadlines_expired(struct deadlines *deadlines, long long now)
{
    struct deadline *first = deadlines->ends.next;

    if (first == &deadlines->ends || first->at > now)
        return NULL;
    deadline_clear(first);
    return first->owner;
}
