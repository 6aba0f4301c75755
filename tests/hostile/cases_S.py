"""Hostile safetensors files and HF indexes."""

import json
import os
import struct

from lib import case, safetensors_bytes

W = [("w", "F32", [2], struct.pack("<2f", 1, 2))]
GOOD = safetensors_bytes(W)


def raw(header, data=b"", length=None):
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(name, dtype, shape, offsets):
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


def one(dtype, shape, offsets, data, **kw):
    return raw("{" + entry("w", dtype, shape, offsets) + "}", data, **kw)


# ---- S01: the length ----
for n in range(8):
    case(f"S01-len{n}", "w.safetensors", 3, "unrecognised" if n == 0 else "truncated", 0 if n == 0 else n,
         build=b"\x10\0\0\0\0\0\0\0"[:n], twin=GOOD)
for tag, n in (("2p64", 2**64 - 1), ("2p63", 2**63), ("cap", 100_000_001), ("minus7", len(GOOD) - 7)):
    case(f"S01-{tag}", "w.safetensors", 3, "header-length", 0,
         build=struct.pack("<Q", n) + GOOD[8:], twin=GOOD)

# ---- S02: the text ----
W2 = entry("w", "U8", "[1]", "[0,1]")
TWIN2 = raw("{" + W2 + "}  ", b"\0")
case("S02-utf8", "w.safetensors", 3, "json-utf8", 10, build=raw(b'{"\xff":{}}'), twin=TWIN2)
case("S02-bom", "w.safetensors", 3, "header-start", 8, build=raw(b"\xef\xbb\xbf{}"), twin=TWIN2)
case("S02-blank", "w.safetensors", 3, "header-start", 8, build=raw(" {" + W2 + "}", b"\0"),
     twin=TWIN2)
case("S02-array", "w.safetensors", 3, "header-start", 8, build=raw("[1]"), twin=TWIN2)
for tag, tail in (("nul", b"\0"), ("newline", b"\n"), ("tab", b"\t"), ("brace", b"{}")):
    case(f"S02-tail-{tag}", "w.safetensors", 3, "json-trailing", 8 + len(W2) + 2,
         build=raw(("{" + W2 + "}").encode() + tail, b"\0"), twin=TWIN2)

# ---- S04: keys twice, unknown keys ----
DOUBLE = '{"w":{"dtype":"U8","shape":[1],"shape":[4],"data_offsets":[0,4]}}'
case("S04-shape", "w.safetensors", 3, "key-twice", 8 + DOUBLE.rindex('"shape"'),
     build=raw(DOUBLE, b"\0" * 4), twin=one("U8", [4], [0, 4], b"\0" * 4))
case("S04-name", "w.safetensors", 3, "name-twice", None,
     build=raw("{" + entry("w", "U8", "[0]", "[0,0]") + "," + entry("w", "U8", "[0]", "[0,0]") + "}"),
     twin=raw("{" + entry("w", "U8", "[0]", "[0,0]") + "," + entry("v", "U8", "[0]", "[0,0]") + "}"))
case("S04-metadata", "w.safetensors", 3, "key-twice", None,
     build=raw('{"__metadata__":{"a":"1"},"__metadata__":{"a":"2"}}'),
     twin=raw('{"__metadata__":{"a":"1"}}'))
case("S04-metadata-key", "w.safetensors", 3, "key-twice", None,
     build=raw('{"__metadata__":{"a":"1","a":"2"}}'), twin=raw('{"__metadata__":{"a":"1","b":"2"}}'))
case("S04-unknown", "w.safetensors", 0, expect_warn="unknown-member",
     build=raw('{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":{"y":[1,{}]}}}', b"\7"),
     expect_tensors={"w": b"\7"})

# ---- S05: sizes ----
BIG = "[4294967296,4294967296]"
case("S05-wrap", "w.safetensors", 3, "shape-overflow", None, build=one("U8", BIG, [0, 0], b""),
     twin=one("U8", [0, 4294967296], [0, 0], b""))
case("S05-wrap-zero", "w.safetensors", 3, "shape-overflow", None,
     build=one("F64", "[0,4294967296,4294967296]", [0, 0], b""),
     twin=one("F64", "[0,4294967296]", [0, 0], b""))
case("S05-shape", "w.safetensors", 3, "size-mismatch", None, build=one("U8", [5], [0, 4], b"\0" * 4),
     twin=one("U8", [4], [0, 4], b"\0" * 4))
case("S05-dtype", "w.safetensors", 3, "size-mismatch", None, build=one("F32", [1], [0, 3], b"\0" * 3),
     twin=one("F32", [1], [0, 4], b"\0" * 4))
case("S05-range", "w.safetensors", 3, "out-of-bounds", None, build=one("U8", [5], [0, 5], b"\0" * 4),
     twin=one("U8", [4], [0, 4], b"\0" * 4))

# ---- S06: values of the wrong kind ----
for tag, v in (("minus", "[-1]"), ("float", "[1.0]"), ("exponent", "[1e3]"), ("string", '["4"]'),
               ("true", "[true]"), ("2p64", "[18446744073709551616]")):
    case(f"S06-shape-{tag}", "w.safetensors", 3, "bad-shape", None, build=one("U8", v, [0, 1], b"\0"),
         twin=one("U8", [1], [0, 1], b"\0"))
for v in ("F33", "f32", "", "F32\\u0000"):
    case(f"S06-dtype-{v[:3]}{len(v)}", "w.safetensors", 3, "unknown-dtype", None,
         build=one(v, [1], [0, 4], b"\0" * 4), twin=one("F32", [1], [0, 4], b"\0" * 4))
for tag, v in (("one", "[1]"), ("three", "[0,1,2]"), ("none", "[]"), ("back", "[1,0]"),
               ("minus", "[-1,1]"), ("text", '["0","1"]')):
    case(f"S06-offsets-{tag}", "w.safetensors", 3, "bad-offsets", None,
         build=one("U8", [1], v, b"\0"), twin=one("U8", [1], [0, 1], b"\0"))

# ---- S08, S09: ranges ----
case("S08-zip", "w.safetensors", 3, "trailing-bytes", len(GOOD), build=GOOD + b"PK\x05\x06" + b"\0" * 18,
     twin=GOOD)
case("S08-elf", "w.safetensors", 3, "trailing-bytes", len(GOOD), build=GOOD + b"\x7fELF" + b"\0" * 60,
     twin=GOOD)
A = entry("a", "U8", "[16]", "[0,16]")
case("S09", "w.safetensors", 3, "overlap", None,
     build=raw("{" + A + "," + entry("z", "U8", "[0]", "[4,4]") + "}", b"\0" * 16),
     twin=raw("{" + A + "," + entry("z", "U8", "[0]", "[16,16]") + "}", b"\0" * 16))
case("S09-overlap", "w.safetensors", 3, "overlap", None,
     build=raw("{" + A + "," + entry("z", "U8", "[8]", "[12,20]") + "}", b"\0" * 20),
     twin=raw("{" + A + "," + entry("z", "U8", "[8]", "[16,24]") + "}", b"\0" * 24))
case("S09-hole", "w.safetensors", 3, "hole", None,
     build=raw("{" + A + "," + entry("z", "U8", "[8]", "[17,25]") + "}", b"\0" * 25),
     twin=raw("{" + A + "," + entry("z", "U8", "[8]", "[16,24]") + "}", b"\0" * 24))


# ---- S10: very many entries ----
def many(n):
    body = ",".join(f'"t{i:07}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(n))
    return raw("{" + body + "}")


case("S10", "w.safetensors", 3, "too-many-tensors", None, build=lambda d: many(1_500_000),
     twin=lambda d: many(1_000), metadata_bytes=90_000_000)
DEEP = '{"w":' + '{"x":' * 100_000
case("S10-deep", "w.safetensors", 3, "json-depth", None, build=raw(DEEP), twin=GOOD)

# ---- S12: names ----
for tag, name, code in (("nul", "a\\u0000b", "bad-name"), ("surrogate", "a\\ud800", "json-surrogate"),
                        ("low", "a\\udc00", "json-surrogate"), ("64k", "a" * 65536, "name-too-long")):
    case(f"S12-{tag}", "w.safetensors", 3, code, None,
         build=raw("{" + entry(name, "U8", "[1]", "[0,1]") + "}", b"\1"),
         twin=raw("{" + entry("a" * 1000, "U8", "[1]", "[0,1]") + "}", b"\1"))
case("S12-path", "w.safetensors", 0, build=raw("{" + entry("../../x", "U8", "[1]", "[0,1]") + "}", b"\1"),
     expect_tensors={"../../x": b"\1"})
case("S13-F4", "w.safetensors", 3, "part-byte", None, build=one("F4", [3], [0, 2], b"\0\0"),
     twin=one("F4", [4], [0, 2], b"\0\0"))
case("S13-F6", "w.safetensors", 3, "part-byte", None, build=one("F6_E2M3", [2], [0, 2], b"\0\0"),
     twin=one("F6_E2M3", [4], [0, 3], b"\0\0\0"))


# ---- S14: the index ----
def folder(weight_map, files, metadata=True):
    def build(d):
        top = d / "m"
        top.mkdir()
        for name, tensors in files.items():
            if tensors == "fifo":
                os.mkfifo(top / name)
            else:
                (top / name).write_bytes(safetensors_bytes(tensors))
        index = {"metadata": {"total_size": 8}} if metadata else {}
        index["weight_map"] = weight_map
        (top / "model.safetensors.index.json").write_text(json.dumps(index))
    return build


def outside(weight_map):
    inner = folder(weight_map, {"a.safetensors": W})

    def build(d):
        inner(d)
        (d.parent / "outside" / "o.safetensors").write_bytes(safetensors_bytes([("v", "U8", [1], b"\0")]))
    return build


V = [("v", "F32", [2], b"\0" * 8)]
PAIR = folder({"w": "a.safetensors", "v": "b.safetensors"}, {"a.safetensors": W, "b.safetensors": V})
for tag, name in (("up", "../o.safetensors"), ("up2", "../outside/o.safetensors"), ("empty", ""),
                  ("slash", "x/a.safetensors"), ("root", "/etc/passwd"), ("dots", ".."),
                  ("nul", "a.safetensors\0")):
    case(f"S14-{tag}", "m", 3, "path-escape", None, build=outside({"w": "a.safetensors", "v": name}),
         twin=PAIR)
case("S14-missing", "m", 3, None, False, build=folder({"w": "a.safetensors", "v": "b.safetensors"},
                                                      {"a.safetensors": W}), twin=PAIR)
case("S14-fifo", "m", 3, "not-a-file", False,
     build=folder({"w": "a.safetensors", "v": "b.safetensors"},
                  {"a.safetensors": W, "b.safetensors": "fifo"}), twin=PAIR)
case("S14-absent", "m", 3, "index-mismatch", None,
     build=folder({"w": "a.safetensors", "v": "a.safetensors"}, {"a.safetensors": W}), twin=PAIR)
case("S14-wrong", "m", 3, "index-mismatch", None,
     build=folder({"w": "b.safetensors", "v": "a.safetensors"},
                  {"a.safetensors": W, "b.safetensors": V}), twin=PAIR)
case("S14-two", "m", 3, "name-twice", None,
     build=folder({"w": "a.safetensors", "v": "b.safetensors"},
                  {"a.safetensors": W, "b.safetensors": V + W}), twin=PAIR)
case("S14-no-map", "m", 3, "index-empty", None, build=folder({}, {"a.safetensors": W}), twin=PAIR)


def key_twice(d):
    PAIR(d)
    (d / "m" / "model.safetensors.index.json").write_text(
        '{"weight_map":{"w":"a.safetensors","w":"b.safetensors","v":"b.safetensors"}}')


case("S14-key-twice", "m", 3, "key-twice", None, build=key_twice, twin=PAIR)


def several(d):
    PAIR(d)
    (d / "m" / "extra.safetensors").write_bytes(GOOD)


case("S14-sets", "m", 2, "several-weight-sets", False, build=several, twin=PAIR)

# ---- a header that lies about ties ----
LIE = raw('{"__metadata__":{"nnferry.aliases":"{\\"b\\":\\"a\\"}"},' + entry("a", "U8", "[1]", "[0,1]")
          + "," + entry("b", "U8", "[1]", "[1,2]") + "}", b"\1\2")
case("S15-alias-lie", "w.safetensors", 0, expect_warn="alias-differs", build=LIE,
     expect_tensors={"a": b"\1", "b": b"\2"})
