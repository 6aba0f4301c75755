/* See out_temp.h. */
#include "base/out_temp.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MARK ".nnferry-"
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

struct owner {
    char host[65];
    long pid;
    char boot[40];
    unsigned long long ns, start;
};

static void read_text(const char *path, char *out, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t k = fd < 0 ? -1 : read(fd, out, n - 1);
    out[k < 0 ? 0 : k] = 0;
    if (fd >= 0)
        close(fd);
}

/* Field 22 of /proc/PID/stat; 0 where there is no such process or no /proc. */
static unsigned long long start_time(long pid)
{
    char path[64], text[1024];
    unsigned long long v = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    read_text(path, text, sizeof text);
    char *p = strrchr(text, ')'); /* the command name may hold anything */
    for (int field = 2; p && field < 22; field++) {
        p = strchr(p, ' ');
        if (p)
            p++;
    }
    if (p)
        v = strtoull(p, NULL, 10);
    return v;
}

static void self(struct owner *o)
{
    struct stat st;
    memset(o, 0, sizeof *o);
    if (gethostname(o->host, sizeof o->host - 1) != 0 || o->host[0] == 0)
        snprintf(o->host, sizeof o->host, "unknown");
    for (char *p = o->host; *p; p++)
        if (*p == '/')
            *p = '_';
    o->pid = (long)getpid();
    read_text("/proc/sys/kernel/random/boot_id", o->boot, sizeof o->boot);
    size_t n = 0;
    for (char *p = o->boot; *p; p++)
        if (strchr("0123456789abcdef", *p))
            o->boot[n++] = *p;
    o->boot[n < 12 ? n : 12] = 0;
    if (o->boot[0] == 0)
        snprintf(o->boot, sizeof o->boot, "0");
    if (stat("/proc/self/ns/pid", &st) == 0)
        o->ns = (unsigned long long)st.st_ino;
    o->start = start_time(o->pid);
}

/* ".BASE.nnferry-" with BASE cut so that the whole name fits the file system's 255 bytes */
static int prefix(const char *base, char out[OUT_NAME_MAX])
{
    return snprintf(out, OUT_NAME_MAX, ".%.100s" MARK, base);
}

void out_temp_name(const char *base, unsigned try, char out[OUT_NAME_MAX])
{
    struct owner o;
    self(&o);
    int n = prefix(base, out);
    snprintf(out + n, OUT_NAME_MAX - (size_t)n, "%s-%ld-%s.%llx.%llx.%u", o.host, o.pid, o.boot,
             o.ns, o.start, try);
}

/* Takes HOST-PID-BOOT.NS.START.TRY apart, from the end since a host name may hold '-'. */
static bool parse(const char *text, struct owner *o)
{
    char t[OUT_NAME_MAX];
    unsigned try;
    memset(o, 0, sizeof *o);
    if (strlen(text) >= sizeof t)
        return false;
    memcpy(t, text, strlen(text) + 1);
    char *boot = strrchr(t, '-');
    if (!boot)
        return false;
    *boot++ = 0;
    char *pid = strrchr(t, '-');
    if (!pid)
        return false;
    *pid++ = 0;
    char *end;
    errno = 0;
    o->pid = strtol(pid, &end, 10);
    if (errno || *end || end == pid || o->pid <= 0 || strlen(t) >= sizeof o->host)
        return false;
    memcpy(o->host, t, strlen(t) + 1);
    return sscanf(boot, "%39[0-9a-f].%llx.%llx.%u", o->boot, &o->ns, &o->start, &try) == 4;
}

static bool provably_dead(const struct owner *o, const struct owner *me, bool network)
{
    if (strcmp(o->host, me->host) != 0 || strcmp(me->boot, "0") == 0)
        return false;
    if (strcmp(o->boot, me->boot) != 0)
        return !network; /* only this host writes here, and it has been started anew since */
    if (o->ns != me->ns || me->ns == 0 || me->start == 0)
        return false;
    if (kill((pid_t)o->pid, 0) != 0 && errno == ESRCH)
        return true;
    unsigned long long now = start_time(o->pid);
    return now != 0 && now != o->start; /* the number was given to another process */
}

void out_remove_dead(int dir, const char *base, bool network)
{
    char head[OUT_NAME_MAX];
    struct owner me, o;
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return;
    }
    size_t n = (size_t)prefix(base, head);
    self(&me);
    for (struct dirent *x; (x = readdir(d));)
        if (strncmp(x->d_name, head, n) == 0 && parse(x->d_name + n, &o) &&
            provably_dead(&o, &me, network))
            (void)out_remove_tree(dir, x->d_name);
    closedir(d);
}

/* Asked to stop or not: what is ours is tidied up. */
static int unlink_at(int dir, const char *name, int flags)
{
    int rc;
    do {
        rc = unlinkat(dir, name, flags);
    } while (rc != 0 && errno == EINTR);
    return rc;
}

/* One pass: goes down the first folder found until one is empty, removes it, and starts over, so
 * only one folder is open at a time whatever the depth. */
int out_remove_tree(int dir, const char *name)
{
    char path[PATH_MAX];
    size_t top = strlen(name);
    if (unlink_at(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    if (top >= sizeof path)
        return ENAMETOOLONG;
    memcpy(path, name, top + 1);
    for (;;) {
        int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *d = fd < 0 ? NULL : fdopendir(fd);
        if (!d) {
            int err = errno;
            if (fd >= 0)
                close(fd);
            return err;
        }
        bool down = false;
        int err = 0;
        for (struct dirent *x; !down && (x = readdir(d));) {
            if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
                continue;
            if (unlink_at(dirfd(d), x->d_name, 0) == 0)
                continue;
            err = errno;
            size_t at = strlen(path), n = strlen(x->d_name);
            if ((err == EISDIR || err == EPERM) && at + 1 + n < sizeof path) {
                path[at] = '/';
                memcpy(path + at + 1, x->d_name, n + 1);
                down = true;
            } else {
                break;
            }
        }
        closedir(d);
        if (down)
            continue;
        if (unlink_at(dir, path, AT_REMOVEDIR) != 0)
            return err ? err : errno;
        char *up = strrchr(path, '/');
        if (!up || strlen(path) == top)
            return 0;
        *up = 0;
    }
}

/* ---- in place ---- */

static int rename2(int dir, const char *from, const char *to, unsigned flags)
{
    return syscall(SYS_renameat2, dir, from, dir, to, flags) == 0 ? 0 : errno;
}

int out_exchange(int dir, const char *a, const char *b)
{
    return rename2(dir, a, b, RENAME_EXCHANGE);
}

int out_rename_new(int dir, const char *temp, const char *name, bool is_dir)
{
    struct stat st;
    int sys = rename2(dir, temp, name, RENAME_NOREPLACE);
    if (sys != EINVAL && sys != ENOSYS && sys != EOPNOTSUPP && sys != EPERM)
        return sys;
    if (!is_dir) {
        if (linkat(dir, temp, dir, name, 0) == 0)
            return unlink_at(dir, temp, 0) == 0 ? 0 : errno;
        if (errno == EEXIST)
            return errno;
    }
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return EEXIST;
    return renameat(dir, temp, dir, name) == 0 ? 0 : errno;
}

int out_rename_over(int dir, const char *temp, const char *name, bool is_dir)
{
    struct stat st;
    if (!is_dir)
        return renameat(dir, temp, dir, name) == 0 ? 0 : errno;
    int sys = out_exchange(dir, temp, name);
    /* EINVAL: of the flag, where it is not known, whether or not there is an old folder */
    if (sys == 0 || (sys != ENOENT && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0))
        return sys;
    return out_rename_new(dir, temp, name, is_dir);
}
