/* Where the weights of an archive came from. Facts alone, without host, clock or folder: the same
 * source and options give the same bytes.
 */
#ifndef MODEL_ORIGIN_H
#define MODEL_ORIGIN_H
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

/* The source's tensors that make its digest (model/id.h), and those here. */
enum origin_tensors {
    ORIGIN_SAME,     /* these are they: the digests are equal */
    ORIGIN_CHANGED,  /* they have other names, axes or values here, or some are not here */
    ORIGIN_SELECTED, /* --select took a part; the others were not read, there is no digest */
    ORIGIN_COMPUTED  /* weights were folded or merged; there is no digest */
};
#define ORIGIN_N 4
/* "same", "changed" ... */
const char *origin_word(enum origin_tensors t);
struct origin_file {
    struct str name; /* without its folder */
    uint64_t n_bytes;
};
struct origin {
    const struct origin_file *file;
    size_t n_files;
    struct str format, framework, writer;
    enum origin_tensors tensors;
    uint8_t id[32]; /* SAME, CHANGED: what `nnferry id` prints of the source */
};
bool origin_has_id(const struct origin *o);
#endif
