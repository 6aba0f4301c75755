/* Notes on defaults that differ: the table, what a config tells, what is carried on with the
 * weights, and scales of weights of eight bits. */
#include "convert/cast_cost.h"
#include "convert/map.h"
#include "framework/defaults.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct model m, like;
static struct plan p;
static struct err err;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    model_init(&like);
    return 0;
}

static int end(void **state)
{
    (void)state;
    model_free(&m);
    model_free(&like);
    return 0;
}

static void must(enum status st)
{
    if (st != ST_OK)
        fail_msg("%d %s: %s", (int)st, err.code ? err.code : "-", err.reason);
}

static enum status plan_into(struct map_opt o, const char *format)
{
    plan_init(&p, &m);
    memset(&err, 0, sizeof err);
    return map_plan(&p, &o, format ? format_find(str_from(format)) : NULL, 0, NULL, &err);
}

static void attach(struct model *x, const char *name, const char *text)
{
    struct attachment *a;
    must(model_attach(x, &a, &err));
    a->name = str_from(name);
    a->mem = (const uint8_t *)text;
    a->n_bytes = strlen(text);
}

#include "tests/unit/note_says.h"

/* ---- the table ---- */

/* Each row names frameworks that there are, one row a key, and every default that is an argument
 * can be spelled from what it means. */
static void rows(void **state)
{
    struct arena a = ARENA_INIT;
    (void)state;
    for (size_t i = 0; i < n_facts; i++) {
        const struct fact *f = &facts[i];
        struct str rest = str_from(f->frameworks), one;
        assert_true((f->value == NULL) == (f->means == NULL) || !f->argument);
        assert_true(f->argument || !f->value);
        while (rest.p && str_split(&rest, ' ', &one)) {
            const struct framework *fw = framework_find(one);
            assert_non_null(fw);
            assert_ptr_equal(fact_find(fw->name, f->of, f->setting), f);
            if (!f->value || strcmp(f->value, "None") == 0)
                continue;
            struct str text = fact_spell(f, fw->name, str_from(f->means), &a);
            if (!str_is(text, f->value) && strcmp(f->setting, "batch") != 0)
                fail_msg("%s %s %s: %.*s", fw->name, f->of, f->setting, STR_ARG(text));
        }
    }
    assert_true(fact_same(STR("1e-05"), STR("0.00001")));
    assert_true(fact_same(STR("0.00000999999974"), STR("1e-05"))); /* a float32's text */
    assert_false(fact_same(STR("1e-05"), STR("1e-06")));
    assert_false(fact_same(STR("same"), STR("none")));
    assert_false(fact_same(STR(""), STR("none")));
    arena_free(&a);
}

/* ---- defaults against defaults ---- */

static void torch_model(void)
{
    m.framework = STR("pytorch");
    toy_add(&m, "conv1.weight", 0, 4, 3, 3, 3, -1);
    toy_add(&m, "conv2.weight", 0, 4, 4, 1, 1, -1);
    toy_add(&m, "bn1.weight", 0, 4, -1);
    toy_add(&m, "bn1.bias", 0, 4, -1);
    toy_add(&m, "bn1.running_mean", 0, 4, -1);
    toy_add(&m, "bn1.running_var", 1, 4, -1);
    toy_add(&m, "ln1.weight", 0, 4, -1);
    toy_add(&m, "ln1.bias", 0, 4, -1);
    toy_done(&m);
}

static void unknown_values(void **state)
{
    (void)state;
    torch_model();
    must(plan_into((struct map_opt){.to = "flax"}, NULL));
    says("conv1", "padding",
         "padding is none in pytorch by default, same in flax by default: set padding to what the "
         "model has");
    says("bn1", "momentum",
         "momentum keeps 0.9 in pytorch by default, 0.99 in flax by default: set momentum to what "
         "the model has (training alone)");
    says("ln1", "epsilon",
         "epsilon is 1e-05 in pytorch by default, 1e-06 in flax by default: set epsilon to what "
         "the model has");
    assert_null(note_on("conv2", "padding")); /* of extent 1: no padding whatever it is called */
    assert_null(note_on("bn1", "epsilon"));   /* 1e-05 in both */
    assert_int_equal(p.n_notes, 3);
    assert_false(p.note[0].known);
    assert_int_equal(p.note[0].set.n, 0);
    assert_int_equal(p.n_lines, 0); /* notes are no ledger lines */
    plan_free(&p);
    must(plan_into((struct map_opt){.to = "equinox"}, NULL));
    assert_int_equal(p.n_notes, 1); /* its momentum: the other defaults are torch's */
    plan_free(&p);
    must(plan_into((struct map_opt){.to = "canonical"}, NULL));
    assert_int_equal(p.n_notes, 0); /* it computes nothing */
    plan_free(&p);
}

/* An archive is read with the eyes of the framework that it came from. */
static void from_an_archive(void **state)
{
    struct model kept;
    (void)state;
    torch_model();
    must(plan_into((struct map_opt){.to = "canonical"}, "archive"));
    toy_freeze(&p, &kept);
    plan_free(&p);
    model_free(&m);
    m = kept;
    must(plan_into((struct map_opt){.to = "haiku"}, NULL));
    says("bn1", "momentum",
         "momentum keeps 0.9 in pytorch by default, haiku has no default: set decay_rate to what "
         "the model has (training alone)");
    says("conv1", "padding",
         "padding is none in pytorch by default, same in haiku by default: set padding to what the "
         "model has");
    plan_free(&p);
}

/* ---- a config tells ---- */

static const char keras_config[] =
    "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
    "{\"class_name\":\"Conv2D\",\"config\":{\"name\":\"c1\",\"padding\":\"same\",\"strides\":[2,2]}"
    "},"
    "{\"class_name\":\"Conv2D\",\"config\":{\"name\":\"c2\",\"padding\":\"valid\",\"strides\":1}},"
    "{\"class_name\":\"BatchNormalization\",\"config\":{\"name\":\"bn\",\"momentum\":0.8,"
    "\"epsilon\":0.0001}},"
    "{\"class_name\":\"Activation\",\"config\":{\"name\":\"act\",\"activation\":\"gelu\"}},"
    "{\"class_name\":\"LeakyReLU\",\"config\":{\"name\":\"lr\",\"negative_slope\":0.25}},"
    "{\"class_name\":\"LeakyReLU\",\"config\":{\"name\":\"lr2\",\"alpha\":0.01}},"
    "{\"class_name\":\"AveragePooling2D\",\"config\":{\"name\":\"ap\",\"padding\":\"same\"}},"
    "{\"class_name\":\"Dense\",\"config\":{\"name\":\"d\",\"activation\":\"hard_sigmoid\"}},"
    "{\"class_name\":\"Bidirectional\",\"config\":{\"name\":\"bi\",\"layer\":{\"class_name\":"
    "\"LSTM\",\"config\":{\"name\":\"in\",\"recurrent_activation\":\"hard_sigmoid\","
    "\"activation\":\"tanh\"}}}}]}}";

static void keras_model(void)
{
    m.framework = STR("keras");
    toy_add(&m, "c1.c1.kernel", 0, 3, 3, 1, 2, -1);
    toy_add(&m, "c2.c2.kernel", 0, 3, 3, 2, 2, -1);
    toy_add(&m, "bn.bn.gamma", 0, 2, -1);
    toy_add(&m, "bn.bn.beta", 0, 2, -1);
    toy_add(&m, "bn.bn.moving_mean", 0, 2, -1);
    toy_add(&m, "bn.bn.moving_variance", 1, 2, -1);
    toy_add(&m, "d.d.kernel", 0, 5, 3, -1);
    toy_add(&m, "bi.bi.forward_lstm.lstm_cell.kernel", 0, 3, 8, -1);
    toy_add(&m, "bi.bi.forward_lstm.lstm_cell.recurrent_kernel", 0, 2, 8, -1);
    toy_add(&m, "bi.bi.forward_lstm.lstm_cell.bias", 0, 8, -1);
    attach(&m, "model_config.json", keras_config);
    must(model_meta_add(&m, STR("keras_version"), STR("2.11.0"), &err));
    toy_done(&m);
}

static const char rules[] = "# nnferry-map 1\nkind \"a\" = linear\nkind \"b\" = linear\n"
                            "kind \"c\" = linear\nkind \"d\" = linear\n";
static const char no_flatten[] = "# nnferry-map 1\nflatten \"d\" = none\n";

static void a_config_tells(void **state)
{
    (void)state;
    keras_model();
    must(plan_into((struct map_opt){.to = "flax", .rules = STR(no_flatten)}, NULL));
    says("bn", "epsilon",
         "epsilon is 0.0001 in keras, 1e-05 in flax by default: set epsilon=0.0001");
    says("bn", "momentum",
         "momentum keeps 0.8 in keras, 0.99 in flax by default: set momentum=0.8 (training alone)");
    says("c2", "padding", "padding is none in keras, same in flax by default: set padding='VALID'");
    says("act", "form", "gelu is exact in keras, tanh in flax by default: set approximate=False");
    says("lr", "slope",
         "leaky_relu's slope is 0.25 in keras, 0.01 in flax by default: set negative_slope=0.25");
    says("ap", "padding",
         "the pool's padding is same in keras, none in flax by default: set padding='SAME'");
    says("ap", "border",
         "padding in the pool's divisor is left out in keras, counted in flax by default: set "
         "count_include_pad=False");
    says("d", "form",
         "hard_sigmoid is x/5+1/2 in keras, always x/6+1/2 in flax: the model must do it itself");
    says("bi.l0", "gates",
         "the gates' function is hard_sigmoid in keras, sigmoid in flax by default: set "
         "gate_fn=hard_sigmoid");
    assert_null(note_on("c1", "padding")); /* same in both */
    assert_null(note_on("lr2", "slope"));  /* 0.01 in both */
    assert_null(note_on("bi.l0", "activation"));
    assert_true(note_on("bn", "epsilon")->known);
    assert_true(str_is(note_on("bn", "epsilon")->set, "epsilon=0.0001"));
    plan_free(&p);
    /* torch's momentum is the share of the new, and its 'same' wants a stride of 1 */
    const char *const allowed[] = {"bi.l0.gates", NULL};
    struct map_opt torch = {.to = "pytorch", .rules = STR(no_flatten)};
    assert_int_equal(plan_into(torch, NULL), ST_CANNOT);
    assert_string_equal(err.code, "ledger");
    assert_non_null(strstr(err.reason, "bi.l0.gates"));
    assert_non_null(
        strstr(err.reason, "pytorch's lstm has sigmoid and no other, not hard_sigmoid"));
    plan_free(&p);
    torch.allow_drop = allowed;
    must(plan_into(torch, NULL));
    says("bn", "momentum",
         "momentum keeps 0.8 in keras, 0.9 in pytorch by default: set momentum=0.2 (training "
         "alone)");
    says("bn", "epsilon",
         "epsilon is 0.0001 in keras, 1e-05 in pytorch by default: set eps=0.0001");
    says("c1", "padding",
         "padding is same in keras, none in pytorch by default: where the stride is not 1 it pads "
         "by the input's size, more at the end than at the start: pad by hand");
    assert_null(note_on("c2", "padding"));
    assert_null(note_on("act", "form")); /* exact in both */
    plan_free(&p);
}

/* A skeleton's own config counts against the source's, not its framework's default. */
static void a_skeleton_tells(void **state)
{
    static const char config[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
        "{\"class_name\":\"LayerNormalization\",\"config\":{\"name\":\"a\",\"epsilon\":1e-05}},"
        "{\"class_name\":\"LayerNormalization\",\"config\":{\"name\":\"b\",\"epsilon\":1e-06}}]}}";
    (void)state;
    m.framework = STR("pytorch");
    like.framework = STR("keras");
    toy_add(&m, "a.weight", 0, 3, -1);
    toy_add(&m, "a.bias", 0, 3, -1);
    toy_add(&m, "b.weight", 0, 4, -1);
    toy_add(&m, "b.bias", 0, 4, -1);
    toy_add(&like, "a.a.gamma", 0, 3, -1);
    toy_add(&like, "a.a.beta", 0, 3, -1);
    toy_add(&like, "b.b.gamma", 0, 4, -1);
    toy_add(&like, "b.b.beta", 0, 4, -1);
    attach(&like, "model_config.json", config);
    toy_done(&m);
    toy_done(&like);
    must(plan_into((struct map_opt){.like = &like, .to = "keras"}, NULL));
    assert_int_equal(p.n_notes, 1);
    says("b", "epsilon",
         "epsilon is 1e-05 in pytorch by default, 1e-06 in the skeleton: set epsilon to what the "
         "model has");
    plan_free(&p);
}

/* Where both configs tell, the skeleton's goes along with the source's numbers. */
static void a_config_is_written(void **state)
{
    static const char config[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
        "{\"class_name\":\"Dense\",\"config\":{\"name\":\"d\"}},"
        "{\"class_name\":\"BatchNormalization\",\"config\":{\"momentum\":0.99,\"name\":"
        "\"bn\", \"epsilon\" : 0.001}}]}}";
    static const char written[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
        "{\"class_name\":\"Dense\",\"config\":{\"name\":\"d\"}},"
        "{\"class_name\":\"BatchNormalization\",\"config\":{\"momentum\":0.75,\"name\":"
        "\"bn\", \"epsilon\" : 1e-12}}]}}";
    static const char told[] = "{\"layers\":[{\"path\":\"bn\",\"epsilon\":1e-12,"
                               "\"momentum\":0.75}],\"functions\":[]}";
    static const char *const leaf[] = {"weight", "bias", "running_mean", "running_var"};
    static const char *const own[] = {"gamma", "beta", "moving_mean", "moving_variance"};
    (void)state;
    m.framework = STR("pytorch");
    like.framework = STR("keras");
    for (size_t i = 0; i < 4; i++) {
        char name[40];
        snprintf(name, sizeof name, "bn.%s", leaf[i]);
        toy_add(&m, name, 1, 3, -1);
        snprintf(name, sizeof name, "bn.bn.%s", own[i]);
        toy_add(&like, name, 1, 3, -1);
    }
    attach(&like, "model_config.json", config);
    must(model_meta_add(&m, STR("nnferry.settings"), STR(told), &err));
    toy_done(&m);
    toy_done(&like);
    must(plan_into((struct map_opt){.like = &like, .to = "keras"}, "keras-h5"));
    assert_int_equal(p.dst.n_attachments, 1);
    const struct attachment *a = &p.dst.attachment[0];
    assert_int_equal(a->n_bytes, strlen(written));
    assert_memory_equal(a->mem, written, strlen(written));
    says("bn", "epsilon",
         "epsilon is 1e-12 in pytorch, 0.001 in the skeleton: its config is written so");
    assert_true(str_is(note_on("bn", "epsilon")->set, "epsilon=1e-12"));
    assert_non_null(note_on("bn", "momentum"));
    assert_int_equal(like.attachment[0].n_bytes, strlen(config));
    plan_free(&p);
    /* what no config tells changes none */
    m.n_meta = 0;
    must(plan_into((struct map_opt){.like = &like, .to = "keras"}, "keras-h5"));
    assert_memory_equal(p.dst.attachment[0].mem, config, strlen(config));
    assert_int_equal(p.n_notes, 2);
    plan_free(&p);
}

static void a_hub_config_tells(void **state)
{
    static const struct {
        const char *config, *epsilon, *form;
    } cases[] = {
        {"{\"model_type\":\"bert\",\"layer_norm_eps\":1e-12,\"hidden_act\":\"gelu\"}",
         "epsilon is 1e-12 in hf, 1e-06 in flax by default: set epsilon=1e-12",
         "gelu is exact in hf, tanh in flax by default: set approximate=False"},
        {"{\"model_type\":\"bert\",\"layer_norm_eps\":1e-06,\"hidden_act\":\"gelu_new\"}", NULL,
         NULL},
        {"{\"model_type\":\"bert\",\"hidden_act\":\"quick_gelu\"}", NULL,
         "gelu is quick in hf, tanh in flax by default: the model must do it itself"},
        {"{\"model_type\":\"bert\",\"layer_norm_eps\":\"x\",\"hidden_act\":[1]}", NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_free(&m);
        model_init(&m);
        toy_add(&m, "embeddings.LayerNorm.weight", 0, 4, -1);
        toy_add(&m, "embeddings.LayerNorm.bias", 0, 4, -1);
        toy_add(&m, "encoder.layer.0.attention.self.query.weight", 0, 4, 4, -1);
        toy_add(&m, "encoder.layer.0.attention.self.query.bias", 0, 4, -1);
        attach(&m, "config.json", cases[i].config);
        toy_done(&m);
        must(plan_into((struct map_opt){.from = "hf", .to = "flax"}, NULL));
        if (cases[i].epsilon)
            says("embeddings.LayerNorm", "epsilon", cases[i].epsilon);
        else
            assert_null(note_on("embeddings.LayerNorm", "epsilon"));
        if (cases[i].form)
            says("hidden_act", "form", cases[i].form);
        else
            assert_null(note_on("hidden_act", "form"));
        plan_free(&p);
    }
}

/* ---- carried on ---- */

static struct str settings_of(const struct model *x)
{
    for (size_t i = 0; i < x->n_meta; i++)
        if (str_is(x->meta[i].key, "nnferry.settings"))
            return x->meta[i].value;
    return STR_NONE;
}

/* What the config told is told by the archive, and comes back as the config. */
static void carried(void **state)
{
    struct model kept;
    (void)state;
    keras_model();
    must(plan_into((struct map_opt){.to = "canonical", .rules = STR(no_flatten)}, "archive"));
    assert_int_equal(p.n_notes, 0);
    struct str text = settings_of(&p.dst);
    assert_true(text.n > 0);
    toy_freeze(&p, &kept);
    must(model_meta_add(&kept, STR("nnferry.settings"), arena_str(&kept.arena, text.p, text.n),
                        &err));
    plan_free(&p);
    model_free(&m);
    m = kept;
    must(plan_into((struct map_opt){.to = "flax", .rules = STR(no_flatten)}, "safetensors"));
    says("bn", "epsilon",
         "epsilon is 0.0001 in keras, 1e-05 in flax by default: set epsilon=0.0001");
    says("c2", "padding", "padding is none in keras, same in flax by default: set padding='VALID'");
    says("act", "form", "gelu is exact in keras, tanh in flax by default: set approximate=False");
    says("lr", "slope",
         "leaky_relu's slope is 0.25 in keras, 0.01 in flax by default: set negative_slope=0.25");
    assert_null(note_on("c1", "padding"));
    assert_true(settings_of(&p.dst).n > 0);
    size_t n = 0; /* once */
    for (size_t i = 0; i < p.dst.n_meta; i++)
        n += str_is(p.dst.meta[i].key, "nnferry.settings");
    assert_int_equal(n, 1);
    plan_free(&p);
    must(plan_into((struct map_opt){.to = "source"}, "safetensors"));
    assert_int_equal(settings_of(&p.dst).n, 0);
    assert_int_equal(p.n_lines, 0); /* not lost: the config that comes back tells it */
    plan_free(&p);
    /* a format without key-values, and what was asked to be left out: no line of the ledger */
    must(plan_into((struct map_opt){.to = "flax", .rules = STR(no_flatten)}, "npz"));
    assert_int_equal(settings_of(&p.dst).n, 0);
    assert_int_equal(p.n_lines, 0);
    plan_free(&p);
}

/* Foreign text: what does not parse says nothing, what is no word of ours becomes none. */
static void damaged_settings(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"layers\":1,\"functions\":{}}",
        "{\"layers\":[1,null,{\"path\":1},{\"path\":\"ln1\",\"epsilon\":\"x\"}]}",
        "{\"layers\":[{\"path\":\"ln1\",\"epsilon\":-1}]}",
        "{\"layers\":[{\"path\":\"ln1\",\"epsilon\":1e400}]}",
        "{\"layers\":[{\"path\":\"conv1\",\"padding\":\"\\u001b[2J\"}]}",
        "{\"functions\":[{\"path\":\"x\",\"of\":\"gelu\",\"setting\":\"form\",\"means\":\"zzz\"},"
        "{\"path\":\"x\",\"of\":\"gelu\",\"setting\":\"slope\",\"means\":\"exact\"},3]}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        model_free(&m);
        model_init(&m);
        must(model_meta_add(&m, STR("nnferry.settings"), str_from(texts[i]), &err));
        torch_model();
        must(plan_into((struct map_opt){.to = "flax"}, NULL));
        assert_int_equal(p.n_notes, 3);
        for (size_t k = 0; k < p.n_notes; k++)
            assert_false(p.note[k].known);
        plan_free(&p);
    }
}

/* ---- eight bits and their scales ---- */

static void add_fp8(const char *name, uint64_t rows, uint64_t cols, const uint8_t *code)
{
    struct tensor *t;
    struct storage *s;
    uint32_t at;
    uint64_t dim[2] = {rows, cols};
    must(model_storage_add(&m, &s, &at, &err));
    s->kind = STORAGE_MEMORY;
    s->mem = code;
    s->raw_bytes = s->stored_bytes = rows * cols;
    must(model_tensor_add(&m, &t, &err));
    t->name = str_from(name);
    t->dtype = DT_F8_E4M3FN;
    t->storage = at;
    must(tensor_set_shape(&m, t, dim, 2, &err));
}

/* Codes of 1, 2, 0.5 and -1. */
static const uint8_t codes[8] = {0x38, 0x40, 0x30, 0xb8, 0x38, 0x38, 0x40, 0x40};

static void scaled_model(void)
{
    m.framework = STR("pytorch");
    add_fp8("a.weight", 2, 4, codes);
    toy_add(&m, "a.weight_scale_inv", 3, 1, 2, -1); /* blocks of 2 rows and 2 columns: 3, 4 */
    add_fp8("b.weight", 2, 4, codes);
    toy_add(&m, "b.weight_scale", 5, -1);
    add_fp8("c.weight", 2, 4, codes);
    toy_add(&m, "c.weight_scale", 10, 2, -1); /* rows: 10, 11 */
    toy_add(&m, "d.weight", 0, 2, 2, -1);
    toy_done(&m);
}

static void read_is(const char *name, const float want[8])
{
    float got[8];
    int64_t t = toy_find(&p.dst, name);
    must(run_read(&p, (uint32_t)t, 0, 8, DT_F32, got, &err));
    assert_memory_equal(got, want, sizeof got);
}

static void scales_are_multiplied_in(void **state)
{
    static const float a[8] = {3, 6, 2, -4, 3, 3, 8, 8}, b[8] = {5, 10, 2.5, -5, 5, 5, 10, 10},
                       c[8] = {10, 20, 5, -10, 11, 11, 22, 22};
    const char *const types[] = {"float32", "bfloat16", "float16", "float64"};
    (void)state;
    scaled_model();
    for (size_t i = 0; i < 4; i++) {
        const char *const dtype[] = {types[i], NULL};
        must(plan_into((struct map_opt){.as_is = true, .dtype = dtype}, NULL));
        assert_int_equal(p.dst.n_tensors, 4);
        assert_int_equal(p.n_lines, 3);
        for (size_t k = 0; k < 3; k++)
            assert_true(p.line[k].harmless && p.line[k].n_elems == 0 &&
                        str_starts(p.line[k].why, STR("multiplied into ")));
        read_is("a.weight", a);
        read_is("b.weight", b);
        read_is("c.weight", c);
        plan_free(&p);
    }
    /* in another framework's axes: what is cast is one with its scale */
    const char *const dtype[] = {"float32", NULL};
    static const float turned[8] = {3, 3, 6, 3, 2, 8, -4, 8};
    must(plan_into((struct map_opt){.to = "flax", .dtype = dtype, .rules = STR(rules)}, NULL));
    read_is("params.a.kernel", turned);
    plan_free(&p);
    /* as they are, both stay as they are */
    must(plan_into((struct map_opt){.as_is = true}, NULL));
    assert_int_equal(p.dst.n_tensors, 7);
    plan_free(&p);
    const char *const some[] = {"d.*=bfloat16", "a.weight=float32", NULL};
    must(plan_into((struct map_opt){.as_is = true, .dtype = some}, NULL));
    assert_int_equal(p.dst.n_tensors, 6);
    assert_int_equal(p.dst.tensor[toy_find(&p.dst, "b.weight_scale")].dtype, DT_F32);
    assert_int_equal(p.dst.tensor[toy_find(&p.dst, "b.weight")].dtype, DT_F8_E4M3FN);
    plan_free(&p);
}

static void refused(struct map_opt o, const char *code)
{
    assert_int_equal(plan_into(o, NULL), ST_CANNOT);
    assert_string_equal(err.code, code);
    plan_free(&p);
}

static void scales_stay(void **state)
{
    const char *const alone[] = {"*_scale=bfloat16", NULL}, *const five[] = {"float8_e5m2", NULL},
                      *const all[] = {"float32", NULL}, *const weights[] = {"*.weight", NULL};
    (void)state;
    scaled_model();
    refused((struct map_opt){.as_is = true, .dtype = alone}, "fp8-scale");
    refused((struct map_opt){.as_is = true, .dtype = five}, "fp8-scale");
    refused((struct map_opt){.as_is = true, .select = weights}, "fp8-scale-apart");
    refused((struct map_opt){.to = "flax", .rules = STR(rules)}, "fp8-scale-layout");
    model_free(&m);
    model_init(&m);
    m.framework = STR("pytorch");
    add_fp8("a.weight", 2, 4, codes);
    toy_add(&m, "a.weight_scale", 3, 3, 1, -1);
    toy_done(&m);
    refused((struct map_opt){.as_is = true, .dtype = all}, "fp8-scale-shape");
    model_free(&m);
    model_init(&m);
    m.framework = STR("pytorch");
    static uint8_t six[12] = {0};
    add_fp8("a.weight", 2, 6, six);
    toy_add(&m, "a.weight_scale", 3, 1, 2, -1); /* blocks of 3, or of 4 and one cut */
    toy_done(&m);
    refused((struct map_opt){.as_is = true, .dtype = all}, "fp8-scale-shape");
}

/* ---- what a cast costs ---- */

static void cost(void **state)
{
    static const float values[5] = {1, 1e6f, 1e-9f, 1e-5f, 0.1f};
    const char *const half[] = {"float16", NULL};
    struct arena a = ARENA_INIT;
    struct cast_cost *c;
    struct tensor *t;
    struct storage *s;
    uint32_t at;
    uint64_t dim[1] = {5};
    size_t n;
    (void)state;
    must(model_storage_add(&m, &s, &at, &err));
    s->kind = STORAGE_MEMORY;
    s->mem = (const uint8_t *)values;
    s->raw_bytes = s->stored_bytes = sizeof values;
    must(model_tensor_add(&m, &t, &err));
    t->name = STR("w");
    t->dtype = DT_F32;
    t->storage = at;
    must(tensor_set_shape(&m, t, dim, 1, &err));
    toy_counter(&m, "n", 7);
    toy_done(&m);
    struct map_opt o = {.as_is = true, .dtype = half};
    must(plan_into(o, NULL));
    assert_int_equal(cast_cost(&p, NULL, &a, &c, &n, &err), ST_CANNOT);
    assert_string_equal(err.code, "overflow");
    plan_free(&p);
    o.allow_overflow = true;
    must(plan_into(o, NULL));
    must(cast_cost(&p, NULL, &a, &c, &n, &err));
    assert_int_equal(n, 1);
    assert_true(c->measured && c->from == DT_F32 && c->to == DT_F16);
    assert_true(str_is(p.dst.tensor[c->tensor].name, "w"));
    assert_int_equal(c->diff.n_unequal, 4);
    assert_int_equal(c->diff.n_overflow, 1);
    assert_int_equal(c->diff.n_flushed, 1);
    assert_int_equal(c->diff.n_subnormal, 1);
    assert_true(c->diff.max_rel >= 1 && c->diff.max_rel <= 1);
    double d = (double)0.1f - 0.0999755859375; /* 0.1 of half precision */
    assert_true(c->diff.max_abs >= d && c->diff.max_abs <= d);
    plan_free(&p);
    must(plan_into((struct map_opt){.as_is = true}, NULL));
    must(cast_cost(&p, NULL, &a, &c, &n, &err));
    assert_int_equal(n, 0);
    plan_free(&p);
    arena_free(&a);
}

/* Layers that no rule knows arrive as they were: whoever converts without --dry-run is told, too.
 */
static void no_rule(void **state)
{
    (void)state;
    m.framework = STR("flax");
    toy_add(&m, "params.Scan_0.Dense_0.kernel", 0, 3, 4, 5, -1);
    toy_add(&m, "params.Scan_0.Dense_0.bias", 0, 3, 5, -1);
    toy_add(&m, "params.pos", 0, 3, 4, -1);
    toy_done(&m);
    must(plan_into((struct map_opt){.to = "pytorch"}, NULL));
    assert_int_equal(p.n_notes, 1);
    says("Scan_0.Dense_0", "axes",
         "no rule for such a layer: its names and axes are flax's, not pytorch's (kernel that no "
         "rule knows)");
    plan_free(&p);
    must(plan_into((struct map_opt){.to = "canonical"}, "archive")); /* its place for such */
    assert_int_equal(p.n_notes, 0);
    plan_free(&p);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(rows),
        T(unknown_values),
        T(from_an_archive),
        T(a_config_tells),
        T(a_skeleton_tells),
        T(a_config_is_written),
        T(a_hub_config_tells),
        T(carried),
        T(damaged_settings),
        T(scales_are_multiplied_in),
        T(scales_stay),
        T(cost),
        T(no_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
