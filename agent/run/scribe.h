/* scribe -- the helper thread that may block: it is handed whole jobs, one after the other.
 *
 *   1. A job runs on the scribe's thread, alone; its end is told on the lane's loop.
 *   2. Jobs are done in the order they came.
 *   3. scribe_free waits until all jobs that were given have run; no `done` comes after it.
 *
 * Threads: one lane hands in; `run` is called on the other. */
#ifndef SCRIBE_H
#define SCRIBE_H

#include "list.h"

#include <stdbool.h>

struct loop;
struct scribe;

struct scribe_job {
    struct list node;
    void (*run)(struct scribe_job *j);  /* on the scribe's thread; may block */
    void (*done)(struct scribe_job *j); /* on the loop */
};

/* Borrows `loop`.  Without a thread of its own it does the jobs at once when they are given: for a
 * simulation, which must replay.  Errors: pthread_create(3)'s, eventfd(2)'s, -ENOMEM. */
int scribe_new(struct loop *loop, bool threaded, struct scribe **ret);
void scribe_free(struct scribe *s);

/* Hands in a job, borrowed until its `done`. */
void scribe_give(struct scribe *s, struct scribe_job *j);

#endif
