/* Any bytes as a pickle: the machine must refuse or yield a proven graph, within its budget. */
#include "codec/pickle.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct pk_allow allow[] = {{"collections", "OrderedDict", 1},
                                            {"torch._utils", "_rebuild_tensor_v2", 2}};
    struct pickle p;
    struct err e = {0};
    for (int scan = 0; scan < 2; scan++) {
        struct pickle_opt o = {.file = "fuzz",
                               .allow = allow,
                               .n_allow = sizeof allow / sizeof *allow,
                               .tail = scan,
                               .scan = scan};
        if (pickle_read(&p, data, n, &o, &e) == ST_OK) {
            volatile uint32_t sink = pk_count(&p, p.root) + pk_get(&p, p.root, "w");
            (void)sink;
        }
        pickle_free(&p);
    }
    return 0;
}
