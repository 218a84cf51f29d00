/* follower -- the files of one flow: which file is behind each name, and where each one went.
 *
 *   1. A file is read once, whatever number of names lead to it.
 *   2. A file that lost its name (renamed, deleted) is read on through its descriptor until it has
 *      been quiet for a grace time; then what is left without a newline leaves as a last record.
 *   3. The file that took over its name is read after the old one has been read to its end once.
 *   4. A file that was truncated and written anew is another source; the rest of the old one is read
 *      from its copy, if one with its head and its anchor lies in the same directory.
 *   5. When one file took over from another, files that had the name in between are found by their
 *      names (NAME.1, NAME-20261121, …) and birth times, and read in the order of their birth.  What
 *      was finished lately is remembered, so that it is not taken for one of them.
 *
 * Threads: one lane.  Blocks as open(2) and pread(2) of regular files do. */
#ifndef FOLLOWER_H
#define FOLLOWER_H

#include "slice.h"
#include "tail/roster.h"
#include "tail/source.h"

#include <stdbool.h>
#include <stdint.h>

struct digest;
struct follower;
struct loop;
struct watch;

/* A lane's open log files; the least recently read are closed beyond the limit. */
struct descriptors {
    struct list opened;
    size_t count, limit;
};

/* What an earlier run knew of a source. */
struct follower_past {
    struct map_node by_ino, by_path; /* the follower's */
    struct source_id id;
    struct cursor at;
    struct slice path;
    void *slot; /* the caller's */
    bool used;  /* a source has taken over from here, or a resting name … */
    bool resting;
    struct source *source; /* … this one; good during the start */
};

struct follower_events {
    /* A source begins at s->at; `slot` is its past's, or NULL.  Sets s->user.  -errno: give it up
     * for now. */
    int (*met)(void *user, struct source *s, void *slot);
    void (*news)(void *user, struct source *s);    /* there may be something to read */
    void (*changed)(void *user, struct source *s); /* other path, more head, other file */
    bool (*is_settled)(void *user, struct source *s);
    struct cursor (*settled)(void *user, struct source *s); /* up to where it is */
    void (*moved)(void *user, struct source *s); /* s->at went back: its file was shortened */
    void (*left)(void *user, struct source *s);  /* it is gone for good, and read to its end */
    void (*lost)(void *user, void *slot);        /* a past whose file is nowhere to be found */

    /* A quiet source is forgotten but for its slot, which is given back (NULL: not now); later it
     * is met again with it.  What is known of such a slot. */
    void *(*rest)(void *user, struct source *s);
    void (*recall)(void *user, void *slot, struct source_id *ret_id, struct cursor *ret_at);

    /* Deleted files hold more than held_limit, or (`much` false) no longer.  True if they are being
     * brought to safety: then none of them is given up. */
    bool (*rescue)(void *user, bool much);
    void *user;
};

struct follower_settings {
    struct roster_settings roster;
    char *const *rotated; /* globs: where files go when they are rotated, besides where they were */
    size_t rotated_count;
    enum encoding encoding; /* of all its files */
    bool joins;             /* lines wait for others, also in the file that comes after theirs */
    bool from_start;        /* where a file begins that was there before the flow's first start */
    bool known;             /* the flow has run before … */
    int64_t alive_ns;       /* … and said so last at this wall time: what is younger is new */
    int64_t
        began_ns; /* when the agent was started, at this wall time: what is younger is new too */
    bool follow_hard_links; /* … to files of another owner than their directory's */
    uint64_t held_limit;    /* bytes of deleted files that are kept for delivery; 0: no limit */
    bool all_new;           /* what was known is damaged: begin what is not known at its start */
};

/* Borrows everything but settings and events, `past` included (count of them), until
 * follower_free.  Errors: roster_new's, -ENOMEM. */
int follower_new(struct loop *loop, struct watch *watch, struct digest *digest,
                 struct descriptors *descriptors, const struct follower_settings *settings,
                 const struct follower_events *events, struct follower_past *past,
                 size_t past_count, struct follower **ret);
void follower_free(struct follower *f);

/* Finds all files there are, and where to resume. */
void follower_start(struct follower *f);

/* Whether the pasts are not needed any more, so that the caller may free them. */
bool follower_forget_past(struct follower *f);

/* Makes sure that s->fd is open.  Errors: -ENOENT if it is not to be had (any more). */
int follower_open(struct follower *f, struct source *s);

/* Tells that a source was read to its end; or that its content is not what it was. */
void follower_at_end(struct follower *f, struct source *s);
void follower_stale(struct follower *f, struct source *s);

/* Tells that a compressed file cannot be read any further: what it had is lost, and said so. */
void follower_damaged(struct follower *f, struct source *s);

/* Tells that it could not be read for now: nobody has to wait for it. */
void follower_unreadable(struct follower *f, struct source *s);

/* Tells that it was read from: its head may have grown. */
void follower_was_read(struct follower *f, struct source *s);

/* Whether a source must not be read now: its predecessor comes first, or its name is to be looked
 * at, and what is found there may say that it has lost its content.  News come when it may. */
bool follower_must_wait(const struct source *s);

/* The end is near: files that nobody can open again (deleted ones) are read to their very end now,
 * without any grace.  follower_is_hurried: that is done.  follower_finish, when all is settled:
 * forgets them. */
void follower_hurry(struct follower *f);
bool follower_is_hurried(const struct follower *f);
void follower_finish(struct follower *f);

/* How many files there are; what deleted ones have that is not delivered, in bytes. */
size_t follower_count(const struct follower *f);
uint64_t follower_held_bytes(const struct follower *f);

/* Up to when, by the clock that births are taken from (ns since 1970), every file is known that was
 * there: one that nobody has seen was born later.  INT64_MAX: nobody tells, it is all looked at. */
int64_t follower_sure_ns(const struct follower *f);

#endif
