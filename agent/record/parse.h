/* parse -- an event's fields, by one of the formats that logs are written in.
 *
 *   1. What a format accepts it accepts whole: an event either has all its fields, or does not match
 *      and the reason is a sentence.
 *   2. Values lie in the event where they can, and in the fields' arena where they had to be
 *      rewritten (escapes undone, lines joined).
 *   3. An event comes without its last newline; a carriage return before it is not part of a value.
 *   4. Fields come in the order and by the names of the table below, which for the formats of httpd
 *      and syslog are the Java agent's.  Those that a format may lack are null then, unless it says
 *      otherwise.
 *
 *     combined        host ident authuser datetime request response bytes referer agent
 *     common          the first seven of these.  In both, anything may follow behind a space, as
 *                     nginx's $request_time, and is not looked at; "-" is null
 *     apache_error    timestamp module severity processid threadid client message
 *     rfc3164         priority (a number; only if the line has it) timestamp hostname program
 *                     processid message
 *     rfc5424         priority version (numbers) timestamp hostname program processid msgid
 *                     structured_data (an object of objects: {"id":{"name":"value"}}; the values of a
 *                     name that stands there twice are an array) message; "-" is null
 *     rfc3339_syslog  as rfc3164
 *     syslog          as the one of these three that the line begins like
 *     json            the members of the object in their order; of two with one name the last counts,
 *                     at the place of the first
 *     csv             the names of the settings; columns that are missing are null
 *     logfmt          the keys; a key alone is true; of two with one name as in json
 *     cri             time stream tag message
 *     regex           the named groups in the order of their numbers, or the names of the settings; a
 *                     group that did not take part is null
 *
 * Thinks: no I/O.  A warm one no longer allocates. */
#ifndef PARSE_H
#define PARSE_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>

struct fields;
struct pattern;

enum { PARSE_GROUPS_MAX = 255 }; /* of a PARSE_REGEX; more are -EMSGSIZE */

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
 * of a sentence that begins with "the line ", as in "has no closing quote"; `to` may hold anything,
 * also that sentence: it is good until fields_reset.
 * Errors: -EMSGSIZE: it has more fields than FIELDS_MAX or needs more memory than the arena may
 * have; -ETIME: the pattern gave up at a limit; -ENOMEM. */
int parse_event(enum parse_format format, const struct parse_settings *s, struct slice event,
                struct fields *to, const char **ret_why);

/* The columns of a line of CSV, as fields without names: a file's first line names its columns.
 * Errors: -EINVAL: it is no such line; -EMSGSIZE, -ENOMEM as above. */
int parse_csv_columns(struct slice line, char delimiter, struct fields *to);

#endif
