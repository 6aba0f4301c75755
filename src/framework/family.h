/* The families of Hugging Face's transformers, as tables: where each layer of a model stands, what
 * it is, and what others call it. A layer's canonical path is its path in the PyTorch model; the
 * Flax models have the same paths, GGUF has names of its own. "{}" in a path stands for a number.
 * A family is told by config.json (model_type) or by names.
 */
#ifndef FRAMEWORK_FAMILY_H
#define FRAMEWORK_FAMILY_H
#include "framework/config.h"
#include "framework/recognise.h"
#include "framework/rules.h"

struct family_row {
    const char *path;     /* below the family's prefix; "/lm_head": beside it */
    enum layer_kind kind; /* LAYER_NONE: a buffer computed again; LAYER_PARAM: a bare parameter */
    enum layer_form form;
    bool kv;          /* rotary: has the key-value heads */
    const char *gguf; /* NULL = GGUF has none */
};
#define FAMILY_TYPES 4
struct family {
    const char *name;
    const char *type[FAMILY_TYPES]; /* model_type of config.json */
    const char *prefix;             /* of the base model inside task models: "bert" */
    const char *anchor;             /* a row that only this structure has */
    const char *head, *tied;        /* rows whose weights may be one */
    const char *arch;               /* GGUF's general.architecture, NULL = none */
    bool bare;                      /* GGUF holds the base model: names without the prefix */
    /* TensorFlow's models: what stands between the name of a list and a number in it ("_._" in
     * "layer_._0"), NULL = there are none; the base model's own name where that is no prefix here
     * ("clip"), else NULL; heads that are called otherwise there. */
    const char *tf_join, *tf_base;
    struct {
        const char *path, *tf;
    } tf_head[2];
    const struct family_row *row;
    size_t n;
};
extern const struct family *const families[];
extern const size_t n_families;

#ifdef NNFERRY_MUTATE
/* Alters row i of a family in one way; -1 restores. False where there is no such row, or nothing of
 * that sort in it. */
enum family_change {
    FAMILY_PATH,
    FAMILY_KIND,
    FAMILY_FORM,
    FAMILY_KV,
    FAMILY_GGUF,
    FAMILY_CHANGES
};
bool family_mutate(const struct family *f, int i, enum family_change what);
#endif

#define FAMILY_NUMBERS 4
struct family_place {
    const struct family_row *row; /* NULL: none fits */
    struct str number[FAMILY_NUMBERS];
    size_t n_numbers;
};
/* What a config of Hugging Face's says of norms and of functions without weights. */
void family_norm(const struct config *c, struct layer *l);
MUSTCHECK enum status family_functions(const struct config *c, struct arena *a, struct layers *l,
                                       struct err *e);
/* The row of a canonical path, or of a GGUF path: skip counts rows of that name passed over. */
struct family_place family_at(const struct family *f, struct str path);
struct family_place family_at_gguf(const struct family *f, struct str path, size_t skip);
/* The pattern with the numbers put in, after the prefix and a dot where there is one. .p == NULL:
 * no memory. */
struct str family_path(const char *prefix, const char *pattern, const struct family_place *at,
                       struct arena *a);
/* The family of a model whose layers stand at the paths that `cut` takes from its names. By
 * config.json where it says so and the names bear it out, else by names: most of them must fit.
 * *sure: told by the config. */
const struct family *family_of(const struct model *m, name_cut *cut, const struct config *c,
                               bool *sure);
/* Reads the config, finds the family, and settles kinds, forms, heads and what is computed or tied
 * in recognised layers, where their shapes fit. rules: of the framework that recognised them. */
/* Heads of a layer that stands there, of all and of keys and values; 0 = not known. */
void family_heads(const struct family_row *row, struct layer *l, uint64_t heads, uint64_t kv_heads);
MUSTCHECK enum status family_settle(const struct model *m, name_cut *cut,
                                    const struct spelling_rules *rules, struct arena *a,
                                    struct layers *l, struct err *e);
#endif
