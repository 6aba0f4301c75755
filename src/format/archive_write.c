/* Archive, writing: the engine appends tensors through our encoders; tar headers and padding go
 * around them as stored frames; the rest follows in end(). Frames are noted as they are placed, and
 * sorted into one list at the end: every note knows its offset.
 */
#include "base/mem.h"
#include "codec/json.h"
#include "codec/tar.h"
#include "codec/xxh.h"
#include "codec/zstd.h"
#include "format/archive_impl.h"
#include <string.h>

#define ATTACH_RATIO 16 /* the reader takes no more growth (archive_map.c) */

/* ---- encoders: one for each kind of planes ---- */

static enum status encode(enum planes_kind k, const void *raw, size_t n, void *dst, size_t cap,
                          void *scratch, size_t *stored, struct piece *piece, size_t *n_pieces,
                          struct err *e)
{
    size_t size[PLANES_MAX];
    unsigned width = planes_info(k)->width;
    uint8_t *p = dst;
    TRY(planes_encode(k, raw, n, dst, cap, ar_align(scratch), size, e));
    for (unsigned i = 0; i < width; i++) {
        piece[i].stored = (uint32_t)size[i];
        piece[i].raw = (uint32_t)(n / width);
        xxh128(p, size[i], piece[i].check);
        p += size[i];
    }
    *stored = (size_t)(p - (uint8_t *)dst);
    *n_pieces = width;
    return ST_OK;
}

static bool holds(enum planes_kind k, const void *stored, const struct piece *piece,
                  size_t n_pieces, const void *raw, size_t n, void *scratch)
{
    size_t size[PLANES_MAX];
    const uint8_t *p = stored;
    uint8_t sum[16];
    if (n_pieces != planes_info(k)->width)
        return false;
    for (size_t i = 0; i < n_pieces; p += size[i++]) {
        size[i] = piece[i].stored;
        xxh128(p, size[i], sum);
        if (memcmp(sum, piece[i].check, sizeof sum) != 0)
            return false;
    }
    return planes_hold(k, stored, size, raw, n, ar_align(scratch));
}

#define ENCODER(KIND)                                                                              \
    static enum status encode_##KIND(const void *raw, size_t n, enum dtype dtype, bool is_first,   \
                                     bool is_last, void *dst, size_t cap, void *scratch,           \
                                     size_t *stored, struct piece *piece, size_t max_pieces,       \
                                     size_t *n_pieces, struct err *e)                              \
    {                                                                                              \
        (void)dtype;                                                                               \
        (void)is_first;                                                                            \
        (void)is_last;                                                                             \
        if (max_pieces < planes_info(KIND)->width)                                                 \
            return err_set(e, ST_BUG, "planes", "no room for the frames");                         \
        return encode(KIND, raw, n, dst, cap, scratch, stored, piece, n_pieces, e);                \
    }                                                                                              \
    static bool holds_##KIND(const void *stored, const struct piece *piece, size_t n_pieces,       \
                             const void *raw, size_t n, void *scratch)                             \
    {                                                                                              \
        return holds(KIND, stored, piece, n_pieces, raw, n, scratch);                              \
    }
ENCODER(PLANES_NONE)
ENCODER(PLANES_BYTE)
ENCODER(PLANES_SPLIT2)
ENCODER(PLANES_ROT2)
ENCODER(PLANES_ROT4)
ENCODER(PLANES_ROT8)

typedef enum status (*encode_fn)(const void *, size_t, enum dtype, bool, bool, void *, size_t,
                                 void *, size_t *, struct piece *, size_t, size_t *, struct err *);
static const encode_fn encode_of[PLANES_N] = {
    [PLANES_NONE] = encode_PLANES_NONE,     [PLANES_BYTE] = encode_PLANES_BYTE,
    [PLANES_SPLIT2] = encode_PLANES_SPLIT2, [PLANES_ROT2] = encode_PLANES_ROT2,
    [PLANES_ROT4] = encode_PLANES_ROT4,     [PLANES_ROT8] = encode_PLANES_ROT8,
};

typedef bool (*holds_fn)(const void *, const struct piece *, size_t, const void *, size_t, void *);
static const holds_fn holds_of[PLANES_N] = {
    [PLANES_NONE] = holds_PLANES_NONE,     [PLANES_BYTE] = holds_PLANES_BYTE,
    [PLANES_SPLIT2] = holds_PLANES_SPLIT2, [PLANES_ROT2] = holds_PLANES_ROT2,
    [PLANES_ROT4] = holds_PLANES_ROT4,     [PLANES_ROT8] = holds_PLANES_ROT8,
};

/* ---- state ---- */

struct note {
    uint64_t at;
    struct frame_note f;
};
struct state {
    struct ar ar;
    int file;
    struct note *note;
    size_t n_notes, cap;
    uint32_t part; /* of the tensor being written */
    /* plain: tensors still to come in the shard, its padding, the next shard's place in order */
    size_t shard_left, shard_pad, at;
    uint32_t *order; /* as written, without aliases */
    size_t n_order;
    struct encoder encoder[PLANES_N];
    struct buf sums; /* SHA256SUMS; freed in end() */
    uint64_t manifest_at;
    uint8_t *memory, *scratch, *stored, *bite; /* for end() */
};

static enum status note(struct writer *w, uint64_t at, const uint8_t *p, size_t stored, size_t raw,
                        struct err *e)
{
    struct state *s = w->priv;
    if (s->n_notes == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        struct note *v = ARENA_ARRAY(&w->arena, struct note, cap);
        if (!v)
            return err_nomem(e, cap * sizeof *v);
        if (s->n_notes > 0)
            memcpy(v, s->note, s->n_notes * sizeof *v);
        s->note = v;
        s->cap = cap;
    }
    struct note *n = &s->note[s->n_notes++];
    n->at = at;
    n->f.stored = (uint32_t)stored;
    n->f.raw = (uint32_t)raw;
    xxh128(p, stored, n->f.check);
    return ST_OK;
}

/* Appends stored frames of p[0..n) to b, the first of which lies at offset `at`. */
static enum status stored_frames(struct writer *w, struct buf *b, uint64_t at, const void *p,
                                 size_t n, struct err *e)
{
    for (size_t lo = 0; lo < n; lo += ZS_FRAME_MAX) {
        size_t m = n - lo < ZS_FRAME_MAX ? n - lo : ZS_FRAME_MAX, stored;
        if (!buf_reserve(b, zs_bound(m)))
            return err_nomem(e, zs_bound(m));
        TRY(zs_encode(ZS_RAW, (const uint8_t *)p + lo, m, b->p + b->n, zs_bound(m), NULL, &stored,
                      e));
        TRY(note(w, at, b->p + b->n, stored, m, e));
        b->n += stored;
        at += stored;
    }
    return ST_OK;
}

static enum status put_header(struct writer *w, struct buf *b, uint64_t at, struct str name,
                              uint64_t bytes, struct err *e)
{
    uint8_t h[TAR_BLOCK];
    if (!name.p)
        return err_nomem(e, 64);
    if (!tar_header(h, name, bytes))
        return err_set(e, ST_BUG, "tar-name", "a member's name does not fit a tar header");
    return stored_frames(w, b, at, h, sizeof h, e);
}

static enum status put_zeros(struct writer *w, struct buf *b, uint64_t at, size_t n, struct err *e)
{
    static const uint8_t zero[2 * TAR_BLOCK];
    return n > 0 ? stored_frames(w, b, at, zero, n, e) : ST_OK;
}

/* ---- check and begin ---- */

static enum status not_utf8(struct err *e, const char *what, struct str name)
{
    (void)err_set(e, ST_CANNOT, "not-utf8", "%s is not UTF-8", what);
    err_in(e, name.p, name.n);
    return ST_CANNOT;
}

static enum status facts(const struct model *m, const struct write_opt *opt, struct arena *a,
                         struct state *s, struct err *e)
{
    struct ar *ar = &s->ar;
    ar->plain = opt->plain;
    ar->sums_full = opt->sums_full;
    ar->provenance = opt->origin != NULL;
    ar->tensor = ARENA_ARRAY(a, struct ar_tensor, m->n_tensors + 1);
    ar->attach = ARENA_ARRAY(a, struct str, m->n_attachments + 1);
    s->order = ARENA_ARRAY(a, uint32_t, m->n_tensors + 1);
    if (!ar->tensor || !ar->attach || !s->order)
        return err_nomem(e, m->n_tensors * sizeof *ar->tensor);
    for (uint32_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        struct ar_tensor *x = &ar->tensor[i];
        if (!ar_span(t->dtype, tensor_elems(t), ar->plain, &x->bytes, &x->unpacked)) {
            (void)err_set(e, ST_CANNOT, "part-byte",
                          "the plain layout packs values below a byte and cannot hold this tensor, "
                          "--layout planes can");
            err_in(e, t->name.p, t->name.n);
            return ST_CANNOT;
        }
        x->kind = ar_kind(t->dtype, x->bytes, ar->plain);
        x->member = t->alias_of < 0 ? i : (uint32_t)t->alias_of;
        if (t->alias_of < 0)
            s->order[s->n_order++] = i;
    }
    for (size_t i = 0; i < m->n_attachments; i++) {
        ar->attach[i] = ar_attach_name(a, m->attachment[i].name, i);
        if (!ar->attach[i].p)
            return err_nomem(e, 64);
    }
    return ar->plain ? ar_plain_lay(m, ar, a, &s->order, &s->n_order, e) : ST_OK;
}

enum status ar_check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    size_t bad;
    if (!str_utf8(m->framework, &bad))
        return not_utf8(e, "the framework's name", m->framework);
    for (size_t i = 0; i < m->n_tensors; i++)
        if (!str_utf8(m->tensor[i].name, &bad))
            return not_utf8(e, "a tensor's name", m->tensor[i].name);
    for (size_t i = 0; i < m->n_attachments; i++)
        if (!str_utf8(m->attachment[i].name, &bad) || !str_utf8(m->attachment[i].media_type, &bad))
            return not_utf8(e, "an attachment's name", m->attachment[i].name);
    for (size_t i = 0; i < m->n_meta; i++)
        if (!str_utf8(m->meta[i].key, &bad) || !str_utf8(m->meta[i].value, &bad))
            return not_utf8(e, "a metadata value", m->meta[i].key);
    TRY(ar_tree_check(m, e));
    struct arena a = ARENA_INIT;
    struct state s = {0};
    enum status st = facts(m, opt, &a, &s, e);
    arena_free(&a);
    return st;
}

static size_t bound(size_t n)
{
    return planes_bound(n);
}

static void set_places(struct writer *w, struct state *s)
{
    size_t scratch = planes_encode_scratch() > planes_holds_scratch() ? planes_encode_scratch()
                                                                      : planes_holds_scratch();
    for (int k = 0; k < PLANES_N; k++)
        s->encoder[k] = (struct encoder){.name = planes_info((enum planes_kind)k)->name,
                                         .slab_bytes = PLANES_CHUNK,
                                         .bound = bound,
                                         .scratch_bytes = scratch + AR_SCRATCH_ALIGN,
                                         .encode = encode_of[k],
                                         .max_pieces = PLANES_MAX,
                                         .holds = holds_of[k]};
    size_t at = s->n_order;
    for (size_t i = 0; i < s->n_order; i++) {
        uint32_t t = s->order[i];
        w->order[i] = t;
        w->place[t] = (struct place){.kind = PLACE_APPEND,
                                     .file = s->file,
                                     .want = WANT_TREE,
                                     .enc = &s->encoder[s->ar.tensor[t].kind],
                                     .unpacked = s->ar.tensor[t].unpacked,
                                     .part_bytes = s->ar.plain ? 0 : AR_PART_BYTES};
    }
    for (uint32_t t = 0; t < w->m->n_tensors; t++)
        if (w->m->tensor[t].alias_of >= 0)
            w->order[at++] = t;
}

static void add_sum(struct state *s, const uint8_t digest[32], struct str name)
{
    char hex[65];
    sha256_hex(digest, hex);
    buf_z(&s->sums, hex);
    buf_z(&s->sums, "  ");
    buf_str(&s->sums, name);
    buf_u8(&s->sums, '\n');
}

enum status ar_begin(struct writer *w, struct err *e)
{
    struct state *s = w->priv = ARENA_NEW(&w->arena, struct state);
    const char *text = ar_readme(w->opt.plain);
    struct buf b = BUF_INIT;
    if (!s)
        return err_nomem(e, sizeof *s);
    TRY(facts(w->m, &w->opt, &w->arena, s, e));
    TRY(out_add(w->out, STR(""), OUT_GROWS, &s->file, e));
    enum status st = put_header(w, &b, 0, STR("README.txt"), strlen(text), e);
    if (st == ST_OK)
        st = stored_frames(w, &b, b.n, text, strlen(text), e);
    if (st == ST_OK)
        st = put_zeros(w, &b, b.n, tar_pad(strlen(text)), e);
    if (st == ST_OK)
        st = out_pwrite(w->out, s->file, b.p, b.n, 0, e);
    w->file_end[s->file] = b.n;
    buf_free(&b);
    TRY(st);
    set_places(w, s);
    return ST_OK;
}

/* ---- around the tensors ---- */

static enum status around_plain(struct writer *w, uint32_t t, int when, uint64_t at,
                                struct buf *extra, struct err *e)
{
    struct state *s = w->priv;
    struct buf text = BUF_INIT;
    uint32_t shard = s->ar.tensor[t].member;
    uint64_t bytes = s->ar.shard_head[shard];
    if (when == 1) {
        s->shard_left--;
        return s->shard_left == 0 ? put_zeros(w, extra, at, s->shard_pad, e) : ST_OK;
    }
    if (when != 0 || s->shard_left > 0)
        return ST_OK;
    /* the first of a shard: the engine keeps to our order */
    for (; s->at < s->n_order && s->ar.tensor[s->order[s->at]].member == shard; s->at++) {
        bytes += s->ar.tensor[s->order[s->at]].bytes;
        s->shard_left++;
    }
    s->shard_pad = tar_pad(bytes);
    TRY(put_header(w, extra, at, ar_shard_name(&w->arena, shard, s->ar.n_shards), bytes, e));
    enum status st = ar_plain_header(w->m, &s->ar, s->order, s->n_order, shard, &text, e);
    if (st == ST_OK)
        st = stored_frames(w, extra, at + extra->n, text.p, text.n, e);
    buf_free(&text);
    return st;
}

enum status ar_around(struct writer *w, uint32_t t, int when, uint64_t at, struct buf *extra,
                      struct err *e)
{
    struct state *s = w->priv;
    if (w->place[t].kind == PLACE_NONE)
        return ST_OK;
    if (s->ar.plain)
        return around_plain(w, t, when, at, extra, e);
    uint64_t bytes = s->ar.tensor[t].bytes;
    if (when == 0)
        s->part = 0;
    else
        TRY(put_zeros(w, extra, at, tar_pad(ar_part_bytes(bytes, s->part++)), e));
    if (when == 1)
        return ST_OK;
    struct arena a = ARENA_INIT;
    enum status st = put_header(w, extra, at + extra->n, ar_part_name(&a, t, s->part),
                                ar_part_bytes(bytes, s->part), e);
    arena_free(&a);
    return st;
}

/* ---- end ---- */

/* Where the bytes of a member come from: memory, or a file. */
struct bytes {
    const uint8_t *mem;
    struct file *file;
    uint64_t offset, n;
};

/* The last frame noted, as the file holds it: no reader looks at every member when it opens. */
static enum status last_holds(struct writer *w, struct err *e)
{
    struct state *s = w->priv;
    const struct note *n = &s->note[s->n_notes - 1];
    struct xxh128 x;
    uint8_t bite[16384], sum[16];
    xxh128_begin(&x);
    for (size_t lo = 0; lo < n->f.stored; lo += sizeof bite) {
        size_t m = n->f.stored - lo < sizeof bite ? n->f.stored - lo : sizeof bite;
        TRY(out_pread(w->out, s->file, bite, m, n->at + lo, e));
        xxh128_add(&x, bite, m);
    }
    xxh128_end(&x, sum);
    if (memcmp(sum, n->f.check, sizeof sum) != 0)
        return err_set(e, ST_OUTPUT, "readback", "what was written reads back with other bytes");
    return ST_OK;
}

static enum status put_frame(struct writer *w, enum zs_how how, const uint8_t *p, size_t n,
                             struct err *e)
{
    struct state *s = w->priv;
    size_t stored;
    uint64_t at = w->file_end[s->file];
    TRY(zs_encode(how, p, n, s->stored, zs_bound(n), s->scratch, &stored, e));
    if (how != ZS_RAW && n / ATTACH_RATIO > stored)
        TRY(zs_encode(ZS_RAW, p, n, s->stored, zs_bound(n), s->scratch, &stored, e));
    TRY(note(w, at, s->stored, stored, n, e));
    TRY(out_pwrite(w->out, s->file, s->stored, stored, at, e));
    w->file_end[s->file] = at + stored;
    return last_holds(w, e);
}

static enum status put_member(struct writer *w, struct str name, struct bytes b, enum zs_how how,
                              bool listed, struct err *e)
{
    struct state *s = w->priv;
    struct sha256 sum;
    uint8_t block[TAR_BLOCK], digest[32];
    if (!tar_header(block, name, b.n))
        return err_set(e, ST_BUG, "tar-name", "a member's name does not fit a tar header");
    TRY(put_frame(w, ZS_RAW, block, TAR_BLOCK, e));
    sha256_begin(&sum);
    for (uint64_t lo = 0; lo < b.n; lo += ZS_FRAME_MAX) {
        size_t m = b.n - lo < ZS_FRAME_MAX ? (size_t)(b.n - lo) : ZS_FRAME_MAX;
        const uint8_t *p = b.mem ? b.mem + lo : s->bite;
        if (!b.mem)
            TRY(file_pread(b.file, s->bite, m, b.offset + lo, e));
        sha256_add(&sum, p, m);
        TRY(put_frame(w, how, p, m, e));
    }
    sha256_end(&sum, digest);
    if (listed)
        add_sum(s, digest, name);
    memset(block, 0, sizeof block);
    return tar_pad(b.n) > 0 ? put_frame(w, ZS_RAW, block, tar_pad(b.n), e) : ST_OK;
}

/* All notes and pieces in file order. */
static enum status all_frames(struct writer *w, struct frame_note **out, uint64_t *n,
                              uint64_t *index, struct err *e)
{
    struct state *s = w->priv;
    uint64_t total = s->n_notes, at = 0, end = w->file_end[s->file];
    for (size_t i = 0; i < s->n_order; i++)
        total += w->placed[s->order[i]].n_pieces;
    struct frame_note *f = ARENA_ARRAY(&w->arena, struct frame_note, total + 1);
    if (!f)
        return err_nomem(e, total * sizeof *f);
    size_t k = 0, t = 0, p = 0;
    *index = 0;
    for (*n = 0; at < end && *n < total; (*n)++) {
        while (t < s->n_order && p == w->placed[s->order[t]].n_pieces) {
            t++;
            p = 0;
        }
        if (k < s->n_notes && s->note[k].at == at) {
            if (at == s->manifest_at)
                *index = *n;
            f[*n] = s->note[k++].f;
        } else if (t < s->n_order) {
            const struct piece *x = &w->placed[s->order[t]].piece[p++];
            f[*n] = (struct frame_note){.stored = x->stored, .raw = x->raw};
            memcpy(f[*n].check, x->check, 16);
        } else {
            break;
        }
        at += f[*n].stored;
    }
    if (at != end || *n != total)
        return err_set(e, ST_BUG, "archive-frames", "the frames noted do not fill the file");
    *out = f;
    return ST_OK;
}

/* --sums full: the weights' members as tar gives them, from the file so far. */
static enum status sum_weights(struct writer *w, struct err *e)
{
    struct state *s = w->priv;
    struct frame_note *f;
    uint64_t n, index, at = 0, left = 0;
    struct sha256 sum;
    char name[101] = "";
    TRY(all_frames(w, &f, &n, &index, e));
    enum status st = ST_OK;
    for (uint64_t i = 0; st == ST_OK && i < n; at += f[i++].stored) {
        bool data = left > 0;
        if (!data && f[i].raw != TAR_BLOCK)
            continue; /* padding */
        st = out_pread(w->out, s->file, s->stored, f[i].stored, at, e);
        if (st == ST_OK)
            st = zs_decode(s->stored, f[i].stored, s->bite, f[i].raw, s->scratch, e);
        if (st != ST_OK)
            break;
        if (data) {
            sha256_add(&sum, s->bite, f[i].raw);
            left -= f[i].raw;
        } else {
            memcpy(name, s->bite, 100);
            if (!tar_size(s->bite, &left))
                st = err_set(e, ST_BUG, "tar-name", "a header of ours cannot be read");
            sha256_begin(&sum);
        }
        if (left == 0 && strncmp(name, "weights/", 8) == 0) {
            uint8_t digest[32];
            sha256_end(&sum, digest);
            add_sum(s, digest, str_from(name));
        }
    }
    return st;
}

static enum status put_rest(struct writer *w, struct buf *text, struct err *e)
{
    struct state *s = w->priv;
    const struct model *m = w->m;
    const char *readme = ar_readme(s->ar.plain);
    uint8_t digest[32];
    sha256(readme, strlen(readme), digest);
    add_sum(s, digest, STR("README.txt"));
    if (s->ar.sums_full)
        TRY(sum_weights(w, e));
    for (size_t i = 0; i < m->n_attachments; i++) {
        const struct attachment *a = &m->attachment[i];
        struct bytes b = {a->mem, a->file, a->offset, a->n_bytes};
        TRY(put_member(w, s->ar.attach[i], b, ZS_USUAL, true, e));
    }
    if (m->tree) {
        TRY(ar_tree_write(m, text, e));
        TRY(put_member(w, STR("train.json"), (struct bytes){text->p, NULL, 0, text->n}, ZS_RAW,
                       true, e));
    }
    if (s->ar.provenance) {
        buf_clear(text);
        TRY(ar_origin_write(w->opt.origin, text, e));
        TRY(put_member(w, STR("provenance.json"), (struct bytes){text->p, NULL, 0, text->n}, ZS_RAW,
                       true, e));
    }
    for (size_t i = 0; i < m->n_tensors; i++) {
        int64_t of = m->tensor[i].alias_of;
        memcpy(s->ar.tensor[i].digest, w->placed[of < 0 ? (int64_t)i : of].tree, 32);
    }
    buf_clear(text);
    size_t most = m->spelling.n; /* about: so that no doubling takes more than it needs */
    for (size_t i = 0; i < m->n_tensors; i++)
        most += m->tensor[i].name.n + 320;
    (void)buf_reserve(text, most);
    TRY(ar_manifest_write(m, &s->ar, text, e));
    s->manifest_at = w->file_end[s->file];
    TRY(put_member(w, STR("manifest.json"), (struct bytes){text->p, NULL, 0, text->n}, ZS_RAW, true,
                   e));
    TRY(buf_ok(&s->sums, e));
    TRY(put_member(w, STR("SHA256SUMS"), (struct bytes){s->sums.p, NULL, 0, s->sums.n}, ZS_RAW,
                   false, e));
    buf_clear(text);
    buf_fill(text, 0, (size_t)2 * TAR_BLOCK);
    TRY(buf_ok(text, e));
    TRY(put_frame(w, ZS_RAW, text->p, text->n, e));
    struct frame_note *f;
    uint64_t n, index, at = w->file_end[s->file];
    TRY(all_frames(w, &f, &n, &index, e));
    buf_clear(text);
    TRY(frames_tail(text, f, n, index, e));
    TRY(out_pwrite(w->out, s->file, text->p, text->n, at, e));
    w->file_end[s->file] = at + text->n;
    return out_truncate(w->out, s->file, at + text->n, e);
}

enum status ar_end(struct writer *w, struct err *e)
{
    struct state *s = w->priv;
    struct buf text = BUF_INIT;
    size_t scratch =
        zs_encode_scratch() > zs_decode_scratch() ? zs_encode_scratch() : zs_decode_scratch();
    size_t stored = (zs_bound(ZS_FRAME_MAX) + 4095) / 4096 * 4096;
    s->memory = mem_alloc(scratch + stored + ZS_FRAME_MAX + AR_SCRATCH_ALIGN);
    if (!s->memory)
        return err_nomem(e, scratch + stored + ZS_FRAME_MAX);
    s->scratch = ar_align(s->memory);
    s->stored = s->scratch + scratch;
    s->bite = s->stored + stored;
    enum status st = put_rest(w, &text, e);
    mem_free(s->memory);
    buf_free(&text);
    buf_free(&s->sums);
    return st;
}
