#include "record/typed.h"

#include "arena.h"
#include "record/fields.h"
#include "util.h"

#include <errno.h>
#include <strings.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && is_blank(s.ptr[0]))
        s = slice_from(s, 1);
    while (s.len > 0 && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static size_t count_digits(struct slice s)
{
    size_t n = 0;

    while (n < s.len && s.ptr[n] >= '0' && s.ptr[n] <= '9')
        n++;
    return n;
}

/* The parts of a decimal number. */
struct decimal {
    bool negative;
    struct slice whole, fraction, exponent; /* the exponent with its sign; each may be empty */
};

static bool read_decimal(struct slice s, struct decimal *ret)
{
    struct decimal d = {0};
    size_t n;

    if (s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+')) {
        d.negative = s.ptr[0] == '-';
        s = slice_from(s, 1);
    }
    d.whole = slice_first(s, count_digits(s));
    s = slice_from(s, d.whole.len);
    if (s.len > 0 && s.ptr[0] == '.') {
        s = slice_from(s, 1);
        d.fraction = slice_first(s, count_digits(s));
        s = slice_from(s, d.fraction.len);
    }
    if (d.whole.len + d.fraction.len == 0)
        return false;
    if (s.len > 0 && (s.ptr[0] == 'e' || s.ptr[0] == 'E')) {
        struct slice digits = slice_from(s, 1);

        if (digits.len > 0 && (digits.ptr[0] == '-' || digits.ptr[0] == '+'))
            digits = slice_from(digits, 1);
        n = count_digits(digits);
        if (n == 0 || n != digits.len)
            return false;
        d.exponent = slice_from(s, 1);
        s.len = 0;
    }
    while (d.whole.len > 1 && d.whole.ptr[0] == '0')
        d.whole = slice_from(d.whole, 1);
    *ret = d;
    return s.len == 0;
}

static char *put(char *to, struct slice s)
{
    if (s.len > 0)
        memcpy(to, s.ptr, s.len);
    return to + s.len;
}

static int set_number(struct field *f, const struct decimal *d, struct arena *arena)
{
    size_t size = d->whole.len + d->fraction.len + d->exponent.len + 4;
    char *at = arena_take(arena, size), *p = at;

    if (p == NULL)
        return -EMSGSIZE;
    if (d->negative)
        *p++ = '-';
    p = put(p, d->whole.len > 0 ? d->whole : SLICE("0"));
    if (d->fraction.len > 0) {
        *p++ = '.';
        p = put(p, d->fraction);
    }
    if (d->exponent.len > 0) {
        *p++ = 'e';
        p = put(p, d->exponent);
    }
    f->value = (struct slice){at, (size_t)(p - at)};
    f->type = FIELD_NUMBER;
    return 0;
}

static bool is_one_of(struct slice s, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strlen(*words) == s.len && strncasecmp(*words, s.ptr, s.len) == 0)
            return true;
    return false;
}

static void set_boolean(struct field *f, struct slice text)
{
    static const char *const yes[] = {"true", "yes", "on", "t", "y", "1", NULL};
    static const char *const no[] = {"false", "no", "off", "f", "n", "0", NULL};

    if (is_one_of(text, yes))
        f->type = FIELD_TRUE;
    else if (is_one_of(text, no))
        f->type = FIELD_FALSE;
}

int typed_set(struct field *f, enum recipe_type type, struct arena *arena)
{
    struct slice text = trim(f->value);
    struct decimal d;

    if (type == RECIPE_TEXT) {
        if (f->type == FIELD_NUMBER || f->type == FIELD_TRUE || f->type == FIELD_FALSE)
            f->type = FIELD_TEXT;
        return 0;
    }
    if (type == RECIPE_BOOLEAN && f->type == FIELD_NUMBER)
        set_boolean(f, text);
    if (f->type != FIELD_TEXT)
        return 0;
    if (text.len == 0 || slice_equal(text, SLICE("-")) ||
        (type == RECIPE_NULL && text.len == 4 && strncasecmp(text.ptr, "null", 4) == 0)) {
        f->type = FIELD_NULL;
        return 0;
    }
    switch (type) {
    case RECIPE_INTEGER:
        if (read_decimal(text, &d) && d.fraction.len == 0 && d.exponent.len == 0 &&
            memchr(text.ptr, '.', text.len) == NULL)
            return set_number(f, &d, arena);
        break;
    case RECIPE_NUMBER:
        if (read_decimal(text, &d))
            return set_number(f, &d, arena);
        break;
    case RECIPE_BOOLEAN:
        set_boolean(f, text);
        break;
    case RECIPE_NULL:
    case RECIPE_TEXT:
        break;
    }
    return 0;
}
