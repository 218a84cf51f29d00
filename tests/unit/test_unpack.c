#include "tail/unpack.h"

#include "counted_malloc.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "buf.h"

enum {
    FILE_MAX = 64 * 1024 * 1024,
    WINDOW = 64 * 1024,
    KEPT = WINDOW + UNPACK_BACK, /* how far back a read is cheap */
};

static const enum unpack_kind kinds[] = {UNPACK_GZIP, UNPACK_ZSTD};

/* --- making compressed files --- */

static int file_new(void)
{
    int fd = memfd_create("unpack", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void file_put(int fd, struct slice text, uint64_t offset)
{
    assert_int_equal(pwrite(fd, text.ptr, text.len, (off_t)offset), text.len);
}

static void file_set(int fd, struct slice text)
{
    assert_int_equal(ftruncate(fd, 0), 0);
    file_put(fd, text, 0);
}

/* Lines that look like a log's. */
static void append_lines(struct buf *to, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1103515245 + 12345;
        assert_int_equal(buf_printf(to, "%zu GET /item/%u?session=%08x 200\n", i, seed % 977, seed),
                         0);
    }
}

/* Bytes that do not get smaller. */
static void append_noise(struct buf *to, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1103515245 + 12345;
        assert_int_equal(buf_append_char(to, (char)(seed >> 16)), 0);
    }
}

static void pack_gzip(struct slice text, struct buf *to)
{
    z_stream z = {0};
    size_t size;
    char *out;

    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size = deflateBound(&z, text.len);
    out = malloc(size);
    assert_non_null(out);
    z.next_in = (unsigned char *)(uintptr_t)text.ptr;
    z.avail_in = (uInt)text.len;
    z.next_out = (unsigned char *)out;
    z.avail_out = (uInt)size;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(buf_append(to, (struct slice){out, size - z.avail_out}), 0);
    assert_int_equal(deflateEnd(&z), Z_OK);
    free(out);
}

/* As the zstd program does it: with a checksum.  `window_log` 0: the level's own. */
static void pack_zstd(struct slice text, int window_log, struct buf *to)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    size_t size = ZSTD_compressBound(text.len);
    char *out = malloc(size);
    ZSTD_inBuffer in = {text.ptr, text.len, 0};
    ZSTD_outBuffer room = {out, size, 0};

    assert_true(c != NULL && out != NULL);
    assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1)));
    assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log)));
    /* Two calls, so that it does not know the size and reserves the whole window. */
    assert_false(ZSTD_isError(ZSTD_compressStream2(c, &room, &in, ZSTD_e_continue)));
    assert_int_equal(ZSTD_compressStream2(c, &room, &in, ZSTD_e_end), 0);
    assert_int_equal(buf_append(to, (struct slice){out, room.pos}), 0);
    ZSTD_freeCCtx(c);
    free(out);
}

static void pack(enum unpack_kind kind, struct slice text, struct buf *to)
{
    if (kind == UNPACK_GZIP)
        pack_gzip(text, to);
    else
        pack_zstd(text, 0, to);
}

/* --- reading --- */

static struct unpack *unpack_new(int fd, enum unpack_kind kind)
{
    struct unpack *u;

    assert_int_equal(unpack_open(fd, kind, WINDOW, &u), 0);
    return u;
}

/* As a patient caller does it. */
static ssize_t read_at(struct unpack *u, char *to, size_t len, uint64_t offset)
{
    ssize_t n;

    for (int i = 0; i < 1000; i++)
        if ((n = unpack_pread(u, to, len, offset)) != -EAGAIN)
            return n;
    fail_msg("%zu bytes at %llu are never reached", len, (unsigned long long)offset);
    return 0;
}

/* What a read at any place of this content has to give. */
static void check_read(struct unpack *u, struct slice content, size_t len, uint64_t offset)
{
    static char text[WINDOW];
    struct slice want =
        offset < content.len ? slice_first(slice_from(content, offset), len) : SLICE("");
    ssize_t n = read_at(u, text, len, offset);

    if (n != (ssize_t)want.len || memcmp(text, want.ptr, want.len) != 0)
        fail_msg("%zu bytes at %llu: %zd", len, (unsigned long long)offset, n);
}

/* Appends the content from the end of `to` on, in steps; gives what the last read gave. */
static ssize_t read_all(struct unpack *u, size_t step, struct buf *to)
{
    static char text[WINDOW];
    ssize_t n;

    while ((n = read_at(u, text, step, to->len)) > 0)
        assert_int_equal(buf_append(to, (struct slice){text, (size_t)n}), 0);
    return n;
}

/* --- tests --- */

static void test_kinds(void **state)
{
    static const struct {
        struct slice magic;
        enum unpack_kind kind;
    } magics[] = {
        {{"", 0}, UNPACK_NONE},
        {{"\x1f", 1}, UNPACK_NONE},
        {{"\x1f\x8b", 2}, UNPACK_GZIP},
        {{"\x1f\x8b\x08\x00\x00", 5}, UNPACK_GZIP},
        {{"\x1f\x9d\x90\x00", 4}, UNPACK_NONE}, /* compress(1) */
        {{"\x8b\x1f\x08\x00", 4}, UNPACK_NONE},
        {{"\x28\xb5\x2f", 3}, UNPACK_NONE},
        {{"\x28\xb5\x2f\xfd", 4}, UNPACK_ZSTD},
        {{"\x28\xb5\x2f\xfd\x04", 5}, UNPACK_ZSTD},
        {{"\x27\xb5\x2f\xfd", 4}, UNPACK_NONE}, /* zstd 0.7 */
        {{"\x50\x2a\x4d\x18", 4}, UNPACK_ZSTD},
        {{"\x5f\x2a\x4d\x18", 4}, UNPACK_ZSTD},
        {{"\x60\x2a\x4d\x18", 4}, UNPACK_NONE},
        {{"\x04\x22\x4d\x18", 4}, UNPACK_NONE}, /* lz4 */
        {{"BZh9", 4}, UNPACK_NONE},
        {{"2026", 4}, UNPACK_NONE},
        {{"P*M ", 4}, UNPACK_NONE},
        {{"\0\0\0\0", 4}, UNPACK_NONE},
    };
    static const struct {
        const char *name;
        enum unpack_kind kind;
    } names[] = {
        {"app.log.1.gz", UNPACK_GZIP}, {"app.log.zst", UNPACK_ZSTD},
        {"app.log", UNPACK_NONE},      {"app.log.Z", UNPACK_NONE},
        {"app.log.z", UNPACK_NONE},    {"appgz", UNPACK_NONE},
        {"app.gz.1", UNPACK_NONE},     {"gz", UNPACK_NONE},
        {"app.bz2", UNPACK_NONE},      {"", UNPACK_NONE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(magics); i++)
        if (unpack_kind_of(magics[i].magic) != magics[i].kind)
            fail_msg("magic %zu", i);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (unpack_kind_of_name(slice_of(names[i].name)) != names[i].kind)
            fail_msg("'%s'", names[i].name);
}

/* A content of several parts, some of them empty: the same whatever the reads' sizes. */
static void test_steps(void **state)
{
    static const size_t steps[] = {1, 2, 3, 7, 100, 4095, 4096, 10007, WINDOW - 1, WINDOW};
    struct buf content, file, told;
    int fd = file_new();

    (void)state;
    buf_init(&content, FILE_MAX);
    buf_init(&file, FILE_MAX);
    buf_init(&told, FILE_MAX);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        buf_reset(&content);
        buf_reset(&file);
        for (unsigned part = 0; part < 6; part++) {
            size_t from = content.len;

            append_lines(&content, part % 2 * part * 800, part); /* 0, 800, 0, 2400, 0, 4000 */
            append_noise(&content, part * 5000, part);
            pack(kinds[k], slice_from(buf_slice(&content), from), &file);
        }
        file_set(fd, buf_slice(&file));
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            struct unpack *u = unpack_new(fd, kinds[k]);

            assert_false(unpack_is_whole(u));
            buf_reset(&told);
            assert_int_equal(read_all(u, steps[i], &told), 0);
            assert_true(slice_equal(buf_slice(&told), buf_slice(&content)));
            assert_true(unpack_is_whole(u));
            assert_int_equal(unpack_error(u), 0);
            unpack_close(u);
        }
    }
    unpack_close(NULL);
    close(fd);
    buf_done(&content);
    buf_done(&file);
    buf_done(&told);
}

/* Anywhere, in any order; and a place behind the end is the end. */
static void test_places(void **state)
{
    struct buf content, file;
    unsigned seed = 5;
    int fd = file_new();

    (void)state;
    buf_init(&content, FILE_MAX);
    buf_init(&file, FILE_MAX);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct unpack *u = unpack_new(fd, kinds[k]);
        size_t half;

        buf_reset(&content);
        buf_reset(&file);
        append_lines(&content, 30000, 1);
        half = content.len;
        pack(kinds[k], buf_slice(&content), &file);
        append_noise(&content, 300 * 1000, 2);
        pack(kinds[k], slice_from(buf_slice(&content), half), &file);
        assert_true(content.len > 2 * KEPT);
        file_set(fd, buf_slice(&file));

        for (unsigned i = 0; i < 120; i++) {
            size_t len;
            uint64_t offset;

            seed = seed * 1103515245 + 12345;
            len = (seed >> 8) % (WINDOW + 1);
            offset = (seed >> 4) % (content.len + 1000);
            check_read(u, buf_slice(&content), len, offset);
            assert_int_equal(unpack_seek(u, MIN(offset, content.len)), 1);

            /* As the follower reads: a few bytes before where it was; and a window again. */
            check_read(u, buf_slice(&content), WINDOW, offset + len - MIN(offset + len, 256));
            check_read(u, buf_slice(&content), WINDOW, offset);
        }
        check_read(u, buf_slice(&content), WINDOW, content.len - 1);
        assert_true(unpack_is_whole(u));
        check_read(u, buf_slice(&content), WINDOW, content.len);
        check_read(u, buf_slice(&content), 1, content.len + 1);
        check_read(u, buf_slice(&content), WINDOW, UINT64_MAX - 5);
        check_read(u, buf_slice(&content), WINDOW, UINT64_MAX);
        check_read(u, buf_slice(&content), 0, 0);
        assert_int_equal(unpack_seek(u, content.len), 1);
        assert_int_equal(unpack_seek(u, content.len + 1), -ENODATA);
        assert_int_equal(unpack_seek(u, 0), 1);
        check_read(u, buf_slice(&content), WINDOW, 0);
        unpack_close(u);
    }
    close(fd);
    buf_done(&content);
    buf_done(&file);
}

/* How many bytes of the file have been read does not show; but a descriptor that reads nothing any
 * more does: what is kept can be read, and only that. */
static void test_what_is_kept(void **state)
{
    struct buf content, file;
    int fd = file_new(), none = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char text[WINDOW];

    (void)state;
    buf_init(&content, FILE_MAX);
    buf_init(&file, FILE_MAX);
    append_lines(&content, 50000, 1);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct unpack *u;
        int again = dup(fd);
        uint64_t end = content.len / 4 * 3;

        buf_reset(&file);
        pack(kinds[k], buf_slice(&content), &file);
        file_set(fd, buf_slice(&file));
        u = unpack_new(again, kinds[k]);
        for (uint64_t at = 0; at < end; at += WINDOW)
            check_read(u, buf_slice(&content), (size_t)MIN((uint64_t)WINDOW, end - at), at);
        assert_int_equal(dup3(none, again, O_CLOEXEC), again);
        for (uint64_t back = 0; back <= KEPT; back += 1000)
            check_read(u, buf_slice(&content), (size_t)MIN((uint64_t)WINDOW, back), end - back);
        check_read(u, buf_slice(&content), WINDOW, end - KEPT);
        assert_int_equal(unpack_pread(u, text, 1, end - KEPT - 1), -EISDIR);
        assert_int_equal(unpack_seek(u, end), -EISDIR);

        /* And when it can be read again, all is well again. */
        assert_int_equal(dup3(fd, again, O_CLOEXEC), again);
        check_read(u, buf_slice(&content), WINDOW, end);
        check_read(u, buf_slice(&content), WINDOW, 0);
        unpack_close(u);
        close(again);
    }
    close(none);
    close(fd);
    buf_done(&content);
    buf_done(&file);
}

/* A small file of two parts and, for zstd, several blocks. */
static void make_small(enum unpack_kind kind, struct buf *content, struct buf *file)
{
    size_t half;

    buf_reset(content);
    buf_reset(file);
    append_lines(content, 20, 1);
    half = content->len;
    pack(kind, buf_slice(content), file);
    append_noise(content, 100, 2);
    append_lines(content, 10, 3);
    pack(kind, slice_from(buf_slice(content), half), file);
}

/* Cut anywhere there is a beginning of the content; and when the rest comes, so does its rest. */
static void test_cut(void **state)
{
    struct buf content, file, told;
    int fd = file_new();

    (void)state;
    buf_init(&content, FILE_MAX);
    buf_init(&file, FILE_MAX);
    buf_init(&told, FILE_MAX);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        size_t first, before = 0;

        make_small(kinds[k], &content, &file);
        buf_reset(&told);
        append_lines(&told, 20, 1);
        first = told.len;
        for (size_t cut = 0; cut <= file.len; cut++) {
            struct unpack *u = unpack_new(fd, kinds[k]);
            bool is_border;

            file_set(fd, slice_first(buf_slice(&file), cut));
            buf_reset(&told);
            assert_int_equal(read_all(u, 1 + cut % 100, &told), 0);
            assert_int_equal(unpack_error(u), 0);
            assert_true(slice_starts_with(buf_slice(&content), buf_slice(&told)));
            assert_true(told.len >= before); /* more of the file is never less of the content */
            before = told.len;

            /* Between the parts is an end in order too: nobody can tell. */
            is_border = unpack_is_whole(u);
            if (is_border)
                assert_true(told.len == first || told.len == content.len);
            assert_true(is_border || cut < file.len);
            assert_false(is_border && cut == 0);

            file_put(fd, slice_from(buf_slice(&file), cut), cut);
            assert_int_equal(read_all(u, 1 + cut % 50, &told), 0);
            assert_true(slice_equal(buf_slice(&told), buf_slice(&content)));
            assert_true(unpack_is_whole(u));
            unpack_close(u);
        }
    }
    close(fd);
    buf_done(&content);
    buf_done(&file);
    buf_done(&told);
}

/* As it grows by single bytes: the same reader finds all. */
static void test_growth(void **state)
{
    struct buf content, file, told;
    int fd = file_new();

    (void)state;
    buf_init(&content, FILE_MAX);
    buf_init(&file, FILE_MAX);
    buf_init(&told, FILE_MAX);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct unpack *u = unpack_new(fd, kinds[k]);
        size_t wholes = 0;

        make_small(kinds[k], &content, &file);
        assert_int_equal(ftruncate(fd, 0), 0);
        buf_reset(&told);
        for (size_t len = 0; len < file.len; len++) {
            file_put(fd, (struct slice){file.ptr + len, 1}, len);
            assert_int_equal(read_all(u, 1000, &told), 0);
            wholes += unpack_is_whole(u);
        }
        assert_true(slice_equal(buf_slice(&told), buf_slice(&content)));
        assert_int_equal(wholes, 2);
        unpack_close(u);
    }
    close(fd);
    buf_done(&content);
    buf_done(&file);
    buf_done(&told);
}

/* With any bit wrong: an end, whole or not, or an error; and it is told the same way whatever the
 * reads' sizes.  zstd's checksum and gzip's see what the decoder does not. */
static void test_flipped_bits(void **state)
{
    static char text[WINDOW];
    struct buf content, file, told, again;
    int fd = file_new();

    (void)state;
    buf_init(&content, FILE_MAX);
    buf_init(&file, FILE_MAX);
    buf_init(&told, FILE_MAX);
    buf_init(&again, FILE_MAX);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        size_t errors = 0, cuts = 0, same = 0;

        make_small(kinds[k], &content, &file);
        for (size_t bit = 0; bit < file.len * 8; bit++) {
            struct unpack *u = unpack_new(fd, kinds[k]);
            ssize_t r, r_again;

            file.ptr[bit / 8] = (char)(file.ptr[bit / 8] ^ (1 << bit % 8));
            file_set(fd, buf_slice(&file));
            buf_reset(&told);
            buf_reset(&again);
            r = read_all(u, WINDOW, &told);
            assert_true(r == 0 || r == -EBADMSG || r == -EOVERFLOW || r == -ENOTSUP);
            assert_int_equal(unpack_error(u), r);
            if (r < 0) {
                errors++;
                assert_false(unpack_is_whole(u));
                assert_int_equal(unpack_pread(u, text, 1, told.len), r);
                assert_int_equal(unpack_seek(u, told.len + 1), r);
                assert_int_equal(unpack_pread(u, text, 2, told.len + 5), r);
                if (told.len > 0)
                    check_read(u, buf_slice(&told), WINDOW, 0);
                if (told.len > 10)
                    check_read(u, buf_slice(&told), 20, told.len - 10);
            } else if (!unpack_is_whole(u)) {
                cuts++;
            } else {
                /* only in what says nothing of the content: a time, a system */
                assert_true(slice_equal(buf_slice(&told), buf_slice(&content)));
                same++;
            }
            unpack_close(u);

            u = unpack_new(fd, kinds[k]);
            r_again = read_all(u, 1, &again);
            assert_int_equal(r_again, r);
            assert_true(slice_equal(buf_slice(&told), buf_slice(&again)));
            unpack_close(u);
            file.ptr[bit / 8] = (char)(file.ptr[bit / 8] ^ (1 << bit % 8));
        }
        assert_true(errors > file.len * 6);
        assert_true(cuts > 0 && cuts < file.len && same < 20 * 8);
    }
    close(fd);
    buf_done(&content);
    buf_done(&file);
    buf_done(&told);
    buf_done(&again);
}

/* What is good before a damage can be read; from zstd, up to the block that has it, and no more. */
static void test_damage_in_the_middle(void **state)
{
    struct buf content, file, told;
    int fd = file_new();

    (void)state;
    buf_init(&content, FILE_MAX);
    buf_init(&file, FILE_MAX);
    buf_init(&told, FILE_MAX);
    append_lines(&content, 40000, 1);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        for (size_t step = 500; step <= WINDOW; step *= 131) {
            struct unpack *u = unpack_new(fd, kinds[k]);
            size_t at;

            buf_reset(&file);
            buf_reset(&told);
            pack(kinds[k], buf_slice(&content), &file);
            at = file.len / 2;
            memset(file.ptr + at, 0xff, 1000);
            file_set(fd, buf_slice(&file));
            assert_int_equal(read_all(u, step, &told), -EBADMSG);
            /* gzip may take wrong bytes for right ones until its checksum. */
            assert_true(slice_starts_with(buf_slice(&told),
                                          slice_first(buf_slice(&content), content.len / 5 * 2)));
            if (kinds[k] == UNPACK_ZSTD) {
                assert_true(told.len < content.len / 5 * 3);
                assert_true(slice_starts_with(buf_slice(&content), buf_slice(&told)));
                assert_int_equal(told.len % (128 * 1024), 0);
            }

            /* From the beginning again: the same, and the same end. */
            assert_true(told.len > KEPT);
            check_read(u, buf_slice(&told), WINDOW, 0);
            assert_int_equal(unpack_error(u), 0);
            check_read(u, buf_slice(&told), WINDOW, told.len - WINDOW / 2);
            assert_int_equal(unpack_error(u), -EBADMSG);
            unpack_close(u);
        }
    close(fd);
    buf_done(&content);
    buf_done(&file);
    buf_done(&told);
}

/* What stands behind a last part, or instead of a first one. */
static void test_what_follows(void **state)
{
    static const struct {
        const char *name;
        enum unpack_kind kind;
        bool part; /* behind a part; else alone */
        struct slice rest;
        int error;
        bool whole;
    } stories[] = {
        {"nothing", UNPACK_GZIP, true, {"", 0}, 0, true},
        {"a zero", UNPACK_GZIP, true, {"\0", 1}, 0, true},
        {"zeros", UNPACK_GZIP, true, {"\0\0\0\0\0\0\0\0\0", 9}, 0, true},
        {"zeros and not", UNPACK_GZIP, true, {"\0\0\0\0x", 5}, -EBADMSG, false},
        {"zeros and a part", UNPACK_GZIP, true, {"\0\0\x1f\x8b\x08", 5}, -EBADMSG, false},
        {"text", UNPACK_GZIP, true, {"x", 1}, -EBADMSG, false},
        {"a begin", UNPACK_GZIP, true, {"\x1f", 1}, 0, false},
        {"a magic", UNPACK_GZIP, true, {"\x1f\x8b", 2}, 0, false},
        {"a begin, then not", UNPACK_GZIP, true, {"\x1f\x8c", 2}, -EBADMSG, false},
        {"zstd", UNPACK_GZIP, true, {"\x28\xb5\x2f\xfd", 4}, -EBADMSG, false},
        {"nothing at all", UNPACK_GZIP, false, {"", 0}, 0, false},
        {"only a zero", UNPACK_GZIP, false, {"\0", 1}, -EBADMSG, false},
        {"only text", UNPACK_GZIP, false, {"text\n", 5}, -EBADMSG, false},

        {"nothing", UNPACK_ZSTD, true, {"", 0}, 0, true},
        {"a zero", UNPACK_ZSTD, true, {"\0", 1}, -EBADMSG, false},
        {"text", UNPACK_ZSTD, true, {"x", 1}, -EBADMSG, false},
        {"a begin", UNPACK_ZSTD, true, {"\x28\xb5", 2}, 0, false},
        {"a magic", UNPACK_ZSTD, true, {"\x28\xb5\x2f\xfd", 4}, 0, false},
        {"a begin, then not", UNPACK_ZSTD, true, {"\x28\xb5\x2f\xfe", 4}, -EBADMSG, false},
        {"an older format", UNPACK_ZSTD, true, {"\x27\xb5\x2f\xfd", 4}, -EBADMSG, false},
        {"a skippable one's", UNPACK_ZSTD, true, {"\x53", 1}, 0, false},
        {"a skippable one's", UNPACK_ZSTD, true, {"\x53\x2a\x4d", 3}, 0, false},
        {"skippable", UNPACK_ZSTD, true, {"\x53\x2a\x4d\x18\2\0\0\0ab", 10}, 0, true},
        {"skippable, cut", UNPACK_ZSTD, true, {"\x53\x2a\x4d\x18\2\0\0\0a", 9}, 0, false},
        {"only skippable", UNPACK_ZSTD, false, {"\x5f\x2a\x4d\x18\0\0\0\0", 8}, 0, true},
        {"gzip", UNPACK_ZSTD, true, {"\x1f\x8b\x08\x00", 4}, -EBADMSG, false},
        {"nothing at all", UNPACK_ZSTD, false, {"", 0}, 0, false},
        {"only text", UNPACK_ZSTD, false, {"text\n", 5}, -EBADMSG, false},
    };
    int fd = file_new();
    struct buf file;
    char text[100];

    (void)state;
    buf_init(&file, FILE_MAX);
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct unpack *u = unpack_new(fd, stories[i].kind);
        struct slice content = stories[i].part ? SLICE("a line\n") : SLICE("");

        buf_reset(&file);
        if (stories[i].part)
            pack(stories[i].kind, content, &file);
        assert_int_equal(buf_append(&file, stories[i].rest), 0);
        file_set(fd, buf_slice(&file));
        if (content.len > 0)
            check_read(u, content, sizeof text, 0);
        if (read_at(u, text, sizeof text, content.len) != stories[i].error ||
            unpack_error(u) != stories[i].error || unpack_is_whole(u) != stories[i].whole)
            fail_msg("%s: %d %d", stories[i].name, unpack_error(u), unpack_is_whole(u));
        unpack_close(u);
    }

    /* Padding is no end for good: neither is it whole when something else comes behind it. */
    struct unpack *u = unpack_new(fd, UNPACK_GZIP);
    buf_reset(&file);
    pack(UNPACK_GZIP, SLICE("a"), &file);
    assert_int_equal(buf_append(&file, (struct slice){"\0\0", 2}), 0);
    file_set(fd, buf_slice(&file));
    check_read(u, SLICE("a"), 10, 0);
    assert_true(unpack_is_whole(u));
    file_put(fd, SLICE("x"), file.len);
    assert_int_equal(read_at(u, text, 1, 1), -EBADMSG);
    assert_false(unpack_is_whole(u));
    unpack_close(u);
    close(fd);
    buf_done(&file);
}

/* Zeros, a thousand times smaller as a file: no call does more than its share, and nothing is
 * allocated once reading has begun. */
static void test_bomb(void **state)
{
    static const size_t size = 100 * 1024 * 1024;
    struct buf file;
    char *zeros = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static char text[WINDOW];
    int fd = file_new();

    (void)state;
    assert_true(zeros != MAP_FAILED);
    buf_init(&file, FILE_MAX);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct unpack *u = unpack_new(fd, kinds[k]);
        uint64_t at = 0;
        size_t before, calls = 1;
        ssize_t n;
        int r;

        buf_reset(&file);
        pack(kinds[k], (struct slice){zeros, size}, &file);
        assert_true(file.len < size / 500);
        file_set(fd, buf_slice(&file));

        assert_int_equal(unpack_pread(u, text, WINDOW, 0), WINDOW);
        before = allocations;
        while ((n = unpack_pread(u, text, WINDOW, at)) > 0) {
            assert_int_equal(text[0], 0);
            at += (uint64_t)n;
        }
        assert_int_equal(n, 0);
        assert_true(at == size);
        assert_true(unpack_is_whole(u));
        assert_int_equal(allocations - before, 0);

        /* From the beginning again, to a place far behind it. */
        assert_int_equal(unpack_pread(u, text, 1, 0), 1);
        while ((r = unpack_seek(u, size - 1)) == 0)
            calls++;
        assert_int_equal(r, 1);
        assert_int_equal(calls, size / UNPACK_STEP);
        assert_int_equal(unpack_pread(u, text, 1, 0), 1);
        for (calls = 1; (n = unpack_pread(u, text, 10, size - 10)) == -EAGAIN; calls++)
            ;
        assert_int_equal(n, 10);
        assert_int_equal(calls, size / UNPACK_STEP);
        assert_int_equal(allocations - before, 0);
        unpack_close(u);
    }
    munmap(zeros, size);
    close(fd);
    buf_done(&file);
}

/* What costs input and gives no content is done in shares as well. */
static void test_empty_parts(void **state)
{
    int fd = file_new();
    struct buf file, part;
    char text[10];

    (void)state;
    buf_init(&file, FILE_MAX);
    buf_init(&part, FILE_MAX);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct unpack *u = unpack_new(fd, kinds[k]);
        size_t calls = 1;
        ssize_t n;

        buf_reset(&file);
        buf_reset(&part);
        pack(kinds[k], SLICE(""), &part);
        while (file.len < 4 * 1024 * 1024)
            assert_int_equal(buf_append(&file, buf_slice(&part)), 0);
        pack(kinds[k], SLICE("here"), &file);
        file_set(fd, buf_slice(&file));
        for (; (n = unpack_pread(u, text, sizeof text, 0)) == -EAGAIN; calls++)
            assert_true(calls < 1000);
        assert_int_equal(n, 4);
        assert_memory_equal(text, "here", 4);
        assert_true(unpack_is_whole(u));
        assert_true(calls >= 4);
        unpack_close(u);
    }
    close(fd);
    buf_done(&file);
    buf_done(&part);
}

/* A frame that wants as much memory as the limit is read; one that wants more is refused. */
static void test_memory_limit(void **state)
{
    /* RFC 8878, 3.1.1.1.2: the byte behind the descriptor is the window's exponent - 10, times 8. */
    static const struct {
        int log;
        int error;
    } stories[] = {{10, 0}, {23, 0}, {27, 0}, {28, -EOVERFLOW}, {31, -EOVERFLOW}};
    int fd = file_new();
    struct buf file;
    char text[10];

    (void)state;
    buf_init(&file, FILE_MAX);
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct unpack *u = unpack_new(fd, UNPACK_ZSTD);

        buf_reset(&file);
        pack_zstd(SLICE("good\n"), 10, &file);
        size_t second = file.len;
        pack_zstd(SLICE("line\n"), 10, &file);
        assert_int_equal(file.ptr[second + 5], 0); /* the window of 2^10 */
        file.ptr[second + 5] = (char)((stories[i].log - 10) * 8);
        file_set(fd, buf_slice(&file));
        assert_int_equal(unpack_pread(u, text, sizeof text, 0), stories[i].error == 0 ? 10 : 5);
        assert_int_equal(unpack_pread(u, text, 1, 10), stories[i].error);
        assert_int_equal(unpack_error(u), stories[i].error);
        unpack_close(u);
    }
    close(fd);
    buf_done(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_places),       cmocka_unit_test(test_what_is_kept),
        cmocka_unit_test(test_cut),          cmocka_unit_test(test_growth),
        cmocka_unit_test(test_flipped_bits), cmocka_unit_test(test_damage_in_the_middle),
        cmocka_unit_test(test_what_follows), cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_empty_parts),  cmocka_unit_test(test_memory_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
