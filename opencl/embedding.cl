/* embedding: item (t, d) writes table[row, d] with row = (t * STEP + SHIFT) mod ROWS. STEP is
 * prime to ROWS, so that t = 0 .. ROWS-1 looks every row up once, in scattered order.
 */
NNF_KERNEL void nnf_embedding(__global const i64 *p, __global const real *in, __global real *out)
{
    i64 id = NNF_ID();
    if (id >= p[NNF_P_ITEMS])
        return;
    i64 t = id / p[NNF_P_DIM], d = id % p[NNF_P_DIM];
    i64 row = (t * p[NNF_P_STEP] + p[NNF_P_SHIFT]) % p[NNF_P_ROWS];
    out[id] = in[p[NNF_P_W] + row * p[NNF_P_DIM] + d];
}
