"""Proves tests/lib/layouts.py: each formula against both real frameworks, in float64.

Every layer kind is built with torch, its tensors mapped by the formulas, and the Flax
module run on them; the outputs must agree to 1e-10. A formula deliberately spoiled
(no flip, no transpose, rows left in C,H,W order) must not.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

import layouts
from common import Failure, need
from nets import TWINS, randomise

KW = {"param_dtype": jnp.float64, "dtype": jnp.float64}


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def sd_of(module, prefix="m"):
    return {f"{prefix}.{k}": v.detach().numpy() for k, v in module.state_dict().items()}


def agree(module, flax_module, layer, x, y, forward=None, spoil=None):
    module = randomise(module.double(), 3)
    with torch.no_grad():
        want = (forward or (lambda m, t: m(t)))(module, torch.from_numpy(x)).numpy()
    flat = layouts.to_flax([dict(layer, torch="m", flax=())], sd_of(module))
    if spoil:
        flat = spoil(flat)
    got = np.asarray(flax_module.apply(layouts.nest(flat), jnp.asarray(y)))
    if got.ndim > 2 and layer["kind"] not in ("attention", "layernorm", "embedding", "linear"):
        got = np.moveaxis(got, -1, 1)
    return got.shape == want.shape and np.allclose(got, want, rtol=1e-10, atol=1e-12)


def cases(rng):
    x2 = rng.normal(size=(3, 4))
    yield "linear", torch.nn.Linear(4, 4), nn.Dense(4, **KW), {"kind": "linear"}, x2, x2
    for nd, conv, shape in ((1, torch.nn.Conv1d, (7,)), (2, torch.nn.Conv2d, (5, 7)),
                            (3, torch.nn.Conv3d, (4, 5, 6))):
        x = rng.normal(size=(2, 4) + shape)
        for groups in (1, 2, 4):
            k = tuple(range(2, 2 + nd))
            yield (f"conv{nd}d groups {groups}", conv(4, 8, k, groups=groups),
                   nn.Conv(8, k, padding="VALID", feature_group_count=groups, **KW),
                   {"kind": "conv"}, x, channels_last(x))
    for nd, conv, shape in ((1, torch.nn.ConvTranspose1d, (7,)),
                            (2, torch.nn.ConvTranspose2d, (5, 7)),
                            (3, torch.nn.ConvTranspose3d, (3, 4, 5))):
        x = rng.normal(size=(2, 4) + shape)
        yield (f"conv_transpose{nd}d", conv(4, 4, 3, stride=2),
               nn.ConvTranspose(4, (3,) * nd, strides=(2,) * nd, padding="VALID", **KW),
               {"kind": "conv_transpose"}, x, channels_last(x))
    x = rng.normal(size=(2, 4, 3, 5))
    yield ("batchnorm", torch.nn.BatchNorm2d(4),
           nn.BatchNorm(use_running_average=True, epsilon=1e-5, **KW),
           {"kind": "batchnorm"}, x, channels_last(x))
    yield ("groupnorm", torch.nn.GroupNorm(2, 4), nn.GroupNorm(2, epsilon=1e-5, **KW),
           {"kind": "groupnorm"}, x, channels_last(x))
    yield ("layernorm", torch.nn.LayerNorm(4), nn.LayerNorm(epsilon=1e-5, **KW),
           {"kind": "layernorm"}, x2, x2)
    ids = rng.integers(0, 5, size=(2, 3))
    yield ("embedding", torch.nn.Embedding(5, 5), nn.Embed(5, 5, **KW),
           {"kind": "embedding"}, ids, ids)


def test_layers():
    rng, n = np.random.default_rng(11), 0
    for name, module, flax_module, layer, x, y in cases(rng):
        need(agree(module, flax_module, layer, x, y), f"{name}: the formula does not hold")
        n += 1
    return f"{n} layers"


def test_attention():
    rng = np.random.default_rng(12)
    x = rng.normal(size=(2, 5, 6))
    need(agree(torch.nn.MultiheadAttention(6, 3, batch_first=True),
               nn.MultiHeadDotProductAttention(3, **KW), {"kind": "attention", "heads": 3}, x, x,
               lambda m, t: m(t, t, t)[0]), "the formula does not hold")


def test_flatten():
    rng = np.random.default_rng(13)
    x = rng.normal(size=(2, 2, 3, 4))
    flat = torch.nn.Linear(24, 5)
    need(agree(flat, nn.Dense(5, **KW), {"kind": "flat_linear", "chw": (2, 3, 4)},
               x, channels_last(x).reshape(2, -1), lambda m, t: m(t.flatten(1))),
         "the formula does not hold")
    need(not agree(flat, nn.Dense(5, **KW), {"kind": "linear"}, x,
                   channels_last(x).reshape(2, -1), lambda m, t: m(t.flatten(1))),
         "a plain transpose passes as well: the check is blind")


def test_not_blind():
    rng = np.random.default_rng(14)
    x = rng.normal(size=(2, 4, 5, 7))
    spoils = {
        "linear": (torch.nn.Linear(4, 4), nn.Dense(4, **KW), rng.normal(size=(3, 4)), None,
                   lambda k: k.T),
        "conv": (torch.nn.Conv2d(4, 4, 3), nn.Conv(4, (3, 3), padding="VALID", **KW), x,
                 channels_last(x), lambda k: k.transpose(1, 0, 2, 3)),
        "conv_transpose": (torch.nn.ConvTranspose2d(4, 4, 3),
                           nn.ConvTranspose(4, (3, 3), padding="VALID", **KW), x,
                           channels_last(x), lambda k: k[::-1, ::-1]),
    }
    for kind, (m, f, a, b, spoil) in spoils.items():
        def wrong(flat, spoil=spoil):
            return {p: spoil(v) if p[-1] == "kernel" else v for p, v in flat.items()}
        need(not agree(m, f, {"kind": kind}, a, a if b is None else b, spoil=wrong),
             f"{kind}: a spoiled kernel passes: the check is blind")


def test_inverses():
    rng = np.random.default_rng(15)
    pairs = [(layouts.linear, layouts.linear_back, (3, 4)),
             (layouts.conv, layouts.conv_back, (2, 3, 4, 5)),
             (layouts.conv, layouts.conv_back, (2, 3, 4)),
             (layouts.conv_transpose, layouts.conv_transpose_back, (2, 3, 4, 5)),
             (lambda w: layouts.flat_linear(w, (2, 3, 4)),
              lambda k: layouts.flat_linear_back(k, (2, 3, 4)), (5, 24))]
    for there, back, shape in pairs:
        a = rng.normal(size=shape)
        need(np.array_equal(back(there(a)), a), f"{there}: no inverse")


def test_twins():
    for name, (torch_net, flax_net, layers, make) in TWINS.items():
        net = randomise(torch_net().double(), 5)
        x, y = make(np.random.default_rng(16))
        sd = {k: v.detach().numpy() for k, v in net.state_dict().items()}
        with torch.no_grad():
            want = net(torch.from_numpy(x)).numpy()
        tree = layouts.nest(layouts.to_flax(layers, sd))
        skeleton = flax_net(jnp.float64).init(jax.random.PRNGKey(0), jnp.asarray(y))
        shapes = jax.tree_util.tree_map(np.shape, skeleton)
        if shapes != jax.tree_util.tree_map(np.shape, tree):
            raise Failure(f"{name}: other tree: {shapes}")
        got = np.asarray(flax_net(jnp.float64).apply(tree, jnp.asarray(y)))
        need(np.allclose(got, want, rtol=1e-10, atol=1e-12), f"{name}: outputs differ")


def run(tally):
    jax.config.update("jax_enable_x64", True)
    for test in (test_layers, test_attention, test_flatten, test_not_blind, test_inverses,
                 test_twins):
        tally.run(test.__name__[5:], test)
