/* follower_inner -- what the parts of the follower share: its state, and the few things that one
 * part asks of another.
 *
 * Only follower.c, resume.c and missed.c may include this: they are one machine in three files.
 * follower.c knows what is called how now, resume.c what an earlier run knew, missed.c what came
 * and went in between.  Everybody else goes by follower.h.
 *
 *   1. A source is in by_ino under its own identity, and in exactly one of named and nameless.
 *   2. Only follower.c makes, closes and frees sources; the others ask it to.
 *
 * Threads: one lane. */
#ifndef FOLLOWER_INNER_H
#define FOLLOWER_INNER_H

#include "list.h"
#include "map.h"
#include "run/loop.h"
#include "source_id.h"
#include "tail/follower.h"
#include "tail/neighbours.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FOLLOWER_FINISHED = 128, /* how many files that we let go of are remembered */
};

static const int64_t follower_second_ns = INT64_C(1000000000);

struct follower {
    struct loop *loop;
    struct watch *watch;
    struct digest *digest;
    struct neighbours_scope scope;
    struct descriptors *descriptors;
    struct follower_settings settings;
    struct follower_events events;
    struct follower_past *past;
    size_t past_count;
    struct map past_by_ino, by_ino;
    struct roster *roster;
    struct list named, nameless;
    struct source_id finished[FOLLOWER_FINISHED]; /* a ring */
    size_t finished_next;
    struct neighbours *strays; /* while starting */
    int64_t started_ns;
    size_t count;
    struct loop_timer tick;
    bool starting, closing;
};

static inline const char *follower_flow(const struct follower *f)
{
    return f->settings.roster.flow;
}

static inline uint64_t follower_ino_hash(const struct source_id *id)
{
    return map_hash_u64(id->ino);
}

/* Now, by the clock that file systems take birth times from. */
int64_t follower_wall_ns(void);

/* The source that this file is, if we have it; the one that is called `path` now. */
struct source *follower_find(const struct follower *f, const struct source_id *id);
struct source *follower_find_named(const struct follower *f, const char *path);

/* Whether this file was read to its end lately and let go. */
bool follower_has_finished(const struct follower *f, const struct source_id *id);

/* A new source, which goes on from `past`, or, if that is NULL, begins at `at`.  Nothing is called so
 * yet: follower_orphan, if nothing will be.  Takes `fd`.  The follower owns *ret.
 * Errors: -ENOMEM, the met event's. */
int follower_add(struct follower *f, const struct source_id *id, struct cursor at, const char *path,
                 int fd, struct follower_past *past, struct source **ret);

/* The last name that led to `s` does no more: from here on the tick looks after it. */
void follower_orphan(struct follower *f, struct source *s);

/* `s` is read after `predecessor` has been read to its end once, unless one of them is bound to
 * another source, or they would wait for each other. */
void follower_put_after(struct source *s, struct source *predecessor);

#endif
