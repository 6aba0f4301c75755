/* The writing sink: slabs go to their places, encoded where the writer asks for it, with the
 * digests it wants. Encoding happens on all threads; offsets are given out in order; so the bytes
 * never depend on the number of threads.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/crc.h"
#include "codec/deflate.h"
#include "codec/sha256.h"
#include "codec/xxh.h"
#include "convert/digests.h"
#include "convert/feed.h"
#include "convert/number.h"
#include "convert/op.h"
#include "convert/source_id.h"
#include <string.h>

#define BITE ((size_t)6 * SHA256_LEAF) /* hashed while it is near */

struct slot {
    uint8_t *stored; /* APPEND: encoded bytes; sub-byte: packed bytes */
    uint8_t *packed;
    void *scratch;
    struct piece *piece;
    size_t n_pieces;
    size_t stored_bytes;
    uint64_t at;        /* file offset given out */
    const uint8_t *raw; /* as they are written */
    size_t raw_bytes;
    const uint8_t *given; /* as the encoder had them */
    uint8_t *back;
    uint32_t crc32, crc32c;
    uint8_t (*leaf)[32];
    size_t n_leaves;
};
struct write {
    struct writer w;
    const struct format *fmt;
    const struct plan *p;
    struct slab_digests *kept;
    struct source_id source;
    struct origin origin;
    struct slot *slot;
    int n_slots;
    /* largest needs over all tensors */
    size_t stored_cap, packed_cap, scratch_cap, piece_cap, leaf_cap, back_cap;
    /* of the tensor in turn */
    struct sha256 tree;
    struct buf extra;
    uint64_t raw_done, next_part;
};

static bool is_packed(const struct write *x, uint32_t t)
{
    return dtype_info(x->w.m->tensor[t].dtype)->bits < 8 && !x->w.place[t].unpacked;
}

/* Raw bytes that n elements take in the file. */
static uint64_t raw_of(const struct write *x, uint32_t t, uint64_t n)
{
    enum dtype d = x->w.m->tensor[t].dtype;
    uint64_t bytes = 0;
    if (!is_packed(x, t))
        return n * num_bytes(d);
    if (!dtype_span(d, n, &bytes))
        bytes = n * dtype_info(d)->bits / 8 + 1;
    return bytes;
}

/* Elements per slab: the encoder's, else a mebibyte of elements. */
static uint64_t slab_elems(void *ctx, uint32_t t)
{
    const struct write *x = ctx;
    return source_id_beside(&x->source, t) ? 0 : x->kept->tensor[t].slab_elems;
}

/* What a tensor's slabs are read back against: the raw bytes themselves, at once, where that can be
 * proved afterwards to be what a reader finds (not over a network, whose server has the last word);
 * else their digests. */
static enum status plan_proof(struct write *x, uint32_t t, struct err *e)
{
    struct tensor_digests *d = &x->kept->tensor[t];
    const struct place *pl = &x->w.place[t];
    d->unpacked = pl->unpacked;
    d->proved = pl->kind == PLACE_APPEND && pl->enc && pl->enc->holds && x->fmt->tile_is &&
                out_one_writer(x->w.out);
    if (d->proved)
        d->slab = arena_alloc(&x->kept->arena, d->n_slabs + 1, sizeof *d->slab);
    else
        d->xxh = arena_alloc(&x->kept->arena, d->n_slabs + 1, sizeof *d->xxh);
    return d->slab || d->xxh ? ST_OK : err_nomem(e, d->n_slabs * sizeof *d->slab);
}

static enum status plan_slabs(struct write *x, const struct feed *f, struct err *e)
{
    for (size_t j = 0; j < f->n; j++) {
        uint32_t t = f->order[j];
        if (source_id_beside(&x->source, t)) {
            const struct tensor *beside = &x->source.plan->dst.tensor[t];
            size_t leaves = sha256_tree_n_leaves(feed_slab_elems(f, j) * num_bytes(beside->dtype));
            x->leaf_cap = leaves > x->leaf_cap ? leaves : x->leaf_cap;
            continue;
        }
        struct tensor_digests *d = &x->kept->tensor[t];
        const struct place *pl = &x->w.place[t];
        const struct tensor *tn = &x->w.m->tensor[t];
        uint64_t n = tensor_units(tn), size = num_bytes(tn->dtype);
        if (d->slab_elems)
            return err_set(e, ST_BUG, "writer-order", "a tensor is written twice");
        d->slab_elems = feed_slab_elems(f, j);
        if (pl->kind == PLACE_APPEND && pl->enc) {
            uint64_t bits = is_packed(x, t) ? dtype_info(tn->dtype)->bits : 8 * size;
            d->slab_elems = (uint64_t)pl->enc->slab_bytes * 8 / bits;
            if (pl->part_bytes % pl->enc->slab_bytes != 0)
                return err_set(e, ST_BUG, "writer-part", "a part is no whole number of slabs");
        }
        if (d->slab_elems == 0 ||
            (pl->want & WANT_TREE && (d->slab_elems * size) % SHA256_LEAF != 0))
            return err_set(e, ST_BUG, "writer-slab", "a slab is no whole number of leaves");
        d->n_slabs = n / d->slab_elems + (n % d->slab_elems != 0);
        TRY(plan_proof(x, t, e));
        uint64_t most = n < d->slab_elems ? n : d->slab_elems;
        if (pl->kind == PLACE_APPEND && pl->enc) {
            size_t bound = pl->enc->bound(raw_of(x, t, most));
            x->stored_cap = bound > x->stored_cap ? bound : x->stored_cap;
            if (d->proved)
                x->back_cap = x->stored_cap;
            if (pl->enc->scratch_bytes > x->scratch_cap)
                x->scratch_cap = pl->enc->scratch_bytes;
            if (pl->enc->max_pieces > x->piece_cap)
                x->piece_cap = pl->enc->max_pieces;
        }
        if (is_packed(x, t) && most > x->packed_cap)
            x->packed_cap = most;
        size_t leaves = sha256_tree_n_leaves(most * size);
        if (pl->want & WANT_TREE && leaves > x->leaf_cap)
            x->leaf_cap = leaves;
    }
    return ST_OK;
}

static enum status start(void *ctx, int n_slots, struct err *e)
{
    struct write *x = ctx;
    x->slot = mem_zalloc((size_t)n_slots, sizeof *x->slot);
    if (!x->slot)
        return err_nomem(e, sizeof *x->slot);
    x->n_slots = n_slots;
    for (int i = 0; i < n_slots; i++) {
        struct slot *s = &x->slot[i];
        s->stored = mem_pages(x->stored_cap + 64);
        s->packed = mem_pages(x->packed_cap + 64);
        s->scratch = mem_pages(x->scratch_cap + 64);
        s->back = mem_pages(x->back_cap + 64);
        s->piece = mem_zalloc(x->piece_cap + 1, sizeof *s->piece);
        s->leaf = mem_zalloc(x->leaf_cap + 1, 32);
        if (!s->stored || !s->packed || !s->scratch || !s->back || !s->piece || !s->leaf)
            return err_nomem(e, x->stored_cap + x->packed_cap + x->scratch_cap + x->back_cap);
    }
    return ST_OK;
}

static void free_slots(struct write *x)
{
    for (int i = 0; x->slot && i < x->n_slots; i++) {
        struct slot *s = &x->slot[i];
        mem_pages_free(s->stored, x->stored_cap + 64);
        mem_pages_free(s->packed, x->packed_cap + 64);
        mem_pages_free(s->scratch, x->scratch_cap + 64);
        mem_pages_free(s->back, x->back_cap + 64);
        mem_free(s->piece);
        mem_free(s->leaf);
    }
    mem_free(x->slot);
}

/* What is kept of the raw bytes (sum: may be NULL), and the leaves of their tree. */
static void digest(struct slot *s, const uint8_t *p, size_t n, bool tree, uint8_t *sum)
{
    struct xxh128 x;
    s->n_leaves = tree ? sha256_tree_n_leaves(n) : 0;
    if (tree && !sum)
        sha256_tree_leaves(p, n, s->leaf);
    if (!sum)
        return;
    xxh128_begin(&x);
    for (size_t lo = 0; lo < n; lo += BITE) {
        size_t m = n - lo < BITE ? n - lo : BITE;
        if (tree)
            sha256_tree_leaves(p + lo, m, s->leaf + lo / SHA256_LEAF);
        xxh128_add(&x, p + lo, m);
    }
    xxh128_end(&x, sum);
}

static enum status body(void *ctx, const struct slab *b, int slot, struct err *e)
{
    struct write *x = ctx;
    struct slot *s = &x->slot[slot];
    enum dtype dt = x->source.plan->dst.tensor[b->t].dtype;
    size_t bytes = b->n * num_bytes(dt);
    if (source_id_beside(&x->source, b->t)) {
        digest(s, b->data[0], bytes, true, NULL);
        return ST_OK;
    }
    const struct place *pl = &x->w.place[b->t];
    if (b->n == 0)
        return ST_OK;
    const struct tensor_digests *d = &x->kept->tensor[b->t];
    digest(s, b->data[0], bytes, pl->want & WANT_TREE, d->proved ? NULL : d->xxh[b->index]);
    s->raw = b->data[0];
    s->raw_bytes = bytes;
    if (is_packed(x, b->t)) {
        op_pack(dt, b->data[0], s->packed, b->n);
        s->raw = s->packed;
        s->raw_bytes = raw_of(x, b->t, b->n);
    }
    if (pl->want & WANT_CRC32)
        s->crc32 = crc32_update(0, s->raw, s->raw_bytes);
    if (pl->want & WANT_CRC32C)
        s->crc32c = crc32c_update(0, s->raw, s->raw_bytes);
    if (pl->kind != PLACE_APPEND || !pl->enc) {
        s->stored_bytes = s->raw_bytes;
        return ST_OK;
    }
    s->given = s->raw;
    enum status st =
        pl->enc->encode(s->raw, s->raw_bytes, dt, b->first, b->last, s->stored, x->stored_cap,
                        s->scratch, &s->stored_bytes, s->piece, x->piece_cap, &s->n_pieces, e);
    s->raw = s->stored;
    return st;
}

/* Room for the pieces of a tensor, as many as they are where one slab is all of it. */
static enum status room_for_pieces(struct write *x, const struct slab *b, const struct slot *s,
                                   struct err *e)
{
    const struct encoder *enc = x->w.place[b->t].enc;
    size_t n = s->n_pieces;
    if (!b->last && !mul_size(x->kept->tensor[b->t].n_slabs, enc->max_pieces, &n))
        return err_nomem(e, UINT64_MAX);
    struct piece *p = ARENA_ARRAY(&x->kept->arena, struct piece, n + 1);
    x->w.placed[b->t].piece = p;
    return p ? ST_OK : err_nomem(e, n * sizeof *p);
}

/* Bytes that the writer wants in front of, between or behind a tensor's slabs. */
static enum status around(struct write *x, uint32_t t, int when, struct err *e)
{
    uint64_t *end = &x->w.file_end[x->w.place[t].file];
    if (!x->fmt->around)
        return ST_OK;
    buf_clear(&x->extra);
    TRY(x->fmt->around(&x->w, t, when, *end, &x->extra, e));
    TRY(buf_ok(&x->extra, e));
    if (x->extra.n == 0)
        return ST_OK;
    TRY(out_pwrite(x->w.out, x->w.place[t].file, x->extra.p, x->extra.n, *end, e));
    *end += x->extra.n;
    return ST_OK;
}

static enum status commit_append(struct write *x, const struct slab *b, struct slot *s,
                                 struct err *e)
{
    struct place *pl = &x->w.place[b->t];
    struct placed *d = &x->w.placed[b->t];
    if (pl->file < 0 || pl->file >= WRITER_MAX_APPEND)
        return err_set(e, ST_BUG, "writer-append", "a file that cannot be appended to");
    uint64_t *end = &x->w.file_end[pl->file];
    if (b->first) {
        TRY(around(x, b->t, 0, e));
        d->offset = *end;
        x->next_part = pl->part_bytes;
        if (pl->enc && b->n > 0)
            TRY(room_for_pieces(x, b, s, e));
    } else if (pl->part_bytes && x->raw_done == x->next_part) {
        TRY(around(x, b->t, 2, e));
        x->next_part += pl->part_bytes;
    }
    if (b->n > 0) {
        s->at = *end;
        *end += s->stored_bytes;
        d->stored_bytes += s->stored_bytes;
        if (pl->enc) {
            struct tensor_digests *k = &x->kept->tensor[b->t];
            if (k->proved)
                k->slab[b->index] =
                    (struct kept_slab){pl->enc->name, s->at, d->piece + d->n_pieces, s->n_pieces};
            memcpy(d->piece + d->n_pieces, s->piece, s->n_pieces * sizeof *s->piece);
            d->n_pieces += s->n_pieces;
        }
    }
    return ST_OK;
}

static enum status commit(void *ctx, const struct slab *b, int slot, struct err *e)
{
    struct write *x = ctx;
    struct slot *s = &x->slot[slot];
    if (source_id_beside(&x->source, b->t)) {
        source_id_add(&x->source, b, (const uint8_t(*)[32])s->leaf, s->n_leaves);
        return ST_OK;
    }
    struct place *pl = &x->w.place[b->t];
    struct placed *d = &x->w.placed[b->t];
    const struct tensor *t = &x->w.m->tensor[b->t];
    if (b->first) {
        x->raw_done = 0;
        if (pl->want & WANT_TREE)
            sha256_tree_begin(&x->tree, tensor_units(t) * num_bytes(t->dtype));
    }
    if (pl->kind == PLACE_APPEND) {
        TRY(commit_append(x, b, s, e));
    } else if (b->n > 0) {
        s->at = (pl->part_bytes ? 0 : pl->offset) + raw_of(x, b->t, b->lo);
        d->stored_bytes += s->stored_bytes;
    }
    if (b->n > 0) {
        uint64_t raw = raw_of(x, b->t, b->n);
        if (pl->want & WANT_CRC32)
            d->crc32 = crc_join(CRC32_POLY, d->crc32, s->crc32, raw);
        if (pl->want & WANT_CRC32C)
            d->crc32c = crc_join(CRC32C_POLY, d->crc32c, s->crc32c, raw);
        if (pl->want & WANT_TREE)
            sha256_tree_add(&x->tree, (const uint8_t(*)[32])s->leaf, s->n_leaves);
        x->raw_done += raw;
    }
    if (b->last && pl->want & WANT_TREE)
        sha256_tree_end(&x->tree, d->tree);
    /* the last slab's place is given out above, so what stands behind it may be written now */
    return b->last && pl->kind == PLACE_APPEND ? around(x, b->t, 1, e) : ST_OK;
}

/* A slab of a tensor that lies in parts: s->at counts in the tensor's raw bytes. */
static enum status write_parts(struct write *x, const struct place *pl, const struct slot *s,
                               struct err *e)
{
    for (size_t done = 0; done < s->stored_bytes;) {
        uint64_t part = (s->at + done) / pl->part_bytes, in = (s->at + done) % pl->part_bytes;
        uint64_t room = pl->part_bytes - in;
        size_t n = s->stored_bytes - done < room ? s->stored_bytes - done : (size_t)room;
        TRY(out_pwrite(x->w.out, pl->file, (const uint8_t *)s->raw + done, n,
                       pl->part_offset[part] + in, e));
        done += n;
    }
    return ST_OK;
}

static enum status finish(void *ctx, const struct slab *b, int slot, struct err *e)
{
    struct write *x = ctx;
    const struct slot *s = &x->slot[slot];
    if (b->n == 0 || source_id_beside(&x->source, b->t))
        return ST_OK;
    const struct place *pl = &x->w.place[b->t];
    if (pl->kind == PLACE_FIXED && pl->part_bytes)
        return write_parts(x, pl, s, e);
    return out_pwrite(x->w.out, pl->file, s->raw, s->stored_bytes, s->at, e);
}

/* Reads the slab back while all of it is near. */
static enum status prove(void *ctx, const struct slab *b, int slot, struct err *e)
{
    struct write *x = ctx;
    const struct slot *s = &x->slot[slot];
    if (b->n == 0 || source_id_beside(&x->source, b->t) || !x->kept->tensor[b->t].proved)
        return ST_OK;
    const struct place *pl = &x->w.place[b->t];
    const struct tensor *t = &x->w.m->tensor[b->t];
    TRY(out_pread(x->w.out, pl->file, s->back, s->stored_bytes, s->at, e));
    if (pl->enc->holds(s->back, s->piece, s->n_pieces, s->given, s->raw_bytes, s->scratch))
        return ST_OK;
    (void)err_set(e, ST_OUTPUT, "readback", "what was written reads back with other values");
    err_in(e, t->name.p, t->name.n);
    return ST_OUTPUT;
}

static enum status begin(struct write *x, const struct plan *p, const struct write_opt *wo,
                         struct out *out, struct err *e)
{
    size_t n = p->dst.n_tensors;
    x->w.m = &p->dst;
    x->w.out = out;
    if (wo)
        x->w.opt = *wo;
    if (!x->fmt->origin)
        x->w.opt.origin = NULL;
    x->w.place = ARENA_ARRAY(&x->w.arena, struct place, n + 1);
    x->w.placed = ARENA_ARRAY(&x->w.arena, struct placed, n + 1);
    x->w.order = ARENA_ARRAY(&x->w.arena, uint32_t, n + 1);
    if (!x->w.place || !x->w.placed || !x->w.order)
        return err_nomem(e, n * (sizeof *x->w.place + sizeof *x->w.placed));
    for (size_t i = 0; i < n; i++)
        x->w.order[i] = (uint32_t)i;
    return x->fmt->begin(&x->w, e);
}

/* The order without aliases that are not written. */
static enum status written_order(struct write *x, uint32_t **order, size_t *n, struct err *e)
{
    size_t count = x->w.m->n_tensors;
    *order = ARENA_ARRAY(&x->w.arena, uint32_t, count + 1);
    *n = 0;
    if (!*order)
        return err_nomem(e, count * sizeof **order);
    for (size_t i = 0; i < count; i++) {
        uint32_t t = x->w.order[i];
        if (t >= count)
            return err_set(e, ST_BUG, "writer-order", "no such tensor");
        if (x->w.place[t].kind == PLACE_NONE && x->w.m->tensor[t].alias_of < 0)
            return err_set(e, ST_BUG, "writer-place", "a tensor without a place");
        if (x->w.opt.origin && x->w.m->tensor[t].alias_of < 0 && !(x->w.place[t].want & WANT_TREE))
            return err_set(e, ST_BUG, "writer-want", "a tensor whose digest is not wanted");
        if (x->w.place[t].kind != PLACE_NONE)
            (*order)[(*n)++] = t;
    }
    return ST_OK;
}

static enum status write_all(struct write *x, const struct run_opt *o, struct err *e)
{
    uint32_t *order, *all;
    size_t n;
    struct feed f = {.plan = {x->source.plan, NULL}, .spool_beside = out_target(x->w.out)};
    struct sink sink = {.ctx = x,
                        .start = start,
                        .slab_elems = slab_elems,
                        .body = body,
                        .commit = commit,
                        .finish = finish,
                        .prove = prove,
                        .finish_alone = out_one_writer(x->w.out)};
    if (o)
        f.opt = *o;
    TRY(written_order(x, &order, &n, e));
    all = ARENA_ARRAY(&x->w.arena, uint32_t, x->source.plan->dst.n_tensors + 1);
    if (!all)
        return err_nomem(e, n * sizeof *all);
    TRY(source_id_order(&x->source, order, n, all, &f.n, e));
    f.order = all;
    TRY(plan_slabs(x, &f, e));
    sink.slot_bytes = x->stored_cap + x->packed_cap + x->scratch_cap + x->back_cap +
                      x->piece_cap * sizeof(struct piece) + 32 * x->leaf_cap + 4096;
    f.sink = &sink;
    return feed_run(&f, NULL, e);
}

static enum status complete_origin(struct write *x, struct err *e)
{
    if (!x->w.opt.origin)
        return ST_OK;
    x->origin = *x->w.opt.origin;
    x->w.opt.origin = &x->origin;
    return source_id_end(&x->source, x->w.m, x->w.placed, x->w.opt.own_names, &x->origin, e);
}

void slab_digests_free(struct slab_digests *k)
{
    if (!k)
        return;
    arena_free(&k->arena);
    mem_free(k);
}

enum status run_write(const struct plan *p, const struct format *fmt, const struct write_opt *wo,
                      const struct run_opt *o, struct out *out, struct slab_digests **kept,
                      struct err *e)
{
    struct write x = {.fmt = fmt, .p = p};
    *kept = NULL;
    x.kept = mem_zalloc(1, sizeof *x.kept);
    if (!x.kept)
        return err_nomem(e, sizeof *x.kept);
    x.kept->n_tensors = p->dst.n_tensors;
    x.kept->tensor = arena_alloc(&x.kept->arena, p->dst.n_tensors + 1, sizeof *x.kept->tensor);
    enum status st = x.kept->tensor ? ST_OK : err_nomem(e, p->dst.n_tensors);
    if (st == ST_OK)
        st = begin(&x, p, wo, out, e);
    if (st == ST_OK)
        st = source_id_plan(&x.source, p, x.w.opt.origin, e);
    if (st == ST_OK)
        st = write_all(&x, o, e);
    if (st == ST_OK) {
        out_write_back(out); /* the disk shall not wait for what end() has to say */
        st = complete_origin(&x, e);
    }
    if (st == ST_OK)
        st = fmt->end(&x.w, e);
    if (st == ST_OK)
        out_sync_begin(out);
    if (fmt->drop && x.w.place)
        fmt->drop(&x.w);
    source_id_free(&x.source);
    free_slots(&x);
    buf_free(&x.extra);
    arena_free(&x.w.arena);
    if (st == ST_OK) {
        *kept = x.kept;
    } else {
        slab_digests_free(x.kept);
    }
    return st;
}
