#include "record/java_text.h"

#include "buf.h"
#include "utf8.h"
#include "util.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- reading --- */

static bool continues(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

/* How many of the bytes `b`, of which there are `n`, one U+FFFD stands for; they do not begin a valid
 * character.  This is no "maximal subpart" (utf8.h), though it often gives the same. */
static size_t malformed_len(const unsigned char *b, size_t n)
{
    if (b[0] < 0xe0 || b[0] > 0xf7)
        return 1; /* a continuation, 0xc0, 0xc1, a lead without one, 0xf8 and up */
    if (b[0] < 0xf0) {
        if (n > 1 && (!continues(b[1]) || (b[0] == 0xe0 && b[1] < 0xa0)))
            return 1;
        if (n > 2)
            return continues(b[2]) ? 3 : 2; /* 3: a surrogate */
        return n;
    }
    if (b[0] > 0xf4 || (n > 1 && (!continues(b[1]) || (b[0] == 0xf0 && b[1] < 0x90) ||
                                  (b[0] == 0xf4 && b[1] > 0x8f))))
        return 1;
    if (n > 2 && !continues(b[2]))
        return 2;
    return MIN(n, (size_t)3); /* the fourth does not continue, or is missing */
}

int java_text_decode(struct slice bytes, struct buf *scratch, struct slice *ret)
{
    int r = 0;

    if (utf8_valid(bytes)) {
        *ret = bytes;
        return 0;
    }
    buf_reset(scratch);
    while (bytes.len > 0 && r == 0) {
        size_t good = 0, len = 0;
        uint32_t code;

        while (good < bytes.len && utf8_first(slice_from(bytes, good), &len, &code))
            good += len;
        r = buf_append(scratch, slice_first(bytes, good));
        bytes = slice_from(bytes, good);
        if (r == 0 && bytes.len > 0) {
            r = buf_append(scratch, UTF8_REPLACEMENT);
            bytes = slice_from(bytes, malformed_len((const unsigned char *)bytes.ptr, bytes.len));
        }
    }
    if (r == 0)
        *ret = buf_slice(scratch);
    return r;
}

/* --- writing --- */

static bool is_plain(char c)
{
    return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

static int append_escape(struct buf *to, char c)
{
    static const char letters[] = "btn?fr"; /* from 0x08 on; 0x0b has none */
    static const char digits[] = "0123456789ABCDEF";
    unsigned char byte = (unsigned char)c;
    char six[] = {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};
    char two[] = {'\\', c};

    if (byte < 0x20) {
        if (byte < 0x08 || byte > 0x0d || byte == 0x0b)
            return buf_append(to, (struct slice){six, sizeof six});
        two[1] = letters[byte - 0x08];
    }
    return buf_append(to, (struct slice){two, sizeof two});
}

int java_text_append_inside(struct buf *to, struct slice text)
{
    size_t start = to->len;
    int r = 0;

    while (text.len > 0 && r == 0) {
        size_t plain = 0;

        while (plain < text.len && is_plain(text.ptr[plain]))
            plain++;
        r = buf_append(to, slice_first(text, plain));
        text = slice_from(text, plain);
        if (r == 0 && text.len > 0) {
            r = append_escape(to, text.ptr[0]);
            text = slice_from(text, 1);
        }
    }
    if (r < 0)
        to->len = start;
    return r;
}

int java_text_append_json(struct buf *to, struct slice text)
{
    size_t start = to->len;
    int r = buf_append_char(to, '"');

    if (r == 0)
        r = java_text_append_inside(to, text);
    if (r == 0)
        r = buf_append_char(to, '"');
    if (r < 0)
        to->len = start;
    return r;
}

/* The digits of `value`, which is positive and finite, without their point: the fewest that mean it,
 * and of those the nearest to it, but never a single one (JDK-4511638).  *ret_exponent is that of the
 * first digit.  Trailing zeros but one are gone. */
static size_t shortest_digits(double value, char digits[20], int *ret_exponent)
{
    char text[40];
    size_t count = 0;

    for (int more = 1; more <= 17; more++) {
        (void)snprintf(text, sizeof text, "%.*e", more, value);
        if (strtod(text, NULL) == value)
            break;
    }
    for (const char *c = text; *c != 'e'; c++)
        if (*c != '.')
            digits[count++] = *c;
    *ret_exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    while (count > 2 && digits[count - 1] == '0')
        count--;
    return count;
}

static int append_finite(struct buf *to, double value)
{
    char digits[20] = "", text[48];
    int exponent, n, count = (int)shortest_digits(value, digits, &exponent);

    if (exponent >= 7 || exponent < -3)
        n = snprintf(text, sizeof text, "%c.%.*sE%d", digits[0], count - 1, digits + 1, exponent);
    else if (exponent < 0)
        n = snprintf(text, sizeof text, "0.%.*s%.*s", -exponent - 1, "00",
                     count - (count == 2 && digits[1] == '0'), digits);
    else if (count <= exponent + 1)
        n = snprintf(text, sizeof text, "%.*s%.*s.0", count, digits, exponent + 1 - count,
                     "0000000");
    else
        n = snprintf(text, sizeof text, "%.*s.%.*s", exponent + 1, digits, count - exponent - 1,
                     digits + exponent + 1);
    return buf_append(to, (struct slice){text, (size_t)n});
}

int java_text_append_double(struct buf *to, struct slice number)
{
    char text[JAVA_NUMBER_MAX + 1];
    double value;
    int r = 0;

    assert(number.len <= JAVA_NUMBER_MAX);
    memcpy(text, number.ptr, number.len);
    text[number.len] = '\0';
    value = strtod(text, NULL); /* the agent never leaves the C locale */
    if (isinf(value))
        return buf_append(to, value < 0 ? SLICE("\"-Infinity\"") : SLICE("\"Infinity\""));
    if (signbit(value))
        r = buf_append_char(to, '-');
    if (r == 0)
        r = value == 0 ? buf_append(to, SLICE("0.0")) : append_finite(to, fabs(value));
    return r;
}
