"""Equinox: arrays end to end behind a line of text."""

import json
import struct

from lib import case


def npy(descr="'<f4'", shape="(2,)", data=b""):
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(10 + len(head) + 1) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + data


DATA = struct.pack("<2f", 1, 2)
ONE = npy(shape="(2,)", data=DATA)
GOOD = b'{"a": 1}\n' + ONE * 2
TENSORS = {"0": DATA, "1": DATA}


def e(id, code, blob, offset=None, twin=GOOD, **kw):
    case(id, "m.eqx", 3, code, offset, build=blob, twin=twin, **kw)


case("eqx-good", "m.eqx", 0, build=GOOD, expect_tensors=TENSORS)
case("eqx-plain", "m.eqx", 0, build=ONE * 2, expect_tensors=TENSORS)
case("eqx-unnamed", "m.bin", 0, build=GOOD, expect_tensors=TENSORS)
case("eqx-nan", "m.eqx", 0, build=b'{"a": NaN}\n' + ONE * 2, expect_tensors=TENSORS)

# ---- N13: the line, and what stands between the leaves ----
e("N13-missing", None, b"\n" + ONE * 2)
e("N13-unterminated", None, b'{"a": 1}' + ONE * 2)
e("N13-nothing", "eqx-line", b'{"a": 1}\n')
e("N13-bare", "eqx-line", b'{"a": 1}')
e("N13-100MB", "eqx-line", lambda d: b'{"a": "' + b"x" * (100 << 20), 0)
e("N13-100MB-line", "eqx-line", lambda d: b'{"a": "' + b"x" * (100 << 20) + b'"}\n' + ONE, 0)
e("N13-utf8", "eqx-line", b'{"a": "\xff"}\n' + ONE)
e("N13-nul", "eqx-line", b'{"a": "\0"}\n' + ONE)
e("N13-cut", "truncated", (ONE * 2)[:-1], len(ONE), twin=ONE * 2)
e("N13-cut-header", None, (ONE * 2)[:len(ONE) + 20], twin=ONE * 2)
e("N13-stray", "npy-magic", ONE + b"stray" + ONE, len(ONE), twin=ONE * 2)
e("N13-stray-end", "npy-magic", ONE * 2 + b"stray!", 2 * len(ONE), twin=ONE * 2)
e("N13-object", "npy-object", ONE + npy(descr="'|O'", shape="()", data=b"\x80\4N."), twin=ONE * 2)
e("N13-huge", "truncated", ONE + npy(shape="(1099511627776,)", data=DATA), len(ONE), twin=ONE * 2)
e("N13-wrap", "npy-shape", ONE + npy(shape="(4294967296, 4294967296)", data=b""), twin=ONE * 2)

# ---- N14: many leaves, and lists that disagree ----
TINY = npy(descr="'|u1'", shape="()", data=b"\7")
MANY = 20_000
case("N14-many", "m.eqx", 0, build=lambda d: TINY * MANY, metadata_bytes=len(TINY) * MANY,
     args=(("inspect", "{file}"),))


def listed(names, n=2, more=""):
    return json.dumps({"nnferry.leaves": names}).encode()[:-1] + more.encode() + b"}\n" + ONE * n


LIST = listed(["x", "y.z"])
case("eqx-list", "m.eqx", 0, build=LIST, expect_tensors={"x": DATA, "y.z": DATA})
e("N14-fewer", "eqx-leaves", listed(["x", "y", "z"]), twin=LIST)
e("N14-more", "eqx-leaves", listed(["x"]), twin=LIST)
e("N14-none", "eqx-leaves", listed([]), twin=LIST)
e("N14-twice", "name-twice", listed(["x", "x"]), twin=LIST)
e("N14-kind", "eqx-leaves", listed(["x", 1]), twin=LIST)
e("N14-object", "json-syntax", listed({"x": 1}), twin=LIST)
e("N14-nul", "eqx-leaves", listed(["x", "a\0b"]), twin=LIST)
e("N14-lists", "eqx-leaves", listed(["x", "y"], more=', "nnferry.leaves": ["x", "y"]'), twin=LIST)
e("N14-surrogate", None, b'{"nnferry.leaves": ["\\ud800", "y"]}\n' + ONE * 2, twin=LIST)
