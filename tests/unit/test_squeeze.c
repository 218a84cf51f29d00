/* Records, compressed one by one: they come back as they were, and nothing grows but what must. */
#include "record/squeeze.h"

#include "counted_malloc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "util.h"

enum { RECORD_MAX = 1024 * 1024, GROWTH_MAX = 1024 };

static char lines[RECORD_MAX], noise[RECORD_MAX], back[RECORD_MAX + 1];

static int setup(void **state)
{
    unsigned seed = 1;
    size_t at = 0;

    (void)state;
    while (at + 100 < sizeof lines) {
        seed = seed * 1103515245 + 12345;
        at += (size_t)snprintf(lines + at, 100, "%zu GET /item/%u?session=%08x 200\n", at,
                               seed % 977, seed);
    }
    for (size_t i = 0; i < sizeof noise; i++) {
        seed = seed * 1664525 + 1013904223;
        noise[i] = (char)(seed >> 24);
    }
    return 0;
}

/* What a stranger's reader makes of it: the whole, of one member or frame, and nothing behind it. */
static void check_back(enum squeeze_kind kind, struct slice packed, struct slice want)
{
    if (kind == SQUEEZE_ZSTD) {
        assert_true(ZSTD_getFrameContentSize(packed.ptr, packed.len) == want.len);
        assert_int_equal(ZSTD_findFrameCompressedSize(packed.ptr, packed.len), packed.len);
        assert_int_equal(ZSTD_decompress(back, sizeof back, packed.ptr, packed.len), want.len);
    } else {
        z_stream z = {.next_in = (z_const Bytef *)packed.ptr,
                      .avail_in = (uInt)packed.len,
                      .next_out = (Bytef *)back,
                      .avail_out = sizeof back};
        gz_header header = {0};

        assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
        assert_int_equal(inflateGetHeader(&z, &header), Z_OK);
        assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
        assert_int_equal(z.avail_in, 0);
        assert_int_equal(z.total_out, want.len);
        assert_true(header.done == 1 && header.time == 0);
        assert_int_equal(packed.ptr[3], 0); /* RFC 1952, FLG: no name, no comment, no extra field */
        (void)inflateEnd(&z);
    }
    assert_true(slice_equal((struct slice){back, want.len}, want));
}

/* The last byte of either is the checksum's or the length's: flipped, it must not be taken. */
static void check_checked(enum squeeze_kind kind, struct slice packed)
{
    char *last = (char *)(uintptr_t)packed.ptr + packed.len - (kind == SQUEEZE_ZSTD ? 1 : 5);

    *last = (char)(*last ^ 1);
    if (kind == SQUEEZE_ZSTD) {
        assert_true(ZSTD_isError(ZSTD_decompress(back, sizeof back, packed.ptr, packed.len)));
    } else {
        z_stream z = {.next_in = (z_const Bytef *)packed.ptr,
                      .avail_in = (uInt)packed.len,
                      .next_out = (Bytef *)back,
                      .avail_out = sizeof back};

        assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
        assert_int_equal(inflate(&z, Z_FINISH), Z_DATA_ERROR);
        (void)inflateEnd(&z);
    }
}

static const size_t lens[] = {0,         1,          2,          100,    200,        5000,
                              16 * 1024, 16385,      131072,     131073, 256 * 1024, 256 * 1024 + 1,
                              500000,    RECORD_MAX, RECORD_MAX, 3,      70000};

/* Levels beyond this one take long: they are only told what is short, and the highest everything. */
enum { LEVEL_QUICK = 6 };

static bool takes_long(int level, size_t len)
{
    return level > LEVEL_QUICK && len > 20000;
}

/* Every level, lengths of every class up and down, with one state. */
static void records_come_back(void **state)
{
    static const int level_max[] = {SQUEEZE_GZIP_LEVEL_MAX, SQUEEZE_ZSTD_LEVEL_MAX};

    (void)state;
    for (enum squeeze_kind kind = SQUEEZE_GZIP; kind <= SQUEEZE_ZSTD; kind++)
        for (int level = 0; level <= level_max[kind]; level++) {
            struct squeeze *s;

            assert_int_equal(squeeze_new(kind, level, RECORD_MAX, &s), 0);
            for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
                struct slice texts[] = {{lines, lens[i]}, {noise, lens[i]}}, packed;

                if (takes_long(level, lens[i]) && level < level_max[kind])
                    continue;
                for (size_t k = 0; k < ARRAY_LEN(texts); k++) {
                    assert_int_equal(squeeze_record(s, texts[k], &packed), 0);
                    assert_true(packed.len <= squeeze_bound(s, lens[i]));
                    assert_true(packed.len <= lens[i] + lens[i] / 100 + GROWTH_MAX);
                    check_back(kind, packed, texts[k]);
                    check_checked(kind, packed);
                }
                if (lens[i] >= 5000) {
                    assert_int_equal(squeeze_record(s, texts[0], &packed), 0);
                    assert_true(packed.len < lens[i] / 2);
                }
            }
            squeeze_free(s);
        }
}

/* Made for less, each length up to there has the memory that it needs. */
static void every_size_is_served(void **state)
{
    static const size_t maxes[] = {0, 1, 100, 16384, 16385, 100000, 131073, 262145};

    (void)state;
    for (enum squeeze_kind kind = SQUEEZE_GZIP; kind <= SQUEEZE_ZSTD; kind++)
        for (int level = 1; level <= SQUEEZE_ZSTD_LEVEL_MAX; level++)
            for (size_t i = 0; i < ARRAY_LEN(maxes); i++) {
                struct slice packed;
                struct squeeze *s;

                if ((kind == SQUEEZE_GZIP && level > SQUEEZE_GZIP_LEVEL_MAX) ||
                    (takes_long(level, maxes[i]) && level % 6 != 1))
                    continue;
                assert_int_equal(squeeze_new(kind, level, maxes[i], &s), 0);
                for (size_t k = 0; k < ARRAY_LEN(lens); k++) {
                    struct slice in = {noise, lens[k]};

                    if (lens[k] > maxes[i]) {
                        assert_int_equal(squeeze_record(s, in, &packed), -EMSGSIZE);
                        continue;
                    }
                    assert_int_equal(squeeze_record(s, in, &packed), 0);
                    check_back(kind, packed, in);
                }
                assert_int_equal(squeeze_record(s, (struct slice){lines, maxes[i]}, &packed), 0);
                check_back(kind, packed, (struct slice){lines, maxes[i]});
                squeeze_free(s);
            }
}

/* What came before leaves no trace. */
static void the_same_is_the_same(void **state)
{
    (void)state;
    for (enum squeeze_kind kind = SQUEEZE_GZIP; kind <= SQUEEZE_ZSTD; kind++) {
        static char first[RECORD_MAX];
        struct slice packed;
        struct squeeze *s;
        size_t len;

        assert_int_equal(squeeze_new(kind, 0, RECORD_MAX, &s), 0);
        assert_int_equal(squeeze_record(s, (struct slice){lines, 50000}, &packed), 0);
        len = packed.len;
        memcpy(first, packed.ptr, len);
        for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
            assert_int_equal(squeeze_record(s, (struct slice){noise + 1, lens[i] / 2}, &packed), 0);
            assert_int_equal(squeeze_record(s, (struct slice){lines, 50000}, &packed), 0);
            assert_true(slice_equal(packed, (struct slice){first, len}));
        }
        squeeze_free(s);
    }
}

/* Not even after so many small ones that a context of zstd's own would give its memory back. */
static void a_warm_one_allocates_nothing(void **state)
{
    (void)state;
    for (enum squeeze_kind kind = SQUEEZE_GZIP; kind <= SQUEEZE_ZSTD; kind++) {
        struct slice packed;
        struct squeeze *s;
        size_t before = allocations;

        assert_int_equal(squeeze_new(kind, 0, RECORD_MAX, &s), 0);
        assert_true(!COUNTED_MALLOC || allocations > before); /* so the counting works */
        before = allocations;
        for (int round = 0; round < 3; round++) {
            for (size_t i = 0; i < 400; i++)
                assert_int_equal(squeeze_record(s, (struct slice){lines + i, 200 + i % 7}, &packed),
                                 0);
            assert_int_equal(squeeze_record(s, (struct slice){lines, RECORD_MAX}, &packed), 0);
            assert_int_equal(squeeze_record(s, (struct slice){noise, 100000}, &packed), 0);
        }
        assert_int_equal(allocations, before);
        squeeze_free(s);
    }
}

static void what_cannot_be_is_refused(void **state)
{
    struct squeeze *s = NULL;

    (void)state;
    assert_int_equal(squeeze_new(SQUEEZE_GZIP, -1, 10, &s), -EINVAL);
    assert_int_equal(squeeze_new(SQUEEZE_GZIP, SQUEEZE_GZIP_LEVEL_MAX + 1, 10, &s), -EINVAL);
    assert_int_equal(squeeze_new(SQUEEZE_ZSTD, SQUEEZE_ZSTD_LEVEL_MAX + 1, 10, &s), -EINVAL);
    assert_int_equal(squeeze_new(SQUEEZE_ZSTD, 1, SIZE_MAX, &s), -EMSGSIZE);
    assert_null(s);
    squeeze_free(NULL);
}

/* For another reader: `squeeze gzip|zstd LEVEL <in >out`; see tests/system/test_squeeze.py. */
static int filter(const char *kind, int level)
{
    size_t len = fread(lines, 1, sizeof lines, stdin);
    struct slice packed;
    struct squeeze *s;
    int r =
        squeeze_new(strcmp(kind, "gzip") == 0 ? SQUEEZE_GZIP : SQUEEZE_ZSTD, level, RECORD_MAX, &s);

    if (r < 0)
        return 1;
    r = squeeze_record(s, (struct slice){lines, len}, &packed);
    if (r == 0 && fwrite(packed.ptr, 1, packed.len, stdout) != packed.len)
        r = -EIO;
    squeeze_free(s);
    return r < 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back),         cmocka_unit_test(every_size_is_served),
        cmocka_unit_test(the_same_is_the_same),      cmocka_unit_test(a_warm_one_allocates_nothing),
        cmocka_unit_test(what_cannot_be_is_refused),
    };

    if (argc == 3)
        return filter(argv[1], (int)strtol(argv[2], NULL, 10));
    return cmocka_run_group_tests(tests, setup, NULL);
}
