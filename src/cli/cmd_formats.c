/* nnferry formats: what is read and written, from the registry. */
#include "cli/command.h"
#include "framework/defaults.h"
#include <stdio.h>

static void text_or_null(struct json_w *w, const char *key, const char *text)
{
    json_w_key(w, str_from(key));
    if (text)
        json_w_str(w, str_from(text));
    else
        json_w_null(w);
}

/* What notes on a conversion rest on: the frameworks' own defaults. */
static void defaults(void)
{
    struct json_w *w = print_json();
    json_w_key(w, STR("defaults"));
    json_w_array(w);
    for (size_t f = 0; f < n_frameworks; f++)
        for (size_t i = 0; i < n_facts; i++) {
            if (!fact_is_of(&facts[i], frameworks[f]->name))
                continue;
            json_w_object(w);
            text_or_null(w, "framework", frameworks[f]->name);
            text_or_null(w, "of", facts[i].of);
            text_or_null(w, "setting", facts[i].setting);
            text_or_null(w, "argument", facts[i].argument);
            text_or_null(w, "value", facts[i].value);
            text_or_null(w, "means", facts[i].means);
            json_w_object_end(w);
        }
    json_w_array_end(w);
}

static enum status run(struct args *a, struct err *e)
{
    (void)e;
    if (a->set[OPT_JSON]) {
        struct json_w *w = print_json();
        json_w_key(w, STR("formats"));
        json_w_array(w);
        for (size_t i = 0; i < n_formats; i++) {
            const struct format *f = formats[i];
            json_w_object(w);
            json_w_key(w, STR("name"));
            json_w_str(w, str_from(f->name));
            json_w_key(w, STR("title"));
            json_w_str(w, str_from(f->title));
            json_w_key(w, STR("reads"));
            json_w_bool(w, f->reads);
            json_w_key(w, STR("writes"));
            json_w_bool(w, f->writes);
            json_w_key(w, STR("suffixes"));
            json_w_array(w);
            for (size_t k = 0; k < sizeof f->suffix / sizeof *f->suffix && f->suffix[k]; k++)
                json_w_str(w, str_from(f->suffix[k]));
            json_w_array_end(w);
            json_w_object_end(w);
        }
        json_w_array_end(w);
        defaults();
        return ST_OK;
    }
    print_fmt("%-14s %-5s %-6s %-22s %s\n", "FORMAT", "READS", "WRITES", "SUFFIXES", "WHAT");
    for (size_t i = 0; i < n_formats; i++) {
        const struct format *f = formats[i];
        char suffix[64] = "";
        size_t n = 0;
        for (size_t k = 0; k < sizeof f->suffix / sizeof *f->suffix && f->suffix[k]; k++)
            n += (size_t)snprintf(suffix + n, n < sizeof suffix ? sizeof suffix - n : 0, "%s%s",
                                  k ? " " : "", f->suffix[k]);
        print_fmt("%-14s %-5s %-6s %-22s %s\n", f->name, f->reads ? "yes" : "-",
                  f->writes ? "yes" : "-", suffix, f->title);
    }
    return ST_OK;
}

static const enum opt opts[] = {OPT_N};
const struct command formats_command = {
    "formats", "", "List the formats that are read and written", opts, 0, 0, run, false};
