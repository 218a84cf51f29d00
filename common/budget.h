/* budget -- memory that several users share, with a limit that holds.
 *
 *   1. What is taken by all together never exceeds the limit.
 *   2. The last quarter is for users that hold less than an equal share: whoever holds most stops
 *      first, and nobody is starved by a neighbour.
 *   3. Who was refused is told when something was given back.
 *
 * A value: counts, touches nothing.  Threads: one. */
#ifndef BUDGET_H
#define BUDGET_H

#include "list.h"

#include <stdbool.h>
#include <stdint.h>

struct budget {
    uint64_t limit, used; /* bytes */
    struct list users;
    uint32_t user_count;
};

struct budget_user {
    struct list node;
    uint64_t used; /* bytes */
    bool waits;

    /* Somebody needs memory: give back at once (budget_give) what is not needed now, and see to it
     * that more can follow. */
    void (*squeeze)(struct budget_user *u);
    /* budget_take said no before, and there may be room now. */
    void (*room)(struct budget_user *u);
};

void budget_init(struct budget *b, uint64_t limit);

/* What is taken already stays; who waits is told if it rose. */
void budget_set_limit(struct budget *b, uint64_t limit);

void budget_join(struct budget *b, struct budget_user *u);

/* Gives back all that the user holds. */
void budget_leave(struct budget *b, struct budget_user *u);

/* Takes `bytes`, or says no: then the others were asked to give back, and `room` will be called. */
bool budget_take(struct budget *b, struct budget_user *u, uint64_t bytes);
void budget_give(struct budget *b, struct budget_user *u, uint64_t bytes);

/* Whether more than half is taken: then what is idle is better given back. */
static inline bool budget_is_tight(const struct budget *b)
{
    return b->used > b->limit / 2;
}

#endif
