/* Haiku: recognition of its trees, its names both ways, the averages of batch norms, what is asked.
 */
#include "convert/map.h"
#include "framework/framework.h"
#include "framework/rules.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m, made;
static struct plan p;
static struct arena arena;
static struct layers found;
static struct err err;
static struct buf asked;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    return 0;
}
static int end(void **state)
{
    (void)state;
    arena_free(&arena);
    model_free(&m);
    buf_free(&asked);
    return 0;
}

static enum status map_to(const struct model *src, struct map_opt o)
{
    plan_init(&p, src);
    memset(&err, 0, sizeof err);
    buf_free(&asked);
    asked = (struct buf)BUF_INIT;
    return map_plan(&p, &o, NULL, 0, &asked, &err);
}

static void must(enum status st)
{
    if (st != ST_OK)
        fail_msg("%s: %s (%s)\n%.*s", err.code ? err.code : "-", err.reason, err.tensor,
                 (int)asked.n, (const char *)asked.p);
}

static void refused(enum status st, const char *code, const char *line)
{
    assert_int_equal(st, ST_CANNOT);
    assert_string_equal(err.code, code);
    if (line && str_find_str(buf_as_str(&asked), str_from(line), 0) == asked.n)
        fail_msg("not asked: %s\n%.*s", line, (int)asked.n, (const char *)asked.p);
    plan_free(&p);
}

/* shape (ends with -1) and first value of a target tensor */
static double first(const char *name, ...)
{
    int64_t t = toy_find(&p.dst, name);
    const struct tensor *x = &p.dst.tensor[t];
    size_t d = 0;
    uint64_t n;
    va_list ap;
    va_start(ap, name);
    for (int k = va_arg(ap, int); k >= 0; k = va_arg(ap, int), d++) {
        assert_true(d < x->n_dims);
        assert_int_equal(x->dim[d], k);
    }
    va_end(ap);
    assert_int_equal(d, x->n_dims);
    double *v = toy_values(&p, (size_t)t, &n), out = v[0];
    free(v);
    return out;
}

static void recognise(void)
{
    toy_done(&m);
    const struct framework *f = framework_of(&m);
    assert_non_null(f);
    assert_string_equal(f->name, "haiku");
    if (f->layers(&m, &arena, &found, &err) != ST_OK)
        fail_msg("%s", err.reason);
}

static const struct layer *is(const char *path, enum layer_kind kind, unsigned kinds)
{
    for (size_t i = 0; i < found.n; i++) {
        const struct layer *l = &found.layer[i];
        if (!str_is(l->path, path))
            continue;
        if (l->kind != kind || l->kinds != kinds)
            fail_msg("%s is %s (%x): %.*s", path, layer_kind_name(l->kind), l->kinds,
                     STR_ARG(l->reason));
        return l;
    }
    fail_msg("no layer %s", path);
    return NULL;
}
#define ONE(k) LAYER_##k, KIND_BIT(LAYER_##k)

/* A batch norm as Haiku holds it, below "params." and "state."; three of its averages differ. */
static void add_norm(const char *params, const char *state)
{
    char name[64];
    static const char *const leaf[] = {"scale", "offset"};
    static const char *const ema[] = {"mean_ema.average", "mean_ema.hidden", "var_ema.average",
                                      "var_ema.hidden"};
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%sblock/~/bn.%s", params, leaf[i]);
        toy_add(&m, name, 10 * (i + 1), 1, 1, 1, 3, -1);
    }
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%sblock/~/bn/~/%s", state, ema[i]);
        toy_add(&m, name, 100 * (i + 1), 1, 1, 1, 3, -1);
        m.tensor[m.n_tensors - 1].role = ROLE_STATISTIC;
    }
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%sblock/~/bn/~/%s.counter", state, i ? "var_ema" : "mean_ema");
        toy_counter(&m, name, 7);
        m.tensor[m.n_tensors - 1].role = ROLE_COUNTER;
    }
}

static void layers(void **state)
{
    const unsigned conv_or = KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE);
    (void)state;
    toy_add(&m, "params.mlp/~/linear_0.w", 0, 4, 4, -1);
    toy_add(&m, "params.mlp/~/linear_0.b", 0, 4, -1);
    toy_add(&m, "params.a.w", 0, 3, 2, 5, -1);
    toy_add(&m, "params.a.b", 0, 5, -1);
    toy_add(&m, "params.c.w", 0, 3, 5, 2, -1);
    toy_add(&m, "params.c.b", 0, 5, -1);
    toy_add(&m, "params.conv2_d_transpose.w", 0, 3, 3, 2, 2, -1);
    toy_add(&m, "params.conv2_d.w", 0, 3, 3, 2, 2, -1);
    toy_add(&m, "params.d.w", 0, 3, 3, 2, 2, -1);
    toy_add(&m, "params.odd.w", 0, 3, 2, -1);
    toy_add(&m, "params.odd.b", 0, 7, -1);
    toy_add(&m, "params.embed.embeddings", 0, 7, 2, -1);
    toy_add(&m, "params.layer_norm.scale", 0, 3, -1);
    toy_add(&m, "params.layer_norm.offset", 0, 3, -1);
    toy_add(&m, "params.group_norm.scale", 0, 3, -1);
    toy_add(&m, "params.instance_norm.offset", 0, 3, -1);
    toy_add(&m, "params.lone.scale", 0, 1, 3, -1);
    toy_add(&m, "params.~.cls", 0, 3, -1);
    toy_add(&m, "params.__layer_stack_no_per_layer/linear.w", 0, 6, 3, 3, -1);
    static const char *const child[] = {"query", "key", "value", "linear"};
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "params.net/~encode/mha/%s.w", child[i]);
        toy_add(&m, name, 0, 4, 4, -1);
    }
    add_norm("params.", "state.");
    recognise();
    is("mlp.linear_0", ONE(LINEAR));
    is("a", ONE(CONV));
    assert_true(is("c", ONE(CONV_TRANSPOSE))->flip);
    is("conv2_d_transpose", ONE(CONV_TRANSPOSE));
    is("conv2_d", ONE(CONV));
    is("d", LAYER_NONE, conv_or);
    is("odd", LAYER_NONE, 0);
    is("embed", ONE(EMBEDDING));
    is("layer_norm", ONE(LAYERNORM));
    is("group_norm", ONE(GROUPNORM));
    is("instance_norm", LAYER_LAYERNORM, KIND_BIT(LAYER_LAYERNORM) | KIND_BIT(LAYER_GROUPNORM));
    assert_int_equal(is("lone", ONE(BATCHNORM))->rank, 1);
    is("cls", ONE(PARAM));
    is("__layer_stack_no_per_layer.linear.w", ONE(PARAM));
    is("net.encode.mha", ONE(ATTENTION));
    const struct layer *bn = is("block.bn", ONE(BATCHNORM));
    assert_int_equal(bn->rank, 3);
    for (int k = 0; k < LEAF_N; k++)
        assert_int_equal(bn->tensor[k] >= 0, k == LEAF_WEIGHT || k == LEAF_BIAS || k == LEAF_MEAN ||
                                                 k == LEAF_VAR ||
                                                 (leaf_is_count((enum leaf)k) && k > LEAF_COUNT &&
                                                  k <= LEAF_VAR_COUNT));
}

/* The names of a dict, of a tuple, and bare; a list of two models is no tuple. */
static void collections(void **state)
{
    (void)state;
    add_norm("0.", "1.");
    recognise();
    assert_int_equal(found.n, 1);
    is("block.bn", ONE(BATCHNORM));
    model_free(&m);
    model_init(&m);
    add_norm("", "");
    recognise();
    assert_int_equal(found.n, 1);
    model_free(&m);
    model_init(&m);
    toy_add(&m, "0.a/~/b.w", 0, 3, 3, -1);
    toy_add(&m, "1.a/~/b.w", 0, 3, 3, -1);
    recognise();
    is("0.a.b", ONE(LINEAR));
    is("1.a.b", ONE(LINEAR));
}

/* Two modules that only a tilde tells apart keep theirs. */
static void tildes(void **state)
{
    (void)state;
    toy_add(&m, "a/~/linear.w", 0, 3, 2, -1);
    toy_add(&m, "a/linear.w", 50, 3, 2, -1);
    recognise();
    is("a.~.linear", ONE(LINEAR));
    is("a.linear", ONE(LINEAR));
    must(map_to(&m, (struct map_opt){.to = "pytorch"}));
    assert_true(first("a.~.linear.weight", 2, 3, -1) == 0);
    assert_true(first("a.linear.weight", 2, 3, -1) == 50);
    plan_free(&p);
}

static void who_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *name, *framework;
    } one[] = {
        {"mlp/~/linear_0.w", "haiku"},
        {"net/linear.w", "haiku"},
        {"~.w", NULL}, /* a lone w says nothing */
        {"fc.w", NULL},
        {"params.a/~/b.kernel", "flax"},
        {"a/b.weight", "pytorch"},
    };
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        model_free(&m);
        model_init(&m);
        toy_add(&m, one[i].name, 0, 3, 2, -1);
        toy_done(&m);
        const struct framework *f = framework_of(&m);
        if (!f != !one[i].framework || (f && strcmp(f->name, one[i].framework) != 0))
            fail_msg("%s is %s", one[i].name, f ? f->name : "nobody's");
    }
    m.framework = STR("haiku");
    assert_string_equal(framework_of(&m)->name, "haiku");
}

/* PyTorch's average is hidden and average at once; its counts are past all debiasing. */
static void norm_from_torch(void **state)
{
    (void)state;
    toy_add(&m, "conv.weight", 0, 3, 2, 2, 2, -1);
    toy_add(&m, "bn.weight", 10, 3, -1);
    toy_add(&m, "bn.bias", 20, 3, -1);
    toy_add(&m, "bn.running_mean", 30, 3, -1);
    toy_add(&m, "bn.running_var", 40, 3, -1);
    toy_counter(&m, "bn.num_batches_tracked", 17);
    toy_done(&m);
    must(map_to(&m, (struct map_opt){.to = "haiku"}));
    assert_true(first("params.conv.w", 2, 2, 2, 3, -1) == 0);
    assert_true(first("params.bn.scale", 1, 1, 1, 3, -1) == 10);
    assert_true(first("params.bn.offset", 1, 1, 1, 3, -1) == 20);
    assert_true(first("state.bn/~/mean_ema.average", 1, 1, 1, 3, -1) == 30);
    assert_true(first("state.bn/~/mean_ema.hidden", 1, 1, 1, 3, -1) == 30);
    assert_true(first("state.bn/~/var_ema.average", 1, 1, 1, 3, -1) == 40);
    assert_true(first("state.bn/~/var_ema.hidden", 1, 1, 1, 3, -1) == 40);
    assert_true(first("state.bn/~/mean_ema.counter", -1) == 1073741824.0);
    assert_true(first("state.bn/~/var_ema.counter", -1) == 1073741824.0);
    assert_int_equal(p.dst.n_tensors, 9);
    size_t made_up = 0;
    for (size_t i = 0; i < p.n_lines; i++) {
        assert_true(p.line[i].harmless);
        made_up += p.line[i].kind == LEDGER_SYNTH;
    }
    assert_int_equal(made_up, 2);
    for (size_t i = 0; i < p.dst.n_tensors; i++) /* they share nothing */
        assert_true(p.dst.tensor[i].alias_of < 0);
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_to(&made, (struct map_opt){.to = "pytorch"}));
    assert_true(first("bn.running_var", 3, -1) == 40);
    assert_true(first("conv.weight", 3, 2, 2, 2, -1) == 0);
    assert_int_equal(p.dst.n_tensors, 6);
    plan_free(&p);
    model_free(&made);
}

/* Through canonical and back to the source, everything; to Haiku again, too. */
static void norm_of_haiku(void **state)
{
    (void)state;
    add_norm("params.", "state.");
    toy_done(&m);
    must(map_to(&m, (struct map_opt){.to = "canonical"}));
    assert_true(first("block.bn.mean_hidden", 3, -1) == 200);
    assert_true(first("block.bn.var_count", -1) == 7);
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_to(&made, (struct map_opt){.to = "source"}));
    assert_int_equal(p.dst.n_tensors, m.n_tensors);
    assert_true(first("state.block/~/bn/~/var_ema.hidden", 1, 1, 1, 3, -1) == 400);
    assert_true(first("state.block/~/bn/~/mean_ema.counter", -1) == 7);
    plan_free(&p);
    must(map_to(&made, (struct map_opt){.to = "haiku"}));
    assert_true(first("state.block/bn/~/var_ema.hidden", 1, 1, 1, 3, -1) == 400);
    assert_true(first("state.block/bn/~/var_ema.counter", -1) == 7);
    plan_free(&p);
    must(map_to(&made, (struct map_opt){.to = "pytorch"}));
    assert_true(first("block.bn.running_mean", 3, -1) == 100);
    assert_int_equal(p.dst.n_tensors, 5);
    plan_free(&p);
    model_free(&made);
    /* hidden without its count is no average's: both are made anew */
    must(map_to(&m, (struct map_opt){
                        .to = "canonical",
                        .allow_drop = (const char *const[]){"*", NULL},
                        .select = (const char *const[]){"*average", "*hidden", "*scale", NULL}}));
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_to(&made, (struct map_opt){.to = "haiku"}));
    assert_true(first("state.block/bn/~/var_ema.hidden", 1, 1, 1, 3, -1) == 300);
    assert_true(first("state.block/bn/~/var_ema.counter", -1) == 1073741824.0);
    plan_free(&p);
    model_free(&made);
}

static void add_torch_norm(const char *path, int n)
{
    char name[64];
    snprintf(name, sizeof name, "%s.running_mean", path);
    toy_add(&m, name, 30, n, -1);
    snprintf(name, sizeof name, "%s.running_var", path);
    toy_add(&m, name, 40, n, -1);
}

static void how_many_axes(void **state)
{
    (void)state;
    /* nothing of its width: asked, and answered */
    toy_add(&m, "fc.weight", 0, 5, 4, -1);
    toy_add(&m, "fc.bias", 0, 5, -1);
    add_torch_norm("alone", 7);
    toy_done(&m);
    refused(map_to(&m, (struct map_opt){.to = "haiku"}), "map-ambiguous", "rank \"alone\" = ?");
    must(map_to(&m, (struct map_opt){.to = "haiku", .rules = STR("rank alone = 3\n")}));
    first("state.alone/~/mean_ema.average", 1, 1, 7, -1);
    plan_free(&p);
    /* a dense layer of its width, and nothing that makes sequences */
    model_free(&m);
    model_init(&m);
    toy_add(&m, "fc.weight", 0, 5, 4, -1);
    toy_add(&m, "fc.bias", 0, 5, -1);
    add_torch_norm("bn", 5);
    toy_done(&m);
    must(map_to(&m, (struct map_opt){.to = "haiku"}));
    first("state.bn/~/mean_ema.average", 1, 5, -1);
    plan_free(&p);
    /* both a dense layer and a convolution: asked, unless numbers order them */
    model_free(&m);
    model_init(&m);
    toy_add(&m, "fc.weight", 0, 5, 4, -1);
    toy_add(&m, "fc.bias", 0, 5, -1);
    toy_add(&m, "conv.weight", 0, 5, 2, 3, -1);
    toy_add(&m, "conv.bias", 0, 5, -1);
    add_torch_norm("bn", 5);
    toy_done(&m);
    refused(map_to(&m, (struct map_opt){.to = "haiku"}), "map-ambiguous", "rank \"bn\" = ?");
    model_free(&m);
    model_init(&m);
    toy_add(&m, "0.weight", 0, 5, 2, 3, -1);
    toy_add(&m, "0.bias", 0, 5, -1);
    add_torch_norm("1", 5);
    toy_add(&m, "2.weight", 0, 5, 5, -1);
    toy_add(&m, "2.bias", 0, 5, -1);
    add_torch_norm("3", 5);
    toy_done(&m);
    must(map_to(&m, (struct map_opt){.to = "haiku"}));
    first("state.1/~/mean_ema.average", 1, 1, 5, -1);
    first("state.3/~/mean_ema.average", 1, 5, -1);
    plan_free(&p);
    /* a skeleton knows */
    struct model sk;
    model_init(&sk);
    toy_add(&sk, "state.norm/~/mean_ema.average", 0, 1, 1, 1, 5, -1);
    toy_add(&sk, "state.norm/~/var_ema.average", 0, 1, 1, 1, 5, -1);
    toy_done(&sk);
    model_free(&m);
    model_init(&m);
    add_torch_norm("bn", 5);
    toy_done(&m);
    must(map_to(&m, (struct map_opt){.to = "haiku", .like = &sk}));
    assert_true(first("state.norm/~/var_ema.average", 1, 1, 1, 5, -1) == 40);
    plan_free(&p);
    model_free(&sk);
}

static void names(void **state)
{
    (void)state;
    toy_add(&m, "weight", 0, 3, 2, -1);
    toy_add(&m, "bias", 0, 3, -1);
    toy_add(&m, "cls", 5, 3, -1);
    toy_add(&m, "a.b.fc.weight", 0, 3, 2, -1);
    toy_add(&m, "a.b.fc.bias", 0, 3, -1);
    toy_add(&m, "a.pos", 6, 3, -1);
    toy_done(&m);
    must(map_to(&m, (struct map_opt){.to = "haiku"}));
    first("params.~.w", 2, 3, -1);
    first("params.~.b", 3, -1);
    assert_true(first("params.~.cls", 3, -1) == 5);
    assert_true(first("params.a.pos", 3, -1) == 6);
    first("params.a/b/fc.w", 2, 3, -1);
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_to(&made, (struct map_opt){.from = "haiku", .to = "pytorch"}));
    first("weight", 3, 2, -1);
    first("cls", 3, -1);
    first("a.pos", 3, -1);
    first("a.b.fc.bias", 3, -1);
    plan_free(&p);
    model_free(&made);
    model_free(&m);
    model_init(&m);
    toy_add(&m, "a/b.weight", 0, 3, 2, -1);
    toy_add(&m, "a/b.bias", 0, 3, -1);
    toy_done(&m);
    refused(map_to(&m, (struct map_opt){.to = "haiku"}), "name-not-spelled", NULL);
}

/* Heads are asked about only where one side parts them from their width. */
static void heads(void **state)
{
    (void)state;
    toy_add(&m, "attn.in_proj_weight", 0, 12, 4, -1);
    toy_add(&m, "attn.in_proj_bias", 100, 12, -1);
    toy_add(&m, "attn.out_proj.weight", 200, 4, 4, -1);
    toy_done(&m);
    must(map_to(&m, (struct map_opt){.to = "haiku"}));
    assert_true(first("params.attn/key.w", 4, 4, -1) == 16);
    assert_true(first("params.attn/value.b", 4, -1) == 108);
    uint64_t n;
    double *v = toy_values(&p, (size_t)toy_find(&p.dst, "params.attn/query.w"), &n);
    for (int i = 0; i < 4; i++)
        for (int o = 0; o < 4; o++)
            assert_true(v[i * 4 + o] == o * 4 + i);
    free(v);
    toy_freeze(&p, &made);
    plan_free(&p);
    refused(map_to(&made, (struct map_opt){.to = "flax"}), "map-ambiguous", "heads \"attn\" = ?");
    must(map_to(&made, (struct map_opt){.to = "pytorch"}));
    assert_true(first("attn.in_proj_weight", 12, 4, -1) == 0);
    plan_free(&p);
    must(map_to(&made, (struct map_opt){.to = "pytorch", .like = &m}));
    assert_true(first("attn.in_proj_bias", 12, -1) == 100);
    plan_free(&p);
    model_free(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layers, begin, end),
        cmocka_unit_test_setup_teardown(collections, begin, end),
        cmocka_unit_test_setup_teardown(tildes, begin, end),
        cmocka_unit_test_setup_teardown(who_it_is, begin, end),
        cmocka_unit_test_setup_teardown(norm_from_torch, begin, end),
        cmocka_unit_test_setup_teardown(norm_of_haiku, begin, end),
        cmocka_unit_test_setup_teardown(how_many_axes, begin, end),
        cmocka_unit_test_setup_teardown(names, begin, end),
        cmocka_unit_test_setup_teardown(heads, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
