/* Rules files (nnferry-map.5): one rule a line, parsed into a table; later lines win. A file is
 * foreign text: every line is checked, and what does not parse is refused with its number.
 */
#include "base/checked.h"
#include "convert/map_int.h"
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 16
struct line {
    struct mapping *m;
    size_t number;
    struct str word[WORDS_MAX];
    size_t n;
};

static enum status bad(const struct line *l, struct err *e, const char *code, const char *what)
{
    enum status st = err_set(e, ST_USAGE, code, "line %zu of the rules file: %s", l->number, what);
    err_file(e, l->m->o->rules_path ? l->m->o->rules_path : "rules");
    return st;
}

/* Blank-separated words; "..." keeps blanks; '#' at a word's start ends the line. */
static enum status words(struct line *l, struct str text, struct err *e)
{
    l->n = 0;
    for (size_t i = 0; i < text.n;) {
        char c = text.p[i];
        if (c == ' ' || c == '\t' || c == '\r') {
            i++;
            continue;
        }
        if (c == '#')
            break;
        if (l->n == WORDS_MAX)
            return bad(l, e, "map-syntax", "too many words");
        size_t lo = i;
        if (c == '"') {
            lo = ++i;
            while (i < text.n && text.p[i] != '"')
                i++;
            if (i == text.n)
                return bad(l, e, "map-syntax", "a quotation mark is not closed");
            l->word[l->n++] = str_sub(text, lo, i++);
        } else {
            while (i < text.n && text.p[i] != ' ' && text.p[i] != '\t' && text.p[i] != '\r')
                i++;
            l->word[l->n++] = str_sub(text, lo, i);
        }
    }
    return ST_OK;
}

/* 32 or 32,7,7 or 32x7x7: the first number counts, all must be numbers */
static bool channels(struct str s, uint64_t *c)
{
    size_t at = 0;
    for (size_t part = 0; at <= s.n; part++) {
        size_t hi = at;
        while (hi < s.n && s.p[hi] != ',' && s.p[hi] != 'x')
            hi++;
        uint64_t v;
        if (!str_u64(str_sub(s, at, hi), &v) || v == 0)
            return false;
        if (part == 0)
            *c = v;
        at = hi + 1;
    }
    return true;
}

static enum status pair_rest(struct line *l, struct map_rule *r, struct err *e)
{
    size_t i = 3;
    while (i < l->n) {
        if (str_is(l->word[i], "kind") && i + 1 < l->n) {
            if (!layer_kind_parse(l->word[i + 1], &r->kind) || r->kind == LAYER_NONE)
                return bad(l, e, "map-syntax", "no such kind of layer");
            r->has_kind = true;
            i += 2;
        } else if (str_is(l->word[i], "axes") && i + 3 < l->n && str_is(l->word[i + 2], "->")) {
            struct axes x;
            r->from_axes = l->word[i + 1];
            r->to_axes = l->word[i + 3];
            if (axes_parse(r->from_axes, &x, e) != ST_OK || axes_parse(r->to_axes, &x, e) != ST_OK)
                return bad(l, e, "bad-axes", "not a list of axis letters");
            if (r->from_axes.n >= AXES_TEXT || r->to_axes.n >= AXES_TEXT)
                return bad(l, e, "bad-axes", "the list of axis letters is too long");
            i += 4;
        } else if (r->from_axes.n && l->word[i].n > 2 && l->word[i].p[1] == '=') {
            unsigned char letter = (unsigned char)l->word[i].p[0];
            uint64_t v;
            if (!str_u64(str_sub(l->word[i], 2, l->word[i].n), &v) || v == 0 || letter >= 128)
                return bad(l, e, "map-syntax", "an extent is a letter, '=' and a number");
            if (!r->size && !(r->size = ARENA_NEW(l->m->a, struct axes_size)))
                return err_nomem(e, sizeof *r->size);
            r->size->of[letter] = v;
            i++;
        } else {
            return bad(l, e, "map-syntax", "expected: kind KIND, or axes \"FROM\" -> \"TO\" N=4");
        }
    }
    return ST_OK;
}

/* Words after a directive, the '=' taken out. */
static struct str argument(const struct line *l, size_t *n)
{
    size_t i = 2;
    if (i < l->n && str_is(l->word[i], "="))
        i++;
    *n = l->n - i;
    return i < l->n ? l->word[i] : STR_NONE;
}

static bool synth_value(struct str s, struct map_rule *r)
{
    if (str_is(s, "0") || str_is(s, "1")) {
        r->number = s.p[0] == '1';
        return true;
    }
    return false;
}

/* -3 to 4 */
static bool axis(struct str s, struct map_rule *r)
{
    bool minus = s.n && s.p[0] == '-';
    uint64_t v;
    if (!str_u64(str_sub(s, minus, s.n), &v) || v > (minus ? 3 : 4) || (minus && v == 0))
        return false;
    r->axis = (int8_t)(minus ? -(int)v : (int)v);
    return true;
}

static enum status directive(struct line *l, struct map_rule *r, struct err *e)
{
    size_t n = 0;
    struct str v = argument(l, &n);
    r->src = l->n > 1 ? l->word[1] : STR_NONE;
    if (r->src.n == 0)
        return bad(l, e, "map-syntax", "the name is missing");
    if (r->what == RULE_DROP)
        return l->n == 2 ? ST_OK : bad(l, e, "map-syntax", "drop takes one name");
    bool ok = n == 1;
    switch (r->what) {
    case RULE_KIND:
        ok = layer_kind_parse(v, &r->kind) &&
             (n == 1 || (n == 2 && r->kind == LAYER_CONV_TRANSPOSE &&
                         str_is(l->word[l->n - 1], "transpose_kernel")));
        r->kept_kernel = n == 2;
        return ok ? ST_OK : bad(l, e, "map-syntax", "kind NAME = KIND: no such kind of layer");
    case RULE_FLATTEN:
        if (ok && str_is(v, "none"))
            return ST_OK;
        return ok && channels(v, &r->number)
                   ? ST_OK
                   : bad(l, e, "map-syntax", "flatten NAME = CHANNELS, or C,H,W, or none");
    case RULE_POSITIONS:
        return ok && channels(v, &r->number)
                   ? ST_OK
                   : bad(l, e, "map-syntax", "positions NAME = ROWS, or ROWS,COLUMNS");
    case RULE_HEADS:
        return ok && str_u64(v, &r->number) && r->number
                   ? ST_OK
                   : bad(l, e, "map-syntax", "heads NAME = NUMBER");
    case RULE_RANK:
        return ok && str_u64(v, &r->number) && r->number >= 2 && r->number <= 5
                   ? ST_OK
                   : bad(l, e, "map-syntax", "rank NAME = 2 to 5");
    case RULE_STACK:
    case RULE_RESTACK:
        return ok && axis(v, r)
                   ? ST_OK
                   : bad(l, e, "map-syntax", "stack NAME = AXIS, or restack: 0 to 4, or -1 to -3");
    case RULE_LEAF:
        r->dst = v;
        return ok && str_u64(r->src, &r->number) ? ST_OK
                                                 : bad(l, e, "map-syntax", "leaf NUMBER = NAME");
    case RULE_SYNTH:
        return ok && synth_value(v, r) ? ST_OK : bad(l, e, "map-syntax", "synth NAME = 0, or = 1");
    case RULE_DROP:
    case RULE_PAIR:
        break;
    }
    return ST_OK;
}

static enum status one_line(struct mapping *m, struct line *l, struct err *e)
{
    static const struct {
        const char *word;
        enum rule_what what;
    } verb[] = {{"kind", RULE_KIND},          {"flatten", RULE_FLATTEN}, {"heads", RULE_HEADS},
                {"rank", RULE_RANK},          {"leaf", RULE_LEAF},       {"drop", RULE_DROP},
                {"synth", RULE_SYNTH},        {"stack", RULE_STACK},     {"restack", RULE_RESTACK},
                {"positions", RULE_POSITIONS}};
    struct map_rule *r = &m->rules.rule[m->rules.n];
    *r = (struct map_rule){.line = l->number};
    for (size_t i = 0; i < l->n; i++)
        if (str_is(l->word[i], "?"))
            return bad(l, e, "map-unanswered", "the question mark still stands");
    if (l->n >= 3 && str_is(l->word[1], "->")) {
        r->what = RULE_PAIR;
        r->src = l->word[0];
        r->dst = l->word[2];
        TRY(pair_rest(l, r, e));
        m->rules.n++;
        return ST_OK;
    }
    for (size_t i = 0; i < sizeof verb / sizeof *verb; i++)
        if (str_is(l->word[0], verb[i].word)) {
            r->what = verb[i].what;
            TRY(directive(l, r, e));
            m->rules.n++;
            return ST_OK;
        }
    return bad(l, e, "map-syntax",
               "expected SOURCE -> TARGET, or kind, flatten, heads, rank, positions, stack, "
               "restack, leaf, drop, synth");
}

/* ---- in order ---- */

bool map_rule_is_pattern(const struct map_rule *r)
{
    const char *const in = r->what == RULE_PAIR ? "{}" : "*?[]\\";
    for (const char *c = in; *c; c++)
        if (str_find(r->src, *c, 0) < r->src.n)
            return true;
    return false;
}

struct sorted {
    const struct map_rule *rule;
    uint32_t at;
};
static int by_name(const void *px, const void *py)
{
    const struct sorted *x = px, *y = py;
    if (x->rule->what != y->rule->what)
        return x->rule->what < y->rule->what ? -1 : 1;
    int c = str_cmp(x->rule->src, y->rule->src);
    return c ? c : (x->at > y->at) - (x->at < y->at);
}

static enum status sort_rules(struct mapping *m, struct err *e)
{
    struct map_rules *x = &m->rules;
    struct sorted *s = ARENA_ARRAY(m->a, struct sorted, x->n + 1);
    x->exact = ARENA_ARRAY(m->a, uint32_t, x->n + 1);
    x->pattern = ARENA_ARRAY(m->a, uint32_t, x->n + 1);
    if (!s || !x->exact || !x->pattern)
        return err_nomem(e, x->n * sizeof *s);
    for (size_t i = 0; i < x->n; i++) {
        if (map_rule_is_pattern(&x->rule[i]))
            x->pattern[x->n_pattern++] = (uint32_t)i;
        else
            s[x->n_exact++] = (struct sorted){&x->rule[i], (uint32_t)i};
    }
    if (x->n_exact)
        qsort(s, x->n_exact, sizeof *s, by_name);
    for (size_t i = 0; i < x->n_exact; i++)
        x->exact[i] = s[i].at;
    return ST_OK;
}

enum status map_rules_parse(struct mapping *m, struct err *e)
{
    struct str rest = m->o->rules, text;
    size_t n = 1;
    for (size_t i = 0; i < rest.n; i++)
        n += rest.p[i] == '\n';
    m->rules.rule = ARENA_ARRAY(m->a, struct map_rule, n);
    if (!m->rules.rule)
        return err_nomem(e, n * sizeof *m->rules.rule);
    struct line l = {.m = m};
    while (rest.p && str_split(&rest, '\n', &text)) {
        l.number++;
        size_t bad_at;
        if (!str_utf8(text, &bad_at) || (text.n && memchr(text.p, 0, text.n)))
            return bad(&l, e, "map-syntax", "not UTF-8 text");
        TRY(words(&l, text, e));
        if (l.n)
            TRY(one_line(m, &l, e));
    }
    n = m->rules.n;
    m->rules.n = 0;
    for (size_t i = 0; i < n; i++) {
        enum rule_what what = m->rules.rule[i].what;
        if (!m->o->facts_only || what == RULE_KIND || what == RULE_FLATTEN || what == RULE_HEADS ||
            what == RULE_RANK || what == RULE_POSITIONS)
            m->rules.rule[m->rules.n++] = m->rules.rule[i];
    }
    return sort_rules(m, e);
}

/* ---- patterns ---- */

#define CAPTURES 8
struct caught {
    struct str name, text;
};

/* One segment: literal text with at most one {name}. */
static bool segment_fits(struct str pat, struct str seg, struct caught *c, size_t *n)
{
    size_t lo = str_find(pat, '{', 0);
    if (lo == pat.n)
        return str_eq(pat, seg);
    size_t hi = str_find(pat, '}', lo);
    if (hi == pat.n || *n == CAPTURES)
        return false;
    struct str before = str_sub(pat, 0, lo), after = str_sub(pat, hi + 1, pat.n);
    if (seg.n <= before.n + after.n || !str_starts(seg, before) || !str_ends(seg, after))
        return false;
    struct str name = str_sub(pat, lo + 1, hi);
    struct str text = str_sub(seg, before.n, seg.n - after.n);
    for (size_t i = 0; i < *n; i++)
        if (str_eq(c[i].name, name))
            return str_eq(c[i].text, text);
    c[(*n)++] = (struct caught){name, text};
    return true;
}

bool map_capture(struct str pattern, struct str name, struct str dst, struct arena *a,
                 struct str *out)
{
    struct caught c[CAPTURES];
    size_t n = 0;
    struct str p = pattern, s = name, ps, ss;
    bool more_p, more_s;
    for (;;) {
        more_p = p.p && str_split(&p, '.', &ps);
        more_s = s.p && str_split(&s, '.', &ss);
        if (!more_p || !more_s)
            break;
        if (!segment_fits(ps, ss, c, &n))
            return false;
    }
    if (more_p != more_s)
        return false;
    if (!out)
        return true;
    struct str text = arena_fmt(a, "%s", "");
    for (size_t i = 0; text.p && i < dst.n;) {
        size_t lo = str_find(dst, '{', i), hi = str_find(dst, '}', lo);
        struct str lit = str_sub(dst, i, hi < dst.n ? lo : dst.n);
        struct str put = STR_NONE;
        if (hi < dst.n) {
            bool known = false;
            for (size_t k = 0; k < n; k++)
                if (str_eq(c[k].name, str_sub(dst, lo + 1, hi))) {
                    put = c[k].text;
                    known = true;
                }
            if (!known)
                return false;
        }
        text = arena_fmt(a, "%.*s%.*s%.*s", STR_ARG(text), STR_ARG(lit), STR_ARG(put));
        i = hi < dst.n ? hi + 1 : dst.n;
    }
    *out = text;
    return text.p != NULL;
}

enum status map_captured(struct mapping *m, const struct map_rule *r, struct str name,
                         struct str *out, struct err *e)
{
    struct line l = {.m = m, .number = r->line};
    *out = STR("");
    if (map_capture(r->src, name, r->dst, m->a, out))
        return ST_OK;
    return out->p ? bad(&l, e, "map-capture", "TARGET names text that SOURCE does not catch")
                  : err_nomem(e, name.n);
}

static struct map_rule *latest(struct mapping *m, enum rule_what what, struct str name)
{
    const struct map_rules *x = &m->rules;
    size_t lo = 0, hi = x->n_exact;
    while (lo < hi) { /* behind the last of that name */
        size_t mid = lo + (hi - lo) / 2;
        const struct map_rule *r = &x->rule[x->exact[mid]];
        int c = r->what != what ? (r->what > what) - (r->what < what) : str_cmp(r->src, name);
        if (c <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return NULL;
    struct map_rule *r = &x->rule[x->exact[lo - 1]];
    return r->what == what && str_eq(r->src, name) ? r : NULL;
}

bool map_rule_exact(struct mapping *m, enum rule_what what, struct str name)
{
    return latest(m, what, name) != NULL;
}

struct map_rule *map_rule_for(struct mapping *m, enum rule_what what, struct str name)
{
    struct map_rule *found = latest(m, what, name);
    for (size_t i = m->rules.n_pattern; i-- > 0;) {
        struct map_rule *r = &m->rules.rule[m->rules.pattern[i]];
        if (found && r < found)
            break;
        if (r->what != what)
            continue;
        bool fits = what == RULE_PAIR ? map_capture(r->src, name, STR_NONE, m->a, NULL)
                                      : str_glob(r->src, name);
        if (fits) {
            found = r;
            break;
        }
    }
    if (found)
        found->n_used++;
    return found;
}

enum status map_rules_used(struct mapping *m, struct err *e)
{
    for (size_t i = 0; i < m->rules.n; i++)
        if (m->rules.rule[i].n_used == 0 && !m->o->facts_only) {
            struct line l = {.m = m, .number = m->rules.rule[i].line};
            return bad(&l, e, "map-unused", "nothing in the source has this name");
        }
    return ST_OK;
}
