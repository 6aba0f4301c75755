/* OCDBT, writing: nodes and a manifest, stored raw. See ocdbt.h. */
#include "codec/crc.h"
#include "codec/ocdbt.h"

#define INLINE_LIMIT 1024
#define NODE_LIMIT 100000000u
#define ARITY_LOG2 4

static void varint(struct buf *b, uint64_t v)
{
    for (; v > 127; v >>= 7)
        buf_u8(b, (uint8_t)(v | 128));
    buf_u8(b, (uint8_t)v);
}

/* Gives where the envelope begins. */
static size_t envelope(struct buf *b, uint32_t magic)
{
    size_t at = b->n;
    buf_u32be(b, magic);
    buf_u64(b, 0); /* set by seal */
    varint(b, 0);
    varint(b, 0);
    return at;
}

static void seal(struct buf *b, size_t at)
{
    uint64_t n = b->n - at + 4;
    if (b->failed)
        return;
    for (int i = 0; i < 8; i++)
        b->p[at + 4 + (size_t)i] = (uint8_t)(n >> 8 * i);
    buf_u32(b, crc32c_update(0, b->p + at, b->n - at));
}

/* A table of one file, with nothing that nodes there would inherit. */
static void one_file(struct buf *b, struct str path)
{
    varint(b, 1);
    varint(b, path.n);
    varint(b, 0);
    buf_str(b, path);
}

static size_t common(struct str a, struct str b)
{
    size_t n = 0;
    while (n < a.n && n < b.n && a.p[n] == b.p[n])
        n++;
    return n;
}

void ocdbt_w_leaf(struct buf *b, struct str data_path, const struct ocdbt_entry *v, size_t n)
{
    size_t at = envelope(b, 0x0cdb20de);
    buf_u8(b, 0);
    one_file(b, data_path);
    varint(b, n);
    for (size_t i = 1; i < n; i++)
        varint(b, common(v[i - 1].key, v[i].key));
    for (size_t i = 0; i < n; i++)
        varint(b, v[i].key.n - (i ? common(v[i - 1].key, v[i].key) : 0));
    for (size_t i = 0; i < n; i++)
        buf_str(b, str_sub(v[i].key, i ? common(v[i - 1].key, v[i].key) : 0, v[i].key.n));
    for (size_t i = 0; i < n; i++)
        varint(b, v[i].bytes.p ? v[i].bytes.n : v[i].length);
    for (size_t i = 0; i < n; i++)
        buf_u8(b, v[i].bytes.p ? 0 : 1);
    for (size_t i = 0; i < n; i++)
        if (!v[i].bytes.p)
            varint(b, 0);
    for (size_t i = 0; i < n; i++)
        if (!v[i].bytes.p)
            varint(b, v[i].offset);
    for (size_t i = 0; i < n; i++)
        if (v[i].bytes.p)
            buf_str(b, v[i].bytes);
    seal(b, at);
}

void ocdbt_w_interior(struct buf *b, struct str data_path, const struct ocdbt_child *v, size_t n)
{
    size_t at = envelope(b, 0x0cdb20de);
    buf_u8(b, 1);
    one_file(b, data_path);
    varint(b, n);
    for (size_t i = 1; i < n; i++)
        varint(b, common(v[i - 1].first_key, v[i].first_key));
    for (size_t i = 0; i < n; i++)
        varint(b, v[i].first_key.n - (i ? common(v[i - 1].first_key, v[i].first_key) : 0));
    for (size_t i = 0; i < n; i++)
        varint(b, 0); /* leaves spell their keys whole */
    for (size_t i = 0; i < n; i++)
        buf_str(b, str_sub(v[i].first_key, i ? common(v[i - 1].first_key, v[i].first_key) : 0,
                           v[i].first_key.n));
    for (size_t i = 0; i < n; i++)
        varint(b, 0);
    for (size_t i = 0; i < n; i++)
        varint(b, v[i].offset);
    for (size_t i = 0; i < n; i++)
        varint(b, v[i].length);
    for (size_t i = 0; i < n; i++)
        varint(b, v[i].n_keys);
    for (size_t i = 0; i < n; i++)
        varint(b, v[i].length);
    for (size_t i = 0; i < n; i++)
        varint(b, v[i].value_bytes);
    seal(b, at);
}

void ocdbt_w_manifest(struct buf *b, const uint8_t uuid[16], struct str data_path,
                      const struct ocdbt_root *r)
{
    size_t at = envelope(b, 0x0cdb3a2a);
    buf_bytes(b, uuid, 16);
    buf_u8(b, 0);
    varint(b, INLINE_LIMIT);
    varint(b, NODE_LIMIT);
    buf_u8(b, ARITY_LOG2);
    varint(b, 0);
    one_file(b, data_path);
    varint(b, 1); /* versions */
    varint(b, 1); /* generation */
    buf_u8(b, r->height);
    varint(b, 0);
    varint(b, r->n_keys ? r->offset : UINT64_MAX);
    varint(b, r->n_keys ? r->length : UINT64_MAX);
    varint(b, r->n_keys);
    varint(b, r->n_keys ? r->tree_bytes : 0);
    varint(b, r->n_keys ? r->value_bytes : 0);
    buf_u64(b, 1); /* a time; the same in every run */
    varint(b, 0);  /* older versions */
    seal(b, at);
}
