/* The structure around the tensors. A target that keeps names keeps the tree; anywhere else typed
 * scalars and opaque objects go to the ledger, empty containers and None with them as harmless.
 */
#include "convert/map_int.h"
#include <string.h>

/* Path text of a node, from the keys above it. */
static enum status node_path(const struct node *root, const struct node *n, struct arena *a,
                             struct str *out, struct err *e)
{
    const struct node *chain[64];
    size_t k = 0;
    for (; n && n != root && k < 64; n = n->parent)
        chain[k++] = n;
    *out = STR("");
    while (k-- > 0) {
        struct str seg = STR("?");
        if (chain[k]->key &&
            (chain[k]->key->kind == NODE_STR || chain[k]->key->kind == NODE_OPAQUE)) {
            seg = chain[k]->key->text;
        } else if (chain[k]->key) {
            seg = arena_fmt(a, "%lld", (long long)chain[k]->key->i);
        } else if (chain[k]->parent) {
            size_t i = 0;
            for (const struct node *c = chain[k]->parent->child; c && c != chain[k]; c = c->next)
                i++;
            seg = arena_fmt(a, "%zu", i);
        }
        TRY(path_join(*out, seg, a, out, e));
    }
    return ST_OK;
}

static const char *said(const struct node *n, bool *harmless)
{
    *harmless = false;
    switch (n->kind) {
    case NODE_TENSOR:
        return NULL;
    case NODE_NIL:
        *harmless = true;
        return "None";
    case NODE_DICT:
    case NODE_LIST:
    case NODE_TUPLE:
    case NODE_SET:
        *harmless = true;
        return n->n_children ? NULL : "an empty container";
    case NODE_OPAQUE:
        return "a foreign object";
    case NODE_BOOL:
    case NODE_INT:
    case NODE_BIGINT:
    case NODE_FLOAT:
    case NODE_COMPLEX:
    case NODE_STR:
    case NODE_BYTES:
    case NODE_DTYPE:
        break;
    }
    return "a value";
}

/* Below the attribute _metadata of a state_dict stand the modules' version numbers: they say how to
 * read old files of their own framework, nothing that another format could keep or miss. */
static bool in_versions(const struct node *n)
{
    for (; n; n = n->parent)
        if (n->key && n->key->kind == NODE_OPAQUE && str_is(n->key->text, "_metadata"))
            return true;
    return false;
}

/* Parts of an opaque object go with it: one line for the whole. */
static bool in_opaque(const struct node *n)
{
    for (n = n->parent; n; n = n->parent)
        if (n->kind == NODE_OPAQUE)
            return true;
    return false;
}

enum status map_tree(struct mapping *m, struct err *e)
{
    const struct map_opt *o = m->o;
    bool held = m->keep_tree || m->tree,
         archive = m->target && str_is(STR("archive"), m->target->name);
    struct node *root = m->tree ? m->tree : m->src->tree;
    if (!root)
        return ST_OK;
    if (held) {
        m->p->dst.tree = root;
        m->p->dst.has_opaque = m->src->has_opaque;
    }
    /* carried by the target's own tree, or by the inverse beside a canonical one */
    bool carried = held ? !m->target || m->target->trains : m->p->dst.spelling.n > 0;
    carried = carried && !map_renamed(m);
    bool asked = o->weights_only || o->drop_train_state || o->select;
    for (struct node *n = root; n; n = node_step(root, n)) {
        bool harmless;
        const char *what = said(n, &harmless);
        if (!what || (n == root && n->kind != NODE_OPAQUE) ||
            (carried && (n->kind != NODE_OPAQUE || archive)))
            continue;
        if (n->kind == NODE_DICT && held && m->target && m->target->tree)
            continue; /* any tree has empty groups */
        if (in_versions(n)) {
            harmless = true;
            what = "a module's version number";
        }
        if (in_opaque(n) || map_train_has(m, n))
            continue;
        struct str path;
        TRY(node_path(root, n, m->a, &path, e));
        if (n == root)
            path = STR("(the object itself)");
        TRY(map_ledger_drop(m, LEDGER_STRUCTURE, path, 0, harmless || asked, str_from(what), e));
    }
    return ST_OK;
}
