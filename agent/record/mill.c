#include "record/mill.h"

#include "buf.h"
#include "record/fields.h"
#include "record/mill_inner.h"
#include "record/pattern.h"
#include "record/split.h"
#include "record/squeeze.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { DECODED_KEEP = 512 * 1024 }; /* what is read at once, made UTF-8 */

static void set_join(struct mill *m)
{
    size_t key_max = m->settings.key == MILL_KEY_NONE ? 0 : KEY_BYTES_MAX;

    /* A joined record stays below what a record may be even if compressing makes it longer. */
    m->settings.join_bytes = MIN(m->join_bytes, mill_fill_max(m, m->settings.record_max, key_max));
    scratch_expect(m->scratch, m->settings.join_bytes);
}

int mill_new(const struct mill_settings *s, struct mill **ret)
{
    struct mill *m = calloc(1, sizeof *m);

    if (m == NULL)
        return -ENOMEM;
    m->settings = *s;
    m->join_bytes = s->join_bytes;
    scratch_init(&m->own);
    m->scratch = s->scratch != NULL ? s->scratch : &m->own;
    if (s->encoding != ENCODING_UTF8)
        scratch_expect(m->scratch, DECODED_KEEP);
    set_join(m);
    m->waits = events_join(&s->events) || s->join_bytes > 0;
    if (s->key == MILL_KEY_CONST)
        key_of_text(s->key_text, &m->key);
    *ret = m;
    return 0;
}

void mill_free(struct mill *m)
{
    if (m == NULL)
        return;
    scratch_done(&m->own);
    free(m);
}

void mill_set_record_max(struct mill *m, size_t record_max)
{
    m->settings.record_max = record_max;
    set_join(m);
}

bool mill_waits(const struct mill *m)
{
    return m->waits;
}

/* --- where in the file we are --- */

/* The offset in the file of `at`, a beginning of a line in the text; calls go forward only. */
static uint64_t offset_of(struct run *run, size_t at)
{
    const struct mill_input *in = run->in;

    if (at <= run->carry_len)
        return in->offset + run->raw.passed;
    if (run->mill->settings.encoding == ENCODING_UTF8)
        return in->offset + run->raw.passed + MIN(at - run->carry_len, run->raw.text.len);
    while (run->raw.decoded < at) {
        struct slice left = slice_from(run->text, run->raw.decoded);
        const char *newline = memchr(left.ptr, '\n', left.len), *raw;

        raw = encoding_find_newline(run->mill->settings.encoding, run->raw.text);
        if (newline == NULL || raw == NULL) { /* a last line without one */
            run->raw.passed += run->raw.text.len;
            run->raw.text = slice_from(run->raw.text, run->raw.text.len);
            run->raw.decoded = run->text.len;
            break;
        }
        run->raw.decoded += (size_t)(newline - left.ptr) + 1;
        raw += encoding_newline_len(run->mill->settings.encoding);
        run->raw.passed += (size_t)(raw - run->raw.text.ptr);
        run->raw.text = slice_from(run->raw.text, (size_t)(raw - run->raw.text.ptr));
    }
    return in->offset + run->raw.passed;
}

/* --- the file's header --- */

/* Takes `count` lines off `text`; false, and nothing is taken, if they are not all there. */
static bool take_lines(enum encoding e, uint32_t count, struct slice *text)
{
    struct slice rest = *text;

    while (count-- > 0) {
        const char *newline = encoding_find_newline(e, rest);

        if (newline == NULL)
            return false;
        rest = slice_from(rest, (size_t)(newline - rest.ptr) + encoding_newline_len(e));
    }
    *text = rest;
    return true;
}

/* Reads the columns' names out of the header lines. */
static int read_names(struct mill *m, struct slice header)
{
    const struct mill_settings *s = &m->settings;
    struct slice last = header;
    const char *newline;
    int r;

    m->header = (struct parse_names){0};
    if (!s->header_names)
        return 0;
    last = slice_from(last, encoding_mark_len(s->encoding, last));
    if (!take_lines(s->encoding, s->header_lines - 1, &last) || last.len == 0)
        return 0;
    newline = encoding_find_newline(s->encoding, last);
    if (newline == NULL)
        return 0; /* it is longer than what is there of it */
    last = slice_first(last, (size_t)(newline - last.ptr));
    buf_reset(&m->scratch->joined); /* is not in use yet */
    r = encoding_to_utf8(s->encoding, last, &m->scratch->joined);
    if (r < 0)
        return r == -ENOMEM ? r : 0;
    last = buf_slice(&m->scratch->joined);
    while (last.len > 0 && last.ptr[last.len - 1] == '\r')
        last.len--;
    fields_reset(&m->scratch->columns);
    r = parse_csv_columns(last, s->events.delimiter, &m->scratch->columns);
    if (r < 0)
        return r == -ENOMEM ? r : 0;
    if (m->scratch->columns.count > m->scratch->names_cap) {
        struct slice *names =
            reallocarray(m->scratch->names, m->scratch->columns.count, sizeof *names);

        if (names == NULL)
            return -ENOMEM;
        m->scratch->names = names;
        m->scratch->names_cap = m->scratch->columns.count;
    }
    for (size_t i = 0; i < m->scratch->columns.count; i++)
        if (!arena_copy(&m->scratch->columns.arena, m->scratch->columns.items[i].value,
                        &m->scratch->names[i]))
            return 0;
    m->header = (struct parse_names){m->scratch->names, m->scratch->columns.count};
    return 0;
}

/* Passes the header, and a byte order mark.  False: it is not all there.  A header line that is too
 * long to be seen whole is passed nevertheless, and names nothing. */
static bool pass_header(struct run *run, int *ret_error)
{
    const struct mill_settings *s = &run->mill->settings;
    const struct mill_input *in = run->in;
    struct slice text = in->text, header = in->header;

    *ret_error = 0;
    if (in->offset == 0 && s->header_lines > 0) {
        if (!take_lines(s->encoding, s->header_lines, &text)) {
            if (!in->flush && !in->cut)
                return false;
            text = slice_from(text, text.len);
        }
        header = slice_first(in->text, in->text.len - text.len);
        run->lines += s->header_lines;
    } else if (in->offset == 0 && !s->keep_mark) {
        text = slice_from(text, encoding_mark_len(s->encoding, text));
    }
    run->raw.passed = in->text.len - text.len;
    run->raw.text = text;
    run->consumed = in->offset + run->raw.passed;
    if (in->cut && text.len == 0)
        run->consumed = in->line_end;
    run->reached = run->consumed;
    *ret_error = read_names(run->mill, header);
    return true;
}

/* Makes one text of UTF-8 lines of what there is; most often that is the input as it is. */
static int decode(struct run *run)
{
    const struct mill_input *in = run->in;
    struct buf *to = &run->mill->scratch->decoded;
    struct slice text = run->raw.text;
    bool half =
        in->last && !in->cut && (text.len == 0 ? in->whole : text.ptr[text.len - 1] != '\n');
    int r;

    if (run->mill->settings.encoding == ENCODING_UTF8 && in->carry.len == 0 && !half) {
        run->text = text;
        return 0;
    }
    buf_reset(to);
    r = buf_append(to, in->carry);
    if (r == 0)
        r = encoding_to_utf8(run->mill->settings.encoding, text, to);
    run->carry_len = run->raw.decoded = in->carry.len;
    if (r == 0 && in->last && !in->cut &&
        (to->len == 0 ? in->whole : to->ptr[to->len - 1] != '\n')) {
        run->half = true;
        r = buf_append_char(to, '\n');
    }
    run->text = buf_slice(to);
    return r == -EMSGSIZE ? -ENOMEM : r;
}

/* --- one event --- */

static void note(struct run *run, const struct recipe_result *result)
{
    run->event.notice = (struct mill_notice){
        .offset = run->event.offset,
        .mismatch = result->mismatch != NULL && run->event.cut
                        ? "is longer than a line may be that is to be parsed"
                        : result->mismatch,
        .time_mismatch = result->time_mismatch,
        .gave_up = result->gave_up,
    };
}

/* Tells what there is to tell, once it is out. */
static void tell(struct run *run)
{
    const struct mill_notice *n = &run->event.notice;

    if (run->event.fresh &&
        (n->mismatch != NULL || n->time_mismatch || n->gave_up || n->was_cut || n->key_missing))
        run->events->notice(run->events->user, n);
}

/* Whether it was not told before what becomes of the next record of the event. */
static bool is_fresh(const struct run *run)
{
    const struct mill_state *s = run->state;

    return run->event.offset > s->counted ||
           (run->event.offset == s->counted && run->index >= s->told);
}

/* It was told now, up to this record. */
static void was_told(struct run *run)
{
    if (!is_fresh(run))
        return;
    run->state->counted = run->event.offset;
    run->state->told = run->index;
}

/* Drops it, which cannot be refused, and is told once. */
static int drop(struct run *run, const struct recipe_result *result)
{
    const struct mill_piece p = {
        .offset = run->event.offset,
        .end = run->event.end,
        .verdict = RECIPE_DROP,
        .drop = result->drop,
        .reason = result->reason,
        .fields = result->fields,
        .notice = &run->event.notice,
        .events = 1,
    };

    if (run->event.fresh)
        (void)run->events->take(run->events->user, &p);
    tell(run);
    run->index++;
    return 0;
}

/* Sends the record if it is not too large: joined to others, or alone. */
static int send_fitting(struct run *run, const struct recipe_result *result)
{
    struct mill *m = run->mill;
    int r = 0;

    if (run->event.cut)
        return -EMSGSIZE;
    if (m->settings.join_bytes > 0) {
        if (!mill_group_takes(run, result->record))
            r = mill_group_close(run);
        if (r < 0)
            return r;
        if (mill_group_takes(run, result->record))
            return mill_group_add(run, result);
    }
    return mill_emit(run, result->record, RECIPE_SEND, NULL, result->fields);
}

static int send(struct run *run, const struct recipe_result *result)
{
    int r;

    run->event.notice.key_missing = mill_choose_key(run, result);
    r = send_fitting(run, result);
    if (r == -EMSGSIZE) {
        run->event.notice.was_cut = true;
        r = mill_group_close(run);
        if (r == 0 && run->in->hold_large)
            r = -EBUSY;
        if (r == 0)
            r = mill_too_large(run, result);
    }
    if (r == 0)
        tell(run);
    return r;
}

/* Only for flows that have one: copying so much for each line would be felt by those that have not. */
static int follow_recipe(struct run *run, struct slice text, bool has_newline, bool keep_newline,
                         struct recipe_result *ret)
{
    struct mill *m = run->mill;
    struct recipe_event e = {
        .text = text,
        .has_newline = has_newline,
        .keep_newline = keep_newline,
        .place = run->in->place,
        .header = m->header,
        .java = run->in->java,
    };

    e.place.offset = run->event.offset;
    return recipe_make(m->settings.recipe, &e, ret);
}

/* A text that is an event, or one of those of a region. */
static int grind_text(struct run *run, struct slice text, bool has_newline, bool keep_newline)
{
    struct mill *m = run->mill;
    struct recipe_result result = {.text = text, .record = text};
    int r = 0;

    note(run, &result);
    if (mill_in_parts(run))
        return mill_next_part(run, text);
    if (m->settings.recipe != NULL)
        r = follow_recipe(run, text, has_newline, keep_newline, &result);
    else if (m->settings.newline)
        r = mill_end_line(m, has_newline, &result.record);
    if (r < 0)
        return r;
    note(run, &result);
    switch (result.verdict) {
    case RECIPE_DROP:
        return drop(run, &result);
    case RECIPE_DEAD:
        r = mill_group_close(run);
        if (r == 0)
            r = mill_emit(run, result.record, RECIPE_DEAD, result.reason, result.fields);
        if (r == 0)
            tell(run);
        return r;
    case RECIPE_SEND:
        break;
    }
    return send(run, &result);
}

static int grind(struct run *run, struct slice text, bool has_newline, bool keep_newline)
{
    int r;

    run->event.fresh = is_fresh(run);
    r = grind_text(run, text, has_newline, keep_newline);
    if (r == 0)
        was_told(run);
    return r;
}

static int grind_region(struct run *run, struct slice text)
{
    struct mill *m = run->mill;
    struct events_region region;
    struct slice line;
    int r = 0;

    events_region_init(&region, &m->settings.events, text);
    while (r == 0) {
        int more = events_region_next(&region, m->scratch->streams, &line);

        if (more <= 0)
            return more;
        r = grind(run, line, false, true);
    }
    return r;
}

static int grind_event(struct run *run, struct slice text, bool is_last)
{
    bool half = run->half && is_last;
    bool cut = run->event.cut;
    int r;

    if (!cut)
        text.len--; /* its newline */
    run->index = 0;
    run->event.begun = true;
    if (run->mill->settings.events.cri && !cut && !run->in->whole && !mill_in_parts(run))
        r = grind_region(run, (struct slice){text.ptr, text.len + 1});
    else
        r = grind(run, text, !cut && !half, !cut && !half);
    if (r < 0)
        return r;
    run->event.begun = false;
    run->skip = 0;
    run->record_max = run->mill->settings.record_max;
    if (run->event.end > run->state->counted) {
        run->state->counted = run->event.end;
        run->state->told = 0;
    }
    return 0;
}

static uint64_t worked(const struct run *run)
{
    const uint64_t *meter = run->mill->settings.meter;

    return meter != NULL ? *meter : 0;
}

/* Counts what the patterns have worked since the meter was at `before`.  Returns whether that is
 * enough for now. */
static bool is_tired(struct run *run, uint64_t before)
{
    uint64_t work = worked(run) - before;

    run->work += work;
    run->hard += work >= MILL_HARD ? work : 0;
    return run->in->work_max > 0 && run->work >= run->in->work_max;
}

/* How many lines an event is. */
static uint32_t count_lines(const struct run *run, struct slice event)
{
    uint32_t n = 0;
    struct slice line;

    if (!run->joins || run->event.cut)
        return 1;
    while (split_next(&event, &line))
        n++;
    return n;
}

/* The event that some records are out of already, as it was then: it may have been thought whole
 * because nothing more came, and by now there may be more.  False: it is not all there. */
static bool same_event(struct run *run, size_t at, struct slice *ret)
{
    size_t end = MAX(at, run->carry_len);

    while (offset_of(run, end) < run->state->done_end || end == at) {
        struct slice rest = slice_from(run->text, end), line;

        if (!split_next(&rest, &line))
            return false;
        end += line.len + 1;
    }
    *ret = slice_first(slice_from(run->text, at), end - at);
    return true;
}

/* Takes the next event off the text.  False: it is not whole. */
static bool next_event(struct run *run, size_t at, struct slice *ret)
{
    const struct mill_input *in = run->in;
    const struct events_rules *rules = &run->mill->settings.events;
    struct slice rest = slice_from(run->text, at), line;
    size_t behind = in->behind / encoding_newline_len(run->mill->settings.encoding), len;

    run->event.cut = in->cut && at >= run->carry_len;
    *ret = rest;
    if (in->whole || run->event.cut)
        return true;
    if (run->skip > 0 && same_event(run, at, ret))
        return true;
    if (!run->joins || mill_in_parts(run)) {
        if (!split_next(&rest, &line))
            return false;
        *ret = (struct slice){line.ptr, line.len + 1};
        return true;
    }
    if (in->cut) { /* so long a line belongs to nothing */
        rest = slice_first(rest, run->carry_len - at);
        behind = in->text.len;
    } else if (run->skip > 0 && !in->flush) {
        return false;
    }
    if (!events_next(rules, rest, behind, &len)) {
        if (!in->flush && !in->cut)
            return false;
        len = rest.len;
    }
    *ret = slice_first(rest, len);
    return true;
}

/* A hole in the file is passed over, as it is by the source where a read begins with one.  Gives
 * where the text goes on. */
static size_t pass_zeros(struct run *run, size_t at)
{
    struct mill_state *state = run->state;
    enum encoding encoding = run->mill->settings.encoding;
    size_t zeros = split_zeros(slice_from(run->text, at));
    uint64_t offset;

    if (zeros == 0 || encoding_is_utf16(encoding) || run->in->cut || run->in->whole ||
        mill_in_parts(run))
        return at;
    offset = offset_of(run, at);
    at += zeros;
    if (encoding != ENCODING_UTF8) {
        run->raw.decoded = at;
        run->raw.text = slice_from(run->raw.text, zeros);
        run->raw.passed += zeros;
    }
    if (offset >= state->counted) {
        const struct mill_notice n = {.offset = offset, .zeros = zeros};

        run->events->notice(run->events->user, &n);
        state->counted = offset + zeros;
        state->told = 0;
    }
    if (run->half && at + 1 == run->text.len)
        at++; /* the newline is ours: there was no line */
    run->reached = offset + zeros;
    if (!run->group.open) {
        run->consumed = run->reached;
        run->consumed_at = at;
    }
    return at;
}

static int run_events(struct run *run)
{
    size_t at = 0;
    struct slice event;
    bool tired = false;
    int r;

    while (!tired) {
        uint64_t before = worked(run);
        uint32_t lines;

        at = pass_zeros(run, at);
        if (at == run->text.len)
            break;
        run->event.offset = offset_of(run, at);
        if (!next_event(run, at, &event)) {
            run->end = MILL_OPEN;
            run->event_open = true;
            (void)is_tired(run, before);
            break;
        }
        lines = count_lines(run, event);
        run->event.at = at;
        run->event.with_carry = at < run->carry_len;
        at += event.len;
        run->event.end = run->event.cut ? run->in->line_end : offset_of(run, at);
        r = grind_event(run, event, at == run->text.len);
        if (r < 0)
            return r;
        tired = is_tired(run, before);
        if (!run->event.cut || !mill_in_parts(run)) { /* else there is more of it */
            run->events_done++;
            run->lines_done += lines;
        }
        run->reached = run->event.end;
        if (!run->group.open) {
            run->consumed = run->reached;
            run->consumed_at = at;
            run->events_out = run->events_done;
            run->lines_out = run->lines_done;
        }
    }
    if (tired && at < run->text.len)
        run->end = MILL_TIRED;
    if (!run->group.open)
        return 0;
    /* What is joined leaves with us: made again, it would make us as tired again. */
    if (run->end != MILL_TIRED && !run->in->flush && !run->in->flush_joined) {
        run->end = MILL_OPEN;
        return 0;
    }
    r = mill_group_close(run);
    if (r == 0) {
        run->consumed = run->reached;
        run->consumed_at = at;
    }
    return r;
}

/* How much of the event at the place is out: what waits in a group is made again; and where no event
 * was come to, it is as it was. */
static void note_done(const struct run *run)
{
    struct mill_state *s = run->state;

    if (run->group.open) {
        s->done = run->group.index;
        s->done_end = run->group.first_end;
        s->measure = run->group.record_max;
    } else if (run->event.begun) {
        s->done = MAX(run->index, run->skip);
        s->done_end = run->event.end;
        s->measure = run->record_max;
    } else if (run->events_done > 0 || run->consumed > run->in->offset) {
        s->done = 0;
    }
}

size_t mill_record_max(const struct mill *m, const struct mill_state *state)
{
    return state->done > 0 ? state->measure : m->settings.record_max;
}

int mill_run(struct mill *m, const struct mill_input *in, struct mill_state *state,
             const struct mill_events *events, struct mill_report *ret)
{
    struct run run = {
        .mill = m,
        .in = in,
        .state = state,
        .events = events,
        .skip = state->done,
        .record_max = mill_record_max(m, state),
        .joins = events_join(&m->settings.events),
        .consumed = in->offset,
        .reached = in->offset,
    };
    int r = 0;

    scratch_limit(m->scratch, MAX(run.record_max, m->settings.record_max),
                  m->settings.events.max_bytes);
    if (m->settings.key == MILL_KEY_FILE)
        key_of_text(in->place.file, &m->key);
    if (!pass_header(&run, &r))
        run.end = MILL_HEADER;
    else if (r == 0 && (r = decode(&run)) == 0)
        r = run_events(&run);
    if (r == -ENOBUFS) {
        run.end = MILL_FULL;
        r = 0;
    } else if (r == -EBUSY) {
        run.end = MILL_HELD;
        r = 0;
    }
    note_done(&run);
    *ret = (struct mill_report){
        .end = run.end,
        .offset = run.consumed,
        .open = slice_from(run.text, run.consumed_at),
        .events = run.events_out,
        .lines = run.lines + run.lines_out,
        .carry_used = run.carry_len > 0 && run.consumed_at >= run.carry_len,
        .event_open = run.event_open,
        .joined_open = run.group.open,
        .work = run.work,
        .hard = run.hard,
    };
    return r;
}
