/* Writing. See sstable.h. Blocks of some 256 KiB, a restart every 16 entries, index keys shortened:
 * what TensorFlow's own table builder does.
 */
#include "codec/crc.h"
#include "codec/proto.h"
#include "codec/sstable.h"

#define BLOCK_BYTES 262144
#define RESTART_EVERY 16

static void entry(struct buf *block, size_t shared, struct str key, struct str value)
{
    proto_w_varint(block, shared);
    proto_w_varint(block, key.n - shared);
    proto_w_varint(block, value.n);
    buf_str(block, str_sub(key, shared, key.n));
    buf_str(block, value);
}

/* Restarts, type and sum behind a block; it joins the file and is cleared. */
static struct sstable_handle put_block(struct sstable_w *w, struct buf *block, struct buf *restarts)
{
    if (restarts->n == 0)
        buf_u32(restarts, 0);
    buf_str(block, buf_as_str(restarts));
    buf_u32(block, (uint32_t)(restarts->n / 4));
    struct sstable_handle h = {w->out.n, block->n};
    buf_u8(block, 0);
    if (!block->failed) {
        buf_str(&w->out, buf_as_str(block));
        buf_u32(&w->out, crc32c_mask(crc32c_update(0, block->p, block->n)));
    }
    w->out.failed |= block->failed || restarts->failed;
    buf_clear(block);
    buf_clear(restarts);
    return h;
}

/* The index entry of the pending block under the key in last_index_. */
static void put_index(struct sstable_w *w)
{
    struct buf value = BUF_INIT;
    proto_w_varint(&value, w->pending_.at);
    proto_w_varint(&value, w->pending_.n);
    buf_u32(&w->index_restarts_, (uint32_t)w->index_.n);
    entry(&w->index_, 0, buf_as_str(&w->last_index_), buf_as_str(&value));
    w->index_.failed |= value.failed || w->last_index_.failed;
    w->has_pending_ = false;
    buf_free(&value);
}

/* A short key at or behind the last one and before next. */
static void separate(struct sstable_w *w, struct str next)
{
    struct str last = buf_as_str(&w->last_);
    size_t same = 0, most = last.n < next.n ? last.n : next.n;
    buf_clear(&w->last_index_);
    while (same < most && last.p[same] == next.p[same])
        same++;
    uint8_t a = same < most ? (uint8_t)last.p[same] : 0xff;
    if (a < 0xff && a + 1 < (uint8_t)next.p[same]) {
        buf_bytes(&w->last_index_, last.p, same);
        buf_u8(&w->last_index_, (uint8_t)(a + 1));
    } else {
        buf_str(&w->last_index_, last);
    }
}

/* A short key at or behind the last one, where nothing follows. */
static void succeed(struct sstable_w *w)
{
    struct str last = buf_as_str(&w->last_);
    size_t i = 0;
    buf_clear(&w->last_index_);
    while (i < last.n && (uint8_t)last.p[i] == 0xff)
        i++;
    buf_bytes(&w->last_index_, last.p, i);
    if (i < last.n)
        buf_u8(&w->last_index_, (uint8_t)((uint8_t)last.p[i] + 1));
}

void sstable_w_add(struct sstable_w *w, struct str key, struct str value)
{
    struct str last = buf_as_str(&w->last_);
    size_t shared = 0;
    if (w->has_pending_) {
        separate(w, key);
        put_index(w);
    }
    if (w->block_.n && w->since_restart_ < RESTART_EVERY) {
        while (shared < last.n && shared < key.n && last.p[shared] == key.p[shared])
            shared++;
    } else {
        buf_u32(&w->restarts_, (uint32_t)w->block_.n);
        w->since_restart_ = 0;
    }
    entry(&w->block_, shared, key, value);
    w->since_restart_++;
    buf_clear(&w->last_);
    buf_str(&w->last_, key);
    if (w->block_.n + w->restarts_.n + 4 >= BLOCK_BYTES) {
        w->pending_ = put_block(w, &w->block_, &w->restarts_);
        w->has_pending_ = true;
    }
}

static void put_handle(struct buf *b, struct sstable_handle h)
{
    proto_w_varint(b, h.at);
    proto_w_varint(b, h.n);
}

enum status sstable_w_end(struct sstable_w *w, struct err *e)
{
    struct buf footer = BUF_INIT;
    if (w->block_.n) {
        w->pending_ = put_block(w, &w->block_, &w->restarts_);
        w->has_pending_ = true;
    }
    struct sstable_handle meta = put_block(w, &w->block_, &w->restarts_);
    if (w->has_pending_) {
        succeed(w);
        put_index(w);
    }
    struct sstable_handle index = put_block(w, &w->index_, &w->index_restarts_);
    put_handle(&footer, meta);
    put_handle(&footer, index);
    if (!footer.failed)
        buf_fill(&footer, 0, SSTABLE_FOOTER - 8 - footer.n);
    buf_u64(&footer, SSTABLE_MAGIC);
    buf_str(&w->out, buf_as_str(&footer));
    w->out.failed |= footer.failed || w->last_.failed;
    buf_free(&footer);
    return buf_ok(&w->out, e);
}

void sstable_w_free(struct sstable_w *w)
{
    buf_free(&w->out);
    buf_free(&w->block_);
    buf_free(&w->restarts_);
    buf_free(&w->index_);
    buf_free(&w->index_restarts_);
    buf_free(&w->last_);
    buf_free(&w->last_index_);
}
