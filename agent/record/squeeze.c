#include "record/squeeze.h"

#include "record/scratch.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <zlib.h>

#define ZSTD_STATIC_LINKING_ONLY 1 /* the reason is in squeeze.h */
#include <zstd.h>

enum {
    SQUEEZE_IN_MAX = 1024 * 1024 * 1024, /* so that nothing here overflows zlib's uInt */
    SQUEEZE_ORDINARY = 64 * 1024,        /* bytes of a record that leaves little to be given back */
    GZIP_LEVEL = 6,                      /* zlib.h: what Z_DEFAULT_COMPRESSION means */
    GZIP_WINDOW_BITS = 15 + 16,          /* deflateInit2: the largest window; 16 makes it gzip */
    GZIP_MEM_LEVEL = 8,                  /* deflateInit2's default */
};

struct squeeze {
    enum squeeze_kind kind;
    int level;
    size_t max_in, largest; /* largest: of the records since squeeze_trim */
    struct buf *result;     /* borrows; or its own */
    struct buf own;
    z_stream gzip; /* if kind is SQUEEZE_GZIP */
    void *memory;  /* owns: `memory_size` bytes, in which lies … */
    size_t memory_size;
    ZSTD_CCtx *zstd;
};

/* --- gzip --- */

static int gzip_begin(struct squeeze *s, int level)
{
    int r = deflateInit2(&s->gzip, level, Z_DEFLATED, GZIP_WINDOW_BITS, GZIP_MEM_LEVEL,
                         Z_DEFAULT_STRATEGY);

    return r == Z_OK ? 0 : r == Z_MEM_ERROR ? -ENOMEM : -EIO;
}

static int gzip_record(struct squeeze *s, struct slice in, size_t *ret_len)
{
    int r;

    s->gzip.next_in = (z_const Bytef *)in.ptr;
    s->gzip.avail_in = (uInt)in.len;
    s->gzip.next_out = (Bytef *)s->result->ptr;
    s->gzip.avail_out = (uInt)s->result->cap;
    r = deflate(&s->gzip, Z_FINISH) == Z_STREAM_END ? 0 : -EIO;
    *ret_len = s->result->cap - s->gzip.avail_out;

    /* Now, not before the next one: of a stream that has ended deflateBound says too little, as it
     * takes gzip's header for zlib's. */
    if (deflateReset(&s->gzip) != Z_OK)
        r = -EIO;
    return r;
}

/* --- zstd --- */

/* The memory for records of every length up to `max_in`.  Its tables are chosen by the length, in
 * classes with these borders, and those of a longer one are not always the larger ones. */
static size_t zstd_memory(int level, size_t max_in)
{
    const size_t lens[] = {16 * 1024, 128 * 1024, 256 * 1024, max_in};
    size_t most = 0;

    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        /* 0 would mean that nobody knows how long it is. */
        size_t len = MAX(MIN(lens[i], max_in), (size_t)1);
        size_t needs = ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(level, len, 0));
        most = MAX(most, needs);
    }
    return most;
}

/* In memory that nobody has touched yet, most of which ordinary records do not touch. */
static int zstd_begin(struct squeeze *s)
{
    size_t size = zstd_memory(s->level, s->max_in);
    void *memory;

    if (ZSTD_isError(size))
        return -EIO;
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    if (s->memory != NULL)
        munmap(s->memory, s->memory_size);
    s->memory = memory;
    s->memory_size = size;
    s->zstd = ZSTD_initStaticCCtx(s->memory, size);
    if (s->zstd == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(s->zstd, ZSTD_c_compressionLevel, s->level)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(s->zstd, ZSTD_c_contentSizeFlag, 1)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(s->zstd, ZSTD_c_checksumFlag, 1)))
        return -EIO;
    return 0;
}

static int zstd_record(struct squeeze *s, struct slice in, size_t *ret_len)
{
    size_t n = ZSTD_compress2(s->zstd, s->result->ptr, s->result->cap, in.ptr, in.len);

    if (ZSTD_isError(n))
        return -EIO;
    *ret_len = n;
    return 0;
}

/* --- both --- */

/* deflate counts in uInt. */
static_assert(2 * (uint64_t)SQUEEZE_IN_MAX < UINT_MAX, "a result fits zlib's counters");

int squeeze_new(enum squeeze_kind kind, int level, size_t max_in, struct squeeze **ret)
{
    int level_max = kind == SQUEEZE_GZIP ? SQUEEZE_GZIP_LEVEL_MAX : SQUEEZE_ZSTD_LEVEL_MAX;
    struct squeeze *s;
    int r;

    if (level < 0 || level > level_max)
        return -EINVAL;
    if (max_in > SQUEEZE_IN_MAX)
        return -EMSGSIZE;
    if (level == 0)
        level = kind == SQUEEZE_GZIP ? GZIP_LEVEL : ZSTD_CLEVEL_DEFAULT;
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    s->kind = kind;
    s->level = level;
    s->max_in = max_in;
    buf_init(&s->own, SIZE_MAX);
    s->result = &s->own;
    r = kind == SQUEEZE_GZIP ? gzip_begin(s, level) : zstd_begin(s);
    if (r == 0)
        r = buf_reserve(&s->own, squeeze_bound(s, max_in));
    if (r < 0) {
        squeeze_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

void squeeze_free(struct squeeze *s)
{
    if (s == NULL)
        return;
    if (s->kind == SQUEEZE_GZIP)
        (void)deflateEnd(&s->gzip); /* of a stream that never began it says so, and no more */
    if (s->memory != NULL)
        munmap(s->memory, s->memory_size);
    buf_done(&s->own);
    free(s);
}

void squeeze_lend(struct squeeze *s, struct buf *result)
{
    s->result = result;
    buf_done(&s->own);
}

int squeeze_set_max(struct squeeze *s, size_t max_in)
{
    size_t was = s->max_in;
    int r = 0;

    if (max_in <= s->max_in)
        return 0; /* what it has will do */
    if (max_in > SQUEEZE_IN_MAX)
        return -EMSGSIZE;
    s->max_in = max_in;
    if (s->kind == SQUEEZE_ZSTD)
        r = zstd_begin(s);
    if (r == 0 && s->result == &s->own)
        r = buf_reserve(&s->own, squeeze_bound(s, max_in));
    if (r < 0)
        s->max_in = was;
    return r;
}

void squeeze_trim(struct squeeze *s)
{
    if (s->kind == SQUEEZE_ZSTD && s->largest > SQUEEZE_ORDINARY)
        (void)zstd_begin(s); /* if not, it goes on in what it has */
    s->largest = 0;
}

int squeeze_record(struct squeeze *s, struct slice in, struct slice *ret)
{
    size_t len = 0;
    int r;

    if (in.len > s->max_in)
        return -EMSGSIZE;
    r = scratch_reserve(s->result, squeeze_bound(s, in.len));
    if (r < 0)
        return r;
    s->largest = MAX(s->largest, in.len);
    r = s->kind == SQUEEZE_GZIP ? gzip_record(s, in, &len) : zstd_record(s, in, &len);
    if (r < 0)
        return r;
    assert(len <= squeeze_bound(s, in.len));
    *ret = (struct slice){s->result->ptr, len};
    return 0;
}

size_t squeeze_bound(struct squeeze *s, size_t len)
{
    if (s->kind == SQUEEZE_GZIP)
        return deflateBound(&s->gzip, (uLong)len);
    return ZSTD_compressBound(len);
}
