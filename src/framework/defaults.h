/* What the frameworks' own layers and functions do unless they are told: where a source's and a
 * target's differ, the same weights compute something else. One table, printed whole by
 * `nnferry formats --json` and compared with the real frameworks by tests/interop/defaults.py.
 *
 * A setting is spelled by each framework (`argument`, `value`) and means something in words that
 * are the same for all (`means`): torch's BatchNorm momentum=0.1 and Keras's momentum=0.9 both mean
 * that 0.9 of a running average is kept.
 *
 *   of                      setting     means
 *   batchnorm, layernorm,   epsilon     the number
 *   groupnorm, rmsnorm
 *   rmsnorm                 factor      "weight", "weight + 1": what x is multiplied by
 *   batchnorm               momentum    the share of the running average that is kept
 *   groupnorm               groups      the number
 *   conv, conv_transpose,   padding     "none", "same" (odd units at the end), "causal"; or what
 *   conv_local                          torch adds on both sides of each axis, "(1, 1)"
 *   attention, lstm, gru,   batch       "first", "second" (after time), "absent"
 *   rnn, conv_lstm
 *   lstm, gru, rnn,         activation  of the new state: "tanh", "relu"
 *   conv_lstm
 *   lstm, gru, conv_lstm    gates       "sigmoid", "hard_sigmoid"
 *   conv_lstm               padding     of the input, as of conv; of the state always "same"
 *   conv_lstm               stride,     of the input: "1", or "above 1" in a config
 *                           dilation
 *   gru_before              reset       "before", "after" the recurrent product
 *   rope                    pairs       "halves" (j with j + D/2), "neighbours" (2j with 2j + 1)
 *   gelu                    form        "exact", "tanh"; "quick" is x * sigmoid(1.702 x)
 *   leaky_relu              slope       the number
 *   hard_sigmoid            form        "x/6+1/2", "x/5+1/2", each cut to 0 .. 1
 *   max_pool, avg_pool      padding     as of conv
 *   avg_pool                border      "counted", "left out": padding in the divisor
 */
#ifndef FRAMEWORK_DEFAULTS_H
#define FRAMEWORK_DEFAULTS_H
#include "framework/framework.h"

struct fact {
    const char *frameworks; /* names, a blank between them */
    const char *of, *setting;
    const char *argument; /* NULL: no argument, the framework always does so */
    const char *value;    /* the default as it is spelled; NULL: it must be given */
    const char *means;    /* NULL: it must be given */
};
extern const struct fact facts[];
extern const size_t n_facts;

/* NULL where the framework has no such layer or function, or no one default. */
const struct fact *fact_find(const char *framework, const char *of, const char *setting);
bool fact_is_of(const struct fact *f, const char *framework);
/* Do two meanings agree? Numbers within the rounding of float32. */
bool fact_same(struct str a, struct str b);
/* How a framework spells a meaning: the value of fact->argument. Empty: it has no word for it.
 * .p == NULL: no memory. */
struct str fact_spell(const struct fact *f, const char *framework, struct str means,
                      struct arena *a);
/* Does a setting matter to training only? */
bool fact_trains(const char *setting);
/* What the table calls a layer; NULL: nothing. */
const char *fact_of_layer(const struct layer *l);
#endif
