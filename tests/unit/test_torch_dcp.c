/* Folders of torch.distributed.checkpoint: goldens, truncations of their files, moments bound by
 * name. */
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/unit/truncate.h"

static const char *const goldens[] = {
    "tests/golden/torch/dcp_hf",       "tests/golden/torch/dcp_st",
    "tests/golden/torch/dcp_boxes",    "tests/golden/torch/dcp_train",
    "tests/golden/torch/dcp",          "tests/golden/torch-1.13/dcp",
    "tests/golden/torch-2.1/dcp",      "tests/golden/torch-2.1/dcp_train",
    "tests/golden/torch-2.1/dcp_boxes"};
enum { N_GOLDENS = sizeof goldens / sizeof *goldens, N_CUT = 3 };

static void read_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOLDENS; i++)
        golden_check(goldens[i], "torch-dcp");
}

static char top[] = "/tmp/nnferry-dcp-XXXXXX";

/* Every `step`th length, and every one that ends near the whole; the others are whole. */
static void cut_file(const char *folder, const char *name, size_t step)
{
    char path[512];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    uint8_t *p = get_file(path, &n);
    for (size_t k = n; k-- > 0;) {
        struct err e;
        if (k % step != 0 && n - k > 40)
            continue;
        put_file(path, p, k);
        enum status st = open_once(folder, NULL, &e);
        if (st != ST_INPUT || !e.code)
            fail_msg("%s cut to %zu of %zu bytes: status %d, code %s", path, k, n, (int)st,
                     e.code ? e.code : "none");
    }
    put_file(path, p, n);
    free(p);
}

static void truncation(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CUT; i++) {
        char line[512], folder[128];
        snprintf(folder, sizeof folder, "%s/x", top);
        snprintf(line, sizeof line, "rm -rf %s && cp -r %s %s", folder, goldens[i], folder);
        assert_int_equal(system(line), 0);
        static const char *const suffix[] = {".metadata", ".safetensors", ".distcp"};
        for (size_t k = 0; k < 3; k++) {
            size_t n;
            char **list = golden_list(folder, suffix[k], &n);
            for (size_t f = 0; f < n; f++)
                cut_file(folder, strrchr(list[f], '/') + 1, i < 2 ? 1 : 23);
            golden_list_free(list, n);
        }
    }
}

static void moments_by_name(void **state)
{
    struct model m;
    struct read_opt opt = {0};
    const struct format *found;
    struct err e = {0};
    size_t bound = 0;
    (void)state;
    model_init(&m);
    assert_int_equal(format_open("tests/golden/torch/dcp_train", NULL, &opt, &m, &found, &e),
                     ST_OK);
    for (size_t i = 0; i < m.n_tensors; i++) {
        const struct tensor *t = &m.tensor[i];
        if (t->role != ROLE_MOMENT1 && t->role != ROLE_MOMENT2)
            continue;
        assert_true(t->of >= 0);
        struct str owner = m.tensor[t->of].name;
        assert_true(str_starts(owner, STR("model.")));
        assert_true(str_find_str(t->name, str_sub(owner, 6, owner.n), 0) < t->name.n);
        bound++;
    }
    assert_int_equal(bound, 4);
    model_free(&m);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(top) ? 0 : -1;
}
static int drop_folder(void **state)
{
    char line[128];
    (void)state;
    snprintf(line, sizeof line, "rm -rf %s", top);
    return system(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(read_whole), cmocka_unit_test(truncation),
                                       cmocka_unit_test(moments_by_name)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
