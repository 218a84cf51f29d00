/* endpoint -- where a service is spoken to: one URL and the host name that is signed.
 *
 *   1. http:// only to loopback; everything else is https://.
 *   2. `host` is what libcurl puts into the Host header: the port only if it is not the scheme's. */
#ifndef ENDPOINT_H
#define ENDPOINT_H

#include "slice.h"

#include <stdbool.h>

enum { ENDPOINT_TEXT_MAX = 512 };

struct endpoint {
    char url[ENDPOINT_TEXT_MAX];
    char host[ENDPOINT_TEXT_MAX];
};

/* From a configured URL (scheme://host[:port][/]).  Errors: -EINVAL if it is not of that form;
 * -EPERM if it is http:// and the host is not loopback; -ENAMETOOLONG. */
int endpoint_from_url(struct slice url, struct endpoint *ret);

/* The regional endpoint of `service` ("kinesis"): service.region.suffix, by the partition that the
 * region belongs to (botocore's partitions.json).  Errors: -ENAMETOOLONG. */
int endpoint_of_region(struct slice service, struct slice region, struct endpoint *ret);

/* "localhost", 127.0.0.0/8 or ::1, the last in brackets or without. */
bool endpoint_is_loopback(struct slice host);

#endif
