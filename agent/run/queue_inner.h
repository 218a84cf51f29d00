/* queue_inner -- what the files of the queue command share, and nobody else's business. */
#ifndef QUEUE_INNER_H
#define QUEUE_INNER_H

#include "buf.h"
#include "run/queue_store.h"
#include "slice.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct config;

enum {
    QUEUE_USAGE = 2, /* the exit status for wrong usage or configuration */
    QUEUE_SHOWN = 4, /* names in one sentence */
    QUEUE_TIME_SIZE = 40,
};

struct queue_command {
    const char *config_path, *state_path; /* as said; state_path NULL: the configuration's */
    bool json, raw, apply;
    bool dead, spool;             /* which of them was said */
    const char *file;             /* --file, or NULL */
    const char *reason;           /* --reason, or NULL */
    uint64_t limit;               /* --limit; UINT64_MAX: none */
    uint64_t older_than_ms;       /* --older-than; 0: any age */
    const char *destination;      /* as said, or NULL */
    char directory[NAME_MAX + 1]; /* … and where it lies */

    struct config *config; /* owns; NULL if it was not needed */
    const char *state_dir;
    int state_fd; /* -1: not open */
    int64_t now_ms;
    struct buf line;
    struct buf shown[QUEUE_SHOWN]; /* a ring */
    unsigned shown_count;
};

/* --- queue_say --- */

/* A name, escaped; good for the next QUEUE_SHOWN of them. */
const char *queue_show_name(struct queue_command *c, const char *name);

/* A sentence on standard error; the exit status. */
__attribute__((format(printf, 1, 2))) int queue_failed(const char *format, ...);

/* RFC 3339, in UTC; "-" if it is no time. */
void queue_format_time(int64_t wall_ms, char to[QUEUE_TIME_SIZE]);

/* A line of JSON: the member after those that are there, or the first.  Errors: as buf. */
int queue_json_text(struct buf *b, const char *name, struct slice text);
int queue_json_number(struct buf *b, const char *name, uint64_t n);
int queue_json_time(struct buf *b, const char *name, int64_t wall_ms); /* null: it is no time */
int queue_json_begin(struct queue_command *c);
int queue_json_end(struct queue_command *c); /* and writes it: -EIO */

/* Writes an item of `show`.  Errors: as buf; -EIO. */
int queue_say_item(struct queue_command *c, enum queue_kind kind, const char *directory,
                   const struct queue_item *item);

/* All was written, or it is said.  The exit status. */
int queue_end_output(int r, int status);

/* --- queue_command --- */

/* Whether the options mean this record. */
bool queue_means(const struct queue_command *c, const struct queue_item *item);

/* Calls `run` for each destination of each kind that the options mean, with what is there.  Says
 * what cannot be opened.  The exit status, the worst of all. */
int queue_each(struct queue_command *c, bool mark,
               int (*run)(struct queue_command *c, enum queue_kind kind, const char *directory,
                          struct queue_store *s, void *user),
               void *user);

/* --- queue_change --- */

struct queue_sum {
    uint64_t count, bytes; /* of records, and in them */
    uint64_t total;        /* of those that are not done, meant or not */
    int64_t oldest_ms, newest_ms;
};

void queue_add_to_sum(struct queue_sum *sum, const struct queue_item *i);

/* Says how much is meant, and what becomes of it.  Errors: as buf; -EIO. */
int queue_say_sum(struct queue_command *c, enum queue_kind kind, const char *directory,
                  const struct queue_sum *sum, const char *what);

/* "dead letters", "spool". */
const char *queue_kind_name(enum queue_kind kind);

/* Runs as the state directory's owner.  The exit status. */
int queue_as_owner(struct queue_command *c, int (*run)(struct queue_command *c));

/* Sends off what is all done, as far as can be beside an agent, if there is one. */
int queue_tidy(struct queue_command *c, struct queue_store *s);

/* --- the subcommands: the exit status --- */

int queue_list(struct queue_command *c);
int queue_show(struct queue_command *c);
int queue_verify(struct queue_command *c);
int queue_drop(struct queue_command *c);
int queue_retry(struct queue_command *c);

#endif
