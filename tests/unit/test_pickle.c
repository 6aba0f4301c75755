/* The pickle machine: what it yields, what it refuses and where, and that the writer's bytes come
 * back as written. */
#include "codec/pickle.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TAG_ORDERED = 1 };
static const struct pk_allow allow[] = {{"collections", "OrderedDict", TAG_ORDERED}};

static enum status read(struct pickle *p, const void *bytes, size_t n, struct err *e)
{
    struct pickle_opt o = {.file = "t", .allow = allow, .n_allow = 1};
    *e = (struct err){0};
    return pickle_read(p, bytes, n, &o, e);
}

#define REFUSED(bytes, want, at) refused((bytes), sizeof(bytes) - 1, (want), (at))
static void refused(const char *bytes, size_t n, const char *want, uint64_t at)
{
    struct pickle p;
    struct err e;
    /* a copy of the exact size, so that a read beyond it is seen */
    char *copy = malloc(n ? n : 1);
    memcpy(copy, bytes, n);
    assert_int_equal(read(&p, copy, n, &e), ST_INPUT);
    assert_string_equal(e.code, want);
    assert_true(e.has_offset);
    assert_int_equal(e.offset, at);
    pickle_free(&p);
    free(copy);
}

static void hostile(void **state)
{
    (void)state;
    REFUSED("cposix\nsystem\n(X\x02\0\0\0hitR.", "pickle-runs-code", 0);
    REFUSED("\x8c\x05posix\x8c\x06system\x93.", "pickle-runs-code", 15);
    REFUSED("(iposix\nsystem\n.", "pickle-runs-code", 1);
    REFUSED("\x8c\x05torch\x8c\x09os.system\x93.", "pickle-runs-code", 18);
    REFUSED("ctorch.serialization.os\nsystem\n.", "pickle-runs-code", 0);
    REFUSED("c__builtin__\neval\n.", "pickle-runs-code", 0);
    REFUSED("ca\nb.__globals__\n.", "pickle-runs-code", 0);
    REFUSED("\x82\x01.", "pickle-ext", 0);
    REFUSED("\x83\x01\0.", "pickle-ext", 0);
    REFUSED("\x84\x01\0\0\0.", "pickle-ext", 0);
    REFUSED("N.N.", "pickle-tail", 2);
    REFUSED("I0x10\n.", "pickle-number", 0);
    REFUSED("I1_0\n.", "pickle-number", 0);
    REFUSED("I-0\n.", "pickle-number", 0);
    REFUSED("I007\n.", "pickle-number", 0);
    REFUSED("L5\n.", "pickle-number", 0);
    REFUSED("F1e999\n.", "pickle-number", 0);
    REFUSED("F0x1p3\n.", "pickle-number", 0);
    REFUSED("F 1\n.", "pickle-number", 0);
    REFUSED("\x8d\0\0\0\0\0\1\0\0ab.", "pickle-length", 0);
    REFUSED("\x8e\0\0\0\0\0\1\0\0ab.", "pickle-length", 0);
    REFUSED("\x96\0\0\0\0\0\1\0\0ab.", "pickle-length", 0);
    REFUSED("U\x05"
            "ab.",
            "pickle-length", 0);
    REFUSED("\x80\x04\x95\0\0\0\0\0\0\0\x80.", "pickle-frame", 2);
    REFUSED("\x80\x04\x95\x01\0\0\0\0\0\0\0K\x01.", "pickle-frame", 11);
    REFUSED("\x80\x06N.", "pickle-proto", 0);
    REFUSED("\x80\x02\x80\x02N.", "pickle-proto", 2);
    REFUSED("Nr\xff\xff\xff\xff.", "pickle-memo", 1);
    REFUSED("h\x05.", "pickle-memo", 0);
    REFUSED("]q\0h\0a.", "pickle-cycle", 0);
    REFUSED("}q\0K\x01h\0s.", "pickle-cycle", 0);
    REFUSED("]q\0h\0\x85"
            "a.",
            "pickle-cycle", 0);
    REFUSED("}(X\x01\0\0\0wK\x01X\x01\0\0\0wK\x02u.", "pickle-key-twice", 10);
    REFUSED("}(\x88K\x01K\x01K\x02u.", "pickle-key-twice", 5);
    REFUSED("ccollections\nOrderedDict\n)R}X\x0c\0\0\0__setstate__Nsb.", "pickle-build-key", 27);
    REFUSED("Nb.", "pickle-underflow", 1);
    REFUSED("NNb.", "pickle-build", 2);
    REFUSED("X\x01\0\0\0\xff.", "pickle-utf8", 0);
    REFUSED("X\x03\0\0\0\xed\xa0\x80.", "pickle-utf8", 0);
    REFUSED("\xff.", "pickle-opcode", 0);
    REFUSED("\x97.", "pickle-buffer", 0);
    REFUSED("N", "pickle-no-stop", 1);
    REFUSED("", "pickle-no-stop", 0);
    REFUSED("NN.", "pickle-stop", 2);
    REFUSED("N(.", "pickle-stop", 2);
    REFUSED("K", "pickle-truncated", 0);
    REFUSED("S'a'b'\n.", "pickle-string", 0);
    REFUSED("S'\\q'\n.", "pickle-string", 0);
    REFUSED("c\nb\n.", "pickle-name", 0);
    REFUSED("N}R.", "pickle-type", 2);
}

/* Each opcode that takes something off the stack, on an empty one. */
static void underflow(void **state)
{
    static const char *const op[] = {"0",    "1",     "2",         "R",    "b",    "a",      "e",
                                     "s",    "u",     "t",         "l",    "d",    "o",      "\x81",
                                     "\x85", "\x86",  "\x87",      "\x90", "\x91", "\x92",   "\x93",
                                     "Q",    "q\x01", "r\x01\0\0", "\x94", "p1\n", "ia\nb\n"};
    (void)state;
    for (size_t i = 0; i < sizeof op / sizeof *op; i++) {
        char t[16];
        size_t n = op[i][0] == 'r' ? 5 : strlen(op[i]);
        memset(t, 0, sizeof t);
        memcpy(t, op[i], n > strlen(op[i]) ? strlen(op[i]) : n);
        t[n] = '.';
        struct pickle p;
        struct err e;
        assert_int_equal(read(&p, t, n + 1, &e), ST_INPUT);
        assert_true(strcmp(e.code, "pickle-underflow") == 0 || strcmp(e.code, "pickle-mark") == 0);
        assert_int_equal(e.offset, 0);
        pickle_free(&p);
    }
}

static void deep(void **state)
{
    enum { N = 100000 };
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct buf b = BUF_INIT;
        struct pickle p;
        struct err e;
        if (kind == 0) { /* lists */
            buf_fill(&b, ']', N);
            buf_fill(&b, 'a', N - 1);
        } else if (kind == 1) { /* tuples */
            buf_u8(&b, ')');
            buf_fill(&b, 0x85, N);
        } else {
            buf_fill(&b, '(', N);
        }
        buf_u8(&b, '.');
        assert_int_equal(read(&p, b.p, b.n, &e), ST_INPUT);
        assert_string_equal(e.code, "pickle-depth");
        pickle_free(&p);
        buf_free(&b);
    }
}

static void budget(void **state)
{
    struct buf b = BUF_INIT;
    struct pickle p;
    struct err e = {0};
    struct pickle_opt o = {.file = "t", .budget = 1 << 20};
    (void)state;
    buf_u8(&b, '(');
    buf_fill(&b, 'N', 1 << 20);
    buf_z(&b, "l.");
    assert_int_equal(pickle_read(&p, b.p, b.n, &o, &e), ST_LIMIT);
    assert_string_equal(e.code, "pickle-budget");
    pickle_free(&p);
    buf_free(&b);
}

static void values(void **state)
{
    static const char bytes[] =
        "\x80\x02}(X\x01\0\0\0aL-5L\nU\x02hiF-2.5e3\nX\x01\0\0\0bI01\n"
        "X\x01\0\0\0c\x8a\x09\0\0\0\0\0\0\0\x80\0K\x07V\\u00e9x\\U0001f600\n"
        "K\x08S'a\\x41\\n'\nu.";
    struct pickle p;
    struct err e;
    int64_t i;
    uint64_t u;
    (void)state;
    assert_int_equal(read(&p, bytes, sizeof bytes - 1, &e), ST_OK);
    assert_int_equal(pk_count(&p, p.root), 12);
    assert_true(pk_i64(&p, pk_get(&p, p.root, "a"), &i) && i == -5);
    uint32_t f = pk_get(&p, p.root, "hi");
    assert_int_equal(pk_kind(&p, f), PK_FLOAT);
    double d;
    memcpy(&d, &pk_at(&p, f)->bits, 8);
    assert_true(d == -2500.0);
    assert_int_equal(pk_kind(&p, pk_get(&p, p.root, "b")), PK_BOOL);
    assert_true(pk_u64(&p, pk_get(&p, p.root, "c"), &u) && u == 1ull << 63);
    uint32_t c = p.val[p.root].seq.tail;
    struct str s = pk_text(&p, p.cell[c].val);
    assert_true(str_eq(s, STR("aA\n")));
    pickle_free(&p);
}

static void opaque_and_scan(void **state)
{
    static const char bytes[] = "\x80\x02"
                                "cmine\nNet\n)\x81}X\x01\0\0\0wK\x01sb.";
    static const char bad[] = "cos\nsystem\n(X\x02\0\0\0hitR.";
    struct pickle p;
    struct err e = {0};
    struct pickle_opt o = {.file = "t", .scan = true};
    (void)state;
    assert_int_equal(read(&p, bytes, sizeof bytes - 1, &e), ST_OK);
    assert_int_equal(pk_kind(&p, p.root), PK_NEW);
    assert_int_equal(pk_call_tag(&p, p.root), 0);
    assert_true(pk_get(&p, pk_more(&p, p.root).state, "w") != 0);
    pickle_free(&p);
    assert_int_equal(pickle_read(&p, bad, sizeof bad - 1, &o, &e), ST_OK);
    assert_int_equal(p.n_global, 1);
    assert_true(p.global[0].runs_code);
    pickle_free(&p);
}

/* getattr fetches listed members of listed enums, and nothing else, whether or not it is used. */
static void enum_members(void **state)
{
    (void)state;
    static const struct pk_allow names[] = {{"a", "Color", 5}, {"a", "call", 6}};
    static const struct pk_member members[] = {{"a", "Color", "RED"}};
#define GETATTR "cbuiltins\ngetattr\n"
#define COLOR "ca\nColor\n"
#define RED "X\x03\0\0\0RED"
    static const struct {
        const char *bytes;
        size_t n;
        bool fine;
    } row[] = {
#define ROW(fine, s) {s, sizeof(s) - 1, fine}
        ROW(true, GETATTR COLOR RED "\x86R."),
        ROW(true, "c__builtin__\ngetattr\n" COLOR RED "\x86R."),
        ROW(true, GETATTR "q\0" COLOR RED "\x86Rh\0" COLOR RED "\x86R\x86."),
        ROW(true, "N" GETATTR "0."), /* named, never applied */
        ROW(false, GETATTR "."),
        ROW(false, GETATTR "\x85."),
        ROW(false, "N}" GETATTR "Ns0."), /* a key of what is dropped */
        ROW(false, "]" GETATTR "a0N."),
        ROW(false, GETATTR "QN0."), /* a persistent id */
        ROW(false, "ca\ncall\n)R" GETATTR "b."),
        ROW(false, "ca\ncall\n" GETATTR "\x85R."),
        ROW(false, GETATTR COLOR "X\x03\0\0\0mro\x86R."),
        ROW(false, GETATTR COLOR "X\x04\0\0\0RED \x86R."),
        ROW(false, GETATTR COLOR "C\x03RED\x86R."),
        ROW(false, GETATTR COLOR RED "N\x87R."), /* a default */
        ROW(false, GETATTR COLOR "\x85R."),
        ROW(false, GETATTR ")R."),
        ROW(false, GETATTR "ca\ncall\n" RED "\x86R."),
        ROW(false, GETATTR "ca\nOther\n" RED "\x86R."),
        ROW(false, GETATTR COLOR ")R" RED "\x86R."), /* a member's member */
        ROW(false, GETATTR COLOR RED "\x86\x81."),
        ROW(false, "(" GETATTR COLOR RED "o."),
        ROW(false, "(" COLOR RED "ibuiltins\ngetattr\n."),
        ROW(false, GETATTR COLOR RED "\x86R}b."),
        ROW(false, GETATTR COLOR RED "\x86RNa."),
        ROW(false, GETATTR COLOR RED "\x86R" GETATTR COLOR "X\x03\0\0\0mro\x86R0."),
#undef ROW
    };
    struct pickle p;
    struct err e = {0};
    struct pickle_opt o = {
        .file = "t", .allow = names, .n_allow = 2, .member = members, .n_members = 1};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (int scan = 0; scan < 2; scan++) {
            o.scan = scan;
            enum status st = pickle_read(&p, row[i].bytes, row[i].n, &o, &e);
            bool flagged = false;
            for (uint32_t g = 0; g < p.n_global; g++)
                flagged |= p.global[g].runs_code;
            if ((st == ST_OK) != (row[i].fine || scan) || flagged == row[i].fine)
                fail_msg("row %zu, scan %d: status %d, flagged %d", i, scan, st, flagged);
            if (st != ST_OK)
                assert_string_equal(e.code, "pickle-runs-code");
            pickle_free(&p);
        }
    o.n_members = 0; /* a caller who lists none */
    o.scan = false;
    assert_int_equal(pickle_read(&p, row[0].bytes, row[0].n, &o, &e), ST_INPUT);
    assert_string_equal(e.code, "pickle-runs-code");
    pickle_free(&p);
#undef GETATTR
#undef COLOR
#undef RED
}

static void written_and_read(void **state)
{
    static const int64_t ints[] = {
        0,          1,           255,       256,       65535,     65536, -1,  INT32_MAX, INT32_MIN,
        2147483648, -2147483649, 1LL << 40, INT64_MAX, INT64_MIN, -128,  127, 128,       32768};
    enum { N = sizeof ints / sizeof *ints };
    struct buf b = BUF_INIT;
    struct pickle p;
    struct err e;
    (void)state;
    pw_proto(&b);
    pw_op(&b, '(');
    for (size_t i = 0; i < N; i++)
        pw_int(&b, ints[i]);
    pw_u64(&b, UINT64_MAX);
    pw_float(&b, 0x7ff4000000000001u); /* a signalling NaN stays what it is */
    pw_str(&b, STR("\xc3\xa9"));
    pw_none(&b);
    pw_bool(&b, true);
    pw_op(&b, 't');
    pw_stop(&b);
    assert_int_equal(read(&p, b.p, b.n, &e), ST_OK);
    for (size_t i = 0; i < N; i++) {
        int64_t v;
        assert_true(pk_i64(&p, pk_elem(&p, p.root, (uint32_t)i), &v));
        assert_true(v == ints[i]);
    }
    uint64_t u;
    assert_true(pk_u64(&p, pk_elem(&p, p.root, N), &u) && u == UINT64_MAX);
    assert_true(pk_at(&p, pk_elem(&p, p.root, N + 1))->bits == 0x7ff4000000000001u);
    assert_true(pk_is_text(&p, pk_elem(&p, p.root, N + 2), "\xc3\xa9"));
    pickle_free(&p);
    buf_free(&b);
}

/* Every prefix of a good pickle is refused with a place. */
static void truncations(void **state)
{
    static const char bytes[] =
        "\x80\x04\x95\x3c\0\0\0\0\0\0\0}\x94(\x8c\x01w\x94]\x94(K\x01M\x01\x02J\x01\x02\x03\x04G"
        "\x3f\xf0\0\0\0\0\0\0\x8a\x01\x05"
        "e\x8c\x01x\x94\x8c\x0b"
        "collections\x94\x8c\x03"
        "abcu.";
    struct pickle p;
    struct err e;
    (void)state;
    for (size_t n = 0; n < sizeof bytes - 1; n++) {
        char *copy = malloc(n ? n : 1);
        memcpy(copy, bytes, n);
        assert_int_equal(read(&p, copy, n, &e), ST_INPUT);
        assert_true(e.has_offset && e.code);
        pickle_free(&p);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile),      cmocka_unit_test(underflow),
        cmocka_unit_test(deep),         cmocka_unit_test(budget),
        cmocka_unit_test(values),       cmocka_unit_test(opaque_and_scan),
        cmocka_unit_test(enum_members), cmocka_unit_test(written_and_read),
        cmocka_unit_test(truncations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
