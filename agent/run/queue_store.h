/* queue_store -- what of one destination lies in the state directory: its spool or its dead
 * letters, item by item, for a command that works beside a running agent.
 *
 * Threads: one.  Blocks: always.  Errors: 0 or -errno. */
#ifndef QUEUE_STORE_H
#define QUEUE_STORE_H

#include "keep/letters.h"
#include "slice.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue_store;

enum queue_kind { QUEUE_SPOOL, QUEUE_DEAD };

enum queue_what {
    QUEUE_RECORD,
    QUEUE_DAMAGE, /* something stands there that is no record */
    QUEUE_NEWER,  /* a file in a format that this version does not know */
    QUEUE_ERROR,  /* a file that cannot be read: `error` */
};

struct queue_item {
    enum queue_what what;
    int error;
    const char *place; /* the file's name … */
    uint64_t at;       /* … and where in it */
    bool done;         /* sent or dropped already */
    bool last;         /* nothing behind it is marked together with it */

    /* Of a record; borrowed until the next call. */
    int64_t wall_ms; /* when it came here, since 1970 */
    struct slice flow, file;
    uint64_t offset, end;
    struct slice reason; /* empty in a spool */
    struct slice key;    /* empty: none */
    struct slice record;
    bool unredacted, cut; /* as of dead_letter */

    struct letters_place letter; /* for queue_store_mark: of a dead letter … */
    uint64_t serial;             /* … and of the spool: of the frame that it is in … */
    uint32_t index;              /* … and which of its records it is */
};

struct queue_store_stats {
    uint64_t bytes;   /* on disk */
    uint32_t damaged; /* files that were moved aside, as they are damaged */
    uint32_t missing; /* files that should be there */
};

/* What waits. */
struct queue_account {
    uint64_t records, damaged, newer;
    int64_t oldest_ms, newest_ms; /* 0: not known */
    int error;                    /* of a file that could not be read; 0 */
};

/* "spool", "dead". */
const char *queue_kind_word(enum queue_kind kind);

/* Tells `each` the directories of all destinations that have something of this kind, in the order
 * of their names.  Errors: open(2)'s, -ENOMEM, or what `each` returned. */
int queue_store_each(int state_dir_fd, enum queue_kind kind,
                     int (*each)(void *user, const char *directory), void *user);

/* The name of a destination's directory: that with "_" for every "/".  Errors: -ENAMETOOLONG;
 * -EINVAL: nothing can be called so. */
int queue_store_directory(const char *destination, char to[NAME_MAX + 1]);

/* As letters_open.  With `mark` items can be marked. */
int queue_store_open(int state_dir_fd, enum queue_kind kind, const char *directory, bool mark,
                     struct queue_store **ret);
void queue_store_close(struct queue_store *s); /* NULL is fine */

const struct queue_store_stats *queue_store_stats(const struct queue_store *s);

/* The next item: 1; 0: that was all.  Errors: -ENOMEM. */
int queue_store_next(struct queue_store *s, struct queue_item *ret);

void queue_account_add(struct queue_account *a, const struct queue_item *i);

/* What waits, as quickly as that can be known, instead of queue_store_next: of a spool, which may
 * have tens of gigabytes, only what its headers and its front say.  Errors: -ENOMEM. */
int queue_store_account(struct queue_store *s, struct queue_account *ret);

/* As letters_mark, letters_commit, letters_finish, letters_tidy.  In a spool, marking a record
 * marks its whole frame, and queue_store_mark_one only itself; and nothing leaves: only the agent's
 * start knows what of it the checkpoint has still to learn. */
int queue_store_mark(struct queue_store *s, const struct queue_item *item);
int queue_store_mark_one(struct queue_store *s, const struct queue_item *item);
int queue_store_commit(struct queue_store *s);
int queue_store_finish(struct queue_store *s);
int queue_store_tidy(struct queue_store *s, uint32_t *ret_left);

#endif
