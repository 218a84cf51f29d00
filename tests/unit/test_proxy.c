#include "ship/proxy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "util.h"

/* --- URLs --- */

static const struct url {
    const char *text, *wrong; /* NULL: it will do */
    const char *shown;
} urls[] = {
    {"", NULL, NULL},
    {"http://proxy:3128", NULL, "http://proxy:3128"},
    {"http://proxy:3128/", NULL, "http://proxy:3128"},
    {"HTTP://Proxy.Example.com:80", NULL, "http://Proxy.Example.com:80"},
    {"https://proxy:443", NULL, "https://proxy:443"},
    {"proxy:3128", NULL, "http://proxy:3128"},
    {"http://127.0.0.1:1", NULL, "http://127.0.0.1:1"},
    {"http://[::1]:65535", NULL, "http://[::1]:65535"},
    {"http://me@proxy:1", NULL, "http://proxy:1"},
    {"http://me:secret@proxy:1", NULL, "http://proxy:1"},
    {"http://me:s%40c%2Fr%3at@[::1]:1/", NULL, "http://[::1]:1"},
    {"http://me:a:b@proxy:1", NULL, "http://proxy:1"},

    {"http://proxy", "no port", NULL},
    {"http://proxy:", "a port that is none", NULL},
    {"proxy", "no port", NULL},
    {"http://[::1]", "no port", NULL},
    {"http://[::1", "no port", NULL},
    {"http://:3128", "not a proxy", NULL},
    {"http://", "not a proxy", NULL},
    {"http://proxy:0", "a port that is none", NULL},
    {"http://proxy:65536", "a port that is none", NULL},
    {"http://proxy:3128x", "a port that is none", NULL},
    {"http://proxy:+312", "a port that is none", NULL},
    {"http://pro xy:1", "is not a proxy's URL", NULL},
    {"http://pro\nxy:1", "is not a proxy's URL", NULL},
    {"socks5://proxy:1080", "no proxy that kinetail speaks with", NULL},
    {"ftp://proxy:1", "no proxy that kinetail speaks with", NULL},
    {"http://proxy:1/path", "something behind", NULL},
    {"http://proxy:1?q", "something behind", NULL},
    {"http://proxy:1#f", "something behind", NULL},
    {"http://me:se/cret@proxy:1", "something behind", NULL},
    {"http://me:se@cret@proxy:1", "%40 for an @", NULL},
    {"http://me:se%cret@proxy:1", "%40 for an @", NULL},
    {"http://me:se%0Acret@proxy:1", "%40 for an @", NULL},
    {"http://me:se%7fcret@proxy:1", "%40 for an @", NULL},
    {"http://me:se%00@proxy:1", "%40 for an @", NULL},
    {"http://me:se%4@proxy:1", "%40 for an @", NULL},
    {"http://me:se cret@proxy:1", "%40 for an @", NULL},
};

static void test_urls(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        const struct url *u = &urls[i];
        const char *wrong = proxy_judge(u->text);
        char why[PROXY_WHY_SIZE] = "";
        struct proxy p;
        int r = proxy_find(u->text, NULL, &p, why);

        if ((wrong == NULL) != (u->wrong == NULL) ||
            (wrong != NULL && strstr(wrong, u->wrong) == NULL))
            fail_msg("'%s': %s", u->text, wrong != NULL ? wrong : "is well");
        assert_int_equal(r, wrong == NULL ? 0 : -EINVAL);
        if (wrong != NULL && (strstr(why, wrong) == NULL || strncmp(why, "proxy.url ", 10) != 0))
            fail_msg("'%s': %s", u->text, why);
        if (wrong == NULL && u->shown != NULL)
            assert_string_equal(p.shown, u->shown);
        if (wrong == NULL && u->shown == NULL)
            assert_null(p.url);
        assert_null(strstr(why, "secret"));
    }
}

static void test_secrets(void **state)
{
    static const struct {
        const char *url, *secret;
    } rows[] = {
        {"http://proxy:1", ""},
        {"http://me:s@proxy:1", "me:s"},
        {"me@proxy:1", "me"},
        {"http://me:a@b@proxy:1", "me:a@b"},
        {"socks5://me:s@proxy", "me:s"},
        {"", ""},
        {"http://@proxy:1", ""},
        {"http://me:s/@x", "me:s/"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (!slice_equal(proxy_secret(rows[i].url), slice_of(rows[i].secret)))
            fail_msg("%s: %.*s", rows[i].url, SLICE_ARG(proxy_secret(rows[i].url)));
}

/* --- hosts --- */

#define E "https://kinesis.eu-west-1.amazonaws.com/"

static const struct way {
    const char *no_proxy, *url;
    bool proxied;
} ways[] = {
    {NULL, E, true},
    {"", E, true},
    {",, ,", E, true},

    /* never */
    {NULL, "http://kinesis.eu-west-1.amazonaws.com/", false},
    {NULL, "http://169.254.169.254/latest", false},
    {NULL, "https://localhost:4567/", false},
    {NULL, "https://127.0.0.1/", false},
    {NULL, "https://127.9.9.9:1/", false},
    {NULL, "https://[::1]:1/", false},
    {NULL, "https://128.0.0.1/", true},
    {NULL, "https://[::2]/", true},

    /* names, and what is below them */
    {"*", E, false},
    {"amazonaws.com", E, false},
    {".amazonaws.com", E, false},
    {"*.amazonaws.com", E, false},
    {"AmazonAWS.com.", E, false},
    {"example.com,amazonaws.com", E, false},
    {"example.com , amazonaws.com", E, false},
    {"example.com amazonaws.com", E, false},
    {"kinesis.eu-west-1.amazonaws.com", E, false},
    {"com", E, false},
    {"aws.com", E, true},
    {"amazonaws.co", E, true},
    {"x.kinesis.eu-west-1.amazonaws.com", E, true},
    {"kinesis", E, true},
    {".", E, true},
    {"*.", E, true},
    {"10.0.0.0/8", E, true},
    {"0.0.0.0/0", E, true},
    {"example.com", "https://example.com:8443/", false},
    {"example.com", "https://example.com./", false},

    /* addresses and networks */
    {"10.1.2.3", "https://10.1.2.3/", false},
    {"10.1.2.3", "https://10.1.2.33/", true},
    {"2.3", "https://10.1.2.3/", true},
    {"10.0.0.0/8", "https://10.1.2.3:443/", false},
    {"10.0.0.0/8", "https://11.1.2.3/", true},
    {"10.1.2.0/23", "https://10.1.3.255/", false},
    {"10.1.2.0/23", "https://10.1.4.0/", true},
    {"10.1.2.3/32", "https://10.1.2.3/", false},
    {"10.1.2.3/32", "https://10.1.2.2/", true},
    {"0.0.0.0/0", "https://10.1.2.3/", false},
    {"10.0.0.0/33", "https://10.1.2.3/", true},
    {"10.0.0.0/", "https://10.0.0.0/", true},
    {"10.0.0.0/8x", "https://10.0.0.0/", true},
    {"10.0.0.0/-8", "https://10.0.0.0/", true},
    {"fd00::/8", "https://[fd12::1]:443/", false},
    {"fd00::/8", "https://[fe12::1]/", true},
    {"2001:db8::1", "https://[2001:db8:0::1]/", false},
    {"2001:db8::1", "https://[2001:db8::2]/", true},
    {"::/0", "https://10.1.2.3/", true},
    {"2001:db8::/129", "https://[2001:db8::]/", true},
};

static void test_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        const struct proxy p = {.url = "http://proxy:1", .no_proxy = ways[i].no_proxy};
        const struct proxy none = {0};

        if (proxy_is_for(&p, ways[i].url) != ways[i].proxied)
            fail_msg("'%s', %s", ways[i].no_proxy, ways[i].url);
        assert_false(proxy_is_for(&none, ways[i].url));
    }
}

static void test_lists(void **state)
{
    static const char *const good[] = {
        "", "*", "a,b c", ".x.y", "10.0.0.0/8,::1,fd00::/8", "*.example.com", "a_b"};
    static const char *const bad[] = {"a:443", "http://a", "[::1]:1", "10.0.0.1:80",
                                      "a;b",   "a,b:1",    "a,\n",    "a@b"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (proxy_judge_list(good[i]) != NULL)
            fail_msg("%s: %s", good[i], proxy_judge_list(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (proxy_judge_list(bad[i]) == NULL)
            fail_msg("%s is well", bad[i]);
}

/* --- configuration and environment --- */

static const struct source {
    const char *url, *no_proxy; /* of the configuration */
    const char *environment[9]; /* name, value, … */
    const char *found, *found_list, *from;
} sources[] = {
    {NULL, NULL, {NULL}, NULL, NULL, NULL},
    {"http://c:1", NULL, {NULL}, "http://c:1", NULL, "proxy.url"},
    {NULL, NULL, {"https_proxy", "http://e:1"}, "http://e:1", NULL, "https_proxy"},
    {NULL, NULL, {"HTTPS_PROXY", "http://e:1"}, "http://e:1", NULL, "HTTPS_PROXY"},
    {NULL,
     NULL,
     {"HTTPS_PROXY", "http://E:1", "https_proxy", "http://e:1"},
     "http://e:1",
     NULL,
     "https_proxy"},
    {NULL, NULL, {"ALL_PROXY", "http://a:1"}, "http://a:1", NULL, "ALL_PROXY"},
    {NULL,
     NULL,
     {"all_proxy", "http://a:1", "HTTPS_PROXY", "http://e:1"},
     "http://e:1",
     NULL,
     "HTTPS_PROXY"},
    {NULL, NULL, {"https_proxy", "", "all_proxy", "http://a:1"}, NULL, NULL, NULL},
    {NULL, NULL, {"http_proxy", "http://h:1", "HTTP_PROXY", "http://h:1"}, NULL, NULL, NULL},
    {"http://c:1", NULL, {"https_proxy", "http://e:1"}, "http://c:1", NULL, "proxy.url"},
    {"", NULL, {"https_proxy", "http://e:1"}, NULL, NULL, NULL},
    {"http://c:1", NULL, {"no_proxy", "a", "NO_PROXY", "b"}, "http://c:1", "a", "proxy.url"},
    {"http://c:1", NULL, {"NO_PROXY", "b"}, "http://c:1", "b", "proxy.url"},
    {"http://c:1", "c", {"no_proxy", "a"}, "http://c:1", "c", "proxy.url"},
    {"http://c:1", "", {"no_proxy", "a"}, "http://c:1", "", "proxy.url"},
    {NULL, "c", {"https_proxy", "http://e:1", "no_proxy", "a"}, "http://e:1", "c", "https_proxy"},
};

static void clear_environment(void)
{
    static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
                                        "http_proxy",  "HTTP_PROXY",  "no_proxy",  "NO_PROXY"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        (void)unsetenv(names[i]);
}

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void test_sources(void **state)
{
    char why[PROXY_WHY_SIZE];
    struct proxy p;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        const struct source *s = &sources[i];

        clear_environment();
        for (size_t e = 0; s->environment[e] != NULL; e += 2)
            assert_int_equal(setenv(s->environment[e], s->environment[e + 1], 1), 0);
        assert_int_equal(proxy_find(s->url, s->no_proxy, &p, why), 0);
        if (!same(p.url, s->found) || !same(p.no_proxy, s->found_list) || !same(p.from, s->from))
            fail_msg("row %zu: %s, %s, %s", i, p.url, p.no_proxy, p.from);
    }
    clear_environment();
    (void)setenv("HTTPS_PROXY", "socks5://hush:hush@p:1", 1);
    assert_int_equal(proxy_find(NULL, NULL, &p, why), -EINVAL);
    assert_int_equal(strncmp(why, "HTTPS_PROXY is no proxy", 23), 0);
    assert_null(strstr(why, "hush"));
    clear_environment();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),  cmocka_unit_test(test_secrets), cmocka_unit_test(test_ways),
        cmocka_unit_test(test_lists), cmocka_unit_test(test_sources),
    };

    clear_environment();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
