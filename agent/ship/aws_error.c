#include "ship/aws_error.h"

#include "json.h"
#include "ship/service.h"
#include "util.h"

#include <stddef.h>

/* What there is to be done.  The first ones name things that each service calls otherwise. */
enum advice {
    ADVICE_ENDPOINT,
    ADVICE_NAME,
    ADVICE_RIGHTS,
    ADVICE_BUSY,
    ADVICE_WAIT,
    ADVICE_CLOCK,
    ADVICE_KEYS,
    ADVICE_TOKEN,
    ADVICE_KMS,
    ADVICE_ACCOUNT,
    ADVICE_ACTIVE,
    ADVICE_SOURCE,
    ADVICE_RECORD,
    ADVICE_REPORT,
    ADVICE_DNS,
    ADVICE_NETWORK,
    ADVICE_EXPIRED,
    ADVICE_ANOTHER,
    ADVICE_SELF_SIGNED,
    ADVICE_AUTHORITY,
    ADVICE_CERTIFICATE,
    ADVICE_CA_FILE,
    ADVICE_TLS_OLD,
    ADVICE_TLS_NONE,
    ADVICE_PROXY,
    ADVICE_PROXY_PASSWORD,
    ADVICE_PROXY_REFUSES,
    ADVICE_PROXY_SILENT,
    ADVICE_PROXY_CERTIFICATE,
};

static const char *const advice_texts[] = {
    [ADVICE_WAIT] = "nothing to do but wait",
    [ADVICE_CLOCK] = "check this host's clock",
    [ADVICE_KEYS] = "check credentials.access_key_id and credentials.secret_access_key",
    [ADVICE_TOKEN] = "renew the temporary credentials",
    [ADVICE_KMS] = "check the stream's KMS key and its policy",
    [ADVICE_ACCOUNT] = "subscribe the account to the service",
    [ADVICE_ACTIVE] = "wait until the stream is active",
    [ADVICE_SOURCE] = "name a delivery stream whose source is Direct PUT, or the Kinesis stream "
                      "that this one reads from",
    [ADVICE_RECORD] =
        "the service does not take a record as it stands; kinetail finds out which one",
    [ADVICE_REPORT] = "please report this: the service does not take the request as it stands",
    [ADVICE_DNS] = "check the endpoint's name and this host's DNS",
    [ADVICE_NETWORK] = "check the network and the firewalls if it lasts",
    [ADVICE_EXPIRED] = "renew the endpoint's certificate, or check this host's clock",
    [ADVICE_ANOTHER] = "check the endpoint: who answers there is somebody else",
    [ADVICE_SELF_SIGNED] = "if you trust it, name it in tls.ca_file",
    [ADVICE_AUTHORITY] = "check the authorities of this host, or name the right one in tls.ca_file",
    [ADVICE_CERTIFICATE] = "check the endpoint's certificate",
    [ADVICE_CA_FILE] = "put certificates in PEM form into that file",
    [ADVICE_TLS_OLD] = "let the endpoint speak TLS 1.2 or newer",
    [ADVICE_TLS_NONE] = "check the endpoint's port: no TLS is spoken there",
    [ADVICE_PROXY] = "check proxy.url (or https_proxy) and the proxy itself",
    [ADVICE_PROXY_PASSWORD] = "write proxy.url (or https_proxy) as http://USER:PASSWORD@HOST:PORT",
    [ADVICE_PROXY_REFUSES] =
        "let the proxy allow CONNECT to the endpoint, or name the endpoint in proxy.no_proxy",
    [ADVICE_PROXY_SILENT] = "ask who runs the proxy whether it reaches the endpoint if it lasts",
    [ADVICE_PROXY_CERTIFICATE] = "check the proxy's certificate; tls.ca_file names whom to trust",
};

static const char *advice_text(const struct service *s, enum advice a)
{
    switch (a) {
    case ADVICE_ENDPOINT:
        return s->advice.endpoint;
    case ADVICE_NAME:
        return s->advice.name;
    case ADVICE_RIGHTS:
        return s->advice.rights;
    case ADVICE_BUSY:
        return s->advice.busy;
    default:
        return advice_texts[a];
    }
}

/* InvalidArgumentException says so of a delivery stream that reads a Kinesis stream; no request
 * would be taken, whatever is in it. */
static const struct slice wrong_source = {"This operation is not permitted on ", 35};

static const struct {
    struct slice code;
    enum aws_error_class class;
    enum advice advice;
} aws_errors[] = {
#define ROW(code, class, advice)                                                                   \
    {                                                                                              \
        {code, sizeof(code) - 1}, class, advice                                                    \
    }
    ROW("ProvisionedThroughputExceededException", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("LimitExceededException", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("Throttling", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("ThrottlingException", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("ThrottledException", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("RequestThrottled", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("RequestThrottledException", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("TooManyRequestsException", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("RequestLimitExceeded", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("BandwidthLimitExceeded", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("SlowDown", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("EC2ThrottledException", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("TransactionInProgressException", AWS_ERROR_THROTTLED, ADVICE_BUSY),
    ROW("KMSThrottlingException", AWS_ERROR_THROTTLED, ADVICE_WAIT),
    /* Firehose's "Slow down.", of a record or of the call; Kinesis does not say it */
    ROW("ServiceUnavailableException", AWS_ERROR_THROTTLED, ADVICE_BUSY),

    ROW("InternalFailure", AWS_ERROR_TRANSIENT, ADVICE_WAIT),
    ROW("InternalFailureException", AWS_ERROR_TRANSIENT, ADVICE_WAIT),
    ROW("InternalServerError", AWS_ERROR_TRANSIENT, ADVICE_WAIT),
    ROW("ServiceUnavailable", AWS_ERROR_TRANSIENT, ADVICE_WAIT),
    ROW("RequestTimeout", AWS_ERROR_TRANSIENT, ADVICE_WAIT),
    ROW("RequestTimeoutException", AWS_ERROR_TRANSIENT, ADVICE_WAIT),
    ROW("PriorRequestNotComplete", AWS_ERROR_TRANSIENT, ADVICE_WAIT),

    ROW("UnrecognizedClientException", AWS_ERROR_CREDENTIALS, ADVICE_KEYS),
    ROW("InvalidClientTokenId", AWS_ERROR_CREDENTIALS, ADVICE_KEYS),
    ROW("MissingAuthenticationTokenException", AWS_ERROR_CREDENTIALS, ADVICE_KEYS),
    ROW("MissingAuthenticationToken", AWS_ERROR_CREDENTIALS, ADVICE_KEYS),
    ROW("IncompleteSignatureException", AWS_ERROR_CREDENTIALS, ADVICE_KEYS),
    ROW("IncompleteSignature", AWS_ERROR_CREDENTIALS, ADVICE_KEYS),
    ROW("InvalidSignatureException", AWS_ERROR_CREDENTIALS, ADVICE_KEYS),
    ROW("SignatureDoesNotMatch", AWS_ERROR_CREDENTIALS, ADVICE_KEYS),
    ROW("InvalidAccessKeyId", AWS_ERROR_CREDENTIALS, ADVICE_KEYS),
    ROW("ExpiredToken", AWS_ERROR_CREDENTIALS, ADVICE_TOKEN),
    ROW("ExpiredTokenException", AWS_ERROR_CREDENTIALS, ADVICE_TOKEN),
    ROW("RequestExpired", AWS_ERROR_CREDENTIALS, ADVICE_CLOCK),
    ROW("RequestTimeTooSkewed", AWS_ERROR_CREDENTIALS, ADVICE_CLOCK),
    ROW("RequestInTheFuture", AWS_ERROR_CREDENTIALS, ADVICE_CLOCK),

    ROW("ValidationException", AWS_ERROR_REFUSED, ADVICE_RECORD),
    ROW("InvalidArgumentException", AWS_ERROR_REFUSED, ADVICE_RECORD),
    ROW("SerializationException", AWS_ERROR_REFUSED, ADVICE_RECORD),

    ROW("AccessDenied", AWS_ERROR_OPERATOR, ADVICE_RIGHTS),
    ROW("AccessDeniedException", AWS_ERROR_OPERATOR, ADVICE_RIGHTS),
    ROW("NotAuthorized", AWS_ERROR_OPERATOR, ADVICE_RIGHTS),
    ROW("OptInRequired", AWS_ERROR_OPERATOR, ADVICE_ACCOUNT),
    ROW("ResourceNotFoundException", AWS_ERROR_OPERATOR, ADVICE_NAME),
    ROW("ResourceInUseException", AWS_ERROR_OPERATOR, ADVICE_ACTIVE),
    ROW("KMSAccessDeniedException", AWS_ERROR_OPERATOR, ADVICE_KMS),
    ROW("KMSDisabledException", AWS_ERROR_OPERATOR, ADVICE_KMS),
    ROW("KMSInvalidStateException", AWS_ERROR_OPERATOR, ADVICE_KMS),
    ROW("KMSNotFoundException", AWS_ERROR_OPERATOR, ADVICE_KMS),
    ROW("KMSOptInRequired", AWS_ERROR_OPERATOR, ADVICE_KMS),
    ROW("InvalidKMSResourceException", AWS_ERROR_OPERATOR, ADVICE_KMS),
    ROW("InvalidSourceException", AWS_ERROR_OPERATOR, ADVICE_SOURCE),

    /* What http_trouble calls what never came to an answer. */
    ROW("name not found", AWS_ERROR_TRANSIENT, ADVICE_DNS),
    ROW("no connection", AWS_ERROR_TRANSIENT, ADVICE_NETWORK),
    ROW("answer too long", AWS_ERROR_TRANSIENT, ADVICE_ENDPOINT),
    ROW("certificate expired", AWS_ERROR_OPERATOR, ADVICE_EXPIRED),
    ROW("certificate not valid yet", AWS_ERROR_OPERATOR, ADVICE_CLOCK),
    ROW("certificate of another", AWS_ERROR_OPERATOR, ADVICE_ANOTHER),
    ROW("self-signed certificate", AWS_ERROR_OPERATOR, ADVICE_SELF_SIGNED),
    ROW("unknown authority", AWS_ERROR_OPERATOR, ADVICE_AUTHORITY),
    ROW("certificate", AWS_ERROR_OPERATOR, ADVICE_CERTIFICATE),
    ROW("tls.ca_file", AWS_ERROR_OPERATOR, ADVICE_CA_FILE),
    ROW("TLS too old", AWS_ERROR_OPERATOR, ADVICE_TLS_OLD),
    ROW("no TLS", AWS_ERROR_OPERATOR, ADVICE_TLS_NONE),
    ROW("no proxy", AWS_ERROR_TRANSIENT, ADVICE_PROXY),
    ROW("proxy wants a password", AWS_ERROR_OPERATOR, ADVICE_PROXY_PASSWORD),
    ROW("proxy refuses", AWS_ERROR_OPERATOR, ADVICE_PROXY_REFUSES),
    ROW("proxy gets no answer", AWS_ERROR_TRANSIENT, ADVICE_PROXY_SILENT),
    ROW("proxy's certificate", AWS_ERROR_OPERATOR, ADVICE_PROXY_CERTIFICATE),
#undef ROW
};

static ptrdiff_t aws_error_find(struct slice code)
{
    for (size_t i = 0; i < ARRAY_LEN(aws_errors); i++)
        if (slice_equal(aws_errors[i].code, code))
            return (ptrdiff_t)i;
    return -1;
}

enum aws_error_class aws_error_class(struct slice code)
{
    ptrdiff_t i = aws_error_find(code);

    return i < 0 ? AWS_ERROR_REFUSED : aws_errors[i].class;
}

enum aws_error_class aws_error_class_of_status(struct slice code, struct slice message, long status)
{
    ptrdiff_t i = aws_error_find(code);

    if (slice_starts_with(message, wrong_source))
        return AWS_ERROR_OPERATOR;
    if (i >= 0)
        return aws_errors[i].class;
    if (status == 429)
        return AWS_ERROR_THROTTLED;
    if (status >= 500 || status == 408 || status < 400)
        return AWS_ERROR_TRANSIENT;
    return status == 401 || status == 403 ? AWS_ERROR_CREDENTIALS : AWS_ERROR_REFUSED;
}

bool aws_error_is_verdict(struct slice code)
{
    ptrdiff_t i = aws_error_find(code);

    return i >= 0 && aws_errors[i].class == AWS_ERROR_REFUSED;
}

static enum advice aws_error_find_advice(struct slice code, struct slice message,
                                         enum aws_error_class c)
{
    ptrdiff_t i = aws_error_find(code);

    if (slice_starts_with(message, SLICE("Signature expired")) ||
        slice_starts_with(message, SLICE("Signature not yet current")))
        return ADVICE_CLOCK;
    if (slice_starts_with(message, wrong_source))
        return ADVICE_SOURCE;
    if (i >= 0)
        return aws_errors[i].advice;
    if (slice_starts_with(code, SLICE("HTTP 2")) || slice_starts_with(code, SLICE("HTTP 3")) ||
        slice_starts_with(code, SLICE("HTTP 4")) || slice_equal(code, SLICE("unreadable answer")))
        return ADVICE_ENDPOINT;
    switch (c) {
    case AWS_ERROR_THROTTLED:
        return ADVICE_BUSY;
    case AWS_ERROR_CREDENTIALS:
        return ADVICE_KEYS;
    case AWS_ERROR_OPERATOR:
        return ADVICE_NAME;
    case AWS_ERROR_REFUSED:
        return ADVICE_REPORT;
    case AWS_ERROR_TRANSIENT:
        break;
    }
    return ADVICE_WAIT;
}

const char *aws_error_advice(const struct service *s, struct slice code, struct slice message,
                             enum aws_error_class c)
{
    return advice_text(s, aws_error_find_advice(code, message, c));
}

/* The text of the first <name>…</name> in `xml`. */
static struct slice xml_text(struct slice xml, const char *open, const char *close)
{
    const char *from = memmem(xml.ptr, xml.len, open, strlen(open));
    const char *to;
    struct slice rest;

    if (from == NULL)
        return (struct slice){0};
    rest = slice_from(xml, (size_t)(from - xml.ptr) + strlen(open));
    to = memmem(rest.ptr, rest.len, close, strlen(close));
    if (to == NULL)
        return (struct slice){0};
    return slice_first(rest, (size_t)(to - rest.ptr));
}

/* A string member of the top-level object. */
static struct slice json_member(struct slice body, struct slice name)
{
    struct json_token t;
    struct json j;

    json_init(&j, body);
    if (json_next(&j, &t) < 0 || t.type != JSON_OBJECT_BEGIN)
        return (struct slice){0};
    while (json_next(&j, &t) == 0 && t.type == JSON_KEY) {
        if (json_text_equal(t.text, name)) {
            if (json_next(&j, &t) < 0)
                break;
            return t.type == JSON_STRING ? t.text : (struct slice){0};
        }
        if (json_skip(&j) < 0)
            break;
    }
    return (struct slice){0};
}

/* "com.amazonaws.kinesis#LimitExceededException:http://…" is LimitExceededException. */
static struct slice aws_error_clean(struct slice code)
{
    const char *mark;

    if (code.len == 0)
        return code;
    mark = memchr(code.ptr, ':', code.len);
    if (mark != NULL)
        code.len = (size_t)(mark - code.ptr);
    mark = memrchr(code.ptr, '#', code.len);
    return mark == NULL ? code : slice_from(code, (size_t)(mark - code.ptr) + 1);
}

struct slice aws_error_code(struct slice type_header, struct slice body)
{
    struct slice code = aws_error_clean(type_header);

    if (code.len == 0 && body.len > 0)
        code = aws_error_clean(json_member(body, SLICE("__type")));
    if (code.len == 0 && body.len > 0)
        code = aws_error_clean(json_member(body, SLICE("code")));
    if (code.len == 0 && body.len > 0)
        code = aws_error_clean(xml_text(body, "<Code>", "</Code>"));
    return code;
}

struct slice aws_error_message(struct slice body)
{
    struct slice message;

    if (body.len == 0)
        return (struct slice){0};
    message = json_member(body, SLICE("message"));
    if (message.len == 0)
        message = json_member(body, SLICE("Message"));
    return message.len > 0 ? message : xml_text(body, "<Message>", "</Message>");
}
