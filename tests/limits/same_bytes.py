#!/usr/bin/env python3
"""The archive of a model of many chunks in every width is the same bytes for any number of
threads, folder, locale, time zone, memory and processor feature, with planes and plain; so are
Flax and safetensors made from it. tests/cli/archive.py takes such an archive apart."""
import os
import random
import subprocess

from common import check, content, main, run, write_safetensors



def weights(rng, dtype, n):
    """n numbers with noise in the mantissa and few exponents, as trained weights have."""
    width = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I8": 1}[dtype]
    out = bytearray(rng.randbytes(n * width))
    if dtype[0] == "I" and width > 1:
        for k in range(1, width):
            out[k::width] = bytes(n)
    elif width > 1:
        top = {"F64": 0x3f, "F32": 0x3c, "BF16": 0x3c, "F16": 0x28}[dtype]
        high = bytes(top + (b & 1) | b & 0x80 for b in range(256))
        out[width - 1::width] = out[width - 1::width].translate(high)
    out[:width] = bytes(width)
    out[-width:] = b"\xff" * width
    return bytes(out)


def model(path):
    rng = random.Random(11)
    shapes = [("a.weight", "BF16", [2048, 3001]), ("b.weight", "F32", [1500, 1777]),
              ("c.weight", "F16", [999, 2111]), ("d.weight", "F64", [300, 1666]),
              ("e.ids", "I64", [200000]), ("f.ids", "I32", [5, 70001]), ("g.q", "I8", [1048577]),
              ("a.bias", "BF16", [2048]), ("b.bias", "F32", [1500]),
              ("c.bias", "F16", [999]), ("d.bias", "F64", [300]), ("one", "F32", []), ("none", "BF16", [0, 7])]
    tensors = []
    for name, dtype, shape in shapes:
        n = 1
        for x in shape:
            n *= x
        tensors.append((name, dtype, shape, weights(rng, dtype, n) if n else b""))
    write_safetensors(path, tensors)


def locales():
    said = subprocess.run(["locale", "-a"], stdout=subprocess.PIPE, text=True).stdout.split()
    return [x for x in said if x not in ("C", "POSIX")] or ["C.UTF-8"]


def same(work):
    src = os.path.join(work, "src.safetensors")
    model(src)
    other = os.path.join(work, "another folder")
    os.mkdir(other)
    copy = os.path.join(other, "src.safetensors")
    os.link(src, copy)
    far = {"LC_ALL": locales()[-1], "LANG": "tr_TR.UTF-8", "TZ": "Asia/Tokyo", "HOME": "/"}
    ways = [("2 threads", src, ["-j", "2"], {}), ("8 threads", src, ["-j", "8"], {}),
            ("scalar", src, ["--simd", "scalar"], {}),
            ("scalar on 1 thread", src, ["-j", "1", "--simd", "scalar"], {}),
            ("48 MiB", src, ["--memory", "48M"], {}), ("8 threads in 48 MiB", src, ["-j", "8", "--memory", "48M"], {}),
            ("pread", src, ["--io", "read"], {}), ("another folder and locale", copy, [], far),
            ("OMP_NUM_THREADS=3", src, [], {"OMP_NUM_THREADS": "3", "OMP_SCHEDULE": "dynamic"})]
    for kind, name, options in (("planes", "m.tar.zst", []), ("plain", "p.tar.zst", ["--layout", "plain"]),
                                ("flax", "m.msgpack", ["--from", "pytorch", "--to", "flax", "--dtype", "*.weight=bfloat16"]),
                                ("torch", "m.pt", []), ("npz", "m.npz", ["--compress", "--select", "[dg].*"])):
        first = os.path.join(work, name)
        r = run("convert", src, "-o", first, "-j", "1", *options)
        if not check(kind, r.returncode == 0, r.stderr):
            continue
        want = content(first)
        for i, (what, source, more, env) in enumerate(ways):
            if kind != "planes" and i not in (1, 2, 4, 7):
                continue
            folder = os.path.join(other, "sub %d" % i)
            os.makedirs(folder, exist_ok=True)
            out = os.path.join(folder, name)
            r = run("convert", source, "-o", out, *options, *more, env={**os.environ, **env}, cwd=folder)
            check("%s, %s: exit 0" % (kind, what), r.returncode == 0, r.stderr)
            check("%s, %s: the same bytes" % (kind, what), content(out) == want)
            if os.path.exists(out):
                os.remove(out)
        if kind in ("planes", "plain"):
            with subprocess.Popen(["zstd", "-dcq", first], stdout=subprocess.PIPE) as z:
                t = subprocess.run(["tar", "-tf", "-"], stdin=z.stdout, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
            names = t.stdout.split()
            check(kind + ": zstd and tar list it", z.returncode == 0 and t.returncode == 0 and not t.stderr
                  and names[0] == "README.txt" and "manifest.json" in names and names[-1] == "SHA256SUMS",
                  t.stderr + t.stdout)
    ids = [run("id", os.path.join(work, n)).stdout.split()[:1] for n in ("src.safetensors", "m.tar.zst", "p.tar.zst", "m.pt")]
    check("one id", len({str(i) for i in ids}) == 1 and ids[0], ids)
    r = run("verify", os.path.join(work, "m.tar.zst"))
    check("verify", r.returncode == 0, r.stderr)


main(same)
