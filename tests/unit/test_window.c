#include "ship/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "random.h"
#include "util.h"

/* A story is told in letters: s sends; c, t and e end the oldest request on its way, cleanly, with
 * throttling, or without news; C, T and E the newest. */
static const struct story {
    const char *name;
    uint32_t max;
    const char *what;
    uint32_t limit, in_flight;
} stories[] = {
    {"starts fully open", 8, "", 8, 0},
    {"one request is in flight", 8, "s", 8, 1},
    {"an end without news changes nothing", 8, "ssee", 8, 0},
    {"clean answers cannot open more than all", 2, "scscscscscsc", 2, 0},
    {"one throttled answer halves", 8, "st", 4, 0},
    {"an odd limit is rounded down", 5, "st", 2, 0},
    {"a burst halves once", 8, "sssssssstttttttt", 4, 0},
    {"a burst halves once, from whatever end", 8, "ssssssssTTTTTTTT", 4, 0},
    {"a burst halves once, with clean answers between", 8, "ssssssssctctctct", 4, 0},
    {"what was sent after the halving is another burst", 8, "stst", 2, 0},
    {"one sent before, one after", 8, "sstsTt", 2, 0},
    {"never below one", 8, "stststststst", 1, 0},
    {"max of one stays one", 1, "stscst", 1, 0},
    {"three clean of four are no round", 8, "stscscsc", 4, 0},
    {"four clean of four are one", 8, "stscscscsc", 5, 0},
    {"the next round is longer", 8, "stscscscscscscscsc", 5, 0},
    {"and is as long as the limit", 8, "stscscscscscscscscsc", 6, 0},
    {"throttling begins the round anew", 8, "stscscscstscsc", 3, 0},
    {"throttling of the same burst does so too", 8, "sssssstccctc", 4, 0},
    {"an end without news neither counts nor begins anew", 8, "stscscscsesc", 5, 0},
    {"from one to two takes one", 2, "stsc", 2, 0},
};

struct air {
    uint64_t numbers[64];
    size_t count;
};

static uint64_t land(struct air *a, bool newest)
{
    uint64_t number = a->numbers[newest ? a->count - 1 : 0];

    assert_true(a->count > 0);
    a->count--;
    for (size_t i = 0; !newest && i < a->count; i++)
        a->numbers[i] = a->numbers[i + 1];
    return number;
}

static void tell(const struct story *s)
{
    struct air air = {.count = 0};
    struct window w;

    window_init(&w, s->max);
    for (const char *c = s->what; *c != '\0'; c++) {
        switch (*c) {
        case 's':
            assert_true(window_may_send(&w));
            air.numbers[air.count++] = window_send(&w);
            break;
        case 'c':
        case 'C':
            (void)land(&air, *c == 'C');
            window_clean(&w);
            break;
        case 't':
        case 'T':
            window_throttled(&w, land(&air, *c == 'T'));
            break;
        default:
            (void)land(&air, *c == 'E');
            window_ended(&w);
        }
    }
    if (w.limit != s->limit || w.in_flight != s->in_flight)
        fail_msg("%s: limit %u, %u in flight", s->name, w.limit, w.in_flight);
}

static void stories_end_as_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++)
        tell(&stories[i]);
}

static void the_limit_is_what_may_fly(void **state)
{
    (void)state;
    for (uint32_t max = 1; max <= 20; max++) {
        struct window w;

        window_init(&w, max);
        for (uint32_t i = 0; i < max; i++) {
            assert_true(window_may_send(&w));
            (void)window_send(&w);
        }
        assert_false(window_may_send(&w));
        window_throttled(&w, w.sent);
        assert_int_equal(window_may_send(&w), max - 1 < MAX(max / 2, 1U));
    }
}

/* Whatever happens in whatever order: the invariants of the header, and the numbers name the
 * requests one after the other. */
static void the_limit_keeps_its_bounds(void **state)
{
    struct random r = {.state = 1};

    (void)state;
    for (uint32_t max = 1; max <= 40; max++) {
        struct air air = {.count = 0};
        uint64_t last = 0;
        struct window w;

        window_init(&w, max);
        for (int step = 0; step < 3000; step++) {
            uint32_t before = w.limit;

            if (air.count == 0 || random_below(&r, 2) == 0) {
                if (!window_may_send(&w))
                    continue;
                air.numbers[air.count++] = window_send(&w);
                assert_true(air.numbers[air.count - 1] == ++last);
                continue;
            }
            bool newest = random_below(&r, 2) == 0;
            switch (random_below(&r, 8)) {
            case 0:
                window_throttled(&w, land(&air, newest));
                assert_true(w.limit == before || w.limit == MAX(before / 2, 1U));
                break;
            case 1:
                (void)land(&air, newest);
                window_ended(&w);
                assert_int_equal(w.limit, before);
                break;
            default:
                (void)land(&air, newest);
                window_clean(&w);
                assert_true(w.limit == before || w.limit == before + 1);
            }
            assert_true(w.limit >= 1 && w.limit <= max);
            assert_int_equal(w.in_flight, air.count);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories_end_as_told),
        cmocka_unit_test(the_limit_is_what_may_fly),
        cmocka_unit_test(the_limit_keeps_its_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
