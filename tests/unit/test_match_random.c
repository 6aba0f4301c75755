/* Random networks against a skeleton: the right numbers or a refusal with something to complete,
 * never a wrong pair. Half of the networks have all axes distinct, half all axes equal; the order
 * of tensors is shuffled on both sides; names agree, are lists, are Flax's own, or say nothing. The
 * right numbers come from the index formulas below, written out by hand.
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

enum kind { LINEAR, CONV, DEPTHWISE, GROUPED, CONVT, BN, LN, GN, EMBED, ATTN, FLAT, KINDS };
static const char *const plain[KINDS] = {"fc", "conv", "conv",  "conv", "deconv", "bn",
                                         "ln", "gn",   "embed", "attn", "fc"};
static const char *const class_of[KINDS] = {
    "Dense",     "Conv",      "Conv",      "Conv",  "ConvTranspose",
    "BatchNorm", "LayerNorm", "GroupNorm", "Embed", "MultiHeadDotProductAttention",
    "Dense"};
enum scheme { SAME, LIST, AUTO, UNRELATED, SCHEMES };

struct layer_spec {
    enum kind kind;
    char torch_path[64], flax_path[64];
    uint64_t o, i, k[3], heads, c; /* c: channels of a flattened map */
    int nd;
    bool bias;
    double base[8];
};
struct net {
    struct layer_spec l[8];
    size_t n;
    bool distinct, flattens;
    enum scheme scheme;
};

static uint64_t state_;
static uint64_t rnd(uint64_t n)
{
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return (state_ >> 11) % n;
}

static uint64_t equal_, taken[64];
static size_t n_taken;
static uint64_t size_of(bool distinct, uint64_t multiple)
{
    if (!distinct)
        return equal_;
    for (;;) {
        uint64_t v = (3 + rnd(30)) * multiple;
        bool again = false;
        for (size_t i = 0; i < n_taken; i++)
            again = again || taken[i] == v;
        if (again && n_taken < 50)
            continue;
        if (n_taken < 64)
            taken[n_taken++] = v;
        return v;
    }
}

static void make_layer(struct net *net, enum kind kind, struct layer_spec *last_conv)
{
    struct layer_spec *l = &net->l[net->n];
    bool d = net->distinct;
    memset(l, 0, sizeof *l);
    l->kind = kind;
    l->bias = rnd(10) < 7;
    l->nd = 1 + (int)rnd(3);
    for (int x = 0; x < 3; x++)
        l->k[x] = d ? 2 + (uint64_t)x : equal_;
    l->i = size_of(d, 1);
    switch (kind) {
    case DEPTHWISE:
        l->i = 1;
        l->o = size_of(d, 1);
        break;
    case GROUPED:
        l->o = size_of(d, 2);
        break;
    case ATTN:
        l->heads = d ? 2 + rnd(2) : 2;
        l->o = l->i = size_of(d, l->heads);
        break;
    case FLAT:
        l->c = last_conv->o;
        l->i = l->c;
        for (int x = 0; x < last_conv->nd; x++)
            l->i *= 2 + rnd(2);
        l->o = size_of(d, 1);
        l->bias = true;
        net->flattens = true;
        break;
    default:
        l->o = size_of(d, 1);
    }
    net->n++;
}

static void name_layers(struct net *net)
{
    int count[KINDS] = {0};
    for (size_t i = 0; i < net->n; i++) {
        struct layer_spec *l = &net->l[i];
        char word[2][8] = {{0}, {0}};
        int nth = 0;
        for (size_t j = 0; j < i; j++)
            nth += strcmp(class_of[net->l[j].kind], class_of[l->kind]) == 0;
        (void)count;
        for (int x = 0; x < 6; x++) {
            word[0][x] = (char)('a' + (int)rnd(8));
            word[1][x] = (char)('s' + (int)rnd(8));
        }
        const char *p = plain[l->kind];
        switch (net->scheme) {
        case SAME:
            snprintf(l->torch_path, 64, "net.%s%zu", p, i);
            snprintf(l->flax_path, 64, "net.%s%zu", p, i);
            break;
        case LIST:
            snprintf(l->torch_path, 64, "layers.%zu.%s", i, p);
            snprintf(l->flax_path, 64, "layers_%zu.%s", i, p);
            break;
        case AUTO:
            snprintf(l->torch_path, 64, "%s%zu", p, i);
            snprintf(l->flax_path, 64, "%s_%d", class_of[l->kind], nth);
            break;
        default:
            snprintf(l->torch_path, 64, "%s%zu", word[0], i);
            snprintf(l->flax_path, 64, "%s%zu", word[1], i);
        }
    }
}

/* ---- both models ---- */

struct entry {
    char name[128];
    double base;
    uint64_t dim[8];
    size_t n_dims;
    bool counter;
};
struct list {
    struct entry e[80];
    size_t n;
};

static double next_base;
static double put(struct list *l, const char *root, const char *path, const char *leaf,
                  const uint64_t *dim, size_t n_dims)
{
    struct entry *e = &l->e[l->n++];
    snprintf(e->name, sizeof e->name, "%s%s%s.%s", root, *root ? "." : "", path, leaf);
    memcpy(e->dim, dim, n_dims * 8);
    e->n_dims = n_dims;
    e->counter = false;
    e->base = next_base;
    next_base += 65536;
    return e->base;
}
#define DIMS(...) (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / 8

static void torch_side(struct net *net, struct list *s)
{
    for (size_t i = 0; i < net->n; i++) {
        struct layer_spec *l = &net->l[i];
        uint64_t w[5] = {l->o, l->i, l->k[0], l->k[1], l->k[2]};
        const char *p = l->torch_path;
        switch (l->kind) {
        case LINEAR:
        case FLAT:
            l->base[0] = put(s, "", p, "weight", DIMS(l->o, l->i));
            break;
        case CONVT:
            w[0] = l->i;
            w[1] = l->o;
            l->base[0] = put(s, "", p, "weight", w, 2 + (size_t)l->nd);
            break;
        case CONV:
        case DEPTHWISE:
        case GROUPED:
            l->base[0] = put(s, "", p, "weight", w, 2 + (size_t)l->nd);
            break;
        case EMBED:
            l->base[0] = put(s, "", p, "weight", DIMS(l->o, l->i));
            continue;
        case ATTN:
            l->base[0] = put(s, "", p, "in_proj_weight", DIMS(3 * l->o, l->o));
            l->base[2] = put(s, "", p, "out_proj.weight", DIMS(l->o, l->o));
            if (l->bias) {
                l->base[1] = put(s, "", p, "in_proj_bias", DIMS(3 * l->o));
                l->base[3] = put(s, "", p, "out_proj.bias", DIMS(l->o));
            }
            continue;
        default:
            l->base[0] = put(s, "", p, "weight", DIMS(l->o));
            l->base[1] = put(s, "", p, "bias", DIMS(l->o));
            if (l->kind == BN) {
                l->base[2] = put(s, "", p, "running_mean", DIMS(l->o));
                l->base[3] = put(s, "", p, "running_var", DIMS(l->o));
                (void)put(s, "", p, "num_batches_tracked", DIMS(1));
                s->e[s->n - 1].n_dims = 0;
                s->e[s->n - 1].counter = true;
            }
            continue;
        }
        if (l->bias)
            l->base[1] = put(s, "", p, "bias", DIMS(l->o));
    }
}

static void flax_side(struct net *net, struct list *s)
{
    for (size_t i = 0; i < net->n; i++) {
        struct layer_spec *l = &net->l[i];
        const char *p = l->flax_path;
        uint64_t w[5];
        char sub[96];
        uint64_t dh = l->heads ? l->o / l->heads : 0;
        static const char *const part[3] = {"query", "key", "value"};
        switch (l->kind) {
        case LINEAR:
        case FLAT:
            put(s, "params", p, "kernel", DIMS(l->i, l->o));
            break;
        case CONV:
        case DEPTHWISE:
        case GROUPED:
        case CONVT:
            memcpy(w, l->k, sizeof l->k);
            w[l->nd] = l->i;
            w[l->nd + 1] = l->o;
            put(s, "params", p, "kernel", w, 2 + (size_t)l->nd);
            break;
        case EMBED:
            put(s, "params", p, "embedding", DIMS(l->o, l->i));
            continue;
        case ATTN:
            for (int q = 0; q < 3; q++) {
                snprintf(sub, sizeof sub, "%s.%s", p, part[q]);
                put(s, "params", sub, "kernel", DIMS(l->o, l->heads, dh));
                if (l->bias)
                    put(s, "params", sub, "bias", DIMS(l->heads, dh));
            }
            snprintf(sub, sizeof sub, "%s.out", p);
            put(s, "params", sub, "kernel", DIMS(l->heads, dh, l->o));
            if (l->bias)
                put(s, "params", sub, "bias", DIMS(l->o));
            continue;
        default:
            put(s, "params", p, "scale", DIMS(l->o));
            put(s, "params", p, "bias", DIMS(l->o));
            if (l->kind == BN) {
                put(s, "batch_stats", p, "mean", DIMS(l->o));
                put(s, "batch_stats", p, "var", DIMS(l->o));
            }
            continue;
        }
        if (l->bias)
            put(s, "params", p, "bias", DIMS(l->o));
    }
}

static void fill(struct model *m, struct list *s)
{
    model_init(m);
    for (size_t i = s->n; i > 1; i--) {
        size_t j = rnd(i);
        struct entry t = s->e[i - 1];
        s->e[i - 1] = s->e[j];
        s->e[j] = t;
    }
    for (size_t i = 0; i < s->n; i++)
        if (s->e[i].counter)
            toy_counter(m, s->e[i].name, 5);
        else
            toy_tensor(m, s->e[i].name, s->e[i].base, s->e[i].dim, s->e[i].n_dims);
    toy_done(m);
}

/* ---- the formulas ---- */

static double *at(const struct plan *p, const char *root, const char *path, const char *leaf)
{
    char name[128];
    uint64_t n;
    snprintf(name, sizeof name, "%s.%s.%s", root, path, leaf);
    return toy_values(p, (size_t)toy_find(&p->dst, name), &n);
}

static size_t wrong;
static void expect(double got, double want)
{
    wrong += got != want;
}

static void check_vector(const struct plan *p, const char *root, const char *path, const char *leaf,
                         double base, uint64_t n)
{
    double *v = at(p, root, path, leaf);
    for (uint64_t i = 0; i < n; i++)
        expect(v[i], base + (double)i);
    free(v);
}

static void check_attention(const struct plan *p, const struct layer_spec *l)
{
    static const char *const part[3] = {"query", "key", "value"};
    uint64_t dim = l->o, dh = dim / l->heads;
    char sub[96];
    for (uint64_t q = 0; q < 3; q++) {
        snprintf(sub, sizeof sub, "%s.%s", l->flax_path, part[q]);
        double *v = at(p, "params", sub, "kernel");
        for (uint64_t x = 0; x < dim; x++)
            for (uint64_t h = 0; h < l->heads; h++)
                for (uint64_t d = 0; d < dh; d++)
                    expect(v[(x * l->heads + h) * dh + d],
                           l->base[0] + (double)((q * dim + h * dh + d) * dim + x));
        free(v);
        if (l->bias)
            check_vector(p, "params", sub, "bias", l->base[1] + (double)(q * dim), dim);
    }
    snprintf(sub, sizeof sub, "%s.out", l->flax_path);
    double *v = at(p, "params", sub, "kernel");
    for (uint64_t h = 0; h < dim; h++)
        for (uint64_t x = 0; x < dim; x++)
            expect(v[h * dim + x], l->base[2] + (double)(x * dim + h));
    free(v);
    if (l->bias)
        check_vector(p, "params", sub, "bias", l->base[3], dim);
}

static void check_kernel(const struct plan *p, const struct layer_spec *l)
{
    double *v = at(p, "params", l->flax_path, "kernel");
    uint64_t s = 1, k[3] = {1, 1, 1};
    for (int x = 0; x < l->nd; x++) {
        k[x] = l->k[x];
        s *= k[x];
    }
    for (uint64_t pos = 0; pos < s; pos++) {
        uint64_t x = pos % k[2], rest = pos / k[2], y = rest % k[1], z = rest / k[1];
        if (l->nd == 1) {
            z = pos;
            y = x = 0;
        } else if (l->nd == 2) {
            z = pos / k[1];
            y = pos % k[1];
            x = 0;
        }
        /* stored reversed along every spatial axis */
        uint64_t from = l->kind != CONVT
                            ? pos
                            : ((k[0] - 1 - z) * k[1] + (k[1] - 1 - y)) * k[2] + (k[2] - 1 - x);
        for (uint64_t i = 0; i < l->i; i++)
            for (uint64_t o = 0; o < l->o; o++)
                expect(v[(pos * l->i + i) * l->o + o],
                       l->base[0] +
                           (double)((l->kind == CONVT ? i * l->o + o : o * l->i + i) * s + from));
    }
    free(v);
}

static void check(const struct plan *p, const struct net *net)
{
    for (size_t n = 0; n < net->n; n++) {
        const struct layer_spec *l = &net->l[n];
        double *v;
        switch (l->kind) {
        case LINEAR:
        case FLAT:
            v = at(p, "params", l->flax_path, "kernel");
            for (uint64_t i = 0; i < l->i; i++)
                for (uint64_t o = 0; o < l->o; o++) {
                    uint64_t from = i;
                    if (l->kind == FLAT)
                        from = (i % l->c) * (l->i / l->c) + i / l->c;
                    expect(v[i * l->o + o], l->base[0] + (double)(o * l->i + from));
                }
            free(v);
            break;
        case CONV:
        case DEPTHWISE:
        case GROUPED:
        case CONVT:
            check_kernel(p, l);
            break;
        case EMBED:
            check_vector(p, "params", l->flax_path, "embedding", l->base[0], l->o * l->i);
            continue;
        case ATTN:
            check_attention(p, l);
            continue;
        default:
            check_vector(p, "params", l->flax_path, "scale", l->base[0], l->o);
            check_vector(p, "params", l->flax_path, "bias", l->base[1], l->o);
            if (l->kind == BN) {
                check_vector(p, "batch_stats", l->flax_path, "mean", l->base[2], l->o);
                check_vector(p, "batch_stats", l->flax_path, "var", l->base[3], l->o);
            }
            continue;
        }
        if (l->bias)
            check_vector(p, "params", l->flax_path, "bias", l->base[1], l->o);
    }
}

static size_t right[SCHEMES][2], refused[SCHEMES][2];

static void one(uint64_t number, uint64_t seed)
{
    struct net net = {0};
    static struct list s, t;
    struct model m, sk;
    struct plan p;
    struct err e = {0};
    struct buf asked = BUF_INIT;
    state_ = (seed * 1000003 + number) * 2 + 1;
    for (int i = 0; i < 16; i++)
        (void)rnd(2);
    net.distinct = number % 2 == 0;
    net.scheme = (enum scheme)rnd(SCHEMES);
    equal_ = 2 * (1 + rnd(2));
    n_taken = 0;
    next_base = 0;
    s.n = t.n = 0;
    size_t n = 2 + rnd(6);
    struct layer_spec *last = NULL;
    for (size_t i = 0; i < n; i++) {
        enum kind k = (enum kind)rnd(KINDS);
        if (k == FLAT && !last)
            continue;
        make_layer(&net, k, last);
        if (k == CONV || k == DEPTHWISE || k == GROUPED || k == CONVT)
            last = &net.l[net.n - 1];
        else if (k == FLAT)
            last = NULL;
    }
    name_layers(&net);
    torch_side(&net, &s);
    flax_side(&net, &t);
    fill(&m, &s);
    fill(&sk, &t);
    plan_init(&p, &m);
    struct map_opt o = {.to = "flax", .like = &sk};
    enum status st = net.n ? map_plan(&p, &o, NULL, UINT64_MAX, &asked, &e) : ST_CANNOT;
    if (st == ST_OK) {
        wrong = 0;
        check(&p, &net);
        if (wrong) {
            for (size_t i = 0; i < net.n; i++)
                print_message("  %s -> %s\n", net.l[i].torch_path, net.l[i].flax_path);
            for (size_t i = 0; i < p.n_reasons; i++)
                print_message("  %.*s\n", STR_ARG(p.reason[i].text));
            fail_msg("seed %llu number %llu: a wrong pair (%zu values)", (unsigned long long)seed,
                     (unsigned long long)number, wrong);
        }
        right[net.scheme][net.distinct]++;
    } else {
        if (st != ST_CANNOT || (net.n && asked.n == 0))
            fail_msg("seed %llu number %llu: %d %s %s", (unsigned long long)seed,
                     (unsigned long long)number, (int)st, e.code ? e.code : "-", e.reason);
        if (net.n && !net.flattens)
            refused[net.scheme][net.distinct]++;
        if (getenv("SHOW") && net.distinct && net.scheme != UNRELATED && !net.flattens)
            print_message("%llu: %s %s\n%.*s", (unsigned long long)number, e.code, e.reason,
                          (int)asked.n, (const char *)asked.p);
    }
    buf_free(&asked);
    plan_free(&p);
    model_free(&m);
    model_free(&sk);
}

static void networks(void **state)
{
    (void)state;
    const char *given = getenv("NNFERRY_SEED"), *count = getenv("NNFERRY_NETS");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20251122;
    uint64_t n = count ? strtoull(count, NULL, 10) : 400;
    print_message("NNFERRY_SEED=%llu\n", (unsigned long long)seed);
    for (uint64_t i = 0; i < n; i++)
        one(i, seed);
    static const char *const name[SCHEMES] = {"same", "list", "auto", "unrelated"};
    for (int i = 0; i < SCHEMES; i++)
        for (int d = 0; d < 2; d++)
            print_message("%s %s: %zu right, %zu refused\n", name[i], d ? "distinct" : "equal",
                          right[i][d], refused[i][d]);
    /* refusing everything is no way to pass */
    for (int i = 0; i < SCHEMES; i++)
        assert_true(right[i][1] >= 4 * refused[i][1]);
    for (int i = 0; i < UNRELATED; i++)
        assert_true(right[i][0] >= 4 * refused[i][0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(networks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
