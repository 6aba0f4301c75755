/* Normalisations, in inference. batchnorm uses the statistics given; groupnorm takes mean and
 * biased variance over each group in two passes (no E[x^2] - E[x]^2, which cancels). Layer norm is
 * one group with a gamma and a beta for every element. Stage 0 stops before gamma and beta, so
 * that statistics show even where gamma is zero.
 */
NNF_KERNEL void nnf_batchnorm(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    i64 c = id / p[NNF_P_S] % p[NNF_P_C];
    real v = (in[p[NNF_P_X] + id] - in[p[NNF_P_MEAN] + c]) /
             NNF_SQRT(in[p[NNF_P_VAR] + c] + in[p[NNF_P_EPS]]);
    if (p[NNF_P_STAGE])
        v = v * in[p[NNF_P_GAMMA] + c] + in[p[NNF_P_BETA] + c];
    out[id] = v;
}

NNF_KERNEL void nnf_groupnorm(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    i64 width = p[NNF_P_WIDTH]; /* channels per group * spatial elements */
    __global const real *x = in + p[NNF_P_X] + id * width;
    struct nnf_sum s;
    s.hi = 0;
    s.lo = 0;
    for (i64 i = 0; i < width; i++)
        nnf_add(&s, x[i]);
    real mean = nnf_total(&s) / (real)width;
    s.hi = 0;
    s.lo = 0;
    for (i64 i = 0; i < width; i++) {
        real d = x[i] - mean;
        nnf_add_product(&s, d, d);
    }
    real root = NNF_SQRT(nnf_total(&s) / (real)width + in[p[NNF_P_EPS]]);
    i64 group = id % p[NNF_P_G];
    i64 per_group = p[NNF_P_C] / p[NNF_P_G];
    for (i64 i = 0; i < width; i++) {
        real v = (x[i] - mean) / root;
        i64 c = p[NNF_P_PER_ELEMENT] ? i : group * per_group + i / p[NNF_P_S];
        if (p[NNF_P_STAGE])
            v = v * in[p[NNF_P_GAMMA] + c] + in[p[NNF_P_BETA] + c];
        out[id * width + i] = v;
    }
}
