/* list -- a ring of nodes that live inside what they link.
 *
 *   1. A node is in one list, or alone (pointing at itself).
 *   2. Removing a lone node is fine; nothing here fails or allocates. */
#ifndef LIST_H
#define LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}

/* Puts `node` (alone) at the end of `l`. */
static inline void list_append(struct list *l, struct list *node)
{
    node->prev = l->prev;
    node->next = l;
    l->prev->next = node;
    l->prev = node;
}

/* Takes `node` out of whatever list it is in; it is alone afterwards. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* The first node taken out, or NULL. */
static inline struct list *list_take(struct list *l)
{
    struct list *node = l->next;

    if (node == l)
        return NULL;
    list_remove(node);
    return node;
}

/* Walks `l` with new variables `node` and `after`; the current node may be removed on the way (`after` remembers the next one). */
/* NOLINTBEGIN(bugprone-macro-parentheses): names that are declared take no parentheses. */
#define LIST_EACH(l, node, after)                                                                  \
    for (struct list *node = (l)->next, *after = node->next; node != (l);                          \
         node = after, after = node->next)
/* NOLINTEND(bugprone-macro-parentheses) */

#endif
