/* events: which lines belong together, and that it makes no difference how the bytes came.
 *
 * Each story is a file that is told at once, in steps of every size, in reads of some sizes, and with
 * records that are not taken at first; what becomes of it is each time the same, of the same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define FEED_CHECK(x) assert_true(x)
#include "buf.h"
#include "feed.h"
#include "record/cri.h"
#include "record/events.h"
#include "record/mill.h"
#include "record/pattern.h"
#include "util.h"

enum { LINES = 100, BYTES = 1000, RECORD_MAX = 4096, LINE_LIMIT = 2000 };

#define T "2016-10-06T00:17:09.669794202Z "

static const struct story {
    const char *name, *start, *proceed, *end;
    uint32_t max_lines; /* 0: LINES */
    size_t max_bytes;   /* 0: BYTES */
    enum { ROW, CSV, CRI } kind;
    const char *file;
    size_t len; /* of a file with zeros in it; else 0 */
    const char *records;
} stories[] = {
    /* clang-format off */
    {"no rules: a line is an event", .file = "a\n\n b\n", .records = "0-2 a\n2-3 \n3-6  b\n"},
    {"the last line has no newline", .file = "a\nb", .records = "0-2 a\n2-3 b\n"},
    {"an empty file", .file = "", .records = ""},

    {"start", "^\\S", .file = "a\n 1\n 2\nb\nc\n 3\n",
     .records = "0-8 a\n 1\n 2\n8-10 b\n10-15 c\n 3\n"},
    {"the first line need not match start", "^\\S", .file = " 0\n 1\na\n",
     .records = "0-6  0\n 1\n6-8 a\n"},
    {"start that never matches", "^x", .file = "a\nb\nc\n", .records = "0-6 a\nb\nc\n"},
    {"start, and the last line has no newline", "^\\S", .file = "a\n 1\n 2",
     .records = "0-7 a\n 1\n 2\n"},
    {"the last event is a line without its newline", "^\\S", .file = "a\n 1\nb",
     .records = "0-5 a\n 1\n5-6 b\n"},
    {"empty lines go on", "^\\S", .file = "a\n\n\nb\n\n", .records = "0-4 a\n\n\n4-7 b\n\n"},
    {"CRLF", "^\\w+$", .file = "a\r\n-\r\nb\r\n", .records = "0-6 a\r\n-\r\n6-9 b\r\n"},

    {"continue", NULL, "^[ \t]", .file = "a\n 1\n\t2\nb\nc\n", .records = "0-8 a\n 1\n\t2\n8-10 b\n10-12 c\n"},
    {"continue from the first line on", NULL, "^ ", .file = " 1\n 2\na\n", .records = "0-6  1\n 2\n6-8 a\n"},
    {"end", NULL, NULL, ";$", .file = "a\nb;\nc;\nd\n", .records = "0-5 a\nb;\n5-8 c;\n8-10 d\n"},
    {"end sees no carriage return", NULL, NULL, ";$", .file = "a\r\nb;\r\nc\r\n",
     .records = "0-7 a\r\nb;\r\n7-10 c\r\n"},
    {"start and end", "^<", NULL, ">$", .file = "<\n1>\n2\n3\n<>\n<\n<\n",
     .records = "0-5 <\n1>\n5-9 2\n3\n9-12 <>\n12-14 <\n14-16 <\n"},
    {"start and continue", "^<", "^ ", .file = "<\n 1\n2\n 3\n <\n<\n",
     .records = "0-5 <\n 1\n5-13 2\n 3\n <\n13-15 <\n"},
    {"start goes before continue", "^ <", "^ ", .file = "<\n 1\n <\n 2\n",
     .records = "0-5 <\n 1\n5-11  <\n 2\n"},
    {"continue and end", NULL, "^ ", ";$", .file = "a\n 1;\n 2\n 3\nb\n",
     .records = "0-6 a\n 1;\n6-12  2\n 3\n12-14 b\n"},
    {"all three", "^<", "^ ", ";$", .file = "<\n 1\n 2;\n 3\n<;\nx\n",
     .records = "0-9 <\n 1\n 2;\n9-12  3\n12-15 <;\n15-17 x\n"},

    {"max_lines", "^\\S", .max_lines = 2, .file = "a\n 1\n 2\n 3\n 4\nb\n",
     .records = "0-5 a\n 1\n5-11  2\n 3\n11-14  4\n14-16 b\n"},
    {"max_bytes", "^\\S", .max_bytes = 8, .file = "a\n 1\n 2\n 3\nb\n",
     .records = "0-8 a\n 1\n 2\n8-11  3\n11-13 b\n"},
    {"max_bytes, of a last line without its newline", "^\\S", .max_bytes = 7, .file = "a\n 1\n 2",
     .records = "0-5 a\n 1\n5-7  2\n"},
    {"a line longer than max_bytes", "^\\S", .max_bytes = 4, .file = "a\n 23456\n 1\n 2\n",
     .records = "0-2 a\n2-9  23456\n9-12  1\n12-15  2\n"},

    {"zeros end an event", "^\\S", .file = "a\n 1\n\0\0 2\n 3\n", .len = 13,
     .records = "0-5 a\n 1\n7-13  2\n 3\n"},
    {"zeros before what ends", NULL, NULL, "^;", .file = "a\n\0\0;\nb\n", .len = 8,
     .records = "0-2 a\n4-6 ;\n6-8 b\n"},
    {"zeros at the beginning do not count towards max_bytes", "^\\S", .max_bytes = 5,
     .file = "\0\0\0a\n 1\nb\n", .len = 10, .records = "3-8 a\n 1\n8-10 b\n"},
    {"zeros at the end are nothing", .file = "a\n\0\0\0", .len = 5, .records = "0-2 a\n"},
    {"zeros at the end of an event", "^\\S", .file = "a\n 1\n\0\0\0", .len = 8,
     .records = "0-5 a\n 1\n"},
    {"zeros and an empty line", .file = "a\n\0\0\nb\n", .len = 7, .records = "0-2 a\n4-5 \n5-7 b\n"},
    {"zeros within a line", .file = "a\0\0b\n", .len = 5, .records = NULL},

    {"csv: a quote keeps lines together", .kind = CSV, .file = "a,\"1\n2\",b\nc\n",
     .records = "0-10 a,\"1\n2\",b\n10-12 c\n"},
    {"csv: doubled quotes", .kind = CSV, .file = "\"a\"\"\nb\"\"\",c\n\"\"\nd\n",
     .records = "0-12 \"a\"\"\nb\"\"\",c\n12-15 \"\"\n15-17 d\n"},
    {"csv: quotes only where a column begins", .kind = CSV, .file = "a\"b,c\nd \"e\n",
     .records = "0-6 a\"b,c\n6-11 d \"e\n"},
    {"csv: text behind the closing quote", .kind = CSV, .file = "\"a\"b\"c,\"d\n\"\n",
     .records = "0-12 \"a\"b\"c,\"d\n\"\n"},
    {"csv: a delimiter within quotes", .kind = CSV, .file = "\",\"\n\",\n,\"\nx\n",
     .records = "0-4 \",\"\n4-10 \",\n,\"\n10-12 x\n"},
    {"csv: CRLF", .kind = CSV, .file = "\"a\r\nb\"\r\nc\r\n", .records = "0-8 \"a\r\nb\"\r\n8-11 c\r\n"},
    {"csv: a quote that is never closed is bounded", .kind = CSV, .max_lines = 3,
     .file = "\"a\nb\nc\nd\n", .records = "0-7 \"a\nb\nc\n7-9 d\n"},
    {"csv: zeros end it", .kind = CSV, .file = "\"a\n\0\0\"b\nc\"\n", .len = 12,
     .records = "0-3 \"a\n5-11 \"b\nc\"\n"},
    {"csv and start", "^\\d", .kind = CSV, .file = "1,\"\n2\n\"\nx\n3\n",
     .records = "0-10 1,\"\n2\n\"\nx\n10-12 3\n"},

    {"cri: full lines", .kind = CRI, .file = T "stdout F a\n" T "stderr F b\n",
     .records = "0-42 " T "stdout F a\n42-84 " T "stderr F b\n"},
    {"cri: parts", .kind = CRI, .file = T "stdout P a \n" T "stdout P b \n" T "stdout F c\n",
     .records = "0-128 " T "stdout F a b c\n"},
    {"cri: parts of two streams", .kind = CRI,
     .file = T "stdout P a\n" T "stderr P 1\n" T "stderr F 2\n" T "stderr F 3\n" T "stdout F b\n",
     .records = "0-210 " T "stderr F 12\n0-210 " T "stderr F 3\n0-210 " T "stdout F ab\n"},
    {"cri: a part that does not go on", .kind = CRI, .file = T "stdout P a\n",
     .records = "0-42 " T "stdout F a\n"},
    {"cri: an empty message", .kind = CRI, .file = T "stdout P a\n" T "stdout F\n" T "stdout F \n",
     .records = "0-82 " T "stdout F a\n82-123 " T "stdout F \n"},
    {"cri: other lines stand alone", .kind = CRI, .file = "x\n" T "stdout P a\ny\n" T "stdout F b\nz\n",
     .records = "0-2 x\n2-88 y\n2-88 " T "stdout F ab\n88-90 z\n"},
    {"cri: start", "^\\S", .kind = CRI,
     .file = T "stdout F a\n" T "stdout F  1\n" T "stdout F b\n" T "stdout F  2\n",
     .records = "0-85 " T "stdout F a\n 1\n85-170 " T "stdout F b\n 2\n"},
    {"cri: end", NULL, NULL, ";$", .kind = CRI,
     .file = T "stdout F a\n" T "stdout F b;\n" T "stdout F c\n",
     .records = "0-85 " T "stdout F a\nb;\n85-127 " T "stdout F c\n"},
    {"cri: end, of two streams", NULL, NULL, ";$", .kind = CRI,
     .file = T "stderr F x\n" T "stdout F a;\n" T "stdout F b;\n" T "stderr F y;\n",
     .records = "0-171 " T "stdout F a;\n0-171 " T "stdout F b;\n0-171 " T "stderr F x\ny;\n"},
    {"cri: start, in parts", "^\\S", .kind = CRI,
     .file = T "stdout F a\n" T "stdout P  1\n" T "stdout F 2\n" T "stdout P b\n" T "stdout F c\n",
     .records = "0-127 " T "stdout F a\n 12\n127-211 " T "stdout F bc\n"},
    {"cri: start, of two streams", "^\\S", .kind = CRI,
     .file = T "stdout F a\n" T "stderr F x\n" T "stdout F  1\n" T "stderr F  y\n" T "stdout F b\n",
     .records = "0-170 " T "stdout F a\n 1\n0-170 " T "stderr F x\n y\n170-212 " T "stdout F b\n"},
    {"cri: max_lines", .kind = CRI, .max_lines = 2,
     .file = T "stdout P a\n" T "stdout P b\n" T "stdout F c\n",
     .records = "0-84 " T "stdout F ab\n84-126 " T "stdout F c\n"},
    {"cri: zeros end it", .kind = CRI, .file = T "stdout P a\n\0\0" T "stdout F b\n", .len = 86,
     .records = "0-42 " T "stdout F a\n44-86 " T "stdout F b\n"},
    {"cri: zeros before the first", .kind = CRI, .file = "\0\0" T "stdout P a\n" T "stdout F b\n", .len = 86,
     .records = "2-86 " T "stdout F ab\n"},
    /* clang-format on */
};

static struct pattern *pattern_of(const char *text)
{
    struct pattern_error e;
    struct pattern *p = NULL;

    if (text != NULL)
        assert_int_equal(pattern_new(slice_of(text), 0, &p, &e), 0);
    return p;
}

static void expect(const struct story *s, struct feed_way way, struct slice is, struct slice want)
{
    if (!slice_equal(is, want))
        fail_msg("%s; steps of %zu, reads of %zu, refusing %d:\n%.*s\nnot:\n%.*s", s->name,
                 way.step, way.chunk, (int)way.refuse, SLICE_ARG(is), SLICE_ARG(want));
}

static void tell(const struct story *s, enum encoding encoding, struct slice file, bool whole)
{
    static const size_t chunks[] = {1, 2, 3, 7, 50, 300};
    static struct digest *digest;
    struct random random = {1};
    struct mill_settings settings = {
        .events = {.start = pattern_of(s->start),
                   .proceed = pattern_of(s->proceed),
                   .end = pattern_of(s->end),
                   .max_lines = s->max_lines > 0 ? s->max_lines : LINES,
                   .max_bytes = s->max_bytes > 0 ? s->max_bytes : BYTES,
                   .csv = s->kind == CSV,
                   .cri = s->kind == CRI,
                   .delimiter = ','},
        .encoding = encoding,
        .record_max = RECORD_MAX,
        .random = &random,
        .digest = digest,
    };
    struct buf first, next;
    struct feed f = {.encoding = encoding,
                     .file = file,
                     .way = {.chunk = LINE_LIMIT, .line_max = LINE_LIMIT},
                     .out = &first};

    buf_init(&first, FEED_TEXT_MAX);
    buf_init(&next, FEED_TEXT_MAX);
    assert_int_equal(mill_new(&settings, &f.mill), 0);
    feed_all(&f);
    feed_check_covered(&f, 0);
    feed_done(&f);
    if (whole && s->records != NULL)
        expect(s, f.way, slice_first(buf_slice(&first), MIN(first.len, strlen(s->records))),
               slice_of(s->records));
    if (whole && s->records != NULL)
        assert_true(slice_starts_with(slice_from(buf_slice(&first), strlen(s->records)),
                                      SLICE("records=")));

    f.out = &next;
    for (size_t step = 0; step <= MIN(file.len, (size_t)300); step++)
        for (size_t c = 0; c < ARRAY_LEN(chunks); c++)
            for (uint64_t refuse = 0; refuse < 3; refuse++) {
                f.way = (struct feed_way){.step = step,
                                          .chunk = chunks[c] * encoding_newline_len(encoding),
                                          .line_max = LINE_LIMIT,
                                          .refuse = refuse};
                buf_reset(&next);
                feed_all(&f);
                feed_check_covered(&f, 0);
                feed_done(&f);
                expect(s, f.way, buf_slice(&next), buf_slice(&first));
            }
    mill_free(f.mill);
    pattern_free(settings.events.start);
    pattern_free(settings.events.proceed);
    pattern_free(settings.events.end);
    buf_done(&first);
    buf_done(&next);
}

static void stories_are_told_in_steps(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];

        tell(s, ENCODING_UTF8, (struct slice){s->file, s->len > 0 ? s->len : strlen(s->file)},
             true);
    }
}

/* The same stories as other machines write them: where the bytes are is another matter, that it does
 * not matter how they came is not. */
static void also_in_other_encodings(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        struct slice file = {s->file, s->len > 0 ? s->len : strlen(s->file)};
        char wide[1000];

        assert_true(2 * file.len < sizeof wide);
        for (size_t k = 0; k < file.len; k++) {
            wide[2 * k] = file.ptr[k];
            wide[2 * k + 1] = '\0';
        }
        tell(s, ENCODING_LATIN1, file, true);
        tell(s, ENCODING_UTF16LE, (struct slice){wide, 2 * file.len}, false);
    }
}

/* What was thought whole, because nothing more came, stays so for as long as some of it is out. */
struct half {
    struct buf out;
    unsigned room;
};

static bool take_some(void *user, const struct mill_piece *p)
{
    struct half *h = user;

    if (h->room == 0)
        return false;
    h->room--;
    assert_int_equal(buf_append(&h->out, p->record), 0);
    assert_int_equal(buf_append_char(&h->out, '|'), 0);
    return true;
}

static void say_nothing(void *user, const struct mill_notice *n)
{
    (void)user;
    (void)n;
}

static void what_is_partly_out_does_not_change(void **state)
{
    static const char file[] = T "stdout P a\n" T "stderr F x\n" T "stderr F y\n" T "stdout F b\n";
    struct mill_settings settings = {
        .events = {.max_lines = LINES, .max_bytes = BYTES, .cri = true}, .record_max = RECORD_MAX};
    struct half h = {.room = 1};
    const struct mill_events events = {take_some, say_nothing, &h};
    struct mill_input in = {.text = {file, 3 * 42}, .flush = true};
    struct mill_state at = {0};
    struct mill_report report;
    struct random random = {1};
    struct mill *m;

    (void)state;
    settings.random = &random;
    buf_init(&h.out, RECORD_MAX);
    assert_int_equal(mill_new(&settings, &m), 0);
    assert_int_equal(mill_run(m, &in, &at, &events, &report), 0);
    assert_int_equal(report.end, MILL_FULL);
    assert_int_equal(report.offset, 0);
    h.room = 9;
    in.flush = false;

    in.text.len = 42; /* less of it is in view: no harm */
    assert_int_equal(mill_run(m, &in, &at, &events, &report), 0);
    assert_int_equal(report.end, MILL_OPEN);
    assert_int_equal(report.offset, 0);

    in.text.len = sizeof file - 1; /* and now more */
    assert_int_equal(mill_run(m, &in, &at, &events, &report), 0);
    assert_int_equal(report.end, MILL_ALL);
    assert_int_equal(report.offset, sizeof file - 1);
    assert_int_equal(buf_append_char(&h.out, '\0'), 0);
    assert_string_equal(h.out.ptr, T "stderr F x|" T "stderr F y|" T "stdout F a|" T "stdout F b|");
    mill_free(m);
    buf_done(&h.out);
}

/* A line that does not fit is not waited for until it has its end. */
static void what_cannot_go_on_is_over(void **state)
{
    struct events_rules rules[] = {
        {.start = pattern_of("^\\S"), .max_lines = LINES, .max_bytes = 10},
        {.cri = true, .max_lines = LINES, .max_bytes = 47},
    };
    static const struct slice texts[] = {SLICE("a\n 1\n"), SLICE(T "stdout P a\n")};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        size_t len;

        assert_false(events_next(&rules[i], texts[i], 0, &len));
        assert_false(events_next(&rules[i], texts[i], 4, &len));
        assert_true(events_next(&rules[i], texts[i], 5, &len));
        assert_int_equal(len, texts[i].len);
    }
    pattern_free(rules[0].start);
}

static void lines_of_containers_are_known(void **state)
{
    static const struct {
        const char *line, *tag, *message;
    } lines[] = {
        {T "stdout F a b", "F", "a b"},
        {T "stderr P ", "P", ""},
        {T "stderr P", "P", ""},
        {T "stdout P:x:y  a", "P:x:y", " a"},
        {"2016-10-06T00:17:09+02:00 stdout F a", "F", "a"},
        {T "stdout X a", NULL, NULL},
        {T "stdout FX a", NULL, NULL},
        {T "stdin F a", NULL, NULL},
        {T "stdout  a", NULL, NULL},
        {"2016-10-06 stdout F a", NULL, NULL},
        {" " T "stdout F a", NULL, NULL},
        {"", NULL, NULL},
        {"x", NULL, NULL},
        {T, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct cri c;

        assert_int_equal(cri_read(slice_of(lines[i].line), &c), lines[i].tag != NULL);
        if (lines[i].tag == NULL)
            continue;
        assert_true(slice_equal(c.tag, slice_of(lines[i].tag)));
        assert_true(slice_equal(c.message, slice_of(lines[i].message)));
        assert_int_equal(c.is_part, lines[i].tag[0] == 'P');
        assert_true(
            slice_equal(c.stream, c.which == CRI_STDOUT ? SLICE("stdout") : SLICE("stderr")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories_are_told_in_steps),
        cmocka_unit_test(also_in_other_encodings),
        cmocka_unit_test(what_is_partly_out_does_not_change),
        cmocka_unit_test(what_cannot_go_on_is_over),
        cmocka_unit_test(lines_of_containers_are_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
