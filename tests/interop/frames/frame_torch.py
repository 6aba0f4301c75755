"""PyTorch: modules in a tree by dotted names, a state_dict as a zip."""

import numpy as np
import torch

from frames.models import MODELS, Unrolled, data, every

NAME = "pytorch"
SUFFIX = ".pt"
LACKS = ("one_conv_lstm",)


class RMS(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(n))

    def forward(self, x):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * self.weight


CONVS = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}
UPS = {1: torch.nn.ConvTranspose1d, 2: torch.nn.ConvTranspose2d, 3: torch.nn.ConvTranspose3d}


class Ops(Unrolled):
    def __init__(self, root, dtype):
        self.root, self.dtype = root, dtype

    def layer(self, name, make):
        at = self.root
        *path, last = name.split(".")
        for part in path:
            if not hasattr(at, part):
                at.add_module(part, torch.nn.Module())
            at = getattr(at, part)
        if not hasattr(at, last):
            made = make().to(self.dtype)
            if isinstance(made, torch.nn.Module):
                at.add_module(last, made)
            else:
                at.register_parameter(last, torch.nn.Parameter(made))
        return getattr(at, last)

    def conv(self, name, x, out, kernel, stride=1, pad=0, groups=1, bias=True):
        return self.layer(name, lambda: CONVS[len(kernel)](
            x.shape[1], out, kernel, stride, pad, groups=groups, bias=bias))(x)

    def depthwise(self, name, x, kernel):
        return self.conv(name, x, x.shape[1], kernel, groups=x.shape[1], bias=False)

    def up(self, name, x, out, kernel, stride=None):
        return self.layer(name, lambda: UPS[len(kernel)](
            x.shape[1], out, kernel, stride or kernel))(x)

    def bn(self, name, x):
        return self.layer(name, lambda: torch.nn.BatchNorm2d(x.shape[1]))(x)

    def ln(self, name, x):
        return self.layer(name, lambda: torch.nn.LayerNorm(x.shape[-1]))(x)

    def rms(self, name, x):
        return self.layer(name, lambda: RMS(x.shape[-1]))(x)

    def gn(self, name, x, groups):
        return self.layer(name, lambda: torch.nn.GroupNorm(groups, x.shape[1]))(x)

    def dense(self, name, x, out, bias=True):
        return self.layer(name, lambda: torch.nn.Linear(x.shape[-1], out, bias))(x)

    def embed(self, name, ids, n, width):
        return self.layer(name, lambda: torch.nn.Embedding(n, width))(ids)

    def mha(self, name, x, heads):
        return self.layer(name, lambda: torch.nn.MultiheadAttention(
            x.shape[-1], heads, batch_first=True))(x, x, x, need_weights=False)[0]

    def plus(self, name, x, shape):
        return x + self.layer(name, lambda: torch.zeros(shape))

    def token(self, name, x, shape):
        t = self.layer(name, lambda: torch.zeros(shape))
        return torch.cat([t.expand(x.shape[0], 1, shape[-1]), x], 1)

    def lstm(self, name, x, width):
        return self.layer(name, lambda: torch.nn.LSTM(x.shape[-1], width, batch_first=True))(x)[0]

    def gru(self, name, x, width):
        return self.layer(name, lambda: torch.nn.GRU(x.shape[-1], width, batch_first=True))(x)[0]

    def rnn(self, name, x, width):
        return self.layer(name, lambda: torch.nn.RNN(x.shape[-1], width, batch_first=True))(x)[0]

    def bigru(self, name, x, width):
        return self.layer(name, lambda: torch.nn.GRU(
            x.shape[-1], width, batch_first=True, bidirectional=True))(x)[0]

    relu, tanh = staticmethod(torch.relu), staticmethod(torch.tanh)

    def gelu(self, x):
        return torch.nn.functional.gelu(x, approximate="tanh")

    def flatten(self, x):
        return x.flatten(1)

    def gap(self, x):
        return x.mean((2, 3))

    def concat(self, xs):
        return torch.cat(xs, 1)

    def patches(self, x):
        return x.flatten(2).transpose(1, 2)

    def reshape(self, x, shape):
        return x.reshape(shape)

    def swap(self, x, a, b):
        return x.transpose(a, b)

    matmul = staticmethod(torch.matmul)

    def softmax(self, x):
        return torch.softmax(x, -1)

    def first(self, x):
        return x

    def const(self, a):
        return torch.tensor(a, dtype=self.dtype)


class Net(torch.nn.Module):
    def __init__(self, model, dtype):
        super().__init__()
        self.model, self.dtype = model, getattr(torch, dtype)
        self.x = data(model, self.input)
        self.forward(self.x)  # makes the layers
        self.reset(1)

    def input(self, x):
        x = torch.from_numpy(x)
        return x.to(self.dtype) if x.is_floating_point() else x

    def forward(self, x):
        return MODELS[self.model][0](Ops(self, self.dtype), x)

    def reset(self, seed):
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, t in self.state_dict().items():
                if t.is_floating_point():
                    t.add_(torch.randn(t.shape, generator=g, dtype=t.dtype) * 0.1)

    def train_steps(self, steps):
        self.train()
        opt = torch.optim.SGD(self.parameters(), lr=0.05)
        for _ in range(steps):
            opt.zero_grad()
            y = self(self.x)
            ((y - 0.5) ** 2).mean().backward()
            opt.step()
        self.eval()

    def save(self, path):
        torch.save(self.state_dict(), path)

    def load(self, path):
        self.load_state_dict(torch.load(path, weights_only=True))

    def run(self):
        self.eval()
        with torch.no_grad():
            return every(lambda y: y.numpy(), self(self.x))

    def spoil(self, how, names):
        """For showing that errors are seen: a tensor's first two axes of equal extent exchanged, or
        two tensors."""
        found = self.state_dict()
        if how == "exchanged":
            x, y = names
            found[x], found[y] = found[y].clone(), found[x].clone()
        else:
            t = found[names[0]]
            i, j = next((i, j) for j in range(t.dim()) for i in range(j)
                        if t.shape[i] == t.shape[j])
            found[names[0]] = t.transpose(i, j).contiguous()
        self.load_state_dict(found)

    def leaves(self):
        return {k: v.numpy() for k, v in self.state_dict().items()}

    def cast(self, dtype):
        """The same weights in another precision."""
        other = Net(self.model, dtype)
        other.load_state_dict({k: v.to(getattr(torch, dtype)) if v.is_floating_point() else v
                               for k, v in self.state_dict().items()})
        return other


def bits(path):
    """{name: (dtype, shape, bytes)} of a file of this framework."""
    sd = torch.load(path, weights_only=True)
    return {k: (str(v.dtype), tuple(v.shape), v.contiguous().numpy().tobytes())
            for k, v in sd.items() if not k.endswith("num_batches_tracked")}
