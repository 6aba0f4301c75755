/* nnferry man: the manual, from the binary itself. The pages are carried twice: rendered (at build
 * time) for reading where there is no man(1), and as mdoc source for installing.
 */
#include "base/embed.h"
#include "cli/command.h"
#include <string.h>
#include <unistd.h>

static struct str page_text(const struct embed *p)
{
    return (struct str){(const char *)p->data, (size_t)(p->end - p->data)};
}

/* "convert", "nnferry-convert", "archive" with section 5: the page nnferry-WORD.SECTION */
static bool names(const struct embed *p, struct str word, const char *section)
{
    struct str name = str_from(p->name);
    size_t dot = name.n;
    while (dot > 0 && name.p[dot - 1] != '.')
        dot--;
    if (dot == 0 || (section && !str_is(str_sub(name, dot, name.n), section)))
        return false;
    struct str stem = str_sub(name, 0, dot - 1);
    return str_eq(stem, word) ||
           (str_starts(stem, STR("nnferry-")) && str_eq(str_sub(stem, 8, stem.n), word));
}

static enum status run(struct args *a, struct err *e)
{
    const struct embed *table = a->set[OPT_SOURCE] ? embed_man : embed_mantext;
    const char *section = a->n_args == 2 ? a->arg[0] : NULL;
    if (a->set[OPT_JSON])
        return err_set(e, ST_USAGE, NULL, "man has no JSON form");
    if (a->n_args == 0) {
        for (const struct embed *p = embed_man; p->name; p++)
            print_fmt("%s\n", p->name);
        return ST_OK;
    }
    struct str word = str_from(a->arg[a->n_args - 1]);
    for (const struct embed *p = table; p->name; p++) {
        if (names(p, word, section)) {
            print_str(page_text(p));
            return ST_OK;
        }
    }
    return err_set(e, ST_USAGE, NULL, "no page '%s'; nnferry man lists them",
                   a->arg[a->n_args - 1]);
}

static const enum opt opts[] = {OPT_SOURCE, OPT_N};
const struct command man_command = {
    "man", "[[SECTION] PAGE]", "Show a page of the manual, or list the pages", opts, 0, 2, run,
    false};
