/* nnferry scan: a security verdict. Every global a pickle names, every redirect, every oddity; 1
 * when something is unsafe. Nothing is executed and nothing is written.
 */
#include "cli/command.h"

struct tally {
    const struct args *a;
    uint64_t n_unsafe, n_odd;
};

static void on_finding(void *ctx, bool unsafe, const char *code, uint64_t offset, const char *text)
{
    struct tally *t = ctx;
    t->n_unsafe += unsafe;
    t->n_odd += !unsafe;
    if (t->a->set[OPT_JSON]) {
        struct json_w *w = print_json();
        json_w_object(w);
        json_w_key(w, STR("unsafe"));
        json_w_bool(w, unsafe);
        json_w_key(w, STR("code"));
        json_w_str(w, str_from(code));
        json_w_key(w, STR("offset"));
        json_w_u64(w, offset);
        json_w_key(w, STR("what"));
        json_w_str(w, str_from(text));
        json_w_object_end(w);
    } else {
        print_ink(unsafe ? INK_BAD : INK_DOUBT, unsafe ? "unsafe" : "note");
        print_fmt(": byte %llu: %s: ", (unsigned long long)offset, code ? code : "note");
        print_name(str_from(text));
        print_fmt("\n");
    }
}

static enum status run(struct args *a, struct err *e)
{
    struct model m;
    struct tally t = {a, 0, 0};
    struct read_opt o = {.scan = true, .finding = on_finding, .finding_ctx = &t};
    const struct format *f = NULL, *force = NULL;
    if (a->set[OPT_INPUT_FORMAT]) {
        force = format_find(str_from(a->text[OPT_INPUT_FORMAT]));
        if (!force || !force->reads)
            return err_set(e, ST_USAGE, NULL, "no format '%s' can be read; see nnferry formats",
                           a->text[OPT_INPUT_FORMAT]);
    }
    model_init(&m);
    if (a->set[OPT_JSON]) {
        json_w_key(print_json(), STR("findings"));
        json_w_array(print_json());
    }
    enum status st = format_open(a->arg[0], force, &o, &m, &f, e);
    /* A subject that was recognised and then refused is an answer (no), not an unreadable input. */
    if (st == ST_INPUT && f) {
        on_finding(&t, true, e->code, e->has_offset ? e->offset : 0, e->reason);
        st = ST_OK;
    }
    if (a->set[OPT_JSON])
        json_w_array_end(print_json());
    err_file(e, a->arg[0]);
    model_free(&m);
    if (st != ST_OK)
        return st;
    if (a->set[OPT_JSON]) {
        json_w_key(print_json(), STR("format"));
        json_w_str(print_json(), str_from(f->name));
        json_w_key(print_json(), STR("verdict"));
        json_w_str(print_json(), t.n_unsafe ? STR("unsafe") : STR("safe"));
    } else {
        print_fmt("%s: ", a->arg[0]);
        print_ink(t.n_unsafe ? INK_BAD : INK_GOOD, t.n_unsafe ? "UNSAFE" : "safe");
        print_fmt(": %llu unsafe, %llu notes\n", (unsigned long long)t.n_unsafe,
                  (unsigned long long)t.n_odd);
    }
    if (!t.n_unsafe)
        return ST_OK;
    if (e)
        *e = (struct err){.status = ST_NO};
    return ST_NO;
}

static const enum opt opts[] = {OPT_INPUT_FORMAT, OPT_N};
const struct command scan_command = {
    "scan", "SRC", "Security verdict: every global, redirect and oddity", opts, 1, 1, run, false};
