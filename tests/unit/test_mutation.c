/* Every entry of the rule tables, altered one at a time: a conversion by the altered table must be
 * refused, or level layer of validation, which shares nothing with the tables, must not call it
 * equal. All axes that may be equal are equal, so that shapes betray nothing.
 */
#include "convert/map.h"
#include "convert/pair.h"
#include "framework/rules.h"
#include "tests/lib/toy.h"
#include "validate/validate.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef NNFERRY_MUTATE
/* model_type of a config.json beside the model */
static void config_beside(struct model *m, const char *type)
{
    struct attachment *a;
    struct err e;
    struct str text = arena_fmt(&m->arena, "{\"model_type\": \"%s\"}", type);
    assert_int_equal(model_attach(m, &a, &e), ST_OK);
    a->name = STR("config.json");
    a->mem = (const uint8_t *)text.p;
    a->n_bytes = text.n;
}

static void every_kind(struct model *m, bool split, const char *type)
{
    model_init(m);
    if (type && strcmp(type, "llama") == 0) {
        toy_add(m, "model.layers.0.self_attn.q_proj.weight", 25, 4, 4, -1);
        toy_add(m, "model.layers.0.input_layernorm.weight", 26, 4, -1);
    } else { /* GPT-2's Conv1D */
        toy_add(m, "h.0.attn.c_attn.weight", 21, 4, 12, -1);
        toy_add(m, "h.0.attn.c_attn.bias", 22, 12, -1);
        toy_add(m, "h.0.attn.c_proj.weight", 23, 4, 4, -1);
        toy_add(m, "h.0.attn.c_proj.bias", 24, 4, -1);
    }
    if (type)
        config_beside(m, type);
    toy_add(m, "fc.weight", 1, 4, 4, -1);
    toy_add(m, "fc.bias", 31, 4, -1);
    toy_add(m, "conv1.weight", 2, 4, 4, 3, -1);
    toy_add(m, "conv1.bias", 32, 4, -1);
    toy_add(m, "conv2.weight", 3, 4, 4, 4, 4, -1);
    toy_add(m, "conv3.weight", 4, 4, 4, 4, 4, 4, -1);
    toy_add(m, "deconv1.weight", 5, 4, 4, 4, -1);
    toy_add(m, "deconv1.bias", 33, 4, -1);
    toy_add(m, "deconv2.weight", 6, 4, 4, 4, 4, -1);
    toy_add(m, "deconv3.weight", 7, 4, 4, 4, 4, 4, -1);
    toy_add(m, "bn.weight", 8, 4, -1);
    toy_add(m, "bn.bias", 34, 4, -1);
    toy_add(m, "bn.running_mean", 9, 4, -1);
    toy_add(m, "bn.running_var", 10, 4, -1);
    toy_add(m, "layernorm.weight", 11, 4, -1);
    toy_add(m, "layernorm.bias", 35, 4, -1);
    toy_add(m, "groupnorm.weight", 12, 4, -1);
    toy_add(m, "groupnorm.bias", 36, 4, -1);
    toy_add(m, "embed.weight", 13, 4, 4, -1);
    if (split) {
        toy_add(m, "attn.q_proj_weight", 14, 4, 4, -1);
        toy_add(m, "attn.k_proj_weight", 114, 4, 4, -1);
        toy_add(m, "attn.v_proj_weight", 214, 4, 4, -1);
    } else {
        toy_add(m, "attn.in_proj_weight", 14, 12, 4, -1);
    }
    toy_add(m, "attn.in_proj_bias", 37, 12, -1);
    toy_add(m, "attn.out_proj.weight", 15, 4, 4, -1);
    toy_add(m, "attn.out_proj.bias", 38, 4, -1);
    /* weights of a size that tells in float32 */
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        float *p = (float *)(uintptr_t)m->storage[t->storage].mem;
        for (uint64_t k = 0; k < tensor_elems(t); k++)
            p[k] = str_ends(t->name, STR("running_var")) ? 0.5f + (float)(k % 3)
                                                         : sinf(p[k] * 1.7f + (float)i) * 0.6f;
    }
    toy_done(m);
}

enum answer { REFUSED, EQUAL, NOT_EQUAL };

/* Converts and validates; *out, where asked for, is the converted model. */
static enum answer judge(const struct model *m, const char *from, const char *to, const char *rules,
                         struct model *out)
{
    struct plan p, ia, ib;
    struct model f;
    struct pairing pr;
    struct validate_report r = {0};
    struct err e = {0};
    struct map_opt o = {.from = from, .to = to, .rules = str_from(rules)};
    plan_init(&p, m);
    enum status st = map_plan(&p, &o, NULL, 0, NULL, &e);
    if (st != ST_OK) {
        plan_free(&p);
        return REFUSED;
    }
    toy_freeze(&p, &f);
    for (size_t i = 0; i < m->n_attachments; i++) {
        struct attachment *a;
        assert_int_equal(model_attach(&f, &a, &e), ST_OK);
        *a = m->attachment[i]; /* f is freed before m */
    }
    struct pair_opt po = {.from = {from, to}, .rules = str_from(rules)};
    struct validate_opt vo = {.level = VALIDATE_LAYER,
                              .device = "native",
                              .seed = 1,
                              .rtol = NAN,
                              .atol = NAN,
                              .min_coverage = NAN,
                              .run = {.threads = 1}};
    plan_init(&ia, m);
    plan_init(&ib, &f);
    assert_int_equal(plan_identity(&ia, &e), ST_OK);
    assert_int_equal(plan_identity(&ib, &e), ST_OK);
    st = pair_layers(m, &f, &po, &pr, &e);
    if (st == ST_OK) {
        st = validate_run(&ia, &pr.layers[0], from, &ib, &pr.layers[1], to, pr.pair, &vo, &r, &e);
        if (getenv("SHOW"))
            for (size_t i = 0; i < r.n; i++)
                print_message("  %.*s %.*s %s %.*s\n", STR_ARG(r.layer[i].path_a),
                              STR_ARG(r.layer[i].path_b), verdict_name(r.layer[i].verdict),
                              STR_ARG(r.layer[i].why));
        pair_free(&pr);
    }
    if (st != ST_OK)
        print_message("%s: %s\n", e.code ? e.code : "-", e.reason);
    enum answer a = st != ST_OK ? REFUSED : r.overall == VERDICT_EQUAL ? EQUAL : NOT_EQUAL;
    validate_free(&r);
    plan_free(&ia);
    plan_free(&ib);
    plan_free(&p);
    if (out)
        *out = f;
    else
        model_free(&f);
    return a;
}

static const char rules_default[] = "heads attn = 2\n";
static const char rules_back[] = "";
static const char rules_kept[] = "heads attn = 2\nkind deconv* = conv_transpose transpose_kernel\n";

/* A pair of frameworks, and the models that between them have every leaf of both tables. */
static const struct world {
    const char *a, *b;
    const char *type[2]; /* config.json of the models */
} worlds[] = {{"pytorch", "flax", {NULL, NULL}}, {"hf", "hf_flax", {"gpt2", "llama"}}};

static void nothing_altered(void **state)
{
    (void)state;
    struct model m, f;
    for (size_t w = 0; w < sizeof worlds / sizeof *worlds; w++)
        for (int k = 0; k < 4; k++) {
            every_kind(&m, k % 2, worlds[w].type[k / 2]);
            assert_int_equal(judge(&m, worlds[w].a, worlds[w].b, rules_default, &f), EQUAL);
            assert_int_equal(judge(&f, worlds[w].b, worlds[w].a, rules_back, NULL), EQUAL);
            model_free(&f);
            model_free(&m);
        }
}

/* Does entry i, altered, pass there and back with every model? */
static bool survives(const struct world *w, const struct framework *fw, int i, const char *there)
{
    for (int k = 0; k < 4; k++) {
        struct model m, back;
        every_kind(&m, k % 2, w->type[k / 2]);
        assert_int_equal(judge(&m, w->a, w->b, there, &back), EQUAL);
        assert_true(rules_mutate(fw, i));
        enum answer a = judge(&m, w->a, w->b, there, NULL);
        if (a == EQUAL)
            a = judge(&back, w->b, w->a, rules_back, NULL);
        assert_true(rules_mutate(fw, -1));
        model_free(&back);
        model_free(&m);
        if (a != EQUAL)
            return false;
    }
    return true;
}

static void each_entry(void **state)
{
    (void)state;
    size_t n = 0, survivors = 0;
    for (size_t f = 0; f < 2 * (sizeof worlds / sizeof *worlds); f++) {
        const struct world *w = &worlds[f / 2];
        const struct framework *fw = framework_find(str_from(f % 2 ? w->b : w->a));
        for (int i = 0; i < (int)fw->rules->n; i++) {
            const struct leaf_rule *l = &fw->rules->leaf[i];
            if (l->leaf == LEAF_COUNT)
                continue; /* moves no number */
            bool kept = l->kind == LAYER_CONV_TRANSPOSE && l->variant;
            n++;
            if (survives(w, fw, i, kept ? rules_kept : rules_default)) {
                survivors++;
                print_message("survives: %s entry %d (%s %s)\n", fw->name, i,
                              layer_kind_name(l->kind), leaf_name(l->leaf));
            }
        }
    }
    print_message("%zu entries altered, %zu survivors\n", n, survivors);
    assert_int_equal(survivors, 0);
}
#endif

/* In every flavour: an altered entry is an exception of the check build. */
static void no_such_entry(void **state)
{
    (void)state;
    const struct framework *f = framework_find(STR("flax"));
    assert_non_null(f);
    assert_non_null(rules_find(f->rules, LAYER_LINEAR, 0, 0, LEAF_WEIGHT));
    assert_null(rules_find(f->rules, LAYER_LINEAR, 0, 0, LEAF_MEAN));
#ifdef NNFERRY_MUTATE
    assert_false(rules_mutate(f, 100000));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_such_entry),
#ifdef NNFERRY_MUTATE
        cmocka_unit_test(nothing_altered),
        cmocka_unit_test(each_entry),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
