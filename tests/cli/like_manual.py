#!/usr/bin/env python3
"""The examples of --like in nnferry-map.5: each display of pairs is a source and a skeleton, and what
the manual says of every tensor must come out. Standard library only."""
import json
import os
import re
import struct
import subprocess
import sys
import tempfile

ROOT = os.environ.get("NNFERRY_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BINARY = os.environ.get("NNFERRY", os.path.join(ROOT, "build/nnferry"))
LINE = re.compile(r"^(\S+) \[([0-9,]+)\]( +-> +)(\S+)(?: \[([0-9,]+)\])?$")
passed = failed = 0


def check(what, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAILED: %s: %s" % (what, detail))


def displays():
    """[[(source, shape, target, shape)]]; the target of what is asked about is '?'."""
    out = None
    for line in open(os.path.join(ROOT, "man/nnferry-map.5"), encoding="utf-8"):
        line = line.rstrip("\n")
        if line.startswith(".Bd -unfilled"):
            out = []
        elif line.startswith(".Ed") and out is not None:
            yield out
            out = None
        elif out is not None:
            got = LINE.match(line)
            check("a line of pairs", got, line)
            shape = [None if not got[k] else [int(x) for x in got[k].split(",")] for k in (2, 5)]
            out.append((got[1], shape[0], got[4], shape[1]))


def save(path, tensors):
    header, data = {}, b""
    for name, shape, value in tensors:
        n = 1
        for d in shape:
            n *= d
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * n]}
        data += struct.pack("<f", value) * n
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def values(path):
    data = open(path, "rb").read()
    (n,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8:8 + n]), data[8 + n:]
    header.pop("__metadata__", None)
    return {k: set(struct.unpack("<%df" % ((v["data_offsets"][1] - v["data_offsets"][0]) // 4),
                                 body[slice(*v["data_offsets"])])) for k, v in header.items()}


def example(pairs, work):
    src, like, dst = (os.path.join(work, f + ".safetensors") for f in ("source", "like", "out"))
    value, shapes, skeleton = {}, {}, {}
    for source, shape, target, there in pairs:
        if source != "?":
            value.setdefault(source, float(len(value) + 1))
            shapes[source] = shape
        if target != "?":
            skeleton[target] = there
    save(src, [(k, shapes[k], v) for k, v in value.items()])
    save(like, [(k, v, 0.0) for k, v in skeleton.items()])
    flax = any(t.startswith("params.") for t in skeleton)
    got = subprocess.run([BINARY, "convert", src, "-f", "-o", dst, "--from", "pytorch", "--to",
                          "flax" if flax else "pytorch", "--like", like],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                         stdin=subprocess.DEVNULL)
    asked = {s.rpartition(".")[0] for s, _, t, _ in pairs if t == "?"}
    if asked:
        lines = set(re.findall(r'^"(.*)" -> \?$', got.stdout, re.M))
        check("asked about", got.returncode == 4 and lines == asked, (got.returncode, lines, asked))
        return
    if not check_exit(got):
        return
    have, want = values(dst), {}
    for source, _, target, _ in pairs:
        want.setdefault(target, set()).add(value[source])
    check("every tensor of the skeleton", have == want, (have, want))


def check_exit(got):
    check("exit 0", got.returncode == 0, got.stdout + got.stderr)
    return got.returncode == 0


def main():
    n = 0
    for pairs in displays():
        n += 1
        with tempfile.TemporaryDirectory() as work:
            example(pairs, work)
    check("there are examples", n >= 4, n)
    print("# cases %d passed, %d failed" % (passed, failed))
    sys.exit(failed != 0)


main()
