#include "tail/source.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"
#include "digest.h"
#include "record/split.h"
#include "tail/identity.h"
#include "util.h"

enum { CHUNK = 128 * 1024, SMALL = 1000 };

static struct digest *digest;

/* A source on a file that is nowhere. */
static void source_begin(struct source *s)
{
    char path[] = "/tmp/kinetail-source-XXXXXX";

    *s = (struct source){.fd = mkstemp(path)};
    assert_true(s->fd >= 0);
    assert_int_equal(unlink(path), 0);
}

static void source_end(struct source *s)
{
    close(s->fd);
}

static void put(const struct source *s, struct slice text, uint64_t offset)
{
    assert_int_equal(pwrite(s->fd, text.ptr, text.len, (off_t)offset), text.len);
}

/* Fills with letters that differ everywhere, from `seed` on. */
static void append_letters(struct buf *to, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        assert_int_equal(
            buf_append_char(to, (char)('a' + (seed + i * 7 + (i >> 5) * 3 + (i >> 10)) % 26)), 0);
}

static void check_cursor(const struct source *s, struct cursor c)
{
    struct cursor want;

    assert_int_equal(identity_cursor(digest, s->fd, c.offset, &want), 0);
    assert_true(c.offset == want.offset && c.anchor == want.anchor);
    assert_true(c.offset > 0 || c.anchor == 0);
}

/* Reads until there is nothing, taking `step` lines at a time; each line is told to `told` with its
 * length and beginning. */
static int drain(struct source *s, struct reader *r, bool half, size_t step, struct buf *told)
{
    for (;;) {
        struct source_chunk chunk;
        uint64_t offset = s->at.offset;
        struct slice in, line;
        int news = source_read(s, r, half, 0, &chunk);

        if (news == SOURCE_END || news < 0)
            return news;
        if (news == SOURCE_MORE) {
            assert_true(s->scanned > s->at.offset);
            continue;
        }
        in = chunk.text;
        if (news == SOURCE_LINES) {
            assert_true(in.len > 0 && in.ptr[in.len - 1] == '\n');
            assert_true(chunk.end == offset + in.len);
            for (size_t n = 0; n < step && split_next(&in, &line); n++) {
                assert_int_equal(
                    buf_printf(told, "%zu:%.*s\n", line.len, SLICE_ARG(slice_first(line, 8))), 0);
                offset += line.len + 1;
            }
        } else {
            assert_true(news == SOURCE_LONG || (news == SOURCE_HALF && half));
            assert_true(news == SOURCE_HALF || in.len == r->line_max);
            assert_true(in.len <= r->line_max);
            assert_null(memchr(in.ptr, '\n', in.len));
            assert_int_equal(
                buf_printf(told, "%s%zu:%.*s\n", news == SOURCE_LONG ? "long " : "half ",
                           (size_t)(chunk.end - s->at.offset), SLICE_ARG(slice_first(in, 8))),
                0);
            offset = chunk.end;
        }
        check_cursor(s, source_cursor(s, r, &chunk, s->at.offset));
        check_cursor(s, source_cursor(s, r, &chunk, offset));
        source_move(s, source_cursor(s, r, &chunk, offset));
    }
}

static const size_t line_maxes[] = {1, SMALL, CHUNK - 1, CHUNK, CHUNK + 1, 1024 * 1024};

/* The same file in appends of every size: the same lines.  (What is longer than line_max but came
 * whole in one read is given whole: the flow cuts it.) */
static void test_steps(void **state)
{
    static const char text[] = "one\ntwo\n\n\nthree is longer\nx\ny\r\nand\0nul\nhalf a line";
    static const char want[] = "3:one\n3:two\n0:\n0:\n15:three is\n1:x\n2:y\r\n7:and";
    struct buf told;
    struct reader r;

    (void)state;
    buf_init(&told, 1 << 16);
    assert_int_equal(reader_init(&r, digest, SMALL), 0);
    for (size_t step = 1; step <= sizeof text; step++)
        for (size_t lines = 1; lines <= 3; lines++) {
            struct source s;

            source_begin(&s);
            buf_reset(&told);
            for (size_t at = 0; at < sizeof text - 1; at += step) {
                put(&s, (struct slice){text + at, MIN(step, sizeof text - 1 - at)}, at);
                assert_int_equal(drain(&s, &r, false, lines, &told), SOURCE_END);
            }
            assert_true(told.len > sizeof want - 1 && memcmp(told.ptr, want, sizeof want - 1) == 0);
            assert_true(s.at.offset == sizeof text - 1 - strlen("half a line"));
            buf_reset(&told);
            assert_int_equal(drain(&s, &r, true, lines, &told), SOURCE_END);
            assert_true(slice_equal(buf_slice(&told), SLICE("half 11:half a l\n")));
            assert_true(s.at.offset == sizeof text - 1);
            source_end(&s);
        }
    reader_done(&r);
    reader_done(&r);
    buf_done(&told);
}

/* Lines of every length around the limits, in appends of several sizes, whole or not at the end. */
static void test_long(void **state)
{
    static const size_t steps[] = {777, 60000, CHUNK, CHUNK + 1, SIZE_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(line_maxes); i++) {
        size_t max = line_maxes[i];
        const size_t lens[] = {0, max - 1,   max,         max + 1,       5, CHUNK - 1, CHUNK,
                               3, CHUNK + 1, max + CHUNK, 3 * CHUNK + 1, 0};
        struct buf text, told;
        struct reader r;

        assert_int_equal(reader_init(&r, digest, max), 0);
        buf_init(&text, 1 << 24);
        buf_init(&told, 1 << 16);
        for (size_t k = 0; k < ARRAY_LEN(lens); k++) {
            append_letters(&text, lens[k], (unsigned)k);
            assert_int_equal(buf_append_char(&text, '\n'), 0);
        }
        append_letters(&text, max + 10, 3);
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            struct source s;
            const char *line;
            size_t n = 0;

            if (steps[k] < 1000 && max > CHUNK)
                continue; /* thousands of reads of a megabyte */
            source_begin(&s);
            buf_reset(&told);
            for (size_t at = 0; at < text.len; at += MIN(steps[k], text.len - at)) {
                put(&s, slice_first(slice_from(buf_slice(&text), at), steps[k]), at);
                assert_int_equal(drain(&s, &r, false, SIZE_MAX, &told), SOURCE_END);
            }
            assert_true(s.at.offset == text.len - max - 10);
            assert_int_equal(drain(&s, &r, true, SIZE_MAX, &told), SOURCE_END);
            assert_true(s.at.offset == text.len);

            /* All of them, each once, with its length; those that are cut are longer than max. */
            assert_int_equal(buf_append_char(&told, '\0'), 0);
            line = told.ptr;
            for (; n <= ARRAY_LEN(lens); n++, line = strchr(line, '\n') + 1) {
                bool is_long = strncmp(line, "long ", 5) == 0,
                     is_half = strncmp(line, "half ", 5) == 0;
                size_t len = strtoul(line + (is_long || is_half ? 5 : 0), NULL, 10);

                assert_int_equal(is_half, n == ARRAY_LEN(lens));
                assert_int_equal(len, is_half ? max + 10 : lens[n] + is_long);
                if (is_long)
                    assert_true(lens[n] > max);
            }
            assert_int_equal(*line, '\0');
            source_end(&s);
        }
        buf_done(&text);
        buf_done(&told);
        reader_done(&r);
    }
}

/* What was truncated is noticed, whatever has come since, at every place. */
static void test_truncation(void **state)
{
    static const size_t sizes[] = {1, 2, 100, 255, 256, 257, 1000, CHUNK + 300};
    struct buf text, other, told;
    struct reader r;

    (void)state;
    assert_int_equal(reader_init(&r, digest, SMALL), 0);
    buf_init(&text, 1 << 20);
    buf_init(&other, 1 << 20);
    buf_init(&told, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        static const struct {
            int64_t keep, again; /* cut to this size; then so much anew: relative to the place */
            bool same;           /* … of the very bytes that were there */
            bool stale;
        } cases[] = {
            {-1, 0, false, true},   {0, 0, false, false}, {-1, 1, false, true},
            {-1, 1, true, false},   {-1, 2, false, true}, {-1, 400, false, true},
            {-1, 400, true, false},
        };
        for (size_t k = 0; k < 2 * ARRAY_LEN(cases); k++) {
            bool whole = k >= ARRAY_LEN(cases); /* cut to nothing first */
            uint64_t keep;
            struct source s;

            buf_reset(&text);
            buf_reset(&other);
            append_letters(&text, sizes[i] - 1, 1);
            assert_int_equal(buf_append_char(&text, '\n'), 0);
            append_letters(&text, 500, 2);
            append_letters(&other, sizes[i] + 500, 9);

            source_begin(&s);
            put(&s, slice_first(buf_slice(&text), sizes[i]), 0);
            buf_reset(&told);
            assert_int_equal(drain(&s, &r, false, SIZE_MAX, &told), SOURCE_END);
            assert_true(s.at.offset == sizes[i]);
            keep = whole && cases[k % ARRAY_LEN(cases)].keep < 0
                       ? 0
                       : (uint64_t)((int64_t)sizes[i] + cases[k % ARRAY_LEN(cases)].keep);
            assert_int_equal(ftruncate(s.fd, (off_t)keep), 0);
            if (cases[k % ARRAY_LEN(cases)].again > 0) {
                uint64_t to = sizes[i] + (uint64_t)cases[k % ARRAY_LEN(cases)].again - 1;
                struct slice from = buf_slice(cases[k % ARRAY_LEN(cases)].same ? &text : &other);
                put(&s, slice_from(slice_first(from, to), keep), keep);
            }
            assert_int_equal(drain(&s, &r, false, SIZE_MAX, &told),
                             cases[k % ARRAY_LEN(cases)].stale ? -ESTALE : SOURCE_END);
            assert_true(s.at.offset == sizes[i]); /* it has not moved */
            source_end(&s);
        }
    }

    /* While the end of a long line is sought: shorter, or of another content before the line. */
    for (int k = 0; k < 3; k++) {
        struct source s;

        source_begin(&s);
        put(&s, SLICE("first\n"), 0);
        buf_reset(&told);
        assert_int_equal(drain(&s, &r, false, SIZE_MAX, &told), SOURCE_END);
        buf_reset(&text);
        append_letters(&text, CHUNK + 5000, 4);
        put(&s, buf_slice(&text), 6);
        assert_int_equal(drain(&s, &r, false, SIZE_MAX, &told), SOURCE_END);
        assert_true(s.scanned == 6 + text.len);
        if (k == 0)
            assert_int_equal(ftruncate(s.fd, 3), 0);
        else if (k == 1)
            assert_int_equal(ftruncate(s.fd, 100), 0);
        else
            put(&s, SLICE("f_rst\n"), 0);
        assert_int_equal(drain(&s, &r, false, SIZE_MAX, &told), -ESTALE);
        source_end(&s);
    }
    buf_done(&text);
    buf_done(&other);
    buf_done(&told);
    reader_done(&r);
}

/* --- identity --- */

static void test_identity(void **state)
{
    struct source_id id, again, grown;
    struct identity_facts facts;
    struct cursor at, zero = {0};
    struct buf text;
    struct source s;
    int fd;

    (void)state;
    buf_init(&text, 1 << 20);
    append_letters(&text, 5000, 1);
    source_begin(&s);

    /* Empty: no head, and it fits at its start. */
    assert_int_equal(identity_read(digest, s.fd, &id, &facts), 0);
    assert_int_equal(id.head_len, 0);
    assert_true(facts.size == 0 && facts.links == 0);
    assert_true(identity_fits(digest, s.fd, &id, zero));
    assert_int_equal(identity_cursor(digest, s.fd, 1, &at), -ESTALE);
    grown = id;
    assert_false(identity_grow_head(digest, s.fd, &grown));

    /* The head grows by doubling, or when it is all there. */
    for (size_t len = 1; len <= 5000; len++) {
        uint32_t before = grown.head_len;
        bool grew;

        put(&s, (struct slice){text.ptr + len - 1, 1}, len - 1);
        grew = identity_grow_head(digest, s.fd, &grown);
        assert_int_equal(grew,
                         before < SOURCE_HEAD_MAX && (len >= 2 * before || len == SOURCE_HEAD_MAX));
        assert_int_equal(grown.head_len, grew ? MIN(len, (size_t)SOURCE_HEAD_MAX) : before);
        assert_true(identity_fits(digest, s.fd, &id, zero));
        assert_true(identity_fits(digest, s.fd, &grown, zero));
    }
    assert_int_equal(identity_read(digest, s.fd, &again, &facts), 0);
    assert_true(source_id_is_same_object(&id, &again));
    assert_true(again.head_hash == grown.head_hash && again.head_len == grown.head_len);
    assert_true(facts.size == 5000);

    /* A place holds as long as what stands before it does; behind it, anything may come. */
    assert_int_equal(identity_cursor(digest, s.fd, 3000, &at), 0);
    assert_true(identity_fits(digest, s.fd, &grown, at));
    for (size_t i = 0; i < 3300; i += i < 1020 || i > 2740 ? 1 : 100) {
        bool matters = i < SOURCE_HEAD_MAX || (i >= 3000 - CURSOR_ANCHOR_MAX && i < 3000);

        put(&s, SLICE("!"), i);
        assert_int_equal(identity_fits(digest, s.fd, &grown, at), !matters);
        put(&s, (struct slice){text.ptr + i, 1}, i);
    }
    assert_int_equal(ftruncate(s.fd, 3000), 0);
    assert_true(identity_fits(digest, s.fd, &grown, at));
    assert_int_equal(ftruncate(s.fd, 2999), 0);
    assert_false(identity_fits(digest, s.fd, &grown, at));
    put(&s, SLICE("!"), 0);
    grown.head_len = 100;
    assert_false(identity_grow_head(digest, s.fd, &grown)); /* not what it was */
    source_end(&s);

    fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(identity_read(digest, fd, &id, &facts), -EISDIR);
    close(fd);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(identity_read(digest, fd, &id, &facts), -EINVAL);
    close(fd);
    buf_done(&text);
}

/* Where the last line begins, for line ends at every distance from the end and from a step. */
static void test_last_line(void **state)
{
    static const size_t places[] = {0, 1, 100, 65535, 65536, 65537, 65999, 131071, 131072, 199999};
    enum { SIZE = 200000 };
    uint64_t offset;
    struct buf text;
    struct source s;

    (void)state;
    buf_init(&text, SIZE);
    append_letters(&text, SIZE, 1);
    source_begin(&s);
    assert_int_equal(identity_last_line(s.fd, ENCODING_UTF8, 0, &offset), 0);
    assert_true(offset == 0);
    put(&s, buf_slice(&text), 0);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        assert_int_equal(identity_last_line(s.fd, ENCODING_UTF8, places[i], &offset), 0);
        assert_true(offset == 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        put(&s, SLICE("\n"), places[i]);
        for (size_t k = 0; k < ARRAY_LEN(places); k++) {
            assert_int_equal(identity_last_line(s.fd, ENCODING_UTF8, places[k], &offset), 0);
            assert_true(offset == (k > i ? places[i] + 1 : k > 0 ? places[k - 1] + 1 : 0));
        }
        assert_int_equal(identity_last_line(s.fd, ENCODING_UTF8, SIZE, &offset), 0);
        assert_true(offset == places[i] + 1);
    }
    source_end(&s);
    buf_done(&text);
}

/* --- what stands behind, and how much is asked for --- */

static void test_behind(void **state)
{
    static const struct {
        size_t lines, half; /* lengths of what there is, up to a last newline and behind it */
        size_t want;
        size_t text, behind; /* what is given */
        enum source_news news;
        bool at_eof;
    } cases[] = {
        {0, 0, 0, 0, 0, SOURCE_END, true},
        {0, 10, 0, 0, 10, SOURCE_END, true},
        {100, 0, 0, 100, 0, SOURCE_LINES, true},
        {100, 10, 0, 100, 10, SOURCE_LINES, true},
        {100, 10, 1, 100, 10, SOURCE_LINES, true}, /* never less than a chunk */
        {CHUNK - 1, 0, 0, CHUNK - 1, 0, SOURCE_LINES, true},
        {CHUNK, 0, 0, CHUNK, 0, SOURCE_LINES, false}, /* there may be more */
        {CHUNK, 0, CHUNK + 1, CHUNK, 0, SOURCE_LINES, true},
        {100, CHUNK, 0, 100, CHUNK - 100, SOURCE_LINES, false},
        {100, CHUNK, CHUNK, 100, CHUNK - 100, SOURCE_LINES, false},
        {100, CHUNK, CHUNK + 5, 100, CHUNK - 95, SOURCE_LINES, false},
        {100, CHUNK, CHUNK + 101, 100, CHUNK, SOURCE_LINES, true},
        {100, 2 * CHUNK, SIZE_MAX, 100, 2 * CHUNK, SOURCE_LINES, true},
        {100, 4 * CHUNK, SIZE_MAX, 100, 3 * CHUNK - 99, SOURCE_LINES, false}, /* line_max + 1 */
        {0, 2 * CHUNK, 0, 0, 2 * CHUNK, SOURCE_END, true}, /* asks for more by itself */
        {0, 3 * CHUNK, 5, 0, 3 * CHUNK, SOURCE_END, true},
        {0, 3 * CHUNK + 1, 0, 0, 0, SOURCE_MORE, false},
    };
    struct buf text;
    struct reader r;

    (void)state;
    assert_int_equal(reader_init(&r, digest, 3 * CHUNK), 0);
    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int half = 0; half <= 1; half++) {
            struct source_chunk chunk;
            enum source_news want = cases[i].news;
            struct source s;

            source_begin(&s);
            buf_reset(&text);
            if (cases[i].lines > 0) {
                append_letters(&text, cases[i].lines - 1, 1);
                assert_int_equal(buf_append_char(&text, '\n'), 0);
            }
            append_letters(&text, cases[i].half, 2);
            put(&s, buf_slice(&text), 0);
            memset(&chunk, 0xff, sizeof chunk);
            if (half && want == SOURCE_END && cases[i].behind > 0)
                want = SOURCE_HALF;
            assert_int_equal(source_read(&s, &r, half, cases[i].want, &chunk), want);
            if (chunk.at_eof != cases[i].at_eof)
                fail_msg("case %zu: at_eof is %d", i, chunk.at_eof);
            if (want == SOURCE_HALF) { /* the same bytes, but now they are text */
                assert_int_equal(chunk.text.len, cases[i].behind);
                assert_int_equal(chunk.behind, 0);
            } else {
                assert_int_equal(chunk.text.len, cases[i].text);
                assert_int_equal(chunk.behind, cases[i].behind);
            }
            assert_true(want == SOURCE_MORE || chunk.end == chunk.text.len);
            if (chunk.text.len + chunk.behind > 0)
                assert_memory_equal(chunk.text.ptr, text.ptr, chunk.text.len + chunk.behind);
            source_end(&s);
        }
    buf_done(&text);
    reader_done(&r);
}

/* The limit changes between reads: a line that was too long, and was searched for its end, is read whole;
 * one that is too long now is cut. */
static void test_limit(void **state)
{
    enum { LEN = 5 * CHUNK, ROOM = 10 * CHUNK };
    struct source_chunk chunk;
    struct source s;
    struct buf text;
    struct reader r;

    (void)state;
    buf_init(&text, 4 << 20);
    assert_int_equal(reader_init(&r, digest, ROOM), 0);
    for (int seen = 0; seen <= 6; seen++) {
        int news = SOURCE_MORE;

        source_begin(&s);
        buf_reset(&text);
        append_letters(&text, LEN, 1);
        put(&s, buf_slice(&text), 0);
        reader_limit(&r, CHUNK);
        for (int i = 0; i < seen && news == SOURCE_MORE; i++)
            news = source_read(&s, &r, false, 0, &chunk); /* it has no end yet */
        if (news == SOURCE_END)
            assert_int_equal(chunk.text.len, 0);
        reader_limit(&r, LEN);
        assert_int_equal(buf_append(&text, SLICE("\nabc\n")), 0);
        put(&s, slice_from(buf_slice(&text), LEN), LEN);
        do
            news = source_read(&s, &r, false, 0, &chunk);
        while (news == SOURCE_MORE);
        assert_int_equal(news, SOURCE_LINES);
        assert_true(chunk.text.len >= LEN + 1);
        assert_memory_equal(chunk.text.ptr, text.ptr, chunk.text.len);
        assert_int_equal(chunk.end, chunk.text.len);

        /* It was not taken, and the limit is lower again. */
        reader_limit(&r, LEN - 1);
        do
            news = source_read(&s, &r, false, 0, &chunk);
        while (news == SOURCE_MORE);
        assert_int_equal(news, SOURCE_LONG);
        assert_int_equal(chunk.text.len, LEN - 1);
        assert_int_equal(chunk.end, LEN + 1);
        source_end(&s);
    }

    /* What long lines took can be given back, and what is read then is as before. */
    assert_true(reader_excess(&r) > LEN - 2 * CHUNK);
    reader_trim(&r);
    assert_int_equal(reader_excess(&r), 0);
    source_begin(&s);
    put(&s, buf_slice(&text), 0);
    reader_limit(&r, ROOM);
    assert_int_equal(source_read(&s, &r, false, ROOM, &chunk), SOURCE_LINES);
    assert_true(slice_equal(chunk.text, buf_slice(&text)));
    source_end(&s);
    buf_done(&text);
    reader_done(&r);
}

/* --- UTF-16 --- */

/* ASCII as units of two bytes; `@` stands for U+0A0A, which has the byte 0x0A twice. */
static void append_units(struct buf *to, enum encoding e, struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        char low = text.ptr[i] == '@' ? '\n' : text.ptr[i], high = low == text.ptr[i] ? '\0' : low;

        assert_int_equal(buf_append_char(to, e == ENCODING_UTF16LE ? low : high), 0);
        assert_int_equal(buf_append_char(to, e == ENCODING_UTF16LE ? high : low), 0);
    }
}

/* Reads all there is; each line is told as UTF-8, each end of a read checked. */
static void drain_units(struct source *s, struct reader *r, bool half, struct buf *told)
{
    for (;;) {
        struct source_chunk chunk;
        int news = source_read(s, r, half, 0, &chunk);
        struct cursor place;

        assert_true(news >= 0 && news != SOURCE_ZEROS);
        assert_true(s->scanned % 2 == 0);
        if (news == SOURCE_END)
            return;
        if (news == SOURCE_MORE)
            continue;
        if (news == SOURCE_LONG)
            assert_true(chunk.text.len == r->line_max - r->line_max % 2);
        assert_int_equal(buf_printf(told, "%s",
                                    news == SOURCE_LONG   ? "long "
                                    : news == SOURCE_HALF ? "half "
                                                          : ""),
                         0);
        assert_int_equal(encoding_to_utf8(s->encoding, chunk.text, told), 0);
        if (news != SOURCE_LINES)
            assert_int_equal(buf_append_char(told, '\n'), 0);
        place = source_cursor(s, r, &chunk, chunk.end);
        assert_true(place.offset == chunk.end && place.rungs[0].back == 0);
        assert_true(news == SOURCE_HALF || chunk.end % 2 == 0);
        source_move(s, place);
    }
}

/* In appends of every size, odd ones too: the same lines. */
static void test_utf16_steps(void **state)
{
    static const struct slice text =
        SLICE("one\n@@two@\n\0\n\n\0zeros\0 are text\nlonger than ten\n@@@@@@@@@@@@\nx\nhalf@");

    (void)state;
    for (enum encoding e = ENCODING_UTF16LE; e <= ENCODING_UTF16BE; e++) {
        struct buf raw, told, whole;
        struct reader r;

        buf_init(&raw, 1000);
        buf_init(&told, 1000);
        buf_init(&whole, 1000);
        append_units(&raw, e, text);
        assert_int_equal(encoding_to_utf8(e, slice_first(buf_slice(&raw), raw.len - 10), &whole),
                         0); /* "half@" is five units */
        assert_int_equal(reader_init(&r, digest, SMALL), 0);
        for (size_t step = 1; step <= raw.len; step++)
            for (size_t odd = 0; odd <= 1; odd++) { /* the file may end in half a unit */
                struct source s;
                struct slice rest;

                source_begin(&s);
                s.encoding = e;
                buf_reset(&told);
                for (size_t at = 0; at < raw.len - odd; at += step) {
                    put(&s, (struct slice){raw.ptr + at, MIN(step, raw.len - odd - at)}, at);
                    drain_units(&s, &r, false, &told);
                }
                assert_true(slice_equal(buf_slice(&told), buf_slice(&whole)));
                assert_true(s.at.offset == raw.len - 10 && s.seen == raw.len - odd);
                drain_units(&s, &r, true, &told);
                rest = slice_from(buf_slice(&told), whole.len);
                assert_true(slice_equal(rest, odd ? SLICE("half half\xef\xbf\xbd\n")
                                                  : SLICE("half half\xe0\xa8\x8a\n")));
                assert_true(s.at.offset == raw.len - odd);

                /* The other half comes all the same: it is passed over, and units are whole again. */
                if (odd > 0) {
                    struct source_chunk chunk;

                    put(&s, (struct slice){raw.ptr + raw.len - 1, 1}, raw.len - 1);
                    assert_int_equal(source_read(&s, &r, true, 0, &chunk), SOURCE_ZEROS);
                    assert_true(chunk.end == raw.len && chunk.text.len == 0);
                    source_move(&s, source_cursor(&s, &r, &chunk, chunk.end));
                    assert_int_equal(source_read(&s, &r, true, 0, &chunk), SOURCE_END);
                }
                source_end(&s);
            }
        buf_done(&raw);
        buf_done(&told);
        buf_done(&whole);
        reader_done(&r);
    }
}

/* Lines around the limits, of characters with 0x0A in them, written in odd pieces. */
static void test_utf16_long(void **state)
{
    static const size_t maxes[] = {1, 2, 3, SMALL, SMALL + 1, CHUNK - 1, CHUNK, CHUNK + 1};
    static const size_t steps[] = {777, 60001, CHUNK + 1, SIZE_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(maxes) * 2; i++) {
        enum encoding e = i % 2 ? ENCODING_UTF16LE : ENCODING_UTF16BE;
        size_t max = maxes[i / 2];
        const size_t lens[] = {0,         max / 2 - (max > 1), max / 2,       max / 2 + 1, 5,
                               CHUNK / 2, CHUNK / 2 - 1,       CHUNK / 2 + 1, CHUNK,       1};
        struct buf raw, told;
        struct reader r;

        buf_init(&raw, 1 << 24);
        buf_init(&told, 1 << 24);
        assert_int_equal(reader_init(&r, digest, max), 0);
        for (size_t k = 0; k < ARRAY_LEN(lens); k++) {
            for (size_t n = 0; n < lens[k]; n++)
                append_units(&raw, e, n % 3 ? SLICE("@") : SLICE("a"));
            append_units(&raw, e, SLICE("\n"));
        }
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            struct slice rest;
            struct source s;

            if (steps[k] < 1000 && max > SMALL + 1)
                continue;
            source_begin(&s);
            s.encoding = e;
            buf_reset(&told);
            for (size_t at = 0; at < raw.len; at += MIN(steps[k], raw.len - at)) {
                put(&s, slice_first(slice_from(buf_slice(&raw), at), steps[k]), at);
                drain_units(&s, &r, false, &told);
            }
            assert_true(s.at.offset == raw.len);

            /* All of them, each once and in its order: as long as it is, or cut to whole units. */
            rest = buf_slice(&told);
            for (size_t n = 0; n < ARRAY_LEN(lens); n++) {
                bool is_long = slice_starts_with(rest, SLICE("long "));
                size_t len = 0, count = is_long ? max / 2 : lens[n];

                rest = slice_from(rest, is_long ? 5 : 0);
                for (size_t m = 0; m < count; m++)
                    len += m % 3 ? 3 : 1;
                assert_true(!is_long || lens[n] >= max / 2);
                assert_true(rest.len > len && rest.ptr[len] == '\n');
                assert_true(len == 0 || rest.ptr[0] == 'a');
                assert_true(memchr(rest.ptr, '\n', rest.len) == rest.ptr + len);
                rest = slice_from(rest, len + 1);
            }
            assert_int_equal(rest.len, 0);
            source_end(&s);
        }
        buf_done(&raw);
        buf_done(&told);
        reader_done(&r);
    }
}

/* A long one without its newline, in a file that ends in half a unit: all of it is done with. */
static void test_utf16_long_half(void **state)
{
    struct source_chunk chunk;
    struct buf raw, told;
    struct reader r;
    struct source s;

    (void)state;
    buf_init(&raw, 1 << 20);
    buf_init(&told, 1 << 20);
    assert_int_equal(reader_init(&r, digest, SMALL), 0);
    for (size_t n = 0; n < CHUNK; n++)
        append_units(&raw, ENCODING_UTF16LE, SLICE("@"));
    raw.len--;
    source_begin(&s);
    s.encoding = ENCODING_UTF16LE;
    put(&s, buf_slice(&raw), 0);
    drain_units(&s, &r, false, &told);
    assert_true(s.at.offset == 0 && s.scanned == raw.len - 1 && s.seen == raw.len);
    assert_int_equal(source_read(&s, &r, true, 0, &chunk), SOURCE_HALF);
    assert_true(chunk.text.len == SMALL && chunk.end == raw.len && chunk.at_eof);
    source_end(&s);
    reader_done(&r);
    buf_done(&raw);
    buf_done(&told);
}

/* Where the last line of UTF-16 begins, also of a file that ends in half a unit. */
static void test_utf16_last_line(void **state)
{
    static const size_t places[] = {0, 2, 65534, 65536, 65538, 131070, 199998};
    enum { SIZE = 200000 };

    (void)state;
    for (enum encoding e = ENCODING_UTF16LE; e <= ENCODING_UTF16BE; e++) {
        struct slice newline = e == ENCODING_UTF16LE ? SLICE("\n\0") : SLICE("\0\n");
        uint64_t offset;
        struct buf text;
        struct source s;

        buf_init(&text, SIZE);
        for (size_t n = 0; n < SIZE; n++)
            assert_int_equal(buf_append_char(&text, '\n'), 0);
        source_begin(&s);
        put(&s, buf_slice(&text), 0);
        assert_int_equal(identity_last_line(s.fd, e, SIZE, &offset), 0);
        assert_true(offset == 0);
        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
            put(&s, newline, places[i]);
            for (uint64_t size = SIZE; size > places[i] + 2 && size > SIZE - 3; size--) {
                assert_int_equal(identity_last_line(s.fd, e, size, &offset), 0);
                assert_true(offset == places[i] + 2);
            }
            assert_int_equal(identity_last_line(s.fd, e, places[i] + 1, &offset), 0);
            assert_true(offset == (i > 0 ? places[i - 1] + 2 : 0));
        }
        source_end(&s);
        buf_done(&text);
    }
}

/* What was truncated and refilled is noticed in UTF-16 too. */
static void test_utf16_truncation(void **state)
{
    struct buf told;
    struct reader r;
    struct source s;

    (void)state;
    buf_init(&told, 1000);
    assert_int_equal(reader_init(&r, digest, SMALL), 0);
    source_begin(&s);
    s.encoding = ENCODING_UTF16LE;
    put(&s, SLICE("a\0b\0\n\0"), 0);
    drain_units(&s, &r, false, &told);
    assert_true(s.at.offset == 6);
    put(&s, SLICE("a\0c\0\n\0d\0\n\0"), 0);
    assert_int_equal(source_read(&s, &r, false, 0, &(struct source_chunk){0}), -ESTALE);
    source_end(&s);
    reader_done(&r);
    buf_done(&told);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),           cmocka_unit_test(test_long),
        cmocka_unit_test(test_truncation),      cmocka_unit_test(test_identity),
        cmocka_unit_test(test_last_line),       cmocka_unit_test(test_behind),
        cmocka_unit_test(test_limit),           cmocka_unit_test(test_utf16_steps),
        cmocka_unit_test(test_utf16_long),      cmocka_unit_test(test_utf16_long_half),
        cmocka_unit_test(test_utf16_last_line), cmocka_unit_test(test_utf16_truncation),
    };
    int failed;

    if (digest_new(&digest) < 0)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    digest_free(digest);
    return failed;
}
