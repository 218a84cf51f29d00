/* pattern -- a regular expression of PCRE2, and how much of our time it may take.
 *
 *   1. Nothing allocates once a pattern is warm (without JIT: once it met its deepest text).
 *   2. No call costs more than about 2 ms of CPU; only a text of more than 30 KB may cost more,
 *      up to 50 ns per byte (JIT: 35), or nobody could match a line of 1 MiB at all.  What would
 *      cost more is given up with -ETIME.  Work is counted, not timed: the same text gets the same
 *      answer on a busy machine and after a restart.  pattern.c says how.
 *   3. With JIT and without, a pattern finds the same; only what is given up may differ.
 *
 * Bytes or characters.  A pattern that can do with ASCII works on bytes: `.` is one byte, and a
 * line with a stray Latin-1 byte still matches `.*`.  It works on characters (UTF-8) if it has a
 * byte above 0x7f, \p, \P, \X, \R, \h, \H, \v, \V, \N{...}, \x{...} or \o{...} above 0xff
 * or (*UTF), or with PATTERN_UTF; then a byte that is no UTF-8 is matched by nothing, not even by
 * `.`, and no match reaches across it (and such texts are matched without JIT, whose way with them
 * is wrong up to PCRE2 10.42).  In both ways \d, \w, \s and \b know ASCII only, unless the pattern
 * begins with (*UCP).
 *
 * What PCRE2 knows and we refuse: \C (half a character), and \G (where the last match ended), which
 * has no meaning for a single match and hardly one for a replacement.
 *
 * Thinks: no I/O, no clock.  Threads: a pattern belongs to one.  Errors: 0 or -errno; foreign codes
 * end here. */
#ifndef PATTERN_H
#define PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

struct buf;
struct pattern;
struct replacement;

/* What is wrong, for a person, and at which byte of the text given. */
struct pattern_error {
    size_t offset;
    char text[160]; /* no full stop at its end */
};

enum {
    PATTERN_CASELESS = 1,
    PATTERN_START = 2, /* a match must begin where the text begins */
    PATTERN_WHOLE = 4, /* a match must be all of the text */
    PATTERN_UTF = 8,   /* characters, even if bytes would do */
    PATTERN_DOTALL = 16,
    PATTERN_MULTILINE = 32,
    PATTERN_NO_JIT = 64, /* for tests */
};

/* Compiles `text`.  Gives *ret.  Errors: -EINVAL (then *ret_error says why), -ENOMEM. */
int pattern_new(struct slice text, unsigned flags, struct pattern **ret,
                struct pattern_error *ret_error);

void pattern_free(struct pattern *p);

/* Whether the processor does the matching; a process may be denied to make machine code (systemd's
 * MemoryDenyWriteExecute, SELinux), and nothing but the speed changes. */
bool pattern_has_jit(const struct pattern *p);

/* Whether it works on characters. */
bool pattern_is_utf(const struct pattern *p);

/* How many capturing groups there are, without group 0, which is the whole match. */
unsigned pattern_group_count(const struct pattern *p);

/* The number of a named group (of several, the first), or -ENOENT. */
int pattern_group_find(const struct pattern *p, struct slice name);

/* The name of group `n`, which the pattern owns, or NULL. */
const char *pattern_group_name(const struct pattern *p, unsigned n);

/* Whether `text` matches: 1, 0, or -ETIME if that was too hard to say.  ret_groups is NULL, or has
 * room for group_count + 1 and gets what each matched, borrowed from `text`; a group that took no
 * part has a `ptr` of NULL, and an empty one has not.  Other errors: -ENOMEM. */
int pattern_match(struct pattern *p, struct slice text, struct slice *ret_groups);

/* One match after the other, in one text; all of them share the limits of one call.
 *
 *     pattern_scan_init(&s, text);
 *     while ((r = pattern_scan_next(&s, p, groups)) == 1) ...
 */
struct pattern_scan {
    struct slice text;
    size_t at;      /* where to look on */
    size_t matches; /* so far */
    uint64_t work;
    bool broken;      /* the text is no UTF-8, and the pattern works on characters */
    bool after_empty; /* the last match was empty, and stood at `at` */
    bool past_empty;  /* like java.util.regex: behind an empty match look on one character further;
                         else, like Perl, for a match at the same place that is not empty */
};

void pattern_scan_init(struct pattern_scan *s, struct slice text);
int pattern_scan_next(struct pattern_scan *s, struct pattern *p, struct slice *ret_groups);

/* Understands a replacement for what `p` matches: $1, ${1}, $name and ${name} are groups (nothing
 * if they took no part), $0 is the whole match, $$ is a dollar, and everything else is itself.
 * Gives *ret, which does not need `p` any longer but fits no other.  Errors: -EINVAL (no such
 * group, bad syntax; *ret_error says), -ENOMEM. */
int replacement_new(const struct pattern *p, struct slice text, struct replacement **ret,
                    struct pattern_error *ret_error);

void replacement_free(struct replacement *r);

/* Appends `text` with all its matches replaced, and returns how many there were; if none, or on
 * error, `to` stays as it was.  `text` must not lie inside `to`.
 * Errors: -ETIME, -EMSGSIZE past the ceiling of `to`, -ENOMEM. */
long pattern_replace(struct pattern *p, struct slice text, const struct replacement *with,
                     struct buf *to);

/* What the last call cost, in units of some 10 ns; 0 if it was cheap enough not to be counted.
 * For tests and benches. */
uint64_t pattern_work(const struct pattern *p);

/* From now on, what its calls cost is added to *meter too, with what was tried before anything was
 * counted; cheap calls add nothing.  Borrowed until pattern_free. */
void pattern_meter(struct pattern *p, uint64_t *meter);

#endif
