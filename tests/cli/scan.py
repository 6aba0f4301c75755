#!/usr/bin/env python3
"""nnferry scan on every format: what of it is unsafe is named with its code and exit 1; goldens, made
by the frameworks, are safe, but for the few that hold what they should not.

The unsafe inputs are those of tests/hostile, built by its cases.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BINARY = os.environ.get("NNFERRY", str(HERE.parents[1] / "build" / "nnferry"))
sys.path.insert(0, str(HERE.parent / "hostile"))
import lib  # noqa: E402

for part in sorted((HERE.parent / "hostile").glob("cases_*.py")):
    __import__(part.stem)
CASES = {c.id: c for c in lib.CASES}
passed = failed = 0

# what is scanned: id of a hostile case, the code that must be named
UNSAFE = (
    ("H14-os", "keras-module"), ("H14-lambda", "keras-lambda"),
    ("H01-storage", "hdf5-external"), ("H01-link", "hdf5-link"), ("H01-virtual", "hdf5-virtual"),
    ("X05-up", "path-escape"), ("X05-abs", "path-escape"), ("X06-symlink", "path-escape"),
    ("X06-fifo", "not-a-file"),
    ("P01-00", "pickle-runs-code"), ("P26-class", None),
    ("P24-object-tail", None), ("P25-tar-class", None), ("P30-class", None), ("P30-code", None),
    ("O01-0", "orbax-name"), ("O05-symlink", "path-escape"), ("O05-fifo-_METADATA", "not-a-file"),
    ("O09-path-0", None),
    ("T12-asset-up", None), ("T08-symlink", "path-escape"),
    ("M08", None), ("M09-root", None), ("N06-call", None), ("N12-pickle", None),
    ("N13-missing", None), ("S14-up", "path-escape"), ("X06-gguf-link", "path-escape"),
    ("G04-type", None), ("GT10-broken", None),
)
# goldens that hold classes of their author's own
NOT_SAFE = {"opaque.pt", "legacy_module.pt", "old_tar.pt"}


def check(what, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAILED: %s: %s" % (what, detail))


def scan(path):
    got = subprocess.run([BINARY, "scan", str(path), "--json"], capture_output=True, text=True,
                         stdin=subprocess.DEVNULL, timeout=60)
    try:
        told = json.loads(got.stdout)
    except ValueError:
        told = {}
    return got, told


def build(case, top):
    folder = top / case.id / "in"
    folder.mkdir(parents=True)
    (top / case.id / "outside").mkdir()
    made = case.build if isinstance(case.build, bytes) else case.build(folder)
    if made is not None:
        (folder / case.file).write_bytes(made)
    return folder / case.file


def hostile(top):
    for name, code in UNSAFE:
        if not check_known(name):
            continue
        got, told = scan(build(CASES[name], top))
        codes = [x["code"] for x in told.get("findings", []) if x["unsafe"]]
        check("scan " + name, got.returncode == 1 and codes and (code is None or code in codes),
              "exit %d, %s %s" % (got.returncode, codes, got.stderr.strip()[-200:]))
        check("scan %s: result" % name, told.get("exit") == 1, told.get("result"))


def check_known(name):
    check("a case " + name, name in CASES, "tests/hostile has none")
    return name in CASES


def goldens(top):
    n = 0
    for said in sorted((HERE.parent / "golden").glob("*/*.json")):
        path = said.with_suffix("")
        if not path.exists() or path.parent.name == "h5py-refused":
            continue
        got, told = scan(path)
        bad = [x["code"] for x in told.get("findings", []) if x["unsafe"]]
        want = 1 if path.name in NOT_SAFE else 0
        check("scan of golden %s/%s" % (path.parent.name, path.name),
              got.returncode == want and bool(bad) == bool(want),
              "exit %d, %s %s" % (got.returncode, bad, got.stderr.strip()[-200:]))
        n += 1
    check("goldens", n > 150, "only %d" % n)


def unreadable(top):
    """What cannot be opened or recognised is 3, not an answer."""
    (top / "noise").write_bytes(bytes(range(7)) * 30)
    (top / "empty").write_bytes(b"")
    for name in ("noise", "empty", "nowhere"):
        got, _ = scan(top / name)
        check("scan of " + name, got.returncode == 3, "exit %d" % got.returncode)


def main():
    with tempfile.TemporaryDirectory(prefix="nnferry-scan-") as d:
        for test in (hostile, goldens, unreadable):
            folder = pathlib.Path(d) / test.__name__
            folder.mkdir()
            test(folder)
    print("# cases %d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


main()
