/* See fuzz_format.h. What was read must be writable again too, with the graph that came along and
 * with the bytes themselves as the graph.
 */
#include "tests/fuzz/fuzz_format.h"
#include <string.h>

static const char mark[] = "\x72\x11\x0a\x0dnnferry.graph\x12"; /* and its NUL */

static void check(struct model *m)
{
    struct write_opt opt = {0};
    struct err e = {0};
    for (int folder = 0; folder < 2; folder++) {
        opt.max_shard_size = folder ? 4096 : 0;
        enum status st = format_find(STR("onnx"))->check(m, &opt, &e);
        if (st != ST_OK && st != ST_CANNOT && st != ST_LIMIT)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct model m;
    struct err e = {0};
    struct read_opt opt = {0};
    const struct format *found;
    char path[64];
    fuzz_format("onnx", data, n);
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    model_init(&m);
    if (format_open(path, format_find(STR("onnx")), &opt, &m, &found, &e) == ST_OK) {
        uint8_t *graph = malloc(n + sizeof mark);
        check(&m);
        if (!graph || m.n_attachments != 1)
            abort();
        memcpy(graph, mark, sizeof mark);
        memcpy(graph + sizeof mark, data, n);
        m.attachment[0].mem = graph;
        m.attachment[0].n_bytes = n + sizeof mark;
        check(&m);
        free(graph);
    }
    model_free(&m);
    close(fd);
    return 0;
}
