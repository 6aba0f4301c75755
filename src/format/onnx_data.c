/* The typed lists of a TensorProto (int32_data, unpacked float_data ...) as a stream of raw bytes:
 * decoded once, in order, in bounded memory. A list may come in any number of pieces, packed or
 * not, between other fields.
 */
#include "base/mem.h"
#include "format/onnx.h"
#include <string.h>

struct typed {
    uint32_t field;
    uint8_t width;  /* bytes of a value here */
    int64_t lo, hi; /* what an int32 or uint64 value may be; both 0: anything */
};
struct state {
    struct cursor c;
    struct proto m;
    struct proto_list l;
    bool in_list;
    uint64_t left;   /* raw bytes still to give */
    uint8_t pend[8]; /* of a value that did not fit */
    unsigned pend_n, pend_at;
};

static enum status list_open(const struct storage *s, void **out, struct err *e)
{
    struct state *st = mem_zalloc(1, sizeof *st);
    if (!st)
        return err_nomem(e, sizeof *st);
    cur_file(&st->c, s->file, s->offset, s->stored_bytes);
    proto_init(&st->m, &st->c, s->stored_bytes);
    st->left = s->raw_bytes;
    *out = st;
    return ST_OK;
}

static void list_close(const struct storage *s, void *state)
{
    struct state *st = state;
    (void)s;
    if (st)
        cur_close(&st->c);
    mem_free(st);
}

/* The next value of the list; false at its end and after a failure. */
static bool next_value(struct state *st, const struct typed *ty, uint64_t *v)
{
    enum proto_wire wire = ty->field == 4 ? PROTO_I32 : ty->field == 10 ? PROTO_I64 : PROTO_VARINT;
    for (;;) {
        if (st->in_list && proto_list_next(&st->l)) {
            *v = st->l.u;
            return true;
        }
        st->in_list = false;
        do {
            if (!proto_next(&st->m))
                return false;
        } while (st->m.field != ty->field);
        if (!proto_list(&st->m, wire, &st->l))
            return false;
        st->in_list = true;
    }
}

static bool fits(struct state *st, const struct typed *ty, uint64_t *v)
{
    if (ty->field == 5)
        *v = (uint64_t)(int64_t)(int32_t)(uint32_t)*v; /* as protobuf reads an int32 */
    if (ty->lo == ty->hi || ((int64_t)*v >= ty->lo && (int64_t)*v <= ty->hi))
        return true;
    (void)cur_fail(&st->c, st->l.pos, "value-range", "%lld does not fit the tensor's type",
                   (long long)*v);
    return false;
}

static enum status list_read(const struct storage *s, void *state, void *dst, size_t *n,
                             struct err *e)
{
    struct state *st = state;
    const struct typed *ty = s->priv;
    uint8_t *p = dst;
    size_t at = 0;
    uint64_t v;
    while (at < *n && st->left > 0) {
        if (st->pend_at == st->pend_n) {
            if (!next_value(st, ty, &v)) {
                (void)cur_fail(&st->c, st->c.end, "size-mismatch", "the list ends %llu bytes early",
                               (unsigned long long)st->left);
                break;
            }
            if (!fits(st, ty, &v))
                break;
            for (unsigned i = 0; i < ty->width; i++)
                st->pend[i] = (uint8_t)(v >> 8 * i);
            st->pend_n = ty->width;
            st->pend_at = 0;
        }
        p[at++] = st->pend[st->pend_at++];
        st->left--;
    }
    *n = at;
    if (st->left == 0 && !cur_failed(&st->c) && next_value(st, ty, &v))
        (void)cur_fail(&st->c, st->l.pos, "size-mismatch",
                       "the list has more values than the shape");
    return cur_ok(&st->c, e);
}

static const struct decoder typed_decoder = {
    .name = "protobuf list", .open = list_open, .read = list_read, .close = list_close};

enum status onnx_typed_storage(const struct onnx_tensor *t, struct file *f, uint64_t body,
                               uint64_t n_bytes, struct arena *a, struct storage *s, struct err *e)
{
    struct typed *ty = ARENA_NEW(a, struct typed);
    if (!ty)
        return err_nomem(e, sizeof *ty);
    const struct dtype_info *d = dtype_info(t->dtype);
    unsigned width = d->bits < 8 ? 1 : d->bits / 8;
    bool is_signed = d->kind == DK_INT && d->bits >= 8;
    *ty = (struct typed){.field = t->typed, .width = (uint8_t)width};
    if (t->typed == 4 || t->typed == 10) {
        ty->width = t->typed == 4 ? 4 : 8; /* complex numbers are two */
    } else if (width < 4 || t->dtype == DT_U32) {
        ty->lo = is_signed ? -((int64_t)1 << (8 * width - 1)) : 0;
        ty->hi = t->dtype == DT_BOOL ? 1
                 : t->unpacked       ? ((int64_t)1 << d->bits) - 1
                 : is_signed         ? ((int64_t)1 << (8 * width - 1)) - 1
                                     : ((int64_t)1 << 8 * width) - 1;
    }
    *s = (struct storage){.kind = STORAGE_STREAM,
                          .file = f,
                          .offset = body,
                          .stored_bytes = n_bytes,
                          .raw_bytes = t->raw_bytes,
                          .dec = &typed_decoder,
                          .priv = ty};
    return ST_OK;
}

enum status onnx_each_block(const struct storage *s,
                            enum status (*block)(void *ctx, const uint8_t *p, size_t n, uint64_t at,
                                                 struct err *e),
                            void *ctx, struct err *e)
{
    enum { STEP = 1 << 16 };
    void *state = NULL;
    enum status st = ST_OK;
    if (s->kind == STORAGE_MEMORY)
        return s->raw_bytes ? block(ctx, s->mem, (size_t)s->raw_bytes, 0, e) : ST_OK;
    uint8_t *p = mem_alloc(STEP);
    if (!p)
        return err_nomem(e, STEP);
    if (s->kind == STORAGE_STREAM)
        st = s->dec->open(s, &state, e);
    for (uint64_t at = 0; st == ST_OK && at < s->raw_bytes;) {
        size_t n = s->raw_bytes - at < STEP ? (size_t)(s->raw_bytes - at) : STEP;
        st =
            state ? s->dec->read(s, state, p, &n, e) : file_pread(s->file, p, n, s->offset + at, e);
        if (st == ST_OK)
            st = block(ctx, p, n, at, e);
        at += n;
    }
    if (state)
        s->dec->close(s, state);
    mem_free(p);
    return st;
}
