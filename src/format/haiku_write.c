/* Haiku pickles, writing: plain containers and numpy arrays, spelled with opcodes of protocol 3 (4
 * where an array passes 4 GiB) and names that any numpy has: numpy.core.multiarray is found by 1
 * and
 * 2. Arrays' bytes are holes in the text, filled by the engine; ties are one object, by the memo.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "format/grow.h"
#include "format/haiku.h"
#include "format/npy_array.h"
#include <string.h>

/* Memo places: what every array names, one per type, then arrays that are tied. */
enum {
    MEMO_RECONSTRUCT,
    MEMO_NDARRAY,
    MEMO_DTYPE,
    MEMO_SCALAR,
    MEMO_TYPE,
    MEMO_TIES = MEMO_TYPE + DT_COUNT
};

struct hole {
    size_t at; /* place in text that the data stands before */
    uint64_t bytes;
    uint32_t tensor;
};
struct layout {
    const struct model *m;
    struct arena *arena;
    const struct node *root;
    struct buf text, hole; /* struct hole, in file order */
    uint64_t total;        /* of the file */
    bool known[MEMO_TIES]; /* which fixed places of the memo are filled */
    uint32_t *tie;         /* per tensor: 0, or 1 + number of its memo place */
    bool *said;            /* per tensor: its array stands in the text */
};

static enum status cannot(struct str name, const char *code, const char *why, struct err *e)
{
    (void)err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, name.p, name.n);
    return ST_CANNOT;
}

static uint32_t kept(const struct model *m, uint32_t t)
{
    return m->tensor[t].alias_of >= 0 ? (uint32_t)m->tensor[t].alias_of : t;
}

/* ---- arrays ---- */

static void put_global(struct layout *x, uint32_t memo, const char *module, const char *name)
{
    if (x->known[memo]) {
        pw_get(&x->text, memo);
        return;
    }
    pw_global(&x->text, module, name);
    pw_put(&x->text, memo);
    x->known[memo] = true;
}

/* numpy.dtype("f4", False, True) with its state. */
static void put_dtype(struct layout *x, enum dtype t)
{
    struct buf *b = &x->text;
    uint32_t memo = MEMO_TYPE + (uint32_t)t;
    const char *descr = npy_descr(t); /* "<f4" */
    bool is_void = t == DT_BF16;
    if (x->known[memo]) {
        pw_get(b, memo);
        return;
    }
    put_global(x, MEMO_DTYPE, "numpy", "dtype");
    pw_str(b, str_from(descr + 1));
    pw_bool(b, false);
    pw_bool(b, true);
    pw_tuple(b, 3);
    pw_op(b, 'R');
    pw_op(b, '(');
    pw_int(b, 3);
    pw_str(b, is_void ? STR("|") : (struct str){descr, 1});
    pw_none(b);
    pw_none(b);
    pw_none(b);
    pw_int(b, is_void ? 2 : -1);
    pw_int(b, is_void ? 1 : -1);
    pw_int(b, 0);
    pw_op(b, 't');
    pw_op(b, 'b');
    pw_put(b, memo);
    x->known[memo] = true;
}

static enum status put_data(struct layout *x, uint32_t i, struct err *e)
{
    const struct tensor *t = &x->m->tensor[i];
    uint64_t bytes;
    if (!dtype_span(t->dtype, tensor_elems(t), &bytes) || !add_u64(x->total, bytes, &x->total) ||
        x->total > INT64_MAX)
        return cannot(t->name, "too-large", "the array is too large", e);
    pw_bytes_head(&x->text, bytes);
    struct hole h = {x->text.n, bytes, i};
    buf_bytes(&x->hole, &h, sizeof h);
    return buf_ok(&x->hole, e);
}

static enum status put_array(struct layout *x, uint32_t i, struct err *e)
{
    struct buf *b = &x->text;
    const struct tensor *t = &x->m->tensor[i];
    put_global(x, MEMO_RECONSTRUCT, "numpy.core.multiarray", "_reconstruct");
    put_global(x, MEMO_NDARRAY, "numpy", "ndarray");
    pw_int(b, 0);
    pw_tuple(b, 1);
    pw_bytes_head(b, 1);
    buf_u8(b, 'b');
    pw_tuple(b, 3);
    pw_op(b, 'R');
    pw_op(b, '(');
    pw_int(b, 1);
    if (t->n_dims > 3)
        pw_op(b, '(');
    for (size_t d = 0; d < t->n_dims; d++)
        pw_u64(b, t->dim[d]);
    pw_tuple(b, t->n_dims);
    put_dtype(x, t->dtype);
    pw_bool(b, false);
    TRY(put_data(x, i, e));
    pw_op(b, 't');
    pw_op(b, 'b');
    return ST_OK;
}

static enum status put_scalar_array(struct layout *x, uint32_t i, struct err *e)
{
    put_global(x, MEMO_SCALAR, "numpy.core.multiarray", "scalar");
    put_dtype(x, x->m->tensor[i].dtype);
    TRY(put_data(x, i, e));
    pw_tuple(&x->text, 2);
    pw_op(&x->text, 'R');
    return ST_OK;
}

static enum status put_tensor(struct layout *x, const struct node *n, struct err *e)
{
    uint32_t i = kept(x->m, n->tensor);
    const struct tensor *t = &x->m->tensor[i];
    TRY(npy_can(t, e));
    if (x->said[i]) {
        pw_get(&x->text, MEMO_TIES + x->tie[i] - 1);
        return ST_OK;
    }
    if (str_is(n->text, HAIKU_SCALAR_MARK) && t->n_dims == 0)
        TRY(put_scalar_array(x, i, e));
    else
        TRY(put_array(x, i, e));
    if (x->tie[i])
        pw_put(&x->text, MEMO_TIES + x->tie[i] - 1);
    x->said[i] = true;
    return ST_OK;
}

/* ---- values ---- */

/* Decimal text to minimal two's complement. */
static enum status put_bigint(struct layout *x, struct str s, struct err *e)
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
            return err_set(e, ST_CANNOT, "bigint", "an integer of more than 253 bytes");
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
    pw_long(&x->text, v, (uint8_t)n);
    return ST_OK;
}

static enum status put_value(struct layout *x, const struct node *n, struct err *e)
{
    struct buf *b = &x->text;
    enum dtype t;
    switch (n->kind) {
    case NODE_BOOL:
        pw_bool(b, n->i != 0);
        return ST_OK;
    case NODE_INT:
        pw_int(b, n->i);
        return ST_OK;
    case NODE_BIGINT:
        return put_bigint(x, n->text, e);
    case NODE_FLOAT:
        pw_float(b, n->bits[0]);
        return ST_OK;
    case NODE_COMPLEX:
        pw_global(b, "builtins", "complex");
        pw_float(b, n->bits[0]);
        pw_float(b, n->bits[1]);
        pw_tuple(b, 2);
        pw_op(b, 'R');
        return ST_OK;
    case NODE_STR:
        if (n->text.n > UINT32_MAX)
            break;
        pw_str(b, n->text);
        return ST_OK;
    case NODE_BYTES:
        if (n->text.n > UINT32_MAX)
            break;
        pw_bytes_head(b, n->text.n);
        buf_str(b, n->text);
        return ST_OK;
    case NODE_DTYPE:
        t = dtype_parse(n->text);
        if (t == DT_BF16 || !npy_descr(t))
            break;
        put_dtype(x, t);
        return ST_OK;
    case NODE_NIL:
    case NODE_OPAQUE: /* in a list: what it was is a drop that the plan has settled */
        pw_none(b);
        return ST_OK;
    default:
        break;
    }
    (void)err_set(e, ST_CANNOT, "tree-value", "a pickle of numpy and plain Python cannot hold it");
    if (n->key)
        err_in(e, n->key->text.p, n->key->text.n);
    return ST_CANNOT;
}

/* ---- the tree ---- */

static bool is_container(const struct node *n)
{
    return n->kind == NODE_DICT || n->kind == NODE_LIST || n->kind == NODE_TUPLE ||
           n->kind == NODE_SET;
}

/* Left out: attributes of dicts of another format, and, in dicts, foreign objects. */
static const struct node *spelled(const struct node *c)
{
    while (c && c->parent->kind == NODE_DICT &&
           (c->kind == NODE_OPAQUE || (c->key && c->key->kind == NODE_OPAQUE)))
        c = c->next;
    return c;
}

static void enter(struct layout *x, const struct node *n)
{
    struct buf *b = &x->text;
    switch (n->kind) {
    case NODE_DICT:
        pw_op(b, '}');
        break;
    case NODE_LIST:
        pw_op(b, ']');
        break;
    case NODE_SET:
        pw_global(b, "builtins", "set");
        pw_op(b, ']');
        break;
    default: /* TUPLE */
        if (n->n_children > 3)
            pw_op(b, '(');
        return;
    }
    if (spelled(n->child))
        pw_op(b, '(');
}

static void leave(struct layout *x, const struct node *n)
{
    struct buf *b = &x->text;
    if (n->kind == NODE_TUPLE) {
        pw_tuple(b, (size_t)n->n_children);
        return;
    }
    if (spelled(n->child))
        pw_op(b, n->kind == NODE_DICT ? 'u' : 'e');
    if (n->kind == NODE_SET) {
        pw_tuple(b, 1);
        pw_op(b, 'R');
    }
}

static enum status put_node(struct layout *x, const struct node *n, struct err *e)
{
    if (n->parent && n->parent->kind == NODE_DICT && n != x->root) {
        if (n->key)
            TRY(put_value(x, n->key, e));
        else
            pw_none(&x->text);
    }
    if (n->kind == NODE_TENSOR)
        return put_tensor(x, n, e);
    if (!is_container(n))
        return put_value(x, n, e);
    enter(x, n);
    return ST_OK;
}

static enum status put_tree(struct layout *x, struct err *e)
{
    const struct node *n = x->root;
    for (;;) {
        TRY(put_node(x, n, e));
        const struct node *next = is_container(n) ? spelled(n->child) : NULL;
        if (!next) {
            if (is_container(n))
                leave(x, n);
            while (n != x->root && !(next = spelled(n->next))) {
                n = n->parent;
                leave(x, n);
            }
            if (n == x->root)
                return ST_OK;
        }
        n = next;
    }
}

static enum status find_ties(struct layout *x, struct err *e)
{
    size_t n = x->m->n_tensors;
    uint32_t ties = 0;
    x->tie = ARENA_ARRAY(x->arena, uint32_t, n + 1);
    x->said = ARENA_ARRAY(x->arena, bool, n + 1);
    if (!x->tie || !x->said)
        return err_nomem(e, n * 5);
    for (size_t i = 0; i < n; i++) {
        int64_t of = x->m->tensor[i].alias_of;
        if (of >= 0 && !x->tie[of])
            x->tie[of] = ++ties;
    }
    return ST_OK;
}

static bool passes_4g(const struct model *m)
{
    uint64_t bytes;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (dtype_span(m->tensor[i].dtype, tensor_elems(&m->tensor[i]), &bytes) &&
            bytes > UINT32_MAX)
            return true;
    return false;
}

static enum status lay_out(struct layout *x, struct err *e)
{
    TRY(grow_tree(x->m, x->arena, &x->root, e));
    TRY(find_ties(x, e));
    pw_proto_n(&x->text, passes_4g(x->m) ? 4 : 3);
    TRY(put_tree(x, e));
    pw_stop(&x->text);
    TRY(buf_ok(&x->text, e));
    for (size_t i = 0; i < x->m->n_tensors; i++)
        if (x->m->tensor[i].alias_of < 0 && !x->said[i])
            return cannot(x->m->tensor[i].name, "tree-tensor",
                          "the tensor has no place in the tree", e);
    if (!add_u64(x->total, x->text.n, &x->total))
        return err_set(e, ST_CANNOT, "too-large", "the file passes 2^64 bytes");
    return ST_OK;
}

enum status haiku_check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct layout x = {.m = m, .arena = &a};
    (void)opt;
    enum status st = lay_out(&x, e);
    buf_free(&x.text);
    buf_free(&x.hole);
    arena_free(&a);
    return st;
}

static enum status write_text(struct writer *w, const struct layout *x, struct err *e)
{
    const struct hole *h = (const struct hole *)(const void *)x->hole.p;
    size_t n = x->hole.n / sizeof *h, done = 0, k = 0;
    uint64_t at = 0;
    int id;
    TRY(out_add(w->out, STR(""), x->total, &id, e));
    for (size_t i = 0; i <= n; i++) {
        size_t end = i < n ? h[i].at : x->text.n;
        if (end > done)
            TRY(out_pwrite(w->out, id, x->text.p + done, end - done, at, e));
        at += end - done;
        done = end;
        if (i == n)
            break;
        w->place[h[i].tensor] = (struct place){.kind = PLACE_FIXED, .file = id, .offset = at};
        w->order[k++] = h[i].tensor;
        at += h[i].bytes;
    }
    for (uint32_t i = 0; i < w->m->n_tensors; i++)
        if (w->m->tensor[i].alias_of >= 0)
            w->order[k++] = i;
    return ST_OK;
}

enum status haiku_begin(struct writer *w, struct err *e)
{
    struct layout x = {.m = w->m, .arena = &w->arena};
    enum status st = lay_out(&x, e);
    if (st == ST_OK)
        st = write_text(w, &x, e);
    buf_free(&x.text);
    buf_free(&x.hole);
    return st;
}

enum status haiku_end(struct writer *w, struct err *e)
{
    (void)w;
    (void)e;
    return ST_OK;
}
