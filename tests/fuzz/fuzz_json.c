/* fuzz_json -- whatever a service may answer: the reader ends, stays inside, and what it reads can
 * be written and read again.
 *
 *     clang -fsanitize=fuzzer,address,undefined -Icommon tests/fuzz/fuzz_json.c common/json.c
 *         common/utf8.c common/buf.c */
#include "json.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "buf.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Undone, written, read and undone again, a string is the same. */
static void check_string(struct slice raw)
{
    struct buf text, json, again;
    struct json_token t;
    struct json j;
    size_t plain_len;
    char *plain;

    buf_init(&text, 3 * raw.len);
    buf_init(&json, json_string_size_max(3 * raw.len));
    buf_init(&again, 3 * raw.len);

    /* With exactly the room that the headers promise to be enough. */
    assert(json_unescape(raw, &text) == 0);
    assert(utf8_valid(buf_slice(&text)));
    if (utf8_valid(raw))
        assert(json_text_equal(raw, buf_slice(&text)));
    assert(json_append_string(&json, buf_slice(&text)) == 0);
    json_init(&j, buf_slice(&json));
    assert(json_next(&j, &t) == 0 && t.type == JSON_STRING);
    assert(json_text_equal(t.text, buf_slice(&text)));
    plain = malloc(raw.len + 1);
    assert(plain != NULL);
    plain_len = (size_t)(json_put_unescaped(plain, raw) - plain);
    assert(plain_len <= raw.len);
    if (utf8_valid(raw))
        assert(slice_equal(buf_slice(&text), (struct slice){plain, plain_len}));
    free(plain);
    assert(json_unescape(t.text, &again) == 0);
    assert(slice_equal(buf_slice(&text), buf_slice(&again)));
    assert(json_next(&j, &t) == 0 && t.type == JSON_END);

    buf_done(&text);
    buf_done(&json);
    buf_done(&again);
}

/* Reads all tokens; 0 if the text is whole.  `skip_at`: pass over the value there, if one comes. */
static int read_all(struct slice in, size_t skip_at)
{
    struct json_token t = {JSON_NULL, {NULL, 0}};
    const char *last = in.ptr;
    struct json j;

    json_init(&j, in);
    for (size_t count = 0; t.type != JSON_END; count++) {
        assert(count <= in.len + 1); /* each token but the end costs a byte */
        if (count == skip_at && json_skip(&j) == -EBADMSG)
            return -EBADMSG;
        if (json_next(&j, &t) < 0) {
            assert(json_next(&j, &t) == -EBADMSG);
            return -EBADMSG;
        }
        assert(t.text.len == 0 ||
               (t.text.ptr >= last && t.text.ptr + t.text.len <= in.ptr + in.len));
        if (t.text.len > 0)
            last = t.text.ptr + t.text.len;
        assert(j.depth <= JSON_DEPTH_MAX);
        if (skip_at == SIZE_MAX && (t.type == JSON_KEY || t.type == JSON_STRING))
            check_string(t.text);
    }
    assert(j.depth == 0 && j.rest.len == 0);
    return 0;
}

/* A whole value, made compact, means the same and cannot be made more compact. */
static void check_compact(struct slice value)
{
    size_t most = json_compact_size_max(value);
    char *once = malloc(most + 1), *twice = malloc(most + 1);
    struct slice compact = {once, 0};
    struct json j;

    assert(once != NULL && twice != NULL);
    compact.len = (size_t)(json_put_compact(once, value) - once);
    assert(compact.len <= most);
    json_init(&j, compact);
    assert(json_skip(&j) == 0 && j.rest.len == 0);
    assert(utf8_valid(compact) && json_compact_size_max(compact) == compact.len);
    assert((size_t)(json_put_compact(twice, compact) - twice) == compact.len);
    assert(memcmp(once, twice, compact.len) == 0);
    free(once);
    free(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = {(const char *)data, size};
    struct json j;
    int whole = read_all(in, SIZE_MAX);
    struct buf b;

    /* Skipping judges as strictly as reading. */
    json_init(&j, in);
    if (whole == 0) {
        assert(json_skip(&j) == 0);
        check_compact(in);
    }
    for (size_t at = 0; at < 8; at++)
        assert(read_all(in, at) == whole);

    /* Any bytes are fit to be undone, or are refused and leave nothing; and to be written. */
    buf_init(&b, json_string_size_max(size));
    if (json_unescape(in, &b) < 0)
        assert(b.len == 0);
    (void)json_text_equal(in, buf_slice(&b));
    buf_reset(&b);
    assert(json_append_string(&b, in) == 0);
    assert(b.len == json_string_size(in));
    json_init(&j, buf_slice(&b));
    assert(json_skip(&j) == 0);
    buf_done(&b);
    return 0;
}
