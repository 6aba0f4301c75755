/* The families' tables. Sources: transformers, src/transformers/models/NAME/modeling_NAME.py
 * (paths), modeling_flax_NAME.py and modeling_tf_NAME.py (the same paths); llama.cpp,
 * gguf-py/gguf/tensor_mapping.py and convert_hf_to_gguf.py (GGUF's names, and which rows it turns).
 */
#include "framework/family.h"

#define ROW(path, kind, gguf)                                                                      \
    {                                                                                              \
        path, LAYER_##kind, FORM_USUAL, false, gguf                                                \
    }
#define FORM(path, kind, form, gguf)                                                               \
    {                                                                                              \
        path, LAYER_##kind, FORM_##form, false, gguf                                               \
    }
#define BUFFER(path)                                                                               \
    {                                                                                              \
        path, LAYER_NONE, FORM_USUAL, false, NULL                                                  \
    }
/* weights of the layer normalisation, the dense layers of encoders after BERT */
#define BERT_LAYERS                                                                                \
    FORM("embeddings.word_embeddings", EMBEDDING, TABLE, "token_embd"),                            \
        ROW("embeddings.position_embeddings", EMBEDDING, "position_embd"),                         \
        ROW("embeddings.token_type_embeddings", EMBEDDING, "token_types"),                         \
        ROW("embeddings.LayerNorm", LAYERNORM, "token_embd_norm"),                                 \
        BUFFER("embeddings.position_ids"), BUFFER("embeddings.token_type_ids"),                    \
        ROW("encoder.layer.{}.attention.self.query", LINEAR, "blk.{}.attn_q"),                     \
        ROW("encoder.layer.{}.attention.self.key", LINEAR, "blk.{}.attn_k"),                       \
        ROW("encoder.layer.{}.attention.self.value", LINEAR, "blk.{}.attn_v"),                     \
        ROW("encoder.layer.{}.attention.output.dense", LINEAR, "blk.{}.attn_output"),              \
        ROW("encoder.layer.{}.attention.output.LayerNorm", LAYERNORM, "blk.{}.attn_output_norm"),  \
        ROW("encoder.layer.{}.intermediate.dense", LINEAR, "blk.{}.ffn_up"),                       \
        ROW("encoder.layer.{}.output.dense", LINEAR, "blk.{}.ffn_down"),                           \
        ROW("encoder.layer.{}.output.LayerNorm", LAYERNORM, "blk.{}.layer_output_norm"),           \
        ROW("pooler.dense", LINEAR, NULL)

static const struct family_row bert_rows[] = {
    BERT_LAYERS,
    ROW("/cls.predictions.transform.dense", LINEAR, NULL),
    ROW("/cls.predictions.transform.LayerNorm", LAYERNORM, NULL),
    ROW("/cls.predictions.decoder", LINEAR, NULL),
    ROW("/cls.predictions.bias", PARAM, NULL),
    ROW("/cls.seq_relationship", LINEAR, NULL),
    ROW("/classifier", LINEAR, NULL),
    ROW("/qa_outputs", LINEAR, NULL),
};
static const struct family_row roberta_rows[] = {
    BERT_LAYERS,
    ROW("/lm_head.dense", LINEAR, NULL),
    ROW("/lm_head.layer_norm", LAYERNORM, NULL),
    ROW("/lm_head.decoder", LINEAR, NULL),
    ROW("/lm_head.bias", PARAM, NULL),
    ROW("/classifier.dense", LINEAR, NULL),
    ROW("/classifier.out_proj", LINEAR, NULL),
    ROW("/classifier", LINEAR, NULL),
    ROW("/qa_outputs", LINEAR, NULL),
};
static const struct family_row distilbert_rows[] = {
    FORM("embeddings.word_embeddings", EMBEDDING, TABLE, NULL),
    ROW("embeddings.position_embeddings", EMBEDDING, NULL),
    ROW("embeddings.LayerNorm", LAYERNORM, NULL),
    BUFFER("embeddings.position_ids"),
    ROW("transformer.layer.{}.attention.q_lin", LINEAR, NULL),
    ROW("transformer.layer.{}.attention.k_lin", LINEAR, NULL),
    ROW("transformer.layer.{}.attention.v_lin", LINEAR, NULL),
    ROW("transformer.layer.{}.attention.out_lin", LINEAR, NULL),
    ROW("transformer.layer.{}.sa_layer_norm", LAYERNORM, NULL),
    ROW("transformer.layer.{}.ffn.lin1", LINEAR, NULL),
    ROW("transformer.layer.{}.ffn.lin2", LINEAR, NULL),
    ROW("transformer.layer.{}.output_layer_norm", LAYERNORM, NULL),
    ROW("/vocab_transform", LINEAR, NULL),
    ROW("/vocab_layer_norm", LAYERNORM, NULL),
    ROW("/vocab_projector", LINEAR, NULL),
    ROW("/vocab_projector.bias", PARAM, NULL),
    ROW("/pre_classifier", LINEAR, NULL),
    ROW("/classifier", LINEAR, NULL),
    ROW("/qa_outputs", LINEAR, NULL),
};
static const struct family_row gpt2_rows[] = {
    ROW("wte", EMBEDDING, "token_embd"),
    ROW("wpe", EMBEDDING, "position_embd"),
    ROW("h.{}.ln_1", LAYERNORM, "blk.{}.attn_norm"),
    ROW("h.{}.ln_2", LAYERNORM, "blk.{}.ffn_norm"),
    FORM("h.{}.attn.c_attn", LINEAR, INPUT_FIRST, "blk.{}.attn_qkv"),
    FORM("h.{}.attn.c_proj", LINEAR, INPUT_FIRST, "blk.{}.attn_output"),
    FORM("h.{}.mlp.c_fc", LINEAR, INPUT_FIRST, "blk.{}.ffn_up"),
    FORM("h.{}.mlp.c_proj", LINEAR, INPUT_FIRST, "blk.{}.ffn_down"),
    BUFFER("h.{}.attn.bias"),
    BUFFER("h.{}.attn.masked_bias"),
    ROW("ln_f", LAYERNORM, "output_norm"),
    ROW("/lm_head", LINEAR, "output"),
    ROW("/score", LINEAR, NULL),
};
/* GGUF has q of all heads, then k, then v; the model has them head by head */
static const struct family_row gpt_neox_rows[] = {
    ROW("embed_in", EMBEDDING, "token_embd"),
    ROW("layers.{}.input_layernorm", LAYERNORM, "blk.{}.attn_norm"),
    ROW("layers.{}.post_attention_layernorm", LAYERNORM, "blk.{}.ffn_norm"),
    FORM("layers.{}.attention.query_key_value", LINEAR, HEADS_QKV, "blk.{}.attn_qkv"),
    ROW("layers.{}.attention.dense", LINEAR, "blk.{}.attn_output"),
    ROW("layers.{}.mlp.dense_h_to_4h", LINEAR, "blk.{}.ffn_up"),
    ROW("layers.{}.mlp.dense_4h_to_h", LINEAR, "blk.{}.ffn_down"),
    BUFFER("layers.{}.attention.bias"),
    BUFFER("layers.{}.attention.masked_bias"),
    BUFFER("layers.{}.attention.rotary_emb.inv_freq"),
    ROW("final_layer_norm", LAYERNORM, "output_norm"),
    ROW("/embed_out", LINEAR, "output"),
};
#define LLAMA_LAYERS(norm)                                                                         \
    ROW("embed_tokens", EMBEDDING, "token_embd"),                                                  \
        FORM("layers.{}.input_layernorm", LAYERNORM, norm, "blk.{}.attn_norm"),                    \
        FORM("layers.{}.post_attention_layernorm", LAYERNORM, norm, "blk.{}.ffn_norm"),            \
        ROW("layers.{}.self_attn.v_proj", LINEAR, "blk.{}.attn_v"),                                \
        ROW("layers.{}.self_attn.o_proj", LINEAR, "blk.{}.attn_output"),                           \
        ROW("layers.{}.mlp.gate_proj", LINEAR, "blk.{}.ffn_gate"),                                 \
        ROW("layers.{}.mlp.up_proj", LINEAR, "blk.{}.ffn_up"),                                     \
        ROW("layers.{}.mlp.down_proj", LINEAR, "blk.{}.ffn_down"),                                 \
        BUFFER("layers.{}.self_attn.rotary_emb.inv_freq"), BUFFER("rotary_emb.inv_freq"),          \
        FORM("norm", LAYERNORM, norm, "output_norm"), ROW("/lm_head", LINEAR, "output"),           \
        ROW("/score", LINEAR, NULL)
/* GGUF's rows of q and k take the pairs of a rotary embedding side by side */
static const struct family_row llama_rows[] = {
    {"layers.{}.self_attn.q_proj", LAYER_LINEAR, FORM_ROTARY, false, "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", LAYER_LINEAR, FORM_ROTARY, true, "blk.{}.attn_k"},
    LLAMA_LAYERS(RMS),
};
static const struct family_row granite_rows[] = {
    /* ... and no such model in Flax */
    {"layers.{}.self_attn.q_proj", LAYER_LINEAR, FORM_ROTARY, false, "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", LAYER_LINEAR, FORM_ROTARY, true, "blk.{}.attn_k"},
    LLAMA_LAYERS(USUAL),
};
static const struct family_row qwen2_rows[] = {
    ROW("layers.{}.self_attn.q_proj", LINEAR, "blk.{}.attn_q"),
    ROW("layers.{}.self_attn.k_proj", LINEAR, "blk.{}.attn_k"),
    LLAMA_LAYERS(USUAL), /* no such model in Flax, whose norms could be named otherwise */
};
static const struct family_row qwen3_rows[] = {
    ROW("layers.{}.self_attn.q_proj", LINEAR, "blk.{}.attn_q"),
    ROW("layers.{}.self_attn.k_proj", LINEAR, "blk.{}.attn_k"),
    ROW("layers.{}.self_attn.q_norm", LAYERNORM, "blk.{}.attn_q_norm"),
    ROW("layers.{}.self_attn.k_norm", LAYERNORM, "blk.{}.attn_k_norm"),
    LLAMA_LAYERS(USUAL),
};
/* The norms' weights are factors less 1; GGUF has the factors, and the table for the head too. */
#define GEMMA_LAYERS                                                                               \
    ROW("embed_tokens", EMBEDDING, "token_embd"),                                                  \
        FORM("layers.{}.input_layernorm", LAYERNORM, RMS_LESS, "blk.{}.attn_norm"),                \
        ROW("layers.{}.self_attn.q_proj", LINEAR, "blk.{}.attn_q"),                                \
        ROW("layers.{}.self_attn.k_proj", LINEAR, "blk.{}.attn_k"),                                \
        ROW("layers.{}.self_attn.v_proj", LINEAR, "blk.{}.attn_v"),                                \
        ROW("layers.{}.self_attn.o_proj", LINEAR, "blk.{}.attn_output"),                           \
        ROW("layers.{}.mlp.gate_proj", LINEAR, "blk.{}.ffn_gate"),                                 \
        ROW("layers.{}.mlp.up_proj", LINEAR, "blk.{}.ffn_up"),                                     \
        ROW("layers.{}.mlp.down_proj", LINEAR, "blk.{}.ffn_down"),                                 \
        BUFFER("layers.{}.self_attn.rotary_emb.inv_freq"), BUFFER("rotary_emb.inv_freq"),          \
        FORM("norm", LAYERNORM, RMS_LESS, "output_norm"), ROW("/lm_head", LINEAR, NULL),           \
        ROW("/score", LINEAR, NULL)
static const struct family_row gemma_rows[] = {
    GEMMA_LAYERS,
    FORM("layers.{}.post_attention_layernorm", LAYERNORM, RMS_LESS, "blk.{}.ffn_norm"),
};
static const struct family_row gemma2_rows[] = {
    GEMMA_LAYERS,
    FORM("layers.{}.post_attention_layernorm", LAYERNORM, RMS_LESS, "blk.{}.post_attention_norm"),
    FORM("layers.{}.pre_feedforward_layernorm", LAYERNORM, RMS_LESS, "blk.{}.ffn_norm"),
    FORM("layers.{}.post_feedforward_layernorm", LAYERNORM, RMS_LESS, "blk.{}.post_ffw_norm"),
};
static const struct family_row olmo2_rows[] = {
    ROW("embed_tokens", EMBEDDING, "token_embd"),
    ROW("layers.{}.self_attn.q_proj", LINEAR, "blk.{}.attn_q"),
    ROW("layers.{}.self_attn.k_proj", LINEAR, "blk.{}.attn_k"),
    ROW("layers.{}.self_attn.v_proj", LINEAR, "blk.{}.attn_v"),
    ROW("layers.{}.self_attn.o_proj", LINEAR, "blk.{}.attn_output"),
    ROW("layers.{}.self_attn.q_norm", LAYERNORM, "blk.{}.attn_q_norm"),
    ROW("layers.{}.self_attn.k_norm", LAYERNORM, "blk.{}.attn_k_norm"),
    ROW("layers.{}.mlp.gate_proj", LINEAR, "blk.{}.ffn_gate"),
    ROW("layers.{}.mlp.up_proj", LINEAR, "blk.{}.ffn_up"),
    ROW("layers.{}.mlp.down_proj", LINEAR, "blk.{}.ffn_down"),
    ROW("layers.{}.post_attention_layernorm", LAYERNORM, "blk.{}.post_attention_norm"),
    ROW("layers.{}.post_feedforward_layernorm", LAYERNORM, "blk.{}.post_ffw_norm"),
    BUFFER("rotary_emb.inv_freq"),
    ROW("norm", LAYERNORM, "output_norm"),
    ROW("/lm_head", LINEAR, "output"),
    ROW("/score", LINEAR, NULL),
};
static const struct family_row starcoder2_rows[] = {
    ROW("embed_tokens", EMBEDDING, "token_embd"),
    ROW("layers.{}.input_layernorm", LAYERNORM, "blk.{}.attn_norm"),
    ROW("layers.{}.post_attention_layernorm", LAYERNORM, "blk.{}.ffn_norm"),
    ROW("layers.{}.self_attn.q_proj", LINEAR, "blk.{}.attn_q"),
    ROW("layers.{}.self_attn.k_proj", LINEAR, "blk.{}.attn_k"),
    ROW("layers.{}.self_attn.v_proj", LINEAR, "blk.{}.attn_v"),
    ROW("layers.{}.self_attn.o_proj", LINEAR, "blk.{}.attn_output"),
    ROW("layers.{}.mlp.c_fc", LINEAR, "blk.{}.ffn_up"),
    ROW("layers.{}.mlp.c_proj", LINEAR, "blk.{}.ffn_down"),
    BUFFER("layers.{}.self_attn.rotary_emb.inv_freq"),
    BUFFER("rotary_emb.inv_freq"),
    ROW("norm", LAYERNORM, "output_norm"),
    ROW("/lm_head", LINEAR, "output"),
    ROW("/score", LINEAR, NULL),
};
/* GGUF joins the norms of the heads of q and k, one each, in one tensor: not done */
static const struct family_row stablelm_rows[] = {
    ROW("embed_tokens", EMBEDDING, "token_embd"),
    ROW("layers.{}.input_layernorm", LAYERNORM, "blk.{}.attn_norm"),
    ROW("layers.{}.post_attention_layernorm", LAYERNORM, "blk.{}.ffn_norm"),
    ROW("layers.{}.self_attn.q_proj", LINEAR, "blk.{}.attn_q"),
    ROW("layers.{}.self_attn.k_proj", LINEAR, "blk.{}.attn_k"),
    ROW("layers.{}.self_attn.v_proj", LINEAR, "blk.{}.attn_v"),
    ROW("layers.{}.self_attn.o_proj", LINEAR, "blk.{}.attn_output"),
    ROW("layers.{}.self_attn.q_layernorm.norms.{}", LAYERNORM, NULL),
    ROW("layers.{}.self_attn.k_layernorm.norms.{}", LAYERNORM, NULL),
    ROW("layers.{}.mlp.gate_proj", LINEAR, "blk.{}.ffn_gate"),
    ROW("layers.{}.mlp.up_proj", LINEAR, "blk.{}.ffn_up"),
    ROW("layers.{}.mlp.down_proj", LINEAR, "blk.{}.ffn_down"),
    BUFFER("layers.{}.self_attn.rotary_emb.inv_freq"),
    BUFFER("rotary_emb.inv_freq"),
    ROW("norm", LAYERNORM, "output_norm"),
    ROW("/lm_head", LINEAR, "output"),
    ROW("/score", LINEAR, NULL),
};
#define T5_ATTENTION(path, gguf)                                                                   \
    ROW(path ".q", LINEAR, gguf "_q"), ROW(path ".k", LINEAR, gguf "_k"),                          \
        ROW(path ".v", LINEAR, gguf "_v"), ROW(path ".o", LINEAR, gguf "_o"),                      \
        ROW(path ".relative_attention_bias", EMBEDDING, gguf "_rel_b")
/* ffn_up is wi where no gate stands beside it, else wi_1 */
#define T5_DENSE(path, gguf)                                                                       \
    ROW(path ".wi", LINEAR, gguf "_up"), ROW(path ".wi_0", LINEAR, gguf "_gate"),                  \
        ROW(path ".wi_1", LINEAR, gguf "_up"), ROW(path ".wo", LINEAR, gguf "_down")
static const struct family_row t5_rows[] = {
    ROW("shared", EMBEDDING, "token_embd"),
    ROW("encoder.embed_tokens", EMBEDDING, NULL),
    ROW("decoder.embed_tokens", EMBEDDING, NULL),
    T5_ATTENTION("encoder.block.{}.layer.0.SelfAttention", "enc.blk.{}.attn"),
    T5_ATTENTION("decoder.block.{}.layer.0.SelfAttention", "dec.blk.{}.attn"),
    T5_ATTENTION("decoder.block.{}.layer.1.EncDecAttention", "dec.blk.{}.cross_attn"),
    T5_DENSE("encoder.block.{}.layer.1.DenseReluDense", "enc.blk.{}.ffn"),
    T5_DENSE("decoder.block.{}.layer.2.DenseReluDense", "dec.blk.{}.ffn"),
    FORM("encoder.block.{}.layer.0.layer_norm", LAYERNORM, RMS, "enc.blk.{}.attn_norm"),
    FORM("encoder.block.{}.layer.1.layer_norm", LAYERNORM, RMS, "enc.blk.{}.ffn_norm"),
    FORM("decoder.block.{}.layer.0.layer_norm", LAYERNORM, RMS, "dec.blk.{}.attn_norm"),
    FORM("decoder.block.{}.layer.1.layer_norm", LAYERNORM, RMS, "dec.blk.{}.cross_attn_norm"),
    FORM("decoder.block.{}.layer.2.layer_norm", LAYERNORM, RMS, "dec.blk.{}.ffn_norm"),
    FORM("encoder.final_layer_norm", LAYERNORM, RMS, "enc.output_norm"),
    FORM("decoder.final_layer_norm", LAYERNORM, RMS, "dec.output_norm"),
    ROW("lm_head", LINEAR, "output"),
};
/* llama.cpp has no norms of q and k here */
static const struct family_row phi_rows[] = {
    ROW("embed_tokens", EMBEDDING, "token_embd"),
    ROW("layers.{}.input_layernorm", LAYERNORM, "blk.{}.attn_norm"),
    ROW("layers.{}.self_attn.q_proj", LINEAR, "blk.{}.attn_q"),
    ROW("layers.{}.self_attn.k_proj", LINEAR, "blk.{}.attn_k"),
    ROW("layers.{}.self_attn.v_proj", LINEAR, "blk.{}.attn_v"),
    ROW("layers.{}.self_attn.dense", LINEAR, "blk.{}.attn_output"),
    ROW("layers.{}.self_attn.q_layernorm", LAYERNORM, NULL),
    ROW("layers.{}.self_attn.k_layernorm", LAYERNORM, NULL),
    ROW("layers.{}.mlp.fc1", LINEAR, "blk.{}.ffn_up"),
    ROW("layers.{}.mlp.fc2", LINEAR, "blk.{}.ffn_down"),
    BUFFER("layers.{}.self_attn.rotary_emb.inv_freq"),
    BUFFER("rotary_emb.inv_freq"),
    ROW("final_layernorm", LAYERNORM, "output_norm"),
    ROW("/lm_head", LINEAR, "output"),
    ROW("/score", LINEAR, NULL),
};
/* q, then k, then v; gate, then up: as GGUF has them */
static const struct family_row phi3_rows[] = {
    ROW("embed_tokens", EMBEDDING, "token_embd"),
    ROW("layers.{}.input_layernorm", LAYERNORM, "blk.{}.attn_norm"),
    ROW("layers.{}.post_attention_layernorm", LAYERNORM, "blk.{}.ffn_norm"),
    ROW("layers.{}.self_attn.qkv_proj", LINEAR, "blk.{}.attn_qkv"),
    ROW("layers.{}.self_attn.o_proj", LINEAR, "blk.{}.attn_output"),
    ROW("layers.{}.mlp.gate_up_proj", LINEAR, "blk.{}.ffn_up"),
    ROW("layers.{}.mlp.down_proj", LINEAR, "blk.{}.ffn_down"),
    BUFFER("layers.{}.self_attn.rotary_emb.inv_freq"),
    BUFFER("rotary_emb.inv_freq"),
    ROW("norm", LAYERNORM, "output_norm"),
    ROW("/lm_head", LINEAR, "output"),
    ROW("/score", LINEAR, NULL),
};
static const struct family_row vit_rows[] = {
    ROW("embeddings.cls_token", PARAM, NULL),
    ROW("embeddings.position_embeddings", PARAM, NULL),
    ROW("embeddings.mask_token", PARAM, NULL),
    ROW("embeddings.patch_embeddings.projection", CONV, NULL),
    ROW("encoder.layer.{}.attention.attention.query", LINEAR, NULL),
    ROW("encoder.layer.{}.attention.attention.key", LINEAR, NULL),
    ROW("encoder.layer.{}.attention.attention.value", LINEAR, NULL),
    ROW("encoder.layer.{}.attention.output.dense", LINEAR, NULL),
    ROW("encoder.layer.{}.layernorm_before", LAYERNORM, NULL),
    ROW("encoder.layer.{}.layernorm_after", LAYERNORM, NULL),
    ROW("encoder.layer.{}.intermediate.dense", LINEAR, NULL),
    ROW("encoder.layer.{}.output.dense", LINEAR, NULL),
    ROW("layernorm", LAYERNORM, NULL),
    ROW("pooler.dense", LINEAR, NULL),
    ROW("/classifier", LINEAR, NULL),
};
#define CLIP_LAYERS(tower)                                                                         \
    ROW(tower ".encoder.layers.{}.self_attn.q_proj", LINEAR, NULL),                                \
        ROW(tower ".encoder.layers.{}.self_attn.k_proj", LINEAR, NULL),                            \
        ROW(tower ".encoder.layers.{}.self_attn.v_proj", LINEAR, NULL),                            \
        ROW(tower ".encoder.layers.{}.self_attn.out_proj", LINEAR, NULL),                          \
        ROW(tower ".encoder.layers.{}.layer_norm1", LAYERNORM, NULL),                              \
        ROW(tower ".encoder.layers.{}.layer_norm2", LAYERNORM, NULL),                              \
        ROW(tower ".encoder.layers.{}.mlp.fc1", LINEAR, NULL),                                     \
        ROW(tower ".encoder.layers.{}.mlp.fc2", LINEAR, NULL),                                     \
        BUFFER(tower ".embeddings.position_ids")
static const struct family_row clip_rows[] = {
    CLIP_LAYERS("text_model"),
    FORM("text_model.embeddings.token_embedding", EMBEDDING, TABLE, NULL),
    ROW("text_model.embeddings.position_embedding", EMBEDDING, NULL),
    ROW("text_model.final_layer_norm", LAYERNORM, NULL),
    CLIP_LAYERS("vision_model"),
    ROW("vision_model.embeddings.class_embedding", PARAM, NULL),
    ROW("vision_model.embeddings.patch_embedding", CONV, NULL),
    ROW("vision_model.embeddings.position_embedding", EMBEDDING, NULL),
    ROW("vision_model.pre_layrnorm", LAYERNORM, NULL),
    ROW("vision_model.post_layernorm", LAYERNORM, NULL),
    ROW("visual_projection", LINEAR, NULL),
    ROW("text_projection", LINEAR, NULL),
    FORM("logit_scale", PARAM, SCALAR, NULL),
};
#define WHISPER_ATTENTION(path)                                                                    \
    ROW(path ".q_proj", LINEAR, NULL), ROW(path ".k_proj", LINEAR, NULL),                          \
        ROW(path ".v_proj", LINEAR, NULL), ROW(path ".out_proj", LINEAR, NULL)
#define WHISPER_LAYERS(part)                                                                       \
    WHISPER_ATTENTION(part ".layers.{}.self_attn"),                                                \
        ROW(part ".layers.{}.self_attn_layer_norm", LAYERNORM, NULL),                              \
        ROW(part ".layers.{}.fc1", LINEAR, NULL), ROW(part ".layers.{}.fc2", LINEAR, NULL),        \
        ROW(part ".layers.{}.final_layer_norm", LAYERNORM, NULL),                                  \
        ROW(part ".layer_norm", LAYERNORM, NULL),                                                  \
        FORM(part ".embed_positions", EMBEDDING, TABLE, NULL)
static const struct family_row whisper_rows[] = {
    ROW("encoder.conv1", CONV, NULL),
    ROW("encoder.conv2", CONV, NULL),
    WHISPER_LAYERS("encoder"),
    WHISPER_LAYERS("decoder"),
    WHISPER_ATTENTION("decoder.layers.{}.encoder_attn"),
    ROW("decoder.layers.{}.encoder_attn_layer_norm", LAYERNORM, NULL),
    ROW("decoder.embed_tokens", EMBEDDING, NULL),
    ROW("/proj_out", LINEAR, NULL),
};
static const struct family_row resnet_rows[] = {
    ROW("embedder.embedder.convolution", CONV, NULL),
    ROW("embedder.embedder.normalization", BATCHNORM, NULL),
    ROW("encoder.stages.{}.layers.{}.layer.{}.convolution", CONV, NULL),
    ROW("encoder.stages.{}.layers.{}.layer.{}.normalization", BATCHNORM, NULL),
    ROW("encoder.stages.{}.layers.{}.shortcut.convolution", CONV, NULL),
    ROW("encoder.stages.{}.layers.{}.shortcut.normalization", BATCHNORM, NULL),
    ROW("/classifier.1", LINEAR, NULL),
};

#define ROWS(rows) .row = rows, .n = sizeof rows / sizeof *rows
static const struct family bert = {
    .name = "bert",
    .type = {"bert"},
    .prefix = "bert",
    .anchor = "encoder.layer.{}.attention.self.query",
    .head = "/cls.predictions.decoder",
    .tied = "embeddings.word_embeddings",
    .arch = "bert",
    .bare = true,
    .tf_join = "_._",
    .tf_head = {{"cls.predictions", "mlm___cls"}, {"cls.seq_relationship", "nsp___cls"}},
    ROWS(bert_rows),
};
static const struct family roberta = {
    .name = "roberta",
    .type = {"roberta", "xlm-roberta"},
    .prefix = "roberta",
    .anchor = "encoder.layer.{}.attention.self.query",
    .head = "/lm_head.decoder",
    .tied = "embeddings.word_embeddings",
    .tf_join = "_._",
    ROWS(roberta_rows),
};
static const struct family distilbert = {
    .name = "distilbert",
    .type = {"distilbert"},
    .prefix = "distilbert",
    .anchor = "transformer.layer.{}.attention.q_lin",
    .head = "/vocab_projector",
    .tied = "embeddings.word_embeddings",
    .tf_join = "_._",
    ROWS(distilbert_rows),
};
static const struct family gpt2 = {
    .name = "gpt2",
    .type = {"gpt2"},
    .prefix = "transformer",
    .anchor = "h.{}.attn.c_attn",
    .head = "/lm_head",
    .tied = "wte",
    .arch = "gpt2",
    .tf_join = "_._",
    ROWS(gpt2_rows),
};
static const struct family gpt_neox = {
    .name = "gpt_neox",
    .type = {"gpt_neox"},
    .prefix = "gpt_neox",
    .anchor = "layers.{}.attention.query_key_value",
    .head = "/embed_out",
    .tied = "embed_in",
    .arch = "gptneox",
    ROWS(gpt_neox_rows),
};
static const struct family llama = {
    .name = "llama",
    .type = {"llama"},
    .prefix = "model",
    .anchor = "layers.{}.self_attn.q_proj",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "llama",
    ROWS(llama_rows),
};
static const struct family mistral = {
    .name = "mistral",
    .type = {"mistral"},
    .prefix = "model",
    .anchor = "layers.{}.self_attn.q_proj",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "llama",
    .tf_join = ".",
    ROWS(llama_rows),
};
static const struct family qwen2 = {
    .name = "qwen2",
    .type = {"qwen2"},
    .prefix = "model",
    .anchor = "layers.{}.self_attn.q_proj",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "qwen2",
    ROWS(qwen2_rows),
};
static const struct family qwen3 = {
    .name = "qwen3",
    .type = {"qwen3"},
    .prefix = "model",
    .anchor = "layers.{}.self_attn.q_norm",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "qwen3",
    ROWS(qwen3_rows),
};
static const struct family granite = {
    .name = "granite",
    .type = {"granite"},
    .prefix = "model",
    .anchor = "layers.{}.self_attn.q_proj",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "granite",
    ROWS(granite_rows),
};
static const struct family gemma = {
    .name = "gemma",
    .type = {"gemma"},
    .prefix = "model",
    .anchor = "layers.{}.self_attn.q_proj",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "gemma",
    ROWS(gemma_rows),
};
static const struct family gemma2 = {
    .name = "gemma2",
    .type = {"gemma2"},
    .prefix = "model",
    .anchor = "layers.{}.pre_feedforward_layernorm",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "gemma2",
    ROWS(gemma2_rows),
};
static const struct family olmo2 = {
    .name = "olmo2",
    .type = {"olmo2"},
    .prefix = "model",
    .anchor = "layers.{}.self_attn.q_norm",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "olmo2",
    ROWS(olmo2_rows),
};
static const struct family starcoder2 = {
    .name = "starcoder2",
    .type = {"starcoder2"},
    .prefix = "model",
    .anchor = "layers.{}.mlp.c_fc",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "starcoder2",
    ROWS(starcoder2_rows),
};
static const struct family stablelm = {
    .name = "stablelm",
    .type = {"stablelm"},
    .prefix = "model",
    .anchor = "layers.{}.self_attn.q_proj",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "stablelm",
    ROWS(stablelm_rows),
};
static const struct family t5 = {
    .name = "t5",
    .type = {"t5", "mt5"},
    .prefix = "",
    .anchor = "encoder.block.{}.layer.0.SelfAttention.q",
    .head = "lm_head",
    .tied = "shared",
    .arch = "t5",
    .tf_join = "_._",
    ROWS(t5_rows),
};
static const struct family phi = {
    .name = "phi",
    .type = {"phi"},
    .prefix = "model",
    .anchor = "layers.{}.mlp.fc1",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "phi2",
    ROWS(phi_rows),
};
static const struct family phi3 = {
    .name = "phi3",
    .type = {"phi3"},
    .prefix = "model",
    .anchor = "layers.{}.self_attn.qkv_proj",
    .head = "/lm_head",
    .tied = "embed_tokens",
    .arch = "phi3",
    ROWS(phi3_rows),
};
static const struct family vit = {
    .name = "vit",
    .type = {"vit"},
    .prefix = "vit",
    .anchor = "encoder.layer.{}.attention.attention.query",
    .tf_join = "_._",
    ROWS(vit_rows),
};
static const struct family clip = {
    .name = "clip",
    .type = {"clip", "clip_text_model", "clip_vision_model"},
    .prefix = "",
    .anchor = "text_model.encoder.layers.{}.self_attn.q_proj",
    .tf_join = "_._",
    .tf_base = "clip",
    ROWS(clip_rows),
};
static const struct family whisper = {
    .name = "whisper",
    .type = {"whisper"},
    .prefix = "model",
    .anchor = "decoder.layers.{}.encoder_attn.q_proj",
    .head = "/proj_out",
    .tied = "decoder.embed_tokens",
    .tf_join = ".",
    ROWS(whisper_rows),
};
static const struct family resnet = {
    .name = "resnet",
    .type = {"resnet"},
    .prefix = "resnet",
    .anchor = "encoder.stages.{}.layers.{}.layer.{}.convolution",
    .tf_join = ".",
    ROWS(resnet_rows),
};
const struct family *const families[] = {
    &bert,  &roberta, &distilbert, &gpt2,       &gpt_neox, &llama,   &mistral, &qwen2,
    &t5,    &phi,     &phi3,       &vit,        &clip,     &whisper, &resnet,  &qwen3,
    &gemma, &gemma2,  &olmo2,      &starcoder2, &stablelm, &granite,
};
const size_t n_families = sizeof families / sizeof *families;
