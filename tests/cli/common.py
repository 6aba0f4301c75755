"""What the programs here share: the binary, a tally, weights of zeros and ones. Standard library
only."""

import pathlib
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "hostile"))

BINARY = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/nnferry").resolve()
tally = [0, 0]


def check(what, ok, more=""):
    tally[not ok] += 1
    if not ok:
        print(f"FAIL {what}{': ' + str(more) if more else ''}")


def run(*argv):
    return subprocess.run([str(a) for a in (BINARY, *argv)], capture_output=True, text=True,
                          timeout=120)


def floats(*values):
    return struct.pack("<%df" % len(values), *values)


def done():
    print(f"# cases {tally[0]} passed, {tally[1]} failed")
    return 1 if tally[1] else 0
