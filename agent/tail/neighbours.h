/* neighbours -- the other generations of a log file: what lies beside it and is called like a
 * rotation of it, opened and identified, oldest first.
 *
 *   1. A neighbour is closed again once it is identified: there may be more of them than
 *      descriptors.  neighbour_hold opens it for the moment; the descriptor is its own until
 *      somebody takes it (and sets it to -1).
 *   2. What cannot be opened or is no regular file is left out; if it could be what is looked for
 *      (no permission, no descriptors, no memory), `incomplete` says so: then nothing must be
 *      concluded from what is missing.
 *
 * Blocks as open(2) and pread(2) of regular files do. */
#ifndef NEIGHBOURS_H
#define NEIGHBOURS_H

#include "source_id.h"
#include "tail/identity.h"
#include "tail/unpack.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct digest;
struct glob;

struct neighbour {
    int fd;
    struct source_id id;
    struct identity_facts facts;
    enum unpack_kind
        packed; /* it is compressed: then its id has no head, and its size says nothing */
    char path[PATH_MAX];
};

struct neighbours {
    struct neighbour **items; /* owns */
    size_t count;
    bool incomplete;
};

/* Where and how to look; borrowed. */
struct neighbours_scope {
    struct digest *digest;
    bool follow_symlinks;
    const struct glob *rotated; /* where else files go when they are rotated; NULL: nowhere */
};

/* Which files. */
struct neighbours_query {
    const char *path; /* what is called so, or like a generation of it, … */
    bool siblings;    /* … or like a generation of what it may be a generation of itself, */
    int64_t since_ns; /* and came to be then or later, where the file system tells; */
    uint64_t ino;     /* and what has this inode (0: none) */
};

/* Finds them beside `path`, and where rotated files go.  neighbours_done gives them back. */
void neighbours_find(const struct neighbours_scope *scope, const struct neighbours_query *query,
                     struct neighbours *ret);

/* Adds the file DIR/NAME; false if it is left out.  neighbours_sort brings them in order. */
bool neighbours_add(const struct neighbours_scope *scope, struct neighbours *all, const char *dir,
                    const char *name);
/* Whether the file DIR/NAME came to be before `since_ns`: a directory may hold ten thousand
 * generations, and opening them all costs much more than this. */
bool neighbours_is_older(const char *dir, const char *name, int64_t since_ns);

void neighbours_drop_last(struct neighbours *all);
void neighbours_sort(struct neighbours *all);
/* Orders them as a copy is to be looked for that was made at `since_ns` or later (if it is
 * compressed, of what was written at `written_ns` or later): the oldest of those first, then the
 * others, the youngest first. */
void neighbours_sort_copies(struct neighbours *all, int64_t since_ns, int64_t written_ns);

void neighbours_done(struct neighbours *all);

/* Opens and identifies one file, which is held then; its path is in `n`.  Errors: open(2)'s, identity_read's. */
int neighbour_open(const struct neighbours_scope *scope, struct neighbour *n);

/* Opens it again, if it is closed; false if it is not there any more.  neighbour_drop closes it. */
bool neighbour_hold(const struct neighbours_scope *scope, struct neighbour *n);
void neighbour_drop(struct neighbour *n);

/* Its identity as what it holds is known by: of a compressed one, with the head of its content. */
struct source_id neighbour_identity(const struct neighbours_scope *scope,
                                    const struct neighbour *n);

/* Whether its content begins with this head and has this place. */
bool neighbour_fits(const struct neighbours_scope *scope, const struct neighbour *n,
                    const struct source_id *id, struct cursor at);

/* When a file came to be; where the file system does not say, and of a compressed one (whose time is
 * that of what was compressed), when it was written last. */
static inline int64_t neighbour_born_ns(const struct neighbour *n)
{
    return n->id.born_ns != 0 && n->packed == UNPACK_NONE ? n->id.born_ns : n->facts.modified_ns;
}

#endif
