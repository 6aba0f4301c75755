#!/usr/bin/env python3
"""Proves that run.py notices each way of being wrong: a stand-in for the binary does
what the input file tells it to, and every misdeed must fail its case. Standard library only."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent

FAKE = r'''#!%s
import os, sys, time
path = sys.argv[2]
do = open(path).read()
line = "nnferry: %%s: byte 8: bad-thing: it is bad\n" %% path
def refuse(text=line, code=3):
    sys.stderr.write(text); sys.stderr.flush(); os._exit(code)
if do == "good":
    if "-o" in sys.argv:
        import struct
        head = b'{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'
        open(sys.argv[sys.argv.index("-o") + 1], "wb").write(struct.pack("<Q", len(head)) + head + b"ab")
    sys.exit(0)
if do == "refuse": refuse()
if do == "two-lines": refuse(line + line)
if do == "silent": refuse("")
if do == "escape": refuse(line.replace("it is", "it \x1b[31m is"))
if do == "no-offset": refuse(line.replace("byte 8: ", ""))
if do == "other-file": refuse(line.replace(path, "/etc/passwd"))
if do == "exit-4": refuse(code=4)
if do == "exit-0": sys.exit(0)
if do == "signal": os.abort()
if do == "leftover": open(os.path.join(os.environ["TMPDIR"], "x"), "w").close(); refuse()
if do == "output":
    if "-o" in sys.argv: open(sys.argv[sys.argv.index("-o") + 1], "w").close()
    refuse()
if do == "touch-input": os.utime(path, (1, 1)); refuse()
if do == "outside":
    open(os.path.join(os.path.dirname(path), "..", "outside", "canary")).close(); refuse()
if do == "memory": b = bytearray(200 << 20); b[::4096] = b"x" * len(b[::4096]); refuse()
if do == "cpu":
    t = time.process_time()
    while time.process_time() - t < 2.6: pass
    refuse()
sys.exit("unknown order " + do)
'''

CASES = '''
from lib import case
def order(word):
    def build(d):
        (d.parent / "outside" / "canary").write_text("x")
        return word.encode()
    return build
good = order("good")
case("ok-refuse", "f", 3, "bad-thing", 8, build=order("refuse"), twin=good)
case("ok-accept", "f", 0, build=good, expect_tensors={"w": b"ab"})
case("ok-no-offset", "f", 3, "bad-thing", False, build=order("no-offset"), twin=good)
case("ok-per-command", "f", {"inspect": 3, "convert": 3}, {"inspect": "bad-thing", "convert": None},
     build=order("refuse"), twin=good)
for word in WORDS:
    case("bad-" + word, "f", 3, "bad-thing", 8, build=order(word), twin=good)
case("bad-code", "f", 3, "other-thing", 8, build=order("refuse"), twin=good)
case("bad-offset", "f", 3, "bad-thing", 9, build=order("refuse"), twin=good)
case("bad-twin", "f", 3, "bad-thing", 8, build=order("refuse"), twin=order("refuse"))
case("bad-tensors", "f", 0, build=good, expect_tensors={"w": b"aB"})
case("bad-missing", "f", 0, build=good, expect_tensors={"v": b"ab"})
case("bad-warn", "f", 0, build=good, expect_warn="some-warning")
case("bad-accept", "f", 0, build=order("refuse"))
'''


def main():
    words = [w for w in re.findall(r'do == "([a-z0-9-]+)"', FAKE) if w not in ("good", "refuse")]
    with tempfile.TemporaryDirectory() as top:
        fake = pathlib.Path(top) / "nnferry"
        fake.write_text(FAKE % sys.executable)
        fake.chmod(0o755)
        cases = pathlib.Path(top) / "cases_self.py"
        cases.write_text(CASES.replace("WORDS", repr(words)))
        got = subprocess.run([sys.executable, HERE / "run.py", "-v", "-b", fake, cases],
                             capture_output=True, text=True, env=dict(os.environ, PYTHONHASHSEED="0"))
    ok = set(re.findall(r"^ok   (\S+)$", got.stdout, re.M))
    bad = set(re.findall(r"^FAIL ([a-z0-9-]+)", got.stdout, re.M))
    wrong = [x for x in ok if not x.startswith("ok-")] + [x for x in bad if not x.startswith("bad-")]
    n_good, n_bad = 4, len(words) + 7
    if wrong or len(ok) != n_good or len(bad) != n_bad or got.returncode != 1:
        print(got.stdout, got.stderr, f"misjudged: {wrong}", sep="\n")
        print(f"{len(ok)} of {n_good} good, {len(bad)} of {n_bad} bad recognised")
        print(f"# cases {len(ok) + len(bad) - len(wrong)} passed, "
              f"{max(1, n_good + n_bad - len(ok) - len(bad) + len(wrong))} failed")
        return 1
    print(f"# cases {n_good + n_bad} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
