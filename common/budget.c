#include "budget.h"

#include "util.h"

#include <assert.h>

void budget_init(struct budget *b, uint64_t limit)
{
    *b = (struct budget){.limit = limit};
    list_init(&b->users);
}

void budget_join(struct budget *b, struct budget_user *u)
{
    u->used = 0;
    u->waits = false;
    list_init(&u->node);
    list_append(&b->users, &u->node);
    b->user_count++;
}

void budget_leave(struct budget *b, struct budget_user *u)
{
    u->waits = false;
    budget_give(b, u, u->used);
    list_remove(&u->node);
    b->user_count--;
}

static bool budget_has(const struct budget *b, const struct budget_user *u, uint64_t bytes)
{
    uint64_t share = b->limit / b->user_count;
    uint64_t limit = u->used + bytes <= share ? b->limit : b->limit - b->limit / 4;

    /* Alone there is nobody to leave something for. */
    if (b->user_count == 1)
        limit = b->limit;
    return b->used <= limit && bytes <= limit - b->used;
}

bool budget_take(struct budget *b, struct budget_user *u, uint64_t bytes)
{
    if (!budget_has(b, u, bytes)) {
        LIST_EACH(&b->users, node, after)
        {
            struct budget_user *other = CONTAINER_OF(node, struct budget_user, node);

            other->squeeze(other);
        }
        if (!budget_has(b, u, bytes)) {
            u->waits = true;
            return false;
        }
    }
    b->used += bytes;
    u->used += bytes;
    u->waits = false;
    return true;
}

static void budget_tell(struct budget *b)
{
    LIST_EACH(&b->users, node, after)
    {
        struct budget_user *other = CONTAINER_OF(node, struct budget_user, node);

        if (!other->waits)
            continue;
        other->waits = false;
        other->room(other);
    }
}

void budget_give(struct budget *b, struct budget_user *u, uint64_t bytes)
{
    assert(bytes <= u->used);
    if (bytes == 0)
        return;
    u->used -= bytes;
    b->used -= bytes;
    budget_tell(b);
}

void budget_set_limit(struct budget *b, uint64_t limit)
{
    bool rose = limit > b->limit;

    b->limit = limit;
    if (rose)
        budget_tell(b);
}
