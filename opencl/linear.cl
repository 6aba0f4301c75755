/* linear: y[n,o] += sum over i of x[n,i] * w(o,i), for the block of w that in holds. The weight is
 * addressed by axes (abi.h), so each framework's own storage order is read in place; x and y are
 * in logical order. o = (o0,o1) and i = (i0,i1,i2,i3) are mixed-radix numbers.
 */
NNF_KERNEL void nnf_linear(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    __global const i64 *ax = p + NNF_P_AXES;
    i64 n_o1 = ax[NNF_AXIS_N + NNF_AXIS_EXTENT];
    i64 n_o = ax[NNF_AXIS_EXTENT] * n_o1;
    i64 o = id % n_o, n = id / n_o;
    i64 o0 = o / n_o1, o1 = o % n_o1;
    if (o0 < ax[NNF_AXIS_LO] || o0 >= ax[NNF_AXIS_HI] || o1 < ax[NNF_AXIS_N + NNF_AXIS_LO] ||
        o1 >= ax[NNF_AXIS_N + NNF_AXIS_HI])
        return;
    __global const i64 *a0 = ax + 2 * NNF_AXIS_N, *a1 = ax + 3 * NNF_AXIS_N;
    __global const i64 *a2 = ax + 4 * NNF_AXIS_N, *a3 = ax + 5 * NNF_AXIS_N;
    i64 n1 = a1[NNF_AXIS_EXTENT], n2 = a2[NNF_AXIS_EXTENT], n3 = a3[NNF_AXIS_EXTENT];
    i64 x0 = p[NNF_P_X] + n * a0[NNF_AXIS_EXTENT] * n1 * n2 * n3;
    i64 w0 = p[NNF_P_W] + o0 * ax[NNF_AXIS_STRIDE] + o1 * ax[NNF_AXIS_N + NNF_AXIS_STRIDE];
    struct nnf_sum s;
    s.hi = out[id];
    s.lo = 0;
    for (i64 i0 = a0[NNF_AXIS_LO]; i0 < a0[NNF_AXIS_HI]; i0++)
        for (i64 i1 = a1[NNF_AXIS_LO]; i1 < a1[NNF_AXIS_HI]; i1++)
            for (i64 i2 = a2[NNF_AXIS_LO]; i2 < a2[NNF_AXIS_HI]; i2++) {
                i64 w1 = w0 + i0 * a0[NNF_AXIS_STRIDE] + i1 * a1[NNF_AXIS_STRIDE] +
                         i2 * a2[NNF_AXIS_STRIDE];
                i64 x1 = x0 + ((i0 * n1 + i1) * n2 + i2) * n3;
                i64 step = a3[NNF_AXIS_STRIDE];
                for (i64 i3 = a3[NNF_AXIS_LO]; i3 < a3[NNF_AXIS_HI]; i3++)
                    nnf_add_product(&s, in[x1 + i3], in[w1 + i3 * step]);
            }
    out[id] = nnf_total(&s);
}
