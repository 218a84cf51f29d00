#include "tail/copies.h"

#include "tail/follower_inner.h"
#include "tail/generation.h"
#include "tail/identity.h"
#include "util.h"

#include <string.h>
#include <unistd.h>

bool copies_fits(const struct follower *f, const struct neighbour *n, const struct source *s)
{
    struct cursor at;

    if (s->at.offset == 0 && s->id.head_len == 0)
        return false;
    if (neighbour_fits(&f->scope, n, &s->id, s->at))
        return true;

    /* It may have been shortened before it was copied: then the head is longer than all of it. */
    return n->packed == UNPACK_NONE && n->facts.size < s->id.head_len &&
           identity_find_rung(f->digest, n->fd, &s->at, &at) && at.offset == s->at.offset;
}

bool copies_is_backup(const struct follower *f, const struct neighbour *n, const struct source *s)
{
    struct cursor whole;

    return s->fd >= 0 && n->packed == UNPACK_NONE && s->packed == UNPACK_NONE &&
           identity_cursor(f->digest, n->fd, n->facts.size, &whole) == 0 &&
           identity_fits(f->digest, s->fd, &n->id, whole);
}

bool copies_is_telling(const struct follower *f, const struct source *s)
{
    struct cursor at;

    return s->fd >= 0 && s->packed == UNPACK_NONE &&
           identity_find_rung(f->digest, s->fd, &s->at, &at) && at.offset == s->at.offset;
}

bool copies_source_holds(const struct follower *f, const struct source *s)
{
    return s->fd >= 0 &&
           (s->packed != UNPACK_NONE || identity_fits(f->digest, s->fd, &s->id, s->at));
}

/* Judges by one possible original. */
static enum copies_verdict judge_by(struct follower *f, const struct neighbour *n, struct source *s)
{
    if (s == NULL || s->truncated || source_id_is_same_object(&s->id, &n->id))
        return COPIES_NONE;
    if (follower_open(f, s) < 0 && s->fd < 0) {
        int fd = open_files_search(f, &s->id, s->path); /* renamed, and that was not seen yet */

        if (fd >= 0)
            open_files_adopt(f, s, fd);
    }
    if (!copies_source_holds(f, s)) {
        /* It was truncated, and that was not noticed yet: this may be what its rest is read from. */
        if (s->fd < 0 || !copies_fits(f, n, s))
            return COPIES_NONE;
        if (follower_knows(f, &n->id)) {
            follower_have_news(f, s); /* it will see, and then take the copy over */
            return COPIES_BACKUP;
        }
        follower_stale(f, s);
        return COPIES_WAIT;
    }
    return copies_is_backup(f, n, s) ? COPIES_BACKUP : COPIES_NONE;
}

/* At the start: whether a file is a copy of one that nobody has met yet. */
static bool is_backup_of_unknown(struct follower *f, const struct neighbour *n,
                                 const struct name *base)
{
    struct source probe = {.fd = -1};
    char path[PATH_MAX];
    bool is;

    if (roster_path(base, path) < 0)
        return false;
    probe.fd = identity_open(path, f->scope.follow_symlinks);
    is = copies_is_backup(f, n, &probe);
    if (probe.fd >= 0)
        close(probe.fd);
    return is;
}

static enum copies_verdict judge_by_name(struct follower *f, const struct neighbour *n,
                                         struct name *base, struct source **ret_of)
{
    enum copies_verdict verdict = COPIES_NONE;
    struct source *originals[2];

    if (base->resting && resting_wake(f, base) == NULL)
        return COPIES_WAIT;
    if (base->source == NULL && f->starting && is_backup_of_unknown(f, n, base))
        return COPIES_WAIT;
    originals[0] = base->source;
    originals[1] = base->last;
    for (int i = 0; i < 2 && verdict == COPIES_NONE; i++) {
        *ret_of = originals[i];
        verdict = judge_by(f, n, originals[i]);
    }
    return verdict;
}

enum copies_verdict copies_judge(struct follower *f, const char *path, const struct neighbour *n,
                                 struct source **ret_of)
{
    struct name *base = follower_find_base(f, path);

    /* What a person has copied and the globs mean is a log like any other. */
    if (base == NULL || generation_is_backup(slice_of(strrchr(path, '/') + 1)))
        return COPIES_NONE;
    if (n->facts.size == 0)
        return COPIES_WAIT; /* there is nothing to read, and a copy begins so */
    return judge_by_name(f, n, base, ret_of);
}
