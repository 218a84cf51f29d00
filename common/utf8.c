#include "utf8.h"

#define HIGH_BITS 0x8080808080808080ULL /* set in a byte that is not ASCII, eight bytes at once */

static bool is_continuation(char c)
{
    return ((uint8_t)c & 0xc0) == 0x80;
}

bool utf8_first(struct slice text, size_t *ret_len, uint32_t *ret_code)
{
    uint8_t lead = (uint8_t)text.ptr[0];
    uint8_t low = 0x80, high = 0xbf; /* what the second byte may be: Unicode 15, table 3-7 */
    size_t len = 1, seen = 1;
    uint32_t code = lead;

    if (lead >= 0xc2 && lead <= 0xdf) {
        len = 2;
        code = lead & 0x1f;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        len = 3;
        code = lead & 0x0f;
        low = lead == 0xe0 ? 0xa0 : low;   /* shorter in two bytes */
        high = lead == 0xed ? 0x9f : high; /* surrogates */
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        len = 4;
        code = lead & 0x07;
        low = lead == 0xf0 ? 0x90 : low;   /* shorter in three bytes */
        high = lead == 0xf4 ? 0x8f : high; /* past U+10FFFF */
    } else if (lead >= 0x80) {
        goto out;
    }

    for (; seen < len; seen++) {
        uint8_t next = seen < text.len ? (uint8_t)text.ptr[seen] : 0;

        if (next < low || next > high)
            goto out;
        code = code << 6 | (next & 0x3f);
        low = 0x80;
        high = 0xbf;
    }
    *ret_len = len;
    *ret_code = code;
    return true;
out:
    *ret_len = seen;
    *ret_code = 0xfffd;
    return false;
}

size_t utf8_encode(uint32_t code, char ret[UTF8_LEN_MAX])
{
    if (code < 0x80) {
        ret[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        ret[0] = (char)(0xc0 | code >> 6);
        ret[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        ret[0] = (char)(0xe0 | code >> 12);
        ret[1] = (char)(0x80 | (code >> 6 & 0x3f));
        ret[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    ret[0] = (char)(0xf0 | code >> 18);
    ret[1] = (char)(0x80 | (code >> 12 & 0x3f));
    ret[2] = (char)(0x80 | (code >> 6 & 0x3f));
    ret[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

size_t utf8_cut(struct slice text, size_t max)
{
    if (max >= text.len)
        return text.len;

    /* Only a character that begins at most three bytes before the cut can reach across it. */
    for (size_t back = 0; back < UTF8_LEN_MAX && back <= max; back++) {
        size_t len;
        uint32_t code;

        if (is_continuation(text.ptr[max - back]))
            continue;
        if (utf8_first(slice_from(text, max - back), &len, &code) && len > back)
            return max - back;
        break;
    }
    return max;
}

bool utf8_valid(struct slice text)
{
    while (text.len > 0) {
        size_t len;
        uint32_t code;
        uint64_t word;

        if (text.len >= sizeof word) {
            memcpy(&word, text.ptr, sizeof word);
            if ((word & HIGH_BITS) == 0) {
                text = slice_from(text, sizeof word);
                continue;
            }
        }
        if (!utf8_first(text, &len, &code))
            return false;
        text = slice_from(text, len);
    }
    return true;
}

size_t utf8_utf16_units(struct slice valid)
{
    size_t units = 0;

    /* Each character is one unit and has one first byte; those of four bytes are two. */
    for (size_t i = 0; i < valid.len; i++)
        units += (size_t)!is_continuation(valid.ptr[i]) + ((uint8_t)valid.ptr[i] >= 0xf0);
    return units;
}
