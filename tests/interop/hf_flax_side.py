"""The other side of hf_models.py, run by an interpreter that has the last transformers with Flax
models: hf_flax_side.py FOLDER. Each folder in it has a config.json, a flax_model.msgpack and
case.npz (inputs, and the PyTorch model's output); prints a JSON object of what was found, and
writes what the Flax model saves to saved/."""

import json
import os
import pathlib
import sys

os.environ["USE_TF"] = os.environ["USE_TORCH"] = "0"
os.environ["USE_FLAX"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
import numpy as np
import transformers
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict

CLASSES = {"bert": "FlaxBertForMaskedLM", "roberta": "FlaxRobertaForMaskedLM",
           "distilbert": "FlaxDistilBertForMaskedLM", "gpt2": "FlaxGPT2LMHeadModel",
           "llama": "FlaxLlamaForCausalLM", "gemma": "FlaxGemmaForCausalLM",
           "mistral": "FlaxMistralForCausalLM",
           "t5": "FlaxT5ForConditionalGeneration", "vit": "FlaxViTForImageClassification",
           "clip": "FlaxCLIPModel", "whisper": "FlaxWhisperForConditionalGeneration",
           "resnet": "FlaxResNetForImageClassification"}


BASES = {"BertModel": "FlaxBertModel"}


def one(folder):
    config = json.loads((folder / "config.json").read_text())
    cls = getattr(transformers, BASES.get(config["architectures"][0],
                                          CLASSES[config["model_type"]]))
    kept = set(flatten_dict(msgpack_restore((folder / "flax_model.msgpack").read_bytes())))
    model = cls.from_pretrained(folder)
    wanted = set(flatten_dict(model.params))
    if kept != wanted:
        return {"error": f"leaves missing {sorted(wanted - kept)[:4]}, not asked for "
                         f"{sorted(kept - wanted)[:4]}"}
    case = np.load(folder / "case.npz")
    inputs = {n[3:]: case[n] for n in case.files if n.startswith("in_")}
    out = model(**inputs)
    got = np.asarray(next(out[n] for n in ("logits", "logits_per_image", "last_hidden_state")
                          if n in out))
    model.save_pretrained(folder / "saved")
    return {"worst": float(np.abs(got - case["out"]).max()),
            "largest": float(np.abs(case["out"]).max())}


def main(top):
    found = {"versions": {"transformers": transformers.__version__}}
    for folder in sorted(p for p in pathlib.Path(top).iterdir() if p.is_dir()):
        try:
            found[folder.name] = one(folder)
        except Exception as e:
            found[folder.name] = {"error": f"{type(e).__name__}: {e}"}
    print(json.dumps(found))


main(sys.argv[1])
