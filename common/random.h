/* random -- numbers for jitter and partition keys, from a seed; not for secrets.
 *
 * One per lane: nothing is shared, and one seed replays a whole run. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

struct random {
    uint64_t state;
};

/* Seeds from the kernel. */
void random_seed(struct random *r);

/* The next 64 bits: splitmix64 (Steele, Lea, Flood, OOPSLA 2014). */
static inline uint64_t random_next(struct random *r)
{
    uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Evenly 0 <= x < limit; 0 if limit is 0. */
uint64_t random_below(struct random *r, uint64_t limit);

#endif
