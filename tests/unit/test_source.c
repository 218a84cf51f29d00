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
        struct source_chunk chunk = {{NULL, 0}, 0};
        uint64_t offset = s->at.offset;
        struct slice in, line;
        int news = source_read(s, r, half, &chunk);

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
    assert_int_equal(identity_last_line(s.fd, 0, &offset), 0);
    assert_true(offset == 0);
    put(&s, buf_slice(&text), 0);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        assert_int_equal(identity_last_line(s.fd, places[i], &offset), 0);
        assert_true(offset == 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        put(&s, SLICE("\n"), places[i]);
        for (size_t k = 0; k < ARRAY_LEN(places); k++) {
            assert_int_equal(identity_last_line(s.fd, places[k], &offset), 0);
            assert_true(offset == (k > i ? places[i] + 1 : k > 0 ? places[k - 1] + 1 : 0));
        }
        assert_int_equal(identity_last_line(s.fd, SIZE, &offset), 0);
        assert_true(offset == places[i] + 1);
    }
    source_end(&s);
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),      cmocka_unit_test(test_long),
        cmocka_unit_test(test_truncation), cmocka_unit_test(test_identity),
        cmocka_unit_test(test_last_line),
    };
    int failed;

    if (digest_new(&digest) < 0)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    digest_free(digest);
    return failed;
}
