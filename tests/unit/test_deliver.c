/* Deliver and the client below it, on a clock that only the test moves and against a service that
 * answers when the test says so. */
#include "ship/deliver.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base64.h"
#include "budget.h"
#include "buf.h"
#include "clock.h"
#include "json.h"
#include "random.h"
#include "record/key.h"
#include "run/log.h"
#include "run/loop.h"
#include "ship/client.h"
#include "ship/gate.h"
#include "ship/kinesis.h"
#include "util.h"

enum {
    AIR_MAX = 32,
    SAMPLE_MAX = 500, /* records in one request */
    KEY_LEN = KEY_RANDOM_LEN,
    SECOND = 1000,
    MINUTE = 60 * SECOND,
    PATIENCE = 30 * SECOND,
};

/* -- the world --------------------------------------------------------------------------------- */

/* A record's data is its number in decimal, and blanks. */
struct record {
    uint32_t stored;  /* the service has it; times */
    uint32_t settled; /* we were told so; of a group, counted at its first record */
    uint32_t buried;  /* it is a dead letter; counted so, too */
    bool flying;      /* in a request on its way */
};

struct world {
    struct clock clock;
    uint64_t mono_ms;
    int64_t wall_ms;

    struct transport transport;
    struct http_call *air[AIR_MAX]; /* requests on their way, oldest first */
    size_t air_count, air_limit;    /* air_limit: more at a time would be wrong */
    size_t sent, cancelled;         /* requests */
    int send_error;                 /* what sending answers, if not 0 */

    struct record *records;
    size_t record_max, added, group; /* `group` neighbours have one owner */
    size_t settled, buried, room_calls;
    bool buries; /* dead letters can be kept */

    struct batch *left[AIR_MAX]; /* batches that were given up, and not answered yet */
    size_t left_count, asked;
    bool full, durable; /* nobody takes a batch; what is settled now is so because it is durable */

    struct loop *loop;
    struct random random;
    struct client *client;
    struct gate *gate;
    struct deliver *deliver;
};

static uint64_t world_mono_ms(const struct clock *c)
{
    return CONTAINER_OF(c, struct world, clock)->mono_ms;
}

static int64_t world_wall_ms(const struct clock *c)
{
    return CONTAINER_OF(c, struct world, clock)->wall_ms;
}

static struct slice next_text(struct json *j, enum json_type type)
{
    struct json_token t;

    assert_int_equal(json_next(j, &t), 0);
    assert_int_equal(t.type, type);
    return t.text;
}

/* The numbers of a request's records, in order; all of the body is read. */
static size_t numbers_of(const struct http_call *call, size_t numbers[SAMPLE_MAX])
{
    struct json_token t;
    size_t count = 0;
    struct json j;

    json_init(&j, call->body);
    (void)next_text(&j, JSON_OBJECT_BEGIN);
    assert_true(json_text_equal(next_text(&j, JSON_KEY), SLICE("StreamName")));
    assert_true(json_text_equal(next_text(&j, JSON_STRING), SLICE("logs")));
    assert_true(json_text_equal(next_text(&j, JSON_KEY), SLICE("Records")));
    (void)next_text(&j, JSON_ARRAY_BEGIN);
    for (;; count++) {
        char data[4096];
        size_t len;

        assert_int_equal(json_next(&j, &t), 0);
        if (t.type == JSON_ARRAY_END)
            break;
        assert_true(count < SAMPLE_MAX);
        assert_true(json_text_equal(next_text(&j, JSON_KEY), SLICE("Data")));
        assert_int_equal(base64_decode(next_text(&j, JSON_STRING), data, &len), 0);
        data[len] = '\0';
        numbers[count] = strtoul(data, NULL, 10);
        assert_true(json_text_equal(next_text(&j, JSON_KEY), SLICE("PartitionKey")));
        (void)next_text(&j, JSON_STRING);
        (void)next_text(&j, JSON_OBJECT_END);
    }
    (void)next_text(&j, JSON_OBJECT_END);
    (void)next_text(&j, JSON_END);
    return count;
}

static struct record *owner_of(struct world *w, size_t number)
{
    return &w->records[number - number % w->group];
}

/* The service: whoever is on their way is so once, and nobody comes again who was settled. */
static int world_send(struct transport *t, struct http_call *call)
{
    struct world *w = CONTAINER_OF(t, struct world, transport);
    size_t numbers[SAMPLE_MAX], count;

    if (w->send_error < 0)
        return w->send_error;
    w->sent++;
    assert_true(w->air_count < w->air_limit);
    w->air[w->air_count++] = call;
    count = w->records != NULL ? numbers_of(call, numbers) : 0;
    for (size_t i = 0; i < count; i++) {
        struct record *r = &w->records[numbers[i]];

        assert_true(numbers[i] < w->added);
        assert_false(r->flying);
        assert_true(w->group > 1 || r->settled == 0);
        r->flying = true;
    }
    return 0;
}

static void land(struct world *w, size_t which)
{
    size_t numbers[SAMPLE_MAX], count;

    count = w->records != NULL ? numbers_of(w->air[which], numbers) : 0;
    for (size_t i = 0; i < count; i++)
        w->records[numbers[i]].flying = false;
    for (w->air_count--; which < w->air_count; which++)
        w->air[which] = w->air[which + 1];
}

static void world_cancel(struct transport *t, struct http_call *call)
{
    struct world *w = CONTAINER_OF(t, struct world, transport);

    for (size_t i = 0; i < w->air_count; i++) {
        if (w->air[i] != call)
            continue;
        land(w, i);
        w->cancelled++;
        return;
    }
}

static void world_settled(void *user, void *owner, uint32_t count)
{
    struct world *w = user;
    struct record *r = owner;
    size_t first = (size_t)(r - w->records), stored = 0;

    assert_true(count > 0);
    for (size_t i = first; i < MIN(first + w->group, w->added); i++)
        stored += w->records[i].stored > 0;
    r->settled += count;
    w->settled += count;
    if (!w->durable)
        assert_true(r->settled <= stored); /* what is settled is stored, and once is enough */
}

/* Nothing is buried, unless a test says so. */
static bool world_bury(void *user, const struct batch *b, uint32_t index, struct slice code,
                       struct slice message)
{
    struct world *w = user;
    struct slice data, key;
    struct buf text;

    (void)message;
    if (!w->buries)
        return false;
    assert_true(code.len > 0);
    buf_init(&text, 4096);
    assert_int_equal(batch_record(b, index, &text, &data, &key), 0);
    assert_int_equal(key.len, KEY_LEN);
    assert_int_equal(b->entries[index].origin.offset,
                     strtoul(data.ptr, NULL, 10)); /* it ends in the key: no digit first */
    ((struct record *)b->entries[index].owner)->buried++;
    w->buried++;
    buf_done(&text);
    return true;
}

static void world_room(void *user)
{
    struct world *w = user;

    w->room_calls++;
    assert_true(deliver_has_room(w->deliver));
}

static void start_client(struct world *w, const char *token)
{
    char id[] = "AKIDEXAMPLE", secret[] = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", session[40];
    struct client_settings settings = {
        .region = SLICE("eu-west-1"),
        .service = SLICE("kinesis"),
        .access_key_id = slice_of(id),
        .secret_access_key = slice_of(secret),
        .session_token = {session, strlen(token)},
    };

    *w = (struct world){
        .clock = {world_mono_ms, world_wall_ms},
        .mono_ms = 5000000,
        .wall_ms = 1440938160000, /* 2015-08-30 12:36:00 */
        .transport = {world_send, world_cancel},
        .air_limit = AIR_MAX,
        .group = 1,
        .random = {.state = 1},
    };
    (void)snprintf(session, sizeof session, "%s", token);
    assert_int_equal(endpoint_of_region(SLICE("kinesis"), settings.region, &settings.endpoint), 0);
    assert_int_equal(client_new(&w->transport, &w->clock, &settings, &w->client), 0);
    memset(id, '?', sizeof id); /* it has copies */
    memset(secret, '?', sizeof secret);
    memset(session, '?', sizeof session);
}

/* Whether worlds that are started now have a place for what is given up. */
static bool gives_up;

/* The memory of worlds that are started now, or NULL. */
static struct budget *memory;

static bool world_give_up(void *user, struct batch *b)
{
    struct world *w = user;

    assert_int_equal(b->state, BATCH_LEAVING);
    w->asked++;
    assert_true(w->asked < 10000); /* or somebody asks for ever */
    if (w->full)
        return false;
    assert_true(w->left_count < ARRAY_LEN(w->left));
    w->left[w->left_count++] = b;
    return true;
}

/* `records` and `bytes` limit a batch; room for `record_max` records in the test's own books. */
static void start(struct world *w, uint32_t records, uint64_t bytes, uint32_t linger_ms,
                  uint32_t in_flight_max, size_t record_max)
{
    const struct deliver_settings settings = {
        .flow = "test",
        .stream = "logs",
        .stream_name = SLICE("logs"),
        .service = &kinesis_service,
        .limits = {records, bytes, KEY_JSON_MAX},
        .linger_ms = linger_ms,
        .in_flight_max = in_flight_max,
        .patience_ms = PATIENCE,
    };
    const struct deliver_events events = {
        .settled = world_settled,
        .room = world_room,
        .bury = world_bury,
        .give_up = gives_up ? world_give_up : NULL,
        .user = w,
    };

    start_client(w, "");
    w->air_limit = in_flight_max;
    w->record_max = record_max;
    w->records = calloc(record_max, sizeof *w->records);
    assert_non_null(w->records);
    assert_int_equal(loop_new(&w->clock, &w->loop), 0);
    assert_int_equal(
        gate_new(w->loop, &w->random, &kinesis_service, "logs", client_url(w->client), &w->gate),
        0);
    assert_int_equal(deliver_new(w->loop, &w->random, w->client, w->gate, memory, &settings,
                                 &events, &w->deliver),
                     0);
}

static void stop(struct world *w)
{
    size_t flying = w->air_count, cancelled = w->cancelled, settled = w->settled;

    deliver_free(w->deliver);
    gate_free(w->gate);
    assert_int_equal(w->cancelled, cancelled + flying);
    assert_int_equal(w->air_count, 0);
    assert_int_equal(w->settled, settled);
    assert_true(loop_next_ms(w->loop) == UINT64_MAX); /* neither a turn nor a deadline stays */
    loop_free(w->loop);
    client_free(w->client);
    free(w->records);
}

/* Lets happen what may happen now. */
static void work(struct world *w)
{
    int steps = 0;

    assert_int_equal(loop_step(w->loop, 0), 0);
    while (loop_next_ms(w->loop) <= w->mono_ms) {
        assert_int_equal(loop_step(w->loop, 0), 0);
        assert_true(++steps < 100); /* or it spins */
    }
}

/* Turns the clock from deadline to deadline. */
static void pass(struct world *w, uint64_t ms)
{
    uint64_t until = w->mono_ms + ms;

    for (;;) {
        uint64_t next;

        work(w);
        next = loop_next_ms(w->loop);
        if (next > until)
            break;
        w->wall_ms += (int64_t)(next - w->mono_ms);
        w->mono_ms = next;
    }
    w->wall_ms += (int64_t)(until - w->mono_ms);
    w->mono_ms = until;
    work(w);
}

static const struct batch_key some_key = {{"\"12345678\"", KEY_LEN + 2}, KEY_LEN};

/* Puts a record of `len` bytes (more than its number has) without telling deliver. */
static bool put_untold(struct world *w, size_t len)
{
    struct batch *b = deliver_room(w->deliver, len, some_key);
    char data[4096];
    struct key key;
    struct record *owner;

    if (b == NULL)
        return false;
    assert_int_equal(b->state, BATCH_FILLING);
    assert_true(batch_fits(b, len, KEY_LEN));
    assert_true(w->added < w->record_max && len < sizeof data);
    (void)snprintf(data, sizeof data, "%-*zu", (int)len, w->added);
    key_random(&w->random, &key);
    owner = owner_of(w, w->added++);
    deliver_add(w->deliver, b, (struct slice){data, len},
                (struct batch_key){key_json(&key), (uint32_t)KEY_LEN}, owner,
                (struct batch_origin){.offset = w->added - 1});
    return true;
}

static bool put(struct world *w, size_t len)
{
    bool in = put_untold(w, len);

    deliver_added(w->deliver);
    return in;
}

static void put_all(struct world *w, size_t count)
{
    while (count-- > 0)
        assert_true(put(w, 10));
}

/* -- answers ----------------------------------------------------------------------------------- */

static void answer(struct world *w, size_t which, const struct http_answer *a)
{
    struct http_call *call = w->air[which];

    assert_true(which < w->air_count);
    land(w, which);
    call->done(call, a);
}

/* 200, with a letter for each record: a accepted, t throttled, f failed there, r refused.  The last
 * one is for all that follow.  A capital: the answer does not come, but the records are stored. */
static void answer_records(struct world *w, size_t which, const char *letters)
{
    size_t numbers[SAMPLE_MAX], count = numbers_of(w->air[which], numbers), failed = 0;
    struct http_answer a = {.why = "", .status = 200, .request_id = SLICE("id")};
    struct buf body;

    buf_init(&body, 1024 * 1024);
    assert_int_equal(buf_append(&body, SLICE("{\"Records\":[")), 0);
    for (size_t i = 0; i < count; i++) {
        const char *code = *letters == 't'   ? "ProvisionedThroughputExceededException"
                           : *letters == 'f' ? "InternalFailure"
                                             : "KMSDisabledException";

        if (*letters == 'a') {
            w->records[numbers[i]].stored++;
            assert_int_equal(buf_printf(&body, "%s{\"SequenceNumber\":\"%zu\",\"ShardId\":\"s\"}",
                                        i > 0 ? "," : "", numbers[i]),
                             0);
        } else {
            failed++;
            assert_int_equal(buf_printf(&body, "%s{\"ErrorCode\":\"%s\",\"ErrorMessage\":\"m\"}",
                                        i > 0 ? "," : "", code),
                             0);
        }
        letters += letters[1] != '\0';
    }
    assert_int_equal(buf_printf(&body, "],\"FailedRecordCount\":%zu}", failed), 0);
    a.body = buf_slice(&body);
    answer(w, which, &a);
    buf_done(&body);
}

/* A whole request failed; `stored`: but the service had taken it. */
static void answer_failure(struct world *w, size_t which, long status, const char *body,
                           bool stored)
{
    struct http_answer a = {
        .error = status == 0 ? -ETIMEDOUT : 0,
        .why = status == 0 ? "Timeout was reached" : "",
        .status = status,
        .body = slice_of(body),
    };
    size_t numbers[SAMPLE_MAX], count = numbers_of(w->air[which], numbers);

    for (size_t i = 0; i < count && stored; i++)
        w->records[numbers[i]].stored++;
    answer(w, which, &a);
}

static void check_request(struct world *w, size_t which, const char *expected)
{
    size_t numbers[SAMPLE_MAX], count;
    struct buf told;

    assert_true(which < w->air_count);
    count = numbers_of(w->air[which], numbers);
    buf_init(&told, 10000);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(buf_printf(&told, "%s%zu", i > 0 ? " " : "", numbers[i]), 0);
    if (!slice_equal(buf_slice(&told), slice_of(expected)))
        fail_msg("records %.*s in a request, not %s", SLICE_ARG(buf_slice(&told)), expected);
    buf_done(&told);
}

/* All is accepted from now on: everything must be settled, once. */
static void finish(struct world *w)
{
    deliver_hurry(w->deliver);
    for (int i = 0; !deliver_is_idle(w->deliver); i++) {
        assert_true(i < 100000);
        pass(w, w->air_count > 0 ? 0 : SECOND);
        if (w->air_count > 0)
            answer_records(w, 0, "a");
    }
    assert_int_equal(w->settled, w->added);
    assert_true(deliver_pending(w->deliver) == 0);
    assert_true(deliver_stats(w->deliver)->records_sent == w->added);
    for (size_t i = 0; i < w->added; i += w->group)
        assert_int_equal(w->records[i].settled, MIN(w->group, w->added - i));
}

/* The same where some were given up. */
static void finish_rest(struct world *w)
{
    for (int i = 0; !deliver_is_idle(w->deliver); i++) {
        assert_true(i < 100000);
        pass(w, w->air_count > 0 ? 0 : SECOND);
        if (w->air_count > 0)
            answer_records(w, 0, "a");
        while (w->left_count > 0) {
            w->durable = true;
            deliver_gave_up(w->deliver, w->left[--w->left_count], true);
            w->durable = false;
        }
    }
    assert_int_equal(w->settled, w->added);
}

/* -- when a batch goes ------------------------------------------------------------------------- */

static void a_batch_lingers_from_its_first_record(void **state)
{
    struct world w;

    (void)state;
    start(&w, 100, 10000, 1000, 2, 100);
    assert_non_null(deliver_room(w.deliver, 10, some_key));
    deliver_added(w.deliver);
    pass(&w, 7000); /* nothing lingers yet */
    assert_true(loop_next_ms(w.loop) == UINT64_MAX);
    put_all(&w, 1);
    assert_true(loop_next_ms(w.loop) == w.mono_ms + 1000);
    pass(&w, 600);
    put_all(&w, 1);
    pass(&w, 399);
    put_all(&w, 1);
    assert_int_equal(w.sent, 0);
    pass(&w, 1);
    assert_int_equal(w.sent, 1);
    check_request(&w, 0, "0 1 2");
    assert_true(loop_next_ms(w.loop) == UINT64_MAX);
    put_all(&w, 1);
    pass(&w, 999);
    assert_int_equal(w.sent, 1);
    pass(&w, 1);
    assert_int_equal(w.sent, 2);
    check_request(&w, 1, "3");
    finish(&w);
    stop(&w);
}

static void without_lingering_all_goes_at_once(void **state)
{
    struct world w;

    (void)state;
    start(&w, 100, 10000, 0, 2, 100);
    assert_true(put_untold(&w, 10) && put_untold(&w, 10));
    deliver_added(w.deliver);
    work(&w);
    assert_int_equal(w.sent, 1);
    check_request(&w, 0, "0 1");
    finish(&w);
    stop(&w);
}

static void a_full_batch_does_not_linger(void **state)
{
    struct world w;

    (void)state;
    start(&w, 3, 100, 1000, 2, 100);
    put_all(&w, 2);
    work(&w);
    assert_int_equal(w.sent, 0);
    put_all(&w, 1); /* as many records as may be */
    work(&w);
    assert_int_equal(w.sent, 1);
    check_request(&w, 0, "0 1 2");

    assert_true(put(&w, 50 - KEY_LEN));
    work(&w);
    assert_int_equal(w.sent, 1);
    assert_true(put(&w, 50 - KEY_LEN)); /* as many bytes as may be */
    work(&w);
    assert_int_equal(w.sent, 2);
    check_request(&w, 1, "3 4");
    answer_records(&w, 0, "a");

    assert_true(put(&w, 50 - KEY_LEN));
    work(&w);
    assert_int_equal(w.sent, 2);
    assert_true(put(&w, 51 - KEY_LEN)); /* the next does not fit: this one waits no longer */
    work(&w);
    assert_int_equal(w.sent, 3);
    check_request(&w, 1, "5");
    finish(&w);
    stop(&w);
}

static void hurry_ends_the_lingering(void **state)
{
    struct world w;

    (void)state;
    start(&w, 3, 1000, 10000, 2, 100);
    put_all(&w, 2);
    deliver_hurry(w.deliver);
    work(&w);
    check_request(&w, 0, "0 1");
    put_all(&w, 1); /* and it stays so */
    work(&w);
    check_request(&w, 1, "2");
    assert_true(loop_next_ms(w.loop) == UINT64_MAX);
    finish(&w);
    stop(&w);

    start(&w, 3, 1000, 10000, 2, 100);
    deliver_hurry(w.deliver); /* nothing there: fine */
    work(&w);
    assert_int_equal(w.sent, 0);
    assert_true(deliver_is_idle(w.deliver));
    stop(&w);
}

static void no_more_fly_than_may(void **state)
{
    (void)state;
    for (uint32_t max = 1; max <= 6; max++) {
        struct world w;

        start(&w, 2, 1000, 1000, max, 100); /* world_send counts */
        put_all(&w, 2 * (size_t)(max + 2));
        assert_false(put(&w, 10));
        assert_false(deliver_has_room(w.deliver));
        work(&w);
        assert_int_equal(w.air_count, max);
        assert_true(deliver_pending(w.deliver) == 2 * (max + 2));
        check_request(&w, 0, "0 1");
        answer_records(&w, 0, "a");
        assert_int_equal(w.air_count, max - 1); /* an answer acts in the turn, not at once */
        work(&w);
        assert_int_equal(w.air_count, max);
        finish(&w);
        stop(&w);
    }
}

/* -- what comes back --------------------------------------------------------------------------- */

static const struct partial {
    const char *letters, *again; /* the answer to 0 1 2 3 4 5, and what goes again */
} partials[] = {
    {"aaaaat", "5"},           {"taaaaa", "0"},         {"atatat", "1 3 5"},
    {"ffaaaf", "0 1 5"},       {"aaraaa", "2"},         {"tfrtfr", "0 1 2 3 4 5"},
    {"tttttt", "0 1 2 3 4 5"}, {"rrrrra", "0 1 2 3 4"}, {"aattff", "2 3 4 5"},
};

static void only_what_failed_goes_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(partials); i++) {
        struct world w;
        size_t accepted = 0;

        start(&w, 6, 1000, 1000, 1, 100);
        put_all(&w, 6);
        work(&w);
        answer_records(&w, 0, partials[i].letters);
        for (size_t n = 0; n < 6; n++) {
            assert_int_equal(w.records[n].settled, partials[i].letters[n] == 'a');
            accepted += partials[i].letters[n] == 'a';
        }
        assert_true(deliver_pending(w.deliver) == 6 - accepted);
        assert_true(deliver_stats(w.deliver)->records_retried == 6 - accepted);
        pass(&w, 31 * SECOND);
        assert_int_equal(w.sent, 2);
        check_request(&w, 0, partials[i].again);
        finish(&w);
        stop(&w);
    }
}

/* Nobody knows what was stored: all of it goes again, twice is better than never. */
#define STORED(n) "{\"SequenceNumber\":\"" n "\"}"

static const char *const unreadable[] = {
    "",
    "<html>",
    "{}",
    "{\"Records\":[]}",
    "{\"Records\":[" STORED("1") "]}",
    "{\"Records\":[" STORED("1") "," STORED("2"),
    "{\"Records\":[" STORED("1") "," STORED("2") "," STORED("3") "]}",
    "{\"Records\":[" STORED("1") "," STORED("2") "]}x",
};

static void an_unreadable_answer_settles_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(unreadable); i++) {
        struct world w;

        start(&w, 2, 1000, 1000, 1, 100);
        put_all(&w, 2);
        work(&w);
        answer_failure(&w, 0, 200, unreadable[i], true);
        assert_int_equal(w.settled, 0);
        assert_true(deliver_stats(w.deliver)->requests_failed == 1);
        pass(&w, 31 * SECOND);
        check_request(&w, 0, "0 1");
        finish(&w);
        stop(&w);
    }
}

/* -- the destination as a whole ---------------------------------------------------------------- */

/* How often ten minutes of it are worth a request: the wait is evenly between nothing and at most
 * 30 s, so about 40 times, and a few quick ones at the beginning. */
static const struct outage {
    const char *name;
    long status;
    const char *body;
} outages[] = {
    {"no answer", 0, ""},
    {"500", 500, "{\"__type\":\"InternalFailure\"}"},
    {"503 of a load balancer", 503, "<html>Service Unavailable</html>"},
    {"unreadable", 200, "<html>hotel login</html>"},
    {"redirected", 302, ""},
    {"throttled", 400, "{\"__type\":\"LimitExceededException\"}"},
    {"429", 429, ""},
    {"unknown key", 400, "{\"__type\":\"UnrecognizedClientException\"}"},
    {"403", 403, ""},
    {"no stream", 400, "{\"__type\":\"ResourceNotFoundException\"}"},
    {"KMS key disabled", 400, "{\"__type\":\"KMSDisabledException\"}"},
};

static void an_outage_is_probed_and_survived(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(outages); i++) {
        const struct outage *o = &outages[i];
        size_t sent;
        struct world w;

        start(&w, 1, 1000, 1000, 4, 100);
        put_all(&w, 6);
        assert_false(put(&w, 10));
        work(&w);
        assert_int_equal(w.air_count, 4);
        while (w.air_count > 0)
            answer_failure(&w, 0, o->status, o->body, false);
        sent = w.sent;
        for (int tick = 0; tick < 10 * MINUTE / 100; tick++) {
            pass(&w, 100);
            if (w.air_count > 1)
                fail_msg("%s: %zu requests at a time", o->name, w.air_count);
            if (w.air_count > 0)
                answer_failure(&w, 0, o->status, o->body, false);
        }
        if (w.sent - sent < 20 || w.sent - sent > 90)
            fail_msg("%s: tried %zu times in 10 minutes", o->name, w.sent - sent);
        assert_int_equal(w.settled, 0);
        assert_true(deliver_pending(w.deliver) == 6);
        assert_int_equal(w.room_calls, 0);

        /* Each of the batches was among those that felt; one good answer opens twice as many, and
         * so on: many agents do not come back at once. */
        while (w.air_count == 0)
            pass(&w, 100);
        answer_records(&w, 0, "a");
        assert_int_equal(w.room_calls, 1);
        work(&w);
        assert_int_equal(w.air_count, 2);
        answer_records(&w, 0, "a");
        answer_records(&w, 0, "a");
        work(&w);
        assert_int_equal(w.air_count, 3); /* of 6, three are done */
        finish(&w);
        stop(&w);
    }
}

/* The wait before the next try after `failures` in a row is never longer than the ceiling. */
static void an_outage_is_felt_soon_at_first(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        uint64_t ceiling = 200;
        struct world w;

        start(&w, 1, 1000, 1000, 8, 100);
        w.random.state = seed;
        put_all(&w, 8);
        work(&w);
        while (w.air_count > 1)
            answer_failure(&w, 0, 0, "", false); /* those that flew together fell together */
        for (int failures = 0; failures < 12; failures++) {
            size_t sent = w.sent;
            uint64_t next;

            assert_int_equal(w.air_count, 1);
            answer_failure(&w, 0, 0, "", false);
            assert_int_equal(w.sent, sent); /* not from within the answer */
            while (w.air_count == 0) {
                work(&w);
                next = loop_next_ms(w.loop);
                if (w.air_count > 0)
                    break;
                assert_true(next != UINT64_MAX && next - w.mono_ms <= ceiling);
                pass(&w, next - w.mono_ms);
            }
            ceiling = MIN(2 * ceiling, 30 * SECOND);
        }
        finish(&w);
        stop(&w);
    }
}

/* A request that is refused as it stands waits alone: the others need not. */
static void a_refused_batch_keeps_nobody_waiting(void **state)
{
    struct world w;
    size_t refusals = 0;

    (void)state;
    start(&w, 1, 1000, 0, 2, 1000);
    put_all(&w, 1);
    work(&w);
    for (int tick = 0; tick < 10 * MINUTE / SECOND; tick++) {
        if (tick % 2 == 0)
            put_all(&w, 1);
        pass(&w, SECOND);
        while (w.air_count > 0) {
            size_t numbers[SAMPLE_MAX];

            (void)numbers_of(w.air[0], numbers);
            if (numbers[0] == 0) {
                answer_failure(&w, 0, 400, "{\"__type\":\"ValidationException\"}", false);
                refusals++;
            } else {
                answer_records(&w, 0, "a");
            }
            work(&w);
        }
        assert_int_equal(w.settled, w.added - 1);
    }
    assert_int_equal(w.records[0].settled, 0);
    assert_in_range(refusals, 20, 90);
    finish(&w);
    stop(&w);
}

/* Sending may fail before there is a request at all, for want of memory: again later. */
static void what_cannot_be_sent_stays(void **state)
{
    struct world w;

    (void)state;
    start(&w, 2, 1000, 1000, 2, 100);
    w.send_error = -ENOMEM;
    put_all(&w, 4);
    pass(&w, MINUTE);
    assert_int_equal(w.sent, 0);
    assert_true(deliver_pending(w.deliver) == 4);
    w.send_error = 0;
    pass(&w, SECOND);
    assert_int_equal(w.air_count, 2);
    check_request(&w, 0, "0 1");
    check_request(&w, 1, "2 3");
    finish(&w);
    stop(&w);
}

/* -- throttling -------------------------------------------------------------------------------- */

static void throttling_narrows_the_window(void **state)
{
    struct world w;

    (void)state;
    start(&w, 1, 1000, 1000, 8, 100);
    put_all(&w, 10);
    work(&w);
    assert_int_equal(w.air_count, 8);
    for (size_t limit = 4; limit > 0; limit /= 2) {
        while (w.air_count > 0)
            answer_records(&w, 0, "t"); /* one burst is one news */
        pass(&w, MINUTE);
        assert_int_equal(w.air_count, limit);
    }
    while (w.air_count > 0)
        answer_records(&w, 0, "t");
    pass(&w, MINUTE);
    assert_int_equal(w.air_count, 1); /* never shut */

    answer_records(&w, 0, "a"); /* a round of one */
    work(&w);
    assert_int_equal(w.air_count, 2);
    answer_records(&w, 0, "a");
    work(&w);
    assert_int_equal(w.air_count, 2);
    answer_records(&w, 0, "a"); /* a round of two */
    work(&w);
    assert_int_equal(w.air_count, 3);
    finish(&w);
    stop(&w);
}

/* -- room -------------------------------------------------------------------------------------- */

static void room_is_told_once_for_each_no(void **state)
{
    struct world w;

    (void)state;
    start(&w, 2, 1000, 1000, 1, 100);
    assert_true(deliver_has_room(w.deliver));
    put_all(&w, 6);
    work(&w);
    assert_false(deliver_has_room(w.deliver));
    assert_false(deliver_has_room(w.deliver));
    assert_null(deliver_room(w.deliver, 10, some_key));
    pass(&w, MINUTE);
    assert_int_equal(w.room_calls, 0);

    answer_records(&w, 0, "a");
    assert_int_equal(w.room_calls, 1);
    assert_true(deliver_has_room(w.deliver));
    work(&w);
    answer_records(&w, 0, "a"); /* nobody asked again */
    assert_int_equal(w.room_calls, 1);
    work(&w);

    put_all(&w, 4);
    assert_null(deliver_room(w.deliver, 10, some_key));
    answer_failure(&w, 0, 500, "", false); /* a full batch stays full */
    assert_int_equal(w.room_calls, 1);
    assert_false(deliver_has_room(w.deliver));
    pass(&w, 31 * SECOND);
    answer_records(&w, 0, "t"); /* the same */
    assert_int_equal(w.room_calls, 1);
    assert_false(deliver_has_room(w.deliver));
    pass(&w, 31 * SECOND);
    answer_records(&w, 0, "at"); /* half of it waits, the other half is room */
    assert_int_equal(w.room_calls, 2);
    assert_true(deliver_has_room(w.deliver));
    put_all(&w, 1);
    assert_false(deliver_has_room(w.deliver));
    finish(&w);
    assert_int_equal(w.room_calls, 3);
    stop(&w);
}

/* A record that does not fit anywhere seals what there is, and is called when there is room. */
static void room_is_a_matter_of_size(void **state)
{
    struct world w;

    (void)state;
    start(&w, 10, 200, 10000, 1, 100);
    for (int i = 0; i < 3; i++)
        assert_true(put(&w, 100));
    work(&w);
    assert_int_equal(w.sent, 1);
    assert_true(deliver_has_room(w.deliver));
    assert_null(deliver_room(w.deliver, 100, some_key));
    assert_false(deliver_has_room(w.deliver)); /* what was there is sealed now */
    answer_records(&w, 0, "a");
    assert_int_equal(w.room_calls, 1);
    assert_true(put(&w, 100));
    finish(&w);
    stop(&w);
}

/* Fresh records ride along with those that wait, behind them, and do not make them wait longer. */
static void waiting_batches_are_topped_up(void **state)
{
    struct world w;
    struct batch *b;
    uint64_t waits;

    (void)state;
    start(&w, 4, 1000, 10000, 1, 100);
    w.random.state = 4;
    put_all(&w, 12);
    work(&w);
    assert_false(put(&w, 10));
    check_request(&w, 0, "0 1 2 3");
    answer_records(&w, 0, "atat");
    assert_int_equal(w.room_calls, 1);
    b = deliver_room(w.deliver, 10, some_key);
    assert_non_null(b);
    assert_int_equal(b->count, 2);
    waits = b->not_before_ms;
    assert_true(waits > w.mono_ms && waits <= w.mono_ms + 400);
    assert_null(deliver_room(w.deliver, 1000 - KEY_LEN, some_key)); /* seals it again */
    put_all(&w, 1);
    assert_ptr_equal(deliver_room(w.deliver, 10, some_key), b);
    assert_int_equal(b->count, 3);
    work(&w);
    check_request(&w, 0, "4 5 6 7"); /* another one does not wait for it */
    answer_records(&w, 0, "a");
    work(&w);
    check_request(&w, 0, "8 9 10 11");
    answer_records(&w, 0, "a");
    pass(&w, waits - w.mono_ms - 1);
    assert_int_equal(w.air_count, 0);
    pass(&w, 1); /* it is not full, and its linger would be 10 s */
    check_request(&w, 0, "1 3 12");
    finish(&w);
    stop(&w);
}

/* Opening a waiting batch again is no progress: it still waits ever longer. */
static void topping_up_is_no_shorter_wait(void **state)
{
    struct world w;

    (void)state;
    start(&w, 2, 1000, 10, 1, 100);
    for (int i = 0; i < 3; i++) {
        put_all(&w, 1);
        pass(&w, 10);
    }
    for (int tick = 0; tick < 10 * MINUTE / 100; tick++) {
        (void)deliver_room(w.deliver, 10, some_key);
        pass(&w, 100);
        if (w.air_count > 0)
            answer_records(&w, 0, "t");
    }
    assert_in_range(w.sent, 3 * 20, 3 * 90);
    finish(&w);
    stop(&w);
}

/* A batch that had to wait once is as good as new when it is filled again. */
static void old_trouble_is_forgotten(void **state)
{
    struct world w;

    (void)state;
    start(&w, 4, 1000, 1000, 1, 100);
    for (size_t round = 0; round < 8; round++) {
        put_all(&w, 1);
        pass(&w, 999);
        assert_int_equal(w.sent, 2 * round);
        pass(&w, 1);
        assert_int_equal(w.air_count, 1);
        answer_records(&w, 0, "t");
        pass(&w, 400); /* never longer the first time */
        assert_int_equal(w.air_count, 1);
        answer_records(&w, 0, "a");
    }
    finish(&w);
    stop(&w);
}

/* An idle batch is taken before a waiting one is opened again. */
static void idle_batches_go_first(void **state)
{
    struct world w;

    (void)state;
    start(&w, 4, 1000, 10000, 1, 100);
    put_all(&w, 4);
    work(&w);
    answer_records(&w, 0, "attt");
    put_all(&w, 4);
    work(&w);
    check_request(&w, 0, "4 5 6 7");
    answer_records(&w, 0, "a");
    pass(&w, 31 * SECOND);
    check_request(&w, 0, "1 2 3");
    finish(&w);
    stop(&w);
}

/* -- refused as a whole ------------------------------------------------------------------------ */

static bool is_poison(size_t number, const size_t *poison, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (poison[i] == number)
            return true;
    return false;
}

/* A service that takes nothing in which there is one of the poisonous records, until all that is left
 * is settled or buried.  Returns how many requests that took. */
static size_t serve_poisoned(struct world *w, const size_t *poison, size_t count)
{
    size_t sent = w->sent;

    deliver_hurry(w->deliver);
    while (!deliver_is_idle(w->deliver)) {
        size_t numbers[SAMPLE_MAX], n;
        bool bad = false;

        pass(w, w->air_count > 0 ? 0 : SECOND);
        assert_true(w->sent - sent < 20000);
        if (w->air_count == 0)
            continue;
        n = numbers_of(w->air[0], numbers);
        for (size_t i = 0; i < n; i++)
            bad = bad || is_poison(numbers[i], poison, count);
        if (bad)
            answer_failure(w, 0, 400, "{\"__type\":\"ValidationException\",\"message\":\"m\"}",
                           false);
        else
            answer_records(w, 0, "a");
    }
    return w->sent - sent;
}

static const struct poisoned {
    const char *name;
    size_t records, poison[8], count, requests_max;
} poisoned[] = {
    {"the first of many", 500, {0}, 1, 40},
    {"the last of many", 500, {499}, 1, 40},
    {"one in the middle", 500, {250}, 1, 40},
    {"two neighbours", 500, {77, 78}, 2, 60},
    {"both ends", 500, {0, 499}, 2, 60},
    {"eight of them", 500, {3, 50, 51, 99, 200, 300, 301, 499}, 8, 200},
    {"all of few", 4, {0, 1, 2, 3}, 4, 20},
    {"one alone", 1, {0}, 1, 4},
};

static void the_one_that_is_meant_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(poisoned); i++) {
        const struct poisoned *p = &poisoned[i];
        struct world w;
        size_t requests;

        start(&w, 500, 1000000, 1000, 1, 600);
        w.buries = true;
        put_all(&w, p->records);
        requests = serve_poisoned(&w, p->poison, p->count);
        if (requests > p->requests_max)
            fail_msg("%s: %zu requests", p->name, requests);
        for (size_t n = 0; n < p->records; n++)
            if (w.records[n].buried != is_poison(n, p->poison, p->count) ||
                w.records[n].settled + w.records[n].buried != 1)
                fail_msg("%s: record %zu: settled %u, buried %u", p->name, n, w.records[n].settled,
                         w.records[n].buried);
        assert_int_equal(deliver_stats(w.deliver)->records_refused, p->count);
        stop(&w);
    }
}

/* Where everything is refused it is not the records' fault, unless the service knows better: nothing is
 * buried for an answer that anybody may have given. */
static void without_a_witness_nothing_is_buried(void **state)
{
    static const char *const bodies[] = {"", "<html>", "{\"__type\":\"SomethingNew\"}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct world w;
        size_t sent;

        start(&w, 8, 1000, 1000, 2, 100);
        w.buries = true;
        put_all(&w, 16);
        work(&w);
        for (int tick = 0; tick < 600; tick++) { /* the search, and then the slow tries */
            if (w.air_count > 0)
                answer_failure(&w, 0, 400, bodies[i], false);
            pass(&w, 100);
        }
        sent = w.sent;
        for (int tick = 0; tick < 10 * MINUTE / 100; tick++) {
            if (w.air_count > 0)
                answer_failure(&w, 0, 400, bodies[i], false);
            pass(&w, 100);
        }
        assert_in_range(w.sent - sent, 10, 200);
        assert_int_equal(w.buried, 0);
        assert_true(deliver_pending(w.deliver) == 16);
        finish(&w);
        stop(&w);
    }
}

/* Somebody on the way takes less than the service: what is sent gets smaller, and all of it arrives. */
static void a_body_that_is_too_large_gets_smaller(void **state)
{
    const size_t limit = 100 * 1024;
    size_t refused = 0;
    struct world w;

    (void)state;
    start(&w, 500, 1024 * 1024, 1000, 1, 2000);
    w.buries = true;
    for (int i = 0; i < 1000; i++)
        assert_true(put(&w, 1000));
    deliver_hurry(w.deliver);
    while (!deliver_is_idle(w.deliver)) {
        pass(&w, w.air_count > 0 ? 0 : SECOND);
        if (w.air_count == 0)
            continue;
        if (w.air[0]->body.len > limit) {
            answer_failure(&w, 0, 413, "", false);
            refused++;
        } else {
            answer_records(&w, 0, "a");
        }
    }
    assert_in_range(refused, 1, 12);
    assert_int_equal(w.buried, 0);
    finish(&w);
    stop(&w);
}

/* -- given up ---------------------------------------------------------------------------------- */

static void say_durable(struct world *w, bool durable)
{
    struct batch *b = w->left[0];

    assert_true(w->left_count > 0);
    w->left_count--;
    memmove(w->left, w->left + 1, w->left_count * sizeof(struct batch *));
    w->durable = durable;
    deliver_gave_up(w->deliver, b, durable);
    w->durable = false;
}

/* An outage, for so long. */
static void fail_for(struct world *w, uint64_t ms)
{
    for (uint64_t until = w->mono_ms + ms; w->mono_ms < until;) {
        pass(w, 100);
        if (w->air_count > 0)
            answer_failure(w, 0, 503, "", false);
    }
}

static void patience_has_an_end(void **state)
{
    struct world w;

    (void)state;
    gives_up = true;
    start(&w, 2, 1000, 10, 2, 100);
    put_all(&w, 8);
    assert_false(put(&w, 10));
    fail_for(&w, PATIENCE - 2 * SECOND);
    assert_int_equal(w.asked, 0);
    fail_for(&w, 4 * SECOND);
    assert_int_equal(w.left_count, 4);
    assert_int_equal(w.room_calls, 0);
    say_durable(&w, true);
    assert_int_equal(w.settled, 2);
    assert_int_equal(w.room_calls, 1);
    say_durable(&w, false); /* comes back, and is tried again */
    say_durable(&w, true);
    say_durable(&w, true);
    assert_true(deliver_pending(w.deliver) == 2);
    assert_true(deliver_stats(w.deliver)->records_spooled == 6);
    fail_for(&w, 5 * SECOND); /* … and given up again */
    assert_int_equal(w.left_count, 1);
    say_durable(&w, false);
    while (w.air_count == 0)
        pass(&w, 100);
    answer_records(&w, 0, "a");
    assert_true(deliver_is_idle(w.deliver));
    stop(&w);
    gives_up = false;
}

/* Nobody takes it: it is asked for again, not too often, and nothing is lost. */
static void where_nobody_takes_it_stays(void **state)
{
    struct world w;

    (void)state;
    gives_up = true;
    start(&w, 2, 1000, 10, 1, 100);
    w.full = true;
    put_all(&w, 2);
    fail_for(&w, PATIENCE + 60 * SECOND);
    assert_in_range(w.asked, 20, 70);
    assert_true(deliver_pending(w.deliver) == 2);
    w.full = false;
    deliver_may_give_up(w.deliver);
    work(&w);
    assert_int_equal(w.left_count + w.air_count, 1);
    finish_rest(&w);
    stop(&w);
    gives_up = false;
}

/* What a full shard does not take is in the way of the others: it leaves sooner. */
static void what_is_in_the_way_leaves_sooner(void **state)
{
    struct world w;

    (void)state;
    gives_up = true;
    start(&w, 4, 1000, 10, 1, 1000);
    w.group = 1;
    for (int i = 0; i < 200 && w.left_count == 0; i++) {
        size_t numbers[SAMPLE_MAX], count;
        char letters[SAMPLE_MAX + 1] = "";

        while (w.added < 900 && put(&w, 10))
            continue;
        pass(&w, 100);
        if (w.air_count == 0)
            continue;
        count = numbers_of(w.air[0], numbers);
        for (size_t n = 0; n < count; n++)
            letters[n] = numbers[n] == 0 ? 't' : 'a'; /* record 0 is always throttled */
        answer_records(&w, 0, letters);
    }
    assert_int_equal(w.left_count, 1);
    assert_in_range(w.mono_ms - 5000000, SECOND, PATIENCE / 2);
    say_durable(&w, true);
    finish_rest(&w);
    stop(&w);
    gives_up = false;
}

/* Deleted files hold too much: what a service that fails would have to take goes to disk at once,
 * and no slower than it is read. */
static void the_impatient_do_not_wait_for_a_service_that_fails(void **state)
{
    struct world w;

    (void)state;
    gives_up = true;
    start(&w, 2, 1000, 10, 2, 100);
    deliver_set_impatient(w.deliver, true);
    put_all(&w, 8);
    pass(&w, SECOND / 2); /* it may answer yet */
    assert_int_equal(w.left_count, 0);
    answer_failure(&w, 0, 503, "", false);
    work(&w);
    assert_int_equal(w.left_count, 4 - w.air_count);
    while (w.air_count > 0)
        answer_failure(&w, 0, 503, "", false);
    work(&w);
    assert_int_equal(w.left_count, 4);
    for (int i = 0; i < 10; i++) {
        while (w.left_count > 0)
            say_durable(&w, true);
        put_all(&w, 8);
        work(&w);
        assert_int_equal(w.left_count, 4);
    }
    while (w.left_count > 0)
        say_durable(&w, true);
    stop(&w);
    gives_up = false;
}

/* … and so does what a busy shard did not take just now; what it has not seen is tried. */
static void the_impatient_try_once(void **state)
{
    struct world w;

    (void)state;
    gives_up = true;
    start(&w, 2, 1000, 10, 1, 100);
    deliver_set_impatient(w.deliver, true);
    put_all(&w, 2);
    work(&w);
    answer_records(&w, 0, "at");
    work(&w);
    assert_int_equal(w.left_count, 1);
    assert_int_equal(w.settled, 1);
    say_durable(&w, true);
    put_all(&w, 2);
    work(&w);
    assert_int_equal(w.left_count, 0);
    answer_records(&w, 0, "a");
    stop(&w);
    gives_up = false;
}

static void at_the_end_all_is_given_up(void **state)
{
    struct world w;

    (void)state;
    gives_up = true;
    start(&w, 2, 1000, 10000, 2, 100);
    put_all(&w, 7);
    work(&w);
    assert_int_equal(w.air_count, 2);
    deliver_give_up_all(w.deliver);
    assert_int_equal(w.air_count, 0);
    assert_int_equal(w.left_count, 4);
    while (w.left_count > 0)
        say_durable(&w, true);
    assert_true(deliver_is_idle(w.deliver));
    assert_int_equal(w.settled, 7);
    stop(&w);
    gives_up = false;
}

/* The end, and nobody takes anything: each batch is asked about once, and stays. */
static void an_end_without_a_place_is_an_end(void **state)
{
    struct world w;

    (void)state;
    gives_up = true;
    start(&w, 2, 1000, 10000, 2, 100);
    w.full = true;
    put_all(&w, 7);
    work(&w);
    deliver_give_up_all(w.deliver);
    assert_int_equal(w.asked, 4);
    assert_true(deliver_pending(w.deliver) == 7);
    finish_rest(&w);
    stop(&w);
    gives_up = false;
}

/* -- memory ------------------------------------------------------------------------------------ */

/* Somebody else who needs memory, and has none to give. */
struct neighbour {
    struct budget_user user;
    size_t told;
};

static void neighbour_squeeze(struct budget_user *u)
{
    (void)u;
}

static void neighbour_room(struct budget_user *u)
{
    CONTAINER_OF(u, struct neighbour, user)->told++;
}

static void neighbour_join(struct neighbour *n)
{
    *n = (struct neighbour){.user = {.squeeze = neighbour_squeeze, .room = neighbour_room}};
    budget_join(memory, &n->user);
}

/* Somebody needs what waits here: it goes to disk soon, and not when its patience is over. */
static void memory_is_given_up_for_others(void **state)
{
    struct neighbour n;
    struct budget b;
    struct world w;

    (void)state;
    gives_up = true;
    memory = &b;
    budget_init(memory, 256 * 1024);
    start(&w, 2, 1000, 10, 1, 100);
    neighbour_join(&n);
    put_all(&w, 6);
    work(&w);
    assert_false(budget_take(memory, &n.user, 128 * 1024));
    work(&w);
    assert_int_equal(w.asked, 0); /* it may be sent in a moment */
    pass(&w, 2 * SECOND);
    assert_int_equal(w.left_count, 2); /* the third one flies */
    assert_int_equal(n.told, 0);
    say_durable(&w, true);
    assert_int_equal(n.told, 1);
    assert_true(budget_take(memory, &n.user, 128 * 1024));
    say_durable(&w, true);

    /* What comes afterwards has its whole patience again. */
    budget_give(memory, &n.user, 128 * 1024);
    put_all(&w, 2);
    pass(&w, 5 * SECOND);
    assert_int_equal(w.left_count, 0);
    finish_rest(&w);
    stop(&w);
    budget_leave(memory, &n.user);
    assert_true(b.used == 0);
    memory = NULL;
    gives_up = false;
}

/* Memory that nothing is in, and that is too little for the next record, is there for others: two who
 * both hold some and both wait for more would wait for ever. */
static void memory_that_is_not_enough_is_given_back(void **state)
{
    struct neighbour n;
    struct budget b;
    struct world w;

    (void)state;
    memory = &b;
    budget_init(memory, 256 * 1024);
    start(&w, 200, 300 * 1024, 10, 1, 1000);
    neighbour_join(&n);
    put_all(&w, 1);
    pass(&w, SECOND);
    answer_records(&w, 0, "a");
    assert_true(b.used == 64 * 1024); /* and all is idle */
    assert_true(budget_take(memory, &n.user, 128 * 1024));
    assert_null(deliver_room(w.deliver, 190 * 1024, some_key)); /* too large, for now */
    assert_true(budget_take(memory, &n.user, 64 * 1024));
    assert_true(b.used == 192 * 1024);
    budget_give(memory, &n.user, n.user.used);
    work(&w);
    assert_int_equal(w.room_calls, 1);
    stop(&w);
    budget_leave(memory, &n.user);
    memory = NULL;
}

/* They say when to come again. */
static void it_waits_as_long_as_they_ask(void **state)
{
    struct world w;
    struct http_answer a = {.why = "", .status = 503, .retry_after_ms = 20 * SECOND};
    uint64_t from;

    (void)state;
    start(&w, 2, 1000, 10, 2, 100);
    put_all(&w, 2);
    work(&w);
    from = w.mono_ms;
    answer(&w, 0, &a);
    while (w.air_count == 0)
        pass(&w, 100);
    assert_in_range(w.mono_ms - from, 20 * SECOND, 25 * SECOND + 100);
    finish(&w);
    stop(&w);
}

/* -- the end ----------------------------------------------------------------------------------- */

static void it_can_go_at_any_time(void **state)
{
    (void)state;
    for (size_t count = 0; count <= 12; count++) {
        for (int told = 0; told < 5; told++) {
            struct world w;

            start(&w, 2, 1000, 1000, 4, 100);
            put_all(&w, count);
            if (told > 0)
                work(&w); /* some are on their way */
            if (told > 1 && w.air_count > 0)
                answer_records(&w, 0, "at");
            if (told > 2 && w.air_count > 0)
                answer_failure(&w, 0, 0, "", false);
            if (told > 3)
                work(&w); /* and some wait */
            stop(&w);
        }
    }
    deliver_free(NULL);
}

/* -- a model ----------------------------------------------------------------------------------- */

static void answer_randomly(struct world *w, uint64_t trouble)
{
    static const char *const letters[] = {"t", "at", "f", "af", "r", "ar", "ta", "aat", "tttta"};
    size_t which = random_below(&w->random, w->air_count);
    bool stored = random_below(&w->random, 2) == 0;
    char each[SAMPLE_MAX + 1];

    if (random_below(&w->random, 10) >= trouble) {
        answer_records(w, which, "a");
        return;
    }
    switch (random_below(&w->random, 8)) {
    case 0:
        answer_failure(w, which, 0, "", stored);
        break;
    case 1:
        answer_failure(w, which, 500, "{\"__type\":\"InternalFailure\"}", stored);
        break;
    case 2:
        answer_failure(w, which, 200, "{\"Records\":[", stored);
        break;
    case 3:
        answer_failure(w, which, 400,
                       stored ? "{\"__type\":\"LimitExceededException\"}"
                              : "{\"__type\":\"ValidationException\"}",
                       false);
        break;
    case 4:
        answer_records(w, which, letters[random_below(&w->random, ARRAY_LEN(letters))]);
        break;
    default:
        for (size_t i = 0; i < SAMPLE_MAX; i++)
            each[i] = "aaatfr"[random_below(&w->random, 6)];
        each[SAMPLE_MAX] = '\0';
        answer_records(w, which, each);
    }
}

/* Whatever the service does, each record is settled exactly once and none that is not stored; and
 * a reader that sleeps until it is called gets all its records in. */
static void every_record_is_settled_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random r = {.state = seed};
        uint32_t records = (uint32_t)(1 + random_below(&r, 20));
        uint64_t bytes = 100 + random_below(&r, 2000), trouble = random_below(&r, 10);
        size_t count = 1000, called = 0;
        bool asleep = false;
        struct world w;

        start(&w, records, bytes, (uint32_t)random_below(&r, 500),
              (uint32_t)(1 + random_below(&r, 6)), count);
        w.random.state = seed;
        w.group = seed % 3 == 0 ? 7 : 1;
        for (size_t i = 0; w.added < count; i++) {
            assert_true(i < 200000); /* or somebody sleeps for ever */
            w.send_error = random_below(&r, 20) == 0 ? -ENOMEM : 0;
            if (w.room_calls > called) {
                called = w.room_calls;
                asleep = false;
            }
            switch (random_below(&r, 4)) {
            case 0:
                for (size_t n = random_below(&r, 2 * records); n > 0 && !asleep; n--)
                    if (w.added < count)
                        asleep = !put_untold(&w, 5 + random_below(&r, bytes - KEY_LEN - 4));
                deliver_added(w.deliver);
                break;
            case 1:
                if (w.air_count > 0)
                    answer_randomly(&w, trouble);
                break;
            case 2:
                pass(&w, random_below(&r, 300));
                break;
            default:
                work(&w);
                if (w.air_count == 0)
                    pass(&w, random_below(&r, 20 * SECOND));
            }
            assert_true(deliver_pending(w.deliver) == w.added - w.settled);
        }
        w.send_error = 0;
        finish(&w);
        stop(&w);
    }
}

/* -- what a person hears ----------------------------------------------------------------------- */

/* One line per trouble and minute, and one when it is over. */
static void an_outage_is_not_a_flood_of_lines(void **state)
{
    FILE *to = tmpfile();
    int saved = dup(STDERR_FILENO), lines = 0, c;
    struct world w;

    (void)state;
    assert_true(to != NULL && saved >= 0);
    start(&w, 1, 1000, 1000, 4, 100);
    put_all(&w, 4);
    work(&w);
    (void)dup2(fileno(to), STDERR_FILENO);
    log_set_level(LOG_LEVEL_DEBUG);
    for (int tick = 0; tick < 10 * MINUTE / 100; tick++) {
        if (w.air_count > 0)
            answer_failure(&w, 0, 503, "", false);
        pass(&w, 100);
    }
    log_set_level((enum log_level)0);
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    rewind(to);
    while ((c = fgetc(to)) != EOF)
        lines += c == '\n';
    (void)fclose(to);
    assert_in_range(lines, 5, 10);
    finish(&w);
    stop(&w);
}

/* -- the client -------------------------------------------------------------------------------- */

struct heard {
    struct client_call call;
    size_t count;
    bool ok;
    enum aws_error_class class;
    char code[100], message[400], id[40];
    long status;
};

static void heard(struct client_call *call, const struct client_answer *a)
{
    struct heard *h = CONTAINER_OF(call, struct heard, call);

    h->count++;
    h->ok = a->ok;
    h->class = a->class;
    h->status = a->status;
    (void)snprintf(h->code, sizeof h->code, "%.*s", SLICE_ARG(a->code));
    (void)snprintf(h->message, sizeof h->message, "%.*s", SLICE_ARG(a->message));
    (void)snprintf(h->id, sizeof h->id, "%.*s", SLICE_ARG(a->request_id));
}

/* The value of a header that must be there once; NULL if it is not there at all. */
static const char *header_of(const struct http_call *call, const char *name)
{
    const char *value = NULL;

    for (size_t i = 0; i < HTTP_HEADERS_MAX && call->headers[i] != NULL; i++) {
        struct slice line = slice_of(call->headers[i]);

        assert_true(i + 1 < HTTP_HEADERS_MAX);
        if (!slice_starts_with(line, slice_of(name)) || line.ptr[strlen(name)] != ':')
            continue;
        assert_null(value);
        assert_true(line.ptr[strlen(name) + 1] == ' ');
        value = line.ptr + strlen(name) + 2;
    }
    return value;
}

static void calls_carry_their_headers(void **state)
{
    static const char *const tokens[] = {"", "token"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
        struct heard h = {.count = 0};
        char first[1000], expected[1000];
        const struct http_call *sent;
        struct world w;

        start_client(&w, tokens[i]);
        client_call_init(&h.call, w.client, heard);
        assert_int_equal(client_send(&h.call, "Kinesis_20131202.PutRecords", SLICE("{}"), 1234), 0);
        assert_int_equal(w.air_count, 1);
        sent = w.air[0];
        assert_string_equal(sent->url, "https://kinesis.eu-west-1.amazonaws.com/");
        assert_string_equal(client_url(w.client), sent->url);
        assert_true(slice_equal(sent->body, SLICE("{}")));
        assert_int_equal(sent->timeout_ms, 1234);
        assert_string_equal(header_of(sent, "Host"), "kinesis.eu-west-1.amazonaws.com");
        assert_string_equal(header_of(sent, "Content-Type"), "application/x-amz-json-1.1");
        assert_string_equal(header_of(sent, "X-Amz-Target"), "Kinesis_20131202.PutRecords");
        assert_string_equal(header_of(sent, "X-Amz-Date"), "20150830T123600Z");
        (void)snprintf(expected, sizeof expected,
                       "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-west-1/kinesis/"
                       "aws4_request, SignedHeaders=content-type;host;x-amz-date;%sx-amz-target, "
                       "Signature=",
                       i > 0 ? "x-amz-security-token;" : "");
        (void)snprintf(first, sizeof first, "%s", header_of(sent, "Authorization"));
        assert_true(slice_starts_with(slice_of(first), slice_of(expected)));
        assert_int_equal(strlen(first), strlen(expected) + 64);
        if (i == 0)
            assert_null(header_of(sent, "X-Amz-Security-Token"));
        else
            assert_string_equal(header_of(sent, "X-Amz-Security-Token"), "token");
        answer(&w, 0, &(struct http_answer){.why = "", .status = 200});
        assert_int_equal(h.count, 1);

        w.wall_ms += 86400 * 1000 + 999; /* signed anew, and the secret is nowhere */
        assert_int_equal(client_send(&h.call, "Kinesis_20131202.PutRecords", SLICE("{}"), 1234), 0);
        assert_string_equal(header_of(sent, "X-Amz-Date"), "20150831T123600Z");
        assert_string_not_equal(header_of(sent, "Authorization"), first);
        for (size_t n = 0; sent->headers[n] != NULL; n++)
            assert_null(strstr(sent->headers[n], "wJalr"));
        client_cancel(&h.call);
        assert_int_equal(w.cancelled, 1);
        client_cancel(&h.call); /* is not on its way */
        assert_int_equal(h.count, 1);

        w.send_error = -EAGAIN;
        assert_int_equal(client_send(&h.call, "T", SLICE(""), 1), -EAGAIN);
        client_call_done(&h.call);
        client_free(w.client);
    }
    client_free(NULL);
}

static const struct reply {
    const char *name;
    struct http_answer answer;
    bool ok;
    enum aws_error_class class;
    const char *code, *message;
} replies[] = {
    {"well", {.why = "", .status = 200, .body = {"{}", 2}}, true, 0, "", ""},
    {"no answer",
     {.error = -ECONNREFUSED, .why = "Could not connect"},
     false,
     AWS_ERROR_TRANSIENT,
     "no answer",
     "Could not connect"},
    {"HTML",
     {.why = "", .status = 502, .body = {"<html>", 6}},
     false,
     AWS_ERROR_TRANSIENT,
     "HTTP 502",
     ""},
    {"nothing", {.why = "", .status = 403}, false, AWS_ERROR_CREDENTIALS, "HTTP 403", ""},
    {"204 is no answer", {.why = "", .status = 204}, false, AWS_ERROR_TRANSIENT, "HTTP 204", ""},
    {"a redirect", {.why = "", .status = 301}, false, AWS_ERROR_TRANSIENT, "HTTP 301", ""},
    {"a code",
     {.why = "", .status = 400, .body = {"{\"__type\":\"x#ExpiredToken\",\"message\":\"m\"}", 42}},
     false,
     AWS_ERROR_CREDENTIALS,
     "ExpiredToken",
     "m"},
    {"a header",
     {.why = "", .status = 400, .error_type = {"SlowDown:http://x", 17}},
     false,
     AWS_ERROR_THROTTLED,
     "SlowDown",
     ""},
};

static void answers_are_explained(void **state)
{
    struct heard h = {.count = 0};
    struct world w;

    (void)state;
    start_client(&w, "");
    client_call_init(&h.call, w.client, heard);
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        const struct reply *p = &replies[i];
        struct http_answer a = p->answer;

        a.request_id = SLICE("id-1");
        assert_int_equal(client_send(&h.call, "T", SLICE("{}"), 1), 0);
        answer(&w, 0, &a);
        assert_int_equal(h.count, i + 1);
        if (h.ok != p->ok || h.class != p->class || strcmp(h.code, p->code) != 0 ||
            strcmp(h.message, p->message) != 0 || h.status != a.status)
            fail_msg("%s: %d, %d, %s, %s", p->name, h.ok, (int)h.class, h.code, h.message);
        assert_string_equal(h.id, "id-1");
    }
    client_call_done(&h.call);
    client_free(w.client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_lingers_from_its_first_record),
        cmocka_unit_test(without_lingering_all_goes_at_once),
        cmocka_unit_test(a_full_batch_does_not_linger),
        cmocka_unit_test(hurry_ends_the_lingering),
        cmocka_unit_test(no_more_fly_than_may),
        cmocka_unit_test(only_what_failed_goes_again),
        cmocka_unit_test(an_unreadable_answer_settles_nothing),
        cmocka_unit_test(an_outage_is_probed_and_survived),
        cmocka_unit_test(an_outage_is_felt_soon_at_first),
        cmocka_unit_test(a_refused_batch_keeps_nobody_waiting),
        cmocka_unit_test(what_cannot_be_sent_stays),
        cmocka_unit_test(throttling_narrows_the_window),
        cmocka_unit_test(room_is_told_once_for_each_no),
        cmocka_unit_test(room_is_a_matter_of_size),
        cmocka_unit_test(waiting_batches_are_topped_up),
        cmocka_unit_test(topping_up_is_no_shorter_wait),
        cmocka_unit_test(old_trouble_is_forgotten),
        cmocka_unit_test(idle_batches_go_first),
        cmocka_unit_test(the_one_that_is_meant_is_found),
        cmocka_unit_test(without_a_witness_nothing_is_buried),
        cmocka_unit_test(a_body_that_is_too_large_gets_smaller),
        cmocka_unit_test(patience_has_an_end),
        cmocka_unit_test(the_impatient_do_not_wait_for_a_service_that_fails),
        cmocka_unit_test(the_impatient_try_once),
        cmocka_unit_test(where_nobody_takes_it_stays),
        cmocka_unit_test(what_is_in_the_way_leaves_sooner),
        cmocka_unit_test(at_the_end_all_is_given_up),
        cmocka_unit_test(an_end_without_a_place_is_an_end),
        cmocka_unit_test(memory_is_given_up_for_others),
        cmocka_unit_test(memory_that_is_not_enough_is_given_back),
        cmocka_unit_test(it_waits_as_long_as_they_ask),
        cmocka_unit_test(it_can_go_at_any_time),
        cmocka_unit_test(every_record_is_settled_once),
        cmocka_unit_test(an_outage_is_not_a_flood_of_lines),
        cmocka_unit_test(calls_carry_their_headers),
        cmocka_unit_test(answers_are_explained),
    };

    log_set_level((enum log_level)0); /* these troubles are ours */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
