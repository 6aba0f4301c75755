#!/usr/bin/env python3
"""Paths and races: the output that is the input, planted symlinks, a parent swapped during the
run, inputs truncated, overwritten or replaced while they are read. Never wrong bytes with exit 0,
never a signal, nothing written where nobody asked."""
import os
import random
import shutil
import socket
import subprocess
import time

from common import BINARY, check, content, main, one_error, run, write_safetensors

PAGE = 4096
LAYERS = 6


def model(path, seed, rows=700):
    rng = random.Random(seed)
    tensors = []
    for i in range(LAYERS):
        tensors += [("l%d.weight" % i, "F32", [rows, 1024], rng.randbytes(rows * 4096)),
                    ("l%d.bias" % i, "F32", [rows], rng.randbytes(rows * 4))]
    write_safetensors(path, tensors)


def tiny(path):
    write_safetensors(path, [("l.weight", "F32", [30, 50], bytes(range(240)) * 25), ("l.bias", "F32", [30], bytes(120))])


def output_is_input(work):
    """F01"""
    base = os.path.join(work, "base.safetensors")
    tiny(base)
    for suffix, options in ((".safetensors", []), (".tar.zst", ["--as-is"]), (".pt", []), (".npz", []), (".msgpack", [])):
        folder = os.path.join(work, "in" + suffix)
        os.mkdir(folder)
        src = os.path.join(folder, "m" + suffix)
        r = run("convert", base, "-o", src, *options)
        check("F01: source " + suffix, r.returncode == 0, r.stderr)
        hard, soft = (os.path.join(folder, n + suffix) for n in ("hard", "soft"))
        os.link(src, hard)
        os.symlink(src, soft)
        os.symlink(folder, os.path.join(work, "link" + suffix))
        before = content(src)
        listing = sorted(os.listdir(folder))
        for what, a, b in (("same name", src, src), ("hard link", src, hard), ("symlink as output", src, soft),
                           ("symlink as input", soft, src), ("dots", src, os.path.join(folder, ".", "m" + suffix)),
                           ("linked folder", src, os.path.join(work, "link" + suffix, "m" + suffix))):
            r = run("convert", a, "-o", b, "-f")
            check("F01: %s, %s" % (suffix, what), one_error(r, 3, "output-is-input"), "%d %s" % (r.returncode, r.stderr))
            r = run("convert", a, "-o", b)
            check("F01: %s, %s, without -f" % (suffix, what), one_error(r, 7, "exists"), "%d %s" % (r.returncode, r.stderr))
            check("F01: %s, %s: untouched" % (suffix, what), content(src) == before and sorted(os.listdir(folder)) == listing)
    shards = os.path.join(work, "shards")
    big = os.path.join(work, "big.safetensors")
    model(big, 1, 20)
    run("convert", big, "-o", shards, "--format", "safetensors", "--max-shard-size", "100K")
    before = content(shards)
    check("F01: a folder of shards", isinstance(before, dict) and len(before) > 3)
    first = sorted(n for n in before if n.endswith(".safetensors"))[0]
    index = os.path.join(shards, "model.safetensors.index.json")
    for what, out, more in (("onto itself", shards, ["--max-shard-size", "200K", "--format", "safetensors"]),
                            ("onto a shard", os.path.join(shards, first), []),
                            ("onto its index", index, ["--format", "safetensors"])):
        for src in (shards, index):
            r = run("convert", src, "-o", out, "-f", *more)
            check("F01: a folder %s (%s)" % (what, os.path.basename(src)), one_error(r, 3, "output-is-input"), "%d %s" % (r.returncode, r.stderr))
            check("F01: a folder %s: untouched" % what, content(shards) == before, os.listdir(shards))
    like = os.path.join(work, "like.safetensors")
    tiny(like)
    was = content(like)
    r = run("convert", base, "-o", like, "-f", "--like", like)
    check("F01: onto its own skeleton", one_error(r, 3, "output-is-input") and content(like) == was, "%d %s" % (r.returncode, r.stderr))
    rules = os.path.join(work, "rules.map")
    with open(rules, "w"):
        pass
    r = run("convert", big, "-o", rules, "-f", "--format", "npz", "--map", rules)
    check("F01: onto its own rules", one_error(r, 3, "output-is-input") and os.path.getsize(rules) == 0, "%d %s" % (r.returncode, r.stderr))


def planted(work):
    """F02"""
    src = os.path.join(work, "src.safetensors")
    tiny(src)
    victim, out = os.path.join(work, "victim"), os.path.join(work, "out.pt")
    good = os.path.join(work, "good.pt")
    run("convert", src, "-o", good)
    with open(victim, "w") as f:
        f.write("mine")
    for what, target in (("a file", victim), ("nothing", os.path.join(work, "absent")), ("itself", out)):
        os.symlink(target, out)
        r = run("convert", src, "-o", out)
        check("F02: symlink to %s" % what, one_error(r, 7, "exists") and os.path.islink(out), "%d %s" % (r.returncode, r.stderr))
        r = run("convert", src, "-o", out, "-f")
        check("F02: symlink to %s, -f replaces the link" % what, r.returncode == 0 and not os.path.islink(out)
              and content(out) == content(good), "%d %s" % (r.returncode, r.stderr))
        check("F02: what it led to is untouched", content(victim) == b"mine" and not os.path.lexists(os.path.join(work, "absent")))
        os.remove(out)
    for kind in ("directory", "fifo"):
        if kind == "fifo":
            os.mkfifo(out)
        else:
            os.mkdir(out)
        r = run("convert", src, "-o", out, "-f", timeout=20)
        check("F02: a %s in the way" % kind, one_error(r, 7, "exists"), "%d %s" % (r.returncode, r.stderr))
        os.remove(out) if kind == "fifo" else os.rmdir(out)
    r = run("convert", src, "-o", os.path.join(victim, "x.pt"))
    check("F02: a file as the parent", one_error(r, 7), "%d %s" % (r.returncode, r.stderr))
    os.symlink(os.path.join(work, "nowhere"), os.path.join(work, "dangling"))
    r = run("convert", src, "-o", os.path.join(work, "dangling", "x.pt"))
    check("F02: a dangling parent", one_error(r, 7) and not os.path.exists(os.path.join(work, "nowhere")), "%d %s" % (r.returncode, r.stderr))

    # the temporary's own name, guessed to the letter, planted as a symlink, a file and a folder
    def plant(kind):
        def before_exec():
            with open("/proc/self/stat") as f:
                start = int(f.read().rpartition(")")[2].split()[19])
            with open("/proc/sys/kernel/random/boot_id") as f:
                boot = f.read().strip().replace("-", "")[:12]
            name = ".out.pt.nnferry-%s-%d-%s.%x.%x." % (socket.gethostname().replace("/", "_"), os.getpid(), boot,
                                                      os.stat("/proc/self/ns/pid").st_ino, start)
            for n in range(3):
                at = os.path.join(work, name + "%d" % n)
                if kind == "symlink":
                    os.symlink(victim, at)
                elif kind == "folder":
                    os.mkdir(at)
                else:
                    os.link(victim, at)
        return before_exec
    for kind in ("symlink", "hard link", "folder"):
        r = run("convert", src, "-o", out, preexec_fn=plant(kind))
        left = [n for n in os.listdir(work) if n.startswith(".out.pt.nnferry-")]
        check("F02: the temporary's name planted as a %s" % kind, r.returncode == 0 and content(out) == content(good),
              "%d %s" % (r.returncode, r.stderr))
        check("F02: the guess was right (%s)" % kind, len(left) == 3, left)
        check("F02: planted %s: victim untouched" % kind, content(victim) == b"mine")
        for n in left:
            n = os.path.join(work, n)
            os.rmdir(n) if kind == "folder" else os.remove(n)
        if os.path.exists(out):
            os.remove(out)


def swapped_parent(work):
    """F02: what is written stays in the folder that was opened."""
    src = os.path.join(work, "src.safetensors")
    model(src, 2, 300)
    good = os.path.join(work, "good.pt")
    run("convert", src, "-o", good)
    want, rng, swaps = content(good), random.Random(3), 0
    for i in range(24):
        parent, aside, decoy = (os.path.join(work, n) for n in ("parent", "aside", "decoy"))
        os.mkdir(parent)
        os.mkdir(decoy)
        options = ["--format", "pytorch"]
        p = subprocess.Popen([BINARY, "convert", src, "-o", os.path.join(parent, "o.pt"), "-q"] + options,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 5
        while not os.listdir(parent) and p.poll() is None and time.monotonic() < end:
            pass
        time.sleep(rng.random() * 0.03)
        os.rename(parent, aside)
        os.symlink(decoy, parent)
        said = p.communicate(timeout=60)[1]
        check("F02: parent swapped: nothing in the other folder", not os.listdir(decoy), os.listdir(decoy))
        now = os.listdir(aside)
        if p.returncode == 0:
            check("F02: parent swapped: whole", now == ["o.pt"] and content(os.path.join(aside, "o.pt")) == want, now)
        else:
            swaps += 1
            check("F02: parent swapped: exit", p.returncode in (3, 7) and said.count("\n") == 1, "%d %s" % (p.returncode, said))
            check("F02: parent swapped: nothing left", not now, now)
        os.remove(parent)
        shutil.rmtree(aside)
        shutil.rmtree(decoy)
    print("F02: parent swapped 24 times, %d runs said so" % swaps)


def truncate_at(size):
    def act(path, _):
        os.truncate(path, size)
    return act


def overwrite(path, other):
    """In place, same size; a last touch well behind the last change."""
    with open(path, "r+b", buffering=0) as f:
        size = len(other)
        for at in range(0, size, 1 << 20):
            f.seek(at)
            f.write(other[at:at + (1 << 20)])
        time.sleep(0.02)
        f.seek(size - 1)
        f.write(other[-1:])


def replace(path, other):
    with open(path + ".new", "wb") as f:
        f.write(other)
    os.rename(path + ".new", path)


def race(work, name, make, argv, out, rounds, act, other=None, accept=()):
    """Runs argv `rounds` times with act(path) at a random instant. Exit 0 means one of the accepted
    results; else exit 3 with one line, and nothing written. Returns how often it was 3."""
    pristine = content(make)
    src = os.path.join(work, "racing" + os.path.splitext(make)[1])
    rng = random.Random()
    seed = rng.getrandbits(32)
    rng.seed(seed)

    def once(delay):
        with open(src, "wb") as f:
            f.write(pristine)
        old = time.time() - 10
        os.utime(src, (old, old))
        p = subprocess.Popen([BINARY] + [src if a == "{src}" else a for a in argv], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        start = time.monotonic()
        if delay is not None:
            time.sleep(delay)
            act(src, other)
        try:
            said, wrong = p.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            p.kill()
            said, wrong = p.communicate()
            check("%s: ends" % name, False)
        result = (content(out) if out else said) if p.returncode == 0 else None
        return p.returncode, result, wrong, time.monotonic() - start

    def clear():
        if out and os.path.exists(out):
            os.remove(out)
    code, want, wrong, span = once(None)
    if not check(name + ": undisturbed", code == 0, wrong):
        return 0
    clear()
    refused = 0
    for i in range(rounds):
        delay = rng.random() * span
        code, got, wrong, took = once(delay)
        if code == 0:  # the act shall come while it runs, however fast it does today
            span = min(span, took)
        what = "%s, seed %d, round %d" % (name, seed, i)
        if code == 0:
            check(what + ": exit 0 with the right result", got == want or got in accept, (wrong, None if out else got))
        else:
            refused += 1
            check(what + ": exit 3, one line", code == 3 and wrong.count("\n") == 1, "%d %s" % (code, wrong))
            check(what + ": nothing written", not out or not os.path.exists(out))
        check(what + ": nothing left", not [n for n in os.listdir(work) if ".nnferry-" in n])
        clear()
    os.remove(src)
    return refused


def changing_input(work):
    """F04, F05"""
    a, b = os.path.join(work, "a.safetensors"), os.path.join(work, "b.safetensors")
    model(a, 4)
    model(b, 5)
    other, size = content(b), os.path.getsize(a)
    flax = ["convert", "{src}", "-o", os.path.join(work, "o.msgpack"), "--from", "pytorch", "--to", "flax", "-q"]
    plain = ["convert", "{src}", "-o", os.path.join(work, "o.tar.zst"), "--as-is", "-q", "--no-provenance"]
    cuts = [("a page edge", size // 2 // PAGE * PAGE), ("inside the last page", size - size % PAGE + max(1, size % PAGE // 2)),
            ("the last byte", size - 1), ("nothing", 0)]
    refused = 0
    for what, cut in cuts:
        for how, argv in (("transposing", flax), ("transposing by mmap", flax + ["--io", "mmap"]), ("by pread", flax + ["--io", "read"]),
                          ("to the archive", plain)):
            refused += race(work, "F04: cut to %s, %s" % (what, how), a, argv, argv[3], 5, truncate_at(cut))
    print("F04: %d of 80 truncations refused, the others came too late to matter" % refused)
    check("F04: the race is run", refused >= 16, refused)
    refused = 0
    for argv in (flax, plain):
        out, new = argv[3], argv[3] + ".new"
        r = run(*[b if x == "{src}" else new if x == out else x for x in argv],
                *(["--format", "msgpack"] if argv is flax else ["--format", "archive"]))
        check("F05: the other model", r.returncode == 0, r.stderr)
        accept = (content(new),)
        refused += race(work, "F05: overwritten, " + os.path.basename(out), a, argv, out, 12, overwrite, other, accept)
        came = race(work, "F05: renamed over, " + os.path.basename(out), a, argv, out, 8, replace, other, accept)
        check("F05: a replaced name is no change", came == 0, came)
    print("F05: %d of 24 overwritings refused" % refused)
    check("F05: the race is run", refused >= 4, refused)
    ids = run("id", b).stdout
    race(work, "F05: id while overwritten", a, ["id", "{src}"], None, 8, overwrite, other, (ids,))
    race(work, "F04: id while truncated", a, ["id", "{src}"], None, 8, truncate_at(size // 2 // PAGE * PAGE))
    for suffix, options in ((".tar.zst", ["--as-is"]), (".npz", ["--compress"]), (".pt", []), (".msgpack", [])):
        src = os.path.join(work, "m" + suffix)
        run("convert", a, "-o", src, *options)
        cut = os.path.getsize(src) * 2 // 3 // PAGE * PAGE
        out = os.path.join(work, "o.safetensors")
        race(work, "F04: %s cut" % suffix, src, ["convert", "{src}", "-o", out, "-q"], out, 5, truncate_at(cut))
        os.remove(src)


main(output_is_input, planted, swapped_parent, changing_input, memory=[changing_input, swapped_parent])
