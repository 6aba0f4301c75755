/* Any bytes as a folder of torch.distributed.checkpoint: a count of four bytes, as many bytes of
 * .metadata, the rest is __0_0.distcp.
 */
#include "tests/fuzz/fuzz_format.h"
#include <fcntl.h>
#include <string.h>

static void put(const char *folder, const char *name, const uint8_t *p, size_t n)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, p, n) != (ssize_t)n)
        abort();
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static char folder[64];
    uint32_t cut = 0;
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "/tmp/nnferry-fuzz-dcp-XXXXXX");
        if (!mkdtemp(folder))
            abort();
    }
    if (n < sizeof cut)
        return 0;
    memcpy(&cut, data, sizeof cut);
    if (cut > n - sizeof cut)
        cut = (uint32_t)(n - sizeof cut);
    put(folder, ".metadata", data + sizeof cut, cut);
    put(folder, "__0_0.distcp", data + sizeof cut + cut, n - sizeof cut - cut);
    return fuzz_path("torch-dcp", folder);
}
