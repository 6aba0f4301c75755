#!/usr/bin/env python3
"""What travels along: attachments and key-values of checkpoints of every format, into every format
that is written, as a file and as a folder. Each stands in the target or, with its bytes, in the
ledger, never in neither or both; losing some is exit 0. Standard library only."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.environ.get("NNFERRY_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BINARY = os.environ.get("NNFERRY", os.path.join(ROOT, "build/nnferry"))
GOLDEN = os.path.join(ROOT, "tests/golden")
SOURCES = ["keras/model.keras", "keras/whole.h5", "keras/only.weights.h5", "gguf/types.gguf",
           "gguf/parts", "onnx/external", "onnx/nested.onnx", "tensorflow/saved_model",
           "tensorflow/objects", "tensorflow/names", "tensorflow/frozen.pb", "tflite/float.tflite",
           "torch/script.pt", "torch/lightning.ckpt", "equinox/mlp_line.eqx", "orbax"]
# Of a format's own making: the container's tag, and what it says of itself anew.
OWN = {"safetensors": {"format"},
       "keras-h5": {"keras_version", "backend"}}

passed = failed = 0


def run(*argv):
    return subprocess.run([BINARY, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120, stdin=subprocess.DEVNULL)


def check(what, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAILED: %s %s" % (what, detail))


def inspect(path, fmt=None):
    r = run("inspect", "--json", path, *(["--input-format", fmt] if fmt else []))
    return json.loads(r.stdout) if r.returncode == 0 else {"error": r.stderr}


def hf_folder(d):
    """A folder as a hub has it: weights, configuration, tokenizer, a picture in bytes."""
    at = os.path.join(d, "hf")
    os.mkdir(at)
    head = json.dumps({"__metadata__": {"format": "pt", "total_flops": "12", "größe": "ein Wort"},
                       "arr_0": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    files = {"model.safetensors": len(head).to_bytes(8, "little") + head + bytes(8),
             "config.json": b'{"model_type": "none"}', "tokenizer.model": bytes(range(256)) * 40,
             "vocab.txt": "eins\nzwei\n".encode(), "README.md": b"# none\n", "empty.txt": b""}
    for name, data in files.items():
        with open(os.path.join(at, name), "wb") as f:
            f.write(data)
    return at


def sizes(path):
    """Bytes of a folder's files, by name."""
    return {n: os.path.getsize(os.path.join(path, n)) for n in os.listdir(path)
            if os.path.isfile(os.path.join(path, n))} if os.path.isdir(path) else {}


def kept(dst, got, name):
    return name in got["attachments"] or os.path.isfile(os.path.join(dst, name))


def pair(src, before, fmt, folder, d):
    what = "%s -> %s%s" % (os.path.relpath(src, GOLDEN) if src.startswith(GOLDEN) else "hf",
                           fmt["name"], ", a folder" if folder else "")
    dst = os.path.join(d, "out" + (fmt["suffixes"][0] if fmt["suffixes"] and not folder else ""))
    try:
        r = run("convert", src, "-o", dst, "--format", fmt["name"], "--as-is", "--json",
                "--allow-drop", "*", *(["--max-shard-size", "1G"] if folder else []))
        said = json.loads(r.stdout)
        if r.returncode == 4:
            check(what + ": exit 4 with a code", said["error"]["code"] not in (None, "ledger"), r.stdout)
            return 0  # its tensors, names or structure have no place there
        check(what + ": exit", r.returncode == 0, r.stderr)
        if r.returncode != 0:
            return 0
        got = inspect(dst)
        check(what + ": reads without a hint", "error" not in got, got.get("error", ""))
        if "error" in got:
            return 0
        lines = [l for l in said["ledger"] if l["what"] in ("attachment", "metadata")]
        check(what + ": harmless drops with bytes", all(
            l["kind"] == "drop" and l["harmless"] and isinstance(l["bytes"], int) and l["why"] and
            l["elements"] == 0 for l in lines), lines)
        lost = [l["name"] for l in lines if l["what"] == "attachment"]
        for name in before["attachments"]:
            check("%s: attachment %s" % (what, name), kept(dst, got, name) != (name in lost),
                  "dropped: %s, there: %s" % (lost, got["attachments"]))
            if os.path.isdir(dst):
                check("%s: a folder keeps %s" % (what, name), name not in lost and
                      (name in got["attachments"] or "/" in name), got["attachments"])
        check(what + ": no drop of what is not there", set(lost) <= set(before["attachments"]), lost)
        for l in lines:
            if l["what"] == "attachment" and l["name"] in sizes(src):
                check("%s: bytes of %s" % (what, l["name"]), l["bytes"] == sizes(src)[l["name"]], l)
        lost = [l["name"] for l in lines if l["what"] == "metadata"]
        for key, value in before["metadata"].items():
            if key in OWN.get(before["format"], ()) or key in OWN.get(fmt["name"], ()):
                continue
            check("%s: key %s" % (what, key), (got["metadata"].get(key) == value) != (key in lost),
                  "dropped: %s, there: %s" % (lost, sorted(got["metadata"])))
        check(what + ": no drop of keys not there", set(lost) <= set(before["metadata"]), lost)
        if lines and not folder:
            dry = run("convert", src, "-o", dst, "--format", fmt["name"], "--as-is",
                      "--allow-drop", "*", "--dry-run")
            check(what + ": --dry-run lists all", all(
                "left behind %s %s (%d bytes): " % (l["what"], l["name"], l["bytes"]) in dry.stdout
                for l in lines if l["name"].isascii() and "\n" not in l["name"]), dry.stdout)
            shutil.rmtree(dst) if os.path.isdir(dst) else os.unlink(dst)
            loud = run("convert", src, "-o", dst, "--format", fmt["name"], "--as-is",
                       "--allow-drop", "*")
            check(what + ": said on standard error", loud.returncode == 0 and
                  ("left behind attachment " in loud.stderr) == any(l["what"] == "attachment" for l in lines) and
                  ("left behind metadata, %d key" % len(lost) in loud.stderr) == bool(lost), loud.stderr)
        return 1
    finally:
        if os.path.isdir(dst):
            shutil.rmtree(dst)
        elif os.path.exists(dst):
            os.unlink(dst)


def misfit(d):
    """A graph is left behind where other tensors than its own are written, and the ledger says so;
    a folder keeps it as a file."""
    src, dst = os.path.join(GOLDEN, "onnx/nested.onnx"), os.path.join(d, "misfit")
    for folder in (False, True):
        out = dst + ("" if folder else ".onnx")
        r = run("convert", src, "-o", out, "--format", "onnx", "--select", "k", "--allow-drop", "*",
                "--json", *(["--max-shard-size", "1G"] if folder else []))
        what = "misfit" + (", a folder" if folder else "")
        check(what + ": exit", r.returncode == 0, r.stderr)
        lines = [l for l in json.loads(r.stdout)["ledger"] if l["what"] == "attachment"]
        there = os.path.isfile(os.path.join(out, "graph.onnx"))
        check(what + ": in the ledger or in the folder", there == folder and
              [(l["name"], l["kind"], l["harmless"]) for l in lines] ==
              ([] if folder else [("graph.onnx", "drop", True)]), lines)
        check(what + ": the tensor is there",
              [t["name"] for t in inspect(out)["tensors"]] == ["k"])


def main():
    formats = [f for f in json.loads(run("formats", "--json").stdout)["formats"] if f["writes"]]
    done = {f["name"]: 0 for f in formats}
    with tempfile.TemporaryDirectory() as d:
        sources = [hf_folder(d)]
        for s in SOURCES:
            path = os.path.join(GOLDEN, s)
            sources += [path] if s != "orbax" else sorted(
                os.path.join(path, n) for n in os.listdir(path) if os.path.isdir(os.path.join(path, n)))[:3]
        for src in sources:
            before = inspect(src)
            check("inspect " + src, "error" not in before, before.get("error", ""))
            for fmt in formats:
                for folder in (False, True):
                    done[fmt["name"]] += pair(src, before, fmt, folder, d)
        misfit(d)
    for name, n in done.items():
        check("something became " + name, n > 0)
    print("# cases %d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
