#!/usr/bin/env python3
"""Mapping many layers: processor time grows with their number, not with its square, in each of the
ways that a mapping can take. Four times the layers may take ten times as long; the square of four
is sixteen."""
import os
import resource

from common import check, main, run, write_safetensors

FEW = 8000


def save(path, shapes):
    write_safetensors(path, [(name, "F32", list(shape), b"\0" * 4 * size(shape))
                             for name, shape in shapes])


def size(shape):
    n = 1
    for d in shape:
        n *= d
    return n


def torch(n):
    yield "patch.weight", (2, 1, 2, 2)
    yield "patch.bias", (2,)
    for i in range(n // 4):
        for k, (o, c) in enumerate(((8, 2), (2, 8)), 1):
            yield "blocks.%d.fc%d.weight" % (i, k), (o, c)
            yield "blocks.%d.fc%d.bias" % (i, k), (o,)


def flax(n):
    yield "params.patch.kernel", (2, 2, 1, 2)
    yield "params.patch.bias", (2,)
    for i in range(n // 4):
        for k, (o, c) in enumerate(((8, 2), (2, 8))):
            yield "params.Block_%d.Dense_%d.kernel" % (i, k), (c, o)
            yield "params.Block_%d.Dense_%d.bias" % (i, k), (o,)


def parts(n):
    for i in range(n // 8):
        for word in ("q_proj", "k_proj", "v_proj"):
            yield "h.%d.%s.weight" % (i, word), (4, 4)
            yield "h.%d.%s.bias" % (i, word), (4,)
        yield "h.%d.fc.weight" % i, (16, 4)
        yield "h.%d.fc.bias" % i, (16,)


def joined(n):
    for i in range(n // 8):
        yield "h.%d.qkv.weight" % i, (12, 4)
        yield "h.%d.qkv.bias" % i, (12,)
        yield "h.%d.fc.weight" % i, (16, 4)
        yield "h.%d.fc.bias" % i, (16,)


def convs(n):
    for i in range(n // 4):
        yield "net.%d.weight" % (2 * i), (2 + i % 7, 2, 3, 3)
        yield "net.%d.bias" % (2 * i), (2 + i % 7,)
        yield "net.%d.weight" % (2 * i + 1), (8, 2 + i % 7)
        yield "net.%d.bias" % (2 * i + 1), (8,)


def word(i):
    """Letters alone: numbers would tell."""
    return "".join("bcdfghjklm"[int(c)] for c in "%06d" % i)


def vague(n):
    for i in range(n // 2):
        yield "x%s.weight" % word(i), (3, 3)
        yield "x%s.bias" % word(i), (3,)


def other(n):
    for i in range(n // 2):
        yield "params.Z%s.kernel" % word(i * 7919 % (n // 2)), (3, 3)
        yield "params.Z%s.bias" % word(i * 7919 % (n // 2)), (3,)


def renamed(n):
    return "".join("blocks.%d.fc%d -> b%d.f%d\n" % (i, k, i, k) for i in range(n // 4) for k in (1, 2))


def single(n):
    return "".join('"blocks.%d.fc1.weight" -> params.x%d axes "O I" -> "I O"\n' % (i, i)
                   for i in range(n // 4))


# what, source, skeleton, rules, to, exit status
WAYS = (
    ("names", torch, None, None, "flax", 0),
    ("a skeleton", torch, flax, None, "flax", 0),
    ("rules of layers", torch, None, renamed, "flax", 0),
    ("rules of tensors", torch, None, single, "flax", 0),
    ("joined parts", parts, joined, None, "pytorch", 0),
    ("parts of joined ones", joined, parts, None, "pytorch", 0),
    ("convolutions in a list", convs, None, None, "flax", None),
    ("nothing that tells", vague, other, None, "flax", 4),
    ("canonical", torch, None, None, "canonical", 0),
)


def cost(work, n, way):
    what, source, skeleton, rules, to, status = way
    src, like, text = (os.path.join(work, f) for f in ("s.safetensors", "l.safetensors", "r.map"))
    save(src, source(n))
    args = ["convert", src, "--from", "pytorch", "--to", to, "--dry-run", "-o",
            os.path.join(work, "out.safetensors")]
    if skeleton:
        save(like, skeleton(n))
        args += ["--like", like]
    if rules:
        with open(text, "w") as f:
            f.write(rules(n))
        args += ["--map", text]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    r = run(*args)
    took = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    if status is None:
        status = 0 if r.returncode == 0 else 4
    check("%s: exit %d of %d tensors" % (what, status, n), r.returncode == status, r.stderr[-300:])
    return took


def layers(work):
    for way in WAYS:
        few, many = cost(work, FEW, way), cost(work, 4 * FEW, way)
        print("%-24s %6.2f s for %d tensors, %6.2f s for %d" % (way[0], few, FEW, many, 4 * FEW))
        check("%s: no square of the layers" % way[0], many < 10 * few + 0.5, (few, many))


main(layers)
