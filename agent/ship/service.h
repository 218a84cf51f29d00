/* service -- what differs between the services that take records: names, limits, framing.
 *
 * Everything else in ship/ works for any of them.  A service is a constant table; it has no state. */
#ifndef SERVICE_H
#define SERVICE_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

/* What the service said of one record: one name for each thing we do next. */
enum outcome {
    OUTCOME_ACCEPTED,  /* stored: its bytes are settled */
    OUTCOME_THROTTLED, /* it is full: again later, and narrow the window */
    OUTCOME_TRANSIENT, /* their fault: again later */
    OUTCOME_HELD,      /* a person's business, a key or a permission: said loudly, again later */
    OUTCOME_UNKNOWN,   /* for a reason that nobody knows: the same, but not for ever */
    OUTCOME_REFUSED,   /* will never be taken as it stands */
    OUTCOME_BURIED,    /* nothing a service says: it was refused, and is a dead letter now */
};

/* The first failure of an answer, for a person; borrows from the answer. */
struct service_complaint {
    struct slice code, message;
};

/* What a person can do, as clauses, where it is not the same with all of them. */
struct service_advice {
    const char *endpoint, *name, *rights, *busy;
};

struct service {
    const char *signing_name;
    const char *put_target; /* X-Amz-Target of the call that puts a batch */

    uint32_t records_max;   /* records in one request */
    uint64_t bytes_max;     /* data and keys of one request, before base64 */
    uint64_t record_max;    /* data and key of one record, before base64 */
    uint32_t key_units_max; /* length of a partition key, in UTF-16 units; 0: no key */

    struct service_advice advice;

    /* A request's body is: what `begin` writes, then for each record
     * record_head base64(data) record_key key-as-JSON-string record_tail, separated by commas,
     * then body_tail. */
    struct slice record_head, record_key, record_tail, body_tail;

    /* Appends the body's beginning.  `stream_arn` is used if it is not empty. */
    int (*begin)(struct buf *to, struct slice stream, struct slice stream_arn);

    /* Reads the answer (HTTP 200) to a request of `count` records into outcomes[count].
     * *ret_complaint is the first failure's, empty if there was none.
     * Errors: -EBADMSG if it is not an answer to this request: what was stored is unknown. */
    int (*read)(struct slice body, size_t count, enum outcome *outcomes,
                struct service_complaint *ret_complaint);
};

#endif
