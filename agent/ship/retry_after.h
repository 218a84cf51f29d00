/* retry_after -- how long the other side asks us to wait, read from an answer's headers.
 *
 *   1. x-amz-retry-after (whole milliseconds; AWS's own) counts before Retry-After (RFC 9110,
 *      10.2.3: whole seconds or a date).
 *   2. A date counts against the answer's own Date: the two are of one clock, and ours may be
 *      wrong.  Without a Date it counts against our wall clock.
 *   3. What cannot be read is no advice: 0, as "now" and a date that has passed are.
 *   4. No advice is longer than RETRY_AFTER_MAX_MS.
 *
 * Thinks only: plain values, nothing is allocated, nothing fails. */
#ifndef RETRY_AFTER_H
#define RETRY_AFTER_H

#include "slice.h"

#include <stdint.h>

enum {
    /* Ours.  Who is overloaded means seconds; an hour is a mistake, or the word of a maintenance
     * page that nobody took down, and would silence a destination that has long recovered.  To ask
     * again every five minutes harms nobody. */
    RETRY_AFTER_MAX_MS = 5 * 60 * 1000,
};

/* The values of the headers as they came, without white space around; empty where one is missing. */
struct retry_after {
    struct slice amz;  /* x-amz-retry-after */
    struct slice http; /* Retry-After */
    struct slice date; /* Date */
};

/* In milliseconds, 0 if they do not ask for a wait.  `wall_ms` is now. */
uint32_t retry_after_ms(const struct retry_after *from, int64_t wall_ms);

#endif
