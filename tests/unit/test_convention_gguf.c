/* GGUF's convention: models of several families, every extent that may be equal equal, written as
 * GGUF and validated layer by layer against what Hugging Face computes. Layers whose rows llama.cpp
 * keeps in an order of its own stay unproven by themselves; those rows are held against its
 * formulas here. Every entry of GGUF's rules altered must show.
 */
#include "convert/map.h"
#include "convert/pair.h"
#include "framework/rules.h"
#include "tests/lib/toy.h"
#include "validate/convention.h"
#include "validate/validate.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { W = 8, N_HEADS = 2 }; /* width of everything; rows of a head: 4 */
static const struct family_net {
    const char *type, *arch;
    struct {
        const char *name;
        uint64_t dim[2];
    } t[12];
    const char *turned[2]; /* "HF GGUF", of layers whose rows are turned */
} nets[] = {
    {"gpt2",
     "gpt2",
     {{"transformer.wte.weight", {W, W}},
      {"transformer.wpe.weight", {W, W}},
      {"transformer.h.0.ln_1.weight", {W, 0}},
      {"transformer.h.0.ln_1.bias", {W, 0}},
      {"transformer.h.0.attn.c_attn.weight", {W, 3 * W}},
      {"transformer.h.0.attn.c_attn.bias", {3 * W, 0}},
      {"transformer.h.0.attn.c_proj.weight", {W, W}},
      {"transformer.h.0.attn.c_proj.bias", {W, 0}},
      {"transformer.h.0.mlp.c_fc.weight", {W, W}},
      {"transformer.h.0.mlp.c_fc.bias", {W, 0}}},
     {NULL}},
    {"qwen2",
     "qwen2",
     {{"model.embed_tokens.weight", {W, W}},
      {"model.layers.0.self_attn.q_proj.weight", {W, W}},
      {"model.layers.0.self_attn.q_proj.bias", {W, 0}},
      {"model.layers.0.mlp.up_proj.weight", {W, W}},
      {"model.layers.0.input_layernorm.weight", {W, 0}}},
     {NULL}},
    {"llama",
     "llama",
     {{"model.embed_tokens.weight", {W, W}},
      {"model.layers.0.self_attn.q_proj.weight", {W, W}},
      {"model.layers.0.self_attn.q_proj.bias", {W, 0}},
      {"model.layers.0.self_attn.k_proj.weight", {W, W}},
      {"model.layers.0.self_attn.k_proj.bias", {W, 0}},
      {"model.layers.0.self_attn.o_proj.weight", {W, W}},
      {"model.layers.0.input_layernorm.weight", {W, 0}}},
     {"model.layers.0.self_attn.q_proj blk.0.attn_q",
      "model.layers.0.self_attn.k_proj blk.0.attn_k"}},
    {"gemma2",
     "gemma2",
     {{"model.embed_tokens.weight", {W, W}},
      {"model.layers.0.self_attn.q_proj.weight", {W, W}},
      {"model.layers.0.pre_feedforward_layernorm.weight", {W, 0}},
      {"model.layers.0.post_feedforward_layernorm.weight", {W, 0}},
      {"model.layers.0.input_layernorm.weight", {W, 0}}},
     {NULL}},
    {"gpt_neox",
     "gptneox",
     {{"gpt_neox.embed_in.weight", {W, W}},
      {"gpt_neox.layers.0.attention.query_key_value.weight", {3 * W, W}},
      {"gpt_neox.layers.0.attention.query_key_value.bias", {3 * W, 0}},
      {"gpt_neox.layers.0.attention.dense.weight", {W, W}},
      {"gpt_neox.layers.0.input_layernorm.weight", {W, 0}},
      {"gpt_neox.layers.0.input_layernorm.bias", {W, 0}}},
     {"gpt_neox.layers.0.attention.query_key_value blk.0.attn_qkv"}},
};
#define N_NETS (sizeof nets / sizeof *nets)

static void build(struct model *m, const struct family_net *f)
{
    struct attachment *a;
    struct err e;
    model_init(m);
    struct str text = arena_fmt(&m->arena,
                                "{\"model_type\": \"%s\", \"num_attention_heads\": %d, "
                                "\"num_key_value_heads\": %d}",
                                f->type, N_HEADS, N_HEADS);
    assert_int_equal(model_attach(m, &a, &e), ST_OK);
    a->name = STR("config.json");
    a->mem = (const uint8_t *)text.p;
    a->n_bytes = text.n;
    for (size_t i = 0; f->t[i].name; i++) {
        uint32_t t = toy_tensor(m, f->t[i].name, 0, f->t[i].dim, f->t[i].dim[1] ? 2 : 1);
        float *p = (float *)(uintptr_t)m->storage[m->tensor[t].storage].mem;
        for (uint64_t k = 0; k < tensor_elems(&m->tensor[t]); k++)
            p[k] = sinf((float)k * 1.7f + (float)i) * 0.6f;
    }
    toy_done(m);
}

/* What GGUF's converter does to rows: pairs side by side; q of all heads first, then k and v. */
static uint64_t row_from(bool qkv, uint64_t r, uint64_t rows)
{
    uint64_t each = rows / N_HEADS, half = each / 2, part = rows / N_HEADS / 3;
    return qkv ? r / part % N_HEADS * each + r / part / N_HEADS * part + r % part
               : r / each * each + r % 2 * half + r % each / 2;
}

static bool rows_hold(const struct model *m, const struct model *g, const char *pair,
                      const char *leaf)
{
    char from[96], to[96];
    size_t n = (size_t)(strchr(pair, ' ') - pair);
    snprintf(from, sizeof from, "%.*s.%s", (int)n, pair, leaf);
    snprintf(to, sizeof to, "%s.%s", pair + n + 1, leaf);
    int64_t a = model_find(m, str_from(from)), b = model_find(g, str_from(to));
    if (a < 0 || b < 0)
        return false;
    const struct tensor *ta = &m->tensor[a];
    const float *x = (const float *)(const void *)m->storage[ta->storage].mem,
                *y = (const float *)(const void *)g->storage[g->tensor[b].storage].mem;
    uint64_t rows = ta->dim[0], cols = tensor_elems(ta) / rows;
    for (uint64_t r = 0; r < rows; r++)
        if (memcmp(y + r * cols, x + row_from(strstr(pair, "qkv") != NULL, r, rows) * cols,
                   (size_t)cols * sizeof *x) != 0)
            return false;
    return true;
}

static bool is_turned(const struct family_net *f, struct str path)
{
    for (size_t i = 0; i < 2 && f->turned[i]; i++)
        if (str_starts(str_from(f->turned[i]), path) && f->turned[i][path.n] == ' ')
            return true;
    return false;
}

static const struct validate_opt by_layer = {.level = VALIDATE_LAYER,
                                             .device = "native",
                                             .seed = 1,
                                             .rtol = NAN,
                                             .atol = NAN,
                                             .min_coverage = NAN,
                                             .run = {.threads = 1}};

/* Converted, every layer proven but those whose rows are turned, and those as they should be? */
static bool holds(const struct family_net *f)
{
    struct model m, g;
    struct plan p, ia, ib;
    struct pairing pr;
    struct validate_report r = {0};
    struct err e = {0};
    build(&m, f);
    plan_init(&p, &m);
    struct map_opt o = {.from = "hf", .to = "gguf"};
    bool ok = map_plan(&p, &o, NULL, 0, NULL, &e) == ST_OK;
    if (!ok) {
        plan_free(&p);
        model_free(&m);
        return false;
    }
    toy_freeze(&p, &g);
    g.format = "gguf";
    struct str key = arena_fmt(&g.arena, "%s.attention.head_count", f->arch),
               kv = arena_fmt(&g.arena, "%s.attention.head_count_kv", f->arch);
    assert_int_equal(model_meta_add(&g, STR("general.architecture"), str_from(f->arch), &e), 0);
    assert_int_equal(model_meta_add(&g, key, STR("2"), &e), 0);
    assert_int_equal(model_meta_add(&g, kv, STR("2"), &e), 0);
    plan_init(&ia, &m);
    plan_init(&ib, &g);
    assert_int_equal(plan_identity(&ia, &e), ST_OK);
    assert_int_equal(plan_identity(&ib, &e), ST_OK);
    struct pair_opt po = {.from = {"hf", "gguf"}};
    ok = pair_layers(&m, &g, &po, &pr, &e) == ST_OK;
    if (ok) {
        ok = validate_run(&ia, &pr.layers[0], "hf", &ib, &pr.layers[1], "gguf", pr.pair, &by_layer,
                          &r, &e) == ST_OK;
        for (size_t i = 0; ok && i < r.n; i++) {
            bool turned = is_turned(f, r.layer[i].path_a.n ? r.layer[i].path_a : r.layer[i].path_b);
            ok = r.layer[i].verdict == (turned ? VERDICT_UNPROVEN : VERDICT_EQUAL);
        }
        pair_free(&pr);
    }
    for (size_t i = 0; ok && i < 2 && f->turned[i]; i++)
        ok = rows_hold(&m, &g, f->turned[i], "weight") && rows_hold(&m, &g, f->turned[i], "bias");
    validate_free(&r);
    plan_free(&ia);
    plan_free(&ib);
    plan_free(&p);
    model_free(&g);
    model_free(&m);
    return ok;
}

static void layers_are_proven(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_NETS; i++)
        if (!holds(&nets[i]))
            fail_msg("%s", nets[i].type);
}

/* A tensor of other numbers, as if it had been written wrong: told at its layer. */
static void another_number_is_told(void **state)
{
    (void)state;
    assert_non_null(convention_find("gguf"));
    struct model m;
    struct plan a, b;
    struct pairing pr;
    struct validate_report r = {0};
    struct err e = {0};
    build(&m, &nets[0]);
    plan_init(&a, &m);
    struct map_opt o = {.from = "hf", .to = "gguf"};
    assert_int_equal(map_plan(&a, &o, NULL, 0, NULL, &e), ST_OK);
    struct model g;
    toy_freeze(&a, &g);
    g.format = "gguf";
    assert_int_equal(model_meta_add(&g, STR("general.architecture"), STR("gpt2"), &e), 0);
    struct tensor *t = &g.tensor[toy_find(&g, "blk.0.attn_output.weight")];
    float *p = (float *)(uintptr_t)g.storage[t->storage].mem, old = p[1];
    p[1] = p[W]; /* one transposed pair is enough */
    p[W] = old;
    plan_free(&a);
    plan_init(&a, &m);
    plan_init(&b, &g);
    assert_int_equal(plan_identity(&a, &e), ST_OK);
    assert_int_equal(plan_identity(&b, &e), ST_OK);
    struct pair_opt po = {.from = {"hf", "gguf"}};
    assert_int_equal(pair_layers(&m, &g, &po, &pr, &e), ST_OK);
    assert_int_equal(validate_run(&a, &pr.layers[0], "hf", &b, &pr.layers[1], "gguf", pr.pair,
                                  &by_layer, &r, &e),
                     ST_OK);
    assert_int_equal(r.overall, VERDICT_DIFFERS);
    assert_int_equal(r.n_differs, 1);
    validate_free(&r);
    pair_free(&pr);
    plan_free(&a);
    plan_free(&b);
    model_free(&g);
    model_free(&m);
}

#ifdef NNFERRY_MUTATE
static void each_entry(void **state)
{
    (void)state;
    const struct framework *fw = framework_find(STR("gguf"));
    size_t survivors = 0;
    for (int i = 0; i < (int)fw->rules->n; i++) {
        bool told = false;
        assert_true(rules_mutate(fw, i));
        for (size_t k = 0; k < N_NETS && !told; k++)
            told = !holds(&nets[k]);
        assert_true(rules_mutate(fw, -1));
        survivors += !told;
        if (!told)
            print_message("survives: gguf entry %d (%s %s)\n", i,
                          layer_kind_name(fw->rules->leaf[i].kind),
                          leaf_name(fw->rules->leaf[i].leaf));
    }
    print_message("%zu entries altered, %zu survivors\n", fw->rules->n, survivors);
    assert_int_equal(survivors, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_are_proven),
        cmocka_unit_test(another_number_is_told),
#ifdef NNFERRY_MUTATE
        cmocka_unit_test(each_entry),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
