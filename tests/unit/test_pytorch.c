/* PyTorch: goldens of two torch versions, every truncation of them, and written again: the same
 * tensors, ties, roles and structure come back. */
#include "base/out.h"
#include "convert/run.h"
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/unit/truncate.h"

static const char *const folders[] = {"tests/golden/torch", "tests/golden/torch-1.13"};

/* Calls f on every golden. */
static void each(void (*f)(const char *path))
{
    for (size_t k = 0; k < 2; k++) {
        size_t n;
        char **list = golden_list(folders[k], ".pt", &n);
        assert_true(n >= 12);
        for (size_t i = 0; i < n; i++)
            f(list[i]);
        golden_list_free(list, n);
    }
}

static void check(const char *path)
{
    golden_check(path, "pytorch");
}
static void goldens(void **state)
{
    (void)state;
    each(check);
}

/* A tar is filled up with blocks of zeros: it may lose some of them. */
static bool tar_fill(const uint8_t *p, size_t n)
{
    for (size_t i = n < 1024 ? 0 : n - 1024; i < n; i++)
        if (p[i])
            return false;
    return n >= 1024 && n % 512 == 0 && memcmp(p + 257, "ustar", 5) == 0;
}
static void cut(const char *path)
{
    truncate_every(path, "pytorch", tar_fill);
}
static void truncation(void **state)
{
    (void)state;
    each(cut);
}

/* ---- written again ---- */

static void open_model(const char *path, struct model *m)
{
    struct read_opt opt = {0};
    const struct format *found;
    struct err e = {0};
    model_init(m);
    if (format_open(path, NULL, &opt, m, &found, &e) != ST_OK)
        fail_msg("%s: %s: %s", path, e.code ? e.code : "", e.reason);
    assert_string_equal(found->name, "pytorch");
}

static void write_model(const struct model *m, const char *path, uint64_t max_shard)
{
    const struct format *fmt = format_find(STR("pytorch"));
    struct plan p;
    struct out *out = NULL;
    struct out_opt oo = {.force = true, .is_dir = max_shard > 0};
    struct write_opt wo = {.max_shard_size = max_shard};
    struct run_opt ro = {.threads = 2};
    struct slab_digests *kept = NULL;
    struct err e = {0};
    plan_init(&p, m);
    enum status st = plan_identity(&p, &e);
    if (st == ST_OK)
        st = plan_prove(&p, 0, &e);
    if (st == ST_OK)
        st = fmt->check(&p.dst, &wo, &e);
    if (st == ST_OK)
        st = out_begin(path, &oo, &out, &e);
    if (st == ST_OK)
        st = run_write(&p, fmt, &wo, &ro, out, &kept, &e);
    if (st == ST_OK)
        st = run_readback(&p, fmt, out_temp_path(out), kept, &ro, &e);
    if (st == ST_OK)
        st = out_publish(out, &e);
    if (st != ST_OK)
        fail_msg("%s: %s: %s", path, e.code ? e.code : "", e.reason);
    slab_digests_free(kept);
    out_end(out);
    plan_free(&p);
}

static void same_tensors(const struct model *a, const struct model *b)
{
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const struct tensor *x = &a->tensor[i];
        int64_t k = model_find(b, x->name);
        size_t n, n_b;
        struct err e = {0};
        assert_true(k >= 0);
        const struct tensor *y = &b->tensor[k];
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->n_dims, y->n_dims);
        assert_memory_equal(x->dim, y->dim, x->n_dims * sizeof x->dim[0]);
        assert_int_equal(x->alias_of < 0, y->alias_of < 0);
        uint8_t *p = eager_read(a, i, &n, &e), *q = eager_read(b, (size_t)k, &n_b, &e);
        assert_true(p && q && n == n_b);
        assert_memory_equal(p, q, n);
        free(p);
        free(q);
    }
}

static void same_tree(const struct node *a, const struct node *b)
{
    const struct node *ra = a, *rb = b;
    for (struct node *x = (struct node *)(uintptr_t)a, *y = (struct node *)(uintptr_t)b; x || y;
         x = node_step(ra, x), y = node_step(rb, y)) {
        assert_true(x && y);
        assert_int_equal(x->kind, y->kind);
        assert_true(str_eq(x->text, y->text));
        assert_true(x->kind == NODE_TENSOR || x->i == y->i);
        assert_true(x->bits[0] == y->bits[0] && x->bits[1] == y->bits[1]);
        assert_int_equal(x->n_children, y->n_children);
        assert_int_equal(!x->key, !y->key);
        assert_true(!x->key || (x->key->kind == y->key->kind &&
                                str_eq(x->key->text, y->key->text) && x->key->i == y->key->i));
    }
}

static char folder[] = "/tmp/nnferry-pytorch-XXXXXX";

static void again(const char *path)
{
    struct model a, b;
    char file[64];
    snprintf(file, sizeof file, "%s/x.pt", folder);
    open_model(path, &a);
    write_model(&a, file, 0);
    open_model(file, &b);
    same_tensors(&a, &b);
    if (!a.has_opaque && a.tree) { /* TorchScript's structure is its code's */
        same_tree(a.tree, b.tree);
        for (size_t i = 0; i < a.n_tensors; i++) {
            int64_t k = model_find(&b, a.tensor[i].name);
            assert_int_equal(a.tensor[i].role, b.tensor[k].role);
            assert_int_equal(a.tensor[i].of < 0, b.tensor[k].of < 0);
        }
    }
    model_free(&b);
    unlink(file);
    model_free(&a);
}
static void round_trip(void **state)
{
    (void)state;
    each(again);
}

static void in_shards(const char *path)
{
    struct model a, b;
    char target[64], command[128];
    snprintf(target, sizeof target, "%s/shards", folder);
    open_model(path, &a);
    write_model(&a, target, 64);
    open_model(target, &b);
    same_tensors(&a, &b);
    model_free(&b);
    model_free(&a);
    snprintf(command, sizeof command, "rm -rf %s", target);
    assert_int_equal(system(command), 0);
}
static void shards(void **state)
{
    (void)state;
    in_shards("tests/golden/torch/state_dict.pt");
    in_shards("tests/golden/torch/views.pt");
}

static void moments_of(const char *path)
{
    struct model m;
    size_t moments = 0;
    open_model(path, &m);
    for (size_t i = 0; i < m.n_tensors; i++) {
        const struct tensor *t = &m.tensor[i];
        if (t->role != ROLE_MOMENT1 && t->role != ROLE_MOMENT2)
            continue;
        moments++;
        assert_true(t->of >= 0);
        assert_int_equal(m.tensor[t->of].role, ROLE_PARAMETER);
        assert_int_equal(m.tensor[t->of].n_dims, t->n_dims);
    }
    assert_true(moments > 0);
    model_free(&m);
}

static void moments_know_their_parameter(void **state)
{
    (void)state;
    moments_of("tests/golden/torch/adam.pt");
    moments_of("tests/golden/torch/lightning.ckpt");
    moments_of("tests/golden/lightning-1.6/lightning.ckpt");
}

/* A trainer's checkpoint: the weights under state_dict, everything else as data beside them. */
static void one_lightning(const char *path)
{
    struct model m;
    golden_check(path, "pytorch");
    truncate_every(path, "pytorch", NULL);
    again(path);
    open_model(path, &m);
    const struct node *hyper = node_get(m.tree, STR("hyper_parameters"));
    assert_non_null(hyper);
    assert_int_equal(node_get(hyper, STR("lr"))->kind, NODE_FLOAT);
    assert_int_equal(node_get(hyper, STR("sizes"))->kind, NODE_TUPLE);
    assert_int_equal(node_get(m.tree, STR("optimizer_states"))->n_children, 1);
    assert_int_equal(node_get(m.tree, STR("lr_schedulers"))->n_children, 1);
    for (size_t i = 0; i < m.n_tensors; i++) {
        const struct tensor *t = &m.tensor[i];
        bool moment = t->role == ROLE_MOMENT1 || t->role == ROLE_MOMENT2;
        assert_true(!moment || t->of >= 0);
        if (t->of >= 0)
            assert_true(str_starts(m.tensor[t->of].name, STR("state_dict.model.")));
    }
    model_free(&m);
}

static void lightning(void **state)
{
    (void)state;
    one_lightning("tests/golden/torch/lightning.ckpt");
    one_lightning("tests/golden/lightning-1.6/lightning.ckpt");
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}
static int drop_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(goldens),
                                       cmocka_unit_test(truncation),
                                       cmocka_unit_test(moments_know_their_parameter),
                                       cmocka_unit_test(lightning),
                                       cmocka_unit_test(round_trip),
                                       cmocka_unit_test(shards)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
