/* Folders of torch.distributed.checkpoint (DCP): what every process of a training job saved, put
 * together into whole tensors.
 *
 *   .metadata        a pickle that says what there is, and where (torch_dcp_meta.c)
 *   __RANK_N.distcp  blobs in a row, each what torch.save writes: a part of a tensor, or a value
 *   meta.pt          (Lightning) what else the checkpoint held, one torch.save
 *
 * A .distcp may be one safetensors file instead (SerializationFormat.SAFETENSORS); the writer for
 * Hugging Face leaves such files alone in the folder, without .metadata:
 *
 *   shard-RANK-model-N-of-M.safetensors   __metadata__.DCP_SHARDING_INFO: JSON text
 *                                         {name: {"saved_offsets": [...]}}
 *
 * Source: pytorch/pytorch torch/distributed/checkpoint/{filesystem,hf_storage}.py.
 *
 * Refused: what torch_dcp_{meta,join,tree}.c and the PyTorch and safetensors readers refuse;
 * dcp-rank-metadata, dcp-place, dcp-blob, dcp-sharding-info.
 */
#include "format/torch_dcp.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/json.h"
#include "format/safetensors.h"
#include <stdlib.h>
#include <string.h>

#define HF_SHARD STR("shard-*-model-*-of-*.safetensors")
#define SHARDING_INFO "DCP_SHARDING_INFO"

static enum status bad(struct file *f, uint64_t at, struct str name, const char *code,
                       const char *why, struct err *e)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(f), at);
    if (name.p)
        err_in(e, name.p, name.n);
    return ST_INPUT;
}

static bool has(const struct source *s, struct str name)
{
    for (size_t i = 0; i < s->n_entries; i++)
        if (!s->entry[i].is_dir && str_eq(s->entry[i].name, name))
            return true;
    return false;
}

static bool any(const struct source *s, struct str glob)
{
    for (size_t i = 0; i < s->n_entries; i++)
        if (!s->entry[i].is_dir && str_glob(glob, s->entry[i].name))
            return true;
    return false;
}

/* ---- files, each opened once ---- */

struct open_file {
    struct str name;
    struct file *file;
    struct model *tensors; /* of a safetensors file: what is in it */
};
struct reading {
    struct dcp d;
    struct open_file *file; /* sorted by name */
    size_t n_files;
};

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct open_file *)a)->name, ((const struct open_file *)b)->name);
}

/* The list of a safetensors file: names, types, ranges. The model it fills lives as long as r. */
static enum status read_list(struct reading *r, struct open_file *f, struct err *e)
{
    struct source s = {.path = file_path(f->file)};
    f->tensors = ARENA_NEW(&r->d.scratch, struct model);
    if (!f->tensors)
        return err_nomem(e, sizeof *f->tensors);
    model_init(f->tensors);
    TRY(dir_file(r->d.s->dir, f->name, &s.file, e));
    uint64_t size = file_size(s.file);
    s.head_n = size < sizeof s.head ? (size_t)size : sizeof s.head;
    enum status st = s.head_n ? file_pread(s.file, s.head, s.head_n, 0, e) : ST_OK;
    if (st == ST_OK)
        st = safetensors_read(&s, r->d.opt, f->tensors, e);
    if (s.file && f->tensors->n_files == 0)
        file_close(s.file);
    return st;
}

/* A zip, a legacy stream, or a safetensors file? Told by the first bytes. */
static enum status is_safetensors(struct file *f, bool *yes, struct err *e)
{
    uint8_t head[9];
    *yes = false;
    if (file_size(f) < sizeof head)
        return ST_OK;
    TRY(file_pread(f, head, sizeof head, 0, e));
    *yes = head[8] == '{' && memcmp(head, "PK", 2) != 0;
    return ST_OK;
}

static enum status open_one(struct reading *r, struct open_file *f, bool list, struct err *e)
{
    bool yes = list;
    TRY(dir_file(r->d.s->dir, f->name, &f->file, e));
    TRY(model_own_file(r->d.m, f->file, e));
    if (!list)
        TRY(is_safetensors(f->file, &yes, e));
    return yes ? read_list(r, f, e) : ST_OK;
}

/* Every file that a place names. */
static enum status open_files(struct reading *r, struct err *e)
{
    struct dcp *d = &r->d;
    size_t n = 0;
    r->file = ARENA_ARRAY(&d->scratch, struct open_file, d->n_places + 1);
    if (!r->file)
        return err_nomem(e, d->n_places * sizeof *r->file);
    for (size_t i = 0; i < d->n_places; i++)
        r->file[i].name = d->place[i].file;
    if (d->n_places)
        qsort(r->file, d->n_places, sizeof *r->file, by_name);
    for (size_t i = 0; i < d->n_places; i++)
        if (n == 0 || !str_eq(r->file[n - 1].name, r->file[i].name))
            r->file[n++] = r->file[i];
    for (; r->n_files < n; r->n_files++)
        TRY(open_one(r, &r->file[r->n_files], false, e));
    return ST_OK;
}

static void close_lists(struct reading *r)
{
    for (size_t i = 0; i <= r->n_files && r->file; i++)
        if (r->file[i].tensors)
            model_free(r->file[i].tensors);
}

/* ---- blobs ---- */

/* The tensor of one blob: its storage becomes the model's. */
static enum status blob_tensor(struct dcp *d, struct file *f, const struct dcp_place *q,
                               struct dcp_chunk *c, struct err *e)
{
    struct pt_reader r = {.m = d->m, .opt = d->opt, .file = f};
    const struct zip_entry *z = NULL, *constants = NULL;
    struct pt_tensor t = {0};
    bool is = false;
    enum status st = pytorch_open(&r, q->offset, q->bytes, &z, &constants, e);
    if (st == ST_OK)
        st = pytorch_record(&r, z, e);
    if (st == ST_OK)
        st = pytorch_tensor(&r, r.pk.root, &is, &t, e);
    if (st == ST_OK && !is)
        st = bad(f, q->offset, STR_NONE, "dcp-blob", "a blob that is no tensor", e);
    if (st == ST_OK)
        st = pytorch_check_records(&r, e);
    if (st == ST_OK) {
        c->dtype = t.dtype;
        c->storage = t.storage;
        st = view_keep(&t.view, &d->m->arena, &c->view, e);
    }
    pytorch_close(&r);
    return st;
}

/* The same from a safetensors file, where the list tells the place. */
static enum status listed_tensor(struct dcp *d, const struct open_file *f, struct dcp_chunk *c,
                                 struct err *e)
{
    const struct model *from = f->tensors;
    int64_t i = model_find(from, c->name);
    if (i < 0)
        return bad(f->file, 0, c->name, "dcp-place", "the file holds no tensor of this name", e);
    const struct tensor *t = &from->tensor[i];
    const struct storage *s = &from->storage[t->storage];
    struct storage *own;
    struct view v;
    TRY(model_storage_add(d->m, &own, &c->storage, e));
    *own = *s;
    own->file = f->file;
    own->priv = NULL;
    if (s->kind != STORAGE_FLAT && s->raw_bytes)
        return err_set(e, ST_BUG, "storage", "safetensors that are not flat");
    view_load(&v, t->view);
    c->dtype = t->dtype;
    return view_keep(&v, &d->m->arena, &c->view, e);
}

static enum status find_chunk(struct reading *r, struct dcp_chunk *c, struct err *e)
{
    struct dcp *d = &r->d;
    for (size_t i = 0; i < c->n_dims; i++)
        if (c->n[i] == 0)
            return ST_OK; /* nothing to look for */
    const struct dcp_place *q = dcp_find(d, c->name, c->lo, c->n_dims);
    if (!q)
        return bad(c->decl, c->at, c->name, "dcp-place", "no bytes for a part of the tensor", e);
    const struct open_file want = {.name = q->file},
                           *f = bsearch(&want, r->file, r->n_files, sizeof want, by_name);
    if (f->tensors)
        return listed_tensor(d, f, c, e);
    enum status st = blob_tensor(d, f->file, q, c, e);
    if (st != ST_OK)
        err_in(e, c->name.p, c->name.n);
    return st;
}

/* A value: what torch.save wrote of it, or bytes that were saved as they are. */
static enum status value(struct reading *r, struct dcp_item *it, struct err *e)
{
    struct dcp *d = &r->d;
    const struct dcp_place *q = dcp_find(d, it->name, NULL, 0);
    if (!q)
        return bad(d->decl, it->at, it->name, "dcp-place", "no bytes for the value", e);
    const struct open_file want = {.name = q->file},
                           *f = bsearch(&want, r->file, r->n_files, sizeof want, by_name);
    struct pt_reader x = {.m = d->m, .opt = d->opt, .file = f->file};
    const struct zip_entry *z = NULL, *constants = NULL;
    enum status st = pytorch_open(&x, q->offset, q->bytes, &z, &constants, e);
    if (st == ST_OK)
        st = pytorch_record(&x, z, e);
    if (st == ST_OK)
        st = pytorch_tree(&x, x.pk.root, it->name, &it->node, e);
    if (st == ST_OK)
        st = pytorch_check_records(&x, e);
    if (st != ST_OK)
        err_in(e, it->name.p, it->name.n);
    pytorch_close(&x);
    return st;
}

static enum status tensor(struct reading *r, struct dcp_item *it, struct err *e)
{
    uint32_t index;
    for (size_t i = 0; i < it->n_chunks; i++)
        TRY(find_chunk(r, &it->chunk[i], e));
    TRY(dcp_join(&r->d, it, &index, e));
    it->node = node_new(&r->d.m->arena, NODE_TENSOR);
    if (!it->node)
        return err_nomem(e, sizeof *it->node);
    it->node->tensor = index;
    it->node->offset = it->at;
    return ST_OK;
}

/* ---- Lightning's meta.pt: the rest of the checkpoint, beside the tree ---- */

static enum status beside(struct dcp *d, struct err *e)
{
    struct file *f;
    struct node *root = NULL;
    TRY(dir_file(d->s->dir, STR("meta.pt"), &f, e));
    TRY(model_own_file(d->m, f, e));
    struct pt_reader r = {.m = d->m, .opt = d->opt, .file = f};
    const struct zip_entry *z = NULL, *constants = NULL;
    enum status st = pytorch_open(&r, 0, file_size(f), &z, &constants, e);
    if (st == ST_OK)
        st = pytorch_record(&r, z, e);
    if (st == ST_OK)
        st = pytorch_tree(&r, r.pk.root, STR_NONE, &root, e);
    if (st == ST_OK)
        st = pytorch_check_records(&r, e);
    pytorch_close(&r);
    TRY(st);
    if (root->kind != NODE_DICT)
        return bad(f, 0, STR_NONE, "dcp-blob", "meta.pt holds no dict", e);
    for (struct node *n = root->child, *next; n; n = next) {
        next = n->next;
        n->next = NULL;
        if (n->key && n->key->kind == NODE_STR && node_get(d->m->tree, n->key->text))
            return bad(f, n->offset, n->key->text, "dcp-metadata",
                       "meta.pt and the shards hold one key", e);
        node_add(d->m->tree, n);
    }
    return ST_OK;
}

/* ---- Hugging Face's shards, without .metadata ---- */

struct part {
    struct dcp_chunk c;
    size_t file;
};

static int by_tensor(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    int d = str_cmp(x->c.name, y->c.name);
    return d ? d : (x->file > y->file) - (x->file < y->file);
}

/* {"saved_offsets": [...]} of the tensor at hand, at the value. */
static enum status saved_offsets(struct json *j, struct dcp *d, struct part *p, struct err *e)
{
    TRY(json_expect(j, JSON_OBJECT, "the sharding of a tensor", e));
    uint64_t *lo = ARENA_ARRAY(&d->m->arena, uint64_t, p->c.n_dims + 1u);
    size_t n = 0;
    if (!lo)
        return err_nomem(e, 8);
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END)
            break;
        if (!str_is(j->text, "saved_offsets")) {
            TRY(json_next(j, e));
            TRY(json_skip(j, e));
            continue;
        }
        TRY(json_expect(j, JSON_ARRAY, "saved_offsets", e));
        for (n = 0;; n++) {
            TRY(json_next(j, e));
            if (j->kind == JSON_ARRAY_END)
                break;
            if (n >= p->c.n_dims || !json_u64(j, &lo[n]) || lo[n] > INT64_MAX)
                return json_fail(j, e, "dcp-sharding-info", "offsets that are no place");
        }
        p->c.lo = lo;
    }
    if (!p->c.lo || n != p->c.n_dims)
        return json_fail(j, e, "dcp-sharding-info", "no offsets, one for each dimension");
    return ST_OK;
}

/* The offsets of a file's tensors, part[0 .. n) in the order of the file's model. */
static enum status sharding(struct dcp *d, const struct open_file *f, struct part *part,
                            struct err *e)
{
    const struct model *m = f->tensors;
    struct str text = STR_NONE;
    struct json j;
    struct cursor c;
    for (size_t i = 0; i < m->n_meta; i++)
        if (str_is(m->meta[i].key, SHARDING_INFO))
            text = m->meta[i].value;
    if (!text.p)
        return bad(f->file, 8, STR_NONE, "dcp-sharding-info", "a shard without " SHARDING_INFO, e);
    cur_mem(&c, text.p, text.n, file_path(f->file), 8);
    json_init(&j, &c, 0);
    enum status st = json_expect(&j, JSON_OBJECT, SHARDING_INFO, e);
    while (st == ST_OK) {
        st = json_next(&j, e);
        if (st != ST_OK || j.kind == JSON_OBJECT_END)
            break;
        int64_t t = model_find(m, j.text);
        if (t < 0)
            st = json_fail(&j, e, "dcp-sharding-info", "a tensor that the shard does not hold");
        else if (part[t].c.lo)
            st = json_fail(&j, e, "dcp-sharding-info", "a tensor stands twice");
        else
            st = saved_offsets(&j, d, &part[t], e);
    }
    json_free(&j);
    cur_close(&c);
    TRY(st);
    for (size_t i = 0; i < m->n_tensors; i++)
        if (!part[i].c.lo)
            return bad(f->file, 8, part[i].c.name, "dcp-sharding-info",
                       "a tensor without its place in the whole", e);
    return ST_OK;
}

static enum status list_parts(struct reading *r, struct part *part, struct err *e)
{
    struct dcp *d = &r->d;
    for (size_t f = 0; f < r->n_files; f++) {
        const struct model *m = r->file[f].tensors;
        struct part *first = part;
        for (size_t i = 0; i < m->n_tensors; i++, part++) {
            const struct tensor *t = &m->tensor[i];
            uint64_t *n = ARENA_ARRAY(&d->m->arena, uint64_t, t->n_dims + 1u);
            struct str name = arena_str(&d->m->arena, t->name.p, t->name.n);
            if (!n || !name.p)
                return err_nomem(e, t->name.n);
            memcpy(n, t->dim, t->n_dims * sizeof *n);
            *part = (struct part){.file = f,
                                  .c = {.name = name,
                                        .n_dims = t->n_dims,
                                        .n = n,
                                        .at = t->offset,
                                        .decl = r->file[f].file}};
            TRY(listed_tensor(d, &r->file[f], &part->c, e));
        }
        TRY(sharding(d, &r->file[f], first, e));
    }
    return ST_OK;
}

/* The whole is as large as the parts reach. */
static enum status whole(struct dcp *d, struct dcp_item *it, const struct part *part, size_t n,
                         struct err *e)
{
    const struct dcp_chunk *c = &part[0].c;
    uint64_t *dim = ARENA_ARRAY(&d->m->arena, uint64_t, c->n_dims + 1u);
    *it = (struct dcp_item){.name = c->name,
                            .is_tensor = true,
                            .dtype = c->dtype,
                            .requires_grad = true,
                            .n_dims = c->n_dims,
                            .dim = dim,
                            .at = c->at};
    it->chunk = ARENA_ARRAY(&d->scratch, struct dcp_chunk, n);
    if (!dim || !it->chunk)
        return err_nomem(e, n * sizeof *it->chunk);
    if (n > DCP_CHUNKS_MAX)
        return err_set(e, ST_LIMIT, "dcp-chunks", "a tensor of more than %d parts", DCP_CHUNKS_MAX);
    for (; it->n_chunks < n; it->n_chunks++) {
        c = &part[it->n_chunks].c;
        it->chunk[it->n_chunks] = *c;
        for (size_t i = 0; i < it->n_dims && i < c->n_dims; i++)
            if (c->lo[i] + c->n[i] > dim[i]) /* both below 2^63 */
                dim[i] = c->lo[i] + c->n[i];
    }
    return ST_OK;
}

static enum status read_hf(struct reading *r, struct err *e)
{
    struct dcp *d = &r->d;
    size_t n = 0, k = 0;
    r->file = ARENA_ARRAY(&d->scratch, struct open_file, d->s->n_entries + 1);
    if (!r->file)
        return err_nomem(e, d->s->n_entries * sizeof *r->file);
    for (size_t i = 0; i < d->s->n_entries; i++)
        if (str_glob(HF_SHARD, d->s->entry[i].name)) {
            r->file[r->n_files].name = d->s->entry[i].name;
            TRY(open_one(r, &r->file[r->n_files], true, e));
            n += r->file[r->n_files++].tensors->n_tensors;
        }
    struct part *part = ARENA_ARRAY(&d->scratch, struct part, n + 1);
    struct dcp_item *item = ARENA_ARRAY(&d->scratch, struct dcp_item, n + 1);
    if (!part || !item)
        return err_nomem(e, n * sizeof *part);
    TRY(list_parts(r, part, e));
    if (n)
        qsort(part, n, sizeof *part, by_tensor);
    for (size_t i = 0; i < n; i = k) {
        uint32_t index;
        for (k = i; k < n && str_eq(part[k].c.name, part[i].c.name); k++)
            ;
        TRY(whole(d, &item[d->n_items], &part[i], k - i, e));
        TRY(dcp_join(d, &item[d->n_items++], &index, e));
    }
    return ST_OK;
}

static void warn_unused(const struct reading *r)
{
    const struct source *s = r->d.s;
    size_t n = 0;
    for (size_t i = 0; i < s->n_entries; i++) {
        const struct open_file want = {.name = s->entry[i].name};
        n += str_ends(want.name, STR(".distcp")) && s->entry[i].size > 0 &&
             !(r->n_files && bsearch(&want, r->file, r->n_files, sizeof want, by_name));
    }
    if (n)
        log_warn("%s: %zu .distcp files that .metadata does not name are left aside",
                 file_path(r->d.decl), n);
}

static enum status read_folder(struct reading *r, struct err *e)
{
    struct dcp *d = &r->d;
    if (!has(d->s, STR(".metadata")) && any(d->s, HF_SHARD))
        return read_hf(r, e);
    if (!has(d->s, STR(".metadata")))
        return err_set(e, ST_INPUT, "dcp-rank-metadata",
                       "each process left metadata of its own: save with collectives");
    TRY(dir_file(d->s->dir, STR(".metadata"), &d->decl, e));
    TRY(model_own_file(d->m, d->decl, e));
    TRY(dcp_metadata(d, e));
    TRY(open_files(r, e));
    for (size_t i = 0; i < d->n_items; i++)
        TRY(d->item[i].is_tensor ? tensor(r, &d->item[i], e) : value(r, &d->item[i], e));
    TRY(dcp_tree(d, e));
    warn_unused(r);
    return has(d->s, STR("meta.pt")) ? beside(d, e) : ST_OK;
}

static enum status dcp_read(struct source *s, const struct read_opt *opt, struct model *m,
                            struct err *e)
{
    struct reading r = {.d = {.s = s, .opt = opt, .m = m}};
    m->format = "torch-dcp";
    m->framework = STR("pytorch");
    enum status st = read_folder(&r, e);
    close_lists(&r);
    pytorch_close(&r.d.meta);
    arena_free(&r.d.scratch);
    TRY(st);
    return pytorch_finish(m, e);
}

static int bid(const struct source *s)
{
    if (!s->dir)
        return 0;
    if (any(s, STR("*.distcp")))
        return has(s, STR(".metadata")) || any(s, STR("__*.metadata")) ? 95 : 0;
    return any(s, HF_SHARD) ? 90 : 0;
}

static bool companion(struct str set, struct str name)
{
    return set.n == 0 && (str_ends(name, STR(".distcp")) || str_ends(name, STR(".metadata")) ||
                          str_is(name, "meta.pt") || str_glob(HF_SHARD, name));
}

const struct format torch_dcp_format = {
    .name = "torch-dcp",
    .title = "PyTorch distributed checkpoint, a folder of shards",
    .reads = true,
    .dir_source = true,
    .aliases = true,
    .trains = true,
    .refuses = "parts of a tensor that overlap or leave holes; values saved through stream "
               "extensions; folders with metadata of single processes only",
    .bid = bid,
    .companion = companion,
    .read = dcp_read,
};
