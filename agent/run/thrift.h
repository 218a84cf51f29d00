/* thrift -- gives back the memory that large lines took, once none has come for a while.
 *
 * A line of ten megabytes needs several times as much while it is worked on, and may be the only one of
 * its kind this year.  Giving all back after each would cost as much as the work, where they come one
 * after the other; so it is looked at every ten seconds, for as long as there is something to give.
 *
 * It owns what all flows of a lane work in, one at a time.
 *
 * Threads: one lane.  Asleep while lines are ordinary. */
#ifndef THRIFT_H
#define THRIFT_H

#include "list.h"

#include <stddef.h>

struct loop;
struct reader;
struct scratch;
struct thrift;

enum {
    THRIFT_ORDINARY = 128 * 1024, /* bytes looked at at once: what a source reads of short lines */
    THRIFT_MS = 10 * 1000,
};

/* Who has memory of his own to give back. */
struct thrift_user {
    struct list node; /* the thrift's; begins alone (list_init) */
    void (*trim)(void *user);
    void *user;
};

/* Borrows both until thrift_free.  Large blocks of malloc's are the kernel's again when they are freed,
 * from now on.  Errors: -ENOMEM. */
int thrift_new(struct loop *loop, struct reader *reader, struct thrift **ret);
void thrift_free(struct thrift *t); /* NULL is fine */

struct scratch *thrift_scratch(struct thrift *t);

void thrift_join(struct thrift *t, struct thrift_user *u);
void thrift_leave(struct thrift_user *u);

/* So many bytes of a file were looked at at once. */
void thrift_saw(struct thrift *t, size_t bytes);

#endif
