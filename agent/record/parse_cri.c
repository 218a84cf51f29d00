/* What a container printed, as the kubelet and its runtimes keep it: "time stream tag text".  Tags
 * are separated by colons; the first is P for a part of a line, F for its end. */
#include "record/parse_inner.h"

static bool is_tag(struct slice s)
{
    return (parse_begins(s, 'P') || parse_begins(s, 'F')) && (s.len == 1 || s.ptr[1] == ':');
}

/* 2016-10-06T00:17:09.669794202Z, with any zone: looked at no closer than to tell it from text. */
static bool is_time(struct slice s)
{
    return parse_digits(s) == 4 && s.len >= 20 && s.ptr[4] == '-' && s.ptr[10] == 'T' &&
           s.ptr[13] == ':';
}

int parse_cri(const struct parse_settings *s, struct slice event, struct fields *to,
              const char **ret_why)
{
    struct slice rest = event, time, stream, tag;
    struct field *f;
    int r;

    (void)s;
    if (!parse_word(&rest, &time) || !is_time(time))
        return parse_mismatch(ret_why, "does not begin with a container's date");
    (void)parse_word(&rest, &stream);
    if (!slice_equal(stream, SLICE("stdout")) && !slice_equal(stream, SLICE("stderr")))
        return parse_mismatch(ret_why, "has neither stdout nor stderr behind its date");
    if (!parse_word(&rest, &tag) || !is_tag(tag))
        return parse_mismatch(ret_why, "has neither P nor F behind its stream");
    r = fields_extend(to, 4, &f);
    if (r < 0)
        return r;
    f[0] = parse_text(SLICE("time"), time);
    f[1] = parse_text(SLICE("stream"), stream);
    f[2] = parse_text(SLICE("tag"), tag);
    f[3] = parse_text(SLICE("message"), rest);
    return 1;
}
