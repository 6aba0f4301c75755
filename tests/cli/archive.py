#!/usr/bin/env python3
"""The archive from outside: stock tar and zstd list it, README.txt's own recipes (numpy and the C
program, both taken from its text) rebuild every tensor, its digests check with hashlib, and its
bytes do not depend on threads, folder, locale or processor features. What provenance.json calls the
source's digest is the one made here from the source's bytes.

    archive.py [BINARY]

Needs zstd, tar, sha256sum and cc; numpy where there is one (said when there is none).
"""

import hashlib
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile

BINARY = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/nnferry").resolve()
WIDTH = {"rotate-2": 2, "rotate-4": 4, "rotate-8": 8, "split-2": 2, "byte": 1, "none": 1}
passed = failed = 0


def check(what, ok, more=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {what}{': ' + str(more) if more and not ok else ''}")


def run(*argv, env=None, **kw):
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True,
                          env={**os.environ, **(env or {})}, **kw)


def weights(rng, n, width):
    """Numbers with the exponents of trained weights, and every kind of special among them."""
    top = {2: 0x3c00, 4: 0x3c000000, 8: 0x3f80000000000000}[width]
    bits = 8 * width
    special = [0, 1, 1 << bits - 1, (1 << bits - 1) - 1, (1 << bits) - 1, 0x7f << bits - 8]
    out = bytearray()
    for i in range(n):
        v = rng.choice(special) if i % 37 == 0 else (top + rng.getrandbits(bits - 7)) % (1 << bits)
        out += v.to_bytes(width, "little")
    return bytes(out)


def source(path):
    rng = random.Random(7)
    tensors = [("f32", "F32", [300, 1111], 4), ("f32.small", "F32", [3], 4),
               ("bf16", "BF16", [600, 1000], 2), ("f16", "F16", [33, 1000], 2),
               ("f64", "F64", [200, 1000], 8)]
    data = {name: weights(rng, int(__import__("math").prod(shape)), width)
            for name, _, shape, width in tensors}
    tensors += [("i64", "I64", [500], 8), ("u8", "U8", [70001], 1), ("f8", "F8_E4M3", [9000], 1),
                ("none", "F32", [0, 4], 4), ("scalar", "I32", [], 4)]
    data["i64"] = struct.pack("<500q", *range(-250, 250))
    data["u8"] = rng.randbytes(70001)
    data["f8"] = bytes(rng.choice(b"\x38\x39\x3a\xb8") for _ in range(9000))
    data["none"], data["scalar"] = b"", struct.pack("<i", -5)
    header, at = {}, 0
    for name, dtype, shape, _ in tensors:
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [at, at + len(data[name])]}
        at += len(data[name])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data[t[0]] for t in tensors))
    return data


def tree_digest(b):
    leaves = [hashlib.sha256(b[i:i + 65536]).digest() for i in range(0, len(b), 65536)]
    return hashlib.sha256(b"nnt1" + len(b).to_bytes(8, "little") + b"".join(leaves)).hexdigest()


def model_id(tensors, digest):
    """nnferry-id(1) by hand. tensors: (name, dtype, shape, alias target or "")."""
    def text(t):
        return len(t.encode()).to_bytes(4, "little") + t.encode()

    out = b"nnf1" + len(tensors).to_bytes(8, "little")
    for name, dtype, shape, of in sorted(tensors, key=lambda t: t[0].encode()):
        out += text(name) + text(dtype) + len(shape).to_bytes(4, "little")
        out += b"".join(d.to_bytes(8, "little") for d in shape)
        out += bytes.fromhex(digest[name]) + text(of)
    return "nnf1:" + hashlib.sha256(out).hexdigest()


def source_id(path):
    """Of a safetensors file, from its bytes alone."""
    b = path.read_bytes()
    n = int.from_bytes(b[:8], "little")
    header, data = json.loads(b[8:8 + n]), b[8 + n:]
    header.pop("__metadata__", None)
    dtypes = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64",
              "I32": "int32", "I64": "int64", "U8": "uint8", "BOOL": "bool",
              "F8_E4M3": "float8_e4m3fn"}
    digest = {k: tree_digest(data[slice(*t["data_offsets"])]) for k, t in header.items()}
    return model_id([(k, dtypes[t["dtype"]], t["shape"], "") for k, t in header.items()], digest)


def provenance(archive):
    with subprocess.Popen(["zstd", "-dcq", archive], stdout=subprocess.PIPE) as z:
        return json.loads(run("tar", "-xOf", "-", "provenance.json", stdin=z.stdout).stdout)


def names_its_source(temp):
    """provenance.json has the source's digest whatever became of the tensors on the way."""
    src, out = temp / "src.safetensors", temp / "o.tar.zst"
    want = source_id(src)
    check("id", run(BINARY, "id", src).stdout.decode().split()[0] == want, want)

    def once(what, source, id_, tensors, *options, hashed):
        argv = [BINARY, "convert", source, "-o", out, "-f", *options]
        cost = json.loads(run(*argv, "--dry-run", "--json").stdout)["cost"]
        check(f"{what}: hashed beside", (cost["hashed_bytes"] > 0) == hashed, cost)
        run(*argv)
        run(BINARY, "verify", out)
        got = provenance(out)
        check(f"{what}: source_id", got["source_id"] == id_, got)
        check(f"{what}: tensors", got["tensors"] == tensors, got)
        shown = json.loads(run(BINARY, "inspect", out, "--json").stdout)["provenance"]
        check(f"{what}: inspect", shown == got, shown)
        text = run(BINARY, "inspect", out).stdout.decode()
        check(f"{what}: inspect, text", (id_ or "no digest") in text, text[-300:])
        own = run(BINARY, "id", out).stdout.decode().split()[0]
        check(f"{what}: the archive's own", (own == id_) == (tensors == "same"), own)

    once("as it is", src, want, "same", "--as-is", hashed=False)
    once("plain layout", src, want, "same", "--as-is", "--layout", "plain", hashed=False)
    once("cast", src, want, "changed", "--as-is", "--dtype", "bfloat16",
         "--allow-overflow", hashed=True)
    once("selected", src, None, "selected", "--as-is", "--select", "s*", hashed=False)
    run(BINARY, "convert", src, "-o", out, "-f", "--as-is", "--no-provenance")
    check("none", "provenance" not in json.loads(run(BINARY, "inspect", out, "--json").stdout))
    # a dense kernel [in, out] is stored [out, in]
    net = temp / "flax.safetensors"
    rng = random.Random(8)
    kernel = struct.pack("<120f", *(rng.random() for _ in range(120)))
    bias = struct.pack("<12f", *(rng.random() for _ in range(12)))
    text = json.dumps({"params.Dense_0.kernel": {"dtype": "F32", "shape": [10, 12],
                                                 "data_offsets": [0, 480]},
                       "params.Dense_0.bias": {"dtype": "F32", "shape": [12],
                                               "data_offsets": [480, 528]}}).encode()
    text += b" " * (-len(text) % 8)
    net.write_bytes(struct.pack("<Q", len(text)) + text + kernel + bias)
    once("turned", net, source_id(net), "changed", "--from", "flax", hashed=True)
    turned = provenance(out)
    for j in (1, 2, 7):
        run(BINARY, "convert", net, "-o", out, "-f", "--from", "flax", "-j", j)
        check(f"turned, {j} threads", provenance(out) == turned)
    # names that --upgrade changes: the digest is of those before
    old = temp / "old.safetensors"
    text = json.dumps({"module.a.weight": {"dtype": "F32", "shape": [10, 12],
                                           "data_offsets": [0, 480]},
                       "module.a.bias": {"dtype": "F32", "shape": [12],
                                         "data_offsets": [480, 528]}}).encode()
    text += b" " * (-len(text) % 8)
    old.write_bytes(struct.pack("<Q", len(text)) + text + kernel + bias)
    once("upgraded", old, source_id(old), "changed", "--upgrade", "--from", "pytorch", hashed=False)


def unpack(archive, folder):
    folder.mkdir()
    with subprocess.Popen(["zstd", "-dcq", archive], stdout=subprocess.PIPE) as z:
        run("tar", "-xf", "-", "-C", folder, stdin=z.stdout)
    return json.loads((folder / "manifest.json").read_text())


def stored(folder, tensor):
    return sorted(folder.glob(tensor["member"] + ".*"))


def numpy_recipe(readme, folder, tensor):
    """Runs README.txt's three lines as they stand."""
    import numpy as np
    lines = [line[4:] for line in readme.splitlines() if line.startswith("    x = ")]
    assert len(lines) == 3, lines
    whole = b""
    for part in stored(folder, tensor):
        scope = {"np": np, "w": WIDTH[tensor["planes"]], "p": np.fromfile(part, np.uint8)}
        if scope["p"].size == 0:
            continue
        for line in lines if tensor["planes"].startswith("rotate") else lines[:2]:
            exec(line, scope)  # noqa: S102: the text under test
        whole += scope["x"].tobytes()
    return whole


def main():
    temp = pathlib.Path(tempfile.mkdtemp(prefix="nnferry-archive-"))
    data = source(temp / "src.safetensors")
    run(BINARY, "convert", temp / "src.safetensors", "-o", temp / "a.tar.zst", "--as-is",
        "--sums", "full")
    run(BINARY, "verify", temp / "a.tar.zst")
    run("zstd", "-tq", temp / "a.tar.zst")
    manifest = unpack(temp / "a.tar.zst", temp / "a")
    readme = (temp / "a" / "README.txt").read_text()
    origin = json.loads((temp / "a" / "provenance.json").read_text())
    check("provenance: the source file", origin["files"] == [
        {"bytes": (temp / "src.safetensors").stat().st_size, "name": "src.safetensors"}])
    check("provenance: the container", origin["format"] == "safetensors")
    names_its_source(temp)
    run("sha256sum", "-c", "SHA256SUMS", cwd=temp / "a")
    check("sha256sum -c", True)

    program = "".join(line[4:] + "\n" for line in re.search(
        r"(    #include <stdint.h>\n.*?\n    }\n)", readme, re.S).group(1).splitlines())
    (temp / "undo.c").write_text(program)
    run("cc", "-O1", "-o", temp / "undo", temp / "undo.c")
    try:
        import numpy  # noqa: F401
        recipe = True
    except ImportError:
        recipe = False
        print("note: no numpy here, the numpy recipe is not run")
    for t in manifest["tensors"]:
        want = data[t["name"]]
        args = [WIDTH[t["planes"]], int(t["planes"].startswith("rotate"))]
        got = b"".join(run(temp / "undo", *args, input=p.read_bytes()).stdout
                       for p in stored(temp / "a", t))
        check(f"C program: {t['name']} ({t['planes']})", got == want)
        check(f"digest: {t['name']}", t["digest"] == tree_digest(want))
        if recipe:
            check(f"numpy: {t['name']}", numpy_recipe(readme, temp / "a", t) == want)

    run(BINARY, "convert", temp / "src.safetensors", "-o", temp / "p.tar.zst", "--as-is",
        "--layout", "plain", "--sums", "full")
    run(BINARY, "verify", temp / "p.tar.zst")
    plain = unpack(temp / "p.tar.zst", temp / "p")
    run("sha256sum", "-c", "SHA256SUMS", cwd=temp / "p")
    for t in plain["tensors"]:
        raw = (temp / "p" / t["member"]).read_bytes()[t["offset"]:t["offset"] + t["bytes"]]
        check(f"plain: {t['name']}", raw == data[t["name"]])
    ids = [run(BINARY, "id", f).stdout.split()[0] for f in
           (temp / "src.safetensors", temp / "a.tar.zst", temp / "p.tar.zst",
            temp / "p" / plain["tensors"][0]["member"])]
    check("one id", len(set(ids)) == 1, ids)

    first = (temp / "a.tar.zst").read_bytes()
    for name, args, env in (("1 thread", ["-j", 1], {}), ("2 threads", ["-j", 2], {}),
                            ("8 threads", ["-j", 8], {}),
                            ("another locale and folder", [], {"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"}),
                            ("less memory", ["--memory", "64M"], {})):
        out = temp / ("sub " + name) / "b.tar.zst"
        out.parent.mkdir()
        run(BINARY, "convert", temp / "src.safetensors", "-o", out, "--as-is", "--sums", "full",
            *args, env=env)
        check(f"same bytes: {name}", out.read_bytes() == first)
    run("rm", "-rf", temp)
    print(f"# cases {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
