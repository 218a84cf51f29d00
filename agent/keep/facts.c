#include "keep/facts.h"

#include "crc32c.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

enum {
    FACTS_FORMAT = 1,
    FACTS_CRC_LEN = 8, /* hex digits, and a blank before them */
    FACTS_NAMES_MAX = 64 * 1024,
};

static const char hex_digits[] = "0123456789abcdef";

uint32_t facts_seed(uint64_t store, uint64_t generation)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%016" PRIx64 " %" PRIu64, store, generation);

    return crc32c(0, text, (size_t)n);
}

/* Rungs lead down, and not below the ground. */
static bool rung_holds(const struct cursor *at, size_t i)
{
    uint32_t above = i > 0 ? at->rungs[i - 1].back : 0;

    return at->rungs[i].back > above && at->rungs[i].back <= at->offset;
}

/* --- writing --- */

enum { FACTS_NUMBERS_MAX = 256 }; /* all of a line but its names; printf would be half the start */

/* The numbers of a line, collected and then appended at once. */
struct numbers {
    size_t len;
    char text[FACTS_NUMBERS_MAX];
};

static void put_text(struct numbers *n, struct slice s)
{
    assert(s.len <= sizeof n->text - n->len);
    memcpy(n->text + n->len, s.ptr, s.len);
    n->len += s.len;
}

static void put_decimal(struct numbers *n, uint64_t value)
{
    char text[20]; /* UINT64_MAX has so many digits */
    size_t at = sizeof text;

    do
        text[--at] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    put_text(n, (struct slice){text + at, sizeof text - at});
}

static void put_signed(struct numbers *n, int64_t value)
{
    if (value < 0)
        put_text(n, SLICE("-"));
    put_decimal(n, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

static void put_hex(struct numbers *n, uint64_t value, unsigned digits)
{
    char text[16];

    for (unsigned i = digits; i > 0; i--, value >>= 4)
        text[i - 1] = hex_digits[value & 15];
    put_text(n, (struct slice){text, digits});
}

static int append_numbers(struct buf *to, const struct numbers *n)
{
    return buf_append(to, (struct slice){n->text, n->len});
}

/* Ends the line that began at `from`. */
static int end_line(struct buf *to, uint32_t seed, size_t from)
{
    struct numbers end = {0};
    int r = buf_append_char(to, ' ');

    if (r < 0)
        return r;
    put_hex(&end, crc32c(seed, to->ptr + from, to->len - from), FACTS_CRC_LEN);
    put_text(&end, SLICE("\n"));
    return append_numbers(to, &end);
}

/* Appends a line that has no names. */
static int append_line(struct buf *to, uint32_t seed, const struct numbers *n)
{
    size_t from = to->len;
    int r = append_numbers(to, n);

    return r < 0 ? r : end_line(to, seed, from);
}

/* What could be mistaken for a blank or a line's end, and what is no ASCII. */
static bool is_plain(char c)
{
    return c > ' ' && c < 0x7f && c != '%';
}

/* A name may hold anything: what is not plain is %XX. */
static int append_name(struct buf *to, struct slice name)
{
    int r = 0;

    while (name.len > 0 && r == 0) {
        size_t plain = 0;

        while (plain < name.len && is_plain(name.ptr[plain]))
            plain++;
        r = buf_append(to, slice_first(name, plain));
        name = slice_from(name, plain);
        if (name.len > 0 && r == 0) {
            unsigned char c = (unsigned char)name.ptr[0];

            r = buf_append(
                to, (struct slice){(char[]){'%', hex_digits[c >> 4], hex_digits[c & 15]}, 3});
            name = slice_from(name, 1);
        }
    }
    return r;
}

int facts_write_header(struct buf *to, uint32_t seed, uint64_t store, uint64_t generation)
{
    struct numbers n = {0};

    put_text(&n, SLICE("kinetail-checkpoint "));
    put_decimal(&n, FACTS_FORMAT);
    put_text(&n, SLICE(" "));
    put_hex(&n, store, 16);
    put_text(&n, SLICE(" "));
    put_decimal(&n, generation);
    return append_line(to, seed, &n);
}

int facts_write_flow(struct buf *to, uint32_t seed, struct slice flow)
{
    size_t from = to->len;
    int r = buf_append(to, SLICE("flow "));

    if (r == 0)
        r = append_name(to, flow);
    return r < 0 ? r : end_line(to, seed, from);
}

static void put_id(struct numbers *n, const struct source_id *id)
{
    put_text(n, SLICE(" "));
    put_decimal(n, id->dev);
    put_text(n, SLICE(" "));
    put_decimal(n, id->ino);
    put_text(n, SLICE(" "));
    put_signed(n, id->born_ns);
    put_text(n, SLICE(" "));
    put_signed(n, id->handle_type);
    put_text(n, SLICE(":"));
    for (size_t i = 0; i < id->handle_len; i++)
        put_hex(n, id->handle[i], 2);
    put_text(n, SLICE(" "));
    put_decimal(n, id->head_len);
    put_text(n, SLICE(":"));
    put_hex(n, id->head_hash, 16);
    put_text(n, SLICE(" "));
}

int facts_write_file(struct buf *to, uint32_t seed, const struct fact_file *f)
{
    size_t from = to->len;
    struct numbers key = {0}, id = {0};
    int r;

    put_text(&key, SLICE("file "));
    put_decimal(&key, f->key);
    put_text(&key, SLICE(" "));
    put_id(&id, &f->id);
    if ((r = append_numbers(to, &key)) < 0 || (r = append_name(to, f->flow)) < 0 ||
        (r = append_numbers(to, &id)) < 0 || (r = append_name(to, f->path)) < 0)
        return r;
    return end_line(to, seed, from);
}

int facts_write_at(struct buf *to, uint32_t seed, uint64_t key, struct cursor at)
{
    struct numbers n = {0};

    put_text(&n, SLICE("at "));
    put_decimal(&n, key);
    put_text(&n, SLICE(" "));
    put_decimal(&n, at.offset);
    put_text(&n, SLICE(" "));
    put_hex(&n, at.anchor, 16);
    for (size_t i = 0; i < CURSOR_RUNGS && rung_holds(&at, i); i++) {
        put_text(&n, SLICE(" "));
        put_decimal(&n, at.rungs[i].back);
        put_text(&n, SLICE(":"));
        put_hex(&n, at.rungs[i].hash, 8);
    }
    return append_line(to, seed, &n);
}

int facts_write_gone(struct buf *to, uint32_t seed, uint64_t key)
{
    struct numbers n = {0};

    put_text(&n, SLICE("gone "));
    put_decimal(&n, key);
    return append_line(to, seed, &n);
}

static int write_word(struct buf *to, uint32_t seed, struct slice word)
{
    struct numbers n = {0};

    put_text(&n, word);
    return append_line(to, seed, &n);
}

int facts_write_partial(struct buf *to, uint32_t seed)
{
    return write_word(to, seed, SLICE("partial"));
}

int facts_write_whole(struct buf *to, uint32_t seed)
{
    return write_word(to, seed, SLICE("whole"));
}

int facts_write_spool(struct buf *to, uint32_t seed, struct slice name, uint64_t serial)
{
    size_t from = to->len;
    struct numbers n = {0};
    int r;

    put_text(&n, SLICE("spool "));
    put_decimal(&n, serial);
    put_text(&n, SLICE(" "));
    if ((r = append_numbers(to, &n)) < 0 || (r = append_name(to, name)) < 0)
        return r;
    return end_line(to, seed, from);
}

int facts_write_seen(struct buf *to, uint32_t seed, uint64_t ns)
{
    struct numbers n = {0};

    put_text(&n, SLICE("seen "));
    put_decimal(&n, ns);
    return append_line(to, seed, &n);
}

/* --- reading --- */

/* Takes the next line off `text`; false if there is none that ends. */
static bool take_line(struct slice *text, struct slice *ret)
{
    const char *end = text->len > 0 ? memchr(text->ptr, '\n', text->len) : NULL;

    if (end == NULL)
        return false;
    *ret = slice_first(*text, (size_t)(end - text->ptr));
    *text = slice_from(*text, ret->len + 1);
    return true;
}

/* Takes the word up to `stop`, or the rest, off `line`. */
static struct slice take_word(struct slice *line, char stop)
{
    const char *end = line->len > 0 ? memchr(line->ptr, stop, line->len) : NULL;
    struct slice word = *line;

    if (end != NULL)
        word.len = (size_t)(end - line->ptr);
    *line = slice_from(*line, end != NULL ? word.len + 1 : word.len);
    return word;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_number(struct slice word, unsigned base, uint64_t *ret)
{
    uint64_t n = 0;

    if (word.len == 0)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        int digit = digit_of(word.ptr[i]);
        if (digit < 0 || (unsigned)digit >= base || __builtin_mul_overflow(n, base, &n) ||
            __builtin_add_overflow(n, (unsigned)digit, &n))
            return false;
    }
    *ret = n;
    return true;
}

static bool take_number(struct slice *line, char stop, unsigned base, uint64_t *ret)
{
    return read_number(take_word(line, stop), base, ret);
}

static bool take_signed(struct slice *line, char stop, int64_t *ret)
{
    struct slice word = take_word(line, stop);
    bool minus = word.len > 0 && word.ptr[0] == '-';
    uint64_t n;

    if (!read_number(minus ? slice_from(word, 1) : word, 10, &n) || n > INT64_MAX)
        return false;
    *ret = minus ? -(int64_t)n : (int64_t)n;
    return true;
}

static bool decode_name(struct slice word, struct buf *to)
{
    while (word.len > 0) {
        const char *percent = memchr(word.ptr, '%', word.len);
        size_t plain = percent != NULL ? (size_t)(percent - word.ptr) : word.len;
        int high, low;

        if (buf_append(to, slice_first(word, plain)) < 0)
            return false;
        word = slice_from(word, plain);
        if (word.len == 0)
            break;
        if (word.len < 3 || (high = digit_of(word.ptr[1])) < 0 ||
            (low = digit_of(word.ptr[2])) < 0 || buf_append_char(to, (char)(high * 16 + low)) < 0)
            return false;
        word = slice_from(word, 3);
    }
    return true;
}

static bool take_handle(struct slice *line, struct source_id *id)
{
    int64_t type;
    struct slice hex;
    uint64_t byte;

    if (!take_signed(line, ':', &type) || type < INT32_MIN || type > INT32_MAX)
        return false;
    hex = take_word(line, ' ');
    if (hex.len % 2 != 0 || hex.len / 2 > SOURCE_HANDLE_MAX)
        return false;
    id->handle_type = (int32_t)type;
    id->handle_len = (uint8_t)(hex.len / 2);
    for (size_t i = 0; i < id->handle_len; i++) {
        if (!read_number((struct slice){hex.ptr + 2 * i, 2}, 16, &byte))
            return false;
        id->handle[i] = (uint8_t)byte;
    }
    return true;
}

/* What no file can be called was not written by us. */
static bool is_path(struct slice path)
{
    return path.len < PATH_MAX && (path.len == 0 || memchr(path.ptr, '\0', path.len) == NULL);
}

static bool read_file(struct slice line, struct fact *f)
{
    struct source_id *id = &f->file.id;
    struct slice flow;
    uint64_t head_len;
    size_t flow_len;

    *id = (struct source_id){0};
    if (!take_number(&line, ' ', 10, &f->file.key))
        return false;
    flow = take_word(&line, ' ');
    if (!take_number(&line, ' ', 10, &id->dev) || !take_number(&line, ' ', 10, &id->ino) ||
        !take_signed(&line, ' ', &id->born_ns) || !take_handle(&line, id) ||
        !take_number(&line, ':', 10, &head_len) || head_len > SOURCE_HEAD_MAX ||
        !take_number(&line, ' ', 16, &id->head_hash) || !decode_name(flow, &f->names))
        return false;
    id->head_len = (uint32_t)head_len;
    flow_len = f->names.len;
    if (!decode_name(line, &f->names))
        return false;
    f->file.flow = (struct slice){f->names.ptr, flow_len};
    f->file.path = slice_from(buf_slice(&f->names), flow_len);
    return is_path(f->file.path);
}

static bool read_at(struct slice line, struct fact *f)
{
    struct cursor at = {0};

    if (!take_number(&line, ' ', 10, &f->file.key) || !take_number(&line, ' ', 10, &at.offset) ||
        !take_number(&line, ' ', 16, &at.anchor))
        return false;
    for (size_t i = 0; line.len > 0; i++) {
        uint64_t back, hash;

        if (i == CURSOR_RUNGS || !take_number(&line, ':', 10, &back) || back > UINT32_MAX ||
            !take_number(&line, ' ', 16, &hash) || hash > UINT32_MAX)
            return false;
        at.rungs[i] = (struct cursor_rung){(uint32_t)back, (uint32_t)hash};
        if (!rung_holds(&at, i))
            return false;
    }
    f->at = at;
    return true;
}

/* Strips the checksum; false if it is not this line's. */
static bool check_line(struct slice *line, uint32_t seed)
{
    struct slice crc;
    uint64_t want;

    if (line->len < FACTS_CRC_LEN + 1)
        return false;
    crc = slice_from(*line, line->len - FACTS_CRC_LEN);
    line->len -= FACTS_CRC_LEN;
    if (!read_number(crc, 16, &want) || want != crc32c(seed, line->ptr, line->len) ||
        line->ptr[line->len - 1] != ' ')
        return false;
    line->len--;
    return true;
}

static enum fact_type read_fact(struct slice line, uint32_t seed, struct fact *f)
{
    struct slice word;

    if (!check_line(&line, seed))
        return FACT_DAMAGED;
    word = take_word(&line, ' ');
    if (slice_equal(word, SLICE("at")))
        return read_at(line, f) ? FACT_AT : FACT_DAMAGED;
    if (slice_equal(word, SLICE("file")))
        return read_file(line, f) ? FACT_FILE : FACT_DAMAGED;
    if (slice_equal(word, SLICE("gone")))
        return take_number(&line, ' ', 10, &f->file.key) ? FACT_GONE : FACT_DAMAGED;
    if (slice_equal(word, SLICE("seen")))
        return take_number(&line, ' ', 10, &f->file.key) && f->file.key <= INT64_MAX ? FACT_SEEN
                                                                                     : FACT_DAMAGED;
    if (slice_equal(word, SLICE("partial")))
        return line.len == 0 ? FACT_PARTIAL : FACT_DAMAGED;
    if (slice_equal(word, SLICE("whole")))
        return line.len == 0 ? FACT_WHOLE : FACT_DAMAGED;
    if (slice_equal(word, SLICE("flow")) && decode_name(line, &f->names)) {
        f->file.flow = buf_slice(&f->names);
        return FACT_FLOW;
    }
    if (slice_equal(word, SLICE("spool")) && take_number(&line, ' ', 10, &f->file.key) &&
        decode_name(line, &f->names)) {
        f->file.flow = buf_slice(&f->names);
        return FACT_SPOOL;
    }
    return FACT_DAMAGED;
}

void facts_init(struct fact *f)
{
    *f = (struct fact){0};
    buf_init(&f->names, FACTS_NAMES_MAX);
}

bool facts_next(struct slice *text, uint32_t seed, struct fact *ret)
{
    struct slice line;

    if (text->len == 0)
        return false;
    buf_reset(&ret->names);
    if (!take_line(text, &line)) {
        *text = slice_from(*text, text->len);
        ret->type = FACT_DAMAGED;
        return true;
    }
    ret->type = read_fact(line, seed, ret);
    return true;
}

void facts_done(struct fact *f)
{
    buf_done(&f->names);
}

int facts_read_header(struct slice *text, uint64_t generation, uint64_t *ret_store,
                      uint32_t *ret_seed)
{
    uint64_t format, store, number;
    struct slice line, whole;
    uint32_t seed;

    if (!take_line(text, &line))
        return -EBADMSG;
    whole = line;
    if (!slice_equal(take_word(&line, ' '), SLICE("kinetail-checkpoint")) ||
        !take_number(&line, ' ', 10, &format))
        return -EBADMSG;
    if (!take_number(&line, ' ', 16, &store) || !take_number(&line, ' ', 10, &number) ||
        number != generation)
        return -EBADMSG;
    seed = facts_seed(store, generation);
    if (!check_line(&whole, seed))
        return -EBADMSG;

    /* Only now: a flipped bit must not look like a message from the future.  So every later format
     * keeps this line as it is. */
    if (format != FACTS_FORMAT)
        return -ENOTSUP;
    *ret_store = store;
    *ret_seed = seed;
    return 0;
}
