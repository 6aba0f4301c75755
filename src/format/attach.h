/* Attachments (configs, tokenizers) written as plain files into a target folder. */
#ifndef FORMAT_ATTACH_H
#define FORMAT_ATTACH_H
#include "format/format.h"

/* ST_CANNOT attachment-name when a name would not stay inside the folder (absolute, "..", an empty
 * part, NUL, a part of more than 255 bytes) or is one of the n names in taken. */
MUSTCHECK enum status attach_check(const struct model *m, const struct str *taken, size_t n,
                                   struct err *e);
/* All its bytes: its own, or read into the arena. */
MUSTCHECK enum status attach_bytes(const struct attachment *at, struct arena *a, struct str *out,
                                   struct err *e);
/* Adds one file per attachment to w->out and copies its bytes. */
MUSTCHECK enum status attach_write(struct writer *w, struct err *e);
/* The same of the attachments whose names `want` takes. */
MUSTCHECK enum status attach_check_some(const struct model *m, bool (*want)(struct str name),
                                        const struct str *taken, size_t n, struct err *e);
MUSTCHECK enum status attach_write_some(struct writer *w, bool (*want)(struct str name),
                                        struct err *e);
#endif
