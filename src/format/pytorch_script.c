/* TorchScript archives (torch.jit.save): the zip of a checkpoint whose object is a module, with the
 * module's code beside it.
 *
 *   PREFIX/data.pkl          instances of __torch__.PATH.CLASS with their attributes as state
 *   PREFIX/constants.pkl     a tuple of the tensors the code names CONSTANTS.c0, c1, ...
 *   PREFIX/constants/KEY     their storages
 *   PREFIX/code/__torch__/PATH.py   text: class CLASS(Module): __parameters__ = ["weight", ],
 *                            __buffers__ = [...], methods
 *
 * Tensors have their names in the module's state_dict, constants theirs in the code. What the class
 * lists as a parameter is one; every other tensor the module computes with is a buffer. The rest
 * (attributes, code, files saved along) is the program, not the weights: records travel as
 * attachments, as they are.
 * Source: pytorch/pytorch torch/csrc/jit/serialization/{export_module,python_print,pickler}.cpp.
 *
 * Refused: torchscript-constants, torchscript-code (ST_LIMIT).
 */
#include "format/pytorch.h"
#include <stdlib.h>

#define CODE_MAX ((uint64_t)32 << 20) /* decoded records, all together */

struct class
{
    struct str name;            /* as nodes say it: module.CLASS */
    struct str params, buffers; /* text between the brackets */
};
struct script {
    struct pt_reader *r;
    struct buf classes; /* struct class */
    uint64_t left;      /* of CODE_MAX */
};

static struct str inner(const struct pt_reader *r, const struct zip_entry *z)
{
    return str_sub(z->name, r->prefix.n + 1, z->name.n);
}

/* Is this record part of the program? */
static bool travels(struct str name)
{
    static const char *const own[] = {"version", "byteorder", ".format_version",
                                      ".storage_alignment"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (str_is(name, own[i]))
            return false;
    return name.n > 0 && !str_starts(name, STR("data/")) && !str_starts(name, STR("constants/")) &&
           !str_starts(name, STR(".data/"));
}

static bool is_code(struct str name)
{
    return str_starts(name, STR("code/")) && str_ends(name, STR(".py"));
}

static enum status load(struct script *s, const struct zip_entry *z, struct str *out, struct err *e)
{
    struct buf b = BUF_INIT;
    if (z->raw > s->left) {
        (void)err_set(e, ST_LIMIT, "torchscript-code",
                      "the archive's code takes more than %llu bytes: --weights-only reads less",
                      (unsigned long long)CODE_MAX);
        err_at(e, file_path(s->r->file), z->header);
        return ST_LIMIT;
    }
    s->left -= z->raw;
    enum status st = zip_load(&s->r->zip, z, CODE_MAX, &b, e);
    if (st == ST_OK) {
        *out = arena_str(&s->r->m->arena, b.p ? (void *)b.p : "", b.n);
        st = out->p ? ST_OK : err_nomem(e, b.n);
    }
    buf_free(&b);
    return st;
}

/* ---- classes ---- */

static struct str between(struct str line, const char *head)
{
    struct str h = str_from(head);
    return str_starts(line, h) && str_ends(line, STR("]")) ? str_sub(line, h.n, line.n - 1)
                                                           : STR_NONE;
}

/* code/A/B.py and CLASS: A.B.CLASS. */
static struct str class_name(struct arena *a, struct str file, struct str class)
{
    struct str module = str_sub(file, 5, file.n - 3);
    char *p = arena_alloc(a, module.n + class.n + 2, 1);
    if (!p)
        return STR_NONE;
    for (size_t i = 0; i < module.n; i++)
        p[i] = module.p[i] == '/' ? '.' : module.p[i];
    p[module.n] = '.';
    for (size_t i = 0; i < class.n; i++)
        p[module.n + 1 + i] = class.p[i];
    return (struct str){p, module.n + 1 + class.n};
}

/* The classes of one file; `file` is the record's name from code/ on. */
static enum status read_classes(struct script *s, struct str file, struct str text, struct err *e)
{
    struct class c = {0};
    struct str line;
    for (bool more = true; more;) {
        more = str_split(&text, '\n', &line);
        bool begins = more && str_starts(line, STR("class "));
        if (c.name.p && (begins || !more)) {
            buf_bytes(&s->classes, &c, sizeof c);
            c = (struct class){0};
        }
        if (begins) {
            struct str name = str_sub(line, 6, str_find(line, '(', 6));
            c.name = class_name(&s->r->scratch, file, name);
            if (!c.name.p)
                return err_nomem(e, line.n);
        } else if (more && c.name.p) {
            struct str list = between(line, "  __parameters__ = [");
            c.params = list.p ? list : c.params;
            list = between(line, "  __buffers__ = [");
            c.buffers = list.p ? list : c.buffers;
        }
    }
    return buf_ok(&s->classes, e);
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct class *)a)->name, ((const struct class *)b)->name);
}

static bool lists(struct str list, struct str name)
{
    while (list.n) {
        size_t at = str_find(list, '"', 0), end = str_find(list, '"', at + 1);
        if (end >= list.n)
            return false;
        if (str_eq(str_sub(list, at + 1, end), name))
            return true;
        list = str_sub(list, end + 1, list.n);
    }
    return false;
}

/* ---- records ---- */

static enum status attach(struct script *s, const struct zip_entry *z, struct str name,
                          struct str text, struct err *e)
{
    struct attachment *a;
    TRY(model_attach(s->r->m, &a, e));
    a->name = name;
    a->media_type = is_code(name) ? STR("text/x-python") : STR("application/octet-stream");
    a->n_bytes = z->raw;
    if (text.p) {
        a->mem = (const uint8_t *)text.p;
    } else {
        a->file = s->r->file;
        a->offset = z->data;
    }
    return ST_OK;
}

static enum status program(struct script *s, struct err *e)
{
    struct pt_reader *r = s->r;
    bool keep = !r->opt->weights_only;
    for (size_t i = 0; i < r->zip.n; i++) {
        const struct zip_entry *z = &r->zip.entry[i];
        struct str name = inner(r, z), text = STR_NONE;
        if (z->is_dir || !travels(name))
            continue;
        bool code = is_code(name);
        if (code || (keep && z->method != ZIP_STORED))
            TRY(load(s, z, &text, e));
        if (code)
            TRY(read_classes(s, name, text, e));
        if (!keep)
            continue;
        if (!text.p)
            TRY(zip_check_crc(&r->zip, z, e));
        name = arena_str(&r->m->arena, name.p, name.n);
        if (!name.p)
            return err_nomem(e, name.n);
        TRY(attach(s, z, name, text, e));
    }
    struct class *c = (struct class *)(void *)s->classes.p;
    if (s->classes.n)
        qsort(c, s->classes.n / sizeof *c, sizeof *c, by_name);
    return ST_OK;
}

/* ---- tensors ---- */

static const struct class *class_of(const struct script *s, const struct node *module)
{
    const struct class want = {.name = module->text};
    size_t n = s->classes.n / sizeof want;
    return n && module->kind == NODE_OPAQUE ? bsearch(&want, s->classes.p, n, sizeof want, by_name)
                                            : NULL;
}

static void roles(const struct script *s, struct node *root)
{
    struct model *m = s->r->m;
    pytorch_roles(m, root);
    for (struct node *n = root; n; n = node_step(root, n)) {
        const struct class *c = n->kind == NODE_TENSOR && n->parent ? class_of(s, n->parent) : NULL;
        struct tensor *t = n->kind == NODE_TENSOR ? &m->tensor[n->tensor] : NULL;
        struct str key = n->key && n->key->kind == NODE_STR ? n->key->text : STR_NONE;
        if (!t || (n->parent && n->parent->kind == NODE_OPAQUE && !c))
            continue; /* an archive without code for it */
        if (c && lists(c->params, key)) {
            t->role = ROLE_PARAMETER;
            continue;
        }
        if (t->role == ROLE_PARAMETER)
            t->role = ROLE_BUFFER;
        if (!c || !lists(c->buffers, key))
            t->note = STR("an attribute of the module, not of its state_dict");
    }
}

static enum status constants(struct script *s, const struct zip_entry *z, struct err *e)
{
    struct pt_reader *r = s->r;
    TRY(pytorch_record(r, z, e));
    const struct pickle *p = &r->pk;
    r->folder = "constants";
    if (pk_kind(p, p->root) != PK_TUPLE)
        return pickle_fail(p, p->root, "torchscript-constants", e, "constants that are no tuple");
    uint64_t i = 0;
    for (uint32_t c = pk_at(p, p->root)->seq.head; c; c = p->cell[c].next, i++) {
        struct node *node;
        size_t first = r->m->n_tensors;
        struct str name = arena_fmt(&r->m->arena, "CONSTANTS.c%llu", (unsigned long long)i);
        if (!name.p)
            return err_nomem(e, 24);
        enum status st = pytorch_tree(r, p->cell[c].val, name, &node, e);
        if (st != ST_OK) {
            err_in(e, z->name.p, z->name.n);
            return st;
        }
        for (size_t t = first; t < r->m->n_tensors; t++) {
            r->m->tensor[t].role = ROLE_BUFFER;
            r->m->tensor[t].note = STR("a constant of the code");
        }
    }
    return ST_OK;
}

enum status pytorch_script(struct pt_reader *r, const struct zip_entry *data,
                           const struct zip_entry *z, struct err *e)
{
    struct script s = {.r = r, .left = CODE_MAX};
    struct node *root = NULL;
    r->script = true;
    enum status st = program(&s, e);
    if (st == ST_OK)
        st = pytorch_record(r, data, e);
    if (st == ST_OK) {
        st = pytorch_tree(r, r->pk.root, STR_NONE, &root, e);
        if (st != ST_OK)
            err_in(e, data->name.p, data->name.n);
    }
    if (st == ST_OK) {
        r->m->modules = root;
        roles(&s, root);
        st = constants(&s, z, e);
    }
    buf_free(&s.classes);
    return st;
}
