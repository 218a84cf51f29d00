/* answers -- what a service says of the records of a request, as tables, and what must hold of each
 * for any service. */
#ifndef ANSWERS_H
#define ANSWERS_H

#include "ship/service.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_RECORDS_MAX = 16 };

/* Outcomes: a accepted, t throttled, f failed there, h held, u unknown, r refused.  A complaint is "code|message". */
struct answer {
    const char *name;
    const char *body;
    const char *outcomes;
    const char *complaint;
};

static inline char answer_letter(enum outcome o)
{
    switch (o) {
    case OUTCOME_ACCEPTED:
        return 'a';
    case OUTCOME_THROTTLED:
        return 't';
    case OUTCOME_TRANSIENT:
        return 'f';
    case OUTCOME_HELD:
        return 'h';
    case OUTCOME_UNKNOWN:
        return 'u';
    case OUTCOME_REFUSED:
    case OUTCOME_BURIED:
        break;
    }
    return 'r';
}

/* Reads a copy of just its size, so that the sanitizer sees who reads past it. */
static inline int answer_read(const struct service *s, struct slice body, size_t count,
                              char letters[ANSWER_RECORDS_MAX + 1], char complaint[200])
{
    enum outcome outcomes[ANSWER_RECORDS_MAX + 1], canary = (enum outcome)77;
    struct service_complaint c = {SLICE("untouched"), SLICE("untouched")};
    char *copy = malloc(MAX(body.len, 1U));
    int r;

    assert_non_null(copy);
    memcpy(copy, body.ptr, body.len);
    outcomes[count] = canary;
    r = s->read((struct slice){copy, body.len}, count, outcomes, &c);
    assert_int_equal(outcomes[count], canary);
    for (size_t i = 0; i < count && r == 0; i++)
        letters[i] = answer_letter(outcomes[i]);
    letters[r == 0 ? count : 0] = '\0';
    (void)snprintf(complaint, 200, "%.*s|%.*s", SLICE_ARG(c.code), SLICE_ARG(c.message));
    free(copy);
    return r;
}

static inline void answers_must_be_read(const struct service *s, const struct answer *answers,
                                        size_t n)
{
    char letters[ANSWER_RECORDS_MAX + 1], complaint[200];

    for (size_t i = 0; i < n; i++) {
        const struct answer *a = &answers[i];
        int r = answer_read(s, slice_of(a->body), strlen(a->outcomes), letters, complaint);

        if (r < 0 || strcmp(letters, a->outcomes) != 0 || strcmp(complaint, a->complaint) != 0)
            fail_msg("%s: %d, %s, %s", a->name, r, letters, complaint);
    }
}

/* Answers to a request of two records that say nothing we could rely on. */
static inline void answers_must_be_refused(const struct service *s, const struct answer *answers,
                                           size_t n)
{
    char letters[ANSWER_RECORDS_MAX + 1], complaint[200];

    for (size_t i = 0; i < n; i++) {
        int r = answer_read(s, slice_of(answers[i].body), 2, letters, complaint);

        if (r != -EBADMSG)
            fail_msg("%s: %d", answers[i].name, r);
        assert_string_equal(complaint, "untouched|untouched");
    }
}

/* Every good answer, cut at every byte, or followed by one: what was stored is unknown.  And it
 * answers no request of another size. */
static inline void answers_must_be_whole(const struct service *s, const struct answer *answers,
                                         size_t n)
{
    char letters[ANSWER_RECORDS_MAX + 1], complaint[200], longer[2000];

    for (size_t i = 0; i < n; i++) {
        struct slice body = slice_of(answers[i].body);
        size_t count = strlen(answers[i].outcomes), whole = body.len;

        while (whole > 0 && body.ptr[whole - 1] != '}')
            whole--; /* the white space behind is no loss */
        for (size_t len = 0; len < whole; len++)
            if (answer_read(s, slice_first(body, len), count, letters, complaint) != -EBADMSG)
                fail_msg("%s: the first %zu bytes are read", answers[i].name, len);
        for (int c = 0; c < 256; c++) {
            bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';

            memcpy(longer, body.ptr, body.len);
            longer[body.len] = (char)c;
            assert_int_equal(
                answer_read(s, (struct slice){longer, body.len + 1}, count, letters, complaint),
                blank ? 0 : -EBADMSG);
        }
        for (size_t other = 0; other <= count + 2; other++)
            assert_int_equal(answer_read(s, body, other, letters, complaint),
                             other == count ? 0 : -EBADMSG);
    }
}

#endif
