/* template: texts with variables, good and wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"
#include "counted_malloc.h"
#include "ec2.h"
#include "record/template.h"
#include "util.h"

static const char *env(const char *name)
{
    return strcmp(name, "HOME") == 0 ? "/root" : strcmp(name, "EMPTY") == 0 ? "" : NULL;
}

static const struct ec2_tag tags[] = {{.key = SLICE("Name"), .value = SLICE("web-1")}};
static const struct ec2 instance = {
    .text[EC2_REGION] = SLICE("eu-west-1"), .tags = tags, .tag_count = ARRAY_LEN(tags)};

static const struct template_world world = {SLICE("web1"), SLICE("access"), env};
static const struct template_place place = {
    .file = SLICE("/var/log/a.log"),
    .offset = UINT64_MAX,
    .now_ms = 1700000000007,
    .ec2 = &instance,
};

static const struct story {
    const char *text, *is;
    bool constant, wants_ec2;
} stories[] = {
    {"", "", true, false},
    {"plain", "plain", true, false},
    {"${HOSTNAME}", "web1", true, false},
    {"<${flow}:${HOSTNAME}>", "<access:web1>", true, false},
    {"${env:HOME}", "/root", true, false},
    {"a${env:EMPTY}b${env:NONE}c", "abc", true, false},
    {"${env:NONE}", "", true, false},
    {"$$", "$", true, false},
    {"$${file}$$$$", "${file}$$", true, false},
    {"}{", "}{", true, false},
    {"${file}", "/var/log/a.log", false, false},
    {"${file}:${offset}", "/var/log/a.log:18446744073709551615", false, false},
    {"${now}", "2023-11-14T22:13:20.007Z", false, false},
    {"[${ec2:region}][${ec2:instance-id}][${ec2:tag/Name}][${ec2:tag/x}]", "[eu-west-1][][web-1][]",
     false, true},
};

static void texts_are_filled_in(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        char why[TEMPLATE_WHY_SIZE];
        struct template *t;
        struct slice constant;
        struct buf b;
        size_t before;

        buf_init(&b, 1000);
        assert_int_equal(template_new(slice_of(s->text), &world, &t, why), 0);
        assert_int_equal(template_append(t, &place, &b), 0);
        assert_true(slice_equal(buf_slice(&b), slice_of(s->is)));
        assert_int_equal(template_is_constant(t, &constant), s->constant);
        if (s->constant)
            assert_true(slice_equal(constant, slice_of(s->is)));
        assert_int_equal(template_wants_ec2(t), s->wants_ec2);

        buf_reset(&b);
        before = allocations;
        assert_int_equal(template_append(t, &place, &b), 0);
        assert_int_equal(allocations, before);
        buf_done(&b);
        template_free(t);
    }
    template_free(NULL);
}

static void nothing_is_known_of_the_instance(void **state)
{
    char why[TEMPLATE_WHY_SIZE];
    struct template *t;
    struct buf b;

    (void)state;
    buf_init(&b, 3);
    assert_int_equal(template_new(SLICE("<${ec2:region}>"), &world, &t, why), 0);
    assert_int_equal(template_append(t, &(struct template_place){0}, &b), 0);
    assert_true(slice_equal(buf_slice(&b), SLICE("<>")));
    buf_reset(&b);
    assert_int_equal(template_append(t, &place, &b), -EMSGSIZE);
    template_free(t);
    buf_done(&b);
}

static void what_is_wrong_is_said(void **state)
{
    static const char *const wrong[][2] = {
        {"$", "begins no variable"},
        {"$file", "begins no variable"},
        {"a$", "begins no variable"},
        {"${file", "begins no variable"},
        {"${", "begins no variable"},
        {"${}", "${}, which is not known"},
        {"${ file}", "${ file}, which is not known"},
        {"${File}", "${File}, which is not known"},
        {"${env:}", "${env:}, which is not known"},
        {"${ec2:}", "${ec2:}, which is not known"},
        {"${ec2:tag/}", "${ec2:tag/}, which is not known"},
        {"${ec2:color}", "${ec2:color}, which is not known"},
        {"${aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}",
         "is not known"},
    };
    char many[10 * 100] = "", why[TEMPLATE_WHY_SIZE];
    struct template *t = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        why[0] = '\0';
        assert_int_equal(template_new(slice_of(wrong[i][0]), &world, &t, why), -EINVAL);
        if (strstr(why, wrong[i][1]) == NULL)
            fail_msg("'%s' %s; not: %s", wrong[i][0], why, wrong[i][1]);
    }
    for (size_t i = 0; i < 100; i++)
        strcat(many, "${file}");
    assert_int_equal(template_new(slice_of(many), &world, &t, why), -EINVAL);
    assert_non_null(strstr(why, "is too long"));
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_filled_in),
        cmocka_unit_test(nothing_is_known_of_the_instance),
        cmocka_unit_test(what_is_wrong_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
