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
    [PARSE_NONE] = parse_none,
    [PARSE_REGEX] = parse_regex,
    [PARSE_COMBINED] = parse_combined,
    [PARSE_COMMON] = parse_common,
    [PARSE_APACHE_ERROR] = parse_apache_error,
    [PARSE_SYSLOG] = parse_syslog,
    [PARSE_RFC3164] = parse_rfc3164,
    [PARSE_RFC5424] = parse_rfc5424,
    [PARSE_RFC3339_SYSLOG] = parse_rfc3339_syslog,
    [PARSE_JSON] = parse_json,
    [PARSE_CSV] = parse_csv,
    [PARSE_LOGFMT] = parse_logfmt,
    [PARSE_CRI] = parse_cri,
};

int parse_event(enum parse_format format, const struct parse_settings *s, struct slice event,
                struct fields *to, const char **ret_why)
{
    assert((unsigned)format < PARSE_FORMATS && parsers[format] != NULL);
    if (slice_ends_with(event, SLICE("\r")))
        event.len--;
    return parsers[format](s, event, to, ret_why);
}
