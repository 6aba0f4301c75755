/* nnferry's own code: see gomp_affinity.h. */
#include "gomp_affinity.h"

#undef pthread_create

static __thread const pthread_attr_t *asked_attr;
static __thread size_t asked_bytes;
static __thread const cpu_set_t *asked_set;

int nnferry_gomp_attr_setaffinity(pthread_attr_t *attr, size_t set_bytes, const cpu_set_t *set)
{
    asked_attr = attr;
    asked_bytes = set_bytes;
    asked_set = set;
    return 0;
}

int nnferry_gomp_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                        void *arg)
{
    int err = pthread_create(thread, attr, run, arg);
    /* A binding that fails (a CPU taken away) leaves the thread unbound, as the
     * environment is a wish and not a promise. */
    if (err == 0 && attr != NULL && attr == asked_attr && asked_set != NULL)
        (void)pthread_setaffinity_np(*thread, asked_bytes, asked_set);
    asked_set = NULL;
    return err;
}
