"""Train state between torch.optim and Keras 3, and between optax and Keras: as train_state.py, with
the models that keras itself saves and loads.
"""

import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import optax
import torch

import train_state as ts
from common import convert, fresh, need

LEAF = {"kernel": "kernel", "bias": "bias", "gamma": "scale", "beta": "bias"}
EPS = 1e-8
# Keras's epsilon is added to the rescaled root; this is the fourth update.
EPS_4 = EPS * (1 - 0.999 ** 4) ** 0.5
# name: torch's, optax's, Keras's; the same rates everywhere
OPTIMIZERS = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
            lambda: optax.sgd(0.05, momentum=0.9),
            lambda: keras.optimizers.SGD(0.05, momentum=0.9)),
    "nesterov": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
                 lambda: optax.sgd(0.05, momentum=0.9, nesterov=True),
                 lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01), lambda: optax.adam(0.01),
             lambda: keras.optimizers.Adam(0.01, epsilon=EPS_4)),
    "adamw": (lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
              lambda: optax.adamw(0.01, weight_decay=0.1),
              lambda: keras.optimizers.AdamW(0.01, epsilon=EPS_4, weight_decay=0.1)),
    # Keras adds its epsilon under the root, torch beside it: both far below the gradients
    "rmsprop": (lambda p: torch.optim.RMSprop(p, lr=0.01, eps=1e-12),
                lambda: optax.rmsprop(0.01, decay=0.99, eps=1e-20),
                lambda: keras.optimizers.RMSprop(0.01, rho=0.99, epsilon=1e-20)),
    "rmsprop_momentum": (lambda p: torch.optim.RMSprop(p, lr=0.01, eps=1e-12, momentum=0.9),
                         lambda: optax.rmsprop(0.01, decay=0.99, eps=1e-20, momentum=0.9),
                         lambda: keras.optimizers.RMSprop(0.01, rho=0.99, epsilon=1e-20,
                                                          momentum=0.9)),
    "rmsprop_centered": (lambda p: torch.optim.RMSprop(p, lr=0.01, eps=1e-12, centered=True),
                         lambda: optax.rmsprop(0.01, decay=0.99, eps=1e-20, centered=True),
                         lambda: keras.optimizers.RMSprop(0.01, rho=0.99, epsilon=1e-20,
                                                          centered=True)),
    "rmsprop_both": (lambda p: torch.optim.RMSprop(p, lr=0.01, eps=1e-12, centered=True,
                                                   momentum=0.9),
                     lambda: optax.rmsprop(0.01, decay=0.99, eps=1e-20, centered=True,
                                           momentum=0.9),
                     lambda: keras.optimizers.RMSprop(0.01, rho=0.99, epsilon=1e-20,
                                                      centered=True, momentum=0.9)),
    "adagrad": (lambda p: torch.optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.1,
                                              eps=1e-12),
                lambda: optax.adagrad(0.01, eps=1e-20),
                lambda: keras.optimizers.Adagrad(0.01, epsilon=1e-20)),
    "lion": (lambda p: ts.Lion(p, lr=0.001), lambda: optax.lion(0.001, weight_decay=0.0),
             lambda: keras.optimizers.Lion(0.001)),
    "adadelta": (lambda p: torch.optim.Adadelta(p, lr=0.5, rho=0.9, eps=1e-6), None,
                 lambda: keras.optimizers.Adadelta(0.5, rho=0.9, epsilon=1e-6)),
    "adamax": (lambda p: torch.optim.Adamax(p, lr=0.01), None,
               lambda: keras.optimizers.Adamax(0.01, epsilon=1e-8)),
    # Keras's momentum decays as torch's does with a momentum_decay of 1
    "nadam": (lambda p: torch.optim.NAdam(p, lr=0.01, momentum_decay=1.0), None,
              lambda: keras.optimizers.Nadam(0.01, epsilon=1e-8)),
}
SGD = ("sgd", "nesterov", "lion")


class Keras:
    def __init__(self, optimizer, seed=2):
        keras.utils.set_random_seed(seed)
        x = inputs = keras.Input((6,))
        x = keras.layers.Dense(6, name="fc1")(x)
        x = keras.layers.ReLU()(keras.layers.LayerNormalization(epsilon=1e-5, name="ln1")(x))
        self.model = keras.Model(inputs, keras.layers.Dense(5, name="fc2")(x))
        self.model.compile(OPTIMIZERS[optimizer][2](), loss="mse")
        self.model.optimizer.build(self.model.trainable_variables)

    def step(self, x, want):
        self.model.train_on_batch(x, want)

    def values(self):
        return {f"{v.path.split('/')[-2]}.{LEAF[v.name]}": np.array(v)
                for v in self.model.trainable_variables}

    def update(self, x, want):
        old = self.values()
        self.step(x, want)
        return {k: v - old[k] for k, v in self.values().items()}

    def save(self, path):
        self.model.save(path)

    def load(self, path):
        self.model = keras.models.load_model(path)

    def forget(self):
        for v in self.model.optimizer.variables[2:]:
            v.assign(np.zeros(v.shape, "float32"))


def batches():
    (x, _, want), (u, _, last) = (ts.batch("mlp", "float32", s) for s in (11, 12))
    return (x, want), (u, last)


def to_keras(side, optimizer):
    where = fresh("train_keras")
    first, last = batches()
    a = side(optimizer)
    for _ in range(3):
        a.step(*first)
    a.save(where / a.file)
    b = Keras(optimizer)
    b.save(where / "skeleton.keras")
    allowed = ["--allow-drop", ts.SETTINGS] if a.file.endswith(".pt") else []
    if optimizer in SGD and a.file.endswith(".pt"):
        allowed += ["--allow-synth", "optimizer.vars.0"]
    convert(where / a.file, where / "out.keras", "--to", "keras",
            "--like", where / "skeleton.keras", *allowed)
    b.load(where / "out.keras")
    if optimizer not in SGD:
        need(int(b.model.optimizer.iterations) == 3, "another count")
    there = a.update(*last)
    worst = ts.judge(there, b.update(*last), "float32", optimizer)
    b.load(where / "out.keras")
    b.forget()
    need(ts.apart(there, b.update(*last))[0] > 1e-2, "the test does not see zeroed moments")
    return f"{worst:.2g}"


def from_keras(side, optimizer):
    where = fresh("train_keras")
    first, last = batches()
    a = Keras(optimizer)
    for _ in range(3):
        a.step(*first)
    a.save(where / "in.keras")
    b = side(optimizer)
    b.save(where / f"skeleton{pathlib.Path(b.file).suffix}")
    convert(where / "in.keras", where / b.file, "--to", b.framework,
            "--like", where / f"skeleton{pathlib.Path(b.file).suffix}", "--allow-drop", "optimizer.vars.1")
    b.load(where / b.file)
    there = a.update(*last)
    worst = ts.judge(there, b.update(*last), "float32", optimizer)
    b.load(where / b.file)
    return f"{worst:.2g}"


class TorchSide(ts.Torch):
    file, framework = "state.pt", "pytorch"

    def __init__(self, optimizer):
        super().__init__("mlp", "adam", "float32")
        self.opt = OPTIMIZERS[optimizer][0](self.net.parameters())

    def step(self, x, want):
        self.opt.zero_grad()
        loss = ((self.net(torch.from_numpy(x)) - torch.from_numpy(want)) ** 2).mean()
        loss.backward()
        self.opt.step()


class FlaxSide(ts.Flax):
    file, framework = "state.msgpack", "flax"

    def __init__(self, optimizer):
        x = ts.batch("mlp", "float32", 11)[1]
        super().__init__("mlp", "adam", "float32", x)
        self.state = ts.train_state.TrainState.create(
            apply_fn=self.state.apply_fn, params=self.state.params,
            tx=OPTIMIZERS[optimizer][1]())

    def loss(self, out, want):
        return ((out - want) ** 2).mean()


def run(tally):
    for optimizer in OPTIMIZERS:
        # optax's own are compared with torch's in train_state.py
        torch_alone = optimizer.startswith("rms") or OPTIMIZERS[optimizer][1] is None
        for side in (TorchSide,) if torch_alone else (TorchSide, FlaxSide):
            tally.run(f"{side.framework} to keras, {optimizer}", to_keras, side, optimizer)
            tally.run(f"keras to {side.framework}, {optimizer}", from_keras, side, optimizer)
