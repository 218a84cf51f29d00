#include "tail/glob.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "util.h"

/* Walks the directories of `path`, and asks for its last component. */
static bool matches(const struct glob *g, const char *path)
{
    struct glob_states *at, *next;
    char name[256];
    bool match;

    assert_int_equal(glob_root(g, &at), 0);
    for (;;) {
        size_t len;

        path += strspn(path, "/");
        len = strcspn(path, "/");
        (void)snprintf(name, sizeof name, "%.*s", (int)len, path);
        path += len;
        if (*path == '\0')
            break;
        assert_int_equal(glob_enter(g, at, name, &next), 0);
        free(at);
        if (next == NULL)
            return false;
        assert_true(next->count > 0);
        at = next;
    }
    match = glob_matches(g, at, name);
    if (match)
        assert_true(glob_has_files(g, at));

    /* What is not listed is asked for by its name: so a match must be among the literals. */
    if (match && !glob_needs_list(g, at)) {
        bool named = false;

        for (size_t i = 0; i < at->count; i++) {
            bool last;
            const char *literal = glob_literal(g, at, i, &last);
            named = named || (literal != NULL && last && strcmp(literal, name) == 0);
        }
        assert_true(named);
    }
    free(at);
    return match;
}

static const struct story {
    const char *pattern, *yes[8], *no[10];
} stories[] = {
    {"/a", {"/a", "//a"}, {"/b", "/a/a", "/aa", "/A"}},
    {"/a/b.log", {"/a/b.log"}, {"/a/c.log", "/b.log", "/a/b.log/c", "/a/b"}},
    {"//a///b", {"/a/b"}, {"/a", "/b"}},
    {"/a/*.log",
     {"/a/b.log", "/a/b.c.log"},
     {"/a/.log", "/a/.b.log", "/a/b/c.log", "/b.log", "/a/b.logs"}},
    {"/a/.*.log", {"/a/.b.log"}, {"/a/b.log"}},
    {"/a/?", {"/a/b"}, {"/a/bc", "/a/.", "/a/b/c"}},
    {"/a/[bc]", {"/a/b", "/a/c"}, {"/a/d", "/a/[bc]"}},
    {"/a/[!bc]", {"/a/d"}, {"/a/b", "/a/c", "/a/."}},
    {"/a/[0-9]x", {"/a/5x"}, {"/a/x", "/a/ax"}},
    {"/a/[]x]y", {"/a/]y", "/a/xy"}, {"/a/y"}},
    {"/a/[[:digit:]]", {"/a/5"}, {"/a/b", "/a/:"}},
    {"/a/[.]b", {NULL}, {"/a/.b"}}, /* a leading dot must be written, not meant */
    {"/a/[b", {"/a/[b"}, {"/a/b"}},
    {"/*/b", {"/a/b", "/x/b"}, {"/.a/b", "/b", "/a/x/b"}},
    {"/a/*/*/d", {"/a/b/c/d"}, {"/a/b/d", "/a/b/c/x/d", "/a/.b/c/d"}},
    {"/a/\\*", {"/a/*"}, {"/a/b"}},
    {"/a/\\?x", {"/a/?x"}, {"/a/bx"}},
    {"/a\\b", {"/ab"}, {"/a\\b"}},
    {"/a/\\{b,c\\}", {"/a/{b,c}"}, {"/a/b", "/a/c"}},
    {"/a/[{]b", {"/a/{b"}, {"/a/b"}},
    {"/a/b,c", {"/a/b,c"}, {"/a/b"}},
    {"/a/b}", {"/a/b}"}, {"/a/b"}},

    {"/**/x", {"/x", "/a/x", "/a/b/x"}, {"/.a/x", "/a/.b/x", "/y", "/a/x/y"}},
    {"/a/**/x.log",
     {"/a/x.log", "/a/b/x.log", "/a/b/c/x.log"},
     {"/x.log", "/b/x.log", "/a/.b/x.log", "/a/b/.c/x.log"}},
    {"/a/**", {"/a/b", "/a/b/c"}, {"/a/.b", "/a/.b/c", "/b"}},
    {"/a/**/*", {"/a/b", "/a/b/c", "/a/b/c/d"}, {"/a/.b", "/a/b/.c"}},
    {"/a/**/**/x", {"/a/x", "/a/b/x", "/a/b/c/d/x"}, {"/b/x", "/a/.b/x"}},
    {"/a/**/b/**/x",
     {"/a/b/x", "/a/1/b/2/x", "/a/b/b/x", "/a/1/2/b/x"},
     {"/a/x", "/a/1/x", "/a/1/2/x"}},
    {"/a/**/.b/x", {"/a/.b/x", "/a/1/.b/x"}, {"/a/b/x", "/a/.1/.b/x"}},
    {"/a/**x", {"/a/x", "/a/bx"}, {"/a/b/x", "/a/.x"}}, /* only alone does ** mean directories */

    {"/{a,b}", {"/a", "/b"}, {"/c", "/{a,b}", "/ab"}},
    {"/{a,b/c}/d", {"/a/d", "/b/c/d"}, {"/b/d", "/a/c/d", "/a", "/b/c"}},
    {"/x{a,b{1,2}y,}z", {"/xaz", "/xb1yz", "/xb2yz", "/xz"}, {"/xbyz", "/xb1z", "/xay"}},
    {"/{a,b}{1,2}", {"/a1", "/a2", "/b1", "/b2"}, {"/a", "/1", "/ab"}},
    {"/{{a,b},{c,{d,e}}}", {"/a", "/b", "/c", "/d", "/e"}, {"/{a", "/f", "/"}},
    {"/{a}", {"/a"}, {"/{a}"}},
    {"/a{,.1}", {"/a", "/a.1"}, {"/a.2", "/a,"}},
    {"/{a\\,b,c}", {"/a,b", "/c"}, {"/a", "/b"}},
    {"/{[,],x}", {"/,", "/x"}, {"/[", "/]", "/[,]"}},
    {"/{*.log,**/x}", {"/b.log", "/x", "/a/b/x"}, {"/a/b.log"}},
    {"/a/{*.log,*.txt}", {"/a/b.log", "/a/b.txt"}, {"/a/.log", "/a/b.gz", "/a/.b.txt"}},
};

static void test_stories(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        char *pattern = (char *)(uintptr_t)stories[i].pattern;
        struct glob *g;

        assert_int_equal(glob_new(&pattern, 1, &g), 0);
        for (size_t k = 0; k < ARRAY_LEN(stories[i].yes) && stories[i].yes[k] != NULL; k++)
            if (!matches(g, stories[i].yes[k]))
                fail_msg("'%s' should match '%s'", pattern, stories[i].yes[k]);
        for (size_t k = 0; k < ARRAY_LEN(stories[i].no) && stories[i].no[k] != NULL; k++)
            if (matches(g, stories[i].no[k]))
                fail_msg("'%s' should not match '%s'", pattern, stories[i].no[k]);
        glob_free(g);
    }
}

/* All patterns at once are each of them. */
static void test_together(void **state)
{
    char *patterns[ARRAY_LEN(stories)];
    struct glob *g;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++)
        patterns[i] = (char *)(uintptr_t)stories[i].pattern;
    assert_int_equal(glob_new(patterns, ARRAY_LEN(stories), &g), 0);
    for (size_t i = 0; i < ARRAY_LEN(stories); i++)
        for (size_t k = 0; k < ARRAY_LEN(stories[i].yes) && stories[i].yes[k] != NULL; k++)
            assert_true(matches(g, stories[i].yes[k]));
    glob_free(g);
    assert_int_equal(glob_new(NULL, 0, &g), 0);
    assert_false(matches(g, "/a"));
    glob_free(g);
    glob_free(NULL);
}

static void test_bad(void **state)
{
    static const struct {
        const char *pattern;
        int error;
    } bad[] = {
        {"", -EINVAL},
        {"a", -EINVAL},
        {"a/b", -EINVAL},
        {"*", -EINVAL},
        {"/", -EINVAL},
        {"//", -EINVAL},
        {"/{a", -EINVAL},
        {"/{a,{b}", -EINVAL},
        {"/a{", -EINVAL},
        {"/{a,b\\}", -EINVAL},
        {"/{a[}]", -EINVAL},
        {"/{,}", -EINVAL},
        {"/{a,b}{c", -EINVAL},
        /* 16^4 are too many, and are not counted by making them all */
        {"/{0,1,2,3,4,5,6,7,8,9,a,b,c,d,e,f}{0,1,2,3,4,5,6,7,8,9,a,b,c,d,e,f}"
         "{0,1,2,3,4,5,6,7,8,9,a,b,c,d,e,f}{0,1,2,3,4,5,6,7,8,9,a,b,c,d,e,f}",
         -E2BIG},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char *pattern = (char *)(uintptr_t)bad[i].pattern;
        struct glob *g = NULL;
        int r = glob_new(&pattern, 1, &g);

        if (r != bad[i].error)
            fail_msg("'%s': %d", pattern, r);
        assert_null(g);
    }
}

/* What the roster must list, and what it may ask for by name. */
static void test_lists(void **state)
{
    static const struct {
        const char *pattern;
        bool list, files;
        const char *literal;
        bool last;
    } all[] = {
        {"/a", false, true, "a", true},     {"/a/b", false, false, "a", false},
        {"/*", true, true, NULL, true},     {"/*/b", true, false, NULL, false},
        {"/**/b", true, true, NULL, false}, {"/a\\*", true, true, NULL, true},
        {"/a\\b", false, true, "ab", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        char *pattern = (char *)(uintptr_t)all[i].pattern;
        struct glob_states *root;
        struct glob *g;
        bool last;

        assert_int_equal(glob_new(&pattern, 1, &g), 0);
        assert_int_equal(glob_root(g, &root), 0);
        assert_int_equal(glob_needs_list(g, root), all[i].list);
        assert_int_equal(glob_has_files(g, root), all[i].files);
        if (all[i].literal != NULL)
            assert_string_equal(glob_literal(g, root, 0, &last), all[i].literal);
        else
            assert_null(glob_literal(g, root, 0, &last));
        assert_int_equal(last, all[i].last);
        free(root);
        glob_free(g);
    }
}

static const struct {
    const char *pattern, *path;
    bool match;
} excludes[] = {
    {"*.gz", "/a/b/x.gz", true},
    {"*.gz", "/a/b/.x.gz", true}, /* hidden ones too */
    {"*.gz", "/a/b.gz/x", false}, /* the file's name, not a directory's */
    {"x", "/a/x", true},
    {"x", "/a/xx", false},
    {"x", "/x/a", false},
    {"{x,y}", "/a/y", true},
    {"x*", "/a/b/xyz", true},
    {"/a/x", "/a/x", true},
    {"/a/x", "/b/a/x", false},
    {"/a/*", "/a/x", true},
    {"/a/*", "/a/b/x", false},
    {"/a/**", "/a/b/x", true},
    {"/a/**/x", "/a/x", true},
    {"/**/old/*", "/a/b/old/x", true},
    {"/**/old/*", "/a/b/old/c/x", false},
    {"/{a,b}/x", "/b/x", true},
    {"\\*", "/a/*", true},
    {"\\*", "/a/b", false},
};

static void test_excludes(void **state)
{
    char *bad = (char *)(uintptr_t) "{a", *empty = (char *)(uintptr_t) "";
    struct glob_excludes *x;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(excludes); i++) {
        char *pattern = (char *)(uintptr_t)excludes[i].pattern;
        const char *name = strrchr(excludes[i].path, '/') + 1;

        assert_int_equal(glob_excludes_new(&pattern, 1, &x), 0);
        if (glob_excludes_match(x, excludes[i].path, name) != excludes[i].match)
            fail_msg("exclude '%s' and '%s'", pattern, excludes[i].path);
        glob_excludes_free(x);
    }
    assert_int_equal(glob_excludes_new(NULL, 0, &x), 0);
    assert_false(glob_excludes_match(x, "/a", "a"));
    glob_excludes_free(x);
    glob_excludes_free(NULL);
    assert_int_equal(glob_excludes_new(&bad, 1, &x), -EINVAL);
    assert_int_equal(glob_excludes_new(&empty, 1, &x), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories), cmocka_unit_test(test_together), cmocka_unit_test(test_bad),
        cmocka_unit_test(test_lists),   cmocka_unit_test(test_excludes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
