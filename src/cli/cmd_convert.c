/* nnferry convert: open, map, plan, write, read back, publish. */
#include "base/log.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/convert_report.h"
#include "convert/fold.h"
#include "convert/map.h"
#include <stdio.h>
#include <string.h>

struct job {
    struct args *a;
    const char *src;
    const char *dst;
    const struct format *fmt; /* target */
    struct write_opt wo;
    struct map_opt mo;
    struct run_opt ro;
    struct model m, like, adapter;
    struct plan p;
    struct upgrade up;
    struct casts casts;
    struct fold *fold;
    struct origin origin;
    struct id_names own_names;
    struct buf rules_text, rules_out, config, config_path;
    const struct format *found;
};

static enum status choose_format(struct job *j, struct err *e)
{
    const char *name = j->a->text[OPT_FORMAT];
    if (name) {
        j->fmt = format_find(str_from(name));
        if (!j->fmt || !j->fmt->writes)
            return err_set(e, ST_USAGE, NULL, "no format '%s' can be written; see nnferry formats",
                           name);
        return ST_OK;
    }
    j->fmt = format_by_suffix(str_from(j->dst));
    if (!j->fmt && j->mo.to)
        for (size_t i = 0; i < n_formats; i++)
            if (formats[i]->framework && strcmp(formats[i]->framework, j->mo.to) == 0)
                j->fmt = formats[i];
    if (j->fmt && !j->fmt->writes)
        return err_set(e, ST_USAGE, NULL, "%s is read, and not written; see nnferry formats",
                       j->fmt->name);
    if (!j->fmt)
        return err_set(e, ST_USAGE, NULL,
                       "the name '%s' does not say which format to write; add --format (nnferry "
                       "formats lists them)",
                       j->dst);
    return ST_OK;
}

static void options(struct job *j)
{
    const struct args *a = j->a;
    const char *train = a->text[OPT_TRAIN_STATE], *layout = a->text[OPT_LAYOUT];
    const char *sums = a->text[OPT_SUMS];
    j->mo = (struct map_opt){.from = a->text[OPT_FROM],
                             .to = a->text[OPT_TO],
                             .dtype = a->many[OPT_DTYPE],
                             .select = a->set[OPT_SELECT] ? a->many[OPT_SELECT] : NULL,
                             .allow_drop = a->many[OPT_ALLOW_DROP],
                             .allow_synth = a->many[OPT_ALLOW_SYNTH],
                             .allow_overflow = a->set[OPT_ALLOW_OVERFLOW],
                             .drop_train_state = train && strcmp(train, "drop") == 0,
                             .weights_only = a->set[OPT_WEIGHTS_ONLY],
                             .as_is = a->set[OPT_AS_IS],
                             .unexplained = !a->set[OPT_DRY_RUN]};
    j->wo = (struct write_opt){.max_shard_size = a->number[OPT_MAX_SHARD_SIZE],
                               .plain = layout && strcmp(layout, "plain") == 0,
                               .sums_full = sums && strcmp(sums, "full") == 0,
                               .compress = a->set[OPT_COMPRESS]};
}

static struct str base_name(const char *path)
{
    struct str s = str_from(path);
    size_t lo = s.n;
    while (lo > 0 && s.p[lo - 1] != '/')
        lo--;
    return str_sub(s, lo, s.n);
}

/* Before anything is done to the model: what it holds. Names that --upgrade will change are kept.
 */
static enum status origin(struct job *j, struct err *e)
{
    struct model *m = &j->m;
    if (!j->fmt->origin || j->a->set[OPT_NO_PROVENANCE])
        return ST_OK;
    struct origin_file *f = ARENA_ARRAY(&m->arena, struct origin_file, m->n_files + 1);
    if (!f)
        return err_nomem(e, m->n_files * sizeof *f);
    j->origin =
        (struct origin){.file = f,
                        .format = str_from(j->found->name),
                        .writer = STR("nnferry " NNFERRY_VERSION),
                        .tensors = j->a->set[OPT_SELECT] ? ORIGIN_SELECTED : ORIGIN_CHANGED};
    for (size_t i = 0; i < m->n_files; i++) {
        bool told = false; /* what was decoded to be read goes by the path it came from */
        for (size_t k = 0; k < i; k++)
            told = told || strcmp(file_path(m->file[k]), file_path(m->file[i])) == 0;
        if (!told)
            f[j->origin.n_files++] =
                (struct origin_file){base_name(file_path(m->file[i])), file_size(m->file[i])};
    }
    j->wo.origin = &j->origin;
    if (!j->a->set[OPT_UPGRADE])
        return ST_OK;
    struct str *name = ARENA_ARRAY(&m->arena, struct str, m->n_tensors + 1);
    int64_t *alias_of = ARENA_ARRAY(&m->arena, int64_t, m->n_tensors + 1);
    if (!name || !alias_of)
        return err_nomem(e, m->n_tensors * sizeof *name);
    for (size_t i = 0; i < m->n_tensors; i++) {
        name[i] = m->tensor[i].name;
        alias_of[i] = m->tensor[i].alias_of;
    }
    j->own_names = (struct id_names){name, alias_of};
    j->wo.own_names = &j->own_names;
    return ST_OK;
}

static const char *ledger_word(const struct ledger_line *l)
{
    return l->kind == LEDGER_DROP    ? "left behind"
           : l->kind == LEDGER_SYNTH ? "filled in"
           : l->kind == LEDGER_VALUE ? "computed"
                                     : "renamed";
}

/* "left behind attachment config.json (694 bytes)" */
static struct str ledger_head(const struct ledger_line *l, struct buf *b)
{
    static const char *const what[] = {
        [LEDGER_TENSOR] = "",
        [LEDGER_STRUCTURE] = "",
        [LEDGER_VERSION] = "",
        [LEDGER_TIE] = "the tie of ",
        [LEDGER_ATTACHMENT] = "attachment ",
        [LEDGER_METADATA] = "metadata ",
    };
    buf_clear(b);
    buf_fmt(b, "%s %s%.*s", ledger_word(l), what[l->what], STR_ARG(l->name));
    if (l->what == LEDGER_ATTACHMENT || l->what == LEDGER_METADATA)
        buf_fmt(b, " (%llu bytes)", (unsigned long long)l->n_bytes);
    return buf_as_str(b);
}

/* What is lost or made up, in as many lines as a reader takes; --dry-run has all. Key-values are
 * many and small: one line for all of them. */
#define SAY_LINES 24
/* The version numbers of a state_dict's modules: one line for all, --json has each. */
static size_t n_versions(const struct plan *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_lines; i++)
        n += p->line[i].what == LEDGER_VERSION;
    return n;
}
#define VERSIONS                                                                                   \
    "left behind _metadata: %zu version number%s of modules, which say how to read old files"

/* Another container alone is no other framework's checkpoint, whatever that framework's files are
 * called. */
static void say_kept(const struct job *j)
{
    const char *have = recognised_framework(&j->m), *usual = j->fmt->framework;
    bool hub = usual && strcmp(usual, "hf") == 0; /* safetensors: as any framework has them */
    if (j->mo.to || j->mo.like || !usual || hub || !have[0] || strcmp(have, usual) == 0 ||
        strcmp(have, "canonical") == 0 || (strncmp(have, "hf", 2) == 0))
        return;
    log_note("names and axes are %s's, as they were: --to %s writes those of %s", have, usual,
             usual);
}

static void say_ledger(const struct job *j)
{
    struct buf head = BUF_INIT;
    size_t n_said = 0, n_left = 0, n_keys = 0, n_old = n_versions(&j->p);
    uint64_t key_bytes = 0;
    for (size_t i = 0; i < j->p.n_lines; i++) {
        const struct ledger_line *l = &j->p.line[i];
        if (l->what == LEDGER_VERSION)
            continue;
        if (l->what == LEDGER_METADATA) {
            n_keys++;
            key_bytes += l->n_bytes;
        } else if (n_said++ < SAY_LINES) {
            log_note("%.*s: %.*s", STR_ARG(ledger_head(l, &head)), STR_ARG(l->why));
        } else {
            n_left++;
        }
    }
    if (n_old)
        log_note(VERSIONS, n_old, n_old == 1 ? "" : "s");
    if (n_left)
        log_note("and %zu more such lines; --dry-run lists them", n_left);
    if (n_keys)
        log_note("left behind metadata, %zu key%s (%llu bytes): %s does not keep %s; --dry-run "
                 "lists %s",
                 n_keys, n_keys == 1 ? "" : "s", (unsigned long long)key_bytes, j->fmt->name,
                 n_keys == 1 ? "it" : "them", n_keys == 1 ? "it" : "them");
    buf_free(&head);
    notes_say(&j->p, SAY_LINES);
}

static void json_ledger(const struct job *j)
{
    static const char *const what[] = {
        [LEDGER_TENSOR] = "tensor",         [LEDGER_STRUCTURE] = "structure",
        [LEDGER_VERSION] = "structure",     [LEDGER_TIE] = "tie",
        [LEDGER_ATTACHMENT] = "attachment", [LEDGER_METADATA] = "metadata",
    };
    struct json_w *w = print_json();
    json_w_key(w, STR("ledger"));
    json_w_array(w);
    for (size_t i = 0; i < j->p.n_lines; i++) {
        const struct ledger_line *l = &j->p.line[i];
        w = print_json();
        json_w_object(w);
        json_w_key(w, STR("kind"));
        json_w_str(w, l->kind == LEDGER_DROP    ? STR("drop")
                      : l->kind == LEDGER_SYNTH ? STR("synthesis")
                      : l->kind == LEDGER_VALUE ? STR("value")
                                                : STR("rename"));
        json_w_key(w, STR("what"));
        json_w_str(w, str_from(what[l->what]));
        json_w_key(w, STR("name"));
        json_w_str(w, l->name);
        json_w_key(w, STR("elements"));
        json_w_u64(w, l->n_elems);
        if (l->what == LEDGER_ATTACHMENT || l->what == LEDGER_METADATA) {
            json_w_key(w, STR("bytes"));
            json_w_u64(w, l->n_bytes);
        }
        json_w_key(w, STR("harmless"));
        json_w_bool(w, l->harmless);
        json_w_key(w, STR("why"));
        json_w_str(w, l->why);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

static void json_plan(const struct job *j, const struct run_cost *c, uint64_t beside)
{
    struct json_w *w = print_json();
    json_w_key(w, STR("plan"));
    json_w_array(w);
    for (size_t i = 0; i < j->p.n_reasons; i++) {
        w = print_json();
        json_w_object(w);
        json_w_key(w, STR("tensor"));
        json_w_str(w, j->p.dst.tensor[j->p.reason[i].dst].name);
        json_w_key(w, STR("reason"));
        json_w_str(w, j->p.reason[i].text);
        json_w_object_end(w);
    }
    json_w_array_end(w);
    json_ledger(j);
    notes_json(&j->p);
    casts_json(&j->casts, &j->p);
    w = print_json();
    json_w_key(w, STR("cost"));
    json_w_object(w);
    json_w_key(w, STR("read_bytes"));
    json_w_u64(w, c->read_bytes);
    json_w_key(w, STR("write_bytes"));
    json_w_u64(w, c->write_bytes);
    json_w_key(w, STR("memory_bytes"));
    json_w_u64(w, c->memory_bytes);
    json_w_key(w, STR("spool_bytes"));
    json_w_u64(w, c->spool_bytes);
    json_w_key(w, STR("read_amplification"));
    json_w_double(w, c->read_amplification);
    json_w_key(w, STR("decodes"));
    json_w_u64(w, c->n_decodes);
    json_w_key(w, STR("hashed_bytes"));
    json_w_u64(w, beside);
    json_w_key(w, STR("threads"));
    json_w_i64(w, c->threads);
    json_w_object_end(w);
}

static enum status text_plan(const struct job *j, const struct run_cost *c, uint64_t beside,
                             struct err *e)
{
    for (size_t i = 0; i < j->p.n_reasons; i++) {
        print_name(j->p.reason[i].text);
        print_fmt("\n");
    }
    struct buf head = BUF_INIT;
    size_t n_old = n_versions(&j->p);
    if (n_old)
        print_fmt(VERSIONS "\n", n_old, n_old == 1 ? "" : "s");
    for (size_t i = 0; i < j->p.n_lines; i++) {
        const struct ledger_line *l = &j->p.line[i];
        if (l->what == LEDGER_VERSION)
            continue;
        print_name(ledger_head(l, &head));
        print_fmt(": ");
        print_name(l->why);
        print_fmt("\n");
    }
    enum status kept = buf_ok(&head, e);
    buf_free(&head);
    TRY(kept);
    notes_print(&j->p);
    casts_print(&j->casts, &j->p);
    char r[32], w[32], mem[32], spool[32], hashed[32];
    size_text(c->read_bytes, r, sizeof r);
    size_text(c->write_bytes, w, sizeof w);
    size_text(c->memory_bytes, mem, sizeof mem);
    size_text(c->spool_bytes, spool, sizeof spool);
    print_fmt("elements: %llu read, %llu left behind, %llu written, %llu filled in\n",
              (unsigned long long)j->p.elems_read, (unsigned long long)j->p.elems_dropped,
              (unsigned long long)j->p.elems_written, (unsigned long long)j->p.elems_synth);
    print_fmt(
        "cost: read %s (x%.2f), write %s, memory %s, spool %s, %llu tiles or streams decoded, "
        "%d threads\n",
        r, c->read_amplification, w, mem, spool, (unsigned long long)c->n_decodes, c->threads);
    size_text(beside, hashed, sizeof hashed);
    if (beside)
        print_fmt("provenance: %s of the source are hashed that are not stored as they are; "
                  "--no-provenance does without\n",
                  hashed);
    return ST_OK;
}

static enum status show_plan(const struct job *j, struct err *e)
{
    struct run_cost c;
    uint64_t beside;
    TRY(run_write_cost(&j->p, &j->wo, &j->ro, &c, &beside, e));
    TRY(fold_cost(j->fold, &j->ro, &c, e));
    if (!j->a->set[OPT_JSON])
        return text_plan(j, &c, beside, e);
    json_plan(j, &c, beside);
    return ST_OK;
}

static enum status not_rules(const struct job *j, const struct out *out, struct err *e)
{
    struct file *f;
    if (!j->mo.rules_path)
        return ST_OK;
    TRY(file_open(j->mo.rules_path, &f, e));
    enum status st = out_not_input(out, f, e);
    file_close(f);
    return st;
}

static enum status write_it(struct job *j, struct out *out, struct err *e)
{
    struct slab_digests *kept = NULL;
    enum status st = ST_OK;
    for (size_t i = 0; i < j->m.n_files && st == ST_OK; i++)
        st = out_not_input(out, j->m.file[i], e);
    for (size_t i = 0; i < j->like.n_files && st == ST_OK; i++)
        st = out_not_input(out, j->like.file[i], e);
    for (size_t i = 0; i < j->adapter.n_files && st == ST_OK; i++)
        st = out_not_input(out, j->adapter.file[i], e);
    if (st == ST_OK)
        st = not_rules(j, out, e);
    if (st == ST_OK)
        st = run_write(&j->p, j->fmt, &j->wo, &j->ro, out, &kept, e);
    if (st == ST_OK)
        plan_written(&j->p);
    if (st == ST_OK)
        st = run_readback(&j->p, j->fmt, out_temp_path(out), kept, &j->ro, e);
    slab_digests_free(kept);
    for (size_t i = 0; i < j->m.n_files && st == ST_OK; i++)
        st = file_check(j->m.file[i], e);
    for (size_t i = 0; i < j->adapter.n_files && st == ST_OK; i++)
        st = file_check(j->adapter.file[i], e);
    if (st == ST_OK)
        st = out_publish(out, e);
    return st;
}

/* What adapter_config.json holds, a file or a part of the adapter's folder. */
static enum status read_config(struct job *j, struct file *f, uint64_t at, uint64_t n,
                               struct err *e)
{
    if (n > (UINT64_C(16) << 20))
        return err_set(e, ST_INPUT, "config-too-long", "a config of %llu bytes is too long",
                       (unsigned long long)n);
    if (!buf_reserve(&j->config, (size_t)n + 1))
        return err_nomem(e, n);
    TRY(file_pread(f, j->config.p, (size_t)n, at, e));
    j->config.n = (size_t)n;
    return ST_OK;
}

/* --merge-lora: an adapter's folder; or its adapter_config.json alone, where SRC has its tensors.
 */
static enum status open_adapter(struct job *j, struct err *e)
{
    const char *path = j->a->text[OPT_MERGE_LORA];
    const struct format *found;
    struct read_opt o = {.weights_only = false};
    if (path_kind(path) == PATH_FILE && str_ends(str_from(path), STR(".json"))) {
        struct file *f;
        TRY(file_open(path, &f, e));
        enum status st = read_config(j, f, 0, file_size(f), e);
        file_close(f);
        return st;
    }
    TRY(format_open(path, NULL, &o, &j->adapter, &found, e));
    for (size_t i = 0; i < j->adapter.n_attachments; i++) {
        const struct attachment *t = &j->adapter.attachment[i];
        if (!str_is(t->name, "adapter_config.json"))
            continue;
        if (t->file)
            return read_config(j, t->file, t->offset, t->n_bytes, e);
        buf_bytes(&j->config, t->mem, (size_t)t->n_bytes);
        return buf_ok(&j->config, e);
    }
    return ST_OK;
}

static enum status fold(struct job *j, struct err *e)
{
    const struct args *a = j->a;
    struct fold_opt o = {.norms = a->set[OPT_FOLD_NORMS],
                         .cudnn = a->set[OPT_UPGRADE] && fold_cudnn_found(&j->m) >= 0,
                         .state_goes = j->mo.drop_train_state || j->mo.weights_only,
                         .beside = j->dst};
    if (!o.norms && !o.cudnn && !a->set[OPT_MERGE_LORA])
        return ST_OK;
    if (a->set[OPT_MERGE_LORA]) {
        enum status st = open_adapter(j, e);
        if (st != ST_OK) {
            err_file(e, a->text[OPT_MERGE_LORA]);
            return st;
        }
        buf_fmt(&j->config_path, "%s%s", a->text[OPT_MERGE_LORA],
                path_kind(a->text[OPT_MERGE_LORA]) == PATH_DIR ? "/adapter_config.json" : "");
        buf_u8(&j->config_path, 0);
        TRY(buf_ok(&j->config_path, e));
        o.config_path = (const char *)j->config_path.p;
        o.adapter = &j->adapter;
        o.config = buf_as_str(&j->config);
    }
    TRY(fold_plan(&j->m, &o, &j->up, &j->fold, e));
    if (fold_computes(j->fold))
        j->origin.tensors = ORIGIN_COMPUTED;
    j->mo.upgrade = &j->up;
    return ST_OK;
}

static bool is_folder(const struct job *j)
{
    return j->fmt->dir_target && (j->fmt->dir_only || j->wo.max_shard_size > 0);
}

static enum status work(struct job *j, struct err *e)
{
    const struct args *a = j->a;
    const struct format *like_found;
    struct out *out = NULL;
    TRY(choose_format(j, e));
    if (!a->set[OPT_FORCE] && !a->set[OPT_DRY_RUN] && path_kind(j->dst) != PATH_NONE) {
        enum status st = err_set(e, ST_OUTPUT, "exists", "the target exists; -f replaces it");
        err_file(e, j->dst);
        return st;
    }
    TRY(read_rules_file(a, &j->rules_text, e));
    j->mo.rules = buf_as_str(&j->rules_text);
    j->mo.rules_path = a->text[OPT_MAP];
    TRY(open_source(a, j->src, &j->m, &j->found, e));
    TRY(origin(j, e));
    if (a->set[OPT_LIKE]) {
        struct read_opt o = {.weights_only = false}; /* its config tells what its layers are */
        TRY(format_open(a->text[OPT_LIKE], NULL, &o, &j->like, &like_found, e));
        j->mo.like = &j->like;
    }
    if (a->set[OPT_UPGRADE]) {
        TRY(upgrade_names(&j->m, j->mo.like, j->mo.select, &j->up, e));
        j->mo.upgrade = &j->up;
    }
    TRY(fold(j, e));
    if (j->wo.origin)
        j->origin.framework = str_from(recognised_framework(&j->m));
    j->mo.folder = is_folder(j);
    enum status st = map_plan(&j->p, &j->mo, j->fmt, a->number[OPT_MAX_OUTPUT], &j->rules_out, e);
    run_opt_fill(a, &j->ro);
    if (st == ST_OK)
        st = j->fmt->check(&j->p.dst, &j->wo, e);
    if (st != ST_OK) {
        err_file(e, a->arg[0]);
        return st;
    }
    struct run_cost folding = {0};
    TRY(fold_cost(j->fold, &j->ro, &folding, e));
    if (a->set[OPT_CAST_REPORT]) {
        if (j->fold) /* what is cast must be there */
            TRY(fold_run(j->fold, e));
        TRY(casts_measure(&j->casts, &j->p, &j->ro, e));
    }
    if (a->set[OPT_DRY_RUN]) {
        say_kept(j);
        return show_plan(j, e);
    }
    struct out_opt oo = {.force = a->set[OPT_FORCE], .is_dir = is_folder(j)};
    TRY(out_begin(j->dst, &oo, &out, e));
    if (j->fold && !a->set[OPT_CAST_REPORT])
        st = fold_run(j->fold, e);
    if (st == ST_OK)
        st = write_it(j, out, e);
    out_end(out);
    if (st == ST_OK) { /* a failure is one line */
        say_kept(j);
        say_ledger(j);
    }
    if (st == ST_OK && !a->set[OPT_JSON])
        casts_print(&j->casts, &j->p);
    if (st == ST_OK && a->set[OPT_JSON]) {
        struct json_w *w = print_json();
        json_w_key(w, STR("written"));
        json_w_str(w, str_from(j->dst));
        json_w_key(w, STR("format"));
        json_w_str(w, str_from(j->fmt->name));
        json_w_key(w, STR("tensors"));
        json_w_u64(w, j->p.dst.n_tensors);
        json_w_key(w, STR("elements_written"));
        json_w_u64(w, j->p.elems_written);
        json_ledger(j);
        notes_json(&j->p);
        casts_json(&j->casts, &j->p);
    } else if (st == ST_OK) {
        log_detail("%s: %zu tensors written as %s", j->dst, j->p.dst.n_tensors, j->fmt->name);
    }
    return st;
}

static enum status one(struct args *a, const char *src, const char *dst, struct err *e)
{
    struct job *j = mem_zalloc(1, sizeof *j);
    if (!j)
        return err_nomem(e, sizeof *j);
    j->a = a;
    j->src = src;
    j->dst = dst;
    model_init(&j->m);
    model_init(&j->like);
    model_init(&j->adapter);
    plan_init(&j->p, &j->m);
    options(j);
    enum status st = work(j, e);
    if (st == ST_CANNOT || st == ST_INPUT)
        err_file(e, src);
    if (st == ST_CANNOT && j->rules_out.n && !a->set[OPT_JSON])
        print_str(buf_as_str(&j->rules_out));
    if (st == ST_CANNOT && j->rules_out.n && a->set[OPT_JSON]) {
        json_w_key(print_json(), STR("rules"));
        json_w_str(print_json(), buf_as_str(&j->rules_out));
    }
    casts_free(&j->casts);
    plan_free(&j->p);
    fold_free(j->fold);
    model_free(&j->adapter);
    model_free(&j->like);
    model_free(&j->m);
    buf_free(&j->rules_text);
    buf_free(&j->rules_out);
    buf_free(&j->config);
    buf_free(&j->config_path);
    mem_free(j);
    return st;
}

/* Several sources go into a folder that exists, each under its own name with the format's suffix.
 * The first failure stops, unless --keep-going. */
static enum status several(struct args *a, const char *folder, struct err *e)
{
    enum status worst = ST_OK;
    struct err first = {0};
    const struct format *fmt =
        a->set[OPT_FORMAT] ? format_find(str_from(a->text[OPT_FORMAT])) : NULL;
    for (size_t i = 0; !fmt && a->set[OPT_TO] && i < n_formats; i++)
        if (formats[i]->framework && strcmp(formats[i]->framework, a->text[OPT_TO]) == 0)
            fmt = formats[i];
    if (path_kind(folder) != PATH_DIR)
        return err_set(e, ST_USAGE, NULL, "with several sources -o names a folder that exists");
    if (!fmt || !fmt->writes)
        return err_set(e, ST_USAGE, NULL, "with several sources --format says what to write");
    for (size_t i = 0; i < a->n_args; i++) {
        struct buf dst = BUF_INIT;
        struct str base = str_from(a->arg[i]);
        while (base.n > 1 && base.p[base.n - 1] == '/')
            base.n--;
        size_t lo = base.n;
        while (lo > 0 && base.p[lo - 1] != '/')
            lo--;
        base = str_sub(base, lo, base.n);
        const struct format *own = format_by_suffix(base);
        for (size_t k = 0; own && k < sizeof own->suffix / sizeof *own->suffix; k++) {
            struct str suffix = str_from(own->suffix[k]);
            if (suffix.n && suffix.n < base.n && str_ends(base, suffix)) {
                base.n -= suffix.n;
                break;
            }
        }
        buf_fmt(&dst, "%s/%.*s%s", folder, STR_ARG(base), fmt->suffix[0] ? fmt->suffix[0] : "");
        buf_u8(&dst, 0);
        enum status st = buf_ok(&dst, e);
        if (st == ST_OK)
            st = one(a, a->arg[i], (const char *)dst.p, e);
        buf_free(&dst);
        if (st != ST_OK && (!a->set[OPT_KEEP_GOING] || st == ST_SIGNAL))
            return st;
        if (st != ST_OK) {
            char line[2048];
            err_line(e, line, sizeof line);
            log_warn("skipped: %s", line);
            if (worst == ST_OK) {
                worst = ST_CANNOT;
                first = *e;
            }
        }
    }
    if (worst != ST_OK) {
        *e = first;
        e->status = worst;
    }
    return worst;
}

static enum status run(struct args *a, struct err *e)
{
    if (!a->set[OPT_OUTPUT] && !a->set[OPT_DRY_RUN])
        return err_set(e, ST_USAGE, NULL, "convert needs -o DST");
    const char *dst = a->set[OPT_OUTPUT] ? a->text[OPT_OUTPUT] : "";
    if (a->n_args == 1)
        return one(a, a->arg[0], dst, e);
    return several(a, dst, e);
}

static const enum opt opts[] = {OPT_OUTPUT,
                                OPT_FORCE,
                                OPT_FROM,
                                OPT_TO,
                                OPT_FORMAT,
                                OPT_INPUT_FORMAT,
                                OPT_LIKE,
                                OPT_MAP,
                                OPT_DTYPE,
                                OPT_ALLOW_OVERFLOW,
                                OPT_CAST_REPORT,
                                OPT_SELECT,
                                OPT_TRAIN_STATE,
                                OPT_WEIGHTS_ONLY,
                                OPT_UPGRADE,
                                OPT_FOLD_NORMS,
                                OPT_MERGE_LORA,
                                OPT_AS_IS,
                                OPT_LAYOUT,
                                OPT_SUMS,
                                OPT_NO_PROVENANCE,
                                OPT_COMPRESS,
                                OPT_MAX_SHARD_SIZE,
                                OPT_ALLOW_DROP,
                                OPT_ALLOW_SYNTH,
                                OPT_MAX_OUTPUT,
                                OPT_DRY_RUN,
                                OPT_KEEP_GOING,
                                OPT_N};
const struct command convert_command = {"convert",
                                        "SRC... -o DST",
                                        "Convert a checkpoint to another format or framework",
                                        opts,
                                        1,
                                        SIZE_MAX,
                                        run,
                                        false};
