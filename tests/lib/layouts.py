"""What a PyTorch layer's tensors look like in Flax Linen, as formulas over numpy arrays.

Written from the frameworks' documentation of their weights, not from src: the suite
compares nnferry's output with what these functions compute, and proves the functions
themselves by running the layers in both real frameworks (tests/interop/selfcheck.py).

A layer is a dict: {"kind", "torch": dotted module path, "flax": tuple of module names,
kind's own keys}. Kinds and their keys:

    linear                    torch [O,I]; Dense kernel [I,O]
    flat_linear  chw=(C,k..)  torch [O,C*H*W]; Dense kernel [H*W*C,O]
    conv         nd           torch [O,I/g,k..]; Conv kernel [k..,I/g,O]
    conv_transpose nd         torch [I,O,k..]; ConvTranspose kernel [k..,I,O], flipped
    batchnorm                 weight, bias, running_*; scale, bias, batch_stats mean, var
    layernorm, groupnorm      weight, bias; scale, bias
    embedding                 weight [V,D]; embedding [V,D]
    attention    heads        in_proj [3E,E], out_proj [E,E]; query/key/value [E,H,Dh],
                              out [H,Dh,E]
"""

import numpy as np


def linear(w):
    return w.T


def linear_back(k):
    return k.T


def flat_linear(w, chw):
    out = w.shape[0]
    spatial = tuple(range(2, 1 + len(chw)))
    w = w.reshape((out,) + tuple(chw))
    return w.transpose(spatial + (1, 0)).reshape(-1, out)


def flat_linear_back(k, chw):
    c, spatial, out = chw[0], tuple(chw[1:]), k.shape[1]
    n = len(spatial)
    k = k.reshape(spatial + (c, out))
    return k.transpose((n + 1, n) + tuple(range(n))).reshape(out, -1)


def conv(w):
    return w.transpose(tuple(range(2, w.ndim)) + (1, 0))


def conv_back(k):
    n = k.ndim - 2
    return k.transpose((n + 1, n) + tuple(range(n)))


def conv_transpose(w):
    n = w.ndim - 2
    flipped = w[(slice(None), slice(None)) + (slice(None, None, -1),) * n]
    return flipped.transpose(tuple(range(2, w.ndim)) + (0, 1))


def conv_transpose_back(k):
    n = k.ndim - 2
    w = k.transpose((n, n + 1) + tuple(range(n)))
    return w[(slice(None), slice(None)) + (slice(None, None, -1),) * n]


def attention(sd, heads):
    """{leaf path: array} from the four torch tensors (biases may be absent)."""
    e = sd["in_proj_weight"].shape[1]
    dh = e // heads
    out = {}
    for i, name in enumerate(("query", "key", "value")):
        w = sd["in_proj_weight"][i * e:(i + 1) * e]
        out[name, "kernel"] = w.T.reshape(e, heads, dh)
        if "in_proj_bias" in sd:
            out[name, "bias"] = sd["in_proj_bias"][i * e:(i + 1) * e].reshape(heads, dh)
    out["out", "kernel"] = sd["out_proj.weight"].T.reshape(heads, dh, e)
    if "out_proj.bias" in sd:
        out["out", "bias"] = sd["out_proj.bias"]
    return out


NORM = {"weight": "scale", "bias": "bias"}


def torch_leaves(layer, sd):
    """The layer's own tensors out of a state_dict, by leaf name."""
    prefix = layer["torch"] + "." if layer["torch"] else ""
    return {k[len(prefix):]: v for k, v in sd.items() if k.startswith(prefix)}


def to_flax(layers, sd):
    """{(collection, module.., leaf): array} of a whole network; raises if a tensor of sd
    (num_batches_tracked aside) belongs to no layer."""
    out, used = {}, set()
    for layer in layers:
        kind, where = layer["kind"], tuple(layer["flax"])
        own = torch_leaves(layer, sd)
        used.update((layer["torch"] + "." if layer["torch"] else "") + k for k in own)
        if kind == "attention":
            for leaf, a in attention(own, layer["heads"]).items():
                out[("params",) + where + leaf] = a
            continue
        for name, a in own.items():
            if name in ("running_mean", "running_var"):
                out[("batch_stats",) + where + (name[len("running_"):],)] = a
                continue
            if name == "num_batches_tracked":
                continue
            if kind in ("batchnorm", "layernorm", "groupnorm"):
                leaf = NORM[name]
            elif kind == "embedding":
                leaf = "embedding"
            elif name == "bias":
                leaf = "bias"
            else:
                leaf = "kernel"
                a = {"linear": linear, "conv": conv, "conv_transpose": conv_transpose,
                     "flat_linear": lambda w: flat_linear(w, layer["chw"])}[kind](a)
            out[("params",) + where + (leaf,)] = a
    unused = [k for k in sd if k not in used]
    if unused:
        raise ValueError(f"no layer for {unused}")
    return {k: np.ascontiguousarray(a).reshape(a.shape) for k, a in out.items()}


def nest(flat):
    """{path tuple: leaf} to nested dicts."""
    out = {}
    for path, a in flat.items():
        d = out
        for p in path[:-1]:
            d = d.setdefault(p, {})
        d[path[-1]] = a
    return out
