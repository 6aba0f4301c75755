/* One way to fail: every fallible function returns a must-check status and fills a
 * struct err once, at the place that knows. Status values are the process's exit codes.
 * Only cli prints an err. An err is a plain value: no ownership, may be copied.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum status {
    ST_OK = 0,       /* done */
    ST_NO = 1,       /* the answer is no, or not proven */
    ST_USAGE = 2,    /* the command line is off */
    ST_INPUT = 3,    /* input unreadable, unrecognised, corrupt or hostile */
    ST_CANNOT = 4,   /* not expressible in the target */
    ST_OUTPUT = 7,   /* output error: exists, disk full, quota */
    ST_LIMIT = 8,    /* a limit was hit (memory, output size, time) */
    ST_DEVICE = 9,   /* the device asked for cannot be used */
    ST_BUG = 70,     /* a bug of ours */
    ST_STOPPED = 75, /* stopped in time with state kept */
    ST_SIGNAL = 128  /* stopped by signal number err.signal */
};

#define MUSTCHECK __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

struct err {
    enum status status;
    int sys;          /* errno, 0 where none */
    int signal;       /* for ST_SIGNAL */
    bool has_offset;  /* offset is meaningful */
    uint64_t offset;  /* byte offset in file */
    const char *code; /* static kebab-case name of the refusal, NULL where none */
    char file[512];   /* path as the user would know it, "" where none */
    char tensor[256]; /* tensor, member or key name, "" where none */
    char reason[512]; /* one sentence without a final stop */
};

/* Fills *e (e may be NULL) and returns st, so that callers write
 *     return err_set(e, ST_INPUT, "zip-name-twice", "...", ...);
 * Fields file, offset and tensor are reset; add them with err_at / err_in. */
enum status err_set(struct err *e, enum status st, const char *code, const char *fmt, ...)
    PRINTF(4, 5);
/* Same, appends ": <strerror(sys)>" and keeps sys. ST_SIGNAL where a request to stop interrupted
 * the call (EINTR). */
enum status err_sys(struct err *e, enum status st, const char *code, int sys, const char *fmt, ...)
    PRINTF(5, 6);
/* Out of memory under the ceiling (ST_LIMIT, code "memory"). */
enum status err_nomem(struct err *e, uint64_t wanted_bytes);
/* Adds a place to an err that has none yet; the first place named stays. */
void err_at(struct err *e, const char *file, uint64_t offset);
void err_file(struct err *e, const char *file);
void err_in(struct err *e, const char *tensor, size_t n);
/* Writes "FILE: byte N: CODE: reason (tensor NAME)" with control bytes escaped into out
 * (always terminated, cut at n). Returns the length written. */
size_t err_line(const struct err *e, char *out, size_t n);
/* Escapes control bytes, backslash and invalid UTF-8 of p[0..len) as \xHH into out
 * (terminated, cut at a whole escape). Returns the length written. */
size_t err_escape(const char *p, size_t len, char *out, size_t n);
/* Bytes of the character at p, left >= 1; *unsafe: a terminal obeys it instead of showing it
 * (controls, marks of direction), or it is no UTF-8. */
size_t err_char(const char *p, size_t left, bool *unsafe);

/* Propagates a failure: TRY(f(x, e)); */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        enum status try_st_ = (expr);                                                              \
        if (try_st_ != ST_OK)                                                                      \
            return try_st_;                                                                        \
    } while (0)
#endif
