/* What the program in a TorchScript archive says of the layers: of programs as torch writes them,
 * of the goldens, and of programs that torch would never write. */
#include "base/buf.h"
#include "convert/map.h"
#include "format/format.h"
#include "framework/defaults.h"
#include "framework/framework.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m;
static struct arena a;
static struct layers l;
static struct err err;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    m.framework = STR("pytorch");
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_free(&a);
    model_free(&m);
    return 0;
}

static void must(enum status st)
{
    if (st != ST_OK)
        fail_msg("%d %s: %s", (int)st, err.code ? err.code : "-", err.reason);
}

/* ---- archives in memory ---- */

static struct node *named(struct node *outer, enum node_kind kind, const char *key)
{
    struct node *n = node_new(&m.arena, kind);
    assert_non_null(n);
    if (!outer)
        return m.modules = n;
    n->key = node_new(&m.arena, NODE_STR);
    assert_non_null(n->key);
    n->key->text = str_from(key);
    node_add(outer, n);
    return n;
}

/* A module of class __torch__.CLASS. */
static struct node *module(struct node *outer, const char *key, const char *class)
{
    struct node *n = named(outer, NODE_OPAQUE, key);
    n->text = str_from(class);
    return n;
}

static void tensor(struct node *outer, const char *key, uint32_t t)
{
    named(outer, NODE_TENSOR, key)->tensor = t;
}

static void program_of(const char *file, const char *text, size_t n)
{
    struct attachment *at;
    must(model_attach(&m, &at, &err));
    at->name = str_from(file);
    at->mem = (const uint8_t *)text;
    at->n_bytes = n;
}

static void program(const char *file, const char *text)
{
    program_of(file, text, strlen(text));
}

static void recognise(void)
{
    static const struct layers none = {0};
    const struct framework *f = framework_find(STR("pytorch"));
    l = none;
    memset(&err, 0, sizeof err);
    must(f->layers(&m, &a, &l, &err));
}

static const struct layer *layer(const char *path)
{
    for (size_t i = 0; i < l.n; i++)
        if (str_is(l.layer[i].path, path))
            return &l.layer[i];
    fail_msg("no layer %s", path);
    abort();
}

static const struct function *function(const char *path, const char *setting)
{
    for (size_t i = 0; i < l.n_functions; i++)
        if (str_is(l.function[i].path, path) && strcmp(l.function[i].setting, setting) == 0)
            return &l.function[i];
    return NULL;
}

static void is_text(struct str s, const char *want)
{
    if (!str_is(s, want))
        fail_msg("%.*s, not %s", STR_ARG(s), want);
}

static void is_number(double x, double want)
{
    if (x < want * (1 - 1e-9) || x > want * (1 + 1e-9))
        fail_msg("%g, not %g", x, want);
}

/* ---- one module at the top, with weight and bias of 4 ---- */

#define NETWORK "class Net(Module):\n  __parameters__ = []\n  __buffers__ = []\n"
#define METHOD "  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n"
#define ATTRS "    weight = self.weight\n    bias = self.bias\n"

static struct node *one_norm(void)
{
    struct node *top = module(NULL, NULL, "__torch__.Net"), *n = module(top, "n", "__torch__.N");
    tensor(n, "weight", toy_add(&m, "n.weight", 0, 4, -1));
    tensor(n, "bias", toy_add(&m, "n.bias", 0, 4, -1));
    toy_done(&m);
    return top;
}

static const struct layer *norm_says(const char *text)
{
    (void)one_norm();
    program("code/__torch__.py", text);
    recognise();
    return layer("n");
}

#define N "class N(Module):\n  def forward(self: __torch__.N, x: Tensor) -> Tensor:\n"

static void a_call(void **state)
{
    (void)state;
    const struct layer *x = norm_says(N ATTRS "    input = torch.layer_norm(x, [4], weight, bias, "
                                              "9.9999999999999998e-13)\n    return input\n");
    is_number(x->said.epsilon, 1e-12);
    assert_int_equal(x->kind, LAYER_LAYERNORM);
    assert_int_equal(x->kinds, KIND_BIT(LAYER_LAYERNORM));
    assert_int_equal(l.n_functions, 0);
}

static void a_default(void **state)
{
    (void)state;
    const struct layer *x =
        norm_says(N ATTRS "    return torch.relu(torch.group_norm(x, 2, weight, bias))\n");
    is_number(x->said.epsilon, 1e-5);
    assert_int_equal(x->kind, LAYER_GROUPNORM);
    assert_int_equal(x->groups, 2);
}

static void a_keyword(void **state)
{
    (void)state;
    const struct layer *x =
        norm_says(N ATTRS "    return torch.layer_norm(x, [4], weight, bias=bias, eps=2.)\n");
    is_number(x->said.epsilon, 2);
}

/* Scripted: torch.nn.functional under a name, its values where it is called. */
static void a_functional(void **state)
{
    (void)state;
    const struct layer *x =
        norm_says(N "    _0 = __torch__.torch.nn.functional.___torch_mangle_3.group_norm\n" ATTRS
                    "    eps = 0.25\n    _1 = _0(x, 2, weight, bias, eps, )\n    return _1\n");
    is_number(x->said.epsilon, 0.25);
    assert_int_equal(x->groups, 2);
}

static void by_a_parent(void **state)
{
    (void)state;
    const struct layer *x = norm_says(
        NETWORK METHOD "    n = self.n\n    weight = n.weight\n    _0 = getattr(self, \"n\")\n"
                       "    bias = _0.bias\n"
                       "    return torch.layer_norm(x, [4], weight, bias, 0.5)\n");
    is_number(x->said.epsilon, 0.5);
}

/* ---- nothing is said ---- */

static void says_nothing(const char *text)
{
    const struct layer *x = norm_says(text);
    assert_true(x->said.epsilon <= 0);
    assert_int_equal(x->kinds, KIND_BIT(LAYER_LAYERNORM) | KIND_BIT(LAYER_GROUPNORM));
    assert_int_equal(x->groups, 0);
}
#define SAYS_NOTHING(name, text)                                                                   \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        says_nothing(text);                                                                        \
    }
SAYS_NOTHING(no_program, "")
SAYS_NOTHING(another_function, N ATTRS "    return torch.layer_norms(x, [4], weight, bias, 0.5)\n")
SAYS_NOTHING(another_object, N ATTRS "    return ops.torch.layer_norm(x, [4], weight, bias, 0.5)\n")
SAYS_NOTHING(a_user_function, N "    _0 = __torch__.mine.layer_norm\n" ATTRS
                                "    return _0(x, [4], weight, bias, 0.5, )\n")
SAYS_NOTHING(an_argument, N "    return torch.layer_norm(x, [4], weight, bias, 0.5)\n")
SAYS_NOTHING(maybe_run,
             N ATTRS "    if x:\n      y = torch.layer_norm(x, [4], weight, bias, 0.5)\n")
SAYS_NOTHING(maybe_another, N ATTRS "    if x:\n      weight = self.other\n    else:\n      pass\n"
                                    "    return torch.layer_norm(x, [4], weight, bias, 0.5)\n")
SAYS_NOTHING(of_several, N "    weight, bias = self.weight\n"
                           "    return torch.layer_norm(x, [4], weight, bias, 0.5)\n")
SAYS_NOTHING(in_a_string, N ATTRS "    return torch.f(\"torch.layer_norm(x, [4], weight, bias, "
                                  "0.5)\")\n")
SAYS_NOTHING(not_closed, N ATTRS "    return torch.layer_norm(x, [4], weight, bias, 0.5\n")
SAYS_NOTHING(closed_twice, N ATTRS "    return )torch.layer_norm(x, [4], weight, bias, 0.5)\n")
SAYS_NOTHING(not_of_a_class, "def f(self: X) -> Tensor:\n  weight = self.weight\n"
                             "    return torch.layer_norm(x, [4], weight, bias, 0.5)\n")
SAYS_NOTHING(no_module, "class N(NamedTuple):\n  def forward(self: __torch__.N) -> Tensor:\n" ATTRS
                        "    return torch.layer_norm(x, [4], weight, bias, 0.5)\n")
SAYS_NOTHING(another_class, "class M(Module):\n  def forward(self: __torch__.N) -> Tensor:\n" ATTRS
                            "    return torch.layer_norm(x, [4], weight, bias, 0.5)\n")
SAYS_NOTHING(a_string_without_end, N ATTRS "    _0 = \"\n")
SAYS_NOTHING(no_such_attribute,
             N "    w = self.weight.weight\n    v = self.none\n"
               "    return torch.layer_norm(torch.layer_norm(x, [4], w), [4], v)\n")

/* What two calls say in two ways is not said; the rest is. */
static void two_ways(void **state)
{
    (void)state;
    const struct layer *x =
        norm_says(N ATTRS "    y = torch.layer_norm(x, [4], weight, bias, 0.5)\n"
                          "    return torch.layer_norm(y, [4], weight, bias, 0.25)\n");
    assert_true(x->said.epsilon <= 0);
    assert_int_equal(x->kinds, KIND_BIT(LAYER_LAYERNORM));
}

static void two_kinds(void **state)
{
    (void)state;
    const struct layer *x =
        norm_says(N ATTRS "    y = torch.layer_norm(x, [4], weight, bias, 0.5)\n"
                          "    return torch.group_norm(y, 2, weight, bias, 0.5)\n");
    is_number(x->said.epsilon, 0.5); /* whichever it is */
    assert_int_equal(x->kinds, KIND_BIT(LAYER_LAYERNORM) | KIND_BIT(LAYER_GROUPNORM));
    assert_int_equal(x->groups, 0);
}

static void not_a_number(void **state)
{
    (void)state;
    const struct layer *x =
        norm_says(N ATTRS "    return torch.layer_norm(x, [4], weight, bias, nan)\n");
    assert_true(x->said.epsilon <= 0);
}

/* ---- what torch's own classes declare ---- */

#define DECLARED "code/__torch__/torch/nn/modules/"
#define IN_MODULES "__torch__.torch.nn.modules."

static void declared_norms(void **state)
{
    (void)state;
    struct node *top = module(NULL, NULL, "__torch__.Net"),
                *bn = module(top, "bn", IN_MODULES "batchnorm.___torch_mangle_7.BatchNorm2d"),
                *mine = module(top, "mine", "__torch__.mine.BatchNorm2d");
    tensor(bn, "running_mean", toy_add(&m, "bn.running_mean", 0, 4, -1));
    tensor(bn, "running_var", toy_add(&m, "bn.running_var", 0, 4, -1));
    tensor(mine, "running_mean", toy_add(&m, "mine.running_mean", 0, 4, -1));
    tensor(mine, "running_var", toy_add(&m, "mine.running_var", 0, 4, -1));
    toy_done(&m);
#define BN                                                                                         \
    "class BatchNorm2d(Module):\n  training : bool\n  eps : Final[float] = 0.001\n"                \
    "  momentum : Final[float] = 0.029999999999999999\n"
    program(DECLARED "batchnorm/___torch_mangle_7.py", BN);
    program("code/__torch__/mine.py", BN);
    recognise();
    is_number(layer("bn")->said.epsilon, 0.001);
    is_number(layer("bn")->said.momentum, 0.97);
    assert_true(layer("mine")->said.epsilon <= 0); /* whose word means what it likes */
}

static void convolutions(void **state)
{
    static const struct {
        const char *constants, *padding;
        bool strided;
    } of[] = {
        {"stride : Final[int] = 1\n  padding : Final[int] = 1\n  dilation : Final[int] = 1", "same",
         false},
        {"stride : Final[Tuple[int, int]] = (1, 1)\n  padding : Final[Tuple[int, int]] = (0, 0)\n"
         "  dilation : Final[Tuple[int, int]] = (1, 1)",
         "none", false},
        {"stride : Final[Tuple[int, int]] = (1, 1)\n  padding : Final[str] = \"same\"\n"
         "  dilation : Final[Tuple[int, int]] = (2, 2)",
         "same", false},
        {"stride : Final[Tuple[int, int]] = (2, 2)\n  padding : Final[str] = \"valid\"\n"
         "  dilation : Final[Tuple[int, int]] = (1, 1)",
         "none", true},
        {"stride : Final[Tuple[int, int]] = (1, 1)\n  dilation : Final[Tuple[int, int]] = (1, 1)",
         "", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct node *top = module(NULL, NULL, "__torch__.Net"),
                    *c = module(top, "c", IN_MODULES "conv.Conv2d");
        struct buf text = BUF_INIT;
        tensor(c, "weight", toy_add(&m, "c.weight", 0, 4, 4, 3, 3, -1));
        toy_done(&m);
        buf_fmt(&text,
                "class Conv2d(Module):\n  groups : Final[int] = 1\n  padding_mode : Final[str] = "
                "\"%s\"\n  output_padding : Final[int] = 0\n  %s\n",
                i == 4 ? "reflect" : "zeros", of[i].constants);
        program_of(DECLARED "conv.py", (const char *)text.p, text.n);
        recognise();
        assert_int_equal(layer("c")->kind, LAYER_CONV);
        is_text(layer("c")->said.padding, of[i].padding);
        assert_int_equal(layer("c")->said.strided, of[i].strided);
        assert_int_equal(layer("c")->said.dilated, i == 2);
        buf_free(&text);
        (void)end(NULL);
        (void)begin(NULL);
    }
}

/* A traced convolution: either kind, by its seventh argument. */
static void convolution_calls(void **state)
{
    static const struct {
        const char *before, *rest, *padding;
        enum layer_kind kind;
        uint64_t groups;
    } of[] = {
        {"", "[1, 1], [1, 1], [1, 1], False, [0, 0], 2, False)", "same", LAYER_CONV, 0},
        {"", "[1, 1], [0, 0], [1, 1], True, [0, 0], 2, False)", "none", LAYER_CONV_TRANSPOSE, 2},
        {"", "[1, 1], [1, 1], [1, 1], True, [0, 0], 3, False)", "(1, 1)", LAYER_CONV_TRANSPOSE, 0},
        {"", "[2, 2], [0, 0], [1, 1], True, [1, 1], 1, False)", "", LAYER_CONV_TRANSPOSE, 1},
        {"", "[1, 1], [1, 1], [1, 1], y, [0, 0], 2, False)", "", LAYER_NONE, 0},
        {"    x = torch.pad(x, [1, 1], \"reflect\")\n",
         "[1, 1], [0, 0], [1, 1], False, [0, 0], 1, False)", "", LAYER_CONV, 0},
        {"", "[1, 1, 1, 1], [1, 1], [1, 1], False, [0, 0], 1, False)", "", LAYER_CONV, 0},
        {"", "[-1, 1], [18446744073709551616, 1], [1, 1], False, [0, 0], 1)", "", LAYER_CONV, 0},
        {"", "[1, 1], [9223372036854775808, 9223372036854775808], [1, 1], False, [0, 0], 1)",
         "(9223372036854775808, 9223372036854775808)", LAYER_CONV, 0},
        {"", "[2, 1], [0, 1], [1, 1], False, [0, 0], 1)", "(0, 1)", LAYER_CONV, 0},
        {"", "[4, 4], [0, 0], [1, 1], True, [0, 0], 1)", "", LAYER_CONV_TRANSPOSE, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct node *top = module(NULL, NULL, "__torch__.Net");
        struct buf text = BUF_INIT;
        tensor(top, "weight", toy_add(&m, "weight", 0, 4, 4, 3, 3, -1));
        toy_done(&m);
        buf_fmt(&text,
                NETWORK METHOD "%s    weight = self.weight\n    y = torch._convolution(x, weight, "
                               "None, %s\n",
                of[i].before, of[i].rest);
        program_of("code/__torch__.py", (const char *)text.p, text.n);
        recognise();
        assert_int_equal(layer("")->kind, of[i].kind);
        is_text(layer("")->said.padding, of[i].padding);
        assert_int_equal(layer("")->groups, of[i].groups);
        buf_free(&text);
        (void)end(NULL);
        (void)begin(NULL);
    }
}

static void open_kinds(void **state)
{
    (void)state;
    struct node *top = module(NULL, NULL, "__torch__.Net");
    static const char *const keys[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 4; i++) {
        struct node *n = module(top, keys[i], "__torch__.None");
        char name[16];
        (void)snprintf(name, sizeof name, "%s.weight", keys[i]);
        tensor(n, "weight",
               i < 2 ? toy_add(&m, name, 0, 6, 4, -1) : toy_add(&m, name, 0, i == 2 ? 1 : 4, -1));
    }
    toy_done(&m);
    recognise();
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(layer(keys[i])->kind, LAYER_NONE); /* asked about */
    program("code/__torch__.py",
            NETWORK METHOD "    w = self.a.weight\n    y = torch.linear(x, w, None)\n"
                           "    y0 = torch.embedding(self.b.weight, x)\n"
                           "    y1 = torch.rms_norm(y, [1], self.c.weight, 0.25)\n"
                           "    return torch.prelu(y1, self.d.weight)\n");
    recognise();
    assert_int_equal(layer("a")->kind, LAYER_LINEAR);
    assert_int_equal(layer("b")->kind, LAYER_EMBEDDING);
    assert_int_equal(layer("c")->kind, LAYER_LAYERNORM);
    assert_int_equal(layer("c")->form, FORM_RMS);
    is_number(layer("c")->said.epsilon, 0.25);
    assert_int_equal(layer("d")->kind, LAYER_PRELU);
    assert_int_equal(layer("d")->form, FORM_USUAL);
}

static void attention(void **state)
{
    (void)state;
    for (int64_t heads = 2; heads < 4; heads++) { /* 3 do not part a width of 4 */
        struct node *top = module(NULL, NULL, "__torch__.Net"),
                    *x = module(top, "x", IN_MODULES "activation.MultiheadAttention");
        tensor(x, "in_proj_weight", toy_add(&m, "x.in_proj_weight", 0, 12, 4, -1));
        named(x, NODE_INT, "num_heads")->i = heads;
        tensor(module(x, "out_proj", "__torch__.None"), "weight",
               toy_add(&m, "x.out_proj.weight", 0, 4, 4, -1));
        toy_done(&m);
        program(DECLARED "activation.py",
                "class MultiheadAttention(Module):\n  batch_first : Final[bool] = True\n");
        recognise();
        assert_int_equal(layer("x")->heads, heads == 2 ? 2 : 0);
        is_text(layer("x")->said.batch, "first");
        (void)end(NULL);
        (void)begin(NULL);
    }
}

/* Traced without gradients: one call for all of an encoder's layer. */
static void fused_layer(void **state)
{
    (void)state;
    struct node *top = module(NULL, NULL, "__torch__.Net"), *x = module(top, "x", "__torch__.None");
    tensor(x, "in_proj_weight", toy_add(&m, "x.in_proj_weight", 0, 12, 4, -1));
    tensor(module(x, "out_proj", "__torch__.None"), "weight",
           toy_add(&m, "x.out_proj.weight", 0, 4, 4, -1));
    tensor(top, "norm", toy_add(&m, "norm.weight", 0, 4, -1));
    toy_done(&m);
    program("code/__torch__.py", NETWORK METHOD
            "    n = self.norm\n    w = self.x.in_proj_weight\n    return "
            "torch._transformer_encoder_layer_fwd(x, 4, 2, w, w, x, x, True, False, 0.25, n, n)\n");
    recognise();
    assert_int_equal(layer("x")->heads, 2);
    is_text(layer("x")->said.batch, "first");
    is_number(layer("norm")->said.epsilon, 0.25);
    is_text(function("forward", "form")->means, "exact");
    program("code/__torch__/m.py",
            "class M(Module):\n" METHOD "    w = self.x.in_proj_weight\n    _0, _1 = "
            "torch._native_multi_head_attention(x, x, x, 4, 4, w, w)\n");
    m.modules->text = STR("__torch__.m.M");
    recognise();
    assert_int_equal(layer("x")->heads, 4);
    assert_int_equal(l.n_functions, 0);
}

static void cells(void **state)
{
    (void)state;
    struct node *top = module(NULL, NULL, "__torch__.Net");
    tensor(top, "weight_ih_l0", toy_add(&m, "weight_ih_l0", 0, 3, 2, -1));
    tensor(top, "weight_hh_l0", toy_add(&m, "weight_hh_l0", 0, 3, 3, -1));
    toy_done(&m);
    program("code/__torch__.py",
            NETWORK METHOD "    w = self.weight_ih_l0\n    v = self.weight_hh_l0\n    _0 = [w, v]\n"
                           "    y, _1 = torch.rnn_relu(x, x, _0, False, 1, 0., False, False, "
                           "True)\n");
    recognise();
    assert_int_equal(layer("l0")->kind, LAYER_RNN);
    is_text(layer("l0")->said.batch, "first");
    is_text(layer("l0")->said.activation, "relu");
}

/* ---- functions ---- */

static void functions(void **state)
{
    (void)state;
    struct node *top = module(NULL, NULL, "__torch__.Net"),
                *act = module(top, "act", "__torch__.Act");
    module(act, "in", "__torch__.Pool");
    module(top, "\xff\n", "__torch__.Pool"); /* a name that cannot be shown */
    toy_add(&m, "w", 0, 1, -1);
    toy_done(&m);
    program("code/__torch__.py", NETWORK METHOD
            "    y = torch.gelu(torch.gelu(x))\n    z = torch.gelu(y, approximate=\"tanh\")\n"
            "    return torch.leaky_relu(z, 0.20000000000000001)\n"
            "class Act(Module):\n" METHOD "    return torch.gelu(x, approximate=\"other\")\n"
            "class Pool(Module):\n" METHOD
            "    x0 = torch.max_pool2d(x, [3, 3], [1, 1], [1, 1], [1, 1])\n"
            "    return torch.avg_pool2d(x0, [3, 3], [1, 1], [1, 1], False, False)\n");
    recognise();
    assert_int_equal(l.n_functions, 6); /* gelu in both forms, once each */
    assert_non_null(function("forward", "form"));
    is_text(function("forward", "slope")->means, "0.2");
    assert_null(function("act", "form"));
    is_text(function("act.in", "padding")->means, "same");
    is_text(function("act.in", "border")->means, "left out");
}

static void paddings(void **state)
{
    static const struct {
        const char *framework, *of, *means, *text;
    } want[] = {
        {"flax", "conv", "(1, 2)", "((1, 1), (2, 2))"}, {"haiku", "conv", "(3)", "((3, 3),)"},
        {"equinox", "conv", "(1, 2)", "(1, 2)"},        {"keras", "conv", "(1, 2)", ""},
        {"nnx", "max_pool", "(1)", "((1, 1),)"},        {"haiku", "max_pool", "(1)", ""},
        {"flax", "conv_transpose", "(1)", ""},          {"equinox", "conv_transpose", "(1)", "(1)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        is_text(fact_spell(fact_find(want[i].framework, want[i].of, "padding"), want[i].framework,
                           str_from(want[i].means), &a),
                want[i].text);
}

/* ---- programs that torch never writes ---- */

static void never_harmful(struct buf *text)
{
    (void)one_norm();
    assert_false(text->failed);
    program_of("code/__torch__.py", (const char *)text->p, text->n);
    recognise();
    assert_true(layer("n")->said.epsilon <= 0);
    buf_free(text);
}

static void too_many_names(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    buf_fmt(&b, N ATTRS "    y = torch.layer_norm(x, [4], weight, bias, 0.5)\n");
    for (int i = 0; i < 9000; i++)
        buf_fmt(&b, "    v%d = x\n", i);
    never_harmful(&b);
}

static void too_many_uses(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    buf_fmt(&b, N ATTRS "    y = torch.layer_norm(x, [4], weight, bias, 0.5)\n");
    for (int i = 0; i < 70000; i++)
        buf_fmt(&b, "    torch.gelu(x)\n");
    never_harmful(&b);
}

static void too_many_attributes(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    buf_fmt(&b, N ATTRS "    y = torch.layer_norm(x, [4], weight, bias, 0.5)\n");
    for (int i = 0; i < 270000; i++)
        buf_fmt(&b, "    y = self.y\n");
    never_harmful(&b);
}

static void too_many_classes(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    buf_fmt(&b, N ATTRS "    y = torch.layer_norm(x, [4], weight, bias, 0.5)\n");
    for (int i = 0; i < 66000; i++)
        buf_fmt(&b, "class C%d(Module):\n", i);
    never_harmful(&b);
}

static void too_deep(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    buf_fmt(&b, N ATTRS "    y = ");
    for (int i = 0; i < 100000; i++)
        buf_fmt(&b, "torch.gelu(");
    buf_fmt(&b, "torch.layer_norm(x, [4], weight, bias, 0.5)");
    buf_fill(&b, ')', 100000);
    buf_fmt(&b, "\n    w = self");
    for (int i = 0; i < 100000; i++)
        buf_fmt(&b, ".weight");
    buf_fmt(&b, "\n    y = torch.layer_norm(x, [4], w, bias, 0.5)\n");
    never_harmful(&b);
}

/* Every attribute of a chain looks through every child; so many are not looked through. */
static void too_many_steps(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;
    struct node *top = one_norm();
    for (int i = 0; i < 3000; i++)
        module(top, "c", "__torch__.Net");
    buf_fmt(&b, NETWORK METHOD);
    for (int i = 0; i < 6000; i++)
        buf_fmt(&b, "    y = torch.linear(x, self.none.weight, None)\n");
    buf_fmt(&b, N ATTRS "    y = torch.layer_norm(x, [4], weight, bias, 0.5)\n");
    program_of("code/__torch__.py", (const char *)b.p, b.n);
    recognise();
    assert_true(layer("n")->said.epsilon <= 0);
    buf_free(&b);
}

static void any_bytes(void **state)
{
    static const char text[] = N "    w\0t = self.weight\n    \xff\xfe = self.bias\n"
                                 "    y = torch.layer_norm(x, [4], w\0t, \xff\xfe, 0.5)\n"
                                 "    getattr(\n    y = getattr(self, \"w\n    y = getattr(self,";
    (void)state;
    for (size_t n = 0; n < sizeof text; n++) {
        (void)one_norm();
        program_of("code/__torch__.py", text, n);
        program_of("code/.py", text, n);
        recognise();
        assert_true(layer("n")->said.epsilon <= 0);
        (void)end(NULL);
        (void)begin(NULL);
    }
}

/* A program cut anywhere says what whole lines say, or nothing. */
static void cut_anywhere(void **state)
{
    static const char text[] =
        N ATTRS "    y = torch.layer_norm(x, [4], weight, bias, 0.5)\n    return torch.gelu(y)\n";
    const size_t told = (size_t)(strchr(strstr(text, "0.5)"), ')') - text) + 1;
    (void)state;
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *part = malloc(n + 1);
        assert_non_null(part);
        memcpy(part, text, n);
        (void)one_norm();
        program_of("code/__torch__.py", part, n);
        recognise();
        assert_int_equal(layer("n")->said.epsilon > 0, n >= told);
        (void)end(NULL);
        (void)begin(NULL);
        free(part);
    }
}

/* ---- what torch wrote ---- */

static void golden(const char *path)
{
    struct read_opt o = {0};
    const struct format *f;
    model_free(&m);
    model_init(&m);
    must(format_open(path, NULL, &o, &m, &f, &err));
    recognise();
}

static void goldens(void **state)
{
    static const char *const folder[] = {"torch", "torch-1.13"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "tests/golden/%s/notes_script.pt", folder[i]);
        golden(path);
        assert_int_equal(layer("conv")->kind, LAYER_CONV);
        assert_true(layer("conv")->said.strided);
        is_text(layer("conv")->said.padding, "(1)");
        is_number(layer("bn")->said.epsilon, 1e-3);
        is_number(layer("bn")->said.momentum, 0.97);
        is_text(function("act", "form")->means, "tanh");
        (void)snprintf(path, sizeof path, "tests/golden/%s/notes_trace.pt", folder[i]);
        golden(path);
        assert_int_equal(layer("up")->kind, LAYER_CONV_TRANSPOSE);
        is_text(layer("up")->said.padding, "none");
        assert_int_equal(layer("gn")->kind, LAYER_GROUPNORM);
        assert_int_equal(layer("gn")->groups, 1);
        is_number(layer("gn")->said.epsilon, 1e-6);
        is_text(layer("rnn.l0")->said.activation, "relu");
        is_text(layer("rnn.l0")->said.batch, "first");
        is_text(function("forward", "slope")->means, "0.2");
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_call),           T(a_default),           T(a_keyword),
        T(a_functional),     T(by_a_parent),         T(no_program),
        T(another_function), T(another_object),      T(a_user_function),
        T(an_argument),      T(maybe_run),           T(maybe_another),
        T(of_several),       T(in_a_string),         T(not_closed),
        T(closed_twice),     T(not_of_a_class),      T(no_module),
        T(another_class),    T(no_such_attribute),   T(a_string_without_end),
        T(two_ways),         T(two_kinds),           T(not_a_number),
        T(declared_norms),   T(convolutions),        T(convolution_calls),
        T(open_kinds),       T(attention),           T(cells),
        T(fused_layer),      T(functions),           T(paddings),
        T(too_many_names),   T(too_many_uses),       T(too_many_classes),
        T(too_deep),         T(too_many_attributes), T(too_many_steps),
        T(any_bytes),        T(cut_anywhere),        T(goldens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
