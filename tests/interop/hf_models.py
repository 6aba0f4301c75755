"""Hugging Face models of small configurations, made by today's transformers: through the archive,
into the Flax and TensorFlow models of the last release that had them, old state_dicts upgraded, GGUF files of the
gguf package with llama.cpp's own row orders; each time the logits are the original's."""

import json
import os
import pathlib
import subprocess

import gguf
import numpy as np
import torch
import transformers as T

from common import ROOT, Failure, convert, fresh, need, nnferry
from safetensors.numpy import load_file, save_file

HF_PYTHON = os.environ.get("NNFERRY_HF_PYTHON", str(ROOT / "build" / "venv-hf" / "bin" / "python"))
TEXT = dict(vocab_size=37, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=40, max_position_embeddings=32, bos_token_id=1, eos_token_id=2,
            pad_token_id=0)
VISION = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
              image_size=16, patch_size=4)
GQA = {**TEXT, "num_key_value_heads": 2}
MODELS = {
    "bert": lambda: T.BertForMaskedLM(T.BertConfig(**TEXT)),
    "bert_base": lambda: T.BertModel(T.BertConfig(**TEXT)),
    # TensorFlow's takes 1 for the padding whatever the config says
    "roberta": lambda: T.RobertaForMaskedLM(T.RobertaConfig(**{**TEXT, "pad_token_id": 1,
                                                               "bos_token_id": 0})),
    "distilbert": lambda: T.DistilBertForMaskedLM(T.DistilBertConfig(
        vocab_size=37, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=32)),
    "gpt2": lambda: T.GPT2LMHeadModel(T.GPT2Config(
        vocab_size=37, n_embd=32, n_layer=2, n_head=4, n_positions=32, bos_token_id=1,
        eos_token_id=2)),
    "gpt_neox": lambda: T.GPTNeoXForCausalLM(T.GPTNeoXConfig(**TEXT)),
    "llama": lambda: T.LlamaForCausalLM(T.LlamaConfig(**GQA)),
    "mistral": lambda: T.MistralForCausalLM(T.MistralConfig(**GQA)),
    "qwen2": lambda: T.Qwen2ForCausalLM(T.Qwen2Config(**GQA)),
    "t5": lambda: T.T5ForConditionalGeneration(T.T5Config(
        vocab_size=37, d_model=24, d_kv=8, num_heads=3, d_ff=40, num_layers=2)),
    "t5_gated": lambda: T.T5ForConditionalGeneration(T.T5Config(
        vocab_size=37, d_model=24, d_kv=8, num_heads=3, d_ff=40, num_layers=2,
        num_decoder_layers=1, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
        decoder_start_token_id=0)),
    "phi": lambda: T.PhiForCausalLM(T.PhiConfig(**TEXT, partial_rotary_factor=0.5)),
    "phi3": lambda: T.Phi3ForCausalLM(T.Phi3Config(**GQA)),
    "qwen3": lambda: T.Qwen3ForCausalLM(T.Qwen3Config(**GQA, head_dim=12)),
    "gemma": lambda: T.GemmaForCausalLM(T.GemmaConfig(**GQA, head_dim=12)),
    "gemma2": lambda: T.Gemma2ForCausalLM(T.Gemma2Config(
        **GQA, head_dim=12, query_pre_attn_scalar=12, sliding_window=4, attn_logit_softcapping=20.0,
        final_logit_softcapping=10.0)),
    "granite": lambda: T.GraniteForCausalLM(T.GraniteConfig(
        **GQA, attention_multiplier=0.25, embedding_multiplier=6.0, residual_multiplier=0.5,
        logits_scaling=4.0)),
    "olmo2": lambda: T.Olmo2ForCausalLM(T.Olmo2Config(**GQA)),
    "starcoder2": lambda: T.Starcoder2ForCausalLM(T.Starcoder2Config(**GQA)),
    "stablelm": lambda: T.StableLmForCausalLM(T.StableLmConfig(
        **GQA, use_qkv_bias=True, partial_rotary_factor=0.5)),
    "vit": lambda: T.ViTForImageClassification(T.ViTConfig(**VISION, num_labels=5)),
    "clip": lambda: T.CLIPModel(T.CLIPConfig(text_config=dict(TEXT), vision_config=dict(VISION),
                                             projection_dim=16)),
    "whisper": lambda: T.WhisperForConditionalGeneration(T.WhisperConfig(
        vocab_size=37, d_model=24, encoder_layers=2, decoder_layers=2, encoder_attention_heads=3,
        decoder_attention_heads=3, encoder_ffn_dim=40, decoder_ffn_dim=40, num_mel_bins=8,
        max_source_positions=20, max_target_positions=16, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1)),
    "resnet": lambda: T.ResNetForImageClassification(T.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 2, 1, 1], num_labels=5)),
}
IN_FLAX = [k for k in MODELS if k not in ("gpt_neox", "qwen2", "t5_gated", "phi", "phi3", "qwen3",
                                          "gemma2", "granite", "olmo2", "starcoder2", "stablelm")]
IN_TF = [k for k in IN_FLAX if k not in ("llama", "gemma")]
IN_GGUF = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "gpt2": "gpt2",
           "gpt_neox": "gptneox", "t5": "t5", "t5_gated": "t5", "phi": "phi2", "phi3": "phi3",
           "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2", "granite": "granite", "olmo2": "olmo2",
           "starcoder2": "starcoder2", "stablelm": "stablelm"}


OUTPUTS = ("logits", "logits_per_image", "last_hidden_state")


def inputs_of(kind):
    rng = np.random.default_rng(1)
    ids = rng.integers(3, 36, (2, 9)).astype(np.int64)
    side = 64 if kind == "resnet" else 16
    image = rng.standard_normal((2, 3, side, side)).astype(np.float32)
    if kind in ("vit", "resnet"):
        return {"pixel_values": image}
    if kind == "clip":
        return {"input_ids": ids, "pixel_values": image, "attention_mask": np.ones_like(ids)}
    if kind == "whisper":
        sound = rng.standard_normal((2, 8, 40)).astype(np.float32)
        return {"input_features": sound, "decoder_input_ids": ids}
    if kind.startswith("t5"):
        return {"input_ids": ids, "decoder_input_ids": ids[:, :5]}
    return {"input_ids": ids}


def logits(model, kind):
    with torch.no_grad():
        out = model.eval()(**{n: torch.from_numpy(v) for n, v in inputs_of(kind).items()})
    return next(out[n] for n in OUTPUTS if n in out).numpy()


def same_logits(folder, kind, want):
    got = logits(type(MODELS[kind]()).from_pretrained(folder), kind)
    need(np.array_equal(got, want), f"{kind}: logits differ by {np.abs(got - want).max()}")


def made(kind, where):
    """A model with no trivial number in it, saved; its logits."""
    torch.manual_seed(len(kind))
    model = MODELS[kind]()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
        for name, b in model.named_buffers():
            if "running" in name:
                b.add_(torch.rand_like(b) * 0.5)
    model.save_pretrained(where / kind)
    want = logits(model, kind)
    return model, want


def tensors_equal(a, b, what):
    need(a.keys() == b.keys(), f"{what}: other names {sorted(a.keys() ^ b.keys())[:4]}")
    for n in a:
        need(a[n].tobytes() == b[n].tobytes() and a[n].shape == b[n].shape, f"{what}: {n} differs")


def through_the_archive(kind, where):
    _, want = made(kind, where)
    source = where / kind
    need(nnferry("inspect", source).stdout.split("framework: ")[1].split()[0] == "hf", "not hf")
    convert(source, where / f"{kind}.tar.zst")
    for to in ("source", "hf"):
        back = where / f"{kind}-{to}"
        convert(where / f"{kind}.tar.zst", back, "--to", to, "--format", "safetensors",
                "--max-shard-size", "1G")
        tensors_equal(load_file(back / "model.safetensors"),
                      load_file(source / "model.safetensors"), f"{kind} --to {to}")
        same_logits(back, kind, want)
    return f"{len(load_file(source / 'model.safetensors'))} tensors, logits equal"


def config_of_then(folder):
    """config.json as it was in version 4."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters", None)
    if rope:
        config["rope_theta"] = rope["rope_theta"]
    return config


def side(which, top):
    """What the other interpreter found in the folders below top."""
    need(pathlib.Path(HF_PYTHON).exists(), f"{HF_PYTHON} is not there (NNFERRY_HF_PYTHON)")
    here = pathlib.Path(__file__).parent
    got = subprocess.run([HF_PYTHON, here / f"hf_{which}_side.py", top], capture_output=True,
                         text=True, timeout=600)
    lines = got.stdout.strip().splitlines()
    need(got.returncode == 0 and lines, f"the other side failed: {got.stderr[-600:]}")
    return json.loads(lines[-1])


def to_side(which, file, kinds, where, tally):
    """All at once: the other interpreter takes its time to start."""
    for kind in kinds:
        _, want = made(kind, where / "torch")
        folder = where / which / kind
        folder.mkdir(parents=True)
        convert(where / "torch" / kind, folder / file, "--to", f"hf_{which}")
        (folder / "config.json").write_text(
            json.dumps(config_of_then(where / "torch" / kind)))
        np.savez(folder / "case.npz", out=want,
                 **{"in_" + n: v for n, v in inputs_of(kind).items()})
    found = side(which, where / which)
    for kind in kinds:
        tally.run(f"{which} {kind}", of_side, which, file, where, kind, found[kind])
    return " and ".join(f"{n} {v}" for n, v in found["versions"].items())


def of_side(which, file, where, kind, told):
    need("error" not in told, told.get("error"))
    need(told["worst"] <= 1e-5 * max(told["largest"], 1) + 1e-6,
         f"logits differ by {told['worst']} of {told['largest']}")
    theirs = {n: a for n, a in load_file(where / "torch" / kind / "model.safetensors").items()
              if not n.endswith("num_batches_tracked")}
    if kind == "bert_base" and which == "tf":  # has the base model's name in front, always
        theirs = {"bert." + n: a for n, a in theirs.items()}
    saved = where / which / kind / "saved"
    convert(saved, where / "saved.tar.zst")
    for source, what in ((saved / file, "saved by the other side"),
                         (where / "saved.tar.zst", "saved by the other side, archived")):
        convert(source, where / "back.safetensors", "--to", "hf")
        # an archive keeps TensorFlow's second copies, under their own names
        mine = {n: a for n, a in load_file(where / "back.safetensors").items()
                if not n.endswith(("num_batches_tracked", ":0"))}
        tensors_equal(mine, theirs, f"{kind} {what}")
    convert(where / "saved.tar.zst", where / f"again-{file}", "--to", "source")
    nnferry("diff", saved / file, where / f"again-{file}")
    return f"worst {told['worst']:.1e} of {told['largest']:.2g}; saved there, back bit-equal"


# ---- old state_dicts ----

def old_bert(state):
    out = {}
    for n, t in state.items():
        n = n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias",
                                                                     "LayerNorm.beta")
        out["module." + n] = t
    out["module.bert.embeddings.position_ids"] = torch.arange(32)[None]
    return out


def old_gpt2(state):
    out = {"transformer._orig_mod." + n.removeprefix("transformer.")
           if n.startswith("transformer.") else n: t for n, t in state.items()}
    for i in range(2):
        out[f"transformer._orig_mod.h.{i}.attn.bias"] = torch.tril(torch.ones(1, 1, 32, 32))
        out[f"transformer._orig_mod.h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    return out


def old_llama(state):
    out = {"model." + n: t for n, t in state.items()}  # a LightningModule's attribute
    for i in range(2):
        out[f"model.model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    return {"state_dict": out}


def old_t5(state):
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    return {**state, name: torch.ones(32, 3)}


OLD = {"bert": old_bert, "gpt2": old_gpt2, "llama": old_llama, "t5": old_t5}


def upgraded(kind, where):
    model, want = made(kind, where)
    torch.save(OLD[kind](model.state_dict()), where / f"{kind}-old.pt")
    got = convert(where / f"{kind}-old.pt", where / f"{kind}-new.pt", "--upgrade")
    lines = [x for x in got.stderr.splitlines() if "renamed" in x or "left behind" in x]
    need(kind == "t5" or any("renamed" in x for x in lines), "nothing was said of the renames")
    again = convert(where / f"{kind}-new.pt", where / f"{kind}-again.pt", "--upgrade")
    need("renamed" not in again.stderr and "left behind" not in again.stderr,
         f"a second time it says {again.stderr[:200]}")
    state = torch.load(where / f"{kind}-new.pt", weights_only=True)
    fresh_model = type(model)(model.config)
    missing, extra = fresh_model.load_state_dict(state, strict=False)
    need(not extra, f"unexpected {extra[:4]}")
    need(not [n for n in missing if n not in ("lm_head.weight", "embed_out.weight")],
         f"missing {missing[:4]}")
    got = logits(fresh_model, kind)
    need(np.array_equal(got, want), f"logits differ by {np.abs(got - want).max()}")
    return f"{len(lines)} lines said, logits equal"


def prefixes_stay(where):
    """What is part of the names is not taken off, and nothing is given a name twice."""
    torch.save({"module.my_module.module.weight": torch.ones(3), "module.my_module.module.bias":
                torch.ones(3)}, where / "own.pt")
    convert(where / "own.pt", where / "own-new.pt", "--upgrade")
    need(set(torch.load(where / "own-new.pt")) == {"my_module.module.weight",
                                                   "my_module.module.bias"}, "module")
    made("llama", where / "own")
    convert(where / "own" / "llama", where / "llama.safetensors", "--upgrade")
    tensors_equal(load_file(where / "llama.safetensors"),
                  load_file(where / "own" / "llama" / "model.safetensors"), "model. of Llama")
    torch.save({"a.LayerNorm.gamma": torch.ones(3), "a.LayerNorm.beta": torch.ones(3),
                "a.LayerNorm.weight": torch.ones(3)}, where / "twice.pt")
    got = convert(where / "twice.pt", where / "x.pt", "--upgrade", exit=4)
    need("upgrade-taken" in got.stderr and "a.LayerNorm.weight" in got.stderr, got.stderr)
    torch.save({"ls.gamma": torch.ones(3), "net.weight_g": torch.ones(3, 1),
                "net.weight_v": torch.ones(3, 2)}, where / "norm.pt")
    convert(where / "norm.pt", where / "norm-new.pt", "--upgrade")
    need(set(torch.load(where / "norm-new.pt")) == {
        "ls.gamma", "net.parametrizations.weight.original0",
        "net.parametrizations.weight.original1"}, "weight_norm")


# ---- GGUF ----

def turned(x, heads):
    """llama.cpp's permute of q and k."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(
        x.shape)


def write_gguf(kind, folder, path):
    arch = IN_GGUF[kind]
    c = json.loads((folder / "config.json").read_text())
    heads = c.get("num_attention_heads", c.get("n_head", c.get("num_heads")))
    layers = c.get("num_hidden_layers", c.get("n_layer", c.get("num_layers")))
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(layers)
    w.add_head_count(heads)
    w.add_context_length(512 if arch == "t5" else 32)
    w.add_embedding_length(c.get("d_model", 32))
    w.add_feed_forward_length(c.get("intermediate_size", c.get("d_ff", 128)))
    if arch == "t5":
        w.add_key_length(c["d_kv"])
        w.add_value_length(c["d_kv"])
        w.add_layer_norm_eps(c["layer_norm_epsilon"])
        w.add_layer_norm_rms_eps(c["layer_norm_epsilon"])
        w.add_relative_attn_buckets_count(c["relative_attention_num_buckets"])
        w.add_decoder_block_count(c["num_decoder_layers"])
        if c.get("decoder_start_token_id") is not None:
            w.add_decoder_start_token_id(c["decoder_start_token_id"])
    elif "rms_norm_eps" in c:
        w.add_head_count_kv(c["num_key_value_heads"])
        w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    else:
        w.add_layer_norm_eps(c.get("layer_norm_epsilon", c.get("layer_norm_eps",
                                                               c.get("norm_epsilon"))))
    if arch == "granite":
        w.add_attention_scale(c["attention_multiplier"])
        w.add_embedding_scale(c["embedding_multiplier"])
        w.add_residual_scale(c["residual_multiplier"])
        w.add_logit_scale(c["logits_scaling"])
    if arch in ("llama", "granite", "qwen2", "phi3"):
        w.add_rope_dimension_count(8)
    if arch in ("gptneox", "phi2", "stablelm"):
        w.add_rope_dimension_count(int(8 * c["rope_parameters"]["partial_rotary_factor"]))
    if arch in ("phi2", "stablelm", "starcoder2"):
        w.add_head_count_kv(c["num_key_value_heads"])
    if arch in ("qwen3", "gemma", "gemma2"):
        w.add_key_length(c["head_dim"])
        w.add_value_length(c["head_dim"])
    if arch == "gemma2":
        w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        w.add_final_logit_softcapping(c["final_logit_softcapping"])
        w.add_sliding_window(c["sliding_window"])
    if arch == "stablelm":
        w.add_parallel_residual(c["use_parallel_residual"])
    if arch == "phi3":
        w.add_rope_scaling_orig_ctx_len(c["original_max_position_embeddings"])
    if arch == "gptneox":
        w.add_parallel_residual(c["use_parallel_residual"])
    if "rope_parameters" in c:
        w.add_rope_freq_base(c["rope_parameters"]["rope_theta"])
    names = gguf.get_tensor_name_map(
        next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch), layers)
    for n, x in load_file(folder / "model.safetensors").items():
        if arch in ("llama", "granite") and "q_proj" in n:
            x = turned(x, heads)
        if arch in ("llama", "granite") and "k_proj" in n:
            x = turned(x, c["num_key_value_heads"])
        if arch in ("gemma", "gemma2") and n.endswith("norm.weight"):
            x = x + np.float32(1)
        if arch == "gpt2" and ".c_" in n and n.endswith("weight"):
            x = x.T
        if arch == "gptneox" and "query_key_value" in n:
            x = x.reshape(heads, 3, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)
        w.add_tensor(names.get_name(n, try_suffixes=(".weight", ".bias")),
                     np.ascontiguousarray(x))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def by_name(path):
    return {t.name: np.array(t.data) for t in gguf.GGUFReader(path).tensors}


def through_gguf(kind, where):
    _, want = made(kind, where)
    write_gguf(kind, where / kind, where / f"{kind}.gguf")
    convert(where / f"{kind}.gguf", where / f"{kind}-hf", "--to", "hf", "--format", "safetensors",
            "--max-shard-size", "1G")
    back = load_file(where / f"{kind}-hf" / "model.safetensors")
    want_back = load_file(where / kind / "model.safetensors")
    if "gemma" in kind:  # what the 1 pushed out is gone; what is computed with is 1 + w
        back, want_back = ({n: x + np.float32(1) if n.endswith("norm.weight") else x
                            for n, x in y.items()} for y in (back, want_back))
    tensors_equal(back, want_back, f"{kind} of GGUF")
    same_logits(where / f"{kind}-hf", kind, want)
    convert(where / kind, where / f"{kind}-made.gguf", "--to", "gguf")
    tensors_equal(by_name(where / f"{kind}-made.gguf"), by_name(where / f"{kind}.gguf"),
                  f"{kind} to GGUF")
    theirs = gguf.GGUFReader(where / f"{kind}.gguf").fields
    mine = gguf.GGUFReader(where / f"{kind}-made.gguf").fields
    for n, f in mine.items():
        if not n.startswith("GGUF.") and n in theirs:
            need(f.contents() == theirs[n].contents() and f.types == theirs[n].types,
                 f"{n} is {f.contents()}, not {theirs[n].contents()}")
    lost = {n for n in theirs if n not in mine and not n.startswith("GGUF.")}
    need(not lost - {"gpt2.feed_forward_length"}, f"key-values not made: {lost}")
    return f"{len(theirs) - 3} key-values and {len(by_name(where / f'{kind}.gguf'))} tensors"


def blocks(where):
    """Rows of blocks are turned whole."""
    made("llama", where)
    convert(where / "llama", where / "q.gguf", "--to", "gguf", "--dtype", "q8_0")
    convert(where / "q.gguf", where / "q.safetensors", "--to", "hf", "--dtype", "float32")
    got = load_file(where / "q.safetensors")
    for t in gguf.GGUFReader(where / "q.gguf").tensors:
        if t.name == "blk.1.attn_k.weight":
            need(t.tensor_type == gguf.GGMLQuantizationType.Q8_0, "not q8_0")
            x = gguf.dequantize(t.data, t.tensor_type)
            want = x.reshape(2, 4, 2, -1).swapaxes(1, 2).reshape(x.shape)
            need(np.array_equal(got["model.layers.1.self_attn.k_proj.weight"], want), "other rows")
            return
    raise Failure("no attn_k")


def bare_config(where):
    """Without config.json the family is not certain: asked for, never guessed."""
    made("llama", where)
    (where / "alone").mkdir()
    save_file(load_file(where / "llama" / "model.safetensors"),
              where / "alone" / "model.safetensors")
    got = convert(where / "alone" / "model.safetensors", where / "x.gguf", "--to", "gguf", exit=4)
    need("family-unknown" in got.stderr, got.stderr)


def run(tally):
    T.logging.set_verbosity_error()
    T.logging.disable_progress_bar()
    for kind in MODELS:
        tally.run(f"archive {kind}", through_the_archive, kind, fresh(f"hf-archive-{kind}"))
    tally.run("flax", to_side, "flax", "flax_model.msgpack", IN_FLAX, fresh("hf-flax"), tally)
    tally.run("tf", to_side, "tf", "tf_model.h5", IN_TF, fresh("hf-tf"), tally)
    for kind in OLD:
        tally.run(f"upgrade {kind}", upgraded, kind, fresh(f"hf-upgrade-{kind}"))
    tally.run("prefixes stay", prefixes_stay, fresh("hf-prefix"))
    for kind in IN_GGUF:
        tally.run(f"gguf {kind}", through_gguf, kind, fresh(f"hf-gguf-{kind}"))
    tally.run("gguf blocks", blocks, fresh("hf-blocks"))
    tally.run("gguf without config", bare_config, fresh("hf-bare"))
