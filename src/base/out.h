/* The door to output files, and publishing. A target is one file or one folder. Everything is
 * written under a unique temporary name beside it (.DST.nnferry-HOST-PID-BOOT), fsynced, and
 * renamed in one step by out_publish; until then the name holds what it held before. Dead
 * temporaries of this host are removed by the next run, live ones never.
 */
#ifndef BASE_OUT_H
#define BASE_OUT_H
#include "base/err.h"
#include "base/file.h"
#include "base/str.h"

struct out;

struct out_opt {
    bool force;  /* replace an existing target (-f) */
    bool is_dir; /* target is a folder of files */
};
/* Begins a transaction for the path. ST_OUTPUT "exists" without force. Fails before any work where
 * a folder must be exchanged and the file system cannot. */
MUSTCHECK enum status out_begin(const char *target, const struct out_opt *opt, struct out **out,
                                struct err *e);
/* ST_INPUT "output-is-input" when f is what the target names. Call for every input. */
MUSTCHECK enum status out_not_input(const struct out *o, const struct file *f, struct err *e);
/* Adds a file; rel is "" for a single-file target. size is the expected size in bytes (preallocated
 * where the file system can; 0 = unknown; OUT_GROWS = unknown, and out_truncate will tell at last:
 * room is taken ahead of what is written). *id numbers files from 0. */
#define OUT_GROWS UINT64_MAX
MUSTCHECK enum status out_add(struct out *o, struct str rel, uint64_t size, int *id, struct err *e);
/* Thread-safe. Retries EINTR and short writes. ENOSPC and the like: ST_OUTPUT with path and errno.
 */
MUSTCHECK enum status out_pwrite(struct out *o, int id, const void *p, size_t n, uint64_t off,
                                 struct err *e);
/* Thread-safe. Reads what out_pwrite wrote; ST_OUTPUT "readback" where it is not all there. */
MUSTCHECK enum status out_pread(struct out *o, int id, void *p, size_t n, uint64_t off,
                                struct err *e);
/* Whether writes from several threads only wait for each other: all go to one file of a local file
 * system, whose kernel locks it. */
bool out_one_writer(const struct out *o);
MUSTCHECK enum status out_truncate(struct out *o, int id, uint64_t size, struct err *e);
/* Starts the write-back of what is left of what was written. A hint: out_sync reports errors. */
void out_write_back(struct out *o);
/* fsync of every file and of the temporary folder. */
MUSTCHECK enum status out_sync(struct out *o, struct err *e);
/* Begins out_sync on a thread of its own, so that what is written can be read back meanwhile.
 * Nothing may be added or written afterwards. out_sync, else out_publish, waits for it and fails
 * where it failed; where no thread can be had they do all of it. */
void out_sync_begin(struct out *o);
/* The temporary path of the target (file or folder), for reading back; the final name is put in
 * messages by the caller. */
const char *out_temp_path(const struct out *o);
const char *out_target(const struct out *o);
/* Renames into place and fsyncs the containing folder. */
MUSTCHECK enum status out_publish(struct out *o, struct err *e);
/* Frees; removes temporaries when out_publish did not succeed. NULL allowed. */
void out_end(struct out *o);

/* An unlinked temporary for spooling (in --tmpdir, else the target's folder). Thread-safe I/O. */
struct spool;
void spool_set_dir(const char *path); /* --tmpdir; NULL = target's folder */
MUSTCHECK enum status spool_open(const char *beside, struct spool **out, struct err *e);
MUSTCHECK enum status spool_pwrite(struct spool *s, const void *p, size_t n, uint64_t off,
                                   struct err *e);
MUSTCHECK enum status spool_pread(struct spool *s, void *p, size_t n, uint64_t off, struct err *e);
/* What was spooled as an input file of its own, which outlives the spool; path is for messages. */
MUSTCHECK enum status spool_file(struct spool *s, const char *path, struct file **out,
                                 struct err *e);
void spool_close(struct spool *s);
#endif
