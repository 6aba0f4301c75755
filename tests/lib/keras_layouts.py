"""What a PyTorch layer's tensors look like in Keras, as formulas over numpy arrays: the list that
the Keras layer's get_weights gives.

Written from Keras's documentation of its layers, not from src. The suite keras_twins compares what
the real framework loaded with what these functions compute, and runs both networks.

A layer is a dict: {"kind", "torch": dotted module path, "keras": name of the Keras layer, kind's
own keys}. Kinds and their keys beside those of layouts.py:

    depthwise    channels     torch [C*m,1,k..]; DepthwiseConv kernel [k..,C,m]
    separable    channels     "torch" and "torch2": depthwise, then 1x1; SeparableConv
    conv_transpose            torch [I,O,k..]; Conv2DTranspose kernel [k..,O,I], not flipped
"""

import numpy as np

import layouts


def depthwise(w, channels):
    m = w.shape[0] // channels
    w = w.reshape((channels, m) + w.shape[2:])
    return w.transpose(tuple(range(2, w.ndim)) + (0, 1))


def conv_transpose(w):
    return w.transpose(tuple(range(2, w.ndim)) + (1, 0))


def attention(own, heads):
    e = own["in_proj_weight"].shape[1]
    d = e // heads
    out = []
    for w, b in zip(np.split(own["in_proj_weight"], 3), np.split(own["in_proj_bias"], 3)):
        out += [w.T.reshape(e, heads, d), b.reshape(heads, d)]
    return out + [own["out_proj.weight"].T.reshape(heads, d, e), own["out_proj.bias"]]


def weights(layer, sd):
    """[array] of one layer, in get_weights' order."""
    kind, own = layer["kind"], layouts.torch_leaves(layer, sd)
    if kind == "attention":
        return attention(own, layer["heads"])
    if kind == "embedding":
        return [own["weight"]]
    if kind in ("batchnorm", "layernorm", "groupnorm"):
        return [own[k] for k in ("weight", "bias", "running_mean", "running_var") if k in own]
    w = own["weight"]
    if kind == "separable":
        second = layouts.torch_leaves({"torch": layer["torch2"]}, sd)
        out = [depthwise(w, layer["channels"]), layouts.conv(second["weight"])]
        return out + ([second["bias"]] if "bias" in second else [])
    k = {"linear": layouts.linear, "conv": layouts.conv, "conv_transpose": conv_transpose,
         "flat_linear": lambda w: layouts.flat_linear(w, layer["chw"]),
         "depthwise": lambda w: depthwise(w, layer["channels"])}[kind](w)
    return [k] + ([own["bias"]] if "bias" in own else [])
