/* config.json out of GGUF's key-values and back, by a table for each architecture. A config is made
 * only where the key-values tell all that the model needs; what they lack is named. Tokenizers stay
 * as they came. Source: llama.cpp, convert_hf_to_gguf.py (set_gguf_parameters), docs/gguf.md;
 * transformers, configuration_NAME.py.
 */
#include "codec/gguf.h"
#include "codec/json.h"
#include "framework/gguf.h"
#include <string.h>

struct str gguf_meta(const struct model *m, const char *arch, const char *key)
{
    for (size_t i = 0; i < m->n_meta; i++) {
        struct str k = m->meta[i].key;
        size_t n = strlen(arch);
        if (n ? str_starts(k, str_from(arch)) && k.n > n && k.p[n] == '.' &&
                    str_is(str_sub(k, n + 1, k.n), key)
              : str_is(k, key))
            return m->meta[i].value;
    }
    return STR_NONE;
}

const struct family *gguf_family(const struct model *m)
{
    struct str arch = gguf_meta(m, "", "general.architecture");
    for (size_t i = 0; i < n_families; i++)
        if (families[i]->arch && str_is(arch, families[i]->arch))
            return families[i];
    return NULL;
}

enum key_type { KEY_U32, KEY_F32, KEY_BOOL };
struct key {
    const char *config, *nested; /* of config.json; nested: where newer configs have it, or NULL */
    const char *gguf;            /* below the architecture */
    enum key_type type;
    bool needed;
    const char *again; /* another of GGUF's keys that tells the same, or NULL */
};
#define KEYS_OF_A_TRANSFORMER                                                                      \
    {"max_position_embeddings", NULL, "context_length", KEY_U32, true, NULL},                      \
        {"hidden_size", NULL, "embedding_length", KEY_U32, true, NULL},                            \
        {"intermediate_size", NULL, "feed_forward_length", KEY_U32, true, NULL},                   \
        {"num_hidden_layers", NULL, "block_count", KEY_U32, true, NULL},                           \
    {                                                                                              \
        "num_attention_heads", NULL, "attention.head_count", KEY_U32, true, NULL                   \
    }
static const struct key llama_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"num_key_value_heads", NULL, "attention.head_count_kv", KEY_U32, true, NULL},
    {"rms_norm_eps", NULL, "attention.layer_norm_rms_epsilon", KEY_F32, true, NULL},
    {"rope_theta", "rope_parameters.rope_theta", "rope.freq_base", KEY_F32, false, NULL},
    {"head_dim", NULL, "attention.key_length", KEY_U32, false, NULL},
};
static const struct key gpt2_keys[] = {
    {"n_positions", NULL, "context_length", KEY_U32, true, NULL},
    {"n_embd", NULL, "embedding_length", KEY_U32, true, NULL},
    {"n_inner", NULL, "feed_forward_length", KEY_U32, false, NULL},
    {"n_layer", NULL, "block_count", KEY_U32, true, NULL},
    {"n_head", NULL, "attention.head_count", KEY_U32, true, NULL},
    {"layer_norm_epsilon", NULL, "attention.layer_norm_epsilon", KEY_F32, true, NULL},
};
static const struct key bert_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"layer_norm_eps", NULL, "attention.layer_norm_epsilon", KEY_F32, true, NULL},
};
static const struct key gpt_neox_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"layer_norm_eps", NULL, "attention.layer_norm_epsilon", KEY_F32, true, NULL},
    {"use_parallel_residual", NULL, "use_parallel_residual", KEY_BOOL, true, NULL},
    {"rope_theta", "rope_parameters.rope_theta", "rope.freq_base", KEY_F32, false, NULL},
};
static const struct key t5_keys[] = {
    {"n_positions", NULL, "context_length", KEY_U32, false, NULL},
    {"d_model", NULL, "embedding_length", KEY_U32, true, NULL},
    {"d_ff", NULL, "feed_forward_length", KEY_U32, true, NULL},
    {"num_layers", NULL, "block_count", KEY_U32, true, NULL},
    {"num_decoder_layers", NULL, "decoder_block_count", KEY_U32, false, NULL},
    {"num_heads", NULL, "attention.head_count", KEY_U32, true, NULL},
    {"d_kv", NULL, "attention.key_length", KEY_U32, true, "attention.value_length"},
    {"layer_norm_epsilon", NULL, "attention.layer_norm_rms_epsilon", KEY_F32, true,
     "attention.layer_norm_epsilon"},
    {"relative_attention_num_buckets", NULL, "attention.relative_buckets_count", KEY_U32, true,
     NULL},
    {"decoder_start_token_id", NULL, "decoder_start_token_id", KEY_U32, false, NULL},
};
static const struct key phi_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"num_key_value_heads", NULL, "attention.head_count_kv", KEY_U32, false, NULL},
    {"layer_norm_eps", NULL, "attention.layer_norm_epsilon", KEY_F32, true, NULL},
    {"rope_theta", "rope_parameters.rope_theta", "rope.freq_base", KEY_F32, false, NULL},
};
static const struct key phi3_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"num_key_value_heads", NULL, "attention.head_count_kv", KEY_U32, true, NULL},
    {"rms_norm_eps", NULL, "attention.layer_norm_rms_epsilon", KEY_F32, true, NULL},
    {"rope_theta", "rope_parameters.rope_theta", "rope.freq_base", KEY_F32, false, NULL},
    {"original_max_position_embeddings", NULL, "rope.scaling.original_context_length", KEY_U32,
     false, NULL},
    {"sliding_window", NULL, "attention.sliding_window", KEY_U32, false, NULL},
};
#define HEADS_APART                                                                                \
    {                                                                                              \
        "head_dim", NULL, "attention.key_length", KEY_U32, false, "attention.value_length"         \
    }
static const struct key qwen3_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"num_key_value_heads", NULL, "attention.head_count_kv", KEY_U32, true, NULL},
    {"rms_norm_eps", NULL, "attention.layer_norm_rms_epsilon", KEY_F32, true, NULL},
    {"rope_theta", "rope_parameters.rope_theta", "rope.freq_base", KEY_F32, false, NULL},
    HEADS_APART,
};
static const struct key gemma_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"num_key_value_heads", NULL, "attention.head_count_kv", KEY_U32, true, NULL},
    {"rms_norm_eps", NULL, "attention.layer_norm_rms_epsilon", KEY_F32, true, NULL},
    {"rope_theta", "rope_parameters.rope_theta", "rope.freq_base", KEY_F32, false, NULL},
    {"head_dim", NULL, "attention.key_length", KEY_U32, true, "attention.value_length"},
};
static const struct key gemma2_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"num_key_value_heads", NULL, "attention.head_count_kv", KEY_U32, true, NULL},
    {"rms_norm_eps", NULL, "attention.layer_norm_rms_epsilon", KEY_F32, true, NULL},
    {"rope_theta", "rope_parameters.rope_theta", "rope.freq_base", KEY_F32, false, NULL},
    {"head_dim", NULL, "attention.key_length", KEY_U32, true, "attention.value_length"},
    {"attn_logit_softcapping", NULL, "attn_logit_softcapping", KEY_F32, true, NULL},
    {"final_logit_softcapping", NULL, "final_logit_softcapping", KEY_F32, true, NULL},
    {"sliding_window", NULL, "attention.sliding_window", KEY_U32, true, NULL},
};
static const struct key starcoder2_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"num_key_value_heads", NULL, "attention.head_count_kv", KEY_U32, true, NULL},
    {"norm_epsilon", NULL, "attention.layer_norm_epsilon", KEY_F32, true, NULL},
    {"rope_theta", "rope_parameters.rope_theta", "rope.freq_base", KEY_F32, false, NULL},
};
static const struct key stablelm_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"num_key_value_heads", NULL, "attention.head_count_kv", KEY_U32, true, NULL},
    {"layer_norm_eps", NULL, "attention.layer_norm_epsilon", KEY_F32, true, NULL},
    {"use_parallel_residual", NULL, "use_parallel_residual", KEY_BOOL, true, NULL},
    {"rope_theta", "rope_parameters.rope_theta", "rope.freq_base", KEY_F32, false, NULL},
};
static const struct key granite_keys[] = {
    KEYS_OF_A_TRANSFORMER,
    {"num_key_value_heads", NULL, "attention.head_count_kv", KEY_U32, true, NULL},
    {"rms_norm_eps", NULL, "attention.layer_norm_rms_epsilon", KEY_F32, true, NULL},
    {"rope_theta", "rope_parameters.rope_theta", "rope.freq_base", KEY_F32, false, NULL},
    {"attention_multiplier", NULL, "attention.scale", KEY_F32, true, NULL},
    {"embedding_multiplier", NULL, "embedding_scale", KEY_F32, true, NULL},
    {"residual_multiplier", NULL, "residual_scale", KEY_F32, true, NULL},
    {"logits_scaling", NULL, "logit_scale", KEY_F32, true, NULL},
};
static const struct architecture {
    const char *family, *class, *activation, *kind; /* kind: activation's value */
    const struct key *key;
    size_t n;
    bool rotary;      /* rope.dimension_count */
    const char *part; /* of config.json: the share of a head that it turns, or NULL */
    const char *rows; /* tensor whose rows are counted as type_vocab_size, or NULL */
} architectures[] = {
#define KEYS(k) k, sizeof k / sizeof *k
    {"llama", "LlamaForCausalLM", "hidden_act", "silu", KEYS(llama_keys), true, NULL, NULL},
    {"mistral", "MistralForCausalLM", "hidden_act", "silu", KEYS(llama_keys), true, NULL, NULL},
    {"qwen2", "Qwen2ForCausalLM", "hidden_act", "silu", KEYS(llama_keys), true, NULL, NULL},
    {"gpt2", "GPT2LMHeadModel", "activation_function", "gelu_new", KEYS(gpt2_keys), false, NULL,
     NULL},
    {"bert", "BertModel", "hidden_act", "gelu", KEYS(bert_keys), false, NULL, "token_types.weight"},
    {"gpt_neox", "GPTNeoXForCausalLM", "hidden_act", "gelu", KEYS(gpt_neox_keys), true,
     "rotary_pct", NULL},
    {"t5", "T5ForConditionalGeneration", "feed_forward_proj", "relu", KEYS(t5_keys), false, NULL,
     NULL},
    {"phi", "PhiForCausalLM", "hidden_act", "gelu_new", KEYS(phi_keys), true,
     "partial_rotary_factor", NULL},
    {"phi3", "Phi3ForCausalLM", "hidden_act", "silu", KEYS(phi3_keys), true,
     "partial_rotary_factor", NULL},
    {"qwen3", "Qwen3ForCausalLM", "hidden_act", "silu", KEYS(qwen3_keys), false, NULL, NULL},
    {"gemma", "GemmaForCausalLM", "hidden_act", "gelu_pytorch_tanh", KEYS(gemma_keys), false, NULL,
     NULL},
    {"gemma2", "Gemma2ForCausalLM", "hidden_activation", "gelu_pytorch_tanh", KEYS(gemma2_keys),
     false, NULL, NULL},
    {"granite", "GraniteForCausalLM", "hidden_act", "silu", KEYS(granite_keys), true, NULL, NULL},
    {"olmo2", "Olmo2ForCausalLM", "hidden_act", "silu", KEYS(llama_keys), false, NULL, NULL},
    {"starcoder2", "Starcoder2ForCausalLM", "hidden_act", "gelu_pytorch_tanh",
     KEYS(starcoder2_keys), false, NULL, NULL},
    {"stablelm", "StableLmForCausalLM", "hidden_act", "silu", KEYS(stablelm_keys), true,
     "partial_rotary_factor", NULL},
#undef KEYS
};

static const struct architecture *known(const struct family *f)
{
    for (size_t i = 0; f && i < sizeof architectures / sizeof *architectures; i++)
        if (strcmp(architectures[i].family, f->name) == 0)
            return &architectures[i];
    return NULL;
}

static uint64_t rows_of(const struct model *m, const char *name)
{
    int64_t t = name ? model_find(m, str_from(name)) : -1;
    return t >= 0 && m->tensor[t].n_dims == 2 ? m->tensor[t].dim[0] : 0;
}

/* Text of a whole key-value file entry, kept as an attachment's bytes. */
static enum status keep(struct model *dst, const char *name, const char *type, struct buf *b,
                        struct err *e)
{
    struct attachment *a;
    enum status st = buf_ok(b, e);
    uint8_t *copy = st == ST_OK ? arena_alloc(&dst->arena, 1, b->n + 1) : NULL;
    if (st == ST_OK && !copy)
        st = err_nomem(e, b->n);
    if (st == ST_OK)
        st = model_attach(dst, &a, e);
    if (st == ST_OK) {
        memcpy(copy, b->p, b->n);
        a->name = str_from(name);
        a->media_type = str_from(type);
        a->mem = copy;
        a->n_bytes = b->n;
    }
    buf_free(b);
    return st;
}

static bool attached(const struct model *m, const char *name)
{
    for (size_t i = 0; i < m->n_attachments; i++)
        if (str_is(m->attachment[i].name, name))
            return true;
    return false;
}

/* ---- to config.json ---- */

static void text(struct json_w *w, const char *key, const char *value)
{
    json_w_key(w, str_from(key));
    json_w_str(w, str_from(value));
}

static void number(struct json_w *w, const char *key, uint64_t value)
{
    json_w_key(w, str_from(key));
    json_w_u64(w, value);
}

static bool is_number(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '.' || s.p[i] == '-' || s.p[i] == '+' ||
              s.p[i] == 'e'))
            return false;
    return s.n > 0 && s.p[0] >= '0' && s.p[0] <= '9';
}

/* Of config.json: whether q, k and v have biases. */
static const struct {
    const char *family, *key;
} biases[] = {{"llama", "attention_bias"},  {"granite", "attention_bias"},
              {"qwen3", "attention_bias"},  {"gemma", "attention_bias"},
              {"gemma2", "attention_bias"}, {"olmo2", "attention_bias"},
              {"stablelm", "use_qkv_bias"}, {"starcoder2", "use_bias"}};

/* What llama.cpp takes for query_pre_attn_scalar, which no key tells: the width of a head, in the
 * model of 46 blocks the width of the model by the heads. */
static uint64_t gemma2_scalar(uint64_t blocks, uint64_t each, uint64_t width, uint64_t heads)
{
    return blocks == 46 && heads ? width / heads : each;
}

static uint64_t gemma2_scale(const struct model *m)
{
    static const char *const key[] = {"block_count", "attention.key_length", "embedding_length",
                                      "attention.head_count"};
    uint64_t v[4];
    for (size_t i = 0; i < 4; i++)
        if (!str_u64(gguf_meta(m, "gemma2", key[i]), &v[i]))
            return 0;
    return gemma2_scalar(v[0], v[1], v[2], v[3]);
}

static void write_config(struct json_w *w, const struct model *m, const struct family *f,
                         const struct architecture *x, struct arena *a)
{
    json_w_object(w);
    json_w_key(w, STR("architectures"));
    json_w_array(w);
    json_w_str(w, str_from(x->class));
    json_w_array_end(w);
    text(w, "model_type", f->type[0]);
    bool gated = strcmp(f->name, "t5") == 0 && model_find(m, STR("enc.blk.0.ffn_gate.weight")) >= 0;
    text(w, x->activation, gated ? "gated-gelu" : x->kind);
    for (size_t i = 0; i < x->n; i++) {
        struct str v = gguf_meta(m, f->arch, x->key[i].gguf);
        if (!v.n)
            continue;
        json_w_key(w, str_from(x->key[i].config));
        uint64_t whole; /* "50": transformers takes no integer for a float */
        if (x->key[i].type == KEY_F32 && str_u64(v, &whole) && whole < 1000000000)
            v = arena_fmt(a, "%.*s.0", STR_ARG(v));
        json_w_raw(w, v.p ? v : STR("null"));
    }
    number(w, "vocab_size", rows_of(m, "token_embd.weight"));
    if (gated) { /* T5 1.1 scales no outputs, whether its head is tied or not */
        json_w_key(w, STR("scale_decoder_outputs"));
        json_w_bool(w, false);
    }
    if (strcmp(f->name, "phi3") == 0) { /* whose default need not be a row */
        struct str pad = gguf_meta(m, "", "tokenizer.ggml.padding_token_id");
        json_w_key(w, STR("pad_token_id"));
        json_w_raw(w, is_number(pad) ? pad : STR("null"));
    }
    if (x->rows && rows_of(m, x->rows))
        number(w, "type_vocab_size", rows_of(m, x->rows));
    for (size_t i = 0; i < sizeof biases / sizeof *biases; i++) {
        if (strcmp(f->name, biases[i].family) != 0)
            continue;
        json_w_key(w, str_from(biases[i].key));
        json_w_bool(w, model_find(m, STR("blk.0.attn_q.bias")) >= 0);
    }
    uint64_t scale = strcmp(f->name, "gemma2") == 0 ? gemma2_scale(m) : 0;
    if (scale)
        number(w, "query_pre_attn_scalar", scale);
    uint64_t turned, width, heads;
    if (x->part && str_u64(gguf_meta(m, f->arch, "rope.dimension_count"), &turned) &&
        str_u64(gguf_meta(m, f->arch, "embedding_length"), &width) &&
        str_u64(gguf_meta(m, f->arch, "attention.head_count"), &heads) && width) {
        json_w_key(w, str_from(x->part));
        json_w_double(w, (double)turned * (double)heads / (double)width);
    }
    if (!f->bare) {
        json_w_key(w, STR("tie_word_embeddings"));
        json_w_bool(w, model_find(m, STR("output.weight")) < 0);
    }
    json_w_object_end(w);
}

enum status gguf_give(const struct model *src, const struct layers *l, struct model *dst,
                      struct str *why, struct err *e)
{
    const struct family *f = l->family;
    const struct architecture *x = known(f);
    if (attached(src, "config.json") || attached(dst, "config.json"))
        return ST_OK;
    if (!x) {
        *why = STR("not made: no table of this architecture's key-values");
        return ST_OK;
    }
    for (size_t i = 0; i < x->n && !why->n; i++) {
        struct str v = gguf_meta(src, f->arch, x->key[i].gguf);
        bool fits =
            x->key[i].type == KEY_BOOL ? str_is(v, "true") || str_is(v, "false") : is_number(v);
        if (v.n ? !fits : x->key[i].needed)
            *why = arena_fmt(&dst->arena, "not made: the key-values do not tell %s.%s", f->arch,
                             x->key[i].gguf);
    }
    if (gguf_meta(src, f->arch, "rope.scaling.type").n &&
        !str_is(gguf_meta(src, f->arch, "rope.scaling.type"), "none"))
        *why = STR("not made: a rope scaling is not spelled in a config");
    if (model_find(src, STR("rope_freqs.weight")) >= 0)
        *why =
            STR("not made: rope_freqs stands for a rope scaling that the key-values do not tell");
    if (why->n || !rows_of(src, "token_embd.weight"))
        return ST_OK;
    struct buf b = BUF_INIT;
    struct json_w w;
    json_w_init(&w, &b, 2);
    write_config(&w, src, f, x, &dst->arena);
    buf_u8(&b, '\n');
    return keep(dst, "config.json", "application/json", &b, e);
}

/* ---- to key-values ---- */

static void kv_scalar(struct buf *b, struct str key, uint32_t type, uint32_t bits, size_t n)
{
    gguf_w_string(b, key);
    for (size_t i = 0; i < 4; i++)
        buf_u8(b, (uint8_t)(type >> (8 * i)));
    for (size_t i = 0; i < n; i++)
        buf_u8(b, (uint8_t)(bits >> (8 * i)));
}

static void write_key(struct buf *b, const struct key *k, struct str key, struct str value)
{
    uint64_t v;
    if (k->type == KEY_U32 && str_u64(value, &v) && v <= UINT32_MAX) {
        gguf_w_kv_u32(b, key, (uint32_t)v);
    } else if (k->type == KEY_F32 && is_number(value)) {
        float f = (float)json_text_double(value);
        uint32_t bits;
        memcpy(&bits, &f, 4);
        kv_scalar(b, key, GGUF_F32, bits, 4);
    } else if (k->type == KEY_BOOL) {
        kv_scalar(b, key, GGUF_BOOL, str_is(value, "true"), 1);
    }
}

static enum status take_key(struct buf *b, const struct family *f, const struct key *k,
                            const struct config *c, struct arena *a, struct model *dst,
                            struct str *why, struct err *e)
{
    const char *names[2] = {k->gguf, k->again};
    struct str v = config_text(c, k->config);
    if (!v.n && k->nested)
        v = config_text(c, k->nested);
    if (!v.n && strcmp(k->config, "n_positions") == 0 && strcmp(f->name, "t5") == 0)
        v = STR("512"); /* T5 has no positions; llama.cpp wants a number */
    if (!v.n && k->needed && !why->n)
        *why = arena_fmt(&dst->arena, "config.json lacks %s", k->config);
    for (size_t i = 0; v.n && i < 2 && names[i]; i++) {
        struct str key = arena_fmt(a, "%s.%s", f->arch, names[i]);
        if (!key.p)
            return err_nomem(e, 64);
        write_key(b, k, key, v);
    }
    return ST_OK;
}

/* What llama.cpp would compute otherwise than the config says, and no key of ours tells it. */
static void unspoken(const struct family *f, const struct config *c, struct model *dst,
                     struct str *why)
{
    static const char *const scaling[] = {"rope_scaling.rope_type", "rope_scaling.type",
                                          "rope_parameters.rope_type"};
    for (size_t i = 0; i < 3 && !why->n; i++) {
        struct str v = config_text(c, scaling[i]);
        if (v.n && !str_is(v, "default"))
            *why = arena_fmt(&dst->arena, "without config.json's rope scaling, %.*s", STR_ARG(v));
    }
    struct str far = config_text(c, "relative_attention_max_distance");
    if (!why->n && strcmp(f->name, "t5") == 0 && far.n && !str_is(far, "128"))
        *why = STR("without relative_attention_max_distance: llama.cpp has 128");
    struct str scalar = config_text(c, "query_pre_attn_scalar");
    uint64_t have,
        want = gemma2_scalar(config_u64(c, "num_hidden_layers"), config_u64(c, "head_dim"),
                             config_u64(c, "hidden_size"), config_u64(c, "num_attention_heads"));
    if (!why->n && strcmp(f->name, "gemma2") == 0 && (!str_u64(scalar, &have) || have != want))
        *why = arena_fmt(&dst->arena, "without query_pre_attn_scalar: llama.cpp has %llu",
                         (unsigned long long)want);
}

enum status gguf_take(const struct model *src, const struct layers *l, struct model *dst,
                      struct str *why, struct err *e)
{
    const struct family *f = l->family;
    const struct architecture *x = known(f);
    struct arena a = ARENA_INIT;
    struct buf b = BUF_INIT;
    if (attached(src, "gguf.kv") || !x)
        return ST_OK;
    struct config *c = ARENA_NEW(&a, struct config);
    enum status st = c ? config_read(src, &a, c, e) : err_nomem(e, sizeof *c);
    gguf_w_kv_string(&b, STR("general.architecture"), str_from(f->arch));
    for (size_t i = 0; st == ST_OK && i < x->n; i++)
        st = take_key(&b, f, &x->key[i], c, &a, dst, why, e);
    if (st == ST_OK)
        unspoken(f, c, dst, why);
    uint64_t width = st == ST_OK ? config_u64(c, "hidden_size") : 0,
             heads = width ? config_u64(c, "num_attention_heads") : 0;
    if (x->rotary && heads) {
        uint64_t each = config_u64(c, "head_dim") ? config_u64(c, "head_dim") : width / heads;
        struct str part = x->part ? config_text(c, x->part) : STR_NONE;
        if (!part.n)
            part = config_text(c, "rope_parameters.partial_rotary_factor");
        double share = is_number(part) ? json_text_double(part) : 1;
        struct str key = arena_fmt(&a, "%s.rope.dimension_count", f->arch);
        if (key.p && share > 0 && share <= 1)
            gguf_w_kv_u32(&b, key, (uint32_t)((double)each * share));
    }
    arena_free(&a);
    if (st != ST_OK) {
        buf_free(&b);
        return st;
    }
    return keep(dst, "gguf.kv", "application/x-gguf-kv", &b, e);
}
