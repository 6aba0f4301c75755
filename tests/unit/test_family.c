/* The families of Hugging Face's models, held against names and shapes that the real frameworks
 * gave (hf_names.h): recognition, the names in Flax and GGUF, the rows that GGUF turns, config.json
 * and key-values; and every row of the tables altered in every way must show.
 */
#include "convert/map.h"
#include "framework/family.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct entry {
    const char *family, *name;
    int n_dims;
    uint64_t dim[4];
    const char *flax;
    int n_flax;
    uint64_t flax_dim[4];
    const char *gguf;
} entries[] = {
#include "tests/unit/hf_names.h"
};
#define N_ENTRIES (sizeof entries / sizeof *entries)
static const struct tf_entry {
    const char *family, *torch, *tf;
    int n_dims;
    uint64_t dim[4];
} tf_entries[] = {
#include "tests/unit/hf_tf_names.h"
};
#define N_TF (sizeof tf_entries / sizeof *tf_entries)
#define HEADS 6u
#define KV_HEADS 3u

static void attach(struct model *m, const char *name, const char *text)
{
    struct attachment *a;
    struct err e;
    assert_int_equal(model_attach(m, &a, &e), ST_OK);
    a->name = str_from(name);
    a->mem = (const uint8_t *)text;
    a->n_bytes = strlen(text);
}

/* A head that is saved only where it is not the embedding. */
static bool head_weight(const struct entry *x)
{
    return strstr(x->name, "vocab_projector.weight") || strstr(x->name, "decoder.weight");
}

static void model_of(struct model *m, const char *type, bool heads, bool config)
{
    static char text[256];
    model_init(m);
    for (size_t i = 0; i < N_ENTRIES; i++)
        if (strcmp(entries[i].family, type) == 0 && (heads || !head_weight(&entries[i])))
            toy_tensor(m, entries[i].name, (double)i, entries[i].dim, (size_t)entries[i].n_dims);
    snprintf(text, sizeof text,
             "{\"model_type\": \"%s\", \"num_attention_heads\": %u, \"num_key_value_heads\": %u,"
             " \"rope_parameters\": {\"rope_theta\": 10000.0}}",
             type, strcmp(type, "gpt_neox") == 0 ? KV_HEADS : HEADS, KV_HEADS);
    if (config)
        attach(m, "config.json", text);
    toy_done(m);
}

static bool plan_to(struct plan *p, const struct model *m, const char *to, struct err *e)
{
    static const char *const all[] = {"*", NULL};
    struct map_opt o = {.from = "hf", .to = to, .allow_drop = all};
    plan_init(p, m);
    return map_plan(p, &o, NULL, 0, NULL, e) == ST_OK;
}

static bool has(const struct plan *p, const char *name, const uint64_t *dim, int n)
{
    int64_t t = model_find(&p->dst, str_from(name));
    return t >= 0 && (n < 0 || (p->dst.tensor[t].n_dims == n &&
                                memcmp(p->dst.tensor[t].dim, dim, (size_t)n * sizeof *dim) == 0));
}

/* By its own name a table of rows that an index looks up? */
static bool is_table(struct str path)
{
    size_t dot = path.n;
    while (dot > 0 && path.p[dot - 1] != '.')
        dot--;
    struct str leaf = str_sub(path, dot, path.n);
    return (str_glob(STR("*embed*"), leaf) && !str_is(leaf, "embed_out") &&
            !str_is(leaf, "patch_embedding")) ||
           str_is(leaf, "wte") || str_is(leaf, "wpe") || str_is(leaf, "shared") ||
           str_is(leaf, "relative_attention_bias");
}

static bool layers_fit(const struct model *m, const struct family *f)
{
    struct arena a = ARENA_INIT;
    struct layers found;
    struct err e;
    bool ok = framework_find(STR("hf"))->layers(m, &a, &found, &e) == ST_OK && found.family == f;
    for (size_t i = 0; ok && i < found.n; i++) {
        const struct layer *l = &found.layer[i];
        struct family_place at = family_at(f, l->path);
        ok = at.row != NULL;
        if (ok && at.row->kind == LAYER_NONE)
            ok = l->computed;
        else if (ok && at.row->kind == LAYER_PARAM)
            ok = l->kind == LAYER_PARAM && !l->computed;
        else if (ok)
            ok = l->kind == at.row->kind && l->form == at.row->form &&
                 str_ends(l->reason, STR("of transformers")) &&
                 (l->kind == LAYER_EMBEDDING) == is_table(l->path);
    }
    arena_free(&a);
    return ok;
}

/* GGUF's values of a vector: Gemma's norms are factors. */
static bool vector_holds(const struct plan *p, const struct entry *x, double base, const char *type)
{
    uint64_t n;
    double *v = toy_values(p, (size_t)model_find(&p->dst, str_from(x->gguf)), &n);
    double more = strncmp(type, "gemma", 5) == 0 && strstr(x->name, "norm.weight") ? 1 : 0;
    bool ok = n == x->dim[0];
    for (uint64_t i = 0; ok && i < n; i++)
        ok = v[i] == base + more + (double)i;
    free(v);
    return ok;
}

/* GGUF's rows of a dense layer, from llama.cpp's formulas. */
static bool rows_turned(const struct plan *p, const struct entry *x, double base, const char *type)
{
    bool llama =
        strcmp(type, "llama") == 0 || strcmp(type, "mistral") == 0 || strcmp(type, "granite") == 0;
    bool q = llama && strstr(x->name, "q_proj.weight"),
         k = llama && strstr(x->name, "k_proj.weight");
    bool qkv = strstr(x->name, "query_key_value.weight"),
         conv1d = strcmp(type, "gpt2") == 0 && strstr(x->name, ".c_");
    if (x->n_dims == 1 && !strstr(x->name, "query_key_value") && !llama)
        return vector_holds(p, x, base, type);
    if (x->n_dims != 2 || (!q && !k && !qkv && !conv1d))
        return true;
    uint64_t n, rows = conv1d ? x->dim[1] : x->dim[0], cols = conv1d ? x->dim[0] : x->dim[1];
    uint64_t heads = q ? HEADS : KV_HEADS, half = rows / heads / 2, each = rows / heads / 3;
    double *v = toy_values(p, (size_t)model_find(&p->dst, str_from(x->gguf)), &n);
    bool ok = n == rows * cols;
    for (uint64_t i = 0; ok && i < n; i++) {
        uint64_t r = i / cols, c = i % cols, from = i;
        if (q || k) /* [head, half, 2] <- [head, 2, half] */
            from = ((r / (2 * half)) * 2 * half + (r % 2) * half + r % (2 * half) / 2) * cols + c;
        if (qkv) /* [3, head, each] <- [head, 3, each] */
            from =
                ((r / each % heads) * 3 * each + (r / each / heads) * each + r % each) * cols + c;
        if (conv1d)
            from = c * rows + r;
        ok = v[i] == base + (double)from;
    }
    free(v);
    return ok;
}

/* Is everything as the frameworks gave it? */
static bool family_holds(const struct family *f, const char *type)
{
    bool ok = true;
    for (int heads = 0; ok && heads < 2; heads++) {
        struct model m;
        struct plan p;
        struct err e;
        model_of(&m, type, heads, true);
        bool fit = layers_fit(&m, f);
        ok = plan_to(&p, &m, "hf_flax", &e) && fit;
        for (size_t i = 0; ok && i < N_ENTRIES; i++) {
            const struct entry *x = &entries[i];
            if (strcmp(x->family, type) != 0 || !*x->flax || (!heads && head_weight(x)))
                continue;
            ok = strcmp(x->flax, "-") != 0 ? has(&p, x->flax, x->flax_dim, x->n_flax)
                                           : !has(&p, x->name, NULL, -1);
        }
        plan_free(&p);
        if (ok && f->tf_join) {
            ok = plan_to(&p, &m, "hf_tf", &e);
            for (size_t i = 0; ok && i < N_TF; i++)
                if (strcmp(tf_entries[i].family, type) == 0)
                    ok = has(&p, tf_entries[i].tf, tf_entries[i].dim, tf_entries[i].n_dims);
            plan_free(&p);
        }
        if (ok && f->arch) {
            ok = plan_to(&p, &m, "gguf", &e);
            for (size_t i = 0; ok && i < N_ENTRIES; i++) {
                const struct entry *x = &entries[i];
                if (strcmp(x->family, type) != 0)
                    continue;
                if (*x->gguf && *x->gguf != '-')
                    ok = has(&p, x->gguf, NULL, -1) && rows_turned(&p, x, (double)i, type);
                else
                    ok = !has(&p, x->name, NULL, -1);
            }
            plan_free(&p);
        }
        model_free(&m);
    }
    return ok;
}

static void tf_model(struct model *m, const char *type, bool config)
{
    static char text[96];
    model_init(m);
    m->framework = STR("keras");
    for (size_t i = 0; i < N_TF; i++)
        if (strcmp(tf_entries[i].family, type) == 0)
            toy_tensor(m, tf_entries[i].tf, (double)i, tf_entries[i].dim,
                       (size_t)tf_entries[i].n_dims);
    snprintf(text, sizeof text, "{\"model_type\": \"%s\"}", type);
    if (config)
        attach(m, "config.json", text);
}

/* Is every tensor of the TensorFlow model in PyTorch's, with its shape there? */
static bool tf_comes_back(const char *type)
{
    struct model m;
    struct plan p;
    struct err e;
    tf_model(&m, type, true);
    toy_done(&m);
    plan_init(&p, &m);
    bool ok = map_plan(&p, &(struct map_opt){.to = "hf"}, NULL, 0, NULL, &e) == ST_OK;
    for (size_t i = 0; ok && i < N_TF; i++)
        for (size_t k = 0; ok && k < N_ENTRIES; k++)
            if (strcmp(tf_entries[i].family, type) == 0 && strcmp(entries[k].family, type) == 0 &&
                strcmp(tf_entries[i].torch, entries[k].name) == 0)
                ok = has(&p, entries[k].name, entries[k].dim, entries[k].n_dims);
    plan_free(&p);
    model_free(&m);
    return ok;
}

static const struct family *of_type(const char *type)
{
    for (size_t i = 0; i < n_families; i++)
        for (size_t k = 0; k < FAMILY_TYPES && families[i]->type[k]; k++)
            if (strcmp(families[i]->type[k], type) == 0)
                return families[i];
    return NULL;
}

static const char *const types[] = {
    "bert",  "roberta", "distilbert", "gpt2",  "gpt_neox",   "llama",    "mistral", "qwen2",
    "t5",    "mt5",     "phi",        "phi3",  "vit",        "clip",     "whisper", "resnet",
    "qwen3", "gemma",   "gemma2",     "olmo2", "starcoder2", "stablelm", "granite"};
#define N_TYPES (sizeof types / sizeof *types)

static void names_of_the_frameworks(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_TYPES; i++)
        if (!family_holds(of_type(types[i]), types[i]))
            fail_msg("%s", types[i]);
}

static void told_by_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        struct model m;
        struct arena a = ARENA_INIT;
        struct layers l;
        struct err e;
        model_of(&m, types[i], true, false);
        assert_ptr_equal(framework_of(&m), framework_find(STR("hf")));
        assert_int_equal(framework_find(STR("hf"))->layers(&m, &a, &l, &e), ST_OK);
        assert_non_null(l.family);
        assert_false(l.family_sure);
        struct plan p; /* names alone do not tell which architecture it is */
        assert_false(plan_to(&p, &m, "gguf", &e));
        assert_string_equal(e.code, "family-unknown");
        plan_free(&p);
        arena_free(&a);
        model_free(&m);
    }
    struct model m;
    model_init(&m);
    toy_add(&m, "conv1.weight", 0, 4, 3, 3, 3, -1);
    toy_add(&m, "fc.weight", 0, 4, 3, -1);
    toy_done(&m);
    assert_ptr_not_equal(framework_of(&m), framework_find(STR("hf")));
    model_free(&m);
}

/* PyTorch -> GGUF -> PyTorch: names, values and the config come back. */
static void gguf_and_back(void **state)
{
    (void)state;
    for (size_t t = 0; t < N_TYPES; t++) {
        struct model m, g;
        struct plan p, back;
        struct err e;
        const struct family *f = of_type(types[t]);
        if (!f->arch)
            continue;
        model_of(&m, types[t], true, true);
        assert_true(plan_to(&p, &m, "gguf", &e));
        toy_freeze(&p, &g);
        g.format = "gguf";
        char key[64];
        const char *heads = strcmp(types[t], "gpt_neox") == 0 ? "3" : "6";
        assert_int_equal(model_meta_add(&g, STR("general.architecture"), str_from(f->arch), &e), 0);
        snprintf(key, sizeof key, "%s.attention.head_count", f->arch);
        assert_int_equal(model_meta_add(&g, str_from(key), str_from(heads), &e), 0);
        char kv[64];
        snprintf(kv, sizeof kv, "%s.attention.head_count_kv", f->arch);
        assert_int_equal(model_meta_add(&g, str_from(kv), STR("3"), &e), 0);
        plan_init(&back, &g);
        assert_int_equal(map_plan(&back, &(struct map_opt){.to = "hf"}, NULL, 0, NULL, &e), ST_OK);
        for (size_t i = 0; i < N_ENTRIES; i++) {
            const struct entry *x = &entries[i];
            if (strcmp(x->family, types[t]) != 0 || !*x->gguf || *x->gguf == '-')
                continue;
            const char *name = x->name;
            if (f->bare && strncmp(name, "bert.", 5) == 0)
                name += 5;
            int64_t at = model_find(&back.dst, str_from(name));
            if (at < 0)
                fail_msg("%s", name);
            uint64_t n;
            double *v = toy_values(&back, (size_t)at, &n);
            for (uint64_t k = 0; k < n; k++)
                assert_true(v[k] == (double)i + (double)k);
            free(v);
        }
        plan_free(&back);
        model_free(&g);
        plan_free(&p);
        model_free(&m);
    }
}

#define NORM "model.layers.0.input_layernorm.weight"
static void gemma(struct model *m, enum dtype type)
{
    model_init(m);
    toy_add(m, "model.layers.0.self_attn.q_proj.weight", 3, 4, 4, -1);
    toy_add(m, NORM, 5, 4, -1);
    toy_add(m, "model.embed_tokens.weight", 9, 7, 4, -1);
    toy_add(m, "lm_head.weight", 9, 7, 4, -1);
    m->tensor[toy_find(m, NORM)].dtype = type;
    m->tensor[toy_find(m, "lm_head.weight")].alias_of =
        (int64_t)toy_find(m, "model.embed_tokens.weight");
    attach(m, "config.json", "{\"model_type\": \"gemma\"}");
    toy_done(m);
}

/* Gemma's norms: GGUF has the factors, 1 more than the weights; a tied head is no loss. */
static void norms_of_gemma(void **state)
{
    (void)state;
    struct model m, g;
    struct plan p, back;
    struct err e;
    struct map_opt o = {.from = "hf", .to = "gguf", .unexplained = true};
    uint64_t n;
    gemma(&m, DT_F32);
    plan_init(&p, &m);
    assert_int_equal(map_plan(&p, &o, NULL, 0, NULL, &e), ST_OK);
    double *v = toy_values(&p, (size_t)toy_find(&p.dst, "blk.0.attn_norm.weight"), &n);
    for (int i = 0; i < 4; i++)
        assert_true(v[i] == 6 + i);
    free(v);
    toy_freeze(&p, &g);
    g.format = "gguf";
    assert_int_equal(model_meta_add(&g, STR("general.architecture"), STR("gemma"), &e), 0);
    plan_init(&back, &g);
    o = (struct map_opt){.to = "hf", .unexplained = true};
    assert_int_equal(map_plan(&back, &o, NULL, 0, NULL, &e), ST_OK);
    assert_int_equal(back.n_reasons, 0);
    v = toy_values(&back, (size_t)toy_find(&back.dst, NORM), &n);
    for (int i = 0; i < 4; i++)
        assert_true(v[i] == 5 + i);
    free(v);
    plan_free(&back);
    plan_init(&back, &g); /* an archive must give back what came, bit for bit */
    o = (struct map_opt){.to = "canonical"};
    assert_int_equal(map_plan(&back, &o, NULL, 0, NULL, &e), ST_CANNOT);
    assert_string_equal(e.code, "norm-whole");
    plan_free(&back);
    model_free(&g);
    plan_free(&p);
    model_free(&m);
}

/* A sum that the source's type would round is made in float32, and stays there. */
static void narrow_norms(void **state)
{
    (void)state;
    static const enum dtype narrow[] = {DT_F16, DT_BF16};
    for (size_t i = 0; i < 2; i++) {
        struct model m;
        struct plan p;
        struct err e;
        gemma(&m, narrow[i]);
        plan_init(&p, &m);
        struct map_opt o = {.from = "hf", .to = "gguf"};
        assert_int_equal(map_plan(&p, &o, NULL, 0, NULL, &e), ST_OK);
        int64_t at = toy_find(&p.dst, "blk.0.attn_norm.weight");
        const struct part *q = &p.recipe[at].part[0];
        assert_int_equal(p.dst.tensor[at].dtype, DT_F32);
        assert_int_equal(q->n_ops, 2);
        assert_int_equal(q->op[0].kind, OP_CAST);
        assert_int_equal(q->op[0].to, DT_F32);
        assert_int_equal(q->op[1].kind, OP_OFFSET);
        plan_free(&p);
        model_free(&m);
    }
}

static void tf_and_back(void **state)
{
    (void)state;
    for (size_t t = 0; t < n_families; t++)
        if (families[t]->tf_join && !tf_comes_back(families[t]->type[0]))
            fail_msg("%s", families[t]->type[0]);
}

/* The bid, second copies, and what TensorFlow has no name for. */
static void tf_apart(void **state)
{
    (void)state;
    static const char copy[] = "mlm___cls.tf_x.bert.embeddings.word_embeddings.weight:0";
    struct model m;
    struct plan p;
    struct err e;
    tf_model(&m, "bert", false);
    toy_add(&m, copy, 7, 37, 24, -1);
    toy_done(&m);
    assert_ptr_equal(framework_of(&m), framework_find(STR("hf_tf")));
    plan_init(&p, &m);
    assert_int_equal(map_plan(&p, &(struct map_opt){.to = "hf"}, NULL, 0, NULL, &e), ST_OK);
    assert_true(has(&p, "bert.embeddings.word_embeddings.weight", NULL, -1));
    assert_true(model_find(&p.dst, STR(copy)) < 0);
    assert_int_equal(p.n_lines, 1);
    assert_true(p.line[0].harmless && str_is(p.line[0].name, copy));
    plan_free(&p);
    plan_init(&p, &m); /* an archive keeps the copy */
    assert_int_equal(map_plan(&p, &(struct map_opt){0}, NULL, 0, NULL, &e), ST_OK);
    assert_true(model_find(&p.dst, STR(copy)) >= 0);
    plan_free(&p);
    model_free(&m);

    model_init(&m); /* another Keras model is none */
    m.framework = STR("keras");
    toy_add(&m, "d.tf_d.d.kernel:0", 1, 3, 2, -1);
    toy_done(&m);
    assert_ptr_equal(framework_of(&m), framework_find(STR("keras")));
    model_free(&m);

    model_of(&m, "llama", false, true);
    assert_false(plan_to(&p, &m, "hf_tf", &e));
    assert_string_equal(e.code, "no-tf-model");
    plan_free(&p);
    model_free(&m);

    model_init(&m);
    toy_add(&m, "encoder.layer.0.attention.self.query.weight", 0, 4, 4, -1);
    toy_add(&m, "encoder.layer.0.attention.self.key.weight", 0, 4, 4, -1);
    toy_done(&m);
    assert_false(plan_to(&p, &m, "hf_tf", &e)); /* BERT's or RoBERTa's? */
    assert_string_equal(e.code, "family-unknown");
    plan_free(&p);
    model_free(&m);
}

#ifdef NNFERRY_MUTATE
static void each_row(void **state)
{
    (void)state;
    size_t n = 0, survivors = 0;
    for (size_t t = 0; t < n_families; t++) {
        const struct family *f = families[t];
        for (int i = 0; i < (int)f->n; i++)
            for (unsigned what = 0; what < FAMILY_CHANGES; what++) {
                if (!family_mutate(f, i, (enum family_change)what))
                    continue;
                bool holds = true;
                for (size_t k = 0; holds && k < N_TYPES; k++)
                    holds = of_type(types[k]) != f || family_holds(f, types[k]);
                assert_true(family_mutate(f, -1, FAMILY_PATH));
                n++;
                survivors += holds;
                if (holds)
                    print_message("survives: %s %s, change %u\n", f->name, f->row[i].path, what);
            }
    }
    print_message("%zu rows altered, %zu survivors\n", n, survivors);
    assert_int_equal(survivors, 0);
}

/* Every leaf of TensorFlow's table altered must show in some family. */
static void each_tf_leaf(void **state)
{
    (void)state;
    const struct framework *fw = framework_find(STR("hf_tf"));
    size_t survivors = 0;
    for (int i = 0; i < (int)fw->rules->n; i++) {
        if (fw->rules->leaf[i].kind == LAYER_PARAM)
            continue; /* its name says nothing, its axes show with the rows */
        bool holds = true;
        assert_true(rules_mutate(fw, i));
        for (size_t t = 0; holds && t < N_TYPES; t++)
            holds = !of_type(types[t])->tf_join || family_holds(of_type(types[t]), types[t]);
        assert_true(rules_mutate(fw, -1));
        survivors += holds;
        if (holds)
            print_message("survives: leaf %d\n", i);
    }
    assert_int_equal(survivors, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_the_frameworks),
        cmocka_unit_test(told_by_names),
        cmocka_unit_test(gguf_and_back),
        cmocka_unit_test(norms_of_gemma),
        cmocka_unit_test(narrow_norms),
        cmocka_unit_test(tf_and_back),
        cmocka_unit_test(tf_apart),
#ifdef NNFERRY_MUTATE
        cmocka_unit_test(each_row),
        cmocka_unit_test(each_tf_leaf),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
