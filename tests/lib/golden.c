/* See golden.h. */
#include "tests/lib/golden.h"
#include "codec/json.h"
#include "tests/lib/eager.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static void ok(enum status st, const struct err *e, const char *path)
{
    char line[1600];
    if (st == ST_OK)
        return;
    err_line(e, line, sizeof line);
    fail_msg("%s: %s", path, line);
}

static void want_string(struct json *j, const char *what, const char *path)
{
    struct err e;
    ok(json_expect(j, JSON_STRING, what, &e), &e, path);
}

static void one_tensor(struct json *j, const struct model *m, const char *path)
{
    struct err e = {0};
    int64_t at = -1;
    char hex[65];
    for (;;) {
        ok(json_next(j, &e), &e, path);
        if (j->kind == JSON_OBJECT_END)
            return;
        if (str_is(j->text, "name")) {
            want_string(j, "name", path);
            at = model_find(m, j->text);
            if (at < 0 && j->text.n == 0 && m->n_tensors == 1)
                at = 0; /* npy: the array has no name of its own */
            if (at < 0)
                fail_msg("%s: no tensor %.*s", path, STR_ARG(j->text));
        } else if (str_is(j->text, "dtype")) {
            want_string(j, "dtype", path);
            if (!str_is(j->text, dtype_info(m->tensor[at].dtype)->name))
                fail_msg("%s: %.*s is %s", path, STR_ARG(m->tensor[at].name),
                         dtype_info(m->tensor[at].dtype)->name);
        } else if (str_is(j->text, "shape")) {
            size_t n = 0;
            ok(json_expect(j, JSON_ARRAY, "shape", &e), &e, path);
            for (;;) {
                uint64_t v;
                ok(json_next(j, &e), &e, path);
                if (j->kind == JSON_ARRAY_END)
                    break;
                assert_true(json_u64(j, &v));
                assert_true(n < m->tensor[at].n_dims);
                assert_int_equal(v, m->tensor[at].dim[n++]);
            }
            assert_int_equal(n, m->tensor[at].n_dims);
        } else if (str_is(j->text, "sha256")) {
            size_t n;
            uint8_t *p = eager_read(m, (size_t)at, &n, &e);
            if (!p)
                ok(e.status, &e, path);
            sha_hex(p, n, hex);
            free(p);
            want_string(j, "sha256", path);
            if (!str_is(j->text, hex))
                fail_msg("%s: %.*s has other bytes", path, STR_ARG(m->tensor[at].name));
        } else {
            ok(json_next(j, &e), &e, path);
            ok(json_skip(j, &e), &e, path);
        }
    }
}

/* Every name of a group stands for one tensor; returns the number of aliases in the groups. */
static size_t aliases(struct json *j, const struct model *m, const char *path)
{
    struct err e = {0};
    size_t n = 0;
    ok(json_expect(j, JSON_ARRAY, "aliases", &e), &e, path);
    for (;;) {
        int64_t head = -2;
        ok(json_next(j, &e), &e, path);
        if (j->kind == JSON_ARRAY_END)
            return n;
        for (;;) {
            ok(json_next(j, &e), &e, path);
            if (j->kind == JSON_ARRAY_END)
                break;
            int64_t at = model_find(m, j->text);
            assert_true(at >= 0);
            int64_t of = m->tensor[at].alias_of < 0 ? at : m->tensor[at].alias_of;
            n += m->tensor[at].alias_of >= 0;
            if (head == -2)
                head = of;
            assert_int_equal(head, of);
        }
    }
}

void golden_check(const char *path, const char *format)
{
    struct model m;
    struct err e = {0};
    struct read_opt opt = {0};
    const struct format *found;
    struct file *f;
    struct cursor c;
    struct json j;
    char json_path[1024];
    size_t n = 0, n_alias = 0;
    model_init(&m);
    ok(format_open(path, NULL, &opt, &m, &found, &e), &e, path);
    assert_string_equal(found->name, format);
    snprintf(json_path, sizeof json_path, "%s.json", path);
    ok(file_open(json_path, &f, &e), &e, json_path);
    cur_file(&c, f, 0, file_size(f));
    json_init(&j, &c, 0);
    ok(json_expect(&j, JSON_OBJECT, "golden", &e), &e, json_path);
    for (;;) {
        ok(json_next(&j, &e), &e, json_path);
        if (j.kind == JSON_OBJECT_END)
            break;
        if (str_is(j.text, "aliases")) {
            n_alias = aliases(&j, &m, json_path);
        } else if (str_is(j.text, "tensors")) {
            ok(json_expect(&j, JSON_ARRAY, "tensors", &e), &e, json_path);
            for (;; n++) {
                ok(json_next(&j, &e), &e, json_path);
                if (j.kind == JSON_ARRAY_END)
                    break;
                one_tensor(&j, &m, json_path);
            }
        } else {
            ok(json_next(&j, &e), &e, json_path);
            ok(json_skip(&j, &e), &e, json_path);
        }
    }
    assert_int_equal(n, m.n_tensors);
    for (size_t i = 0; i < m.n_tensors; i++)
        if (m.tensor[i].alias_of >= 0) {
            assert_true(n_alias > 0);
            n_alias--;
        }
    assert_int_equal(n_alias, 0);
    json_free(&j);
    cur_close(&c);
    file_close(f);
    model_free(&m);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **golden_list(const char *folder, const char *suffix, size_t *n)
{
    struct dir *d;
    struct err e;
    struct arena a = ARENA_INIT;
    struct dir_entry *entry;
    size_t n_entries;
    ok(dir_open(folder, &d, &e), &e, folder);
    ok(dir_list(d, &a, &entry, &n_entries, &e), &e, folder);
    char **list = calloc(n_entries + 1, sizeof *list);
    assert_non_null(list);
    *n = 0;
    for (size_t i = 0; i < n_entries; i++) {
        char path[1024];
        if (entry[i].is_dir || !str_ends(entry[i].name, str_from(suffix)))
            continue;
        snprintf(path, sizeof path, "%s/%.*s", folder, STR_ARG(entry[i].name));
        list[*n] = strdup(path);
        assert_non_null(list[(*n)++]);
    }
    qsort(list, *n, sizeof *list, by_text);
    dir_close(d);
    arena_free(&a);
    return list;
}

void golden_list_free(char **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i]);
    free(list);
}
