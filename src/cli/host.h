/* What the host lends: memory and threads, and the signals that ask us to stop. */
#ifndef CLI_HOST_H
#define CLI_HOST_H
#include "cli/option.h"

/* Sets the memory ceiling, threads, io mode, roots and spool folder from options, environment and
 * cgroups. ST_USAGE for --memory under the floor. */
MUSTCHECK enum status host_setup(const struct args *a, struct err *e);
void host_signals(void);
/* Sets where messages go, from -q -v --log --progress --color. */
void host_talk(const struct args *a);
/* The error line (or JSON object with --log json) on standard error. */
void host_error(const struct args *a, const struct err *e);
#endif
