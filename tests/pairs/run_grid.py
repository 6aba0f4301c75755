#!/usr/bin/env python3
"""The grid: every format that is read and written, to every other and back.

What each format can hold is asked of it first, one tensor at a time: every element type, shape
and kind of name either converts, or is exit 4 with a code and leaves nothing behind. Then, for
each ordered pair F, G: a set of tensors that both can hold is written as F, converted to G and
back to F, and every one of the three has the `nnf1` that nnid.py computes from the bytes
themselves. The same for two tensors that are one, and for empty containers and None around a
tensor: each stands in the target or in the ledger, and comes back where both formats hold it.
Standard library only.

    run_grid.py [-b BINARY] [FORMAT...]      prints `# cases N passed, N failed`
"""

import argparse
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "hostile")]
import nnid  # noqa: E402
import zips  # noqa: E402

# safetensors' name of a type, ours, bits
TYPES = [("BOOL", "bool", 8), ("U8", "uint8", 8), ("I8", "int8", 8), ("U16", "uint16", 16),
         ("I16", "int16", 16), ("U32", "uint32", 32), ("I32", "int32", 32), ("U64", "uint64", 64),
         ("I64", "int64", 64), ("F16", "float16", 16), ("BF16", "bfloat16", 16),
         ("F32", "float32", 32), ("F64", "float64", 64), ("C64", "complex64", 64),
         ("F8_E4M3", "float8_e4m3fn", 8), ("F8_E5M2", "float8_e5m2", 8),
         ("F8_E8M0", "float8_e8m0fnu", 8), ("F8_E4M3FNUZ", "float8_e4m3fnuz", 8),
         ("F8_E5M2FNUZ", "float8_e5m2fnuz", 8)]
SHAPES = [(), (0,), (5,), (2, 3), (3, 0, 2), (2, 1, 3), (1, 2, 2, 2), (2, 1, 2, 1, 3),
          (1, 2, 1, 2, 1, 2), (70, 60)]
NAMES = ["arr_0", "dense.w", "block.0.w", "block.1.w", "größe.w", "重み.w", "two words.w",
         "slash/w", "~/deep/~/w", "back\\slash.w", "co:lon.w", "UPPER.w", "upper.w", "a\\.dot.w",
         "percent%2Fw", "quote\"w", "tab\tw", "." * 3 + "w", "0", "x" * 200]
CODE = re.compile(r"^nnferry: (?:.*?: )??(?:byte \d+: )?([a-z0-9]+(?:-[a-z0-9]+)*): ", re.M)
# Formats that cannot be written from bare tensors, and the code they say so with.
NOT_FROM_TENSORS = {"savedmodel": "no-graph", "keras": "keras-config"}


# These can say that two tensors are one; these hold nothing but tensors.
TIES = {"safetensors", "pytorch", "archive", "haiku", "keras-h5", "keras-weights"}
NO_TREE = {"safetensors", "npz", "npy", "onnx", "gguf", "equinox", "tf-checkpoint"}


class Wrong(Exception):
    pass


def data_of(seed, dtype, bits, shape):
    n = bits // 8
    for d in shape:
        n *= d
    out, x = bytearray(), seed * 2654435761 + 12345
    for _ in range(n):
        x = (x * 1103515245 + 12345) & 0x7fffffff
        out.append(x >> 16 & 255)
    return bytes(b & 1 for b in out) if dtype == "bool" else bytes(out)


def tensor(seed, name, kind, shape):
    st, dtype, bits = kind
    return name, st, dtype, shape, data_of(seed, dtype, bits, shape)


def safetensors(tensors):
    head, body = {}, b""
    for name, st, _, shape, data in tensors:
        head[name] = {"dtype": st, "shape": list(shape),
                      "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + body


def expected_id(tensors, view=None):
    """view: what all of them are a view of, where they are one."""
    return nnid.model_digest([types.SimpleNamespace(path=n, dtype=d, shape=s, data=b, view=view,
                                                    role="parameter")
                              for n, _, d, s, b in tensors])[0]


# Two names of one tensor; and what a tree holds beside one, of no number.
TIED = [tensor(9, n, TYPES[11], (2,)) for n in ("block.w", "dense.w", "tied.w")]
HOLLOW = {"none": b"N", "dict": b"}", "list": b"]", "tuple": b")", "ordered": zips.ORDERED}


class Grid:
    def __init__(self, binary, folder):
        self.binary, self.folder, self.count = binary, folder, itertools.count()
        self.passed = self.failed = 0
        self.ledger = []     # of the last conversion
        self.ties = set()    # formats that were seen to hold ties

    def run(self, *argv):
        return subprocess.run([self.binary, *map(str, argv)], capture_output=True, text=True,
                              timeout=120, stdin=subprocess.DEVNULL)

    def place(self, fmt):
        where = self.folder / str(next(self.count))
        where.mkdir()
        return where / ("out" + (fmt["suffixes"][0] if fmt["suffixes"] else ""))

    def write(self, source, fmt):
        """The path written, or the code of a refusal."""
        made = self.place(fmt)
        got = self.run("convert", source, "-o", made, "--format", fmt["name"], "--as-is",
                       "--json")
        if got.returncode == 0:
            self.ledger = json.loads(got.stdout)["ledger"]
            return made
        if got.returncode != 4:
            raise Wrong(f"to {fmt['name']}: exit {got.returncode}: {got.stderr.strip()[-300:]}")
        found = CODE.findall(got.stderr)
        if not found or os.listdir(made.parent):
            raise Wrong(f"to {fmt['name']}: exit 4 without a code, or something was written: "
                        f"{got.stderr.strip()[-300:]}")
        return found[-1]

    def source(self, tensors):
        path = self.folder / f"{next(self.count)}.safetensors"
        path.write_bytes(safetensors(tensors))
        return path

    def id_of(self, path, fmt):
        got = self.run("id", "--input-format", fmt["name"], path)
        if got.returncode != 0:
            raise Wrong(f"id of {fmt['name']}: exit {got.returncode}: {got.stderr.strip()[-300:]}")
        return got.stdout.strip()

    def holds(self, fmt, tensors):
        """None when fmt holds these, else the code with which it says no."""
        made = self.write(self.source(tensors), fmt)
        if isinstance(made, str):
            return made
        if self.id_of(made, fmt) != expected_id(tensors):
            raise Wrong(f"{fmt['name']} changed {[(t[0], t[2], t[3]) for t in tensors]}")
        return None

    def case(self, what, test, *args):
        try:
            out = test(*args)
        except (Wrong, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as e:
            self.failed += 1
            print(f"FAIL {what}: {e}", flush=True)
            return None
        self.passed += 1
        return out if out is not None else ""

    def capacity(self, fmt):
        """Types, shapes, names that fmt holds, and whether more than one tensor."""
        f32, name = TYPES[11], "arr_0"
        refused = {}

        def able(key, tensors):
            code = self.case(f"{fmt['name']} {key}", self.holds, fmt, tensors)
            if code:
                refused.setdefault(code, []).append(str(key))
            return code == ""

        kinds = [k for k in TYPES if able(k[1], [tensor(1, name, k, (2, 3))])]
        shapes = [s for s in SHAPES if able(s, [tensor(2, name, f32, s)])]
        names = [n for n in NAMES if able(n, [tensor(3, n, f32, (4,))])]
        many = able("two tensors", [tensor(4, "dense.w", f32, (2,)), tensor(5, "dense.b", f32, (3,))])
        if not able("names that differ in case alone",
                    [tensor(6, n, f32, (2,)) for n in ("UPPER.w", "upper.w")]):
            names = [n for n in names if n != "upper.w"]
        if f32 not in kinds or (2, 3) not in shapes:
            self.failed += 1
            print(f"FAIL {fmt['name']} does not hold a float32 matrix: {refused}")
        for code, what in sorted(refused.items()):
            print(f"{fmt['name']}: {code}: {', '.join(what)}")
        return {"kinds": kinds, "shapes": shapes, "names": names, "many": many}

    def pair(self, f, g, cap):
        a, b = cap[f["name"]], cap[g["name"]]
        both = {k: [x for x in a[k] if x in b[k]] for k in ("kinds", "shapes", "names")}
        n = max(map(len, both.values())) if a["many"] and b["many"] else 1
        names = both["names"] + [f"more.t{i}" for i in range(n - len(both["names"]))]
        tensors = [tensor(i, names[i], both["kinds"][i % len(both["kinds"])],
                          both["shapes"][i % len(both["shapes"])]) for i in range(n)]
        want = expected_id(tensors)
        at = self.source(tensors)
        for step in (f, g, f):
            made = self.write(at, step)
            if isinstance(made, str):
                raise Wrong(f"{step['name']} refuses what it held tensor by tensor: {made}")
            if self.id_of(made, step) != want:
                raise Wrong(f"another id after {step['name']}")
            at = made


    def tied(self, f, g, cap):
        """Three names of one tensor through F, G, F."""
        if not (cap[f["name"]]["many"] and cap[g["name"]]["many"]):
            return
        whole = expected_id(TIED, "one")
        apart = expected_id(TIED)
        pickled = zips.state_dict(*[(t[0], zips.tensor()) for t in TIED])
        at = self.folder / f"{next(self.count)}.pt"
        at.write_bytes(zips.torch_zip(pickled, data=TIED[0][4]))
        together = True
        for step in (f, g, f):
            made = self.write(at, step)
            if isinstance(made, str):
                raise Wrong(f"{step['name']}: {made}")
            told = sorted(line["name"] for line in self.ledger if line["what"] == "tie")
            have = self.id_of(made, step)
            if together and have == apart:
                if told != ["dense.w", "tied.w"] or step["name"] in self.ties:
                    raise Wrong(f"{step['name']} unties, and says {told}")
                together = False
            elif told or have != (whole if together else apart):
                raise Wrong(f"another id after {step['name']}, which says {told}")
            at = made
        self.ties.update(s["name"] for s in (f, g) if together)

    def hollow(self, f, g, cap):
        """Empty containers and None beside a tensor through F, G, F."""
        if not (cap[f["name"]]["many"] and cap[g["name"]]["many"]):
            return
        w = tensor(9, "dense.w", TYPES[11], (2,))
        inner = b"}(" + zips.text("w") + zips.tensor() + b"".join(
            zips.text(k) + v for k, v in HOLLOW.items()) + b"u"
        at = self.folder / f"{next(self.count)}.pt"
        at.write_bytes(zips.torch_zip(zips.state_dict(("dense", inner)), data=w[4]))
        left, want = set(HOLLOW), expected_id([w])
        for step in (f, g, f):
            made = self.write(at, step)
            if isinstance(made, str):
                raise Wrong(f"{step['name']}: {made}")
            if self.id_of(made, step) != want:
                raise Wrong(f"another id after {step['name']}")
            shown = self.run("inspect", "--tree", "--input-format", step["name"], made).stdout
            there = {k for k in HOLLOW if re.search(rf"^ +{k}: ", shown, re.M)}
            lost = {line["name"] for line in self.ledger if line["what"] == "structure"}
            if {f"dense.{k}" for k in left - there} != lost or there - left:
                raise Wrong(f"{step['name']} keeps {sorted(there)} of {sorted(left)}, says {sorted(lost)}")
            if there and step["name"] in NO_TREE:
                raise Wrong(f"{step['name']} holds a tree after all")
            if not there and step["name"] not in NO_TREE and at.suffix == ".pt":
                raise Wrong(f"{step['name']} keeps nothing")
            left, at = there, made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-b", default=os.environ.get("NNFERRY", str(ROOT / "build" / "nnferry")))
    parser.add_argument("format", nargs="*")
    args = parser.parse_args()
    listed = json.loads(subprocess.run([args.b, "formats", "--json"], capture_output=True,
                                       check=True).stdout)["formats"]
    formats = [f for f in listed if f["reads"] and f["writes"]]
    with tempfile.TemporaryDirectory() as folder:
        grid = Grid(args.b, pathlib.Path(folder))
        cap = {}
        for f in formats:
            if f["name"] in NOT_FROM_TENSORS:
                code = grid.write(grid.source([tensor(1, "arr_0", TYPES[11], (2,))]), f)
                if code != NOT_FROM_TENSORS[f["name"]]:
                    grid.failed += 1
                    print(f"FAIL {f['name']}: {code} instead of {NOT_FROM_TENSORS[f['name']]}")
                continue
            cap[f["name"]] = grid.capacity(f)
        formats = [f for f in formats if f["name"] in cap]
        for f in formats:
            for g in formats:
                if not args.format or f["name"] in args.format or g["name"] in args.format:
                    for test in (grid.pair, grid.tied, grid.hollow):
                        grid.case(f"{f['name']} -> {g['name']} -> {f['name']}, {test.__name__}",
                                  test, f, g, cap)
            for old in pathlib.Path(folder).iterdir():
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        for f in formats:
            if not args.format and cap[f["name"]]["many"] and (f["name"] in grid.ties) != (
                    f["name"] in TIES):
                grid.failed += 1
                print(f"FAIL {f['name']}: ties kept: {f['name'] in grid.ties}")
        print(f"# cases {grid.passed} passed, {grid.failed} failed")
        return 1 if grid.failed or not grid.passed else 0


if __name__ == "__main__":
    sys.exit(main())
