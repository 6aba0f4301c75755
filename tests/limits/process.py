#!/usr/bin/env python3
"""Poor surroundings: little address space, few descriptors, no threads, signals at any instant,
standard streams closed or full, no /proc, no temporary folder, no home, a working folder that is
gone. Each run gives the same bytes, or an honest exit with nothing left behind."""
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

from common import BINARY, check, content, main, one_error, run, write_safetensors

MIB = 1 << 20


def limited(**limits):
    def lower():
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))
    return lower


def small(path, n=6, seed=1):
    rng = random.Random(seed)
    tensors = []
    for i in range(n):
        tensors += [("l%d.weight" % i, "F32", [300, 500], rng.randbytes(600000)),
                    ("l%d.bias" % i, "F32", [300], rng.randbytes(1200))]
    write_safetensors(path, tensors)


def address_space(work):
    """An input larger than the address space, as it comes and transposed."""
    src = os.path.join(work, "sparse.safetensors")
    header = json.dumps({"l.weight": {"dtype": "F32", "shape": [8192, 8192], "data_offsets": [0, 256 * MIB]},
                         "l.bias": {"dtype": "F32", "shape": [8192], "data_offsets": [256 * MIB, 256 * MIB + 32768]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(src, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header)
        for k in range(0, 8192, 61):  # a mark in some rows, the rest is a hole
            f.seek(8 + len(header) + 4 * (8192 * k + k * 7 % 8192))
            f.write(struct.pack("<f", k + 1))
        f.truncate(8 + len(header) + 256 * MIB + 32768)
    for name, options in (("f.msgpack", ["--from", "pytorch", "--to", "flax", "--dtype", "bfloat16"]),
                          ("a.tar.zst", ["--as-is"])):
        free, bound = os.path.join(work, "free." + name), os.path.join(work, name)
        r = run("convert", src, "-o", free, *options)
        check("%s: unrestricted" % name, r.returncode == 0, r.stderr)
        for limit in (160, 96):
            r = run("convert", src, "-o", bound, "-f", *options, preexec_fn=limited(AS=limit * MIB))
            check("%s: RLIMIT_AS %d MiB" % (name, limit), r.returncode == 0, r.stderr)
            check("%s: the same bytes" % name, content(bound) == content(free))
    r = run("convert", src, "-o", os.path.join(work, "x.npz"), preexec_fn=limited(AS=8 * MIB))
    check("RLIMIT_AS 8 MiB: done or a limit", r.returncode == 0 or one_error(r, 8), "%d %s" % (r.returncode, r.stderr))
    check("RLIMIT_AS 8 MiB: nothing left", not [n for n in os.listdir(work) if n.startswith(".x")], os.listdir(work))


def descriptors(work):
    """Sixteen descriptors are enough for a folder of forty shards, read and written, by any number of threads."""
    src, shards = os.path.join(work, "src.safetensors"), os.path.join(work, "shards")
    small(src, 40)
    lower = limited(NOFILE=16)
    r = run("convert", src, "-o", shards, "--format", "safetensors", "--max-shard-size", "700K", "-j", "4", preexec_fn=lower)
    check("RLIMIT_NOFILE 16: shards written", r.returncode == 0, r.stderr)
    check("forty shards", os.path.isdir(shards) and len(os.listdir(shards)) >= 40)
    for name in ("back.safetensors", "a.tar.zst", "b.pt"):
        r = run("convert", shards, "-o", os.path.join(work, name), "-j", "4", preexec_fn=lower)
        check("RLIMIT_NOFILE 16: shards to %s" % name, r.returncode == 0, r.stderr)
    other = os.path.join(work, "other")  # more threads than descriptors: readers and writers wait for each other
    r = run("convert", shards, "-o", other, "--format", "safetensors", "--max-shard-size", "600K", "-j", "16", preexec_fn=lower)
    check("RLIMIT_NOFILE 16: shards to shards, sixteen threads", r.returncode == 0, r.stderr)
    ids = {run("id", os.path.join(work, n)).stdout
           for n in ("src.safetensors", "shards", "other", "back.safetensors", "a.tar.zst", "b.pt")}
    check("the same model", len(ids) == 1 and "" not in ids, ids)


def injected(calls, how, argv):
    """A run in which strace meddles with some calls, and whether it did."""
    with tempfile.NamedTemporaryFile("r", prefix="nnferry-", errors="replace") as log:
        r = subprocess.run(["strace", "-f", "-qq", "-s", "0", "-e", "signal=none", "-o", log.name, "-e", "trace=" + calls,
                            "-e", "inject=%s:%s" % (calls, how), BINARY] + argv,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        return r, "(INJECTED)" in log.read()


def no_threads(work):
    src, one, out = (os.path.join(work, n) for n in ("src.safetensors", "one.tar.zst", "out.tar.zst"))
    small(src)
    check("one thread", run("convert", src, "-o", one, "-j", "1").returncode == 0)
    for when in ("1+", "1", "3", "7"):  # of those that are asked for before any is relied on
        r, done = injected("clone,clone3", "error=EAGAIN:when=" + when, ["convert", src, "-o", out, "-f", "-j", "8"])
        check("threads refused, call %s" % when, r.returncode == 0 and done, "%d %s" % (r.returncode, r.stderr))
        check("threads refused, call %s: the same bytes" % when, content(out) == content(one))

    def nobody():
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        os.setgid(65534)
        os.setuid(65534)
    if os.geteuid() == 0:  # the limit does not hold for root; /tmp, since nobody may not reach here
        place = tempfile.mkdtemp(prefix="nnferry-", dir="/tmp")
        try:
            os.chmod(place, 0o777)
            binary, far = shutil.copy(BINARY, place), shutil.copy(src, place)
            os.chmod(binary, 0o755)  # whatever our umask is
            os.chmod(far, 0o644)
            out = os.path.join(place, "out.tar.zst")
            r = subprocess.run([binary, "convert", far, "-o", out, "-j", "8"], preexec_fn=nobody, cwd="/", stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
            check("RLIMIT_NPROC 1", r.returncode == 0 and content(out) == content(one), "%d %s" % (r.returncode, r.stderr))
        finally:
            shutil.rmtree(place)


def interrupted(work):
    """A call that a signal interrupts is made again; where the signal asks us to stop, we stop."""
    src = os.path.join(work, "src.safetensors")
    small(src, 4)
    kinds = [("o.tar.zst", ["--as-is", "--no-provenance"]), ("o", ["--format", "safetensors", "--max-shard-size", "1M"])]
    if os.uname().machine == "x86_64":
        calls = ("open", "openat", "pread64", "pwrite64", "fsync", "ftruncate", "fallocate", "close")
    else:
        calls = ("openat", "pread64", "pwrite64", "fsync", "ftruncate", "fallocate", "close")
    for name, options in kinds:
        out, folder = os.path.join(work, "in", name), os.path.join(work, "in")
        os.mkdir(folder)
        check("interrupted: " + name, run("convert", src, "-o", out, *options).returncode == 0)
        whole, stopped, met = content(out), 0, 0

        def inject(call, how):
            shutil.rmtree(folder)
            os.mkdir(folder)
            return injected(call, how, ["convert", src, "-o", out, "-j", "2", "-q"] + options)
        for call in calls:
            if call == "close":  # the descriptor is gone all the same
                continue
            r, done = inject(call, "error=EINTR:when=1+2")
            met += done
            check("%s: every other %s interrupted" % (name, call), r.returncode == 0 and content(out) == whole,
                  "%d %s" % (r.returncode, r.stderr))
        check(name + ": calls were interrupted", met >= 5, met)
        for call in calls:
            for n in (1, 2, 3, 4, 5, 7, 9, 12):
                r, _ = inject(call, "error=EINTR:signal=TERM:when=%d" % n)
                what = "%s: told to stop in %s %d" % (name, call, n)
                now = content(out)
                stopped += r.returncode != 0
                if r.returncode == 0:
                    check(what + ": finished", now == whole)
                else:
                    check(what, r.returncode == 128 + signal.SIGTERM and r.stderr.count("\n") == 1, "%d %s" % (r.returncode, r.stderr))
                    check(what + ": nothing published", now is None)
                check(what + ": nothing left", set(os.listdir(folder)) <= {name}, os.listdir(folder))
        check(name + ": stopped", stopped > 20, stopped)
        shutil.rmtree(folder)


def used(pid):
    """Processor seconds so far."""
    with open("/proc/%d/stat" % pid) as f:
        words = f.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def ended(p, since):
    """Waits for p, 20 s at most: what it said, its processor seconds in all, seconds by the clock."""
    late = threading.Timer(20, os.kill, (p.pid, signal.SIGKILL))
    late.start()
    said = p.stderr.read()
    late.cancel()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    p.stderr.close()
    return said, usage.ru_utime + usage.ru_stime, time.monotonic() - since


def network(work):
    """What claims to lie on a file server: the same bytes, and the server is asked whether a file has
    changed, whose client may go by what it was told a minute ago."""
    src, shards, out = (os.path.join(work, n) for n in ("src.safetensors", "shards", "out.msgpack"))
    small(src, 8)
    options = ["--from", "pytorch", "--to", "flax"]
    check("shards", run("convert", src, "-o", shards, "--format", "safetensors", "--max-shard-size", "1M").returncode == 0)
    check("from a disk", run("convert", shards, "-o", out, *options).returncode == 0)
    want, log = content(out), os.path.join(work, "log")
    for name, magic in (("NFS", 0x6969), ("Lustre", 0x0bd00bd0)):
        said = struct.pack("<Q" if sys.byteorder == "little" else ">Q", magic).hex()
        r = subprocess.run(["strace", "-f", "-qq", "-y", "-e", "signal=none", "-o", log, "-e", "trace=fstatfs,statx", "-e",
                            "inject=fstatfs:poke_exit=@arg2=" + said, BINARY, "convert", shards, "-o", out, "-f"] + options,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        check(name + ": the same bytes", r.returncode == 0 and content(out) == want, "%d %s" % (r.returncode, r.stderr))
        with open(log, errors="replace") as f:
            asked = {m.group(1) for m in re.finditer(r"statx\(\d+<([^>]*)>, \"\", [^,]*AT_STATX_FORCE_SYNC", f.read())}
        there = {os.path.join(shards, n) for n in os.listdir(shards) if n.endswith(".safetensors")}
        check(name + ": the server was asked", len(there) > 3 and there <= asked, there - asked)


def signals(work):
    """Two hundred random instants: stopped within 2 s of processor time, 128 + N, no temporary; or
    just finished. How long that takes by the clock is the scheduler's affair, up to 20 s."""
    src, folder = os.path.join(work, "src.safetensors"), os.path.join(work, "out")
    small(src, 60)
    os.mkdir(folder)
    rng = random.Random()
    seed = rng.getrandbits(32)
    rng.seed(seed)
    kinds = [("o.tar.zst", ["--as-is"]), ("o.msgpack", ["--from", "pytorch", "--to", "flax"]),
             ("o", ["--format", "safetensors", "--max-shard-size", "2M"]), ("o.npz", ["--compress", "--select", "l?.*"])]
    wholes, spans = [], []
    for name, options in kinds:
        start = time.monotonic()
        r = run("convert", src, "-o", os.path.join(folder, name), *options)
        spans.append(time.monotonic() - start)
        check("signals: " + name, r.returncode == 0, r.stderr)
        wholes.append(content(os.path.join(folder, name)))
    shutil.rmtree(folder)
    stopped = slow = 0
    for i in range(200):
        k = i % len(kinds)
        name, options = kinds[k]
        os.makedirs(folder, exist_ok=True)
        ignored = i % 5 == 4
        sig = signal.SIGTERM if ignored else rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1])

        def inherit(ignore=ignored):
            for s in (signal.SIGINT, signal.SIGHUP):
                signal.signal(s, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_IGN if ignore else signal.SIG_DFL)
        began = time.monotonic()
        p = subprocess.Popen([BINARY, "convert", src, "-o", os.path.join(folder, name), "-q"] + options, preexec_fn=inherit,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        # the program's first act is to take the signals; before it there is nothing to test
        time.sleep(0.01 + rng.random() * spans[k])
        before, at = used(p.pid), time.monotonic()
        os.kill(p.pid, sig)  # not send_signal, which would wait for one that has ended
        said, took, by_clock = ended(p, at)
        took -= before
        if p.returncode == 0:  # signals shall come while it runs, however fast it does today
            spans[k] = min(spans[k], time.monotonic() - began)
        what = "seed %d, run %d, %s%s, %s" % (seed, i, sig.name, " inherited as ignored" if ignored else "", name)
        slow = max(slow, took)
        check(what + ": within 2 s", took < 2 and by_clock < 20, "%.2f s, %.2f s by the clock" % (took, by_clock))
        now = content(os.path.join(folder, name))
        if p.returncode == 0:
            check(what + ": finished", now == wholes[k])
        else:
            stopped += 1
            # killed while starting, before a handler can be set, is the signal itself
            check(what + ": exit 128 + N", p.returncode in (128 + sig, -sig), "%d %s" % (p.returncode, said))
            check(what + ": one line", p.returncode < 0 or said.count("\n") == 1, said)
            check(what + ": nothing published", now is None)
        check(what + ": nothing left", set(os.listdir(folder)) <= {name}, os.listdir(folder))
        shutil.rmtree(folder)
    check("runs were stopped", stopped > 50, stopped)
    print("signals: %d of 200 runs stopped, the slowest took %.2f s" % (stopped, slow))
    os.makedirs(folder)
    p = subprocess.Popen([BINARY, "convert", src, "-o", os.path.join(folder, "s.tar.zst"), "--as-is"], stderr=subprocess.PIPE)
    time.sleep(0.02)
    p.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    p.send_signal(signal.SIGCONT)
    p.communicate()
    check("SIGSTOP and SIGCONT", p.returncode == 0 and content(os.path.join(folder, "s.tar.zst")) == wholes[0])


def streams(work):
    """Closed standard streams never become a data file; a full one is an honest exit."""
    src, good = os.path.join(work, "src.safetensors"), os.path.join(work, "good.tar.zst")
    small(src)
    run("convert", src, "-o", good)
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">&- 2>&-", "<&- 2>&-"):
        for more in ([], ["--json"], ["-v", "--progress", "always"]):
            out = os.path.join(work, "out.tar.zst")
            r = subprocess.run(["sh", "-c", 'exec "$@" ' + closed, "sh", BINARY, "convert", src, "-o", out] + more,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            what = "%s %s" % (closed, " ".join(more))
            if "--json" in more and ">&-" in closed.replace("2>&-", ""):
                # the conversion stands or not, but nobody is told that it was reported
                check(what + ": not 0, since nothing could be printed", r.returncode == 7, "%d %s" % (r.returncode, r.stderr))
                check(what + ": whole or absent", content(out) in (None, content(good)))
            else:
                check(what + ": exit 0", r.returncode == 0, "%d %s" % (r.returncode, r.stderr))
                check(what + ": whole", content(out) == content(good))
            if os.path.exists(out):
                os.remove(out)
            check(what + ": source untouched", run("verify", good).returncode == 0)
    for argv in (["inspect", src], ["inspect", src, "--json"], ["id", src], ["formats"], ["--help"], ["--version"],
                 ["convert", src, "--dry-run", "-o", os.path.join(work, "d.pt")]):
        with open("/dev/full", "w") as full:
            r = run(*argv, stdout=full)
        check("%s to a full device" % " ".join(argv[:1]), one_error(r, 7), "%d %s" % (r.returncode, r.stderr))
        r = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", BINARY] + argv, stderr=subprocess.PIPE, text=True)
        check("%s to a closed stdout" % " ".join(argv[:1]), one_error(r, 7), "%d %s" % (r.returncode, r.stderr))


def surroundings(work):
    src, good = os.path.join(work, "src.safetensors"), os.path.join(work, "good.msgpack")
    small(src)
    options = ["--from", "pytorch", "--to", "flax"]
    run("convert", src, "-o", good, *options)
    want = content(good)
    check("plain", want is not None)
    gone = os.path.join(work, "gone")

    def same(what, r, out):
        check(what, r.returncode == 0, "%d %s" % (r.returncode, r.stderr))
        check(what + ": the same bytes", content(out) == want)
        check(what + ": nothing left", not [n for n in os.listdir(work) if ".nnferry-" in n], os.listdir(work))
        if os.path.exists(out):
            os.remove(out)

    out = os.path.join(work, "out.msgpack")
    same("TMPDIR missing", run("convert", src, "-o", out, *options, env={"TMPDIR": gone}), out)
    same("HOME read-only", run("convert", src, "-o", out, *options, env={"HOME": "/proc"}), out)
    same("no environment", run("convert", src, "-o", out, *options, env={}), out)
    r = run("validate", src, good, env={"TMPDIR": gone, "HOME": "/proc", "PATH": os.environ["PATH"]})
    check("validate without TMPDIR and HOME", r.returncode in (0, 1) and "verdict" in r.stdout, r.stderr)
    os.mkdir(gone)
    r = subprocess.run(["sh", "-c", 'cd "$1" && rmdir "$1" && shift && exec "$@"', "sh", gone, BINARY, "convert", src, "-o", out] + options,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    same("the working folder is gone", r, out)
    os.mkdir(gone)
    r = subprocess.run(["sh", "-c", 'cd "$1" && rmdir "$1" && shift && exec "$@"', "sh", gone, BINARY, "convert", src, "-o", "rel.msgpack"] + options,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check("a target in a folder that is gone", one_error(r, 7), "%d %s" % (r.returncode, r.stderr))
    # a deflated member read out of order is spooled, so the folder for it matters
    npz = os.path.join(work, "z.npz")
    check("npz", run("convert", src, "-o", npz, "--compress").returncode == 0)
    r = run("convert", npz, "-o", out, *options, "--tmpdir", gone)
    check("--tmpdir missing: not used, or refused", r.returncode == 0 or one_error(r, 7), "%d %s" % (r.returncode, r.stderr))
    if os.path.exists(out):
        os.remove(out)
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run(unshare + ["true"], stderr=subprocess.DEVNULL).returncode != 0:
        unshare += ["--propagation", "unchanged"]  # in a chroot / is no mount of its own
    script = 'mount -t tmpfs none /proc || exit 77; exec "$@"'
    r = subprocess.run(unshare + ["sh", "-c", script, "sh", BINARY, "convert", src, "-o", out] + options,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    same("no /proc", r, out)
    r = subprocess.run(unshare + ["sh", "-c", script, "sh", BINARY, "validate", src, good], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True)
    check("validate without /proc", r.returncode in (0, 1) and "verdict" in r.stdout, r.stderr)
    os.mkdir(work + "/ro")
    r = subprocess.run(unshare + ["sh", "-c", 'mount -t tmpfs -o ro none "$0" && exec "$@"', work + "/ro", BINARY, "convert", src,
                                  "-o", work + "/ro/x.pt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check("a read-only file system", one_error(r, 7), "%d %s" % (r.returncode, r.stderr))


main(address_space, descriptors, no_threads, interrupted, network, streams, surroundings, signals, memory=[signals])
