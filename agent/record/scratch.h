/* scratch -- the memory that lines are worked on in: one for all mills of a lane, as one of them works
 * at a time.
 *
 *   1. Nothing in it outlives the run of a mill but what the run's report points at, and that only
 *      until the next one.
 *   2. It grows with the largest line and with what is made of it; for ordinary ones it is warm and
 *      nothing is allocated.
 *   3. scratch_trim gives back what large lines took.
 *
 * Each mill sets the ceilings to its own when it begins to run: flows whose streams take records of
 * different sizes may share one. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include "buf.h"
#include "record/cri.h"
#include "record/fields.h"

#include <stddef.h>

enum { SCRATCH_KEEP = 64 * 1024 }; /* bytes that each piece keeps, at least */

struct scratch {
    /* the mill's */
    struct buf decoded; /* the text, where it cannot be taken as it is */
    struct buf joined;
    struct buf ended;                /* a line that was given a newline */
    struct buf fitted;               /* a part; or a key's text */
    struct buf streams[CRI_STREAMS]; /* containers' events */
    struct fields columns;           /* of the header */
    struct slice *names;             /* owns; their names */
    size_t names_cap;

    /* the recipe's */
    struct fields fields;
    struct buf redacted[2]; /* the text so far, and the one that is made of it */
    struct buf values[2];   /* the same for a field's value */
    struct buf out;

    struct buf converted
        [3]; /* the Java agent's conversions': what a step gives, in turns; and was given */
    struct buf squeezed;

    size_t keep;
};

void scratch_init(struct scratch *s);
void scratch_done(struct scratch *s);

/* Ordinary runs need so much of a piece, more than SCRATCH_KEEP: it is not given back. */
void scratch_expect(struct scratch *s, size_t bytes);

/* The ceilings for records of `record_max` bytes, and for events of `event_max`; what is in it is
 * forgotten. */
void scratch_limit(struct scratch *s, size_t record_max, size_t event_max);

/* How much memory scratch_trim would give back. */
size_t scratch_excess(struct scratch *s);

/* Forgets what is in it, and gives the pieces back that are larger than ordinary. */
void scratch_trim(struct scratch *s);

/* Room for `len` bytes in one of the pieces: more than that, so that it will do for others, too.
 * Errors: -ENOMEM, -EMSGSIZE as buf. */
int scratch_reserve(struct buf *b, size_t len);

#endif
