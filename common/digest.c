#include "digest.h"

#define OPENSSL_SUPPRESS_DEPRECATED 1 /* the reason is in digest.h */

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/md5.h>
#include <openssl/sha.h>
#include <stdlib.h>

enum { BLOCK_LEN = 64 }; /* FIPS 180-4: SHA-256 eats blocks of 512 bits */

struct digest {
    SHA256_CTX state; /* these hold nothing between two calls */
    MD5_CTX md5;
};

/* SHA-256 of one text in two pieces: what HMAC needs, and no copy. */
static int hash(struct digest *d, struct slice a, struct slice b, uint8_t *ret)
{
    if (SHA256_Init(&d->state) != 1 || SHA256_Update(&d->state, a.ptr, a.len) != 1 ||
        SHA256_Update(&d->state, b.ptr, b.len) != 1 || SHA256_Final(ret, &d->state) != 1)
        return -EIO;
    return 0;
}

int digest_new(struct digest **ret)
{
    struct digest *d = calloc(1, sizeof *d);

    if (d == NULL)
        return -ENOMEM;
    *ret = d;
    return 0;
}

void digest_free(struct digest *d)
{
    free(d);
}

int digest_sha256(struct digest *d, struct slice data, uint8_t ret[DIGEST_SHA256_LEN])
{
    return hash(d, data, SLICE(""), ret);
}

int digest_hmac_sha256(struct digest *d, struct slice key, struct slice data,
                       uint8_t ret[DIGEST_SHA256_LEN])
{
    uint8_t block[BLOCK_LEN] = {0}, inner[DIGEST_SHA256_LEN];
    struct slice padded = {(const char *)block, sizeof block};
    int r = 0;

    if (key.len > sizeof block)
        r = digest_sha256(d, key, block);
    else if (key.len > 0)
        memcpy(block, key.ptr, key.len);

    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36;
    if (r == 0)
        r = hash(d, padded, data, inner);

    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36 ^ 0x5c;
    if (r == 0)
        r = hash(d, padded, (struct slice){(const char *)inner, sizeof inner}, ret);

    OPENSSL_cleanse(block, sizeof block);
    OPENSSL_cleanse(&d->state, sizeof d->state);
    return r;
}

int digest_md5_hex(struct digest *d, struct slice data, char ret[DIGEST_MD5_HEX_LEN])
{
    uint8_t sum[MD5_DIGEST_LENGTH];

    if (MD5_Init(&d->md5) != 1 || MD5_Update(&d->md5, data.ptr, data.len) != 1 ||
        MD5_Final(sum, &d->md5) != 1)
        return -ENOTSUP;
    hex_encode(ret, sum, sizeof sum);
    return 0;
}

uint64_t digest_hash64(struct digest *d, struct slice data)
{
    uint8_t sum[DIGEST_SHA256_LEN];
    uint64_t value = 0;
    int r = digest_sha256(d, data, sum);

    /* It needs no memory and asks nobody; a made-up identity would be worse. */
    assert(r == 0);
    (void)r;
    for (size_t i = 0; i < sizeof value; i++)
        value = value << 8 | sum[i];
    return value;
}

void hex_encode(char *to, const uint8_t *from, size_t n)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        to[2 * i] = digits[from[i] >> 4];
        to[2 * i + 1] = digits[from[i] & 0xf];
    }
}
