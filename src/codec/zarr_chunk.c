/* The bytes of a zarr chunk through its codecs: stages that pull from one another, each in little
 * memory but blosc, whose buffers are decoded whole. See zarr.h.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/blosc.h"
#include "codec/crc.h"
#include "codec/deflate.h"
#include "codec/zarr.h"
#include "codec/zstd.h"
#include <string.h>

enum { IN_BYTES = 64 << 10 };

struct stage {
    enum zarr_codec codec; /* ZARR_STORED: the file or memory itself */
    struct stage *from;
    /* ZARR_STORED, CRC32C: bytes still to be given; blosc: decoded bytes */
    uint64_t left;
    uint32_t crc;
    bool ended;
    struct zs_stream *zstd;
    struct unzip *unzip;
    uint8_t *in; /* compressed bytes taken from `from`, IN_BYTES; blosc: all decoded ones */
    const uint8_t *next;
    size_t n_in;
};
struct zarr_stream {
    struct zarr_bytes src;
    uint64_t at, raw, done;
    size_t n;
    struct stage stage[ZARR_MAX_CODECS + 1];
};

static enum status bad(const struct zarr_stream *s, struct err *e, const char *code,
                       const char *why)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    if (s->src.file)
        err_at(e, file_path(s->src.file), s->src.offset);
    return ST_INPUT;
}

static enum status pull(struct zarr_stream *s, struct stage *g, uint8_t *dst, size_t *n,
                        struct err *e);

/* As much as there is, up to n. */
static enum status pull_all(struct zarr_stream *s, struct stage *g, uint8_t *dst, size_t n,
                            size_t *got, struct err *e)
{
    *got = 0;
    for (size_t k = 1; *got < n && k; *got += k) {
        k = n - *got;
        TRY(pull(s, g, dst + *got, &k, e));
    }
    return ST_OK;
}

static enum status pull_stored(struct zarr_stream *s, struct stage *g, uint8_t *dst, size_t *n,
                               struct err *e)
{
    if (*n > g->left)
        *n = (size_t)g->left;
    if (*n && s->src.file)
        TRY(file_pread(s->src.file, dst, *n, s->src.offset + s->at, e));
    else if (*n)
        memcpy(dst, s->src.mem + s->at, *n);
    s->at += *n;
    g->left -= *n;
    return ST_OK;
}

static enum status pull_crc(struct zarr_stream *s, struct stage *g, uint8_t *dst, size_t *n,
                            struct err *e)
{
    uint8_t sum[4];
    size_t got;
    if (*n > g->left)
        *n = (size_t)g->left;
    TRY(pull_all(s, g->from, dst, *n, &got, e));
    if (got < *n)
        return bad(s, e, "chunk-short", "the chunk is shorter than its shape");
    g->crc = crc32c_update(g->crc, dst, got);
    g->left -= got;
    if (g->left || g->ended)
        return ST_OK;
    g->ended = true;
    TRY(pull_all(s, g->from, sum, 4, &got, e));
    uint32_t want =
        sum[0] | (uint32_t)sum[1] << 8 | (uint32_t)sum[2] << 16 | (uint32_t)sum[3] << 24;
    if (got < 4)
        return bad(s, e, "chunk-short", "the chunk ends before its CRC-32C");
    return want == g->crc ? ST_OK : bad(s, e, "chunk-crc", "CRC-32C of the chunk does not match");
}

static enum status pull_blosc(struct stage *g, uint8_t *dst, size_t *n)
{
    if (*n > g->left)
        *n = (size_t)g->left;
    if (*n)
        memcpy(dst, g->next, *n);
    g->next += *n;
    g->left -= *n;
    return ST_OK;
}

static enum status pull_coded(struct zarr_stream *s, struct stage *g, uint8_t *dst, size_t *n,
                              struct err *e)
{
    size_t room = *n;
    bool dry = false; /* no more input */
    while (room == *n && *n && !g->ended) {
        size_t had = g->n_in;
        bool whole = false;
        if (g->n_in == 0 && !dry) {
            size_t got;
            TRY(pull_all(s, g->from, g->in, IN_BYTES, &got, e));
            g->next = g->in;
            g->n_in = had = got;
            dry = got == 0;
        }
        enum status st = g->codec == ZARR_ZSTD
                             ? zs_step(g->zstd, &g->next, &g->n_in, &dst, &room, &whole, e)
                             : unzip_step(g->unzip, &g->next, &g->n_in, &dst, &room, &whole, e);
        if (st != ST_OK) {
            if (st == ST_INPUT && s->src.file)
                err_at(e, file_path(s->src.file), s->src.offset);
            return st;
        }
        bool stuck = room == *n && g->n_in == had;
        if (whole && g->codec != ZARR_ZSTD && (g->n_in || room == *n)) {
            uint8_t more;
            size_t got;
            TRY(pull_all(s, g->from, &more, 1, &got, e));
            if (g->n_in || got)
                return bad(s, e, "chunk-long", "bytes behind the compressed stream");
            g->ended = true;
        } else if (stuck && dry) {
            if (!whole)
                return bad(s, e, "chunk-short", "the compressed stream does not end");
            g->ended = true;
        }
    }
    *n -= room;
    return ST_OK;
}

static enum status pull(struct zarr_stream *s, struct stage *g, uint8_t *dst, size_t *n,
                        struct err *e)
{
    switch (g->codec) {
    case ZARR_STORED:
        return pull_stored(s, g, dst, n, e);
    case ZARR_CRC32C:
        return pull_crc(s, g, dst, n, e);
    case ZARR_BLOSC:
        return pull_blosc(g, dst, n);
    case ZARR_ZSTD:
    case ZARR_GZIP:
    case ZARR_ZLIB:
        break;
    }
    return pull_coded(s, g, dst, n, e);
}

/* A blosc buffer is taken and decoded whole. */
static enum status load_blosc(struct zarr_stream *s, struct stage *g, uint64_t out, struct err *e)
{
    uint64_t most = out + out / 8 + 4096; /* more than any encoder spends */
    uint64_t stored = s->src.bytes;
    if (stored > most || out > INT32_MAX)
        return bad(s, e, "blosc-size", "a buffer that is longer than what it holds");
    uint8_t *raw = mem_alloc((size_t)stored + 1);
    size_t got = 0;
    g->in = mem_alloc((size_t)out + 1);
    enum status st = raw && g->in ? ST_OK : err_nomem(e, stored + out);
    if (st == ST_OK)
        st = pull_all(s, g->from, raw, (size_t)stored, &got, e);
    if (st == ST_OK)
        st = blosc_decode(raw, got, g->in, (size_t)out, e);
    if (st == ST_INPUT && s->src.file)
        err_at(e, file_path(s->src.file), s->src.offset);
    mem_free(raw);
    g->next = g->in;
    g->left = out;
    return st;
}

/* out: bytes the stage gives, where that is known before (all but those below a compressor). */
static enum status add_stage(struct zarr_stream *s, enum zarr_codec codec, uint64_t out,
                             struct err *e)
{
    struct stage *g = &s->stage[s->n];
    g->codec = codec;
    g->from = g - 1;
    g->left = out;
    s->n++;
    switch (codec) {
    case ZARR_STORED:
    case ZARR_CRC32C:
        return ST_OK;
    case ZARR_BLOSC:
        return load_blosc(s, g, out, e);
    case ZARR_ZSTD:
        TRY(zs_open(out, &g->zstd, e));
        break;
    case ZARR_GZIP:
    case ZARR_ZLIB:
        TRY(unzip_open(codec == ZARR_GZIP, &g->unzip, e));
        break;
    }
    g->in = mem_alloc(IN_BYTES);
    return g->in ? ST_OK : err_nomem(e, IN_BYTES);
}

static enum status build(struct zarr_stream *s, const struct zarr_chain *chain, struct err *e)
{
    uint64_t up = s->src.bytes; /* what the stage below gives, from the stored end */
    size_t i = 0;
    s->stage[0].left = up;
    s->n = 1;
    for (; i < chain->n && chain->codec[i] == ZARR_CRC32C; i++) {
        if (up < 4)
            return bad(s, e, "chunk-short", "the chunk ends before its CRC-32C");
        up -= 4;
        TRY(add_stage(s, ZARR_CRC32C, up, e));
    }
    for (; i < chain->n; i++) {
        uint64_t out;
        if (!add_u64(s->raw, 4 * (uint64_t)(chain->n - 1 - i), &out))
            return bad(s, e, "chunk-long", "a chunk beyond all sizes");
        TRY(add_stage(s, (enum zarr_codec)chain->codec[i], out, e));
    }
    return ST_OK;
}

enum status zarr_open(const struct zarr_bytes *b, const struct zarr_chain *chain, uint64_t raw,
                      struct zarr_stream **out, struct err *e)
{
    *out = NULL;
    struct zarr_stream *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(e, sizeof *s);
    s->src = *b;
    s->raw = raw;
    enum status st = build(s, chain, e);
    if (st == ST_OK)
        *out = s;
    else
        zarr_close(s);
    return st;
}

enum status zarr_read(struct zarr_stream *s, void *dst, size_t *n, struct err *e)
{
    struct stage *top = &s->stage[s->n - 1];
    uint64_t left = s->raw - s->done;
    uint8_t more;
    size_t got = 0, room = left < *n ? (size_t)left : *n;
    bool asked = *n > 0;
    TRY(pull_all(s, top, dst, room, &got, e));
    if (got < room)
        return bad(s, e, "chunk-short", "the chunk is shorter than its shape");
    s->done += got;
    *n = got;
    if (s->done == s->raw && asked) {
        TRY(pull_all(s, top, &more, 1, &got, e));
        if (got == 0 && top != &s->stage[0]) /* nothing may lie behind the stream either */
            TRY(pull_all(s, &s->stage[0], &more, 1, &got, e));
        if (got)
            return bad(s, e, "chunk-long", "the chunk is longer than its shape");
    }
    return ST_OK;
}

void zarr_close(struct zarr_stream *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++) {
        zs_close(s->stage[i].zstd);
        unzip_close(s->stage[i].unzip);
        mem_free(s->stage[i].in);
    }
    mem_free(s);
}

enum status zarr_decode(const struct zarr_bytes *b, const struct zarr_chain *chain, void *dst,
                        uint64_t raw, struct err *e)
{
    struct zarr_stream *s;
    uint64_t at = 0;
    enum status st = zarr_open(b, chain, raw, &s, e);
    while (st == ST_OK && at < raw) {
        size_t n = raw - at < ((uint64_t)1 << 30) ? (size_t)(raw - at) : (size_t)1 << 30;
        st = zarr_read(s, (uint8_t *)dst + at, &n, e);
        at += n;
    }
    zarr_close(s);
    return st;
}

enum status zarr_index(const struct zarr *z, const struct zarr_bytes *shard, uint64_t n,
                       uint64_t *pairs, struct err *e)
{
    static const struct zarr_chain plain = {0}, summed = {1, {ZARR_CRC32C}};
    struct zarr_bytes b = *shard;
    struct zarr_stream at = {.src = b};
    uint64_t bytes;
    if (!mul_u64(n, 16, &bytes) || !add_u64(bytes, z->index_crc ? 4 : 0, &b.bytes) ||
        b.bytes > shard->bytes)
        return bad(&at, e, "shard-index", "the shard is shorter than its index");
    if (!z->index_first) {
        b.offset += b.file ? shard->bytes - b.bytes : 0;
        b.mem += b.file ? 0 : shard->bytes - b.bytes;
    }
    TRY(zarr_decode(&b, z->index_crc ? &summed : &plain, pairs, bytes, e));
    for (uint64_t i = 0; i < 2 * n; i++) { /* little-endian, whatever the host */
        const uint8_t *p = (const uint8_t *)&pairs[i];
        uint64_t v = 0;
        for (int k = 8; k-- > 0;)
            v = v << 8 | p[k];
        pairs[i] = v;
    }
    for (uint64_t i = 0; i < n; i++)
        if (!(pairs[2 * i] == UINT64_MAX && pairs[2 * i + 1] == UINT64_MAX) &&
            !range_in(pairs[2 * i], pairs[2 * i + 1], shard->bytes))
            return bad(&at, e, "shard-index", "an inner chunk lies outside its shard");
    return ST_OK;
}
