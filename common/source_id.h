/* source_id -- which file this is, whatever it is called.
 *
 *   1. Inode, birth time and file handle belong to the file system's object; birth time and handle
 *      tell a file from its successor with the same inode number (ext4 reuses one at once).
 *   2. The device number may change at a reboot: it is kept, but does not decide across restarts.
 *   3. The head is a hash of the first head_len bytes; it grows with the file up to HEAD_MAX. */
#ifndef SOURCE_ID_H
#define SOURCE_ID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    SOURCE_HEAD_MAX = 1024,
    SOURCE_HANDLE_MAX = 23, /* bytes; ext4 8, xfs 16, btrfs 20; a longer one is left out */
};

struct source_id { /* 64 bytes: there may be 100,000 of them */
    uint64_t dev, ino;
    int64_t born_ns; /* since 1970; 0: unknown to the file system */
    uint64_t head_hash;
    uint32_t head_len;
    int32_t handle_type;
    uint8_t handle_len; /* 0: the file system has none */
    uint8_t handle[SOURCE_HANDLE_MAX];
};

/* Whether both are the same object of a file system, as far as the device number may be trusted to
 * have changed.  The content is not compared. */
static inline bool source_id_is_same_object(const struct source_id *a, const struct source_id *b)
{
    if (a->ino != b->ino)
        return false;
    if (a->born_ns != 0 && b->born_ns != 0 && a->born_ns != b->born_ns)
        return false;
    return a->handle_len == 0 || b->handle_len == 0 ||
           (a->handle_type == b->handle_type && a->handle_len == b->handle_len &&
            memcmp(a->handle, b->handle, a->handle_len) == 0);
}

#endif
