/* The streams' reader with BMI2: shifts that leave the flags alone. */
#include "codec/huffman_impl.h"

#define NAME(f) f##_avx2
#include "codec/huffman_read.h"
