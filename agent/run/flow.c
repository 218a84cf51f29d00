#include "run/flow.h"

#include "keep/checkpoint.h"
#include "run/config.h"
#include "run/destination.h"
#include "run/flow_inner.h"
#include "run/outfit.h"
#include "ship/imds.h"
#include "tail/follower.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/* --- the way back: settled, noted --- */

/* `count` records of `e` are settled.  Gives the partner, if nothing of `e` is left. */
static struct extent *settle(struct flow *f, struct extent *e, uint32_t count)
{
    struct extent *partner = e->waiting == count ? e->partner : NULL;
    struct tracked *t = e->ledger->owner;

    if (ledger_settle(&f->pool, e, count)) {
        checkpoint_note(f->place.checkpoint, t->slot, t->ledger.settled);
        f->place.noted(f->place.user);
    }
    return partner;
}

void flow_let_go(struct flow *f, struct extent *held)
{
    while (held != NULL) {
        f->carry_count -= held->waiting == 1;
        held = settle(f, held, 1);
    }
    flow_carry_again(f);
}

void flow_settled(void *user, void *owner, uint32_t count)
{
    struct extent *partner = settle(user, owner, count);

    if (partner != NULL)
        flow_let_go(user, partner); /* the lines of another file are in the record too */
}

static void flow_room(void *user)
{
    struct flow *f = user;

    loop_want_turn(f->place.loop, &f->turn);
}

static void flow_asks_again(struct loop_timer *t)
{
    flow_room(CONTAINER_OF(t, struct flow, ask_again));
}

/* --- what the follower tells --- */

static void flow_free_tracked(struct tracked *t)
{
    flow_wait_no_more(t);
    flow_release_line(t);
    flow_carry_done(t);
    list_remove(&t->all);
    list_remove(&t->ready);
    free(t->header);
    free(t);
}

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
    list_init(&t->waiting);
    t->at = s->at.offset;
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
    return ledger_is_empty(&t->ledger) && t->carry == NULL;
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

    checkpoint_leave(f->place.checkpoint, t->slot);
    f->place.noted(f->place.user);
    flow_free_tracked(t);
    s->user = NULL;
}

/* A quiet source is forgotten but for its place. */
static void *flow_rest(void *user, struct source *s)
{
    struct tracked *t = s->user;
    void *slot = t->slot;

    (void)user;
    if (!list_is_empty(&t->ready) || t->open || t->open_joined || t->carry != NULL)
        return NULL;
    flow_free_tracked(t);
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
        .stream = c->destination,
        .stream_name = slice_of(c->delivery_stream != NULL ? c->delivery_stream : c->stream),
        .stream_arn = slice_of(c->stream_arn),
        .service = f->service,
        .limits = {MIN(c->batch_records, f->service->records_max),
                   MIN(c->batch_bytes, f->service->bytes_max),
                   f->service->key_units_max > 0 ? KEY_JSON_MAX : 0},
        .linger_ms = (uint32_t)c->batch_linger_ms,
        .in_flight_max = c->max_in_flight,
        .patience_ms = f->place.patience_ms,
    };
    const struct destination *to = f->place.destination;
    const struct deliver_events events = {
        .settled = flow_settled,
        .room = flow_room,
        .bury = flow_bury,
        .give_up = to->depot != NULL ? flow_give_up : NULL,
        .user = f,
    };

    return deliver_new(f->place.loop, f->place.random, to->client, to->gate, f->place.budget,
                       &settings, &events, &f->deliver);
}

bool flow_wants_ec2(const struct config_flow *config, uint64_t *ret_ttl_ms)
{
    bool wants = false;

    *ret_ttl_ms = IMDS_TTL_MS;
    for (size_t i = 0; i < config->convert.count; i++)
        if (config->convert.items[i].format == CONFIG_JAVA_EC2_METADATA) {
            *ret_ttl_ms = MIN(*ret_ttl_ms, config->convert.items[i].ttl_ms);
            wants = true;
        }
    for (size_t i = 0; i < config->add.count; i++)
        if (!config->add.items[i].literal && strstr(config->add.items[i].value, "${ec2:") != NULL)
            wants = true;
    return wants;
}

static int flow_new_outfit(struct flow *f)
{
    struct outfit_error e = {0};
    int r = outfit_new(f->config, f->record_max, f->place.digest, f->place.random,
                       thrift_scratch(f->place.thrift), &f->outfit, &e);

    if (r == -EINVAL)
        log_error("flow %s: %s: %s", f->config->name, e.key, e.text);
    if (r < 0)
        return r == -EINVAL ? -ECANCELED : r; /* which has been said */
    f->mill = outfit_mill(f->outfit);
    f->wants_ec2 = outfit_wants_ec2(f->outfit) && f->place.imds != NULL;
    /* The end of what is read at once is seen twice, if it is not enough for a record. */
    if (f->config->join != CONFIG_JOIN_NONE)
        f->want = (size_t)MIN(8 * f->config->join_bytes, f->record_max);
    return 0;
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
        .encoding = (enum encoding)c->encoding,
        .joins = mill_waits(f->mill),
        .from_start = c->from_start,
        .known = checkpoint_knows_flow(f->place.checkpoint, slice_of(c->name)),
        .alive_ns = report->written_ns,
        .began_ns = f->place.began_ns,
        .all_new = report->partial,
    };
    const struct follower_events events = {
        flow_met,  flow_news, flow_changed, flow_is_settled, flow_settled_place, flow_moved,
        flow_left, flow_lost, flow_rest,    flow_recall,     flow_rescues,       f};
    int r = flow_gather_past(f);

    if (r < 0)
        return r;
    return follower_new(f->place.loop, f->place.watch, f->place.digest, f->place.descriptors,
                        &settings, &events, f->past, f->past_count, &f->follower);
}

int flow_new(const struct config_flow *config, const struct flow_place *place, struct flow **ret)
{
    const struct service *service = place->destination->service;
    struct flow *f = calloc(1, sizeof *f);
    size_t batches = config->max_in_flight + DELIVER_SPARE_BATCHES;
    int r;

    if (f == NULL)
        return -ENOMEM;
    f->config = config;
    f->service = service;
    f->record_max = service->record_max;
    list_init(&f->thrift.node);
    list_init(&f->summary.node);
    f->place = *place;
    list_init(&f->tracked);
    list_init(&f->ready);
    loop_turn_init(&f->turn, flow_turn);
    list_init(&f->waiting);
    f->dead = (struct morgue_user){.settled = flow_settled, .room = flow_room, .user = f};
    list_init(&f->dead.node);
    f->fills = UINT64_MAX;
    r = loop_timer_init(f->place.loop, &f->timer, flow_timer_fires);
    if (r == 0)
        r = loop_timer_init(f->place.loop, &f->ask_again, flow_asks_again);
    if (r == 0)
        r = ledger_pool_init(&f->pool, batches * MIN(config->batch_records, service->records_max) +
                                           FLOW_CARRIES + MORGUE_WAITING);
    if (r == 0)
        r = flow_new_outfit(f);
    if (r == 0)
        r = flow_new_deliver(f);
    if (r == 0)
        r = flow_join_depot(f);
    if (r == 0)
        r = flow_new_follower(f);
    if (r < 0) {
        flow_free(f);
        return r;
    }
    flow_join_limits(f);
    *ret = f;
    return 0;
}

void flow_free(struct flow *f)
{
    if (f == NULL)
        return;
    flow_leave_limits(f);
    morgue_leave(f->place.destination->morgue, &f->dead);
    if (f->spool.user != NULL)
        depot_leave(f->place.destination->depot, &f->spool);
    deliver_free(f->deliver);
    follower_free(f->follower);
    LIST_EACH(&f->tracked, node, after)
    {
        struct tracked *t = CONTAINER_OF(node, struct tracked, all);

        if (t->carry != NULL)
            buf_done(&t->carry->text);
        free(t->carry);
        free(t->header);
        free(t);
    }
    flow_free_past(f);
    loop_turn_cancel(&f->turn);
    loop_timer_done(f->place.loop, &f->timer);
    loop_timer_done(f->place.loop, &f->ask_again);
    ledger_pool_done(&f->pool);
    outfit_free(f->outfit);
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
    LIST_EACH(&f->tracked, node, after)
    {
        struct tracked *t = CONTAINER_OF(node, struct tracked, all);

        if (flow_carry_must_leave(t))
            flow_news(f, t->source);
    }
}

void flow_finish(struct flow *f)
{
    follower_finish(f->follower);
}

bool flow_is_drained(const struct flow *f)
{
    return deliver_is_idle(f->deliver) && follower_is_hurried(f->follower) &&
           !flow_has_carry_that_must(f) && morgue_is_idle(f->place.destination->morgue);
}

const char *flow_name(const struct flow *f)
{
    return f->config->name;
}

size_t flow_file_count(const struct flow *f)
{
    return follower_count(f->follower);
}

int64_t flow_sure_ns(const struct flow *f)
{
    return follower_sure_ns(f->follower);
}

uint64_t flow_record_max(const struct flow *f)
{
    return f->record_max;
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
