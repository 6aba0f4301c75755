#!/usr/bin/env python3
"""Quantised tensors from outside: asked for, refused, carried, the same for any number of threads,
any memory and scalar code; from GGUF, from an archive, over a turned axis.

    blocks.py [BINARY]

Standard library only: the goldens of tests/golden/gguf hold what the gguf package makes of the
same numbers.
"""

import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "hostile"))
from lib import read_safetensors, safetensors_bytes  # noqa: E402

BINARY = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/nnferry").resolve()
GOLDEN = ROOT / "tests" / "golden" / "gguf"
passed = failed = 0


def check(what, ok, more=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print(f"FAIL {what}{': ' + str(more) if more else ''}")


def run(*argv):
    return subprocess.run([str(a) for a in (BINARY, *argv)], capture_output=True, text=True,
                          timeout=120)


def convert(source, target, *options):
    got = run("convert", source, "-o", target, "-f", *options)
    check(f"convert {source} {options}", got.returncode == 0, got.stderr.strip())


def refused(what, code, *argv, exit=4):
    got = run(*argv)
    check(what, got.returncode == exit and f" {code}: " in got.stderr,
          f"exit {got.returncode}: {got.stderr.strip()}")


def listed(path):
    shown = json.loads(run("inspect", "--json", path).stdout)
    return {t["name"]: (t["dtype"], tuple(t["shape"])) for t in shown["tensors"]}


def digests(path):
    """{name: digest} of `id --tensors`, without the model's own line."""
    lines = run("id", "--tensors", path).stdout.splitlines()[:-1]
    return {line.split()[-1]: line.split()[0] for line in lines}


def asked_for(top):
    """--dtype makes the package's blocks; what does not fill blocks is left or refused."""
    plain = top / "plain.safetensors"
    convert(GOLDEN / "packed.gguf", plain, "--select", "*.x")
    have = listed(GOLDEN / "packed.gguf")
    for kind in ("q8_0", "q4_0"):
        out = top / f"{kind}.gguf"
        convert(plain, out, "--dtype", f"{kind}.x={kind}")
        check(f"{kind}: type", listed(out)[f"{kind}.x"] == (kind, have[kind][1]), listed(out))
        check(f"{kind}: blocks", digests(out)[f"{kind}.x"] == digests(GOLDEN / "packed.gguf")[kind])
    odd = top / "odd.safetensors"
    numbers = struct.pack("<64f", *range(64))
    odd.write_bytes(safetensors_bytes([("m", "F32", [2, 32], numbers),
                                       ("v", "F32", [64], numbers),
                                       ("odd", "F32", [4, 16], numbers),
                                       ("i", "I32", [2, 32], numbers)]))
    out = top / "odd.gguf"
    convert(odd, out, "--dtype", "q8_0")
    check("by default", {n: t for n, (t, _) in listed(out).items()} ==
          {"m": "q8_0", "v": "float32", "odd": "float32", "i": "int32"}, listed(out))
    convert(odd, out, "--dtype", "[mv]=q4_0")
    check("by name", {n: t for n, (t, _) in listed(out).items()} ==
          {"m": "q4_0", "v": "q4_0", "odd": "float32", "i": "int32"}, listed(out))
    convert(out, top / "again.gguf", "--dtype", "q8_0")
    check("blocks are not made anew", listed(top / "again.gguf")["m"][0] == "q4_0")
    refused("rows", "block-shape", "convert", odd, "-o", top / "no.gguf", "--dtype", "odd=q8_0")
    refused("k types", "no-packing", "convert", odd, "-o", top / "no.gguf", "--dtype", "m=q4_k")
    turned = top / "complex.safetensors"
    turned.write_bytes(safetensors_bytes([("c", "C64", [2, 16], numbers)]))
    for kind in ("float32", "int8", "q8_0"):
        refused(f"complex to {kind}", "no-cast", "convert", turned, "-o", top / "no.npz", "--dtype",
                f"c={kind}")
    refused("no such type", "unknown-dtype", "convert", odd, "-o", top / "no.gguf", "--dtype",
            "m=q9_9", exit=2)
    refused("target", "dtype", "convert", out, "-o", top / "no.safetensors")
    refused("npz", "dtype", "convert", out, "-o", top / "no.npz")
    refused("plain archive", "dtype", "convert", out, "-o", top / "no.tar.zst", "--layout", "plain")
    big = top / "big.safetensors"
    big.write_bytes(safetensors_bytes([("m", "F32", [1, 32], struct.pack("<32f", *[9e9] * 32)),
                                       ("n", "F32", [1, 32],
                                        struct.pack("<32f", *[float("nan")] * 32))]))
    for name in "mn":
        refused(f"overflow of {name}", "overflow", "convert", big, "-o", top / "no.gguf", "--dtype",
                f"{name}=q8_0")
    convert(big, top / "big.gguf", "--dtype", "q8_0", "--allow-overflow")
    check("nothing left of refusals", not list(top.glob("no.*")))


def source(path):
    """Random blocks of several types, of more than one slab, in two linear layers' places."""
    rng = random.Random(11)
    entries, data = [], b""
    keys = struct.pack("<Q", 20) + b"general.architecture" + struct.pack("<IQ", 8, 1) + b"x"
    for i, (kind, elems, size, rows, cols) in enumerate([
            (8, 32, 34, 512, 1024), (14, 256, 210, 256, 512), (17, 256, 74, 384, 256),
            (2, 32, 18, 1024, 96)]):
        name = f"fc{i}.weight".encode()
        raw = bytearray(rng.randbytes(rows * cols // elems * size))
        for at in range(0, len(raw), size):  # scales that are small numbers
            where = at + (208 if kind == 14 else 0)
            raw[where:where + 2] = struct.pack("<e", rng.uniform(-0.02, 0.02))
        entries.append(struct.pack("<Q", len(name)) + name
                       + struct.pack("<IQQIQ", 2, cols, rows, kind, len(data)))
        data += raw + b"\0" * (-len(raw) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), 1) + keys + b"".join(entries)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)


def same_bytes(top):
    """Unpacked, packed and turned: one outcome."""
    src = top / "in.gguf"
    source(src)
    convert(src, top / "in.tar.zst")
    convert(top / "in.tar.zst", top / "back.gguf", "--to", "source")
    check("through the archive", (top / "back.gguf").read_bytes() == src.read_bytes())
    convert(src, top / "copy.gguf")
    check("copied", (top / "copy.gguf").read_bytes() == src.read_bytes())
    jobs = {"float32.safetensors": ("--dtype", "float32", "--as-is"),
            "float16.npz": ("--dtype", "float16", "--as-is"),
            "turned.msgpack": ("--to", "flax", "--dtype", "bfloat16"),
            "packed.gguf": ("--dtype", "*=q4_0", "--as-is")}
    for name, options in jobs.items():
        want = None
        for j, memory, code in (("1", "1G", ()), ("2", "1G", ()), ("7", "64M", ()),
                               ("1", "48M", ()), ("2", "1G", ("--simd", "scalar"))):
            for origin in (src, top / "in.tar.zst"):
                more = ("--from", "pytorch") if "turned" in name and origin == src else ()
                if origin != src and "turned" not in name:
                    more = ("--to", "source")
                    options = tuple(o for o in options if o != "--as-is")
                out = top / name
                got = run("convert", origin, "-o", out, "-f", "-j", j, "--memory", memory, *options,
                          *more, *code)
                check(f"{name} -j {j} {memory} from {origin.name}", got.returncode == 0,
                      got.stderr.strip())
                blob = out.read_bytes() if out.exists() else None
                want = want or blob
                check(f"{name} -j {j} {memory} {code} from {origin.name}: bytes", blob == want)
    turned = run("validate", src, top / "turned.msgpack", "--rtol", "0.01", "--atol", "0.01")
    check("turned: validate", turned.returncode == 0, turned.stdout[-300:])
    convert(top / "in.gguf", top / "f32.safetensors", "--dtype", "float32")
    data = read_safetensors((top / "f32.safetensors").read_bytes())
    check("unpacked sizes", len(data["fc0.weight"]) == 512 * 1024 * 4)
    equal = run("diff", src, top / "copy.gguf")
    check("diff of equals", equal.returncode == 0, equal.stdout)
    other = run("diff", src, top / "f32.safetensors")
    check("diff tells types", other.returncode == 1 and "in bits only" in other.stdout, other.stdout)
    refused("turned blocks", "block-shape", "convert", src, "-o", top / "no.gguf", "--to", "flax",
            "--from", "pytorch")


def scanned(top):
    text = b"{{ ().__class__ }}"
    key = b"tokenizer.chat_template"
    path = top / "t.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key
                     + struct.pack("<IQ", 8, len(text)) + text)
    got = run("scan", path)
    check("scan", got.returncode == 1 and "template-escape" in got.stdout
          and "chat-template" in got.stdout, got.stdout)


def main():
    with tempfile.TemporaryDirectory() as d:
        for test in (asked_for, same_bytes, scanned):
            folder = pathlib.Path(d) / test.__name__
            folder.mkdir()
            test(folder)
    print(f"# cases {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
