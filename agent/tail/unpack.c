/* The content is a row of parts (gzip members, zstd frames):
 *
 *                 a magic                       the part's end
 *      BETWEEN ------------> INSIDE ---------------------------------.
 *        | ^                                                         |
 *        | '---------------------------------------------------------'
 *        '--> PADDING: zeros, behind a gzip member
 *
 * What comes out goes into a ring, which keeps the last bytes of it for reads that begin a little
 * before the end of the last one. */
#include "tail/unpack.h"

#include "util.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
    INPUT_SIZE = 64 * 1024,
    GZIP_ONLY = 16, /* zlib.h, inflateInit2: added to the window's bits */

    /* A frame says how much of its content the decoder has to keep.  27 is 128 MiB, and what the
     * zstd program reads without being told to take more memory: whatever zstdcat shows, we read.
     * Less would be kinder to memory and refuse the files of a rotation with `zstd --long`. */
    ZSTD_WINDOW_LOG_MAX = 27,

    /* What one call does at most, counted in bytes of input, so that what makes no content (empty
     * parts, empty blocks, long names in headers) is bounded too.  A step costs some time of its
     * own, whatever its input. */
    EFFORT = 1024 * 1024,
    STEP_COST = 64,

    ZSTD_BLOCK_HEADER = 3, /* RFC 8878, 3.1.1.2 */
};

enum unpack_place { BETWEEN, INSIDE, PADDING };

struct unpack {
    int fd;
    enum unpack_kind kind;
    enum unpack_place place;
    bool any;    /* a part has begun */
    bool full;   /* the last step filled its room: the decoder may hold more */
    bool at_end; /* the last step found no more input */
    bool lost;   /* the decoder has failed, through no fault of the file: begin anew */
    int error;   /* why there is nothing behind `end`, for good */

    uint64_t input_end; /* of the file: read so far */
    unsigned char input[INPUT_SIZE];
    size_t input_at, input_len; /* in `input`, what was read and not used */

    uint64_t end; /* of the content: decompressed so far */
    char *ring;   /* owns: the ring_size bytes before `end`, each at its offset % ring_size */
    size_t ring_size;

    size_t window;
    z_stream gzip;      /* owns its inside, if kind is UNPACK_GZIP */
    ZSTD_DStream *zstd; /* owns, if kind is UNPACK_ZSTD */
    size_t zstd_wants;  /* what it said it could use next, in bytes */
};

/* --- kinds --- */

static const struct slice gzip_magic = {"\x1f\x8b", 2}, zstd_magic = {"\x28\xb5\x2f\xfd", 4};

/* RFC 8878, 3.1.2: 0x184D2A50 to 5F, little-endian.  pzstd begins its files with such a frame. */
static bool is_skippable(struct slice magic)
{
    return magic.len >= 4 && ((unsigned char)magic.ptr[0] & 0xf0) == 0x50 &&
           memcmp(magic.ptr + 1, "\x2a\x4d\x18", 3) == 0;
}

enum unpack_kind unpack_kind_of(struct slice magic)
{
    if (slice_starts_with(magic, gzip_magic))
        return UNPACK_GZIP;
    return slice_starts_with(magic, zstd_magic) || is_skippable(magic) ? UNPACK_ZSTD : UNPACK_NONE;
}

enum unpack_kind unpack_kind_of_name(struct slice name)
{
    if (slice_ends_with(name, SLICE(".gz")))
        return UNPACK_GZIP;
    return slice_ends_with(name, SLICE(".zst")) ? UNPACK_ZSTD : UNPACK_NONE;
}

/* --- input --- */

static struct slice input_left(const struct unpack *u)
{
    return (struct slice){(const char *)u->input + u->input_at, u->input_len - u->input_at};
}

/* Reads until `want` bytes are there, or as many as the file has; notes whether it ends. */
static int input_fill(struct unpack *u, size_t want)
{
    struct slice left = input_left(u);

    if (left.len >= want)
        return 0;
    memmove(u->input, left.ptr, left.len);
    u->input_at = 0;
    u->input_len = left.len;
    do {
        ssize_t n =
            pread(u->fd, u->input + u->input_len, INPUT_SIZE - u->input_len, (off_t)u->input_end);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        u->at_end = n == 0;
        u->input_len += (size_t)n;
        u->input_end += (uint64_t)n;
    } while (u->input_len < want && !u->at_end);
    return 0;
}

/* --- the two decoders: each takes input and makes up to `len` bytes of content --- */

/* Returns how many bytes came out, or -errno. */
static ssize_t gzip_step(struct unpack *u, char *to, size_t len)
{
    z_stream *z = &u->gzip;
    int r;

    z->next_in = u->input + u->input_at;
    z->avail_in = (uInt)(u->input_len - u->input_at);
    z->next_out = (unsigned char *)to;
    z->avail_out = (uInt)len;
    r = inflate(z, Z_NO_FLUSH);
    u->input_at = u->input_len - z->avail_in;
    switch (r) {
    case Z_STREAM_END:
        u->place = BETWEEN;
        break;
    case Z_OK:
    case Z_BUF_ERROR: /* nothing to do; no error */
        break;
    case Z_MEM_ERROR:
        u->lost = true;
        return -ENOMEM;
    default:
        u->error = -EBADMSG; /* what came out before it is good */
        break;
    }
    return (ssize_t)(len - z->avail_out);
}

static int zstd_error(size_t result)
{
    switch (ZSTD_getErrorCode(result)) {
    case ZSTD_error_memory_allocation:
        return -ENOMEM;
    case ZSTD_error_frameParameter_windowTooLarge:
        return -EOVERFLOW;
    case ZSTD_error_dictionary_wrong:
        return -ENOTSUP;
    default:
        return -EBADMSG;
    }
}

/* libzstd does not tell what a call has made before it came to an error.  So that what is good can be
 * read up to the damaged block, a call gets no more than one block: not the next one's header, which
 * zstd_wants includes, and nothing while a block is still on its way out. */
static size_t zstd_portion(const struct unpack *u)
{
    size_t wants = u->zstd_wants;

    if (u->full)
        return 0;
    if (wants > ZSTD_BLOCK_HEADER)
        wants -= ZSTD_BLOCK_HEADER;
    return MIN(wants, u->input_len - u->input_at);
}

static ssize_t zstd_step(struct unpack *u, char *to, size_t len)
{
    ZSTD_inBuffer in = {u->input, u->input_at + zstd_portion(u), u->input_at};
    ZSTD_outBuffer out = {to, len, 0};
    size_t r = ZSTD_decompressStream(u->zstd, &out, &in);

    u->input_at = in.pos;
    u->zstd_wants = r;
    if (ZSTD_isError(r)) {
        u->error = zstd_error(r);
        if (u->error == -ENOMEM) {
            u->error = 0;
            u->lost = true;
            return -ENOMEM;
        }
    } else if (r == 0) {
        u->place = BETWEEN;
    }
    return (ssize_t)out.pos;
}

static void unpack_rewind(struct unpack *u)
{
    if (u->kind == UNPACK_ZSTD)
        (void)ZSTD_DCtx_reset(u->zstd, ZSTD_reset_session_only); /* cannot fail for a session */
    u->place = BETWEEN;
    u->any = u->full = u->at_end = u->lost = false;
    u->error = 0;
    u->input_end = u->end = 0;
    u->input_at = u->input_len = 0;
}

/* --- parts --- */

/* Whether the bytes may be the beginning of a magic, of which fewer than all are there. */
static bool may_become_magic(const struct unpack *u, struct slice have)
{
    char magic[UNPACK_MAGIC_LEN] = {'\x50', '\x2a', '\x4d', '\x18'};

    if (u->kind == UNPACK_GZIP)
        return slice_starts_with(gzip_magic, have);
    if (have.len > 0 && ((unsigned char)have.ptr[0] & 0xf0) == 0x50)
        magic[0] = have.ptr[0];
    return slice_starts_with(zstd_magic, have) ||
           slice_starts_with((struct slice){magic, sizeof magic}, have);
}

/* Each part's magic is looked at before the library sees it: a libzstd may also know its formats of
 * before 2016, for which no limit of memory holds. */
static int part_begin(struct unpack *u)
{
    size_t want = u->kind == UNPACK_GZIP ? gzip_magic.len : zstd_magic.len;
    int e = input_fill(u, want);
    struct slice have = input_left(u);

    if (e < 0 || have.len == 0)
        return e;
    if (u->kind == UNPACK_GZIP && u->any && have.ptr[0] == '\0') {
        u->place = PADDING;
    } else if (have.len < want) {
        if (!may_become_magic(u, have))
            u->error = -EBADMSG;
    } else if (unpack_kind_of(have) != u->kind) {
        u->error = -EBADMSG;
    } else {
        u->place = INSIDE;
        u->any = true;
        u->zstd_wants = want;
        if (u->kind == UNPACK_GZIP)
            (void)inflateReset(&u->gzip); /* fails only if it was never initialised */
    }
    return 0;
}

static int padding_pass(struct unpack *u)
{
    int e = input_fill(u, 1);

    while (e == 0 && u->input_at < u->input_len && u->error == 0)
        if (u->input[u->input_at] == 0)
            u->input_at++;
        else
            u->error = -EBADMSG;
    return e;
}

/* Makes up to `room` bytes of content at the end of what there is. */
static int part_go_on(struct unpack *u, size_t room)
{
    size_t at = (size_t)(u->end % u->ring_size);
    ssize_t n;

    if (!u->full) {
        int e = input_fill(u, 1);

        if (e < 0 || u->input_at == u->input_len)
            return e;
    }
    room = MIN(room, u->ring_size - at);
    n = u->kind == UNPACK_GZIP ? gzip_step(u, u->ring + at, room)
                               : zstd_step(u, u->ring + at, room);
    if (n < 0)
        return (int)n;
    u->full = u->place == INSIDE && (size_t)n == room;
    u->end += (uint64_t)n;
    return 0;
}

/* Whether all input there is has been used, and all that it makes is out. */
static bool is_dry(const struct unpack *u)
{
    bool uses_all = u->place != BETWEEN; /* a beginning of a magic is left in the buffer */

    return u->at_end && !u->full && (!uses_all || u->input_at == u->input_len);
}

/* Decompresses up to `target`, using up to `effort` bytes of input.  1: it is there.
 * Errors: -EAGAIN: not yet; -ENODATA: the content ends before it; those of unpack_pread. */
static int unpack_advance(struct unpack *u, uint64_t target, uint64_t effort)
{
    uint64_t used = 0;

    if (u->end >= target)
        return 1;
    u->at_end = false; /* there may be more by now */
    while (u->end < target) {
        uint64_t input_was = u->input_end;
        int e;

        if (u->error < 0)
            return u->error;
        if (is_dry(u))
            return -ENODATA;
        if (used >= effort)
            return -EAGAIN;
        switch (u->place) {
        case BETWEEN:
            e = part_begin(u);
            break;
        case INSIDE:
            e = part_go_on(u, (size_t)MIN(target - u->end, (uint64_t)UINT_MAX));
            break;
        default:
            e = padding_pass(u);
            break;
        }
        /* NFS says ESTALE of a file that is gone; in this room that word means another content. */
        if (e < 0)
            return e == -ESTALE ? -EIO : e;
        used += u->input_end - input_was + STEP_COST;
    }
    return 1;
}

/* --- what is offered --- */

int unpack_open(int fd, enum unpack_kind kind, size_t window, struct unpack **ret)
{
    struct unpack *u;

    assert(kind == UNPACK_GZIP || kind == UNPACK_ZSTD);
    assert(window > 0 && window < UINT_MAX / 4);
    u = calloc(1, sizeof *u);
    if (u == NULL)
        return -ENOMEM;
    u->fd = fd;
    u->window = window;
    u->ring_size = window + MAX(window, (size_t)UNPACK_BACK);
    u->ring = malloc(u->ring_size);
    if (u->ring == NULL)
        goto out;
    if (kind == UNPACK_GZIP) {
        if (inflateInit2(&u->gzip, MAX_WBITS + GZIP_ONLY) != Z_OK)
            goto out;
    } else {
        u->zstd = ZSTD_createDStream();
        if (u->zstd == NULL)
            goto out;
        if (ZSTD_isError(ZSTD_DCtx_setParameter(u->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX)))
            goto out;
    }
    u->kind = kind;
    *ret = u;
    return 0;
out:
    unpack_close(u);
    return -ENOMEM;
}

size_t unpack_window(const struct unpack *u)
{
    return u->window;
}

/* Goes up to `offset`, or nearer. */
static int unpack_approach(struct unpack *u, uint64_t offset)
{
    int r;

    if (u->lost || offset < u->end - MIN(u->end, (uint64_t)u->ring_size))
        unpack_rewind(u);
    if (offset <= u->end)
        return 1;
    r = unpack_advance(u, MIN(offset, u->end + UNPACK_STEP), EFFORT);
    return r == 1 && u->end < offset ? -EAGAIN : r;
}

int unpack_seek(struct unpack *u, uint64_t offset)
{
    int r = unpack_approach(u, offset);

    return r == -EAGAIN ? 0 : r;
}

/* Copies out of the ring. */
static void unpack_copy(const struct unpack *u, char *to, size_t len, uint64_t offset)
{
    size_t at = (size_t)(offset % u->ring_size), first = MIN(len, u->ring_size - at);

    memcpy(to, u->ring + at, first);
    memcpy(to + first, u->ring, len - first);
}

ssize_t unpack_pread(struct unpack *u, void *to, size_t len, uint64_t offset)
{
    int r;

    assert(len <= u->window);
    r = unpack_approach(u, offset);
    if (r == 1)
        r = unpack_advance(u, offset + len, EFFORT + (uint64_t)len);
    if (r < 0 && r != -ENODATA && (r != u->error || u->end <= offset))
        return r;
    if (u->end <= offset)
        return 0;
    len = (size_t)MIN((uint64_t)len, u->end - offset);
    unpack_copy(u, to, len, offset);
    return (ssize_t)len;
}

bool unpack_is_whole(const struct unpack *u)
{
    return u->at_end && u->error == 0 && u->any && u->place != INSIDE &&
           u->input_at == u->input_len;
}

int unpack_error(const struct unpack *u)
{
    return u->error;
}

void unpack_close(struct unpack *u)
{
    if (u == NULL)
        return;
    if (u->kind == UNPACK_GZIP)
        (void)inflateEnd(&u->gzip);
    ZSTD_freeDStream(u->zstd); /* NULL is fine */
    free(u->ring);
    free(u);
}
