/* Archive: train.json, the structure around the tensors.
 *
 *   {"format":"nnferry-tree","nodes":[NODE,...],"version":1}
 *   NODE = {"key":null or {"kind":KIND,"value":VALUE},"kind":KIND,"n":CHILDREN,"value":VALUE}
 *
 * Nodes stand in preorder; each container says how many children follow. VALUE by kind: nil, list,
 * tuple, set: null; bool; int: a number; bigint: decimal text; float: 16 hex digits of the IEEE
 * double; complex: 32; str: text, or {"hex":DIGITS} where it is not UTF-8; bytes: hex digits;
 * dtype: its name; dict: the class, "" = a plain one; tensor: its number in the manifest; opaque:
 * the global's name. Refused: tree-json (any other text), and what codec/json.h refuses.
 */
#include "codec/json.h"
#include "format/archive_impl.h"
#include <string.h>

static const char *const kind_names[] = {
    [NODE_NIL] = "nil",       [NODE_BOOL] = "bool",     [NODE_INT] = "int",
    [NODE_BIGINT] = "bigint", [NODE_FLOAT] = "float",   [NODE_COMPLEX] = "complex",
    [NODE_STR] = "str",       [NODE_BYTES] = "bytes",   [NODE_DTYPE] = "dtype",
    [NODE_DICT] = "dict",     [NODE_LIST] = "list",     [NODE_TUPLE] = "tuple",
    [NODE_SET] = "set",       [NODE_TENSOR] = "tensor", [NODE_OPAQUE] = "opaque",
};
#define N_KINDS (sizeof kind_names / sizeof *kind_names)

static bool container(enum node_kind k)
{
    return k == NODE_DICT || k == NODE_LIST || k == NODE_TUPLE || k == NODE_SET || k == NODE_OPAQUE;
}

/* An opaque key is an attribute of the object above, not an item of it. */
static bool is_key(enum node_kind k)
{
    return k == NODE_OPAQUE || (!container(k) && k != NODE_TENSOR);
}

static struct node *step(const struct node *root, const struct node *n)
{
    return node_step(root, (struct node *)(uintptr_t)n);
}

enum status ar_tree_check(const struct model *m, struct err *e)
{
    size_t bad;
    for (const struct node *n = m->tree; n; n = step(m->tree, n)) {
        bool named = n->kind == NODE_DICT || n->kind == NODE_OPAQUE || n->kind == NODE_BIGINT ||
                     n->kind == NODE_DTYPE;
        if (n->key && (!is_key(n->key->kind) || n->key->child))
            return err_set(e, ST_CANNOT, "tree-key",
                           "a key of the structure is neither text nor a number");
        if (named && !str_utf8(n->text, &bad))
            return err_set(e, ST_CANNOT, "tree-name", "a class or type name is not UTF-8");
        if (n->kind == NODE_TENSOR && n->tensor >= m->n_tensors)
            return err_set(e, ST_BUG, "tree-tensor", "the structure names a tensor that is not");
    }
    return ST_OK;
}

static void put_hex(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        buf_fmt(b, "%02x", (unsigned)(uint8_t)s.p[i]);
}

static void put_value(struct json_w *w, const struct node *n)
{
    size_t bad;
    struct buf hex = BUF_INIT;
    switch (n->kind) {
    case NODE_BOOL:
        json_w_bool(w, n->i != 0);
        break;
    case NODE_INT:
        json_w_i64(w, n->i);
        break;
    case NODE_FLOAT:
        buf_fmt(&hex, "%016llx", (unsigned long long)n->bits[0]);
        break;
    case NODE_COMPLEX:
        buf_fmt(&hex, "%016llx%016llx", (unsigned long long)n->bits[0],
                (unsigned long long)n->bits[1]);
        break;
    case NODE_STR:
        if (str_utf8(n->text, &bad)) {
            json_w_str(w, n->text);
            break;
        }
        put_hex(&hex, n->text);
        json_w_object(w);
        json_w_key(w, STR("hex"));
        json_w_str(w, buf_as_str(&hex));
        json_w_object_end(w);
        buf_clear(&hex);
        break;
    case NODE_BYTES:
        put_hex(&hex, n->text);
        if (n->text.n == 0)
            json_w_str(w, STR(""));
        break;
    case NODE_BIGINT:
    case NODE_DTYPE:
    case NODE_DICT:
    case NODE_OPAQUE:
        json_w_str(w, n->text);
        break;
    case NODE_TENSOR:
        json_w_u64(w, n->tensor);
        break;
    case NODE_NIL:
    case NODE_LIST:
    case NODE_TUPLE:
    case NODE_SET:
        json_w_null(w);
        break;
    }
    if (hex.n > 0)
        json_w_str(w, buf_as_str(&hex));
    w->b->failed |= hex.failed;
    buf_free(&hex);
}

enum status ar_tree_write(const struct model *m, struct buf *b, struct err *e)
{
    struct json_w w;
    json_w_init(&w, b, 0);
    json_w_object(&w);
    json_w_key(&w, STR("format"));
    json_w_str(&w, STR("nnferry-tree"));
    json_w_key(&w, STR("nodes"));
    json_w_array(&w);
    for (const struct node *n = m->tree; n; n = step(m->tree, n)) {
        json_w_object(&w);
        json_w_key(&w, STR("key"));
        if (n->key) {
            json_w_object(&w);
            json_w_key(&w, STR("kind"));
            json_w_str(&w, str_from(kind_names[n->key->kind]));
            json_w_key(&w, STR("value"));
            put_value(&w, n->key);
            json_w_object_end(&w);
        } else {
            json_w_null(&w);
        }
        json_w_key(&w, STR("kind"));
        json_w_str(&w, str_from(kind_names[n->kind]));
        json_w_key(&w, STR("n"));
        json_w_u64(&w, n->n_children);
        json_w_key(&w, STR("value"));
        put_value(&w, n);
        json_w_object_end(&w);
    }
    json_w_array_end(&w);
    json_w_key(&w, STR("version"));
    json_w_u64(&w, 1);
    json_w_object_end(&w);
    buf_u8(b, '\n');
    return buf_ok(b, e);
}

/* ---- reading ---- */

static enum status expect_key(struct json *j, const char *key, struct err *e)
{
    TRY(json_expect(j, JSON_KEY, key, e));
    if (!str_is(j->text, key))
        return json_fail(j, e, "tree-json", "'%s' belongs here", key);
    return ST_OK;
}

static enum status expect_text(struct json *j, const char *text, struct err *e)
{
    TRY(json_expect(j, JSON_STRING, text, e));
    if (!str_is(j->text, text))
        return json_fail(j, e, "tree-json", "'%s' belongs here", text);
    return ST_OK;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* hex digits of the current string into bytes from the arena */
static enum status get_hex(struct json *j, struct arena *a, struct str *out, struct err *e)
{
    size_t n = j->text.n / 2;
    char *p = arena_alloc(a, n + 1, 1);
    if (!p)
        return err_nomem(e, n);
    for (size_t i = 0; i < n; i++) {
        int hi = digit(j->text.p[2 * i]), lo = digit(j->text.p[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return json_fail(j, e, "tree-json", "not hex digits");
        p[i] = (char)(hi << 4 | lo);
    }
    if (j->text.n % 2)
        return json_fail(j, e, "tree-json", "an odd number of hex digits");
    *out = (struct str){p, n};
    return ST_OK;
}

static uint64_t big_endian(const char *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | (uint8_t)p[i];
    return v;
}

static enum status get_text(struct json *j, struct arena *a, struct str *out, struct err *e)
{
    *out = arena_str(a, j->text.p, j->text.n);
    return out->p ? ST_OK : err_nomem(e, j->text.n);
}

static enum status get_str(struct json *j, struct arena *a, struct str *out, struct err *e)
{
    TRY(json_next(j, e));
    if (j->kind == JSON_STRING)
        return get_text(j, a, out, e);
    if (j->kind != JSON_OBJECT)
        return json_fail(j, e, "tree-json", "text belongs here");
    TRY(expect_key(j, "hex", e));
    TRY(json_expect(j, JSON_STRING, "hex", e));
    TRY(get_hex(j, a, out, e));
    return json_expect(j, JSON_OBJECT_END, "hex", e);
}

static enum status get_value(struct json *j, struct model *m, struct node *n, struct err *e)
{
    struct str raw;
    uint64_t v;
    switch (n->kind) {
    case NODE_STR:
        return get_str(j, &m->arena, &n->text, e);
    case NODE_BOOL:
        TRY(json_expect(j, JSON_BOOL, "value", e));
        n->i = j->truth;
        return ST_OK;
    case NODE_INT:
        TRY(json_expect(j, JSON_NUMBER, "value", e));
        if (!json_i64(j, &n->i))
            return json_fail(j, e, "tree-json", "not an integer of 64 bits");
        return ST_OK;
    case NODE_TENSOR:
        TRY(json_expect(j, JSON_NUMBER, "value", e));
        if (!json_u64(j, &v) || v >= m->n_tensors)
            return json_fail(j, e, "tree-json", "no such tensor");
        n->tensor = (uint32_t)v;
        return ST_OK;
    case NODE_FLOAT:
    case NODE_COMPLEX:
        TRY(json_expect(j, JSON_STRING, "value", e));
        TRY(get_hex(j, &m->arena, &raw, e));
        if (raw.n != (n->kind == NODE_FLOAT ? 8u : 16u))
            return json_fail(j, e, "tree-json", "wrong number of hex digits");
        n->bits[0] = big_endian(raw.p);
        n->bits[1] = raw.n == 16 ? big_endian(raw.p + 8) : 0;
        return ST_OK;
    case NODE_BYTES:
        TRY(json_expect(j, JSON_STRING, "value", e));
        return get_hex(j, &m->arena, &n->text, e);
    case NODE_BIGINT:
    case NODE_DTYPE:
    case NODE_DICT:
    case NODE_OPAQUE:
        TRY(json_expect(j, JSON_STRING, "value", e));
        TRY(get_text(j, &m->arena, &n->text, e));
        if (n->kind == NODE_DTYPE && dtype_parse(n->text) == DT_NONE)
            return json_fail(j, e, "tree-json", "no such dtype");
        return ST_OK;
    default:
        return json_expect(j, JSON_NULL, "value", e);
    }
}

static enum status get_kind(struct json *j, enum node_kind *out, struct err *e)
{
    TRY(expect_key(j, "kind", e));
    TRY(json_expect(j, JSON_STRING, "kind", e));
    for (size_t k = 0; k < N_KINDS; k++)
        if (str_is(j->text, kind_names[k])) {
            *out = (enum node_kind)k;
            return ST_OK;
        }
    return json_fail(j, e, "tree-json", "no such kind");
}

static enum status get_key(struct json *j, struct model *m, struct node **out, struct err *e)
{
    enum node_kind kind = NODE_NIL;
    TRY(expect_key(j, "key", e));
    TRY(json_next(j, e));
    *out = NULL;
    if (j->kind == JSON_NULL)
        return ST_OK;
    if (j->kind != JSON_OBJECT)
        return json_fail(j, e, "tree-json", "a key is null or an object");
    TRY(get_kind(j, &kind, e));
    if (!is_key(kind))
        return json_fail(j, e, "tree-json", "a container cannot be a key");
    *out = node_new(&m->arena, kind);
    if (!*out)
        return err_nomem(e, sizeof **out);
    TRY(expect_key(j, "value", e));
    TRY(get_value(j, m, *out, e));
    return json_expect(j, JSON_OBJECT_END, "key", e);
}

/* One node, from behind its '{'. *n_children: how many follow. */
static enum status get_node(struct json *j, struct model *m, struct node **out,
                            uint64_t *n_children, struct err *e)
{
    struct node *key;
    enum node_kind kind = NODE_NIL;
    uint64_t at = j->at;
    TRY(get_key(j, m, &key, e));
    TRY(get_kind(j, &kind, e));
    struct node *n = *out = node_new(&m->arena, kind);
    if (!n)
        return err_nomem(e, sizeof *n);
    n->key = key;
    n->offset = at;
    TRY(expect_key(j, "n", e));
    TRY(json_expect(j, JSON_NUMBER, "n", e));
    if (!json_u64(j, n_children) || (*n_children > 0 && !container(kind)))
        return json_fail(j, e, "tree-json", "a wrong number of children");
    TRY(expect_key(j, "value", e));
    TRY(get_value(j, m, n, e));
    m->has_opaque |= kind == NODE_OPAQUE;
    return json_expect(j, JSON_OBJECT_END, "node", e);
}

/* A container's count of children still to come is kept in its unused i. */
static enum status get_nodes(struct json *j, struct model *m, struct err *e)
{
    struct node *open = NULL, *n;
    uint64_t n_children;
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_ARRAY_END)
            break;
        if (j->kind != JSON_OBJECT || (m->tree && !open))
            return json_fail(j, e, "tree-json", "a node too many, or not an object");
        TRY(get_node(j, m, &n, &n_children, e));
        if (!open && n->key)
            return json_fail(j, e, "tree-json", "the outermost node has a key");
        if (open) {
            if ((open->kind == NODE_DICT && !n->key) || (n->key && !container(open->kind)))
                return json_fail(j, e, "tree-json", "keys belong to the children of dicts");
            node_add(open, n);
            open->i--;
        } else {
            m->tree = n;
        }
        if (n_children > 0) {
            n->i = n_children > INT64_MAX ? INT64_MAX : (int64_t)n_children;
            open = n;
        }
        while (open && open->i == 0)
            open = open->parent;
    }
    return open || !m->tree ? json_fail(j, e, "tree-json", "nodes are missing") : ST_OK;
}

enum status ar_tree_read(const uint8_t *p, size_t n, const char *file, uint64_t at, struct model *m,
                         struct err *e)
{
    struct cursor c;
    struct json j;
    struct buf again = BUF_INIT;
    cur_mem(&c, p, n, file, at);
    json_init(&j, &c, n + 1);
    m->tree = NULL;
    enum status st = json_expect(&j, JSON_OBJECT, "train.json", e);
    if (st == ST_OK)
        st = expect_key(&j, "format", e);
    if (st == ST_OK)
        st = expect_text(&j, "nnferry-tree", e);
    if (st == ST_OK)
        st = expect_key(&j, "nodes", e);
    if (st == ST_OK)
        st = json_expect(&j, JSON_ARRAY, "nodes", e);
    if (st == ST_OK)
        st = get_nodes(&j, m, e);
    /* what follows, and the spelling of all of it, is compared with our own */
    if (st == ST_OK)
        st = ar_tree_write(m, &again, e);
    if (st == ST_OK && (again.n != n || memcmp(again.p, p, n) != 0)) {
        st = err_set(e, ST_INPUT, "tree-json", "train.json is not written the canonical way");
        err_at(e, file, at);
    }
    buf_free(&again);
    json_free(&j);
    cur_close(&c);
    return st;
}
