#include "record/cri.h"

static bool take_word(struct slice *line, struct slice *ret)
{
    const char *blank = line->len > 0 ? memchr(line->ptr, ' ', line->len) : NULL;

    if (blank == NULL || blank == line->ptr)
        return false;
    *ret = slice_first(*line, (size_t)(blank - line->ptr));
    *line = slice_from(*line, ret->len + 1);
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* As RFC 3339 begins; whether there is such a day is asked elsewhere. */
static bool looks_like_time(struct slice s)
{
    return s.len >= 20 && is_digit(s.ptr[0]) && s.ptr[4] == '-' && s.ptr[7] == '-' &&
           s.ptr[10] == 'T' && s.ptr[13] == ':';
}

bool cri_read(struct slice line, struct cri *ret)
{
    struct cri c;
    struct slice rest = line;

    if (!take_word(&rest, &c.time) || !looks_like_time(c.time) || !take_word(&rest, &c.stream))
        return false;
    if (slice_equal(c.stream, SLICE("stdout")))
        c.which = CRI_STDOUT;
    else if (slice_equal(c.stream, SLICE("stderr")))
        c.which = CRI_STDERR;
    else
        return false;

    /* An empty message may have lost the blank before it. */
    if (!take_word(&rest, &c.tag)) {
        c.tag = rest;
        rest = slice_from(rest, rest.len);
    }
    if (c.tag.len == 0 || (c.tag.len > 1 && c.tag.ptr[1] != ':') ||
        (c.tag.ptr[0] != 'P' && c.tag.ptr[0] != 'F'))
        return false;
    c.is_part = c.tag.ptr[0] == 'P';
    c.message = rest;
    *ret = c;
    return true;
}
