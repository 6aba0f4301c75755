/* The inverse kept with a canonical archive (framework/spelling.h has the layout): written from the
 * list of made tensors, read back for --to source. What is read is foreign text and checked.
 */
#include "base/mem.h"
#include "codec/json.h"
#include "convert/map_int.h"
#include "framework/recognise.h"
#include "framework/spelling.h"
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

static void key_u64(struct json_w *w, struct str key, uint64_t v)
{
    json_w_key(w, key);
    json_w_u64(w, v);
}

static void key_str(struct json_w *w, struct str key, struct str v)
{
    json_w_key(w, key);
    json_w_str(w, v);
}

static void write_layers(struct json_w *w, const struct mapping *m)
{
    json_w_key(w, STR("layers"));
    json_w_array(w);
    for (size_t i = 0; i < m->sl.n; i++) {
        const struct layer *l = &m->sl.layer[i];
        if (l->kind == LAYER_NONE || l->kind == LAYER_PARAM || l->kinds != KIND_BIT(l->kind))
            continue; /* not known for sure: recognised again from the canonical names */
        json_w_object(w);
        key_str(w, STR("path"), l->path);
        key_str(w, STR("kind"), str_from(layer_kind_name(l->kind)));
        if (l->heads)
            key_u64(w, STR("heads"), l->heads);
        if (l->groups)
            key_u64(w, STR("groups"), l->groups);
        if (l->flat_c)
            key_u64(w, STR("flat_c"), l->flat_c);
        if ((l->kind == LAYER_BATCHNORM || l->kind == LAYER_PRELU) && l->rank)
            key_u64(w, STR("rank"), l->rank);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

struct user {
    uint32_t src, made, take;
    uint8_t part;
};

static int by_src(const void *x, const void *y)
{
    const struct user *a = x, *b = y;
    if (a->src != b->src)
        return a->src < b->src ? -1 : 1;
    if (a->part != b->part)
        return a->part < b->part ? -1 : 1;
    if (a->made != b->made)
        return a->made < b->made ? -1 : 1;
    return (a->take > b->take) - (a->take < b->take);
}

static void write_cuts(struct json_w *w, struct str key, const struct cut *cut, size_t n, bool hi)
{
    json_w_key(w, key);
    json_w_array(w);
    for (size_t i = 0; i < n; i++) {
        json_w_array(w);
        json_w_u64(w, cut[i].axis);
        json_w_u64(w, cut[i].lo);
        if (hi)
            json_w_u64(w, cut[i].hi);
        json_w_array_end(w);
    }
    json_w_array_end(w);
}

/* Where a piece comes from in the canonical tensor, and where it stands in the source's. */
static enum status write_place(struct json_w *w, const struct mapping *m, const struct take *k,
                               struct err *e)
{
    struct cut cut[CUTS];
    struct view v;
    TRY(take_view(m->src, k, k->src, &v, e));
    for (size_t i = 0; i < k->n_at; i++) {
        cut[i] = k->at[i];
        cut[i].hi = cut[i].lo + view_dim(&v, cut[i].axis);
    }
    /* a first piece lies at the origin of an axis that others share */
    size_t n = k->n_at;
    if (n == 0 && v.n_dims > 0)
        cut[n++] = (struct cut){0, 0, view_dim(&v, 0)};
    write_cuts(w, STR("cut"), cut, n, true);
    write_cuts(w, STR("at"), k->cut, k->n_cuts, false);
    if (k->neg) {
        json_w_key(w, STR("neg"));
        json_w_bool(w, true);
    }
    return ST_OK;
}

/* Of the letters that one axis of the canonical tensor has together with others. */
static void write_extents(struct json_w *w, const struct take *k)
{
    json_w_key(w, STR("extents"));
    json_w_object(w);
    for (const char *p = k->can_axes; *p; p++)
        if (k->size->of[(unsigned char)*p])
            key_u64(w, (struct str){p, 1}, k->size->of[(unsigned char)*p]);
    json_w_object_end(w);
}

static enum status write_part(struct json_w *w, const struct mapping *m, const struct made *d,
                              const struct take *k, struct err *e)
{
    json_w_object(w);
    key_str(w, STR("tensor"), d->name);
    if (strcmp(k->src_axes, k->can_axes) != 0 && *k->src_axes && *k->can_axes) {
        key_str(w, STR("canonical"), str_from(k->can_axes));
        key_str(w, STR("source"), str_from(k->src_axes));
        if (k->heads)
            key_u64(w, STR("heads"), k->heads);
        if (k->flat_c)
            key_u64(w, STR("flat_c"), k->flat_c);
        if (k->size)
            write_extents(w, k);
    }
    if (k->placed)
        TRY(write_place(w, m, k, e));
    json_w_object_end(w);
    return ST_OK;
}

/* Tensors with elements that the source does not have: they are left behind on the way back. */
static void write_made_up(struct json_w *w, const struct mapping *m)
{
    bool any = false;
    for (size_t i = 0; i < m->n_made; i++) {
        bool zero = false;
        for (size_t k = 0; k < m->made[i].n_takes; k++)
            zero = zero || (m->made[i].take[k].zero && m->made[i].take[k].harmless);
        if (!zero)
            continue;
        if (!any) {
            json_w_key(w, STR("made_up"));
            json_w_array(w);
        }
        any = true;
        json_w_str(w, m->made[i].name);
    }
    if (any)
        json_w_array_end(w);
}

static enum status write_tensors(struct json_w *w, const struct mapping *m, int64_t *place,
                                 struct err *e)
{
    size_t n = 0, n_out = 0;
    for (size_t i = 0; i < m->n_made; i++)
        n += m->made[i].n_takes;
    struct user *u = ARENA_ARRAY(m->tmp, struct user, n + 1);
    if (!u)
        return err_nomem(e, n * sizeof *u);
    n = 0;
    for (size_t i = 0; i < m->n_made; i++)
        for (size_t k = 0; k < m->made[i].n_takes; k++)
            if (!m->made[i].take[k].zero)
                u[n++] = (struct user){m->made[i].take[k].src, (uint32_t)i, (uint32_t)k,
                                       m->made[i].take[k].part};
    if (n)
        qsort(u, n, sizeof *u, by_src);
    json_w_key(w, STR("tensors"));
    json_w_array(w);
    for (size_t i = 0; i < n;) {
        const struct tensor *t = &m->src->tensor[u[i].src];
        place[u[i].src] = (int64_t)n_out++;
        json_w_object(w);
        key_str(w, STR("name"), map_old_name(m, u[i].src));
        key_u64(w, STR("order"), t->order);
        if (t->of >= 0)
            key_str(w, STR("of"), map_old_name(m, (size_t)t->of));
        json_w_key(w, STR("from"));
        json_w_array(w);
        for (uint32_t src = u[i].src; i < n && u[i].src == src; i++)
            TRY(write_part(w, m, &m->made[u[i].made], &m->made[u[i].made].take[u[i].take], e));
        json_w_array_end(w);
        json_w_object_end(w);
    }
    json_w_array_end(w);
    return ST_OK;
}

static void write_text(struct json_w *w, struct str text)
{
    if (str_utf8(text, NULL)) {
        key_str(w, STR("text"), text);
        return;
    }
    static const char hex[] = "0123456789abcdef";
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < text.n; i++) {
        buf_u8(&b, (uint8_t)hex[(unsigned char)text.p[i] >> 4]);
        buf_u8(&b, (uint8_t)hex[(unsigned char)text.p[i] & 15]);
    }
    if (b.failed)
        w->b->failed = true;
    key_str(w, STR("hex"), buf_as_str(&b));
    buf_free(&b);
}

static const char *const node_names[NODE_OPAQUE + 1] = {
    [NODE_NIL] = "none",      [NODE_BOOL] = "bool",     [NODE_INT] = "int",
    [NODE_BIGINT] = "bigint", [NODE_FLOAT] = "float",   [NODE_COMPLEX] = "complex",
    [NODE_STR] = "str",       [NODE_BYTES] = "bytes",   [NODE_DTYPE] = "dtype",
    [NODE_DICT] = "dict",     [NODE_LIST] = "list",     [NODE_TUPLE] = "tuple",
    [NODE_SET] = "set",       [NODE_TENSOR] = "tensor", [NODE_OPAQUE] = "opaque",
};

static void write_scalar(struct json_w *w, const struct node *n)
{
    key_str(w, STR("kind"), str_from(node_names[n->kind]));
    if (n->text.n)
        write_text(w, n->text);
    if (n->i) {
        json_w_key(w, STR("i"));
        json_w_i64(w, n->i);
    }
    if (n->bits[0])
        key_u64(w, STR("b0"), n->bits[0]);
    if (n->bits[1])
        key_u64(w, STR("b1"), n->bits[1]);
}

/* Parents first, so a node's parent is known by its place in the list. */
static enum status write_nodes(struct json_w *w, const struct mapping *m, const int64_t *place,
                               struct err *e)
{
    struct node *root = m->src->tree;
    if (!root || map_upgrade_lost(m))
        return ST_OK;
    struct numbered_node {
        const struct node *n;
        uint64_t at;
    } *open = ARENA_ARRAY(m->a, struct numbered_node, 4096);
    size_t depth = 0;
    uint64_t count = 0;
    if (!open)
        return err_nomem(e, 4096 * sizeof *open);
    json_w_key(w, STR("nodes"));
    json_w_array(w);
    for (struct node *n = root; n; n = node_step(root, n), count++) {
        while (depth > 0 && open[depth - 1].n != n->parent)
            depth--;
        if (depth == 4096)
            return err_set(e, ST_LIMIT, "too-deep", "the tree is deeper than 4096 levels");
        json_w_object(w);
        if (n != root)
            key_u64(w, STR("up"), open[depth - 1].at);
        write_scalar(w, n);
        if (n->kind == NODE_TENSOR) {
            int64_t at = n->tensor < m->src->n_tensors ? place[n->tensor] : -1;
            json_w_key(w, STR("tensor"));
            json_w_i64(w, at);
        }
        if (n->key) {
            json_w_key(w, STR("key"));
            json_w_object(w);
            write_scalar(w, n->key);
            json_w_object_end(w);
        }
        json_w_object_end(w);
        open[depth].n = n;
        open[depth++].at = count;
    }
    json_w_array_end(w);
    return ST_OK;
}

enum status spelling_write(struct mapping *m, struct err *e)
{
    int64_t *place = ARENA_ARRAY(m->tmp, int64_t, m->src->n_tensors + 1);
    if (!place)
        return err_nomem(e, m->src->n_tensors * sizeof *place);
    for (size_t i = 0; i < m->src->n_tensors; i++)
        place[i] = -1;
    struct buf *b = &m->p->spelling;
    struct json_w w;
    buf_clear(b);
    json_w_init(&w, b, 0);
    json_w_object(&w);
    bool placed = false;
    for (size_t i = 0; i < m->n_made; i++)
        placed = placed || (m->made[i].n_takes && m->made[i].take->placed);
    key_u64(&w, STR("format"), placed ? SPELLING_PLACED : SPELLING_FORMAT);
    key_str(&w, STR("framework"), str_from(m->from->name));
    key_u64(&w, STR("rules"), RULES_VERSION);
    write_layers(&w, m);
    enum status st = write_tensors(&w, m, place, e);
    write_made_up(&w, m);
    if (st == ST_OK)
        st = write_nodes(&w, m, place, e);
    json_w_object_end(&w);
    if (st == ST_OK)
        st = buf_ok(b, e);
    uint8_t *p = st == ST_OK ? mem_resize(b->p, b->n) : NULL;
    if (p) { /* what the doubling took and nothing uses */
        b->p = p;
        b->cap = b->n;
    }
    m->p->dst.spelling = buf_as_str(b);
    return st;
}

/* ---- reading ---- */

struct reader {
    struct mapping *m;
    struct json j;
    struct node **node;
    size_t n_nodes, cap_nodes;
    struct str framework;
};

static enum status syntax(struct reader *r, struct err *e, const char *what)
{
    return json_fail(&r->j, e, "spelling-syntax", "%s", what);
}

/* Next key of the open object; *key is kept in the arena; .p == NULL at its end. */
static enum status next_key(struct reader *r, struct str *key, struct err *e)
{
    TRY(json_next(&r->j, e));
    *key = STR_NONE;
    if (r->j.kind == JSON_OBJECT_END)
        return ST_OK;
    if (r->j.kind != JSON_KEY)
        return syntax(r, e, "expected a key");
    *key = arena_str(r->m->a, r->j.text.p, r->j.text.n);
    if (!key->p)
        return err_nomem(e, r->j.text.n);
    return json_next(&r->j, e);
}

static enum status text(struct reader *r, struct str *out, struct err *e)
{
    if (r->j.kind != JSON_STRING)
        return syntax(r, e, "expected text");
    *out = arena_str(r->m->a, r->j.text.p, r->j.text.n);
    return out->p ? ST_OK : err_nomem(e, r->j.text.n);
}

static enum status number(struct reader *r, uint64_t *out, struct err *e)
{
    return r->j.kind == JSON_NUMBER && json_u64(&r->j, out) ? ST_OK
                                                            : syntax(r, e, "expected a number");
}

static enum status axes_text(struct reader *r, const char **out, struct err *e)
{
    struct axes x;
    struct str s;
    TRY(text(r, &s, e));
    if (s.n >= AXES_TEXT || axes_parse(s, &x, e) != ST_OK)
        return syntax(r, e, "not a list of axis letters");
    *out = map_axes(r->m, s.p);
    return *out ? ST_OK : err_nomem(e, s.n);
}

/* {"a": extent, ...} */
static enum status read_extents(struct reader *r, struct take *k, struct err *e)
{
    struct axes_size *size = ARENA_NEW(r->m->a, struct axes_size);
    if (!size)
        return err_nomem(e, sizeof *size);
    if (r->j.kind != JSON_OBJECT)
        return syntax(r, e, "expected extents");
    for (;;) {
        struct str key;
        TRY(next_key(r, &key, e));
        if (!key.p)
            break;
        if (key.n != 1 || (unsigned char)*key.p >= sizeof size->of / sizeof *size->of)
            return syntax(r, e, "not an axis letter");
        TRY(number(r, &size->of[(unsigned char)*key.p], e));
    }
    k->size = size;
    return ST_OK;
}

/* [[axis, lo, hi] ...], or without hi. */
static enum status read_cuts(struct reader *r, struct cut *cut, uint8_t *n, bool hi, struct err *e)
{
    *n = 0;
    if (r->j.kind != JSON_ARRAY)
        return syntax(r, e, "expected a list");
    for (;;) {
        uint64_t v[3] = {0};
        TRY(json_next(&r->j, e));
        if (r->j.kind == JSON_ARRAY_END)
            return ST_OK;
        if (r->j.kind != JSON_ARRAY || *n == CUTS)
            return syntax(r, e, "not a cut, or too many");
        for (int i = 0; i < (hi ? 3 : 2); i++) {
            TRY(json_next(&r->j, e));
            TRY(number(r, &v[i], e));
        }
        TRY(json_next(&r->j, e));
        if (r->j.kind != JSON_ARRAY_END || v[0] >= VIEW_MAX_AXES || (hi && v[1] > v[2]))
            return syntax(r, e, "not a cut");
        cut[(*n)++] = (struct cut){(uint8_t)v[0], v[1], v[2]};
    }
}

static enum status read_made_up(struct reader *r, struct err *e)
{
    if (r->j.kind != JSON_ARRAY)
        return syntax(r, e, "expected a list");
    for (;;) {
        TRY(json_next(&r->j, e));
        if (r->j.kind == JSON_ARRAY_END)
            return ST_OK;
        if (r->j.kind != JSON_STRING)
            return syntax(r, e, "expected text");
        int64_t at = model_find(r->m->src, r->j.text);
        if (at >= 0)
            TRY(map_left(r->m, (uint32_t)at, "made up on the way in", true, e));
    }
}

/* Cuts are foreign: inside the tensor, or refused. */
static enum status cuts_fit(struct reader *r, const struct take *k, struct err *e)
{
    const struct tensor *t = &r->m->src->tensor[k->src];
    for (size_t i = 0; i < k->n_cuts; i++)
        if (k->cut[i].axis >= t->n_dims || k->cut[i].hi > t->dim[k->cut[i].axis] ||
            (i > 0 && k->cut[i].axis == k->cut[0].axis))
            return err_set(e, ST_CANNOT, "spelling-lacks",
                           "the source's spelling needs more of %.*s than is there",
                           STR_ARG(t->name));
    return ST_OK;
}

static enum status read_part(struct reader *r, struct take *k, struct err *e)
{
    *k = (struct take){.src = UINT32_MAX, .src_axes = "", .can_axes = "", .dst_axes = ""};
    struct str key;
    for (;;) {
        TRY(next_key(r, &key, e));
        if (!key.p)
            break;
        if (str_is(key, "tensor")) {
            struct str name;
            TRY(text(r, &name, e));
            int64_t at = model_find(r->m->src, name);
            if (at < 0 || !r->m->in[at])
                return err_set(e, ST_CANNOT, "spelling-lacks",
                               "the source's spelling needs %.*s, which is not there",
                               STR_ARG(name));
            k->src = (uint32_t)at;
        } else if (str_is(key, "canonical")) {
            TRY(axes_text(r, &k->src_axes, e));
        } else if (str_is(key, "source")) {
            TRY(axes_text(r, &k->can_axes, e));
        } else if (str_is(key, "heads")) {
            TRY(number(r, &k->heads, e));
        } else if (str_is(key, "flat_c")) {
            TRY(number(r, &k->flat_c, e));
        } else if (str_is(key, "extents")) {
            TRY(read_extents(r, k, e));
        } else if (str_is(key, "cut")) {
            TRY(read_cuts(r, k->cut, &k->n_cuts, true, e));
        } else if (str_is(key, "at")) {
            TRY(read_cuts(r, k->at, &k->n_at, false, e));
            k->placed = true;
        } else if (str_is(key, "neg")) {
            if (r->j.kind != JSON_BOOL)
                return syntax(r, e, "expected true or false");
            k->neg = r->j.truth;
        } else {
            TRY(json_skip(&r->j, e));
        }
    }
    if (k->src == UINT32_MAX || !*k->src_axes != !*k->can_axes)
        return syntax(r, e, "a part without its tensor or layouts");
    k->dst_axes = k->can_axes;
    return cuts_fit(r, k, e);
}

#define PARTS_MAX 64
static enum status read_tensor(struct reader *r, struct err *e)
{
    struct take part[PARTS_MAX];
    size_t n = 0;
    struct str key, name = STR_NONE, of = STR_NONE;
    uint64_t order = 0;
    for (;;) {
        TRY(next_key(r, &key, e));
        if (!key.p)
            break;
        if (str_is(key, "name")) {
            TRY(text(r, &name, e));
        } else if (str_is(key, "of")) {
            TRY(text(r, &of, e));
        } else if (str_is(key, "order")) {
            TRY(number(r, &order, e));
        } else if (str_is(key, "from")) {
            if (r->j.kind != JSON_ARRAY)
                return syntax(r, e, "expected a list of parts");
            for (;;) {
                TRY(json_next(&r->j, e));
                if (r->j.kind == JSON_ARRAY_END)
                    break;
                if (r->j.kind != JSON_OBJECT || n == PARTS_MAX)
                    return syntax(r, e, "not a part, or too many");
                TRY(read_part(r, &part[n], e));
                n++;
            }
        } else {
            TRY(json_skip(&r->j, e));
        }
    }
    for (size_t i = 1; i < n; i++)
        if (part[i].placed != part[0].placed)
            return syntax(r, e, "parts with a place and parts without");
    if (!name.n || n == 0)
        return syntax(r, e, "a tensor without name or parts");
    struct made *d;
    TRY(map_made(r->m, n, &d, e));
    memcpy(d->take, part, n * sizeof *part);
    d->name = name;
    d->order = order;
    d->has_order = true;
    d->of_name = of;
    d->why = STR("as the source spelled it");
    return ST_OK;
}

static bool unhex(struct arena *a, struct str s, struct str *out)
{
    *out = arena_str(a, s.p, s.n / 2);
    char *w = (char *)(uintptr_t)out->p;
    if (!w || s.n % 2)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (v < 0)
            return false;
        w[i / 2] = (char)(i % 2 ? w[i / 2] | v : v << 4);
    }
    return true;
}

/* One field of a node or key; *mine = false when it is another's. */
static enum status scalar_field(struct reader *r, struct node *n, struct str key, bool *mine,
                                struct err *e)
{
    *mine = true;
    if (str_is(key, "kind")) {
        int k = NODE_OPAQUE;
        if (r->j.kind != JSON_STRING)
            return syntax(r, e, "expected text");
        while (k >= 0 && !str_is(r->j.text, node_names[k]))
            k--;
        if (k < 0)
            return syntax(r, e, "no such kind of node");
        n->kind = (enum node_kind)k;
    } else if (str_is(key, "text")) {
        TRY(text(r, &n->text, e));
    } else if (str_is(key, "hex")) {
        struct str s;
        TRY(text(r, &s, e));
        if (!unhex(r->m->a, s, &n->text))
            return syntax(r, e, "not hexadecimal");
    } else if (str_is(key, "i")) {
        if (r->j.kind != JSON_NUMBER || !json_i64(&r->j, &n->i))
            return syntax(r, e, "expected a number");
    } else if (str_is(key, "b0")) {
        TRY(number(r, &n->bits[0], e));
    } else if (str_is(key, "b1")) {
        TRY(number(r, &n->bits[1], e));
    } else {
        *mine = false;
    }
    return ST_OK;
}

static enum status read_key(struct reader *r, struct node *n, struct err *e)
{
    struct str key;
    bool mine;
    if (r->j.kind != JSON_OBJECT || !(n->key = node_new(r->m->a, NODE_NIL)))
        return syntax(r, e, "not a key");
    for (;;) {
        TRY(next_key(r, &key, e));
        if (!key.p)
            break;
        TRY(scalar_field(r, n->key, key, &mine, e));
        if (!mine)
            TRY(json_skip(&r->j, e));
    }
    /* an attribute's name is an opaque key */
    return n->key->kind < NODE_DICT || n->key->kind == NODE_OPAQUE
               ? ST_OK
               : syntax(r, e, "a key that is no scalar");
}

static bool holds(enum node_kind k)
{
    return k == NODE_DICT || k == NODE_LIST || k == NODE_TUPLE || k == NODE_SET || k == NODE_OPAQUE;
}

static enum status read_node(struct reader *r, struct err *e)
{
    struct node *n = node_new(r->m->a, NODE_NIL);
    struct str key;
    uint64_t up = UINT64_MAX;
    bool mine, has_tensor = false;
    if (!n)
        return err_nomem(e, sizeof *n);
    for (;;) {
        TRY(next_key(r, &key, e));
        if (!key.p)
            break;
        TRY(scalar_field(r, n, key, &mine, e));
        if (mine)
            continue;
        if (str_is(key, "up")) {
            TRY(number(r, &up, e));
        } else if (str_is(key, "tensor")) {
            int64_t at;
            if (r->j.kind != JSON_NUMBER || !json_i64(&r->j, &at))
                return syntax(r, e, "expected a number");
            if (at < 0 || (uint64_t)at >= UINT32_MAX)
                return err_set(e, ST_CANNOT, "spelling-lacks",
                               "the source's tree holds a tensor that was left out");
            n->tensor = (uint32_t)at;
            has_tensor = true;
        } else if (str_is(key, "key")) {
            TRY(read_key(r, n, e));
        } else {
            TRY(json_skip(&r->j, e));
        }
    }
    bool root = r->n_nodes == 0;
    if ((up == UINT64_MAX) != root || (!root && up >= r->n_nodes) ||
        has_tensor != (n->kind == NODE_TENSOR))
        return syntax(r, e, "a node without its place");
    if (!root) {
        struct node *p = r->node[up];
        bool keyed = p->kind == NODE_DICT; /* a foreign object's parts may be named or not */
        if (!holds(p->kind) || (p->kind != NODE_OPAQUE && keyed != (n->key != NULL)))
            return syntax(r, e, "a node below one that cannot hold it");
        node_add(p, n);
    }
    if (r->n_nodes == r->cap_nodes) {
        size_t cap = r->cap_nodes ? r->cap_nodes * 2 : 256;
        struct node **p = ARENA_ARRAY(r->m->a, struct node *, cap);
        if (!p)
            return err_nomem(e, cap * sizeof *p);
        if (r->n_nodes)
            memcpy(p, r->node, r->n_nodes * sizeof(struct node *));
        r->node = p;
        r->cap_nodes = cap;
    }
    r->node[r->n_nodes++] = n;
    return ST_OK;
}

static enum status read_list(struct reader *r, enum status (*each)(struct reader *, struct err *),
                             struct err *e)
{
    if (r->j.kind != JSON_ARRAY)
        return syntax(r, e, "expected a list");
    for (;;) {
        TRY(json_next(&r->j, e));
        if (r->j.kind == JSON_ARRAY_END)
            return ST_OK;
        if (r->j.kind != JSON_OBJECT)
            return syntax(r, e, "expected an object");
        TRY(each(r, e));
    }
}

static enum status read_all(struct reader *r, struct err *e)
{
    struct str key;
    uint64_t format = 0;
    TRY(json_expect(&r->j, JSON_OBJECT, "the spelling", e));
    for (;;) {
        TRY(next_key(r, &key, e));
        if (!key.p)
            break;
        if (str_is(key, "format"))
            TRY(number(r, &format, e));
        else if (str_is(key, "framework"))
            TRY(text(r, &r->framework, e));
        else if (str_is(key, "tensors"))
            TRY(read_list(r, read_tensor, e));
        else if (str_is(key, "made_up"))
            TRY(read_made_up(r, e));
        else if (str_is(key, "nodes"))
            TRY(read_list(r, read_node, e));
        else
            TRY(json_skip(&r->j, e));
    }
    if (format != SPELLING_FORMAT && format != SPELLING_PLACED)
        return err_set(e, ST_INPUT, "spelling-version",
                       "the archive's spelling is of a version this program does not know");
    return ST_OK;
}

/* parameters of moments, by name */
static enum status resolve(struct reader *r, struct err *e)
{
    struct mapping *m = r->m;
    for (size_t i = 0; i < m->n_made; i++) {
        struct str of = m->made[i].of_name;
        for (size_t j = 0; of.n && j < m->n_made; j++)
            if (str_eq(m->made[j].name, of))
                m->made[i].of = (int64_t)j;
        if (of.n && m->made[i].of < 0)
            return err_set(e, ST_INPUT, "spelling-syntax",
                           "a moment of a parameter that is not there");
    }
    for (size_t i = 0; i < r->n_nodes; i++)
        if (r->node[i]->kind == NODE_TENSOR && r->node[i]->tensor >= m->n_made)
            return err_set(e, ST_INPUT, "spelling-syntax",
                           "a tree that holds a tensor which is not there");
    return ST_OK;
}

enum status spelling_restore(struct mapping *m, struct err *e)
{
    struct cursor c;
    struct reader r = {.m = m};
    cur_mem(&c, m->src->spelling.p, m->src->spelling.n, "spelling", 0);
    json_init(&r.j, &c, 0);
    enum status st = read_all(&r, e);
    json_free(&r.j);
    cur_close(&c);
    TRY(st);
    TRY(resolve(&r, e));
    m->tree = r.n_nodes ? r.node[0] : NULL;
    m->framework = r.framework;
    return ST_OK;
}
