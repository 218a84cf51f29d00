/* Those that judge what becomes of lines: patterns, times, fields. */
#include "run/judge.h"

#include "buf.h"
#include "json.h"
#include "record/java_regex.h"
#include "record/pattern.h"
#include "record/template.h"
#include "record/when.h"
#include "record/zone.h"
#include "slice.h"
#include "utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { JAVA_PATTERN_MAX = 1024 * 1024 }; /* what a translation may come to */

const char *judge_delimiter(const char *text)
{
    if (text[1] != '\0' || (unsigned char)text[0] >= 0x80)
        return "is not one character of ASCII; write one, as in \",\" or \"\\t\"";
    return strchr("\"\r\n", text[0]) == NULL
               ? NULL
               : "cannot stand between columns; quotes and line ends have a meaning of their own";
}

const char *judge_field_name(const char *text)
{
    return judge_utf8(text);
}

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

const char *judge_value(const char *text, char why[static JUDGE_WHY_SIZE])
{
    static const struct template_world nowhere = {.env = no_env};
    char wrong[TEMPLATE_WHY_SIZE];
    struct template *t = NULL;
    int r = template_new(slice_of(text), &nowhere, &t, wrong);

    template_free(t);
    if (r == -EINVAL) {
        (void)snprintf(why, JUDGE_WHY_SIZE, "%s", wrong);
        return why;
    }
    return judge_utf8(text);
}

const char *judge_join(const char *text)
{
    return strcmp(text, "kpl") == 0 ? "is not in this version; write \"lines\", which joins lines "
                                      "as they are, or \"none\""
                                    : NULL;
}

const char *judge_json(const char *text)
{
    struct json_token t = {0};
    struct json j;

    json_init(&j, slice_of(text));
    do {
        if (json_next(&j, &t) < 0)
            return "is not JSON; write it as in \"{\\\"name\\\": \\\"value\\\"}\"";
    } while (t.type != JSON_END);
    return judge_utf8(text);
}

/* How many characters stand before byte `offset`, plus one: where a person counts to. */
static size_t character_at(const char *text, size_t offset)
{
    size_t count = 1;

    for (size_t i = 0; i < offset && text[i] != '\0'; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* "is not X: what is wrong, at character 5" */
static const char *wrong_at(const char *is_not, const char *text, size_t offset, const char *what,
                            char why[static JUDGE_WHY_SIZE])
{
    if (offset >= strlen(text))
        (void)snprintf(why, JUDGE_WHY_SIZE, "is not %s: %s, at its end", is_not, what);
    else
        (void)snprintf(why, JUDGE_WHY_SIZE, "is not %s: %s, at character %zu", is_not, what,
                       character_at(text, offset));
    return why;
}

/* Without JIT: what is compiled here is thrown away. */
static const char *compile(const char *text, struct pattern **ret, char why[static JUDGE_WHY_SIZE])
{
    struct pattern_error error;
    const char *wrong = judge_utf8(text);
    int r;

    if (wrong != NULL)
        return wrong;
    r = pattern_new(slice_of(text), PATTERN_NO_JIT, ret, &error);
    if (r == -EINVAL)
        return wrong_at("a pattern", text, error.offset, error.text, why);
    return r < 0 ? "cannot be compiled: out of memory" : NULL;
}

const char *judge_pattern(const char *text, char why[static JUDGE_WHY_SIZE])
{
    struct pattern *p = NULL;
    const char *wrong = compile(text, &p, why);

    pattern_free(p);
    return wrong;
}

const char *judge_key_pattern(const char *text, char why[static JUDGE_WHY_SIZE])
{
    struct pattern *p = NULL;
    const char *wrong = compile(text, &p, why);

    if (wrong == NULL && pattern_group_count(p) == 0)
        wrong = "has no group; put what shall be the key into parentheses, as in "
                "\"regex:user=(\\\\w+)\"";
    pattern_free(p);
    return wrong;
}

const char *judge_replacement(const char *pattern, const char *text,
                              char why[static JUDGE_WHY_SIZE])
{
    struct replacement *replacement = NULL;
    struct pattern *p = NULL;
    struct pattern_error error;
    const char *wrong = compile(pattern, &p, why);
    int r = wrong == NULL ? replacement_new(p, slice_of(text), &replacement, &error) : 0;

    if (r == -EINVAL)
        wrong = wrong_at("a replacement", text, error.offset, error.text, why);
    else if (r < 0)
        wrong = "cannot be compiled: out of memory";
    replacement_free(replacement);
    pattern_free(p);
    return wrong;
}

const char *judge_groups(const char *pattern, size_t name_count, char why[static JUDGE_WHY_SIZE])
{
    struct pattern *p = NULL;
    const char *wrong = compile(pattern, &p, why);
    unsigned count = wrong == NULL ? pattern_group_count(p) : 0, named = 0;

    for (unsigned i = 1; i <= count; i++)
        named += pattern_group_name(p, i) != NULL;
    if (wrong == NULL && count == 0) {
        wrong = "has no groups, so that it finds no fields; write them as in (?<name>...)";
    } else if (wrong == NULL && named == 0 && name_count == 0) {
        wrong = "has groups without names; write them as in (?<name>...), or add parse.fields";
    } else if (wrong == NULL && named > 0 && name_count > 0) {
        wrong = "has groups with names of their own; remove parse.fields, or those names";
    } else if (wrong == NULL && named == 0 && count != name_count) {
        (void)snprintf(why, JUDGE_WHY_SIZE,
                       "has %u groups, but parse.fields has %zu names; write as many, and (?:...) "
                       "for what is no field",
                       count, name_count);
        wrong = why;
    }
    pattern_free(p);
    return wrong;
}

const char *judge_java_pattern(const char *text, char why[static JUDGE_WHY_SIZE])
{
    struct pattern_error error;
    const char *wrong = judge_utf8(text);
    struct buf to;
    int r;

    if (wrong != NULL)
        return wrong;
    buf_init(&to, JAVA_PATTERN_MAX);
    r = java_regex_translate(slice_of(text), &to, &error);
    buf_done(&to);
    if (r == -EINVAL)
        return wrong_at("a pattern of Java's", text, error.offset, error.text, why);
    if (r == -ENOTSUP)
        return wrong_at("a pattern of Java's that we can say in our words", text, error.offset,
                        error.text, why);
    if (r == -EMSGSIZE)
        return "is too long when it is translated; make it shorter";
    return r < 0 ? "cannot be compiled: out of memory" : NULL;
}

const char *judge_time_format(const char *text, char why[static JUDGE_WHY_SIZE])
{
    struct when_format *f = NULL;
    struct when_error error;
    int r = when_format_new(slice_of(text), NULL, &f, &error);

    when_format_free(f);
    if (r == -EINVAL)
        return wrong_at("how a time is written", text, error.place, error.text, why);
    return r < 0 ? "cannot be compiled: out of memory" : NULL;
}

const char *judge_zone(const char *text, char why[static JUDGE_WHY_SIZE])
{
    struct zone *zone = NULL;
    int r = zone_new(slice_of(text), &zone);

    zone_free(zone);
    if (r == -EINVAL)
        return "is not a zone; write \"local\", \"UTC\", \"+02:00\" or as in \"Europe/Berlin\"";
    if (r == -ENOENT)
        return "is not a zone that this machine knows; is it misspelt, or tzdata not installed?";
    if (r == 0)
        return NULL;
    (void)snprintf(why, JUDGE_WHY_SIZE, "cannot be read on this machine: %s", strerror(-r));
    return why;
}
