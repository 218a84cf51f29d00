/* feed -- a file that grows, read as source.c reads it and ground as flow_read.c grinds it: for tests
 * that ask whether it matters how the bytes came.
 *
 * What became of the file is a text: a line for each record, and one that counts what was told.  To be
 * included once by a program; FEED_CHECK says what to do if something does not hold. */
#ifndef FEED_H
#define FEED_H

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "encoding.h"
#include "random.h"
#include "record/mill.h"
#include "record/split.h"
#include "slice.h"
#include "util.h"

#ifndef FEED_CHECK
#include <assert.h>
#define FEED_CHECK(x) assert(x)
#endif

enum { FEED_TEXT_MAX = 1 << 26, FEED_PATIENCE = 3, FEED_IDLE_MAX = 40 };

/* How it comes. */
struct feed_way {
    size_t step;     /* bytes that are added to the file at a time; 0: all at once */
    size_t chunk;    /* bytes that are read at a time, if that is enough */
    size_t line_max; /* longer lines come in pieces */
    uint64_t refuse; /* 0: all records are taken; else a seed of those that are not, at first */
    bool growing;    /* what is not whole at the end is left open */
};

struct feed {
    struct mill *mill;
    enum encoding encoding;
    struct slice file;
    struct slice carry;
    struct feed_way way;
    struct buf
        *out; /* borrows; the records, where they are in the file, and their keys if wanted */
    bool keys;
    bool interleaved; /* lines of several streams: an event may lie within another */

    /* what goes on */
    struct mill_state state;
    struct random random;
    unsigned refused; /* in a row */
    size_t visible, want;
    uint64_t at, offset, end; /* of the last record */
    char *covered;            /* owns */
    size_t zeros;
    unsigned records, dropped, mismatched, times, gave_up, cut, keys_missing;
    struct mill_report report;
    bool carry_used, zeros_last;
};

static void feed_cover(struct feed *f, uint64_t offset, uint64_t end)
{
    FEED_CHECK(offset <= end && end <= f->visible);
    memset(f->covered + offset, 1, (size_t)(end - offset));
}

static bool feed_take(void *user, const struct mill_piece *p)
{
    struct feed *f = user;
    bool drop = p->verdict == RECIPE_DROP;

    if (!drop && f->way.refuse != 0 && f->refused < FEED_PATIENCE &&
        random_below(&f->random, 2) == 0) {
        f->refused++;
        return false;
    }
    f->refused = drop ? f->refused : 0;
    feed_cover(f, p->offset, p->end);
    if (drop) {
        f->dropped++;
        FEED_CHECK(p->reason != NULL && p->drop != RECIPE_NOT_DROPPED);
        return true;
    }
    /* In the order of the file; the records of one event have the same bytes. */
    FEED_CHECK(f->interleaved || p->offset >= f->end ||
               (p->offset == f->offset && p->end >= f->end) ||
               (p->offset > f->offset && p->end == f->end));
    f->offset = p->offset;
    f->end = p->end;
    f->records++;
    FEED_CHECK(p->events > 0);
    FEED_CHECK((p->verdict == RECIPE_DEAD) == (p->reason != NULL));
    FEED_CHECK(buf_printf(f->out, "%" PRIu64 "-%" PRIu64 "%s%s ", p->offset, p->end,
                          p->verdict == RECIPE_DEAD ? " dead" : "",
                          p->with_carry ? " carried" : "") == 0);
    if (f->keys && p->verdict == RECIPE_SEND)
        FEED_CHECK(buf_append(f->out, key_json(p->key)) == 0 && buf_append_char(f->out, ' ') == 0);
    FEED_CHECK(buf_append(f->out, p->record) == 0 && buf_append_char(f->out, '\n') == 0);
    return true;
}

static void feed_notice(void *user, const struct mill_notice *n)
{
    struct feed *f = user;

    if (n->zeros > 0)
        feed_cover(f, n->offset, n->offset + n->zeros);
    f->zeros += n->zeros;
    f->mismatched += n->mismatch != NULL;
    f->times += n->time_mismatch;
    f->gave_up += n->gave_up;
    f->cut += n->was_cut;
    f->keys_missing += n->key_missing;
}

enum feed_news { FEED_END, FEED_LINES, FEED_LONG, FEED_HALF, FEED_PASSED };

/* As source_read. */
static enum feed_news feed_read(struct feed *f, bool ending, struct mill_input *in, bool *ret_eof)
{
    enum encoding e = f->encoding;
    struct slice text = slice_first(slice_from(f->file, (size_t)f->at), f->visible - (size_t)f->at);
    size_t most = MAX(f->way.line_max + 1, f->way.chunk),
           ask = MIN(MAX(f->want, f->way.chunk), most);
    size_t all = text.len, unit = encoding_newline_len(e), lines;
    const char *newline;

    *ret_eof = true;
    *in = (struct mill_input){.text = {text.ptr, 0}, .offset = f->at, .line_end = f->at};
    if (f->state.line_parts == 0 && !encoding_is_utf16(e) && split_zeros(text) > 0) {
        size_t zeros = split_zeros(text);

        if (zeros == text.len && !ending)
            return FEED_END;
        feed_notice(f, &(struct mill_notice){.offset = f->at, .zeros = zeros});
        f->at += zeros;
        return FEED_PASSED;
    }
    newline = encoding_find_newline(e, text);
    if (newline == NULL && all <= f->way.line_max) {
        in->behind = all;
        if (!ending || all == 0)
            return FEED_END;
        in->text = text;
        in->behind = 0;
        return FEED_HALF;
    }
    lines = newline == NULL ? 0 : (size_t)(newline - text.ptr) + unit;
    if (newline == NULL || lines > most) {
        size_t len = f->way.line_max - f->way.line_max % unit;

        if (newline == NULL && !ending)
            return FEED_END;
        if (newline == NULL) {
            in->text = slice_first(text, len);
            return FEED_HALF;
        }
        in->text = slice_first(text, MIN(len, lines - unit));
        in->line_end = f->at + lines;
        *ret_eof = false;
        return FEED_LONG;
    }
    if (lines > ask)
        ask = most;
    *ret_eof = all < ask;
    text = slice_first(text, MIN(all, ask));
    newline = encoding_find_last_newline(e, text);
    lines = (size_t)(newline - text.ptr) + unit;
    in->text = slice_first(text, lines);
    in->behind = text.len - lines;
    return FEED_LINES;
}

/* As flow_visit.  False: there is no more to do with what is visible. */
static bool feed_visit(struct feed *f, bool ending)
{
    const struct mill_events events = {feed_take, feed_notice, f};
    struct mill_input in;
    bool eof, all;
    enum feed_news news = feed_read(f, ending, &in, &eof);
    uint64_t at = f->at;

    if (news == FEED_PASSED)
        return true;
    if (news == FEED_END && (!ending || f->carry.len == 0))
        return false;
    all = f->want > f->way.line_max && !eof; /* of all that can be seen at once, nothing is out */
    in.last = news != FEED_LONG && ending && eof && !f->way.growing;
    in.flush = in.last || (all && !f->report.joined_open);
    in.flush_joined = in.last || all;
    in.cut = news == FEED_LONG;
    in.header = slice_first(f->file, f->visible);
    in.place = (struct template_place){.file = SLICE("/var/log/a.log"), .now_ms = 1700000000123};
    in.carry = f->carry;
    if (in.last && news == FEED_LINES)
        in.text.len += in.behind;
    FEED_CHECK(mill_run(f->mill, &in, &f->state, &events, &f->report) == 0);
    FEED_CHECK(f->report.offset >= f->at && f->report.offset <= f->visible);
    f->at = f->report.offset;
    if (f->report.carry_used) {
        f->carry = (struct slice){0};
        f->carry_used = true;
    }
    if (f->at > at || f->report.carry_used)
        f->want = 0;
    switch (f->report.end) {
    case MILL_ALL:
    case MILL_TIRED:
        FEED_CHECK(f->at > at || f->report.carry_used || in.text.len == 0);
        return true;
    case MILL_FULL:
        return f->way.step == 0 || f->refused < 2; /* it may grow before it is asked again */
    case MILL_HELD:
        FEED_CHECK(in.hold_large);
        return false;
    case MILL_OPEN:
    case MILL_HEADER:
        break;
    }
    FEED_CHECK(!in.flush && (!in.flush_joined || f->at > at));
    if (eof)
        return false;
    if (f->at == at) /* else there may be enough to see from the new place on */
        f->want = f->want >= f->way.line_max
                      ? f->way.line_max + 1
                      : MIN(2 * MAX(in.text.len + in.behind, f->way.chunk), f->way.line_max);
    return true;
}

/* Tells the whole story; `out` gets what became of the file. */
static void feed_all(struct feed *f)
{
    f->state = (struct mill_state){0};
    f->random.state = f->way.refuse;
    f->refused = 0;
    f->visible = f->want = f->zeros = 0;
    f->at = f->offset = f->end = 0;
    f->records = f->dropped = f->mismatched = f->times = f->gave_up = f->cut = f->keys_missing = 0;
    f->carry_used = false;
    f->covered = calloc(f->file.len + 1, 1);
    FEED_CHECK(f->covered != NULL);
    while (f->visible < f->file.len) {
        size_t left = f->file.len - f->visible;

        f->visible += f->way.step == 0 ? left : MIN(f->way.step, left);
        while (feed_visit(f, false))
            ;
    }
    /* What was refused just now is not refused for ever. */
    for (unsigned idle = 0; !f->way.growing && idle <= FEED_IDLE_MAX;) {
        uint64_t at = f->at;
        unsigned records = f->records;
        bool more = feed_visit(f, true);

        idle = f->at != at || f->records != records ? 0 : idle + 1;
        if (!more && f->report.end != MILL_FULL)
            break;
    }
    FEED_CHECK(f->way.growing || f->at == f->file.len);
    FEED_CHECK(buf_printf(f->out,
                          "records=%u dropped=%u mismatched=%u times=%u gave_up=%u cut=%u "
                          "keys=%u zeros=%zu",
                          f->records, f->dropped, f->mismatched, f->times, f->gave_up, f->cut,
                          f->keys_missing, f->zeros) == 0);
}

/* Every byte from `from` on has become something. */
static void feed_check_covered(const struct feed *f, size_t from)
{
    FEED_CHECK(memchr(f->covered + from, 0, f->file.len - from + 1) == f->covered + f->file.len);
}

static void feed_done(struct feed *f)
{
    free(f->covered);
    f->covered = NULL;
}

#endif
