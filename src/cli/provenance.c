/* See provenance.h. A file is hashed a stretch at a time, in parallel, its leaves joined in order.
 */
#include "cli/provenance.h"
#include "base/mem.h"
#include "base/par.h"
#include "cli/command.h"
#include "codec/json.h"
#include "codec/sha256.h"
#include <string.h>

#define STRETCH ((size_t)1 << 20) /* whole leaves */

struct stretch {
    uint8_t *data;
    uint8_t (*leaf)[32];
    size_t n;
};
struct hash {
    struct file *f;
    struct stretch *slot;
    struct sha256 tree;
};

static enum status leaves(void *ctx, uint64_t item, int slot, struct err *e)
{
    const struct hash *h = ctx;
    struct stretch *s = &h->slot[slot];
    uint64_t at = item * STRETCH, left = file_size(h->f) - at;
    s->n = left < STRETCH ? (size_t)left : STRETCH;
    TRY(file_pread(h->f, s->data, s->n, at, e));
    sha256_tree_leaves(s->data, s->n, s->leaf);
    return ST_OK;
}

static enum status join(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct hash *h = ctx;
    const struct stretch *s = &h->slot[slot];
    (void)item;
    (void)e;
    sha256_tree_add(&h->tree, (const uint8_t(*)[32])s->leaf, sha256_tree_n_leaves(s->n));
    return ST_OK;
}

static enum status hash_file(struct file *f, struct stretch *slot, int n_slots, uint8_t out[32],
                             struct err *e)
{
    struct hash h = {.f = f, .slot = slot};
    uint64_t n = file_size(f);
    struct par_job job = {.n_items = n / STRETCH + (n % STRETCH != 0),
                          .n_slots = n_slots,
                          .ctx = &h,
                          .body = leaves,
                          .commit = join};
    sha256_tree_begin(&h.tree, n);
    TRY(par_run(&job, e));
    sha256_tree_end(&h.tree, out);
    return ST_OK;
}

/* A file decoded into a spool stands behind the one it came from, under the same path. */
static bool told(const struct model *m, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(file_path(m->file[k]), file_path(m->file[i])) == 0)
            return true;
    return false;
}

static enum status one_file(struct json_w *w, struct file *f, struct stretch *slot, int n_slots,
                            struct err *e)
{
    struct str path = str_from(file_path(f));
    char hex[65];
    uint8_t sum[32];
    size_t base = path.n;
    while (base > 0 && path.p[base - 1] != '/')
        base--;
    TRY(hash_file(f, slot, n_slots, sum, e));
    for (size_t i = 0; i < 32; i++) {
        hex[2 * i] = "0123456789abcdef"[sum[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[sum[i] & 15];
    }
    hex[64] = 0;
    json_w_object(w);
    json_w_key(w, STR("bytes"));
    json_w_u64(w, file_size(f));
    json_w_key(w, STR("name"));
    json_w_str(w, str_sub(path, base, path.n));
    json_w_key(w, STR("sha256_tree"));
    json_w_str(w, str_from(hex));
    json_w_object_end(w);
    return ST_OK;
}

static enum status all_files(struct json_w *w, const struct model *m, struct err *e)
{
    const size_t n_leaves = (size_t)sha256_tree_n_leaves(STRETCH);
    const size_t bytes = STRETCH + 32 * n_leaves;
    int n = par_threads();
    struct stretch *slot = mem_zalloc((size_t)n, sizeof *slot);
    uint8_t *room = slot ? mem_pages(bytes * (size_t)n) : NULL;
    enum status st = room ? ST_OK : err_nomem(e, bytes * (size_t)n);
    for (int i = 0; i < n && st == ST_OK; i++) {
        slot[i].data = room + bytes * (size_t)i;
        slot[i].leaf = (uint8_t(*)[32])(void *)(slot[i].data + STRETCH);
    }
    for (size_t i = 0; i < m->n_files && st == ST_OK; i++)
        if (!told(m, i))
            st = one_file(w, m->file[i], slot, n, e);
    mem_pages_free(room, bytes * (size_t)n);
    mem_free(slot);
    return st;
}

enum status provenance_json(const struct model *m, const char *format, struct buf *out,
                            struct err *e)
{
    struct json_w w;
    json_w_init(&w, out, 0);
    json_w_object(&w);
    json_w_key(&w, STR("files"));
    json_w_array(&w);
    TRY(all_files(&w, m, e));
    json_w_array_end(&w);
    json_w_key(&w, STR("format"));
    json_w_str(&w, str_from(format));
    json_w_key(&w, STR("framework"));
    json_w_str(&w, str_from(recognised_framework(m)));
    json_w_key(&w, STR("writer"));
    json_w_str(&w, STR("nnferry " NNFERRY_VERSION));
    json_w_object_end(&w);
    buf_u8(out, 0);
    return buf_ok(out, e);
}
