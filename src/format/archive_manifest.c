/* Archive: manifest.json, canonical JSON on one line (keys sorted, no blanks, a newline at the
 * end).
 *
 *   {"attachments":[{"bytes","media_type","member","name"}...],
 *    "digest":"sha256-tree","format":"nnferry-archive","framework":TEXT,"layout":"planes"|"plain",
 *    "meta":[[KEY,VALUE]...],"provenance":BOOL,"shards":[BYTES BEFORE THE DATA...],
 *    "spelling":null or an object,"sums":"short"|"full",
 *    "tensors":[{"alias_of":null or NUMBER,"bytes","digest","dtype","member","name",
 *                "of":null or NUMBER,"offset","order","planes","requires_grad","role",
 *                "shape"}...],
 *    "tree":BOOL,"version":1}
 *
 * Reading expects every key in this order, and then writes the manifest again from what it
 * understood: one byte of difference is a refusal.
 * Refused: manifest-key (another key, a missing one), manifest-value (a value out of its range),
 * manifest-canonical (anything else), and what codec/json.h refuses.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/json.h"
#include "format/archive_impl.h"
#include <string.h>

#define VERSION 1

static void put_tensor(struct json_w *w, const struct model *m, const struct ar *ar, size_t i,
                       struct str member)
{
    const struct tensor *t = &m->tensor[i];
    const struct ar_tensor *x = &ar->tensor[i];
    char hex[65];
    json_w_object(w);
    json_w_key(w, STR("alias_of"));
    if (t->alias_of >= 0)
        json_w_i64(w, t->alias_of);
    else
        json_w_null(w);
    json_w_key(w, STR("bytes"));
    json_w_u64(w, x->bytes);
    json_w_key(w, STR("digest"));
    sha256_hex(x->digest, hex);
    json_w_str(w, str_from(hex));
    json_w_key(w, STR("dtype"));
    json_w_str(w, str_from(dtype_info(t->dtype)->name));
    json_w_key(w, STR("member"));
    json_w_str(w, member);
    json_w_key(w, STR("name"));
    json_w_str(w, t->name);
    json_w_key(w, STR("of"));
    if (t->of >= 0)
        json_w_i64(w, t->of);
    else
        json_w_null(w);
    json_w_key(w, STR("offset"));
    json_w_u64(w, x->at);
    json_w_key(w, STR("order"));
    json_w_u64(w, t->order);
    json_w_key(w, STR("planes"));
    json_w_str(w, str_from(planes_info(x->kind)->name));
    json_w_key(w, STR("requires_grad"));
    json_w_bool(w, t->requires_grad);
    json_w_key(w, STR("role"));
    json_w_str(w, str_from(role_name(t->role)));
    json_w_key(w, STR("shape"));
    json_w_array(w);
    for (size_t d = 0; d < t->n_dims; d++)
        json_w_u64(w, t->dim[d]);
    json_w_array_end(w);
    json_w_object_end(w);
}

static void put_lists(struct json_w *w, const struct model *m, const struct ar *ar)
{
    json_w_key(w, STR("attachments"));
    json_w_array(w);
    for (size_t i = 0; i < m->n_attachments; i++) {
        json_w_object(w);
        json_w_key(w, STR("bytes"));
        json_w_u64(w, m->attachment[i].n_bytes);
        json_w_key(w, STR("media_type"));
        json_w_str(w, m->attachment[i].media_type);
        json_w_key(w, STR("member"));
        json_w_str(w, ar->attach[i]);
        json_w_key(w, STR("name"));
        json_w_str(w, m->attachment[i].name);
        json_w_object_end(w);
    }
    json_w_array_end(w);
    json_w_key(w, STR("digest"));
    json_w_str(w, STR("sha256-tree"));
    json_w_key(w, STR("format"));
    json_w_str(w, STR("nnferry-archive"));
    json_w_key(w, STR("framework"));
    json_w_str(w, m->framework);
    json_w_key(w, STR("layout"));
    json_w_str(w, ar->plain ? STR("plain") : STR("planes"));
    json_w_key(w, STR("meta"));
    json_w_array(w);
    for (size_t i = 0; i < m->n_meta; i++) {
        json_w_array(w);
        json_w_str(w, m->meta[i].key);
        json_w_str(w, m->meta[i].value);
        json_w_array_end(w);
    }
    json_w_array_end(w);
}

/* What the manifest must be; pieces are compared as they are written, so that a second one never
 * stands in memory. */
struct twin {
    const uint8_t *p;
    size_t n, at;
    bool differs; /* from byte `at` on */
};

static void compare(struct twin *x, struct buf *b)
{
    if (!x || b->failed)
        return;
    size_t n = b->n < x->n - x->at ? b->n : x->n - x->at, i = 0;
    if (!x->differs && n > 0 && memcmp(b->p, x->p + x->at, n) == 0)
        i = n;
    while (!x->differs && i < n && b->p[i] == x->p[x->at + i])
        i++;
    x->differs |= i < b->n;
    x->at += i;
    buf_clear(b);
}

static enum status write_text(const struct model *m, const struct ar *ar, struct buf *b,
                              struct twin *x, struct err *e)
{
    struct json_w w;
    json_w_init(&w, b, 0);
    json_w_object(&w);
    put_lists(&w, m, ar);
    json_w_key(&w, STR("provenance"));
    json_w_bool(&w, ar->provenance);
    json_w_key(&w, STR("shards"));
    json_w_array(&w);
    for (uint32_t s = 0; s < ar->n_shards; s++)
        json_w_u64(&w, ar->shard_head[s]);
    json_w_array_end(&w);
    json_w_key(&w, STR("spelling"));
    compare(x, b);
    if (m->spelling.n > 0)
        json_w_raw(&w, m->spelling);
    else
        json_w_null(&w);
    json_w_key(&w, STR("sums"));
    json_w_str(&w, ar->sums_full ? STR("full") : STR("short"));
    json_w_key(&w, STR("tensors"));
    json_w_array(&w);
    struct arena a = ARENA_INIT;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct str member = ar_weight_name(&a, ar, &ar->tensor[i]);
        if (!member.p) {
            arena_free(&a);
            return err_nomem(e, 64);
        }
        put_tensor(&w, m, ar, i, member);
        compare(x, b);
        if (i % 1024 == 1023)
            arena_free(&a);
    }
    arena_free(&a);
    json_w_array_end(&w);
    json_w_key(&w, STR("tree"));
    json_w_bool(&w, m->tree != NULL);
    json_w_key(&w, STR("version"));
    json_w_u64(&w, VERSION);
    json_w_object_end(&w);
    buf_u8(b, '\n');
    compare(x, b);
    return buf_ok(b, e);
}

enum status ar_manifest_write(const struct model *m, const struct ar *ar, struct buf *b,
                              struct err *e)
{
    return write_text(m, ar, b, NULL, e);
}

/* ---- reading ---- */

struct reader {
    struct json j;
    const uint8_t *text;
    struct model *m;
    struct ar *ar;
    struct err *e;
};

static enum status bad(struct reader *r, const char *why)
{
    return json_fail(&r->j, r->e, "manifest-value", "%s", why);
}

static enum status key(struct reader *r, const char *want)
{
    TRY(json_expect(&r->j, JSON_KEY, want, r->e));
    if (!str_is(r->j.text, want))
        return json_fail(&r->j, r->e, "manifest-key", "key '%.*s' where '%s' belongs",
                         (int)(r->j.text.n < 60 ? r->j.text.n : 60), r->j.text.p, want);
    return ST_OK;
}

static enum status get_u64(struct reader *r, const char *k, uint64_t *out)
{
    TRY(key(r, k));
    TRY(json_expect(&r->j, JSON_NUMBER, k, r->e));
    return json_u64(&r->j, out) ? ST_OK : bad(r, "not a whole number of 64 bits");
}

static enum status get_bool(struct reader *r, const char *k, bool *out)
{
    TRY(key(r, k));
    TRY(json_expect(&r->j, JSON_BOOL, k, r->e));
    *out = r->j.truth;
    return ST_OK;
}

static enum status get_text(struct reader *r, const char *k, struct str *out)
{
    TRY(key(r, k));
    TRY(json_expect(&r->j, JSON_STRING, k, r->e));
    *out = arena_str(&r->m->arena, r->j.text.p, r->j.text.n);
    return out->p ? ST_OK : err_nomem(r->e, r->j.text.n);
}

/* one of two words; *second says which */
static enum status get_word(struct reader *r, const char *k, const char *a, const char *b,
                            bool *second)
{
    TRY(key(r, k));
    TRY(json_expect(&r->j, JSON_STRING, k, r->e));
    *second = str_is(r->j.text, b);
    return *second || str_is(r->j.text, a) ? ST_OK : bad(r, "a word of another version");
}

static enum status get_index(struct reader *r, const char *k, int64_t *out)
{
    TRY(key(r, k));
    TRY(json_next(&r->j, r->e));
    *out = -1;
    if (r->j.kind == JSON_NULL)
        return ST_OK;
    if (r->j.kind != JSON_NUMBER || !json_i64(&r->j, out) || *out < 0)
        return bad(r, "neither null nor the number of a tensor");
    return ST_OK;
}

/* Passes to the next element; *more is false at the array's end. */
static enum status element(struct reader *r, enum json_kind kind, bool *more)
{
    TRY(json_next(&r->j, r->e));
    *more = r->j.kind != JSON_ARRAY_END;
    return !*more || r->j.kind == kind ? ST_OK : bad(r, "an element of the wrong kind");
}

static enum status list(struct reader *r, const char *k)
{
    TRY(key(r, k));
    return json_expect(&r->j, JSON_ARRAY, k, r->e);
}

static enum status get_attachments(struct reader *r)
{
    struct attachment *at;
    struct str member;
    struct buf names = BUF_INIT; /* struct str */
    enum status st = list(r, "attachments");
    for (bool more = true; st == ST_OK;) {
        st = element(r, JSON_OBJECT, &more);
        if (st != ST_OK || !more)
            break;
        st = model_attach(r->m, &at, r->e);
        if (st == ST_OK)
            st = get_u64(r, "bytes", &at->n_bytes);
        if (st == ST_OK)
            st = get_text(r, "media_type", &at->media_type);
        if (st == ST_OK)
            st = get_text(r, "member", &member);
        if (st == ST_OK)
            st = get_text(r, "name", &at->name);
        if (st == ST_OK)
            st = json_expect(&r->j, JSON_OBJECT_END, "attachment", r->e);
        if (st != ST_OK)
            break;
        struct str want = ar_attach_name(&r->m->arena, at->name, r->m->n_attachments - 1);
        if (!str_eq(member, want))
            st = bad(r, "the member of an attachment is not the one its name gives");
        buf_bytes(&names, &want, sizeof want);
    }
    if (st == ST_OK)
        st = buf_ok(&names, r->e);
    if (st == ST_OK) {
        r->ar->attach = arena_alloc(&r->m->arena, names.n + 1, 1);
        if (!r->ar->attach)
            st = err_nomem(r->e, names.n);
        else if (names.n > 0)
            memcpy(r->ar->attach, names.p, names.n);
    }
    buf_free(&names);
    return st;
}

static enum status get_meta(struct reader *r)
{
    TRY(list(r, "meta"));
    for (bool more = true;;) {
        struct str kv[2];
        TRY(element(r, JSON_ARRAY, &more));
        if (!more)
            return ST_OK;
        for (int i = 0; i < 2; i++) {
            TRY(json_expect(&r->j, JSON_STRING, "meta", r->e));
            kv[i] = arena_str(&r->m->arena, r->j.text.p, r->j.text.n);
            if (!kv[i].p)
                return err_nomem(r->e, r->j.text.n);
        }
        TRY(json_expect(&r->j, JSON_ARRAY_END, "meta", r->e));
        TRY(model_meta_add(r->m, kv[0], kv[1], r->e));
    }
}

static enum status get_shards(struct reader *r)
{
    struct buf b = BUF_INIT; /* uint64_t */
    enum status st = list(r, "shards");
    for (bool more = true; st == ST_OK;) {
        uint64_t v;
        st = element(r, JSON_NUMBER, &more);
        if (st != ST_OK || !more)
            break;
        if (!json_u64(&r->j, &v) || v > (UINT64_C(1) << 32) || b.n >= 8 * 99999u)
            st = bad(r, "not the size of a header");
        buf_bytes(&b, &v, sizeof v);
    }
    if (st == ST_OK)
        st = buf_ok(&b, r->e);
    if (st == ST_OK) {
        r->ar->n_shards = (uint32_t)(b.n / sizeof(uint64_t));
        r->ar->shard_head = arena_alloc(&r->m->arena, b.n + 8, 1);
        if (!r->ar->shard_head)
            st = err_nomem(r->e, b.n);
        else if (b.n > 0)
            memcpy(r->ar->shard_head, b.p, b.n);
    }
    buf_free(&b);
    if (st == ST_OK && (r->ar->n_shards > 0) && !r->ar->plain)
        st = bad(r, "shards in an archive of planes");
    return st;
}

static enum status get_spelling(struct reader *r)
{
    TRY(key(r, "spelling"));
    TRY(json_next(&r->j, r->e));
    if (r->j.kind == JSON_NULL)
        return ST_OK;
    if (r->j.kind != JSON_OBJECT)
        return bad(r, "neither null nor an object");
    uint64_t lo = r->j.at;
    TRY(json_skip(&r->j, r->e));
    r->m->spelling =
        arena_str(&r->m->arena, (const char *)r->text + lo, (size_t)(r->j.at + 1 - lo));
    return r->m->spelling.p ? ST_OK : err_nomem(r->e, r->j.at - lo);
}

static enum status get_digest(struct reader *r, uint8_t out[32])
{
    char again[65];
    TRY(key(r, "digest"));
    TRY(json_expect(&r->j, JSON_STRING, "digest", r->e));
    memset(out, 0, 32);
    for (size_t i = 0; i < r->j.text.n && i < 64; i++) {
        char c = r->j.text.p[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
        out[i / 2] = (uint8_t)(out[i / 2] | v << (i % 2 ? 0 : 4));
    }
    sha256_hex(out, again);
    return str_is(r->j.text, again) ? ST_OK : bad(r, "not 64 lower-case hex digits");
}

static enum status get_shape(struct reader *r, struct tensor *t)
{
    uint64_t dim[VIEW_MAX_AXES];
    struct view v;
    size_t n = 0;
    TRY(list(r, "shape"));
    uint64_t at = r->j.at;
    for (bool more = true;;) {
        TRY(element(r, JSON_NUMBER, &more));
        if (!more)
            break;
        if (n == VIEW_MAX_AXES || !json_u64(&r->j, &dim[n++]))
            return bad(r, "too many axes, or an extent that is no whole number");
    }
    r->j.at = at;
    if (view_c(&v, dim, n, r->e) != ST_OK)
        return json_fail(&r->j, r->e, "shape-overflow", "the product of the shape is too large");
    return tensor_set_view(r->m, t, &v, r->e);
}

static enum status get_kind(struct reader *r, enum planes_kind *out)
{
    TRY(key(r, "planes"));
    TRY(json_expect(&r->j, JSON_STRING, "planes", r->e));
    for (int k = 0; k < PLANES_N; k++)
        if (str_is(r->j.text, planes_info((enum planes_kind)k)->name)) {
            *out = (enum planes_kind)k;
            return ST_OK;
        }
    return bad(r, "no such planes");
}

/* One tensor, behind its '{'; *x gets what the model has no place for. */
static enum status get_tensor(struct reader *r, struct ar_tensor *x, struct err *e)
{
    struct tensor *t;
    struct str member; /* valid until the next token */
    uint64_t at = r->j.at, span;
    TRY(model_tensor_add(r->m, &t, e));
    TRY(get_index(r, "alias_of", &t->alias_of));
    TRY(get_u64(r, "bytes", &x->bytes));
    TRY(get_digest(r, x->digest));
    TRY(key(r, "dtype"));
    TRY(json_expect(&r->j, JSON_STRING, "dtype", e));
    t->dtype = dtype_parse(r->j.text);
    if (t->dtype == DT_NONE)
        return json_fail(&r->j, e, "unknown-dtype", "no such dtype");
    TRY(key(r, "member"));
    TRY(json_expect(&r->j, JSON_STRING, "member", e));
    member = r->j.text;
    struct str number = str_sub(member, 8, 14);
    if (r->ar->plain)
        number = str_sub(member, 14, 19);
    else if (member.n > 14)
        number = str_sub(member, 8, member.n);
    /* the member's number; its name as a whole is compared when the manifest is written again */
    uint64_t v = 0;
    for (size_t i = 0; i < number.n && v < UINT32_MAX; i++)
        v = v * 10 + (uint64_t)((uint8_t)number.p[i] - '0');
    x->member = v > UINT32_MAX ? UINT32_MAX : (uint32_t)v - (r->ar->plain && v > 0 ? 1u : 0u);
    TRY(get_text(r, "name", &t->name));
    TRY(get_index(r, "of", &t->of));
    TRY(get_u64(r, "offset", &x->at));
    TRY(get_u64(r, "order", &t->order));
    TRY(get_kind(r, &x->kind));
    TRY(get_bool(r, "requires_grad", &t->requires_grad));
    TRY(key(r, "role"));
    TRY(json_expect(&r->j, JSON_STRING, "role", e));
    if (!role_parse(r->j.text, &t->role))
        return bad(r, "no such role");
    TRY(get_shape(r, t));
    t->offset = at;
    if (!ar_span(t->dtype, tensor_elems(t), r->ar->plain, &span, &t->unpacked) ||
        span != x->bytes || x->kind != ar_kind(t->dtype, x->bytes, r->ar->plain)) {
        (void)json_fail(&r->j, e, "manifest-value",
                        "dtype, shape, bytes and planes do not fit each other");
        err_in(e, t->name.p, t->name.n);
        return ST_INPUT;
    }
    return json_expect(&r->j, JSON_OBJECT_END, "tensor", e);
}

static enum status get_tensors(struct reader *r)
{
    struct buf b = BUF_INIT; /* struct ar_tensor */
    enum status st = list(r, "tensors");
    for (bool more = true; st == ST_OK;) {
        struct ar_tensor x = {0};
        st = element(r, JSON_OBJECT, &more);
        if (st != ST_OK || !more)
            break;
        st = get_tensor(r, &x, r->e);
        buf_bytes(&b, &x, sizeof x);
    }
    if (st == ST_OK)
        st = buf_ok(&b, r->e);
    if (st == ST_OK) {
        r->ar->tensor = arena_alloc(&r->m->arena, b.n + 1, 1);
        if (!r->ar->tensor)
            st = err_nomem(r->e, b.n);
        else if (b.n > 0)
            memcpy(r->ar->tensor, b.p, b.n);
    }
    buf_free(&b);
    return st;
}

/* Numbers that point at other tensors, and who owns which member. */
static enum status prove_tensors(struct reader *r)
{
    struct model *m = r->m;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        const struct ar_tensor *x = &r->ar->tensor[i];
        const char *why = NULL;
        if (t->of >= (int64_t)m->n_tensors || t->alias_of >= (int64_t)m->n_tensors) {
            why = "a number of a tensor that is not there";
        } else if (t->alias_of >= 0) {
            const struct tensor *o = &m->tensor[t->alias_of];
            const struct ar_tensor *y = &r->ar->tensor[t->alias_of];
            if (o->alias_of >= 0 || o->dtype != t->dtype || !kept_same(o->view, t->view) ||
                y->member != x->member || y->at != x->at || memcmp(y->digest, x->digest, 32) != 0)
                why = "an alias that differs from its target";
        } else if (!r->ar->plain && (x->member != i || x->at != 0)) {
            why = "a member that belongs to another tensor";
        } else if (r->ar->plain && x->member >= r->ar->n_shards) {
            why = "a shard that is not there";
        }
        if (why) {
            r->j.at = t->offset;
            (void)bad(r, why);
            err_in(r->e, t->name.p, t->name.n);
            return ST_INPUT;
        }
    }
    return ST_OK;
}

static enum status get_all(struct reader *r, bool *tree)
{
    bool ignored;
    uint64_t version;
    TRY(json_expect(&r->j, JSON_OBJECT, "manifest.json", r->e));
    TRY(get_attachments(r));
    TRY(get_word(r, "digest", "sha256-tree", "sha256-tree", &ignored));
    TRY(get_word(r, "format", "nnferry-archive", "nnferry-archive", &ignored));
    TRY(get_text(r, "framework", &r->m->framework));
    TRY(get_word(r, "layout", "planes", "plain", &r->ar->plain));
    TRY(get_meta(r));
    TRY(get_bool(r, "provenance", &r->ar->provenance));
    TRY(get_shards(r));
    TRY(get_spelling(r));
    TRY(get_word(r, "sums", "short", "full", &r->ar->sums_full));
    TRY(get_tensors(r));
    TRY(prove_tensors(r));
    TRY(get_bool(r, "tree", tree));
    TRY(get_u64(r, "version", &version));
    if (version != VERSION)
        return json_fail(&r->j, r->e, "manifest-version",
                         "version %llu; this program reads version %d", (unsigned long long)version,
                         VERSION);
    return json_expect(&r->j, JSON_OBJECT_END, "manifest.json", r->e);
}

enum status ar_manifest_read(const struct frames *fr, const uint8_t *p, size_t n, struct model *m,
                             struct ar *ar, bool *tree, struct err *e)
{
    struct cursor c;
    struct reader r = {.text = p, .m = m, .ar = ar, .e = e};
    struct buf again = BUF_INIT; /* a piece of it */
    struct twin twin = {.p = p, .n = n};
    uint64_t at = fr->off[fr->index];
    static struct node some; /* stands for a tree that is read later */
    cur_mem(&c, p, n, file_path(fr->f), at);
    json_init(&r.j, &c, n + 1);
    enum status st = get_all(&r, tree);
    if (st == ST_OK) {
        m->tree = *tree ? &some : NULL;
        st = write_text(m, ar, &again, &twin, e);
        m->tree = NULL;
    }
    if (st == ST_OK) {
        if (twin.differs || twin.at != n) {
            st = err_set(e, ST_INPUT, "manifest-canonical",
                         "the manifest is not what its content gives, from its byte %zu on",
                         twin.at);
            err_at(e, file_path(fr->f), at);
        }
    }
    buf_free(&again);
    json_free(&r.j);
    cur_close(&c);
    return st;
}
