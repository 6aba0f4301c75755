/* See feed.h.
 *
 * Tensors whose inputs answer any range at once (files in order, mapped windows, memory, aligned
 * tiles) are run many at a time, a batch per parallel run. A tensor that needs something fetched
 * ahead (a panel, a stretch of a stream) is run alone, panel by panel: fetch in parallel, then
 * consume in parallel.
 */
#include "convert/feed.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/par.h"
#include "base/stop.h"
#include "convert/number.h"
#include "convert/op.h"
#include "convert/produce.h"
#include <string.h>

#define SLOTS_A_THREAD 8
#define SLOTS_BYTES ((uint64_t)48 << 20) /* more than one a thread only up to here */
#define BATCH_BYTES ((uint64_t)4 << 30)
#define BATCH_JOBS 4096
#define BATCH_WINDOWS 128
#define AHEAD_BYTES ((uint64_t)16 << 20) /* of a stream, decoded at a time */
#define FETCH_BYTES ((uint64_t)1 << 20)  /* of a panel, one item */

struct job {
    size_t number; /* place in the order */
    uint64_t slab, n_slabs;
    uint64_t lo, hi;     /* units, as everywhere here: see dtype_units */
    uint64_t first_item; /* in the batch */
    struct side side[2];
};

struct state {
    const struct feed *f;
    int n_sides, n_slots, n_threads;
    struct sources from[2];
    struct scratch *scratch;
    uint8_t *data[2]; /* n_slots slabs each */
    uint64_t data_bytes[2];
    struct slab *slab; /* per slot: the item in work */
    struct input_budget budget;
    struct feed_counts counts;
    uint64_t slot_bytes; /* memory of a thread, the sink's included */
    /* the batch */
    struct job *job;
    size_t n_jobs, cap_jobs;
    uint64_t batch_items, batch_bytes;
    /* the panel */
    uint8_t *panel;
    uint64_t panel_cap;
    uint64_t done_bytes, total_bytes;
    uint64_t read_needed; /* bytes of source elements used */
    uint64_t resident_room;
    uint64_t peak_bytes; /* windows, panels and decoded storages, at most */
};

const struct tensor *feed_target(const struct feed *f, size_t job, int side)
{
    uint32_t t = side == 0 ? f->order[job] : f->partner[job];
    return &f->plan[side]->dst.tensor[t];
}

/* An alias that is written all the same is made from its target's recipe. */
static const struct recipe *recipe_of(const struct plan *p, uint32_t t)
{
    int64_t a = p->dst.tensor[t].alias_of;
    return &p->recipe[a >= 0 ? (uint64_t)a : t];
}

const struct recipe *feed_recipe(const struct feed *f, size_t job, int side)
{
    return recipe_of(f->plan[side], side == 0 ? f->order[job] : f->partner[job]);
}

/* Does the recipe make blocks of elements? */
static bool packs(const struct tensor *t, const struct recipe *r)
{
    return dtype_is_block(t->dtype) && r->n_parts > 0 && r->part[0].n_ops > 0;
}

static uint64_t slab_of(const struct feed *f, size_t job)
{
    uint64_t n =
        f->sink && f->sink->slab_elems ? f->sink->slab_elems(f->sink->ctx, f->order[job]) : 0;
    return n ? n : feed_slab_elems(f, job);
}

/* ---- set-up ---- */

static enum status each_input(const struct plan *p, const struct recipe *r, void *ctx,
                              enum status (*fn)(void *ctx, const struct plan *p, uint32_t tensor,
                                                bool unpack, struct err *e),
                              struct err *e)
{
    for (size_t i = 0; i < r->n_parts; i++) {
        const struct part *q = &r->part[i];
        if (q->src < 0)
            continue;
        TRY(fn(ctx, p, (uint32_t)q->src, part_unpacks(q), e));
        for (size_t k = 0; k < q->n_ops; k++)
            if (op_reads(&q->op[k]))
                TRY(fn(ctx, p, q->op[k].operand, false, e));
    }
    return ST_OK;
}

struct needs {
    struct sources *from;
    uint64_t slab, raw_bytes, decode_bytes;
};

static enum status count_input(void *ctx, const struct plan *p, uint32_t tensor, bool unpack,
                               struct err *e)
{
    struct needs *n = ctx;
    const struct tensor *t = &p->src->tensor[tensor];
    const struct storage *s = &p->src->storage[t->storage];
    uint64_t raw = n->slab * num_bytes(unpack ? DT_F32 : t->dtype);
    if (s->kind == STORAGE_TILED && s->scratch_bytes > n->decode_bytes)
        n->decode_bytes = s->scratch_bytes;
    if (unpack) {
        struct unpacked *u;
        TRY(sources_unpacked(n->from, p->src, tensor, &u, e));
        if (s->kind == STORAGE_TILED && s->tile_bytes > raw)
            raw = s->tile_bytes; /* decoded on the way to a spool */
        s = &u->s;
        u->res.users++;
    }
    if (s->kind == STORAGE_TILED)
        raw += s->tile_bytes;
    n->from->storage[t->storage].users++;
    if (raw > n->raw_bytes)
        n->raw_bytes = raw;
    if (s->kind == STORAGE_TILED && s->scratch_bytes > n->decode_bytes)
        n->decode_bytes = s->scratch_bytes;
    return ST_OK;
}

/* What a thread needs over all jobs, and who uses which storage how often. */
static enum status measure(struct state *s, struct needs *n, struct err *e)
{
    const struct feed *f = s->f;
    for (int k = 0; k < s->n_sides; k++)
        TRY(sources_make(&s->from[k], f->plan[k]->src, e));
    n->raw_bytes = SLAB_BYTES; /* loading copies pass it too */
    for (size_t j = 0; j < f->n; j++) {
        uint64_t slab = slab_of(f, j), elems = tensor_units(feed_target(f, j, 0));
        for (int k = 0; k < s->n_sides; k++) {
            n->slab = elems < slab ? elems : slab;
            uint64_t bytes = n->slab * num_bytes(feed_target(f, j, k)->dtype);
            if (bytes > s->data_bytes[k])
                s->data_bytes[k] = bytes;
            n->from = &s->from[k];
            if (packs(feed_target(f, j, k), feed_recipe(f, j, k)) && n->slab > OP_BLOCK)
                n->slab = OP_BLOCK; /* blocks are made of that much at a time */
            TRY(each_input(f->plan[k], feed_recipe(f, j, k), n, count_input, e));
            if (k == 0)
                s->total_bytes += elems * num_bytes(feed_target(f, j, k)->dtype);
        }
    }
    return ST_OK;
}

static uint64_t page_round(uint64_t n)
{
    return (n + 4095) / 4096 * 4096;
}

/* Threads that fit, and what is left for windows, panels and decoded storages. */
static enum status share_memory(struct state *s, const struct needs *n, struct err *e)
{
    const struct feed *f = s->f;
    uint64_t memory = f->opt.memory ? f->opt.memory : (uint64_t)1 << 30, used = mem_in_use();
    if (mem_ceiling() != 0 && mem_ceiling() < memory)
        memory = mem_ceiling();
    uint64_t floor = (uint64_t)4 << 20;
    uint64_t left = memory > used + floor ? memory - used : floor;
    s->slot_bytes = page_round(n->raw_bytes) + page_round(n->decode_bytes) +
                    page_round(s->data_bytes[0] + 64) + page_round(s->data_bytes[1] + 64) +
                    3 * OP_BLOCK_BYTES + page_round(OP_BLOCK) + STAGE_BYTES +
                    (f->sink ? f->sink->slot_bytes : 0);
    int want =
        f->opt.threads > 0 && f->opt.threads < par_threads() ? f->opt.threads : par_threads();
    while (want > 1 && (uint64_t)want * s->slot_bytes > left / 2)
        want--;
    s->n_slots = s->n_threads = want;
    /* commits come in order: small slabs done shall not wait for a large one with a thread each */
    while (f->sink && want > 1 && s->n_slots < SLOTS_A_THREAD * want &&
           (uint64_t)(s->n_slots + 1) * s->slot_bytes <=
               (left / 8 < SLOTS_BYTES ? left / 8 : SLOTS_BYTES))
        s->n_slots++;
    uint64_t slots = (uint64_t)s->n_slots * s->slot_bytes;
    if (slots + floor > left && f->opt.memory)
        return err_set(e, ST_LIMIT, "memory", "one thread needs %llu bytes, --memory leaves %llu",
                       (unsigned long long)(s->slot_bytes + floor), (unsigned long long)left);
    left -= slots;
    left -= left / 16; /* tables of the batch, the sink's records */
    s->budget = (struct input_budget){.resident_bytes = left / 3,
                                      .panel_bytes = left - left / 3,
                                      .dry = !f->sink,
                                      .spool_beside = f->spool_beside,
                                      .counts = &s->counts,
                                      .n_slots = s->n_slots,
                                      .n_threads = want};
    s->budget.window_bytes = s->budget.panel_bytes;
    s->budget.windows = BATCH_WINDOWS;
    s->resident_room = s->budget.resident_bytes;
    return ST_OK;
}

static uint8_t *carve(uint8_t **at, uint64_t n)
{
    uint8_t *p = *at;
    *at += page_round(n);
    return p;
}

/* One allocation per thread, from whole pages, reused for everything. */
static enum status make_slots(struct state *s, const struct needs *n, struct err *e)
{
    s->scratch = mem_zalloc((size_t)s->n_slots, sizeof *s->scratch);
    s->slab = mem_zalloc((size_t)s->n_slots, sizeof *s->slab);
    if (!s->scratch || !s->slab)
        return err_nomem(e, sizeof *s->scratch);
    s->budget.scratch = s->scratch;
    uint64_t own = s->slot_bytes - (s->f->sink ? s->f->sink->slot_bytes : 0);
    for (int i = 0; i < s->n_slots; i++) {
        struct scratch *sc = &s->scratch[i];
        uint8_t *p = mem_pages(own);
        if (!p)
            return err_nomem(e, own);
        sc->base = p;
        sc->base_bytes = own;
        sc->raw_bytes = page_round(n->raw_bytes);
        sc->raw = carve(&p, n->raw_bytes);
        sc->decode_bytes = n->decode_bytes;
        sc->decode = carve(&p, n->decode_bytes);
        for (int k = 0; k < 2; k++)
            s->slab[i].data[k] = carve(&p, s->data_bytes[k] + 64);
        sc->block[0] = carve(&p, OP_BLOCK_BYTES);
        sc->block[1] = carve(&p, OP_BLOCK_BYTES);
        sc->operand = carve(&p, OP_BLOCK_BYTES);
        sc->packed = carve(&p, OP_BLOCK);
        sc->stage = carve(&p, STAGE_BYTES);
    }
    return ST_OK;
}

/* ---- one job ---- */

static bool needs_ahead(const struct side *sd)
{
    for (size_t i = 0; i < sd->n_inputs; i++)
        if (sd->input[i].kind == IN_PANEL || sd->input[i].kind == IN_ORDERED)
            return true;
    return false;
}

static void count_cost(struct state *s, const struct job *j)
{
    for (int k = 0; k < s->n_sides; k++) {
        const struct side *sd = &j->side[k];
        for (size_t i = 0; i < sd->n_inputs; i++) {
            const struct input *in = &sd->input[i];
            uint64_t need = (uint64_t)(in->hi - in->lo) * in->size,
                     n = view_elems(&in->v) * in->size;
            if (n < need)
                need = n;
            if (in->blocks) /* of the blocks, not of what they unpack to */
                need = dtype_units(in->blocks->dtype, need / in->size);
            s->read_needed += need;
            if (s->budget.dry && in->kind == IN_FILE)
                s->counts.bytes_fetched += need;
            else if (s->budget.dry && in->kind == IN_MEMORY && in->s->kind == STORAGE_FLAT)
                s->counts.bytes_fetched += (uint64_t)(in->hi - in->lo) * in->size;
            else if (!s->budget.dry && in->kind == IN_MEMORY && in->s->kind == STORAGE_FLAT)
                s->counts.bytes_fetched += in->win.n;
        }
    }
}

static void note_peak(struct state *s, uint64_t panel_bytes)
{
    uint64_t now = s->budget.panel_bytes - s->budget.window_bytes + s->resident_room -
                   s->budget.resident_bytes + panel_bytes;
    if (now > s->peak_bytes)
        s->peak_bytes = now;
}

static void close_job(struct state *s, struct job *j)
{
    for (int k = 0; k < s->n_sides; k++) {
        struct side *sd = &j->side[k];
        for (size_t i = 0; i < sd->n_inputs; i++)
            input_close(&sd->input[i], &s->budget);
        side_free(sd);
    }
}

static enum status open_job(struct state *s, size_t number, struct job *j, struct err *e)
{
    const struct feed *f = s->f;
    enum status st = ST_OK;
    memset(j, 0, sizeof *j);
    j->number = number;
    j->slab = slab_of(f, number);
    j->lo = f->lo;
    j->hi = f->hi ? f->hi : tensor_units(feed_target(f, number, 0));
    j->n_slabs = j->hi > j->lo ? (j->hi - j->lo - 1) / j->slab + 1 : 1;
    for (int k = 0; k < s->n_sides && st == ST_OK; k++) {
        struct side *sd = &j->side[k];
        st = side_make(sd, f->plan[k], feed_target(f, number, k), feed_recipe(f, number, k),
                       &s->from[k], e);
        /* where blocks are made, slabs start anywhere in them */
        bool alone = sd->n_inputs == 1 && sd->n_parts == 1 &&
                     !packs(feed_target(f, number, k), feed_recipe(f, number, k));
        for (size_t i = 0; i < sd->n_inputs && st == ST_OK; i++)
            st = input_choose(&sd->input[i], alone, j->lo, j->slab, &s->budget, e);
    }
    if (st != ST_OK) {
        const struct tensor *t = feed_target(f, number, 0);
        err_in(e, t->name.p, t->name.n);
        close_job(s, j);
    } else {
        count_cost(s, j);
        note_peak(s, s->panel_cap);
    }
    return st;
}

/* ---- items ---- */

static enum status fill_slab(struct state *s, struct job *j, uint64_t index, int slot,
                             struct err *e)
{
    struct slab *b = &s->slab[slot];
    b->job = (uint32_t)j->number;
    b->t = s->f->order[j->number];
    b->index = index;
    b->lo = j->lo + index * j->slab;
    b->n = j->hi - b->lo < j->slab ? j->hi - b->lo : j->slab;
    b->first = index == 0;
    b->last = index + 1 == j->n_slabs;
    for (int k = 0; k < s->n_sides; k++) {
        enum status st =
            side_produce(&j->side[k], b->lo, b->n, b->data[k], &s->scratch[slot], &s->counts, e);
        if (st != ST_OK) {
            const struct tensor *t = feed_target(s->f, j->number, k);
            err_in(e, t->name.p, t->name.n);
            return st;
        }
    }
    return s->f->sink->body(s->f->sink->ctx, b, slot, e);
}

static struct job *job_of(struct state *s, uint64_t item)
{
    size_t lo = 0, hi = s->n_jobs;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->job[mid].first_item <= item)
            lo = mid;
        else
            hi = mid;
    }
    return &s->job[lo];
}

static enum status batch_body(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct state *s = ctx;
    struct job *j = job_of(s, item);
    return fill_slab(s, j, item - j->first_item, slot, e);
}

static enum status item_commit(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct state *s = ctx;
    struct slab *b = &s->slab[slot];
    const struct tensor *t = feed_target(s->f, b->job, 0);
    (void)item;
    enum status st = ST_OK;
    if (s->f->sink->commit)
        st = s->f->sink->commit(s->f->sink->ctx, b, slot, e);
    s->done_bytes += b->n * num_bytes(t->dtype);
    if (st == ST_OK) {
        char name[64];
        size_t n = t->name.n < sizeof name - 1 ? t->name.n : sizeof name - 1;
        memcpy(name, t->name.p ? t->name.p : "", n);
        name[n] = 0;
        log_progress(s->done_bytes, s->total_bytes, name);
    }
    return st;
}

static enum status item_finish(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct state *s = ctx;
    (void)item;
    return s->f->sink->finish ? s->f->sink->finish(s->f->sink->ctx, &s->slab[slot], slot, e)
                              : ST_OK;
}

static enum status item_prove(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct state *s = ctx;
    (void)item;
    return s->f->sink->prove ? s->f->sink->prove(s->f->sink->ctx, &s->slab[slot], slot, e) : ST_OK;
}

static enum status flush(struct state *s, struct err *e)
{
    enum status st = ST_OK;
    if (s->n_jobs > 0 && s->f->sink) {
        struct par_job job = {.n_items = s->batch_items,
                              .n_slots = s->n_slots,
                              .n_threads = s->n_threads,
                              .ctx = s,
                              .body = batch_body,
                              .commit = item_commit,
                              .finish = item_finish,
                              .prove = item_prove,
                              .finish_alone = s->f->sink->finish_alone};
        st = par_run(&job, e);
    }
    for (size_t i = 0; i < s->n_jobs; i++)
        close_job(s, &s->job[i]);
    s->n_jobs = 0;
    s->batch_items = s->batch_bytes = 0;
    s->budget.window_bytes = s->budget.panel_bytes;
    s->budget.windows = BATCH_WINDOWS;
    return st;
}

/* ---- panels ---- */

struct ahead {
    struct state *s;
    struct job *j;
    uint64_t slab_lo; /* the panel's first slab */
    /* fetch items: rows of pieces, or tiles */
    struct fetch {
        struct input *in;
        const struct piece_box *q; /* NULL: tile number lo of the input's buffer */
        uint64_t lo, hi;
    } * fetch;
    size_t n_fetch, cap_fetch;
};

static enum status add_fetch(struct ahead *a, struct fetch f, struct err *e)
{
    if (a->n_fetch == a->cap_fetch) {
        size_t cap = a->cap_fetch ? a->cap_fetch * 2 : 256;
        struct fetch *p = mem_resize(a->fetch, cap * sizeof *p);
        if (!p)
            return err_nomem(e, cap * sizeof *p);
        a->fetch = p;
        a->cap_fetch = cap;
    }
    a->fetch[a->n_fetch++] = f;
    return ST_OK;
}

static enum status fetch_body(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct ahead *a = ctx;
    struct state *s = a->s;
    const struct fetch *f = &a->fetch[item];
    if (f->q)
        return panel_fetch(f->in, f->q, f->lo, f->hi, s->panel, s->scratch[slot].stage, &s->counts,
                           e);
    return ordered_tile(f->in, f->lo, &s->scratch[slot], &s->counts, e);
}

static enum status ahead_body(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct ahead *a = ctx;
    return fill_slab(a->s, a->j, a->slab_lo + item, slot, e);
}

static enum status ahead_commit(void *ctx, uint64_t item, int slot, struct err *e)
{
    return item_commit(((struct ahead *)ctx)->s, item, slot, e);
}

static enum status ahead_finish(void *ctx, uint64_t item, int slot, struct err *e)
{
    return item_finish(((struct ahead *)ctx)->s, item, slot, e);
}

static enum status ahead_prove(void *ctx, uint64_t item, int slot, struct err *e)
{
    return item_prove(((struct ahead *)ctx)->s, item, slot, e);
}

/* Target index where slab i starts, or the end. */
static uint64_t slab_bound(const struct job *j, uint64_t i)
{
    uint64_t at = j->lo + i * j->slab;
    return at < j->hi ? at : j->hi;
}

/* Cuts every panel input for elements [lo, hi) of the job; the buffer's size. */
static uint64_t cut(struct state *s, struct job *j, uint64_t lo, uint64_t hi)
{
    uint64_t at = 0;
    for (int k = 0; k < s->n_sides; k++) {
        struct side *sd = &j->side[k];
        for (size_t i = 0; i < sd->n_parts; i++) {
            struct made_part *q = &sd->part[i];
            uint64_t p0 = part_floor(sd, q, lo), p1 = part_floor(sd, q, hi);
            part_elems(sd, q, &p0, &p1);
            for (size_t x = 0; x < q->n_in; x++) {
                struct input *in = &sd->input[q->first_in + x];
                if (in->kind == IN_PANEL)
                    panel_cut(in, p0, p1, &at);
            }
        }
    }
    return at;
}

static enum status list_fetches(struct state *s, struct ahead *a, struct err *e)
{
    for (int k = 0; k < s->n_sides; k++) {
        struct side *sd = &a->j->side[k];
        for (size_t i = 0; i < sd->n_inputs; i++) {
            struct input *in = &sd->input[i];
            in->panel = s->panel;
            for (size_t x = 0; in->kind == IN_PANEL && x < in->n_pieces; x++) {
                const struct piece_box *q = &in->piece[x];
                uint64_t step = FETCH_BYTES / q->pitch_bytes + 1;
                if (s->budget.dry)
                    s->counts.bytes_fetched += panel_cost(q);
                for (uint64_t r = 0; r < q->n_rows && !s->budget.dry; r += step)
                    TRY(add_fetch(
                        a, (struct fetch){in, q, r, q->n_rows - r < step ? q->n_rows : r + step},
                        e));
            }
        }
    }
    return ST_OK;
}

/* Ordered inputs: the bytes of elements [lo, hi). */
static enum status advance(struct state *s, struct ahead *a, uint64_t lo, uint64_t hi, bool last,
                           struct err *e)
{
    for (int k = 0; k < s->n_sides; k++) {
        struct side *sd = &a->j->side[k];
        if (sd->n_inputs != 1 || sd->input[0].kind != IN_ORDERED || s->budget.dry)
            continue;
        uint64_t t0, t1;
        TRY(ordered_advance(&sd->input[0], lo, hi, last, &t0, &t1, &s->counts, e));
        for (uint64_t t = t0; t < t1; t++)
            TRY(add_fetch(a, (struct fetch){&sd->input[0], NULL, t, t + 1}, e));
    }
    return ST_OK;
}

/* Slabs that a panel may hold. */
static uint64_t panel_slabs(const struct state *s, const struct job *j)
{
    uint64_t best = j->n_slabs, bytes = 0, ahead = 0;
    for (int k = 0; k < s->n_sides; k++) {
        const struct side *sd = &j->side[k];
        uint64_t most = 0;
        for (size_t i = 0; i < sd->n_parts; i++) {
            uint64_t sum = 0;
            for (size_t x = 0; x < sd->part[i].n_in; x++) {
                const struct input *in = &sd->input[sd->part[i].first_in + x];
                if (in->kind == IN_PANEL)
                    sum += in->size;
                else if (in->kind == IN_ORDERED)
                    ahead = in->size > ahead ? in->size : ahead;
            }
            most = sum > most ? sum : most;
        }
        bytes += most;
    }
    if (bytes) {
        uint64_t n = s->budget.panel_bytes / 4 * 3 / (bytes * j->slab);
        best = n < best ? n : best;
    }
    if (ahead) {
        uint64_t room = s->budget.panel_bytes / 4;
        if (room > AHEAD_BYTES)
            room = AHEAD_BYTES;
        uint64_t n = room / (ahead * j->slab);
        best = n < best ? n : best;
    }
    return best ? best : 1;
}

static enum status panel_room(struct state *s, uint64_t bytes, struct err *e)
{
    note_peak(s, bytes);
    if (bytes <= s->panel_cap || s->budget.dry)
        return ST_OK;
    mem_pages_free(s->panel, s->panel_cap);
    s->panel_cap = 0;
    s->panel = mem_pages(bytes);
    if (!s->panel)
        return err_nomem(e, bytes);
    s->panel_cap = bytes;
    return ST_OK;
}

static enum status one_panel(struct state *s, struct ahead *a, uint64_t n, bool last, struct err *e)
{
    struct job *j = a->j;
    uint64_t lo = slab_bound(j, a->slab_lo), hi = slab_bound(j, a->slab_lo + n);
    a->n_fetch = 0;
    TRY(list_fetches(s, a, e));
    TRY(advance(s, a, lo, hi, last, e));
    if (!s->f->sink)
        return ST_OK;
    struct par_job fetch = {
        .n_items = a->n_fetch, .n_slots = s->n_threads, .ctx = a, .body = fetch_body};
    TRY(par_run(&fetch, e));
    struct par_job eat = {.n_items = n,
                          .n_slots = s->n_slots,
                          .n_threads = s->n_threads,
                          .ctx = a,
                          .body = ahead_body,
                          .commit = ahead_commit,
                          .finish = ahead_finish,
                          .prove = ahead_prove,
                          .finish_alone = s->f->sink->finish_alone};
    return par_run(&eat, e);
}

static enum status run_alone(struct state *s, struct job *j, struct err *e)
{
    struct ahead a = {.s = s, .j = j};
    uint64_t want = panel_slabs(s, j);
    enum status st = ST_OK;
    while (a.slab_lo < j->n_slabs && st == ST_OK) {
        uint64_t left = j->n_slabs - a.slab_lo, n = want < left ? want : left, bytes;
        for (;; n = n / 2) {
            bytes = cut(s, j, slab_bound(j, a.slab_lo), slab_bound(j, a.slab_lo + n));
            if (bytes <= s->budget.panel_bytes || n == 1)
                break;
        }
        want = n < want && n < left ? n : want;
        if (bytes > s->budget.panel_bytes)
            st = err_set(e, ST_LIMIT, "memory", "a slab in this order needs %llu bytes of --memory",
                         (unsigned long long)bytes);
        if (st == ST_OK)
            st = panel_room(s, bytes, e);
        if (st == ST_OK)
            st = one_panel(s, &a, n, n == left, e);
        a.slab_lo += n;
    }
    mem_free(a.fetch);
    if (st != ST_OK) {
        const struct tensor *t = feed_target(s->f, j->number, 0);
        err_in(e, t->name.p, t->name.n);
    }
    return st;
}

/* ---- all jobs ---- */

static enum status add_to_batch(struct state *s, const struct job *j, struct err *e)
{
    if (s->n_jobs == s->cap_jobs) {
        size_t cap = s->cap_jobs ? s->cap_jobs * 2 : 64;
        struct job *p = mem_resize(s->job, cap * sizeof *p);
        if (!p)
            return err_nomem(e, cap * sizeof *p);
        s->job = p;
        s->cap_jobs = cap;
    }
    s->job[s->n_jobs] = *j;
    s->job[s->n_jobs++].first_item = s->batch_items;
    s->batch_items += j->n_slabs;
    s->batch_bytes += (j->hi - j->lo) * num_bytes(feed_target(s->f, j->number, 0)->dtype);
    return ST_OK;
}

/* Bytes of windows the job would like. */
static uint64_t strided_bytes(const struct feed *f, size_t job)
{
    uint64_t sum = 0;
    for (int k = 0; k < (f->plan[1] ? 2 : 1); k++) {
        const struct recipe *r = feed_recipe(f, job, k);
        for (size_t i = 0; i < r->n_parts; i++) {
            const struct part *q = &r->part[i];
            int64_t lo, hi;
            if (q->src < 0 || kept_is_c(q->view))
                continue;
            if (part_unpacks(q))
                continue;
            kept_bounds(q->view, &lo, &hi);
            sum += (uint64_t)(hi - lo) * num_bytes(f->plan[k]->src->tensor[q->src].dtype);
        }
    }
    return sum;
}

static enum status run_jobs(struct state *s, struct err *e)
{
    for (size_t i = 0; i < s->f->n; i++) {
        struct job j;
        enum status st = stop_check(e);
        TRY(st);
        /* a tensor that could be mapped alone shall not miss it for the batch's windows */
        if (s->n_jobs >= BATCH_JOBS || s->batch_bytes >= BATCH_BYTES || s->budget.windows < 2 ||
            strided_bytes(s->f, i) > s->budget.window_bytes)
            TRY(flush(s, e));
        TRY(open_job(s, i, &j, e));
        bool alone = false;
        for (int k = 0; k < s->n_sides; k++)
            alone |= needs_ahead(&j.side[k]);
        if (alone)
            st = flush(s, e); /* commits come in order */
        if (st == ST_OK)
            st = alone ? run_alone(s, &j, e) : add_to_batch(s, &j, e);
        if (alone || st != ST_OK)
            close_job(s, &j);
        TRY(st);
    }
    return flush(s, e);
}

enum status feed_run(const struct feed *f, struct run_cost *cost, struct err *e)
{
    struct state s = {.f = f, .n_sides = f->plan[1] ? 2 : 1};
    struct needs n = {0};
    enum status st = measure(&s, &n, e);
    if (st == ST_OK)
        st = share_memory(&s, &n, e);
    if (st == ST_OK && f->sink)
        st = make_slots(&s, &n, e);
    if (st == ST_OK && f->sink && f->sink->start)
        st = f->sink->start(f->sink->ctx, s.n_slots, e);
    if (st == ST_OK)
        st = run_jobs(&s, e);
    for (size_t i = 0; i < s.n_jobs; i++)
        close_job(&s, &s.job[i]);
    for (int k = 0; k < s.n_sides; k++) {
        /* what was read is what was there when we looked first */
        for (size_t i = 0; st == ST_OK && i < f->plan[k]->src->n_files; i++)
            st = file_check(f->plan[k]->src->file[i], e);
        sources_free(&s.from[k], f->plan[k]->src);
    }
    for (int i = 0; s.scratch && i < s.n_slots; i++)
        mem_pages_free(s.scratch[i].base, s.scratch[i].base_bytes);
    mem_pages_free(s.panel, s.panel_cap);
    mem_free(s.scratch);
    mem_free(s.slab);
    mem_free(s.job);
    if (cost && st == ST_OK)
        *cost = (struct run_cost){
            .read_bytes = s.counts.bytes_fetched,
            .write_bytes = s.total_bytes,
            .memory_bytes = (uint64_t)s.n_slots * s.slot_bytes + s.peak_bytes,
            .spool_bytes = s.counts.spool_bytes,
            .read_amplification =
                s.read_needed ? (double)s.counts.bytes_fetched / (double)s.read_needed : 1,
            .threads = s.n_threads,
            .n_decodes = s.counts.n_decodes};
    return st;
}
