/* cri -- a line of a container's log as the kubelet keeps it, taken apart.
 *
 *     2016-10-06T00:17:09.669794202Z stdout P The content of the
 *     2016-10-06T00:17:09.669794202Z stdout F log entry
 *
 * P: a part, whose line goes on in the next one of the same stream; F: the full line, or its end
 * (kubernetes/design-proposals-archive, node/kubelet-cri-logging.md).
 *
 * Thinks: no I/O, no memory. */
#ifndef CRI_H
#define CRI_H

#include "slice.h"

#include <stdbool.h>

enum cri_stream { CRI_STDOUT, CRI_STDERR, CRI_STREAMS };

struct cri {
    struct slice time, stream, tag, message; /* in the line; the tag is "P", "F", or "P:…" */
    enum cri_stream which;
    bool is_part;
};

/* `line` without its newline.  False: it is no such line. */
bool cri_read(struct slice line, struct cri *ret);

#endif
