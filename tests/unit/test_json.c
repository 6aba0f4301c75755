/* JSON: grammar, limits, positions, numbers, and the writer's text. */
#include "codec/json.h"
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

/* Reads the whole text; returns the failure's code, or "" when it is taken. */
static const char *verdict_n(const char *text, size_t n, uint64_t *at)
{
    struct cursor c;
    struct json j;
    struct err e = {0};
    enum status st;
    cur_mem(&c, text, n, "text", 0);
    json_init(&j, &c, 1000);
    do
        st = json_next(&j, &e);
    while (st == ST_OK && j.kind != JSON_END);
    if (st == ST_OK)
        st = json_finish(&j, " \t\r\n", &e);
    json_free(&j);
    cur_close(&c);
    if (at)
        *at = e.offset;
    assert_true(st == ST_OK || st == ST_INPUT);
    assert_true(st == ST_OK || e.has_offset);
    return st == ST_OK ? "" : e.code;
}

static const char *verdict(const char *text)
{
    return verdict_n(text, strlen(text), NULL);
}

static void takes(void **state)
{
    (void)state;
    static const char *const good[] = {"{}",
                                       "[]",
                                       " [ ] ",
                                       "null",
                                       "true",
                                       "false",
                                       "0",
                                       "-0",
                                       "1.5e-3",
                                       "-1E+9",
                                       "\"\"",
                                       "{\"a\":[1,{\"b\":null}],\"c\":{}}",
                                       "[[[[]]]]",
                                       "\"\\u00e9\\n\\\\\\\"\\/\"",
                                       "\"\\ud83d\\ude00\"",
                                       "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f\"",
                                       "[1,2,3]\n",
                                       "{\"a\":1,\"a\":2}"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (verdict(good[i])[0])
            fail_msg("%s: %s", good[i], verdict(good[i]));
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *code;
        uint64_t at;
    } bad[] = {
        {"", "json-truncated", 0},
        {"  ", "json-truncated", 2},
        {"[1,", "json-truncated", 3},
        {"{\"a\"", "json-truncated", 4},
        {"\"abc", "json-truncated", 4},
        {"\"\\u12", "json-truncated", 5},
        {"[1,]", "json-syntax", 3},
        {"{,}", "json-syntax", 1},
        {"{\"a\":1,}", "json-syntax", 7},
        {"{a:1}", "json-syntax", 1},
        {"{\"a\" 1}", "json-syntax", 5},
        {"[1 2]", "json-syntax", 3},
        {"[1}", "json-syntax", 2},
        {"01", "json-syntax", 0},
        {"-", "json-truncated", 1},
        {"1.", "json-truncated", 2},
        {"[1.]", "json-syntax", 3},
        {"[.5]", "json-syntax", 1},
        {"[+1]", "json-syntax", 1},
        {"[1e]", "json-syntax", 3},
        {"nul", "json-truncated", 3},
        {"nulL", "json-syntax", 3},
        {"NaN", "json-syntax", 0},
        {"'a'", "json-syntax", 0},
        {"\"\\x\"", "json-syntax", 2},
        {"\"a\nb\"", "json-control", 2},
        {"\"\xff\"", "json-utf8", 1},
        {"\"\xc0\x80\"", "json-utf8", 1},
        {"\"\xe0\x80\x80\"", "json-utf8", 1},
        {"\"\xed\xa0\x80\"", "json-utf8", 1},
        {"\"\xf4\x90\x80\x80\"", "json-utf8", 1},
        {"\"\xc3(\"", "json-utf8", 1},
        {"\"\\ud800\"", "json-surrogate", 1},
        {"\"\\udc00\"", "json-surrogate", 1},
        {"\"\\ud800\\u0041\"", "json-surrogate", 1},
        {"{} x", "json-trailing", 3},
        {"1 2", "json-trailing", 2},
        {"\xef\xbb\xbf{}", "json-syntax", 0},
        {"]", "json-syntax", 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t at = 0;
        const char *code = verdict_n(bad[i].text, strlen(bad[i].text), &at);
        if (strcmp(code, bad[i].code) != 0 || at != bad[i].at)
            fail_msg("%s: %s at %d", bad[i].text, code, (int)at);
    }
}

static void limits(void **state)
{
    (void)state;
    char *text = malloc(100001);
    assert_non_null(text);
    memset(text, '[', 100000);
    uint64_t at;
    assert_string_equal(verdict_n(text, 100000, &at), "json-depth");
    assert_int_equal(at, JSON_MAX_DEPTH);
    memset(text + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
    assert_string_equal(verdict_n(text, 2 * JSON_MAX_DEPTH, NULL), "");
    memset(text, 'a', 2000);
    text[0] = text[1002] = '"';
    assert_string_equal(verdict_n(text, 1003, NULL), "json-too-long");
    text[1001] = '"';
    assert_string_equal(verdict_n(text, 1002, NULL), "");
    memset(text, '1', 100000);
    assert_string_equal(verdict_n(text, 100000, NULL), "json-too-long");
    free(text);
}

static void values(void **state)
{
    (void)state;
    static const char text[] = "{\"k\\u0000\\ud83d\\ude00\":18446744073709551615,\"n\":"
                               "-9223372036854775808,\"x\":[18446744073709551616,1.0,-0,1e3]}";
    struct cursor c;
    struct json j;
    struct err e;
    uint64_t u;
    int64_t i;
    cur_mem(&c, text, sizeof text - 1, "text", 0);
    json_init(&j, &c, 0);
    assert_int_equal(json_expect(&j, JSON_OBJECT, "top", &e), ST_OK);
    assert_int_equal(json_next(&j, &e), ST_OK);
    assert_int_equal(j.kind, JSON_KEY);
    assert_true(j.has_nul);
    assert_true(str_eq(j.text, (struct str){"k\0\xf0\x9f\x98\x80", 6}));
    assert_int_equal(json_next(&j, &e), ST_OK);
    assert_true(json_u64(&j, &u) && u == UINT64_MAX);
    assert_false(json_i64(&j, &i));
    assert_int_equal(json_next(&j, &e), ST_OK);
    assert_false(j.has_nul);
    assert_int_equal(json_next(&j, &e), ST_OK);
    assert_true(json_i64(&j, &i) && i == INT64_MIN);
    assert_false(json_u64(&j, &u));
    assert_int_equal(json_next(&j, &e), ST_OK);
    assert_int_equal(json_expect(&j, JSON_ARRAY, "x", &e), ST_OK);
    for (int k = 0; k < 4; k++) {
        assert_int_equal(json_next(&j, &e), ST_OK);
        assert_int_equal(j.kind, JSON_NUMBER);
        assert_false(json_u64(&j, &u) || json_i64(&j, &i));
    }
    assert_int_equal(json_next(&j, &e), ST_OK);
    assert_int_equal(j.kind, JSON_ARRAY_END);
    assert_int_equal(json_expect(&j, JSON_KEY, "more", &e), ST_INPUT);
    json_free(&j);
    cur_close(&c);
}

static void skips(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":{\"x\":[1,{}]},\"b\":3,\"c\":[]}";
    struct cursor c;
    struct json j;
    struct err e;
    char keys[8] = "";
    cur_mem(&c, text, sizeof text - 1, "text", 0);
    json_init(&j, &c, 0);
    assert_int_equal(json_next(&j, &e), ST_OK);
    for (;;) {
        assert_int_equal(json_next(&j, &e), ST_OK);
        if (j.kind == JSON_OBJECT_END)
            break;
        strncat(keys, j.text.p, 1);
        assert_int_equal(json_next(&j, &e), ST_OK);
        assert_int_equal(json_skip(&j, &e), ST_OK);
    }
    assert_string_equal(keys, "abc");
    json_free(&j);
    cur_close(&c);
}

/* A string that crosses the reader's blocks, from a file cursor's point of view. */
static void blocks(void **state)
{
    (void)state;
    size_t n = 300000;
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t pad = 0; pad < 8; pad++) {
        struct cursor c;
        struct json j;
        struct err e;
        memset(text, ' ', n);
        char *q = text + 65532 + pad;
        memcpy(q, "\"\\u20ac\xe2\x82\xac\\n\"", 13);
        cur_mem(&c, text, n, "text", 0);
        json_init(&j, &c, 0);
        assert_int_equal(json_expect(&j, JSON_STRING, "it", &e), ST_OK);
        assert_int_equal(j.at, 65532 + pad);
        assert_true(str_is(j.text, "\xe2\x82\xac\xe2\x82\xac\n"));
        assert_int_equal(json_next(&j, &e), ST_OK);
        assert_int_equal(json_finish(&j, " ", &e), ST_OK);
        json_free(&j);
        cur_close(&c);
    }
    free(text);
}

static void writes(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct json_w w;
    struct err e;
    for (unsigned indent = 0; indent <= 2; indent += 2) {
        buf_clear(&b);
        json_w_init(&w, &b, indent);
        json_w_object(&w);
        json_w_key(&w, STR("a\"\\\n\x01\xc3\xa9\xff"));
        json_w_array(&w);
        json_w_u64(&w, UINT64_MAX);
        json_w_i64(&w, INT64_MIN);
        json_w_double(&w, 0.1);
        json_w_double(&w, 1e300);
        json_w_double(&w, 3);
        json_w_double(&w, (double)NAN);
        json_w_array_end(&w);
        json_w_key(&w, STR("b"));
        json_w_object(&w);
        json_w_object_end(&w);
        json_w_key(&w, STR("c"));
        json_w_bool(&w, true);
        json_w_key(&w, STR("d"));
        json_w_null(&w);
        json_w_object_end(&w);
        assert_int_equal(buf_ok(&b, &e), ST_OK);
        buf_u8(&b, 0);
        assert_string_equal(
            (char *)b.p,
            indent ? "{\n  \"a\\\"\\\\\\n\\u0001\xc3\xa9\xef\xbf\xbd\": [\n"
                     "    18446744073709551615,\n    -9223372036854775808,\n    0.1,\n"
                     "    1e+300,\n    3,\n    null\n  ],\n  \"b\": {},\n  \"c\": true,\n"
                     "  \"d\": null\n}"
                   : "{\"a\\\"\\\\\\n\\u0001\xc3\xa9\xef\xbf\xbd\":[18446744073709551615,"
                     "-9223372036854775808,0.1,1e+300,3,null],\"b\":{},\"c\":true,\"d\":null}");
    }
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes),  cmocka_unit_test(refuses), cmocka_unit_test(limits),
        cmocka_unit_test(values), cmocka_unit_test(skips),   cmocka_unit_test(blocks),
        cmocka_unit_test(writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
