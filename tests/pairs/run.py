#!/usr/bin/env python3
"""Pairs: every golden, so every reader, with every writer of the registry.

Each golden is converted to each format that writes (`nnferry formats`), names kept; the result
must hold the tensors that the golden's NAME.json lists: names, dtypes and shapes by
`inspect --json`, bits by `id --tensors`, and bits again by SHA-256 after a conversion to
safetensors where that has the types. What a format cannot hold must be exit 4 with one of the
codes this file expects of it; a format that refuses everything fails. Standard library only.

    run.py [-b BINARY] [PATTERN...]      prints `# cases N passed, N failed`
"""

import argparse
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "hostile"))
from lib import read_safetensors  # noqa: E402

BLOCKS = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_k",
          "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs",
          "tq1_0", "tq2_0", "mxfp4", "nvfp4", "q1_0", "q2_0"}
NOT_IN_SAFETENSORS = {"complex32", "complex128", "int4", "uint4", "int2", "uint2"} | BLOCKS
PACKED = {"float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"}  # safetensors packs these
# Why a format may say no. A flat one drops the structure around the tensors: exit 4 by the ledger.
FLAT = {"ledger"}
TREE = {"name-prefix", "name-not-spelled", "tree-key", "tree-value", "tree-depth", "ledger"}
MAY_REFUSE = {
    "safetensors": FLAT | {"dtype", "part-byte"},
    "npz": FLAT | {"dtype", "name"},
    "npy": FLAT | {"dtype", "name", "one-tensor"},
    "msgpack": TREE | {"dtype", "tree-top"},
    "pytorch": TREE | {"dtype"},
    "archive": TREE,
    "onnx": FLAT | {"dtype", "name"},
    "equinox": FLAT | {"dtype", "eqx-line", "no-tensors"},
    "haiku": TREE | {"dtype", "name"},
    "orbax": TREE | {"dtype", "name", "dims", "tree-top"},
    "gguf": FLAT | {"dtype", "name", "dims"},
    "tf-checkpoint": FLAT | {"dtype", "name-not-spelled"},
    "keras": TREE | {"dtype", "rank", "keras-config"},
    "keras-h5": TREE | {"dtype", "rank"},
    "keras-weights": TREE | {"dtype", "rank"},
    "savedmodel": FLAT | {"no-graph", "graph-differs"},
}


TIES = {"safetensors", "pytorch", "archive", "haiku", "keras", "keras-h5", "keras-weights"}  # these can say that two tensors are one


class Wrong(Exception):
    pass


def run(binary, *argv):
    return subprocess.run([binary, *map(str, argv)], capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL)


def good(binary, *argv):
    got = run(binary, *argv)
    if got.returncode != 0:
        raise Wrong(f"{argv[0]} {argv[1]}: exit {got.returncode}: {got.stderr.strip()[-300:]}")
    return got.stdout


def code_of(stderr):
    """The kebab code of the last error line."""
    found = re.findall(r"^nnferry: (?:.*?: )??(?:byte \d+: )?([a-z0-9]+(?:-[a-z0-9]+)*): ", stderr, re.M)
    return found[-1] if found else None


def tensors(binary, path):
    shown = json.loads(good(binary, "inspect", "--json", path))
    return {t["name"]: (t["dtype"], tuple(t["shape"])) for t in shown["tensors"]}


def digests(binary, path, whole):
    """What `id --tensors` prints: a line a tensor, last the model's own, which knows the ties."""
    lines = good(binary, "id", "--tensors", path).splitlines()
    return sorted(lines if whole else lines[:-1])


def compare(binary, golden, record, made, folder, ties):
    want = {t["name"]: (t["dtype"], tuple(t["shape"])) for t in record["tensors"]}
    if list(want) == [""] and golden.suffix == ".npy":
        want = {"arr_0": want[""]}
    have = tensors(binary, made)
    if record.get("opaque"):  # objects' own tensors may be there, and go with them
        have = {n: t for n, t in have.items() if n in want}
    if have != want:
        odd = sorted(set(want.items()) ^ set(have.items()))[:3]
        raise Wrong(f"other names, dtypes or shapes: {odd}")
    if not record.get("opaque") and golden.suffix != ".npy":
        if digests(binary, made, ties) != digests(binary, golden, ties):
            raise Wrong("other digests")
    if any(d in NOT_IN_SAFETENSORS for d, _ in want.values()):
        return
    plain = folder / "plain.safetensors"
    got = run(binary, "convert", made, "-o", plain, "--as-is", "--allow-drop", "*")
    if got.returncode != 0:
        raise Wrong(f"not to safetensors: exit {got.returncode}: {got.stderr.strip()[-300:]}")
    data = read_safetensors(plain.read_bytes())
    for t in record["tensors"]:
        name = t["name"] if t["name"] in data else "arr_0"
        if t["dtype"] not in PACKED and hashlib.sha256(data[name]).hexdigest() != t["sha256"]:
            raise Wrong(f"other bytes of {name!r}")


def pair(binary, golden, fmt, extra=()):
    """True when the pair was written, False when it was refused as expected."""
    record = json.loads(golden.with_name(golden.name + ".json").read_text())
    with tempfile.TemporaryDirectory() as d:
        folder = pathlib.Path(d)
        made = folder / ("out" + (fmt["suffixes"][0] if fmt["suffixes"] else ""))
        got = run(binary, "convert", golden, "-o", made, "--format", fmt["name"], "--as-is", *extra)
        if got.returncode == 4:
            code = code_of(got.stderr)
            if record.get("opaque") and code == "ledger":
                return False
            if code not in MAY_REFUSE.get(fmt["name"], set()):
                raise Wrong(f"exit 4 with {code}: {got.stderr.strip()[-300:]}")
            if os.listdir(folder):
                raise Wrong("refused, and something was written")
            return False
        if got.returncode != 0:
            raise Wrong(f"exit {got.returncode}: {got.stderr.strip()[-300:]}")
        compare(binary, golden, record, made, folder, fmt["name"] in TIES)
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-b", default=os.environ.get("NNFERRY", str(ROOT / "build" / "nnferry")))
    parser.add_argument("pattern", nargs="*")
    args = parser.parse_args()
    formats = [f for f in json.loads(good(args.b, "formats", "--json"))["formats"] if f["writes"]]
    goldens = sorted(p.with_suffix("") for p in (ROOT / "tests" / "golden").glob("*/*.json")
                     if p.with_suffix("").exists() and "refused" not in json.loads(p.read_text()))
    passed = failed = 0
    written = {f["name"]: 0 for f in formats}
    for golden in goldens:
        for f in formats:
            for extra in ((), ("--compress",)) if f["name"] == "npz" else ((),):
                name = " ".join([f"{golden.parent.name}/{golden.name}", f["name"], *extra])
                if args.pattern and not any(fnmatch.fnmatch(name, p) for p in args.pattern):
                    continue
                try:
                    # what is dropped on purpose is allowed; what cannot be written is not
                    done = (pair(args.b, golden, f, extra)
                            or pair(args.b, golden, f, (*extra, "--allow-drop", "*")))
                    written[f["name"]] += done
                    passed += 1
                except (Wrong, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as e:
                    failed += 1
                    print(f"FAIL {name}: {e}")
    for f, n in written.items():
        if n == 0 and not args.pattern:
            failed += 1
            print(f"FAIL {f} took no golden")
    print(f"# cases {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
