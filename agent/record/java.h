/* java -- the Java Kinesis Agent's data processing, bit for bit: what it makes of a record.
 *
 *   1. A chain is made once from its settings.  Its steps take place in order, each on what the one
 *      before it gave.
 *   2. A step that gives nothing drops the record.  Where the Java agent's converter would throw,
 *      the ORIGINAL record is sent, not what the steps before made of it.
 *   3. Records come with their newline, as they stand in the file, and most steps end what they
 *      give with one.
 *   4. A warm chain no longer allocates.
 *
 * The rules are those of tests/data/parity/README.md; java.c says where each is from.  They are kept for
 * those who come from that agent: record/parse.h is for everybody else.
 *
 * Thinks: no I/O, no clock.  Threads: a chain belongs to one. */
#ifndef JAVA_H
#define JAVA_H

#include "buf.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ec2;
struct java_chain;

enum java_format {
    JAVA_SINGLELINE,   /* lines joined into one */
    JAVA_CSV,          /* columns to a JSON object: CSVTOJSON */
    JAVA_LOG,          /* what a pattern finds to a JSON object: LOGTOJSON */
    JAVA_METADATA,     /* {"metadata":...,"data":"the record"}: ADDMETADATA */
    JAVA_EC2_METADATA, /* the instance's metadata added to a JSON object: ADDEC2METADATA */
    JAVA_BRACKETS,     /* {the record}: ADDBRACKETS */
};

enum java_log {
    JAVA_LOG_COMMON,
    JAVA_LOG_COMBINED,
    JAVA_LOG_ERROR,
    JAVA_LOG_SYSLOG,
    JAVA_LOG_RFC3339,
    JAVA_LOGS,
};

/* One step; what its format does not look at may be zero.  Borrowed for the length of java_chain_new. */
struct java_settings {
    enum java_format format;
    bool keep_space;        /* SINGLELINE: NO_TRIM */
    bool escape_newline;    /* SINGLELINE: ESCAPE_NEW_LINE */
    struct slice delimiter; /* CSV: a Java regex; may be empty */
    const struct slice
        *fields; /* CSV, LOG: names; for LOG there may be none, if there is no match */
    size_t field_count;
    bool pretty; /* CSV, LOG, METADATA, EC2_METADATA: PRETTYPRINT */
    enum java_log log;
    const struct slice *match; /* LOG: a Java regex instead of the format's own, or NULL */
    struct slice metadata;     /* METADATA: a JSON value */
    bool timestamp;            /* METADATA: "ts" in front of it */
};

/* What is wrong, for a person, and in which step. */
struct java_error {
    size_t step;
    const char *key; /* of the settings: "delimiter", "match", "metadata", "fields" */
    char text[200];  /* no full stop at its end */
};

struct java_context {
    int64_t wall_ms;
    const struct ec2 *ec2; /* NULL: not known */
};

enum java_outcome {
    JAVA_SEND, /* what the chain made of the record */
    JAVA_DROP,
    JAVA_RAW, /* the original record */
};

/* `max`: bytes that a record may have, at each step.  Gives *ret.  Errors: -EINVAL: Java would refuse the
 * settings, -ENOTSUP: we cannot keep their meaning (both with *ret_error); -ENOMEM. */
int java_chain_new(const struct java_settings *steps, size_t count, size_t max,
                   struct java_chain **ret, struct java_error *ret_error);
void java_chain_free(struct java_chain *c);

/* Lends it what it works in, until java_chain_free; their ceilings are the lender's. */
void java_chain_lend(struct java_chain *c, struct buf bufs[3]);

/* Records may have so many bytes from now on. */
void java_chain_set_max(struct java_chain *c, size_t max);

/* Gives pieces of memory back that are larger than `keep` bytes. */
void java_chain_trim(struct java_chain *c, size_t keep);

/* As pattern_meter, for the patterns of all steps. */
void java_chain_meter(struct java_chain *c, uint64_t *meter);

/* Converts `record`, and returns an outcome.  *ret is what to send: the record itself, or borrowed
 * from the chain until the next call.  With JAVA_DROP it is empty.
 * Errors: -EMSGSIZE past `max`; -ETIME if a pattern gave up at a limit; -ENOMEM.  *ret is then the record. */
int java_chain_convert(struct java_chain *c, struct slice record,
                       const struct java_context *context, struct slice *ret);

/* How many fields a format has. */
size_t java_log_field_count(enum java_log log);

#endif
