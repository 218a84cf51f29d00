#include "json.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/types.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "buf.h"
#include "utf8.h"
#include "util.h"

/* What may come next; blanks may come before any of it.
 *
 *     VALUE -- scalar --> AFTER, or DONE when nothing is open
 *     VALUE -- [ --> FIRST_VALUE          VALUE -- { --> FIRST_KEY
 *     FIRST_VALUE: a VALUE or ]           FIRST_KEY: a key or }
 *     key, colon --> VALUE
 *     AFTER -- , --> VALUE or a key, by the container     AFTER -- ] or } --> AFTER or DONE
 *     anything else --> BROKEN, for ever; what is open too often --> TOO_DEEP, which is the same
 *     but for its reason */
enum state { VALUE, FIRST_VALUE, FIRST_KEY, AFTER, DONE, BROKEN, TOO_DEEP };

enum { ESCAPE_LEN = 6 }; /* backslash, 'u', four digits */

/* -- a string's bytes ------------------------------------------------------------------------ */

#define ONES  0x0101010101010101ULL
#define HIGHS 0x8080808080808080ULL

/* Marks (0x80) the bytes of a word below `limit` <= 0x80.  Borrowing can mark too much, but only
 * above the lowest mark, which is the one that counts. */
static uint64_t below(uint64_t word, uint8_t limit)
{
    return (word - ONES * limit) & ~word & HIGHS;
}

static bool is_plain(char c)
{
    return c != '"' && c != '\\' && (uint8_t)c >= 0x20;
}

#ifdef __SSE2__
/* Which of sixteen bytes are special: bit n is the n-th.  `stop` as below. */
static unsigned special_bits(const char *from, uint64_t stop)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)from);
    __m128i special = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    unsigned high = stop != 0 ? (unsigned)_mm_movemask_epi8(bytes) : 0;

    special = _mm_or_si128(special, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
    special = _mm_or_si128(special, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    return (unsigned)_mm_movemask_epi8(special) | high;
}
#endif

/* How many bytes from `at` on mean nothing special in a string; sixteen or eight at a time, since a
 * sequence number has 56.  With `stop` HIGHS it stops at bytes that are not ASCII too; else `stop` is
 * 0. */
static size_t plain_len(struct slice s, size_t at, uint64_t stop)
{
    size_t i = at;

#ifdef __SSE2__
    for (; s.len - i >= sizeof(__m128i); i += sizeof(__m128i)) {
        unsigned bits = special_bits(s.ptr + i, stop);

        if (bits != 0)
            return i - at + (size_t)__builtin_ctz(bits);
    }
#endif
    for (; s.len - i >= sizeof(uint64_t); i += sizeof(uint64_t)) {
        uint64_t word, marks;

        memcpy(&word, s.ptr + i, sizeof word);
        word = le64toh(word); /* the first byte lowest, where __builtin_ctz looks first */
        marks = below(word, 0x20) | below(word ^ ONES * '"', 1) | below(word ^ ONES * '\\', 1) |
                (word & stop);
        if (marks != 0)
            return i - at + (size_t)__builtin_ctzll(marks) / 8;
    }
    while (i < s.len && is_plain(s.ptr[i]) && (stop == 0 || (uint8_t)s.ptr[i] < 0x80))
        i++;
    return i - at;
}

/* The four digits after "\u", or -1. */
static int32_t hex4(struct slice s)
{
    int32_t value = 0;

    if (s.len < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        char c = s.ptr[i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            value = value << 4 | (c - 'A' + 10);
        else
            return -1;
    }
    return value;
}

/* What the character after a backslash stands for; 0 if it is none, or 'u'. */
static char short_escape(char c)
{
    switch (c) {
    case '"':
    case '\\':
    case '/':
        return c;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return 0;
    }
}

/* The escape at the beginning of `s`: returns its length in `s`, 0 if it is not valid, and the
 * character it stands for.  Two surrogates in a row are one escape; a lone one is U+FFFD. */
static size_t escape_first(struct slice s, uint32_t *ret_code)
{
    int32_t unit, second;

    if (s.len < 2 || s.ptr[0] != '\\')
        return 0;
    if (s.ptr[1] != 'u') {
        *ret_code = (uint8_t)short_escape(s.ptr[1]);
        return *ret_code == 0 ? 0 : 2;
    }
    unit = hex4(slice_from(s, 2));
    if (unit < 0)
        return 0;
    *ret_code = (uint32_t)unit;
    if (unit < 0xd800 || unit > 0xdfff)
        return ESCAPE_LEN;

    *ret_code = 0xfffd;
    if (unit > 0xdbff || !slice_starts_with(slice_from(s, ESCAPE_LEN), SLICE("\\u")))
        return ESCAPE_LEN;
    second = hex4(slice_from(s, ESCAPE_LEN + 2));
    if (second < 0xdc00 || second > 0xdfff)
        return ESCAPE_LEN;
    *ret_code = 0x10000 + ((uint32_t)(unit - 0xd800) << 10 | (uint32_t)(second - 0xdc00));
    return ESCAPE_LEN + ESCAPE_LEN;
}

/* -- reading --------------------------------------------------------------------------------- */

void json_init(struct json *j, struct slice text)
{
    *j = (struct json){.rest = text, .state = VALUE};
}

static void skip_blanks(struct json *j)
{
    size_t n = 0;

    /* Between most tokens of an answer there is nothing, and everything blank is at most ' '. */
    if (j->rest.len == 0 || (uint8_t)j->rest.ptr[0] > ' ')
        return;
    while (n < j->rest.len && (j->rest.ptr[n] == ' ' || j->rest.ptr[n] == '\n' ||
                               j->rest.ptr[n] == '\r' || j->rest.ptr[n] == '\t'))
        n++;
    j->rest = slice_from(j->rest, n);
}

/* The next byte, or 0, which no grammar here accepts. */
static char peek(const struct json *j)
{
    return j->rest.len > 0 ? j->rest.ptr[0] : 0;
}

/* Takes `n` bytes off as the text of a token. */
static void take(struct json *j, size_t n, enum json_type type, struct json_token *ret)
{
    *ret = (struct json_token){type, slice_first(j->rest, n)};
    j->rest = slice_from(j->rest, n);
}

/* How far the string whose first quote is before `s` goes; its last quote is there. */
static ssize_t string_len(struct slice s)
{
    size_t n = 0;

    for (;;) {
        uint32_t code;
        size_t len;

        n += plain_len(s, n, 0);
        if (n < s.len && s.ptr[n] == '"')
            return (ssize_t)n;
        len = escape_first(slice_from(s, n), &code); /* 0 at the end, or at a control character */
        if (len == 0)
            return -EBADMSG;
        n += len;
    }
}

/* `rest` begins with a quote. */
static int take_string(struct json *j, struct json_token *ret)
{
    struct slice s = slice_from(j->rest, 1);
    ssize_t n = string_len(s);

    if (n < 0)
        return (int)n;
    *ret = (struct json_token){JSON_STRING, {s.ptr, (size_t)n}};
    j->rest = slice_from(s, (size_t)n + 1);
    return 0;
}

static size_t digits_len(struct slice s, size_t at)
{
    size_t i = at;

    while (i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9')
        i++;
    return i - at;
}

/* RFC 8259, section 6: [ "-" ] int [ frac ] [ exp ], where int has no leading zero. */
static int take_number(struct json *j, struct json_token *ret)
{
    struct slice s = j->rest;
    size_t n = s.ptr[0] == '-' ? 1 : 0, digits = digits_len(s, n);

    if (digits == 0 || (digits > 1 && s.ptr[n] == '0'))
        return -EBADMSG;
    n += digits;
    if (n < s.len && s.ptr[n] == '.') {
        digits = digits_len(s, ++n);
        if (digits == 0)
            return -EBADMSG;
        n += digits;
    }
    if (n < s.len && (s.ptr[n] == 'e' || s.ptr[n] == 'E')) {
        n++;
        if (n < s.len && (s.ptr[n] == '+' || s.ptr[n] == '-'))
            n++;
        digits = digits_len(s, n);
        if (digits == 0)
            return -EBADMSG;
        n += digits;
    }
    take(j, n, JSON_NUMBER, ret);
    return 0;
}

static int take_word(struct json *j, struct slice word, enum json_type type, struct json_token *ret)
{
    if (!slice_starts_with(j->rest, word))
        return -EBADMSG;
    take(j, word.len, type, ret);
    return 0;
}

static bool in_object(const struct json *j)
{
    return j->depth > 0 && (j->is_object >> (j->depth - 1) & 1) != 0;
}

static int open_container(struct json *j, bool object, struct json_token *ret)
{
    uint64_t bit;

    if (j->depth == JSON_DEPTH_MAX) {
        j->state = TOO_DEEP;
        return -EBADMSG;
    }
    bit = 1ULL << j->depth++;
    j->is_object = object ? j->is_object | bit : j->is_object & ~bit;
    j->state = object ? FIRST_KEY : FIRST_VALUE;
    take(j, 1, object ? JSON_OBJECT_BEGIN : JSON_ARRAY_BEGIN, ret);
    return 0;
}

/* `rest` begins with the bracket that closes the innermost container. */
static int close_container(struct json *j, struct json_token *ret)
{
    take(j, 1, in_object(j) ? JSON_OBJECT_END : JSON_ARRAY_END, ret);
    j->depth--;
    j->state = j->depth > 0 ? AFTER : DONE;
    return 0;
}

static int take_value(struct json *j, struct json_token *ret)
{
    char c = peek(j);
    int r;

    switch (c) {
    case '{':
    case '[':
        return open_container(j, c == '{', ret);
    case '"':
        r = take_string(j, ret);
        break;
    case 't':
        r = take_word(j, SLICE("true"), JSON_TRUE, ret);
        break;
    case 'f':
        r = take_word(j, SLICE("false"), JSON_FALSE, ret);
        break;
    case 'n':
        r = take_word(j, SLICE("null"), JSON_NULL, ret);
        break;
    default:
        r = c == '-' || (c >= '0' && c <= '9') ? take_number(j, ret) : -EBADMSG;
        break;
    }
    j->state = j->depth > 0 ? AFTER : DONE;
    return r;
}

/* A key with its colon: nothing else may follow it, so nobody needs to see it. */
static int take_key(struct json *j, struct json_token *ret)
{
    struct slice s = slice_from(j->rest, MIN(1U, j->rest.len));
    ssize_t n = peek(j) == '"' ? string_len(s) : -EBADMSG;

    if (n < 0)
        return (int)n;
    j->rest = slice_from(s, (size_t)n + 1);
    skip_blanks(j);
    if (peek(j) != ':')
        return -EBADMSG;
    j->rest = slice_from(j->rest, 1);
    *ret = (struct json_token){JSON_KEY, {s.ptr, (size_t)n}};
    j->state = VALUE;
    return 0;
}

static int take_token(struct json *j, struct json_token *ret)
{
    skip_blanks(j);
    switch ((enum state)j->state) {
    case VALUE:
        return take_value(j, ret);
    case FIRST_VALUE:
        return peek(j) == ']' ? close_container(j, ret) : take_value(j, ret);
    case FIRST_KEY:
        return peek(j) == '}' ? close_container(j, ret) : take_key(j, ret);
    case AFTER:
        if (peek(j) == (in_object(j) ? '}' : ']'))
            return close_container(j, ret);
        if (peek(j) != ',')
            return -EBADMSG;
        j->rest = slice_from(j->rest, 1);
        skip_blanks(j);
        return in_object(j) ? take_key(j, ret) : take_value(j, ret);
    case DONE:
        if (j->rest.len > 0)
            return -EBADMSG;
        take(j, 0, JSON_END, ret);
        return 0;
    case BROKEN:
    case TOO_DEEP:
        break;
    }
    return -EBADMSG;
}

int json_next(struct json *j, struct json_token *ret)
{
    int r = take_token(j, ret);

    if (r < 0 && j->state != TOO_DEEP)
        j->state = BROKEN;
    return r;
}

bool json_is_too_deep(const struct json *j)
{
    return j->state == TOO_DEEP;
}

/* Reads on until no more than `depth` containers are open. */
static int leave_to(struct json *j, unsigned depth)
{
    struct json_token unused;
    int r = 0;

    while (j->depth > depth && r == 0)
        r = json_next(j, &unused);
    return r;
}

int json_skip(struct json *j)
{
    struct json before = *j;
    struct json_token token;
    int r = json_next(j, &token);

    if (r < 0)
        return r;
    switch (token.type) {
    case JSON_KEY:
    case JSON_OBJECT_END:
    case JSON_ARRAY_END:
    case JSON_END:
        *j = before;
        return -EINVAL;
    default:
        return leave_to(j, before.depth);
    }
}

int json_leave(struct json *j)
{
    if (j->state == BROKEN || j->state == TOO_DEEP)
        return -EBADMSG;
    if (j->depth == 0)
        return -EINVAL;
    return leave_to(j, j->depth - 1);
}

/* -- strings --------------------------------------------------------------------------------- */

static int append_code(struct buf *to, uint32_t code)
{
    char text[UTF8_LEN_MAX];

    /* cppcheck-suppress legacyUninitvar ; utf8_encode writes it */
    return buf_append(to, (struct slice){text, utf8_encode(code, text)});
}

int json_unescape(struct slice raw, struct buf *to)
{
    size_t start = to->len;
    int r = 0;

    while (raw.len > 0 && r == 0) {
        size_t len = plain_len(raw, 0, HIGHS);
        uint32_t code;

        if (len > 0) {
            r = buf_append(to, slice_first(raw, len));
        } else if ((uint8_t)raw.ptr[0] >= 0x80) {
            (void)utf8_first(raw, &len, &code);
            r = append_code(to, code);
        } else {
            len = escape_first(raw, &code);
            r = len == 0 ? -EBADMSG : append_code(to, code);
        }
        raw = slice_from(raw, len);
    }
    if (r < 0)
        to->len = start;
    return r;
}

bool json_text_equal(struct slice raw, struct slice text)
{
    /* Keys are hardly ever escaped, and escaping only makes longer. */
    if (raw.len <= text.len)
        return slice_equal(raw, text) && (raw.len == 0 || !memchr(raw.ptr, '\\', raw.len));

    while (raw.len > 0) {
        char expected[UTF8_LEN_MAX];
        struct slice piece = {expected, 0};
        const char *escape = memchr(raw.ptr, '\\', raw.len);
        size_t len = escape == NULL ? raw.len : (size_t)(escape - raw.ptr);

        if (len > 0) {
            piece = slice_first(raw, len);
        } else {
            uint32_t code;

            len = escape_first(raw, &code);
            if (len == 0)
                return false;
            piece.len = utf8_encode(code, expected);
        }
        if (!slice_starts_with(text, piece))
            return false;
        text = slice_from(text, piece.len);
        raw = slice_from(raw, len);
    }
    return text.len == 0;
}

/* -- writing --------------------------------------------------------------------------------- */

/* What follows writes into room that was measured before, without a look at each piece: a line's
 * fields are made JSON on the hot way.  Every byte that is read becomes one byte or more, so while n
 * are left to be read there is room for n. */

/* What stands behind the backslash for a character that must not stand in a string as it is; 'u':
 * it has no short form; 0: it may stand. */
static const char escapes[256] = {
    [0] = 'u',  [1] = 'u',    [2] = 'u',    [3] = 'u',    [4] = 'u',   [5] = 'u',     [6] = 'u',
    [7] = 'u',  ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', [11] = 'u',  ['\f'] = 'f',  ['\r'] = 'r',
    [14] = 'u', [15] = 'u',   [16] = 'u',   [17] = 'u',   [18] = 'u',  [19] = 'u',    [20] = 'u',
    [21] = 'u', [22] = 'u',   [23] = 'u',   [24] = 'u',   [25] = 'u',  [26] = 'u',    [27] = 'u',
    [28] = 'u', [29] = 'u',   [30] = 'u',   [31] = 'u',   ['"'] = '"', ['\\'] = '\\',
};

static char *put_escape(char *to, char c)
{
    static const char digits[] = "0123456789abcdef";
    char how = escapes[(uint8_t)c];

    *to++ = '\\';
    *to++ = how;
    if (how == 'u') {
        *to++ = '0';
        *to++ = '0';
        *to++ = digits[(uint8_t)c >> 4];
        *to++ = digits[(uint8_t)c & 0xf];
    }
    return to;
}

#ifdef __SSE2__
/* Copies the bytes that mean nothing special in a string, up to the first that does, sixteen at a
 * time; stops short of the end where fewer are left.  Moves both places on. */
static void copy_plain(char **to, const char **from, const char *end)
{
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\');
    const __m128i blank = _mm_set1_epi8(0x20);

    while (end - *from >= (ptrdiff_t)sizeof(__m128i)) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)*from);
        /* Compared with their signs: control characters, and all that is not ASCII. */
        __m128i special = _mm_cmplt_epi8(bytes, blank);
        unsigned mask, len;

        special = _mm_or_si128(special, _mm_cmpeq_epi8(bytes, quote));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(bytes, backslash));
        mask = (unsigned)_mm_movemask_epi8(special);
        _mm_storeu_si128((__m128i *)(void *)*to, bytes);
        len = mask == 0 ? (unsigned)sizeof bytes : (unsigned)__builtin_ctz(mask);
        *to += len;
        *from += len;
        if (mask != 0)
            return;
    }
}
#else
static void copy_plain(char **to, const char **from, const char *end)
{
    size_t len = plain_len((struct slice){*from, (size_t)(end - *from)}, 0, HIGHS);

    memcpy(*to, *from, len);
    *to += len;
    *from += len;
}
#endif

/* Writes a character that is no plain one and moves on in what is read: an escape, a character of
 * several bytes, or what stands for what is none. */
static char *put_special(char *to, const char **from, const char *end)
{
    struct slice rest = {*from, (size_t)(end - *from)};
    size_t len = 1;
    uint32_t code;

    if ((uint8_t)rest.ptr[0] < 0x80) {
        to = put_escape(to, rest.ptr[0]);
    } else if (utf8_first(rest, &len, &code)) {
        memcpy(to, rest.ptr, len);
        to += len;
    } else {
        memcpy(to, UTF8_REPLACEMENT.ptr, UTF8_REPLACEMENT.len);
        to += UTF8_REPLACEMENT.len;
    }
    *from += len;
    return to;
}

/* Is one of a word's bytes special? */
static bool has_special(uint64_t word)
{
    return (below(word, 0x20) | below(word ^ ONES * '"', 1) | below(word ^ ONES * '\\', 1) |
            (word & HIGHS)) != 0;
}

/* Copies fewer than sixteen bytes if none of them is special: in two pieces that may overlap, because
 * most names and values are so short. */
static bool copy_short(char *to, const char *from, size_t n)
{
    if (n >= sizeof(uint64_t)) {
        uint64_t first, last;

        memcpy(&first, from, sizeof first);
        memcpy(&last, from + n - sizeof last, sizeof last);
        if (has_special(first) || has_special(last))
            return false;
        memcpy(to, &first, sizeof first);
        memcpy(to + n - sizeof last, &last, sizeof last);
    } else if (n >= sizeof(uint32_t)) {
        uint32_t first, last;

        memcpy(&first, from, sizeof first);
        memcpy(&last, from + n - sizeof last, sizeof last);
        if (has_special((uint64_t)last << 32 | first))
            return false;
        memcpy(to, &first, sizeof first);
        memcpy(to + n - sizeof last, &last, sizeof last);
    } else {
        for (size_t i = 0; i < n; i++) {
            if ((uint8_t)from[i] >= 0x80 || escapes[(uint8_t)from[i]] != 0)
                return false;
            to[i] = from[i];
        }
    }
    return true;
}

static char *put_text(char *to, const char *from, const char *end)
{
    for (;;) {
        copy_plain(&to, &from, end);
        /* What is left is fewer than sixteen, or begins with a special one. */
        if (end - from < (ptrdiff_t)(2 * sizeof(uint64_t)) &&
            copy_short(to, from, (size_t)(end - from)))
            return to + (end - from);
        while ((uint8_t)*from < 0x80 && escapes[(uint8_t)*from] == 0)
            *to++ = *from++;
        to = put_special(to, &from, end);
    }
}

char *json_put_string(char *to, struct slice text)
{
    *to++ = '"';
    to = text.len > 0 ? put_text(to, text.ptr, text.ptr + text.len) : to;
    *to++ = '"';
    return to;
}

size_t json_string_size(struct slice text)
{
    size_t size = 2 + text.len;

    for (;;) {
        char room[ESCAPE_LEN];
        const char *from;

        text = slice_from(text, plain_len(text, 0, HIGHS));
        if (text.len == 0)
            return size;
        from = text.ptr;
        size += (size_t)(put_special(room, &from, text.ptr + text.len) - room);
        size -= (size_t)(from - text.ptr);
        text = slice_from(text, (size_t)(from - text.ptr));
    }
}

/* Room for `more` bytes behind the content; twice what there was, so that n appends cost O(n). */
static int make_room(struct buf *b, size_t more)
{
    if (more <= b->cap - b->len)
        return 0;
    if (more > b->max - b->len)
        return -EMSGSIZE;
    return buf_reserve(b, MAX(b->len + more, b->cap > b->max / 2 ? b->max : 2 * b->cap));
}

int json_append_string(struct buf *to, struct slice text)
{
    /* Measured only where the worst would not fit: growing for it could be in vain. */
    if (json_string_size_max(text.len) > to->cap - to->len) {
        int r = make_room(to, json_string_size(text));
        if (r < 0)
            return r;
    }
    to->len = (size_t)(json_put_string(to->ptr + to->len, text) - to->ptr);
    return 0;
}

char *json_put_unescaped(char *to, struct slice raw)
{
    while (raw.len > 0) {
        const char *escape = memchr(raw.ptr, '\\', raw.len);
        size_t len = escape == NULL ? raw.len : (size_t)(escape - raw.ptr);
        uint32_t code = 0;

        memcpy(to, raw.ptr, len);
        to += len;
        raw = slice_from(raw, len);
        if (raw.len > 0) {
            len = escape_first(raw, &code);
            assert(len > 0);
            to += utf8_encode(code, to);
            raw = slice_from(raw, len);
        }
    }
    return to;
}

/* A string's bytes again, with no escape that need not be. */
static char *put_raw(char *to, struct slice raw)
{
    const char *from = raw.ptr, *end = raw.ptr + raw.len;

    while (from < end) {
        struct slice rest = {from, (size_t)(end - from)};
        uint32_t code = 0;
        size_t len;

        if (*from != '\\') {
            const char *escape = memchr(from, '\\', rest.len);

            len = escape == NULL ? rest.len : (size_t)(escape - from);
            to = put_text(to, from, from + len);
        } else {
            len = escape_first(rest, &code);
            assert(len > 0);
            if (code < 0x80 && escapes[code] != 0)
                to = put_escape(to, (char)code);
            else
                to += utf8_encode(code, to);
        }
        from += len;
    }
    return to;
}

char *json_put_compact(char *to, struct slice value)
{
    struct json_token t = {JSON_NULL, {NULL, 0}};
    bool first = true; /* of its container, or behind a key: no comma */
    struct json j;

    json_init(&j, value);
    for (;;) {
        int r = json_next(&j, &t);

        assert(r == 0);
        if (t.type == JSON_END)
            return to;
        if (!first && t.type != JSON_OBJECT_END && t.type != JSON_ARRAY_END)
            *to++ = ',';
        first = t.type == JSON_OBJECT_BEGIN || t.type == JSON_ARRAY_BEGIN || t.type == JSON_KEY;
        if (t.type == JSON_KEY || t.type == JSON_STRING) {
            *to++ = '"';
            to = put_raw(to, t.text);
            *to++ = '"';
        } else {
            memcpy(to, t.text.ptr, t.text.len);
            to += t.text.len;
        }
        if (t.type == JSON_KEY)
            *to++ = ':';
    }
}

size_t json_compact_size_max(struct slice value)
{
    if (utf8_valid(value))
        return value.len;
    return value.len > SIZE_MAX / 3 ? SIZE_MAX : 3 * value.len; /* each byte a U+FFFD */
}
