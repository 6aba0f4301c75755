/* Keras 3 and tf-keras models, `.keras`: a zip (codec/zip.h) of
 *
 *   metadata.json      {"keras_version", "date_saved"}
 *   config.json        the architecture; text to us, never interpreted
 *   model.weights.h5   see keras_weights.c
 *   assets/...         files of layers that have some
 *
 * All stored; a deflated model.weights.h5 (an archive packed again) is unpacked once into a
 * temporary. config.json, metadata.json and assets are attachments, and written back as they were:
 * a `.keras` can be written where the source carried a config.json.
 * Source: keras/src/saving/saving_lib.py.
 *
 * Refused beside what the strict zip reader and format/hdf5_model.h refuse: keras-member (no
 * model.weights.h5; a text of more than 64 MiB, or one that unpacks to more than a hundred times
 * its size); in writing keras-config.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/deflate.h"
#include "codec/zip.h"
#include "format/hdf5_model.h"
#include "format/keras_config.h"
#include "format/keras_write.h"
#include <string.h>

#define WEIGHTS "model.weights.h5"
#define TEXT_MAX ((uint64_t)64 << 20)
#define RATIO_MAX 100u

static int bid(const struct source *s)
{
    if (s->dir)
        return 0;
    bool named = str_ends(str_from(s->path), STR(".keras"));
    struct str first = zip_first_name(s->head, s->head_n);
    if (str_is(first, KERAS_METADATA) || str_is(first, KERAS_CONFIG) || str_is(first, WEIGHTS) ||
        (named && str_starts(first, STR("assets/"))))
        return 85;
    return named ? (first.n ? 40 : 1) : 0;
}

/* ---- reading ---- */

static enum status bad(const struct zip *z, const struct zip_entry *m, const char *why,
                       struct err *e)
{
    (void)err_set(e, ST_INPUT, "keras-member", "%s", why);
    err_at(e, file_path(z->file), m ? m->header : 0);
    if (m)
        err_in(e, m->name.p, m->name.n);
    return ST_INPUT;
}

static struct str media_type(struct str name)
{
    return str_ends(name, STR(".json"))  ? STR("application/json")
           : str_ends(name, STR(".txt")) ? STR("text/plain")
                                         : STR("application/octet-stream");
}

static enum status attach(struct model *m, const struct zip *z, const struct zip_entry *x,
                          const struct read_opt *opt, struct err *e)
{
    struct attachment *a;
    struct buf b = BUF_INIT;
    if (x->raw > TEXT_MAX || x->raw / RATIO_MAX > x->stored)
        return bad(z, x, "a text that is too long, or unpacks to too much", e);
    enum status st = zip_load(z, x, TEXT_MAX, &b, e);
    struct str text = st == ST_OK ? arena_str(&m->arena, b.p, b.n) : STR_NONE;
    buf_free(&b);
    TRY(st);
    if (!text.p)
        return err_nomem(e, x->raw);
    if (str_is(x->name, KERAS_CONFIG))
        keras_config_scan(opt, text, x->data);
    if (opt->weights_only)
        return ST_OK;
    TRY(model_attach(m, &a, e));
    *a = (struct attachment){.name = x->name,
                             .media_type = media_type(x->name),
                             .mem = (const uint8_t *)text.p,
                             .n_bytes = text.n};
    return ST_OK;
}

static enum status copy(struct inflater *in, uint64_t raw, struct spool *s, struct err *e)
{
    enum { STEP = 1 << 18 };
    uint8_t *p = mem_alloc(STEP);
    enum status st = p ? ST_OK : err_nomem(e, STEP);
    for (uint64_t at = 0; st == ST_OK && at < raw;) {
        size_t n = STEP;
        st = inflate_read(in, p, &n, e);
        if (st == ST_OK && n == 0)
            st = err_set(e, ST_INPUT, "deflate-short", "the member ends early");
        if (st == ST_OK)
            st = spool_pwrite(s, p, n, at, e);
        at += n;
    }
    mem_free(p);
    return st;
}

static enum status unpack(struct model *m, const struct zip *z, const struct zip_entry *x,
                          struct file **out, struct err *e)
{
    struct inflater *in = NULL;
    struct spool *s = NULL;
    if (x->raw / RATIO_MAX > x->stored)
        return bad(z, x, "a member that unpacks to more than a hundred times its size", e);
    TRY(spool_open(NULL, &s, e));
    enum status st =
        inflate_open(z->file, x->data, x->stored, x->raw, z->no_crc ? NULL : &x->crc, &in, e);
    if (st == ST_OK)
        st = copy(in, x->raw, s, e);
    if (st == ST_OK) { /* the end: sizes and the sum are proven */
        uint8_t none;
        size_t n = 1;
        st = inflate_read(in, &none, &n, e);
    }
    inflate_close(in);
    if (st == ST_OK)
        st = spool_file(s, file_path(z->file), out, e);
    spool_close(s);
    TRY(st);
    return model_own_file(m, *out, e);
}

static enum status weights(struct model *m, const struct zip *z, const struct zip_entry *x,
                           const struct read_opt *opt, struct err *e)
{
    struct hdf5_model h = {.m = m, .opt = opt};
    struct node *root = node_new(&m->arena, NODE_DICT);
    struct file *f = z->file;
    uint64_t lo = x->data;
    if (!root)
        return err_nomem(e, sizeof *root);
    if (x->method == ZIP_DEFLATED) {
        TRY(unpack(m, z, x, &f, e));
        m->n_decoded++;
        m->spooled_bytes += x->raw;
        lo = 0;
    } else if (!opt->quick) {
        TRY(zip_check_crc(z, x, e));
    }
    TRY(hdf5_model_read(&h, f, lo, x->raw, root, e));
    return hdf5_model_finish(m, &root, 1, e);
}

static enum status read_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    struct file *f = s->file;
    struct zip z;
    s->file = NULL;
    m->format = "keras";
    m->framework = STR("keras");
    TRY(model_own_file(m, f, e));
    TRY(zip_read(f, &m->arena, &z, e));
    const struct zip_entry *w = zip_find(&z, STR(WEIGHTS));
    if (!w || w->is_dir)
        return bad(&z, NULL, "the archive holds no " WEIGHTS, e);
    for (size_t i = 0; i < z.n; i++)
        if (&z.entry[i] != w && !z.entry[i].is_dir)
            TRY(attach(m, &z, &z.entry[i], opt, e));
    enum status st = weights(m, &z, w, opt, e);
    if (st != ST_OK)
        err_in(e, w->name.p, w->name.n);
    return st;
}

/* ---- writing ---- */

struct keras {
    struct zip_writer zip;
    struct keras_layout x;
    size_t weights; /* member */
    int id;
};

static enum status check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct keras_layout x = {0};
    (void)opt;
    if (!keras_config_find(m, KERAS_CONFIG))
        return err_set(e, ST_CANNOT, "keras-config",
                       "a .keras file needs a " KERAS_CONFIG ", which the source does not carry: "
                       "--like a model that Keras has saved brings one, .weights.h5 needs none");
    enum status st = keras_lay_out(m, KERAS_PATHS, NULL, &a, &x, e);
    keras_layout_free(&x);
    arena_free(&a);
    return st;
}

/* Bytes of an attachment, from the writer's arena where they are not in memory. */
static enum status text_of(struct writer *w, const struct attachment *a, struct str *out,
                           struct err *e)
{
    *out = (struct str){(const char *)a->mem, (size_t)a->n_bytes};
    if (a->mem)
        return ST_OK;
    char *p = ARENA_ARRAY(&w->arena, char, a->n_bytes + 1);
    if (!p)
        return err_nomem(e, a->n_bytes);
    out->p = p;
    return file_pread(a->file, p, (size_t)a->n_bytes, a->offset, e);
}

struct text_member {
    struct str text;
    size_t member;
};

static bool is_member(struct str name)
{
    return str_is(name, KERAS_CONFIG) || str_is(name, KERAS_METADATA) ||
           str_starts(name, STR("assets/"));
}

static enum status add_texts(struct writer *w, struct keras *k, struct text_member *list, size_t *n,
                             struct err *e)
{
    *n = 0;
    if (!keras_config_find(w->m, KERAS_METADATA)) {
        list[0].text = STR("{\"keras_version\": \"3.0.0\", \"date_saved\": \"\"}");
        TRY(zip_add(&k->zip, STR(KERAS_METADATA), ZIP_STORED, list[0].text.n, &list[0].member, e));
        *n = 1;
    }
    for (size_t i = 0; i < w->m->n_attachments; i++) {
        const struct attachment *a = &w->m->attachment[i];
        if (!is_member(a->name))
            continue;
        TRY(text_of(w, a, &list[*n].text, e));
        TRY(zip_add(&k->zip, a->name, ZIP_STORED, a->n_bytes, &list[*n].member, e));
        ++*n;
    }
    for (size_t i = 0; i < *n; i++)
        k->zip.member[list[i].member].crc = crc32_update(0, list[i].text.p, list[i].text.n);
    return ST_OK;
}

static enum status begin(struct writer *w, struct err *e)
{
    struct keras *k = ARENA_NEW(&w->arena, struct keras);
    struct text_member *list = ARENA_ARRAY(&w->arena, struct text_member, w->m->n_attachments + 2);
    size_t n;
    if (!k || !list)
        return err_nomem(e, sizeof *k);
    zip_writer_init(&k->zip);
    w->priv = k;
    TRY(keras_lay_out(w->m, KERAS_PATHS, NULL, &w->arena, &k->x, e));
    TRY(add_texts(w, k, list, &n, e));
    TRY(zip_add(&k->zip, STR(WEIGHTS), ZIP_STORED, k->x.end, &k->weights, e));
    struct buf tail = BUF_INIT;
    zip_tail(&k->zip, &tail);
    enum status st = buf_ok(&tail, e);
    if (st == ST_OK)
        st = out_add(w->out, STR(""), k->zip.end + tail.n, &k->id, e);
    buf_free(&tail);
    TRY(st);
    for (size_t i = 0; i < n; i++)
        if (list[i].text.n)
            TRY(out_pwrite(w->out, k->id, list[i].text.p, list[i].text.n,
                           k->zip.member[list[i].member].data, e));
    memcpy(w->order, k->x.order, k->x.n * sizeof *w->order);
    size_t at = k->x.n;
    for (uint32_t i = 0; i < w->m->n_tensors; i++)
        if (!k->x.node[i])
            w->order[at++] = i;
    return keras_put(w, &k->x, k->id, k->zip.member[k->weights].data, WANT_CRC32, e);
}

static enum status end(struct writer *w, struct err *e)
{
    struct keras *k = w->priv;
    struct buf b = BUF_INIT;
    enum status st = ST_OK;
    k->zip.member[k->weights].crc = keras_crc(w, &k->x);
    for (size_t i = 0; st == ST_OK && i < k->zip.n; i++) {
        buf_clear(&b);
        zip_local(&k->zip, i, &b);
        st = buf_ok(&b, e);
        if (st == ST_OK)
            st = out_pwrite(w->out, k->id, b.p, b.n, k->zip.member[i].header, e);
    }
    buf_clear(&b);
    zip_tail(&k->zip, &b);
    if (st == ST_OK)
        st = buf_ok(&b, e);
    if (st == ST_OK)
        st = out_pwrite(w->out, k->id, b.p, b.n, k->zip.end, e);
    buf_free(&b);
    return st;
}

static void drop(struct writer *w)
{
    struct keras *k = w->priv;
    if (!k)
        return;
    keras_layout_free(&k->x);
    zip_writer_free(&k->zip);
}

const struct format keras_format = {
    .name = "keras",
    .title = "Keras 3 model (.keras): a zip of configs and weights",
    .suffix = {".keras", NULL},
    .reads = true,
    .writes = true,
    .tree = true,
    .aliases = true,
    .keeps = {KERAS_CONFIG, KERAS_METADATA, "assets/*"},
    .keeps_meta = {"!layer_names*", "*"}, /* those are of keras-h5 */
    .framework = "keras",
    .refuses = "what keras-weights and the strict zip reader refuse; an archive without "
               "model.weights.h5; in writing, a source without a config.json",
    .bid = bid,
    .read = read_file,
    .check = check,
    .begin = begin,
    .end = end,
    .drop = drop,
};
