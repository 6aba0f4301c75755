/* Axis letters, rule tables and rules files: what parses, what is refused, and that the examples of
 * nnferry-map.5 are rules files.
 */
#include "convert/map_int.h"
#include "framework/rules.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct err err;

static enum status parse(const char *text)
{
    struct plan p;
    struct model m;
    struct map_opt o = {.rules = str_from(text), .rules_path = "x.map"};
    model_init(&m);
    plan_init(&p, &m);
    struct mapping mp = {.p = &p, .o = &o, .src = &m, .a = &p.dst.arena};
    memset(&err, 0, sizeof err);
    enum status st = map_rules_parse(&mp, &err);
    plan_free(&p);
    model_free(&m);
    return st;
}

static void letters(void **state)
{
    (void)state;
    static const char *const good[] = {"",        "O",         "O I H W", "OIHW",   "(ND)E",
                                       "E (N D)", "-H -W I O", "1 1 C",   "O (C S)"};
    static const char *const bad[] = {"(",  ")",   "()", "O O", "((N) D)", "-", "- H",
                                      "O*", "(1)", "-1", "N)",  "(-",      "é"};
    struct axes x;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(axes_parse(str_from(good[i]), &x, &err), ST_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(axes_parse(str_from(bad[i]), &x, &err), ST_USAGE);
        assert_string_equal(err.code, "bad-axes");
    }
}

static enum status apply(const char *from, const char *to, const uint64_t *dim, size_t n,
                         uint64_t heads, struct view *v)
{
    struct axes a, b;
    struct axes_size size = {0};
    size.of['N'] = heads;
    assert_int_equal(view_c(v, dim, n, &err), ST_OK);
    assert_int_equal(axes_parse(str_from(from), &a, &err), ST_OK);
    assert_int_equal(axes_parse(str_from(to), &b, &err), ST_OK);
    return axes_apply(v, &a, &b, &size, &err);
}

static void edits(void **state)
{
    (void)state;
    struct view v;
    assert_int_equal(apply("O I H W", "H W I O", (const uint64_t[]){5, 2, 3, 4}, 4, 0, &v), ST_OK);
    assert_int_equal(view_dim(&v, 0), 3);
    assert_int_equal(view_dim(&v, 3), 5);
    assert_int_equal(apply("(N D) E", "E N D", (const uint64_t[]){6, 5}, 2, 3, &v), ST_OK);
    assert_int_equal(v.n_dims, 3);
    assert_int_equal(view_dim(&v, 1), 3);
    assert_int_equal(view_dim(&v, 2), 2);
    assert_int_equal(apply("E N D", "(N D) E", (const uint64_t[]){5, 3, 2}, 3, 0, &v), ST_OK);
    assert_int_equal(view_dim(&v, 0), 6);
    assert_int_equal(apply("C", "1 1 C", (const uint64_t[]){7}, 1, 0, &v), ST_OK);
    assert_int_equal(v.n_dims, 3);
    assert_int_equal(apply("1 1 C", "C", (const uint64_t[]){1, 1, 7}, 3, 0, &v), ST_OK);
    assert_int_equal(v.n_dims, 1);
    /* what does not fit */
    assert_int_equal(apply("(N D) E", "E N D", (const uint64_t[]){6, 5}, 2, 0, &v), ST_CANNOT);
    assert_int_equal(apply("(N D) E", "E N D", (const uint64_t[]){6, 5}, 2, 4, &v), ST_CANNOT);
    assert_int_equal(apply("O I", "I O", (const uint64_t[]){6}, 1, 0, &v), ST_CANNOT);
    assert_int_equal(apply("O I", "I X", (const uint64_t[]){6, 5}, 2, 0, &v), ST_USAGE);
    assert_int_equal(apply("O I", "I", (const uint64_t[]){6, 5}, 2, 0, &v), ST_USAGE);
}

/* Every table: layouts that parse, over the letters of the canonical one; no leaf twice. */
static void tables(void **state)
{
    (void)state;
    const struct framework *can = framework_find(STR("canonical"));
    assert_non_null(can);
    for (size_t f = 0; f < n_frameworks; f++) {
        const struct spelling_rules *r = frameworks[f]->rules;
        for (size_t i = 0; i < r->n; i++) {
            const struct leaf_rule *l = &r->leaf[i];
            struct axes a, b;
            char text[64], other[64];
            enum leaf part[3];
            (void)leaf_fuses(l->leaf, part);
            const struct leaf_rule *c =
                rules_find(can->rules, l->kind, l->rank, l->variant, part[0]);
            if (l->kind == LAYER_CONV || l->kind == LAYER_CONV_TRANSPOSE)
                assert_true(l->rank || l->leaf == LEAF_BIAS);
            if (l->kind ==
                LAYER_PARAM) { /* canonically as it is: an axis may only be of extent 1 */
                assert_null(c);
                assert_int_equal(strspn(l->axes, "1 "), strlen(l->axes));
                continue;
            }
            if (!c)
                fail_msg("%s: %s (rank %u, variant %u) has no canonical leaf %d",
                         frameworks[f]->name, layer_kind_name(l->kind), l->rank, l->variant,
                         (int)part[0]);
            static const struct dense_axes axes = {"ab", "ij", "jabi", "ij", false};
            struct layer of = {.kind = l->kind, .flat_c = 2};
            if (l->kind == LAYER_LINEAR && l->variant == FORM_AXES)
                of.dense = &axes;
            if (l->kind == LAYER_CONV && l->variant == VARIANT_DEPTH)
                of.depth_c = 3;
            assert_int_equal(rules_axes(r, l, &of, &a, text, &err), ST_OK);
            assert_int_equal(rules_axes(can->rules, c, &of, &b, other, &err), ST_OK);
            size_t n = 0;
            for (size_t k = 0; k < a.n; k++)
                if (a.at[k].letter != '1') {
                    n++;
                    assert_non_null(strchr(other, a.at[k].letter));
                }
            for (size_t k = 0; k < b.n; k++)
                n -= b.at[k].letter != '1';
            assert_int_equal(n, 0);
            for (size_t j = 0; j < i; j++)
                assert_false(r->leaf[j].kind == l->kind && r->leaf[j].leaf == l->leaf &&
                             r->leaf[j].rank == l->rank && r->leaf[j].variant == l->variant);
        }
    }
    assert_null(framework_find(STR("nonsense")));
}

static void accepted(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "# nothing\n\n   # at all",
        "a -> b",
        "a.{i}.c -> d_{i}.c kind conv",
        "\"a b\" -> \"c d\" # quoted",
        "a -> b axes \"(N D) E\" -> \"E N D\" N=4",
        "kind x.* = linear\nkind y conv",
        "kind up = conv_transpose transpose_kernel",
        "kind act = param",
        "flatten fc = 32\nflatten fc 32x7x7\nflatten fc = 32,7,7\nflatten fc = none",
        "heads a = 8",
        "leaf 0 = a.weight\nleaf 12 b",
        "rank bn* = 4\nrank bn 2",
        "drop *.position_ids",
        "synth *.bias = 0\nsynth *.scale = 1",
        "a -> b\r\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (parse(good[i]) != ST_OK)
            fail_msg("%s: %s", good[i], err.reason);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *code;
    } bad[] = {
        {"a", "map-syntax"},
        {"a ->", "map-syntax"},
        {"a -> b c", "map-syntax"},
        {"a -> b kind", "map-syntax"},
        {"a -> b kind nonsense", "map-syntax"},
        {"a -> b axes \"O(\" -> \"O\"", "bad-axes"},
        {"a -> b axes \"O\" \"O\"", "map-syntax"},
        {"a -> b axes \"N\" -> \"N\" N=", "map-syntax"},
        {"a -> b axes \"N\" -> \"N\" N=0", "map-syntax"},
        {"a -> b N=4", "map-syntax"},
        {"\"a -> b", "map-syntax"},
        {"kind", "map-syntax"},
        {"kind x", "map-syntax"},
        {"kind x = nonsense", "map-syntax"},
        {"kind x = linear transpose_kernel", "map-syntax"},
        {"flatten fc = 0", "map-syntax"},
        {"flatten fc = 3,", "map-syntax"},
        {"flatten fc = many", "map-syntax"},
        {"heads a = 0", "map-syntax"},
        {"heads a = 1 2", "map-syntax"},
        {"rank a = 1", "map-syntax"},
        {"leaf a = b", "map-syntax"},
        {"leaf 1", "map-syntax"},
        {"rank a = 6", "map-syntax"},
        {"rank a", "map-syntax"},
        {"drop", "map-syntax"},
        {"drop a b", "map-syntax"},
        {"synth a = 2", "map-syntax"},
        {"heads a = ?", "map-unanswered"},
        {"a -> ?", "map-unanswered"},
        {"a b c d e f g h i j k l m n o p q r", "map-syntax"},
        {"a -> \xff", "map-syntax"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (parse(bad[i].text) != ST_USAGE)
            fail_msg("accepted: %s", bad[i].text);
        assert_string_equal(err.code, bad[i].code);
        assert_string_equal(err.file, "x.map");
        assert_non_null(strstr(err.reason, "line 1 "));
    }
}

static void captures(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    struct str out;
    assert_true(map_capture(STR("b.{i}.fc{j}"), STR("b.12.fc3"), STR("B_{i}.D_{j}.{i}"), &a, &out));
    assert_true(str_is(out, "B_12.D_3.12"));
    assert_true(map_capture(STR("{x}.{x}"), STR("q.q"), STR("z"), &a, &out));
    assert_true(str_is(out, "z"));
    assert_false(map_capture(STR("{x}.{x}"), STR("q.r"), STR("z"), &a, &out));
    assert_false(map_capture(STR("b.{i}"), STR("b.1.2"), STR("z"), &a, &out));
    assert_false(map_capture(STR("b.{i}"), STR("b"), STR("z"), &a, &out));
    assert_false(map_capture(STR("b.{i}"), STR("b.1"), STR("{j}"), &a, &out));
    assert_false(map_capture(STR("b.x{i}"), STR("b.x"), STR("z"), &a, &out));
    arena_free(&a);
}

static void unused_rule(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    struct map_opt o = {.to = "flax", .rules = STR("\nheads nobody = 2\n"), .rules_path = "x.map"};
    model_init(&m);
    toy_add(&m, "fc.weight", 0, 3, 2, -1);
    toy_done(&m);
    plan_init(&p, &m);
    assert_int_equal(map_plan(&p, &o, NULL, 0, NULL, &err), ST_USAGE);
    assert_string_equal(err.code, "map-unused");
    assert_non_null(strstr(err.reason, "line 2 "));
    plan_free(&p);
    o.rules = STR("{i} -> b.{j}\n");
    plan_init(&p, &m);
    assert_int_equal(map_plan(&p, &o, NULL, 0, NULL, &err), ST_USAGE);
    assert_string_equal(err.code, "map-capture");
    plan_free(&p);
    model_free(&m);
}

/* Each displayed example of the manual page is a rules file. */
static void manual(void **state)
{
    (void)state;
    FILE *f = fopen("man/nnferry-map.5", "r");
    char line[512], text[4096];
    size_t n = 0, examples = 0;
    bool inside = false;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, ".Bd -literal", 12) == 0) {
            inside = true;
            n = 0;
            text[0] = 0;
        } else if (strncmp(line, ".Ed", 3) == 0 && inside) {
            inside = false;
            examples++;
            if (parse(text) != ST_OK)
                fail_msg("%s\n%s", text, err.reason);
        } else if (inside) {
            size_t k = strlen(line);
            assert_true(n + k < sizeof text);
            memcpy(text + n, line, k + 1);
            n += k;
        }
    }
    fclose(f);
    assert_true(examples >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters),     cmocka_unit_test(edits),   cmocka_unit_test(tables),
        cmocka_unit_test(accepted),    cmocka_unit_test(refused), cmocka_unit_test(captures),
        cmocka_unit_test(unused_rule), cmocka_unit_test(manual),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
