/* Any bytes as an OCDBT store: two bytes say how long the manifest is, the rest is the one data
 * file. Sums are not checked here. Every key and value that comes out must be readable.
 */
#include "codec/ocdbt.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static enum status open_data(void *ctx, struct str path, struct file **out, struct err *e)
{
    *out = ctx;
    return path.n ? ST_OK : err_set(e, ST_INPUT, "path-escape", "no path");
}

static enum status each(void *ctx, const struct ocdbt_value *v, struct err *e)
{
    unsigned sum = 0;
    uint8_t last;
    (void)ctx;
    for (size_t i = 0; i < v->key.n; i++)
        sum += (uint8_t)v->key.p[i];
    for (size_t i = 0; i < v->bytes.n; i++)
        sum += (uint8_t)v->bytes.p[i];
    if (v->file && v->length &&
        file_pread(v->file, &last, 1, v->offset + v->length - 1, e) != ST_OK)
        abort();
    return sum == 0xfffffffe ? ST_BUG : ST_OK;
}

static struct file *file_of(const uint8_t *p, size_t n, const char *name)
{
    struct file *f;
    struct err e;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, p, n) != (ssize_t)n || file_adopt(fd, name, &f, &e) != ST_OK)
        abort();
    return f;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    size_t first = data[0] | (size_t)data[1] << 8;
    first = first < n - 2 ? first : n - 2;
    struct file *manifest = file_of(data + 2, first, "manifest");
    struct file *rest = file_of(data + 2 + first, n - 2 - first, "data");
    struct ocdbt o = {open_data, each, rest};
    struct err e = {0};
    bool numbered;
    enum status st = ocdbt_read(&o, manifest, &numbered, &e);
    if (st == ST_BUG || (st != ST_OK && !e.code))
        abort();
    file_close(manifest);
    file_close(rest);
    return 0;
}
