/* What the readers of models in pickles (PyTorch's, and those of arrays: Haiku, joblib) make of a
 * pickle's values alike. Codes: nodes.
 */
#ifndef FORMAT_PICKLE_VALUE_H
#define FORMAT_PICKLE_VALUE_H
#include "codec/pickle.h"
#include "format/format.h"

/* A node for value v. *n_nodes: those so far; a pickle whose values are shared unfolds to no more
 * than half its bytes that were read, or 2^18. */
MUSTCHECK enum status pickle_node(const struct pickle *p, struct model *m, uint64_t *n_nodes,
                                  enum node_kind kind, uint32_t v, struct node **out,
                                  struct err *e);
/* "module.name" of a global; "(object)" of any other value. .p == NULL when memory is out. */
struct str pickle_global_name(const struct pickle *p, struct arena *a, uint32_t v);
/* Decimal text of a two's complement number, little-endian, of at most 1024 bytes. */
MUSTCHECK enum status pickle_decimal(struct arena *a, struct str number, struct str *out,
                                     struct err *e);
/* Text of a dict's key in a name: "(key 7)" of the key in place 7 where it is no plain one. */
MUSTCHECK enum status pickle_key_text(const struct pickle *p, struct arena *a, uint32_t v,
                                      uint64_t place, struct str *out, struct err *e);
/* Every name the pickle uses, for scan. */
void pickle_tell_globals(const struct pickle *p, const struct read_opt *opt, struct arena *a);
#endif
