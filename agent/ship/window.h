/* window -- how many requests may be in flight to one destination.
 *
 *   1. 1 <= limit <= max, and in_flight <= max always.
 *   2. A throttled answer halves the limit, but only once for the requests that were in the air
 *      together; a whole round of clean answers adds one (AIMD, RFC 5681 section 3.1).
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
};

/* Starts fully open: the service says soon enough if that is too much. */
void window_init(struct window *w, uint32_t max);

bool window_may_send(const struct window *w);

/* Notes a request on its way; gives its number, to be shown again with its answer. */
uint64_t window_send(struct window *w);

/* Notes an answer without, or with, throttling; or the end of a request that says nothing. */
void window_clean(struct window *w);
void window_throttled(struct window *w, uint64_t number);
void window_ended(struct window *w);

#endif
