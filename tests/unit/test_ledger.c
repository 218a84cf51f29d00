#include "keep/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "random.h"
#include "util.h"

static struct cursor at(uint64_t offset)
{
    return (struct cursor){.offset = offset, .anchor = offset * 7};
}

/* --- stories ---
 *
 * A script: `a`…`z` puts a record into the filling of that name and ends 10 bytes on; `.` is 10
 * bytes that make no record; `A`…`Z` settles one record of that filling's oldest extent that has
 * any. Behind the colon: the settled offset after each step. */
static const struct story {
    const char *name, *script;
    uint64_t settled[16];
} stories[] = {
    {"one", "aA", {0, 10}},
    {"nothing to wait for", "..", {10, 20}},
    {"one filling, partially", "aaaAAA", {0, 0, 0, 0, 0, 30}},
    {"in order", "abAB", {0, 0, 10, 20}},
    {"out of order", "abBA", {0, 0, 0, 20}},
    {"the middle first", "abcBAC", {0, 0, 0, 0, 20, 30}},
    {"the last first", "abcCBA", {0, 0, 0, 0, 0, 30}},
    {"bytes without a record belong to the one before", "a.b.A", {0, 0, 0, 0, 20}},
    {"… and go with it", "a.b.BA", {0, 0, 0, 0, 0, 40}},
    {"nothing, then one", ".aA.", {10, 10, 20, 30}},
    {"a filling that was left is another extent", "abaAAB", {0, 0, 0, 10, 10, 30}},
    {"the same filling goes on", "aAaA", {0, 10, 10, 20}},
};

static void test_stories(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        struct extent *extents[16];
        char fills[16];
        size_t count = 0;
        uint64_t end = 0;
        struct ledger_pool pool;
        struct ledger l;

        assert_int_equal(ledger_pool_init(&pool, 8), 0);
        ledger_init(&l, at(0), NULL);
        for (size_t n = 0; s->script[n] != '\0'; n++) {
            char c = s->script[n];
            bool moved;
            uint64_t before = l.settled.offset;

            if (c >= 'A' && c <= 'Z') {
                size_t k = 0;
                while (extents[k] == NULL || fills[k] != c - 'A' + 'a')
                    assert_true(++k < count);
                moved = ledger_settle(&pool, extents[k], 1);
                extents[k] = NULL;
            } else {
                if (c != '.') {
                    fills[count] = c;
                    extents[count] = ledger_extent(&l, &pool, (uint64_t)c);
                    extent_out(extents[count]);
                    count++;
                }
                moved = ledger_advance(&l, at(end += 10));
            }
            if (l.settled.offset != s->settled[n])
                fail_msg("%s: after step %zu at %zu, not %zu", s->name, n + 1,
                         (size_t)l.settled.offset, (size_t)s->settled[n]);
            assert_true(l.settled.anchor == l.settled.offset * 7); /* the anchor goes along */
            assert_int_equal(moved, l.settled.offset != before);
        }
        ledger_pool_done(&pool);
    }
}

/* --- beside a naive model --- */

enum { SOURCES = 3, BATCHES = 4, BATCH_MAX = 5, RECORDS = 4000, STEPS = 60000 };

struct model_record {
    uint64_t start; /* where its line begins */
    bool settled;
};

struct model {
    struct ledger ledger;
    struct model_record records[RECORDS];
    size_t count, first; /* all before `first` are settled */
    uint64_t end, said;  /* said: the settled prefix so far */
};

struct model_batch {
    uint64_t fill;
    size_t count;
    bool flying;
    struct {
        struct model *m;
        size_t index;
        struct extent *extent;
    } entries[BATCH_MAX];
};

static void model_check(struct model *m)
{
    uint64_t settled = m->ledger.settled.offset;

    while (m->first < m->count && m->records[m->first].settled)
        m->first++;

    /* Never beyond the first record that is not settled, never back, at the end when all are; and
     * no further back than the end of the extent before it, which is where a batch began. */
    assert_true(settled >= m->said);
    m->said = settled;
    if (m->first == m->count)
        assert_true(settled == m->end);
    else
        assert_true(settled <= m->records[m->first].start);
    assert_true(m->ledger.settled.anchor == settled * 7);
    assert_int_equal(ledger_is_empty(&m->ledger), m->first == m->count);
}

static size_t count_free(const struct ledger_pool *p)
{
    size_t n = 0;

    LIST_EACH(&p->free, node, after)
    {
        n++;
    }
    n += p->count - p->used;
    return n;
}

/* Puts some lines of one source into the batch that is being filled, as a visit does. */
static void visit(struct model *m, struct ledger_pool *pool, struct model_batch *batches,
                  size_t *filling, uint64_t *next_fill, struct random *r)
{
    struct extent *e = NULL;
    uint64_t fill = 0;

    for (size_t lines = random_below(r, 8); lines > 0 && m->count < RECORDS; lines--) {
        struct model_batch *b = &batches[*filling];

        if (b->count == BATCH_MAX || random_below(r, 10) == 0) {
            size_t i = 0;

            b->flying = b->count > 0;
            while (i < BATCHES && batches[i].flying)
                i++;
            if (i == BATCHES)
                break; /* no room: reading pauses */
            *filling = i;
            b = &batches[i];
            b->fill = ++*next_fill;
        }
        if (e == NULL || fill != b->fill) {
            if (e != NULL)
                (void)ledger_advance(&m->ledger, at(m->end));
            e = ledger_extent(&m->ledger, pool, b->fill);
            fill = b->fill;
        }
        extent_out(e);
        m->records[m->count].start = m->end;
        m->records[m->count].settled = false;
        b->entries[b->count].m = m;
        b->entries[b->count].index = m->count++;
        b->entries[b->count++].extent = e;
        m->end += 1 + random_below(r, 100);
    }
    if (random_below(r, 4) == 0)
        m->end += random_below(r, 50); /* no record of it */
    (void)ledger_advance(&m->ledger, at(m->end));
}

/* Settles some entries of a batch; the others slide together, as after an answer. */
static void settle(struct model_batch *b, struct ledger_pool *pool, struct random *r)
{
    size_t kept = 0, count = b->count;
    uint64_t chance = random_below(r, 5);

    for (size_t i = 0; i < count; i++) {
        if (random_below(r, 4) >= chance) {
            b->entries[kept++] = b->entries[i];
            continue;
        }
        b->entries[i].m->records[b->entries[i].index].settled = true;
        (void)ledger_settle(pool, b->entries[i].extent, 1);
    }
    b->count = kept;
    b->flying = kept > 0;
}

static void test_model(void **state)
{
    static struct model models[SOURCES];
    struct model_batch batches[BATCHES] = {{0}};
    struct ledger_pool pool;
    struct random r = {3};
    size_t filling = 0;
    uint64_t next_fill = 1;

    (void)state;
    batches[0].fill = next_fill;
    assert_int_equal(ledger_pool_init(&pool, (size_t)BATCHES * BATCH_MAX), 0);
    for (size_t i = 0; i < SOURCES; i++) {
        models[i] = (struct model){.end = i * 1000, .said = i * 1000};
        ledger_init(&models[i].ledger, at(i * 1000), &models[i]);
    }
    for (size_t step = 0; step < STEPS; step++) {
        size_t b = random_below(&r, BATCHES);

        if (random_below(&r, 2) == 0)
            visit(&models[random_below(&r, SOURCES)], &pool, batches, &filling, &next_fill, &r);
        else if (batches[b].flying)
            settle(&batches[b], &pool, &r);
        for (size_t i = 0; i < SOURCES; i++)
            model_check(&models[i]);
    }

    /* All is settled in the end, and nothing has leaked. */
    for (size_t left = 1; left > 0;) {
        left = 0;
        for (size_t b = 0; b < BATCHES; b++) {
            settle(&batches[b], &pool, &r);
            left += batches[b].count;
        }
    }
    for (size_t i = 0; i < SOURCES; i++) {
        model_check(&models[i]);
        assert_int_equal(models[i].first, models[i].count);
        assert_true(models[i].count > 1000);
    }
    assert_int_equal(count_free(&pool), BATCHES * BATCH_MAX);
    ledger_pool_done(&pool);
}

/* Alternating sources and fillings: as many extents as records, and no more. */
static void test_pool(void **state)
{
    enum { COUNT = 100 };
    struct extent *extents[COUNT];
    struct ledger_pool pool;
    struct ledger l;

    (void)state;
    assert_int_equal(ledger_pool_init(&pool, COUNT), 0);
    ledger_init(&l, at(0), NULL);
    for (size_t round = 0; round < COUNT; round++) {
        uint64_t start = l.settled.offset;

        for (size_t i = 0; i < COUNT; i++) {
            extents[i] = ledger_extent(&l, &pool, i);
            extent_out(extents[i]);
            assert_false(ledger_advance(&l, at(start + i + 1)));
        }
        assert_int_equal(count_free(&pool), 0);
        for (size_t i = 0; i < COUNT; i++) { /* 37 has no factor in common with 100 */
            size_t k = (i * 37 + round) % COUNT;
            (void)ledger_settle(&pool, extents[k], 1);
        }
        assert_true(l.settled.offset == start + COUNT);
        assert_int_equal(count_free(&pool), COUNT);
    }
    ledger_pool_done(&pool);
    ledger_pool_done(&pool);
}

/* --- what if ---
 *
 * A script as above, without settling; then which records leave, as letters of fillings; then where the
 * prefix would be. */
static const struct what_if {
    const char *name, *script, *leave;
    uint64_t foretold;
} what_ifs[] = {
    {"nothing leaves", "abc", "", 0},
    {"all of it", "abc", "abc", 30},
    {"the first", "abc", "a", 10},
    {"the second: the first is waited for", "abc", "b", 0},
    {"a part of the first", "aab", "a", 0},
    {"all of the first", "aab", "aa", 20},
    {"the first two", "abc", "ab", 20},
    {"the first and the last", "abc", "ac", 10},
    {"bytes without a record go with it", "a..b", "a", 30},
};

static void test_what_if(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(what_ifs); i++) {
        const struct what_if *w = &what_ifs[i];
        struct extent *extents[16] = {0};
        struct ledger_pool pool;
        uint64_t end = 0;
        struct ledger l;

        assert_int_equal(ledger_pool_init(&pool, 8), 0);
        ledger_init(&l, at(0), NULL);
        for (const char *c = w->script; *c != '\0'; c++) {
            if (*c != '.') {
                extents[*c - 'a'] = ledger_extent(&l, &pool, (uint64_t)*c);
                extent_out(extents[*c - 'a']);
            }
            (void)ledger_advance(&l, at(end += 10));
        }
        for (int again = 0; again < 2; again++) { /* and taken back, all is as it was */
            for (const char *c = w->leave; *c != '\0'; c++)
                extent_leaves(extents[*c - 'a'], 1);
            if (ledger_foretell(&l).offset != w->foretold)
                fail_msg("%s: %llu", w->name, (unsigned long long)ledger_foretell(&l).offset);
            assert_int_equal(l.settled.offset, 0);
            for (const char *c = w->leave; *c != '\0'; c++)
                extent_stays(extents[*c - 'a'], 1);
            assert_int_equal(ledger_foretell(&l).offset, 0);
        }
        ledger_pool_done(&pool);
    }
}

/* A record that the lines of another file are in too: both are foretold, or neither. */
static void test_what_if_of_partners(void **state)
{
    struct extent *held, *record, *other;
    struct ledger_pool pool;
    struct ledger first, second;

    (void)state;
    assert_int_equal(ledger_pool_init(&pool, 8), 0);
    ledger_init(&first, at(0), NULL);
    ledger_init(&second, at(0), NULL);
    held = ledger_extent(&first, &pool, 1); /* waits for the record in the other file, alone */
    extent_out(held);
    (void)ledger_advance(&first, at(10));
    record = ledger_extent(&second, &pool, 2);
    record->partner = held;
    extent_out(record);
    (void)ledger_advance(&second, at(20));
    other = ledger_extent(&second, &pool, 3);
    extent_out(other);
    (void)ledger_advance(&second, at(30));

    extent_leaves(other, 1);
    assert_int_equal(ledger_foretell(&first).offset, 0);
    extent_leaves(record, 1);
    assert_int_equal(ledger_foretell(&first).offset, 10);
    assert_int_equal(ledger_foretell(&second).offset, 30);
    extent_stays(record, 1);
    assert_int_equal(ledger_foretell(&first).offset, 0);
    extent_stays(other, 1);
    assert_int_equal(held->leaving + record->leaving + other->leaving, 0);
    ledger_pool_done(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_what_if),
        cmocka_unit_test(test_what_if_of_partners),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
