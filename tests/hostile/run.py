#!/usr/bin/env python3
"""Runs every hostile case of cases_*.py against the binary and judges the outcome.

Refused input (exit 3 and its like) must give: the exit status, no signal, one
error line `nnferry: FILE: [byte OFFSET: ]CODE: reason` without control bytes, the
folders around it unchanged, nothing in the temporary folder, no file opened in the
folder beside the input, private memory under 64 MiB (or four times the metadata)
and CPU time under 2 s + 0.2 s per MiB. Accepted input must exit 0 and leave its
output only. Standard library only. Exit status 0 when every case passed.

    run.py [-b BINARY] [-k PATTERN] [-j N] [-v] [--keep DIR] [cases_x.py ...]

Without a selection selftest.py runs too and counts: a judge that sees nothing is a
failure too.
"""

import argparse
import ctypes
import fnmatch
import importlib.util
import multiprocessing
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import lib  # noqa: E402

MIB = 1 << 20
MEMORY_FLOOR = 64 * MIB
WALL_SECONDS = 60
LINE = re.compile(r"nnferry: (?P<file>.+?): (?:byte (?P<offset>\d+): )?"
                  r"(?P<code>[a-z][a-z0-9]*(?:-[a-z0-9]+)*): (?P<reason>\S.*)")
IN_OPEN, IN_DONT_FOLLOW = 0x20, 0x02000000


class Watch:
    """Notices any open() of a file in a folder (inotify; the runner itself keeps out)."""

    def __init__(self, folder):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        for where in [folder, *(p for p in folder.rglob("*"))]:
            if libc.inotify_add_watch(self.fd, os.fsencode(where),
                                      IN_OPEN | IN_DONT_FOLLOW) < 0:
                raise OSError(ctypes.get_errno(), f"inotify_add_watch {where}")

    def opened(self):
        try:
            return bool(os.read(self.fd, 65536))
        except BlockingIOError:
            return False
        finally:
            os.close(self.fd)


def snapshot(*folders):
    seen = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            st = path.lstat()
            seen[str(path)] = (st.st_mode, st.st_size, st.st_mtime_ns, st.st_ino)
    return seen


def input_bytes(path):
    if path.is_dir():
        return sum(p.lstat().st_size for p in path.rglob("*") if p.is_file())
    return path.lstat().st_size


class Run:
    """One command on one input under the limits; .problems lists what was wrong."""

    def __init__(self, binary, sanitized, room, name, argv, metadata_bytes):
        self.folders = {k: room / k for k in ("in", "outside", "out", "tmp")}
        out = self.folders["out"]
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        self.file = self.folders["in"] / name
        fill = {"file": str(self.file), "out": str(out), "dir": str(self.folders["in"]),
                "outside": str(self.folders["outside"])}
        self.argv = [re.sub(r"\{(file|out|dir|outside)\}", lambda m: fill[m[1]], a) for a in argv]
        memory = max(MEMORY_FLOOR, 4 * metadata_bytes)
        self.cpu_allowed = 2 + 0.2 * input_bytes(self.file) / MIB
        if sanitized:
            self.cpu_allowed *= 20

        def limits():
            os.setpgid(0, 0)
            if not sanitized:  # a sanitizer's shadow memory is private memory too
                resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
            seconds = int(self.cpu_allowed) + 2
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": str(self.folders["tmp"]),
               "HOME": str(self.folders["tmp"])}
        self.before = snapshot(*self.folders.values())
        watch = Watch(self.folders["outside"])
        with tempfile.TemporaryFile() as so, tempfile.TemporaryFile() as se:
            child = subprocess.Popen([binary, *self.argv], stdin=subprocess.DEVNULL, stdout=so,
                                     stderr=se, env=env, cwd=self.folders["tmp"],
                                     preexec_fn=limits, close_fds=True)
            deadline, self.hung, status, usage = time.monotonic() + WALL_SECONDS, False, None, None
            pause = 0.001
            while True:
                pid, status, usage = os.wait4(child.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    self.hung = True
                    os.kill(child.pid, signal.SIGKILL)
                    _, status, usage = os.wait4(child.pid, 0)
                    break
                time.sleep(pause)
                pause = min(pause * 1.5, 0.05)
            child.returncode = 0  # reaped above
            self.code = os.waitstatus_to_exitcode(status)
            self.cpu = usage.ru_utime + usage.ru_stime
            so.seek(0)
            se.seek(0)
            self.stdout, self.stderr = so.read(), se.read()
        self.opened_outside = watch.opened()
        self.after = snapshot(*self.folders.values())
        self.problems = []

    def say(self, text):
        self.problems.append(text)

    def check_always(self, exit_wanted):
        if self.hung:
            self.say(f"still running after {WALL_SECONDS} s")
        elif self.code < 0:
            self.say(f"killed by signal {-self.code}")
        elif self.code != exit_wanted:
            self.say(f"exit {self.code}, expected {exit_wanted}")
        if self.cpu > self.cpu_allowed:
            self.say(f"{self.cpu:.2f} s of CPU, {self.cpu_allowed:.2f} s allowed")
        if self.opened_outside:
            self.say("a file outside the input's folder was opened")
        bad = [b for b in self.stderr if (b < 0x20 and b != 0x0a) or b == 0x7f]
        if bad:
            self.say(f"stderr holds control byte 0x{bad[0]:02x}")
        try:
            return self.stderr.decode("utf-8").splitlines()
        except UnicodeDecodeError as e:
            self.say(f"stderr is not UTF-8: {e}")
            return self.stderr.decode("utf-8", "replace").splitlines()

    def check_unchanged(self, allowed=()):
        for path in sorted(set(self.before) | set(self.after)):
            if self.before.get(path) == self.after.get(path):
                continue
            if any(path == a or path.startswith(a + "/") for a in allowed):
                continue
            if os.path.isdir(path) and path in self.before and allowed:
                continue  # a folder that an allowed file was put into
            kind = "left behind" if path not in self.before else \
                "gone" if path not in self.after else "changed"
            self.say(f"{path} {kind}")

    def check_refused(self, exit_wanted, code, offset):
        lines = self.check_always(exit_wanted)
        self.check_unchanged()
        if len(lines) != 1:
            self.say(f"{len(lines)} lines on stderr, expected one")
            return
        m = LINE.fullmatch(lines[0])
        if not m:
            self.say(f"not an error line: {lines[0]!r}")
            return
        if code is not None and m["code"] != code:
            self.say(f"code {m['code']}, expected {code}: {lines[0]!r}")
        if not os.path.abspath(m["file"]).startswith(str(self.folders["in"])):
            self.say(f"the error line names {m['file']!r}, not the input")
        at = None if m["offset"] is None else int(m["offset"])
        if at is None and offset is not False:
            self.say(f"no byte offset: {lines[0]!r}")
        elif offset is not None and offset is not False and at != offset:
            self.say(f"byte {at}, expected {offset}: {lines[0]!r}")

    def check_accepted(self, warn, tensors):
        lines = self.check_always(0)
        wanted = {self.argv[i + 1] for i, a in enumerate(self.argv[:-1]) if a in ("-o", "--output")}
        self.check_unchanged(wanted)
        if self.code != 0:
            for line in lines[:3]:
                self.say(line)
            return
        for path in wanted:
            if path not in self.after:
                self.say(f"{path} was not written")
        if warn and not any(f": {warn}: " in line for line in lines):
            self.say(f"no warning {warn} on stderr")
        if tensors and wanted:
            try:
                got = lib.read_safetensors(pathlib.Path(*wanted).read_bytes())
            except Exception as e:
                self.say(f"output does not read as safetensors: {e}")
                return
            for name, data in tensors.items():
                if name not in got:
                    self.say(f"tensor {name!r} is not in the output")
                elif got[name] != data:
                    self.say(f"tensor {name!r} holds other bytes")


def load(files):
    for path in files:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        n = len(lib.CASES)
        spec.loader.exec_module(module)
        for c in lib.CASES[n:]:
            c.source = path.name
        if len(lib.CASES) == n:
            raise SystemExit(f"{path.name}: registers no case")


def room_for(top, label):
    room = pathlib.Path(top) / label
    for part in ("in", "outside", "out", "tmp"):
        (room / part).mkdir(parents=True)
    return room


def judge(job):
    """All commands of one case and of its twin; returns (id, [problem])."""
    index, binary, sanitized, top = job
    c, problems = lib.CASES[index], []
    label = re.sub(r"[^A-Za-z0-9._-]", "_", c.id)

    def report(who, run):
        shown = " ".join(repr(a) if re.search(r"[^ -~]| ", a) else a for a in run.argv)
        problems.extend(f"{c.id}{who}: nnferry {shown}: {p}" for p in run.problems)

    rooms = []
    try:
        room = room_for(top, label)
        rooms.append(room)
        lib.build_into(c.build, room / "in", c.file)
        for argv in c.args:
            run = Run(binary, sanitized, room, c.file, argv, c.metadata_bytes)
            wanted = lib.for_command(c.expect_exit, argv)
            if wanted == 0:
                run.check_accepted(c.expect_warn, c.expect_tensors)
            else:
                run.check_refused(wanted, lib.for_command(c.expect_code, argv),
                                  lib.for_command(c.expect_offset, argv))
            report("", run)
        if c.twin is not None:
            room = room_for(top, label + ".twin")
            rooms.append(room)
            lib.build_into(c.twin, room / "in", c.file)
            for argv in c.twin_args:
                run = Run(binary, sanitized, room, c.file, argv, c.metadata_bytes)
                run.check_accepted(None, None)
                report(" (valid twin)", run)
    except Exception as e:
        problems.append(f"{c.id}: {c.source}: {type(e).__name__}: {e}")
    return c.id, problems, [str(r) for r in rooms]


def main():
    p = argparse.ArgumentParser(description="run the hostile cases")
    p.add_argument("files", nargs="*", type=pathlib.Path)
    p.add_argument("-b", "--binary",
                   default=os.environ.get("NNFERRY", str(HERE.parents[1] / "build" / "nnferry")))
    p.add_argument("-k", metavar="PATTERN", default="*", help="only ids that match, e.g. 'S0*'")
    p.add_argument("-j", metavar="N", type=int, default=2)
    p.add_argument("-v", action="store_true", help="name the cases that pass too")
    p.add_argument("--keep", metavar="DIR", help="build the inputs here and leave them")
    o = p.parse_args()
    binary = os.path.abspath(o.binary)
    if not os.access(binary, os.X_OK):
        raise SystemExit(f"{binary}: not an executable")
    with open(binary, "rb") as f:
        sanitized = b"__asan_init" in f.read()
    load(sorted(o.files or HERE.glob("cases_*.py")))
    chosen = [i for i, c in enumerate(lib.CASES) if fnmatch.fnmatchcase(c.id, o.k)]
    if not chosen:
        raise SystemExit(f"no case matches {o.k!r}")
    top = o.keep or tempfile.mkdtemp(prefix="hostile-")
    os.makedirs(top, exist_ok=True)
    top = os.path.realpath(top)
    passed = failed = 0
    try:
        with multiprocessing.get_context("fork").Pool(max(1, o.j)) as pool:
            jobs = [(i, binary, sanitized, top) for i in chosen]
            for name, problems, rooms in pool.imap(judge, jobs):
                for line in problems:
                    print(f"FAIL {line}".encode("ascii", "backslashreplace").decode())
                if problems:
                    failed += 1
                else:
                    passed += 1
                    if o.v:
                        print(f"ok   {name}")
                if not o.keep:
                    for room in rooms:
                        shutil.rmtree(room, ignore_errors=True)
                sys.stdout.flush()
    finally:
        if not o.keep:
            shutil.rmtree(top, ignore_errors=True)
    judged = 0
    if not o.files and o.k == "*":
        sys.stdout.flush()
        judged = subprocess.run([sys.executable, HERE / "selftest.py"]).returncode
    print(f"# cases {passed} passed, {failed} failed")
    return 1 if failed or judged else 0


if __name__ == "__main__":
    sys.exit(main())
