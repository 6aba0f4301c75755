/* numpy arrays as tensors: what npy.c and npz.c share.
 *
 * A descr says less than we know: '<V2' is bfloat16 in the files of machine learning, '|V1' a byte
 * of unknown meaning (read as uint8), '<f1' float8_e5m2. Written: the types numpy has, and
 * bfloat16 as '<V2'; all other types of ours would lose their name there (ST_CANNOT).
 */
#ifndef FORMAT_NPY_ARRAY_H
#define FORMAT_NPY_ARRAY_H
#include "base/buf.h"
#include "codec/npy.h"
#include "format/format.h"

/* ST_INPUT npy-object (a pickle), npy-dtype; offsets are at, in f. *bytes: of the data. */
MUSTCHECK enum status npy_dtype(const struct npy *h, struct file *f, uint64_t at, enum dtype *out,
                                uint64_t *bytes, struct err *e);
/* Adds the tensor; the caller has filled storage number `storage`, whose byte 0 is the first
 * element. */
MUSTCHECK enum status npy_add(struct model *m, struct str name, const struct npy *h,
                              enum dtype dtype, uint32_t storage, struct file *f, uint64_t at,
                              struct err *e);
/* Text for a header, NULL where numpy has no name for the type. */
const char *npy_descr(enum dtype t);
/* ST_CANNOT "dtype" naming the tensor where there is no descr. */
MUSTCHECK enum status npy_can(const struct tensor *t, struct err *e);
#endif
