/* OCDBT, reading: see ocdbt.h for the layout. A node is decoded whole; its columns are then walked
 * side by side, a cursor each, so that nothing is kept per entry. Nodes on the way down stand on an
 * explicit stack.
 */
#include "codec/ocdbt.h"
#include "base/checked.h"
#include "base/mem.h"
#include "codec/crc.h"
#include "codec/zstd.h"
#include <string.h>

#define MANIFEST_MAGIC 0x0cdb3a2au
#define NODE_MAGIC 0x0cdb20deu
#define MAX_STORED ((uint64_t)256 << 20) /* of one node, and decoded */
#define MAX_KEY 65535u
#define MAX_HEIGHT 64 /* of a tree; each level holds at least two entries in earnest */
#define MAX_ENTRIES ((uint64_t)1 << 20)
#define NO_NODE UINT64_MAX

struct table {
    size_t n;
    struct str *path; /* whole, below the store's folder */
    size_t *base;     /* how much of it the nodes there inherit */
    struct file **file;
};
/* A column: a range of the node's bytes, one value after another. */
struct column {
    const uint8_t *p, *end;
};
enum { C_PREFIX, C_SUFFIX, C_COMMON, C_KEY, C_A, C_B, C_C, C_D, C_E, C_F, N_COLUMNS };
struct frame {
    struct arena arena;
    struct buf body;
    struct table table;
    struct column col[N_COLUMNS];
    uint64_t n, at; /* entries, the next one */
    uint8_t height;
    uint64_t n_keys, seen; /* below it: as the parent says, and as met */
    size_t prefix;         /* bytes of walk.key that all of it shares */
    size_t key;            /* length of the last entry's own key, behind the prefix */
    struct buf last;       /* that key */
    struct str transitive; /* folder of the paths in it, from the parent's arena */
    struct file *file;     /* for messages */
    uint64_t offset;
};
struct walk {
    const struct ocdbt *o;
    struct frame *stack;
    size_t depth;
    struct buf key;      /* the whole key of the current leaf entry */
    struct buf before;   /* the one before it */
    bool any;            /* there was one */
    uint64_t node_bytes; /* read so far, and what the files seen could hold */
    uint64_t file_bytes;
    uint64_t node_limit;
    struct buf files; /* struct file *, each counted once */
};

static enum status bad(struct file *f, uint64_t at, struct err *e, const char *code,
                       const char *why)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(f), at);
    return ST_INPUT;
}

/* ---- values ---- */

static bool varint(struct column *c, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; c->p < c->end && shift < 64; shift += 7) {
        uint8_t b = *c->p++;
        if (shift == 63 && b > 1)
            return false;
        v |= (uint64_t)(b & 127) << shift;
        if (b < 128) {
            *out = v;
            return b != 0 || shift == 0; /* no empty last byte */
        }
    }
    return false;
}

/* Gives the next n varints as a column of their own, and their sum (NULL: not wanted). */
static bool varints(struct column *in, uint64_t n, struct column *out, uint64_t *sum)
{
    uint64_t v;
    out->p = in->p;
    if (sum)
        *sum = 0;
    for (uint64_t i = 0; i < n; i++)
        if (!varint(in, &v) || (sum && !add_u64(*sum, v, sum)))
            return false;
    out->end = in->p;
    return true;
}

static bool bytes(struct column *in, uint64_t n, struct column *out)
{
    if (n > (uint64_t)(in->end - in->p))
        return false;
    *out = (struct column){in->p, in->p + n};
    in->p += n;
    return true;
}

static bool fixed(struct column *in, size_t n, uint64_t *out)
{
    struct column c;
    *out = 0;
    if (!bytes(in, n, &c))
        return false;
    for (size_t i = n; i-- > 0;)
        *out = *out << 8 | c.p[i];
    return true;
}

/* ---- envelopes ---- */

static enum status inflate_body(struct file *f, uint64_t at, const uint8_t *src, size_t n,
                                uint64_t limit, struct buf *out, struct err *e)
{
    struct zs_stream *z;
    bool whole = false;
    /* nodes repeat themselves, but not without end */
    uint64_t most = (uint64_t)n * 1024 + 65536;
    most = most < limit ? most : limit;
    TRY(zs_open(most, &z, e));
    enum status st = ST_OK;
    while (st == ST_OK && !(whole && n == 0)) {
        size_t room = 65536, had = n;
        if (out->n >= most) {
            st = bad(f, at, e, "ocdbt-length", "a body that inflates beyond its limit");
            break;
        }
        if (!buf_reserve(out, room)) {
            st = err_nomem(e, room);
            break;
        }
        uint8_t *to = out->p + out->n;
        size_t left = room;
        st = zs_step(z, &src, &n, &to, &left, &whole, e);
        if (st != ST_OK)
            err_at(e, file_path(f), at);
        out->n += room - left;
        if (st == ST_OK && left == room && n == had && !(whole && n == 0))
            st = bad(f, at, e, "truncated", "the zstd stream of a body does not end");
    }
    zs_close(z);
    return st;
}

static bool sum_differs(const uint8_t *p, size_t n, uint32_t want)
{
#ifdef NNFERRY_FUZZ
    (void)p, (void)n, (void)want;
    return false; /* what no fuzzer guesses */
#else
    return crc32c_update(0, p, n) != want;
#endif
}

/* The body of the envelope that fills [off, off + len) of f. */
static enum status open_envelope(struct file *f, uint64_t off, uint64_t len, uint32_t magic,
                                 uint64_t limit, struct buf *body, struct err *e)
{
    struct column c;
    uint64_t v, total, version, compression, crc;
    if (!range_in(off, len, file_size(f)))
        return bad(f, off, e, "truncated", "a node lies behind the end of its file");
    if (len < 4 + 8 + 2 + 4 || len > MAX_STORED)
        return bad(f, off, e, "ocdbt-length", "no node has this many bytes");
    uint8_t *p = mem_alloc((size_t)len);
    if (!p)
        return err_nomem(e, len);
    enum status st = file_pread(f, p, (size_t)len, off, e);
    c = (struct column){p, p + len};
    (void)fixed(&c, 4, &v);
    (void)fixed(&c, 8, &total);
    struct column tail = {p + len - 4, p + len};
    (void)fixed(&tail, 4, &crc);
    c.end -= 4;
    if (st != ST_OK) {
        /* said already */
    } else if (__builtin_bswap32((uint32_t)v) != magic) {
        st = bad(f, off, e, "ocdbt-magic", "no OCDBT node of this kind begins here");
    } else if (total != len) {
        st = bad(f, off + 4, e, total > len ? "truncated" : "ocdbt-length",
                 "the length in the node is not that of its place");
    } else if (sum_differs(p, (size_t)len - 4, (uint32_t)crc)) {
        st = bad(f, off + len - 4, e, "ocdbt-crc", "CRC-32C does not match");
    } else if (!varint(&c, &version) || version != 0) {
        st = bad(f, off + 12, e, "ocdbt-version", "not version 0 of the format");
    } else if (!varint(&c, &compression) || compression > 1) {
        st = bad(f, off + 13, e, "ocdbt-compression", "neither raw nor zstd");
    } else if (compression == 0) {
        buf_bytes(body, c.p, (size_t)(c.end - c.p));
        st = buf_ok(body, e);
    } else {
        st = inflate_body(f, off + (uint64_t)(c.p - p), c.p, (size_t)(c.end - c.p), limit, body, e);
    }
    mem_free(p);
    return st;
}

/* ---- tables of files ---- */

static enum status read_table(struct column *c, struct str transitive, struct arena *a,
                              struct table *t, struct file *f, uint64_t at, struct err *e)
{
    uint64_t n, sum, pre, suf, base;
    struct column prefix, suffix, bases, text;
    struct buf path = BUF_INIT;
    if (!varint(c, &n) || n > (uint64_t)(c->end - c->p) || n > MAX_ENTRIES ||
        !varints(c, n ? n - 1 : 0, &prefix, NULL) || !varints(c, n, &suffix, &sum) ||
        !varints(c, n, &bases, NULL) || !bytes(c, sum, &text))
        return bad(f, at, e, "ocdbt-table", "the table of files is damaged");
    t->n = (size_t)n;
    t->path = ARENA_ARRAY(a, struct str, n + 1);
    t->base = ARENA_ARRAY(a, size_t, n + 1);
    t->file = ARENA_ARRAY(a, struct file *, n + 1);
    if (!t->path || !t->base || !t->file)
        return err_nomem(e, n * 32);
    enum status st = ST_OK;
    uint64_t total = 0; /* of the text of all paths: prefixes make them long */
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        struct column own;
        pre = 0;
        if (!(i == 0 || varint(&prefix, &pre)) || !varint(&suffix, &suf) ||
            !varint(&bases, &base) || pre > path.n || suf > MAX_KEY || pre + suf > 4096 ||
            base > pre + suf || !bytes(&text, suf, &own) ||
            (total += pre + suf) > 4096 + 64 * sum) {
            st = bad(f, at, e, "ocdbt-table", "the table of files is damaged");
            break;
        }
        path.n = (size_t)pre;
        buf_bytes(&path, own.p, (size_t)suf);
        struct buf whole = BUF_INIT;
        buf_str(&whole, transitive);
        buf_str(&whole, buf_as_str(&path));
        t->path[i] = arena_str(a, whole.p, whole.n);
        t->base[i] = transitive.n + (size_t)base;
        if (path.failed || whole.failed || !t->path[i].p)
            st = err_nomem(e, 4096);
        buf_free(&whole);
    }
    buf_free(&path);
    return st;
}

static enum status file_of(struct walk *w, struct table *t, uint64_t id, struct file *from,
                           uint64_t at, struct file **out, struct err *e)
{
    if (id >= t->n)
        return bad(from, at, e, "ocdbt-table", "a file that the table does not have");
    if (!t->file[id]) {
        struct err why = {.status = ST_OK};
        enum status st = w->o->open(w->o->ctx, t->path[id], &t->file[id], &why);
        if (st != ST_OK) { /* told where the path stands */
            (void)err_set(e, st, why.code, "%s", why.reason);
            err_at(e, file_path(from), at);
            err_in(e, t->path[id].p, t->path[id].n);
            return st;
        }
    }
    *out = t->file[id];
    return ST_OK;
}

/* ---- nodes ---- */

static void pop(struct walk *w)
{
    struct frame *f = &w->stack[--w->depth];
    buf_free(&f->body);
    buf_free(&f->last);
    arena_free(&f->arena);
}

static enum status count_file(struct walk *w, struct file *f, uint64_t n, uint64_t at,
                              struct err *e)
{
    struct file **seen = (struct file **)(void *)w->files.p;
    bool known = false;
    for (size_t i = w->files.n / sizeof *seen; i-- > 0 && !known;)
        known = seen[i] == f;
    if (!known) {
        buf_bytes(&w->files, &f, sizeof f);
        TRY(buf_ok(&w->files, e));
        w->file_bytes += file_size(f);
    }
    w->node_bytes += n;
    return w->node_bytes <= w->file_bytes
               ? ST_OK
               : bad(f, at, e, "ocdbt-twice",
                     "nodes are longer than their files: one stands twice");
}

static enum status read_columns(struct frame *f, struct column *c, struct err *e)
{
    uint64_t n, keys;
    bool ok = varint(c, &n) && n > 0 && n <= MAX_ENTRIES && n <= (uint64_t)(c->end - c->p);
    if (!ok)
        return bad(f->file, f->offset, e, "ocdbt-count", "no node has this many entries");
    f->n = n;
    ok = varints(c, n - 1, &f->col[C_PREFIX], NULL) && varints(c, n, &f->col[C_SUFFIX], &keys) &&
         (f->height == 0 || varints(c, n, &f->col[C_COMMON], NULL)) &&
         bytes(c, keys, &f->col[C_KEY]);
    if (!ok)
        return bad(f->file, f->offset, e, "ocdbt-key", "the keys of a node are damaged");
    if (f->height > 0) {
        for (int k = C_A; ok && k <= C_F; k++)
            ok = varints(c, n, &f->col[k], NULL);
    } else {
        uint64_t inlined = 0, out = 0, v;
        struct column lengths;
        ok = varints(c, n, &f->col[C_A], NULL) && bytes(c, n, &f->col[C_B]);
        lengths = f->col[C_A];
        for (uint64_t i = 0; ok && i < n; i++) {
            ok = varint(&lengths, &v) && f->col[C_B].p[i] < 2;
            if (ok && f->col[C_B].p[i])
                out++;
            else if (ok)
                ok = add_u64(inlined, v, &inlined);
        }
        ok = ok && varints(c, out, &f->col[C_C], NULL) && varints(c, out, &f->col[C_D], NULL) &&
             bytes(c, inlined, &f->col[C_E]);
    }
    if (!ok)
        return bad(f->file, f->offset, e, "ocdbt-value", "the values of a node are damaged");
    if (c->p != c->end)
        return bad(f->file, f->offset, e, "ocdbt-trailing", "bytes behind the last value");
    return ST_OK;
}

/* A node of this height at off; its keys share the first `prefix` bytes of w->key. */
static enum status push(struct walk *w, struct file *file, uint64_t off, uint64_t len,
                        uint8_t height, uint64_t n_keys, size_t prefix, struct str transitive,
                        struct err *e)
{
    if (w->depth == MAX_HEIGHT)
        return bad(file, off, e, "ocdbt-height", "the tree is too high");
    struct frame *f = &w->stack[w->depth];
    uint64_t v;
    memset(f, 0, sizeof *f);
    f->file = file;
    f->offset = off;
    f->height = height;
    f->n_keys = n_keys;
    f->prefix = prefix;
    f->transitive = transitive;
    w->depth++;
    TRY(count_file(w, file, len, off, e));
    TRY(open_envelope(file, off, len, NODE_MAGIC, w->node_limit, &f->body, e));
    struct column c = {f->body.p, f->body.p + f->body.n};
    if (!fixed(&c, 1, &v) || v != height)
        return bad(file, off, e, "ocdbt-height", "a node is not one level below its parent");
    TRY(read_table(&c, transitive, &f->arena, &f->table, file, off, e));
    return read_columns(f, &c, e);
}

/* Makes f->last the key of the next entry; keys ascend. */
static enum status next_key(struct frame *f, struct err *e)
{
    uint64_t pre = 0, suf;
    struct column own;
    bool first = f->at == 0;
    if (!(first || varint(&f->col[C_PREFIX], &pre)) || !varint(&f->col[C_SUFFIX], &suf) ||
        !bytes(&f->col[C_KEY], suf, &own))
        return bad(f->file, f->offset, e, "ocdbt-key", "the keys of a node are damaged");
    if (pre > f->last.n || pre + suf > MAX_KEY)
        return bad(f->file, f->offset, e, "ocdbt-key",
                   "a key shares more with the one before than that has, or is too long");
    struct str rest = str_sub(buf_as_str(&f->last), (size_t)pre, f->last.n);
    if (!first && str_cmp((struct str){(const char *)own.p, (size_t)suf}, rest) <= 0)
        return bad(f->file, f->offset, e, "ocdbt-key", "the keys of a node do not ascend");
    f->last.n = (size_t)pre;
    buf_bytes(&f->last, own.p, (size_t)suf);
    f->at++;
    return buf_ok(&f->last, e);
}

/* The whole key, or as much of the last one as `n` says, behind the inherited part. */
static enum status whole_key(struct walk *w, const struct frame *f, size_t n, struct err *e)
{
    w->key.n = f->prefix;
    buf_bytes(&w->key, f->last.p, n);
    if (w->key.n > MAX_KEY)
        return bad(f->file, f->offset, e, "ocdbt-key", "a key is too long");
    return buf_ok(&w->key, e);
}

static enum status leaf_entry(struct walk *w, struct frame *f, struct err *e)
{
    struct ocdbt_value v = {.length = 0};
    struct column own, kind;
    uint64_t id, end;
    TRY(next_key(f, e));
    TRY(whole_key(w, f, f->last.n, e));
    if (w->any && str_cmp(buf_as_str(&w->before), buf_as_str(&w->key)) >= 0)
        return bad(f->file, f->offset, e, "ocdbt-key", "the keys of the tree do not ascend");
    v.key = buf_as_str(&w->key);
    if (!varint(&f->col[C_A], &v.length) || !bytes(&f->col[C_B], 1, &kind))
        return bad(f->file, f->offset, e, "ocdbt-value", "the values of a node are damaged");
    if (*kind.p == 0) {
        if (!bytes(&f->col[C_E], v.length, &own))
            return bad(f->file, f->offset, e, "ocdbt-value", "the values of a node are damaged");
        v.bytes = (struct str){(const char *)own.p, (size_t)v.length};
        v.offset = f->offset; /* of the node, for messages */
    } else {
        if (!varint(&f->col[C_C], &id) || !varint(&f->col[C_D], &v.offset))
            return bad(f->file, f->offset, e, "ocdbt-value", "the values of a node are damaged");
        TRY(file_of(w, &f->table, id, f->file, f->offset, &v.file, e));
        if (!add_u64(v.offset, v.length, &end) || end > file_size(v.file)) {
            (void)bad(v.file, v.offset, e, "ocdbt-bounds",
                      "a value lies behind the end of its file");
            err_in(e, v.key.p, v.key.n);
            return ST_INPUT;
        }
    }
    f->seen++;
    TRY(w->o->each(w->o->ctx, &v, e));
    struct buf swap = w->before;
    w->before = w->key;
    w->key = swap;
    w->any = true;
    /* the inherited part stays */
    w->key.n = 0;
    buf_bytes(&w->key, w->before.p, f->prefix);
    return buf_ok(&w->key, e);
}

static enum status interior_entry(struct walk *w, struct frame *f, struct err *e)
{
    uint64_t common, id, off, len, n_keys, ignored;
    struct file *file;
    TRY(next_key(f, e));
    if (!varint(&f->col[C_COMMON], &common) || common > f->last.n)
        return bad(f->file, f->offset, e, "ocdbt-key", "a child inherits more than the key has");
    if (!varint(&f->col[C_A], &id) || !varint(&f->col[C_B], &off) || !varint(&f->col[C_C], &len) ||
        !varint(&f->col[C_D], &n_keys) || !varint(&f->col[C_E], &ignored) ||
        !varint(&f->col[C_F], &ignored))
        return bad(f->file, f->offset, e, "ocdbt-value", "the values of a node are damaged");
    if (!add_u64(f->seen, n_keys, &f->seen))
        return bad(f->file, f->offset, e, "ocdbt-count", "too many keys");
    TRY(whole_key(w, f, (size_t)common, e));
    TRY(file_of(w, &f->table, id, f->file, f->offset, &file, e));
    struct str folder = str_sub(f->table.path[id], 0, f->table.base[id]);
    return push(w, file, off, len, (uint8_t)(f->height - 1), n_keys, w->key.n, folder, e);
}

static enum status walk_tree(struct walk *w, struct err *e)
{
    while (w->depth) {
        struct frame *f = &w->stack[w->depth - 1];
        if (f->at < f->n) {
            TRY(f->height ? interior_entry(w, f, e) : leaf_entry(w, f, e));
            continue;
        }
        if (f->seen != f->n_keys)
            return bad(f->file, f->offset, e, "ocdbt-count",
                       "a node has another number of keys than its parent says");
        pop(w);
        if (w->depth) {
            f = &w->stack[w->depth - 1];
            w->key.n = 0;
            buf_bytes(&w->key, w->before.p, f->prefix);
            TRY(buf_ok(&w->key, e));
        }
    }
    return ST_OK;
}

/* ---- the manifest ---- */

struct version {
    uint64_t height, file, offset, length, n_keys;
};

/* The last of the versions, all columns of which are walked. */
static bool read_versions(struct column *c, struct version *v, bool *any)
{
    struct column col[9];
    uint64_t n, ignored, generation = 0, before;
    if (!varint(c, &n) || n > (uint64_t)(c->end - c->p) / 9)
        return false;
    *any = n > 0;
    for (int k = 0; k < 9; k++) {
        uint64_t width = k == 1 ? 1 : 8, size;
        bool plain = k == 1 || k == 8;
        if (plain ? !mul_u64(n, width, &size) || !bytes(c, size, &col[k])
                  : !varints(c, n, &col[k], NULL))
            return false;
    }
    for (uint64_t i = 0; i < n; i++) {
        before = generation;
        if (!varint(&col[0], &generation) || generation <= before ||
            !fixed(&col[1], 1, &v->height) || !varint(&col[2], &v->file) ||
            !varint(&col[3], &v->offset) || !varint(&col[4], &v->length) ||
            !varint(&col[5], &v->n_keys) || !varint(&col[6], &ignored) ||
            !varint(&col[7], &ignored))
            return false;
    }
    return true;
}

/* Nodes of older versions: only their bounds are looked at. */
static bool skip_old_versions(struct column *c)
{
    struct column col;
    uint64_t n, size;
    if (!varint(c, &n) || n > (uint64_t)(c->end - c->p))
        return false;
    for (int k = 0; k < 6; k++)
        if (!varints(c, n, &col, NULL))
            return false;
    return mul_u64(n, 9, &size) && bytes(c, size, &col); /* time and height */
}

static enum status read_root(struct walk *w, struct file *f, const struct buf *body,
                             struct arena *a, bool *numbered, struct err *e)
{
    struct column c = {body->p, body->p + body->n}, uuid;
    struct table t = {0};
    struct version v;
    struct file *file;
    uint64_t kind, inlined, limit, arity, method, level;
    bool any;
    if (!bytes(&c, 16, &uuid) || !fixed(&c, 1, &kind) || !varint(&c, &inlined) ||
        !varint(&c, &limit) || !fixed(&c, 1, &arity) || !varint(&c, &method) || kind > 1 ||
        arity < 1 || arity > 16 || method > 1 || (method == 1 && !fixed(&c, 4, &level)))
        return bad(f, 0, e, "ocdbt-config", "the configuration of the store is damaged");
    if (kind == 1 && c.p == c.end) {
        *numbered = true;
        return ST_OK;
    }
    w->node_limit = limit < MAX_STORED ? limit + 65536 : MAX_STORED;
    TRY(read_table(&c, STR(""), a, &t, f, 0, e));
    if (!read_versions(&c, &v, &any) || !skip_old_versions(&c))
        return bad(f, 0, e, "ocdbt-count", "the versions of the store are damaged");
    if (c.p != c.end)
        return bad(f, 0, e, "ocdbt-trailing", "bytes behind the last version");
    if (!any || (v.offset == NO_NODE && v.length == NO_NODE))
        return ST_OK; /* the empty tree */
    TRY(file_of(w, &t, v.file, f, 0, &file, e));
    TRY(push(w, file, v.offset, v.length, (uint8_t)v.height, v.n_keys, 0,
             str_sub(t.path[v.file], 0, t.base[v.file]), e));
    return walk_tree(w, e);
}

enum status ocdbt_read(const struct ocdbt *o, struct file *manifest, bool *numbered, struct err *e)
{
    struct walk w = {.o = o};
    struct buf body = BUF_INIT;
    struct arena a = ARENA_INIT;
    *numbered = false;
    w.stack = mem_zalloc(MAX_HEIGHT, sizeof *w.stack);
    if (!w.stack)
        return err_nomem(e, MAX_HEIGHT * sizeof *w.stack);
    enum status st =
        open_envelope(manifest, 0, file_size(manifest), MANIFEST_MAGIC, MAX_STORED, &body, e);
    if (st == ST_OK)
        st = read_root(&w, manifest, &body, &a, numbered, e);
    while (w.depth)
        pop(&w);
    mem_free(w.stack);
    buf_free(&body);
    buf_free(&w.key);
    buf_free(&w.before);
    buf_free(&w.files);
    arena_free(&a);
    return st;
}
