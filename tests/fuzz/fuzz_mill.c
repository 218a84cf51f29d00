/* fuzz_mill -- whatever a file holds and however it comes: the same records, of the same bytes.
 *
 * The first bytes of the input are settings and the ways of cutting, then comes the file.  See
 * tests/unit/feed.h for what is asked of every piece. */
#include "record/mill.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "buf.h"
#include "digest.h"
#include "feed.h"
#include "json.h"
#include "record/pattern.h"
#include "record/recipe.h"
#include "record/squeeze.h"
#include "util.h"

enum { RECORD_MAX = 1200, LINE_LIMIT = 600, SETTINGS = 12, FILE_MAX = 8192 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Patterns are compiled once: they are what takes time. */
static struct pattern *pattern_of(size_t n)
{
    static const struct slice texts[] = {
        SLICE("^\\S"), SLICE("^[ \t]"), SLICE(";$"),      SLICE("^(?<a>\\w+) (?<b>.*)$"),
        SLICE("x"),    SLICE("\\d+"),   SLICE("k=(\\w*)")};
    static struct pattern *patterns[ARRAY_LEN(texts)];
    struct pattern_error e;

    if (patterns[n] == NULL && pattern_new(texts[n], 0, &patterns[n], &e) < 0)
        abort();
    return patterns[n];
}

static struct recipe *recipe_of(const uint8_t *s, bool json, bool newline)
{
    static const enum parse_format formats[] = {PARSE_NONE,   PARSE_REGEX, PARSE_COMBINED,
                                                PARSE_SYSLOG, PARSE_JSON,  PARSE_CSV,
                                                PARSE_LOGFMT, PARSE_CRI};
    static const struct slice names[] = {SLICE("a"), SLICE("b")};
    static const struct recipe_typed types[] = {{SLICE("a"), RECIPE_INTEGER},
                                                {SLICE("b"), RECIPE_NUMBER}};
    static struct pattern *drop;
    static struct recipe_redact redact;
    struct pattern_error e;
    struct recipe *recipe = NULL;
    struct recipe_settings r = {
        .drop = &drop,
        .drop_count = s[2] & 1,
        .redact = &redact,
        .redact_count = s[2] >> 1 & 1,
        .format = formats[s[1] % ARRAY_LEN(formats)],
        .on_mismatch = s[2] >> 2 & 3,
        .types = types,
        .type_count = s[2] >> 4 & 1 ? ARRAY_LEN(types) : 0,
        .json = json,
        .newline = newline,
        .record_max = RECORD_MAX,
    };

    if (redact.with == NULL) {
        drop = pattern_of(4);
        redact.pattern = pattern_of(5);
        if (replacement_new(redact.pattern, SLICE("<$0>"), &redact.with, &e) < 0)
            abort();
    }
    r.parse.pattern = r.format == PARSE_REGEX ? pattern_of(3) : NULL;
    r.parse.delimiter = ',';
    if (r.format == PARSE_CSV && (s[0] & 64) == 0)
        r.parse.names = (struct parse_names){names, ARRAY_LEN(names)};
    if (s[1] >> 4 & 1 && recipe_new(&r, &recipe) < 0)
        abort();
    return recipe;
}

static struct mill_settings settings_of(const uint8_t *s)
{
    static struct digest *digest;
    static struct random random;
    bool is_csv = s[1] % 8 == 5, is_cri = s[1] % 8 == 7;

    if (digest == NULL && digest_new(&digest) < 0)
        abort();
    return (struct mill_settings){
        .events = {.start = s[3] & 1 ? pattern_of(0) : NULL,
                   .proceed = s[3] & 2 ? pattern_of(1) : NULL,
                   .end = s[3] & 4 ? pattern_of(2) : NULL,
                   .max_lines = 2 + (s[3] >> 3 & 15),
                   .max_bytes = s[3] & 128 ? 20 : LINE_LIMIT / 2,
                   .csv = is_csv,
                   .cri = is_cri,
                   .delimiter = ','},
        .encoding = (enum encoding)(s[0] & 3),
        .newline = s[0] >> 2 & 1,
        .keep_mark = s[0] >> 3 & 1,
        .header_lines = (s[0] >> 4 & 3) + (is_csv && s[0] & 64),
        .header_names = is_csv && s[0] & 64,
        .record_max = RECORD_MAX,
        .key = (enum mill_key)(1 + s[4] % MILL_KEY_NONE), /* not a random one */
        .key_text = SLICE("a.b"),
        .key_pattern = pattern_of(6),
        .join_bytes = s[5] & 1 ? 1 + s[6] % 60 : 0,
        .oversize = (enum mill_oversize)(s[5] >> 1 & 3) % 3,
        .suffix = s[5] & 8 ? SLICE("...\xe2\x80\xa6") : SLICE(""),
        .random = &random,
        .digest = digest,
    };
}

/* What is to be JSON is, whole: a record of one event. */
static bool is_json(struct slice record)
{
    struct json_token t;
    struct json j;

    json_init(&j, record);
    return json_skip(&j) == 0 && json_next(&j, &t) == 0 && t.type == JSON_END;
}

struct judge {
    bool json, no_fallback, keyless;
    size_t waste;
};

static bool judge_take(void *user, const struct mill_piece *p)
{
    const struct judge *j = user;

    if (p->verdict == RECIPE_SEND) {
        assert(p->record.len + p->key->len <= RECORD_MAX);
        assert(j->keyless ? p->key->len + p->key->json_len == 0 : is_json(key_json(p->key)));
        if (j->json && p->events == 1 && p->fields != NULL)
            assert(is_json(p->record));
    }
    return true;
}

static void judge_notice(void *user, const struct mill_notice *n)
{
    ((struct judge *)user)->waste += n->zeros;
}

static void tell(struct mill *mill, const struct mill_settings *s, struct slice file,
                 struct slice carry, struct feed_way way, struct buf *out, size_t *ret_header)
{
    struct feed f = {.mill = mill,
                     .encoding = s->encoding,
                     .file = file,
                     .carry = carry,
                     .way = way,
                     .out = out,
                     .interleaved = s->events.cri,
                     /* one that is missing is random */
                     .keys = s->key == MILL_KEY_HASH || s->key == MILL_KEY_FILE ||
                             s->key == MILL_KEY_NONE};

    buf_reset(out);
    feed_all(&f);
    assert(f.carry_used == (carry.len > 0));
    if (*ret_header == SIZE_MAX) /* the first way finds out how long it is */
        for (*ret_header = 0; *ret_header < file.len && f.covered[*ret_header] == 0;)
            ++*ret_header;
    feed_check_covered(&f, *ret_header);
    feed_done(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct buf first, next;
    struct mill_settings s;
    struct recipe *recipe;
    struct mill *mill;
    struct slice file, carry = {0};
    size_t header = SIZE_MAX;
    char *copy;
    bool json;

    if (size < SETTINGS || size > SETTINGS + FILE_MAX)
        return 0;
    if (first.max == 0) {
        buf_init(&first, FEED_TEXT_MAX);
        buf_init(&next, FEED_TEXT_MAX);
    }
    json = data[1] >> 5 & 1;
    s = settings_of(data);
    if (size > SETTINGS && data[SETTINGS] == '\0')
        s.header_names =
            false; /* behind a hole it is not the header: some of it is not there yet */
    recipe = recipe_of(data, json, s.newline);
    s.recipe = recipe;
    if (mill_new(&s, &mill) < 0)
        abort();
    /* Where a hole comes first, nobody sees whether the event that is carried ends there. */
    if (data[7] & 1 && (s.events.start != NULL || s.events.proceed != NULL) &&
        memchr(data + SETTINGS, 0, size - SETTINGS) == NULL)
        carry = s.events.cri ? SLICE("2016-10-06T00:17:09.669794202Z stdout P a\n") : SLICE("c\n");
    copy = malloc(size - SETTINGS + 1); /* of just its size */
    assert(copy != NULL);
    memcpy(copy, data + SETTINGS, size - SETTINGS);
    file = (struct slice){copy, size - SETTINGS};

    tell(mill, &s, file, carry, (struct feed_way){.chunk = LINE_LIMIT, .line_max = LINE_LIMIT},
         &first, &header);
    for (size_t i = 0; i < 3; i++) {
        struct feed_way way = {.step = i == 2 ? data[8] + 1 : data[8] * 4 * i,
                               .chunk = 2 * (1 + (data[9 + i] & 127)),
                               .line_max = LINE_LIMIT,
                               .refuse = data[7] >> 1};

        tell(mill, &s, file, carry, way, &next, &header);
        if (!slice_equal(buf_slice(&first), buf_slice(&next))) {
            fprintf(stderr, "steps of %zu, reads of %zu, refusing %d:\n", way.step, way.chunk,
                    (int)way.refuse);
            (void)fwrite(next.ptr, 1, next.len, stderr);
            fprintf(stderr, "\nnot:\n");
            (void)fwrite(first.ptr, 1, first.len, stderr);
            abort();
        }
    }
    if (s.encoding == ENCODING_UTF8) {
        struct judge j = {.json = json, .keyless = s.key == MILL_KEY_NONE};
        struct mill_state at = {0};
        struct mill_report report;
        const struct mill_events events = {judge_take, judge_notice, &j};
        struct mill_input in = {.text = file, .last = true, .flush = true, .flush_joined = true};

        if (file.len <= LINE_LIMIT && mill_run(mill, &in, &at, &events, &report) < 0)
            abort();
    }
    free(copy);
    mill_free(mill);
    recipe_free(recipe);
    return 0;
}
