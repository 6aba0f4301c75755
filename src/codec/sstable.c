/* Reading. See sstable.h. */
#include "codec/sstable.h"
#include "base/checked.h"
#include "base/mem.h"
#include "codec/crc.h"
#include "codec/proto.h"
#include "codec/snappy.h"
#include <string.h>

#define TRAILER 5 /* type and sum behind a block's contents */

static enum status bad(struct file *f, uint64_t at, struct err *e, const char *code,
                       const char *why)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(f), at);
    return ST_INPUT;
}

static uint32_t le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

bool sstable_is(struct file *f)
{
    uint8_t m[8];
    uint64_t magic = SSTABLE_MAGIC;
    if (file_size(f) < SSTABLE_FOOTER || file_pread(f, m, 8, file_size(f) - 8, NULL) != ST_OK)
        return false;
    for (int i = 0; i < 8; i++, magic >>= 8)
        if (m[i] != (uint8_t)magic)
            return false;
    return true;
}

/* ---- blocks ---- */

enum status sstable_load(struct file *f, struct sstable_handle h, struct sstable_block *b,
                         struct err *e)
{
    uint64_t whole;
    *b = (struct sstable_block){.at = h.at};
    if (!add_u64(h.n, TRAILER, &whole) || !range_in(h.at, whole, file_size(f)))
        return bad(f, h.at < file_size(f) ? h.at : file_size(f), e, "sstable-handle",
                   "a block lies behind the end of the table");
    uint8_t *p = mem_alloc((size_t)whole);
    if (!p)
        return err_nomem(e, whole);
    enum status st = file_pread(f, p, (size_t)whole, h.at, e);
    size_t n = (size_t)h.n;
    if (st == ST_OK && crc32c_mask(crc32c_update(0, p, n + 1)) != le32(p + n + 1))
        st = bad(f, h.at, e, "sstable-sum", "the block's checksum does not fit its bytes");
    if (st == ST_OK && p[n] > 1)
        st = bad(f, h.at + n, e, "sstable-block", "the block is compressed in an unknown way");
    if (st != ST_OK || p[n] == 0) {
        b->p = p;
        b->n = n;
        if (st != ST_OK)
            sstable_block_free(b);
        return st;
    }
    b->compressed = true;
    st = snappy_length(p, n, &b->n, e);
    if (st == ST_OK && !(b->p = mem_alloc(b->n)))
        st = err_nomem(e, b->n);
    if (st == ST_OK)
        st = snappy_decode(p, n, b->p, b->n, e);
    mem_free(p);
    if (st != ST_OK) {
        err_at(e, file_path(f), h.at);
        sstable_block_free(b);
    }
    return st;
}

void sstable_block_free(struct sstable_block *b)
{
    mem_free(b->p);
    *b = (struct sstable_block){0};
}

void sstable_walk_init(struct sstable_walk *w, struct file *f, const struct sstable_block *b)
{
    *w = (struct sstable_walk){.f = f, .b = b, .at = b->at};
}

void sstable_walk_free(struct sstable_walk *w)
{
    buf_free(&w->key);
}

static enum status walk_bad(const struct sstable_walk *w, size_t at, struct err *e,
                            const char *code, const char *why)
{
    return bad(w->f, w->b->at + (w->b->compressed ? 0 : at), e, code, why);
}

static size_t restart(const struct sstable_walk *w, size_t i)
{
    return le32(w->b->p + w->entries_ + 4 * i);
}

/* The table of restarts: as many as fit, the first at 0. */
static enum status walk_begin(struct sstable_walk *w, struct err *e)
{
    const struct sstable_block *b = w->b;
    if (b->n < 4)
        return walk_bad(w, 0, e, "sstable-block", "the block is too short for its restarts");
    w->n_restarts_ = le32(b->p + b->n - 4);
    if (w->n_restarts_ == 0 || w->n_restarts_ > (b->n - 4) / 4)
        return walk_bad(w, b->n - 4, e, "sstable-restart",
                        "the block has no room for the restarts it declares");
    w->entries_ = b->n - 4 - 4 * w->n_restarts_;
    if (restart(w, 0) != 0)
        return walk_bad(w, w->entries_, e, "sstable-restart", "the first restart is not at 0");
    w->started_ = true;
    return ST_OK;
}

static bool varint32(const struct sstable_walk *w, size_t *at, size_t *out)
{
    *out = 0;
    for (unsigned i = 0; i < 5 && *at < w->entries_; i++) {
        uint8_t v = w->b->p[(*at)++];
        *out |= (size_t)(v & 0x7fu) << (7 * i);
        if (!(v & 0x80u))
            return *out <= UINT32_MAX;
    }
    return false;
}

enum status sstable_walk_next(struct sstable_walk *w, bool *more, struct err *e)
{
    size_t shared, unshared, n_value, from = w->next_, at = from;
    *more = false;
    if (!w->started_)
        TRY(walk_begin(w, e));
    if (from == w->entries_) { /* the one restart of a block without entries counts as met */
        bool empty = w->entries_ == 0 && w->n_restarts_ == 1;
        return empty || w->restart_ == w->n_restarts_
                   ? ST_OK
                   : walk_bad(w, from, e, "sstable-restart", "a restart is no entry");
    }
    if (!varint32(w, &at, &shared) || !varint32(w, &at, &unshared) || !varint32(w, &at, &n_value) ||
        unshared > w->entries_ - at || n_value > w->entries_ - at - unshared)
        return walk_bad(w, from, e, "sstable-entry", "an entry ends behind its block");
    if (shared > w->key.n)
        return walk_bad(w, from, e, "sstable-entry",
                        "an entry shares more of the previous key than that has");
    bool is_restart = w->restart_ < w->n_restarts_ && restart(w, w->restart_) == from;
    if (w->restart_ < w->n_restarts_ && restart(w, w->restart_) < from)
        return walk_bad(w, from, e, "sstable-restart", "a restart is no entry");
    if (is_restart && shared != 0)
        return walk_bad(w, from, e, "sstable-restart", "the entry at a restart shares a key");
    w->restart_ += is_restart;
    struct str rest = {(const char *)w->b->p + at, unshared};
    struct str old = str_sub(buf_as_str(&w->key), shared, w->key.n);
    if (from != 0 && str_cmp(old, rest) >= 0)
        return walk_bad(w, from, e, "sstable-order", "the keys do not ascend");
    w->key.n = shared;
    buf_str(&w->key, rest);
    TRY(buf_ok(&w->key, e));
    w->value = (struct str){(const char *)w->b->p + at + unshared, n_value};
    w->at = w->b->at + (w->b->compressed ? 0 : from);
    w->next_ = at + unshared + n_value;
    *more = true;
    return ST_OK;
}

/* ---- the table ---- */

/* Two varints in their shortest form: a longer one is no table builder's. */
static struct sstable_handle handle(struct cursor *c)
{
    struct sstable_handle h;
    uint64_t from = c->pos;
    h.at = cur_varint(c, c->end);
    h.n = cur_varint(c, c->end);
    if (!cur_failed(c) && c->pos - from != proto_varint_bytes(h.at) + proto_varint_bytes(h.n))
        (void)cur_fail(c, from, "sstable-handle", "a number is longer than it need be");
    return h;
}

static enum status read_footer(struct sstable *t, struct err *e)
{
    struct cursor c;
    uint64_t size = file_size(t->f);
    uint8_t p[SSTABLE_FOOTER];
    if (size < SSTABLE_FOOTER)
        return bad(t->f, 0, e, "truncated", "the file is shorter than a table's footer");
    uint64_t at = size - SSTABLE_FOOTER;
    TRY(file_pread(t->f, p, sizeof p, at, e));
    if (!sstable_is(t->f))
        return bad(t->f, size - 8, e, "sstable-footer", "the table's last bytes are not its magic");
    cur_mem(&c, p, sizeof p - 8, file_path(t->f), at);
    t->metaindex = handle(&c);
    t->index = handle(&c);
    if (cur_failed(&c))
        return bad(t->f, at, e, "sstable-footer", "the footer's places are not numbers");
    for (uint64_t i = c.pos; i < c.end; i++)
        if (p[i] != 0)
            return bad(t->f, at + i, e, "sstable-footer", "the footer is not filled with zeros");
    uint64_t meta_end, index_end;
    if (!add_u64(t->metaindex.at, t->metaindex.n, &meta_end) ||
        !add_u64(t->index.at, t->index.n, &index_end) || meta_end > at || at - meta_end < TRAILER ||
        index_end > at || at - index_end != TRAILER || meta_end + TRAILER > t->index.at)
        return bad(t->f, at, e, "sstable-handle", "the index does not lie before the footer");
    return ST_OK;
}

enum status sstable_open(struct sstable *t, struct file *f, struct err *e)
{
    struct sstable_block meta;
    *t = (struct sstable){.f = f};
    TRY(read_footer(t, e));
    TRY(sstable_load(f, t->metaindex, &meta, e));
    sstable_block_free(&meta);
    TRY(sstable_load(f, t->index, &t->index_, e));
    sstable_walk_init(&t->index_walk_, f, &t->index_);
    return ST_OK;
}

void sstable_close(struct sstable *t)
{
    sstable_walk_free(&t->index_walk_);
    sstable_walk_free(&t->walk_);
    sstable_block_free(&t->index_);
    sstable_block_free(&t->block_);
    buf_free(&t->last_);
}

enum status sstable_next_block(struct sstable *t, bool *more, struct err *e)
{
    struct sstable_walk *x = &t->index_walk_;
    struct cursor c;
    uint64_t end;
    TRY(sstable_walk_next(x, more, e));
    if (!*more) {
        if (t->end_ != t->metaindex.at)
            return bad(t->f, t->end_, e, "sstable-handle",
                       "bytes that no block holds stand before the index");
        return ST_OK;
    }
    cur_mem(&c, x->value.p, x->value.n, file_path(t->f), x->at);
    t->in = handle(&c);
    if (cur_failed(&c) || c.pos != c.end)
        return bad(t->f, x->at, e, "sstable-handle", "a block's place is not two numbers");
    if (t->in.at != t->end_ || !add_u64(t->in.at, t->in.n, &end) ||
        !add_u64(end, TRAILER, &t->end_) || t->end_ > t->metaindex.at)
        return bad(t->f, x->at, e, "sstable-handle",
                   "a block does not follow the one before, or lies behind the index");
    t->key = buf_as_str(&x->key);
    t->at = x->at;
    return ST_OK;
}

/* Leaves a finished block: its last key must not pass its index key. */
static enum status leave(struct sstable *t, struct err *e)
{
    /* what follows must lie behind the index key: a search goes by that */
    buf_clear(&t->last_);
    buf_str(&t->last_, buf_as_str(&t->index_walk_.key));
    if (str_cmp(buf_as_str(&t->walk_.key), buf_as_str(&t->index_walk_.key)) > 0)
        return bad(t->f, t->index_walk_.at, e, "sstable-order",
                   "a block's key lies before the keys in it");
    sstable_walk_free(&t->walk_);
    sstable_block_free(&t->block_);
    t->walk_ = (struct sstable_walk){0};
    t->open_ = false;
    return buf_ok(&t->last_, e);
}

enum status sstable_next(struct sstable *t, bool *more, struct err *e)
{
    for (;;) {
        bool first = false;
        if (!t->open_) {
            TRY(sstable_next_block(t, more, e));
            if (!*more)
                return ST_OK;
            TRY(sstable_load(t->f, t->in, &t->block_, e));
            sstable_walk_init(&t->walk_, t->f, &t->block_);
            t->open_ = first = true;
        }
        TRY(sstable_walk_next(&t->walk_, more, e));
        if (!*more) {
            TRY(leave(t, e));
            continue;
        }
        t->key = buf_as_str(&t->walk_.key);
        t->value = t->walk_.value;
        t->at = t->walk_.at;
        if (first && t->any_ && str_cmp(t->key, buf_as_str(&t->last_)) <= 0)
            return bad(t->f, t->at, e, "sstable-order", "the keys do not ascend");
        t->any_ = true;
        return ST_OK;
    }
}
