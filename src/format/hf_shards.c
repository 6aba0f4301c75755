/* See hf_shards.h. */
#include "format/hf_shards.h"
#include "format/attach.h"

struct str hf_shards_name(struct arena *a, const struct hf_shards *x, size_t shard)
{
    return hf_shard_name(a, x->stem, x->suffix, shard, x->n);
}

static struct str index_name(struct arena *a, const struct hf_shards *x)
{
    return arena_fmt(a, "%s%s.index.json", x->stem, x->suffix);
}

static enum status names(const struct hf_shards *x, struct arena *a, struct str *out, struct err *e)
{
    for (size_t i = 0; i < x->n; i++) {
        out[i] = hf_shards_name(a, x, i);
        if (!out[i].p)
            return err_nomem(e, 64);
    }
    return ST_OK;
}

enum status hf_shards_check(const struct hf_shards *x, const struct model *m, struct arena *a,
                            struct err *e)
{
    struct str *taken = ARENA_ARRAY(a, struct str, x->n + 1);
    if (!taken)
        return err_nomem(e, x->n * sizeof *taken);
    TRY(names(x, a, taken, e));
    taken[x->n] = index_name(a, x);
    return taken[x->n].p ? attach_check(m, taken, x->n + 1, e) : err_nomem(e, 64);
}

enum status hf_shards_index(const struct hf_shards *x, struct writer *w, struct hf_entry *entry,
                            size_t n, struct err *e)
{
    struct buf b = BUF_INIT;
    struct hf_index h = {.entry = entry, .n = n, .n_files = x->n};
    struct str name = index_name(&w->arena, x);
    int id;
    h.file = ARENA_ARRAY(&w->arena, struct str, x->n);
    if (!h.file || !name.p)
        return err_nomem(e, x->n * sizeof *h.file);
    TRY(names(x, &w->arena, h.file, e));
    hf_index_write(&b, &h, x->total);
    enum status st = buf_ok(&b, e);
    if (st == ST_OK)
        st = out_add(w->out, name, b.n, &id, e);
    if (st == ST_OK)
        st = out_pwrite(w->out, id, b.p, b.n, 0, e);
    buf_free(&b);
    return st;
}
