/* safetensors: goldens of the real package, refusals, ties, shards. */
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/unit/truncate.h"

/* before 0.3 the header had no padding: nothing behind it is aligned */
static const char *const folders[] = {"tests/golden/safetensors", "tests/golden/safetensors-0.2"};
enum { N_FOLDERS = sizeof folders / sizeof *folders };

static void goldens(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_FOLDERS; k++) {
        size_t n;
        char **list = golden_list(folders[k], ".safetensors", &n), path[200];
        assert_true(n >= 4);
        for (size_t i = 0; i < n; i++)
            golden_check(list[i], "safetensors");
        golden_list_free(list, n);
        snprintf(path, sizeof path, "%s/sharded", folders[k]);
        golden_check(path, "safetensors");
    }
}

static void truncation(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_FOLDERS; k++) {
        size_t n;
        char **list = golden_list(folders[k], ".safetensors", &n);
        for (size_t i = 0; i < n; i++)
            truncate_every(list[i], "safetensors", NULL);
        golden_list_free(list, n);
    }
}

static char temp[] = "/tmp/nnferry-safetensors-XXXXXX";

static void put_text(const char *header, const void *data, size_t n)
{
    size_t h = strlen(header);
    uint8_t *p = malloc(8 + h + n + 1);
    assert_non_null(p);
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(h >> 8 * i);
    memcpy(p + 8, header, h);
    memcpy(p + 8 + h, data, n);
    put_file(temp, p, 8 + h + n);
    free(p);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *code, *header;
        size_t data;
    } bad[] = {
        {"json-trailing", "{}\n", 0},
        {"key-twice",
         "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,1]}}", 1},
        {"name-twice",
         "{\"w\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"w\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         0},
        {"shape-overflow",
         "{\"w\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0},
        {"shape-overflow",
         "{\"w\":{\"dtype\":\"U8\",\"shape\":[0,4294967296,4294967296],\"data_offsets\":[0,0]}}",
         0},
        {"size-mismatch", "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,3]}}", 3},
        {"bad-shape", "{\"w\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1},
        {"bad-shape", "{\"w\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1},
        {"bad-shape", "{\"w\":{\"dtype\":\"U8\",\"shape\":[1e3],\"data_offsets\":[0,1]}}", 1},
        {"bad-shape", "{\"w\":{\"dtype\":\"U8\",\"shape\":[\"1\"],\"data_offsets\":[0,1]}}", 1},
        {"bad-shape", "{\"w\":{\"dtype\":\"U8\",\"shape\":[true],\"data_offsets\":[0,1]}}", 1},
        {"bad-shape",
         "{\"w\":{\"dtype\":\"U8\",\"shape\":[18446744073709551616],\"data_offsets\":[0,1]}}", 1},
        {"unknown-dtype", "{\"w\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4},
        {"bad-offsets", "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1},
        {"bad-offsets", "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1},
        {"bad-offsets", "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1},
        {"out-of-bounds", "{\"w\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1},
        {"trailing-bytes", "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2},
        {"hole", "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2},
        {"overlap",
         "{\"a\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[0,16]},"
         "\"w\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}",
         16},
        {"part-byte", "{\"w\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2},
        {"bad-entry", "{\"w\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0},
        {"bad-entry", "{\"w\":3}", 0},
        {"bad-metadata", "{\"__metadata__\":{\"a\":1}}", 0},
        {"bad-metadata", "{\"__metadata__\":[]}", 0},
        {"key-twice", "{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0},
        {"bad-name", "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0},
        {"json-surrogate", "{\"a\\ud800\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         0},
        {"header-start", "[1]", 0},
        {"header-start", " {}", 0},
        {"header-length", "{", 0},
    };
    static const uint8_t zero[64];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e;
        put_text(bad[i].header, zero, bad[i].data);
        enum status st = open_once(temp, NULL, &e);
        if (st != ST_INPUT || !e.code || strcmp(e.code, bad[i].code) != 0 || !e.has_offset)
            fail_msg("%s: status %d, code %s", bad[i].header, (int)st, e.code ? e.code : "none");
    }
}

static void ties(void **state)
{
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"flax\",\"gone.w\":\"a\",\"nnferry.aliases\":"
        "\"{\\\"b\\\":\\\"a\\\",\\\"c\\\":\\\"a\\\",\\\"d\\\":\\\"a\\\",\\\"e\\\":\\\"x\\\"}\"},"
        "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
        "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]},"
        "\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]},"
        "\"d\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[6,8]}}";
    static const uint8_t data[] = {1, 2, 1, 2, 1, 3, 1, 2};
    struct model m;
    struct err e;
    struct read_opt opt = {0};
    const struct format *f;
    size_t n;
    put_text(header, data, sizeof data);
    model_init(&m);
    assert_int_equal(format_open(temp, NULL, &opt, &m, &f, &e), ST_OK);
    assert_int_equal(m.n_tensors, 5);
    int64_t a = model_find(&m, STR("a")), b = model_find(&m, STR("b"));
    int64_t c = model_find(&m, STR("c")), d = model_find(&m, STR("d"));
    int64_t gone = model_find(&m, STR("gone.w"));
    assert_int_equal(m.tensor[a].alias_of, -1);
    assert_int_equal(m.tensor[b].alias_of, a);
    assert_int_equal(m.tensor[gone].alias_of, a);
    assert_int_equal(m.tensor[c].alias_of, -1); /* the metadata lies */
    assert_int_equal(m.tensor[d].alias_of, -1);
    uint8_t *p = eager_read(&m, (size_t)c, &n, &e);
    assert_non_null(p);
    assert_memory_equal(p, data + 4, 2);
    free(p);
    assert_true(str_is(m.framework, "flax"));
    assert_int_equal(m.n_meta, 1);
    model_free(&m);
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
        cmocka_unit_test(goldens),
        cmocka_unit_test(truncation),
        cmocka_unit_test(refused),
        cmocka_unit_test(ties),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
