/* The parts of the safetensors format among themselves; the registry sees only
 * safetensors_format (safetensors.c).
 */
#ifndef FORMAT_SAFETENSORS_H
#define FORMAT_SAFETENSORS_H
#include "codec/json.h"
#include "format/format.h"

#define ST_HEADER_MAX 100000000u /* what the official readers take */
#define ST_NAME_MAX 65535u
#define ST_ALIASES "nnferry.aliases" /* metadata key, see safetensors.c */
#define ST_INDEX ".safetensors.index."

/* Rank in the official order (the writer sorts by it, largest first), 0 = safetensors has no such
 * type. */
int safetensors_rank(enum dtype t);
const char *safetensors_dtype_name(enum dtype t); /* NULL where there is none */
/* A tensor's key and value in a header; its bytes lie from `at` on. */
void safetensors_entry(struct json_w *w, const struct tensor *t, uint64_t at, uint64_t bytes);
enum dtype safetensors_dtype_parse(struct str name); /* DT_NONE when unknown */

enum status safetensors_read(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e);
enum status safetensors_check(const struct model *m, const struct write_opt *opt, struct err *e);
enum status safetensors_begin(struct writer *w, struct err *e);
enum status safetensors_end(struct writer *w, struct err *e);
#endif
