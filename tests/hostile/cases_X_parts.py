"""X06 in every container of several files: a part that the others count on is a link to outside of
the folder, a FIFO, a folder, or a link to itself. What the link leads to is the real part, so that a
reader that follows it reads everything, and gives itself away. Without the file that says what the
others are, some folders hold several sets of weights: exit 2; Orbax's manifest and its list of leaves
may be missing, and a FIFO or a link to itself is as good as nothing there."""

import os
import pathlib
import shutil

from lib import case

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
PARTS = (
    ("dcp-metadata", "torch/dcp", ".metadata"),
    ("dcp", "torch/dcp", "__1_1.distcp"),
    ("dcp-safetensors", "torch/dcp_st", "__1_0.distcp"),
    ("dcp-hf", "torch/dcp_hf", "shard-00003-model-00001-of-00001.safetensors"),
    ("gguf", "gguf/parts", "m-00002-of-00003.gguf"),
    ("safetensors", "safetensors/sharded", "model-00002-of-00003.safetensors"),
    ("safetensors-index", "safetensors/sharded", "model.safetensors.index.json"),
    ("tf", "tensorflow/names", "model.data-00001-of-00002"),
    ("tf-index", "tensorflow/names", "model.index"),
    ("savedmodel", "tensorflow/saved_model", "saved_model.pb"),
    ("savedmodel-index", "tensorflow/saved_model", "variables/variables.index"),
    ("savedmodel-variables", "tensorflow/saved_model", "variables"),
    ("orbax-metadata", "orbax/standard", "_METADATA"),
    ("orbax-manifest", "orbax/standard", "manifest.ocdbt"),
    ("orbax-data", "orbax/standard", "d"),
    ("orbax-zarr", "orbax/zarr2", "params.both/.zarray"),
    ("onnx", "onnx/external", "model.onnx.data"),
)


def golden(name):
    def build(folder):
        shutil.copytree(GOLDEN / name, folder / "m")
    return build


def broken(name, part, how):
    def build(folder):
        golden(name)(folder)
        path, away = folder / "m" / part, folder.parent / "outside" / pathlib.Path(part).name
        shutil.move(path, away)
        if how == "link":
            os.symlink(os.path.relpath(away, path.parent), path)
        elif how == "loop":
            os.symlink(path.name, path)
        elif how == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
    return build


LISTS = ("dcp-metadata", "safetensors-index")
MAY_MISS = ("orbax-metadata", "orbax-manifest")
for tag, name, part in PARTS:
    for how in ("link", "loop", "fifo", "folder"):
        if how == "folder" and (GOLDEN / name / part).is_dir():
            continue
        if how in ("loop", "fifo") and tag in MAY_MISS:
            continue
        case(f"X06-{tag}-{how}", "m", 2 if tag in LISTS and how != "link" else 3, None, False,
             build=broken(name, part, how), twin=golden(name),
             args=(("inspect", "{file}"), ("id", "{file}")))
