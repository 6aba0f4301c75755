/* The run engine against an eager reference: random recipes over every kind of storage, written,
 * read back, hashed, compared and read, under small and large memory, with one and more threads.
 */
#include "base/cpu.h"
#include "base/mem.h"
#include "base/par.h"
#include "codec/sha256.h"
#include "convert/feed.h"
#include "convert/number.h"
#include "convert/op.h"
#include "convert/run.h"
#include "tests/lib/eager.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static uint64_t rng;
static uint64_t rnd(uint64_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return below ? rng % below : 0;
}

/* ---- a toy coding: bytes turned over, tiles and streams alike; decodes are counted ---- */

static _Atomic int tile_decodes[1 << 16];
static _Atomic int stream_opens;

struct toy_state {
    uint64_t at;
};
static enum status toy_tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                            struct err *e)
{
    uint64_t at = t * s->tile_bytes, n = s->raw_bytes - at;
    uint8_t *d = dst;
    n = n < s->tile_bytes ? n : s->tile_bytes;
    memset(scratch, 1, s->scratch_bytes);
    tile_decodes[*(const int *)s->priv + (int)t]++;
    TRY(file_pread(s->file, d, n, s->offset + at, e));
    for (uint64_t i = 0; i < n; i++)
        d[i] ^= 0x5a;
    return ST_OK;
}
static enum status toy_open(const struct storage *s, void **state, struct err *e)
{
    (void)s;
    (void)e;
    *state = calloc(1, sizeof(struct toy_state));
    stream_opens++;
    return ST_OK;
}
static enum status toy_read(const struct storage *s, void *state, void *dst, size_t *n,
                            struct err *e)
{
    struct toy_state *x = state;
    uint8_t *d = dst;
    uint64_t left = s->raw_bytes - x->at;
    *n = *n < left ? *n : left;
    if (*n > 70000)
        *n = 70000;
    TRY(file_pread(s->file, d, *n, s->offset + x->at, e));
    for (size_t i = 0; i < *n; i++)
        d[i] ^= 0x5a;
    x->at += *n;
    return ST_OK;
}
static void toy_close(const struct storage *s, void *state)
{
    (void)s;
    free(state);
}
static const struct decoder toy = {"toy", toy_tile, toy_open, toy_read, toy_close};

/* ---- a random source ---- */

static const enum dtype types[] = {DT_F64,       DT_F32, DT_F16, DT_BF16,     DT_I64, DT_I32,
                                   DT_I16,       DT_I8,  DT_U8,  DT_BOOL,     DT_C64, DT_C128,
                                   DT_F8_E4M3FN, DT_I4,  DT_U2,  DT_F6_E2M3FN};
#define N_TYPES (sizeof types / sizeof *types)

static struct file *noise_file(uint64_t n)
{
    char path[96];
    struct file *f;
    struct err e;
    snprintf(path, sizeof path, "%s/noise", dir);
    if (path_kind(path) == PATH_NONE) {
        FILE *o = fopen(path, "w");
        for (uint64_t i = 0; i < n; i += 8) {
            uint64_t v = rnd(0);
            rnd(1);
            v = rng;
            fwrite(&v, 8, 1, o);
        }
        fclose(o);
    }
    assert_int_equal(file_open(path, &f, &e), ST_OK);
    return f;
}

#define NOISE ((uint64_t)24 << 20)

static void add_source(struct model *m, enum dtype dt, const uint64_t *dim, size_t n_dims,
                       enum storage_kind kind, bool odd)
{
    struct tensor *t;
    struct storage *s;
    struct err e;
    uint32_t si;
    uint64_t n = 1, bytes;
    bool unpacked = dtype_info(dt)->bits < 8 && rnd(2);
    for (size_t d = 0; d < n_dims; d++)
        n *= dim[d];
    uint64_t skip = odd ? rnd(40) * 8 : 0;
    assert_int_equal(model_storage_add(m, &s, &si, &e), ST_OK);
    bytes = unpacked ? n + skip : ((n + skip) * dtype_info(dt)->bits + 7) / 8;
    s->kind = kind;
    s->file = m->file[0];
    s->offset = rnd((NOISE - bytes) / 8) * 8 + (odd ? 3 : 0);
    if (s->offset + bytes > NOISE)
        s->offset = 0;
    s->stored_bytes = s->raw_bytes = bytes;
    s->dec = &toy;
    s->big_endian = rnd(3) == 0;
    s->tile_bytes = odd ? 10007 * (1 + rnd(20)) : (uint64_t)1 << (16 + rnd(5));
    if (s->tile_bytes > bytes && bytes)
        s->tile_bytes = bytes;
    s->n_tiles = bytes ? (bytes - 1) / s->tile_bytes + 1 : 0;
    s->scratch_bytes = 100;
    int *base = arena_alloc(&m->arena, 1, sizeof *base);
    static int next_base;
    *base = next_base;
    next_base = (next_base + (int)s->n_tiles) % 30000;
    s->priv = base;
    if (kind == STORAGE_MEMORY) {
        uint8_t *p = arena_alloc(&m->arena, bytes + 1, 1);
        for (uint64_t i = 0; i < bytes; i++)
            p[i] = (uint8_t)rnd(256);
        s->mem = p;
    }
    assert_int_equal(model_tensor_add(m, &t, &e), ST_OK);
    t->name = arena_fmt(&m->arena, "t%zu", m->n_tensors);
    t->dtype = dt;
    t->storage = si;
    t->unpacked = unpacked;
    t->requires_grad = true;
    t->order = m->n_tensors;
    struct view v;
    assert_int_equal(view_c(&v, dim, n_dims, &e), ST_OK);
    v.offset = (int64_t)skip;
    assert_int_equal(tensor_set_view(m, t, &v, &e), ST_OK);
}

static void make_source(struct model *m, size_t n, uint64_t max_elems)
{
    model_init(m);
    struct err e;
    assert_int_equal(model_own_file(m, noise_file(NOISE), &e), ST_OK);
    for (size_t i = 0; i < n; i++) {
        uint64_t dim[4], left = 1 + rnd(rnd(3) ? max_elems : 2000);
        size_t n_dims = (size_t)rnd(5);
        for (size_t d = 0; d < n_dims; d++) {
            uint64_t top = d + 1 == n_dims ? left : 1 + rnd(left < 300 ? left : 300);
            dim[d] = rnd(40) == 0 ? 0 : top ? top : 1;
            left = dim[d] ? left / dim[d] : 1;
        }
        if (n_dims)
            dim[n_dims - 1] = (dim[n_dims - 1] + 7) / 8 * 8;
        enum dtype dt = types[rnd(N_TYPES)];
        uint64_t n_elems = 1;
        for (size_t d = 0; d < n_dims; d++)
            n_elems *= dim[d];
        if ((n_elems + 400) * num_bytes(dt) > NOISE - 64) {
            i--;
            continue;
        }
        if (n_dims == 0 && dtype_info(dt)->bits < 8)
            dt = DT_F32;
        add_source(m, dt, dim, n_dims, (enum storage_kind)rnd(4), rnd(2));
    }
    assert_int_equal(model_finish(m, &e), ST_OK);
}

/* ---- random plans over it ---- */

static enum dtype castable_to(enum dtype from)
{
    static const enum dtype to[] = {DT_F32, DT_BF16, DT_F16, DT_F64, DT_I32, DT_F8_E5M2};
    return num_half(from) != from ? (rnd(2) ? DT_C64 : DT_C128) : to[rnd(6)];
}

/* The identity with views edited and casts added; some tensors cut in parts along an axis. */
static void shuffle_plan(struct plan *p, bool with_ops)
{
    struct err e;
    assert_int_equal(plan_identity(p, &e), ST_OK);
    for (size_t i = 0; i < p->dst.n_tensors; i++) {
        struct tensor *d = &p->dst.tensor[i];
        if (p->recipe[i].n_parts == 0)
            continue;
        struct part *q = p->recipe[i].part;
        uint8_t perm[4] = {0, 1, 2, 3};
        size_t n = d->n_dims;
        for (size_t k = n; k > 1; k--) {
            size_t x = (size_t)rnd(k);
            uint8_t t = perm[k - 1];
            perm[k - 1] = perm[x];
            perm[x] = t;
        }
        struct view v;
        view_load(&v, q->view);
        if (rnd(4))
            assert_int_equal(view_permute(&v, perm, n, &e), ST_OK);
        if (n && rnd(3) == 0)
            assert_int_equal(view_flip(&v, (size_t)rnd(n), &e), ST_OK);
        if (n && rnd(4) == 0 && view_dim(&v, 0) > 4) {
            /* a slice: the rest is left behind, which the ledger is told */
            uint64_t from = view_elems(&v);
            assert_int_equal(view_slice(&v, 0, 1, view_dim(&v, 0) - 1, &e), ST_OK);
            p->line = realloc(p->line, (p->n_lines + 1) * sizeof *p->line);
            p->line[p->n_lines++] = (struct ledger_line){.kind = LEDGER_DROP,
                                                         .harmless = true,
                                                         .name = d->name,
                                                         .n_elems = from - view_elems(&v),
                                                         .why = STR("cut")};
        }
        assert_int_equal(part_set_view(q, &p->dst.arena, &v, &e), ST_OK);
        assert_int_equal(tensor_set_shape(&p->dst, d, q->view->dim, n, &e), ST_OK);
        if (with_ops && rnd(2)) {
            q->n_ops = 1 + (size_t)rnd(2);
            q->op = arena_alloc(&p->dst.arena, 3, sizeof *q->op);
            enum dtype to = castable_to(d->dtype);
            q->op[0] = (struct op){.kind = OP_CAST, .to = to, .allow_overflow = true};
            q->op[1] = (struct op){.kind = OP_NEG, .allow_overflow = true};
            d->dtype = to;
        }
        if (n && rnd(2) && d->dim[n - 1] > 3) {
            /* two or three parts along an axis, in any order */
            size_t axis = (size_t)rnd(n), cuts = 2 + (size_t)rnd(2);
            uint64_t extent = d->dim[axis];
            if (extent < cuts)
                continue;
            struct part *parts = arena_alloc(&p->dst.arena, cuts, sizeof *parts);
            for (size_t k = 0; k < cuts; k++) {
                uint64_t lo = extent * k / cuts, hi = extent * (k + 1) / cuts;
                struct part *w = &parts[cuts - 1 - k];
                *w = *q;
                struct view half = v;
                assert_int_equal(view_slice(&half, axis, lo, hi, &e), ST_OK);
                assert_int_equal(part_set_view(w, &p->dst.arena, &half, &e), ST_OK);
                assert_int_equal(part_move(w, &p->dst.arena, axis, lo, &e), ST_OK);
            }
            p->recipe[i] = (struct recipe){parts, cuts};
        }
    }
    int st = plan_prove(p, 0, &e);
    if (st != ST_OK)
        printf("prove: %s: %s (%s)\n", e.code, e.reason, e.tensor);
    assert_int_equal(st, ST_OK);
}

static uint64_t src_code(const struct model *m, const struct tensor *t, const uint8_t *raw,
                         int64_t at, uint8_t out[16])
{
    const struct dtype_info *d = dtype_info(t->dtype);
    const struct storage *s = &m->storage[t->storage];
    size_t size = num_bytes(t->dtype);
    memset(out, 0, 16);
    if (d->bits < 8 && !t->unpacked) {
        for (unsigned b = 0; b < d->bits; b++) {
            uint64_t bit = (uint64_t)at * d->bits + b;
            out[0] = (uint8_t)(out[0] | (raw[bit / 8] >> (bit % 8) & 1) << b);
        }
    } else {
        memcpy(out, raw + (uint64_t)at * size, size);
    }
    if (d->bits < 8) {
        out[0] = (uint8_t)(out[0] & ((1u << d->bits) - 1));
    }
    if (s->big_endian && d->bits >= 8) {
        size_t w = d->swap_bytes;
        uint8_t c[16];
        memcpy(c, out, 16);
        for (size_t i = 0; i < size; i++)
            out[i] = c[i / w * w + (w - 1 - i % w)];
    }
    return size;
}

/* Every element of target t by the recipe, one at a time. */
static uint8_t *expect(const struct plan *p, size_t t, size_t *n_bytes)
{
    const struct tensor *d = &p->dst.tensor[t];
    size_t size = num_bytes(d->dtype);
    uint64_t n = tensor_elems(d);
    uint8_t *out = calloc(n + 1, size);
    *n_bytes = n * size;
    for (size_t i = 0; i < p->recipe[t].n_parts; i++) {
        const struct part *q = &p->recipe[t].part[i];
        const struct tensor *s = &p->src->tensor[q->src];
        struct err e;
        uint8_t *raw = eager_storage(&p->src->storage[s->storage], &e);
        uint64_t count = kept_elems(q->view);
        assert_non_null(raw);
        for (uint64_t k = 0; k < count; k++) {
            int64_t at = q->view->offset;
            uint64_t r = k, to = 0, step = 1;
            for (size_t a = q->view->n_axes; a-- > 0;) {
                at += (int64_t)(r % q->view->axis[a].extent) * q->view->axis[a].stride;
                r /= q->view->axis[a].extent;
            }
            r = k;
            for (size_t a = d->n_dims; a-- > 0;) {
                uint64_t x = q->hi[a] - q->lo[a];
                to += (r % x + q->lo[a]) * step;
                r /= x;
                step *= d->dim[a];
            }
            uint8_t v[16], w[16];
            src_code(p->src, s, raw, at, v);
            if (q->n_ops > 0) {
                num_cast(s->dtype, v, q->op[0].to, w, 1);
                memcpy(v, w, 16);
            }
            if (q->n_ops > 1) {
                enum dtype half = num_half(d->dtype);
                size_t hs = num_bytes(half);
                for (size_t h = 0; h < size / hs; h++) {
                    if (dtype_info(half)->kind == DK_FLOAT) {
                        v[(h + 1) * hs - 1] ^= 0x80;
                    } else {
                        int32_t x;
                        memcpy(&x, v, 4);
                        x = x == INT32_MIN ? INT32_MAX : -x;
                        memcpy(v, &x, 4);
                    }
                }
            }
            memcpy(out + to * size, v, size);
        }
        free(raw);
    }
    return out;
}

static struct run_opt small_memory(int threads)
{
    return (struct run_opt){threads, mem_in_use() + ((uint64_t)(9 + rnd(24)) << 20)};
}

static void say(const struct err *e)
{
    char line[2048];
    err_line(e, line, sizeof line);
    printf("%s\n", line);
}

static void check_plan(struct plan *p, const struct run_opt *o)
{
    struct err e = {0};
    size_t n = p->dst.n_tensors;
    uint8_t(*digest)[32] = calloc(n + 1, 32);
    for (int i = 0; i < 1 << 16; i++)
        tile_decodes[i] = 0;
    stream_opens = 0;
    struct run_cost cost;
    enum status st = run_cost(p, o, &cost, &e);
    if (st == ST_OK)
        st = run_hash(p, o, digest, &e);
    if (st == ST_LIMIT) { /* packed elements in another order do not fit: refused, not wrong */
        assert_string_equal(e.code, "memory");
        free(digest);
        return;
    }
    if (st != ST_OK)
        say(&e);
    assert_int_equal(st, ST_OK);
    uint64_t decodes = (uint64_t)stream_opens;
    for (int i = 0; i < 1 << 16; i++)
        decodes += (uint64_t)tile_decodes[i];
    assert_int_equal(decodes, cost.n_decodes);
    for (size_t t = 0; t < n; t++) {
        size_t bytes;
        uint8_t want[32], *x = expect(p, t, &bytes);
        sha256_tree(x, bytes, want);
        if (memcmp(want, digest[t], 32) != 0) {
            const struct tensor *d = &p->dst.tensor[t];
            printf("tensor %zu: %s, %u dims, %zu bytes, parts %zu, storage kind %d\n", t,
                   dtype_info(d->dtype)->name, d->n_dims, bytes, p->recipe[t].n_parts,
                   p->src->storage[p->src->tensor[t].storage].kind);
        }
        assert_memory_equal(want, digest[t], 32);
        uint64_t elems = tensor_elems(&p->dst.tensor[t]);
        if (elems && t % 4 == 0) {
            uint64_t lo = rnd(elems), hi = lo + 1 + rnd(elems - lo);
            size_t size = num_bytes(p->dst.tensor[t].dtype);
            uint8_t *got = malloc((hi - lo) * size);
            st = run_read(p, (uint32_t)t, lo, hi, p->dst.tensor[t].dtype, got, &e);
            assert_int_equal(st, ST_OK);
            assert_memory_equal(got, x + lo * size, (hi - lo) * size);
            free(got);
        }
        free(x);
    }
    free(digest);
}

static void free_plan(struct plan *p)
{
    free(p->line);
    plan_free(p);
}

static void random_plans(void **state)
{
    (void)state;
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("seed %llu (TEST_SEED)\n", (unsigned long long)seed);
    rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (int round = 0; round < 14; round++) {
        struct model m;
        struct plan p;
        make_source(&m, 6 + (size_t)rnd(10), round % 3 ? 60000 : 900000);
        plan_init(&p, &m);
        shuffle_plan(&p, round % 2);
        par_set_threads(1 + (int)rnd(4));
        cpu_limit(round % 4 == 3 ? 0 : ~0u);
        struct run_opt o = small_memory(0);
        check_plan(&p, round % 3 == 1 ? &(struct run_opt){0} : &o);
        free_plan(&p);
        model_free(&m);
    }
    cpu_limit(~0u);
}

/* In order, each tile and stream exactly once. */
static void each_decoded_once(void **state)
{
    (void)state;
    rng = 99;
    for (int k = 0; k < 4; k++) {
        struct model m;
        struct plan p;
        struct err e;
        struct run_cost c;
        uint64_t dim[2] = {1000, 1504};
        model_init(&m);
        assert_int_equal(model_own_file(&m, noise_file(NOISE), &e), ST_OK);
        add_source(&m, DT_F32, dim, 2, k % 2 ? STORAGE_TILED : STORAGE_STREAM, k > 1);
        assert_int_equal(model_finish(&m, &e), ST_OK);
        plan_init(&p, &m);
        assert_int_equal(plan_identity(&p, &e), ST_OK);
        assert_int_equal(plan_prove(&p, 0, &e), ST_OK);
        for (int i = 0; i < 1 << 16; i++)
            tile_decodes[i] = 0;
        stream_opens = 0;
        uint8_t digest[1][32];
        struct run_opt o = {0, mem_in_use() + (12 << 20)};
        par_set_threads(2);
        assert_int_equal(run_hash(&p, &o, digest, &e), ST_OK);
        assert_int_equal(run_cost(&p, &o, &c, &e), ST_OK);
        uint64_t n = 0;
        for (int i = 0; i < 1 << 16; i++) {
            assert_true(tile_decodes[i] <= 1);
            n += (uint64_t)tile_decodes[i];
        }
        assert_int_equal(k % 2 ? n : (uint64_t)stream_opens, c.n_decodes);
        assert_int_equal(c.spool_bytes, 0);
        plan_free(&p);
        model_free(&m);
    }
}

/* ---- boxes of an array, some of them not there ---- */

struct grid_toy {
    struct tile_grid grid;
    uint64_t dim[3], chunk[3], across[3];
    bool cut; /* the border's chunks are held cut */
    uint32_t at[64];
};
static enum status grid_where(const struct storage *s, uint64_t t, uint64_t *lo, uint64_t *n,
                              uint64_t *held, struct err *e)
{
    const struct grid_toy *g = s->priv;
    uint64_t i = g->at[t];
    (void)e;
    for (size_t d = g->grid.n_dims; d-- > 0;) {
        lo[d] = (i == 1000 ? g->across[d] - 1 : i % g->across[d]) * g->chunk[d];
        i = i == 1000 ? i : i / g->across[d];
        n[d] = g->dim[d] - lo[d] < g->chunk[d] ? g->dim[d] - lo[d] : g->chunk[d];
        held[d] = g->cut ? n[d] : g->chunk[d];
    }
    if (g->at[t] == 1000)
        lo[0]++;
    return ST_OK;
}
static enum status grid_tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                             struct err *e)
{
    uint64_t lo[3], n[3], held[3], bytes = s->grid->elem_bytes;
    TRY(grid_where(s, t, lo, n, held, e));
    for (size_t d = 0; d < s->grid->n_dims; d++)
        bytes *= held[d];
    memset(scratch, 1, s->scratch_bytes);
    tile_decodes[t]++;
    return file_pread(s->file, dst, bytes, t * s->tile_bytes, e);
}
static const struct decoder grid_decoder = {.name = "grid", .tile = grid_tile};

static void add_grid(struct model *m, struct grid_toy *g)
{
    static const enum dtype type[] = {DT_U8, DT_F16, DT_F32, DT_C128};
    enum dtype dt = type[rnd(4)];
    struct tensor *t;
    struct storage *s;
    struct err e;
    uint32_t si;
    memset(g, 0, sizeof *g);
    g->grid.n_dims = (uint8_t)(1 + rnd(3));
    g->grid.elem_bytes = dtype_bytes(dt);
    g->grid.dim = g->dim;
    g->grid.where = grid_where;
    g->cut = rnd(2);
    uint64_t boxes = 1, raw = g->grid.elem_bytes, tile = g->grid.elem_bytes;
    for (size_t d = 0; d < g->grid.n_dims; d++) {
        g->chunk[d] = 1 + rnd(40);
        g->across[d] = 1 + rnd(3);
        g->dim[d] = g->chunk[d] * g->across[d] - rnd(g->chunk[d]);
        boxes *= g->across[d];
        raw *= g->dim[d];
        tile *= g->chunk[d];
    }
    assert_int_equal(model_storage_add(m, &s, &si, &e), ST_OK);
    *s = (struct storage){.kind = STORAGE_TILED,
                          .file = m->file[0],
                          .raw_bytes = raw,
                          .tile_bytes = tile,
                          .scratch_bytes = rnd(2) * 777,
                          .grid = &g->grid,
                          .dec = &grid_decoder,
                          .big_endian = rnd(2),
                          .priv = g};
    g->grid.covers = rnd(2);
    for (uint32_t i = 0; i < boxes; i++)
        if (g->grid.covers || rnd(4))
            g->at[s->n_tiles++] = i;
    for (size_t i = 0; i < g->grid.elem_bytes && rnd(8); i++)
        g->grid.fill[i] = (uint8_t)rnd(256);
    assert_int_equal(model_tensor_add(m, &t, &e), ST_OK);
    t->name = str_from(rnd(2) ? "w" : "v");
    t->dtype = dt;
    t->storage = si;
    assert_int_equal(tensor_set_shape(m, t, g->dim, g->grid.n_dims, &e), ST_OK);
    if (g->grid.n_dims > 1 && rnd(2)) { /* turned */
        static const uint8_t perm[3][3] = {{0}, {1, 0}, {2, 0, 1}};
        struct view v;
        view_load(&v, t->view);
        assert_int_equal(view_permute(&v, perm[g->grid.n_dims - 1], g->grid.n_dims, &e), ST_OK);
        assert_int_equal(tensor_set_view(m, t, &v, &e), ST_OK);
    }
}

static void boxes_of_an_array(void **state)
{
    (void)state;
    rng = 4711;
    for (int round = 0; round < 300; round++) {
        struct model m;
        struct plan p;
        struct err e;
        struct grid_toy g;
        size_t n;
        uint8_t digest[1][32], want[32];
        struct run_opt o = {0, round % 2 ? 0 : mem_in_use() + (16 << 20)};
        model_init(&m);
        assert_int_equal(model_own_file(&m, noise_file(NOISE), &e), ST_OK);
        add_grid(&m, &g);
        assert_int_equal(model_finish(&m, &e), ST_OK);
        uint8_t *x = eager_read(&m, 0, &n, &e);
        assert_non_null(x);
        sha256_tree(x, n, want);
        free(x);
        plan_init(&p, &m);
        assert_int_equal(plan_identity(&p, &e), ST_OK);
        assert_int_equal(plan_prove(&p, 0, &e), ST_OK);
        for (int i = 0; i < 64; i++)
            tile_decodes[i] = 0;
        par_set_threads(1 + round % 3);
        assert_int_equal(run_hash(&p, &o, digest, &e), ST_OK);
        assert_memory_equal(digest[0], want, 32);
        for (uint64_t i = 0; i < m.storage[0].n_tiles; i++)
            assert_int_equal(tile_decodes[i], 1);
        plan_free(&p);
        model_free(&m);
    }
}

/* A grid that lies is refused before anything is written outside the array. */
static void boxes_that_lie(void **state)
{
    (void)state;
    rng = 12;
    for (int k = 0; k < 2; k++) {
        struct model m;
        struct plan p;
        struct err e;
        struct grid_toy g;
        uint8_t digest[1][32];
        struct run_opt o = {0, 0};
        model_init(&m);
        assert_int_equal(model_own_file(&m, noise_file(NOISE), &e), ST_OK);
        add_grid(&m, &g);
        assert_int_equal(model_finish(&m, &e), ST_OK);
        plan_init(&p, &m);
        assert_int_equal(plan_identity(&p, &e), ST_OK);
        assert_int_equal(plan_prove(&p, 0, &e), ST_OK);
        if (k == 0)
            m.storage[0].tile_bytes = g.grid.elem_bytes - 1;
        else /* the border's box, one element too far */
            g.at[m.storage[0].n_tiles - 1] = 1000;
        assert_int_equal(run_hash(&p, &o, digest, &e), ST_INPUT);
        assert_string_equal(e.code, "box-bounds");
        plan_free(&p);
        model_free(&m);
    }
}

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/nnferry-test-XXXXXX");
    rng = 12345;
    return mkdtemp(dir) ? 0 : -1;
}
static int tear_down(void **state)
{
    char path[96];
    (void)state;
    snprintf(path, sizeof path, "%s/noise", dir);
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_plans), cmocka_unit_test(each_decoded_once),
        cmocka_unit_test(boxes_of_an_array), cmocka_unit_test(boxes_that_lie)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
