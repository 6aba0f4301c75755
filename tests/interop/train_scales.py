"""Dynamic loss scales between torch's GradScaler, Flax's DynamicScale, jmp, Keras 3's and tf-keras's
LossScaleOptimizer: the scale and the finite steps since it changed, loaded by the real ones, which
then go on as the source does: the same scale after an overflow, the same step for the next growth.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.modules["triton"] = None  # which torch's optimizers load: its LLVM and TensorFlow's clash
import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
import keras  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from flax import serialization, struct  # noqa: E402
from flax.training import dynamic_scale, train_state  # noqa: E402

import train_sides as sides  # noqa: E402
import train_state as ts  # noqa: E402
from common import convert, fresh, need  # noqa: E402

INTERVAL = 4


class Torch(sides.Torch):
    file, framework, more = "state.pt", "pytorch", ()
    settings = ("growth_factor", "backoff_factor", "growth_interval")

    def __init__(self):
        super().__init__("adam")
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=INTERVAL)

    def step(self, x, want, overflow=False):
        self.opt.zero_grad()
        loss = ((self.net(torch.from_numpy(x)) - torch.from_numpy(want)) ** 2).mean()
        self.scaler.scale(loss * (float("inf") if overflow else 1)).backward()
        self.scaler.step(self.opt)
        self.scaler.update()

    def told(self):
        state = self.scaler.state_dict()
        return state["scale"], state["_growth_tracker"]

    def save(self, path):
        if self.scaler._scale is None:
            self.scaler.scale(torch.tensor(1.0))
        super().save(path, scaler=self.scaler.state_dict())

    def load(self, path):
        super().load(path)
        self.scaler.load_state_dict(torch.load(path)["scaler"])


class FlaxState(train_state.TrainState):
    dynamic_scale: dynamic_scale.DynamicScale


@struct.dataclass
class Jmp:
    """As jmp.DynamicLossScale has it; kept by its fields."""
    loss_scale: jax.Array
    counter: jax.Array
    period: jax.Array
    factor: jax.Array
    min_loss_scale: jax.Array


class Flax(ts.Flax):
    file, framework, more, settings = "state.msgpack", "flax", (), ()
    late = 1  # steps that it grows later

    def __init__(self):
        super().__init__("mlp", "adam", "float32", ts.batch("mlp", "float32", 11)[1])
        self.state = FlaxState.create(
            apply_fn=self.state.apply_fn, params=self.state.params,
            tx=sides.OPTIMIZERS["adam"][1](), dynamic_scale=self.first())

    @staticmethod
    def first():
        return dynamic_scale.DynamicScale(growth_interval=INTERVAL, scale=8.0)

    def step(self, x, want, overflow=False):
        big = jnp.inf if overflow else 1.0

        def loss(params):
            return jnp.mean((self.state.apply_fn({"params": params}, jnp.asarray(x)) - want)
                            ** 2) * big
        scale, finite, _, grads = self.state.dynamic_scale.value_and_grad(loss)(self.state.params)
        if finite:
            self.state = self.state.apply_gradients(grads=grads)
        self.state = self.state.replace(dynamic_scale=scale)

    def told(self):
        return float(self.state.dynamic_scale.scale), int(self.state.dynamic_scale.fin_steps)


class WithJmp(Flax):
    late = 0

    @staticmethod
    def first():
        return Jmp(jnp.float32(8), jnp.int32(0), jnp.int32(INTERVAL), jnp.int32(2), jnp.float32(1))

    settings = ("factor", "period", "min_loss_scale")

    def step(self, x, want, overflow=False):
        import jmp
        now = jmp.DynamicLossScale(**vars(self.state.dynamic_scale))
        big = jnp.inf if overflow else 1.0

        def loss(params):
            out = self.state.apply_fn({"params": params}, jnp.asarray(x))
            return now.scale(jnp.mean((out - want) ** 2) * big)
        grads = now.unscale(jax.grad(loss)(self.state.params))
        finite = jmp.all_finite(grads)
        if finite:
            self.state = self.state.apply_gradients(grads=grads)
        self.state = self.state.replace(dynamic_scale=Jmp(**vars(now.adjust(finite))))

    def told(self):
        return float(self.state.dynamic_scale.loss_scale), int(self.state.dynamic_scale.counter)


class Keras3(sides.Graph3):
    """A .keras file, in which the wrapper and the optimizer inside both keep all variables."""

    file, framework, settings = "state.keras", "keras", ()
    more = ("--allow-drop", "optimizer.inner_optimizer.vars.1")

    def __init__(self):
        super().__init__("adam")
        self.opt = keras.mixed_precision.LossScaleOptimizer(
            keras.optimizers.Adam(0.01, epsilon=sides.EPS_4), initial_scale=8.0,
            dynamic_growth_steps=INTERVAL)
        self.model.compile(self.opt, "mse")
        self.opt.build(self.model.trainable_variables)

    def step(self, x, want, overflow=False):
        self.model.train_on_batch(x, want * (np.inf if overflow else 1))

    def told(self):
        return float(self.opt.dynamic_scale), int(self.opt.step_counter)

    def save(self, path):
        self.model.save(path)

    def load(self, path):
        self.model = keras.models.load_model(path)
        self.opt = self.model.optimizer


class Graph3(Keras3):
    file, framework = "state/ckpt", "tensorflow"
    more = ("--allow-drop", "optimizer.inner_optimizer._learning_rate")
    save, load = sides.Graph3.save, sides.Graph3.load


class Graph2(sides.Graph):
    """tf-keras; its .h5 files hold no scale."""

    more, settings = sides.Graph.settings, ()

    def __init__(self, legacy=False):
        super().__init__("adam")
        kind = tf_keras.optimizers.legacy if legacy else tf_keras.optimizers
        opt = tf_keras.mixed_precision.LossScaleOptimizer(
            kind.Adam(0.01, epsilon=sides.EPS_4), initial_scale=8.0, dynamic_growth_steps=INTERVAL)
        first = [v.numpy() for v in self.model.trainable_variables]
        self.model.compile(opt, "mse")
        self.step(*sides.batches()[0])  # makes the variables under the names of training
        for v, a in zip(self.model.trainable_variables, first):
            v.assign(a)

    def step(self, x, want, overflow=False):
        self.model.train_on_batch(x, want * (np.inf if overflow else 1))

    def told(self):
        opt = self.model.optimizer
        return float(opt.loss_scale), int(opt.dynamic_counter)


class Graph2Legacy(Graph2):
    more = sides.GraphLegacy.settings

    def __init__(self):
        super().__init__(True)


def grown(it, batch):
    """Finite steps until the scale grows."""
    was = it.told()[0]
    for n in range(1, 2 * INTERVAL):
        it.step(*batch)
        if it.told()[0] != was:
            return n
    return 0


def carried(there, here):
    where = fresh("train_scales")
    first, last = sides.batches()
    a, b = there(), here()
    names = []
    for it, name in ((a, "in"), (b, "skeleton"), (b, "out")):
        path = where / name / it.file
        path.parent.mkdir(parents=True)
        names.append(path)
    # an overflow, then growth once, then two more steps
    a.step(*first, overflow=True)
    late = getattr(a, "late", 0)
    for _ in range(INTERVAL + late + 2):
        a.step(*first)
    told = a.told()
    need(told == (8.0, 2), f"the source itself stands at {told}")
    a.save(names[0])
    b.save(names[1])
    target = sides.source(names[2])
    if target != names[2]:
        target.rmdir()
    args = [sides.source(names[0]), target, "--to", b.framework, "--like", sides.source(names[1])]
    drops = [*a.more]
    if isinstance(a, Torch):
        drops = ["--allow-drop", ts.SETTINGS, "--allow-drop", "scaler.*"]
    if isinstance(a, WithJmp):
        drops = ["--allow-drop", "dynamic_scale.*"]
    if drops:
        said = convert(*args, exit=4).stdout
        for word in a.settings:
            need(f".{word}" in said, f"{word} is not named: {said}")
        need("_growth_tracker" not in said and "fin_steps" not in said, f"a count is lost: {said}")
    convert(*args, *drops)
    b.load(names[2])
    need(b.told() == told, f"{b.told()} from {told}")
    worst = ts.judge(a.update(*last), b.update(*last), "float32", "adam")
    # one step was just made: both grow at their next count, and halve together
    n, k = grown(a, last), grown(b, last)
    need((n - late, k - getattr(b, "late", 0)) == (INTERVAL - 3, INTERVAL - 3),
         f"grown after {n} and {k}")
    for it in (a, b):
        it.step(*last, overflow=True)
        need(it.told() == (8.0, 0), f"after an overflow: {it.told()}")
    return f"{worst:.2g}"


OTHERS = (Flax, WithJmp, Keras3, Graph3, Graph2, Graph2Legacy)


def run(tally):
    for side in OTHERS:
        tally.run(f"torch to {side.__name__}", carried, Torch, side)
        tally.run(f"{side.__name__} to torch", carried, side, Torch)
    tally.run("Flax to Keras3", carried, Flax, Keras3)
