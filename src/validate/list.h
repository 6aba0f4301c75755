/* One line per convention: src/validate/convention_NAME.c exports NAME_convention. Order never
 * means anything.
 */
CONVENTION(canonical)
CONVENTION(equinox)
CONVENTION(flax)
CONVENTION(gguf)
CONVENTION(haiku)
CONVENTION(hf)
CONVENTION(hf_flax)
CONVENTION(hf_tf)
CONVENTION(nnx)
CONVENTION(pytorch)
CONVENTION(keras)
CONVENTION(tensorflow)
