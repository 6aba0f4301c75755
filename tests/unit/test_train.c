/* Train state from one framework's spelling to another's: every optimizer's slots, counts, the
 * structure around them, and what is refused by name.
 */
#include "convert/map.h"
#include "format/equinox.h"
#include "framework/optim.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct err err;
static const char *const all[] = {"*", NULL};

static enum status map_to(struct plan *p, const struct model *m, struct map_opt o)
{
    struct buf asked = BUF_INIT;
    plan_init(p, m);
    memset(&err, 0, sizeof err);
    enum status st = map_plan(p, &o, NULL, 0, &asked, &err);
    if (st != ST_OK && getenv("SHOW"))
        print_message("%s: %s (%s)\n%.*s", err.code ? err.code : "-", err.reason, err.tensor,
                      (int)asked.n, (const char *)asked.p);
    buf_free(&asked);
    return st;
}

static void must(enum status st)
{
    if (st != ST_OK)
        fail_msg("%d %s: %s (%s)", (int)st, err.code ? err.code : "-", err.reason, err.tensor);
}

/* First value of a target tensor. */
static double first(const struct plan *p, const char *name)
{
    uint64_t n;
    double *v = toy_values(p, (size_t)toy_find(&p->dst, name), &n);
    double x = v[0];
    free(v);
    return x;
}

static bool holds(const struct model *m, const char *name)
{
    for (size_t i = 0; i < m->n_tensors; i++)
        if (str_is(m->tensor[i].name, name))
            return true;
    return false;
}

/* The node at a path of keys and places, '.' between them; NULL. */
static const struct node *at(const struct node *root, const char *path)
{
    struct str rest = str_from(path), seg;
    while (root && str_split(&rest, '.', &seg)) {
        const struct node *c = root->child;
        uint64_t k = 0, want;
        bool number = str_u64(seg, &want);
        for (; c; c = c->next, k++)
            if (c->key && c->key->kind == NODE_STR ? str_eq(c->key->text, seg)
                : c->key                           ? number && (uint64_t)c->key->i == want
                                                   : number && k == want)
                break;
        root = c;
    }
    return root;
}

static bool named(const struct plan *p, enum ledger_kind kind, const char *name, bool harmless)
{
    for (size_t i = 0; i < p->n_lines; i++)
        if (p->line[i].kind == kind && p->line[i].harmless == harmless &&
            str_is(p->line[i].name, name))
            return true;
    return false;
}

/* What each optimizer keeps, as torch and as optax spell it. */
static const struct spelled {
    const char *name;
    struct {
        const char *torch, *optax;
    } slot[3];
    bool steps;        /* torch has a step per parameter */
    const char *count; /* optax */
    const char *empty; /* the chain's last state */
} optimizers[] = {
    {"sgd", {{"momentum_buffer", "0.trace"}}, false, NULL, "1"},
    {"adam", {{"exp_avg", "0.mu"}, {"exp_avg_sq", "0.nu"}}, true, "0.count", "1"},
    {"rmsprop", {{"square_avg", "0.nu"}}, true, NULL, "2"},
    {"rmsprop, momentum",
     {{"square_avg", "0.nu"}, {"momentum_buffer", "2.trace"}},
     true,
     NULL,
     "1"},
    {"rmsprop, centered", {{"square_avg", "0.nu"}, {"grad_avg", "0.mu"}}, true, NULL, "2"},
    {"rmsprop, both",
     {{"square_avg", "0.nu"}, {"grad_avg", "0.mu"}, {"momentum_buffer", "2.trace"}},
     true,
     NULL,
     "1"},
    {"adagrad", {{"sum", "0.sum_of_squares"}}, true, NULL, "1"},
    {"lion", {{"exp_avg", "0.mu"}}, false, "0.count", "2"},
    {"adadelta", {{"square_avg", "1.e_g"}, {"acc_delta", "1.e_x"}}, true, NULL, "2"},
};

static void put_state(struct model *m, const struct spelled *o, uint32_t w, uint32_t b)
{
    char name[128];
    for (int s = 0; s < 3 && o->slot[s].torch; s++)
        for (int p = 0; p < 2; p++) {
            snprintf(name, sizeof name, "optimizer.state.%d.%s", p, o->slot[s].torch);
            uint32_t t = p ? toy_add(m, name, 200 + 10 * s, 3, -1)
                           : toy_add(m, name, 1000 + 100 * s, 3, 2, -1);
            m->tensor[t].role = ROLE_MOMENT1;
            m->tensor[t].of = p ? b : w;
        }
    for (int p = 0; p < 2 && o->steps; p++) {
        snprintf(name, sizeof name, "optimizer.state.%d.step", p);
        m->tensor[toy_add(m, name, 7, -1)].role = ROLE_COUNTER;
    }
}

static void toy_torch(struct model *m, const struct spelled *o)
{
    model_init(m);
    uint32_t w = toy_add(m, "model.fc.weight", 0, 3, 2, -1);
    uint32_t b = toy_add(m, "model.fc.bias", 50, 3, -1);
    put_state(m, o, w, b);
    toy_done(m);
}

static void there_and_back(const struct spelled *o)
{
    struct model m, f;
    struct plan p, q;
    char name[128];
    toy_torch(&m, o);
    if (o->slot[1].torch && strstr(o->slot[o->slot[2].torch ? 2 : 1].optax, "trace")) {
        /* optax's trace holds the learning rate, which names alone do not tell */
        assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_CANNOT);
        assert_string_equal(err.code, "train-rate");
        plan_free(&p);
        model_free(&m);
        return;
    }
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .allow_synth = o->steps ? NULL : all}));
    assert_true(holds(&p.dst, "params.fc.kernel"));
    for (int s = 0; s < 3 && o->slot[s].torch; s++) {
        uint64_t n;
        snprintf(name, sizeof name, "opt_state.%s.fc.kernel", o->slot[s].optax);
        double *v = toy_values(&p, (size_t)toy_find(&p.dst, name), &n);
        assert_int_equal(n, 6);
        assert_true(v[0] == 1000 + 100 * s && v[1] == 1002 + 100 * s); /* turned */
        free(v);
        snprintf(name, sizeof name, "opt_state.%s.fc.bias", o->slot[s].optax);
        assert_true(first(&p, name) == 200 + 10 * s);
    }
    if (o->count) {
        snprintf(name, sizeof name, "opt_state.%s", o->count);
        assert_true(first(&p, name) == (o->steps ? 7 : 0));
    }
    assert_true(first(&p, "step") == (o->steps ? 7 : 0));
    snprintf(name, sizeof name, "opt_state.%s", o->empty);
    const struct node *empty = at(p.dst.tree, name);
    assert_non_null(empty);
    assert_int_equal(empty->kind, NODE_DICT);
    assert_int_equal(empty->n_children, 0);

    toy_freeze(&p, &f);
    assert_int_equal(map_to(&q, &f, (struct map_opt){.to = "pytorch"}), ST_CANNOT);
    assert_string_equal(err.code, "ledger");
    plan_free(&q);
    must(map_to(&q, &f, (struct map_opt){.to = "pytorch", .allow_synth = all}));
    for (size_t i = 0; i < m.n_tensors; i++) {
        char want[128];
        snprintf(want, sizeof want, "%.*s", STR_ARG(m.tensor[i].name));
        assert_true(holds(&q.dst, want));
    }
    for (int s = 0; s < 3 && o->slot[s].torch; s++) {
        snprintf(name, sizeof name, "optimizer.state.0.%s", o->slot[s].torch);
        uint64_t n;
        double *v = toy_values(&q, (size_t)toy_find(&q.dst, name), &n);
        for (uint64_t i = 0; i < n; i++)
            assert_true(v[i] == 1000 + 100 * s + (double)i);
        free(v);
        snprintf(name, sizeof name, "optimizer.state.0.%s", o->slot[s].torch);
        assert_non_null(at(q.dst.tree, name));
    }
    assert_true(!o->steps || first(&q, "optimizer.state.1.step") == 7);
    assert_non_null(node_get(at(q.dst.tree, "model"), STR("fc.weight")));
    const struct node *group = at(q.dst.tree, "optimizer.param_groups.0");
    assert_non_null(group);
    assert_non_null(at(group, "lr"));
    assert_int_equal(at(group, "params")->n_children, 2);
    assert_true(str_is(at(group, "param_names.0")->text, "fc.weight"));
    assert_true(named(&q, LEDGER_SYNTH, "optimizer.param_groups.0.lr", false));
    assert_true(named(&q, LEDGER_SYNTH, "optimizer.param_groups.0.params", false));
    plan_free(&q);
    plan_free(&p);
    model_free(&f);
    model_free(&m);
}

static void each_optimizer(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof optimizers / sizeof *optimizers; i++) {
        if (getenv("SHOW"))
            print_message("%s\n", optimizers[i].name);
        there_and_back(&optimizers[i]);
    }
}

/* optax keeps the same for Adam and Adamax: the skeleton says which, and the user that it does. */
static void alike(void **state)
{
    (void)state;
    static const struct spelled adamax = {
        "adamax", {{"exp_avg", "0.mu"}, {"exp_inf", "0.nu"}}, true, "0.count", "1"};
    struct model m, f;
    struct plan p, q;
    toy_torch(&m, &adamax);
    must(map_to(&p, &m, (struct map_opt){.to = "flax"}));
    assert_true(first(&p, "opt_state.0.nu.fc.kernel") == 1100);
    toy_freeze(&p, &f);
    struct map_opt o = {.to = "pytorch", .like = &m};
    assert_int_equal(map_to(&q, &f, o), ST_CANNOT);
    assert_true(named(&q, LEDGER_SYNTH, "optimizer.kind", false));
    plan_free(&q);
    static const char *const kind[] = {"optimizer.kind", NULL};
    o.allow_synth = kind;
    must(map_to(&q, &f, o));
    assert_true(first(&q, "optimizer.state.0.exp_inf") == 1100);
    assert_true(first(&q, "optimizer.state.0.step") == 7);
    plan_free(&q);
    plan_free(&p);
    model_free(&f);
    model_free(&m);
}

/* torch has Nadam's product for each parameter, Keras one. */
static void products(void **state)
{
    (void)state;
    static const struct spelled nadam = {
        "nadam", {{"exp_avg", "0.mu"}, {"exp_avg_sq", "0.nu"}}, true, "0.count", "1"};
    for (int other = 0; other < 2; other++) {
        struct model m, like;
        struct plan p;
        static const char *const note[] = {"nadam/fc_kernel_momentum", "nadam/fc_kernel_velocity",
                                           "nadam/fc_bias_momentum", "nadam/fc_bias_velocity"};
        model_init(&m);
        uint32_t w = toy_add(&m, "model.fc.weight", 0, 3, 2, -1);
        uint32_t b = toy_add(&m, "model.fc.bias", 50, 3, -1);
        put_state(&m, &nadam, w, b);
        m.tensor[toy_add(&m, "optimizer.state.0.mu_product", 0.5, -1)].role = ROLE_OTHER;
        m.tensor[toy_add(&m, "optimizer.state.1.mu_product", other ? 0.25 : 0.5, -1)].role =
            ROLE_OTHER;
        toy_done(&m);
        model_init(&like);
        like.framework = STR("tensorflow");
        uint32_t k = toy_add(&like, "fc.kernel", 0, 2, 3, -1),
                 c = toy_add(&like, "fc.bias", 0, 3, -1);
        for (int i = 0; i < 4; i++) {
            char name[64];
            snprintf(name, sizeof name, "optimizer._variables.%d", i + 2);
            uint32_t t = i < 2 ? toy_add(&like, name, 0, 2, 3, -1) : toy_add(&like, name, 0, 3, -1);
            like.tensor[t].role = ROLE_MOMENT1;
            like.tensor[t].of = i < 2 ? k : c;
            like.tensor[t].note = str_from(note[i]);
        }
        like.tensor[toy_add(&like, "optimizer._u_product", 1, -1)].role = ROLE_OTHER;
        like.tensor[toy_counter(&like, "optimizer._iterations", 0)].role = ROLE_COUNTER;
        toy_done(&like);
        struct map_opt o = {.to = "tensorflow", .like = &like};
        enum status st = map_to(&p, &m, o);
        if (other) {
            assert_int_equal(st, ST_CANNOT);
            assert_string_equal(err.code, "train-product");
        } else {
            must(st);
            assert_true(first(&p, "optimizer._u_product") == 0.5);
            assert_true(first(&p, "optimizer._iterations") == 7);
            assert_true(first(&p, "optimizer._variables.3") == 1100);
        }
        plan_free(&p);
        model_free(&like);
        model_free(&m);
    }
}

/* torch counts per parameter, optax once. */
static void counts_that_differ(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    toy_torch(&m, &optimizers[1]);
    struct tensor *t = &m.tensor[toy_find(&m, "optimizer.state.1.step")];
    float *v = (float *)(uintptr_t)m.storage[t->storage].mem;
    *v = 8;
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax", .allow_drop = all}), ST_CANNOT);
    assert_string_equal(err.code, "train-steps");
    plan_free(&p);
    *v = 7.5f;
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax", .allow_drop = all}), ST_CANNOT);
    assert_string_equal(err.code, "train-number");
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .drop_train_state = true}));
    assert_false(holds(&p.dst, "opt_state.0.count"));
    plan_free(&p);
    model_free(&m);
}

/* A parameter the optimizer does not know has no state to give. */
static void frozen(void **state)
{
    (void)state;
    struct model m, like;
    struct plan p;
    model_init(&m);
    uint32_t w = toy_add(&m, "model.fc.weight", 0, 3, 2, -1);
    uint32_t b = toy_add(&m, "model.fc.bias", 50, 3, -1);
    toy_add(&m, "model.frozen_fc.weight", 60, 2, 2, -1);
    put_state(&m, &optimizers[1], w, b);
    toy_done(&m);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_CANNOT);
    assert_string_equal(err.code, "ledger");
    plan_free(&p);
    /* a skeleton that masks it is met exactly */
    model_init(&like);
    like.framework = STR("flax");
    uint32_t k = toy_add(&like, "params.fc.kernel", 0, 2, 3, -1);
    uint32_t l = toy_add(&like, "params.fc.bias", 0, 3, -1);
    toy_add(&like, "params.frozen_fc.kernel", 0, 2, 2, -1);
    static const char *const moment[] = {"mu", "nu"};
    for (int s = 0; s < 2; s++) {
        char name[64];
        snprintf(name, sizeof name, "opt_state.inner_state.0.%s.fc.kernel", moment[s]);
        uint32_t t = toy_add(&like, name, 0, 2, 3, -1);
        snprintf(name, sizeof name, "opt_state.inner_state.0.%s.fc.bias", moment[s]);
        uint32_t u = toy_add(&like, name, 0, 3, -1);
        like.tensor[t].role = like.tensor[u].role = s ? ROLE_MOMENT2 : ROLE_MOMENT1;
        like.tensor[t].of = k;
        like.tensor[u].of = l;
    }
    like.tensor[toy_add(&like, "opt_state.inner_state.0.count", 0, -1)].role = ROLE_COUNTER;
    like.tensor[toy_add(&like, "opt_state.1.count", 0, -1)].role = ROLE_COUNTER;
    like.tensor[toy_add(&like, "step", 0, -1)].role = ROLE_COUNTER;
    toy_done(&like);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .like = &like}));
    assert_int_equal(p.dst.n_tensors, like.n_tensors);
    assert_true(first(&p, "opt_state.inner_state.0.nu.fc.kernel") == 1100);
    assert_true(first(&p, "opt_state.inner_state.0.count") == 7);
    assert_true(first(&p, "opt_state.1.count") == 7); /* of a schedule */
    assert_true(first(&p, "step") == 7);
    plan_free(&p);
    model_free(&like);
    model_free(&m);
}

/* What no table maps is lost by name. */
static void what_does_not_map(void **state)
{
    (void)state;
    static const char *const max[] = {"optimizer.state.0.max_exp_avg_sq", NULL};
    struct model m;
    struct plan p;
    model_init(&m);
    uint32_t w = toy_add(&m, "model.fc.weight", 0, 3, 2, -1);
    uint32_t b = toy_add(&m, "model.fc.bias", 50, 3, -1);
    put_state(&m, &optimizers[1], w, b);
    uint32_t t = toy_add(&m, "optimizer.state.0.max_exp_avg_sq", 900, 3, 2, -1);
    m.tensor[t].role = ROLE_MOMENT2;
    m.tensor[t].of = w;
    toy_done(&m);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_CANNOT);
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .allow_drop = max}));
    assert_true(named(&p, LEDGER_DROP, max[0], false));
    plan_free(&p);
    model_free(&m);
}

/* TensorFlow 1: slots beside the variables, one count. */
static void slots_of_tensorflow(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    m.framework = STR("tensorflow");
    uint32_t w = toy_add(&m, "dense.kernel", 0, 2, 3, -1);
    uint32_t b = toy_add(&m, "dense.bias", 50, 3, -1);
    static const char *const slot[] = {"kernel.Adam", "kernel.Adam_1", "bias.Adam", "bias.Adam_1"};
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "dense.%s", slot[i]);
        uint32_t t = i < 2 ? toy_add(&m, name, 100 * (i + 1), 2, 3, -1)
                           : toy_add(&m, name, 100 * (i + 1), 3, -1);
        m.tensor[t].role = i % 2 ? ROLE_MOMENT2 : ROLE_MOMENT1;
        m.tensor[t].of = i < 2 ? w : b;
    }
    m.tensor[toy_add(&m, "beta1_power", 1, -1)].role = ROLE_OTHER;
    m.tensor[toy_add(&m, "beta2_power", 1, -1)].role = ROLE_OTHER;
    m.tensor[toy_counter(&m, "global_step", 9)].role = ROLE_COUNTER;
    toy_done(&m);
    must(map_to(&p, &m,
                (struct map_opt){.from = "tensorflow", .to = "pytorch", .allow_synth = all}));
    uint64_t n;
    double *v = toy_values(&p, (size_t)toy_find(&p.dst, "optimizer.state.0.exp_avg_sq"), &n);
    assert_int_equal(n, 6);
    assert_true(v[0] == 200 && v[1] == 203); /* turned */
    free(v);
    assert_true(first(&p, "optimizer.state.1.exp_avg") == 300);
    assert_true(first(&p, "optimizer.state.1.step") == 9);
    assert_true(named(&p, LEDGER_DROP, "beta1_power", true));
    assert_true(named(&p, LEDGER_DROP, "optimizer.epsilon", true));
    plan_free(&p);
    model_free(&m);
}

/* Keras 3 in an object graph: the notes are the variables' own names. */
static void graph_of_keras3(void **state)
{
    (void)state;
    static const struct {
        const char *optimizer, *slot[2], *torch[2];
    } kinds[] = {
        {"adam", {"momentum", "velocity"}, {"exp_avg", "exp_avg_sq"}},
        {"rm_sprop_1", {"velocity", "average_gradient"}, {"square_avg", "grad_avg"}},
        {"adagrad", {"accumulator", NULL}, {"sum", NULL}},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct model m;
        struct plan p;
        char note[2][80], name[80];
        model_init(&m);
        m.framework = STR("tensorflow");
        uint32_t w = toy_add(&m, "model._operations.1._kernel", 0, 2, 3, -1);
        m.tensor[w].note = STR("d1/kernel");
        for (int i = 0; i < 2 && kinds[k].slot[i]; i++) {
            snprintf(name, sizeof name, "model.optimizer._variables.%d", i + 2);
            snprintf(note[i], sizeof note[i], "%s/d1_kernel_%s", kinds[k].optimizer,
                     kinds[k].slot[i]);
            uint32_t t = toy_add(&m, name, 100 * (i + 1), 2, 3, -1);
            m.tensor[t].role = ROLE_MOMENT1;
            m.tensor[t].of = w;
            m.tensor[t].note = str_from(note[i]);
        }
        m.tensor[toy_counter(&m, "model.optimizer._iterations", 9)].role = ROLE_COUNTER;
        toy_done(&m);
        must(map_to(&p, &m,
                    (struct map_opt){.from = "tensorflow", .to = "pytorch", .allow_synth = all}));
        assert_true(holds(&p.dst, "model.model.d1.weight"));
        for (int i = 0; i < 2 && kinds[k].slot[i]; i++) {
            snprintf(name, sizeof name, "optimizer.state.0.%s", kinds[k].torch[i]);
            assert_true(first(&p, name) == 100 * (i + 1));
        }
        assert_true(first(&p, "optimizer.state.0.step") == 9);
        plan_free(&p);
        model_free(&m);
    }
}

/* A scale and the steps since it changed, by name; what only a wrapper has is no loss. */
static void toy_scaled(struct model *m, const char *scale, const char *good, double v, int64_t n,
                       const char *count)
{
    model_init(m);
    m->framework = STR("tensorflow");
    uint32_t w = toy_add(m, "dense.kernel", 0, 2, 3, -1);
    m->tensor[w].note = STR("dense/kernel");
    uint32_t t = toy_add(m, "optimizer.inner_optimizer._variables.2", 100, 2, 3, -1);
    m->tensor[t].note = STR("loss_scale_optimizer/adagrad/dense_kernel_accumulator");
    m->tensor[t].role = ROLE_MOMENT2;
    m->tensor[t].of = w;
    m->tensor[toy_add(m, scale, v, -1)].role = ROLE_OTHER;
    m->tensor[toy_counter(m, good, n)].role = ROLE_COUNTER;
    m->tensor[toy_counter(m, count, 7)].role = ROLE_COUNTER;
    m->tensor[toy_counter(m, "optimizer._iterations", 0)].role = ROLE_COUNTER;
    toy_done(m);
}

static void loss_scales(void **state)
{
    (void)state;
    struct model m, like;
    struct plan p;
    const char *count = "optimizer.inner_optimizer._iterations";
    toy_scaled(&m, "optimizer.dynamic_scale", "optimizer.step_counter", 512, 5, count);
    toy_scaled(&like, "optimizer.loss_scale.current_loss_scale", "optimizer.loss_scale.good_steps",
               8, 0, count);
    must(map_to(&p, &m, (struct map_opt){.from = "tensorflow", .to = "tensorflow", .like = &like}));
    assert_true(first(&p, "optimizer.loss_scale.current_loss_scale") == 512);
    assert_true(first(&p, "optimizer.loss_scale.good_steps") == 5);
    assert_true(first(&p, count) == 7 && first(&p, "optimizer._iterations") == 0);
    assert_true(first(&p, "optimizer.inner_optimizer._variables.2") == 100);
    plan_free(&p);
    model_free(&like);
    /* a target that has none: lost by name */
    toy_scaled(&like, "unlike", "like_steps", 8, 0, count);
    assert_int_equal(map_to(&p, &m,
                            (struct map_opt){.from = "tensorflow",
                                             .to = "tensorflow",
                                             .like = &like,
                                             .allow_drop = all,
                                             .allow_synth = all}),
                     ST_OK);
    assert_true(named(&p, LEDGER_DROP, "optimizer.dynamic_scale", false));
    assert_true(named(&p, LEDGER_DROP, "optimizer.step_counter", false));
    plan_free(&p);
    model_free(&like);
    model_free(&m);
}

/* Keras's files number what the optimizer keeps: by the config's layers, by what a layer is made
 * of, without those that are not trained, unless it has theirs too. */
static void numbers_of_keras(void **state)
{
    (void)state;
    static const char config[] =
        "{\"class_name\":\"Functional\",\"config\":{\"name\":\"m\",\"layers\":["
        "{\"class_name\":\"Dense\",\"config\":{\"name\":\"still\",\"trainable\":false}},"
        "{\"class_name\":\"LSTM\",\"config\":{\"name\":\"cell\",\"trainable\":true}},"
        "{\"class_name\":\"Dense\",\"config\":{\"name\":\"last\",\"trainable\":true}}]}}";
    for (int whole = 0; whole < 2; whole++) {
        struct model m;
        struct plan p;
        struct attachment *a;
        char name[64];
        uint64_t wide[2] = {3, 2};
        uint64_t cell[3][2] = {{3, 8}, {2, 8}, {8, 0}};
        model_init(&m);
        m.framework = STR("keras");
        toy_tensor(&m, "layers.dense.vars.0", 0, wide, 2);
        toy_tensor(&m, "layers.dense_1.vars.0", 20, wide, 2);
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "layers.lstm.cell.vars.%d", i);
            toy_tensor(&m, name, 30, cell[i], i < 2 ? 2 : 1);
        }
        m.tensor[toy_counter(&m, "optimizer.vars.0", 7)].role = ROLE_COUNTER;
        m.tensor[toy_add(&m, "optimizer.vars.1", 0.5, -1)].role = ROLE_OTHER;
        int k = 2;
        for (int i = whole ? 0 : 1; i < 5; i++)
            for (int s = 0; s < 2; s++) {
                snprintf(name, sizeof name, "optimizer.vars.%d", k++);
                bool dense = i == 0 || i == 4;
                uint32_t t = toy_tensor(&m, name, 1000 * (s + 1) + 100 * i,
                                        dense ? wide : cell[i - 1], i == 3 ? 1 : 2);
                m.tensor[t].role = ROLE_OTHER;
            }
        assert_int_equal(model_attach(&m, &a, &err), ST_OK);
        *a = (struct attachment){.name = STR("config.json"),
                                 .media_type = STR("application/json"),
                                 .mem = (const uint8_t *)config,
                                 .n_bytes = sizeof config - 1};
        assert_int_equal(model_meta_add(&m, STR("optimizer/vars@name"), STR("adam"), &err), ST_OK);
        toy_done(&m);
        must(map_to(&p, &m,
                    (struct map_opt){
                        .from = "keras", .to = "pytorch", .allow_synth = all, .allow_drop = all}));
        const struct node *names = at(p.dst.tree, "optimizer.param_groups.0.param_names");
        assert_int_equal(names->n_children, whole ? 6 : 5); /* a cell has two biases in torch */
        int found = 0, at_number = 0;
        for (const struct node *c = names->child; c; c = c->next, at_number++) {
            snprintf(name, sizeof name, "optimizer.state.%d.exp_avg_sq", at_number);
            double want = str_is(c->text, "last.weight")         ? 2400
                          : str_is(c->text, "still.weight")      ? 2000
                          : str_is(c->text, "cell.weight_ih_l0") ? 2100
                          : str_is(c->text, "cell.weight_hh_l0") ? 2200
                                                                 : 2300;
            assert_true(first(&p, name) == want);
            found++;
        }
        assert_int_equal(found, whole ? 6 : 5);
        plan_free(&p);
        model_free(&m);
    }
}

/* TensorFlow 1 counts Adam's updates by the powers of its betas. */
static void set_f32(struct model *m, const char *name, float v)
{
    const struct tensor *t = &m->tensor[toy_find(m, name)];
    memcpy((void *)(uintptr_t)m->storage[t->storage].mem, &v, sizeof v);
}

static void toy_tf1(struct model *m, float p1, float p2, bool global_step)
{
    model_init(m);
    m->framework = STR("tensorflow");
    uint32_t w = toy_add(m, "dense.kernel", 0, 2, 3, -1);
    uint32_t a = toy_add(m, "dense.kernel.Adam", 100, 2, 3, -1);
    uint32_t b = toy_add(m, "dense.kernel.Adam_1", 200, 2, 3, -1);
    m->tensor[a].role = ROLE_MOMENT1;
    m->tensor[b].role = ROLE_MOMENT2;
    m->tensor[a].of = m->tensor[b].of = w;
    m->tensor[toy_add(m, "beta1_power", 1, -1)].role = ROLE_OTHER;
    m->tensor[toy_add(m, "beta2_power", 1, -1)].role = ROLE_OTHER;
    if (global_step)
        m->tensor[toy_counter(m, "global_step", 0)].role = ROLE_COUNTER;
    toy_done(m);
    set_f32(m, "beta1_power", p1);
    set_f32(m, "beta2_power", p2);
}

static float power(float beta, int n)
{
    float p = beta;
    while (n-- > 0)
        p *= beta;
    return p;
}

static void powers_are_read(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    struct map_opt o = {.from = "tensorflow", .to = "pytorch", .allow_synth = all};
    for (int n = 1; n < 3000; n = n * 3 + 1) {
        toy_tf1(&m, power(0.9f, n), power(0.999f, n), false);
        must(map_to(&p, &m, o));
        assert_true(first(&p, "optimizer.state.0.step") == n);
        plan_free(&p);
        model_free(&m);
    }
    /* one of them is another power: nothing is known, and made up only where that is allowed */
    toy_tf1(&m, power(0.9f, 5), power(0.999f, 6), false);
    o.allow_synth = NULL;
    assert_int_equal(map_to(&p, &m, o), ST_CANNOT);
    assert_string_equal(err.code, "ledger");
    plan_free(&p);
    model_free(&m);
}

static void powers_are_written(void **state)
{
    (void)state;
    struct model m, like;
    struct plan p;
    struct map_opt o = {.to = "tensorflow", .like = &like};
    model_init(&m);
    uint32_t w = toy_add(&m, "model.dense.weight", 0, 3, 2, -1);
    for (int s = 0; s < 2; s++) {
        uint32_t t = toy_add(&m, s ? "optimizer.state.0.exp_avg_sq" : "optimizer.state.0.exp_avg",
                             100, 3, 2, -1);
        m.tensor[t].role = s ? ROLE_MOMENT2 : ROLE_MOMENT1;
        m.tensor[t].of = w;
    }
    m.tensor[toy_add(&m, "optimizer.state.0.step", 7, -1)].role = ROLE_COUNTER;
    toy_done(&m);
    toy_tf1(&like, 0.9f, 0.999f, false);
    must(map_to(&p, &m, o));
    assert_true((float)first(&p, "beta1_power") == power(0.9f, 7));
    assert_true((float)first(&p, "beta2_power") == power(0.999f, 7));
    plan_free(&p);
    model_free(&like);
    toy_tf1(&like, 0.7f, 0.99f, true); /* unusual, and not trained yet */
    must(map_to(&p, &m, o));
    assert_true((float)first(&p, "beta1_power") == power(0.7f, 7));
    plan_free(&p);
    model_free(&like);
    toy_tf1(&like, 0.7f, 0.99f, false); /* whatever made these numbers */
    assert_int_equal(map_to(&p, &m, o), ST_CANNOT);
    assert_string_equal(err.code, "train-powers");
    plan_free(&p);
    model_free(&like);
    model_free(&m);
}

/* ---- Equinox: leaves in order, without names ---- */

/* One letter a leaf: w [3,2], b [3], v [2], i a count. */
static void toy_leaves(struct model *m, const char *leaves)
{
    char name[24];
    model_init(m);
    m->framework = STR("equinox");
    for (size_t i = 0; leaves[i]; i++) {
        snprintf(name, sizeof name, "%zu", i);
        char c = leaves[i];
        uint32_t t = c == 'w'   ? toy_add(m, name, 0, 3, 2, -1)
                     : c == 'b' ? toy_add(m, name, 0, 3, -1)
                     : c == 'v' ? toy_add(m, name, 0, 2, -1)
                                : toy_add(m, name, 0, -1);
        m->tensor[t].dtype = c == 'i' ? DT_I32 : DT_F32;
    }
    toy_done(m);
}

static void leaves_of_a_state(void **state)
{
    (void)state;
    static const struct {
        const char *leaves, *roles, *of; /* roles: p, c, 1, 2 */
    } cases[] = {
        {"wbiwbwb", "ppc1122", "---0101"},       /* Adam */
        {"wbiwbwbi", "ppc1122c", "---0101-"},    /* ... with a schedule */
        {"wbiwb", "ppc11", "---01"},             /* Lion */
        {"wbviwvwv", "pppc1122", "----0202"},    /* b is not trained */
        {"wbwbwb", "pppppp", "------"},          /* nothing counts: layers alike */
        {"wbwbiwbwb", "ppppppppp", "---------"}, /* Lion's of all, or Adam's of half: not told */
        {"wwiw", "pppp", "----"},                /* one of two alike */
        {"wbiwbb", "pppppp", "------"},          /* another model's */
        {"wbi", "ppp", "---"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct model m;
        toy_leaves(&m, cases[k].leaves);
        for (size_t i = 0; i < m.n_tensors; i++)
            m.tensor[i].of = -1;
        must(equinox_roles(&m, &err));
        for (size_t i = 0; i < m.n_tensors; i++) {
            enum role r = m.tensor[i].role;
            char c = r == ROLE_PARAMETER ? 'p'
                     : r == ROLE_COUNTER ? 'c'
                     : r == ROLE_MOMENT1 ? '1'
                     : r == ROLE_MOMENT2 ? '2'
                                         : '?';
            char of = m.tensor[i].of < 0 ? '-' : (char)('0' + m.tensor[i].of);
            if (c != cases[k].roles[i] || of != cases[k].of[i])
                fail_msg("%s: leaf %zu is %c of %c", cases[k].leaves, i, c, of);
        }
        model_free(&m);
    }
}

static void tables(void **state)
{
    (void)state;
    for (unsigned k = OPTIM_NONE + 1; k < OPTIMS; k++)
        assert_non_null(optim_name((enum optim)k));
    for (unsigned s = 0; s < SLOT_N; s++) {
        enum slot back;
        assert_non_null(slot_name((enum slot)s));
        for (unsigned k = OPTIM_NONE + 1; k < OPTIMS; k++) {
            const char *leaf = slot_spelled(STYLE_TORCH, (enum optim)k, (enum slot)s);
            if (!leaf)
                continue;
            assert_true(slot_parse(STYLE_TORCH, str_from(leaf), &back));
            assert_int_equal(back, s);
        }
    }
    assert_int_equal(optim_of_keras(STR("adam")), OPTIM_ADAM);
    assert_int_equal(optim_of_keras(STR("rm_sprop_12")), OPTIM_RMSPROP);
    assert_int_equal(optim_of_keras(STR("adam_x")), OPTIM_NONE);
    assert_string_equal(slot_spelled(STYLE_OPTAX, OPTIM_ADADELTA, SLOT_POWER), "e_g");
    assert_string_equal(slot_spelled(STYLE_OPTAX, OPTIM_RMSPROP, SLOT_POWER), "nu");
    unsigned delta = SLOT_BIT(SLOT_POWER) | SLOT_BIT(SLOT_DELTA);
    assert_int_equal(optim_of(delta), OPTIM_ADADELTA);
    assert_int_equal(slot_block(OPTIM_ADADELTA, delta, 0), delta);
    unsigned adam = SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE) | SLOT_BIT(SLOT_MAX);
    assert_int_equal(slot_block(OPTIM_ADAM, adam, 0), SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE));
    assert_int_equal(slot_block(OPTIM_ADAM, adam, 1), SLOT_BIT(SLOT_MAX));
    assert_int_equal(slot_block(OPTIM_ADAM, adam, 2), 0);
    assert_int_equal(slot_rate(STYLE_KERAS, OPTIM_SGD, SLOT_TRACE), -1);
    assert_int_equal(slot_rate(STYLE_TORCH, OPTIM_SGD, SLOT_TRACE), 0);
    assert_int_equal(optim_of(SLOT_BIT(SLOT_MEAN)), OPTIM_LION);
    assert_int_equal(optim_of(SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE)), OPTIM_ADAM);
    assert_int_equal(optim_of(SLOT_BIT(SLOT_SUM) | SLOT_BIT(SLOT_MEAN)), OPTIM_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables),
        cmocka_unit_test(each_optimizer),
        cmocka_unit_test(frozen),
        cmocka_unit_test(counts_that_differ),
        cmocka_unit_test(what_does_not_map),
        cmocka_unit_test(slots_of_tensorflow),
        cmocka_unit_test(graph_of_keras3),
        cmocka_unit_test(loss_scales),
        cmocka_unit_test(numbers_of_keras),
        cmocka_unit_test(alike),
        cmocka_unit_test(products),
        cmocka_unit_test(powers_are_read),
        cmocka_unit_test(powers_are_written),
        cmocka_unit_test(leaves_of_a_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
