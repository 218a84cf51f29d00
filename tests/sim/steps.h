/* steps -- what may happen next in a history, and how often. */
#ifndef STEPS_H
#define STEPS_H

#include <stdbool.h>
#include <stddef.h>

struct history;

struct kind {
    const char *name;
    unsigned weight;
    /* Does it, to one of the logs, and says so; false: there was nothing to do. */
    bool (*tell)(struct history *h, unsigned log);
    bool change; /* an agent that runs has a look before, unless it is frozen */
    bool basic;  /* other steps alone make no history */
};

extern const struct kind steps_kinds[];
extern const size_t steps_count;

#endif
