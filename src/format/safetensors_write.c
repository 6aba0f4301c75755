/* safetensors, writing: the official writer's canonical order (types by rank from the largest down,
 * then names), so that equal tensors give equal bytes and every range is aligned. With
 * --max-shard-size the target is a folder of shards with an index. See safetensors.c.
 */
#include "base/checked.h"
#include "base/log.h"
#include "codec/json.h"
#include "format/attach.h"
#include "format/hf_shards.h"
#include "format/safetensors.h"
#include <stdlib.h>

struct item {
    struct str name;
    uint64_t bytes, order;
    int rank;
    uint32_t tensor, shard;
};
struct layout {
    struct item *item; /* shard by shard, in file order */
    size_t n;
    size_t *first; /* n_shards + 1 places in item */
    size_t n_shards;
    uint64_t total;
};

static int by_order(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

static int by_file(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    if (x->rank != y->rank)
        return x->rank > y->rank ? -1 : 1;
    return str_cmp(x->name, y->name);
}

static enum status cannot(const struct tensor *t, struct err *e, const char *code, const char *why)
{
    (void)err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, t->name.p, t->name.n);
    return ST_CANNOT;
}

static enum status make_item(const struct model *m, uint32_t i, struct item *it, struct err *e)
{
    const struct tensor *t = &m->tensor[i];
    size_t bad;
    *it = (struct item){.name = t->name, .order = t->order, .tensor = i};
    it->rank = safetensors_rank(t->dtype);
    if (it->rank == 0) {
        (void)err_set(e, ST_CANNOT, "dtype", "safetensors has no type for %s",
                      dtype_info(t->dtype)->name);
        err_in(e, t->name.p, t->name.n);
        return ST_CANNOT;
    }
    if (t->name.n > ST_NAME_MAX || !str_utf8(t->name, &bad) || str_find(t->name, 0, 0) < t->name.n)
        return cannot(t, e, "name", "safetensors cannot hold a tensor of this name");
    if (str_is(t->name, "__metadata__"))
        return cannot(t, e, "name", "safetensors keeps this name for itself");
    if (!dtype_span(t->dtype, tensor_elems(t), &it->bytes))
        return cannot(t, e, "part-byte", "the tensor's elements do not fill whole bytes");
    return ST_OK;
}

static enum status lay_out(const struct model *m, uint64_t max_shard, struct arena *a,
                           struct layout *x, struct err *e)
{
    *x = (struct layout){.n = m->n_tensors};
    x->item = ARENA_ARRAY(a, struct item, x->n + 1);
    uint64_t *bytes = ARENA_ARRAY(a, uint64_t, x->n + 1);
    uint32_t *shard = ARENA_ARRAY(a, uint32_t, x->n + 1);
    if (!x->item || !bytes || !shard)
        return err_nomem(e, x->n * sizeof *x->item);
    for (size_t i = 0; i < x->n; i++)
        TRY(make_item(m, (uint32_t)i, &x->item[i], e));
    if (x->n)
        qsort(x->item, x->n, sizeof *x->item, by_order);
    for (size_t i = 0; i < x->n; i++) {
        bytes[i] = x->item[i].bytes;
        if (!add_u64(x->total, bytes[i], &x->total))
            return err_set(e, ST_CANNOT, "too-large", "the tensors pass 2^64 bytes");
    }
    x->n_shards = hf_shard_cut(bytes, x->n, max_shard, shard);
    for (size_t i = 0; i < x->n; i++)
        x->item[i].shard = shard[i];
    if (x->n)
        qsort(x->item, x->n, sizeof *x->item, by_file);
    x->first = ARENA_ARRAY(a, size_t, x->n_shards + 1);
    if (!x->first)
        return err_nomem(e, x->n_shards * sizeof *x->first);
    for (size_t i = 0, s = 0; s <= x->n_shards; s++) {
        while (i < x->n && x->item[i].shard < s)
            i++;
        x->first[s] = i;
    }
    return ST_OK;
}

/* ---- metadata ---- */

static int by_key(const void *a, const void *b)
{
    return str_cmp(((const struct meta *)a)->key, ((const struct meta *)b)->key);
}

/* {alias: kept} of the aliases in one shard, empty where there are none. */
static void alias_list(const struct model *m, const struct layout *x, size_t s, struct buf *b)
{
    struct json_w w;
    bool any = false;
    json_w_init(&w, b, 0);
    for (size_t i = x->first[s]; i < x->first[s + 1]; i++) {
        const struct tensor *t = &m->tensor[x->item[i].tensor];
        if (t->alias_of < 0)
            continue;
        if (!any)
            json_w_object(&w);
        any = true;
        json_w_key(&w, t->name);
        json_w_str(&w, m->tensor[t->alias_of].name);
    }
    if (any)
        json_w_object_end(&w);
}

static struct str format_tag(const struct model *m)
{
    if (str_is(m->framework, "flax") || str_is(m->framework, "nnx"))
        return STR("flax");
    if (str_is(m->framework, "keras") || str_is(m->framework, "tensorflow"))
        return STR("tf");
    if (m->framework.n == 0)
        for (size_t i = 0; i < m->n_meta; i++)
            if (str_is(m->meta[i].key, "format"))
                return m->meta[i].value;
    return STR("pt"); /* older transformers take no file without a format they know */
}

static enum status write_metadata(const struct model *m, struct json_w *w, struct str aliases,
                                  struct arena *a, struct err *e)
{
    struct meta *list = ARENA_ARRAY(a, struct meta, m->n_meta + 2);
    size_t n = 0, bad;
    if (!list)
        return err_nomem(e, (m->n_meta + 2) * sizeof *list);
    for (size_t i = 0; i < m->n_meta; i++) {
        const struct meta *kv = &m->meta[i];
        if (str_is(kv->key, "format") || str_is(kv->key, ST_ALIASES))
            continue;
        if (!str_utf8(kv->key, &bad) || !str_utf8(kv->value, &bad)) {
            (void)err_set(e, ST_CANNOT, "metadata", "safetensors metadata must be UTF-8");
            err_in(e, kv->key.p, kv->key.n);
            return ST_CANNOT;
        }
        if (model_find(m, kv->key) < 0 && model_find(m, kv->value) >= 0) {
            log_warn("metadata-left-out: '%.*s': readers would take it for a tie to the tensor of "
                     "that name",
                     STR_ARG(kv->key));
            continue;
        }
        list[n++] = *kv;
    }
    list[n++] = (struct meta){STR("format"), format_tag(m)};
    if (aliases.n)
        list[n++] = (struct meta){STR(ST_ALIASES), aliases};
    qsort(list, n, sizeof *list, by_key);
    json_w_key(w, STR("__metadata__"));
    json_w_object(w);
    for (size_t i = 0; i < n; i++) {
        if (i && str_eq(list[i - 1].key, list[i].key))
            continue; /* the first of a doubled key stays */
        json_w_key(w, list[i].key);
        json_w_str(w, list[i].value);
    }
    json_w_object_end(w);
    return ST_OK;
}

/* Everything before the buffer of shard s: length and padded header. *data_bytes: the buffer. */
static enum status write_header(const struct model *m, const struct layout *x, size_t s,
                                struct arena *a, struct buf *b, uint64_t *data_bytes, struct err *e)
{
    struct buf aliases = BUF_INIT;
    struct json_w w;
    uint64_t at = 0;
    buf_clear(b);
    buf_u64(b, 0);
    json_w_init(&w, b, 0);
    json_w_object(&w);
    alias_list(m, x, s, &aliases);
    enum status st = buf_ok(&aliases, e);
    if (st == ST_OK)
        st = write_metadata(m, &w, buf_as_str(&aliases), a, e);
    buf_free(&aliases);
    TRY(st);
    for (size_t i = x->first[s]; i < x->first[s + 1]; i++) {
        const struct tensor *t = &m->tensor[x->item[i].tensor];
        safetensors_entry(&w, t, at, x->item[i].bytes);
        at += x->item[i].bytes;
    }
    json_w_object_end(&w);
    buf_fill(b, ' ', (8 - b->n % 8) % 8);
    TRY(buf_ok(b, e));
    uint64_t n = b->n - 8;
    if (n > ST_HEADER_MAX)
        return err_set(e, ST_CANNOT, "header-too-long",
                       "the header takes %llu bytes, safetensors allows %u: use --max-shard-size",
                       (unsigned long long)n, ST_HEADER_MAX);
    for (int i = 0; i < 8; i++)
        b->p[i] = (uint8_t)(n >> 8 * i);
    *data_bytes = at;
    return ST_OK;
}

static struct hf_shards files(const struct layout *x)
{
    return (struct hf_shards){"model", ".safetensors", x->n_shards, x->total};
}

enum status safetensors_check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct buf header = BUF_INIT;
    struct layout x;
    uint64_t bytes;
    enum status st = lay_out(m, opt->max_shard_size, &a, &x, e);
    for (size_t s = 0; st == ST_OK && s < x.n_shards; s++)
        st = write_header(m, &x, s, &a, &header, &bytes, e);
    struct hf_shards all = files(&x);
    if (st == ST_OK && opt->max_shard_size)
        st = hf_shards_check(&all, m, &a, e);
    buf_free(&header);
    arena_free(&a);
    return st;
}

static enum status begin_shard(struct writer *w, const struct layout *x, size_t s,
                               struct buf *header, struct err *e)
{
    uint64_t bytes, at;
    int id;
    struct hf_shards all = files(x);
    struct str name = w->opt.max_shard_size ? hf_shards_name(&w->arena, &all, s) : STR("");
    if (!name.p)
        return err_nomem(e, 64);
    TRY(write_header(w->m, x, s, &w->arena, header, &bytes, e));
    TRY(out_add(w->out, name, header->n + bytes, &id, e));
    TRY(out_pwrite(w->out, id, header->p, header->n, 0, e));
    at = header->n;
    for (size_t i = x->first[s]; i < x->first[s + 1]; i++) {
        w->place[x->item[i].tensor] = (struct place){.kind = PLACE_FIXED, .file = id, .offset = at};
        w->order[i] = x->item[i].tensor;
        at += x->item[i].bytes;
    }
    return ST_OK;
}

enum status safetensors_begin(struct writer *w, struct err *e)
{
    struct buf header = BUF_INIT;
    struct layout *x = ARENA_NEW(&w->arena, struct layout);
    if (!x)
        return err_nomem(e, sizeof *x);
    TRY(lay_out(w->m, w->opt.max_shard_size, &w->arena, x, e));
    enum status st = ST_OK;
    for (size_t s = 0; st == ST_OK && s < x->n_shards; s++)
        st = begin_shard(w, x, s, &header, e);
    buf_free(&header);
    w->priv = x;
    return st;
}

static enum status write_index(struct writer *w, const struct layout *x, struct err *e)
{
    struct hf_shards all = files(x);
    struct hf_entry *entry = ARENA_ARRAY(&w->arena, struct hf_entry, x->n + 1);
    if (!entry)
        return err_nomem(e, x->n * sizeof *entry);
    for (size_t i = 0; i < x->n; i++)
        entry[i] = (struct hf_entry){.name = x->item[i].name, .shard = x->item[i].shard};
    return hf_shards_index(&all, w, entry, x->n, e);
}

enum status safetensors_end(struct writer *w, struct err *e)
{
    const struct layout *x = w->priv;
    if (!w->opt.max_shard_size)
        return ST_OK;
    TRY(attach_write(w, e));
    return x->n_shards > 1 ? write_index(w, x, e) : ST_OK;
}
