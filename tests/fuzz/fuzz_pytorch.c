/* Any bytes as the pickle of a PyTorch file with a few storages: the reader must refuse it or give
 * a model whose tensors lie inside their storages. */
#include "codec/deflate.h"
#include "codec/zip.h"
#include "format/format.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern const struct format pytorch_format;

static void member(struct zip_writer *z, struct buf *out, struct str name, const void *p, size_t n)
{
    struct err e;
    size_t i;
    struct buf head = BUF_INIT;
    if (zip_add(z, name, ZIP_STORED, n, &i, &e) != ST_OK)
        abort();
    z->member[i].crc = crc32_update(0, p, n);
    zip_local(z, i, &head);
    buf_bytes(out, head.p, head.n);
    buf_bytes(out, p, n);
    buf_free(&head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t zeros[256];
    struct zip_writer z;
    struct buf b = BUF_INIT;
    zip_writer_init(&z);
    member(&z, &b, STR("a/data.pkl"), data, n);
    for (unsigned i = 0; i < 8; i++) {
        char name[16];
        snprintf(name, sizeof name, "a/data/%u", i);
        member(&z, &b, str_from(name), zeros, (size_t)4 << i / 2);
    }
    member(&z, &b, STR("a/version"), "3\n", 2);
    zip_tail(&z, &b);
    zip_writer_free(&z);
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (b.failed || fd < 0 || write(fd, b.p, b.n) != (ssize_t)b.n)
        abort();
    buf_free(&b);

    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct source s = {.path = path};
    struct err e = {0};
    struct model m;
    struct read_opt opt = {.quick = true};
    struct write_opt wo = {0};
    model_init(&m);
    if (file_open(path, &s.file, &e) == ST_OK) {
        s.head_n = file_size(s.file) < sizeof s.head ? (size_t)file_size(s.file) : sizeof s.head;
        if (file_pread(s.file, s.head, s.head_n, 0, &e) == ST_OK && pytorch_format.bid(&s) > 0 &&
            pytorch_format.read(&s, &opt, &m, &e) == ST_OK) {
            for (size_t i = 0; i < m.n_tensors; i++) {
                const struct tensor *t = &m.tensor[i];
                int64_t lo, hi;
                uint64_t bytes = 0;
                kept_bounds(t->view, &lo, &hi);
                if (lo < 0 || !dtype_span(t->dtype, (uint64_t)hi + (uint64_t)hi % 2, &bytes) ||
                    (hi > lo && bytes > m.storage[t->storage].raw_bytes))
                    abort();
            }
            (void)!pytorch_format.check(&m, &wo, &e);
        }
        if (s.file)
            file_close(s.file);
    }
    model_free(&m);
    close(fd);
    return 0;
}
