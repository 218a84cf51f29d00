/* A record that is larger than the service takes is cut, sent in parts, or set aside.
 *
 * A part is an object by itself:
 *
 *     {"part":1,"last":false,"of":"1f0c…-52800","text":"the beginning"}
 *
 * All parts of a record have one partition key and the same `of`, which no other record has; put
 * together in the order of `part`, from 1 to the one that says `last`, their texts are the record
 * without the newline that it would end in.
 * Where a piece is no UTF-8, it stands in "base64" in place of "text". */
#include "base64.h"
#include "digest.h"
#include "json.h"
#include "record/mill_inner.h"
#include "utf8.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

enum {
    PART_FRAME = 128, /* bytes of a part that are not its text */
    PART_ID_SIZE = 48,
    MEASURE_AT = 32,   /* the bit that it begins at in a name */
    TEXTS_CUT_MAX = 8, /* of one record: one that has more long ones is no log line */
};

static const char *const too_large = "is larger than a record may be";

/* --- cut --- */

/* The record is cut; but of JSON a part would be worth nothing, so there it is the event's text. */
static int truncate_text(struct run *run, const struct recipe_result *result)
{
    struct mill *m = run->mill;
    const struct mill_settings *s = &m->settings;
    struct slice text = result->json ? result->text : result->record;
    bool newline = s->newline;
    size_t max;
    int r;

    if (!result->json && slice_ends_with(text, SLICE("\n"))) {
        text.len--;
        newline = true;
    }
    max = mill_fill_max(m, run->record_max, m->key.len) - s->suffix.len - newline;
    buf_reset(&m->scratch->joined); /* a group was closed before */
    r = buf_append(&m->scratch->joined, slice_first(text, utf8_cut(text, max)));
    if (r == 0)
        r = buf_append(&m->scratch->joined, s->suffix);
    if (r == 0 && newline)
        r = buf_append_char(&m->scratch->joined, '\n');
    return r < 0 ? r : mill_emit(run, buf_slice(&m->scratch->joined), RECIPE_SEND, NULL, NULL);
}

static int truncate_record(struct run *run, const struct recipe_result *result)
{
    struct mill *m = run->mill;
    size_t max = mill_fill_max(m, run->record_max, m->key.len);
    struct slice record = result->record;

    /* What is cut off one text may not be enough, or may not be there. */
    for (int i = 0; result->json && i < TEXTS_CUT_MAX; i++) {
        size_t excess = record.len > max ? record.len - max : 0;

        if (recipe_shorten(m->settings.recipe, excess, m->settings.suffix, &record) < 0)
            break;
        if (record.len <= max)
            return mill_emit(run, record, RECIPE_SEND, NULL, result->fields);
    }
    return truncate_text(run, result);
}

/* --- in parts --- */

static int write_part(struct buf *to, uint32_t number, bool last, const char *id, struct slice text)
{
    bool valid = utf8_valid(text);
    int r;

    buf_reset(to);
    r = buf_printf(to, "{\"part\":%" PRIu32 ",\"last\":%s,\"of\":\"%s\",\"%s\":", number,
                   last ? "true" : "false", id, valid ? "text" : "base64");
    if (r == 0 && valid)
        r = json_append_string(to, text);
    if (r == 0 && !valid) {
        r = buf_append_char(to, '"');
        if (r == 0)
            r = buf_reserve(to, to->len + base64_size(text.len) + 3);
        if (r == 0) {
            base64_encode(to->ptr + to->len, text.ptr, text.len);
            to->len += base64_size(text.len);
            r = buf_append_char(to, '"');
        }
    }
    return r < 0 ? r : buf_append_char(to, '}');
}

/* How many bytes of `text` are no more than `max` bytes in a JSON string. */
static size_t fitting(struct slice text, size_t max)
{
    size_t n = 0;

    for (size_t size = 0; n < text.len; n++) {
        unsigned char c = (unsigned char)text.ptr[n];

        size += c < 0x20 ? sizeof "\\u0000" - 1 : c == '"' || c == '\\' ? 2 : 1;
        if (size > max)
            break;
    }
    return n;
}

/* Sends all of `text`; `ends`: it is the record's end. */
static int send_parts(struct run *run, struct slice text, bool ends, const char *id,
                      uint32_t *number)
{
    struct mill *m = run->mill;
    size_t max = mill_fill_max(m, run->record_max, m->key.len) - m->settings.newline;

    while (text.len > 0) {
        size_t take = fitting(text, max - PART_FRAME);
        struct slice piece;
        int r;

        for (;; take /= 2) {
            piece = slice_first(text, utf8_cut(text, take));
            if (piece.len == 0)
                piece = slice_first(text, take);
            r = write_part(&m->scratch->fitted, *number + 1, ends && piece.len == text.len, id,
                           piece);
            if (r == 0 && m->scratch->fitted.len <= max)
                break;
            /* Escaped it may be six times as long. */
            if ((r < 0 && r != -EMSGSIZE) || take <= 1)
                return r < 0 ? r : -EMSGSIZE;
        }
        if (m->settings.newline)
            r = buf_append_char(&m->scratch->fitted, '\n');
        if (r == 0)
            r = mill_emit(run, buf_slice(&m->scratch->fitted), RECIPE_SEND, NULL, NULL);
        if (r < 0)
            return r;
        ++*number;
        text = slice_from(text, piece.len);
    }
    return 0;
}

/* Names the parts, and gives them one key.  `begin`: where the record begins in the file; `measure`: what
 * a record could be when its first part was made.  It is part of the name: made again after a restart,
 * when the stream takes other records, the parts are others, too, and must not be put together with
 * those that are out.  `whole`: all of the record is seen at once; else its key is not known any more
 * when its later parts are made, and is always the name. */
static void name_parts(struct run *run, uint64_t begin, uint64_t measure, bool whole,
                       char id[PART_ID_SIZE])
{
    struct mill *m = run->mill;
    const struct mill_settings *s = &m->settings;
    bool from_text = s->key == MILL_KEY_FIELD || s->key == MILL_KEY_REGEX;

    (void)snprintf(
        id, PART_ID_SIZE, "%016" PRIx64 "-%" PRIu64,
        digest_hash64(s->digest, run->in->place.file) ^ s->seed ^ (measure << MEASURE_AT), begin);
    if (s->key == MILL_KEY_RANDOM || s->key == MILL_KEY_HASH ||
        (from_text && (!whole || m->key.json_len == 0)))
        key_of_text(slice_of(id), &m->key);
}

static int split(struct run *run, struct slice text, bool ends, const char *id, uint32_t *number)
{
    int r;

    run->keyed = true;
    r = send_parts(run, text, ends, id, number);
    run->keyed = false;
    return r;
}

bool mill_in_parts(const struct run *run)
{
    return run->state->line_parts > 0;
}

/* Without the beginning of a character whose rest was not read. */
static struct slice without_half(struct slice text)
{
    size_t back = 0;

    while (back < UTF8_LEN_MAX && back < text.len &&
           ((unsigned char)text.ptr[text.len - back - 1] & 0xc0) == 0x80)
        back++;
    if (back < text.len && back < UTF8_LEN_MAX) {
        struct slice tail = slice_from(text, text.len - back - 1);
        unsigned char lead = (unsigned char)tail.ptr[0];
        size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;

        if (want > tail.len && text.len > tail.len)
            return slice_first(text, text.len - tail.len);
    }
    return text;
}

/* Of UTF-16, whether the last unit waits for another half. */
static bool ends_in_half_pair(enum encoding e, struct slice raw)
{
    return encoding_is_utf16(e) && raw.len > 2 &&
           ((unsigned char)raw.ptr[raw.len - (e == ENCODING_UTF16LE ? 1 : 2)] & 0xfc) == 0xd8;
}

/* What fills a part: the little that would be left of what can be seen at once is left for the next. */
static struct slice one_part(const struct run *run, struct slice text)
{
    const struct mill *m = run->mill;
    size_t max = mill_fill_max(m, run->record_max, m->key.len) - m->settings.newline;

    return slice_first(text, utf8_cut(text, fitting(text, max - PART_FRAME)));
}

/* Leaves a character at the end that is not all there to the next part. */
static struct slice leave_half(struct run *run, struct slice text)
{
    enum encoding e = run->mill->settings.encoding;

    if (e == ENCODING_UTF8) {
        struct slice full = one_part(run, text);

        text = full.len > 0 && full.len < text.len ? full : without_half(text);
        run->raw.text.len = text.len;
    } else if (ends_in_half_pair(e, run->raw.text)) {
        run->raw.text.len -= 2;
        text.len -= UTF8_REPLACEMENT.len; /* was made of it */
    }
    return text;
}

int mill_next_part(struct run *run, struct slice text)
{
    struct mill_state *state = run->state;
    const struct mill_input *in = run->in;
    size_t newline_len = in->unended ? 0 : encoding_newline_len(run->mill->settings.encoding);
    uint32_t number = state->line_parts;
    bool ends = !run->event.cut ||
                run->raw.text.len + newline_len >= in->line_end - in->offset - run->raw.passed;
    char id[PART_ID_SIZE];
    int r;

    if (number == 0) {
        state->line_begin = run->event.offset;
        state->line_measure = run->record_max;
    }
    name_parts(run, state->line_begin, state->line_measure, false, id);
    if (!ends) {
        text = leave_half(run, text);
        run->event.end = in->offset + run->raw.passed + run->raw.text.len;
    }
    r = split(run, text, ends, id, &number);
    if (r < 0)
        return r;
    state->line_parts = ends ? 0 : number;
    return 0;
}

/* --- */

int mill_too_large(struct run *run, const struct recipe_result *result)
{
    const struct mill_settings *s = &run->mill->settings;
    enum mill_oversize what = s->oversize;
    struct slice record = result->record;
    char id[PART_ID_SIZE];
    uint32_t number = 0;

    /* What is to be hidden in a line might lie across two parts of it. */
    if (run->event.cut && what == MILL_SPLIT && s->recipe != NULL && recipe_rewrites(s->recipe))
        what = MILL_TRUNCATE;
    switch (what) {
    case MILL_DEAD:
        return mill_emit(run, result->record, RECIPE_DEAD, too_large, result->fields);
    case MILL_SPLIT:
        run->event.notice.in_parts = true;
        if (run->event.cut)
            return mill_next_part(run, result->text);
        if (s->newline && slice_ends_with(record, SLICE("\n")))
            record.len--; /* each part has one of its own */
        name_parts(run, run->event.offset, run->record_max, true, id);
        return split(run, record, true, id, &number);
    case MILL_TRUNCATE:
        break;
    }
    return truncate_record(run, result);
}
