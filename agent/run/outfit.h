/* outfit -- a flow's settings made into the tools that work on its lines: patterns compiled, zones
 * looked up, everything checked that only making it can check.
 *
 * Errors: 0 or -errno.  Blocks: on reading time zones.  Call it before threads are started, or from
 * the only one that uses TZ (record/zone.h). */
#ifndef OUTFIT_H
#define OUTFIT_H

#include <stdbool.h>
#include <stddef.h>

struct config_flow;
struct digest;
struct mill;
struct outfit;
struct random;
struct scratch;
struct service;

enum { OUTFIT_WHY_SIZE = 400 };

struct outfit_error { /* for a person */
    const char *key;  /* the setting: "redact[0].pattern" */
    char text[OUTFIT_WHY_SIZE];
};

/* The service that the flow sends to.  What it takes decides what records may be: without partition
 * keys none is made, and Firehose, which puts nothing between records, gets each with a newline. */
const struct service *outfit_service(const struct config_flow *c);

/* Borrows everything until outfit_free.  `record_max`: bytes of a record with its key.  `scratch`: what
 * it works in, lent by the lane; NULL: it has its own.  Gives *ret.
 * Errors: -EINVAL, with *ret_error; -ENOMEM. */
int outfit_new(const struct config_flow *c, size_t record_max, struct digest *digest,
               struct random *random, struct scratch *scratch, struct outfit **ret,
               struct outfit_error *ret_error);
void outfit_free(struct outfit *o);

/* Records may have so many bytes from now on.  Errors: -ENOMEM; then it is as it was. */
int outfit_set_record_max(struct outfit *o, size_t record_max);

/* Gives back what large lines took and is not in the scratch. */
void outfit_trim(struct outfit *o);

struct mill *outfit_mill(const struct outfit *o);

/* Whether records need the instance's metadata, which then has to be fetched. */
bool outfit_wants_ec2(const struct outfit *o);

/* Whether a file's columns are named in its first lines, and how many lines make no records. */
bool outfit_wants_header(const struct outfit *o);

#endif
