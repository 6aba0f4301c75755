/* Writing, reading back and comparing through real formats: same bytes for any number of threads
 * and any processor, damage is noticed, differences are counted, the source is named.
 */
#include "base/cpu.h"
#include "base/mem.h"
#include "base/par.h"
#include "codec/crc.h"
#include "codec/deflate.h"
#include "convert/run.h"
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static struct err e;
static uint64_t rng = 7;

static uint64_t rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng;
}

static void add(struct model *m, const char *name, enum dtype dt, uint64_t rows, uint64_t cols)
{
    struct tensor *t;
    struct storage *s;
    uint32_t si;
    uint64_t dim[2] = {rows, cols};
    assert_int_equal(model_storage_add(m, &s, &si, &e), ST_OK);
    s->kind = STORAGE_MEMORY;
    s->raw_bytes = s->stored_bytes = rows * cols * dtype_bytes(dt);
    uint8_t *p = arena_alloc(&m->arena, s->raw_bytes + 8, 1);
    assert_non_null(p);
    for (uint64_t i = 0; i < s->raw_bytes; i += 8) {
        uint64_t v = rnd() & UINT64_C(0xbfffffffbfffffff);
        memcpy(p + i, &v, 8);
    }
    s->mem = p;
    assert_int_equal(model_tensor_add(m, &t, &e), ST_OK);
    t->name = arena_str(&m->arena, name, strlen(name));
    t->dtype = dt;
    t->storage = si;
    t->requires_grad = true;
    assert_int_equal(tensor_set_shape(m, t, dim, 2, &e), ST_OK);
}

static void source(struct model *m)
{
    model_init(m);
    rng = 7;
    add(m, "wide", DT_F32, 700, 1301);
    add(m, "tall", DT_F32, 1999, 300);
    add(m, "small", DT_I64, 3, 5);
    add(m, "none", DT_F32, 0, 4);
    add(m, "half", DT_BF16, 640, 1024);
    assert_int_equal(model_finish(m, &e), ST_OK);
}

/* Everything with two axes and floats is turned and cast to bfloat16. */
static void turned(struct plan *p, struct op *cast)
{
    uint8_t perm[2] = {1, 0};
    *cast = (struct op){.kind = OP_CAST, .to = DT_BF16, .allow_overflow = true};
    assert_int_equal(plan_identity(p, &e), ST_OK);
    for (size_t i = 0; i < p->dst.n_tensors; i++) {
        struct tensor *d = &p->dst.tensor[i];
        struct part *q = p->recipe[i].part;
        if (d->dtype != DT_F32)
            continue;
        struct view v;
        view_load(&v, q->view);
        assert_int_equal(view_permute(&v, perm, 2, &e), ST_OK);
        assert_int_equal(part_set_view(q, &p->dst.arena, &v, &e), ST_OK);
        assert_int_equal(tensor_set_shape(&p->dst, d, q->view->dim, 2, &e), ST_OK);
        q->op = cast;
        q->n_ops = 1;
        d->dtype = DT_BF16;
    }
    assert_int_equal(plan_prove(p, 0, &e), ST_OK);
}

static char *path_of(const char *name)
{
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static uint8_t *slurp(const char *name, size_t *n)
{
    struct stat st;
    int fd = open(path_of(name), O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    uint8_t *p = malloc((size_t)st.st_size + 1);
    assert_int_equal(read(fd, p, (size_t)st.st_size), st.st_size);
    close(fd);
    *n = (size_t)st.st_size;
    return p;
}

static void write_as(const char *format, const char *name, const struct run_opt *o)
{
    struct model m;
    struct plan p;
    struct op cast;
    struct out *out;
    struct out_opt oo = {true, false};
    struct slab_digests *kept;
    struct write_opt wo = {0};
    const struct format *f = format_find(str_from(format));
    assert_non_null(f);
    source(&m);
    plan_init(&p, &m);
    turned(&p, &cast);
    assert_int_equal(out_begin(path_of(name), &oo, &out, &e), ST_OK);
    enum status st = run_write(&p, f, &wo, o, out, &kept, &e);
    if (st != ST_OK)
        printf("%s: %s: %s %s\n", format, e.code ? e.code : "", e.reason, e.tensor);
    assert_int_equal(st, ST_OK);
    st = run_readback(&p, f, out_temp_path(out), kept, o, &e);
    if (st != ST_OK)
        printf("%s: %s: %s %s\n", format, e.code ? e.code : "", e.reason, e.tensor);
    assert_int_equal(st, ST_OK);
    assert_int_equal(out_publish(out, &e), ST_OK);
    out_end(out);
    slab_digests_free(kept);
    plan_free(&p);
    model_free(&m);
}

static void same_bytes_everywhere(void **state)
{
    (void)state;
    static const char *const wanted[] = {"safetensors", "npz", "msgpack", "archive", "pytorch"};
    int seen = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        size_t n1, n2;
        if (!format_find(str_from(wanted[i])))
            continue;
        seen++;
        par_set_threads(1);
        cpu_limit(0);
        write_as(wanted[i], "one", NULL);
        cpu_limit(~0u);
        uint8_t *a = slurp("one", &n1);
        for (int threads = 2; threads <= 8; threads *= 4) {
            struct run_opt o = {0, mem_in_use() + ((uint64_t)64 << 20)};
            par_set_threads(threads);
            write_as(wanted[i], "many", threads == 2 ? &o : NULL);
            uint8_t *b = slurp("many", &n2);
            assert_int_equal(n1, n2);
            assert_memory_equal(a, b, n1);
            free(b);
        }
        free(a);
    }
    assert_true(seen >= 2);
    unlink(path_of("one"));
    unlink(path_of("many"));
}

static void damage_is_noticed(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    struct out *out;
    struct out_opt oo = {true, false};
    struct slab_digests *kept;
    struct write_opt wo = {0};
    const struct format *f = format_find(STR("safetensors"));
    source(&m);
    plan_init(&p, &m);
    assert_int_equal(plan_identity(&p, &e), ST_OK);
    assert_int_equal(out_begin(path_of("a"), &oo, &out, &e), ST_OK);
    assert_int_equal(run_write(&p, f, &wo, NULL, out, &kept, &e), ST_OK);
    struct stat st;
    int fd = open(out_temp_path(out), O_RDWR);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    for (int k = 0; k < 12; k++) {
        off_t at = k == 0 ? st.st_size - 1 : (off_t)(rnd() % (uint64_t)(st.st_size - 4096)) + 2048;
        uint8_t old, bad;
        assert_int_equal(pread(fd, &old, 1, at), 1);
        bad = (uint8_t)(old ^ 1u << k % 8);
        assert_int_equal(pwrite(fd, &bad, 1, at), 1);
        assert_int_equal(run_readback(&p, f, out_temp_path(out), kept, NULL, &e), ST_OUTPUT);
        assert_string_equal(e.code, "readback");
        assert_int_equal(pwrite(fd, &old, 1, at), 1);
    }
    assert_int_equal(run_readback(&p, f, out_temp_path(out), kept, NULL, &e), ST_OK);
    assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
    assert_int_equal(run_readback(&p, f, out_temp_path(out), kept, NULL, &e), ST_OUTPUT);
    close(fd);
    out_end(out);
    slab_digests_free(kept);
    plan_free(&p);
    model_free(&m);
    assert_int_equal(path_kind(path_of("a")), PATH_NONE);
}

/* An archive's slabs are read back as they are written; at last they must be what the reader finds:
 * not the archive of other values, nor one whose lists were damaged. */
static void another_archive_is_noticed(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    struct out *out[2];
    struct out_opt oo = {true, false};
    struct slab_digests *kept[2];
    struct write_opt wo = {0};
    const struct format *f = format_find(STR("archive"));
    for (int threads = 1; threads <= 4; threads *= 4) {
        par_set_threads(threads);
        source(&m);
        plan_init(&p, &m);
        assert_int_equal(plan_identity(&p, &e), ST_OK);
        for (int k = 0; k < 2; k++) {
            if (k == 1) /* the last bit of the last chunk of a tensor */
                ((uint8_t *)(uintptr_t)m.storage[0].mem)[m.storage[0].raw_bytes - 1] ^= 1;
            assert_int_equal(out_begin(path_of(k ? "b" : "a"), &oo, &out[k], &e), ST_OK);
            assert_int_equal(run_write(&p, f, &wo, NULL, out[k], &kept[k], &e), ST_OK);
        }
        for (int k = 0; k < 4; k++) {
            enum status st = run_readback(&p, f, out_temp_path(out[k / 2]), kept[k % 2], NULL, &e);
            assert_int_equal(st, k / 2 == k % 2 ? ST_OK : ST_OUTPUT);
            if (st != ST_OK) {
                assert_string_equal(e.code, "readback");
                assert_string_equal(e.tensor, "wide");
            }
        }
        struct stat st;
        int fd = open(out_temp_path(out[0]), O_RDWR);
        assert_true(fd >= 0 && fstat(fd, &st) == 0);
        for (int k = 0; k < 12; k++) { /* check frame, seek table, manifest */
            off_t at = st.st_size - 1 - (off_t)(rnd() % 1024);
            uint8_t old, bad;
            assert_int_equal(pread(fd, &old, 1, at), 1);
            bad = (uint8_t)(old ^ 1u << k % 8);
            assert_int_equal(pwrite(fd, &bad, 1, at), 1);
            assert_int_equal(run_readback(&p, f, out_temp_path(out[0]), kept[0], NULL, &e),
                             ST_OUTPUT);
            assert_int_equal(pwrite(fd, &old, 1, at), 1);
        }
        close(fd);
        for (int k = 0; k < 2; k++) {
            out_end(out[k]);
            slab_digests_free(kept[k]);
        }
        plan_free(&p);
        model_free(&m);
    }
}

static void differences_are_counted(void **state)
{
    (void)state;
    struct model a, b;
    struct plan pa, pb;
    struct run_diff d[2];
    static const float va[8] = {1, 2, 3, NAN, INFINITY, 0.0f, 5, -INFINITY};
    static const float vb[8] = {1, 2.5f, 3, NAN, INFINITY, -0.0f, NAN, INFINITY};
    int64_t of[2] = {0, -1};
    par_set_threads(2);
    for (int k = 0; k < 2; k++) {
        struct model *m = k ? &b : &a;
        model_init(m);
        add(m, "x", DT_F32, 2, 4);
        m->storage[0].mem = (const uint8_t *)(k ? vb : va);
        assert_int_equal(model_finish(m, &e), ST_OK);
        plan_init(k ? &pb : &pa, m);
        assert_int_equal(plan_identity(k ? &pb : &pa, &e), ST_OK);
    }
    assert_int_equal(run_compare(&pa, &pb, of, 1e-5, 1e-6, NULL, d, &e), ST_OK);
    assert_false(d[0].bit_equal);
    assert_int_equal(d[0].n_unequal, 3);
    assert_int_equal(d[0].first, 1);
    assert_int_equal(d[0].n_nonfinite, 2);
    assert_int_equal(d[0].n_fail, 1);
    assert_true(d[0].max_abs == 0.5 && d[0].max_rel == 0.2 && d[0].max_ref == 3);
    assert_true(fabs(d[0].mse - 0.25 / 4) < 1e-15);
    assert_int_equal(run_compare(&pa, &pa, of, 0, 0, NULL, d, &e), ST_OK);
    assert_true(d[0].bit_equal && d[0].n_unequal == 0 && d[0].mse == 0);
    assert_true(fabs(d[0].cosine - 1) < 1e-12);
    plan_free(&pa);
    plan_free(&pb);
    model_free(&a);
    model_free(&b);
}

/* A sum of two tensors, one broadcast; a fill beside it. */
static void sums_and_fills(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    struct op op = {.kind = OP_ADD, .operand = 1};
    uint64_t dim[2] = {3, 8}, one[2] = {1, 4};
    float x[12], y[4], got[24];
    model_init(&m);
    add(&m, "x", DT_F32, 3, 4);
    add(&m, "y", DT_F32, 1, 4);
    for (int i = 0; i < 12; i++)
        x[i] = (float)i * 1.5f;
    for (int i = 0; i < 4; i++)
        y[i] = (float)(100 * i);
    m.storage[0].mem = (const uint8_t *)x;
    m.storage[1].mem = (const uint8_t *)y;
    assert_int_equal(model_finish(&m, &e), ST_OK);
    plan_init(&p, &m);
    assert_int_equal(plan_identity(&p, &e), ST_OK);
    p.dst.n_tensors = 1;
    struct part *q = ARENA_ARRAY(&p.dst.arena, struct part, 2);
    q[0] = p.recipe[0].part[0];
    q[0].op = &op;
    q[0].n_ops = 1;
    struct view v;
    assert_int_equal(view_c(&v, one, 2, &e), ST_OK);
    assert_int_equal(view_expand(&v, 0, 3, &e), ST_OK);
    assert_int_equal(view_keep(&v, &p.dst.arena, &op.view, &e), ST_OK);
    q[1] = (struct part){.src = -1, .fill = {0, 0, 0x80, 0x3f}};
    part_share_view(&q[1], p.recipe[0].part[0].view);
    assert_int_equal(part_move(&q[1], &p.dst.arena, 1, 4, &e), ST_OK);
    assert_int_equal(tensor_set_shape(&p.dst, &p.dst.tensor[0], dim, 2, &e), ST_OK);
    p.recipe[0] = (struct recipe){q, 2};
    struct ledger_line line = {.kind = LEDGER_SYNTH,
                               .harmless = true,
                               .name = STR("x"),
                               .n_elems = 12,
                               .why = STR("test")};
    p.line = &line;
    p.n_lines = 1;
    assert_int_equal(plan_prove(&p, 0, &e), ST_OK);
    assert_int_equal(run_read(&p, 0, 0, 24, DT_F32, got, &e), ST_OK);
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 8; c++)
            assert_true(got[8 * r + c] == (c < 4 ? x[4 * r + c] + y[c] : 1.0f));
    plan_free(&p);
    model_free(&m);
}

static void overflow_is_refused(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    static const float x[4] = {1, 2, 1e30f, 3};
    struct op op = {.kind = OP_CAST, .to = DT_F16};
    uint16_t got[4];
    model_init(&m);
    add(&m, "x", DT_F32, 1, 4);
    m.storage[0].mem = (const uint8_t *)x;
    assert_int_equal(model_finish(&m, &e), ST_OK);
    plan_init(&p, &m);
    assert_int_equal(plan_identity(&p, &e), ST_OK);
    p.recipe[0].part[0].op = &op;
    p.recipe[0].part[0].n_ops = 1;
    p.dst.tensor[0].dtype = DT_F16;
    assert_int_equal(plan_prove(&p, 0, &e), ST_OK);
    assert_int_equal(run_read(&p, 0, 0, 4, DT_F16, got, &e), ST_CANNOT);
    assert_string_equal(e.code, "overflow");
    assert_string_equal(e.tensor, "x");
    op.allow_overflow = true;
    assert_int_equal(run_read(&p, 0, 0, 4, DT_F16, got, &e), ST_OK);
    assert_int_equal(got[2], 0x7c00);
    plan_free(&p);
    model_free(&m);
}

static void checksums_join(void **state)
{
    (void)state;
    uint8_t b[1000];
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)rnd();
    assert_int_equal(crc32c_update(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32_update(0, "123456789", 9), 0xcbf43926);
    for (size_t k = 0; k <= sizeof b; k += 37) {
        uint32_t a1 = crc32_update(0, b, k), b1 = crc32_update(0, b + k, sizeof b - k);
        uint32_t a2 = crc32c_update(0, b, k), b2 = crc32c_update(0, b + k, sizeof b - k);
        assert_int_equal(crc_join(CRC32_POLY, a1, b1, sizeof b - k), crc32_update(0, b, 1000));
        assert_int_equal(crc_join(CRC32C_POLY, a2, b2, sizeof b - k), crc32c_update(0, b, 1000));
    }
}

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/nnferry-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static int tear_down(void **state)
{
    (void)state;
    return rmdir(dir);
}

/* ---- the source's digest ---- */

/* A plan of every way a source may go: as it is, under another name and shape, turned, cast, in two
 * parts, twice, and left behind. */
static void all_ways(struct plan *p, struct op *cast)
{
    static struct ledger_line dropped = {.kind = LEDGER_DROP, .what = LEDGER_TENSOR};
    const struct model *m = p->src;
    dropped.name = m->tensor[4].name;
    dropped.n_elems = tensor_elems(&m->tensor[4]);
    const uint64_t flat[1] = {15};
    turned(p, cast); /* wide, tall */
    p->line = &dropped;
    p->n_lines = 1;
    p->dst.n_tensors--; /* half */
    struct tensor *t = &p->dst.tensor[2];
    t->name = STR("another name");
    assert_int_equal(tensor_set_shape(&p->dst, t, flat, 1, &e), ST_OK);
    struct view v;
    bool ok;
    view_load(&v, m->tensor[2].view);
    assert_int_equal(view_reshape(&v, flat, 1, &ok, &e), ST_OK);
    assert_true(ok);
    assert_int_equal(part_set_view(p->recipe[2].part, &p->dst.arena, &v, &e), ST_OK);
    assert_int_equal(plan_prove(p, 0, &e), ST_OK);
}

/* What the archive at `path` says of its source. */
static struct origin origin_of(const char *path)
{
    struct model m;
    const struct format *f;
    struct read_opt o = {0};
    model_init(&m);
    assert_int_equal(format_open(path, NULL, &o, &m, &f, &e), ST_OK);
    assert_non_null(m.origin);
    struct origin out = *m.origin;
    model_free(&m);
    return out;
}

static void true_id(const struct model *m, uint8_t id[32])
{
    struct plan p;
    plan_init(&p, m);
    assert_int_equal(plan_identity(&p, &e), ST_OK);
    uint8_t(*digest)[32] = calloc(m->n_tensors + 1, 32);
    assert_int_equal(run_hash(&p, NULL, digest, &e), ST_OK);
    assert_int_equal(id_plain(&p.dst, NULL, (const uint8_t(*)[32])digest, id, &e), ST_OK);
    free(digest);
    plan_free(&p);
}

static struct origin written_origin(const struct plan *p, enum origin_tensors asked,
                                    const struct run_opt *o)
{
    const struct format *f = format_find(STR("archive"));
    struct origin origin = {.format = STR("x"), .tensors = asked};
    struct write_opt wo = {.origin = &origin};
    struct out_opt oo = {true, false};
    struct slab_digests *kept;
    struct out *out;
    assert_int_equal(out_begin(path_of("o"), &oo, &out, &e), ST_OK);
    assert_int_equal(run_write(p, f, &wo, o, out, &kept, &e), ST_OK);
    assert_int_equal(run_readback(p, f, out_temp_path(out), kept, o, &e), ST_OK);
    assert_int_equal(out_publish(out, &e), ST_OK);
    out_end(out);
    slab_digests_free(kept);
    return origin_of(path_of("o"));
}

static void source_is_named(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    struct op cast;
    struct run_cost c;
    uint64_t beside;
    uint8_t id[32];
    source(&m);
    true_id(&m, id);
    for (int threads = 1; threads <= 8; threads *= 2) {
        struct run_opt small = {0, mem_in_use() + ((uint64_t)64 << 20)};
        const struct run_opt *o = threads == 2 ? &small : NULL;
        struct write_opt wo = {.origin = &(struct origin){.tensors = ORIGIN_CHANGED}};
        par_set_threads(threads);
        plan_init(&p, &m);
        assert_int_equal(plan_identity(&p, &e), ST_OK);
        struct origin got = written_origin(&p, ORIGIN_CHANGED, o);
        assert_int_equal(got.tensors, ORIGIN_SAME);
        assert_memory_equal(got.id, id, 32);
        assert_int_equal(run_write_cost(&p, &wo, o, &c, &beside, &e), ST_OK);
        assert_int_equal(beside, 0);
        plan_free(&p);

        plan_init(&p, &m);
        all_ways(&p, &cast);
        got = written_origin(&p, ORIGIN_CHANGED, o);
        assert_int_equal(got.tensors, ORIGIN_CHANGED);
        assert_memory_equal(got.id, id, 32);
        got = written_origin(&p, ORIGIN_SELECTED, o);
        assert_int_equal(got.tensors, ORIGIN_SELECTED);
        struct run_cost without;
        assert_int_equal(run_cost(&p, o, &without, &e), ST_OK);
        assert_int_equal(run_write_cost(&p, &wo, o, &c, &beside, &e), ST_OK);
        /* none is small enough to be left out: turned and cast, and half, left behind */
        assert_int_equal(beside, 4 * (700 * 1301 + 1999 * 300) + 2 * 640 * 1024);
        assert_int_equal(c.write_bytes, without.write_bytes);
        plan_free(&p);
    }
    par_set_threads(1);
    model_free(&m);
    unlink(path_of("o"));
}

/* Names from before a renaming, and the ties that went with them. */
static void source_is_named_as_it_was(void **state)
{
    (void)state;
    struct model m, was;
    struct plan p;
    uint8_t id[32];
    static const struct str old[] = {{"z", 1}, {"y", 1}, {"x", 1}, {"w", 1}, {"v", 1}};
    static const int64_t none[] = {-1, -1, -1, -1, -1};
    const struct id_names names = {old, none};
    source(&was);
    for (size_t i = 0; i < was.n_tensors; i++)
        was.tensor[i].name = old[i];
    true_id(&was, id);
    source(&m);
    plan_init(&p, &m);
    assert_int_equal(plan_identity(&p, &e), ST_OK);
    const struct format *f = format_find(STR("archive"));
    struct origin origin = {.format = STR("x"), .tensors = ORIGIN_CHANGED};
    struct write_opt wo = {.origin = &origin, .own_names = &names};
    struct out_opt oo = {true, false};
    struct slab_digests *kept;
    struct out *out;
    assert_int_equal(out_begin(path_of("o"), &oo, &out, &e), ST_OK);
    assert_int_equal(run_write(&p, f, &wo, NULL, out, &kept, &e), ST_OK);
    assert_int_equal(out_publish(out, &e), ST_OK);
    out_end(out);
    slab_digests_free(kept);
    struct origin got = origin_of(path_of("o"));
    assert_int_equal(got.tensors, ORIGIN_CHANGED);
    assert_memory_equal(got.id, id, 32);
    plan_free(&p);
    model_free(&m);
    model_free(&was);
    unlink(path_of("o"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bytes_everywhere),
                                       cmocka_unit_test(damage_is_noticed),
                                       cmocka_unit_test(source_is_named),
                                       cmocka_unit_test(source_is_named_as_it_was),
                                       cmocka_unit_test(another_archive_is_noticed),
                                       cmocka_unit_test(differences_are_counted),
                                       cmocka_unit_test(sums_and_fills),
                                       cmocka_unit_test(overflow_is_refused),
                                       cmocka_unit_test(checksums_join)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
