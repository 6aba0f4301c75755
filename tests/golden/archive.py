#!/usr/bin/env python3
"""Every golden is read as the framework that made it says: names, types, shapes, bytes, aliases;
and again after a way through the archive."""
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BINARY = os.environ.get("NNFERRY", str(HERE.parent.parent / "build/nnferry"))
passed = failed = 0


def run(*argv):
    return subprocess.run([BINARY, *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)


def check(what, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAILED: %s: %s" % (what, detail))


def tree(sha_hex, n_bytes):
    """The tensor digest from the plain SHA-256: goldens have at most one leaf."""
    leaves = bytes.fromhex(sha_hex) if n_bytes else b""
    return hashlib.sha256(b"nnt1" + n_bytes.to_bytes(8, "little") + leaves).hexdigest()


def compare(name, expected, path):
    r = run("inspect", path, "--json")
    if r.returncode:
        check(name + ": inspect", False, r.stderr)
        return
    got = {t["name"]: t for t in json.loads(r.stdout)["tensors"]}
    r = run("id", path, "--tensors", "--json")
    digests = {t["name"]: t["digest"] for t in json.loads(r.stdout).get("tensors", [])}
    opaque = expected.get("opaque", False)
    if [t["name"] for t in expected["tensors"]] == [""] and len(got) == 1:  # npy: no name of its own
        expected = dict(expected, tensors=[dict(expected["tensors"][0], name=next(iter(got)))])
    names = [t["name"] for t in expected["tensors"]]
    check(name + ": names", set(names) <= set(got) if opaque else sorted(names) == sorted(got),
          "missing %s, extra %s" % (sorted(set(names) - set(got)), sorted(set(got) - set(names))))
    for t in expected["tensors"]:
        g = got.get(t["name"])
        if g is None:
            continue
        check("%s: %s" % (name, t["name"]), (g["dtype"], g["shape"]) == (t["dtype"], t["shape"]),
              "%s %s" % (g["dtype"], g["shape"]))
        check("%s: bytes of %s" % (name, t["name"]), digests.get(t["name"]) == tree(t["sha256"], g["bytes"]),
              "%s of %d bytes" % (digests.get(t["name"]), g["bytes"]))
    groups = {}
    for n, g in got.items():
        groups.setdefault(g.get("alias_of", n), set()).add(n)
    ties = sorted(sorted(g) for g in groups.values() if len(g) > 1)
    check(name + ": aliases", ties == expected["aliases"], ties)


with tempfile.TemporaryDirectory() as folder:
    records = sorted(HERE.glob("*/*.json"))
    for record in records:
        expected = json.loads(record.read_text())
        if "tensors" not in expected:
            continue
        path = record.with_name(expected["file"])
        name = "%s/%s" % (record.parent.name, path.name)
        if expected.get("refused"):
            r = run("inspect", path)
            check(name + ": refused by name", r.returncode == 3 and expected["refused"] + ": " in r.stderr, r.stderr)
            continue
        compare(name, expected, path)
        archive = os.path.join(folder, name.replace("/", "_") + ".tar.zst")
        r = run("convert", path, "-o", archive, "--as-is")
        check(name + ": to the archive", r.returncode == 0, r.stderr)
        if r.returncode == 0:
            compare(name + " by the archive", expected, archive)
            r = run("verify", archive)
            check(name + ": the archive verifies", r.returncode == 0, r.stderr)
        if expected.get("opaque"):
            r = run("convert", path, "-o", archive + ".pt")
            check(name + ": an opaque object is named, not dropped", r.returncode == 4, r.stderr)
    check("goldens found", len(records) > 20, len(records))
print("# cases %d passed, %d failed" % (passed, failed))
sys.exit(1 if failed else 0)
