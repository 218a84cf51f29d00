/* Syslog as it is found in files: RFC 3164, which only describes what was there, and what has been
 * written since; RFC 5424; and rsyslog's own, which is the first with the dates of the second. */
#include "record/parse_inner.h"

#include "json.h"

enum {
    PRIORITY_MAX = 191,  /* RFC 5424, section 6.2.1: 23 facilities of 8 severities */
    PRIORITY_DIGITS = 3, /* same page */
    VERSION_DIGITS = 3,  /* same page */
    TAG_BLANKS_MAX =
        64,           /* bytes in which the [pid] of a program with blanks in its name is sought */
    PARAMS_MAX = 256, /* of all structured data: each is compared with those before it */
};

static const char no_priority[] = "does not begin with a priority of 0 to 191 between < and >";

/* -- dates ------------------------------------------------------------------------------------ */

/* Does `s` look like `shape`, in which 0 is a digit and everything else itself? */
static bool has_shape(struct slice s, const char *shape)
{
    size_t n = strlen(shape);

    if (s.len < n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (shape[i] == '0' ? !parse_is_digit(s.ptr[i]) : s.ptr[i] != shape[i])
            return false;
    return true;
}

/* The length of ".123" or ",123", or 0. */
static size_t fraction_len(struct slice s)
{
    size_t n = parse_begins(s, '.') || parse_begins(s, ',') ? parse_digits(slice_from(s, 1)) : 0;

    return n > 0 ? n + 1 : 0;
}

/* The length of "Z", "+01:00", "+0100" or "+01", or 0. */
static size_t zone_len(struct slice s)
{
    if (parse_begins(s, 'Z') || parse_begins(s, 'z'))
        return 1;
    if (!parse_begins(s, '+') && !parse_begins(s, '-'))
        return 0;
    s = slice_from(s, 1);
    return has_shape(s, "00:00") ? 6 : has_shape(s, "0000") ? 5 : has_shape(s, "00") ? 3 : 0;
}

/* The length of "2003-10-11T22:14:15.003Z", where the T may be a blank and the zone may be missing,
 * or 0. */
static size_t rfc3339_len(struct slice s)
{
    size_t n = 19;

    if (!has_shape(s, "0000-00-00") || s.len < n ||
        (s.ptr[10] != 'T' && s.ptr[10] != 't' && s.ptr[10] != ' ') ||
        !has_shape(slice_from(s, 11), "00:00:00"))
        return 0;
    n += fraction_len(slice_from(s, n));
    return n + zone_len(slice_from(s, n));
}

static bool is_month(struct slice s)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    if (s.len < 3)
        return false;
    for (size_t i = 0; months[i] != '\0'; i += 3)
        if (memcmp(months + i, s.ptr, 3) == 0)
            return true;
    return false;
}

/* A year and a blank: the 20th or the 21st century, so that it is no number of something else. */
static bool is_year(struct slice s)
{
    return has_shape(s, "0000 ") &&
           (slice_starts_with(s, SLICE("19")) || slice_starts_with(s, SLICE("20")));
}

/* The length of "UTC:", "CEST:" and the like without the colon, or 0: not of "CRON:". */
static size_t zone_name_len(struct slice s)
{
    size_t n = 0;

    while (n < s.len && s.ptr[n] >= 'A' && s.ptr[n] <= 'Z')
        n++;
    if (n < 3 || n > 4 || n == s.len || s.ptr[n] != ':')
        return 0;
    return slice_starts_with(s, SLICE("UTC:")) ||
                   (s.ptr[n - 1] == 'T' && strchr("DEMS", s.ptr[n - 2]) != NULL)
               ? n
               : 0;
}

/* The length of "Oct 11 22:14:15", or 0.  There may be a year, before the month, before the time or
 * behind it; a fraction of a second; and before a colon, as Cisco's devices write, a zone. */
static size_t bsd_len(struct slice s)
{
    size_t n = is_year(s) ? 5 : 0;

    if (!is_month(slice_from(s, n)))
        return 0;
    n += 3;
    if (has_shape(slice_from(s, n), " 00 ") || has_shape(slice_from(s, n), "  0 "))
        n += 4;
    else if (has_shape(slice_from(s, n), " 0 "))
        n += 3;
    else
        return 0;
    if (is_year(slice_from(s, n)))
        n += 5;
    if (!has_shape(slice_from(s, n), "00:00:00"))
        return 0;
    n += 8;
    n += fraction_len(slice_from(s, n));
    if (n < s.len && is_year(slice_from(s, n + 1)) && s.ptr[n] == ' ')
        n += 5;
    if (parse_begins(slice_from(s, n), ' ')) {
        size_t zone = zone_name_len(slice_from(s, n + 1));

        n += zone > 0 ? zone + 1 : 0;
    }
    return n;
}

/* -- priorities ------------------------------------------------------------------------------- */

/* A number without the zeros before it, which JSON does not know. */
static struct slice without_zeros(struct slice digits)
{
    while (digits.len > 1 && digits.ptr[0] == '0')
        digits = slice_from(digits, 1);
    return digits;
}

/* Takes "<34>".  False if there is something else. */
static bool take_priority(struct slice *rest, struct slice *ret)
{
    struct slice s;
    size_t n;
    int value = 0;

    if (!parse_begins(*rest, '<'))
        return false;
    s = slice_from(*rest, 1);
    n = parse_digits(s);
    if (n == 0 || n > PRIORITY_DIGITS || n == s.len || s.ptr[n] != '>')
        return false;
    for (size_t i = 0; i < n; i++)
        value = 10 * value + (s.ptr[i] - '0');
    if (value > PRIORITY_MAX)
        return false;
    *ret = without_zeros(slice_first(s, n));
    *rest = slice_from(s, n + 1);
    return true;
}

/* -- RFC 3164 --------------------------------------------------------------------------------- */

struct tag {
    struct slice program, processid; /* NULL: there is none */
};

/* Splits "program[pid]"; what is in brackets must be something, unless it may be nothing. */
static bool split_pid(struct slice s, struct tag *ret)
{
    const char *open = s.len > 2 ? memrchr(s.ptr, '[', s.len) : NULL;

    if (!slice_ends_with(s, SLICE("]")) || open == NULL || open == s.ptr)
        return false;
    ret->program = slice_first(s, (size_t)(open - s.ptr));
    ret->processid = slice_from(slice_first(s, s.len - 1), ret->program.len + 1);
    if (ret->processid.len == 0)
        ret->processid.ptr = NULL;
    return true;
}

/* The length of "program[12]" in `s`, where "]" comes with `end` behind it; 0 if it is not there. */
static size_t find_pid(struct slice s, struct slice end)
{
    size_t open = parse_find(s, '['), digits;

    if (open == 0 || open == s.len || s.ptr[open - 1] == ' ')
        return 0;
    digits = parse_digits(slice_from(s, open + 1));
    return digits > 0 && slice_starts_with(slice_from(s, open + 1 + digits), end)
               ? open + digits + 2
               : 0;
}

/* Takes the program and its process from the beginning of a message, with the colon and the blank
 * behind them.  False, and nothing is taken: the message has none, as "last message repeated 2 times"
 * or "-- MARK --". */
static bool take_tag(struct slice *rest, struct tag *ret)
{
    struct slice word = slice_first(*rest, parse_find(*rest, ' ')), start;
    size_t n;

    *ret = (struct tag){0};
    if (word.len > 1 && slice_ends_with(word, SLICE(":"))) {
        /* "kernel:", "sshd(pam_unix)[123]:", "postfix/smtpd[77]:", "%ASA-6-305011:" */
        n = word.len;
        word.len--;
        if (!split_pid(word, ret))
            ret->program = word;
    } else if (find_pid(word, SLICE("]:")) > 0) { /* "su[1]:text" */
        n = find_pid(word, SLICE("]:")) + 1;
        (void)split_pid(slice_first(word, n - 1), ret);
    } else if (find_pid(word, SLICE("]")) == word.len && word.len > 0) { /* "launchd[1] text" */
        n = word.len;
        (void)split_pid(word, ret);
    } else {
        /* "Google Chrome[12]: text"; a colon before that ends a sentence, not a name */
        start = slice_first(*rest, TAG_BLANKS_MAX);
        n = find_pid(start, SLICE("]:"));
        if (n == 0 || parse_find(start, ':') < n)
            return false;
        (void)split_pid(slice_first(start, n++), ret);
    }
    *rest = slice_from(*rest, n);
    if (parse_begins(*rest, ' '))
        *rest = slice_from(*rest, 1);
    return true;
}

/* Is what follows the date no host, but already the program?  Then it was written by the host itself,
 * into its own socket.  2001:db8:: is a host. */
static bool is_tag(struct slice word)
{
    if (!slice_ends_with(word, SLICE(":")))
        return false;
    return word.len > 1 && (word.ptr[word.len - 2] == ']' || parse_find(word, ':') == word.len - 1);
}

static struct field text_or_null(struct slice name, struct slice value)
{
    return value.ptr == NULL ? parse_null(name) : parse_text(name, value);
}

/* From the date on, which is `date_len` long. */
static int parse_bsd(struct slice rest, size_t date_len, const struct slice *priority,
                     struct fields *to, const char **ret_why)
{
    struct slice date = slice_first(rest, date_len), host = {NULL, 0}, word;
    struct field *f;
    struct tag tag;
    int r;

    rest = slice_from(rest, date_len);
    if (slice_starts_with(rest,
                          SLICE(": "))) { /* "22:14:15: %ASA-6-305011:": the device is alone */
        rest = slice_from(rest, 2);
    } else {
        if (rest.len > 0 && rest.ptr[0] != ' ')
            return parse_mismatch(ret_why, "has no blank behind its date");
        rest = slice_from(rest, rest.len > 0 ? 1 : 0);
        word = slice_first(rest, parse_find(rest, ' '));
        if (word.len == 0)
            return parse_mismatch(ret_why, "has no host behind its date");
        if (!is_tag(word))
            (void)parse_word(&rest, &host);
    }
    if (slice_starts_with(rest, SLICE(": "))) /* "asa : %ASA-6-305011:" */
        rest = slice_from(rest, 2);
    (void)take_tag(&rest, &tag);

    r = fields_extend(to, priority != NULL ? 6 : 5, &f);
    if (r < 0)
        return r;
    if (priority != NULL)
        *f++ = (struct field){SLICE("priority"), *priority, FIELD_NUMBER};
    *f++ = parse_text(SLICE("timestamp"), date);
    *f++ = text_or_null(SLICE("hostname"), host);
    *f++ = text_or_null(SLICE("program"), tag.program);
    *f++ = text_or_null(SLICE("processid"), tag.processid);
    *f = parse_text(SLICE("message"), rest);
    return 1;
}

/* `bsd`: the date may be RFC 3164's too. */
static int parse_dated(struct slice event, bool bsd, struct fields *to, const char **ret_why)
{
    struct slice priority, rest = event;
    bool has_priority = take_priority(&rest, &priority);
    size_t n;

    if (!has_priority && parse_begins(event, '<'))
        return parse_mismatch(ret_why, no_priority);
    n = rfc3339_len(rest);
    if (n == 0 && bsd)
        n = bsd_len(rest);
    if (n == 0)
        return parse_mismatch(ret_why, bsd ? "does not begin with a date of syslog"
                                           : "does not begin with a date of RFC 3339");
    return parse_bsd(rest, n, has_priority ? &priority : NULL, to, ret_why);
}

int parse_rfc3164(const struct parse_settings *s, struct slice event, struct fields *to,
                  const char **ret_why)
{
    (void)s;
    return parse_dated(event, true, to, ret_why);
}

int parse_rfc3339_syslog(const struct parse_settings *s, struct slice event, struct fields *to,
                         const char **ret_why)
{
    (void)s;
    return parse_dated(event, false, to, ret_why);
}

/* -- RFC 5424 --------------------------------------------------------------------------------- */

/* A name and value of structured data; `id` is the element they stand in.  An element that has none
 * is one with a name of NULL. */
struct param {
    struct slice id, name, value;
    bool done; /* written with an earlier one of the same name */
};

struct structured {
    struct param params[PARAMS_MAX];
    size_t count;
};

/* Takes a name: up to one of the bytes that may not stand in it. */
static bool take_name(struct slice *rest, struct slice *ret)
{
    size_t n = 0;

    while (n < rest->len && (uint8_t)rest->ptr[n] > ' ' && rest->ptr[n] != '=' &&
           rest->ptr[n] != ']' && rest->ptr[n] != '"')
        n++;
    *ret = slice_first(*rest, n);
    *rest = slice_from(*rest, n);
    return n > 0;
}

/* Takes a value and both its quotes; what is escaped in it is one of " \ ], and anything else keeps
 * its backslash. */
static int take_param_value(struct slice *rest, struct fields *to, struct slice *ret)
{
    struct slice s = slice_from(*rest, 1);
    char *room, *put;
    size_t n = parse_find_close(s);
    int r;

    if (n >= s.len)
        return 0;
    *ret = slice_first(s, n);
    *rest = slice_from(s, n + 1);
    if (parse_find(*ret, '\\') == n)
        return 1;
    r = parse_room(to, n, &room);
    if (r < 0)
        return r;
    put = room;
    for (size_t i = 0; i < n; i++) {
        if (s.ptr[i] == '\\' && i + 1 < n &&
            (s.ptr[i + 1] == '"' || s.ptr[i + 1] == '\\' || s.ptr[i + 1] == ']'))
            i++;
        *put++ = s.ptr[i];
    }
    *ret = parse_room_used(to, room, n, put);
    return 1;
}

static bool has_element(const struct structured *d, struct slice id)
{
    for (size_t i = 0; i < d->count; i++)
        if (slice_equal(d->params[i].id, id))
            return true;
    return false;
}

/* Takes one element: [id name="value" ...].  1, 0, or -errno. */
static int take_element(struct slice *rest, struct fields *to, struct structured *d,
                        const char **ret_why)
{
    static const char broken[] = "has structured data that is not of RFC 5424";
    struct param p = {0};
    int r;

    *rest = slice_from(*rest, 1);
    if (!take_name(rest, &p.id))
        return parse_mismatch(ret_why, broken);
    if (has_element(d, p.id))
        return parse_mismatch(ret_why, "has two elements of structured data with one name");
    do {
        bool more = parse_begins(*rest, ' ');

        while (parse_begins(*rest, ' '))
            *rest = slice_from(*rest, 1);
        p.name = (struct slice){NULL, 0};
        if (!parse_begins(*rest, ']')) {
            if (!more || !take_name(rest, &p.name) || !slice_starts_with(*rest, SLICE("=\"")))
                return parse_mismatch(ret_why, broken);
            *rest = slice_from(*rest, 1);
            r = take_param_value(rest, to, &p.value);
            if (r <= 0)
                return r < 0 ? r : parse_mismatch(ret_why, broken);
        } else if (has_element(d, p.id)) {
            break;
        }
        if (d->count == PARAMS_MAX)
            return parse_mismatch(ret_why, "has more than 256 parameters of structured data");
        d->params[d->count++] = p;
    } while (!parse_begins(*rest, ']'));
    *rest = slice_from(*rest, 1);
    return 1;
}

/* Writes the value of a parameter, or the array of all that have its name in this element. */
static char *put_param(char *to, struct structured *d, size_t at)
{
    const struct param *p = &d->params[at];
    size_t last = at;

    for (size_t i = at + 1; i < d->count && slice_equal(d->params[i].id, p->id); i++)
        if (slice_equal(d->params[i].name, p->name))
            last = i;
    if (last == at)
        return json_put_string(to, p->value);
    *to++ = '[';
    for (size_t i = at; i <= last; i++) {
        if (!slice_equal(d->params[i].name, p->name))
            continue;
        if (i > at)
            *to++ = ',';
        to = json_put_string(to, d->params[i].value);
        d->params[i].done = true;
    }
    *to++ = ']';
    return to;
}

/* Everything as an object of objects. */
static char *put_structured(char *to, struct structured *d)
{
    for (size_t i = 0; i < d->count; i++) {
        const struct param *p = &d->params[i];
        bool new = i == 0 || !slice_equal(p->id, p[-1].id);

        if (new) {
            *to++ = i == 0 ? '{' : ',';
            to = json_put_string(to, p->id);
            *to++ = ':';
            *to++ = '{';
        }
        if (p->name.ptr != NULL && !p->done) {
            if (!new)
                *to++ = ',';
            to = json_put_string(to, p->name);
            *to++ = ':';
            to = put_param(to, d, i);
        }
        if (i + 1 == d->count || !slice_equal(p->id, p[1].id))
            *to++ = '}';
    }
    *to++ = '}';
    return to;
}

/* How long put_structured makes it, at most: if everything must be escaped, or as it is. */
static size_t structured_size(const struct structured *d, bool as_it_is)
{
    size_t size = 2;

    for (size_t i = 0; i < d->count; i++) {
        const struct param *p = &d->params[i];

        if (as_it_is)
            size +=
                json_string_size(p->id) + json_string_size(p->name) + json_string_size(p->value);
        else
            size += json_string_size_max(p->id.len + p->name.len + p->value.len) + 4; /* quotes */
        size += 8; /* {}:,[], and one more of each where there is one more */
    }
    return size;
}

/* Takes the elements or "-". */
static int take_structured(struct slice *rest, struct fields *to, struct field *ret,
                           const char **ret_why)
{
    struct structured d; /* not set to zero: it is large, and `count` says what is there */
    size_t size;
    char *room;
    int r;

    d.count = 0;
    *ret = parse_null(SLICE("structured_data"));
    if (parse_begins(*rest, '-')) {
        ret->value = slice_first(*rest, 1);
        *rest = slice_from(*rest, 1);
        return 1;
    }
    if (!parse_begins(*rest, '['))
        return parse_mismatch(ret_why, "has no structured data behind its message id");
    while (parse_begins(*rest, '[')) {
        r = take_element(rest, to, &d, ret_why);
        if (r <= 0)
            return r;
    }
    size = structured_size(&d, false);
    if (size > to->arena.max - to->arena.taken) /* the worst hardly ever comes true */
        size = structured_size(&d, true);
    r = parse_room(to, size, &room);
    if (r < 0)
        return r;
    ret->value = parse_room_used(to, room, size, put_structured(room, &d));
    ret->type = FIELD_JSON;
    return 1;
}

int parse_rfc5424(const struct parse_settings *s, struct slice event, struct fields *to,
                  const char **ret_why)
{
    static const struct slice names[] = {
        {"timestamp", 9}, {"hostname", 8}, {"program", 7}, {"processid", 9}, {"msgid", 5},
    };
    enum { WORDS = sizeof names / sizeof names[0] };
    struct slice rest = event, priority, version, words[WORDS];
    struct field structured, *f;
    int r;

    (void)s;
    if (!take_priority(&rest, &priority))
        return parse_mismatch(ret_why, no_priority);
    if (!parse_word(&rest, &version) || parse_digits(version) != version.len ||
        version.len > VERSION_DIGITS || version.ptr[0] == '0')
        return parse_mismatch(ret_why, "has no version behind its priority");
    for (size_t i = 0; i < WORDS; i++)
        if (!parse_word(&rest, &words[i]))
            return parse_mismatch(ret_why, "has not all of date, host, program, process and "
                                           "message id");
    if (!parse_is_dash(words[0]) && rfc3339_len(words[0]) != words[0].len)
        return parse_mismatch(ret_why, "has no date of RFC 3339 behind its version");
    r = take_structured(&rest, to, &structured, ret_why);
    if (r <= 0)
        return r;
    if (rest.len > 0 && rest.ptr[0] != ' ')
        return parse_mismatch(ret_why, "has no blank behind its structured data");

    r = fields_extend(to, WORDS + 4, &f);
    if (r < 0)
        return r;
    *f++ = (struct field){SLICE("priority"), priority, FIELD_NUMBER};
    *f++ = (struct field){SLICE("version"), version, FIELD_NUMBER};
    for (size_t i = 0; i < WORDS; i++)
        *f++ = parse_text_or_dash(names[i], words[i]);
    *f++ = structured;
    if (rest.len == 0) {
        *f = parse_null(SLICE("message"));
        return 1;
    }
    rest = slice_from(rest, 1);
    if (slice_starts_with(rest, SLICE("\xef\xbb\xbf"))) /* a byte order mark says: UTF-8 */
        rest = slice_from(rest, 3);
    *f = parse_text(SLICE("message"), rest);
    return 1;
}

int parse_syslog(const struct parse_settings *s, struct slice event, struct fields *to,
                 const char **ret_why)
{
    struct slice priority, rest = event;
    size_t n;

    /* A version, or a year or a date, which have four digits. */
    if (take_priority(&rest, &priority)) {
        n = parse_digits(rest);
        if (n > 0 && n <= VERSION_DIGITS && n < rest.len && rest.ptr[n] == ' ')
            return parse_rfc5424(s, event, to, ret_why);
    }
    return parse_rfc3164(s, event, to, ret_why);
}
