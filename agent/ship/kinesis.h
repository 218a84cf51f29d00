/* kinesis -- PutRecords of Amazon Kinesis Data Streams, JSON 1.1.
 *
 * Source of every number: the API reference of PutRecords, as of the change of October 2025
 * (10 MiB a request; a record 1 MiB unless the stream was set to take more). */
#ifndef KINESIS_H
#define KINESIS_H

#include "ship/service.h"

extern const struct service kinesis_service;

#endif
