#include "heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random.h"
#include "util.h"

enum { NODES = 60, STEPS = 20000 };

static void check_all(const struct heap *h, const struct heap_node *nodes, const bool *in)
{
    const struct heap_node *first = heap_first(h);
    uint64_t smallest = UINT64_MAX;
    size_t count = 0;

    for (size_t i = 0; i < NODES; i++) {
        assert_int_equal(heap_has(&nodes[i]), in[i]);
        if (!in[i])
            continue;
        count++;
        smallest = MIN(smallest, nodes[i].key);
        assert_true(nodes[i].place <= h->count);
        assert_ptr_equal(h->nodes[nodes[i].place - 1], &nodes[i]); /* it knows its place */
    }
    assert_int_equal(h->count, count);
    assert_int_equal(first == NULL, count == 0);
    if (first != NULL)
        assert_true(first->key == smallest);
}

/* Beside a heap, a row of flags and the smallest key looked for by hand.  Few different keys, so
 * that equal ones meet, then many. */
static void test_model(void **state)
{
    static const uint64_t ranges[] = {1, 5, 1000, UINT64_MAX};
    struct heap_node nodes[NODES] = {{0}};
    bool in[NODES] = {false};
    struct random r = {1};
    struct heap h = {0};

    (void)state;
    assert_null(heap_first(&h));
    assert_int_equal(heap_reserve(&h, 0), 0);
    for (size_t step = 0; step < STEPS; step++) {
        size_t i = random_below(&r, NODES);

        if (in[i]) {
            heap_remove(&h, &nodes[i]);
        } else {
            assert_int_equal(heap_reserve(&h, h.count + 1), 0);
            heap_insert(&h, &nodes[i], random_below(&r, ranges[step * ARRAY_LEN(ranges) / STEPS]));
        }
        in[i] = !in[i];
        heap_remove(&h, &nodes[(i + 1) % NODES]); /* in it or not */
        in[(i + 1) % NODES] = false;
        check_all(&h, nodes, in);
    }
    heap_done(&h);
    heap_done(&h);
}

/* What is taken out from the top comes in order. */
static void test_order(void **state)
{
    struct heap_node nodes[NODES] = {{0}};
    struct random r = {7};
    struct heap h = {0};
    uint64_t last = 0;

    (void)state;
    for (int round = 0; round < 200; round++, last = 0) {
        assert_int_equal(heap_reserve(&h, NODES), 0);
        for (size_t i = 0; i < NODES; i++)
            heap_insert(&h, &nodes[i], random_below(&r, 40));
        for (struct heap_node *n; (n = heap_first(&h)) != NULL; last = n->key) {
            assert_true(n->key >= last);
            heap_remove(&h, n);
        }
    }
    heap_done(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
