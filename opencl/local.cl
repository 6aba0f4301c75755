/* local: y[n,o,p] += sum over i of x[n,p,i] * w(o,i,p): a layer whose every position p has a kernel
 * of its own, for the block of w that in holds. x has each position's window, i = (i0,i1), in
 * logical order; p = (p0,p1,p2). The weight is addressed by axes (abi.h): 0 o; 1, 2 the
 * window; 3..5 p.
 */
NNF_KERNEL void nnf_local(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    __global const i64 *ax = p + NNF_P_AXES;
    __global const i64 *a0 = ax + NNF_AXIS_N, *a1 = ax + 2 * NNF_AXIS_N;
    i64 rest = id, positions = 1, at = 0, n_i = a0[NNF_AXIS_EXTENT] * a1[NNF_AXIS_EXTENT];
    i64 w = p[NNF_P_W];
    for (int k = 5; k >= 3; k--) {
        __global const i64 *a = ax + k * NNF_AXIS_N;
        i64 q = rest % a[NNF_AXIS_EXTENT];
        rest /= a[NNF_AXIS_EXTENT];
        if (q < a[NNF_AXIS_LO] || q >= a[NNF_AXIS_HI])
            return;
        w += q * a[NNF_AXIS_STRIDE];
        at += q * positions;
        positions *= a[NNF_AXIS_EXTENT];
    }
    i64 o = rest % ax[NNF_AXIS_EXTENT], n = rest / ax[NNF_AXIS_EXTENT];
    if (o < ax[NNF_AXIS_LO] || o >= ax[NNF_AXIS_HI])
        return;
    w += o * ax[NNF_AXIS_STRIDE];
    i64 x = p[NNF_P_X] + (n * positions + at) * n_i;
    struct nnf_sum s;
    s.hi = out[id];
    s.lo = 0;
    for (i64 i0 = a0[NNF_AXIS_LO]; i0 < a0[NNF_AXIS_HI]; i0++)
        for (i64 i1 = a1[NNF_AXIS_LO]; i1 < a1[NNF_AXIS_HI]; i1++)
            nnf_add_product(&s, in[x + i0 * a1[NNF_AXIS_EXTENT] + i1],
                            in[w + i0 * a0[NNF_AXIS_STRIDE] + i1 * a1[NNF_AXIS_STRIDE]]);
    out[id] = nnf_total(&s);
}
