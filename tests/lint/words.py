#!/usr/bin/env python3
"""What no file of the repository holds: registry hosts, paths of some machine, talk about
trackers; sources over 800 lines; a guest's source or a built thing."""
import os
import re

from lib import ROOT, finish, tracked

FORBIDDEN = [
    (re.compile(r"(?:https?|ftp)://[^\s\"')>]*(?:debian|ubuntu|pypi|pythonhosted|npmjs)", re.I),
     "a package registry's host"),
    (re.compile(r"(?<![\w.])/(?:work|home|Users)/[\w.-]+"), "a path of some machine"),
    (re.compile(r"\bissue\s+#?\d", re.I), "talk about a tracker"),
]
BUILT = {b"\x7fELF": "a built program or object", b"!<arch>\n": "an archive or package"}
PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
SOURCES = (".c", ".h", ".cl", ".py", ".sh", ".S", ".mk")
problems, n_files = [], 0
for path in tracked():
    n_files += 1
    with open(os.path.join(ROOT, path), "rb") as f:
        data = f.read()
    for magic, what in BUILT.items():
        if data.startswith(magic):
            problems.append("%s: %s" % (path, what))
    if path.startswith("third_party/"):
        name = os.path.basename(path)
        if data.startswith(PACKED) or not (name in ("pins", "packages") or name.endswith(".sh")):
            problems.append("%s: third_party holds pins and recipes only" % path)
    if b"\0" in data[:8192]:
        continue
    text = data.decode("utf-8", "replace")
    if path.endswith(SOURCES) and text.count("\n") > 800:
        problems.append("%s: %d lines; split it by noun" % (path, text.count("\n")))
    if path == "LICENSE":
        continue
    for pattern, what in FORBIDDEN:
        for m in pattern.finditer(text):
            problems.append("%s:%d: %s" % (path, text.count("\n", 0, m.start()) + 1, what))
for guest in sorted(os.listdir(os.path.join(ROOT, "third_party"))):
    folder = os.path.join(ROOT, "third_party", guest)
    if guest == "cache" or not os.path.isdir(folder):
        continue
    with open(os.path.join(folder, "pins"), encoding="utf-8") as f:
        pins = f.read()
    for word in ("package", "licence", "accept"):
        if not re.search(r"^%s \S" % word, pins, re.M):
            problems.append("third_party/%s/pins: no %s line" % (guest, word))
    for line in pins.splitlines():
        if line.startswith("accept") and not re.fullmatch(r"accept \S+ [0-9a-f]{64} [\w.+~:%-]+", line):
            problems.append("third_party/%s/pins: not understood: %s" % (guest, line))
finish(n_files, problems, "files")
