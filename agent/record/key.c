#include "record/key.h"

#include "random.h"
#include "utf8.h"
#include "util.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void key_random(struct random *r, struct key *ret)
{
    uint64_t bits = random_next(r);

    ret->json[0] = '"';
    for (size_t i = 1; i <= KEY_RANDOM_LEN; i++, bits >>= 6)
        ret->json[i] = alphabet[bits & 63];
    ret->json[KEY_RANDOM_LEN + 1] = '"';
    ret->len = KEY_RANDOM_LEN;
    ret->json_len = KEY_RANDOM_LEN + 2;
}

/* A character of a JSON string: as it is, or escaped. */
static void put(struct key *k, struct slice c)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t byte = (uint8_t)c.ptr[0];
    char *to = k->json + k->json_len;

    if (byte == '\n' || byte == '\t' || byte == '\r') {
        to[0] = '\\';
        to[1] = byte == '\n' ? 'n' : byte == '\t' ? 't' : 'r';
        k->json_len += 2;
    } else if (byte < 0x20) {
        const char escape[] = {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 0xf]};

        memcpy(to, escape, sizeof escape);
        k->json_len += sizeof escape;
    } else if (byte == '"' || byte == '\\') {
        to[0] = '\\';
        to[1] = (char)byte;
        k->json_len += 2;
    } else {
        memcpy(to, c.ptr, c.len);
        k->json_len += c.len;
    }
    k->len += c.len;
}

/* Most keys are short and plain: what stands in JSON as it is and is one unit each goes at once.
 * Returns how many bytes that was, at most `max`. */
static size_t put_plain(struct key *k, struct slice text, size_t max)
{
    size_t n = 0;

    max = MIN(max, text.len);
    for (; n < max; n++) {
        char c = text.ptr[n];

        if ((uint8_t)c < 0x20 || (uint8_t)c >= 0x80 || c == '"' || c == '\\')
            break;
        k->json[k->json_len + n] = c;
    }
    k->json_len += n;
    k->len += n;
    return n;
}

void key_of_text(struct slice text, struct key *ret)
{
    size_t units;

    if (text.len == 0)
        text = SLICE("-");
    ret->len = 0;
    ret->json[0] = '"';
    ret->json_len = 1;
    units = put_plain(ret, text, KEY_UNITS_MAX);
    text = slice_from(text, units);
    while (text.len > 0) {
        uint32_t code;
        size_t len, more;
        bool valid = utf8_first(text, &len, &code);

        more = code > 0xffff ? 2 : 1;
        if (units + more > KEY_UNITS_MAX)
            break;
        units += more;
        put(ret, valid ? slice_first(text, len) : UTF8_REPLACEMENT);
        text = slice_from(text, len);
    }
    ret->json[ret->json_len++] = '"';
}
