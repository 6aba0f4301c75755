/* Convolutions of 1 to 3 spatial axes (missing ones have extent 1), grouped, dilated, and the
 * transposed one, which is the exact adjoint. Cross-correlation: kernels are not flipped here; a
 * convention that stores them flipped says so by a negative stride. Both add to out, which holds
 * the bias, for the block of the weight that in holds.
 */
NNF_KERNEL void nnf_conv(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    __global const i64 *ax = p + NNF_P_AXES;
    __global const i64 *ai = ax + NNF_AXIS_N, *ak = ax + 2 * NNF_AXIS_N;
    __global const i64 *q = p + NNF_P_OUT_DIM, *d = p + NNF_P_IN_DIM;
    i64 r = id;
    i64 q2 = r % q[2];
    r /= q[2];
    i64 q1 = r % q[1];
    r /= q[1];
    i64 q0 = r % q[0];
    r /= q[0];
    i64 o = r % p[NNF_P_CHANNELS_OUT], n = r / p[NNF_P_CHANNELS_OUT];
    if (o < ax[NNF_AXIS_LO] || o >= ax[NNF_AXIS_HI])
        return;
    i64 group = o / (p[NNF_P_CHANNELS_OUT] / p[NNF_P_GROUPS]);
    i64 c0 = group * ai[NNF_AXIS_EXTENT];
    i64 w0 = p[NNF_P_W] + o * ax[NNF_AXIS_STRIDE];
    struct nnf_sum s;
    s.hi = out[id];
    s.lo = 0;
    for (i64 i = ai[NNF_AXIS_LO]; i < ai[NNF_AXIS_HI]; i++)
        for (i64 k0 = ak[NNF_AXIS_LO]; k0 < ak[NNF_AXIS_HI]; k0++) {
            i64 y0 = q0 * p[NNF_P_STRIDE] + k0 * p[NNF_P_DILATION] - p[NNF_P_PAD];
            if (y0 < 0 || y0 >= d[0])
                continue;
            for (i64 k1 = ak[NNF_AXIS_N + NNF_AXIS_LO]; k1 < ak[NNF_AXIS_N + NNF_AXIS_HI]; k1++) {
                i64 y1 = q1 * p[NNF_P_STRIDE + 1] + k1 * p[NNF_P_DILATION + 1] - p[NNF_P_PAD + 1];
                if (y1 < 0 || y1 >= d[1])
                    continue;
                for (i64 k2 = ak[2 * NNF_AXIS_N + NNF_AXIS_LO];
                     k2 < ak[2 * NNF_AXIS_N + NNF_AXIS_HI]; k2++) {
                    i64 y2 =
                        q2 * p[NNF_P_STRIDE + 2] + k2 * p[NNF_P_DILATION + 2] - p[NNF_P_PAD + 2];
                    if (y2 < 0 || y2 >= d[2])
                        continue;
                    i64 x = p[NNF_P_X] +
                            (((n * p[NNF_P_CHANNELS_IN] + c0 + i) * d[0] + y0) * d[1] + y1) * d[2] +
                            y2;
                    i64 w = w0 + i * ai[NNF_AXIS_STRIDE] + k0 * ak[NNF_AXIS_STRIDE] +
                            k1 * ak[NNF_AXIS_N + NNF_AXIS_STRIDE] +
                            k2 * ak[2 * NNF_AXIS_N + NNF_AXIS_STRIDE];
                    nnf_add_product(&s, in[x], in[w]);
                }
            }
        }
    out[id] = nnf_total(&s);
}

/* The input position that kernel tap k carries to output q, or -1: q + pad - k * dilation must be a
 * multiple of the stride inside the input. */
NNF_FN i64 nnf_tap(i64 q, i64 k, i64 stride, i64 dilation, i64 pad, i64 extent)
{
    i64 v = q + pad - k * dilation;
    if (v < 0 || v % stride != 0)
        return -1;
    v /= stride;
    return v < extent ? v : -1;
}

NNF_KERNEL void nnf_conv_transpose(__global const i64 *p, __global const real *in,
                                   __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    __global const i64 *ai = p + NNF_P_AXES;
    __global const i64 *ao = ai + NNF_AXIS_N, *ak = ai + 2 * NNF_AXIS_N;
    __global const i64 *q = p + NNF_P_OUT_DIM, *d = p + NNF_P_IN_DIM;
    i64 r = id;
    i64 q2 = r % q[2];
    r /= q[2];
    i64 q1 = r % q[1];
    r /= q[1];
    i64 q0 = r % q[0];
    r /= q[0];
    i64 o = r % p[NNF_P_CHANNELS_OUT], n = r / p[NNF_P_CHANNELS_OUT];
    i64 per_group = ao[NNF_AXIS_EXTENT];
    i64 group = o / per_group, og = o % per_group;
    if (og < ao[NNF_AXIS_LO] || og >= ao[NNF_AXIS_HI])
        return;
    i64 in_per_group = p[NNF_P_CHANNELS_IN] / p[NNF_P_GROUPS];
    i64 lo = group * in_per_group, hi = lo + in_per_group;
    if (lo < ai[NNF_AXIS_LO])
        lo = ai[NNF_AXIS_LO];
    if (hi > ai[NNF_AXIS_HI])
        hi = ai[NNF_AXIS_HI];
    i64 w0 = p[NNF_P_W] + og * ao[NNF_AXIS_STRIDE];
    struct nnf_sum s;
    s.hi = out[id];
    s.lo = 0;
    for (i64 i = lo; i < hi; i++)
        for (i64 k0 = ak[NNF_AXIS_LO]; k0 < ak[NNF_AXIS_HI]; k0++) {
            i64 y0 = nnf_tap(q0, k0, p[NNF_P_STRIDE], p[NNF_P_DILATION], p[NNF_P_PAD], d[0]);
            if (y0 < 0)
                continue;
            for (i64 k1 = ak[NNF_AXIS_N + NNF_AXIS_LO]; k1 < ak[NNF_AXIS_N + NNF_AXIS_HI]; k1++) {
                i64 y1 = nnf_tap(q1, k1, p[NNF_P_STRIDE + 1], p[NNF_P_DILATION + 1],
                                 p[NNF_P_PAD + 1], d[1]);
                if (y1 < 0)
                    continue;
                for (i64 k2 = ak[2 * NNF_AXIS_N + NNF_AXIS_LO];
                     k2 < ak[2 * NNF_AXIS_N + NNF_AXIS_HI]; k2++) {
                    i64 y2 = nnf_tap(q2, k2, p[NNF_P_STRIDE + 2], p[NNF_P_DILATION + 2],
                                     p[NNF_P_PAD + 2], d[2]);
                    if (y2 < 0)
                        continue;
                    i64 x = p[NNF_P_X] +
                            (((n * p[NNF_P_CHANNELS_IN] + i) * d[0] + y0) * d[1] + y1) * d[2] + y2;
                    i64 w = w0 + i * ai[NNF_AXIS_STRIDE] + k0 * ak[NNF_AXIS_STRIDE] +
                            k1 * ak[NNF_AXIS_N + NNF_AXIS_STRIDE] +
                            k2 * ak[2 * NNF_AXIS_N + NNF_AXIS_STRIDE];
                    nnf_add_product(&s, in[x], in[w]);
                }
            }
        }
    out[id] = nnf_total(&s);
}
