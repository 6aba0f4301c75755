/* The structure of an Orbax item: what stands in _METADATA (every leaf with its keys and the kind
 * of its value), _strings.json and array_metadatas; in old checkpoints the msgpack file
 * `checkpoint`, whose leaves may be PLACEHOLDER://NAME; where neither is there, the arrays' names.
 */
#include "base/log.h"
#include "format/msgpack.h"
#include "format/orbax.h"
#include "model/roles.h"
#include <stdlib.h>
#include <string.h>

#define MAX_VALUES ((size_t)1 << 24) /* in a JSON file */
#define MAX_DEPTH 200                /* keys of a leaf */

struct slot { /* a child by its parent and key */
    struct node *parent, *child;
};
struct tree {
    struct orbax_item *x;
    struct file *file;   /* _METADATA */
    struct str_of *text; /* of _strings.json, by name */
    size_t n_texts;
    struct slot *slot;
    size_t cap, used;
};
struct str_of {
    struct str name, text;
};

static enum status refuse(const struct tree *t, uint64_t at, struct str name, struct err *e,
                          const char *code, const char *why)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    if (t->file)
        err_at(e, file_path(t->file), at);
    else
        err_file(e, dir_path(t->x->dir));
    err_in(e, name.p, name.n);
    return ST_INPUT;
}

static enum status read_json(struct orbax_item *x, const char *name, struct file **f,
                             struct json_value **out, struct err *e)
{
    struct cursor c;
    TRY(orbax_file(x, str_from(name), f, e));
    cur_file(&c, *f, 0, file_size(*f));
    enum status st = json_tree(&c, x->tmp, MAX_VALUES, out, e);
    cur_close(&c);
    if (st == ST_OK && (*out)->kind != JSON_OBJECT) {
        st = err_set(e, ST_INPUT, "orbax-metadata", "no object of JSON");
        err_at(e, file_path(*f), 0);
    }
    return st;
}

/* ---- growing ---- */

static size_t slot_at(const struct tree *t, const struct node *parent, struct str key)
{
    size_t mask = t->cap - 1;
    size_t i = (size_t)str_hash(key, (uint64_t)(uintptr_t)parent) & mask;
    while (t->slot[i].child &&
           !(t->slot[i].parent == parent && str_eq(t->slot[i].child->key->text, key)))
        i = (i + 1) & mask;
    return i;
}

static enum status make_room(struct tree *t, struct err *e)
{
    struct slot *old = t->slot;
    size_t n = t->cap;
    if (t->used * 2 < t->cap)
        return ST_OK;
    t->cap = n ? n * 2 : 1024;
    t->slot = ARENA_ARRAY(t->x->tmp, struct slot, t->cap);
    if (!t->slot)
        return err_nomem(e, t->cap * sizeof *t->slot);
    for (size_t i = 0; i < n; i++)
        if (old[i].child)
            t->slot[slot_at(t, old[i].parent, old[i].child->key->text)] = old[i];
    return ST_OK;
}

static struct node *keyed(struct arena *a, enum node_kind kind, struct str key)
{
    struct node *n = node_new(a, kind);
    if (!n || !(n->key = node_new(a, NODE_STR)))
        return NULL;
    n->key->text = arena_str(a, key.p, key.n);
    return n->key->text.p ? n : NULL;
}

/* The child of that key, made where there is none. kind: of one that is made. */
static enum status child_of(struct tree *t, struct node *parent, struct str key,
                            enum node_kind kind, struct node **out, bool *made, struct err *e)
{
    TRY(make_room(t, e));
    size_t i = slot_at(t, parent, key);
    *made = t->slot[i].child == NULL;
    if (*made) {
        struct node *n = keyed(&t->x->m->arena, kind, key);
        if (!n)
            return err_nomem(e, sizeof *n);
        node_add(parent, n);
        t->slot[i] = (struct slot){parent, n};
        t->used++;
    }
    *out = t->slot[i].child;
    return ST_OK;
}

/* ---- texts ---- */

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct str_of *)a)->name, ((const struct str_of *)b)->name);
}

static enum status read_texts(struct tree *t, struct err *e)
{
    struct json_value *root;
    struct file *f;
    TRY(read_json(t->x, "_strings.json", &f, &root, e));
    t->text = ARENA_ARRAY(t->x->tmp, struct str_of, root->n + 1);
    if (!t->text)
        return err_nomem(e, root->n * sizeof *t->text);
    for (const struct json_value *v = root->child; v; v = v->next)
        if (v->kind == JSON_STRING)
            t->text[t->n_texts++] = (struct str_of){v->key, v->text};
    if (t->n_texts)
        qsort(t->text, t->n_texts, sizeof *t->text, by_name);
    return ST_OK;
}

/* ---- one leaf of _METADATA ---- */

/* Lists are sorted by number and lose their keys when all is there; until then they are dicts that
 * remember, in node.i, whether their keys are numbers (1) or names (2). */
static enum status hang(struct tree *t, const struct json_value *keys, struct node **out,
                        struct buf *name, struct err *e)
{
    struct node *at = t->x->m->tree;
    bool made = false;
    if (!keys || keys->kind != JSON_ARRAY || keys->n == 0 || keys->n > MAX_DEPTH)
        return refuse(t, keys ? keys->at : 0, STR_NONE, e, "orbax-metadata",
                      "a leaf without keys, or with too many");
    for (const struct json_value *k = keys->child; k; k = k->next) {
        const struct json_value *key = json_get(k, "key");
        uint64_t type = 0, number;
        if (!key || (key->kind != JSON_STRING && !json_value_u64(key, &number)) ||
            !json_value_u64(json_get(k, "key_type"), &type) || type < 1 || type > 2 ||
            (type == 1 && !str_u64(key->text, &number)) || memchr(key->text.p, 0, key->text.n))
            return refuse(t, k->at, STR_NONE, e, "orbax-metadata", "no key of a tree");
        if (at->kind != NODE_DICT || (at->i && at->i != (int64_t)type))
            return refuse(t, k->at, buf_as_str(name), e, "orbax-tree",
                          "a leaf that is a container too, or numbers among names");
        at->i = (int64_t)type;
        if (k != keys->child)
            buf_u8(name, '.');
        buf_str(name, key->text);
        TRY(child_of(t, at, key->text, NODE_DICT, &at, &made, e));
    }
    if (!made || at->child)
        return refuse(t, keys->at, buf_as_str(name), e, "orbax-tree", "a leaf stands twice");
    at->offset = keys->at;
    *out = at;
    return buf_ok(name, e);
}

/* Names become parts of paths in other hands. */
static bool leads_out(struct str name)
{
    struct str rest = name, part;
    bool out = name.n && name.p[0] == '/';
    while (str_split(&rest, '/', &part))
        out = out || str_is(part, "..");
    return out;
}

static enum status leaf_value(struct tree *t, struct node *n, struct str name,
                              const struct json_value *meta, struct err *e)
{
    const struct json_value *type = json_get(meta, "value_type");
    struct orbax_array *array;
    if (!type || type->kind != JSON_STRING)
        return refuse(t, n->offset, name, e, "orbax-metadata", "a leaf without a kind");
    if (leads_out(name))
        return refuse(t, n->offset, name, e, "orbax-name",
                      "a name that is a path out of its folder");
    if (str_is(type->text, "None")) {
        n->kind = NODE_NIL;
        return ST_OK;
    }
    if (str_is(type->text, "Dict") || str_is(type->text, "NamedTuple")) {
        n->i = 2; /* empty */
        return ST_OK;
    }
    if (str_is(type->text, "List") || str_is(type->text, "Tuple")) {
        n->kind = str_is(type->text, "List") ? NODE_LIST : NODE_TUPLE;
        return ST_OK;
    }
    if (str_is(type->text, "string")) {
        struct str_of want = {name, STR_NONE};
        const struct str_of *found =
            t->n_texts ? bsearch(&want, t->text, t->n_texts, sizeof want, by_name) : NULL;
        if (!found)
            return refuse(t, n->offset, name, e, "orbax-missing", "no text in _strings.json");
        n->kind = NODE_STR;
        n->text = arena_str(&t->x->m->arena, found->text.p, found->text.n);
        return n->text.p ? ST_OK : err_nomem(e, found->text.n);
    }
    array = orbax_array_named(&t->x->arrays, name);
    if (!array)
        return refuse(t, n->offset, name, e, "orbax-missing", "the store has no such array");
    if (array->used)
        return refuse(t, n->offset, name, e, "orbax-tree", "two leaves are one array");
    array->used = true;
    if (str_is(type->text, "scalar")) {
        bool is_number;
        TRY(orbax_number(t->x, array, n, &is_number, e));
        if (is_number)
            return ST_OK;
        n->text = STR(FLAX_SCALAR_MARK);
    }
    n->kind = NODE_TENSOR;
    n->tensor = (uint32_t)(array - t->x->arrays.v);
    return ST_OK;
}

/* "write_shape": what a process wrote at a time; no more than the array, of its rank. */
static enum status check_shape(const struct tree *t, const struct node *n, struct str name,
                               const struct json_value *meta, struct err *e)
{
    const struct json_value *shape = json_get(meta, "write_shape");
    size_t d = 0;
    uint64_t v;
    if (n->kind != NODE_TENSOR || !shape || shape->kind != JSON_ARRAY)
        return ST_OK;
    const struct zarr *z = &t->x->arrays.v[n->tensor].z;
    bool ok = shape->n == z->n_dims;
    for (const struct json_value *c = shape->child; ok && c; c = c->next, d++)
        ok = json_value_u64(c, &v) && v <= z->dim[d];
    return ok ? ST_OK
              : refuse(t, shape->at, name, e, "orbax-shape",
                       "_METADATA writes pieces that the array's shape cannot hold");
}

static enum status from_metadata(struct tree *t, const struct json_value *root, struct err *e)
{
    const struct json_value *all = json_get(root, "tree_metadata");
    const struct json_value *stored = json_get(root, "store_array_data_equal_to_fill_value");
    t->x->complete = stored && stored->kind == JSON_BOOL && stored->truth;
    if (!all || all->kind != JSON_OBJECT)
        return refuse(t, root->at, STR_NONE, e, "orbax-metadata", "_METADATA lists no leaves");
    for (const struct json_value *v = all->child; v; v = v->next) {
        struct buf name = BUF_INIT;
        struct node *n = NULL;
        const struct json_value *meta = json_get(v, "value_metadata");
        enum status st = hang(t, json_get(v, "key_metadata"), &n, &name, e);
        if (st == ST_OK)
            st = leaf_value(t, n, buf_as_str(&name), meta, e);
        if (st == ST_OK)
            st = check_shape(t, n, buf_as_str(&name), meta, e);
        buf_free(&name);
        TRY(st);
    }
    return ST_OK;
}

/* ---- lists ---- */

static int by_number(const void *pa, const void *pb)
{
    const struct node *a = *(const struct node *const *)pa, *b = *(const struct node *const *)pb;
    uint64_t x = 0, y = 0;
    (void)(str_u64(a->key->text, &x) && str_u64(b->key->text, &y));
    return x < y ? -1 : x > y;
}

static enum status sort_list(struct tree *t, struct node *list, struct err *e)
{
    size_t n = (size_t)list->n_children;
    struct node **v = ARENA_ARRAY(t->x->tmp, struct node *, n + 1);
    uint64_t number;
    if (!v)
        return err_nomem(e, n * sizeof *v);
    n = 0;
    for (struct node *c = list->child; c; c = c->next)
        v[n++] = c;
    qsort(v, n, sizeof *v, by_number);
    list->child = list->last = NULL;
    list->n_children = 0;
    list->kind = NODE_LIST;
    for (size_t i = 0; i < n; i++) {
        if (!str_u64(v[i]->key->text, &number) || number != i)
            return refuse(t, v[i]->offset, v[i]->key->text, e, "orbax-tree",
                          "a list lacks an element");
        v[i]->key = NULL;
        node_add(list, v[i]);
    }
    return ST_OK;
}

static enum status sort_lists(struct tree *t, struct err *e)
{
    struct node *root = t->x->m->tree;
    for (struct node *n = root; n; n = node_step(root, n)) {
        if (n->kind != NODE_DICT)
            continue; /* what n.i is depends on the kind */
        if (n->i == 1)
            TRY(sort_list(t, n, e));
        n->i = 0;
    }
    return ST_OK;
}

/* ---- tensors ---- */

static enum status name_tensors(struct tree *t, struct err *e)
{
    struct seg seg[MAX_DEPTH + 1];
    uint64_t index[MAX_DEPTH + 1];
    size_t depth = 0;
    struct model *m = t->x->m;
    struct node *n = m->tree;
    for (;;) {
        if (n->child) {
            index[depth++] = 0;
            n = n->child;
        } else {
            while (n != m->tree && !n->next) {
                n = n->parent;
                depth--;
            }
            if (n == m->tree)
                return ST_OK;
            n = n->next;
            index[depth - 1]++;
        }
        struct seg *s = &seg[depth - 1];
        *s = (struct seg){.kind = n->key ? SEG_KEY : SEG_INDEX, .index = index[depth - 1]};
        s->key = n->key ? n->key->text : arena_fmt(t->x->tmp, "%llu", (unsigned long long)s->index);
        if (!s->key.p)
            return err_nomem(e, 24);
        if (n->kind == NODE_TENSOR) {
            struct path path = {seg, depth};
            struct str name;
            TRY(path_print(&path, &m->arena, &name, e));
            TRY(orbax_tensor(t->x, &t->x->arrays.v[n->tensor], name, &n->tensor, e));
        }
    }
}

/* ---- the old file `checkpoint` ---- */

static enum status old_text(void *ctx, struct node *n, struct str path, struct err *e)
{
    struct tree *t = ctx;
    static const char mark[] = "PLACEHOLDER://";
    if (!str_starts(n->text, STR(mark)))
        return ST_OK;
    struct str name = str_sub(n->text, sizeof mark - 1, n->text.n);
    struct orbax_array *a = orbax_array_named(&t->x->arrays, name);
    if (leads_out(name))
        return refuse(t, n->offset, name, e, "orbax-name",
                      "a name that is a path out of its folder");
    if (!a)
        return refuse(t, n->offset, name, e, "orbax-missing", "the store has no such array");
    if (a->used)
        return refuse(t, n->offset, name, e, "orbax-tree", "two leaves are one array");
    n->kind = NODE_TENSOR;
    n->text = STR_NONE;
    return orbax_tensor(t->x, a, path, &n->tensor, e);
}

/* ---- names alone ---- */

static enum status from_names(struct tree *t, struct err *e)
{
    for (size_t i = 0; i < t->x->arrays.n; i++) {
        struct orbax_array *a = &t->x->arrays.v[i];
        uint32_t index;
        if (leads_out(a->name))
            return refuse(t, 0, a->name, e, "orbax-name",
                          "a name that is a path out of its folder");
        TRY(orbax_tensor(t->x, a, a->name, &index, e));
    }
    return ST_OK;
}

/* ---- PRNG keys ---- */

/* array_metadatas/process_N says which arrays are keys, and of which kind. leaf: by array. */
static enum status mark_keys(struct tree *t, const struct json_value *root, struct node **leaf,
                             struct err *e)
{
    const struct json_value *all = json_get(root, "array_metadatas");
    for (const struct json_value *v = all ? all->child : NULL; v; v = v->next) {
        const struct json_value *one = json_get(v, "array_metadata");
        const struct json_value *name = json_get(one, "param_name");
        const struct json_value *kind = json_get(json_get(one, "ext_metadata"), "random_key_impl");
        if (!kind || kind->kind != JSON_STRING || !name || name->kind != JSON_STRING)
            continue;
        const struct orbax_array *a = orbax_array_named(&t->x->arrays, name->text);
        struct node *n = a ? leaf[a - t->x->arrays.v] : NULL;
        bool numbers =
            a && a->z.n_dims && (str_is(a->z.dtype, "<u4") || str_is(a->z.dtype, "uint32"));
        if (!n || !numbers)
            continue;
        n->text = arena_fmt(&t->x->m->arena, ORBAX_KEY_MARK "%.*s", STR_ARG(kind->text));
        if (!n->text.p)
            return err_nomem(e, 64);
    }
    return ST_OK;
}

static enum status find_keys(struct tree *t, struct err *e)
{
    struct dir_entry *entry;
    struct dir *d;
    struct node *root = t->x->m->tree;
    size_t n;
    if (!orbax_has(t->x, "array_metadatas"))
        return ST_OK;
    struct node **leaf = ARENA_ARRAY(t->x->tmp, struct node *, t->x->arrays.n + 1);
    if (!leaf)
        return err_nomem(e, t->x->arrays.n * sizeof *leaf);
    for (struct node *k = root; k; k = node_step(root, k))
        if (k->kind == NODE_TENSOR)
            leaf[k->tensor] = k;
    TRY(dir_sub(t->x->dir, STR("array_metadatas"), &d, e));
    enum status st = dir_list(d, t->x->tmp, &entry, &n, e);
    dir_close(d);
    TRY(st);
    for (size_t i = 0; i < n; i++) {
        struct json_value *json;
        struct file *f;
        struct str path = arena_fmt(t->x->tmp, "array_metadatas/%.*s", STR_ARG(entry[i].name));
        if (!path.p)
            return err_nomem(e, 64);
        if (entry[i].is_dir || !str_starts(entry[i].name, STR("process_")))
            continue;
        TRY(read_json(t->x, path.p, &f, &json, e));
        TRY(mark_keys(t, json, leaf, e));
    }
    return ST_OK;
}

static enum status grow(struct tree *t, struct err *e)
{
    struct orbax_item *x = t->x;
    struct json_value *root;
    if (orbax_has(x, "_METADATA")) {
        TRY(read_json(x, "_METADATA", &t->file, &root, e));
        if (orbax_has(x, "_strings.json"))
            TRY(read_texts(t, e));
        x->m->tree = node_new(&x->m->arena, NODE_DICT);
        if (!x->m->tree)
            return err_nomem(e, sizeof *x->m->tree);
        TRY(from_metadata(t, root, e));
        TRY(sort_lists(t, e));
        TRY(find_keys(t, e));
        return name_tensors(t, e);
    }
    if (orbax_has(x, "checkpoint")) {
        struct flax_leaves leaves = {t, old_text};
        TRY(orbax_file(x, STR("checkpoint"), &t->file, e));
        return flax_tree(x->m, t->file, &leaves, e);
    }
    return from_names(t, e);
}

enum status orbax_tree(struct orbax_item *x, struct err *e)
{
    struct tree t = {.x = x};
    TRY(grow(&t, e));
    for (size_t i = 0; i < x->arrays.n; i++)
        if (!x->arrays.v[i].used)
            log_warn("%s: array '%.*s' is in the store but not in the tree: left aside",
                     dir_path(x->dir), STR_ARG(x->arrays.v[i].name));
    TRY(model_finish(x->m, e));
    x->m->framework = flax_is_nnx(x->m) ? STR("nnx") : STR("flax");
    return roles_by_name(x->m, e);
}
