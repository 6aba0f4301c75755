/* nnferry inspect: format, framework, metadata and every tensor of a source. Reads no weight unless
 * --stats asks for it.
 */
#include "base/mem.h"
#include "cli/command.h"
#include "codec/sha256.h"
#include "model/id.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct stats {
    double least, most, mean;
    uint64_t n_nan, n_inf, n_zero, n;
};
#define STATS_STEP UINT64_C(65536)

static enum status stats_of(const struct plan *p, uint32_t t, double *v, struct stats *s,
                            struct err *e)
{
    uint64_t n = tensor_elems(&p->dst.tensor[t]);
    double sum = 0;
    *s = (struct stats){.least = DBL_MAX, .most = -DBL_MAX, .n = n};
    for (uint64_t lo = 0; lo < n; lo += STATS_STEP) {
        uint64_t hi = lo + STATS_STEP < n ? lo + STATS_STEP : n;
        TRY(run_read(p, t, lo, hi, DT_F64, v, e));
        for (uint64_t i = 0; i < hi - lo; i++) {
            double x = v[i];
            if (isnan(x)) {
                s->n_nan++;
            } else if (isinf(x)) {
                s->n_inf++;
            } else {
                s->n_zero += x == 0;
                s->least = x < s->least ? x : s->least;
                s->most = x > s->most ? x : s->most;
                sum += x;
            }
        }
    }
    uint64_t finite = n - s->n_nan - s->n_inf;
    s->mean = finite ? sum / (double)finite : NAN;
    if (!finite)
        s->least = s->most = NAN;
    return ST_OK;
}

static bool has_stats(const struct tensor *t)
{
    return dtype_info(t->dtype)->kind != DK_COMPLEX && tensor_elems(t) > 0;
}

static void json_stats(struct json_w *w, const struct stats *s)
{
    json_w_key(w, STR("stats"));
    json_w_object(w);
    json_w_key(w, STR("min"));
    json_w_double(w, s->least);
    json_w_key(w, STR("max"));
    json_w_double(w, s->most);
    json_w_key(w, STR("mean"));
    json_w_double(w, s->mean);
    json_w_key(w, STR("zeros"));
    json_w_u64(w, s->n_zero);
    json_w_key(w, STR("nan"));
    json_w_u64(w, s->n_nan);
    json_w_key(w, STR("inf"));
    json_w_u64(w, s->n_inf);
    json_w_object_end(w);
}

static void json_tensor(const struct model *m, const struct tensor *t, const struct stats *s)
{
    struct json_w *w = print_json();
    uint64_t bytes = 0;
    (void)tensor_bytes(t, &bytes);
    json_w_object(w);
    json_w_key(w, STR("name"));
    json_w_str(w, t->name);
    json_w_key(w, STR("dtype"));
    json_w_str(w, str_from(dtype_info(t->dtype)->name));
    json_w_key(w, STR("shape"));
    json_w_array(w);
    for (size_t d = 0; d < t->n_dims; d++)
        json_w_u64(w, t->dim[d]);
    json_w_array_end(w);
    json_w_key(w, STR("bytes"));
    json_w_u64(w, bytes);
    json_w_key(w, STR("role"));
    json_w_str(w, str_from(role_name(t->role)));
    if (t->of >= 0) {
        json_w_key(w, STR("of"));
        json_w_str(w, m->tensor[t->of].name);
    }
    if (t->alias_of >= 0) {
        json_w_key(w, STR("alias_of"));
        json_w_str(w, m->tensor[t->alias_of].name);
    }
    if (t->note.n) {
        json_w_key(w, STR("note"));
        json_w_str(w, t->note);
    }
    if (s)
        json_stats(w, s);
    json_w_object_end(w);
}

static void text_tensor(const struct model *m, const struct tensor *t, const struct stats *s)
{
    char shape[1400], size[32];
    uint64_t bytes = 0;
    (void)tensor_bytes(t, &bytes);
    shape_text(t, shape, sizeof shape);
    size_text(bytes, size, sizeof size);
    print_fmt("  %-14s %-20s %10s  %-9s  ", dtype_info(t->dtype)->name, shape, size,
              role_name(t->role));
    print_name(t->name);
    if (t->alias_of >= 0) {
        print_fmt("  = ");
        print_name(m->tensor[t->alias_of].name);
    }
    if (t->note.n) {
        print_fmt("  (");
        print_name(t->note);
        print_fmt(")");
    }
    if (s)
        print_fmt("  min %.6g max %.6g mean %.6g zeros %llu nan %llu inf %llu", s->least, s->most,
                  s->mean, (unsigned long long)s->n_zero, (unsigned long long)s->n_nan,
                  (unsigned long long)s->n_inf);
    print_fmt("\n");
}

static void text_tree(const struct model *m)
{
    static const char *const kinds[] = {"nil",     "bool",  "int",   "int",    "float",
                                        "complex", "str",   "bytes", "dtype",  "dict",
                                        "list",    "tuple", "set",   "tensor", "opaque"};
    print_fmt("structure:\n");
    if (!m->tree) {
        print_fmt("  flat\n");
        return;
    }
    size_t depth = 1;
    for (struct node *n = m->tree; n;) {
        print_fmt("%*s", (int)(depth > 40 ? 80 : depth * 2), "");
        if (n->key) {
            if (n->key->kind == NODE_INT)
                print_fmt("%lld", (long long)n->key->i);
            else
                print_name(n->key->text);
            print_fmt(": ");
        }
        print_fmt("%s", kinds[n->kind]);
        double d;
        switch (n->kind) {
        case NODE_BOOL:
        case NODE_INT:
            print_fmt(" %lld", (long long)n->i);
            break;
        case NODE_FLOAT:
            memcpy(&d, &n->bits[0], sizeof d);
            print_fmt(" %.17g", d);
            break;
        case NODE_TENSOR:
            print_fmt(" ");
            print_name(m->tensor[n->tensor].name);
            break;
        case NODE_BYTES:
            print_fmt(" of %zu", n->text.n);
            break;
        case NODE_NIL:
        case NODE_COMPLEX:
            break;
        case NODE_BIGINT:
        case NODE_STR:
        case NODE_DTYPE:
        case NODE_DICT:
        case NODE_LIST:
        case NODE_TUPLE:
        case NODE_SET:
        case NODE_OPAQUE:
            if (n->text.n)
                print_fmt(" ");
            print_name(str_sub(n->text, 0, 200));
            break;
        }
        print_fmt("\n");
        struct node *next = node_step(m->tree, n);
        /* depth follows the walk: one down into a child, up past finished parents */
        if (next && next->parent == n) {
            depth++;
        } else if (next) {
            for (struct node *up = n; up->parent != next->parent; up = up->parent)
                depth--;
        }
        n = next;
    }
}

static void id_text(const struct origin *o, char out[80])
{
    memcpy(out, ID_PREFIX_PLAIN ":", sizeof ID_PREFIX_PLAIN);
    sha256_hex(o->id, out + sizeof ID_PREFIX_PLAIN);
}

static void json_origin(const struct origin *o)
{
    struct json_w *w = print_json();
    char id[80];
    json_w_key(w, STR("provenance"));
    json_w_object(w);
    json_w_key(w, STR("files"));
    json_w_array(w);
    for (size_t i = 0; i < o->n_files; i++) {
        w = print_json();
        json_w_object(w);
        json_w_key(w, STR("bytes"));
        json_w_u64(w, o->file[i].n_bytes);
        json_w_key(w, STR("name"));
        json_w_str(w, o->file[i].name);
        json_w_object_end(w);
    }
    json_w_array_end(w);
    json_w_key(w, STR("format"));
    json_w_str(w, o->format);
    json_w_key(w, STR("framework"));
    json_w_str(w, o->framework);
    json_w_key(w, STR("source_id"));
    id_text(o, id);
    if (origin_has_id(o))
        json_w_str(w, str_from(id));
    else
        json_w_null(w);
    json_w_key(w, STR("tensors"));
    json_w_str(w, str_from(origin_word(o->tensors)));
    json_w_key(w, STR("writer"));
    json_w_str(w, o->writer);
    json_w_object_end(w);
}

static void text_origin(const struct origin *o)
{
    char id[80], size[32];
    for (size_t i = 0; i < o->n_files; i++) {
        size_text(o->file[i].n_bytes, size, sizeof size);
        print_fmt("from: ");
        print_name(o->file[i].name);
        print_fmt(" (%s)\n", size);
    }
    print_fmt("from: ");
    print_name(o->format);
    print_fmt(", written by ");
    print_name(o->writer);
    id_text(o, id);
    print_fmt("\nsource: %s, tensors %s\n", origin_has_id(o) ? id : "no digest",
              origin_word(o->tensors));
}

static void head(const struct model *m, const struct format *f, bool json)
{
    const char *framework = recognised_framework(m);
    if (!json) {
        print_fmt("format: %s (%s)\nframework: %s\ntensors: %zu\n", f->name, f->title,
                  framework[0] ? framework : "not recognised", m->n_tensors);
        return;
    }
    struct json_w *w = print_json();
    json_w_key(w, STR("format"));
    json_w_str(w, str_from(f->name));
    json_w_key(w, STR("framework"));
    json_w_str(w, str_from(framework));
    json_w_key(w, STR("tensors"));
    json_w_array(w);
}

static void json_rest(const struct model *m, uint64_t total)
{
    struct json_w *w = print_json();
    json_w_array_end(w);
    json_w_key(w, STR("metadata"));
    json_w_object(w);
    for (size_t i = 0; i < m->n_meta; i++) {
        json_w_key(w, m->meta[i].key);
        json_w_str(w, m->meta[i].value);
    }
    json_w_object_end(w);
    json_w_key(w, STR("attachments"));
    json_w_array(w);
    for (size_t i = 0; i < m->n_attachments; i++)
        json_w_str(w, m->attachment[i].name);
    json_w_array_end(w);
    json_w_key(w, STR("total_bytes"));
    json_w_u64(w, total);
    if (m->origin)
        json_origin(m->origin);
}

static void text_rest(const struct model *m, uint64_t total)
{
    char size[32];
    size_text(total, size, sizeof size);
    print_fmt("total: %s\n", size);
    if (m->origin)
        text_origin(m->origin);
    for (size_t i = 0; i < m->n_meta; i++) {
        print_fmt("metadata: ");
        print_name(m->meta[i].key);
        print_fmt(" = ");
        print_name(str_sub(m->meta[i].value, 0, 400));
        print_fmt("\n");
    }
    for (size_t i = 0; i < m->n_attachments; i++) {
        print_fmt("attachment: ");
        print_name(m->attachment[i].name);
        print_fmt("\n");
    }
}

static enum status show(const struct args *a, const struct model *m, const struct format *f,
                        struct err *e)
{
    struct plan p;
    double *v = NULL;
    enum status st = ST_OK;
    bool json = a->set[OPT_JSON];
    uint64_t total = 0;
    plan_init(&p, m);
    if (a->set[OPT_STATS]) {
        st = plan_identity(&p, e);
        if (st == ST_OK)
            st = plan_unpack(&p, e);
        v = mem_alloc(STATS_STEP * sizeof *v);
        if (st == ST_OK && !v)
            st = err_nomem(e, STATS_STEP * sizeof *v);
    }
    head(m, f, json);
    for (size_t i = 0; i < m->n_tensors && st == ST_OK; i++) {
        struct stats s;
        uint64_t bytes = 0;
        bool with = v && has_stats(&m->tensor[i]);
        if (with)
            st = stats_of(&p, (uint32_t)i, v, &s, e);
        if (tensor_bytes(&m->tensor[i], &bytes) && m->tensor[i].alias_of < 0)
            total += bytes;
        (json ? json_tensor : text_tensor)(m, &m->tensor[i], with ? &s : NULL);
    }
    (json ? json_rest : text_rest)(m, total);
    if (!json && a->set[OPT_TREE])
        text_tree(m);
    mem_free(v);
    plan_free(&p);
    return st;
}

static enum status run(struct args *a, struct err *e)
{
    struct model m;
    const struct format *f = NULL;
    model_init(&m);
    enum status st = open_source(a, a->arg[0], &m, &f, e);
    if (st == ST_OK)
        st = show(a, &m, f, e);
    for (size_t i = 0; i < m.n_files && st == ST_OK; i++)
        st = file_check(m.file[i], e);
    model_free(&m);
    return st;
}

static const enum opt opts[] = {OPT_STATS, OPT_TREE, OPT_INPUT_FORMAT, OPT_WEIGHTS_ONLY, OPT_N};
const struct command inspect_command = {
    "inspect", "SRC", "Show format, framework, metadata and every tensor", opts, 1, 1, run, false};
