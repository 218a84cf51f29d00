#include "record/parse.h"

#include "record/parse_inner.h"

#include <assert.h>

static int parse_none(const struct parse_settings *s, struct slice event, struct fields *to,
                      const char **ret_why)
{
    (void)s;
    (void)event;
    (void)to;
    (void)ret_why;
    return 1;
}

static parse_function *const parsers[PARSE_FORMATS] = {
    [PARSE_NONE] = parse_none,     [PARSE_COMBINED] = parse_combined,
    [PARSE_COMMON] = parse_common, [PARSE_APACHE_ERROR] = parse_apache_error,
    [PARSE_JSON] = parse_json,     [PARSE_CSV] = parse_csv,
};

int parse_event(enum parse_format format, const struct parse_settings *s, struct slice event,
                struct fields *to, const char **ret_why)
{
    assert((unsigned)format < PARSE_FORMATS && parsers[format] != NULL);
    if (slice_ends_with(event, SLICE("\r")))
        event.len--;
    return parsers[format](s, event, to, ret_why);
}
