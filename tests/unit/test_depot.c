/* Depot between batches on one side and a service on the other: on a clock that only the test moves, a
 * real directory, and a disk that fails when the test says so. */
#include "run/depot.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base64.h"
#include "budget.h"
#include "clock.h"
#include "disk.h"
#include "json.h"
#include "keep/checkpoint.h"
#include "keep/spool.h"
#include "keep/state.h"
#include "random.h"
#include "record/key.h"
#include "run/log.h"
#include "run/loop.h"
#include "run/morgue.h"
#include "run/scribe.h"
#include "ship/batch.h"
#include "ship/client.h"
#include "ship/gate.h"
#include "ship/kinesis.h"
#include "util.h"

enum {
    AIR_MAX = 4,
    NUMBERS = 1000,
    LARGE = 200 * 1024, /* bytes of a record that fills the spool */
    SECOND = 1000,
    LIMIT = 64 * 1024 * 1024,
};

static struct world {
    struct clock clock;
    uint64_t mono_ms;
    struct transport transport;
    struct http_call *air[AIR_MAX];
    size_t air_count;
    struct disk disk;
    int write_error; /* of segments; 0: none */

    char dir[64];
    struct state state;
    struct loop *loop;
    struct random random;
    struct scribe *scribe;
    struct client *client;
    struct gate *gate;
    struct morgue *morgue;
    struct checkpoint *checkpoint;
    struct budget budget;
    struct depot *depot; /* NULL: not running */
    uint64_t limit_bytes;
    bool drop_oldest;

    /* Who gives. */
    struct depot_user user;
    struct batch batch;
    struct checkpoint_slot *slot;
    bool slot_known; /* … and tells where its file is settled */
    size_t told, durable, failed, untold, room;
    int tell_error;

    uint32_t stored[NUMBERS]; /* how often the service has each */
} world;

static uint64_t world_mono_ms(const struct clock *c)
{
    (void)c;
    return world.mono_ms;
}

static int64_t world_wall_ms(const struct clock *c)
{
    (void)c;
    return 1440938160000 + (int64_t)world.mono_ms;
}

static int world_send(struct transport *t, struct http_call *call)
{
    (void)t;
    assert_true(world.air_count < AIR_MAX);
    world.air[world.air_count++] = call;
    return 0;
}

static void land(size_t which)
{
    for (world.air_count--; which < world.air_count; which++)
        world.air[which] = world.air[which + 1];
}

static void world_cancel(struct transport *t, struct http_call *call)
{
    (void)t;
    for (size_t i = 0; i < world.air_count; i++)
        if (world.air[i] == call) {
            land(i);
            return;
        }
}

static ssize_t world_write(const struct disk *d, int fd, const void *from, size_t len)
{
    (void)d;
    return world.write_error < 0 ? world.write_error
                                 : disk_system.write(&disk_system, fd, from, len);
}

/* --- who gives --- */

static int world_tell(void *user, const struct batch *b, struct depot_draft *draft)
{
    const struct cursor at = {.offset = b->entries[b->count - 1].origin.end, .anchor = 7};

    assert_ptr_equal(user, &world);
    if (world.tell_error < 0)
        return world.tell_error;
    world.told++;
    draft->sources[0] = (struct spool_source){SLICE("web"), SLICE("/var/log/web.log")};
    draft->source_count = 1;
    for (uint32_t i = 0; i < b->count; i++)
        draft->source_of[i] = 0;
    return world.slot_known ? checkpoint_tell(world.slot, at, &draft->facts) : 0;
}

static void world_done(void *user, struct batch *b, bool told, bool durable)
{
    assert_ptr_equal(user, &world);
    assert_ptr_equal(b, &world.batch);
    assert_true(told || !durable);
    world.durable += durable;
    world.failed += !durable;
    world.untold += !told;
    batch_come_back(b);
}

static void world_room(void *user)
{
    (void)user;
    world.room++;
}

static void settle_nothing(void *user, void *owner, uint32_t count)
{
    (void)user;
    (void)owner;
    (void)count;
}

static void noted(void *user)
{
    (void)user;
}

/* A batch of records number `first` and the following; each is `len` bytes: its number, and blanks. */
static void fill(size_t first, size_t count, size_t len)
{
    struct batch *b = &world.batch;
    char *data = malloc(len + 1);

    assert_non_null(data);
    if (b->state == BATCH_SEALED)
        batch_settle(b, settle_nothing, NULL);
    b->state = BATCH_FILLING;
    for (size_t i = first; i < first + count; i++) {
        (void)snprintf(data, len + 1, "%-*zu", (int)len, i);
        batch_add(b, (struct slice){data, len}, (struct batch_key){SLICE("\"k\""), 1}, NULL,
                  (struct batch_origin){10 * i, 10 * (i + 1), 0}, world.mono_ms);
    }
    batch_seal(b);
    free(data);
}

static bool give(void)
{
    batch_leave(&world.batch);
    if (depot_take(world.depot, &world.user, &world.batch))
        return true;
    batch_come_back(&world.batch);
    return false;
}

/* --- life --- */

static void start(void)
{
    struct depot_settings settings = {
        .destination = "arn:stream/logs",
        .stream = "logs",
        .stream_name = SLICE("logs"),
        .limit_bytes = world.limit_bytes,
        .drop_oldest = world.drop_oldest,
        .key_json_max = KEY_JSON_MAX,
        .in_flight_max = 1,
    };
    struct checkpoint_report report;
    struct depot_place place;
    const char *what;
    pid_t owner;

    assert_int_equal(state_open(&disk_system, world.dir, &world.state, &what, &owner), 0);
    assert_int_equal(loop_new(&world.clock, &world.loop), 0);
    assert_int_equal(scribe_new(world.loop, false, &world.scribe), 0);
    assert_int_equal(gate_new(world.loop, &world.random, &kinesis_service, "logs",
                              client_url(world.client), &world.gate),
                     0);
    assert_int_equal(
        checkpoint_open(&world.disk, world.state.checkpoint_fd, &world.checkpoint, &report), 0);
    assert_int_equal(morgue_new(world.loop, world.scribe, &world.disk, world.state.dir_fd,
                                settings.destination, &world.morgue),
                     0);
    budget_init(&world.budget, LIMIT);
    place = (struct depot_place){
        .loop = world.loop,
        .scribe = world.scribe,
        .random = &world.random,
        .client = world.client,
        .gate = world.gate,
        .budget = &world.budget,
        .morgue = world.morgue,
        .checkpoint = world.checkpoint,
        .disk = &world.disk,
        .service = &kinesis_service,
        .state_dir_fd = world.state.dir_fd,
        .noted = noted,
    };
    assert_int_equal(depot_new(&settings, &place, &world.depot), 0);
    world.user = (struct depot_user){
        .tell = world_tell, .done = world_done, .room = world_room, .user = &world};
    list_init(&world.user.node);
    assert_int_equal(depot_join(world.depot, 1), 0);
}

/* As kill -9 would: nothing is said to anybody. */
static void end(void)
{
    scribe_free(world.scribe);
    depot_leave(world.depot, &world.user);
    depot_free(world.depot);
    morgue_free(world.morgue);
    gate_free(world.gate);
    checkpoint_close(world.checkpoint);
    assert_int_equal(world.air_count, 0);
    assert_true(loop_next_ms(world.loop) == UINT64_MAX);
    assert_true(world.budget.used == 0);
    loop_free(world.loop);
    state_close(&world.state);
    world.depot = NULL;
}

static int begin(void **state)
{
    struct client_settings settings = {
        .region = SLICE("eu-west-1"),
        .service = SLICE("kinesis"),
        .access_key_id = SLICE("AKIDEXAMPLE"),
        .secret_access_key = SLICE("secret"),
    };
    const struct batch_limits limits = {100, 1024 * 1024, KEY_JSON_MAX};

    (void)state;
    world = (struct world){
        .clock = {world_mono_ms, world_wall_ms},
        .mono_ms = 5000000,
        .transport = {world_send, world_cancel},
        .disk = disk_system,
        .random = {.state = 1},
        .limit_bytes = LIMIT,
        .dir = "/tmp/kinetail-depot-XXXXXX",
    };
    world.disk.write = world_write;
    assert_non_null(mkdtemp(world.dir));
    assert_int_equal(endpoint_of_region(SLICE("kinesis"), settings.region, &settings.endpoint), 0);
    assert_int_equal(client_new(&world.transport, &world.clock, &settings, &world.client), 0);
    assert_int_equal(
        batch_init(&world.batch, &kinesis_service, &limits, SLICE("logs"), (struct slice){0}), 0);
    start();
    return 0;
}

static int finish(void **state)
{
    char command[128];

    (void)state;
    end();
    batch_done(&world.batch);
    client_free(world.client);
    (void)snprintf(command, sizeof command, "rm -r %s", world.dir);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a test's own directory */
    return 0;
}

static void restart(void)
{
    end();
    start();
}

/* Lets happen what may happen now. */
static void work(void)
{
    int steps = 0;

    do {
        assert_int_equal(loop_step(world.loop, 0), 0); /* the scribe's word is no deadline */
        assert_int_equal(loop_step(world.loop, 0), 0);
        assert_true(++steps < 1000); /* or it spins */
    } while (loop_next_ms(world.loop) <= world.mono_ms);
}

static void pass(uint64_t ms)
{
    for (uint64_t until = world.mono_ms + ms; world.mono_ms < until; world.mono_ms += 50)
        work();
    work();
}

/* --- the service --- */

/* Takes, of the first request on its way, the records whose letter is a; t: throttled; r: refused.  The
 * last letter is for all that follow.  Returns how many it had. */
static size_t answer(const char *letters)
{
    struct http_call *call = world.air[0];
    struct http_answer a = {.why = "", .status = 200, .request_id = SLICE("id")};
    struct json_token t;
    struct buf body;
    struct json j;
    size_t count = 0;

    assert_true(world.air_count > 0);
    buf_init(&body, 1024 * 1024);
    assert_int_equal(buf_append(&body, SLICE("{\"Records\":[")), 0);
    json_init(&j, call->body);
    while (json_next(&j, &t) == 0 && t.type != JSON_END) {
        char text[16] = "";
        size_t number, len;

        if (t.type != JSON_KEY || !json_text_equal(t.text, SLICE("Data")))
            continue;
        assert_int_equal(json_next(&j, &t), 0);
        assert_int_equal(base64_decode(slice_first(t.text, 12), text, &len), 0);
        number = strtoul(text, NULL, 10);
        assert_true(number < NUMBERS);
        world.stored[number] += *letters == 'a';
        assert_int_equal(
            buf_printf(&body,
                       *letters == 'a'
                           ? "%s{\"SequenceNumber\":\"1\",\"ShardId\":\"s\"}"
                           : (*letters == 't'
                                  ? "%s{\"ErrorCode\":\"ProvisionedThroughputExceededException\"}"
                                  : "%s{\"ErrorCode\":\"ValidationException\"}"),
                       count++ > 0 ? "," : ""),
            0);
        letters += letters[1] != '\0';
    }
    assert_int_equal(buf_append(&body, SLICE("]}")), 0);
    a.body = buf_slice(&body);
    land(0);
    call->done(call, &a);
    buf_done(&body);
    work();
    return count;
}

static size_t stored_of(size_t first, size_t count, uint32_t times)
{
    size_t n = 0;

    for (size_t i = first; i < first + count; i++)
        n += world.stored[i] == times;
    return n;
}

static uint64_t waiting(void)
{
    return depot_stats(world.depot)->records;
}

/* Everything is taken from now on. */
static void deliver_rest(void)
{
    for (int i = 0; i < 1000 && (waiting() > 0 || world.air_count > 0); i++) {
        pass(100);
        while (world.air_count > 0)
            (void)answer("a");
    }
    assert_true(waiting() == 0);
}

/* --- stories --- */

static void what_is_durable_is_drained_once(void **state)
{
    (void)state;
    fill(0, 50, 20);
    assert_true(give());
    assert_false(depot_is_idle(world.depot));
    work();
    assert_true(depot_is_idle(world.depot));
    assert_int_equal(world.durable, 1);
    assert_int_equal(world.told, 1);
    assert_true(waiting() == 50);
    pass(SECOND);
    assert_int_equal(world.air_count, 0); /* not before it is told to */
    depot_start(world.depot);
    deliver_rest();
    assert_int_equal(stored_of(0, 50, 1), 50);
    restart();
    assert_true(waiting() == 0);
}

static void what_is_durable_outlives_a_crash(void **state)
{
    (void)state;
    fill(0, 50, 20);
    assert_true(give());
    work();
    restart();
    assert_true(waiting() == 50);
    depot_start(world.depot);
    deliver_rest();
    assert_int_equal(stored_of(0, 50, 1), 50);
}

/* Of a frame of which some was taken, a later run sends the rest alone. */
static void a_part_that_was_taken_is_not_sent_again(void **state)
{
    (void)state;
    fill(0, 10, 20);
    assert_true(give());
    work();
    depot_start(world.depot);
    pass(200);
    assert_int_equal(answer("aatta"
                            "ta"
                            "t"),
                     10);
    assert_int_equal(stored_of(0, 10, 1), 4);
    restart();
    depot_start(world.depot);
    deliver_rest();
    assert_int_equal(stored_of(0, 10, 1), 10);
}

/* The disk fails: the batch comes back, nothing is taken for a while, and then again. */
static void what_cannot_be_written_comes_back(void **state)
{
    (void)state;
    fill(0, 10, 20);
    world.write_error = -EIO;
    assert_true(give());
    work();
    assert_int_equal(world.durable, 0);
    assert_int_equal(world.failed, 1);
    assert_int_equal(world.untold, 0);
    assert_false(give());
    assert_int_equal(world.room, 0);
    world.write_error = 0;
    pass(3 * SECOND);
    assert_int_equal(world.room, 1);
    assert_true(give());
    work();
    assert_int_equal(world.durable, 1);
    restart();
    assert_true(waiting() == 10);
    depot_start(world.depot);
    deliver_rest();
    assert_int_equal(stored_of(0, 10, 1), 10);
}

/* Whoever cannot say where his records are from has them back, and was told of nothing. */
static void a_draft_that_fails_is_no_frame(void **state)
{
    (void)state;
    fill(0, 10, 20);
    world.tell_error = -ENOMEM;
    assert_true(give());
    work();
    assert_int_equal(world.untold, 1);
    world.tell_error = 0;
    pass(3 * SECOND);
    assert_true(waiting() == 0);
    assert_int_equal(world.room, 0); /* it was not told no */
    assert_true(give());
    work();
    assert_int_equal(world.durable, 1);
}

static void fill_the_spool(size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        fill(i, 1, LARGE);
        assert_true(give());
        work();
    }
}

static void a_full_spool_takes_nothing(void **state)
{
    size_t given = 0;

    (void)state;
    world.limit_bytes = 2 * 1024 * 1024;
    restart();
    do
        fill_the_spool(given++, 1);
    while (world.failed == 0 && given < 12);
    assert_int_equal(world.untold, 1); /* nobody is asked to draft in vain */
    assert_int_equal(world.durable, given - 1);
    assert_true(depot_stats(world.depot)->bytes <= world.limit_bytes);
    assert_false(give());
    depot_start(world.depot);
    deliver_rest();
    pass(3 * SECOND); /* what was sent is off the disk */
    assert_int_equal(world.room, 1);
    assert_true(give());
    work();
    deliver_rest();
    assert_int_equal(stored_of(0, given, 1), given);
}

/* A record that the service does not want is a dead letter, with its place; the others are sent. */
static void what_is_refused_on_the_way_is_buried(void **state)
{
    (void)state;
    fill(0, 3, 20);
    assert_true(give());
    work();
    depot_start(world.depot);
    pass(200);
    (void)answer("ara");
    pass(SECOND);
    assert_true(morgue_is_idle(world.morgue));
    assert_int_equal(world.air_count, 0);
    assert_true(waiting() == 0);
    assert_int_equal(stored_of(0, 3, 1), 2);
    restart();
    assert_true(waiting() == 0);
}

/* What a frame says of its files is made good in the checkpoint, if that had not heard of it. */
static void a_start_learns_how_far_files_are_settled(void **state)
{
    const struct source_id id = {.dev = 1, .ino = 2, .head_len = 1, .head_hash = 3};
    struct checkpoint_slot *s;

    (void)state;
    assert_int_equal(checkpoint_join(world.checkpoint, SLICE("web"), SLICE("/var/log/web.log"), &id,
                                     (struct cursor){0}, &world.slot),
                     0);
    world.slot_known = true;
    fill(0, 10, 20);
    assert_true(give());
    work();
    restart(); /* the checkpoint was never written */
    s = checkpoint_next(world.checkpoint, NULL);
    assert_non_null(s);
    assert_true(checkpoint_cursor(s).offset == 100);
    assert_true(checkpoint_spool(world.checkpoint, SLICE("arn:stream/logs")) == 1);
}

static void give_and_drop(void)
{
    world.limit_bytes = 4 * 1024 * 1024;
    world.drop_oldest = true;
    restart();
    depot_start(world.depot);
    fill_the_spool(0, 1);
    pass(200);
    assert_int_equal(world.air_count, 1); /* the first is on its way … */
    fill_the_spool(1, 60);                /* … when its segment is dropped */
    assert_true(depot_dropped(world.depot) > 10);
    assert_int_equal(world.durable, 61);
}

/* The oldest are dropped while some of them are on their way. */
static void what_is_dropped_may_be_on_its_way(void **state)
{
    size_t sent;

    (void)state;
    give_and_drop();
    deliver_rest();
    sent = stored_of(0, 61, 1);
    assert_int_equal(stored_of(0, 61, 0) + sent, 61);
    assert_true(sent < 61 && sent + depot_dropped(world.depot) >= 61);
    assert_int_equal(world.stored[60], 1); /* the newest are there */
    restart();
    assert_true(waiting() == 0);
}

/* A batch that is larger than the spool: to drop the oldest would make no room for it. */
static void nothing_is_dropped_for_what_never_fits(void **state)
{
    (void)state;
    fill_the_spool(0, 60); /* of several segments */
    world.limit_bytes = 300 * 1024;
    world.drop_oldest = true;
    restart();
    fill(60, 3, LARGE);
    assert_true(give());
    work();
    assert_int_equal(world.failed, 1);
    assert_true(depot_dropped(world.depot) == 0);
    assert_true(waiting() == 60);
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, begin, finish)
    const struct CMUnitTest tests[] = {
        STORY(what_is_durable_is_drained_once),
        STORY(what_is_durable_outlives_a_crash),
        STORY(a_part_that_was_taken_is_not_sent_again),
        STORY(what_cannot_be_written_comes_back),
        STORY(a_draft_that_fails_is_no_frame),
        STORY(a_full_spool_takes_nothing),
        STORY(what_is_refused_on_the_way_is_buried),
        STORY(a_start_learns_how_far_files_are_settled),
        STORY(what_is_dropped_may_be_on_its_way),
        STORY(nothing_is_dropped_for_what_never_fits),
    };

    log_set_level((enum log_level)0); /* these troubles are ours */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
