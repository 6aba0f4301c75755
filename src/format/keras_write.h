/* The HDF5 that keras-h5, keras-weights and keras write: layout of the file in memory, places of
 * the data behind it.
 */
#ifndef FORMAT_KERAS_WRITE_H
#define FORMAT_KERAS_WRITE_H
#include "codec/hdf5.h"
#include "format/format.h"

enum keras_style {
    KERAS_PATHS, /* groups and datasets as the names say */
    KERAS_LEGACY /* layers with lists of names; whole models under model_weights */
};
struct keras_layout {
    struct buf head; /* everything before the data; from mem, freed by keras_layout_free */
    uint64_t end;    /* of the file */
    uint32_t *order; /* tensors with data of their own in this file, in file order */
    size_t n;
    struct hdf5_wnode **node; /* per tensor of the list, NULL: an alias, or not in this file */
};
/* Lays out the tensors of m that `in` marks (NULL: all). ST_CANNOT: name-prefix, name-not-spelled,
 * hdf5-attribute. Memory from the arena, but for head. */
MUSTCHECK enum status keras_lay_out(const struct model *m, enum keras_style style, const bool *in,
                                    struct arena *a, struct keras_layout *x, struct err *e);
void keras_layout_free(struct keras_layout *x);
/* begin: writes the head to `file` at `base` and sets the places, with the digests in want. */
MUSTCHECK enum status keras_put(struct writer *w, const struct keras_layout *x, int file,
                                uint64_t base, unsigned want, struct err *e);
/* end: the whole file's CRC-32 from those of its tensors (WANT_CRC32), its head and the gaps. */
uint32_t keras_crc(const struct writer *w, const struct keras_layout *x);
#endif
