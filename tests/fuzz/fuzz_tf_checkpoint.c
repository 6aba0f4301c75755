/* Tensor bundles and checkpoints of version 1 around the checksums: the input says what stands in
 * the table, the sums are made to fit.
 *
 *   u8 mode; u16 n, n bytes of data; then for mode 0 (a bundle) and 1 (version 1) entries: u8 key
 *   bytes, u16 value bytes, key, value (those whose key does not ascend are left out); for mode 2
 *   and 3 the one data block itself, raw or compressed
 */
#include "codec/crc.h"
#include "codec/proto.h"
#include "codec/sstable.h"
#include "tests/fuzz/fuzz_format.h"
#include <fcntl.h>

static char folder[] = "/tmp/nnferry-fuzz-tf-XXXXXX";
static char index_path[64], data_path[64], one_path[64];

static void put(const char *path, const void *p, size_t n)
{
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || (n && write(fd, p, n) != (ssize_t)n) || close(fd) != 0)
        abort();
}

static void clean(void)
{
    unlink(index_path);
    unlink(data_path);
    unlink(one_path);
    rmdir(folder);
}

static void prepare(void)
{
    if (index_path[0])
        return;
    if (!mkdtemp(folder))
        abort();
    snprintf(index_path, sizeof index_path, "%s/P.index", folder);
    snprintf(data_path, sizeof data_path, "%s/P.data-00000-of-00001", folder);
    snprintf(one_path, sizeof one_path, "%s/m.ckpt", folder);
    atexit(clean);
}

static void entries(struct sstable_w *w, const uint8_t *p, size_t n)
{
    struct buf last = BUF_INIT;
    bool any = false;
    while (n >= 3) {
        size_t k = p[0], v = (size_t)p[1] | (size_t)p[2] << 8;
        if (k + v > n - 3)
            break;
        struct str key = {(const char *)p + 3, k};
        if (!any || str_cmp(buf_as_str(&last), key) < 0) {
            sstable_w_add(w, key, (struct str){(const char *)p + 3 + k, v});
            buf_clear(&last);
            buf_str(&last, key);
            any = true;
        }
        p += 3 + k + v;
        n -= 3 + k + v;
    }
    buf_free(&last);
}

/* A table whose one data block has these contents, whatever they are. */
static void around(struct buf *out, const uint8_t *p, size_t n, uint8_t kind)
{
    struct buf x = BUF_INIT, h = BUF_INIT;
    struct sstable_handle at[3];
    for (int i = 0; i < 3; i++) {
        buf_clear(&x);
        if (i == 0) {
            buf_bytes(&x, p, n);
        } else if (i == 1) {
            buf_bytes(&x, "\0\0\0\0\1\0\0\0", 8);
        } else {
            proto_w_varint(&h, at[0].at);
            proto_w_varint(&h, at[0].n);
            proto_w_varint(&x, 0);
            proto_w_varint(&x, 1);
            proto_w_varint(&x, h.n);
            buf_u8(&x, 0xff);
            buf_str(&x, buf_as_str(&h));
            buf_bytes(&x, "\0\0\0\0\1\0\0\0", 8);
        }
        at[i] = (struct sstable_handle){out->n, x.n};
        buf_u8(&x, i ? 0 : kind);
        buf_str(out, buf_as_str(&x));
        buf_u32(out, crc32c_mask(crc32c_update(0, x.p, x.n)));
    }
    buf_clear(&x);
    for (int i = 1; i < 3; i++) {
        proto_w_varint(&x, at[i].at);
        proto_w_varint(&x, at[i].n);
    }
    buf_fill(&x, 0, 40 - x.n);
    buf_u64(&x, SSTABLE_MAGIC);
    buf_str(out, buf_as_str(&x));
    buf_free(&x);
    buf_free(&h);
}

static void read_it(const char *path)
{
    struct model m;
    struct err e = {0};
    struct read_opt opt = {.quick = true};
    const struct format *found;
    model_init(&m);
    enum status st = format_open(path, format_find(STR("tf-checkpoint")), &opt, &m, &found, &e);
    if (st == ST_OK)
        for (size_t i = 0; i < m.n_storages; i++)
            fuzz_storage(&m.storage[i], &e);
    else if (st == ST_BUG || !e.code)
        abort();
    model_free(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    prepare();
    if (n < 3)
        return 0;
    int mode = data[0] & 3;
    size_t k = (size_t)data[1] | (size_t)data[2] << 8;
    if (k > n - 3)
        k = n - 3;
    put(data_path, data + 3, k);
    const char *path = mode == 1 ? one_path : index_path;
    struct sstable_w w = SSTABLE_W_INIT;
    if (mode < 2) {
        entries(&w, data + 3 + k, n - 3 - k);
        if (sstable_w_end(&w, NULL) != ST_OK)
            abort();
    } else {
        around(&w.out, data + 3 + k, n - 3 - k, (uint8_t)(mode - 2));
    }
    put(path, w.out.p, w.out.n);
    sstable_w_free(&w);
    read_it(path);
    return 0;
}
