/* String tensors of a bundle. See tf.h.
 *
 *   varint64 length, n times | u32 masked crc32c of the lengths, each as a u32 (a u64 above 2^32-1)
 * | the strings, back to back The entry's sum goes over the lengths as u32 or u64, the four bytes,
 * and the strings: not over the stored bytes. Source: core/util/tensor_bundle/tensor_bundle.cc,
 * WriteStringTensor.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/crc.h"
#include "codec/sstable.h"
#include "format/tf.h"

static uint32_t add_length(uint32_t crc, uint64_t v, bool big)
{
    uint8_t p[8];
    size_t n = v > UINT32_MAX ? 8 : 4;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * (big ? n - 1 - i : i)));
    return crc32c_update(crc, p, n);
}

static uint32_t add_mask(uint32_t crc, uint32_t masked, bool big)
{
    uint8_t p[4];
    for (size_t i = 0; i < 4; i++)
        p[i] = (uint8_t)(masked >> (8 * (big ? 3 - i : i)));
    return crc32c_update(crc, p, 4);
}

static enum status add_range(struct file *f, uint64_t off, uint64_t n, uint32_t *crc, struct err *e)
{
    enum { STEP = 1 << 20 };
    enum status st = ST_OK;
    size_t room = n < STEP ? (size_t)n : STEP;
    uint8_t *p = mem_alloc(room);
    if (!p)
        return err_nomem(e, room);
    while (st == ST_OK && n > 0) {
        size_t k = n < room ? (size_t)n : room;
        st = file_pread(f, p, k, off, e);
        if (st == ST_OK)
            *crc = crc32c_update(*crc, p, k);
        off += k;
        n -= k;
    }
    mem_free(p);
    return st;
}

enum status tf_sum(struct file *f, uint64_t off, uint64_t n, uint32_t *masked, struct err *e)
{
    uint32_t crc = 0;
    TRY(add_range(f, off, n, &crc, e));
    *masked = crc32c_mask(crc);
    return ST_OK;
}

static enum status lengths(struct tf_strings *s, struct cursor *c, uint32_t *crc, struct err *e)
{
    uint64_t total = 0;
    for (uint64_t i = 0; i < s->n && !cur_failed(c); i++) {
        uint64_t at = c->pos, v = cur_varint(c, c->end);
        if (!cur_failed(c) && !add_u64(total, v, &total))
            (void)cur_fail(c, at, "tf-string", "the strings' lengths pass 2^64");
        *crc = add_length(*crc, v, s->big);
    }
    uint64_t at = c->pos;
    uint32_t sum = s->big ? cur_u32be(c) : cur_u32(c);
    if (!cur_failed(c) && total != cur_left(c))
        (void)cur_fail(c, at, "tf-string", "the strings have %llu bytes, their lengths say %llu",
                       (unsigned long long)cur_left(c), (unsigned long long)total);
    if (!cur_failed(c) && sum != crc32c_mask(*crc))
        (void)cur_fail(c, at, "tf-sum", "the checksum of the strings' lengths does not fit them");
    *crc = add_mask(*crc, sum, s->big);
    s->body = c->base + c->pos;
    return cur_ok(c, e);
}

enum status tf_strings_check(struct tf_strings *s, bool sum, struct err *e)
{
    struct cursor c;
    uint32_t crc = 0;
    cur_file(&c, s->f, s->offset, s->size);
    if (!cur_failed(&c) && s->n > s->size) /* a length takes a byte */
        (void)cur_fail(&c, 0, "tf-string", "%llu strings cannot lie in %llu bytes",
                       (unsigned long long)s->n, (unsigned long long)s->size);
    enum status st = cur_ok(&c, e);
    if (st == ST_OK)
        st = lengths(s, &c, &crc, e);
    cur_close(&c);
    if (st != ST_OK || !sum)
        return st;
    TRY(add_range(s->f, s->body, s->offset + s->size - s->body, &crc, e));
    if (crc32c_mask(crc) == s->crc)
        return ST_OK;
    (void)err_set(e, ST_INPUT, "tf-sum", "the checksum of the strings does not fit them");
    err_at(e, file_path(s->f), s->offset);
    return ST_INPUT;
}

void tf_strings_add(struct tf_strings_w *w, struct str s)
{
    proto_w_varint(&w->lengths, s.n);
    w->sum_lengths = add_length(w->sum_lengths, s.n, false);
    buf_str(&w->bytes, s);
}

void tf_strings_end(struct tf_strings_w *w, struct buf *out, uint32_t *masked)
{
    uint32_t mask = crc32c_mask(w->sum_lengths);
    buf_str(out, buf_as_str(&w->lengths));
    buf_u32(out, mask);
    buf_str(out, buf_as_str(&w->bytes));
    out->failed |= w->lengths.failed || w->bytes.failed;
    *masked = crc32c_mask(crc32c_update(add_mask(w->sum_lengths, mask, false),
                                        w->bytes.n ? w->bytes.p : (const uint8_t *)"", w->bytes.n));
    buf_free(&w->lengths);
    buf_free(&w->bytes);
}

void tf_stored_type(struct buf *b, const char *dtype, uint32_t masked, const uint64_t *dim,
                    size_t n)
{
    buf_fmt(b, TF_STORED "; dtype=%s; crc32c=%08x; shape=", dtype, (unsigned)masked);
    for (size_t d = 0; d < n; d++)
        buf_fmt(b, "%s%llu", d ? "," : "", (unsigned long long)dim[d]);
}
