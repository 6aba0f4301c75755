#!/usr/bin/env python3
"""Makes the TorchScript goldens with whatever torch the interpreter has: gen_script.py FOLDER.

torch.jit.save writes them. What is expected comes from the loaded module: the tensors of its
state_dict, then the attributes and constants that only the archive names (read here with Python's
own unpickler, in the order of the file).
"""

import collections
import io
import pathlib
import pickle
import sys
import zipfile

import torch

import expected
import gen_torch


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("running_mean", torch.tensor([0.5, -0.5]))
        self.weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))

    def forward(self, x):
        return x @ self.weight + self.running_mean


class Script(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([Inner(), Inner()])
        self.bias = torch.nn.Parameter(torch.tensor([7.0, 8.0]))
        self.fixed = torch.nn.Parameter(torch.tensor([9.0]), requires_grad=False)
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("late", torch.tensor([1.5]), persistent=False)
        self.sizes = [1, 2, 3]
        self.rates = [0.5, 1.5]
        self.plain = torch.tensor([3, 4])
        self.parts = [torch.tensor([1.0]), torch.tensor([2.0])]
        self.named = {"a": torch.tensor([5.0])}
        self.scale = 2.5

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return (x + self.bias) * self.scale + torch.tensor([1.0, 2.0]) + self.plain.sum()


class Notes(torch.nn.Module):
    """Layers whose settings only the program in the archive knows."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(2, 2, 3, stride=2, padding=1, bias=False)
        self.bn = torch.nn.BatchNorm1d(2, eps=1e-3, momentum=0.03)
        self.act = torch.nn.GELU(approximate="tanh")

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Traced(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.ConvTranspose1d(2, 2, 3)
        self.gn = torch.nn.GroupNorm(1, 2, eps=1e-6)
        self.rnn = torch.nn.RNN(2, 2, nonlinearity="relu", batch_first=True)

    def forward(self, x):
        x = torch.nn.functional.leaky_relu(self.gn(self.up(x)), 0.2)
        return self.rnn(x.transpose(1, 2))[0]


class Archive:
    """The pickles of a TorchScript archive as plain values."""

    def __init__(self, path):
        self.zip = zipfile.ZipFile(path)
        self.prefix = self.zip.namelist()[0].split("/")[0]

    def load(self, record, folder):
        archive = self

        class Object:
            def __setstate__(self, state):
                self.state = state

        class Reader(pickle.Unpickler):
            def find_class(self, module, name):
                if module.startswith("__torch__"):
                    return Object
                if module == "torch.jit._pickle":
                    return lambda value, *tag: value
                if module == "torch" and name.endswith("Storage"):
                    return getattr(torch, name)
                return super().find_class(module, name)

            def persistent_load(self, pid):
                raw = archive.zip.read(f"{archive.prefix}/{folder}/{pid[2]}")
                return torch.frombuffer(bytearray(raw), dtype=pid[1].dtype).storage()

        self.object = Object
        return Reader(io.BytesIO(self.zip.read(f"{self.prefix}/{record}"))).load()

    def walk(self, x, where=()):
        if isinstance(x, torch.Tensor):
            yield ".".join(map(str, where)), x
        elif isinstance(x, self.object):
            yield from self.walk(x.state, where)
        elif isinstance(x, dict):
            for k, v in x.items():
                yield from self.walk(v, where + (k,))
        elif isinstance(x, (list, tuple)):
            for i, v in enumerate(x):
                yield from self.walk(v, where + (i,))


def describe(path):
    archive = Archive(path)
    tensors = collections.OrderedDict(archive.walk(archive.load("data.pkl", "data")))
    module = torch.jit.load(str(path))
    state = collections.OrderedDict(module.state_dict())
    assert [n for n in tensors if n in state] == list(state), (list(tensors), list(state))
    for name, t in state.items():
        assert gen_torch.canonical(tensors[name]) == gen_torch.canonical(t), name
    for i, t in enumerate(archive.load("constants.pkl", "constants")):
        tensors[f"CONSTANTS.c{i}"] = t
    expected.write(path, gen_torch.MADE_BY,
                   [(n, gen_torch.NAME_OF[t.dtype], tuple(t.shape), gen_torch.canonical(t))
                    for n, t in tensors.items()])


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    scripted = torch.jit.script(Script())
    torch.jit.save(scripted, str(out / "script.pt"), _extra_files={"note.txt": b"saved along"})
    torch.jit.save(torch.jit.trace(Inner(), torch.ones(3, 2)), str(out / "traced.pt"))
    torch.jit.save(torch.jit.freeze(scripted.eval()), str(out / "frozen.pt"))
    torch.manual_seed(0)
    torch.jit.save(torch.jit.script(Notes().eval()), str(out / "notes_script.pt"))
    torch.jit.save(torch.jit.trace(Traced().eval(), torch.ones(1, 2, 4)),
                   str(out / "notes_trace.pt"))
    for name in ("script.pt", "traced.pt", "frozen.pt", "notes_script.pt", "notes_trace.pt"):
        describe(out / name)


if __name__ == "__main__":
    main(sys.argv[1])
