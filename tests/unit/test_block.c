/* Block types: what the gguf package makes of the same bytes, the making of blocks, and blocks on
 * their way through the run engine, carried, cut, turned, unpacked and packed.
 */
#include "base/mem.h"
#include "base/par.h"
#include "codec/json.h"
#include "convert/block.h"
#include "convert/op.h"
#include "convert/run.h"
#include "tests/lib/eager.h"
#include "tests/unit/truncate.h"
#include <math.h>

static struct err e;

static void open_golden(const char *path, struct model *m)
{
    struct read_opt opt = {0};
    const struct format *found;
    model_init(m);
    assert_int_equal(format_open(path, NULL, &opt, m, &found, &e), ST_OK);
}

/* Every type that the package knows how to read, bit for bit: random blocks, NaN scales among
 * them. */
static void as_the_package(void **state)
{
    (void)state;
    struct model m;
    struct file *f;
    struct cursor c;
    struct json j;
    size_t n_types = 0;
    open_golden("tests/golden/gguf/types.gguf", &m);
    assert_int_equal(file_open("tests/golden/gguf/types.float32.json", &f, &e), ST_OK);
    cur_file(&c, f, 0, file_size(f));
    json_init(&j, &c, 0);
    assert_int_equal(json_expect(&j, JSON_OBJECT, "types", &e), ST_OK);
    for (;; n_types++) {
        char hex[65];
        size_t bytes;
        assert_int_equal(json_next(&j, &e), ST_OK);
        if (j.kind == JSON_OBJECT_END)
            break;
        int64_t t = model_find(&m, j.text);
        assert_true(t >= 0);
        assert_int_equal(json_expect(&j, JSON_STRING, "digest", &e), ST_OK);
        uint8_t *raw = eager_read(&m, (size_t)t, &bytes, &e);
        assert_non_null(raw);
        enum dtype d = m.tensor[t].dtype;
        uint64_t elems = tensor_elems(&m.tensor[t]);
        uint8_t *y = malloc(elems * 4);
        assert_non_null(y);
        if (d == DT_BF16)
            assert_int_equal(op_cast(d, raw, DT_F32, y, elems), elems);
        else
            block_unpack(d, raw, y, elems / dtype_info(d)->block_elems);
        sha_hex(y, elems * 4, hex);
        if (!str_is(j.text, hex))
            fail_msg("%s: other numbers", dtype_info(d)->name);
        free(y);
        free(raw);
    }
    assert_int_equal(n_types, 24);
    json_free(&j);
    cur_close(&c);
    file_close(f);
    model_free(&m);
}

/* The types that the package does not read, by what ggml's structs say. */
static void by_the_structs(void **state)
{
    (void)state;
    uint8_t b[292];
    float y[256];
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)(i * 37 + 11);
    b[0] = 0x00;
    b[1] = 0x3e; /* 1.5 */
    block_unpack(DT_Q8_1, b, (uint8_t *)y, 1);
    for (size_t i = 0; i < 32; i++)
        assert_true(y[i] == 1.5f * (float)(int8_t)b[4 + i]);
    block_unpack(DT_Q1_0, b, (uint8_t *)y, 1);
    for (size_t i = 0; i < 128; i++)
        assert_true(y[i] == (b[2 + i / 8] >> i % 8 & 1 ? 1.5f : -1.5f));
    block_unpack(DT_Q2_0, b, (uint8_t *)y, 1);
    for (size_t i = 0; i < 64; i++)
        assert_true(y[i] == 1.5f * (float)((b[2 + i / 4] >> i % 4 * 2 & 3) - 1));
    float d = -0.75f;
    memcpy(b, &d, 4);
    block_unpack(DT_Q8_K, b, (uint8_t *)y, 1);
    for (size_t i = 0; i < 256; i++)
        assert_true(y[i] == d * (float)(int8_t)b[4 + i]);
    for (enum dtype t = DT_NONE; t < DT_COUNT; t++)
        if (dtype_is_block(t))
            assert_true(BLOCK_ELEMS_MAX % dtype_info(t)->block_elems == 0);
}

/* Blocks as the package makes them. */
static void packing(void **state)
{
    (void)state;
    struct model m;
    open_golden("tests/golden/gguf/packed.gguf", &m);
    for (int k = 0; k < 2; k++) {
        size_t n, want_n;
        enum dtype t = k ? DT_Q4_0 : DT_Q8_0;
        const char *name = dtype_info(t)->name;
        char of[16];
        snprintf(of, sizeof of, "%s.x", name);
        uint8_t *x = eager_read(&m, (size_t)model_find(&m, str_from(of)), &n, &e);
        uint8_t *want = eager_read(&m, (size_t)model_find(&m, str_from(name)), &want_n, &e);
        uint8_t *got = malloc(want_n);
        assert_true(x && want && got && block_packs(t));
        assert_int_equal(block_pack(t, x, got, n / 4), n / 4);
        for (size_t i = 0; i < want_n; i++)
            if (got[i] != want[i])
                fail_msg("%s: byte %zu of block %zu is %u, not %u", name,
                         i % dtype_info(t)->block_bytes, i / dtype_info(t)->block_bytes, got[i],
                         want[i]);
        free(got);
        free(want);
        free(x);
    }
    model_free(&m);
}

static void no_place(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        enum dtype t = k ? DT_Q4_0 : DT_Q8_0;
        float x[96] = {0}, most = k ? 65504.0f * 8 : 65504.0f * 127;
        uint8_t out[3 * 34];
        x[5] = -most;
        assert_int_equal(block_pack(t, (uint8_t *)x, out, 96), 96);
        x[37] = most * 1.01f;
        assert_int_equal(block_pack(t, (uint8_t *)x, out, 96), 37);
        x[37] = HUGE_VALF;
        assert_int_equal(block_pack(t, (uint8_t *)x, out, 96), 37);
        x[36] = NAN;
        x[70] = NAN;
        assert_int_equal(block_pack(t, (uint8_t *)x, out, 96), 36);
        assert_false(block_packs(DT_Q4_K));
    }
}

/* ---- through the engine ---- */

#define ROWS 6
#define COLS 40
#define DEPTH 512

/* Turned over and cut into odd tiles: what blocks look like in a coded container. */
static enum status odd_tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                            struct err *why)
{
    uint64_t at = t * s->tile_bytes, n = s->raw_bytes - at;
    uint8_t *d = dst;
    (void)scratch;
    (void)why;
    n = n < s->tile_bytes ? n : s->tile_bytes;
    for (uint64_t i = 0; i < n; i++)
        d[i] = (uint8_t) ~((const uint8_t *)s->priv)[at + i];
    return ST_OK;
}
static const struct decoder odd = {.name = "odd", .tile = odd_tile};

struct world {
    struct model m;
    uint8_t *raw; /* the blocks */
    float *y;     /* what they unpack to */
    uint64_t elems, bytes;
};

/* A tensor of [ROWS, COLS, DEPTH] in a storage of one kind; noise that is no NaN. */
static void make_world(struct world *w, enum dtype t, enum storage_kind kind)
{
    const struct dtype_info *d = dtype_info(t);
    uint64_t dim[3] = {ROWS, COLS, DEPTH}, x = 77;
    struct storage *s;
    struct tensor *tn;
    uint32_t index;
    w->elems = (uint64_t)ROWS * COLS * DEPTH;
    w->bytes = w->elems / d->block_elems * d->block_bytes;
    model_init(&w->m);
    w->raw = malloc(w->bytes);
    w->y = malloc(w->elems * 4);
    assert_true(w->raw && w->y);
    for (uint64_t i = 0; i < w->bytes; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        w->raw[i] = (uint8_t)(x >> 40) & 0x3f;
    }
    for (uint64_t i = 208; t == DT_Q6_K && i < w->bytes; i += 210) {
        w->raw[i] = 0; /* scales of a size to be packed again */
        w->raw[i + 1] = 0x1c;
    }
    block_unpack(t, w->raw, (uint8_t *)w->y, w->elems / d->block_elems);
    assert_int_equal(model_storage_add(&w->m, &s, &index, &e), ST_OK);
    *s = (struct storage){.kind = kind, .stored_bytes = w->bytes, .raw_bytes = w->bytes};
    if (kind == STORAGE_MEMORY) {
        s->mem = w->raw;
    } else if (kind == STORAGE_FLAT) {
        static char path[] = "/tmp/nnferry-block-XXXXXX";
        struct file *f;
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, w->raw, w->bytes), (ssize_t)w->bytes);
        close(fd);
        assert_int_equal(file_open(path, &f, &e), ST_OK);
        unlink(path);
        memcpy(strrchr(path, '-'), "-XXXXXX", 8);
        assert_int_equal(model_own_file(&w->m, f, &e), ST_OK);
        s->file = f;
    } else {
        uint8_t *turned = arena_alloc(&w->m.arena, w->bytes, 1);
        assert_non_null(turned);
        for (uint64_t i = 0; i < w->bytes; i++)
            turned[i] = (uint8_t)~w->raw[i];
        s->dec = &odd;
        s->tile_bytes = 1000;
        s->n_tiles = (w->bytes + 999) / 1000;
        s->priv = turned;
    }
    assert_int_equal(model_tensor_add(&w->m, &tn, &e), ST_OK);
    tn->name = STR("w");
    tn->dtype = t;
    tn->storage = index;
    assert_int_equal(tensor_set_shape(&w->m, tn, dim, 3, &e), ST_OK);
    assert_int_equal(model_finish(&w->m, &e), ST_OK);
}

static void end_world(struct world *w)
{
    model_free(&w->m);
    free(w->raw);
    free(w->y);
}

/* A plan of one part whose view is v, with the ops. */
static enum status plan_of(struct plan *p, const struct world *w, const struct view *v,
                           struct op *op, size_t n_ops, enum dtype to)
{
    plan_init(p, &w->m);
    assert_int_equal(plan_identity(p, &e), ST_OK);
    struct part *q = p->recipe[0].part;
    struct tensor *t = &p->dst.tensor[0];
    assert_int_equal(part_set_view(q, &p->dst.arena, v, &e), ST_OK);
    q->op = op;
    q->n_ops = n_ops;
    t->dtype = to;
    assert_int_equal(tensor_set_shape(&p->dst, t, q->view->dim, q->view->n_dims, &e), ST_OK);
    struct ledger_line *line = ARENA_NEW(&p->dst.arena, struct ledger_line);
    assert_non_null(line);
    *line = (struct ledger_line){
        .kind = LEDGER_DROP, .name = STR("w"), .n_elems = tensor_elems(&w->m.tensor[0])};
    p->line = line; /* slices leave something */
    p->n_lines = 1;
    return plan_prove(p, 0, &e);
}

/* All of the target, in one go and in pieces, under more and less memory. */
static void reads(const struct plan *p, enum dtype as, const void *want, uint64_t units,
                  size_t size)
{
    uint8_t *got = malloc(units * size);
    assert_non_null(got);
    memset(got, 0xee, units * size);
    assert_int_equal(run_read(p, 0, 0, units, as, got, &e), ST_OK);
    assert_memory_equal(got, want, units * size);
    for (uint64_t lo = 0; lo < units; lo += units / 7 + 13) {
        uint64_t hi = lo + units / 7 + 13 < units ? lo + units / 7 + 13 : units;
        assert_int_equal(run_read(p, 0, lo, hi, as, got, &e), ST_OK);
        assert_memory_equal(got, (const uint8_t *)want + lo * size, (hi - lo) * size);
    }
    uint8_t first[32], again[32];
    for (int k = 0; k < 4; k++) {
        struct run_opt o = {.threads = k % 2 ? 1 : 0, .memory = k < 2 ? 0 : (uint64_t)24 << 20};
        struct run_cost cost;
        assert_int_equal(run_cost(p, &o, &cost, &e), ST_OK);
        assert_int_equal(run_hash(p, &o, k ? &again : &first, &e), ST_OK);
        if (k)
            assert_memory_equal(first, again, 32);
    }
    free(got);
}

static const enum storage_kind kinds[] = {STORAGE_MEMORY, STORAGE_FLAT, STORAGE_TILED};
static const enum dtype some[] = {DT_Q4_0, DT_Q8_0, DT_Q6_K, DT_IQ2_XS, DT_MXFP4};

static void carried(void **state)
{
    (void)state;
    for (size_t i = 0; i < 15; i++) {
        struct world w;
        struct plan p;
        struct view v;
        enum dtype t = some[i % 5];
        make_world(&w, t, kinds[i / 5]);
        uint64_t row = w.bytes / ROWS / COLS;
        view_load(&v, w.m.tensor[0].view);
        assert_int_equal(plan_of(&p, &w, &v, NULL, 0, t), ST_OK);
        reads(&p, t, w.raw, w.bytes, 1);
        plan_free(&p);
        /* outer axes turned, whole blocks cut out */
        uint8_t perm[3] = {1, 0, 2}, *want = malloc(w.bytes), *at = want;
        assert_int_equal(view_permute(&v, perm, 3, &e), ST_OK);
        assert_int_equal(view_slice(&v, 2, 256, 512, &e), ST_OK);
        assert_int_equal(plan_of(&p, &w, &v, NULL, 0, t), ST_OK);
        for (uint64_t c = 0; c < COLS; c++)
            for (uint64_t r = 0; r < ROWS; r++, at += row / 2)
                memcpy(at, w.raw + (r * COLS + c) * row + row / 2, row / 2);
        reads(&p, t, want, w.bytes / 2, 1);
        plan_free(&p);
        free(want);
        end_world(&w);
    }
}

static void refused(void **state)
{
    (void)state;
    struct world w;
    struct plan p;
    struct view v;
    uint8_t perm[3] = {2, 1, 0};
    struct op pack[2] = {{.kind = OP_UNPACK}, {.kind = OP_CAST, .to = DT_Q8_0}};
    make_world(&w, DT_Q4_0, STORAGE_MEMORY);
    view_load(&v, w.m.tensor[0].view);
    assert_int_equal(view_slice(&v, 2, 16, 48, &e), ST_OK);
    assert_int_equal(plan_of(&p, &w, &v, NULL, 0, DT_Q4_0), ST_CANNOT);
    assert_string_equal(e.code, "block-view");
    plan_free(&p);
    view_load(&v, w.m.tensor[0].view);
    assert_int_equal(view_permute(&v, perm, 3, &e), ST_OK);
    assert_int_equal(plan_of(&p, &w, &v, NULL, 0, DT_Q4_0), ST_CANNOT);
    assert_string_equal(e.code, "block-shape"); /* COLS is no whole number of blocks */
    plan_free(&p);
    view_load(&v, w.m.tensor[0].view);
    assert_int_equal(view_slice(&v, 2, 0, 48, &e), ST_OK);
    assert_int_equal(plan_of(&p, &w, &v, pack, 2, DT_Q8_0), ST_CANNOT);
    assert_string_equal(e.code, "block-shape");
    plan_free(&p);
    end_world(&w);
}

static void unpacked(void **state)
{
    (void)state;
    for (size_t i = 0; i < 15; i++) {
        struct world w;
        struct plan p;
        struct view v;
        struct op op[2] = {{.kind = OP_UNPACK},
                           {.kind = OP_CAST, .to = DT_F16, .allow_overflow = true}};
        uint8_t perm[3] = {2, 0, 1};
        make_world(&w, some[i % 5], kinds[i / 5]);
        float *want = malloc(w.elems * 4), *at = want;
        uint16_t *halves = malloc(w.elems * 2);
        assert_true(want && halves);
        view_load(&v, w.m.tensor[0].view);
        assert_int_equal(plan_of(&p, &w, &v, op, 1, DT_F32), ST_OK);
        reads(&p, DT_F32, w.y, w.elems, 4);
        plan_free(&p);
        /* turned, and a slice that cuts blocks */
        assert_int_equal(view_permute(&v, perm, 3, &e), ST_OK);
        assert_int_equal(view_slice(&v, 0, 5, DEPTH, &e), ST_OK);
        for (uint64_t k = 5; k < DEPTH; k++)
            for (uint64_t rc = 0; rc < ROWS * COLS; rc++)
                *at++ = w.y[rc * DEPTH + k];
        uint64_t n = (uint64_t)(at - want);
        assert_int_equal(plan_of(&p, &w, &v, op, 1, DT_F32), ST_OK);
        reads(&p, DT_F32, want, n, 4);
        plan_free(&p);
        assert_int_equal(plan_of(&p, &w, &v, op, 2, DT_F16), ST_OK);
        (void)op_cast(DT_F32, want, DT_F16, halves, n);
        reads(&p, DT_F16, halves, n, 2);
        plan_free(&p);
        free(halves);
        free(want);
        end_world(&w);
    }
}

static void repacked(void **state)
{
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        struct world w;
        struct plan p;
        struct view v;
        enum dtype to = i % 2 ? DT_Q4_0 : DT_Q8_0;
        struct op op[2] = {{.kind = OP_UNPACK}, {.kind = OP_CAST, .to = to}};
        uint8_t perm[3] = {2, 0, 1};
        make_world(&w, DT_Q6_K, kinds[i / 2]);
        uint8_t *want = malloc(w.elems * 2);
        float *turned = malloc(w.elems * 4), *at = turned;
        assert_true(want && turned);
        view_load(&v, w.m.tensor[0].view);
        assert_int_equal(plan_of(&p, &w, &v, op, 2, to), ST_OK);
        assert_int_equal(block_pack(to, (uint8_t *)w.y, want, w.elems), w.elems);
        reads(&p, to, want, dtype_units(to, w.elems), 1);
        plan_free(&p);
        /* the blocks of the target run along another axis */
        assert_int_equal(view_slice(&v, 1, 0, 32, &e), ST_OK);
        assert_int_equal(view_permute(&v, perm, 3, &e), ST_OK);
        for (uint64_t d = 0; d < DEPTH; d++)
            for (uint64_t r = 0; r < ROWS; r++)
                for (uint64_t c = 0; c < 32; c++)
                    *at++ = w.y[(r * COLS + c) * DEPTH + d];
        uint64_t n = (uint64_t)(at - turned);
        assert_int_equal(plan_of(&p, &w, &v, op, 2, to), ST_OK);
        assert_int_equal(block_pack(to, (uint8_t *)turned, want, n), n);
        reads(&p, to, want, dtype_units(to, n), 1);
        plan_free(&p);
        free(turned);
        free(want);
        end_world(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_package), cmocka_unit_test(by_the_structs),
        cmocka_unit_test(packing),        cmocka_unit_test(no_place),
        cmocka_unit_test(carried),        cmocka_unit_test(refused),
        cmocka_unit_test(unpacked),       cmocka_unit_test(repacked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
