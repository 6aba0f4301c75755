/* Reductions over stripes: item s takes elements s, s + items, s + 2 items ... so that neighbours
 * read neighbours; the host merges the stripes. compare measures B (the reference) against A:
 * a fault is |a - b| > atol + rtol |b|, or values of which only one is finite, or infinities that
 * differ. A NaN on both sides is agreement.
 */
NNF_KERNEL void nnf_max_abs(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    real top = 0;
    for (i64 i = id; i < p[NNF_P_COUNT]; i += p[NNF_P_ITEMS]) {
        real v = NNF_FABS(in[p[NNF_P_X] + i]);
        if (nnf_finite(v) && v > top)
            top = v;
    }
    out[id] = top;
}

NNF_KERNEL void nnf_compare(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    real rtol = in[p[NNF_P_TOL]], atol = in[p[NNF_P_TOL] + 1];
    real max_abs = 0, max_rel = 0, first = -1;
    i64 fails = 0, odd = 0, finite = 0;
    struct nnf_sum squares, dot, aa, bb;
    squares.hi = squares.lo = dot.hi = dot.lo = 0;
    aa.hi = aa.lo = bb.hi = bb.lo = 0;
    for (i64 i = id; i < p[NNF_P_COUNT]; i += p[NNF_P_ITEMS]) {
        real a = in[p[NNF_P_X] + i], b = in[p[NNF_P_W] + i];
        int bad = 0;
        if (nnf_finite(a) && nnf_finite(b)) {
            real d = NNF_FABS(a - b), m = NNF_FABS(b);
            finite++;
            nnf_add_product(&squares, d, d);
            nnf_add_product(&dot, a, b);
            nnf_add_product(&aa, a, a);
            nnf_add_product(&bb, b, b);
            if (d > max_abs)
                max_abs = d;
            if (d > 0 && m > 0 && d / m > max_rel)
                max_rel = d / m;
            bad = !(d <= atol + rtol * m);
        } else if (!(a == b || (a != a && b != b))) {
            bad = 1;
            odd++;
        }
        if (bad) {
            if (fails == 0)
                first = (real)i;
            fails++;
        }
    }
    __global real *o = out + id * NNF_COMPARE_WIDTH;
    o[NNF_C_MAX_ABS] = max_abs;
    o[NNF_C_SQUARES] = nnf_total(&squares);
    o[NNF_C_DOT] = nnf_total(&dot);
    o[NNF_C_AA] = nnf_total(&aa);
    o[NNF_C_BB] = nnf_total(&bb);
    o[NNF_C_MAX_REL] = max_rel;
    o[NNF_C_FAILS] = (real)fails;
    o[NNF_C_FIRST] = first;
    o[NNF_C_NONFINITE] = (real)odd;
    o[NNF_C_FINITE] = (real)finite;
}
