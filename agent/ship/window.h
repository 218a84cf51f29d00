/* window -- how many requests may be in flight to one destination.
 *
 *   1. 1 <= limit <= max.
 *   2. A throttled answer halves the limit, but only once for the requests that were in the air
 *      together; a whole round of clean answers adds one (AIMD, RFC 5681 section 3.1).
 *
 *   3. After window_restart the limit is 1, and doubles with each clean round until the first
 *      throttled answer (slow start, ibid.).
 *
 * A value: thinks, touches nothing. */
#ifndef WINDOW_H
#define WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct window {
    uint32_t max, limit, in_flight;
    uint32_t clean; /* clean answers since the limit last changed */
    uint64_t sent;  /* requests so far: names the one being sent */
    uint64_t mark;  /* requests up to here were sent before the last halving */
    bool slow;      /* it doubles */
};

/* Starts fully open: the service says soon enough if that is too much. */
void window_init(struct window *w, uint32_t max);

/* Changes `max`; what is in flight stays. */
void window_set_max(struct window *w, uint32_t max);

/* The destination is back after it was away: begins again with one request. */
void window_restart(struct window *w);

bool window_may_send(const struct window *w);

/* Notes a request on its way; gives its number, to be shown again with its answer. */
uint64_t window_send(struct window *w);

/* Notes an answer without, or with, throttling; or the end of a request that says nothing. */
void window_clean(struct window *w);
void window_throttled(struct window *w, uint64_t number);
void window_ended(struct window *w);

#endif
