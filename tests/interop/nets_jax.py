"""The twins of nets.py, and two more, in Haiku and Equinox; module names alike."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import torch

from nets import BLOCK_LAYERS, CNN_LAYERS, MLP_LAYERS, FlaxBlock, FlaxCNN, FlaxMLP, TorchBlock, \
    TorchCNN, TorchMLP, image, tokens, vectors


class TorchUNet(torch.nn.Module):
    """Down, up by a transposed convolution, and across."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.down = torch.nn.Conv2d(4, 6, 2, stride=2)
        self.gn1 = torch.nn.GroupNorm(2, 6)
        self.deconv1 = torch.nn.ConvTranspose2d(6, 4, (2, 3), stride=(2, 2))
        self.deconv2 = torch.nn.ConvTranspose2d(4, 4, 3, bias=False)
        self.conv2 = torch.nn.Conv2d(8, 2, 1)

    def forward(self, x):  # [N,3,4,7]
        a = torch.tanh(self.conv1(x))
        b = torch.tanh(self.gn1(self.down(a)))
        c = self.deconv1(b)  # [N,4,4,7]
        d = self.deconv2(c)[:, :, 1:-1, 1:-1]
        return self.conv2(torch.cat([a, d], 1))


class FlaxUNet(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x):
        kw = {"param_dtype": self.dtype, "dtype": self.dtype}
        a = jnp.tanh(nn.Conv(4, (3, 3), padding=1, name="conv1", **kw)(x))
        b = nn.Conv(6, (2, 2), strides=2, padding="VALID", name="down", **kw)(a)
        b = jnp.tanh(nn.GroupNorm(2, epsilon=1e-5, name="gn1", **kw)(b))
        c = nn.ConvTranspose(4, (2, 3), strides=(2, 2), padding="VALID", name="deconv1", **kw)(b)
        d = nn.ConvTranspose(4, (3, 3), padding="VALID", use_bias=False, name="deconv2", **kw)(c)
        return nn.Conv(2, (1, 1), name="conv2", **kw)(
            jnp.concatenate([a, d[:, 1:-1, 1:-1]], -1))


UNET_LAYERS = [
    {"kind": "conv", "torch": "conv1", "flax": ("conv1",)},
    {"kind": "conv", "torch": "down", "flax": ("down",)},
    {"kind": "groupnorm", "torch": "gn1", "flax": ("gn1",)},
    {"kind": "conv_transpose", "torch": "deconv1", "flax": ("deconv1",)},
    {"kind": "conv_transpose", "torch": "deconv2", "flax": ("deconv2",)},
    {"kind": "conv", "torch": "conv2", "flax": ("conv2",)},
]


class TorchSeparable(torch.nn.Module):
    """Depthwise and pointwise over sequences and volumes."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv1d(4, 8, 3, groups=4)
        self.bn1 = torch.nn.BatchNorm1d(8)
        self.conv2 = torch.nn.Conv1d(8, 5, 1)
        self.conv3 = torch.nn.Conv3d(5, 5, (1, 2, 1), groups=5)

    def forward(self, x):  # [N,4,8] -> [N,5,6] -> [N,5,1,6,1]
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.conv2(x)
        return self.conv3(x[:, :, None, :, None])


class FlaxSeparable(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x):
        kw = {"param_dtype": self.dtype, "dtype": self.dtype, "padding": "VALID"}
        x = nn.Conv(8, (3,), feature_group_count=4, name="conv1", **kw)(x)
        x = nn.BatchNorm(use_running_average=True, epsilon=1e-5, param_dtype=self.dtype,
                         dtype=self.dtype, name="bn1")(x)
        x = nn.Conv(5, (1,), name="conv2", **kw)(nn.relu(x))
        return nn.Conv(5, (1, 2, 1), feature_group_count=5, name="conv3", **kw)(
            x[:, None, :, None, :])


SEPARABLE_LAYERS = [
    {"kind": "conv", "torch": "conv1", "flax": ("conv1",)},
    {"kind": "batchnorm", "torch": "bn1", "flax": ("bn1",)},
    {"kind": "conv", "torch": "conv2", "flax": ("conv2",)},
    {"kind": "conv", "torch": "conv3", "flax": ("conv3",)},
]


def sequence(rng):
    x = rng.normal(size=(2, 4, 8))
    return x, x.transpose(0, 2, 1)


def image47(rng):
    x = rng.normal(size=(2, 3, 4, 7))
    return x, x.transpose(0, 2, 3, 1)


# ---- Haiku ----

def hk_norm(name):
    return hk.BatchNorm(True, True, 0.9, name=name)


def hk_cnn(x):
    x = hk.Conv2D(8, 3, padding=(1, 1), name="conv1")(x)
    x = jax.nn.relu(hk_norm("bn1")(x, False))
    x = hk.Conv2D(6, (3, 2), padding="VALID", feature_group_count=2, with_bias=False,
                  name="conv2")(x)
    x = jax.nn.relu(hk_norm("bn2")(x, False))
    x = hk.Linear(10, name="fc1")(x.reshape(x.shape[0], -1))
    return hk.Linear(4, name="fc2")(jnp.tanh(x))


def hk_mlp(x):
    x = hk.LayerNorm(-1, True, True, name="ln1")(hk.Linear(6, name="fc1")(x))
    return hk.Linear(5, name="fc2")(jax.nn.relu(x))


def hk_block(ids, dtype):
    table = hk.Embed(11, 12, name="embed", w_init=lambda s, d: jnp.zeros(s, dtype))
    x = table(ids)
    y = hk.LayerNorm(-1, True, True, name="ln1")(x)
    zero = hk.initializers.Constant(0)
    x = x + hk.MultiHeadAttention(3, 4, w_init=zero, name="attn")(y, y, y)
    y = hk.LayerNorm(-1, True, True, name="ln2")(x)
    return x + hk.Linear(12, name="down")(jnp.tanh(hk.Linear(20, name="up")(y)))


def hk_unet(x):
    a = jnp.tanh(hk.Conv2D(4, 3, padding=(1, 1), name="conv1")(x))
    b = hk.Conv2D(6, 2, stride=2, padding="VALID", name="down")(a)
    b = jnp.tanh(hk.GroupNorm(2, name="gn1")(b))
    c = hk.Conv2DTranspose(4, (2, 3), stride=2, padding="VALID", name="deconv1")(b)
    d = hk.Conv2DTranspose(4, 3, padding="VALID", with_bias=False, name="deconv2")(c)
    return hk.Conv2D(2, 1, name="conv2")(jnp.concatenate([a, d[:, 1:-1, 1:-1]], -1))


def hk_separable(x):
    x = hk.Conv1D(8, 3, padding="VALID", feature_group_count=4, name="conv1")(x)
    x = hk.Conv1D(5, 1, padding="VALID", name="conv2")(jax.nn.relu(hk_norm("bn1")(x, False)))
    return hk.Conv3D(5, (1, 2, 1), padding="VALID", feature_group_count=5, name="conv3")(
        x[:, None, :, None, :])


# name: torch, flax, haiku, layers, input of torch and of the channels-last frameworks
TWINS = {
    "cnn": (TorchCNN, FlaxCNN, hk_cnn, CNN_LAYERS, image),
    "mlp": (TorchMLP, FlaxMLP, hk_mlp, MLP_LAYERS, vectors),
    "block": (TorchBlock, FlaxBlock, hk_block, BLOCK_LAYERS, tokens),
    "unet": (TorchUNet, FlaxUNet, hk_unet, UNET_LAYERS, image47),
    "separable": (TorchSeparable, FlaxSeparable, hk_separable, SEPARABLE_LAYERS, sequence),
}
