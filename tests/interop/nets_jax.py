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


def hk_cnn(x, training=False):
    x = hk.Conv2D(8, 3, padding=(1, 1), name="conv1")(x)
    x = jax.nn.relu(hk_norm("bn1")(x, training))
    x = hk.Conv2D(6, (3, 2), padding="VALID", feature_group_count=2, with_bias=False,
                  name="conv2")(x)
    x = jax.nn.relu(hk_norm("bn2")(x, training))
    x = hk.Linear(10, name="fc1")(x.reshape(x.shape[0], -1))
    return hk.Linear(4, name="fc2")(jnp.tanh(x))


def hk_mlp(x, training=False):
    x = hk.LayerNorm(-1, True, True, name="ln1")(hk.Linear(6, name="fc1")(x))
    return hk.Linear(5, name="fc2")(jax.nn.relu(x))


def hk_block(ids, training=False, dtype=jnp.float32):
    table = hk.Embed(11, 12, name="embed", w_init=lambda s, d: jnp.zeros(s, dtype))
    x = table(ids)
    y = hk.LayerNorm(-1, True, True, name="ln1")(x)
    zero = hk.initializers.Constant(0)
    x = x + hk.MultiHeadAttention(3, 4, w_init=zero, name="attn")(y, y, y)
    y = hk.LayerNorm(-1, True, True, name="ln2")(x)
    return x + hk.Linear(12, name="down")(jnp.tanh(hk.Linear(20, name="up")(y)))


def hk_unet(x, training=False):
    a = jnp.tanh(hk.Conv2D(4, 3, padding=(1, 1), name="conv1")(x))
    b = hk.Conv2D(6, 2, stride=2, padding="VALID", name="down")(a)
    b = jnp.tanh(hk.GroupNorm(2, name="gn1")(b))
    c = hk.Conv2DTranspose(4, (2, 3), stride=2, padding="VALID", name="deconv1")(b)
    d = hk.Conv2DTranspose(4, 3, padding="VALID", with_bias=False, name="deconv2")(c)
    return hk.Conv2D(2, 1, name="conv2")(jnp.concatenate([a, d[:, 1:-1, 1:-1]], -1))


def hk_separable(x, training=False):
    x = hk.Conv1D(8, 3, padding="VALID", feature_group_count=4, name="conv1")(x)
    x = hk.Conv1D(5, 1, padding="VALID", name="conv2")(jax.nn.relu(hk_norm("bn1")(x, training)))
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
# axes of what each batch norm reads
AXES = {"cnn": {"bn1": 4, "bn2": 4}, "separable": {"bn1": 3}}


# ---- Equinox: one sample, channels first ----

class EqxCNN(eqx.Module):
    conv1: eqx.nn.Conv2d
    bn1: eqx.nn.BatchNorm
    conv2: eqx.nn.Conv2d
    bn2: eqx.nn.BatchNorm
    fc1: eqx.nn.Linear
    fc2: eqx.nn.Linear

    def __init__(self, dtype, mode, key):
        kw = {"dtype": dtype, "key": key}
        bn = {"axis_name": "batch", "mode": mode, "dtype": dtype, "inference": True}
        self.conv1 = eqx.nn.Conv2d(3, 8, 3, padding=1, **kw)
        self.bn1 = eqx.nn.BatchNorm(8, **bn)
        self.conv2 = eqx.nn.Conv2d(8, 6, (3, 2), groups=2, use_bias=False, **kw)
        self.bn2 = eqx.nn.BatchNorm(6, **bn)
        self.fc1 = eqx.nn.Linear(6 * 3 * 6, 10, **kw)
        self.fc2 = eqx.nn.Linear(10, 4, **kw)

    def __call__(self, x, state):
        x, state = self.bn1(self.conv1(x), state)
        x, state = self.bn2(self.conv2(jax.nn.relu(x)), state)
        return self.fc2(jnp.tanh(self.fc1(jax.nn.relu(x).reshape(-1)))), state


class EqxMLP(eqx.Module):
    fc1: eqx.nn.Linear
    ln1: eqx.nn.LayerNorm
    fc2: eqx.nn.Linear

    def __init__(self, dtype, mode, key):
        self.fc1 = eqx.nn.Linear(6, 6, dtype=dtype, key=key)
        self.ln1 = eqx.nn.LayerNorm(6, dtype=dtype)
        self.fc2 = eqx.nn.Linear(6, 5, dtype=dtype, key=key)

    def __call__(self, x, state):
        return self.fc2(jax.nn.relu(self.ln1(self.fc1(x)))), state


class EqxBlock(eqx.Module):
    embed: eqx.nn.Embedding
    ln1: eqx.nn.LayerNorm
    attn: eqx.nn.MultiheadAttention
    ln2: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, dtype, mode, key):
        kw = {"dtype": dtype, "key": key}
        self.embed = eqx.nn.Embedding(11, 12, **kw)
        self.ln1 = eqx.nn.LayerNorm(12, dtype=dtype)
        self.attn = eqx.nn.MultiheadAttention(
            3, 12, use_query_bias=True, use_key_bias=True, use_value_bias=True,
            use_output_bias=True, **kw)
        self.ln2 = eqx.nn.LayerNorm(12, dtype=dtype)
        self.up = eqx.nn.Linear(12, 20, **kw)
        self.down = eqx.nn.Linear(20, 12, **kw)

    def __call__(self, ids, state):
        x = jax.vmap(self.embed)(ids)
        y = jax.vmap(self.ln1)(x)
        x = x + self.attn(y, y, y)
        y = jax.vmap(self.up)(jax.vmap(self.ln2)(x))
        return x + jax.vmap(self.down)(jnp.tanh(y)), state


class EqxUNet(eqx.Module):
    conv1: eqx.nn.Conv2d
    down: eqx.nn.Conv2d
    gn1: eqx.nn.GroupNorm
    deconv1: eqx.nn.ConvTranspose2d
    deconv2: eqx.nn.ConvTranspose2d
    conv2: eqx.nn.Conv2d

    def __init__(self, dtype, mode, key):
        kw = {"dtype": dtype, "key": key}
        self.conv1 = eqx.nn.Conv2d(3, 4, 3, padding=1, **kw)
        self.down = eqx.nn.Conv2d(4, 6, 2, stride=2, **kw)
        self.gn1 = eqx.nn.GroupNorm(2, 6, dtype=dtype)
        self.deconv1 = eqx.nn.ConvTranspose2d(6, 4, (2, 3), stride=2, **kw)
        self.deconv2 = eqx.nn.ConvTranspose2d(4, 4, 3, use_bias=False, **kw)
        self.conv2 = eqx.nn.Conv2d(8, 2, 1, **kw)

    def __call__(self, x, state):
        a = jnp.tanh(self.conv1(x))
        d = self.deconv2(self.deconv1(jnp.tanh(self.gn1(self.down(a)))))
        return self.conv2(jnp.concatenate([a, d[:, 1:-1, 1:-1]])), state


class EqxSeparable(eqx.Module):
    conv1: eqx.nn.Conv1d
    bn1: eqx.nn.BatchNorm
    conv2: eqx.nn.Conv1d
    conv3: eqx.nn.Conv3d

    def __init__(self, dtype, mode, key):
        kw = {"dtype": dtype, "key": key}
        self.conv1 = eqx.nn.Conv1d(4, 8, 3, groups=4, **kw)
        self.bn1 = eqx.nn.BatchNorm(8, axis_name="batch", mode=mode, dtype=dtype, inference=True)
        self.conv2 = eqx.nn.Conv1d(8, 5, 1, **kw)
        self.conv3 = eqx.nn.Conv3d(5, 5, (1, 2, 1), groups=5, **kw)

    def __call__(self, x, state):
        x, state = self.bn1(self.conv1(x), state)
        return self.conv3(self.conv2(jax.nn.relu(x))[:, None, :, None]), state


EQUINOX = {"cnn": EqxCNN, "mlp": EqxMLP, "block": EqxBlock, "unet": EqxUNet,
           "separable": EqxSeparable}
