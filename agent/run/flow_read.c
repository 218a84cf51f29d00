#include "clock.h"
#include "keep/checkpoint.h"
#include "keep/dead.h"
#include "record/java.h"
#include "run/config.h"
#include "run/destination.h"
#include "run/flow_inner.h"
#include "run/outfit.h"
#include "run/patience.h"
#include "ship/imds.h"
#include "tail/follower.h"
#include "util.h"

#include <errno.h>
#include <stdlib.h>

enum {
    FLOW_QUANTUM = 512 * 1024, /* bytes read in a turn; then the network has its turn */
    FLOW_VISIT_MIN = 4 * 1024, /* … and what a look costs that finds nothing */
    FLOW_HEADER_MAX = 64 * 1024,
    FLOW_ASK_AGAIN_MS = 50,
    FLOW_WORK_MAX = 40000, /* of patterns in a visit, in units of pattern_work: a millisecond; … */
    FLOW_WORK_BYTES = 8,   /* … and what one is worth in bytes, of which each takes some 3 ns */
};

/* Where records of one source go in one visit. */
struct visit {
    struct tracked *tracked;
    const struct source_chunk *chunk;
    struct extent *extent;
    uint64_t fill, offset; /* everything before `offset` is out */
};

static struct cursor visit_cursor(const struct visit *v)
{
    return source_cursor(v->tracked->source, v->tracked->flow->place.reader, v->chunk, v->offset);
}

void flow_news(void *user, struct source *s)
{
    struct flow *f = user;
    struct tracked *t = s->user;

    if (list_is_empty(&t->ready))
        list_append(&f->ready, &t->ready);
    if (f->started)
        loop_want_turn(f->place.loop, &f->turn);
}

void flow_forget_place(struct tracked *t)
{
    t->mill = (struct mill_state){0};
    t->at = t->source->at.offset;
    t->want = 0;
    t->parted = false;
    flow_release_line(t);
    flow_wait_no_more(t);
}

static void flow_notice(void *user, const struct mill_notice *n)
{
    const struct visit *v = user;

    flow_say_notice(v->tracked, n);
}

/* The extent of the next record, which goes into filling `fill`. */
static struct extent *visit_extent(struct visit *v, uint64_t fill)
{
    struct tracked *t = v->tracked;

    if (v->extent == NULL || v->fill != fill) {
        /* What went into the batch before ends here, so that its settling counts up to here. */
        if (v->extent != NULL)
            (void)ledger_advance(&t->ledger, visit_cursor(v));
        v->extent = ledger_extent(&t->ledger, &t->flow->pool, fill);
        v->fill = fill;
    }
    return v->extent;
}

/* Sets one record aside, if there is room; it is settled when that is durable. */
static bool flow_set_aside(struct visit *v, const struct mill_piece *p)
{
    struct tracked *t = v->tracked;
    struct flow *f = t->flow;
    const struct clock *clock = loop_clock(f->place.loop);
    const struct dead_letter letter = {
        .wall_ms = clock->wall_ms(clock),
        .flow = slice_of(f->config->name),
        .file = slice_of(t->source->path),
        .offset = p->offset,
        .end = p->end,
        .reason = slice_of(p->reason),
        .record = p->record,
        .unredacted = recipe_reason_is_unredacted(slice_of(p->reason)),
        .cut = p->cut,
    };
    struct extent *e = visit_extent(v, f->fills--);

    extent_out(e);
    if (p->with_carry)
        e->partner = t->carry->held;
    if (!morgue_put(f->place.destination->morgue, &letter, &f->dead, e)) {
        e->partner = NULL;
        (void)ledger_settle(&f->pool, e, 1); /* it never was out */
        v->extent = NULL;
        f->full = true;
        return false;
    }
    if (p->with_carry)
        extent_out(e->partner);
    f->stats.dead++;
    return true;
}

/* Puts one record into a batch, if there is room. */
static bool flow_take(void *user, const struct mill_piece *p)
{
    struct visit *v = user;
    struct tracked *t = v->tracked;
    struct flow *f = t->flow;
    struct batch_key key;
    struct extent *e;
    struct batch *b;

    v->offset = p->offset;
    if (p->verdict == RECIPE_DROP) {
        f->stats.dropped[p->drop]++;
        return true;
    }
    if (p->verdict == RECIPE_DEAD)
        return flow_set_aside(v, p);
    key = (struct batch_key){key_json(p->key), (uint32_t)p->key->len}; /* others have none */
    b = deliver_room(f->deliver, p->record.len, key);
    if (b == NULL) {
        f->full = true;
        return false;
    }
    /* A record that another file's lines are in too has an extent of its own, in both. */
    e = visit_extent(v, p->with_carry ? f->fills-- : b->fill);
    if (p->with_carry) {
        e->partner = t->carry->held;
        extent_out(e->partner);
    }
    deliver_add(f->deliver, b, p->record, key, e,
                (struct batch_origin){.offset = p->offset, .end = p->end});
    extent_out(e);
    return true;
}

/* --- a visit --- */

/* Ends a visit: what was taken is taken for good. */
static uint64_t flow_end_visit(struct flow *f, struct visit *v)
{
    struct source *s = v->tracked->source;
    uint64_t taken = v->offset - s->at.offset;
    struct cursor end = visit_cursor(v);

    deliver_added(f->deliver);
    if (taken == 0)
        return 0;
    f->stats.bytes_read += taken;
    source_move(s, end);
    v->tracked->at = end.offset;
    if (ledger_advance(&v->tracked->ledger, end)) {
        checkpoint_note(f->place.checkpoint, v->tracked->slot, v->tracked->ledger.settled);
        f->place.noted(f->place.user);
    }
    follower_was_read(f->follower, s);
    return taken;
}

/* How many bytes the first lines of a file are that are its header; all of them, if it is longer. */
static size_t header_len(const struct flow *f, struct slice text)
{
    enum encoding e = (enum encoding)f->config->encoding;
    struct slice rest = text;

    for (uint32_t n = f->config->skip_header_lines + 1; n > 0; n--) {
        const char *newline = encoding_find_newline(e, rest);

        if (newline == NULL)
            return text.len;
        rest = slice_from(rest, (size_t)(newline - rest.ptr) + encoding_newline_len(e));
    }
    return text.len - rest.len;
}

/* Sees to it that the first lines are there of a file that is read from further on, if they are
 * needed; each file keeps its own.  Errors: -ENOMEM; source_read_head's. */
static int flow_load_header(struct flow *f, struct tracked *t)
{
    char *text;
    ssize_t n;

    if (!outfit_wants_header(f->outfit) || t->source->at.offset == 0 || t->header != NULL ||
        t->source->fd < 0)
        return 0;
    text = malloc(FLOW_HEADER_MAX);
    if (text == NULL)
        return -ENOMEM;
    n = source_read_head(t->source, f->place.reader, text, FLOW_HEADER_MAX);
    if (n < 0) {
        free(text);
        return (int)n;
    }
    t->header_len = header_len(f, (struct slice){text, (size_t)n});
    t->header = realloc(text, MAX(t->header_len, (size_t)1));
    if (t->header == NULL)
        t->header = text; /* as long as it was */
    return 0;
}

/* Whether this source gets no more lines, as far as anybody knows: its file was rotated away. */
static bool is_rotated(const struct source *s)
{
    return s->before != NULL || list_is_empty(&s->names);
}

/* What is to be ground: what was read, and what is known of it. */
static struct mill_input flow_input(struct flow *f, struct tracked *t, const struct source_chunk *c,
                                    enum source_news news)
{
    const struct clock *clock = loop_clock(f->place.loop);
    struct source *s = t->source;
    bool cut = c->end > s->at.offset + c->text.len && (news == SOURCE_LONG || news == SOURCE_HALF);
    bool last = !cut && s->ending && c->at_eof;
    bool leaves = f->draining && c->at_eof && flow_carry_must_leave(t);
    bool due = flow_is_due(t, c->end + c->behind);
    size_t most = f->place.reader->line_max; /* more cannot be seen at once */
    struct mill_input in = {
        .text = c->text,
        .offset = s->at.offset,
        .behind = c->behind,
        .last = last,
        .flush = last || leaves || due || (!c->at_eof && t->want > most),
        .flush_joined = (!c->at_eof && t->want >= most) || is_rotated(s) || flow_joined_is_due(t),
        .cut = cut,
        .line_end = c->end,
        .unended = news == SOURCE_HALF,
        .header = {t->header, t->header_len},
        .place = {.file = slice_of(s->path), .now_ms = clock->wall_ms(clock)},
    };

    if (last && news == SOURCE_LINES)
        in.text.len += c->behind; /* what stands behind the last newline belongs to the event */
    if (t->at_header && in.flush && !last)
        in.text.len = in.behind = 0; /* the carry leaves; what will be the header stays */
    if (t->parted && t->parted_end <= s->at.offset + in.text.len) {
        in.text.len = (size_t)(t->parted_end - s->at.offset);
        in.behind = 0;
        in.flush = true;
    }
    if (t->carry != NULL)
        in.carry = buf_slice(&t->carry->text);
    return in;
}

/* The mill has left some of what there is: it may be whole with more of the file in view; with all
 * of it in view, it waits for more, or goes on in the next file. */
static void flow_left_open(struct flow *f, struct visit *v, const struct mill_report *report,
                           const struct cursor *end, bool moved)
{
    struct tracked *t = v->tracked;
    struct source *s = t->source;
    const struct source_chunk *c = v->chunk;
    size_t seen = c->text.len + c->behind;

    if (!c->at_eof) {
        size_t most = f->place.reader->line_max;

        /* First what is joined leaves, if more cannot be seen at once; and only then the event. */
        if (!moved)
            t->want = t->want < most ? MIN(2 * MAX(seen, (size_t)FLOW_VISIT_MIN), most) : most + 1;
        return;
    }
    list_remove(&t->ready);
    source_saw_end(s, end->offset + c->behind);
    if (report->event_open && c->behind == 0 && s->before != NULL &&
        flow_hand_over(t, report->open, *end)) {
        follower_at_end(f->follower, s);
        return;
    }
    flow_wait(t, report, end->offset + c->behind);

    /* A file that was rotated is not done with while its last event may go on in the next one. */
    if (!is_rotated(s) || !report->event_open)
        follower_at_end(f->follower, s);
}

/* What it was like for us decides when we have our next turn. */
static void flow_feel(struct flow *f, const struct mill_report *report)
{
    uint64_t now_ms = loop_now_ms(f->place.loop);

    if (report->hard > 0)
        f->stands_back_ms = patience_hard(f->place.patience, f, report->hard, now_ms);
    else
        patience_ordinary(f->place.patience, f, now_ms);
}

/* While a long line is sent in parts the checkpoint stays before it: whoever begins in the middle of
 * it would take the rest for another line, and nobody could put the parts together. */
static void flow_hold_line(struct tracked *t)
{
    struct flow *f = t->flow;

    if (t->line_held != NULL || f->config->on_oversize != CONFIG_OVERSIZE_SPLIT ||
        f->carry_count >= FLOW_CARRIES)
        return;
    t->line_held = ledger_extent(&t->ledger, &f->pool, f->fills--);
    extent_out(t->line_held);
    f->carry_count++;
}

void flow_release_line(struct tracked *t)
{
    struct extent *held = t->line_held;

    if (held == NULL)
        return;
    t->line_held = NULL;
    t->flow->carry_count--;
    flow_settled(t->flow, held, 1);
}

/* What the source says becomes records.  Returns how many bytes that was worth. */
static uint64_t flow_grind(struct flow *f, struct visit *v, enum source_news news)
{
    const struct mill_events events = {flow_take, flow_notice, v};
    struct tracked *t = v->tracked;
    struct java_context java = {0};
    struct mill_report report;
    struct mill_input in;
    struct cursor end = {0};
    uint64_t taken;
    bool left_open, moved;
    int r;

    if (t->at != t->source->at.offset)
        flow_forget_place(t);
    r = flow_load_header(f, t);
    if (r < 0) {
        if (r != -EAGAIN) /* of a compressed file it takes more than one call */
            flow_say_unreadable(f, t->source, r);
        flow_try_again(t);
        return 0;
    }
    in = flow_input(f, t, v->chunk, news);
    in.hold_large = flow_limit_may_rise(f);
    t->held = false;
    if (in.cut)
        flow_hold_line(t);
    if (f->wants_ec2)
        in.place.ec2 = java.ec2 = imds_get(f->place.imds);
    java.wall_ms = in.place.now_ms;
    in.java = &java;
    in.work_max = FLOW_WORK_MAX;
    r = mill_run(f->mill, &in, &t->mill, &events, &report);
    f->stats.lines_read += report.lines;
    f->stats.half_lines += news == SOURCE_HALF && report.offset > in.offset;
    left_open = r == 0 && (report.end == MILL_OPEN || report.end == MILL_HEADER);
    if (left_open) {
        v->offset = in.offset + v->chunk->text.len;
        end = visit_cursor(v); /* before the source moves */
    }
    v->offset = report.offset;
    taken = flow_end_visit(f, v);
    if (t->mill.line_parts == 0 && report.end != MILL_FULL)
        flow_release_line(t);
    if (report.carry_used)
        flow_carry_done(t);
    moved = taken > 0 || report.carry_used;
    if (moved)
        t->want = 0;
    t->parted =
        (report.end == MILL_FULL || report.end == MILL_HELD) && in.flush && t->mill.done > 0;
    t->parted_end = in.offset + in.text.len;
    if (r < 0) {
        flow_say_unreadable(f, t->source, r);
        flow_try_again(t);
    } else if (left_open) {
        flow_left_open(f, v, &report, &end, moved);
    } else if ((report.end != MILL_FULL && report.end != MILL_HELD) || moved) {
        flow_wait_no_more(t); /* but what was due and found no room still is */
    }
    if (report.end == MILL_HELD) {
        t->held = true;
        flow_try_again(t);
    }
    flow_feel(f, &report);
    return MAX(taken, FLOW_WORK_BYTES * report.work);
}

/* Lets one source speak.  Returns how many bytes that was worth. */
static uint64_t flow_visit(struct flow *f, struct tracked *t)
{
    struct source *s = t->source;
    struct source_chunk chunk;
    struct visit v = {.tracked = t, .chunk = &chunk, .offset = s->at.offset};
    bool must_leave;
    int news;

    /* The one that it waits for has an event that may go on here. */
    if (s->after != NULL && s->after->user != NULL && ((struct tracked *)s->after->user)->open)
        flow_news(f, s->after);
    must_leave = f->draining && flow_carry_must_leave(t);
    if ((f->draining && !s->ending && !must_leave) || follower_must_wait(s))
        return 0;
    if (follower_open(f->follower, s) < 0) {
        if (t->carry == NULL || (!s->ending && !must_leave))
            return 0;
        chunk = (struct source_chunk){.end = s->at.offset, .at_eof = true};
        list_append(&f->ready, &t->ready); /* until there is room for it */
        return flow_grind(f, &v, SOURCE_END);
    }
    reader_limit(f->place.reader, flow_line_max(f, t));
    news = source_read(s, f->place.reader, s->ending, MAX(t->want, f->want), &chunk);
    thrift_saw(f->place.thrift, chunk.text.len + chunk.behind);
    switch (news) {
    case SOURCE_END:
        if (t->carry != NULL) {
            list_append(&f->ready, &t->ready);
            return flow_grind(f, &v, SOURCE_END);
        }
        follower_at_end(f->follower, s);
        return 0;
    case SOURCE_MORE:
        list_append(&f->ready, &t->ready);
        return FLOW_QUANTUM;
    case SOURCE_LINES:
    case SOURCE_LONG:
    case SOURCE_HALF:
        break;
    case SOURCE_ZEROS:
        flow_notice(
            &v, &(struct mill_notice){.offset = v.offset, .zeros = (size_t)(chunk.end - v.offset)});
        v.offset = chunk.end;
        flow_release_line(t);
        list_append(&f->ready, &t->ready);
        return flow_end_visit(f, &v);
    case -ESTALE:
        follower_stale(f->follower, s);
        return 0;
    case -EBADMSG:
    case -EOVERFLOW:
    case -ENOTSUP:
        if (s->packed != UNPACK_NONE) {
            follower_damaged(f->follower, s);
            return 0;
        }
        /* fall through */
    default:
        flow_say_unreadable(f, s, news);
        follower_unreadable(f->follower, s);
        return 0;
    }
    list_append(&f->ready, &t->ready); /* until it has said that there is no more */
    return flow_grind(f, &v, (enum source_news)news);
}

/* Who is read next: whoever waits for longest; in a rescue, of the deleted ones alone. */
static struct list *flow_next(struct flow *f)
{
    if (!f->rescuing)
        return list_take(&f->ready);
    LIST_EACH(&f->ready, node, after)
    {
        if (list_is_empty(&CONTAINER_OF(node, struct tracked, ready)->source->names)) {
            list_remove(node);
            return node;
        }
    }
    return NULL;
}

void flow_turn(struct loop_turn *turn)
{
    struct flow *f = CONTAINER_OF(turn, struct flow, turn);

    /* Records are to have the instance's metadata, from the first one on, if they can be had. */
    if (f->wants_ec2 && !imds_has_tried(f->place.imds)) {
        loop_timer_set(f->place.loop, &f->ask_again,
                       loop_now_ms(f->place.loop) + FLOW_ASK_AGAIN_MS);
        return;
    }
    for (uint64_t spent = 0, read; spent < FLOW_QUANTUM;) {
        struct list *node;

        if (list_is_empty(&f->ready))
            return;
        if (!deliver_has_room(f->deliver))
            return; /* flow_room comes */
        if (f->stands_back_ms > loop_now_ms(f->place.loop) && !f->draining) {
            loop_timer_set(f->place.loop, &f->ask_again, f->stands_back_ms);
            return;
        }
        node = flow_next(f);
        if (node == NULL)
            return; /* the rescue's end comes */
        f->full = false;
        read = flow_visit(f, CONTAINER_OF(node, struct tracked, ready));
        spent += MAX(read, (uint64_t)FLOW_VISIT_MIN);

        /* There may be room, but not for the next record: asking again would be asking for ever. */
        if (f->full)
            return; /* flow_room comes */
    }
    if (!list_is_empty(&f->ready))
        loop_want_turn(f->place.loop, &f->turn);
}
