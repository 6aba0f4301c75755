/* See eager.h. */
#include "tests/lib/eager.h"
#include "codec/sha256.h"
#include <stdlib.h>
#include <string.h>

static enum status tiles(const struct storage *s, uint8_t *raw, struct err *e)
{
    void *scratch = malloc(s->scratch_bytes + 1);
    enum status st = scratch ? ST_OK : err_nomem(e, s->scratch_bytes);
    for (uint64_t t = 0; st == ST_OK && t < s->n_tiles; t++)
        st = s->dec->tile(s, t, raw + t * s->tile_bytes, scratch, e);
    free(scratch);
    return st;
}

/* Element by element: where each lies in its box, and in the array. */
static enum status boxes(const struct storage *s, uint8_t *raw, struct err *e)
{
    const struct tile_grid *g = s->grid;
    size_t size = g->elem_bytes;
    void *scratch = malloc(s->scratch_bytes + 1);
    uint8_t *box = malloc((size_t)s->tile_bytes + 1);
    enum status st = scratch && box ? ST_OK : err_nomem(e, s->tile_bytes);
    for (uint64_t i = 0; st == ST_OK && i < s->raw_bytes; i += size)
        memcpy(raw + i, g->fill, size);
    for (uint64_t t = 0; st == ST_OK && t < s->n_tiles; t++) {
        uint64_t lo[VIEW_MAX_AXES], n[VIEW_MAX_AXES], held[VIEW_MAX_AXES], all = 1;
        st = g->where(s, t, lo, n, held, e);
        if (st == ST_OK)
            st = s->dec->tile(s, t, box, scratch, e);
        for (size_t d = 0; d < g->n_dims; d++)
            all *= n[d];
        for (uint64_t i = 0; st == ST_OK && i < all; i++) {
            uint64_t left = i, from = 0, to = 0, from_step = 1, to_step = 1;
            for (size_t d = g->n_dims; d-- > 0;) {
                uint64_t x = left % n[d];
                left /= n[d];
                from += x * from_step;
                to += (lo[d] + x) * to_step;
                from_step *= held[d];
                to_step *= g->dim[d];
            }
            memcpy(raw + to * size, box + from * size, size);
        }
    }
    free(box);
    free(scratch);
    return st;
}

static enum status stream(const struct storage *s, uint8_t *raw, struct err *e)
{
    void *state;
    uint64_t at = 0;
    TRY(s->dec->open(s, &state, e));
    enum status st = ST_OK;
    while (st == ST_OK) {
        size_t n = s->raw_bytes - at < 1000 ? (size_t)(s->raw_bytes - at) : 1000;
        uint8_t one;
        size_t k = n ? n : 1; /* at the end: there must be nothing more */
        st = s->dec->read(s, state, n ? raw + at : &one, &k, e);
        if (st == ST_OK && k > n)
            st = err_set(e, ST_BUG, "stream-long", "the stream gives too much");
        if (st == ST_OK && k == 0)
            break;
        at += k;
    }
    s->dec->close(s, state);
    if (st == ST_OK && at != s->raw_bytes)
        return err_set(e, ST_BUG, "stream-short", "the stream gives too little");
    return st;
}

uint8_t *eager_storage(const struct storage *s, struct err *e)
{
    uint8_t *raw = malloc((size_t)s->raw_bytes + 1);
    enum status st = raw ? ST_OK : err_nomem(e, s->raw_bytes);
    if (st == ST_OK)
        switch (s->kind) {
        case STORAGE_FLAT:
            st =
                s->raw_bytes ? file_pread(s->file, raw, (size_t)s->raw_bytes, s->offset, e) : ST_OK;
            break;
        case STORAGE_MEMORY:
            memcpy(raw, s->mem, (size_t)s->raw_bytes);
            break;
        case STORAGE_TILED:
            st = s->grid ? boxes(s, raw, e) : tiles(s, raw, e);
            break;
        case STORAGE_STREAM:
            st = stream(s, raw, e);
            break;
        }
    if (st == ST_OK)
        return raw;
    free(raw);
    return NULL;
}

uint8_t *eager_read(const struct model *m, size_t tensor, size_t *n, struct err *e)
{
    const struct tensor *t = &m->tensor[tensor];
    const struct storage *s = &m->storage[t->storage];
    const struct dtype_info *d = dtype_info(t->dtype);
    uint64_t elems = tensor_elems(t), at[VIEW_MAX_AXES] = {0};
    size_t size = d->bits >= 8 ? d->bits / 8u : 1;
    *n = (size_t)elems * size;
    uint8_t *raw = eager_storage(s, e);
    if (raw && d->kind == DK_BLOCK) { /* as they stand: no reader makes other views of blocks */
        *n = (size_t)(elems / d->block_elems * d->block_bytes);
        return raw;
    }
    uint8_t *out = raw ? malloc(*n + 1) : NULL;
    for (uint64_t i = 0; out && i < elems; i++) {
        int64_t place = t->view->offset;
        for (size_t k = 0; k < t->view->n_axes; k++)
            place += (int64_t)at[k] * t->view->axis[k].stride;
        uint8_t *q = out + i * size;
        if (d->bits >= 8) {
            memcpy(q, raw + (size_t)place * size, size);
            for (size_t u = 0; s->big_endian && u < size; u += d->swap_bytes)
                for (size_t b = 0; b < d->swap_bytes / 2u; b++) {
                    uint8_t x = q[u + b];
                    q[u + b] = q[u + d->swap_bytes - 1 - b];
                    q[u + d->swap_bytes - 1 - b] = x;
                }
        } else if (t->unpacked) {
            *q = raw[place];
        } else {
            uint64_t bit = (uint64_t)place * d->bits;
            unsigned two = raw[bit / 8];
            if (bit % 8 + d->bits > 8)
                two |= (unsigned)raw[bit / 8 + 1] << 8;
            *q = (uint8_t)(two >> bit % 8 & ((1u << d->bits) - 1));
        }
        for (size_t k = t->view->n_axes; k-- > 0;) {
            if (++at[k] < t->view->axis[k].extent)
                break;
            at[k] = 0;
        }
    }
    free(raw);
    return out;
}

void sha_hex(const void *p, size_t n, char hex[65])
{
    uint8_t d[32];
    sha256(p, n, d);
    sha256_hex(d, hex);
}
