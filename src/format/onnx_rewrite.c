/* Replacing ranges deep inside a message tree: the lengths of all messages around them are reckoned
 * from the inside out, then the new message is given in one pass, in pieces.
 */
#include "base/checked.h"
#include "format/onnx.h"
#include <string.h>

const uint8_t onnx_mark[] = "\x72\x11\x0a\x0dnnferry.graph\x12\x00"; /* 14: {1: this, 2: ""} */
const size_t onnx_mark_bytes = sizeof onnx_mark - 1;

#define STEP ((size_t)256 << 10)

static uint64_t head_bytes(uint32_t field, uint64_t length)
{
    return proto_tag_bytes(field) + proto_varint_bytes(length);
}

enum status onnx_rewrite_measure(struct onnx_rewrite *r, struct arena *a, struct err *e)
{
    /* growth as wrapping sums: what goes is in the file, what comes was added checked */
    uint64_t *more = ARENA_ARRAY(a, uint64_t, r->n_spans + 1), total = 0, sum = 0;
    r->length = ARENA_ARRAY(a, uint64_t, r->n_spans + 1);
    if (!more || !r->length)
        return err_nomem(e, r->n_spans * sizeof *more);
    for (size_t i = 0; i < r->n_edits; i++) {
        const struct onnx_edit *x = &r->edit[i];
        if (!add_u64(total, x->data_bytes, &total) || !add_u64(total, x->head_n, &total))
            return err_set(e, ST_CANNOT, "too-large", "the tensors pass 2^64 bytes");
        uint64_t growth = x->head_n + x->data_bytes - (x->end - x->at);
        if (x->span >= 0)
            more[x->span] += growth;
        else
            sum += growth;
    }
    for (size_t i = r->n_spans; i-- > 0;) {
        const struct onnx_span *s = &r->span[i];
        r->length[i] = s->end - s->body + more[i];
        uint64_t growth = head_bytes(s->field, r->length[i]) + r->length[i] - (s->end - s->at);
        if (s->parent >= 0)
            more[s->parent] += growth;
        else
            sum += growth;
    }
    r->size = r->to - r->from + sum;
    return ST_OK;
}

struct emit {
    struct cursor *c;
    enum status (*put)(void *ctx, const uint8_t *p, size_t n, uint64_t at, struct err *e);
    void *ctx;
    uint64_t at; /* in the new message */
};

static enum status put(struct emit *x, const uint8_t *p, size_t n, struct err *e)
{
    if (n > 0)
        TRY(x->put(x->ctx, p, n, x->at, e));
    x->at += n;
    return ST_OK;
}

static enum status copy(struct emit *x, uint64_t lo, uint64_t hi, struct err *e)
{
    while (lo < hi) {
        size_t n = hi - lo < STEP ? (size_t)(hi - lo) : STEP;
        cur_seek(x->c, lo);
        const uint8_t *p = cur_take(x->c, n);
        TRY(cur_ok(x->c, e));
        TRY(put(x, p, n, e));
        lo += n;
    }
    return ST_OK;
}

static enum status put_head(struct emit *x, uint32_t field, uint64_t length, struct err *e)
{
    struct buf b = BUF_INIT;
    proto_w_len(&b, field, length);
    enum status st = buf_ok(&b, e);
    if (st == ST_OK)
        st = put(x, b.p, b.n, e);
    buf_free(&b);
    return st;
}

enum status onnx_rewrite_emit(struct onnx_rewrite *r, struct cursor *c,
                              enum status (*sink)(void *ctx, const uint8_t *p, size_t n,
                                                  uint64_t at, struct err *e),
                              void *ctx, struct err *e)
{
    struct emit x = {.c = c, .put = sink, .ctx = ctx};
    uint64_t from = r->from;
    size_t s = 0, i = 0;
    while (s < r->n_spans || i < r->n_edits) {
        /* a message begins before what is edited inside it */
        if (s < r->n_spans && (i == r->n_edits || r->span[s].at < r->edit[i].at)) {
            TRY(copy(&x, from, r->span[s].at, e));
            TRY(put_head(&x, r->span[s].field, r->length[s], e));
            from = r->span[s++].body;
        } else {
            struct onnx_edit *q = &r->edit[i++];
            TRY(copy(&x, from, q->at, e));
            TRY(put(&x, q->head, q->head_n, e));
            q->data_at = x.at;
            x.at += q->data_bytes;
            from = q->end;
        }
    }
    return copy(&x, from, r->to, e);
}
