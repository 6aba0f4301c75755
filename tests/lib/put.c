/* See put.h. */
#include "tests/lib/put.h"
#include "codec/sha256.h"
#include <stdlib.h>
#include <string.h>

static enum status extra(const struct format *f, struct writer *w, uint32_t t, int when, int id,
                         struct err *e)
{
    struct buf b = BUF_INIT;
    enum status st = f->around ? f->around(w, t, when, w->file_end[id], &b, e) : ST_OK;
    if (st == ST_OK)
        st = buf_ok(&b, e);
    if (st == ST_OK && b.n > 0)
        st = out_pwrite(w->out, id, b.p, b.n, w->file_end[id], e);
    w->file_end[id] += b.n;
    buf_free(&b);
    return st;
}

static enum status append(const struct format *f, struct writer *w, uint32_t t, const uint8_t *p,
                          uint64_t n, struct err *e)
{
    const struct place *at = &w->place[t];
    const struct encoder *enc = at->enc;
    struct placed *done = &w->placed[t];
    size_t slabs = (size_t)((n + enc->slab_bytes - 1) / enc->slab_bytes);
    size_t cap = enc->bound(enc->slab_bytes);
    uint8_t *dst = malloc(cap), *scratch = malloc(enc->scratch_bytes);
    done->piece = ARENA_ARRAY(&w->arena, struct piece, slabs * enc->max_pieces + 1);
    enum status st = extra(f, w, t, 0, at->file, e);
    done->offset = w->file_end[at->file];
    for (size_t i = 0; st == ST_OK && i < slabs; i++) {
        uint64_t lo = i * enc->slab_bytes;
        size_t m = n - lo < enc->slab_bytes ? (size_t)(n - lo) : enc->slab_bytes, stored, pieces;
        if (at->part_bytes > 0 && lo > 0 && lo % at->part_bytes == 0)
            st = extra(f, w, t, 2, at->file, e);
        if (st == ST_OK)
            st = enc->encode(p + lo, m, w->m->tensor[t].dtype, i == 0, i + 1 == slabs, dst, cap,
                             scratch, &stored, done->piece + done->n_pieces, enc->max_pieces,
                             &pieces, e);
        if (st != ST_OK)
            break;
        done->n_pieces += pieces;
        st = out_pwrite(w->out, at->file, dst, stored, w->file_end[at->file], e);
        w->file_end[at->file] += stored;
        done->stored_bytes += stored;
    }
    if (st == ST_OK)
        st = extra(f, w, t, 1, at->file, e);
    free(dst);
    free(scratch);
    return st;
}

/* The digest of canonical bytes: values below a byte one a byte, in its lowest bits. */
static void digest(const struct tensor *t, const uint8_t *p, uint64_t n, uint8_t out[32])
{
    const struct dtype_info *d = dtype_info(t->dtype);
    if (d->bits >= 8) {
        sha256_tree(p, (size_t)n, out);
        return;
    }
    size_t elems = (size_t)tensor_elems(t);
    uint8_t *wide = malloc(elems + 1);
    for (size_t i = 0; i < elems; i++) {
        size_t bit = i * d->bits;
        wide[i] = (uint8_t)(p[bit / 8] >> bit % 8 & ((1 << d->bits) - 1));
    }
    sha256_tree(wide, elems, out);
    free(wide);
}

static enum status put_all(const struct format *f, struct writer *w, const uint8_t *const *data,
                           struct err *e)
{
    TRY(f->check(w->m, &w->opt, e));
    TRY(f->begin(w, e));
    for (size_t i = 0; i < w->m->n_tensors; i++) {
        uint32_t t = w->order[i];
        uint64_t n;
        if (w->place[t].kind == PLACE_NONE)
            continue;
        if (w->place[t].unpacked) { /* one value a byte, in data too */
            n = tensor_elems(&w->m->tensor[t]);
            sha256_tree(data[t], (size_t)n, w->placed[t].tree);
        } else if (!dtype_span(w->m->tensor[t].dtype, tensor_elems(&w->m->tensor[t]), &n))
            return ST_BUG;
        else
            digest(&w->m->tensor[t], data[t], n, w->placed[t].tree);
        if (w->place[t].kind == PLACE_APPEND)
            TRY(append(f, w, t, data[t], n, e));
        else
            TRY(out_pwrite(w->out, w->place[t].file, data[t], (size_t)n, w->place[t].offset, e));
    }
    return f->end(w, e);
}

enum status put_model(const struct format *f, const struct model *m, const uint8_t *const *data,
                      const struct write_opt *opt, const char *path, struct err *e)
{
    struct writer w = {.m = m, .opt = *opt};
    struct out_opt oo = {.force = true, .is_dir = f->dir_only};
    TRY(out_begin(path, &oo, &w.out, e));
    w.place = calloc(m->n_tensors + 1, sizeof *w.place);
    w.placed = calloc(m->n_tensors + 1, sizeof *w.placed);
    w.order = calloc(m->n_tensors + 1, sizeof *w.order);
    for (uint32_t i = 0; i < m->n_tensors; i++)
        w.order[i] = i;
    enum status st = put_all(f, &w, data, e);
    if (st == ST_OK)
        st = out_sync(w.out, e);
    if (st == ST_OK)
        st = out_publish(w.out, e);
    if (f->drop && w.priv)
        f->drop(&w);
    out_end(w.out);
    arena_free(&w.arena);
    free(w.place);
    free(w.placed);
    free(w.order);
    return st;
}
