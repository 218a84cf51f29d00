/* follower_inner -- what the parts of the follower share: its state, and the few things that one
 * part asks of another.
 *
 * They are one machine in several files, and nobody else may include this:
 *
 *     follower.c     which file is behind each name
 *     resting.c      names whose files are quiet, so that nothing but the name is kept
 *     nameless.c     files that lost their names, until they are done with
 *     open_files.c   descriptors: opened for news, closed again, found again
 *     rewritten.c    files that were truncated, shortened, written anew
 *     copies.c       which file is a copy of which
 *     missed.c       what came and went between two looks
 *     resume.c       what an earlier run knew
 *
 *   1. A source is in by_ino under its own identity, and in exactly one of named and nameless.
 *   2. Only follower_add makes sources, and only follower_free_source frees them.
 *   3. `named` is in the order of their last news, the quietest first.
 *
 * Threads: one lane. */
#ifndef FOLLOWER_INNER_H
#define FOLLOWER_INNER_H

#include "list.h"
#include "map.h"
#include "run/log.h"
#include "run/loop.h"
#include "source_id.h"
#include "tail/follower.h"
#include "tail/neighbours.h"
#include "util.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct identity_facts;

enum {
    FOLLOWER_FINISHED = 4096, /* how many files that we let go of are remembered */
    FOLLOWER_RENAMED = 1000,  /* how many that had news lately may have been what a new one was */
};

static const int64_t follower_second_ns = INT64_C(1000000000);

/* A file that was read to its very end. */
struct finished {
    struct source_id id;
    struct cursor at;
    uint64_t path_hash; /* of what it was called last */
    bool telling;       /* so much content that another file does not have it by chance */
};

/* A file that could not be read at the first start: what it had then is not wanted. */
struct unread {
    uint64_t dev, ino, size;
};

/* A file that nobody knows, until everything that is known has found its own. */
struct deferred {
    struct name *name;
    int64_t born_ns;
    uint64_t ino;
};

struct follower {
    struct loop *loop;
    struct watch *watch;
    struct digest *digest;
    struct neighbours_scope scope;
    struct glob *rotated; /* owns; or NULL */
    struct descriptors *descriptors;
    struct follower_settings settings;
    struct follower_events events;
    struct follower_past *past;
    size_t past_count;
    struct map past_by_ino, past_by_path, by_ino, resting;
    struct roster *roster;
    struct list named, nameless;
    struct finished *finished; /* owns: a ring */
    size_t finished_count, finished_next;
    struct unread *unread; /* owns */
    size_t unread_count;
    struct neighbours *strays; /* while starting */
    struct deferred *deferred; /* owns; while starting: files that nobody knows */
    size_t deferred_count;
    int64_t started_ns;
    size_t count, resting_count;
    uint64_t held_bytes;
    struct loop_timer tick, rest, retry;
    struct log_limit missed_said, refused_said;
    bool starting, settling, claimed, closing, said_held;
    bool rescuing; /* deleted files hold more than they may: events.rescue was told */
};

static inline const char *follower_flow(const struct follower *f)
{
    return f->settings.roster.flow;
}

static inline uint64_t follower_ino_hash(const struct source_id *id)
{
    return map_hash_u64(id->ino);
}

static inline struct source *source_of(struct list *node)
{
    return CONTAINER_OF(node, struct source, all);
}

static inline bool is_nameless(const struct source *s)
{
    return list_is_empty(&s->names);
}

/* --- follower.c --- */

/* Now, by the clock that file systems take birth times from. */
int64_t follower_wall_ns(void);

/* The source that this file is, if we read it. */
struct source *follower_find(const struct follower *f, const struct source_id *id);

/* The name that the globs mean and that a file called `path` may be a rotation of; NULL. */
struct name *follower_find_base(const struct follower *f, const char *path);

/* Whether we have this file in any way: read, or resting. */
bool follower_knows(const struct follower *f, const struct source_id *id);

/* Whether a file that nobody reads yet may be read: not what kinetail itself writes (that would feed
 * itself), and not what somebody has linked into a directory of his to have it read by us.
 * Errors: -EDEADLK, -EMLINK. */
int follower_may_read(const struct follower *f, const char *path, const struct source_id *id,
                      const struct identity_facts *facts);

/* What is remembered of a file that was read to its end lately and let go; NULL. */
const struct finished *follower_find_finished(const struct follower *f, const struct source_id *id);

/* A new source at `at`, called `path`; `slot` is what the caller of the follower knows of it, or
 * NULL.  Nothing is called so yet: follower_orphan, if nothing will be.  Takes `fd` (-1: not open).
 * The follower owns *ret.  Errors: -ENOMEM, the met event's. */
int follower_add(struct follower *f, const struct source_id *id, struct cursor at, const char *path,
                 int fd, void *slot, struct source **ret);
void follower_free_source(struct follower *f, struct source *s);

/* Gives a source another identity. */
void follower_identify(struct follower *f, struct source *s, const struct source_id *id);

/* `s` is called `path`, and everybody who keeps that is told. */
void follower_say_path(struct follower *f, struct source *s, const char *path);

/* Takes more of its beginning into the head that it is known by, if there is more. */
void follower_grow_head(struct follower *f, struct source *s);

/* There is more in `s` than was read, or may be. */
void follower_have_news(struct follower *f, struct source *s);

/* The places of the copies of `s` follow to where that is settled: before it is forgotten, and at the
 * end. */
void follower_settle_copies(struct follower *f, struct source *s);

/* Whether `s`, a backup, still has only what its original has; then its place follows that one's. */
bool follower_is_still_backup(struct follower *f, struct source *s);

/* `n` leads to `s` now; `s` is what was called `n` before. */
void follower_attach(struct follower *f, struct name *n, struct source *s, const char *path);
void follower_set_last(struct name *n, struct source *s);

/* `s` is read after `predecessor` has been read to its end once, unless one of them is bound to
 * another source, or they would wait for each other; and nobody has to wait for `s` any more. */
void follower_put_after(struct source *s, struct source *predecessor);
void follower_release(struct follower *f, struct source *s);

/* --- nameless.c --- */

/* The last name that led to `s` does no more: from here on the tick looks after it. */
void follower_orphan(struct follower *f, struct source *s);
void nameless_tick(struct loop_timer *t);

/* Its grace time is over: what it has left leaves, with or without a newline.  Let go of it, if that
 * is done; true if it is gone. */
void nameless_end(struct follower *f, struct source *s);
bool nameless_let_go(struct follower *f, struct source *s);

/* inotify on the file itself, as its directory's does not tell of it. */
void nameless_watch(struct follower *f, struct source *s);
void nameless_event(struct watch_sub *sub, uint32_t mask, const char *name);

/* --- open_files.c --- */

/* Gives the open descriptor of `s` away; closes it; makes `fd` it. */
int open_files_take(struct follower *f, struct source *s);
void open_files_close(struct follower *f, struct source *s);
void open_files_adopt(struct follower *f, struct source *s, int fd);

/* Closes what was not read for longest, until the limit holds or nothing more can be closed. */
void open_files_trim(const struct descriptors *d, const struct source *keep);

/* Opens `path` if this very file is called so; *ret_why says why not.  -ENOENT: it is not. */
int open_files_same(struct follower *f, const char *path, const struct source_id *id, int *ret_why);

/* Looks for a file that is not called as it was: beside its old name, by its handle, and where
 * rotated files go.  Gives an open descriptor, or -ENOENT. */
int open_files_search(struct follower *f, const struct source_id *id, const char *path);

/* Opens a file by its handle, wherever on the file system of `path` it is: an open descriptor, or
 * -ENOENT.  Needs CAP_DAC_READ_SEARCH; the caller checks which file it is. */
int open_files_by_handle(const struct source_id *id, const char *path);

/* The name that an open file really has now; false if it has none, or it cannot be told. */
bool open_files_path(int fd, const struct source_id *id, char to[PATH_MAX]);

/* --- rewritten.c --- */

/* Looks for a copy of a file that is not to be had any more (moved to another file system,
 * compressed), and lets `s` go on there. */
bool rewritten_find_copy(struct follower *f, struct source *s);

/* --- resting.c --- */

/* The name whose resting file this is; what is known of that. */
struct name *resting_find(const struct follower *f, const struct source_id *id);

/* A name goes to rest with the place `slot`, for a file with this identity and size. */
int resting_begin(struct follower *f, struct name *n, void *slot, const struct source_id *id,
                  uint64_t size);

/* Wakes it: makes a source of it that is attached to its name.  NULL: out of memory. */
struct source *resting_wake(struct follower *f, struct name *n);

/* Forgets, without waking, that it rests: its place stays where it is kept. */
void resting_leave(struct follower *f, struct name *n);
void resting_tick(struct loop_timer *t);
void resting_set_timer(struct follower *f);

#endif
