/* .metadata of torch.distributed.checkpoint: a pickled Metadata whose state is a dict.
 *
 *   state_dict_metadata  {name: TensorStorageMetadata(properties, size, chunks [(offsets, sizes)])
 *                               or BytesStorageMetadata()}
 *   planner_data         {name: path of keys and list places}
 *   storage_data         {MetadataIndex(fqn, offset, index):
 *                               _StorageInfo(relative_path, offset, length, transform_descriptors)}
 *
 * Source: pytorch/pytorch torch/distributed/checkpoint/{metadata,filesystem}.py.
 *
 * Refused: dcp-metadata, dcp-chunks, dcp-transform, dcp-place-twice, path-escape.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "format/torch_dcp.h"
#include <stdlib.h>
#include <string.h>

static enum status odd(const struct pickle *p, uint32_t v, const char *what, struct err *e)
{
    return pickle_fail(p, v, "dcp-metadata", e, "%s", what);
}

/* Field of a dataclass instance, 0 where there is none. */
static uint32_t field(const struct pickle *p, uint32_t v, const char *name)
{
    uint32_t state = pk_more(p, v).state;
    return state ? pk_get(p, state, name) : 0;
}

/* torch.Size, a tuple or a list of counts. */
static enum status counts(struct dcp *d, uint32_t v, uint64_t **out, uint8_t *n, struct err *e)
{
    const struct pickle *p = &d->meta.pk;
    if (pk_call_tag(p, v) == PT_SIZE)
        v = pk_elem(p, pk_at(p, v)->call.args, 0);
    uint32_t k = pk_count(p, v);
    if ((pk_kind(p, v) != PK_TUPLE && pk_kind(p, v) != PK_LIST) || k >= VIEW_MAX_AXES)
        return odd(p, v, "a shape that is no list of counts", e);
    *out = ARENA_ARRAY(&d->m->arena, uint64_t, k + 1);
    if (!*out)
        return err_nomem(e, k * 8);
    *n = 0;
    for (uint32_t c = pk_at(p, v)->seq.head; c; c = p->cell[c].next)
        if (!pk_u64(p, p->cell[c].val, &(*out)[(*n)++]) || (*out)[*n - 1] > INT64_MAX)
            return odd(p, v, "a shape that is no list of counts", e);
    return ST_OK;
}

static enum status chunk(struct dcp *d, struct dcp_item *it, uint32_t v, struct dcp_chunk *c,
                         struct err *e)
{
    const struct pickle *p = &d->meta.pk;
    uint64_t *lo, *n;
    uint8_t n_lo, n_n;
    if (pk_call_tag(p, v) != PT_DCP_CHUNK)
        return odd(p, v, "a part of a tensor that is no ChunkStorageMetadata", e);
    TRY(counts(d, field(p, v, "offsets"), &lo, &n_lo, e));
    TRY(counts(d, field(p, v, "sizes"), &n, &n_n, e));
    if (n_lo != it->n_dims || n_n != it->n_dims)
        return odd(p, v, "a part of a tensor with another number of dimensions", e);
    *c = (struct dcp_chunk){.name = it->name,
                            .n_dims = n_n,
                            .lo = lo,
                            .n = n,
                            .at = p->base + pk_at(p, v)->at,
                            .decl = d->decl};
    return ST_OK;
}

static enum status tensor(struct dcp *d, uint32_t v, struct dcp_item *it, struct err *e)
{
    const struct pickle *p = &d->meta.pk;
    uint32_t properties = field(p, v, "properties"), list = field(p, v, "chunks");
    uint32_t state = pk_more(p, properties).state;
    uint64_t *dim;
    int tag = pk_tag(p, pk_elem(p, state, 0));
    if (pk_call_tag(p, properties) != PT_DCP_PROPERTIES || pk_kind(p, state) != PK_TUPLE)
        return odd(p, v, "a tensor without properties", e);
    if (tag == PT_DTYPE_F4X2)
        it->dtype = DT_F4_E2M1FN;
    else if (tag > PT_DTYPE && tag < PT_DTYPE + DT_COUNT)
        it->dtype = (enum dtype)(tag - PT_DTYPE);
    else
        return odd(p, v, "a tensor of an unknown type", e);
    uint32_t grad = pk_elem(p, state, 2);
    it->requires_grad = pk_kind(p, grad) == PK_BOOL && pk_at(p, grad)->i;
    it->is_tensor = true;
    TRY(counts(d, field(p, v, "size"), &dim, &it->n_dims, e));
    it->dim = dim;
    if (pk_kind(p, list) != PK_LIST)
        return odd(p, v, "a tensor without a list of its parts", e);
    if (pk_count(p, list) > DCP_CHUNKS_MAX) {
        (void)err_set(e, ST_LIMIT, "dcp-chunks", "a tensor of more than %d parts", DCP_CHUNKS_MAX);
        err_at(e, p->file, p->base + pk_at(p, list)->at);
        return ST_LIMIT;
    }
    it->chunk = ARENA_ARRAY(&d->scratch, struct dcp_chunk, pk_count(p, list) + 1);
    if (!it->chunk)
        return err_nomem(e, pk_count(p, list) * sizeof *it->chunk);
    for (uint32_t c = pk_at(p, list)->seq.head; c; c = p->cell[c].next)
        TRY(chunk(d, it, p->cell[c].val, &it->chunk[it->n_chunks++], e));
    return ST_OK;
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct dcp_item *)a)->name, ((const struct dcp_item *)b)->name);
}

static enum status items(struct dcp *d, uint32_t dict, struct err *e)
{
    const struct pickle *p = &d->meta.pk;
    if (pk_kind(p, dict) != PK_DICT)
        return odd(p, p->root, "no state_dict_metadata", e);
    d->item = ARENA_ARRAY(&d->scratch, struct dcp_item, pk_count(p, dict) / 2 + 1);
    if (!d->item)
        return err_nomem(e, pk_count(p, dict) * sizeof *d->item);
    for (uint32_t c = pk_at(p, dict)->seq.head; c; c = p->cell[p->cell[c].next].next) {
        uint32_t key = p->cell[c].val, v = p->cell[p->cell[c].next].val;
        struct dcp_item *it = &d->item[d->n_items++];
        it->name = pk_text(p, key);
        it->at = p->base + pk_at(p, key)->at;
        if (pk_kind(p, key) != PK_STR)
            return odd(p, key, "a name that is no text", e);
        it->name = arena_str(&d->m->arena, it->name.p, it->name.n);
        if (!it->name.p)
            return err_nomem(e, it->name.n);
        int tag = pk_call_tag(p, v);
        if (tag == PT_DCP_TENSOR)
            TRY(tensor(d, v, it, e));
        else if (tag != PT_DCP_BYTES)
            return odd(p, v, "an entry that is neither a tensor nor bytes", e);
    }
    return ST_OK;
}

/* Puts the items into planner_data's order, which is the saved object's. */
static enum status order(struct dcp *d, uint32_t planner, struct err *e)
{
    const struct pickle *p = &d->meta.pk;
    if (pk_kind(p, planner) != PK_DICT)
        return ST_OK; /* another planner: names stay flat */
    struct dcp_item *sorted = ARENA_ARRAY(&d->scratch, struct dcp_item, d->n_items + 1);
    bool *seen = ARENA_ARRAY(&d->scratch, bool, d->n_items + 1);
    if (!sorted || !seen)
        return err_nomem(e, d->n_items * sizeof *sorted);
    memcpy(sorted, d->item, d->n_items * sizeof *sorted);
    if (d->n_items)
        qsort(sorted, d->n_items, sizeof *sorted, by_name);
    size_t n = 0;
    for (uint32_t c = pk_at(p, planner)->seq.head; c; c = p->cell[p->cell[c].next].next) {
        uint32_t path = p->cell[p->cell[c].next].val;
        const struct dcp_item want = {.name = pk_text(p, p->cell[c].val)};
        struct dcp_item *it = d->n_items && want.name.p
                                  ? bsearch(&want, sorted, d->n_items, sizeof want, by_name)
                                  : NULL;
        if (!it || seen[it - sorted] || pk_kind(p, path) != PK_TUPLE || pk_count(p, path) == 0)
            continue; /* a rank's own: nothing was saved under it */
        seen[it - sorted] = true;
        it->path = path;
        d->item[n++] = *it;
    }
    for (size_t i = 0; i < d->n_items; i++)
        if (!seen[i])
            d->item[n++] = sorted[i];
    return ST_OK;
}

/* ---- where the bytes are ---- */

static int by_place(const void *a, const void *b)
{
    const struct dcp_place *x = a, *y = b;
    int d = str_cmp(x->name, y->name);
    if (d || x->n_dims != y->n_dims)
        return d ? d : x->n_dims < y->n_dims ? -1 : 1;
    for (size_t i = 0; i < x->n_dims; i++)
        if (x->lo[i] != y->lo[i])
            return x->lo[i] < y->lo[i] ? -1 : 1;
    return 0;
}

static enum status one_place(struct dcp *d, uint32_t index, uint32_t info, struct dcp_place *q,
                             struct err *e)
{
    const struct pickle *p = &d->meta.pk;
    uint32_t name = field(p, index, "fqn"), lo = field(p, index, "offset"),
             path = field(p, info, "relative_path"), how = field(p, info, "transform_descriptors");
    uint64_t *list = NULL;
    if (pk_call_tag(p, index) != PT_DCP_INDEX || pk_call_tag(p, info) != PT_DCP_PLACE ||
        pk_kind(p, name) != PK_STR || pk_kind(p, path) != PK_STR ||
        !pk_u64(p, field(p, info, "offset"), &q->offset) ||
        !pk_u64(p, field(p, info, "length"), &q->bytes))
        return odd(p, index, "an entry of storage_data that says no place", e);
    if (how && pk_kind(p, how) != PK_NONE && pk_count(p, how) != 0)
        return pickle_fail(p, info, "dcp-transform", e,
                           "saved through a stream extension (compressed or encrypted)");
    if (lo && pk_kind(p, lo) != PK_NONE) {
        TRY(counts(d, lo, &list, &q->n_dims, e));
        q->lo = list;
    }
    q->name = pk_text(p, name);
    q->file = pk_text(p, path);
    q->at = p->base + pk_at(p, info)->at;
    if (q->file.n == 0 || str_find(q->file, '/', 0) < q->file.n)
        return pickle_fail(p, path, "path-escape", e, "a file that is not in the folder itself");
    return ST_OK;
}

static enum status places(struct dcp *d, uint32_t dict, struct err *e)
{
    const struct pickle *p = &d->meta.pk;
    if (pk_kind(p, dict) != PK_DICT)
        return odd(p, p->root, "no storage_data", e);
    d->place = ARENA_ARRAY(&d->scratch, struct dcp_place, pk_count(p, dict) / 2 + 1);
    if (!d->place)
        return err_nomem(e, pk_count(p, dict) * sizeof *d->place);
    for (uint32_t c = pk_at(p, dict)->seq.head; c; c = p->cell[p->cell[c].next].next)
        TRY(one_place(d, p->cell[c].val, p->cell[p->cell[c].next].val, &d->place[d->n_places++],
                      e));
    if (d->n_places)
        qsort(d->place, d->n_places, sizeof *d->place, by_place);
    for (size_t i = 1; i < d->n_places; i++)
        if (by_place(&d->place[i - 1], &d->place[i]) == 0) {
            (void)err_set(e, ST_INPUT, "dcp-place-twice", "one part of a tensor in two places");
            err_at(e, p->file, d->place[i].at);
            err_in(e, d->place[i].name.p, d->place[i].name.n);
            return ST_INPUT;
        }
    return ST_OK;
}

const struct dcp_place *dcp_find(const struct dcp *d, struct str name, const uint64_t *lo,
                                 uint8_t n_dims)
{
    const struct dcp_place want = {.name = name, .lo = lo, .n_dims = n_dims};
    return d->n_places ? bsearch(&want, d->place, d->n_places, sizeof want, by_place) : NULL;
}

enum status dcp_metadata(struct dcp *d, struct err *e)
{
    struct pickle *p = &d->meta.pk;
    uint64_t n = file_size(d->decl);
    if (n == 0) {
        (void)err_set(e, ST_INPUT, "truncated", "an empty .metadata");
        err_at(e, file_path(d->decl), 0);
        return ST_INPUT;
    }
    d->meta = (struct pt_reader){.m = d->m, .opt = d->opt, .file = d->decl};
    TRY(pytorch_pickle(&d->meta, 0, &n, p, &d->meta.bytes, e));
    if (pk_call_tag(p, p->root) != PT_DCP_METADATA)
        return odd(p, p->root, "a pickle that is no Metadata", e);
    TRY(items(d, field(p, p->root, "state_dict_metadata"), e));
    TRY(order(d, field(p, p->root, "planner_data"), e));
    return places(d, field(p, p->root, "storage_data"), e);
}
