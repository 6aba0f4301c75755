/* nnferry id: the digest of a model, equal for equal tensors under equal names whatever the
 * container. Record and tree layout: nnferry-id(1).
 */
#include "base/mem.h"
#include "cli/command.h"
#include "codec/sha256.h"
#include "convert/map.h"
#include <stdlib.h>
#include <string.h>

static const struct model *sorting;

static int by_name(const void *a, const void *b)
{
    return str_cmp(sorting->tensor[*(const uint32_t *)a].name,
                   sorting->tensor[*(const uint32_t *)b].name);
}

static bool counts(const struct tensor *t)
{
    return t->role == ROLE_PARAMETER || t->role == ROLE_BUFFER || t->role == ROLE_STATISTIC;
}

static void put_text(struct buf *b, struct str s)
{
    buf_u32(b, (uint32_t)s.n);
    buf_str(b, s);
}

static void hex(const uint8_t *p, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 32; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[64] = 0;
}

static void record(struct buf *b, const struct model *m, const struct tensor *t,
                   const uint8_t *digest)
{
    put_text(b, t->name);
    put_text(b, str_from(dtype_info(t->dtype)->name));
    buf_u32(b, t->n_dims);
    for (size_t d = 0; d < t->n_dims; d++)
        buf_u64(b, t->dim[d]);
    buf_bytes(b, digest, 32);
    put_text(b, t->alias_of >= 0 ? m->tensor[t->alias_of].name : STR_NONE);
}

static void show_tensor(const struct args *a, const struct tensor *t, const uint8_t *digest)
{
    char text[65];
    hex(digest, text);
    if (a->set[OPT_JSON]) {
        struct json_w *w = print_json();
        json_w_object(w);
        json_w_key(w, STR("name"));
        json_w_str(w, t->name);
        json_w_key(w, STR("digest"));
        json_w_str(w, str_from(text));
        json_w_object_end(w);
    } else {
        print_fmt("%s  ", text);
        print_name(t->name);
        print_fmt("\n");
    }
}

static enum status digest_model(const struct args *a, struct plan *p, uint32_t rules_version,
                                struct err *e)
{
    struct model *m = &p->dst;
    struct run_opt ro;
    struct buf b = BUF_INIT;
    uint64_t n = 0;
    bool canonical = a->set[OPT_CANONICAL];
    size_t room = m->n_tensors ? m->n_tensors : 1;
    uint8_t(*digest)[32] = mem_zalloc(room, 32);
    uint32_t *order = mem_zalloc(room, sizeof *order);
    enum status st = digest && order ? ST_OK : err_nomem(e, room * 36);
    run_opt_fill(a, &ro);
    if (st == ST_OK)
        st = run_hash(p, &ro, digest, e);
    for (size_t i = 0; st == ST_OK && i < m->n_tensors; i++) {
        order[i] = (uint32_t)i;
        n += counts(&m->tensor[i]);
    }
    if (st == ST_OK) {
        sorting = m;
        qsort(order, m->n_tensors, sizeof *order, by_name);
        buf_z(&b, canonical ? "nnc1" : "nnf1");
        if (canonical)
            buf_u32(&b, rules_version);
        buf_u64(&b, n);
        for (size_t i = 0; i < m->n_tensors; i++)
            if (counts(&m->tensor[order[i]]))
                record(&b, m, &m->tensor[order[i]], digest[order[i]]);
        st = buf_ok(&b, e);
    }
    if (st == ST_OK) {
        uint8_t root[32];
        char text[65];
        sha256(b.p, b.n, root);
        hex(root, text);
        if (a->set[OPT_TENSORS]) {
            if (a->set[OPT_JSON]) {
                json_w_key(print_json(), STR("tensors"));
                json_w_array(print_json());
            }
            for (size_t i = 0; i < m->n_tensors; i++)
                show_tensor(a, &m->tensor[order[i]], digest[order[i]]);
            if (a->set[OPT_JSON])
                json_w_array_end(print_json());
        }
        if (a->set[OPT_JSON]) {
            struct buf id = BUF_INIT;
            buf_fmt(&id, "%s:%s", canonical ? "nnc1" : "nnf1", text);
            json_w_key(print_json(), STR("id"));
            json_w_str(print_json(), buf_as_str(&id));
            buf_free(&id);
        } else {
            print_fmt("%s:%s\n", canonical ? "nnc1" : "nnf1", text);
        }
    }
    buf_free(&b);
    mem_free(order);
    mem_free(digest);
    return st;
}

static enum status run(struct args *a, struct err *e)
{
    struct model m;
    struct plan p;
    const struct format *f;
    uint32_t rules_version = 0;
    struct buf rules = BUF_INIT;
    model_init(&m);
    plan_init(&p, &m);
    enum status st = open_source(a, a->arg[0], &m, &f, e);
    if (st == ST_OK)
        st = read_rules_file(a, &rules, e);
    if (st == ST_OK)
        st = a->set[OPT_CANONICAL] ? map_canonical_ruled(&p, a->text[OPT_FROM], buf_as_str(&rules),
                                                         a->text[OPT_MAP], &rules_version, e)
                                   : plan_identity(&p, e);
    buf_free(&rules);
    if (st == ST_OK)
        st = digest_model(a, &p, rules_version, e);
    for (size_t i = 0; i < m.n_files && st == ST_OK; i++)
        st = file_check(m.file[i], e);
    plan_free(&p);
    model_free(&m);
    return st;
}

static const enum opt opts[] = {OPT_CANONICAL, OPT_TENSORS,      OPT_FROM,
                                OPT_MAP,       OPT_INPUT_FORMAT, OPT_N};
const struct command id_command = {"id", "SRC", "Print the model's digest", opts, 1, 1, run, false};
