#!/usr/bin/env python3
"""F06: tensor names that could be paths, too long, alike, or commands to a terminal, through every
format: every tensor comes back under its own name with its own bytes, or the format says which
name it cannot spell (exit 4). File names are harmless and messages are escaped."""
import os
import pty
import re
import struct
import subprocess

from common import BINARY, check, content, main, one_error, read_safetensors, run, write_safetensors

GROUPS = {
    "slash": ["a/b", "a", "c//d", "e/"],
    "parts": ["..", ".", "../../x", "/abs", "a/../b", "./y"],
    "long": ["n" * 300, "m" * 254, "k" * 1000, "ä" * 200],
    "case": ["A", "a", "a.B", "a.b", "weight", "Weight"],
    "unicode": ["\u00e9", "e\u0301", "\u212b", "\u00c5", "A\u030a", "ﬁ", "fi"],
    "control": ["\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "tab\there", "line\nbreak", "cr\rhere", "\x7f", "\u009b31m", "\u202eright",
                "\u00e9\x1b[2J", "\u20ac\x07\x1b", "\u00e9\u0085", "\u2028\u2029", "\u2066x\u2069", "\U0001f600\x9b"],
    "odd": [" ", "a b", " lead", "trail ", "%41", "%", "%25", "\\", "a\\b", "\"", "'", ".hidden", "CON", "NUL.txt", "a:b", "*", "?",
            "0", "1", "01", "-1", "__class__", "a.", ".a", "a..b", "."],
    "empty": ["", "x"],
    "like suffixes": ["w", "w.npy", "w.npy.npy", "weights/000000.000", "manifest.json", "README.txt", "data.pkl", "__metadata_"],
    "plain": ["a.weight", "a.bias"],
}
FORMATS = (("s.safetensors", []), ("t.pt", []), ("z.npz", []), ("d.npz", ["--compress"]), ("m.msgpack", []),
           ("a.tar.zst", []), ("i.tar.zst", ["--as-is"]), ("p.tar.zst", ["--layout", "plain", "--as-is"]),
           ("shards", ["--format", "safetensors", "--max-shard-size", "64K"]),
           ("tshards", ["--format", "pytorch", "--max-shard-size", "64K"]))
# what a terminal would obey: controls but newline, and the sets that C1 and bidi overrides are in
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f\u0080-\u009f\u2028-\u202e\u2066-\u2069]")


def quiet(what, r):
    for stream in (r.stdout, r.stderr):
        found = RAW.search(stream)
        check(what + ": nothing raw for the terminal", not found, repr(stream[max(0, found.start() - 30):found.end() + 30]) if found else "")


def through(work):
    outside = os.path.join(work, "watch")
    os.mkdir(outside)
    kept = refused = 0
    for group, names in GROUPS.items():
        names = list(dict.fromkeys(names))
        # single names too: one that cannot be spelt must not hide the others
        for subset in [names] + ([[n] for n in names] if len(names) > 1 else []):
            folder = os.path.join(work, "in")
            os.makedirs(folder, exist_ok=True)
            src = os.path.join(folder, "src.safetensors")
            data = {n: struct.pack("<2I", 7 + i, len(n)) for i, n in enumerate(subset)}
            write_safetensors(src, [(n, "I32", [2], data[n]) for n in subset])
            label = group if subset is names else "%s: %s" % (group, ascii(subset[0])[:40])
            r = run("inspect", src)
            quiet(label + ": inspect", r)
            if r.returncode != 0:
                check(label + ": inspect", one_error(r, 3), "%d %s" % (r.returncode, r.stderr))
                continue
            quiet(label + ": inspect --tree", run("inspect", src, "--tree"))
            for name, options in FORMATS if subset is names else FORMATS[1:6]:
                what = "%s by %s" % (label, name)
                out, back = os.path.join(outside, name), os.path.join(outside, "back.safetensors")
                r = run("convert", src, "-o", out, *options)
                quiet(what, r)
                if r.returncode != 0:
                    refused += 1
                    check(what + ": refused by name", r.returncode == 4 and r.stderr.strip(), "%d %s" % (r.returncode, r.stderr))
                    check(what + ": nothing left", not os.listdir(outside), os.listdir(outside))
                    continue
                r = run("convert", out, "-o", back, *(["--to", "source"] if name == "a.tar.zst" else []))
                quiet(what + " and back", r)
                if check(what + " and back", r.returncode == 0, r.stderr):
                    kept += 1
                    got = {k: v[2] for k, v in read_safetensors(back).items()}
                    check(what + ": every name, every byte", got == data, sorted(set(got) ^ set(data)))
                r = run("diff", src, out)
                quiet(what + ": diff", r)
                check(what + ": only what was asked for", set(os.listdir(outside)) <= {name, "back.safetensors"}, os.listdir(outside))
                if os.path.isdir(out):
                    strange = [n for n in content(out) if not re.fullmatch(r"[A-Za-z0-9._-]+", n)]
                    check(what + ": harmless file names", not strange, strange)
                elif name.endswith(".tar.zst"):
                    with subprocess.Popen(["zstd", "-dcq", out], stdout=subprocess.PIPE) as z:
                        t = subprocess.run(["tar", "-tf", "-"], stdin=z.stdout, stdout=subprocess.PIPE, text=True).stdout.split("\n")
                    strange = [n for n in t if n and (not re.fullmatch(r"[A-Za-z0-9._/-]+", n) or n.startswith("/") or ".." in n.split("/"))]
                    check(what + ": harmless member names", t and not strange, strange)
                for n in os.listdir(outside):
                    n = os.path.join(outside, n)
                    subprocess.run(["rm", "-rf", n], check=True)
    check("nothing written beside", sorted(os.listdir(work)) == ["in", "watch"], os.listdir(work))
    print("F06: %d ways there and back, %d refused" % (kept, refused))
    check("most names pass", kept > 4 * refused, refused)


def questions(work):
    """What is asked back (exit 4) and drawn on a terminal holds foreign names too."""
    src = os.path.join(work, "src.safetensors")
    write_safetensors(src, [(n + ".weight", "F32", [4, 4], bytes(64)) for n in GROUPS["control"]])
    r = run("convert", src, "-o", os.path.join(work, "o.msgpack"), "--from", "pytorch", "--to", "flax")
    check("questions: asked", r.returncode == 4 and r.stdout, "%d %s" % (r.returncode, r.stderr))
    quiet("questions", r)
    names = ["\x1b[31m%d\x07\u00e9\x1b[2J" % i for i in range(12)]
    write_safetensors(src, [(n, "U8", [8 << 20], bytes(8 << 20)) for n in names])
    near, far = pty.openpty()
    seen = b""
    with subprocess.Popen([BINARY, "convert", src, "-o", os.path.join(work, "o.npz"), "--compress", "-j", "1", "-f"],
                          stderr=far, stdout=subprocess.DEVNULL) as p:
        os.close(far)
        while True:
            try:
                block = os.read(near, 65536)
            except OSError:  # the other end is closed
                break
            if not block:
                break
            seen += block
    os.close(near)
    check("progress: done", p.returncode == 0, seen)
    text = seen.decode("utf-8", "replace").replace("\r\x1b[K", "\n").replace("\r\n", "\n")
    check("progress: drawn", " % " in text, repr(text))
    found = RAW.search(text)
    check("progress: nothing raw for the terminal", not found, repr(text[:400]))


main(through, questions, memory=[through, questions])
