#include "ship/put.h"

#include "buf.h"
#include "json.h"
#include "ship/aws_error.h"

#include <errno.h>

int put_begin(const struct put_words *w, struct buf *to, struct slice stream,
              struct slice stream_arn)
{
    bool by_arn = stream_arn.len > 0 && w->stream_arn.len > 0;
    int r;

    (void)((r = buf_append_char(to, '{')) < 0 ||
           (r = json_append_string(to, by_arn ? w->stream_arn : w->stream_name)) < 0 ||
           (r = buf_append_char(to, ':')) < 0 ||
           (r = json_append_string(to, by_arn ? stream_arn : stream)) < 0 ||
           (r = buf_append(to, SLICE(",\"Records\":["))) < 0);
    return r;
}

/* What one entry of the answer said so far. */
struct put_entry {
    bool has_id;
    struct service_complaint complaint;
};

/* Reads a string member; null is as good as missing. */
static int put_read_text(struct json *j, struct slice *ret)
{
    struct json_token t;
    int r = json_next(j, &t);

    if (r < 0)
        return r;
    if (t.type != JSON_STRING && t.type != JSON_NULL)
        return -EBADMSG;
    *ret = t.type == JSON_STRING ? t.text : (struct slice){0};
    return 0;
}

static int put_read_entry(const struct put_words *w, struct json *j, struct put_entry *ret)
{
    struct slice id = {0};
    struct json_token key;
    int r;

    *ret = (struct put_entry){0};
    for (;;) {
        r = json_next(j, &key);
        if (r < 0)
            return r;
        if (key.type == JSON_OBJECT_END)
            break;
        if (json_text_equal(key.text, w->id))
            r = put_read_text(j, &id);
        else if (json_text_equal(key.text, SLICE("ErrorCode")))
            r = put_read_text(j, &ret->complaint.code);
        else if (json_text_equal(key.text, SLICE("ErrorMessage")))
            r = put_read_text(j, &ret->complaint.message);
        else
            r = json_skip(j);
        if (r < 0)
            return r;
    }
    ret->has_id = id.len > 0;
    return 0;
}

static enum outcome put_judge(const struct put_entry *e)
{
    if (e->complaint.code.len == 0)
        return e->has_id ? OUTCOME_ACCEPTED : OUTCOME_TRANSIENT;
    switch (aws_error_class(e->complaint.code)) {
    case AWS_ERROR_THROTTLED:
        return OUTCOME_THROTTLED;
    case AWS_ERROR_TRANSIENT:
        return OUTCOME_TRANSIENT;
    case AWS_ERROR_CREDENTIALS:
    case AWS_ERROR_OPERATOR:
        return OUTCOME_HELD;
    case AWS_ERROR_REFUSED:
        break;
    }
    return aws_error_is_verdict(e->complaint.code) ? OUTCOME_REFUSED : OUTCOME_UNKNOWN;
}

static int put_read_entries(const struct put_words *w, struct json *j, size_t count,
                            enum outcome *outcomes, struct service_complaint *complaint)
{
    struct json_token t;
    size_t n = 0;
    int r;

    r = json_next(j, &t);
    if (r < 0 || t.type != JSON_ARRAY_BEGIN)
        return -EBADMSG;
    for (;; n++) {
        struct put_entry e;

        r = json_next(j, &t);
        if (r < 0)
            return r;
        if (t.type == JSON_ARRAY_END)
            return n == count ? 0 : -EBADMSG;
        if (t.type != JSON_OBJECT_BEGIN || n == count)
            return -EBADMSG;
        r = put_read_entry(w, j, &e);
        if (r < 0)
            return r;
        outcomes[n] = put_judge(&e);
        if (outcomes[n] != OUTCOME_ACCEPTED && complaint->code.len == 0)
            *complaint = e.complaint;
    }
}

int put_read(const struct put_words *w, struct slice body, size_t count, enum outcome *outcomes,
             struct service_complaint *ret_complaint)
{
    struct service_complaint complaint = {0};
    bool seen = false;
    struct json_token t;
    struct json j;
    int r;

    json_init(&j, body);
    r = json_next(&j, &t);
    if (r < 0 || t.type != JSON_OBJECT_BEGIN)
        return -EBADMSG;
    for (;;) {
        r = json_next(&j, &t);
        if (r < 0)
            return -EBADMSG;
        if (t.type == JSON_OBJECT_END)
            break;
        if (json_text_equal(t.text, w->entries)) {
            if (seen)
                return -EBADMSG;
            seen = true;
            r = put_read_entries(w, &j, count, outcomes, &complaint);
        } else {
            r = json_skip(&j);
        }
        if (r < 0)
            return -EBADMSG;
    }

    /* Cut answers end inside the object; what follows a whole one must be nothing. */
    if (!seen || json_next(&j, &t) < 0 || t.type != JSON_END)
        return -EBADMSG;
    *ret_complaint = complaint;
    return 0;
}
