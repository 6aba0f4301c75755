/* Archive: from the frames to the members. What the manifest says gives every member's name and
 * size; the walk over the frames proves that the file holds these members, in the one order, cut
 * into frames the one way, under the tar headers we would write, and nothing else.
 *
 * Refused: archive-member (a tar header that is not the expected one), archive-frames (frames that
 * are not cut as they should be, too many, too few), frame-ratio (metadata that would grow more
 * than its limit), archive-padding (padding that is not zero).
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/tar.h"
#include "format/archive_impl.h"
#include <string.h>

#define ATTACH_RATIO 16 /* raw over stored bytes of an attachment's frame, at most */

struct walk {
    struct ar_map *x;
    struct model *m;
    void *scratch;
    uint8_t *block; /* a decoded header or padding */
    uint64_t next;  /* frame */
    size_t cap;     /* of x->member */
    struct err *e;
};

static enum status bad(struct walk *w, uint64_t frame, const char *code, const char *why)
{
    const struct frames *fr = &w->x->fr;
    (void)err_set(w->e, ST_INPUT, code, "%s", why);
    err_at(w->e, file_path(fr->f), fr->off[frame <= fr->n ? frame : fr->n]);
    return ST_INPUT;
}

static enum status bad_in(struct walk *w, uint64_t frame, const char *code, struct str name,
                          const char *why)
{
    (void)bad(w, frame, code, why);
    err_in(w->e, name.p, name.n);
    return ST_INPUT;
}

static enum status header(struct walk *w, struct str name, uint64_t *bytes, bool any_size)
{
    struct ar_map *x = w->x;
    uint8_t want[TAR_BLOCK];
    uint64_t size = *bytes;
    if (w->next >= x->fr.n || frame_raw(&x->fr, w->next) != TAR_BLOCK)
        return bad_in(w, w->next, "archive-frames", name, "no frame with this member's header");
    TRY(frames_decode(&x->fr, w->next, w->block, w->scratch, w->e));
    if (any_size && !tar_size(w->block, &size))
        size = 0;
    if (!tar_header(want, name, size) || memcmp(w->block, want, TAR_BLOCK) != 0)
        return bad_in(w, w->next, "archive-member", name,
                      "the tar header here is not this member's");
    *bytes = size;
    w->next++;
    return ST_OK;
}

/* The frames of n bytes cut into chunks of `width` frames each. ratio: how many raw bytes a stored
 * byte may give, 0 = any. */
static enum status data(struct walk *w, uint64_t n, unsigned width, unsigned ratio)
{
    const struct frames *fr = &w->x->fr;
    for (uint64_t lo = 0; lo < n; lo += PLANES_CHUNK) {
        size_t chunk = n - lo < PLANES_CHUNK ? (size_t)(n - lo) : PLANES_CHUNK;
        for (unsigned k = 0; k < width; k++, w->next++) {
            if (w->next >= fr->n || frame_raw(fr, w->next) * width != chunk)
                return bad(w, w->next, "archive-frames",
                           "the frames do not follow the member's size");
            if (ratio > 0 && frame_raw(fr, w->next) / ratio > frame_stored(fr, w->next))
                return bad(w, w->next, "frame-ratio", "metadata that grows too much");
        }
    }
    return ST_OK;
}

static enum status zeros(struct walk *w, size_t n)
{
    const struct frames *fr = &w->x->fr;
    if (n == 0)
        return ST_OK;
    if (w->next >= fr->n || frame_raw(fr, w->next) != n)
        return bad(w, w->next, "archive-frames", "no frame of padding where one belongs");
    TRY(frames_decode(fr, w->next, w->block, w->scratch, w->e));
    for (size_t i = 0; i < n; i++)
        if (w->block[i] != 0)
            return bad(w, w->next, "archive-padding", "padding that is not zero");
    w->next++;
    return ST_OK;
}

static enum status add(struct walk *w, const struct ar_member *mb)
{
    struct ar_map *x = w->x;
    if (x->n_members == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 16;
        struct ar_member *v = ARENA_ARRAY(&w->m->arena, struct ar_member, cap);
        if (!v)
            return err_nomem(w->e, cap * sizeof *v);
        if (x->n_members > 0)
            memcpy(v, x->member, x->n_members * sizeof *v);
        x->member = v;
        w->cap = cap;
    }
    x->member[x->n_members++] = *mb;
    return ST_OK;
}

/* A member of one run of data. */
static enum status member(struct walk *w, enum ar_what what, struct str name, uint64_t bytes,
                          bool any_size, uint32_t number)
{
    struct ar_member mb = {.what = what, .name = name, .head = w->next, .number = number};
    if (!name.p)
        return err_nomem(w->e, 64);
    TRY(header(w, name, &bytes, any_size));
    mb.bytes = bytes;
    mb.first = w->next;
    TRY(data(w, bytes, 1, what == AR_ATTACH ? ATTACH_RATIO : 1));
    mb.end = w->next;
    TRY(zeros(w, tar_pad(bytes)));
    return add(w, &mb);
}

static enum status weights_in_planes(struct walk *w)
{
    struct ar_map *x = w->x;
    for (uint32_t i = 0; i < w->m->n_tensors; i++) {
        const struct ar_tensor *t = &x->ar.tensor[i];
        if (w->m->tensor[i].alias_of >= 0)
            continue;
        x->order[x->n_order++] = i;
        x->first[i] = w->next + 1;
        for (uint32_t p = 0; p < ar_parts(t->bytes); p++) {
            struct ar_member mb = {.what = AR_WEIGHT, .head = w->next, .number = i, .part = p};
            mb.name = ar_part_name(&w->m->arena, i, p);
            mb.bytes = ar_part_bytes(t->bytes, p);
            if (!mb.name.p)
                return err_nomem(w->e, 64);
            TRY(header(w, mb.name, &mb.bytes, false));
            mb.first = w->next;
            TRY(data(w, mb.bytes, planes_info(t->kind)->width, 0));
            mb.end = w->next;
            TRY(zeros(w, tar_pad(mb.bytes)));
            TRY(add(w, &mb));
        }
    }
    return ST_OK;
}

static enum status shard(struct walk *w, uint32_t s, size_t *at)
{
    struct ar_map *x = w->x;
    const struct ar *ar = &x->ar;
    struct ar_member mb = {.what = AR_WEIGHT, .head = w->next, .number = s};
    struct buf text = BUF_INIT;
    size_t hi = *at;
    mb.name = ar_shard_name(&w->m->arena, s, ar->n_shards);
    mb.bytes = ar->shard_head[s];
    if (!mb.name.p)
        return err_nomem(w->e, 64);
    while (hi < x->n_order && ar->tensor[x->order[hi]].member == s)
        mb.bytes += ar->tensor[x->order[hi++]].bytes;
    TRY(header(w, mb.name, &mb.bytes, false));
    mb.first = w->next;
    TRY(data(w, ar->shard_head[s], 1, 1));
    /* the shard's own header must say what the manifest says */
    enum status st = ar_plain_header(w->m, ar, x->order, x->n_order, s, &text, w->e);
    for (uint64_t f = mb.first, lo = 0; st == ST_OK && f < w->next; lo += PLANES_CHUNK, f++) {
        st = frames_decode(&x->fr, f, w->block, w->scratch, w->e);
        if (st == ST_OK && memcmp(w->block, text.p + lo, frame_raw(&x->fr, f)) != 0)
            st = bad_in(w, f, "archive-shard", mb.name,
                        "the shard's header differs from the manifest");
    }
    buf_free(&text);
    TRY(st);
    for (; *at < hi; ++*at) {
        x->first[x->order[*at]] = w->next;
        TRY(data(w, ar->tensor[x->order[*at]].bytes, 1, 0));
    }
    mb.end = w->next;
    TRY(zeros(w, tar_pad(mb.bytes)));
    return add(w, &mb);
}

static enum status weights_plain(struct walk *w)
{
    struct ar_map *x = w->x;
    struct ar own = x->ar;
    own.tensor = ARENA_ARRAY(&w->m->arena, struct ar_tensor, w->m->n_tensors + 1);
    if (!own.tensor)
        return err_nomem(w->e, w->m->n_tensors * sizeof *own.tensor);
    memcpy(own.tensor, x->ar.tensor, w->m->n_tensors * sizeof *own.tensor);
    enum status st = ar_plain_lay(w->m, &own, &w->m->arena, &x->order, &x->n_order, w->e);
    if (st == ST_CANNOT)
        return bad(w, x->fr.index, "manifest-value", "tensors that no shard can hold");
    TRY(st);
    bool same = own.n_shards == x->ar.n_shards &&
                (own.n_shards == 0 || memcmp(own.shard_head, x->ar.shard_head,
                                             own.n_shards * sizeof *own.shard_head) == 0);
    for (size_t i = 0; same && i < w->m->n_tensors; i++)
        same = own.tensor[i].member == x->ar.tensor[i].member &&
               own.tensor[i].at == x->ar.tensor[i].at;
    if (!same)
        return bad(w, x->fr.index, "manifest-value", "tensors do not lie where they belong");
    size_t at = 0;
    for (uint32_t s = 0; s < x->ar.n_shards; s++)
        TRY(shard(w, s, &at));
    return ST_OK;
}

static enum status walk_all(struct walk *w, bool tree, uint64_t manifest_bytes)
{
    struct ar_map *x = w->x;
    TRY(member(w, AR_README, STR("README.txt"), 0, true, 0));
    TRY(x->ar.plain ? weights_plain(w) : weights_in_planes(w));
    for (uint32_t i = 0; i < w->m->n_attachments; i++)
        TRY(member(w, AR_ATTACH, x->ar.attach[i], w->m->attachment[i].n_bytes, false, i));
    if (tree)
        TRY(member(w, AR_TREE, STR("train.json"), 0, true, 0));
    if (x->ar.provenance)
        TRY(member(w, AR_PROVENANCE, STR("provenance.json"), 0, true, 0));
    if (w->next != x->fr.index)
        return bad(w, w->next, "archive-frames", "the manifest does not follow here");
    x->manifest = x->n_members;
    TRY(member(w, AR_MANIFEST, STR("manifest.json"), manifest_bytes, false, 0));
    TRY(member(w, AR_SUMS, STR("SHA256SUMS"), 0, true, 0));
    TRY(zeros(w, 2 * TAR_BLOCK));
    if (w->next != x->fr.n)
        return bad(w, w->next, "archive-frames", "frames after the end of the tar stream");
    return ST_OK;
}

enum status ar_member_read(const struct ar_map *x, const struct ar_member *mb, uint8_t *dst,
                           void *scratch, struct err *e)
{
    for (uint64_t f = mb->first; f < mb->end; f++) {
        TRY(frames_decode(&x->fr, f, dst, scratch, e));
        dst += frame_raw(&x->fr, f);
    }
    return ST_OK;
}

/* Finds the manifest from the end and reads it. */
static enum status read_manifest(struct walk *w, bool *tree, uint64_t *bytes)
{
    struct ar_map *x = w->x;
    struct buf text = BUF_INIT;
    struct ar_member mb = {.first = x->fr.index + 1};
    w->next = x->fr.index;
    TRY(header(w, STR("manifest.json"), bytes, true));
    if (*bytes > file_size(x->fr.f))
        return bad(w, x->fr.index, "archive-frames", "the manifest is longer than the file");
    TRY(data(w, *bytes, 1, 1));
    mb.end = w->next;
    if (!buf_reserve(&text, (size_t)*bytes + 1)) {
        buf_free(&text);
        return err_nomem(w->e, *bytes);
    }
    text.n = (size_t)*bytes;
    enum status st = ar_member_read(x, &mb, text.p, w->scratch, w->e);
    if (st == ST_OK)
        st = ar_manifest_read(&x->fr, text.p, text.n, w->m, &x->ar, tree, w->e);
    buf_free(&text);
    return st;
}

/* train.json or provenance.json, where it is there. */
static enum status read_text(struct walk *w, enum ar_what what)
{
    struct ar_map *x = w->x;
    for (size_t i = 0; i < x->n_members; i++) {
        const struct ar_member *mb = &x->member[i];
        if (mb->what != what)
            continue;
        struct buf text = BUF_INIT;
        const char *file = file_path(x->fr.f);
        uint64_t at = x->fr.off[mb->head];
        enum status st = ST_OK;
        if (!buf_reserve(&text, (size_t)mb->bytes + 1))
            st = err_nomem(w->e, mb->bytes);
        text.n = (size_t)mb->bytes;
        if (st == ST_OK)
            st = ar_member_read(x, mb, text.p, w->scratch, w->e);
        if (st == ST_OK)
            st = what == AR_TREE ? ar_tree_read(text.p, text.n, file, at, w->m, w->e)
                                 : ar_origin_read(text.p, text.n, file, at, w->m, w->e);
        buf_free(&text);
        return st;
    }
    return ST_OK;
}

static enum status open_with(struct walk *w)
{
    struct ar_map *x = w->x;
    bool tree;
    uint64_t bytes = 0;
    TRY(read_manifest(w, &tree, &bytes));
    x->first = ARENA_ARRAY(&w->m->arena, uint64_t, w->m->n_tensors + 1);
    x->order = ARENA_ARRAY(&w->m->arena, uint32_t, w->m->n_tensors + 1);
    if (!x->first || !x->order)
        return err_nomem(w->e, w->m->n_tensors * sizeof *x->first);
    w->next = 0;
    TRY(walk_all(w, tree, bytes));
    TRY(read_text(w, AR_TREE));
    return read_text(w, AR_PROVENANCE);
}

enum status ar_open(struct file *f, struct model *m, struct ar_map **out, struct err *e)
{
    struct ar_map *x = *out = ARENA_NEW(&m->arena, struct ar_map);
    struct walk w = {.x = x, .m = m, .e = e};
    if (!x)
        return err_nomem(e, sizeof *x);
    TRY(frames_open(f, &m->arena, &x->fr, e));
    uint8_t *memory = mem_alloc(frames_scratch(&x->fr) + x->fr.raw_max + AR_SCRATCH_ALIGN);
    if (!memory)
        return err_nomem(e, frames_scratch(&x->fr) + x->fr.raw_max);
    w.scratch = ar_align(memory);
    w.block = (uint8_t *)w.scratch + frames_scratch(&x->fr);
    enum status st = open_with(&w);
    mem_free(memory);
    return st;
}

uint64_t ar_tile_frame(const struct ar_map *x, uint32_t tensor, uint64_t tile)
{
    const struct ar_tensor *t = &x->ar.tensor[tensor];
    uint64_t parts = x->ar.plain ? 0 : tile / (AR_PART_BYTES / PLANES_CHUNK);
    return x->first[tensor] + tile * planes_info(t->kind)->width + parts; /* a header each */
}
