/* ec2 -- what an EC2 instance knows about itself.
 *
 * A plain value, here because rooms that do not know each other pass it on: ship/imds fetches it, the Java agent's ADDEC2METADATA and ${ec2:...} read it.  All
 * texts are borrowed; whoever gave it says until when.  A text whose ptr is NULL is not known. */
#ifndef EC2_H
#define EC2_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order in which the Java agent writes them. */
enum ec2_text {
    EC2_PRIVATE_IP,
    EC2_AVAILABILITY_ZONE,
    EC2_INSTANCE_ID,
    EC2_INSTANCE_TYPE,
    EC2_ACCOUNT_ID,
    EC2_AMI_ID,
    EC2_REGION,
    EC2_TEXTS,
};

struct ec2_tag {
    struct slice key, value;
    struct slice lower; /* the key in lower case, as the Java agent writes it */
};

struct ec2 {
    struct slice text[EC2_TEXTS];
    const struct ec2_tag *tags; /* in the service's order */
    size_t tag_count;
    bool has_tags;           /* tags were given, perhaps none; else they are not known */
    int64_t fetched_wall_ms; /* when the texts were fetched */
    struct slice fetched;    /* the same as "yyyy-MM-dd'T'HH:mm:ssZ" in this machine's zone */
};

#endif
