/* firehose -- PutRecordBatch of Amazon Data Firehose, JSON 1.1.
 *
 * Source of every number: the API reference of PutRecordBatch.  A record has no key: only its data
 * count.  What is stored is one record behind the other with nothing in between, so a record ends in
 * a newline unless the configuration says otherwise (run/outfit.h). */
#ifndef FIREHOSE_H
#define FIREHOSE_H

#include "ship/service.h"

extern const struct service firehose_service;

#endif
