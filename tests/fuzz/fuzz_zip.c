/* Any bytes as a zip: the reader must refuse or prove the archive; members must then decode to
 * their declared sizes or be refused. */
#include "codec/zip.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        abort();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct file *f = NULL;
    struct err e = {0};
    struct arena a = ARENA_INIT;
    struct zip z;
    if (file_open(path, &f, &e) == ST_OK && zip_read(f, &a, &z, &e) == ST_OK) {
        for (size_t i = 0; i < z.n; i++) {
            struct buf b = BUF_INIT;
            if (zip_load(&z, &z.entry[i], 1 << 20, &b, &e) == ST_OK && b.n != z.entry[i].raw)
                abort();
            buf_free(&b);
            if (zip_find(&z, z.entry[i].name) != &z.entry[i])
                abort();
        }
    }
    arena_free(&a);
    file_close(f);
    close(fd);
    return 0;
}
