/* From the pickle's values to model.tree and the tensors in it. Names: keys joined with '.', a dot
 * inside a key escaped; places of lists and tuples in decimal; optimizer states are dicts of their
 * fields here. The walk is iterative; its stack is as deep as the pickle's proof allows.
 */
#include "base/log.h"
#include "base/mem.h"
#include "format/haiku.h"
#include "format/pickle_value.h"
#include <string.h>

#define TEXT_MAX ((uint64_t)8 << 20) /* of a value that is no array */
#define NAME_MAX_BYTES 65535u

/* What is left to visit of one container. */
struct run {
    uint32_t cell; /* next cell */
    bool pairs;
};
struct frame {
    struct node *node;
    struct str path; /* .p == NULL at the top */
    struct run run[4];
    uint8_t n_runs, at;
    uint64_t index;
    const char *fields; /* names of the items, split by blanks; NULL: their numbers */
};
struct walk {
    struct hk_reader *r;
    struct frame *stack;
    size_t n, cap;
};

static enum status new_node(struct hk_reader *r, enum node_kind kind, uint32_t v, struct node **out,
                            struct err *e)
{
    return pickle_node(&r->pk, r->m, &r->n_nodes, kind, v, out, e);
}

/* The text of a string or of bytes that are no array, wherever it is. */
static enum status text_of(struct hk_reader *r, uint32_t v, struct str *out, struct err *e)
{
    struct pk_far far;
    struct str s = STR_NONE;
    size_t where;
    TRY(haiku_bytes(r, v, &s, &far, e));
    if (!s.p && !pk_far(&r->pk, v, &far) && far.spelling == PK_NEAR)
        return pickle_fail(&r->pk, v, "pickle-type", e, "a text that is none");
    if (s.p) {
        *out = arena_str(&r->m->arena, s.p, s.n);
        return out->p ? ST_OK : err_nomem(e, s.n);
    }
    if (far.bytes > TEXT_MAX || (far.spelling != PK_RAW && far.spelling != PK_UTF8))
        return pickle_fail(&r->pk, v, "pickle-length", e,
                           "a text of %llu bytes that belongs to no array",
                           (unsigned long long)far.bytes);
    char *t = arena_alloc(&r->m->arena, (size_t)far.bytes + 1, 1);
    if (!t)
        return err_nomem(e, far.bytes);
    TRY(file_pread(r->file, t, (size_t)far.bytes, far.offset, e));
    *out = (struct str){t, (size_t)far.bytes};
    if (pk_kind(&r->pk, v) == PK_STR && !str_utf8(*out, &where))
        return pickle_fail(&r->pk, v, "pickle-utf8", e, "text is not UTF-8");
    return ST_OK;
}

/* complex(re, im), bytes in one of their spellings, numpy.dtype: NULL when they are not plain. */
static enum status small_call(struct hk_reader *r, uint32_t v, struct node **out, struct err *e)
{
    const struct pickle *p = &r->pk;
    uint32_t args = pk_at(p, v)->call.args, n = pk_count(p, args);
    uint32_t a = pk_elem(p, args, 0), b = pk_elem(p, args, 1);
    switch (pk_call_tag(p, v)) {
    case HK_COMPLEX:
        if (n != 2 || pk_kind(p, a) != PK_FLOAT || pk_kind(p, b) != PK_FLOAT)
            return ST_OK;
        TRY(new_node(r, NODE_COMPLEX, v, out, e));
        (*out)->bits[0] = pk_at(p, a)->bits;
        (*out)->bits[1] = pk_at(p, b)->bits;
        return ST_OK;
    case HK_ENCODE:
    case HK_BYTES:
    case HK_BYTEARRAY: {
        struct str s;
        struct pk_far far;
        TRY(haiku_bytes(r, v, &s, &far, e));
        if (!s.p)
            return ST_OK;
        TRY(new_node(r, NODE_BYTES, v, out, e));
        (*out)->text = arena_str(&r->m->arena, s.p, s.n);
        return (*out)->text.p ? ST_OK : err_nomem(e, s.n);
    }
    case HK_DTYPE: {
        enum dtype t;
        bool big, object;
        uint64_t item;
        TRY(haiku_dtype(r, v, &t, &big, &item, &object, e));
        if (t == DT_NONE || big)
            return ST_OK;
        TRY(new_node(r, NODE_DTYPE, v, out, e));
        (*out)->text = str_from(dtype_info(t)->name);
        return ST_OK;
    }
    default:
        return ST_OK;
    }
}

/* A value that is no container; *out stays NULL when it is one. */
static enum status scalar(struct hk_reader *r, uint32_t v, struct node **out, struct err *e)
{
    const struct pickle *p = &r->pk;
    const struct pk_val *x = pk_at(p, v);
    static const enum node_kind plain[] = {
        [PK_NONE] = NODE_NIL,    [PK_BOOL] = NODE_BOOL,      [PK_INT] = NODE_INT,
        [PK_LONG] = NODE_BIGINT, [PK_FLOAT] = NODE_FLOAT,    [PK_STR] = NODE_STR,
        [PK_BYTES] = NODE_BYTES, [PK_BYTEARRAY] = NODE_BYTES};
    *out = NULL;
    if (x->kind <= PK_BYTEARRAY) {
        TRY(new_node(r, plain[x->kind], v, out, e));
        if (x->kind == PK_LONG)
            return pickle_decimal(&r->m->arena, pk_text(p, v), &(*out)->text, e);
        if (x->kind == PK_BOOL || x->kind == PK_INT)
            (*out)->i = x->i;
        if (x->kind == PK_FLOAT)
            (*out)->bits[0] = x->bits;
        return x->kind >= PK_STR ? text_of(r, v, &(*out)->text, e) : ST_OK;
    }
    if (x->kind == PK_GLOBAL) {
        int tag = pk_tag(p, v);
        bool type = tag > HK_TYPE && tag < HK_TYPE + DT_COUNT;
        TRY(new_node(r, type ? NODE_DTYPE : NODE_OPAQUE, v, out, e));
        (*out)->text = type ? str_from(dtype_info((enum dtype)(tag - HK_TYPE))->name)
                            : pickle_global_name(&r->pk, &r->m->arena, v);
        r->m->has_opaque = r->m->has_opaque || !type;
        return (*out)->text.p ? ST_OK : err_nomem(e, 64);
    }
    if (x->kind == PK_CALL)
        return small_call(r, v, out, e);
    if (x->kind == PK_PERSID)
        return pickle_fail(p, v, "pickle-persid", e, "a reference to something outside the file");
    return ST_OK;
}

static enum status join(struct hk_reader *r, struct str path, struct str segment, struct str *out,
                        struct err *e)
{
    struct str seg;
    if (segment.n + path.n >= NAME_MAX_BYTES)
        return err_set(e, ST_INPUT, "bad-name", "a name of more than %u bytes", NAME_MAX_BYTES);
    TRY(path_join(STR_NONE, segment, &r->m->arena, &seg, e));
    *out = path.p ? arena_fmt(&r->m->arena, "%.*s.%.*s", STR_ARG(path), STR_ARG(seg)) : seg;
    return out->p ? ST_OK : err_nomem(e, path.n + seg.n);
}

static enum status add_tensor(struct hk_reader *r, uint32_t v, const struct hk_array *a,
                              struct str path, struct node **out, struct err *e)
{
    struct model *m = r->m;
    struct tensor *t;
    struct view view;
    uint32_t storage = 0;
    int64_t stride[VIEW_MAX_AXES], step = 1;
    TRY(new_node(r, NODE_TENSOR, v, out, e));
    TRY(haiku_storage(r, v, a, &storage, e));
    TRY(model_tensor_add(m, &t, e));
    t->name = path.p ? path : STR("arr_0");
    t->dtype = a->dtype;
    t->storage = storage;
    t->order = m->n_tensors - 1;
    t->requires_grad = true;
    t->unpacked = dtype_info(a->dtype)->bits < 8;
    t->offset = r->pk.base + pk_at(&r->pk, v)->at;
    t->decl = m->file[0];
    (*out)->tensor = (uint32_t)(m->n_tensors - 1);
    if (a->scalar)
        (*out)->text = STR(HAIKU_SCALAR_MARK);
    if (!a->fortran || m->storage[storage].raw_bytes == 0)
        return tensor_set_shape(m, t, a->dim, a->n_dims, e);
    for (uint32_t i = 0; i < a->n_dims; i++) {
        stride[i] = step;
        step *= (int64_t)a->dim[i]; /* the product is proven */
    }
    TRY(view_strided(&view, a->dim, stride, a->n_dims, 0, e));
    return tensor_set_view(m, t, &view, e);
}

/* ---- containers ---- */

static enum status push(struct walk *w, const struct frame *f, struct err *e)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        struct frame *p = mem_resize(w->stack, cap * sizeof *p);
        if (!p)
            return err_nomem(e, cap * sizeof *p);
        w->stack = p;
        w->cap = cap;
    }
    w->stack[w->n++] = *f;
    return ST_OK;
}
static void add_run(struct frame *f, uint32_t cell, bool pairs)
{
    if (cell)
        f->run[f->n_runs++] = (struct run){cell, pairs};
}
static uint32_t head(const struct pickle *p, uint32_t v)
{
    return pk_count(p, v) ? pk_at(p, v)->seq.head : 0;
}

/* A class around the dict it holds (FlatMapping), or filled afterwards (OrderedDict). */
static enum status dict_frame(struct hk_reader *r, uint32_t v, struct frame *f, struct err *e)
{
    const struct pickle *p = &r->pk;
    uint32_t first = pk_elem(p, pk_at(p, v)->call.args, 0);
    enum pk_kind k = first ? pk_kind(p, first) : PK_NONE;
    struct pk_more more = pk_more(p, v);
    TRY(new_node(r, NODE_DICT, v, &f->node, e));
    f->node->text = pickle_global_name(&r->pk, &r->m->arena, pk_at(p, v)->call.fn);
    if (!f->node->text.p)
        return err_nomem(e, 64);
    bool pairs_given = (k == PK_LIST || k == PK_TUPLE) && pk_count(p, first) > 0;
    if (pairs_given || more.items.head ||
        (k != PK_DICT && k != PK_NONE && k != PK_GLOBAL && k != PK_LIST && k != PK_TUPLE))
        return pickle_fail(p, v, "haiku-mapping", e, "a mapping made from something odd");
    if (k == PK_DICT)
        add_run(f, head(p, first), true);
    add_run(f, more.pairs.head, true);
    return ST_OK;
}

/* A FlatMapping holds a dict, or another mapping. *inner: the call whose dict it is. */
static enum status mapping(struct hk_reader *r, uint32_t v, struct frame *f, struct err *e)
{
    const struct pickle *p = &r->pk;
    uint32_t args = pk_at(p, v)->call.args, first = pk_elem(p, args, 0);
    uint32_t outer = v;
    while (pk_count(p, args) == 1 && pk_call_tag(p, first) == HK_MAPPING) {
        v = first; /* as deep as the proof allows, each level once */
        args = pk_at(p, v)->call.args;
        first = pk_elem(p, args, 0);
    }
    if (pk_count(p, args) > 1)
        return pickle_fail(p, outer, "haiku-mapping", e, "a mapping made from %u arguments",
                           pk_count(p, args));
    return dict_frame(r, v, f, e);
}

static size_t n_fields(const char *fields)
{
    size_t n = *fields != 0;
    for (; *fields; fields++)
        n += *fields == ' ';
    return n;
}
static struct str field(const char *fields, uint64_t i)
{
    struct str rest = str_from(fields), part = STR("");
    for (uint64_t k = 0; k <= i && str_split(&rest, ' ', &part); k++)
        ;
    return part;
}

/* A named tuple of optax: NEWOBJ with its items, or what protocol 0 and 1 make of that. *items is 0
 * when it is none, or has other fields than we know. */
static const struct hk_named *named(const struct pickle *p, uint32_t v, uint32_t *items)
{
    uint32_t args = pk_at(p, v)->call.args, class = pk_at(p, v)->call.fn;
    *items = args;
    if (pk_call_tag(p, v) == HK_RECONSTRUCTOR && pk_tag(p, pk_elem(p, args, 1)) == HK_TUPLE) {
        class = pk_elem(p, args, 0);
        *items = pk_elem(p, args, 2);
    }
    int tag = class ? pk_tag(p, class) : -1;
    struct pk_more more = pk_more(p, v);
    if (tag < HK_NAMED || pk_kind(p, *items) != PK_TUPLE || more.kwargs || more.items.head ||
        more.pairs.head)
        return NULL;
    const struct hk_named *n = &haiku_named[tag - HK_NAMED];
    return pk_count(p, *items) == n_fields(n->fields) ? n : NULL;
}

/* An object of a class that is none of ours: its parts are data. */
static enum status opaque_frame(struct hk_reader *r, uint32_t v, struct frame *f, struct err *e)
{
    const struct pickle *p = &r->pk;
    uint32_t fn = pk_at(p, v)->call.fn, args = pk_at(p, v)->call.args;
    struct pk_more more = pk_more(p, v);
    if (pk_tag(p, fn) == HK_RECONSTRUCTOR && pk_kind(p, pk_elem(p, args, 0)) == PK_GLOBAL) {
        fn = pk_elem(p, args, 0);
        args = pk_elem(p, args, 2);
    }
    TRY(new_node(r, NODE_OPAQUE, v, &f->node, e));
    f->node->text = pickle_global_name(&r->pk, &r->m->arena, fn);
    if (!f->node->text.p)
        return err_nomem(e, 64);
    r->m->has_opaque = true;
    uint32_t state = more.state;
    if (pk_kind(p, state) == PK_TUPLE && pk_count(p, state) == 2 &&
        pk_kind(p, pk_elem(p, state, 0)) == PK_DICT)
        state = pk_elem(p, state, 0);
    add_run(f, args ? head(p, args) : 0, false);
    add_run(f, more.items.head, false);
    add_run(f, more.pairs.head, true);
    add_run(f, state ? head(p, state) : 0, pk_kind(p, state) == PK_DICT);
    return ST_OK;
}

static enum status instance(struct hk_reader *r, uint32_t v, struct frame *f, struct err *e)
{
    const struct pickle *p = &r->pk;
    struct pk_more more = pk_more(p, v);
    uint32_t items = 0, first = pk_elem(p, pk_at(p, v)->call.args, 0);
    bool bare = !more.state && !more.items.head && !more.pairs.head;
    const struct hk_named *n = named(p, v, &items);
    if (n) {
        TRY(new_node(r, NODE_DICT, v, &f->node, e));
        f->node->text = arena_fmt(&r->m->arena, "%s.%s", n->module, n->name);
        f->fields = n->fields;
        add_run(f, head(p, items), false);
        return f->node->text.p ? ST_OK : err_nomem(e, 64);
    }
    switch (pk_call_tag(p, v)) {
    case HK_JOBLIB_FILES:
        return pickle_fail(p, v, "joblib-files", e,
                           "an array in a file of its own, as joblib wrote before 0.10");
    case HK_MAPPING:
        return mapping(r, v, f, e);
    case HK_DICT:
        return dict_frame(r, v, f, e);
    case HK_SET:
        if (!bare || (first && (pk_kind(p, first) < PK_TUPLE || pk_kind(p, first) > PK_SET)))
            break;
        TRY(new_node(r, NODE_SET, v, &f->node, e));
        add_run(f, first ? head(p, first) : 0, false);
        return ST_OK;
    default:
        break;
    }
    return opaque_frame(r, v, f, e);
}

static enum status container(struct hk_reader *r, uint32_t v, struct frame *f, struct err *e)
{
    const struct pickle *p = &r->pk;
    static const enum node_kind plain[] = {[PK_TUPLE] = NODE_TUPLE,
                                           [PK_LIST] = NODE_LIST,
                                           [PK_SET] = NODE_SET,
                                           [PK_FROZENSET] = NODE_SET,
                                           [PK_DICT] = NODE_DICT};
    enum pk_kind k = pk_kind(p, v);
    if (k < PK_TUPLE || k > PK_DICT)
        return instance(r, v, f, e);
    TRY(new_node(r, plain[k], v, &f->node, e));
    add_run(f, head(p, v), k == PK_DICT);
    return ST_OK;
}

/* Text of a key in a name. */
static enum status key_text(struct hk_reader *r, uint32_t v, uint64_t index, struct str *out,
                            struct err *e)
{
    struct pk_far far;
    if (pk_far(&r->pk, v, &far))
        return pickle_fail(&r->pk, v, "bad-name", e, "a key of %llu bytes",
                           (unsigned long long)far.bytes);
    return pickle_key_text(&r->pk, &r->scratch, v, index, out, e);
}

/* Makes the node of value v under parent; containers are pushed. */
static enum status visit(struct walk *w, uint32_t v, struct str path, struct node *parent,
                         struct node *key, struct err *e)
{
    struct hk_reader *r = w->r;
    struct node *n = NULL;
    struct hk_array a;
    bool is;
    struct frame f = {.path = path};
    TRY(haiku_array(r, v, &is, &a, e));
    if (is)
        TRY(add_tensor(r, v, &a, path, &n, e));
    if (!n)
        TRY(scalar(r, v, &n, e));
    if (!n) {
        TRY(container(r, v, &f, e));
        n = f.node;
    }
    n->key = key;
    if (parent)
        node_add(parent, n);
    else
        r->root = n;
    return f.n_runs ? push(w, &f, e) : ST_OK;
}

static enum status item(struct walk *w, struct frame *f, uint32_t v, struct err *e)
{
    struct hk_reader *r = w->r;
    uint64_t index = f->index++;
    struct node *key = NULL, *node = f->node;
    struct str segment, path = f->path;
    if (f->fields) {
        segment = field(f->fields, index);
        TRY(new_node(r, NODE_STR, v, &key, e));
        key->text = segment;
    } else {
        if (pk_kind(&r->pk, v) <= PK_BYTEARRAY) /* no name needed */
            return visit(w, v, path, node, NULL, e);
        segment = arena_fmt(&r->scratch, "%llu", (unsigned long long)index);
        if (!segment.p)
            return err_nomem(e, 24);
    }
    TRY(join(r, path, segment, &path, e));
    return visit(w, v, path, node, key, e);
}

static enum status step(struct walk *w, struct err *e)
{
    struct hk_reader *r = w->r;
    const struct pickle *p = &r->pk;
    struct frame *f = &w->stack[w->n - 1];
    struct run *run = &f->run[f->at];
    if (run->cell == 0) {
        if (++f->at == f->n_runs)
            w->n--;
        return ST_OK;
    }
    uint32_t first = p->cell[run->cell].val;
    run->cell = p->cell[run->cell].next;
    if (!run->pairs)
        return item(w, f, first, e);
    uint32_t v = p->cell[run->cell].val;
    struct node *key = NULL, *node = f->node;
    struct str segment, path = STR_NONE;
    run->cell = p->cell[run->cell].next;
    TRY(key_text(r, first, f->index++, &segment, e));
    if (pk_kind(p, first) <= PK_BYTES)
        TRY(scalar(r, first, &key, e));
    if (!key) {
        TRY(new_node(r, NODE_OPAQUE, first, &key, e));
        key->text = arena_str(&r->m->arena, segment.p, segment.n);
        if (!key->text.p)
            return err_nomem(e, segment.n);
        r->m->has_opaque = true;
    }
    enum status st = join(r, f->path, segment, &path, e);
    if (st != ST_OK) {
        err_at(e, p->file, p->base + pk_at(p, first)->at);
        return st;
    }
    return visit(w, v, path, node, key, e);
}

enum status haiku_tree(struct hk_reader *r, struct err *e)
{
    struct walk w = {.r = r};
    enum status st = visit(&w, r->pk.root, STR_NONE, NULL, NULL, e);
    while (st == ST_OK && w.n > 0)
        st = step(&w, e);
    mem_free(w.stack);
    return st;
}
