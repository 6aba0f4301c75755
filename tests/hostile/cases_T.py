"""Hostile TensorFlow checkpoints, SavedModels and frozen graphs."""

import os
import pathlib
import struct

from lib import case
from tables import (EMPTY, MAGIC, block, bundle, entries, entry, footer, handle, header,
                    masked, msg, num, shape, slice_key, slice_of, table, varint)

DATA = bytes(range(1, 9))
W = entry(4, [8], 8, masked(DATA))
GOOD = bundle({b"w": W})
F = "P.index"
SHARD = "P.data-00000-of-00001"


def put(index, data=DATA, file=F, shard=SHARD):
    def build(folder):
        (folder / file).write_bytes(index)
        if data is not None:
            (folder / shard).write_bytes(data)
    return build


def bad(id, code, index, data=DATA, offset=None, twin=None):
    case(id, F, 3, code, offset, build=put(index, data), twin=twin or put(GOOD))


# ---- T01: the footer ----
bad("T01-magic", None, GOOD[:-1] + b"\xda")
bad("T01-handle", "sstable-handle", GOOD[:-48] + footer(handle(0, 8), handle(1 << 40, 8)))
bad("T01-handle-meta", "sstable-handle", GOOD[:-48] + footer(handle(1 << 40, 8), handle(0, 8)))
bad("T01-varint", "sstable-footer", GOOD[:-48] + (b"\xff" * 11).ljust(40, b"\0") + MAGIC)
bad("T01-overlong", "sstable-footer", GOOD[:-48] + (b"\x80" * 9 + b"\0" * 31) + MAGIC)
bad("T01-padding", "sstable-footer", GOOD[:-9] + b"\1" + MAGIC)
for n in (0, 1, 47, 48, len(GOOD) - 1):
    bad(f"T01-cut-{n}", None, GOOD[:n])
bad("T01-block-varint", "sstable-handle",
    table(entries([(b"", header()), (b"w", W)]), place=b"\x80" * 11))

# ---- T02: blocks that wrap ----
data = entries([(b"", header()), (b"w", W)])
for n, (at, size) in enumerate(((0, 2**64 - 1), (0, 2**64 - 5), (2**64 - 1, 2), (0, 2**63),
                                (2**63, 2**63), (0, 1 << 32))):
    bad(f"T02-{n}", "sstable-handle", table(data, place=handle(at, size)))
bad("T02-two-blocks", "sstable-handle", table(data, place=handle(1, len(data) - 1)))


def compressed(raw, declared=None):
    """Snappy, literals alone."""
    out = varint(len(raw) if declared is None else declared)
    for i in range(0, len(raw), 60):
        piece = raw[i:i + 60]
        out += bytes([len(piece) - 1 << 2]) + piece
    return out


case("T02-snappy", F, 0, build=put(table(compressed(data), kind=1)),
     expect_tensors={"w": DATA})
bad("T02-snappy-bomb", "snappy-length", table(compressed(data, 2**32 - 1), kind=1))
bad("T02-snappy-short", "snappy-data", table(compressed(data, len(data) + 1), kind=1))
bad("T02-snappy-long", "snappy-data", table(compressed(data, len(data) - 1), kind=1))
bad("T02-snappy-copy", "snappy-data", table(b"\x08\x00a\x01\x09", kind=1))
bad("T02-kind", "sstable-block", table(data, kind=2))

# ---- T04: entries ----
one = varint(0) + varint(0) + varint(len(header())) + header()


def tail(*restarts):
    return struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts))


def row(shared, key, value, unshared=None, size=None):
    return (varint(shared) + varint(len(key) if unshared is None else unshared)
            + varint(len(value) if size is None else size) + key + value)


bad("T04-shared", "sstable-entry", table(one + row(1, b"w", W) + tail(0)))
bad("T04-shared-2^32", "sstable-entry", table(one + row(2**32 - 1, b"w", W) + tail(0)))
bad("T04-value", "sstable-entry", table(one + row(0, b"w", W, size=2**32 - 1) + tail(0)))
bad("T04-key", "sstable-entry", table(one + row(0, b"w", W, unshared=2**31) + tail(0)))
bad("T04-restarts", "sstable-restart", table(one + tail(0)[:-4] + b"\xff\xff\xff\xff"))
bad("T04-no-restarts", "sstable-restart", table(one + tail()))
bad("T04-restart-inside", "sstable-restart", table(one + row(0, b"w", W) + tail(0, 1)))
bad("T04-restart-shares", "sstable-restart",
    table(one + row(0, b"w", W) + row(1, b"x", W) + tail(0, len(one + row(0, b"w", W)))))
bad("T04-unsorted", "sstable-order", table(entries([(b"", header()), (b"w", W), (b"a", W)])))
bad("T04-twice", "sstable-order", table(entries([(b"", header()), (b"w", W), (b"w", W)],
                                                shared=False)))
bad("T04-behind-index", "sstable-order", table(data, last_key=b"a"))
bad("T04-sum", "sstable-sum", bytes([GOOD[0]]) + GOOD[1:9] + bytes([GOOD[9] ^ 1]) + GOOD[10:])
bad("T04-tiny", "sstable-block", table(b"\1\0\0"))

# ---- T05: entries' messages ----
crc = masked(DATA)
for n, (code, body) in enumerate((
        ("proto-group", b"\x0b"), ("proto-tag", b"\0\0"), ("truncated", b"\x08"),
        ("proto-varint", b"\x08" + b"\xff" * 10), ("truncated", b"\x12\x7f"),
        ("proto-type", b"\x0d\0\0\0\0"), ("proto-length", msg(2, b"\x12\x05\x08") + num(5, 8)),
        ("truncated", b"\x35\0\0"))):
    bad(f"T05-garbage-{n}", code, bundle({b"w": body}))
bad("T05-dtype", "unknown-dtype", bundle({b"w": entry(127, [8], 8, crc)}))
bad("T05-dtype-0", "unknown-dtype", bundle({b"w": entry(0, [8], 8, crc)}))
bad("T05-dtype-2^64", "unknown-dtype", bundle({b"w": entry(2**64 - 1, [8], 8, crc)}))
bad("T05-resource", "unknown-dtype", bundle({b"w": entry(20, [8], 8, crc)}))
bad("T05-dim", "tf-shape", bundle({b"w": entry(4, [-1], 8, crc)}))
bad("T05-rank", "tf-shape", bundle({b"w": num(1, 4) + msg(2, num(3, 1)) + num(5, 8)}))
bad("T05-300", "tf-shape", bundle({b"w": entry(4, [1] * 300, 1, crc)}))
bad("T05-wrap", "shape-overflow", bundle({b"w": entry(4, [2**32, 2**32], 0, 0)}))
bad("T05-wrap-zero", "shape-overflow", bundle({b"w": entry(4, [0, 2**62, 4], 0, 0)}))
bad("T05-name", "bad-name", bundle({b"w\0": W}))
bad("T05-utf8", "bad-name", bundle({b"w\xff": W}))

# ---- T06: strings ----
bad("T06", None, bundle({b"s": entry(7, [2**60], 0, 0)}), data=None)
bad("T06-shard", "unreadable", bundle({b"s": entry(7, [], 8, 0)}), data=None, offset=False)
bad("T06-count", "tf-string", bundle({b"s": entry(7, [2**60], 8, 0)}))
bad("T06-count-9", "tf-string", bundle({b"s": entry(7, [9], 8, 0)}))


def strings(*parts, lengths=None):
    lengths = [len(p) for p in parts] if lengths is None else lengths
    words = b"".join(struct.pack("<I" if n < 2**32 else "<Q", n) for n in lengths)
    check = struct.pack("<I", masked(words))
    return (b"".join(map(varint, lengths)) + check + b"".join(parts),
            masked(words + check + b"".join(parts)))


S, S_SUM = strings(b"ab", b"cde")
GOOD_S = put(bundle({b"s": entry(7, [2], len(S), S_SUM), b"w": entry(4, [2], 2, masked(S[:2]),
                                                                     offset=len(S))}), S + S[:2])
for name, (body, check) in {
        "sums-past": strings(b"ab", b"cde", lengths=[2, 4]),
        "sums-short": strings(b"ab", b"cde", lengths=[2, 2]),
        "wraps": strings(b"ab", b"cde", lengths=[2**63, 2**63 + 5])}.items():
    bad(f"T08-strings-{name}", "tf-string", bundle({b"s": entry(7, [2], len(body), check)}), body)
QUICK = {"inspect": 0, "convert": 3}  # sums of data are not read for a listing
case("T08-strings-sum", F, QUICK, {"inspect": None, "convert": "tf-sum"}, None,
     build=put(bundle({b"s": entry(7, [2], len(S), S_SUM ^ 1)}), S), twin=GOOD_S)
bad("T08-lengths-sum", "tf-sum", bundle({b"s": entry(7, [2], len(S), S_SUM)}),
    S[:2] + bytes([S[2] ^ 1]) + S[3:])
bad("T08-varint", "proto-varint", bundle({b"s": entry(7, [1], 16, 0)}), b"\xff" * 16)

# ---- T08: sizes, sums, places ----
bad("T08-size", "size-mismatch", bundle({b"w": entry(4, [8], 7, crc)}))
bad("T08-size-f32", "size-mismatch", bundle({b"w": entry(1, [8], 8, crc)}))
case("T08-sum", F, QUICK, {"inspect": None, "convert": "tf-sum"}, None,
     build=put(bundle({b"w": entry(4, [8], 8, crc ^ 1)})), twin=put(GOOD))
bad("T08-past", "truncated", bundle({b"w": entry(4, [8], 8, crc, offset=1)}))
bad("T08-wrap", "truncated", bundle({b"w": entry(4, [8], 8, crc, offset=2**64 - 1)}))
bad("T08-cut", "truncated", GOOD, DATA[:7])
bad("T08-shard", "tf-shard", bundle({b"w": entry(4, [8], 8, crc, shard=1)}))
bad("T08-shards", "tf-header", bundle({b"w": W}, header(2**31)))
bad("T08-overlap", "tf-overlap", bundle({b"a": entry(4, [5], 5, masked(DATA[:5])),
                                         b"b": entry(4, [5], 5, masked(DATA[3:]), offset=3)}))


def link(folder):
    (folder / F).write_bytes(GOOD)
    (folder.parent / "outside" / "d").write_bytes(DATA)
    os.symlink("../outside/d", folder / SHARD)


case("T08-symlink", F, 3, "path-escape", None, build=link, twin=put(GOOD))


def fifo(folder):
    (folder / F).write_bytes(GOOD)
    os.mkfifo(folder / SHARD)


case("T08-fifo", F, 3, None, False, build=fifo, twin=put(GOOD))

# ---- T09: slices ----


def sliced(dims, boxes, keys=None, sizes=None):
    pairs = {b"w": num(1, 4) + msg(2, shape(dims)) + b"".join(msg(7, slice_of(b)) for b in boxes)}
    at = 0
    for i, b in enumerate(boxes):
        full = [dims[d] if p is None else p[1] for d, p in enumerate(b)]
        n = 1
        for f in full:
            n *= f
        n = n if sizes is None else sizes[i]
        pairs[slice_key(b"w", b) if keys is None else keys[i]] = entry(
            4, full, n, masked(DATA[at:at + n]), offset=at)
        at += n
    return bundle(pairs)


TWO = [[(0, 3), None], [(3, 1), None]]
GOOD_T = put(sliced([4, 2], TWO))
case("T09", F, 0, build=GOOD_T, expect_tensors={"w": DATA})
case("T09-columns", F, 0, build=put(sliced([2, 4], [[None, (0, 1)], [None, (1, 3)]])),
     expect_tensors={"w": bytes([1, 3, 4, 5, 2, 6, 7, 8])})


def bad_slice(id, index, code="tf-slice"):
    bad(id, code, index, twin=GOOD_T)


bad_slice("T09-gap", sliced([4, 2], [[(0, 2), None], [(3, 1), None]]))
bad_slice("T09-overlap", sliced([4, 2], [[(0, 3), None], [(2, 1), None]]))
bad_slice("T09-outside", sliced([4, 2], [[(0, 3), None], [(4, 1), None]]))
bad_slice("T09-longer", sliced([3, 2], [[(0, 3), None], [(3, 1), None]]))
bad_slice("T09-rank", sliced([4, 2], [[(0, 3)], [(3, 1), None]], sizes=[6, 2]))
bad_slice("T09-no-slice", sliced([4, 2], TWO, keys=[b"x", b"y"]))
bad_slice("T09-orphan", bundle({slice_key(b"x", [(0, 8)]): entry(4, [8], 8, crc)}))
bad_slice("T09-negative", bundle({b"w": num(1, 4) + msg(2, shape([8])) + msg(
    7, msg(1, num(1, -1) + num(2, 8)))}))
bad_slice("T09-string", bundle({b"w": num(1, 7) + msg(2, shape([8])) + msg(7, slice_of([None]))}))
bad_slice("T09-twice", bundle({
    slice_key(b"w", [(0, 8)]): entry(4, [8], 8, crc),
    b"w": num(1, 4) + msg(2, shape([8])) + msg(7, slice_of([(0, 8)])) * 2}))
many = [[(i, 1)] for i in range(3000)]
bad_slice("T09-many", bundle({b"w": num(1, 4) + msg(2, shape([6000])) + b"".join(
    msg(7, slice_of(s)) for s in many)} | {slice_key(b"w", s): entry(4, [1], 1, 0)
                                           for s in many}), None)

# ---- T10: the header ----
bad("T10-missing", "tf-header", table(entries([(b"w", W)])))
bad("T10-empty", "tf-header", table(EMPTY))
bad("T10-twice", "sstable-order", table(entries([(b"", header()), (b"", header()), (b"w", W)])))
bad("T10-zero", "tf-header", bundle({b"w": W}, header(0)))
bad("T10-endian", "tf-header", bundle({b"w": W}, header(1, 2)))
bad("T10-version", "tf-version", bundle({b"w": W}, header(1, 0, 2)))
case("T10-big", F, 0, build=put(bundle({b"w": entry(3, [2], 8, crc)}, header(1, 1))),
     expect_tensors={"w": bytes([4, 3, 2, 1, 8, 7, 6, 5])})
GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"


def with_graph(graph, key=b"w/.ATTRIBUTES/VARIABLE_VALUE"):
    body, check = strings(graph)
    return (bundle({GRAPH: entry(7, [], len(body), check),
                    key: entry(4, [8], 8, crc, offset=len(body))}), body + DATA)


NODE = msg(1, msg(1, num(1, 1) + msg(2, b"w"))) + msg(1, msg(2, msg(1, b"VARIABLE_VALUE") + msg(
    3, b"w/.ATTRIBUTES/VARIABLE_VALUE")))
GOOD_G = put(*with_graph(NODE))
case("T10-graph", F, 0, build=GOOD_G, expect_tensors={"w": DATA})
for n, (code, g) in enumerate((("proto-group", b"\x0b"), ("truncated", b"\x0a\x7f"),
                               ("tf-graph", NODE + msg(1, msg(3, num(1, 9) + num(3, 1)))),
                               ("tf-graph", NODE + msg(1, msg(1, num(1, 9) + msg(2, b"x")))),
                               ("proto-type", msg(1, num(2, 1))))):
    index, body = with_graph(g)
    case(f"T10-graph-{n}", F, 3, code, None, build=put(index, body), twin=GOOD_G)
# an optimizer that is its own list of weights, and the root its child: no path but through it
ROUND = msg(1, b"".join(msg(1, num(1, n) + msg(2, name)) for n, name in (
    (0, b"_iterations"), (0, b"_variables"), (0, b"_trainable_variables"), (1, b"0"), (0, b"_m"))))
LOOP = put(*with_graph(ROUND + msg(1, msg(2, msg(1, b"VARIABLE_VALUE") + msg(
    3, b"_trainable_variables/0/.ATTRIBUTES/VARIABLE_VALUE"))),
    b"_trainable_variables/0/.ATTRIBUTES/VARIABLE_VALUE"))
case("T10-graph-loop", F, 0, build=LOOP, expect_tensors={"_trainable_variables.0": DATA})
two_names = bundle({GRAPH: entry(7, [], len(strings(NODE)[0]), strings(NODE)[1]),
                    b"w": entry(4, [8], 8, crc, offset=len(strings(NODE)[0])),
                    b"w/.ATTRIBUTES/VARIABLE_VALUE": entry(4, [8], 8, crc,
                                                           offset=len(strings(NODE)[0]))})
case("T10-one-name", F, 3, "name-twice", None, build=put(two_names, strings(NODE)[0] + DATA),
     twin=GOOD_G)

# ---- version 1 ----


def v1(name=b"w", dims=(8,), dtype=4, slices=((None,),), key=None, values=None):
    meta = msg(1, msg(1, msg(1, name) + msg(2, shape(dims)) + num(3, dtype) + b"".join(
        msg(4, slice_of(s)) for s in slices)))
    rows = [(b"", meta)]
    for s in slices:
        tensor = msg(7, b"".join(map(varint, DATA))) if values is None else values
        rows.append((key or slice_key(name, s), msg(2, msg(1, name) + msg(2, slice_of(s)) + msg(
            3, tensor))))
    return table(entries(rows))


GOOD_1 = v1()
case("T12-v1", "m.ckpt", 0, build=GOOD_1, expect_tensors={"w": DATA})


def bad1(id, code, body, exits=3):
    case(id, "m.ckpt", exits, code, None, build=body, twin=GOOD_1)


bad1("T12-v1-dtype", "unknown-dtype", v1(dtype=20))
bad1("T12-v1-rank", "tf-slice", v1(slices=((None, None),)))
bad1("T12-v1-none", "tf-slice", v1(slices=()))
bad1("T12-v1-gap", "tf-slice", v1(slices=(((0, 7),),)))
bad1("T12-v1-wrap", "shape-overflow", v1(dims=(2**32, 2**32), slices=((None, None),)))
READ = {"inspect": 0, "convert": 3}
bad1("T12-v1-no-entry", {"inspect": None, "convert": "tf-slice"}, v1(key=b"\0x\0\1\1\1\x80\x7f"),
     READ)
bad1("T12-v1-longer", {"inspect": None, "convert": "tf-values"},
     v1(values=msg(7, b"\1" * 9)), READ)
bad1("T12-v1-two", {"inspect": None, "convert": "tf-values"},
     v1(values=msg(7, b"\1") + msg(5, b"\0" * 4)), READ)
bad1("T12-v1-content", {"inspect": None, "convert": "tf-values"},
     v1(values=msg(4, b"\1" * 7)), READ)



def repeats(n, unit=b"\0" * 60):
    """Snappy: unit n times over."""
    whole = len(unit) * n
    out = varint(whole) + bytes([len(unit) - 1 << 2]) + unit
    left = whole - len(unit)
    while left:
        step = min(left, 60)
        out += bytes([step - 1 << 2 | 2]) + struct.pack("<H", len(unit))
        left -= step
    return out


def crowd(n, per_tensor, padding):
    """n values of a byte in one snappy block, and an entry behind them that makes it long: a table
    of kilobytes whose block, read for each value, is gigabytes. per_tensor: slices of one."""
    names = [b"t%06d" % i for i in range(n // per_tensor)]
    metas, rows = [], []
    for name in names:
        slices = [(((i, 1),) if per_tensor > 1 else (None,)) for i in range(per_tensor)]
        metas.append(msg(1, msg(1, name) + msg(2, shape((per_tensor,))) + num(3, 4) + b"".join(
            msg(4, slice_of(s)) for s in slices)))
        rows += [(slice_key(name, s), msg(2, msg(3, msg(7, b"\1")))) for s in slices]
    rows.sort()
    meta = [(b"", msg(1, b"".join(metas)))]
    last = b"\x7f"
    body = b""
    for key, value in meta + rows:
        body += row(0, key, value)
    # the last entry: a value of `padding` zeros, compressed to nearly nothing
    head = body + varint(0) + varint(len(last)) + varint(padding * 60) + last
    tail_ = struct.pack("<II", 0, 1)
    packed = varint(len(head) + padding * 60 + len(tail_))
    packed += compressed(head)[len(varint(len(head))):]
    packed += repeats(padding)[len(varint(padding * 60)):]
    packed += compressed(tail_)[len(varint(len(tail_))):]
    return table(packed, kind=1)


# 3000 tensors, a block of 20 MB: decoded for each it would be 60 GB
case("T12-v1-crowd", "m.ckpt", 0, build=crowd(3000, 1, 333333),
     expect_tensors={"t000000": b"\1", "t002999": b"\1"})
# the same as slices of one tensor
bad1("T12-v1-slices", "tf-slices", crowd(3000, 3000, 333333))
case("T12-v1-few-slices", "m.ckpt", 0, build=crowd(8, 4, 10),
     expect_tensors={"t000000": b"\1" * 4, "t000001": b"\1" * 4})

# ---- T12: frozen graphs ----


def const(value, name=b"w", op=b"Const"):
    return msg(1, msg(1, name) + msg(2, op) + msg(5, msg(1, b"dtype") + msg(2, num(6, 4))) + msg(
        5, msg(1, b"value") + msg(2, msg(8, value))))


def tensor(dims, body, dtype=4):
    return num(1, dtype) + msg(2, shape(dims)) + body


GOOD_P = const(tensor([8], msg(4, DATA)))
case("T12-graph", "g.pb", 0, build=GOOD_P, expect_tensors={"w": DATA})
case("T12-splat", "g.pb", 0, build=const(tensor([3], msg(7, b"\5"))),
     expect_tensors={"w": b"\5\5\5"})
case("T12-last", "g.pb", 0, build=const(tensor([4], msg(7, b"\5\6"))),
     expect_tensors={"w": b"\5\6\6\6"})


def badg(id, code, body, exits=3):
    case(id, "g.pb", exits, code, None, build=body, twin=GOOD_P)


badg("T12-longer", "tf-values", const(tensor([8], msg(4, DATA + b"\0"))))
badg("T12-shorter", "tf-values", const(tensor([8], msg(4, DATA[:7]))))
badg("T12-list-longer", "tf-values", const(tensor([8], msg(7, b"\1" * 9))))
badg("T12-list-wrong", "tf-values", const(tensor([2], msg(5, b"\0" * 8))))
badg("T12-list-both", "tf-values", const(tensor([8], msg(4, DATA) + msg(7, DATA))))
badg("T12-list-two", "tf-values", const(tensor([8], msg(10, DATA[:2]) + msg(7, DATA))))
badg("T12-packed", "proto-packed", const(tensor([2], msg(5, b"\0" * 7), 1)))
badg("T12-complex", "tf-values", const(tensor([2], msg(9, b"\0" * 12), 8)))
badg("T12-dim", "tf-shape", const(tensor([-1], msg(4, DATA))))
badg("T12-dtype", "unknown-dtype", const(tensor([8], msg(4, DATA), 21)))
badg("T12-wrap", "shape-overflow", const(tensor([2**32, 2**32], b"")))
badg("T12-strings", "tf-values", const(tensor([2**40], msg(8, b"x"), 7)))
badg("T12-twice", "name-twice", GOOD_P + GOOD_P)
badg("T12-no-value", "tf-values", msg(1, msg(1, b"w") + msg(2, b"Const")) + GOOD_P)
badg("T12-cut", "truncated", GOOD_P[:-1])
badg("T12-group", "proto-group", GOOD_P + b"\x0b")
# a value for 10^9 elements: listed, and not written out unless asked for
case("T12-splat-10^9", "g.pb", {"inspect": 0, "convert": 3}, {"inspect": None, "convert":
     "output-too-big"}, False, build=const(tensor([10**9, 8], msg(10, b"\5"), 9)), twin=GOOD_P)
PACK = msg(1, msg(1, b"p") + msg(2, b"Pack") + msg(5, msg(1, b"N") + msg(2, num(3, 250000000))))
case("T12-pack", "g.pb", 0, build=GOOD_P + PACK, expect_tensors={"w": DATA})
badg("T12-top", "unrecognised", msg(5, b"") + b"".join(msg(3, b"\x80") for _ in range(3)))

# ---- T12: SavedModels ----


def saved(assets=(), version=1, graph=GOOD_P):
    meta = msg(1, msg(4, b"serve")) + msg(2, graph) + b"".join(
        msg(6, msg(2, a)) for a in assets)
    return num(1, version) + msg(2, meta)


def model(pb, files=()):
    def build(folder):
        top = folder / "m"
        (top / "variables").mkdir(parents=True)
        (top / "saved_model.pb").write_bytes(pb)
        (top / "variables" / "variables.index").write_bytes(GOOD)
        (top / "variables" / SHARD.replace("P", "variables")).write_bytes(DATA)
        for f in files:
            p = pathlib.Path(top / f)
            p.parent.mkdir(parents=True, exist_ok=True)
            p.write_bytes(b"x")
    return build


GOOD_M = model(saved([b"a.txt"]), ["assets/a.txt"])
case("T12-model", "m", 0, build=GOOD_M, expect_tensors={"w": DATA})


def badm(id, code, pb, files=()):
    case(id, "m", 3, code, False, build=model(pb, files), twin=GOOD_M)


badm("T12-asset-up", "path-escape", saved([b"../../outside/x"]))
badm("T12-asset-up2", "path-escape", saved([b"../../x"]))
badm("T12-asset-nul", "path-escape", saved([b"a\0b"]))
badm("T12-asset-empty", "path-escape", saved([b""]))
badm("T12-asset-none", "unreadable", saved([b"gone"]))
badm("T12-model-cut", "truncated", saved()[:-1])
badm("T12-model-group", "proto-group", num(1, 1) + msg(2, msg(1, b"") + b"\x0b"))
badm("T12-model-graph", "proto-length", num(1, 1) + msg(2, msg(1, b"") + msg(2, b"\x0a\x7f") + b"\0" * 200))
case("T12-model-version", "m", 3, "savedmodel-version", None, args=(
    ("inspect", "{file}", "--input-format", "savedmodel"),), build=model(
        b"\x08\x02\x12\x02\x0a\x00"), twin=GOOD_M)
case("T12-model-absolute", "m", 3, None, False, build=model(saved([b"/etc/passwd"])), twin=GOOD_M)
