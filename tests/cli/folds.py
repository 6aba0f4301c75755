#!/usr/bin/env python3
"""--fold-norms and --merge-lora from outside: what the ledger, --dry-run and --json say, that the
plan's memory and spool hold, that threads and memory show in no byte, and that a refusal writes
nothing.

    folds.py [BINARY]

Standard library only.
"""

import json
import os
import pathlib
import sys
import tempfile

from common import check, done, floats, run
from lib import read_safetensors, safetensors_bytes  # common says where


def put(path, *tensors):
    path.write_bytes(safetensors_bytes(
        [(n, "F32", s, floats(*v) if isinstance(v, (list, tuple)) else v) for n, s, v in tensors]))
    return path


def norms(d):
    src = put(d / "norm.safetensors", ("a.weight_v", (2, 2), (3, 4, 6, 8)),
              ("a.weight_g", (2, 1), (10, 0)), ("a.bias", (2,), (1, 2)))
    got = run("convert", src, "-o", d / "a.safetensors", "--fold-norms")
    check("the ledger names what is computed and left out", got.returncode == 0
          and "computed a.weight: was a.weight_v (weight norm folded" in got.stderr
          and "left behind a.weight_g" in got.stderr, got.stderr)
    out = read_safetensors((d / "a.safetensors").read_bytes())
    check("g v / |v|", out == {"a.weight": floats(6, 8, 0, 0), "a.bias": floats(1, 2)}, out)
    got = run("convert", src, "-o", d / "b.safetensors")
    parts = read_safetensors((d / "b.safetensors").read_bytes())
    check("unasked, the parts are carried", got.returncode == 0 and len(parts) == 3, got.stderr)
    got = run("convert", src, "-o", d / "no.msgpack", "--from", "pytorch",
              "--to", "flax")
    check("elsewhere they are refused", got.returncode == 4 and " norm-unfolded: " in got.stderr
          and not (d / "no.msgpack").exists(), got.stderr)
    said = json.loads(run("convert", src, "--json", "--dry-run", "--format", "npz",
                          "--fold-norms").stdout)
    check("--json has the ledger and the spool", said["exit"] == 0
          and said["cost"]["spool_bytes"] == 16
          and sorted(x["kind"] for x in said["ledger"]) == ["drop", "value"], said)
    got = run("convert", a := d / "a.safetensors", "-o", d / "c.safetensors", "--fold-norms")
    check("nothing to fold is no failure", got.returncode == 0
          and (d / "c.safetensors").read_bytes() == a.read_bytes(), got.stderr)
    for source, tensors in ((src, "computed"), (a, "same")):
        run("convert", source, "-f", "-o", d / "p.tar.zst", "--fold-norms")
        said = json.loads(run("inspect", "--json", d / "p.tar.zst").stdout)["provenance"]
        id_ = run("id", source).stdout.strip() if tensors == "same" else None
        check(f"an archive's provenance: {tensors}", said["tensors"] == tensors
              and said["source_id"] == id_, said)


def memory(d):
    """A vector as long as the weight: what is held is told, held to, or refused at once."""
    n = 6_000_000
    src = put(d / "long.safetensors", ("a.weight_orig", (1, n), bytes(4) + floats(2) * (n - 1)),
              ("a.weight_u", (1,), (1,)), ("a.weight_v", (n,), floats(1) * n))
    dry = json.loads(run("convert", src, "--json", "--dry-run", "--format", "npz", "--fold-norms",
                         "--memory", "96M").stdout)
    most = dry["cost"]["memory_bytes"]
    check("the plan counts what is held", 8 * n < most < 96 << 20, most)
    check("the plan counts the spool", dry["cost"]["spool_bytes"] == 4 * n, dry["cost"])
    outs = []
    for more in (["-j", "1"], ["-j", "2"], ["--memory", "96M"]):
        out = d / "long.out.safetensors"
        got = run("convert", src, "-f", "-o", out, "--fold-norms", *more)
        check(f"it fits {more}", got.returncode == 0, got.stderr)
        outs.append(out.read_bytes() if out.exists() else None)
    check("neither threads nor memory show", outs[0] and outs[0] == outs[1] == outs[2])
    for dry in ([], ["--dry-run"]):
        out = d / "never.safetensors"
        got = run("convert", src, "-o", out, "--format", "safetensors", "--fold-norms", "--memory",
                  "48M", *dry)
        check(f"too little memory is told before any work {dry}", got.returncode == 8
              and " memory: " in got.stderr and "a.weight_orig" in got.stderr
              and not out.exists() and got.stderr.count("\n") == 1, got.stderr)


def lora(d):
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "fan_in_fan_out": False}
    p = "base_model.model.fc."
    base = put(d / "base.safetensors", ("fc.weight", (2, 2), (1, 2, 3, 4)))
    ad = d / "ad"
    ad.mkdir()
    put(ad / "adapter_model.safetensors", (p + "lora_A.weight", (1, 2), (1, 10)),
        (p + "lora_B.weight", (2, 1), (1, 100)))
    (ad / "adapter_config.json").write_text(json.dumps(config))
    whole = put(d / "whole.safetensors", (p + "base_layer.weight", (2, 2), (1, 2, 3, 4)),
                (p + "lora_A.x.weight", (1, 2), (1, 10)), (p + "lora_B.x.weight", (2, 1), (1, 100)))
    want = {"fc.weight": floats(1 + 2, 2 + 20, 3 + 200, 4 + 2000)}
    for what, src, adapter in (("a folder", base, ad),
                               ("one model", whole, ad / "adapter_config.json")):
        out = d / "merged.safetensors"
        got = run("convert", src, "-f", "-o", out, "--merge-lora", adapter)
        check(f"w + scale B A, {what}", got.returncode == 0
              and read_safetensors(out.read_bytes()) == want, got.stderr)
        check(f"the ledger says so, {what}", "(LoRA merged: w + scale B A, in float64)" in got.stderr,
              got.stderr)
    got = run("convert", base, "-o", ad / "adapter_model.safetensors", "-f", "--merge-lora", ad)
    check("the adapter is no target", got.returncode == 3 and " output-is-input: " in got.stderr, (got.returncode, got.stderr))
    got = run("convert", base, "-o", d / "x.safetensors", "--merge-lora", d / "nowhere")
    check("no adapter there", got.returncode == 3 and "nowhere" in got.stderr, got.stderr)
    (ad / "adapter_config.json").write_text("{")
    got = run("convert", base, "-o", d / "x.safetensors", "--merge-lora", ad)
    check("a broken config is named by its path", got.returncode == 3
          and str(ad / "adapter_config.json") in got.stderr, got.stderr)
    left = sorted(x for x in os.listdir(d) if x.startswith((".", "x.")))
    check("nothing is left", not left, left)


def main():
    with tempfile.TemporaryDirectory() as d:
        norms(pathlib.Path(d))
        memory(pathlib.Path(d))
        lora(pathlib.Path(d))
    return done()


if __name__ == "__main__":
    sys.exit(main())
