/* Code books of the IQ block types, see block_grid.c. */
#ifndef CONVERT_BLOCK_GRID_H
#define CONVERT_BLOCK_GRID_H
#include <stdint.h>

/* eight values an entry, two bits each */
extern const uint16_t block_grid_iq1[2048];
extern const uint16_t block_grid_iq2_xxs[256];
extern const uint16_t block_grid_iq2_xs[512];
extern const uint16_t block_grid_iq2_s[1024];
/* four values an entry, three bits each */
extern const uint16_t block_grid_iq3_xxs[256];
extern const uint16_t block_grid_iq3_s[512];
#endif
