"""Random networks: with --like alone either the right result or exit 4, never a wrong pair.

Each network is a random list of layers from a grammar of the kinds, with random tensors
in a PyTorch state_dict of shuffled order; the skeleton is a Flax tree of zeros with the
right names and shapes. Half of the networks have all axes distinct, half all axes equal.
Names come in four schemes: the same in both, lists (layers.0 / layers_0), Flax's own
automatic names, and unrelated ones. The right result is computed by tests/lib/layouts.py.
So that refusing everything is no way to pass, networks whose names agree and whose axes
are distinct (and that flatten nothing) must convert in at least nine of ten cases.
"""

import os
import random

import numpy as np
import torch
from flax import serialization

import layouts
from checkpoints import path_text
from common import Failure, arrays, entries, fresh, need, nnferry, same_tensors

COUNT = int(os.environ.get("NNFERRY_NETS", "200"))
KINDS = ("linear", "linear", "conv", "conv", "depthwise", "grouped", "conv_transpose",
         "batchnorm", "layernorm", "groupnorm", "embedding", "attention", "flatten")
CLASS = {"linear": "Dense", "flat_linear": "Dense", "conv": "Conv",
         "conv_transpose": "ConvTranspose", "batchnorm": "BatchNorm", "layernorm": "LayerNorm",
         "groupnorm": "GroupNorm", "embedding": "Embed",
         "attention": "MultiHeadDotProductAttention"}
PLAIN = {"linear": "fc", "flat_linear": "fc", "conv": "conv", "conv_transpose": "deconv",
         "batchnorm": "bn", "layernorm": "ln", "groupnorm": "gn", "embedding": "embed",
         "attention": "attn"}
SCHEMES = ("same", "list", "auto", "unrelated")


class Sizes:
    """Axis lengths: all different within a network, or all the same."""

    def __init__(self, rng, distinct):
        self.distinct, self.equal = distinct, 2 * rng.randint(1, 2)
        self.pool = list(range(3, 120))
        rng.shuffle(self.pool)
        self.taken = set()

    def one(self, multiple=1):
        if not self.distinct:
            return self.equal
        for n in self.pool:
            if n * multiple not in self.taken and n not in self.taken:
                self.taken.update((n, n * multiple))
                return n * multiple
        raise RuntimeError("no axis length left")

    def small(self, nd, rng):
        """Kernel extents."""
        if not self.distinct:
            return (self.equal,) * nd
        out = []
        for _ in range(nd):
            free = [n for n in range(2, 9) if n not in self.taken]
            n = rng.choice(free) if free else rng.choice([2, 3])
            self.taken.add(n)
            out.append(n)
        return tuple(out)


def make_layer(rng, kind, sizes):
    """(kind for the formulas, extra keys, {leaf: shape})"""
    bias = rng.random() < 0.7
    if kind == "linear":
        o, i = sizes.one(), sizes.one()
        shapes = {"weight": (o, i), **({"bias": (o,)} if bias else {})}
        return "linear", {}, shapes
    if kind in ("conv", "grouped", "depthwise"):
        nd = rng.randint(1, 3)
        k = sizes.small(nd, rng)
        if kind == "depthwise":
            o, per = sizes.one(), 1
        elif kind == "grouped":
            o, per = sizes.one(2), sizes.one()
        else:
            o, per = sizes.one(), sizes.one()
        shapes = {"weight": (o, per) + k, **({"bias": (o,)} if bias else {})}
        return "conv", {"out": o, "nd": nd}, shapes
    if kind == "conv_transpose":
        nd = rng.randint(1, 3)
        i, o, k = sizes.one(), sizes.one(), sizes.small(nd, rng)
        return ("conv_transpose", {"out": o, "nd": nd},
                {"weight": (i, o) + k, **({"bias": (o,)} if bias else {})})
    if kind == "batchnorm":
        c = sizes.one()
        return kind, {}, {"weight": (c,), "bias": (c,), "running_mean": (c,),
                          "running_var": (c,), "num_batches_tracked": ()}
    if kind in ("layernorm", "groupnorm"):
        c = sizes.one(2)
        return kind, {}, {"weight": (c,), "bias": (c,)}
    if kind == "embedding":
        return kind, {}, {"weight": (sizes.one(), sizes.one())}
    if kind == "attention":
        heads = rng.choice([2, 3]) if sizes.distinct else 2
        e = sizes.one(heads) if sizes.distinct else sizes.equal
        shapes = {"in_proj_weight": (3 * e, e), "out_proj.weight": (e, e)}
        if bias:
            shapes.update({"in_proj_bias": (3 * e,), "out_proj.bias": (e,)})
        return kind, {"heads": heads}, shapes
    raise ValueError(kind)


def names(rng, scheme, kind, index, counters):
    cls = CLASS[kind]
    auto = f"{cls}_{counters.setdefault(cls, 0)}"
    counters[cls] += 1
    plain = f"{PLAIN[kind]}{index}"
    if scheme == "same":
        return f"net.{plain}", ("net", plain)
    if scheme == "list":
        return f"layers.{index}.{PLAIN[kind]}", (f"layers_{index}", PLAIN[kind])
    if scheme == "auto":
        return plain, (auto,)
    word = "".join(rng.choice("abcdefgh") for _ in range(6))
    other = "".join(rng.choice("stuvwxyz") for _ in range(6))
    return f"{word}{index}", (f"{other}{index}",)


def network(rng, distinct):
    sizes, layers, shapes, counters = Sizes(rng, distinct), [], {}, {}
    scheme, last_conv, flattens = rng.choice(SCHEMES), None, False
    for index in range(rng.randint(2, 7)):
        kind = rng.choice(KINDS)
        if kind == "flatten":
            if last_conv is None:
                continue
            chw = (last_conv[0],) + tuple(rng.randint(2, 3) for _ in range(last_conv[1]))
            o = sizes.one()
            made = ("flat_linear", {"chw": chw}, {"weight": (o, int(np.prod(chw))), "bias": (o,)})
            last_conv, flattens = None, True
        else:
            made = make_layer(rng, kind, sizes)
            if "out" in made[1]:
                last_conv = (made[1]["out"], made[1]["nd"])
        kind, keys, own = made
        torch_name, flax_name = names(rng, scheme, kind, index, counters)
        layers.append({"kind": kind, "torch": torch_name, "flax": flax_name, **keys})
        shapes.update({f"{torch_name}.{leaf}": s for leaf, s in own.items()})
    return layers, shapes, scheme, flattens


def one(number, seed, folder):
    """Returns (what happened, scheme, distinct, flattens); raises Failure on a wrong result."""
    rng = random.Random(f"{seed}/{number}")
    distinct = number % 2 == 0
    layers, shapes, scheme, flattens = network(rng, distinct)
    values = np.random.default_rng([seed, number])
    sd = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            sd[name] = np.array(5, np.int64)
        else:
            sd[name] = values.normal(size=shape).astype(np.float32)
    want = layouts.to_flax(layers, sd)
    order = list(sd)
    rng.shuffle(order)
    torch.save({n: torch.from_numpy(sd[n]) for n in order}, folder / "in.pt")
    skeleton = layouts.nest({p: np.zeros_like(a) for p, a in want.items()})
    (folder / "skeleton.msgpack").write_bytes(serialization.to_bytes(skeleton))
    out = folder / "out.msgpack"
    out.unlink(missing_ok=True)
    got = nnferry("convert", folder / "in.pt", "-o", out, "--to", "flax", "--like",
                  folder / "skeleton.msgpack", exit=None)
    shown = f"{scheme} {'distinct' if distinct else 'equal'} " + ", ".join(
        f"{la['kind']}:{la['torch']}" for la in layers)
    if got.returncode == 4:
        need(not out.exists(), f"{shown}: exit 4 but a file was written")
        need(got.stderr.strip(), f"{shown}: exit 4 without a word")
        return "refused", scheme, distinct, flattens
    need(got.returncode == 0, f"{shown}: exit {got.returncode}: {got.stderr.strip()[-300:]}")
    try:
        same_tensors(entries(out), arrays({path_text(p): a for p, a in want.items()}), "result")
    except Failure as e:
        raise Failure(f"{shown}: WRONG PAIR: {e}") from None
    return "right", scheme, distinct, flattens


def run(tally):
    seed = int(os.environ.get("NNFERRY_SEED", random.SystemRandom().randrange(1 << 31)))
    print(f"random networks: NNFERRY_SEED={seed} NNFERRY_NETS={COUNT}", flush=True)
    folder, seen = fresh("random"), {}
    for number in range(COUNT):
        def test(number=number):
            what, scheme, distinct, flattens = one(number, seed, folder)
            key = (scheme, "distinct" if distinct else "equal",
                   "flatten" if flattens else "plain")
            counts = seen.setdefault(key, {"right": 0, "refused": 0})
            counts[what] += 1
        tally.run(f"seed {seed} number {number}", test)

    def floor():
        right = refused = 0
        for (scheme, axes, flat), c in seen.items():
            if scheme in ("same", "list") and axes == "distinct" and flat == "plain":
                right, refused = right + c["right"], refused + c["refused"]
        need(right + refused > 0, "no such network was drawn")
        need(right >= 9 * refused, f"only {right} of {right + refused} converted")
        return f"{right} of {right + refused}"
    tally.run("enough networks convert", floor)
    for key in sorted(seen):
        tally.notes.append(f"{' '.join(key)}: {seen[key]['right']} right, "
                           f"{seen[key]['refused']} refused with exit 4")
