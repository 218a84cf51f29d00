/* mill: lines in, records out, however the lines come.
 *
 * Each story is a file and what becomes of it: a line for each record, with its place in the file.  It
 * is told at once, in steps and reads of many sizes, and with records that are not taken at first. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#define FEED_CHECK(x) assert_true(x)
#include "base64.h"
#include "buf.h"
#include "counted_malloc.h"
#include "digest.h"
#include "feed.h"
#include "json.h"
#include "record/mill.h"
#include "record/pattern.h"
#include "record/squeeze.h"
#include "utf8.h"
#include "util.h"

enum { RECORD_MAX = 2048, LINE_LIMIT = 3000, FILE_MAX = 200 * 1024 };

/* Settings, as texts. */
struct spec {
    const char *start, *drop, *redact, *key_pattern, *suffix;
    enum parse_format format;
    enum recipe_mismatch on_mismatch;
    bool json, newline, keep_mark, header_names, csv, cri, gzip, keys;
    uint32_t header_lines, max_lines;
    enum encoding encoding;
    enum mill_key key;
    const char *key_text;
    size_t join_bytes;
    enum mill_oversize oversize;
};

/* … and what is made of them. */
struct works {
    struct mill_settings settings;
    struct recipe_settings recipe_settings;
    struct pattern *start, *drop, *redact, *key;
    struct recipe_redact redacts;
    struct recipe *recipe;
    struct squeeze *squeeze;
    struct random random;
    struct digest *digest;
    struct mill *mill;
};

static struct pattern *pattern_of(const char *text)
{
    struct pattern_error e;
    struct pattern *p = NULL;

    if (text != NULL)
        assert_int_equal(pattern_new(slice_of(text), 0, &p, &e), 0);
    return p;
}

static void make_recipe(struct works *w, const struct spec *s)
{
    struct recipe_settings *r = &w->recipe_settings;
    struct pattern_error e;

    w->drop = pattern_of(s->drop);
    w->redact = pattern_of(s->redact);
    if (w->redact != NULL) {
        w->redacts.pattern = w->redact;
        assert_int_equal(replacement_new(w->redact, SLICE("***"), &w->redacts.with, &e), 0);
    }
    *r = (struct recipe_settings){
        .drop = &w->drop,
        .drop_count = w->drop != NULL,
        .redact = &w->redacts,
        .redact_count = w->redact != NULL,
        .format = s->format,
        .parse.delimiter = ',',
        .on_mismatch = s->on_mismatch,
        .json = s->json,
        .newline = s->newline,
        .record_max = RECORD_MAX,
    };
    if (r->drop_count + r->redact_count > 0 || s->format != PARSE_NONE || s->json)
        assert_int_equal(recipe_new(r, &w->recipe), 0);
}

static void open_works(struct works *w, const struct spec *s)
{
    *w = (struct works){.random = {1}};
    assert_int_equal(digest_new(&w->digest), 0);
    if (s->gzip)
        assert_int_equal(squeeze_new(SQUEEZE_GZIP, 0, 4 * RECORD_MAX, &w->squeeze), 0);
    w->start = pattern_of(s->start);
    w->key = pattern_of(s->key_pattern);
    make_recipe(w, s);
    w->settings = (struct mill_settings){
        .events = {.start = w->start,
                   .max_lines = s->max_lines > 0 ? s->max_lines : 100,
                   .max_bytes = RECORD_MAX,
                   .csv = s->csv,
                   .cri = s->cri,
                   .delimiter = ','},
        .recipe = w->recipe,
        .encoding = s->encoding,
        .keep_mark = s->keep_mark,
        .header_lines = s->header_lines,
        .header_names = s->header_names,
        .newline = s->newline,
        .record_max = RECORD_MAX,
        .key = s->key,
        .key_text = slice_of(s->key_text),
        .key_pattern = w->key,
        .join_bytes = s->join_bytes,
        .squeeze = w->squeeze,
        .oversize = s->oversize,
        .suffix = slice_of(s->suffix),
        .seed = 42,
        .random = &w->random,
        .digest = w->digest,
    };
    assert_int_equal(mill_new(&w->settings, &w->mill), 0);
}

static void close_works(struct works *w)
{
    mill_free(w->mill);
    recipe_free(w->recipe);
    replacement_free(w->redacts.with);
    squeeze_free(w->squeeze);
    pattern_free(w->start);
    pattern_free(w->drop);
    pattern_free(w->redact);
    pattern_free(w->key);
    digest_free(w->digest);
}

/* Tells a file in every way; `first` gets what becomes of it.  Random keys differ: then not `keys`. */
static void tell(const char *name, const struct spec *s, struct slice file, struct slice carry,
                 size_t header, struct buf *first)
{
    static const size_t steps[] = {0, 1, 3, 5, 40, 333, 2500};
    static const size_t chunks[] = {1, 3, 100, 1500};
    struct buf next;
    struct works w;
    struct feed f;

    open_works(&w, s);
    buf_init(&next, FEED_TEXT_MAX);
    f = (struct feed){.mill = w.mill, .encoding = s->encoding, .file = file, .keys = s->keys};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        for (size_t c = 0; c < ARRAY_LEN(chunks); c++)
            for (uint64_t refuse = 0; refuse < 6; refuse++) {
                bool is_first = i + c + refuse == 0;

                if (file.len > 20000 && steps[i] != 0 && steps[i] < 100)
                    continue; /* takes long */
                f.out = is_first ? first : &next;
                f.carry = carry;
                f.way = (struct feed_way){steps[i], 2 * chunks[c], LINE_LIMIT, refuse, false};
                buf_reset(f.out);
                feed_all(&f);
                feed_check_covered(&f, MIN(header, file.len));
                feed_done(&f);
                assert_true(f.carry_used == (carry.len > 0));
                if (!is_first && !slice_equal(buf_slice(&next), buf_slice(first)))
                    fail_msg("%s; steps of %zu, reads of %zu, refusing %d:\n%.*s\nnot:\n%.*s", name,
                             steps[i], 2 * chunks[c], (int)refuse, SLICE_ARG(buf_slice(&next)),
                             SLICE_ARG(buf_slice(first)));
            }
    buf_done(&next);
    close_works(&w);
}

/* --- short stories --- */

#define T             "2016-10-06T00:17:09.669794202Z "
#define FILE_OF(text) .file = (text), .len = sizeof(text) - 1
#define COUNTS(records, dropped, mismatched)                                                       \
    "records=" #records " dropped=" #dropped " mismatched=" #mismatched                            \
    " times=0 gave_up=0 cut=0 keys=0 zeros=0"

static const struct story {
    const char *name;
    struct spec spec;
    const char *file;
    size_t len;
    const char *carry;
    size_t header; /* bytes at the beginning that become nothing */
    const char *is;
} stories[] = {
    /* clang-format off */
    {"lines as they are", {0}, FILE_OF("a\n\nb\r\nc"),
     .is = "0-2 a\n2-3 \n3-6 b\r\n6-7 c\n" COUNTS(4, 0, 0)},
    {"with newlines", {.newline = true}, FILE_OF("a\n\nb\r\nc"),
     .is = "0-2 a\n\n2-3 \n\n3-6 b\r\n\n6-7 c\n\n" COUNTS(4, 0, 0)},
    {"any bytes", {0}, FILE_OF("\xff\0\x80\n\x01\n"), .is = NULL},

    {"a mark", {0}, FILE_OF("\xef\xbb\xbf" "a\nb\n"), .header = 3, .is = "3-5 a\n5-7 b\n" COUNTS(2, 0, 0)},
    {"a mark that is kept", {.keep_mark = true}, FILE_OF("\xef\xbb\xbf" "a\nb\n"),
     .is = "0-5 \xef\xbb\xbf" "a\n5-7 b\n" COUNTS(2, 0, 0)},
    {"nothing but a mark", {0}, FILE_OF("\xef\xbb\xbf"), .header = 3, .is = COUNTS(0, 0, 0)},
    {"UTF-16LE", {.encoding = ENCODING_UTF16LE},
     FILE_OF("\xff\xfe" "a\0\n\0\xe4\0\n\0\x3d\xd8\x00\xde\r\0\n\0\n\0" "b\0"), .header = 2,
     .is = "2-6 a\n6-10 \xc3\xa4\n10-18 \xf0\x9f\x98\x80\r\n18-20 \n20-22 b\n" COUNTS(5, 0, 0)},
    {"UTF-16BE", {.encoding = ENCODING_UTF16BE, .newline = true},
     FILE_OF("\xfe\xff\0a\0\n\x0a\x0a\0\n\0b"), .header = 2,
     .is = "2-6 a\n\n6-10 \xe0\xa8\x8a\n\n10-12 b\n\n" COUNTS(3, 0, 0)},
    {"half a unit at the end", {.encoding = ENCODING_UTF16LE}, FILE_OF("a\0\n\0b"),
     .is = "0-4 a\n4-5 \xef\xbf\xbd\n" COUNTS(2, 0, 0)},
    {"Latin-1", {.encoding = ENCODING_LATIN1, .start = "^\\S"}, FILE_OF("\xe4\n \xf6\n\xfc\n"),
     .is = "0-5 \xc3\xa4\n \xc3\xb6\n5-7 \xc3\xbc\n" COUNTS(2, 0, 0)},

    {"header lines", {.header_lines = 2}, FILE_OF("h\n#\na\nb\n"), .header = 4,
     .is = "4-6 a\n6-8 b\n" COUNTS(2, 0, 0)},
    {"header lines that are not all there", {.header_lines = 3}, FILE_OF("h\n#\na"), .header = 5,
     .is = COUNTS(0, 0, 0)},
    {"header lines of UTF-16", {.header_lines = 1, .encoding = ENCODING_UTF16LE},
     FILE_OF("\xff\xfeh\0\n\0" "a\0\n\0"), .header = 6, .is = "6-10 a\n" COUNTS(1, 0, 0)},
    {"names of columns", {.header_lines = 2, .header_names = true, .csv = true, .format = PARSE_CSV, .json = true},
     FILE_OF("\xef\xbb\xbf#\n\"a\"\"\",b\r\n1,2\r\n\"3\n4\",5\r\n"), .header = 14,
     .is = "14-19 {\"a\\\"\":\"1\",\"b\":\"2\"}\n19-28 {\"a\\\"\":\"3\\n4\",\"b\":\"5\"}\n" COUNTS(2, 0, 0)},
    {"names of columns with a mark before them",
     {.header_lines = 1, .header_names = true, .csv = true, .format = PARSE_CSV, .json = true},
     FILE_OF("\xef\xbb\xbf" "a,b\n1,2\n3"), .header = 7,
     .is = "7-11 {\"a\":\"1\",\"b\":\"2\"}\n11-12 {\"a\":\"3\",\"b\":null}\n" COUNTS(2, 0, 0)},
    {"names of columns in UTF-16",
     {.header_lines = 1, .header_names = true, .csv = true, .format = PARSE_CSV, .json = true,
      .encoding = ENCODING_UTF16BE},
     FILE_OF("\0a\0,\0\xe4\0\n\0" "1\0,\0" "2\0\n"), .header = 8,
     .is = "8-16 {\"a\":\"1\",\"\xc3\xa4\":\"2\"}\n" COUNTS(1, 0, 0)},

    {"dropped", {.drop = "x"}, FILE_OF("a\nx\nb\nx"), .is = "0-2 a\n4-6 b\n" COUNTS(2, 2, 0)},
    {"dead", {.format = PARSE_JSON, .json = true, .on_mismatch = RECIPE_MISMATCH_DEAD},
     FILE_OF("{}\nx\n{\n[]\n"), .is = "0-3 {}\n3-5 dead x\n5-7 dead {\n7-10 dead []\n" COUNTS(4, 0, 3)},
    {"sent as it is", {.format = PARSE_JSON, .json = true, .newline = true}, FILE_OF("{ }\nx"),
     .is = "0-4 {}\n\n4-5 x\n\n" COUNTS(2, 0, 1)},

    {"joined", {.join_bytes = 5}, FILE_OF("a\nb\nc\nd\ne\n"),
     .is = "0-6 a\nb\nc\n6-10 d\ne\n" COUNTS(2, 0, 0)},
    {"joined, with newlines", {.join_bytes = 6, .newline = true}, FILE_OF("a\nb\nc\nd\ne"),
     .is = "0-6 a\nb\nc\n\n6-9 d\ne\n\n" COUNTS(2, 0, 0)},
    {"joined, with holes", {.join_bytes = 5}, FILE_OF("a\n\0\0b\nc\n\0d\n"),
     .is = "0-8 a\nb\nc\n9-11 d\nrecords=2 dropped=0 mismatched=0 times=0 gave_up=0 cut=0 keys=0 zeros=3"},
    {"joined events, with a hole", {.join_bytes = 9, .start = "^\\S"}, FILE_OF("a\n\0\0b\n 1\nc\n"),
     .is = "0-11 a\nb\n 1\nc\nrecords=1 dropped=0 mismatched=0 times=0 gave_up=0 cut=0 keys=0 zeros=2"},
    {"joined, with longer ones between", {.join_bytes = 4}, FILE_OF("a\nbcdef\nc\nd\ne\n"),
     .is = "0-2 a\n2-8 bcdef\n8-12 c\nd\n12-14 e\n" COUNTS(4, 0, 0)},
    {"joined, some dropped", {.join_bytes = 5, .drop = "x"}, FILE_OF("x\na\nx\nb\nx\nc\nx\nd\nx\n"),
     .is = "2-12 a\nb\nc\n14-16 d\n" COUNTS(2, 5, 0)},
    {"joined, some dead", {.join_bytes = 9, .format = PARSE_JSON, .json = true, .on_mismatch = RECIPE_MISMATCH_DEAD},
     FILE_OF("{}\n{}\nx\n{}\n"), .is = "0-6 {}\n{}\n6-8 dead x\n8-11 {}\n" COUNTS(3, 0, 1)},
    {"joined events", {.join_bytes = 9, .start = "^\\S"}, FILE_OF("a\n 1\nb\n 2\nc\nd\n"),
     .is = "0-10 a\n 1\nb\n 2\n10-14 c\nd\n" COUNTS(2, 0, 0)},
    {"joined by their keys", {.join_bytes = 99, .key = MILL_KEY_REGEX, .key_pattern = "^(\\w)=", .keys = true},
     FILE_OF("a=1\na=2\nb=3\na=4\n"),
     .is = "0-8 \"a\" a=1\na=2\n8-12 \"b\" b=3\n12-16 \"a\" a=4\n" COUNTS(3, 0, 0)},
    {"joined, of a container", {.join_bytes = 3, .cri = true, .format = PARSE_CRI},
     FILE_OF(T "stdout P a\n" T "stderr F b\n" T "stderr F c\n" T "stdout F d\n" T "stdout F e\n"),
     .is = "0-168 b\nc\n0-168 ad\n168-210 e\n" COUNTS(3, 0, 0) },
    {"of a container, some dropped", {.drop = "[bx]$", .cri = true, .format = PARSE_CRI},
     FILE_OF(T "stdout P a\n" T "stderr F b\n" T "stderr F c\n" T "stderr F x\n" T "stdout F d\n"),
     .is = "0-210 c\n0-210 ad\n" COUNTS(2, 2, 0)},

    {"the key: const", {.key = MILL_KEY_CONST, .key_text = "k\"", .keys = true}, FILE_OF("a\nb\n"),
     .is = "0-2 \"k\\\"\" a\n2-4 \"k\\\"\" b\n" COUNTS(2, 0, 0)},
    {"the key: file", {.key = MILL_KEY_FILE, .keys = true}, FILE_OF("a\n"),
     .is = "0-2 \"/var/log/a.log\" a\n" COUNTS(1, 0, 0)},
    {"the key: hash", {.key = MILL_KEY_HASH, .keys = true}, FILE_OF("a\na\n"),
     .is = "0-2 \"0cc175b9c0f1b6a831c399e269772661\" a\n2-4 \"0cc175b9c0f1b6a831c399e269772661\" a\n" COUNTS(2, 0, 0)},
    {"the key: none", {.key = MILL_KEY_NONE, .keys = true}, FILE_OF("a\n"), .is = "0-2  a\n" COUNTS(1, 0, 0)},
    {"the key: none, joined", {.key = MILL_KEY_NONE, .keys = true, .join_bytes = 3}, FILE_OF("a\nb\nc\n"),
     .is = "0-4  a\nb\n4-6  c\n" COUNTS(2, 0, 0)},
    {"the key: a group", {.key = MILL_KEY_REGEX, .key_pattern = "(\\w+)$", .keys = true},
     FILE_OF("x a\nx b\r\n"), .is = "0-4 \"a\" x a\n4-9 \"b\" x b\r\n" COUNTS(2, 0, 0)},
    {"the key: all that matches", {.key = MILL_KEY_REGEX, .key_pattern = "\\d+", .keys = true},
     FILE_OF("x 12\n"), .is = "0-5 \"12\" x 12\n" COUNTS(1, 0, 0)},
    {"the key: of what is redacted", {.key = MILL_KEY_REGEX, .key_pattern = ".+", .redact = "\\d+", .keys = true},
     FILE_OF("x 12\n"), .is = "0-5 \"x ***\" x ***\n" COUNTS(1, 0, 0)},
    {"the key: a field", {.key = MILL_KEY_FIELD, .key_text = "k", .format = PARSE_JSON, .keys = true},
     FILE_OF("{\"k\":\"a\\u00e4\\\"\"}\n{\"k\":1}\n{\"k\":true}\n{\"k\":[1]}\n"),
     .is = "0-18 \"a\xc3\xa4\\\"\" {\"k\":\"a\\u00e4\\\"\"}\n18-26 \"1\" {\"k\":1}\n26-37 \"true\" {\"k\":true}\n"
           "37-47 \"[1]\" {\"k\":[1]}\n" COUNTS(4, 0, 0)},
    {"the key: a path", {.key = MILL_KEY_FIELD, .key_text = "a.b.c", .format = PARSE_JSON, .keys = true},
     FILE_OF("{\"a\":{\"x\":[{}],\"b\":{\"d\":1,\"c\":\"\\\"\\u0041\\n\"}}}\n{\"a.b.c\":2}\n{\"a\":{\"b\":{\"c\":3}}}\n"),
     .is = "0-46 \"\\\"A\\n\" {\"a\":{\"x\":[{}],\"b\":{\"d\":1,\"c\":\"\\\"\\u0041\\n\"}}}\n"
           "46-58 \"2\" {\"a.b.c\":2}\n58-78 \"3\" {\"a\":{\"b\":{\"c\":3}}}\n" COUNTS(3, 0, 0)},
    {"the key is missing", {.key = MILL_KEY_FIELD, .key_text = "a.b", .format = PARSE_JSON},
     FILE_OF("{\"a\":{}}\n{\"a\":1}\n{\"a\":{\"b\":null}}\n{\"a\":{\"b\":{}}}\n{\"a\":{\"b\":\"\"}}\nx\n{\"a.b\":null}\n"),
     .is = NULL},

    {"carried on", {.start = "^\\S"}, FILE_OF(" 2\nb\n"), .carry = "a\n 1\n",
     .is = "0-3 carried a\n 1\n 2\n3-5 b\n" COUNTS(2, 0, 0)},
    {"carried, and not gone on with", {.start = "^\\S"}, FILE_OF("b\n 1\n"), .carry = "a\n 1\n",
     .is = "0-0 carried a\n 1\n0-5 b\n 1\n" COUNTS(2, 0, 0)},
    {"carried, and nothing came", {.start = "^\\S"}, FILE_OF(""), .carry = "a\n 1\n",
     .is = "0-0 carried a\n 1\n" COUNTS(1, 0, 0)},
    {"carried, and only half a line came", {.start = "^\\S"}, FILE_OF(" 2"), .carry = "a\n 1\n",
     .is = "0-2 carried a\n 1\n 2\n" COUNTS(1, 0, 0)},
    {"carried over a header", {.start = "^\\S", .header_lines = 1}, FILE_OF("h\n 2\nb\n"), .carry = "a\n",
     .header = 2, .is = "2-5 carried a\n 2\n5-7 b\n" COUNTS(2, 0, 0)},
    {"carried into UTF-16", {.start = "^\\S", .encoding = ENCODING_UTF16LE},
     FILE_OF("\xff\xfe \0\n\0" "b\0\n\0"), .carry = "\xc3\xa4\n", .header = 2,
     .is = "2-6 carried \xc3\xa4\n \n6-10 b\n" COUNTS(2, 0, 0)},
    {"carried and dropped", {.start = "^\\S", .drop = "a"}, FILE_OF(" 2\nb\n"), .carry = "a\n 1\n",
     .is = "3-5 b\n" COUNTS(1, 1, 0)},
    {"carried and joined", {.start = "^\\S", .join_bytes = 8}, FILE_OF("b\nc\nd\ne\nf\n"), .carry = "a\n 1\n",
     .is = "0-4 carried a\n 1\nb\nc\n4-10 d\ne\nf\n" COUNTS(2, 0, 0)},
    {"carried, of a container", {.cri = true}, FILE_OF(T "stderr F x\n" T "stdout F b\n"),
     .carry = T "stdout P a\n",
     .is = "0-84 carried " T "stderr F x\n0-84 carried " T "stdout F ab\n" COUNTS(2, 0, 0)},
    /* clang-format on */
};

static void stories_are_told(void **state)
{
    struct buf is;

    (void)state;
    buf_init(&is, FEED_TEXT_MAX);
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        struct slice want = slice_of(s->is);

        tell(s->name, &s->spec, (struct slice){s->file, s->len}, slice_of(s->carry), s->header,
             &is);
        if (s->is != NULL && !slice_equal(buf_slice(&is), want))
            fail_msg("%s:\n%.*s\nnot:\n%s", s->name, SLICE_ARG(buf_slice(&is)), s->is);
    }
    buf_done(&is);
}

/* --- records too large --- */

/* Puts parts together, and asks of each what mill_large.c says of it. */
struct assembly {
    struct buf text, of, key;
    uint32_t next;
    bool whole, newline, keyless;
    unsigned parts;
    uint64_t end, refuse;
    size_t record_max; /* 0: RECORD_MAX */
    struct random random;
};

static bool take_part(void *user, const struct mill_piece *p)
{
    struct assembly *a = user;
    struct slice record = p->record, part = {0}, of = {0}, text = {0}, base64 = {0};
    struct json j;
    struct json_token t;
    bool last = false;
    size_t len;

    if (a->refuse != 0 && random_below(&a->random, 3) == 0)
        return false;
    assert_true(p->record.len + p->key->len <= MAX(a->record_max, (size_t)RECORD_MAX));
    assert_int_equal(p->verdict, RECIPE_SEND);
    if (a->newline) {
        assert_true(slice_ends_with(record, SLICE("\n")));
        record.len--;
    }
    json_init(&j, record);
    assert_true(json_next(&j, &t) == 0 && t.type == JSON_OBJECT_BEGIN);
    while (json_next(&j, &t) == 0 && t.type == JSON_KEY) {
        struct slice name = t.text;

        assert_int_equal(json_next(&j, &t), 0);
        if (slice_equal(name, SLICE("part")))
            part = t.text;
        else if (slice_equal(name, SLICE("last")))
            last = t.type == JSON_TRUE;
        else if (slice_equal(name, SLICE("of")))
            of = t.text;
        else if (slice_equal(name, SLICE("text")))
            text = t.text;
        else if (slice_equal(name, SLICE("base64")))
            base64 = t.text;
        else
            fail_msg("%.*s", SLICE_ARG(record));
    }
    assert_true(json_next(&j, &t) == 0 && t.type == JSON_END);
    assert_false(a->whole);
    assert_int_equal(strtoul(part.ptr, NULL, 10), ++a->next);
    if (a->next == 1) {
        assert_int_equal(buf_append(&a->of, of), 0);
        assert_int_equal(buf_append(&a->key, key_json(p->key)), 0);
    }
    assert_true(slice_equal(of, buf_slice(&a->of)));
    assert_true(slice_equal(key_json(p->key), buf_slice(&a->key)));
    assert_int_equal(p->key->len == 0, a->keyless);
    assert_true(p->end >= a->end);
    a->end = p->end;
    if (base64.ptr != NULL) {
        assert_int_equal(buf_reserve(&a->text, a->text.len + base64.len), 0);
        assert_int_equal(base64_decode(base64, a->text.ptr + a->text.len, &len), 0);
        a->text.len += len;
    } else {
        assert_int_equal(json_unescape(text, &a->text), 0);
    }
    a->whole = last;
    a->parts++;
    return true;
}

static void say_nothing(void *user, const struct mill_notice *n)
{
    (void)user;
    (void)n;
}

/* Gives a long line in pieces, as the source does; `plain_from`: from there on as an ordinary line, which
 * is what a source does that has lost track of its beginning. */
static void send_long(struct works *w, struct slice file, size_t plain_from, struct assembly *a)
{
    const struct mill_events events = {take_part, say_nothing, a};
    size_t unit = encoding_newline_len(w->settings.encoding);
    struct mill_state at = {0};
    struct mill_report report;

    for (uint64_t offset = 0; offset < file.len; offset = report.offset) {
        struct slice rest = slice_from(file, (size_t)offset);
        bool plain = offset >= plain_from;
        struct mill_input in = {
            .text = plain ? rest : slice_first(rest, MIN((size_t)LINE_LIMIT, rest.len - unit)),
            .offset = offset,
            .cut = !plain,
            .line_end = file.len,
            .place = {.file = SLICE("/a.log")},
        };

        assert_int_equal(mill_run(w->mill, &in, &at, &events, &report), 0);
        assert_true(report.end == MILL_ALL || (a->refuse != 0 && report.end == MILL_FULL));
        assert_true(report.end == MILL_FULL || report.offset > offset);
        assert_int_equal(report.lines, report.offset == file.len ? 1 : 0);
    }
    assert_int_equal(at.line_parts, 0);
}

struct collected {
    size_t records, longest;
};

static bool collect(void *user, const struct mill_piece *p)
{
    struct collected *c = user;

    c->records++;
    c->longest = MAX(c->longest, p->record.len);
    return true;
}

enum texture { ASCII, UMLAUTS, EMOJI, CONTROLS, QUOTES, NOISE, ZEROS, TEXTURES };

static size_t weave(enum texture t, size_t len, char *to)
{
    static const struct slice threads[] = {
        [ASCII] = SLICE("0123456789abc"),
        [UMLAUTS] = SLICE("\xc3\xa4x\xc3\xb6"),
        [EMOJI] = SLICE("\xf0\x9f\x98\x80\xe2\x82\xac"),
        [CONTROLS] = SLICE("\x01\x02"),
        [QUOTES] = SLICE("\"\\"),
        [NOISE] = SLICE("\xff\xc3\x28"
                        "a\x80\xf0\x9f"),
        [ZEROS] = SLICE("a\0\0\0"),
    };

    for (size_t i = 0; i < len; i++)
        to[i] = threads[t].ptr[i % threads[t].len];
    return len;
}

static char memory[FILE_MAX + 2], wide[2 * FILE_MAX + 2];

static void begin_assembly(struct assembly *a, const struct spec *s, uint64_t refuse)
{
    *a = (struct assembly){.newline = s->newline,
                           .keyless = s->key == MILL_KEY_NONE,
                           .refuse = refuse,
                           .random = {refuse}};
    buf_init(&a->text, FEED_TEXT_MAX);
    buf_init(&a->of, 1000);
    buf_init(&a->key, 1000);
}

static void end_assembly(struct assembly *a, struct slice line)
{
    assert_true(a->whole);
    assert_true(slice_equal(buf_slice(&a->text), line));
    buf_done(&a->text);
    buf_done(&a->of);
    buf_done(&a->key);
}

/* A line's parts give the line again: of every texture, of lengths around the limits, as a line and
 * in pieces. */
static void parts_are_a_line_again(void **state)
{
    static const size_t lens[] = {RECORD_MAX,         RECORD_MAX + 1,     LINE_LIMIT - 1,
                                  LINE_LIMIT,         LINE_LIMIT + 1,     2 * LINE_LIMIT - 1,
                                  2 * LINE_LIMIT,     2 * LINE_LIMIT + 1, 5 * LINE_LIMIT,
                                  5 * LINE_LIMIT + 1, 5 * LINE_LIMIT + 2, 5 * LINE_LIMIT + 3};
    static const struct spec specs[] = {
        {.oversize = MILL_SPLIT},
        {.oversize = MILL_SPLIT, .newline = true},
        {.oversize = MILL_SPLIT, .newline = true, .key = MILL_KEY_NONE},
        {.oversize = MILL_SPLIT, .key = MILL_KEY_CONST, .key_text = "k", .start = "^\\S"},
        {.oversize = MILL_SPLIT, .key = MILL_KEY_HASH, .drop = "^never$", .cri = true},
        {.oversize = MILL_SPLIT, .join_bytes = 500, .key = MILL_KEY_REGEX, .key_pattern = "none"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        struct works w;

        open_works(&w, &specs[i]);
        for (enum texture t = 0; t < TEXTURES; t++)
            for (size_t l = 0; l < ARRAY_LEN(lens); l++)
                for (uint64_t refuse = 0; refuse < 3; refuse++) {
                    struct slice file = {memory, weave(t, lens[l], memory) + 1};
                    struct assembly a;

                    memory[lens[l]] = '\n';
                    for (size_t plain = 0; plain <= 3; plain++) {
                        begin_assembly(&a, &specs[i], refuse);
                        send_long(&w, file, plain < 3 ? plain * LINE_LIMIT - plain : SIZE_MAX, &a);
                        end_assembly(&a, slice_first(file, lens[l]));
                    }
                }
        close_works(&w);
    }
}

/* What a record may be changes between any two visits, while parts are refused for want of room: they are
 * those of one line all the same. */
static void parts_outlive_another_limit(void **state)
{
    static const struct spec specs[] = {
        {.oversize = MILL_SPLIT},
        {.oversize = MILL_SPLIT, .newline = true, .key = MILL_KEY_REGEX, .key_pattern = "(.)"},
        {.oversize = MILL_SPLIT, .key = MILL_KEY_CONST, .key_text = "k", .join_bytes = 500},
    };
    static const size_t limits[] = {RECORD_MAX, RECORD_MAX + 1, RECORD_MAX + RECORD_MAX / 2,
                                    3 * RECORD_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(specs); i++)
        for (enum texture t = 0; t < TEXTURES; t++)
            for (uint64_t seed = 1; seed <= 40; seed++) {
                size_t len = 4 * RECORD_MAX + (size_t)seed;
                struct slice file = {memory, weave(t, len, memory) + 1};
                struct mill_state at = {0};
                struct mill_report report;
                struct assembly a;
                struct works w;

                memory[len] = '\n';
                open_works(&w, &specs[i]);
                begin_assembly(&a, &specs[i], seed);
                for (uint64_t offset = 0; offset < file.len; offset = report.offset) {
                    const struct mill_events events = {take_part, say_nothing, &a};
                    struct slice rest = slice_from(file, (size_t)offset);
                    size_t most;
                    bool plain;

                    mill_set_record_max(w.mill, limits[random_below(&a.random, 4)]);
                    most = a.record_max = mill_record_max(w.mill, &at);
                    plain = rest.len <= most + 1;
                    const struct mill_input in = {
                        .text = plain ? rest : slice_first(rest, most),
                        .offset = offset,
                        .cut = !plain,
                        .line_end = file.len,
                        .place = {.file = SLICE("/a.log")},
                    };

                    assert_int_equal(mill_run(w.mill, &in, &at, &events, &report), 0);
                    assert_true(report.end == MILL_ALL || report.end == MILL_FULL);
                }
                end_assembly(&a, slice_first(file, len));
                close_works(&w);
            }
}

/* A record that is too large waits while the limit may rise; what is before it does not; and when it has
 * risen, or will not, it is a record. */
static void what_is_too_large_can_wait(void **state)
{
    static const struct spec specs[] = {
        {.oversize = MILL_TRUNCATE},
        {.oversize = MILL_DEAD, .join_bytes = 500},
        {.oversize = MILL_SPLIT, .json = true},
        {.oversize = MILL_SPLIT, .start = "^\\S"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(specs); i++)
        for (int rises = 0; rises <= 1; rises++) {
            struct slice file = {memory, 2 + RECORD_MAX + 1};
            struct mill_input in = {.text = file, .flush = true, .hold_large = true};
            struct collected c = {0};
            const struct mill_events events = {collect, say_nothing, &c};
            struct mill_state at = {0};
            struct mill_report report;
            struct works w;

            open_works(&w, &specs[i]);
            (void)weave(ASCII, file.len, memory);
            memory[1] = memory[file.len - 1] = '\n';
            for (int again = 0; again < 3; again++) {
                assert_int_equal(mill_run(w.mill, &in, &at, &events, &report), 0);
                assert_int_equal(report.end, MILL_HELD);
                assert_int_equal(report.offset, 2);
                assert_int_equal(c.records, 1);
                in.offset = report.offset;
                in.text = slice_from(file, 2);
            }
            if (rises)
                mill_set_record_max(w.mill, 3 * RECORD_MAX);
            in.hold_large = rises;
            assert_int_equal(mill_run(w.mill, &in, &at, &events, &report), 0);
            assert_int_equal(report.end, MILL_ALL);
            assert_int_equal(report.offset, file.len);
            assert_true(rises ? c.records == 2 && c.longest >= RECORD_MAX
                              : c.records >= 2 && c.longest <= RECORD_MAX + 1);
            close_works(&w);
        }
}

/* The line comes as UTF-16: a pair of surrogates may lie across two pieces. */
static void parts_of_utf16(void **state)
{
    static const struct spec specs[] = {
        {.oversize = MILL_SPLIT, .encoding = ENCODING_UTF16LE},
        {.oversize = MILL_SPLIT, .encoding = ENCODING_UTF16BE, .newline = true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(specs); i++)
        for (size_t shift = 0; shift < 4; shift++) {
            bool le = specs[i].encoding == ENCODING_UTF16LE;
            size_t n = 0, len = 0;
            struct assembly a;
            struct works w;

            open_works(&w, &specs[i]);
            while (n < 4 * LINE_LIMIT) {
                uint16_t units[2] = {0xd83d, 0xde00};
                bool plain = n < 2 * shift;

                if (plain)
                    units[0] = 'a';
                for (size_t k = 0; k < (plain ? 1 : 2); k++) {
                    wide[n++] = (char)(le ? units[k] & 0xff : units[k] >> 8);
                    wide[n++] = (char)(le ? units[k] >> 8 : units[k] & 0xff);
                }
                memcpy(memory + len, plain ? "a" : "\xf0\x9f\x98\x80", plain ? 1 : 4);
                len += plain ? 1 : 4;
            }
            wide[n] = le ? '\n' : 0;
            wide[n + 1] = le ? 0 : '\n';
            begin_assembly(&a, &specs[i], 0);
            send_long(&w, (struct slice){wide, n + 2}, SIZE_MAX, &a);
            end_assembly(&a, (struct slice){memory, len});
            close_works(&w);
        }
}

/* What was given, in order. */
struct sink {
    struct buf text;
    unsigned records, events, dead;
    size_t longest;
};

static bool take_all(void *user, const struct mill_piece *p)
{
    struct sink *s = user;

    if (p->verdict == RECIPE_DROP)
        return true;
    s->records++;
    s->events += p->events;
    s->dead += p->verdict == RECIPE_DEAD;
    if (p->verdict == RECIPE_SEND)
        s->longest = MAX(s->longest, p->record.len + p->key->len);
    assert_int_equal(buf_append(&s->text, p->record), 0);
    return true;
}

static void run_once(struct works *w, struct mill_input *in, struct sink *s)
{
    const struct mill_events events = {take_all, say_nothing, s};
    struct mill_state at = {0};
    struct mill_report report;

    *s = (struct sink){0};
    buf_init(&s->text, FEED_TEXT_MAX);
    assert_int_equal(mill_run(w->mill, in, &at, &events, &report), 0);
    assert_int_equal(report.end, MILL_ALL);
    assert_true(report.offset == (in->cut ? in->line_end : in->offset + in->text.len));
}

static void a_long_line_is_cut(void **state)
{
    static const struct spec specs[] = {
        {.suffix = "..."},
        {.suffix = "...", .newline = true},
        {.suffix = "", .redact = "0"},
        {.suffix = "...", .oversize = MILL_SPLIT, .redact = "never", .newline = true},
        {.suffix = "...", .format = PARSE_CRI, .cri = true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(specs); i++)
        for (enum texture t = 0; t < ZEROS; t++)
            for (int cut = 0; cut < 2; cut++) {
                const struct spec *s = &specs[i];
                struct slice head = s->cri ? SLICE(T "stdout F ") : SLICE("");
                struct works w;
                struct sink is;
                struct mill_input in = {.text = {memory, LINE_LIMIT}, .line_end = 3 * LINE_LIMIT};
                size_t max = RECORD_MAX - KEY_RANDOM_LEN, len;

                if (s->oversize == MILL_SPLIT && !cut)
                    continue; /* a redacted record is split, if it was seen whole */
                open_works(&w, s);
                memcpy(memory, head.ptr, head.len);
                (void)weave(t, LINE_LIMIT, memory + head.len);
                in.cut = cut;
                memory[LINE_LIMIT - 1] = cut ? 'x' : '\n';
                run_once(&w, &in, &is);
                assert_int_equal(is.records, 1);
                assert_int_equal(is.dead, 0);
                len = is.text.len;
                assert_true(len <= max && len > max - 4);
                if (s->newline)
                    assert_true(is.text.ptr[--len] == '\n');
                assert_true(
                    slice_ends_with(slice_first(buf_slice(&is.text), len), slice_of(s->suffix)));
                len -= strlen(s->suffix);
                if (t != NOISE)
                    assert_true(utf8_valid(slice_first(buf_slice(&is.text), len)));
                if (s->redact == NULL || t != ASCII)
                    assert_memory_equal(is.text.ptr, memory + head.len, len);
                buf_done(&is.text);
                close_works(&w);
            }
}

static void a_long_record_of_json_is_cut(void **state)
{
    static const struct spec s = {.suffix = "...", .json = true, .newline = true};

    (void)state;
    for (enum texture t = 0; t < TEXTURES; t++) {
        struct mill_input in = {.text = {memory, LINE_LIMIT}};
        struct json_token token;
        struct json j;
        struct works w;
        struct sink is;

        open_works(&w, &s);
        (void)weave(t, LINE_LIMIT, memory);
        if (t == ZEROS)
            memory[0] = 'a';
        memory[LINE_LIMIT - 1] = '\n';
        run_once(&w, &in, &is);
        assert_int_equal(is.records, 1);
        assert_true(is.longest <= RECORD_MAX);
        json_init(&j, buf_slice(&is.text));
        assert_true(json_next(&j, &token) == 0 && token.type == JSON_OBJECT_BEGIN);
        assert_true(json_next(&j, &token) == 0 && token.type == JSON_KEY);
        assert_true(json_next(&j, &token) == 0 && slice_ends_with(token.text, SLICE("...")));
        assert_true(json_next(&j, &token) == 0 && token.type == JSON_OBJECT_END);
        assert_true(json_next(&j, &token) == 0 && token.type == JSON_END);
        buf_done(&is.text);
        close_works(&w);
    }
}

static void a_long_line_is_dead(void **state)
{
    static const struct spec s = {.oversize = MILL_DEAD};
    struct mill_input in = {.text = {memory, LINE_LIMIT}, .line_end = 3 * LINE_LIMIT};
    struct works w;
    struct sink is;

    (void)state;
    open_works(&w, &s);
    (void)weave(ASCII, LINE_LIMIT, memory);
    for (int cut = 0; cut < 2; cut++) {
        in.cut = cut;
        memory[LINE_LIMIT - 1] = cut ? 'x' : '\n';
        run_once(&w, &in, &is);
        assert_int_equal(is.records, 1);
        assert_int_equal(is.dead, 1);
        buf_done(&is.text);
    }
    close_works(&w);
}

/* The longest line that may be is sent as it is; one byte more, and it is not. */
static void check_limit(const struct spec *s, size_t key_len)
{
    struct works w;

    open_works(&w, s);
    for (size_t len = RECORD_MAX - 2 * KEY_RANDOM_LEN; len < RECORD_MAX + 2; len++)
        for (int half = 0; half < 2; half++) {
            struct mill_input in = {.text = {memory, len + !half}, .last = true, .flush = true};
            struct sink is;

            (void)weave(ASCII, len, memory);
            memory[len] = '\n';
            run_once(&w, &in, &is);
            assert_int_equal(is.records, 1);
            assert_true(is.longest <= RECORD_MAX);
            assert_int_equal(memchr(is.text.ptr, '!', is.text.len) != NULL,
                             len + 1 + key_len > RECORD_MAX);
            buf_done(&is.text);
        }
    close_works(&w);
}

static void the_limit_is_the_services(void **state)
{
    static const struct spec with = {.suffix = "!", .newline = true};
    static const struct spec without = {.suffix = "!", .newline = true, .key = MILL_KEY_NONE};

    (void)state;
    check_limit(&with, KEY_RANDOM_LEN);
    check_limit(&without, 0);
}

/* A header line that is too long to be seen whole is a header line nevertheless. */
static void a_long_header_is_passed(void **state)
{
    static const struct spec s = {.header_lines = 1, .header_names = true};
    struct mill_input in = {.text = {memory, LINE_LIMIT}, .cut = true, .line_end = 3 * LINE_LIMIT};
    struct works w;
    struct sink is;

    (void)state;
    (void)weave(ASCII, LINE_LIMIT, memory);
    open_works(&w, &s);
    run_once(&w, &in, &is);
    assert_int_equal(is.records, 0);
    close_works(&w);
}

/* An event that was carried here does not go on in a line of which only the beginning is there. */
static void what_is_carried_is_not_mixed_with_a_long_line(void **state)
{
    static const struct spec s = {.start = "^\\S", .suffix = "..."};
    struct mill_input in = {.text = {memory, LINE_LIMIT},
                            .cut = true,
                            .line_end = 3 * LINE_LIMIT,
                            .carry = SLICE("a\n 1\n")};
    struct works w;
    struct sink is;

    (void)state;
    memset(memory, ' ', LINE_LIMIT);
    open_works(&w, &s);
    run_once(&w, &in, &is);
    assert_int_equal(is.records, 2);
    assert_true(slice_starts_with(buf_slice(&is.text), SLICE("a\n 1 ")));
    buf_done(&is.text);
    close_works(&w);
}

/* --- records that are not plain --- */

static void joined_records_are_compressed_together(void **state)
{
    static const struct spec s = {.join_bytes = 500, .gzip = true, .newline = true};
    struct mill_input in = {.text = {memory, 0}, .flush_joined = true};
    struct works w;
    struct sink is;
    static char back[FILE_MAX];
    z_stream z = {0};
    size_t len = 0;
    unsigned members = 0;

    (void)state;
    for (unsigned i = 0; i < 500; i++)
        in.text.len += (size_t)snprintf(memory + in.text.len, 40, "line %u\n", i);
    open_works(&w, &s);
    run_once(&w, &in, &is);
    assert_int_equal(is.events, 500);
    assert_true(is.records < 12);
    z.next_in = (z_const Bytef *)is.text.ptr;
    z.avail_in = (uInt)is.text.len;
    while (z.avail_in > 0) {
        assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
        z.next_out = (Bytef *)back + len;
        z.avail_out = (uInt)(sizeof back - len);
        assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
        assert_true(z.total_out <= 500 && back[len + z.total_out - 1] == '\n');
        len += z.total_out;
        members++;
        (void)inflateEnd(&z);
    }
    assert_int_equal(members, is.records);
    assert_int_equal(len, in.text.len);
    assert_memory_equal(back, memory, len);
    buf_done(&is.text);
    close_works(&w);
}

static void a_missing_key_is_random_and_told(void **state)
{
    static const struct spec s = {
        .key = MILL_KEY_FIELD, .key_text = "a.b", .format = PARSE_JSON, .keys = true};
    static const char *const missing[] = {
        "{\"a\":{}}",           "{\"a\":1}", "{\"a\":{\"b\":null}}", "{\"a\":{\"b\":{}}}",
        "{\"a\":{\"b\":\"\"}}", "x",         "{\"a.b\":null}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(missing); i++) {
        struct buf is;
        struct works w;
        struct feed f = {.file = slice_of(missing[i]),
                         .way = {.chunk = 100, .line_max = LINE_LIMIT},
                         .keys = true,
                         .out = &is};

        buf_init(&is, FEED_TEXT_MAX);
        open_works(&w, &s);
        f.mill = w.mill;
        feed_all(&f);
        assert_int_equal(f.keys_missing, 1);
        assert_int_equal(f.records, 1);
        assert_true(is.ptr[is.len - 1] != '"');
        assert_int_equal(strcspn(strchr(is.ptr, '"') + 1, "\""), KEY_RANDOM_LEN);
        feed_done(&f);
        close_works(&w);
        buf_done(&is);
    }
}

/* --- memory --- */

static void a_warm_one_allocates_nothing(void **state)
{
    static const struct {
        struct spec spec;
        const char *line;
    } kinds[] = {
        {{.key = MILL_KEY_RANDOM}, "a plain line\n"},
        {{.newline = true, .key = MILL_KEY_HASH}, "a plain line\n"},
        {{.format = PARSE_COMBINED, .json = true, .key = MILL_KEY_FIELD, .key_text = "host"},
         "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /a\\\"b HTTP/1.0\" 200 2326 \"-\" "
         "\"Moz\"\n"},
        {{.redact = "\\d+", .newline = true}, "card 1234 5678\r\n"},
        {{.format = PARSE_CSV, .csv = true, .json = true, .header_lines = 1, .header_names = true},
         "a,\"b\"\"\nc\",d\n"},
        {{.start = "^a", .key = MILL_KEY_REGEX, .key_pattern = "(\\d)"}, "a\n 1\n 2\n"},
        {{.cri = true, .format = PARSE_CRI}, T "stdout P a\n" T "stderr F b\n" T "stdout F c\n"},
        {{.join_bytes = 500, .gzip = true, .newline = true}, "joined and compressed\n"},
        {{.encoding = ENCODING_LATIN1}, "\xe4\xf6\xfc\n"},
        {{.format = PARSE_JSON, .json = true, .key = MILL_KEY_FIELD, .key_text = "a.b"},
         "{\"a\":{\"b\":\"\\u0041\"},\"c\":[1,2]}\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t before = 0, header = kinds[i].spec.header_lines > 0 ? 6 : 0;
        struct mill_input in = {
            .text = {memory, header}, .flush = true, .header = SLICE("a,b,c\n")};
        struct mill_state at = {0};
        struct sink is = {0};
        const struct mill_events events = {take_all, say_nothing, &is};
        struct mill_report report;
        struct works w;

        memcpy(memory, "a,b,c\n", header);
        while (in.text.len < 4 * RECORD_MAX) {
            memcpy(memory + in.text.len, kinds[i].line, strlen(kinds[i].line));
            in.text.len += strlen(kinds[i].line);
        }
        open_works(&w, &kinds[i].spec);
        buf_init(&is.text, FEED_TEXT_MAX);
        assert_int_equal(buf_reserve(&is.text, 1 << 20), 0);
        for (int round = 0; round < 4; round++) {
            if (round == 1)
                before = allocations;
            assert_int_equal(mill_run(w.mill, &in, &at, &events, &report), 0);
            assert_int_equal(report.end, MILL_ALL);
            if (round == 0)
                in.text = slice_from(in.text, header);
            in.offset = report.offset;
        }
        if (allocations != before)
            fail_msg("%zu allocations for %s", allocations - before, kinds[i].line);
        assert_true(is.records > 0);
        buf_done(&is.text);
        close_works(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories_are_told),
        cmocka_unit_test(parts_are_a_line_again),
        cmocka_unit_test(parts_outlive_another_limit),
        cmocka_unit_test(what_is_too_large_can_wait),
        cmocka_unit_test(parts_of_utf16),
        cmocka_unit_test(a_long_line_is_cut),
        cmocka_unit_test(a_long_record_of_json_is_cut),
        cmocka_unit_test(a_long_line_is_dead),
        cmocka_unit_test(the_limit_is_the_services),
        cmocka_unit_test(a_long_header_is_passed),
        cmocka_unit_test(what_is_carried_is_not_mixed_with_a_long_line),
        cmocka_unit_test(joined_records_are_compressed_together),
        cmocka_unit_test(a_missing_key_is_random_and_told),
        cmocka_unit_test(a_warm_one_allocates_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
