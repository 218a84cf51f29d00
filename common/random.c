#include "random.h"

#include <sys/random.h>
#include <time.h>

void random_seed(struct random *r)
{
    if (getrandom(&r->state, sizeof(r->state), GRND_NONBLOCK) == (ssize_t)sizeof(r->state))
        return;

    /* Early boot without entropy: jitter from the clock is still jitter. */
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    r->state = (uint64_t)t.tv_sec * UINT64_C(1000000007) + (uint64_t)t.tv_nsec;
}

uint64_t random_below(struct random *r, uint64_t limit)
{
    /* Multiply-shift: the bias is at most limit / 2^64, nothing at our sizes. */
    return (uint64_t)(((unsigned __int128)random_next(r) * limit) >> 64);
}
