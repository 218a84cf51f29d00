/* retry: what waits or was set aside is sent, here and now. */
#include "disk.h"
#include "escape.h"
#include "keep/state.h"
#include "run/config.h"
#include "run/courier.h"
#include "run/queue_inner.h"
#include "util.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_RECORDS = 500,
    CHUNK_BYTES = 1024 * 1024, /* or one record, or what is marked together */
};

/* What goes out together, and where it came from. */
struct chunk {
    struct parcel *parcels;   /* owns; their texts lie in `text` */
    struct queue_item *items; /* owns; of their texts only `file` holds */
    size_t *at;               /* owns: where in `text` each parcel begins */
    size_t count, cap;
    struct buf text;
};

struct retry {
    struct queue_command *command;
    enum queue_kind kind;
    const char *directory;
    struct queue_store *store;
    const struct config_flow *flow; /* that sends there; any of them */
    struct courier *courier;
    struct chunk chunk;
    struct queue_sum sum;
    uint64_t sent, refused, kept; /* kept: must not be sent, or cannot */
    bool over;                    /* it does not take them: the rest is only counted */
};

/* --- the chunk --- */

static int grow(struct chunk *k)
{
    size_t cap = MAX((size_t)64, 2 * k->cap);
    struct parcel *parcels = reallocarray(k->parcels, cap, sizeof(*parcels));
    struct queue_item *items;
    size_t *at;

    if (parcels == NULL)
        return -ENOMEM;
    k->parcels = parcels;
    items = reallocarray(k->items, cap, sizeof(*items));
    if (items == NULL)
        return -ENOMEM;
    k->items = items;
    at = reallocarray(k->at, cap, sizeof(*at));
    if (at == NULL)
        return -ENOMEM;
    k->at = at;
    k->cap = cap;
    return 0;
}

static int chunk_add(struct chunk *k, const struct queue_item *item)
{
    size_t from = k->text.len;
    int r = k->count == k->cap ? grow(k) : 0;

    if (r < 0 || (r = buf_append(&k->text, item->key)) < 0 ||
        (r = buf_append(&k->text, item->record)) < 0 || (r = buf_append(&k->text, item->file)) < 0)
        return r;
    k->at[k->count] = from;
    k->items[k->count] = *item;
    k->parcels[k->count] =
        (struct parcel){.key = {NULL, item->key.len}, .record = {NULL, item->record.len}};
    k->count++;
    return 0;
}

/* The text has stopped moving. */
static void chunk_point(struct chunk *k)
{
    for (size_t i = 0; i < k->count; i++) {
        k->parcels[i].key.ptr = k->text.ptr + k->at[i];
        k->parcels[i].record.ptr = k->parcels[i].key.ptr + k->parcels[i].key.len;
        k->items[i].file.ptr = k->parcels[i].record.ptr + k->parcels[i].record.len;
    }
}

static void chunk_done(struct chunk *k)
{
    free(k->parcels);
    free(k->items);
    free(k->at);
    buf_done(&k->text);
}

/* --- what is said --- */

static int say_kept(struct retry *t, const char *what, const struct queue_item *i,
                    const char *reason)
{
    struct queue_command *c = t->command;
    struct buf *b = &c->line;
    int r;

    if (c->json) {
        if ((r = queue_json_begin(c)) < 0 ||
            (r = queue_json_text(b, "destination", slice_of(t->directory))) < 0 ||
            (r = queue_json_text(b, "kind", slice_of(queue_kind_word(t->kind)))) < 0 ||
            (r = queue_json_text(b, "file", i->file)) < 0 ||
            (r = queue_json_number(b, "offset", i->offset)) < 0 ||
            (r = queue_json_number(b, "end", i->end)) < 0 ||
            (r = queue_json_text(b, "outcome", slice_of(what))) < 0 ||
            (r = queue_json_text(b, "reason", slice_of(reason))) < 0)
            return r;
        return queue_json_end(c);
    }
    buf_reset(b);
    if ((r = escape_append(b, i->file)) < 0 ||
        (r = buf_printf(b, " bytes %" PRIu64 " to %" PRIu64 ": %s: ", i->offset, i->end, what)) <
            0 ||
        (r = escape_append(b, slice_of(reason))) < 0)
        return r;
    printf("%.*s\n", (int)b->len, b->ptr);
    return 0;
}

/* --- sending --- */

/* Marks the items [from, to), which lie in one frame: that, or those of them that were sent. */
static int mark_some(struct retry *t, size_t from, size_t to)
{
    const struct chunk *k = &t->chunk;
    size_t sent = 0;
    int r = 0;

    for (size_t i = from; i < to; i++)
        sent += k->parcels[i].state == COURIER_SENT;
    t->sent += sent;
    if (sent == to - from)
        return queue_store_mark(t->store, &k->items[from]);
    for (size_t i = from; i < to && r == 0; i++)
        if (k->parcels[i].state == COURIER_SENT)
            r = queue_store_mark_one(t->store, &k->items[i]);
    return r;
}

static int mark_sent(struct retry *t)
{
    struct chunk *k = &t->chunk;
    int r = 0;

    for (size_t i = 0, from = 0; i < k->count && r == 0; i++) {
        if (!k->items[i].last && i + 1 < k->count)
            continue;
        r = mark_some(t, from, i + 1);
        from = i + 1;
    }
    if (r == 0)
        r = queue_store_commit(t->store);
    if (r < 0)
        (void)queue_failed("%s of %s: what was sent just now cannot be marked: %s; it would be "
                           "sent again the next time",
                           queue_kind_name(t->kind), queue_show_name(t->command, t->directory),
                           strerrordesc_np(-r));
    return r;
}

static int say_refused(struct retry *t)
{
    struct chunk *k = &t->chunk;
    int r = 0;

    for (size_t i = 0; i < k->count && r == 0; i++)
        if (k->parcels[i].state == COURIER_REFUSED && k->parcels[i].why[0] != '\0') {
            t->refused++;
            r = say_kept(t, "refused", &k->items[i], k->parcels[i].why);
        }
    return r;
}

static int send_chunk(struct retry *t)
{
    struct chunk *k = &t->chunk;
    const char *why = "";
    int r, e;

    if (k->count == 0)
        return 0;
    chunk_point(k);
    r = courier_send(t->courier, k->parcels, k->count, &why);
    e = mark_sent(t);
    if (e == 0)
        e = say_refused(t);
    if (r == -EAGAIN)
        (void)queue_failed("'%s' at %s does not take them now: %s; what is left stays",
                           queue_show_name(t->command, t->flow->destination),
                           courier_url(t->courier), queue_show_name(t->command, why));
    else if (r < 0)
        (void)queue_failed("sending: %s", strerrordesc_np(-r));
    k->count = 0;
    buf_reset(&k->text);
    t->over = t->over || r < 0;
    return e < 0 ? e : r == -EAGAIN ? 0 : r;
}

/* --- what may be sent --- */

static const struct config_flow *find_flow(const struct config *config, const char *directory)
{
    char is[NAME_MAX + 1];

    for (size_t i = 0; i < config->flow_count; i++) {
        const struct config_flow *f = &config->flows[i];

        if (queue_store_directory(f->destination, is) == 0 && strcmp(is, directory) == 0)
            return f;
    }
    return NULL;
}

/* Why it must not be sent, or NULL. */
static const char *find_obstacle(const struct retry *t, const struct queue_item *item)
{
    if (item->unredacted)
        return "holds what was to be hidden, as redaction gave up on it: it must not be sent as "
               "it is";
    if (item->cut)
        return "is only the beginning of its line, which was longer than a record may be";
    return courier_refuses(t->courier, item->key.len, item->record.len);
}

static int take_item(struct retry *t, const struct queue_item *item)
{
    const char *why = find_obstacle(t, item);
    struct chunk *k = &t->chunk;
    int r = 0;

    queue_add_to_sum(&t->sum, item);
    if (why != NULL) {
        t->kept++;
        r = say_kept(t, "stays", item, why);
    }
    if (r < 0 || !t->command->apply || t->over)
        return r;
    /* Also what stays: its frame is not done then, whatever else of it is sent. */
    r = chunk_add(k, item);
    if (r == 0 && why != NULL)
        k->parcels[k->count - 1].state = COURIER_REFUSED;
    if (r == 0 && item->last && (k->count >= CHUNK_RECORDS || k->text.len >= CHUNK_BYTES))
        r = send_chunk(t);
    return r;
}

static int take_items(struct retry *t)
{
    struct queue_command *c = t->command;
    struct queue_item item;
    int r;

    while ((r = queue_store_next(t->store, &item)) == 1) {
        if (item.what != QUEUE_RECORD || item.done)
            continue;
        t->sum.total++;
        if (t->sum.count == c->limit || !queue_means(c, &item))
            continue;
        r = take_item(t, &item);
        if (r < 0)
            break;
    }
    return r == 0 && !t->over ? send_chunk(t) : r;
}

/* --- one destination --- */

static int say_result(struct retry *t)
{
    struct queue_command *c = t->command;
    struct buf *b = &c->line;
    char what[200];
    int r;

    if (!c->json) {
        if (c->apply)
            (void)snprintf(what, sizeof what,
                           "%" PRIu64 " sent, %" PRIu64 " refused, %" PRIu64 " stay", t->sent,
                           t->refused, t->sum.count - t->sent - t->refused);
        else
            (void)snprintf(what, sizeof what,
                           "%" PRIu64 " would be sent again, %" PRIu64
                           " stay; nothing is sent without --apply",
                           t->sum.count - t->kept, t->kept);
        return queue_say_sum(c, t->kind, t->directory, &t->sum, what);
    }
    if ((r = queue_json_begin(c)) < 0 ||
        (r = queue_json_text(b, "destination", slice_of(t->directory))) < 0 ||
        (r = queue_json_text(b, "kind", slice_of(queue_kind_word(t->kind)))) < 0 ||
        (r = queue_json_number(b, "records", t->sum.count)) < 0 ||
        (r = queue_json_number(b, "of", t->sum.total)) < 0 ||
        (r = queue_json_number(b, "bytes", t->sum.bytes)) < 0 ||
        (r = queue_json_time(b, "oldest", t->sum.oldest_ms)) < 0 ||
        (r = queue_json_time(b, "newest", t->sum.newest_ms)) < 0 ||
        (r = queue_json_number(b, "sent", t->sent)) < 0 ||
        (r = queue_json_number(b, "refused", t->refused)) < 0 ||
        (r = queue_json_number(b, "stay",
                               c->apply ? t->sum.count - t->sent - t->refused : t->kept)) < 0 ||
        (r = buf_printf(b, ",\"applied\":%s", c->apply ? "true" : "false")) < 0)
        return r;
    return queue_json_end(c);
}

static int run_retry(struct retry *t)
{
    int r = take_items(t), e = say_result(t);

    if (t->command->apply && t->sent > 0)
        (void)queue_tidy(t->command, t->store); /* what fails, the next one does */
    if (e < 0)
        return queue_failed("writing: %s", strerrordesc_np(-e));
    if (r < 0)
        return EXIT_FAILURE;
    return t->command->apply && t->sent < t->sum.count ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int retry_store(struct queue_command *c, enum queue_kind kind, const char *directory,
                       struct queue_store *s, void *user)
{
    struct retry t = {.command = c, .kind = kind, .directory = directory, .store = s};
    int r;

    (void)user;
    t.flow = find_flow(c->config, directory);
    if (t.flow == NULL)
        return queue_failed("no flow of the configuration sends to '%s' any more; give one that "
                            "does",
                            queue_show_name(c, directory));
    if (courier_new(c->config, t.flow, &t.courier) < 0)
        return EXIT_FAILURE; /* which was said */
    buf_init(&t.chunk.text, SIZE_MAX);
    r = run_retry(&t);
    chunk_done(&t.chunk);
    courier_free(t.courier);
    return r;
}

static int retry(struct queue_command *c)
{
    return queue_end_output(0, queue_each(c, c->apply, retry_store, NULL));
}

static int say_agent_runs(struct queue_command *c, pid_t owner)
{
    int r = 0;

    if (!c->json)
        printf("an agent (process %d) runs on '%s': nothing is done here, it sends what is in its "
               "spools "
               "by itself; or says at its start why not\n",
               (int)owner, queue_show_name(c, c->state_dir));
    else if ((r = queue_json_begin(c)) == 0 &&
             (r = queue_json_text(&c->line, "destination", slice_of(c->directory))) == 0 &&
             (r = queue_json_text(&c->line, "kind", slice_of(queue_kind_word(QUEUE_SPOOL)))) == 0 &&
             (r = queue_json_number(&c->line, "agent", (uint64_t)owner)) == 0 &&
             (r = buf_append(&c->line, SLICE(",\"applied\":false"))) == 0)
        r = queue_json_end(c);
    return queue_end_output(r, EXIT_SUCCESS);
}

/* A plan takes no lock: it may take minutes, and an agent that starts meanwhile would be refused. */
static int plan_alone(struct queue_command *c)
{
    pid_t owner = 0;
    int r = state_is_used(c->state_fd, &owner);

    if (r < 0)
        return queue_failed("'%s/lock': %s", queue_show_name(c, c->state_dir), strerrordesc_np(-r));
    return r == 1 ? say_agent_runs(c, owner) : retry(c);
}

/* The spool is the agent's to send, while there is one. */
static int retry_alone(struct queue_command *c)
{
    struct state state;
    const char *what;
    pid_t owner;
    int r = state_open(&disk_system, c->state_dir, &state, &what, &owner);

    if (r == -EBUSY)
        return say_agent_runs(c, owner);
    if (r < 0)
        return queue_failed("'%s%s%s': %s; nothing is sent", queue_show_name(c, c->state_dir),
                            what != NULL ? "/" : "", what != NULL ? what : "", strerrordesc_np(-r));
    r = retry(c);
    state_close(&state);
    return r;
}

static int retry_as_owner(struct queue_command *c)
{
    return !c->spool ? retry(c) : c->apply ? retry_alone(c) : plan_alone(c);
}

int queue_retry(struct queue_command *c)
{
    int r;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return queue_failed("libcurl cannot be set up");
    r = c->apply ? queue_as_owner(c, retry_as_owner) : retry_as_owner(c);
    curl_global_cleanup();
    return r;
}
