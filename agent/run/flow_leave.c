#include "keep/checkpoint.h"
#include "keep/dead.h"
#include "keep/spool.h"
#include "run/config.h"
#include "run/destination.h"
#include "run/flow_inner.h"
#include "ship/batch.h"

#include "clock.h"

#include <errno.h>
#include <stdio.h>

enum {
    LEAVE_RECORD_MAX = 16 * 1024 * 1024,
    LEAVE_REASON = 512,
};

static struct tracked *tracked_of(const struct entry *e)
{
    const struct extent *extent = e->owner;

    return extent->ledger->owner;
}

/* --- refused for good --- */

bool flow_bury(void *user, const struct batch *b, uint32_t index, struct slice code,
               struct slice message)
{
    struct flow *f = user;
    const struct entry *e = &b->entries[index];
    const struct clock *clock = loop_clock(f->place.loop);
    char reason[LEAVE_REASON];
    struct dead_letter letter = {
        .wall_ms = clock->wall_ms(clock),
        .flow = slice_of(f->config->name),
        .file = slice_of(tracked_of(e)->source->path),
        .offset = e->origin.offset,
        .end = e->origin.end,
    };
    struct slice key;
    struct buf text;
    bool put = false;

    (void)snprintf(reason, sizeof reason, "%.*s: %.*s", SLICE_ARG(code), SLICE_ARG(message));
    letter.reason = slice_of(reason);
    flow_doubt_limit(f, e->size);
    buf_init(&text, LEAVE_RECORD_MAX);
    if (batch_record(b, index, &text, &letter.record, &key) == 0)
        put = morgue_put(f->place.destination->morgue, &letter, &f->dead, e->owner);
    buf_done(&text);
    f->stats.dead += put;
    return put;
}

/* --- not delivered in time --- */

/* How many entries from `from` on have one owner. */
static uint32_t run_of(const struct batch *b, uint32_t from)
{
    uint32_t to = from + 1;

    while (to < b->count && b->entries[to].owner == b->entries[from].owner)
        to++;
    return to - from;
}

static void flow_untell(const struct batch *b, uint32_t count)
{
    for (uint32_t i = 0, run; i < count; i += run) {
        run = run_of(b, i);
        extent_stays(b->entries[i].owner, run);
    }
}

/* The index of the source in the frame. */
static uint16_t draft_source(struct flow *f, struct tracked *t, struct depot_draft *draft)
{
    if (t->draft != f->drafts) {
        t->draft = f->drafts;
        t->draft_index = (uint16_t)draft->source_count;
        draft->sources[draft->source_count++] =
            (struct spool_source){slice_of(f->config->name), slice_of(t->source->path)};
    }
    return t->draft_index;
}

static int flow_tell(void *user, const struct batch *b, struct depot_draft *draft)
{
    struct flow *f = user;
    int r = 0;

    f->drafts++;
    for (uint32_t i = 0, run; i < b->count; i += run) {
        uint16_t source = draft_source(f, tracked_of(&b->entries[i]), draft);

        run = run_of(b, i);
        extent_leaves(b->entries[i].owner, run);
        for (uint32_t k = i; k < i + run; k++)
            draft->source_of[k] = source;
    }
    for (uint32_t i = 0, told = 0; i < b->count && told < draft->source_count && r == 0; i++) {
        struct tracked *t = tracked_of(&b->entries[i]);
        struct cursor at = ledger_foretell(&t->ledger);

        if (draft->source_of[i] != told)
            continue;
        told++;
        if (at.offset != t->ledger.settled.offset)
            r = checkpoint_tell(t->slot, at, &draft->facts);
    }
    if (r < 0)
        flow_untell(b, b->count);
    return r;
}

static void flow_gave_up(void *user, struct batch *b, bool told, bool durable)
{
    struct flow *f = user;

    if (told)
        flow_untell(b, b->count);
    deliver_gave_up(f->deliver, b, durable);
}

static void flow_depot_room(void *user)
{
    struct flow *f = user;

    deliver_may_give_up(f->deliver);
}

bool flow_give_up(void *user, struct batch *b)
{
    struct flow *f = user;

    return depot_take(f->place.destination->depot, &f->spool, b);
}

int flow_join_depot(struct flow *f)
{
    f->spool = (struct depot_user){
        .tell = flow_tell, .done = flow_gave_up, .room = flow_depot_room, .user = f};
    list_init(&f->spool.node);
    if (f->place.destination->depot == NULL)
        return 0;
    return depot_join(f->place.destination->depot,
                      f->config->max_in_flight + DELIVER_SPARE_BATCHES);
}

/* --- deleted files that hold too much --- */

bool flow_rescues(void *user, bool much)
{
    struct flow *f = user;

    /* A disk that fails, or is busy just now, is no reason to lose what can be held on to. */
    if (much && (f->place.destination->depot == NULL || depot_is_full(f->place.destination->depot)))
        return false;
    if (f->rescuing != much) {
        f->rescuing = much;
        deliver_set_impatient(f->deliver, much);
        loop_want_turn(f->place.loop, &f->turn);
    }
    return true;
}

void flow_give_up_all(struct flow *f)
{
    deliver_give_up_all(f->deliver);
}
