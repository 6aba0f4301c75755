/* How torch.nn's layers spell their leaves, in plain modules and in Hugging Face's models alike:
 * the body of a struct leaf_rule table. Source:
 * torch/nn/modules/{linear,conv,batchnorm,normalization,sparse,activation}.py.
 */
// clang-format off
#define L(k, r, l, n, x)                                                                           \
    {                                                                                              \
        LAYER_##k, r, 0, LEAF_##l, n, "", x                                                        \
    }
L(LINEAR, 0, WEIGHT, "weight", "O F"),
L(LINEAR, 0, BIAS, "bias", "O"),
{LAYER_LINEAR, 0, FORM_INPUT_FIRST, LEAF_WEIGHT, "weight", "", "F O"}, /* Conv1D */
L(CONV, 1, WEIGHT, "weight", "O I W"),
L(CONV, 2, WEIGHT, "weight", "O I H W"),
L(CONV, 3, WEIGHT, "weight", "O I D H W"),
L(CONV, 0, BIAS, "bias", "O"),
L(CONV_TRANSPOSE, 1, WEIGHT, "weight", "I O W"),
L(CONV_TRANSPOSE, 2, WEIGHT, "weight", "I O H W"),
L(CONV_TRANSPOSE, 3, WEIGHT, "weight", "I O D H W"),
L(CONV_TRANSPOSE, 0, BIAS, "bias", "O"),
L(BATCHNORM, 0, WEIGHT, "weight", "F"),
L(BATCHNORM, 0, BIAS, "bias", "F"),
L(BATCHNORM, 0, MEAN, "running_mean", "F"),
L(BATCHNORM, 0, VAR, "running_var", "F"),
L(BATCHNORM, 0, COUNT, "num_batches_tracked", ""),
L(LAYERNORM, 0, WEIGHT, "weight", "F"),
L(LAYERNORM, 0, BIAS, "bias", "F"),
L(GROUPNORM, 0, WEIGHT, "weight", "F"),
L(GROUPNORM, 0, BIAS, "bias", "F"),
L(EMBEDDING, 0, WEIGHT, "weight", "V D"),
L(PRELU, 0, WEIGHT, "weight", "O"),
{LAYER_PRELU, 0, FORM_ONE, LEAF_WEIGHT, "weight", "", "1"},
L(ATTENTION, 0, QKV_WEIGHT, "in_proj_weight", "(N D) E"),
L(ATTENTION, 0, QKV_BIAS, "in_proj_bias", "(N D)"),
L(ATTENTION, 0, Q_WEIGHT, "q_proj_weight", "(N D) E"),
L(ATTENTION, 0, K_WEIGHT, "k_proj_weight", "(N D) E"),
L(ATTENTION, 0, V_WEIGHT, "v_proj_weight", "(N D) E"),
L(ATTENTION, 0, O_WEIGHT, "out_proj.weight", "E (N D)"),
L(ATTENTION, 0, O_BIAS, "out_proj.bias", "E"),
// clang-format on
#undef L
