#!/usr/bin/env python3
"""Makes the safetensors goldens with the safetensors package: gen_safetensors.py FOLDER."""

import json
import pathlib
import sys

import safetensors
import safetensors.torch as st
import torch

import expected
from gen_torch import DTYPES, NAME_OF, canonical, from_bytes, raw_bytes

MADE_BY = f"safetensors {safetensors.__version__}, torch {torch.__version__.split('+')[0]}"


def takes(t):
    """Does this package save that? Older ones know not every type, and no tensor of nothing."""
    try:
        return bool(st.save({"t": t}))
    except (KeyError, ValueError):
        return False


def save(path, tensors, metadata=None, **kw):
    st.save_file(tensors, path, metadata)
    back = st.load_file(path)
    assert back.keys() == tensors.keys()
    expected.write(path, MADE_BY, [(n, NAME_OF[t.dtype], tuple(t.shape), canonical(t))
                                   for n, t in back.items()], **kw)


def packed_types(out):
    packed = torch.arange(8, dtype=torch.uint8).mul(17).reshape(2, 4)
    if not takes(packed.view(torch.float4_e2m1fn_x2)):
        return
    st.save_file({"w": packed.view(torch.float4_e2m1fn_x2)}, out / "float4.safetensors")
    raw = packed.numpy().tobytes()
    expected.write(out / "float4.safetensors", MADE_BY, [
        ("w", "float4_e2m1fn", (2, 8), bytes(v for b in raw for v in (b & 15, b >> 4)))])


def tied(out):
    torch.manual_seed(6)
    net = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False))
    net[1].weight = net[0].weight
    st.save_model(net, str(out / "tied.safetensors"))  # keeps one name, the other in metadata
    back = st.load_file(out / "tied.safetensors")
    (kept, t), = back.items()
    removed, = {n for n, _ in net.named_parameters(remove_duplicate=False)} - {kept}
    expected.write(out / "tied.safetensors", MADE_BY, [
        (n, NAME_OF[t.dtype], tuple(t.shape), canonical(t)) for n in (kept, removed)],
        [(kept, removed)])


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    every = {n: from_bytes(raw_bytes(n, item), dt, (3, 2)) for n, (dt, item) in DTYPES.items()
             if n not in ("complex32", "complex128")}
    every = {n: t for n, t in every.items() if takes(t)}
    save(out / "dtypes.safetensors", every, {"format": "pt"})
    packed_types(out)
    empty = torch.empty(0, 3)
    save(out / "shapes.safetensors", {
        "zero_d": torch.tensor(1.5), **({"zero_size": empty} if takes(empty) else {}),
        "caf\u00e9 \"quoted\"\\\u00e9\U0001f600": torch.ones(1), "a.b.c": torch.arange(3.0),
        "a/b": torch.zeros(1, 1, 1, 1, dtype=torch.uint8), "../x": torch.ones(2)})
    save(out / "no_name.safetensors", {"": torch.arange(2), "w": torch.ones(1)})
    save(out / "empty.safetensors", {}, {"note": "no tensor at all", "json": "{\"a\": 1}"})
    if hasattr(st, "save_model"):
        tied(out)

    shards = out / "sharded"
    shards.mkdir(exist_ok=True)
    torch.manual_seed(5)
    parts = [{"h.0.w": torch.randn(4, 4), "h.0.b": torch.randn(4)},
             {"h.1.w": torch.randn(4, 4).to(torch.bfloat16)},
             {"h.1.b": torch.randn(4), "wte.weight": torch.randn(6, 4)}]
    weight_map, total, listed = {}, 0, []
    for i, part in enumerate(parts):
        name = f"model-{i + 1:05}-of-{len(parts):05}.safetensors"
        st.save_file(part, shards / name, {"format": "pt"})
        for n, t in part.items():
            weight_map[n] = name
            total += t.numel() * t.element_size()
            listed.append((n, NAME_OF[t.dtype], tuple(t.shape), canonical(t)))
    (shards / "model.safetensors.index.json").write_text(json.dumps(
        {"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2, sort_keys=True))
    (shards / "config.json").write_text('{"model_type": "gpt2", "n_head": 2}\n')
    expected.write(shards, MADE_BY, listed)


if __name__ == "__main__":
    main(sys.argv[1])
