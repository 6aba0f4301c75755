/* The door to input files. A file is opened once, must be regular, and is known by its
 * identity (device, inode, size, mtime, ctime): if that changes while we read, the run
 * fails with "input-changed" and never with SIGBUS or wrong bytes.
 *
 * Bulk data is read with pread. Mapped windows are for headers and strided gathers; a page
 * that vanishes under a mapping is replaced by zeros in the SIGBUS handler and the file is
 * marked changed, so parsers need no signal care and file_check tells at the end.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H
#include "base/arena.h"
#include "base/err.h"

enum io_mode { IO_AUTO, IO_MMAP, IO_READ };
void file_set_io(enum io_mode m); /* set once by cli */
/* While on, a file opened is known by device, inode and size alone: what we have written
 * ourselves and read back, whose times a sync under way or a file server may still move. */
void file_set_ours(bool on);

struct file; /* opaque, allocated from base/mem.h */

/* Opens a path as the user typed it (symlinks followed). Directories, FIFOs, devices: ST_INPUT
 * code "not-a-file"; never blocks. */
MUSTCHECK enum status file_open(const char *path, struct file **out, struct err *e);
/* Takes an open descriptor (closed on failure); path is for messages. */
MUSTCHECK enum status file_adopt(int fd, const char *path, struct file **out, struct err *e);
/* Same, of a file without a name to open it by again: its descriptor stays open. */
MUSTCHECK enum status file_keep(int fd, const char *path, struct file **out, struct err *e);
void file_close(struct file *f);             /* NULL allowed */
const char *file_path(const struct file *f); /* for messages and published references */
uint64_t file_size(const struct file *f);
bool file_is_network(const struct file *f); /* by statfs */
/* Same device and inode? For "output is the input". */
bool file_same(const struct file *f, uint64_t dev, uint64_t ino);
/* Reads exactly n bytes at off: short file = ST_INPUT "truncated" or "input-changed". Retries EINTR
 * and short reads. Thread-safe. */
MUSTCHECK enum status file_pread(struct file *f, void *dst, size_t n, uint64_t off, struct err *e);
/* ST_INPUT "input-changed" when identity differs from the one at open, or a mapped page vanished.
 */
MUSTCHECK enum status file_check(struct file *f, struct err *e);
/* Descriptors open at this moment for one read each: they come back. */
int file_held(void);
/* readahead hint, never fails */
void file_advise(struct file *f, uint64_t off, uint64_t len);

/* A read-only view of [off, off+n). Mapped where the io mode and the host allow it (charged
 * to the memory ceiling), else read into a private buffer; so is a small one, for which a mapping
 * costs more than the copy, and a first touch draws the kernel's whole read-ahead. */
struct window {
    const uint8_t *p; /* n bytes */
    size_t n;
    uint64_t off;
    void *base_; /* private to base/file.c */
    size_t base_n_;
    bool mapped_;
    int slot_;
};
MUSTCHECK enum status window_open(struct file *f, uint64_t off, size_t n, struct window *w,
                                  struct err *e);
void window_close(struct window *w); /* zeroed windows allowed */
/* true when window_open would map (not read) ranges of this file */
bool file_maps(const struct file *f);

/* A folder the user named, and files named inside it by foreign data. */
struct dir;
MUSTCHECK enum status dir_open(const char *path, struct dir **out, struct err *e);
void dir_close(struct dir *d);
const char *dir_path(const struct dir *d);
/* Opens rel beneath the folder. rel is foreign: absolute, "..", empty parts, NUL are ST_INPUT
 * "path-escape". A symlink is followed only when its target is a regular file under the folder,
 * under a hub cache's sibling blobs/ folder or under a root added with dir_add_root; otherwise
 * ST_INPUT "path-escape" naming the target and --root. Hard links (nlink > 1) are a log_warn. */
MUSTCHECK enum status dir_file(struct dir *d, struct str rel, struct file **out, struct err *e);
/* A folder beneath it; symlinks on the way are not followed (ST_INPUT "path-escape"). */
MUSTCHECK enum status dir_sub(struct dir *d, struct str rel, struct dir **out, struct err *e);
void dir_add_root(const char *path); /* --root, set by cli before any open */
/* Names of regular files and folders directly inside, sorted bytewise, from the arena. */
struct dir_entry {
    struct str name;
    bool is_dir;
    uint64_t size;
};
MUSTCHECK enum status dir_list(struct dir *d, struct arena *a, struct dir_entry **out, size_t *n,
                               struct err *e);
/* What a path is, without opening it for reading. */
enum path_kind { PATH_NONE, PATH_FILE, PATH_DIR, PATH_OTHER };
enum path_kind path_kind(const char *path);
#endif
