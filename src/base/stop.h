/* A request to stop, set from a signal handler (installed by cli) and polled between slabs. */
#ifndef BASE_STOP_H
#define BASE_STOP_H
#include "base/err.h"

void stop_request(int signal_number);            /* async-signal-safe; the first stays */
int stop_requested(void);                        /* the signal number, 0 = none */
MUSTCHECK enum status stop_check(struct err *e); /* ST_SIGNAL when requested */
/* Is the system call that returned rc to be made again? It was interrupted, and not by a request to
 * stop; of one that was, err_sys makes ST_SIGNAL. Reads errno. */
bool stop_again(int64_t rc);
#endif
