/* The table of old spellings, and how its rows are applied. Sources: torch/nn/parallel and
 * torch/_dynamo (wrappers), torch/nn/utils/parametrizations.py, torch/optim/swa_utils.py;
 * transformers, modeling_utils.py and conversion_mapping.py; torchvision/models/densenet.py and
 * vision_transformer.py; timm/models/vision_transformer.py.
 */
#include "framework/upgrade.h"
#include "base/buf.h"
#include "framework/family.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

/* Before every weight. */
static const struct prefix_rule {
    const char *prefix; /* whole segments */
    bool proven;        /* only where the skeleton or a family knows the names without it */
    const char *why;
} prefixes[] = {
    {"state_dict", false, "a checkpoint's part"},
    {"model_state_dict", false, "a checkpoint's part"},
    {"module", false, "DataParallel, DistributedDataParallel or AveragedModel"},
    {"_orig_mod", false, "torch.compile"},
    {"base_model.model", false, "peft"},
    {"state_dict_ema", false, "an averaged copy"},
    {"model_ema", false, "an averaged copy"},
    {"ema", true, "an averaged copy"},
    {"model", true, "an attribute of a wrapping module"},
    {"net", true, "an attribute of a wrapping module"},
    {"network", true, "an attribute of a wrapping module"},
    {"backbone", true, "an attribute of a wrapping module"},
    {"encoder", true, "an attribute of a wrapping module"},
};
/* Anywhere in a name: wrappers of a part. */
static const struct {
    const char *segment, *why;
} inside[] = {
    {"_orig_mod", "torch.compile"},
    {"_fsdp_wrapped_module", "FSDP"},
    {"_checkpoint_wrapped_module", "activation checkpointing"},
};
/* The last segments of a name: patterns (globs) for each. "=2" in `to` and `beside` is what the
 * second pattern fitted. */
static const struct tail_rule {
    const char *from, *to; /* to NULL: left out */
    const char *beside;    /* must be there too; NULL: nothing */
    bool proven;           /* only where the skeleton has the new name and not the old one */
    int n_dims;            /* of the tensor; -1 = any */
    const char *why;
} tails[] = {
    {"*[Nn]orm*.gamma", "=1.weight", "=1.beta", false, 1, "LayerNorm of early BERT ports"},
    {"*[Nn]orm*.beta", "=1.bias", "=1.gamma", false, 1, "LayerNorm of early BERT ports"},
    {"ln_*.gamma", "=1.weight", "=1.beta", false, 1, "LayerNorm of early ports"},
    {"ln_*.beta", "=1.bias", "=1.gamma", false, 1, "LayerNorm of early ports"},
    {"weight_g", "parametrizations.weight.original0", "weight_v", false, -1, "weight_norm"},
    {"weight_v", "parametrizations.weight.original1", "weight_g", false, -1, "weight_norm"},
    {"weight_orig", "parametrizations.weight.original", "weight_u", false, -1, "spectral_norm"},
    {"weight_u", "parametrizations.weight.0._u", "weight_orig", false, 1, "spectral_norm"},
    {"weight_v", "parametrizations.weight.0._v", "weight_orig", false, 1, "spectral_norm"},
    {"denselayer*.norm.[12].*", "=1.norm=3.=4", NULL, false, -1, "torchvision DenseNet"},
    {"denselayer*.conv.[12].*", "=1.conv=3.=4", NULL, false, -1, "torchvision DenseNet"},
    {"encoder_layer_*.mlp.linear_1.*", "=1.mlp.0.=4", NULL, false, -1, "torchvision ViT"},
    {"encoder_layer_*.mlp.linear_2.*", "=1.mlp.3.=4", NULL, false, -1, "torchvision ViT"},
    {"gamma_1", "ls1.gamma", NULL, true, 1, "timm's layer scale"},
    {"gamma_2", "ls2.gamma", NULL, true, 1, "timm's layer scale"},
    {"embeddings.position_ids", NULL, NULL, false, -1, "a range, computed again"},
    {"attn.masked_bias", NULL, NULL, false, 0, "a constant, computed again"},
    {"attention.masked_bias", NULL, NULL, false, 0, "a constant, computed again"},
    {"attn.bias", NULL, "c_attn.weight", false, 4, "a causal mask, computed again"},
    {"attention.bias", NULL, "query_key_value.weight", false, 4, "a causal mask, computed again"},
    {"rotary_emb.inv_freq", NULL, NULL, false, 1, "frequencies, computed again"},
    {"decoder.version", NULL, NULL, false, -1, "a version number"},
    {"embed_positions._float_tensor", NULL, NULL, false, -1, "a dummy"},
    {"EncDecAttention.relative_attention_bias.weight", NULL, NULL, false, 2,
     "T5 has none there, early files do"},
};
#define N_OF(a) (sizeof(a) / sizeof *(a))
#define SEGMENTS_MAX 8
#define ROUNDS 16 /* wrappers in wrappers */

struct work {
    struct model *m;
    const struct model *like;
    uint32_t *at; /* tensors that take part */
    struct str *name;
    const char **why;
    struct str *sorted; /* of name, for what stands beside */
    size_t n;
};

static bool weight_like(const struct tensor *t, bool ema)
{
    struct str parent, leaf;
    switch (t->role) {
    case ROLE_PARAMETER:
    case ROLE_BUFFER:
    case ROLE_STATISTIC:
        return true;
    case ROLE_EMA:
        return ema;
    case ROLE_COUNTER:
        name_tail(t->name, &parent, &leaf);
        return str_is(leaf, "num_batches_tracked");
    default:
        return false;
    }
}

static bool selected(const char *const *globs, struct str name)
{
    for (const char *const *g = globs; g && *g; g++)
        if (str_glob(str_from(*g), name))
            return true;
    return !globs;
}

static enum status begin(struct work *w, const char *const *select, struct err *e)
{
    size_t n = w->m->n_tensors;
    struct arena *a = &w->m->arena;
    w->at = ARENA_ARRAY(a, uint32_t, n + 1);
    w->name = ARENA_ARRAY(a, struct str, n + 1);
    w->sorted = ARENA_ARRAY(a, struct str, n + 1);
    w->why = ARENA_ARRAY(a, const char *, n + 1);
    if (!w->at || !w->name || !w->sorted || !w->why)
        return err_nomem(e, n * sizeof *w->name);
    for (int ema = 0; ema < 2 && w->n == 0; ema++) /* averages where there is nothing else */
        for (size_t i = 0; i < n; i++)
            if (weight_like(&w->m->tensor[i], ema) && selected(select, w->m->tensor[i].name)) {
                w->at[w->n] = (uint32_t)i;
                w->name[w->n++] = w->m->tensor[i].name;
            }
    return ST_OK;
}

static bool under(struct str name, struct str prefix)
{
    return name.n > prefix.n + 1 && str_starts(name, prefix) && name.p[prefix.n] == '.';
}

/* Weights whose names the skeleton has, with `cut` bytes taken off. */
static size_t known(const struct work *w, size_t cut)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++)
        n += w->name[i].n > cut && model_find(w->like, str_sub(w->name[i], cut, w->name[i].n)) >= 0;
    return n;
}

/* Names that a family's table has, its prefix with them; the most of any family. */
static size_t known_family(const struct work *w, size_t cut)
{
    size_t most = 0;
    for (size_t f = 0; f < n_families; f++) {
        size_t n = 0;
        bool anchored = false;
        for (size_t i = 0; i < w->n; i++) {
            struct str parent, leaf;
            name_tail(str_sub(w->name[i], cut, w->name[i].n), &parent, &leaf);
            struct family_place at = family_at(families[f], parent);
            n += at.row != NULL;
            anchored = anchored || (at.row && strcmp(at.row->path, families[f]->anchor) == 0);
        }
        if (anchored && n > most)
            most = n;
    }
    return most;
}

/* Is the prefix the key of a part of a PyTorch checkpoint, no attribute in a dotted name? */
static bool is_part(const struct work *w, struct str prefix)
{
    const struct node *root = w->m->tree;
    if (!root || root->kind != NODE_DICT || !str_is(w->m->framework, "pytorch"))
        return false;
    bool part = false;
    for (const struct node *c = root->child; c; c = c->next)
        part = part || (c->key && c->key->kind == NODE_STR && str_eq(c->key->text, prefix) &&
                        (c->kind == NODE_DICT || c->kind == NODE_OPAQUE));
    return part && w->name[0].p == w->m->tensor[w->at[0]].name.p; /* nothing taken off yet */
}

/* Do more names make sense without the prefix than with it? */
static bool proven(const struct work *w, size_t cut)
{
    if (w->like)
        return known(w, cut) > known(w, 0);
    return known_family(w, cut) > known_family(w, 0);
}

static bool strip_prefix(struct work *w)
{
    for (size_t k = 0; k < N_OF(prefixes) && w->n; k++) {
        struct str p = str_from(prefixes[k].prefix);
        size_t n = 0, odd = 0;
        for (size_t i = 0; i < w->n; i++) {
            n += under(w->name[i], p);
            odd += str_is(w->name[i], "n_averaged"); /* AveragedModel's own */
        }
        if (n == 0 || n + odd < w->n ||
            (prefixes[k].proven && !is_part(w, p) && !proven(w, p.n + 1)))
            continue;
        for (size_t i = 0; i < w->n; i++)
            if (under(w->name[i], p)) {
                w->name[i] = str_sub(w->name[i], p.n + 1, w->name[i].n);
                w->why[i] = prefixes[k].why;
            }
        return true;
    }
    return false;
}

/* Takes a segment out of a name wherever it stands. */
static enum status cut_inside(struct work *w, size_t i, bool *any, struct err *e)
{
    for (size_t k = 0; k < N_OF(inside); k++) {
        struct str rest = w->name[i], seg, out = STR("");
        struct str what = str_from(inside[k].segment);
        bool found = false;
        if (str_find_str(rest, what, 0) == rest.n)
            continue;
        while (name_head(&rest, &seg)) {
            if (str_is(seg, inside[k].segment) && rest.p) {
                found = true;
                continue;
            }
            out =
                arena_fmt(&w->m->arena, "%.*s%s%.*s", STR_ARG(out), out.n ? "." : "", STR_ARG(seg));
            if (!out.p)
                return err_nomem(e, w->name[i].n);
        }
        if (found) {
            w->name[i] = out;
            w->why[i] = inside[k].why;
            *any = true;
        }
    }
    return ST_OK;
}

/* ---- the ends of names ---- */

static size_t segments(struct str s, struct str *out, size_t most)
{
    size_t n = 0;
    struct str seg;
    while (s.p && name_head(&s, &seg)) {
        if (n == most)
            return 0;
        out[n++] = seg;
    }
    return n;
}

/* Does a name end so? *head: what stands before; fit: the segments the patterns fitted. */
static bool ends_so(const char *pattern, struct str name, struct str *head, struct str *fit)
{
    struct str pat[SEGMENTS_MAX], parent = name, leaf;
    size_t n = segments(str_from(pattern), pat, SEGMENTS_MAX);
    for (size_t k = n; k-- > 0;) {
        if (parent.n == 0)
            return false;
        name_tail(parent, &parent, &leaf);
        if (!str_glob(pat[k], leaf))
            return false;
        fit[k] = leaf;
    }
    *head = parent;
    return n > 0;
}

static struct str spelled(struct arena *a, struct str head, const char *to, const struct str *fit)
{
    struct buf b = BUF_INIT;
    struct err quiet;
    if (head.n) {
        buf_str(&b, head);
        buf_u8(&b, '.');
    }
    for (const char *p = to; *p; p++) {
        if (*p == '=' && p[1] >= '1' && p[1] <= '8')
            buf_str(&b, fit[*++p - '1']);
        else
            buf_u8(&b, (uint8_t)*p);
    }
    struct str out = buf_ok(&b, &quiet) == ST_OK ? arena_str(a, b.p, b.n) : STR_NONE;
    buf_free(&b);
    return out;
}

static int by_name(const void *x, const void *y)
{
    return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

static bool there(const struct work *w, struct str name)
{
    return bsearch(&name, w->sorted, w->n, sizeof name, by_name) != NULL;
}

static enum status one_tail(struct work *w, size_t i, const struct tail_rule *r, bool *done,
                            struct err *e)
{
    struct arena *a = &w->m->arena;
    struct str head, fit[SEGMENTS_MAX], name = w->name[i];
    const struct tensor *t = &w->m->tensor[w->at[i]];
    *done = false;
    if (!ends_so(r->from, name, &head, fit) || (r->n_dims >= 0 && t->n_dims != r->n_dims))
        return ST_OK;
    if (r->beside) { /* below the module of the pattern's last segment but one */
        struct str mate = spelled(a, head, r->beside, fit);
        if (!mate.p)
            return err_nomem(e, name.n);
        struct str own = arena_fmt(a, "%.*s%s%.*s.%s", STR_ARG(head), head.n ? "." : "",
                                   STR_ARG(fit[0]), r->beside);
        if (!own.p)
            return err_nomem(e, name.n);
        if (!there(w, mate) && !there(w, own))
            return ST_OK;
    }
    if (!r->to) {
        w->name[i] = STR_NONE;
    } else {
        struct str to = spelled(a, head, r->to, fit);
        if (!to.p)
            return err_nomem(e, name.n);
        if (r->proven &&
            (!w->like || model_find(w->like, to) < 0 || model_find(w->like, name) >= 0))
            return ST_OK;
        w->name[i] = to;
    }
    w->why[i] = r->why;
    *done = true;
    return ST_OK;
}

static enum status tails_of(struct work *w, struct err *e)
{
    for (size_t i = 0; i < w->n; i++)
        w->sorted[i] = w->name[i];
    if (w->n)
        qsort(w->sorted, w->n, sizeof *w->sorted, by_name);
    for (size_t i = 0; i < w->n; i++) {
        bool done = false;
        for (size_t k = 0; k < N_OF(tails) && !done; k++)
            TRY(one_tail(w, i, &tails[k], &done, e));
    }
    return ST_OK;
}

/* ---- the outcome ---- */

static enum status not_taken(const struct work *w, struct err *e)
{
    size_t n = 0;
    struct str *all = ARENA_ARRAY(&w->m->arena, struct str, w->m->n_tensors + 1);
    bool *moved = ARENA_ARRAY(&w->m->arena, bool, w->m->n_tensors + 1);
    if (!all || !moved)
        return err_nomem(e, w->m->n_tensors * sizeof *all);
    for (size_t i = 0; i < w->n; i++) {
        moved[w->at[i]] = true;
        if (w->name[i].p)
            all[n++] = w->name[i];
    }
    for (size_t i = 0; i < w->m->n_tensors; i++)
        if (!moved[i])
            all[n++] = w->m->tensor[i].name;
    if (n)
        qsort(all, n, sizeof *all, by_name);
    for (size_t i = 1; i < n; i++)
        if (str_eq(all[i - 1], all[i])) {
            enum status st = err_set(e, ST_CANNOT, "upgrade-taken",
                                     "--upgrade would give two tensors this name");
            err_in(e, all[i].p, all[i].n);
            return st;
        }
    return ST_OK;
}

enum status upgrade_names(struct model *m, const struct model *like, const char *const *select,
                          struct upgrade *out, struct err *e)
{
    struct work w = {.m = m, .like = like};
    *out = (struct upgrade){0};
    TRY(begin(&w, select, e));
    for (int round = 0; round < ROUNDS; round++) {
        bool any = strip_prefix(&w);
        for (size_t i = 0; i < w.n; i++)
            TRY(cut_inside(&w, i, &any, e));
        if (!any)
            break;
    }
    TRY(tails_of(&w, e));
    TRY(not_taken(&w, e));
    out->item = ARENA_ARRAY(&m->arena, struct upgraded, w.n + 1);
    if (!out->item)
        return err_nomem(e, w.n * sizeof *out->item);
    for (size_t i = 0; i < w.n; i++) {
        if (!w.why[i])
            continue;
        struct tensor *t = &m->tensor[w.at[i]];
        out->item[out->n++] = (struct upgraded){w.at[i], t->name, w.name[i], w.why[i], false};
        if (w.name[i].p)
            t->name = w.name[i];
    }
    return out->n ? model_finish(m, e) : ST_OK;
}
