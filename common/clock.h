/* clock -- the time, handed over at birth so that a test can turn the hands.
 *
 * Deadlines and intervals use mono_ms; only a signature's date and a log line use wall_ms. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

struct clock {
    uint64_t (*mono_ms)(const struct clock *c); /* CLOCK_MONOTONIC */
    int64_t (*wall_ms)(const struct clock *c);  /* since 1970-01-01 UTC, CLOCK_REALTIME */
};

extern const struct clock clock_system;

#endif
