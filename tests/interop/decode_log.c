/* Counts what is decompressed, from outside: linked into a copy of the program whose calls of the
 * decompressors go through here (the linker's --wrap, see counted.mk). Nothing of nnferry's own
 * counting takes part.
 *
 * Each decoded piece is a line of the file that NNFERRY_DECODE_LOG names:
 *   KIND STORED_BYTES RAW_BYTES CRC32-OF-THE-STORED-BYTES-IN-HEX
 * KIND is inflate (a stream, from inflateInit2 to inflateEnd, as far as it was read), zstd (a
 * stream), blosc, snappy, hdf5 (a filtered chunk) or frame (one of the archive's frames, without
 * its raw size).
 */
#include "codec/blosc.h"
#include "codec/hdf5.h"
#include "codec/planes.h"
#include "codec/snappy.h"
#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_customMem */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define OPEN_MAX_STREAMS 256

struct open_stream {
    const void *key;
    uint32_t crc;
    unsigned long long stored, raw;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct open_stream open_now[OPEN_MAX_STREAMS];

static uint32_t sum(uint32_t crc, const void *p, size_t n)
{
    return (uint32_t)crc32_z(crc, p, n);
}

static void say(const char *kind, unsigned long long stored, unsigned long long raw, uint32_t crc)
{
    const char *path = getenv("NNFERRY_DECODE_LOG");
    char line[96];
    int n = snprintf(line, sizeof line, "%s %llu %llu %08x\n", kind, stored, raw, crc);
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (path && (fd < 0 || write(fd, line, (size_t)n) != n))
        abort();
    if (fd >= 0)
        (void)close(fd);
}

static struct open_stream *find(const void *key)
{
    for (size_t i = 0; i < OPEN_MAX_STREAMS; i++)
        if (open_now[i].key == key)
            return &open_now[i];
    return NULL;
}

static void stream_begin(const void *key)
{
    (void)pthread_mutex_lock(&lock);
    struct open_stream *s = find(NULL);
    if (!s)
        abort();
    *s = (struct open_stream){.key = key};
    (void)pthread_mutex_unlock(&lock);
}

static void stream_took(const void *key, const void *p, size_t stored, size_t raw)
{
    (void)pthread_mutex_lock(&lock);
    struct open_stream *s = find(key);
    if (!s)
        abort();
    s->crc = sum(s->crc, p, stored);
    s->stored += stored;
    s->raw += raw;
    (void)pthread_mutex_unlock(&lock);
}

static void stream_end(const void *key, const char *kind)
{
    (void)pthread_mutex_lock(&lock);
    struct open_stream *s = key ? find(key) : NULL;
    if (s) {
        if (s->stored)
            say(kind, s->stored, s->raw, s->crc);
        *s = (struct open_stream){0};
    }
    (void)pthread_mutex_unlock(&lock);
}

int __real_inflateInit2_(z_streamp z, int bits, const char *version, int size);
int __wrap_inflateInit2_(z_streamp z, int bits, const char *version, int size);
int __wrap_inflateInit2_(z_streamp z, int bits, const char *version, int size)
{
    int r = __real_inflateInit2_(z, bits, version, size);
    if (r == Z_OK)
        stream_begin(z);
    return r;
}

int __real_inflate(z_streamp z, int flush);
int __wrap_inflate(z_streamp z, int flush);
int __wrap_inflate(z_streamp z, int flush)
{
    const Bytef *at = z->next_in;
    uInt in = z->avail_in, out = z->avail_out;
    int r = __real_inflate(z, flush);
    stream_took(z, at, in - z->avail_in, out - z->avail_out);
    return r;
}

int __real_inflateEnd(z_streamp z);
int __wrap_inflateEnd(z_streamp z);
int __wrap_inflateEnd(z_streamp z)
{
    stream_end(z, "inflate");
    return __real_inflateEnd(z);
}

ZSTD_DCtx *__real_ZSTD_createDCtx_advanced(ZSTD_customMem door);
ZSTD_DCtx *__wrap_ZSTD_createDCtx_advanced(ZSTD_customMem door);
ZSTD_DCtx *__wrap_ZSTD_createDCtx_advanced(ZSTD_customMem door)
{
    ZSTD_DCtx *d = __real_ZSTD_createDCtx_advanced(door);
    if (d)
        stream_begin(d);
    return d;
}

size_t __real_ZSTD_decompressStream(ZSTD_DCtx *d, ZSTD_outBuffer *out, ZSTD_inBuffer *in);
size_t __wrap_ZSTD_decompressStream(ZSTD_DCtx *d, ZSTD_outBuffer *out, ZSTD_inBuffer *in);
size_t __wrap_ZSTD_decompressStream(ZSTD_DCtx *d, ZSTD_outBuffer *out, ZSTD_inBuffer *in)
{
    size_t from = in->pos, to = out->pos, r = __real_ZSTD_decompressStream(d, out, in);
    stream_took(d, (const char *)in->src + from, in->pos - from, out->pos - to);
    return r;
}

size_t __real_ZSTD_freeDCtx(ZSTD_DCtx *d);
size_t __wrap_ZSTD_freeDCtx(ZSTD_DCtx *d);
size_t __wrap_ZSTD_freeDCtx(ZSTD_DCtx *d)
{
    stream_end(d, "zstd");
    return __real_ZSTD_freeDCtx(d);
}

enum status __real_blosc_decode(const void *src, size_t stored, void *dst, size_t n, struct err *e);
enum status __wrap_blosc_decode(const void *src, size_t stored, void *dst, size_t n, struct err *e);
enum status __wrap_blosc_decode(const void *src, size_t stored, void *dst, size_t n, struct err *e)
{
    say("blosc", stored, n, sum(0, src, stored));
    return __real_blosc_decode(src, stored, dst, n, e);
}

enum status __real_snappy_decode(const uint8_t *p, size_t n, uint8_t *out, size_t out_n,
                                 struct err *e);
enum status __wrap_snappy_decode(const uint8_t *p, size_t n, uint8_t *out, size_t out_n,
                                 struct err *e);
enum status __wrap_snappy_decode(const uint8_t *p, size_t n, uint8_t *out, size_t out_n,
                                 struct err *e)
{
    say("snappy", n, out_n, sum(0, p, n));
    return __real_snappy_decode(p, n, out, out_n, e);
}

enum status __real_hdf5_unfilter(const struct hdf5_object *d, const struct hdf5_chunk *c, bool edge,
                                 void *dst, uint8_t *scratch, struct err *e);
enum status __wrap_hdf5_unfilter(const struct hdf5_object *d, const struct hdf5_chunk *c, bool edge,
                                 void *dst, uint8_t *scratch, struct err *e);
enum status __wrap_hdf5_unfilter(const struct hdf5_object *d, const struct hdf5_chunk *c, bool edge,
                                 void *dst, uint8_t *scratch, struct err *e)
{
    say("hdf5", c->stored, d->layout.chunk_bytes, sum(0, scratch, (size_t)c->stored));
    return __real_hdf5_unfilter(d, c, edge, dst, scratch, e);
}

static void frames(enum planes_kind k, const void *src, const size_t *size)
{
    const uint8_t *p = src;
    for (unsigned i = 0; i < planes_info(k)->width; p += size[i++])
        say("frame", size[i], 0, sum(0, p, size[i]));
}

enum status __real_planes_decode(enum planes_kind k, const void *src, const size_t size[PLANES_MAX],
                                 void *raw, size_t n, void *scratch, struct err *e);
enum status __wrap_planes_decode(enum planes_kind k, const void *src, const size_t size[PLANES_MAX],
                                 void *raw, size_t n, void *scratch, struct err *e);
enum status __wrap_planes_decode(enum planes_kind k, const void *src, const size_t size[PLANES_MAX],
                                 void *raw, size_t n, void *scratch, struct err *e)
{
    frames(k, src, size);
    return __real_planes_decode(k, src, size, raw, n, scratch, e);
}

enum status __real_planes_decode_all(enum planes_kind k, const void *src,
                                     const size_t size[PLANES_MAX], void *raw, size_t n,
                                     void *scratch, struct err *e);
enum status __wrap_planes_decode_all(enum planes_kind k, const void *src,
                                     const size_t size[PLANES_MAX], void *raw, size_t n,
                                     void *scratch, struct err *e);
enum status __wrap_planes_decode_all(enum planes_kind k, const void *src,
                                     const size_t size[PLANES_MAX], void *raw, size_t n,
                                     void *scratch, struct err *e)
{
    frames(k, src, size);
    return __real_planes_decode_all(k, src, size, raw, n, scratch, e);
}
