#!/usr/bin/env python3
"""The structure around the tensors of a training program's checkpoint: what arrives in another file
stands there, all else is in the ledger, and nothing goes without a word.

    structure.py [BINARY]

Standard library only.
"""

import pathlib
import pickletools
import struct
import sys
import tempfile
import zipfile

from common import check, done, run
from zips import DATA, integer, name, tensor, text, torch_zip, tup


def pickled(*items):
    """A dict of keys and values, pickled both."""
    return b"\x80\x02}(" + b"".join(k + v for k, v in items) + b"u."


def dict_of(*items):
    return b"}(" + b"".join(text(k) + v for k, v in items) + b"u"


def namespace(*items):
    """argparse.Namespace, as pickle has it: made without arguments, filled by its state."""
    return name("argparse", "Namespace") + b")\x81" + dict_of(*items) + b"b"


EPOCH = (text("epoch"), integer(7))
MODEL = (text("model"), dict_of(("w", tensor())))


def write(path, *items):
    path.write_bytes(torch_zip(pickled(*items)))
    return path


def archives(d):
    """Foreign objects with parts that have names: an archive of them can be read, and restored."""
    src = write(d / "a.pt", MODEL, EPOCH, (text("args"), namespace(("lr", integer(1)))))
    check("to an archive", run("convert", src, "-o", d / "a.tar.zst").returncode == 0)
    back = ("convert", d / "a.tar.zst", "-o", d / "b.pt", "--to", "source", "-f")
    got = run(*back)
    check("the object is named", got.returncode == 4 and "args: would be lost (a foreign object)"
          in got.stderr, got.stderr)
    got = run(*back, "--allow-drop", "args")
    check("and may go", got.returncode == 0 and "epoch" not in got.stderr, got.stderr)
    got = run("convert", d / "b.pt", "-o", d / "b.safetensors")
    check("the epoch came back", got.returncode == 4 and "epoch: would be lost" in got.stderr,
          got.stderr)


def trees_that_do_not_fit(d):
    """A tensor inside of what is dropped, or below a key that is no text: the tree cannot be
    written, and each value in it is a loss of its own."""
    inside = (text("args"), namespace(("w", tensor())))
    odd = (text("d"), b"}(" + tup(integer(1), text("a")) + tensor() + b"u")
    for what, item, lines in (("inside an object", inside, {"args", "epoch"}),
                              ("below a tuple", odd, {"d.(key 0)", "epoch"})):
        src = write(d / "c.pt", EPOCH, item)
        got = run("convert", src, "-o", d / "c2.pt", "-f")
        asked = {s.split('"')[1] for s in got.stdout.splitlines() if s.startswith("#drop")}
        check(f"{what}: all of it is named", got.returncode == 4 and asked == lines, got.stdout)
        got = run("convert", src, "-o", d / "c2.pt", "-f", "--allow-drop", "*")
        check(f"{what}: and may go", got.returncode == 0 and all(
            f"left behind {n}: " in got.stderr for n in lines), got.stderr)


def shards(d):
    """A folder of shards holds tensors alone."""
    src = write(d / "s.pt", MODEL, EPOCH)
    argv = ("convert", src, "-o", d / "shards", "--format", "pytorch", "--max-shard-size", "1M")
    got = run(*argv)
    check("shards have no place for an epoch", got.returncode == 4 and "epoch: would be lost"
          in got.stderr, got.stderr)
    check("and are written without", run(*argv, "--weights-only").returncode == 0)


def quantised(d):
    """A scale is no train state: --weights-only does not part it from its integers."""
    whole = name("torch._utils", "_rebuild_qtensor") + tup(
        tup(text("storage"), name("torch", "QInt8Storage"), text("0"), text("cpu"), integer(2)) +
        b"Q", integer(0), tup(integer(2)), tup(integer(1)),
        tup(name("torch", "per_tensor_affine"), b"G" + struct.pack(">d", 0.5), integer(3)),
        b"\x89", name("collections", "OrderedDict") + b")R") + b"R"
    path = d / "q.pt"
    path.write_bytes(torch_zip(pickled((text("q"), whole)), data=bytes(2)))
    for option in ((), ("--weights-only",)):
        got = run("convert", path, "-o", d / "q.safetensors", *option)
        check(f"a scale is not lost {option}", got.returncode == 4 and "q_scale" in got.stderr,
              got.stderr)
    got = run("convert", path, "-o", d / "q2.pt")
    check("it is kept where it can be", got.returncode == 0, got.stderr)


def containers(d):
    """A frozenset, which may stand in a set or be a key, comes back as one; numpy's numbers come back
    as tensors, and that is said."""
    frozen = name("__builtin__", "frozenset") + b"](" + integer(1) + b"e\x85R"
    plain = name("__builtin__", "set") + b"](" + frozen + b"e\x85R"
    scalar = name("numpy.core.multiarray", "scalar") + tup(
        name("numpy", "dtype") + tup(text("f8"), b"\x89", b"\x88") + b"R" + tup(
            integer(3), text("<"), b"N", b"N", b"N", b"J\xff\xff\xff\xff",
            b"J\xff\xff\xff\xff", integer(0)) + b"b",
        b"C\x08" + struct.pack("<d", 0.5)) + b"R"
    src = d / "c.pt"
    src.write_bytes(torch_zip(b"\x80\x03" + pickled(
        MODEL, (text("f"), frozen), (text("s"), plain), (text("lr"), scalar))[2:]))
    for way in (("c2.pt",), ("c.tar.zst",)):
        got = run("convert", src, "-o", d / way[0], "-f")
        check(f"{way}: numpy's number is named", got.returncode == 0 and
              "left behind lr: that it was numpy's" in got.stderr, got.stderr)
    got = run("convert", d / "c.tar.zst", "-o", d / "c3.pt", "--to", "source")
    check("a frozenset is said", got.returncode == 0 and "weights_only=False" in got.stderr,
          got.stderr)
    pickle = zipfile.ZipFile(d / "c3.pt").read("archive/data.pkl")
    names = [tuple(a.split()) for o, a, _ in pickletools.genops(pickle) if o.name == "GLOBAL"]
    check("and comes back", names.count(("builtins", "frozenset")) == 2 and
          names.count(("builtins", "set")) == 1, names)
    got = run("convert", write(d / "n.pt", MODEL, EPOCH), "-o", d / "n2.pt")
    check("nothing to say", "numpy" not in got.stderr and "frozenset" not in got.stderr,
          got.stderr)


def main():
    assert len(DATA) == 8
    with tempfile.TemporaryDirectory() as temp:
        for each in (archives, trees_that_do_not_fit, shards, quantised, containers):
            d = pathlib.Path(temp) / each.__name__
            d.mkdir()
            each(d)
    return done()


if __name__ == "__main__":
    sys.exit(main())
