#include "run/flow.h"

#include "keep/checkpoint.h"
#include "keep/ledger.h"
#include "record/key.h"
#include "record/split.h"
#include "run/config.h"
#include "run/log.h"
#include "run/loop.h"
#include "tail/follower.h"
#include "utf8.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

enum {
    FLOW_QUANTUM = 512 * 1024, /* bytes read in a turn; then the network has its turn */
    FLOW_VISIT_MIN = 4 * 1024, /* … and what a look costs that finds nothing */
    FLOW_SAY_EVERY_MS = 60 * 1000,
};

/* A source of this flow, with its way back. */
struct tracked {
    struct flow *flow;
    struct source *source;
    struct ledger ledger;
    struct checkpoint_slot *slot;
    struct list all;   /* in flow.tracked */
    struct list ready; /* in flow.ready, or alone */
};

struct flow {
    const struct config_flow *config;
    struct flow_place place;
    const struct service *service;
    struct deliver *deliver;
    struct follower *follower;
    struct follower_past *past; /* owns; lent to the follower */
    struct ledger_pool pool;
    size_t past_count;
    struct buf past_paths; /* what their paths are in */
    struct list tracked, ready;
    struct loop_turn turn;
    struct flow_stats stats;
    struct buf key; /* the constant key, or the last file's, as a JSON string */
    const struct source *key_source;
    size_t key_len;
    struct buf cut; /* scratch for a line that is cut */
    struct log_limit cut_said, read_said, zeros_said;
    bool started, draining, full;
};

/* --- the way out: news, reading, records --- */

static void flow_news(void *user, struct source *s)
{
    struct flow *f = user;
    struct tracked *t = s->user;

    if (list_is_empty(&t->ready))
        list_append(&f->ready, &t->ready);
    if (f->started)
        loop_want_turn(f->place.loop, &f->turn);
}

/* The key of the next record of `s`; `random` is memory for it. */
static struct batch_key flow_key(struct flow *f, const struct source *s,
                                 char random[KEY_RANDOM_LEN + 2])
{
    if (f->config->key_kind == CONFIG_KEY_RANDOM) {
        key_random(f->place.random, random);
        return (struct batch_key){{random, KEY_RANDOM_LEN + 2}, KEY_RANDOM_LEN};
    }
    if (f->config->key_kind == CONFIG_KEY_FILE && f->key_source != s) {
        buf_reset(&f->key);
        if (key_of_text(slice_of(s->path), &f->key, &f->key_len) < 0) {
            /* Out of memory for a moment: a random key does no harm. */
            f->key_source = NULL;
            key_random(f->place.random, random);
            return (struct batch_key){{random, KEY_RANDOM_LEN + 2}, KEY_RANDOM_LEN};
        }
        f->key_source = s;
    }
    return (struct batch_key){buf_slice(&f->key), (uint32_t)f->key_len};
}

/* The record of a line that is too long for one: its beginning, and a word that says so. */
static struct slice flow_cut(struct flow *f, const struct source *s, struct slice line, size_t max)
{
    struct slice suffix = slice_of(f->config->truncated_suffix);
    size_t tail = suffix.len + (f->config->newline == CONFIG_NEWLINE_TRUE);
    uint64_t held;

    f->stats.lines_cut++;
    if (log_limit_pass(&f->cut_said, loop_now_ms(f->place.loop), FLOW_SAY_EVERY_MS, &held))
        log_warn(
            "flow %s: '%s': a line is longer than a record may be (%zu bytes); cut, and marked "
            "with truncated_suffix; %llu more before this one",
            f->config->name, s->path, max, (unsigned long long)held);
    buf_reset(&f->cut);
    if (buf_append(&f->cut, slice_first(line, utf8_cut(line, max - tail))) < 0 ||
        buf_append(&f->cut, suffix) < 0 ||
        (f->config->newline == CONFIG_NEWLINE_TRUE && buf_append_char(&f->cut, '\n') < 0)) {
        /* No memory for the copy: then without the mark. */
        return slice_first(line, max);
    }
    return buf_slice(&f->cut);
}

/* Where records of one source go in one visit. */
struct visit {
    struct tracked *tracked;
    const struct source_chunk *chunk;
    struct extent *extent;
    uint64_t fill, offset; /* lines before `offset` are out */
};

static struct cursor visit_cursor(const struct visit *v)
{
    return source_cursor(v->tracked->source, v->tracked->flow->place.reader, v->chunk, v->offset);
}

/* Puts one record into a batch, if there is room. */
static bool flow_put(struct flow *f, struct visit *v, struct slice data)
{
    char random[KEY_RANDOM_LEN + 2];
    struct batch_key key = flow_key(f, v->tracked->source, random);
    size_t max = f->service->record_max - key.len;
    struct batch *b = deliver_room(f->deliver, MIN(data.len, max), key.len);

    if (b == NULL) {
        f->full = true;
        return false;
    }
    if (v->extent == NULL || v->fill != b->fill) {
        /* What went into the batch before ends here, so that its settling counts up to here. */
        if (v->extent != NULL)
            (void)ledger_advance(&v->tracked->ledger, visit_cursor(v));
        v->extent = ledger_extent(&v->tracked->ledger, &f->pool, b->fill);
        v->fill = b->fill;
    }
    if (data.len > max)
        data = flow_cut(f, v->tracked->source, data, max);
    batch_add(b, data, key, v->extent);
    extent_out(v->extent);
    f->stats.lines_read++;
    return true;
}

/* Zeros that a hole in the file has left; no text of anybody's. */
static void flow_pass_zeros(struct flow *f, const struct source *s, uint64_t count)
{
    uint64_t held;

    f->stats.zero_bytes += count;
    if (log_limit_pass(&f->zeros_said, loop_now_ms(f->place.loop), FLOW_SAY_EVERY_MS, &held))
        log_info("flow %s: '%s': passed over %llu zero bytes: its writer does not append "
                 "(O_APPEND), so that truncating leaves a hole",
                 f->config->name, s->path, (unsigned long long)count);
}

/* Turns a chunk's lines into records until it ends or the batches are full. */
static void flow_take_lines(struct flow *f, struct visit *v)
{
    struct slice in = v->chunk->text, line;

    while (split_next(&in, &line)) {
        size_t zeros = split_zeros(line);
        size_t newline = f->config->newline == CONFIG_NEWLINE_TRUE;
        struct slice data = {line.ptr + zeros, line.len - zeros + newline};

        if (!flow_put(f, v, data))
            return;
        if (zeros > 0)
            flow_pass_zeros(f, v->tracked->source, zeros);
        v->offset += line.len + 1;
    }
}

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
    if (ledger_advance(&v->tracked->ledger, end)) {
        checkpoint_note(f->place.checkpoint, v->tracked->slot, v->tracked->ledger.settled);
        f->place.noted(f->place.user);
    }
    follower_was_read(f->follower, s);
    return taken;
}

static void flow_say_unreadable(struct flow *f, const struct source *s, int error)
{
    uint64_t held;

    if (log_limit_pass(&f->read_said, loop_now_ms(f->place.loop), FLOW_SAY_EVERY_MS, &held))
        log_error("flow %s: '%s': cannot be read: %s; trying again when it changes, and every "
                  "minute",
                  f->config->name, s->path, strerrordesc_np(-error));
}

/* Lets one source speak.  Returns how many bytes that was worth. */
static uint64_t flow_visit(struct flow *f, struct tracked *t)
{
    struct source *s = t->source;
    struct source_chunk chunk;
    struct visit v = {.tracked = t, .chunk = &chunk, .offset = s->at.offset};
    int news;

    if ((f->draining && !s->ending) || follower_must_wait(s) || follower_open(f->follower, s) < 0)
        return 0;
    news = source_read(s, f->place.reader, s->ending, 0, &chunk);
    switch (news) {
    case SOURCE_END:
        follower_at_end(f->follower, s);
        return 0;
    case SOURCE_MORE:
        list_append(&f->ready, &t->ready);
        return FLOW_QUANTUM;
    case SOURCE_LINES:
        flow_take_lines(f, &v);
        break;
    case SOURCE_LONG:
        if (flow_put(f, &v, chunk.text))
            v.offset = chunk.end;
        break;
    case SOURCE_ZEROS:
        flow_pass_zeros(f, s, chunk.end - v.offset);
        v.offset = chunk.end;
        break;
    case SOURCE_HALF:
        if (flow_put(f, &v, chunk.text)) {
            f->stats.half_lines++;
            v.offset = chunk.end;
        }
        break;
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
    return flow_end_visit(f, &v);
}

static void flow_turn(struct loop_turn *turn)
{
    struct flow *f = CONTAINER_OF(turn, struct flow, turn);

    for (uint64_t spent = 0, read; spent < FLOW_QUANTUM;) {
        struct list *node;

        if (list_is_empty(&f->ready))
            return;
        if (!deliver_has_room(f->deliver))
            return; /* flow_room comes */
        node = list_take(&f->ready);
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

/* --- the way back: settled, noted --- */

static void flow_settled(void *user, void *owner, uint32_t count)
{
    struct flow *f = user;
    struct extent *e = owner;
    struct tracked *t = e->ledger->owner;

    if (!ledger_settle(&f->pool, e, count))
        return;
    checkpoint_note(f->place.checkpoint, t->slot, t->ledger.settled);
    f->place.noted(f->place.user);
}

static void flow_room(void *user)
{
    struct flow *f = user;

    loop_want_turn(f->place.loop, &f->turn);
}

/* --- what the follower tells --- */

static int flow_met(void *user, struct source *s, void *slot)
{
    struct flow *f = user;
    struct tracked *t = calloc(1, sizeof *t);
    int r;

    if (t == NULL)
        return -ENOMEM;
    t->flow = f;
    t->source = s;
    t->slot = slot;
    list_init(&t->ready);
    if (slot == NULL) {
        r = checkpoint_join(f->place.checkpoint, slice_of(f->config->name), slice_of(s->path),
                            &s->id, s->at, &t->slot);
        if (r < 0) {
            free(t);
            return r;
        }
        f->place.noted(f->place.user);
    }
    ledger_init(&t->ledger, s->at, t);
    list_init(&t->all);
    list_append(&f->tracked, &t->all);
    s->user = t;
    return 0;
}

static void flow_changed(void *user, struct source *s)
{
    struct flow *f = user;
    struct tracked *t = s->user;

    if (f->key_source == s)
        f->key_source = NULL;
    if (checkpoint_describe(f->place.checkpoint, t->slot, slice_of(s->path), &s->id) < 0)
        log_error("flow %s: '%s': out of memory; may be read again after a restart",
                  f->config->name, s->path);
    f->place.noted(f->place.user);
}

/* The place went back a line or two. */
static void flow_moved(void *user, struct source *s)
{
    struct flow *f = user;
    struct tracked *t = s->user;

    if (!ledger_back(&t->ledger, s->at))
        return;
    checkpoint_note(f->place.checkpoint, t->slot, s->at);
    f->place.noted(f->place.user);
}

static bool flow_is_settled(void *user, struct source *s)
{
    const struct tracked *t = s->user;

    (void)user;
    return ledger_is_empty(&t->ledger);
}

static struct cursor flow_settled_place(void *user, struct source *s)
{
    const struct tracked *t = s->user;

    (void)user;
    return t->ledger.settled;
}

static void flow_left(void *user, struct source *s)
{
    struct flow *f = user;
    struct tracked *t = s->user;

    if (f->key_source == s)
        f->key_source = NULL;
    checkpoint_leave(f->place.checkpoint, t->slot);
    f->place.noted(f->place.user);
    list_remove(&t->all);
    list_remove(&t->ready);
    free(t);
    s->user = NULL;
}

/* A quiet source is forgotten but for its place. */
static void *flow_rest(void *user, struct source *s)
{
    struct flow *f = user;
    struct tracked *t = s->user;
    void *slot = t->slot;

    if (!list_is_empty(&t->ready))
        return NULL;
    if (f->key_source == s)
        f->key_source = NULL;
    list_remove(&t->all);
    free(t);
    s->user = NULL;
    return slot;
}

static void flow_recall(void *user, void *slot, struct source_id *ret_id, struct cursor *ret_at)
{
    (void)user;
    *ret_id = *checkpoint_id(slot);
    *ret_at = checkpoint_cursor(slot);
}

static void flow_lost(void *user, void *slot)
{
    struct flow *f = user;

    checkpoint_leave(f->place.checkpoint, slot);
    f->place.noted(f->place.user);
}

/* --- life --- */

static int flow_new_deliver(struct flow *f)
{
    const struct config_flow *c = f->config;
    const struct deliver_settings settings = {
        .flow = c->name,
        .stream = c->stream != NULL ? c->stream : c->stream_arn,
        .stream_name = slice_of(c->stream),
        .stream_arn = slice_of(c->stream_arn),
        .service = f->service,
        .limits = {MIN(c->batch_records, f->service->records_max),
                   MIN(c->batch_bytes, f->service->bytes_max), KEY_JSON_MAX},
        .linger_ms = (uint32_t)c->batch_linger_ms,
        .in_flight_max = c->max_in_flight,
    };
    const struct deliver_events events = {flow_settled, flow_room, f};

    return deliver_new(f->place.loop, f->place.random, f->place.client, &settings, &events,
                       &f->deliver);
}

static void flow_free_past(struct flow *f)
{
    free(f->past);
    f->past = NULL;
    f->past_count = 0;
    buf_done(&f->past_paths);
}

/* What the checkpoint knows of this flow's sources.  The paths are copied: a slot's changes when its
 * file is called otherwise, but what it was called then is what we search by. */
static int flow_gather_past(struct flow *f)
{
    struct checkpoint *c = f->place.checkpoint;
    struct slice name = slice_of(f->config->name);
    struct checkpoint_slot *s = NULL;
    size_t count = 0, at = 0;

    buf_init(&f->past_paths, SIZE_MAX);
    while ((s = checkpoint_next(c, s)) != NULL) {
        char text[PATH_MAX];

        if (!slice_equal(checkpoint_flow(s), name))
            continue;
        count++;
        if (buf_append(&f->past_paths, checkpoint_path(s, text)) < 0)
            return -ENOMEM;
    }
    f->past = calloc(MAX(count, (size_t)1), sizeof(*f->past));
    if (f->past == NULL)
        return -ENOMEM;
    while ((s = checkpoint_next(c, s)) != NULL) {
        char text[PATH_MAX];
        struct slice path;

        if (!slice_equal(checkpoint_flow(s), name))
            continue;
        path = checkpoint_path(s, text);
        path.ptr = f->past_paths.ptr + at;
        at += path.len;
        f->past[f->past_count++] = (struct follower_past){
            .id = *checkpoint_id(s),
            .at = checkpoint_cursor(s),
            .path = path,
            .slot = s,
        };
    }
    return 0;
}

static int flow_new_follower(struct flow *f)
{
    const struct config_flow *c = f->config;
    const struct checkpoint_report *report = f->place.report;
    const struct follower_settings settings = {
        .roster = {.flow = c->name,
                   .files = c->files.items,
                   .file_count = c->files.count,
                   .exclude = c->exclude.items,
                   .exclude_count = c->exclude.count,
                   .follow_symlinks = c->follow_symlinks,
                   .own = f->place.own},
        .rotated = c->rotated.items,
        .rotated_count = c->rotated.count,
        .follow_hard_links = c->follow_hard_links,
        .held_limit = c->held_limit,
        .from_start = c->from_start,
        .known = checkpoint_knows_flow(f->place.checkpoint, slice_of(c->name)),
        .alive_ns = report->written_ns,
        .began_ns = f->place.began_ns,
        .all_new = report->damaged > 0 || report->moved_aside > 0,
    };
    const struct follower_events events = {
        flow_met,   flow_news, flow_changed, flow_is_settled, flow_settled_place,
        flow_moved, flow_left, flow_lost,    flow_rest,       flow_recall,
        f};
    int r = flow_gather_past(f);

    if (r < 0)
        return r;
    return follower_new(f->place.loop, f->place.watch, f->place.digest, f->place.descriptors,
                        &settings, &events, f->past, f->past_count, &f->follower);
}

int flow_new(const struct config_flow *config, const struct service *service,
             const struct flow_place *place, struct flow **ret)
{
    struct flow *f = calloc(1, sizeof *f);
    size_t batches = config->max_in_flight + DELIVER_SPARE_BATCHES;
    int r;

    if (f == NULL)
        return -ENOMEM;
    f->config = config;
    f->service = service;
    f->place = *place;
    list_init(&f->tracked);
    list_init(&f->ready);
    loop_turn_init(&f->turn, flow_turn);
    buf_init(&f->key, 2 + 6 * (size_t)PATH_MAX); /* a path escaped whole, before it is cut */
    buf_init(&f->cut, service->record_max);
    r = ledger_pool_init(&f->pool, batches * MIN(config->batch_records, service->records_max));
    if (r == 0 && config->key_kind == CONFIG_KEY_CONST)
        r = key_of_text(slice_of(config->key_text), &f->key, &f->key_len);
    if (r == 0)
        r = flow_new_deliver(f);
    if (r == 0)
        r = flow_new_follower(f);
    if (r < 0)
        flow_free(f);
    else
        *ret = f;
    return r;
}

void flow_free(struct flow *f)
{
    if (f == NULL)
        return;
    deliver_free(f->deliver);
    follower_free(f->follower);
    for (struct list *n; (n = list_take(&f->tracked)) != NULL;)
        free(CONTAINER_OF(n, struct tracked, all));
    flow_free_past(f);
    loop_turn_cancel(&f->turn);
    ledger_pool_done(&f->pool);
    buf_done(&f->key);
    buf_done(&f->cut);
    free(f);
}

void flow_start(struct flow *f)
{
    follower_start(f->follower);
    if (follower_forget_past(f->follower))
        flow_free_past(f);
    if (checkpoint_add_flow(f->place.checkpoint, slice_of(f->config->name)) < 0)
        log_error("flow %s: out of memory", f->config->name);
    f->place.noted(f->place.user);
    f->started = true;
    if (!list_is_empty(&f->ready))
        loop_want_turn(f->place.loop, &f->turn);
}

void flow_drain(struct flow *f)
{
    f->draining = true;
    follower_hurry(f->follower);
    deliver_hurry(f->deliver);
}

void flow_finish(struct flow *f)
{
    follower_finish(f->follower);
}

bool flow_is_drained(const struct flow *f)
{
    return deliver_is_idle(f->deliver) && follower_is_hurried(f->follower);
}

const char *flow_name(const struct flow *f)
{
    return f->config->name;
}

size_t flow_file_count(const struct flow *f)
{
    return follower_count(f->follower);
}

uint64_t flow_pending(const struct flow *f)
{
    return deliver_pending(f->deliver);
}

const struct flow_stats *flow_stats(const struct flow *f)
{
    return &f->stats;
}

const struct deliver_stats *flow_deliver_stats(const struct flow *f)
{
    return deliver_stats(f->deliver);
}
