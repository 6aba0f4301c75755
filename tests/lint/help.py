#!/usr/bin/env python3
"""The options in `nnferry COMMAND --help` are those in man/nnferry-COMMAND.1, both ways. Options
that every command takes may stand in man/nnferry.1 instead."""
import os
import re
import subprocess

from lib import ROOT, finish, read, registered

BINARY = os.environ.get("NNFERRY", os.path.join(ROOT, "build/nnferry"))
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")


def documented(page):
    """Long options of the page's lists: .It Fl o Ar F , Fl -output Ar F"""
    found = set()
    for line in read(page).replace("\\-", "-").splitlines():
        if line.startswith(".It "):
            found.update(re.findall(r"Fl -([a-z][a-z0-9-]*)", line))
    return found


problems, n_options = [], 0
common_page = "man/nnferry.1"
common = documented(common_page) if os.path.exists(os.path.join(ROOT, common_page)) else set()
for command in registered("cli") or []:
    page = "man/nnferry-%s.1" % command
    run = subprocess.run([BINARY, command, "--help"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    if run.returncode != 0 or not run.stdout:
        problems.append("nnferry %s --help: exit %d" % (command, run.returncode))
        continue
    if not os.path.exists(os.path.join(ROOT, page)):
        problems.append("no " + page)
        continue
    # Lists only: a line that begins with an option.
    shown = set()
    for line in run.stdout.splitlines():
        m = re.match(r"\s*(?:-\w(?:[ =][^,]*)?,\s*)?--([a-z][a-z0-9-]*)", line)
        if m:
            shown.add(m.group(1))
    manual = documented(page)
    n_options += len(shown | manual)
    for name in sorted(shown - manual - common):
        problems.append("%s: --help shows --%s, the page does not" % (page, name))
    for name in sorted(manual - shown):
        problems.append("%s: documents --%s, --help does not show it" % (page, name))
finish(n_options, problems, "options")
