/* convert --upgrade: every row of the table shows, what is new stays, what would collide is
 * refused.
 */
#include "convert/map.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A model of these names, all vectors of 3 but where a rule asks for other axes. */
static void model_of(struct model *m, const char *const *name)
{
    model_init(m);
    for (; *name; name++) {
        struct str n = str_from(*name);
        if (str_ends(n, STR("masked_bias")))
            toy_add(m, *name, 0, -1);
        else if (str_ends(n, STR("attn.bias")) || str_ends(n, STR("attention.bias")))
            toy_add(m, *name, 0, 1, 1, 3, 3, -1);
        else if (str_ends(n, STR("relative_attention_bias.weight")))
            toy_add(m, *name, 0, 3, 2, -1);
        else
            toy_add(m, *name, 0, 3, -1);
    }
    toy_done(m);
}

/* from NULL-ended; to: the same places, "" for left out */
static void becomes(const char *const *from, const char *const *to, const struct model *like)
{
    struct model m;
    struct upgrade up;
    struct err e = {0};
    model_of(&m, from);
    if (upgrade_names(&m, like, NULL, &up, &e) != ST_OK)
        fail_msg("%s", e.reason);
    size_t changed = 0;
    for (size_t i = 0; i < m.n_tensors; i++) {
        bool out = false;
        for (size_t k = 0; k < up.n; k++)
            if (up.item[k].tensor == i) {
                assert_true(str_is(up.item[k].from, from[i]));
                assert_true(up.item[k].why && *up.item[k].why);
                out = !up.item[k].to.p;
            }
        if (out ? *to[i] != 0 : !str_is(m.tensor[i].name, to[i]))
            fail_msg("%s became %.*s, not %s", from[i], STR_ARG(m.tensor[i].name), to[i]);
        changed += strcmp(from[i], to[i]) != 0;
    }
    assert_int_equal(up.n, changed); /* each one told, and no other */
    model_free(&m);
}
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void prefixes(void **state)
{
    (void)state;
    becomes(LIST("module.a.w", "module.b.w"), LIST("a.w", "b.w"), NULL);
    becomes(LIST("module.a.w", "b.w"), LIST("module.a.w", "b.w"), NULL); /* not every one */
    becomes(LIST("module.my_module.module.weight"), LIST("my_module.module.weight"), NULL);
    becomes(LIST("modules.a.w"), LIST("modules.a.w"), NULL);
    becomes(LIST("state_dict.module._orig_mod.a.w"), LIST("a.w"), NULL);
    becomes(LIST("model_state_dict.a.w"), LIST("a.w"), NULL);
    becomes(LIST("base_model.model.a.w"), LIST("a.w"), NULL);
    becomes(LIST("state_dict_ema.a.w"), LIST("a.w"), NULL);
    becomes(LIST("model_ema.a.w"), LIST("a.w"), NULL);
    becomes(LIST("n_averaged", "module.a.w"), LIST("n_averaged", "a.w"), NULL);
    becomes(LIST("a._orig_mod.w", "b.w"), LIST("a.w", "b.w"), NULL);
    becomes(LIST("a._fsdp_wrapped_module.w"), LIST("a.w"), NULL);
    becomes(LIST("a._checkpoint_wrapped_module._fsdp_wrapped_module.w"), LIST("a.w"), NULL);
    static const char *const attribute[] = {"ema",     "model",    "net",
                                            "network", "backbone", "encoder"};
    for (size_t i = 0; i < sizeof attribute / sizeof *attribute; i++) {
        struct model like;
        char name[64];
        snprintf(name, sizeof name, "%s.a.w", attribute[i]);
        becomes(LIST(name), LIST(name), NULL); /* nothing proves it */
        model_of(&like, LIST("a.w"));
        becomes(LIST(name), LIST("a.w"), &like);
        model_free(&like);
        model_of(&like, LIST(name)); /* the skeleton has it: part of the architecture */
        becomes(LIST(name), LIST(name), &like);
        model_free(&like);
    }
    /* a family knows what is its own */
    becomes(LIST("model.layers.0.self_attn.q_proj.weight"),
            LIST("model.layers.0.self_attn.q_proj.weight"), NULL);
    becomes(LIST("net.model.layers.0.self_attn.q_proj.weight", "net.lm_head.weight"),
            LIST("model.layers.0.self_attn.q_proj.weight", "lm_head.weight"), NULL);
}

static void names(void **state)
{
    (void)state;
    becomes(LIST("x.LayerNorm.gamma", "x.LayerNorm.beta"),
            LIST("x.LayerNorm.weight", "x.LayerNorm.bias"), NULL);
    becomes(LIST("ln_1.gamma", "ln_1.beta"), LIST("ln_1.weight", "ln_1.bias"), NULL);
    becomes(LIST("ls.gamma", "layer_scale.gamma"), LIST("ls.gamma", "layer_scale.gamma"), NULL);
    becomes(LIST("x.LayerNorm.gamma"), LIST("x.LayerNorm.gamma"), NULL); /* alone */
    becomes(LIST("c.weight_g", "c.weight_v"),
            LIST("c.parametrizations.weight.original0", "c.parametrizations.weight.original1"),
            NULL);
    becomes(LIST("c.weight_orig", "c.weight_u", "c.weight_v"),
            LIST("c.parametrizations.weight.original", "c.parametrizations.weight.0._u",
                 "c.parametrizations.weight.0._v"),
            NULL);
    becomes(LIST("f.denselayer1.norm.1.weight", "f.denselayer1.conv.2.weight"),
            LIST("f.denselayer1.norm1.weight", "f.denselayer1.conv2.weight"), NULL);
    becomes(LIST("encoder.layers.encoder_layer_0.mlp.linear_1.weight",
                 "encoder.layers.encoder_layer_0.mlp.linear_2.bias"),
            LIST("encoder.layers.encoder_layer_0.mlp.0.weight",
                 "encoder.layers.encoder_layer_0.mlp.3.bias"),
            NULL);
    becomes(LIST("blocks.0.gamma_1", "blocks.0.gamma_2"),
            LIST("blocks.0.gamma_1", "blocks.0.gamma_2"), NULL);
    struct model like;
    model_of(&like, LIST("blocks.0.ls1.gamma", "blocks.0.ls2.gamma"));
    becomes(LIST("blocks.0.gamma_1", "blocks.0.gamma_2"),
            LIST("blocks.0.ls1.gamma", "blocks.0.ls2.gamma"), &like);
    model_free(&like);
}

static void left_out(void **state)
{
    (void)state;
    becomes(LIST("embeddings.position_ids", "h.0.attn.bias", "h.0.attn.masked_bias",
                 "h.0.attn.c_attn.weight", "l.0.attention.bias", "l.0.attention.masked_bias",
                 "l.0.attention.query_key_value.weight", "m.rotary_emb.inv_freq", "decoder.version",
                 "embed_positions._float_tensor",
                 "d.EncDecAttention.relative_attention_bias.weight"),
            LIST("", "", "", "h.0.attn.c_attn.weight", "", "",
                 "l.0.attention.query_key_value.weight", "", "", "", ""),
            NULL);
    becomes(LIST("x.attn.bias"), LIST("x.attn.bias"), NULL); /* no Conv1D beside it */
}

static void taken(void **state)
{
    (void)state;
    struct model m;
    struct upgrade up;
    struct err e = {0};
    model_of(&m, LIST("a.LayerNorm.gamma", "a.LayerNorm.beta", "a.LayerNorm.weight"));
    assert_int_equal(upgrade_names(&m, NULL, NULL, &up, &e), ST_CANNOT);
    assert_string_equal(e.code, "upgrade-taken");
    assert_true(str_is(m.tensor[0].name, "a.LayerNorm.gamma")); /* as it was */
    model_free(&m);
}

/* The ledger says each line, and the plan has the new names. */
static void in_the_ledger(void **state)
{
    (void)state;
    struct model m;
    struct upgrade up;
    struct plan p;
    struct err e = {0};
    model_of(&m, LIST("module.x.LayerNorm.gamma", "module.x.LayerNorm.beta",
                      "module.embeddings.position_ids"));
    assert_int_equal(upgrade_names(&m, NULL, NULL, &up, &e), ST_OK);
    plan_init(&p, &m);
    assert_int_equal(map_plan(&p, &(struct map_opt){.upgrade = &up}, NULL, 0, NULL, &e), ST_OK);
    assert_int_equal(p.dst.n_tensors, 2);
    assert_true(model_find(&p.dst, STR("x.LayerNorm.weight")) >= 0);
    size_t renamed = 0, dropped = 0;
    for (size_t i = 0; i < p.n_lines; i++) {
        renamed += p.line[i].kind == LEDGER_RENAME;
        dropped += p.line[i].kind == LEDGER_DROP;
    }
    assert_int_equal(renamed, 2);
    assert_int_equal(dropped, 1);
    plan_free(&p);
    model_free(&m);
}

/* An archive has the new names in canonical form, and gives back the old ones, bit for bit. */
static void back_to_the_source(void **state)
{
    (void)state;
    struct model m, archive;
    struct upgrade up;
    struct plan there, back;
    struct err e = {0};
    model_of(&m, LIST("module.x.LayerNorm.gamma", "module.x.LayerNorm.beta",
                      "module.embeddings.position_ids"));
    assert_int_equal(upgrade_names(&m, NULL, NULL, &up, &e), ST_OK);
    plan_init(&there, &m);
    struct map_opt o = {.from = "pytorch", .to = "canonical", .upgrade = &up};
    assert_int_equal(map_plan(&there, &o, NULL, 0, NULL, &e), ST_OK);
    assert_true(model_find(&there.dst, STR("x.LayerNorm.weight")) >= 0);
    toy_freeze(&there, &archive);
    plan_init(&back, &archive);
    o = (struct map_opt){.to = "source"};
    assert_int_equal(map_plan(&back, &o, NULL, 0, NULL, &e), ST_OK);
    assert_int_equal(back.dst.n_tensors, 2);
    assert_true(model_find(&back.dst, STR("module.x.LayerNorm.gamma")) >= 0);
    assert_true(model_find(&back.dst, STR("module.x.LayerNorm.beta")) >= 0);
    plan_free(&back);
    model_free(&archive);
    plan_free(&there);
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes),      cmocka_unit_test(names),
        cmocka_unit_test(left_out),      cmocka_unit_test(taken),
        cmocka_unit_test(in_the_ledger), cmocka_unit_test(back_to_the_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
