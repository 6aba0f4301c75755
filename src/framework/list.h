/* The frameworks: one line each. Order never means anything. */
X(canonical)
X(pytorch)
X(flax)
X(haiku)
X(nnx)
X(keras)
X(tensorflow)
