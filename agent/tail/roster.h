/* roster -- which names a flow's globs mean right now, and where to look when something moves.
 *
 * A tree of the directories that lie on the way of a pattern, each watched by inotify, and the
 * matching names in them.  The roster knows names; what file stands behind one is the follower's.
 *
 *   1. A directory is watched before it is listed, so nothing that appears in between is missed.  One
 *      that is only passed through, to subdirectories that are there, is watched for its own sake
 *      alone: what else happens in it wakes nobody.
 *   2. What happens leads to a look at the name, never to a conclusion from the event itself.
 *   3. A directory that cannot be watched (limits, file systems where inotify is blind) is listed
 *      once a second instead, and that is said once.
 *   4. Every minute everything is glanced at anyway.
 *
 * Symbolic links: a component written literally in a pattern may be one; what a wildcard matches
 * may be one only with follow_symlinks.
 *
 * Threads: one lane. */
#ifndef ROSTER_H
#define ROSTER_H

#include "list.h"
#include "map.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct roster;
struct roster_dir;
struct source;
struct watch;

struct name {
    struct map_node node;
    struct list in_dir, looking;
    struct roster_dir *dir;
    bool modified;        /* since the last look, its file was written to */
    uint32_t appearances; /* since the last look: how many files have come to be called so */

    /* The follower's. */
    struct source *source;        /* the file that is called so; NULL: none that we read */
    struct list same;             /* in source->names, or alone */
    struct source *last;          /* the one that was called so before, while we still read it */
    uint64_t skip_ino, skip_size; /* could not be read at the start, when it had this size */
    int said;                     /* errno of the last complaint about it */
    char text[];
};

struct roster_events {
    void (*look)(void *user, struct name *n);     /* see what file is called so now */
    void (*modified)(void *user, struct name *n); /* its file has news */
    void (*drop)(void *user, struct name *n);     /* the name goes: let go of it */

    /* At the start only: a file that is not meant, but is called like a rotation of one that is. */
    void (*stray)(void *user, const char *dir, const char *text);
    void *user;
};

struct roster_settings {
    const char *flow;
    char *const *files, *const *exclude;
    size_t file_count, exclude_count;
    bool follow_symlinks;
};

/* Borrows loop, watch and the settings' texts.  Errors: glob_new's, -ENOMEM. */
int roster_new(struct loop *loop, struct watch *watch, const struct roster_settings *settings,
               const struct roster_events *events, struct roster **ret);
void roster_free(struct roster *r);

/* Lists and watches everything, looking at every name found, before it returns. */
void roster_start(struct roster *r);

/* Looks at a name once more, in the next turn. */
void roster_look(struct roster *r, struct name *n);

/* Lets go of a name that leads nowhere. */
void roster_forget(struct roster *r, struct name *n);

/* A name's whole path.  Errors: -ENAMETOOLONG. */
int roster_path(const struct name *n, char to[PATH_MAX]);

/* Whether a path is one that the globs mean. */
bool roster_means(const struct roster *r, const char *dir, const char *name);

#endif
