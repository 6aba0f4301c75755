/* The main program's side of the spawner: starting it, asking it for workers, talking to workers,
 * shared memory. What runs in the spawner itself is in spawn.c.
 */
#include "base/child.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/stop.h"
#include "worker/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_SEAL_SEAL 1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#endif
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1u
#define MFD_ALLOW_SEALING 2u
#endif

static struct {
    int fd; /* to the spawner; -1 = none */
    pid_t pid;
    bool started, one_way; /* one_way: tests' program, no other ways to try */
} spawner = {-1, -1, false, false};

enum { SPAWN_MS = 10000 };

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits for fd to be readable, in steps so that a stop request is seen. 1 readable, 0 deadline,
 * -1 stop requested. */
static int wait_readable(int fd, int deadline_ms)
{
    int64_t end = now_ms() + deadline_ms;
    for (;;) {
        int64_t left = end - now_ms();
        if (left <= 0)
            return 0;
        struct pollfd p = {fd, POLLIN, 0};
        int r = poll(&p, 1, left > 100 ? 100 : (int)left);
        if (r > 0)
            return 1;
        if (stop_requested())
            return -1;
    }
}

enum status child_start(const struct child_opt *o, struct err *e)
{
    if (spawner.started)
        return err_set(e, ST_BUG, NULL, "the spawner was started twice");
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_sys(e, ST_DEVICE, "device-spawn", errno, "no socket pair for the spawner");
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        int sys = errno;
        close(pair[0]);
        close(pair[1]);
        return err_sys(e, ST_DEVICE, "device-spawn", sys, "the spawner cannot be forked");
    }
    if (pid == 0) {
        close(pair[0]);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent)
            _exit(1);
        spawn_loop(pair[1], o);
        _exit(0);
    }
    close(pair[1]);
    spawner.fd = pair[0];
    spawner.pid = pid;
    spawner.started = true;
    spawner.one_way = o->image_path != NULL;
    return ST_OK;
}

bool child_started(void)
{
    return spawner.started && spawner.fd >= 0;
}

void child_stop(void)
{
    if (!spawner.started)
        return;
    if (spawner.fd >= 0)
        close(spawner.fd); /* end of file: the spawner kills its workers and leaves */
    spawner.fd = -1;
    spawner.started = false;
    for (int i = 0; i < 300; i++) {
        pid_t r = waitpid(spawner.pid, NULL, WNOHANG);
        if (r == spawner.pid || (r < 0 && errno != EINTR))
            return;
        struct timespec t = {0, 10000000};
        nanosleep(&t, NULL);
    }
    kill(spawner.pid, SIGKILL);
    while (waitpid(spawner.pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* ---- shared memory ---- */

enum status shared_new(size_t n, struct shared *s, struct err *e)
{
    memset(s, 0, sizeof *s);
    s->fd = -1;
    if (mem_charge(n) != 0)
        return err_nomem(e, n);
    int fd = (int)syscall(SYS_memfd_create, "nnferry-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int sys = errno;
    if (fd >= 0 && ftruncate(fd, (off_t)n) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
        void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p != MAP_FAILED) {
            s->p = p;
            s->n = n;
            s->fd = fd;
            return ST_OK;
        }
    }
    if (fd >= 0) {
        sys = errno;
        close(fd);
    }
    mem_uncharge(n);
    return err_sys(e, ST_DEVICE, "device-memory", sys, "no shared memory of %zu bytes", n);
}

void shared_free(struct shared *s)
{
    if (!s->p)
        return;
    munmap(s->p, s->n);
    close(s->fd);
    mem_uncharge(s->n);
    memset(s, 0, sizeof *s);
    s->fd = -1;
}

/* ---- workers ---- */

struct child {
    int fd; /* -1 once ended */
    int32_t pid;
    uint32_t seq;
    union {
        struct wire_head head;
        uint8_t bytes[WIRE_MAX];
    } packet;
};

/* Asks the spawner; *fd receives a passed descriptor or -1. The spawner is our own code: when it
 * does not answer, nothing can be started any more. */
static enum status ask_spawner(const struct spawn_ask *ask, struct spawn_told *told, int *fd,
                               struct err *e)
{
    *fd = -1;
    if (!child_started())
        return err_set(e, ST_DEVICE, "device-spawn", "no spawner was started");
    ssize_t r;
    do
        r = send(spawner.fd, ask, sizeof *ask, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    int w = r == (ssize_t)sizeof *ask ? wait_readable(spawner.fd, SPAWN_MS) : 0;
    if (w < 0)
        return stop_check(e);
    if (w > 0)
        r = spawn_recv(spawner.fd, told, sizeof *told, fd);
    if (w > 0 && r == (ssize_t)sizeof *told && told->seq == ask->seq) {
        told->text[sizeof told->text - 1] = 0;
        return ST_OK;
    }
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    close(spawner.fd);
    spawner.fd = -1;
    return err_set(e, ST_DEVICE, "device-spawn", "the spawner does not answer");
}

static uint32_t next_seq(void)
{
    static uint32_t seq;
    return ++seq;
}

/* Ends the worker and describes its end in text (raw: err_set escapes it). */
static void end_worker(struct child *c, char *text, size_t n)
{
    struct spawn_ask ask = {SPAWN_END, next_seq(), 0, c->pid, ""};
    struct spawn_told told = {0};
    int fd;
    text[0] = 0;
    if (c->fd < 0)
        return;
    close(c->fd);
    c->fd = -1;
    if (ask_spawner(&ask, &told, &fd, NULL) == ST_OK && n > 0) {
        size_t len = strlen(told.text) < n ? strlen(told.text) : n - 1;
        memcpy(text, told.text, len);
        text[len] = 0;
    }
    if (fd >= 0)
        close(fd);
}

static enum status worker_gone(struct child *c, const char *code, const char *what, struct err *e)
{
    char text[384];
    end_worker(c, text, sizeof text);
    return err_set(e, ST_DEVICE, code, "%s%s%s", what, text[0] ? ": " : "", text);
}

/* One packet from the worker, checked as far as every message can be. */
static enum status hear(struct child *c, uint16_t type, uint32_t seq, size_t n, int deadline_ms,
                        struct err *e)
{
    int w = wait_readable(c->fd, deadline_ms);
    if (w < 0) {
        char text[64];
        end_worker(c, text, sizeof text);
        return stop_check(e);
    }
    if (w == 0)
        return worker_gone(c, "device-hung", "the worker did not answer in time", e);
    struct iovec iov = {c->packet.bytes, sizeof c->packet.bytes};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1}; /* descriptors offered are not taken */
    ssize_t r;
    do
        r = recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC);
    while (r < 0 && errno == EINTR);
    if (r <= 0)
        return worker_gone(c, "device-died", "the worker ended", e);
    const struct wire_head *h = &c->packet.head;
    if ((m.msg_flags & MSG_TRUNC) || (size_t)r < sizeof *h || h->magic != WIRE_MAGIC ||
        h->version != WIRE_VERSION || h->type != type || h->seq != seq || h->n_bytes != n ||
        (size_t)r != sizeof *h + n || memchr(h->why, 0, sizeof h->why) == NULL)
        return worker_gone(c, "device-lied", "the worker's reply is not one to this request", e);
    return ST_OK;
}

enum status child_open(const char *icd, int deadline_ms, struct child **out, struct buf *tried,
                       struct err *e)
{
    *out = NULL;
    struct child *c = mem_zalloc(1, sizeof *c);
    if (!c)
        return err_nomem(e, sizeof *c);
    struct err last = {0};
    enum status st = ST_OK;
    for (uint32_t way = 0; way < SPAWN_WAYS; way++) {
        struct spawn_ask ask = {SPAWN_BEGIN, next_seq(), way, 0, ""};
        struct spawn_told told = {0};
        if (icd && strlen(icd) >= sizeof ask.icd) {
            st = err_set(&last, ST_DEVICE, "device-spawn", "the vendor path is too long");
            break;
        }
        if (icd)
            memcpy(ask.icd, icd, strlen(icd) + 1);
        st = ask_spawner(&ask, &told, &c->fd, &last);
        if (st != ST_OK)
            break;
        c->pid = told.pid;
        if (told.sys != 0 || c->fd < 0) {
            st = err_set(&last, ST_DEVICE, "device-spawn", "%s", told.text);
            if (c->fd >= 0)
                close(c->fd);
            c->fd = -1;
        } else {
            st = hear(c, WIRE_HELLO, 0, sizeof(struct wire_hello), deadline_ms, &last);
            if (st == ST_OK) {
                struct wire_hello hello;
                memcpy(&hello, c->packet.bytes + sizeof c->packet.head, sizeof hello);
                if (hello.abi == NNF_ABI_VERSION && hello.head_bytes == sizeof(struct wire_head) &&
                    hello.run_bytes == sizeof(struct wire_run))
                    break;
                st = worker_gone(c, "device-lied", "the worker is of another build", &last);
            }
        }
        if (tried && st != ST_OK)
            buf_fmt(tried, "worker from %s: %s\n", spawn_way_name(way), last.reason);
        if (st == ST_SIGNAL || spawner.one_way)
            break;
    }
    if (st != ST_OK) {
        mem_free(c);
        if (e)
            *e = last;
        return st;
    }
    *out = c;
    return ST_OK;
}

enum status child_call(struct child *c, uint16_t type, const void *payload, size_t n, int fd,
                       void *reply, size_t reply_n, int deadline_ms, struct err *e)
{
    if (c->fd < 0)
        return err_set(e, ST_DEVICE, "device-died", "the worker has ended");
    if (n > WIRE_MAX - sizeof(struct wire_head) || reply_n > WIRE_MAX - sizeof(struct wire_head))
        return err_set(e, ST_BUG, NULL, "message of %zu bytes", n);
    uint32_t seq = ++c->seq;
    struct wire_head *h = &c->packet.head;
    memset(h, 0, sizeof *h);
    h->magic = WIRE_MAGIC;
    h->version = WIRE_VERSION;
    h->type = type;
    h->seq = seq;
    h->n_bytes = (uint32_t)n;
    if (n > 0)
        memcpy(c->packet.bytes + sizeof *h, payload, n);
    ssize_t r = spawn_send(c->fd, c->packet.bytes, sizeof *h + n, fd);
    if (r != (ssize_t)(sizeof *h + n))
        return worker_gone(c, "device-died", "the worker takes no request", e);
    TRY(hear(c, type, seq, reply_n, deadline_ms, e));
    if (reply_n > 0)
        memcpy(reply, c->packet.bytes + sizeof *h, reply_n);
    if (h->status != 0) {
        if (h->status > 0)
            return err_sys(e, ST_DEVICE, "device-failed", h->status, "%s", h->why);
        return err_set(e, ST_DEVICE, "device-failed", "%s: OpenCL error %d", h->why,
                       (int)h->status);
    }
    return ST_OK;
}

bool child_alive(const struct child *c)
{
    return c && c->fd >= 0;
}

void child_close(struct child *c)
{
    if (!c)
        return;
    char text[64];
    end_worker(c, text, sizeof text);
    mem_free(c);
}
