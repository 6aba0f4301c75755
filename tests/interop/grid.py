"""The grid: the networks of frames/models.py, trained a few steps in each framework, carried to
each other framework, loaded there and run on the same input, and brought back.

Outputs agree in float64 at rtol 1e-9 (atol 1e-11 of the largest value), in float32 at rtol 1e-3
and atol 1e-4 of it. What comes back is bit-equal except where the table below names why not.
RESULTS.md keeps the worst difference of each pair, float64 / float32, of the largest output.
"""

import fnmatch
import itertools
import os
import shutil
from typing import NamedTuple

import numpy as np

from common import Failure, convert, fresh, need
from frames.models import MODELS
from frames.remote import Frame, Process

# In one process each.
GROUPS = (("torch", "flax", "nnx", "haiku", "equinox"), ("keras", "tensorflow"))
BOUNDS = {"float64": (1e-9, 1e-11), "float32": (1e-3, 1e-4)}

class Changed(NamedTuple):
    """Tensors that do not come back bit for bit, and why."""
    models: tuple  # () = all
    source: str
    others: tuple  # frameworks that keep something else
    names: str  # a pattern
    why: str

    def fits(self, a, b, name):
        return ((not self.models or a.model in self.models) and a.frame.NAME == self.source and
                b.frame.NAME in self.others and fnmatch.fnmatchcase(name, self.names))


ALL = ("pytorch", "flax", "nnx", "haiku", "equinox", "keras", "tensorflow")
CHANGED = (
    Changed(("lstm",), "pytorch", ALL[1:], "lstm.bias_?h_l0", "two biases are kept as their sum"),
    Changed(("bigru",), "pytorch", ("flax", "equinox"), "rnn.bias_?h_l0*",
            "of two of three gates the biases are kept as their sum"),
    Changed(("bigru",), "keras", ("flax", "equinox"), "*_layer/cell/vars/2", "likewise"),
    Changed(("bigru",), "tensorflow", ("flax", "equinox"), "*/cell/bias/*", "likewise"),
    Changed(("lstm",), "haiku", ("flax", "nnx", "equinox", "keras", "tensorflow"),
            "0/lstm/linear/b", "Haiku adds 1 to the forget gate's bias: a rounded sum"),
    Changed(("lstm",), "flax", ("haiku",), "params/lstm/hf/bias", "likewise"),
    Changed(("lstm",), "nnx", ("haiku",), "lstm/dense_h/bias", "likewise"),
    Changed(("lstm",), "equinox", ("haiku",), "3", "likewise"),
    Changed(("lstm",), "keras", ("haiku",), "*/cell/vars/2", "likewise"),
    Changed(("lstm",), "tensorflow", ("haiku",), "*/cell/bias/*", "likewise"),
    Changed((), "haiku", ALL, "1/*/~/*_ema/hidden", "the average before it is debiased: made anew"),
    Changed((), "haiku", ALL, "1/*/~/*_ema/counter", "the count of updates: made anew"),
)


class Side:
    """One framework with one network: files of its trained weights and of others, by dtype."""

    def __init__(self, frame, model, where):
        self.frame, self.model, self.where = frame, model, where
        net = frame.Net(model, "float64")
        net.train_steps(2)
        self.net, self.want = {}, {}
        for dtype in BOUNDS:
            self.net[dtype] = net if dtype == "float64" else net.cast(dtype)
            self.net[dtype].save(self.path("trained", dtype))
            self.want[dtype] = self.net[dtype].run()
        for dtype in BOUNDS:
            self.net[dtype].reset(7)
            other = self.path("other", dtype)
            if frame.NAME == "equinox":  # whose files have no names
                self.net[dtype].save_skeleton(other)
                other = other.with_name("named_" + other.name)
            self.net[dtype].save(other)

    def path(self, what, dtype):
        path = self.where / f"{self.frame.NAME}_{what}_{dtype}{self.frame.SUFFIX}"
        if not self.frame.SUFFIX:
            path.mkdir(exist_ok=True)
        return path


def rules(lines, where):
    path = where / f"rules{len(lines)}.map"
    path.write_text("\n".join(("# nnferry-map 1",) + lines) + "\n")
    return ["--map", path]


def carry(a, b, source, target, like, model, where):
    """As it is; else with what no file tells; else into a skeleton that has names."""
    if target.is_dir():
        shutil.rmtree(target)
    options = ["--from", a.NAME, "--to", b.NAME]
    if not b.SUFFIX:
        options += ["--format", "tf-checkpoint"]
    lines = MODELS[model][2]
    told = [[], rules(lines, where)] if lines else [[]]
    other = tuple(line for line in lines if not line.startswith("heads"))
    if other and other != lines:  # both sides part the heads: a line for nothing is refused
        told.append(rules(other, where))
    named = like.with_name("named_" + like.name)
    skeletons = [like, named] if named.exists() else [like]
    for skeleton, what in itertools.product(skeletons, told):
        got = convert(source, target, *options, "--like", skeleton, *what, exit=None)
        if got.returncode not in (2, 4):
            break
    if got.returncode:
        raise Failure(f"exit {got.returncode}: {got.stderr.strip()[-400:]}")


def cell(a, b, dtype, worst):
    """One network from side a to side b and back."""
    where, model = a.where, a.model
    there = where / f"there{b.frame.SUFFIX}"
    carry(a.frame, b.frame, a.path("trained", dtype), there, b.path("other", dtype), model, where)
    b.net[dtype].reset(9)
    b.net[dtype].load(there)
    got, want = b.net[dtype].run(), a.want[dtype]
    rtol, atol = BOUNDS[dtype]
    scale = np.abs(want).max()
    worst.append(float(np.abs(got - want).max() / scale))
    need(np.allclose(got, want, rtol=rtol, atol=atol * scale),
         f"outputs differ by {worst[-1]:.3g} of the largest")
    back = where / f"back{a.frame.SUFFIX}"
    carry(b.frame, a.frame, there, back, a.path("other", dtype), model, where)
    first, again = a.frame.bits(a.path("trained", dtype)), a.frame.bits(back)
    need(set(first) == set(again), f"back: names {sorted(set(first) ^ set(again))[:4]}")
    unequal = {k for k in first if first[k] != again[k]}
    expected = {k for k in first for row in CHANGED if row.fits(a, b, k)}
    need(unequal == expected, f"back: {sorted(unequal - expected)[:4]} unequal, "
                              f"{sorted(expected - unequal)[:4]} equal")


def frames_of(names):
    out = []
    for group in GROUPS:
        chosen = [name for name in group if not names or name in names]
        process = Process() if chosen else None
        out += [Frame(process, name) for name in chosen]
    return out


def chosen(variable):
    return [name for name in os.environ.get(variable, "").split(",") if name]


def run(tally):
    frames = frames_of(chosen("NNFERRY_GRID_FRAMES"))
    for model in chosen("NNFERRY_GRID_MODELS") or MODELS:
        where = fresh("grid")
        sides = [Side(f, model, where) for f in frames if model not in f.LACKS]
        for a in sides:
            line = []
            for b in sides:
                if a is b:
                    continue
                worst = []
                for dtype in BOUNDS:
                    tally.run(f"{model} {a.frame.NAME} -> {b.frame.NAME} {dtype}",
                              cell, a, b, dtype, worst)
                line.append(f"{b.frame.NAME} " + " / ".join(f"{w:.0e}" for w in worst))
            tally.notes.append(f"{model}, {a.frame.NAME} -> " + ", ".join(line))
        for f in frames:
            f.clear()
