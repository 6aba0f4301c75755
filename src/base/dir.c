/* Folders the user named, and the containment of what foreign data names inside them: see
 * file.h. A name is walked part by part with O_NOFOLLOW from an open folder, so a component
 * swapped during the walk cannot lead outside.
 */
#include "base/checked.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct dir {
    int fd;
    char path[];
};

#define FOLDER (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

static int open_at(int at, const char *path, int flags)
{
    int fd;
    do {
        fd = openat(at, path, flags);
    } while (stop_again(fd));
    return fd;
}

#define MAX_ROOTS 16
static char roots[MAX_ROOTS][PATH_MAX];
static size_t n_roots;

void dir_add_root(const char *path)
{
    if (n_roots < MAX_ROOTS && realpath(path, roots[n_roots]))
        n_roots++;
}

enum path_kind path_kind(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return errno == ENOENT || errno == ENOTDIR ? PATH_NONE : PATH_OTHER;
    return S_ISREG(st.st_mode) ? PATH_FILE : S_ISDIR(st.st_mode) ? PATH_DIR : PATH_OTHER;
}

enum status dir_open(const char *path, struct dir **out, struct err *e)
{
    int fd = open_at(AT_FDCWD, path, FOLDER);
    size_t n = strlen(path) + 1;
    *out = NULL;
    if (fd < 0) {
        enum status st = err_sys(e, ST_INPUT, "unreadable", errno, "cannot open the folder");
        err_file(e, path);
        return st;
    }
    struct dir *d = mem_alloc(sizeof *d + n);
    if (!d) {
        close(fd);
        return err_nomem(e, n);
    }
    d->fd = fd;
    memcpy(d->path, path, n);
    *out = d;
    return ST_OK;
}

void dir_close(struct dir *d)
{
    if (!d)
        return;
    close(d->fd);
    mem_free(d);
}

const char *dir_path(const struct dir *d)
{
    return d->path;
}

static enum status escape(const struct dir *d, struct str rel, const char *why, struct err *e)
{
    enum status st = err_set(e, ST_INPUT, "path-escape", "%s", why);
    err_file(e, d->path);
    err_in(e, rel.p, rel.n);
    return st;
}

static bool beneath(const char *root, const char *p)
{
    size_t n = strlen(root);
    return strncmp(root, p, n) == 0 && (p[n] == '/' || (n > 0 && root[n - 1] == '/'));
}

/* Is the resolved target of a symlink in a place we may follow to? */
static bool target_allowed(const struct dir *d, const char *real)
{
    char own[PATH_MAX], blobs[PATH_MAX];
    if (realpath(d->path, own)) {
        if (beneath(own, real))
            return true;
        /* hub cache: MODEL/snapshots/REV/file -> ../../blobs/HASH */
        char *rev = strrchr(own, '/');
        if (rev && rev != own) {
            *rev = 0;
            char *snap = strrchr(own, '/');
            if (snap && strcmp(snap, "/snapshots") == 0) {
                *snap = 0;
                int k = snprintf(blobs, sizeof blobs, "%s/blobs", own);
                if (k > 0 && (size_t)k < sizeof blobs && beneath(blobs, real))
                    return true;
            }
        }
    }
    for (size_t i = 0; i < n_roots; i++)
        if (beneath(roots[i], real))
            return true;
    return false;
}

enum status dir_file(struct dir *d, struct str rel, struct file **out, struct err *e)
{
    char part[NAME_MAX + 1], full[PATH_MAX];
    struct str rest = rel, name;
    int at = d->fd;
    enum status st = ST_OK;
    *out = NULL;
    if (rel.n == 0 || memchr(rel.p, 0, rel.n))
        return escape(d, rel, "empty file name or NUL in a file name", e);
    if (rel.p[0] == '/')
        return escape(d, rel, "absolute path where a file of this folder is meant", e);
    int k = snprintf(full, sizeof full, "%s/%.*s", d->path, STR_ARG(rel));
    if (k < 0 || (size_t)k >= sizeof full)
        return escape(d, rel, "file name too long", e);
    while (st == ST_OK && str_split(&rest, '/', &name)) {
        if (name.n == 0 || str_is(name, ".") || str_is(name, "..")) {
            st = escape(d, rel, "path leaves its folder", e);
            break;
        }
        if (name.n > NAME_MAX) {
            st = escape(d, rel, "file name too long", e);
            break;
        }
        memcpy(part, name.p, name.n);
        part[name.n] = 0;
        if (rest.p) { /* a folder on the way */
            int next = open_at(at, part, FOLDER | O_NOFOLLOW);
            if (next < 0) {
                st = errno == ELOOP || errno == ENOTDIR
                         ? escape(d, rel, "a folder on the way is a symlink or not a folder", e)
                         : err_sys(e, ST_INPUT, "unreadable", errno, "cannot open");
                err_file(e, full);
                break;
            }
            if (at != d->fd)
                close(at);
            at = next;
        }
    }
    int fd = -1;
    if (st == ST_OK) {
        fd = open_at(at, part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 && errno == ELOOP) {
            char real[PATH_MAX];
            if (!realpath(full, real)) {
                st = err_sys(e, ST_INPUT, "unreadable", errno, "cannot follow the symlink");
                err_file(e, full);
            } else if (!target_allowed(d, real)) {
                st = err_set(e, ST_INPUT, "path-escape",
                             "symlink to %s leaves its folder; allow it with --root", real);
                err_file(e, full);
            } else {
                fd = open_at(AT_FDCWD, real,
                             O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
            }
        }
        if (fd < 0 && st == ST_OK) {
            st = err_sys(e, ST_INPUT, "unreadable", errno, "cannot open");
            err_file(e, full);
        }
    }
    if (at != d->fd)
        close(at);
    if (st != ST_OK)
        return st;
    struct stat sb;
    if (fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) && sb.st_nlink > 1)
        log_warn("%s: hard link: another name leads to the same file", full);
    return file_adopt(fd, full, out, e);
}

enum status dir_sub(struct dir *d, struct str rel, struct dir **out, struct err *e)
{
    char part[NAME_MAX + 1];
    struct str rest = rel, name;
    int at = d->fd;
    *out = NULL;
    if (rel.n == 0 || rel.n >= PATH_MAX || rel.p[0] == '/' || memchr(rel.p, 0, rel.n))
        return escape(d, rel, "no name of a folder beneath this one", e);
    while (str_split(&rest, '/', &name)) {
        int next = -1;
        bool plain = name.n && name.n <= NAME_MAX && !str_is(name, ".") && !str_is(name, "..");
        if (plain) {
            memcpy(part, name.p, name.n);
            part[name.n] = 0;
            next = open_at(at, part, FOLDER | O_NOFOLLOW);
        }
        int sys = errno;
        if (at != d->fd)
            close(at);
        if (!plain)
            return escape(d, rel, "path leaves its folder", e);
        if (next < 0 && (sys == ELOOP || sys == ENOTDIR))
            return escape(d, rel, "a folder on the way is a symlink or not a folder", e);
        if (next < 0) {
            enum status st = err_sys(e, ST_INPUT, "unreadable", sys, "cannot open the folder");
            err_file(e, d->path);
            err_in(e, rel.p, rel.n);
            return st;
        }
        at = next;
    }
    size_t n = strlen(d->path);
    struct dir *sub = mem_alloc(sizeof *sub + n + rel.n + 2);
    if (!sub) {
        close(at);
        return err_nomem(e, n + rel.n);
    }
    sub->fd = at;
    memcpy(sub->path, d->path, n);
    sub->path[n] = '/';
    memcpy(sub->path + n + 1, rel.p, rel.n);
    sub->path[n + 1 + rel.n] = 0;
    *out = sub;
    return ST_OK;
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct dir_entry *)a)->name, ((const struct dir_entry *)b)->name);
}

enum status dir_list(struct dir *d, struct arena *a, struct dir_entry **out, size_t *n,
                     struct err *e)
{
    int fd = open_at(d->fd, ".", FOLDER);
    DIR *h = fd >= 0 ? fdopendir(fd) : NULL;
    enum status st = ST_OK;
    size_t cap = 0, used = 0;
    struct dir_entry *v = NULL;
    if (!h) {
        if (fd >= 0)
            close(fd);
        st = err_sys(e, ST_INPUT, "unreadable", errno, "cannot list the folder");
        err_file(e, d->path);
        return st;
    }
    for (;;) {
        struct stat sb;
        errno = 0;
        struct dirent *ent = readdir(h);
        if (!ent) {
            if (errno) {
                st = err_sys(e, ST_INPUT, "unreadable", errno, "cannot list the folder");
                err_file(e, d->path);
            }
            break;
        }
        /* names that start with a dot are nobody's weights, but .zarray and .metadata matter */
        if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
            continue;
        if (fstatat(d->fd, ent->d_name, &sb, 0) != 0 ||
            !(S_ISREG(sb.st_mode) || S_ISDIR(sb.st_mode)))
            continue;
        if (used == cap) {
            cap = cap ? cap * 2 : 64;
            struct dir_entry *w = mem_resize(v, cap * sizeof *v);
            if (!w) {
                st = err_nomem(e, cap * sizeof *v);
                break;
            }
            v = w;
        }
        v[used].name = arena_str(a, ent->d_name, strlen(ent->d_name));
        v[used].is_dir = S_ISDIR(sb.st_mode);
        v[used].size = (uint64_t)sb.st_size;
        if (!v[used].name.p) {
            st = err_nomem(e, 256);
            break;
        }
        used++;
    }
    closedir(h);
    if (st == ST_OK) {
        struct dir_entry *w = ARENA_ARRAY(a, struct dir_entry, used ? used : 1);
        if (!w) {
            st = err_nomem(e, used * sizeof *w);
        } else {
            if (used) {
                memcpy(w, v, used * sizeof *w);
                qsort(w, used, sizeof *w, by_name);
            }
            *out = w;
            *n = used;
        }
    }
    mem_free(v);
    return st;
}
