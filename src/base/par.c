/* The door to OpenMP. Threads take item numbers from one counter, as long as there is a slot; an
 * item whose turn to commit has not come stays in its slot, and its thread goes on with another.
 * Every item below a failed one has been started, hence the lowest failure is the same for any
 * thread count.
 */
#include "base/par.h"
#include "base/stop.h"
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int threads = 1;

/* ---- how many ---- */

#define PROBE_MAX PAR_THREADS_MAX
static pthread_mutex_t probe_lock = PTHREAD_MUTEX_INITIALIZER;

static void *probe_body(void *unused)
{
    pthread_mutex_lock(&probe_lock);
    pthread_mutex_unlock(&probe_lock);
    return unused;
}

/* Threads the host lets us start (RLIMIT_NPROC, cgroup pids): OpenMP would end the process where
 * one cannot be made, so ask first. */
static int probe(int want)
{
    pthread_t made[PROBE_MAX];
    int n = 0;
    if (want > PROBE_MAX)
        want = PROBE_MAX;
    pthread_mutex_lock(&probe_lock);
    while (n + 1 < want && pthread_create(&made[n], NULL, probe_body, NULL) == 0)
        n++;
    pthread_mutex_unlock(&probe_lock);
    for (int i = 0; i < n; i++)
        pthread_join(made[i], NULL);
    return n + 1;
}

void par_set_threads(int n)
{
    threads = n <= 1 ? 1 : probe(n);
}

int par_threads(void)
{
    return threads;
}

/* "max 100000" or "200000 100000" of cgroup v2, quota and period files of v1; 0 = none */
static int cgroup_threads(void)
{
    long long quota = -1, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f) {
        if (fscanf(f, "%lld %lld", &quota, &period) != 2)
            quota = -1;
        fclose(f);
    } else {
        f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re");
        if (f) {
            if (fscanf(f, "%lld", &quota) != 1)
                quota = -1;
            fclose(f);
        }
        f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re");
        if (f) {
            if (fscanf(f, "%lld", &period) != 1)
                period = 0;
            fclose(f);
        }
    }
    if (quota <= 0 || period <= 0)
        return 0;
    long long n = (quota + period - 1) / period;
    return n > INT_MAX ? 0 : n < 1 ? 1 : (int)n;
}

int par_host_threads(const char **why)
{
    /* room for more CPUs than cpu_set_t's 1024 */
    union {
        cpu_set_t set;
        unsigned char bytes[8192 / 8];
    } cpus;
    memset(&cpus, 0, sizeof cpus);
    int n = 1, quota = cgroup_threads();
    *why = "affinity";
    if (sched_getaffinity(0, sizeof cpus, &cpus.set) == 0) {
        n = CPU_COUNT_S(sizeof cpus, &cpus.set);
        if (n < 1)
            n = 1;
    }
    if (quota > 0 && quota < n) {
        n = quota;
        *why = "cgroup";
    }
    if (n > PROBE_MAX) {
        n = PROBE_MAX;
        *why = "limit";
    }
    return n;
}

/* ---- running ---- */

/* What a slot is doing. READY: its item's body is done, its turn to commit has not come. DONE:
 * committed, and another item is being finished alone. */
enum { FREE, BUSY, READY, DONE };
struct state {
    const struct par_job *job;
    pthread_mutex_t lock;
    pthread_cond_t change; /* a slot came free, an item was committed or failed */
    int n_slots;
    unsigned char *what; /* per slot */
    uint64_t *item;      /* per slot */
    uint64_t next;       /* item to hand out */
    uint64_t committed;  /* items below are committed */
    bool committing, finishing;
    uint64_t failed; /* lowest failed item; UINT64_MAX = none */
    enum status st;
    struct err *err; /* the caller's; holds the failure of item `failed` */
};

/* Under the lock. */
static void fail(struct state *s, uint64_t item, enum status st, const struct err *err)
{
    if (item >= s->failed)
        return;
    s->failed = item;
    s->st = st;
    if (s->err)
        *s->err = *err;
}

static int slot_that(const struct state *s, unsigned char what)
{
    for (int i = 0; i < s->n_slots; i++)
        if (s->what[i] == what && (what != READY || s->item[i] == s->committed))
            return i;
    return -1;
}

/* The first item that waits to be finished; those above a failed one are let go. */
static int slot_to_finish(struct state *s)
{
    int best = -1;
    for (int i = 0; i < s->n_slots; i++) {
        if (s->what[i] == DONE && s->item[i] > s->failed)
            s->what[i] = FREE;
        if (s->what[i] == DONE && (best < 0 || s->item[i] < s->item[best]))
            best = i;
    }
    return best;
}

/* Called and returns under the lock, which is open during the work. */
static void do_body(struct state *s, int slot)
{
    const struct par_job *j = s->job;
    uint64_t item = s->next++;
    struct err e = {0};
    s->what[slot] = BUSY;
    s->item[slot] = item;
    pthread_mutex_unlock(&s->lock);
    enum status st = stop_check(&e);
    if (st == ST_OK)
        st = j->body(j->ctx, item, slot, &e);
    if (st == ST_OK && !j->commit && j->finish)
        st = j->finish(j->ctx, item, slot, &e);
    if (st == ST_OK && !j->commit && j->finish && j->prove)
        st = j->prove(j->ctx, item, slot, &e);
    pthread_mutex_lock(&s->lock);
    s->what[slot] = st == ST_OK && j->commit ? READY : FREE;
    if (st != ST_OK)
        fail(s, item, st, &e);
}

static void do_finish(struct state *s, int slot)
{
    const struct par_job *j = s->job;
    uint64_t item = s->item[slot];
    struct err e = {0};
    s->finishing = j->finish_alone;
    s->what[slot] = BUSY;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
    enum status st = j->finish(j->ctx, item, slot, &e);
    pthread_mutex_lock(&s->lock);
    if (j->finish_alone)
        s->finishing = false;
    if (st == ST_OK && j->prove) {
        pthread_cond_broadcast(&s->change);
        pthread_mutex_unlock(&s->lock);
        st = j->prove(j->ctx, item, slot, &e);
        pthread_mutex_lock(&s->lock);
    }
    s->what[slot] = FREE;
    if (st != ST_OK)
        fail(s, item, st, &e);
}

static void do_commit(struct state *s, int slot)
{
    const struct par_job *j = s->job;
    uint64_t item = s->item[slot];
    struct err e = {0};
    s->committing = true;
    s->what[slot] = BUSY;
    pthread_mutex_unlock(&s->lock);
    enum status st = j->commit(j->ctx, item, slot, &e);
    pthread_mutex_lock(&s->lock);
    s->committing = false;
    s->committed = item + 1;
    s->what[slot] = st == ST_OK && j->finish ? DONE : FREE;
    if (st != ST_OK)
        fail(s, item, st, &e);
    else if (j->finish && !s->finishing)
        do_finish(s, slot);
}

static void worker(struct state *s)
{
    pthread_mutex_lock(&s->lock);
    for (;;) {
        int slot = s->finishing ? -1 : slot_to_finish(s);
        if (slot >= 0) {
            do_finish(s, slot);
        } else if (!s->committing && s->failed > s->committed &&
                   (slot = slot_that(s, READY)) >= 0) {
            do_commit(s, slot);
        } else if (s->failed == UINT64_MAX && s->next < s->job->n_items &&
                   (slot = slot_that(s, FREE)) >= 0) {
            do_body(s, slot);
        } else {
            bool more = s->committed < s->job->n_items && s->committed < s->failed;
            if (!s->job->commit || (!more && slot_to_finish(s) < 0))
                break; /* nobody needs a hand */
            pthread_cond_wait(&s->change, &s->lock);
            continue;
        }
        pthread_cond_broadcast(&s->change);
    }
    pthread_mutex_unlock(&s->lock);
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OWN_TEAM /* the sanitizer does not see how OpenMP's threads wait for each other */
#endif
#endif

#ifdef OWN_TEAM
static void *team_body(void *s)
{
    worker(s);
    return NULL;
}

static void team(struct state *s, int n)
{
    pthread_t made[PAR_THREADS_MAX];
    int k = 0;
    while (k + 1 < n && pthread_create(&made[k], NULL, team_body, s) == 0)
        k++;
    worker(s);
    while (k > 0)
        pthread_join(made[--k], NULL);
}
#else
static void team(struct state *s, int n)
{
#pragma omp parallel num_threads(n) default(none) shared(s)
    worker(s);
}
#endif

enum status par_run(const struct par_job *job, struct err *e)
{
    unsigned char what[PAR_SLOTS_MAX] = {FREE};
    uint64_t item[PAR_SLOTS_MAX];
    struct state s = {.job = job,
                      .lock = PTHREAD_MUTEX_INITIALIZER,
                      .change = PTHREAD_COND_INITIALIZER,
                      .what = what,
                      .item = item,
                      .failed = UINT64_MAX,
                      .err = e};
    s.n_slots = job->n_slots > 0 ? job->n_slots : threads;
    if (s.n_slots > PAR_SLOTS_MAX)
        s.n_slots = PAR_SLOTS_MAX;
    int n = job->n_threads > 0 && job->n_threads < threads ? job->n_threads : threads;
    if (s.n_slots < n)
        n = s.n_slots;
    if (job->n_items < (uint64_t)n)
        n = (int)job->n_items;
    if (n > 1)
        team(&s, n);
    else if (n == 1)
        worker(&s);
    pthread_cond_destroy(&s.change);
    pthread_mutex_destroy(&s.lock);
    return s.st;
}
