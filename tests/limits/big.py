#!/usr/bin/env python3
"""A checkpoint far larger than --memory, of incompressible data with one huge float32 matrix:
to the archive, and to Flax with the matrix transposed and cast to bfloat16, under a limit on
private memory (RLIMIT_DATA). The bytes must be those of an unrestricted run, and right.

    big.py            512 MiB, --memory 48M, in the suite
    big.py --full     8 GiB with a matrix of 4 GiB, --memory 64M under 96 MiB; by hand: needs 32 GB
                      of disk and some minutes, and fails beyond 5 times the unrestricted time
"""
# timeout: 1200
import argparse
import hashlib
import json
import mmap
import os
import random
import resource
import struct
import subprocess

import time

from common import BINARY, check, main, write_safetensors

MIB = 1 << 20
DATA_LIMIT = 96 * MIB
parser = argparse.ArgumentParser()
parser.add_argument("--full", action="store_true")
args = parser.parse_args()
# the matrix takes half of all bytes
OUT, IN = (16384, 65536) if args.full else (4096, 16384)
MEMORY = "64M" if args.full else "48M"
LAYER = (8192, 16384) if args.full else (1024, 2048)
N_LAYERS = 8 if args.full else 32


def noise(n):
    while n > 0:
        k = min(n, 16 * MIB)
        yield os.urandom(k)
        n -= k


def timed(argv, limit):
    """(seconds, peak private bytes seen) of one run; with limit under RLIMIT_DATA."""
    def lower():
        if limit:
            resource.setrlimit(resource.RLIMIT_DATA, (DATA_LIMIT, DATA_LIMIT))
    start, peak = time.monotonic(), 0
    p = subprocess.Popen([BINARY, *argv], preexec_fn=lower, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    while p.poll() is None:
        try:
            with open("/proc/%d/status" % p.pid) as f:
                for line in f:
                    if line.startswith("RssAnon:"):
                        peak = max(peak, int(line.split()[1]) * 1024)
        except OSError:
            pass
        time.sleep(0.05)
    seconds = time.monotonic() - start
    said = p.stderr.read()
    check("exit 0: " + " ".join(argv), p.returncode == 0, "%d %s" % (p.returncode, said))
    return seconds, peak


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while True:
            block = f.read(4 * MIB)
            if not block:
                return h.hexdigest()
            h.update(block)


def buffers(m):
    """{path of keys: (offset, bytes)} of every bin of a msgpack file, extensions opened."""
    found, at = {}, 0

    def number(fmt, n):
        nonlocal at
        at += n
        return struct.unpack(fmt, m[at - n:at])[0]

    def value(path):
        nonlocal at
        c = m[at]
        at += 1
        if c <= 0x7f or c >= 0xe0:
            return c
        if 0xa0 <= c <= 0xbf or c in (0xd9, 0xda, 0xdb):
            n = c & 31 if c <= 0xbf else number(*{0xd9: (">B", 1), 0xda: (">H", 2), 0xdb: (">I", 4)}[c])
            at += n
            return m[at - n:at].decode()
        if c in (0xc4, 0xc5, 0xc6):
            n = number(*{0xc4: (">B", 1), 0xc5: (">H", 2), 0xc6: (">I", 4)}[c])
            found[path] = (at, n)
            at += n
            return None
        if c in (0xc0, 0xc2, 0xc3):
            return {0xc2: False, 0xc3: True}.get(c)
        if 0xcc <= c <= 0xd3:
            return number(*{0xcc: (">B", 1), 0xcd: (">H", 2), 0xce: (">I", 4), 0xcf: (">Q", 8),
                            0xd0: (">b", 1), 0xd1: (">h", 2), 0xd2: (">i", 4), 0xd3: (">q", 8)}[c])
        if 0xd4 <= c <= 0xd8 or 0xc7 <= c <= 0xc9:  # an extension holds msgpack of its own
            if c <= 0xc9:
                number(*{0xc7: (">B", 1), 0xc8: (">H", 2), 0xc9: (">I", 4)}[c])
            at += 1
            return value(path)
        if 0x90 <= c <= 0x9f or c in (0xdc, 0xdd):
            n = c & 15 if c <= 0x9f else number(*{0xdc: (">H", 2), 0xdd: (">I", 4)}[c])
            return [value(path) for _ in range(n)]
        n = c & 15 if 0x80 <= c <= 0x8f else number(*{0xde: (">H", 2), 0xdf: (">I", 4)}[c])
        for _ in range(n):
            key = value(path)
            value(path + (key,))
        return None

    value(())
    if at != len(m):
        raise ValueError("%d bytes behind the msgpack object" % (len(m) - at))
    return found


def bfloat16(bits):
    """Round to nearest even, by integers; a NaN keeps its upper bits and becomes quiet."""
    if bits & 0x7fffffff > 0x7f800000:
        return bits >> 16 | 0x40
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16


def elements(src, flax):
    """Elements of the matrix, picked by chance, against the transposed and rounded source."""
    with open(src, "rb") as a, open(flax, "rb") as b:
        s = mmap.mmap(a.fileno(), 0, access=mmap.ACCESS_READ)
        m = mmap.mmap(b.fileno(), 0, access=mmap.ACCESS_READ)
        n = struct.unpack("<Q", s[:8])[0]
        base = 8 + n + json.loads(s[8:8 + n])["fc.weight"]["data_offsets"][0]
        parts = [(k, v) for k, v in buffers(m).items() if k[-2:] == ("fc", "kernel") or "fc" in k and "chunks" in k]
        parts = [v for _, v in sorted(parts, key=lambda x: [int(w) for w in x[0] if w.isdigit()])]
        check("the matrix has all its elements", sum(p[1] for p in parts) == 2 * OUT * IN, parts)
        wrong = []
        rng = random.Random(5)
        corners = [(0, 0), (0, OUT - 1), (IN - 1, 0), (IN - 1, OUT - 1)]
        for i, j in corners + [(rng.randrange(IN), rng.randrange(OUT)) for _ in range(20000)]:
            want = bfloat16(struct.unpack_from("<I", s, base + 4 * (j * IN + i))[0])
            at = 2 * (i * OUT + j)
            for offset, length in parts:
                if at < length:
                    break
                at -= length
            got = struct.unpack_from("<H", m, offset + at)[0]
            # which NaN comes out is the cast's choice, that it is one is not
            if got != want and not (got & 0x7fff > 0x7f80 and want & 0x7fff > 0x7f80):
                wrong.append((i, j, hex(got), hex(want)))
        check("elements of the transposed matrix", not wrong, wrong[:5])


def both(work):
    src = os.path.join(work, "src.safetensors")
    tensors = [("fc.weight", "F32", [OUT, IN], noise(4 * OUT * IN)),
               ("fc.bias", "F32", [OUT], noise(4 * OUT))]
    for i in range(N_LAYERS):
        tensors += [("mlp.%d.weight" % i, "F32", list(LAYER), noise(4 * LAYER[0] * LAYER[1])),
                    ("mlp.%d.bias" % i, "F32", [LAYER[0]], noise(4 * LAYER[0]))]
    write_safetensors(src, tensors)
    print("input: %d MiB, a matrix of %d MiB" % (os.path.getsize(src) // MIB, 4 * OUT * IN // MIB))
    kinds = (("archive", "a.tar.zst", []),
             ("flax", "f.msgpack", ["--from", "pytorch", "--to", "flax", "--dtype", "bfloat16",
                                    "--allow-overflow"]))
    for name, file, options in kinds:
        out = os.path.join(work, file)
        argv = ["convert", src, "-o", out, "-q"] + options
        free, free_peak = timed(argv, False)
        if not os.path.exists(out):
            continue
        want, size = digest(out), os.path.getsize(out)
        if name == "flax":
            elements(src, out)
        os.remove(out)
        bound, peak = timed(argv + ["--memory", MEMORY], True)
        same = os.path.exists(out) and digest(out) == want
        check("%s: the same bytes with --memory %s" % (name, MEMORY), same)
        check("%s: private memory" % name, peak <= DATA_LIMIT, peak)
        print("%s: %d MiB; unrestricted %.1f s (%d MiB private), --memory %s under %d MiB %.1f s "
              "(%d MiB private): ratio %.2f" % (name, size // MIB, free, free_peak // MIB, MEMORY,
                                                DATA_LIMIT // MIB, bound, peak // MIB, bound / free))
        if args.full:
            check("%s: within 5 times the unrestricted time" % name, bound <= 5 * free, bound / free)
        if same:
            os.remove(out)


main(both)
