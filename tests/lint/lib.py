"""Shared by the lint scripts: the tracked files, C text without comments, one way to report."""
import fnmatch
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def tracked(*patterns):
    """Files of the repository (what git tracks or would add; in an unpacked copy without git,
    all files but the built ones) that match any of the patterns, in order."""
    out = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached",
                          "--others", "--exclude-standard"], cwd=ROOT, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL)
    if out.returncode == 0:
        files = set(out.stdout.decode().split("\0")) - {""}
    else:
        files = set()
        for folder, folders, names in os.walk(ROOT):
            here = os.path.relpath(folder, ROOT)
            folders[:] = [d for d in folders if d != "__pycache__" and
                          os.path.normpath(os.path.join(here, d)) not in
                          (".git", "build", "third_party/cache")]
            files.update(os.path.normpath(os.path.join(here, n)) for n in names
                         if not n.endswith((".o", ".pyc")))
    return [f for f in sorted(files) if os.path.isfile(os.path.join(ROOT, f)) and
            (not patterns or any(fnmatch.fnmatch(f, p) for p in patterns))]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def without_comments(text, strings=True):
    """C text with comments (and, if asked, string contents) blanked; lines stay where they are."""
    def blank(m):
        s = m.group(0)
        if s.startswith("/"):
            return re.sub(r"[^\n]", " ", s)
        return s[0] + " " * (len(s) - 2) + s[-1] if strings else s
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


def registered(room):
    """Names in src/ROOM/list.h, one MACRO(name...) a line; None without that file."""
    path = "src/%s/list.h" % room
    if not os.path.exists(os.path.join(ROOT, path)):
        return None
    text = re.sub(r"^\s*#.*$", "", without_comments(read(path)), flags=re.M)
    return re.findall(r"^\s*[A-Z][A-Z_]*\(\s*(\w+)", text, re.M)


def finish(n_checked, problems, what):
    """Prints the problems and ends the script; a lint that looked at nothing has failed."""
    for p in problems:
        print(p)
    print("%d %s checked, %d problems" % (n_checked, what, len(problems)))
    sys.exit(1 if problems or not n_checked else 0)
