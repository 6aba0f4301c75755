/* The pickle machine's stack, marks and values: everything it holds is made here, and counted. See
 * pickle.c.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/pickle_room.h"
#include <string.h>

/* Makes room for one more element; everything held counts against the budget. */
enum status pickle_grow(struct vm *m, void *array, size_t n, size_t *cap, size_t size)
{
    void **p = array;
    if (n < *cap)
        return ST_OK;
    struct pickle *k = m->p;
    uint64_t held = k->cap_val_ * sizeof *k->val + k->cap_cell_ * sizeof *k->cell +
                    k->cap_more_ * sizeof *k->more + k->cap_global_ * sizeof *k->global +
                    (m->cap_stack + m->cap_mark + m->cap_memo) * sizeof(uint32_t) + m->text_bytes;
    /* of a file only what was seen counts: the rest may be data */
    uint64_t read = k->bytes ? k->n_bytes : m->c.pos - k->far_bytes, budget = m->o->budget;
    if (budget == 0)
        budget = read > ((uint64_t)12 << 20) ? read * 4 : (uint64_t)48 << 20;
    size_t want = *cap ? *cap + *cap / 2 : 64, bytes;
    if (want <= n)
        want = n + 1;
    if (!mul_size(want, size, &bytes) || want > UINT32_MAX ||
        held + (want - *cap) * size > budget) {
        err_set(m->e, ST_LIMIT, "pickle-budget", "its values take more than %llu bytes",
                (unsigned long long)budget);
        err_at(m->e, m->o->file, m->o->base + m->at);
        return ST_LIMIT;
    }
    void *q = mem_resize(*p, bytes);
    if (!q)
        return err_nomem(m->e, bytes);
    *p = q;
    *cap = want;
    return ST_OK;
}

/* ---- stack ---- */

enum status vm_push(struct vm *m, uint32_t v)
{
    TRY(pickle_grow(m, &m->stack, m->n_stack, &m->cap_stack, sizeof *m->stack));
    m->stack[m->n_stack++] = v;
    return ST_OK;
}
size_t vm_floor(const struct vm *m)
{
    return m->n_mark ? m->mark[m->n_mark - 1] : 0;
}
enum status vm_pop(struct vm *m, uint32_t *v)
{
    if (m->n_stack <= vm_floor(m))
        return pickle_bad(m, "pickle-underflow", "opcode finds no value on the stack");
    *v = m->stack[--m->n_stack];
    return ST_OK;
}
/* The value under the open mark, or on top. */
enum status vm_top(struct vm *m, uint32_t *v)
{
    if (m->n_stack <= vm_floor(m))
        return pickle_bad(m, "pickle-underflow", "opcode finds no value on the stack");
    *v = m->stack[m->n_stack - 1];
    return ST_OK;
}
enum status vm_open_mark(struct vm *m)
{
    if (m->n_mark >= PICKLE_DEPTH)
        return pickle_bad(m, "pickle-depth", "more than %d open marks", PICKLE_DEPTH);
    TRY(pickle_grow(m, &m->mark, m->n_mark, &m->cap_mark, sizeof *m->mark));
    m->mark[m->n_mark++] = (uint32_t)m->n_stack;
    return ST_OK;
}
/* Closes the open mark: values [*lo, n_stack) stood above it; the caller cuts the stack. */
enum status vm_close_mark(struct vm *m, size_t *lo)
{
    if (m->n_mark == 0)
        return pickle_bad(m, "pickle-mark", "opcode finds no mark");
    *lo = m->mark[--m->n_mark];
    return ST_OK;
}

/* ---- values ---- */

enum status vm_value(struct vm *m, enum pk_kind kind, uint32_t *v)
{
    struct pickle *p = m->p;
    TRY(pickle_grow(m, &p->val, p->n_val, &p->cap_val_, sizeof *p->val));
    *v = p->n_val++;
    p->val[*v] = (struct pk_val){.kind = kind & 63u, .at = m->at & (PICKLE_FILE_MAX - 1)};
    return ST_OK;
}
enum status pickle_push(struct vm *m, enum pk_kind kind, struct pk_val **out)
{
    uint32_t v = 0;
    TRY(vm_value(m, kind, &v));
    *out = &m->p->val[v];
    return vm_push(m, v);
}
enum status pickle_push_int(struct vm *m, int64_t i)
{
    struct pk_val *x;
    TRY(pickle_push(m, PK_INT, &x));
    x->i = i;
    return ST_OK;
}
enum status pickle_push_bool(struct vm *m, bool b)
{
    struct pk_val *x;
    TRY(pickle_push(m, PK_BOOL, &x));
    x->i = b;
    return ST_OK;
}
/* What a window of the file shows must be copied to stay. */
enum status vm_keep(struct vm *m, struct str *s)
{
    const char *p = s->p;
    uintptr_t at = (uintptr_t)p, win = (uintptr_t)m->c.win;
    if (!m->c.f || at < win || at >= win + (m->c.win_hi - m->c.win_lo))
        return ST_OK;
    *s = arena_str(&m->p->arena, p, s->n);
    m->text_bytes += s->n + 1;
    return s->p ? ST_OK : err_nomem(m->e, s->n);
}
enum status pickle_push_text(struct vm *m, enum pk_kind kind, const void *s, size_t n)
{
    struct pk_val *x;
    size_t where;
    struct str t = {s, n};
    TRY(vm_keep(m, &t));
    if (kind == PK_STR && !str_utf8(t, &where))
        return pickle_bad(m, "pickle-utf8", "text is not UTF-8");
    TRY(pickle_push(m, kind, &x));
    x->text.p = t.p;
    x->text.n = (uint32_t)n;
    return ST_OK;
}
/* A string of n bytes from here on, which stays in the file. */
enum status vm_push_far(struct vm *m, enum pk_kind kind, enum pk_spelling spelling, uint64_t n)
{
    struct pk_val *x;
    TRY(pickle_push(m, kind, &x));
    x->spelling = spelling & 7u;
    x->far.offset = m->c.pos;
    x->far.bytes = n;
    m->p->far_bytes += n;
    cur_skip(&m->c, n);
    return ST_OK;
}
/* Python 2's byte strings are text where they can be. */
enum status pickle_push_string(struct vm *m, const void *s, size_t n)
{
    size_t where;
    return pickle_push_text(m, str_utf8((struct str){s, n}, &where) ? PK_STR : PK_BYTES, s, n);
}
enum status vm_seq_add(struct vm *m, struct pk_seq *s, uint32_t v)
{
    struct pickle *p = m->p;
    TRY(pickle_grow(m, &p->cell, p->n_cell, &p->cap_cell_, sizeof *p->cell));
    uint32_t c = p->n_cell++;
    p->cell[c] = (struct pk_cell){v, 0};
    if (s->tail)
        p->cell[s->tail].next = c;
    else
        s->head = c;
    s->tail = c;
    s->n++;
    return ST_OK;
}
/* Appends stack[lo..hi) to the sequence of value v (not an instance). */
enum status vm_seq_fill(struct vm *m, uint32_t v, size_t lo, size_t hi)
{
    struct pk_seq s = m->p->val[v].seq;
    for (size_t i = lo; i < hi; i++)
        TRY(vm_seq_add(m, &s, m->stack[i]));
    m->p->val[v].seq = s;
    return ST_OK;
}
enum status vm_collect(struct vm *m, enum pk_kind kind, size_t lo)
{
    uint32_t v = 0;
    if (kind == PK_DICT && (m->n_stack - lo) % 2 != 0)
        return pickle_bad(m, "pickle-type", "a key without a value");
    TRY(vm_value(m, kind, &v));
    TRY(vm_seq_fill(m, v, lo, m->n_stack));
    m->n_stack = lo;
    return vm_push(m, v);
}
