/* The logs of httpd, and of nginx, whose access log looks the same. */
#include "record/parse_inner.h"

#include "util.h"

/* -- escapes ---------------------------------------------------------------------------------- */

/* What httpd's ap_escape_logitem and nginx's default escaping write, undone: \" \\ \xhh, and in
 * quotes the short ones too.  An unquoted user may be DOMAIN\name: no \n there.  What is none of
 * these stands for itself. */
static char *put_undone(char *to, struct slice raw, bool quoted)
{
    static const char shorts[] = "b\bf\fn\nr\rt\tv\v";

    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.ptr[i], next = i + 1 < raw.len ? raw.ptr[i + 1] : '\0';
        const char *at;

        if (c != '\\' || next == '\0') {
            *to++ = c;
        } else if (next == '"' || next == '\\') {
            *to++ = next;
            i++;
        } else if (next == 'x' && i + 3 < raw.len && parse_hex(raw.ptr[i + 2]) >= 0 &&
                   parse_hex(raw.ptr[i + 3]) >= 0) {
            *to++ = (char)(parse_hex(raw.ptr[i + 2]) << 4 | parse_hex(raw.ptr[i + 3]));
            i += 3;
        } else if (quoted && (at = strchr(shorts, next)) != NULL && (at - shorts) % 2 == 0) {
            *to++ = at[1];
            i++;
        } else {
            *to++ = c;
        }
    }
    return to;
}

/* Gives a text field its value without escapes. */
static int undo(struct fields *to, struct slice *value, bool quoted)
{
    char *room;
    int r;

    if (parse_find(*value, '\\') == value->len)
        return 0;
    r = parse_room(to, value->len, &room);
    if (r < 0)
        return r;
    *value = parse_room_used(to, room, value->len, put_undone(room, *value, quoted));
    return 0;
}

/* -- combined and common ---------------------------------------------------------------------- */

enum access {
    HOST,
    IDENT,
    AUTHUSER,
    DATETIME,
    REQUEST,
    RESPONSE,
    BYTES,
    COMMON_FIELDS,
    REFERER = COMMON_FIELDS,
    AGENT,
    COMBINED_FIELDS,
};

static const struct slice access_names[COMBINED_FIELDS] = {
    [HOST] = {"host", 4},         [IDENT] = {"ident", 5},     [AUTHUSER] = {"authuser", 8},
    [DATETIME] = {"datetime", 8}, [REQUEST] = {"request", 7}, [RESPONSE] = {"response", 8},
    [BYTES] = {"bytes", 5},       [REFERER] = {"referer", 7}, [AGENT] = {"agent", 5},
};

/* Takes a text in quotes and the space behind it.  It ends at a quote with a space or nothing behind
 * it: servers that do not escape what a client sends are many. */
static bool take_quoted(struct slice *rest, struct slice *ret)
{
    const char *start = rest->ptr + 1, *end = rest->ptr + rest->len, *p = start;

    if (!parse_begins(*rest, '"'))
        return false;
    for (; p < end && (p = memchr(p, '"', (size_t)(end - p))) != NULL; p++) {
        if ((p + 1 < end && p[1] != ' ') || parse_is_escaped(start, p))
            continue;
        *ret = (struct slice){start, (size_t)(p - start)};
        *rest = slice_from(*rest, MIN(ret->len + 3, rest->len));
        return true;
    }
    return false;
}

/* Takes a word that is a number or "-". */
static bool take_count(struct slice *rest, struct slice *ret)
{
    return parse_word(rest, ret) && (parse_digits(*ret) == ret->len || parse_is_dash(*ret));
}

/* Takes the user and the date in brackets.  The user may hold spaces and brackets; the date ends
 * where the request begins. */
static bool take_user_and_date(struct slice *rest, struct slice *user, struct slice *date)
{
    for (size_t at = 0; at < rest->len; at++) {
        const char *open;
        size_t user_len;

        at += parse_find(slice_from(*rest, at), ']');
        if (!slice_starts_with(slice_from(*rest, at), SLICE("] \"")))
            continue;
        open = memrchr(rest->ptr, '[', at);
        if (open == NULL || open == rest->ptr || open[-1] != ' ')
            return false;
        user_len = (size_t)(open - 1 - rest->ptr);
        *user = slice_first(*rest, user_len);
        *date = (struct slice){open + 1, at - user_len - 2};
        *rest = slice_from(*rest, at + 2);
        return date->len > 0;
    }
    return false;
}

static int parse_access(size_t count, struct slice rest, struct fields *to, const char **ret_why)
{
    struct slice v[COMBINED_FIELDS], more;
    struct field *f;
    bool escapes = parse_find(rest, '\\') < rest.len; /* seldom: asked once for all */
    int r;

    if (!parse_word(&rest, &v[HOST]))
        return parse_mismatch(ret_why, "does not begin with a host");
    /* X-Forwarded-For: "client, proxy, proxy". */
    while (slice_ends_with(v[HOST], SLICE(",")) && parse_word(&rest, &more))
        v[HOST].len = (size_t)(more.ptr + more.len - v[HOST].ptr);
    if (!parse_word(&rest, &v[IDENT]) || !take_user_and_date(&rest, &v[AUTHUSER], &v[DATETIME]))
        return parse_mismatch(ret_why, "has no ident, user and [date] before its request");
    if (slice_starts_with(v[AUTHUSER], SLICE("- ")))
        return parse_mismatch(ret_why, "has more than a host, an ident and a user before its date");
    if (!take_quoted(&rest, &v[REQUEST]))
        return parse_mismatch(ret_why, "has no closing quote behind its request");
    if (!take_count(&rest, &v[RESPONSE]))
        return parse_mismatch(ret_why, "has no status behind its request");
    if (!take_count(&rest, &v[BYTES]))
        return parse_mismatch(ret_why, "has no number of bytes behind its status");
    if (count == COMBINED_FIELDS && !take_quoted(&rest, &v[REFERER]))
        return parse_mismatch(ret_why, "has no referer in quotes");
    if (count == COMBINED_FIELDS && !take_quoted(&rest, &v[AGENT]))
        return parse_mismatch(ret_why, "has no agent in quotes");

    r = fields_extend(to, count, &f);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++)
        f[i] = parse_text_or_dash(access_names[i], v[i]);
    if (slice_equal(v[AUTHUSER], SLICE("\"\""))) /* httpd writes an empty user so */
        f[AUTHUSER].value = SLICE("");
    if (escapes) {
        r = undo(to, &f[AUTHUSER].value, false);
        for (size_t i = REQUEST; i < count && r == 0; i++)
            r = undo(to, &f[i].value, true);
    }
    return r < 0 ? r : 1;
}

int parse_combined(const struct parse_settings *s, struct slice event, struct fields *to,
                   const char **ret_why)
{
    (void)s;
    return parse_access(COMBINED_FIELDS, event, to, ret_why);
}

int parse_common(const struct parse_settings *s, struct slice event, struct fields *to,
                 const char **ret_why)
{
    (void)s;
    return parse_access(COMMON_FIELDS, event, to, ret_why);
}

/* -- the error log ---------------------------------------------------------------------------- */

enum error { TIMESTAMP, MODULE, SEVERITY, PROCESSID, THREADID, CLIENT, MESSAGE, ERROR_FIELDS };

static const struct slice error_names[ERROR_FIELDS] = {
    [TIMESTAMP] = {"timestamp", 9}, [MODULE] = {"module", 6},     [SEVERITY] = {"severity", 8},
    [PROCESSID] = {"processid", 9}, [THREADID] = {"threadid", 8}, [CLIENT] = {"client", 6},
    [MESSAGE] = {"message", 7},
};

/* Takes "[...]" and the space behind it. */
static bool take_bracket(struct slice *rest, struct slice *ret)
{
    size_t end;

    if (!parse_begins(*rest, '['))
        return false;
    end = parse_find(*rest, ']');
    if (end == rest->len)
        return false;
    *ret = slice_from(slice_first(*rest, end), 1);
    *rest = slice_from(*rest, end + 1);
    if (parse_begins(*rest, ' '))
        *rest = slice_from(*rest, 1);
    return true;
}

/* If `s` begins with "word " or "word: ", gives what is behind it. */
static bool after_word(struct slice s, struct slice word, struct slice *ret)
{
    if (!slice_starts_with(s, word))
        return false;
    s = slice_from(s, word.len);
    if (parse_begins(s, ':'))
        s = slice_from(s, 1);
    if (!parse_begins(s, ' '))
        return false;
    *ret = slice_from(s, 1);
    return true;
}

static bool is_client(struct slice bracket, struct slice *ret)
{
    return after_word(bracket, SLICE("client"), ret) || after_word(bracket, SLICE("remote"), ret);
}

/* "pid 9", "pid 9:tid 7" or "tid 7". */
static bool is_process(struct slice bracket, struct slice *pid, struct slice *tid)
{
    struct slice rest;
    size_t n;

    if (after_word(bracket, SLICE("tid"), tid))
        return true;
    if (!after_word(bracket, SLICE("pid"), &rest))
        return false;
    n = parse_find(rest, ':');
    *pid = slice_first(rest, n);
    if (n < rest.len)
        (void)after_word(slice_from(rest, n + 1), SLICE("tid"), tid);
    return true;
}

/* httpd 2.4 puts the client behind what the system said: "(13)Permission denied: [client 10.0.0.1:9]
 * AH00035: access denied", and behind the place in the source at debug levels.  Then the message is
 * what is before it and what is behind it. */
static int take_inner_client(struct fields *to, struct slice *rest, struct slice *client)
{
    size_t n = parse_find(*rest, '[');
    struct slice before = slice_first(*rest, n), after = slice_from(*rest, n), bracket;
    char *room;
    int r;

    if (!slice_ends_with(before, SLICE(": ")) || !take_bracket(&after, &bracket) ||
        !is_client(bracket, client))
        return 0;
    r = parse_room(to, before.len + after.len, &room);
    if (r < 0)
        return r;
    memcpy(room, before.ptr, before.len);
    memcpy(room + before.len, after.ptr, after.len);
    *rest = (struct slice){room, before.len + after.len};
    return 0;
}

int parse_apache_error(const struct parse_settings *s, struct slice event, struct fields *to,
                       const char **ret_why)
{
    struct slice v[ERROR_FIELDS] = {0}, bracket, rest = event, after;
    struct field *f;
    size_t n;
    int r;

    (void)s;
    if (!take_bracket(&rest, &v[TIMESTAMP]) || parse_find(v[TIMESTAMP], ':') == v[TIMESTAMP].len)
        return parse_mismatch(ret_why, "does not begin with a [date]");
    if (!take_bracket(&rest, &bracket) || bracket.len == 0 ||
        parse_find(bracket, ' ') < bracket.len)
        return parse_mismatch(ret_why, "has no [level] or [module:level] behind its date");
    n = parse_find(bracket, ':');
    v[SEVERITY] = n < bracket.len ? slice_from(bracket, n + 1) : bracket;
    v[MODULE] = n < bracket.len ? slice_first(bracket, n) : SLICE("-");

    after = rest;
    while (v[CLIENT].ptr == NULL && take_bracket(&after, &bracket) &&
           (is_process(bracket, &v[PROCESSID], &v[THREADID]) || is_client(bracket, &v[CLIENT])))
        rest = after;
    if (v[CLIENT].ptr == NULL) {
        r = take_inner_client(to, &rest, &v[CLIENT]);
        if (r < 0)
            return r;
    }
    v[MESSAGE] = rest;

    r = fields_extend(to, ERROR_FIELDS, &f);
    if (r < 0)
        return r;
    for (size_t i = 0; i < MESSAGE; i++)
        f[i] =
            v[i].len == 0 ? parse_null(error_names[i]) : parse_text_or_dash(error_names[i], v[i]);
    f[MESSAGE] = parse_text(error_names[MESSAGE], v[MESSAGE]);
    r = undo(to, &f[MESSAGE].value, true);
    return r < 0 ? r : 1;
}
