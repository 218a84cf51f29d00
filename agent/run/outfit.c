#include "run/outfit.h"

#include "digest.h"
#include "record/java.h"
#include "record/mill.h"
#include "record/pattern.h"
#include "record/scratch.h"
#include "record/squeeze.h"
#include "record/when.h"
#include "record/zone.h"
#include "run/config.h"
#include "ship/firehose.h"
#include "ship/kinesis.h"
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LONGER = 4 }; /* a record may be made of so many times its bytes: it is cut, or compressed */

struct outfit {
    const struct config_flow *config;
    struct outfit_error *error; /* borrowed while it is made */
    struct recipe_settings recipe_settings;
    struct mill_settings mill_settings;
    uint64_t work; /* of all patterns */
    struct recipe *recipe;
    struct mill *mill;
    struct squeeze *squeeze;
    struct java_chain *chain;
    struct zone *zone;
    struct when_format *time;

    struct pattern **patterns; /* owns all of them */
    size_t pattern_count;
    struct pattern **include, **drop;
    struct recipe_redact *redact;
    struct recipe_typed *types;
    struct recipe_rename *rename;
    struct recipe_addition *add;
    struct slice *keep, *remove, *names;
    char hostname[256];
    bool wants_ec2;
};

__attribute__((format(printf, 3, 4))) static int wrong(struct outfit *o, const char *key,
                                                       const char *format, ...)
{
    va_list args;

    o->error->key = key;
    va_start(args, format);
    (void)vsnprintf(o->error->text, sizeof o->error->text, format, args);
    va_end(args);
    return -EINVAL;
}

/* An array for `count` things; never NULL for want of things. */
static void *array(size_t count, size_t size)
{
    return calloc(MAX(count, (size_t)1), size);
}

static int compile(struct outfit *o, const char *key, const char *text, struct pattern **ret)
{
    struct pattern_error e;
    struct pattern **more;
    int r;

    *ret = NULL;
    if (text == NULL)
        return 0;
    more = reallocarray(o->patterns, o->pattern_count + 1, sizeof(*more));
    if (more == NULL)
        return -ENOMEM;
    o->patterns = more;
    r = pattern_new(slice_of(text), 0, ret, &e);
    if (r == 0) {
        o->patterns[o->pattern_count++] = *ret;
        pattern_meter(*ret, &o->work);
    }
    return r != -EINVAL ? r
                        : wrong(o, key, "is no regular expression: %s, at character %zu", e.text,
                                e.offset + 1);
}

static int compile_all(struct outfit *o, const char *key, const struct config_texts *texts,
                       struct pattern ***ret)
{
    int r = 0;

    *ret = array(texts->count, sizeof(**ret));
    if (*ret == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < texts->count && r == 0; i++)
        r = compile(o, key, texts->items[i], &(*ret)[i]);
    return r;
}

static int slices_of(const struct config_texts *texts, struct slice **ret)
{
    *ret = array(texts->count, sizeof(**ret));
    if (*ret == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < texts->count; i++)
        (*ret)[i] = slice_of(texts->items[i]);
    return 0;
}

static int make_redact(struct outfit *o)
{
    const struct config_redacts *c = &o->config->redact;
    struct pattern_error e;
    int r = 0;

    o->redact = array(c->count, sizeof(*o->redact));
    if (o->redact == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < c->count && r == 0; i++) {
        r = compile(o, "redact", c->items[i].pattern, &o->redact[i].pattern);
        if (r == 0)
            r = replacement_new(o->redact[i].pattern, slice_of(c->items[i].replace),
                                &o->redact[i].with, &e);
        if (r == -EINVAL && o->redact[i].pattern != NULL)
            r = wrong(o, "redact", "has a replacement that does not fit its pattern: %s", e.text);
    }
    o->recipe_settings.redact = o->redact;
    o->recipe_settings.redact_count = c->count;
    return r;
}

/* --- taking apart --- */

static int make_types(struct outfit *o)
{
    static const char *const words[] = {[RECIPE_TEXT] = "text",
                                        [RECIPE_INTEGER] = "integer",
                                        [RECIPE_NUMBER] = "number",
                                        [RECIPE_BOOLEAN] = "boolean",
                                        [RECIPE_NULL] = "null"};
    const struct config_pairs *c = &o->config->parse.types;

    o->types = array(c->count, sizeof(*o->types));
    if (o->types == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < c->count; i++) {
        o->types[i].name = slice_of(c->items[i].name);
        for (size_t t = 0; t < ARRAY_LEN(words); t++)
            if (strcmp(words[t], c->items[i].value) == 0)
                o->types[i].type = (enum recipe_type)t;
    }
    o->recipe_settings.types = o->types;
    o->recipe_settings.type_count = c->count;
    return 0;
}

static int make_time(struct outfit *o)
{
    const struct config_flow *c = o->config;
    struct when_error e;
    int r;

    if (c->parse.time.field == NULL)
        return 0;
    r = zone_new(slice_of(c->parse.time.zone), &o->zone);
    if (r == -ENOENT || r == -EINVAL)
        return wrong(o, "parse.time.zone",
                     "'%s' is no time zone that this machine knows; is tzdata installed?",
                     c->parse.time.zone);
    if (r < 0)
        return r;
    r = when_format_new(slice_of(c->parse.time.format), o->zone, &o->time, &e);
    if (r == -EINVAL)
        return wrong(o, "parse.time.format", "%s, at character %zu", e.text, e.place + 1);
    o->recipe_settings.time.field = slice_of(c->parse.time.field);
    o->recipe_settings.time.format = o->time;
    o->recipe_settings.time.output = (enum recipe_time)c->parse.time.output;
    return r;
}

static int make_parse(struct outfit *o)
{
    const struct config_flow *c = o->config;
    struct recipe_settings *s = &o->recipe_settings;
    int r = compile(o, "parse.regex", c->parse.regex, &s->parse.pattern);

    s->format = (enum parse_format)c->parse.format;
    if (r == 0)
        r = slices_of(&c->parse.fields, &o->names);
    if (r < 0)
        return r;
    s->parse.names = (struct parse_names){o->names, c->parse.fields.count};
    s->parse.delimiter = c->parse.delimiter != NULL ? c->parse.delimiter[0] : ',';
    s->on_mismatch = (enum recipe_mismatch)c->parse.on_mismatch;
    r = make_types(o);
    return r < 0 ? r : make_time(o);
}

/* --- shaping --- */

static const char *env_text(const char *name)
{
    return getenv(name);
}

static int make_additions(struct outfit *o)
{
    const struct config_pairs *c = &o->config->add;
    const struct template_world world = {slice_of(o->hostname), slice_of(o->config->name),
                                         env_text};
    int r = 0;

    o->add = array(c->count, sizeof(*o->add));
    if (o->add == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < c->count && r == 0; i++) {
        char why[TEMPLATE_WHY_SIZE];

        o->add[i].name = slice_of(c->items[i].name);
        if (c->items[i].literal) {
            o->add[i].literal = slice_of(c->items[i].value);
            continue;
        }
        r = template_new(slice_of(c->items[i].value), &world, &o->add[i].text, why);
        if (r == -EINVAL)
            r = wrong(o, "add", "'%s' %s", c->items[i].name, why);
        else if (r == 0)
            o->wants_ec2 = o->wants_ec2 || template_wants_ec2(o->add[i].text);
    }
    o->recipe_settings.add = o->add;
    o->recipe_settings.add_count = c->count;
    return r;
}

static int make_names(struct outfit *o)
{
    const struct config_flow *c = o->config;
    struct recipe_settings *s = &o->recipe_settings;
    int r = slices_of(&c->keep, &o->keep);

    if (r == 0)
        r = slices_of(&c->remove, &o->remove);
    if (r < 0)
        return r;
    o->rename = array(c->rename.count, sizeof(*o->rename));
    if (o->rename == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < c->rename.count; i++)
        o->rename[i] = (struct recipe_rename){slice_of(c->rename.items[i].name),
                                              slice_of(c->rename.items[i].value)};
    s->keep = o->keep;
    s->keep_count = c->keep.count;
    s->remove = o->remove;
    s->remove_count = c->remove.count;
    s->rename = o->rename;
    s->rename_count = c->rename.count;
    return 0;
}

/* --- the Java agent's conversions --- */

static int make_chain(struct outfit *o, size_t record_max)
{
    const struct config_converts *c = &o->config->convert;
    struct java_settings *steps = array(c->count, sizeof(*steps));
    struct slice *matches = array(c->count, sizeof(*matches));
    struct java_error e = {0};
    int r = 0;

    if (steps == NULL || matches == NULL)
        r = -ENOMEM;
    for (size_t i = 0; i < c->count && r == 0; i++) {
        const struct config_convert *from = &c->items[i];
        struct slice *fields = NULL;

        r = slices_of(&from->fields, &fields);
        matches[i] = slice_of(from->match);
        steps[i] = (struct java_settings){
            .format = (enum java_format)from->format,
            .keep_space = !from->trim,
            .escape_newline = from->escape_newline,
            .delimiter = slice_of(from->delimiter),
            .fields = fields,
            .field_count = from->fields.count,
            .pretty = from->pretty,
            .log = from->log != CONFIG_JAVA_LOG_NONE
                       ? (enum java_log)(from->log - CONFIG_JAVA_COMMON)
                       : JAVA_LOG_COMMON,
            .match = from->match != NULL ? &matches[i] : NULL,
            .metadata = slice_of(from->metadata),
            .timestamp = from->timestamp,
        };
        o->wants_ec2 = o->wants_ec2 || from->format == CONFIG_JAVA_EC2_METADATA;
    }
    if (r == 0)
        r = java_chain_new(steps, c->count, LONGER * record_max, &o->chain, &e);
    if (r == 0 && o->mill_settings.scratch != NULL)
        java_chain_lend(o->chain, o->mill_settings.scratch->converted);
    if (r == -EINVAL || r == -ENOTSUP)
        r = wrong(o, "convert", "step %zu, %s: %s", e.step + 1, e.key, e.text);
    for (size_t i = 0; steps != NULL && i < c->count; i++)
        free((void *)steps[i].fields);
    free(steps);
    free(matches);
    return r;
}

/* --- all of it --- */

static bool writes_json(const struct config_flow *c)
{
    switch (c->output) {
    case CONFIG_OUTPUT_RAW:
        return false;
    case CONFIG_OUTPUT_JSON:
        return true;
    case CONFIG_OUTPUT_AUTO:
        break;
    }
    return (c->parse.format != PARSE_NONE && c->parse.format != PARSE_CRI) || c->add.count > 0 ||
           c->keep.count > 0 || c->remove.count > 0 || c->rename.count > 0;
}

static int make_recipe(struct outfit *o, size_t record_max)
{
    const struct config_flow *c = o->config;
    struct recipe_settings *s = &o->recipe_settings;
    int r = compile_all(o, "include", &c->include, &o->include);

    if (r == 0)
        r = compile_all(o, "drop", &c->drop, &o->drop);
    if (r == 0)
        r = make_redact(o);
    if (r == 0)
        r = make_parse(o);
    if (r == 0)
        r = make_names(o);
    if (r == 0)
        r = make_additions(o);
    if (r == 0 && c->convert.count > 0)
        r = make_chain(o, record_max);
    if (r < 0)
        return r;
    s->include = o->include;
    s->include_count = c->include.count;
    s->drop = o->drop;
    s->drop_count = c->drop.count;
    s->convert = o->chain;
    s->json = writes_json(c);
    s->newline = o->mill_settings.newline;
    s->record_max = record_max;
    s->scratch = o->mill_settings.scratch;
    if (s->include_count + s->drop_count + s->redact_count == 0 && s->format == PARSE_NONE &&
        !s->json && s->convert == NULL)
        return 0; /* lines go as they are */
    return recipe_new(s, &o->recipe);
}

static int make_key(struct outfit *o)
{
    static const enum mill_key kinds[] = {
        [CONFIG_KEY_RANDOM] = MILL_KEY_RANDOM, [CONFIG_KEY_HASH] = MILL_KEY_HASH,
        [CONFIG_KEY_FILE] = MILL_KEY_FILE,     [CONFIG_KEY_HOST] = MILL_KEY_CONST,
        [CONFIG_KEY_FIELD] = MILL_KEY_FIELD,   [CONFIG_KEY_REGEX] = MILL_KEY_REGEX,
        [CONFIG_KEY_CONST] = MILL_KEY_CONST,
    };
    const struct config_flow *c = o->config;
    struct mill_settings *s = &o->mill_settings;

    if (outfit_service(c)->key_units_max == 0) {
        s->key = MILL_KEY_NONE;
        return 0;
    }
    s->key = kinds[c->key_kind];
    s->key_text = slice_of(c->key_kind == CONFIG_KEY_HOST ? o->hostname : c->key_text);
    return c->key_kind == CONFIG_KEY_REGEX ? compile(o, "key", c->key_text, &s->key_pattern) : 0;
}

static int make_events(struct outfit *o)
{
    const struct config_flow *c = o->config;
    struct events_rules *e = &o->mill_settings.events;
    int r = compile(o, "multiline.start", c->multiline.start, &e->start);

    if (r == 0)
        r = compile(o, "multiline.continue", c->multiline.proceed, &e->proceed);
    if (r == 0)
        r = compile(o, "multiline.end", c->multiline.end, &e->end);
    e->max_lines = c->multiline.max_lines;
    e->max_bytes = c->multiline.max_bytes;
    e->csv = c->parse.format == PARSE_CSV;
    e->delimiter = c->parse.delimiter != NULL ? c->parse.delimiter[0] : ',';
    e->cri = c->parse.format == PARSE_CRI;
    return r;
}

static int make_squeeze(struct outfit *o, size_t record_max)
{
    const struct config_flow *c = o->config;
    int r;

    if (c->compress == CONFIG_COMPRESS_NONE)
        return 0;
    r = squeeze_new(c->compress == CONFIG_COMPRESS_GZIP ? SQUEEZE_GZIP : SQUEEZE_ZSTD,
                    (int)c->compress_level, LONGER * record_max, &o->squeeze);
    if (r == 0 && o->mill_settings.scratch != NULL)
        squeeze_lend(o->squeeze, &o->mill_settings.scratch->squeezed);
    return r;
}

static int make_mill(struct outfit *o, size_t record_max, struct digest *digest,
                     struct random *random)
{
    const struct config_flow *c = o->config;
    struct mill_settings *s = &o->mill_settings;
    int r;

    s->newline = c->newline == CONFIG_NEWLINE_TRUE ||
                 (c->newline == CONFIG_NEWLINE_AUTO && c->delivery_stream != NULL);
    r = make_events(o);
    if (r == 0)
        r = make_key(o);
    if (r == 0)
        r = make_recipe(o, record_max);
    if (r == 0)
        r = make_squeeze(o, record_max);
    if (r < 0)
        return r;
    s->recipe = o->recipe;
    s->encoding = (enum encoding)c->encoding;
    s->keep_mark = c->convert.count > 0; /* the Java agent sends it */
    s->header_names = c->parse.format == PARSE_CSV && c->parse.header;
    s->header_lines = c->skip_header_lines + s->header_names;
    s->record_max = record_max;
    s->join_bytes = c->join == CONFIG_JOIN_LINES ? c->join_bytes : 0;
    s->squeeze = o->squeeze;
    s->oversize = (enum mill_oversize)c->on_oversize;
    s->suffix = slice_of(c->truncated_suffix);
    s->seed = digest_hash64(digest, slice_of(o->hostname));
    s->random = random;
    s->digest = digest;
    s->meter = &o->work;
    if (o->chain != NULL)
        java_chain_meter(o->chain, &o->work);
    return mill_new(s, &o->mill);
}

const struct service *outfit_service(const struct config_flow *c)
{
    return c->delivery_stream != NULL ? &firehose_service : &kinesis_service;
}

int outfit_new(const struct config_flow *c, size_t record_max, struct digest *digest,
               struct random *random, struct scratch *scratch, struct outfit **ret,
               struct outfit_error *ret_error)
{
    struct outfit *o = calloc(1, sizeof *o);
    int r;

    if (o == NULL)
        return -ENOMEM;
    o->config = c;
    o->error = ret_error;
    o->mill_settings.scratch = scratch;
    (void)gethostname(o->hostname, sizeof o->hostname - 1);
    r = make_mill(o, record_max, digest, random);
    o->error = NULL;
    if (r < 0)
        outfit_free(o);
    else
        *ret = o;
    return r;
}

void outfit_free(struct outfit *o)
{
    if (o == NULL)
        return;
    mill_free(o->mill);
    recipe_free(o->recipe);
    squeeze_free(o->squeeze);
    java_chain_free(o->chain);
    when_format_free(o->time);
    zone_free(o->zone);
    for (size_t i = 0; o->redact != NULL && i < o->config->redact.count; i++)
        replacement_free(o->redact[i].with);
    for (size_t i = 0; o->add != NULL && i < o->config->add.count; i++)
        template_free(o->add[i].text);
    for (size_t i = 0; i < o->pattern_count; i++)
        pattern_free(o->patterns[i]);
    free(o->patterns);
    free(o->include);
    free(o->drop);
    free(o->redact);
    free(o->types);
    free(o->rename);
    free(o->add);
    free(o->keep);
    free(o->remove);
    free(o->names);
    free(o);
}

int outfit_set_record_max(struct outfit *o, size_t record_max)
{
    int r = o->squeeze != NULL ? squeeze_set_max(o->squeeze, LONGER * record_max) : 0;

    if (r < 0)
        return r;
    if (o->chain != NULL)
        java_chain_set_max(o->chain, LONGER * record_max);
    mill_set_record_max(o->mill, record_max);
    return 0;
}

void outfit_trim(struct outfit *o)
{
    if (o->squeeze != NULL)
        squeeze_trim(o->squeeze);
    if (o->chain != NULL)
        java_chain_trim(o->chain, SCRATCH_KEEP);
}

struct mill *outfit_mill(const struct outfit *o)
{
    return o->mill;
}

bool outfit_wants_ec2(const struct outfit *o)
{
    return o->wants_ec2;
}

bool outfit_wants_header(const struct outfit *o)
{
    return o->mill_settings.header_names;
}
