/* Archive: recognising, and the model with its tiles. */
#include "codec/zstd.h"
#include "format/archive_impl.h"
#include <string.h>

/* "README.txt" as the first tar header's name, and our word in the second frame: what a file whose
 * end is damaged or missing still shows. */
int ar_bid(const struct source *s)
{
    static const char name[] = "README.txt\0";
    static const uint8_t magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
    if (!s->file)
        return 0;
    if (frames_recognise(s->file))
        return 100;
    if (s->head_n < 4 || memcmp(s->head, magic, 4) != 0)
        return 0;
    struct str head = {(const char *)s->head, s->head_n};
    size_t at = str_find_str(head, (struct str){name, sizeof name - 1}, 0);
    if (at > 16)
        return 0;
    return str_find_str(head, STR("ustar"), at) < head.n ||
                   str_find_str(head, STR(AR_HEAD), at) < head.n
               ? 90
               : 0;
}

static size_t stored_max(void)
{
    return planes_bound(PLANES_CHUNK);
}
size_t ar_decoder_scratch(void)
{
    return stored_max() + planes_decode_scratch() + 2 * AR_SCRATCH_ALIGN;
}

struct tile_of {
    const struct ar_map *x;
    uint32_t tensor;
};

enum status ar_chunk_read(const struct ar_map *x, enum planes_kind k, uint64_t f, size_t n,
                          void *dst, void *scratch, const uint8_t **stream, struct err *e)
{
    const struct frames *fr = &x->fr;
    unsigned width = planes_info(k)->width;
    size_t size[PLANES_MAX];
    uint8_t *work = ar_align(scratch), *stored = work + planes_decode_scratch();
    if (fr->off[f + width] - fr->off[f] > stored_max()) {
        (void)err_set(e, ST_INPUT, "archive-frames", "frames larger than any of this size");
        err_at(e, file_path(fr->f), fr->off[f]);
        return ST_INPUT;
    }
    TRY(frames_fetch(fr, f, f + width, stored, e));
    for (unsigned i = 0; i < width; i++)
        size[i] = frame_stored(fr, f + i);
    enum status st = stream ? planes_decode_all(k, stored, size, dst, n, work, e)
                            : planes_decode(k, stored, size, dst, n, work, e);
    if (st != ST_OK)
        err_at(e, file_path(fr->f), fr->off[f]);
    if (stream)
        *stream = width > 1 ? work : dst;
    return st;
}

static enum status tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e)
{
    const struct tile_of *o = s->priv;
    const struct ar_tensor *x = &o->x->ar.tensor[o->tensor];
    uint64_t lo = t * PLANES_CHUNK;
    size_t n = x->bytes - lo < PLANES_CHUNK ? (size_t)(x->bytes - lo) : PLANES_CHUNK;
    return ar_chunk_read(o->x, x->kind, ar_tile_frame(o->x, o->tensor, t), n, dst, scratch, NULL,
                         e);
}

bool ar_tile_is(const struct storage *s, uint64_t t, const struct kept_slab *slab)
{
    if (s->dec != &ar_decoder || s->tile_bytes != PLANES_CHUNK || t >= s->n_tiles)
        return false;
    const struct tile_of *o = s->priv;
    const struct frames *fr = &o->x->fr;
    const struct planes_info *k = planes_info(o->x->ar.tensor[o->tensor].kind);
    uint64_t f = ar_tile_frame(o->x, o->tensor, t);
    if (strcmp(slab->encoder, k->name) != 0 || slab->n_pieces != k->width || fr->off[f] != slab->at)
        return false;
    for (unsigned i = 0; i < k->width; i++)
        if (frame_stored(fr, f + i) != slab->piece[i].stored ||
            frame_raw(fr, f + i) != slab->piece[i].raw ||
            memcmp(fr->check[f + i], slab->piece[i].check, 16) != 0)
            return false;
    return true;
}

const struct decoder ar_decoder = {.name = "planes", .tile = tile};

static enum status add_storage(struct model *m, const struct ar_map *x, uint32_t i, struct err *e)
{
    struct storage *s;
    struct tile_of *o = ARENA_NEW(&m->arena, struct tile_of);
    uint64_t bytes = x->ar.tensor[i].bytes;
    if (!o)
        return err_nomem(e, sizeof *o);
    *o = (struct tile_of){x, i};
    TRY(model_storage_add(m, &s, &m->tensor[i].storage, e));
    *s = (struct storage){.kind = STORAGE_TILED,
                          .file = x->fr.f,
                          .raw_bytes = bytes,
                          .n_tiles = bytes / PLANES_CHUNK + (bytes % PLANES_CHUNK != 0),
                          .tile_bytes = PLANES_CHUNK,
                          .scratch_bytes = ar_decoder_scratch(),
                          .dec = &ar_decoder,
                          .priv = o};
    s->offset = x->fr.off[x->first[i]];
    if (s->n_tiles > 0)
        s->stored_bytes = x->fr.off[ar_tile_frame(x, i, s->n_tiles - 1) +
                                    planes_info(x->ar.tensor[i].kind)->width] -
                          s->offset;
    return ST_OK;
}

static enum status add_attachments(struct model *m, const struct ar_map *x, struct err *e)
{
    size_t n = frames_scratch(&x->fr) + AR_SCRATCH_ALIGN;
    uint8_t *memory = m->n_attachments > 0 ? arena_alloc(&m->arena, n, 1) : NULL;
    if (m->n_attachments > 0 && !memory)
        return err_nomem(e, n);
    for (size_t i = 0; i < x->n_members; i++) {
        const struct ar_member *mb = &x->member[i];
        if (mb->what != AR_ATTACH)
            continue;
        uint8_t *p = arena_alloc(&m->arena, (size_t)mb->bytes + 1, 1);
        if (!p)
            return err_nomem(e, mb->bytes);
        TRY(ar_member_read(x, mb, p, ar_align(memory), e));
        m->attachment[mb->number].mem = p;
    }
    return ST_OK;
}

enum status ar_read(struct source *s, const struct read_opt *opt, struct model *m, struct err *e)
{
    struct ar_map *x;
    m->format = "archive";
    if (!s->file)
        return err_set(e, ST_INPUT, "not-a-file", "an archive is a file, not a folder");
    struct file *f = s->file;
    s->file = NULL;
    TRY(model_own_file(m, f, e));
    TRY(ar_open(f, m, &x, e));
    for (uint32_t i = 0; i < m->n_tensors; i++)
        if (m->tensor[i].alias_of < 0)
            TRY(add_storage(m, x, i, e));
    for (uint32_t i = 0; i < m->n_tensors; i++) {
        struct tensor *t = &m->tensor[i];
        if (t->alias_of >= 0)
            t->storage = m->tensor[t->alias_of].storage;
        /* messages name the place of the tensor's entry: the manifest's frame */
        t->decl = f;
        t->offset = x->fr.off[x->fr.index];
    }
    if (opt->weights_only)
        m->n_attachments = 0;
    else
        TRY(add_attachments(m, x, e));
    return model_finish(m, e);
}
