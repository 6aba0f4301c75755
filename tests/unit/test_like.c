/* Skeletons that hold the same numbers otherwise: q, k and v in one tensor or three, heads apart or
 * joined, tables as bare parameters. Every number is compared with an index formula written out by
 * hand.
 */
#include "model/roles.h"
#include "tests/lib/like.h"

static void apart(struct model *x, bool values)
{
    char name[64];
    for (int b = 0; b < 2; b++) {
        for (int k = 0; k < 3; k++) {
            snprintf(name, sizeof name, "params.Block_%d.Attn.%s.kernel", b, part[k]);
            toy_add(x, name, values ? base(b, k) : 0, E, H, D, -1);
            snprintf(name, sizeof name, "params.Block_%d.Attn.%s.bias", b, part[k]);
            toy_add(x, name, values ? base(b, k) + 500 : 0, H, D, -1);
        }
        snprintf(name, sizeof name, "params.Block_%d.Attn.out.kernel", b);
        toy_add(x, name, values ? base(b, 3) : 0, H, D, E, -1);
        snprintf(name, sizeof name, "params.Block_%d.Attn.out.bias", b);
        toy_add(x, name, values ? base(b, 3) + 500 : 0, E, -1);
    }
}

/* Equinox's attention is four dense layers by other names: they meet four of another hand's. */
static void same_parts(void **state)
{
    (void)state;
    static const char *const word[] = {"query", "key", "value", "output"};
    char name[64];
    for (int i = 0; i < 2 * 2 * 4; i++) {
        bool here = i < 8;
        int b = i / 4 % 2, k = i % 4;
        snprintf(name, sizeof name,
                 here ? "h.%d.attention.%s.weight" : "blocks.%d.attn.%s_proj.weight", b, word[k]);
        toy_add(here ? &m : &sk, name, here ? base(b, k) : 0, E, E, -1);
        memcpy(name + strlen(name) - 6, "bias", 5);
        toy_add(here ? &m : &sk, name, here ? base(b, k) + 500 : 0, E, -1);
    }
    go("pytorch", "equinox");
    double w[E * E];
    for (int b = 0; b < 2; b++)
        for (int k = 0; k < 4; k++) {
            for (int i = 0; i < E * E; i++)
                w[i] = base(b, k) + i;
            snprintf(name, sizeof name, "blocks.%d.attn.%s_proj.weight", b, word[k]);
            same(name, w, E * E);
        }
    assert_int_equal(p.n_lines, 0);
}

static void part_it(void **state)
{
    (void)state;
    joined(&m, "qkv", true);
    apart(&sk, false);
    go("pytorch", "flax");
    for (int b = 0; b < 2; b++)
        for (int k = 0; k < 3; k++) {
            char name[64];
            double w[E * E], v[E];
            for (int i = 0; i < E; i++) {
                for (int o = 0; o < E; o++) /* [E, H, D] of rows k*E + o */
                    w[i * E + o] = base(b, 0) + (k * E + o) * E + i;
                v[i] = base(b, 1) + k * E + i;
            }
            snprintf(name, sizeof name, "params.Block_%d.Attn.%s.kernel", b, part[k]);
            same(name, w, E * E);
            snprintf(name, sizeof name, "params.Block_%d.Attn.%s.bias", b, part[k]);
            same(name, v, E);
        }
    double o[E * E];
    for (int i = 0; i < E; i++)
        for (int j = 0; j < E; j++)
            o[i * E + j] = base(1, 2) + j * E + i;
    same("params.Block_1.Attn.out.kernel", o, E * E);
}

static void join_it(void **state)
{
    (void)state;
    apart(&m, true);
    joined(&sk, "c_attn", false);
    go("flax", "pytorch");
    for (int b = 0; b < 2; b++) {
        char name[64];
        double w[3 * E * E], v[3 * E];
        for (int k = 0; k < 3; k++)
            for (int o = 0; o < E; o++) {
                for (int i = 0; i < E; i++)
                    w[(k * E + o) * E + i] = base(b, k) + i * E + o;
                v[k * E + o] = base(b, k) + 500 + o;
            }
        snprintf(name, sizeof name, "h.%d.attn.c_attn.weight", b);
        same(name, w, 3 * E * E);
        snprintf(name, sizeof name, "h.%d.attn.c_attn.bias", b);
        same(name, v, 3 * E);
    }
}

/* A name that does not say in which order the parts lie: asked, and answered. */
static void which_part(void **state)
{
    (void)state;
    joined(&m, "mixed", true);
    apart(&sk, false);
    assert_int_equal(go_with("pytorch", "flax", NULL), ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    struct str text = buf_as_str(&asked);
    assert_true(str_find_str(text, STR("\"h.0.attn.mixed_part_a\" -> ?"), 0) < text.n);
    plan_free(&p);
    enum status st = go_with("pytorch", "flax",
                             "h.{n}.attn.mixed_part_a -> Block_{n}.Attn.key\n"
                             "h.{n}.attn.mixed_part_b -> Block_{n}.Attn.query\n"
                             "h.{n}.attn.mixed_part_c -> Block_{n}.Attn.value\n");
    if (st != ST_OK)
        fail_msg("%s: %s\n%.*s", err.code, err.reason, (int)asked.n, (const char *)asked.p);
    double v[E];
    for (int i = 0; i < E; i++)
        v[i] = base(1, 1) + i;
    same("params.Block_1.Attn.key.bias", v, E);
}

/* query_key_value: GPT-NeoX has its rows head by head, others not. Never split by name. */
static void odd_order(void **state)
{
    (void)state;
    joined(&m, "query_key_value", true);
    apart(&sk, false);
    assert_int_equal(go_with("pytorch", "flax", NULL), ST_CANNOT);
    assert_true(asked.n > 0);
}

/* key and value in one tensor, of another width than the query */
static void kv(void **state)
{
    (void)state;
    toy_add(&m, "attn.to_q.weight", 0, 6, 4, -1);
    toy_add(&m, "attn.to_kv.weight", 1000, 8, 5, -1);
    toy_add(&sk, "attention.q_proj.weight", 0, 6, 4, -1);
    toy_add(&sk, "attention.k_proj.weight", 0, 4, 5, -1);
    toy_add(&sk, "attention.v_proj.weight", 0, 4, 5, -1);
    go("pytorch", "pytorch");
    double v[20];
    for (int i = 0; i < 20; i++)
        v[i] = 1020 + i;
    same("attention.v_proj.weight", v, 20);
}

static void gate_up(void **state)
{
    (void)state;
    toy_add(&m, "mlp.gate_proj.weight", 0, 4, 3, -1);
    toy_add(&m, "mlp.up_proj.weight", 1000, 4, 3, -1);
    toy_add(&m, "mlp.down_proj.weight", 2000, 3, 4, -1);
    toy_add(&sk, "feed.gate_up_proj.weight", 0, 8, 3, -1);
    toy_add(&sk, "feed.narrow_proj.weight", 0, 3, 4, -1);
    go("pytorch", "pytorch");
    double v[24];
    for (int i = 0; i < 24; i++)
        v[i] = i < 12 ? i : 1000 + i - 12;
    same("feed.gate_up_proj.weight", v, 24);
}

/* A table as a parameter, with a first axis of 1 */
static void table(void **state)
{
    (void)state;
    toy_add(&m, "wpe.weight", 0, 7, 3, -1);
    toy_add(&m, "fc.weight", 100, 3, 3, -1);
    toy_add(&m, "fc.bias", 200, 3, -1);
    toy_add(&sk, "params.places", 0, 1, 7, 3, -1);
    toy_add(&sk, "params.Dense_0.kernel", 0, 3, 3, -1);
    toy_add(&sk, "params.Dense_0.bias", 0, 3, -1);
    go("pytorch", "flax");
    double v[21];
    for (int i = 0; i < 21; i++)
        v[i] = i;
    same("params.places", v, 21);
    assert_int_equal(p.dst.tensor[toy_find(&p.dst, "params.places")].n_dims, 3);
}

/* ---- cells that look like dense layers ---- */

enum { IN = 3, HID = 2 };

static void torch_cell(struct model *x, const char *module, bool values)
{
    static const struct {
        const char *leaf;
        int cols;
    } leaf[] = {{"weight_ih_l0", IN}, {"weight_hh_l0", HID}, {"bias_ih_l0", 0}, {"bias_hh_l0", 0}};
    char name[64];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.%s", module, leaf[i].leaf);
        double from = values ? 1000.0 * (i + 1) : 0;
        if (leaf[i].cols)
            toy_add(x, name, from, 4 * HID, leaf[i].cols, -1);
        else
            toy_add(x, name, from, 4 * HID, -1);
    }
}

static void haiku_linear(struct model *x, const char *module, int in, int out, double values)
{
    char name[64];
    snprintf(name, sizeof name, "%s.w", module);
    toy_add(x, name, values, in, out, -1);
    snprintf(name, sizeof name, "%s.b", module);
    toy_add(x, name, values ? values + 500 : 0, out, -1);
}

/* A Haiku LSTM by any other name, where torch's skeleton has a cell of that size. */
static void cell_from_haiku(void **state)
{
    (void)state;
    haiku_linear(&m, "params.net/core/linear", IN + HID, 4 * HID, 1000);
    haiku_linear(&m, "params.net/head/linear", HID, 4, 5000);
    torch_cell(&sk, "rnn", false);
    toy_add(&sk, "fc.weight", 0, 4, HID, -1);
    toy_add(&sk, "fc.bias", 0, 4, -1);
    go("haiku", "pytorch");
    double w[4 * HID * IN];
    const int gate[4] = {0, 2, 1, 3}; /* torch's i f g o in Haiku's i g f o */
    for (int g = 0; g < 4; g++)
        for (int o = 0; o < HID; o++)
            for (int i = 0; i < IN; i++)
                w[(g * HID + o) * IN + i] = 1000 + i * 4 * HID + gate[g] * HID + o;
    same("rnn.weight_ih_l0", w, 4 * HID * IN);
    assert_int_equal(p.dst.n_tensors, 6);
}

static void cell_to_haiku(void **state)
{
    (void)state;
    torch_cell(&m, "rnn", true);
    toy_add(&m, "fc.weight", 5000, 4, HID, -1);
    toy_add(&m, "fc.bias", 6000, 4, -1);
    haiku_linear(&sk, "params.net/core/linear", IN + HID, 4 * HID, 0);
    haiku_linear(&sk, "params.net/head/linear", HID, 4, 0);
    go("pytorch", "haiku");
    double w[(IN + HID) * 4 * HID];
    const int gate[4] = {0, 2, 1, 3};
    for (int j = 0; j < IN + HID; j++)
        for (int g = 0; g < 4; g++)
            for (int o = 0; o < HID; o++) {
                int row = gate[g] * HID + o;
                w[(j * 4 + g) * HID + o] = j < IN ? 1000 + row * IN + j : 2000 + row * HID + j - IN;
            }
    same("params.net/core/linear.w", w, (IN + HID) * 4 * HID);
    assert_int_equal(p.dst.n_tensors, 4);
}

/* Two directions, in modules with names of their own. */
static void cells_both_ways(void **state)
{
    (void)state;
    haiku_linear(&m, "params.enc/bwd/linear", IN + HID, 4 * HID, 1000);
    haiku_linear(&m, "params.enc/fwd/linear", IN + HID, 4 * HID, 5000);
    torch_cell(&sk, "enc", false);
    toy_add(&sk, "enc.weight_ih_l0_reverse", 0, 4 * HID, IN, -1);
    toy_add(&sk, "enc.weight_hh_l0_reverse", 0, 4 * HID, HID, -1);
    toy_add(&sk, "enc.bias_ih_l0_reverse", 0, 4 * HID, -1);
    toy_add(&sk, "enc.bias_hh_l0_reverse", 0, 4 * HID, -1);
    go("haiku", "pytorch");
    uint64_t n;
    double *v = toy_values(&p, (size_t)toy_find(&p.dst, "enc.weight_ih_l0"), &n);
    assert_true(v[0] == 5000);
    free(v);
    v = toy_values(&p, (size_t)toy_find(&p.dst, "enc.weight_ih_l0_reverse"), &n);
    assert_true(v[0] == 1000);
    free(v);
}

/* One of two, and nothing says which: asked about, and the answer is heard. */
static void cell_or_dense(void **state)
{
    (void)state;
    haiku_linear(&m, "params.one/linear", IN + HID, 4 * HID, 1000);
    haiku_linear(&m, "params.two/linear", IN + HID, 4 * HID, 5000);
    torch_cell(&sk, "rnn", false);
    toy_add(&sk, "fc.weight", 0, 4 * HID, IN + HID, -1);
    toy_add(&sk, "fc.bias", 0, 4 * HID, -1);
    assert_int_equal(go_with("haiku", "pytorch", NULL), ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    assert_true(str_find_str(buf_as_str(&asked), STR("kind \"one\" = ?"), 0) < asked.n);
    plan_free(&p);
    assert_int_equal(go_with("haiku", "pytorch", "kind two = lstm\nkind one = linear\n"), ST_OK);
    uint64_t n;
    double *v = toy_values(&p, (size_t)toy_find(&p.dst, "rnn.weight_ih_l0"), &n);
    assert_true(v[0] == 5000);
    free(v);
    plan_free(&p);
    assert_int_equal(go_with("haiku", "pytorch", "kind one = conv\n"), ST_CANNOT);
    assert_string_equal(err.code, "map-kind");
}

/* A dense layer of fitting size stays one where the other side has dense layers only, and a module
 * called lstm may hold more than a cell. */
static void dense_like_cell(void **state)
{
    (void)state;
    haiku_linear(&m, "params.head/linear", IN + HID, 4 * HID, 1000);
    toy_add(&sk, "fc.weight", 0, 4 * HID, IN + HID, -1);
    toy_add(&sk, "fc.bias", 0, 4 * HID, -1);
    go("haiku", "pytorch");
    assert_int_equal(p.dst.n_tensors, 2);
}

static void module_like_cell(void **state)
{
    (void)state;
    haiku_linear(&m, "params.lstm/lstm/linear", IN + HID, 4 * HID, 1000);
    haiku_linear(&m, "params.lstm/linear", HID + 3, 4 * HID, 5000);
    torch_cell(&sk, "rnn", false);
    toy_add(&sk, "fc.weight", 0, 4 * HID, HID + 3, -1);
    toy_add(&sk, "fc.bias", 0, 4 * HID, -1);
    go("haiku", "pytorch");
    uint64_t n;
    double *v = toy_values(&p, (size_t)toy_find(&p.dst, "fc.bias"), &n);
    assert_true(v[0] == 5500);
    free(v);
}

/* A vanilla RNN is two linear layers. */
static void two_linears(void **state)
{
    (void)state;
    haiku_linear(&m, "params.core/linear", IN, HID, 1000);
    haiku_linear(&m, "params.core/linear_1", HID, HID, 5000);
    toy_add(&sk, "r.weight_ih_l0", 0, HID, IN, -1);
    toy_add(&sk, "r.weight_hh_l0", 0, HID, HID, -1);
    toy_add(&sk, "r.bias_ih_l0", 0, HID, -1);
    toy_add(&sk, "r.bias_hh_l0", 0, HID, -1);
    go("haiku", "pytorch");
    same("r.bias_hh_l0", (double[]){5500, 5501}, HID);
    same("r.weight_ih_l0", (double[]){1000, 1002, 1004, 1001, 1003, 1005}, HID * IN);
}

/* Nothing to compare with: what sounds like a cell is asked about, other layers get a note. */
static void cell_alone(void **state)
{
    (void)state;
    haiku_linear(&m, "params.core/linear", IN + HID, 4 * HID, 1000);
    haiku_linear(&m, "params.head/linear", HID + 3, 4 * HID, 5000);
    toy_done(&m);
    plan_init(&p, &m);
    struct map_opt o = {.from = "haiku", .to = "pytorch"};
    assert_int_equal(map_plan(&p, &o, NULL, UINT64_MAX, &asked, &err), ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    plan_free(&p);
    plan_init(&p, &m);
    o.rules = STR("kind core = lstm\n");
    assert_int_equal(map_plan(&p, &o, NULL, UINT64_MAX, NULL, &err), ST_OK);
    assert_true(model_find(&p.dst, STR("core.weight_ih")) >= 0);
    assert_int_equal(p.n_notes, 1);
    assert_true(str_is(p.note[0].layer, "head"));
}

/* What builds the model that will load it is the skeleton's: into Hugging Face's folders. */
static void config_of_skeleton(void **state)
{
    (void)state;
    static const char text[] = "{\"of\":\"skeleton\"}";
    for (int hf = 0; hf < 2; hf++) {
        struct attachment *a;
        toy_add(&m, "params.fc.kernel", 0, 4, 5, -1);
        toy_add(&sk, "fc.weight", 0, 5, 4, -1);
        assert_int_equal(model_attach(&sk, &a, &err), ST_OK);
        a->name = STR("config.json");
        a->mem = (const uint8_t *)text;
        a->n_bytes = sizeof text - 1;
        go("flax", hf ? "hf" : "pytorch");
        assert_int_equal(p.dst.n_attachments, hf);
        if (hf)
            assert_int_equal(p.dst.attachment[0].n_bytes, sizeof text - 1);
        end(state);
        begin(state);
    }
}

/* A bare parameter of a model of nobody's family takes the name that the skeleton has for it. */
static void foreign_bias(void **state)
{
    (void)state;
    toy_add(&m, "norm.weight", 1, 4, -1);
    toy_add(&m, "norm.bias", 2, 4, -1);
    toy_add(&m, "shift", 100, 7, -1);
    toy_add(&sk, "bert.tf_bert_model.bert.embeddings.LayerNorm.gamma:0", 0, 4, -1);
    toy_add(&sk, "bert.tf_bert_model.bert.embeddings.LayerNorm.beta:0", 0, 4, -1);
    toy_add(&sk, "mlm___cls.tf_bert_model.mlm___cls.predictions.bias:0", 0, 7, -1);
    go("pytorch", "hf_tf");
    double v[7];
    for (int i = 0; i < 7; i++)
        v[i] = 100 + i;
    same("mlm___cls.tf_bert_model.mlm___cls.predictions.bias:0", v, 7);
}

/* A layer that only the source has goes, and one that only the skeleton has is made up, by the
 * names that the questions have: those of layers, which files may call otherwise. */
static void layers_dropped(void **state)
{
    static const char *const gone[] = {"norm_in.*", NULL};
    (void)state;
    for (int way = 0; way < 3; way++) {
        begin(state);
        m.framework = STR("keras");
        toy_add(&m, "layers.dense.vars.0", 0, 3, 4, -1);
        toy_add(&m, "layers.dense.vars.1", 20, 4, -1);
        toy_add(&m, "layers.normalization.vars.0", 0, 7, -1);
        toy_add(&m, "layers.normalization.vars.1", 0, 7, -1);
        assert_int_equal(
            model_meta_add(&m, STR("layers/normalization/vars@name"), STR("norm_in"), &err), ST_OK);
        toy_add(&sk, "fc.weight", 0, 4, 3, -1);
        toy_add(&sk, "fc.bias", 0, 4, -1);
        toy_add(&sk, "scale", 0, 9, -1);
        toy_done(&m);
        toy_done(&sk);
        plan_init(&p, &m);
        memset(&err, 0, sizeof err);
        struct map_opt o = {.to = "pytorch", .like = &sk};
        if (way == 1)
            o.rules = STR("drop norm_in.*\nsynth scale = 0\n");
        if (way == 2) {
            o.rules = STR("synth scale = 1\n");
            o.allow_drop = gone;
        }
        enum status st = map_plan(&p, &o, NULL, UINT64_MAX, &asked, &err);
        if (way == 0) {
            assert_int_equal(st, ST_CANNOT);
            struct str said = buf_as_str(&asked);
            assert_true(str_find_str(said, STR("drop \"norm_in.vars.0\""), 0) < said.n);
            assert_true(str_find_str(said, STR("synth \"scale\" = 0"), 0) < said.n);
        } else {
            if (st != ST_OK)
                fail_msg("%s %s\n%.*s", err.code, err.reason, (int)asked.n, (const char *)asked.p);
            const double is = way == 2;
            const double want[9] = {is, is, is, is, is, is, is, is, is};
            same("scale", want, 9);
            assert_int_equal(p.dst.n_tensors, 3);
        }
        if (way < 2)
            end(state);
    }
}

/* Counters beside the weights: TensorFlow's own stays behind, others where the skeleton has none
 * and they may. */
static void counters_beside(void **state)
{
    static const char *const may[] = {"step", "*.ExponentialMovingAverage", NULL};
    (void)state;
    for (int way = 0; way < 2; way++) {
        begin(state);
        m.framework = STR("tensorflow");
        toy_add(&m, "fc.kernel", 0, 3, 4, -1);
        toy_add(&m, "fc.bias", 0, 4, -1);
        toy_add(&m, "fc.kernel.ExponentialMovingAverage", 0, 3, 4, -1);
        toy_counter(&m, "save_counter", 1);
        toy_counter(&m, "step", 7);
        toy_add(&sk, "fc.weight", 0, 4, 3, -1);
        toy_add(&sk, "fc.bias", 0, 4, -1);
        toy_done(&m);
        toy_done(&sk);
        assert_int_equal(roles_by_name(&m, &err), ST_OK);
        plan_init(&p, &m);
        struct map_opt o = {.to = "pytorch", .like = &sk, .allow_drop = way ? may : NULL};
        assert_int_equal(map_plan(&p, &o, NULL, UINT64_MAX, &asked, &err), ST_OK);
        assert_int_equal(p.dst.n_tensors, way ? 2 : 4);
        if (!way)
            end(state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(part_it, begin, end),
        cmocka_unit_test_setup_teardown(same_parts, begin, end),
        cmocka_unit_test_setup_teardown(join_it, begin, end),
        cmocka_unit_test_setup_teardown(which_part, begin, end),
        cmocka_unit_test_setup_teardown(odd_order, begin, end),
        cmocka_unit_test_setup_teardown(kv, begin, end),
        cmocka_unit_test_setup_teardown(gate_up, begin, end),
        cmocka_unit_test_setup_teardown(table, begin, end),
        cmocka_unit_test_setup_teardown(cell_from_haiku, begin, end),
        cmocka_unit_test_setup_teardown(cell_to_haiku, begin, end),
        cmocka_unit_test_setup_teardown(cells_both_ways, begin, end),
        cmocka_unit_test_setup_teardown(cell_or_dense, begin, end),
        cmocka_unit_test_setup_teardown(dense_like_cell, begin, end),
        cmocka_unit_test_setup_teardown(module_like_cell, begin, end),
        cmocka_unit_test_setup_teardown(two_linears, begin, end),
        cmocka_unit_test_setup_teardown(cell_alone, begin, end),
        cmocka_unit_test_setup_teardown(config_of_skeleton, begin, end),
        cmocka_unit_test_setup_teardown(foreign_bias, begin, end),
        cmocka_unit_test_teardown(layers_dropped, end),
        cmocka_unit_test_teardown(counters_beside, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
