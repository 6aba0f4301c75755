/* See id.h. */
#include "model/id.h"
#include "base/mem.h"
#include "codec/sha256.h"
#include <stdlib.h>
#include <string.h>

struct entry {
    struct str name;
    uint32_t tensor;
};

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void put_number(struct sha256 *s, uint64_t v, size_t n_bytes)
{
    uint8_t le[8];
    for (size_t i = 0; i < n_bytes; i++)
        le[i] = (uint8_t)(v >> 8 * i);
    sha256_add(s, le, n_bytes);
}

static void put_text(struct sha256 *s, struct str text)
{
    put_number(s, text.n, 4);
    sha256_add(s, text.p, text.n);
}

static void put_record(struct sha256 *s, const struct tensor *t, struct str name,
                       const uint8_t digest[32], struct str alias_of)
{
    put_text(s, name);
    put_text(s, str_from(dtype_info(t->dtype)->name));
    put_number(s, t->n_dims, 4);
    for (size_t d = 0; d < t->n_dims; d++)
        put_number(s, t->dim[d], 8);
    sha256_add(s, digest, 32);
    put_text(s, alias_of);
}

static struct str name_of(const struct model *m, const struct id_names *names, size_t i)
{
    return names ? names->name[i] : m->tensor[i].name;
}

enum status id_order(const struct model *m, const struct id_names *names, uint32_t *order,
                     struct err *e)
{
    struct entry *by = mem_alloc((m->n_tensors + 1) * sizeof *by);
    if (!by)
        return err_nomem(e, m->n_tensors * sizeof *by);
    for (size_t i = 0; i < m->n_tensors; i++)
        by[i] = (struct entry){name_of(m, names, i), (uint32_t)i};
    if (m->n_tensors)
        qsort(by, m->n_tensors, sizeof *by, by_name);
    for (size_t i = 0; i < m->n_tensors; i++)
        order[i] = by[i].tensor;
    mem_free(by);
    return ST_OK;
}

/* s holds what stands before the number of records. */
static enum status records(struct sha256 *s, const struct model *m, const struct id_names *names,
                           const uint8_t (*digest)[32], uint8_t out[32], struct err *e)
{
    uint64_t n = 0;
    uint32_t *order = mem_alloc((m->n_tensors + 1) * sizeof *order);
    enum status st =
        order ? id_order(m, names, order, e) : err_nomem(e, m->n_tensors * sizeof *order);
    for (size_t i = 0; i < m->n_tensors; i++)
        n += tensor_is_weight(&m->tensor[i]);
    put_number(s, n, 8);
    for (size_t i = 0; i < m->n_tensors && st == ST_OK; i++) {
        uint32_t t = order[i];
        int64_t of = names ? names->alias_of[t] : m->tensor[t].alias_of;
        if (tensor_is_weight(&m->tensor[t]))
            put_record(s, &m->tensor[t], name_of(m, names, t), digest[t],
                       of >= 0 ? name_of(m, names, (size_t)of) : STR_NONE);
    }
    mem_free(order);
    sha256_end(s, out);
    return st;
}

enum status id_plain(const struct model *m, const struct id_names *names,
                     const uint8_t (*digest)[32], uint8_t out[32], struct err *e)
{
    struct sha256 s;
    sha256_begin(&s);
    sha256_add(&s, ID_PREFIX_PLAIN, 4);
    return records(&s, m, names, digest, out, e);
}

enum status id_canonical(const struct model *m, uint32_t rules_version, const uint8_t (*digest)[32],
                         uint8_t out[32], struct err *e)
{
    struct sha256 s;
    sha256_begin(&s);
    sha256_add(&s, ID_PREFIX_CANONICAL, 4);
    put_number(&s, rules_version, 4);
    return records(&s, m, NULL, digest, out, e);
}
