/* put -- the call that puts a batch of records, in JSON 1.1, as Kinesis and Firehose both speak it:
 * how its body begins, and what its answer says of each record.
 *
 *   1. An answer has one entry for each record of the request, in the same order; if not, it is none.
 *   2. A record is stored if its entry has an id that is not empty, and no error code.
 *   3. A member that is null is as good as missing; one that nobody knows is passed over.
 *   4. The count of failures that an answer begins with is not believed: the entries say it.
 *
 * Rules 1 to 3: API reference of PutRecords and PutRecordBatch.  Thinks: no I/O. */
#ifndef PUT_H
#define PUT_H

#include "ship/service.h"

/* What a service calls things. */
struct put_words {
    struct slice stream_name, stream_arn; /* of the request; the latter empty: there is no such */
    struct slice entries;                 /* of the answer: the array … */
    struct slice id;                      /* … and what an entry has that was stored */
};

/* Appends the body up to its first record.  Errors: buf_append's. */
int put_begin(const struct put_words *w, struct buf *to, struct slice stream,
              struct slice stream_arn);

/* Reads an answer as service.read does. */
int put_read(const struct put_words *w, struct slice body, size_t count, enum outcome *outcomes,
             struct service_complaint *ret_complaint);

#endif
