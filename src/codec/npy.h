/* The header of an .npy array: a Python literal, read by hand and never evaluated. Knows no tensor.
 *
 *   0   93 'NUMPY'   6  major, minor: (1,0) (2,0) (3,0)
 *   8   u16 (1.0) or u32: H       then H bytes: the literal, blanks, '\n'; then the data
 *
 * Taken: exactly the keys descr, fortran_order and shape, each once, in any order; plain strings
 * in either quotes without escapes; True, False; tuples of decimal numbers (old "3L" too).
 * Source: numpy/lib/_format_impl.py.
 *
 * Codes: npy-magic, npy-version, npy-header-length, npy-header, npy-key, npy-key-twice,
 * npy-structured, npy-descr, npy-shape.
 */
#ifndef CODEC_NPY_H
#define CODEC_NPY_H
#include "base/buf.h"
#include "base/cursor.h"

#define NPY_MAX_DIMS 64
#define NPY_HEADER_MAX 65535u /* more is needed for structured types only, which we refuse */

struct npy {
    char order;    /* '<' '>' '|' '=' or 0 where descr has none */
    char type;     /* the letter: 'f' 'i' 'u' 'b' 'c' 'V' 'S' 'U' 'O' 'M' 'm' ... */
    uint32_t item; /* the number behind it: bytes of an element (characters for 'U') */
    bool fortran;
    uint8_t n_dims;
    uint64_t dim[NPY_MAX_DIMS]; /* product, zero dims apart, is below 2^62 */
    uint64_t data;              /* bytes from the magic to the first element */
};
/* The cursor stands on the magic and is left on the first element. */
MUSTCHECK enum status npy_read(struct cursor *c, struct npy *out, struct err *e);
/* Appends a version 1.0 header, C order, padded so that the data starts at a multiple of 64 from
 * the magic; the bytes numpy itself writes. descr is text such as "<f4". */
void npy_write(struct buf *b, const char *descr, const uint64_t *dim, size_t n_dims);
#endif
