/* --fold-norms and --merge-lora over any safetensors file: what is asked is refused with a code, or
 * computed and mapped. The first byte says what is asked, the next two how long the adapter's
 * config is that follows; the rest is the file, and with bit 2 of the first byte the adapter's too.
 */
#include "convert/fold.h"
#include "tests/fuzz/fuzz_format.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void ok(enum status st, const struct err *e)
{
    if (st == ST_BUG || (st != ST_OK && !e->code))
        abort();
}

static void fold_it(struct model *m, const struct fold_opt *o)
{
    struct upgrade up = {0};
    struct fold *f;
    struct run_cost c = {0};
    struct run_opt ro = {.memory = UINT64_C(512) << 20};
    struct err e = {0};
    enum status st = fold_plan(m, o, &up, &f, &e);
    ok(st, &e);
    if (st == ST_OK && fold_bytes(f) < FUZZ_RAW_MAX) {
        st = fold_cost(f, &ro, &c, &e);
        if (st == ST_OK && f)
            st = fold_run(f, &e);
        ok(st, &e);
        if (st == ST_OK)
            fuzz_map(m);
    }
    fold_free(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct model m, ad;
    struct err e = {0};
    struct read_opt opt = {0};
    const struct format *found;
    if (n < 3 || n - 3 < (size_t)(data[1] | data[2] << 8))
        return 0;
    struct str config = {(const char *)data + 3, (size_t)(data[1] | data[2] << 8)};
    size_t at = 3 + config.n;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data + at, n - at) != (ssize_t)(n - at))
        abort();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    model_init(&m);
    model_init(&ad);
    enum status st = format_open(path, format_find(STR("safetensors")), &opt, &m, &found, &e);
    if (st == ST_OK && (data[0] & 4))
        st = format_open(path, format_find(STR("safetensors")), &opt, &ad, &found, &e);
    if (st == ST_OK) {
        struct fold_opt o = {.norms = data[0] & 1,
                             .adapter = data[0] & 2 ? &ad : NULL,
                             .config = config,
                             .cudnn = data[0] & 8,
                             .beside = "/tmp/fuzz"};
        fold_it(&m, &o);
    }
    model_free(&ad);
    model_free(&m);
    close(fd);
    return 0;
}
