"""Keras 3: a functional model saved whole as .keras."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import h5py
import io
import keras
import numpy as np
import tensorflow as tf
import zipfile
from keras import ops as K

from frames.keras_ops import build, filled, ops_of
from frames.models import every

NAME = "keras"
SUFFIX = ".keras"
LACKS = ()


@keras.saving.register_keras_serializable("grid")
class RMS(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")

    def call(self, x):
        return x / K.sqrt(K.mean(x * x, -1, keepdims=True) + 1e-5) * self.scale


@keras.saving.register_keras_serializable("grid")
class Plus(keras.layers.Layer):
    def __init__(self, shape, **keys):
        super().__init__(**keys)
        self.shape = tuple(shape)

    def build(self, _):
        self.value = self.add_weight(shape=self.shape, name="value")

    def get_config(self):
        return {**super().get_config(), "shape": self.shape}

    def call(self, x):
        return x + self.value


@keras.saving.register_keras_serializable("grid")
class Token(keras.layers.Layer):
    def __init__(self, shape, **keys):
        super().__init__(**keys)
        self.shape = tuple(shape)

    def build(self, _):
        self.value = self.add_weight(shape=self.shape, name="value")

    def get_config(self):
        return {**super().get_config(), "shape": self.shape}

    def call(self, x):
        return K.concatenate([K.broadcast_to(self.value, (x.shape[0], 1, x.shape[-1])), x], 1)


def gelu(x):
    """The tanh form; the framework's own rounds its factors to float32."""
    return 0.5 * x * (1.0 + K.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x)))


Ops = ops_of(keras.layers, {
    "relu": K.relu, "tanh": K.tanh, "softmax": K.softmax, "matmul": K.matmul,
    "gelu": gelu,
    "reshape": K.reshape, "swap": lambda x, a, b: K.swapaxes(x, a, b),
}, {"RMS": RMS, "Plus": Plus, "Token": Token})


class Net:
    def __init__(self, model, dtype):
        self.model, self.dtype = model, dtype
        self.net, self.x = build(keras, Ops, model, dtype)
        self.reset(1)

    def reset(self, seed):
        self.net.set_weights(filled(self.net.weights, seed))

    def train_steps(self, steps):
        for _ in range(steps):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.net(self.x, training=True) - 0.5) ** 2)
            params = self.net.trainable_weights
            for v, g in zip(params, tape.gradient(loss, [p.value for p in params])):
                v.assign(v - 0.05 * tf.convert_to_tensor(g))

    def save(self, path):
        other = keras.Model.from_config(self.net.get_config())  # without an optimizer
        other.set_weights(self.net.get_weights())
        other.save(path)

    def load(self, path):
        keras.backend.set_floatx(self.dtype)
        self.net.set_weights(keras.saving.load_model(path, compile=False).get_weights())

    def run(self):
        return every(np.asarray, self.net(self.x, training=False))

    def leaves(self):
        return {w.path: np.asarray(w) for w in self.net.weights}

    def cast(self, dtype):
        weights = self.net.get_weights()
        other = Net(self.model, dtype)
        other.net.set_weights(weights)
        return other


def bits(path):
    out = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            a = item[()]
            out[name] = (str(a.dtype), a.shape, a.tobytes())
    with zipfile.ZipFile(path) as z, h5py.File(io.BytesIO(z.read("model.weights.h5"))) as f:
        f.visititems(visit)
    return {k: v for k, v in out.items() if "seed_generator" not in k}
