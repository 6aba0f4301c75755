"""Writes NAME.json beside a golden: what the framework that made the file says is in it.

{"file", "made_by", "tensors": [{"name", "dtype", "shape", "sha256", "digest"}],
 "aliases": [[name, ...]]}

A record with "refused" names the code by which a format that is not read is told.
sha256 is over the little-endian C-order bytes, sub-byte values one a byte; digest is the
tree digest of tests/lib/nnid.py over the same bytes. Tensors stand in the order of the file's structure. An alias group is two or more names for exactly the
same view (storage, offset, shape, strides, dtype). Standard library only.
"""

import hashlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import nnid  # noqa: E402

LIMIT = 16 * 1024


def write(path, made_by, tensors, aliases=(), opaque=False, values=False,
          refused=None):
    """tensors: [(name, dtype name, shape, canonical bytes)]; opaque: the file holds objects
    that no reader may build, so converting it is exit 4 and more tensors may be found in it;
    values: it holds numbers, texts or empty containers too, which a flat format would lose;
    refused: the code by which nnferry refuses the format."""
    path = pathlib.Path(path)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for f in files:
        assert f.stat().st_size <= LIMIT, f"{f}: {f.stat().st_size} bytes"
    names = [t[0] for t in tensors]
    assert len(set(names)) == len(names), "a name twice"
    record = {
        "file": path.name,
        "made_by": made_by,
        "tensors": [{"name": n, "dtype": d, "shape": list(s),
                     "sha256": hashlib.sha256(b).hexdigest(),
                     "digest": nnid.tensor_digest(b).hex()} for n, d, s, b in tensors],
        "aliases": sorted(sorted(a) for a in aliases),
    }
    if opaque:
        record["opaque"] = True
    if refused:
        record["refused"] = refused
    if values:
        record["values"] = True
    lines = ",\n  ".join(json.dumps(t) for t in record.pop("tensors"))
    head = json.dumps(record, ensure_ascii=True)[1:-1]
    text = "{" + head + ",\n \"tensors\": [\n  " + lines + "\n]}\n"
    json.loads(text)
    path.with_name(path.name + ".json").write_text(text)
