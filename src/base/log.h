/* Talk: notes, warnings and progress go to a sink that cli sets. Below cli nothing prints. */
#ifndef BASE_LOG_H
#define BASE_LOG_H
#include "base/err.h"

enum log_level { LOG_WARN, LOG_NOTE, LOG_DETAIL };
struct log_sink {
    void *ctx;
    /* line has no newline; control bytes are already escaped */
    void (*line)(void *ctx, enum log_level level, const char *line);
    /* done and total in bytes of output; may be NULL. Calls are rate-limited by the sink. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total, const char *tensor);
};
void log_set_sink(const struct log_sink *s); /* copied; NULL = silent */
void log_warn(const char *fmt, ...) PRINTF(1, 2);
void log_note(const char *fmt, ...) PRINTF(1, 2);
void log_detail(const char *fmt, ...) PRINTF(1, 2);
void log_progress(uint64_t done, uint64_t total, const char *tensor);
#endif
