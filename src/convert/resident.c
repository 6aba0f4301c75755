/* Storages that are decoded once and kept until their last user is done (see input.h). */
#include "base/checked.h"
#include "base/mem.h"
#include "base/par.h"
#include "convert/input.h"
#include <string.h>

#define COPY_BYTES ((uint64_t)1 << 20)

static uint64_t tile_raw(const struct storage *s, uint64_t t)
{
    uint64_t at = t * s->tile_bytes, left = s->raw_bytes - at;
    return left < s->tile_bytes ? left : s->tile_bytes;
}

struct load_job {
    const struct storage *s;
    struct resident *r;
    struct scratch *scratch;
    struct feed_counts *counts;
};

/* ---- boxes of an array ---- */

/* Where the rows of a box go: `run` bytes lie together, in the box and in the array. */
struct rows {
    uint64_t lo[VIEW_MAX_AXES], n[VIEW_MAX_AXES], held[VIEW_MAX_AXES];
    uint64_t n_runs, run;
    size_t axes; /* the outer ones, that count the runs */
};

static enum status rows_of(const struct storage *s, uint64_t t, struct rows *r, struct err *e)
{
    const struct tile_grid *g = s->grid;
    uint64_t bytes = g->elem_bytes;
    TRY(g->where(s, t, r->lo, r->n, r->held, e));
    for (size_t d = 0; d < g->n_dims; d++) {
        if (r->lo[d] > g->dim[d] || r->n[d] > g->dim[d] - r->lo[d] || r->n[d] > r->held[d] ||
            !mul_u64(bytes, r->held[d], &bytes) || bytes > s->tile_bytes)
            return err_set(e, ST_INPUT, "box-bounds", "tile %llu reaches outside its array",
                           (unsigned long long)t);
    }
    r->run = g->elem_bytes;
    r->n_runs = 1;
    size_t d = g->n_dims;
    for (bool whole = true; d > 0 && whole; d--) {
        r->run *= r->n[d - 1];
        whole = r->n[d - 1] == g->dim[d - 1] && r->n[d - 1] == r->held[d - 1];
    }
    r->axes = d;
    for (; d > 0; d--)
        r->n_runs *= r->n[d - 1];
    if (r->run == 0)
        r->n_runs = 0;
    return ST_OK;
}

/* Byte offsets of run i in the array and in the decoded box. */
static void run_at(const struct tile_grid *g, const struct rows *r, uint64_t i, uint64_t *array,
                   uint64_t *box)
{
    uint64_t a_step = g->elem_bytes, b_step = a_step;
    *array = *box = 0;
    for (size_t d = g->n_dims; d-- > 0;) {
        uint64_t x = 0;
        if (d < r->axes) {
            x = i % r->n[d];
            i /= r->n[d];
        }
        *array += (r->lo[d] + x) * a_step;
        *box += x * b_step;
        a_step *= g->dim[d];
        b_step *= r->held[d];
    }
}

static enum status load_box(void *ctx, uint64_t t, int slot, struct err *e)
{
    const struct load_job *j = ctx;
    const struct scratch *sc = &j->scratch[slot];
    struct rows r;
    TRY(rows_of(j->s, t, &r, e));
    j->counts->n_decodes++;
    TRY(j->s->dec->tile(j->s, t, sc->raw, sc->decode, e));
    for (uint64_t i = 0; i < r.n_runs; i++) {
        uint64_t array, box;
        run_at(j->s->grid, &r, i, &array, &box);
        if (j->r->mem)
            memcpy(j->r->mem + array, sc->raw + box, r.run);
        else
            TRY(spool_pwrite(j->r->spool, sc->raw + box, r.run, array, e));
    }
    return ST_OK;
}

/* What no box covers. Fresh memory is zero; a spool is not there until it is written. */
static enum status fill_array(const struct load_job *j, struct err *e)
{
    const struct tile_grid *g = j->s->grid;
    uint8_t *chunk = j->scratch[0].raw;
    bool zero = true;
    for (size_t i = 0; i < g->elem_bytes; i++)
        zero = zero && g->fill[i] == 0;
    if (g->covers || (zero && j->r->mem))
        return ST_OK;
    uint64_t step = COPY_BYTES / g->elem_bytes * g->elem_bytes;
    for (uint64_t i = 0; i < step; i++)
        chunk[i] = g->fill[i % g->elem_bytes];
    for (uint64_t at = 0; at < j->s->raw_bytes; at += step) {
        uint64_t n = j->s->raw_bytes - at < step ? j->s->raw_bytes - at : step;
        if (j->r->mem)
            memcpy(j->r->mem + at, chunk, n);
        else
            TRY(spool_pwrite(j->r->spool, chunk, n, at, e));
    }
    return ST_OK;
}

/* ---- loading ---- */

static enum status load_tile(void *ctx, uint64_t t, int slot, struct err *e)
{
    const struct load_job *j = ctx;
    uint64_t n = tile_raw(j->s, t), at = t * j->s->tile_bytes;
    uint8_t *dst = j->r->mem ? j->r->mem + at : j->scratch[slot].raw;
    j->counts->n_decodes++;
    TRY(j->s->dec->tile(j->s, t, dst, j->scratch[slot].decode, e));
    return j->r->mem ? ST_OK : spool_pwrite(j->r->spool, dst, n, at, e);
}

/* Copies a flat file to the spool: network files whose strided reads would be small. */
static enum status load_flat(void *ctx, uint64_t i, int slot, struct err *e)
{
    const struct load_job *j = ctx;
    uint64_t at = i * COPY_BYTES, left = j->s->raw_bytes - at;
    uint64_t n = left < COPY_BYTES ? left : COPY_BYTES;
    uint8_t *dst = j->r->mem ? j->r->mem + at : j->scratch[slot].raw;
    j->counts->bytes_fetched += n;
    TRY(file_pread(j->s->file, dst, n, j->s->offset + at, e));
    return j->r->mem ? ST_OK : spool_pwrite(j->r->spool, dst, n, at, e);
}

static enum status load_stream(const struct load_job *j, struct err *e)
{
    const struct storage *s = j->s;
    void *state;
    uint64_t at = 0;
    TRY(s->dec->open(s, &state, e));
    j->counts->n_decodes++;
    enum status st = ST_OK;
    for (size_t n = 1; st == ST_OK && n > 0; at += n) {
        uint64_t left = s->raw_bytes - at;
        uint8_t past[16];
        uint8_t *dst = left == 0 ? past : j->r->mem ? j->r->mem + at : j->scratch[0].raw;
        n = left == 0 ? sizeof past : left < COPY_BYTES ? (size_t)left : COPY_BYTES;
        st = s->dec->read(s, state, dst, &n, e);
        if (st == ST_OK && n > left)
            st = err_set(e, ST_INPUT, "stream-long", "more bytes than declared");
        if (st == ST_OK && n == 0 && left > 0)
            st = err_set(e, ST_INPUT, "stream-short", "fewer bytes than declared");
        if (st == ST_OK && n > 0 && !j->r->mem)
            st = spool_pwrite(j->r->spool, dst, n, at, e);
    }
    s->dec->close(s, state);
    return st;
}

enum status resident_load(const struct storage *s, struct resident *r, struct input_budget *b,
                          struct err *e)
{
    struct load_job j = {s, r, b->scratch, b->counts};
    bool fits = s->raw_bytes <= b->resident_bytes;
    uint64_t n_tiles = s->kind == STORAGE_STREAM ? 1 : s->kind == STORAGE_TILED ? s->n_tiles : 0;
    if (r->ready)
        return ST_OK;
    r->ready = true;
    if (!fits)
        b->counts->spool_bytes += s->raw_bytes;
    else
        b->resident_bytes -= s->raw_bytes;
    if (fits)
        r->mem_bytes = s->raw_bytes;
    if (b->dry) {
        b->counts->n_decodes += n_tiles;
        b->counts->bytes_fetched += s->stored_bytes;
        return ST_OK;
    }
    if (fits) {
        r->mem = mem_pages(s->raw_bytes);
        if (!r->mem)
            return err_nomem(e, s->raw_bytes);
    } else {
        TRY(spool_open(b->spool_beside, &r->spool, e));
    }
    if (s->kind == STORAGE_STREAM) {
        b->counts->bytes_fetched += s->stored_bytes;
        return load_stream(&j, e);
    }
    if (s->kind == STORAGE_TILED)
        b->counts->bytes_fetched += s->stored_bytes;
    if (s->grid)
        TRY(fill_array(&j, e));
    struct par_job job = {.n_items =
                              s->kind == STORAGE_TILED
                                  ? s->n_tiles
                                  : s->raw_bytes / COPY_BYTES + (s->raw_bytes % COPY_BYTES != 0),
                          .n_slots = b->n_threads,
                          .ctx = &j,
                          .body = s->grid                    ? load_box
                                  : s->kind == STORAGE_TILED ? load_tile
                                                             : load_flat};
    return par_run(&job, e);
}

void resident_free(struct resident *r)
{
    mem_pages_free(r->mem, r->mem_bytes);
    spool_close(r->spool);
    r->mem = NULL;
    r->spool = NULL;
    r->mem_bytes = 0;
    r->ready = false;
}
