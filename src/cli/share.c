/* What several commands share. */
#include "base/log.h"
#include "base/mem.h"
#include "cli/command.h"
#include "framework/framework.h"
#include <stdio.h>
#include <string.h>

enum status open_source(const struct args *a, const char *path, struct model *m,
                        const struct format **found, struct err *e)
{
    /* inspect looks at headers; every command that uses the numbers checks them. What stands beside
     * the weights tells what they are: convert reads it, and leaves it behind where asked to. */
    bool looks = strcmp(a->cmd->name, "inspect") == 0;
    struct read_opt o = {.weights_only = looks && a->set[OPT_WEIGHTS_ONLY],
                         .quick = looks && !a->set[OPT_STATS]};
    const struct format *force = NULL;
    if (a->set[OPT_INPUT_FORMAT]) {
        force = format_find(str_from(a->text[OPT_INPUT_FORMAT]));
        if (!force || !force->reads)
            return err_set(e, ST_USAGE, NULL, "no format '%s' can be read; see nnferry formats",
                           a->text[OPT_INPUT_FORMAT]);
    }
    enum status st = format_open(path, force, &o, m, found, e);
    if (st != ST_OK)
        err_file(e, path);
    return st;
}

const char *recognised_framework(const struct model *m)
{
    /* those whose layers no table describes yet are known by their containers */
    static const char *const tagged[] = {"keras", "tensorflow", "haiku", "equinox"};
    int best = 0;
    const char *name = "";
    for (size_t i = 0; i < sizeof tagged / sizeof *tagged; i++)
        if (str_is(m->framework, tagged[i]))
            name = tagged[i];
    for (size_t i = 0; i < n_frameworks; i++) {
        int bid = frameworks[i]->bid(m);
        if (bid > best) {
            best = bid;
            name = frameworks[i]->name;
        }
    }
    return name;
}

void shape_text(const struct tensor *t, char *out, size_t n)
{
    size_t o = 0;
    if (n == 0)
        return;
    o += (size_t)snprintf(out, n, "[");
    for (size_t d = 0; d < t->n_dims && o < n; d++)
        o += (size_t)snprintf(out + o, n - o, "%s%llu", d ? ", " : "",
                              (unsigned long long)t->dim[d]);
    if (o < n)
        snprintf(out + o, n - o, "]");
}

void size_text(uint64_t bytes, char *out, size_t n)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(out, n, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
}

void run_opt_fill(const struct args *a, struct run_opt *o)
{
    (void)a;
    o->threads = host.threads;
    o->memory = host.memory; /* the engine takes off what is in use when it starts */
}

enum status read_rules_file(const struct args *a, struct buf *text, struct err *e)
{
    const char *path = a->text[OPT_MAP];
    struct file *f;
    if (!path)
        return ST_OK;
    TRY(file_open(path, &f, e));
    uint64_t n = file_size(f);
    enum status st = ST_OK;
    if (n > (UINT64_C(64) << 20))
        st = err_set(e, ST_INPUT, "rules-too-long", "a rules file of %llu bytes is too long",
                     (unsigned long long)n);
    else if (!buf_reserve(text, (size_t)n + 1))
        st = err_nomem(e, n);
    else
        st = file_pread(f, text->p, (size_t)n, 0, e);
    if (st == ST_OK)
        text->n = (size_t)n;
    else
        err_file(e, path);
    file_close(f);
    return st;
}
