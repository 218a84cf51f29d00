/* Values as the Java agent reads them, and ours as they are written. */
#include "run/import_inner.h"

#include "json.h"
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SENTENCE_MAX = 1024, NUMBER_MAX = 40 };

/* --- sentences --- */

/* Text of the file in a sentence: one line of it, and nothing that a terminal obeys. */
static void append_shown(struct buf *to, const char *text)
{
    for (; *text != '\0'; text++)
        (void)buf_append_char(to, (unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
}

__attribute__((format(printf, 4, 0))) static void add_sentence(struct import *im, struct buf *to,
                                                               const char *key, const char *format,
                                                               va_list args)
{
    char text[SENTENCE_MAX];
    int r = 0;

    (void)vsnprintf(text, sizeof text, format, args);
    append_shown(to, im->file);
    if (im->flow > 0)
        r = buf_printf(to, ": flow %zu", im->flow);
    if (r == 0 && im->flow > 0 && im->stream.len > 0) {
        char name[SENTENCE_MAX / 4];

        (void)snprintf(name, sizeof name, " (%.*s)", SLICE_ARG(im->stream));
        append_shown(to, name);
    }
    if (r == 0 && key[0] != '\0')
        r = buf_append(to, SLICE(": "));
    append_shown(to, key[0] != '\0' ? im->prefix : "");
    append_shown(to, key);
    if (r == 0)
        r = buf_append(to, SLICE(": "));
    append_shown(to, text);
    if (r == 0)
        r = buf_append_char(to, '\n');
    if (r < 0)
        im->lost = r;
}

void import_refuse(struct import *im, const char *key, const char *format, ...)
{
    va_list args;

    im->wrong_count++;
    va_start(args, format);
    add_sentence(im, &im->wrong, key, format, args);
    va_end(args);
}

void import_tell(struct import *im, const char *key, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add_sentence(im, &im->told, key, format, args);
    va_end(args);
}

/* --- reading --- */

/* The digits that Long.decode sees, and their base. */
static struct slice decode_base(struct slice text, int *ret_base)
{
    *ret_base = 10;
    if (slice_starts_with(text, SLICE("0x")) || slice_starts_with(text, SLICE("0X"))) {
        *ret_base = 16;
        return slice_from(text, 2);
    }
    if (slice_starts_with(text, SLICE("#"))) {
        *ret_base = 16;
        return slice_from(text, 1);
    }
    if (text.len > 1 && text.ptr[0] == '0') {
        *ret_base = 8;
        return slice_from(text, 1);
    }
    return text;
}

/* java.lang.Long.decode: a sign, then 0x, 0X, # or 0, then digits. */
static bool decode(struct slice text, int64_t *ret)
{
    bool negative = text.len > 0 && text.ptr[0] == '-';
    char digits[NUMBER_MAX], *end;
    int base;

    if (negative || (text.len > 0 && text.ptr[0] == '+'))
        text = slice_from(text, 1);
    text = decode_base(text, &base);
    if (text.len == 0 || text.len + 2 > sizeof digits)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return false;
    }
    digits[0] = negative ? '-' : '+';
    memcpy(digits + 1, text.ptr, text.len);
    digits[text.len + 1] = '\0';
    errno = 0;
    *ret = strtoll(digits, &end, base);
    return *end == '\0' && errno == 0;
}

bool import_number(struct import *im, const struct import_value *in, const char *key, int64_t min,
                   int64_t max, int64_t *ret)
{
    const struct import_value *v = import_json_find(in, key);

    if (v == NULL)
        return false;
    if ((v->type != IMPORT_NUMBER && v->type != IMPORT_TEXT) || !decode(v->text, ret)) {
        import_refuse(im, key, "is no whole number; the Java agent does not start with it");
        return false;
    }
    if (*ret < min || *ret > max) {
        import_refuse(im, key,
                      "is %lld, which is outside of %lld to %lld; the Java agent does not start "
                      "with it",
                      (long long)*ret, (long long)min, (long long)max);
        return false;
    }
    return true;
}

bool import_text(struct import *im, const struct import_value *in, const char *key,
                 struct slice *ret)
{
    const struct import_value *v = import_json_find(in, key);

    if (v == NULL || v->type == IMPORT_NULL)
        return false;
    if (v->type == IMPORT_LIST || v->type == IMPORT_OBJECT) {
        import_refuse(im, key, "is a %s and should be a text",
                      v->type == IMPORT_LIST ? "list" : "group");
        return false;
    }
    *ret = v->type == IMPORT_TRUE    ? SLICE("true")
           : v->type == IMPORT_FALSE ? SLICE("false")
                                     : v->text;
    return true;
}

bool import_word(struct import *im, const struct import_value *in, const char *key,
                 const char *const *words, size_t *ret)
{
    char list[256];
    size_t len = 0;
    struct slice text;

    if (!import_text(im, in, key, &text))
        return false;
    for (size_t i = 0; words[i] != NULL; i++) {
        if (slice_equal(text, slice_of(words[i]))) {
            *ret = i;
            return true;
        }
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", i > 0 ? ", " : "", words[i]);
        len = MIN(len, sizeof list - 1);
    }
    import_refuse(im, key, "is '%.*s', which the Java agent does not accept; it knows %s",
                  SLICE_ARG(slice_first(text, 100)), list);
    return false;
}

bool import_flag(struct import *im, const struct import_value *in, const char *key, bool *ret)
{
    static const char *const words[] = {"true", "yes", "t", "y", "1", "false", "no", "f", "n", "0"};
    struct slice text;

    if (!import_text(im, in, key, &text))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (text.len == strlen(words[i]) && strncasecmp(text.ptr, words[i], text.len) == 0) {
            *ret = i < ARRAY_LEN(words) / 2;
            return true;
        }
    import_refuse(im, key,
                  "is '%.*s', which is neither true nor false; the Java agent does not "
                  "start with it",
                  SLICE_ARG(slice_first(text, 100)));
    return false;
}

/* --- writing --- */

void import_put(struct import *im, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    int n, r;

    va_start(args, format);
    n = vasprintf(&text, format, args);
    va_end(args);
    r = n < 0 ? -ENOMEM : buf_append(&im->out, (struct slice){text, (size_t)n});
    if (n >= 0)
        free(text);
    if (r < 0)
        im->lost = r;
}

void import_put_text(struct import *im, const char *key, struct slice text)
{
    int r = buf_append_char(&im->out, '"');

    for (size_t i = 0; i < text.len && r == 0; i++) {
        char c = text.ptr[i];

        if (c == '\0') {
            import_refuse(im, key,
                          "has a zero byte in it, which a configuration of kinetail cannot "
                          "hold");
            break;
        }
        if (c == '"' || c == '\\')
            r = buf_append_char(&im->out, '\\');
        if (r < 0)
            break;
        r = (unsigned char)c < ' ' || c == 0x7f
                ? buf_printf(&im->out, "\\x%02X", (unsigned)(unsigned char)c)
                : buf_append_char(&im->out, c);
    }
    if (r == 0)
        r = buf_append_char(&im->out, '"');
    if (r < 0)
        im->lost = r;
}

static void put_comment(struct import *im, const char *indent, struct slice key,
                        const struct import_value *value, const char *why)
{
    int r = buf_append(&im->out, slice_of(indent));

    if (r == 0)
        r = buf_append(&im->out, SLICE("# "));
    if (r == 0)
        r = json_append_string(&im->out, key);
    if (r == 0)
        r = buf_append(&im->out, SLICE(": "));
    if (r == 0)
        r = import_json_append(&im->out, value);
    if (r == 0)
        r = buf_printf(&im->out, "  -- %s\n", why);
    if (r < 0)
        im->lost = r;
}

void import_put_idle(struct import *im, const char *indent, const char *key,
                     const struct import_value *value, const char *why)
{
    put_comment(im, indent, slice_of(key), value, why);
}

void import_put_member(struct import *im, const char *indent, const struct import_value *member,
                       const char *why)
{
    put_comment(im, indent, member->name, member, why);
}
