"""Twins: the same small networks in PyTorch and in Flax Linen, module names alike."""

import flax.linen as nn
import jax.numpy as jnp
import torch


class TorchCNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.conv2 = torch.nn.Conv2d(8, 6, (3, 2), groups=2, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(6)
        self.fc1 = torch.nn.Linear(6 * 3 * 6, 10)
        self.fc2 = torch.nn.Linear(10, 4)

    def forward(self, x):  # x [N,3,5,7]
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc2(torch.tanh(self.fc1(x.flatten(1))))


class FlaxCNN(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x):  # x [N,5,7,3]
        kw = {"param_dtype": self.dtype, "dtype": self.dtype}
        bn = {"use_running_average": True, "epsilon": 1e-5, **kw}
        x = nn.Conv(8, (3, 3), padding=1, name="conv1", **kw)(x)
        x = nn.relu(nn.BatchNorm(name="bn1", **bn)(x))
        x = nn.Conv(6, (3, 2), padding="VALID", feature_group_count=2, use_bias=False,
                    name="conv2", **kw)(x)
        x = nn.relu(nn.BatchNorm(name="bn2", **bn)(x))
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(4, name="fc2", **kw)(jnp.tanh(nn.Dense(10, name="fc1", **kw)(x)))


CNN_LAYERS = [
    {"kind": "conv", "torch": "conv1", "flax": ("conv1",)},
    {"kind": "batchnorm", "torch": "bn1", "flax": ("bn1",)},
    {"kind": "conv", "torch": "conv2", "flax": ("conv2",)},
    {"kind": "batchnorm", "torch": "bn2", "flax": ("bn2",)},
    {"kind": "flat_linear", "torch": "fc1", "flax": ("fc1",), "chw": (6, 3, 6)},
    {"kind": "linear", "torch": "fc2", "flax": ("fc2",)},
]


class TorchMLP(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(6, 6)  # square on purpose
        self.ln1 = torch.nn.LayerNorm(6)
        self.fc2 = torch.nn.Linear(6, 5)

    def forward(self, x):
        return self.fc2(torch.relu(self.ln1(self.fc1(x))))


class FlaxMLP(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x):
        kw = {"param_dtype": self.dtype, "dtype": self.dtype}
        x = nn.Dense(6, name="fc1", **kw)(x)
        x = nn.relu(nn.LayerNorm(epsilon=1e-5, name="ln1", **kw)(x))
        return nn.Dense(5, name="fc2", **kw)(x)


MLP_LAYERS = [
    {"kind": "linear", "torch": "fc1", "flax": ("fc1",)},
    {"kind": "layernorm", "torch": "ln1", "flax": ("ln1",)},
    {"kind": "linear", "torch": "fc2", "flax": ("fc2",)},
]


class TorchBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 12)
        self.ln1 = torch.nn.LayerNorm(12)
        self.attn = torch.nn.MultiheadAttention(12, 3, batch_first=True)
        self.ln2 = torch.nn.LayerNorm(12)
        self.up = torch.nn.Linear(12, 20)
        self.down = torch.nn.Linear(20, 12)

    def forward(self, ids):
        x = self.embed(ids)
        y = self.ln1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.down(torch.tanh(self.up(self.ln2(x))))


class FlaxBlock(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, ids):
        kw = {"param_dtype": self.dtype, "dtype": self.dtype}
        x = nn.Embed(11, 12, name="embed", **kw)(ids)
        y = nn.LayerNorm(epsilon=1e-5, name="ln1", **kw)(x)
        x = x + nn.MultiHeadDotProductAttention(3, name="attn", **kw)(y, y)
        y = nn.LayerNorm(epsilon=1e-5, name="ln2", **kw)(x)
        y = nn.Dense(12, name="down", **kw)(jnp.tanh(nn.Dense(20, name="up", **kw)(y)))
        return x + y


BLOCK_LAYERS = [
    {"kind": "embedding", "torch": "embed", "flax": ("embed",)},
    {"kind": "layernorm", "torch": "ln1", "flax": ("ln1",)},
    {"kind": "attention", "torch": "attn", "flax": ("attn",), "heads": 3},
    {"kind": "layernorm", "torch": "ln2", "flax": ("ln2",)},
    {"kind": "linear", "torch": "up", "flax": ("up",)},
    {"kind": "linear", "torch": "down", "flax": ("down",)},
]


def image(rng):
    x = rng.normal(size=(2, 3, 5, 7))
    return x, x.transpose(0, 2, 3, 1)


def vectors(rng):
    x = rng.normal(size=(4, 6))
    return x, x


def tokens(rng):
    x = rng.integers(0, 11, size=(2, 5))
    return x, x


TWINS = {  # name: torch class, flax class, layers, input of both
    "cnn": (TorchCNN, FlaxCNN, CNN_LAYERS, image),
    "mlp": (TorchMLP, FlaxMLP, MLP_LAYERS, vectors),
    "block": (TorchBlock, FlaxBlock, BLOCK_LAYERS, tokens),
}


def randomise(net, seed):
    """Biases, norms and statistics that are neither 0 nor 1."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, t in net.state_dict().items():
            if name.endswith("running_var"):
                t.copy_(torch.rand(t.shape, generator=g, dtype=t.dtype) + 0.5)
            elif name.endswith("num_batches_tracked"):
                t.fill_(17)
            elif name.endswith(("running_mean", "bias")):
                t.copy_(torch.randn(t.shape, generator=g, dtype=t.dtype) * 0.3)
            else:
                t.copy_(torch.randn(t.shape, generator=g, dtype=t.dtype) * 0.4)
    return net.eval()
