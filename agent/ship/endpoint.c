#include "ship/endpoint.h"

#include "util.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <strings.h>

/* DNS suffix by the beginning of the region's name; the last row is for all others. */
static const struct {
    struct slice prefix;
    const char *suffix;
} partitions[] = {
#define ROW(prefix, suffix)                                                                        \
    {                                                                                              \
        {prefix, sizeof(prefix) - 1}, suffix                                                       \
    }
    ROW("cn-", "amazonaws.com.cn"),    ROW("eusc-", "amazonaws.eu"),
    ROW("us-isob-", "sc2s.sgov.gov"),  ROW("us-isof-", "csp.hci.ic.gov"),
    ROW("eu-isoe-", "cloud.adc-e.uk"), ROW("us-iso-", "c2s.ic.gov"),
    ROW("", "amazonaws.com"),
#undef ROW
};

int endpoint_of_region(struct slice service, struct slice region, struct endpoint *ret)
{
    struct endpoint e;
    size_t i = 0;
    int n;

    while (!slice_starts_with(region, partitions[i].prefix))
        i++;
    n = snprintf(e.host, sizeof e.host, "%.*s.%.*s.%s", SLICE_ARG(service), SLICE_ARG(region),
                 partitions[i].suffix);
    if (n < 0 || (size_t)n >= sizeof e.host - sizeof "https:///")
        return -ENAMETOOLONG;
    (void)snprintf(e.url, sizeof e.url, "https://%.*s/", n, e.host);
    *ret = e;
    return 0;
}

bool endpoint_is_loopback(struct slice host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr six;
    struct in_addr four;

    if (host.len == 9 && strncasecmp(host.ptr, "localhost", 9) == 0)
        return true;
    if (host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = (struct slice){host.ptr + 1, host.len - 2};
    if (host.len >= sizeof text)
        return false;
    memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    if (inet_pton(AF_INET, text, &four) == 1)
        return (ntohl(four.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, text, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

/* A colon or a bracket stands only in an IPv6 address, and that is in one pair of brackets. */
static bool is_name(struct slice host)
{
    bool six = host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';

    if (six)
        host = (struct slice){host.ptr + 1, host.len - 2};
    for (size_t i = 0; i < host.len; i++)
        if (strchr(six ? "[]" : "[]:", host.ptr[i]) != NULL)
            return false;
    return host.len > 0;
}

/* Cuts "host[:port]" at the port's colon; an IPv6 address stands in brackets. */
static int split_port(struct slice authority, struct slice *ret_host, struct slice *ret_port)
{
    const char *colon = memrchr(authority.ptr, ':', authority.len);
    const char *bracket = memrchr(authority.ptr, ']', authority.len);
    uint32_t number = 0;

    *ret_host = authority;
    *ret_port = (struct slice){0};
    if (colon == NULL || (bracket != NULL && colon < bracket))
        return 0;
    *ret_host = slice_first(authority, (size_t)(colon - authority.ptr));
    *ret_port = slice_from(authority, ret_host->len + 1);
    if (ret_port->len == 0 || ret_port->len > 5)
        return -EINVAL;
    for (size_t i = 0; i < ret_port->len; i++) {
        if (!isdigit((unsigned char)ret_port->ptr[i]))
            return -EINVAL;
        number = 10 * number + (uint32_t)(ret_port->ptr[i] - '0');
    }
    return number >= 1 && number <= 65535 ? 0 : -EINVAL;
}

int endpoint_from_url(struct slice url, struct endpoint *ret)
{
    static const struct slice http = {"http://", 7}, https = {"https://", 8};
    bool plain = slice_starts_with(url, http);
    struct slice authority, host, port;
    struct endpoint e;
    const char *slash;
    int r;

    if (!plain && !slice_starts_with(url, https))
        return -EINVAL;
    authority = slice_from(url, plain ? http.len : https.len);
    slash = authority.len > 0 ? memchr(authority.ptr, '/', authority.len) : NULL;
    if (slash != NULL) {
        if (slash != authority.ptr + authority.len - 1)
            return -EINVAL;
        authority.len--;
    }
    for (size_t i = 0; i < authority.len; i++)
        if (!isgraph((unsigned char)authority.ptr[i]) || strchr("@?#%\\\"", authority.ptr[i]))
            return -EINVAL;
    if (authority.len == 0)
        return -EINVAL;
    r = split_port(authority, &host, &port);
    if (r < 0 || host.len == 0 || !is_name(host))
        return -EINVAL;
    if (plain && !endpoint_is_loopback(host))
        return -EPERM;
    if (url.len + 2 > sizeof e.url)
        return -ENAMETOOLONG;

    (void)snprintf(e.url, sizeof e.url, "%s%.*s/", plain ? "http://" : "https://",
                   SLICE_ARG(authority));
    if (slice_equal(port, plain ? SLICE("80") : SLICE("443")))
        authority = host;
    (void)snprintf(e.host, sizeof e.host, "%.*s", SLICE_ARG(authority));
    *ret = e;
    return 0;
}
