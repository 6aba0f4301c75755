/* Both sides of a layer, stage by stage, pass by pass. */
#include "base/mem.h"
#include "validate/cause.h"

#include <string.h>

static enum status one_pass(const struct setting *s, const struct side *const side[2],
                            struct executor *x, uint64_t block_elems, uint64_t pass, double rtol,
                            double atol, void *out[2][STAGES_MAX], struct comparison *c,
                            struct err *e)
{
    for (size_t i = 0; i < 2; i++)
        TRY(evaluate(s, side[i], x, block_elems, pass, out[i], e));
    for (size_t k = 0; k < s->n_stages; k++)
        TRY(comparison_add(&c[k], x, out[0][k], out[1][k], setting_stage_n(s, k, pass), rtol, atol,
                           pass * s->stage[k].n, e));
    return ST_OK;
}

enum status stages_compare(const struct setting *s, const struct side *a, const struct side *b,
                           struct executor *x, uint64_t block_elems, double rtol, double atol,
                           struct comparison c[STAGES_MAX], bool *equal, struct err *e)
{
    const struct side *const side[2] = {a, b};
    void *out[2][STAGES_MAX] = {{NULL}};
    enum status st = ST_OK;
    for (size_t k = 0; k < s->n_stages; k++) {
        comparison_begin(&c[k]);
        for (size_t i = 0; i < 2 && st == ST_OK; i++) {
            size_t n = (size_t)s->stage[k].n * exec_real_bytes(x);
            out[i][k] = mem_alloc(n);
            if (!out[i][k])
                st = err_nomem(e, n);
        }
    }
    for (uint64_t pass = 0; pass < s->n_passes && st == ST_OK; pass++)
        st = one_pass(s, side, x, block_elems, pass, rtol, atol, out, c, e);
    *equal = true;
    for (size_t k = 0; k < s->n_stages; k++) {
        comparison_end(&c[k]);
        if (c[k].m.n_fail > 0)
            *equal = false;
        mem_free(out[0][k]);
        mem_free(out[1][k]);
    }
    return st;
}
