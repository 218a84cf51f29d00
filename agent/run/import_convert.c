/* dataProcessingOptions as `convert`: the same converters, under names of our own.
 *
 * Some of what the Java agent accepts makes every record fail in it, and a record that fails is sent
 * as it was: then there is nothing to convert, and that is what is written. */
#include "buf.h"
#include "record/java.h"
#include "record/java_regex.h"
#include "record/pattern.h"
#include "run/import_inner.h"
#include "run/units.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
    PATTERN_MAX = 1024 * 1024, /* of a translated Java regex */
    TTL_DEFAULT_S = 3600,      /* the Java agent's metadataTTL */
    TTL_MAX_S = 7 * 86400,     /* ours */
};

enum option { ADDMETADATA, ADDEC2METADATA, SINGLELINE, CSVTOJSON, LOGTOJSON, ADDBRACKETS, PLUGIN };

static const char *const option_words[] = {
    [ADDMETADATA] = "ADDMETADATA",
    [ADDEC2METADATA] = "ADDEC2METADATA",
    [SINGLELINE] = "SINGLELINE",
    [CSVTOJSON] = "CSVTOJSON",
    [LOGTOJSON] = "LOGTOJSON",
    [ADDBRACKETS] = "ADDBRACKETS",
    [PLUGIN] = "USINGPLUGGIN", /* so it is spelled there */
    NULL,
};
static const char *const json_words[] = {"COMPACT", "PRETTYPRINT", NULL};
static const char *const log_words[] = {
    [JAVA_LOG_COMMON] = "COMMONAPACHELOG", [JAVA_LOG_COMBINED] = "COMBINEDAPACHELOG",
    [JAVA_LOG_ERROR] = "APACHEERRORLOG",   [JAVA_LOG_SYSLOG] = "SYSLOG",
    [JAVA_LOG_RFC3339] = "RFC3339SYSLOG",  NULL,
};

/* How the chain so far treats records. */
struct chain {
    size_t count;    /* converters written */
    bool drops;      /* one of them may give nothing */
    const char *raw; /* NULL, or why one of them fails at every record */
};

/* --- regular expressions --- */

/* Whether Java takes it; *ret_groups is how many groups it has.  1; 0: it does not, and `why` says so;
 * -ENOTSUP: it does, and we cannot. */
static int try_regex(struct slice java, unsigned *ret_groups, struct pattern_error *why)
{
    struct pattern_error error;
    struct pattern *p = NULL;
    struct buf b;
    int r;

    buf_init(&b, PATTERN_MAX);
    r = java_regex_translate(java, &b, why);
    if (r == 0) {
        r = pattern_new(buf_slice(&b), PATTERN_UTF, &p, &error);
        if (r == -EINVAL) {
            (void)snprintf(why->text, sizeof why->text, "%s", error.text);
            r = -ENOTSUP;
        }
    }
    if (r == 0)
        *ret_groups = pattern_group_count(p);
    pattern_free(p);
    buf_done(&b);
    return r == 0 ? 1 : r == -EINVAL ? 0 : r;
}

static void refuse_untranslated(struct import *im, const char *key, int r,
                                const struct pattern_error *why)
{
    if (r == -ENOTSUP)
        import_refuse(im, key,
                      "is a regular expression that cannot be carried over without changing "
                      "its meaning: %s",
                      why->text);
    else
        im->lost = r;
}

/* --- names --- */

enum names { NAMES_ABSENT, NAMES_NULL, NAMES_WITH_NULL, NAMES_GIVEN, NAMES_WRONG };

static enum names look_at_names(struct import *im, const struct import_value *names)
{
    enum names found = NAMES_GIVEN;

    if (names == NULL)
        return NAMES_ABSENT;
    if (names->type == IMPORT_NULL)
        return NAMES_NULL;
    if (names->type != IMPORT_LIST) {
        import_refuse(im, "customFieldNames",
                      "is not a list; the Java agent does not start with it");
        return NAMES_WRONG;
    }
    for (size_t i = 0; i < names->count; i++) {
        enum import_type t = names->items[i].type;

        if (t == IMPORT_LIST || t == IMPORT_OBJECT) {
            import_refuse(im, "customFieldNames", "has a name that is no text");
            return NAMES_WRONG;
        }
        if (t == IMPORT_NULL)
            found = NAMES_WITH_NULL;
    }
    return found;
}

static void put_names(struct import *im, const struct import_value *names)
{
    import_put(im, "          fields = [");
    for (size_t i = 0; i < names->count; i++) {
        const struct import_value *n = &names->items[i];

        import_put(im, i > 0 ? ", " : " ");
        import_put_text(im, "customFieldNames",
                        n->type == IMPORT_TRUE    ? SLICE("true")
                        : n->type == IMPORT_FALSE ? SLICE("false")
                                                  : n->text);
    }
    import_put(im, " ];\n");
}

static void put_pretty(struct import *im, const struct import_value *option)
{
    size_t word = 0;

    if (import_word(im, option, "jsonFormat", json_words, &word) && word == 1)
        import_put(im, "          pretty = true;\n");
}

static bool has_word(const struct import_value *list, const char *word)
{
    for (size_t i = 0; list != NULL && list->type == IMPORT_LIST && i < list->count; i++)
        if (list->items[i].type == IMPORT_TEXT && slice_equal(list->items[i].text, slice_of(word)))
            return true;
    return false;
}

/* --- the converters --- */

static void put_singleline(struct import *im, const struct import_value *option)
{
    const struct import_value *words = import_json_find(option, "parseOptions");

    import_put(im, "        { format = \"java_singleline\";\n");
    if (has_word(words, "NO_TRIM"))
        import_put(im, "          trim = false;\n");
    if (has_word(words, "ESCAPE_NEW_LINE"))
        import_put(im, "          escape_newline = true;\n");
}

static void put_csv(struct import *im, const struct import_value *option, struct chain *c)
{
    const struct import_value *names = import_json_find(option, "customFieldNames");
    const struct import_value *delimiter = import_json_find(option, "delimiter");
    enum names found = look_at_names(im, names);
    struct pattern_error why;
    struct slice text = SLICE(",");
    unsigned groups;
    int r;

    /* Without columns there is an empty object, whatever is in the line. */
    if (found == NAMES_GIVEN && names->count == 0)
        import_put(im, "        { format = \"java_log\";\n"
                       "          log = \"SYSLOG\";\n"
                       "          match = \"[\\\\s\\\\S]*\";\n");
    else
        import_put(im, "        { format = \"java_csv\";\n");
    if (found == NAMES_ABSENT)
        import_refuse(im, "customFieldNames",
                      "is missing; CSVTOJSON needs it, and the Java agent does not start without");
    if (found == NAMES_NULL || found == NAMES_WITH_NULL)
        c->raw = "a column without a name";
    if (found == NAMES_GIVEN && names->count > 0)
        put_names(im, names);
    put_pretty(im, option);
    if (delimiter != NULL && delimiter->type == IMPORT_NULL)
        c->raw = "a delimiter of null";
    if (!import_text(im, option, "delimiter", &text))
        return;
    r = try_regex(text, &groups, &why);
    if (r == 0)
        c->raw = "a delimiter that is no regular expression";
    else if (r < 0)
        refuse_untranslated(im, "delimiter", r, &why);
    if (found == NAMES_GIVEN && names->count == 0)
        return;
    import_put(im, "          delimiter = ");
    import_put_text(im, "delimiter", text);
    import_put(im, ";\n");
}

static void put_match(struct import *im, const struct import_value *names, struct slice match)
{
    struct pattern_error why;
    unsigned groups = 0;
    int r = try_regex(match, &groups, &why);

    if (r == 0)
        import_refuse(im, "matchPattern",
                      "is no regular expression, and the Java agent does not start with it: %s",
                      why.text);
    else if (r < 0)
        refuse_untranslated(im, "matchPattern", r, &why);
    else if (groups != names->count)
        import_tell(im, "matchPattern",
                    "has %u groups for %zu names: as with the Java agent, every record is dropped",
                    groups, names->count);
    import_put(im, "          match = ");
    import_put_text(im, "matchPattern", match);
    import_put(im, ";\n");
}

/* What LOGTOJSON and, though it does not use them, ADDEC2METADATA read.  `write`: for LOGTOJSON. */
static void put_log(struct import *im, const struct import_value *option, bool write)
{
    const struct import_value *names = import_json_find(option, "customFieldNames");
    enum names found = look_at_names(im, names);
    size_t start = im->out.len, log = 0;
    bool is_known = import_word(im, option, "logFormat", log_words, &log);
    struct slice match;

    if (!is_known && (import_json_find(option, "logFormat") == NULL ||
                      import_json_find(option, "logFormat")->type == IMPORT_NULL))
        import_refuse(im, "logFormat",
                      "is missing; the Java agent needs it, also beside matchPattern");
    import_put(im, "          log = \"%s\";\n", log_words[log]);
    if (found == NAMES_WITH_NULL && write)
        import_refuse(
            im, "customFieldNames",
            "has a null, at which the Java agent sends what matches as it was and drops the "
            "rest; that cannot be carried over");
    if (found == NAMES_GIVEN && names->count > 0)
        put_names(im, names);
    if (import_text(im, option, "matchPattern", &match)) {
        if (found == NAMES_GIVEN || found == NAMES_WITH_NULL)
            put_match(im, names, match);
        else if (found != NAMES_WRONG)
            import_refuse(im, "customFieldNames",
                          "is missing; matchPattern needs it, and the Java agent does not start "
                          "without");
    } else if (is_known && (found == NAMES_GIVEN || found == NAMES_WITH_NULL) &&
               names->count != java_log_field_count((enum java_log)log)) {
        import_refuse(im, "customFieldNames",
                      "has %zu names, and %s has %zu fields; the Java agent does not start with it",
                      names->count, log_words[log], java_log_field_count((enum java_log)log));
    }
    if (!write)
        im->out.len = start;
}

static void put_metadata(struct import *im, const struct import_value *option)
{
    const struct import_value *metadata = import_json_find(option, "metadata");
    const struct import_value *ts = import_json_find(option, "timestamp");
    struct buf json;
    int r;

    import_put(im, "        { format = \"java_metadata\";\n          metadata = ");
    buf_init(&json, IMPORT_TEXT_MAX);
    r = metadata != NULL ? import_json_append(&json, metadata) : buf_append(&json, SLICE("null"));
    if (r < 0)
        im->lost = r;
    import_put_text(im, "metadata", buf_slice(&json));
    import_put(im, ";\n");
    buf_done(&json);
    if (ts != NULL && ts->type != IMPORT_TEXT && ts->type != IMPORT_NULL)
        import_refuse(im, "timestamp",
                      "is no text; the Java agent wants \"true\" in quotes, and does "
                      "not start with this");
    else if (ts != NULL && ts->text.len == 4 && strncasecmp(ts->text.ptr, "true", 4) == 0)
        import_put(im, "          timestamp = true;\n");
    put_pretty(im, option);
}

/* metadataTTL: what is no number is passed over by the Java agent as well. */
static void put_ttl(struct import *im, const struct import_value *option)
{
    size_t wrong = im->wrong.len, wrong_count = im->wrong_count;
    char text[UNITS_TEXT_SIZE];
    int64_t ttl_s;

    if (!import_number(im, option, "metadataTTL", INT32_MIN, INT32_MAX, &ttl_s)) {
        im->wrong.len = wrong;
        im->wrong_count = wrong_count;
        return;
    }
    if (ttl_s < 1 || ttl_s > TTL_MAX_S)
        import_tell(im, "metadataTTL",
                    "is %lld s; kinetail takes 1 s to 7 days, the nearest is written",
                    (long long)ttl_s);
    ttl_s = MAX(1, MIN(ttl_s, (int64_t)TTL_MAX_S));
    if (ttl_s == TTL_DEFAULT_S)
        return;
    units_format_time((uint64_t)ttl_s * 1000, text);
    import_put(im, "          ttl = \"%s\";\n", text);
}

static void put_option(struct import *im, const struct import_value *option, struct chain *c)
{
    const struct import_value *name = import_json_find(option, "optionName");
    const char *raw = c->raw;
    size_t word = 0;

    if (name == NULL || name->type == IMPORT_NULL) {
        import_refuse(im, "optionName", "is missing; the Java agent does not start without");
        return;
    }
    if (!import_word(im, option, "optionName", option_words, &word))
        return;
    import_put(im, c->count > 0 ? ",\n" : "");
    c->count++;
    switch ((enum option)word) {
    case SINGLELINE:
        put_singleline(im, option);
        break;
    case CSVTOJSON:
        put_csv(im, option, c);
        break;
    case LOGTOJSON:
        import_put(im, "        { format = \"java_log\";\n");
        put_log(im, option, true);
        put_pretty(im, option);
        break;
    case ADDMETADATA:
        put_metadata(im, option);
        break;
    case ADDEC2METADATA:
        import_put(im, "        { format = \"java_ec2_metadata\";\n");
        put_log(im, option, false);
        put_pretty(im, option);
        put_ttl(im, option);
        break;
    case ADDBRACKETS:
        import_put(im, "        { format = \"java_brackets\";\n");
        break;
    case PLUGIN:
        import_refuse(im, "optionName",
                      "is USINGPLUGGIN, a Java class of your own, which cannot be carried over");
        break;
    }
    import_put(im, "        }");
    if (raw == NULL && c->raw != NULL && c->drops)
        import_refuse(
            im, "optionName",
            "is CSVTOJSON with %s, so the Java agent sends what LOGTOJSON before it does not "
            "drop as it was; that cannot be carried over",
            c->raw);
    c->drops |= word == LOGTOJSON;
}

bool import_convert(struct import *im, const struct import_value *flow)
{
    const struct import_value *options = import_json_find(flow, "dataProcessingOptions");
    size_t start = im->out.len;
    struct chain c = {0};

    if (options == NULL || options->type == IMPORT_NULL)
        return false;
    if (options->type != IMPORT_LIST) {
        import_tell(im, "dataProcessingOptions",
                    "is not a list; as by the Java agent, it is passed "
                    "over");
        return false;
    }
    import_put(im, "      convert = (\n");
    for (size_t i = 0; i < options->count; i++) {
        char prefix[64];

        if (options->items[i].type == IMPORT_NULL)
            continue; /* as the Java agent does */
        (void)snprintf(prefix, sizeof prefix, "dataProcessingOptions[%zu].", i);
        im->prefix = prefix;
        if (options->items[i].type == IMPORT_OBJECT)
            put_option(im, &options->items[i], &c);
        else
            import_refuse(im, "", "dataProcessingOptions[%zu] is no group", i);
        im->prefix = "";
    }
    import_put(im, "\n      );\n");
    if (c.count > 0 && c.raw == NULL)
        return true;
    im->out.len = start;
    if (c.raw != NULL) {
        import_put_idle(im, "      ", "dataProcessingOptions", options,
                        "fails at every record in the Java agent, which then sends it as it was");
        import_tell(im, "dataProcessingOptions",
                    "has CSVTOJSON with %s: as with the Java agent, records are sent as they were",
                    c.raw);
    }
    return false;
}
