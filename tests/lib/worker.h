/* Starting the real worker for a test. */
#ifndef TESTS_LIB_WORKER_H
#define TESTS_LIB_WORKER_H
/* 0: the spawner runs and a worker can be started. Else the exit status to leave with: 77 and a
 * reason printed where the host cannot start one, 1 on errors. End with child_stop. */
int worker_begin(void);
#endif
