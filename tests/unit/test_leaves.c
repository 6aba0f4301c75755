/* --like with a skeleton that has no names: which tensor becomes which leaf, and what is asked. */
#include "convert/map.h"
#include "tests/lib/put.h"
#include "tests/lib/toy.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

static char temp[] = "/tmp/nnferry-leaves-XXXXXX.eqx";

/* A skeleton: linear(2 -> 3), a rate, linear(3 -> 3), linear(3 -> 3), a flag. */
static void skeleton(struct model *out)
{
    static const struct {
        const char *name;
        int a, b;
    } leaf[] = {{"0", 3, 2}, {"1", 3, 0}, {"2", 0, 0}, {"3", 3, 3},
                {"4", 3, 0}, {"5", 3, 3}, {"6", 3, 0}};
    struct model m;
    struct err e = {0};
    struct write_opt wo = {0};
    struct read_opt ro = {0};
    const struct format *f = format_find(STR("equinox")), *found;
    const uint8_t *data[8];
    model_init(&m);
    for (size_t i = 0; i < 7; i++) {
        uint64_t dim[2] = {(uint64_t)leaf[i].a, (uint64_t)leaf[i].b};
        toy_tensor(&m, leaf[i].name, 100 + (double)i, dim, leaf[i].b ? 2 : leaf[i].a ? 1 : 0);
    }
    toy_done(&m);
    assert_int_equal(model_meta_add(&m, STR("equinox.hyperparameters"), STR("{\"n\": 3}"), &e),
                     ST_OK);
    for (size_t i = 0; i < 7; i++)
        data[i] = m.storage[m.tensor[i].storage].mem;
    assert_int_equal(put_model(f, &m, data, &wo, temp, &e), ST_OK);
    model_free(&m);
    model_init(out);
    assert_int_equal(format_open(temp, f, &ro, out, &found, &e), ST_OK);
}

struct job {
    struct model src, like;
    struct plan p;
    struct buf rules;
    struct err e;
};

static enum status plan(struct job *j, const char *rules)
{
    struct map_opt o = {.like = &j->like, .rules = str_from(rules), .rules_path = "rules"};
    plan_init(&j->p, &j->src);
    return map_plan(&j->p, &o, format_find(STR("equinox")), 0, &j->rules, &j->e);
}

static void start(struct job *j, const char *const *name, bool is_torch)
{
    static const uint64_t dim[6][2] = {{3, 2}, {3, 0}, {3, 3}, {3, 0}, {3, 3}, {3, 0}};
    memset(j, 0, sizeof *j);
    skeleton(&j->like);
    model_init(&j->src);
    for (size_t i = 0; i < 6; i++)
        toy_tensor(&j->src, name[i], 10 * (double)i, dim[i], dim[i][1] ? 2 : 1);
    toy_done(&j->src);
    j->src.format = is_torch ? "pytorch" : "safetensors";
}

static void done(struct job *j)
{
    plan_free(&j->p);
    model_free(&j->src);
    model_free(&j->like);
    buf_free(&j->rules);
}

/* leaf -> first value of what it is made from */
static void leaf_is(const struct job *j, const char *leaf, double first)
{
    uint64_t n;
    int64_t at = toy_find(&j->p.dst, leaf);
    double *v = toy_values(&j->p, (size_t)at, &n);
    assert_true(v[0] == first);
    free(v);
}

static void in_order(void **state)
{
    (void)state;
    static const char *const name[] = {"c.w", "c.b", "b.w", "b.b", "a.w", "a.b"};
    struct job j;
    start(&j, name, true);
    assert_int_equal(plan(&j, ""), ST_OK);
    assert_int_equal(j.p.dst.n_tensors, 7);
    leaf_is(&j, "0", 0);
    leaf_is(&j, "1", 10);
    leaf_is(&j, "2", 102); /* the skeleton's own number */
    leaf_is(&j, "3", 20);
    leaf_is(&j, "6", 50);
    assert_int_equal(j.p.dst.n_meta, 1);
    assert_true(str_is(j.p.dst.meta[0].value, "{\"n\": 3}"));
    assert_true(str_is(j.p.dst.framework, "equinox"));
    done(&j);
}

static void by_numbers(void **state)
{
    (void)state;
    /* in the alphabet's order, which is no definition's: 10 stands before 9 */
    static const char *const name[] = {"l.1.a", "l.1.b", "l.10.a", "l.10.b", "l.9.a", "l.9.b"};
    struct job j;
    start(&j, name, false);
    assert_int_equal(plan(&j, ""), ST_OK);
    leaf_is(&j, "0", 0);
    leaf_is(&j, "1", 10);
    leaf_is(&j, "3", 40); /* l.9 */
    leaf_is(&j, "4", 50);
    leaf_is(&j, "5", 20); /* l.10 */
    leaf_is(&j, "6", 30);
    done(&j);
}

static void asked(void **state)
{
    (void)state;
    static const char *const name[] = {"a.w", "a.x", "b.w", "b.x", "c.w", "c.x"};
    struct job j;
    start(&j, name, false);
    assert_int_equal(plan(&j, ""), ST_CANNOT);
    assert_string_equal(j.e.code, "map-ambiguous");
    struct str said = buf_as_str(&j.rules);
    assert_true(str_find_str(said, STR("\"b.w\" -> ?"), 0) < said.n);
    assert_true(str_find_str(said, STR("b.w: [3,3] float32; one of leaves 3, 5"), 0) < said.n);
    assert_true(str_find_str(said, STR("\"a.w\" -> ?"), 0) ==
                said.n); /* the only one of its shape */
    done(&j);
    start(&j, name, false);
    assert_int_equal(plan(&j, "# nnferry-map 1\n\"b.w\" -> \"5\"\n\"a.x\" -> \"1\"\n"
                              "\"b.x\" -> \"6\"\n"),
                     ST_OK);
    leaf_is(&j, "5", 20);
    leaf_is(&j, "3", 40);
    leaf_is(&j, "6", 30);
    leaf_is(&j, "4", 50);
    done(&j);
    start(&j, name, false);
    assert_int_equal(plan(&j, "# nnferry-map 1\n\"b.w\" -> \"1\"\n"), ST_CANNOT);
    assert_string_equal(j.e.code, "map-pair");
    done(&j);
    start(&j, name, false);
    assert_int_equal(plan(&j, "# nnferry-map 1\n\"b.w\" -> \"9\"\n"), ST_CANNOT);
    assert_string_equal(j.e.code, "map-pair");
    done(&j);
}

static void types(void **state)
{
    (void)state;
    static const char *const name[] = {"c.w", "c.b", "b.w", "b.b", "a.w", "a.b"};
    static const char *const dtype[] = {"float64", NULL};
    struct job j;
    start(&j, name, true);
    struct map_opt o = {.like = &j.like, .dtype = dtype};
    plan_init(&j.p, &j.src);
    assert_int_equal(map_plan(&j.p, &o, format_find(STR("equinox")), 0, &j.rules, &j.e), ST_CANNOT);
    assert_string_equal(j.e.code, "like-dtype");
    done(&j);
}

/* ---- leaves as the source ---- */

static enum status give(struct job *j, const char *rules, const struct model *like)
{
    struct map_opt o = {
        .to = "flax", .like = like, .rules = str_from(rules), .rules_path = "rules"};
    plan_init(&j->p, &j->like);
    memset(&j->e, 0, sizeof j->e);
    buf_free(&j->rules);
    return map_plan(&j->p, &o, NULL, 0, &j->rules, &j->e);
}

static void asks(const struct job *j, const char *line)
{
    struct str said = buf_as_str(&j->rules);
    if (str_find_str(said, str_from(line), 0) == said.n)
        fail_msg("not asked: %s\n%.*s", line, STR_ARG(said));
}

static void names_told(void **state)
{
    (void)state;
    struct job j = {0};
    skeleton(&j.like);
    assert_int_equal(give(&j, "", NULL), ST_CANNOT);
    assert_string_equal(j.e.code, "leaves-unnamed");
    plan_free(&j.p);
    assert_int_equal(give(&j,
                          "leaf 0 = a.weight\nleaf 1 = a.bias\nleaf 3 = b.weight\n"
                          "leaf 4 = b.bias\nleaf 6 = c.bias\n",
                          NULL),
                     ST_CANNOT);
    assert_string_equal(j.e.code, "map-ambiguous");
    asks(&j, "leaf 5 = ?");
    plan_free(&j.p);
    assert_int_equal(give(&j,
                          "leaf 0 = a.weight\nleaf 1 = a.weight\nleaf 3 = b\nleaf 4 = c\n"
                          "leaf 5 = d\nleaf 6 = e\n",
                          NULL),
                     ST_CANNOT);
    assert_string_equal(j.e.code, "map-leaf");
    plan_free(&j.p);
    assert_int_equal(give(&j, "leaf 7 = a\n", NULL), ST_CANNOT);
    assert_string_equal(j.e.code, "map-leaf");
    plan_free(&j.p);
    assert_int_equal(give(&j,
                          "leaf 0 = a.weight\nleaf 1 = a.bias\nleaf 3 = b.weight\n"
                          "leaf 4 = b.bias\nleaf 5 = c.weight\nleaf 6 = c.bias\n",
                          NULL),
                     ST_OK);
    assert_int_equal(j.p.dst.n_tensors, 6);
    assert_int_equal(j.p.n_lines, 1); /* the rate: harmless */
    assert_true(j.p.line[0].harmless);
    int64_t t = toy_find(&j.p.dst, "params.a.kernel");
    assert_int_equal(j.p.dst.tensor[t].dim[0], 2);
    toy_find(&j.p.dst, "params.c.bias");
    plan_free(&j.p);
    model_free(&j.like);
    buf_free(&j.rules);
}

static void flax_net(struct model *out, const char *const *layer, const char *format)
{
    static const int in[3] = {2, 3, 3};
    model_init(out);
    for (size_t i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "params.%s.kernel", layer[i]);
        toy_add(out, name, 0, in[i], 3, -1);
        snprintf(name, sizeof name, "params.%s.bias", layer[i]);
        toy_add(out, name, 0, 3, -1);
    }
    toy_done(out);
    out->format = format;
}

/* The skeleton's names, in the order of its definition, by numbers, or not at all. */
static void names_from_skeleton(void **state)
{
    (void)state;
    static const char *const defined[] = {"z", "m", "a"}, *const sorted[] = {"a", "b", "c"},
                             *const numbered[] = {"fc_0", "fc_1", "fc_2"};
    struct model like;
    struct job j = {0};
    skeleton(&j.like);
    flax_net(&like, defined, "msgpack");
    assert_int_equal(give(&j, "", &like), ST_OK);
    assert_int_equal(j.p.recipe[toy_find(&j.p.dst, "params.z.kernel")].part->src, 0);
    assert_int_equal(j.p.recipe[toy_find(&j.p.dst, "params.m.kernel")].part->src, 3);
    assert_int_equal(j.p.recipe[toy_find(&j.p.dst, "params.a.bias")].part->src, 6);
    plan_free(&j.p);
    model_free(&like);
    flax_net(&like, numbered, "msgpack");
    assert_int_equal(give(&j, "", &like), ST_OK);
    assert_int_equal(j.p.recipe[toy_find(&j.p.dst, "params.fc_2.kernel")].part->src, 5);
    plan_free(&j.p);
    model_free(&like);
    flax_net(&like, sorted, "msgpack"); /* only a stands out; b and c may be either */
    assert_int_equal(give(&j, "", &like), ST_CANNOT);
    assert_string_equal(j.e.code, "map-ambiguous");
    asks(&j, "leaf 3: [3,3] float32; one of b.weight, c.weight");
    plan_free(&j.p);
    assert_int_equal(give(&j, "leaf 3 = c.weight\n", &like), ST_OK);
    assert_int_equal(j.p.recipe[toy_find(&j.p.dst, "params.c.kernel")].part->src, 3);
    assert_int_equal(j.p.recipe[toy_find(&j.p.dst, "params.c.bias")].part->src, 4);
    assert_int_equal(j.p.recipe[toy_find(&j.p.dst, "params.b.kernel")].part->src, 5);
    plan_free(&j.p);
    model_free(&like);
    model_free(&j.like);
    buf_free(&j.rules);
}

static int setup(void **state)
{
    (void)state;
    int fd = mkstemps(temp, 4);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(temp);
}

/* A Keras file is in its names' order; the config has the layers as the model does. */
#define LAYER(name) "{\"class_name\":\"Dense\",\"config\":{\"name\":\"" name "\"}}"
#define CONFIG(more)                                                                               \
    "{\"class_name\":\"Functional\",\"config\":{\"name\":\"m\",\"layers\":[" LAYER("x") "," LAYER( \
        "q") more "]}}"

static enum status keras_plan(struct job *j, const char *config)
{
    static const char *const name[] = {"2", "1", ""};
    char text[40];
    struct attachment *a;
    memset(j, 0, sizeof *j);
    skeleton(&j->like);
    model_init(&j->src);
    j->src.framework = STR("keras");
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, "layers.dense%s%s.vars.0", *name[i] ? "_" : "", name[i]);
        toy_add(&j->src, text, 100 * (i + 1), i == 2 ? 2 : 3, 3, -1);
        snprintf(text, sizeof text, "layers.dense%s%s.vars.1", *name[i] ? "_" : "", name[i]);
        toy_add(&j->src, text, 100 * (i + 1) + 50, 3, -1);
    }
    toy_done(&j->src);
    assert_int_equal(model_attach(&j->src, &a, &j->e), ST_OK);
    a->name = STR("config.json");
    a->mem = (const uint8_t *)config;
    a->n_bytes = strlen(config);
    return plan(j, "");
}

static void order_of_config(void **state)
{
    (void)state;
    struct job j;
    assert_int_equal(keras_plan(&j, CONFIG("," LAYER("p"))), ST_OK);
    leaf_is(&j, "0", 300);
    leaf_is(&j, "1", 350);
    leaf_is(&j, "3", 200);
    leaf_is(&j, "4", 250);
    leaf_is(&j, "5", 100);
    leaf_is(&j, "6", 150);
    done(&j);
    assert_int_equal(keras_plan(&j, CONFIG("")), ST_CANNOT); /* where the third stands, it hides */
    assert_string_equal(j.e.code, "map-ambiguous");
    done(&j);
}

/* A rule that an order of both sides contradicts ends that order for all: what stands beside the
 * told leaf goes with it. */
static void rules_against_order(void **state)
{
    (void)state;
    static const char *const name[] = {"a.weight", "a.bias",   "b.weight",
                                       "b.bias",   "c.weight", "c.bias"};
    struct job j;
    start(&j, name, true);
    if (plan(&j, "b.weight -> 5\nc.weight -> 3\n") != ST_OK)
        fail_msg("%s %s", j.e.code, j.e.reason);
    leaf_is(&j, "3", 40);
    leaf_is(&j, "4", 50);
    leaf_is(&j, "5", 20);
    leaf_is(&j, "6", 30);
    done(&j);
    start(&j, name, true); /* one that agrees leaves it */
    assert_int_equal(plan(&j, "b.weight -> 3\n"), ST_OK);
    leaf_is(&j, "6", 50);
    done(&j);
}

/* The leaves of a cell follow each other: the first of them is all that is asked about. */
static void cells_beside(void **state)
{
    (void)state;
    static const char *const part[] = {"weight_ih", "weight_hh", "bias"};
    static const char *const cell[] = {"one", "two"};
    static const uint64_t dim[3][2] = {{12, 2}, {12, 3}, {12, 0}};
    struct job j;
    memset(&j, 0, sizeof j);
    model_init(&j.src);
    model_init(&j.like);
    toy_add(&j.src, "first", 70, 5, 7, -1); /* the skeleton has it last: no order of both */
    for (size_t i = 0; i < 6; i++) {
        char text[32], number[8];
        snprintf(text, sizeof text, "%s.%s", cell[i / 3], part[i % 3]);
        snprintf(number, sizeof number, "%zu", i);
        toy_tensor(&j.src, text, 10 * (double)i, dim[i % 3], dim[i % 3][1] ? 2 : 1);
        toy_tensor(&j.like, number, 0, dim[i % 3], dim[i % 3][1] ? 2 : 1);
    }
    toy_add(&j.like, "6", 0, 5, 7, -1);
    toy_done(&j.src);
    toy_done(&j.like);
    j.src.framework = j.like.framework = STR("equinox");
    j.rules = (struct buf)BUF_INIT;
    assert_int_equal(plan(&j, ""), ST_CANNOT);
    assert_string_equal(j.e.code, "map-ambiguous");
    assert_non_null(strstr(j.e.reason, "2 questions"));
    asks(&j, "\"one.weight_ih\" -> ?");
    asks(&j, "\"two.weight_ih\" -> ?");
    plan_free(&j.p);
    buf_clear(&j.rules);
    assert_int_equal(plan(&j, "one.weight_ih -> 3\ntwo.weight_ih -> 0\n"), ST_OK);
    leaf_is(&j, "0", 30);
    leaf_is(&j, "1", 40);
    leaf_is(&j, "2", 50);
    leaf_is(&j, "4", 10);
    leaf_is(&j, "5", 20);
    done(&j);
}

/* A line that gives a weight its leaf says where it goes, not that its axes are Equinox's already:
 * a transposed convolution is turned and reversed all the same. */
static void told_leaves_are_turned(void **state)
{
    (void)state;
    static const char *const by[] = {"up_a.weight -> 2\nup_b.weight -> 0\n",
                                     "up_a.weight -> 2\nup_b.weight -> 0\n"
                                     "up_a.bias -> 3\nup_b.bias -> 1\n"};
    char rules[128];
    for (size_t i = 0; i < 2; i++) {
        struct job j;
        memset(&j, 0, sizeof j);
        model_init(&j.src);
        model_init(&j.like);
        toy_add(&j.src, "up_a.weight", 0, 2, 2, 3, -1);
        toy_add(&j.src, "up_a.bias", 50, 2, -1);
        toy_add(&j.src, "up_b.weight", 100, 2, 2, 3, -1);
        toy_add(&j.src, "up_b.bias", 150, 2, -1);
        toy_add(&j.src, "fc.weight", 200, 5, 2, -1); /* last, and not so in the skeleton */
        toy_add(&j.like, "0", 0, 2, 2, 3, -1);
        toy_add(&j.like, "1", 0, 2, 1, -1);
        toy_add(&j.like, "2", 0, 2, 2, 3, -1);
        toy_add(&j.like, "3", 0, 2, 1, -1);
        toy_add(&j.like, "4", 0, 5, 2, -1);
        toy_done(&j.src);
        toy_done(&j.like);
        j.src.framework = STR("pytorch");
        j.like.framework = STR("equinox");
        snprintf(rules, sizeof rules, "kind up_* = conv_transpose\nkind fc = linear\n%s", by[i]);
        if (plan(&j, rules) != ST_OK)
            fail_msg("%s %s", j.e.code, j.e.reason);
        leaf_is(&j, "0", 102); /* [in,out,k] to [out,in,-k] */
        leaf_is(&j, "1", 150);
        leaf_is(&j, "2", 2);
        leaf_is(&j, "3", 50);
        done(&j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order),        cmocka_unit_test(by_numbers),
        cmocka_unit_test(asked),           cmocka_unit_test(types),
        cmocka_unit_test(names_told),      cmocka_unit_test(names_from_skeleton),
        cmocka_unit_test(order_of_config), cmocka_unit_test(rules_against_order),
        cmocka_unit_test(cells_beside),    cmocka_unit_test(told_leaves_are_turned),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
