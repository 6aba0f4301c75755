/* Runs a program under a seccomp user-notify filter and meddles with its Nth write-class call,
 * counted over all threads. LD_PRELOAD does nothing to a static binary and strace counts per call
 * and thread, hence this.
 *
 *   supervise REPORT MODE N PROGRAM ARG...
 *
 * MODE: none; errno=NUMBER (the Nth call fails with it); kill (the program dies instead of the Nth
 * call); lie (the Nth call, if it is pwrite64, claims success and does nothing); storm (every other
 * call that may say so says EINTR first); poor (as of a poor file system: no fsync of folders, no
 * flags of renameat2, no room reserved). REPORT receives "calls COUNT hit NAME". The exit status
 * is the program's, 128 + signal when it died, 99 when the supervisor could not do its work.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    int nr;
    const char *name;
    int may_eintr;
} calls[] = {
    {SYS_write, "write", 1},         {SYS_pwrite64, "pwrite64", 1},   {SYS_writev, "writev", 0},
    {SYS_ftruncate, "ftruncate", 1}, {SYS_fallocate, "fallocate", 1}, {SYS_fsync, "fsync", 1},
    {SYS_fdatasync, "fdatasync", 1}, {SYS_close, "close", 0},         {SYS_renameat, "renameat", 0},
    {SYS_renameat2, "renameat2", 0}, {SYS_linkat, "linkat", 0},       {SYS_unlinkat, "unlinkat", 1},
    {SYS_mkdirat, "mkdirat", 0},
#ifdef SYS_rename
    {SYS_rename, "rename", 0},       {SYS_link, "link", 0},           {SYS_unlink, "unlink", 0},
    {SYS_mkdir, "mkdir", 0},         {SYS_rmdir, "rmdir", 0},
#endif
};
#define N_CALLS (sizeof calls / sizeof *calls)

static void die(const char *what)
{
    fprintf(stderr, "supervise: %s: %s\n", what, strerror(errno));
    _exit(99);
}

static int filter(void)
{
    struct sock_filter f[N_CALLS + 3];
    size_t n = 0;
    f[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < N_CALLS; i++)
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].nr,
                                              (unsigned char)(N_CALLS - i), 0);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    struct sock_fprog p = {(unsigned short)n, f};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        die("no_new_privs");
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p);
}

static void send_fd(int sock, int fd)
{
    char byte = 0, room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec v = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (sendmsg(sock, &m, 0) != 1)
        die("sendmsg");
}

static int receive_fd(int sock)
{
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec v = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    int fd;
    if (recvmsg(sock, &m, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&m))
        return -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

/* Would a poor file system refuse this call? */
static int is_poor(const struct seccomp_data *d, unsigned pid)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%u/fd/%u", pid, (unsigned)d->args[0]);
    return (d->nr == SYS_renameat2 && d->args[4] != 0) || d->nr == SYS_fallocate ||
           (d->nr == SYS_fsync && stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

int main(int argc, char **argv)
{
    int pair[2], status = 0, fail_with = 0;
    if (argc < 5)
        return 99;
    const char *mode = argv[2];
    unsigned long at = strtoul(argv[3], NULL, 10), count = 0;
    const char *hit = "-";
    if (strncmp(mode, "errno=", 6) == 0)
        fail_with = atoi(mode + 6);
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) != 0)
        die("socketpair");
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int fd = filter();
        if (fd < 0)
            die("seccomp");
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
            die("fcntl");
        send_fd(pair[1], fd);
        execv(argv[4], argv + 4);
        die(argv[4]);
    }
    int listener = receive_fd(pair[0]);
    if (listener < 0)
        die("no filter");
    unsigned storm = 0;
    for (;;) {
        struct pollfd p = {listener, POLLIN, 0};
        if (poll(&p, 1, -1) < 0) {
            if (errno == EINTR)
                continue;
            die("poll");
        }
        if (!(p.revents & POLLIN))
            break; /* the last user of the filter is gone */
        struct seccomp_notif n;
        struct seccomp_notif_resp r;
        memset(&n, 0, sizeof n);
        memset(&r, 0, sizeof r);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) != 0)
            continue;
        size_t k = 0;
        while (k < N_CALLS && calls[k].nr != n.data.nr)
            k++;
        r.id = n.id;
        r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        count++;
        if (strcmp(mode, "storm") == 0) {
            if (k < N_CALLS && calls[k].may_eintr && storm++ % 2 == 0) {
                r.flags = 0;
                r.error = -EINTR;
                hit = calls[k].name;
            }
        } else if (strcmp(mode, "poor") == 0) {
            if (is_poor(&n.data, n.pid)) {
                r.flags = 0;
                r.error = n.data.nr == SYS_fallocate ? -EOPNOTSUPP : -EINVAL;
                hit = calls[k].name;
            }
        } else if (count == at && strcmp(mode, "none") != 0) {
            hit = k < N_CALLS ? calls[k].name : "?";
            if (fail_with) {
                r.flags = 0;
                r.error = -fail_with;
            } else if (strcmp(mode, "kill") == 0) {
                kill(pid, SIGKILL);
                r.flags = 0;
                r.error = -EIO; /* never "continue": the call might still land */
            } else if (strcmp(mode, "lie") == 0 && n.data.nr == SYS_pwrite64) {
                r.flags = 0;
                r.val = (int64_t)n.data.args[2];
            }
        }
        (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
    }
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    FILE *f = fopen(argv[1], "w");
    if (!f || fprintf(f, "calls %lu hit %s\n", count, hit) < 0 || fclose(f) != 0)
        die(argv[1]);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
