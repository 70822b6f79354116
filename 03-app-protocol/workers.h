/*
 * workers: one process for each processor, for second reading. They share a
 * listener that was opened before, and nothing else: the kernel gives each
 * client to the one that calls accept() first.
 */
#ifndef WORKERS_H
#define WORKERS_H

/* Forks count workers (at least 1). Returns -1 in the parent, and in each
 * worker its lifeline: a descriptor that becomes readable when the parent has
 * ended, however. Until a worker has a signal pipe of its own, what it is told
 * goes into its parent's, which tells it again. */
int become_worker(long count);

/* In the parent: passes what comes from its signal pipe on to the workers,
 * until all have ended. Returns the exit status of the program: 0, or 1 if a
 * worker ended without having been told to, and then the others are told to. */
int wait_for_workers(int signals);

#endif
