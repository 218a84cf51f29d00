/* watch -- inotify, as a hint: it says "look here", never "this happened".
 *
 *   1. One inotify instance serves all subscribers of a lane; two that watch the same inode share
 *      one watch, as the kernel does.
 *   2. Events merge and overflow loses some: after IN_Q_OVERFLOW every subscriber must look
 *      everywhere.  It is told so with that mask and an empty name.
 *   3. A subscriber may unsubscribe anybody, itself included, from within its callback.
 *
 * Threads: one lane.  Errors: 0 or -errno. */
#ifndef WATCH_H
#define WATCH_H

#include "list.h"

#include <stdint.h>
#include <sys/inotify.h>

struct loop;
struct watch;
struct watch_entry;

struct watch_sub {
    struct list node;
    struct watch_entry *entry; /* NULL: not subscribed */
    /* `name` is "" for what happened to the watched thing itself. */
    void (*event)(struct watch_sub *s, uint32_t mask, const char *name);
};

/* Borrows `loop`.  Without an inotify instance (-EMFILE: the user's limit), it is one that cannot
 * watch anything: watch_add says why.  Errors: epoll_ctl(2)'s; -ENOMEM. */
int watch_new(struct loop *loop, struct watch **ret);
void watch_free(struct watch *w);

/* Subscribes to `path`, which is followed if it is a symbolic link (so "/proc/self/fd/N" is the
 * thing that descriptor is open on).  Errors: inotify_add_watch(2)'s, -ENOSPC: the limit of
 * watches is reached; -ENOMEM. */
int watch_add(struct watch *w, struct watch_sub *s, const char *path, uint32_t mask);

/* Outside of callbacks: tells what has happened up to now, without waiting for the loop. */
void watch_catch_up(struct watch *w);

/* Up to when all that happened has been told, by the clock that files' births are taken from (ns since
 * 1970).  INT64_MAX: nothing is ever told. */
int64_t watch_told_ns(const struct watch *w);

/* Within a callback: what the two halves of a rename have in common; 0: it is none. */
uint32_t watch_cookie(const struct watch *w);

/* Ends a subscription; one that is none is fine. */
void watch_remove(struct watch *w, struct watch_sub *s);

#endif
