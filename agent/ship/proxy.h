/* proxy -- by which way a URL is reached: straight, or through a proxy that speaks HTTP.
 *
 *   1. Only https:// URLs go through a proxy (by CONNECT, so it sees none of what is sent).  What is
 *      http:// is on this machine or its metadata service (endpoint's rule, and imds's); that, and
 *      loopback by any scheme, is always reached straight.
 *   2. The configuration counts before the environment, `url` and `no_proxy` each for itself.  The
 *      environment is read as libcurl's users know it: https_proxy, HTTPS_PROXY, all_proxy, ALL_PROXY,
 *      and no_proxy, NO_PROXY; the first that is set.
 *   3. A password is never in `shown`, nor in a sentence.
 *
 * Threads: no state.  Blocks: never. */
#ifndef PROXY_H
#define PROXY_H

#include "slice.h"

#include <stdbool.h>

enum { PROXY_URL_MAX = 1024, PROXY_SHOWN_MAX = 320, PROXY_WHY_SIZE = 320 };

struct proxy {                   /* borrows its texts from where they were found; zero: no proxy */
    const char *url;             /* for libcurl, a secret; NULL: none */
    const char *no_proxy;        /* hosts that are reached straight; NULL: none */
    const char *from;            /* "proxy.url", or the variable's name */
    char shown[PROXY_SHOWN_MAX]; /* scheme, host and port */
};

/* What is wrong with a proxy's URL, as the rest of a sentence that does not quote it; NULL if it will
 * do: http:// or https://, perhaps user and password, a host, and always a port, for which there is
 * no default that programs agree on.  "" is no proxy, whatever the environment says. */
const char *proxy_judge(const char *url);

/* The same for a list of hosts: names (which mean what is below them as well; a dot before them is
 * nothing), addresses, and networks as in 10.0.0.0/8, with commas or blanks between; "*" is all. */
const char *proxy_judge_list(const char *no_proxy);

/* User and password in the URL, the part of it that is a secret; empty if it has none. */
struct slice proxy_secret(const char *url);

/* What counts, of the configuration's texts (NULL: not set) and the environment's.  Errors: -EINVAL, and
 * a sentence in `why`. */
int proxy_find(const char *url, const char *no_proxy, struct proxy *ret,
               char why[static PROXY_WHY_SIZE]);

/* Whether the URL is reached through the proxy. */
bool proxy_is_for(const struct proxy *p, const char *url);

#endif
