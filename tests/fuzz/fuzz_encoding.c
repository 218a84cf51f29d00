/* fuzz_encoding -- whatever may stand in a log: what it becomes is UTF-8 of the promised size, the
 * same in pieces, and its lines are those of the text that it becomes.
 *
 * The first byte says in which encoding. */
#include "encoding.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>

#include "buf.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Up to each newline, and what is left: put together again, the whole; and each newline one of the
 * text's. */
static void check_lines(enum encoding e, struct slice raw, struct slice whole)
{
    const char *last = encoding_find_last_newline(e, raw), *newline;
    size_t unit = encoding_newline_len(e), count = 0, lines = 0;
    struct slice rest = raw;
    struct buf text;

    buf_init(&text, whole.len);
    while ((newline = encoding_find_newline(e, rest)) != NULL) {
        size_t len = (size_t)(newline - rest.ptr) + unit;

        assert(newline >= rest.ptr && len <= rest.len && len % unit == 0);
        assert((last == newline) == (encoding_find_newline(e, slice_from(rest, len)) == NULL));
        assert(encoding_to_utf8(e, slice_first(rest, len), &text) == 0);
        assert(text.ptr[text.len - 1] == '\n');
        rest = slice_from(rest, len);
        lines++;
    }
    assert(last != NULL || lines == 0);
    assert(encoding_to_utf8(e, rest, &text) == 0);
    assert(slice_equal(buf_slice(&text), whole));
    for (size_t i = 0; i < whole.len; i++)
        count += whole.ptr[i] == '\n';
    assert(count == lines);
    buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum encoding e;
    struct slice raw;
    struct buf text, other;

    if (size == 0)
        return 0;
    e = (enum encoding)(data[0] % 4);
    raw = (struct slice){(const char *)data + 1, size - 1};
    buf_init(&text, 2 * raw.len + 1); /* what is promised to be enough */
    assert(encoding_to_utf8(e, raw, &text) == 0);
    assert(e == ENCODING_UTF8 || utf8_valid(buf_slice(&text)));
    assert(encoding_mark_len(e, raw) <= raw.len);
    if (e == ENCODING_UTF8)
        assert(slice_equal(buf_slice(&text), raw));

    /* With just the room that it needs, and with less. */
    buf_init(&other, text.len);
    assert(encoding_to_utf8(e, raw, &other) == 0);
    assert(slice_equal(buf_slice(&text), buf_slice(&other)));
    buf_done(&other);
    if (text.len > 0) {
        buf_init(&other, text.len - 1);
        assert(encoding_to_utf8(e, raw, &other) == -EMSGSIZE && other.len == 0);
        buf_done(&other);
    }
    check_lines(e, raw, buf_slice(&text));
    buf_done(&text);
    return 0;
}
