/* backoff -- how long to wait before the next try: exponential with full jitter.
 *
 * delay = random(0, min(cap, base * 2^tries)), so that many agents that failed together do not
 * come back together (AWS Architecture Blog, "Exponential Backoff And Jitter"). */
#ifndef BACKOFF_H
#define BACKOFF_H

#include <stdint.h>

struct random;

struct backoff {
    uint32_t base_ms, cap_ms;
};

/* The delay before the try after `tries` failures in a row (0: the first failure). */
uint64_t backoff_delay_ms(const struct backoff *b, uint32_t tries, struct random *r);

#endif
