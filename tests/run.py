#!/usr/bin/env python3
"""The test driver: builds every flavour, runs every test, counts cases.

    tests/run.py [-j N] [-l] [WORD...]    WORD: only tests whose name contains one of them

A test is an executable file. It says 0 for passed, 1 (or anything else) for failed, and
77 for "cannot run here", with the reason as its last line; 77 is a failure too unless
tests/ALLOWED_SKIPS names the test and says why.

Found by place:
  tests/unit/test_*.c   built by the Makefile; run in the check and release flavours, and
                        on aarch64 under qemu
  tests/DIR/run*        the runner of that folder, where it has one, else
  tests/DIR/*.sh, *.py  every executable script of the folder; not those named gen*, which
                        make files to commit, and nothing of lib and bench

A test that prints "# cases P passed, F failed" counts those (summed over its lines), a
cmocka program counts its own, anything else counts as one. A script may ask for more time
than 600 seconds by "# timeout: SECONDS" among its first ten lines.

Tests see NNFERRY, NNFERRY_CHECK, NNFERRY_FAULT (the binaries), NNFERRY_ROOT and a TMPDIR
of their own. Output goes to build/test-logs; the last line is "N passed, N failed".
"""
import argparse
import concurrent.futures
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(ROOT, "build", "test-logs")
TMP = os.path.join(ROOT, "build", "test-tmp")
NOT_TESTS = {"lib", "bench", "unit"}
DEFAULT_TIMEOUT = 600
SLOWEST_TIMEOUT = 3000
WHOLE_RUN = 58 * 60  # the suite must end within the hour; what is left by then fails
TAIL_LINES = 40


class Test:
    def __init__(self, name, argv, timeout=DEFAULT_TIMEOUT, cmocka=False, env=None):
        self.name, self.argv, self.timeout, self.cmocka = name, argv, timeout, cmocka
        self.env = env or {}
        self.passed = self.failed = 0
        self.note = ""
        self.seconds = 0.0


def log_path(test):
    return os.path.join(LOGS, test.name.replace("/", "-") + ".log")


def environment(test):
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("OMP_", "GOMP_", "NNFERRY_", "SLURM_")) or
           k in ("NNFERRY_OFFLINE", "NNFERRY_PYTHON")}
    env.pop("MAKEFLAGS", None)
    env.update(
        LC_ALL="C.UTF-8",
        NNFERRY=os.path.join(ROOT, "build/nnferry"),
        NNFERRY_CHECK=os.path.join(ROOT, "build/check/nnferry"),
        NNFERRY_FAULT=os.path.join(ROOT, "build/fault/nnferry"),
        NNFERRY_ROOT=ROOT,
        TMPDIR=os.path.join(TMP, test.name.replace("/", "-")),
        # 99: a sanitizer's finding never passes for one of our own exits.
        # Not detect_stack_use_after_return: GCC 12 aligns its frames to 32 bytes where AVX-512
        # needs 64 (GCC bug 110027).
        ASAN_OPTIONS="exitcode=99:detect_stack_use_after_return=0",
        UBSAN_OPTIONS="exitcode=99:print_stacktrace=1",
        PYTHONDONTWRITEBYTECODE="1",
        **test.env,
    )
    return env


def run(test, deadline, allowed):
    start = time.monotonic()
    limit = min(test.timeout, deadline - start)
    if limit <= 1:
        test.failed, test.note = 1, "not run: the suite's time is up"
        return test
    env = environment(test)
    os.makedirs(env["TMPDIR"], exist_ok=True)
    with open(log_path(test), "wb") as log:
        try:
            process = subprocess.Popen(test.argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            test.failed, test.note = 1, "cannot start %s: %s" % (test.argv[0], error.strerror)
            return test
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        # Whatever the test started and left behind ends with it.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    test.seconds = time.monotonic() - start
    shutil.rmtree(env["TMPDIR"], ignore_errors=True)
    with open(log_path(test), encoding="utf-8", errors="replace") as log:
        count(test, code, log.read(), limit, allowed)
    return test


def count(test, code, text, limit, allowed):
    own = [(int(p), int(f)) for p, f in
           re.findall(r"^# cases (\d+) passed, (\d+) failed$", text, re.M)]
    if test.cmocka:
        done = sum(int(n) for n in re.findall(r"^\[  PASSED  \] (\d+) test", text, re.M))
        bad = sum(int(n) for n in re.findall(r"^\[  FAILED  \] (\d+) test", text, re.M))
        skipped = sum(int(n) for n in re.findall(r"^\[  SKIPPED \] (\d+) test", text, re.M))
        own = [(done, bad + skipped)]
        if skipped:
            test.note = "%d cases skipped themselves" % skipped
    if code == 77 and not any(f for _, f in own):
        reason = (text.strip().splitlines() or ["no reason given"])[-1]
        if test.name in allowed:
            test.note = "skipped: %s (allowed: %s)" % (reason, allowed[test.name])
        else:
            test.failed, test.note = 1, "cannot run here: %s" % reason
        return
    if own:
        test.passed, test.failed = (sum(x) for x in zip(*own))
    elif code == 0:
        test.passed = 1
    if code is None:
        test.failed, test.note = test.failed + 1, "stopped after %d s" % limit
    elif code != 0 and test.failed == 0:
        test.failed, test.note = 1, ("exit %d" % code if code > 0 else "signal %d" % -code)
    elif code == 0 and test.failed == 0 and test.passed == 0:
        test.failed, test.note = 1, "no case ran"


def asked_timeout(path):
    with open(path, "rb") as f:
        head = b"".join(f.readlines()[:10]).decode("utf-8", "replace")
    m = re.search(r"# timeout: (\d+)", head)
    return min(int(m.group(1)), SLOWEST_TIMEOUT) if m else DEFAULT_TIMEOUT


def script_tests():
    tests = []
    for folder in sorted(os.listdir(os.path.join(ROOT, "tests"))):
        path = os.path.join(ROOT, "tests", folder)
        if folder in NOT_TESTS or not os.path.isdir(path):
            continue
        names = sorted(n for n in os.listdir(path) if os.path.isfile(os.path.join(path, n)))
        runners = [n for n in names if re.fullmatch(r"run([._-].*)?", n)]
        for name in runners or [n for n in names if n.endswith((".sh", ".py"))
                                 and not n.startswith("gen")]:
            file = os.path.join(path, name)
            with open(file, "rb") as f:
                is_script = f.read(2) == b"#!"
            if os.access(file, os.X_OK):
                tests.append(Test("%s/%s" % (folder, name), [file], asked_timeout(file)))
            elif is_script:
                # A script that lost its mode bit must not drop out of the suite.
                tests.append(Test("%s/%s" % (folder, name),
                                  ["/bin/sh", "-c", "echo not executable; exit 1"]))
    return tests


def unit_names():
    folder = os.path.join(ROOT, "tests/unit")
    if not os.path.isdir(folder):
        return []
    return sorted(n[:-2] for n in os.listdir(folder)
                  if n.startswith("test_") and n.endswith(".c"))


def allowed_skips():
    allowed = {}
    path = os.path.join(ROOT, "tests/ALLOWED_SKIPS")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.strip() and not line.startswith("#"):
                    name, _, reason = line.strip().partition(" ")
                    if not reason.strip():
                        sys.exit("tests/ALLOWED_SKIPS: %s has no reason" % name)
                    allowed[name] = reason.strip()
    return allowed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("-l", action="store_true", help="list the tests and do nothing")
    parser.add_argument("word", nargs="*")
    args = parser.parse_args()
    deadline = time.monotonic() + WHOLE_RUN
    allowed = allowed_skips()

    def wanted(test):
        return not args.word or any(w in test.name for w in args.word)

    make = ["make", "-k", "-j%d" % (os.cpu_count() or 1)]
    builds = [Test("build/release", make + ["all", "unit"], 1800),
              Test("build/check", make + ["FLAVOUR=check", "all", "unit"], 1800),
              Test("build/fault", make + ["FLAVOUR=fault", "all"], 1800),
              Test("build/fuzz", make + ["FLAVOUR=fuzz", "all", "fuzzers"], 1800)]
    tests = []
    # Under the sanitizers every prefix of every golden is tried, elsewhere one in so many.
    for name in unit_names():
        for flavour, step in (("check", "1"), ("release", "13")):
            tests.append(Test("unit-%s/%s" % (flavour, name),
                              ["build/%s/tests/unit/%s" % (flavour, name)], cmocka=True,
                              env={"TEST_PREFIX_STEP": step}))
    if os.uname().machine == "x86_64":
        builds.append(Test("build/aarch64", make + ["ARCH=aarch64", "all", "unit"], 1800))
        qemu = shutil.which("qemu-aarch64-static") or "qemu-aarch64"
        for name in unit_names():
            tests.append(Test("unit-aarch64/" + name,
                              [qemu, "build/release-aarch64/tests/unit/" + name],
                              cmocka=True, env={"TEST_PREFIX_STEP": "61"}))
    # The longest first, so that the machine is not left with one of them at the end.
    tests = sorted(script_tests(), key=lambda t: -t.timeout) + tests
    tests = [t for t in tests if wanted(t)]
    if args.l:
        for test in builds + tests:
            print(test.name)
        return 0
    os.makedirs(LOGS, exist_ok=True)
    alone = open(os.path.join(LOGS, "lock"), "w", encoding="utf-8")  # until this process ends
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("tests/run.py: the tests run here already")
    shutil.rmtree(TMP, ignore_errors=True)

    lock = threading.Lock()
    done = []

    def finish(test):
        with lock:
            done.append(test)
            word = "FAIL" if test.failed else ("ok" if test.passed else "skip")
            print("%-5s%-44s %5d passed %7.1f s%s" % (word, test.name, test.passed, test.seconds,
                                                     "  " + test.note if test.note else ""))
            if test.failed and os.path.exists(log_path(test)):
                with open(log_path(test), encoding="utf-8", errors="replace") as f:
                    for line in f.read().splitlines()[-TAIL_LINES:]:
                        print("     | " + line)
            sys.stdout.flush()

    for test in builds:
        finish(run(test, deadline, allowed))
    with concurrent.futures.ThreadPoolExecutor(max(1, args.j)) as pool:
        for future in concurrent.futures.as_completed(
                [pool.submit(run, t, deadline, allowed) for t in tests]):
            finish(future.result())
    for name in sorted(set(allowed) - {t.name for t in tests}) if not args.word else []:
        print("note: tests/ALLOWED_SKIPS names %s, which is no test" % name)
    failed = sum(t.failed for t in done)
    passed = sum(t.passed for t in done)
    if failed:
        print("failed: " + " ".join(sorted(t.name for t in done if t.failed)))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
