#!/usr/bin/env python3
"""Includes go down: each against the ranks in src/LAYERS."""
import re

from lib import finish, read, tracked, without_comments

rank, problems, n_includes = {}, [], 0
lines = [l.split() for l in read("src/LAYERS").splitlines() if l.strip() and not l.startswith("#")]
for level, rooms in enumerate(lines):
    rank.update({room: level for room in rooms})

COMMON = {"worker/wire.h", "opencl/abi.h"}
for path in tracked("src/*.c", "src/*.h", "src/*.inc"):
    parts = path.split("/")
    if len(parts) != 3:
        problems.append("%s: sources lie in src/ROOM/" % path)
        continue
    room, name = parts[1], parts[2]
    if room != "worker" and room not in rank:
        problems.append("%s: the room %s is not in src/LAYERS" % (path, room))
        continue
    text = without_comments(read(path), strings=False)
    for m in re.finditer(r'^\s*#\s*include\s*"([^"]+)"', text, re.M):
        target, line = m.group(1), text.count("\n", 0, m.start()) + 1
        n_includes += 1
        where = '%s:%d: includes "%s": ' % (path, line, target)
        to = target.split("/")[0]
        if target in COMMON or to == room:
            pass
        elif "/" not in target or target.startswith("."):
            problems.append(where + "includes are written from src/")
        elif to == "worker" or room == "worker":
            problems.append(where + "the worker meets the program in worker/wire.h and opencl/abi.h only")
        elif to == "opencl" and target.endswith(".cl") and room == "validate":
            pass  # the native executor: the same kernel text compiled as C
        elif to == "opencl" and target == "opencl/compat.h" and room == "validate":
            pass
        elif to not in rank:
            problems.append(where + "no such room")
        elif rank[to] == rank[room]:
            problems.append(where + "siblings do not see each other")
        elif rank[to] > rank[room]:
            problems.append(where + "upward")
        if room == "validate" and name.startswith("convention_") and to == "framework":
            problems.append(where + "an executor must not share the mapping's tables")
finish(n_includes, problems, "includes")
