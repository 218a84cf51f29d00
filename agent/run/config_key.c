#include "run/config_key.h"

#include "run/config.h"
#include "run/config_key_inner.h"
#include "run/judge.h"
#include "run/sheet.h"
#include "run/units.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static_assert((int)CONFIG_WHY_SIZE == (int)JUDGE_WHY_SIZE, "judges write into a config_room");

const char config_out_of_memory[] = "cannot be kept: out of memory";

static const char *const type_names[] = {
    [CONFIG_TEXT] = "a text in quotes",
    [CONFIG_TEXTS] = "a list of texts, as in [ \"a\", \"b\" ]",
    [CONFIG_FLAG] = "true or false",
    [CONFIG_MAYBE] = "true or false",
    [CONFIG_WORD] = "a word in quotes",
    [CONFIG_COUNT] = "a whole number, without quotes",
    [CONFIG_BYTES] = "a size, such as \"64KiB\"",
    [CONFIG_TIME] = "a time with its unit, such as \"1.5s\"",
    [CONFIG_PARTITION] = "a text in quotes",
    [CONFIG_PAIRS] = "a group, as in { name = \"value\"; }",
};

/* What a partition key can be made of.  A word that ends with a colon is followed by a text. */
static const struct partition {
    const char *word;
    const char *(*judge)(const char *text);
    const char *(*inspect)(const char *text, char why[static CONFIG_WHY_SIZE]);
} partitions[] = {
    [CONFIG_KEY_RANDOM] = {.word = "random"},
    [CONFIG_KEY_HASH] = {.word = "hash"},
    [CONFIG_KEY_FILE] = {.word = "file"},
    [CONFIG_KEY_HOST] = {.word = "host"},
    [CONFIG_KEY_FIELD] = {.word = "field:", .judge = judge_field_name},
    [CONFIG_KEY_REGEX] = {.word = "regex:", .inspect = judge_key_pattern},
    [CONFIG_KEY_CONST] = {.word = "const:", .judge = judge_partition},
};

/* A flag without words of its own is true or false, and then has no quotes. */
static const char *const *words_of(const struct config_key *k)
{
    static const char *const truth[] = {"false", "true", NULL};

    return k->words != NULL ? k->words : truth;
}

static void *member(const struct config_key *k, void *base)
{
    return (char *)base + k->offset;
}

static const void *member_const(const struct config_key *k, const void *base)
{
    return (const char *)base + k->offset;
}

/* A partition key is two members, found from the first. */
static struct config_flow *flow_of(const struct config_key *k, void *base)
{
    assert(k->offset == offsetof(struct config_flow, key_kind));
    return base;
}

/* What of `text`, a value of the row or NULL, nobody must see. */
static struct slice secret_of(const struct config_key *k, const char *text)
{
    if (text != NULL && k->secret_of != NULL)
        return k->secret_of(text);
    return k->secret ? slice_of(text) : (struct slice){0};
}

static bool text_is_secret(const struct config_key *k, const char *text)
{
    return secret_of(k, text).len > 0;
}

bool config_key_is_secret(const struct config_key *k, const struct config_setting_t *setting)
{
    return k->secret || text_is_secret(k, config_setting_get_string(setting));
}

static void text_free(char *text, bool secret)
{
    if (text != NULL && secret)
        explicit_bzero(text, strlen(text));
    free(text);
}

const char *config_quote(const char *text, char quoted[static CONFIG_QUOTE_SIZE])
{
    size_t len = strlen(text), n = 0;

    for (; n < len && n < CONFIG_QUOTE_SIZE - 4; n++) {
        unsigned char c = (unsigned char)text[n];
        quoted[n] = c < ' ' || c >= 0x7F ? '?' : (char)c;
    }
    for (size_t dots = 0; n < len && dots < 3; dots++)
        quoted[CONFIG_QUOTE_SIZE - 4 + dots] = '.';
    quoted[n < len ? CONFIG_QUOTE_SIZE - 1 : n] = '\0';
    return quoted;
}

void config_scene_mistake(const struct config_scene *scene, const struct config_setting_t *setting,
                          const char *path, const char *format, ...)
{
    unsigned line = config_setting_source_line(setting);
    /* The grammar has to read on after a text, in case another follows that belongs to it; so a
     * text in a list has the line of what comes next. */
    bool late =
        config_setting_name(setting) == NULL && config_setting_type(setting) == CONFIG_TYPE_STRING;
    struct sheet_place place =
        sheet_place(scene->sheet, late ? sheet_text_before(scene->sheet, line) : line);
    char key[CONFIG_PATH_SIZE], sentence[1024];
    va_list args;

    (void)snprintf(key, sizeof key, "%s%s", scene->prefix, path);
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    config_mistakes_add(scene->mistakes, place.file, place.line, key, "%s", sentence);
}

/* --- from a value to its member ------------------------------------------------------------- */

static void format_limit(const struct config_key *k, uint64_t value,
                         char text[static UNITS_TEXT_SIZE])
{
    if (k->type == CONFIG_BYTES)
        units_format_bytes(value, text);
    else if (k->type == CONFIG_TIME)
        units_format_time(value, text);
    else
        (void)snprintf(text, UNITS_TEXT_SIZE, "%" PRIu64, value);
}

static const char *set_number(const struct config_key *k, void *base, uint64_t value,
                              struct config_room *room)
{
    char min[UNITS_TEXT_SIZE], max[UNITS_TEXT_SIZE];

    if (value < k->min || value > k->max) {
        format_limit(k, k->min, min);
        format_limit(k, k->max, max);
        (void)snprintf(room->text, sizeof room->text, "is out of range; give a value from %s to %s",
                       min, max);
        return room->text;
    }
    if (k->type == CONFIG_COUNT)
        *(uint32_t *)member(k, base) = (uint32_t)value;
    else
        *(uint64_t *)member(k, base) = value;
    return NULL;
}

static const char *judge_text(const char *(*judge)(const char *),
                              const char *(*inspect)(const char *, char[static CONFIG_WHY_SIZE]),
                              const char *text, struct config_room *room)
{
    const char *wrong = judge != NULL ? judge(text) : NULL;

    return wrong == NULL && inspect != NULL ? inspect(text, room->text) : wrong;
}

const char *config_check_text(const struct config_key *k, const char *text, uint64_t min,
                              uint64_t max, struct config_room *room)
{
    size_t len = strlen(text);

    if (len == 0 && min > 0)
        return "is empty; write a text, or remove the setting";
    if (len > max) {
        (void)snprintf(room->text, sizeof room->text, "is longer than %" PRIu64 " bytes", max);
        return room->text;
    }
    return len > 0 ? judge_text(k->judge, k->inspect, text, room) : NULL;
}

static const char *keep_text(const struct config_key *k, void *base, const char *text)
{
    char **to = member(k, base), *copy = strdup(text);

    if (copy == NULL)
        return config_out_of_memory;
    text_free(*to, text_is_secret(k, *to));
    *to = copy;
    return NULL;
}

static const char *set_text(const struct config_key *k, void *base, const char *text,
                            struct config_room *room)
{
    const char *wrong = config_check_text(k, text, k->min, k->max, room);

    return wrong != NULL ? wrong : keep_text(k, base, text);
}

const char *config_find_word(const struct config_key *k, const char *text, unsigned *ret,
                             struct config_room *room)
{
    const char *const *words = words_of(k);
    const char *wrong = NULL;
    unsigned count = 0, seen = 0;
    int used;

    for (unsigned i = 0; words[i] != NULL; i++) {
        if (words[i][0] == '\0')
            continue;
        count++;
        if (strcmp(words[i], text) != 0)
            continue;
        *ret = i;
        return NULL;
    }
    wrong = k->judge != NULL ? k->judge(text) : NULL;
    if (wrong != NULL)
        return wrong;
    used = snprintf(room->text, sizeof room->text, "is not known here; write");
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (words[i][0] == '\0')
            continue;
        used += snprintf(room->text + used, sizeof room->text - (size_t)used, "%s \"%s\"",
                         seen == 0           ? ""
                         : seen + 1 == count ? " or"
                                             : ",",
                         words[i]);
        seen++;
        assert(used > 0 && (size_t)used < sizeof room->text);
    }
    return room->text;
}

/* FLAG and WORD: the value is the word's place among the words. */
static const char *set_word(const struct config_key *k, void *base, const char *text,
                            struct config_room *room)
{
    unsigned word;
    const char *wrong = config_find_word(k, text, &word, room);

    if (wrong != NULL)
        return wrong;
    if (k->type == CONFIG_FLAG)
        *(bool *)member(k, base) = word != 0;
    else
        memcpy(member(k, base), &word, sizeof word); /* an enum is an unsigned here */
    return NULL;
}

static_assert(sizeof(enum config_log_level) == sizeof(unsigned), "see set_word");

/* What follows the word of a partition key, if it is that one; else NULL. */
static const char *partition_text(const struct partition *p, const char *text)
{
    size_t len = strlen(p->word);

    if (strncmp(p->word, text, len) != 0 || (p->word[len - 1] != ':' && text[len] != '\0'))
        return NULL;
    return text + len;
}

static const char *set_partition(const struct config_key *k, void *base, const char *text,
                                 struct config_room *room)
{
    struct config_flow *f = flow_of(k, base);
    const char *rest = NULL, *wrong = NULL;
    unsigned kind = 0;
    char *copy = NULL;

    while (kind < ARRAY_LEN(partitions) && rest == NULL)
        rest = partition_text(&partitions[kind++], text);
    if (rest == NULL)
        return "is not known here; write \"random\", \"hash\", \"file\", \"host\", \"field:NAME\", "
               "\"regex:PATTERN\" or \"const:TEXT\"";
    kind--;
    if (rest > text && rest[-1] == ':') {
        if (rest[0] == '\0') {
            (void)snprintf(room->text, sizeof room->text,
                           "has no text after %s; write one, or key = \"random\"",
                           partitions[kind].word);
            return room->text;
        }
        wrong = judge_text(partitions[kind].judge, partitions[kind].inspect, rest, room);
        copy = wrong == NULL ? strdup(rest) : NULL;
        if (copy == NULL)
            return wrong != NULL ? wrong : config_out_of_memory;
    }
    free(f->key_text);
    f->key_text = copy;
    f->key_kind = kind;
    return NULL;
}

static const char *set_units(const struct config_key *k, void *base, const char *text,
                             struct config_room *room)
{
    bool time = k->type == CONFIG_TIME;
    struct slice s = slice_of(text);
    uint64_t value = 0;
    int r = time ? units_parse_time(s, &value) : units_parse_bytes(s, &value);

    if (r == -ERANGE)
        return time ? "is not a whole number of milliseconds, or too large"
                    : "is not a whole number of bytes, or too large";
    if (r < 0)
        return time ? "is not a time; write a number and ms, s, m, h or d, as in \"1.5s\""
                    : "is not a size; write a number and B, KiB, MiB, GiB, KB, MB or GB, as in "
                      "\"64KiB\"";
    return set_number(k, base, value, room);
}

static const char *set_from_text(const struct config_key *k, void *base, const char *text,
                                 struct config_room *room)
{
    switch (k->type) {
    case CONFIG_TEXT:
        return set_text(k, base, text, room);
    case CONFIG_FLAG:
    case CONFIG_WORD:
        return set_word(k, base, text, room);
    case CONFIG_BYTES:
    case CONFIG_TIME:
        return set_units(k, base, text, room);
    case CONFIG_PARTITION:
        return set_partition(k, base, text, room);
    case CONFIG_COUNT:
    case CONFIG_MAYBE:
    case CONFIG_TEXTS:
    case CONFIG_PAIRS:
    case CONFIG_GROUPS:
        break;
    }
    return NULL;
}

/* --- reading -------------------------------------------------------------------------------- */

static const char *read_integer(const struct config_key *k, const config_setting_t *setting,
                                void *base, struct config_room *room)
{
    long long value = config_setting_get_int64(setting);

    if (config_setting_type(setting) == CONFIG_TYPE_INT)
        value = config_setting_get_int(setting);
    if (k->type == CONFIG_TIME) {
        (void)snprintf(room->text, sizeof room->text,
                       "has no unit; write \"%llds\" for seconds or \"%lldms\" for milliseconds",
                       value, value);
        return room->text;
    }
    if (value < 0)
        return "is negative; write a positive number";
    return set_number(k, base, (uint64_t)value, room);
}

static bool takes_text(const struct config_key *k)
{
    switch (k->type) {
    case CONFIG_FLAG:
        return k->words != NULL;
    case CONFIG_COUNT:
    case CONFIG_MAYBE:
    case CONFIG_TEXTS:
    case CONFIG_PAIRS:
    case CONFIG_GROUPS:
        return false;
    default:
        return true;
    }
}

/* What was written, for the sentence. */
static const char *show(const config_setting_t *s, bool secret,
                        char quoted[static CONFIG_QUOTE_SIZE])
{
    if (secret)
        return "the value";
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_INT:
        (void)snprintf(quoted, CONFIG_QUOTE_SIZE, "%d", config_setting_get_int(s));
        return quoted;
    case CONFIG_TYPE_INT64:
        (void)snprintf(quoted, CONFIG_QUOTE_SIZE, "%lld", config_setting_get_int64(s));
        return quoted;
    default: {
        char text[CONFIG_QUOTE_SIZE];
        (void)snprintf(quoted, CONFIG_QUOTE_SIZE, "'%.*s'", CONFIG_QUOTE_SIZE - 3,
                       config_quote(config_setting_get_string(s), text));
        return quoted;
    }
    }
}

/* Reads what consists of many values.  False: it is nothing of that kind. */
static bool read_many(const struct config_key *k, const config_setting_t *setting, void *base,
                      const struct config_scene *scene)
{
    int type = config_setting_type(setting);
    bool list = type == CONFIG_TYPE_LIST;
    /* An empty array is as empty as an empty list. */
    bool array = type == CONFIG_TYPE_ARRAY, empty = array && config_setting_length(setting) == 0;

    if (k->type == CONFIG_TEXTS && (list || array))
        config_texts_read(k, setting, member(k, base), scene);
    else if (k->type == CONFIG_PAIRS && (list || empty || type == CONFIG_TYPE_GROUP))
        config_pairs_read(k, setting, member(k, base), scene);
    else if (k->type == CONFIG_GROUPS && (list || empty))
        config_groups_read(k, setting, member(k, base), scene);
    else
        return false;
    return true;
}

static void complain_type(const struct config_key *k, const config_setting_t *setting,
                          const struct config_scene *scene)
{
    if (k->type == CONFIG_FLAG && takes_text(k))
        config_scene_mistake(scene, setting, k->path,
                             "has the wrong type; write %s = \"%s\" or \"%s\"", k->path,
                             k->words[0], k->words[1]);
    else if (k->type == CONFIG_GROUPS)
        config_scene_mistake(scene, setting, k->path,
                             "has the wrong type; write a list of groups, as in ( %s )",
                             k->group->example);
    else
        config_scene_mistake(scene, setting, k->path, "has the wrong type; write %s",
                             type_names[k->type]);
}

void config_key_read(const struct config_key *k, const struct config_setting_t *setting, void *base,
                     const struct config_scene *scene)
{
    int type = config_setting_type(setting);
    bool integer = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
    bool numeric = k->type == CONFIG_COUNT || k->type == CONFIG_BYTES || k->type == CONFIG_TIME;
    char quoted[CONFIG_QUOTE_SIZE];
    const char *wrong = NULL;
    struct config_room room;

    if (read_many(k, setting, base, scene))
        return;
    if (k->type == CONFIG_FLAG && type == CONFIG_TYPE_BOOL && !takes_text(k)) {
        *(bool *)member(k, base) = config_setting_get_bool(setting) != 0;
    } else if (k->type == CONFIG_MAYBE && type == CONFIG_TYPE_BOOL) {
        unsigned value = config_setting_get_bool(setting) ? 2 : 1;
        memcpy(member(k, base), &value, sizeof value);
    } else if (type == CONFIG_TYPE_STRING && takes_text(k)) {
        wrong = set_from_text(k, base, config_setting_get_string(setting), &room);
    } else if (integer && numeric) {
        wrong = read_integer(k, setting, base, &room);
    } else {
        complain_type(k, setting, scene);
    }
    if (wrong == config_out_of_memory)
        scene->mistakes->lost = true;
    else if (wrong != NULL)
        config_scene_mistake(scene, setting, k->path, "%s %s",
                             show(setting, config_key_is_secret(k, setting), quoted), wrong);
}

int config_key_preset(const struct config_key *k, void *base)
{
    const char *wrong = NULL;
    struct config_room room;

    if (k->preset == NULL)
        return 0;
    if (k->type == CONFIG_COUNT)
        wrong = set_number(k, base, strtoull(k->preset, NULL, 10), &room);
    else if (k->type == CONFIG_TEXT)
        wrong =
            keep_text(k, base, k->preset); /* a judge may look at the world, and take its time */
    else
        wrong = set_from_text(k, base, k->preset, &room);
    assert(wrong == NULL || wrong == config_out_of_memory); /* it is within its own range */
    return wrong == NULL ? 0 : -ENOMEM;
}

/* --- writing and forgetting ----------------------------------------------------------------- */

static unsigned word_of(const struct config_key *k, const void *base)
{
    unsigned word;

    if (k->type == CONFIG_FLAG)
        return *(const bool *)member_const(k, base);
    memcpy(&word, member_const(k, base), sizeof word);
    return word;
}

bool config_key_has_value(const struct config_key *k, const void *base)
{
    switch (k->type) {
    case CONFIG_TEXT:
        return *(char *const *)member_const(k, base) != NULL;
    case CONFIG_WORD:
        return k->words[word_of(k, base)][0] != '\0';
    case CONFIG_MAYBE:
        return word_of(k, base) != 0;
    default:
        return true;
    }
}

static void print_escaped(const char *text, FILE *to)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(to, "\\%c", *p);
        else if ((unsigned char)*p < ' ' || *p == 0x7F)
            fprintf(to, "\\x%02X", (unsigned)(unsigned char)*p);
        else
            fputc(*p, to);
    }
}

void config_print_text(const char *text, FILE *to)
{
    fputc('"', to);
    print_escaped(text, to);
    fputc('"', to);
}

static void print_partition(const struct config_flow *f, FILE *to)
{
    fprintf(to, "\"%s", partitions[f->key_kind].word);
    if (f->key_text != NULL)
        print_escaped(f->key_text, to);
    fputc('"', to);
}

/* Stars for what is secret; the rest tells a person what is set, and loads again. */
static void print_text(const struct config_key *k, const char *text, FILE *to)
{
    struct slice secret = secret_of(k, text);
    char *masked = NULL;

    if (secret.len == 0) {
        config_print_text(text, to);
        return;
    }
    if (asprintf(&masked, "%.*s********%s", (int)(secret.ptr - text), text,
                 secret.ptr + secret.len) < 0)
        masked = NULL;
    config_print_text(masked != NULL ? masked : "********", to);
    free(masked);
}

void config_key_print(const struct config_key *k, const void *base, FILE *to)
{
    const void *at = member_const(k, base);
    char number[UNITS_TEXT_SIZE];

    switch (k->type) {
    case CONFIG_TEXT:
        print_text(k, *(char *const *)at, to);
        return;
    case CONFIG_TEXTS:
        config_texts_print(at, to);
        return;
    case CONFIG_FLAG:
        fprintf(to, takes_text(k) ? "\"%s\"" : "%s", words_of(k)[word_of(k, base)]);
        return;
    case CONFIG_MAYBE:
        fputs(word_of(k, base) == 2 ? "true" : "false", to);
        return;
    case CONFIG_WORD:
        config_print_text(k->words[word_of(k, base)], to);
        return;
    case CONFIG_COUNT:
        fprintf(to, "%" PRIu32, *(const uint32_t *)at);
        return;
    case CONFIG_BYTES:
    case CONFIG_TIME:
        format_limit(k, *(const uint64_t *)at, number);
        config_print_text(number, to);
        return;
    case CONFIG_PARTITION:
        print_partition(base, to);
        return;
    case CONFIG_PAIRS:
        config_pairs_print(at, to);
        return;
    case CONFIG_GROUPS:
        config_groups_print(k, at, to);
        return;
    }
}

void config_key_clear(const struct config_key *k, void *base)
{
    char **text = member(k, base);

    if (k->type == CONFIG_TEXT) {
        text_free(*text, text_is_secret(k, *text));
        *text = NULL;
    } else if (k->type == CONFIG_TEXTS) {
        config_texts_clear(member(k, base));
    } else if (k->type == CONFIG_PAIRS) {
        config_pairs_clear(member(k, base));
    } else if (k->type == CONFIG_GROUPS) {
        config_groups_clear(k, member(k, base));
    } else if (k->type == CONFIG_PARTITION) {
        free(flow_of(k, base)->key_text);
        flow_of(k, base)->key_text = NULL;
    }
}
