/* http_trouble -- what a call that got no answer died of, in our words.
 *
 *   1. The one place where libcurl's codes (and OpenSSL's, which it passes on) become ours.
 *   2. A kind is a text that aws_error knows like a code of the service: it has a class there, and
 *      advice.  Where there is nothing to say, the kind is NULL.
 *   3. What happened before a proxy let us through is the proxy's, and said so.
 *
 * Thinks only: nothing is allocated, nothing fails. */
#ifndef HTTP_TROUBLE_H
#define HTTP_TROUBLE_H

#include <stdbool.h>

/* How libcurl says that a call failed. */
struct http_ending {
    int code;    /* a CURLcode, not CURLE_OK */
    long verify; /* OpenSSL's verdict on the certificate (X509_V_...), 0: none, or it is well */
    long connect_status; /* what the proxy answered to CONNECT; 0: nothing */
    bool at_proxy;       /* the proxy had not let us through yet */
    const char *words; /* libcurl's, which tell some troubles of TLS apart; "" if there are none */
};

struct http_trouble {
    int error; /* -errno */
    const char *kind;
    bool connection; /* no connection that was made before it should be trusted */
};

struct http_trouble http_trouble_of(const struct http_ending *ending);

#endif
