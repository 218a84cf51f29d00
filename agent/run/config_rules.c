#include "run/config_rules.h"

#include "record/parse.h"
#include "run/config.h"
#include "run/config_key.h"
#include "run/judge.h"
#include "ship/firehose.h"
#include "util.h"

#include <libconfig.h>
#include <stdint.h>
#include <string.h>

enum { GZIP_LEVEL_MAX = 9 };

/* --- what the rules ask --------------------------------------------------------------------- */

static bool no_stream(const struct config_flow *f)
{
    return f->stream == NULL;
}

static bool no_kinesis(const struct config_flow *f)
{
    return f->stream == NULL && f->stream_arn == NULL;
}

static bool has_multiline(const struct config_flow *f)
{
    return f->multiline.start != NULL || f->multiline.proceed != NULL || f->multiline.end != NULL;
}

static bool no_convert(const struct config_flow *f)
{
    return f->convert.count == 0;
}

static bool no_regex(const struct config_flow *f)
{
    return f->parse.regex == NULL;
}

static bool parses(const struct config_flow *f)
{
    return f->parse.format != PARSE_NONE;
}

static bool no_format_to_convert(const struct config_flow *f)
{
    return f->convert.count == 0 || !parses(f);
}

static bool is_csv(const struct config_flow *f)
{
    return f->parse.format == PARSE_CSV;
}

static bool takes_names(const struct config_flow *f)
{
    return is_csv(f) || f->parse.format == PARSE_REGEX;
}

static bool no_header(const struct config_flow *f)
{
    return !f->parse.header;
}

static bool knows_columns(const struct config_flow *f)
{
    return !is_csv(f) || f->parse.header || f->parse.fields.count > 0;
}

static bool has_time_field(const struct config_flow *f)
{
    return f->parse.time.field != NULL;
}

static bool has_time_format(const struct config_flow *f)
{
    return f->parse.time.format != NULL;
}

static bool may_be_json(const struct config_flow *f)
{
    return f->output != CONFIG_OUTPUT_RAW;
}

static bool has_fields(const struct config_flow *f)
{
    return parses(f) || f->add.count > 0 || f->output == CONFIG_OUTPUT_JSON;
}

static bool no_keep(const struct config_flow *f)
{
    return f->keep.count == 0;
}

static bool joins(const struct config_flow *f)
{
    return f->join != CONFIG_JOIN_NONE;
}

static bool join_fits(const struct config_flow *f)
{
    return f->delivery_stream == NULL || f->join_bytes <= firehose_service.record_max;
}

static bool compresses(const struct config_flow *f)
{
    return f->compress != CONFIG_COMPRESS_NONE;
}

static bool level_fits(const struct config_flow *f)
{
    return f->compress != CONFIG_COMPRESS_GZIP || f->compress_level <= GZIP_LEVEL_MAX;
}

static bool key_is_there(const struct config_flow *f)
{
    return f->key_kind != CONFIG_KEY_FIELD || parses(f);
}

static bool has_keys(const struct config_flow *f)
{
    return f->delivery_stream == NULL;
}

static bool batch_fits(const struct config_flow *f)
{
    return f->delivery_stream == NULL || f->batch_bytes <= firehose_service.bytes_max;
}

/* --- the rules ------------------------------------------------------------------------------ */

/* Lists of rows are words in one text. */
#define PATTERNS "multiline.start multiline.continue multiline.end"
#define PARSERS  "parse.format parse.regex"

static const struct rule {
    const char *of; /* the rows that have no effect unless it holds */
    bool (*holds)(const struct config_flow *f);
    const char *looks; /* the rows that decide */
    const char *sentence;
} rules[] = {
    {"stream_arn", no_stream, "stream", "is given beside stream; keep only one of the two"},
    {"delivery_stream", no_kinesis, "stream stream_arn",
     "is given beside a Kinesis stream; keep only one of the two"},

    {"multiline.timeout multiline.max_lines multiline.max_bytes", has_multiline, PATTERNS,
     "is given without a pattern; add multiline.start, continue or end, or remove it"},

    {"parse.format", no_format_to_convert, "convert",
     "is given beside convert, which parses in its own way; remove one of the two"},
    {"parse.regex", no_convert, "convert",
     "is given beside convert, which parses in its own way; remove one of the two"},
    {"add keep remove rename output", no_convert, "convert",
     "is given beside convert; remove one of the two"},

    {"parse.format", no_regex, "parse.regex",
     "is given beside parse.regex; keep only one of the two"},
    {"parse.format", knows_columns, "parse.fields parse.header",
     "needs the names of the columns; add parse.fields = [ \"...\" ] or parse.header = true"},
    {"parse.fields", takes_names, PARSERS,
     "is for parse.regex and for parse.format = \"csv\"; add one of them, or remove it"},
    {"parse.fields", no_header, "parse.header",
     "is given beside parse.header; keep only one of the two, and with parse.fields "
     "skip_header_lines = 1 to pass over a header"},
    {"parse.delimiter parse.header", is_csv, "parse.format",
     "is for parse.format = \"csv\"; add that, or remove it"},
    {"parse.types parse.on_mismatch", parses, PARSERS,
     "is given without parse.format or parse.regex; add one of them, or remove it"},
    {"parse.time.field parse.time.format parse.time.zone parse.time.output", parses, PARSERS,
     "is given without parse.format or parse.regex; add one of them, or remove it"},
    {"parse.time.field", has_time_format, "parse.time.format",
     "is given without parse.time.format; add how the time is written, as in \"rfc3339\""},
    {"parse.time.format parse.time.zone parse.time.output", has_time_field, "parse.time.field",
     "is given without parse.time.field; add the name of the field that has the time"},

    {"add keep remove rename", may_be_json, "output",
     "is given beside output = \"raw\", which sends no fields; remove one of the two"},
    {"keep remove rename", has_fields, PARSERS " add output",
     "is given without parse, so that there are no fields; add parse = { format = \"...\"; }"},
    {"remove", no_keep, "keep",
     "is given beside keep, which removes all other fields; keep only one of the two"},

    {"join_bytes", joins, "join", "is given without join; add join = \"lines\", or remove it"},
    {"join_bytes", join_fits, "join_bytes delivery_stream",
     "is more than a record of Firehose holds; give at most \"1000KiB\""},
    {"compress_level", compresses, "compress",
     "is given without compress; add compress = \"gzip\" or \"zstd\", or remove it"},
    {"compress_level", level_fits, "compress_level compress",
     "is out of range for gzip; give a value from 0 to 9"},
    {"key", has_keys, "delivery_stream",
     "is given for a delivery stream, but Firehose has no partition keys; remove it"},
    {"key", key_is_there, "key " PARSERS,
     "asks for a field, but nothing is parsed; add parse = { format = \"...\"; }"},
    {"batch.bytes", batch_fits, "batch.bytes delivery_stream",
     "is more than Firehose takes in one request; give at most \"4MiB\""},
};

static bool is_among(const char *words, const char *path)
{
    size_t len = strlen(path), word;

    for (; *words != '\0'; words += word + (words[word] == ' ')) {
        word = strcspn(words, " ");
        if (word == len && memcmp(words, path, len) == 0)
            return true;
    }
    return false;
}

const char *config_rules_idle(const struct config_flow *f, const struct config_key *k)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (is_among(rules[i].of, k->path) && !rules[i].holds(f))
            return rules[i].sentence;
    }
    return NULL;
}

/* --- checking ------------------------------------------------------------------------------- */

/* The setting at a dotted path, or NULL. */
static const config_setting_t *setting_at(const config_setting_t *group, const char *path)
{
    char name[CONFIG_PATH_SIZE];

    for (;;) {
        size_t len = strcspn(path, ".");
        (void)snprintf(name, sizeof name, "%.*s", (int)len, path);
        group = config_setting_is_group(group) ? config_setting_get_member(group, name) : NULL;
        if (group == NULL || path[len] == '\0')
            return group;
        path += len + 1;
    }
}

struct check { /* of one flow */
    const struct config_flow *flow;
    const config_setting_t *group;
    const struct config_key *keys;
    size_t count;
    const bool *wrong;
    const struct config_scene *scene;
};

/* Can one judge by these rows, or is one of them wrong already? */
static bool can_tell(const struct check *c, const char *looks)
{
    for (size_t i = 0; i < c->count; i++) {
        if (c->wrong[i] && is_among(looks, c->keys[i].path))
            return false;
    }
    return true;
}

/* Tells the first rule that the row breaks. */
static void check_row(const struct check *c, const struct config_key *k)
{
    const config_setting_t *s = setting_at(c->group, k->path);

    for (size_t i = 0; s != NULL && i < ARRAY_LEN(rules); i++) {
        const struct rule *rule = &rules[i];
        if (!is_among(rule->of, k->path) || rule->holds(c->flow) || !can_tell(c, rule->looks))
            continue;
        config_scene_mistake(c->scene, s, k->path, "%s", rule->sentence);
        return;
    }
}

/* A setting that is there but wrong has its own mistake already; so we ask the tree, not the
 * flow. */
static void check_missing(const struct check *c)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct config_key *k = &c->keys[i];
        if (k->required && setting_at(c->group, k->path) == NULL)
            config_scene_mistake(c->scene, c->group, k->path,
                                 "is missing from this flow; add %s = %s (%s)", k->path,
                                 k->type == CONFIG_TEXTS ? "[ \"...\" ]" : "\"...\"", k->meaning);
    }
    if (setting_at(c->group, "stream") == NULL && setting_at(c->group, "stream_arn") == NULL &&
        setting_at(c->group, "delivery_stream") == NULL)
        config_scene_mistake(c->scene, c->group, "stream",
                             "is missing from this flow; add stream = \"NAME\", stream_arn or "
                             "delivery_stream");
}

/* The pattern and the names of its groups. */
static void check_regex(const struct check *c)
{
    char why[CONFIG_WHY_SIZE];
    const char *wrong;

    if (c->flow->parse.regex == NULL || !can_tell(c, "parse.regex parse.fields"))
        return;
    wrong = judge_groups(c->flow->parse.regex, c->flow->parse.fields.count, why);
    if (wrong != NULL)
        config_scene_mistake(c->scene, setting_at(c->group, "parse.regex"), "parse.regex", "%s",
                             wrong);
}

void config_rules_check(const struct config_flow *f, const struct config_setting_t *group,
                        const bool *wrong, const struct config_scene *scene)
{
    struct check c = {.flow = f, .group = group, .wrong = wrong, .scene = scene};

    c.keys = config_flow_keys(&c.count);
    check_missing(&c);
    for (size_t i = 0; i < c.count; i++)
        check_row(&c, &c.keys[i]);
    check_regex(&c);
}
