/* The rules come from tests/data/parity: what the Java agent's own classes were seen to make of given
 * lines.  Java's regular expressions are translated by java_regex.c; the formats' own are written for
 * PCRE2 here. */

#include "record/java.h"

#include "buf.h"
#include "ec2.h"
#include "record/java_json.h"
#include "record/java_regex.h"
#include "record/java_text.h"
#include "record/pattern.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    JAVA_PATTERN_MAX = 1024 * 1024, /* bytes of a translated regular expression */
    JAVA_NAMES_MAX = 4096,          /* columns */
};

/* --- the formats' own patterns --- */

/* Java's classes know ASCII only, and its dot does not match what ends a line to Unicode. */
#define DOT      "[^\\n\\r\\x{85}\\x{2028}\\x{2029}]"
#define DIGIT    "[0-9]"
#define NUMBER   DIGIT "+"
#define FROM_ONE "[1-9]" DIGIT "*"
#define SIGNED   "[-+]?" NUMBER
#define SPACE    "[ \\t-\\r]"
#define SPACES   SPACE "+"
#define LETTERS  "0-9A-Z_a-z"
#define HOST     "(?:[-" LETTERS "]+(?:\\.[-" LETTERS "]+)*\\.?|[0-9.]+)"
#define USER     "([-._0-9A-Za-z]+)"
#define QUOTED   "\"([^\"]+)\""
#define DAY      "(?:0[1-9]|[12][0-9]|3[01]|[1-9])"
#define WEEKDAY                                                                                    \
    "(?:Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:"    \
    "day)?)"
#define MONTH                                                                                      \
    "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|"             \
    "Sep(?:tember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
#define TIME "(?:2[0-3]|[01]?[0-9]):[0-5][0-9]:(?:[0-5]?[0-9]|60)(?:[:.,]" NUMBER ")?"
#define COMMON                                                                                     \
    "(" HOST ") " USER " " USER " \\[(" DAY "/" MONTH "/" FROM_ONE ":" TIME SPACE SIGNED           \
    ")\\] " QUOTED " (" SIGNED "|-) (" SIGNED "|-)"
/* A facility is two numbers with anything between: "<3.6>", and "<1x6>" as well. */
#define SYSLOG_REST                                                                                \
    " (?:<" NUMBER DOT NUMBER "> )?" USER " ([-" LETTERS "./%]+)(?:\\[(" FROM_ONE ")\\])?: (" DOT  \
    "*)"

static const struct log_format {
    struct slice pattern;
    bool dash_is_null;
    size_t field_count;
    struct slice fields[9];
} log_formats[] = {
    [JAVA_LOG_COMMON] = {SLICE(COMMON DOT "*"),
                         true,
                         7,
                         {SLICE("host"), SLICE("ident"), SLICE("authuser"), SLICE("datetime"),
                          SLICE("request"), SLICE("response"), SLICE("bytes")}},
    [JAVA_LOG_COMBINED] = {SLICE(COMMON " " QUOTED " " QUOTED DOT "*"),
                           true,
                           9,
                           {SLICE("host"), SLICE("ident"), SLICE("authuser"), SLICE("datetime"),
                            SLICE("request"), SLICE("response"), SLICE("bytes"), SLICE("referer"),
                            SLICE("agent")}},
    [JAVA_LOG_ERROR] = {SLICE("\\[(" WEEKDAY SPACES MONTH SPACES DAY SPACES TIME SPACES FROM_ONE
                              ")\\] "
                              "\\[(?:([" LETTERS "]+):)?([" LETTERS "]+)\\] "
                              "\\[pid (" NUMBER ")(?::tid (" NUMBER "))?\\] "
                              "\\[client (" HOST "(?::" FROM_ONE ")?)\\] (" DOT "*)"),
                        true,
                        7,
                        {SLICE("timestamp"), SLICE("module"), SLICE("severity"), SLICE("processid"),
                         SLICE("threadid"), SLICE("client"), SLICE("message")}},
    [JAVA_LOG_SYSLOG] = {SLICE("(" MONTH SPACES DAY SPACES TIME ")" SYSLOG_REST),
                         false,
                         5,
                         {SLICE("timestamp"), SLICE("hostname"), SLICE("program"),
                          SLICE("processid"), SLICE("message")}},
    [JAVA_LOG_RFC3339] = {SLICE(
                              "([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\\." NUMBER
                              ")?"
                              "(?:Z|[-+][0-9]{2}:[0-9]{2}))" SYSLOG_REST),
                          false,
                          5,
                          {SLICE("timestamp"), SLICE("hostname"), SLICE("program"),
                           SLICE("processid"), SLICE("message")}},
};

size_t java_log_field_count(enum java_log log)
{
    return log_formats[log].field_count;
}

/* --- a chain --- */

/* A member of the object that a step writes: what stands before its value, and whose value it is.  Of
 * equal names the first gives the place, and the last the value. */
struct member {
    struct buf before; /* owns: ,"name": */
    struct slice name; /* only while the chain is made */
    size_t column;
};

/* A column of a line.  Java cuts between UTF-16 units: half a pair of surrogates is written as "?". */
struct column {
    struct slice text;
    bool half_before, half_behind;
};

struct step {
    enum java_format format;
    bool keep_space, escape_newline, pretty, timestamp;
    bool dash_is_null, never; /* LOG; never: the names are not as many as the groups */
    bool literal;             /* CSV: the delimiter is one byte, and no pattern */
    bool halves;              /* CSV: it matches between any two characters */
    char byte;
    struct pattern *pattern; /* owns */
    struct slice *groups;    /* owns: group 0 and those of the pattern */
    struct member *members;  /* owns */
    size_t member_count;
    struct column *columns; /* owns; as many as there are names */
    size_t column_count;
    size_t found, filled;       /* columns in this line; up to the last that is not empty */
    struct buf before, between; /* METADATA: what stands before the time, and before the data */
};

struct java_chain {
    struct step *steps; /* owns */
    size_t step_count;
    struct buf *out[2];  /* what a step gives, in turns */
    struct buf *decoded; /* what it was given, if that was not valid */
    struct buf own[3];   /* these are it, if nothing was lent */
    struct java_json *json;
};

static void step_done(struct step *s)
{
    for (size_t i = 0; i < s->member_count; i++)
        buf_done(&s->members[i].before);
    free(s->members);
    free(s->columns);
    free(s->groups);
    pattern_free(s->pattern);
    buf_done(&s->before);
    buf_done(&s->between);
}

void java_chain_meter(struct java_chain *c, uint64_t *meter)
{
    for (size_t i = 0; i < c->step_count; i++)
        if (c->steps[i].pattern != NULL)
            pattern_meter(c->steps[i].pattern, meter);
}

void java_chain_free(struct java_chain *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->step_count; i++)
        step_done(&c->steps[i]);
    free(c->steps);
    for (size_t i = 0; i < ARRAY_LEN(c->own); i++)
        buf_done(&c->own[i]);
    java_json_free(c->json);
    free(c);
}

/* --- making it --- */

static int refuse(struct java_error *e, int r, const char *key, const char *text)
{
    e->key = key;
    (void)snprintf(e->text, sizeof e->text, "%s", text);
    return r;
}

/* What stands before a member: "{" or ",", the line's indent, the name, the colon. */
static int member_before(struct buf *b, bool first, bool pretty, struct slice name)
{
    int r;

    buf_init(b, 16 + 6 * name.len);
    r = buf_append(b, first ? SLICE("{") : SLICE(","));
    if (r == 0 && pretty)
        r = buf_append(b, SLICE("\n  "));
    if (r == 0)
        r = java_text_append_json(b, name);
    if (r == 0)
        r = buf_append(b, pretty ? SLICE(" : ") : SLICE(":"));
    return r;
}

static int make_members(struct step *s, const struct slice *names, size_t count,
                        struct java_error *e)
{
    if (count > JAVA_NAMES_MAX)
        return refuse(e, -EINVAL, "fields", "has more than 4096 names");
    s->members = calloc(MAX(count, (size_t)1), sizeof *s->members);
    s->columns = calloc(MAX(count, (size_t)1), sizeof *s->columns);
    if (s->members == NULL || s->columns == NULL)
        return -ENOMEM;
    s->column_count = count;
    for (size_t i = 0; i < count; i++) {
        struct member *m = s->members;
        int r;

        while (m < s->members + s->member_count && !slice_equal(m->name, names[i]))
            m++;
        m->column = i;
        if (m < s->members + s->member_count)
            continue;
        m->name = names[i];
        s->member_count++;
        r = member_before(&m->before, i == 0, s->pretty, names[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int make_pattern(struct step *s, struct slice text, unsigned flags, const char *key,
                        struct java_error *e)
{
    struct pattern_error why;
    int r = pattern_new(text, flags | PATTERN_UTF, &s->pattern, &why);

    if (r == -EINVAL)
        return refuse(e, r, key, why.text);
    if (r < 0)
        return r;
    s->groups = calloc(pattern_group_count(s->pattern) + 1, sizeof *s->groups);
    return s->groups == NULL ? -ENOMEM : 0;
}

static int make_java_pattern(struct step *s, struct slice java, unsigned flags, const char *key,
                             struct java_error *e)
{
    struct pattern_error why;
    struct buf translated;
    int r;

    buf_init(&translated, JAVA_PATTERN_MAX);
    r = java_regex_translate(java, &translated, &why);
    if (r == -EINVAL || r == -ENOTSUP)
        r = refuse(e, r, key, why.text);
    if (r == 0)
        r = make_pattern(s, buf_slice(&translated), flags, key, e);
    buf_done(&translated);
    return r;
}

/* The delimiter is one byte that stands for itself, as it is or behind a backslash, or "\t". */
static bool is_one_byte(struct slice delimiter, char *ret)
{
    unsigned char c = delimiter.len > 0 ? (unsigned char)delimiter.ptr[delimiter.len - 1] : 0;
    bool letter = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

    *ret = (char)c;
    if (delimiter.len == 1)
        return c < 0x80 && c != '\0' && strchr("\\[](){}.*+?^$|", c) == NULL;
    if (slice_equal(delimiter, SLICE("\\t"))) {
        *ret = '\t';
        return true;
    }
    return delimiter.len == 2 && delimiter.ptr[0] == '\\' && c < 0x80 && c != '\0' && !letter;
}

/* Whether an empty match stands between any two characters, whatever they are. */
static bool matches_everywhere(struct step *s)
{
    static const struct slice two = {"\xef\xbf\xbf\xef\xbf\xbf", 6};
    struct pattern_scan scan;
    bool between = false;

    pattern_scan_init(&scan, two);
    scan.past_empty = true;
    while (pattern_scan_next(&scan, s->pattern, s->groups) == 1)
        between |= s->groups[0].ptr == two.ptr + 3 && s->groups[0].len == 0;
    return between;
}

static int make_csv(struct step *s, const struct java_settings *set, struct java_error *e)
{
    int r = make_members(s, set->fields, set->field_count, e);

    if (r < 0)
        return r;
    s->literal = is_one_byte(set->delimiter, &s->byte);
    if (s->literal)
        return 0;
    r = make_java_pattern(s, set->delimiter, 0, "delimiter", e);
    if (r == 0)
        s->halves = matches_everywhere(s);
    return r;
}

static int make_log(struct step *s, const struct java_settings *set, struct java_error *e)
{
    const struct log_format *f = &log_formats[set->log];
    const struct slice *names = set->fields;
    size_t count = set->field_count;
    int r;

    s->dash_is_null = f->dash_is_null;
    if (set->match == NULL && count == 0) {
        names = f->fields;
        count = f->field_count;
    }
    if (set->match == NULL && count != f->field_count)
        return refuse(e, -EINVAL, "fields", "has not as many names as this log format has fields");
    r = make_members(s, names, count, e);
    if (r == 0)
        r = set->match == NULL ? make_pattern(s, f->pattern, PATTERN_WHOLE, "log", e)
                               : make_java_pattern(s, *set->match, PATTERN_WHOLE, "match", e);
    if (r == 0)
        s->never = pattern_group_count(s->pattern) != count;
    return r;
}

static int make_metadata(struct java_chain *c, struct step *s, const struct java_settings *set,
                         struct java_error *e)
{
    struct slice rest;
    int r = java_json_read(c->json, set->metadata, &rest);

    if (r == -EBADMSG || (r == 0 && rest.len > 0))
        return refuse(e, -EINVAL, "metadata", "is not JSON");
    if (r == -EMSGSIZE)
        return refuse(e, -EINVAL, "metadata", "is too large");
    buf_done(&s->between);
    buf_init(&s->between, c->own[0].max);
    if (r == 0 && set->timestamp)
        r = member_before(&s->before, true, s->pretty, SLICE("ts"));
    if (r == 0) {
        struct buf data;

        r = buf_append(&s->between, set->timestamp ? SLICE(",") : SLICE("{"));
        if (r == 0)
            r = buf_append(&s->between,
                           s->pretty ? SLICE("\n  \"metadata\" : ") : SLICE("\"metadata\":"));
        if (r == 0)
            r = java_json_write(c->json, s->pretty, 1, &s->between);
        if (r == 0)
            r = member_before(&data, false, s->pretty, SLICE("data"));
        if (r == 0) {
            r = buf_append(&s->between, buf_slice(&data));
            buf_done(&data);
        }
    }
    if (r == -EMSGSIZE)
        return refuse(e, -EINVAL, "metadata", "is too large");
    return r;
}

static int make_step(struct java_chain *c, struct step *s, const struct java_settings *set,
                     struct java_error *e)
{
    s->format = set->format;
    s->keep_space = set->keep_space;
    s->escape_newline = set->escape_newline;
    s->pretty = set->pretty;
    s->timestamp = set->timestamp;
    switch (set->format) {
    case JAVA_CSV:
        return make_csv(s, set, e);
    case JAVA_LOG:
        return make_log(s, set, e);
    case JAVA_METADATA:
        return make_metadata(c, s, set, e);
    case JAVA_SINGLELINE:
    case JAVA_EC2_METADATA:
    case JAVA_BRACKETS:
        break;
    }
    return 0;
}

void java_chain_lend(struct java_chain *c, struct buf bufs[3])
{
    c->out[0] = &bufs[0];
    c->out[1] = &bufs[1];
    c->decoded = &bufs[2];
}

void java_chain_set_max(struct java_chain *c, size_t max)
{
    java_json_set_max(c->json, max);
    for (size_t i = 0; i < ARRAY_LEN(c->own); i++)
        buf_limit(&c->own[i], max);
}

void java_chain_trim(struct java_chain *c, size_t keep)
{
    java_json_trim(c->json, keep);
    for (size_t i = 0; i < ARRAY_LEN(c->own); i++)
        buf_trim(&c->own[i], keep);
}

int java_chain_new(const struct java_settings *steps, size_t count, size_t max,
                   struct java_chain **ret, struct java_error *ret_error)
{
    struct java_chain *c = calloc(1, sizeof *c);
    int r = -ENOMEM;

    *ret_error = (struct java_error){0};
    if (c == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < ARRAY_LEN(c->own); i++)
        buf_init(&c->own[i], max);
    java_chain_lend(c, c->own);
    c->steps = calloc(MAX(count, (size_t)1), sizeof *c->steps);
    if (c->steps == NULL)
        goto out;
    r = java_json_new(max, &c->json);
    for (size_t i = 0; i < count && r == 0; i++) {
        ret_error->step = i;
        c->step_count++;
        r = make_step(c, &c->steps[i], &steps[i], ret_error);
    }
out:
    if (r < 0)
        java_chain_free(c);
    else
        *ret = c;
    return r;
}

/* --- SINGLELINE --- */

/* String.trim: what is not above U+0020 goes, at both ends. */
static struct slice trim(struct slice s)
{
    while (s.len > 0 && (unsigned char)s.ptr[0] <= ' ')
        s = slice_from(s, 1);
    while (s.len > 0 && (unsigned char)s.ptr[s.len - 1] <= ' ')
        s.len--;
    return s;
}

static int convert_singleline(const struct step *s, struct slice text, struct buf *to)
{
    bool first = true;
    int r = 0;

    /* String.split drops the empty parts at the end. */
    while (text.len > 0 && text.ptr[text.len - 1] == '\n')
        text.len--;
    while (text.len > 0 && r == 0) {
        const char *end = memchr(text.ptr, '\n', text.len);
        struct slice line = slice_first(text, end != NULL ? (size_t)(end - text.ptr) : text.len);

        if (!first && s->escape_newline)
            r = buf_append(to, SLICE("\\\\n"));
        if (r == 0)
            r = buf_append(to, s->keep_space ? line : trim(line));
        text = slice_from(text, MIN(line.len + 1, text.len));
        first = false;
    }
    return r < 0 ? r : buf_append_char(to, '\n');
}

/* --- CSVTOJSON --- */

static void add_column(struct step *s, struct slice text, bool half_before, bool half_behind)
{
    if (s->found < s->column_count)
        s->columns[s->found] = (struct column){text, half_before, half_behind};
    s->found++;
    if (text.len > 0 || half_before || half_behind)
        s->filled = s->found;
}

/* What is further on cannot change the columns that have names: one of them being empty at the end is
 * null only if everything behind it is empty too. */
static bool is_enough(const struct step *s)
{
    return s->found >= s->column_count && s->filled >= s->column_count;
}

static void split_byte(struct step *s, struct slice text)
{
    const char *end;

    while (text.len > 0 && (s->found == 0 || !is_enough(s)) &&
           (end = memchr(text.ptr, s->byte, text.len)) != NULL) {
        size_t n = (size_t)(end - text.ptr);

        add_column(s, slice_first(text, n), false, false);
        text = slice_from(text, n + 1);
    }
    if (s->found > 0)
        add_column(s, text, false, false);
}

/* String.split of Java 8: an empty match at the beginning gives no empty column, and Java looks for the
 * next match one UTF-16 unit on, which may be in the middle of a character. */
static int split_pattern(struct step *s, struct slice text)
{
    struct pattern_scan scan;
    size_t from = 0;
    bool half = false;
    int r = 0;

    pattern_scan_init(&scan, text);
    scan.past_empty = true;
    while ((s->found == 0 || !is_enough(s)) &&
           (r = pattern_scan_next(&scan, s->pattern, s->groups)) == 1) {
        size_t at = (size_t)(s->groups[0].ptr - text.ptr);
        bool empty = s->groups[0].len == 0;

        if (!(from == 0 && at == 0 && empty)) {
            add_column(s, (struct slice){text.ptr + from, at - from}, half, false);
            from = at + s->groups[0].len;
            half = false;
        }
        if (empty && s->halves && at < text.len && (unsigned char)text.ptr[at] >= 0xf0) {
            add_column(s, (struct slice){text.ptr + from, at - from}, half, true);
            from = at + 4;
            half = true;
        }
    }
    if (s->found > 0)
        add_column(s, slice_from(text, from), half, false);
    return r < 0 ? r : 0;
}

static int append_column(struct buf *to, const struct column *c)
{
    int r = buf_append(to, c->half_before ? SLICE("\"?") : SLICE("\""));

    if (r == 0)
        r = java_text_append_inside(to, c->text);
    if (r == 0)
        r = buf_append(to, c->half_behind ? SLICE("?\"") : SLICE("\""));
    return r;
}

/* The object of all members; a column that is missing is null. */
static int append_object(const struct step *s, struct buf *to)
{
    int r = s->member_count == 0 ? buf_append_char(to, '{') : 0;

    for (size_t i = 0; i < s->member_count && r == 0; i++) {
        const struct member *m = &s->members[i];

        r = buf_append(to, buf_slice(&m->before));
        if (r < 0)
            break;
        if (m->column < s->filled && s->columns[m->column].text.ptr != NULL)
            r = append_column(to, &s->columns[m->column]);
        else
            r = buf_append(to, SLICE("null"));
    }
    if (r == 0 && s->pretty)
        r = buf_append_char(to, s->member_count == 0 ? ' ' : '\n');
    return r < 0 ? r : buf_append(to, SLICE("}\n"));
}

static struct slice without_newline(struct slice text)
{
    return slice_ends_with(text, SLICE("\n")) ? slice_first(text, text.len - 1) : text;
}

static int convert_csv(struct step *s, struct slice text, struct buf *to)
{
    text = without_newline(text);
    s->found = s->filled = 0;
    if (s->literal) {
        split_byte(s, text);
    } else {
        int r = split_pattern(s, text);
        if (r < 0)
            return r;
    }
    /* Nothing was found: then the text is the one column, even if it is empty. */
    if (s->found == 0) {
        add_column(s, text, false, false);
        s->filled = 1;
    }
    return append_object(s, to);
}

/* --- LOGTOJSON --- */

static int convert_log(struct step *s, struct slice text, struct buf *to)
{
    int r = s->never ? 0 : pattern_match(s->pattern, without_newline(text), s->groups);

    if (r < 0)
        return r;
    if (r == 0)
        return JAVA_DROP;
    for (size_t i = 0; i < s->column_count; i++) {
        struct slice found = s->groups[i + 1];

        if (s->dash_is_null && slice_equal(found, SLICE("-")))
            found.ptr = NULL;
        s->columns[i] = (struct column){.text = found};
    }
    s->filled = s->column_count;
    return append_object(s, to);
}

/* --- ADDMETADATA --- */

static int append_timestamp(struct buf *to, int64_t wall_ms)
{
    int64_t ms = (wall_ms % 1000 + 1000) % 1000;
    time_t seconds = (time_t)((wall_ms - ms) / 1000);
    char text[64];
    struct tm tm;
    size_t n;

    if (gmtime_r(&seconds, &tm) == NULL)
        return -EINVAL;
    n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(text + n, sizeof text - n, ".%03dZ", (int)ms);
    return buf_append(to, (struct slice){text, n});
}

static int convert_metadata(const struct step *s, struct slice text, int64_t wall_ms,
                            struct buf *to)
{
    int r = 0;

    if (s->timestamp) {
        r = buf_append(to, buf_slice(&s->before));
        if (r == 0)
            r = buf_append_char(to, '"');
        if (r == 0)
            r = append_timestamp(to, wall_ms);
        if (r == 0)
            r = buf_append_char(to, '"');
    }
    if (r == 0)
        r = buf_append(to, buf_slice(&s->between));
    if (r == 0)
        r = java_text_append_json(to, without_newline(text));
    return r < 0 ? r : buf_append(to, s->pretty ? SLICE("\n}\n") : SLICE("}\n"));
}

/* --- ADDEC2METADATA --- */

static int set_text(struct java_json *j, uint32_t object, struct slice key, struct slice text)
{
    struct slice json = SLICE("null");
    int r = text.ptr == NULL ? 0 : java_json_string(j, text, &json);

    return r < 0 ? r : java_json_set(j, object, key, json, NULL);
}

static int set_tags(struct java_json *j, const struct ec2 *ec2)
{
    uint32_t tags;
    int r = java_json_set(j, JAVA_JSON_ROOT, SLICE("\"tags\""), SLICE(""), &tags);

    for (size_t i = 0; i < ec2->tag_count && r == 0; i++) {
        struct slice key;

        r = java_json_string(j, ec2->tags[i].lower, &key);
        if (r == 0)
            r = set_text(j, tags, key, ec2->tags[i].value);
    }
    return r;
}

static int convert_ec2(struct java_chain *c, const struct step *s, struct slice text,
                       const struct ec2 *ec2, struct buf *to)
{
    static const struct slice keys[EC2_TEXTS] = {
        [EC2_PRIVATE_IP] = SLICE("\"privateIp\""),
        [EC2_AVAILABILITY_ZONE] = SLICE("\"availabilityZone\""),
        [EC2_INSTANCE_ID] = SLICE("\"instanceId\""),
        [EC2_INSTANCE_TYPE] = SLICE("\"instanceType\""),
        [EC2_ACCOUNT_ID] = SLICE("\"accountId\""),
        [EC2_AMI_ID] = SLICE("\"amiId\""),
        [EC2_REGION] = SLICE("\"region\""),
    };
    struct slice rest;
    int r = java_json_read(c->json, text, &rest);

    if (r == -EBADMSG || (r == 0 && !java_json_is_object(c->json)))
        return JAVA_RAW;
    for (size_t i = 0; i < EC2_TEXTS && r == 0; i++)
        r = set_text(c->json, JAVA_JSON_ROOT, keys[i], ec2->text[i]);
    if (r == 0)
        r = set_text(c->json, JAVA_JSON_ROOT, SLICE("\"metadataTimestamp\""), ec2->fetched);
    if (r == 0 && ec2->has_tags)
        r = set_tags(c->json, ec2);
    if (r == 0)
        r = java_json_write(c->json, s->pretty, 0, to);
    return r < 0 ? r : buf_append_char(to, '\n');
}

/* --- the whole chain --- */

static int convert_brackets(struct slice text, struct buf *to)
{
    int r = buf_append_char(to, '{');

    if (r == 0)
        r = buf_append(to, text);
    return r < 0 ? r : buf_append_char(to, '}');
}

/* An outcome, or -errno. */
static int convert_text(struct java_chain *c, struct step *s, struct slice text,
                        const struct java_context *context, struct buf *to)
{
    switch (s->format) {
    case JAVA_SINGLELINE:
        return convert_singleline(s, text, to);
    case JAVA_CSV:
        return convert_csv(s, text, to);
    case JAVA_LOG:
        return convert_log(s, text, to);
    case JAVA_METADATA:
        return convert_metadata(s, text, context->wall_ms, to);
    case JAVA_EC2_METADATA:
        return convert_ec2(c, s, text, context->ec2, to);
    case JAVA_BRACKETS:
        break;
    }
    return convert_brackets(text, to);
}

int java_chain_convert(struct java_chain *c, struct slice record,
                       const struct java_context *context, struct slice *ret)
{
    struct slice now = record.ptr != NULL ? record : SLICE("");
    struct buf *to = c->out[0];

    *ret = record;
    for (size_t i = 0; i < c->step_count; i++) {
        struct slice text;
        int r;

        /* Without metadata the record passes as it is, be it JSON or not. */
        if (c->steps[i].format == JAVA_EC2_METADATA && context->ec2 == NULL)
            continue;
        r = java_text_decode(now, c->decoded, &text);
        buf_reset(to);
        if (r == 0)
            r = convert_text(c, &c->steps[i], text, context, to);
        if (r == JAVA_DROP)
            *ret = (struct slice){NULL, 0};
        if (r != JAVA_SEND)
            return r;
        now = buf_slice(to);
        to = to == c->out[0] ? c->out[1] : c->out[0];
    }
    *ret = now;
    return JAVA_SEND;
}
