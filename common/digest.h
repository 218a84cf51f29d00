/* digest -- SHA-256, HMAC-SHA-256 and MD5 on libcrypto, without allocating.
 *
 *   1. Once made, a digest allocates nothing, and neither does libcrypto for it.
 *   2. No call leaves a trace in the next one, nor a key behind.
 *
 * It stands on libcrypto's SHA256_Init and its kin, which OpenSSL 3 calls deprecated, for the sake
 * of 1: EVP_MAC allocates on every init, EVP_Digest fetches on every call, and in OpenSSL 3.0 (RHEL
 * 9, Debian 12, Ubuntu 22.04) even EVP_DigestInit on a warm context frees and allocates its state
 * (openssl/openssl#16947, mended in 3.1).  Below them is the same assembly; the short sums that we
 * make are twice as fast.  The price: these sums are not made by a FIPS provider where one is
 * configured.  TLS, which is libcurl's, is not touched by this.
 *
 * Errors: 0 or -errno.  Threads: one at a time for each digest.  Blocks: never. */
#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "slice.h"

enum {
    DIGEST_SHA256_LEN = 32,  /* FIPS 180-4, bytes */
    DIGEST_MD5_HEX_LEN = 32, /* RFC 1321: 16 bytes, as hexadecimal digits */
};

struct digest; /* opaque: one state that must not be used by two */

/* Gives *ret, which the caller frees.  Errors: -ENOMEM. */
int digest_new(struct digest **ret);

/* NULL is fine. */
void digest_free(struct digest *d);

/* These two return an int because what stands below may change; today they cannot fail. */
int digest_sha256(struct digest *d, struct slice data, uint8_t ret[DIGEST_SHA256_LEN]);

/* RFC 2104.  A key of any length, 0 too; `ret` may be where `key` or `data` lies. */
int digest_hmac_sha256(struct digest *d, struct slice key, struct slice data,
                       uint8_t ret[DIGEST_SHA256_LEN]);

/* RFC 1321, as lower-case hexadecimal digits without a zero behind them: for names that another
 * program makes so too, never for a secret.  Errors: -ENOTSUP if libcrypto refuses (OpenSSL 3 does
 * not, in FIPS mode either: these calls do not ask its provider). */
int digest_md5_hex(struct digest *d, struct slice data, char ret[DIGEST_MD5_HEX_LEN]);

/* The first 8 bytes of SHA-256, read big-endian: a name for some bytes that is the same on every
 * machine and for ever.  Cannot fail. */
uint64_t digest_hash64(struct digest *d, struct slice data);

/* Writes 2 * n lower-case hexadecimal digits, no zero after them. */
void hex_encode(char *to, const uint8_t *from, size_t n);

#endif
