"""Runs the interop suites in the environment that run.sh made: main.py [[--keep] SUITE...].

Prints one line per failure and `# cases N passed, N failed` at the end; writes
RESULTS.md (versions, counts) beside itself when every suite ran, and with --keep the parts
of those that did. Exit 1 on a failure.
"""

import importlib
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

# One line each.
SUITES = (
    "selfcheck",
    "roundtrip",
    "twins",
    "train_state",
    "rnn_twins",
    "kind_twins",
    "local_twins",
    "dense_axes",
    "folds",
    "train_keras",
    "train_sides",
    "train_kept",
    "train_cells",
    "train_frozen",
    "train_scales",
    "formats",
    "ids",
    "random_nets",
    "like_models",
    "onnx_models",
    "tflite_models",
    "pypi",
    "real_models",
    "tf_checkpoints",
    "haiku_eqx",
    "haiku_eqx_twins",
    "keras_files",
    "keras_twins",
    "orbax_files",
    "gguf_package",
    "hf_models",
    "torch_files",
    "grid",
    "defaults",
    "decodes",
)
PACKAGES = (
    "pytorch_lightning",
    "torchvision",
    "transformers",
    "onnx",
    "onnxruntime",
    "ai_edge_litert",
    "tensorflow",
    "tf_keras",
    "keras",
    "h5py",
    "haiku",
    "optax",
    "equinox",
    "joblib",
    "orbax.checkpoint",
    "gguf",
)


def version_of(name):
    """Of a module, else of the package of that name."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return "not installed"
    try:
        return getattr(module, "__version__", None) or importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def versions():
    import flax
    import jax
    import ml_dtypes
    import numpy
    import safetensors
    import torch
    found = [("Python", sys.version.split()[0]), ("torch", torch.__version__),
             ("numpy", numpy.__version__), ("safetensors", safetensors.__version__),
             ("jax", jax.__version__), ("flax", flax.__version__),
             ("ml_dtypes", ml_dtypes.__version__)]
    for name in PACKAGES:
        found.append((name, version_of(name)))
    import folds
    import formats
    found.append(("peft", folds.peft_version()))
    found.append(("old torch", formats.old_version() or "not installed"))
    return found


def main(names):
    import common
    if not os.access(common.BINARY, os.X_OK):
        print(f"{common.BINARY}: not an executable", file=sys.stderr)
        return 1
    if names[:1] == ["--one"]:
        return one(names[1])
    keep = names[:1] == ["--keep"]
    names = names[1:] if keep else names
    passed, failed, report = 0, 0, []
    for name in names or SUITES:
        # a process of its own: frameworks have settings that last (float64 in JAX, Keras' globals)
        tally, start = common.Tally(name), time.monotonic()
        got = subprocess.run([sys.executable, __file__, "--one", name], stdout=subprocess.PIPE,
                             text=True)
        lines = got.stdout.splitlines()
        said = lines.pop() if lines and lines[-1].startswith("{") else None
        print("".join(line + "\n" for line in lines), end="")
        if said:
            told = json.loads(said)
            tally.passed, tally.failed, tally.notes = told["passed"], told["failed"], told["notes"]
            tally.tables = told["tables"]
        if not said or tally.passed + len(tally.failed) == 0:
            tally.fail("(suite)", f"ran no test to its end: exit {got.returncode}")
        seconds = time.monotonic() - start
        print(f"{name}: {tally.passed} passed, {len(tally.failed)} failed ({seconds:.0f} s)",
              flush=True)
        passed += tally.passed
        failed += len(tally.failed)
        report.append(tally)
    if keep or not names:
        write_results(report)
    print(f"# cases {passed} passed, {failed} failed")
    return 1 if failed else 0


def one(name):
    import common
    tally = common.Tally(name)
    try:
        importlib.import_module(name).run(tally)
    except Exception as e:
        tally.fail("(suite)", f"{type(e).__name__}: {e}")
    print(json.dumps({"passed": tally.passed, "failed": tally.failed, "notes": tally.notes,
                      "tables": tally.tables}))
    return 1 if tally.failed else 0


def table_lines(title, head, rows):
    return ["", f"### {title}", ""] + [f"| {' | '.join(r)} |" for r in
                                       [head, ["---"] * len(head)] + rows]


def part(tally):
    out = [f"## {tally.suite}", "", f"{tally.passed} passed, {len(tally.failed)} failed.", ""]
    out += [f"- failed: {n}" for n in tally.failed]
    out += [f"- {n}" for n in tally.notes]
    out += [line for table in tally.tables for line in table_lines(*table)]
    return "\n".join(out).rstrip() + "\n"


def write_results(report):
    """The suites that ran, and as they stand those that did not."""
    results = HERE / "RESULTS.md"
    parts = {}
    for text in results.read_text().split("\n## ")[1:] if results.exists() else []:
        parts[text.split("\n", 1)[0]] = "## " + text.rstrip() + "\n"
    parts.update((tally.suite, part(tally)) for tally in report)
    parts = [parts[name] for name in SUITES if name in parts]
    counts = [re.search(r"^([0-9]+) passed, ([0-9]+) failed\.$", p, re.M) for p in parts]
    out = ["# Interop results", "", "Written by tests/interop/run.sh.", "",
           "| with | version |", "|---|---|"]
    out += [f"| {n} | {v} |" for n, v in versions()]
    out += ["", f"{sum(int(c[1]) for c in counts)} passed, {sum(int(c[2]) for c in counts)} failed.",
            ""]
    results.write_text("\n".join(out + parts).rstrip() + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
