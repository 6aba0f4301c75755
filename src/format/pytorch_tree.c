/* From the pickle's values to model.tree and the tensors in it. Names: keys joined with '.', dict
 * keys taken as text, list places in decimal; the state of a module object adds no segment, nor do
 * its _parameters, _buffers and _modules, so that a saved module's arrays bear their state_dict
 * names. The walk is iterative; its stack is as deep as the pickle's proof allows.
 */
#include "base/log.h"
#include "base/mem.h"
#include "format/pickle_value.h"
#include "format/pytorch.h"
#include <string.h>

/* What is left to visit of one container. */
struct run {
    uint32_t cell; /* next cell */
    bool pairs;
};
struct frame {
    struct node *node;
    struct str path;
    struct run run[4]; /* args, items, pairs, attributes */
    uint8_t n_runs, at;
    bool attrs_last; /* the last run's pairs are attributes of the object */
    bool module;     /* the state of an opaque object: _parameters etc. are transparent */
    uint64_t index;
};
struct walk {
    struct pt_reader *r;
    struct node *root;
    struct frame *stack;
    size_t n, cap;
};

static enum status new_node(struct pt_reader *r, enum node_kind kind, uint32_t v, struct node **out,
                            struct err *e)
{
    return pickle_node(&r->pk, r->m, &r->n_nodes, kind, v, out, e);
}

static enum status keep(struct pt_reader *r, struct str s, struct str *out, struct err *e)
{
    *out = arena_str(&r->m->arena, s.p, s.n);
    return out->p ? ST_OK : err_nomem(e, s.n);
}

/* complex(re, im) and bytearray(...): *is false when the arguments are not plain. */
static enum status small_call(struct pt_reader *r, uint32_t v, int tag, struct node **out,
                              struct err *e)
{
    struct pickle *p = &r->pk;
    uint32_t args = pk_at(p, v)->call.args, n = pk_count(p, args);
    uint32_t a = pk_elem(p, args, 0), b = pk_elem(p, args, 1);
    if (tag == PT_COMPLEX && n == 2 && pk_kind(p, a) == PK_FLOAT && pk_kind(p, b) == PK_FLOAT) {
        TRY(new_node(r, NODE_COMPLEX, v, out, e));
        (*out)->bits[0] = pk_at(p, a)->bits;
        (*out)->bits[1] = pk_at(p, b)->bits;
    } else if (tag == PT_ENCODE || (tag == PT_BYTEARRAY && n <= 1)) {
        struct str s = STR("");
        bool flat;
        if (tag == PT_ENCODE || n == 1)
            TRY(pytorch_bytes(r, tag == PT_ENCODE ? v : a, &s, &flat, e));
        if (!s.p)
            return ST_OK;
        TRY(new_node(r, NODE_BYTES, v, out, e));
        TRY(keep(r, s, &(*out)->text, e));
    } else if (tag == PT_NP_DTYPE) {
        enum dtype t;
        bool big, object;
        TRY(pytorch_np_dtype(r, v, &t, &big, &object, e));
        if (object)
            return ST_OK;
        TRY(new_node(r, NODE_DTYPE, v, out, e));
        (*out)->text = str_from(dtype_info(t)->name);
    }
    return ST_OK;
}

/* A value that is no container; *out stays NULL when it is one. */
static enum status scalar(struct pt_reader *r, uint32_t v, struct node **out, struct err *e)
{
    struct pickle *p = &r->pk;
    v = pytorch_class(p, v);
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
        if (x->kind >= PK_STR)
            return keep(r, pk_text(p, v), &(*out)->text, e);
        return ST_OK;
    }
    if (x->kind == PK_GLOBAL) {
        int tag = pk_tag(p, v);
        bool is_dtype = tag > PT_DTYPE && tag < PT_DTYPE + DT_COUNT;
        if (is_dtype || tag == PT_DTYPE_F4X2 || tag == PT_DTYPE_OTHER) {
            TRY(new_node(r, NODE_DTYPE, v, out, e));
            (*out)->text = is_dtype ? str_from(dtype_info((enum dtype)(tag - PT_DTYPE))->name)
                           : tag == PT_DTYPE_F4X2 ? STR("float4_e2m1fn")
                                                  : p->global[x->ref].name;
            return keep(r, (*out)->text, &(*out)->text, e);
        }
        TRY(new_node(r, NODE_OPAQUE, v, out, e));
        (*out)->text = pickle_global_name(&r->pk, &r->m->arena, v);
        r->m->has_opaque = true;
        return (*out)->text.p ? ST_OK : err_nomem(e, 64);
    }
    if (x->kind == PK_CALL)
        return small_call(r, v, pk_call_tag(p, v), out, e);
    return ST_OK;
}

/* ---- tensors ---- */

static enum status add_tensor(struct pt_reader *r, const struct pt_tensor *d, struct str name,
                              uint32_t v, struct node **out, struct err *e)
{
    struct model *m = r->m;
    struct tensor *t;
    TRY(new_node(r, NODE_TENSOR, v, out, e));
    TRY(model_tensor_add(m, &t, e));
    t->name = name.p ? name : STR("tensor"); /* a file that is one tensor */
    t->dtype = d->dtype;
    TRY(tensor_set_view(m, t, &d->view, e));
    t->storage = d->storage;
    t->requires_grad = d->requires_grad;
    t->role = ROLE_PARAMETER; /* until pytorch_roles */
    t->order = m->n_tensors - 1;
    t->note = d->note;
    t->offset = r->pk.base + pk_at(&r->pk, v)->at;
    t->decl = r->file;
    (*out)->tensor = (uint32_t)(m->n_tensors - 1);
    return ST_OK;
}

static enum status join(struct pt_reader *r, struct str path, struct str segment, struct str *out,
                        struct err *e)
{
    *out = path.n == 0 ? arena_str(&r->m->arena, segment.p, segment.n)
                       : arena_fmt(&r->m->arena, "%.*s.%.*s", STR_ARG(path), STR_ARG(segment));
    return out->p ? ST_OK : err_nomem(e, path.n + segment.n);
}

static enum status key_node(struct pt_reader *r, const char *name, uint32_t v, struct node **out,
                            struct err *e)
{
    TRY(new_node(r, NODE_STR, v, out, e));
    (*out)->text = str_from(name);
    return ST_OK;
}

/* One named part of a compound tensor: a tensor or a scalar. */
static enum status part(struct pt_reader *r, struct node *dict, struct str path, const char *name,
                        uint32_t v, struct err *e)
{
    struct node *n = NULL, *key;
    struct pt_tensor t;
    struct str full;
    bool is;
    TRY(pytorch_tensor(r, v, &is, &t, e));
    if (is) {
        TRY(join(r, path, str_from(name), &full, e));
        TRY(add_tensor(r, &t, full, v, &n, e));
    } else {
        TRY(scalar(r, v, &n, e));
    }
    if (!n)
        return pickle_fail(&r->pk, v, "torch-args", e, "a compound tensor with an odd %s", name);
    TRY(key_node(r, name, v, &key, e));
    n->key = key;
    node_add(dict, n);
    return ST_OK;
}

static enum status dims_part(struct pt_reader *r, struct node *dict, const char *name, uint32_t v,
                             struct err *e)
{
    struct pickle *p = &r->pk;
    struct node *tuple, *key, *n;
    if (pk_call_tag(p, v) == PT_SIZE)
        v = pk_elem(p, pk_at(p, v)->call.args, 0);
    if (pk_kind(p, v) != PK_TUPLE)
        return pickle_fail(p, v, "torch-args", e, "a compound tensor with an odd %s", name);
    TRY(new_node(r, NODE_TUPLE, v, &tuple, e));
    TRY(key_node(r, name, v, &key, e));
    for (uint32_t c = pk_at(p, v)->seq.head; c; c = p->cell[c].next) {
        TRY(scalar(r, p->cell[c].val, &n, e));
        if (!n)
            return pickle_fail(p, v, "torch-args", e, "a compound tensor with an odd %s", name);
        node_add(tuple, n);
    }
    tuple->key = key;
    node_add(dict, tuple);
    return ST_OK;
}

static enum status quantised(struct pt_reader *r, uint32_t v, uint32_t args, struct str path,
                             struct node *d, struct err *e)
{
    struct pickle *p = &r->pk;
    uint32_t q = pk_elem(p, args, 4), n = pk_count(p, q);
    int scheme = pk_tag(p, pk_elem(p, q, 0));
    if (pk_kind(p, q) != PK_TUPLE ||
        !((scheme == PT_QSCHEME_TENSOR && n == 3) || (scheme == PT_QSCHEME_CHANNEL && n == 4)))
        return pickle_fail(p, v, "torch-quantised", e, "a quantised tensor without its scale");
    bool channel = scheme == PT_QSCHEME_CHANNEL;
    TRY(part(r, d, path, "int_repr", v, e));
    TRY(part(r, d, path, channel ? "q_per_channel_scales" : "q_scale", pk_elem(p, q, 1), e));
    TRY(part(r, d, path, channel ? "q_per_channel_zero_points" : "q_zero_point", pk_elem(p, q, 2),
             e));
    return channel ? part(r, d, path, "q_per_channel_axis", pk_elem(p, q, 3), e) : ST_OK;
}

static enum status sparse(struct pt_reader *r, uint32_t v, uint32_t args, struct str path,
                          struct node *d, struct err *e)
{
    struct pickle *p = &r->pk;
    uint32_t layout = pk_elem(p, args, 0), data = pk_elem(p, args, 1), n = pk_count(p, data);
    uint32_t name =
        pk_call_tag(p, layout) == PT_PLAIN ? pk_elem(p, pk_at(p, layout)->call.args, 0) : layout;
    struct str s = pk_text(p, name);
    bool coo = str_is(s, "torch.sparse_coo");
    bool columns = str_is(s, "torch.sparse_csc") || str_is(s, "torch.sparse_bsc");
    if (pk_count(p, args) != 2 || pk_kind(p, data) != PK_TUPLE || pk_kind(p, name) != PK_STR ||
        !(coo ? n == 3 || n == 4 : n == 4))
        return pickle_fail(p, v, "torch-args", e, "a sparse tensor of an unknown layout");
    TRY(part(r, d, path, "layout", name, e));
    if (coo) {
        TRY(part(r, d, path, "indices", pk_elem(p, data, 0), e));
        TRY(part(r, d, path, "values", pk_elem(p, data, 1), e));
        return dims_part(r, d, "size", pk_elem(p, data, 2), e);
    }
    TRY(part(r, d, path, columns ? "ccol_indices" : "crow_indices", pk_elem(p, data, 0), e));
    TRY(part(r, d, path, columns ? "row_indices" : "col_indices", pk_elem(p, data, 1), e));
    TRY(part(r, d, path, "values", pk_elem(p, data, 2), e));
    return dims_part(r, d, "size", pk_elem(p, data, 3), e);
}

static enum status compound(struct pt_reader *r, uint32_t v, int tag, uint32_t args,
                            struct str path, struct node **out, struct err *e)
{
    struct pickle *p = &r->pk;
    static const char *const nested[] = {"values", "sizes", "strides", "offsets"};
    TRY(new_node(r, NODE_DICT, v, out, e));
    struct node *d = *out;
    switch (tag) {
    case PT_QTENSOR:
        d->text = STR("torch._utils._rebuild_qtensor");
        return quantised(r, v, args, path, d, e);
    case PT_SPARSE:
        d->text = STR("torch._utils._rebuild_sparse_tensor");
        return sparse(r, v, args, path, d, e);
    case PT_NESTED:
        d->text = STR("torch._utils._rebuild_nested_tensor");
        if (pk_count(p, args) != 4)
            return pickle_fail(p, v, "torch-args", e, "a nested tensor that is not of four parts");
        for (uint32_t i = 0; i < 4; i++)
            TRY(part(r, d, path, nested[i], pk_elem(p, args, i), e));
        return ST_OK;
    default:
        d->text = STR("torch._utils._rebuild_meta_tensor_no_storage");
        if (pk_count(p, args) != 4)
            return pickle_fail(p, v, "torch-args", e, "a meta tensor that is not of four parts");
        TRY(part(r, d, path, "dtype", pk_elem(p, args, 0), e));
        TRY(dims_part(r, d, "size", pk_elem(p, args, 1), e));
        return dims_part(r, d, "stride", pk_elem(p, args, 2), e);
    }
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

/* OrderedDict and its like: filled by a list of pairs or a dict (args), SETITEMS, and attributes.
 */
static enum status dict_frame(struct pt_reader *r, uint32_t v, struct frame *f, struct err *e)
{
    struct pickle *p = &r->pk;
    uint32_t args = pk_at(p, v)->call.args, first = pk_elem(p, args, 0);
    struct pk_more more = pk_more(p, v);
    f->node->text = pickle_global_name(&r->pk, &r->m->arena, pk_at(p, v)->call.fn);
    if (!f->node->text.p)
        return err_nomem(e, 64);
    if (first && pk_kind(p, first) == PK_DICT)
        add_run(f, head(p, first), true);
    else if (first && (pk_kind(p, first) == PK_LIST || pk_kind(p, first) == PK_TUPLE)) {
        if (pk_count(p, first))
            return pickle_fail(p, v, "torch-args", e, "a dict made from a list of pairs");
    } else if (first && pk_kind(p, first) != PK_GLOBAL && pk_kind(p, first) != PK_NONE)
        return pickle_fail(p, v, "torch-args", e, "a dict made from something odd");
    add_run(f, more.pairs.head, true);
    if (more.items.head)
        return pickle_fail(p, v, "torch-args", e, "items appended to a dict");
    uint32_t attrs = more.state;
    if (pk_kind(p, attrs) == PK_TUPLE) /* (dict, slots) */
        attrs = pk_elem(p, attrs, 0);
    if (attrs && pk_kind(p, attrs) == PK_DICT && pk_count(p, attrs)) {
        add_run(f, head(p, attrs), true);
        f->attrs_last = true;
    }
    return ST_OK;
}

/* An object of a class that is none of ours: its parts are data. */
static enum status opaque_frame(struct pt_reader *r, uint32_t v, struct frame *f, struct err *e)
{
    struct pickle *p = &r->pk;
    uint32_t fn = pytorch_class(p, pk_at(p, v)->call.fn), args = pk_at(p, v)->call.args;
    struct pk_more more = pk_more(p, v);
    uint32_t made = pytorch_class(p, pk_elem(p, args, 0));
    if (pk_tag(p, fn) == PT_RECONSTRUCTOR && pk_kind(p, made) == PK_GLOBAL) {
        fn = made;
        args = 0;
    }
    f->node->text = pickle_global_name(&r->pk, &r->m->arena, fn);
    if (!f->node->text.p)
        return err_nomem(e, 64);
    if (pk_tag(p, fn) != PT_SCRIPT_CLASS)
        r->m->has_opaque = true;
    uint32_t state = more.state, slots = 0;
    if (pk_kind(p, state) == PK_TUPLE && pk_count(p, state) == 2 &&
        (pk_kind(p, pk_elem(p, state, 0)) == PK_DICT ||
         pk_kind(p, pk_elem(p, state, 0)) == PK_NONE)) {
        slots = pk_elem(p, state, 1);
        state = pk_elem(p, state, 0);
    }
    add_run(f, head(p, args), false);
    add_run(f, more.items.head, false);
    add_run(f, more.pairs.head, true);
    if (pk_kind(p, state) == PK_DICT) {
        add_run(f, head(p, state), true);
        f->module = true;
    } else if (pk_kind(p, state) == PK_TUPLE || pk_kind(p, state) == PK_LIST) {
        add_run(f, head(p, state), false);
    }
    if (slots && pk_count(p, slots))
        log_note("%s: state in slots of %.*s is left aside", r->pk.file, STR_ARG(f->node->text));
    return ST_OK;
}

static enum status container(struct pt_reader *r, uint32_t v, struct frame *f, struct err *e)
{
    struct pickle *p = &r->pk;
    static const enum node_kind plain[] = {[PK_TUPLE] = NODE_TUPLE,
                                           [PK_LIST] = NODE_LIST,
                                           [PK_SET] = NODE_SET,
                                           [PK_FROZENSET] = NODE_SET,
                                           [PK_DICT] = NODE_DICT};
    enum pk_kind k = pk_kind(p, v);
    if (k >= PK_TUPLE && k <= PK_DICT) {
        TRY(new_node(r, plain[k], v, &f->node, e));
        if (k == PK_FROZENSET)
            f->node->text = STR("builtins.frozenset");
        add_run(f, head(p, v), k == PK_DICT);
        return ST_OK;
    }
    uint32_t args = pk_at(p, v)->call.args;
    struct pk_more more = pk_more(p, v);
    bool bare = !more.state && !more.items.head && !more.pairs.head;
    switch (pk_call_tag(p, v)) {
    case PT_ORDERED_DICT:
    case PT_DICT:
        TRY(new_node(r, NODE_DICT, v, &f->node, e));
        return dict_frame(r, v, f, e);
    case PT_SCRIPT_LIST: {
        uint32_t list = pk_elem(p, args, 0);
        if (!bare || pk_count(p, args) != 1 || pk_kind(p, list) != PK_LIST)
            break;
        TRY(new_node(r, NODE_LIST, v, &f->node, e));
        add_run(f, head(p, list), false);
        return ST_OK;
    }
    case PT_SIZE:
    case PT_SET: {
        uint32_t first = pk_elem(p, args, 0);
        if (!bare || (first && !pk_count(p, first) && pk_kind(p, first) != PK_TUPLE &&
                      pk_kind(p, first) != PK_LIST && pk_kind(p, first) != PK_SET))
            break;
        TRY(new_node(r, pk_call_tag(p, v) == PT_SIZE ? NODE_TUPLE : NODE_SET, v, &f->node, e));
        f->node->text = pickle_global_name(&r->pk, &r->m->arena, pk_at(p, v)->call.fn);
        add_run(f, head(p, first), false);
        return f->node->text.p ? ST_OK : err_nomem(e, 64);
    }
    case PT_PLAIN:
        if (!bare)
            break;
        TRY(new_node(r, NODE_TUPLE, v, &f->node, e));
        f->node->text = pickle_global_name(&r->pk, &r->m->arena, pk_at(p, v)->call.fn);
        add_run(f, head(p, args), false);
        return f->node->text.p ? ST_OK : err_nomem(e, 64);
    default:
        break;
    }
    TRY(new_node(r, NODE_OPAQUE, v, &f->node, e));
    return opaque_frame(r, v, f, e);
}

static bool transparent(struct str key)
{
    return str_is(key, "_parameters") || str_is(key, "_buffers") || str_is(key, "_modules");
}

/* Makes the node of value v under the frame's node; containers are pushed. */
static enum status visit(struct walk *w, uint32_t v, struct str path, struct node *parent,
                         struct node *key, struct err *e)
{
    struct pt_reader *r = w->r;
    struct node *n = NULL;
    struct pt_tensor t, said;
    uint32_t args;
    int tag;
    bool is = false;
    /* a typed container of TorchScript: (value, name of the type) */
    for (int i = 0; i < 16 && pk_call_tag(&r->pk, v) == PT_SCRIPT_TAG &&
                    pk_elem(&r->pk, pk_at(&r->pk, v)->call.args, 0);
         i++)
        v = pk_elem(&r->pk, pk_at(&r->pk, v)->call.args, 0);
    enum pk_kind k = pk_kind(&r->pk, v);
    struct frame f = {.path = path};
    if (k == PK_CALL) {
        TRY(pytorch_unwrap(r, v, &tag, &args, &said, e));
        if (tag == PT_QTENSOR || tag == PT_SPARSE || tag == PT_NESTED || tag == PT_META)
            TRY(compound(r, v, tag, args, path, &n, e));
    }
    if (!n && (k == PK_CALL || k == PK_PERSID)) {
        TRY(pytorch_tensor(r, v, &is, &t, e));
        if (is)
            TRY(add_tensor(r, &t, path, v, &n, e));
    }
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
        w->root = n;
    return f.n_runs ? push(w, &f, e) : ST_OK;
}

static enum status step(struct walk *w, struct err *e)
{
    struct pt_reader *r = w->r;
    struct pickle *p = &r->pk;
    struct frame *f = &w->stack[w->n - 1];
    struct run *run = &f->run[f->at];
    if (run->cell == 0) {
        if (++f->at == f->n_runs)
            w->n--;
        return ST_OK;
    }
    uint32_t first = p->cell[run->cell].val, v = first;
    uint64_t index = f->index++;
    struct node *key = NULL, *node = f->node;
    struct str segment = STR(""), path = STR("");
    run->cell = p->cell[run->cell].next;
    if (!run->pairs) {
        if (pk_kind(p, v) <= PK_BYTEARRAY) /* no name needed */
            return visit(w, v, path, node, NULL, e);
        segment = arena_fmt(&r->scratch, "%llu", (unsigned long long)index);
        if (!segment.p)
            return err_nomem(e, 24);
        TRY(join(r, f->path, segment, &path, e));
        return visit(w, v, path, node, NULL, e);
    }
    v = p->cell[run->cell].val;
    run->cell = p->cell[run->cell].next;
    bool attr = f->attrs_last && f->at + 1 == f->n_runs, module = f->module;
    TRY(pickle_key_text(p, &r->scratch, first, index, &segment, e));
    if (!attr && pk_kind(p, first) <= PK_BYTES)
        TRY(scalar(r, first, &key, e));
    if (!key) {
        TRY(new_node(r, NODE_OPAQUE, first, &key, e));
        TRY(keep(r, segment, &key->text, e));
        r->m->has_opaque = r->m->has_opaque || !attr;
    }
    if (module && transparent(segment))
        path = f->path;
    else
        TRY(join(r, f->path, segment, &path, e));
    return visit(w, v, path, node, key, e);
}

enum status pytorch_tree(struct pt_reader *r, uint32_t v, struct str path, struct node **out,
                         struct err *e)
{
    struct walk w = {.r = r};
    enum status st = visit(&w, v, path, NULL, NULL, e);
    while (st == ST_OK && w.n > 0)
        st = step(&w, e);
    mem_free(w.stack);
    *out = w.root;
    return st;
}
