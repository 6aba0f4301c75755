/* External data: files beneath the folder of the model, each opened once, ranges proved. A range
 * that two tensors name is one storage, and a warning: they are tied.
 */
#include "base/checked.h"
#include "base/log.h"
#include "format/onnx.h"
#include <stdlib.h>
#include <string.h>

static int by_place(const void *a, const void *b)
{
    const struct onnx_external *x = a, *y = b;
    int c = str_cmp(x->location, y->location);
    if (c != 0)
        return c;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

static enum status refuse(const struct onnx_external *r, struct file *self, const char *code,
                          const char *why, struct err *e)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(self), r->at);
    err_in(e, r->name.p, r->name.n);
    return ST_INPUT;
}

static enum status place(const struct onnx_external *r, struct file *self, struct file *f,
                         struct model *m, struct err *e)
{
    uint64_t size = file_size(f);
    if (!range_in(r->offset, r->has_length ? r->length : r->want, size))
        return refuse(r, self, "external-range", "the data file ends before the tensor does", e);
    if (r->has_length && r->length != r->want)
        return refuse(r, self, "external-length", "shape and type need another length", e);
    struct storage *s = &m->storage[m->tensor[r->tensor].storage];
    s->file = f;
    s->offset = r->offset;
    return ST_OK;
}

/* Two tensors with one range share a storage. */
static void share(const struct onnx_external *before, const struct onnx_external *r,
                  struct model *m, bool *told)
{
    if (r->want == 0 || before->want == 0 || r->offset - before->offset >= before->want)
        return;
    if (!*told)
        log_warn("%.*s: shared-range: two tensors lie in one range, '%.*s' and '%.*s'",
                 STR_ARG(r->location), STR_ARG(before->name), STR_ARG(r->name));
    *told = true;
    if (r->offset == before->offset && r->want == before->want)
        m->tensor[r->tensor].storage = m->tensor[before->tensor].storage;
}

/* For `scan`: what cannot be opened is told, and the tensor has no bytes. */
static bool told(const struct read_opt *opt, const struct onnx_external *r, struct model *m,
                 const struct err *e)
{
    char text[2100];
    if (!opt->scan || !opt->finding || e->status != ST_INPUT)
        return false;
    err_escape(e->reason, strlen(e->reason), text, sizeof text);
    opt->finding(opt->finding_ctx, true, e->code, r->at, text);
    m->storage[m->tensor[r->tensor].storage].kind = STORAGE_MEMORY;
    return true;
}

/* Told before any part of the path is looked at, so that the answer does not depend on the disk. */
static bool stays_beneath(struct str location)
{
    struct str rest = location, part;
    bool ok = location.n > 0;
    while (ok && str_split(&rest, '/', &part))
        ok = part.n > 0 && !str_is(part, ".") && !str_is(part, "..");
    return ok;
}

static enum status open_file(struct dir *d, struct str location, struct model *m, struct file **f,
                             struct err *e)
{
    if (!stays_beneath(location))
        return err_set(e, ST_INPUT, "path-escape", "no path beneath the model's folder");
    TRY(dir_file(d, location, f, e));
    return model_own_file(m, *f, e);
}

/* What is wrong with a data file is said of the model that names it. */
static enum status name_file(const struct onnx_external *r, struct file *self, struct err why,
                             struct err *e)
{
    if (why.status != ST_INPUT)
        return why.status;
    (void)err_set(e, ST_INPUT, why.code, "external data '%.*s': %s",
                  (int)(r->location.n < 100 ? r->location.n : 100),
                  r->location.n ? r->location.p : "", why.reason);
    err_at(e, file_path(self), r->at);
    return ST_INPUT;
}

static enum status place_all(struct dir *d, struct file *self, struct onnx_external *ref, size_t n,
                             const struct read_opt *opt, struct model *m, struct err *e)
{
    struct file *f = NULL;
    bool warned = false;
    for (size_t i = 0; i < n; i++) {
        const struct onnx_external *r = &ref[i];
        struct err why = {0};
        enum status st = ST_OK;
        bool same = i > 0 && f && str_eq(ref[i - 1].location, r->location);
        if (!same && (st = open_file(d, r->location, m, &f, &why)) != ST_OK)
            st = name_file(r, self, why, &why);
        if (st == ST_OK)
            st = place(r, self, f, m, &why);
        else
            f = NULL;
        if (st != ST_OK && !told(opt, r, m, &why)) {
            err_in(&why, r->name.p, r->name.n);
            if (e)
                *e = why;
            return st;
        }
        if (st == ST_OK && same)
            share(&ref[i - 1], r, m, &warned);
    }
    return ST_OK;
}

enum status onnx_external_place(const struct source *s, struct file *self,
                                struct onnx_external *ref, size_t n, const struct read_opt *opt,
                                struct model *m, struct err *e)
{
    const char *slash = strrchr(s->path, '/');
    struct str folder = !slash             ? STR(".")
                        : slash == s->path ? STR("/")
                                           : (struct str){s->path, (size_t)(slash - s->path)};
    struct dir *d;
    if (n == 0)
        return ST_OK;
    folder = arena_str(&m->arena, folder.p, folder.n);
    if (!folder.p)
        return err_nomem(e, folder.n);
    TRY(dir_open(folder.p, &d, e));
    qsort(ref, n, sizeof *ref, by_place);
    enum status st = place_all(d, self, ref, n, opt, m, e);
    dir_close(d);
    return st;
}
