/* Between child.c (in main) and spawn.c (in the spawner): one request, one answer, on a
 * SOCK_SEQPACKET pair. Both are this program; only sizes are checked.
 */
#ifndef BASE_SPAWN_H
#define BASE_SPAWN_H
#include "base/child.h"
#include <sys/types.h>

enum { SPAWN_BEGIN = 1, SPAWN_END };
enum { SPAWN_WAYS = 3 }; /* memfd, libexec, temporary file */
struct spawn_ask {
    uint32_t op, seq, way;
    int32_t pid; /* END */
    char icd[256];
};
struct spawn_told {
    uint32_t seq;
    int32_t sys, pid;
    char text[1024]; /* BEGIN: what failed. END: how it ended and its last words */
};
const char *spawn_way_name(uint32_t way);
/* Runs in the spawner until the other end closes. */
void spawn_loop(int fd, const struct child_opt *o);
/* One packet with an optional descriptor. Retry EINTR; results as sendmsg, recvmsg. */
ssize_t spawn_send(int fd, const void *p, size_t n, int pass);
ssize_t spawn_recv(int fd, void *p, size_t n, int *passed);
#endif
