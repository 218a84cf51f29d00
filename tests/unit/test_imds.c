/* imds: every path through the drawing, with a transport and a clock that the test turns. */
#include "ship/imds.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "ec2.h"
#include "run/log.h"
#include "run/loop.h"
#include "ship/transport.h"
#include "util.h"

#define BASE "http://[fd00:ec2::254]"

static uint64_t now_ms = 1000;

static uint64_t fake_mono(const struct clock *c)
{
    (void)c;
    return now_ms;
}

static int64_t fake_wall(const struct clock *c)
{
    (void)c;
    return INT64_C(1795269255016);
}

static const struct clock fake_clock = {fake_mono, fake_wall};

/* What the instance says: the first row whose end is that of the URL. */
struct page {
    const char *path;
    long status;
    const char *body;
};

static struct world {
    struct transport transport;
    struct loop *loop;
    struct imds *imds;
    struct http_call *call; /* on its way */
    const struct page *pages;
    size_t page_count, calls, cancelled, refuse_at; /* refuse_at: this call fails; SIZE_MAX: none */
    int refuse_error;
    long refuse_status;
    bool send_fails;
    const char *token;
} w;

static int fake_send(struct transport *t, struct http_call *call)
{
    (void)t;
    assert_null(w.call);
    if (w.send_fails)
        return -EAGAIN;
    w.call = call;
    return 0;
}

static void fake_cancel(struct transport *t, struct http_call *call)
{
    (void)t;
    assert_ptr_equal(w.call, call);
    w.call = NULL;
    w.cancelled++;
}

static void check_headers(const struct http_call *c, bool is_token)
{
    char expected[200];

    assert_string_equal(c->method, is_token ? "PUT" : "GET");
    assert_int_equal(c->body.len, 0);
    assert_int_equal(c->timeout_ms, IMDS_TIMEOUT_MS);
    (void)snprintf(expected, sizeof expected, "X-aws-ec2-metadata-token: %s", w.token);
    assert_string_equal(c->headers[0],
                        is_token ? "X-aws-ec2-metadata-token-ttl-seconds: 21600" : expected);
    assert_null(c->headers[1]);
}

/* Answers the call that is on its way. */
static void answer(void)
{
    struct http_call *c = w.call;
    struct http_answer a = {.why = "", .status = 404, .body = slice_of("")};
    bool is_token;

    assert_non_null(c);
    assert_memory_equal(c->url, BASE "/latest/", strlen(BASE "/latest/"));
    is_token = strcmp(c->url, BASE "/latest/api/token") == 0;
    check_headers(c, is_token);
    for (size_t i = 0; i < w.page_count; i++)
        if (strcmp(c->url + strlen(BASE), w.pages[i].path) == 0) {
            a.status = w.pages[i].status;
            a.body = slice_of(w.pages[i].body);
            break;
        }
    if (w.calls++ == w.refuse_at) {
        a.error = w.refuse_error;
        a.status = w.refuse_error < 0 ? 0 : w.refuse_status;
        a.body = slice_of("");
        a.why = "because";
    }
    w.call = NULL;
    c->done(c, &a);
}

static void begin(const struct page *pages, size_t count)
{
    const struct imds_settings settings = {.endpoint = BASE "//", .ttl_ms = 60 * 1000};

    w = (struct world){.transport = {fake_send, fake_cancel},
                       .pages = pages,
                       .page_count = count,
                       .refuse_at = SIZE_MAX,
                       .token = "T=="};
    assert_int_equal(loop_new(&fake_clock, &w.loop), 0);
    assert_int_equal(imds_new(w.loop, &w.transport, &settings, &w.imds), 0);
    imds_start(w.imds);
    assert_null(imds_get(w.imds));
    assert_false(imds_has_tried(w.imds));
}

static void end(void)
{
    imds_free(w.imds);
    loop_free(w.loop);
}

/* A round that begins now, to its end. */
static void round_of(void)
{
    assert_int_equal(loop_step(w.loop, 0), 0);
    for (int n = 0; w.call != NULL; n++) {
        assert_true(n < 100);
        answer();
    }
    assert_true(imds_has_tried(w.imds));
}

static void pass(uint64_t ms)
{
    now_ms += ms;
}

#define TOKEN                                                                                      \
    {                                                                                              \
        "/latest/api/token", 200, "T==\n"                                                          \
    }
#define DOCUMENT "/latest/dynamic/instance-identity/document"
#define META     "/latest/meta-data/"
#define WHOLE                                                                                      \
    {                                                                                              \
        DOCUMENT, 200,                                                                             \
            "{\"privateIp\" : \"10.0.0.5\",\"accountId\":\"1234\\u0035\",\"imageId\":\"ami-0\","   \
            "\"availabilityZone\":\"z\",\"instanceId\":\"i-0\",\"instanceType\":\"t\",\"region\":" \
            "\"r\",\"pendingTime\":{\"region\":1},\"kernelId\":null}"                              \
    }

static const struct page good[] = {
    TOKEN,
    WHOLE,
    {META "tags/instance/", 200, "Name\nE v\r\n\nEmpty"},
    {META "tags/instance/Name", 200, "web 1\n"},
    {META "tags/instance/E%20v", 200, "Prod"},
    {META "tags/instance/Empty", 200, ""},
};
enum { GOOD_CALLS = 6 };

static void check_good(void)
{
    static const char *const texts[EC2_TEXTS] = {
        [EC2_PRIVATE_IP] = "10.0.0.5",
        [EC2_AVAILABILITY_ZONE] = "z",
        [EC2_INSTANCE_ID] = "i-0",
        [EC2_INSTANCE_TYPE] = "t",
        [EC2_ACCOUNT_ID] = "12345",
        [EC2_AMI_ID] = "ami-0",
        [EC2_REGION] = "r",
    };
    static const struct ec2_tag tags[] = {
        {SLICE("Name"), SLICE("web 1\n"), SLICE("name")},
        {SLICE("E v"), SLICE("Prod"), SLICE("e v")},
        {SLICE("Empty"), SLICE(""), SLICE("empty")},
    };
    const struct ec2 *e = imds_get(w.imds);

    assert_non_null(e);
    for (size_t i = 0; i < EC2_TEXTS; i++)
        assert_true(slice_equal(e->text[i], slice_of(texts[i])));
    assert_true(e->has_tags);
    assert_int_equal(e->tag_count, ARRAY_LEN(tags));
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        assert_true(slice_equal(e->tags[i].key, tags[i].key));
        assert_true(slice_equal(e->tags[i].lower, tags[i].lower));
        assert_true(slice_equal(e->tags[i].value, tags[i].value));
        assert_non_null(e->tags[i].value.ptr);
    }
    assert_int_equal(e->fetched_wall_ms, INT64_C(1795269255016));
    assert_true(slice_equal(e->fetched, SLICE("2026-11-21T13:54:15+0000")));
}

static void all_that_there_is(void **state)
{
    (void)state;
    begin(good, ARRAY_LEN(good));
    round_of();
    check_good();
    assert_int_equal(w.calls, GOOD_CALLS);

    /* It rests until the time is over. */
    pass(59999);
    assert_int_equal(loop_step(w.loop, 0), 0);
    assert_null(w.call);
    pass(1);
    round_of();
    check_good();
    assert_int_equal(w.calls, 2 * GOOD_CALLS);
    end();
}

static void without_a_document(void **state)
{
    static const struct page pages[] = {
        TOKEN,
        {META "local-ipv4", 200, "10.0.0.5"},
        {META "placement/region", 200, "r\n"},
        {META "identity-credentials/ec2/info", 200, "{\"Code\":\"Success\",\"AccountId\":\"1\"}"},
        {META "ami-id", 200, "\n"},
    };
    const struct ec2 *e;

    (void)state;
    begin(pages, ARRAY_LEN(pages));
    round_of();
    e = imds_get(w.imds);
    assert_non_null(e);
    assert_true(slice_equal(e->text[EC2_PRIVATE_IP], SLICE("10.0.0.5")));
    assert_true(slice_equal(e->text[EC2_REGION], SLICE("r")));
    assert_true(slice_equal(e->text[EC2_ACCOUNT_ID], SLICE("1")));
    assert_null(e->text[EC2_AMI_ID].ptr);
    assert_null(e->text[EC2_INSTANCE_ID].ptr);
    assert_false(e->has_tags);
    end();
}

static void a_document_that_is_none(void **state)
{
    static const struct page pages[] = {
        TOKEN, {DOCUMENT, 200, "[{\"region\":\"x\"}]"}, {META "placement/region", 200, "r"}};

    (void)state;
    begin(pages, ARRAY_LEN(pages));
    round_of();
    assert_true(slice_equal(imds_get(w.imds)->text[EC2_REGION], SLICE("r")));
    end();
}

static void an_instance_that_is_none(void **state)
{
    static const struct page pages[] = {TOKEN};

    (void)state;
    begin(pages, ARRAY_LEN(pages));
    round_of();
    assert_null(imds_get(w.imds));
    end();
}

static void a_token_that_is_none(void **state)
{
    static const struct page pages[] = {{"/latest/api/token", 200, "a\r\nX-Evil: b"},
                                        {"/latest/api/token", 200, ""}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        begin(&pages[i], 1);
        round_of();
        assert_null(imds_get(w.imds));
        assert_int_equal(w.calls, 1);
        end();
    }
}

/* Whichever call fails, and however: what was known stays, and the next round is whole. */
static void a_round_that_fails(void **state)
{
    static const struct {
        int error;
        long status;
    } ways[] = {{-ETIMEDOUT, 0}, {-ECONNREFUSED, 0}, {0, 500}, {0, 403}, {0, 301}};

    (void)state;
    for (size_t way = 0; way < ARRAY_LEN(ways); way++)
        for (size_t at = 0; at < GOOD_CALLS; at++)
            for (int first = 0; first < 2; first++) {
                begin(good, ARRAY_LEN(good));
                if (first == 0) {
                    round_of();
                    pass(60000);
                }
                w.refuse_at = w.calls + at;
                w.refuse_error = ways[way].error;
                w.refuse_status = ways[way].status;
                round_of();
                if (first == 0)
                    check_good();
                else
                    assert_null(imds_get(w.imds));
                pass(60000); /* the TTL, which is shorter than the wait */
                round_of();
                check_good();
                end();
            }
}

static void a_token_that_is_forgotten(void **state)
{
    (void)state;
    for (size_t at = 1; at < GOOD_CALLS; at++) {
        begin(good, ARRAY_LEN(good));
        w.refuse_at = at;
        w.refuse_status = 401;
        round_of();
        check_good();
        assert_int_equal(w.calls, at + 1 + GOOD_CALLS);
        end();
    }
}

static void a_token_that_is_never_good(void **state)
{
    static const struct page pages[] = {TOKEN, {DOCUMENT, 401, ""}};

    (void)state;
    begin(pages, ARRAY_LEN(pages));
    round_of();
    assert_null(imds_get(w.imds));
    assert_int_equal(w.calls, 4);
    end();
}

static void a_tag_that_is_gone(void **state)
{
    (void)state;
    for (size_t at = 3; at < GOOD_CALLS; at++) {
        begin(good, ARRAY_LEN(good));
        w.refuse_at = at;
        w.refuse_status = 404;
        round_of();
        assert_int_equal(imds_get(w.imds)->tag_count, 2);
        assert_true(
            slice_equal(imds_get(w.imds)->tags[0].lower, at == 3 ? SLICE("e v") : SLICE("name")));
        end();
    }
}

static void no_place_for_a_call(void **state)
{
    (void)state;
    begin(good, ARRAY_LEN(good));
    w.send_fails = true;
    assert_int_equal(loop_step(w.loop, 0), 0);
    assert_true(imds_has_tried(w.imds));
    w.send_fails = false;
    pass(60000);
    round_of();
    check_good();
    end();
}

static void an_end_in_the_middle(void **state)
{
    (void)state;
    for (size_t calls = 0; calls < GOOD_CALLS; calls++) {
        begin(good, ARRAY_LEN(good));
        assert_int_equal(loop_step(w.loop, 0), 0);
        for (size_t n = 0; n < calls; n++)
            answer();
        end();
        assert_int_equal(w.cancelled, 1);
        assert_null(w.call);
    }
}

static void what_the_environment_says(void **state)
{
    struct imds_settings s;
    const char *why;
    struct imds *i;

    (void)state;
    unsetenv("AWS_EC2_METADATA_DISABLED");
    unsetenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    unsetenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
    imds_settings_from_env(&s, &why);
    assert_string_equal(s.endpoint, "http://169.254.169.254");
    assert_null(why);
    assert_int_equal(s.ttl_ms, 3600000);
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6", 1);
    imds_settings_from_env(&s, NULL);
    assert_string_equal(s.endpoint, "http://[fd00:ec2::254]");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1", 1);
    imds_settings_from_env(&s, &why);
    assert_string_equal(s.endpoint, "http://127.0.0.1:1");
    setenv("AWS_EC2_METADATA_DISABLED", "False", 1);
    imds_settings_from_env(&s, &why);
    assert_non_null(s.endpoint);
    setenv("AWS_EC2_METADATA_DISABLED", "True", 1);
    imds_settings_from_env(&s, &why);
    assert_null(s.endpoint);
    assert_non_null(why);

    /* None is an end at once; what is no URL is refused. */
    w = (struct world){.transport = {fake_send, fake_cancel}};
    assert_int_equal(loop_new(&fake_clock, &w.loop), 0);
    assert_int_equal(imds_new(w.loop, &w.transport, &s, &w.imds), 0);
    imds_start(w.imds);
    assert_true(imds_has_tried(w.imds));
    assert_null(imds_get(w.imds));
    s.endpoint = "ftp://x";
    assert_int_equal(imds_new(w.loop, &w.transport, &s, &i), -EINVAL);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_there_is),         cmocka_unit_test(without_a_document),
        cmocka_unit_test(a_document_that_is_none),   cmocka_unit_test(an_instance_that_is_none),
        cmocka_unit_test(a_token_that_is_none),      cmocka_unit_test(a_round_that_fails),
        cmocka_unit_test(a_token_that_is_forgotten), cmocka_unit_test(a_token_that_is_never_good),
        cmocka_unit_test(a_tag_that_is_gone),        cmocka_unit_test(no_place_for_a_call),
        cmocka_unit_test(an_end_in_the_middle),      cmocka_unit_test(what_the_environment_says),
    };

    log_set_level(LOG_LEVEL_ERROR);
    (void)setenv("TZ", "UTC", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
