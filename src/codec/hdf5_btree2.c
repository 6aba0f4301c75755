/* HDF5: B-trees of version 2.
 *
 *   BTHD: 0, type, node size u32, record size u16, depth u16, 2 percentages, root, records u16,
 *         total, checksum
 *   BTLF: 0, type, records, checksum
 *   BTIN: 0, type, records, then for each child: address, its records (as many bytes as the most
 *         needs), below level 1 all records under it; checksum
 *
 * Refused: hdf5-btree (type, record or node size, more records than a node holds, depth),
 * hdf5-signature, hdf5-version, hdf5-checksum.
 */
#include "base/checked.h"
#include "codec/hdf5_int.h"
#include <string.h>

#define MAX_DEPTH 32

struct level {
    uint64_t max;   /* records in a node */
    unsigned sum_n; /* bytes of a count of all records at and under it */
};
struct tree {
    struct hdf5 *h;
    unsigned type;
    uint32_t node_n;
    uint16_t rec_n, depth;
    unsigned count_n; /* bytes of a child's number of records */
    struct level level[MAX_DEPTH];
    struct buf todo; /* struct node */
};
struct node {
    uint64_t addr, n;
    unsigned depth;
};

static unsigned bytes_for(uint64_t max)
{
    unsigned bits = max ? 63 - (unsigned)__builtin_clzll(max) : 0;
    return bits / 8 + 1;
}

static enum status head(struct tree *t, uint64_t addr, struct node *root, struct err *e)
{
    struct hdf5 *h = t->h;
    struct h5_block b;
    size_t n = 16 + h->off_n + 2u + h->len_n;
    TRY(h5_load(h, addr, n + 4, &b, e));
    enum status st = h5_begins(&b, "BTHD", 0, e);
    if (st == ST_OK)
        st = h5_check(h, &b, n, e);
    unsigned type = cur_u8(&b.c);
    t->node_n = cur_u32(&b.c);
    t->rec_n = cur_u16(&b.c);
    t->depth = cur_u16(&b.c);
    cur_skip(&b.c, 2);
    *root = (struct node){.depth = t->depth};
    root->addr = h5_addr(h, &b.c);
    root->n = cur_u16(&b.c);
    if (st == ST_OK)
        st = cur_ok(&b.c, e);
    h5_free(&b);
    TRY(st);
    if (type != t->type || t->rec_n == 0 || t->node_n < 10u + t->rec_n || t->depth >= MAX_DEPTH)
        return h5_fail(h, addr, e, "hdf5-btree",
                       "a tree of type %u, records of %u, nodes of %u bytes, depth %u", type,
                       t->rec_n, t->node_n, t->depth);
    return ST_OK;
}

static enum status levels(struct tree *t, uint64_t addr, struct err *e)
{
    uint64_t sum = t->level[0].max = (t->node_n - 10) / t->rec_n;
    t->count_n = bytes_for(sum);
    for (unsigned k = 1; k <= t->depth; k++) {
        struct level *l = &t->level[k];
        uint64_t pointer = t->h->off_n + t->count_n + t->level[k - 1].sum_n;
        if (t->node_n < 10 + pointer + t->rec_n + pointer)
            return h5_fail(t->h, addr, e, "hdf5-btree", "nodes too small for the tree's depth");
        l->max = (t->node_n - (10 + pointer)) / (t->rec_n + pointer);
        uint64_t more;
        if (!mul_u64(l->max + 1, sum, &more) || !add_u64(more, l->max, &sum))
            sum = UINT64_MAX;
        l->sum_n = bytes_for(sum);
    }
    return ST_OK;
}

static enum status one(struct tree *t, const struct node *x, h5_each each, void *ctx, struct err *e)
{
    struct hdf5 *h = t->h;
    struct h5_block b;
    if (x->n > t->level[x->depth].max)
        return h5_fail(h, x->addr, e, "hdf5-btree", "a node of %llu records, it holds %llu",
                       (unsigned long long)x->n, (unsigned long long)t->level[x->depth].max);
    TRY(h5_load(h, x->addr, t->node_n, &b, e));
    enum status st = h5_begins(&b, x->depth ? "BTIN" : "BTLF", 0, e);
    if (st == ST_OK && cur_u8(&b.c) != t->type)
        st = h5_fail(h, x->addr, e, "hdf5-btree", "a node of another tree's type");
    size_t records = (size_t)b.c.pos;
    cur_skip(&b.c, x->n * t->rec_n);
    unsigned sum_n = x->depth ? t->level[x->depth - 1].sum_n : 0;
    for (uint64_t i = 0; st == ST_OK && x->depth && i <= x->n; i++) {
        struct node child = {.depth = x->depth - 1};
        child.addr = h5_addr(h, &b.c);
        child.n = h5_uint(&b.c, t->count_n);
        cur_skip(&b.c, sum_n);
        buf_bytes(&t->todo, &child, sizeof child);
        st = buf_ok(&t->todo, e);
    }
    if (st == ST_OK)
        st = cur_ok(&b.c, e);
    if (st == ST_OK)
        st = h5_check(h, &b, (size_t)b.c.pos, e);
    for (uint64_t i = 0; st == ST_OK && i < x->n; i++) {
        size_t at = records + (size_t)i * t->rec_n;
        st = each(ctx, b.p + at, t->rec_n, b.c.base + at, e);
    }
    h5_free(&b);
    return st;
}

enum status h5_btree2(struct hdf5 *h, uint64_t addr, unsigned type, h5_each each, void *ctx,
                      struct err *e)
{
    struct tree t = {.h = h, .type = type};
    struct node x;
    TRY(head(&t, addr, &x, e));
    TRY(levels(&t, addr, e));
    if (x.addr == HDF5_UNDEF)
        return ST_OK;
    buf_bytes(&t.todo, &x, sizeof x);
    enum status st = buf_ok(&t.todo, e);
    while (st == ST_OK && t.todo.n) {
        t.todo.n -= sizeof x;
        memcpy(&x, t.todo.p + t.todo.n, sizeof x);
        st = one(&t, &x, each, ctx, e);
    }
    buf_free(&t.todo);
    return st;
}
