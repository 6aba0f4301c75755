"""The twins of nets.py in Keras, 2 and 3 alike, and two more networks: transposed convolutions, and
depthwise and separable ones."""

import numpy as np
import torch

import nets


def cnn(keras, dtype):
    layers, kw = keras.layers, {"dtype": dtype}
    x = first = keras.Input((5, 7, 3), **kw)
    x = layers.Conv2D(8, 3, padding="same", name="conv1", **kw)(x)
    x = layers.Activation("relu", **kw)(layers.BatchNormalization(epsilon=1e-5, name="bn1", **kw)(x))
    x = layers.Conv2D(6, (3, 2), groups=2, use_bias=False, name="conv2", **kw)(x)
    x = layers.Activation("relu", **kw)(layers.BatchNormalization(epsilon=1e-5, name="bn2", **kw)(x))
    x = layers.Dropout(0.1, **kw)(layers.Flatten(**kw)(x))
    x = layers.Dense(10, activation="tanh", name="fc1", **kw)(x)
    return keras.Model(first, layers.Dense(4, name="fc2", **kw)(x))


def mlp(keras, dtype):
    layers, kw = keras.layers, {"dtype": dtype}
    x = first = keras.Input((6,), **kw)
    x = layers.LayerNormalization(epsilon=1e-5, name="ln1", **kw)(
        layers.Dense(6, name="fc1", **kw)(x))
    x = layers.Activation("relu", **kw)(x)
    return keras.Model(first, layers.Dense(5, name="fc2", **kw)(x))


def block(keras, dtype):
    layers, kw = keras.layers, {"dtype": dtype}
    first = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 12, name="embed", **kw)(first)
    y = layers.LayerNormalization(epsilon=1e-5, name="ln1", **kw)(x)
    x = layers.Add(**kw)([x, layers.MultiHeadAttention(3, 4, name="attn", **kw)(y, y)])
    y = layers.LayerNormalization(epsilon=1e-5, name="ln2", **kw)(x)
    y = layers.Dense(20, activation="tanh", name="up", **kw)(y)
    return keras.Model(first, layers.Add(**kw)([x, layers.Dense(12, name="down", **kw)(y)]))


class TorchUp(torch.nn.Module):
    """Down and up again; a nested part, a norm over groups."""

    def __init__(self):
        super().__init__()
        self.down = torch.nn.Conv2d(3, 4, 2, stride=2)
        self.inner = torch.nn.Sequential()
        self.inner.mid = torch.nn.Conv2d(4, 6, 1)
        self.inner.bn = torch.nn.BatchNorm2d(6)
        self.gn = torch.nn.GroupNorm(2, 6)
        self.deconv1 = torch.nn.ConvTranspose2d(6, 4, (2, 3), stride=2)
        self.deconv2 = torch.nn.ConvTranspose2d(4, 4, 3, bias=False)

    def forward(self, x):  # x [N,3,6,8]
        x = torch.relu(self.gn(self.inner(self.down(x))))
        return self.deconv2(torch.tanh(self.deconv1(x)))


def up(keras, dtype):
    layers, kw = keras.layers, {"dtype": dtype}
    first = keras.Input((6, 8, 3), **kw)
    inner = keras.Sequential([keras.Input((3, 4, 4), **kw), layers.Conv2D(6, 1, name="mid", **kw),
                              layers.BatchNormalization(epsilon=1e-5, name="bn", **kw)],
                             name="inner")
    x = inner(layers.Conv2D(4, 2, strides=2, name="down", **kw)(first))
    x = layers.GroupNormalization(2, epsilon=1e-5, name="gn", **kw)(x)
    x = layers.Conv2DTranspose(4, (2, 3), strides=2, name="deconv1", **kw)(
        layers.Activation("relu", **kw)(x))
    x = layers.Conv2DTranspose(4, 3, use_bias=False, name="deconv2", **kw)(
        layers.Activation("tanh", **kw)(x))
    return keras.Model(first, x)


class TorchLight(torch.nn.Module):
    """Depthwise with a multiplier, separable, and convolutions over one axis and over three."""

    def __init__(self):
        super().__init__()
        self.dw = torch.nn.Conv2d(3, 6, 3, groups=3)
        self.bn = torch.nn.BatchNorm2d(6)
        self.sep = torch.nn.Module()
        self.sep.depthwise = torch.nn.Conv2d(6, 6, 2, groups=6, bias=False)
        self.sep.pointwise = torch.nn.Conv2d(6, 5, 1)
        self.row_conv = torch.nn.Conv1d(15, 4, 2)
        self.cube = torch.nn.Conv3d(1, 3, (2, 1, 2))

    def forward(self, x):  # x [N,3,6,8]
        x = torch.relu(self.bn(self.dw(x)))
        x = torch.tanh(self.sep.pointwise(self.sep.depthwise(x)))  # [N,5,3,5]
        n = x.shape[0]
        y = self.row_conv(x.permute(0, 2, 1, 3).reshape(n, 15, 5))  # rows, then channels
        z = self.cube(x[:, None])  # [N,1,5,3,5]
        return torch.cat([y.flatten(1), z.flatten(1)], 1)


def light(keras, dtype):
    layers, kw = keras.layers, {"dtype": dtype}
    first = keras.Input((6, 8, 3), **kw)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="dw", **kw)(first)
    x = layers.Activation("relu", **kw)(layers.BatchNormalization(epsilon=1e-5, name="bn", **kw)(x))
    x = layers.SeparableConv2D(5, 2, activation="tanh", name="sep", **kw)(x)  # [N,3,5,5]
    y = layers.Reshape((5, 15), **kw)(layers.Permute((2, 1, 3), **kw)(x))
    y = layers.Conv1D(4, 2, name="row_conv", **kw)(y)
    y = layers.Flatten(**kw)(layers.Permute((2, 1), **kw)(y))
    z = layers.Reshape((5, 3, 5, 1), **kw)(layers.Permute((3, 1, 2), **kw)(x))
    z = layers.Conv3D(3, (2, 1, 2), name="cube", **kw)(z)
    z = layers.Flatten(**kw)(layers.Permute((4, 1, 2, 3), **kw)(z))
    return keras.Model(first, layers.Concatenate(**kw)([y, z]))


def image(rng):
    x = rng.normal(size=(2, 3, 6, 8))
    return x, x.transpose(0, 2, 3, 1)


def said(layers):
    """Layers of nets.py, with the Keras layer called as the torch module."""
    return [dict(x, keras=x["torch"]) for x in layers]


def named(**kinds):
    return [dict(torch=n, keras=n, **k) for n, k in kinds.items()]


UP = named(down={"kind": "conv"}, gn={"kind": "groupnorm"}, deconv1={"kind": "conv_transpose"},
           deconv2={"kind": "conv_transpose"})
UP += [{"kind": "conv", "torch": "inner.mid", "keras": "inner/mid"},
       {"kind": "batchnorm", "torch": "inner.bn", "keras": "inner/bn"}]
LIGHT = named(dw={"kind": "depthwise", "channels": 3}, bn={"kind": "batchnorm"},
              row_conv={"kind": "conv"}, cube={"kind": "conv"})
LIGHT += [{"kind": "separable", "torch": "sep.depthwise", "torch2": "sep.pointwise",
           "channels": 6, "keras": "sep"}]
CNN, MLP, BLOCK = (nets.TWINS[n] for n in ("cnn", "mlp", "block"))
TWINS = {  # name: torch class, Keras function, layers, input of both, channels of flattened maps
    "cnn": (CNN[0], cnn, said(CNN[2]), CNN[3], {"fc1": 6}),
    "mlp": (MLP[0], mlp, said(MLP[2]), MLP[3], {}),
    "block": (BLOCK[0], block, said(BLOCK[2]), BLOCK[3], {}),
    "up": (TorchUp, up, UP, image, {}),
    "light": (TorchLight, light, LIGHT, image, {}),
}
