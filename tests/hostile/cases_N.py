"""Hostile npy arrays and npz archives."""

import io
import struct
import warnings
import zipfile

from lib import case

TO_NPZ = (("inspect", "{file}"), ("convert", "{file}", "-o", "{out}/OUT.npz"))


def literal(descr="'<f4'", shape="(2,)", fortran="False", text=None, newline=True):
    t = text or f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    return (t + ("\n" if newline else "")).encode("latin-1")


def npy(head=None, data=b"\0" * 8, version=1, length=None, **kw):
    head = literal(**kw) if head is None else head
    n = len(head) if length is None else length
    size = struct.pack("<H", n) if version == 1 else struct.pack("<I", n)
    return b"\x93NUMPY" + bytes([version if version < 9 else 9, 9 if version == 9 else 0]) + size + head + data


def npz(members, deflate=False):
    out = io.BytesIO()
    warnings.simplefilter("ignore", UserWarning)  # names that stand twice are what we want
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as z:
        for name, data in members:
            z.writestr(zipfile.ZipInfo(name), data,
                       zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED)
    return out.getvalue()


GOOD = npy()
GOOD_Z = npz([("w.npy", GOOD)])
GOOD_D = npz([("w.npy", GOOD)], True)


def both(id, code, build, offset=None):
    """The same array alone, in a stored and in a deflated member."""
    case(id, "w.npy", 3, code, offset, build=build, twin=GOOD)
    case(id + "-npz", "w.npz", 3, code, None, build=npz([("w.npy", build)]), twin=GOOD_Z)
    case(id + "-deflated", "w.npz", 3, code, None, build=npz([("w.npy", build)], True), twin=GOOD_D)


# ---- N01, N04: sizes ----
both("N01-2p40", "truncated", npy(descr="'<f8'", shape="(1099511627776,)")[:128])
both("N01-65536", "truncated", npy(descr="'<f8'", shape="(65536, 65536)")[:100])
both("N04", "npy-shape", npy(shape="(0, 4611686018427387904)", data=b""))
both("N04-wrap", "npy-shape", npy(shape="(4294967296, 4294967296)", data=b""))

# ---- N02: the head ----
for v in (2, 3):
    both(f"N02-v{v}", "npy-header-length", npy(version=v, length=0x7fffffff)[:128], 8)
both("N02-v1-0", "npy-header-length", npy(head=b"", data=b""), 8)
both("N02-v9", "npy-version", npy(version=9), 6)
both("N02-magic", None, b"\x93NUMPX" + GOOD[6:])

# ---- N05: keys ----
T = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), "
both("N05-twice", "npy-key-twice", npy(text=T + "'shape': (1,)}"))
both("N05-missing", "npy-key", npy(text="{'descr': '<f4', 'shape': (2,)}"))
both("N05-extra", "npy-key", npy(text=T + "'x': 1}"))
both("N05-newline", "npy-header", npy(newline=False))
both("N05-tail", "npy-header", npy(text=T + "} x"))

# ---- N06: never evaluated ----
both("N06-call", "npy-shape", npy(shape="__import__('os').getpid()"))
both("N06-comprehension", "npy-shape", npy(shape="tuple(x for x in [2])"))
both("N06-join", "npy-header", npy(descr="'<f4' ''"))
both("N06-deep", "npy-header-length", npy(shape="(" * (1 << 20), version=2))
both("N06-deep-short", "npy-shape", npy(shape="(" * 60000))
both("N06-escape", "npy-header", npy(descr="'\\x3cf4'"))

# ---- N08: taken, with the right bytes ----
A = struct.pack("<6f", *range(6))
case("N08-big", "w.npy", 0, build=npy(descr="'>f4'", shape="(6,)", data=struct.pack(">6f", *range(6))),
     expect_tensors={"arr_0": A})
case("N08-fortran", "w.npy", 0,
     build=npy(shape="(2, 3)", fortran="True", data=struct.pack("<6f", 0, 3, 1, 4, 2, 5)),
     expect_tensors={"arr_0": A})
case("N08-0d", "w.npy", 0, build=npy(shape="()", data=A[4:8]), expect_tensors={"arr_0": A[4:8]})
case("N08-native", "w.npy", 0, build=npy(descr="'=f8'", shape="(1,)", data=struct.pack("<d", 3)),
     expect_tensors={"arr_0": struct.pack("<d", 3)})
case("N08-npz", "w.npz", 0,
     build=npz([("a/b.npy", npy(descr="'>f4'", shape="(6,)", data=struct.pack(">6f", *range(6))))], True),
     expect_tensors={"a/b": A})

# ---- N09: ends ----
both("N09-short", "truncated", GOOD[:-1])
both("N09-tail", "trailing-bytes", GOOD + b"\0" * (1 << 20), len(GOOD))

# ---- N10, N12: members ----
case("N10-twice", "w.npz", 3, "zip-name-twice", None,
     build=npz([("w.npy", GOOD), ("w.npy", npy(data=b"\1" * 8))]), twin=GOOD_Z)
case("N10-both", "w.npz", 3, "npz-member", None, build=npz([("w.npy", GOOD), ("w", b"abc")]),
     twin=GOOD_Z)
case("N12-pickle", "w.npz", 3, "npy-magic", None, build=npz([("w.npy", b"\x80\x04N.")]), twin=GOOD_Z)
case("N12-zip", "w.npz", 3, "npy-magic", None, build=npz([("w.npy", GOOD_Z)]), twin=GOOD_Z)
case("N12-object", "w.npz", 3, "npy-object", None,
     build=npz([("w.npy", npy(descr="'|O'", shape="()", data=b"\x80\x04N."))]), twin=GOOD_Z)
case("N12-folder", "w.npz", 3, "npz-member", None, build=npz([("w.npy", GOOD), ("d/", b"")]),
     twin=GOOD_Z)
case("N12-other", "w.npz", 3, "npz-member", None, build=npz([("w.npy", GOOD), ("x.pkl", b"N.")]),
     twin=GOOD_Z)


def flip(blob):
    """A bit of the array's last byte, the sums untouched."""
    at = blob.index(GOOD) + len(GOOD) - 1
    return blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1:]


case("N14-crc", "w.npz", 3, "zip-crc", None, build=flip(GOOD_Z), twin=GOOD_Z)
for tag, descr in (("text", "'<U2'"), ("bytes", "'|S8'"), ("date", "'<M8[ns]'"), ("f16", "'<f16'"),
                   ("void", "'|V8'")):
    both(f"N15-{tag}", "npy-dtype", npy(descr=descr, shape="(1,)"))
both("N15-structured", "npy-structured", npy(descr="[('a', '<f4')]"))
