#include "ship/http_trouble.h"

#include "util.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/x509_vfy.h>
#include <string.h>

enum { CLIENT_ERROR = 400, PROXY_AUTHENTICATION = 407, SERVER_ERROR = 500 }; /* of HTTP */

/* The first row that fits.  A kind of the table aws_errors in aws_error.c, or NULL. */
static const struct row {
    int code;
    long verify;       /* 0: whatever it is */
    const char *words; /* of libcurl's text; NULL: whatever it is */
    int error;
    const char *kind;
} rows[] = {
    {CURLE_OUT_OF_MEMORY, 0, NULL, -ENOMEM, NULL},
    {CURLE_COULDNT_RESOLVE_HOST, 0, NULL, -EHOSTUNREACH, "name not found"},
    {CURLE_COULDNT_RESOLVE_PROXY, 0, NULL, -EHOSTUNREACH, "name not found"},
    {CURLE_COULDNT_CONNECT, 0, NULL, -ECONNREFUSED, "no connection"},

    /* Where the time went, only the text tells. */
    {CURLE_OPERATION_TIMEDOUT, 0, "Resolving timed out", -ETIMEDOUT, "name not found"},
    {CURLE_OPERATION_TIMEDOUT, 0, "Failed to connect", -ETIMEDOUT, "no connection"},
    {CURLE_OPERATION_TIMEDOUT, 0, "Connection timed out", -ETIMEDOUT, "no connection"},
    {CURLE_OPERATION_TIMEDOUT, 0, "Connection timeout", -ETIMEDOUT, "no connection"},
    {CURLE_OPERATION_TIMEDOUT, 0, "SSL connection timeout", -ETIMEDOUT, "no connection"},
    {CURLE_OPERATION_TIMEDOUT, 0, NULL, -ETIMEDOUT, NULL},

    {CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_CERT_HAS_EXPIRED, NULL, -EKEYREJECTED,
     "certificate expired"},
    {CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_CERT_NOT_YET_VALID, NULL, -EKEYREJECTED,
     "certificate not valid yet"},
    {CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, NULL, -EKEYREJECTED,
     "self-signed certificate"},
    {CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, NULL, -EKEYREJECTED,
     "unknown authority"},
    {CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, NULL, -EKEYREJECTED,
     "unknown authority"},
    {CURLE_PEER_FAILED_VERIFICATION, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, NULL,
     -EKEYREJECTED, "unknown authority"},
    /* The certificate is well, its name is not ours: libcurl checks that by itself. */
    {CURLE_PEER_FAILED_VERIFICATION, 0, "subject name", -EKEYREJECTED, "certificate of another"},
    {CURLE_PEER_FAILED_VERIFICATION, 0, NULL, -EKEYREJECTED, "certificate"},
    {CURLE_SSL_ISSUER_ERROR, 0, NULL, -EKEYREJECTED, "certificate"},
    {CURLE_SSL_CACERT_BADFILE, 0, NULL, -EKEYREJECTED, "tls.ca_file"},
    {CURLE_SSL_CONNECT_ERROR, 0, "protocol version", -EKEYREJECTED, "TLS too old"},
    {CURLE_SSL_CONNECT_ERROR, 0, "unsupported protocol", -EKEYREJECTED, "TLS too old"},
    {CURLE_SSL_CONNECT_ERROR, 0, "wrong version number", -EKEYREJECTED, "no TLS"},
    {CURLE_SSL_CONNECT_ERROR, 0, "packet length too long", -EKEYREJECTED, "no TLS"},
    /* All else in a handshake may be a connection that died in it: no matter for a person. */
    {CURLE_SSL_CONNECT_ERROR, 0, NULL, -EKEYREJECTED, NULL},
    {CURLE_SSL_CIPHER, 0, NULL, -EKEYREJECTED, NULL},

    {CURLE_WRITE_ERROR, 0, NULL, -EMSGSIZE, "answer too long"}, /* only we refuse bytes */
};

static struct http_trouble trouble_at_proxy(const struct http_ending *e, struct http_trouble t)
{
    if (e->connect_status == PROXY_AUTHENTICATION)
        t.kind = "proxy wants a password";
    else if (e->connect_status >= CLIENT_ERROR && e->connect_status < SERVER_ERROR)
        t.kind = "proxy refuses";
    else if (e->connect_status > 0)
        t.kind = "proxy gets no answer";
    else if (t.error == -EKEYREJECTED && t.kind != NULL)
        t.kind = "proxy's certificate";
    else
        t.kind = "no proxy";
    return t;
}

struct http_trouble http_trouble_of(const struct http_ending *e)
{
    struct http_trouble t = {.error = -ECONNRESET};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];

        if (r->code == e->code && (r->verify == 0 || r->verify == e->verify) &&
            (r->words == NULL || strstr(e->words, r->words) != NULL)) {
            t.error = r->error;
            t.kind = r->kind;
            break;
        }
    }
    t.connection = t.error != -ENOMEM && t.error != -EMSGSIZE;
    return e->at_proxy && t.error != -ENOMEM ? trouble_at_proxy(e, t) : t;
}
