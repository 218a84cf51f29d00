#include "ship/proxy.h"

#include "ship/endpoint.h"
#include "util.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PROXY_HOST_MAX = 255 };

/* A proxy's URL in its parts. */
struct proxy_parts {
    bool tls;
    struct slice user; /* and password; empty: none */
    struct slice host, port;
};

static const char form[] = "is not a proxy's URL; write it as http://HOST:PORT, or https://";

static int find_char(struct slice s, char c)
{
    const char *at = s.len > 0 ? memchr(s.ptr, c, s.len) : NULL;

    return at == NULL ? -1 : (int)(at - s.ptr);
}

static bool all_in(struct slice s, const char *more)
{
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum((unsigned char)s.ptr[i]) && (s.ptr[i] == '\0' || !strchr(more, s.ptr[i])))
            return false;
    return true;
}

/* libcurl decodes %XX; what a line of a header cannot carry must not come out of it. */
static bool user_is_good(struct slice user)
{
    for (size_t i = 0; i < user.len; i++) {
        const char *p = user.ptr + i;

        if (!isgraph((unsigned char)*p))
            return false;
        if (*p == '%' &&
            (user.len - i < 3 || !isxdigit((unsigned char)p[1]) || !isxdigit((unsigned char)p[2]) ||
             p[1] < '2' || p[1] > '7' || (p[1] == '7' && toupper((unsigned char)p[2]) == 'F')))
            return false;
    }
    return true;
}

static bool port_is_good(struct slice port)
{
    char text[6];

    if (port.len == 0 || port.len >= sizeof text)
        return false;
    memcpy(text, port.ptr, port.len);
    text[port.len] = '\0';
    return strspn(text, "0123456789") == port.len && atol(text) >= 1 && atol(text) <= UINT16_MAX;
}

/* NULL, or what is wrong. */
static const char *take_apart(const char *url, struct proxy_parts *ret)
{
    struct slice rest = slice_of(url);
    const char *scheme = strstr(url, "://");
    int at;

    *ret = (struct proxy_parts){0};
    if (scheme != NULL) {
        ret->tls = strncasecmp(url, "https://", 8) == 0;
        if (!ret->tls && strncasecmp(url, "http://", 7) != 0)
            return "is no proxy that kinetail speaks with; it begins with http:// or https://";
        rest = slice_from(rest, ret->tls ? 8 : 7);
    }
    if (rest.len > 0 && rest.ptr[rest.len - 1] == '/')
        rest.len--;
    at = find_char(rest, '@');
    if (at >= 0) {
        ret->user = slice_first(rest, (size_t)at);
        rest = slice_from(rest, (size_t)at + 1);
        if (find_char(rest, '@') >= 0 || !user_is_good(ret->user))
            return "has a character in its user or password that a URL cannot have; write it as "
                   "its "
                   "code, %40 for an @";
    }
    if (find_char(rest, '/') >= 0 || find_char(ret->user, '/') >= 0 || find_char(rest, '?') >= 0 ||
        find_char(rest, '#') >= 0)
        return "has something behind its host and port; end it there, and write %2F for a / in a "
               "password";
    if (rest.len == 0 || rest.ptr[0] == ':')
        return form;
    at = rest.ptr[0] == '[' ? find_char(rest, ']') : find_char(rest, ':') - 1;
    if (at < 0 || (size_t)at + 1 >= rest.len || rest.ptr[at + 1] != ':')
        return "has no port; programs do not agree on one, write it as in http://HOST:3128";
    ret->host = slice_first(rest, (size_t)at + 1);
    ret->port = slice_from(rest, (size_t)at + 2);
    if (!port_is_good(ret->port))
        return "has a port that is none; write a number from 1 to 65535";
    if (ret->host.len > PROXY_HOST_MAX ||
        !all_in(ret->host, ret->host.ptr[0] == '[' ? "[]:." : "-._"))
        return form;
    return NULL;
}

const char *proxy_judge(const char *url)
{
    struct proxy_parts parts;

    if (strlen(url) > PROXY_URL_MAX)
        return form;
    return url[0] == '\0' ? NULL : take_apart(url, &parts);
}

/* Also of an URL that is none: what looks like a secret is not shown. */
struct slice proxy_secret(const char *url)
{
    const char *begin = strstr(url, "://"), *end = strrchr(url, '@');

    begin = begin != NULL ? begin + 3 : url;
    return end != NULL && end > begin ? (struct slice){begin, (size_t)(end - begin)}
                                      : (struct slice){0};
}

/* --- the list of hosts --- */

/* The next text of the list; false: there is none. */
static bool next_host(const char **list, struct slice *ret)
{
    const char *p = *list + strspn(*list, ", \t");

    *ret = (struct slice){p, strcspn(p, ", \t")};
    *list = p + ret->len;
    return ret->len > 0;
}

const char *proxy_judge_list(const char *no_proxy)
{
    unsigned char address[sizeof(struct in6_addr)];
    struct slice host;
    int colon;

    while (next_host(&no_proxy, &host)) {
        char text[INET6_ADDRSTRLEN];

        if (!all_in(host, "-._*:/"))
            return "is no list of hosts; write names, addresses and networks (10.0.0.0/8) with "
                   "commas "
                   "between";
        colon = find_char(host, ':');
        if (colon < 0)
            continue;
        if (find_char(host, '/') > 0)
            host.len = (size_t)find_char(host, '/');
        (void)snprintf(text, sizeof text, "%.*s", SLICE_ARG(host));
        if (inet_pton(AF_INET6, text, address) != 1)
            return "has a port or a scheme in it; write the hosts alone";
    }
    return NULL;
}

/* The first `bits` bits are the same. */
static bool bits_equal(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

/* Is the address in "address" or "address/bits"? */
static bool is_in_network(int family, const unsigned char *address, struct slice network)
{
    unsigned char base[sizeof(struct in6_addr)];
    unsigned most = family == AF_INET ? 32 : 128, bits = most;
    char text[INET6_ADDRSTRLEN + 4], *slash, *end;

    if (network.len >= sizeof text)
        return false;
    memcpy(text, network.ptr, network.len);
    text[network.len] = '\0';
    slash = strchr(text, '/');
    if (slash != NULL) {
        *slash = '\0';
        if (!isdigit((unsigned char)slash[1]))
            return false;
        bits = (unsigned)strtoul(slash + 1, &end, 10);
        if (*end != '\0' || bits > most)
            return false;
    }
    return inet_pton(family, text, base) == 1 && bits_equal(address, base, bits);
}

/* As libcurl has it (lib/noproxy.c): "example.com" and ".example.com" are that host and all below; and
 * as others have it, "*.example.com" too. */
static bool is_below(struct slice host, struct slice name)
{
    struct slice tail;

    if (slice_starts_with(name, SLICE("*.")))
        name = slice_from(name, 1);
    if (slice_starts_with(name, SLICE(".")))
        name = slice_from(name, 1);
    if (slice_ends_with(name, SLICE(".")))
        name.len--;
    if (name.len == 0 || name.len > host.len)
        return false;
    tail = slice_from(host, host.len - name.len);
    return strncasecmp(tail.ptr, name.ptr, name.len) == 0 &&
           (tail.len == host.len || tail.ptr[-1] == '.');
}

/* `host` is a name, or an address without brackets. */
static bool list_has(const char *list, struct slice host)
{
    unsigned char address[sizeof(struct in6_addr)];
    char text[PROXY_HOST_MAX + 1];
    int family = AF_UNSPEC;
    struct slice one;

    if (host.len >= sizeof text)
        return false;
    memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    if (inet_pton(AF_INET, text, address) == 1)
        family = AF_INET;
    else if (inet_pton(AF_INET6, text, address) == 1)
        family = AF_INET6;
    else if (slice_ends_with(host, SLICE(".")))
        host.len--;
    while (next_host(&list, &one)) {
        if (slice_equal(one, SLICE("*")))
            return true;
        if (family == AF_UNSPEC ? is_below(host, one) : is_in_network(family, address, one))
            return true;
    }
    return false;
}

bool proxy_is_for(const struct proxy *p, const char *url)
{
    struct slice host = slice_of(url);

    if (p->url == NULL || !slice_starts_with(host, SLICE("https://")))
        return false;
    host = slice_from(host, 8);
    host.len = strcspn(host.ptr, "/?#");
    if (slice_starts_with(host, SLICE("["))) {
        host = slice_from(host, 1);
        host.len = (size_t)MAX(find_char(host, ']'), 0);
    } else if (find_char(host, ':') >= 0) {
        host.len = (size_t)find_char(host, ':');
    }
    return !endpoint_is_loopback(host) && (p->no_proxy == NULL || !list_has(p->no_proxy, host));
}

/* --- where it is said --- */

/* The first of these variables that is set, even to nothing. */
static const char *from_environment(const char *const *names, const char **ret_name)
{
    for (; *names != NULL; names++) {
        const char *text = getenv(*names);

        *ret_name = *names;
        if (text != NULL)
            return text;
    }
    return NULL;
}

int proxy_find(const char *url, const char *no_proxy, struct proxy *ret,
               char why[static PROXY_WHY_SIZE])
{
    static const char *const urls[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
                                       NULL};
    static const char *const lists[] = {"no_proxy", "NO_PROXY", NULL};
    struct proxy p = {.url = url, .no_proxy = no_proxy, .from = "proxy.url"};
    struct proxy_parts parts;
    const char *wrong, *from;

    if (p.url == NULL)
        p.url = from_environment(urls, &p.from);
    if (p.url == NULL || p.url[0] == '\0') {
        *ret = (struct proxy){0};
        return 0;
    }
    if (p.no_proxy == NULL)
        p.no_proxy = from_environment(lists, &from);

    /* The environment's list is taken as it is: others put things into it that are not for us. */
    wrong = proxy_judge(p.url);
    if (wrong != NULL) {
        (void)snprintf(why, PROXY_WHY_SIZE, "%s %s", p.from, wrong);
        return -EINVAL;
    }
    (void)take_apart(p.url, &parts);
    (void)snprintf(p.shown, sizeof p.shown, "%s%.*s:%.*s", parts.tls ? "https://" : "http://",
                   SLICE_ARG(parts.host), SLICE_ARG(parts.port));
    *ret = p;
    return 0;
}
