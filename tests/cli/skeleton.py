#!/usr/bin/env python3
"""What a skeleton gives beside names: the containers around the tensors, and facts of a rules file
for leaves that have no names. Standard library only."""
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tempfile
import types

ROOT = os.environ.get("NNFERRY_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BINARY = os.environ.get("NNFERRY", os.path.join(ROOT, "build/nnferry"))
GOLDEN = os.path.join(ROOT, "tests/golden")
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


def names(path):
    return sorted(t["name"] for t in json.loads(run("inspect", "--json", path).stdout)["tensors"])


def numpy_alone():
    """Enough of numpy for pickle to name it: an array of float32 as numpy pickles it."""
    numpy, core = types.ModuleType("numpy"), types.ModuleType("numpy.core.multiarray")
    sys.modules.update({"numpy": numpy, "numpy.core": types.ModuleType("numpy.core"),
                        "numpy.core.multiarray": core})

    class dtype:
        def __init__(self, *_):
            pass

        def __reduce__(self):
            return dtype, ("f4", False, True), (3, "<", None, None, None, -1, -1, 0)

        def __setstate__(self, state):
            pass

    class ndarray:
        def __init__(self, shape, data):
            self.shape, self.data = shape, data

        def __reduce__(self):
            state = (1, self.shape, dtype(), False, self.data)
            return core._reconstruct, (ndarray, (0,), b"b"), state

    def _reconstruct(*_):
        raise RuntimeError("written, never read here")

    for module, thing in ((numpy, dtype), (numpy, ndarray), (core, _reconstruct)):
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)
    return lambda *dims: ndarray(dims, struct.pack("<6f", *range(6))[:4 * dims[0] * dims[-1]]
                                 if len(dims) > 1 else struct.pack("<%df" % dims[0], *range(dims[0])))


def last(path):
    """What makes the outermost object."""
    ops = [o.name for o, _, _ in pickletools.genops(open(path, "rb").read())
           if o.name not in ("STOP", "MEMOIZE", "BINPUT", "LONG_BINPUT")]
    return ops[-1]


def containers(d):
    """A tuple of two dicts stays one, whatever the weights came in."""
    array = numpy_alone()
    skeleton, flat, back = (os.path.join(d, n) for n in ("skeleton.pkl", "flat.npz", "back.pkl"))
    with open(skeleton, "wb") as f:
        pickle.dump(({"linear": {"w": array(2, 3), "b": array(3)}}, {"other": {"v": array(2)}}), f, 2)
    check("a pickled tuple", last(skeleton) == "TUPLE2", last(skeleton))
    r = run("convert", skeleton, "-o", flat)
    check("flat", r.returncode == 0, r.stderr)
    r = run("convert", flat, "-o", back, "--from", "haiku", "--to", "haiku", "--like", skeleton)
    check("into the skeleton", r.returncode == 0, r.stderr)
    check("the same names", r.returncode == 0 and names(back) == names(skeleton))
    check("a tuple still", r.returncode == 0 and last(back).startswith("TUPLE"))


def counters(d):
    """A batch norm's counters are the model's, no train state."""
    flat = os.path.join(d, "counted.npz")
    source = os.path.join(GOLDEN, "haiku/tuple.pkl")
    r = run("convert", source, "-o", flat, "--train-state", "drop")
    check("train state dropped", r.returncode == 0, r.stderr)
    check("counters kept", r.returncode == 0 and
          names(flat) == [n for n in names(source) if n[0] in "01"])


def tables(d):
    """A framework that has no such kind of layer: a question or a loss, never a bug of ours."""
    source, out = os.path.join(d, "conv.safetensors"), os.path.join(d, "out.safetensors")
    head = json.dumps({"block.kernel": {"dtype": "F32", "shape": [3, 3, 2, 2],
                                        "data_offsets": [0, 144]}}).encode()
    with open(source, "wb") as f:
        f.write(len(head).to_bytes(8, "little") + head + bytes(144))
    rules = os.path.join(d, "rules")
    with open(rules, "w") as f:
        f.write('# nnferry-map 1\nkind "block" = conv\n')
    for to in ("gguf", "hf_flax", "keras", "haiku"):
        for more in ((), ("--map", rules)):
            r = run("convert", source, "-o", out, "-f", "--from", "flax", "--to", to, *more)
            want = (4,) if to == "gguf" else (0, 4)
            check("convolution to %s" % to, r.returncode in want, "%d %s" % (r.returncode, r.stderr))


def groups(d):
    """Transposed convolutions of several groups, whose count the bias tells, have one home."""
    source, out = os.path.join(d, "grouped.safetensors"), os.path.join(d, "grouped.npz")
    for n, exits in ((1, 0), (2, 4)):  # weight [in, out / groups, 3, 3]
        head = json.dumps({"up.weight": {"dtype": "F32", "shape": [4, 6 // n, 3, 3],
                                         "data_offsets": [0, 864 // n]},
                           "up.bias": {"dtype": "F32", "shape": [6],
                                       "data_offsets": [864 // n, 864 // n + 24]}}).encode()
        with open(source, "wb") as f:
            f.write(len(head).to_bytes(8, "little") + head + bytes(864 // n + 24))
        for to in ("flax", "nnx", "haiku", "equinox", "keras"):
            r = run("convert", source, "-o", out, "-f", "--from", "pytorch", "--to", to)
            named = exits == 0 or "grouped-transpose" in r.stderr
            check("%d groups to %s" % (n, to), r.returncode == exits and named, r.stderr)
        r = run("convert", source, "-o", os.path.join(d, "g.tar.zst"), "-f")
        check("%d groups into an archive" % n, r.returncode == 0, r.stderr)


def main():
    with tempfile.TemporaryDirectory() as d:
        containers(d)
        counters(d)
        tables(d)
        groups(d)
    print("# cases %d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


sys.exit(main())
