"""The grid: the networks of frames/models.py, trained a few steps in each framework, carried to
each other framework, loaded there and run on the same input, and brought back.

Outputs agree in float64 at rtol 1e-9 (atol 1e-11 of the largest value), in float32 at rtol 1e-3
and atol 1e-4 of it; of a single layer (the networks named one...) at 1e-5 and 1e-6. What comes back
is bit-equal except where the table below names why not; a row of it that no pair needs is a failure.
In every cell the tensors that the target's own objects hold are those that the independent checker
(checker.py) computes from the source's, bit for bit; it is shown to see errors that are planted.
RESULTS.md keeps the worst difference of each pair, float64 / float32, of the largest output.
"""

import fnmatch
import itertools
import os
import shutil
from typing import NamedTuple

import numpy as np

import checker
from common import Failure, convert, fresh, need
from frames.models import MODELS
from frames.remote import Frame, Process

# In one process each.
GROUPS = (("torch", "hf", "flax", "nnx", "haiku", "equinox"), ("keras", "tensorflow"))
BOUNDS = {"float64": (1e-9, 1e-11), "float32": (1e-3, 1e-4)}
ONE_LAYER = {"float64": (1e-9, 1e-11), "float32": (1e-5, 1e-6)}
# A TensorFlow checkpoint has no order: which of a block's two norms is which, its names must tell;
# Hugging Face's and ours do not.
NORMS = {("decoder", "hf", "tensorflow"): tuple(
    (f"model.layers.{i}.{theirs}_layernorm", f"layers_{i}_norm{n}.scale")
    for i in range(2) for n, theirs in ((1, "input"), (2, "post_attention")))}
# of these networks only pairs with a side that stacks, or that is Hugging Face's
ONLY = {"scanned": checker.STACKING, "vit_hf": ("hf",), "bert": ("hf",)}


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
LSTM, GRU = ("lstm", "one"), ("bigru", "one_gru")
CHANGED = (
    Changed(LSTM, "pytorch", ALL[1:], "lstm.bias_?h_l0", "two biases are kept as their sum"),
    Changed(("one_rnn",), "pytorch", ALL[1:], "rnn.bias_?h_l0", "likewise"),
    Changed(GRU, "pytorch", ("flax", "equinox"), "*.bias_?h_l0*",
            "of two of three gates the biases are kept as their sum"),
    Changed(GRU, "keras", ("flax", "equinox"), "*/cell/vars/2", "likewise"),
    Changed(GRU, "tensorflow", ("flax", "equinox"), "*/cell/bias/*", "likewise"),
    Changed(LSTM, "haiku", ("flax", "nnx", "equinox", "keras", "tensorflow"),
            "0/lstm/linear/b", "Haiku adds 1 to the forget gate's bias: a rounded sum"),
    Changed(LSTM, "flax", ("haiku",), "params/lstm/hf/bias", "likewise"),
    Changed(LSTM, "nnx", ("haiku",), "lstm/dense_h/bias", "likewise"),
    Changed(("lstm",), "equinox", ("haiku",), "3", "likewise"),
    Changed(("one",), "equinox", ("haiku",), "37", "likewise"),
    Changed(LSTM, "keras", ("haiku",), "*/cell/vars/2", "likewise"),
    Changed(LSTM, "tensorflow", ("haiku",), "*/cell/bias/*", "likewise"),
    Changed(("one_conv_lstm",), "flax", ("keras", "tensorflow"), "params/*/?h/bias",
            "two biases are kept as their sum, with the 1 that is added to the forget gate"),
    Changed(("one_conv_lstm",), "haiku", ("keras", "tensorflow"), "0/*_to_hidden/b", "likewise"),
    Changed((), "haiku", ALL, "1/*/~/*_ema/hidden", "the average before it is debiased: made anew"),
    Changed((), "haiku", ALL, "1/*/~/*_ema/counter", "the count of updates: made anew"),
)
FOUND = set()  # the rows that were needed


class Side:
    """One framework with one network: files of its trained weights and of others, by dtype."""

    def __init__(self, frame, model, where):
        self.frame, self.model, self.where = frame, model, where
        net = frame.Net(model, "float64")
        if not model.startswith("one"):  # a layer alone has its numbers from the start
            net.train_steps(2)
        self.net, self.want, self.leaves = {}, {}, {}
        for dtype in BOUNDS:
            self.net[dtype] = net if dtype == "float64" else net.cast(dtype)
            self.net[dtype].save(self.path("trained", dtype))
            self.want[dtype] = self.net[dtype].run()
            self.leaves[dtype] = self.net[dtype].leaves()
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
    options = ["--from", a.NAME, "--to", b.NAME, *b.OPTIONS]
    lines = MODELS[model][2]
    lines += tuple(f'"{x}" -> "{y}"' for x, y in NORMS.get((model, a.NAME, b.NAME), ()))
    lines += tuple(f'"{y}" -> "{x}"' for x, y in NORMS.get((model, b.NAME, a.NAME), ()))
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


def outputs(a, b, dtype, worst):
    """Of b, which has been loaded with a's weights, against a's; by layer where they stand alone."""
    got, want = b.net[dtype].run(), a.want[dtype]
    rtol, atol = (ONE_LAYER if a.model.startswith("one") else BOUNDS)[dtype]
    if not isinstance(want, dict):
        got, want = {"": got}, {"": want}
    need(got.keys() == want.keys(), f"outputs {sorted(got)}")
    wrong = []
    for k, w in want.items():
        scale = np.abs(w).max()
        off = float(np.abs(got[k] - w).max() / scale) if got[k].shape == w.shape else np.inf
        worst[k] = off
        if not (scale > 0 and np.isfinite(off) and
                np.allclose(got[k], w, rtol=rtol, atol=atol * scale)):
            wrong.append(f"{k} {off:.3g}")
    need(not wrong, f"outputs differ by, of the largest: {', '.join(wrong)}")


def cell(a, b, dtype, worst):
    """One network from side a to side b and back."""
    where, model = a.where, a.model
    there = where / f"there{b.frame.SUFFIX}"
    carry(a.frame, b.frame, a.path("trained", dtype), there, b.path("other", dtype), model, where)
    b.net[dtype].reset(9)
    b.net[dtype].load(there)
    outputs(a, b, dtype, worst)
    here = a.frame.NAME, b.frame.NAME, model, a.leaves[dtype]
    got = b.net[dtype].leaves()
    checker.check(*here, got)
    if dtype == "float64":
        checker.sees(*here, got)
    back = where / f"back{a.frame.SUFFIX}"
    carry(b.frame, a.frame, there, back, a.path("other", dtype), model, where)
    first, again = a.frame.bits(a.path("trained", dtype)), a.frame.bits(back)
    need(set(first) == set(again), f"back: names {sorted(set(first) ^ set(again))[:4]}")
    unequal = {k for k in first if first[k] != again[k]}
    rows = [(row, k) for row in CHANGED for k in first if row.fits(a, b, k)]
    FOUND.update(row for row, k in rows if k in unequal)
    expected = {k for _, k in rows}
    need(unequal == expected, f"back: {sorted(unequal - expected)[:4]} unequal, "
                              f"{sorted(expected - unequal)[:4]} equal")


def planted(a, b, how, names):
    """A file of a whose tensors are not where they were: nnferry carries it, the checker objects."""
    net = a.net["float64"]
    net.load(a.path("trained", "float64"))
    net.spoil(how, names)
    source, there = a.where / f"spoiled{a.frame.SUFFIX}", a.where / f"there{b.frame.SUFFIX}"
    net.save(source)
    carry(a.frame, b.frame, source, there, b.path("other", "float64"), a.model, a.where)
    b.net["float64"].load(there)
    try:
        checker.check(a.frame.NAME, b.frame.NAME, a.model, a.leaves["float64"],
                      b.net["float64"].leaves())
    except Failure as e:
        need("formulas" in str(e), str(e))
        return
    raise Failure(f"{how} of {names} passes: the checker is blind")


def frames_of(names):
    out = []
    for group in GROUPS:
        chosen = [name for name in group if not names or name in names]
        process = Process() if chosen else None
        out += [Frame(process, name) for name in chosen]
    return out


def chosen(variable):
    return [name for name in os.environ.get(variable, "").split(",") if name]


# network: what is done to the trained file of PyTorch's
PLANTED = {
    "cnn": (("turned", ("conv1.weight",)),),
    "resnet18": (("exchanged", ("layer1.0.conv1.weight", "layer1.0.conv2.weight")),
                 ("exchanged", ("layer1.0.bn1.running_var", "layer1.1.bn1.running_var"))),
    "encoder": (("turned", ("blocks.0.attn.out_proj.weight",)),
                ("exchanged", ("blocks.0.norm1.bias", "blocks.1.norm2.bias"))),
}


def pairs_of(model, sides):
    for a, b in itertools.permutations(sides, 2):
        if model not in ONLY or {a.frame.NAME, b.frame.NAME} & set(ONLY[model]):
            yield a, b


def shown(worst):
    return " / ".join(f"{max(w.values()):.0e}" if w else "failed" for w in worst)


def run(tally):
    only_frames, only_models = chosen("NNFERRY_GRID_FRAMES"), chosen("NNFERRY_GRID_MODELS")
    frames, layers = frames_of(only_frames), {}
    for model in only_models or MODELS:
        where = fresh("grid")
        sides = [Side(f, model, where) for f in frames if model not in f.LACKS]
        table = {}
        for a, b in pairs_of(model, sides):
            worst = [{} for _ in BOUNDS]
            for dtype, off in zip(BOUNDS, worst):
                tally.run(f"{model} {a.frame.NAME} -> {b.frame.NAME} {dtype}",
                          cell, a, b, dtype, off)
            table[a.frame.NAME, b.frame.NAME] = shown(worst)
            for k in worst[0] if model == "one" else ():
                for sofar, off in zip(layers.setdefault(k, [{}, {}]), worst):
                    sofar[a.frame.NAME, b.frame.NAME] = off.get(k, np.inf)
            if a.frame.NAME == "pytorch":
                for how, names in PLANTED.get(model, ()):
                    tally.run(f"planted {model} {b.frame.NAME} {how} {names[0]}",
                              planted, a, b, how, names)
        names = [s.frame.NAME for s in sides]
        tally.table(f"{model}: from (down) to (across), float64 / float32", [""] + names,
                    [[a] + [table.get((a, b), "") for b in names] for a in names])
        for f in frames:
            f.clear()
    if layers:
        tally.table("one, by layer: the worst pair, float64 / float32", ["", "worst"],
                    [[k, shown(worst)] for k, worst in layers.items()])
    if not only_frames and not only_models:
        for row in CHANGED:
            tally.run(f"what changes: {row.source} {row.names}", need, row in FOUND,
                      f"{row.why}: no pair needs this row")
