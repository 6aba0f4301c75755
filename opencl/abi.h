/* What the host and the kernels agree on. The text is part of the program sent to a device, is
 * included by the native executor and by validate: only macros and enums, no types.
 *
 * Every kernel has one signature:
 *     kernel(global const i64 *p, global const real *in, global real *out)
 * p holds integers (below), in holds every operand one after the other (offsets in p, in
 * elements), and item number id writes out[id * p[NNF_P_WIDTH] ...) and nothing else: an item can
 * be repeated natively and compared. Kernels that accumulate add to what out held.
 */
#ifndef OPENCL_ABI_H
#define OPENCL_ABI_H

#define NNF_ABI_VERSION 1
#define NNF_MAX_PARAMS 64
#define NNF_MAX_KEYS 8 /* keys attended to; the attention kernel's private array */
#define NNF_COMPARE_WIDTH 10

/* Kernel numbers; names are in the same order in NNF_KERNEL_NAMES. */
enum {
    NNF_LINEAR,
    NNF_CONV,
    NNF_CONV_TRANSPOSE,
    NNF_BATCHNORM,
    NNF_GROUPNORM,
    NNF_EMBEDDING,
    NNF_ATTENTION,
    NNF_MULTIPLY,
    NNF_MAX_ABS,
    NNF_COMPARE,
    NNF_CELL,
    NNF_LOCAL,
    NNF_KERNEL_N
};
#define NNF_KERNEL_NAMES                                                                           \
    {                                                                                              \
        "nnf_linear", "nnf_conv", "nnf_conv_transpose", "nnf_batchnorm", "nnf_groupnorm",          \
            "nnf_embedding", "nnf_attention", "nnf_multiply", "nnf_max_abs", "nnf_compare",        \
            "nnf_cell", "nnf_local"                                                                \
    }

/* Common to all. */
#define NNF_P_ITEMS 0 /* ids 0 .. items-1 do work, higher ones return */
#define NNF_P_WIDTH 1 /* elements of out per item */
#define NNF_P_X 2     /* offset of the input in in */
#define NNF_P_W                                                                                    \
    3 /* offset of the weight's index 0 (may be negative: the block in in is part of               \
         the tensor) */

/* An axis of a strided operand: stride in elements, the half-open range [lo, hi) that the block in
 * in holds, and the whole extent. Axis k of a kernel starts at NNF_P_AXES + 4 * k. */
#define NNF_P_AXES 8
#define NNF_AXIS_EXTENT 0
#define NNF_AXIS_STRIDE 1
#define NNF_AXIS_LO 2
#define NNF_AXIS_HI 3
#define NNF_AXIS_N 4

/* linear: y[n,o] += sum over i of x[n,i] w(o,i). Axes 0,1: o = (o0,o1); 2..5: i = (i0,i1,i2,i3).
 * The bias is what out holds before. */
#define NNF_LINEAR_OUT_AXES 2
#define NNF_LINEAR_IN_AXES 4

/* local: axes 0 O, 1 C, 2 S of the window, 3..5 positions. x is [n, positions, C, S]; out [n, O,
 * positions]. */

/* conv: axes 0 O, 1 I per group, 2..4 kernel. conv_transpose: axes 0 I, 1 O per group, 2..4
 * kernel. x is [n, channels, s0, s1, s2]; out [n, channels, q0, q1, q2]. */
#define NNF_P_GROUPS 32
#define NNF_P_CHANNELS_IN 33
#define NNF_P_CHANNELS_OUT 34
#define NNF_P_IN_DIM 35 /* 3 */
#define NNF_P_OUT_DIM 38
#define NNF_P_STRIDE 41
#define NNF_P_DILATION 44
#define NNF_P_PAD 47 /* low side */

/* batchnorm: x [n,c,s]; groupnorm: x [n,c,s], item = (n, group). Stage 0: normalised, 1: times
 * gamma plus beta. Layer norm is one group whose gamma has an element per element. */
#define NNF_P_STAGE 4
#define NNF_P_C 8
#define NNF_P_S 9
#define NNF_P_G 10
#define NNF_P_MEAN 11
#define NNF_P_VAR 12
#define NNF_P_GAMMA 13
#define NNF_P_BETA 14
#define NNF_P_EPS 15
#define NNF_P_PER_ELEMENT 16

/* embedding: item (t, d) writes table[row(t), d], row(t) = (t * A + B) mod ROWS. */
#define NNF_P_ROWS 8
#define NNF_P_DIM 9
#define NNF_P_STEP 10
#define NNF_P_SHIFT 11

/* attention: item = (n, t, h) writes D elements. q [n,t,h,d], k and v [n,s,h,d]; SCALE is the
 * offset of one real. */
#define NNF_P_T 8
#define NNF_P_KEYS 9
#define NNF_P_HEADS 10
#define NNF_P_HEAD_DIM 11
#define NNF_P_Q 12
#define NNF_P_K 13
#define NNF_P_V 14
#define NNF_P_SCALE 15
#define NNF_P_VALUE_DIM 16

/* cell: see cell.cl. */
#define NNF_MAX_GATES 4
#define NNF_P_CELL 8
#define NNF_P_UNITS 9
#define NNF_P_GATES 10
#define NNF_P_STATE_SIDE 11
#define NNF_P_BIASES 12
#define NNF_P_STATE 13
#define NNF_P_MEMORY 14
#define NNF_CELL_LSTM 0
#define NNF_CELL_GRU 1
#define NNF_CELL_GRU_BEFORE 2
#define NNF_CELL_RNN 3

/* max_abs: stripes of in[X ..). compare: A at X, B at W, tolerances (rtol, atol) at TOL. */
#define NNF_P_COUNT 8
#define NNF_P_TOL 9

/* One stripe's results. FIRST is the element's number, -1 = none. Sums over pairs that are both
 * finite. */
#define NNF_C_MAX_ABS 0
#define NNF_C_SQUARES 1
#define NNF_C_DOT 2
#define NNF_C_AA 3
#define NNF_C_BB 4
#define NNF_C_MAX_REL 5
#define NNF_C_FAILS 6
#define NNF_C_FIRST 7
#define NNF_C_NONFINITE 8
#define NNF_C_FINITE 9
#endif
