#include "json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "buf.h"
#include "util.h"

/* -- reading --------------------------------------------------------------------------------- */

/* Tells the tokens in short: brackets; k, s and n with their text; T, F, 0; '.' for the end; '!'
 * for what is wrong. */
static void tell(struct slice text, struct buf *to)
{
    static const char *const names[] = {
        [JSON_OBJECT_BEGIN] = "{", [JSON_OBJECT_END] = "}", [JSON_ARRAY_BEGIN] = "[",
        [JSON_ARRAY_END] = "]",    [JSON_KEY] = "k",        [JSON_STRING] = "s",
        [JSON_NUMBER] = "n",       [JSON_TRUE] = "T",       [JSON_FALSE] = "F",
        [JSON_NULL] = "0",         [JSON_END] = ".",
    };
    struct json_token t = {JSON_NULL, {NULL, 0}};
    struct json j;

    buf_reset(to);
    json_init(&j, text);
    do {
        int r = json_next(&j, &t);

        if (r < 0) {
            assert_int_equal(r, -EBADMSG);
            assert_int_equal(json_next(&j, &t), -EBADMSG); /* what is wrong stays wrong */
            assert_int_equal(json_skip(&j), -EBADMSG);
            assert_int_equal(json_leave(&j), -EBADMSG);
            assert_int_equal(buf_append_char(to, '!'), 0);
            return;
        }
        assert_true(t.text.len == 0 ||
                    (t.text.ptr >= text.ptr && t.text.ptr + t.text.len <= text.ptr + text.len));
        assert_int_equal(buf_append(to, slice_of(names[t.type])), 0);
        if (t.type == JSON_KEY || t.type == JSON_STRING || t.type == JSON_NUMBER)
            assert_int_equal(buf_printf(to, "(%.*s)", SLICE_ARG(t.text)), 0);
    } while (t.type != JSON_END);
    assert_int_equal(json_next(&j, &t), 0); /* the end comes as often as asked */
    assert_int_equal(t.type, JSON_END);
}

static const struct story {
    struct slice text;
    const char *tokens;
} stories[] = {
    {SLICE("{}"), "{}."},
    {SLICE(" \t\r\n[ ] \n"), "[]."},
    {SLICE("null"), "0."},
    {SLICE("true"), "T."},
    {SLICE(" false "), "F."},
    {SLICE("\"\""), "s()."},
    {SLICE("[1,true,null,false,\"x\",{},[]]"), "[n(1)T0Fs(x){}[]]."},
    {SLICE("{\"a\":1,\"b\" : [ 2 , {\"c\":{}} ] }"), "{k(a)n(1)k(b)[n(2){k(c){}}]}."},
    {SLICE("{\"a\":1,\"a\":2,\"\":3}"), "{k(a)n(1)k(a)n(2)k()n(3)}."},
    {SLICE("\"a\\\"b\\\\\""), "s(a\\\"b\\\\)."},
    {SLICE("\"\\b\\f\\n\\r\\t\\/\\u00e9\\uD83D\\ude00\""),
     "s(\\b\\f\\n\\r\\t\\/\\u00e9\\uD83D\\ude00)."},
    {SLICE("\"\\ud83d\""), "s(\\ud83d)."}, /* lone, but the grammar allows it */
    {SLICE("\"\\ud83d\\n\""), "s(\\ud83d\\n)."},
    {SLICE("\"\\ud83d\\ud83d\""), "s(\\ud83d\\ud83d)."},
    {SLICE("\"\x7f\xff\""), "s(\x7f\xff)."},

    {SLICE(""), "!"},
    {SLICE("  "), "!"},
    {SLICE("{} {}"), "{}!"},
    {SLICE("{},"), "{}!"},
    {SLICE("1 2"), "n(1)!"},
    {SLICE("nul"), "!"},
    {SLICE("nulll"), "0!"},
    {SLICE("True"), "!"},
    {SLICE("{"), "{!"},
    {SLICE("["), "[!"},
    {SLICE("[1"), "[n(1)!"},
    {SLICE("[1,"), "[n(1)!"},
    {SLICE("[1,]"), "[n(1)!"},
    {SLICE("[,1]"), "[!"},
    {SLICE("[1 2]"), "[n(1)!"},
    {SLICE("[1}"), "[n(1)!"},
    {SLICE("]"), "!"},
    {SLICE("{]"), "{!"},
    {SLICE("[}"), "[!"},
    {SLICE("[1:2]"), "[n(1)!"},
    {SLICE("{\"a\"}"), "{!"},
    {SLICE("{\"a\" 1}"), "{!"},
    {SLICE("{\"a\":}"), "{k(a)!"},
    {SLICE("{\"a\":1,}"), "{k(a)n(1)!"},
    {SLICE("{\"a\":1 \"b\":2}"), "{k(a)n(1)!"},
    {SLICE("{1:2}"), "{!"},
    {SLICE("{,}"), "{!"},
    {SLICE("{\"a\":1]"), "{k(a)n(1)!"},
    {SLICE("\""), "!"},
    {SLICE("\"abc"), "!"},
    {SLICE("\"abc\\\""), "!"},
    {SLICE("\"\\"), "!"},
    {SLICE("\"\\x\""), "!"},
    {SLICE("\"\\'\""), "!"},
    {SLICE("\"\\\0\""), "!"},
    {SLICE("\"\\u12\""), "!"},
    {SLICE("\"\\u12g4\""), "!"},
    {SLICE("\"\\U1234\""), "!"},
    {SLICE("\"\\ud83d\\u12\""), "!"},
    {SLICE("\"a\nb\""), "!"},
    {SLICE("\"a\tb\""), "!"},
    {SLICE("\"\0\""), "!"},
    {SLICE("\"\x1f\""), "!"},
    {SLICE("'a'"), "!"},
    {SLICE("\xef\xbb\xbf{}"), "!"}, /* no byte order mark */
    {SLICE("[1]\0"), "[n(1)]!"},
    {SLICE("\0"), "!"},
    {SLICE("\v1"), "!"},
    {SLICE("/**/1"), "!"},
    {SLICE("NaN"), "!"},
};

static void the_grammar_is_kept_to(void **state)
{
    struct buf told;

    (void)state;
    buf_init(&told, 4096);
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        char *copy = malloc(MAX(stories[i].text.len, 1U)); /* of just its size, for the sanitizer */

        assert_non_null(copy);
        memcpy(copy, stories[i].text.ptr, stories[i].text.len);
        tell((struct slice){copy, stories[i].text.len}, &told);
        if (!slice_equal(buf_slice(&told), slice_of(stories[i].tokens)))
            fail_msg("'%.*s': %.*s, not %s", SLICE_ARG(stories[i].text),
                     SLICE_ARG(buf_slice(&told)), stories[i].tokens);
        free(copy);
    }
    buf_done(&told);
}

static void numbers_are_the_rfcs(void **state)
{
    static const char *const good[] = {"0",
                                       "-0",
                                       "1",
                                       "-1",
                                       "10",
                                       "1234567890",
                                       "0.0",
                                       "0.10",
                                       "-0.5",
                                       "1e5",
                                       "1E5",
                                       "1e+5",
                                       "1e-5",
                                       "0e0",
                                       "1.5e9",
                                       "10.01E+10",
                                       "49680405896643412059252998241730862099905112550185893890"};
    static const char *const bad[] = {"-",    "+1",   "01",    "-01", "00",    "1.",  ".1",
                                      "-.1",  "1e",   "1e+",   "e1",  "1.e",   "--1", "0x1",
                                      "1.e5", "1e5.", "1.2.3", "1-",  "1e5e5", "1_0"};
    struct buf told;
    struct json_token t;
    struct json j;

    (void)state;
    buf_init(&told, 4096);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        json_init(&j, slice_of(good[i]));
        assert_int_equal(json_next(&j, &t), 0);
        assert_int_equal(t.type, JSON_NUMBER);
        assert_true(slice_equal(t.text, slice_of(good[i])));
        assert_int_equal(json_next(&j, &t), 0);
        assert_int_equal(t.type, JSON_END);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        tell(slice_of(bad[i]), &told);
        if (!slice_ends_with(buf_slice(&told), SLICE("!")))
            fail_msg("%s was read", bad[i]);
    }
    buf_done(&told);
}

/* What is special is seen at each place of a word, whatever lies around it. */
static void a_string_ends_where_its_quote_is(void **state)
{
    char text[80];
    struct json_token t;
    struct json j;

    (void)state;
    for (size_t len = 0; len < 60; len++) {
        for (int c = 1; c < 256; c++) {
            if (c == '"' || c == '\\' || c < 0x20)
                continue;
            memset(text, c, sizeof text);
            text[0] = '"';
            text[len + 1] = '"';
            json_init(&j, (struct slice){text, len + 2});
            assert_int_equal(json_next(&j, &t), 0);
            assert_int_equal(t.text.len, len);
        }
        for (int c = 0; c < 0x20; c++) {
            memset(text, 'x', sizeof text);
            text[0] = '"';
            text[len + 1] = (char)c;
            text[len + 2] = '"';
            json_init(&j, (struct slice){text, len + 3});
            assert_int_equal(json_next(&j, &t), -EBADMSG);
        }
    }
}

/* Every beginning of a whole text is wrong, and a copy of the reader goes on like the first. */
static void a_torn_answer_is_refused(void **state)
{
    struct slice text = SLICE("{\"FailedRecordCount\":1,\"Records\":[{\"SequenceNumber\":\"4968\","
                              "\"ShardId\":\"shardId-0\"},{\"ErrorCode\":\"\\u0041\\\"\"}]}");
    struct buf told;

    (void)state;
    buf_init(&told, 4096);
    for (size_t len = 0; len <= text.len; len++) {
        tell(slice_first(text, len), &told);
        assert_int_equal(slice_ends_with(buf_slice(&told), SLICE("!")), len < text.len);
    }
    buf_done(&told);
}

static void depth_has_an_end(void **state)
{
    char text[2 * (JSON_DEPTH_MAX + 1) * 5];
    struct json_token t;
    struct json j;

    (void)state;
    for (size_t depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        size_t len = 0;
        int r = 0;

        /* Objects and arrays by turns, so that a wrong bit is a wrong bracket. */
        for (size_t i = 0; i < depth; i++) {
            memcpy(text + len, i % 2 > 0 ? "{\"\":" : "[", i % 2 > 0 ? 4 : 1);
            len += i % 2 > 0 ? 4 : 1;
        }
        text[len++] = '0';
        for (size_t i = depth; i-- > 0;)
            text[len++] = i % 2 > 0 ? '}' : ']';
        json_init(&j, (struct slice){text, len});
        do
            r = json_next(&j, &t);
        while (r == 0 && t.type != JSON_END);
        assert_int_equal(r, depth > JSON_DEPTH_MAX ? -EBADMSG : 0);
    }
}

static void skipping_passes_over_one_value(void **state)
{
    static const char *const values[] = {
        "1", "\"x\"", "null", "[]", "{}", "[1,[2,{\"a\":[]}],3]", "{\"x\":{\"y\":[1]},\"z\":0}",
    };
    struct json_token t;
    struct json j;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        char text[200];

        (void)snprintf(text, sizeof text, "{\"a\":%s,\"b\":[%s,%s]}", values[i], values[i],
                       values[i]);
        json_init(&j, slice_of(text));
        assert_int_equal(json_next(&j, &t), 0);   /* { */
        assert_int_equal(json_skip(&j), -EINVAL); /* a key is no value, and nothing moves */
        assert_int_equal(json_next(&j, &t), 0);
        assert_int_equal(t.type, JSON_KEY);
        assert_int_equal(json_skip(&j), 0);
        assert_int_equal(json_next(&j, &t), 0);
        assert_true(t.type == JSON_KEY && json_text_equal(t.text, SLICE("b")));
        assert_int_equal(json_next(&j, &t), 0); /* [ */
        assert_int_equal(json_skip(&j), 0);
        assert_int_equal(json_skip(&j), 0);
        assert_int_equal(json_skip(&j), -EINVAL);
        assert_int_equal(json_next(&j, &t), 0);
        assert_int_equal(t.type, JSON_ARRAY_END);
        assert_int_equal(json_next(&j, &t), 0);
        assert_int_equal(t.type, JSON_OBJECT_END);
        assert_int_equal(json_skip(&j), -EINVAL);
        assert_int_equal(json_next(&j, &t), 0);
        assert_int_equal(t.type, JSON_END);

        json_init(&j, slice_of(text));
        assert_int_equal(json_leave(&j), -EINVAL);
        assert_int_equal(json_next(&j, &t), 0); /* { */
        assert_int_equal(json_next(&j, &t), 0); /* "a" */
        assert_int_equal(json_leave(&j), 0);
        assert_int_equal(json_next(&j, &t), 0);
        assert_int_equal(t.type, JSON_END);

        json_init(&j, slice_of(text));
        assert_int_equal(json_skip(&j), 0);
        assert_int_equal(json_next(&j, &t), 0);
        assert_int_equal(t.type, JSON_END);
    }
    json_init(&j, SLICE("[[1,[2}]]"));
    assert_int_equal(json_skip(&j), -EBADMSG);
}

/* -- strings --------------------------------------------------------------------------------- */

#define FFFD "\xef\xbf\xbd"

static const struct escape {
    struct slice raw, text;
} escapes[] = {
    {SLICE(""), SLICE("")},
    {SLICE("plain text, longer than a word"), SLICE("plain text, longer than a word")},
    {SLICE("\\\"\\\\\\/\\b\\f\\n\\r\\t"), SLICE("\"\\/\b\f\n\r\t")},
    {SLICE("\\u0000\\u001F\\u007f"), SLICE("\0\x1f\x7f")},
    {SLICE("\\u00e9\\u20AC"), SLICE("\xc3\xa9\xe2\x82\xac")},
    {SLICE("a\\uD83D\\uDE00b"), SLICE("a\xf0\x9f\x98\x80"
                                      "b")},
    {SLICE("\\ud800\\udc00\\udbff\\udfff"), SLICE("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf")},
    {SLICE("\\uD83D"), SLICE(FFFD)},
    {SLICE("\\uDE00"), SLICE(FFFD)},
    {SLICE("\\uDE00\\uD83D"), SLICE(FFFD FFFD)},
    {SLICE("\\uD83Dx"), SLICE(FFFD "x")},
    {SLICE("\\uD83D\\n"), SLICE(FFFD "\n")},
    {SLICE("\\uD83D\\u0041"), SLICE(FFFD "A")},
    {SLICE("\\uD83D\\uD83D\\uDE00"), SLICE(FFFD "\xf0\x9f\x98\x80")},
    {SLICE("\xc3\xa9\xf0\x9f\x98\x80"), SLICE("\xc3\xa9\xf0\x9f\x98\x80")},
};

static void escapes_are_undone(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
        const struct escape *e = &escapes[i];
        struct buf b;

        buf_init(&b, 100);
        assert_int_equal(buf_append_char(&b, '>'), 0);
        assert_int_equal(json_unescape(e->raw, &b), 0);
        assert_true(slice_equal(slice_from(buf_slice(&b), 1), e->text));
        assert_true(json_text_equal(e->raw, e->text));
        assert_false(json_text_equal(e->raw, SLICE("another")));
        if (e->text.len > 0) {
            assert_false(json_text_equal(e->raw, slice_first(e->text, e->text.len - 1)));
            assert_false(json_text_equal(e->raw, slice_from(e->text, 1)));
            assert_false(json_text_equal(e->raw, SLICE("")));
            assert_false(json_text_equal(SLICE(""), e->text));
        }
        buf_done(&b);

        for (size_t max = 0; max < e->text.len; max++) { /* whole or not at all */
            buf_init(&b, max);
            assert_int_equal(json_unescape(e->raw, &b), -EMSGSIZE);
            assert_int_equal(b.len, 0);
            buf_done(&b);
        }
    }
    assert_false(json_text_equal(SLICE("\\n"), SLICE("\\n")));
    assert_false(json_text_equal(SLICE("ab\\n"), SLICE("ab\\n")));
}

static void bytes_that_are_no_utf8_are_replaced(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    assert_int_equal(json_unescape(SLICE("a\xff\xe2\x82z\xed\xa0\x80"), &b), 0);
    assert_true(slice_equal(buf_slice(&b), SLICE("a" FFFD FFFD "z" FFFD FFFD FFFD)));
    buf_reset(&b);
    assert_int_equal(json_append_string(&b, SLICE("a\xff\xe2\x82z\xed\xa0\x80")), 0);
    assert_true(slice_equal(buf_slice(&b), SLICE("\"a" FFFD FFFD "z" FFFD FFFD FFFD "\"")));
    buf_reset(&b);
    assert_int_equal(json_unescape(SLICE("no\"token"), &b), -EBADMSG);
    assert_int_equal(json_unescape(SLICE("no token\\"), &b), -EBADMSG);
    assert_int_equal(b.len, 0);
    buf_done(&b);
}

static const struct written {
    struct slice text, json;
} writtens[] = {
    {SLICE(""), SLICE("\"\"")},
    {SLICE("a/b"), SLICE("\"a/b\"")},
    {SLICE("say \"hi\" \\o/"), SLICE("\"say \\\"hi\\\" \\\\o/\"")},
    {SLICE("\b\f\n\r\t"), SLICE("\"\\b\\f\\n\\r\\t\"")},
    {SLICE("\0\x01\x0b\x1f\x7f"), SLICE("\"\\u0000\\u0001\\u000b\\u001f\x7f\"")},
    {SLICE("\xc3\xa9\xf0\x9f\x98\x80"), SLICE("\"\xc3\xa9\xf0\x9f\x98\x80\"")},
};

static void strings_are_written_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(writtens); i++) {
        const struct written *w = &writtens[i];

        for (size_t max = 0; max <= w->json.len; max++) {
            struct buf b;

            buf_init(&b, max);
            assert_int_equal(json_append_string(&b, w->text), max < w->json.len ? -EMSGSIZE : 0);
            assert_true(slice_equal(buf_slice(&b), max < w->json.len ? SLICE("") : w->json));
            buf_done(&b);
        }
    }
}

/* Any bytes: what is written is one string token, is not longer than promised, and is read back as
 * the same text once that is UTF-8. */
static void what_is_written_is_read_back(void **state)
{
    struct buf written, back, again;
    uint32_t seed = 7;

    (void)state;
    buf_init(&written, 4096);
    buf_init(&back, 4096);
    buf_init(&again, 4096);
    for (size_t round = 0; round < 20000; round++) {
        char text[60];
        size_t len = round % sizeof text;
        struct json_token t;
        struct json j;

        for (size_t i = 0; i < len; i++) {
            seed = seed * 1664525 + 1013904223;
            text[i] = (char)(uint8_t)(seed >> 24);
        }
        buf_reset(&written);
        buf_reset(&back);
        buf_reset(&again);
        assert_int_equal(json_append_string(&written, (struct slice){text, len}), 0);
        assert_true(written.len <= json_string_size_max(len));
        json_init(&j, buf_slice(&written));
        assert_int_equal(json_next(&j, &t), 0);
        assert_int_equal(t.type, JSON_STRING);
        assert_int_equal(json_unescape(t.text, &back), 0);
        assert_true(json_text_equal(t.text, buf_slice(&back)));
        assert_int_equal(json_append_string(&again, buf_slice(&back)), 0);
        assert_true(slice_equal(buf_slice(&again), buf_slice(&written)));
    }
    buf_done(&written);
    buf_done(&back);
    buf_done(&again);
}

/* Sixteen bytes are looked at at once: what is special is seen at each place, whatever the length. */
static void a_special_byte_is_seen_everywhere(void **state)
{
    static const struct {
        char byte;
        const char *json;
    } specials[] = {
        {'"', "\\\""}, {'\\', "\\\\"}, {'\n', "\\n"}, {'\x1f', "\\u001f"}, {'\xff', FFFD}};
    char text[70], expected[100];
    struct buf b;

    (void)state;
    buf_init(&b, sizeof expected);
    for (size_t len = 1; len < sizeof text; len++) {
        for (size_t at = 0; at < len; at++) {
            for (size_t i = 0; i < ARRAY_LEN(specials); i++) {
                char *exact = malloc(len); /* for the sanitizer */
                int n;

                assert_non_null(exact);
                memset(text, 'x', sizeof text);
                n = snprintf(expected, sizeof expected, "\"%.*s%s%.*s\"", (int)at, text,
                             specials[i].json, (int)(len - at - 1), text);
                memset(exact, 'x', len);
                exact[at] = specials[i].byte;
                buf_done(&b);
                buf_init(&b, (size_t)n); /* nothing to spare */
                assert_int_equal(json_string_size((struct slice){exact, len}), (size_t)n);
                assert_int_equal(json_append_string(&b, (struct slice){exact, len}), 0);
                assert_true(slice_equal(buf_slice(&b), (struct slice){expected, (size_t)n}));
                free(exact);
            }
        }
    }
    buf_done(&b);
}

static const struct compact {
    struct slice value, compact;
} compacts[] = {
    {SLICE("1"), SLICE("1")},
    {SLICE(" null "), SLICE("null")},
    {SLICE("\"x\""), SLICE("\"x\"")},
    {SLICE("[ ]"), SLICE("[]")},
    {SLICE("{\t}"), SLICE("{}")},
    {SLICE("[ 1 , -2.50E+1 , true , false , null ]"), SLICE("[1,-2.50E+1,true,false,null]")},
    {SLICE("{ \"a\" : [ { } , [ ] ] , \"b\" : { \"c\" : 1 , \"d\" : 2 } }"),
     SLICE("{\"a\":[{},[]],\"b\":{\"c\":1,\"d\":2}}")},
    {SLICE("[[],[[],{}],{\"a\":[]},\"  \"]"), SLICE("[[],[[],{}],{\"a\":[]},\"  \"]")},
    {SLICE("\"\\u0041\\/\\u00e9\\u000a\\u0001\\\"\\\\\\u0022\\u005c\\t\""),
     SLICE("\"A/\xc3\xa9\\n\\u0001\\\"\\\\\\\"\\\\\\t\"")},
    {SLICE("\"\\ud83d\\ude00 \\ud83d \xff\xe2\x82\""),
     SLICE("\"\xf0\x9f\x98\x80 " FFFD " " FFFD FFFD "\"")},
    {SLICE("{\"\\u006b\":\"\xff\xff\xff\"}"), SLICE("{\"k\":\"" FFFD FFFD FFFD "\"}")},
};

static void a_value_is_written_compactly(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(compacts); i++) {
        size_t most = json_compact_size_max(compacts[i].value);
        char *room = malloc(most); /* what is promised to be enough, for the sanitizer */
        char *end;

        assert_non_null(room);
        end = json_put_compact(room, compacts[i].value);
        assert_true((size_t)(end - room) <= most);
        if (!slice_equal((struct slice){room, (size_t)(end - room)}, compacts[i].compact))
            fail_msg("%.*s, not %.*s", (int)(end - room), room, SLICE_ARG(compacts[i].compact));
        free(room);
    }
    assert_int_equal(json_compact_size_max(SLICE("[\"\xc3\xa9\"]")), 6);
    assert_int_equal(json_compact_size_max(SLICE("\"\xff\"")), 9);
}

static void escapes_are_undone_in_place_of_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
        char *room = malloc(MAX(escapes[i].raw.len, (size_t)1));
        char *end;

        assert_non_null(room);
        end = json_put_unescaped(room, escapes[i].raw);
        assert_true(slice_equal((struct slice){room, (size_t)(end - room)}, escapes[i].text));
        free(room);
    }
}

static void what_is_too_deep_is_not_just_wrong(void **state)
{
    char text[JSON_DEPTH_MAX + 2];
    struct json_token t;
    struct json j;

    (void)state;
    memset(text, '[', sizeof text);
    text[JSON_DEPTH_MAX] = ']';
    for (size_t i = 0; i < 2; i++) {
        json_init(&j, (struct slice){text, sizeof text});
        assert_int_equal(json_skip(&j), -EBADMSG);
        assert_int_equal(json_is_too_deep(&j), i == 1);
        assert_int_equal(json_next(&j, &t), -EBADMSG);
        assert_int_equal(json_leave(&j), -EBADMSG);
        assert_int_equal(json_is_too_deep(&j), i == 1);
        text[JSON_DEPTH_MAX] = '['; /* the second time */
    }
}

static void the_bound_is_met_and_does_not_overflow(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, json_string_size_max(5));
    assert_int_equal(json_append_string(&b, SLICE("\x01\x01\x01\x01\x01")), 0);
    assert_int_equal(b.len, json_string_size_max(5));
    buf_done(&b);
    assert_int_equal(json_string_size_max(0), 2);
    assert_true(json_string_size_max(SIZE_MAX) == SIZE_MAX);
    assert_true(json_string_size_max(SIZE_MAX / 6 + 1) == SIZE_MAX);
    assert_true(json_string_size_max(SIZE_MAX / 6) < SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_grammar_is_kept_to),
        cmocka_unit_test(numbers_are_the_rfcs),
        cmocka_unit_test(a_string_ends_where_its_quote_is),
        cmocka_unit_test(a_torn_answer_is_refused),
        cmocka_unit_test(depth_has_an_end),
        cmocka_unit_test(skipping_passes_over_one_value),
        cmocka_unit_test(escapes_are_undone),
        cmocka_unit_test(bytes_that_are_no_utf8_are_replaced),
        cmocka_unit_test(strings_are_written_whole),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(a_special_byte_is_seen_everywhere),
        cmocka_unit_test(a_value_is_written_compactly),
        cmocka_unit_test(escapes_are_undone_in_place_of_bytes),
        cmocka_unit_test(what_is_too_deep_is_not_just_wrong),
        cmocka_unit_test(the_bound_is_met_and_does_not_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
