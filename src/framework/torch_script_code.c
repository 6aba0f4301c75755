/* Reading the program of a TorchScript archive, line by line, as torch's printer writes it
 * (torch/csrc/jit/serialization/python_print.cpp):
 *
 *   class CLASS(Module):
 *     NAME : Final[TYPE] = LITERAL
 *     def METHOD(self: TYPE,
 *       ARGUMENT: TYPE) -> TYPE:
 *       NAME = EXPRESSION             a statement a line
 *       if EXPRESSION:
 *         ...                         may be run or not: what it assigns is not known behind it
 *
 * Of statements of a method's own, in order: which attribute a name stands for, and the calls of
 * torch's functions. Every line is looked at once; names, uses, attributes and depths are bounded,
 * and a program that has more says nothing at all.
 */
#include "framework/torch_script_code.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

#define CODE_MAX ((uint64_t)32 << 20) /* as the archive's reader has it */
#define CLASSES_MAX (1u << 16)
#define USES_MAX (1u << 16)
#define ATTRS_MAX (1u << 18)
#define VARS 32768 /* slots; a quarter of them are names of one method */
#define PROBES 128
#define BRACKETS 64
#define NAME_MAX_ 1024

struct var {
    struct str name;
    uint64_t method; /* that it is a name of */
    struct script_value value;
};
struct script_scan {
    struct arena *a;
    struct script_class *class;
    size_t n, cap, n_uses, n_attrs;
    bool open, too_much, no_memory;
    struct script_arg constant[SCRIPT_ARGS];
    size_t n_constants;
    struct var *var;
    uint64_t method;
    size_t n_vars;
    bool padded; /* the method pads */
};

struct arena *script_arena(struct script_scan *s)
{
    return s->a;
}

struct script_use *script_use_new(struct script_scan *s)
{
    struct script_class *c = &s->class[s->n - 1];
    struct script_use *u = s->n_uses < USES_MAX ? ARENA_NEW(s->a, struct script_use) : NULL;
    if (!u) {
        s->too_much = s->too_much || s->n_uses == USES_MAX;
        s->no_memory = !s->too_much;
        return NULL;
    }
    s->n_uses++;
    if (c->last)
        c->last->next = u;
    else
        c->use = u;
    c->last = u;
    return u;
}

/* ---- names ---- */

static bool letter(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_';
}

static bool digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

/* The length of the name that begins at `from`, dots too where they are wanted; 0 = none. */
static size_t name_at(struct str s, size_t from, bool dotted)
{
    size_t i = from;
    if (i >= s.n || !letter(s.p[i]))
        return 0;
    while (i < s.n && (letter(s.p[i]) || digit(s.p[i]) || (dotted && s.p[i] == '.')))
        i++;
    return i - from;
}

static bool is_name(struct str s)
{
    return s.n && name_at(s, 0, false) == s.n;
}

/* The name's slot, or the free one; NULL: too many names. */
static struct var *slot(struct script_scan *s, struct str name)
{
    size_t at = (size_t)(str_hash(name, 0) % VARS);
    for (size_t i = 0; i < PROBES; i++, at = (at + 1) % VARS)
        if (s->var[at].method != s->method || str_eq(s->var[at].name, name))
            return &s->var[at];
    return NULL;
}

static void bind(struct script_scan *s, struct str name, struct script_value v)
{
    struct var *x = name.n <= NAME_MAX_ ? slot(s, name) : NULL;
    if (!x || (x->method != s->method && s->n_vars == VARS / 4)) {
        s->too_much = true;
        return;
    }
    s->n_vars += x->method != s->method;
    *x = (struct var){name, s->method, v};
}

static const struct script_value unknown = {.kind = VALUE_UNKNOWN};

static struct script_value known_as(struct script_scan *s, struct str name)
{
    const struct var *x = name.n <= NAME_MAX_ ? slot(s, name) : NULL;
    return x && x->method == s->method ? x->value : unknown;
}

/* ---- values ---- */

static struct str trim(struct str s)
{
    while (s.n && s.p[0] == ' ')
        s = str_sub(s, 1, s.n);
    while (s.n && s.p[s.n - 1] == ' ')
        s.n--;
    return s;
}

static struct script_value attr(struct script_scan *s, struct script_value of, struct str name)
{
    bool own = of.kind == VALUE_SELF;
    if ((!own && of.kind != VALUE_ATTR) || !name.n || (!own && of.attr->depth == SCRIPT_DEPTH))
        return unknown;
    struct script_attr *x = s->n_attrs < ATTRS_MAX ? ARENA_NEW(s->a, struct script_attr) : NULL;
    if (!x) {
        s->too_much = s->too_much || s->n_attrs == ATTRS_MAX;
        s->no_memory = !s->too_much;
        return unknown;
    }
    s->n_attrs++;
    *x = (struct script_attr){own ? NULL : of.attr, name, own ? 1 : of.attr->depth + 1};
    return (struct script_value){.kind = VALUE_ATTR, .attr = x};
}

/* getattr(X, "name"): what torch writes where the name is none of Python's. */
static struct script_value by_getattr(struct script_scan *s, struct str text)
{
    size_t comma = str_find(text, ',', 8), open = comma + 2;
    struct str x = str_sub(text, 8, comma);
    if (!is_name(x) || open >= text.n || text.p[open] != '"' || !str_ends(text, STR("\")")))
        return unknown;
    struct str name = str_sub(text, open + 1, text.n - 2);
    if (str_find(name, '"', 0) < name.n || str_find(name, '\\', 0) < name.n)
        return unknown;
    return attr(s, known_as(s, x), name);
}

struct script_value script_value_of(struct script_scan *s, struct str text)
{
    text = trim(text);
    if (!text.n || text.n > (1u << 16))
        return unknown;
    struct script_value as_is = {.kind = VALUE_TEXT, .text = text}, v;
    if (!letter(text.p[0]))
        return as_is;
    if (str_starts(text, STR("getattr(")))
        return by_getattr(s, text);
    if (str_is(text, "None") || str_is(text, "True") || str_is(text, "False"))
        return as_is;
    if (name_at(text, 0, true) != text.n)
        return unknown;
    struct str rest = text, part;
    if (!str_split(&rest, '.', &part))
        return unknown;
    if (str_is(part, "torch") || str_is(part, "__torch__"))
        return (struct script_value){.kind = VALUE_NAME, .text = text};
    v = known_as(s, part);
    while (rest.p && str_split(&rest, '.', &part))
        v = attr(s, v, part);
    return v;
}

/* ---- calls ---- */

struct bracket {
    const struct script_op *op; /* NULL: not asked */
    size_t from;                /* where the argument begins */
    struct script_arg arg[SCRIPT_ARGS];
    size_t n;
};

static void argument(struct bracket *b, struct str expression, size_t to)
{
    struct str text = trim(str_sub(expression, b->from, to));
    b->from = to + 1;
    if (!b->op || !text.n || b->n == SCRIPT_ARGS)
        return;
    size_t n = name_at(text, 0, false);
    bool keyed = n && n < text.n && text.p[n] == '=';
    b->arg[b->n++] = (struct script_arg){keyed ? str_sub(text, 0, n) : STR(""),
                                         keyed ? trim(str_sub(text, n + 1, text.n)) : text};
}

/* Behind the string that begins at `from`; past the end where it does not end. */
static size_t past_string(struct str s, size_t from)
{
    char quote = s.p[from];
    for (size_t i = from + 1; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == quote)
            return i + 1;
    }
    return s.n + 1;
}

static struct str called(struct script_scan *s, struct str name)
{
    if (!is_name(name))
        return name;
    struct script_value v = known_as(s, name);
    return v.kind == VALUE_NAME ? v.text : STR("");
}

static void calls(struct script_scan *s, struct str x)
{
    struct bracket stack[BRACKETS];
    size_t n = 0, i = 0;
    while (i < x.n) {
        char ch = x.p[i];
        size_t word = name_at(x, i, true);
        if (ch == '"' || ch == '\'') {
            i = past_string(x, i);
            continue;
        }
        if (!word && ch != '(' && ch != '[' && ch != '{' && ch != ')' && ch != ']' && ch != '}' &&
            ch != ',') {
            i++;
            continue;
        }
        bool call = word && i + word < x.n && x.p[i + word] == '(';
        if (word && !call) {
            i += word;
            continue;
        }
        if (call || ch == '(' || ch == '[' || ch == '{') {
            struct str name = call ? called(s, str_sub(x, i, i + word)) : STR("");
            if (n == BRACKETS)
                return;
            stack[n].op = script_op_find(name);
            s->padded = s->padded || str_find_str(name, STR("pad"), 0) < name.n;
            i += word + 1;
            stack[n].from = i;
            stack[n++].n = 0;
            continue;
        }
        if (n == 0)
            return; /* closes what was not opened */
        argument(&stack[n - 1], x, i);
        if (ch != ',') {
            const struct bracket *b = &stack[--n];
            if (b->op)
                script_called(s, b->op, b->arg, b->n, s->padded);
        }
        i++;
    }
}

/* ---- lines ---- */

/* Where " = " stands outside of brackets and strings; .n: no assignment. */
static size_t assignment(struct str line)
{
    size_t depth = 0;
    for (size_t i = 0; i < line.n; i++) {
        char ch = line.p[i];
        if (ch == '"' || ch == '\'') {
            size_t end = past_string(line, i);
            if (end > line.n)
                return line.n;
            i = end - 1;
        } else if (ch == '(' || ch == '[' || ch == '{') {
            depth++;
        } else if (ch == ')' || ch == ']' || ch == '}') {
            depth -= depth > 0;
        } else if (ch == '=' && depth == 0 && i > 0 && i + 1 < line.n && line.p[i - 1] == ' ' &&
                   line.p[i + 1] == ' ') {
            return i;
        }
    }
    return line.n;
}

/* The names before "=", each of them now `v`, but for several: what each is is not known. */
static void assign(struct script_scan *s, struct str targets, struct script_value v)
{
    struct str name;
    size_t type = str_find(targets, ':', 0);
    targets = trim(str_sub(targets, 0, type));
    if (str_find(targets, ',', 0) < targets.n)
        v = unknown;
    while (targets.p && str_split(&targets, ',', &name) && !s->too_much) {
        name = trim(name);
        if (is_name(name))
            bind(s, name, v);
    }
}

/* A line of a method's own. */
static void statement(struct script_scan *s, struct str line)
{
    static const char *const blocks[] = {"if ", "for ", "while ", "with ", "else:"};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (str_starts(line, str_from(blocks[i])))
            return;
    size_t eq = assignment(line);
    struct str right = eq < line.n ? str_sub(line, eq + 1, line.n) : line;
    calls(s, right);
    if (eq < line.n)
        assign(s, str_sub(line, 0, eq), script_value_of(s, right));
}

static void end_class(struct script_scan *s)
{
    if (s->open && !s->too_much)
        script_declared(s, s->class[s->n - 1].name, s->constant, s->n_constants);
    s->open = false;
}

/* code/A/B.py and CLASS: A.B.CLASS. */
static void begin_class(struct script_scan *s, struct str file, struct str line)
{
    struct str name = str_sub(line, 6, str_find(line, '(', 6)),
               module = str_sub(file, 5, file.n - 3);
    if (!str_ends(line, STR("(Module):")) || !is_name(name) || name.n > NAME_MAX_)
        return;
    if (s->n == CLASSES_MAX || s->n == s->cap) {
        s->too_much = true;
        return;
    }
    struct str full = arena_fmt(s->a, "%.*s.%.*s", STR_ARG(module), STR_ARG(name));
    if (!full.p) {
        s->no_memory = true;
        return;
    }
    for (size_t i = 0; i < module.n && i < full.n; i++)
        if (full.p[i] == '/')
            ((char *)(uintptr_t)full.p)[i] = '.';
    s->class[s->n++] = (struct script_class){.name = full};
    s->open = true;
    s->n_constants = 0;
}

/* NAME : Final[TYPE] = LITERAL */
static void declaration(struct script_scan *s, struct str line)
{
    size_t n = name_at(line, 0, false), eq = assignment(line);
    if (n && eq < line.n && str_starts(str_sub(line, n, line.n), STR(" : Final[")) &&
        s->n_constants < SCRIPT_ARGS)
        s->constant[s->n_constants++] =
            (struct script_arg){str_sub(line, 0, n), trim(str_sub(line, eq + 1, line.n))};
}

static void begin_method(struct script_scan *s, struct str line)
{
    struct script_value self = {.kind = VALUE_SELF};
    size_t open = str_find(line, '(', 0), colon = str_find(line, ':', open);
    struct str first = str_sub(line, open + 1, colon);
    s->method++;
    s->n_vars = 0;
    s->padded = false;
    if (colon < line.n && is_name(first))
        bind(s, first, self);
}

static void file_lines(struct script_scan *s, struct str file, struct str text)
{
    enum { OUTSIDE, HEAD, BODY } in = OUTSIDE; /* of a method */
    struct str line;
    s->open = false;
    while (text.p && str_split(&text, '\n', &line) && !s->too_much && !s->no_memory) {
        size_t blanks = 0;
        while (blanks < line.n && line.p[blanks] == ' ')
            blanks++;
        line = str_sub(line, blanks, line.n);
        if (!line.n)
            continue;
        if (blanks < 4)
            in = OUTSIDE;
        if (blanks == 0) {
            end_class(s);
            if (str_starts(line, STR("class ")))
                begin_class(s, file, line);
        } else if (!s->open) {
            continue;
        } else if (blanks == 2 && str_starts(line, STR("def "))) {
            begin_method(s, line);
            in = str_ends(line, STR(":")) ? BODY : HEAD;
        } else if (blanks == 2) {
            declaration(s, line);
        } else if (in == HEAD) {
            in = str_ends(line, STR(":")) ? BODY : HEAD;
        } else if (in == BODY && blanks == 4) {
            statement(s, line);
        } else if (in == BODY && assignment(line) < line.n) {
            assign(s, str_sub(line, 0, assignment(line)), unknown);
        }
    }
    end_class(s);
}

/* ---- all ---- */

static int by_name(const void *x, const void *y)
{
    return str_cmp(((const struct script_class *)x)->name, ((const struct script_class *)y)->name);
}

static bool is_code(const struct attachment *t)
{
    return str_starts(t->name, STR("code/")) && str_ends(t->name, STR(".py")) && t->name.n > 8 &&
           t->name.n <= NAME_MAX_ && t->n_bytes <= CODE_MAX;
}

static enum status text_of(const struct attachment *t, struct arena *a, struct str *out,
                           struct err *e)
{
    size_t n = (size_t)t->n_bytes;
    *out = (struct str){(const char *)t->mem, n};
    if (t->mem || !n)
        return ST_OK;
    char *p = arena_alloc(a, n, 1);
    if (!p)
        return err_nomem(e, n);
    *out = (struct str){p, n};
    return file_pread(t->file, p, n, t->offset, e);
}

/* Lines that begin a class, as an upper bound. */
static size_t classes_in(struct str text)
{
    size_t n = 0;
    for (size_t at = 0; at < text.n; at = str_find(text, '\n', at) + 1)
        n += str_starts(str_sub(text, at, text.n), STR("class "));
    return n;
}

enum status script_read(const struct model *m, struct arena *a, struct script_class **out,
                        size_t *n, struct err *e)
{
    struct script_scan *s;
    uint64_t all = 0;
    size_t files = 0, most = 0;
    *n = 0;
    for (size_t i = 0; i < m->n_attachments; i++) {
        files += is_code(&m->attachment[i]);
        all += is_code(&m->attachment[i]) ? m->attachment[i].n_bytes : 0;
    }
    if (files == 0 || all > CODE_MAX)
        return ST_OK;
    struct str *text = ARENA_ARRAY(a, struct str, files);
    s = ARENA_NEW(a, struct script_scan);
    if (!text || !s)
        return err_nomem(e, files * sizeof *text);
    for (size_t i = 0, k = 0; i < m->n_attachments; i++)
        if (is_code(&m->attachment[i])) {
            TRY(text_of(&m->attachment[i], a, &text[k], e));
            most += classes_in(text[k++]);
        }
    s->a = a;
    s->cap = most;
    s->class = ARENA_ARRAY(a, struct script_class, most < CLASSES_MAX ? most + 1 : CLASSES_MAX);
    s->var = ARENA_ARRAY(a, struct var, VARS);
    if (!s->class || !s->var)
        return err_nomem(e, VARS * sizeof *s->var);
    for (size_t i = 0, k = 0; i < m->n_attachments && !s->too_much; i++)
        if (is_code(&m->attachment[i]))
            file_lines(s, m->attachment[i].name, text[k++]);
    if (s->no_memory)
        return err_nomem(e, sizeof(struct script_use));
    if (s->too_much)
        return ST_OK;
    qsort(s->class, s->n, sizeof *s->class, by_name);
    *out = s->class;
    *n = s->n;
    return ST_OK;
}
