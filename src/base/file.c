/* See file.h. The door to input files: open, pread, mapped windows.
 *
 * SIGBUS: every mapped window stands in a fixed table. When a page behind a mapping is gone (the
 * file shrank), the handler puts a zero page there and marks the file; file_check reports it. The
 * handler only reads the table, calls mmap and sets a flag.
 *
 * Descriptors: half of what the host allows is kept open. A file beyond that (a model of very many
 * shards, a small RLIMIT_NOFILE) is opened anew for each read and must still be the file it was.
 */
#include "base/file.h"
#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) /* a FIFO must not hang us */
#define WAIT_MS 2000 /* for a descriptor that nobody here holds during one read */

struct file {
    int fd; /* -1: opened anew for each read */
    struct stat st;
    bool network;
    bool ours;        /* its times do not count */
    _Atomic int torn; /* a mapped page vanished */
    char path[];
};

static enum io_mode io;
static _Atomic bool ours;

void file_set_io(enum io_mode m)
{
    io = m;
}

void file_set_ours(bool on)
{
    ours = on;
}

/* ---- SIGBUS ---- */

#define MAP_MIN ((size_t)64 << 10) /* smaller windows are read */
#define N_SLOTS 256
static struct {
    _Atomic uintptr_t lo; /* 0 = free, 1 = being filled */
    _Atomic uintptr_t hi;
    _Atomic(struct file *) f;
} slots[N_SLOTS];
static _Atomic int handler_set; /* 0 no, 1 being set, 2 set */
static struct sigaction old_action;
static long page = 4096;

static void on_sigbus(int sig, siginfo_t *si, void *uc)
{
    uintptr_t at = (uintptr_t)si->si_addr;
    (void)uc;
    for (int i = 0; i < N_SLOTS; i++) {
        uintptr_t lo = slots[i].lo, hi = slots[i].hi;
        struct file *f = slots[i].f;
        /* our own window stays while we are here; another's slot may change hands meanwhile */
        if (lo > 1 && at >= lo && at < hi && lo == slots[i].lo) {
            int keep = errno;
            void *p = mmap((void *)(at & ~(uintptr_t)(page - 1)), (size_t)page, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            errno = keep;
            if (p != MAP_FAILED) {
                if (f)
                    f->torn = 1;
                return;
            }
        }
    }
    /* not ours: die the way the process would have died */
    sigaction(sig, &old_action, NULL);
    raise(sig);
}

static bool handler_ready(void)
{
    int state = 0;
    if (atomic_compare_exchange_strong(&handler_set, &state, 1)) {
        struct sigaction sa;
        long ps = sysconf(_SC_PAGESIZE);
        if (ps > 0)
            page = ps;
        memset(&sa, 0, sizeof sa);
        sa.sa_sigaction = on_sigbus;
        sa.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigemptyset(&sa.sa_mask);
        handler_set = sigaction(SIGBUS, &sa, &old_action) == 0 ? 2 : 0;
    }
    return handler_set == 2;
}

static int slot_take(void)
{
    for (int i = 0; i < N_SLOTS; i++) {
        uintptr_t none = 0;
        if (atomic_compare_exchange_strong(&slots[i].lo, &none, 1))
            return i;
    }
    return -1;
}

/* ---- files ---- */

static bool is_network(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0)
        return false;
    switch ((unsigned long)fs.f_type) {
    case 0x6969UL:     /* NFS */
    case 0xff534d42UL: /* CIFS */
    case 0xfe534d42UL: /* SMB2 */
    case 0x0bd00bd0UL: /* Lustre */
    case 0x47504653UL: /* GPFS */
    case 0x19830326UL: /* BeeGFS */
    case 0x65735546UL: /* FUSE */
    case 0x00c36400UL: /* Ceph */
    case 0x01021997UL: /* 9p */
    case 0x5346414fUL: /* AFS */
        return true;
    default:
        return false;
    }
}

static _Atomic int n_kept; /* descriptors that stay open */

static bool keep_open(void)
{
    struct rlimit r;
    int top = getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < 65536 ? (int)r.rlim_cur : 65536;
    if (atomic_fetch_add(&n_kept, 1) < top / 2 - 4)
        return true;
    n_kept--;
    return false;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* ctime moves when a link is added or removed too: a rename over the name is allowed (we keep the
 * old inode), so it counts only together with unchanged link count */
static bool changed(const struct file *f, const struct stat *now)
{
    if (f->torn || now->st_dev != f->st.st_dev || now->st_ino != f->st.st_ino ||
        now->st_size != f->st.st_size)
        return true;
    if (f->ours)
        return false;
    return !same_time(now->st_mtim, f->st.st_mtim) ||
           (now->st_nlink == f->st.st_nlink && now->st_mode == f->st.st_mode &&
            now->st_uid == f->st.st_uid && now->st_gid == f->st.st_gid &&
            !same_time(now->st_ctim, f->st.st_ctim));
}

static enum status changed_err(const struct file *f, struct err *e)
{
    enum status st = err_set(e, ST_INPUT, "input-changed", "the file changed while it was read");
    err_file(e, f->path);
    return st;
}

static _Atomic int n_held; /* descriptors open during one read */

int file_held(void)
{
    return n_held;
}

/* A descriptor to read through; given back with let_go. Where there is none, another thread's read
 * ends in time, however slow; else somebody outside may give one back, or not. */
static enum status hold(const struct file *f, int *fd, struct err *e)
{
    struct stat now;
    *fd = f->fd;
    if (*fd >= 0)
        return ST_OK;
    for (int ms = 0; (*fd = open(f->path, OPEN_FLAGS)) < 0;) {
        const struct timespec pause = {0, 1000000};
        int sys = errno;
        bool scarce = sys == EMFILE || sys == ENFILE;
        if (stop_again(-1) || (scarce && (n_held > 0 || ms++ < WAIT_MS))) {
            TRY(stop_check(e));
            (void)nanosleep(&pause, NULL);
            continue;
        }
        enum status st = err_sys(e, ST_INPUT, "unreadable", sys, "cannot open again");
        err_file(e, f->path);
        return st;
    }
    if (fstat(*fd, &now) == 0 && !changed(f, &now)) {
        n_held++;
        return ST_OK;
    }
    close(*fd);
    return changed_err(f, e);
}

static void let_go(const struct file *f, int fd)
{
    if (fd == f->fd)
        return;
    close(fd);
    n_held--;
}

static enum status adopt(int fd, const char *path, bool keep, struct file **out, struct err *e)
{
    size_t n = strlen(path) + 1;
    struct file *f = mem_alloc(sizeof *f + n);
    enum status st;
    *out = NULL;
    if (!f) {
        close(fd);
        return err_nomem(e, n);
    }
    memset(f, 0, sizeof *f);
    memcpy(f->path, path, n);
    f->fd = fd;
    f->ours = ours;
    if (fstat(fd, &f->st) != 0) {
        st = err_sys(e, ST_INPUT, "unreadable", errno, "cannot stat");
    } else if (!S_ISREG(f->st.st_mode)) {
        st = err_set(e, ST_INPUT, "not-a-file", "not a regular file");
    } else {
        f->network = is_network(fd);
        if (keep || f->st.st_nlink == 0) {
            n_kept++;
        } else if (!keep_open()) {
            close(fd);
            f->fd = -1;
        }
        *out = f;
        return ST_OK;
    }
    err_file(e, path);
    close(fd);
    mem_free(f);
    return st;
}

enum status file_adopt(int fd, const char *path, struct file **out, struct err *e)
{
    return adopt(fd, path, false, out, e);
}

enum status file_keep(int fd, const char *path, struct file **out, struct err *e)
{
    return adopt(fd, path, true, out, e);
}

enum status file_open(const char *path, struct file **out, struct err *e)
{
    int fd;
    do {
        fd = open(path, OPEN_FLAGS);
    } while (stop_again(fd));
    *out = NULL;
    if (fd < 0) {
        enum status st = err_sys(e, ST_INPUT, "unreadable", errno, "cannot open");
        err_file(e, path);
        return st;
    }
    return file_adopt(fd, path, out, e);
}

void file_close(struct file *f)
{
    if (!f)
        return;
    if (f->fd >= 0) {
        close(f->fd);
        n_kept--;
    }
    mem_free(f);
}

const char *file_path(const struct file *f)
{
    return f->path;
}

uint64_t file_size(const struct file *f)
{
    return (uint64_t)f->st.st_size;
}

bool file_is_network(const struct file *f)
{
    return f->network;
}

bool file_same(const struct file *f, uint64_t dev, uint64_t ino)
{
    return (uint64_t)f->st.st_dev == dev && (uint64_t)f->st.st_ino == ino;
}

/* The client of a network file system may go by what it was told up to a minute ago; what is opened
 * anew it asks about. */
static void ask_server(int fd)
{
    uint64_t statx[32];
    (void)syscall(SYS_statx, fd, "", 0x1000 | 0x2000, 0x7ff, statx); /* EMPTY_PATH, FORCE_SYNC */
}

enum status file_check(struct file *f, struct err *e)
{
    struct stat now;
    int fd;
    TRY(hold(f, &fd, e));
    enum status st = ST_OK;
    if (f->network && fd == f->fd)
        ask_server(fd);
    if (fstat(fd, &now) != 0) {
        st = err_sys(e, ST_INPUT, "unreadable", errno, "cannot stat");
        err_file(e, f->path);
    } else if (changed(f, &now)) {
        st = changed_err(f, e);
    }
    let_go(f, fd);
    return st;
}

enum status file_pread(struct file *f, void *dst, size_t n, uint64_t off, struct err *e)
{
    enum status st;
    if (!range_in(off, n, file_size(f))) {
        st = err_set(e, ST_INPUT, "truncated", "%llu bytes are needed here, %llu are left",
                     (unsigned long long)n,
                     (unsigned long long)(off < file_size(f) ? file_size(f) - off : 0));
        err_at(e, f->path, off);
        return st;
    }
    char *p = dst;
    int fd;
    TRY(hold(f, &fd, e));
    st = ST_OK;
    while (n > 0) {
        ssize_t k = pread(fd, p, n, (off_t)off);
        if (stop_again(k) || (k < 0 && errno == EAGAIN))
            continue;
        if (k <= 0) {
            if (k < 0)
                st = err_sys(e, ST_INPUT, "read-error", errno, "cannot read");
            else
                st = err_set(e, ST_INPUT, "input-changed", "the file became shorter");
            err_at(e, f->path, off);
            break;
        }
        p += k;
        n -= (size_t)k;
        off += (uint64_t)k;
    }
    let_go(f, fd);
    return st;
}

void file_advise(struct file *f, uint64_t off, uint64_t len)
{
    if (f->fd >= 0)
        (void)posix_fadvise(f->fd, (off_t)off, (off_t)len, POSIX_FADV_WILLNEED);
}

bool file_maps(const struct file *f)
{
    return io == IO_MMAP || (io == IO_AUTO && !f->network);
}

enum status window_open(struct file *f, uint64_t off, size_t n, struct window *w, struct err *e)
{
    memset(w, 0, sizeof *w);
    w->slot_ = -1;
    if (!range_in(off, n, file_size(f))) {
        enum status st = err_set(e, ST_INPUT, "truncated", "the file ends too early");
        err_at(e, f->path, off);
        return st;
    }
    w->off = off;
    w->n = n;
    if (n == 0) {
        w->p = (const uint8_t *)"";
        return ST_OK;
    }
    if (n >= MAP_MIN && file_maps(f) && handler_ready()) {
        size_t head = (size_t)(off % (uint64_t)page), whole = 0;
        int slot = add_size(n, head, &whole) ? slot_take() : -1, fd;
        if (slot >= 0 && mem_charge(whole) == 0) {
            void *p = MAP_FAILED;
            if (hold(f, &fd, NULL) == ST_OK) {
                p = mmap(NULL, whole, PROT_READ, MAP_SHARED, fd, (off_t)(off - head));
                let_go(f, fd);
            }
            if (p != MAP_FAILED) {
                slots[slot].hi = (uintptr_t)p + whole;
                slots[slot].f = f;
                slots[slot].lo = (uintptr_t)p;
                w->base_ = p;
                w->base_n_ = whole;
                w->p = (const uint8_t *)p + head;
                w->mapped_ = true;
                w->slot_ = slot;
                return ST_OK;
            }
            mem_uncharge(whole);
        }
        if (slot >= 0)
            slots[slot].lo = 0;
        /* RLIMIT_AS, no slot, no room for a mapping: read instead */
    }
    void *p = mem_alloc(n);
    if (!p)
        return err_nomem(e, n);
    enum status st = file_pread(f, p, n, off, e);
    if (st != ST_OK) {
        mem_free(p);
        return st;
    }
    w->base_ = p;
    w->base_n_ = n;
    w->p = p;
    return ST_OK;
}

void window_close(struct window *w)
{
    if (w->base_ && w->mapped_) {
        /* unmapped before the slot is free: nobody else's mapping can stand at this range yet */
        slots[w->slot_].lo = 1;
        (void)munmap(w->base_, w->base_n_);
        mem_uncharge(w->base_n_);
        slots[w->slot_].f = NULL;
        slots[w->slot_].lo = 0;
    } else {
        mem_free(w->base_);
    }
    memset(w, 0, sizeof *w);
}
