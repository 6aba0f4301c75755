"""Haiku and Equinox compute what PyTorch and Flax did, from what nnferry wrote; and back, bit for
bit.

float32 at rtol 1e-5, atol 1e-6; float64 at rtol 1e-9. What is written is also compared with the
formulas of tests/lib/layouts_jax.py, leaf by leaf.
"""

import pickle

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import serialization

import layouts
import layouts_jax
from common import arrays, convert, fresh, need, nnferry, same_tensors
from haiku_eqx import flat
from nets import randomise
from nets_jax import AXES, TWINS

FLATTEN = {"cnn": "flatten fc1 = 6\n"}
HEADS = {"block": "heads attn = 3\n"}
KINDS = {"unet": "kind down = conv\n"}  # a name that does not tell, in Flax
DTYPES = {"float32": (torch.float32, jnp.float32, 1e-5, 1e-6),
          "float64": (torch.float64, jnp.float64, 1e-9, 1e-12)}
NOT_IN_TORCH = "num_batches_tracked"


def rules(where, *tables, name):
    text = "".join(t.get(name, "") for t in tables)
    if not text:
        return []
    (where / "rules.map").write_text("# nnferry-map 1\n" + text)
    return ["--map", where / "rules.map"]


class Case:
    """One net: torch's numbers, inputs and outputs."""

    def __init__(self, name, precision):
        torch_class, self.flax_class, self.hk, self.layers, make = TWINS[name][:5]
        self.name, self.precision = name, precision
        torch_dtype, self.jax_dtype, self.rtol, self.atol = DTYPES[precision]
        self.where = fresh("haiku_eqx_twins")
        self.net = randomise(torch_class().to(torch_dtype), 8)
        self.sd = {k: v.numpy() for k, v in self.net.state_dict().items()}
        self.kept = {k: v for k, v in self.sd.items() if not k.endswith(NOT_IN_TORCH)}
        torch.save(self.net.state_dict(), self.where / "in.pt")
        torch.save({k: torch.zeros_like(v) for k, v in self.net.state_dict().items()},
                   self.where / "skeleton.pt")
        x, y = make(np.random.default_rng(9))
        if x.dtype.kind == "f":
            x, y = x.astype(precision), y.astype(precision)
        self.x, self.y = x, jnp.asarray(y)
        with torch.no_grad():
            self.want = self.net(torch.from_numpy(x)).numpy()

    def same(self, got, channels_last, who):
        got = np.asarray(got)
        if channels_last and got.ndim > 3:
            got = got.transpose((0, got.ndim - 1) + tuple(range(1, got.ndim - 1)))
        need(got.shape == self.want.shape, f"{who}: output {got.shape}, not {self.want.shape}")
        need(np.allclose(got, self.want, rtol=self.rtol, atol=self.atol),
             f"{who}: outputs differ by {np.abs(got - self.want).max():.3g}")

    def transformed(self):
        def f(v, training=False):
            kw = {"dtype": self.jax_dtype} if self.name == "block" else {}
            return self.hk(v, training, **kw)
        return hk.transform_with_state(f)

    def hk_skeleton(self):
        params, state = self.transformed().init(jax.random.PRNGKey(0), self.y, True)
        with open(self.where / "skeleton.pkl", "wb") as f:
            pickle.dump({"params": params, "state": state}, f)
        return ["--like", self.where / "skeleton.pkl"]

    def is_back(self, path, who):
        got = {k: v.numpy() for k, v in torch.load(path, weights_only=True).items()
               if not k.endswith(NOT_IN_TORCH)}
        same_tensors(arrays(got), arrays(self.kept), f"{who} back")


def load_haiku(path):
    with open(path, "rb") as f:
        return pickle.load(f)


def haiku(name, precision, like):
    """torch -> haiku -> torch, and haiku -> flax -> haiku."""
    c = Case(name, precision)
    w, flatten = c.where, rules(c.where, FLATTEN, name=name)
    convert(w / "in.pt", w / "out.pkl", "--to", "haiku", *flatten,
            *(c.hk_skeleton() if like else []))
    got = load_haiku(w / "out.pkl")
    same_tensors(arrays(flat(got)),
                 arrays(flat(layouts_jax.to_haiku(c.layers, c.sd, AXES.get(name, {})))),
                 "written tree")
    c.same(c.transformed().apply(got["params"], got.get("state", {}), None, c.y)[0], True, "haiku")
    convert(w / "out.pkl", w / "back.pt", "--to", "pytorch", *flatten,
            *(["--like", w / "skeleton.pt"] if like else []))
    c.is_back(w / "back.pt", "haiku")
    need("equal" in nnferry("validate", w / "in.pt", w / "out.pkl", "--device", "native",
                            *flatten).stdout.splitlines()[-1], "validate does not say equal")
    # the archive gives the pickle back, and another framework
    convert(w / "out.pkl", w / "mid.tar.zst", *flatten)
    convert(w / "mid.tar.zst", w / "again.pkl", "--to", "source", "--format", "haiku")
    same_tensors(arrays(flat(load_haiku(w / "again.pkl"))), arrays(flat(got)), "by the archive")
    # Flax
    heads = rules(w, FLATTEN, HEADS, name=name)
    convert(w / "out.pkl", w / "out.msgpack", "--to", "flax", *heads)
    skeleton = c.flax_class(c.jax_dtype).init(jax.random.PRNGKey(1), c.y)
    variables = serialization.from_bytes(skeleton, (w / "out.msgpack").read_bytes())
    want = layouts.nest(layouts.to_flax(c.layers, c.sd))
    same_tensors(arrays(flat(variables)), arrays(flat(want)), "flax by haiku")
    c.same(c.flax_class(c.jax_dtype).apply(variables, c.y), True, "flax")
    axes = {name: "".join(f"rank {k} = {v}\n" for k, v in AXES.get(name, {}).items())}
    convert(w / "out.msgpack", w / "fback.pkl", "--to", "haiku",
            *(c.hk_skeleton() if like else rules(w, axes, KINDS, name=name)))
    same_tensors(arrays(flat(load_haiku(w / "fback.pkl"))), arrays(flat(got)), "haiku by flax")


def run(tally):
    jax.config.update("jax_enable_x64", True)
    for name in TWINS:
        tally.run(f"haiku {name} float32", haiku, name, "float32", False)
        tally.run(f"haiku {name} float64 --like", haiku, name, "float64", True)
