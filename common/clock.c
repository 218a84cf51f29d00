#include "clock.h"

#include <time.h>

static int64_t clock_read_ms(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t); /* cannot fail for these two clocks */
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t system_mono_ms(const struct clock *c)
{
    (void)c;
    return (uint64_t)clock_read_ms(CLOCK_MONOTONIC);
}

static int64_t system_wall_ms(const struct clock *c)
{
    (void)c;
    return clock_read_ms(CLOCK_REALTIME);
}

const struct clock clock_system = {system_mono_ms, system_wall_ms};
