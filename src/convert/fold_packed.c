/* Compressed sources of a fold. Folding looks at a weight in pieces, twice over or in strips, so
 * each tile and stream it needs is decoded once and ahead, into a spool. From the plan on the model
 * holds them as plain bytes, as it does the folded weights; until fold_packed_run they are zeros.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "base/par.h"
#include "convert/fold_int.h"
#include "convert/input.h"
#include <string.h>

#define PIECE_BYTES ((size_t)1 << 20) /* what resident_load hands on at a time, beside tiles */
#define AT_ONCE_BYTES ((uint64_t)16 << 20)

static enum status take(struct fold *f, struct model *m, uint32_t tensor, struct err *e)
{
    int64_t of = m->tensor[tensor].alias_of;
    uint32_t i = m->tensor[of >= 0 ? (uint32_t)of : tensor].storage;
    struct storage *s = &m->storage[i];
    if ((s->kind != STORAGE_TILED && s->kind != STORAGE_STREAM) || s->raw_bytes == 0)
        return ST_OK;
    f->packed[f->n_packed++] = (struct fold_packed){m, i, *s};
    f->n_decodes += s->kind == STORAGE_STREAM ? 1 : s->n_tiles;
    if (!add_u64(f->packed_bytes, s->raw_bytes, &f->packed_bytes))
        return err_set(e, ST_LIMIT, "too-big", "the weights to fold overflow");
    *s = (struct storage){.kind = STORAGE_FLAT,
                          .file = f->file,
                          .stored_bytes = s->raw_bytes,
                          .raw_bytes = s->raw_bytes,
                          .big_endian = s->big_endian};
    return ST_OK;
}

enum status fold_packed_plan(struct fold *f, struct model *adapter, struct err *e)
{
    struct model *other = adapter && f->ad != f->m ? adapter : f->m;
    f->packed = ARENA_ARRAY(&f->a, struct fold_packed, 3 * f->n + 1);
    if (!f->packed)
        return err_nomem(e, 3 * f->n * sizeof *f->packed);
    for (size_t i = 0; i < f->n; i++) {
        const struct fold_item *it = &f->item[i];
        struct model *with = it->kind == FOLD_LORA ? other : f->m;
        if (it->kind != FOLD_WEIGHT && it->kind != FOLD_SPECTRAL && it->kind != FOLD_LORA)
            continue; /* read whole, and once */
        TRY(take(f, f->m, it->tensor, e));
        TRY(take(f, with, it->with, e));
        if (it->kind != FOLD_WEIGHT)
            TRY(take(f, with, it->also, e));
    }
    return ST_OK;
}

static enum status unpack(const struct fold_packed *p, const char *beside, struct scratch *sc,
                          int n_slots, struct err *e)
{
    const struct storage *s = &p->was;
    struct feed_counts counts = {0};
    struct resident r = {0};
    struct file *file = NULL;
    struct input_budget b = {.spool_beside = beside,
                             .counts = &counts,
                             .scratch = sc,
                             .n_slots = n_slots,
                             .n_threads = n_slots};
    enum status st = resident_load(s, &r, &b, e);
    if (st == ST_OK)
        st = spool_file(r.spool, file_path(s->file), &file, e);
    resident_free(&r);
    TRY(st);
    p->m->storage[p->storage].file = file;
    return model_own_file(p->m, file, e);
}

/* Bytes of one thread, raw and scratch at multiples of 64; and how many threads. */
static uint64_t of_thread(const struct storage *s, uint64_t *raw, int *n)
{
    uint64_t tile = s->kind == STORAGE_TILED ? s->tile_bytes : 0, all;
    *raw = ((tile > PIECE_BYTES ? tile : PIECE_BYTES) | 63) + 1;
    all = *raw + (s->scratch_bytes | 63) + 1;
    *n = par_threads();
    if (all * (uint64_t)*n > AT_ONCE_BYTES)
        *n = all < AT_ONCE_BYTES ? (int)(AT_ONCE_BYTES / all) : 1;
    return all;
}

uint64_t fold_packed_memory(const struct fold *f)
{
    uint64_t most = 0, raw;
    for (size_t i = 0; i < f->n_packed; i++) {
        int n;
        uint64_t all = of_thread(&f->packed[i].was, &raw, &n) * (uint64_t)n;
        most = all > most ? all : most;
    }
    return most;
}

enum status fold_packed_run(struct fold *f, struct err *e)
{
    struct scratch sc[PAR_THREADS_MAX];
    enum status st = ST_OK;
    for (size_t i = 0; i < f->n_packed && st == ST_OK; i++) {
        const struct storage *s = &f->packed[i].was;
        uint64_t raw, all;
        int n;
        all = of_thread(s, &raw, &n);
        uint8_t *p = mem_pages(all * (uint64_t)n);
        if (!p)
            return err_nomem(e, all * (uint64_t)n);
        memset(sc, 0, sizeof sc);
        for (int k = 0; k < n; k++) {
            sc[k].raw = p + all * (uint64_t)k;
            sc[k].raw_bytes = (size_t)raw;
            sc[k].decode = sc[k].raw + raw;
            sc[k].decode_bytes = s->scratch_bytes;
        }
        st = unpack(&f->packed[i], f->beside, sc, n, e);
        mem_pages_free(p, all * (uint64_t)n);
    }
    return st;
}
