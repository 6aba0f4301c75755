/* Opening folders, and what format.c and folder.c share. */
#ifndef FORMAT_FOLDER_H
#define FORMAT_FOLDER_H
#include "format/format.h"

/* Fills head of a source whose file is open. */
MUSTCHECK enum status source_open(struct source *s, struct err *e);
/* The best bidder and its bid, NULL and 0 when there is none. */
const struct format *source_bid(const struct source *s, int *bid);
/* ST_INPUT "unrecognised", naming what was found instead. */
enum status source_unrecognised(const struct source *s, struct err *e);

/* format_open for a folder. index: the name of the one index the user named, or empty. */
MUSTCHECK enum status folder_open(const char *path, struct str index, const struct format *force,
                                  const struct read_opt *opt, struct model *m,
                                  const struct format **found, struct err *e);
#endif
