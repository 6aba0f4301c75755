"""Named twins: PyTorch's weights converted to Flax, loaded by flax.serialization.from_bytes,
run in both frameworks, and back, bit for bit.

float32 at rtol 1e-5, atol 1e-6; float64 at rtol 1e-9. The written tree is also compared
with the formulas of tests/lib/layouts.py, leaf by leaf.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import serialization

import layouts
from checkpoints import path_text
from common import arrays, convert, entries, fresh, need, same_tensors
from nets import TWINS, randomise

# The one thing that weights do not say: how many channels a flattened map had.
FLATTEN = {"cnn": [("fc1", 6)]}
DTYPES = {"float32": (torch.float32, jnp.float32, 1e-5, 1e-6),
          "float64": (torch.float64, jnp.float64, 1e-9, 0.0)}


def rules(name, where):
    """--map options that a network needs."""
    lines = [f'flatten "{layer}" = {channels}\n' for layer, channels in FLATTEN.get(name, ())]
    if not lines:
        return []
    (where / "rules.map").write_text("# nnferry-map 1\n" + "".join(lines))
    return ["--map", where / "rules.map"]


def without_counters(sd):
    return {k: v for k, v in sd.items() if not k.endswith("num_batches_tracked")}


def twin(name, precision, like):
    torch_class, flax_class, layers, make = TWINS[name]
    torch_dtype, jax_dtype, rtol, atol = DTYPES[precision]
    where = fresh("twins")
    net = randomise(torch_class().to(torch_dtype), 8)
    torch.save(net.state_dict(), where / "in.pt")
    x, y = make(np.random.default_rng(9))
    if x.dtype.kind == "f":
        x, y = x.astype(precision), y.astype(precision)

    skeleton = flax_class(jax_dtype).init(jax.random.PRNGKey(1), jnp.asarray(y))
    (where / "skeleton.msgpack").write_bytes(serialization.to_bytes(skeleton))
    torch.save({k: torch.zeros_like(v) for k, v in net.state_dict().items()},
               where / "skeleton.pt")
    there = ["--like", where / "skeleton.msgpack"] if like else []
    back = ["--like", where / "skeleton.pt"] if like else []

    convert(where / "in.pt", where / "out.msgpack", "--to", "flax", *there, *rules(name, where))
    sd = {k: v.numpy() for k, v in net.state_dict().items()}
    want = layouts.to_flax(layers, sd)
    same_tensors(entries(where / "out.msgpack"),
                 arrays({path_text(p): a for p, a in want.items()}), "written tree")
    variables = serialization.from_bytes(skeleton, (where / "out.msgpack").read_bytes())
    got = np.asarray(flax_class(jax_dtype).apply(variables, jnp.asarray(y)))
    with torch.no_grad():
        ref = net(torch.from_numpy(x)).numpy()
    need(np.allclose(got, ref, rtol=rtol, atol=atol),
         f"outputs differ by {np.abs(got - ref).max():.3g}")

    convert(where / "out.msgpack", where / "back.pt", "--to", "pytorch", *back,
            *rules(name, where))
    again = torch.load(where / "back.pt", weights_only=True)
    got = {k: v.numpy() for k, v in without_counters(again).items()}
    same_tensors(arrays(got), arrays(without_counters(sd)), "back")
    for k, v in again.items():
        if k.endswith("num_batches_tracked"):
            need(v.dtype == torch.int64 and v.dim() == 0, f"{k}: {v.dtype} {tuple(v.shape)}")
    if like:
        torch_class().to(torch_dtype).load_state_dict(again)


def run(tally):
    jax.config.update("jax_enable_x64", True)
    for name in TWINS:
        for precision in DTYPES:
            tally.run(f"{name} {precision} --like", twin, name, precision, True)
            if name != "block":  # without a skeleton nothing tells the number of heads
                tally.run(f"{name} {precision}", twin, name, precision, False)
