/* The structure around the tensors. A target that keeps names keeps the tree; anywhere else typed
 * scalars and opaque objects go to the ledger, empty containers and None with them as harmless.
 */
#include "convert/map_int.h"
#include "format/pytorch.h"
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

/* Are there only containers, None and tensors in the skeleton's tree, and are they the target's,
 * each once? of[]: a tensor of the target for each of the skeleton's. */
static bool tree_fits(const struct model *dst, const struct model *like, const uint32_t *of)
{
    size_t n = 0;
    for (struct node *x = like->tree; x; x = node_step(like->tree, x)) {
        if (x->kind == NODE_TENSOR && of[x->tensor] == UINT32_MAX)
            return false;
        if (x->kind != NODE_TENSOR && x->kind != NODE_NIL && x->kind != NODE_DICT &&
            x->kind != NODE_LIST && x->kind != NODE_TUPLE)
            return false;
        n += x->kind == NODE_TENSOR;
    }
    return n == dst->n_tensors;
}

/* A skeleton says which containers hold the tensors (a tuple of two dicts, say), where it holds
 * just the tensors of the target. */
static enum status tree_of_skeleton(struct mapping *m, struct err *e)
{
    struct model *dst = &m->p->dst;
    const struct model *like = m->o->like;
    if (dst->tree || !like || !like->tree || map_is_leaves(like) ||
        like->n_tensors != dst->n_tensors)
        return ST_OK;
    uint32_t *of = ARENA_ARRAY(m->tmp, uint32_t, like->n_tensors + 1);
    if (!of)
        return err_nomem(e, like->n_tensors * sizeof *of);
    for (size_t i = 0; i < like->n_tensors; i++)
        of[i] = UINT32_MAX;
    for (size_t i = 0; i < dst->n_tensors; i++) {
        int64_t k = model_find(like, dst->tensor[i].name);
        if (k >= 0)
            of[k] = (uint32_t)i;
    }
    if (!tree_fits(dst, like, of))
        return ST_OK;
    for (size_t k = 0; k < like->n_tensors; k++) /* parameters, or their plain values */
        if (of[k] != UINT32_MAX && !like->tensor[k].requires_grad)
            dst->tensor[of[k]].requires_grad = false;
    struct node *root = NULL, *copy = NULL; /* copy: of the node before x */
    for (struct node *x = like->tree, *last = NULL; x; last = x, x = node_step(like->tree, x)) {
        struct node *n = node_new(m->a, x->kind);
        if (!n)
            return err_nomem(e, sizeof *n);
        n->text = x->text;
        n->key = x->key;
        n->tensor = x->kind == NODE_TENSOR ? of[x->tensor] : 0;
        if (!last) {
            root = n;
        } else if (x->parent == last) {
            node_add(copy, n);
        } else { /* beside it, or beside one above it */
            for (; last->parent != x->parent; last = last->parent)
                copy = copy->parent;
            node_add(copy->parent, n);
        }
        copy = n;
    }
    dst->tree = root;
    return ST_OK;
}

/* A tuple, say; nodes know of such a key that it is there. */
static bool odd_key(const struct node *n)
{
    return n->key && n->key->kind == NODE_OPAQUE && str_starts(n->key->text, STR("(key "));
}

/* A scale, a size: without it the tensors beside it are not what they were. */
static bool part_of_tensor(const struct node *n)
{
    return n->parent && n->parent->kind == NODE_DICT &&
           str_starts(n->parent->text, STR("torch._utils._rebuild_"));
}

/* Where the tree comes back, they come back as tensors. */
static enum status numpy_arrays(struct mapping *m, struct err *e)
{
    struct str first = STR_NONE;
    size_t n = 0;
    for (size_t i = 0; i < m->src->n_tensors; i++)
        if (m->in[i] && str_is(m->src->tensor[i].note, PYTORCH_NUMPY) && n++ == 0)
            first = m->src->tensor[i].name;
    if (n == 0)
        return ST_OK;
    struct str why = n == 1 ? STR("that it was numpy's: an array or scalar becomes a tensor")
                            : arena_fmt(m->a,
                                        "that it and %zu more were numpy's: arrays and scalars "
                                        "become tensors",
                                        n - 1);
    return why.p ? map_ledger_drop(m, LEDGER_STRUCTURE, first, 0, true, why, e) : err_nomem(e, 64);
}

enum status map_tree(struct mapping *m, struct err *e)
{
    const struct map_opt *o = m->o;
    bool held = m->keep_tree || m->tree,
         archive = m->target && str_is(STR("archive"), m->target->name);
    struct node *root = m->tree ? m->tree : m->src->tree;
    if (!held)
        TRY(tree_of_skeleton(m, e));
    if (!root)
        return ST_OK;
    if (held) {
        m->p->dst.tree = root;
        m->p->dst.has_opaque = m->src->has_opaque;
    }
    /* carried by the target's own tree, or by the inverse beside a canonical one */
    bool carried =
        held ? !m->target || format_trains(m->target, o->folder) : m->p->dst.spelling.n > 0;
    if (held && carried && m->target && m->target->keeps_tree && m->p->dst.n_tensors)
        TRY(m->target->keeps_tree(&m->p->dst, &carried, e));
    carried = carried && !(held ? map_renamed(m) : map_upgrade_lost(m));
    if (carried)
        TRY(numpy_arrays(m, e));
    bool asked = o->weights_only || o->drop_train_state || o->select;
    for (struct node *n = root; n; n = node_step(root, n)) {
        bool harmless;
        const char *what = said(n, &harmless);
        if (odd_key(n) && !carried) {
            harmless = false;
            what = "its key, a tuple or the like, is lost";
        }
        if (!what || (n == root && n->kind != NODE_OPAQUE) ||
            (carried && (n->kind != NODE_OPAQUE || archive)))
            continue;
        if (n->kind == NODE_DICT && held && m->target && m->target->tree)
            continue; /* any tree has empty groups */
        bool version = in_versions(n);
        if (version) {
            harmless = true;
            what = "a module's version number";
        }
        if (in_opaque(n) || map_train_has(m, n))
            continue;
        bool part = what && !harmless && part_of_tensor(n);
        if (part)
            what = "a value that belongs to the tensors beside it";
        struct str path;
        TRY(node_path(root, n, m->a, &path, e));
        if (n == root)
            path = STR("(the object itself)");
        TRY(map_ledger_drop(m, version ? LEDGER_VERSION : LEDGER_STRUCTURE, path, 0,
                            harmless || (asked && !part), str_from(what), e));
    }
    return ST_OK;
}
