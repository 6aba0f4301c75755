/* Protocol buffers: known bytes, every refusal by name, nested walks, lists, and the writer. */
#include "codec/proto.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

#define MEM(c, lit) cur_mem(c, lit, sizeof(lit) - 1, "mem", 100)

static void known(void **state)
{
    (void)state;
    /* a BundleEntryProto of TensorFlow: dtype 1, scalar shape, size 4, crc32c; then the rest */
    static const char bytes[] = "\x08\x01\x12\x00\x28\x04\x35\xa6\x7b\x11\x3a"
                                "\x39\x01\x02\x03\x04\x05\x06\x07\x08"
                                "\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
                                "\x48\x03\x52\x02hi\x58\x80\x00";
    struct cursor c;
    struct proto m;
    struct arena a = ARENA_INIT;
    MEM(&c, bytes);
    proto_init(&m, &c, c.end);
    assert_true(proto_next(&m));
    assert_true(m.field == 1 && m.at == 0 && proto_u64(&m) == 1 && proto_bool(&m));
    assert_true(proto_next(&m));
    assert_true(m.field == 2 && m.wire == PROTO_LEN && m.n == 0 && m.body == 4);
    struct proto sub;
    assert_true(proto_sub(&m, &sub));
    assert_false(proto_next(&sub));
    assert_true(proto_next(&m));
    assert_true(m.field == 5 && proto_i64(&m) == 4);
    assert_true(proto_next(&m));
    assert_true(m.field == 6 && proto_fixed32(&m) == 0x3a117ba6u && m.n == 4);
    assert_true(proto_next(&m));
    assert_true(m.field == 7 && proto_fixed64(&m) == 0x0807060504030201u);
    assert_true(proto_next(&m));
    assert_true(m.field == 8 && proto_i64(&m) == -1 && proto_i32(&m) == -1 && m.n == 10);
    assert_true(proto_next(&m));
    assert_true(m.field == 9 && proto_s64(&m) == -2);
    assert_true(proto_next(&m));
    assert_string_equal(proto_str(&m, &a).p, "hi");
    size_t n;
    assert_memory_equal(proto_bytes(&m, &n), "hi", 2);
    assert_true(n == 2);
    assert_true(proto_next(&m));
    assert_true(m.field == 11 && proto_u64(&m) == 0); /* a varint need not be the shortest */
    assert_false(proto_next(&m));
    assert_false(proto_next(&m));
    assert_true(cur_ok(&c, NULL) == ST_OK);
    arena_free(&a);
}

/* Walks everything two levels deep: every LEN field 2 is a message, field 3 a list of varints, 4
 * of fixed32. */
static void walk(struct cursor *c)
{
    struct proto m, sub;
    struct proto_list l;
    proto_init(&m, c, c->end);
    while (proto_next(&m))
        switch (m.field) {
        case 1:
            (void)proto_u64(&m);
            break;
        case 2:
            if (proto_sub(&m, &sub))
                while (proto_next(&sub))
                    (void)proto_u64(&sub);
            break;
        case 3:
            if (proto_list(&m, PROTO_VARINT, &l))
                while (proto_list_next(&l))
                    ;
            break;
        case 4:
            if (proto_list(&m, PROTO_I32, &l))
                while (proto_list_next(&l))
                    ;
            break;
        default:
            break;
        }
}

static void refused(void **state)
{
    (void)state;
#define T(code, at, bytes)                                                                         \
    {                                                                                              \
        code, at, bytes, sizeof bytes - 1                                                          \
    }
    static const struct {
        const char *code;
        uint64_t at;
        const char *bytes;
        size_t n;
    } bad[] = {
        T("truncated", 1, "\x08"),
        T("truncated", 1, "\x08\x80"),
        T("truncated", 0, "\x09\x01\x02\x03\x04\x05\x06\x07"),
        T("truncated", 0, "\x0d\x01\x02\x03"),
        T("truncated", 0, "\x12\x05hell"),
        T("truncated", 0, "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        T("proto-length", 2, "\x12\x03\x0a\x05z\x08\x01"),
        T("proto-length", 3, "\x12\x02\x08\x80\x08\x01"),
        T("proto-varint", 1, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        T("proto-varint", 1, "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
        T("proto-varint", 0, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00"),
        T("proto-tag", 0, "\x00\x01"),
        T("proto-tag", 0, "\x80\x80\x80\x80\x10\x01"),
        T("proto-group", 0, "\x2b\x2c"),
        T("proto-group", 0, "\x2c"),
        T("proto-type", 0, "\x2e"),
        T("proto-type", 0, "\x2f"),
        T("proto-type", 0, "\x0d\x01\x02\x03\x04"),
        T("proto-type", 2, "\x28\x00\x10\x00"),
        T("proto-type", 0, "\x25\x00\x00\x00\x00\x1d\x00\x00\x00\x00"),
        T("proto-packed", 0, "\x22\x05\x01\x02\x03\x04\x05"),
        T("proto-length", 3, "\x1a\x02\x01\x80\x01"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        /* memory of its very size, so that the sanitizer sees a read behind it */
        char *p = malloc(bad[i].n);
        struct cursor c;
        struct err e = {0};
        assert_non_null(p);
        memcpy(p, bad[i].bytes, bad[i].n);
        cur_mem(&c, p, bad[i].n, "mem", 1000);
        walk(&c);
        if (i == 19) { /* the first field is fine, a list may be single; the second is not */
            assert_true(cur_ok(&c, &e) == ST_INPUT);
            assert_string_equal(e.code, "proto-type");
            assert_true(e.offset == 1005);
        } else if (cur_ok(&c, &e) != ST_INPUT || strcmp(e.code, bad[i].code) != 0 ||
                   e.offset != 1000 + bad[i].at) {
            fail_msg("%zu: %s at %llu, wanted %s at %llu", i, e.code ? e.code : "accepted",
                     (unsigned long long)e.offset, bad[i].code,
                     (unsigned long long)(1000 + bad[i].at));
        }
        free(p);
    }
#undef T
}

static void truncations(void **state)
{
    (void)state;
    static const char whole[] = "\x08\x96\x01\x12\x05\x08\x80\x01\x10\x02\x1a\x03\x01\x80\x01"
                                "\x22\x08\x01\x02\x03\x04\x05\x06\x07\x08\x25\x01\x02\x03\x04";
    static const size_t ends[] = {0, 3, 10, 15, 25, 30};
    for (size_t n = 0; n < sizeof whole; n++) {
        char *p = malloc(n + 1);
        struct cursor c;
        bool whole_field = false;
        assert_non_null(p);
        p = realloc(p, n ? n : 1);
        assert_non_null(p);
        memcpy(p, whole, n);
        cur_mem(&c, p, n, "mem", 0);
        walk(&c);
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
            whole_field |= ends[i] == n;
        assert_true((cur_ok(&c, NULL) == ST_OK) == whole_field);
        free(p);
    }
}

static void outside(void **state)
{
    (void)state;
    struct cursor c;
    struct proto m;
    MEM(&c, "\x08\x01");
    proto_init(&m, &c, 3);
    assert_true(cur_ok(&c, NULL) == ST_INPUT);
    assert_false(proto_next(&m));
}

static void writer(void **state)
{
    (void)state;
    struct buf b = BUF_INIT, s = BUF_INIT, l = BUF_INIT;
    proto_w_u64(&s, 1, 128);
    proto_w_varint(&l, 1);
    proto_w_varint(&l, 300);
    proto_w_u64(&b, 1, UINT64_MAX);
    proto_w_sub(&b, 2, &s);
    proto_w_sub(&b, 3, &l);
    proto_w_fixed32(&b, 4, 7);
    proto_w_fixed64(&b, 5, 9);
    proto_w_i64(&b, 6, -1);
    proto_w_s64(&b, 7, INT64_MIN);
    proto_w_str(&b, 536870911, STR("z"));
    assert_true(buf_ok(&b, NULL) == ST_OK);
    struct cursor c;
    struct proto m, sub;
    struct proto_list list;
    cur_mem(&c, b.p, b.n, "mem", 0);
    proto_init(&m, &c, c.end);
    assert_true(proto_next(&m) && proto_u64(&m) == UINT64_MAX);
    assert_true(proto_next(&m) && proto_sub(&m, &sub));
    assert_true(proto_next(&sub) && proto_u64(&sub) == 128);
    assert_false(proto_next(&sub));
    assert_true(proto_next(&m) && proto_list(&m, PROTO_VARINT, &list));
    assert_true(proto_list_next(&list) && list.u == 1);
    assert_true(proto_list_next(&list) && list.u == 300);
    assert_false(proto_list_next(&list));
    assert_true(proto_next(&m) && proto_list(&m, PROTO_I32, &list)); /* single is legal */
    assert_true(proto_list_next(&list) && list.u == 7);
    assert_true(proto_next(&m) && proto_fixed64(&m) == 9);
    assert_true(proto_next(&m) && proto_i64(&m) == -1);
    assert_true(proto_next(&m) && proto_s64(&m) == INT64_MIN);
    assert_true(proto_next(&m) && m.field == 536870911 && m.n == 1);
    assert_false(proto_next(&m));
    assert_true(cur_ok(&c, NULL) == ST_OK);
    assert_true(proto_varint_bytes(0) == 1 && proto_varint_bytes(127) == 1);
    assert_true(proto_varint_bytes(128) == 2 && proto_varint_bytes(UINT64_MAX) == 10);
    assert_true(proto_tag_bytes(15) == 1 && proto_tag_bytes(16) == 2);
    buf_free(&b);
    buf_free(&s);
    buf_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known),   cmocka_unit_test(refused), cmocka_unit_test(truncations),
        cmocka_unit_test(outside), cmocka_unit_test(writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
