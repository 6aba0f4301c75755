/* JSON read token by token and written again, compact; for tests and fuzz targets, which link
 * different libraries. */
#ifndef TESTS_LIB_JSON_AGAIN_H
#define TESTS_LIB_JSON_AGAIN_H
#include "codec/json.h"
#include <stdlib.h>

/* max_text as in json_init. */
static inline enum status json_again(const void *data, size_t n, size_t max_text, struct buf *out,
                                     struct err *e)
{
    struct cursor c;
    struct json j;
    struct json_w w;
    enum status st;
    cur_mem(&c, data, n, "text", 0);
    json_init(&j, &c, max_text);
    json_w_init(&w, out, 0);
    while ((st = json_next(&j, e)) == ST_OK && j.kind != JSON_END)
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
        st = json_finish(&j, " \t\r\n", e);
    json_free(&j);
    cur_close(&c);
    return st;
}
#endif
