#include "record/template.h"

#include "buf.h"
#include "ec2.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TEMPLATE_PARTS_MAX = 64, TEMPLATE_BYTES_MAX = 64 * 1024, NAME_BYTES_MAX = 256 };

enum part_kind { PART_TEXT, PART_FILE, PART_OFFSET, PART_NOW, PART_EC2 };

struct part {
    enum part_kind kind;
    size_t at, len; /* PART_TEXT, PART_EC2: in the template's text */
};

struct template
{
    struct part parts[TEMPLATE_PARTS_MAX];
    size_t count;
    struct buf text; /* of the parts: literal, or the name of what is asked for */
};

static const char *const ec2_names[EC2_TEXTS] = {
    [EC2_PRIVATE_IP] = "private-ip",   [EC2_AVAILABILITY_ZONE] = "availability-zone",
    [EC2_INSTANCE_ID] = "instance-id", [EC2_INSTANCE_TYPE] = "instance-type",
    [EC2_ACCOUNT_ID] = "account-id",   [EC2_AMI_ID] = "ami-id",
    [EC2_REGION] = "region",
};

static int add(struct template *t, enum part_kind kind, struct slice text)
{
    struct part *last = t->count > 0 ? &t->parts[t->count - 1] : NULL;
    int r;

    if (kind == PART_TEXT && last != NULL && last->kind == PART_TEXT) {
        r = buf_append(&t->text, text);
        if (r == 0)
            last->len += text.len;
        return r;
    }
    if (t->count == TEMPLATE_PARTS_MAX)
        return -EMSGSIZE;
    t->parts[t->count] = (struct part){kind, t->text.len, text.len};
    r = buf_append(&t->text, text);
    if (r == 0)
        t->count++;
    return r;
}

static bool is_ec2_name(struct slice name)
{
    for (size_t i = 0; i < EC2_TEXTS; i++)
        if (slice_equal(name, slice_of(ec2_names[i])))
            return true;
    return slice_starts_with(name, SLICE("tag/")) && name.len > 4;
}

static struct slice ec2_text(const struct ec2 *ec2, struct slice name)
{
    for (size_t i = 0; i < EC2_TEXTS; i++)
        if (slice_equal(name, slice_of(ec2_names[i])))
            return ec2->text[i];
    for (size_t i = 0; i < ec2->tag_count; i++)
        if (slice_equal(slice_from(name, 4), ec2->tags[i].key))
            return ec2->tags[i].value;
    return SLICE("");
}

static int add_env(struct template *t, const struct template_world *w, struct slice name)
{
    char text[NAME_BYTES_MAX];

    if (name.len == 0 || name.len >= sizeof text)
        return -EINVAL;
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    return add(t, PART_TEXT, slice_of(w->env(text)));
}

static int add_variable(struct template *t, const struct template_world *w, struct slice name)
{
    static const struct {
        const char *name;
        enum part_kind kind;
    } known[] = {{"file", PART_FILE}, {"offset", PART_OFFSET}, {"now", PART_NOW}};

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (slice_equal(name, slice_of(known[i].name)))
            return add(t, known[i].kind, SLICE(""));
    if (slice_equal(name, SLICE("HOSTNAME")))
        return add(t, PART_TEXT, w->hostname);
    if (slice_equal(name, SLICE("flow")))
        return add(t, PART_TEXT, w->flow);
    if (slice_starts_with(name, SLICE("env:")))
        return add_env(t, w, slice_from(name, 4));
    if (slice_starts_with(name, SLICE("ec2:")) && is_ec2_name(slice_from(name, 4)))
        return add(t, PART_EC2, slice_from(name, 4));
    return -EINVAL;
}

/* Takes the next part off `text`. */
static int compile_next(struct template *t, const struct template_world *w, struct slice *text,
                        char why[static TEMPLATE_WHY_SIZE])
{
    const char *dollar = memchr(text->ptr, '$', text->len), *end;
    struct slice name;
    int r;

    if (dollar != text->ptr) {
        struct slice plain =
            slice_first(*text, dollar != NULL ? (size_t)(dollar - text->ptr) : text->len);

        *text = slice_from(*text, plain.len);
        return add(t, PART_TEXT, plain);
    }
    if (slice_starts_with(*text, SLICE("$$"))) {
        *text = slice_from(*text, 2);
        return add(t, PART_TEXT, SLICE("$"));
    }
    end = slice_starts_with(*text, SLICE("${")) ? memchr(text->ptr, '}', text->len) : NULL;
    if (end == NULL) {
        (void)snprintf(why, TEMPLATE_WHY_SIZE,
                       "has a $ that begins no variable; write ${file}, or $$ for a dollar sign");
        return -EINVAL;
    }
    name = slice_first(slice_from(*text, 2), (size_t)(end - text->ptr) - 2);
    r = add_variable(t, w, name);
    if (r == -EINVAL)
        (void)snprintf(why, TEMPLATE_WHY_SIZE,
                       "has the variable ${%.*s}, which is not known; there are HOSTNAME, "
                       "env:NAME, file, offset, flow, now, and ec2:instance-id and the like",
                       (int)MIN(name.len, (size_t)40), name.ptr);
    *text = slice_from(*text, name.len + 3);
    return r;
}

int template_new(struct slice text, const struct template_world *world, struct template **ret,
                 char ret_why[static TEMPLATE_WHY_SIZE])
{
    struct template *t = calloc(1, sizeof *t);
    int r = 0;

    if (t == NULL)
        return -ENOMEM;
    buf_init(&t->text, TEMPLATE_BYTES_MAX);
    while (text.len > 0 && r == 0)
        r = compile_next(t, world, &text, ret_why);
    if (r == -EMSGSIZE) {
        (void)snprintf(ret_why, TEMPLATE_WHY_SIZE, "is too long, or has more than %d variables",
                       TEMPLATE_PARTS_MAX / 2);
        r = -EINVAL;
    }
    if (r < 0)
        template_free(t);
    else
        *ret = t;
    return r;
}

void template_free(struct template *t)
{
    if (t == NULL)
        return;
    buf_done(&t->text);
    free(t);
}

bool template_wants_ec2(const struct template *t)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->parts[i].kind == PART_EC2)
            return true;
    return false;
}

static struct slice part_text(const struct template *t, const struct part *p)
{
    if (t->text.ptr == NULL)
        return SLICE(""); /* none of its parts has a text */
    return (struct slice){t->text.ptr + p->at, p->len};
}

bool template_is_constant(const struct template *t, struct slice *ret)
{
    if (t->count > 1 || (t->count == 1 && t->parts[0].kind != PART_TEXT))
        return false;
    *ret = t->count == 1 ? part_text(t, &t->parts[0]) : SLICE("");
    return true;
}

static int append_now(struct buf *to, int64_t now_ms)
{
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm tm;

    if (gmtime_r(&seconds, &tm) == NULL)
        return 0;
    return buf_printf(to, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                      tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(now_ms % 1000));
}

/* printf would cost more than all else that is added to a record. */
static int append_offset(struct buf *to, uint64_t offset)
{
    char digits[20]; /* 2^64 has so many */
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + offset % 10);
    while ((offset /= 10) > 0);
    return buf_append(to, (struct slice){digits + at, sizeof digits - at});
}

int template_append(const struct template *t, const struct template_place *place, struct buf *to)
{
    int r = 0;

    for (size_t i = 0; i < t->count && r == 0; i++) {
        const struct part *p = &t->parts[i];

        switch (p->kind) {
        case PART_TEXT:
            r = buf_append(to, part_text(t, p));
            break;
        case PART_FILE:
            r = buf_append(to, place->file);
            break;
        case PART_OFFSET:
            r = append_offset(to, place->offset);
            break;
        case PART_NOW:
            r = append_now(to, place->now_ms);
            break;
        case PART_EC2:
            if (place->ec2 != NULL)
                r = buf_append(to, ec2_text(place->ec2, part_text(t, p)));
            break;
        }
    }
    return r;
}
