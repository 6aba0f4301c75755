/* The ledger's lines, and the rules file that helps to answer them. What travels along with the
 * weights is settled here, too: the mapping carries all attachments and key-values; at the end what
 * the target's format does not keep is taken out of the plan and named. Such a line is harmless: no
 * number lies in a configuration, a vocabulary or a graph, and who writes a single array file has
 * asked for the numbers.
 */
#include "convert/map_int.h"
#include <string.h>

/* ---- lines ---- */

/* Names are foreign: nothing in them may end a comment or a quotation, or steer a terminal. */
static void plain_text(struct buf *b, const char *before, struct str s)
{
    buf_z(b, before);
    for (size_t i = 0, n; i < s.n; i += n) {
        bool unsafe;
        n = err_char(s.p + i, s.n - i, &unsafe);
        for (size_t k = 0; k < n; k++)
            buf_u8(b, unsafe ? '?' : (uint8_t)s.p[i + k]);
    }
}

struct str map_line(struct mapping *m, const char *before, struct str name, const char *after)
{
    /* not by a format: that ends where a name has a NUL */
    struct str head = str_from(before), tail = str_from(after);
    size_t whole = head.n + 1 + name.n + 1 + tail.n;
    char *out = arena_alloc(m->a, whole + 1, 1), *w = out;
    if (!w)
        return STR_NONE;
    memcpy(w, head.p, head.n);
    w += head.n;
    *w++ = '"';
    for (size_t i = 0, n; i < name.n; i += n, w += n) {
        bool unsafe;
        n = err_char(name.p + i, name.n - i, &unsafe);
        if (unsafe || name.p[i] == '"' || name.p[i] == '*' || name.p[i] == '[')
            memset(w, '?', n); /* each stands for any one byte */
        else
            memcpy(w, name.p + i, n);
    }
    *w++ = '"';
    memcpy(w, tail.p, tail.n);
    return (struct str){out, whole};
}

static enum status add_line(struct mapping *m, const struct ledger_line *new, struct err *e)
{
    struct plan *p = m->p;
    enum ledger_kind kind = new->kind;
    struct str name = new->name, why = new->why;
    struct ledger_line *l = map_grown(m->a, p->line, p->n_lines, &m->cap_lines, sizeof *l);
    if (!l)
        return err_nomem(e, sizeof *l);
    p->line = l;
    l[p->n_lines++] = *new;
    const char *const *allow = kind == LEDGER_DROP ? m->o->allow_drop : m->o->allow_synth;
    struct map_rule *r = map_rule_for(m, kind == LEDGER_DROP ? RULE_DROP : RULE_SYNTH, name);
    if (!new->harmless && !r && !glob_any(allow, name)) {
        if (m->n_lost++ == 0) {
            m->lost_1 = arena_fmt(
                m->a, "%.*s: would be %s (%.*s); --allow-%s, or the rules file, allows it",
                STR_ARG(name), kind == LEDGER_DROP ? "lost" : "made up", STR_ARG(why),
                kind == LEDGER_DROP ? "drop" : "synth");
            if (!m->lost_1.p)
                return err_nomem(e, name.n);
        }
        struct str line = map_line(m, kind == LEDGER_DROP ? "drop " : "synth ", name,
                                   kind == LEDGER_DROP ? "" : " = 0");
        plain_text(m->help, "# ", name);
        plain_text(m->help, ": ", why);
        buf_fmt(m->help, "\n#%.*s\n", STR_ARG(line));
    }
    return ST_OK;
}

enum status map_ledger(struct mapping *m, enum ledger_kind kind, struct str name, uint64_t n_elems,
                       bool harmless, struct str why, struct err *e)
{
    struct ledger_line line = {
        .kind = kind, .harmless = harmless, .name = name, .n_elems = n_elems, .why = why};
    return add_line(m, &line, e);
}

enum status map_ledger_drop(struct mapping *m, enum ledger_what what, struct str name,
                            uint64_t n_bytes, bool harmless, struct str why, struct err *e)
{
    struct ledger_line line = {.kind = LEDGER_DROP,
                               .what = what,
                               .harmless = harmless,
                               .name = name,
                               .n_bytes = n_bytes,
                               .why = why};
    return add_line(m, &line, e);
}

enum status map_ledger_tie(struct mapping *m, struct str name, struct str of, struct err *e)
{
    struct str why = arena_fmt(m->a, "%s cannot say that it is %.*s: both are written in full",
                               m->target->name, STR_ARG(of));
    return why.p ? map_ledger_drop(m, LEDGER_TIE, name, 0, true, why, e) : err_nomem(e, of.n);
}

void map_ask(struct mapping *m, const char *comment, struct str line)
{
    if (m->n_open++ == 0)
        m->open_1 = line;
    plain_text(m->help, "# ", str_from(comment));
    buf_fmt(m->help, "\n%.*s\n", STR_ARG(line));
}

/* ---- what travels along ---- */

/* The tag by which safetensors names the framework: the container's own, written anew by each. */
static bool is_tag(const struct mapping *m, struct str key)
{
    return m->src->format && str_is(STR("safetensors"), m->src->format) && str_is(key, "format");
}

static enum status attachments(struct mapping *m, struct err *e)
{
    struct model *d = &m->p->dst;
    struct str none = arena_fmt(m->a, "%s does not keep it", m->target->name);
    struct str misfit = STR("it is of other tensors than those that are written");
    bool (*fits)(const struct model *, const struct attachment *) =
        m->o->folder ? NULL : m->target->fits;
    size_t n = 0;
    for (size_t i = 0; i < d->n_attachments; i++) {
        struct attachment a = d->attachment[i];
        bool keeps = format_keeps(m->target, m->o->folder, a.name);
        if (keeps && (!fits || fits(d, &d->attachment[i])))
            d->attachment[n++] = a;
        else
            TRY(map_ledger_drop(m, LEDGER_ATTACHMENT, a.name, a.n_bytes, true,
                                keeps ? misfit : none, e));
    }
    d->n_attachments = n;
    return none.p ? ST_OK : err_nomem(e, 64);
}

static enum status key_values(struct mapping *m, struct err *e)
{
    struct model *d = &m->p->dst;
    struct str why = arena_fmt(m->a, "%s does not keep it", m->target->name);
    size_t n = 0;
    for (size_t i = 0; i < d->n_meta; i++) {
        struct meta kv = d->meta[i];
        if (map_is_settings(kv.key) && m->respelled)
            continue; /* said anew, or by the config that comes back */
        if (format_keeps_meta(m->target, kv.key))
            d->meta[n++] = kv;
        else if (!is_tag(m, kv.key))
            TRY(map_ledger_drop(m, LEDGER_METADATA, kv.key, kv.key.n + kv.value.n, true, why, e));
    }
    d->n_meta = n;
    return why.p ? ST_OK : err_nomem(e, 64);
}

enum status map_aside(struct mapping *m, struct err *e)
{
    if (!m->target)
        return ST_OK;
    TRY(attachments(m, e));
    TRY(key_values(m, e));
    return m->to ? map_told(m, e) : ST_OK;
}
