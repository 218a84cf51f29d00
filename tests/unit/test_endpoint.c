#include "ship/endpoint.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "util.h"

static const struct story {
    struct slice url;
    int result;
    const char *becomes, *host;
} stories[] = {
    {SLICE("https://kinesis.eu-west-1.amazonaws.com"), 0,
     "https://kinesis.eu-west-1.amazonaws.com/", "kinesis.eu-west-1.amazonaws.com"},
    {SLICE("https://example.com/"), 0, "https://example.com/", "example.com"},
    {SLICE("https://127.0.0.1:8443"), 0, "https://127.0.0.1:8443/", "127.0.0.1:8443"},
    {SLICE("https://[2001:db8::1]"), 0, "https://[2001:db8::1]/", "[2001:db8::1]"},
    {SLICE("https://[2001:db8::1]:4567/"), 0, "https://[2001:db8::1]:4567/", "[2001:db8::1]:4567"},

    /* the port is in the host only if it is not the scheme's */
    {SLICE("https://example.com:443"), 0, "https://example.com:443/", "example.com"},
    {SLICE("https://example.com:80"), 0, "https://example.com:80/", "example.com:80"},
    {SLICE("https://[2001:db8::1]:443"), 0, "https://[2001:db8::1]:443/", "[2001:db8::1]"},
    {SLICE("http://localhost:80"), 0, "http://localhost:80/", "localhost"},
    {SLICE("http://localhost:443"), 0, "http://localhost:443/", "localhost:443"},
    {SLICE("http://[::1]:80/"), 0, "http://[::1]:80/", "[::1]"},

    /* http:// only to loopback */
    {SLICE("http://localhost"), 0, "http://localhost/", "localhost"},
    {SLICE("http://LocalHost:1"), 0, "http://LocalHost:1/", "LocalHost:1"},
    {SLICE("http://127.0.0.1:4567/"), 0, "http://127.0.0.1:4567/", "127.0.0.1:4567"},
    {SLICE("http://127.255.255.254"), 0, "http://127.255.255.254/", "127.255.255.254"},
    {SLICE("http://[::1]:65535"), 0, "http://[::1]:65535/", "[::1]:65535"},
    {SLICE("http://[0:0:0:0:0:0:0:1]"), 0, "http://[0:0:0:0:0:0:0:1]/", "[0:0:0:0:0:0:0:1]"},
    {SLICE("http://example.com"), -EPERM, NULL, NULL},
    {SLICE("http://localhost.example.com"), -EPERM, NULL, NULL},
    {SLICE("http://localhos"), -EPERM, NULL, NULL},
    {SLICE("http://127.0.0.1.example.com"), -EPERM, NULL, NULL},
    {SLICE("http://128.0.0.1"), -EPERM, NULL, NULL},
    {SLICE("http://126.255.255.255:80"), -EPERM, NULL, NULL},
    {SLICE("http://0.0.0.0"), -EPERM, NULL, NULL},
    {SLICE("http://169.254.169.254/"), -EPERM, NULL, NULL},
    {SLICE("http://[::2]"), -EPERM, NULL, NULL},
    {SLICE("http://[::]"), -EPERM, NULL, NULL},
    {SLICE("http://[::ffff:1.2.3.4]"), -EPERM, NULL, NULL},
    {SLICE("http://[2001:db8::1]:80"), -EPERM, NULL, NULL},
    {SLICE("http://a.very.long.name.that.no.address.could.have.in.text.1"), -EPERM, NULL, NULL},

    /* neither of the form */
    {SLICE(""), -EINVAL, NULL, NULL},
    {SLICE("https"), -EINVAL, NULL, NULL},
    {SLICE("https:/"), -EINVAL, NULL, NULL},
    {SLICE("https://"), -EINVAL, NULL, NULL},
    {SLICE("https:///"), -EINVAL, NULL, NULL},
    {SLICE("example.com"), -EINVAL, NULL, NULL},
    {SLICE("ftp://example.com"), -EINVAL, NULL, NULL},
    {SLICE("file:///etc/passwd"), -EINVAL, NULL, NULL},
    {SLICE(" https://example.com"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com "), -EINVAL, NULL, NULL},
    {SLICE("https://exam ple.com"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com\r\nX: y"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com\0"), -EINVAL, NULL, NULL},
    {SLICE("https://ex\xc3\xa4mple.com"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com/path"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com//"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com?x"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com#x"), -EINVAL, NULL, NULL},
    {SLICE("https://user@example.com"), -EINVAL, NULL, NULL},
    {SLICE("https://user:secret@example.com"), -EINVAL, NULL, NULL},
    {SLICE("http://localhost@example.com"), -EINVAL, NULL, NULL},
    {SLICE("http://127.0.0.1%2eexample.com"), -EINVAL, NULL, NULL},
    {SLICE("http://localhost\\@example.com"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com:"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com:/"), -EINVAL, NULL, NULL},
    {SLICE("https://:443"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com:x"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com:44x"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com:-1"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com:123456"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com:65536"), -EINVAL, NULL, NULL},
    {SLICE("https://example.com:0"), -EINVAL, NULL, NULL},
    {SLICE("https://::1"), -EINVAL, NULL, NULL},
    {SLICE("https://a:b:443"), -EINVAL, NULL, NULL},
    {SLICE("https://[::1"), -EINVAL, NULL, NULL},
    {SLICE("https://::1]"), -EINVAL, NULL, NULL},
};

static void urls_are_taken_or_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        char *copy = malloc(MAX(s->url.len, 1U)); /* of just its size, for the sanitizer */
        struct endpoint e = {"untouched", "untouched"};
        int r;

        assert_non_null(copy);
        memcpy(copy, s->url.ptr, s->url.len);
        r = endpoint_from_url((struct slice){copy, s->url.len}, &e);
        if (r != s->result)
            fail_msg("'%.*s': %d", SLICE_ARG(s->url), r);
        assert_string_equal(e.url, r == 0 ? s->becomes : "untouched");
        assert_string_equal(e.host, r == 0 ? s->host : "untouched");
        free(copy);
    }
}

/* What we made of a URL is a URL that we make the same of. */
static void a_url_stays_what_it_became(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct endpoint once, twice;

        if (stories[i].result < 0)
            continue;
        assert_int_equal(endpoint_from_url(stories[i].url, &once), 0);
        assert_int_equal(endpoint_from_url(slice_of(once.url), &twice), 0);
        assert_string_equal(once.url, twice.url);
        assert_string_equal(once.host, twice.host);
    }
}

static void a_long_url_fits_or_is_refused(void **state)
{
    char url[2 * ENDPOINT_TEXT_MAX];

    (void)state;
    memset(url, 'a', sizeof url);
    memcpy(url, "https://", 8);
    for (size_t len = 9; len <= sizeof url; len++) {
        struct endpoint e;
        int r = endpoint_from_url((struct slice){url, len}, &e);

        assert_true(r == 0 || r == -ENAMETOOLONG);
        assert_int_equal(r == 0, len + 2 <= ENDPOINT_TEXT_MAX); /* a slash and a zero */
        if (r == 0) {
            assert_int_equal(strlen(e.url), len + 1);
            assert_int_equal(strlen(e.host), len - 8);
        }
    }
}

/* botocore 1.43.67: endpoint rules (endpoints.json) for the first of each partition, and
 * partitions.json for the other regions. */
static const struct region {
    const char *name, *url;
} regions[] = {
    {"us-east-1", "https://kinesis.us-east-1.amazonaws.com/"},
    {"eu-west-1", "https://kinesis.eu-west-1.amazonaws.com/"},
    {"ap-southeast-7", "https://kinesis.ap-southeast-7.amazonaws.com/"},
    {"il-central-1", "https://kinesis.il-central-1.amazonaws.com/"},
    {"mx-central-1", "https://kinesis.mx-central-1.amazonaws.com/"},
    {"ca-west-1", "https://kinesis.ca-west-1.amazonaws.com/"},
    {"cn-north-1", "https://kinesis.cn-north-1.amazonaws.com.cn/"},
    {"cn-northwest-1", "https://kinesis.cn-northwest-1.amazonaws.com.cn/"},
    {"eusc-de-east-1", "https://kinesis.eusc-de-east-1.amazonaws.eu/"},
    {"us-gov-west-1", "https://kinesis.us-gov-west-1.amazonaws.com/"},
    {"us-gov-east-1", "https://kinesis.us-gov-east-1.amazonaws.com/"},
    {"us-iso-east-1", "https://kinesis.us-iso-east-1.c2s.ic.gov/"},
    {"us-iso-west-1", "https://kinesis.us-iso-west-1.c2s.ic.gov/"},
    {"us-isob-east-1", "https://kinesis.us-isob-east-1.sc2s.sgov.gov/"},
    {"us-isob-west-1", "https://kinesis.us-isob-west-1.sc2s.sgov.gov/"},
    {"us-isof-south-1", "https://kinesis.us-isof-south-1.csp.hci.ic.gov/"},
    {"eu-isoe-west-1", "https://kinesis.eu-isoe-west-1.cloud.adc-e.uk/"},
    {"xx-nowhere-1", "https://kinesis.xx-nowhere-1.amazonaws.com/"}, /* not built yet */
};

static void regions_have_their_partitions_suffix(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(regions); i++) {
        struct endpoint e, same;

        assert_int_equal(endpoint_of_region(SLICE("kinesis"), slice_of(regions[i].name), &e), 0);
        assert_string_equal(e.url, regions[i].url);
        assert_int_equal(endpoint_from_url(slice_of(e.url), &same), 0);
        assert_string_equal(e.host, same.host);
    }
}

static void a_long_region_is_refused(void **state)
{
    char region[2 * ENDPOINT_TEXT_MAX];

    (void)state;
    memset(region, 'r', sizeof region);
    for (size_t len = 0; len <= sizeof region; len++) {
        struct endpoint e;
        int r = endpoint_of_region(SLICE("kinesis"), (struct slice){region, len}, &e);
        size_t host = strlen("kinesis..amazonaws.com") + len;

        assert_true(r == 0 || r == -ENAMETOOLONG);
        if (r == 0) {
            assert_int_equal(strlen(e.host), host);
            assert_int_equal(strlen(e.url), host + strlen("https:///"));
        }
        assert_true(r == 0 || len > 400);
        assert_true(r < 0 || len < ENDPOINT_TEXT_MAX - 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_taken_or_not),
        cmocka_unit_test(a_url_stays_what_it_became),
        cmocka_unit_test(a_long_url_fits_or_is_refused),
        cmocka_unit_test(regions_have_their_partitions_suffix),
        cmocka_unit_test(a_long_region_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
