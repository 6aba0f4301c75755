/* See worker.h. */
#include "tests/lib/worker.h"
#include "base/child.h"
#include "worker/wire.h"
#include <stdio.h>

extern char **environ;

int worker_begin(void)
{
    struct err e = {0};
    struct child *c;
    struct child_opt o = {.env = (const char *const *)environ,
                          .image = nnferry_worker_image,
                          .image_bytes = (size_t)(nnferry_worker_image_end - nnferry_worker_image)};
    if (child_start(&o, &e) != ST_OK) {
        printf("%s\n", e.reason);
        return 1;
    }
    struct buf tried = BUF_INIT;
    enum status st = child_open(NULL, 20000, &c, &tried, &e);
    if (st == ST_OK) {
        child_close(c);
        buf_free(&tried);
        return 0;
    }
    child_stop();
    printf("%.*sno worker can be started here: %s\n", (int)tried.n,
           tried.p ? (const char *)tried.p : "", e.reason);
    buf_free(&tried);
    return 77;
}
