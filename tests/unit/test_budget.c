#include "budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random.h"
#include "util.h"

enum { USERS = 5 };

struct user {
    struct budget_user memory;
    struct budget *budget;
    uint64_t idle; /* gives this back when it is asked to */
    int squeezed, told;
};

static void squeeze(struct budget_user *m)
{
    struct user *u = CONTAINER_OF(m, struct user, memory);
    uint64_t idle = u->idle;

    u->squeezed++;
    u->idle = 0;
    budget_give(u->budget, m, idle);
}

static void room(struct budget_user *m)
{
    CONTAINER_OF(m, struct user, memory)->told++;
}

static void start(struct budget *b, struct user users[USERS], size_t count, uint64_t limit)
{
    budget_init(b, limit);
    for (size_t i = 0; i < count; i++) {
        users[i] = (struct user){.memory = {.squeeze = squeeze, .room = room}, .budget = b};
        budget_join(b, &users[i].memory);
    }
}

static void the_limit_holds(void **state)
{
    struct random r = {.state = 3};
    struct user users[USERS];
    struct budget b;

    (void)state;
    start(&b, users, USERS, 1000);
    for (int i = 0; i < 100000; i++) {
        struct user *u = &users[random_below(&r, USERS)];
        uint64_t bytes = random_below(&r, 300), sum = 0;

        if (random_below(&r, 2) == 0)
            (void)budget_take(&b, &u->memory, bytes);
        else
            budget_give(&b, &u->memory, MIN(bytes, u->memory.used));
        for (size_t n = 0; n < USERS; n++)
            sum += users[n].memory.used;
        assert_true(sum == b.used && b.used <= b.limit);
    }
}

static void the_last_quarter_is_for_the_poor(void **state)
{
    struct user users[USERS];
    struct budget b;

    (void)state;
    start(&b, users, 4, 1000);
    assert_true(budget_take(&b, &users[0].memory, 750));
    assert_false(budget_take(&b, &users[0].memory, 1));
    assert_true(budget_take(&b, &users[1].memory, 200)); /* less than its share of 250 */
    assert_false(budget_take(&b, &users[1].memory, 51));
    assert_true(budget_take(&b, &users[2].memory, 50));
    assert_false(budget_take(&b, &users[3].memory, 1)); /* now there is nothing */
    budget_leave(&b, &users[1].memory);
    assert_int_equal(users[3].told, 1);
    assert_int_equal(users[0].told, 1);
    assert_true(budget_take(&b, &users[3].memory, 200));
}

static void alone_there_is_nobody_to_leave_it_for(void **state)
{
    struct user users[USERS];
    struct budget b;

    (void)state;
    start(&b, users, 1, 1000);
    assert_true(budget_take(&b, &users[0].memory, 1000));
    assert_false(budget_take(&b, &users[0].memory, 1));
}

static void what_is_idle_is_given_back_at_once(void **state)
{
    struct user users[USERS];
    struct budget b;

    (void)state;
    start(&b, users, 2, 1000);
    assert_true(budget_take(&b, &users[0].memory, 700));
    users[0].idle = 400;
    assert_true(budget_take(&b, &users[1].memory, 450)); /* beyond what was free */
    assert_int_equal(users[0].squeezed, 1);
    assert_int_equal(users[0].memory.used, 300);
    assert_int_equal(users[1].told, 0); /* nobody had to wait */
}

static void who_waits_is_told_of_a_higher_limit(void **state)
{
    struct user users[USERS];
    struct budget b;

    (void)state;
    start(&b, users, 1, 1000);
    assert_false(budget_take(&b, &users[0].memory, 1500));
    budget_set_limit(&b, 900);
    assert_int_equal(users[0].told, 0);
    budget_set_limit(&b, 2000);
    assert_int_equal(users[0].told, 1);
    assert_true(budget_take(&b, &users[0].memory, 1500));
    budget_set_limit(&b, 1000); /* what is taken stays */
    assert_false(budget_take(&b, &users[0].memory, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_limit_holds),
        cmocka_unit_test(the_last_quarter_is_for_the_poor),
        cmocka_unit_test(alone_there_is_nobody_to_leave_it_for),
        cmocka_unit_test(what_is_idle_is_given_back_at_once),
        cmocka_unit_test(who_waits_is_told_of_a_higher_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
