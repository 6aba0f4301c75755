/* Archive: verify. Chunks are decoded and hashed on all threads; their digests are put together in
 * file order, so memory stays at a few buffers a thread.
 */
#include "base/mem.h"
#include "base/par.h"
#include "codec/tar.h"
#include "format/archive.h"
#include "format/archive_impl.h"
#include <string.h>

/* A run of chunks of one member: all of it, or of a shard its header or one tensor. */
struct run {
    size_t member;
    int64_t tensor;    /* -1: none */
    uint64_t tile;     /* of the tensor, the first */
    uint64_t frame;    /* of the first chunk */
    uint64_t bytes;    /* raw */
    uint64_t item;     /* number of the first chunk among all */
    bool begins, ends; /* the member */
    enum planes_kind kind;
};
struct slot {
    uint8_t *raw, *scratch;
    const uint8_t *stream;
    uint8_t leaf[4 * PLANES_CHUNK / SHA256_LEAF][32]; /* two-bit values unpack to four chunks */
    size_t n_leaves;
};
struct job {
    const struct model *m;
    const struct ar_map *x;
    struct run *run;
    size_t n_runs, cap;
    uint64_t n_items;
    struct slot *slot;
    struct sha256 tree, sum;
    uint8_t (*digest)[32]; /* of each member, where it is summed */
};

static uint64_t n_chunks(uint64_t bytes)
{
    return bytes / PLANES_CHUNK + (bytes % PLANES_CHUNK != 0);
}

static void add_run(struct job *j, struct run r)
{
    r.item = j->n_items;
    j->n_items += n_chunks(r.bytes);
    if (r.bytes > 0)
        j->run[j->n_runs++] = r;
}

static void list_runs(struct job *j)
{
    const struct ar_map *x = j->x;
    size_t at = 0;
    for (size_t i = 0; i < x->n_members; i++) {
        const struct ar_member *mb = &x->member[i];
        struct run r = {.member = i, .tensor = -1, .frame = mb->first, .bytes = mb->bytes};
        r.begins = r.ends = true;
        if (mb->what == AR_WEIGHT && !x->ar.plain) {
            r.tensor = mb->number;
            r.kind = x->ar.tensor[mb->number].kind;
            r.tile = mb->part * (AR_PART_BYTES / PLANES_CHUNK);
        } else if (mb->what == AR_WEIGHT) {
            r.bytes = x->ar.shard_head[mb->number];
            r.ends = false;
            add_run(j, r);
            r.begins = false;
            for (; at < x->n_order && x->ar.tensor[x->order[at]].member == mb->number; at++) {
                r.tensor = x->order[at];
                r.frame = x->first[r.tensor];
                r.bytes = x->ar.tensor[r.tensor].bytes;
                add_run(j, r);
            }
            j->run[j->n_runs - 1].ends = true;
            continue;
        }
        add_run(j, r);
    }
}

static const struct run *run_of(const struct job *j, uint64_t item)
{
    size_t lo = 0, hi = j->n_runs;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (j->run[mid].item <= item)
            lo = mid;
        else
            hi = mid;
    }
    return &j->run[lo];
}

static size_t chunk_bytes(const struct run *r, uint64_t chunk)
{
    uint64_t lo = chunk * PLANES_CHUNK;
    return r->bytes - lo < PLANES_CHUNK ? (size_t)(r->bytes - lo) : PLANES_CHUNK;
}

static void name_it(const struct job *j, const struct run *r, struct err *e)
{
    struct str name = r->tensor >= 0 ? j->m->tensor[r->tensor].name : j->x->member[r->member].name;
    err_in(e, name.p, name.n);
}

/* Digests count values below a byte one a byte, in its lowest bits; `each`: so do they lie in p. */
static size_t unpacked_leaves(enum dtype t, bool each, const uint8_t *p, size_t n,
                              uint8_t (*out)[32])
{
    unsigned bits = dtype_info(t)->bits, mask = (1u << bits) - 1, per_byte = each ? 1 : 8u / bits;
    size_t leaf = SHA256_LEAF / per_byte, n_leaves = 0;
    uint8_t wide[4096];
    for (size_t lo = 0; lo < n; lo += leaf, n_leaves++) {
        size_t hi = n - lo < leaf ? n : lo + leaf;
        struct sha256 s;
        sha256_begin(&s);
        for (size_t i = lo; i < hi;) {
            size_t w = 0;
            for (; i < hi && w + per_byte <= sizeof wide; i++)
                for (unsigned k = 0; k < per_byte; k++)
                    wide[w++] = (uint8_t)((unsigned)p[i] >> k * bits & mask);
            sha256_add(&s, wide, w);
        }
        sha256_end(&s, out[n_leaves]);
    }
    return n_leaves;
}

/* What lies above values of fewer than eight bits that stand one a byte is no part of them, nor of
 * their digest: it must be zero, else anything could be hidden there. */
static enum status no_stray_bits(const struct job *j, const struct run *r, const struct slot *s,
                                 size_t n, uint64_t frame, struct err *e)
{
    unsigned bits = dtype_info(j->m->tensor[r->tensor].dtype)->bits;
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= s->raw[i];
    if (any >> bits == 0)
        return ST_OK;
    (void)err_set(e, ST_NO, "stray-bits", "bits above the %u of each value are set", bits);
    err_at(e, file_path(j->x->fr.f), j->x->fr.off[frame]);
    name_it(j, r, e);
    return ST_NO;
}

static enum status body(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct job *j = ctx;
    struct slot *s = &j->slot[slot];
    const struct run *r = run_of(j, item);
    uint64_t chunk = item - r->item;
    size_t n = chunk_bytes(r, chunk);
    enum status st = ar_chunk_read(j->x, r->kind, r->frame + chunk * planes_info(r->kind)->width, n,
                                   s->raw, s->scratch, &s->stream, e);
    if (st != ST_OK) {
        name_it(j, r, e);
        return st;
    }
    if (r->tensor < 0)
        return ST_OK;
    enum dtype t = j->m->tensor[r->tensor].dtype;
    if (dtype_info(t)->bits < 8 && j->m->tensor[r->tensor].unpacked)
        TRY(no_stray_bits(j, r, s, n, r->frame + chunk * planes_info(r->kind)->width, e));
    s->n_leaves = (size_t)sha256_tree_n_leaves(n);
    if (dtype_info(t)->bits < 8)
        s->n_leaves = unpacked_leaves(t, j->m->tensor[r->tensor].unpacked, s->raw, n, s->leaf);
    else
        sha256_tree_leaves(s->raw, n, s->leaf);
    return ST_OK;
}

static enum status check_digest(const struct job *j, size_t tensor, const uint8_t digest[32],
                                struct err *e)
{
    const struct ar_map *x = j->x;
    if (memcmp(digest, x->ar.tensor[tensor].digest, 32) == 0)
        return ST_OK;
    (void)err_set(e, ST_NO, "digest", "the tensor's digest is not the one in the manifest");
    err_at(e, file_path(x->fr.f), x->fr.off[x->first[tensor]]);
    err_in(e, j->m->tensor[tensor].name.p, j->m->tensor[tensor].name.n);
    return ST_NO;
}

static enum status commit(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct job *j = ctx;
    struct slot *s = &j->slot[slot];
    const struct run *r = run_of(j, item);
    uint64_t chunk = item - r->item, last = n_chunks(r->bytes) - 1;
    size_t n = chunk_bytes(r, chunk);
    uint8_t digest[32];
    if (r->tensor >= 0) {
        uint64_t tile = r->tile + chunk, bytes = j->x->ar.tensor[r->tensor].bytes;
        uint64_t wide;
        if (!tensor_bytes(&j->m->tensor[r->tensor], &wide))
            return err_set(e, ST_BUG, "digest", "a tensor of more than 2^64 bytes");
        if (tile == 0)
            sha256_tree_begin(&j->tree, wide);
        sha256_tree_add(&j->tree, (const uint8_t(*)[32])s->leaf, s->n_leaves);
        if (tile == n_chunks(bytes) - 1) {
            sha256_tree_end(&j->tree, digest);
            TRY(check_digest(j, (size_t)r->tensor, digest, e));
        }
    }
    if (j->x->member[r->member].what == AR_WEIGHT && !j->x->ar.sums_full)
        return ST_OK;
    if (r->begins && chunk == 0)
        sha256_begin(&j->sum);
    sha256_add(&j->sum, s->stream, n);
    if (r->ends && chunk == last)
        sha256_end(&j->sum, j->digest[r->member]);
    return ST_OK;
}

static enum status compare_sums(const struct job *j, struct err *e)
{
    const struct ar_map *x = j->x;
    const struct ar_member *mb = &x->member[x->n_members - 1];
    struct buf want = BUF_INIT, got = BUF_INIT;
    char hex[65];
    for (size_t i = 0; i + 1 < x->n_members; i++) {
        if (x->member[i].what == AR_WEIGHT && !x->ar.sums_full)
            continue;
        sha256_hex(j->digest[i], hex);
        buf_z(&want, hex);
        buf_z(&want, "  ");
        buf_str(&want, x->member[i].name);
        buf_u8(&want, '\n');
    }
    enum status st = buf_ok(&want, e);
    if (st == ST_OK && mb->bytes == want.n) {
        if (!buf_reserve(&got, want.n + 1))
            st = err_nomem(e, want.n);
        if (st == ST_OK)
            st = ar_member_read(x, mb, got.p, j->slot[0].scratch, e);
    }
    if (st == ST_OK && (mb->bytes != want.n || memcmp(want.p, got.p, want.n) != 0)) {
        st = err_set(e, ST_NO, "sums", "SHA256SUMS does not list what the members hold");
        err_at(e, file_path(x->fr.f), x->fr.off[mb->head]);
        err_in(e, mb->name.p, mb->name.n);
    }
    buf_free(&want);
    buf_free(&got);
    return st;
}

/* What provenance.json says of the source's digest and of this model's must be so. */
static enum status check_origin(const struct job *j, struct err *e)
{
    const struct model *m = j->m;
    uint8_t id[32];
    if (!m->origin || !origin_has_id(m->origin))
        return ST_OK;
    uint8_t(*digest)[32] = mem_zalloc(m->n_tensors + 1, sizeof *digest);
    if (!digest)
        return err_nomem(e, m->n_tensors * sizeof *digest);
    for (size_t i = 0; i < m->n_tensors; i++)
        memcpy(digest[i], j->x->ar.tensor[i].digest, 32);
    enum status st = id_plain(m, NULL, (const uint8_t(*)[32])digest, id, e);
    mem_free(digest);
    TRY(st);
    bool same = memcmp(id, m->origin->id, sizeof id) == 0;
    if (same == (m->origin->tensors == ORIGIN_SAME))
        return ST_OK;
    (void)err_set(e, ST_NO, "source-id",
                  same ? "provenance.json calls changed what has the source's digest"
                       : "provenance.json calls these the source's tensors, of another digest");
    err_in(e, "provenance.json", strlen("provenance.json"));
    return ST_NO;
}

static enum status verify_all(struct job *j, int n_slots, struct err *e)
{
    const struct ar_map *x = j->x;
    uint8_t none[32];
    for (size_t i = 0; i < x->n_members; i++)
        sha256("", 0, j->digest[i]);
    sha256_tree("", 0, none);
    for (size_t i = 0; i < j->m->n_tensors; i++)
        if (x->ar.tensor[i].bytes == 0)
            TRY(check_digest(j, i, none, e));
    list_runs(j);
    struct par_job p = {
        .n_items = j->n_items, .n_slots = n_slots, .ctx = j, .body = body, .commit = commit};
    TRY(par_run(&p, e));
    TRY(compare_sums(j, e));
    return check_origin(j, e);
}

static enum status verify_map(const struct model *m, const struct ar_map *x, struct err *e)
{
    struct job j = {.m = m, .x = x};
    int n_slots = par_threads();
    size_t fetch = frames_scratch(&x->fr), scratch = ar_decoder_scratch();
    size_t each = PLANES_CHUNK + (scratch > fetch ? scratch : fetch) + 2 * AR_SCRATCH_ALIGN;
    each = (each + 4095) / 4096 * 4096;
    uint8_t *memory = NULL;
    uint64_t chunks = x->fr.raw[x->fr.n] / PLANES_CHUNK + 1;
    if ((uint64_t)n_slots > chunks)
        n_slots = (int)chunks;
    /* fewer threads where the memory allows no more */
    for (; n_slots > 0; n_slots = n_slots / 2) {
        memory = mem_pages(each * (size_t)n_slots);
        if (memory)
            break;
    }
    j.slot = mem_zalloc((size_t)n_slots + 1, sizeof *j.slot);
    j.run = mem_zalloc(x->n_members + m->n_tensors + 1, sizeof *j.run);
    j.digest = mem_zalloc(x->n_members + 1, sizeof *j.digest);
    enum status st = memory && j.slot && j.run && j.digest ? ST_OK : err_nomem(e, each);
    if (st == ST_OK) {
        for (int i = 0; i < n_slots; i++) {
            j.slot[i].raw = memory + each * (size_t)i;
            j.slot[i].scratch = ar_align(j.slot[i].raw + PLANES_CHUNK);
        }
        st = verify_all(&j, n_slots, e);
    }
    mem_free(j.digest);
    mem_free(j.run);
    mem_free(j.slot);
    if (memory)
        mem_pages_free(memory, each * (size_t)n_slots);
    return st;
}

static enum status verify_file(struct file *f, struct archive_facts *facts, struct err *e)
{
    struct source s = {.path = file_path(f), .file = f};
    struct model m;
    struct ar_map *x = NULL;
    s.head_n = file_size(f) < sizeof s.head ? (size_t)file_size(f) : sizeof s.head;
    TRY(file_pread(f, s.head, s.head_n, 0, e));
    if (ar_bid(&s) == 0) {
        (void)err_set(e, ST_INPUT, "unrecognised", "this is no archive of nnferry's");
        err_at(e, s.path, 0);
        return ST_INPUT;
    }
    model_init(&m);
    enum status st = ar_open(f, &m, &x, e);
    if (st == ST_OK)
        st = verify_map(&m, x, e);
    if (st == ST_OK)
        *facts = (struct archive_facts){.n_frames = x->fr.n,
                                        .n_members = x->n_members,
                                        .n_tensors = m.n_tensors,
                                        .stored_bytes = file_size(f),
                                        .raw_bytes = x->fr.raw[x->fr.n]};
    model_free(&m);
    if (st == ST_OK || st == ST_NO || (st == ST_INPUT && e->sys == 0)) {
        struct err changed;
        if (file_check(f, &changed) != ST_OK) { /* then nothing above means anything */
            *e = changed;
            return changed.status;
        }
    }
    if (st == ST_INPUT && e->sys == 0) /* recognised, and wrong: the answer is no */
        st = e->status = ST_NO;
    return st;
}

enum status archive_verify(const char *path, struct archive_facts *facts, struct err *e)
{
    struct file *f;
    TRY(file_open(path, &f, e));
    enum status st = verify_file(f, facts, e);
    file_close(f);
    return st;
}
