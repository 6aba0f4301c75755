"""The other side of folds.py, run by an interpreter that sees peft: peft_side.py FOLDER CHANGES.

For each of the options in CHANGES (a JSON list of objects), the folders 0, 1, ... of FOLDER get
base.pt, the adapter that peft saves (ad/), the adapted model's own state_dict (whole.pt) and what
peft merges (merged.npz); prints a JSON object: the versions."""

import json
import os
import pathlib
import sys

os.environ["USE_TF"] = os.environ["USE_FLAX"] = "0"
import accelerate
import numpy as np
import peft
import torch

from lora_net import TARGETS, Adapted


def one(folder, changes):
    folder.mkdir()
    net = Adapted()
    torch.save(net.state_dict(), folder / "base.pt")
    model = peft.get_peft_model(net, peft.LoraConfig(r=2, lora_alpha=8,
                                                     target_modules=list(TARGETS), **changes))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora" in name:
                p.copy_(torch.randn_like(p))
    model.save_pretrained(folder / "ad")
    torch.save(model.state_dict(), folder / "whole.pt")
    merged = model.merge_and_unload().state_dict()
    np.savez(folder / "merged.npz", **{k: v.numpy() for k, v in merged.items()})


def main(top, changes):
    torch.manual_seed(0)
    for i, change in enumerate(json.loads(changes)):
        one(pathlib.Path(top) / str(i), change)
    print(json.dumps({"peft": peft.__version__, "accelerate": accelerate.__version__}))


main(*sys.argv[1:])
