/* PyTorch, writing: records laid out in a zip, tensors in place, CRCs patched at the end; shards
 * with an index under --max-shard-size. The pickle is pytorch_spell.c's. See pytorch.c.
 */
#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/deflate.h"
#include "format/attach.h"
#include "format/hf_shards.h"
#include "format/pytorch_spell.h"
#include <stdlib.h>

#define PREFIX "archive"
static const struct {
    const char *name, *text;
} fixed[] = {{PREFIX "/byteorder", "little"}, {PREFIX "/version", "3\n"}};
enum { N_FIXED = sizeof fixed / sizeof *fixed };

struct shard {
    struct pt_items items;
    struct zip_writer zip;
    size_t *member; /* per item: its record; unused for ties */
    int file;
};
struct layout {
    struct shard *shard;
    size_t n_shards;
    uint64_t total;
};

static enum status cannot(const struct tensor *t, const char *code, const char *why, struct err *e)
{
    (void)err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, t->name.p, t->name.n);
    return ST_CANNOT;
}

static enum status check_tensor(const struct tensor *t, uint64_t *bytes, struct err *e)
{
    size_t bad;
    if (!pytorch_dtype_name(t->dtype)) {
        (void)err_set(e, ST_CANNOT, "dtype", "PyTorch has no tensors of %s",
                      dtype_info(t->dtype)->name);
        err_in(e, t->name.p, t->name.n);
        return ST_CANNOT;
    }
    if (t->dtype == DT_F4_E2M1FN && (t->n_dims == 0 || t->dim[t->n_dims - 1] % 2 != 0))
        return cannot(t, "part-byte", "PyTorch counts float4 in pairs along the last axis", e);
    if (!str_utf8(t->name, &bad))
        return cannot(t, "name", "a pickle cannot hold a name that is not UTF-8", e);
    if (!dtype_span(t->dtype, tensor_elems(t), bytes))
        return cannot(t, "part-byte", "the tensor's elements do not fill whole bytes", e);
    return ST_OK;
}

static int by_order(const void *pa, const void *pb)
{
    const struct tensor *a = *(const struct tensor *const *)pa,
                        *b = *(const struct tensor *const *)pb;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return a < b ? -1 : a > b;
}

uint32_t pytorch_kept(const struct model *m, uint32_t t)
{
    return m->tensor[t].alias_of >= 0 ? (uint32_t)m->tensor[t].alias_of : t;
}

/* Cuts the tensors into shards; a tie goes where its bytes are. */
static enum status cut(const struct model *m, uint64_t max, struct arena *a, struct layout *x,
                       struct err *e)
{
    size_t n = m->n_tensors;
    const struct tensor **list = ARENA_ARRAY(a, const struct tensor *, n + 1);
    uint64_t *bytes = ARENA_ARRAY(a, uint64_t, n + 1);
    uint32_t *shard = ARENA_ARRAY(a, uint32_t, n + 1), *of = ARENA_ARRAY(a, uint32_t, n + 1);
    if (!list || !bytes || !shard || !of)
        return err_nomem(e, n * 32);
    size_t own = 0;
    for (size_t i = 0; i < n; i++)
        list[i] = &m->tensor[i];
    if (n)
        qsort(list, n, sizeof *list, by_order);
    for (size_t i = 0; i < n; i++) {
        uint64_t b;
        TRY(check_tensor(list[i], &b, e));
        if (list[i]->alias_of >= 0)
            continue;
        bytes[own++] = b;
        if (!add_u64(x->total, b, &x->total))
            return err_set(e, ST_CANNOT, "too-large", "the tensors pass 2^64 bytes");
    }
    x->n_shards = hf_shard_cut(bytes, own, max, shard);
    x->shard = ARENA_ARRAY(a, struct shard, x->n_shards);
    if (!x->shard)
        return err_nomem(e, x->n_shards * sizeof *x->shard);
    own = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i]->alias_of < 0)
            of[list[i] - m->tensor] = shard[own++];
    for (size_t i = 0; i < n; i++)
        of[list[i] - m->tensor] = of[pytorch_kept(m, (uint32_t)(list[i] - m->tensor))];
    for (size_t i = 0; i < n; i++)
        x->shard[of[i]].items.n++;
    for (size_t s = 0; s < x->n_shards; s++) {
        struct pt_items *it = &x->shard[s].items;
        it->tensor = ARENA_ARRAY(a, uint32_t, it->n + 1);
        x->shard[s].member = ARENA_ARRAY(a, size_t, it->n + 1);
        if (!it->tensor || !x->shard[s].member)
            return err_nomem(e, it->n * 12);
        it->n = 0;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t t = (uint32_t)(list[i] - m->tensor);
        struct pt_items *it = &x->shard[of[t]].items;
        it->tensor[it->n++] = t;
    }
    return ST_OK;
}

/* The records' keys: tensors that own bytes are numbered in order. */
static enum status number_keys(const struct model *m, struct arena *a, struct layout *x,
                               struct err *e)
{
    uint32_t *key = ARENA_ARRAY(a, uint32_t, m->n_tensors + 1);
    if (!key)
        return err_nomem(e, m->n_tensors * sizeof *key);
    for (size_t s = 0; s < x->n_shards; s++) {
        struct pt_items *it = &x->shard[s].items;
        uint32_t n = 0;
        for (size_t i = 0; i < it->n; i++)
            if (m->tensor[it->tensor[i]].alias_of < 0)
                key[it->tensor[i]] = n++;
        it->key = key;
    }
    return ST_OK;
}

static enum status lay_out(const struct model *m, uint64_t max, struct arena *a, struct layout *x,
                           struct err *e)
{
    *x = (struct layout){0};
    TRY(cut(m, max, a, x, e));
    return number_keys(m, a, x, e);
}

static struct hf_shards files(const struct layout *x)
{
    return (struct hf_shards){"pytorch_model", ".bin", x->n_shards, x->total};
}

enum status pytorch_check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct buf b = BUF_INIT;
    struct layout x;
    enum status st = lay_out(m, opt->max_shard_size, &a, &x, e);
    for (size_t s = 0; st == ST_OK && s < x.n_shards; s++) {
        buf_clear(&b);
        st = pytorch_spell(m, &x.shard[s].items, !opt->max_shard_size, &b, e);
    }
    struct hf_shards all = files(&x);
    if (st == ST_OK && opt->max_shard_size)
        st = hf_shards_check(&all, m, &a, e);
    buf_free(&b);
    arena_free(&a);
    return st;
}

/* Lays out the records of one shard and writes what is not tensors; CRCs come in the end. */
static enum status begin_shard(struct writer *w, struct layout *x, size_t s, struct buf *b,
                               uint32_t *order, struct err *e)
{
    const struct model *m = w->m;
    struct shard *sh = &x->shard[s];
    struct zip_writer *z = &sh->zip;
    size_t pickle, rest[N_FIXED];
    struct hf_shards all = files(x);
    struct str file = w->opt.max_shard_size ? hf_shards_name(&w->arena, &all, s) : STR("");
    if (!file.p)
        return err_nomem(e, 64);
    buf_clear(b);
    TRY(pytorch_spell(m, &sh->items, !w->opt.max_shard_size, b, e));
    TRY(zip_add(z, STR(PREFIX "/data.pkl"), ZIP_STORED, b->n, &pickle, e));
    z->member[pickle].crc = crc32_update(0, b->p, b->n);
    for (size_t i = 0; i < sh->items.n; i++) {
        uint32_t t = sh->items.tensor[i];
        uint64_t bytes;
        order[i] = t;
        if (m->tensor[t].alias_of >= 0)
            continue;
        struct str name = arena_fmt(&w->arena, PREFIX "/data/%u", sh->items.key[t]);
        if (!name.p)
            return err_nomem(e, 32);
        TRY(check_tensor(&m->tensor[t], &bytes, e));
        TRY(zip_add(z, name, ZIP_STORED, bytes, &sh->member[i], e));
    }
    for (int k = 0; k < N_FIXED; k++) {
        struct str text = str_from(fixed[k].text);
        TRY(zip_add(z, str_from(fixed[k].name), ZIP_STORED, text.n, &rest[k], e));
        z->member[rest[k]].crc = crc32_update(0, text.p, text.n);
    }
    struct buf tail = BUF_INIT;
    zip_tail(z, &tail);
    enum status st = buf_ok(&tail, e);
    if (st == ST_OK)
        st = out_add(w->out, file, z->end + tail.n, &sh->file, e);
    buf_free(&tail);
    TRY(st);
    TRY(out_pwrite(w->out, sh->file, b->p, b->n, z->member[pickle].data, e));
    for (int k = 0; k < N_FIXED; k++) {
        struct str text = str_from(fixed[k].text);
        TRY(out_pwrite(w->out, sh->file, text.p, text.n, z->member[rest[k]].data, e));
    }
    for (size_t i = 0; i < sh->items.n; i++) {
        uint32_t t = sh->items.tensor[i];
        if (m->tensor[t].alias_of < 0)
            w->place[t] = (struct place){.kind = PLACE_FIXED,
                                         .file = sh->file,
                                         .offset = z->member[sh->member[i]].data,
                                         .want = WANT_CRC32};
    }
    return ST_OK;
}

/* What the weights-only unpickler does not take stood in the source, which it did not take either.
 */
static enum status say_frozen(const struct writer *w, struct err *e)
{
    bool frozen = false, kept = false;
    struct node *n = w->opt.max_shard_size ? NULL : w->m->tree;
    for (; n && !frozen; n = node_step(w->m->tree, n))
        frozen = pytorch_frozen(n);
    if (frozen)
        TRY(pytorch_keeps_tree(w->m, &kept, e));
    if (kept)
        log_note("a frozenset is kept: torch.load takes it with weights_only=False alone, as it "
                 "took the source");
    return ST_OK;
}

enum status pytorch_begin(struct writer *w, struct err *e)
{
    struct buf b = BUF_INIT;
    struct layout *x = ARENA_NEW(&w->arena, struct layout);
    if (!x)
        return err_nomem(e, sizeof *x);
    TRY(lay_out(w->m, w->opt.max_shard_size, &w->arena, x, e));
    TRY(say_frozen(w, e));
    for (size_t s = 0; s < x->n_shards; s++)
        zip_writer_init(&x->shard[s].zip);
    w->priv = x;
    enum status st = ST_OK;
    size_t first = 0;
    for (size_t s = 0; st == ST_OK && s < x->n_shards; s++) {
        st = begin_shard(w, x, s, &b, w->order + first, e);
        first += x->shard[s].items.n;
    }
    buf_free(&b);
    return st;
}

static enum status end_shard(struct writer *w, struct shard *sh, struct buf *b, struct err *e)
{
    struct zip_writer *z = &sh->zip;
    for (size_t i = 0; i < sh->items.n; i++) {
        uint32_t t = sh->items.tensor[i];
        if (w->m->tensor[t].alias_of < 0)
            z->member[sh->member[i]].crc = w->placed[t].crc32;
    }
    for (size_t i = 0; i < z->n; i++) {
        buf_clear(b);
        zip_local(z, i, b);
        TRY(buf_ok(b, e));
        TRY(out_pwrite(w->out, sh->file, b->p, b->n, z->member[i].header, e));
    }
    buf_clear(b);
    zip_tail(z, b);
    TRY(buf_ok(b, e));
    return out_pwrite(w->out, sh->file, b->p, b->n, z->end, e);
}

static enum status write_index(struct writer *w, const struct layout *x, struct err *e)
{
    struct hf_shards all = files(x);
    struct hf_entry *entry = ARENA_ARRAY(&w->arena, struct hf_entry, w->m->n_tensors + 1);
    size_t n = 0;
    if (!entry)
        return err_nomem(e, w->m->n_tensors * sizeof *entry);
    for (size_t s = 0; s < x->n_shards; s++)
        for (size_t i = 0; i < x->shard[s].items.n; i++)
            entry[n++] = (struct hf_entry){.name = w->m->tensor[x->shard[s].items.tensor[i]].name,
                                           .shard = (uint32_t)s};
    return hf_shards_index(&all, w, entry, n, e);
}

enum status pytorch_end(struct writer *w, struct err *e)
{
    struct layout *x = w->priv;
    struct buf b = BUF_INIT;
    enum status st = ST_OK;
    for (size_t s = 0; st == ST_OK && s < x->n_shards; s++)
        st = end_shard(w, &x->shard[s], &b, e);
    if (st == ST_OK && w->opt.max_shard_size)
        st = attach_write(w, e);
    if (st == ST_OK && w->opt.max_shard_size && x->n_shards > 1)
        st = write_index(w, x, e);
    buf_free(&b);
    return st;
}

void pytorch_drop(struct writer *w)
{
    struct layout *x = w->priv;
    for (size_t s = 0; x && s < x->n_shards; s++)
        zip_writer_free(&x->shard[s].zip);
}
