/* The door to child processes. One spawner is forked by main before the first thread and before
 * any input is mapped; it starts OpenCL workers on request (worker/wire.h), because a static musl
 * program cannot open a vendor's driver. A worker is started through the host's own dynamic
 * loader from a memfd, else from a file installed in libexec, else from a file in the temporary
 * folder; what each way failed with is kept. Its environment is an allow-list, it dies with the
 * spawner, the spawner dies with main (PDEATHSIG). Every wait has a deadline. Whatever a worker
 * does is ST_DEVICE with a reason: it crashed, hung, or said what cannot be.
 *
 * One owner, one thread: calls are not thread-safe.
 */
#ifndef BASE_CHILD_H
#define BASE_CHILD_H
#include "base/buf.h"
#include "base/err.h"

struct child_opt {
    const char *const *env; /* main's environment; only names on the allow-list pass. NULL = none */
    const char *tmpdir;     /* for the third way; NULL = "/tmp" */
    const char *libexec;    /* installed worker for the second way; NULL = none */
    const char *image_path; /* tests: run this program with image_arg instead of the worker */
    const char *image_arg;
    const void *image; /* the worker program's bytes; NULL = none (first and third way fail) */
    size_t image_bytes;
};
/* Forks the spawner. Call once, before the first thread. */
MUSTCHECK enum status child_start(const struct child_opt *o, struct err *e);
bool child_started(void);
void child_stop(void); /* ends spawner and workers; allowed when none was started */

/* Shared memory, sealed against shrinking and growing; writable by both. Charged to the memory
 * ceiling. */
struct shared {
    uint8_t *p;
    size_t n;
    int fd;
};
MUSTCHECK enum status shared_new(size_t n, struct shared *s, struct err *e);
void shared_free(struct shared *s); /* zeroed allowed */

struct child;
/* Starts a worker and hears its hello. icd, when not NULL, becomes OCL_ICD_VENDORS in its
 * environment. tried (may be NULL) receives one line per way that failed, whether or not a later
 * one worked. */
MUSTCHECK enum status child_open(const char *icd, int deadline_ms, struct child **out,
                                 struct buf *tried, struct err *e);
/* Sends one request and waits for its reply of exactly reply_n payload bytes. fd is passed along
 * (-1 = none). ST_DEVICE "device-failed": the worker answered with an error (reply is filled, the
 * worker lives); "device-died", "device-hung", "device-lied": the worker is ended. ST_SIGNAL when
 * a stop was requested. */
MUSTCHECK enum status child_call(struct child *c, uint16_t type, const void *payload, size_t n,
                                 int fd, void *reply, size_t reply_n, int deadline_ms,
                                 struct err *e);
bool child_alive(const struct child *c);
void child_close(struct child *c); /* kills what still lives; NULL allowed */
#endif
