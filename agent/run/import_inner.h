/* import_inner -- what the pieces of `kinetail import` share: reading a key as the Java agent does,
 * refusing it, and writing ours.  For import*.c only. */
#ifndef IMPORT_INNER_H
#define IMPORT_INNER_H

#include "buf.h"
#include "run/import_json.h"

#include <stdbool.h>
#include <stdint.h>

enum { IMPORT_TEXT_MAX = 16 * 1024 * 1024 };

/* What is being translated, and what has come of it. */
struct import {
    const char *file;    /* of what is being read now */
    size_t flow;         /* counted from 1 in the file; 0: what is above the flows */
    struct slice stream; /* of this flow; empty until it is known */
    const char *prefix;  /* of keys in sentences, as in "dataProcessingOptions[0]." */
    struct buf out;      /* the configuration */
    struct buf wrong;    /* sentences: what is refused */
    struct buf told;     /* sentences: what differs */
    struct buf flows;    /* stream and files of each so far, each with a newline around it */
    size_t wrong_count;
    int lost; /* the first error of memory */
};

/* Adds a sentence, "file: flow 1 (stream): key: ...": what is refused, or what differs. */
__attribute__((format(printf, 3, 4))) void import_refuse(struct import *im, const char *key,
                                                         const char *format, ...);
__attribute__((format(printf, 3, 4))) void import_tell(struct import *im, const char *key,
                                                       const char *format, ...);

/* --- reading: each is true if the key is there, has a value of that kind, and it is in *ret --- */

/* A whole number, also as a text, in the forms of java.lang.Long.decode. */
bool import_number(struct import *im, const struct import_value *in, const char *key, int64_t min,
                   int64_t max, int64_t *ret);

/* A text; a number or truth value is taken for one.  null counts as absent. */
bool import_text(struct import *im, const struct import_value *in, const char *key,
                 struct slice *ret);

/* One of the words, whose list ends with NULL. */
bool import_word(struct import *im, const struct import_value *in, const char *key,
                 const char *const *words, size_t *ret);

/* true, yes, t, y, 1, false, no, f, n, 0 in any case. */
bool import_flag(struct import *im, const struct import_value *in, const char *key, bool *ret);

/* --- writing --- */

/* Appends to im->out; what cannot be written for want of memory is noted in im->lost. */
__attribute__((format(printf, 2, 3))) void import_put(struct import *im, const char *format, ...);

/* A text in quotes.  One with a zero byte, which our configuration cannot hold, is refused by `key`. */
void import_put_text(struct import *im, const char *key, struct slice text);

/* A line of comment: what was there, and a reason. */
void import_put_idle(struct import *im, const char *indent, const char *key,
                     const struct import_value *value, const char *why);

/* The same, of a member under its own name. */
void import_put_member(struct import *im, const char *indent, const struct import_value *member,
                       const char *why);

/* --- the pieces --- */

/* One flow, its braces included. */
void import_flow(struct import *im, const struct import_value *flow);

/* A flow's dataProcessingOptions as `convert`.  Returns whether there is any. */
bool import_convert(struct import *im, const struct import_value *flow);

/* The rest of a flow's line "      name = ", after the stream; no two are alike. */
void import_put_name(struct import *im, struct slice stream);

#endif
