/* HDF5 datasets as tensors: types and storages.
 */
#ifndef FORMAT_HDF5_TENSOR_H
#define FORMAT_HDF5_TENSOR_H
#include "codec/hdf5.h"
#include "model/model.h"

/* Adds a dataset with its storage; its name is not set. Types HDF5 does not
 * know are opaque and name themselves in an attribute "dtype", as Keras does for bfloat16. */
MUSTCHECK enum status hdf5_tensor_add(struct model *m, struct hdf5 *h, const struct hdf5_object *o,
                                      struct err *e);
/* The attribute that hdf5_tensor_add used up. */
bool hdf5_tensor_took(const struct hdf5_object *o, const struct hdf5_attr *a);
/* The other way round: the encoded datatype message of a dtype. *opaque: it wants the attribute. */
const uint8_t *hdf5_tensor_type(enum dtype t, size_t *n, bool *opaque);
#endif
