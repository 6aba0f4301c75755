/* The config.json that travels with a model of Hugging Face: its scalars, as text (those of
 * objects in it under "outer.inner"). What
 * the weights do not say (heads, model type) is read from it, never guessed.
 */
#ifndef FRAMEWORK_CONFIG_H
#define FRAMEWORK_CONFIG_H
#include "model/model.h"

#define CONFIG_MAX 256
#define CONFIG_BYTES_MAX (4u << 20)
struct config {
    struct config_item {
        struct str key, text; /* unescaped; numbers as written; true, false, null */
        bool is_text;
    } item[CONFIG_MAX];
    size_t n;
    bool found; /* there was one, and it could be read */
};
/* ST_OK with found = false where there is none or it is no JSON object: it is advice. Texts come
 * from the arena. Fails for want of memory only. */
MUSTCHECK enum status config_read(const struct model *m, struct arena *a, struct config *out,
                                  struct err *e);
/* Empty where it says nothing. */
struct str config_text(const struct config *c, const char *key);
/* 0 where it says no whole number. */
uint64_t config_u64(const struct config *c, const char *key);
#endif
