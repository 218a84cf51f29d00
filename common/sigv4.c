#include "sigv4.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "buf.h"
#include "digest.h"
#include "util.h"

#define ALGORITHM    SLICE("AWS4-HMAC-SHA256")
#define TERMINATOR   SLICE("aws4_request")
#define DATE_HEADER  SLICE("x-amz-date")
#define TOKEN_HEADER SLICE("x-amz-security-token")

enum {
    HEX_LEN = 2 * DIGEST_SHA256_LEN,
    DAY_LEN = 8,          /* 20150830 */
    OUR_HEADERS = 2,      /* date and token */
    FIRST_CAP = 8 * 1024, /* a usual request with a long session token */
    SCOPE_MAX = 1024,     /* region and service are words */
    STRING_MAX = SCOPE_MAX + 256,
};

/* A parameter, encoded, as places in `params_text`, which may move while it grows. */
struct param {
    size_t name, value, end; /* the name ends where the value begins */
};

struct sigv4 {
    struct digest *digest; /* owns */

    struct sigv4_header headers[SIGV4_HEADERS_MAX + OUR_HEADERS]; /* borrows, during a call */
    size_t header_count;
    struct param params[SIGV4_PARAMS_MAX];
    size_t param_count;
    struct buf params_text;

    struct buf canonical, to_sign;
    struct buf scope; /* day/region/service/aws4_request, of this call */

    /* `key` belongs to `key_scope` and `secret`, which are empty while there is none. */
    uint8_t key[DIGEST_SHA256_LEN];
    struct buf key_scope;
    struct buf secret; /* "AWS4" and the secret; never moves, so that no copy is left behind */
};

/* -- small things ---------------------------------------------------------------------------- */

/* Appends all parts; stops at the first that fails, and so does the signature. */
static int put(struct buf *to, const struct slice *parts, size_t count)
{
    int r = 0;

    for (size_t i = 0; i < count && r == 0; i++)
        r = buf_append(to, parts[i]);
    return r;
}

static struct slice bytes(const uint8_t *ptr, size_t len)
{
    return (struct slice){(const char *)ptr, len};
}

/* By bytes, the shorter first: the order in which AWS sorts. */
static int compare(struct slice a, struct slice b)
{
    size_t len = MIN(a.len, b.len);
    int order = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Not tolower(3): what a letter is must not depend on a locale. */
static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static int compare_names(struct slice a, struct slice b)
{
    for (size_t i = 0; i < a.len && i < b.len; i++) {
        int order = (uint8_t)lower(a.ptr[i]) - (uint8_t)lower(b.ptr[i]);

        if (order != 0)
            return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

static void put_digits(char *to, size_t width, int64_t value)
{
    while (width-- > 0) {
        to[width] = (char)('0' + value % 10);
        value /= 10;
    }
}

/* The date by arithmetic, after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms":
 * years begin in March, so that the leap day is the last of its year; 400 years are one era.
 * gmtime(3) has a static buffer and knows leap seconds of its own. */
static int put_date(int64_t wall_ms, char to[SIGV4_DATE_LEN + 1])
{
    int64_t second = wall_ms / 1000, day, day_of_era, year_of_era, day_of_year, month, year;

    if (wall_ms < 0)
        return -EINVAL;
    day = second / 86400 + 719468; /* since 0000-03-01 */
    second %= 86400;
    day_of_era = day % 146097;
    year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    month = (5 * day_of_year + 2) / 153; /* 0 is March */
    year = year_of_era + day / 146097 * 400 + (month >= 10 ? 1 : 0);
    if (year > 9999)
        return -EINVAL;

    put_digits(to, 4, year);
    put_digits(to + 4, 2, month < 10 ? month + 3 : month - 9);
    put_digits(to + 6, 2, day_of_year - (153 * month + 2) / 5 + 1);
    to[8] = 'T';
    put_digits(to + 9, 2, second / 3600);
    put_digits(to + 11, 2, second / 60 % 60);
    put_digits(to + 13, 2, second % 60);
    to[15] = 'Z';
    to[16] = '\0';
    return 0;
}

/* RFC 3986, section 2.3: what is never encoded. */
static bool is_unreserved(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static int put_encoded(struct buf *to, char c)
{
    static const char digits[] = "0123456789ABCDEF"; /* RFC 3986, section 2.1, and AWS insists */
    char text[3] = {'%', digits[(uint8_t)c >> 4], digits[(uint8_t)c & 0xf]};

    if (is_unreserved(c))
        return buf_append_char(to, c);
    return buf_append(to, (struct slice){text, sizeof text});
}

/* -- the canonical request, line by line ----------------------------------------------------- */

/* The path as it is, only encoded. */
static int put_path_kept(struct buf *to, struct slice path)
{
    int r = path.len == 0 ? buf_append_char(to, '/') : 0;

    for (size_t i = 0; i < path.len && r == 0; i++)
        r = path.ptr[i] == '/' ? buf_append_char(to, '/') : put_encoded(to, path.ptr[i]);
    return r;
}

/* Takes the next piece up to `separator` off the text; false when nothing is left. */
static bool take_piece(struct slice *text, char separator, struct slice *ret)
{
    const char *end;

    if (text->len == 0)
        return false;
    end = memchr(text->ptr, separator, text->len);
    *ret = slice_first(*text, end == NULL ? text->len : (size_t)(end - text->ptr));
    *text = slice_from(*text, MIN(ret->len + 1, text->len));
    return true;
}

/* "//", "." and ".." go, as in botocore's normalize_url_path: there a path that ended in '/' still
 * does, unless nothing else is left of it. */
static int put_path(struct buf *to, struct slice path)
{
    bool closed = slice_ends_with(path, SLICE("/"));
    size_t start = to->len;
    struct slice piece;
    int r = 0;

    while (r == 0 && take_piece(&path, '/', &piece)) {
        if (piece.len == 0 || slice_equal(piece, SLICE(".")))
            continue;
        if (slice_equal(piece, SLICE(".."))) {
            while (to->len > start && to->ptr[--to->len] != '/') {
            }
            continue;
        }
        r = buf_append_char(to, '/');
        for (size_t i = 0; i < piece.len && r == 0; i++)
            r = put_encoded(to, piece.ptr[i]);
    }
    if (r == 0 && (closed || to->len == start))
        r = buf_append_char(to, '/');
    return r;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Encodes what may be encoded already, so that "%e1" and the bare byte become the same "%E1".  A
 * '%' that introduces nothing is a '%'; a '+' is a '+', as everywhere but in forms. */
static int put_recoded(struct buf *to, struct slice text)
{
    int r = 0;

    for (size_t i = 0; i < text.len && r == 0; i++) {
        char c = text.ptr[i];
        int high = c == '%' && text.len - i > 2 ? digit_of(text.ptr[i + 1]) : -1;
        int low = high >= 0 ? digit_of(text.ptr[i + 2]) : -1;

        if (low >= 0) {
            c = (char)(uint8_t)(high << 4 | low);
            i += 2;
        }
        r = put_encoded(to, c);
    }
    return r;
}

static struct slice param_name(const struct sigv4 *s, const struct param *p)
{
    return slice_from(slice_first(buf_slice(&s->params_text), p->value), p->name);
}

static struct slice param_value(const struct sigv4 *s, const struct param *p)
{
    return slice_from(slice_first(buf_slice(&s->params_text), p->end), p->value);
}

/* By name, then by value, both encoded.  Comparing "name=value" as a whole would be wrong: '-'
 * comes before '='. */
static void sort_param(struct sigv4 *s, size_t i)
{
    struct param p = s->params[i];

    for (; i > 0; i--) {
        const struct param *before = &s->params[i - 1];
        int order = compare(param_name(s, before), param_name(s, &p));

        if (order < 0 || (order == 0 && compare(param_value(s, before), param_value(s, &p)) <= 0))
            break;
        s->params[i] = *before;
    }
    s->params[i] = p;
}

static int put_query(struct sigv4 *s, struct buf *to, struct slice query)
{
    struct slice piece;
    int r = 0;

    s->param_count = 0;
    buf_reset(&s->params_text);
    while (take_piece(&query, '&', &piece)) {
        struct slice name;
        struct param *p;

        if (!take_piece(&piece, '=', &name))
            continue;
        if (s->param_count == SIGV4_PARAMS_MAX)
            return -EMSGSIZE;
        p = &s->params[s->param_count];
        p->name = s->params_text.len;
        r = put_recoded(&s->params_text, name);
        p->value = s->params_text.len;
        if (r == 0)
            r = put_recoded(&s->params_text, piece);
        p->end = s->params_text.len;
        if (r < 0)
            return r;
        sort_param(s, s->param_count++);
    }

    for (size_t i = 0; i < s->param_count && r == 0; i++) {
        const struct param *p = &s->params[i];
        const struct slice parts[] = {i > 0 ? SLICE("&") : SLICE(""), param_name(s, p), SLICE("="),
                                      param_value(s, p)};

        r = put(to, parts, ARRAY_LEN(parts));
    }
    return r;
}

/* Stable, so that the values of one name keep their order. */
static void add_header(struct sigv4 *s, struct sigv4_header h)
{
    size_t i = s->header_count++;

    for (; i > 0 && compare_names(s->headers[i - 1].name, h.name) > 0; i--)
        s->headers[i] = s->headers[i - 1];
    s->headers[i] = h;
}

/* All headers to sign, ours among them, by name. */
static int collect_headers(struct sigv4 *s, const struct sigv4_credentials *c,
                           const struct sigv4_request *r, const char *amz_date)
{
    bool with_token = c->session_token.len > 0 && !r->omit_token;

    s->header_count = 0;
    if (r->header_count > SIGV4_HEADERS_MAX)
        return -EMSGSIZE;
    for (size_t i = 0; i < r->header_count; i++) {
        struct slice name = r->headers[i].name;

        if (name.len == 0 || compare_names(name, DATE_HEADER) == 0 ||
            (with_token && compare_names(name, TOKEN_HEADER) == 0))
            return -EINVAL;
        add_header(s, r->headers[i]);
    }
    add_header(s, (struct sigv4_header){DATE_HEADER, {amz_date, SIGV4_DATE_LEN}});
    if (with_token)
        add_header(s, (struct sigv4_header){TOKEN_HEADER, c->session_token});
    return 0;
}

static bool is_first_of_name(const struct sigv4 *s, size_t i)
{
    return i == 0 || compare_names(s->headers[i - 1].name, s->headers[i].name) != 0;
}

static int put_name(struct buf *to, struct slice name)
{
    int r = 0;

    for (size_t i = 0; i < name.len && r == 0; i++)
        r = buf_append_char(to, lower(name.ptr[i]));
    return r;
}

/* A folded header continues after a line's end and blanks; all of that is one blank. */
static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The words of a value with one blank between them. */
static int put_value(struct buf *to, struct slice value)
{
    size_t start, i = 0;
    bool first = true;
    int r = 0;

    while (r == 0) {
        while (i < value.len && is_blank(value.ptr[i]))
            i++;
        start = i;
        while (i < value.len && !is_blank(value.ptr[i]))
            i++;
        if (i == start)
            break;
        if (!first)
            r = buf_append_char(to, ' ');
        if (r == 0)
            r = buf_append(to, slice_from(slice_first(value, i), start));
        first = false;
    }
    return r;
}

static int put_headers(const struct sigv4 *s, struct buf *to)
{
    int r = 0;

    for (size_t i = 0; i < s->header_count && r == 0; i++) {
        if (is_first_of_name(s, i)) {
            r = i > 0 ? buf_append_char(to, '\n') : 0;
            if (r == 0)
                r = put_name(to, s->headers[i].name);
        }
        if (r == 0)
            r = buf_append_char(to, is_first_of_name(s, i) ? ':' : ',');
        if (r == 0)
            r = put_value(to, s->headers[i].value);
    }
    return r;
}

static int put_signed_names(const struct sigv4 *s, struct buf *to)
{
    int r = 0;

    for (size_t i = 0; i < s->header_count && r == 0; i++) {
        if (!is_first_of_name(s, i))
            continue;
        r = i > 0 ? buf_append_char(to, ';') : 0;
        if (r == 0)
            r = put_name(to, s->headers[i].name);
    }
    return r;
}

/* Appends the hexadecimal SHA-256 of some bytes. */
static int put_hash(struct sigv4 *s, struct buf *to, struct slice data)
{
    uint8_t sum[DIGEST_SHA256_LEN];
    char hex[HEX_LEN];
    int r = digest_sha256(s->digest, data, sum);

    if (r < 0)
        return r;
    hex_encode(hex, sum, sizeof sum);
    return buf_append(to, (struct slice){hex, sizeof hex});
}

/* Tells where in it the signed names are, as the Authorization header repeats them. */
static int build_canonical(struct sigv4 *s, const struct sigv4_request *request,
                           size_t *ret_names_at, size_t *ret_names_len)
{
    struct buf *to = &s->canonical;
    int r;

    buf_reset(to);
    r = put(to, (const struct slice[]){request->method, SLICE("\n")}, 2);
    if (r == 0)
        r = request->keep_path ? put_path_kept(to, request->path) : put_path(to, request->path);
    if (r == 0)
        r = buf_append_char(to, '\n');
    if (r == 0)
        r = put_query(s, to, request->query);
    if (r == 0)
        r = buf_append_char(to, '\n');
    if (r == 0)
        r = put_headers(s, to);
    if (r == 0)
        r = buf_append(to, SLICE("\n\n"));
    if (r < 0)
        return r;

    *ret_names_at = to->len;
    r = put_signed_names(s, to);
    *ret_names_len = to->len - *ret_names_at;
    if (r == 0)
        r = buf_append_char(to, '\n');
    return r < 0 ? r : put_hash(s, to, request->body);
}

/* -- the key and the signature --------------------------------------------------------------- */

static int build_scope(struct sigv4 *s, const struct sigv4_scope *scope, struct slice day)
{
    const struct slice parts[] = {day,        SLICE("/"), scope->region, SLICE("/"), scope->service,
                                  SLICE("/"), TERMINATOR};

    /* Without a '/' inside, equal scopes mean equal parts, which the cached key relies on. */
    if (scope->region.len == 0 || memchr(scope->region.ptr, '/', scope->region.len) != NULL ||
        scope->service.len == 0 || memchr(scope->service.ptr, '/', scope->service.len) != NULL)
        return -EINVAL;
    buf_reset(&s->scope);
    return put(&s->scope, parts, ARRAY_LEN(parts));
}

static void forget_key(struct sigv4 *s)
{
    OPENSSL_cleanse(s->key, sizeof s->key);
    if (s->secret.ptr != NULL)
        OPENSSL_cleanse(s->secret.ptr, s->secret.cap);
    buf_reset(&s->secret);
    buf_reset(&s->key_scope);
}

/* Sees to it that `key` is the one for this secret and for `s->scope`: four HMACs once a day. */
static int derive_key(struct sigv4 *s, struct slice secret, const struct sigv4_scope *scope,
                      struct slice day)
{
    const struct slice steps[] = {day, scope->region, scope->service, TERMINATOR};
    struct slice key;
    int r;

    if (s->key_scope.len > 0 && slice_equal(buf_slice(&s->key_scope), buf_slice(&s->scope)) &&
        slice_equal(slice_from(buf_slice(&s->secret), strlen("AWS4")), secret))
        return 0;

    forget_key(s);
    r = put(&s->secret, (const struct slice[]){SLICE("AWS4"), secret}, 2);
    key = buf_slice(&s->secret);
    for (size_t i = 0; i < ARRAY_LEN(steps) && r == 0; i++) {
        r = digest_hmac_sha256(s->digest, key, steps[i], s->key);
        key = bytes(s->key, sizeof s->key);
    }
    if (r == 0)
        r = buf_append(&s->key_scope, buf_slice(&s->scope));
    if (r < 0)
        forget_key(s);
    return r;
}

static int build_string(struct sigv4 *s, struct slice amz_date)
{
    const struct slice parts[] = {ALGORITHM,   SLICE("\n"),          amz_date,
                                  SLICE("\n"), buf_slice(&s->scope), SLICE("\n")};
    int r;

    buf_reset(&s->to_sign);
    r = put(&s->to_sign, parts, ARRAY_LEN(parts));
    return r < 0 ? r : put_hash(s, &s->to_sign, buf_slice(&s->canonical));
}

int sigv4_sign(struct sigv4 *s, const struct sigv4_credentials *c, const struct sigv4_scope *scope,
               int64_t signed_wall_ms, const struct sigv4_request *request,
               struct buf *ret_authorization, char ret_amz_date[SIGV4_DATE_LEN + 1])
{
    struct slice amz_date = {ret_amz_date, SIGV4_DATE_LEN}, day = {ret_amz_date, DAY_LEN};
    uint8_t signature[DIGEST_SHA256_LEN];
    size_t names_at = 0, names_len = 0;
    char hex[HEX_LEN];
    int r;

    buf_reset(ret_authorization);
    if (c->access_key_id.len == 0 || c->secret_access_key.len == 0)
        return -EINVAL;
    r = put_date(signed_wall_ms, ret_amz_date);
    if (r == 0)
        r = collect_headers(s, c, request, ret_amz_date);
    if (r == 0)
        r = build_scope(s, scope, day);
    if (r == 0)
        r = build_canonical(s, request, &names_at, &names_len);
    s->header_count = 0; /* what they borrowed ends with this call */
    if (r == 0)
        r = build_string(s, amz_date);
    if (r == 0)
        r = derive_key(s, c->secret_access_key, scope, day);
    if (r == 0)
        r = digest_hmac_sha256(s->digest, bytes(s->key, sizeof s->key), buf_slice(&s->to_sign),
                               signature);
    if (r < 0)
        return r;

    hex_encode(hex, signature, sizeof signature);
    const struct slice parts[] = {
        ALGORITHM,
        SLICE(" Credential="),
        c->access_key_id,
        SLICE("/"),
        buf_slice(&s->scope),
        SLICE(", SignedHeaders="),
        slice_first(slice_from(buf_slice(&s->canonical), names_at), names_len),
        SLICE(", Signature="),
        {hex, sizeof hex},
    };
    r = put(ret_authorization, parts, ARRAY_LEN(parts));
    if (r < 0)
        buf_reset(ret_authorization); /* half a signature is none */
    return r;
}

struct slice sigv4_canonical_request(const struct sigv4 *s)
{
    return buf_slice(&s->canonical);
}

struct slice sigv4_string_to_sign(const struct sigv4 *s)
{
    return buf_slice(&s->to_sign);
}

/* -- life ------------------------------------------------------------------------------------ */

int sigv4_new(struct sigv4 **ret)
{
    struct sigv4 *s = calloc(1, sizeof *s);
    int r;

    if (s == NULL)
        return -ENOMEM;
    buf_init(&s->params_text, SIGV4_REQUEST_MAX);
    buf_init(&s->canonical, SIGV4_REQUEST_MAX);
    buf_init(&s->to_sign, STRING_MAX);
    buf_init(&s->scope, SCOPE_MAX);
    buf_init(&s->key_scope, SCOPE_MAX);
    buf_init(&s->secret, SIGV4_SECRET_MAX + strlen("AWS4"));

    r = digest_new(&s->digest);
    if (r == 0)
        r = buf_reserve(&s->canonical, FIRST_CAP);
    if (r == 0)
        r = buf_reserve(&s->to_sign, s->to_sign.max);
    if (r == 0)
        r = buf_reserve(&s->scope, s->scope.max);
    if (r == 0)
        r = buf_reserve(&s->key_scope, s->key_scope.max);
    if (r == 0)
        r = buf_reserve(&s->secret, s->secret.max);
    if (r < 0) {
        sigv4_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

void sigv4_free(struct sigv4 *s)
{
    if (s == NULL)
        return;
    forget_key(s);
    if (s->canonical.ptr != NULL)
        OPENSSL_cleanse(s->canonical.ptr, s->canonical.cap); /* the session token was in it */
    buf_done(&s->secret);
    buf_done(&s->key_scope);
    buf_done(&s->scope);
    buf_done(&s->to_sign);
    buf_done(&s->canonical);
    buf_done(&s->params_text);
    digest_free(s->digest);
    free(s);
}
