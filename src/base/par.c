/* The door to OpenMP. Threads take item numbers from one counter; a thread whose item is ready
 * waits for its turn to commit, so at most one finished item per thread is held back. Every item
 * below a failed one has been started, hence the lowest failure is the same for any thread count.
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

#define PROBE_MAX 512
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

struct state {
    const struct par_job *job;
    pthread_mutex_t lock;
    pthread_cond_t turn;
    uint64_t next;      /* item to hand out */
    uint64_t committed; /* items below are committed */
    uint64_t failed;    /* lowest failed item; UINT64_MAX = none */
    enum status st;
    struct err *err; /* the caller's; holds the failure of item `failed` */
};

static void fail(struct state *s, uint64_t item, enum status st, const struct err *err)
{
    pthread_mutex_lock(&s->lock);
    if (item < s->failed) {
        s->failed = item;
        s->st = st;
        if (s->err)
            *s->err = *err;
    }
    pthread_cond_broadcast(&s->turn);
    pthread_mutex_unlock(&s->lock);
}

static bool take(struct state *s, uint64_t *item)
{
    pthread_mutex_lock(&s->lock);
    bool more = s->failed == UINT64_MAX && s->next < s->job->n_items;
    *item = s->next;
    if (more)
        s->next++;
    pthread_mutex_unlock(&s->lock);
    return more;
}

/* false when a lower item failed, so that this one's turn never comes */
static bool wait_turn(struct state *s, uint64_t item)
{
    pthread_mutex_lock(&s->lock);
    while (s->committed != item && s->failed > item)
        pthread_cond_wait(&s->turn, &s->lock);
    bool mine = s->committed == item && s->failed > item;
    pthread_mutex_unlock(&s->lock);
    return mine;
}

static void turn_done(struct state *s, uint64_t item)
{
    pthread_mutex_lock(&s->lock);
    s->committed = item + 1;
    pthread_cond_broadcast(&s->turn);
    pthread_mutex_unlock(&s->lock);
}

static enum status one(struct state *s, uint64_t item, int slot, struct err *e)
{
    const struct par_job *j = s->job;
    TRY(stop_check(e));
    TRY(j->body(j->ctx, item, slot, e));
    if (j->commit) {
        if (!wait_turn(s, item))
            return ST_OK; /* the lower failure is what is reported */
        TRY(j->commit(j->ctx, item, slot, e));
        turn_done(s, item);
    }
    return j->finish ? j->finish(j->ctx, item, slot, e) : ST_OK;
}

static void worker(struct state *s, int slot)
{
    uint64_t item;
    struct err e;
    while (take(s, &item)) {
        memset(&e, 0, sizeof e);
        enum status st = one(s, item, slot, &e);
        if (st != ST_OK)
            fail(s, item, st, &e);
    }
}

enum status par_run(const struct par_job *job, struct err *e)
{
    struct state s = {.job = job,
                      .lock = PTHREAD_MUTEX_INITIALIZER,
                      .turn = PTHREAD_COND_INITIALIZER,
                      .failed = UINT64_MAX,
                      .err = e};
    int n = job->n_slots > 0 && job->n_slots < threads ? job->n_slots : threads;
    if (job->n_items < (uint64_t)n)
        n = (int)job->n_items;
    if (n > 1) {
        int slot = 0;
#pragma omp parallel num_threads(n) default(none) shared(s, slot)
        {
            int mine;
#pragma omp atomic capture
            mine = slot++;
            worker(&s, mine);
        }
    } else if (n == 1) {
        worker(&s, 0);
    }
    pthread_cond_destroy(&s.turn);
    pthread_mutex_destroy(&s.lock);
    return s.st;
}
