"""What is folded or merged on request.

The weights that torch's weight and spectral norms (hooks and parametrizations),
Flax's and Equinox's WeightNorm and peft's adapters make up, computed by --fold-norms and
--merge-lora, against what the framework itself computes, and of adapters against formulas in numpy
too; the same bytes whatever the threads. peft lives in a folder of its own (requirements-peft.txt)
and runs in a process of its own, peft_side.py.
"""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import torch

from common import ROOT, arrays, convert, fresh, need, same_tensors
from lora_net import TARGETS, Adapted

PEFT = os.environ.get("NNFERRY_PEFT", str(ROOT / "build" / "peft"))

DTYPES = {"float32": (torch.float32, 1e-5, 1e-6), "float64": (torch.float64, 1e-9, 0.0)}


def close(got, ref, precision):
    _, rtol, atol = DTYPES[precision]
    need(got.shape == ref.shape, f"shape {got.shape}, expected {ref.shape}")
    need(np.allclose(got, ref, rtol=rtol, atol=atol),
         f"outputs differ by {np.abs(got - ref).max():.3g}")


def refused(code, source, target, *options):
    got = convert(source, target, *options, exit=4)
    need(f"{code}:" in got.stderr, f"not refused as {code}: {got.stderr.strip()[-300:]}")


# ---- norms ----


def normed(wrap, dtype):
    net = torch.nn.ModuleDict({"fc": wrap(torch.nn.Linear(5, 4)),
                               "conv": wrap(torch.nn.Conv2d(3, 6, 3)),
                               "deconv": wrap(torch.nn.ConvTranspose2d(3, 6, 3))}).to(dtype)
    draw = np.random.default_rng(5)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.from_numpy(draw.normal(size=tuple(p.shape))))
        for _ in range(3):
            for layer in net.values():
                layer(torch.from_numpy(draw.normal(size=input_of(layer))).to(dtype))
    return net.eval()


def input_of(layer):
    return (2, 5) if hasattr(layer, "in_features") else (2, 3, 5, 5)


NORMS = {
    "weight hook": lambda m: torch.nn.utils.weight_norm(m),
    "weight hook, all": lambda m: torch.nn.utils.weight_norm(m, dim=None),
    "weight hook, axis 1": lambda m: torch.nn.utils.weight_norm(m, dim=1),
    "weight": lambda m: torch.nn.utils.parametrizations.weight_norm(m),
    "spectral hook": lambda m: torch.nn.utils.spectral_norm(m),
    "spectral": lambda m: torch.nn.utils.parametrizations.spectral_norm(m),
}


def norms(name, precision):
    import warnings
    warnings.simplefilter("ignore")
    dtype, _, _ = DTYPES[precision]
    where = fresh("folds")
    net = normed(NORMS[name], dtype)
    torch.save(net.state_dict(), where / "in.pt")
    want = {}
    with torch.no_grad():
        for k, layer in net.items():
            layer(torch.zeros(input_of(layer), dtype=dtype))
            want[f"{k}.weight"] = layer.weight.detach().numpy()
            want[f"{k}.bias"] = layer.bias.numpy()
    refused("norm-unfolded", where / "in.pt", where / "out.msgpack", "--to", "flax")
    for threads in (1, 2):
        convert(where / "in.pt", where / f"out{threads}.pt", "--fold-norms", "-j", threads)
    need((where / "out1.pt").read_bytes() == (where / "out2.pt").read_bytes(),
         "threads show in the result")
    got = torch.load(where / "out1.pt", weights_only=True)
    need(set(got) == set(want), f"names {sorted(got)}")
    for k, w in want.items():
        close(got[k].numpy(), w, precision)
    # through another framework and back: what was folded stays as it is
    convert(where / "in.pt", where / "out.msgpack", "--to", "flax", "--fold-norms")
    convert(where / "out.msgpack", where / "back.pt", "--to", "pytorch")
    back = torch.load(where / "back.pt", weights_only=True)
    same_tensors(arrays({k: v.numpy() for k, v in back.items()}),
                 arrays({k: v.numpy() for k, v in got.items()}), "by way of flax")


def flax_norms(precision):
    import flax.linen as nn
    from flax import serialization

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            kind = {"dtype": precision, "param_dtype": precision}
            x = nn.WeightNorm(nn.Dense(4, **kind), param_dtype=precision)(x)
            return nn.WeightNorm(nn.Dense(3, **kind), param_dtype=precision)(x)

    where, draw = fresh("folds"), np.random.default_rng(6)
    x = draw.normal(size=(2, 5)).astype(precision)
    tree = Net().init(jax.random.PRNGKey(0), x)
    tree = jax.tree_util.tree_map(lambda a: draw.normal(size=a.shape).astype(precision), tree)
    (where / "in.msgpack").write_bytes(serialization.to_bytes(tree))
    refused("norm-unfolded", where / "in.msgpack", where / "out.pt", "--to", "pytorch")
    convert(where / "in.msgpack", where / "out.pt", "--to", "pytorch", "--fold-norms")
    sd = torch.load(where / "out.pt", weights_only=True)
    y = torch.from_numpy(x)
    for k in ("Dense_0", "Dense_1"):
        y = torch.nn.functional.linear(y, sd[f"{k}.weight"], sd[f"{k}.bias"])
    close(y.numpy(), np.asarray(Net().apply(tree, x)), precision)
    sn = nn.SpectralNorm(nn.Dense(4)).init(jax.random.PRNGKey(0), x, update_stats=False)
    (where / "sn.msgpack").write_bytes(serialization.to_bytes(sn))
    refused("fold-steps", where / "sn.msgpack", where / "out.pt", "--to", "pytorch",
            "--fold-norms")


def equinox_norms(precision):
    import equinox as eqx
    where, draw = fresh("folds"), np.random.default_rng(7)
    layer = eqx.nn.Linear(5, 4, dtype=precision, key=jax.random.PRNGKey(0))
    layer = eqx.nn.WeightNorm(layer)
    g = jnp.asarray(draw.normal(size=layer.g.shape).astype(precision))
    layer = eqx.tree_at(lambda m: m.g, layer, g)
    held = {"fc.layer.weight": layer.layer.weight, "fc.layer.bias": layer.layer.bias,
            "fc.g": layer.g}
    with open(where / "in.eqx", "wb") as f:
        f.write(json.dumps({"nnferry.leaves": list(held)}).encode() + b"\n")
        for array in held.values():
            np.save(f, np.asarray(array))
    x = draw.normal(size=5).astype(precision)
    convert(where / "in.eqx", where / "out.pt", "--from", "equinox", "--to", "pytorch",
            "--fold-norms")
    sd = torch.load(where / "out.pt", weights_only=True)
    need(set(sd) == {"fc.weight", "fc.bias"}, f"names {sorted(sd)}")
    close(torch.nn.functional.linear(torch.from_numpy(x), sd["fc.weight"], sd["fc.bias"]).numpy(),
          np.asarray(layer(jnp.asarray(x))), precision)


# ---- LoRA ----


CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "fan_in_fan_out": False}
CHANGES = ({}, {"use_rslora": True}, {"alpha_pattern": {"sq": 5}})


def by_formula(where, base, changes):
    """An adapter as peft writes it, and what merging it gives."""
    from safetensors.numpy import save_file
    config = {**CONFIG, **changes}
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    draw, merged, held = np.random.default_rng(8), dict(base), {}
    for k in TARGETS:
        w = base[f"{k}.weight"].astype("float64")
        rows, cols = w.shape[0], w[0].size
        a = draw.normal(size=(2, *w.shape[1:])).astype("float32")
        b = draw.normal(size=(rows, 2)).astype("float32")
        if k == "embed":
            a, b = b.T.copy(), a.T.copy()
            delta = (b.astype("float64") @ a.astype("float64")).T
            held[f"base_model.model.{k}.lora_embedding_A"] = a
            held[f"base_model.model.{k}.lora_embedding_B"] = b
        else:
            delta = b.astype("float64") @ a.reshape(2, cols).astype("float64")
            held[f"base_model.model.{k}.lora_A.weight"] = a
            held[f"base_model.model.{k}.lora_B.weight"] = b if w.ndim == 2 else b[:, :, None, None]
        of = config.get("alpha_pattern", {}).get(k)
        s = scale if of is None else of / 2
        merged[f"{k}.weight"] = (w + s * delta.reshape(w.shape)).astype("float32")
    (where / "ad").mkdir()
    save_file(held, where / "ad" / "adapter_model.safetensors")
    (where / "ad" / "adapter_config.json").write_text(json.dumps(config))
    return merged


def peft_version():
    found = importlib.metadata.distributions(name="peft", path=[PEFT])
    return next((d.version for d in found), "not installed")


def peft_side(where):
    """peft's files for each of CHANGES, all at once: it takes its time to start."""
    here = pathlib.Path(__file__).parent
    path = os.pathsep.join(p for p in (PEFT, os.environ.get("PYTHONPATH")) if p)
    got = subprocess.run([sys.executable, here / "peft_side.py", where, json.dumps(CHANGES)],
                         capture_output=True, text=True, timeout=600,
                         env={**os.environ, "PYTHONPATH": path})
    lines = got.stdout.strip().splitlines()
    need(got.returncode == 0 and lines, f"peft of {PEFT} (NNFERRY_PEFT): {got.stderr[-600:]}")
    versions = json.loads(lines[-1])
    need(versions["peft"] == peft_version(), f"another peft ran: {versions}")
    return " and ".join(f"{n} {v}" for n, v in versions.items())


def lora(where, real, changes):
    """where: of peft's files; a folder for those by formula."""
    if real:
        merged = dict(np.load(where / "merged.npz"))
    else:
        torch.manual_seed(0)
        net = Adapted()
        torch.save(net.state_dict(), where / "base.pt")
        merged = by_formula(where, {k: v.numpy() for k, v in net.state_dict().items()}, changes)
    sources = [("base.pt", "ad")]
    if real:
        sources += [("whole.pt", "ad"), ("whole.pt", "ad/adapter_config.json")]
    for source, adapter in sources:
        convert(where / source, where / "out.pt", "--merge-lora", where / adapter)
        got = torch.load(where / "out.pt", weights_only=True)
        need(set(got) == set(merged), f"names {sorted(got)}")
        for k, w in merged.items():
            close(got[k].numpy(), w, "float32")
    convert(where / "base.pt", where / "half.pt", "--merge-lora", where / "ad", "--dtype",
            "bfloat16")
    half = torch.load(where / "half.pt", weights_only=True)
    for k, w in got.items():
        need(torch.equal(half[k], w.to(torch.bfloat16)), f"{k} is not rounded once")
    # an adapter alone is carried as it is
    convert(where / "ad", where / "ad.tar.zst")
    convert(where / "ad.tar.zst", where / "ad.safetensors", "--to", "source")
    from safetensors.numpy import load_file
    same_tensors(arrays(load_file(where / "ad.safetensors")),
                 arrays(load_file(where / "ad" / "adapter_model.safetensors")), "adapter")
    convert(where / "ad", where / "flax.msgpack", "--to", "flax", exit=None)


def lora_of_nnx():
    """nnx.LoRA around a layer and nnx.LoRALinear: kept, and merged, with NNX's own outputs."""
    from flax import nnx, serialization

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.fc = nnx.LoRA(5, 2, 4, base_module=nnx.Linear(5, 4, rngs=rngs), rngs=rngs)
            self.out = nnx.LoRALinear(4, 3, lora_rank=2, rngs=rngs)

        def __call__(self, x):
            return self.out(jax.nn.relu(self.fc(x)))

    where, draw = fresh("folds"), np.random.default_rng(9)
    net = Net(nnx.Rngs(0))
    state = nnx.state(net)
    state = jax.tree_util.tree_map(
        lambda a: jnp.asarray(draw.normal(size=a.shape), jnp.float32)
        if jnp.issubdtype(a.dtype, jnp.floating) else a, state)
    nnx.update(net, state)
    weights = nnx.to_pure_dict(nnx.state(net, (nnx.Param, nnx.LoRAParam)))
    x = draw.normal(size=(2, 5)).astype("float32")
    (where / "in.msgpack").write_bytes(serialization.msgpack_serialize(
        jax.tree_util.tree_map(np.asarray, weights)))
    convert(where / "in.msgpack", where / "kept.tar.zst")
    convert(where / "kept.tar.zst", where / "kept.msgpack", "--to", "source")
    need((where / "kept.msgpack").read_bytes() == (where / "in.msgpack").read_bytes(),
         "an archive gives back other bytes")
    convert(where / "in.msgpack", where / "out.pt", "--from", "nnx", "--to", "pytorch",
            "--merge-lora", where / "in.msgpack")
    sd = torch.load(where / "out.pt", weights_only=True)
    need(set(sd) == {"fc.weight", "fc.bias", "out.weight", "out.bias"}, f"names {sorted(sd)}")
    y = torch.relu(torch.nn.functional.linear(torch.from_numpy(x), sd["fc.weight"], sd["fc.bias"]))
    y = torch.nn.functional.linear(y, sd["out.weight"], sd["out.bias"])
    with jax.default_matmul_precision("highest"):
        close(y.numpy(), np.asarray(net(x)), "float32")


def lora_refused():
    where = fresh("folds")
    net = Adapted()
    base = {k: v.numpy() for k, v in net.state_dict().items()}
    torch.save(net.state_dict(), where / "base.pt")
    by_formula(where, base, {})
    config = where / "ad" / "adapter_config.json"
    for code, change in (("lora-dora", {"use_dora": True}), ("lora-config", {"r": "two"}),
                         ("lora-config", {"peft_type": "IA3"}), ("lora-shape", {"r": 3}),
                         ("lora-pattern", {"alpha_pattern": {"(q|k)_proj": 4}})):
        config.write_text(json.dumps({**CONFIG, **change}))
        refused(code, where / "base.pt", where / "out.pt", "--merge-lora", where / "ad")
    config.write_text(json.dumps(CONFIG))
    torch.save({k: v for k, v in net.state_dict().items() if "q_proj" not in k},
               where / "less.pt")
    refused("lora-base", where / "less.pt", where / "out.pt", "--merge-lora", where / "ad")
    config.unlink()
    refused("lora-config", where / "base.pt", where / "out.pt", "--merge-lora", where / "ad")


def run(tally):
    jax.config.update("jax_enable_x64", True)
    for precision in DTYPES:
        for name in NORMS:
            tally.run(f"norm, {name} {precision}", norms, name, precision)
        tally.run(f"norms of flax {precision}", flax_norms, precision)
        tally.run(f"norms of equinox {precision}", equinox_norms, precision)
    for changes in CHANGES:
        tally.run(f"lora by formula {changes}", lora, fresh("folds"), False, changes)
    where = fresh("folds_peft")
    tally.run("peft", peft_side, where)
    for i, changes in enumerate(CHANGES):
        tally.run(f"lora of peft {changes}", lora, where / str(i), True, changes)
    tally.run("lora of nnx", lora_of_nnx)
    tally.run("lora refused", lora_refused)
