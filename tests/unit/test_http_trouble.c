#include "ship/http_trouble.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <curl/curl.h>
#include <openssl/x509_vfy.h>

#include "ship/aws_error.h"
#include "util.h"

enum { T = AWS_ERROR_TRANSIENT, O = AWS_ERROR_OPERATOR }; /* again soon; a person must look */

static const struct story {
    struct http_ending ending;
    int error;
    const char *kind; /* NULL: none */
    int class;
    bool connection;
} stories[] = {
    {{CURLE_OUT_OF_MEMORY, 0, 0, false, ""}, -ENOMEM, NULL, T, false},
    {{CURLE_COULDNT_RESOLVE_HOST, 0, 0, false, "Could not resolve host: x"},
     -EHOSTUNREACH,
     "name not found",
     T,
     true},
    {{CURLE_COULDNT_CONNECT, 0, 0, false, ""}, -ECONNREFUSED, "no connection", T, true},
    {{CURLE_OPERATION_TIMEDOUT, 0, 0, false, "Resolving timed out after 15000 milliseconds"},
     -ETIMEDOUT,
     "name not found",
     T,
     true},
    {{CURLE_OPERATION_TIMEDOUT, 0, 0, false, "Connection timed out after 15000 milliseconds"},
     -ETIMEDOUT,
     "no connection",
     T,
     true},
    {{CURLE_OPERATION_TIMEDOUT, 0, 0, false, "Connection timeout after 15000 ms"},
     -ETIMEDOUT,
     "no connection",
     T,
     true},
    {{CURLE_OPERATION_TIMEDOUT, 0, 0, false,
      "Failed to connect to x port 1 after 15001 ms: Timeout"},
     -ETIMEDOUT,
     "no connection",
     T,
     true},
    {{CURLE_OPERATION_TIMEDOUT, 0, 0, false, "SSL connection timeout"},
     -ETIMEDOUT,
     "no connection",
     T,
     true},
    {{CURLE_OPERATION_TIMEDOUT, 0, 0, false, "Operation too slow. Less than 1024 bytes/sec"},
     -ETIMEDOUT,
     NULL,
     T,
     true},
    {{CURLE_GOT_NOTHING, 0, 0, false, "Empty reply from server"}, -ECONNRESET, NULL, T, true},
    {{CURLE_PARTIAL_FILE, 0, 0, false, ""}, -ECONNRESET, NULL, T, true},
    {{CURLE_SEND_ERROR, 0, 0, false, ""}, -ECONNRESET, NULL, T, true},
    {{CURLE_WRITE_ERROR, 0, 0, false, ""}, -EMSGSIZE, "answer too long", T, false},

    {{CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_CERT_HAS_EXPIRED, 0, false, ""},
     -EKEYREJECTED,
     "certificate expired",
     O,
     true},
    {{CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_CERT_NOT_YET_VALID, 0, false, ""},
     -EKEYREJECTED,
     "certificate not valid yet",
     O,
     true},
    {{CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, 0, false, ""},
     -EKEYREJECTED,
     "self-signed certificate",
     O,
     true},
    {{CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, 0, false, ""},
     -EKEYREJECTED,
     "unknown authority",
     O,
     true},
    {{CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, 0, false, ""},
     -EKEYREJECTED,
     "unknown authority",
     O,
     true},
    {{CURLE_PEER_FAILED_VERIFICATION, 0, 0, false,
      "SSL: no alternative certificate subject name matches target host name 'x'"},
     -EKEYREJECTED,
     "certificate of another",
     O,
     true},
    {{CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_CERT_REVOKED, 0, false, ""},
     -EKEYREJECTED,
     "certificate",
     O,
     true},
    {{CURLE_SSL_CACERT_BADFILE, 0, 0, false, ""}, -EKEYREJECTED, "tls.ca_file", O, true},
    {{CURLE_SSL_CONNECT_ERROR, 0, 0, false, "SSL routines::tlsv1 alert protocol version"},
     -EKEYREJECTED,
     "TLS too old",
     O,
     true},
    {{CURLE_SSL_CONNECT_ERROR, 0, 0, false, "SSL routines::wrong version number"},
     -EKEYREJECTED,
     "no TLS",
     O,
     true},
    {{CURLE_SSL_CONNECT_ERROR, 0, 0, false, "OpenSSL SSL_connect: Connection reset by peer"},
     -EKEYREJECTED,
     NULL,
     T,
     true},

    {{CURLE_COULDNT_RESOLVE_PROXY, 0, 0, true, ""}, -EHOSTUNREACH, "no proxy", T, true},
    {{CURLE_COULDNT_CONNECT, 0, 0, true, ""}, -ECONNREFUSED, "no proxy", T, true},
    {{CURLE_OPERATION_TIMEDOUT, 0, 0, true, ""}, -ETIMEDOUT, "no proxy", T, true},
    {{CURLE_RECV_ERROR, 0, 407, true, ""}, -ECONNRESET, "proxy wants a password", O, true},
    {{CURLE_RECV_ERROR, 0, 403, true, ""}, -ECONNRESET, "proxy refuses", O, true},
    {{CURLE_RECV_ERROR, 0, 499, true, ""}, -ECONNRESET, "proxy refuses", O, true},
    {{CURLE_RECV_ERROR, 0, 502, true, ""}, -ECONNRESET, "proxy gets no answer", T, true},
    {{CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_CERT_HAS_EXPIRED, 0, true, ""},
     -EKEYREJECTED,
     "proxy's certificate",
     O,
     true},
    {{CURLE_SSL_CONNECT_ERROR, 0, 0, true, "Connection reset by peer"},
     -EKEYREJECTED,
     "no proxy",
     T,
     true},
    {{CURLE_OUT_OF_MEMORY, 0, 0, true, ""}, -ENOMEM, NULL, T, false},
};

static void test_stories(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        struct http_trouble t = http_trouble_of(&s->ending);
        struct slice kind = slice_of(t.kind != NULL ? t.kind : "no answer");

        if (t.error != s->error || t.connection != s->connection ||
            (t.kind == NULL) != (s->kind == NULL) ||
            (t.kind != NULL && strcmp(t.kind, s->kind) != 0))
            fail_msg("row %zu: %d, %s", i, t.error, t.kind != NULL ? t.kind : "none");
        if ((int)aws_error_class_of_status(kind, SLICE(""), 0) != s->class)
            fail_msg("%s is of class %d", t.kind,
                     (int)aws_error_class_of_status(kind, SLICE(""), 0));

        /* A kind that aws_error does not know would be a request refused. */
        if (t.kind != NULL && aws_error_class(kind) == AWS_ERROR_REFUSED)
            fail_msg("aws_error does not know '%s'", t.kind);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stories)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
