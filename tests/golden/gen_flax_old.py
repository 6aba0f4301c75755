#!/usr/bin/env python3
"""Makes goldens of Flax before 0.6: gen_flax_old.py FOLDER, with flax 0.5 and a jax that imports.

  optimizer.msgpack  flax.optim.Optimizer (gone since 0.6): {target, state {step, param_states}}, the
                     moments one level below each parameter
  variables.msgpack  init's FrozenDict
  chunked.msgpack    large arrays in parts
  checkpoint_7       what flax.training.checkpoints.save_checkpoint wrote: msgpack, no folder
"""

import glob
import os
import pathlib
import sys
import tempfile
import types

files = types.ModuleType("tensorflow.io")  # Flax opens its files through TensorFlow
files.gfile = types.SimpleNamespace(
    GFile=open, glob=glob.glob, makedirs=lambda d: os.makedirs(d, exist_ok=True),
    rename=lambda a, b, overwrite: os.rename(a, b))
sys.modules["tensorflow"] = sys.modules["tensorflow.io"] = files

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

if not hasattr(jax.interpreters.xla, "DeviceArray"):  # a jax that came after this flax
    jax.interpreters.xla.DeviceArray = jax.Array
    gone = types.ModuleType("gone")
    gone.get_tensorstore_spec = gone.GlobalAsyncCheckpointManager = None
    gone.GlobalDeviceArray = type("GlobalDeviceArray", (), {})
    for name in ("gda_serialization", "gda_serialization.serialization", "global_device_array"):
        sys.modules["jax.experimental." + name] = gone

import flax  # noqa: E402
import flax.linen as nn  # noqa: E402
from flax import optim, serialization  # noqa: E402
from flax.training import checkpoints  # noqa: E402

import gen_flax  # noqa: E402


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(3, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(4)(nn.relu(x).reshape(x.shape[0], -1))


def main(folder):
    assert flax.__version__ < "0.6", flax.__version__
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    variables = Net().init(jax.random.PRNGKey(0), jnp.ones((2, 4, 4, 2)))
    assert isinstance(variables, flax.core.FrozenDict)
    gen_flax.save(out / "variables.msgpack", variables)
    opt = optim.Adam(learning_rate=1e-2).create(variables["params"])
    for i in range(3):
        grads = jax.tree_util.tree_map(lambda p, i=i: p * 0.1 + i, opt.target)
        opt = opt.apply_gradient(grads)
    gen_flax.save(out / "optimizer.msgpack", opt)
    limit, serialization.MAX_CHUNK_SIZE = serialization.MAX_CHUNK_SIZE, 100
    try:
        rng = np.random.default_rng(7)
        gen_flax.save(out / "chunked.msgpack", {
            "w": rng.normal(size=(7, 9)).astype(np.float32), "small": np.arange(5),
            "h": jnp.asarray(rng.normal(size=(3, 5, 11)), jnp.bfloat16)})
    finally:
        serialization.MAX_CHUNK_SIZE = limit
    target = {"params": variables["params"], "step": 7}
    with tempfile.TemporaryDirectory() as room:
        blob = pathlib.Path(checkpoints.save_checkpoint(room, target, 7)).read_bytes()
    gen_flax.save(out / "checkpoint_7", target)
    (out / "checkpoint_7").write_bytes(blob)  # in its own order
    back = serialization.msgpack_restore(blob)
    assert jax.tree_util.tree_all(jax.tree_util.tree_map(
        lambda a, b: np.array_equal(a, b), serialization.to_state_dict(target), back))


if __name__ == "__main__":
    main(sys.argv[1])
