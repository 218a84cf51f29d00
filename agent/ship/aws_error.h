/* aws_error -- what kind of trouble an AWS error code means, and what a person can do.
 *
 * Codes and their meaning: the Common Errors page of each service's API reference and the
 * retryable codes of the AWS SDKs' standard retry mode (2026).  Where two services mean different
 * things by one code, it stands for what is wise with both. */
#ifndef AWS_ERROR_H
#define AWS_ERROR_H

#include "slice.h"

#include <stdbool.h>

struct service;

enum aws_error_class {
    AWS_ERROR_THROTTLED,   /* too fast: back off, narrow the window */
    AWS_ERROR_TRANSIENT,   /* the network's fault or theirs: again later */
    AWS_ERROR_CREDENTIALS, /* they do not know us, or not now: a person must look */
    AWS_ERROR_OPERATOR,    /* stream, permission, key: a person must look */
    AWS_ERROR_REFUSED,     /* this request will not be taken as it stands */
};

/* Classifies a code as aws_error_code gives it; an unknown code is REFUSED. */
enum aws_error_class aws_error_class(struct slice code);

/* Classifies the failure of a whole request: what the code and its message do not decide, the HTTP
 * status does. */
enum aws_error_class aws_error_class_of_status(struct slice code, struct slice message,
                                               long status);

/* Whether a code is known to be said of what a request contains, so that it will never be taken as it
 * stands.  An unknown code may mean anything. */
bool aws_error_is_verdict(struct slice code);

/* What a person can do about it, as a clause; never NULL.  The message tells a wrong clock from a
 * wrong key, which have one code. */
const char *aws_error_advice(const struct service *s, struct slice code, struct slice message,
                             enum aws_error_class c);

/* Error code and message of an answer, both borrowed from the arguments and possibly empty.
 * `type_header` is the answer's x-amzn-errortype.  The body may be JSON, XML, or anything. */
struct slice aws_error_code(struct slice type_header, struct slice body);
struct slice aws_error_message(struct slice body);

#endif
