#include "ship/aws_error.h"

#include "json.h"
#include "util.h"

#include <stddef.h>

static const char advice_clock[] = "check this host's clock";
static const char advice_keys[] =
    "check credentials.access_key_id and credentials.secret_access_key";
static const char advice_endpoint[] =
    "check endpoint.kinesis and what stands between: this does not look like the service";
static const char advice_kms[] = "check the stream's KMS key and its policy";
static const char advice_stream[] = "check the stream's name, the region and the account";
static const char advice_rights[] = "allow kinesis:PutRecords on the stream in the IAM policy";
static const char advice_record[] =
    "the service does not take a record as it stands; kinetail finds out which one";
static const char advice_token[] = "renew the temporary credentials";

static const struct {
    struct slice code;
    enum aws_error_class class;
    const char *advice; /* NULL: nothing to do but wait */
} aws_errors[] = {
#define ROW(code, class, advice)                                                                   \
    {                                                                                              \
        {code, sizeof(code) - 1}, class, advice                                                    \
    }
    ROW("ProvisionedThroughputExceededException", AWS_ERROR_THROTTLED, NULL),
    ROW("LimitExceededException", AWS_ERROR_THROTTLED, NULL),
    ROW("Throttling", AWS_ERROR_THROTTLED, NULL),
    ROW("ThrottlingException", AWS_ERROR_THROTTLED, NULL),
    ROW("ThrottledException", AWS_ERROR_THROTTLED, NULL),
    ROW("RequestThrottled", AWS_ERROR_THROTTLED, NULL),
    ROW("RequestThrottledException", AWS_ERROR_THROTTLED, NULL),
    ROW("TooManyRequestsException", AWS_ERROR_THROTTLED, NULL),
    ROW("RequestLimitExceeded", AWS_ERROR_THROTTLED, NULL),
    ROW("BandwidthLimitExceeded", AWS_ERROR_THROTTLED, NULL),
    ROW("SlowDown", AWS_ERROR_THROTTLED, NULL),
    ROW("EC2ThrottledException", AWS_ERROR_THROTTLED, NULL),
    ROW("TransactionInProgressException", AWS_ERROR_THROTTLED, NULL),
    ROW("KMSThrottlingException", AWS_ERROR_THROTTLED, NULL),

    ROW("InternalFailure", AWS_ERROR_TRANSIENT, NULL),
    ROW("InternalFailureException", AWS_ERROR_TRANSIENT, NULL),
    ROW("InternalServerError", AWS_ERROR_TRANSIENT, NULL),
    ROW("ServiceUnavailable", AWS_ERROR_TRANSIENT, NULL),
    ROW("ServiceUnavailableException", AWS_ERROR_TRANSIENT, NULL),
    ROW("RequestTimeout", AWS_ERROR_TRANSIENT, NULL),
    ROW("RequestTimeoutException", AWS_ERROR_TRANSIENT, NULL),
    ROW("PriorRequestNotComplete", AWS_ERROR_TRANSIENT, NULL),

    ROW("UnrecognizedClientException", AWS_ERROR_CREDENTIALS, advice_keys),
    ROW("InvalidClientTokenId", AWS_ERROR_CREDENTIALS, advice_keys),
    ROW("MissingAuthenticationTokenException", AWS_ERROR_CREDENTIALS, advice_keys),
    ROW("MissingAuthenticationToken", AWS_ERROR_CREDENTIALS, advice_keys),
    ROW("IncompleteSignatureException", AWS_ERROR_CREDENTIALS, advice_keys),
    ROW("IncompleteSignature", AWS_ERROR_CREDENTIALS, advice_keys),
    ROW("InvalidSignatureException", AWS_ERROR_CREDENTIALS, advice_keys),
    ROW("SignatureDoesNotMatch", AWS_ERROR_CREDENTIALS, advice_keys),
    ROW("InvalidAccessKeyId", AWS_ERROR_CREDENTIALS, advice_keys),
    ROW("ExpiredToken", AWS_ERROR_CREDENTIALS, advice_token),
    ROW("ExpiredTokenException", AWS_ERROR_CREDENTIALS, advice_token),
    ROW("RequestExpired", AWS_ERROR_CREDENTIALS, advice_clock),
    ROW("RequestTimeTooSkewed", AWS_ERROR_CREDENTIALS, advice_clock),
    ROW("RequestInTheFuture", AWS_ERROR_CREDENTIALS, advice_clock),

    ROW("ValidationException", AWS_ERROR_REFUSED, advice_record),
    ROW("InvalidArgumentException", AWS_ERROR_REFUSED, advice_record),
    ROW("SerializationException", AWS_ERROR_REFUSED, advice_record),

    ROW("AccessDenied", AWS_ERROR_OPERATOR, advice_rights),
    ROW("AccessDeniedException", AWS_ERROR_OPERATOR, advice_rights),
    ROW("NotAuthorized", AWS_ERROR_OPERATOR, advice_rights),
    ROW("OptInRequired", AWS_ERROR_OPERATOR, "subscribe the account to the service"),
    ROW("ResourceNotFoundException", AWS_ERROR_OPERATOR, advice_stream),
    ROW("ResourceInUseException", AWS_ERROR_OPERATOR, "wait until the stream is active"),
    ROW("KMSAccessDeniedException", AWS_ERROR_OPERATOR, advice_kms),
    ROW("KMSDisabledException", AWS_ERROR_OPERATOR, advice_kms),
    ROW("KMSInvalidStateException", AWS_ERROR_OPERATOR, advice_kms),
    ROW("KMSNotFoundException", AWS_ERROR_OPERATOR, advice_kms),
    ROW("KMSOptInRequired", AWS_ERROR_OPERATOR, advice_kms),

    /* What http_trouble calls what never came to an answer. */
    ROW("name not found", AWS_ERROR_TRANSIENT, "check the endpoint's name and this host's DNS"),
    ROW("no connection", AWS_ERROR_TRANSIENT, "check the network and the firewalls if it lasts"),
    ROW("answer too long", AWS_ERROR_TRANSIENT, advice_endpoint),
    ROW("certificate expired", AWS_ERROR_OPERATOR,
        "renew the endpoint's certificate, or check this host's clock"),
    ROW("certificate not valid yet", AWS_ERROR_OPERATOR, advice_clock),
    ROW("certificate of another", AWS_ERROR_OPERATOR,
        "check the endpoint: who answers there is somebody else"),
    ROW("self-signed certificate", AWS_ERROR_OPERATOR, "if you trust it, name it in tls.ca_file"),
    ROW("unknown authority", AWS_ERROR_OPERATOR,
        "check the authorities of this host, or name the right one in tls.ca_file"),
    ROW("certificate", AWS_ERROR_OPERATOR, "check the endpoint's certificate"),
    ROW("tls.ca_file", AWS_ERROR_OPERATOR, "put certificates in PEM form into that file"),
    ROW("TLS too old", AWS_ERROR_OPERATOR, "let the endpoint speak TLS 1.2 or newer"),
    ROW("no TLS", AWS_ERROR_OPERATOR, "check the endpoint's port: no TLS is spoken there"),
    ROW("no proxy", AWS_ERROR_TRANSIENT, "check proxy.url (or https_proxy) and the proxy itself"),
    ROW("proxy wants a password", AWS_ERROR_OPERATOR,
        "write proxy.url (or https_proxy) as http://USER:PASSWORD@HOST:PORT"),
    ROW("proxy refuses", AWS_ERROR_OPERATOR,
        "let the proxy allow CONNECT to the endpoint, or name the endpoint in proxy.no_proxy"),
    ROW("proxy gets no answer", AWS_ERROR_TRANSIENT,
        "ask who runs the proxy whether it reaches the endpoint if it lasts"),
    ROW("proxy's certificate", AWS_ERROR_OPERATOR,
        "check the proxy's certificate; tls.ca_file names whom to trust"),
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

enum aws_error_class aws_error_class_of_status(struct slice code, long status)
{
    ptrdiff_t i = aws_error_find(code);

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

const char *aws_error_advice(struct slice code, struct slice message, enum aws_error_class c)
{
    ptrdiff_t i = aws_error_find(code);

    if (slice_starts_with(message, SLICE("Signature expired")) ||
        slice_starts_with(message, SLICE("Signature not yet current")))
        return advice_clock;
    if (i >= 0 && aws_errors[i].advice != NULL)
        return aws_errors[i].advice;
    if (slice_starts_with(code, SLICE("HTTP 2")) || slice_starts_with(code, SLICE("HTTP 3")) ||
        slice_starts_with(code, SLICE("HTTP 4")) || slice_equal(code, SLICE("unreadable answer")))
        return advice_endpoint;
    switch (c) {
    case AWS_ERROR_THROTTLED:
        return "the stream takes no more just now; add shards if this lasts";
    case AWS_ERROR_CREDENTIALS:
        return advice_keys;
    case AWS_ERROR_OPERATOR:
        return advice_stream;
    case AWS_ERROR_REFUSED:
        return "please report this: the service does not take the request as it stands";
    case AWS_ERROR_TRANSIENT:
        break;
    }
    return "nothing to do but wait";
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
