/* Byte strings: a pointer and a length, never owned, may hold any byte. */
#ifndef BASE_STR_H
#define BASE_STR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
    const char *p;
    size_t n;
};
#define STR(lit) ((struct str){(lit), sizeof(lit) - 1})
#define STR_NONE ((struct str){0})
/* printf("%.*s", STR_ARG(s)); n is cut to int range */
#define STR_ARG(s) (int)((s).n > 1000000 ? 1000000 : (s).n), ((s).p ? (s).p : "")

struct str str_from(const char *z); /* NULL gives an empty string */
bool str_eq(struct str a, struct str b);
bool str_is(struct str a, const char *z);
int str_cmp(struct str a, struct str b); /* bytewise, shorter first on a tie */
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
struct str str_sub(struct str s, size_t lo, size_t hi); /* clamped */
/* first index of byte c at or after from, or s.n */
size_t str_find(struct str s, char c, size_t from);
size_t str_find_str(struct str s, struct str what, size_t from);
/* Takes the text up to the next sep off *rest (rest->p == NULL when used up). */
bool str_split(struct str *rest, char sep, struct str *part);
/* decimal digits only, no sign, no leading zero except "0"; false on overflow or other text */
bool str_u64(struct str s, uint64_t *out);
bool str_utf8(
    struct str s,
    size_t *bad_at); /* strict: no surrogates, no overlongs, <= U+10FFFF; bad_at may be NULL */
/* glob: * any run, ? one byte, [set]; matches the whole string; iterative, linear memory */
bool str_glob(struct str pattern, struct str s);
uint64_t str_hash(struct str s, uint64_t key); /* keyed, for hash tables of foreign names */
#endif
