#include "sigv4.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base64.h"
#include "buf.h"
#include "digest.h"
#include "json.h"
#include "util.h"

/* -- counting what is allocated -------------------------------------------------------------- */

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) &&                             \
    !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#define COUNT_LIBC 1 /* a sanitizer has its own malloc, and there nothing is counted */
#endif

static size_t allocations;
static size_t refuse_at; /* the n-th allocation fails; 0: none */

#ifdef COUNT_LIBC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *ptr, size_t size);

static bool is_refused(void)
{
    allocations++;
    return refuse_at > 0 && --refuse_at == 0;
}

void *malloc(size_t size)
{
    return is_refused() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return is_refused() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *ptr, size_t size)
{
    return is_refused() ? NULL : __libc_realloc(ptr, size);
}
#endif

/* -- the vectors ------------------------------------------------------------------------------ */

enum { SUITE_CASES = 38, OUR_CASES = 20, HEADERS_MAX = 16, FILE_MAX = 1024 * 1024 };

/* A request with what must come of it.  All slices lie in `store`. */
struct vector {
    char name[256];
    struct sigv4_credentials credentials;
    struct sigv4_scope scope;
    struct sigv4_header headers[HEADERS_MAX];
    struct sigv4_request request;
    int64_t wall_ms;
    struct slice canonical, to_sign, authorization;
};

static struct vector vectors[SUITE_CASES + OUR_CASES];
static size_t vector_count;
static struct buf store; /* reserved at the beginning: what lies in it does not move */

static struct slice keep(struct slice s)
{
    size_t at = store.len;

    assert_int_equal(buf_append(&store, s), 0);
    assert_true(store.cap == store.max);
    return slice_from(buf_slice(&store), at);
}

static struct slice read_data(const char *path)
{
    const char *root = getenv("KT_TEST_DATA");
    char full[1024], chunk[4096];
    size_t at = store.len, n;
    FILE *f;

    (void)snprintf(full, sizeof full, "%s/sigv4/%s", root != NULL ? root : "tests/data", path);
    f = fopen(full, "r");
    if (f == NULL)
        fail_msg("%s: no such file", full);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        (void)keep((struct slice){chunk, n});
    (void)fclose(f);
    return slice_from(buf_slice(&store), at);
}

static struct slice read_case(const char *name, const char *file)
{
    char path[512];

    (void)snprintf(path, sizeof path, "suite/%s/%s", name, file);
    return read_data(path);
}

static struct json_token next(struct json *j)
{
    struct json_token t = {JSON_NULL, {NULL, 0}};

    assert_int_equal(json_next(j, &t), 0);
    return t;
}

static struct slice text_of(struct json_token t)
{
    size_t at = store.len;

    assert_int_equal(json_unescape(t.text, &store), 0);
    return slice_from(buf_slice(&store), at);
}

static int64_t wall_ms_of(struct slice text, const char *format)
{
    struct tm tm = {0};
    char copy[32];

    assert_true(text.len < sizeof copy);
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    assert_non_null(strptime(copy, format, &tm));
    return (int64_t)timegm(&tm) * 1000;
}

static void add_header(struct vector *v, struct slice name, struct slice value)
{
    assert_true(v->request.header_count < HEADERS_MAX);
    v->headers[v->request.header_count++] = (struct sigv4_header){name, value};
    v->request.headers = v->headers;
}

/* Cuts `*rest` after the first `mark`; false if there is none. */
static bool cut(struct slice *rest, struct slice mark, struct slice *ret)
{
    const char *at = rest->len == 0 ? NULL : memmem(rest->ptr, rest->len, mark.ptr, mark.len);

    if (at == NULL)
        return false;
    *ret = slice_first(*rest, (size_t)(at - rest->ptr));
    *rest = slice_from(*rest, ret->len + mark.len);
    return true;
}

static void split_target(struct sigv4_request *r, struct slice target)
{
    if (!cut(&target, SLICE("?"), &r->path))
        r->path = target;
    else
        r->query = target;
}

static void load_request(struct vector *v, struct slice text)
{
    struct slice line, piece, head = text;

    if (cut(&text, SLICE("\n\n"), &head))
        v->request.body = text;
    if (!cut(&head, SLICE("\n"), &line))
        fail_msg("%s: no headers", v->name);
    assert_true(cut(&line, SLICE(" "), &v->request.method));
    assert_true(cut(&line, SLICE(" HTTP/1.1"), &piece));
    split_target(&v->request, piece);

    while (head.len > 0) {
        if (!cut(&head, SLICE("\n"), &line)) {
            line = head;
            head = (struct slice){NULL, 0};
        }
        if (line.ptr[0] == ' ') { /* the last header goes on */
            struct slice *value = &v->headers[v->request.header_count - 1].value;

            value->len = (size_t)(line.ptr + line.len - value->ptr);
            continue;
        }
        assert_true(cut(&line, SLICE(":"), &piece));
        add_header(v, piece, line);
    }
}

static void load_suite_case(const char *name)
{
    struct vector *v = &vectors[vector_count++];
    bool sign_body = false;
    struct slice signed_request;
    struct json j;
    struct json_token t;

    (void)snprintf(v->name, sizeof v->name, "%s", name);
    load_request(v, read_case(name, "request.txt"));
    json_init(&j, read_case(name, "context.json"));
    assert_int_equal(next(&j).type, JSON_OBJECT_BEGIN);
    while ((t = next(&j)).type != JSON_END) {
        struct slice key = t.text;

        if (t.type == JSON_OBJECT_END)
            continue;
        assert_int_equal(t.type, JSON_KEY);
        t = next(&j); /* "credentials" opens an object, and its keys are as good as ours */
        if (json_text_equal(key, SLICE("access_key_id")))
            v->credentials.access_key_id = text_of(t);
        else if (json_text_equal(key, SLICE("secret_access_key")))
            v->credentials.secret_access_key = text_of(t);
        else if (json_text_equal(key, SLICE("token")))
            v->credentials.session_token = text_of(t);
        else if (json_text_equal(key, SLICE("region")))
            v->scope.region = text_of(t);
        else if (json_text_equal(key, SLICE("service")))
            v->scope.service = text_of(t);
        else if (json_text_equal(key, SLICE("timestamp")))
            v->wall_ms = wall_ms_of(t.text, "%Y-%m-%dT%H:%M:%SZ");
        else if (json_text_equal(key, SLICE("normalize")))
            v->request.keep_path = t.type == JSON_FALSE;
        else if (json_text_equal(key, SLICE("omit_session_token")))
            v->request.omit_token = t.type == JSON_TRUE;
        else if (json_text_equal(key, SLICE("sign_body")))
            sign_body = t.type == JSON_TRUE;
    }
    if (sign_body) {
        uint8_t sum[DIGEST_SHA256_LEN];
        char hex[2 * DIGEST_SHA256_LEN];
        struct digest *d;

        assert_int_equal(digest_new(&d), 0);
        assert_int_equal(digest_sha256(d, v->request.body, sum), 0);
        hex_encode(hex, sum, sizeof sum);
        add_header(v, SLICE("x-amz-content-sha256"), keep((struct slice){hex, sizeof hex}));
        digest_free(d);
    }

    v->canonical = read_case(name, "header-canonical-request.txt");
    v->to_sign = read_case(name, "header-string-to-sign.txt");
    signed_request = read_case(name, "header-signed-request.txt");
    assert_true(cut(&signed_request, SLICE("Authorization:"), &t.text));
    if (!cut(&signed_request, SLICE("\n"), &v->authorization))
        v->authorization = signed_request;
    assert_true(slice_ends_with(v->authorization, read_case(name, "header-signature.txt")));
}

static void load_our_headers(struct vector *v, struct json *j)
{
    assert_int_equal(next(j).type, JSON_ARRAY_BEGIN);
    while (next(j).type == JSON_ARRAY_BEGIN) {
        struct slice name = text_of(next(j)), value = text_of(next(j));

        if (!slice_equal(name, SLICE("X-Amz-Date")) &&
            !slice_equal(name, SLICE("X-Amz-Security-Token")))
            add_header(v, name, value);
        assert_int_equal(next(j).type, JSON_ARRAY_END);
    }
}

static void load_our_case(struct vector *v, struct json *j)
{
    struct json_token t;

    while ((t = next(j)).type == JSON_KEY) {
        struct slice key = t.text, text;

        if (json_text_equal(key, SLICE("headers"))) {
            load_our_headers(v, j);
            continue;
        }
        t = next(j);
        text = t.type == JSON_STRING ? text_of(t) : SLICE("");
        if (json_text_equal(key, SLICE("name"))) {
            (void)snprintf(v->name, sizeof v->name, "%.*s", SLICE_ARG(text));
        } else if (json_text_equal(key, SLICE("method"))) {
            v->request.method = text;
        } else if (json_text_equal(key, SLICE("url"))) {
            struct slice scheme;

            assert_true(cut(&text, SLICE("://"), &scheme));
            text = slice_from(text,
                              (size_t)((const char *)memchr(text.ptr, '/', text.len) - text.ptr));
            split_target(&v->request, text);
        } else if (json_text_equal(key, SLICE("region"))) {
            v->scope.region = text;
        } else if (json_text_equal(key, SLICE("service"))) {
            v->scope.service = text;
        } else if (json_text_equal(key, SLICE("timestamp"))) {
            v->wall_ms = wall_ms_of(text, "%Y%m%dT%H%M%SZ");
        } else if (json_text_equal(key, SLICE("session_token"))) {
            v->credentials.session_token = text;
        } else if (json_text_equal(key, SLICE("body_b64"))) {
            char body[16 * 1024];
            size_t len;

            assert_true(text.len < sizeof body);
            assert_int_equal(base64_decode(text, body, &len), 0);
            v->request.body = keep((struct slice){body, len});
        } else if (json_text_equal(key, SLICE("canonical_request"))) {
            v->canonical = text;
        } else if (json_text_equal(key, SLICE("string_to_sign"))) {
            v->to_sign = text;
        } else if (json_text_equal(key, SLICE("authorization"))) {
            v->authorization = text;
        }
    }
    assert_int_equal(t.type, JSON_OBJECT_END);
}

static void load_our_cases(void)
{
    struct sigv4_credentials credentials = {0};
    struct json j;
    struct json_token t;

    json_init(&j, read_data("kinetail-requests.json"));
    assert_int_equal(next(&j).type, JSON_OBJECT_BEGIN);
    while ((t = next(&j)).type == JSON_KEY) {
        if (json_text_equal(t.text, SLICE("access_key_id"))) {
            credentials.access_key_id = text_of(next(&j));
        } else if (json_text_equal(t.text, SLICE("secret_access_key"))) {
            credentials.secret_access_key = text_of(next(&j));
        } else if (json_text_equal(t.text, SLICE("cases"))) {
            assert_int_equal(next(&j).type, JSON_ARRAY_BEGIN);
            while (next(&j).type == JSON_OBJECT_BEGIN) {
                assert_true(vector_count < ARRAY_LEN(vectors));
                vectors[vector_count].credentials = credentials;
                load_our_case(&vectors[vector_count++], &j);
            }
        } else {
            assert_int_equal(json_skip(&j), 0);
        }
    }
    assert_int_equal(next(&j).type, JSON_END);
}

static void the_vectors_are_all_there(void **state)
{
    const char *root = getenv("KT_TEST_DATA");
    char path[512];
    struct dirent *entry;
    DIR *dir;

    (void)state;
    (void)snprintf(path, sizeof path, "%s/sigv4/suite", root != NULL ? root : "tests/data");
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        assert_true(vector_count < SUITE_CASES);
        load_suite_case(entry->d_name);
    }
    (void)closedir(dir);
    assert_int_equal(vector_count, SUITE_CASES);
    load_our_cases();
    assert_int_equal(vector_count, SUITE_CASES + OUR_CASES);
}

static void check(const struct vector *v, const char *what, struct slice is, struct slice should)
{
    if (!slice_equal(is, should))
        fail_msg("%s: %s\n--- is\n%.*s\n--- should be\n%.*s", v->name, what, SLICE_ARG(is),
                 SLICE_ARG(should));
}

static void sign_and_check(struct sigv4 *s, const struct vector *v, struct buf *authorization)
{
    char date[SIGV4_DATE_LEN + 1];

    assert_int_equal(
        sigv4_sign(s, &v->credentials, &v->scope, v->wall_ms, &v->request, authorization, date), 0);
    check(v, "canonical request", sigv4_canonical_request(s), v->canonical);
    check(v, "string to sign", sigv4_string_to_sign(s), v->to_sign);
    check(v, "authorization", buf_slice(authorization), v->authorization);
    assert_memory_equal(date, v->to_sign.ptr + strlen("AWS4-HMAC-SHA256\n"), SIGV4_DATE_LEN);
    assert_int_equal(date[SIGV4_DATE_LEN], '\0');
}

static void a_new_signer_knows_every_vector(void **state)
{
    (void)state;
    for (size_t i = 0; i < vector_count; i++) {
        struct buf authorization;
        struct sigv4 *s;

        buf_init(&authorization, 4096);
        assert_int_equal(sigv4_new(&s), 0);
        sign_and_check(s, &vectors[i], &authorization);
        sigv4_free(s);
        buf_done(&authorization);
    }
}

/* One signer for all, each after each: nothing of the one is seen in the other.  Then it is warm.
 */
static void the_order_of_signing_does_not_matter(void **state)
{
    struct buf authorization;
    struct sigv4 *s;
    size_t before;

    (void)state;
    buf_init(&authorization, 4096);
    before = allocations;
    assert_int_equal(sigv4_new(&s), 0);
#ifdef COUNT_LIBC
    assert_true(allocations > before); /* so the counting works */
#endif
    for (size_t i = 0; i < vector_count; i++) {
        for (size_t k = 0; k < vector_count; k++) {
            sign_and_check(s, &vectors[i], &authorization);
            sign_and_check(s, &vectors[k], &authorization);
        }
    }
    before = allocations;
    for (size_t i = 0; i < vector_count; i++)
        sign_and_check(s, &vectors[i], &authorization);
    assert_int_equal(allocations, before);
    sigv4_free(s);
    buf_done(&authorization);
}

static void birth_without_memory_fails_cleanly(void **state)
{
    int r = -ENOMEM;

    (void)state;
    sigv4_free(NULL);
#ifndef COUNT_LIBC
    return;
#endif
    for (size_t n = 1; r < 0; n++) {
        struct sigv4 *s = NULL;

        assert_true(n < 100);
        refuse_at = n;
        r = sigv4_new(&s);
        assert_int_equal(r, refuse_at > 0 ? 0 : -ENOMEM);
        assert_true((s == NULL) == (r < 0));
        refuse_at = 0;
        sigv4_free(s);
    }
}

/* -- what is not in the vectors ---------------------------------------------------------------- */

static struct sigv4_credentials test_credentials(void)
{
    return (struct sigv4_credentials){SLICE("AKIDEXAMPLE"), SLICE("secret"), SLICE("")};
}

static const struct sigv4_header host = {SLICE("Host"), SLICE("h")};

static struct sigv4_request test_request(void)
{
    return (struct sigv4_request){
        .method = SLICE("GET"), .path = SLICE("/"), .headers = &host, .header_count = 1};
}

static const struct sigv4_scope scope = {SLICE("eu-west-1"), SLICE("kinesis")};

/* The secret, the day, the region, the service: each alone makes another key; the token and the
 * hour do not.  The same request signed by a cold signer tells what is right. */
static void a_kept_key_is_never_a_wrong_one(void **state)
{
    static const struct {
        struct slice secret, region, service, token;
        int64_t wall_ms;
    } calls[] = {
        {SLICE("secret"), SLICE("r"), SLICE("s"), SLICE(""), 0},
        {SLICE("secreT"), SLICE("r"), SLICE("s"), SLICE(""), 0},
        {SLICE("secret2"), SLICE("r"), SLICE("s"), SLICE(""), 0},
        {SLICE("secret"), SLICE("rs"), SLICE("s"), SLICE(""), 0},
        {SLICE("secret"), SLICE("r"), SLICE("ss"), SLICE(""), 0},
        {SLICE("secret"), SLICE("r"), SLICE("s"), SLICE("token"), 0},
        {SLICE("secret"), SLICE("r"), SLICE("s"), SLICE(""), 86400000},
        {SLICE("secret"), SLICE("r"), SLICE("s"), SLICE(""), 86399999},
    };
    struct buf warm, cold;
    struct sigv4 *s;

    (void)state;
    buf_init(&warm, 4096);
    buf_init(&cold, 4096);
    assert_int_equal(sigv4_new(&s), 0);
    for (size_t i = 0; i < ARRAY_LEN(calls) * ARRAY_LEN(calls) * 2; i++) {
        size_t which = i % 2 > 0 ? i / 2 % ARRAY_LEN(calls) : i / 2 / ARRAY_LEN(calls);
        struct sigv4_credentials c = {SLICE("A"), calls[which].secret, calls[which].token};
        struct sigv4_scope where = {calls[which].region, calls[which].service};
        struct sigv4_request r = test_request();
        char date[SIGV4_DATE_LEN + 1];
        struct sigv4 *fresh;

        assert_int_equal(sigv4_new(&fresh), 0);
        assert_int_equal(sigv4_sign(s, &c, &where, calls[which].wall_ms, &r, &warm, date), 0);
        assert_int_equal(sigv4_sign(fresh, &c, &where, calls[which].wall_ms, &r, &cold, date), 0);
        assert_true(slice_equal(buf_slice(&warm), buf_slice(&cold)));
        sigv4_free(fresh);
    }
    sigv4_free(s);
    buf_done(&warm);
    buf_done(&cold);
}

static const struct canonical {
    const char *path, *query, *value; /* of a header "x" */
    const char *lines[3];
    bool keep_path;
} canonicals[] = {
    {"", "", "", {"/", "", "x:"}, false},
    {"", "", "", {"/", "", "x:"}, true},
    {"/a/b/..", "", "", {"/a", "", "x:"}, false},
    {"/a/b/../", "", "", {"/a/", "", "x:"}, false},
    {"/../../a//b/./", "", "", {"/a/b/", "", "x:"}, false},
    {"/..", "", "", {"/", "", "x:"}, false},
    {"/...", "", "", {"/...", "", "x:"}, false},
    {"/a%20b", "", "", {"/a%2520b", "", "x:"}, false},
    {"/a//../b/.", "", "", {"/a//../b/.", "", "x:"}, true},
    {"/", "b&a", "", {"/", "a=&b=", "x:"}, false},
    {"/", "a=2&a=1&a", "", {"/", "a=&a=1&a=2", "x:"}, false},
    {"/", "a-b=1&a=1", "", {"/", "a=1&a-b=1", "x:"}, false},
    {"/", "ab=1&a=2&a=10", "", {"/", "a=10&a=2&ab=1", "x:"}, false},
    {"/", "&&a=b=c&", "", {"/", "a=b%3Dc", "x:"}, false},
    {"/", "a=%2f%2F/", "", {"/", "a=%2F%2F%2F", "x:"}, false},
    {"/", "a=100%&b=%zz&c=%4", "", {"/", "a=100%25&b=%25zz&c=%254", "x:"}, false},
    {"/", "a=1+1 2%20", "", {"/", "a=1%2B1%202%20", "x:"}, false},
    {"/", "=v&a=1", "", {"/", "=v&a=1", "x:"}, false},
    {"/", "%61=1&B=2", "", {"/", "B=2&a=1", "x:"}, false},
    {"/", "", "  a \t b\r\n  c ", {"/", "", "x:a b c"}, false},
    {"/", "", "   ", {"/", "", "x:"}, false},
};

static void requests_are_canonical(void **state)
{
    struct buf authorization;
    struct sigv4 *s;

    (void)state;
    buf_init(&authorization, 4096);
    assert_int_equal(sigv4_new(&s), 0);
    for (size_t i = 0; i < ARRAY_LEN(canonicals); i++) {
        const struct canonical *k = &canonicals[i];
        struct sigv4_header x = {SLICE("X"), slice_of(k->value)};
        struct sigv4_request r = {.method = SLICE("PUT"),
                                  .path = slice_of(k->path),
                                  .query = slice_of(k->query),
                                  .headers = &x,
                                  .header_count = 1,
                                  .keep_path = k->keep_path};
        struct sigv4_credentials c = test_credentials();
        char date[SIGV4_DATE_LEN + 1], expected[512];

        (void)snprintf(expected, sizeof expected,
                       "PUT\n%s\n%s\n%s\nx-amz-date:19700101T000000Z\n\nx;x-amz-date\n"
                       "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                       k->lines[0], k->lines[1], k->lines[2]);
        assert_int_equal(sigv4_sign(s, &c, &scope, 999, &r, &authorization, date), 0);
        if (!slice_equal(sigv4_canonical_request(s), slice_of(expected)))
            fail_msg("'%s' '%s': %.*s", k->path, k->query, SLICE_ARG(sigv4_canonical_request(s)));
    }
    sigv4_free(s);
    buf_done(&authorization);
}

static void dates_are_the_calendars(void **state)
{
    struct sigv4_credentials c = test_credentials();
    struct sigv4_request r = test_request();
    char date[SIGV4_DATE_LEN + 1];
    struct buf authorization;
    struct sigv4 *s;

    (void)state;
    buf_init(&authorization, 4096);
    assert_int_equal(sigv4_new(&s), 0);
    /* All days of 500 years, each at another time of the day; then the last second there is. */
    for (int64_t day = 0; day < 500 * 366; day++) {
        time_t second = day * 86400 + day * 7919 % 86400;
        char expected[64];
        struct tm tm;

        assert_non_null(gmtime_r(&second, &tm));
        assert_true(strftime(expected, sizeof expected, "%Y%m%dT%H%M%SZ", &tm) > 0);
        assert_int_equal(sigv4_sign(s, &c, &scope, second * 1000 + 999, &r, &authorization, date),
                         0);
        assert_string_equal(date, expected);
    }
    assert_int_equal(sigv4_sign(s, &c, &scope, 253402300799999, &r, &authorization, date), 0);
    assert_string_equal(date, "99991231T235959Z");
    assert_int_equal(sigv4_sign(s, &c, &scope, 253402300800000, &r, &authorization, date), -EINVAL);
    assert_int_equal(sigv4_sign(s, &c, &scope, -1, &r, &authorization, date), -EINVAL);
    assert_int_equal(sigv4_sign(s, &c, &scope, INT64_MAX, &r, &authorization, date), -EINVAL);
    sigv4_free(s);
    buf_done(&authorization);
}

static int try(struct sigv4 *s, struct sigv4_credentials c, struct sigv4_scope where,
               struct sigv4_request r)
{
    char date[SIGV4_DATE_LEN + 1];
    struct buf authorization;
    int result;

    buf_init(&authorization, 64 * 1024);
    result = sigv4_sign(s, &c, &where, 0, &r, &authorization, date);
    assert_true(result == 0 || authorization.len == 0);
    buf_done(&authorization);
    return result;
}

/* What is asked wrongly is refused, and the next right question is answered. */
static void limits_are_kept(void **state)
{
    struct sigv4_header many[SIGV4_HEADERS_MAX + 1];
    struct sigv4_credentials c = test_credentials();
    struct sigv4_request r = test_request();
    struct sigv4_header ours = {SLICE("X-AMZ-DATE"), SLICE("x")};
    struct sigv4 *s;
    char *big = calloc(1, SIGV4_REQUEST_MAX);
    char params[2 * (SIGV4_PARAMS_MAX + 1)];

    (void)state;
    assert_non_null(big);
    memset(big, 'x', SIGV4_REQUEST_MAX);
    assert_int_equal(sigv4_new(&s), 0);
    assert_int_equal(try(s, c, scope, r), 0);

    c.access_key_id = SLICE("");
    assert_int_equal(try(s, c, scope, r), -EINVAL);
    c = test_credentials();
    c.secret_access_key = SLICE("");
    assert_int_equal(try(s, c, scope, r), -EINVAL);
    c.secret_access_key = (struct slice){big, SIGV4_SECRET_MAX + 1};
    assert_int_equal(try(s, c, scope, r), -EMSGSIZE);
    c.secret_access_key.len--;
    assert_int_equal(try(s, c, scope, r), 0);
    c = test_credentials();
    c.session_token = (struct slice){big, SIGV4_REQUEST_MAX};
    assert_int_equal(try(s, c, scope, r), -EMSGSIZE);
    c = test_credentials();
    assert_int_equal(try(s, c, scope, r), 0);

    assert_int_equal(try(s, c, (struct sigv4_scope){SLICE(""), SLICE("s")}, r), -EINVAL);
    assert_int_equal(try(s, c, (struct sigv4_scope){SLICE("r"), SLICE("")}, r), -EINVAL);
    assert_int_equal(try(s, c, (struct sigv4_scope){SLICE("r/s"), SLICE("s")}, r), -EINVAL);
    assert_int_equal(try(s, c, (struct sigv4_scope){SLICE("r"), SLICE("s/s")}, r), -EINVAL);
    assert_int_equal(try(s, c, (struct sigv4_scope){{big, 2000}, SLICE("s")}, r), -EMSGSIZE);
    assert_int_equal(try(s, c, scope, r), 0);

    r.headers = &ours;
    assert_int_equal(try(s, c, scope, r), -EINVAL);
    ours.name = SLICE("");
    assert_int_equal(try(s, c, scope, r), -EINVAL);
    ours.name = SLICE("X-Amz-Security-Token");
    assert_int_equal(try(s, c, scope, r), 0); /* without a token it is not ours */
    c.session_token = SLICE("token");
    assert_int_equal(try(s, c, scope, r), -EINVAL);
    r.omit_token = true;
    assert_int_equal(try(s, c, scope, r), 0);

    r = test_request();
    c = test_credentials();
    c.session_token = SLICE("token");
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = host;
    r.headers = many;
    r.header_count = SIGV4_HEADERS_MAX;
    assert_int_equal(try(s, c, scope, r), 0);
    r.header_count++;
    assert_int_equal(try(s, c, scope, r), -EMSGSIZE);

    r = test_request();
    for (size_t i = 0; i < sizeof params; i++)
        params[i] = i % 2 > 0 ? '&' : 'p';
    r.query = (struct slice){params, 2 * SIGV4_PARAMS_MAX};
    assert_int_equal(try(s, c, scope, r), 0);
    r.query.len += 2;
    assert_int_equal(try(s, c, scope, r), -EMSGSIZE);
    r.query = (struct slice){big, SIGV4_REQUEST_MAX};
    assert_int_equal(try(s, c, scope, r), -EMSGSIZE);
    r = test_request();
    r.path = (struct slice){big, SIGV4_REQUEST_MAX};
    assert_int_equal(try(s, c, scope, r), -EMSGSIZE);
    sigv4_free(s);
    free(big);
}

static void a_small_answer_is_refused_whole(void **state)
{
    const struct vector *v = &vectors[0];
    char date[SIGV4_DATE_LEN + 1];
    struct sigv4 *s;

    (void)state;
    assert_int_equal(sigv4_new(&s), 0);
    for (size_t max = 0; max <= v->authorization.len; max++) {
        struct buf b;

        buf_init(&b, max);
        assert_int_equal(
            sigv4_sign(s, &v->credentials, &v->scope, v->wall_ms, &v->request, &b, date),
            max < v->authorization.len ? -EMSGSIZE : 0);
        assert_int_equal(b.len, max < v->authorization.len ? 0 : max);
        buf_done(&b);
    }
    sigv4_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_are_all_there),
        cmocka_unit_test(a_new_signer_knows_every_vector),
        cmocka_unit_test(the_order_of_signing_does_not_matter),
        cmocka_unit_test(birth_without_memory_fails_cleanly),
        cmocka_unit_test(a_kept_key_is_never_a_wrong_one),
        cmocka_unit_test(requests_are_canonical),
        cmocka_unit_test(dates_are_the_calendars),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(a_small_answer_is_refused_whole),
    };
    int r;

    buf_init(&store, FILE_MAX);
    if (buf_reserve(&store, FILE_MAX) < 0)
        return 1;
    r = cmocka_run_group_tests(tests, NULL, NULL);
    buf_done(&store);
    return r;
}
