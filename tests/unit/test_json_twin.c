/* The JSON reader against jansson, an independent one: random texts, valid and damaged. Both take
 * a text or both refuse it, and what was taken is written again and must be the same value there.
 * Not compared: numbers beyond a double or 64 bits, which jansson refuses.
 */
#include "tests/lib/json_again.h"
#include "tests/lib/json_other.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

#define N_TEXTS 40000

static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint32_t below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

static void put_string(struct buf *b)
{
    static const char *const part[] = {"a",
                                       "weight",
                                       " ",
                                       "\\n",
                                       "\\\"",
                                       "\\\\",
                                       "\\/",
                                       "\\u0041",
                                       "\\u0000",
                                       "\\u00e9",
                                       "\\ud83d\\ude00",
                                       "\\ud83d",
                                       "\\ude00",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xed\xa0\x80",
                                       "\xc0\xaf",
                                       "\xf4\x90\x80\x80",
                                       "\x7f",
                                       "\x01",
                                       "\\x",
                                       "\\u12"};
    buf_u8(b, '"');
    /* the parts from 16 on are refused, and so are the two lone surrogates: seldom */
    for (uint32_t n = below(4); n > 0; n--)
        buf_z(b, part[below(20) ? below(11) : below(sizeof part / sizeof *part)]);
    buf_u8(b, '"');
}

static void put_number(struct buf *b)
{
    static const char *const number[] = {
        "0",      "-0",    "1",   "-1",   "12",      "123456789012345678",
        "1.5",    "-0.25", "1e3", "1E-3", "2.5e+10", "0.1",
        "1e-300", "01",    "1.",  "-",    ".5",      "+1",
        "1e",     "0x1"};
    buf_z(b, number[below(20) ? below(13) : below(sizeof number / sizeof *number)]);
}

static void put_blank(struct buf *b)
{
    static const char *const blank[] = {"", "", "", "", " ", "\n", "\t\r "};
    buf_z(b, blank[below(7)]);
}

/* Keys are told apart by a number, mostly. */
static void put_value(struct buf *b, unsigned depth)
{
    static const char *const word[] = {"null", "true", "false", "NaN", "nul", "True"};
    put_blank(b);
    uint32_t what = below(depth < 5 ? 8 : 4);
    if (what == 0) {
        buf_z(b, word[below(20) ? below(3) : below(6)]);
    } else if (what <= 2) {
        put_number(b);
    } else if (what == 3) {
        put_string(b);
    } else {
        bool object = what > 5;
        uint32_t n = below(5);
        buf_u8(b, object ? '{' : '[');
        put_blank(b);
        for (uint32_t i = 0; i < n; i++) {
            char key[24];
            if (i)
                buf_u8(b, ',');
            put_blank(b);
            if (object) {
                (void)snprintf(key, sizeof key, "\"k%u\"", below(30) ? i : 0);
                buf_z(b, key);
                put_blank(b);
                buf_u8(b, ':');
            }
            put_value(b, depth + 1);
        }
        buf_u8(b, object ? '}' : ']');
    }
    put_blank(b);
}

static void damage(struct buf *b)
{
    static const char sharp[] = "{}[],:\"\\0-e. nt\x80\xff";
    for (uint32_t n = 1 + below(2); n > 0 && b->n > 0; n--) {
        uint32_t at = below((uint32_t)b->n);
        uint32_t how = below(4);
        if (how == 0) {
            b->n = at;
        } else if (how == 1) {
            memmove(b->p + at, b->p + at + 1, b->n - at - 1);
            b->n--;
        } else {
            b->p[at] = (uint8_t)sharp[below(sizeof sharp - 1)];
        }
    }
}

static void agrees(void **state)
{
    (void)state;
    struct buf text = {0}, again = {0};
    size_t taken = 0, refused = 0;
    for (size_t i = 0; i < N_TEXTS; i++) {
        struct err e = {0};
        text.n = again.n = 0;
        put_value(&text, 0);
        if (i % 2)
            damage(&text);
        assert_int_equal(buf_ok(&text, &e), ST_OK);
        enum status st = json_again(text.p, text.n, 0, &again, &e);
        assert_true(st == ST_OK || st == ST_INPUT);
        bool ours = st == ST_OK;
        enum json_other other = json_other_reads(buf_as_str(&text));
        if (other == OTHER_CANNOT)
            continue;
        if (ours != (other == OTHER_TAKES))
            fail_msg("%s by us: %.*s", ours ? "taken" : "refused", (int)text.n, (char *)text.p);
        if (ours && !json_other_same(buf_as_str(&text), buf_as_str(&again)))
            fail_msg("%.*s became %.*s", (int)text.n, (char *)text.p, (int)again.n,
                     (char *)again.p);
        *(ours ? &taken : &refused) += 1;
    }
    buf_free(&text);
    buf_free(&again);
    assert_true(taken > N_TEXTS / 4 && refused > N_TEXTS / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
