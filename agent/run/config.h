/* config -- what the person who runs us has asked for, as data.
 *
 *   1. A setting exists in one row of a table (struct config_key); reading, defaults, ranges and
 *      printing walk the rows, and a test compares them with config.example.
 *   2. Every mistake is found and reported at once: file, line, key, sentence.
 *   3. A configuration that was given is whole: every range and rule below holds.
 *   4. config_print and config_load are inverse, but for masked secrets.
 *
 * The language is libconfig's; its header stays inside, for its names begin with config_ too.
 *
 * Errors: 0 or -errno.  Threads: no shared state; a struct config is not changed after birth.
 * Blocks: on reading files. */
#ifndef CONFIG_H
#define CONFIG_H

#include "run/mistakes.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum config_key_kind {
    CONFIG_KEY_RANDOM,
    CONFIG_KEY_HASH,  /* of the record */
    CONFIG_KEY_FILE,  /* its path */
    CONFIG_KEY_HOST,  /* this machine's name */
    CONFIG_KEY_FIELD, /* key_text: the field's name */
    CONFIG_KEY_REGEX, /* key_text: the pattern, whose first group is the key */
    CONFIG_KEY_CONST, /* key_text: the key */
};
enum config_encoding {
    CONFIG_UTF8,
    CONFIG_UTF16LE,
    CONFIG_UTF16BE,
    CONFIG_LATIN1,
};
enum config_mismatch {
    CONFIG_MISMATCH_RAW,
    CONFIG_MISMATCH_DROP,
    CONFIG_MISMATCH_TAG,
    CONFIG_MISMATCH_DEAD
};
enum config_output { CONFIG_OUTPUT_AUTO, CONFIG_OUTPUT_RAW, CONFIG_OUTPUT_JSON };
enum config_join { CONFIG_JOIN_NONE, CONFIG_JOIN_LINES };
enum config_compress { CONFIG_COMPRESS_NONE, CONFIG_COMPRESS_GZIP, CONFIG_COMPRESS_ZSTD };
enum config_oversize { CONFIG_OVERSIZE_TRUNCATE, CONFIG_OVERSIZE_SPLIT, CONFIG_OVERSIZE_DEAD };
enum config_newline { CONFIG_NEWLINE_AUTO, CONFIG_NEWLINE_FALSE, CONFIG_NEWLINE_TRUE };
enum config_time_output { CONFIG_TIME_RFC3339, CONFIG_TIME_EPOCH, CONFIG_TIME_EPOCH_MS };
enum config_full { CONFIG_FULL_WAIT, CONFIG_FULL_DROP_OLDEST };
enum config_log_level { CONFIG_LOG_ERROR, CONFIG_LOG_WARNING, CONFIG_LOG_INFO, CONFIG_LOG_DEBUG };

struct config_texts { /* owns */
    char **items;
    size_t count;
};

/* { name = "value"; other = 3; third = true; } */
struct config_pair { /* owns */
    char *name, *value;
    bool literal; /* the value was written without quotes: a JSON number, true or false */
};

struct config_pairs { /* owns */
    struct config_pair *items;
    size_t count;
};

struct config_redact { /* owns */
    char *pattern, *replace;
};

struct config_redacts { /* owns */
    struct config_redact *items;
    size_t count;
};

/* One conversion as the Java agent makes it; several are a chain. */
enum config_convert_format {
    CONFIG_JAVA_SINGLELINE,
    CONFIG_JAVA_CSV,
    CONFIG_JAVA_LOG,
    CONFIG_JAVA_METADATA,
    CONFIG_JAVA_EC2_METADATA,
    CONFIG_JAVA_BRACKETS,
};
enum config_java_log {
    CONFIG_JAVA_LOG_NONE, /* of other formats */
    CONFIG_JAVA_COMMON,   /* "COMMONAPACHELOG", as its users know them */
    CONFIG_JAVA_COMBINED, /* "COMBINEDAPACHELOG" */
    CONFIG_JAVA_ERROR,    /* "APACHEERRORLOG" */
    CONFIG_JAVA_SYSLOG,   /* "SYSLOG" */
    CONFIG_JAVA_RFC3339,  /* "RFC3339SYSLOG" */
};

struct config_convert { /* owns */
    enum config_convert_format format;
    bool trim, escape_newline;  /* java_singleline; trim is true unless said otherwise */
    char *delimiter;            /* java_csv: a Java regex */
    struct config_texts fields; /* java_csv, java_log */
    bool pretty;                /* java_csv, java_log */
    enum config_java_log log;   /* java_log */
    char *match;                /* java_log: a Java regex, or NULL */
    char *metadata;             /* java_metadata: JSON */
    bool timestamp;             /* java_metadata */
    uint64_t ttl_ms;            /* java_ec2_metadata */
};

struct config_converts { /* owns */
    struct config_convert *items;
    size_t count;
};

struct config_flow {           /* owns its texts */
    char *name;                /* unique */
    struct config_texts files; /* absolute globs, at least one */
    struct config_texts exclude, rotated;
    bool from_start; /* from = "start" */
    bool follow_symlinks, follow_hard_links;
    uint64_t held_limit; /* bytes; 0: none */
    char *stream;        /* a name, or NULL; exactly one of the three is given */
    char *stream_arn;
    char *delivery_stream; /* Firehose */
    char *destination;     /* what messages and directories call it: the name or ARN that is given,
                            * "firehose:NAME" of Firehose, whose names may be a stream's too */
    struct {
        char *start, *proceed, *end; /* patterns or NULL; "continue" is a word of C */
        uint64_t timeout_ms;
        uint32_t max_lines;
        uint64_t max_bytes;
    } multiline;
    uint32_t skip_header_lines;
    enum config_encoding encoding;
    struct {
        unsigned format;            /* enum parse_format of record/parse.h */
        char *regex;                /* or NULL; format is then PARSE_REGEX */
        struct config_texts fields; /* names of columns or groups */
        char *delimiter;            /* csv: one character */
        bool header;                /* csv: names are the file's first line */
        struct config_pairs types;  /* "integer", "number", "boolean", "null" or "text" */
        struct {
            char *field, *format, *zone; /* field NULL: no time is looked for */
            enum config_time_output output;
        } time;
        enum config_mismatch on_mismatch;
    } parse;
    struct config_converts convert;
    struct config_texts include, drop; /* patterns */
    struct config_redacts redact;
    struct config_pairs add;
    struct config_texts keep, remove; /* names of fields */
    struct config_pairs rename;       /* { old = "new"; } */
    enum config_output output;
    enum config_newline newline;
    enum config_join join;
    uint64_t join_bytes;
    enum config_compress compress;
    uint32_t compress_level; /* 0: the library's own */
    enum config_oversize on_oversize;
    enum config_key_kind key_kind;
    char *key_text; /* of CONST, FIELD and REGEX, else NULL */
    uint32_t batch_records;
    uint64_t batch_bytes; /* data and keys */
    uint64_t batch_linger_ms;
    uint32_t max_in_flight;
    char *truncated_suffix; /* may be "" */
    char *where_file;       /* where the flow was written */
    unsigned where_line;
    unsigned where_index; /* among the flows of that file, as in flows[0] of a mistake */
};

struct config { /* owns everything */
    char *region;
    char *state_dir; /* absolute */
    uint32_t lanes;
    uint64_t drain_timeout_ms;
    struct {
        char *kinesis, *firehose; /* URL or NULL */
    } endpoint;
    struct {
        char *access_key_id, *secret_access_key, *session_token; /* each NULL if absent */
    } credentials;
    struct {
        char *ca_file; /* or NULL */
    } tls;
    struct {
        char *url, *no_proxy; /* each NULL if absent */
    } proxy;
    enum config_log_level log_level;
    uint64_t memory_limit; /* bytes */
    struct {
        uint64_t limit; /* bytes for each destination; 0: no spool */
        uint64_t min_free;
        enum config_full when_full;
        uint64_t patience_ms;
    } spool;
    struct config_flow *flows; /* at least one */
    size_t flow_count;
};

/* Reads the file and conf.d/ *.conf beside it, in the order of their names.  Flows are appended; a
 * global key that is set twice is a mistake.  @include is relative to the file it stands in.
 * Gives *ret.  Errors: -EINVAL, with the mistakes added to `m`; if `path` itself cannot be
 * opened, open(2)'s, also as a mistake; -ENOMEM. */
int config_load(const char *path, struct config **ret, struct config_mistakes *m);

/* The same for a text, without conf.d, @include and the look at permissions; `name` stands for the
 * file in mistakes. */
int config_load_text(struct slice text, const char *name, struct config **ret,
                     struct config_mistakes *m);

/* Writes the effective configuration in its own language, secrets masked.  Errors: -EIO. */
int config_print(const struct config *c, FILE *to);

void config_free(struct config *c); /* wipes secrets; NULL is fine */

enum { CONFIG_WHY_SIZE = 320 }; /* room for what is wrong with one text */

/* What is written, and what it becomes. */
enum config_type {
    CONFIG_TEXT,      /* "text": char *; min and max are its length in bytes */
    CONFIG_TEXTS,     /* [ "a", "b" ] or a list: struct config_texts; min, max: how many */
    CONFIG_FLAG,      /* true or false, or one of two `words`: bool */
    CONFIG_MAYBE,     /* true, false or nothing: 2, 1 or 0 of an enum */
    CONFIG_WORD,      /* one of `words`: an enum */
    CONFIG_COUNT,     /* 500: uint32_t */
    CONFIG_BYTES,     /* "64KiB" or 65536: uint64_t */
    CONFIG_TIME,      /* "1.5s": uint64_t, in milliseconds */
    CONFIG_PARTITION, /* "random", "const:TEXT" and so on: key_kind and key_text */
    CONFIG_PAIRS,     /* { a = "x"; }, or where libconfig cannot write a name so,
                       * ( { name = "@a"; value = "x"; } ): struct config_pairs; max: how many */
    CONFIG_GROUPS,    /* ( { ... }, { ... } ): an array and its count, as struct config_redacts has
                       * them, of `group`'s elements; max: how many */
};

struct config_group;

struct config_key {
    const char *path; /* "batch.linger": groups are separated by dots */
    enum config_type type;
    size_t offset;      /* in struct config, struct config_flow or a group's element */
    const char *preset; /* the default as one would write it, without quotes; or NULL */
    uint64_t min, max;
    const char *meaning;
    /* Ends with NULL.  One that is "" cannot be written: it is what a member is without having been
     * set.  CONFIG_PAIRS: what the values may be. */
    const char *const *words;
    /* What is wrong with a text, or NULL: of TEXT, of each of TEXTS, of the values of PAIRS; and of
     * a word that is none, to say more than that.  The second is for those who quote. */
    const char *(*judge)(const char *text);
    const char *(*inspect)(const char *text, char why[static CONFIG_WHY_SIZE]);
    struct slice (*secret_of)(
        const char *text);            /* TEXT: its part that is a secret, if it has one */
    const struct config_group *group; /* CONFIG_GROUPS */
    bool required, secret;
    bool empties;  /* TEXTS: one of them may be "" */
    bool unique;   /* TEXTS: none may be there twice */
    bool literals; /* PAIRS: a value may be a number, true or false */
    bool renames;  /* PAIRS: a value is a name, for one field, and another one */
};

/* What a list of groups consists of. */
struct config_group {
    const struct config_key *rows; /* offsets in an element; no groups within it */
    size_t count, size;            /* of the rows; of an element, in bytes */
    const char *example;           /* for a sentence: "{ pattern = \"...\"; ... }" */
    /* Why the row means nothing in this element; NULL if it does, as all do where this is NULL. */
    const char *(*idle)(const void *element, const struct config_key *row,
                        char why[static CONFIG_WHY_SIZE]);
    /* What is wrong with an element whose rows are well by themselves, and with which row; or
     * NULL. */
    const char *(*judge)(const void *element, const char **ret_path,
                         char why[static CONFIG_WHY_SIZE]);
};

const struct config_key *config_global_keys(size_t *ret_count);
const struct config_key *config_flow_keys(size_t *ret_count);

#endif
