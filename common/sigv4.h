/* sigv4 -- the signature that AWS asks of every request (Signature Version 4, header form).
 *
 *   1. The same request, keys, scope and time give the same signature; nothing of the last call
 *      is left in the next one but the key derived for (secret, date, region, service), which is
 *      used again while all four stay the same.
 *   2. Once warm (a request as long as this one has been signed before) nothing is allocated.
 *   3. Secrets are wiped when they are replaced, and at the end.
 *
 * The rules: "Create a signed AWS API request", AWS IAM User Guide; where that page is silent, as
 * botocore does it.  A signature is for one attempt: a retry is signed again, with its own date.
 *
 * Threads: one lane.  Blocks: never. */
#ifndef SIGV4_H
#define SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

struct buf;

enum {
    SIGV4_HEADERS_MAX = 32,         /* to sign in one request, ours not counted */
    SIGV4_PARAMS_MAX = 64,          /* in one query */
    SIGV4_SECRET_MAX = 1024,        /* bytes; AWS gives 40 and names no limit */
    SIGV4_REQUEST_MAX = 256 * 1024, /* bytes of the canonical request; bodies do not count */
    SIGV4_DATE_LEN = 16,            /* 20150830T123600Z */
};

struct sigv4; /* opaque: scratch memory and the derived key */

struct sigv4_credentials {
    struct slice access_key_id, secret_access_key;
    struct slice session_token; /* empty: these keys are not temporary */
};

struct sigv4_header {
    struct slice name, value; /* in any case; blanks around the value do not matter */
};

struct sigv4_scope {
    struct slice region, service; /* "eu-west-1", "kinesis" */
};

struct sigv4_request {
    struct slice method;
    struct slice path;  /* as on the wire, without the query; its '%' is signed as "%25" */
    struct slice query; /* as on the wire, without '?'; what is encoded in it stays so */
    const struct sigv4_header *headers;
    size_t header_count;
    struct slice body; /* all of it; always hashed */
    bool keep_path;    /* do not take "//", "." and ".." out of the path */
    bool omit_token;   /* do not sign x-amz-security-token; the caller adds it afterwards */
};

/* Gives *ret, which the caller frees.  Errors: -ENOMEM. */
int sigv4_new(struct sigv4 **ret);

/* Wipes what was secret.  NULL is fine. */
void sigv4_free(struct sigv4 *s);

/* Signs a request at `signed_wall_ms` (Unix time, corrected for what the service thinks).
 *
 * `r->headers` are all headers to sign, host among them, except the two that are ours:
 * x-amz-date, and x-amz-security-token when there is a token.  The caller sends those too.
 * Headers of one name are joined by commas, in the order given.
 *
 * Replaces the content of `ret_authorization` by the value of the Authorization header, and
 * writes the value of x-amz-date, with a zero, to `ret_amz_date`.
 *
 * Errors, after which neither holds anything of use: -EINVAL if a key, the region or the service
 * is empty, the region or the service has a '/', a header has no name or is one of ours, or the
 * date has not four digits for its year; -EMSGSIZE past one of the limits above or the ceiling of
 * `ret_authorization`; -ENOMEM. */
int sigv4_sign(struct sigv4 *s, const struct sigv4_credentials *c, const struct sigv4_scope *scope,
               int64_t signed_wall_ms, const struct sigv4_request *r, struct buf *ret_authorization,
               char ret_amz_date[SIGV4_DATE_LEN + 1]);

/* What the last signature was made from, to compare with what the service says it expected.
 * Borrowed until the next call.  The first may contain a session token: not for a log. */
struct slice sigv4_canonical_request(const struct sigv4 *s);
struct slice sigv4_string_to_sign(const struct sigv4 *s);

#endif
