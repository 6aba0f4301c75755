/* Pickle virtual machine: protocols 0 to 5 as data. See pickle.h for what it yields.
 *
 * One loop over opcodes; a stack of value indexes, a stack of marks, a memo; all bounded by the
 * pickle's own length and the budget. What can only be told at the end (cycles, depth, double
 * keys, forbidden state) is proven by pickle_prove.c. In a file, long strings are stepped over.
 * Refused: pickle-truncated pickle-opcode pickle-proto pickle-frame pickle-length pickle-number
 * pickle-utf8 pickle-string pickle-name pickle-runs-code pickle-memo pickle-underflow pickle-mark
 * pickle-type pickle-ext pickle-buffer pickle-build pickle-no-stop pickle-stop pickle-tail
 * pickle-depth pickle-cycle pickle-key-twice pickle-build-key pickle-budget pickle-too-big.
 */
#include "base/checked.h"
#include "base/cursor.h"
#include "base/mem.h"
#include "codec/pickle_room.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum status pickle_bad(struct vm *m, const char *code, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(m->e, ST_INPUT, code, "%s", text);
    err_at(m->e, m->o->file, m->o->base + m->at);
    return ST_INPUT;
}

static bool is_instance(const struct vm *m, uint32_t v)
{
    enum pk_kind k = pk_kind(m->p, v);
    return k == PK_CALL || k == PK_NEW;
}
static enum status more_of(struct vm *m, uint32_t v, uint32_t *more)
{
    struct pickle *p = m->p;
    if (p->val[v].call.more == 0) {
        TRY(pickle_grow(m, &p->more, p->n_more, &p->cap_more_, sizeof *p->more));
        p->more[p->n_more] = (struct pk_more){0};
        p->val[v].call.more = p->n_more++;
    }
    *more = p->val[v].call.more;
    return ST_OK;
}

/* stack[lo..) goes into the container under it: items, or keys and values. */
static enum status add_to(struct vm *m, size_t lo, bool pairs, bool set)
{
    if (lo <= vm_floor(m))
        return pickle_bad(m, "pickle-underflow", "opcode finds no container on the stack");
    uint32_t v = m->stack[lo - 1];
    enum pk_kind k = pk_kind(m->p, v);
    if (pairs && (m->n_stack - lo) % 2 != 0)
        return pickle_bad(m, "pickle-type", "a key without a value");
    if (is_instance(m, v)) {
        uint32_t x = 0;
        TRY(more_of(m, v, &x));
        struct pk_seq s = pairs ? m->p->more[x].pairs : m->p->more[x].items;
        for (size_t i = lo; i < m->n_stack; i++)
            TRY(vm_seq_add(m, &s, m->stack[i]));
        *(pairs ? &m->p->more[x].pairs : &m->p->more[x].items) = s;
    } else if (k == (pairs ? PK_DICT : set ? PK_SET : PK_LIST)) {
        TRY(vm_seq_fill(m, v, lo, m->n_stack));
    } else {
        return pickle_bad(m, "pickle-type", "opcode fills something that is no %s",
                          pairs ? "dict"
                          : set ? "set"
                                : "list");
    }
    m->n_stack = lo;
    return ST_OK;
}

static enum status call(struct vm *m, enum pk_kind kind, uint32_t fn, uint32_t args,
                        uint32_t kwargs)
{
    if (pk_kind(m->p, args) != PK_TUPLE)
        return pickle_bad(m, "pickle-type", "arguments that are no tuple");
    /* PyTorch of before 1.6 names the classes of modules by persistent ids */
    if (kind == PK_NEW && pk_kind(m->p, fn) != PK_GLOBAL && pk_kind(m->p, fn) != PK_PERSID)
        return pickle_bad(m, "pickle-type", "an instance of something that is no global");
    uint32_t v = 0, x = 0;
    TRY(vm_value(m, kind, &v));
    m->p->val[v].call = (struct pk_call){fn, args, 0};
    if (kwargs) {
        TRY(more_of(m, v, &x));
        m->p->more[x].kwargs = kwargs;
    }
    return vm_push(m, v);
}

static enum status build(struct vm *m)
{
    uint32_t state = 0, v = 0, x = 0;
    TRY(vm_pop(m, &state));
    TRY(vm_top(m, &v));
    if (!is_instance(m, v))
        return pickle_bad(m, "pickle-build", "state for something that is no instance");
    TRY(more_of(m, v, &x));
    if (m->p->more[x].state)
        return pickle_bad(m, "pickle-build", "state set twice");
    m->p->more[x].state = state;
    if (!m->o->built)
        return ST_OK;
    uint64_t skip = 0;
    TRY(m->o->built(m->o->ctx, m->p, v, m->c.pos, &skip, m->e));
    if (skip > cur_left(&m->c))
        return pickle_bad(m, "pickle-length", "%llu bytes of raw data follow, %llu are left",
                          (unsigned long long)skip, (unsigned long long)cur_left(&m->c));
    m->p->far_bytes += skip;
    m->frame_end = skip ? 0 : m->frame_end; /* frames do not count what is no opcode */
    cur_skip(&m->c, skip);
    return ST_OK;
}

/* ---- globals ---- */

static enum status global(struct vm *m, struct str module, struct str name, uint32_t *out)
{
    struct pickle *p = m->p;
    struct str part[2] = {module, name};
    size_t where;
    for (int k = 0; k < 2; k++) {
        bool plain = part[k].n > 0 && part[k].n <= 1024 && str_utf8(part[k], &where);
        for (size_t i = 0; plain && i < part[k].n; i++)
            plain = (uint8_t)part[k].p[i] > ' ' && part[k].p[i] != 0x7f;
        if (!plain)
            return pickle_bad(m, "pickle-name",
                              "a global whose name is empty, long or not plain text");
    }
    uint32_t g = 0;
    for (; g < p->n_global; g++)
        if (str_eq(p->global[g].module, module) && str_eq(p->global[g].name, name))
            break;
    if (g == p->n_global) {
        /* linear search above: a checkpoint names tens, so a flood of names is refused */
        if (p->n_global >= 4096)
            return pickle_bad(m, "pickle-name", "more than 4096 different globals");
        struct pk_global n = {.module = module, .name = name, .at = m->at};
        for (size_t i = 0; i < m->o->n_allow && n.tag == 0; i++)
            if (str_is(module, m->o->allow[i].module) && str_is(name, m->o->allow[i].name))
                n.tag = m->o->allow[i].tag;
        if (m->o->n_members && n.tag == 0 && pickle_is_getattr(module, name))
            n.tag = PICKLE_GETATTR; /* pickle_members looks at how it is used */
        n.runs_code = n.tag == 0 && pickle_runs_code(module, name);
        if (n.runs_code && !m->o->scan)
            return pickle_bad(m, "pickle-runs-code", "the pickle names %.*s.%.*s, which runs code",
                              STR_ARG(module), STR_ARG(name));
        TRY(pickle_grow(m, &p->global, p->n_global, &p->cap_global_, sizeof *p->global));
        p->global[p->n_global++] = n;
    }
    TRY(vm_value(m, PK_GLOBAL, out));
    p->val[*out].ref = g;
    return ST_OK;
}

/* Bytes up to the next newline, looked for in growing pieces so that a file's window is made no
 * larger than needed; at most max. *found is false when there is none so near. */
static enum status find_line(struct vm *m, size_t max, struct str *out, bool *found)
{
    uint64_t left = cur_left(&m->c);
    *found = false;
    for (size_t piece = 64, seen = 0;; piece *= 4) {
        size_t look = piece < max + 1 ? piece : max + 1;
        if (left < look)
            look = (size_t)left;
        const uint8_t *s = cur_peek(&m->c, look);
        if (!s)
            return cur_failed(&m->c) ? cur_ok(&m->c, m->e)
                                     : pickle_bad(m, "pickle-length", "a line is too long here");
        const uint8_t *nl = look > seen ? memchr(s + seen, '\n', look - seen) : NULL;
        if (nl) {
            *out = (struct str){(const char *)s, (size_t)(nl - s)};
            *found = true;
            return ST_OK;
        }
        if (look == left)
            return pickle_bad(m, "pickle-truncated", "line without an end");
        if (look == max + 1)
            return ST_OK;
        seen = look;
    }
}

/* Text up to a newline, at most max bytes. */
enum status pickle_line(struct vm *m, size_t max, struct str *out)
{
    bool found;
    TRY(find_line(m, max, out, &found));
    if (!found)
        return pickle_bad(m, "pickle-length", "line of more than %zu bytes", max);
    size_t n = out->n;
    TRY(vm_keep(m, out));
    cur_skip(&m->c, n + 1);
    return ST_OK;
}

enum status pickle_long_line(struct vm *m, enum pk_kind kind, enum pk_spelling spelling,
                             struct str *out, bool *far)
{
    bool found;
    *far = false;
    if (!m->c.f)
        return pickle_line(m, 1 << 20, out);
    TRY(find_line(m, PICKLE_NEAR_MAX, out, &found));
    if (found)
        return pickle_line(m, PICKLE_NEAR_MAX, out);
    uint64_t lo = m->c.pos, n = PICKLE_NEAR_MAX;
    for (;;) { /* the only way to its end is through it */
        cur_seek(&m->c, lo + n);
        uint64_t left = cur_left(&m->c);
        size_t look = left < ((size_t)64 << 10) ? (size_t)left : (size_t)64 << 10;
        const uint8_t *s = look ? cur_peek(&m->c, look) : NULL;
        const uint8_t *nl = s ? memchr(s, '\n', look) : NULL;
        if (!s && cur_failed(&m->c))
            return cur_ok(&m->c, m->e);
        if (!s)
            return pickle_bad(m, "pickle-truncated", "line without an end");
        n += nl ? (uint64_t)(nl - s) : look;
        if (nl)
            break;
    }
    cur_seek(&m->c, lo);
    TRY(vm_push_far(m, kind, spelling, n));
    cur_skip(&m->c, 1);
    *far = true;
    return ST_OK;
}

static enum status op_global(struct vm *m, bool inst)
{
    struct str module, name;
    uint32_t g = 0;
    TRY(pickle_line(m, 2048, &module));
    TRY(pickle_line(m, 2048, &name));
    TRY(global(m, module, name, &g));
    if (!inst)
        return vm_push(m, g);
    size_t lo = 0;
    TRY(vm_close_mark(m, &lo));
    TRY(vm_collect(m, PK_TUPLE, lo));
    uint32_t args = 0;
    TRY(vm_pop(m, &args));
    return call(m, PK_NEW, g, args, 0);
}

static enum status op_stack_global(struct vm *m)
{
    uint32_t module = 0, name = 0, g = 0;
    TRY(vm_pop(m, &name));
    TRY(vm_pop(m, &module));
    if (pk_kind(m->p, module) != PK_STR || pk_kind(m->p, name) != PK_STR)
        return pickle_bad(m, "pickle-type", "a global whose name is no text");
    TRY(global(m, pk_text(m->p, module), pk_text(m->p, name), &g));
    return vm_push(m, g);
}

/* OBJ: mark, class, arguments. */
static enum status op_obj(struct vm *m)
{
    size_t lo = 0;
    TRY(vm_close_mark(m, &lo));
    if (m->n_stack == lo)
        return pickle_bad(m, "pickle-underflow", "an instance without a class");
    TRY(vm_collect(m, PK_TUPLE, lo + 1));
    uint32_t fn = m->stack[lo], args = m->stack[lo + 1];
    m->n_stack = lo;
    return call(m, PK_NEW, fn, args, 0);
}

/* ---- opcodes with binary arguments ---- */

static enum status have(struct vm *m, uint64_t n)
{
    if (n > cur_left(&m->c))
        return pickle_bad(m, "pickle-length", "%llu bytes are declared, %llu are left",
                          (unsigned long long)n, (unsigned long long)cur_left(&m->c));
    return ST_OK;
}
static enum status take(struct vm *m, uint64_t n, const uint8_t **out)
{
    TRY(have(m, n));
    *out = cur_take(&m->c, (size_t)n);
    return *out ? ST_OK : cur_ok(&m->c, m->e);
}

static enum status binary_text(struct vm *m, enum pk_kind kind, uint64_t n)
{
    const uint8_t *s;
    TRY(have(m, n));
    if (m->c.f && n > PICKLE_NEAR_MAX)
        return vm_push_far(m, kind, kind == PK_STR ? PK_UTF8 : PK_RAW, n);
    TRY(take(m, n, &s));
    return pickle_push_text(m, kind, s, (size_t)n);
}
/* Python 2's byte strings. */
static enum status binary_string(struct vm *m, uint64_t n)
{
    const uint8_t *s;
    TRY(have(m, n));
    if (m->c.f && n > PICKLE_NEAR_MAX)
        return vm_push_far(m, PK_BYTES, PK_RAW, n);
    TRY(take(m, n, &s));
    return pickle_push_string(m, s, (size_t)n);
}

static enum status binary_long(struct vm *m, uint64_t n)
{
    const uint8_t *s;
    TRY(have(m, n));
    if (n > 1024)
        return pickle_bad(m, "pickle-number", "integer of %llu bytes", (unsigned long long)n);
    TRY(take(m, n, &s));
    if (n <= 8) {
        uint64_t u = n && s[n - 1] >= 0x80 ? UINT64_MAX : 0;
        for (size_t i = (size_t)n; i-- > 0;)
            u = u << 8 | s[i];
        return pickle_push_int(m, (int64_t)u);
    }
    return pickle_push_text(m, PK_LONG, s, (size_t)n);
}

static enum status memo_put(struct vm *m, uint64_t index)
{
    uint32_t v = 0;
    TRY(vm_top(m, &v));
    uint64_t most = m->p->bytes ? m->p->n_bytes : m->c.pos - m->p->far_bytes;
    if (index >= most)
        return pickle_bad(m, "pickle-memo", "memo index %llu in a pickle of %llu bytes",
                          (unsigned long long)index, (unsigned long long)most);
    if (index >= m->cap_memo) {
        size_t old = m->cap_memo;
        TRY(pickle_grow(m, &m->memo, (size_t)index, &m->cap_memo, sizeof *m->memo));
        memset(m->memo + old, 0, (m->cap_memo - old) * sizeof *m->memo);
    }
    if (m->memo[index] == 0)
        m->n_memo++;
    m->memo[index] = v;
    return ST_OK;
}
static enum status memo_get(struct vm *m, uint64_t index)
{
    if (index >= m->cap_memo || m->memo[index] == 0)
        return pickle_bad(m, "pickle-memo", "memo index %llu was never set",
                          (unsigned long long)index);
    return vm_push(m, m->memo[index]);
}
static enum status memo_text(struct vm *m, bool put)
{
    struct str s;
    uint64_t index;
    TRY(pickle_line(m, 20, &s));
    if (!str_u64(s, &index))
        return pickle_bad(m, "pickle-number", "not a plain decimal integer");
    return put ? memo_put(m, index) : memo_get(m, index);
}

static enum status proto(struct vm *m)
{
    uint8_t v = cur_u8(&m->c);
    if (m->at != 0)
        return pickle_bad(m, "pickle-proto", "protocol opcode inside the pickle");
    if (!cur_failed(&m->c) && v > 5)
        return pickle_bad(m, "pickle-proto", "protocol %u", v);
    return ST_OK;
}

static enum status frame(struct vm *m)
{
    uint64_t n = cur_u64(&m->c);
    if (cur_failed(&m->c))
        return ST_OK; /* the loop reports it */
    if (m->frame_end != 0 && m->at < m->frame_end)
        return pickle_bad(m, "pickle-frame", "frame inside a frame");
    if (n > cur_left(&m->c))
        return pickle_bad(m, "pickle-frame", "frame of %llu bytes, %llu are left",
                          (unsigned long long)n, (unsigned long long)cur_left(&m->c));
    m->frame_end = m->c.pos + n;
    return ST_OK;
}

static enum status op_tuple(struct vm *m, size_t n)
{
    if (m->n_stack - vm_floor(m) < n)
        return pickle_bad(m, "pickle-underflow", "opcode finds no value on the stack");
    return vm_collect(m, PK_TUPLE, m->n_stack - n);
}
static enum status op_marked(struct vm *m, enum pk_kind kind)
{
    size_t lo = 0;
    TRY(vm_close_mark(m, &lo));
    return vm_collect(m, kind, lo);
}
static enum status op_fill(struct vm *m, bool pairs, bool set)
{
    size_t lo = 0;
    TRY(vm_close_mark(m, &lo));
    return add_to(m, lo, pairs, set);
}
static enum status op_fill_one(struct vm *m, size_t n)
{
    if (m->n_stack - vm_floor(m) < n)
        return pickle_bad(m, "pickle-underflow", "opcode finds no value on the stack");
    return add_to(m, m->n_stack - n, n == 2, false);
}
static enum status op_call(struct vm *m, enum pk_kind kind, bool with_kwargs)
{
    uint32_t fn = 0, args = 0, kwargs = 0;
    if (with_kwargs)
        TRY(vm_pop(m, &kwargs));
    TRY(vm_pop(m, &args));
    TRY(vm_pop(m, &fn));
    if (with_kwargs && pk_kind(m->p, kwargs) != PK_DICT)
        return pickle_bad(m, "pickle-type", "keyword arguments that are no dict");
    return call(m, kind, fn, args, kwargs);
}
static enum status op_persid(struct vm *m, bool as_text)
{
    uint32_t id = 0, v = 0;
    if (as_text) {
        struct str s;
        TRY(pickle_line(m, 2048, &s));
        TRY(pickle_push_string(m, s.p, s.n));
    }
    TRY(vm_pop(m, &id));
    TRY(vm_value(m, PK_PERSID, &v));
    m->p->val[v].ref = id;
    return vm_push(m, v);
}
static enum status op_pop(struct vm *m)
{
    uint32_t v = 0;
    if (m->n_mark > 0 && m->n_stack == vm_floor(m)) {
        m->n_mark--;
        return ST_OK;
    }
    return vm_pop(m, &v);
}
static enum status op_pop_mark(struct vm *m)
{
    size_t lo = 0;
    TRY(vm_close_mark(m, &lo));
    m->n_stack = lo;
    return ST_OK;
}
static enum status op_dup(struct vm *m)
{
    uint32_t v = 0;
    TRY(vm_top(m, &v));
    return vm_push(m, v);
}
static enum status op_none(struct vm *m, enum pk_kind kind)
{
    struct pk_val *x;
    return pickle_push(m, kind, &x);
}
static enum status op_binfloat(struct vm *m)
{
    struct pk_val *x;
    TRY(pickle_push(m, PK_FLOAT, &x));
    x->bits = cur_u64be(&m->c);
    return ST_OK;
}

static enum status step(struct vm *m, uint8_t op)
{
    struct cursor *c = &m->c;
    switch (op) {
    case 0x80:
        return proto(m);
    case 0x95:
        return frame(m);
    case '(':
        return vm_open_mark(m);
    case '0':
        return op_pop(m);
    case '1':
        return op_pop_mark(m);
    case '2':
        return op_dup(m);
    case 'N':
        return op_none(m, PK_NONE);
    case 0x88:
        return pickle_push_bool(m, true);
    case 0x89:
        return pickle_push_bool(m, false);
    case 'I':
        return pickle_text_int(m, false);
    case 'L':
        return pickle_text_int(m, true);
    case 'F':
        return pickle_text_float(m);
    case 'S':
        return pickle_text_string(m);
    case 'V':
        return pickle_text_unicode(m);
    case 'K':
        return pickle_push_int(m, cur_u8(c));
    case 'M':
        return pickle_push_int(m, cur_u16(c));
    case 'J':
        return pickle_push_int(m, (int32_t)cur_u32(c));
    case 0x8a:
        return binary_long(m, cur_u8(c));
    case 0x8b: {
        uint32_t n = cur_u32(c);
        if (n > INT32_MAX)
            return pickle_bad(m, "pickle-length", "negative length");
        return binary_long(m, n);
    }
    case 'G':
        return op_binfloat(m);
    case 'U':
        return binary_string(m, cur_u8(c));
    case 'T': {
        uint32_t n = cur_u32(c);
        if (n > INT32_MAX)
            return pickle_bad(m, "pickle-length", "negative length");
        return binary_string(m, n);
    }
    case 0x8c:
        return binary_text(m, PK_STR, cur_u8(c));
    case 'X':
        return binary_text(m, PK_STR, cur_u32(c));
    case 0x8d:
        return binary_text(m, PK_STR, cur_u64(c));
    case 'C':
        return binary_text(m, PK_BYTES, cur_u8(c));
    case 'B':
        return binary_text(m, PK_BYTES, cur_u32(c));
    case 0x8e:
        return binary_text(m, PK_BYTES, cur_u64(c));
    case 0x96:
        return binary_text(m, PK_BYTEARRAY, cur_u64(c));
    case 0x97:
    case 0x98:
        return pickle_bad(m, "pickle-buffer", "out-of-band buffer: its data is not in the file");
    case ')':
        return op_none(m, PK_TUPLE);
    case ']':
        return op_none(m, PK_LIST);
    case '}':
        return op_none(m, PK_DICT);
    case 0x8f:
        return op_none(m, PK_SET);
    case 0x85:
    case 0x86:
    case 0x87:
        return op_tuple(m, op - 0x84u);
    case 't':
        return op_marked(m, PK_TUPLE);
    case 'l':
        return op_marked(m, PK_LIST);
    case 'd':
        return op_marked(m, PK_DICT);
    case 0x91:
        return op_marked(m, PK_FROZENSET);
    case 'a':
        return op_fill_one(m, 1);
    case 's':
        return op_fill_one(m, 2);
    case 'e':
        return op_fill(m, false, false);
    case 'u':
        return op_fill(m, true, false);
    case 0x90:
        return op_fill(m, false, true);
    case 'p':
        return memo_text(m, true);
    case 'g':
        return memo_text(m, false);
    case 'q':
        return memo_put(m, cur_u8(c));
    case 'r':
        return memo_put(m, cur_u32(c));
    case 0x94:
        return memo_put(m, m->n_memo);
    case 'h':
        return memo_get(m, cur_u8(c));
    case 'j':
        return memo_get(m, cur_u32(c));
    case 'c':
        return op_global(m, false);
    case 'i':
        return op_global(m, true);
    case 0x93:
        return op_stack_global(m);
    case 'o':
        return op_obj(m);
    case 'R':
        return op_call(m, PK_CALL, false);
    case 0x81:
        return op_call(m, PK_NEW, false);
    case 0x92:
        return op_call(m, PK_NEW, true);
    case 'b':
        return build(m);
    case 'P':
        return op_persid(m, true);
    case 'Q':
        return op_persid(m, false);
    case 0x82:
    case 0x83:
    case 0x84:
        return pickle_bad(m, "pickle-ext", "extension code: a name that is not in the file");
    default:
        return pickle_bad(m, "pickle-opcode", "unknown opcode 0x%02x", op);
    }
}

static enum status loop(struct vm *m)
{
    struct pickle *p = m->p;
    struct cursor *c = &m->c;
    for (;;) {
        m->at = c->pos;
        if (cur_left(c) == 0)
            return pickle_bad(m, "pickle-no-stop", "the pickle ends without STOP");
        uint8_t op = cur_u8(c);
        if (op != '.')
            TRY(step(m, op));
        if (cur_failed(c)) /* a file may fail for its own reasons */
            return strcmp(c->err.code ? c->err.code : "", "truncated") == 0
                       ? pickle_bad(m, "pickle-truncated", "the pickle ends inside an opcode")
                       : cur_ok(c, m->e);
        if (m->frame_end != 0 && m->at < m->frame_end && c->pos > m->frame_end)
            return pickle_bad(m, "pickle-frame", "frame ends inside an opcode");
        if (op == '.')
            break;
    }
    if (m->n_mark != 0 || m->n_stack != 1)
        return pickle_bad(m, "pickle-stop", "STOP with %zu values and %zu marks on the stack",
                          m->n_stack, m->n_mark);
    p->root = m->stack[0];
    p->end = c->pos;
    if (!m->o->tail && p->end != p->n_bytes) {
        m->at = p->end;
        return pickle_bad(m, "pickle-tail", "%llu bytes behind the end of the pickle",
                          (unsigned long long)(p->n_bytes - p->end));
    }
    return ST_OK;
}

/* Index 0 of every pool stands for "none". */
static enum status start(struct vm *m)
{
    struct pickle *p = m->p;
    uint32_t none = 0;
    TRY(vm_value(m, PK_NONE, &none));
    TRY(pickle_grow(m, &p->cell, 0, &p->cap_cell_, sizeof *p->cell));
    p->cell[p->n_cell++] = (struct pk_cell){0};
    TRY(pickle_grow(m, &p->more, 0, &p->cap_more_, sizeof *p->more));
    p->more[p->n_more++] = (struct pk_more){0};
    return ST_OK;
}

static enum status work(struct vm *m)
{
    enum status st = start(m);
    if (st == ST_OK)
        st = loop(m);
    cur_close(&m->c);
    mem_free(m->stack);
    mem_free(m->mark);
    mem_free(m->memo);
    if (st == ST_OK)
        st = pickle_members(m);
    if (st == ST_OK)
        st = pickle_prove(m->p, m->e);
    return st;
}

enum status pickle_read(struct pickle *p, const void *bytes, size_t n, const struct pickle_opt *o,
                        struct err *e)
{
    *p = (struct pickle){
        .bytes = bytes ? bytes : (const void *)"", .n_bytes = n, .file = o->file, .base = o->base};
    if (n > PICKLE_BYTES_MAX)
        return err_set(e, ST_LIMIT, "pickle-too-big", "pickle of %zu bytes", n);
    struct vm m = {.p = p, .o = o, .e = e};
    cur_mem(&m.c, p->bytes, n, o->file, o->base);
    return work(&m);
}

enum status pickle_read_file(struct pickle *p, struct file *f, uint64_t off, uint64_t n,
                             const struct pickle_opt *o, struct err *e)
{
    *p = (struct pickle){.n_bytes = n, .file = o->file, .base = o->base};
    if (n >= PICKLE_FILE_MAX)
        return err_set(e, ST_LIMIT, "pickle-too-big", "pickle of %llu bytes",
                       (unsigned long long)n);
    struct vm m = {.p = p, .o = o, .e = e};
    cur_file(&m.c, f, off, n);
    return work(&m);
}

void pickle_free(struct pickle *p)
{
    mem_free(p->val);
    mem_free(p->cell);
    mem_free(p->more);
    mem_free(p->global);
    arena_free(&p->arena);
    *p = (struct pickle){0};
}
