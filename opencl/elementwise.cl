/* multiply: y = x * w, element by element: how a bare parameter takes part. */
NNF_KERNEL void nnf_multiply(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    out[id] = in[p[NNF_P_X] + id] * in[p[NNF_P_W] + id];
}
