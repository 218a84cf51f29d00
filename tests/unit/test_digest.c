#include "digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "counted_malloc.h"
#include "util.h"

/* -- counting what is allocated -------------------------------------------------------------- */

static void *crypto_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    allocations++;
    return malloc(size);
}

static void *crypto_realloc(void *ptr, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    allocations++;
    return realloc(ptr, size);
}

static void crypto_free(void *ptr, const char *file, int line)
{
    (void)file;
    (void)line;
    free(ptr);
}

/* -- stories --------------------------------------------------------------------------------- */

static int setup(void **state)
{
    struct digest *d;

    if (digest_new(&d) < 0)
        return -1;
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    digest_free(*state);
    return 0;
}

static void check_hex(const uint8_t *sum, const char *expected)
{
    char hex[2 * DIGEST_SHA256_LEN + 1] = "";

    hex_encode(hex, sum, DIGEST_SHA256_LEN);
    assert_string_equal(hex, expected);
}

static char million[1000000];

/* FIPS 180-4's examples, as NIST publishes them. */
static const struct story {
    struct slice data;
    const char *sum;
    uint64_t hash;
} stories[] = {
    {SLICE(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
     0xe3b0c44298fc1c14},
    {{NULL, 0},
     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
     0xe3b0c44298fc1c14},
    {SLICE("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
     0xba7816bf8f01cfea},
    {SLICE("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 0x248d6a61d20638b8},
    {{million, sizeof million},
     "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
     0xcdc76e5c9914fb92},
};

static void sums_are_the_standards(void **state)
{
    struct digest *d = *state;

    memset(million, 'a', sizeof million);
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        uint8_t sum[DIGEST_SHA256_LEN];

        assert_int_equal(digest_sha256(d, stories[i].data, sum), 0);
        check_hex(sum, stories[i].sum);
        assert_true(digest_hash64(d, stories[i].data) == stories[i].hash);
    }
}

/* RFC 1321, A.5. */
static const struct {
    struct slice data;
    const char *sum;
} md5s[] = {
    {SLICE(""), "d41d8cd98f00b204e9800998ecf8427e"},
    {{NULL, 0}, "d41d8cd98f00b204e9800998ecf8427e"},
    {SLICE("a"), "0cc175b9c0f1b6a831c399e269772661"},
    {SLICE("abc"), "900150983cd24fb0d6963f7d28e17f72"},
    {SLICE("message digest"), "f96b697d7cb7938d525a2f31aaf161d0"},
    {SLICE("abcdefghijklmnopqrstuvwxyz"), "c3fcd3d76192e4007dfb496cca67e13b"},
    {SLICE("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
     "d174ab98d277d9f5a5611c2c9f419d9f"},
    {SLICE("12345678901234567890123456789012345678901234567890123456789012345678901234567890"),
     "57edf4a22be3c955ac49da2e2107b67a"},
};

static void md5s_are_the_rfcs(void **state)
{
    struct digest *d = *state;

    for (size_t i = 0; i < ARRAY_LEN(md5s); i++) {
        char hex[DIGEST_MD5_HEX_LEN + 2] = "";

        hex[DIGEST_MD5_HEX_LEN] = '#';
        assert_int_equal(digest_md5_hex(d, md5s[i].data, hex), 0);
        assert_memory_equal(hex, md5s[i].sum, DIGEST_MD5_HEX_LEN);
        assert_int_equal(hex[DIGEST_MD5_HEX_LEN], '#');
    }
}

/* RFC 4231, cases 1 to 7 (5 is about truncation), and the two empty ones. */
static const struct mac {
    char key_byte; /* repeated key.len times, if key.ptr is NULL */
    struct slice key, data;
    const char *sum;
} macs[] = {
    {0x0b,
     {NULL, 20},
     SLICE("Hi There"),
     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {0, SLICE("Jefe"), SLICE("what do ya want for nothing?"),
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {(char)0xaa,
     {NULL, 20},
     SLICE("\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd"
           "\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd"
           "\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd"),
     "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
    {(char)0xaa,
     {NULL, 131},
     SLICE("Test Using Larger Than Block-Size Key - Hash Key First"),
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {(char)0xaa,
     {NULL, 131},
     SLICE("This is a test using a larger than block-size key and a larger than block-size data. "
           "The key needs to be hashed before being used by the HMAC algorithm."),
     "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    {0, SLICE(""), SLICE(""), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"},
};

static void macs_are_the_rfcs(void **state)
{
    struct digest *d = *state;

    for (size_t i = 0; i < ARRAY_LEN(macs); i++) {
        uint8_t sum[DIGEST_SHA256_LEN];
        struct slice key = macs[i].key;
        char repeated[131];

        memset(repeated, macs[i].key_byte, sizeof repeated);
        if (key.ptr == NULL)
            key.ptr = repeated;
        assert_int_equal(digest_hmac_sha256(d, key, macs[i].data, sum), 0);
        check_hex(sum, macs[i].sum);
    }
}

/* Keys around the size of a block, beside libcrypto's own HMAC; then with the result written over
 * the key. */
static void a_mac_may_replace_its_key(void **state)
{
    struct digest *d = *state;

    for (size_t len = 32; len <= 130; len++) {
        uint8_t sum[DIGEST_SHA256_LEN], other[DIGEST_SHA256_LEN];
        char key[130];

        memset(key, 'k', sizeof key);
        assert_non_null(HMAC(EVP_sha256(), key, (int)len, (const uint8_t *)"data", 4, other, NULL));
        assert_int_equal(digest_hmac_sha256(d, (struct slice){key, len}, SLICE("data"), sum), 0);
        assert_int_equal(
            digest_hmac_sha256(d, (struct slice){key, len}, SLICE("data"), (uint8_t *)key), 0);
        assert_memory_equal(sum, other, sizeof sum);
        assert_memory_equal(sum, key, sizeof sum);
    }
}

static void a_warm_digest_allocates_nothing(void **state)
{
    struct digest *d = *state;
    size_t before = allocations;
    uint8_t sum[DIGEST_SHA256_LEN];
    char hex[DIGEST_MD5_HEX_LEN];

    OPENSSL_free(OPENSSL_malloc(1));
    assert_true(allocations > before); /* so the counting works */
    before = allocations;
    for (size_t n = 0; n < 1000; n++) {
        struct slice data = {million, n * 7};

        assert_int_equal(digest_sha256(d, data, sum), 0);
        assert_int_equal(digest_hmac_sha256(d, slice_first(data, n % 100), data, sum), 0);
        assert_int_equal(digest_md5_hex(d, data, hex), 0);
        (void)digest_hash64(d, data);
    }
    assert_int_equal(allocations, before);
}

static void hexadecimal_is_lower_case(void **state)
{
    uint8_t bytes[256];
    char hex[2 * sizeof bytes + 1];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    hex[2 * sizeof bytes] = '#';
    hex_encode(hex, bytes, sizeof bytes);
    assert_int_equal(hex[2 * sizeof bytes], '#');
    for (size_t i = 0; i < sizeof bytes; i++) {
        char expected[3];

        (void)snprintf(expected, sizeof expected, "%02zx", i);
        assert_memory_equal(hex + 2 * i, expected, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_the_standards),
        cmocka_unit_test(md5s_are_the_rfcs),
        cmocka_unit_test(macs_are_the_rfcs),
        cmocka_unit_test(a_mac_may_replace_its_key),
        cmocka_unit_test(a_warm_digest_allocates_nothing),
        cmocka_unit_test(hexadecimal_is_lower_case),
    };

    if (CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1)
        return 1;
    return cmocka_run_group_tests(tests, setup, teardown);
}
