#!/usr/bin/env python3
"""No macro has the name of an enumerator of a header or of its own file: it would change what the
name means, without a word."""
import re

from lib import finish, read, tracked, without_comments

enumerators, macros = {}, []
for path in tracked("src/*.c", "src/*.h", "opencl/*"):
    text = without_comments(read(path))
    for m in re.finditer(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", text, re.M):
        macros.append((m.group(1), path, text.count("\n", 0, m.start()) + 1))
    text = re.sub(r"^[ \t]*#.*?(?<!\\)$", "", text, flags=re.M | re.S)
    for body in re.findall(r"\benum\b\s*\w*\s*\{([^{}]*)\}", text):
        for one in body.split(","):
            m = re.match(r"\s*(\w+)", one)
            if m:
                enumerators.setdefault(m.group(1), set()).add(path)

problems = []
for name, path, line in macros:
    for other in sorted(enumerators.get(name, ())):
        if other == path or other.endswith(".h"):
            problems.append("%s:%d: macro %s hides an enumerator of %s" % (path, line, name, other))
if len(enumerators) < 100:
    problems.append("only %d enumerators found" % len(enumerators))
finish(len(macros), problems, "macros")
