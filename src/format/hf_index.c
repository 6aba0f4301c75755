/* See hf_index.h. Refused: path-escape, key-twice, index-empty, name-too-long, bad-name and the
 * codes of codec/json.h.
 */
#include "format/hf_index.h"
#include "codec/json.h"
#include <stdlib.h>

#define NAME_MAX_BYTES 65535

bool hf_index_named(struct str file)
{
    return str_ends(file, STR(".index.json")) ||
           (str_ends(file, STR(".json")) && str_find_str(file, STR(".index."), 0) < file.n);
}

size_t hf_index_find(const struct source *s, const char *what, size_t *at)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_entries; i++) {
        struct str name = s->entry[i].name;
        if (s->entry[i].is_dir || !hf_index_named(name) ||
            str_find_str(name, str_from(what), 0) == name.n)
            continue;
        if (n++ == 0)
            *at = i;
    }
    return n;
}

static int by_text(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct hf_entry *)a)->name, ((const struct hf_entry *)b)->name);
}

static bool plain_name(struct str s)
{
    return s.n > 0 && s.n <= 255 && str_find(s, '/', 0) == s.n && str_find(s, 0, 0) == s.n &&
           !str_is(s, ".") && !str_is(s, "..");
}

struct line {
    struct str name, file;
    uint64_t at;
};

static enum status read_map(struct json *j, struct arena *a, struct buf *lines, struct err *e)
{
    TRY(json_expect(j, JSON_OBJECT, "weight_map", e));
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END)
            return ST_OK;
        struct line l = {.at = j->at};
        if (j->text.n > NAME_MAX_BYTES)
            return json_fail(j, e, "name-too-long", "tensor name of %zu bytes", j->text.n);
        if (j->has_nul)
            return json_fail(j, e, "bad-name", "tensor name with a NUL in it");
        l.name = arena_str(a, j->text.p, j->text.n);
        TRY(json_expect(j, JSON_STRING, "the shard of a tensor", e));
        if (!plain_name(j->text))
            return json_fail(j, e, "path-escape", "shard '%.*s' is not a plain file name",
                             (int)(j->text.n < 200 ? j->text.n : 200), j->text.p);
        l.file = arena_str(a, j->text.p, j->text.n);
        if (!l.name.p || !l.file.p)
            return err_nomem(e, j->text.n);
        buf_bytes(lines, &l, sizeof l);
        TRY(buf_ok(lines, e));
    }
}

static enum status read_top(struct json *j, struct arena *a, struct buf *lines, struct err *e)
{
    bool seen = false;
    TRY(json_expect(j, JSON_OBJECT, "the index", e));
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END)
            break;
        if (str_is(j->text, "weight_map")) {
            if (seen)
                return json_fail(j, e, "key-twice", "weight_map stands twice");
            seen = true;
            TRY(read_map(j, a, lines, e));
        } else {
            TRY(json_next(j, e));
            TRY(json_skip(j, e));
        }
    }
    TRY(json_next(j, e));
    TRY(json_finish(j, " \t\r\n", e));
    if (!seen || lines->n == 0)
        return json_fail(j, e, "index-empty", "the index has no weight_map");
    return ST_OK;
}

static enum status fill(const struct line *line, size_t n, struct file *f, struct arena *a,
                        struct hf_index *out, struct err *e)
{
    struct str *file = ARENA_ARRAY(a, struct str, n);
    struct hf_entry *entry = ARENA_ARRAY(a, struct hf_entry, n);
    struct hf_entry *sorted = ARENA_ARRAY(a, struct hf_entry, n);
    if (!file || !entry || !sorted)
        return err_nomem(e, n * sizeof *entry);
    for (size_t i = 0; i < n; i++)
        file[i] = line[i].file;
    qsort(file, n, sizeof *file, by_text);
    size_t n_files = 0;
    for (size_t i = 0; i < n; i++)
        if (n_files == 0 || !str_eq(file[n_files - 1], file[i]))
            file[n_files++] = file[i];
    for (size_t i = 0; i < n; i++) {
        const struct str *at = bsearch(&line[i].file, file, n_files, sizeof *file, by_text);
        entry[i] = (struct hf_entry){line[i].name, (uint32_t)(at - file), line[i].at};
        sorted[i] = entry[i];
    }
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 1; i < n; i++)
        if (str_eq(sorted[i - 1].name, sorted[i].name)) {
            uint64_t x = sorted[i - 1].offset, y = sorted[i].offset;
            (void)err_set(e, ST_INPUT, "key-twice", "the index names a tensor twice");
            err_at(e, file_path(f), x > y ? x : y);
            err_in(e, sorted[i].name.p, sorted[i].name.n);
            return ST_INPUT;
        }
    *out = (struct hf_index){entry, n, file, n_files};
    return ST_OK;
}

enum status hf_index_read(struct file *f, struct arena *a, struct hf_index *out, struct err *e)
{
    struct cursor c;
    struct json j;
    struct buf lines = BUF_INIT;
    cur_file(&c, f, 0, file_size(f));
    json_init(&j, &c, 0);
    enum status st = read_top(&j, a, &lines, e);
    json_free(&j);
    cur_close(&c);
    if (st == ST_OK)
        st = fill((const struct line *)(const void *)lines.p, lines.n / sizeof(struct line), f, a,
                  out, e);
    buf_free(&lines);
    return st;
}

struct str hf_shard_name(struct arena *a, const char *stem, const char *suffix, size_t i, size_t n)
{
    if (n == 1)
        return arena_fmt(a, "%s%s", stem, suffix);
    return arena_fmt(a, "%s-%05zu-of-%05zu%s", stem, i + 1, n, suffix);
}

void hf_index_write(struct buf *b, const struct hf_index *x, uint64_t total_size)
{
    struct json_w w;
    qsort(x->entry, x->n, sizeof *x->entry, by_name);
    json_w_init(&w, b, 2);
    json_w_object(&w);
    json_w_key(&w, STR("metadata"));
    json_w_object(&w);
    json_w_key(&w, STR("total_size"));
    json_w_u64(&w, total_size);
    json_w_object_end(&w);
    json_w_key(&w, STR("weight_map"));
    json_w_object(&w);
    for (size_t i = 0; i < x->n; i++) {
        json_w_key(&w, x->entry[i].name);
        json_w_str(&w, x->file[x->entry[i].shard]);
    }
    json_w_object_end(&w);
    json_w_object_end(&w);
    buf_u8(b, '\n');
}

size_t hf_shard_cut(const uint64_t *bytes, size_t n, uint64_t max, uint32_t *shard)
{
    uint32_t at = 0;
    uint64_t open = 0;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (max != 0 && any && (bytes[i] > max || open > max - bytes[i])) {
            at++;
            open = 0;
        }
        shard[i] = at;
        open += bytes[i];
        any = true;
    }
    return (size_t)at + 1;
}
