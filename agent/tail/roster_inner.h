/* roster_inner -- what the two halves of the roster share: roster.c has the names, the turns and the
 * rhythm, roster_dir.c the directories.  Only they may include this. */
#ifndef ROSTER_INNER_H
#define ROSTER_INNER_H

#include "list.h"
#include "map.h"
#include "run/loop.h"
#include "tail/roster.h"
#include "tail/watch.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ROSTER_SAID_LINKS = 64 };

/* What is to be done in a directory in the next turn; more includes less. */
enum roster_work { ROSTER_NOTHING, ROSTER_SUBDIRS, ROSTER_ALL };

struct roster_dir {
    struct map_node node;
    struct roster *roster;
    struct roster_dir *parent;
    struct list in_parent, children, names;
    struct list waiting; /* in roster.dirs_waiting, or alone */
    enum roster_work work;
    struct glob_states *states; /* owns */
    struct watch_sub sub;
    uint32_t mask; /* of the events that we are subscribed to */
    uint64_t dev, ino;
    uint64_t peek_until_ms; /* a link in it leads nowhere yet */
    uint32_t depth;
    bool blind; /* inotify says nothing of it, or not all */
    bool said_own, said_list;
    bool peeked;  /* for a directory that a link does not lead to yet */
    bool scanned; /* once: then no rotation in it is news any more */
    char *path;   /* owns; "/" is "" */
    char *real;   /* owns; where that really is, if a link led there; or NULL */
};

/* A rename that inotify told of, until the looks of its wake-up are over. */
struct roster_move {
    struct map_node node; /* by the name that was left */
    const struct name *name;
    struct list all;
    char to[];
};

struct roster {
    struct loop *loop;
    struct watch *watch;
    struct roster_settings settings;
    struct roster_events events;
    struct glob *glob;
    struct glob_excludes *excludes;
    struct roster_dir *root;
    struct map names, dirs, moves;
    struct list all_moves;
    struct name *leaving;    /* what was renamed last, … */
    uint32_t leaving_cookie; /* … and the word by which the second half is known */
    struct list dirs_waiting, names_waiting;
    struct loop_turn turn;
    struct loop_timer timer;
    size_t blind_count, peek_count;
    uint64_t next_poll_ms, next_glance_ms;
    int64_t sure_ns; /* what happened before was looked at, as far as it was told */
    uint64_t said_links[ROSTER_SAID_LINKS]; /* hashes of links that were spoken of: a ring */
    size_t said_links_next;
    bool said_blind, starting;
    bool overflowed; /* events were lost: until everything was looked at, nothing is sure */
};

/* --- names, in roster.c --- */

struct name *name_find(const struct roster_dir *d, const char *text);
struct name *name_need(struct roster_dir *d, const char *text); /* NULL: out of memory */
bool name_is_meant(const struct roster_dir *d, const char *text);

/* Whether `text` is called like a rotation of a name in `d` that is meant; then `base` is that. */
bool name_is_rotation(struct roster_dir *d, const char *text, char base[NAME_MAX + 1]);

/* Notes one half of a rename; `n` is the name that was left, or NULL. */
void move_note(struct roster_dir *d, struct name *n, uint32_t mask, const char *text);

/* Starts the clock of the poll and of the glance, or sets it anew. */
void roster_set_timer(struct roster *r);

/* --- directories, in roster_dir.c --- */

/* Takes `states` if it succeeds.  Errors: -ENOMEM. */
int dir_new(struct roster *r, struct roster_dir *parent, const char *text,
            struct glob_states *states, struct roster_dir **ret);
void dir_drop(struct roster_dir *d);

/* Looks into it once a second for a minute. */
void dir_peek(struct roster_dir *d);

/* Asks for work in the next turn; does it now. */
void dir_want(struct roster_dir *d, enum roster_work work);
void dir_scan(struct roster_dir *d, enum roster_work work);

struct roster_dir *dir_child(const struct roster_dir *d, const char *text, size_t len);

/* From now on it is looked at once a second; said once a roster. */
void dir_say_blind(struct roster_dir *d, const char *why);

#endif
