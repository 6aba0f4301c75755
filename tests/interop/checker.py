"""The independent checker of the grid: from the tensors of framework A, as A's own objects hold
them, it computes those of framework B by formulas over numpy arrays, for B's own objects to agree
with bit for bit.

It knows what the frameworks' documentation says of their layers' weights (and tests/lib/layouts*.py,
proved by selfcheck), and from frames/describe.py which layer of a network is which. It reads nothing
of src and nothing that nnferry says: both sides' tensors come by name out of the real framework.

Between the two stands a form of the checker's own, {(layer, role): array}: PyTorch's axes, the
parts of attention and the gates of cells apart, a cell's two biases apart.
"""

import functools
from typing import Callable, NamedTuple

import numpy as np

import keras_layouts
import layouts
import layouts_jax
from common import need
from frames import describe


class Leaf(NamedTuple):
    """A tensor of a framework: there(*roles) makes it, back(it) gives the roles, None nothing.
    bound(*roles): how far a value may be off where more than one rounding lies between."""
    name: str
    roles: tuple
    there: Callable
    back: Callable | None
    bound: Callable | None = None


layers_of = functools.cache(describe.layers)


def same(name, role):
    return Leaf(name, (role,), lambda a: a, lambda a: (a,))


def turned(name, role, there, back):
    return Leaf(name, (role,), there, lambda a: (back(a),))


def shaped(name, role, shape):
    """The role is a vector, the leaf has axes of extent 1 beside it."""
    return Leaf(name, (role,), lambda a: a.reshape(shape), lambda a: (a.reshape(-1),))


def fixed(name, value):
    """What a tensor without a source holds."""
    return Leaf(name, (), lambda: value, None)


def joined(name, roles, axis=0, turn=False):
    """Parts of equal size, one after another; each transposed where turn says so."""
    def there(*parts):
        return np.concatenate([p.T for p in parts] if turn else parts, axis)

    def back(a):
        return [p.T if turn else p for p in np.split(a, len(roles), axis)]
    return Leaf(name, tuple(roles), there, back)


def sums(name, gates, at="", less=()):
    """One bias a gate: the sum of the two, of the gates in less 1 is taken off. Back, the first is
    the whole and the other nothing, or that 1."""
    roles = tuple(f"{at}b{side}.{g}" for g in gates for side in "ih")

    def there(*parts):
        out = []
        for g, i, h in zip(gates, parts[::2], parts[1::2]):
            out.append(i + h - 1 if g in less else i + h)
        return np.concatenate(out)

    def back(a):
        out = []
        for g, b in zip(gates, np.split(a, len(gates))):
            out += [b, np.full_like(b, 1 if g in less else 0)]
        return out
    def bound(*parts):
        """i + h - 1 rounds twice, in either order: two units of the operands' last place."""
        return np.concatenate([2 * np.finfo(i.dtype).eps * (np.abs(i) + np.abs(h) + 1) *
                               (h != 0) * (g in less)
                               for g, i, h in zip(gates, parts[::2], parts[1::2])])
    return Leaf(name, roles, there, back, bound if less else None)


def kernels(name, prefix, letters):
    """Of a convolution, [k.., I, gates * units]."""
    return Leaf(name, tuple(gates(prefix, letters)),
                lambda *parts: np.concatenate([layouts.conv(p) for p in parts], -1),
                lambda a: [layouts.conv_back(k) for k in np.split(a, len(letters), -1)])


def conv_lstm(here, first, second, kernel, bias):
    """Flax and Haiku: gates i g f o, and what the checker calls the state's bias of f is what is
    added beside a 1."""
    for side, at in (("i", first), ("h", second)):
        yield kernels(here(at, kernel), "w" + side, "igfo")
        yield joined(here(at, bias), gates("b" + side, "igfo"))


def conv_lstm_bias(name, letters):
    """Keras's only bias: the sum, and the 1 that the others add to f."""
    def there(*parts):
        return np.concatenate([(h + 1 if g == "f" else h) + i
                               for g, i, h in zip(letters, parts[::2], parts[1::2])])

    def back(a):
        out = []
        for g, b in zip(letters, np.split(a, len(letters))):
            out += [b, np.full_like(b, -1 if g == "f" else 0)]
        return out
    return Leaf(name, tuple(f"b{side}.{g}" for g in letters for side in "ih"), there, back)


def gates(prefix, letters):
    return [f"{prefix}.{g}" for g in letters]


# ---- axes ----

def dense_back(layer, k):
    return layouts.flat_linear_back(k, layer.chw) if layer.chw else k.T


def dense_there(layer, w):
    return layouts.flat_linear(w, layer.chw) if layer.chw else w.T


def dense(name, layer):
    return turned(name, "w", functools.partial(dense_there, layer),
                  functools.partial(dense_back, layer))


def depthwise_back(k):
    """[k.., C, m] to [C*m, 1, k..]"""
    n = k.ndim - 2
    return k.transpose((n, n + 1) + tuple(range(n))).reshape((-1, 1) + k.shape[:n])


def last_two_first(k):
    """[k.., O, I] to [I, O, k..]"""
    n = k.ndim - 2
    return k.transpose((n + 1, n) + tuple(range(n)))


def head_parts(name_of, h, out="out"):
    """Attention as Flax and Keras have it: kernels [E,H,D], the last one [H,D,E]."""
    for role, part in zip("qkv", ("query", "key", "value")):
        yield turned(name_of(part, "kernel"), role + ".w",
                     lambda w: w.T.reshape(w.shape[1], h, -1),
                     lambda k: k.reshape(k.shape[0], -1).T)
        yield turned(name_of(part, "bias"), role + ".b", lambda b: b.reshape(h, -1),
                     lambda b: b.reshape(-1))
    yield turned(name_of(out, "kernel"), "o.w", lambda w: w.T.reshape(h, -1, w.shape[0]),
                 lambda k: k.reshape(-1, k.shape[-1]).T)
    yield same(name_of(out, "bias"), "o.b")


# ---- the frameworks: the leaves of a layer ----

CELLS = {"lstm": "ifgo", "gru": "rzn", "rnn": "h"}
DIRECTIONS = {"bigru": (("there ", "_l0"), ("back ", "_l0_reverse"))}


def directions(layer):
    """(kind, [(prefix of roles, suffix of torch's names)]) of a recurrent layer."""
    return layer.kind.removeprefix("bi"), DIRECTIONS.get(layer.kind, (("", "_l0"),))


def pytorch(layer):
    n, kind = layer.name, layer.kind
    if kind == "value":
        yield same(n, "w")
    elif kind == "mha":
        yield joined(n + ".in_proj_weight", ["q.w", "k.w", "v.w"])
        yield joined(n + ".in_proj_bias", ["q.b", "k.b", "v.b"])
        yield same(n + ".out_proj.weight", "o.w")
        yield same(n + ".out_proj.bias", "o.b")
    elif kind.removeprefix("bi") in CELLS:
        cell, ways = directions(layer)
        for at, end in ways:
            for side in ("ih", "hh"):
                for what, letter in (("weight", "w"), ("bias", "b")):
                    yield joined(f"{n}.{what}_{side}{end}",
                                 gates(at + letter + side[0], CELLS[cell]))
    else:
        yield same(n + ".weight", "w")
        if layer.bias and kind not in ("rms", "embed"):
            yield same(n + ".bias", "b")
        if kind == "bn":
            yield same(n + ".running_mean", "mean")
            yield same(n + ".running_var", "var")
            yield fixed(n + ".num_batches_tracked", np.array(0, np.int64))


# Hugging Face's names for those of models.py: of layers, then within blocks, then of attention
PARTS = {k: f"{k}_proj" for k in "qkvo"}
HF = {"bert": ({"words": "bert.embeddings.word_embeddings",
                "types": "bert.embeddings.token_type_embeddings",
                "positions": "bert.embeddings.position_embeddings",
                "norm": "bert.embeddings.LayerNorm", "head": "classifier",
                "blocks": "bert.encoder.layer"},
               {"norm1": "attention.output.LayerNorm", "norm2": "output.LayerNorm",
                "attn": "attention", "fc1": "intermediate.dense", "fc2": "output.dense"},
               {"q": "self.query", "k": "self.key", "v": "self.value", "o": "output.dense"}),
      "decoder": ({"embed": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head",
                   "layers": "model.layers"},
                  {"norm1": "input_layernorm", "norm2": "post_attention_layernorm",
                   **{f"{k}_proj": f"self_attn.{k}_proj" for k in "qkvo"},
                   **{f"{k}_proj": f"mlp.{k}_proj" for k in ("gate", "up", "down")}}, PARTS),
      "vit_hf": ({"patch_embed": "vit.embeddings.patch_embeddings.projection",
                  "cls_token": "vit.embeddings.cls_token",
                  "position": "vit.embeddings.position_embeddings", "norm": "vit.layernorm",
                  "head": "classifier", "blocks": "vit.layers"},
                 {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn": "attention",
                  "fc1": "mlp.fc1", "fc2": "mlp.fc2"}, PARTS)}


def hf(layer, model):
    outer, inner, parts = HF[model]
    first, *rest = layer.name.split(".")
    n = outer[first] + "".join(f".{inner.get(p, p)}" for p in rest)
    if layer.kind == "mha":
        for role in "qkvo":
            yield same(f"{n}.{parts[role]}.weight", role + ".w")
            yield same(f"{n}.{parts[role]}.bias", role + ".b")
    else:
        yield from pytorch(layer._replace(name=n))


def equinox(layer):
    n, kind = layer.name, layer.kind
    if kind == "value":
        yield same(n, "w")
    elif kind == "mha":
        for role, part in zip("qkvo", ("query", "key", "value", "output")):
            yield same(f"{n}.{part}_proj.weight", role + ".w")
            yield same(f"{n}.{part}_proj.bias", role + ".b")
        yield fixed(n + ".dropout.p", np.array(0.0))
        yield fixed(n + ".dropout.inference", np.array(False))
    elif kind.removeprefix("bi") in CELLS:
        cell, ways = directions(layer)
        for at, end in ways:
            where = n + (end.replace("_", ".", 1) if kind == "bigru" else "")
            yield joined(where + ".weight_ih", gates(at + "wi", CELLS[cell]))
            yield joined(where + ".weight_hh", gates(at + "wh", CELLS[cell]))
            if cell == "lstm":
                yield sums(where + ".bias", "ifgo", at)
            else:
                two = sums("", "rz", at)
                yield Leaf(where + ".bias", two.roles + (at + "bi.n",),
                           lambda *p, two=two: np.concatenate([two.there(*p[:-1]), p[-1]]),
                           lambda a, two=two: two.back(a[:len(a) // 3 * 2]) + [a[len(a) // 3 * 2:]])
                yield same(where + ".bias_n", at + "bh.n")
    else:
        if kind == "up":
            yield turned(n + ".weight", "w", lambda w: layouts_jax.flipped(w).swapaxes(0, 1),
                         lambda w: layouts_jax.flipped(w).swapaxes(0, 1))
        else:
            yield same(n + ".weight", "w")
        if kind in ("conv", "up") and layer.bias:
            yield shaped(n + ".bias", "b", (-1,) + (1,) * layer.space)
        elif layer.bias and kind not in ("rms", "embed"):
            yield same(n + ".bias", "b")
        if kind == "bn":
            yield fixed(n + ".inference", np.array(False))
            yield fixed(n + ".ema_first_time_index", np.array(False))
            yield same(n + ".ema_state_index.0", "mean")
            yield same(n + ".ema_state_index.1", "var")


def flax_like(layer, at, norm_state):
    """Linen and NNX: at(leaf path) names a parameter, norm_state(leaf) a running statistic."""
    kind = layer.kind
    if kind == "value":
        yield same(at(), "w")
    elif kind == "mha":
        yield from head_parts(at, layer.heads)
    elif kind == "embed":
        yield same(at("embedding"), "w")
    elif kind in ("bn", "ln", "gn", "rms"):
        yield same(at("scale"), "w")
        if kind != "rms":
            yield same(at("bias"), "b")
        if kind == "bn":
            yield same(norm_state("mean"), "mean")
            yield same(norm_state("var"), "var")
    else:
        yield {"dense": lambda: dense(at("kernel"), layer),
               "conv": lambda: turned(at("kernel"), "w", layouts.conv, layouts.conv_back),
               "up": lambda: turned(at("kernel"), "w", layouts.conv_transpose,
                                    layouts.conv_transpose_back)}[kind]()
        if layer.bias:
            yield same(at("bias"), "b")


def transposed(name, role):
    return turned(name, role, np.transpose, np.transpose)


def flax(layer):
    where = layer.stack + "/" + layer.name.split(f"{layer.stack}.{layer.place}.")[1] \
        if layer.stack else layer.name
    where = where.replace(".", "_")

    def at(*leaf, end=""):
        return "/".join(("params", where + end) + leaf)
    if layer.kind == "conv_lstm":
        yield from conv_lstm(at, "ih", "hh", "kernel", "bias")
        return
    if layer.kind.removeprefix("bi") not in CELLS:
        yield from flax_like(layer, at, lambda leaf: f"batch_stats/{where}/{leaf}")
        return
    cell, ways = directions(layer)
    for way, end in ways:
        here = functools.partial(at, end=end if layer.kind == "bigru" else "")
        for g in CELLS[cell]:
            i, h = ("i", "h") if cell == "rnn" else ("i" + g, "h" + g)
            yield transposed(here(i, "kernel"), f"{way}wi.{g}")
            yield transposed(here(h, "kernel"), f"{way}wh.{g}")
            if cell == "gru" and g == "n":
                yield same(here(i, "bias"), f"{way}bi.n")
                yield same(here(h, "bias"), f"{way}bh.n")
            else:  # an LSTM's bias is on the state's side, the others' on the input's
                yield sums(here(h if cell == "lstm" else i, "bias"), g, way)


def nnx(layer):
    name = layer.name.replace(f"{layer.stack}.{layer.place}.", layer.stack + ".", 1) \
        if layer.stack else layer.name
    parts = name.split(".")
    where = "/".join([p if p[0].isalpha() else "_" + p for p in parts[:-1]] + parts[-1:])

    def at(*leaf):
        return "/".join((where,) + leaf)
    if layer.kind not in CELLS:
        yield from flax_like(layer, at, at)
        return
    letters = CELLS[layer.kind]
    yield joined(at("dense_i", "kernel"), gates("wi", letters), 1, True)
    yield joined(at("dense_h", "kernel"), gates("wh", letters), 1, True)
    yield sums(at("dense_h" if layer.kind == "lstm" else "dense_i", "bias"), letters)


def haiku(layer):
    n, kind = layer.name.replace(".", "_"), layer.kind
    if kind == "value":
        yield same(f"0/~/{n}", "w")
    elif kind == "mha":
        for role, part in zip("qkvo", ("query", "key", "value", "linear")):
            yield transposed(f"0/{n}/{part}/w", role + ".w")
            yield same(f"0/{n}/{part}/b", role + ".b")
    elif kind == "embed":
        yield same(f"0/{n}/embeddings", "w")
    elif kind == "conv_lstm":
        yield from conv_lstm(lambda *leaf: "/".join(("0", n) + leaf), "input_to_hidden",
                             "hidden_to_hidden", "w", "b")
    elif kind == "lstm":
        order = "igfo"

        def there(*parts):  # rows of the input, then of the state; gates in columns
            return np.concatenate([np.concatenate([p.T for p in half], 1)
                                   for half in (parts[:4], parts[4:])])

        def back(a):
            width = a.shape[1] // 4
            return [p.T for half in (a[:-width], a[-width:]) for p in np.split(half, 4, 1)]
        yield Leaf(f"0/{n}/linear/w", tuple(gates("wi", order) + gates("wh", order)), there, back)
        yield sums(f"0/{n}/linear/b", order, less="f")
    elif kind in ("bn", "ln", "gn", "rms"):
        shape = (1,) * (layer.rank - 1) + (-1,) if kind == "bn" else (-1,)
        yield shaped(f"0/{n}/scale", "w", shape)
        if kind != "rms":
            yield shaped(f"0/{n}/offset", "b", shape)
        for what in ("mean", "var") if kind == "bn" else ():
            average = shaped(f"1/{n}/~/{what}_ema/average", what, shape)
            yield average
            yield average._replace(name=f"1/{n}/~/{what}_ema/hidden", back=None)
            yield fixed(f"1/{n}/~/{what}_ema/counter", np.array(layouts_jax.MANY, np.int32))
    else:
        yield {"dense": lambda: dense(f"0/{n}/w", layer),
               "conv": lambda: turned(f"0/{n}/w", "w", layouts.conv, layouts.conv_back),
               "up": lambda: turned(f"0/{n}/w", "w", layouts_jax.hk_conv_transpose,
                                    lambda k: layouts_jax.flipped(last_two_first(k)))}[kind]()
        if layer.bias:
            yield same(f"0/{n}/b", "b")


def keras(layer, depthwise="kernel", conv_cell=("conv_lstm_cell",)):
    n, kind = layer.name.replace(".", "_"), layer.kind

    def at(*leaf):
        return "/".join((n,) + leaf)
    if kind == "value":
        yield same(at("value"), "w")
    elif kind == "mha":
        yield from head_parts(at, layer.heads, "attention_output")
    elif kind == "embed":
        yield same(at("embeddings"), "w")
    elif kind == "rms":
        yield same(at("scale"), "w")
    elif kind == "conv_lstm":
        yield kernels(at(*conv_cell, "kernel"), "wi", "ifgo")
        yield kernels(at(*conv_cell, "recurrent_kernel"), "wh", "ifgo")
        yield conv_lstm_bias(at(*conv_cell, "bias"), "ifgo")
    elif kind in ("bn", "ln", "gn"):
        for leaf, role in (("gamma", "w"), ("beta", "b")) + (
                (("moving_mean", "mean"), ("moving_variance", "var")) if kind == "bn" else ()):
            yield same(at(leaf), role)
    elif kind.removeprefix("bi") in CELLS:
        cell, ways = directions(layer)
        order = {"gru": "zrn"}.get(cell, CELLS[cell])
        inner = {"rnn": "simple_rnn"}.get(cell, cell)
        for way, end in ways:
            here = functools.partial(at, inner + "_cell")
            if kind == "bigru":
                here = functools.partial(at, "backward_gru" if "reverse" in end else "forward_gru",
                                         "gru_cell")
            yield joined(here("kernel"), gates(way + "wi", order), 1, True)
            yield joined(here("recurrent_kernel"), gates(way + "wh", order), 1, True)
            if cell == "gru":  # [2, 3H]: the input's, the state's
                yield Leaf(here("bias"), tuple(gates(way + "bi", order) + gates(way + "bh", order)),
                           lambda *p: np.concatenate(p).reshape(2, -1),
                           lambda a: np.split(a.reshape(-1), 6))
            else:
                yield sums(here("bias"), order, way)
    else:
        if kind == "conv" and layer.one:
            yield turned(at(depthwise), "w",
                         lambda w: keras_layouts.depthwise(w, layer.channels), depthwise_back)
        else:
            yield {"dense": lambda: dense(at("kernel"), layer),
                   "conv": lambda: turned(at("kernel"), "w", layouts.conv, layouts.conv_back),
                   "up": lambda: turned(at("kernel"), "w", keras_layouts.conv_transpose,
                                        last_two_first)}[kind]()
        if layer.bias:
            yield same(at("bias"), "b")


FRAMEWORKS = {
    "pytorch": pytorch, "hf": hf, "equinox": equinox, "flax": flax, "nnx": nnx, "haiku": haiku,
    "keras": keras, "tensorflow": functools.partial(keras, depthwise="depthwise_kernel",
                                                  conv_cell=()),
}
STACKING = ("flax", "nnx")  # they keep equal blocks in one, along a first axis


def leaves(framework, model):
    """(layer, leaf, place in the stack or None) of each tensor of a network."""
    for layer in layers_of(model):
        stacked = layer.stacked and framework in STACKING
        if not stacked:
            layer = layer._replace(stack="")
        more = (model,) if framework == "hf" else ()
        for leaf in FRAMEWORKS[framework](layer, *more):
            yield layer, leaf, layer.place if stacked else None


def between(framework, model, tensors):
    """{(layer, role): array} out of {name: array}; a tensor of no layer is a failure."""
    out, used = {}, set()
    for layer, leaf, place in leaves(framework, model):
        used.add(leaf.name)
        need(leaf.name in tensors, f"checker: {framework} has no {leaf.name}")
        a = tensors[leaf.name]
        if leaf.back:
            parts = leaf.back(a if place is None else a[place])
            out.update({(layer.name, role): part for role, part in zip(leaf.roles, parts)})
    need(used == set(tensors), f"checker: unknown to it: {sorted(set(tensors) - used)[:4]}")
    return out


def expected(framework, model, parts):
    """{name: (array, bound or None)}"""
    out, stacks = {}, {}
    for layer, leaf, place in leaves(framework, model):
        own = [parts[layer.name, role] for role in leaf.roles]
        a = leaf.there(*own)
        if place is None:
            out[leaf.name] = a, leaf.bound(*own) if leaf.bound else None
        else:
            stacks.setdefault(leaf.name, []).append(a)
    return {**out, **{name: (np.stack(rows), None) for name, rows in stacks.items()}}


def differing(got, want):
    """Names of the tensors that are not the same bits, or not within their bound."""
    def same_tensor(a, b, bound):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        return a.tobytes() == b.tobytes() or bound is not None and bool(
            (np.abs(a - b) <= bound).all())
    need(set(got) == set(want), f"checker: names {sorted(set(got) ^ set(want))[:4]}")
    return sorted(k for k, (a, bound) in want.items() if not same_tensor(got[k], a, bound))


def check(source, target, model, from_a, in_b):
    """{name: array} as the frameworks' own objects hold them."""
    wrong = differing(in_b, expected(target, model, between(source, model, from_a)))
    need(not wrong, f"checker: {wrong[:6]} are not what the formulas give")


def spoiled(tensors, name, number, layer):
    """The same with an error in one tensor, another kind for each number; layer: {name: whose}."""
    a = tensors[name]
    others = [k for k, v in tensors.items() if layer[k] != layer[name] and v.shape == a.shape and
              v.dtype == a.dtype and v.tobytes() != a.tobytes()]
    if number % 3 == 0 and others:  # two layers changed places
        return {**tensors, name: tensors[others[0]], others[0]: a}
    if number % 3 == 1 and a.ndim > 1:  # two axes did
        turned = np.swapaxes(a, 0, 1).reshape(a.shape)
        if turned.tobytes() != a.tobytes():
            return {**tensors, name: turned}
    other = a.copy()  # or one number is another
    other.flat[0] = 2 * other.flat[0] + 1
    return {**tensors, name: other}


def sees(source, target, model, from_a, in_b):
    """Every tensor counts: an error planted in any of A's that is read is found in B's."""
    layer, kept = {}, []
    for at, leaf, _ in leaves(source, model):
        kept += [leaf.name] if leaf.back and leaf.name not in layer else []
        layer[leaf.name] = at.name
    need(kept, "checker: reads nothing")
    for number, name in enumerate(kept):
        want = expected(target, model, between(
            source, model, spoiled(from_a, name, number, layer)))
        need(differing(in_b, want), f"checker: blind to an error in {name}")
