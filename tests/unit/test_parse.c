/* parse: for each format what real logs contain, good and odd, and what is no line of it.
 *
 * The stories stand in tests/data/parse/, one file for each format, as they are in a log:
 *
 *     # why this line is here
 *     = names a,b,c             for what follows: names of columns ...
 *     = delimiter ;             ... and what stands between them
 *     < the line                another < : the event has another line
 *     > {"the":"fields"}        or
 *     ! has no closing quote    why it does not match
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"
#include "counted_malloc.h"
#include "record/fields.h"
#include "record/parse.h"
#include "record/split.h"
#include "util.h"

enum { ARENA_MAX = 1 << 20, FILE_MAX = 1 << 20, NAMES_MAX = 8, STORIES_MIN = 20 };

struct reader {
    struct parse_settings settings;
    struct slice names[NAMES_MAX];
    char names_text[200];
    struct buf event; /* the lines so far */
    bool has_event;
    struct fields fields;
};

static void read_names(struct reader *r, struct slice text)
{
    size_t count = 0;

    assert_true(text.len < sizeof r->names_text);
    memcpy(r->names_text, text.ptr, text.len);
    r->names_text[text.len] = '\0';
    for (const char *p = r->names_text; *p != '\0' && count < NAMES_MAX; count++) {
        size_t len = strcspn(p, ",");

        r->names[count] = (struct slice){p, len};
        p += p[len] == ',' ? len + 1 : len;
    }
    r->settings.names = (struct parse_names){r->names, count};
}

/* What becomes of an event: `> ` and an object, or `! ` and a sentence. */
static void parse_to(enum parse_format format, struct reader *r, struct slice event, struct buf *to)
{
    const char *why = NULL;
    char *copy = malloc(MAX(event.len, (size_t)1)); /* of just its size, for the sanitizer */
    int code;

    assert_non_null(copy);
    memcpy(copy, event.ptr, event.len);
    fields_reset(&r->fields);
    buf_reset(to);
    code = parse_event(format, &r->settings, (struct slice){copy, event.len}, &r->fields, &why);
    assert_int_equal(buf_append(to, code == 1 ? SLICE("> ") : SLICE("! ")), 0);
    if (code == 1)
        assert_int_equal(fields_append_json(to, &r->fields), 0);
    else if (code == 0)
        assert_int_equal(buf_append(to, slice_of(why)), 0);
    else
        assert_int_equal(buf_printf(to, "%d", code), 0);
    free(copy);
}

/* The event, and once more as Windows ends it. */
static void tell(enum parse_format format, struct reader *r, struct slice expected)
{
    struct buf is;

    assert_true(r->has_event);
    buf_init(&is, ARENA_MAX);
    for (int i = 0; i < 2; i++) {
        parse_to(format, r, buf_slice(&r->event), &is);
        if (!slice_equal(buf_slice(&is), expected))
            fail_msg("%.*s\n%.*s\nnot:\n%.*s", SLICE_ARG(buf_slice(&r->event)),
                     SLICE_ARG(buf_slice(&is)), SLICE_ARG(expected));
        assert_int_equal(buf_append_char(&r->event, '\r'), 0);
    }
    buf_done(&is);
    buf_reset(&r->event);
    r->has_event = false;
}

static struct slice read_file(const char *name, char *room)
{
    char path[100];
    size_t len;
    FILE *f;

    (void)snprintf(path, sizeof path, "tests/data/parse/%s", name);
    f = fopen(path, "re");
    if (f == NULL)
        fail_msg("%s: %s", path, strerror(errno));
    len = fread(room, 1, FILE_MAX, f);
    assert_true(len < FILE_MAX);
    (void)fclose(f);
    return (struct slice){room, len};
}

static void tell_file(enum parse_format format, const char *name)
{
    static char room[FILE_MAX];
    struct slice in = read_file(name, room), line;
    struct reader r = {0};
    size_t matches = 0, others = 0;

    fields_init(&r.fields, ARENA_MAX);
    buf_init(&r.event, FILE_MAX);
    while (split_next(&in, &line)) {
        struct slice text = line.len > 2 ? slice_from(line, 2) : SLICE("");

        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        if (line.ptr[0] == '<') {
            if (r.has_event)
                assert_int_equal(buf_append_char(&r.event, '\n'), 0);
            assert_int_equal(buf_append(&r.event, text), 0);
            r.has_event = true;
        } else if (slice_starts_with(line, SLICE("= names "))) {
            read_names(&r, slice_from(line, strlen("= names ")));
        } else if (slice_starts_with(line, SLICE("= delimiter "))) {
            r.settings.delimiter = line.ptr[strlen("= delimiter ")];
        } else {
            tell(format, &r, line);
            matches += line.ptr[0] == '>';
            others += line.ptr[0] == '!';
        }
    }
    assert_int_equal(in.len, 0);
    assert_false(r.has_event);
    assert_true(matches >= STORIES_MIN);
    assert_true(others > 0);
    buf_done(&r.event);
    fields_done(&r.fields);
}

#define STORIES(format, name)                                                                      \
    static void name##_is_read(void **state)                                                       \
    {                                                                                              \
        (void)state;                                                                               \
        tell_file(format, #name);                                                                  \
    }

STORIES(PARSE_COMBINED, combined)
STORIES(PARSE_COMMON, common)
STORIES(PARSE_APACHE_ERROR, apache_error)
STORIES(PARSE_JSON, json)
STORIES(PARSE_CSV, csv)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(combined_is_read),     cmocka_unit_test(common_is_read),
        cmocka_unit_test(apache_error_is_read), cmocka_unit_test(json_is_read),
        cmocka_unit_test(csv_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
