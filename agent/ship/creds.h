/* creds -- where the keys that sign our requests come from.
 *
 * First source that is configured wins; one that is configured but incomplete is an error, not a
 * reason to try the next: the configuration, then the environment (AWS_ACCESS_KEY_ID,
 * AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN). */
#ifndef CREDS_H
#define CREDS_H

#include "slice.h"

struct creds {
    struct slice access_key_id, secret_access_key, session_token; /* borrowed */
    const char *from; /* for a message: never the keys themselves */
};

/* `configured`: from the configuration, empty texts where nothing was said.  Borrows them and the
 * environment.  On failure *ret_why is a sentence for a person.
 * Errors: -ENOENT: no source is configured; -EINVAL: one is, and incomplete. */
int creds_find(const struct creds *configured, struct creds *ret, const char **ret_why);

#endif
