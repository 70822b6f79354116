/*
 * deadline: who has waited too long? For any number of things that all may
 * wait equally long, each call costs the same, however many there are. The
 * one that was set last ends last, so a queue is in order by itself: what is
 * set anew goes to its tail, and what is due stands at its head.
 *
 * Times are in milliseconds on a clock that is never set (CLOCK_MONOTONIC):
 * the time of day jumps when somebody corrects it.
 */
#ifndef COMMON_DEADLINE_H
#define COMMON_DEADLINE_H

/* Returns the time. It has nothing to do with the time of day. */
long long now_ms(void);

/* A deadline, in the thing that it is for. {NULL} is one that is not set; one
 * that is set must not be moved in memory. */
struct deadline {
    struct deadline *previous, *next;
    long long at; /* when it is due */
    void *owner;  /* whose it is: set by its user, not NULL */
};

/* A queue of deadlines of one length. */
struct deadlines {
    long length_ms;
    struct deadline ends; /* next is the head, previous the tail */
};

/* Makes an empty queue for deadlines that are due length_ms after they are
 * set. The queue must not be moved. */
void deadlines_start(struct deadlines *deadlines, long length_ms);

/* Sets a deadline, or sets it anew, perhaps in another queue: it is due
 * length_ms from now, and never sooner. now is what now_ms() has returned,
 * and not less than in the call before. */
void deadline_set(struct deadlines *deadlines, struct deadline *deadline,
                  long long now);

/* Takes a deadline back, if it is set. To be called before its owner ends. */
void deadline_clear(struct deadline *deadline);

/* Returns how long it is, in milliseconds, until the first is due: 0 if it is
 * due, -1 if there is none. */
long deadlines_wait(const struct deadlines *deadlines, long long now);

/* Returns the owner of one that is due, and clears it, or NULL. */
void *deadlines_expired(struct deadlines *deadlines, long long now);

#endif
