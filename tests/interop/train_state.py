"""Train state: a few steps in one framework, converted, loaded by another, and one further step in
both on the same batch. The updates p' - p are compared, tensor by tensor, as relative L2; the same
comparison with the moments zeroed must fail.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import serialization
from flax.training import train_state

import layouts
from checkpoints import path_text
from common import convert, entries, fresh, need, same_tensors
from nets import TWINS, randomise
from twins import DTYPES, rules

LIMIT = {"float32": 1e-4, "float64": 1e-9}
# Gradients that are zero but for rounding: softmax does not see what all keys share.
NOISE = ("attn.key.bias",)
SETTINGS = "optimizer.param_groups.*"


class Lion(torch.optim.Optimizer):
    """As lion-pytorch has it, state and all."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_((m * b1 + p.grad * (1 - b1)).sign_(), alpha=-group["lr"])
                m.mul_(b2).add_(p.grad, alpha=1 - b2)


# name: torch's, optax's; the loosest limit where the two formulas differ in their last digits
OPTIMIZERS = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.005, momentum=0.9),
            lambda: optax.sgd(0.005, momentum=0.9)),
    "nesterov": (lambda p: torch.optim.SGD(p, lr=0.005, momentum=0.9, nesterov=True),
                 lambda: optax.sgd(0.005, momentum=0.9, nesterov=True)),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01), lambda: optax.adam(0.01)),
    "adamw": (lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
              lambda: optax.adamw(0.01, weight_decay=0.1)),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, lr=0.01),
                lambda: optax.rmsprop(0.01, decay=0.99, eps=1e-8, eps_in_sqrt=False)),
    "rmsprop_centered": (lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, eps=1e-4),
                         lambda: optax.rmsprop(0.01, decay=0.99, eps=1e-4, centered=True,
                                               eps_in_sqrt=False)),
    "rmsprop_momentum": (lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
                         lambda: optax.rmsprop(0.01, decay=0.99, eps=1e-8, eps_in_sqrt=False,
                                               momentum=0.9)),
    "adagrad": (lambda p: torch.optim.Adagrad(p, lr=0.01),
                lambda: optax.adagrad(0.01, initial_accumulator_value=0.0, eps=1e-20)),
    "lion": (lambda p: Lion(p, lr=0.001), lambda: optax.lion(0.001, weight_decay=0.0)),
    "adadelta": (lambda p: torch.optim.Adadelta(p, lr=0.5, rho=0.9, eps=1e-6),
                 lambda: optax.adadelta(0.5, rho=0.9, eps=1e-6)),
    "adamax": (lambda p: torch.optim.Adamax(p, lr=0.01), lambda: optax.adamax(0.01)),
}
# optax keeps the same for Adam: which one it is the user says.
ALIKE = {"adamax": ["--allow-synth", "optimizer.kind"]}
# Adagrad's eps stands under the root in optax and beside it in torch.
LOOSE = {"adagrad": 1e-5}


class State(train_state.TrainState):
    batch_stats: object


class Torch:
    """A net and its optimizer, a step at a time."""

    def __init__(self, name, optimizer, precision, seed=3):
        self.net = randomise(TWINS[name][0]().to(DTYPES[precision][0]), seed).eval()
        self.opt = OPTIMIZERS[optimizer][0](self.net.parameters())
        self.layers = TWINS[name][2]

    def step(self, x, want):
        self.opt.zero_grad()
        x = torch.from_numpy(x)
        loss = ((self.net(x) - torch.from_numpy(want)) ** 2).sum()
        loss.backward()
        self.opt.step()

    def update(self, x, want):
        """The next step's change, in flax's names and axes."""
        old = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.step(x, want)
        sd = {k: (v - old[k]).numpy() for k, v in self.net.state_dict().items()}
        named = {path_text(p): a for p, a in layouts.to_flax(self.layers, sd).items()}
        return {k[len("params."):]: v for k, v in named.items() if k.startswith("params.")}

    def save(self, path, **more):
        torch.save({"model": self.net.state_dict(), "optimizer": self.opt.state_dict(), **more},
                   path)

    def load(self, path):
        file = torch.load(path)
        self.net.load_state_dict(file["model"])
        self.opt.load_state_dict(file["optimizer"])


class Flax:
    def __init__(self, name, optimizer, precision, x, seed=1):
        module = TWINS[name][1](DTYPES[precision][1])
        variables = module.init(jax.random.PRNGKey(seed), jnp.asarray(x))
        made = {"apply_fn": module.apply, "params": variables["params"],
                "tx": OPTIMIZERS[optimizer][1]()}
        if "batch_stats" in variables:
            self.state = State.create(batch_stats=variables["batch_stats"], **made)
        else:
            self.state = train_state.TrainState.create(**made)

    def loss(self, out, want):
        return ((out - want) ** 2).sum()

    def step(self, x, want):
        def loss(params):
            variables = {"params": params,
                         "batch_stats": getattr(self.state, "batch_stats", {})}
            return self.loss(self.state.apply_fn(variables, jnp.asarray(x)), want)
        self.state = self.state.apply_gradients(grads=jax.grad(loss)(self.state.params))

    def update(self, x, want):
        old = self.state.params
        self.step(x, want)
        change = jax.tree_util.tree_map(lambda a, b: np.asarray(a) - np.asarray(b),
                                        self.state.params, old)
        flat = jax.tree_util.tree_flatten_with_path(change)[0]
        return {".".join(k.key for k in path): a for path, a in flat}

    def save(self, path):
        path.write_bytes(serialization.to_bytes(self.state))

    def load(self, path):
        self.state = serialization.from_bytes(self.state, path.read_bytes())

    def forget(self):
        """Zeroes what the optimizer remembers, its counts left alone."""
        opt = jax.tree_util.tree_map(lambda a: jnp.zeros_like(a) if jnp.ndim(a) else a,
                                     self.state.opt_state)
        self.state = self.state.replace(opt_state=opt)


def apart(a, b):
    """The largest relative L2 between two updates, and where."""
    need(set(a) == set(b), f"other parameters: {sorted(set(a) ^ set(b))[:4]}")
    worst = (0.0, "")
    for name, u in a.items():
        if name.endswith(NOISE):
            continue
        size = np.linalg.norm(u)
        need(size > 0, f"{name} did not move")
        worst = max(worst, (float(np.linalg.norm(u - b[name]) / size), name))
    return worst


def batch(name, precision, seed):
    rng = np.random.default_rng(seed)
    x, y = TWINS[name][3](rng)
    if x.dtype.kind == "f":
        x, y = x.astype(precision), y.astype(precision)
    with torch.no_grad():
        shape = TWINS[name][0]().to(DTYPES[precision][0])(torch.from_numpy(x)).shape
    return x, np.ascontiguousarray(y), rng.normal(size=shape).astype(precision)


def judge(a, b, precision, optimizer):
    worst, where = apart(a, b)
    limit = max(LIMIT[precision], LOOSE.get(optimizer, 0))
    need(worst <= limit, f"{where}: updates differ by {worst:.3g}, at most {limit:.3g}")
    return worst


def to_flax(name, optimizer, precision, like):
    where = fresh("train_state")
    (x, y, want), last = batch(name, precision, 11), batch(name, precision, 12)
    a = Torch(name, optimizer, precision)
    for _ in range(3):
        a.step(x, want)
    a.save(where / "in.pt")
    b = Flax(name, optimizer, precision, y)
    b.save(where / "skeleton.msgpack")
    options = ["--like", where / "skeleton.msgpack"] if like else []
    allowed = ["--allow-drop", SETTINGS] + (["--allow-synth", "step"]
                                            if optimizer in ("sgd", "nesterov", "lion") else [])
    allowed += ALIKE.get(optimizer, []) if like else []
    ruled = rules(name, where)
    if ruled:
        text = (where / "rules.map").read_text()
        (where / "rules.map").write_text(text.replace('flatten "', 'flatten "model.'))
    said = convert(where / "in.pt", where / "out.msgpack", "--to", "flax", *options, *ruled,
                   *ALIKE.get(optimizer, []), exit=4)
    need("optimizer.param_groups.0.lr" in said.stderr, "the settings are not named")
    convert(where / "in.pt", where / "out.msgpack", "--to", "flax", *options, *allowed, *ruled)
    b.load(where / "out.msgpack")
    if optimizer.startswith("adam"):
        need(int(b.state.step) == 3 and int(b.state.opt_state[0].count) == 3, "other counts")
    kept, there = b.state, a.update(last[0], last[2])
    worst = judge(there, b.update(last[1], last[2]), precision, optimizer)
    b.state = kept
    b.forget()
    need(apart(there, b.update(last[1], last[2]))[0] > 1e-2, "the test does not see zeroed moments")
    a2 = Torch(name, optimizer, precision)
    for _ in range(3):
        a2.step(x, want)
    a2.save(where / "skeleton.pt")
    convert(where / "out.msgpack", where / "back.pt", "--to", "pytorch",
            "--like", where / "skeleton.pt", *ALIKE.get(optimizer, []), *rules(name, where))
    got, was = entries(where / "back.pt"), entries(where / "in.pt")
    if optimizer == "rmsprop_momentum":  # times the learning rate, and back: rounded twice
        got, was = ({k: v for k, v in d.items() if not k.endswith("momentum_buffer")}
                    for d in (got, was))
    same_tensors({k: v for k, v in got.items() if not k.endswith("num_batches_tracked")
                  and k != "step"},
                 {k: v for k, v in was.items() if not k.endswith("num_batches_tracked")},
                 "there and back")
    return f"{worst:.2g}"


def to_torch(name, optimizer, precision):
    where = fresh("train_state")
    (x, y, want), last = batch(name, precision, 11), batch(name, precision, 12)
    a = Flax(name, optimizer, precision, y)
    for _ in range(3):
        a.step(y, want)
    a.save(where / "in.msgpack")
    b = Torch(name, optimizer, precision)
    b.save(where / "skeleton.pt")
    convert(where / "in.msgpack", where / "out.pt", "--to", "pytorch",
            "--like", where / "skeleton.pt", *ALIKE.get(optimizer, []), *rules(name, where))
    b.load(where / "out.pt")
    return f"{judge(b.update(last[0], last[2]), a.update(last[1], last[2]), precision, optimizer):.2g}"


def frozen():
    """The head is left out of torch's optimizer and masked in optax."""
    where, name, precision = fresh("train_state"), "mlp", "float32"
    (x, y, want), last = batch(name, precision, 11), batch(name, precision, 12)
    a = Torch(name, "adam", precision)
    a.net.fc2.requires_grad_(False)
    a.opt = torch.optim.Adam([p for p in a.net.parameters() if p.requires_grad], lr=0.01)
    for _ in range(3):
        a.step(x, want)
    a.save(where / "in.pt")
    b = Flax(name, "adam", precision, y)
    labels = {k: jax.tree_util.tree_map(lambda _, k=k: "no" if k == "fc2" else "yes", v)
              for k, v in b.state.params.items()}
    b.state = b.state.replace(tx=optax.multi_transform(
        {"yes": optax.adam(0.01), "no": optax.set_to_zero()}, labels))
    b.state = b.state.replace(opt_state=b.state.tx.init(b.state.params))
    b.save(where / "skeleton.msgpack")
    convert(where / "in.pt", where / "out.msgpack", "--to", "flax",
            "--like", where / "skeleton.msgpack", "--allow-drop", SETTINGS)
    b.load(where / "out.msgpack")
    there, here = a.update(last[0], last[2]), b.update(last[1], last[2])
    for k in [k for k in there if k.startswith("fc2")]:
        need(not np.any(there.pop(k)) and not np.any(here.pop(k)), f"{k} moved")
    return f"{judge(there, here, precision, 'adam'):.2g}"


def run(tally):
    jax.config.update("jax_enable_x64", True)
    tally.run("a frozen head, torch to flax", frozen)
    for optimizer in OPTIMIZERS:
        full = optimizer in ("sgd", "adam", "adamw")
        for name in TWINS if full else ("mlp",):
            for precision in ("float32", "float64") if name == "block" else ("float32",):
                for like in (True, False) if name == "cnn" or not full else (True,):
                    tally.run(f"torch to flax, {optimizer}, {name}, {precision}, "
                              f"{'skeleton' if like else 'alone'}",
                              to_flax, name, optimizer, precision, like)
                tally.run(f"flax to torch, {optimizer}, {name}, {precision}",
                          to_torch, name, optimizer, precision)
