/* ledger -- how far one source is settled, while its records settle in any order.
 *
 * Per source a row of extents in file order; each belongs to one filling of one batch and counts
 * its records that are not settled.
 *
 *   1. Every extent in the row waits for at least one record.
 *   2. The settled prefix ends before the first record that is not settled; it never goes back,
 *      unless ledger_back says so.
 *   3. An extent that is settled leaves at once: the first one moves the prefix, any other gives
 *      its end to the one before, whose settling then carries both.
 *   4. So there are never more extents than unsettled records, and the pool cannot run dry.
 *
 *   5. What if: records may be marked as leaving, and the prefix asked for as if they were settled; a
 *      frame of the spool has to say how far its sources are settled once it is durable.
 *
 * Thinks: no I/O, and after ledger_pool_init nothing allocates or fails. */
#ifndef LEDGER_H
#define LEDGER_H

#include "cursor.h"
#include "list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ledger {
    struct list extents;
    struct cursor settled;
    void *owner; /* whoever wants to know that it moved; not looked into */
};

struct extent {
    struct list node;
    struct ledger *ledger;
    struct extent
        *partner; /* its owner's: one less to wait for there when this one is gone; NULL at
                             * first */
    struct cursor end;
    uint64_t fill;
    uint32_t waiting;
    uint32_t leaving; /* of these, how many are on their way to the spool (extent_leaves) */
    bool told;        /* … and the partner knows that it is all of them */
};

struct ledger_pool {
    struct extent *extents; /* owns */
    struct list free;       /* of those that were used … */
    size_t used, count;     /* … which are the first `used`: the others cost no memory yet */
};

/* `count`: the most records that can be unsettled at a time.  Errors: -ENOMEM. */
int ledger_pool_init(struct ledger_pool *p, size_t count);
void ledger_pool_done(struct ledger_pool *p);

/* Begins at `start`: everything before is settled, or none of our business. */
void ledger_init(struct ledger *l, struct cursor start, void *owner);

bool ledger_is_empty(const struct ledger *l);

/* The extent for records that go into filling `fill` now; records are counted in with
 * extent_out, at least one at once. */
struct extent *ledger_extent(struct ledger *l, struct ledger_pool *p, uint64_t fill);

static inline void extent_out(struct extent *e)
{
    e->waiting++;
}

/* Everything up to `end` has become records, or nothing.  True if the settled prefix moved. */
bool ledger_advance(struct ledger *l, struct cursor end);

/* The source went back to `to`, as its file was shortened: what comes next begins there.  True if
 * the settled prefix is there now. */
bool ledger_back(struct ledger *l, struct cursor to);

/* What if: `count` records of `e` were settled too.  And back: what was said is taken back. */
void extent_leaves(struct extent *e, uint32_t count);
void extent_stays(struct extent *e, uint32_t count);

/* The settled prefix if everything that leaves were settled. */
struct cursor ledger_foretell(const struct ledger *l);

/* `count` records of `e` are settled.  True if the settled prefix moved.  `e` may be gone then. */
bool ledger_settle(struct ledger_pool *p, struct extent *e, uint32_t count);

#endif
