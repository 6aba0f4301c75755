/* See attach.h. */
#include "format/attach.h"
#include "base/mem.h"

static bool stays_inside(struct str name)
{
    struct str rest = name, part;
    if (name.n == 0 || name.n > 4000 || str_find(name, 0, 0) < name.n)
        return false;
    while (str_split(&rest, '/', &part))
        if (part.n == 0 || part.n > 255 || str_is(part, ".") || str_is(part, ".."))
            return false;
    return true;
}

static bool all(struct str name)
{
    (void)name;
    return true;
}

enum status attach_check(const struct model *m, const struct str *taken, size_t n, struct err *e)
{
    return attach_check_some(m, all, taken, n, e);
}

enum status attach_check_some(const struct model *m, bool (*want)(struct str name),
                              const struct str *taken, size_t n, struct err *e)
{
    for (size_t i = 0; i < m->n_attachments; i++) {
        struct str name = m->attachment[i].name;
        if (!want(name))
            continue;
        bool ok = stays_inside(name);
        for (size_t k = 0; ok && k < n; k++)
            ok = !str_eq(name, taken[k]);
        if (!ok) {
            (void)err_set(e, ST_CANNOT, "attachment-name",
                          "an attachment cannot be a file of this name in the target folder");
            err_in(e, name.p, name.n);
            return ST_CANNOT;
        }
    }
    return ST_OK;
}

static enum status copy(struct out *o, int id, const struct attachment *a, uint8_t *step,
                        size_t step_n, struct err *e)
{
    if (a->mem)
        return a->n_bytes ? out_pwrite(o, id, a->mem, (size_t)a->n_bytes, 0, e) : ST_OK;
    for (uint64_t at = 0; at < a->n_bytes; at += step_n) {
        size_t k = a->n_bytes - at < step_n ? (size_t)(a->n_bytes - at) : step_n;
        TRY(file_pread(a->file, step, k, a->offset + at, e));
        TRY(out_pwrite(o, id, step, k, at, e));
    }
    return ST_OK;
}

enum status attach_write(struct writer *w, struct err *e)
{
    return attach_write_some(w, all, e);
}

enum status attach_write_some(struct writer *w, bool (*want)(struct str name), struct err *e)
{
    enum { STEP = 1 << 18 };
    enum status st = ST_OK;
    uint8_t *step = mem_alloc(STEP);
    if (!step)
        return err_nomem(e, STEP);
    for (size_t i = 0; i < w->m->n_attachments && st == ST_OK; i++) {
        const struct attachment *a = &w->m->attachment[i];
        int id;
        if (!want(a->name))
            continue;
        st = out_add(w->out, a->name, a->n_bytes, &id, e);
        if (st == ST_OK)
            st = copy(w->out, id, a, step, STEP, e);
    }
    mem_free(step);
    return st;
}

enum status attach_bytes(const struct attachment *at, struct arena *a, struct str *out,
                         struct err *e)
{
    *out = (struct str){(const char *)at->mem, (size_t)at->n_bytes};
    if (at->mem)
        return ST_OK;
    uint8_t *p = arena_alloc(a, 1, (size_t)at->n_bytes + 1);
    if (!p)
        return err_nomem(e, at->n_bytes);
    if (at->n_bytes)
        TRY(file_pread(at->file, p, (size_t)at->n_bytes, at->offset, e));
    out->p = (const char *)p;
    return ST_OK;
}
