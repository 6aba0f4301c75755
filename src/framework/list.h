/* The frameworks: one line each. Order never means anything. */
X(canonical)
X(pytorch)
X(hf)
X(hf_flax)
X(flax)
X(nnx)
