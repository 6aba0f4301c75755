"""The grid: the networks of frames/models.py, trained a few steps in each framework, carried to
each other framework, loaded there and run on the same input, and brought back.

Outputs agree in float64 at rtol 1e-9 (atol 1e-11 of the largest value), in float32 at rtol 1e-3
and atol 1e-4 of it. What comes back is bit-equal except where the table below names why not.
"""

import os
import shutil

import numpy as np

from common import Failure, convert, fresh, need
from frames.models import MODELS
from frames.remote import Frame, Process

# In one process each.
GROUPS = (("torch", "flax", "nnx", "haiku", "equinox"), ("keras", "tensorflow"))
BOUNDS = {"float64": (1e-9, 1e-11), "float32": (1e-3, 1e-4)}


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
            self.net[dtype].save(self.path("other", dtype))

    def path(self, what, dtype):
        path = self.where / f"{self.frame.NAME}_{what}_{dtype}{self.frame.SUFFIX}"
        if not self.frame.SUFFIX:
            path.mkdir(exist_ok=True)
        return path


def rules(model, where):
    lines = ["# nnferry-map 1"]
    for layer, channels in MODELS[model][2].items():
        lines.append(f'flatten "*{layer}" = {channels}')
    for layer, heads in MODELS[model][3].items():
        lines.append(f'heads "*{layer.replace(".", "?")}" = {heads}')
    if len(lines) == 1:
        return []
    (where / "rules.map").write_text("\n".join(lines) + "\n")
    return ["--map", where / "rules.map"]


def carry(a, b, source, target, like, model, where):
    if target.is_dir():
        shutil.rmtree(target)
    options = ["--from", a.NAME, "--to", b.NAME, "--like", like]
    if not b.SUFFIX:
        options += ["--format", "tf-checkpoint"]
    got = convert(source, target, *options, exit=None)
    if got.returncode == 4:  # what no file tells
        got = convert(source, target, *options, *rules(model, where), exit=None)
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
    need(not unequal, f"back: {len(unequal)} tensors differ: {sorted(unequal)[:4]}")


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
            for b in sides:
                if a is b:
                    continue
                worst = []
                for dtype in BOUNDS:
                    tally.run(f"{model} {a.frame.NAME} -> {b.frame.NAME} {dtype}",
                              cell, a, b, dtype, worst)
                if worst:
                    tally.notes.append(f"{model} {a.frame.NAME} -> {b.frame.NAME}: "
                                       f"worst {max(worst):.1e}")
        for f in frames:
            f.clear()
