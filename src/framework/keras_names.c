/* See keras_names.h. The config is JSON: {"class_name", "config": {"name", "layers": [...]}},
 * layers nested in one another; Keras 1's Sequential has the list itself as its config. Sources:
 * keras/src/saving/{serialization_lib,saving_lib}.py, keras/src/utils/naming.py.
 */
#include "framework/keras_names.h"
#include "base/checked.h"
#include "codec/json.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX ((uint64_t)64 << 20)
#define NAME_BYTES 1024u /* longer ones are no layer's */

/* ---- classes ---- */

static const struct {
    const char *name;
    enum keras_class cls;
} classes[] = {
    {"dense", KERAS_DENSE},
    {"conv1d", KERAS_CONV},
    {"conv2d", KERAS_CONV},
    {"conv3d", KERAS_CONV},
    {"convolution1d", KERAS_CONV},
    {"convolution2d", KERAS_CONV},
    {"convolution3d", KERAS_CONV},
    {"conv1dtranspose", KERAS_CONV_TRANSPOSE},
    {"conv2dtranspose", KERAS_CONV_TRANSPOSE},
    {"conv3dtranspose", KERAS_CONV_TRANSPOSE},
    {"depthwiseconv1d", KERAS_DEPTHWISE},
    {"depthwiseconv2d", KERAS_DEPTHWISE},
    {"separableconv1d", KERAS_SEPARABLE},
    {"separableconv2d", KERAS_SEPARABLE},
    {"batchnormalization", KERAS_BATCHNORM},
    {"batchnormalizationv1", KERAS_BATCHNORM},
    {"syncbatchnormalization", KERAS_BATCHNORM},
    {"layernormalization", KERAS_LAYERNORM},
    {"groupnormalization", KERAS_GROUPNORM},
    {"rmsnormalization", KERAS_RMSNORM},
    {"embedding", KERAS_EMBEDDING},
    {"reversibleembedding", KERAS_EMBEDDING},
    {"multiheadattention", KERAS_ATTENTION},
    {"groupqueryattention", KERAS_ATTENTION},
    {"groupedqueryattention", KERAS_ATTENTION},
    {"einsumdense", KERAS_OTHER},
    {"prelu", KERAS_PRELU},
    {"lstm", KERAS_OTHER},
    {"lstmcell", KERAS_OTHER},
    {"gru", KERAS_OTHER},
    {"grucell", KERAS_OTHER},
    {"simplernn", KERAS_OTHER},
    {"simplernncell", KERAS_OTHER},
    {"convlstm1d", KERAS_OTHER},
    {"convlstm2d", KERAS_OTHER},
    {"convlstm3d", KERAS_OTHER},
    {"locallyconnected1d", KERAS_LOCAL_1D},
    {"locallyconnected2d", KERAS_LOCAL_2D},
    {"bidirectional", KERAS_OTHER},
    {"timedistributed", KERAS_OTHER},
    {"normalization", KERAS_OTHER},
    {"spectralnormalization", KERAS_OTHER},
    {"functional", KERAS_OTHER},
    {"sequential", KERAS_OTHER},
    {"model", KERAS_OTHER},
};

struct str keras_stem(struct str s)
{
    size_t n = s.n;
    while (n > 0 && s.p[n - 1] >= '0' && s.p[n - 1] <= '9')
        n--;
    return n > 1 && n < s.n && s.p[n - 1] == '_' ? str_sub(s, 0, n - 1) : s;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Lower case, without '_'; returns the length. */
static size_t squash(struct str s, char *out)
{
    size_t k = 0;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '_')
            out[k++] = lower(s.p[i]);
    return k;
}

enum keras_class keras_class_of(struct str name)
{
    char text[64];
    struct str stem = keras_stem(name);
    if (stem.n >= sizeof text)
        return KERAS_UNKNOWN;
    struct str plain = {text, squash(stem, text)};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (str_is(plain, classes[i].name))
            return classes[i].cls;
    return KERAS_UNKNOWN;
}

struct str keras_class_path(struct str path, struct arena *a)
{
    char *out = arena_alloc(a, 1, 2 * path.n + 16);
    size_t k = 0;
    struct str rest = path, seg;
    while (out && name_head(&rest, &seg)) {
        struct str stem = keras_stem(seg);
        if (k)
            out[k++] = '.';
        if (str_is(seg, "_layer_checkpoint_dependencies"))
            stem = seg = STR("layers");
        k += squash(stem, out + k);
        if (stem.n < seg.n) {
            out[k++] = '#';
            memcpy(out + k, seg.p + stem.n + 1, seg.n - stem.n - 1);
            k += seg.n - stem.n - 1;
        }
    }
    return (struct str){out, k};
}

/* ---- the config ---- */

enum { IN_LAYER, IN_CONFIG, IN_LIST };
struct frame {
    uint8_t what;
    uint32_t layer;
};
struct walk {
    struct json j;
    struct arena *a;
    struct keras_names *x;
    size_t cap;
    struct frame frame[JSON_MAX_DEPTH];
    size_t depth;
    uint32_t attachment;
};

static enum status push(struct walk *w, uint8_t what, uint32_t layer, struct err *e)
{
    if (w->depth == JSON_MAX_DEPTH)
        return json_fail(&w->j, e, "json-depth", "the config is too deep");
    w->frame[w->depth++] = (struct frame){what, layer};
    return ST_OK;
}

static enum status add(struct walk *w, int64_t parent, const char *attr, struct err *e)
{
    struct keras_names *x = w->x;
    if (x->n == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 64;
        struct keras_layer *p = ARENA_ARRAY(w->a, struct keras_layer, cap);
        if (!p)
            return err_nomem(e, cap * sizeof *p);
        if (x->n)
            memcpy(p, x->layer, x->n * sizeof *p);
        x->layer = p;
        w->cap = cap;
    }
    x->layer[x->n] = (struct keras_layer){.parent = parent,
                                          .attr = str_from(attr),
                                          .prev = -1,
                                          .last = -1,
                                          .scale = -1,
                                          .center = -1};
    if (parent >= 0) {
        x->layer[x->n].prev = x->layer[parent].last;
        x->layer[parent].last = (int64_t)x->n;
    }
    return push(w, IN_LAYER, (uint32_t)x->n++, e);
}

static enum status keep(struct walk *w, struct str *out, struct err *e)
{
    if (w->j.kind != JSON_STRING || w->j.text.n > NAME_BYTES || w->j.has_nul)
        return ST_OK;
    *out = arena_str(w->a, w->j.text.p, w->j.text.n);
    return out->p ? ST_OK : err_nomem(e, w->j.text.n);
}

/* An array was opened: the references in it, arrays that begin with a layer's name. */
static enum status references(struct walk *w, struct str *name, uint8_t *n, struct err *e)
{
    unsigned from = w->j.depth;
    bool first = true;
    *n = 0;
    while (w->j.depth >= from) {
        TRY(json_next(&w->j, e));
        if (first && w->j.kind == JSON_STRING) {
            *n = *n ? 2 : 1;
            TRY(keep(w, name, e));
        }
        first = w->j.kind == JSON_ARRAY;
    }
    return ST_OK;
}

/* An object was opened: its "input_shape", [null, 6, 6, 4]. */
static enum status built(struct walk *w, uint32_t at, struct err *e)
{
    struct keras_layer *l = &w->x->layer[at];
    for (;;) {
        TRY(json_next(&w->j, e));
        if (w->j.kind == JSON_OBJECT_END)
            return ST_OK;
        bool shape = str_is(w->j.text, "input_shape");
        TRY(json_next(&w->j, e));
        if (!shape || w->j.kind != JSON_ARRAY) {
            TRY(json_skip(&w->j, e));
            continue;
        }
        for (l->in_dims = 0;; l->in_dims++) {
            TRY(json_next(&w->j, e));
            if (w->j.kind == JSON_ARRAY_END)
                break;
            bool number = w->j.kind == JSON_NUMBER && json_u64(&w->j, &l->in_last);
            if (!number)
                l->in_last = 0;
            if (l->in_dims == 16)
                return json_fail(&w->j, e, "json-depth", "a shape of too many axes");
            TRY(json_skip(&w->j, e));
        }
    }
}

static enum status in_layer(struct walk *w, uint32_t at, struct err *e)
{
    bool cls = str_is(w->j.text, "class_name"), config = str_is(w->j.text, "config"),
         nodes = str_is(w->j.text, "inbound_nodes"), build = str_is(w->j.text, "build_config");
    TRY(json_next(&w->j, e));
    struct keras_layer *l = &w->x->layer[at];
    if (nodes && w->j.kind == JSON_ARRAY)
        return references(w, &l->inbound, &l->n_inbound, e);
    if (build && w->j.kind == JSON_OBJECT)
        return built(w, at, e);
    if (cls)
        TRY(keep(w, &w->x->layer[at].cls, e));
    if (config && w->j.kind == JSON_OBJECT)
        return push(w, IN_CONFIG, at, e);
    if (config && w->j.kind == JSON_ARRAY)
        return push(w, IN_LIST, at, e);
    return json_skip(&w->j, e);
}

static const char *const config_key[] = {
    "name",           "layers",      "layer",         "scale",          "center",
    "groups",         "epsilon",     "padding",       "momentum",       "strides",
    "negative_slope", "alpha",       "forward_layer", "activation",     "recurrent_activation",
    "filters",        "data_format", "output_layers", "backward_layer", "kernel_size",
    "dilation_rate",  "equation",    "bias_axes",     "trainable"};
enum {
    K_NAME,
    K_LAYERS,
    K_LAYER,
    K_SCALE,
    K_CENTER,
    K_GROUPS,
    K_EPSILON,
    K_PADDING,
    K_MOMENTUM,
    K_STRIDES,
    K_SLOPE,
    K_ALPHA,
    K_FORWARD,
    K_ACTIVATION,
    K_GATES,
    K_FILTERS,
    K_FORMAT,
    K_OUTPUTS,
    K_BACKWARD,
    K_KERNEL,
    K_DILATION,
    K_EQUATION,
    K_BIAS_AXES,
    K_TRAINABLE,
    K_NONE
};

static size_t key_of(struct str text)
{
    size_t k = 0;
    while (k < K_NONE && !str_is(text, config_key[k]))
        k++;
    return k;
}

static double share(const struct json *j)
{
    double v;
    return j->kind == JSON_NUMBER && json_double(j, &v) && v > 0 ? v : 0;
}

/* A config of up to TEXT_MAX bytes. */
static struct said_at place(const struct walk *w)
{
    return (struct said_at){w->attachment, (uint32_t)w->j.at,
                            w->j.kind == JSON_NUMBER ? (uint32_t)w->j.text.n : 0};
}

static struct str padding_of(const struct json *j)
{
    if (j->kind != JSON_STRING)
        return STR_NONE;
    return str_is(j->text, "valid")    ? STR("none")
           : str_is(j->text, "same")   ? STR("same")
           : str_is(j->text, "causal") ? STR("causal")
                                       : STR_NONE;
}

/* A number, or a list of them: their product, 0 where one is no count, and is one above 1? */
static enum status numbers(struct walk *w, uint64_t *out, bool *above, struct err *e)
{
    bool list = w->j.kind == JSON_ARRAY;
    *out = 1;
    *above = false;
    do {
        uint64_t n = 0;
        if (list)
            TRY(json_next(&w->j, e));
        if (list && w->j.kind == JSON_ARRAY_END)
            break;
        if (w->j.kind != JSON_NUMBER || !json_u64(&w->j, &n) || !mul_u64(*out, n, out))
            *out = 0;
        *above = *above || share(&w->j) > 1;
        TRY(json_skip(&w->j, e));
    } while (list);
    return ST_OK;
}

/* What the layer does beside its weights, or the layer inside it. */
static enum status setting(struct walk *w, struct keras_layer *l, size_t key, struct err *e)
{
    uint64_t n;
    bool above;
    switch (key) {
    case K_EPSILON:
        l->said.epsilon = share(&w->j);
        l->said.at_epsilon = place(w);
        break;
    case K_MOMENTUM:
        l->said.momentum = share(&w->j);
        l->said.at_momentum = place(w);
        break;
    case K_PADDING:
        l->said.padding = padding_of(&w->j);
        break;
    case K_SLOPE:
    case K_ALPHA:
        l->slope = share(&w->j);
        break;
    case K_ACTIVATION:
        TRY(keep(w, &l->said.activation, e));
        break;
    case K_GATES:
        TRY(keep(w, &l->said.gates, e));
        break;
    case K_EQUATION:
        TRY(keep(w, &l->equation, e));
        break;
    case K_BIAS_AXES:
        TRY(keep(w, &l->bias_axes, e));
        break;
    case K_KERNEL:
        return numbers(w, &l->window, &above, e);
    case K_STRIDES:
        return numbers(w, &n, &l->said.strided, e);
    case K_DILATION:
        return numbers(w, &n, &l->said.dilated, e);
    default:
        break;
    }
    return json_skip(&w->j, e);
}

static enum status in_config(struct walk *w, uint32_t at, struct err *e)
{
    size_t key = key_of(w->j.text);
    TRY(json_next(&w->j, e));
    struct keras_layer *l = &w->x->layer[at];
    if (key == K_NAME)
        TRY(keep(w, &l->name, e));
    if (key == K_SCALE && w->j.kind == JSON_BOOL)
        l->scale = w->j.truth;
    if (key == K_CENTER && w->j.kind == JSON_BOOL)
        l->center = w->j.truth;
    if (key == K_GROUPS && w->j.kind == JSON_NUMBER && !json_u64(&w->j, &l->groups))
        l->groups = 0;
    if (key == K_FILTERS && w->j.kind == JSON_NUMBER && !json_u64(&w->j, &l->filters))
        l->filters = 0;
    l->kernel_size = l->kernel_size || key == K_KERNEL;
    if (key == K_TRAINABLE)
        l->frozen = w->j.kind == JSON_BOOL && !w->j.truth;
    if (key == K_FORMAT && w->j.kind == JSON_STRING && str_is(w->j.text, "channels_first"))
        w->x->channels_first = l->channels_first = true;
    if (key == K_OUTPUTS && w->j.kind == JSON_ARRAY)
        return references(w, &l->output, &l->n_output, e);
    if (key == K_LAYERS && w->j.kind == JSON_ARRAY)
        return push(w, IN_LIST, at, e);
    bool inner = key == K_LAYER || key == K_FORWARD || key == K_BACKWARD;
    if (inner && w->j.kind == JSON_OBJECT) /* of a Bidirectional, a TimeDistributed */
        return add(w, at, config_key[key], e);
    return setting(w, l, key, e);
}

/* A wrapper does what the layer inside it does, of two the first. */
static void lend(struct keras_names *x)
{
    for (size_t i = x->n; i-- > 0;) { /* the innermost come last */
        const struct keras_layer *l = &x->layer[i];
        if (!l->attr.n || str_is(l->attr, config_key[K_BACKWARD]))
            continue;
        x->layer[l->parent].said = l->said;
        x->layer[l->parent].slope = l->slope;
    }
}

static enum status walk(struct walk *w, struct err *e)
{
    TRY(json_expect(&w->j, JSON_OBJECT, "the config", e));
    TRY(add(w, -1, "", e));
    while (w->depth) {
        struct frame f = w->frame[w->depth - 1];
        TRY(json_next(&w->j, e));
        if (w->j.kind == JSON_OBJECT_END || w->j.kind == JSON_ARRAY_END)
            w->depth--;
        else if (f.what == IN_LAYER)
            TRY(in_layer(w, f.layer, e));
        else if (f.what == IN_CONFIG)
            TRY(in_config(w, f.layer, e));
        else if (w->j.kind == JSON_OBJECT)
            TRY(add(w, f.layer, "", e));
        else
            TRY(json_skip(&w->j, e));
    }
    return ST_OK;
}

/* ---- paths ---- */

struct sorted {
    int64_t parent;
    struct str cls;
    uint32_t index;
};

static int by_parent(const void *x, const void *y)
{
    const struct sorted *a = x, *b = y;
    if (a->parent != b->parent)
        return a->parent < b->parent ? -1 : 1;
    int c = str_cmp(a->cls, b->cls);
    return c ? c : (a->index > b->index) - (a->index < b->index);
}

struct keyed {
    struct str text;
    uint32_t index;
};

static int by_text(const void *x, const void *y)
{
    const struct keyed *a = x, *b = y;
    int c = str_cmp(a->text, b->text);
    return c ? c : (a->index > b->index) - (a->index < b->index);
}

enum { BY_CLASS, BY_NAME, BY_GROUP };
static struct str text_by(const struct keras_layer *l, int how)
{
    return how == BY_CLASS ? l->by_class : how == BY_NAME ? l->by_name : l->by_group;
}

static enum status sort(struct keras_names *x, int how, struct arena *a, uint32_t **out,
                        struct err *e)
{
    struct keyed *k = ARENA_ARRAY(a, struct keyed, x->n + 1);
    *out = ARENA_ARRAY(a, uint32_t, x->n + 1);
    if (!k || !*out)
        return err_nomem(e, x->n * sizeof *k);
    for (size_t i = 0; i < x->n; i++)
        k[i] = (struct keyed){text_by(&x->layer[i], how), (uint32_t)i};
    if (x->n)
        qsort(k, x->n, sizeof *k, by_text);
    for (size_t i = 0; i < x->n; i++)
        (*out)[i] = k[i].index;
    return ST_OK;
}

/* Parents stand before their layers. budget: bytes that all paths together may take. */
static enum status paths(struct keras_names *x, struct arena *a, uint64_t budget, bool *fits,
                         struct err *e)
{
    struct sorted *s = ARENA_ARRAY(a, struct sorted, x->n + 1);
    uint64_t *nth = ARENA_ARRAY(a, uint64_t, x->n + 1);
    if (!s || !nth)
        return err_nomem(e, x->n * sizeof *s);
    for (size_t i = 0; i < x->n; i++) {
        struct keras_layer *l = &x->layer[i];
        char *text = arena_alloc(a, 1, l->cls.n + 1);
        if (!text)
            return err_nomem(e, l->cls.n);
        l->cls = (struct str){text, squash(l->cls, text)};
        s[i] = (struct sorted){l->parent, l->cls, (uint32_t)i};
    }
    if (x->n)
        qsort(s, x->n, sizeof *s, by_parent);
    for (size_t i = 1; i < x->n; i++)
        if (s[i].parent == s[i - 1].parent && str_eq(s[i].cls, s[i - 1].cls))
            nth[s[i].index] = nth[s[i - 1].index] + 1;
    for (size_t i = 0; i < x->n; i++) {
        struct keras_layer *l = &x->layer[i];
        if (l->parent < 0) {
            l->by_class = l->by_name = l->by_group = STR("");
            continue;
        }
        const struct keras_layer *up = &x->layer[l->parent];
        const char *dot = up->by_class.n ? "." : "";
        char squashed[16];
        struct str kind = {squashed, squash(l->attr, squashed)}; /* as keras_class_path has it */
        l->by_class = kind.n ? arena_fmt(a, "%.*s%s%.*s", STR_ARG(up->by_class), dot, STR_ARG(kind))
                      : nth[i] ? arena_fmt(a, "%.*s%slayers.%.*s#%llu", STR_ARG(up->by_class), dot,
                                           STR_ARG(l->cls), (unsigned long long)nth[i])
                               : arena_fmt(a, "%.*s%slayers.%.*s", STR_ARG(up->by_class), dot,
                                           STR_ARG(l->cls));
        if (!l->by_class.p)
            return err_nomem(e, 64);
        TRY(path_join(up->by_name, l->name, a, &l->by_name, e));
        struct str rest = up->by_name, top = STR("");
        (void)name_head(&rest, &top);
        TRY(path_join(top, l->name, a, &l->by_group, e));
        if (up->parent < 0)
            l->by_group = l->by_name;
        uint64_t used = l->by_class.n + l->by_name.n + l->by_group.n;
        *fits = used <= budget;
        if (!*fits)
            return ST_OK;
        budget -= used;
    }
    return ST_OK;
}

static int by_sibling(const void *x, const void *y)
{
    const struct sorted *a = x, *b = y;
    if (a->parent != b->parent)
        return a->parent < b->parent ? -1 : 1;
    int c = str_cmp(a->cls, b->cls); /* names here */
    return c ? c : (a->index > b->index) - (a->index < b->index);
}

static enum status siblings(struct keras_names *x, struct arena *a, struct err *e)
{
    struct sorted *s = ARENA_ARRAY(a, struct sorted, x->n + 1);
    x->by_sibling = ARENA_ARRAY(a, uint32_t, x->n + 1);
    if (!s || !x->by_sibling)
        return err_nomem(e, x->n * sizeof *s);
    for (size_t i = 0; i < x->n; i++)
        s[i] = (struct sorted){x->layer[i].parent, x->layer[i].name, (uint32_t)i};
    if (x->n)
        qsort(s, x->n, sizeof *s, by_sibling);
    for (size_t i = 0; i < x->n; i++)
        x->by_sibling[i] = s[i].index;
    x->budget = 64 * x->n + 1024;
    return ST_OK;
}

int64_t keras_child(const struct keras_names *x, int64_t parent, struct str name)
{
    size_t lo = 0, hi = x->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct keras_layer *l = &x->layer[x->by_sibling[mid]];
        int c = l->parent != parent ? (l->parent > parent) - (l->parent < parent)
                                    : str_cmp(l->name, name);
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    size_t n = 0;
    for (size_t i = lo; i < x->n && i < lo + 2; i++) {
        const struct keras_layer *l = &x->layer[x->by_sibling[i]];
        n += l->parent == parent && str_eq(l->name, name);
    }
    return n == 1 ? (int64_t)x->by_sibling[lo] : -1;
}

static enum status text_of(const struct attachment *at, struct arena *a, struct str *out,
                           struct err *e)
{
    *out = (struct str){(const char *)at->mem, (size_t)at->n_bytes};
    if (at->mem)
        return ST_OK;
    char *p = arena_alloc(a, 1, (size_t)at->n_bytes + 1);
    if (!p)
        return err_nomem(e, at->n_bytes);
    if (at->n_bytes)
        TRY(file_pread(at->file, p, (size_t)at->n_bytes, at->offset, e));
    *out = (struct str){p, (size_t)at->n_bytes};
    return ST_OK;
}

static enum status config(const struct model *m, size_t index, struct arena *a,
                          struct keras_names *x, struct err *e)
{
    const struct attachment *at = &m->attachment[index];
    struct walk *w = ARENA_NEW(a, struct walk);
    struct str text;
    struct cursor c;
    struct err quiet;
    bool fits = true;
    if (!w)
        return err_nomem(e, sizeof *w);
    if (at->n_bytes > TEXT_MAX)
        return ST_OK;
    TRY(text_of(at, a, &text, e));
    w->a = a;
    w->x = x;
    w->attachment = (uint32_t)index;
    cur_mem(&c, text.p, text.n, "config", 0);
    json_init(&w->j, &c, (size_t)TEXT_MAX);
    enum status st = walk(w, &quiet);
    json_free(&w->j);
    cur_close(&c);
    if (st == ST_OK)
        lend(x);
    if (st == ST_OK)
        TRY(paths(x, a, 6 * text.n + 65536, &fits, e));
    if (st != ST_OK || !fits)
        x->n = 0; /* it says nothing */
    return ST_OK;
}

/* ---- functions without weights ---- */

static bool add_function(struct layers *out, struct str path, const char *of, const char *setting,
                         struct str means)
{
    out->function[out->n_functions++] = (struct function){path, of, setting, means};
    return means.p != NULL;
}

enum status keras_functions(const struct keras_names *x, struct arena *a, struct layers *out,
                            struct err *e)
{
    out->function = ARENA_ARRAY(a, struct function, 3 * x->n + 1);
    bool ok = out->function != NULL;
    for (size_t i = 0; ok && i < x->n; i++) {
        const struct keras_layer *l = &x->layer[i];
        struct str f = l->said.activation, path = l->by_name;
        bool avg = str_starts(l->cls, STR("averagepooling")),
             max = str_starts(l->cls, STR("maxpooling"));
        if (!path.n || l->attr.n) /* what a wrapper holds is the wrapper's */
            continue;
        if (str_is(l->cls, "leakyrelu") && l->slope > 0)
            ok = add_function(out, path, "leaky_relu", "slope", arena_fmt(a, "%g", l->slope));
        else if (str_is(l->cls, "leakyrelu") || str_is(f, "leaky_relu"))
            ok = add_function(out, path, "leaky_relu", "slope",
                              str_is(f, "leaky_relu") ? STR("0.2") : STR("0.3"));
        if (str_is(f, "gelu"))
            ok = ok && add_function(out, path, "gelu", "form", STR("exact"));
        if (x->version && (str_is(f, "hard_sigmoid") || str_is(l->said.gates, "hard_sigmoid")))
            ok = ok && add_function(out, path, "hard_sigmoid", "form",
                                    x->version == 2 ? STR("x/5+1/2") : STR("x/6+1/2"));
        if ((avg || max) && str_is(l->said.padding, "same")) {
            const char *pool = avg ? "avg_pool" : "max_pool";
            ok = ok && add_function(out, path, pool, "padding", STR("same"));
            if (avg)
                ok = ok && add_function(out, path, pool, "border", STR("left out"));
        }
    }
    return ok ? ST_OK : err_nomem(e, x->n * sizeof *out->function);
}

/* "keras_version", in the container's key-values or in metadata.json. */
static enum status version(const struct model *m, struct arena *a, struct keras_names *x,
                           struct err *e)
{
    struct str text = STR_NONE;
    for (size_t i = 0; i < m->n_meta; i++)
        if (str_is(m->meta[i].key, "keras_version"))
            text = m->meta[i].value;
    for (size_t i = 0; i < m->n_attachments && !text.n; i++) {
        const struct attachment *at = &m->attachment[i];
        struct str key = STR("\"keras_version\": \"");
        if (!str_is(at->name, "metadata.json") || at->n_bytes > NAME_BYTES)
            continue;
        TRY(text_of(at, a, &text, e));
        size_t lo = 0;
        while (lo < text.n && !str_starts(str_sub(text, lo, text.n), key))
            lo++;
        text = lo < text.n ? str_sub(text, lo + key.n, text.n) : STR_NONE;
    }
    x->version = str_starts(text, STR("2.")) ? 2 : str_starts(text, STR("3.")) ? 3 : 0;
    return ST_OK;
}

/* ---- groups ---- */

static int by_key(const void *x, const void *y)
{
    return str_cmp(((const struct keras_group *)x)->key, ((const struct keras_group *)y)->key);
}

#define VARS_NAME "/vars@name"

static enum status groups(const struct model *m, struct arena *a, struct keras_names *x,
                          struct err *e)
{
    x->group = ARENA_ARRAY(a, struct keras_group, m->n_meta + 1);
    if (!x->group)
        return err_nomem(e, m->n_meta * sizeof *x->group);
    for (size_t i = 0; i < m->n_meta; i++) {
        struct str key = m->meta[i].key, suffix = STR(VARS_NAME);
        if (str_ends(key, suffix) && m->meta[i].value.n && m->meta[i].value.n <= NAME_BYTES)
            x->group[x->n_groups++] =
                (struct keras_group){str_sub(key, 0, key.n - suffix.n), m->meta[i].value};
    }
    if (x->n_groups)
        qsort(x->group, x->n_groups, sizeof *x->group, by_key);
    return ST_OK;
}

struct str keras_group_name(const struct keras_names *x, struct str path, struct arena *a)
{
    if (x->n_groups == 0 || str_find(path, '\\', 0) < path.n)
        return STR_NONE;
    char *text = arena_alloc(a, 1, path.n + 1);
    for (size_t i = 0; text && i < path.n; i++)
        text[i] = path.p[i] == '.' ? '/' : path.p[i];
    struct keras_group want = {.key = {text, path.n}};
    const struct keras_group *g =
        text ? bsearch(&want, x->group, x->n_groups, sizeof want, by_key) : NULL;
    return g ? g->name : STR_NONE;
}

enum status keras_names_read(const struct model *m, struct arena *a, struct keras_names *out,
                             struct err *e)
{
    *out = (struct keras_names){0};
    TRY(groups(m, a, out, e));
    for (size_t i = 0; i < m->n_attachments && out->n == 0; i++)
        if (str_is(m->attachment[i].name, "model_config.json") ||
            str_is(m->attachment[i].name, "config.json"))
            TRY(config(m, i, a, out, e));
    TRY(siblings(out, a, e));
    TRY(version(m, a, out, e));
    TRY(sort(out, BY_CLASS, a, &out->by_class, e));
    TRY(sort(out, BY_GROUP, a, &out->by_group, e));
    return sort(out, BY_NAME, a, &out->by_name, e);
}

/* The only layer of that path; NULL when there is none, or several. */
static const struct keras_layer *find(const struct keras_names *x, const uint32_t *order, int how,
                                      struct str path)
{
    size_t lo = 0, hi = x->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct keras_layer *l = &x->layer[order[mid]];
        if (str_cmp(text_by(l, how), path) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (size_t i = lo; i < lo + 2 && i < x->n; i++) {
        const struct keras_layer *l = &x->layer[order[i]];
        bool same = str_eq(text_by(l, how), path);
        if (i == lo && !same)
            return NULL;
        if (i > lo && same)
            return NULL;
    }
    return lo < x->n && path.n ? &x->layer[order[lo]] : NULL;
}

const struct keras_layer *keras_by_class(const struct keras_names *x, struct str class_path)
{
    return find(x, x->by_class, BY_CLASS, class_path);
}

const struct keras_layer *keras_by_name(const struct keras_names *x, struct str path)
{
    return find(x, x->by_name, BY_NAME, path);
}

const struct keras_layer *keras_by_group(const struct keras_names *x, struct str path)
{
    return find(x, x->by_group, BY_GROUP, path);
}
