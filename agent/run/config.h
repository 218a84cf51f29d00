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

enum config_key_kind { CONFIG_KEY_RANDOM, CONFIG_KEY_CONST, CONFIG_KEY_FILE };
enum config_log_level { CONFIG_LOG_ERROR, CONFIG_LOG_WARNING, CONFIG_LOG_INFO, CONFIG_LOG_DEBUG };

struct config_texts { /* owns */
    char **items;
    size_t count;
};

struct config_flow {           /* owns its texts */
    char *name;                /* unique */
    struct config_texts files; /* absolute globs, at least one */
    struct config_texts exclude, rotated;
    bool from_start; /* from = "start" */
    bool follow_symlinks, follow_hard_links;
    uint64_t held_limit; /* bytes; 0: none */
    char *stream;        /* a name, or NULL; exactly one of stream and stream_arn */
    char *stream_arn;
    bool newline; /* the record keeps the newline of its line */
    enum config_key_kind key_kind;
    char *key_text; /* for CONFIG_KEY_CONST, else NULL */
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
        char *kinesis; /* URL or NULL */
    } endpoint;
    struct {
        char *access_key_id, *secret_access_key, *session_token; /* each NULL if absent */
    } credentials;
    struct {
        char *ca_file; /* or NULL */
    } tls;
    enum config_log_level log_level;
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

enum config_type {               /* what is written, and what it becomes */
                   CONFIG_TEXT,  /* "text": char *; min and max are its length in bytes */
                   CONFIG_TEXTS, /* [ "a", "b" ] or a list: struct config_texts; min, max: how many
                                  */
                   CONFIG_FLAG,  /* true or false, or one of two `words`: bool */
                   CONFIG_WORD,  /* one of `words`: an enum */
                   CONFIG_COUNT, /* 500: uint32_t */
                   CONFIG_BYTES, /* "64KiB" or 65536: uint64_t */
                   CONFIG_TIME,  /* "1.5s": uint64_t, in milliseconds */
                   CONFIG_PARTITION, /* "random", "file", "const:TEXT": key_kind and key_text */
};

struct config_key {
    const char *path; /* "batch.linger": groups are separated by dots */
    enum config_type type;
    size_t offset;      /* in struct config or struct config_flow */
    const char *preset; /* the default as one would write it, without quotes; or NULL */
    uint64_t min, max;
    const char *meaning;
    const char *const *words;               /* ends with NULL */
    const char *(*judge)(const char *text); /* CONFIG_TEXT(S): what is wrong with it, or NULL */
    bool required, secret;
};

const struct config_key *config_global_keys(size_t *ret_count);
const struct config_key *config_flow_keys(size_t *ret_count);

#endif
