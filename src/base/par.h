/* The door to OpenMP. Work is a numbered list of items; a slot (0 .. n_slots-1) owns the scratch of
 * one item in work. More slots than threads keep threads from waiting for each other's commits.
 * Slots and threads change no result.
 */
#ifndef BASE_PAR_H
#define BASE_PAR_H
#include "base/err.h"

#define PAR_THREADS_MAX 512
#define PAR_SLOTS_MAX (2 * PAR_THREADS_MAX)
/* Threads to use from now on; 0 or less = 1. Set once by cli. */
void par_set_threads(int n);
int par_threads(void);
/* Least of affinity, cgroup quota and the given limits (0 = no limit); *why names the one that
 * decided ("affinity", "cgroup", "limit"). */
int par_host_threads(const char **why);

struct par_job {
    uint64_t n_items;
    int n_slots;   /* items in work at most, and so threads; 0 = par_threads() */
    int n_threads; /* at most this many; 0 = par_threads() */
    void *ctx;
    /* Any order, concurrent. */
    enum status (*body)(void *ctx, uint64_t item, int slot, struct err *e);
    /* In item order, one at a time, after that item's body; may be NULL. */
    enum status (*commit)(void *ctx, uint64_t item, int slot, struct err *e);
    /* After that item's commit, concurrent; may be NULL. */
    enum status (*finish)(void *ctx, uint64_t item, int slot, struct err *e);
    /* With a commit: one finish at a time, while other threads go on with other items. For writes
     * to one file, which the kernel takes one after the other anyway, spinning meanwhile. */
    bool finish_alone;
    /* After that item's finish, on the same thread, concurrent whatever finish_alone says; may be
     * NULL. */
    enum status (*prove)(void *ctx, uint64_t item, int slot, struct err *e);
};
/* Runs all items. On failures returns the one with the lowest item number among those that
 * ran; the others are not started. Polls stop_requested() between items (ST_SIGNAL). */
MUSTCHECK enum status par_run(const struct par_job *job, struct err *e);
#endif
