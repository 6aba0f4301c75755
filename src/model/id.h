/* The digest of a model: SHA-256 over its tensors' names, types, shapes, digests and ties, equal
 * for equal tensors under equal names whatever the container. Layout: nnferry-id(1).
 */
#ifndef MODEL_ID_H
#define MODEL_ID_H
#include "model/model.h"

#define ID_PREFIX_PLAIN "nnf1"
#define ID_PREFIX_CANONICAL "nnc1"

/* Other names and ties of a model's tensors than it has by now, one of each a tensor. Where they
 * are asked for, NULL is the model's own. */
struct id_names {
    const struct str *name;
    const int64_t *alias_of;
};
/* The numbers of m's tensors by name, to order[n_tensors]. */
MUSTCHECK enum status id_order(const struct model *m, const struct id_names *names, uint32_t *order,
                               struct err *e);
/* Weights alone make the digest. digest: of each of them (codec/sha256.h's tree of its canonical
 * bytes), aliases too. rules_version: of the canonical spelling. */
MUSTCHECK enum status id_plain(const struct model *m, const struct id_names *names,
                               const uint8_t (*digest)[32], uint8_t out[32], struct err *e);
MUSTCHECK enum status id_canonical(const struct model *m, uint32_t rules_version,
                                   const uint8_t (*digest)[32], uint8_t out[32], struct err *e);
#endif
