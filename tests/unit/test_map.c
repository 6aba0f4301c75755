/* Mapping: exact numbers through every layer kind, there and back; what is ambiguous is asked. */
#include "base/mem.h"
#include "framework/framework.h"
#include "tests/lib/mapped.h"
#include <stdio.h>

static bool was_asked(const char *line)
{
    struct str s = buf_as_str(&asked), part;
    while (s.p && str_split(&s, '\n', &part))
        if (str_is(part, line))
            return true;
    print_message("asked:\n%.*s\n", (int)asked.n, (const char *)asked.p);
    return false;
}

/* values of a target tensor, its shape checked (dims end with -1) */
static double *got(const struct plan *p, const char *name, ...)
{
    int64_t t = toy_find(&p->dst, name);
    const struct tensor *x = &p->dst.tensor[t];
    va_list ap;
    va_start(ap, name);
    has_shape(x, ap);
    va_end(ap);
    uint64_t n;
    return toy_values(p, (size_t)t, &n);
}

/* The target holds, under every name of m, the same values in the same shape. */
static void assert_same_model(const struct plan *p, const struct model *m)
{
    struct plan id;
    plan_init(&id, m);
    assert_int_equal(plan_identity(&id, &err), ST_OK);
    assert_int_equal(p->dst.n_tensors, m->n_tensors);
    for (size_t i = 0; i < m->n_tensors; i++) {
        char name[256];
        snprintf(name, sizeof name, "%.*s", STR_ARG(m->tensor[i].name));
        size_t j = (size_t)toy_find(&p->dst, name);
        assert_int_equal(p->dst.tensor[j].n_dims, m->tensor[i].n_dims);
        assert_memory_equal(p->dst.tensor[j].dim, m->tensor[i].dim, m->tensor[i].n_dims * 8u);
        uint64_t n, k;
        double *a = toy_values(p, j, &n), *b = toy_values(&id, i, &k);
        assert_int_equal(n, k);
        assert_memory_equal(a, b, n * sizeof *a);
        free(a);
        free(b);
    }
    plan_free(&id);
}

static void linear_to_flax(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "fc.weight", 0, 3, 4, -1);
    toy_add(&m, "fc.bias", 100, 3, -1);
    toy_done(&m);
    must(map_to(&p, &m, (struct map_opt){.to = "flax"}));
    double *k = got(&p, "params.fc.kernel", 4, 3, -1);
    for (int i = 0; i < 4; i++)
        for (int o = 0; o < 3; o++)
            assert_true(k[i * 3 + o] == o * 4 + i);
    free(k);
    free(got(&p, "params.fc.bias", 3, -1));
    assert_int_equal(p.dst.n_tensors, 2);
    plan_free(&p);
    model_free(&m);
}

static void conv_to_flax(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "conv1.weight", 0, 5, 2, 3, -1);
    toy_add(&m, "conv1.bias", 0, 5, -1);
    toy_add(&m, "c2.weight", 0, 5, 2, 3, 4, -1);
    toy_add(&m, "c2.bias", 0, 5, -1);
    toy_add(&m, "conv3.weight", 0, 6, 6, 2, 3, 4, -1); /* equal axes: by name */
    toy_done(&m);
    must(map_to(&p, &m, (struct map_opt){.to = "flax"}));
    double *k = got(&p, "params.conv1.kernel", 3, 2, 5, -1);
    for (int w = 0; w < 3; w++)
        for (int i = 0; i < 2; i++)
            for (int o = 0; o < 5; o++)
                assert_true(k[(w * 2 + i) * 5 + o] == (o * 2 + i) * 3 + w);
    free(k);
    k = got(&p, "params.c2.kernel", 3, 4, 2, 5, -1);
    for (int h = 0; h < 3; h++)
        for (int w = 0; w < 4; w++)
            for (int i = 0; i < 2; i++)
                for (int o = 0; o < 5; o++)
                    assert_true(k[((h * 4 + w) * 2 + i) * 5 + o] == ((o * 2 + i) * 3 + h) * 4 + w);
    free(k);
    k = got(&p, "params.conv3.kernel", 2, 3, 4, 6, 6, -1);
    for (int d = 0; d < 2; d++)
        for (int h = 0; h < 3; h++)
            for (int w = 0; w < 4; w++)
                for (int i = 0; i < 6; i++)
                    for (int o = 0; o < 6; o++)
                        assert_true(k[(((d * 3 + h) * 4 + w) * 6 + i) * 6 + o] ==
                                    (((o * 6 + i) * 2 + d) * 3 + h) * 4 + w);
    free(k);
    plan_free(&p);
    model_free(&m);
}

static void transposed_conv_flips(void **state)
{
    (void)state;
    struct model m, f;
    struct plan p, back;
    model_init(&m);
    toy_add(&m, "up.weight", 0, 2, 5, 3, 4, -1); /* [in,out,h,w] */
    toy_add(&m, "up.bias", 0, 5, -1);
    toy_done(&m);
    must(map_to(&p, &m, (struct map_opt){.to = "flax"}));
    double *k = got(&p, "params.up.kernel", 3, 4, 2, 5, -1);
    for (int h = 0; h < 3; h++)
        for (int w = 0; w < 4; w++)
            for (int i = 0; i < 2; i++)
                for (int o = 0; o < 5; o++)
                    assert_true(k[((h * 4 + w) * 2 + i) * 5 + o] ==
                                ((i * 5 + o) * 3 + (2 - h)) * 4 + (3 - w));
    free(k);
    /* the name "up" says nothing in flax: asked; with a rule, and back */
    toy_freeze(&p, &f);
    assert_int_equal(map_to(&back, &f, (struct map_opt){.to = "pytorch"}), ST_CANNOT);
    assert_true(was_asked("kind \"up\" = ?"));
    plan_free(&back);
    must(map_to(&back, &f,
                (struct map_opt){.to = "pytorch", .rules = STR("kind up = conv_transpose\n")}));
    assert_same_model(&back, &m);
    plan_free(&back);
    plan_free(&p);
    model_free(&f);
    model_free(&m);
}

static void batchnorm_and_back(void **state)
{
    (void)state;
    struct model m, f;
    struct plan p, back;
    model_init(&m);
    toy_add(&m, "bn.weight", 0, 3, -1);
    toy_add(&m, "bn.bias", 10, 3, -1);
    toy_add(&m, "bn.running_mean", 20, 3, -1);
    toy_add(&m, "bn.running_var", 30, 3, -1);
    toy_counter(&m, "bn.num_batches_tracked", 0);
    toy_done(&m);
    must(map_to(&p, &m, (struct map_opt){.to = "flax"}));
    assert_int_equal(p.dst.n_tensors, 4);
    double *v = got(&p, "batch_stats.bn.var", 3, -1);
    assert_true(v[0] == 30);
    free(v);
    free(got(&p, "params.bn.scale", 3, -1));
    free(got(&p, "batch_stats.bn.mean", 3, -1));
    assert_int_equal(p.n_lines, 1);
    assert_true(p.line[0].harmless && p.line[0].kind == LEDGER_DROP);
    toy_freeze(&p, &f);
    must(map_to(&back, &f, (struct map_opt){.to = "pytorch"}));
    assert_same_model(&back, &m); /* the counter is made up as 0 */
    plan_free(&back);
    plan_free(&p);
    model_free(&f);
    model_free(&m);
}

static void norms_and_embedding(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "ln.weight", 0, 4, -1);
    toy_add(&m, "ln.bias", 0, 4, -1);
    toy_add(&m, "gn.weight", 0, 4, -1);
    toy_add(&m, "gn.bias", 0, 4, -1);
    toy_add(&m, "embed.weight", 0, 4, 4, -1); /* square */
    toy_add(&m, "cls_token", 0, 1, 1, 4, -1);
    toy_done(&m);
    must(map_to(&p, &m, (struct map_opt){.to = "flax"}));
    free(got(&p, "params.ln.scale", 4, -1));
    free(got(&p, "params.gn.bias", 4, -1));
    free(got(&p, "params.cls_token", 1, 1, 4, -1));
    double *k = got(&p, "params.embed.embedding", 4, 4, -1);
    for (int i = 0; i < 16; i++)
        assert_true(k[i] == i);
    free(k);
    plan_free(&p);
    model_free(&m);
}

static void attention_model(struct model *m, bool bias)
{
    model_init(m);
    toy_add(m, "attn.in_proj_weight", 0, 18, 6, -1);
    toy_add(m, "attn.out_proj.weight", 1000, 6, 6, -1);
    if (bias) {
        toy_add(m, "attn.in_proj_bias", 2000, 18, -1);
        toy_add(m, "attn.out_proj.bias", 3000, 6, -1);
    }
    toy_done(m);
}

static void attention_and_back(void **state)
{
    (void)state;
    struct model m, f;
    struct plan p, back;
    attention_model(&m, true);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_CANNOT);
    assert_true(was_asked("heads \"attn\" = ?"));
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .rules = STR("heads attn = 3")}));
    double *k = got(&p, "params.attn.key.kernel", 6, 3, 2, -1);
    for (int e = 0; e < 6; e++)
        for (int h = 0; h < 3; h++)
            for (int d = 0; d < 2; d++)
                assert_true(k[(e * 3 + h) * 2 + d] == (6 + h * 2 + d) * 6 + e);
    free(k);
    k = got(&p, "params.attn.out.kernel", 3, 2, 6, -1);
    for (int h = 0; h < 3; h++)
        for (int d = 0; d < 2; d++)
            for (int e = 0; e < 6; e++)
                assert_true(k[(h * 2 + d) * 6 + e] == 1000 + e * 6 + h * 2 + d);
    free(k);
    k = got(&p, "params.attn.value.bias", 3, 2, -1);
    assert_true(k[5] == 2000 + 12 + 5);
    free(k);
    toy_freeze(&p, &f);
    must(map_to(&back, &f, (struct map_opt){.to = "pytorch"}));
    assert_same_model(&back, &m);
    plan_free(&back);
    plan_free(&p);
    model_free(&f);
    model_free(&m);
}

static void flatten_is_asked(void **state)
{
    (void)state;
    struct model m, f;
    struct plan p, back;
    model_init(&m);
    toy_add(&m, "conv.weight", 0, 3, 2, 2, 2, -1);
    toy_add(&m, "conv.bias", 0, 3, -1);
    toy_add(&m, "fc.weight", 0, 2, 12, -1); /* 3 channels of 2x2 */
    toy_add(&m, "fc.bias", 0, 2, -1);
    toy_done(&m);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    assert_true(was_asked("flatten \"fc\" = ?"));
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .rules = STR("flatten fc 3x2x2\n")}));
    double *k = got(&p, "params.fc.kernel", 12, 2, -1);
    for (int s = 0; s < 4; s++)
        for (int c = 0; c < 3; c++)
            for (int o = 0; o < 2; o++)
                assert_true(k[(s * 3 + c) * 2 + o] == o * 12 + c * 4 + s);
    free(k);
    toy_freeze(&p, &f);
    must(map_to(&back, &f, (struct map_opt){.to = "pytorch", .rules = STR("flatten fc = 3")}));
    assert_same_model(&back, &m);
    plan_free(&back);
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .rules = STR("flatten fc = none")}));
    k = got(&p, "params.fc.kernel", 12, 2, -1);
    assert_true(k[2] == 1);
    free(k);
    plan_free(&p);
    model_free(&f);
    model_free(&m);
}

static void open_kind_is_asked(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "0.weight", 0, 4, 4, -1);
    toy_done(&m);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_CANNOT);
    assert_true(was_asked("kind \"0\" = ?"));
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .rules = STR("kind 0 = embedding")}));
    free(got(&p, "params.0.embedding", 4, 4, -1));
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .rules = STR("kind 0 = linear")}));
    free(got(&p, "params.0.kernel", 4, 4, -1));
    plan_free(&p);
    /* canonical spells both alike */
    must(map_to(&p, &m, (struct map_opt){.to = "canonical"}));
    free(got(&p, "0.weight", 4, 4, -1));
    plan_free(&p);
    model_free(&m);
}

static void gpt2_is_a_dense_layer(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "h.0.attn.c_attn.weight", 0, 4, 12, -1); /* [in,out] */
    toy_add(&m, "h.0.attn.c_attn.bias", 0, 12, -1);
    toy_add(&m, "h.0.attn.c_proj.weight", 0, 4, 4, -1);
    toy_add(&m, "h.0.attn.c_proj.bias", 0, 4, -1);
    toy_done(&m);
    must(map_to(&p, &m, (struct map_opt){.to = "flax"})); /* [in,out] both times */
    double *w = got(&p, "params.h.0.attn.c_attn.kernel", 4, 12, -1);
    assert_true(w[1] == 1 && w[12] == 12);
    free(w);
    w = got(&p, "params.h.0.attn.c_proj.kernel", 4, 4, -1); /* square: as its sibling */
    assert_true(w[1] == 1 && w[4] == 4);
    free(w);
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "canonical"}));
    w = got(&p, "h.0.attn.c_attn.weight", 12, 4, -1);
    assert_true(w[1] == 12 && w[4] == 1);
    free(w);
    w = got(&p, "h.0.attn.c_proj.weight", 4, 4, -1);
    assert_true(w[1] == 4 && w[4] == 1);
    free(w);
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "hf_flax"})); /* FlaxConv1D keeps [out,in] */
    w = got(&p, "h.0.attn.c_attn.kernel", 12, 4, -1);
    assert_true(w[1] == 12 && w[4] == 1);
    free(w);
    plan_free(&p);
    model_free(&m);
}

/* ---- canonical and back ---- */

static void canonical_inverts(void **state)
{
    (void)state;
    struct model m, c;
    struct plan p, back;
    attention_model(&m, true);
    must(map_to(&p, &m, (struct map_opt){.to = "canonical"}));
    double *k = got(&p, "attn.k.weight", 6, 6, -1);
    assert_true(k[0] == 36);
    free(k);
    assert_true(p.dst.spelling.n > 0);
    toy_freeze(&p, &c);
    must(map_to(&back, &c, (struct map_opt){.to = "source"}));
    assert_same_model(&back, &m);
    assert_true(str_is(back.dst.framework, "pytorch"));
    plan_free(&back);
    /* and from canonical on to flax */
    must(map_to(&back, &c, (struct map_opt){.to = "flax", .rules = STR("heads attn = 2")}));
    free(got(&back, "params.attn.query.kernel", 6, 2, 3, -1));
    plan_free(&back);
    plan_free(&p);
    model_free(&c);
    model_free(&m);
}

static void canonical_of_flax(void **state)
{
    (void)state;
    struct model m, c;
    struct plan p, back;
    model_init(&m);
    toy_add(&m, "batch_stats.BatchNorm_0.mean", 0, 3, -1);
    toy_add(&m, "batch_stats.BatchNorm_0.var", 5, 3, -1);
    toy_add(&m, "params.BatchNorm_0.bias", 10, 3, -1);
    toy_add(&m, "params.BatchNorm_0.scale", 20, 3, -1);
    toy_add(&m, "params.Conv_0.kernel", 100, 2, 3, 4, 5, -1);
    toy_add(&m, "params.ConvTranspose_0.kernel", 1000, 2, 3, 4, 5, -1);
    toy_add(&m, "params.MHA.key.kernel", 2000, 6, 2, 3, -1);
    toy_add(&m, "params.MHA.out.kernel", 3000, 2, 3, 6, -1);
    toy_add(&m, "params.MHA.query.kernel", 4000, 6, 2, 3, -1);
    toy_add(&m, "params.MHA.value.kernel", 5000, 6, 2, 3, -1);
    toy_add(&m, "params.odd.kernel", 6000, 2, 2, 3, 4, -1); /* open: kept as it came */
    toy_done(&m);
    const struct format *none = NULL;
    (void)none;
    must(map_to(&p, &m, (struct map_opt){.to = "canonical", .rules = STR("kind odd = conv\n")}));
    free(got(&p, "Conv_0.weight", 5, 4, 2, 3, -1));
    free(got(&p, "ConvTranspose_0.weight", 4, 5, 2, 3, -1));
    free(got(&p, "MHA.q.weight", 6, 6, -1));
    free(got(&p, "BatchNorm_0.running_var", 3, -1));
    toy_freeze(&p, &c);
    must(map_to(&back, &c, (struct map_opt){.to = "source"}));
    assert_same_model(&back, &m);
    plan_free(&back);
    plan_free(&p);
    model_free(&c);
    model_free(&m);
}

static void moments_ride(void **state)
{
    (void)state;
    struct model m, c;
    struct plan p, back;
    model_init(&m);
    uint32_t w = toy_add(&m, "model.attn.in_proj_weight", 0, 18, 6, -1);
    toy_add(&m, "model.attn.out_proj.weight", 1000, 6, 6, -1);
    uint32_t v = toy_add(&m, "optimizer.state.0.exp_avg", 5000, 18, 6, -1);
    uint32_t s = toy_add(&m, "optimizer.state.0.step", 7, -1);
    m.tensor[v].role = ROLE_MOMENT1;
    m.tensor[v].of = w;
    m.tensor[s].role = ROLE_COUNTER;
    toy_done(&m);
    static const char *const zeros[] = {"opt_state.*.attn.out.kernel", NULL};
    must(map_to(
        &p, &m,
        (struct map_opt){.to = "flax", .rules = STR("heads *attn = 3"), .allow_synth = zeros}));
    double *k = got(&p, "opt_state.0.mu.attn.query.kernel", 6, 3, 2, -1);
    assert_true(k[1] == 5006);
    free(k);
    k = got(&p, "opt_state.0.count", -1);
    assert_true(k[0] == 7);
    free(k);
    free(got(&p, "params.attn.query.kernel", 6, 3, 2, -1));
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "canonical"}));
    free(got(&p, "optimizer.state.0.exp_avg.q", 6, 6, -1));
    toy_freeze(&p, &c);
    must(map_to(&back, &c, (struct map_opt){.to = "source"}));
    assert_same_model(&back, &m);
    int64_t r = toy_find(&back.dst, "optimizer.state.0.exp_avg");
    assert_int_equal(back.dst.tensor[r].role, ROLE_MOMENT1);
    assert_int_equal(back.dst.tensor[r].of, toy_find(&back.dst, "model.attn.in_proj_weight"));
    plan_free(&back);
    plan_free(&p);
    /* and without it */
    must(map_to(&p, &m, (struct map_opt){.to = "canonical", .drop_train_state = true}));
    assert_int_equal(p.dst.n_tensors, 4);
    plan_free(&p);
    model_free(&c);
    model_free(&m);
}

static void ties_are_kept(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    uint32_t a = toy_add(&m, "embed.weight", 0, 5, 3, -1);
    uint32_t b = toy_add(&m, "lm_head.weight", 0, 5, 3, -1);
    m.tensor[b].storage = m.tensor[a].storage;
    toy_done(&m);
    must(map_to(&p, &m, (struct map_opt){.to = "canonical"}));
    assert_int_equal(p.dst.tensor[toy_find(&p.dst, "lm_head.weight")].alias_of,
                     toy_find(&p.dst, "embed.weight"));
    plan_free(&p);
    /* a table and a kernel are not laid out alike: each its own */
    must(map_to(&p, &m, (struct map_opt){.to = "flax"}));
    free(got(&p, "params.embed.embedding", 5, 3, -1));
    double *k = got(&p, "params.lm_head.kernel", 3, 5, -1);
    assert_true(k[1] == 3);
    free(k);
    assert_int_equal(p.dst.tensor[0].alias_of, -1);
    assert_int_equal(p.dst.tensor[1].alias_of, -1);
    plan_free(&p);
    model_free(&m);
}

/* ---- skeletons ---- */

static void like_by_shape(void **state)
{
    (void)state;
    struct model m, sk;
    struct plan p;
    model_init(&m);
    toy_add(&m, "1.weight", 0, 5, 4, -1); /* open: linear or embedding */
    toy_add(&m, "0.weight", 0, 7, 4, -1);
    toy_done(&m);
    model_init(&sk);
    toy_add(&sk, "params.Dense_0.kernel", 0, 4, 5, -1);
    toy_add(&sk, "params.Embed_0.embedding", 0, 7, 4, -1);
    toy_done(&sk);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .like = &sk}));
    double *k = got(&p, "params.Dense_0.kernel", 4, 5, -1);
    assert_true(k[1] == 4);
    free(k);
    plan_free(&p);
    model_free(&sk);
    model_free(&m);
}

static void like_ambiguous(void **state)
{
    (void)state;
    struct model m, sk;
    struct plan p;
    model_init(&m);
    toy_add(&m, "a.weight", 0, 4, 4, -1);
    toy_add(&m, "b.weight", 50, 4, 4, -1);
    toy_done(&m);
    model_init(&sk);
    toy_add(&sk, "params.x.kernel", 0, 4, 4, -1);
    toy_add(&sk, "params.y.kernel", 0, 4, 4, -1);
    toy_done(&sk);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax", .like = &sk}), ST_CANNOT);
    assert_true(was_asked("\"a\" -> ?"));
    assert_true(was_asked("\"b\" -> ?"));
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .like = &sk, .rules = STR("a -> y\n")}));
    double *k = got(&p, "params.y.kernel", 4, 4, -1);
    assert_true(k[0] == 0);
    free(k);
    plan_free(&p);
    model_free(&sk);
    model_free(&m);
}

static void like_by_number(void **state)
{
    (void)state;
    struct model m, sk;
    struct plan p;
    model_init(&m); /* shuffled, ten comes after two */
    toy_add(&m, "net.10.weight", 300, 4, 4, -1);
    toy_add(&m, "net.10.bias", 0, 4, -1);
    toy_add(&m, "net.0.weight", 100, 4, 4, -1);
    toy_add(&m, "net.0.bias", 0, 4, -1);
    toy_add(&m, "net.2.weight", 200, 4, 4, -1);
    toy_add(&m, "net.2.bias", 0, 4, -1);
    toy_done(&m);
    model_init(&sk);
    for (int i = 2; i >= 0; i--) {
        char name[64];
        snprintf(name, sizeof name, "params.Dense_%d.kernel", i);
        toy_add(&sk, name, 0, 4, 4, -1);
        snprintf(name, sizeof name, "params.Dense_%d.bias", i);
        toy_add(&sk, name, 0, 4, -1);
    }
    toy_done(&sk);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .like = &sk}));
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "params.Dense_%d.kernel", i);
        double *k = got(&p, name, 4, 4, -1);
        assert_true(k[0] == 100 * (i + 1));
        free(k);
    }
    plan_free(&p);
    model_free(&sk);
    model_free(&m);
}

static void like_lacks_a_layer(void **state)
{
    (void)state;
    struct model m, sk;
    struct plan p;
    model_init(&m);
    toy_add(&m, "fc1.weight", 0, 5, 4, -1);
    toy_add(&m, "fc2.weight", 0, 5, 3, -1);
    toy_done(&m);
    model_init(&sk);
    toy_add(&sk, "params.fc1.kernel", 0, 4, 5, -1);
    toy_done(&sk);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax", .like = &sk}), ST_CANNOT);
    assert_true(was_asked("\"fc2\" -> ?"));
    plan_free(&p);
    must(map_to(&p, &m,
                (struct map_opt){.to = "flax",
                                 .like = &sk,
                                 .allow_drop = (const char *const[]){"fc2.*", NULL}}));
    assert_int_equal(p.dst.n_tensors, 1);
    plan_free(&p);
    model_free(&sk);
    model_free(&m);
}

static void options(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "a.weight", 0, 2, 2, -1);
    toy_add(&m, "b.weight", 0, 2, 2, -1);
    toy_done(&m);
    must(map_to(&p, &m,
                (struct map_opt){.select = (const char *const[]){"a.*", NULL},
                                 .dtype = (const char *const[]){"bfloat16", NULL}}));
    assert_int_equal(p.dst.n_tensors, 1);
    assert_int_equal(p.dst.tensor[0].dtype, DT_BF16);
    assert_int_equal(p.recipe[0].part[0].n_ops, 1);
    plan_free(&p);
    assert_int_equal(
        map_to(&p, &m, (struct map_opt){.dtype = (const char *const[]){"nonsense", NULL}}),
        ST_USAGE);
    plan_free(&p);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "nonsense"}), ST_USAGE);
    plan_free(&p);
    /* two tensors under one name */
    assert_int_equal(
        map_to(&p, &m,
               (struct map_opt){.to = "flax", .rules = STR("kind * = linear\na -> c\nb -> c\n")}),
        ST_CANNOT);
    assert_string_equal(err.code, "name-taken");
    plan_free(&p);
    model_free(&m);
}

static void single_tensors(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "proj", 0, 8, 5, -1);
    toy_add(&m, "bias", 0, 3, -1);
    toy_add(&m, "gate", 0, 3, -1);
    toy_done(&m);
    must(map_to(&p, &m,
                (struct map_opt){.from = "pytorch",
                                 .to = "flax",
                                 .rules = STR("proj -> params.proj axes \"(N D) E\" -> \"E N D\" "
                                              "N=4\nbias -> params.b axes C -> \"1 C\"\n"
                                              "gate -> door\n")}));
    double *k = got(&p, "params.proj", 5, 4, 2, -1);
    for (int x = 0; x < 5; x++)
        for (int n = 0; n < 4; n++)
            for (int d = 0; d < 2; d++)
                assert_true(k[(x * 4 + n) * 2 + d] == (n * 2 + d) * 5 + x);
    free(k);
    free(got(&p, "params.b", 1, 3, -1));
    free(got(&p, "params.door", 3, -1));
    plan_free(&p);
    model_free(&m);
}

static void drops_and_makes_up(void **state)
{
    (void)state;
    struct model m, sk;
    struct plan p;
    model_init(&m);
    toy_add(&m, "fc.weight", 0, 5, 4, -1);
    toy_add(&m, "extra", 0, 9, -1);
    toy_done(&m);
    model_init(&sk);
    toy_add(&sk, "params.fc.kernel", 0, 4, 5, -1);
    toy_add(&sk, "params.gate", 0, 2, -1);
    toy_done(&sk);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax", .like = &sk}), ST_CANNOT);
    plan_free(&p);
    must(map_to(&p, &m,
                (struct map_opt){.to = "flax",
                                 .like = &sk,
                                 .rules = STR("drop extra\nsynth params.gate = 1\n")}));
    double *k = got(&p, "params.gate", 2, -1);
    assert_true(k[0] == 1 && k[1] == 1);
    free(k);
    assert_int_equal(p.n_lines, 2);
    assert_int_equal(p.elems_dropped, 9);
    assert_int_equal(p.elems_synth, 2);
    plan_free(&p);
    model_free(&sk);
    model_free(&m);
}

/* One bias of three: joining makes zeros up, which must be allowed by name. */
static void missing_bias(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "params.a.query.kernel", 0, 4, 2, 2, -1);
    toy_add(&m, "params.a.key.kernel", 0, 4, 2, 2, -1);
    toy_add(&m, "params.a.value.kernel", 0, 4, 2, 2, -1);
    toy_add(&m, "params.a.out.kernel", 0, 2, 2, 4, -1);
    toy_add(&m, "params.a.query.bias", 70, 2, 2, -1);
    toy_add(&m, "params.a.value.bias", 90, 2, 2, -1);
    toy_done(&m);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "pytorch"}), ST_CANNOT);
    assert_string_equal(err.code, "ledger");
    plan_free(&p);
    must(map_to(&p, &m,
                (struct map_opt){.to = "pytorch",
                                 .allow_synth = (const char *const[]){"a.in_proj_bias", NULL}}));
    double *k = got(&p, "a.in_proj_bias", 12, -1);
    assert_true(k[0] == 70 && k[4] == 0 && k[7] == 0 && k[8] == 90);
    free(k);
    plan_free(&p);
    /* torch's module holds one width only */
    model_free(&m);
    model_init(&m);
    toy_add(&m, "params.a.query.kernel", 0, 5, 2, 2, -1);
    toy_add(&m, "params.a.key.kernel", 0, 5, 2, 2, -1);
    toy_add(&m, "params.a.value.kernel", 0, 5, 2, 2, -1);
    toy_add(&m, "params.a.out.kernel", 0, 2, 2, 5, -1);
    toy_done(&m);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "pytorch"}), ST_CANNOT);
    assert_string_equal(err.code, "attention-shape");
    plan_free(&p);
    model_free(&m);
}

/* Memory that runs out anywhere is a status, and the next try with more goes further. */
static void little_memory(void **state)
{
    (void)state;
    struct model m, sk;
    struct plan p;
    attention_model(&m, true);
    model_init(&sk);
    toy_add(&sk, "params.a.query.kernel", 0, 6, 3, 2, -1);
    toy_add(&sk, "params.a.key.kernel", 0, 6, 3, 2, -1);
    toy_add(&sk, "params.a.value.kernel", 0, 6, 3, 2, -1);
    toy_add(&sk, "params.a.out.kernel", 0, 3, 2, 6, -1);
    toy_add(&sk, "params.a.query.bias", 0, 3, 2, -1);
    toy_add(&sk, "params.a.key.bias", 0, 3, 2, -1);
    toy_add(&sk, "params.a.value.bias", 0, 3, 2, -1);
    toy_add(&sk, "params.a.out.bias", 0, 6, -1);
    toy_done(&sk);
    for (int way = 0; way < 2; way++) {
        struct map_opt o = {.to = way ? "flax" : "canonical", .like = way ? &sk : NULL};
        enum status st = ST_LIMIT;
        size_t tries = 0;
        for (uint64_t room = 64; st == ST_LIMIT && room < (4u << 20); room += 512, tries++) {
            mem_set_ceiling(mem_in_use() + room);
            st = map_to(&p, &m, o);
            mem_set_ceiling(0);
            plan_free(&p);
            buf_free(&asked);
        }
        must(st);
        assert_true(tries > 10);
    }
    model_free(&sk);
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_to_flax),        cmocka_unit_test(conv_to_flax),
        cmocka_unit_test(transposed_conv_flips), cmocka_unit_test(batchnorm_and_back),
        cmocka_unit_test(norms_and_embedding),   cmocka_unit_test(attention_and_back),
        cmocka_unit_test(flatten_is_asked),      cmocka_unit_test(open_kind_is_asked),
        cmocka_unit_test(gpt2_is_a_dense_layer), cmocka_unit_test(canonical_inverts),
        cmocka_unit_test(canonical_of_flax),     cmocka_unit_test(moments_ride),
        cmocka_unit_test(ties_are_kept),         cmocka_unit_test(like_by_shape),
        cmocka_unit_test(like_ambiguous),        cmocka_unit_test(like_by_number),
        cmocka_unit_test(like_lacks_a_layer),    cmocka_unit_test(options),
        cmocka_unit_test(single_tensors),        cmocka_unit_test(drops_and_makes_up),
        cmocka_unit_test(missing_bias),          cmocka_unit_test(little_memory),
    };
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    buf_free(&asked);
    return r;
}
