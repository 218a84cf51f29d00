/* folders -- the directories of the sources' paths, each kept once: 100,000 files lie in few.
 *
 *   1. A folder is one directory of one flow; who holds it counts, and the last one frees it.
 *   2. Its text is what stands before the name, the slash included; it may be empty.
 *
 * Thinks: no I/O. */
#ifndef FOLDERS_H
#define FOLDERS_H

#include "map.h"
#include "slice.h"

#include <stdint.h>

struct folder {
    struct map_node node;
    const void *flow; /* borrows; never looked into */
    uint32_t holders, len;
    char text[];
};

struct folders { /* the zero value is empty */
    struct map map;
};

/* Where the name in a path begins. */
size_t folders_split(struct slice path);

/* Holds the folder of `flow` that is called `text`.  Errors: -ENOMEM. */
int folders_hold(struct folders *f, const void *flow, struct slice text, struct folder **ret);

/* Lets go of it; NULL is fine. */
void folders_drop(struct folders *f, struct folder *folder);

static inline struct slice folder_text(const struct folder *folder)
{
    return (struct slice){folder->text, folder->len};
}

/* Everybody has let go of everything. */
void folders_done(struct folders *f);

#endif
