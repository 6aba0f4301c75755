"""What a PyTorch layer's tensors look like in Haiku and Equinox, as formulas over numpy arrays.

As layouts.py, whose layers are meant here too; written from the frameworks' documentation and
proved by running the layers (tests/interop/haiku_eqx_twins.py).

    linear        Haiku w [I,O], b; Equinox weight [O,I], bias
    flat_linear   Haiku w [H*W*C,O]; Equinox as torch
    conv          Haiku w [k..,I/g,O]; Equinox weight [O,I/g,k..], bias [O,1..]
    conv_transpose  torch [I,O,k..]; Haiku w [k..,O,I], Equinox weight [O,I,k..], both flipped
    batchnorm     Haiku scale, offset [1,..,1,C]; averages of shape [1,..,1,C] below ~/mean_ema and
                  ~/var_ema; Equinox weight, bias and a state of its own
    embedding     Haiku embeddings, Equinox weight
    attention     Haiku query, key, value, linear; Equinox query_proj .. output_proj
"""

import numpy as np

from layouts import conv, flat_linear, torch_leaves

MANY = 1 << 30  # updates: no average is debiased any more


def flipped(w):
    return w[(slice(None), slice(None)) + (slice(None, None, -1),) * (w.ndim - 2)]


def hk_conv_transpose(w):
    n = w.ndim - 2
    return flipped(w).transpose(tuple(range(2, n + 2)) + (1, 0))


def parts(own):
    """{q, k, v, o: (weight, bias or None)} of torch's fused attention."""
    e = own["in_proj_weight"].shape[1]
    bias = own.get("in_proj_bias")
    out = {n: (own["in_proj_weight"][i * e:(i + 1) * e],
               None if bias is None else bias[i * e:(i + 1) * e]) for i, n in enumerate("qkv")}
    out["o"] = own["out_proj.weight"], own.get("out_proj.bias")
    return out


def to_haiku(layers, sd, axes):
    """{"params" or "state": {module: {name: array}}}; axes: of the batch norms' inputs, by path."""
    params, state = {}, {}
    for layer in layers:
        kind, path = layer["kind"], layer["torch"].replace(".", "/")
        own = torch_leaves(layer, sd)
        if kind == "attention":
            for name, part in zip(("query", "key", "value", "linear"), "qkvo"):
                w, b = parts(own)[part]
                params[f"{path}/{name}"] = {"w": w.T} | ({} if b is None else {"b": b})
            continue
        mine = params.setdefault(path, {})
        for name, a in own.items():
            if kind == "batchnorm" and name != "num_batches_tracked":
                a = a.reshape((1,) * (axes[layer["torch"]] - 1) + (-1,))
            if name.startswith("running_"):
                state[f"{path}/~/{name[8:]}_ema"] = {"average": a, "hidden": a,
                                                     "counter": np.array(MANY, np.int32)}
            elif kind in ("batchnorm", "layernorm", "groupnorm"):
                if name != "num_batches_tracked":
                    mine[{"weight": "scale", "bias": "offset"}[name]] = a
            elif name == "bias":
                mine["b"] = a
            elif kind == "embedding":
                mine["embeddings"] = a
            else:
                mine["w"] = {"linear": np.transpose, "conv": conv,
                             "conv_transpose": hk_conv_transpose,
                             "flat_linear": lambda w: flat_linear(w, layer["chw"])}[kind](a)
    return {"params": params} | ({"state": state} if state else {})
