"""Hostile Flax msgpack files."""

import struct

from lib import case

TO = (("inspect", "{file}"), ("convert", "{file}", "-o", "{out}/OUT.msgpack"))


def text(s):
    b = s.encode()
    if len(b) < 32:
        return bytes([0xa0 | len(b)]) + b
    return b"\xda" + struct.pack(">H", len(b)) + b


def blob(b):
    return b"\xc6" + struct.pack(">I", len(b)) + b


def uint(v):
    return bytes([v]) if v < 128 else b"\xcf" + struct.pack(">Q", v)


def ext(kind, body):
    return b"\xc9" + struct.pack(">Ib", len(body), kind) + body


def array(shape, dtype, data, n=3, tail=b""):
    return (bytes([0x90 | n]) + bytes([0x90 | len(shape)]) + b"".join(map(uint, shape)) + text(dtype)
            + (blob(data) if n > 2 else b"") + (b"\xc0" if n > 3 else b"") + tail)


def nd(*a, kind=1, **kw):
    return ext(kind, array(*a, **kw))


def pairs(*kv):
    return bytes([0x80 | len(kv)]) + b"".join(text(k) + v for k, v in kv)


GOOD = pairs(("w", nd([2], "int16", b"\1\2\3\4")))
F = "w.msgpack"


def bad(id, code, body, offset=None, file=F):
    case(id, file, 3, code, offset, args=TO, build=body, twin=GOOD)


# ---- M01: lengths ----
KEY = b"\x81\xa1w"
bad("M01-array", "msgpack-count", KEY + b"\xdd\xff\xff\xff\xff", 3)
bad("M01-map", "msgpack-count", KEY + b"\xdf\xff\xff\xff\xff", 3)
bad("M01-top", "msgpack-count", b"\xdf\xff\xff\xff\xff\xa1w", 0)
bad("M01-bin", "truncated", KEY + b"\xc6\xff\xff\xff\xff", 3)
bad("M01-str", "truncated", KEY + b"\xdb\xff\xff\xff\xff", 3)
bad("M01-ext", "truncated", KEY + b"\xc9\xff\xff\xff\xff\x01", 3)
bad("M01-reserved", "msgpack-type", KEY + b"\xc1", 3)

# ---- M02: depth ----
bad("M02", "msgpack-depth", KEY + b"\x91" * 100_000 + b"\xc0")
bad("M02-maps", "msgpack-depth", b"\x81\xa1a" * 100_000 + b"\xc0")
bad("M02b", "msgpack-count", KEY + b"\xdc\x0b\xb8" * 1000 + b"\xc0" * 3000)
bad("M02-many", "too-many-nodes", KEY + b"\xdd" + struct.pack(">I", 40_000_000) + b"\xc0" * 40_000_000)

# ---- M04, M05: arrays ----
bad("M04-short", "size-mismatch", pairs(("w", nd([2], "int16", b"\1\2\3"))))
bad("M04-long", "size-mismatch", pairs(("w", nd([2], "int16", b"\1\2\3\4\5"))))
for d in ("object", "V8", "<f3", "str64", ""):
    bad(f"M04-dtype-{d.strip('<') or 'none'}", "unknown-dtype", pairs(("w", nd([1], d, b"\0" * 8))))
bad("M04-wrap", "shape-overflow", pairs(("w", nd([2**32, 2**32], "int8", b""))))
bad("M04-zero-wrap", "shape-overflow", pairs(("w", nd([0, 2**62, 4], "float64", b""))))
bad("M05-two", "bad-array", pairs(("w", nd([1], "int8", b"", n=2))))
bad("M05-four", "bad-array", pairs(("w", nd([1], "int8", b"\0", n=4))))
bad("M05-tail", "msgpack-trailing", pairs(("w", nd([1], "int8", b"\0", tail=b"\0"))))
bad("M05-scalar", "bad-scalar", pairs(("w", nd([1], "int8", b"\0", kind=3))))
bad("M05-complex", "bad-scalar", pairs(("w", ext(2, b"\x92\x01\x02"))))
bad("M05-42", "unknown-ext", pairs(("w", ext(42, b"\0"))))


# ---- M06: chunks ----
def chunked(shape, chunks, marker=b"\xc3"):
    return pairs(("w", pairs(("__msgpack_chunked_array__", marker),
                             ("shape", pairs(*((str(i), uint(d)) for i, d in enumerate(shape)))),
                             ("chunks", pairs(*chunks)))))


C = nd([2], "int16", b"\1\2\3\4")
for tag, body in (("one", chunked([10**6, 10**6], [("0", C)])),
                  ("order", chunked([4], [("1", C), ("0", C)])),
                  ("missing", chunked([4], [("0", C), ("2", C)])),
                  ("none", chunked([0], [])),
                  ("false", chunked([2], [("0", C)], b"\xc2")),
                  ("2-d", chunked([2], [("0", nd([1, 2], "int16", b"\1\2\3\4"))])),
                  ("dtypes", chunked([4], [("0", C), ("1", nd([2], "uint16", b"\1\2\3\4"))])),
                  ("text", chunked([2], [("0", text("x"))]))):
    case(f"M06-{tag}", F, 3, "chunked-array", None, args=TO, build=body,
         twin=chunked([4], [("0", C), ("1", C)]))
case("M06-twice", F, 3, "key-twice", None, args=TO, build=chunked([4], [("0", C), ("0", C)]),
     twin=chunked([4], [("0", C), ("1", C)]))
case("M06-wrap", F, 3, "shape-overflow", None, args=TO,
     build=chunked([2**32, 2**32], [("0", C)]), twin=chunked([2, 1], [("0", C)]))

# ---- M08, M09: things other readers act on ----
bad("M08", "msgpack-numpy", pairs(("w", pairs(("nd", b"\xc3"), ("type", text("O")), ("kind", text("O")),
                                              ("data", blob(b"cos\nsystem\n."))))))
bad("M08-bytes", "msgpack-key", pairs(("w", b"\x82\xc4\x02nd\xc3\xc4\x04data" + blob(b"\x80."))))
for tag, path in (("root", "/etc/passwd"), ("up", "../../x"), ("name", "w")):
    bad(f"M09-{tag}", "gda-placeholder", pairs(("w", text("//GDAPlaceholder:" + path))))

# ---- M10 and keys ----
bad("M10", "msgpack-trailing", GOOD + b"\xc0", len(GOOD))
bad("M10-array", "msgpack-trailing", GOOD + GOOD, len(GOOD))
bad("M11-key-int", "msgpack-key", b"\x81\x01\x01", 1)
bad("M11-key-twice", "key-twice", pairs(("w", b"\1"), ("w", b"\2")))
bad("M11-key-nul", "bad-name", pairs(("a\0b", C)))
bad("M11-key-utf8", "msgpack-utf8", b"\x81\xa1\xff\x01", 1)
bad("M11-top", "flax-top", b"\x93\1\2\3", 0)
bad("M11-key-64k", "bad-name", b"\x81\xdb" + struct.pack(">I", 65536) + b"a" * 65536 + C)
