#include "run/judge.h"

#include "slice.h"
#include "utf8.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PARTITION_KEY_UNITS_MAX = 256, /* PutRecords: PartitionKey 1..256 characters, in UTF-16 */
    STREAM_NAME_MAX = 128,         /* CreateStream: StreamName 1..128 */
    DELIVERY_STREAM_MAX = 64,      /* CreateDeliveryStream: DeliveryStreamName 1..64 */
    ACCOUNT_DIGITS = 12,
    BRACES_MAX = 32,
};

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGIT "0123456789"

static bool only(struct slice text, const char *allowed)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\0' || strchr(allowed, text.ptr[i]) == NULL)
            return false;
    }
    return text.len > 0;
}

/* Takes what stands before the next `c`, and the `c`; all of it if there is none. */
static struct slice take_until(struct slice *text, char c)
{
    const char *end = text->len > 0 ? memchr(text->ptr, c, text->len) : NULL;
    size_t len = end != NULL ? (size_t)(end - text->ptr) : text->len;
    struct slice part = slice_first(*text, len);

    *text = slice_from(*text, end != NULL ? len + 1 : len);
    return part;
}

const char *judge_utf8(const char *text)
{
    return utf8_valid(slice_of(text)) ? NULL : "is not valid UTF-8; save the file as UTF-8";
}

const char *judge_partition(const char *text)
{
    const char *wrong = judge_utf8(text);

    if (wrong == NULL && utf8_utf16_units(slice_of(text)) > PARTITION_KEY_UNITS_MAX)
        return "is too long; a partition key has at most 256 characters";
    return wrong;
}

const char *judge_name(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7F)
            return "has control characters in it; a name is shown in logs, use letters and digits";
    }
    return judge_utf8(text);
}

const char *judge_region(const char *text)
{
    return only(slice_of(text), LOWER DIGIT "-")
               ? NULL
               : "is not a region; write it as in \"eu-west-1\", in small letters";
}

const char *judge_absolute(const char *text)
{
    return text[0] == '/' ? NULL : "is a relative path; write the whole path, from /";
}

const char *judge_ca_file(const char *text)
{
    struct stat st;

    if (text[0] != '/')
        return judge_absolute(text);
    if (stat(text, &st) < 0)
        return "cannot be found; give the path of a file with certificates in PEM form";
    if (!S_ISREG(st.st_mode))
        return "is not a file; give the path of a file with certificates in PEM form";
    if (eaccess(text, R_OK) < 0)
        return "cannot be read; make it readable for the user that kinetail runs as";
    if (st.st_size == 0)
        return "is empty; give a file with certificates in PEM form";
    return NULL;
}

const char *judge_stream(const char *text)
{
    if (strncmp(text, "arn:", 4) == 0)
        return "is an ARN; write it as stream_arn";
    return only(slice_of(text), LOWER UPPER DIGIT "_.-")
               ? NULL
               : "is not a stream's name; only letters, digits, _ . and - can occur in it";
}

const char *judge_delivery_stream(const char *text)
{
    if (strncmp(text, "arn:", 4) == 0)
        return "is an ARN; write the delivery stream's name alone, which stands behind its /";
    return strlen(text) <= DELIVERY_STREAM_MAX && only(slice_of(text), LOWER UPPER DIGIT "_.-")
               ? NULL
               : "is not a delivery stream's name; it has at most 64 letters, digits, _ . and -";
}

/* arn:aws:kinesis:eu-west-1:123456789012:stream/name, and other partitions such as aws-cn. */
const char *judge_stream_arn(const char *text)
{
    static const char form[] = "is not the ARN of a Kinesis stream; it looks like "
                               "arn:aws:kinesis:REGION:ACCOUNT:stream/NAME, ACCOUNT is 12 digits";
    struct slice rest = slice_of(text), account;

    if (!slice_equal(take_until(&rest, ':'), SLICE("arn")))
        return form;
    struct slice partition = take_until(&rest, ':');
    if (!slice_starts_with(partition, SLICE("aws")) || !only(partition, LOWER DIGIT "-"))
        return form;
    if (!slice_equal(take_until(&rest, ':'), SLICE("kinesis")))
        return form;
    if (!only(take_until(&rest, ':'), LOWER DIGIT "-"))
        return form;
    account = take_until(&rest, ':');
    if (account.len != ACCOUNT_DIGITS || !only(account, DIGIT))
        return form;
    if (!slice_equal(take_until(&rest, '/'), SLICE("stream")))
        return form;
    return rest.len <= STREAM_NAME_MAX && only(rest, LOWER UPPER DIGIT "_.-") ? NULL : form;
}

static bool port_is_good(struct slice port)
{
    return port.len <= 5 && only(port, DIGIT) && strtoul(port.ptr, NULL, 10) >= 1 &&
           strtoul(port.ptr, NULL, 10) <= UINT16_MAX;
}

static bool host_is_loopback(struct slice host, bool in_brackets)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr six;
    struct in_addr four;

    if (host.len >= sizeof text)
        return false;
    memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    if (in_brackets)
        return inet_pton(AF_INET6, text, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
    /* inet_pton, not inet_aton: "127.1" means different hosts to different programs. */
    return strcasecmp(text, "localhost") == 0 ||
           (inet_pton(AF_INET, text, &four) == 1 && ntohl(four.s_addr) >> 24 == 127);
}

/* Splits "host:port" or "[v6]:port"; false if it is neither. */
static bool take_host(struct slice authority, struct slice *host, bool *in_brackets)
{
    *in_brackets = slice_starts_with(authority, SLICE("["));
    if (*in_brackets) {
        struct slice rest = slice_from(authority, 1);
        if (memchr(rest.ptr, ']', rest.len) == NULL)
            return false;
        *host = take_until(&rest, ']');
        return only(*host, "abcdefABCDEF" DIGIT ":.") &&
               (rest.len == 0 || (rest.ptr[0] == ':' && port_is_good(slice_from(rest, 1))));
    }
    *host = take_until(&authority, ':');
    if (!only(*host, LOWER UPPER DIGIT ".-_"))
        return false;
    return host->ptr[host->len] != ':' || port_is_good(authority);
}

/* Strict on purpose: what we sign and what libcurl sends must be the same host, and where two
 * parsers of URLs disagree, a secret goes to the wrong place. */
const char *judge_endpoint(const char *text)
{
    struct slice rest = slice_of(text), authority, host;
    bool plain = slice_starts_with(rest, SLICE("http://")), in_brackets;

    if (!plain && !slice_starts_with(rest, SLICE("https://")))
        return "is not a URL we can use; begin it with https://";
    rest = slice_from(rest, plain ? 7 : 8);
    if (strchr(rest.ptr, '@') != NULL)
        return "has a user in it; keys belong into credentials";
    if (strpbrk(rest.ptr, "?#") != NULL)
        return "has a query or fragment in it; remove what begins with ? or #";
    authority = take_until(&rest, '/');
    if (rest.len > 0)
        return "has a path in it; end it after the host and port";
    if (!take_host(authority, &host, &in_brackets))
        return "is not a URL we can use; write it as https://HOST or https://HOST:PORT";
    if (plain && !host_is_loopback(host, in_brackets))
        return "sends logs in the clear; http:// is only for this machine itself (127.0.0.1, "
               "[::1], localhost), use https://";
    return NULL;
}

const char *judge_access_key_id(const char *text)
{
    return only(slice_of(text), LOWER UPPER DIGIT "_")
               ? NULL
               : "is not an access key id; only letters, digits and _ can occur in it";
}

/* Not narrower than this: the alphabet of secrets and tokens is not documented.  What is refused
 * is what a slip of copy and paste brings in. */
const char *judge_secret(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p <= ' ' || *p >= 0x7F) /* char may be signed: bytes over 0x7F are below ' ' then */
            return "has blanks or other characters that no AWS key has; copy it again";
    }
    return NULL;
}

/* After the '[' at p: the matching ']', or NULL.  A ']' right at the start is itself a member. */
static const char *bracket_end(const char *p)
{
    if (*p == '!' || *p == '^')
        p++;
    if (*p == ']')
        p++;
    for (; *p != '\0' && *p != '/'; p++) {
        if (*p == '\\' && p[1] != '\0')
            p++;
        else if (*p == ']')
            return p;
    }
    return NULL;
}

static bool star_star_is_alone(const char *begin, const char *p)
{
    return (p == begin || p[-1] == '/') && (p[2] == '/' || p[2] == '\0');
}

const char *judge_glob(const char *text)
{
    unsigned braces = 0;

    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\\') {
            if (*++p == '\0')
                return "ends with a backslash; it would quote the next character, write one";
        } else if (*p == '[') {
            p = bracket_end(p + 1);
            if (p == NULL)
                return "has a [ without its ]; close it, or write \\\\[ for the character itself";
        } else if (*p == ']') {
            return "has a ] without its [; write \\\\] for the character itself";
        } else if (*p == '{') {
            if (++braces > BRACES_MAX)
                return "has too many { inside each other; write several globs instead";
        } else if (*p == '}') {
            if (braces-- == 0)
                return "has a } without its {; write \\\\} for the character itself";
        } else if (p[0] == '*' && p[1] == '*') {
            if (!star_star_is_alone(text, p))
                return "has ** inside a name; ** stands alone between slashes, as in /srv/**/*.log";
            p++;
        }
    }
    return braces > 0 ? "has a { without its }; close it, or write \\\\{ for the character itself"
                      : NULL;
}

const char *judge_files_glob(const char *text)
{
    const char *wrong = judge_absolute(text);

    if (wrong == NULL)
        wrong = judge_glob(text);
    if (wrong == NULL && text[strlen(text) - 1] == '/')
        wrong = "names a directory; say which files in it, as in /var/log/app/*.log";
    return wrong;
}
