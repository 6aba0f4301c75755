"""A frozen layer: torch's requires_grad, Equinox's filters, optax's masks and partitions, NNX's wrt,
Keras's trainable. Three steps, converted, one more in both; the layer stands still in both, and no
state is made up for it or lost.
"""

import train_sides as sides  # first: it keeps LLVM and TensorFlow apart
import equinox as eqx
import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
from flax import nnx

import train_state as ts
from common import convert, fresh, need


class Torch(sides.Torch):
    def __init__(self, given):
        super().__init__("adam")
        self.net.fc2.requires_grad_(False)
        self.opt = sides.OPTIMIZERS["adam"][0]([p for p in self.net.parameters()
                                                if p.requires_grad or given == "all"])


class Equinox(sides.Equinox):
    """The state is of the part that is trained."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        every = jax.tree_util.tree_map(lambda _: True, self.params)
        self.spec = eqx.tree_at(lambda m: (m.fc2.weight, m.fc2.bias), every, (False, False))
        self.opt = self.tx.init(eqx.partition(self.params, self.spec)[0])

    def step(self, x, want):
        part, still = eqx.partition(self.params, self.spec)
        grads = jax.grad(lambda p: jnp.mean((self.apply(eqx.combine(p, still), x) - want) ** 2))
        change, self.opt = self.tx.update(grads(part), self.opt, part)
        self.params = eqx.combine(optax.apply_updates(part, change), still)


class Haiku(sides.Haiku):
    """optax.partition."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        inner = self.tx
        self.tx = optax.partition({"yes": inner, "no": optax.set_to_zero()}, self.labels)
        self.opt = self.tx.init(self.params)

    @staticmethod
    def labels(p):
        return {k: jax.tree_util.tree_map(lambda _, k=k: "no" if "fc2" in k else "yes", v)
                for k, v in p.items()}


class Masked(Haiku):
    """optax.masked, twice."""

    def __init__(self, optimizer):
        sides.Haiku.__init__(self, optimizer)

        def only(word):
            return lambda p: jax.tree_util.tree_map(lambda at: at == word, self.labels(p))
        self.tx = optax.chain(optax.masked(self.tx, only("yes")),
                              optax.masked(optax.set_to_zero(), only("no")))
        self.opt = self.tx.init(self.params)


class Nnx(sides.Nnx):
    """Its Optimizer's wrt."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.wrt = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("fc2")))
        self.opt = nnx.Optimizer(self.model, sides.OPTIMIZERS[optimizer][1](), wrt=self.wrt)

    def step(self, x, want):
        grads = nnx.grad(lambda m: jnp.mean((m(x) - want) ** 2),
                         argnums=nnx.DiffState(0, self.wrt))(self.model)
        self.opt.update(self.model, grads)


class Graph3(sides.Graph3):
    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.model.get_layer("fc2").trainable = False
        self.opt = type(self.opt).from_config(self.opt.get_config())
        self.model.compile(self.opt, "mse")
        self.opt.build(self.model.trainable_variables)

    def values(self):
        return {f"{v.path.split('/')[-2]}.{self.LEAF[v.name]}": np.array(v)
                for v in self.model.weights}


class Keras3(Graph3):
    """Its config says which layers are trained."""

    file, framework, settings = "state.keras", "keras", ("--allow-drop", "optimizer.vars.1")

    def save(self, path):
        self.model.save(path)

    def load(self, path):
        self.model = keras.models.load_model(path)
        self.opt = self.model.optimizer


class Keras2(sides.Keras2):
    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.model.get_layer("fc2").trainable = False
        first = [v.numpy() for v in self.model.weights]
        self.model.compile(sides.OPTIMIZERS[optimizer][self.which](), "mse")
        self.step(*sides.batches()[0])
        for v, a in zip(self.model.weights, first):
            v.assign(a)
        self.forget()
        self.model.optimizer.iterations.assign(0)

    def values(self):
        return {f"{v.name.split('/')[0]}.{self.LEAF[v.name.split('/')[1].split(':')[0]]}":
                v.numpy() for v in self.model.weights}


def compared(a, b, last):
    u, v = a.update(*last), b.update(*last)
    for d in (u, v):
        for k in [k for k in d if k.startswith("fc2")]:
            need(not np.any(d.pop(k)), f"{k} moved")
    return f"{ts.judge(u, v, 'float32', 'adam'):.2g}"


def there(side, given):
    where = fresh("train_frozen")
    first, last = sides.batches()
    a = Torch(given)
    for _ in range(3):
        a.step(*first)
    a.save(where / "in.pt")
    b, skeleton = sides.made(side, where, "skeleton", "adam")
    b.save(skeleton)
    out = where / "out" / side.file
    out.parent.mkdir(parents=True)
    target = sides.source(out)
    if target != out:
        target.rmdir()
    convert(where / "in.pt", target, "--to", side.framework, "--like", sides.source(skeleton),
            "--allow-drop", ts.SETTINGS)
    b.load(out)
    return compared(a, b, last)


def back(side):
    where = fresh("train_frozen")
    first, last = sides.batches()
    a, path = sides.made(side, where, "in", "adam")
    for _ in range(3):
        a.step(*first)
    a.save(path)
    b = Torch("trained")
    b.step(*first)
    b.save(where / "skeleton.pt")
    convert(sides.source(path), where / "out.pt", "--to", "pytorch", "--like",
            where / "skeleton.pt", *side.settings)
    b.load(where / "out.pt")
    return compared(a, b, last)


def run(tally):
    for n, side in enumerate((Equinox, Haiku, Masked, Nnx, Graph3, Keras3, Keras2)):
        given = ("trained", "all")[n % 2]  # what torch's optimizer was given
        tally.run(f"torch to {side.__name__}, {given}", there, side, given)
        tally.run(f"{side.__name__} to torch", back, side)
