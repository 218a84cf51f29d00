#include "record/events.h"

#include "buf.h"
#include "record/cri.h"
#include "record/pattern.h"
#include "record/split.h"
#include "util.h"

/* A pattern that gives up at a limit has not matched. */
static bool matches(struct pattern *p, struct slice line)
{
    return p != NULL && pattern_match(p, split_without_return(line), NULL) > 0;
}

static bool has_patterns(const struct events_rules *r)
{
    return r->start != NULL || r->proceed != NULL || r->end != NULL;
}

/* Whether a line goes on with the event before it; `ended`: that one's last line said so. */
static bool belongs(const struct events_rules *r, bool ended, struct slice line)
{
    if (ended || !has_patterns(r) || matches(r->start, line))
        return false;
    return r->proceed == NULL || matches(r->proceed, line);
}

/* Whether a quoted field is open behind `line`, where `quoted` says whether one was before it. */
static bool csv_is_open(struct slice line, char delimiter, bool quoted)
{
    bool at_field = !quoted;

    for (size_t i = 0; i < line.len; i++) {
        char c = line.ptr[i];

        if (quoted) {
            const char *quote = memchr(line.ptr + i, '"', line.len - i);

            if (quote == NULL)
                return true;
            i = (size_t)(quote - line.ptr);
            if (i + 1 < line.len && line.ptr[i + 1] == '"')
                i++; /* a quote that is meant */
            else
                quoted = false;
        } else if (c == '"' && at_field) {
            quoted = true;
        }
        at_field = !quoted && c == delimiter;
    }
    return quoted;
}

/* An event, as far as it is known. */
struct open {
    uint32_t lines;
    size_t bytes;
    bool ended;  /* its last line matched `end` */
    bool quoted; /* a quoted field is open */
};

static bool fits(const struct events_rules *r, const struct open *open, size_t more)
{
    return open->lines < r->max_lines && more <= r->max_bytes && open->bytes <= r->max_bytes - more;
}

/* --- events that are lines in a row --- */

static bool goes_on(const struct events_rules *r, const struct open *open, struct slice line)
{
    if (open->lines == 0)
        return true;
    if (!fits(r, open, line.len + 1) || split_zeros(line) > 0)
        return false;
    return open->quoted || belongs(r, open->ended, line);
}

/* Whether nothing that may come can belong to the event any more. */
static bool is_over(const struct events_rules *r, const struct open *open, size_t behind)
{
    if (!fits(r, open, behind + 1))
        return true;
    return !open->quoted && (open->ended || !has_patterns(r));
}

static bool next_in_row(const struct events_rules *r, struct slice text, size_t behind,
                        size_t *ret_len)
{
    struct slice in = text, line;
    struct open open = {0};

    while (split_next(&in, &line)) {
        if (!goes_on(r, &open, line)) {
            *ret_len = (size_t)(line.ptr - text.ptr);
            return true;
        }
        open.lines++;
        open.bytes += line.len + 1;
        open.ended = matches(r->end, line);
        if (r->csv)
            open.quoted = csv_is_open(split_without_return(line), r->delimiter, open.quoted);
        if (is_over(r, &open, 0)) {
            *ret_len = (size_t)(in.ptr - text.ptr);
            return true;
        }
    }
    *ret_len = text.len;
    return open.lines > 0 && is_over(r, &open, behind);
}

/* --- containers' lines --- */

enum region_step {
    REGION_ALONE,  /* not a container's line: an event by itself */
    REGION_BEGINS, /* the line begins an event of its stream, where another one was open or not */
    REGION_GOES_ON,
};

static enum region_step region_step(struct events_region *g, struct slice line, struct cri *ret)
{
    const struct events_rules *r = g->rules;
    enum region_step step = REGION_BEGINS;
    enum cri_stream s;

    if (!cri_read(line, ret))
        return REGION_ALONE;
    s = ret->which;
    if (g->open[s] && (g->part[s] || belongs(r, g->ended[s], ret->message)))
        step = REGION_GOES_ON;
    g->open[s] = true;
    g->part[s] = ret->is_part;
    g->ended[s] = !ret->is_part && (!has_patterns(r) || matches(r->end, ret->message));
    return step;
}

static bool region_is_over(const struct events_region *g)
{
    for (size_t s = 0; s < CRI_STREAMS; s++)
        if (g->open[s] && (g->part[s] || !g->ended[s]))
            return false;
    return true;
}

static bool region_has_part(const struct events_region *g)
{
    return (g->open[CRI_STDOUT] && g->part[CRI_STDOUT]) ||
           (g->open[CRI_STDERR] && g->part[CRI_STDERR]);
}

/* A region ends where every event in it is known to be over; or, where patterns would have to see
 * more, before a line that begins an event: the other stream's is cut there, if it has one. */
static bool next_region(const struct events_rules *r, struct slice text, size_t behind,
                        size_t *ret_len)
{
    struct slice in = text, line;
    struct open open = {0};
    struct events_region g = {.rules = r};

    while (split_next(&in, &line)) {
        struct events_region before = g;
        struct cri c;
        enum region_step step;

        *ret_len = (size_t)(line.ptr - text.ptr);
        if (open.lines > 0 && (!fits(r, &open, line.len + 1) || split_zeros(line) > 0))
            return true;
        step = region_step(&g, line, &c);
        if (open.lines > 0 && !region_has_part(&before) &&
            (step == REGION_ALONE ||
             (step == REGION_BEGINS && before.open[c.which] && !before.ended[c.which])))
            return true;
        open.lines++;
        open.bytes += line.len + 1;
        *ret_len = (size_t)(in.ptr - text.ptr);
        if (region_is_over(&g) || !fits(r, &open, 1))
            return true;
    }
    *ret_len = text.len;
    return open.lines > 0 && !fits(r, &open, behind + 1);
}

/* Gathers the event of one stream. */
static int gather(struct buf *b, const struct cri *c, bool begins, bool was_part)
{
    int r = 0;

    if (begins) {
        buf_reset(b);
        r = buf_append(b, c->time);
        if (r == 0)
            r = buf_append_char(b, ' ');
        if (r == 0)
            r = buf_append(b, c->stream);
        if (r == 0)
            r = buf_append(b, SLICE(" F "));
    } else if (!was_part) {
        r = buf_append_char(b, '\n');
    }
    return r < 0 ? r : buf_append(b, c->message);
}

void events_region_init(struct events_region *g, const struct events_rules *r, struct slice text)
{
    *g = (struct events_region){.rules = r, .rest = text, .begin = text.ptr};
}

/* The event of a stream is whole. */
static int give(struct events_region *g, size_t stream, struct slice event, struct slice *ret)
{
    g->open[stream] = false;
    *ret = event;
    return 1;
}

int events_region_next(struct events_region *g, struct buf scratch[CRI_STREAMS], struct slice *ret)
{
    struct slice line;

    for (struct slice in = g->rest; split_next(&in, &line); g->rest = in) {
        struct events_region before = *g;
        struct cri c;
        enum region_step step = region_step(g, line, &c);
        bool is_over;
        int r;

        if (step == REGION_ALONE) {
            g->rest = in;
            *ret = line;
            return 1;
        }
        if (step == REGION_BEGINS && before.open[c.which]) {
            *g = before; /* the line is looked at again, when that one is out */
            return give(g, c.which, buf_slice(&scratch[c.which]), ret);
        }
        is_over = g->ended[c.which] || (in.len == 0 && line.ptr == g->begin);
        if (is_over && !c.is_part && step == REGION_BEGINS) {
            g->rest = in; /* the usual case: one line, and nothing to be gathered */
            return give(g, c.which, line, ret);
        }
        r = gather(&scratch[c.which], &c, step == REGION_BEGINS, before.part[c.which]);
        if (r < 0) {
            *g = before;
            return r;
        }
        if (is_over && !c.is_part) {
            g->rest = in;
            return give(g, c.which, buf_slice(&scratch[c.which]), ret);
        }
    }
    for (size_t s = 0; s < CRI_STREAMS; s++)
        if (g->open[s])
            return give(g, s, buf_slice(&scratch[s]), ret);
    return 0;
}

bool events_next(const struct events_rules *r, struct slice text, size_t behind, size_t *ret_len)
{
    return r->cri ? next_region(r, text, behind, ret_len) : next_in_row(r, text, behind, ret_len);
}
