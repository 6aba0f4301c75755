"""Models by other hands than the libraries': the original ConvNeXt's names, Vision Transformers
in Flax in three spellings (the attention module, one dense layer for q, k and v, nn.scan), towers
of blocks stacked along any axis, GPT in Haiku. Each computes what the library's model computes, and none was named after it.
"""

import functools

import equinox as eqx
import flax.linen as fnn
import haiku as hk
import jax
import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn


# ---- ConvNeXt: github.com/facebookresearch/ConvNeXt, models/convnext.py, names as there ----

class ChannelsFirstNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = nn.functional.layer_norm(x, (x.shape[-1],), self.weight, self.bias, 1e-6)
        return x.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.pwconv2(nn.functional.gelu(self.pwconv1(self.norm(y))))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class OriginalConvNeXt(nn.Module):
    def __init__(self, classes, depths, dims):
        super().__init__()
        self.downsample_layers = nn.ModuleList([nn.Sequential(
            nn.Conv2d(3, dims[0], 4, 4), ChannelsFirstNorm(dims[0]))])
        for i in range(3):
            self.downsample_layers.append(nn.Sequential(
                ChannelsFirstNorm(dims[i]), nn.Conv2d(dims[i], dims[i + 1], 2, 2)))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(dims[i]) for _ in range(depths[i]))) for i in range(4))
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.head = nn.Linear(dims[-1], classes)

    def forward(self, x):
        for down, stage in zip(self.downsample_layers, self.stages):
            x = stage(down(x))
        return self.head(self.norm(x.mean([-2, -1])))


# ---- Vision Transformer in Flax ----

class Feed(fnn.Module):
    wide: int

    @fnn.compact
    def __call__(self, x):
        return fnn.Dense(x.shape[-1])(fnn.gelu(fnn.Dense(self.wide)(x), approximate=False))


class JoinedAttention(fnn.Module):
    """query, key and value by one dense layer"""
    heads: int
    causal: bool = False

    @fnn.compact
    def __call__(self, x):
        n, t, w = x.shape
        q, k, v = (y.reshape(n, t, self.heads, -1) for y in
                   jnp.split(fnn.Dense(3 * w, name="qkv")(x), 3, -1))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / jnp.sqrt(q.shape[-1])
        y = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v)
        return fnn.Dense(w, name="proj")(y.reshape(n, t, w))


class EncoderBlock(fnn.Module):
    heads: int
    wide: int
    joined: bool = False

    @fnn.compact
    def __call__(self, x, _=None):
        y = fnn.LayerNorm(epsilon=1e-6, name="norm1")(x)
        if self.joined:
            y = JoinedAttention(self.heads, name="attn")(y)
        else:
            y = fnn.MultiHeadDotProductAttention(self.heads, name="attn")(y, y)
        x = x + y
        x = x + Feed(self.wide, name="ff")(fnn.LayerNorm(epsilon=1e-6, name="norm2")(x))
        return x, None


class FlaxViT(fnn.Module):
    """how: "attention", "joined" or "scan" and the axis of the blocks """
    how: str
    classes: int
    patch: int
    width: int
    wide: int
    heads: int
    depth: int

    @fnn.compact
    def __call__(self, x):  # [N,H,W,3]
        x = fnn.Conv(self.width, (self.patch,) * 2, (self.patch,) * 2, name="patchify")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        cls = self.param("cls", fnn.initializers.normal(1.0), (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(cls, (x.shape[0], 1, 1)), x], 1)
        x = x + self.param("pos", fnn.initializers.normal(1.0), (1, x.shape[1], self.width))
        make = functools.partial(EncoderBlock, self.heads, self.wide, self.how == "joined")
        if self.how.startswith("scan"):
            many = fnn.scan(EncoderBlock, variable_axes={"params": int(self.how[5:])},
                            length=self.depth, split_rngs={"params": True})
            x, _ = many(self.heads, self.wide, name="trunk")(x, None)
        else:
            for i in range(self.depth):
                x, _ = make(name=f"block_{i}")(x)
        x = fnn.LayerNorm(epsilon=1e-6, name="norm_out")(x)
        return fnn.Dense(self.classes, name="classify")(x[:, 0])


# ---- equal blocks, one after the other: by hand in PyTorch, stacked in Flax and NNX ----

class TorchTower(nn.Module):
    def __init__(self, width, wide, depth):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({
            "norm": nn.LayerNorm(width, eps=1e-6), "up": nn.Linear(width, wide),
            "down": nn.Linear(wide, width)}) for _ in range(depth))
        self.last = nn.Linear(width, 3)

    def forward(self, x):
        for b in self.blocks:
            x = x + b["down"](torch.relu(b["up"](b["norm"](x))))
        return self.last(x)


class TowerBlock(fnn.Module):
    wide: int

    @fnn.compact
    def __call__(self, x, _=None):
        y = fnn.Dense(self.wide, name="up")(fnn.LayerNorm(epsilon=1e-6, name="norm")(x))
        return x + fnn.Dense(x.shape[-1], name="down")(fnn.relu(y)), None


class FlaxTower(fnn.Module):
    wide: int
    depth: int
    axis: int

    @fnn.compact
    def __call__(self, x):
        many = fnn.scan(TowerBlock, variable_axes={"params": self.axis}, length=self.depth,
                        split_rngs={"params": True})
        return fnn.Dense(3, name="last")(many(self.wide, name="tower")(x, None)[0])


class NnxBlock(nnx.Module):
    def __init__(self, width, wide, rngs):
        self.norm = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.up = nnx.Linear(width, wide, rngs=rngs)
        self.down = nnx.Linear(wide, width, rngs=rngs)

    def __call__(self, x):
        return x + self.down(nnx.relu(self.up(self.norm(x))))


class NnxTower(nnx.Module):
    def __init__(self, width, wide, depth, axis, rngs):
        self.axes = nnx.StateAxes({nnx.Param: axis, ...: 0})

        @nnx.split_rngs(splits=depth)
        @nnx.vmap(in_axes=(nnx.StateAxes({...: 0}),), out_axes=self.axes)
        def make(rngs):
            return NnxBlock(width, wide, rngs)
        self.blocks = make(rngs)
        self.last = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, self.axes), out_axes=nnx.Carry)
        def go(x, block):
            return block(x)
        return self.last(go(x, self.blocks))


# ---- GPT in Haiku: one linear for q, k and v, the position table a parameter of its own ----

class HaikuBlock(hk.Module):
    def __init__(self, heads, name):
        super().__init__(name=name)
        self.heads = heads

    def __call__(self, x):
        t, w = x.shape[-2:]
        y = hk.LayerNorm(-1, True, True, name="ln1")(x)
        q, k, v = (z.reshape(-1, t, self.heads, w // self.heads) for z in
                   jnp.split(hk.Linear(3 * w, name="attn_in")(y), 3, -1))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / jnp.sqrt(w // self.heads)
        scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -1e30)
        y = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v).reshape(x.shape)
        x = x + hk.Linear(w, name="attn_out")(y)
        y = hk.Linear(4 * w, name="widen")(hk.LayerNorm(-1, True, True, name="ln2")(x))
        return x + hk.Linear(w, name="narrow")(jax.nn.gelu(y, approximate=True))


def haiku_gpt(vocabulary, context, width, heads, depth):
    def run(ids):
        table = hk.Embed(vocabulary, width, name="words")
        x = table(ids) + hk.get_parameter("places", (context, width),
                                          init=hk.initializers.RandomNormal())[:ids.shape[1]]
        for i in range(depth):
            x = HaikuBlock(heads, f"block{i}")(x)
        return hk.LayerNorm(-1, True, True, name="ln_out")(x) @ table.embeddings.T
    return hk.without_apply_rng(hk.transform(run))


# ---- MobileNetV2 in Equinox, as one would write it from the paper ----

class ConvNorm(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm

    def __init__(self, i, o, size, stride=1, groups=1, *, key):
        pad = ((0, 1), (0, 1)) if stride == 2 else (size - 1) // 2
        self.conv = eqx.nn.Conv2d(i, o, size, stride, pad, groups=groups, use_bias=False, key=key)
        self.norm = eqx.nn.BatchNorm(o, "batch", eps=1e-3, momentum=0.999, mode="ema")

    def __call__(self, x, state):
        return self.norm(self.conv(x), state)


class Inverted(eqx.Module):
    expand: ConvNorm | None
    depthwise: ConvNorm
    project: ConvNorm
    residual: bool = eqx.field(static=True)

    def __init__(self, i, o, stride, factor, *, key):
        keys = jax.random.split(key, 3)
        wide = i * factor
        self.expand = ConvNorm(i, wide, 1, key=keys[0]) if factor > 1 else None
        self.depthwise = ConvNorm(wide, wide, 3, stride, wide, key=keys[1])
        self.project = ConvNorm(wide, o, 1, key=keys[2])
        self.residual = i == o and stride == 1

    def __call__(self, x, state):
        y = x
        if self.expand is not None:
            y, state = self.expand(y, state)
            y = jax.nn.relu6(y)
        y, state = self.depthwise(y, state)
        y, state = self.project(jax.nn.relu6(y), state)
        return x + y if self.residual else y, state


class MobileNet(eqx.Module):
    stem: ConvNorm
    trunk: list
    last: ConvNorm
    classify: eqx.nn.Linear

    def __init__(self, classes, *, key):
        keys = iter(jax.random.split(key, 32))
        self.stem = ConvNorm(3, 16, 3, 2, key=next(keys))
        self.trunk, i = [], 16
        for factor, o, n, stride in ((1, 8, 1, 1), (6, 8, 2, 2), (6, 16, 3, 2), (6, 24, 4, 2),
                                     (6, 32, 3, 1), (6, 56, 3, 2), (6, 112, 1, 1)):
            for k in range(n):
                self.trunk.append(Inverted(i, o, stride if k == 0 else 1, factor, key=next(keys)))
                i = o
        self.last = ConvNorm(i, 1280, 1, key=next(keys))
        self.classify = eqx.nn.Linear(1280, classes, key=next(keys))

    def __call__(self, x, state):  # [3,H,W]
        x, state = self.stem(x, state)
        x = jax.nn.relu6(x)
        for block in self.trunk:
            x, state = block(x, state)
        x, state = self.last(x, state)
        return self.classify(jax.nn.relu6(x).mean((1, 2))), state
