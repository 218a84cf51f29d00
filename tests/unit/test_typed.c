/* typed: what a text says, as JSON has it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "buf.h"
#include "json.h"
#include "record/fields.h"
#include "record/typed.h"
#include "util.h"

static const struct story {
    const char *text, *integer, *number, *boolean, *null; /* as JSON; NULL: stays a text */
} stories[] = {
    /* clang-format off */
    {"0",       "0",  "0",  "false", NULL},
    {"1",       "1",  "1",  "true",  NULL},
    {"2",       "2",  "2",  NULL,    NULL},
    {"007",     "7",  "7",  NULL,    NULL},
    {"000",     "0",  "0",  NULL,    NULL},
    {"+7",      "7",  "7",  NULL,    NULL},
    {"-007",    "-7", "-7", NULL,    NULL},
    {" 7\t",    "7",  "7",  NULL,    NULL},
    {"123456789012345678901234567890", "123456789012345678901234567890",
     "123456789012345678901234567890", NULL, NULL},
    {"1.5",     NULL, "1.5",  NULL,  NULL},
    {"1.",      NULL, "1",    NULL,  NULL},
    {".5",      NULL, "0.5",  NULL,  NULL},
    {"-.5",     NULL, "-0.5", NULL,  NULL},
    {"01.50",   NULL, "1.50", NULL,  NULL},
    {"1e5",     NULL, "1e5",  NULL,  NULL},
    {"1.E+05",  NULL, "1e+05", NULL, NULL},
    {"-1.5e-3", NULL, "-1.5e-3", NULL, NULL},
    {".",       NULL, NULL, NULL,    NULL},
    {"+",       NULL, NULL, NULL,    NULL},
    {"+-1",     NULL, NULL, NULL,    NULL},
    {"1e",      NULL, NULL, NULL,    NULL},
    {"1e+",     NULL, NULL, NULL,    NULL},
    {"e5",      NULL, NULL, NULL,    NULL},
    {"1 2",     NULL, NULL, NULL,    NULL},
    {"1,5",     NULL, NULL, NULL,    NULL},
    {"0x1f",    NULL, NULL, NULL,    NULL},
    {"1e5.5",   NULL, NULL, NULL,    NULL},
    {"NaN",     NULL, NULL, NULL,    NULL},
    {"Infinity", NULL, NULL, NULL,   NULL},
    {"TRUE",    NULL, NULL, "true",  NULL},
    {"yes",     NULL, NULL, "true",  NULL},
    {"On",      NULL, NULL, "true",  NULL},
    {"t",       NULL, NULL, "true",  NULL},
    {"Y",       NULL, NULL, "true",  NULL},
    {"False",   NULL, NULL, "false", NULL},
    {"no",      NULL, NULL, "false", NULL},
    {"off",     NULL, NULL, "false", NULL},
    {"f",       NULL, NULL, "false", NULL},
    {"n",       NULL, NULL, "false", NULL},
    {"tru",     NULL, NULL, NULL,    NULL},
    {"truee",   NULL, NULL, NULL,    NULL},
    {"",        "null", "null", "null", "null"},
    {"-",       "null", "null", "null", "null"},
    {" ",       "null", "null", "null", "null"},
    {"Null",    NULL, NULL, NULL,    "null"},
    {"nulls",   NULL, NULL, NULL,    NULL},
    /* clang-format on */
};

static void check(const char *text, enum field_type from, enum recipe_type type, const char *is)
{
    struct arena arena;
    struct field f = {SLICE("f"), slice_of(text), from};
    struct buf b;
    struct json j;

    arena_init(&arena, 1000);
    buf_init(&b, 1000);
    assert_int_equal(typed_set(&f, type, &arena), 0);
    assert_int_equal(fields_append_value(&b, &f), 0);
    json_init(&j, buf_slice(&b));
    assert_int_equal(json_skip(&j), 0);
    assert_int_equal(j.rest.len, 0);
    if (is != NULL ? !slice_equal(buf_slice(&b), slice_of(is))
                   : f.type != FIELD_TEXT || !slice_equal(f.value, slice_of(text)))
        fail_msg("'%s' is %.*s, not %s", text, SLICE_ARG(buf_slice(&b)), is);
    arena_done(&arena);
    buf_done(&b);
}

static void texts_say_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];

        check(s->text, FIELD_TEXT, RECIPE_INTEGER, s->integer);
        check(s->text, FIELD_TEXT, RECIPE_NUMBER, s->number);
        check(s->text, FIELD_TEXT, RECIPE_BOOLEAN, s->boolean);
        check(s->text, FIELD_TEXT, RECIPE_NULL, s->null);
        check(s->text, FIELD_TEXT, RECIPE_TEXT, NULL);
    }
}

static void what_json_had_typed_stays(void **state)
{
    (void)state;
    check("1.50", FIELD_NUMBER, RECIPE_INTEGER, "1.50");
    check("1e5", FIELD_NUMBER, RECIPE_NUMBER, "1e5");
    check("true", FIELD_TRUE, RECIPE_INTEGER, "true");
    check("null", FIELD_NULL, RECIPE_BOOLEAN, "null");
    check("[1]", FIELD_JSON, RECIPE_TEXT, "[1]");
    check("null", FIELD_NULL, RECIPE_TEXT, "null");
    check("1", FIELD_NUMBER, RECIPE_BOOLEAN, "true");
    check("0", FIELD_NUMBER, RECIPE_BOOLEAN, "false");
    check("2", FIELD_NUMBER, RECIPE_BOOLEAN, "2");
    check("1.50", FIELD_NUMBER, RECIPE_TEXT, "\"1.50\"");
    check("on", FIELD_TRUE, RECIPE_TEXT, "\"on\"");
    check("false", FIELD_FALSE, RECIPE_TEXT, "\"false\"");
}

static void there_may_be_no_room(void **state)
{
    struct arena arena;
    struct field f = {SLICE("f"), SLICE("007"), FIELD_TEXT};

    (void)state;
    arena_init(&arena, 3);
    assert_int_equal(typed_set(&f, RECIPE_INTEGER, &arena), -EMSGSIZE);
    assert_int_equal(f.type, FIELD_TEXT);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_say_values),
        cmocka_unit_test(what_json_had_typed_stays),
        cmocka_unit_test(there_may_be_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
