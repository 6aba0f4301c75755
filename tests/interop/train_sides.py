"""Train state between torch.optim and all that keeps it otherwise: Haiku, NNX, Equinox, tf-keras
(.h5 and object graphs), slots of TensorFlow 1. As train_state.py: three steps, converted, one more
step in both, updates compared; with zeroed moments that must fail.
"""

import os
import pickle
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ["KERAS_BACKEND"] = "tensorflow"

sys.modules["triton"] = None  # which torch's optimizers load: its LLVM and TensorFlow's clash
import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
import keras  # noqa: E402
import equinox as eqx  # noqa: E402
import haiku as hk  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import torch  # noqa: E402
from flax import nnx, serialization  # noqa: E402

import train_state as ts  # noqa: E402
from common import convert, fresh, need  # noqa: E402
from nets_jax import EQUINOX, TWINS  # noqa: E402

t1 = tf.compat.v1
# Keras's epsilon is added to the rescaled root; this is the fourth update.
EPS_4 = 1e-8 * (1 - 0.999 ** 4) ** 0.5
SMALL = 1e-20  # under the root; 1e-12 beside it
# name: torch's, optax's, tf-keras' new one, its legacy one, TensorFlow 1's; Keras 3 has the new ones
OPTIMIZERS = {
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01), lambda: optax.adam(0.01),
             lambda: tf_keras.optimizers.Adam(0.01, epsilon=EPS_4),
             lambda: tf_keras.optimizers.legacy.Adam(0.01, epsilon=EPS_4),
             lambda: t1.train.AdamOptimizer(0.01, epsilon=EPS_4)),
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
            lambda: optax.sgd(0.05, momentum=0.9),
            lambda: tf_keras.optimizers.SGD(0.05, momentum=0.9),
            lambda: tf_keras.optimizers.legacy.SGD(0.05, momentum=0.9),
            lambda: t1.train.MomentumOptimizer(0.05, 0.9)),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, lr=0.01, eps=1e-12, momentum=0.9, centered=True),
                lambda: optax.rmsprop(0.01, decay=0.99, eps=SMALL, momentum=0.9, centered=True),
                lambda: tf_keras.optimizers.RMSprop(0.01, rho=0.99, epsilon=SMALL, momentum=0.9,
                                                    centered=True),
                lambda: tf_keras.optimizers.legacy.RMSprop(0.01, rho=0.99, epsilon=SMALL,
                                                           momentum=0.9, centered=True),
                lambda: t1.train.RMSPropOptimizer(0.01, decay=0.99, epsilon=SMALL, momentum=0.9,
                                                  centered=True)),
    "adagrad": (lambda p: torch.optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.1,
                                              eps=1e-12),
                lambda: optax.adagrad(0.01, eps=SMALL),
                lambda: tf_keras.optimizers.Adagrad(0.01, epsilon=SMALL),
                lambda: tf_keras.optimizers.legacy.Adagrad(0.01, epsilon=SMALL),
                lambda: t1.train.AdagradOptimizer(0.01)),
    "adadelta": (lambda p: torch.optim.Adadelta(p, lr=0.5, rho=0.9, eps=1e-6), None,
                 lambda: tf_keras.optimizers.Adadelta(0.5, rho=0.9, epsilon=1e-6),
                 lambda: tf_keras.optimizers.legacy.Adadelta(0.5, rho=0.9, epsilon=1e-6),
                 lambda: t1.train.AdadeltaOptimizer(0.5, rho=0.9, epsilon=1e-6)),
    "adamax": (lambda p: torch.optim.Adamax(p, lr=0.01), None,
               lambda: tf_keras.optimizers.Adamax(0.01, epsilon=1e-8),
               lambda: tf_keras.optimizers.legacy.Adamax(0.01, epsilon=1e-8), None),
    # momentum_decay: what Keras's formulas have, the legacy one's torch's default
    "nadam": (lambda p: torch.optim.NAdam(p, lr=0.01, momentum_decay=1.0), None,
              # for its settings: tf-keras's own multiplies its product once for each variable
              lambda: tf_keras.optimizers.Nadam(0.01, epsilon=1e-8), None, None),
    "nadam_legacy": (lambda p: torch.optim.NAdam(p, lr=0.01), None, None,
                     lambda: tf_keras.optimizers.legacy.Nadam(0.01, epsilon=1e-8), None),
}
UNCOUNTED = ("sgd",)  # torch keeps no number of steps


class Torch(ts.Torch):
    def __init__(self, optimizer):
        super().__init__("mlp", "adam", "float32")
        self.opt = OPTIMIZERS[optimizer][0](self.net.parameters())

    def step(self, x, want):
        self.opt.zero_grad()
        ((self.net(torch.from_numpy(x)) - torch.from_numpy(want)) ** 2).mean().backward()
        self.opt.step()


class Side:
    """A framework's own model and optimizer. Updates have flax's names and axes."""

    count = None  # where torch's SGD, which keeps none, says no number of updates
    settings = ()  # what the optimizer keeps of its own

    def update(self, x, want):
        old = self.values()
        self.step(x, want)
        return {k: v - old[k] for k, v in self.values().items()}


class Tree(Side):
    """optax on a tree of parameters."""

    def __init__(self, optimizer):
        self.tx = OPTIMIZERS[optimizer][1]()
        self.make()
        self.opt = self.tx.init(self.params)

    def step(self, x, want):
        grads = jax.grad(lambda p: jnp.mean((self.apply(p, x) - want) ** 2))(self.params)
        change, self.opt = self.tx.update(grads, self.opt, self.params)
        self.params = optax.apply_updates(self.params, change)

    def forget(self):
        self.opt = jax.tree_util.tree_map(lambda a: jnp.zeros_like(a) if jnp.ndim(a) else a,
                                          self.opt)


class Haiku(Tree):
    file, framework = "state.pkl", "haiku"
    LEAF = {"w": "kernel", "b": "bias", "scale": "scale", "offset": "bias"}

    def make(self):
        f = hk.without_apply_rng(hk.transform(lambda v: TWINS["mlp"][2](v, False)))
        self.params = f.init(jax.random.PRNGKey(0), jnp.zeros((2, 6)))
        self.apply = f.apply

    def values(self):
        return {f"{k}.{self.LEAF[w]}": np.array(a) for k, d in self.params.items()
                for w, a in d.items()}

    def save(self, path):
        path.write_bytes(pickle.dumps({"params": self.params, "opt_state": self.opt}))

    def load(self, path):
        got = pickle.loads(path.read_bytes())
        self.params = jax.tree_util.tree_map(jnp.asarray, got["params"])
        # optax's tuples come as dicts of their fields, whose leaves stand in the same order
        leaves, tree = jax.tree_util.tree_leaves(got["opt_state"]), jax.tree_util
        need([a.shape for a in leaves] == [a.shape for a in tree.tree_leaves(self.opt)],
             "other leaves")
        self.opt = tree.tree_unflatten(tree.tree_structure(self.opt),
                                       [jnp.asarray(a) for a in leaves])


class Equinox(Tree):
    file, framework = "state.eqx", "equinox"

    def make(self):
        model = EQUINOX["mlp"](jnp.float32, "ema", jax.random.PRNGKey(0))
        self.params, self.static = eqx.partition(model, eqx.is_array)
        self.apply = lambda p, x: jax.vmap(lambda v: eqx.combine(p, self.static)(v, None)[0])(x)

    def values(self):
        p, out = self.params, {}
        for name, layer, leaf in (("fc1", p.fc1, "kernel"), ("ln1", p.ln1, "scale"),
                                  ("fc2", p.fc2, "kernel")):
            out[f"{name}.{leaf}"] = np.array(layer.weight).T
            out[f"{name}.bias"] = np.array(layer.bias)
        return out

    def save(self, path):
        eqx.tree_serialise_leaves(path, (eqx.combine(self.params, self.static), self.opt))

    def load(self, path):
        model, self.opt = eqx.tree_deserialise_leaves(
            path, (eqx.combine(self.params, self.static), self.opt))
        self.params, self.static = eqx.partition(model, eqx.is_array)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.fc1 = nnx.Linear(6, 6, rngs=rngs)
        self.ln1 = nnx.LayerNorm(6, epsilon=1e-5, rngs=rngs)
        self.fc2 = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        return self.fc2(jax.nn.relu(self.ln1(self.fc1(x))))


class Nnx(Side):
    file, framework, count = "state.msgpack", "nnx", "optimizer.step"

    def __init__(self, optimizer):
        self.model = NnxNet(nnx.Rngs(0))
        self.opt = nnx.Optimizer(self.model, OPTIMIZERS[optimizer][1](), wrt=nnx.Param)

    def step(self, x, want):
        grads = nnx.grad(lambda m: jnp.mean((m(x) - want) ** 2))(self.model)
        self.opt.update(self.model, grads)

    def values(self):
        flat = nnx.to_flat_state(nnx.state(self.model, nnx.Param))
        return {".".join(map(str, k)): np.array(v[...]) for k, v in flat}

    def pure(self):
        return {"model": nnx.to_pure_dict(nnx.state(self.model)),
                "optimizer": nnx.to_pure_dict(nnx.state(self.opt))}

    def put(self, tree):
        for part, name in ((self.model, "model"), (self.opt, "optimizer")):
            state = nnx.state(part)
            nnx.replace_by_pure_dict(state, jax.tree_util.tree_map(jnp.asarray, tree[name]))
            nnx.update(part, state)

    def save(self, path):
        path.write_bytes(serialization.to_bytes(self.pure()))

    def load(self, path):
        self.put(serialization.from_bytes(self.pure(), path.read_bytes()))

    def forget(self):
        tree = self.pure()
        tree["optimizer"] = jax.tree_util.tree_map(
            lambda a: jnp.zeros_like(a) if jnp.ndim(a) else a, tree["optimizer"])
        self.put(tree)


class Keras2(Side):
    file, framework, which, count = "state.h5", "keras", 2, "optimizer_weights.iteration:0"
    LEAF = {"kernel": "kernel", "bias": "bias", "gamma": "scale", "beta": "bias"}

    def __init__(self, optimizer):
        tf_keras.utils.set_random_seed(2)
        layers = tf_keras.layers
        x = inputs = layers.Input((6,))
        x = layers.LayerNormalization(epsilon=1e-5, name="ln1")(layers.Dense(6, name="fc1")(x))
        self.model = tf_keras.Model(inputs, layers.Dense(5, name="fc2")(layers.ReLU()(x)))
        opt = OPTIMIZERS[optimizer][self.which]()
        self.model.compile(opt, "mse")
        # makes what the optimizer keeps, under the names that training gives it
        rng = np.random.default_rng(0)
        self.first = [v.numpy() for v in self.model.trainable_variables]
        self.step(rng.normal(size=(2, 6)), rng.normal(size=(2, 5)))
        for v, a in zip(self.model.trainable_variables, self.first):
            v.assign(a)
        self.forget()
        opt.iterations.assign(0)

    def step(self, x, want):
        self.model.train_on_batch(x, want)

    def values(self):
        return {f"{v.name.split('/')[0]}.{self.LEAF[v.name.split('/')[1].split(':')[0]]}":
                v.numpy() for v in self.model.trainable_variables}

    def save(self, path):
        self.model.save(path)

    def load(self, path):
        self.model = tf_keras.models.load_model(path)

    def forget(self):
        opt = self.model.optimizer
        for v in opt.variables if self.which == 2 else opt.variables():
            if v.shape.rank:
                v.assign(tf.zeros_like(v))


class Keras2Legacy(Keras2):
    which, count = 3, "optimizer_weights.*.iter:0"


class Graph(Keras2):
    """tf.train.Checkpoint of a tf-keras model and its optimizer."""

    file, framework, count = "state/ckpt", "tensorflow", "optimizer._iterations"
    settings = ("--allow-drop", "optimizer._learning_rate")

    def checkpoint(self):
        return tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)

    def save(self, path):
        self.checkpoint().write(str(path))

    def load(self, path):
        self.checkpoint().read(str(path)).assert_consumed()


class GraphLegacy(Graph):
    which, count = 3, "optimizer.iter"
    settings = ("--allow-drop", "optimizer.*")  # beta_1, decay, learning_rate ...


class Graph3(Side):
    """tf.train.Checkpoint of a Keras 3 model and its optimizer. TensorFlow keeps the weights where
    the shorter path is: the optimizer's."""

    file, framework, count = "state/ckpt", "tensorflow", "optimizer._iterations"
    settings = ("--allow-drop", "optimizer._learning_rate")
    LEAF = Keras2.LEAF

    def __init__(self, optimizer):
        keras.utils.set_random_seed(2)
        layers = keras.layers
        x = inputs = layers.Input((6,))
        x = layers.LayerNormalization(epsilon=1e-5, name="ln1")(layers.Dense(6, name="fc1")(x))
        self.model = self.whole(inputs, layers.Dense(5, name="fc2")(layers.ReLU()(x)))
        made = OPTIMIZERS[optimizer][2]()
        opt = getattr(keras.optimizers, type(made).__name__)
        names = ("learning_rate", "epsilon", "momentum", "nesterov", "rho", "centered")
        self.opt = opt(**{k: v if isinstance(v, bool) else float(v)
                          for k, v in made.get_config().items() if k in names})
        self.model.compile(self.opt, "mse")
        self.opt.build(self.model.trainable_variables)

    @staticmethod
    def whole(inputs, out):
        return keras.Model(inputs, out)

    def step(self, x, want):
        self.model.train_on_batch(x, want)

    def values(self):
        return {f"{v.path.split('/')[-2]}.{self.LEAF[v.name]}": np.array(v)
                for v in self.model.trainable_variables}

    def checkpoint(self):
        return tf.train.Checkpoint(model=self.model, optimizer=self.opt)

    def save(self, path):
        self.checkpoint().write(str(path))

    def load(self, path):
        self.checkpoint().read(str(path)).assert_consumed()

    def forget(self):
        for v in self.opt.variables:
            if len(v.shape):
                v.assign(np.zeros(v.shape, "float32"))


class Model3(Graph3):
    """tf.train.Checkpoint of the model alone, which has its optimizer; a Sequential."""

    count = "model.optimizer._iterations"
    settings = ("--allow-drop", "model.optimizer._learning_rate")

    @staticmethod
    def whole(inputs, out):
        model = keras.Model(inputs, out)
        return keras.Sequential([keras.Input((6,)), *model.layers[1:]])

    def checkpoint(self):
        return tf.train.Checkpoint(model=self.model)


class Tf1(Side):
    """Variables and tf.compat.v1.train's slots beside them."""

    file, framework, count = "state/ckpt", "tensorflow", "global_step"
    counts = True

    def __init__(self, optimizer):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.x, self.want = t1.placeholder("float32", [None, 6]), t1.placeholder("float32")
            v = {n: t1.get_variable(n, s) for n, s in (
                ("fc1/kernel", [6, 6]), ("fc1/bias", [6]), ("ln1/gamma", [6]), ("ln1/beta", [6]),
                ("fc2/kernel", [6, 5]), ("fc2/bias", [5]))}
            h = self.x @ v["fc1/kernel"] + v["fc1/bias"]
            mean, var = tf.nn.moments(h, [1], keepdims=True)
            h = (h - mean) * t1.rsqrt(var + 1e-5) * v["ln1/gamma"] + v["ln1/beta"]
            out = tf.nn.relu(h) @ v["fc2/kernel"] + v["fc2/bias"]
            count = t1.train.get_or_create_global_step() if self.counts else None
            opt = OPTIMIZERS[optimizer][4]()
            self.op = opt.minimize(t1.reduce_mean((out - self.want) ** 2), global_step=count)
            self.slots = [s for n in opt.get_slot_names() for p in v.values()
                          for s in [opt.get_slot(p, n)]]
            self.v, self.saver = v, t1.train.Saver()
            self.session = t1.Session()
            self.session.run(t1.global_variables_initializer())

    def step(self, x, want):
        self.session.run(self.op, {self.x: x, self.want: want})

    def values(self):
        leaf = {"kernel": "kernel", "bias": "bias", "gamma": "scale", "beta": "bias"}
        got = self.session.run(self.v)
        return {f"{k.split('/')[0]}.{leaf[k.split('/')[1]]}": a for k, a in got.items()}

    def save(self, path):
        with self.graph.as_default():
            self.saver.save(self.session, str(path), write_meta_graph=False, write_state=False)

    def load(self, path):
        with self.graph.as_default():
            self.saver.restore(self.session, str(path))

    def forget(self):
        with self.graph.as_default():
            for s in self.slots:
                s.load(np.zeros(s.shape.as_list(), "float32"), self.session)


class Tf1Bare(Tf1):
    """... without a global step: beta1_power and beta2_power alone count."""

    counts = False


def batches():
    (x, _, want), (u, _, last) = (ts.batch("mlp", "float32", s) for s in (11, 12))
    return (x, want), (u, last)


def made(side, where, name, optimizer):
    path = where / name / side.file
    path.parent.mkdir(parents=True)
    it = side(optimizer)
    return it, path


def source(path):
    return path.parent if path.name == "ckpt" else path


def to_side(side, optimizer, *options):
    where = fresh("train_sides")
    first, last = batches()
    a = Torch(optimizer)
    for _ in range(3):
        a.step(*first)
    a.save(where / "in.pt")
    b, skeleton = made(side, where, "skeleton", optimizer)
    b.save(skeleton)
    out = where / "out" / side.file
    out.parent.mkdir(parents=True)
    target = source(out)
    if target != out:
        target.rmdir()
    if optimizer in UNCOUNTED and side.count:
        options += ("--allow-synth", side.count)
    convert(where / "in.pt", target, "--to", side.framework, "--like", source(skeleton),
            "--allow-drop", ts.SETTINGS, *options)
    b.load(out)
    there = a.update(*last)
    worst = ts.judge(there, b.update(*last), "float32", optimizer)
    b.load(out)
    b.forget()
    need(ts.apart(there, b.update(*last))[0] > 1e-2, "the test does not see zeroed moments")
    return f"{worst:.2g}"


def from_side(side, optimizer, *options):
    where = fresh("train_sides")
    first, last = batches()
    a, path = made(side, where, "in", optimizer)
    for _ in range(3):
        a.step(*first)
    a.save(path)
    b = Torch(optimizer)
    b.step(*first)
    b.save(where / "skeleton.pt")
    if side is Equinox and optimizer == "sgd":  # nothing counts: names must be told
        names = ("fc1.weight", "fc1.bias", "ln1.weight", "ln1.bias", "fc2.weight", "fc2.bias")
        (where / "leaves.map").write_text("# nnferry-map 1\n" + "".join(
            f"leaf {i} = {n}\nleaf {i + 6} = opt_state.0.trace.{n}\n"
            for i, n in enumerate(names)))
        options += ("--map", where / "leaves.map")
    convert(source(path), where / "out.pt", "--to", "pytorch", "--like", where / "skeleton.pt",
            *side.settings, *options)
    b.load(where / "out.pt")
    return f"{ts.judge(a.update(*last), b.update(*last), 'float32', optimizer):.2g}"


SIDES = (Haiku, Nnx, Equinox, Keras2, Keras2Legacy, Graph, GraphLegacy, Graph3, Model3,
         Tf1, Tf1Bare)


# RMSprop and Adagrad where their names differ; the rarer ones where their files do
FULL = (Nnx, Keras2, Keras2Legacy, Graph, Graph3, Tf1)
RARE = {"adadelta": (Keras2Legacy, Graph, Graph3, Tf1), "adamax": (Keras2Legacy, Graph, Graph3),
        "nadam": (Graph3,), "nadam_legacy": (Keras2Legacy, GraphLegacy)}


def run(tally, only=None):
    for side in SIDES:
        for optimizer in OPTIMIZERS:
            if side not in RARE.get(optimizer, FULL if optimizer in ("rmsprop", "adagrad")
                                    else SIDES):
                continue
            if only and (side.__name__ not in only[0] or optimizer not in only[1]):
                continue
            tally.run(f"torch to {side.__name__}, {optimizer}", to_side, side, optimizer)
            tally.run(f"{side.__name__} to torch, {optimizer}", from_side, side, optimizer)
