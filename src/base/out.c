/* See out.h. Everything happens relative to the target's folder, opened once: a parent swapped
 * during the run changes nothing. Open descriptors are few whatever the number of files; a file
 * that gives its descriptor up is fsynced first, so that no error is lost. An fsync error is
 * final: it is never retried, and the temporary goes.
 */
#include "base/out.h"
#include "base/mem.h"
#include "base/out_temp.h"
#include "base/stop.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define OPEN_MAX_FILES 64                /* or a quarter of what the host allows */
#define BEHIND_BYTES ((uint64_t)8 << 20) /* write-back is started every so many bytes */
#define AHEAD_BYTES ((uint64_t)64 << 20) /* room asked for ahead of a growing file's end */
#define TRIES_MAX 2000                   /* of a millisecond, for a descriptor */

struct out_file {
    char *rel; /* beneath the temporary; NULL for a single file */
    int fd;    /* -1: closed */
    int users;
    uint64_t used;     /* tick of the last use */
    uint64_t unsynced; /* bytes written since write-back was last started */
    uint64_t end;      /* of what was written */
    uint64_t ahead;    /* room was asked for up to here; UINT64_MAX: no more */
    bool grows, trim;  /* as out_add was told; room beyond the end is to be given back */
};
struct out {
    struct out_opt opt;
    int dir; /* the target's folder */
    bool network, exists, have_temp, published;
    char *target;
    char base[NAME_MAX + 1];
    char temp[OUT_NAME_MAX];
    char temp_path[PATH_MAX];
    uint64_t temp_dev, temp_ino; /* of the file or folder that is published */
    pthread_mutex_t lock;
    struct out_file *file;
    size_t n_files, cap_files;
    size_t n_open;
    uint64_t tick;
    /* out_sync_begin */
    bool sync_due, syncing; /* asked for; a thread is at it */
    pthread_t sync_thread;
    enum status sync_status;
    struct err sync_err;
};

static enum status out_err(const struct out *o, const char *code, int sys, struct err *e,
                           const char *what)
{
    enum status st = err_sys(e, ST_OUTPUT, code, sys, "%s", what);
    err_file(e, o->target);
    return st;
}

static const char *write_code(int sys)
{
    switch (sys) {
    case ENOSPC:
        return "disk-full";
    case EDQUOT:
        return "quota";
    case EFBIG:
        return "file-too-big";
    default:
        return "write-error";
    }
}

static bool dir_is_network(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0)
        return true;
    switch ((unsigned long)fs.f_type) {
    case 0xef53UL:     /* ext */
    case 0x58465342UL: /* xfs */
    case 0x9123683eUL: /* btrfs */
    case 0xf2f52010UL: /* f2fs */
    case 0x2fc12fc1UL: /* zfs */
    case 0x01021994UL: /* tmpfs */
        return false;
    default:
        return true; /* unknown: prove more before a temporary is called dead */
    }
}

/* ---- begin ---- */

/* Splits target into an open folder and a base name. */
static enum status split_target(struct out *o, struct err *e)
{
    char folder[PATH_MAX];
    size_t n = strlen(o->target);
    while (n > 1 && o->target[n - 1] == '/')
        o->target[--n] = 0;
    const char *slash = strrchr(o->target, '/');
    const char *base = slash ? slash + 1 : o->target;
    size_t n_base = strlen(base);
    if (n_base == 0 || strcmp(base, ".") == 0 || strcmp(base, "..") == 0 || n >= PATH_MAX - 300)
        return out_err(o, "bad-target", EINVAL, e, "no name to write to");
    if (n_base > NAME_MAX)
        return out_err(o, "bad-target", ENAMETOOLONG, e, "no name to write to");
    memcpy(o->base, base, n_base + 1);
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - o->target + 1) : 1,
             slash ? o->target : ".");
    do {
        o->dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (stop_again(o->dir));
    if (o->dir < 0)
        return out_err(o, "no-folder", errno, e, "cannot open the target's folder");
    o->network = dir_is_network(o->dir);
    return ST_OK;
}

static void set_temp(struct out *o, unsigned try)
{
    out_temp_name(o->base, try, o->temp);
    size_t n = (size_t)(strlen(o->target) - strlen(o->base));
    snprintf(o->temp_path, sizeof o->temp_path, "%.*s%s", (int)n, o->target, o->temp);
}

/* The temporary as it is, to know it again; fd is -1 for a folder. */
static enum status note_temp(struct out *o, int fd, struct err *e)
{
    struct stat st;
    if ((fd >= 0 ? fstat(fd, &st) : fstatat(o->dir, o->temp, &st, AT_SYMLINK_NOFOLLOW)) != 0)
        return out_err(o, "write-error", errno, e, "cannot look at the temporary");
    o->temp_dev = (uint64_t)st.st_dev;
    o->temp_ino = (uint64_t)st.st_ino;
    return ST_OK;
}

static enum status make_temp_folder(struct out *o, struct err *e)
{
    for (unsigned try = 0; try < 1000; try++) {
        set_temp(o, try);
        if (mkdirat(o->dir, o->temp, 0777) == 0) {
            o->have_temp = true;
            return ST_OK;
        }
        if (errno != EEXIST)
            break;
    }
    return out_err(o, write_code(errno), errno, e, "cannot make a temporary folder");
}

/* Replacing a folder takes an exchange in one step; find out before any work. */
static enum status probe_exchange(struct out *o, struct err *e)
{
    char other[OUT_NAME_MAX];
    out_temp_name(o->base, 1000000, other);
    if (mkdirat(o->dir, other, 0777) != 0)
        return out_err(o, write_code(errno), errno, e, "cannot make a temporary folder");
    int sys = out_exchange(o->dir, o->temp, other);
    int left = out_remove_tree(o->dir, other);
    if (sys == 0)
        sys = left;
    if (sys != 0)
        return out_err(o, "cannot-exchange", sys, e,
                       "this file system cannot replace a folder in one step; "
                       "remove it first or choose another name");
    return ST_OK;
}

static enum status check_target(struct out *o, struct err *e)
{
    struct stat st;
    if (fstatat(o->dir, o->base, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno != ENOENT)
            return out_err(o, "no-folder", errno, e, "cannot look at the target");
        return ST_OK;
    }
    o->exists = true;
    if (!o->opt.force)
        return out_err(o, "exists", EEXIST, e, "not replaced without -f");
    bool fits = o->opt.is_dir ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode) || S_ISLNK(st.st_mode);
    if (!fits)
        return out_err(o, "exists", o->opt.is_dir ? ENOTDIR : EISDIR, e,
                       o->opt.is_dir ? "the target is not a folder"
                                     : "the target is not a regular file");
    return ST_OK;
}

enum status out_begin(const char *target, const struct out_opt *opt, struct out **out,
                      struct err *e)
{
    struct out *o = mem_zalloc(1, sizeof *o);
    size_t n = strlen(target) + 1;
    *out = NULL;
    if (!o)
        return err_nomem(e, sizeof *o);
    o->dir = -1;
    o->opt = *opt;
    pthread_mutex_init(&o->lock, NULL);
    o->target = mem_alloc(n);
    enum status st = o->target ? ST_OK : err_nomem(e, n);
    if (st == ST_OK) {
        memcpy(o->target, target, n);
        /* past a file size limit the write shall fail with EFBIG, not kill */
        signal(SIGXFSZ, SIG_IGN);
        st = split_target(o, e);
    }
    if (st == ST_OK)
        st = check_target(o, e);
    if (st == ST_OK) {
        out_remove_dead(o->dir, o->base, o->network);
        set_temp(o, 0);
        if (opt->is_dir)
            st = make_temp_folder(o, e);
    }
    if (st == ST_OK && opt->is_dir && o->exists)
        st = probe_exchange(o, e);
    if (st == ST_OK && opt->is_dir)
        st = note_temp(o, -1, e);
    if (st != ST_OK) {
        out_end(o);
        return st;
    }
    *out = o;
    return ST_OK;
}

enum status out_not_input(const struct out *o, const struct file *f, struct err *e)
{
    struct stat st;
    if (fstatat(o->dir, o->base, &st, 0) != 0)
        return ST_OK;
    bool same = file_same(f, (uint64_t)st.st_dev, (uint64_t)st.st_ino);
    if (!same && S_ISDIR(st.st_mode)) {
        /* the folder to be replaced holds the input */
        char in[PATH_MAX], target[PATH_MAX];
        size_t n;
        same = realpath(file_path(f), in) && realpath(o->target, target) &&
               (n = strlen(target), strncmp(in, target, n) == 0 && in[n] == '/');
    }
    if (!same)
        return ST_OK;
    enum status s = err_set(e, ST_INPUT, "output-is-input", "the output would replace this input");
    err_file(e, file_path(f));
    return s;
}

/* ---- files ---- */

/* Opens one file of the transaction; rel is NULL for a single file. */
static int open_in(const struct out *o, const char *rel, int flags)
{
    char path[PATH_MAX];
    int fd;
    if (snprintf(path, sizeof path, "%s%s%s", o->temp, rel ? "/" : "", rel ? rel : "") >=
        (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    do {
        fd = openat(o->dir, path, flags | O_NOFOLLOW | O_CLOEXEC, 0666);
    } while (stop_again(fd));
    return fd;
}

/* 0 or errno */
static int sync_fd(int fd)
{
    int rc;
    do {
        rc = fsync(fd);
    } while (stop_again(rc));
    return rc == 0 ? 0 : errno;
}

/* fsync before the descriptor goes; 0 or errno */
static int sync_close(struct out_file *f)
{
    int sys = sync_fd(f->fd);
    if (close(f->fd) != 0 && sys == 0 && errno != EINTR)
        sys = errno;
    f->fd = -1;
    return sys;
}

/* Under the lock. Gives up the descriptor used longest ago; false when all are busy. */
static bool evict(struct out *o, int *sys)
{
    struct out_file *best = NULL;
    for (size_t i = 0; i < o->n_files; i++) {
        struct out_file *f = &o->file[i];
        if (f->fd >= 0 && f->users == 0 && (!best || f->used < best->used))
            best = f;
    }
    if (!best)
        return false;
    o->n_open--;
    *sys = sync_close(best);
    return true;
}

static size_t open_max(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur / 4 >= OPEN_MAX_FILES)
        return OPEN_MAX_FILES;
    return r.rlim_cur / 4 > 0 ? (size_t)r.rlim_cur / 4 : 1;
}

/* Under the lock, which is open meanwhile: for somebody to give a descriptor back. */
static void wait_a_little(struct out *o)
{
    const struct timespec pause = {0, 1000000};
    pthread_mutex_unlock(&o->lock);
    (void)nanosleep(&pause, NULL);
    pthread_mutex_lock(&o->lock);
}

/* Under the lock. Never more than open_max() stay open: what is idle goes, else the caller waits.
 * *fd is -1 where the lock was open meanwhile: look again. *tries counts the times when there was
 * no descriptor and nobody here to give one back. */
static enum status open_more(struct out *o, const char *rel, int flags, int *tries, int *fd,
                             struct err *e)
{
    int sys = 0;
    *fd = -1;
    if (o->n_open >= open_max() && !evict(o, &sys)) {
        wait_a_little(o);
        return stop_check(e);
    }
    if (sys == 0 && (*fd = open_in(o, rel, flags)) >= 0) {
        o->n_open++;
        return ST_OK;
    }
    int why = errno;
    bool scarce = sys == 0 && (why == EMFILE || why == ENFILE);
    if (scarce && evict(o, &sys) && sys == 0)
        return ST_OK;
    if (sys != 0)
        return out_err(o, write_code(sys), sys, e, "cannot sync");
    if (!scarce || (o->n_open == 0 && file_held() == 0 && ++*tries > TRIES_MAX))
        return out_err(o, write_code(why), why, e, "cannot open a temporary");
    wait_a_little(o);
    return stop_check(e);
}

static enum status acquire(struct out *o, int id, int *fd, struct err *e)
{
    enum status st = ST_OK;
    int tries = 0;
    pthread_mutex_lock(&o->lock);
    if (id < 0 || (size_t)id >= o->n_files) {
        pthread_mutex_unlock(&o->lock);
        return err_set(e, ST_BUG, "out-file", "no output file %d", id);
    }
    struct out_file *f = &o->file[id];
    while (st == ST_OK && f->fd < 0)
        st = open_more(o, f->rel, O_RDWR, &tries, &f->fd, e);
    if (st == ST_OK) {
        f->users++;
        f->used = ++o->tick;
        *fd = f->fd;
    }
    pthread_mutex_unlock(&o->lock);
    return st;
}

/* Under the lock. Where more room is due: from *lo, AHEAD_BYTES. Blocks of a growing file are
 * cheaper taken many at a time; out_truncate gives back what was too much. */
static bool ahead_due(const struct out *o, struct out_file *f, uint64_t *lo)
{
    if (o->network || f->end + AHEAD_BYTES / 2 < f->ahead || f->end > INT64_MAX - 2 * AHEAD_BYTES)
        return false;
    *lo = f->end > f->ahead ? f->end : f->ahead;
    f->ahead = *lo + AHEAD_BYTES;
    return true;
}

/* Bytes [off, off + wrote) have been written; none: just gives the file back. */
static void release(struct out *o, int id, uint64_t off, uint64_t wrote)
{
    bool behind = false, more = false;
    uint64_t lo = 0;
    int fd;
    pthread_mutex_lock(&o->lock);
    struct out_file *f = &o->file[id];
    f->unsynced += wrote;
    if (wrote > 0 && off + wrote > f->end)
        f->end = off + wrote;
    if (f->unsynced >= BEHIND_BYTES) {
        f->unsynced = 0;
        behind = true;
        more = f->ahead != UINT64_MAX && ahead_due(o, f, &lo);
    }
    fd = f->fd;
    if (!behind)
        f->users--;
    pthread_mutex_unlock(&o->lock);
    if (!behind)
        return;
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* a hint; fsync reports errors */
    bool none = more && fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)lo, (off_t)AHEAD_BYTES) != 0;
    pthread_mutex_lock(&o->lock);
    o->file[id].users--;
    if (none) /* another hint: the writes will tell */
        o->file[id].ahead = UINT64_MAX;
    pthread_mutex_unlock(&o->lock);
}

static bool rel_is_plain(struct str rel)
{
    struct str part;
    if (rel.n == 0 || rel.n >= PATH_MAX || memchr(rel.p, 0, rel.n))
        return false;
    while (str_split(&rel, '/', &part))
        if (part.n == 0 || part.n > NAME_MAX || str_is(part, ".") || str_is(part, ".."))
            return false;
    return true;
}

/* Makes the folders above rel. */
static enum status make_parents(struct out *o, const char *rel, struct err *e)
{
    char path[PATH_MAX];
    for (const char *p = strchr(rel, '/'); p; p = strchr(p + 1, '/')) {
        if (snprintf(path, sizeof path, "%s/%.*s", o->temp, (int)(p - rel), rel) >=
            (int)sizeof path)
            return out_err(o, "bad-target", ENAMETOOLONG, e, "a name in the folder is too long");
        if (mkdirat(o->dir, path, 0777) != 0 && errno != EEXIST)
            return out_err(o, write_code(errno), errno, e, "cannot make a folder");
    }
    return ST_OK;
}

static enum status grow_files(struct out *o, struct err *e)
{
    if (o->n_files < o->cap_files)
        return ST_OK;
    size_t cap = o->cap_files ? o->cap_files * 2 : 8;
    struct out_file *f = mem_resize(o->file, cap * sizeof *f);
    if (!f)
        return err_nomem(e, cap * sizeof *f);
    o->file = f;
    o->cap_files = cap;
    return ST_OK;
}

/* Space for size bytes, where the file system can say so early. */
static enum status preallocate(const struct out *o, int fd, uint64_t size, struct err *e)
{
    int rc;
    if (size == 0 || size > INT64_MAX)
        return ST_OK;
    do {
        rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size);
    } while (stop_again(rc));
    if (rc == 0 || (errno != ENOSPC && errno != EDQUOT && errno != EFBIG && errno != EIO))
        return ST_OK; /* not supported here: the writes will tell */
    int sys = errno;
    enum status st = err_sys(e, ST_OUTPUT, write_code(sys), sys, "cannot reserve %llu bytes",
                             (unsigned long long)size);
    err_file(e, o->target);
    return st;
}

enum status out_add(struct out *o, struct str rel, uint64_t size, int *id, struct err *e)
{
    struct out_file f = {
        .fd = -1, .ahead = size == OUT_GROWS ? 0 : UINT64_MAX, .grows = size == OUT_GROWS};
    int tries = 0;
    bool single = rel.n == 0;
    if (single == o->opt.is_dir || (single && o->n_files > 0) || o->n_files >= INT_MAX ||
        (!single && !rel_is_plain(rel)))
        return err_set(e, ST_BUG, "out-file", "a file the target cannot hold");
    if (!single) {
        f.rel = mem_alloc(rel.n + 1);
        if (!f.rel)
            return err_nomem(e, rel.n);
        memcpy(f.rel, rel.p, rel.n);
        f.rel[rel.n] = 0;
    }
    pthread_mutex_lock(&o->lock);
    enum status st = grow_files(o, e);
    if (st == ST_OK && f.rel)
        st = make_parents(o, f.rel, e);
    for (unsigned try = 0; st == ST_OK && f.fd < 0;) {
        struct err why = {0};
        if (single)
            set_temp(o, try);
        st = open_more(o, f.rel, O_RDWR | O_CREAT | O_EXCL, &tries, &f.fd, &why);
        if (st != ST_OK && single && why.sys == EEXIST && ++try < 1000)
            st = ST_OK;
        else if (st != ST_OK && e)
            *e = why;
    }
    if (st == ST_OK) {
        o->have_temp = true;
        *id = (int)o->n_files;
        if (single)
            st = note_temp(o, f.fd, e);
        o->file[o->n_files++] = f;
    } else {
        mem_free(f.rel);
    }
    pthread_mutex_unlock(&o->lock);
    return st == ST_OK ? preallocate(o, f.fd, size, e) : st;
}

enum status out_pwrite(struct out *o, int id, const void *p, size_t n, uint64_t off, struct err *e)
{
    const char *at = p;
    uint64_t wrote = 0, from = off;
    int fd;
    TRY(acquire(o, id, &fd, e));
    enum status st = ST_OK;
    while (n > 0) {
        ssize_t k = pwrite(fd, at, n, (off_t)off);
        if (stop_again(k) || (k < 0 && errno == EAGAIN))
            continue;
        if (k <= 0) {
            int sys = k < 0 ? errno : ENOSPC;
            st = err_sys(e, ST_OUTPUT, write_code(sys), sys, "cannot write %llu bytes",
                         (unsigned long long)n);
            err_at(e, o->target, off);
            break;
        }
        at += k;
        n -= (size_t)k;
        off += (uint64_t)k;
        wrote += (uint64_t)k;
    }
    release(o, id, from, wrote);
    return st;
}

enum status out_pread(struct out *o, int id, void *p, size_t n, uint64_t off, struct err *e)
{
    char *at = p;
    int fd;
    TRY(acquire(o, id, &fd, e));
    enum status st = ST_OK;
    while (n > 0 && st == ST_OK) {
        ssize_t k = pread(fd, at, n, (off_t)off);
        if (stop_again(k) || (k < 0 && errno == EAGAIN))
            continue;
        if (k <= 0) {
            if (k < 0)
                st = err_sys(e, ST_OUTPUT, "readback", errno, "cannot read what was written");
            else
                st = err_set(e, ST_OUTPUT, "readback", "the file is shorter than what was written");
            err_at(e, o->target, off);
            break;
        }
        at += k;
        n -= (size_t)k;
        off += (uint64_t)k;
    }
    release(o, id, 0, 0);
    return st;
}

bool out_one_writer(const struct out *o)
{
    return !o->network && o->n_files == 1;
}

/* 0 or errno */
static int set_size(int fd, uint64_t size)
{
    int rc;
    do {
        rc = ftruncate(fd, (off_t)size);
    } while (stop_again(rc));
    return rc == 0 ? 0 : errno;
}

/* Where nothing but room ahead is cut off, which takes a while, the sync does it. */
enum status out_truncate(struct out *o, int id, uint64_t size, struct err *e)
{
    int fd;
    TRY(acquire(o, id, &fd, e));
    pthread_mutex_lock(&o->lock);
    struct out_file *f = &o->file[id];
    f->trim = f->grows && size == f->end;
    bool later = f->trim;
    pthread_mutex_unlock(&o->lock);
    int sys = later ? 0 : set_size(fd, size);
    release(o, id, 0, 0);
    return sys == 0 ? ST_OK : out_err(o, write_code(sys), sys, e, "cannot set the file's size");
}

void out_write_back(struct out *o)
{
    pthread_mutex_lock(&o->lock);
    for (size_t i = 0; i < o->n_files; i++)
        if (o->file[i].fd >= 0 && o->file[i].unsynced > 0) {
            o->file[i].unsynced = 0;
            (void)sync_file_range(o->file[i].fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* a hint */
        }
    pthread_mutex_unlock(&o->lock);
}

/* ---- sync, publish ---- */

/* EINVAL: a file system whose folders have no fsync. */
static int sync_folder_fd(int fd)
{
    int sys = sync_fd(fd);
    return sys == EINVAL ? 0 : sys;
}

static int sync_folder(int dir, const char *path)
{
    int fd;
    do {
        fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    } while (stop_again(fd));
    if (fd < 0)
        return errno;
    int sys = sync_folder_fd(fd);
    if (close(fd) != 0 && sys == 0 && errno != EINTR)
        sys = errno;
    return sys;
}

/* Folders of the tree: the temporary itself and every folder that holds a file. A folder shared by
 * several files is synced once per run of such files. */
static int sync_folders(const struct out *o)
{
    char path[PATH_MAX], last[PATH_MAX] = "";
    for (size_t i = 0; i < o->n_files; i++) {
        snprintf(path, sizeof path, "%s/%s", o->temp, o->file[i].rel);
        char *slash = strrchr(path, '/');
        *slash = 0;
        if (strcmp(path, last) == 0)
            continue;
        memcpy(last, path, sizeof last);
        for (; slash && strcmp(path, o->temp) != 0; slash = strrchr(path, '/')) {
            int sys;
            *slash = 0;
            sys = sync_folder(o->dir, path);
            if (sys != 0)
                return sys;
        }
    }
    return sync_folder(o->dir, o->temp);
}

/* Gives back the room ahead of a file's end, where that is left to do; 0 or errno. */
static int trim(struct out *o, size_t i, int fd)
{
    pthread_mutex_lock(&o->lock);
    bool due = o->file[i].trim;
    uint64_t end = o->file[i].end;
    o->file[i].trim = false;
    pthread_mutex_unlock(&o->lock);
    return due ? set_size(fd, end) : 0;
}

static enum status sync_all(struct out *o, struct err *e)
{
    for (size_t i = 0; i < o->n_files; i++) {
        int fd;
        TRY(stop_check(e)); /* many files on a slow disk take their time */
        TRY(acquire(o, (int)i, &fd, e));
        int sys = trim(o, i, fd);
        if (sys == 0)
            sys = sync_fd(fd);
        release(o, (int)i, 0, 0);
        if (sys != 0)
            return out_err(o, write_code(sys), sys, e, "cannot sync the file to disk");
    }
    int sys = o->opt.is_dir ? sync_folders(o) : 0;
    return sys == 0 ? ST_OK : out_err(o, write_code(sys), sys, e, "cannot sync the folder to disk");
}

static void *sync_body(void *ctx)
{
    struct out *o = ctx;
    o->sync_status = sync_all(o, &o->sync_err);
    return NULL;
}

void out_sync_begin(struct out *o)
{
    o->sync_due = true;
    if (!o->syncing)
        o->syncing = pthread_create(&o->sync_thread, NULL, sync_body, o) == 0;
}

enum status out_sync(struct out *o, struct err *e)
{
    o->sync_due = false;
    if (!o->syncing)
        return sync_all(o, e);
    pthread_join(o->sync_thread, NULL);
    o->syncing = false;
    if (o->sync_status != ST_OK && e)
        *e = o->sync_err;
    return o->sync_status;
}

static int close_all(struct out *o)
{
    int sys = 0;
    for (size_t i = 0; i < o->n_files; i++) {
        struct out_file *f = &o->file[i];
        if (f->fd >= 0 && close(f->fd) != 0 && sys == 0 && errno != EINTR)
            sys = errno;
        f->fd = -1;
    }
    o->n_open = 0;
    return sys;
}

static bool is_ours(const struct out *o, const char *name)
{
    struct stat st;
    return fstatat(o->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           (uint64_t)st.st_dev == o->temp_dev && (uint64_t)st.st_ino == o->temp_ino;
}

enum status out_publish(struct out *o, struct err *e)
{
    int fd, sys;
    if (o->sync_due)
        TRY(out_sync(o, e));
    for (size_t i = 0; i < o->n_files; i++)
        if (o->file[i].trim) { /* nobody asked for a sync */
            TRY(acquire(o, (int)i, &fd, e));
            sys = trim(o, i, fd);
            release(o, (int)i, 0, 0);
            if (sys != 0)
                return out_err(o, write_code(sys), sys, e, "cannot set the file's size");
        }
    sys = close_all(o);
    if (sys != 0)
        return out_err(o, write_code(sys), sys, e, "cannot close");
    if (!o->opt.is_dir && (o->n_files != 1 || !is_ours(o, o->temp)))
        return out_err(o, "write-error", ENOENT, e, "the temporary is not ours any more");
    sys =
        (o->opt.force ? out_rename_over : out_rename_new)(o->dir, o->temp, o->base, o->opt.is_dir);
    /* A file server whose answer was lost is asked again, and then says that the old name is gone
     * or the new one there; or the second name that a link made cannot be removed. */
    if (sys != 0 && !is_ours(o, o->base))
        return out_err(o, sys == EEXIST ? "exists" : "write-error", sys, e,
                       "cannot rename into place");
    o->published = true;
    if (sys != 0 && !o->opt.is_dir)
        (void)out_remove_tree(o->dir, o->temp);
    do { /* it is published: too late for a request to stop */
        sys = sync_folder_fd(o->dir);
    } while (sys == EINTR);
    if (sys != 0)
        return out_err(o, write_code(sys), sys, e, "cannot sync the target's folder to disk");
    return ST_OK;
}

void out_end(struct out *o)
{
    if (!o)
        return;
    if (o->syncing)
        pthread_join(o->sync_thread, NULL);
    (void)close_all(o);
    for (size_t i = 0; i < o->n_files; i++)
        mem_free(o->file[i].rel);
    /* what lies under the temporary name now: our own unpublished work, or the old folder that
     * was exchanged for the new one */
    if (o->have_temp && (!o->published || o->opt.is_dir))
        (void)out_remove_tree(o->dir, o->temp);
    if (o->dir >= 0)
        close(o->dir);
    mem_free(o->file);
    mem_free(o->target);
    pthread_mutex_destroy(&o->lock);
    mem_free(o);
}

const char *out_temp_path(const struct out *o)
{
    return o->temp_path;
}

const char *out_target(const struct out *o)
{
    return o->target;
}
