"""Recurrent cells with Adam: LSTM and GRU of torch, three steps, into each other framework, and each
other framework's into torch; one more step in both, updates compared, with zeroed moments that must
fail. Where a framework has one bias for torch's two, the two move twice as far; what a cell cannot
hold is refused by name.
"""

import os
import pickle
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")
sys.modules["triton"] = None  # which torch's optimizers load: its LLVM and others' clash

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import torch
from flax import nnx, serialization
from flax.training import train_state

import train_state as ts
from common import convert, fresh, need

INPUTS, UNITS = 5, 4
EPS_4 = 1e-8 * (1 - 0.999 ** 4) ** 0.5  # Keras's, at the fourth update


class Torch(torch.nn.Module):
    file, framework = "state.pt", "pytorch"

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(4)
        self.kind = kind
        cls = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind]
        setattr(self, kind, cls(INPUTS, UNITS, batch_first=True))
        self.opt = torch.optim.Adam(self.parameters(), lr=0.01)

    def step(self, x, want):
        old = {k: v.detach().numpy().copy() for k, v in self.named_parameters()}
        self.opt.zero_grad()
        out = getattr(self, self.kind)(torch.from_numpy(x))[0]
        ((out - torch.from_numpy(want)) ** 2).mean().backward()
        self.opt.step()
        return {k.split(".")[1][:-3]: v.detach().numpy() - old[k]
                for k, v in self.named_parameters()}

    def save(self, path):
        torch.save({"model": self.state_dict(), "optimizer": self.opt.state_dict()}, path)

    def load(self, path):
        file = torch.load(path)
        self.load_state_dict(file["model"])
        self.opt.load_state_dict(file["optimizer"])


class Tree:
    """optax on a tree; rows(update) is the update in torch's rows."""

    def __init__(self, kind):
        self.kind, self.tx = kind, optax.adam(0.01)
        self.make()
        self.opt = self.tx.init(self.params)
        self.grad = jax.jit(jax.grad(lambda p, x, want: jnp.mean((self.apply(p, x) - want) ** 2)))

    def step(self, x, want):
        old = self.params
        grads = self.grad(old, x, want)
        change, self.opt = self.tx.update(grads, self.opt, old)
        self.params = optax.apply_updates(old, change)
        return self.rows(jax.tree_util.tree_map(lambda a, b: np.asarray(a) - np.asarray(b),
                                                self.params, old))

    def forget(self):
        self.opt = jax.tree_util.tree_map(lambda a: jnp.zeros_like(a) if jnp.ndim(a) else a,
                                          self.opt)


def joined(u, gates, bias):
    """Rows of dicts by gate: ii, hi ... as Flax names them; bias: the side that has it."""
    def row(side):
        return np.concatenate([u[side + g]["kernel"].T for g in gates])
    return {"weight_ih": row("i"), "weight_hh": row("h"),
            "bias": np.concatenate([u[bias + g]["bias"] for g in gates])}


class Flax(Tree):
    file, framework = "state.msgpack", "flax"

    def make(self):
        cls = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}[self.kind]
        cell, kind = nn.RNN(cls(UNITS)), self.kind
        p = cell.init(jax.random.PRNGKey(1), jnp.zeros((1, 2, INPUTS)))["params"]["cell"]
        self.params = {kind: {"l0": p}}
        self.apply = lambda p, x: cell.apply({"params": {"cell": p[kind]["l0"]}}, x)

    def rows(self, u):
        u = u[self.kind]["l0"]
        if self.kind == "lstm":
            return joined(u, "ifgo", "h")
        return {**joined(u, "rzn", "i"), "bias_n": u["hn"]["bias"]}

    def state(self):
        return train_state.TrainState(step=3, apply_fn=None, params=self.params, tx=self.tx,
                                      opt_state=self.opt)

    def save(self, path):
        path.write_bytes(serialization.to_bytes(self.state()))

    def load(self, path):
        state = serialization.from_bytes(self.state(), path.read_bytes())
        self.params, self.opt = state.params, state.opt_state


class Nnx(Flax):
    framework = "nnx"

    def make(self):
        kind = self.kind

        class Net(nnx.Module):
            pass
        cls = {"lstm": nnx.LSTMCell, "gru": nnx.GRUCell}[kind]
        net = Net()
        inner = Net()
        inner.l0 = cls(INPUTS, UNITS, rngs=nnx.Rngs(0))
        setattr(net, kind, inner)
        state = nnx.state(net, nnx.Param)
        graph, _, rest = nnx.split(net, nnx.Param, ...)
        self.params = nnx.to_pure_dict(state)

        def apply(p, x):
            s = jax.tree_util.tree_map(lambda a: a, state)
            nnx.replace_by_pure_dict(s, p)
            cell = getattr(nnx.merge(graph, s, rest), kind).l0
            return nnx.RNN(cell)(x)
        self.apply = apply

    def rows(self, u):
        u = u[self.kind]["l0"]
        if self.kind == "lstm":
            return joined({k.rstrip("_"): v for k, v in u.items()}, "ifgo", "h")
        return {"weight_ih": u["dense_i"]["kernel"].T, "weight_hh": u["dense_h"]["kernel"].T,
                "bias": u["dense_i"]["bias"]}

    def state(self):
        return {"model": self.params, "optimizer": {"step": jnp.uint32(3), "opt_state": self.opt}}

    def load(self, path):
        state = serialization.from_bytes(self.state(), path.read_bytes())
        self.params, self.opt = state["model"], state["optimizer"]["opt_state"]


class Haiku(Tree):
    file, framework = "state.pkl", "haiku"

    def make(self):
        def f(x):
            core = hk.LSTM(UNITS, name="l0")
            return hk.dynamic_unroll(core, x, core.initial_state(len(x)), time_major=False)[0]

        def outer(x):
            with hk.experimental.name_scope("lstm"):
                return f(x)
        run = hk.without_apply_rng(hk.transform(outer))
        self.params = run.init(jax.random.PRNGKey(2), jnp.zeros((1, 2, INPUTS)))
        self.apply = run.apply

    def rows(self, u):
        (leaves,) = u.values()
        w = np.concatenate([leaves["w"].T[k * UNITS:(k + 1) * UNITS] for k in (0, 2, 1, 3)])
        b = np.concatenate([leaves["b"][k * UNITS:(k + 1) * UNITS] for k in (0, 2, 1, 3)])
        return {"weight_ih": w[:, :INPUTS], "weight_hh": w[:, INPUTS:], "bias": b}

    def save(self, path):
        path.write_bytes(pickle.dumps({"params": self.params, "opt_state": self.opt}))

    def load(self, path):
        got, tree = pickle.loads(path.read_bytes()), jax.tree_util
        self.params = tree.tree_map(jnp.asarray, got["params"])
        leaves = [jnp.asarray(a) for a in tree.tree_leaves(got["opt_state"])]
        self.opt = tree.tree_unflatten(tree.tree_structure(self.opt), leaves)


class EqxInner(eqx.Module):
    l0: eqx.Module


class EqxLstm(eqx.Module):
    lstm: eqx.Module


class EqxGru(eqx.Module):
    gru: eqx.Module


class Equinox(Tree):
    file, framework = "state.eqx", "equinox"

    def make(self):
        kind = self.kind
        cls = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[kind]
        cell = cls(INPUTS, UNITS, key=jax.random.PRNGKey(0))
        net = {"lstm": EqxLstm, "gru": EqxGru}[kind](EqxInner(cell))
        self.params, self.static = eqx.partition(net, eqx.is_array)

        def one(cell, x):
            start = jnp.zeros(UNITS)
            start = (start, start) if kind == "lstm" else start

            def step(state, x):
                state = cell(x, state)
                return state, state[0] if kind == "lstm" else state
            return jax.lax.scan(step, start, x)[1]
        self.apply = lambda p, x: jax.vmap(
            lambda v: one(getattr(eqx.combine(p, self.static), kind).l0, v))(x)

    def rows(self, u):
        u = getattr(u, self.kind).l0
        more = {"bias_n": u.bias_n} if self.kind == "gru" else {}
        return {"weight_ih": u.weight_ih, "weight_hh": u.weight_hh, "bias": u.bias, **more}

    def save(self, path):
        eqx.tree_serialise_leaves(path, (eqx.combine(self.params, self.static), self.opt))

    def load(self, path):
        model, self.opt = eqx.tree_deserialise_leaves(
            path, (eqx.combine(self.params, self.static), self.opt))
        self.params, self.static = eqx.partition(model, eqx.is_array)


class Keras:
    file, framework = "state.keras", "keras"

    def __init__(self, kind):
        keras.utils.set_random_seed(2)
        self.kind = kind
        cls = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[kind]
        inputs = keras.Input((7, INPUTS))
        self.model = keras.Model(inputs, cls(UNITS, return_sequences=True, name=kind)(inputs))
        self.model.compile(keras.optimizers.Adam(0.01, epsilon=EPS_4), loss="mse")
        self.model.optimizer.build(self.model.trainable_variables)

    def step(self, x, want):
        old = [np.array(v) for v in self.model.trainable_variables]
        self.model.train_on_batch(x, want)
        w, h, b = (np.array(v) - a for v, a in zip(self.model.trainable_variables, old))
        if self.kind == "lstm":
            return {"weight_ih": w.T, "weight_hh": h.T, "bias": b}
        order = np.r_[UNITS:2 * UNITS, 0:UNITS, 2 * UNITS:3 * UNITS]  # z r h
        return {"weight_ih": w.T[order], "weight_hh": h.T[order], "bias_ih": b[0][order],
                "bias_hh": b[1][order]}

    def save(self, path):
        self.model.save(path)

    def load(self, path):
        self.model = keras.models.load_model(path)

    def forget(self):
        for v in self.model.optimizer.variables[2:]:
            v.assign(np.zeros(v.shape, "float32"))


def as_other(kind, u, other):
    """torch's update as the other has it. Where it has one bias for two, both of torch's got that
    one's gradient: halved here."""
    out = {k: u[k] for k in ("weight_ih", "weight_hh")}
    if "bias_ih" in other:
        return {**out, "bias_ih": u["bias_ih"], "bias_hh": u["bias_hh"]}
    out["bias"] = (u["bias_ih"] + u["bias_hh"]) / 2
    if kind == "gru":  # the new gate's two are not added
        out["bias"][2 * UNITS:] = u["bias_ih"][2 * UNITS:]
    if "bias_n" in other:
        out["bias_n"] = u["bias_hh"][2 * UNITS:]
    return out


def batch():
    rng = np.random.default_rng(6)
    return (rng.normal(size=(3, 7, INPUTS)).astype("float32"),
            rng.normal(size=(3, 7, UNITS)).astype("float32"))


def cell(kind, side, there):
    where, (x, want) = fresh("train_cells"), batch()
    a, b = Torch(kind), side(kind)
    for _ in range(3):
        (a if there else b).step(x, want)
    if not there:
        a.step(x, want)
    src, like = (a, b) if there else (b, a)
    src.save(where / f"in{src.file}")
    like.save(where / f"like{like.file}")
    out = where / f"out{like.file}"
    args = [where / f"in{src.file}", out, "--to", like.framework, "--like",
            where / f"like{like.file}"]
    if there:
        args += ["--allow-drop", ts.SETTINGS]
    elif side is Keras:
        args += ["--allow-drop", "optimizer.vars.1"]
    if side is Nnx and not there:  # its names are Flax's too
        args += ["--from", "nnx"]
    if (side, kind, there) == (Nnx, "gru", True):  # one bias of three gates: b_hn has no place
        need("cell" in convert(*args, exit=4).stderr, "refused for another reason")
        return None
    said = convert(*args).stderr
    sums = (side, kind) not in ((Keras, "gru"), (Nnx, "gru"))
    if there and sums:
        need("moves half as far" in said, f"the sum's step is not named: {said}")
    like.load(out)
    u, v = a.step(x, want), b.step(x, want)
    worst = ts.judge(as_other(kind, u, v), v, "float32", "adam")
    if there and kind == "lstm":
        like.load(out)
        like.forget()
        need(ts.apart(as_other(kind, u, v), like.step(x, want))[0] > 1e-2,
             "the test does not see zeroed moments")
    return f"{worst:.2g}"


def alone():
    """Without a skeleton: the cell is in the state_dict, and its moments are its own."""
    where, (x, want) = fresh("train_cells"), batch()
    a, b = Keras("lstm"), Torch("lstm")
    for _ in range(3):
        a.step(x, want)
    a.save(where / "in.keras")
    convert(where / "in.keras", where / "out.pt", "--to", "pytorch", "--allow-drop",
            "optimizer.vars.1", "--allow-synth", "optimizer.param_groups.0.*")
    groups = b.opt.state_dict()["param_groups"][0]
    b.load(where / "out.pt")
    b.opt.param_groups[0]["lr"] = groups["lr"]
    v = a.step(x, want)
    return f"{ts.judge(as_other('lstm', b.step(x, want), v), v, 'float32', 'adam'):.2g}"


def run(tally, only=None):
    for side in (Flax, Nnx, Haiku, Equinox, Keras):
        for kind in ("lstm", "gru") if side is not Haiku else ("lstm",):  # GRUs: another cell
            for there in (True, False):
                if only and side.__name__ not in only:
                    continue
                tally.run(f"{kind}, torch {'to' if there else 'from'} {side.__name__}", cell,
                          kind, side, there)
    if not only:
        tally.run("lstm, torch from Keras alone", alone)
