#include "crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util.h"

static uint8_t zeros[32], ones[32], rising[32], falling[32];

/* RFC 3720, appendix B.4, and the check value of every catalogue. */
static const struct story {
    const void *data;
    size_t len;
    uint32_t sum;
} stories[] = {
    {"", 0, 0},
    {"123456789", 9, 0xe3069283},
    {zeros, sizeof zeros, 0x8a9136aa},
    {ones, sizeof ones, 0x62a8ab43},
    {rising, sizeof rising, 0x46dd794e},
    {falling, sizeof falling, 0x113fdb5c},
};

static void the_standard_is_met(void **state)
{
    (void)state;
    for (size_t i = 0; i < 32; i++) {
        ones[i] = 0xff;
        rising[i] = (uint8_t)i;
        falling[i] = (uint8_t)(31 - i);
    }
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        assert_int_equal(crc32c(0, stories[i].data, stories[i].len), stories[i].sum);
        assert_int_equal(crc32c_portable(0, stories[i].data, stories[i].len), stories[i].sum);
    }
}

/* Neither the path, nor the alignment, nor where the data was cut may be seen in the sum. */
static void a_sum_can_be_continued(void **state)
{
    uint8_t data[300];
    uint32_t seed = 1;

    (void)state;
    for (size_t i = 0; i < sizeof data; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (uint8_t)(seed >> 24);
    }
    for (size_t offset = 0; offset < 9; offset++) {
        for (size_t len = 0; offset + len <= sizeof data; len++) {
            const uint8_t *p = data + offset;
            uint32_t whole = crc32c_portable(0, p, len);

            assert_int_equal(crc32c(0, p, len), whole);
            for (size_t cut = 0; cut <= len; cut += 7)
                assert_int_equal(crc32c(crc32c(0, p, cut), p + cut, len - cut), whole);
        }
    }
    assert_int_equal(crc32c(0xdeadbeef, NULL, 0), 0xdeadbeef);
}

static void one_flipped_bit_is_seen(void **state)
{
    uint8_t data[64] = "a record on our disk";
    uint32_t sum = crc32c(0, data, sizeof data);

    (void)state;
    for (size_t bit = 0; bit < 8 * sizeof data; bit++) {
        data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_not_equal(crc32c(0, data, sizeof data), sum);
        data[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standard_is_met),
        cmocka_unit_test(a_sum_can_be_continued),
        cmocka_unit_test(one_flipped_bit_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
