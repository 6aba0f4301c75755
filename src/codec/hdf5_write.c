/* HDF5, writing: the layout that every library since 1.0 reads and that h5py writes by itself.
 *
 *   superblock 0 | texts of attributes (global heap) | headers of datasets | groups, children
 * first: names (local heap), SNOD nodes of up to 8 entries, TREE nodes of up to 32 children, header
 * | data, each at a multiple of 64
 *
 * Object headers of version 1 hold all messages in one block. Datasets are contiguous. A text is a
 * UTF-8 string of variable length; a list is an array of NUL-padded strings, split into NAME0,
 * NAME1 ... above 64512 bytes (an attribute cannot pass 64 KiB).
 */
#include "base/checked.h"
#include "codec/hdf5.h"
#include <stdio.h>
#include <string.h>

enum { LEAF_MAX = 8, LEAF_BYTES = 8 + LEAF_MAX * 40 };
enum { TREE_MAX = 32, TREE_BYTES = 24 + TREE_MAX * 16 + 8 };
#define COLLECTION_SOFT_MAX ((size_t)1 << 20)

struct out {
    struct buf *b;
    struct buf body; /* of the header in turn: messages */
    unsigned n_messages;
    struct err *e;
};

static void put_at(struct buf *b, uint64_t at, uint64_t v, unsigned n)
{
    for (unsigned i = 0; !b->failed && i < n; i++)
        b->p[at + i] = (uint8_t)(v >> 8 * i);
}

static void align(struct buf *b, size_t to)
{
    buf_fill(b, 0, (to - b->n % to) % to);
}

/* ---- walking ---- */

static struct hdf5_wnode *preorder(struct hdf5_wnode *n)
{
    if (n->child)
        return n->child;
    while (n && !n->next)
        n = n->parent;
    return n ? n->next : NULL;
}

static struct hdf5_wnode *deepest(struct hdf5_wnode *n)
{
    while (n->child)
        n = n->child;
    return n;
}

/* Children before their group. */
static struct hdf5_wnode *postorder(struct hdf5_wnode *n)
{
    return n->next ? deepest(n->next) : n->parent;
}

/* ---- texts ---- */

struct heap {
    uint64_t at; /* of the open collection, 0: none */
    uint32_t n;
};

static void close_collection(struct buf *b, struct heap *h)
{
    if (!h->at)
        return;
    size_t used = b->n - (size_t)h->at, total = used < 4096 ? 4096 : used;
    size_t left = total - used;
    if (left) {
        left = left < 16 ? left + 16 : left;
        buf_fill(b, 0, 8);
        buf_u64(b, left);
        buf_fill(b, 0, left - 16);
    }
    put_at(b, h->at + 8, b->n - h->at, 8);
    h->at = 0;
}

static void add_text(struct buf *b, struct heap *h, struct hdf5_wattr *a)
{
    if (a->text.n == 0)
        return;
    if (h->at && (h->n == 65535 || b->n - h->at > COLLECTION_SOFT_MAX))
        close_collection(b, h);
    if (!h->at) {
        h->at = b->n;
        h->n = 0;
        buf_bytes(b, "GCOL\1\0\0\0", 8);
        buf_u64(b, 0);
    }
    a->heap_ = h->at;
    a->index_ = ++h->n;
    buf_u16(b, (uint16_t)a->index_);
    buf_u16(b, 0);
    buf_u32(b, 0);
    buf_u64(b, a->text.n);
    buf_str(b, a->text);
    align(b, 8);
}

/* ---- messages ---- */

static void message(struct out *o, unsigned type, unsigned flags, const struct buf *body)
{
    buf_u16(&o->body, (uint16_t)type);
    buf_u16(&o->body, (uint16_t)((body->n + 7) / 8 * 8));
    buf_u8(&o->body, (uint8_t)flags);
    buf_fill(&o->body, 0, 3);
    buf_bytes(&o->body, body->p, body->n);
    align(&o->body, 8);
    o->n_messages++;
}

static void attr_head(struct buf *m, struct str name, const char *digits, const uint8_t *type,
                      size_t type_n, size_t rank, size_t n)
{
    size_t name_n = name.n + strlen(digits) + 1;
    buf_u16(m, 1);
    buf_u16(m, (uint16_t)name_n);
    buf_u16(m, (uint16_t)type_n);
    buf_u16(m, (uint16_t)(8 + 8 * rank));
    buf_str(m, name);
    buf_z(m, digits);
    buf_u8(m, 0);
    align(m, 8);
    buf_bytes(m, type, type_n);
    align(m, 8);
    buf_u16(m, (uint16_t)(1 | rank << 8));
    buf_fill(m, 0, 6);
    if (rank)
        buf_u64(m, n);
}

static void text_attr(struct out *o, const struct hdf5_wattr *a)
{
    static const uint8_t type[20] = {0x19, 1, 1, 0, 16, 0, 0, 0, 0x10, 0,
                                     0,    0, 1, 0, 0,  0, 0, 0, 8,    0};
    struct buf m = BUF_INIT;
    attr_head(&m, a->name, "", type, sizeof type, 0, 0);
    buf_u32(&m, (uint32_t)a->text.n);
    buf_u64(&m, a->heap_);
    buf_u32(&m, a->index_);
    message(o, 12, 0, &m);
    o->body.failed = o->body.failed || m.failed;
    buf_free(&m);
}

static void list_part(struct out *o, const struct hdf5_wattr *a, const char *digits, size_t lo,
                      size_t n, size_t item)
{
    uint8_t type[8] = {0x13, 1, 0, 0};
    struct buf m = BUF_INIT;
    for (int i = 0; i < 4; i++)
        type[4 + i] = (uint8_t)(item >> 8 * i);
    attr_head(&m, a->name, digits, type, sizeof type, 1, n);
    for (size_t i = lo; i < lo + n; i++) {
        buf_str(&m, a->item[i]);
        buf_fill(&m, 0, item - a->item[i].n);
    }
    message(o, 12, 0, &m);
    o->body.failed = o->body.failed || m.failed;
    buf_free(&m);
}

/* Parts as numpy.array_split cuts them. */
static enum status list_attr(struct out *o, const struct hdf5_wattr *a)
{
    size_t item = 1, parts = 1;
    for (size_t i = 0; i < a->n_items; i++)
        item = a->item[i].n > item ? a->item[i].n : item;
    if (item > HDF5_LIST_MAX) {
        (void)err_set(o->e, ST_CANNOT, "hdf5-attribute", "a name of %zu bytes in a list", item);
        return ST_CANNOT;
    }
    while ((a->n_items + parts - 1) / parts * item > HDF5_LIST_MAX)
        parts++;
    for (size_t k = 0, lo = 0; k < parts; k++) {
        char digits[24] = "";
        size_t n = a->n_items / parts + (k < a->n_items % parts);
        if (parts > 1)
            snprintf(digits, sizeof digits, "%zu", k);
        list_part(o, a, digits, lo, n, item);
        lo += n;
    }
    return ST_OK;
}

static enum status attributes(struct out *o, const struct hdf5_wnode *n)
{
    for (const struct hdf5_wattr *a = n->attr; a; a = a->next) {
        if (a->name.n > 255 || (!a->list && a->text.n > UINT32_MAX)) {
            (void)err_set(o->e, ST_CANNOT, "hdf5-attribute", "an attribute too long for HDF5");
            return ST_CANNOT;
        }
        if (a->list)
            TRY(list_attr(o, a));
        else
            text_attr(o, a);
    }
    return ST_OK;
}

static void begin_header(struct out *o)
{
    buf_clear(&o->body);
    o->n_messages = 0;
}

static enum status end_header(struct out *o, struct hdf5_wnode *n)
{
    if (o->n_messages > 65535 || o->body.n > UINT32_MAX) {
        (void)err_set(o->e, ST_CANNOT, "hdf5-attribute", "too many attributes for one object");
        return ST_CANNOT;
    }
    align(o->b, 8);
    n->header_ = o->b->n;
    buf_u16(o->b, 1);
    buf_u16(o->b, (uint16_t)o->n_messages);
    buf_u32(o->b, n->n_links_ ? n->n_links_ : 1);
    buf_u32(o->b, (uint32_t)o->body.n);
    buf_u32(o->b, 0);
    buf_bytes(o->b, o->body.p, o->body.n);
    return buf_ok(&o->body, o->e);
}

static enum status dataset(struct out *o, struct hdf5_wnode *n)
{
    static const uint8_t fill[8] = {2, 2, 2, 1};
    struct buf m = BUF_INIT;
    size_t layout;
    begin_header(o);
    buf_u16(&m, (uint16_t)(1 | n->rank << 8));
    buf_fill(&m, 0, 6);
    for (unsigned d = 0; d < n->rank; d++)
        buf_u64(&m, n->dim[d]);
    message(o, 1, 0, &m);
    buf_clear(&m);
    buf_bytes(&m, n->type, n->type_n);
    message(o, 3, 1, &m);
    buf_clear(&m);
    buf_bytes(&m, fill, sizeof fill);
    message(o, 5, 1, &m);
    buf_clear(&m);
    buf_u16(&m, 3 | 1 << 8);
    buf_u64(&m, HDF5_UNDEF);
    buf_u64(&m, n->bytes);
    layout = o->body.n + 8 + 2;
    message(o, 8, 0, &m);
    o->body.failed = o->body.failed || m.failed;
    buf_free(&m);
    TRY(attributes(o, n));
    TRY(end_header(o, n));
    n->patch_ = n->header_ + 16 + layout;
    return ST_OK;
}

/* ---- groups ---- */

static void entry(struct buf *b, const struct hdf5_wnode *c)
{
    const struct hdf5_wnode *to = c->same ? c->same : c;
    buf_u64(b, c->name_at_);
    buf_u64(b, to->header_);
    buf_u32(b, c->is_data ? 0 : 1);
    buf_u32(b, 0);
    buf_u64(b, c->is_data ? 0 : c->tree_);
    buf_u64(b, c->is_data ? 0 : c->heap_);
}

static void names(struct buf *b, struct hdf5_wnode *n)
{
    uint64_t at = 8;
    for (struct hdf5_wnode *c = n->child; c; c = c->next) {
        c->name_at_ = at;
        at += (c->name.n + 8) / 8 * 8;
    }
    align(b, 8);
    n->heap_ = b->n;
    buf_bytes(b, "HEAP\0\0\0\0", 8);
    buf_u64(b, at);
    buf_u64(b, 1); /* no free list */
    buf_u64(b, b->n + 8);
    buf_fill(b, 0, 8);
    for (const struct hdf5_wnode *c = n->child; c; c = c->next) {
        buf_str(b, c->name);
        buf_fill(b, 0, (c->name.n + 8) / 8 * 8 - c->name.n);
    }
}

/* The highest name below a node of one level, and the node's address. */
struct below {
    uint64_t name, addr;
};

static void leaves(struct buf *b, const struct hdf5_wnode *n, struct buf *out)
{
    size_t left = n->n_children;
    for (const struct hdf5_wnode *c = n->child; c;) {
        size_t k = left < LEAF_MAX ? left : LEAF_MAX, start = b->n;
        struct below x = {0, b->n};
        buf_bytes(b, "SNOD\1\0", 6);
        buf_u16(b, (uint16_t)k);
        for (size_t i = 0; i < k; i++, c = c->next) {
            entry(b, c);
            x.name = c->name_at_;
        }
        buf_fill(b, 0, start + LEAF_BYTES - b->n);
        buf_bytes(out, &x, sizeof x);
        left -= k;
    }
}

/* One level of the tree over `in`; its nodes are listed in out. */
static void level(struct buf *b, unsigned height, const struct buf *in, struct buf *out)
{
    const struct below *v = (const struct below *)(const void *)in->p;
    size_t n = in->n / sizeof *v, lo = 0;
    uint64_t before = 0, last = b->n + (n ? (n - 1) / TREE_MAX : 0) * TREE_BYTES;
    do {
        size_t k = n - lo < TREE_MAX ? n - lo : TREE_MAX, start = b->n;
        buf_bytes(b, "TREE\0", 5);
        buf_u8(b, (uint8_t)height);
        buf_u16(b, (uint16_t)k);
        buf_u64(b, lo ? start - TREE_BYTES : HDF5_UNDEF);
        buf_u64(b, start < last ? start + TREE_BYTES : HDF5_UNDEF);
        buf_u64(b, before);
        for (size_t i = 0; i < k; i++) {
            buf_u64(b, v[lo + i].addr);
            buf_u64(b, v[lo + i].name);
            before = v[lo + i].name;
        }
        buf_fill(b, 0, start + TREE_BYTES - b->n);
        buf_bytes(out, &(struct below){before, start}, sizeof(struct below));
        lo += k;
    } while (lo < n);
}

static enum status group(struct out *o, struct hdf5_wnode *n)
{
    struct buf a = BUF_INIT, c = BUF_INIT;
    names(o->b, n);
    leaves(o->b, n, &a);
    unsigned height = 0;
    do {
        buf_clear(&c);
        level(o->b, height++, &a, &c);
        struct buf t = a;
        a = c;
        c = t;
    } while (!a.failed && !o->b->failed && a.n > sizeof(struct below));
    enum status st = buf_ok(&a, o->e);
    if (st == ST_OK)
        n->tree_ = ((const struct below *)(const void *)a.p)->addr;
    buf_free(&a);
    buf_free(&c);
    TRY(st);
    struct buf m = BUF_INIT;
    begin_header(o);
    buf_u64(&m, n->tree_);
    buf_u64(&m, n->heap_);
    message(o, 0x11, 0, &m);
    o->body.failed = o->body.failed || m.failed;
    buf_free(&m);
    TRY(attributes(o, n));
    return end_header(o, n);
}

/* ---- the file ---- */

static void superblock(struct buf *b)
{
    static const uint8_t head[24] = {0x89, 'H', 'D', 'F', 13, 10, 26, 10, 0, 0, 0, 0,
                                     0,    8,   8,   0,   4,  0,  16, 0,  0, 0, 0, 0};
    buf_bytes(b, head, sizeof head);
    buf_u64(b, 0);
    buf_u64(b, HDF5_UNDEF);
    buf_u64(b, 0); /* end: patched */
    buf_u64(b, HDF5_UNDEF);
    buf_fill(b, 0, 40); /* root: patched */
}

static enum status objects(struct out *o, struct hdf5_wnode *root)
{
    struct heap h = {0};
    for (struct hdf5_wnode *n = root; n; n = preorder(n)) {
        for (struct hdf5_wattr *a = n->same ? NULL : n->attr; a; a = a->next)
            if (!a->list)
                add_text(o->b, &h, a);
        if (n->same)
            n->same->n_links_ += n->same->n_links_ ? 1 : 2;
    }
    close_collection(o->b, &h);
    for (struct hdf5_wnode *n = root; n; n = preorder(n))
        if (n->is_data && !n->same)
            TRY(dataset(o, n));
    for (struct hdf5_wnode *n = deepest(root); n; n = n == root ? NULL : postorder(n))
        if (!n->is_data)
            TRY(group(o, n));
    return buf_ok(o->b, o->e);
}

static enum status places(struct buf *b, struct hdf5_wnode **order, size_t n, uint64_t *end,
                          struct err *e)
{
    uint64_t at = b->n;
    for (size_t i = 0; i < n; i++) {
        struct hdf5_wnode *d = order[i];
        d->data = HDF5_UNDEF;
        if (d->bytes == 0)
            continue;
        if (!round_up_u64(at, 64, &at) || at > INT64_MAX - d->bytes)
            return err_set(e, ST_CANNOT, "too-large", "the tensors pass 2^63 bytes");
        d->data = at;
        put_at(b, d->patch_, at, 8);
        at += d->bytes;
    }
    *end = at;
    return ST_OK;
}

enum status hdf5_write(struct hdf5_wnode *root, struct hdf5_wnode **order, size_t n_order,
                       struct buf *b, uint64_t *end, struct err *e)
{
    struct out o = {.b = b, .e = e};
    superblock(b);
    enum status st = objects(&o, root);
    buf_free(&o.body);
    TRY(st);
    TRY(places(b, order, n_order, end, e));
    put_at(b, 40, *end, 8);
    put_at(b, 64, root->header_, 8);
    put_at(b, 72, 1, 4);
    put_at(b, 80, root->tree_, 8);
    put_at(b, 88, root->heap_, 8);
    return buf_ok(b, e);
}
