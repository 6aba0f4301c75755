/* See file.h. The door to input files: open, pread, mapped windows.
 *
 * SIGBUS: every mapped window stands in a fixed table. When a page behind a mapping is gone (the
 * file shrank), the handler puts a zero page there and marks the file; file_check reports it. The
 * handler only reads the table, calls mmap and sets a flag.
 */
#include "base/file.h"
#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

struct file {
    int fd;
    struct stat st;
    bool network;
    _Atomic int torn; /* a mapped page vanished */
    char path[];
};

static enum io_mode io;

void file_set_io(enum io_mode m)
{
    io = m;
}

/* ---- SIGBUS ---- */

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
        if (lo > 1 && at >= lo && at < hi) {
            int keep = errno;
            void *p = mmap((void *)(at & ~(uintptr_t)(page - 1)), (size_t)page, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            errno = keep;
            if (p != MAP_FAILED) {
                struct file *f = slots[i].f;
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

enum status file_adopt(int fd, const char *path, struct file **out, struct err *e)
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
    if (fstat(fd, &f->st) != 0) {
        st = err_sys(e, ST_INPUT, "unreadable", errno, "cannot stat");
    } else if (!S_ISREG(f->st.st_mode)) {
        st = err_set(e, ST_INPUT, "not-a-file", "not a regular file");
    } else {
        f->network = is_network(fd);
        *out = f;
        return ST_OK;
    }
    err_file(e, path);
    file_close(f);
    return st;
}

enum status file_open(const char *path, struct file **out, struct err *e)
{
    /* O_NONBLOCK: a FIFO must not hang us */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
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
    close(f->fd);
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

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

enum status file_check(struct file *f, struct err *e)
{
    struct stat now;
    enum status st = ST_OK;
    if (fstat(f->fd, &now) != 0)
        st = err_sys(e, ST_INPUT, "unreadable", errno, "cannot stat");
    /* ctime moves when a link is added or removed too: a rename over the name is allowed (we keep
     * the old inode), so it counts only together with unchanged link count */
    else if (f->torn || now.st_size != f->st.st_size || !same_time(now.st_mtim, f->st.st_mtim) ||
             (now.st_nlink == f->st.st_nlink && now.st_mode == f->st.st_mode &&
              now.st_uid == f->st.st_uid && now.st_gid == f->st.st_gid &&
              !same_time(now.st_ctim, f->st.st_ctim)))
        st = err_set(e, ST_INPUT, "input-changed", "the file changed while it was read");
    if (st != ST_OK)
        err_file(e, f->path);
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
    while (n > 0) {
        ssize_t k = pread(f->fd, p, n, (off_t)off);
        if (k < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (k <= 0) {
            if (k < 0)
                st = err_sys(e, ST_INPUT, "read-error", errno, "cannot read");
            else
                st = err_set(e, ST_INPUT, "input-changed", "the file became shorter");
            err_at(e, f->path, off);
            return st;
        }
        p += k;
        n -= (size_t)k;
        off += (uint64_t)k;
    }
    return ST_OK;
}

void file_advise(struct file *f, uint64_t off, uint64_t len)
{
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
    if (file_maps(f) && handler_ready()) {
        size_t head = (size_t)(off % (uint64_t)page), whole = 0;
        int slot = add_size(n, head, &whole) ? slot_take() : -1;
        if (slot >= 0 && mem_charge(whole) == 0) {
            void *p = mmap(NULL, whole, PROT_READ, MAP_SHARED, f->fd, (off_t)(off - head));
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
