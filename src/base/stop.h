/* A request to stop, set from a signal handler (installed by cli) and polled between slabs. */
#ifndef BASE_STOP_H
#define BASE_STOP_H
#include "base/err.h"

void stop_request(int signal_number);            /* async-signal-safe; the first stays */
int stop_requested(void);                        /* the signal number, 0 = none */
MUSTCHECK enum status stop_check(struct err *e); /* ST_SIGNAL when requested */
#endif
