"""Keras 2 (tf-keras) on TensorFlow, saved as a TensorFlow checkpoint of its objects."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from frames.keras_ops import build, filled, ops_of
from frames.models import every

NAME = "tensorflow"
SUFFIX = ""
OPTIONS = ("--format", "tf-checkpoint")
LACKS = ()
tf.get_logger().setLevel("ERROR")


class RMS(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")

    def call(self, x):
        return x / tf.sqrt(tf.reduce_mean(x * x, -1, keepdims=True) + 1e-5) * self.scale


class Plus(keras.layers.Layer):
    def __init__(self, shape, **keys):
        super().__init__(**keys)
        self.shape = tuple(shape)

    def build(self, _):
        self.value = self.add_weight(shape=self.shape, name="value")

    def call(self, x):
        return x + self.value


class Token(keras.layers.Layer):
    def __init__(self, shape, **keys):
        super().__init__(**keys)
        self.shape = tuple(shape)

    def build(self, _):
        self.value = self.add_weight(shape=self.shape, name="value")

    def call(self, x):
        return tf.concat([tf.broadcast_to(self.value, (x.shape[0], 1, x.shape[-1])), x], 1)


def swap(x, a, b):
    order = list(range(len(x.shape)))
    order[a], order[b] = order[b], order[a]
    return tf.transpose(x, order)


def gelu(x):
    """The tanh form; the framework's own rounds its factors to float32."""
    return 0.5 * x * (1.0 + tf.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x)))


Ops = ops_of(keras.layers, {
    "relu": tf.nn.relu, "tanh": tf.tanh, "softmax": tf.nn.softmax, "matmul": tf.matmul,
    "gelu": gelu, "reshape": tf.reshape, "swap": swap,
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
                y = self.net(self.x, training=True)
                loss = tf.reduce_mean((y - 0.5) ** 2)
            grads = tape.gradient(loss, self.net.trainable_variables)
            for v, g in zip(self.net.trainable_variables, grads):
                v.assign_sub(0.05 * tf.convert_to_tensor(g))

    def save(self, path):
        self.net.save_weights(str(path) + "/model", save_format="tf")

    def load(self, path):
        prefix = tf.train.latest_checkpoint(str(path)) or str(path) + "/model"
        self.net.load_weights(prefix).assert_existing_objects_matched()

    def run(self):
        return every(np.asarray, self.net(self.x, training=False))

    def leaves(self):
        return {w.name.removesuffix(":0"): w.numpy() for w in self.net.weights}

    def cast(self, dtype):
        weights = self.net.get_weights()
        other = Net(self.model, dtype)
        other.net.set_weights(weights)
        return other


def bits(path):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(path)) or str(path) + "/model")
    out = {}
    for name in reader.get_variable_to_shape_map():
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH" and "save_counter" not in name:
            a = reader.get_tensor(name)
            out[name] = (str(a.dtype), a.shape, a.tobytes())
    return out
