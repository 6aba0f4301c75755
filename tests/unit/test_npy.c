/* npy and npz: goldens of numpy, refusals, the header's text. */
#include "codec/npy.h"
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/unit/truncate.h"

static void goldens(void **state)
{
    (void)state;
    /* numpy 1.24 in Python 3.11.2: every member of a .npz has zip64 sizes */
    static const char *const folder[] = {"tests/golden/numpy", "tests/golden/numpy-1.24"};
    for (int k = 0; k < 4; k++) {
        size_t n;
        bool z = k & 1;
        char **list = golden_list(folder[k / 2], z ? ".npz" : ".npy", &n);
        assert_true(n >= 3);
        for (size_t i = 0; i < n; i++)
            golden_check(list[i], z ? "npz" : "npy");
        golden_list_free(list, n);
    }
}

static void truncation(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        size_t n;
        char **list = golden_list("tests/golden/numpy", k ? ".npz" : ".npy", &n);
        for (size_t i = 0; i < n; i++)
            truncate_every(list[i], k ? "npz" : "npy", NULL);
        golden_list_free(list, n);
    }
}

static char temp[] = "/tmp/nnferry-npy-XXXXXX";

static void put_npy(const char *literal, int version, size_t data)
{
    static uint8_t p[70000];
    size_t h = strlen(literal), at = 0;
    memset(p, 0, sizeof p);
    memcpy(p, "\x93NUMPY", 6);
    p[6] = (uint8_t)version;
    p[8] = (uint8_t)h;
    p[9] = (uint8_t)(h >> 8);
    at = version == 1 ? 10 : 12;
    memcpy(p + at, literal, h);
    put_file(temp, p, at + h + data);
}

#define D(descr, shape) "{'descr': '" descr "', 'fortran_order': False, 'shape': " shape ", }  \n"

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *code, *literal;
        size_t data;
    } bad[] = {
        {"truncated", D("<f8", "(1099511627776,)"), 8},
        {"truncated", D("<f8", "(65536, 65536)"), 8},
        {"truncated", D("<f4", "(2,)"), 7},
        {"trailing-bytes", D("<f4", "(2,)"), 9},
        {"npy-shape", D("<f4", "(0, 4611686018427387904)"), 0},
        {"npy-shape", D("<f4", "(2)"), 8},
        {"npy-shape", D("<f4", "(-2,)"), 8},
        {"npy-shape", D("<f4", "(02,)"), 8},
        {"npy-shape", D("<f4", "(2 3)"), 24},
        {"npy-shape", D("<f4", "(,)"), 4},
        {"npy-shape", D("<f4", "2"), 8},
        {"npy-shape", D("<f4", "[2]"), 8},
        {"npy-shape", D("<f4", "(1_0,)"), 40},
        {"npy-shape", D("<f4", "(18446744073709551616,)"), 40},
        {"npy-structured", "{'descr': [('a','<f4')], 'fortran_order': False, 'shape': (2,)}\n", 8},
        {"npy-descr", D("", "(2,)"), 8},
        {"npy-descr", D("<", "(2,)"), 8},
        {"npy-descr", D("<f", "(2,)"), 8},
        {"npy-descr", D("<f4x", "(2,)"), 8},
        {"npy-descr", D("4", "(2,)"), 8},
        {"npy-dtype", D("<f16", "(1,)"), 16},
        {"npy-dtype", D("<f3", "(1,)"), 3},
        {"npy-dtype", D("|S5", "(1,)"), 5},
        {"npy-dtype", D("<U5", "(1,)"), 20},
        {"npy-dtype", D("<M8[ns]", "(1,)"), 8},
        {"npy-dtype", D("|V8", "(1,)"), 8},
        {"npy-dtype", D(">V2", "(1,)"), 2},
        {"npy-object", D("|O", "(1,)"), 8},
        {"npy-object", D("|O8", "(1,)"), 8},
        {"npy-key-twice",
         "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}\n", 8},
        {"npy-key", "{'descr': '<f4', 'shape': (2,)}\n", 8},
        {"npy-key", "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}\n", 8},
        {"npy-header", "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 8},
        {"npy-header", "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}\n\n", 8},
        {"npy-header", "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}\n", 8},
        {"npy-header", "{'descr': '<f4' '', 'fortran_order': False, 'shape': (2,)}\n", 8},
        {"npy-header", "{'descr': '\\x3cf4', 'fortran_order': False, 'shape': (2,)}\n", 8},
        {"npy-header", "dict(descr='<f4', fortran_order=False, shape=(2,))\n", 8},
        {"npy-header", "{'descr': '<f4', 'fortran_order': print(1), 'shape': (2,)}\n", 8},
        {"npy-shape", "{'descr': '<f4', 'fortran_order': False, 'shape': tuple(range(2))}\n", 8},
        {"npy-header-length", "", 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e;
        put_npy(bad[i].literal, 1, bad[i].data);
        enum status st = open_once(temp, NULL, &e);
        if (st != ST_INPUT || !e.code || strcmp(e.code, bad[i].code) != 0 || !e.has_offset)
            fail_msg("%s: status %d, code %s", bad[i].literal, (int)st, e.code ? e.code : "none");
    }
    static const char *const good[] = {
        D("<f4", "(2,)"),
        D("=f4", "(2L,)"),
        D("f4", "(2, 1)"),
        D("|V1", "(8,)"),
        "{\"shape\":(2,),\"fortran_order\":True,\"descr\":\"<f4\"}\n",
        " { 'shape' : ( 2 , ) ,\n'fortran_order':True , 'descr' : '<f4' , } \n",
    };
    for (int version = 1; version <= 3; version++)
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
            struct err e;
            put_npy(good[i], version, 8);
            if (open_once(temp, NULL, &e) != ST_OK)
                fail_msg("%s: %s", good[i], e.code ? e.code : "none");
        }
    struct err e;
    put_npy(good[0], 9, 8);
    assert_int_equal(open_once(temp, NULL, &e), ST_INPUT);
    assert_string_equal(e.code, "npy-version");
}

/* The header's bytes are numpy's own: compared with the golden that numpy wrote. */
static void header(void **state)
{
    (void)state;
    static const char *const files[] = {
        "tests/golden/numpy/float32.npy", "tests/golden/numpy/scalar.npy",
        "tests/golden/numpy/zero_size.npy", "tests/golden/numpy/bool.npy"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t n;
        struct cursor c;
        struct npy h;
        struct err e;
        struct buf b = BUF_INIT;
        char descr[8];
        uint8_t *p = get_file(files[i], &n);
        cur_mem(&c, p, n, files[i], 0);
        assert_int_equal(npy_read(&c, &h, &e), ST_OK);
        cur_close(&c);
        snprintf(descr, sizeof descr, "%c%c%u", h.order, h.type, h.item);
        npy_write(&b, descr, h.dim, h.n_dims);
        assert_int_equal(buf_ok(&b, &e), ST_OK);
        assert_int_equal(b.n, h.data);
        assert_memory_equal(b.p, p, b.n);
        buf_free(&b);
        free(p);
    }
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
        cmocka_unit_test(header),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
