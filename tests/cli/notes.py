#!/usr/bin/env python3
"""Notes on defaults, what casts cost, and scales of 8-bit floats, from outside: what is printed,
what --json says, and that none of it changes an exit status that it should not.

    notes.py [BINARY]

Standard library only.
"""

import json
import pathlib
import sys
import tempfile

from common import check, done, floats, run
from lib import read_safetensors, safetensors_bytes  # common says where
from zips import tensor, text, torch_zip

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"


def zeros(name, *shape):
    n = 1
    for d in shape:
        n *= d
    return name, "F32", shape, bytes(4 * n)


def bert(d, config):
    """A folder as a hub has it."""
    at = d / "bert"
    at.mkdir(exist_ok=True)
    tensors = [zeros("embeddings.LayerNorm.weight", 4), zeros("embeddings.LayerNorm.bias", 4)]
    for i in range(2):
        own = f"encoder.layer.{i}."
        tensors += [zeros(own + "attention.self.query.weight", 4, 4),
                    zeros(own + "attention.self.query.bias", 4),
                    zeros(own + "output.LayerNorm.weight", 4), zeros(own + "output.LayerNorm.bias", 4)]
    (at / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    (at / "config.json").write_text(json.dumps(config))
    return at


def notes(d):
    src = bert(d, {"model_type": "bert", "layer_norm_eps": 1e-12, "hidden_act": "gelu"})
    got = run("convert", src, "-o", d / "a.npz", "--to", "flax")
    line = ("note on embeddings.LayerNorm and 2 more: epsilon is 1e-12 in hf, 1e-06 in flax by "
            "default: set epsilon=1e-12")
    check("a note is no failure", got.returncode == 0, got.stderr)
    check("layers alike are one line", line in got.stderr and got.stderr.count("epsilon=") == 1,
          got.stderr)
    check("a function of the config", "note on hidden_act: gelu is exact in hf, tanh in flax by "
          "default: set approximate=False" in got.stderr, got.stderr)
    dry = run("convert", src, "--dry-run", "--to", "flax", "--format", "npz")
    check("--dry-run has every layer", dry.stdout.count("set epsilon=1e-12") == 3, dry.stdout)
    for extra in (["--dry-run"], ["-f", "-o", d / "a.npz"]):
        said = json.loads(run("convert", src, "--json", "--to", "flax", "--format", "npz",
                              *extra).stdout)
        eps = [n for n in said["notes"] if n["setting"] == "epsilon"]
        check("--json has every layer", len(eps) == 3 and said["exit"] == 0, said["notes"])
        check("--json tells the values", {k: eps[0][k] for k in (
            "layer", "of", "source", "known", "target", "set")} == {
            "layer": "embeddings.LayerNorm", "of": "layernorm", "source": "1e-12", "known": True,
            "target": "1e-06", "set": "epsilon=1e-12"}, eps)
    run("convert", src, "-o", d / "a.tar.zst")
    again = run("convert", d / "a.tar.zst", "-o", d / "b.safetensors", "--to", "haiku")
    check("an archive remembers", "note on embeddings.LayerNorm and 2 more: epsilon is 1e-12 in hf, "
          "1e-05 in haiku by default: set eps=1e-12" in again.stderr, again.stderr)
    meta = json.loads(run("inspect", "--json", d / "b.safetensors").stdout)["metadata"]
    kept = json.loads(meta["nnferry.settings"])
    check("the target keeps it", kept["layers"][0] == {"path": "embeddings.LayerNorm",
                                                       "epsilon": 1e-12}, kept)
    back = run("convert", d / "a.tar.zst", "-o", d / "c.safetensors", "--to", "source")
    meta = json.loads(run("inspect", "--json", d / "c.safetensors").stdout)["metadata"]
    check("the source comes back without", back.returncode == 0 and "nnferry.settings" not in meta,
          meta)
    quiet = run("convert", src, "-f", "-o", d / "a.npz", "--to", "hf_flax", "-q")
    check("nothing to say -q", quiet.returncode == 0 and "note" not in quiet.stderr, quiet.stderr)
    alone = run("convert", src, "-f", "-o", d / "w.safetensors", "--to", "haiku", "--weights-only")
    meta = json.loads(run("inspect", "--json", d / "w.safetensors").stdout)["metadata"]
    check("what is left behind still tells", alone.returncode == 0 and "epsilon is 1e-12" in
          alone.stderr and "nnferry.settings" not in meta, alone.stderr)


def kept(d):
    """Another container alone: whoever thinks of another framework is told that it is none."""
    src = d / "kept.pt"
    src.write_bytes(torch_zip(b"\x80\x02}(" + text("fc.w") + tensor() + b"u."))
    line = "names and axes are pytorch's, as they were: --to flax writes those of flax"
    got = run("convert", src, "-o", d / "kept.msgpack")
    check("the container alone changes", got.returncode == 0 and line in got.stderr, got.stderr)
    for more in (["kept2.msgpack", "--to", "flax"], ["kept.safetensors"], ["kept.npz"],
                 ["kept2.pt"], ["kept.tar.zst"], ["kept3.msgpack", "-q"]):
        got = run("convert", src, "-o", d / more[0], *more[1:])
        check(f"nothing to say {more}", got.returncode == 0 and "as they were" not in got.stderr,
              got.stderr)


def program(d):
    """What a TorchScript archive's program says, of both versions of torch."""
    for version in ("torch", "torch-1.13"):
        golden = GOLDEN / version
        got = run("convert", golden / "notes_script.pt", "-f", "-o", d / "s.safetensors",
                  "--to", "flax")
        for line in ("note on bn: epsilon is 0.001 in pytorch, 1e-05 in flax by default: set "
                     "epsilon=0.001",
                     "note on bn: momentum keeps 0.97 in pytorch, 0.99 in flax by default: set "
                     "momentum=0.97 (training alone)"):
            check(f"{version}: a scripted norm", got.returncode == 0 and line in got.stderr,
                  got.stderr)
        line = "note on conv: padding is (1) in pytorch, same in flax by default: set "
        line += "padding=((1, 1),)"
        check(f"{version}: a padding of a stride", line in got.stderr, got.stderr)
        run("convert", golden / "notes_script.pt", "-f", "-o", d / "s.tar.zst")
        again = run("convert", d / "s.tar.zst", "--dry-run", "--to", "flax", "--format", "npz")
        check(f"{version}: kept as it is", line in again.stdout, again.stdout)
        check(f"{version}: a scripted gelu", "note on act" not in got.stderr, got.stderr)
        keras = run("convert", golden / "notes_script.pt", "--dry-run", "--to", "keras", "--format",
                    "npz")
        check(f"{version}: in Keras's words", "note on act: gelu is tanh in pytorch, exact in keras "
              "by default: set approximate=True" in keras.stdout, keras.stdout)
        alone = run("convert", golden / "notes_trace.pt", "--dry-run", "--to", "flax", "--format",
                    "npz", "--weights-only")
        check(f"{version}: the program tells, left behind too", alone.returncode == 0 and
              "note on gn: the number of groups is 1" in alone.stdout, alone.stdout + alone.stderr)
        got = run("convert", golden / "notes_trace.pt", "-f", "-o", d / "t.safetensors",
                  "--to", "flax")
        for line in ("note on gn: the number of groups is 1 in pytorch, 32",
                     "note on forward: leaky_relu's slope is 0.2 in pytorch, 0.01",
                     "note on rnn.l0: the activation is relu in pytorch, tanh",
                     "note on up: padding is none in pytorch, same"):
            check(f"{version}: {line}", got.returncode == 0 and line in got.stderr, got.stderr)
        check(f"{version}: the batch comes first in both", "the batch axis" not in got.stderr,
              got.stderr)
        run("convert", golden / "notes_trace.pt", "-f", "-o", d / "t.tar.zst")
        again = run("convert", d / "t.tar.zst", "-f", "-o", d / "u.safetensors", "--to", "haiku")
        check(f"{version}: an archive remembers", "note on rnn.l0: the batch axis is first in "
              "pytorch, second in haiku by default: set time_major=False" in again.stderr,
              again.stderr)


def defaults():
    rows = json.loads(run("formats", "--json").stdout)["defaults"]
    keys = [(r["framework"], r["of"], r["setting"]) for r in rows]
    check("a row a setting", len(keys) == len(set(keys)) and len(keys) > 150, len(keys))
    row = rows[keys.index(("pytorch", "batchnorm", "momentum"))]
    check("momentum", row["argument"] == "momentum" and row["value"] == "0.1" and
          row["means"] == "0.9", row)


def casts(d):
    path = d / "w.safetensors"
    path.write_bytes(safetensors_bytes([("w", "F32", (5,), floats(1, 1e6, 1e-9, 1e-5, 0.1)),
                                        ("x", "F32", (2,), floats(1, 2)),
                                        ("n", "I64", (1,), bytes(8))]))
    out = d / "o.safetensors"
    no = run("convert", path, "-o", out, "--dtype", "float16")
    check("overflow is an error", no.returncode == 4 and " overflow: " in no.stderr and
          not out.exists(), no.stderr)
    for extra in ([], ["--dry-run"]):
        said = json.loads(run("convert", path, "-o", out, "-f", "--dtype", "float16", "--json",
                              "--allow-overflow", "--cast-report", *extra).stdout)
        w, x = said["casts"]
        check("what it cost", (w["tensor"], w["from"], w["to"], w["elements"], w["changed"],
                               w["overflow"], w["flushed"], w["subnormal"], w["max_rel"]) ==
              ("w", "float32", "float16", 5, 4, 1, 1, 1, 1), w)
        check("exact casts cost nothing", x["changed"] == 0 and x["max_abs"] == 0, x)
        check("in all", said["casts_in_all"]["elements"] == 7 and
              said["casts_in_all"]["changed"] == 4, said["casts_in_all"])
    text = run("convert", path, "-o", out, "-f", "--dtype", "float16", "--allow-overflow",
               "--cast-report").stdout
    check("as text", "cast w: float32 to float16: 4 of 5 values changed" in text and
          "casts in all, 2 tensors: 4 of 7 values changed" in text, text)
    text = run("convert", path, "-o", out, "-f", "--cast-report").stdout
    check("no casts", text.startswith("casts in all, 0 tensors: 0 of 0 values"), text)


def scales(d):
    codes = bytes([0x38, 0x40, 0x30, 0xb8, 0x38, 0x38, 0x40, 0x40])  # 1 2 .5 -1 1 1 2 2
    path = d / "f8.safetensors"
    path.write_bytes(safetensors_bytes([
        ("a.weight", "F8_E4M3", (2, 4), codes), ("a.weight_scale_inv", "F32", (1, 2), floats(3, 4)),
        ("b.weight", "F8_E4M3", (2, 4), codes), ("b.weight_scale", "F32", (), floats(5))]))
    out = d / "f.safetensors"
    got = run("convert", path, "-o", out, "--dtype", "float32")
    have = read_safetensors(out.read_bytes())
    check("scales are multiplied in", have == {
        "a.weight": floats(3, 6, 2, -4, 3, 3, 8, 8), "b.weight": floats(5, 10, 2.5, -5, 5, 5, 10, 10)},
        have)
    check("and named", "left behind a.weight_scale_inv: multiplied into a.weight" in got.stderr,
          got.stderr)
    run("convert", path, "-o", d / "same.safetensors")
    check("carried as they are", read_safetensors((d / "same.safetensors").read_bytes()) ==
          read_safetensors(path.read_bytes()))
    for what, code, *options in (("a scale alone", "fp8-scale", "--dtype", "*_scale=bfloat16"),
                                 ("a weight alone", "fp8-scale-apart", "--select", "*.weight"),
                                 ("other eight bits", "fp8-scale", "--dtype", "float8_e5m2")):
        got = run("convert", path, "-f", "-o", out, *options)
        check(what, got.returncode == 4 and f" {code}: " in got.stderr, got.stderr)


def main():
    with tempfile.TemporaryDirectory() as d:
        notes(pathlib.Path(d))
        program(pathlib.Path(d))
        defaults()
        casts(pathlib.Path(d))
        scales(pathlib.Path(d))
        kept(pathlib.Path(d))
    return done()


if __name__ == "__main__":
    sys.exit(main())
