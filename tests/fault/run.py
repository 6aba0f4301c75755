#!/usr/bin/env python3
"""Faults while writing: every write-class call failed and killed in turn, lies, EINTR storms, a
full disk, a file size limit, every allocation failed.

At every instant the published name holds nothing, the whole old output or the whole new one; an
exit of 0 means the whole new one; nothing is left behind, but by a kill or by a failed removal, and
then the next run removes it.
"""
# timeout: 1800
import errno
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NNFERRY = os.environ.get("NNFERRY", os.path.join(ROOT, "build/nnferry"))
FAULTY = os.environ.get("NNFERRY_FAULT", os.path.join(ROOT, "build/fault/nnferry"))
passed = failed = 0
REMOVALS = {"unlinkat", "unlink", "rmdir"}


def note(ok, text):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAILED:", text)


def checkpoint(path, n_tensors, seed, bytes_each=4096):
    """A safetensors file of noise that is a function of the seed."""
    header, data, at = {}, [], 0
    for i in range(n_tensors):
        block = hashlib.shake_128(b"%d %d" % (seed, i)).digest(bytes_each)
        header["layer%03d.w" % i] = {"dtype": "I32", "shape": [bytes_each // 4],
                                     "data_offsets": [at, at + bytes_each]}
        data.append(block)
        at += bytes_each
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(data))


def content(path):
    """What a name holds: None, bytes, or a folder's files."""
    if os.path.isdir(path):
        out = {}
        for top, _, files in os.walk(path):
            for name in files:
                full = os.path.join(top, name)
                with open(full, "rb") as f:
                    out[os.path.relpath(full, path)] = hashlib.sha256(f.read()).hexdigest()
        return out
    if not os.path.lexists(path):
        return None
    with open(path, "rb") as f:
        return f.read()


class Scene:
    """One kind of conversion, in a folder that holds nothing else."""

    def __init__(self, work, name, dst, options, old, n_tensors=230):
        self.name, self.dst, self.options = name, dst, options
        self.folder = os.path.join(work, name)
        self.inputs = os.path.join(work, name + ".in")
        self.report = os.path.join(work, name + ".report")
        os.makedirs(self.inputs)
        self.src = os.path.join(self.inputs, "src.safetensors")
        checkpoint(self.src, n_tensors, 1)
        self.old_from = None
        if old:
            self.old_from = os.path.join(work, name + ".old")
            shutil.rmtree(self.folder, ignore_errors=True)
            other = os.path.join(self.inputs, "other.safetensors")
            checkpoint(other, 20, 2)
            plain = [o for o in options if o != "-f"]
            subprocess.run([NNFERRY, "convert", other, "-o", self.old_from] + plain, check=True)
        self.reset()
        self.old = content(self.target())
        subprocess.run(self.command(), check=True)
        self.new = content(self.target())
        assert self.new is not None and self.new != self.old

    def target(self):
        return os.path.join(self.folder, self.dst)

    def command(self):
        return [NNFERRY, "convert", self.src, "-o", self.target(), "-j", "2"] + self.options

    def reset(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        if self.old_from and os.path.isdir(self.old_from):
            shutil.copytree(self.old_from, self.target())
        elif self.old_from:
            shutil.copy(self.old_from, self.target())

    def left(self):
        return [n for n in os.listdir(self.folder) if n != self.dst]

    def run(self, supervise, mode, n):
        done = subprocess.run([supervise, self.report, mode, str(n)] + self.command(),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with open(self.report) as f:
            words = f.read().split()
        os.remove(self.report)
        return done.returncode, int(words[1]), words[3], done.stdout

    def judge(self, mode, n, code, hit, said):
        """The invariant after a run that may have failed."""
        what = "%s: %s at call %d (%s): exit %d: %s" % (
            self.name, mode, n, hit, code, said.decode(errors="replace").strip()[-300:])
        now = content(self.target())
        whole = now == self.new
        note(now is None and self.old is None or now == self.old or whole,
             what + ": the name holds neither old nor new")
        if code == 0:
            note(whole, what + ": exit 0 without the whole output")
        elif code != 137 and mode != "kill":
            note(code in (1, 2, 3, 4, 7, 8, 70, 128 + 15), what + ": a strange exit")
            note(b"Sanitizer" not in said, what)
        left = self.left()
        if mode == "kill":
            note(len(left) <= 2, what + ": left behind: " + " ".join(left))
        elif hit not in REMOVALS:
            note(not left, what + ": left behind: " + " ".join(left))
        if left:
            again = subprocess.run(self.command() + ([] if "-f" in self.options else ["-f"]),
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            note(again.returncode == 0 and not self.left() and content(self.target()) == self.new,
                 what + ": the next run did not clean up: " + again.stdout.decode()[-200:])


def build_supervisor(work):
    path = os.path.join(work, "supervise")
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-o", path,
                    os.path.join(HERE, "supervise.c")], check=True)
    return path


def calls_in_turn(scene, supervise):
    scene.reset()
    code, total, _, said = scene.run(supervise, "none", 0)
    note(code == 0 and content(scene.target()) == scene.new, scene.name + ": " + said.decode())
    runs = 0
    for mode in ("errno=%d" % errno.ENOSPC, "errno=%d" % errno.EIO, "kill"):
        for n in range(1, total + 1):
            scene.reset()
            code, _, hit, said = scene.run(supervise, mode, n)
            scene.judge(mode, n, code, hit, said)
            runs += 1
    lies = 0
    for n in range(1, total + 1):
        scene.reset()
        code, _, hit, said = scene.run(supervise, "lie", n)
        if hit != "pwrite64":
            continue
        lies += 1
        note(code == 7, "%s: a lie at call %d went unnoticed: exit %d" % (scene.name, n, code))
        scene.judge("lie", n, code, hit, said)
    scene.reset()
    code, _, hit, said = scene.run(supervise, "storm", 0)
    note(code == 0 and content(scene.target()) == scene.new,
         "%s: under EINTR: exit %d %s" % (scene.name, code, said.decode()))
    print("%s: %d write-class calls, %d runs with one failed or killed, %d with one that lied"
          % (scene.name, total, runs, lies))
    note(total >= 200 or scene.old is not None, "%s has only %d calls" % (scene.name, total))


def refused_flags(scene, supervise):
    """File systems without renameat2 flags: a file is linked, a folder is renamed or refused."""
    scene.reset()
    _, total, _, _ = scene.run(supervise, "none", 0)
    for n in range(1, total + 1):
        scene.reset()
        code, _, hit, said = scene.run(supervise, "errno=%d" % errno.EINVAL, n)
        if hit == "renameat2":
            scene.judge("EINVAL", n, code, hit, said)
            if scene.old is None:
                note(code == 0, "%s: no fallback for renameat2: %s" % (scene.name, said.decode()))


def poor_file_system(scene, supervise):
    """No fsync of folders, no flags of renameat2, no fallocate: whatever need not replace a folder works."""
    scene.reset()
    code, _, hit, said = scene.run(supervise, "poor", 0)
    scene.judge("poor", 0, code, hit, said)
    must = scene.old is None or not isinstance(scene.new, dict)
    note(code == (0 if must else 7), "%s: on a poor file system: exit %d %s" % (scene.name, code, said.decode()))
    note(hit != "-", scene.name + ": nothing was refused")


def full_disk(work):
    """A real full disk: a tmpfs of 256 KiB in a mount namespace of its own."""
    src, disk = os.path.join(work, "big.safetensors"), os.path.join(work, "disk")
    checkpoint(src, 100, 3, 8192)
    os.makedirs(disk)
    script = ('mount -t tmpfs -o size=256k none "$1" || exit 77\n'
              '"$2" convert "$3" -o "$1/out.safetensors"; code=$?\n'
              'test -z "$(ls -A "$1")" || { echo left behind; exit 99; }\n'
              'exit $code\n')
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run(unshare + ["true"], stderr=subprocess.DEVNULL).returncode != 0:
        unshare += ["--propagation", "unchanged"]  # in a chroot / is no mount of its own
    done = subprocess.run(unshare + ["sh", "-c", script, "sh", disk, NNFERRY, src],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.stdout.decode()
    note(done.returncode == 7 and "disk-full" in said,
         "full disk: exit %d: %s" % (done.returncode, said.strip()))
    print("full disk:", said.strip())


def size_limit(work):
    folder = os.path.join(work, "limit")
    src, dst = os.path.join(work, "big.safetensors"), os.path.join(folder, "out.safetensors")
    os.makedirs(folder)
    done = subprocess.run(
        [NNFERRY, "convert", src, "-o", dst], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)))
    note(done.returncode == 7 and not os.listdir(folder),
         "RLIMIT_FSIZE: exit %d: %s" % (done.returncode, done.stdout.decode()))
    done = subprocess.run(
        [NNFERRY, "convert", src, "-o", dst, "-j", "4"], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)))
    note(done.returncode == 0, "RLIMIT_NOFILE: " + done.stdout.decode())


def allocations(work):
    """Each allocation fails once, then each and all behind it, until a run gets through."""
    folder = os.path.join(work, "alloc")
    small = os.path.join(work, "small.safetensors")
    checkpoint(small, 6, 4)
    archive, torch = os.path.join(work, "small.tar.zst"), os.path.join(work, "small.pt")
    for made in (archive, torch):
        subprocess.run([NNFERRY, "convert", small, "-o", made], check=True)
    os.makedirs(folder)
    golden = os.path.join(ROOT, "tests", "golden")
    objects, sliced = (os.path.join(golden, "tensorflow", n) for n in ("slots", "names"))
    total = 0
    for src, name in ((small, "out.safetensors"), (small, "out.tar.zst"), (archive, "out.pt"),
                      (torch, "out.npz"), (torch, "out.msgpack"),
                      (objects, "out.tf-checkpoint"), (sliced, "out.safetensors")):
        # the first that is never reached ends the first round and tells the second its length
        n = allocations_of(folder, src, os.path.join(folder, name), None)
        total += n + allocations_of(folder, src, os.path.join(folder, name), n)
    note(total > 1000, "only %d allocations were failed" % total)


def discard(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def allocations_of(folder, src, dst, last):
    """With last each allocation up to it fails once; without, also all behind it."""
    subprocess.run([FAULTY, "convert", src, "-o", dst], check=True)
    whole = content(dst)
    discard(dst)
    n, code = 0, -1
    while n < last if last else code != 0:
        n += 1
        env = dict(os.environ, NNFERRY_FAULT_ALLOC=str(n))
        if not last:
            env["NNFERRY_FAULT_FOREVER"] = "1"
        done = subprocess.run([FAULTY, "convert", src, "-o", dst, "-j", "2"], env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        code, said = done.returncode, done.stdout.decode(errors="replace")
        now = content(dst)
        what = "%s to %s, allocation %d" % (os.path.basename(src), os.path.basename(dst), n)
        note("Sanitizer" not in said and code in (0, 7, 8), what + ": exit %d: %s" % (code, said[-600:]))
        note(now == whole if code == 0 else now is None, what + ": torn")
        note(set(os.listdir(folder)) <= {os.path.basename(dst)}, what + ": left behind")
        if now is not None:
            discard(dst)
    print("allocations, %s to %s: %d failed in turn%s"
          % (os.path.basename(src), os.path.basename(dst), n, "" if last else ", with all behind"))
    return n


def main():
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    work = tempfile.mkdtemp(prefix="nnferry-fault-", dir=shm)
    try:
        supervise = build_supervisor(work)
        scenes = [Scene(work, "file", "out.safetensors", [], False),
                  Scene(work, "archive", "out.tar.zst", [], False, 90),
                  Scene(work, "shards", "out", ["--format", "safetensors",
                                                "--max-shard-size", "100K"], False),
                  Scene(work, "overwrite-file", "out.safetensors",
                        ["--format", "safetensors", "-f"], True),
                  Scene(work, "overwrite-shards", "out",
                        ["--format", "safetensors", "--max-shard-size", "100K", "-f"], True)]
        for scene in scenes:
            calls_in_turn(scene, supervise)
            refused_flags(scene, supervise)
            poor_file_system(scene, supervise)
        poor_file_system(Scene(work, "forced-shards", "out", ["--format", "safetensors", "--max-shard-size",
                                                              "100K", "-f"], False), supervise)
        full_disk(work)
        size_limit(work)
        if os.path.exists(FAULTY):
            allocations(work)
        else:
            note(False, "no fault flavour: %s (make FLAVOUR=fault)" % FAULTY)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("# cases %d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
