/* See tree.h. */
#include "model/tree.h"

struct node *node_new(struct arena *a, enum node_kind kind)
{
    struct node *n = ARENA_NEW(a, struct node);
    if (n)
        n->kind = kind;
    return n;
}

void node_add(struct node *parent, struct node *child)
{
    child->parent = parent;
    child->next = NULL;
    if (parent->last)
        parent->last->next = child;
    else
        parent->child = child;
    parent->last = child;
    parent->n_children++;
}

struct node *node_step(const struct node *root, struct node *n)
{
    if (n->child)
        return n->child;
    while (n != root) {
        if (n->next)
            return n->next;
        n = n->parent;
    }
    return NULL;
}

struct node *node_get(const struct node *dict, struct str key)
{
    for (struct node *c = dict ? dict->child : NULL; c; c = c->next)
        if (c->key && c->key->kind == NODE_STR && str_eq(c->key->text, key))
            return c;
    return NULL;
}
