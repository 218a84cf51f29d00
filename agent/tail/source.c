#include "tail/source.h"

#include "digest.h"
#include "encoding.h"
#include "tail/identity.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SOURCE_BEFORE = 4096,      /* bytes before a place in which to look for its rungs */
    SOURCE_CHUNK = 128 * 1024, /* stays in the second-level cache between read, split and encode */
    SOURCE_LONGER =
        1024 * 1024, /* what is asked for next, where that has no newline; then fourfold */
};

int reader_init(struct reader *r, struct digest *digest, size_t line_max)
{
    size_t cap = CURSOR_ANCHOR_MAX + MAX(line_max + 1, (size_t)SOURCE_CHUNK);
    void *memory = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return -ENOMEM;
    (void)madvise(memory, cap, MADV_NOHUGEPAGE);
    *r = (struct reader){.memory = memory, .cap = cap, .line_max = line_max, .digest = digest};
    return 0;
}

void reader_limit(struct reader *r, size_t line_max)
{
    assert(CURSOR_ANCHOR_MAX + MAX(line_max + 1, (size_t)SOURCE_CHUNK) <= r->cap);
    r->line_max = line_max;
}

/* What each read needs, in whole pages. */
static size_t reader_keep(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (CURSOR_ANCHOR_MAX + SOURCE_CHUNK + page - 1) / page * page;
}

size_t reader_excess(const struct reader *r)
{
    size_t keep = reader_keep();

    return r->touched > keep ? r->touched - keep : 0;
}

void reader_trim(struct reader *r)
{
    size_t keep = reader_keep();

    if (r->touched <= keep)
        return;
    (void)madvise(r->memory + keep, r->cap - keep, MADV_DONTNEED);
    r->touched = keep;
}

void reader_done(struct reader *r)
{
    if (r->memory != NULL)
        munmap(r->memory, r->cap);
    *r = (struct reader){0};
}

void source_close_packed(struct source *s)
{
    unpack_close(s->unpack);
    s->unpack = NULL;
}

/* Sees to it that as much can be read at once as is asked for.  A window for long lines is made when
 * there is one, and then the file is unpacked from its beginning again. */
static int source_open_packed(struct source *s, const struct reader *r, size_t len)
{
    size_t window = MIN(CURSOR_ANCHOR_MAX + (size_t)SOURCE_LONGER + 1, r->cap);

    if (s->unpack != NULL && len <= unpack_window(s->unpack))
        return 0;
    source_close_packed(s);
    return unpack_open(s->fd, s->packed, len <= window ? window : r->cap, &s->unpack);
}

/* -EAGAIN: it takes more than one call. */
static ssize_t source_pread(struct source *s, const struct reader *r, char *to, size_t len,
                            uint64_t offset)
{
    ssize_t n;
    int e;

    if (s->packed != UNPACK_NONE) {
        e = source_open_packed(s, r, len);
        return e < 0 ? e : unpack_pread(s->unpack, to, len, offset);
    }
    do
        n = pread(s->fd, to, len, (off_t)offset);
    while (n < 0 && errno == EINTR);
    /* NFS says ESTALE of a file that is gone; for us that word means another content. */
    if (n < 0)
        return errno == ESTALE ? -EIO : -errno;
    return n;
}

/* Whether what was read from the file's start begins as it did; before a first line is out there is
 * no anchor yet that would tell. */
static bool source_has_head(const struct source *s, const struct reader *r, struct slice text)
{
    return s->at.offset > 0 || s->id.head_len == 0 ||
           (text.len >= s->id.head_len &&
            digest_hash64(r->digest, slice_first(text, s->id.head_len)) == s->id.head_hash);
}

/* Reads up to `want` bytes from `at` on behind the anchor's bytes, and checks that it is still the
 * file it was. */
static int source_fetch(struct source *s, struct reader *r, size_t want, struct slice *ret)
{
    size_t anchor_len = cursor_anchor_len(s->at.offset);
    ssize_t n = source_pread(s, r, r->memory, anchor_len + want, s->at.offset - anchor_len);

    if (n < 0)
        return (int)n;
    r->touched = MAX(r->touched, (size_t)n);
    if ((size_t)n < anchor_len)
        return -ESTALE;
    if (anchor_len > 0 &&
        digest_hash64(r->digest, (struct slice){r->memory, anchor_len}) != s->at.anchor)
        return -ESTALE;
    *ret = (struct slice){r->memory + anchor_len, (size_t)n - anchor_len};
    return source_has_head(s, r, *ret) ? 0 : -ESTALE;
}

/* How many of `len` bytes are whole units of the encoding. */
static size_t whole_units(const struct source *s, size_t len)
{
    return len - len % encoding_newline_len(s->encoding);
}

/* The line is not too long any more, up to its newline at `ret->end`. */
static int source_not_long(struct source *s, struct reader *r, struct source_chunk *ret)
{
    size_t len = (size_t)(ret->end - s->at.offset);
    int e = source_fetch(s, r, len, &ret->text);

    if (e < 0)
        return e;
    if (ret->text.len == len)
        return SOURCE_LINES;
    ret->text.len = 0; /* it has become shorter */
    s->scanned = s->line_end = 0;
    return SOURCE_MORE;
}

/* Looks for the newline of a line that is longer than line_max, one chunk a call; false if that is not
 * all, and *ret_news says what to do. */
static bool source_find_end(struct source *s, struct reader *r, int *ret_news)
{
    struct slice text;
    const char *newline;
    ssize_t n = source_pread(s, r, r->memory, SOURCE_CHUNK, s->scanned);
    size_t whole;
    int e = 0;

    *ret_news = n < 0 ? (int)n : SOURCE_MORE;
    if (n < 0)
        return false;
    whole = whole_units(s, (size_t)n);
    if (whole == 0) {
        /* No longer than what was looked at: is it still the same file?  If so, wait for more.  (Of a
         * compressed one, to look would be to unpack it from its beginning.) */
        if (s->packed == UNPACK_NONE) {
            e = source_fetch(s, r, r->line_max + 1, &text);
            if (e == 0 && text.len < MIN((uint64_t)r->line_max + 1, s->scanned - s->at.offset))
                e = -ESTALE;
        }
        s->seen = s->scanned + (uint64_t)n;
        *ret_news = e < 0 ? e : SOURCE_END;
        return false;
    }
    newline = encoding_find_newline(s->encoding, (struct slice){r->memory, whole});
    if (newline == NULL) {
        s->scanned += whole;
        return false;
    }
    s->line_end = s->scanned + (uint64_t)(newline - r->memory) + encoding_newline_len(s->encoding);
    return true;
}

/* Reads a line that is longer than line_max, once its end is known: which is remembered, as its
 * beginning may take several calls to come back to (-EAGAIN). */
static int source_search(struct source *s, struct reader *r, struct source_chunk *ret)
{
    struct slice text;
    int e;

    if (s->line_end <= s->at.offset && !source_find_end(s, r, &e))
        return e;
    ret->end = s->line_end;
    if (ret->end - s->at.offset <= r->line_max + 1)
        return source_not_long(s, r, ret);
    e = source_fetch(s, r, whole_units(s, r->line_max), &text);
    if (e < 0)
        return e;
    /* What is left of it may be shorter by now. */
    ret->text = slice_first(text, (size_t)MIN(ret->end - s->at.offset, (uint64_t)SIZE_MAX) -
                                      encoding_newline_len(s->encoding));
    return SOURCE_LONG;
}

static size_t count_zeros(struct slice text)
{
    size_t n = 0;

    while (n < text.len && text.ptr[n] == '\0')
        n++;
    return n;
}

/* The next place from `from` on where the file system has data; the end, if there is none. */
static uint64_t source_next_data(const struct source *s, uint64_t from)
{
    off_t data;

    if (s->packed != UNPACK_NONE)
        return from;
    data = lseek(s->fd, (off_t)from, SEEK_DATA);

    if (data < 0 && errno == ENXIO)
        data = lseek(s->fd, 0, SEEK_END);
    return data < 0 ? from : MAX((uint64_t)data, from); /* without SEEK_DATA all of it is data */
}

/* Looks for the end of the zeros at `at`, one chunk a call. */
static int source_pass_zeros(struct source *s, struct reader *r, bool take_half,
                             struct source_chunk *ret)
{
    uint64_t from = source_next_data(s, MAX(s->zeros, s->at.offset));
    ssize_t n = source_pread(s, r, r->memory, SOURCE_CHUNK, from);
    size_t zeros;

    if (n < 0)
        return (int)n;
    zeros = count_zeros((struct slice){r->memory, (size_t)n});
    s->zeros = from + zeros;
    if (zeros == (size_t)n && n > 0)
        return SOURCE_MORE;
    s->seen = s->zeros;
    if (n == 0 && !take_half)
        return SOURCE_END;
    *ret = (struct source_chunk){.text = {r->memory, 0}, .end = s->zeros};
    return SOURCE_ZEROS;
}

/* How much to ask for. */
static size_t source_ask(const struct reader *r, size_t want)
{
    size_t most = MAX(r->line_max + 1, (size_t)SOURCE_CHUNK);

    want = MAX(want, (size_t)SOURCE_CHUNK);
    return MIN(want, most);
}

static int read_next(struct source *s, struct reader *r, bool take_half, size_t want,
                     struct source_chunk *ret)
{
    size_t ask = source_ask(r, want), most = source_ask(r, SIZE_MAX), lines;
    struct slice text;
    const char *newline;
    int e;

    assert(s->fd >= 0);
    *ret = (struct source_chunk){.text = {r->memory, 0}, .end = s->at.offset};
    if (s->scanned > s->at.offset) {
        e = take_half && s->half_end > s->at.offset ? SOURCE_END : source_search(s, r, ret);
        if (e != SOURCE_END || !take_half)
            return e;
        if (s->packed != UNPACK_NONE)
            s->half_end = s->seen;
        e = source_fetch(s, r, whole_units(s, r->line_max), &ret->text);
        ret->end = s->seen;
        ret->at_eof = true;
        return e < 0 ? e : SOURCE_HALF;
    }
    e = source_fetch(s, r, ask, &text);
    if (e < 0)
        return e;
    if (text.len > 0 && encoding_is_utf16(s->encoding) && s->at.offset % 2 != 0) {
        ret->end++;
        return SOURCE_ZEROS;
    }
    if (text.len > 0 && text.ptr[0] == '\0' && !encoding_is_utf16(s->encoding))
        return source_pass_zeros(s, r, take_half, ret);
    newline = encoding_find_last_newline(s->encoding, text);
    while (newline == NULL && text.len == ask && most > ask) {
        ask = MIN(ask < SOURCE_LONGER ? SOURCE_LONGER + 1 : 4 * ask, most);
        e = source_fetch(s, r, ask, &text);
        if (e < 0)
            return e;
        newline = encoding_find_last_newline(s->encoding, text);
    }
    ret->at_eof = text.len < ask;
    if (newline != NULL) {
        lines = (size_t)(newline - text.ptr) + encoding_newline_len(s->encoding);
        ret->text = slice_first(text, lines);
        ret->end = s->at.offset + lines;
        ret->behind = text.len - lines;
        return SOURCE_LINES;
    }
    if (text.len > r->line_max) {
        s->scanned = s->at.offset + whole_units(s, text.len);
        return SOURCE_MORE;
    }
    s->seen = s->at.offset + text.len;
    if (!take_half || text.len == 0) {
        ret->text = slice_first(text, 0);
        ret->behind = text.len;
        return SOURCE_END;
    }
    ret->text = text;
    ret->end = s->at.offset + text.len;
    return SOURCE_HALF;
}

int source_read(struct source *s, struct reader *r, bool take_half, size_t want,
                struct source_chunk *ret)
{
    int news = read_next(s, r, take_half, want, ret);

    if (news == -EAGAIN)
        return SOURCE_MORE;
    ret->at_eof = ret->at_eof || news == SOURCE_END;
    if (news == SOURCE_END && s->unpack != NULL && unpack_error(s->unpack) < 0)
        return unpack_error(s->unpack);
    return news;
}

static struct cursor place_at(struct source *s, const struct reader *r,
                              const struct source_chunk *chunk, uint64_t offset)
{
    const char *end = chunk->text.ptr + (offset - s->at.offset);

    if (offset == s->at.offset)
        return s->at;

    /* Behind a line that was cut, or zeros, the bytes before the place are not in memory. */
    if (offset - s->at.offset > chunk->text.len) {
        char before[SOURCE_BEFORE];
        size_t len = (size_t)MIN(offset, (uint64_t)sizeof before);

        if (source_pread(s, r, before, len, offset - len) == (ssize_t)len)
            return identity_place(r->digest, (struct slice){before, len}, offset, &s->at);
        /* will not be found again, and the file is read anew */
        return (struct cursor){.offset = offset};
    }
    return identity_place(r->digest, (struct slice){r->memory, (size_t)(end - r->memory)}, offset,
                          &s->at);
}

struct cursor source_place(const struct source *s, struct cursor at)
{
    /* The byte 0x0A that a rung stands behind is no newline there, and may be half a character. */
    if (encoding_is_utf16(s->encoding))
        memset(at.rungs, 0, sizeof at.rungs);
    return at;
}

struct cursor source_cursor(struct source *s, const struct reader *r,
                            const struct source_chunk *chunk, uint64_t offset)
{
    return source_place(s, place_at(s, r, chunk, offset));
}

void source_move(struct source *s, struct cursor to)
{
    /* Within a long line, it is still known that it goes on. */
    if (to.offset < s->at.offset || to.offset >= s->scanned)
        s->scanned = s->line_end = s->half_end = 0;
    s->at = source_place(s, to);
    s->zeros = s->grown = 0;
}

void source_saw_end(struct source *s, uint64_t end)
{
    s->seen = end;
}

ssize_t source_read_head(struct source *s, const struct reader *r, char *to, size_t len)
{
    return source_pread(s, r, to, len, 0);
}
