/* mill -- lines in, records out: all that is done to a log between reading and sending.
 *
 *     bytes ─ decode ─▶ lines ─ events ─▶ recipe ─▶ too large? ─▶ join ─▶ squeeze ─▶ key ─▶ taken
 *
 * The agent, `explain` and everything else that makes records of a file runs this code.
 *
 *   1. Records come in the order of the file, each with the bytes it is made from.
 *   2. What is not whole yet (an event, a joined record) is not kept here: it is left in the file,
 *      and seen again together with what comes after it, unless the caller says that nothing comes.
 *   3. A record that is not taken for want of room is made again at the next call; what was taken is
 *      not.
 *   4. No record with its key is larger than the service takes: record_max, which may change between
 *      two runs.
 *
 * Thinks: no I/O.  A warm one allocates nothing. */
#ifndef MILL_H
#define MILL_H

#include "encoding.h"
#include "record/events.h"
#include "record/key.h"
#include "record/recipe.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct digest;
struct fields;
struct mill;
struct pattern;
struct random;
struct scratch;
struct squeeze;

enum mill_key {
    MILL_KEY_RANDOM,
    MILL_KEY_HASH,  /* MD5 of the record, as the Java agent's DETERMINISTIC */
    MILL_KEY_CONST, /* the text; also for the host's name */
    MILL_KEY_FILE,
    MILL_KEY_FIELD, /* the text names it; in objects within objects by a path, as in "user.id" */
    MILL_KEY_REGEX, /* the pattern's first group, or all that it matches if it has none */
    MILL_KEY_NONE,  /* the service knows no keys: of length 0, and no JSON string */
};

enum mill_oversize {
    MILL_TRUNCATE, /* cut, and marked with the suffix */
    MILL_SPLIT,    /* into parts: see mill_part in mill.c and README */
    MILL_DEAD,
};

/* What is pointed at is borrowed until mill_free. */
struct mill_settings {
    struct events_rules events;
    struct recipe *recipe; /* or NULL: lines go as they are */
    enum encoding encoding;
    bool keep_mark;          /* a byte order mark is part of the first line */
    uint32_t header_lines;   /* at the beginning of a file, which make no record */
    bool header_names;       /* the last of them names the columns */
    bool newline;            /* records end in a newline */
    size_t record_max;       /* of a record with its key, in bytes */
    struct scratch *scratch; /* lent to it while it runs; NULL: it has its own */
    enum mill_key key;
    struct slice key_text;
    struct pattern *key_pattern;
    size_t join_bytes; /* 0: a record for each event */
    struct squeeze *squeeze;
    enum mill_oversize oversize;
    struct slice suffix;
    uint64_t seed; /* another one on each machine: makes the names of split records unique */
    struct random *random;
    struct digest *digest;
    const uint64_t *meter; /* what all patterns together have cost so far: pattern_meter */
};

/* What is remembered of a source between two calls; all zero at first, and when the source goes to
 * another place. */
struct mill_state {
    uint64_t counted;  /* what becomes of events before this offset was told already … */
    uint32_t told;     /* … and of this many records of the event that begins there */
    uint32_t done;     /* how many records of the event at the source's place are out, or dropped */
    uint64_t done_end; /* … and where it ended then: it stays so, whatever comes after it */
    size_t measure;    /* record_max then, if `done` is not 0: the others are made by it, too */
    uint64_t line_begin;   /* where the long line began that is being sent in parts … */
    uint64_t line_measure; /* … what record_max was then … */
    uint32_t line_parts;   /* … and how many parts of it are out; 0: there is no such line */
};

struct mill_input {
    struct slice text; /* as it stands in the file, from `offset` on: whole lines */
    uint64_t offset;
    size_t behind;     /* bytes of a line without a newline that are there behind it */
    bool last;         /* nothing comes behind `text`: it may end without a newline */
    bool flush;        /* what is open leaves now … */
    bool flush_joined; /* … of records to be joined only */
    bool whole;        /* all of it is one event, empty or not */
    bool hold_large;   /* a record that is too large is not made: record_max may be raised soon */
    bool cut; /* `text` is the beginning of one line, which has its newline before `line_end` */
    uint64_t line_end;
    bool unended; /* … or ends there without one */
    struct slice
        carry; /* UTF-8: the one event that `text` may go on with began in another file so */
    struct slice header; /* the file's beginning, if `offset` is beyond its header: all of that, or
                            more */
    struct template_place place; /* but for its offset */
    const struct java_context *java;
    uint64_t
        work_max; /* after so much work of patterns what is left is left; 0: it does not matter */
};

/* What is to be counted or said, once for each event. */
struct mill_notice {
    uint64_t offset;
    const char *mismatch;
    bool time_mismatch, gave_up, key_missing;
    bool was_cut, in_parts; /* it is too large for a record; and sent whole all the same */
    size_t zeros;           /* of a hole, passed over */
};

/* What became of some bytes. */
struct mill_piece {
    uint64_t offset, end; /* of the bytes */
    enum recipe_verdict verdict;
    enum recipe_drop drop;
    const char *reason;               /* rest of a sentence, if it is not sent; or NULL */
    struct slice plain;               /* the record before it was compressed */
    struct slice record;              /* SEND and DEAD; good until the call returns */
    const struct key *key;            /* SEND */
    uint32_t events;                  /* how many are in it */
    bool with_carry;                  /* the carry is in it */
    bool cut;                         /* it is only the beginning of a line */
    const struct fields *fields;      /* of the event, or NULL */
    const struct mill_notice *notice; /* what there is to say of it; NULL for several events */
};

struct mill_events {
    /* A record that is sent or dead: false if there is no room.  A dropped one is always taken. */
    bool (*take)(void *user, const struct mill_piece *p);
    void (*notice)(void *user, const struct mill_notice *n);
    void *user;
};

enum { MILL_HARD = 10000 }; /* in units of pattern_work: some 0.2 ms, for an event */

enum mill_end {
    MILL_ALL,    /* everything has become something */
    MILL_OPEN,   /* what begins at the end is not whole */
    MILL_HEADER, /* the header lines are not all there */
    MILL_FULL,   /* a record was not taken */
    MILL_HELD,   /* a record is too large, and hold_large */
    MILL_TIRED,  /* patterns have worked for more than work_max */
};

struct mill_report {
    enum mill_end end;
    uint64_t offset;   /* everything before it has become something */
    struct slice open; /* the lines behind it, in UTF-8, with the carry if that was not used */
    uint32_t events;   /* how many are behind us now … */
    uint32_t lines;    /* … and how many lines they were */
    bool carry_used;
    bool event_open, joined_open; /* MILL_OPEN: which of them is; perhaps both */
    uint64_t work;                /* of patterns … */
    uint64_t hard; /* … and what of it went into events that took MILL_HARD or more */
};

/* Errors: -ENOMEM. */
int mill_new(const struct mill_settings *s, struct mill **ret);
void mill_free(struct mill *m);

/* From now on a record with its key has up to so many bytes.  Records of an event some of whose records
 * are out are still made as they were.  Its squeeze must be made for such records. */
void mill_set_record_max(struct mill *m, size_t record_max);

/* How long a line may be that the next run wants to see whole. */
size_t mill_record_max(const struct mill *m, const struct mill_state *state);

/* Errors: -ENOMEM: for a moment; *ret says how far it came. */
int mill_run(struct mill *m, const struct mill_input *in, struct mill_state *state,
             const struct mill_events *events, struct mill_report *ret);

/* Whether lines wait for others: such a mill wants to be asked again when some time is over. */
bool mill_waits(const struct mill *m);

#endif
