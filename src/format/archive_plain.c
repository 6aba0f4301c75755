/* Archive, plain layout: the weights as safetensors files that load as they are. Tensors lie by the
 * rank of their types, largest first, then in the model's order, so every one is aligned.
 */
#include "base/checked.h"
#include "codec/json.h"
#include "format/archive_impl.h"
#include "format/safetensors.h"
#include <stdlib.h>

struct item {
    int rank;
    uint32_t tensor;
};

static int by_rank(const void *pa, const void *pb)
{
    const struct item *a = pa, *b = pb;
    if (a->rank != b->rank)
        return a->rank > b->rank ? -1 : 1;
    return a->tensor < b->tensor ? -1 : a->tensor > b->tensor;
}

static enum status sort_tensors(const struct model *m, struct item *item, size_t *n, struct err *e)
{
    *n = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        if (t->alias_of >= 0)
            continue;
        int rank = safetensors_rank(t->dtype);
        bool named = !str_is(t->name, "__metadata__") && t->name.n <= ST_NAME_MAX;
        if (rank == 0 || !named) {
            (void)err_set(e, ST_CANNOT, rank == 0 ? "dtype" : "name",
                          "the plain layout cannot hold this tensor, --layout planes can");
            err_in(e, t->name.p, t->name.n);
            return ST_CANNOT;
        }
        item[(*n)++] = (struct item){rank, (uint32_t)i};
    }
    qsort(item, *n, sizeof *item, by_rank);
    return ST_OK;
}

enum status ar_plain_lay(const struct model *m, struct ar *ar, struct arena *a, uint32_t **order,
                         size_t *n, struct err *e)
{
    struct item *item = ARENA_ARRAY(a, struct item, m->n_tensors + 1);
    *order = ARENA_ARRAY(a, uint32_t, m->n_tensors + 1);
    ar->shard_head = ARENA_ARRAY(a, uint64_t, m->n_tensors + 1);
    if (!item || !*order || !ar->shard_head)
        return err_nomem(e, m->n_tensors * sizeof *item);
    TRY(sort_tensors(m, item, n, e));
    uint64_t at = 0;
    ar->n_shards = *n > 0 ? 1 : 0;
    for (size_t i = 0; i < *n; i++) {
        struct ar_tensor *x = &ar->tensor[item[i].tensor];
        if (at > 0 && x->bytes > AR_PART_BYTES - (at < AR_PART_BYTES ? at : AR_PART_BYTES)) {
            ar->n_shards++;
            at = 0;
        }
        x->member = ar->n_shards - 1;
        x->at = at; /* in the data; the header is added below */
        at += x->bytes;
        (*order)[i] = item[i].tensor;
    }
    struct buf b = BUF_INIT;
    enum status st = ST_OK;
    for (uint32_t s = 0; st == ST_OK && s < ar->n_shards; s++) {
        buf_clear(&b);
        st = ar_plain_header(m, ar, *order, *n, s, &b, e);
        ar->shard_head[s] = b.n;
    }
    buf_free(&b);
    for (size_t i = 0; i < *n; i++)
        ar->tensor[item[i].tensor].at += ar->shard_head[ar->tensor[item[i].tensor].member];
    for (size_t i = 0; i < m->n_tensors; i++)
        if (m->tensor[i].alias_of >= 0) {
            ar->tensor[i].member = ar->tensor[m->tensor[i].alias_of].member;
            ar->tensor[i].at = ar->tensor[m->tensor[i].alias_of].at;
        }
    return st;
}

/* {alias: kept} of the aliases whose target lies in the shard. */
static void put_aliases(struct json_w *w, const struct model *m, const struct ar *ar,
                        uint32_t shard)
{
    struct buf text = BUF_INIT;
    struct json_w in;
    json_w_init(&in, &text, 0);
    json_w_object(&in);
    size_t n = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        if (t->alias_of < 0 || ar->tensor[t->alias_of].member != shard)
            continue;
        json_w_key(&in, t->name);
        json_w_str(&in, m->tensor[t->alias_of].name);
        n++;
    }
    json_w_object_end(&in);
    if (n > 0) {
        json_w_key(w, STR(ST_ALIASES));
        json_w_str(w, buf_as_str(&text));
    }
    w->b->failed |= text.failed;
    buf_free(&text);
}

enum status ar_plain_header(const struct model *m, const struct ar *ar, const uint32_t *order,
                            size_t n, uint32_t shard, struct buf *b, struct err *e)
{
    struct json_w w;
    size_t from = b->n;
    uint64_t at = 0;
    buf_u64(b, 0);
    json_w_init(&w, b, 0);
    json_w_object(&w);
    json_w_key(&w, STR("__metadata__"));
    json_w_object(&w);
    json_w_key(&w, STR("format"));
    json_w_str(&w, STR("pt")); /* older loaders take no file without a format they know */
    put_aliases(&w, m, ar, shard);
    json_w_object_end(&w);
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = &m->tensor[order[i]];
        const struct ar_tensor *x = &ar->tensor[order[i]];
        if (x->member != shard)
            continue;
        safetensors_entry(&w, t, at, x->bytes);
        at += x->bytes;
    }
    json_w_object_end(&w);
    buf_fill(b, ' ', (8 - (b->n - from) % 8) % 8);
    TRY(buf_ok(b, e));
    uint64_t size = b->n - from - 8;
    if (size > ST_HEADER_MAX)
        return err_set(e, ST_CANNOT, "header-too-long",
                       "a shard's header takes %llu bytes, safetensors allows %u",
                       (unsigned long long)size, ST_HEADER_MAX);
    for (int i = 0; i < 8; i++)
        b->p[from + (size_t)i] = (uint8_t)(size >> 8 * i);
    return ST_OK;
}
