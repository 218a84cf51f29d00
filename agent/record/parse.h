/* parse -- an event's fields, by one of the formats that logs are written in.
 *
 *   1. What a format accepts it accepts whole: an event either has all its fields, or does not match
 *      and the reason is a sentence.
 *   2. Values lie in the event where they can, and in the fields' arena where they had to be
 *      rewritten (escapes undone, lines joined).
 *   3. An event comes without its last newline; a carriage return before it is not part of a value.
 *
 * Thinks: no I/O.  A warm one no longer allocates. */
#ifndef PARSE_H
#define PARSE_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>

struct fields;
struct pattern;

/* In the order of the words in the configuration. */
enum parse_format {
    PARSE_NONE, /* no fields are looked for */
    PARSE_REGEX,
    PARSE_COMBINED, /* httpd's access log, and nginx's */
    PARSE_COMMON,
    PARSE_APACHE_ERROR,
    PARSE_SYSLOG,  /* any of the three below */
    PARSE_RFC3164, /* BSD syslog: "<34>Oct 11 22:14:15 host su[1]: text", with or without <> */
    PARSE_RFC5424, /* "<34>1 2003-10-11T22:14:15.003Z host app 1 ID47 [a b="c"] text" */
    PARSE_RFC3339_SYSLOG, /* "2003-10-11T22:14:15.003Z host su[1]: text": rsyslog's file format */
    PARSE_JSON,
    PARSE_CSV,
    PARSE_LOGFMT,
    PARSE_CRI, /* what containers print, as the kubelet keeps it */
    PARSE_FORMATS,
};

/* Names of columns, borrowed. */
struct parse_names {
    const struct slice *items;
    size_t count;
};

/* What a format needs beside the event; what it does not look at may be zero. */
struct parse_settings {
    struct pattern *pattern; /* PARSE_REGEX; borrowed */
    struct parse_names
        names;      /* PARSE_REGEX: of the groups in order, if they have none of their own;
                                 PARSE_CSV: of the columns */
    char delimiter; /* PARSE_CSV */
};

/* Reads `event` into `to`, which is empty.  1: it matches.  0: it does not, and *ret_why is the rest
 * of a sentence that begins with "the line ", as in "has no closing quote"; `to` may hold anything.
 * Errors: -EMSGSIZE: it has more fields than FIELDS_MAX or needs more memory than the arena may
 * have; -ETIME: the pattern gave up at a limit; -ENOMEM. */
int parse_event(enum parse_format format, const struct parse_settings *s, struct slice event,
                struct fields *to, const char **ret_why);

#endif
