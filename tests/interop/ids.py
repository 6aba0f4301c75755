"""`nnferry id` against tests/lib/nnid.py: equal text for every golden, and an id that does
not depend on the container."""

import json
import re

import checkpoints
import nnid
from common import ROOT, convert, fresh, need, nnferry
from formats import goldens


def golden_id(path):
    want, lines = nnid.model_digest(checkpoints.read(path))
    got = nnferry("id", path).stdout.strip()
    need(got == want, f"{got}, expected {want}")
    listed = nnferry("id", "--tensors", path).stdout
    for name, _, _, digest in lines:
        need(digest in listed, f"--tensors does not list {name} with {digest}")
    return f"{len(lines)} tensors"


def containers():
    source = ROOT / "tests" / "golden" / "numpy" / "stored.npz"
    where, ids = fresh("ids"), set()
    ids.add(nnferry("id", source).stdout)
    names = {e.path for e in checkpoints.read(source)}
    need(len(names) > 3, "the golden lost its tensors")
    for suffix in (".pt", ".npz", ".tar.zst"):
        convert(source, where / ("x" + suffix), *(["--as-is"] if "zst" in suffix else []))
        ids.add(nnferry("id", where / ("x" + suffix)).stdout)
    need(len(ids) == 1, f"the container changes the id: {sorted(ids)}")


def json_id():
    source = ROOT / "tests" / "golden" / "torch" / "views.pt"
    want, _ = nnid.model_digest(checkpoints.read(source))
    text = nnferry("id", "--json", source).stdout.strip()
    last = json.loads(text.splitlines()[-1]) if "\n" in text and text[0] != "{" else \
        json.loads(text)
    need("result" in last and last.get("exit") == 0, "no result and exit in the last object")
    need(want in text, "the id is not in the JSON")


# What checkpoints.py reads; the grid of tests/pairs computes the others' ids from their bytes.
UNREAD = re.compile(r"script|trace|frozen|old_|dcp|lightning|legacy|checkpoint_")


def run(tally):
    for path, what in goldens():
        unread = path.suffix == ".npy" or what.get("opaque")
        unread = unread or UNREAD.search(path.name)
        if not unread:  # an array without a name, or more tensors than its framework lists
            tally.run(f"{path.parent.name}/{path.name}", golden_id, path)
    tally.run("containers", containers)
    tally.run("json", json_id)
