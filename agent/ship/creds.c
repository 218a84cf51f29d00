#include "ship/creds.h"

#include <errno.h>
#include <stdlib.h>

int creds_find(const struct creds *configured, struct creds *ret, const char **ret_why)
{
    const struct creds environment = {
        .access_key_id = slice_of(getenv("AWS_ACCESS_KEY_ID")),
        .secret_access_key = slice_of(getenv("AWS_SECRET_ACCESS_KEY")),
        .session_token = slice_of(getenv("AWS_SESSION_TOKEN")),
        .from = "the environment",
    };

    if (configured->access_key_id.len > 0) {
        *ret = *configured;
        ret->from = "the configuration";
        return 0;
    }
    if (environment.access_key_id.len == 0) {
        *ret_why = "no credentials: set credentials.access_key_id and "
                   "credentials.secret_access_key, or AWS_ACCESS_KEY_ID and "
                   "AWS_SECRET_ACCESS_KEY in the environment";
        return -ENOENT;
    }
    if (environment.secret_access_key.len == 0) {
        *ret_why = "AWS_ACCESS_KEY_ID is set in the environment, but AWS_SECRET_ACCESS_KEY is not";
        return -EINVAL;
    }
    *ret = environment;
    return 0;
}
