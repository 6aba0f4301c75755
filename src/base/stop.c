/* See stop.h. */
#include "base/stop.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

static _Atomic int stop_signal;

void stop_request(int signal_number)
{
    int none = 0;
    atomic_compare_exchange_strong(&stop_signal, &none, signal_number);
}

int stop_requested(void)
{
    return stop_signal;
}

bool stop_again(int64_t rc)
{
    return rc < 0 && errno == EINTR && stop_signal == 0;
}

enum status stop_check(struct err *e)
{
    int s = stop_signal;
    if (s == 0)
        return ST_OK;
    enum status st = err_set(e, ST_SIGNAL, "stopped", "stopped by signal %d", s);
    if (e)
        e->signal = s;
    return st;
}
