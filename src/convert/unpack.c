/* A block tensor as a float32 storage: tiles decoded from the blocks below them (see input.h). */
#include "base/mem.h"
#include "convert/block.h"
#include "convert/input.h"
#include <string.h>

static enum status tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e)
{
    const struct unpacked *u = s->priv;
    const struct dtype_info *d = dtype_info(u->dtype);
    uint64_t first = t * UNPACK_ELEMS, all = s->raw_bytes / 4;
    uint64_t n = (all - first < UNPACK_ELEMS ? all - first : UNPACK_ELEMS) / d->block_elems;
    uint64_t at = dtype_units(u->dtype, first), bytes = n * d->block_bytes;
    const uint8_t *src = scratch;
    if (u->base->kind == STORAGE_MEMORY)
        src = u->base->mem + at;
    else if (u->base->kind == STORAGE_FLAT)
        TRY(file_pread(u->base->file, scratch, bytes, u->base->offset + at, e));
    else if (u->base_res->mem)
        src = u->base_res->mem + at;
    else
        TRY(spool_pread(u->base_res->spool, scratch, bytes, at, e));
    block_unpack(u->dtype, src, dst, n);
    return ST_OK;
}

static const struct decoder unpacking = {.name = "blocks", .tile = tile};

static void init(struct unpacked *u, const struct storage *base, struct resident *base_res,
                 enum dtype dtype)
{
    const struct dtype_info *d = dtype_info(dtype);
    uint64_t blocks = base->raw_bytes / d->block_bytes; /* its float32 bytes fit, see view_c */
    uint64_t tile_elems = UNPACK_ELEMS, elems = blocks * d->block_elems;
    bool plain = base->kind == STORAGE_FLAT;
    memset(u, 0, sizeof *u);
    u->base = base;
    u->base_res = base_res;
    u->dtype = dtype;
    u->s = (struct storage){.kind = STORAGE_TILED,
                            .file = base->file,
                            .stored_bytes = plain ? base->stored_bytes : 0,
                            .raw_bytes = elems * 4,
                            .n_tiles = elems / tile_elems + (elems % tile_elems != 0),
                            .tile_bytes = tile_elems * 4,
                            .scratch_bytes = dtype_units(dtype, tile_elems),
                            .dec = &unpacking,
                            .priv = u};
}

enum status sources_make(struct sources *x, const struct model *m, struct err *e)
{
    x->storage = mem_zalloc(m->n_storages + 1, sizeof *x->storage);
    return x->storage ? ST_OK : err_nomem(e, m->n_storages * sizeof *x->storage);
}

enum status sources_unpacked(struct sources *x, const struct model *m, uint32_t tensor,
                             struct unpacked **out, struct err *e)
{
    const struct tensor *t = &m->tensor[tensor];
    if (!x->tensor)
        x->tensor = mem_zalloc(m->n_tensors, sizeof(struct unpacked *));
    if (!x->tensor)
        return err_nomem(e, m->n_tensors * sizeof(struct unpacked *));
    if (!x->tensor[tensor]) {
        struct unpacked *u = mem_zalloc(1, sizeof *u);
        if (!u)
            return err_nomem(e, sizeof *u);
        init(u, &m->storage[t->storage], &x->storage[t->storage], t->dtype);
        x->tensor[tensor] = u;
    }
    *out = x->tensor[tensor];
    return ST_OK;
}

void sources_free(struct sources *x, const struct model *m)
{
    for (size_t i = 0; x->storage && i < m->n_storages; i++)
        resident_free(&x->storage[i]);
    for (size_t i = 0; x->tensor && i < m->n_tensors; i++) {
        if (x->tensor[i])
            resident_free(&x->tensor[i]->res);
        mem_free(x->tensor[i]);
    }
    mem_free(x->storage);
    mem_free(x->tensor);
}
