#!/usr/bin/env python3
"""Reads every golden with nnferry and compares with what its framework said is in it.

Names, dtypes, shapes and order from `inspect --json`; the bits from `id --tensors` and,
where safetensors has the dtypes, from a conversion to it. Objects that no reader may build
make the conversion exit 4. Standard library only.

    check.py [-b BINARY] [PATTERN...]      prints `# cases N passed, N failed`
"""

import argparse
import fnmatch
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "hostile"))
from lib import read_safetensors  # noqa: E402

BLOCKS = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_k",
          "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs",
          "tq1_0", "tq2_0", "mxfp4", "nvfp4", "q1_0", "q2_0"}
NOT_IN_SAFETENSORS = {"complex32", "complex128", "int4", "uint4", "int2", "uint2"} | BLOCKS
PACKED = {"float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"}  # safetensors packs these
COUNTED = {"parameter", "buffer", "statistic"}


class Wrong(Exception):
    pass


def run(binary, *argv, exit=0):
    got = subprocess.run([binary, *map(str, argv)], capture_output=True, text=True, timeout=60,
                         stdin=subprocess.DEVNULL)
    if got.returncode != exit:
        raise Wrong(f"{argv[0]}: exit {got.returncode}, expected {exit}: {got.stderr.strip()}")
    return got.stdout


def check(binary, path, want, room):
    tensors = {t["name"]: t for t in want["tensors"]}
    seen = json.loads(run(binary, "inspect", "--json", path))
    if seen.get("exit") != 0:
        raise Wrong(f"inspect --json: exit is {seen.get('exit')!r}")
    listed = {t["name"]: t for t in seen["tensors"]}
    nameless = list(tensors) == [""] and path.suffix == ".npy"
    if nameless and len(listed) == 1:
        tensors = {next(iter(listed)): want["tensors"][0]}
    if not set(tensors) <= set(listed) or (set(listed) != set(tensors)
                                           and not want.get("opaque")):
        odd = sorted(set(tensors) ^ set(listed))
        raise Wrong(f"inspect: other names: {odd[:4]} ({len(odd)} in all)")
    if not want.get("opaque") and not nameless and path.is_file() and \
            path.suffix in (".pt", ".msgpack", ".gguf") and list(listed) != list(tensors):
        raise Wrong("inspect: other order")
    for name, t in tensors.items():
        got = listed[name]
        if (got["dtype"], got["shape"]) != (t["dtype"], t["shape"]):
            raise Wrong(f"{name}: {got['dtype']} {got['shape']}, expected {t['dtype']} "
                        f"{t['shape']}")
    digests = run(binary, "id", "--tensors", path)
    for name, t in tensors.items():
        if listed[name]["role"] in COUNTED and t["digest"] not in digests:
            raise Wrong(f"id --tensors: {name} has another digest")
    out = room / "out.safetensors"
    out.unlink(missing_ok=True)
    if want.get("opaque"):
        run(binary, "convert", path, "-o", out, exit=4)
        if out.exists():
            raise Wrong("convert: exit 4, but a file was written")
        return
    dtypes = {t["dtype"] for t in tensors.values()}
    if dtypes & NOT_IN_SAFETENSORS:
        run(binary, "convert", path, "-o", out, exit=4)
        return
    allow = []
    if want.get("values"):  # a loss that must be allowed by name
        run(binary, "convert", path, "-o", out, exit=4)
        if out.exists():
            raise Wrong("convert: exit 4, but a file was written")
        allow = ["--allow-drop", "*"]
    run(binary, "convert", path, "-o", out, *allow)
    data = read_safetensors(out.read_bytes())
    if path.suffix == ".pt" or not nameless:
        if set(data) != set(tensors):
            odd = sorted(set(tensors) ^ set(data))
            raise Wrong(f"convert: other names: {odd[:4]} ({len(odd)} in all)")
    for name, t in tensors.items():
        if t["dtype"] not in PACKED and \
                hashlib.sha256(data[name]).hexdigest() != t["sha256"]:
            raise Wrong(f"convert: {name}: other bits")


def main():
    p = argparse.ArgumentParser(description="compare the goldens with what nnferry reads")
    p.add_argument("-b", "--binary",
                   default=os.environ.get("NNFERRY", str(HERE.parents[1] / "build" / "nnferry")))
    p.add_argument("patterns", nargs="*", default=["*"])
    o = p.parse_args()
    if not os.access(o.binary, os.X_OK):
        raise SystemExit(f"{o.binary}: not an executable")
    passed = failed = 0
    with tempfile.TemporaryDirectory() as top:
        for record in sorted(HERE.rglob("*.json")):
            want = json.loads(record.read_text())
            if "made_by" not in want:  # an index or a config inside a golden folder
                continue
            path = record.parent / want["file"]
            name = f"{path.parent.name}/{path.name}"
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in o.patterns):
                continue
            if want.get("refused"):  # archive.py looks at these
                continue
            try:
                check(os.path.abspath(o.binary), path, want, pathlib.Path(top))
            except (Wrong, KeyError, ValueError, OSError, subprocess.TimeoutExpired) as e:
                failed += 1
                print(f"FAIL {name}: {type(e).__name__}: {e}")
            else:
                passed += 1
    if passed + failed == 0:
        raise SystemExit("no golden matches")
    print(f"# cases {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
