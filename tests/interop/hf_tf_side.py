"""The TensorFlow side of hf_models.py, run by the interpreter that has the last transformers with
TensorFlow models: hf_tf_side.py FOLDER. Each folder in it has a config.json, a tf_model.h5 and
case.npz (inputs, and the PyTorch model's output); prints a JSON object of what was found, and writes
what the TensorFlow model saves to saved/."""

import json
import os
import pathlib
import sys

os.environ["USE_FLAX"] = os.environ["USE_TORCH"] = "0"
os.environ["USE_TF"] = os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import h5py
import numpy as np
import tensorflow as tf
import transformers

CLASSES = {"bert": "TFBertForMaskedLM", "roberta": "TFRobertaForMaskedLM",
           "distilbert": "TFDistilBertForMaskedLM", "gpt2": "TFGPT2LMHeadModel",
           "mistral": "TFMistralForCausalLM", "t5": "TFT5ForConditionalGeneration",
           "vit": "TFViTForImageClassification", "clip": "TFCLIPModel",
           "whisper": "TFWhisperForConditionalGeneration",
           "resnet": "TFResNetForImageClassification"}
BASES = {"BertModel": "TFBertModel"}


def text(name):
    return name.decode() if isinstance(name, bytes) else name


def names_of(path):
    out = set()
    with h5py.File(path) as f:
        for layer in f.attrs["layer_names"]:
            out |= {text(n).split("/", 1)[1] for n in f[text(layer)].attrs["weight_names"]}
    return out


def one(folder):
    config = json.loads((folder / "config.json").read_text())
    cls = getattr(transformers, BASES.get(config["architectures"][0],
                                          CLASSES[config["model_type"]]))
    model, told = cls.from_pretrained(folder, output_loading_info=True)
    # the loader looks for embeddings again in every group that shares them, and by an old name;
    # what is missing under that name alone has been read
    mine = names_of(folder / "tf_model.h5")
    told["missing_keys"] = [n for n in told["missing_keys"]
                            if n.replace("weight:0", "embeddings:0") not in mine]
    if any(told.values()):
        return {"error": f"{told}"}
    case = np.load(folder / "case.npz")
    inputs = {n[3:]: tf.constant(case[n]) for n in case.files if n.startswith("in_")}
    out = model(**inputs)
    got = next(out[n] for n in ("logits", "logits_per_image", "last_hidden_state") if n in out)
    model.save_pretrained(folder / "saved", safe_serialization=False)
    theirs = names_of(folder / "saved" / "tf_model.h5")
    if mine != theirs:
        return {"error": f"names it does not save: {sorted(mine - theirs)[:4]}, "
                         f"does save: {sorted(theirs - mine)[:4]}"}
    return {"worst": float(np.abs(got.numpy() - case["out"]).max()),
            "largest": float(np.abs(case["out"]).max())}


def main(top):
    found = {"versions": {"transformers": transformers.__version__, "tensorflow": tf.__version__}}
    for folder in sorted(p for p in pathlib.Path(top).iterdir() if p.is_dir()):
        try:
            found[folder.name] = one(folder)
        except Exception as e:
            found[folder.name] = {"error": f"{type(e).__name__}: {e}"}
    print(json.dumps(found))


main(sys.argv[1])
