/* The parts of the gguf framework, among themselves. */
#ifndef FRAMEWORK_GGUF_H
#define FRAMEWORK_GGUF_H
#include "framework/family.h"

/* A key-value as text, "arch.key", or "key" where arch is ""; empty where there is none. */
struct str gguf_meta(const struct model *m, const char *arch, const char *key);
/* By general.architecture; NULL where no table has it. */
const struct family *gguf_family(const struct model *m);

/* gguf_config.c: struct framework's give and take. config.json of the model's key-values; key-values
 * of its config.json. */
MUSTCHECK enum status gguf_give(const struct model *src, const struct layers *l, struct model *dst,
                                struct str *why, struct err *e);
MUSTCHECK enum status gguf_take(const struct model *src, const struct layers *l, struct model *dst,
                                struct str *why, struct err *e);
#endif
