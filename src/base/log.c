/* See log.h. */
#include "base/log.h"
#include <stdio.h>

static struct log_sink sink;

void log_set_sink(const struct log_sink *s)
{
    sink = s ? *s : (struct log_sink){0};
}

static void put(enum log_level level, const char *fmt, va_list ap)
{
    char raw[1024], line[2048];
    if (!sink.line)
        return;
    int n = vsnprintf(raw, sizeof raw, fmt, ap);
    err_escape(raw,
               n < 0                    ? 0
               : (size_t)n < sizeof raw ? (size_t)n
                                        : sizeof raw - 1,
               line, sizeof line);
    sink.line(sink.ctx, level, line);
}

#define LEVEL(name, level)                                                                         \
    void name(const char *fmt, ...)                                                                \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, fmt);                                                                         \
        put(level, fmt, ap);                                                                       \
        va_end(ap);                                                                                \
    }
LEVEL(log_warn, LOG_WARN)
LEVEL(log_note, LOG_NOTE)
LEVEL(log_detail, LOG_DETAIL)

void log_progress(uint64_t done, uint64_t total, const char *tensor)
{
    if (sink.progress)
        sink.progress(sink.ctx, done, total, tensor);
}
