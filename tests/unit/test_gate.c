/* The gate on a clock that only the test moves: who has the next request, and when. */
#include "ship/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "clock.h"
#include "random.h"
#include "run/log.h"
#include "run/loop.h"
#include "ship/client.h"
#include "ship/kinesis.h"
#include "util.h"

enum { USERS = 3, SENT_MAX = 1000 };

struct user {
    struct gate_user gate;
    struct world *world;
    size_t want; /* requests that it has ready */
};

struct world {
    struct clock clock;
    uint64_t mono_ms;
    struct loop *loop;
    struct random random;
    struct gate *gate;
    struct user users[USERS];
    char sent[SENT_MAX + 1]; /* whose requests went, in order */
    uint64_t numbers[SENT_MAX];
    size_t count, ended; /* those before `ended` are answered */
};

static uint64_t world_mono_ms(const struct clock *c)
{
    return CONTAINER_OF(c, struct world, clock)->mono_ms;
}

static int64_t world_wall_ms(const struct clock *c)
{
    (void)c;
    return 0;
}

static void user_send(struct gate_user *g)
{
    struct user *u = CONTAINER_OF(g, struct user, gate);
    struct world *w = u->world;

    assert_true(u->want > 0 && w->count < SENT_MAX);
    w->sent[w->count] = (char)('a' + (u - w->users));
    w->numbers[w->count++] = gate_sent(w->gate);
    if (--u->want > 0)
        gate_want(w->gate, g);
}

static void start(struct world *w, uint32_t in_flight_max)
{
    *w = (struct world){
        .clock = {world_mono_ms, world_wall_ms}, .mono_ms = 1000, .random = {.state = 1}};
    assert_int_equal(loop_new(&w->clock, &w->loop), 0);
    assert_int_equal(
        gate_new(w->loop, &w->random, &kinesis_service, "logs", "https://x/", &w->gate), 0);
    for (size_t i = 0; i < USERS; i++) {
        struct user *u = &w->users[i];

        u->world = w;
        u->gate =
            (struct gate_user){.flow = "f", .in_flight_max = in_flight_max, .send = user_send};
        list_init(&u->gate.node);
        gate_join(w->gate, &u->gate);
    }
}

static void stop(struct world *w)
{
    for (size_t i = 0; i < USERS; i++)
        gate_leave(w->gate, &w->users[i].gate);
    gate_free(w->gate);
    assert_true(loop_next_ms(w->loop) == UINT64_MAX);
    loop_free(w->loop);
}

static void want(struct world *w, size_t user, size_t count)
{
    w->users[user].want += count;
    gate_want(w->gate, &w->users[user].gate);
}

static void work(struct world *w)
{
    for (int i = 0; i < 20; i++)
        assert_int_equal(loop_step(w->loop, 0), 0);
}

static void answer(struct world *w, bool throttled)
{
    assert_true(w->ended < w->count);
    gate_answered(w->gate, w->numbers[w->ended++], true, throttled);
}

static void fail_one(struct world *w)
{
    const struct client_answer a = {.class = AWS_ERROR_TRANSIENT, .code = SLICE("HTTP 503")};

    assert_true(w->ended < w->count);
    gate_failed(w->gate, &w->users[0].gate, w->numbers[w->ended++], &a);
}

static void all_have_their_turn(void **state)
{
    struct world w;

    (void)state;
    start(&w, 1);
    want(&w, 0, 100);
    want(&w, 1, 3);
    want(&w, 2, 5);
    work(&w);
    assert_string_equal(w.sent, "abc"); /* three at a time, as many as they may have together */
    while (w.count < 20) {
        answer(&w, false);
        work(&w);
    }
    assert_string_equal(w.sent, "abcabcabcacacaaaaaaa");
    while (w.ended < w.count)
        answer(&w, false);
    w.users[0].want = 0;
    stop(&w);
}

static void a_throttled_answer_narrows_it_for_all(void **state)
{
    struct world w;

    (void)state;
    start(&w, 4);
    for (size_t i = 0; i < USERS; i++)
        want(&w, i, 100);
    work(&w);
    assert_int_equal(w.count, 12);
    answer(&w, true);
    assert_int_equal(gate_window(w.gate), 6);
    while (w.ended < 11) {
        answer(&w, true); /* of the same burst: no news */
        work(&w);
    }
    assert_int_equal(gate_window(w.gate), 6);
    assert_int_equal(w.count - w.ended, 6);
    while (w.ended < w.count)
        answer(&w, false);
    stop(&w);
}

static void one_feels_whether_it_is_back(void **state)
{
    struct world w;
    size_t before;

    (void)state;
    start(&w, 4);
    for (size_t i = 0; i < USERS; i++)
        want(&w, i, 100);
    work(&w);
    while (w.ended < w.count)
        fail_one(&w);
    assert_true(gate_is_failing(w.gate) && gate_failing_since_ms(w.gate) == 1000);
    assert_false(gate_has_witness(w.gate));
    before = w.count;
    for (int tick = 0; tick < 6000; tick++) { /* ten minutes */
        w.mono_ms += 100;
        work(&w);
        assert_true(w.count - w.ended <= 1);
        if (w.count > w.ended)
            fail_one(&w);
    }
    assert_in_range(w.count - before, 20, 90);
    while (w.count == w.ended) {
        w.mono_ms += 100;
        work(&w);
    }
    answer(&w, false);
    assert_false(gate_is_failing(w.gate));
    assert_true(gate_has_witness(w.gate));
    for (uint32_t window = 2; window < 12; window *= 2) { /* not all at once */
        assert_int_equal(gate_window(w.gate), window);
        work(&w);
        assert_int_equal(w.count - w.ended, window);
        while (w.ended < w.count)
            answer(&w, false);
    }
    assert_int_equal(gate_window(w.gate), 12);
    w.mono_ms += 61 * 1000;
    work(&w);
    assert_false(gate_has_witness(w.gate));
    stop(&w);
}

static void they_are_not_disturbed_before_they_say(void **state)
{
    const struct client_answer a = {
        .class = AWS_ERROR_THROTTLED, .code = SLICE("SlowDown"), .retry_after_ms = 10000};
    struct world w;

    (void)state;
    start(&w, 1);
    want(&w, 0, 1);
    work(&w);
    gate_failed(w.gate, &w.users[0].gate, w.numbers[w.ended++], &a);
    want(&w, 0, 1);
    w.mono_ms += 9999;
    work(&w);
    assert_int_equal(w.count, 1);
    w.mono_ms += 2501; /* a quarter of it, so that not all come at once */
    work(&w);
    assert_int_equal(w.count, 2);
    answer(&w, false);
    stop(&w);
}

static void who_has_left_is_not_asked(void **state)
{
    struct world w;

    (void)state;
    start(&w, 1);
    want(&w, 0, 1);
    want(&w, 1, 1);
    gate_leave(w.gate, &w.users[0].gate);
    work(&w);
    assert_string_equal(w.sent, "b");
    gate_join(w.gate, &w.users[0].gate);
    answer(&w, false);
    stop(&w);
}

static void a_body_may_be_too_large_for_the_way(void **state)
{
    struct world w;

    (void)state;
    start(&w, 1);
    assert_true(gate_body_max(w.gate) == UINT64_MAX);
    gate_too_large(w.gate, 1000000);
    assert_int_equal(gate_body_max(w.gate), 500000);
    gate_too_large(w.gate, 70000);
    assert_int_equal(gate_body_max(w.gate), 64 * 1024);
    want(&w, 0, 100);
    for (int i = 0; i < 64; i++) {
        work(&w);
        answer(&w, false);
    }
    assert_int_equal(gate_body_max(w.gate), 64 * 1024 * 9 / 8); /* tried again, carefully */
    w.users[0].want = 1;
    work(&w);
    answer(&w, false);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_have_their_turn),
        cmocka_unit_test(a_throttled_answer_narrows_it_for_all),
        cmocka_unit_test(one_feels_whether_it_is_back),
        cmocka_unit_test(they_are_not_disturbed_before_they_say),
        cmocka_unit_test(who_has_left_is_not_asked),
        cmocka_unit_test(a_body_may_be_too_large_for_the_way),
    };

    log_set_level((enum log_level)0); /* these troubles are ours */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
