/* Truncation of every golden of every format: each file of it, cut at every length, alone or in its
 * folder. A cut is refused with ST_INPUT and a code, when opened or when a tensor is read; or what
 * is read is what the whole golden holds: the cut was in a file that the tensors do not lie in, or
 * in a tail that the format does not need. Formats whose end nothing marks may hold less then, and
 * are named below; never may a tensor have other values.
 *
 * Files up to 16 KiB are cut at every length, larger ones at every length of their first and last
 * 2 KiB and one in 61 between; in folders of more than 8 files, where an open costs most, at one
 * length in 7, and near both ends. That is so in the plain flavour, which is fast; under
 * sanitizers, where the formats' own tests cut their goldens too, one length in 61 is enough, and
 * TEST_PREFIX_STEP of more than 13 (an emulated machine) thins further out.
 */
#include "base/par.h"
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/unit/truncate.h"
#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>

#if defined __SANITIZE_ADDRESS__
#define STEP 61
#else
#define STEP 1
#endif
#define EVERY_BYTES ((size_t)16 << 10)

/* Nothing marks their end: a file cut behind a whole part is a smaller file. */
static const char *const may_hold_less[] = {"graphdef", "onnx",   "equinox",
                                            "gguf",     "tflite", "savedmodel"};

static char room[] = "/dev/shm/nnferry-cut-XXXXXX";
static char copy[600];

/* ---- what a golden holds ---- */

struct held {
    char *name;
    char hex[65];
    enum dtype dtype;
};
struct holding {
    const struct format *found;
    struct held *t;
    size_t n;
};

static void holding_free(struct holding *h)
{
    for (size_t i = 0; i < h->n; i++)
        free(h->t[i].name);
    free(h->t);
    *h = (struct holding){0};
}

/* f NULL: by content. */
static enum status hold(const char *path, const struct format *f, struct holding *h, struct err *e)
{
    struct model m;
    struct read_opt opt = {0};
    memset(e, 0, sizeof *e);
    *h = (struct holding){0};
    model_init(&m);
    enum status st = format_open(path, f, &opt, &m, &h->found, e);
    if (st == ST_OK)
        h->t = calloc(m.n_tensors + 1, sizeof *h->t);
    for (size_t i = 0; st == ST_OK && i < m.n_tensors; i++) {
        size_t n;
        uint8_t *p = eager_read(&m, i, &n, e);
        if (!p) {
            st = e->status;
            break;
        }
        struct held *t = &h->t[h->n++];
        t->name = strndup(m.tensor[i].name.n ? m.tensor[i].name.p : "", m.tensor[i].name.n);
        t->dtype = m.tensor[i].dtype;
        sha_hex(p, n, t->hex);
        free(p);
    }
    model_free(&m);
    return st;
}

static bool in_list(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, list[i]) == 0)
            return true;
    return false;
}

/* Is all that `got` holds in `whole`, and the other way round where that must be? */
static bool agrees(const struct holding *whole, const struct holding *got)
{
    const size_t n = sizeof may_hold_less / sizeof *may_hold_less;
    if (got->n != whole->n && !in_list(whole->found->name, may_hold_less, n))
        return false;
    for (size_t i = 0; i < got->n; i++) {
        bool same = false;
        for (size_t k = 0; k < whole->n && !same; k++)
            same = strcmp(got->t[i].name, whole->t[k].name) == 0 &&
                   got->t[i].dtype == whole->t[k].dtype &&
                   strcmp(got->t[i].hex, whole->t[k].hex) == 0;
        if (!same)
            return false;
    }
    return true;
}

/* ---- one file of a golden ---- */

static const struct holding *whole_now;
static size_t n_cuts, n_refused, n_wrong;

static void try_cut(const char *file, size_t k, size_t n, const struct format *f)
{
    struct holding got;
    struct err e;
    enum status st = hold(copy, f, &got, &e);
    n_cuts++;
    n_refused += st != ST_OK;
    bool other = st == ST_OK && !agrees(whole_now, &got);
    if (other || (st != ST_OK && (st != ST_INPUT || !e.code))) {
        printf("%s cut to %zu of %zu bytes: status %d, code %s%s\n", file, k, n, (int)st,
               e.code ? e.code : "none", other ? ": read, and other than the whole" : "");
        n_wrong++;
    }
    holding_free(&got);
}

static size_t n_files; /* of the golden in hand */

static bool wanted(size_t k, size_t n)
{
    const char *text = getenv("TEST_PREFIX_STEP");
    unsigned long more = text ? strtoul(text, NULL, 10) : 1, step = STEP;
    bool middle = n > EVERY_BYTES && k >= 2048 && n - k > 2048;
    if (more > 13)
        step = 5 * more;
    if (n_files > 8 && step == 1)
        step = 7;
    if (middle && step < 61)
        step = 61;
    size_t ends = n_files > 8 ? 2 : 16;
    return k % step == 0 || (!middle && (k < ends || n - k < ends));
}

static int count_file(const char *path, const struct stat *sb, int kind, struct FTW *ftw)
{
    (void)path;
    (void)sb;
    (void)ftw;
    n_files += kind == FTW_F;
    return 0;
}

static int cut_file(const char *path, const struct stat *sb, int kind, struct FTW *ftw)
{
    size_t n = (size_t)sb->st_size, read;
    (void)ftw;
    if (kind != FTW_F || n == 0)
        return 0;
    uint8_t *p = get_file(path, &read);
    assert_int_equal(read, n);
    for (size_t k = n; k-- > 0;) {
        if (!wanted(k, n))
            continue;
        assert_int_equal(truncate(path, (off_t)k), 0); /* from the longest to the shortest */
        try_cut(path, k, n, whole_now->found);
        if (k % 16 == 0)
            try_cut(path, k, n, NULL);
    }
    put_file(path, p, n);
    free(p);
    return 0;
}

/* ---- all goldens ---- */

static void run(const char *fmt, const char *a, const char *b)
{
    char line[1400];
    snprintf(line, sizeof line, fmt, a, b);
    assert_int_equal(system(line), 0);
}

static void cut_golden(const char *golden)
{
    struct holding whole;
    struct err e;
    snprintf(copy, sizeof copy, "%s/%s", room, strrchr(golden, '/') + 1);
    run("cp -r '%s' '%s'", golden, room);
    if (hold(copy, NULL, &whole, &e) != ST_OK)
        fail_msg("%s: %s", golden, e.code ? e.code : "?");
    whole_now = &whole;
    n_cuts = n_refused = n_files = 0;
    assert_int_equal(nftw(copy, count_file, 8, FTW_PHYS), 0);
    assert_int_equal(nftw(copy, cut_file, 8, FTW_PHYS), 0);
    if (n_cuts == 0 || n_refused * 4 < n_cuts)
        printf("%s: of %zu cuts only %zu are refused\n", golden, n_cuts, n_refused);
    struct holding after;
    assert_int_equal(hold(copy, NULL, &after, &e), ST_OK); /* the copy is whole again */
    assert_true(after.n == whole.n && agrees(&whole, &after));
    holding_free(&after);
    holding_free(&whole);
    run("rm -rf '%s'%s", copy, "");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Goldens have an expectation beside them: NAME and NAME.json. */
static void cut_folder(const char *folder)
{
    size_t n;
    char **list = golden_list(folder, ".json", &n);
    for (size_t i = 0; i < n; i++) {
        char name[512];
        struct stat sb;
        snprintf(name, sizeof name, "%.*s", (int)(strlen(list[i]) - 5), list[i]);
        const char *only = getenv("TEST_GOLDEN");
        if (stat(name, &sb) == 0 && (!only || strstr(name, only)))
            cut_golden(name);
    }
    golden_list_free(list, n);
}

static void every_golden(void **state)
{
    (void)state;
    char *folder[128];
    size_t n = 0;
    DIR *d = opendir("tests/golden");
    assert_non_null(d);
    for (const struct dirent *x; (x = readdir(d));) {
        char path[400];
        struct stat sb;
        snprintf(path, sizeof path, "tests/golden/%s", x->d_name);
        /* what a reader refuses as a whole is no golden of truncation */
        if (x->d_name[0] == '.' || strcmp(x->d_name, "h5py-refused") == 0 || stat(path, &sb) != 0 ||
            !S_ISDIR(sb.st_mode))
            continue;
        assert_true(n < 128);
        folder[n++] = strdup(path);
    }
    closedir(d);
    assert_true(n >= 30);
    qsort(folder, n, sizeof *folder, by_text);
    for (size_t i = 0; i < n; i++) {
        cut_folder(folder[i]);
        free(folder[i]);
    }
    assert_int_equal(n_wrong, 0);
}

static int make_room(void **state)
{
    (void)state;
    return mkdtemp(room) ? 0 : -1;
}
static int drop_room(void **state)
{
    (void)state;
    run("rm -rf '%s'%s", room, "");
    return 0;
}

int main(void)
{
    par_set_threads(1); /* files are small: threads would wait for each other */
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_golden)};
    return cmocka_run_group_tests(tests, make_room, drop_room);
}
