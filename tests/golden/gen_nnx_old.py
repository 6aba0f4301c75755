#!/usr/bin/env python3
"""Makes the goldens of NNX as it was: gen_nnx_old.py FOLDER, by an interpreter with flax 0.8.5, jax
0.4.30 and orbax-checkpoint 0.6.4. A variable's value stood under "raw_value" then."""

import os
import pathlib
import shutil
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

import flax  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import orbax.checkpoint as ocp  # noqa: E402
from flax import nnx  # noqa: E402

import expected  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from checkpoints import path_text  # noqa: E402

MADE_BY = f"flax {flax.__version__}, orbax-checkpoint 0.6.4, jax {jax.__version__}"


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = [nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)]
        self.norm = nnx.BatchNorm(3, rngs=rngs)


def main(out):
    out.mkdir(exist_ok=True)
    state = nnx.state(Net(nnx.Rngs(0)))
    path = out / "nnx_state"
    shutil.rmtree(path, ignore_errors=True)
    with ocp.StandardCheckpointer() as c:
        c.save(path.absolute(), state)
    for f in path.rglob("commit_success.txt"):
        f.unlink()
    tensors = []
    for where, v in sorted(jax.tree_util.tree_flatten_with_path(state)[0], key=str):
        keys = tuple(str(getattr(k, "key", getattr(k, "name", k))) for k in where)
        a = np.asarray(v)
        tensors.append((path_text(keys), a.dtype.name, a.shape, a.tobytes()))
    expected.write(path, MADE_BY, tensors)


main(pathlib.Path(sys.argv[1]))
