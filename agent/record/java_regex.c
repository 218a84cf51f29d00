/* The parser follows java.util.regex.Pattern of OpenJDK 8, method by method (expr, sequence,
 * group0, closure, clazz, range, escape), for what that accepts is nowhere written down as exactly.
 *
 * No flag of PCRE2 is ever used but (?s), which the translation begins with, so that a dot is any
 * character: Java's dot, ^ and $ know five line terminators, and its (?i) is for ASCII only, where
 * PCRE2's would take the Kelvin sign for a k.  So these are spelled out. */
#include "record/java_regex.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "buf.h"
#include "utf8.h"
#include "util.h"

enum flag {
    FLAG_CASELESS = 1,      /* i */
    FLAG_MULTILINE = 2,     /* m */
    FLAG_DOTALL = 4,        /* s */
    FLAG_UNIX_LINES = 8,    /* d */
    FLAG_UNICODE_CASE = 16, /* u */
    FLAG_COMMENTS = 32,     /* x */
};

enum {
    DEPTH_MAX = 100,    /* of groups and classes in each other; PCRE2 has a limit of 250 */
    REPEAT_MAX = 65535, /* pcre2limits(3) */
    NAME_MAX_LEN = 32,  /* same page */
    GROUPS_MAX = 1000,
    TEXT_MAX = 1024 * 1024,
    NOT_A_CHAR = -1, /* an escape that is a class or an assertion: it was appended */
};

#define TERMINATORS "\\n\\r\\x{85}\\x{2028}\\x{2029}"
#define WORD        "[\\p{L}\\p{Nd}_]"
/* Behind a word: a letter, a digit or an underscore, and marks that combine with it. */
#define WORD_BEFORE WORD "|" WORD "\\p{Mn}|" WORD "\\p{Mn}{2}|" WORD "\\p{Mn}{3}"
#define WORD_END    "(?<=" WORD_BEFORE ")(?![\\p{L}\\p{Nd}_\\p{Mn}])"
#define WORD_START  "(?<!" WORD_BEFORE ")(?=" WORD ")"
#define BOUNDARY    WORD_END "|" WORD_START

struct group {
    char name[NAME_MAX_LEN + 1];
    bool is_open;
};

struct parser {
    uint32_t *text; /* characters; two zeros behind the last, as in Java */
    uint32_t *from; /* of each, the byte in the pattern as it was given */
    size_t len, at;
    unsigned flags, depth;
    bool aside;           /* in a lookaround or an atomic group: Java keeps the groups that were set
                                there when what follows fails, and PCRE2 does not */
    struct group *groups; /* by number, from 1 */
    unsigned group_count;
    bool nullable;          /* what was parsed last can match nothing at all */
    unsigned reference_max; /* the largest number that is referred to */
    size_t reference_at;
    struct buf *to;
    struct pattern_error *error;
};

/* A set of characters: what stands between brackets, or any expression that matches one of them. */
struct set {
    struct buf text;
    bool is_expression, is_negated;
};

static int parse_alternatives(struct parser *p);
static int parse_class(struct parser *p, struct set *ret);

/* --- saying no --- */

__attribute__((format(printf, 3, 4))) static int refuse(struct parser *p, int error,
                                                        const char *format, ...)
{
    size_t at = MIN(p->at, p->len);
    va_list arguments;

    p->error->offset = p->from == NULL ? 0 : p->from[at];
    va_start(arguments, format);
    (void)vsnprintf(p->error->text, sizeof p->error->text, format, arguments);
    va_end(arguments);
    return error;
}

/* --- the text --- */

static bool is_space(uint32_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int hex_value(uint32_t c)
{
    if (is_digit(c))
        return (int)(c - '0');
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? (int)(c - 'a' + 10) : -1;
}

/* Goes past what (?x) makes invisible. */
static void skip_comments(struct parser *p)
{
    while ((p->flags & FLAG_COMMENTS) && p->at < p->len) {
        if (p->text[p->at] == '#') {
            for (; p->at < p->len; p->at++) {
                uint32_t c = p->text[p->at];
                bool more = c == '\r' || c == 0x85 || c == 0x2028 || c == 0x2029;

                if (c == '\n' || (more && (p->flags & FLAG_UNIX_LINES) == 0))
                    break;
            }
            if (p->at < p->len && !is_space(p->text[p->at]))
                p->at++; /* a terminator that is no ASCII space */
        } else if (is_space(p->text[p->at])) {
            p->at++;
        } else {
            break;
        }
    }
}

/* The next character that counts, or 0 at the end. */
static uint32_t peek(struct parser *p)
{
    skip_comments(p);
    return p->text[p->at];
}

static bool at_end(struct parser *p)
{
    skip_comments(p);
    return p->at >= p->len;
}

/* Characters of the pattern, \Q...\E written out with backslashes. */
static int read_text(struct parser *p, struct slice java)
{
    size_t room = 3 * java.len + 4, at = 0, n = 0;
    bool quoted = false, begins = false;

    p->text = calloc(room + 2, sizeof *p->text);
    p->from = calloc(room + 2, sizeof *p->from);
    if (p->text == NULL || p->from == NULL)
        return -ENOMEM;
    while (at < java.len) {
        struct slice rest = slice_from(java, at);
        uint32_t here = (uint32_t)at, code;
        size_t len;

        if (!utf8_first(rest, &len, &code)) {
            p->from[p->len = n] = here;
            p->at = n;
            return refuse(p, -EINVAL, "the pattern is no valid UTF-8");
        }
        if (!quoted && slice_starts_with(rest, SLICE("\\Q"))) {
            quoted = begins = true;
            at += 2;
            continue;
        }
        if (quoted && slice_starts_with(rest, SLICE("\\E"))) {
            quoted = begins = false;
            at += 2;
            continue;
        }
        at += len;
        if (quoted && begins && is_digit(code)) {
            /* Lest it belong to an escape before the quote. */
            for (const char *c = "\\x3"; *c != '\0'; c++, n++) {
                p->text[n] = (unsigned char)*c;
                p->from[n] = here;
            }
        } else if (quoted && code < 0x80 && !is_letter(code) && !is_digit(code)) {
            p->text[n] = '\\';
            p->from[n++] = here;
        }
        begins = false;
        p->text[n] = code;
        p->from[n++] = here;
        if (!quoted && code == '\\' && at < java.len) {
            if (!utf8_first(slice_from(java, at), &len, &code))
                continue; /* refused in the next round */
            p->text[n] = code;
            p->from[n++] = (uint32_t)at;
            at += len;
        }
    }
    p->len = n;
    p->from[n] = p->from[n + 1] = (uint32_t)java.len;
    return 0;
}

/* --- characters and sets --- */

static int append(struct buf *to, const char *text)
{
    return buf_append(to, slice_of(text));
}

static int append_char(struct buf *to, uint32_t c)
{
    char utf8[UTF8_LEN_MAX];

    if (is_letter(c) || is_digit(c) || c == '_' || c == ' ')
        return buf_append_char(to, (char)c);
    if (c > ' ' && c < 0x7f) {
        int r = buf_append_char(to, '\\');
        return r < 0 ? r : buf_append_char(to, (char)c);
    }
    if (c < 0xa1)
        return buf_printf(to, "\\x{%x}", (unsigned)c);
    return buf_append(to, (struct slice){utf8, utf8_encode(c, utf8)});
}

/* Characters that are no ASCII, and yet are of an ASCII letter's kind for Character.toUpperCase and
 * toLowerCase.  All others of that sort are among themselves. */
static const struct {
    uint32_t code, upper, lower; /* lower: of upper */
} kin[] = {{0x130, 0x130, 'i'}, {0x131, 'I', 'i'}, {0x17f, 'S', 's'}, {0x212a, 0x212a, 'k'}};

/* What (?i), or (?iu), adds to the range of `low` to `high`.  A single character is such a range,
 * but compared in another way: by Pattern.SingleU. */
static int append_kin(struct parser *p, struct buf *to, uint32_t low, uint32_t high)
{
    int r = 0;

    if ((p->flags & FLAG_CASELESS) == 0)
        return 0;
    if ((p->flags & FLAG_UNICODE_CASE) && high >= 0x80 && !(low == 0 && high == 0x10ffff))
        return refuse(p, -ENOTSUP, "(?iu) with characters that are no ASCII is not supported");
    for (uint32_t c = 'A'; c <= 'z' && r == 0; c++) {
        uint32_t other = c ^ 0x20;
        if (is_letter(c) && (c < low || c > high) && other >= low && other <= high)
            r = append_char(to, c);
    }
    for (size_t i = 0; i < ARRAY_LEN(kin) && r == 0 && (p->flags & FLAG_UNICODE_CASE); i++) {
        uint32_t upper = kin[i].upper, lower = kin[i].lower;
        bool in = (upper >= low && upper <= high) || (lower >= low && lower <= high);

        if (low == high)
            in = (low | 0x20) == lower && is_letter(low);
        if (in && (kin[i].code < low || kin[i].code > high))
            r = buf_printf(to, "\\x{%x}", (unsigned)kin[i].code);
    }
    return r;
}

/* A literal outside of brackets. */
static int append_literal(struct parser *p, uint32_t c)
{
    int r;

    if ((p->flags & FLAG_CASELESS) == 0 ||
        (!is_letter(c) && (c < 0x80 || (p->flags & FLAG_UNICODE_CASE) == 0)))
        return append_char(p->to, c);
    r = append(p->to, "[");
    if (r == 0)
        r = append_char(p->to, c);
    if (r == 0)
        r = append_kin(p, p->to, c, c);
    return r < 0 ? r : append(p->to, "]");
}

/* Makes an expression of a set, if it is none. */
static int set_close(struct set *s)
{
    struct buf text;
    int r;

    if (s->is_expression)
        return 0;
    buf_init(&text, TEXT_MAX);
    r = append(&text, s->is_negated ? "[^" : "[");
    if (r == 0)
        r = buf_append(&text, buf_slice(&s->text));
    if (r == 0)
        r = append(&text, "]");
    buf_done(&s->text);
    s->text = text;
    s->is_expression = true;
    return r;
}

/* a = a or b, a = a and b. */
static int set_join(struct set *a, struct set *b, bool both)
{
    struct buf text;
    int r;

    if (!both && !a->is_expression && !b->is_expression && !a->is_negated && !b->is_negated)
        return buf_append(&a->text, buf_slice(&b->text));
    if (!both && a->text.len == 0 && !a->is_expression) { /* nothing, or b */
        struct set other = *a;
        *a = *b;
        *b = other;
        return 0;
    }
    r = set_close(a);
    if (r == 0)
        r = set_close(b);
    if (r < 0)
        return r;
    buf_init(&text, TEXT_MAX);
    r = append(&text, both ? "(?:(?=" : "(?:");
    if (r == 0)
        r = buf_append(&text, buf_slice(&a->text));
    if (r == 0)
        r = append(&text, both ? ")" : "|");
    if (r == 0)
        r = buf_append(&text, buf_slice(&b->text));
    if (r == 0)
        r = append(&text, ")");
    buf_done(&a->text);
    a->text = text;
    return r;
}

/* --- \p{...} --- */

static const struct {
    const char *java, *positive,
        *negative; /* to stand between brackets; NULL: the list is PCRE2's */
} properties[] = {
    {"ASCII", "\\x{0}-\\x{7f}", "\\x{80}-\\x{10ffff}"},
    {"Alnum", "0-9A-Za-z", "\\x{0}-/:-@\\[-`{-\\x{10ffff}"},
    {"Alpha", "A-Za-z", "\\x{0}-@\\[-`{-\\x{10ffff}"},
    {"Blank", "\\t ", "\\x{0}-\\x{8}\\x{a}-\\x{1f}!-\\x{10ffff}"},
    {"Cntrl", "\\x{0}-\\x{1f}\\x{7f}", " -~\\x{80}-\\x{10ffff}"},
    {"Digit", "0-9", "\\x{0}-/:-\\x{10ffff}"},
    {"Graph", "!-~", "\\x{0}- \\x{7f}-\\x{10ffff}"},
    {"Lower", "a-z", "\\x{0}-`{-\\x{10ffff}"},
    {"Print", " -~", "\\x{0}-\\x{1f}\\x{7f}-\\x{10ffff}"},
    {"Punct", "!-/:-@\\[-`{-~", "\\x{0}- 0-9A-Za-z\\x{7f}-\\x{10ffff}"},
    {"Space", "\\t-\\r ", "\\x{0}-\\x{8}\\x{e}-\\x{1f}!-\\x{10ffff}"},
    {"Upper", "A-Z", "\\x{0}-@\\[-\\x{10ffff}"},
    {"XDigit", "0-9A-Fa-f", "\\x{0}-/:-@G-`g-\\x{10ffff}"},
    {"L1", "\\x{0}-\\x{ff}", "\\x{100}-\\x{10ffff}"},
};

static const char *const categories[] = {"C",  "Cc", "Cf", "Cn", "Co", "L",  "Ll", "Lm", "Lo",
                                         "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl",
                                         "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps",
                                         "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};

/* Behind "Is", and whatever their case (Pattern's UnicodeProp). */
static const struct {
    const char *java, *pcre2;
} binaries[] = {
    {"ALPHABETIC", "Alphabetic"},   {"LETTER", "L"},
    {"IDEOGRAPHIC", "Ideographic"}, {"LOWERCASE", "Lowercase"},
    {"UPPERCASE", "Uppercase"},     {"TITLECASE", "Lt"},
    {"WHITE_SPACE", "White_Space"}, {"CONTROL", "Cc"},
    {"PUNCTUATION", "P"},           {"DIGIT", "Nd"},
};

/* Java's \p{IsX} is the script, PCRE2's \p{X} also what other scripts share of it: hence "sc:". */
static const char *const scripts[] = {"Arabic",     "Armenian",  "Bengali",  "Common",   "Cyrillic",
                                      "Devanagari", "Ethiopic",  "Georgian", "Greek",    "Han",
                                      "Hangul",     "Hebrew",    "Hiragana", "Katakana", "Khmer",
                                      "Latin",      "Mongolian", "Tamil",    "Thai",     "Tibetan"};

static bool same_letters(const char *a, const char *b)
{
    for (; *a != '\0' && (*a == *b || (is_letter((unsigned char)*a) && (*a ^ *b) == 0x20)); a++)
        b++;
    return *a == *b;
}

/* What stands between brackets for a property's name, in `to` (of 80 bytes); or false. */
static bool find_property(const char *name, bool negated, char *to)
{
    bool is = strncmp(name, "Is", 2) == 0;
    const char *found = NULL, *prefix = "";
    const char *rest = is ? name + 2 : name;

    if (strncmp(name, "sc=", 3) == 0 || strncmp(name, "script=", 7) == 0) {
        rest = strchr(name, '=') + 1;
        for (size_t i = 0; i < ARRAY_LEN(scripts); i++)
            if (same_letters(scripts[i], rest))
                found = scripts[i];
        prefix = "sc:";
    } else {
        if (strncmp(name, "gc=", 3) == 0 || strncmp(name, "general_category=", 17) == 0)
            rest = strchr(name, '=') + 1;
        for (size_t i = 0; i < ARRAY_LEN(properties) && rest == name; i++)
            if (strcmp(properties[i].java, name) == 0) {
                (void)snprintf(to, 80, "%s",
                               negated ? properties[i].negative : properties[i].positive);
                return true;
            }
        for (size_t i = 0; i < ARRAY_LEN(binaries) && is; i++)
            if (same_letters(binaries[i].java, rest))
                found = binaries[i].pcre2;
        for (size_t i = 0; i < ARRAY_LEN(categories) && found == NULL; i++)
            if (strcmp(categories[i], rest) == 0)
                found = categories[i];
        for (size_t i = 0; i < ARRAY_LEN(scripts) && is && found == NULL; i++)
            if (same_letters(scripts[i], rest)) {
                found = scripts[i];
                prefix = "sc:";
            }
    }
    if (found == NULL)
        return false;
    (void)snprintf(to, 80, "\\%c{%s%s}", negated ? 'P' : 'p', prefix, found);
    return true;
}

/* Case and (?i): Java 8 ignores it, later ones do not. */
static bool is_about_case(const char *name)
{
    static const char *const all[] = {"Lower",       "Upper",       "Ll",         "Lu",
                                      "Lt",          "IsLl",        "IsLu",       "IsLt",
                                      "IsLowercase", "IsUppercase", "IsTitlecase"};

    if (strchr(name, '=') != NULL)
        name = strchr(name, '=') + 1;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (same_letters(all[i], name))
            return true;
    return false;
}

/* At the p of a \p or \P; appends what stands between brackets. */
static int parse_property(struct parser *p, struct buf *to)
{
    bool negated = p->text[p->at++] == 'P';
    char name[40] = "", found[80];
    size_t n = 0;

    if (p->at >= p->len)
        return refuse(p, -EINVAL, "the pattern ends within a \\p");
    if (p->text[p->at] != '{') {
        name[0] = (char)MIN(p->text[p->at], (uint32_t)0x7f);
        p->at++;
    } else {
        for (p->at++; p->at < p->len && p->text[p->at] != '}'; p->at++) {
            if (n + 1 < sizeof name)
                name[n++] = (char)MIN(p->text[p->at], (uint32_t)0x7f);
        }
        if (p->at >= p->len)
            return refuse(p, -EINVAL, "a \\p{ lacks its }");
        if (n == 0)
            return refuse(p, -EINVAL, "a \\p{} names no property");
        p->at++;
    }
    if (!find_property(name, negated, found))
        return refuse(p, -ENOTSUP, "the property \\p{%s} is not supported", name);
    if ((p->flags & FLAG_CASELESS) && is_about_case(name))
        return refuse(p, -ENOTSUP, "the property \\p{%s} under (?i) is not supported", name);
    return append(to, found);
}

/* --- escapes --- */

static int parse_hex(struct parser *p, int32_t *ret)
{
    int high, low;
    uint32_t code = 0;

    if (p->text[p->at] == '{' && hex_value(p->text[p->at + 1]) >= 0) {
        for (p->at++; hex_value(p->text[p->at]) >= 0; p->at++) {
            code = code << 4 | (uint32_t)hex_value(p->text[p->at]);
            if (code > 0x10ffff)
                return refuse(p, -EINVAL, "a \\x{...} is no character");
        }
        if (p->text[p->at] != '}')
            return refuse(p, -EINVAL, "a \\x{ lacks its }");
        p->at++;
    } else {
        high = hex_value(p->text[p->at]);
        low = high < 0 ? -1 : hex_value(p->text[p->at + 1]);
        if (low < 0)
            return refuse(p, -EINVAL, "a \\x needs two hexadecimal digits");
        code = (uint32_t)(high << 4 | low);
        p->at += 2;
    }
    *ret = (int32_t)code;
    return 0;
}

static int32_t four_digits(const struct parser *p, size_t at)
{
    uint32_t code = 0;

    for (size_t i = 0; i < 4; i++) {
        if (at + i >= p->len || hex_value(p->text[at + i]) < 0)
            return -1;
        code = code << 4 | (uint32_t)hex_value(p->text[at + i]);
    }
    return (int32_t)code;
}

static int parse_unicode(struct parser *p, int32_t *ret)
{
    int32_t code = four_digits(p, p->at), low;

    if (code < 0)
        return refuse(p, -EINVAL, "a \\u needs four hexadecimal digits");
    p->at += 4;
    if (code >= 0xd800 && code <= 0xdbff && p->text[p->at] == '\\' && p->text[p->at + 1] == 'u') {
        low = four_digits(p, p->at + 2);
        if (low >= 0xdc00 && low <= 0xdfff) {
            p->at += 6;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    *ret = code;
    return 0;
}

static int parse_octal(struct parser *p, int32_t *ret)
{
    uint32_t code = 0, first = p->text[p->at];
    size_t digits = 0, max = first <= '3' ? 3 : 2;

    for (; digits < max && p->text[p->at] >= '0' && p->text[p->at] <= '7'; digits++)
        code = code << 3 | (p->text[p->at++] - '0');
    if (digits == 0)
        return refuse(p, -EINVAL, "a \\0 needs an octal digit");
    *ret = (int32_t)code;
    return 0;
}

/* One of the escapes that are a character; at what follows the backslash.  *ret is NOT_A_CHAR if it
 * is another escape, and nothing was consumed. */
static int parse_char_escape(struct parser *p, int32_t *ret)
{
    static const char letters[] = "aefnrt", values[] = "\a\033\f\n\r\t";
    uint32_t c = p->text[p->at];
    const char *letter;
    int r = 0;

    *ret = NOT_A_CHAR;
    if (p->at >= p->len)
        return refuse(p, -EINVAL, "the pattern ends with a backslash");
    if (!is_letter(c) && !is_digit(c)) {
        p->at++;
        *ret = (int32_t)c;
        return 0;
    }
    letter = c < 0x80 ? strchr(letters, (int)c) : NULL;
    if (letter != NULL) {
        p->at++;
        *ret = (unsigned char)values[letter - letters];
        return 0;
    }
    if (strchr("0xuc", (int)c) == NULL)
        return 0;
    p->at++;
    if (c == '0')
        r = parse_octal(p, ret);
    else if (c == 'x')
        r = parse_hex(p, ret);
    else if (c == 'u')
        r = parse_unicode(p, ret);
    else if (p->at >= p->len)
        r = refuse(p, -EINVAL, "a \\c needs a character");
    else if (p->text[p->at] >= 0x80)
        r = refuse(p, -ENOTSUP, "\\c with a character that is no ASCII is not supported");
    else
        *ret = (int32_t)(p->text[p->at++] ^ 64);
    if (r == 0 && *ret >= 0xd800 && *ret <= 0xdfff)
        r = refuse(p, -ENOTSUP, "half a surrogate pair is not supported");
    return r;
}

/* The classes that are the same between brackets and outside; `\D`, `\S` and `\W` between brackets,
 * beside a \p{...}, PCRE2 takes for something else (10.42). */
static const struct {
    char letter;
    const char *outside, *inside;
} class_escapes[] = {
    {'d', "\\d", "\\d"}, {'D', "\\D", "\\x{0}-/:-\\x{10ffff}"},
    {'s', "\\s", "\\s"}, {'S', "\\S", "\\x{0}-\\x{8}\\x{e}-\\x{1f}!-\\x{10ffff}"},
    {'w', "\\w", "\\w"}, {'W', "\\W", "\\x{0}-/:-@\\[-\\^`{-\\x{10ffff}"},
    {'h', "\\h", "\\h"}, {'H', "\\H", "\\H"},
    {'v', "\\v", "\\v"}, {'V', "\\V", "\\V"},
};

static const char *class_escape(uint32_t c, bool inside)
{
    for (size_t i = 0; i < ARRAY_LEN(class_escapes); i++)
        if ((unsigned char)class_escapes[i].letter == c)
            return inside ? class_escapes[i].inside : class_escapes[i].outside;
    return NULL;
}

static int refuse_escape(struct parser *p, uint32_t c)
{
    if (c == 'X' || c == 'N')
        return refuse(p, -ENOTSUP, "\\%c is not supported", (char)c);
    return refuse(p, -EINVAL, "\\%c is no escape that Java knows", (char)c);
}

static int append_reference(struct parser *p, unsigned number)
{
    if (number <= p->group_count && p->groups[number].is_open)
        return refuse(p, -ENOTSUP, "a reference to the group it stands in is not supported");
    if (p->flags & FLAG_CASELESS)
        return refuse(p, -ENOTSUP, "a back reference under (?i) is not supported");
    if (number > p->reference_max) {
        p->reference_max = number;
        p->reference_at = p->at;
    }
    return buf_printf(p->to, "\\g{%u}", number);
}

/* At the first digit.  More digits belong to it as long as there are that many groups so far. */
static int parse_reference(struct parser *p)
{
    unsigned number = p->text[p->at++] - '0';

    for (;;) {
        uint32_t c = peek(p);
        unsigned more = 10 * number + (c - '0');

        if (!is_digit(c) || more > p->group_count)
            break;
        number = more;
        p->at++;
    }
    return append_reference(p, number);
}

/* A group's name, up to and with the '>'. */
static int parse_name(struct parser *p, char name[NAME_MAX_LEN + 1])
{
    size_t n = 0;

    for (; is_letter(p->text[p->at]) || (n > 0 && is_digit(p->text[p->at])); p->at++) {
        if (n == NAME_MAX_LEN)
            return refuse(p, -ENOTSUP, "a group's name of more than %d characters is not supported",
                          (int)NAME_MAX_LEN);
        name[n++] = (char)p->text[p->at];
    }
    name[n] = '\0';
    if (n == 0)
        return refuse(p, -EINVAL, "a group's name begins with a letter");
    if (p->text[p->at] != '>')
        return refuse(p, -EINVAL, "a group's name has letters and digits and ends with '>'");
    p->at++;
    return 0;
}

static unsigned find_group(const struct parser *p, const char *name)
{
    for (unsigned n = 1; n <= p->group_count; n++)
        if (strcmp(p->groups[n].name, name) == 0)
            return n;
    return 0;
}

/* $ and \Z, and with (?m) also $. */
static int append_end(struct parser *p, bool multiline)
{
    if (p->flags & FLAG_UNIX_LINES)
        return append(p->to, multiline ? "(?:(?=\\n|\\z))" : "(?:(?=\\n?\\z))");
    if (multiline)
        return append(p->to, "(?:(?!(?<=\\r)\\n)(?=[" TERMINATORS "]|\\z))");
    return append(p->to, "(?:(?!(?<=\\r)\\n)(?=(?:\\r\\n|[" TERMINATORS "])?\\z))");
}

static int append_begin(struct parser *p)
{
    if ((p->flags & FLAG_MULTILINE) == 0)
        return append(p->to, "(?:\\A)");
    if (p->flags & FLAG_UNIX_LINES)
        return append(p->to, "(?:(?!\\z)(?:\\A|(?<=\\n)))");
    return append(p->to, "(?:(?!\\z)(?:\\A|(?<=[\\n\\x{85}\\x{2028}\\x{2029}])|(?<=\\r)(?!\\n)))");
}

/* A backslash outside of brackets. */
static int parse_escape(struct parser *p)
{
    char name[NAME_MAX_LEN + 1];
    const char *class;
    int32_t code;
    uint32_t c;
    int r;

    p->at++;
    r = parse_char_escape(p, &code);
    if (r < 0)
        return r;
    if (code != NOT_A_CHAR)
        return append_literal(p, (uint32_t)code);
    c = p->text[p->at];
    if (c == 'p' || c == 'P') {
        r = append(p->to, "[");
        if (r == 0)
            r = parse_property(p, p->to);
        return r < 0 ? r : append(p->to, "]");
    }
    if (is_digit(c)) {
        p->nullable = true;
        return parse_reference(p);
    }
    class = class_escape(c, false);
    p->nullable = class == NULL && c != 'R';
    if (class == NULL && strchr("ABGRZbkz", (int)c) == NULL)
        return refuse_escape(p, c);
    if (c == 'G')
        return refuse(p, -ENOTSUP, "\\G is not supported");
    p->at++;
    if (class != NULL)
        return append(p->to, class);
    switch (c) {
    case 'A':
        return append(p->to, "(?:\\A)");
    case 'Z':
        return append_end(p, false);
    case 'z':
        return append(p->to, "(?:\\z)");
    case 'R': /* atomic in Java 8; a later one would give back the \n of \r\n */
        return append(p->to, "(?>\\r\\n|[\\n\\x{b}\\f\\r\\x{85}\\x{2028}\\x{2029}])");
    case 'b':
        return append(p->to, "(?:" BOUNDARY ")");
    case 'B':
        return append(p->to, "(?:(?!" BOUNDARY "))");
    default: /* k */
        if (p->text[p->at] != '<')
            return refuse(p, -EINVAL, "a \\k needs a '<' behind it");
        p->at++;
        r = parse_name(p, name);
        if (r < 0)
            return r;
        if (find_group(p, name) == 0)
            return refuse(p, -EINVAL, "there is no group '%s' before the \\k", name);
        return append_reference(p, find_group(p, name));
    }
}

/* --- classes --- */

/* One character, escape or range between brackets. */
static int parse_range(struct parser *p, struct buf *to)
{
    int32_t low = (int32_t)peek(p), high;
    const char *class;
    int r;

    if (low == '\\') {
        p->at++;
        if (p->text[p->at] == 'p' || p->text[p->at] == 'P')
            return parse_property(p, to);
        /* As long as there was no \v, it was a vertical tab: and still is at the end of a range. */
        if (p->text[p->at] == 'v' && p->text[p->at + 1] == '-')
            return refuse(p, -ENOTSUP, "\\v at the end of a range is not supported");
        class = class_escape(p->text[p->at], true);
        if (class != NULL) {
            p->at++;
            return append(to, class);
        }
        r = parse_char_escape(p, &low);
        if (r < 0)
            return r;
        if (low == NOT_A_CHAR)
            return refuse_escape(p, p->text[p->at]);
    } else {
        p->at++;
    }
    high = low;
    if (peek(p) == '-' && p->text[p->at + 1] != '[' && p->text[p->at + 1] != ']' &&
        p->at + 1 < p->len) {
        p->at++;
        if (peek(p) == '[' || peek(p) == ']')
            return refuse(p, -ENOTSUP, "a range that ends in a comment is not supported");
        if (peek(p) == '\\') {
            p->at++;
            if (p->text[p->at] == 'v')
                return refuse(p, -ENOTSUP, "\\v at the end of a range is not supported");
            r = parse_char_escape(p, &high);
            if (r < 0)
                return r;
            if (high == NOT_A_CHAR)
                return refuse(p, -EINVAL, "a range cannot end with a class");
        } else if (p->at >= p->len) {
            return refuse(p, -EINVAL, "a '[' lacks its ']'");
        } else {
            high = (int32_t)p->text[p->at++];
        }
        if (high < low)
            return refuse(p, -EINVAL, "a range ends before it begins");
    }
    r = append_char(to, (uint32_t)low);
    if (r == 0 && high > low) {
        r = append(to, "-");
        if (r == 0)
            r = append_char(to, (uint32_t)high);
    }
    return r < 0 ? r : append_kin(p, to, (uint32_t)low, (uint32_t)high);
}

/* What stands behind &&: classes, or members, up to the ']' or the next &&. */
static int parse_operand(struct parser *p, struct set *ret)
{
    struct set other = {0};
    bool classes = false, members = false;
    int r = 0;

    while (r == 0 && peek(p) != ']' && peek(p) != '&') {
        if (at_end(p)) {
            r = refuse(p, -EINVAL, "a '[' lacks its ']'");
        } else if (peek(p) == '[') {
            classes = true;
            r = parse_class(p, &other);
            if (r == 0)
                r = set_join(ret, &other, false);
            buf_done(&other.text);
        } else if (peek(p) == '^') {
            r = refuse(p, -ENOTSUP, "a '^' behind && is not supported");
        } else {
            members = true;
            r = parse_range(p, &ret->text);
        }
        /* Java forgets the classes then. */
        if (r == 0 && classes && members)
            r = refuse(p, -ENOTSUP, "classes mixed with characters behind && are not supported");
    }
    if (r == 0 && !classes && !members)
        r = refuse(p, -ENOTSUP, "a && without anything behind it is not supported");
    return r;
}

/* A class, from its '['. */
static int parse_class(struct parser *p, struct set *ret)
{
    bool negated = false, any = false, nested = false, intersected = false;
    struct set other = {0};
    int r = 0;

    buf_init(&ret->text, TEXT_MAX);
    ret->is_expression = ret->is_negated = false;
    if (++p->depth > DEPTH_MAX)
        return refuse(p, -ENOTSUP, "so many classes in each other are not supported");
    p->at++;
    if (p->text[p->at] == '^') {
        negated = true;
        p->at++;
    } else if (peek(p) == '^') {
        return refuse(p, -ENOTSUP, "a space between '[' and '^' is not supported");
    }
    while (r == 0) {
        uint32_t c = peek(p);

        if (at_end(p)) {
            r = refuse(p, -EINVAL, "a '[' lacks its ']'");
        } else if (c == ']' && any) {
            p->at++;
            break;
        } else if (c == '&' && (p->flags & FLAG_COMMENTS) && p->text[p->at + 1] != '&') {
            r = refuse(p, -ENOTSUP, "a '&' in a class under (?x) is not supported");
        } else if (intersected && !(c == '&' && p->text[p->at + 1] == '&')) {
            r = refuse(p, -ENOTSUP, "a class that goes on after && is not supported");
        } else if (c == '[') {
            nested = any = true;
            r = parse_class(p, &other);
            if (r == 0)
                r = set_join(ret, &other, false);
            buf_done(&other.text);
        } else if (c == '^' && !any && negated) {
            r = refuse(p, -ENOTSUP, "a second '^' in a class is not supported");
        } else if (c == '&' && p->text[p->at + 1] == '&') {
            p->at += 2;
            nested = intersected = true;
            if (!any)
                r = refuse(p, -ENOTSUP, "a && without anything before it is not supported");
            buf_init(&other.text, TEXT_MAX);
            other.is_expression = other.is_negated = false;
            if (r == 0)
                r = parse_operand(p, &other);
            if (r == 0)
                r = set_join(ret, &other, true);
            buf_done(&other.text);
        } else {
            struct set more = {0};

            any = true;
            buf_init(&more.text, TEXT_MAX);
            r = parse_range(p, &more.text);
            if (r == 0)
                r = set_join(ret, &more, false);
            buf_done(&more.text);
        }
        /* Java 8 negates what came before, Java 9 the whole. */
        if (r == 0 && negated && nested)
            r = refuse(p, -ENOTSUP,
                       "a negated class with another one or && in it is not supported");
    }
    p->depth--;
    if (r == 0 && negated)
        ret->is_negated = true;
    return r;
}

static int append_class(struct parser *p)
{
    struct set set = {0};
    int r = parse_class(p, &set);

    if (r == 0)
        r = set_close(&set);
    if (r == 0)
        r = buf_append(p->to, buf_slice(&set.text));
    buf_done(&set.text);
    return r;
}

/* --- groups --- */

/* The letters of (?...): stops at the first that is none. */
static int parse_flags(struct parser *p)
{
    static const char letters[] = "imsdux";
    bool off = false;

    for (;; p->at++) {
        uint32_t c = p->text[p->at];
        const char *letter = c != '\0' && c < 0x80 ? strchr(letters, (int)c) : NULL;

        if (c == '-' && !off) {
            off = true;
            continue;
        }
        if (c == 'c' || c == 'U')
            return refuse(p, -ENOTSUP, "the flag (?%c) is not supported", (char)c);
        if (letter == NULL)
            return 0;
        if (off)
            p->flags &= ~(1U << (letter - letters));
        else
            p->flags |= 1U << (letter - letters);
    }
}

static int open_group(struct parser *p, const char *name)
{
    if (p->aside)
        return refuse(p, -ENOTSUP,
                      "a capturing group in a lookaround or an atomic group is not supported");
    if (p->group_count + 1 >= GROUPS_MAX)
        return refuse(p, -ENOTSUP, "more than %d groups are not supported", GROUPS_MAX - 1);
    p->group_count++;
    p->groups[p->group_count].is_open = true;
    (void)snprintf(p->groups[p->group_count].name, NAME_MAX_LEN + 1, "%s", name);
    if (name[0] == '\0')
        return append(p->to, "(");
    return buf_printf(p->to, "(?<%s>", name);
}

/* What opens a group, from its '(' on.  *ret_any is false if it was but flags. */
static int parse_group_open(struct parser *p, bool *ret_any)
{
    char name[NAME_MAX_LEN + 1];
    uint32_t c;
    int r;

    *ret_any = true;
    p->at++;
    if (p->text[p->at] != '?') {
        if (peek(p) == '?')
            return refuse(p, -ENOTSUP, "a space between '(' and '?' is not supported");
        return open_group(p, "");
    }
    p->at++;
    c = p->text[p->at];
    if (c == ':' || c == '=' || c == '!' || c == '>') {
        p->at++;
        p->aside = p->aside || c != ':';
        return buf_printf(p->to, "(?%c", (char)c);
    }
    if (c == '<') {
        p->at++;
        c = p->text[p->at];
        if (is_letter(c)) {
            r = parse_name(p, name);
            if (r < 0)
                return r;
            if (find_group(p, name) != 0)
                return refuse(p, -EINVAL, "the group '%s' is there already", name);
            return open_group(p, name);
        }
        if (c != '=' && c != '!')
            return refuse(p, -EINVAL, "(?< needs a letter, '=' or '!' behind it");
        p->at++;
        p->aside = true;
        return buf_printf(p->to, "(?<%c", (char)c);
    }
    r = parse_flags(p);
    if (r < 0)
        return r;
    c = p->text[p->at];
    if (c != ')' && c != ':')
        return refuse(p, -EINVAL, "there is no group that begins like this");
    p->at++;
    *ret_any = c == ':';
    return *ret_any ? append(p->to, "(?:") : 0;
}

/* A whole group.  *ret_any as above: flags alone hold until the group around them ends. */
static int parse_group(struct parser *p, bool *ret_any)
{
    struct parser outer = *p;
    unsigned number;
    bool around;
    int r = parse_group_open(p, ret_any);

    if (r < 0 || !*ret_any)
        return r;
    number = p->group_count > outer.group_count ? p->group_count : 0;
    around = p->to->ptr[p->to->len - 1] == '=' || p->to->ptr[p->to->len - 1] == '!';
    if (++p->depth > DEPTH_MAX)
        return refuse(p, -ENOTSUP, "so many groups in each other are not supported");
    r = parse_alternatives(p);
    if (r < 0)
        return r;
    if (at_end(p))
        return refuse(p, -EINVAL, "a '(' lacks its ')'");
    p->at++;
    if (number > 0)
        p->groups[number].is_open = false;
    p->nullable = p->nullable || around;
    p->flags = outer.flags;
    p->depth = outer.depth;
    p->aside = outer.aside;
    return append(p->to, ")");
}

/* --- sequences --- */

/* {n}, {n,} or {n,m}, from its '{'. */
static int parse_counts(struct parser *p)
{
    uint32_t counts[2] = {0, 0};
    size_t n = 0;
    bool open = false;

    if (!is_digit(p->text[p->at + 1]))
        return refuse(p, -EINVAL, "a '{' needs a number behind it");
    for (p->at++; p->at < p->len && p->text[p->at] != '}'; p->at++) {
        uint32_t c = p->text[p->at];

        if (c == ',' && n == 0) {
            n = 1;
            open = true;
            continue;
        }
        if ((p->flags & FLAG_COMMENTS) && (is_space(c) || c == '#'))
            return refuse(p, -ENOTSUP, "a space or comment in a repetition is not supported");
        if (!is_digit(c))
            return refuse(p, -EINVAL, "a repetition is {n}, {n,} or {n,m}");
        counts[n] = 10 * counts[n] + (c - '0');
        open = false;
        if (counts[n] > REPEAT_MAX)
            return refuse(p, -ENOTSUP, "more than %d repetitions are not supported", REPEAT_MAX);
    }
    if (p->at >= p->len)
        return refuse(p, -EINVAL, "a '{' lacks its '}'");
    p->at++;
    if (n == 0)
        return buf_printf(p->to, "{%u}", (unsigned)counts[0]);
    if (open)
        return buf_printf(p->to, "{%u,}", (unsigned)counts[0]);
    if (counts[1] < counts[0])
        return refuse(p, -EINVAL, "a repetition ends before it begins");
    return buf_printf(p->to, "{%u,%u}", (unsigned)counts[0], (unsigned)counts[1]);
}

/* What may follow an atom, once.  Whether a group is set by an iteration that matched nothing is a
 * question with several answers. */
static int parse_quantifier(struct parser *p, bool has_groups)
{
    uint32_t c = peek(p);
    int r;

    if (at_end(p))
        return 0;
    if (has_groups && p->nullable && (c == '{' || c == '*' || c == '+'))
        return refuse(p, -ENOTSUP, "to repeat a group that may be empty is not supported");
    if (c == '{') {
        p->nullable = p->nullable || p->text[p->at + 1] == '0';
        r = parse_counts(p);
    } else if (c == '?' || c == '*' || c == '+') {
        p->at++;
        p->nullable = p->nullable || c != '+';
        r = buf_append_char(p->to, (char)c);
    } else {
        return 0;
    }
    if (r < 0)
        return r;
    c = peek(p);
    if (c != '?' && c != '+')
        return 0;
    if (c == '+' && has_groups)
        return refuse(p, -ENOTSUP, "a possessive repetition of a capturing group is not supported");
    p->at++;
    return buf_append_char(p->to, (char)c);
}

static int parse_atom(struct parser *p, uint32_t c)
{
    p->nullable = c == '^' || c == '$' || c == '{';
    switch (c) {
    case '[':
        return append_class(p);
    case '\\':
        return parse_escape(p);
    case '^':
        p->at++;
        return append_begin(p);
    case '$':
        p->at++;
        return append_end(p, (p->flags & FLAG_MULTILINE) != 0);
    case '.':
        p->at++;
        if (p->flags & FLAG_DOTALL)
            return append(p->to, ".");
        return append(p->to, p->flags & FLAG_UNIX_LINES ? "[^\\n]" : "[^" TERMINATORS "]");
    case '?':
    case '*':
    case '+':
        return refuse(p, -EINVAL, "there is nothing before the '%c' to repeat", (char)c);
    case '{': /* Java repeats the nothing before it */
        return append(p->to, "(?:)");
    default:
        p->at++;
        return append_literal(p, c);
    }
}

static int parse_sequence(struct parser *p)
{
    bool nullable = true;
    int r = 0;

    while (r == 0 && !at_end(p)) {
        unsigned group_count = p->group_count;
        uint32_t c = peek(p);
        bool any = true;

        if (c == '|' || c == ')')
            break;
        r = c == '(' ? parse_group(p, &any) : parse_atom(p, c);
        if (r == 0 && any)
            r = parse_quantifier(p, p->group_count > group_count);
        if (any)
            nullable = nullable && p->nullable;
    }
    p->nullable = nullable;
    return r;
}

static int parse_alternatives(struct parser *p)
{
    int r = parse_sequence(p);
    bool nullable = p->nullable;

    while (r == 0 && !at_end(p) && peek(p) == '|') {
        p->at++;
        r = append(p->to, "|");
        if (r == 0)
            r = parse_sequence(p);
        nullable = nullable || p->nullable;
    }
    p->nullable = nullable;
    return r;
}

static int parse(struct parser *p)
{
    int r = append(p->to, "(?s)");

    if (r == 0)
        r = parse_alternatives(p);
    if (r == 0 && !at_end(p))
        r = refuse(p, -EINVAL, "a ')' has no '(' before it");
    if (r == 0 && p->reference_max > p->group_count) {
        p->at = p->reference_at;
        r = refuse(p, -ENOTSUP, "a reference to a group that is not there is not supported");
    }
    return r;
}

/* What we think is right, PCRE2 may still not take: a lookbehind of no fixed length, say. */
static int check(struct parser *p, struct slice translation)
{
    struct pattern_error e;
    struct pattern *pattern;
    int r = pattern_new(translation, PATTERN_UTF, &pattern, &e);

    p->at = 0;
    if (r == -EINVAL)
        return refuse(p, -ENOTSUP, "PCRE2 does not support it: %.120s", e.text);
    if (r == 0)
        pattern_free(pattern);
    return r;
}

int java_regex_translate(struct slice java, struct buf *to, struct pattern_error *ret_error)
{
    struct parser p = {.to = to, .error = ret_error};
    size_t before = to->len;
    int r = 0;

    *ret_error = (struct pattern_error){0};
    if (java.len > TEXT_MAX)
        return refuse(&p, -ENOTSUP, "a pattern of more than 1 MiB is not supported");
    p.groups = calloc(GROUPS_MAX, sizeof *p.groups);
    if (p.groups == NULL)
        r = -ENOMEM;
    if (r == 0)
        r = read_text(&p, java);
    if (r == 0)
        r = parse(&p);
    if (r == 0)
        r = check(&p, slice_from(buf_slice(to), before));
    if (r < 0)
        to->len = before;
    free(p.groups);
    free(p.from);
    free(p.text);
    return r;
}
