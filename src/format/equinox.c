/* Equinox (.eqx): npy arrays end to end, one for every leaf of a model in the order of its fields.
 *
 *   [one line of text, '\n']   by custom JSON of hyper-parameters; kept as meta
 *   leaf 0   npy header (codec/npy.h), data
 *   leaf 1   ...               to the end of the file, nothing between
 *
 * The file says neither names nor structure: a leaf is called by its number, and Python's bool,
 * int, float and complex are arrays without axes. A file of ours that no skeleton went with names
 * its leaves in the line: the last key of the object is "nnferry.leaves": ["name", ...]. Source:
 * patrick-kidger/equinox equinox/_serialisation.py, docs/examples/serialisation.ipynb.
 *
 * Written: in the order of the leaves' numbers where the names are those, else in the model's order
 * with the list. Ties have no spelling: each name gets its own copy. bfloat16 is '<V2', which
 * jnp.load takes back; 8-bit floats would be '<V1', whose type is lost (exit 4).
 *
 * Refused beside what npy refuses: eqx-line (too long, no text, or no array behind it), eqx-leaves
 * (the list is no list of different names, or of another length), truncated; each with the number
 * of the leaf.
 */
#include "format/equinox.h"
#include "codec/json.h"
#include "format/npy_array.h"
#include "model/roles.h"
#include <string.h>

static const char magic[] = "\x93NUMPY";
enum { MAGIC = 6 };

/* ---- recognising ---- */

static bool named_so(const struct source *s)
{
    return str_ends(str_from(s->path), STR(".eqx"));
}

static bool begins_json(uint8_t c)
{
    return c != 0 && strchr("{[\"-0123456789tfnNI", c) != NULL;
}

static bool magic_at(const struct source *s, uint64_t at)
{
    uint8_t p[MAGIC];
    struct err quiet;
    uint64_t size = file_size(s->file);
    return at <= size && size - at >= MAGIC && file_pread(s->file, p, MAGIC, at, &quiet) == ST_OK &&
           memcmp(p, magic, MAGIC) == 0;
}

/* Where the first array ends; 0 when it is not in the file as a whole. */
static uint64_t first_end(const struct source *s)
{
    struct cursor c;
    struct npy h;
    struct err quiet;
    enum dtype t;
    uint64_t bytes = 0;
    cur_file(&c, s->file, 0, file_size(s->file));
    enum status st = npy_read(&c, &h, &quiet);
    if (st == ST_OK)
        st = npy_dtype(&h, s->file, 0, &t, &bytes, &quiet);
    cur_close(&c);
    return st == ST_OK && bytes <= file_size(s->file) - h.data ? h.data + bytes : 0;
}

/* The end of the first line; 0 when there is none within reach. */
static uint64_t line_end(struct file *f)
{
    uint8_t p[4096];
    struct err quiet;
    uint64_t size = file_size(f), most = size < EQX_LINE_MAX ? size : EQX_LINE_MAX;
    for (uint64_t at = 0; at < most; at += sizeof p) {
        size_t n = most - at < sizeof p ? (size_t)(most - at) : sizeof p;
        if (file_pread(f, p, n, at, &quiet) != ST_OK)
            return 0;
        const uint8_t *nl = memchr(p, '\n', n);
        if (nl)
            return at + (uint64_t)(nl - p);
        if (memchr(p, 0, n)) /* no text */
            return 0;
    }
    return 0;
}

static int bid(const struct source *s)
{
    if (s->dir || s->head_n == 0)
        return 0;
    if (s->head_n >= MAGIC && memcmp(s->head, magic, MAGIC) == 0) {
        uint64_t end = first_end(s);
        return end && magic_at(s, end) ? 95 : named_so(s) ? 92 : 0;
    }
    if (!begins_json(s->head[0]))
        return named_so(s) ? 1 : 0;
    uint64_t end = line_end(s->file);
    return end && magic_at(s, end + 1) ? 95 : named_so(s) ? 35 : 0;
}

/* ---- the line ---- */

struct reader {
    struct model *m;
    struct file *f;
    struct cursor c;
    struct str *name; /* of the leaves, NULL: numbers */
    size_t n_names;
    uint64_t list_at;
};

static enum status refuse(struct reader *r, uint64_t at, const char *code, const char *why,
                          struct err *e)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(r->f), at);
    return ST_INPUT;
}

static enum status read_list(struct reader *r, struct json *j, struct err *e)
{
    struct buf list = BUF_INIT;
    enum status st;
    r->list_at = j->at;
    st = json_expect(j, JSON_ARRAY, "the list of leaves", e);
    while (st == ST_OK && (st = json_next(j, e)) == ST_OK && j->kind != JSON_ARRAY_END) {
        struct str s = STR_NONE;
        if (j->kind != JSON_STRING || j->has_nul)
            st = refuse(r, j->at, "eqx-leaves", "a name of a leaf is no text", e);
        else if (!(s = arena_str(&r->m->arena, j->text.p, j->text.n)).p)
            st = err_nomem(e, j->text.n);
        buf_bytes(&list, &s, sizeof s);
    }
    if (st == ST_OK)
        st = buf_ok(&list, e);
    r->n_names = list.n / sizeof(struct str);
    if (st == ST_OK) {
        r->name = ARENA_ARRAY(&r->m->arena, struct str, r->n_names + 1);
        if (!r->name)
            st = err_nomem(e, list.n);
        else if (list.n)
            memcpy(r->name, list.p, list.n);
    }
    buf_free(&list);
    return st;
}

/* Looks for our list among the keys of the object. *cut: where the text before it ends. A line that
 * is no strict JSON (Python writes NaN and Infinity) has none. */
static enum status look(struct reader *r, struct str line, size_t *cut, struct err *e)
{
    struct cursor c;
    struct json j;
    struct err ignored;
    enum status st = ST_OK;
    size_t before = line.n;
    cur_mem(&c, line.p, line.n, file_path(r->f), 0);
    json_init(&j, &c, 0);
    *cut = line.n;
    if (json_next(&j, &ignored) == ST_OK && j.kind == JSON_OBJECT) {
        while (st == ST_OK && json_next(&j, &ignored) == ST_OK && j.kind == JSON_KEY) {
            bool ours = str_is(j.text, EQX_LEAVES);
            before = (size_t)j.at;
            if (ours && r->name)
                st = refuse(r, j.at, "eqx-leaves", "two lists of leaves", e);
            else if (ours)
                st = read_list(r, &j, e);
            else if (json_next(&j, &ignored) != ST_OK || json_skip(&j, &ignored) != ST_OK)
                break;
            if (ours)
                *cut = before;
            else if (r->name)
                *cut = line.n; /* not the last key: none of our making, but its names hold */
        }
    }
    json_free(&j);
    cur_close(&c);
    return st;
}

static enum status read_line(struct reader *r, struct err *e)
{
    size_t where, cut;
    uint64_t end = line_end(r->f);
    struct str line = cur_str(&r->c, (size_t)end, &r->m->arena);
    TRY(cur_ok(&r->c, e));
    if (end == 0 || !begins_json((uint8_t)line.p[0]))
        return refuse(
            r, 0, "eqx-line",
            "neither an array nor a line of JSON and arrays behind it, or a line too long", e);
    cur_skip(&r->c, 1);
    if (!str_utf8(line, &where) || memchr(line.p, 0, line.n))
        return refuse(r, 0, "eqx-line", "the line before the arrays is no text", e);
    TRY(look(r, line, &cut, e));
    if (cut == line.n)
        return model_meta_add(r->m, STR(EQX_META), line, e);
    /* what stood there before our key: {"a": 1, "nnferry.leaves" ... */
    while (cut > 0 && (line.p[cut - 1] == ' ' || line.p[cut - 1] == ','))
        cut--;
    if (cut <= 1)
        return ST_OK;
    struct str text = arena_fmt(&r->m->arena, "%.*s}", STR_ARG(str_sub(line, 0, cut)));
    return text.p ? model_meta_add(r->m, STR(EQX_META), text, e) : err_nomem(e, cut);
}

/* ---- the leaves ---- */

static enum status read_leaf(struct reader *r, size_t i, struct err *e)
{
    struct npy h;
    struct storage *s;
    enum dtype dtype;
    uint64_t bytes, at = r->c.pos;
    uint32_t index;
    struct str name;
    TRY(npy_read(&r->c, &h, e));
    TRY(npy_dtype(&h, r->f, at, &dtype, &bytes, e));
    if (bytes > cur_left(&r->c))
        return refuse(r, at, "truncated", "the array's data passes the end of the file", e);
    TRY(model_storage_add(r->m, &s, &index, e));
    *s = (struct storage){.kind = STORAGE_FLAT,
                          .file = r->f,
                          .offset = r->c.pos,
                          .stored_bytes = bytes,
                          .raw_bytes = bytes};
    cur_skip(&r->c, bytes);
    if (r->name && i >= r->n_names)
        return refuse(r, at, "eqx-leaves", "more leaves than the list has names", e);
    name = r->name ? r->name[i] : arena_fmt(&r->m->arena, "%zu", i);
    if (!name.p)
        return err_nomem(e, 24);
    return npy_add(r->m, name, &h, dtype, index, r->f, at, e);
}

static enum status read_all(struct reader *r, struct err *e)
{
    const uint8_t *p = cur_peek(&r->c, 1);
    if (p && *p != (uint8_t)magic[0])
        TRY(read_line(r, e));
    if (cur_left(&r->c) == 0)
        return refuse(r, r->c.pos, "eqx-line", "no array in the file", e);
    for (size_t i = 0; cur_left(&r->c) > 0; i++) {
        enum status st = read_leaf(r, i, e);
        if (st != ST_OK) {
            struct str s = arena_fmt(&r->m->arena, "leaf %zu", i);
            err_in(e, s.p ? s.p : "", s.p ? s.n : 0);
            return st;
        }
    }
    if (r->name && r->m->n_tensors != r->n_names)
        return refuse(r, r->list_at, "eqx-leaves", "fewer leaves than the list has names", e);
    return ST_OK;
}

static enum status read_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    struct reader r = {.m = m, .f = s->file};
    (void)opt;
    s->file = NULL;
    m->format = "equinox";
    m->framework = STR("equinox");
    TRY(model_own_file(m, r.f, e));
    cur_file(&r.c, r.f, 0, file_size(r.f));
    enum status st = read_all(&r, e);
    cur_close(&r.c);
    TRY(st);
    TRY(model_finish(m, e));
    TRY(roles_by_name(m, e));
    return r.name ? ST_OK : equinox_roles(m, e);
}

const struct format equinox_format = {
    .name = "equinox",
    .title = "Equinox leaves: npy arrays end to end, without names",
    .suffix = {".eqx", NULL},
    .reads = true,
    .writes = true,
    .keeps_meta = {EQX_META},
    .framework = "equinox",
    .refuses = "what npy refuses; leaves cut short or with other bytes between them; a first line "
               "that does not end, and lists of leaves of another length",
    .bid = bid,
    .read = read_file,
    .check = equinox_check,
    .begin = equinox_begin,
    .end = equinox_end,
};
