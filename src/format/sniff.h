/* What a file is that no format of ours takes: for messages alone. */
#ifndef FORMAT_SNIFF_H
#define FORMAT_SNIFF_H
#include "format/format.h"

/* "a gzip file", "a 7z archive", "a pickle" ..., or NULL when the first bytes say nothing. */
const char *sniff(const struct source *s);
#endif
