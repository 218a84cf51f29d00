#include "map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random.h"
#include "util.h"

enum { THINGS = 300, STEPS = 20000 };

struct thing {
    struct map_node node;
    uint64_t hash;
    bool in;
};

/* How often `t` is found under its hash. */
static size_t count_found(const struct map *m, const struct thing *t)
{
    struct map_node *n = map_find(m, t->hash);
    size_t count = 0;

    for (; n != NULL; n = map_find_next(n)) {
        assert_true(n->hash == t->hash); /* others with the same hash, never with another */
        count += CONTAINER_OF(n, struct thing, node) == t;
    }
    return count;
}

/* From hardly any equal hashes to nothing else; and such that differ only where buckets do not. */
static void test_model(void **state)
{
    static const uint64_t masks[] = {UINT64_MAX, 63, 3, 0, UINT64_C(0xff00000000000000)};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(masks); k++) {
        static struct thing things[THINGS];
        struct random r = {k};
        struct map m = {0};
        size_t count = 0;

        assert_null(map_find(&m, 0));
        for (size_t i = 0; i < THINGS; i++)
            things[i] = (struct thing){.hash = random_next(&r) & masks[k]};
        for (size_t step = 0; step < STEPS; step++) {
            struct thing *t = &things[random_below(&r, THINGS)];
            const struct thing *other = &things[random_below(&r, THINGS)];

            if (t->in)
                map_remove(&m, &t->node);
            else
                assert_int_equal(map_insert(&m, &t->node, t->hash), 0);
            t->in = !t->in;
            count += t->in ? 1 : (size_t)-1;
            assert_int_equal(m.count, count);
            assert_int_equal(count_found(&m, t), t->in);
            assert_int_equal(count_found(&m, other), other->in);
        }
        for (size_t i = 0; i < THINGS; i++)
            assert_int_equal(count_found(&m, &things[i]), things[i].in);
        map_done(&m);
        assert_null(map_find(&m, 0));
        map_done(&m);
    }
}

static void test_hashes(void **state)
{
    static const char *const texts[] = {"", "a", "b", "ab", "ba", "/var/log/a", "/var/log/b"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        for (size_t k = 0; k < ARRAY_LEN(texts); k++) {
            uint64_t a = map_hash_slice(1, slice_of(texts[i]));

            assert_int_equal(a == map_hash_slice(1, slice_of(texts[k])), i == k);
        }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_false(map_hash_slice(1, slice_of(texts[i])) ==
                     map_hash_slice(2, slice_of(texts[i])));
    for (uint64_t i = 0; i < 1000; i++)
        assert_false(map_hash_u64(i) == map_hash_u64(i + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_hashes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
