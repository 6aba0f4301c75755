#!/usr/bin/env python3
"""`nnferry id`, written a second time: numpy and hashlib, nothing shared with src.

Tensor digest: a SHA-256 tree. Leaves are SHA-256 of consecutive 64 KiB pieces of the
canonical bytes (little-endian, C order, sub-byte values unpacked one a byte with zero bits above
them); the root
is SHA-256("nnt1" || u64le total length || leaf digests in order). A zero-length tensor
has no leaves.

Model digest: records sorted bytewise by flat path text, one for every tensor of role
parameter, buffer or statistic:

    u32le len(path) || path, UTF-8 || u32le len(dtype name) || dtype name || u32le rank
    || u64le of every dim || 32-byte tensor digest
    || u32le len(alias target's path) || alias target's path

(length 0 when it is no alias). An alias shares its target's exact view: same storage,
offset, shape, strides and dtype; the target is the bytewise smallest path of the group.
Model digest = SHA-256("nnf1" || u64le number of records || records), printed as `nnf1:`
and 64 hex digits.

Flat path text: path segments joined with '.'; in a segment from a tree format (msgpack
keys) '.' is written '\\.', and '\\' is written '\\\\' only where it is followed by '.' or
'\\' or stands at the segment's end; a flat format's name is taken verbatim as text.

    nnid.py FILE            the model's digest
    nnid.py --tensors FILE  and one line per tensor
"""

import hashlib
import pathlib
import struct
import sys

LEAF = 64 * 1024
COUNTED = ("parameter", "buffer", "statistic")


def tensor_digest(data):
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    root = hashlib.sha256(b"nnt1" + struct.pack("<Q", len(view)))
    for at in range(0, len(view), LEAF):
        root.update(hashlib.sha256(view[at:at + LEAF]).digest())
    return root.digest()


def alias_targets(entries):
    """{path: the bytewise smallest path with the same view}, for the others of each group."""
    groups = {}
    for e in entries:
        if e.view is not None:
            groups.setdefault(e.view, []).append(e.path)
    out = {}
    for paths in groups.values():
        paths.sort(key=lambda p: p.encode())
        out.update((p, paths[0]) for p in paths[1:])
    return out


def counted(text):
    raw = text.encode("utf-8")
    return struct.pack("<I", len(raw)) + raw


def record(entry, digest, target):
    return (counted(entry.path) + counted(entry.dtype) + struct.pack("<I", len(entry.shape))
            + struct.pack(f"<{len(entry.shape)}Q", *entry.shape) + digest + counted(target))


def model_digest(entries):
    entries = [e for e in entries if e.role in COUNTED]
    targets = alias_targets(entries)
    entries.sort(key=lambda e: e.path.encode("utf-8"))
    whole = hashlib.sha256(b"nnf1" + struct.pack("<Q", len(entries)))
    lines = []
    for e in entries:
        digest = tensor_digest(e.data)
        whole.update(record(e, digest, targets.get(e.path, "")))
        lines.append((e.path, e.dtype, e.shape, digest.hex()))
    return "nnf1:" + whole.hexdigest(), lines


def main(argv):
    tensors = "--tensors" in argv
    files = [a for a in argv if a != "--tensors"]
    if len(files) != 1:
        print("usage: nnid.py [--tensors] FILE", file=sys.stderr)
        return 2
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    import checkpoints  # the only part that needs numpy
    digest, lines = model_digest(checkpoints.read(files[0]))
    print(digest)
    if tensors:
        for path, dtype, shape, hexes in lines:
            print(hexes, dtype, "[" + ",".join(map(str, shape)) + "]", path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
