/* The spawner: a process forked from main before anything is open. It starts workers and ends
 * them, and does nothing else; it holds no input, no thread and no driver.
 *
 * A worker is the embedded program run as "<the host's dynamic loader> <path>": the loader brings
 * the host's own libc, whatever it is. Between fork and exec the child only arranges descriptors,
 * limits and signals.
 */
#include "base/spawn.h"
#include "worker/wire.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IMAGE_FD = 4, MAX_WORKERS = 64, END_MS = 2000 };

#if defined(__x86_64__)
static const char *const loaders[] = {"/lib64/ld-linux-x86-64.so.2", "",
                                      "/lib/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"};
#else
static const char *const loaders[] = {"/lib/ld-linux-aarch64.so.1", "",
                                      "/lib64/ld-linux-aarch64.so.1", "/lib/ld-musl-aarch64.so.1"};
#endif
enum { N_LOADERS = sizeof loaders / sizeof loaders[0] }; /* "" stands for /bin/sh's own */

/* What a driver may know of main's environment: where its caches and devices are. LD_*, loader
 * and vendor overrides do not pass. */
static const char *const allowed[] = {"PATH=",
                                      "HOME=",
                                      "XDG_CACHE_HOME=",
                                      "TMPDIR=",
                                      "LANG=",
                                      "CUDA_VISIBLE_DEVICES=",
                                      "CUDA_CACHE_PATH=",
                                      "NVIDIA_VISIBLE_DEVICES=",
                                      "ROCR_VISIBLE_DEVICES=",
                                      "HIP_VISIBLE_DEVICES=",
                                      "GPU_DEVICE_ORDINAL=",
                                      "ZE_AFFINITY_MASK=",
                                      "POCL_CACHE_DIR=",
                                      "POCL_DEVICES=",
                                      "POCL_MAX_PTHREAD_COUNT=",
                                      "OMP_NUM_THREADS="};

struct worker {
    pid_t pid;
    int words; /* read end of its stdout and stderr, never blocking */
    char file[256];
};
static struct worker workers[MAX_WORKERS];
static size_t n_workers;
static int image_fd = -1; /* memfd of the program */

const char *spawn_way_name(uint32_t way)
{
    static const char *const name[SPAWN_WAYS] = {"memory", "libexec", "the temporary folder"};
    return way < SPAWN_WAYS ? name[way] : "?";
}

ssize_t spawn_send(int fd, const void *p, size_t n, int pass)
{
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {(void *)(uintptr_t)p, n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (pass >= 0) {
        memset(&control, 0, sizeof control);
        m.msg_control = control.room;
        m.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass, sizeof pass);
    }
    ssize_t r;
    do
        r = sendmsg(fd, &m, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    return r;
}

ssize_t spawn_recv(int fd, void *p, size_t n, int *passed)
{
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    struct iovec iov = {p, n};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.room,
                       .msg_controllen = sizeof control.room};
    *passed = -1;
    ssize_t r;
    do
        r = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    while (r < 0 && errno == EINTR);
    struct cmsghdr *c = r > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(passed, CMSG_DATA(c), sizeof *passed);
    return r;
}

/* The interpreter that the host's /bin/sh names: right even where loaders live elsewhere. */
static bool shell_loader(char *path, size_t n)
{
    bool found = false;
    int fd = open("/bin/sh", O_RDONLY | O_CLOEXEC);
    Elf64_Ehdr h;
    if (fd >= 0 && pread(fd, &h, sizeof h, 0) == (ssize_t)sizeof h &&
        memcmp(h.e_ident, ELFMAG, SELFMAG) == 0 && h.e_ident[EI_CLASS] == ELFCLASS64)
        for (unsigned i = 0; i < h.e_phnum && i < 64 && !found; i++) {
            Elf64_Phdr p;
            if (pread(fd, &p, sizeof p, (off_t)(h.e_phoff + i * sizeof p)) != (ssize_t)sizeof p)
                break;
            if (p.p_type == PT_INTERP && p.p_filesz > 1 && p.p_filesz <= n)
                found = pread(fd, path, p.p_filesz, (off_t)p.p_offset) == (ssize_t)p.p_filesz &&
                        path[p.p_filesz - 1] == 0;
        }
    if (fd >= 0)
        close(fd);
    return found;
}

static bool write_all(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n > 0) {
        ssize_t r = write(fd, at, n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return false;
        at += r;
        n -= (size_t)r;
    }
    return true;
}

/* The program's place for one way: a descriptor, or a path. false: told says what failed. */
static bool place_image(const struct child_opt *o, uint32_t way, int *fd, char *path, size_t n,
                        struct spawn_told *told)
{
    *fd = -1;
    path[0] = 0;
    errno = ENOENT;
    const char *what = "no worker in this build";
    if (way == 0 && o->image) {
        if (image_fd < 0) {
            what = "memfd_create";
            int f = (int)syscall(SYS_memfd_create, "nnferry-worker", 1u | 0x10u /* MFD_EXEC */);
            if (f < 0 && errno == EINVAL)
                f = (int)syscall(SYS_memfd_create, "nnferry-worker", 1u);
            if (f >= 0 && !write_all(f, o->image, o->image_bytes)) {
                what = "writing the memfd";
                int sys = errno;
                close(f);
                errno = sys;
                f = -1;
            }
            image_fd = f;
        }
        *fd = image_fd;
        snprintf(path, n, "/proc/self/fd/%d", IMAGE_FD);
        if (image_fd >= 0)
            return true;
    } else if (way == 1) {
        what = o->libexec ? o->libexec : "no libexec folder";
        if (o->libexec && access(o->libexec, R_OK) == 0 && strlen(o->libexec) < n) {
            memcpy(path, o->libexec, strlen(o->libexec) + 1);
            return true;
        }
    } else if (way == 2 && o->image) {
        what = path;
        snprintf(path, n, "%s/nnferry-worker-XXXXXX", o->tmpdir ? o->tmpdir : "/tmp");
        int f = mkostemp(path, O_CLOEXEC);
        if (f >= 0) {
            bool ok = write_all(f, o->image, o->image_bytes) && fchmod(f, 0500) == 0;
            int sys = errno;
            close(f);
            if (ok)
                return true;
            unlink(path);
            errno = sys;
        }
    }
    told->sys = errno ? errno : ENOENT;
    snprintf(told->text, sizeof told->text, "%s: %s", what, strerror(told->sys));
    return false;
}

static void close_from(int first)
{
    if (syscall(436 /* close_range */, first, ~0u, 0u) == 0)
        return;
    struct rlimit r;
    int top = getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < 65536 ? (int)r.rlim_cur : 65536;
    for (int i = first; i < top; i++)
        close(i);
}

/* Puts a descriptor where the worker expects it, clear of close-on-exec. */
static bool put_fd(int from, int to)
{
    return from == to ? fcntl(to, F_SETFD, 0) == 0 : dup2(from, to) == to;
}

/* In the new process: arranges it and runs the program. Returns only on failure. */
static int become_worker(const struct child_opt *o, pid_t parent, int sock, int image, int words,
                         int report, const char *path, char **env)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent)
        return EPERM;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_NAME, "nnferry-worker", 0, 0, 0);
    setsid(); /* the terminal's signals are main's business */
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (int s = 1; s < 32; s++)
        signal(s, SIG_DFL);
    sigset_t empty;
    sigemptyset(&empty);
    sigprocmask(SIG_SETMASK, &empty, NULL);
    /* Out of the way of the places below first. */
    int s = fcntl(sock, F_DUPFD, 10), w = fcntl(words, F_DUPFD, 10), r = fcntl(report, F_DUPFD, 10);
    int g = image >= 0 ? fcntl(image, F_DUPFD, 10) : -1;
    int null = open("/dev/null", O_RDONLY);
    if (s < 0 || w < 0 || r < 0 || (image >= 0 && g < 0))
        return errno;
    if (null >= 0)
        put_fd(null, 0);
    if (!put_fd(w, 1) || !put_fd(w, 2) || !put_fd(s, WIRE_FD) || (g >= 0 && !put_fd(g, IMAGE_FD)) ||
        !put_fd(r, 5))
        return errno;
    fcntl(5, F_SETFD, FD_CLOEXEC);
    if (g < 0)
        close(IMAGE_FD);
    close_from(6);
    if (chdir("/") != 0)
        return errno;
    int sys = ENOENT;
    if (o->image_path) {
        char *argv[] = {(char *)(uintptr_t)o->image_path, (char *)(uintptr_t)o->image_arg, NULL};
        execve(o->image_path, argv, env);
        sys = errno;
    } else {
        char shell[256];
        for (size_t i = 0; i < N_LOADERS; i++) {
            const char *ld = loaders[i];
            if (ld[0] == 0 && !shell_loader(shell, sizeof shell))
                continue;
            char *argv[] = {(char *)(uintptr_t)(ld[0] ? ld : shell), (char *)(uintptr_t)path, NULL};
            execve(argv[0], argv, env);
            if (errno != ENOENT || sys == ENOENT)
                sys = errno;
        }
    }
    return write(5, &sys, sizeof sys) == (ssize_t)sizeof sys ? sys : EIO;
}

/* The worker's environment: allowed names, and the one vendor it is to look at. */
static size_t make_env(const struct child_opt *o, const char *icd, char *vendors, size_t vendors_n,
                       char **env, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; o->env && o->env[i]; i++)
        for (size_t k = 0; k < sizeof allowed / sizeof allowed[0]; k++)
            if (n + 2 < max && strncmp(o->env[i], allowed[k], strlen(allowed[k])) == 0)
                env[n++] = (char *)(uintptr_t)o->env[i];
    if (icd[0]) {
        snprintf(vendors, vendors_n, "OCL_ICD_VENDORS=%s", icd);
        env[n++] = vendors;
    }
    env[n] = NULL;
    return n;
}

static int begin(const struct child_opt *o, const struct spawn_ask *ask, struct spawn_told *told)
{
    int image = -1, sock[2] = {-1, -1}, words[2] = {-1, -1}, report[2] = {-1, -1};
    char path[256];
    struct worker *w = &workers[n_workers];
    told->sys = EAGAIN;
    if (n_workers == MAX_WORKERS) {
        snprintf(told->text, sizeof told->text, "too many workers");
        return -1;
    }
    if (!o->image_path && !place_image(o, ask->way, &image, path, sizeof path, told))
        return -1;
    memset(w, 0, sizeof *w);
    if (!o->image_path && ask->way == 2)
        memcpy(w->file, path, sizeof path);
    char vendors[320], *env[64];
    make_env(o, ask->icd, vendors, sizeof vendors, env, sizeof env / sizeof env[0]);
    pid_t pid = -1, parent = getpid();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) == 0 &&
        pipe2(words, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(report, O_CLOEXEC) == 0)
        pid = fork();
    if (pid == 0) {
        become_worker(o, parent, sock[1], image, words[1], report[1], path, env);
        _exit(127);
    }
    int sys = errno;
    if (sock[1] >= 0)
        close(sock[1]);
    if (words[1] >= 0)
        close(words[1]);
    if (report[1] >= 0)
        close(report[1]);
    if (pid > 0) {
        int failed = 0;
        ssize_t r;
        do
            r = read(report[0], &failed, sizeof failed);
        while (r < 0 && errno == EINTR);
        sys = r == (ssize_t)sizeof failed ? failed : 0;
    }
    if (report[0] >= 0)
        close(report[0]);
    if (pid > 0 && sys == 0) {
        w->pid = pid;
        w->words = words[0];
        n_workers++;
        told->sys = 0;
        told->pid = (int32_t)pid;
        return sock[0];
    }
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    if (words[0] >= 0)
        close(words[0]);
    if (sock[0] >= 0)
        close(sock[0]);
    if (w->file[0])
        unlink(w->file);
    told->sys = sys ? sys : EIO;
    snprintf(told->text, sizeof told->text, "the host's loader cannot be run: %s",
             strerror(told->sys));
    return -1;
}

/* Kills a worker, waits for it as long as is decent (one stuck in a driver may never go), and
 * tells how it ended with the last of what it printed. */
static void end_one(size_t at, char *text, size_t n)
{
    struct worker *w = &workers[at];
    int status = 0;
    pid_t r = 0;
    struct timespec pause = {0, 5000000};
    /* One that is ending by itself gets a moment, so that its own end is told. */
    for (int i = 0; i < 20 && (r = waitpid(w->pid, &status, WNOHANG)) == 0; i++)
        nanosleep(&pause, NULL);
    bool killed = r == 0;
    if (killed)
        kill(w->pid, SIGKILL);
    for (int i = 0; i < END_MS / 5 && r == 0; i++) {
        r = waitpid(w->pid, &status, WNOHANG);
        if (r == 0)
            nanosleep(&pause, NULL);
    }
    int at_text = 0;
    if (r == 0)
        at_text = snprintf(text, n, "it cannot be ended");
    else if (killed)
        at_text = snprintf(text, n, "it was ended");
    else if (WIFSIGNALED(status))
        at_text = snprintf(text, n, "killed by signal %d", WTERMSIG(status));
    else
        at_text = snprintf(text, n, "exit status %d", WEXITSTATUS(status));
    char all[4096];
    size_t have = 0;
    for (;;) { /* keep the last of it */
        ssize_t got = read(w->words, all + have, sizeof all - have);
        if (got <= 0)
            break;
        have += (size_t)got;
        if (have > sizeof all / 2) {
            memmove(all, all + have - sizeof all / 4, sizeof all / 4);
            have = sizeof all / 4;
        }
    }
    while (have > 0 && (all[have - 1] == '\n' || all[have - 1] == ' '))
        have--;
    size_t from = have > 200 ? have - 200 : 0;
    if (have > 0 && at_text > 0 && (size_t)at_text < n)
        snprintf(text + at_text, n - (size_t)at_text, "; it said: %.*s", (int)(have - from),
                 all + from);
    close(w->words);
    if (w->file[0])
        unlink(w->file);
    workers[at] = workers[--n_workers];
}

void spawn_loop(int fd, const struct child_opt *o)
{
    /* Ends when main's end closes; the terminal's signals are main's business. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, "nnferry-spawn", 0, 0, 0);
    for (;;) {
        struct spawn_ask ask = {0};
        struct spawn_told told;
        int passed, give = -1;
        if (spawn_recv(fd, &ask, sizeof ask, &passed) != (ssize_t)sizeof ask)
            break;
        memset(&told, 0, sizeof told);
        told.seq = ask.seq;
        ask.icd[sizeof ask.icd - 1] = 0;
        if (ask.op == SPAWN_BEGIN)
            give = begin(o, &ask, &told);
        else
            for (size_t i = 0; i < n_workers; i++)
                if (workers[i].pid == ask.pid) {
                    end_one(i, told.text, sizeof told.text);
                    break;
                }
        ssize_t r = spawn_send(fd, &told, sizeof told, give);
        if (give >= 0)
            close(give);
        if (r != (ssize_t)sizeof told)
            break;
    }
    char text[256];
    while (n_workers > 0)
        end_one(0, text, sizeof text);
}
