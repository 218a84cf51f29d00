/* parse_lines -- what the parsers make of events, for tests in other languages.
 *
 *     parse_lines FORMAT [NAMES [DELIMITER]]
 *
 * Reads events from standard input, each after its length as four bytes (little-endian), and writes
 * a line for each: "1 " and the JSON of its fields, "0 " and why it does not match, or a negative
 * errno and a space.  NAMES: of csv's columns, separated by commas. */
#include <endian.h>
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "record/fields.h"
#include "record/parse.h"
#include "util.h"

enum { EVENT_MAX = 1 << 24, ARENA_MAX = 1 << 26, JSON_MAX = 1 << 28, NAMES_MAX = 64 };

static const char *const formats[PARSE_FORMATS] = {
    "none",    "regex",          "combined", "common", "apache_error", "syslog", "rfc3164",
    "rfc5424", "rfc3339_syslog", "json",     "csv",    "logfmt",       "cri",
};

static enum parse_format format_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (strcmp(formats[i], name) == 0)
            return (enum parse_format)i;
    errx(2, "no format '%s'", name);
}

static struct parse_names names_of(const char *text, struct slice room[NAMES_MAX])
{
    struct parse_names names = {room, 0};

    for (const char *p = text; *p != '\0' && names.count < NAMES_MAX; names.count++) {
        size_t len = strcspn(p, ",");

        room[names.count] = (struct slice){p, len};
        p += p[len] == ',' ? len + 1 : len;
    }
    return names;
}

int main(int argc, char **argv)
{
    static char event[EVENT_MAX];
    struct parse_settings settings = {0};
    struct slice names[NAMES_MAX];
    enum parse_format format;
    struct fields fields;
    struct buf json;
    uint32_t len;

    if (argc < 2)
        errx(2, "usage: parse_lines FORMAT [NAMES [DELIMITER]]");
    format = format_of(argv[1]);
    if (argc > 2)
        settings.names = names_of(argv[2], names);
    if (argc > 3)
        settings.delimiter = argv[3][0];
    fields_init(&fields, ARENA_MAX);
    buf_init(&json, JSON_MAX);
    while (fread(&len, sizeof len, 1, stdin) == 1) {
        const char *why = "";
        int r;

        len = le32toh(len);
        if (len > EVENT_MAX || fread(event, 1, len, stdin) != len)
            errx(1, "an event is cut or too long");
        fields_reset(&fields);
        buf_reset(&json);
        r = parse_event(format, &settings, (struct slice){event, len}, &fields, &why);
        if (r == 1)
            r = fields_append_json(&json, &fields) < 0 ? -EMSGSIZE : 1;
        printf("%d %.*s\n", r, SLICE_ARG(r == 1 ? buf_slice(&json) : slice_of(r == 0 ? why : "")));
    }
    fields_done(&fields);
    buf_done(&json);
    return 0;
}
