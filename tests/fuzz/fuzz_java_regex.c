/* fuzz_java_regex -- what is translated, PCRE2 takes; what is refused has a sentence and a place.
 *
 * The first byte says how long the pattern is; behind it is a text to match. */
#include "record/java_regex.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "buf.h"
#include "record/pattern.h"
#include "util.h"

enum { TRANSLATION_MAX = 1 << 18 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct slice java, struct slice text)
{
    struct pattern_error e;
    struct pattern *p;
    struct buf to;
    int r;

    buf_init(&to, TRANSLATION_MAX);
    r = java_regex_translate(java, &to, &e);
    assert(r == 0 || r == -EINVAL || r == -ENOTSUP || r == -EMSGSIZE);
    if (r == 0) {
        assert(pattern_new(buf_slice(&to), PATTERN_UTF | PATTERN_WHOLE, &p, &e) == 0);
        r = pattern_match(p, text, NULL);
        assert(r == 0 || r == 1 || r == -ETIME);
        pattern_free(p);
    } else {
        assert(to.len == 0 && e.offset <= java.len);
        assert(r == -EMSGSIZE || e.text[0] != '\0');
    }
    buf_done(&to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = {(const char *)data, size};
    char *copy;
    size_t len;

    if (size == 0)
        return 0;
    in = slice_from(in, 1);
    len = MIN(data[0], in.len);
    copy = malloc(len); /* of just its size */
    assert(len == 0 || copy != NULL);
    if (len > 0)
        memcpy(copy, in.ptr, len);
    check((struct slice){copy, len}, slice_from(in, len));
    free(copy);
    return 0;
}
