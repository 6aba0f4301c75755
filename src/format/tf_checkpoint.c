/* TensorFlow checkpoints: tensor bundles (version 2), and version 1, which is read only.
 *
 *   P.index                 a sorted string table (codec/sstable.h)
 *     key ""                BundleHeaderProto {1 num_shards, 2 endianness (1: big), 3 version}
 *     other keys            BundleEntryProto {1 dtype, 2 shape, 3 shard, 4 offset, 5 size,
 *                           6 masked crc32c (fixed32), 7 slice ...}
 *   P.data-00000-of-00002   the tensors' bytes
 *   P.meta                  a graph (attached); checkpoint: a text that names P (left)
 *
 * The user names P.index, P, or the folder. A tensor with slices has no bytes of its own: each
 * slice is an entry under a key in ordered code (tf_type.c); they are put together. Sub-byte types
 * lie one value a byte. String tensors are attachments (tf_strings.c); an object graph gives the
 * slots of optimizers their variables (tf_graph.c) and travels along as tensorflow/object_graph.pb.
 * Version 1: tf_v1.c. Names: tf.h. Roles: model/roles.h.
 * Source: core/util/tensor_bundle/tensor_bundle.cc, core/protobuf/tensor_bundle.proto.
 *
 * Written as a folder: ckpt.data-00000-of-00001, ckpt.index and the text `checkpoint`, so that
 * tf.train.load_checkpoint, list_variables and Saver.restore take DIR/ckpt; with an object graph
 * that came along tf.train.Checkpoint restores it too. --max-shard-size cuts the data file.
 *
 * Refused beside what the table and the messages refuse: tf-header, tf-version, tf-shard, tf-shape,
 * tf-slice, tf-slices, tf-overlap, tf-string, tf-sum, tf-graph, tf-values, unknown-dtype
 * (resources, variants within slices, float8_e4m3b11fnuz), shape-overflow, size-mismatch,
 * truncated, too-many-tensors.
 */
#include "base/mem.h"
#include "codec/sstable.h"
#include "format/attach.h"
#include "format/tf_nodes.h"
#include <string.h>

#define STEM "ckpt"

static int bid(const struct source *s)
{
    if (s->dir)
        return 0;
    bool named = str_ends(str_from(s->path), STR(".index"));
    /* the first entry's key is empty, its value begins with field 1 */
    bool first = s->head_n >= 4 && s->head[0] == 0 && s->head[1] == 0;
    if (!sstable_is(s->file))
        return !named ? 0 : first ? 25 : 1;
    return first ? 95 : named ? 80 : 40;
}

/* A shard's name without its number: "NAME-00001-of-00003". */
static bool shards(struct str a, struct str b)
{
    struct str tail = a.n > 15 ? str_sub(a, a.n - 15, a.n) : STR_NONE;
    if (tail.n != 15 || tail.p[0] != '-' || !str_eq(str_sub(tail, 6, 10), STR("-of-")))
        return false;
    return b.n == 0 || (b.n == a.n && str_eq(str_sub(a, 0, a.n - 14), str_sub(b, 0, b.n - 14)) &&
                        str_eq(str_sub(a, a.n - 9, a.n), str_sub(b, b.n - 9, b.n)));
}

static bool companion(struct str set, struct str name)
{
    if (!str_ends(set, STR(".index")))
        return shards(set, name);
    struct str stem = str_sub(set, 0, set.n - 6);
    return name.n == 0 || str_is(name, "checkpoint") ||
           (str_starts(name, stem) && str_starts(str_sub(name, stem.n, name.n), STR(".data-")));
}

/* ---- reading ---- */

/* Is the table one of version 1? Its first value begins with a message, a bundle's with a number.
 */
static enum status is_v1(struct file *f, bool *v1, struct err *e)
{
    struct sstable t;
    bool more = false;
    enum status st = sstable_open(&t, f, e);
    if (st == ST_OK)
        st = sstable_next(&t, &more, e);
    *v1 = st == ST_OK && more && t.key.n == 0 && t.value.n && t.value.p[0] == 0x0a;
    sstable_close(&t);
    return st;
}

/* P.meta beside P.index, where there is one. */
static enum status attach_meta(struct dir *dir, struct str stem, const struct read_opt *opt,
                               struct model *m, struct err *e)
{
    struct str name = arena_fmt(&m->arena, "%.*s.meta", STR_ARG(stem));
    struct str path = arena_fmt(&m->arena, "%s/%.*s", dir_path(dir), STR_ARG(name));
    struct attachment *at;
    struct file *f;
    if (!name.p || !path.p)
        return err_nomem(e, stem.n);
    if (path_kind(path.p) != PATH_FILE)
        return ST_OK;
    TRY(dir_file(dir, name, &f, e));
    TRY(model_own_file(m, f, e));
    if (opt->scan)
        TRY(tf_meta_scan(f, opt, e));
    TRY(model_attach(m, &at, e));
    *at = (struct attachment){.name = name,
                              .media_type = STR("application/x-protobuf"),
                              .file = f,
                              .n_bytes = file_size(f)};
    return ST_OK;
}

static enum status read_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    struct str path = str_from(s->path), folder;
    struct dir *dir;
    bool v1;
    size_t lo = path.n;
    m->format = "tf-checkpoint";
    TRY(is_v1(s->file, &v1, e));
    while (lo > 0 && path.p[lo - 1] != '/')
        lo--;
    folder = lo == 0 ? STR(".") : arena_str(&m->arena, path.p, lo > 1 ? lo - 1 : 1);
    if (!folder.p)
        return err_nomem(e, lo);
    struct str base = str_sub(path, lo, path.n), stem = base;
    if (str_ends(base, STR(".index")))
        stem.n -= 6;
    TRY(dir_open(folder.p, &dir, e));
    struct file *f = s->file;
    s->file = NULL;
    enum status st =
        v1 ? tf_v1_read(dir, base, f, opt, m, e) : tf_bundle_read(dir, stem, f, opt, m, e);
    if (st == ST_OK && !opt->weights_only)
        st = attach_meta(dir, stem, opt, m, e);
    dir_close(dir);
    return st;
}

/* ---- writing ---- */

static bool is_file(struct str name)
{
    return !str_starts(name, STR(TF_STRINGS)) && !str_is(name, TF_GRAPH_NAME);
}

static enum status check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    static const struct str taken[] = {{STEM ".index", 10}, {"checkpoint", 10}};
    TRY(attach_check_some(m, is_file, taken, 2, e));
    for (size_t i = 0; i < m->n_attachments; i++)
        if (str_starts(m->attachment[i].name, STR(STEM ".data-"))) {
            (void)err_set(e, ST_CANNOT, "attachment-name", "an attachment has a data file's name");
            err_in(e, m->attachment[i].name.p, m->attachment[i].name.n);
            return ST_CANNOT;
        }
    return tf_bundle_check(m, opt, e);
}

static enum status begin(struct writer *w, struct err *e)
{
    return tf_bundle_begin(w, STR(STEM), e);
}

static enum status end(struct writer *w, struct err *e)
{
    static const char text[] = "model_checkpoint_path: \"" STEM "\"\n"
                               "all_model_checkpoint_paths: \"" STEM "\"\n";
    int id;
    TRY(attach_write_some(w, is_file, e));
    TRY(out_add(w->out, STR("checkpoint"), sizeof text - 1, &id, e));
    TRY(out_pwrite(w->out, id, text, sizeof text - 1, 0, e));
    return tf_bundle_end(w, e);
}

const struct format tf_checkpoint_format = {
    .name = "tf-checkpoint",
    .title = "TensorFlow checkpoint: .index and data files; version 1 read",
    .suffix = {".tf-checkpoint", NULL},
    .reads = true,
    .writes = true,
    .dir_target = true,
    .dir_only = true,
    .framework = "tensorflow",
    .refuses = "checksums that do not fit, keys out of order, entries that overlap or reach past "
               "their shard, slices that overlap or leave gaps, sizes that disagree with shape and "
               "type, resources, unknown types",
    .bid = bid,
    .companion = companion,
    .read = read_file,
    .check = check,
    .begin = begin,
    .end = end,
};
