/* PyTorch's pickle, spelled: protocol 2 with the opcodes and names that the weights-only unpickler
 * takes. Tensors are contiguous calls of _rebuild_tensor_v2 (v3 for types without a storage class
 * of their own); ties name one record. The tree is walked with an explicit stack, once to see
 * whether it names the tensors as the model does, once to spell it.
 *
 * Opaque nodes are left out of dicts and are None in lists; they are a drop that the plan has
 * settled. Compound tensors (quantised, sparse) are spelled as dicts of their parts.
 */
#include "format/pytorch_spell.h"
#include "base/mem.h"
#include <string.h>

static void ordered(struct buf *b)
{
    pw_global(b, "collections", "OrderedDict");
    pw_op(b, ')');
    pw_op(b, 'R');
}

static void dims(struct buf *b, const uint64_t *dim, size_t n)
{
    if (n > 3)
        pw_op(b, '(');
    for (size_t i = 0; i < n; i++)
        pw_u64(b, dim[i]);
    pw_tuple(b, n);
}

static void tensor(const struct model *m, const struct pt_items *it, uint32_t i, bool as_said,
                   struct buf *b)
{
    const struct tensor *t = &m->tensor[i];
    const char *class = pytorch_storage_class(t->dtype);
    enum dtype_kind kind = dtype_info(t->dtype)->kind;
    uint64_t dim[VIEW_MAX_AXES], stride[VIEW_MAX_AXES], n = tensor_elems(t), step = 1, bytes = 0;
    char key[16];
    memcpy(dim, t->dim, t->n_dims * sizeof *dim);
    if (t->dtype == DT_F4_E2M1FN)
        dim[t->n_dims - 1] /= 2;
    for (size_t d = t->n_dims; d-- > 0;) {
        stride[d] = step;
        step *= dim[d] ? dim[d] : 1;
    }
    if (!dtype_span(t->dtype, n, &bytes)) {
        b->failed = true; /* pytorch_check has looked */
        return;
    }
    pw_global(b, "torch._utils", class ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
    pw_op(b, '(');
    pw_op(b, '(');
    pw_str(b, STR("storage"));
    pw_global(b, class ? "torch" : "torch.storage", class ? class : "UntypedStorage");
    struct buf text = BUF_INIT;
    buf_fmt(&text, "%u", it->key[pytorch_kept(m, i)]);
    if (text.failed || text.n >= sizeof key)
        b->failed = true;
    else
        pw_str(b, buf_as_str(&text));
    buf_free(&text);
    pw_str(b, STR("cpu"));
    pw_u64(b, class ? n : bytes);
    pw_op(b, 't');
    pw_op(b, 'Q');
    pw_int(b, 0);
    dims(b, dim, t->n_dims);
    dims(b, stride, t->n_dims);
    pw_bool(b, as_said && t->requires_grad && (kind == DK_FLOAT || kind == DK_COMPLEX));
    ordered(b);
    if (!class)
        pw_global(b, "torch", pytorch_dtype_name(t->dtype));
    pw_op(b, 't');
    pw_op(b, 'R');
}

static void flat(const struct model *m, const struct pt_items *it, struct buf *b)
{
    pw_proto(b);
    ordered(b);
    if (it->n)
        pw_op(b, '(');
    for (size_t i = 0; i < it->n; i++) {
        pw_str(b, m->tensor[it->tensor[i]].name);
        tensor(m, it, it->tensor[i], false, b);
    }
    if (it->n)
        pw_op(b, 'u');
    pw_stop(b);
}

/* ---- the tree ---- */

struct frame {
    const struct node *node, *next; /* next child to visit */
    uint64_t index;
    size_t path_n; /* of the path up to this node */
    bool attrs;    /* now at the attributes */
    bool open;     /* a mark was written for them */
};
struct walk {
    const struct model *m;
    const struct pt_items *it;
    struct buf *out; /* NULL: only looking */
    struct buf path; /* only looking */
    uint8_t *seen;   /* only looking: per tensor */
    bool fits;
    struct frame *stack;
    size_t n, cap;
    struct err *e;
};

static bool is_attr(const struct node *n)
{
    return n->key && n->key->kind == NODE_OPAQUE;
}
/* Attributes are spelled on OrderedDicts alone; other keys that are no scalars are lost with the
 * opaque nodes. */
static bool spelled(const struct frame *f, const struct node *c)
{
    if (f->node->kind != NODE_DICT)
        return true;
    if (c->kind == NODE_OPAQUE)
        return false;
    if (!is_attr(c))
        return !f->attrs;
    return f->attrs && str_is(f->node->text, PT_ORDERED) && !str_starts(c->key->text, STR("(key "));
}

static const struct pk_allow *plain_callable(struct str text)
{
    for (size_t i = 0; i < n_pytorch_allow; i++) {
        const struct pk_allow *a = &pytorch_allow[i];
        size_t n = strlen(a->module);
        if ((a->tag == PT_SIZE || a->tag == PT_PLAIN) && text.n > n + 1 && text.p[n] == '.' &&
            str_is(str_sub(text, 0, n), a->module) && str_is(str_sub(text, n + 1, text.n), a->name))
            return a;
    }
    return NULL;
}

bool pytorch_frozen(const struct node *n)
{
    return n->kind == NODE_SET && str_ends(n->text, STR(".frozenset"));
}

/* Decimal text to minimal two's complement. */
static enum status bigint(struct walk *w, struct str s)
{
    uint8_t v[256] = {0};
    size_t n = 1, i = s.n > 0 && s.p[0] == '-';
    bool negative = i == 1;
    for (; i < s.n; i++) {
        unsigned carry = (unsigned)(s.p[i] - '0');
        for (size_t k = 0; k < n; k++) {
            carry += v[k] * 10u;
            v[k] = (uint8_t)carry;
            carry >>= 8;
        }
        if (carry && n >= 254)
            return err_set(w->e, ST_CANNOT, "bigint", "an integer of more than 253 bytes");
        if (carry)
            v[n++] = (uint8_t)carry;
    }
    if (v[n - 1] >= 0x80)
        v[n++] = 0;
    unsigned carry = 1;
    for (size_t k = 0; negative && k < n; k++) {
        carry += (uint8_t)~v[k];
        v[k] = (uint8_t)carry;
        carry >>= 8;
    }
    while (n > 1 && ((v[n - 1] == 0 && v[n - 2] < 0x80) || (v[n - 1] == 0xff && v[n - 2] >= 0x80)))
        n--;
    pw_long(w->out, v, (uint8_t)n);
    return ST_OK;
}

static enum status scalar(struct walk *w, const struct node *n)
{
    struct buf *b = w->out;
    switch (n->kind) {
    case NODE_BOOL:
        pw_bool(b, n->i != 0);
        break;
    case NODE_INT:
        pw_int(b, n->i);
        break;
    case NODE_BIGINT:
        return bigint(w, n->text);
    case NODE_FLOAT:
        pw_float(b, n->bits[0]);
        break;
    case NODE_COMPLEX:
        pw_global(b, "builtins", "complex");
        pw_float(b, n->bits[0]);
        pw_float(b, n->bits[1]);
        pw_tuple(b, 2);
        pw_op(b, 'R');
        break;
    case NODE_STR:
        pw_str(b, n->text);
        break;
    case NODE_BYTES:
        pw_bytes(b, n->text);
        break;
    case NODE_DTYPE: {
        const char *name = pytorch_dtype_name(dtype_parse(n->text));
        if (name)
            pw_global(b, "torch", name);
        else
            pw_str(b, n->text);
        break;
    }
    default: /* NIL; OPAQUE in a list */
        pw_none(b);
    }
    return ST_OK;
}

/* What stands before the children; the mark of a dict's items comes with the first of them. */
static void enter(struct walk *w, const struct node *n)
{
    struct buf *b = w->out;
    const struct pk_allow *call = n->kind == NODE_TUPLE ? plain_callable(n->text) : NULL;
    switch (n->kind) {
    case NODE_DICT:
        if (str_is(n->text, PT_ORDERED))
            ordered(b);
        else
            pw_op(b, '}');
        break;
    case NODE_LIST:
        pw_op(b, ']');
        pw_op(b, '(');
        break;
    case NODE_SET:
        pw_global(b, "builtins", pytorch_frozen(n) ? "frozenset" : "set");
        pw_op(b, ']');
        pw_op(b, '(');
        break;
    default: /* TUPLE */
        if (call)
            pw_global(b, call->module, call->name);
        if (n->n_children > 3)
            pw_op(b, '(');
    }
}

static void leave(struct walk *w, const struct frame *f)
{
    struct buf *b = w->out;
    const struct node *n = f->node;
    const struct pk_allow *call = n->kind == NODE_TUPLE ? plain_callable(n->text) : NULL;
    switch (n->kind) {
    case NODE_DICT:
        if (f->open) {
            pw_op(b, 'u');
            if (f->attrs)
                pw_op(b, 'b');
        }
        break;
    case NODE_LIST:
        pw_op(b, 'e');
        break;
    case NODE_SET:
        pw_op(b, 'e');
        pw_tuple(b, 1);
        pw_op(b, 'R');
        break;
    default:
        pw_tuple(b, n->n_children);
        if (call) {
            if (call->tag == PT_SIZE)
                pw_tuple(b, 1);
            pw_op(b, 'R');
        }
    }
}

static bool is_container(const struct node *n)
{
    return n->kind == NODE_DICT || n->kind == NODE_LIST || n->kind == NODE_TUPLE ||
           n->kind == NODE_SET;
}

static enum status push(struct walk *w, const struct node *n)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        struct frame *p = mem_resize(w->stack, cap * sizeof *p);
        if (!p)
            return err_nomem(w->e, cap * sizeof *p);
        w->stack = p;
        w->cap = cap;
    }
    w->stack[w->n++] = (struct frame){.node = n, .next = n->child, .path_n = w->path.n};
    return ST_OK;
}

/* Looking: is this tensor named by its place, and met once? */
static void look(struct walk *w, const struct node *n)
{
    struct str path = w->path.n ? buf_as_str(&w->path) : STR("tensor");
    bool ok = n->tensor < w->m->n_tensors && !w->seen[n->tensor] &&
              str_eq(path, w->m->tensor[n->tensor].name);
    if (ok)
        w->seen[n->tensor] = 1;
    else
        w->fits = false;
}

static enum status visit(struct walk *w, const struct node *n)
{
    if (is_container(n)) {
        if (w->out)
            enter(w, n);
        return push(w, n);
    }
    if (n->kind == NODE_TENSOR) {
        if (w->out)
            tensor(w->m, w->it, n->tensor, true, w->out);
        else
            look(w, n);
        return ST_OK;
    }
    return w->out ? scalar(w, n) : ST_OK;
}

/* The path the reader would give child c of frame f. */
static void extend_path(struct walk *w, const struct frame *f, const struct node *c)
{
    w->path.n = f->path_n;
    if (f->path_n)
        buf_u8(&w->path, '.');
    if (f->node->kind != NODE_DICT)
        buf_fmt(&w->path, "%llu", (unsigned long long)f->index);
    else if (!c->key || c->key->kind == NODE_NIL)
        buf_z(&w->path, "None");
    else if (c->key->kind == NODE_INT)
        buf_fmt(&w->path, "%lld", (long long)c->key->i);
    else if (c->key->kind == NODE_BOOL)
        buf_z(&w->path, c->key->i ? "True" : "False");
    else
        buf_str(&w->path, c->key->text);
}

static enum status step(struct walk *w)
{
    struct frame *f = &w->stack[w->n - 1];
    const struct node *c = f->next;
    if (!c && f->node->kind == NODE_DICT && !f->attrs) {
        if (w->out && f->open)
            pw_op(w->out, 'u');
        f->attrs = true;
        f->open = false;
        f->next = f->node->child;
        return ST_OK;
    }
    if (!c) {
        if (w->out)
            leave(w, f);
        w->n--;
        return ST_OK;
    }
    f->next = c->next;
    if (!spelled(f, c))
        return ST_OK;
    if (!w->out)
        extend_path(w, f, c);
    f->index++;
    if (w->out && f->node->kind == NODE_DICT) {
        if (!f->open && f->attrs)
            pw_op(w->out, '}');
        if (!f->open)
            pw_op(w->out, '(');
        f->open = true;
        if (is_attr(c))
            pw_str(w->out, c->key->text);
        else if (c->key)
            TRY(scalar(w, c->key));
        else
            pw_none(w->out);
    }
    return visit(w, c);
}

static enum status run(struct walk *w)
{
    enum status st = visit(w, w->m->tree);
    while (st == ST_OK && w->n > 0)
        st = step(w);
    if (st == ST_OK && w->out)
        st = buf_ok(w->out, w->e);
    return st;
}

static enum status tree_fits(struct walk *w, bool *fits)
{
    w->seen = mem_zalloc(w->m->n_tensors + 1, 1);
    if (!w->seen)
        return err_nomem(w->e, w->m->n_tensors);
    w->fits = true;
    enum status st = run(w);
    if (st == ST_OK)
        st = buf_ok(&w->path, w->e);
    for (size_t i = 0; i < w->m->n_tensors; i++)
        w->fits = w->fits && w->seen[i];
    mem_free(w->seen);
    w->seen = NULL;
    *fits = w->fits;
    return st;
}

enum status pytorch_keeps_tree(const struct model *m, bool *keeps, struct err *e)
{
    struct walk w = {.m = m, .e = e};
    *keeps = true;
    enum status st = m->tree ? tree_fits(&w, keeps) : ST_OK;
    buf_free(&w.path);
    mem_free(w.stack);
    return st;
}

enum status pytorch_spell(const struct model *m, const struct pt_items *it, bool tree_allowed,
                          struct buf *b, struct err *e)
{
    struct walk w = {.m = m, .it = it, .e = e};
    bool tree = false;
    enum status st = ST_OK;
    if (tree_allowed && m->tree)
        st = tree_fits(&w, &tree);
    if (st == ST_OK && tree) {
        w.out = b;
        w.path.n = 0;
        pw_proto(b);
        st = run(&w);
        if (st == ST_OK)
            pw_stop(b);
    } else if (st == ST_OK) {
        flat(m, it, b);
    }
    if (st == ST_OK)
        st = buf_ok(b, e);
    buf_free(&w.path);
    mem_free(w.stack);
    return st;
}
