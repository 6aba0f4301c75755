/* Skeletons that stack blocks along an axis which the source has apart, or along another axis, and
 * the other way round. Every number is compared with an index formula written out by hand.
 */
#include "tests/lib/like.h"

/* A test that is given the place of an axis. */
static int zero = 0, one = 1, last = -1;
static int begin_at(void **state)
{
    int *at = *state;
    begin(state);
    *state = at;
    return 0;
}

enum { L = 3, I = 4, O = 5 };

static void unrolled(struct model *x, bool values)
{
    char name[64];
    for (int b = 0; b < L; b++) {
        snprintf(name, sizeof name, "layers.%d.fc.weight", b);
        toy_add(x, name, values ? base(b, 0) : 0, O, I, -1);
        snprintf(name, sizeof name, "layers.%d.fc.bias", b);
        toy_add(x, name, values ? base(b, 1) : 0, O, -1);
        snprintf(name, sizeof name, "layers.%d.norm.weight", b);
        toy_add(x, name, values ? base(b, 2) : 0, O, -1);
        snprintf(name, sizeof name, "layers.%d.norm.bias", b);
        toy_add(x, name, values ? base(b, 3) : 0, O, -1);
    }
    toy_add(x, "head.weight", values ? 7e6 : 0, 2, O, -1);
    toy_add(x, "head.bias", values ? 8e6 : 0, 2, -1);
}

static void stacked(struct model *x, bool values)
{
    toy_add(x, "params.ScanBlock_0.Dense_0.kernel", values ? 0 : 0, L, I, O, -1);
    toy_add(x, "params.ScanBlock_0.Dense_0.bias", values ? 1e4 : 0, L, O, -1);
    toy_add(x, "params.ScanBlock_0.LayerNorm_0.scale", values ? 2e4 : 0, L, O, -1);
    toy_add(x, "params.ScanBlock_0.LayerNorm_0.bias", values ? 3e4 : 0, L, O, -1);
    toy_add(x, "params.out.kernel", values ? 7e6 : 0, O, 2, -1);
    toy_add(x, "params.out.bias", values ? 8e6 : 0, 2, -1);
}

static void stack(void **state)
{
    (void)state;
    unrolled(&m, true);
    stacked(&sk, false);
    go("pytorch", "flax");
    double k[L * I * O], b[L * O];
    for (int l = 0; l < L; l++)
        for (int o = 0; o < O; o++) {
            for (int i = 0; i < I; i++)
                k[(l * I + i) * O + o] = base(l, 0) + o * I + i;
            b[l * O + o] = base(l, 1) + o;
        }
    same("params.ScanBlock_0.Dense_0.kernel", k, L * I * O);
    same("params.ScanBlock_0.Dense_0.bias", b, L * O);
    for (int l = 0; l < L; l++)
        for (int o = 0; o < O; o++)
            b[l * O + o] = base(l, 2) + o;
    same("params.ScanBlock_0.LayerNorm_0.scale", b, L * O);
    assert_int_equal(p.n_lines, 0);
}

static void unstack(void **state)
{
    (void)state;
    stacked(&m, true);
    unrolled(&sk, false);
    go("flax", "pytorch");
    for (int l = 0; l < L; l++) {
        char name[64];
        double w[O * I], b[O];
        for (int o = 0; o < O; o++) {
            for (int i = 0; i < I; i++)
                w[o * I + i] = (l * I + i) * O + o;
            b[o] = 1e4 + l * O + o;
        }
        snprintf(name, sizeof name, "layers.%d.fc.weight", l);
        same(name, w, O * I);
        snprintf(name, sizeof name, "layers.%d.fc.bias", l);
        same(name, b, O);
    }
    assert_int_equal(p.n_lines, 0);
}

/* Both sides stack: block by block, whatever the names; the same where one side's names alone are
 * numbered. */
static void restack(void **state)
{
    (void)state;
    stacked(&m, true);
    toy_add(&sk, "trunk.fc.kernel", 0, L, I, O, -1);
    toy_add(&sk, "trunk.fc.bias", 0, L, O, -1);
    toy_add(&sk, "trunk.norm.scale", 0, L, O, -1);
    toy_add(&sk, "trunk.norm.bias", 0, L, O, -1);
    toy_add(&sk, "out.kernel", 0, O, 2, -1);
    toy_add(&sk, "out.bias", 0, 2, -1);
    go("flax", "nnx");
    double k[L * I * O], b[L * O];
    for (int i = 0; i < L * I * O; i++)
        k[i] = i;
    for (int i = 0; i < L * O; i++)
        b[i] = 3e4 + i;
    same("trunk.fc.kernel", k, L * I * O);
    same("trunk.norm.bias", b, L * O);
    assert_int_equal(p.n_lines, 0);
}

static void flat_names(void **state)
{
    (void)state;
    char name[64];
    stacked(&sk, false);
    for (int b = 0; b < L; b++) {
        snprintf(name, sizeof name, "params.layers_%d_fc.kernel", b);
        toy_add(&m, name, base(b, 0), I, O, -1);
        snprintf(name, sizeof name, "params.layers_%d_fc.bias", b);
        toy_add(&m, name, base(b, 1), O, -1);
        snprintf(name, sizeof name, "params.layers_%d_norm.scale", b);
        toy_add(&m, name, base(b, 2), O, -1);
        snprintf(name, sizeof name, "params.layers_%d_norm.bias", b);
        toy_add(&m, name, base(b, 3), O, -1);
    }
    toy_add(&m, "params.out.kernel", 7e6, O, 2, -1);
    toy_add(&m, "params.out.bias", 8e6, 2, -1);
    go("flax", "flax");
    double b[L * O];
    for (int i = 0; i < L * O; i++)
        b[i] = base(i / O, 2) + i % O;
    same("params.ScanBlock_0.LayerNorm_0.scale", b, L * O);
}

/* Square layers of one width have a shared first axis, too, and are no stack. */
static void square_is_no_stack(void **state)
{
    (void)state;
    double b[4], k[16];
    for (int side = 0; side < 2; side++) {
        struct model *x = side ? &sk : &m;
        toy_add(x, "params.mlp.fc1.kernel", side ? 0 : 100, 4, 4, -1);
        toy_add(x, "params.mlp.fc1.bias", side ? 0 : 200, 4, -1);
        toy_add(x, "params.mlp.fc2.kernel", side ? 0 : 300, 4, 4, -1);
        toy_add(x, "params.mlp.fc2.bias", side ? 0 : 400, 4, -1);
    }
    go("flax", "flax");
    for (int i = 0; i < 4; i++)
        b[i] = 400 + i;
    for (int i = 0; i < 16; i++)
        k[i] = 300 + i;
    same("params.mlp.fc2.bias", b, 4);
    same("params.mlp.fc2.kernel", k, 16);
    assert_int_equal(p.n_lines, 0);
}

/* Blocks that are not as many, or not as large: no stack, and asked about. */
static void no_stack(void **state)
{
    (void)state;
    unrolled(&m, true);
    stacked(&sk, false);
    toy_add(&sk, "params.ScanBlock_0.Dense_1.bias", 0, L, O, -1);
    assert_int_equal(go_with("pytorch", "flax", NULL), ST_CANNOT);
    assert_true(asked.n > 0);
}

/* Stacked and joined at once: rows of one axis, blocks of another. */
static void both_at_once(void **state)
{
    (void)state;
    joined(&m, "qkv", true);
    toy_add(&sk, "params.ScanBlock_0.attn.query.kernel", 0, 2, E, H, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.query.bias", 0, 2, H, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.key.kernel", 0, 2, E, H, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.key.bias", 0, 2, H, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.value.kernel", 0, 2, E, H, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.value.bias", 0, 2, H, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.out.kernel", 0, 2, H, D, E, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.out.bias", 0, 2, E, -1);
    go("pytorch", "flax");
    double w[2 * E * E];
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < E; i++)
            for (int o = 0; o < E; o++)
                w[(b * E + i) * E + o] = base(b, 0) + (E + o) * E + i;
    same("params.ScanBlock_0.attn.key.kernel", w, 2 * E * E);
    double bias[2 * E];
    for (int i = 0; i < 2 * E; i++)
        bias[i] = base(i / E, 1) + E + i % E;
    same("params.ScanBlock_0.attn.key.bias", bias, 2 * E);
    assert_int_equal(p.dst.tensor[toy_find(&p.dst, "params.ScanBlock_0.attn.key.bias")].n_dims, 3);
}

/* Haiku's layer_stack, in the middle of a model. */
static void haiku_stack(void **state)
{
    (void)state;
    unrolled(&m, true);
    toy_add(&sk, "params.__layer_stack_no_per_layer/linear.w", 0, L, I, O, -1);
    toy_add(&sk, "params.__layer_stack_no_per_layer/linear.b", 0, L, O, -1);
    toy_add(&sk, "params.__layer_stack_no_per_layer/layer_norm.scale", 0, L, O, -1);
    toy_add(&sk, "params.__layer_stack_no_per_layer/layer_norm.offset", 0, L, O, -1);
    toy_add(&sk, "params.linear.w", 0, O, 2, -1);
    toy_add(&sk, "params.linear.b", 0, 2, -1);
    go("pytorch", "haiku");
    double k[L * I * O];
    for (int l = 0; l < L; l++)
        for (int o = 0; o < O; o++)
            for (int i = 0; i < I; i++)
                k[(l * I + i) * O + o] = base(l, 0) + o * I + i;
    same("params.__layer_stack_no_per_layer/linear.w", k, L * I * O);
}

/* A stack along another axis: of n dimensions d (0 = end of list) with the blocks put in at it. */
static void add_along(struct model *x, const char *name, double base_value, int axis, int d0,
                      int d1)
{
    int d[3] = {d0, d1, 0}, n = d1 ? 2 : 1, at = axis < 0 ? n + 1 + axis : axis, all[4], k = 0;
    for (int i = 0; i <= n; i++)
        all[i] = i == at ? L : d[k++];
    if (n == 1)
        toy_add(x, name, base_value, all[0], all[1], -1);
    else
        toy_add(x, name, base_value, all[0], all[1], all[2], -1);
}

static void stacked_along(struct model *x, const char *path, bool values, int axis)
{
    static const char *const leaf[] = {"Dense_0.kernel", "Dense_0.bias", "LayerNorm_0.scale",
                                       "LayerNorm_0.bias"};
    char name[64];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.%s", path, leaf[i]);
        add_along(x, name, values ? i * 1e4 : 0, axis, i ? O : I, i ? 0 : O);
    }
}

static void ends(struct model *x, bool values)
{
    toy_add(x, "params.out.kernel", values ? 7e6 : 0, O, 2, -1);
    toy_add(x, "params.out.bias", values ? 8e6 : 0, 2, -1);
}

/* Where number (l, i, o) of a kernel stands whose blocks lie along that axis. */
static int along(int axis, int l, int i, int o)
{
    return axis == 0 ? (l * I + i) * O + o : axis == 1 ? (i * L + l) * O + o : (i * O + o) * L + l;
}

static void stack_along(void **state)
{
    int axis = *(int *)*state;
    unrolled(&m, true);
    stacked_along(&sk, "params.ScanBlock_0", false, axis);
    ends(&sk, false);
    go("pytorch", "flax");
    double k[L * I * O], b[O * L];
    for (int l = 0; l < L; l++)
        for (int o = 0; o < O; o++) {
            for (int i = 0; i < I; i++)
                k[along(axis, l, i, o)] = base(l, 0) + o * I + i;
            b[o * L + l] = base(l, 3) + o;
        }
    same("params.ScanBlock_0.Dense_0.kernel", k, L * I * O);
    same("params.ScanBlock_0.LayerNorm_0.bias", b, L * O);
    assert_int_equal(p.n_lines, 0);
}

static void unstack_along(void **state)
{
    int axis = *(int *)*state;
    stacked_along(&m, "params.ScanBlock_0", true, axis);
    ends(&m, true);
    unrolled(&sk, false);
    go("flax", "pytorch");
    for (int l = 0; l < L; l++) {
        char name[64];
        double w[O * I], b[O];
        for (int o = 0; o < O; o++) {
            for (int i = 0; i < I; i++)
                w[o * I + i] = along(axis, l, i, o);
            b[o] = 1e4 + o * L + l;
        }
        snprintf(name, sizeof name, "layers.%d.fc.weight", l);
        same(name, w, O * I);
        snprintf(name, sizeof name, "layers.%d.fc.bias", l);
        same(name, b, O);
    }
    assert_int_equal(p.n_lines, 0);
}

/* Both stack, along axes of their own; the blocks' axis is not among those that both begin with. */
static void restack_along(void **state)
{
    int axis = *(int *)*state;
    for (int from = -1; from < 2; from += 2) { /* from the end; axis 1 */
        stacked_along(&m, "params.layers", true, axis);
        ends(&m, true);
        stacked_along(&sk, "trunk", false, from);
        toy_add(&sk, "out.kernel", 0, O, 2, -1);
        toy_add(&sk, "out.bias", 0, 2, -1);
        go("flax", "nnx");
        double k[L * I * O];
        for (int l = 0; l < L; l++)
            for (int o = 0; o < O; o++)
                for (int i = 0; i < I; i++)
                    k[along(from, l, i, o)] = along(axis, l, i, o);
        same("trunk.Dense_0.kernel", k, L * I * O);
        assert_int_equal(p.n_lines, 0);
        end(NULL);
        begin(NULL);
    }
}

/* Every tensor of the block as long along one axis as along the other: asked about, and what the
 * rules file says is done, on either side. */
static void square_blocks(struct model *x, const char *path, bool values)
{
    char name[64];
    snprintf(name, sizeof name, "%s.Dense_0.kernel", path);
    toy_add(x, name, values ? 0 : 0, L, L, L, -1);
    snprintf(name, sizeof name, "%s.Dense_0.bias", path);
    toy_add(x, name, values ? 1000 : 0, L, L, -1);
}

static void cubes(struct model *x, bool values)
{
    for (int b = 0; b < L; b++) {
        char name[64];
        snprintf(name, sizeof name, "layers.%d.fc.weight", b);
        toy_add(x, name, values ? 100 * b : 0, L, L, -1);
        snprintf(name, sizeof name, "layers.%d.fc.bias", b);
        toy_add(x, name, values ? 1000 + 100 * b : 0, L, -1);
    }
}

static void stack_asked(void **state)
{
    (void)state;
    square_blocks(&m, "params.layers", true);
    cubes(&sk, false);
    assert_int_equal(go_with("flax", "pytorch", NULL), ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    const char *want = "# layers: blocks may be stacked along axis 0 (3 blocks) or 1 (3 blocks) or "
                       "-1 (3 blocks) or -2 (3 blocks)\nstack \"layers\" = ?\n";
    buf_u8(&asked, 0);
    assert_non_null(strstr((const char *)asked.p, want));
}

static void stack_ruled(void **state)
{
    (void)state;
    static const struct {
        const char *rule;
        int axis;
    } all[] = {{"stack layers = 0", 0}, {"stack layers = 1", 1}, {"stack layers = -1", 2}};
    for (size_t r = 0; r < 3; r++) {
        square_blocks(&m, "params.layers", true);
        cubes(&sk, false);
        assert_int_equal(go_with("flax", "pytorch", all[r].rule), ST_OK);
        for (int l = 0; l < L; l++) {
            double w[L * L], b[L];
            char name[64];
            for (int i = 0; i < L; i++)
                for (int o = 0; o < L; o++)
                    w[o * L + i] = all[r].axis == 0   ? (l * L + i) * L + o
                                   : all[r].axis == 1 ? (i * L + l) * L + o
                                                      : (i * L + o) * L + l;
            for (int o = 0; o < L; o++)
                b[o] = 1000 + (all[r].axis == 0 ? l * L + o : o * L + l);
            snprintf(name, sizeof name, "layers.%d.fc.weight", l);
            same(name, w, L * L);
            snprintf(name, sizeof name, "layers.%d.fc.bias", l);
            same(name, b, L);
        }
        end(NULL);
        begin(NULL);
    }
}

static void restack_ruled(void **state)
{
    (void)state;
    cubes(&m, true);
    square_blocks(&sk, "params.layers", false);
    assert_int_equal(go_with("pytorch", "flax", "restack layers = 1"), ST_OK);
    double k[L * L * L], b[L * L];
    for (int l = 0; l < L; l++)
        for (int o = 0; o < L; o++) {
            for (int i = 0; i < L; i++)
                k[(i * L + l) * L + o] = 100 * l + o * L + i;
            b[o * L + l] = 1000 + 100 * l + o;
        }
    same("params.layers.Dense_0.kernel", k, L * L * L);
    same("params.layers.Dense_0.bias", b, L * L);
}

/* Both stack, and both are asked about. */
static void both_asked(void **state)
{
    (void)state;
    for (int r = 0; r < 2; r++) {
        for (int side = 0; side < 2; side++) {
            struct model *x = side ? &sk : &m;
            const char *path = side ? "trunk" : "params.layers";
            square_blocks(x, path, !side);
            toy_add(x, side ? "trunk.ln.scale" : "params.layers.ln.scale", side ? 0 : 3000, L, L,
                    -1);
        }
        const char *rules = r ? "stack layers = 1\nrestack trunk = 0" : NULL;
        assert_int_equal(go_with("flax", "nnx", rules), r ? ST_OK : ST_CANNOT);
        if (r) {
            double k[L * L * L];
            for (int l = 0; l < L; l++)
                for (int i = 0; i < L * L; i++)
                    k[l * L * L + i] = ((i / L) * L + l) * L + i % L;
            same("trunk.Dense_0.kernel", k, L * L * L);
        } else {
            assert_true(str_find_str(buf_as_str(&asked), STR("\nstack \"layers\" = ?\n"), 0) <
                        asked.n);
            assert_true(str_find_str(buf_as_str(&asked), STR("\nrestack \"trunk\" = ?\n"), 0) <
                        asked.n);
        }
        end(NULL);
        begin(NULL);
    }
}

static void stack_refused(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *code;
    } all[] = {{"stack ScanBlock_0 = 1", "stack-axis"},  {"stack ScanBlock_0 = 3", "stack-axis"},
               {"stack ScanBlock_0 = 5", "map-syntax"},  {"stack ScanBlock_0 = -4", "map-syntax"},
               {"stack ScanBlock_0 = -0", "map-syntax"}, {"stack ScanBlock_0", "map-syntax"},
               {"restack ScanBlock_0 = 0", "map-unused"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        stacked(&m, true);
        unrolled(&sk, false);
        assert_int_not_equal(go_with("flax", "pytorch", all[i].rule), ST_OK);
        assert_string_equal(err.code, all[i].code);
        end(NULL);
        begin(NULL);
    }
}

/* Heads that stand apart, blocks between them and what is attended to. */
static void heads_along(void **state)
{
    (void)state;
    joined(&m, "qkv", true);
    toy_add(&sk, "params.ScanBlock_0.attn.query.kernel", 0, E, 2, H, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.query.bias", 0, H, 2, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.key.kernel", 0, E, 2, H, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.key.bias", 0, H, 2, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.value.kernel", 0, E, 2, H, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.value.bias", 0, H, 2, D, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.out.kernel", 0, H, 2, D, E, -1);
    toy_add(&sk, "params.ScanBlock_0.attn.out.bias", 0, E, 2, -1);
    go("pytorch", "flax");
    double w[2 * E * E], b[2 * E];
    for (int l = 0; l < 2; l++)
        for (int o = 0; o < E; o++) {
            for (int i = 0; i < E; i++)
                w[(i * 2 + l) * E + o] = base(l, 0) + (E + o) * E + i;
            b[((o / D) * 2 + l) * D + o % D] = base(l, 1) + 2 * E + o;
        }
    same("params.ScanBlock_0.attn.key.kernel", w, 2 * E * E);
    same("params.ScanBlock_0.attn.value.bias", b, 2 * E);
}

/* The same stack under other names. */
static void stack_to_stack(void **state)
{
    (void)state;
    stacked(&m, true);
    toy_add(&sk, "params.layers.fc.kernel", 0, L, I, O, -1);
    toy_add(&sk, "params.layers.fc.bias", 0, L, O, -1);
    toy_add(&sk, "params.layers.ln.scale", 0, L, O, -1);
    toy_add(&sk, "params.layers.ln.bias", 0, L, O, -1);
    toy_add(&sk, "params.head.kernel", 0, O, 2, -1);
    toy_add(&sk, "params.head.bias", 0, 2, -1);
    go("flax", "flax");
    double k[L * I * O];
    for (int i = 0; i < L * I * O; i++)
        k[i] = i;
    same("params.layers.fc.kernel", k, L * I * O);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stack, begin, end),
        cmocka_unit_test_setup_teardown(unstack, begin, end),
        cmocka_unit_test_setup_teardown(restack, begin, end),
        cmocka_unit_test_setup_teardown(flat_names, begin, end),
        cmocka_unit_test_setup_teardown(square_is_no_stack, begin, end),
        cmocka_unit_test_setup_teardown(no_stack, begin, end),
        cmocka_unit_test_setup_teardown(both_at_once, begin, end),
        cmocka_unit_test_setup_teardown(haiku_stack, begin, end),
        cmocka_unit_test_setup_teardown(stack_asked, begin, end),
        cmocka_unit_test_setup_teardown(stack_ruled, begin, end),
        cmocka_unit_test_setup_teardown(restack_ruled, begin, end),
        cmocka_unit_test_setup_teardown(both_asked, begin, end),
        cmocka_unit_test_setup_teardown(stack_refused, begin, end),
        cmocka_unit_test_setup_teardown(heads_along, begin, end),
        cmocka_unit_test_setup_teardown(stack_to_stack, begin, end),
        {"stack_along 1", stack_along, begin_at, end, &one},
        {"stack_along -1", stack_along, begin_at, end, &last},
        {"unstack_along 1", unstack_along, begin_at, end, &one},
        {"unstack_along -1", unstack_along, begin_at, end, &last},
        {"restack_along 0", restack_along, begin_at, end, &zero},
        {"restack_along 1", restack_along, begin_at, end, &one},
        {"restack_along -1", restack_along, begin_at, end, &last},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
