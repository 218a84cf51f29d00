/* crc32c -- has a record on our disk come back as it was written?
 *
 * The CRC of RFC 3720, appendix B.4 (Castagnoli), chosen because processors compute it.
 *
 *   1. crc32c(0, "123456789", 9) is 0xe3069283, on every machine.
 *   2. crc32c(crc32c(0, a), b) is crc32c(0, a followed by b); with no data the seed comes back.
 *
 * Threads: any; there is no state.  Nothing here fails or allocates. */
#ifndef CRC32C_H
#define CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The sum of `len` bytes after those that gave `seed`; 0 if there were none. */
uint32_t crc32c(uint32_t seed, const void *data, size_t len);

/* The same by plain C, for machines without the instruction, and for tests. */
uint32_t crc32c_portable(uint32_t seed, const void *data, size_t len);

#endif
