"""What the scripts of this folder share: the binary, checks that count, and small files.
Standard library only.
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = os.environ.get("NNFERRY_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BINARY = os.environ.get("NNFERRY", os.path.join(ROOT, "build/nnferry"))
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
         "BOOL": 1}
_passed = _failed = 0


def check(what, ok, detail=""):
    global _passed, _failed
    _passed, _failed = _passed + bool(ok), _failed + (not ok)
    if not ok:
        print("FAILED: %s: %s" % (what, detail))
        sys.stdout.flush()
    return bool(ok)


def run(*argv, **options):
    """A finished run of nnferry; output as text, never a terminal."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    options.setdefault("timeout", 600)
    return subprocess.run([BINARY, *map(str, argv)], text=True, errors="replace", **options)


def one_error(r, code, word=""):
    """The contract of a failed run: this exit and one line that names the reason."""
    errors = [x for x in r.stderr.splitlines() if not x.startswith("nnferry: warning: ")]
    return r.returncode == code and len(errors) == 1 and word in errors[0]


def write_safetensors(path, tensors):
    """tensors: [(name, dtype, shape, bytes or an iterable of bytes)]."""
    header, at = {}, 0
    for name, dtype, shape, _ in tensors:
        n = BYTES[dtype]
        for x in shape:
            n *= x
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, data in tensors:
            for part in [data] if isinstance(data, (bytes, bytearray)) else data:
                f.write(part)
        if f.tell() != 8 + len(text) + at:
            raise ValueError("the data does not fit the shapes")


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    with open(path, "rb") as f:
        (n,) = struct.unpack("<Q", f.read(8))
        header, body = json.loads(f.read(n)), f.read()
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], body[slice(*v["data_offsets"])]) for k, v in header.items()}


def content(path):
    """What a name holds: None, bytes, or {file: bytes} of a folder."""
    if os.path.isdir(path):
        return {os.path.relpath(os.path.join(top, n), path): content(os.path.join(top, n))
                for top, _, files in os.walk(path) for n in files}
    if not os.path.exists(path):
        return None
    with open(path, "rb") as f:
        return f.read()


def main(*parts):
    """Calls every part with a folder of its own, prints the count, exits."""
    for part in parts:
        work = tempfile.mkdtemp(prefix="nnferry-")
        try:
            part(work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    print("# cases %d passed, %d failed" % (_passed, _failed))
    sys.exit(1 if _failed else 0)
