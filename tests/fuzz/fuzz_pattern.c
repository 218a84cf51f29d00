/* fuzz_pattern -- any pattern, any text, any replacement: with JIT and without comes the same,
 * within the limits, and a replacement is what pcre2_substitute makes of it.
 *
 * Three bytes say the flags, how long the pattern is, and the replacement; the text follows. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "record/pattern.h"

#include <assert.h>
#include <errno.h>
#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>

#include "buf.h"
#include "utf8.h"
#include "util.h"

enum { OUT_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of just its size, for the sanitizer to watch. */
static struct slice owned(struct slice *in, size_t len)
{
    struct slice s = slice_first(*in, len);
    char *copy = malloc(s.len);

    assert(s.len == 0 || copy != NULL);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    *in = slice_from(*in, s.len);
    return (struct slice){copy, s.len};
}

static void check_groups(const struct pattern *p, struct slice text, const struct slice *groups)
{
    for (unsigned n = 0; n <= pattern_group_count(p); n++) {
        const char *name = pattern_group_name(p, n);

        if (groups[n].ptr != NULL && text.len > 0)
            assert(groups[n].ptr >= text.ptr &&
                   groups[n].ptr + groups[n].len <= text.ptr + text.len);
        if (name != NULL)
            assert(pattern_group_find(p, slice_of(name)) > 0);
    }
}

/* What PCRE2's own function says, or a negative number if it has nothing to say. */
static int reference(struct slice pattern, unsigned flags, bool characters, struct slice text,
                     struct slice with, char *to, size_t *len)
{
    uint32_t options = PCRE2_NEVER_BACKSLASH_C;
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    pcre2_code *code;
    PCRE2_SIZE offset;
    int r, number;

    options |= flags & PATTERN_CASELESS ? PCRE2_CASELESS : 0;
    options |= flags & PATTERN_DOTALL ? PCRE2_DOTALL : 0;
    options |= flags & PATTERN_MULTILINE ? PCRE2_MULTILINE : 0;
    options |= characters ? PCRE2_UTF : 0;
    code = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len, options, &number, &offset, NULL);
    assert(code != NULL && context != NULL);
    (void)pcre2_set_match_limit(context, 1000);
    *len = OUT_MAX;
    r = pcre2_substitute(code, (PCRE2_SPTR)text.ptr, text.len, 0,
                         PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_UNSET_EMPTY, NULL, context,
                         (PCRE2_SPTR)with.ptr, with.len, (PCRE2_UCHAR *)to, len);
    pcre2_match_context_free(context);
    pcre2_code_free(code);
    return r;
}

static bool has(struct slice s, const char *what)
{
    return s.len > 0 && memmem(s.ptr, s.len, what, strlen(what)) != NULL;
}

static void check_replace(struct pattern *jit, struct pattern *plain, struct slice pattern,
                          unsigned flags, struct slice text, struct slice with)
{
    static char expected[OUT_MAX];
    struct replacement *r = NULL, *r2 = NULL;
    struct pattern_error e;
    struct buf a, b;
    long n, m;
    size_t len;

    if (replacement_new(jit, with, &r, &e) != 0) {
        assert(e.offset <= with.len && e.text[0] != '\0');
        assert(replacement_new(plain, with, &r2, &e) == -EINVAL);
        return;
    }
    assert(replacement_new(plain, with, &r2, &e) == 0);
    buf_init(&a, OUT_MAX);
    buf_init(&b, OUT_MAX);
    n = pattern_replace(jit, text, r, &a);
    m = pattern_replace(plain, text, r2, &b);
    assert(n >= 0 || n == -ETIME || n == -EMSGSIZE);
    if (n <= 0)
        assert(a.len == 0);
    if (n != -ETIME && m != -ETIME) {
        assert(n == m);
        assert(slice_equal(buf_slice(&a), buf_slice(&b)));
    }
    /* After an empty match it steps over CRLF where that is a newline, and what is anchored at the
     * beginning it takes for anchored where the last match ended. */
    if (n > 0 && (!pattern_is_utf(jit) || utf8_valid(text)) && !has(pattern, "(*") &&
        (flags & (PATTERN_START | PATTERN_WHOLE)) == 0) {
        int k = reference(pattern, flags, pattern_is_utf(jit), text, with, expected, &len);

        if (k >= 0) {
            assert(k == n);
            assert(slice_equal(buf_slice(&a), (struct slice){expected, len}));
        }
    }
    buf_done(&a);
    buf_done(&b);
    replacement_free(r);
    replacement_free(r2);
}

static void check(struct slice pattern, unsigned flags, struct slice text, struct slice with)
{
    struct pattern_error e, e2;
    struct pattern *jit, *plain;
    struct slice *a, *b;
    int r = pattern_new(pattern, flags, &jit, &e), s;

    if (r != 0) {
        assert(r == -EINVAL && e.offset <= pattern.len && e.text[0] != '\0');
        assert(pattern_new(pattern, flags | PATTERN_NO_JIT, &plain, &e2) == r);
        return;
    }
    assert(pattern_new(pattern, flags | PATTERN_NO_JIT, &plain, &e2) == 0);
    a = calloc(pattern_group_count(jit) + 1, sizeof *a);
    b = calloc(pattern_group_count(jit) + 1, sizeof *b);
    assert(a != NULL && b != NULL);
    r = pattern_match(jit, text, a);
    assert(r == pattern_match(jit, text, NULL)); /* the same text, the same answer */
    s = pattern_match(plain, text, b);
    assert(r == 0 || r == 1 || r == -ETIME);
    if (r != -ETIME && s != -ETIME) {
        assert(r == s);
        for (unsigned n = 0; r == 1 && n <= pattern_group_count(jit); n++)
            assert(a[n].ptr == b[n].ptr && a[n].len == b[n].len);
    }
    if (r == 1)
        check_groups(jit, text, a);
    check_replace(jit, plain, pattern, flags, text, with);
    free(a);
    free(b);
    pattern_free(jit);
    pattern_free(plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = {(const char *)data, size}, pattern, with, text;

    if (size < 3)
        return 0;
    in = slice_from(in, 3);
    pattern = owned(&in, data[1]);
    with = owned(&in, data[2]);
    text = owned(&in, in.len);
    check(pattern, data[0] & 63, text, with);
    free((void *)(uintptr_t)pattern.ptr);
    free((void *)(uintptr_t)with.ptr);
    free((void *)(uintptr_t)text.ptr);
    return 0;
}
