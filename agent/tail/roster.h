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
 *      once a second instead, and that is said once.  So is one in which a glance found what no
 *      event had told.
 *   4. Every minute everything is glanced at anyway; every few minutes, if there are very many files.
 *   5. No symbolic link is followed, wherever it stands, unless follow_symlinks says so; and never a
 *      way into the directory of our own state.
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

    /* The follower's, up to `resting`. */
    struct source *source; /* the file that is called so; NULL: none that we read now */
    union {
        struct {
            struct list same;    /* in source->names, or alone */
            struct source *last; /* the one that was called so before, while we still read it */
        };
        struct { /* while it rests: what was called so has been read to its end, and is quiet */
            struct map_node by_ino;
            void *slot;
        };
    };
    uint64_t rest_size; /* bytes, when it went to rest */
    uint32_t rested_s;  /* since 1970 */
    int16_t said;       /* errno of the last complaint about it */
    bool resting;
    bool modified; /* since the last look, its file was written to */
    bool listed;   /* the scan that runs has seen it */
    bool deferred; /* the follower's: it is looked at again at the end of the start */
    bool copied;   /* since the last look, a file was made that is called like its rotation */
    uint16_t appearances; /* since the last look: how many files have come to be called so, … */
    uint16_t departures;  /* … and how many have left it, as far as inotify has told */
    char text[];
};

struct roster_events {
    void (*look)(void *user, struct name *n);     /* see what file is called so now */
    void (*modified)(void *user, struct name *n); /* its file has news */
    void (*drop)(void *user, struct name *n);     /* the name goes: let go of it */

    /* In a directory that is new to us, or of which inotify does not tell all: a file that is not
     * meant, but is called like a rotation of one that is. */
    void (*stray)(void *user, const char *dir, const char *text, bool fresh);
    void *user;
};

/* A directory that no glob may lead into: where kinetail keeps its own state. */
struct roster_own {
    uint64_t dev, ino; /* 0: there is none */
};

struct roster_settings {
    const char *flow;
    char *const *files, *const *exclude;
    size_t file_count, exclude_count;
    bool follow_symlinks;
    struct roster_own own;
};

/* Borrows loop, watch and the settings' texts.  Errors: glob_new's, -ENOMEM. */
int roster_new(struct loop *loop, struct watch *watch, const struct roster_settings *settings,
               const struct roster_events *events, struct roster **ret);
void roster_free(struct roster *r);

/* Lists and watches everything, looking at every name found, before it returns. */
void roster_start(struct roster *r);

/* Looks at a name once more, in the next turn. */
void roster_look(struct roster *r, struct name *n);

/* There was no memory for something that was found: looks everywhere again in a second, before the
 * file may have been rotated out of sight or deleted. */
void roster_look_again(struct roster *r);

/* A look has found news of a resting file.  If no event had told of them, and none can be on its way,
 * the directory will be looked at more often. */
void roster_found(struct roster *r, struct name *n, int64_t modified_ns);

/* During a look: where inotify says that the file went that was called so; false if it does not.  A
 * hint: whether it is there is for the caller to see. */
bool roster_went(const struct roster *r, const struct name *n, char to[PATH_MAX]);

/* During a look: whether inotify says that one of our names was renamed to this path. */
bool roster_came(const struct roster *r, const char *path);

/* Whether inotify has told of all that happened in a name's directory since the last look. */
bool roster_is_sure(const struct roster *r, const struct name *n);

/* Up to when, by the clock that births are taken from, all that inotify tells of had been looked at
 * when this turn began: a file that nobody has seen was born later, however long we slept. */
int64_t roster_sure_ns(const struct roster *r);

/* The name is a link that leads nowhere: what it will lead to may come where nobody watches, so its
 * directory is looked at once a second for a minute. */
void roster_peek(struct name *n);

/* How many names there are. */
size_t roster_count(const struct roster *r);

/* The name at this path, if it is one of ours; NULL. */
struct name *roster_find(const struct roster *r, const char *path);

/* Whether the globs mean a file of this name in any directory that there is. */
bool roster_means_somewhere(const struct roster *r, const char *name);

/* Lets go of a name that leads nowhere. */
void roster_forget(struct roster *r, struct name *n);

/* A name's whole path; and where that was when its directory was entered, if a link led there.
 * Errors: -ENAMETOOLONG. */
int roster_path(const struct name *n, char to[PATH_MAX]);
int roster_real_path(const struct name *n, char to[PATH_MAX]);

/* Whether a path is one that the globs mean. */
bool roster_means(const struct roster *r, const char *dir, const char *name);

#endif
