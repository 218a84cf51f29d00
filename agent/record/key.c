#include "record/key.h"

#include "json.h"
#include "random.h"
#include "utf8.h"
#include "util.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void key_random(struct random *r, char to[KEY_RANDOM_LEN + 2])
{
    uint64_t bits = random_next(r);

    to[0] = '"';
    for (size_t i = 1; i <= KEY_RANDOM_LEN; i++, bits >>= 6)
        to[i] = alphabet[bits & 63];
    to[KEY_RANDOM_LEN + 1] = '"';
}

int key_of_text(struct slice text, struct buf *to, size_t *ret_len)
{
    struct buf clean;
    struct slice key;
    size_t units = 0, len = 0;
    int r;

    if (text.len == 0)
        text = SLICE("-");

    /* Replacing invalid bytes is the JSON writer's; its work undone gives the key as it is sent. */
    buf_init(&clean, 9 * text.len + 2);
    r = json_append_string(to, text);
    if (r == 0)
        r = json_unescape((struct slice){to->ptr + 1, to->len - 2}, &clean);
    if (r < 0)
        goto out;
    key = buf_slice(&clean);
    while (len < key.len) {
        uint32_t code;
        size_t n, more;

        (void)utf8_first(slice_from(key, len), &n, &code); /* valid by now */
        more = code > 0xffff ? 2 : 1;
        if (units + more > KEY_UNITS_MAX)
            break;
        units += more;
        len += n;
    }
    buf_reset(to);
    r = json_append_string(to, slice_first(key, len));
    if (r == 0)
        *ret_len = len;
out:
    buf_done(&clean);
    return r;
}
