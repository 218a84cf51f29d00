#include "run/config_convert.h"

#include "run/config.h"
#include "run/judge.h"
#include "util.h"

#include <stddef.h>
#include <string.h>

enum { TEXT_MAX = 64 * 1024, FIELDS_MAX_IN_JAVA = 1000 };

static const char *const formats[] = {
    [CONFIG_JAVA_SINGLELINE] = "java_singleline",
    [CONFIG_JAVA_CSV] = "java_csv",
    [CONFIG_JAVA_LOG] = "java_log",
    [CONFIG_JAVA_METADATA] = "java_metadata",
    [CONFIG_JAVA_EC2_METADATA] = "java_ec2_metadata",
    [CONFIG_JAVA_BRACKETS] = "java_brackets",
    NULL,
};

static const char *const logs[] = {
    [CONFIG_JAVA_LOG_NONE] = "",
    [CONFIG_JAVA_COMMON] = "COMMONAPACHELOG",
    [CONFIG_JAVA_COMBINED] = "COMBINEDAPACHELOG",
    [CONFIG_JAVA_ERROR] = "APACHEERRORLOG",
    [CONFIG_JAVA_SYSLOG] = "SYSLOG",
    [CONFIG_JAVA_RFC3339] = "RFC3339SYSLOG",
    NULL,
};

#define AT(member) offsetof(struct config_convert, member)

static const struct config_key rows[] = {
    {"format", CONFIG_WORD, AT(format), "java_singleline", 0, 0, .meaning = "which converter it is",
     .words = formats, .required = true},
    {"trim", CONFIG_FLAG, AT(trim), "true", 0, 0,
     .meaning = "java_singleline: whether blanks go from both ends of each line"},
    {"escape_newline", CONFIG_FLAG, AT(escape_newline), "false", 0, 0,
     .meaning = "java_singleline: whether lines are joined with \\\\n"},
    {"delimiter", CONFIG_TEXT, AT(delimiter), ",", 0, 4095,
     .meaning = "java_csv: Java regex of what stands between columns",
     .inspect = judge_java_pattern},
    {"fields", CONFIG_TEXTS, AT(fields), NULL, 0, FIELDS_MAX_IN_JAVA,
     .meaning = "java_csv, java_log: names of the columns or groups", .judge = judge_field_name,
     .empties = true},
    {"pretty", CONFIG_FLAG, AT(pretty), "false", 0, 0,
     .meaning = "all but java_singleline and java_brackets: whether JSON is written in several "
                "lines"},
    {"log", CONFIG_WORD, AT(log), NULL, 0, 0, .meaning = "java_log: the format of the lines",
     .words = logs},
    {"match", CONFIG_TEXT, AT(match), NULL, 0, 4095,
     .meaning = "java_log: Java regex instead of the format's own", .inspect = judge_java_pattern},
    {"metadata", CONFIG_TEXT, AT(metadata), NULL, 1, TEXT_MAX,
     .meaning = "java_metadata: JSON that is put beside the line", .judge = judge_json},
    {"timestamp", CONFIG_FLAG, AT(timestamp), "false", 0, 0,
     .meaning = "java_metadata: whether the time is put beside the line"},
    {"ttl", CONFIG_TIME, AT(ttl_ms), "1h", 1000, 7 * UINT64_C(86400000),
     .meaning = "java_ec2_metadata: after how long the instance is asked again"},
};

/* Which formats a row is for, as bits; a row that is not named is for all. */
static const struct {
    const char *path;
    unsigned formats;
} uses[] = {
    {"trim", 1U << CONFIG_JAVA_SINGLELINE},
    {"escape_newline", 1U << CONFIG_JAVA_SINGLELINE},
    {"delimiter", 1U << CONFIG_JAVA_CSV},
    {"fields", 1U << CONFIG_JAVA_CSV | 1U << CONFIG_JAVA_LOG},
    {"pretty", 1U << CONFIG_JAVA_CSV | 1U << CONFIG_JAVA_LOG | 1U << CONFIG_JAVA_METADATA |
                   1U << CONFIG_JAVA_EC2_METADATA},
    {"log", 1U << CONFIG_JAVA_LOG},
    {"match", 1U << CONFIG_JAVA_LOG},
    {"metadata", 1U << CONFIG_JAVA_METADATA},
    {"timestamp", 1U << CONFIG_JAVA_METADATA},
    {"ttl", 1U << CONFIG_JAVA_EC2_METADATA},
};

static const char *idle(const void *element, const struct config_key *row,
                        char why[static CONFIG_WHY_SIZE])
{
    const struct config_convert *c = element;

    for (size_t i = 0; i < ARRAY_LEN(uses); i++) {
        if (strcmp(uses[i].path, row->path) != 0 || (uses[i].formats & 1U << c->format) != 0)
            continue;
        (void)snprintf(why, CONFIG_WHY_SIZE, "is not a setting of format = \"%s\"; remove it",
                       formats[c->format]);
        return why;
    }
    return NULL;
}

/* How many fields the Java agent's formats have. */
static const size_t log_fields[] = {
    [CONFIG_JAVA_COMMON] = 7, [CONFIG_JAVA_COMBINED] = 9, [CONFIG_JAVA_ERROR] = 7,
    [CONFIG_JAVA_SYSLOG] = 5, [CONFIG_JAVA_RFC3339] = 5,
};

static const char *judge_log(const struct config_convert *c, const char **ret_path,
                             char why[static CONFIG_WHY_SIZE])
{
    *ret_path = "log";
    if (c->log == CONFIG_JAVA_LOG_NONE)
        return "is missing here; java_log needs it, also beside match: write log = "
               "\"COMMONAPACHELOG\" or another of its formats";
    *ret_path = "fields";
    if (c->match != NULL)
        return c->fields.count > 0 || strchr(c->match, '(') == NULL
                   ? NULL
                   : "is missing here; match needs the names of its groups: write fields = [ "
                     "\"...\" ]";
    if (c->fields.count == 0 || c->fields.count == log_fields[c->log])
        return NULL;
    (void)snprintf(why, CONFIG_WHY_SIZE,
                   "has %zu names, but %s has %zu fields; write as many, or remove it",
                   c->fields.count, logs[c->log], log_fields[c->log]);
    return why;
}

static const char *judge(const void *element, const char **ret_path,
                         char why[static CONFIG_WHY_SIZE])
{
    const struct config_convert *c = element;

    if (c->format == CONFIG_JAVA_LOG)
        return judge_log(c, ret_path, why);
    if (c->format == CONFIG_JAVA_CSV && c->fields.count == 0) {
        *ret_path = "fields";
        return "is missing here; java_csv needs the names of its columns: write fields = [ \"...\" "
               "]";
    }
    if (c->format == CONFIG_JAVA_METADATA && c->metadata == NULL) {
        *ret_path = "metadata";
        return "is missing here; java_metadata needs it: write metadata = \"{...}\"";
    }
    return NULL;
}

const struct config_group config_convert_group = {
    .rows = rows,
    .count = ARRAY_LEN(rows),
    .size = sizeof(struct config_convert),
    .example = "{ format = \"java_csv\"; fields = [ \"...\" ]; }",
    .idle = idle,
    .judge = judge,
};
