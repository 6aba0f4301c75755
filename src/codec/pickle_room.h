/* Between the files of the pickle reader. */
#ifndef CODEC_PICKLE_ROOM_H
#define CODEC_PICKLE_ROOM_H
#include "codec/pickle.h"

/* Proves what the opcodes cannot: no cycle, no path longer than PICKLE_DEPTH, no key twice, no
 * state that would change what an allowed instance is. Only values reachable from the root. */
MUSTCHECK enum status pickle_prove(struct pickle *p, struct err *e);
#endif
