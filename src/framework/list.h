/* The frameworks: one line each. Order never means anything. */
X(canonical)
X(pytorch)
X(equinox)
X(flax)
X(haiku)
X(nnx)
X(keras)
X(tensorflow)
