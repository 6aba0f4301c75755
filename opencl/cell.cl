/* cell: one step of a recurrent cell. Item id = (row, unit). The products are given: a = W x of
 * every gate [n,g,o], s = U h [n,g,o], and the biases [g,o], where those of both sides are one sum,
 * then the state's own bias of a GRU's new gate [o]. Gates in canonical order: i f g o, r z n, h.
 *     LSTM        c' = sigma(f) c + sigma(i) tanh(g);  h' = sigma(o) tanh(c')
 *     GRU         n = tanh(a_n + b_n + sigma(r) (s_n + b'));  h' = (1 - sigma(z)) n + sigma(z) h
 *     GRU_BEFORE  n = tanh(a_n + s_n + b_n), where s_n was made of sigma(r) h; stage 0 gives that
 *     RNN         h' = tanh(a + s + b)
 * out [n,o,2]: h', and what it was made of: c', n, or the sum before tanh.
 */
NNF_FN real nnf_sigmoid(real v)
{
    return (real)1 / ((real)1 + NNF_EXP(-v));
}

NNF_KERNEL void nnf_cell(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    i64 o = p[NNF_P_UNITS], g = p[NNF_P_GATES], n = id / o, u = id % o;
    __global const real *a = in + p[NNF_P_X] + n * g * o + u;
    __global const real *s = in + p[NNF_P_STATE_SIDE] + n * g * o + u;
    __global const real *b = in + p[NNF_P_BIASES] + u;
    real h = in[p[NNF_P_STATE] + id], c = in[p[NNF_P_MEMORY] + id];
    real v[NNF_MAX_GATES], first, second;
    for (i64 k = 0; k < g; k++)
        v[k] = a[k * o] + s[k * o] + b[k * o];
    if (p[NNF_P_CELL] == NNF_CELL_LSTM) {
        second = nnf_sigmoid(v[1]) * c + nnf_sigmoid(v[0]) * NNF_TANH(v[2]);
        first = nnf_sigmoid(v[3]) * NNF_TANH(second);
    } else if (p[NNF_P_CELL] == NNF_CELL_RNN) {
        second = v[0];
        first = NNF_TANH(v[0]);
    } else if (p[NNF_P_CELL] == NNF_CELL_GRU_BEFORE && !p[NNF_P_STAGE]) {
        second = nnf_sigmoid(v[0]);
        first = second * h;
    } else {
        real z = nnf_sigmoid(v[1]);
        if (p[NNF_P_CELL] == NNF_CELL_GRU)
            v[2] = a[2 * o] + b[2 * o] + nnf_sigmoid(v[0]) * (s[2 * o] + b[3 * o]);
        second = NNF_TANH(v[2]);
        first = ((real)1 - z) * second + z * h;
    }
    out[2 * id] = first;
    out[2 * id + 1] = second;
}
