#include "tail/copies.h"

#include "tail/follower_inner.h"
#include "tail/identity.h"
#include "util.h"

enum { COPIES_SETTLED_S = 10 }; /* untouched for so long, it is not being made any more */

bool copies_fits(const struct follower *f, const struct neighbour *n, const struct source *s)
{
    return (s->at.offset > 0 || s->id.head_len > 0) &&
           identity_fits(f->digest, n->fd, &s->id, s->at);
}

bool copies_is_backup(const struct follower *f, const struct neighbour *n, const struct source *s)
{
    struct cursor whole;

    return s->fd >= 0 && identity_cursor(f->digest, n->fd, n->facts.size, &whole) == 0 &&
           identity_fits(f->digest, s->fd, &n->id, whole);
}

bool copies_source_holds(const struct follower *f, const struct source *s)
{
    return s->fd >= 0 && identity_fits(f->digest, s->fd, &s->id, s->at);
}

/* Judges by one possible original. */
static enum copies_verdict judge_by(struct follower *f, const struct neighbour *n, struct source *s)
{
    int64_t quiet_ns;

    if (s == NULL || n->facts.size == 0)
        return COPIES_NONE;
    (void)follower_open(f, s);
    if (!copies_source_holds(f, s)) {
        /* It was truncated, and that was not noticed yet: this may be what its rest is read from. */
        if (s->truncated || !copies_fits(f, n, s))
            return COPIES_NONE;
        follower_have_news(f, s);
        return COPIES_WAIT;
    }
    if (!copies_is_backup(f, n, s))
        return COPIES_NONE;
    quiet_ns = follower_wall_ns() - n->facts.modified_ns;
    return quiet_ns > COPIES_SETTLED_S * follower_second_ns ? COPIES_SETTLED : COPIES_WAIT;
}

enum copies_verdict copies_judge(struct follower *f, const char *path, const struct neighbour *n,
                                 struct source **ret_of)
{
    struct name *base = follower_find_base(f, path);
    enum copies_verdict verdict;

    if (base == NULL || (base->source == NULL && !base->resting && base->last == NULL))
        return COPIES_NONE;
    if (n->facts.size == 0)
        return COPIES_WAIT; /* there is nothing to read, and a copy begins so */
    if (base->resting && resting_wake(f, base) == NULL)
        return COPIES_WAIT;
    *ret_of = base->source;
    verdict = judge_by(f, n, *ret_of);
    if (verdict == COPIES_NONE) {
        *ret_of = base->last;
        verdict = judge_by(f, n, *ret_of);
    }
    return verdict;
}
