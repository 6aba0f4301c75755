/* Any bytes as JSON: refused with a place, or taken; what is
 * taken and written again reads back as the same tokens. */
#include "codec/json.h"
#include <stdlib.h>
#include <string.h>

/* Tokens of the text, written as compact JSON; false when it is refused. */
static bool rewrite(const uint8_t *data, size_t n, struct buf *out)
{
    struct cursor c;
    struct json j;
    struct json_w w;
    struct err e = {0};
    cur_mem(&c, data, n, "fuzz", 0);
    json_init(&j, &c, 4096);
    json_w_init(&w, out, 0);
    enum status st;
    while ((st = json_next(&j, &e)) == ST_OK && j.kind != JSON_END)
        switch (j.kind) {
        case JSON_OBJECT:
            json_w_object(&w);
            break;
        case JSON_OBJECT_END:
            json_w_object_end(&w);
            break;
        case JSON_ARRAY:
            json_w_array(&w);
            break;
        case JSON_ARRAY_END:
            json_w_array_end(&w);
            break;
        case JSON_KEY:
            json_w_key(&w, j.text);
            break;
        case JSON_STRING:
            json_w_str(&w, j.text);
            break;
        case JSON_NUMBER:
            json_w_raw(&w, j.text);
            break;
        case JSON_BOOL:
            json_w_bool(&w, j.truth);
            break;
        case JSON_NULL:
            json_w_null(&w);
            break;
        case JSON_NONE:
        case JSON_END:
            abort();
        }
    if (st == ST_OK)
        st = json_finish(&j, " \t\r\n", &e);
    if (st != ST_OK && (!e.code || !e.has_offset || e.offset > n))
        abort();
    json_free(&j);
    cur_close(&c);
    return st == ST_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf once = BUF_INIT, twice = BUF_INIT;
    if (rewrite(data, n, &once)) {
        if (!rewrite(once.p, once.n, &twice) || twice.n != once.n ||
            memcmp(once.p, twice.p, once.n) != 0)
            abort();
    }
    buf_free(&once);
    buf_free(&twice);
    return 0;
}
