#include "run/judge.h"

#include "json.h"
#include "record/pattern.h"
#include "record/when.h"
#include "record/zone.h"
#include "slice.h"
#include "utf8.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
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

/* --- what becomes of lines ------------------------------------------------------------------ */

const char *judge_delimiter(const char *text)
{
    if (text[1] != '\0' || (unsigned char)text[0] >= 0x80)
        return "is not one character; write one that is no letter beyond ASCII, as in \",\" or "
               "\"\\t\"";
    return strchr("\"\r\n", text[0]) == NULL
               ? NULL
               : "cannot stand between columns; quotes and line ends have a meaning of their own";
}

const char *judge_field_name(const char *text)
{
    return judge_utf8(text);
}

const char *judge_value(const char *text)
{
    for (const char *p = strstr(text, "${"); p != NULL; p = strstr(p + 2, "${")) {
        size_t len = strcspn(p + 2, "{}");
        if (len == 0 || p[2 + len] != '}')
            return "has a ${ without a variable's name and its }; write it as in ${HOSTNAME}";
    }
    return judge_utf8(text);
}

const char *judge_join(const char *text)
{
    return strcmp(text, "kpl") == 0 ? "is not in this version; write \"lines\", which joins lines "
                                      "as they are, or \"none\""
                                    : NULL;
}

const char *judge_json(const char *text)
{
    struct json_token t = {0};
    struct json j;

    json_init(&j, slice_of(text));
    do {
        if (json_next(&j, &t) < 0)
            return "is not JSON; write it as in \"{\\\"name\\\": \\\"value\\\"}\"";
    } while (t.type != JSON_END);
    return judge_utf8(text);
}

/* How many characters stand before byte `offset`, plus one: where a person counts to. */
static size_t character_at(const char *text, size_t offset)
{
    size_t count = 1;

    for (size_t i = 0; i < offset && text[i] != '\0'; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* "is not X: what is wrong, at character 5" */
static const char *wrong_at(const char *is_not, const char *text, size_t offset, const char *what,
                            char why[static JUDGE_WHY_SIZE])
{
    if (offset >= strlen(text))
        (void)snprintf(why, JUDGE_WHY_SIZE, "is not %s: %s, at its end", is_not, what);
    else
        (void)snprintf(why, JUDGE_WHY_SIZE, "is not %s: %s, at character %zu", is_not, what,
                       character_at(text, offset));
    return why;
}

/* Without JIT: what is compiled here is thrown away. */
static const char *compile(const char *text, struct pattern **ret, char why[static JUDGE_WHY_SIZE])
{
    struct pattern_error error;
    const char *wrong = judge_utf8(text);
    int r;

    if (wrong != NULL)
        return wrong;
    r = pattern_new(slice_of(text), PATTERN_NO_JIT, ret, &error);
    if (r == -EINVAL)
        return wrong_at("a pattern", text, error.offset, error.text, why);
    return r < 0 ? "cannot be compiled: out of memory" : NULL;
}

const char *judge_pattern(const char *text, char why[static JUDGE_WHY_SIZE])
{
    struct pattern *p = NULL;
    const char *wrong = compile(text, &p, why);

    pattern_free(p);
    return wrong;
}

const char *judge_key_pattern(const char *text, char why[static JUDGE_WHY_SIZE])
{
    struct pattern *p = NULL;
    const char *wrong = compile(text, &p, why);

    if (wrong == NULL && pattern_group_count(p) == 0)
        wrong = "has no group; put what shall be the key into parentheses, as in "
                "\"regex:user=(\\\\w+)\"";
    pattern_free(p);
    return wrong;
}

const char *judge_replacement(const char *pattern, const char *text,
                              char why[static JUDGE_WHY_SIZE])
{
    struct replacement *replacement = NULL;
    struct pattern *p = NULL;
    struct pattern_error error;
    const char *wrong = compile(pattern, &p, why);
    int r = wrong == NULL ? replacement_new(p, slice_of(text), &replacement, &error) : 0;

    if (r == -EINVAL)
        wrong = wrong_at("a replacement", text, error.offset, error.text, why);
    else if (r < 0)
        wrong = "cannot be compiled: out of memory";
    replacement_free(replacement);
    pattern_free(p);
    return wrong;
}

const char *judge_groups(const char *pattern, size_t name_count, char why[static JUDGE_WHY_SIZE])
{
    struct pattern *p = NULL;
    const char *wrong = compile(pattern, &p, why);
    unsigned count = wrong == NULL ? pattern_group_count(p) : 0, named = 0;

    for (unsigned i = 1; i <= count; i++)
        named += pattern_group_name(p, i) != NULL;
    if (wrong == NULL && count == 0) {
        wrong = "has no groups, so that it finds no fields; write them as in (?<name>...)";
    } else if (wrong == NULL && named == 0 && name_count == 0) {
        wrong = "has groups without names; write them as in (?<name>...), or add parse.fields";
    } else if (wrong == NULL && named > 0 && name_count > 0) {
        wrong = "has groups with names of their own; remove parse.fields, or those names";
    } else if (wrong == NULL && named == 0 && count != name_count) {
        (void)snprintf(why, JUDGE_WHY_SIZE,
                       "has %u groups, but parse.fields has %zu names; write as many, and (?:...) "
                       "for what is no field",
                       count, name_count);
        wrong = why;
    }
    pattern_free(p);
    return wrong;
}

const char *judge_java_pattern(const char *text, char why[static JUDGE_WHY_SIZE])
{
    (void)why;
    return judge_utf8(text);
}

const char *judge_time_format(const char *text, char why[static JUDGE_WHY_SIZE])
{
    struct when_format *f = NULL;
    struct when_error error;
    int r = when_format_new(slice_of(text), NULL, &f, &error);

    when_format_free(f);
    if (r == -EINVAL)
        return wrong_at("how a time is written", text, error.place, error.text, why);
    return r < 0 ? "cannot be compiled: out of memory" : NULL;
}

const char *judge_zone(const char *text, char why[static JUDGE_WHY_SIZE])
{
    struct zone *zone = NULL;
    int r = zone_new(slice_of(text), &zone);

    zone_free(zone);
    if (r == -EINVAL)
        return "is not a zone; write \"local\", \"UTC\", \"+02:00\" or as in \"Europe/Berlin\"";
    if (r == -ENOENT)
        return "is not a zone that this machine knows; is it misspelt, or tzdata not installed?";
    if (r == 0)
        return NULL;
    (void)snprintf(why, JUDGE_WHY_SIZE, "cannot be read on this machine: %s", strerror(-r));
    return why;
}
