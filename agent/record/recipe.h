/* recipe -- what becomes of an event: filtered, redacted, taken apart, shaped, written out.
 *
 *     text ─ include? drop? ─▶ redact ─▶ parse ─▶ types, time ─▶ rename, remove, keep ─▶ add ─▶ JSON
 *                                          │ does not match                                    │
 *                                          └──── raw, dropped, tagged or dead ────▶ record ◀───┘
 *
 * or, in place of all but the filters, a chain of conversions as the Java agent makes them.
 *
 *   1. The filters see the event as it stands in the file; everything after sees it redacted.  If a
 *      redaction gives up at a limit, the event is not sent as it is but becomes a dead letter.
 *   2. A filter that gives up does not filter, nor do those after it: the event goes on.
 *   3. Nothing is cut here and nothing is lost: every event gets a verdict, and one that is not SEND
 *      has a reason.
 *   4. With `newline`, every record ends in one newline; without, in none that the event's end is.
 *
 * Thinks: no I/O.  A warm one allocates nothing. */
#ifndef RECIPE_H
#define RECIPE_H

#include "record/parse.h"
#include "record/template.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fields;
struct java_chain;
struct java_context;
struct pattern;
struct recipe;
struct replacement;
struct scratch;
struct when_format;
struct zone;

enum recipe_mismatch {
    RECIPE_MISMATCH_RAW,
    RECIPE_MISMATCH_DROP,
    RECIPE_MISMATCH_TAG,
    RECIPE_MISMATCH_DEAD
};

enum recipe_type { RECIPE_TEXT, RECIPE_INTEGER, RECIPE_NUMBER, RECIPE_BOOLEAN, RECIPE_NULL };

enum recipe_time { RECIPE_TIME_RFC3339, RECIPE_TIME_EPOCH, RECIPE_TIME_EPOCH_MS };

struct recipe_redact {
    struct pattern *pattern;
    struct replacement *with;
};

struct recipe_typed {
    struct slice name;
    enum recipe_type type;
};

struct recipe_rename {
    struct slice from, to;
};

struct recipe_addition {
    struct slice name;
    struct template *text; /* or NULL: then `literal` is a JSON number, true or false */
    struct slice literal;
};

/* Everything is borrowed until recipe_free. */
struct recipe_settings {
    struct pattern *const *include, *const *drop;
    size_t include_count, drop_count;
    const struct recipe_redact *redact;
    size_t redact_count;

    enum parse_format format;
    struct parse_settings parse;
    enum recipe_mismatch on_mismatch;
    const struct recipe_typed *types;
    size_t type_count;
    struct {
        struct slice field; /* empty: no time is looked for */
        const struct when_format *format;
        enum recipe_time output;
    } time;
    const struct recipe_rename *rename;
    size_t rename_count;
    const struct slice *keep, *remove;
    size_t keep_count, remove_count;
    const struct recipe_addition *add;
    size_t add_count;

    struct java_chain *convert; /* or NULL */
    bool json;                  /* write fields; else the event's text, for cri the message's */
    bool newline;
    size_t
        record_max; /* bytes of a record; what it is made of may be more, before it is cut or split */
    struct scratch *scratch; /* lent to it, with its ceilings; NULL: it has its own */
};

/* An event, and where it is from. */
struct recipe_event {
    struct slice text; /* without its last newline … */
    bool has_newline;  /* … which stands behind it in memory */
    bool keep_newline; /* it had one at all */
    struct template_place place;
    struct parse_names header; /* of the file, for csv without names */
    const struct java_context *java;
};

enum recipe_verdict {
    RECIPE_SEND,
    RECIPE_DROP,
    RECIPE_DEAD, /* `record` is what is kept of it */
};

/* Why an event was dropped, for counters; RECIPE_NOT_DROPPED for the others. */
enum recipe_drop {
    RECIPE_NOT_DROPPED,
    RECIPE_NOT_INCLUDED,
    RECIPE_DROPPED,
    RECIPE_MISMATCHED,
    RECIPE_CONVERTED, /* a conversion gave nothing */
    RECIPE_DROPS,
};

/* What its records_dropped_total is labelled with. */
const char *recipe_drop_name(enum recipe_drop d);

struct recipe_result {
    enum recipe_verdict verdict;
    enum recipe_drop drop;
    struct slice record;         /* in the event or in the recipe, until the next call */
    struct slice text;           /* the event redacted, without its newline: what keys look at */
    const struct fields *fields; /* NULL: the event was not parsed, or does not match */
    const char *mismatch;        /* rest of a sentence: why it does not match; or NULL */
    const char *reason;          /* rest of a sentence: why it is not sent; or NULL */
    bool time_mismatch;          /* the time's field could not be read, and is as it was */
    bool gave_up;                /* a pattern gave up at a limit */
    bool json;                   /* the record is what fields_append_json made */
};

/* Errors: -ENOMEM. */
int recipe_new(const struct recipe_settings *s, struct recipe **ret);
void recipe_free(struct recipe *r);

/* Errors: -ENOMEM: for a moment; nothing has happened. */
int recipe_make(struct recipe *r, const struct recipe_event *e, struct recipe_result *ret);

/* Whether a record that is not sent for this reason holds what was to be hidden: redaction has given
 * it up, and it must never be sent as it is. */
bool recipe_reason_is_unredacted(struct slice reason);

/* Whether it redacts or converts: then it must see a line whole. */
bool recipe_rewrites(const struct recipe *r);

/* Makes the JSON record of the last event again, `excess` bytes shorter, by cutting its longest text,
 * which then ends in `suffix`; if that one is not so long, it is nothing but the suffix, and the next
 * call cuts another one.  -EMSGSIZE if there is no text to cut. */
int recipe_shorten(struct recipe *r, size_t excess, struct slice suffix, struct slice *ret);

#endif
