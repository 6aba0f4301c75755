/* GGUF: llama.cpp multiplies ggml tensors whose first extent is the inputs, which is [out,in] in C
 * order, Conv1D weights stored so too; norms and tables are vectors and rows; a norm's
 * values are multiplied by its weight as it is, Gemma's too. Rows that it keeps in
 * another order than Hugging Face's models (rotary pairs of "llama", heads of "gptneox") give other
 * outputs before the rotation or the split: those layers have no form here and stay unproven by
 * themselves. Source: llama.cpp, src/llama-graph.cpp; ggml/src/ggml.c, ggml_mul_mat.
 */
#include "validate/convention.h"

#define AS(kind, leaf, form, axes)                                                                 \
    {                                                                                              \
        LAYER_##kind, LEAF_##leaf, LEAF_##leaf, 0, WHEN_FORM + form, 0, axes                       \
    }
static const struct form forms[] = {
    AS(LINEAR, WEIGHT, FORM_USUAL, "O (C S)"),
    AS(LINEAR, WEIGHT, FORM_INPUT_FIRST, "O (C S)"),
    AS(LINEAR, BIAS, FORM_USUAL, "O"),
    AS(LINEAR, BIAS, FORM_INPUT_FIRST, "O"),
    AS(LAYERNORM, WEIGHT, FORM_USUAL, "(C S)"),
    AS(LAYERNORM, BIAS, FORM_USUAL, "(C S)"),
    AS(LAYERNORM, WEIGHT, FORM_RMS, "(C S)"),
    AS(EMBEDDING, WEIGHT, FORM_USUAL, "V D"),
    AS(LAYERNORM, WEIGHT, FORM_RMS_LESS, "(C S)"),
};
#undef AS
const struct convention gguf_convention = {
    .name = "gguf", .form = forms, .n = sizeof forms / sizeof forms[0]};
