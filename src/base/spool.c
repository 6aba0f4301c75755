/* Spools: unlinked temporaries (base/out.h). The name is gone before the first byte is written, so
 * a killed process leaves nothing.
 */
#include "base/mem.h"
#include "base/out.h"
#include "base/out_temp.h"
#include "base/stop.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct spool {
    int fd;
    char dir[PATH_MAX];
};
static char tmpdir[PATH_MAX];

void spool_set_dir(const char *path)
{
    snprintf(tmpdir, sizeof tmpdir, "%s", path ? path : "");
}

static void folder_of(const char *beside, char out[PATH_MAX])
{
    if (tmpdir[0] || !beside) {
        snprintf(out, PATH_MAX, "%s", tmpdir[0] ? tmpdir : "/var/tmp");
        return;
    }
    snprintf(out, PATH_MAX, "%s", beside);
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/')
        out[--n] = 0;
    char *slash = strrchr(out, '/');
    if (!slash)
        snprintf(out, PATH_MAX, ".");
    else
        slash[slash == out] = 0;
}

static enum status spool_err(const struct spool *s, const char *what, int sys, struct err *e)
{
    enum status st =
        err_sys(e, ST_OUTPUT, "spool", sys, "cannot %s a temporary (see --tmpdir)", what);
    err_file(e, s->dir);
    return st;
}

static int open_named(const char *folder)
{
    char base[OUT_NAME_MAX], path[PATH_MAX];
    for (unsigned try = 0; try < 1000; try++) {
        out_temp_name("spool", try, base);
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, base) >= sizeof path) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int fd;
        do {
            fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        } while (stop_again(fd));
        if (fd < 0 && errno == EEXIST)
            continue;
        if (fd >= 0 && unlink(path) != 0) {
            int err = errno;
            close(fd);
            errno = err;
            return -1;
        }
        return fd;
    }
    return -1;
}

enum status spool_open(const char *beside, struct spool **out, struct err *e)
{
    struct spool *s = mem_zalloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return err_nomem(e, sizeof *s);
    folder_of(beside, s->dir);
    do {
        s->fd = open(s->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    } while (stop_again(s->fd));
    if (s->fd < 0)
        s->fd = open_named(s->dir);
    if (s->fd < 0) {
        enum status st = spool_err(s, "make", errno, e);
        mem_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

enum status spool_pwrite(struct spool *s, const void *p, size_t n, uint64_t off, struct err *e)
{
    const char *at = p;
    while (n > 0) {
        ssize_t k = pwrite(s->fd, at, n, (off_t)off);
        if (stop_again(k) || (k < 0 && errno == EAGAIN))
            continue;
        if (k <= 0)
            return spool_err(s, "write", k < 0 ? errno : ENOSPC, e);
        at += k;
        n -= (size_t)k;
        off += (uint64_t)k;
    }
    return ST_OK;
}

enum status spool_pread(struct spool *s, void *p, size_t n, uint64_t off, struct err *e)
{
    char *at = p;
    while (n > 0) {
        ssize_t k = pread(s->fd, at, n, (off_t)off);
        if (stop_again(k) || (k < 0 && errno == EAGAIN))
            continue;
        if (k <= 0)
            return spool_err(s, "read", k < 0 ? errno : EIO, e);
        at += k;
        n -= (size_t)k;
        off += (uint64_t)k;
    }
    return ST_OK;
}

enum status spool_file(struct spool *s, const char *path, struct file **out, struct err *e)
{
    int fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
    *out = NULL;
    if (fd < 0)
        return spool_err(s, "open", errno, e);
    return file_keep(fd, path, out, e);
}

void spool_close(struct spool *s)
{
    if (!s)
        return;
    close(s->fd);
    mem_free(s);
}
