"""Haiku and Equinox compute what PyTorch and Flax did, from what nnferry wrote; and back, bit for
bit.

float32 at rtol 1e-5, atol 1e-6; float64 at rtol 1e-9. What is written is also compared with the
formulas of tests/lib/layouts_jax.py, leaf by leaf.
"""

import json
import pickle

import equinox as eqx
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
from nets_jax import AXES, EQUINOX, TWINS

FLATTEN = {"cnn": "flatten fc1 = 6\n"}
HEADS = {"block": "heads attn = 3\n"}
KINDS = {"unet": "kind down = conv\n"}  # a name that does not tell, in Flax and Equinox
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


def attribute(model, path):
    for name in path.split("."):
        model = getattr(model, name)
    return np.asarray(model)


def same_module(c, model, state, mode):
    """Against the formulas, leaf by leaf, and the outputs."""
    want, states = layouts_jax.to_equinox(c.layers, c.sd)
    same_tensors(arrays({k: attribute(model, k) for k in want}), arrays(want), "written module")
    for path, (mean, var) in states.items():
        norm = getattr(model, path)
        index = norm.ema_state_index if mode == "ema" else norm.batch_state_index
        flag = norm.ema_first_time_index if mode == "ema" else norm.batch_counter
        got = state.get(index)
        need(np.array_equal(got[0], mean) and np.array_equal(got[1], var), f"{path}: other state")
        need(int(state.get(flag)) == (0 if mode == "ema" else layouts_jax.MANY),
             f"{path}: flag {state.get(flag)}")
    run = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    c.same(run(jnp.asarray(c.x), state)[0], False, "equinox")
    if states:  # training goes on from the statistics: none is forgotten, none debiased again
        path, (mean, var) = next(iter(states.items()))
        norm = getattr(model, path)
        x = jnp.asarray(np.random.default_rng(3).normal(size=(6, mean.size)), mean.dtype)
        train = jax.vmap(lambda v, s: norm(v, s, inference=False), axis_name="batch",
                         in_axes=(0, None), out_axes=(0, None))
        after = train(x, state)[1].get(norm.ema_state_index if mode == "ema"
                                       else norm.batch_state_index)
        need(np.allclose(after[0], norm.momentum * mean + (1 - norm.momentum) * x.mean(0),
                         rtol=1e-5, atol=1e-6), "one more step forgets the statistics")


def equinox(name, precision, mode):
    """torch -> a skeleton's leaves -> torch; flax and haiku -> the same leaves; and -> flax."""
    c = Case(name, precision)
    w, flatten = c.where, rules(c.where, FLATTEN, name=name)
    made = eqx.nn.make_with_state(EQUINOX[name])(c.jax_dtype, mode, jax.random.PRNGKey(0))
    eqx.tree_serialise_leaves(w / "skeleton.eqx", made)
    like = ["--like", w / "skeleton.eqx"]
    convert(w / "in.pt", w / "out.eqx", *like)
    model, state = eqx.tree_deserialise_leaves(w / "out.eqx", made)
    same_module(c, model, state, mode)
    # back: the names of another skeleton
    convert(w / "out.eqx", w / "back.pt", "--like", w / "skeleton.pt")
    c.is_back(w / "back.pt", "equinox")
    # names told, one by one
    convert(w / "in.pt", w / "named.eqx", "--to", "equinox")
    convert(w / "named.eqx", w / "nback.pt", "--to", "pytorch", *rules(w, KINDS, name=name))
    c.is_back(w / "nback.pt", "named equinox")
    # Haiku into the skeleton: alphabetical or not, never a wrong pair
    convert(w / "in.pt", w / "mid.pkl", "--to", "haiku", *flatten)
    got = convert(w / "mid.pkl", w / "hk.eqx", *like, *flatten, exit=None)
    if got.returncode == 0:
        need((w / "hk.eqx").read_bytes() == (w / "out.eqx").read_bytes(), "haiku: other leaves")
    else:
        need(got.returncode == 4 and "-> ?" in got.stdout, f"haiku: {got.stderr.strip()[-300:]}")
        answer(c, w / "mid.pkl", w / "hk.eqx", like, got.stdout)
    # ... and out to Flax
    skeleton = c.flax_class(c.jax_dtype).init(jax.random.PRNGKey(1), c.y)
    (w / "skeleton.msgpack").write_bytes(serialization.to_bytes(skeleton))
    convert(w / "named.eqx", w / "out.msgpack", "--to", "flax", "--like", w / "skeleton.msgpack",
            *rules(w, FLATTEN, HEADS, KINDS, name=name))
    variables = serialization.from_bytes(skeleton, (w / "out.msgpack").read_bytes())
    same_tensors(arrays(flat(variables)),
                 arrays(flat(layouts.nest(layouts.to_flax(c.layers, c.sd)))), "flax by equinox")
    return "asked" if got.returncode else None


def answer(c, source, target, like, asked):
    """Completes the rules file as someone would who knows both: by the leaves' places in ours."""
    text = (c.where / "named.eqx").read_bytes().split(b"\n", 1)[0]
    need(b"nnferry.leaves" in text, "no list of leaves")
    ours = eqx_leaves(c.where / "out.eqx")
    named = eqx_leaves(c.where / "named.eqx", skip_line=True)
    names = json.loads(text)["nnferry.leaves"]
    lines = ["# nnferry-map 1", FLATTEN.get(c.name, "")]
    for line in asked.splitlines():
        if line.endswith("-> ?") and not line.startswith("#"):
            name = line[:-len(" -> ?")].strip('"')
            bits = named[names.index(name)]
            lines.append(f'"{name}" -> "{ours.index(bits)}"')
    (c.where / "answers.map").write_text("\n".join(lines) + "\n")
    convert(source, target, *like, "--map", c.where / "answers.map")
    need(target.read_bytes() == (c.where / "out.eqx").read_bytes(), "haiku: other leaves")


def eqx_leaves(path, skip_line=False):
    out = []
    with open(path, "rb") as f:
        if skip_line:
            f.readline()
        while f.peek(1):
            a = np.load(f)
            out.append((a.dtype.str, a.shape, a.tobytes()))
    return out


def run(tally):
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)  # each is run once
    for name in TWINS:
        tally.run(f"haiku {name} float64 --like", haiku, name, "float64", True)
    for name in ("cnn", "block"):
        tally.run(f"haiku {name} float32", haiku, name, "float32", False)
    for name in TWINS:
        tally.run(f"equinox {name} float32", equinox, name, "float32", "ema")
    tally.run("equinox separable float64, mode batch", equinox, "separable", "float64", "batch")
