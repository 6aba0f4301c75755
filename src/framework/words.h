/* What the last word of a layer's path says of parts that are stored in one tensor or in several:
 * query, key and value; gate and up. Never looks at shapes.
 */
#ifndef FRAMEWORK_WORDS_H
#define FRAMEWORK_WORDS_H
#include "base/str.h"

enum part_of { PART_NONE, PART_Q, PART_K, PART_V, PART_GATE, PART_UP };
/* Several in one, in the order that the name says. */
enum joined { JOINED_NONE, JOINED_QKV, JOINED_KV, JOINED_GATE_UP };
enum part_of part_said(struct str path);
enum joined joined_said(struct str path);
#endif
