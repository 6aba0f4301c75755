/* nnferry id: the digest of a model, equal for equal tensors under equal names whatever the
 * container. Record and tree layout: nnferry-id(1).
 */
#include "base/mem.h"
#include "cli/command.h"
#include "codec/sha256.h"
#include "convert/map.h"
#include "model/id.h"

static void show_tensor(const struct args *a, const struct tensor *t, const uint8_t *digest)
{
    char text[65];
    sha256_hex(digest, text);
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

static enum status show_id(const struct args *a, const struct model *m, uint32_t rules_version,
                           const uint8_t (*digest)[32], struct err *e)
{
    uint8_t id[32];
    char text[65];
    bool canonical = a->set[OPT_CANONICAL];
    const char *prefix = canonical ? ID_PREFIX_CANONICAL : ID_PREFIX_PLAIN;
    TRY(canonical ? id_canonical(m, rules_version, digest, id, e)
                  : id_plain(m, NULL, digest, id, e));
    sha256_hex(id, text);
    if (!a->set[OPT_JSON]) {
        print_fmt("%s:%s\n", prefix, text);
        return ST_OK;
    }
    struct buf b = BUF_INIT;
    buf_fmt(&b, "%s:%s", prefix, text);
    json_w_key(print_json(), STR("id"));
    json_w_str(print_json(), buf_as_str(&b));
    enum status st = buf_ok(&b, e);
    buf_free(&b);
    return st;
}

static enum status show_tensors(const struct args *a, const struct model *m,
                                const uint8_t (*digest)[32], struct err *e)
{
    uint32_t *order = mem_alloc((m->n_tensors + 1) * sizeof *order);
    if (!order)
        return err_nomem(e, m->n_tensors * sizeof *order);
    enum status st = id_order(m, NULL, order, e);
    if (st == ST_OK && a->set[OPT_JSON]) {
        json_w_key(print_json(), STR("tensors"));
        json_w_array(print_json());
    }
    for (size_t i = 0; i < m->n_tensors && st == ST_OK; i++)
        show_tensor(a, &m->tensor[order[i]], digest[order[i]]);
    if (st == ST_OK && a->set[OPT_JSON])
        json_w_array_end(print_json());
    mem_free(order);
    return st;
}

static enum status digest_model(const struct args *a, const struct plan *p, uint32_t rules_version,
                                struct err *e)
{
    const struct model *m = &p->dst;
    struct run_opt ro;
    uint8_t(*digest)[32] = mem_zalloc(m->n_tensors + 1, sizeof *digest);
    if (!digest)
        return err_nomem(e, m->n_tensors * sizeof *digest);
    run_opt_fill(a, &ro);
    enum status st = run_hash(p, &ro, digest, e);
    if (st == ST_OK && a->set[OPT_TENSORS])
        st = show_tensors(a, m, (const uint8_t(*)[32])digest, e);
    if (st == ST_OK)
        st = show_id(a, m, rules_version, (const uint8_t(*)[32])digest, e);
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
