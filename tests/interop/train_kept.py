"""What else of a training stays: the moments of recurrent cells whose biases are sums, frozen and
partitioned parameters, positions of schedules; and what is named: rates, loss scales.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import serialization
from flax.training import train_state

import train_state as ts
from common import convert, fresh, need

INPUTS, UNITS = 5, 4
GATES = {"lstm": "ifgo", "gru": "rzn"}


# ---- cells ----


class TorchCell(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(4)
        cls = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind]
        setattr(self, kind, cls(INPUTS, UNITS, batch_first=True))
        self.cell = lambda x: getattr(self, kind)(x)[0]
        self.opt = torch.optim.Adam(self.parameters(), lr=0.01)

    def step(self, x, want):
        old = {k: v.detach().numpy().copy() for k, v in self.named_parameters()}
        self.opt.zero_grad()
        ((self.cell(torch.from_numpy(x)) - torch.from_numpy(want)) ** 2).mean().backward()
        self.opt.step()
        return {k.split(".")[1]: v.detach().numpy() - old[k] for k, v in self.named_parameters()}


class FlaxCell:
    def __init__(self, kind):
        cls = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}[kind]
        cell, self.kind = nn.RNN(cls(UNITS)), kind
        p = cell.init(jax.random.PRNGKey(1), jnp.zeros((1, 2, INPUTS)))["params"]["cell"]
        self.state = train_state.TrainState.create(
            apply_fn=lambda p, x: cell.apply({"params": {"cell": p[kind]["l0"]}}, x),
            params={kind: {"l0": p}}, tx=optax.adam(0.01))

    def step(self, x, want):
        old = self.state.params
        grads = jax.grad(lambda p: jnp.mean((self.state.apply_fn(p, x) - want) ** 2))(old)
        self.state = self.state.apply_gradients(grads=grads)
        return jax.tree_util.tree_map(lambda a, b: np.asarray(a) - np.asarray(b),
                                      self.state.params, old)[self.kind]["l0"]

    def forget(self):
        self.state = self.state.replace(opt_state=jax.tree_util.tree_map(
            lambda a: jnp.zeros_like(a) if jnp.ndim(a) else a, self.state.opt_state))


def gates(kind, u):
    """torch's update in Flax's leaves. What Flax has one bias for moved twice in torch, where both
    of a pair get its gradient: halved here."""
    out = {}
    for k, g in enumerate(GATES[kind]):
        rows = slice(k * UNITS, (k + 1) * UNITS)
        out[f"i{g}.kernel"] = u["weight_ih_l0"][rows].T
        out[f"h{g}.kernel"] = u["weight_hh_l0"][rows].T
        both = (u["bias_ih_l0"][rows] + u["bias_hh_l0"][rows]) / 2
        if kind == "lstm":
            out[f"h{g}.bias"] = both
        elif g == "n":
            out["in.bias"], out["hn.bias"] = u["bias_ih_l0"][rows], u["bias_hh_l0"][rows]
        else:
            out[f"i{g}.bias"] = both
    return out


def flat(tree):
    return {f"{k}.{leaf}": a for k, d in tree.items() for leaf, a in d.items()}


def cell_batch():
    rng = np.random.default_rng(6)
    return (rng.normal(size=(3, 7, INPUTS)).astype("float32"),
            rng.normal(size=(3, 7, UNITS)).astype("float32"))


def cell(kind, there):
    where, (x, want) = fresh("train_kept"), cell_batch()
    a, b = TorchCell(kind), FlaxCell(kind)
    if there:
        for _ in range(3):
            a.step(x, want)
    else:
        for _ in range(3):
            b.step(x, want)
        a.step(x, want)
    torch.save({"model": a.state_dict(), "optimizer": a.opt.state_dict()}, where / "a.pt")
    (where / "b.msgpack").write_bytes(serialization.to_bytes(b.state))
    if there:
        got = convert(where / "a.pt", where / "out.msgpack", "--to", "flax", "--like",
                      where / "b.msgpack", "--allow-drop", ts.SETTINGS)
        need("moves half as far" in got.stderr, f"the sum's step is not named: {got.stderr}")
        b.state = serialization.from_bytes(b.state, (where / "out.msgpack").read_bytes())
    else:
        convert(where / "b.msgpack", where / "out.pt", "--to", "pytorch", "--like", where / "a.pt")
        file = torch.load(where / "out.pt")
        a.load_state_dict(file["model"])
        a.opt.load_state_dict(file["optimizer"])
    kept = b.state
    u, v = gates(kind, a.step(x, want)), flat(b.step(x, want))
    worst = ts.judge(u, v, "float32", "adam")
    b.state = kept
    b.forget()
    need(ts.apart(u, flat(b.step(x, want)))[0] > 1e-2, "the test does not see zeroed moments")
    return f"{worst:.2g}"


# ---- frozen ----


def frozen_back():
    """optax's partitions into a torch optimizer that does not know the head, and back."""
    where, name, precision = fresh("train_kept"), "mlp", "float32"
    (x, y, want), last = ts.batch(name, precision, 11), ts.batch(name, precision, 12)
    a = ts.Flax(name, "adam", precision, y)
    labels = {k: jax.tree_util.tree_map(lambda _, k=k: "no" if k == "fc2" else "yes", v)
              for k, v in a.state.params.items()}
    a.state = a.state.replace(tx=optax.multi_transform(
        {"yes": optax.adam(0.01), "no": optax.set_to_zero()}, labels))
    a.state = a.state.replace(opt_state=a.state.tx.init(a.state.params))
    for _ in range(3):
        a.step(y, want)
    a.save(where / "in.msgpack")
    b = ts.Torch(name, "adam", precision)
    b.net.fc2.requires_grad_(False)
    b.opt = torch.optim.Adam([p for p in b.net.parameters() if p.requires_grad], lr=0.01)
    b.step(x, want)  # the state's shapes say which four parameters they are
    b.save(where / "skeleton.pt")
    convert(where / "in.msgpack", where / "out.pt", "--to", "pytorch", "--like",
            where / "skeleton.pt")
    b.load(where / "out.pt")
    need(len(b.opt.state_dict()["state"]) == 4, "state of other parameters than the four trained")
    here, there = a.update(last[1], last[2]), b.update(last[0], last[2])
    for k in [k for k in here if k.startswith("fc2")]:
        need(not np.any(there.pop(k)) and not np.any(here.pop(k)), f"{k} moved")
    return f"{ts.judge(here, there, precision, 'adam'):.2g}"


def frozen_without_partner():
    """torch trains all, the skeleton's optimizer a part: what it has no place for is named."""
    where, name, precision = fresh("train_kept"), "mlp", "float32"
    x, y, want = ts.batch(name, precision, 11)
    a = ts.Torch(name, "adam", precision)
    a.step(x, want)
    a.save(where / "in.pt")
    b = ts.Flax(name, "adam", precision, y)
    mask = {k: jax.tree_util.tree_map(lambda _, k=k: k != "fc2", v)
            for k, v in b.state.params.items()}
    b.state = b.state.replace(tx=optax.masked(optax.adam(0.01), mask))
    b.state = b.state.replace(opt_state=b.state.tx.init(b.state.params))
    b.save(where / "skeleton.msgpack")
    args = [where / "in.pt", where / "out.msgpack", "--to", "flax", "--like",
            where / "skeleton.msgpack", "--allow-drop", ts.SETTINGS]
    said = convert(*args, exit=4).stderr
    need("optimizer.state.4.exp_avg" in said, f"not named: {said}")
    convert(*args, "--allow-drop", "optimizer.state.[45].*")
    b.load(where / "out.msgpack")
    need(int(b.state.opt_state.inner_state[0].count) == 1, "another count")


# ---- schedules, loss scales ----


def schedule():
    """last_epoch <-> ScaleByScheduleState.count; rates and scalers are named, not guessed."""
    where, name, precision = fresh("train_kept"), "mlp", "float32"
    (x, y, want), last = ts.batch(name, precision, 11), ts.batch(name, precision, 12)
    a = ts.Torch(name, "adam", precision)
    plan = torch.optim.lr_scheduler.ExponentialLR(a.opt, 0.5)
    for _ in range(3):
        a.step(x, want)
        plan.step()
    scaler = {"scale": 1024.0, "growth_factor": 2.0, "backoff_factor": 0.5,
              "growth_interval": 2000, "_growth_tracker": 3}
    a.save(where / "in.pt", scheduler=plan.state_dict(), scaler=scaler)
    b = ts.Flax(name, "adam", precision, y)
    b.state = b.state.replace(tx=optax.adam(optax.exponential_decay(0.01, 1, 0.5)))
    b.state = b.state.replace(opt_state=b.state.tx.init(b.state.params))
    b.save(where / "skeleton.msgpack")
    args = [where / "in.pt", where / "out.msgpack", "--to", "flax", "--like",
            where / "skeleton.msgpack", "--allow-drop", ts.SETTINGS]
    said = convert(*args, exit=4).stdout
    need("scheduler.last_epoch" not in said, "the position would be lost")
    for word in ("scaler.scale", "scaler._growth_tracker", "scheduler.gamma"):
        need(word in said, f"{word} is not named: {said}")
    convert(*args, "--allow-drop", "scheduler.*", "--allow-drop", "scaler.*")
    b.load(where / "out.msgpack")
    need(int(b.state.opt_state[1].count) == 3, "another position")
    worst = ts.judge(a.update(last[0], last[2]), b.update(last[1], last[2]), precision, "adam")
    # and back: the position, while the rate it stands for is asked about
    c = ts.Torch(name, "adam", precision)
    plan = torch.optim.lr_scheduler.ExponentialLR(c.opt, 0.5)
    c.save(where / "skeleton.pt", scheduler=plan.state_dict())
    args = [where / "out.msgpack", where / "back.pt", "--to", "pytorch", "--like",
            where / "skeleton.pt"]
    said = convert(*args, exit=4).stderr
    need("not that of its schedule's position" in said, f"the rate is not named: {said}")
    convert(*args, "--allow-synth", "optimizer.param_groups.0.lr", "--allow-synth",
            "scheduler._last_lr.*")
    got = torch.load(where / "back.pt")["scheduler"]
    need(got["last_epoch"] == 3 and got["_step_count"] == 4, f"another position: {got}")
    return f"{worst:.2g}"


def run(tally):
    for kind in GATES:
        for there in (True, False):
            tally.run(f"{kind}, {'torch to flax' if there else 'flax to torch'}", cell, kind,
                      there)
    tally.run("partitions to torch", frozen_back)
    tally.run("a mask that leaves state over", frozen_without_partner)
    tally.run("position of a schedule", schedule)
