/* The frameworks: one line each. Order never means anything. */
X(canonical)
X(pytorch)
X(flax)
X(nnx)
X(keras)
X(tensorflow)
