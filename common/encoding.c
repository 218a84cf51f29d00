#include "encoding.h"

#include "buf.h"
#include "utf8.h"
#include "util.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>

#define HIGH_BITS 0x8080808080808080ULL /* set in a byte that is not ASCII, eight bytes at once */
#define LOW_BYTES 0x00ff00ff00ff00ffULL /* the ASCII of four units, in the host's order */

enum { UTF16_REPLACEMENT = 0xfffd };

/* --- newlines --- */

/* Whether the byte 0x0A at `at` is (half of) a newline; then *ret is where that begins. */
static bool is_newline(enum encoding e, struct slice text, size_t at, size_t *ret)
{
    if (!encoding_is_utf16(e)) {
        *ret = at;
        return true;
    }
    if (e == ENCODING_UTF16LE) {
        *ret = at;
        return at % 2 == 0 && at + 1 < text.len && text.ptr[at + 1] == '\0';
    }
    *ret = at - 1;
    return at % 2 == 1 && text.ptr[at - 1] == '\0';
}

const char *encoding_find_newline(enum encoding e, struct slice text)
{
    for (size_t from = 0, at; from < text.len; from++) {
        const char *found = memchr(text.ptr + from, '\n', text.len - from);

        if (found == NULL)
            return NULL;
        from = (size_t)(found - text.ptr);
        if (is_newline(e, text, from, &at))
            return text.ptr + at;
    }
    return NULL;
}

const char *encoding_find_last_newline(enum encoding e, struct slice text)
{
    for (size_t left = text.len, at; left > 0;) {
        const char *found = memrchr(text.ptr, '\n', left);

        if (found == NULL)
            return NULL;
        left = (size_t)(found - text.ptr);
        if (is_newline(e, text, left, &at))
            return text.ptr + at;
    }
    return NULL;
}

size_t encoding_mark_len(enum encoding e, struct slice beginning)
{
    static const struct slice marks[] = {
        [ENCODING_UTF8] = SLICE("\xef\xbb\xbf"),
        [ENCODING_UTF16LE] = SLICE("\xff\xfe"),
        [ENCODING_UTF16BE] = SLICE("\xfe\xff"),
        [ENCODING_LATIN1] = SLICE(""), /* has none: these bytes are letters there */
    };

    return slice_starts_with(beginning, marks[e]) ? marks[e].len : 0;
}

/* --- characters --- */

static uint32_t unit_at(enum encoding e, struct slice raw, size_t at)
{
    uint8_t first = (uint8_t)raw.ptr[at], second = (uint8_t)raw.ptr[at + 1];

    return e == ENCODING_UTF16LE ? (uint32_t)second << 8 | first : (uint32_t)first << 8 | second;
}

/* Takes the first character off `raw`, which is not empty: RFC 2781, section 2.2. */
static uint32_t take_utf16(enum encoding e, struct slice *raw)
{
    uint32_t high, low;

    if (raw->len < 2) {
        *raw = slice_from(*raw, raw->len);
        return UTF16_REPLACEMENT;
    }
    high = unit_at(e, *raw, 0);
    *raw = slice_from(*raw, 2);
    if (high < 0xd800 || high > 0xdfff)
        return high;
    if (high > 0xdbff || raw->len < 2)
        return UTF16_REPLACEMENT;
    low = unit_at(e, *raw, 0);
    if (low < 0xdc00 || low > 0xdfff)
        return UTF16_REPLACEMENT; /* and the other one is a character of its own */
    *raw = slice_from(*raw, 2);
    return 0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00));
}

static uint32_t take_character(enum encoding e, struct slice *raw)
{
    uint32_t code;

    if (e != ENCODING_LATIN1)
        return take_utf16(e, raw);
    code = (uint8_t)raw->ptr[0];
    *raw = slice_from(*raw, 1);
    return code;
}

/* Copies ASCII off the beginning of `raw`, eight bytes at a time; returns how many characters. */
static size_t take_ascii(enum encoding e, struct slice *raw, char *to)
{
    size_t count = 0;

    while (raw->len >= sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, raw->ptr, sizeof word);
        if (e == ENCODING_LATIN1) {
            if ((word & HIGH_BITS) != 0)
                break;
            memcpy(to + count, &word, sizeof word);
            count += sizeof word;
        } else {
            uint32_t four;

            /* Four units, the first in the lowest bits, each with its ASCII in the low byte. */
            word = le64toh(word);
            if (e == ENCODING_UTF16BE)
                word = (word >> 8 & LOW_BYTES) | (word & LOW_BYTES) << 8;
            if ((word & (HIGH_BITS | ~LOW_BYTES)) != 0)
                break;
            word |= word >> 8;
            four = htole32((uint32_t)((word & 0xffff) | (word >> 16 & 0xffff0000)));
            memcpy(to + count, &four, sizeof four);
            count += sizeof four;
        }
        *raw = slice_from(*raw, sizeof word);
    }
    return count;
}

/* How long `raw` is as UTF-8. */
static size_t utf8_len(enum encoding e, struct slice raw)
{
    char character[UTF8_LEN_MAX];
    size_t len = 0;

    while (raw.len > 0)
        len += utf8_encode(take_character(e, &raw), character);
    return len;
}

/* Makes room for what `raw` may become: by the worst case, and only near the ceiling by counting. */
static int make_room(enum encoding e, struct slice raw, struct buf *to)
{
    size_t left = to->max - to->len, most;

    /* Two bytes of UTF-16 become three at most, as half a unit does; one of Latin-1 two. */
    if (__builtin_mul_overflow(raw.len, 2, &most) || __builtin_add_overflow(most, 1, &most))
        return -EMSGSIZE;
    if (most > left)
        most = utf8_len(e, raw);
    if (most > left)
        return -EMSGSIZE;
    most += to->len;
    /* By doubling, so that many small appends stay cheap. */
    return most <= to->cap ? 0 : buf_reserve(to, MAX(most, MIN(2 * to->cap, to->max)));
}

int encoding_to_utf8(enum encoding e, struct slice raw, struct buf *to)
{
    int r;

    if (e == ENCODING_UTF8)
        return buf_append(to, raw);
    if (raw.len == 0)
        return 0;
    r = make_room(e, raw, to);
    if (r < 0)
        return r;
    while (raw.len > 0) {
        char character[UTF8_LEN_MAX];
        size_t len;

        to->len += take_ascii(e, &raw, to->ptr + to->len);
        if (raw.len == 0)
            break;
        /* Not straight into the buffer: the last one need not have room for the longest. */
        len = utf8_encode(take_character(e, &raw), character);
        memcpy(to->ptr + to->len, character, len);
        to->len += len;
    }
    return 0;
}
