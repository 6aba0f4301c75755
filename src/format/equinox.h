/* The parts of the Equinox format among themselves; the registry sees only equinox_format
 * (equinox.c).
 */
#ifndef FORMAT_EQUINOX_H
#define FORMAT_EQUINOX_H
#include "format/format.h"

#define EQX_META "equinox.hyperparameters" /* meta key: the line before the arrays */
#define EQX_LEAVES "nnferry.leaves"        /* last key of that line: the leaves' names, in order */
#define EQX_LINE_MAX ((size_t)16 << 20)

enum status equinox_check(const struct model *m, const struct write_opt *opt, struct err *e);
enum status equinox_begin(struct writer *w, struct err *e);
enum status equinox_end(struct writer *w, struct err *e);
/* equinox_roles.c: after roles_by_name, leaves without names. */
MUSTCHECK enum status equinox_roles(struct model *m, struct err *e);
#endif
