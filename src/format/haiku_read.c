/* Haiku pickles, reading: the pickle is stepped through where it lies, or, where the whole file is
 * compressed, where it was unfolded to. See haiku.c.
 */
#include "base/mem.h"
#include "codec/unwrap.h"
#include "format/haiku.h"
#include "format/pickle_value.h"
#include "model/roles.h"
#include <string.h>

#define UNFOLD_MIN ((uint64_t)1 << 30) /* as --max-output: the larger of this and 64 times */

static enum status bad(struct file *f, const char *code, const char *why, struct err *e)
{
    err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(f), 0);
    return ST_INPUT;
}

/* Other wrappings that joblib knows. */
static enum status wrapped_otherwise(const struct source *s, struct file *f, struct err *e)
{
    static const struct {
        size_t n;
        const char *magic, *why;
    } table[] = {
        {3, "BZh", "a bzip2 stream: load it with joblib and save it with zlib or plain"},
        {6,
         "\xfd"
         "7zXZ",
         "an xz stream: load it with joblib and save it with zlib or plain"},
        {3, "\x5d\x00\x00", "an lzma stream: load it with joblib and save it with zlib or plain"},
        {4, "\x04\x22\x4d\x18",
         "an lz4 stream: load it with joblib and save it with zlib or plain"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (s->head_n >= table[i].n && memcmp(s->head, table[i].magic, table[i].n) == 0)
            return bad(f, "joblib-compression", table[i].why, e);
    if (s->head_n >= 2 && memcmp(s->head, "ZF", 2) == 0)
        return bad(f, "joblib-zfile", "joblib's own compressed file of before 0.10", e);
    return ST_OK;
}

/* The file the pickle stands in; both are the model's. */
static enum status unfold(struct hk_reader *r, const struct source *s, struct file *f,
                          struct err *e)
{
    uint8_t first[16];
    size_t n;
    uint64_t size = file_size(f), most = size > UNFOLD_MIN / 64 ? size * 64 : UNFOLD_MIN;
    r->file = f;
    TRY(wrapped_otherwise(s, f, e));
    if (!unwrap_peek(s->head, s->head_n, first, sizeof first, &n))
        return ST_OK;
    TRY(unwrap_spool(f, most, &r->file, e));
    r->m->n_decoded++;
    r->m->spooled_bytes += file_size(r->file);
    return model_own_file(r->m, r->file, e);
}

static struct str framework_of(const struct pickle *p)
{
    for (uint32_t i = 0; i < p->n_global; i++) {
        if (str_starts(p->global[i].module, STR("haiku.")))
            return STR("haiku");
        if (str_starts(p->global[i].module, STR("flax.")))
            return STR("flax");
    }
    return STR("");
}

static enum status read_pickle(struct hk_reader *r, struct err *e)
{
    struct pk_allow *allow;
    size_t n_allow;
    TRY(haiku_allow(&r->scratch, &allow, &n_allow, e));
    struct pickle_opt o = {.file = file_path(r->file),
                           .allow = allow,
                           .n_allow = n_allow,
                           .scan = r->opt->scan,
                           .built = haiku_raw,
                           .ctx = r};
    enum status st = pickle_read_file(&r->pk, r->file, 0, file_size(r->file), &o, e);
    pickle_tell_globals(&r->pk, r->opt, &r->m->arena);
    TRY(st);
    r->storage_of = mem_zalloc((size_t)r->pk.n_val + 1, sizeof *r->storage_of);
    if (!r->storage_of)
        return err_nomem(e, (uint64_t)r->pk.n_val * sizeof *r->storage_of);
    r->m->framework = framework_of(&r->pk);
    return haiku_tree(r, e);
}

enum status haiku_read(struct source *s, const struct read_opt *opt, struct model *m, struct err *e)
{
    struct hk_reader r = {.m = m, .opt = opt};
    struct file *f = s->file;
    s->file = NULL;
    m->format = "haiku";
    TRY(model_own_file(m, f, e));
    enum status st = unfold(&r, s, f, e);
    if (st == ST_OK)
        st = read_pickle(&r, e);
    pickle_free(&r.pk);
    buf_free(&r.raw);
    mem_free(r.storage_of);
    arena_free(&r.scratch);
    TRY(st);
    m->tree = r.root;
    TRY(model_finish(m, e));
    TRY(roles_by_name(m, e));
    return haiku_roles(m, m->tree, e);
}
