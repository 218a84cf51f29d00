#include "run/patience.h"

#include "util.h"

enum {
    PATIENCE_TIMES = 9,           /* what is waited for what was worked: a tenth is left */
    PATIENCE_WORK_PER_MS = 40000, /* 25 ns each: the dearest of tests/unit/evil.h, with JIT */
    PATIENCE_QUIET_MS = 1000,     /* whoever was quiet for so long is not disturbed */
};

void patience_ordinary(struct patience *p, const void *who, uint64_t now_ms)
{
    if (p->last != who)
        p->other_ms = p->last_ms;
    p->last = who;
    p->last_ms = now_ms;
}

uint64_t patience_hard(struct patience *p, const void *who, uint64_t work, uint64_t now_ms)
{
    uint64_t disturbed_ms = p->last != who ? p->last_ms : p->other_ms;

    if (disturbed_ms == 0 || now_ms - disturbed_ms >= PATIENCE_QUIET_MS)
        return 0;
    p->rest += PATIENCE_TIMES * work;
    p->row_ms = MAX(p->row_ms, now_ms) + p->rest / PATIENCE_WORK_PER_MS;
    p->rest %= PATIENCE_WORK_PER_MS;
    return p->row_ms;
}
