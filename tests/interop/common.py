"""What the interop tests share: the binary, a scratch folder, counting, comparing bits."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))
BINARY = os.environ.get("NNFERRY", str(ROOT / "build" / "nnferry"))
SCRATCH = pathlib.Path(os.environ.get("NNFERRY_SCRATCH", str(ROOT / "build" / "interop")))
OLD_PYTHON = os.environ.get("NNFERRY_OLD_PYTHON", "/usr/bin/python3")


class Failure(Exception):
    """A test's verdict; the text says what was wrong."""


def need(condition, text):
    if not condition:
        raise Failure(text)


class Tally:
    """Counts tests of one suite and prints one line for each failure."""

    def __init__(self, suite):
        self.suite, self.passed, self.failed, self.notes, self.tables = suite, 0, [], [], []

    def run(self, name, test, *args):
        try:
            note = test(*args)
        except Failure as e:
            self.fail(name, str(e))
        except Exception as e:  # a broken test is a failed test
            self.fail(name, f"{type(e).__name__}: {e}\n{traceback.format_exc(limit=-3)}")
        else:
            self.passed += 1
            if note:
                self.notes.append(f"{name}: {note}")

    def table(self, title, head, rows):
        """For RESULTS.md: cells are text."""
        self.tables.append((title, head, rows))

    def fail(self, name, text):
        self.failed.append(name)
        print(f"FAIL {self.suite} {name}: {text}", flush=True)


def fresh(name):
    folder = SCRATCH / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def nnferry(*argv, exit=0):
    """Runs the binary; a wrong exit status is a Failure. exit None: any. Returns the process."""
    got = subprocess.run([BINARY, *map(str, argv)], capture_output=True, text=True,
                         stdin=subprocess.DEVNULL, timeout=600)
    if exit is not None and got.returncode != exit:
        shown = " ".join(map(str, argv))
        raise Failure(f"nnferry {shown}: exit {got.returncode}, expected {exit}: "
                      f"{got.stderr.strip()[-600:]}")
    return got


def convert(source, target, *options, exit=0):
    return nnferry("convert", source, "-o", target, "-f", *options, exit=exit)


def same_tensors(got, want, what):
    """Both {name: (dtype, shape, bytes)}; every difference is named."""
    missing, extra = sorted(set(want) - set(got)), sorted(set(got) - set(want))
    need(not missing, f"{what}: missing {missing[:5]} ({len(missing)} in all)")
    need(not extra, f"{what}: unexpected {extra[:5]} ({len(extra)} in all)")
    for name, (dtype, shape, data) in want.items():
        g = got[name]
        need(g[0] == dtype, f"{what}: {name}: dtype {g[0]}, expected {dtype}")
        need(tuple(g[1]) == tuple(shape), f"{what}: {name}: shape {g[1]}, expected {shape}")
        need(bytes(g[2]) == bytes(data), f"{what}: {name}: other bytes")


def entries(path):
    """{name: (dtype, shape, bytes)} by the readers of tests/lib."""
    import checkpoints
    return {e.path: (e.dtype, e.shape, e.data) for e in checkpoints.read(path)}


def arrays(named):
    """{name: numpy array} to {name: (dtype, shape, bytes)}."""
    import numpy as np
    return {n: (a.dtype.name, a.shape, np.ascontiguousarray(a).tobytes())
            for n, a in named.items()}


def json_output(*argv):
    return json.loads(nnferry(*argv).stdout)
