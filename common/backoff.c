#include "backoff.h"

#include "random.h"
#include "util.h"

uint64_t backoff_delay_ms(const struct backoff *b, uint32_t tries, struct random *r)
{
    uint64_t ceiling = (uint64_t)b->base_ms << MIN(tries, 20U);

    return random_below(r, MIN(ceiling, (uint64_t)b->cap_ms) + 1);
}
