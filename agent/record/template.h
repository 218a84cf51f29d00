/* template -- a text with variables in it, as in "${HOSTNAME}:${file}".
 *
 *     ${HOSTNAME}      this machine's name
 *     ${env:NAME}      of the environment the agent was started with; empty if it is not there
 *     ${file}          the path of the log file
 *     ${offset}        where in the file the record begins, in bytes
 *     ${flow}          the flow's name
 *     ${now}           when the line was read, in RFC 3339, UTC, with milliseconds
 *     ${ec2:NAME}      of the instance: instance-id, instance-type, availability-zone, region,
 *                      account-id, ami-id, private-ip, or tag/NAME; empty where it is not known
 *     $$               a dollar sign
 *
 * Thinks: no I/O; a warm one allocates nothing. */
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

struct buf;
struct ec2;
struct template;

/* What stays as it is; borrowed during template_new only. */
struct template_world {
    struct slice hostname, flow;
    const char *(*env)(const char *name); /* getenv(3), or a test's */
};

/* What each record has of its own. */
struct template_place {
    struct slice file;
    uint64_t offset;
    int64_t now_ms;        /* wall clock */
    const struct ec2 *ec2; /* NULL: not known */
};

enum { TEMPLATE_WHY_SIZE = 200 };

/* Errors: -EINVAL, with the rest of a sentence in `ret_why`, which begins with the text; -ENOMEM. */
int template_new(struct slice text, const struct template_world *world, struct template **ret,
                 char ret_why[static TEMPLATE_WHY_SIZE]);
void template_free(struct template *t);

/* Whether it asks for the instance's metadata, which then has to be fetched. */
bool template_wants_ec2(const struct template *t);

/* Appends the text for this place.  Errors: as buf. */
int template_append(const struct template *t, const struct template_place *place, struct buf *to);

/* The whole text, if it is the same for all places. */
bool template_is_constant(const struct template *t, struct slice *ret);

#endif
