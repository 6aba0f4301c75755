#!/usr/bin/env python3
"""Writes tests/unit/hf_tf_names.h: what the TensorFlow models of transformers (4.46, the last) call
the tensors that hf_names.h lists, and their shapes there. Needs tensorflow and tf-keras beside it:

    python gen_hf_tf_names.py > tests/unit/hf_tf_names.h

Which PyTorch tensor a TensorFlow variable is, is told by transformers' own bridge. The model's own
name, which its loader leaves out, is "tf_FAMILY_model".
"""
import os
import pathlib
import re

os.environ.update(USE_TORCH="0", USE_FLAX="0", USE_TF="1", TF_USE_LEGACY_KERAS="1",
                  TF_CPP_MIN_LOG_LEVEL="3")
import transformers as T
from transformers.modeling_tf_pytorch_utils import convert_tf_weight_name_to_pt_weight_name

SMALL = dict(vocab_size=37, hidden_size=24, num_hidden_layers=1, num_attention_heads=3,
             intermediate_size=40, max_position_embeddings=32)
VISION = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=40,
              image_size=16, patch_size=4)
LLAMA = {**SMALL, "num_attention_heads": 6, "num_key_value_heads": 3}
FAMILIES = {
    "bert": ("Bert", SMALL, ["ForPreTraining", "ForSequenceClassification",
                             "ForQuestionAnswering"]),
    "roberta": ("Roberta", SMALL, ["ForMaskedLM", "ForQuestionAnswering"]),
    "distilbert": ("DistilBert", dict(vocab_size=37, dim=24, n_layers=1, n_heads=3, hidden_dim=40,
                                      max_position_embeddings=32),
                   ["ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering"]),
    "gpt2": ("GPT2", dict(vocab_size=37, n_embd=24, n_layer=1, n_head=3, n_positions=32),
             ["LMHeadModel"]),
    "mistral": ("Mistral", LLAMA, ["ForCausalLM"]),
    "t5": ("T5", dict(vocab_size=37, d_model=24, d_kv=8, num_heads=3, d_ff=40, num_layers=1),
           ["ForConditionalGeneration"]),
    "vit": ("ViT", VISION, ["ForImageClassification"]),
    "clip": ("CLIP", dict(text_config=dict(SMALL), vision_config=VISION, projection_dim=16),
             ["Model"]),
    "whisper": ("Whisper", dict(vocab_size=37, d_model=24, encoder_layers=1, decoder_layers=1,
                                encoder_attention_heads=3, decoder_attention_heads=3,
                                encoder_ffn_dim=40, decoder_ffn_dim=40, num_mel_bins=8,
                                max_source_positions=20, max_target_positions=16, pad_token_id=0,
                                bos_token_id=1, eos_token_id=2, decoder_start_token_id=1),
                ["ForConditionalGeneration"]),
    "resnet": ("ResNet", dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2],
                              layer_type="bottleneck", num_labels=5), ["ForImageClassification"]),
}
LISTED = set(re.findall(r'\{"(\w+)", "([^"]+)"', (pathlib.Path(__file__).parents[1] / "unit" /
                                                   "hf_names.h").read_text()))


def family(name):
    config_class, arguments, classes = FAMILIES[name]
    seen = set()
    for c in classes:
        model = getattr(T, f"TF{config_class}{c}")(getattr(T, config_class + "Config")(**arguments))
        model.build_in_name_scope()
        for layer in model.layers:
            for w in layer.trainable_weights + layer.non_trainable_weights:
                inner = w.name.split("/", 1)[1]
                torch, _ = convert_tf_weight_name_to_pt_weight_name(w.name, "", w.shape)
                torch = torch.removeprefix("clip.").replace("moving_mean", "running_mean").replace(
                    "moving_variance", "running_var")  # the bridge's caller renames these
                if torch in seen or (name, torch) not in LISTED:
                    continue
                seen.add(torch)
                parts = [layer.name, f"tf_{name}_model", *inner.split("/")]
                text = ".".join(p.replace(".", "\\\\.") for p in parts)
                print('    {"%s", "%s", "%s", %d, {%s}},' % (name, torch, text, len(w.shape),
                                                          ", ".join(map(str, w.shape))))


print("""/* Made by tests/golden/gen_hf_tf_names.py from transformers %s; do not edit. Family, name in
 * PyTorch, name and shape in TensorFlow.
 */
// clang-format off""" % T.__version__)
for f in FAMILIES:
    family(f)
print("    // clang-format on")
