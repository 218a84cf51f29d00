#include "keep/ledger.h"

#include "util.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static struct extent *extent_of(struct list *node)
{
    return CONTAINER_OF(node, struct extent, node);
}

int ledger_pool_init(struct ledger_pool *p, size_t count)
{
    list_init(&p->free);
    p->extents = calloc(count, sizeof(*p->extents));
    if (p->extents == NULL)
        return -ENOMEM;
    p->used = 0;
    p->count = count;
    return 0;
}

void ledger_pool_done(struct ledger_pool *p)
{
    free(p->extents);
    *p = (struct ledger_pool){0};
}

void ledger_init(struct ledger *l, struct cursor start, void *owner)
{
    list_init(&l->extents);
    l->settled = start;
    l->owner = owner;
}

bool ledger_is_empty(const struct ledger *l)
{
    return list_is_empty(&l->extents);
}

/* Where the row ends so far. */
static struct cursor ledger_end(const struct ledger *l)
{
    return ledger_is_empty(l) ? l->settled : extent_of(l->extents.prev)->end;
}

struct extent *ledger_extent(struct ledger *l, struct ledger_pool *p, uint64_t fill)
{
    struct extent *e;

    if (!ledger_is_empty(l)) {
        e = extent_of(l->extents.prev);
        if (e->fill == fill)
            return e;
    }
    if (!list_is_empty(&p->free)) {
        e = extent_of(list_take(&p->free));
    } else {
        assert(p->used < p->count); /* invariant 4 */
        e = &p->extents[p->used++];
        list_init(&e->node);
    }
    e->ledger = l;
    e->end = ledger_end(l);
    e->fill = fill;
    e->partner = NULL;
    e->waiting = e->leaving = 0;
    e->told = false;
    list_append(&l->extents, &e->node);
    return e;
}

bool ledger_advance(struct ledger *l, struct cursor end)
{
    assert(end.offset >= ledger_end(l).offset);
    if (!ledger_is_empty(l)) {
        extent_of(l->extents.prev)->end = end;
        return false;
    }
    if (end.offset == l->settled.offset)
        return false;
    l->settled = end;
    return true;
}

bool ledger_back(struct ledger *l, struct cursor to)
{
    if (!ledger_is_empty(l)) {
        extent_of(l->extents.prev)->end = to;
        return false;
    }
    l->settled = to;
    return true;
}

void extent_leaves(struct extent *e, uint32_t count)
{
    for (; e != NULL; e = e->partner, count = 1) {
        e->leaving += count;
        assert(e->leaving <= e->waiting);
        if (e->leaving < e->waiting || e->partner == NULL)
            return;
        e->told = true;
    }
}

void extent_stays(struct extent *e, uint32_t count)
{
    for (bool told = true; e != NULL && told; e = e->partner, count = 1) {
        assert(count <= e->leaving);
        e->leaving -= count;
        told = e->told;
        e->told = false;
    }
}

struct cursor ledger_foretell(const struct ledger *l)
{
    struct cursor at = l->settled;

    for (const struct list *n = l->extents.next; n != &l->extents; n = n->next) {
        const struct extent *e = CONTAINER_OF(n, struct extent, node);

        if (e->leaving < e->waiting)
            break;
        at = e->end;
    }
    return at;
}

bool ledger_settle(struct ledger_pool *p, struct extent *e, uint32_t count)
{
    struct ledger *l = e->ledger;
    bool first = l->extents.next == &e->node, moved = false;

    assert(count <= e->waiting);
    e->waiting -= count;
    if (e->waiting > 0)
        return false;
    if (first) {
        moved = e->end.offset != l->settled.offset || e->end.anchor != l->settled.anchor;
        l->settled = e->end;
    } else {
        extent_of(e->node.prev)->end = e->end;
    }
    list_remove(&e->node);
    list_append(&p->free, &e->node);
    return moved;
}
