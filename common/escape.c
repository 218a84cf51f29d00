#include "escape.h"

#include "buf.h"
#include "utf8.h"
#include "util.h"

#include <stdbool.h>
#include <stdint.h>

static const struct {
    uint32_t from, to;
} hidden[] = {
    {0x00, 0x1f},       /* C0 */
    {0x7f, 0x9f},       /* DEL and C1: ESC [ is also U+009B */
    {0xad, 0xad},       /* soft hyphen */
    {0x34f, 0x34f},     /* combining grapheme joiner */
    {0x61c, 0x61c},     /* Arabic letter mark */
    {0x115f, 0x1160},   /* Hangul fillers */
    {0x180b, 0x180f},   /* Mongolian selectors and vowel separator */
    {0x200b, 0x200f},   /* zero width, and marks of direction */
    {0x2028, 0x202e},   /* separators, embedding and override of direction */
    {0x2060, 0x206f},   /* word joiner, isolates, deprecated format characters */
    {0x3164, 0x3164},   /* Hangul filler */
    {0xfe00, 0xfe0f},   /* variation selectors */
    {0xfeff, 0xfeff},   /* byte order mark */
    {0xffa0, 0xffa0},   /* halfwidth Hangul filler */
    {0xfff0, 0xfffb},   /* interlinear annotation */
    {0xe0000, 0xe0fff}, /* tags and more selectors */
};

static bool is_hidden(uint32_t code)
{
    for (size_t i = 0; i < ARRAY_LEN(hidden); i++)
        if (code >= hidden[i].from && code <= hidden[i].to)
            return true;
    return false;
}

static int append_bytes(struct buf *to, struct slice bytes)
{
    static const char digits[] = "0123456789abcdef";
    int r = 0;

    for (size_t i = 0; i < bytes.len && r == 0; i++) {
        unsigned char c = (unsigned char)bytes.ptr[i];

        r = buf_append(to, (struct slice){(char[]){'\\', 'x', digits[c >> 4], digits[c & 15]}, 4});
    }
    return r;
}

static int append_character(struct buf *to, struct slice bytes, uint32_t code, bool valid)
{
    switch (code) {
    case '\n':
        return buf_append(to, SLICE("\\n"));
    case '\t':
        return buf_append(to, SLICE("\\t"));
    case '\r':
        return buf_append(to, SLICE("\\r"));
    case '\\':
        return buf_append(to, SLICE("\\\\"));
    default:
        return valid && !is_hidden(code) ? buf_append(to, bytes) : append_bytes(to, bytes);
    }
}

int escape_append(struct buf *to, struct slice text)
{
    size_t before = to->len;

    while (text.len > 0) {
        size_t len;
        uint32_t code;
        bool valid = utf8_first(text, &len, &code);
        int r = append_character(to, slice_first(text, len), code, valid);

        if (r < 0) {
            to->len = before;
            return r;
        }
        text = slice_from(text, len);
    }
    return 0;
}
