/* Attributes of the HDF5 files that are written: the lists of names legacy Keras loads by, and the
 * texts that came with the model.
 */
#ifndef FORMAT_KERAS_ATTR_H
#define FORMAT_KERAS_ATTR_H
#include "codec/hdf5.h"
#include "model/model.h"

MUSTCHECK enum status keras_attr_text(struct hdf5_wnode *n, struct arena *a, struct str name,
                                      struct str text, struct err *e);
/* Texts of meta "PATH@NAME", lists of "PATH@NAME[]"; a name that is there already stays, a path
 * that is not there is left out. */
MUSTCHECK enum status keras_attr_meta(const struct model *m, struct hdf5_wnode *root,
                                      struct arena *a, struct err *e);
/* Legacy: layer_names, weight_names, keras_version, backend, the configs; then the meta. The order
 * of a source that is no keras-h5 file is not trusted inside a layer: kernel before bias, and so
 * on, as Keras makes them. tensor.order says the rest. */
MUSTCHECK enum status keras_attr_legacy(const struct model *m, struct hdf5_wnode *root, bool whole,
                                        struct arena *a, struct err *e);
/* The list of layers a keras-h5 reader left in the meta; n = 0 where there is none. */
MUSTCHECK enum status keras_layer_names(const struct model *m, struct arena *a, struct str **name,
                                        size_t *n, struct err *e);
#endif
