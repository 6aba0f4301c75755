/* nnferry's own code, no part of gcc: thread affinity for a libgomp built against musl;
 * included before each of its files.
 *
 * libgomp binds a thread by pthread_attr_setaffinity_np(attr, set) followed by
 * pthread_create(attr). musl lacks the first. Here the attribute's set is kept per
 * calling thread, and the creation that follows applies it to the new thread.
 */
#ifndef NNFERRY_GOMP_AFFINITY_H
#define NNFERRY_GOMP_AFFINITY_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <pthread.h>
#include <sched.h>

/* set is borrowed until the next nnferry_gomp_create of this thread; libgomp passes
 * entries of its places list, which lives as long as the process. */
int nnferry_gomp_attr_setaffinity(pthread_attr_t *attr, size_t set_bytes, const cpu_set_t *set);
int nnferry_gomp_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                        void *arg);

#define pthread_attr_setaffinity_np nnferry_gomp_attr_setaffinity
#define pthread_create nnferry_gomp_create

#endif
