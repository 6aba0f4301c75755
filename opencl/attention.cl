/* attention: item (n, t, h) writes the context softmax(q k / sqrt(width)) v of one query and head.
 * q [n,T,H,D], k [n,S,H,D], v [n,S,H,Dv], S <= NNF_MAX_KEYS; no mask. Projections are linear.cl's.
 */
NNF_KERNEL void nnf_attention(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    i64 heads = p[NNF_P_HEADS], dim = p[NNF_P_HEAD_DIM], value_dim = p[NNF_P_VALUE_DIM];
    i64 keys = p[NNF_P_KEYS];
    i64 h = id % heads, n = id / heads / p[NNF_P_T];
    __global const real *q = in + p[NNF_P_Q] + id * dim;
    real score[NNF_MAX_KEYS];
    real top = 0;
    struct nnf_sum s;
    for (i64 j = 0; j < keys; j++) {
        __global const real *k = in + p[NNF_P_K] + ((n * keys + j) * heads + h) * dim;
        s.hi = 0;
        s.lo = 0;
        for (i64 d = 0; d < dim; d++)
            nnf_add_product(&s, q[d], k[d]);
        score[j] = nnf_total(&s) * in[p[NNF_P_SCALE]];
        if (j == 0 || score[j] > top)
            top = score[j];
    }
    s.hi = 0;
    s.lo = 0;
    for (i64 j = 0; j < keys; j++) {
        score[j] = NNF_EXP(score[j] - top);
        nnf_add(&s, score[j]);
    }
    real total = nnf_total(&s);
    for (i64 d = 0; d < value_dim; d++) {
        s.hi = 0;
        s.lo = 0;
        for (i64 j = 0; j < keys; j++)
            nnf_add_product(&s, score[j] / total,
                            in[p[NNF_P_V] + ((n * keys + j) * heads + h) * value_dim + d]);
        out[id * value_dim + d] = nnf_total(&s);
    }
}
