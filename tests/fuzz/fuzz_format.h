/* Any bytes as a file of one format: the reader must refuse them with a code, or make a model whose
 * every storage can be read or is refused while reading, and which is mapped to another framework,
 * with itself as a skeleton too, or refused with a code.
 */
#ifndef TESTS_FUZZ_FUZZ_FORMAT_H
#define TESTS_FUZZ_FUZZ_FORMAT_H
#include "convert/map.h"
#include "format/format.h"
#include "framework/framework.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define FUZZ_RAW_MAX ((uint64_t)4 << 20)

static inline void fuzz_stream(const struct storage *s, uint8_t *raw, struct err *e)
{
    void *state;
    uint64_t at = 0;
    if (s->dec->open(s, &state, e) != ST_OK)
        return;
    for (;;) {
        size_t n = (size_t)(s->raw_bytes - at) + 1;
        if (s->dec->read(s, state, raw + at, &n, e) != ST_OK || n == 0)
            break;
        at += n;
        if (at > s->raw_bytes)
            abort();
    }
    s->dec->close(s, state);
}

/* Boxes lie inside the array and decode to what they hold. */
static inline void fuzz_grid(const struct storage *s, struct err *e)
{
    const struct tile_grid *g = s->grid;
    if (s->tile_bytes > FUZZ_RAW_MAX)
        return;
    uint8_t *raw = malloc((size_t)s->tile_bytes + 1), *scratch = malloc(s->scratch_bytes + 1);
    if (!raw || !scratch)
        abort();
    for (uint64_t t = 0; t < s->n_tiles; t++) {
        uint64_t lo[64], n[64], held[64], bytes = g->elem_bytes;
        if (g->where(s, t, lo, n, held, e) != ST_OK)
            break;
        for (unsigned d = 0; d < g->n_dims; d++) {
            if (n[d] > held[d] || lo[d] > g->dim[d] || n[d] > g->dim[d] - lo[d])
                abort();
            bytes *= held[d];
        }
        if (bytes > s->tile_bytes)
            abort();
        if (s->dec->tile(s, t, raw, scratch, e) != ST_OK)
            break;
    }
    free(scratch);
    free(raw);
}

static inline void fuzz_storage(const struct storage *s, struct err *e)
{
    if (s->kind == STORAGE_TILED && s->grid) {
        fuzz_grid(s, e);
        return;
    }
    if (s->raw_bytes > FUZZ_RAW_MAX)
        return;
    uint8_t *raw = malloc((size_t)s->raw_bytes + 1), *scratch = malloc(s->scratch_bytes + 1);
    if (!raw || !scratch)
        abort();
    if (s->kind == STORAGE_FLAT && s->raw_bytes &&
        file_pread(s->file, raw, (size_t)s->raw_bytes, s->offset, e) != ST_OK)
        abort(); /* model_finish has proved the range */
    for (uint64_t t = 0; s->kind == STORAGE_TILED && t < s->n_tiles; t++)
        if (s->dec->tile(s, t, raw + t * s->tile_bytes, scratch, e) != ST_OK)
            break;
    if (s->kind == STORAGE_STREAM)
        fuzz_stream(s, raw, e);
    free(scratch);
    free(raw);
}

/* To one framework, which the names choose. */
static inline void fuzz_map(const struct model *m)
{
    size_t pick = m->n_tensors;
    for (size_t i = 0; i < m->n_tensors; i++)
        for (size_t k = 0; k < m->tensor[i].name.n; k++)
            pick = pick * 31 + (uint8_t)m->tensor[i].name.p[k];
    struct map_opt o = {.to = frameworks[pick % n_frameworks]->name};
    for (int like = 0; like < 2; like++) {
        struct plan p;
        struct err e = {0};
        struct buf asked = BUF_INIT;
        o.like = like ? m : NULL;
        plan_init(&p, m);
        enum status st = map_plan(&p, &o, NULL, UINT64_MAX, &asked, &e);
        if (st == ST_BUG || (st != ST_OK && !e.code))
            abort();
        buf_free(&asked);
        plan_free(&p);
    }
}

static inline int fuzz_path(const char *name, const char *path)
{
    struct model m;
    struct err e = {0};
    struct read_opt opt = {0};
    const struct format *found;
    model_init(&m);
    enum status st = format_open(path, format_find(str_from(name)), &opt, &m, &found, &e);
    if (st == ST_OK) {
        for (size_t i = 0; i < m.n_storages; i++)
            fuzz_storage(&m.storage[i], &e);
        fuzz_map(&m);
    } else if (st == ST_BUG || !e.code)
        abort();
    model_free(&m);
    return 0;
}

static inline int fuzz_format(const char *name, const uint8_t *data, size_t n)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        abort();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int r = fuzz_path(name, path);
    close(fd);
    return r;
}
#endif
