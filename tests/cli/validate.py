#!/usr/bin/env python3
"""validate where one side stacks or joins what the other has apart: block by block, part by part,
and a wrong number is found in the block it lies in. Standard library only."""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

ROOT = os.environ.get("NNFERRY_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BINARY = os.environ.get("NNFERRY", os.path.join(ROOT, "build/nnferry"))
sys.path.insert(0, os.path.join(ROOT, "tests/hostile"))
from lib import safetensors_bytes  # noqa: E402

BLOCKS, WIDTH, INNER = 3, 8, 12
PARTS = ("query", "key", "value", "out")
passed = failed = 0


def check(what, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAILED: %s %s" % (what, detail))


def run(*argv):
    return subprocess.run([BINARY, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120, stdin=subprocess.DEVNULL)


def write(path, shapes):
    rng = random.Random(7)
    tensors = []
    for name, shape in shapes.items():
        n = 1
        for d in shape:
            n *= d
        tensors.append((name, "F32", list(shape), struct.pack("<%df" % n, *(rng.uniform(-1, 1) for _ in range(n)))))
    with open(path, "wb") as f:
        f.write(safetensors_bytes(tensors))


def torch_blocks(joined):
    t = {}
    for i in range(BLOCKS):
        p = "layers.%d." % i
        if joined:
            t[p + "attn.qkv.weight"], t[p + "attn.qkv.bias"] = (3 * WIDTH, WIDTH), (3 * WIDTH,)
        for part in PARTS[3:] if joined else PARTS:
            t[p + "attn.%s.weight" % part], t[p + "attn.%s.bias" % part] = (WIDTH, WIDTH), (WIDTH,)
        t[p + "fc1.weight"], t[p + "fc1.bias"] = (INNER, WIDTH), (INNER,)
        t[p + "fc2.weight"], t[p + "fc2.bias"] = (WIDTH, INNER), (WIDTH,)
        t[p + "norm.weight"], t[p + "norm.bias"] = (WIDTH,), (WIDTH,)
    t["head.weight"], t["head.bias"] = (5, WIDTH), (5,)
    return t


def flax_blocks(axis):
    """Under nn.scan, the blocks along that axis; None: apart."""
    block = {"norm.scale": (WIDTH,), "norm.bias": (WIDTH,)}
    sizes = {"attn." + p: (WIDTH, WIDTH) for p in PARTS}
    sizes.update(fc1=(WIDTH, INNER), fc2=(INNER, WIDTH))
    for name, (i, o) in sizes.items():
        block[name + ".kernel"], block[name + ".bias"] = (i, o), (o,)
    t = {"params.head.kernel": (WIDTH, 5), "params.head.bias": (5,)}
    for name, shape in block.items():
        if axis is None:
            t.update({"params.layers_%d.%s" % (i, name): shape for i in range(BLOCKS)})
        else:
            at = axis % (len(shape) + 1)
            t["params.layers." + name] = shape[:at] + (BLOCKS,) + shape[at:]
    return t


def spoil(path, out, tensor, index):
    """A copy with one element changed."""
    with open(path, "rb") as f:
        blob = bytearray(f.read())
    size, = struct.unpack("<Q", blob[:8])
    head = json.loads(blob[8:8 + size])
    at, shape = 8 + size + head[tensor]["data_offsets"][0], head[tensor]["shape"]
    flat = 0
    for i, n in zip(index, shape):
        flat = flat * n + i
    value, = struct.unpack_from("<f", blob, at + 4 * flat)
    struct.pack_into("<f", blob, at + 4 * flat, value + 0.5)
    with open(out, "wb") as f:
        f.write(blob)


def verdicts(r):
    """{path: verdict} of a JSON report."""
    return {x["a"] or x["b"]: x["verdict"] for x in json.loads(r.stdout)["layers"]}


def one(d, what, joined, axis, tensor, index, wrong):
    a, like, b, bad = (os.path.join(d, n) for n in ("a.safetensors", "like.safetensors", "b.safetensors", "bad.safetensors"))
    write(a, torch_blocks(joined))
    write(like, flax_blocks(axis))
    r = run("convert", a, "-o", b, "-f", "--from", "pytorch", "--to", "flax", "--like", like)
    check("%s: converted" % what, r.returncode == 0, r.stderr)
    if r.returncode != 0:
        return
    frameworks = ("--device", "native", "--json")
    for x, y, more in ((a, b, ("--from", "pytorch", "--to", "flax")), (b, a, ("--from", "flax", "--to", "pytorch"))):
        r = run("validate", x, y, *frameworks, *more)
        check("%s: equal" % what, r.returncode == 0, r.stdout + r.stderr)
        report = json.loads(r.stdout)
        n = BLOCKS * 7 + 1
        check("%s: %d layers" % (what, n), report["equal"] == n and report["coverage"] == 1, r.stdout)
    spoil(b, bad, tensor, index)
    r = run("validate", a, bad, *frameworks, "--from", "pytorch", "--to", "flax")
    check("%s: one number is wrong" % what, r.returncode == 1, r.stderr)
    found = [path for path, v in verdicts(r).items() if v != "equal"]
    check("%s: its layer" % what, found == [wrong], found)


def main():
    with tempfile.TemporaryDirectory() as d:
        one(d, "a stack", False, 0, "params.layers.fc2.kernel", (1, 2, 3), "layers.1.fc2")
        one(d, "a stack along axis 1", False, 1, "params.layers.fc1.kernel", (2, 2, 3), "layers.2.fc1")
        one(d, "a joined projection", True, None, "params.layers_2.attn.key.kernel", (4, 5), "layers.2.attn.key")
        one(d, "a stack, joined", True, 0, "params.layers.attn.value.bias", (0, 5), "layers.0.attn.value")
    print("# cases %d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


sys.exit(main())
