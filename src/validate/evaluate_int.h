/* What evaluate*.c share: an evaluation at work, and reading weights for it. Not for others. */
#ifndef VALIDATE_EVALUATE_INT_H
#define VALIDATE_EVALUATE_INT_H
#include "validate/evaluate.h"

struct job {
    const struct setting *s;
    const struct side *side;
    struct executor *x;
    uint64_t block_elems;
};
/* n values of the executor's type; the caller frees them. */
MUSTCHECK enum status job_alloc(const struct job *j, uint64_t n, void **out, struct err *e);
void job_put(const struct job *j, void *p, uint64_t i, double v);
double job_get(const struct job *j, const void *p, uint64_t i);
void *job_place(const struct job *j, void *p, uint64_t i); /* address of value i */
/* n values of the generator, of an input's part 0 .. 15 */
void job_random(const struct job *j, void *p, uint64_t n, uint64_t part, uint64_t from);
/* n values of a vector in the order of letters, or absent everywhere where the layer has none. */
MUSTCHECK enum status job_vector(const struct job *j, enum leaf slot, const char *letters,
                                 uint64_t n, double absent, void *dst, struct err *e);
/* out[n, outputs] = x W: the kernel's axes by letters, two of outputs and four of inputs. */
MUSTCHECK enum status job_product(const struct job *j, enum leaf slot, const char *letters,
                                  const void *x, uint64_t n, uint64_t inputs, uint64_t outputs,
                                  void *out, struct err *e);

/* out [n, outputs, s->out_dim] = x [n, inputs, in_dim] convolved with W, stride 1, `pad` zeros
 * before each axis and as many as it takes behind. */
MUSTCHECK enum status job_convolve(const struct job *j, enum leaf slot, const char *letters,
                                   const void *x, uint64_t n, uint64_t inputs,
                                   const uint64_t in_dim[3], const uint64_t pad[3],
                                   uint64_t outputs, void *out, struct err *e);

/* evaluate_cell.c */
MUSTCHECK enum status cell_setting(struct setting *s, struct side *a, struct side *b,
                                   struct arena *arena, struct str *why, struct str *assumed,
                                   struct str *input, struct err *e);
MUSTCHECK enum status evaluate_cell(const struct job *j, void *const *out, struct err *e);
#endif
