#!/usr/bin/env python3
"""Writes tests/unit/hf_names.h: names and shapes of small Hugging Face models as the frameworks give
them, the table that test_family.c holds the families' tables against. Needs the last transformers
with Flax models (4.46), torch, jax and flax of its time, and gguf:

    python gen_hf_names.py > tests/unit/hf_names.h

and, for the families that came later, in PyTorch alone, any later transformers (5.23 was used):

    python gen_hf_names.py newer >> tests/unit/hf_names.h

Which Flax leaf a PyTorch tensor becomes is told by transformers' own bridge: every tensor is filled
with a number of its own. GGUF's names are those of the gguf package. Names that only old files have
are added by hand, and heads that
are saved only where they are not the embedding: "name dims", or "name dims | flax dims | gguf".
"""
import os
import sys

os.environ["USE_TF"] = "0"
os.environ["JAX_PLATFORMS"] = "cpu"
import gguf
import numpy as np
import torch
import transformers as T
from flax.traverse_util import flatten_dict

try:
    from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax
except ImportError:  # version 5
    convert_pytorch_state_dict_to_flax = None

SMALL = dict(vocab_size=37, hidden_size=24, num_hidden_layers=1, num_attention_heads=3,
             intermediate_size=40, max_position_embeddings=32)
VISION = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=40,
              image_size=16, patch_size=4)
LLAMA = {**SMALL, "num_attention_heads": 6, "num_key_value_heads": 3}
T5 = dict(vocab_size=37, d_model=24, d_kv=8, num_heads=3, d_ff=40, num_layers=1)
WHISPER = dict(vocab_size=37, d_model=24, encoder_layers=1, decoder_layers=1,
               encoder_attention_heads=3, decoder_attention_heads=3, encoder_ffn_dim=40,
               decoder_ffn_dim=40, num_mel_bins=8, max_source_positions=20,
               max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
               decoder_start_token_id=1)
CLIP = dict(text_config=dict(SMALL), vision_config=VISION, projection_dim=16)
RESNET = dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="bottleneck",
              num_labels=5)
DISTIL = dict(vocab_size=37, dim=24, n_layers=1, n_heads=3, hidden_dim=40,
              max_position_embeddings=32)
GPT2 = dict(vocab_size=37, n_embd=24, n_layer=1, n_head=3, n_positions=32)
# family: config class, arguments, model classes (without "Flax"), GGUF architecture, old names
FAMILIES = {
    "bert": ("Bert", SMALL, ["ForPreTraining", "ForSequenceClassification", "ForQuestionAnswering"],
             "bert", ["bert.embeddings.position_ids 1 32",
              "bert.embeddings.token_type_ids 1 32",
              "cls.predictions.decoder.weight 37 24 | cls.predictions.decoder.kernel 24 37 | "]),
    "roberta": ("Roberta", SMALL, ["ForMaskedLM", "ForSequenceClassification",
                                   "ForTokenClassification", "ForQuestionAnswering"], None,
                ["roberta.embeddings.position_ids 1 32", "roberta.embeddings.token_type_ids 1 32",
                 "roberta.pooler.dense.weight 24 24 | roberta.pooler.dense.kernel 24 24 | ",
                 "roberta.pooler.dense.bias 24 | roberta.pooler.dense.bias 24 | ",
                 "lm_head.decoder.weight 37 24 | lm_head.decoder.kernel 24 37 | "]),
    "distilbert": ("DistilBert", DISTIL, ["ForMaskedLM", "ForSequenceClassification",
                                          "ForQuestionAnswering"], None,
                   ["distilbert.embeddings.position_ids 1 32",
                    "vocab_projector.weight 37 24 | vocab_projector.kernel 24 37 | "]),
    "gpt2": ("GPT2", GPT2, ["LMHeadModel", "ForSequenceClassification"], "gpt2",
             ["transformer.h.0.attn.bias 1 1 32 32", "transformer.h.0.attn.masked_bias",
              "lm_head.weight 37 24 | lm_head.kernel 24 37 | output.weight"]),
    "gpt_neox": ("GPTNeoX", SMALL, ["ForCausalLM"], "gptneox",
                 ["gpt_neox.layers.0.attention.bias 1 1 32 32",
                  "gpt_neox.layers.0.attention.masked_bias",
                  "gpt_neox.layers.0.attention.rotary_emb.inv_freq 4"]),
    "llama": ("Llama", LLAMA, ["ForCausalLM", "ForSequenceClassification"], "llama",
              ["model.layers.0.self_attn.rotary_emb.inv_freq 2", "model.rotary_emb.inv_freq 2"]),
    "mistral": ("Mistral", LLAMA, ["ForCausalLM", "ForSequenceClassification"], "llama",
                ["model.layers.0.self_attn.rotary_emb.inv_freq 2", "model.rotary_emb.inv_freq 2"]),
    "qwen2": ("Qwen2", LLAMA, ["ForCausalLM", "ForSequenceClassification"], "qwen2",
              ["model.layers.0.self_attn.rotary_emb.inv_freq 2", "model.rotary_emb.inv_freq 2"]),
    "t5": ("T5", T5, ["ForConditionalGeneration"], "t5",
           ["encoder.embed_tokens.weight 37 24 | | ", "decoder.embed_tokens.weight 37 24 | | ",
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight 32 3 | | "
            "dec.blk.0.cross_attn_rel_b.weight"]),
    "mt5": ("MT5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
            ["ForConditionalGeneration"], "t5", []),
    "phi": ("Phi", {**SMALL, "partial_rotary_factor": 0.5},
            ["ForCausalLM", "ForSequenceClassification"], "phi2",
            ["model.layers.0.self_attn.q_layernorm.weight 8 | | ",
             "model.layers.0.self_attn.k_layernorm.weight 8 | | ",
             "model.layers.0.self_attn.rotary_emb.inv_freq 2", "model.rotary_emb.inv_freq 2"]),
    "phi3": ("Phi3", {**LLAMA, "pad_token_id": 0}, ["ForCausalLM", "ForSequenceClassification"],
             "phi3", ["model.layers.0.self_attn.rotary_emb.inv_freq 2",
                      "model.rotary_emb.inv_freq 2"]),
    "gemma": ("Gemma", {**LLAMA, "head_dim": 4}, ["ForCausalLM", "ForSequenceClassification"],
              "gemma", ["model.layers.0.self_attn.rotary_emb.inv_freq 2",
                        "model.rotary_emb.inv_freq 2",
                        "lm_head.weight 37 24 | lm_head.kernel 24 37 | -"]),
    "granite": ("Granite", LLAMA, ["ForCausalLM"], "granite",
                ["model.layers.0.self_attn.rotary_emb.inv_freq 2", "model.rotary_emb.inv_freq 2",
                 "score.weight 2 24 | | "]),
    "gemma2": ("Gemma2", {**LLAMA, "head_dim": 4}, ["ForCausalLM", "ForSequenceClassification"],
               "gemma2", ["model.layers.0.self_attn.rotary_emb.inv_freq 2",
                          "model.rotary_emb.inv_freq 2", "lm_head.weight 37 24 | | -"]),
    "starcoder2": ("Starcoder2", LLAMA, ["ForCausalLM", "ForSequenceClassification"], "starcoder2",
                   ["model.layers.0.self_attn.rotary_emb.inv_freq 2", "model.rotary_emb.inv_freq 2",
                    "lm_head.weight 37 24 | | output.weight"]),
    "stablelm": ("StableLm", {**LLAMA, "use_qkv_bias": True}, ["ForCausalLM",
                                                               "ForSequenceClassification"],
                 "stablelm", ["model.layers.0.self_attn.q_layernorm.norms.0.weight 4 | | -",
                              "model.layers.0.self_attn.k_layernorm.norms.0.weight 4 | | -",
                              "model.layers.0.self_attn.rotary_emb.inv_freq 2",
                              "model.rotary_emb.inv_freq 2"]),
    "vit": ("ViT", VISION, ["ForImageClassification", "Model"], None,
            ["vit.embeddings.mask_token 1 1 24 | vit.embeddings.mask_token 1 1 24 | "]),
    "clip": ("CLIP", CLIP, ["Model"], None, ["text_model.embeddings.position_ids 1 32",
                                             "vision_model.embeddings.position_ids 1 17"]),
    "whisper": ("Whisper", WHISPER, ["ForConditionalGeneration"], None,
                ["proj_out.weight 37 24 | proj_out.kernel 24 37 | "]),
    "resnet": ("ResNet", RESNET, ["ForImageClassification"], None, []),
}
NEWER = {
    "qwen3": ("Qwen3", {**LLAMA, "head_dim": 4}, ["ForCausalLM", "ForSequenceClassification"],
              "qwen3", ["model.layers.0.self_attn.rotary_emb.inv_freq 2",
                        "model.rotary_emb.inv_freq 2"]),
    "olmo2": ("Olmo2", LLAMA, ["ForCausalLM"], "olmo2",
              ["score.weight 2 24 | | -", "model.rotary_emb.inv_freq 2"]),
}


def dims(shape):
    return "{%s}" % ", ".join(map(str, shape)) if len(shape) else "{0}"


def entry(family, name, shape, flax="", flax_shape=(), ggml=""):
    print('    {"%s", "%s", %d, %s, "%s", %d, %s, "%s"},' % (
        family, name, len(shape), dims(shape), flax, len(flax_shape), dims(flax_shape), ggml))


def pairs(model, flax_class, config):
    """Flax path and shape of every tensor of a PyTorch model."""
    state, number = model.state_dict(), {}
    for i, key in enumerate(state):
        state[key] = torch.full(state[key].shape, float(i + 1))
        number[i + 1] = key
    out = {}
    leaves = flatten_dict(flax_class(config).params)
    for path, leaf in flatten_dict(convert_pytorch_state_dict_to_flax(state, flax_class(config))).items():
        if path in leaves:  # the bridge carries over what the model has no place for
            out[number[int(np.asarray(leaf).reshape(-1)[0])]] = (".".join(path), np.shape(leaf))
    return out


def family(name):
    config_class, arguments, classes, arch, old = (FAMILIES | NEWER)[name]
    config = getattr(T, config_class + "Config")(**arguments)
    ggml = gguf.get_tensor_name_map(next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch),
                                    1) if arch else None
    seen = set()
    for c in classes:
        model = getattr(T, config_class + c)(config)
        flax = getattr(T, "Flax" + config_class + c, None)
        try:
            there = pairs(model, flax, config) if flax else {}
        except Exception as e:  # no such model in Flax
            sys.stderr.write(f"{name} {c}: {e}\n")
            there = {}
        tied = {id(p): n for n, p in model.named_parameters()}
        for key, t in model.state_dict(keep_vars=True).items():
            if key.endswith("num_batches_tracked") or tied.get(id(t), key) != key:
                continue
            if config_class == "ViT" and c == "Model":
                key = "vit." + key
            if key in seen:
                continue
            seen.add(key)
            bare = key.removeprefix("bert.") if arch == "bert" else key
            g = ggml and ggml.get_name(bare, try_suffixes=(".weight", ".bias")) or ""
            if arch == "bert" and (bare.startswith(("pooler", "cls", "classifier", "qa"))):
                g = ""  # llama.cpp leaves them out
            entry(name, key, t.shape, *there.get(key, ("", ())), g)
    for line in old:
        here, there, ggml = (*line.split("|"), "-", "-")[:3]
        key, *shape = here.split()
        other, *turned = there.split() or [""]
        entry(name, key, tuple(map(int, shape)), other, tuple(map(int, turned)), ggml.strip())


if sys.argv[1:] == ["newer"]:
    for f in NEWER:
        family(f)
    sys.exit()
print("""/* Made by tests/golden/gen_hf_names.py from transformers %s and gguf; do not edit. Family, name
 * and shape in PyTorch, in Flax, name in GGUF; "": not told, "-": has none.
 */
// clang-format off""" % T.__version__)
for f in FAMILIES:
    family(f)
