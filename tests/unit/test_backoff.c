#include "backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random.h"
#include "util.h"

static const struct story {
    uint32_t base_ms, cap_ms, tries;
    uint64_t most_ms;
} stories[] = {
    {10, 80, 0, 10},
    {10, 80, 1, 20},
    {10, 80, 2, 40},
    {10, 80, 3, 80},
    {10, 80, 4, 80},
    {10, 80, 1000, 80},
    {10, 80, UINT32_MAX, 80},
    {7, 20, 1, 14},
    {7, 20, 2, 20},
    {100, 10, 0, 10},
    {0, 80, 5, 0},
    {10, 0, 5, 0},
    {UINT32_MAX, UINT32_MAX, 31, UINT32_MAX}, /* must not overflow */
    {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
    {1, UINT32_MAX, 20, 1 << 20},
};

/* Full jitter: every delay from none to the ceiling may come, and none above it. */
static void test_range(void **state)
{
    struct random r = {1};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        struct backoff b = {s->base_ms, s->cap_ms};
        bool seen[101] = {false};
        uint64_t least = UINT64_MAX, most = 0;

        for (int n = 0; n < 20000; n++) {
            uint64_t d = backoff_delay_ms(&b, s->tries, &r);

            assert_true(d <= s->most_ms);
            if (d < ARRAY_LEN(seen))
                seen[d] = true;
            least = MIN(least, d);
            most = MAX(most, d);
        }
        for (uint64_t d = 0; s->most_ms < ARRAY_LEN(seen) && d <= s->most_ms; d++)
            assert_true(seen[d]);
        assert_true(least <= s->most_ms / 100);
        assert_true(most >= s->most_ms - s->most_ms / 100);
    }
}

static void test_random(void **state)
{
    struct random a = {42}, b = {42}, c = {43};
    size_t counts[10] = {0};
    bool differs = false;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = random_next(&a);
        assert_true(x == random_next(&b)); /* one seed replays */
        differs = differs || x != random_next(&c);
    }
    assert_true(differs);
    assert_int_equal(random_below(&a, 0), 0);
    assert_int_equal(random_below(&a, 1), 0);
    for (int i = 0; i < 100000; i++)
        counts[random_below(&a, 10)]++;
    for (size_t i = 0; i < 10; i++)
        assert_in_range(counts[i], 9500, 10500);
    for (int i = 0; i < 1000; i++)
        assert_true(random_below(&a, UINT64_MAX) < UINT64_MAX);

    /* Vigna's reference, splitmix64.c: the first numbers from seed 0. */
    a.state = 0;
    assert_true(random_next(&a) == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(random_next(&a) == UINT64_C(0x6e789e6aa1b965f4));
    random_seed(&a);
    random_seed(&b);
    assert_false(random_next(&a) == random_next(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
