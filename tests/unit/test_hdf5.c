/* HDF5 and Keras: goldens of h5py, tf-keras and Keras 3, truncation, damaged bytes, the writer. */
#include "codec/hdf5_int.h"
#include "format/keras_config.h"
#include "model/roles.h"
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/unit/truncate.h"

static const struct {
    const char *folder, *suffix;
} sets[] = {{"tests/golden/h5py", ".h5"},          {"tests/golden/keras-2.12", ".h5"},
            {"tests/golden/keras-2.12", ".keras"}, {"tests/golden/keras", ".h5"},
            {"tests/golden/keras", ".keras"},      {"tests/golden/tf-keras", ".h5"},
            {"tests/golden/tf-keras", ".keras"}};

static const char *format_of(const char *path)
{
    struct str s = str_from(path);
    return str_ends(s, STR(".keras"))                                    ? "keras"
           : str_ends(s, STR("whole.h5")) || str_ends(s, STR("only.h5")) ? "keras-h5"
                                                                         : "keras-weights";
}

static void each_golden(void (*run)(const char *path, const char *format))
{
    for (size_t k = 0; k < sizeof sets / sizeof *sets; k++) {
        size_t n;
        char **list = golden_list(sets[k].folder, sets[k].suffix, &n);
        assert_true(n >= 1);
        for (size_t i = 0; i < n; i++)
            run(list[i], format_of(list[i]));
        golden_list_free(list, n);
    }
}

static void goldens(void **state)
{
    (void)state;
    each_golden(golden_check);
}

/* No list of names at all: the reader of lists has nothing to look through. */
static void no_lists(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(open_once("tests/golden/h5py/user_block.h5", format_find(STR("keras-h5")), &e),
                     ST_OK);
}

/* The smaller ones at every length; what the larger ones are made of stands in these too, so that
 * they are cut at some. */
static void cut(const char *path, const char *format)
{
    size_t n;
    free(get_file(path, &n));
    truncate_some(path, format, NULL, n < 7000 ? 1 : 31);
}

static void truncation(void **state)
{
    (void)state;
    each_golden(cut);
}

static char temp[] = "/tmp/nnferry-hdf5-XXXXXX";

/* Reads what can be read of a file: a refusal with a code, or all of its tensors or refusals. */
static void read_all(const char *path, const struct format *f)
{
    struct model m;
    struct read_opt opt = {0};
    const struct format *found;
    struct err e = {0};
    model_init(&m);
    enum status st = format_open(path, f, &opt, &m, &found, &e);
    if (st != ST_OK && (st == ST_BUG || !e.code))
        fail_msg("status %d, code %s", (int)st, e.code ? e.code : "none");
    for (size_t i = 0; st == ST_OK && i < m.n_tensors; i++) {
        size_t n;
        uint64_t bytes;
        if (!tensor_bytes(&m.tensor[i], &bytes) || bytes > 1 << 20)
            continue;
        free(eager_read(&m, i, &n, &e));
    }
    model_free(&m);
}

static void flip(const char *path, const char *format)
{
    size_t n;
    uint8_t *p = get_file(path, &n);
    static const uint8_t with[] = {0xff, 0x01, 0x80};
    for (size_t i = 0; i < n; i++) {
        if (i + 8 < n && memcmp(p + i, "\0\0\0\0\0\0\0\0", 8) == 0)
            continue; /* most of an old group */
        uint8_t mask = with[i % 3];
        p[i] ^= mask;
        put_file(temp, p, n);
        read_all(temp, format_find(str_from(format)));
        p[i] ^= mask;
    }
    free(p);
}

static void damaged(void **state)
{
    (void)state;
    flip("tests/golden/h5py/links_earliest.h5", "keras-weights");
    flip("tests/golden/h5py/chunks_latest.h5", "keras-weights");
    flip("tests/golden/h5py/filters_latest.h5", "keras-weights");
    flip("tests/golden/h5py/resized_latest.h5", "keras-weights");
    flip("tests/golden/tf-keras/only.h5", "keras-h5");
}

/* Other files and things we do not read: made by h5py. */
static void refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"soft", "hdf5-link"},       {"external", "hdf5-link"}, {"storage", "hdf5-external"},
        {"virtual", "hdf5-virtual"}, {"text", "hdf5-dtype"},    {"scaleoffset", "hdf5-filter"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char path[64];
        struct err e;
        snprintf(path, sizeof path, "tests/golden/h5py-refused/%s.h5", bad[i][0]);
        assert_int_equal(open_once(path, NULL, &e), ST_INPUT);
        assert_string_equal(e.code, bad[i][1]);
        assert_true(e.has_offset);
    }
}

/* ---- scan ---- */

struct heard {
    char text[4000];
};

static void on_finding(void *ctx, bool unsafe, const char *code, uint64_t offset, const char *text)
{
    struct heard *h = ctx;
    size_t n = strlen(h->text);
    (void)offset;
    snprintf(h->text + n, sizeof h->text - n, "%s %s %s\n", unsafe ? "unsafe" : "note", code, text);
}

static void scanned(void **state)
{
    (void)state;
    static const struct {
        const char *config, *want;
    } list[] = {
        {"{\"module\": \"keras.layers\", \"class_name\": \"Dense\", \"config\": {\"a\": [1]}}", ""},
        {"{\"module\": \"os\", \"class_name\": \"system\"}", "unsafe keras-module"},
        {"{\"a\": [{\"module\": \"keras_evil.x\"}]}", "unsafe keras-module"},
        {"{\"class_name\": \"Lambda\", \"config\": {}}", "unsafe keras-lambda"},
        {"{\"class_name\": \"__lambda__\"}", "unsafe keras-lambda"},
        {"{\"name\": \"Lambda\"}", ""},
        {"{", "unsafe keras-config"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct heard h = {""};
        struct read_opt opt = {.scan = true, .finding = on_finding, .finding_ctx = &h};
        keras_config_scan(&opt, str_from(list[i].config), 100);
        if (strncmp(h.text, list[i].want, strlen(list[i].want)) != 0 || !*list[i].want != !*h.text)
            fail_msg("%s: %s", list[i].config, h.text);
    }
    struct heard h = {""};
    struct read_opt opt = {.scan = true, .finding = on_finding, .finding_ctx = &h};
    struct model m;
    struct err e;
    const struct format *found;
    model_init(&m);
    assert_int_equal(format_open("tests/golden/h5py-refused/soft.h5", NULL, &opt, &m, &found, &e),
                     ST_OK);
    assert_int_equal(m.n_tensors, 1);
    assert_string_equal(h.text, "unsafe hdf5-link a is a soft link to '/b'\n"
                                "unsafe hdf5-link b is a soft link to '/a'\n");
    model_free(&m);
}

static void roles(void **state)
{
    (void)state;
    static const float zero = 0;
    static const struct {
        const char *name;
        enum role role;
        int of;
    } list[] = {{"d.d.kernel:0", ROLE_PARAMETER, -1},
                {"n.n.moving_mean:0", ROLE_STATISTIC, -1},
                {"n.n.moving_variance", ROLE_STATISTIC, -1},
                {"optimizer_weights.iteration:0", ROLE_COUNTER, -1},
                {"optimizer_weights.Adam.m.d.kernel:0", ROLE_MOMENT1, 0},
                {"optimizer_weights.Adam.v.d.kernel:0", ROLE_MOMENT2, 0},
                {"optimizer_weights.Adam.d.kernel.m:0", ROLE_MOMENT1, 0},
                {"optimizer_weights.adam.d_kernel_velocity", ROLE_MOMENT2, -1},
                {"optimizer_weights.adam.learning_rate", ROLE_OTHER, -1},
                {"optimizer.vars.0", ROLE_COUNTER, -1},
                {"optimizer.vars.2", ROLE_OTHER, -1},
                {"layers.dropout.seed_generator.vars.0", ROLE_RNG, -1}};
    struct model m;
    struct storage *s;
    struct tensor *t;
    struct err e;
    uint32_t index;
    model_init(&m);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        assert_int_equal(model_storage_add(&m, &s, &index, &e), ST_OK);
        *s = (struct storage){.kind = STORAGE_MEMORY,
                              .mem = (const uint8_t *)&zero,
                              .stored_bytes = sizeof zero,
                              .raw_bytes = sizeof zero};
        assert_int_equal(model_tensor_add(&m, &t, &e), ST_OK);
        t->name = str_from(list[i].name);
        t->dtype = DT_F32;
        t->storage = index;
        assert_int_equal(tensor_set_shape(&m, t, NULL, 0, &e), ST_OK);
    }
    assert_int_equal(model_finish(&m, &e), ST_OK);
    assert_int_equal(roles_by_name(&m, &e), ST_OK);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (m.tensor[i].role != list[i].role || m.tensor[i].of != list[i].of)
            fail_msg("%s: role %d, of %d", list[i].name, (int)m.tensor[i].role,
                     (int)m.tensor[i].of);
    model_free(&m);
}

static void checksum(void **state)
{
    (void)state;
    static const char four[] = "Four score and seven years ago"; /* Jenkins' own vector */
    assert_int_equal(h5_lookup3((const uint8_t *)four, 0), 0xdeadbeef);
    assert_int_equal(h5_lookup3((const uint8_t *)four, sizeof four - 1), 0x17770551);
}

/* ---- the writer ---- */

#define MANY 700u /* groups of three levels of tree nodes: 8 * 32 = 256 fit in two */
#define LONG 6000u

static void check_written(const struct buf *b, const char (*name)[8], const char (*item)[32])
{
    struct file *f;
    struct arena a = ARENA_INIT;
    struct hdf5 h;
    struct hdf5_object root, o;
    struct hdf5_link *l;
    struct err e;
    size_t n, at = 0;
    put_file(temp, b->p, b->n);
    assert_int_equal(file_open(temp, &f, &e), ST_OK);
    assert_int_equal(hdf5_open(f, 0, file_size(f), &a, &h, &e), ST_OK);
    assert_int_equal(hdf5_object(&h, h.root, &root, &e), ST_OK);
    assert_int_equal(root.kind, HDF5_GROUP);
    struct str text;
    assert_non_null(hdf5_attr(&root, "title"));
    assert_int_equal(hdf5_text(&h, hdf5_attr(&root, "title"), 0, &text, &e), ST_OK);
    assert_int_equal(text.n, 100000);
    assert_null(hdf5_attr(&root, "list"));
    for (int part = 0; part < 3; part++) {
        char key[8] = "list0";
        key[4] = (char)('0' + part);
        const struct hdf5_attr *x = hdf5_attr(&root, key);
        assert_non_null(x);
        for (uint64_t i = 0; i < x->n_elems; i++, at++) {
            assert_int_equal(hdf5_text(&h, x, i, &text, &e), ST_OK);
            assert_true(str_is(text, item[at]));
        }
    }
    assert_int_equal(at, LONG);
    assert_int_equal(hdf5_links(&h, &root, &l, &n, &e), ST_OK);
    assert_int_equal(n, MANY);
    for (size_t i = 0; l; l = l->next, i++) {
        assert_true(str_is(l->name, name[i]));
        assert_int_equal(hdf5_object(&h, l->addr, &o, &e), ST_OK);
        if (i % 2) {
            assert_int_equal(o.kind, HDF5_DATASET);
            assert_int_equal(o.space.rank, 1);
            assert_int_equal(o.space.dim[0], i);
            assert_int_equal(o.layout.bytes, i * 4);
            assert_int_equal(o.layout.addr % 64, 0);
        } else {
            assert_int_equal(o.kind, HDF5_GROUP);
        }
    }
    hdf5_close(&h);
    arena_free(&a);
    file_close(f);
}

static void written(void **state)
{
    (void)state;
    static const uint8_t i32[] = {0x10, 8, 0, 0, 4, 0, 0, 0, 0, 0, 32, 0};
    static struct hdf5_wnode node[MANY], root;
    static struct hdf5_wnode *order[MANY];
    static uint64_t dim[MANY];
    static char name[MANY][8], item[LONG][32], title[100000];
    static struct str list[LONG];
    size_t n = 0;
    memset(title, 'x', sizeof title);
    for (unsigned i = 0; i < LONG; i++) {
        snprintf(item[i], sizeof item[i], "layer_%u/some/name/%u", i, i % 7);
        list[i] = str_from(item[i]);
    }
    struct hdf5_wattr attr[2] = {
        {.name = STR("title"), .text = {title, sizeof title}, .next = &attr[1]},
        {.name = STR("list"), .list = true, .item = list, .n_items = LONG}};
    root.attr = attr;
    root.child = node;
    root.n_children = MANY;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name[i], sizeof name[i], "%05u", i);
        dim[i] = i;
        node[i] = (struct hdf5_wnode){
            .name = str_from(name[i]), .parent = &root, .next = i + 1 < MANY ? &node[i + 1] : NULL};
        if (i % 2 == 0)
            continue;
        node[i].is_data = true;
        node[i].type = i32;
        node[i].type_n = sizeof i32;
        node[i].dim = &dim[i];
        node[i].rank = 1;
        node[i].bytes = dim[i] * 4;
        order[n++] = &node[i];
    }
    struct buf b = BUF_INIT;
    struct err e;
    uint64_t end;
    assert_int_equal(hdf5_write(&root, order, n, &b, &end, &e), ST_OK);
    buf_fill(&b, 0, (size_t)end - b.n);
    check_written(&b, (const char(*)[8])name, (const char(*)[32])item);
    list[7] = (struct str){title, HDF5_LIST_MAX + 1};
    buf_clear(&b);
    assert_int_equal(hdf5_write(&root, order, n, &b, &end, &e), ST_CANNOT);
    assert_string_equal(e.code, "hdf5-attribute");
    buf_free(&b);
}

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(temp);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(temp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),  cmocka_unit_test(truncation), cmocka_unit_test(damaged),
        cmocka_unit_test(checksum), cmocka_unit_test(written),    cmocka_unit_test(refused),
        cmocka_unit_test(scanned),  cmocka_unit_test(no_lists),   cmocka_unit_test(roles),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
