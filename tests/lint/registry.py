#!/usr/bin/env python3
"""Registries: every list.h entry has its file and its manual, and a registered file exports
exactly one symbol. Reads the objects of the release build."""
import os
import subprocess

from lib import ROOT, finish, read, registered

# room, source of NAME, the one symbol it may export (None: any one)
ROOMS = [("format", "%s.c", "%s_format"), ("framework", "%s.c", "%s_framework"),
         ("define", "%s.c", None), ("cli", "cmd_%s.c", "%s_command")]
problems, n_entries = [], 0


def exported(path):
    obj = os.path.join(ROOT, "build/release", path[:-2] + ".o")
    if not os.path.exists(obj):
        return ["nothing: it is not built"]
    out = subprocess.run(["nm", "--defined-only", "--extern-only", "--format=posix", obj],
                         stdout=subprocess.PIPE, check=True, text=True).stdout
    return [l.split()[0] for l in out.splitlines() if l]


for room, file_of, symbol_of in ROOMS:
    names = registered(room)
    folder = os.path.join(ROOT, "src", room)
    if names is None:
        if os.path.isdir(folder):
            problems.append("src/%s has no list.h" % room)
        continue
    if not names:
        problems.append("src/%s/list.h: no entry understood (one MACRO(name) a line)" % room)
    for name in names:
        n_entries += 1
        path = "src/%s/%s" % (room, file_of % name)
        if not os.path.exists(os.path.join(ROOT, path)):
            problems.append("src/%s/list.h: %s: there is no %s" % (room, name, path))
            continue
        got = exported(path)
        if len(got) != 1 or (symbol_of and got != [symbol_of % name]):
            problems.append("%s: exports %s; it should be %s alone" % (
                path, " ".join(got) or "nothing", symbol_of % name if symbol_of else "one symbol"))
    if room == "cli":
        for name in names:
            if not os.path.exists(os.path.join(ROOT, "man/nnferry-%s.1" % name)):
                problems.append("the command %s has no man/nnferry-%s.1" % (name, name))
        for f in sorted(os.listdir(folder)):
            if f.startswith("cmd_") and f.endswith(".c") and f[4:-2] not in names:
                problems.append("src/cli/%s is not in src/cli/list.h" % f)
    if room == "format":
        page = "man/nnferry-formats.7"
        text = read(page) if os.path.exists(os.path.join(ROOT, page)) else ""
        for name in names:
            if name not in text and name.replace("_", "-") not in text:
                problems.append("%s does not name the format %s" % (page, name))
finish(n_entries, problems, "entries")
