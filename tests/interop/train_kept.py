"""What else of a training stays: frozen and partitioned parameters, positions of schedules; and what
is named: rates, loss scales without a place.
"""

import jax
import numpy as np
import optax
import torch

import train_state as ts
from common import convert, fresh, need

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
    tally.run("partitions to torch", frozen_back)
    tally.run("a mask that leaves state over", frozen_without_partner)
    tally.run("position of a schedule", schedule)
