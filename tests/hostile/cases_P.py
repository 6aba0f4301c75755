"""Pickles inside PyTorch files: code, lies about lengths, cycles, bad tensors. The stream and the tar
of before 1.6 are in cases_P_torch.py."""

import struct

import zips
from lib import case
from zips import DATA, ORDERED, integer, name, persid, state_dict, tensor, text, torch_zip, tup

GOOD = torch_zip()
TENSORS = {"w": DATA}
W = tensor()


def p(id, pickle, code, offset=None, exit=3, **kw):
    """offset counts from the start of the pickle."""
    blob = torch_zip(pickle)
    at = None if offset is None else zips.pickle_at(blob) + offset
    kw.setdefault("twin", GOOD)
    case(id, "m.pt", exit, code, at, build=blob, metadata_bytes=len(pickle), **kw)


def opaque(id, value):
    """A value that is kept as an opaque node beside a good tensor: 4 unless the drop is allowed."""
    blob = torch_zip(state_dict(("w", W), ("x", value)))
    case(id, "m.pt", {"inspect": 0, "convert": 4}, None, False, build=blob, twin=GOOD)


p("P01", b"\x80\x02cposix\nsystem\n" + text("true") + b"\x85R.", "pickle-runs-code", 2)
p("P02", b"\x8c\x05posix\x8c\x06system\x93" + text("true") + b"\x85R.", "pickle-runs-code", 15)
for i, (module, what) in enumerate((
        ("os", "system"), ("nt", "system"), ("subprocess", "Popen"), ("builtins", "eval"),
        ("__builtin__", "exec"), ("builtins", "getattr"), ("importlib", "import_module"),
        ("runpy", "run_path"), ("ctypes", "CDLL"), ("socket", "socket"), ("shutil", "rmtree"),
        ("pickle", "loads"), ("torch.hub", "load"), ("numpy.testing", "runstring"),
        ("torch.serialization.os", "system"), ("operator", "attrgetter"),
        ("torch.storage", "_load_from_bytes"), ("webbrowser", "open"), ("sys", "exit"))):
    p(f"P01-{i:02}", b"\x80\x02}" + text("w") + name(module, what) + b"s.", "pickle-runs-code", 9)
p("P02-dotted", b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93.", "pickle-runs-code", 20)

p("P04-inst", b"\x80\x02(ios\nsystem\n.", "pickle-runs-code", 3)
p("P04-obj", b"\x80\x02(" + name("os", "system") + b"o.", "pickle-runs-code", 3)
p("P04-newobj", b"\x80\x02" + name("os", "system") + b")\x81.", "pickle-runs-code", 2)
p("P04-newobj-ex", b"\x80\x04" + name("os", "system") + b")}\x92.", "pickle-runs-code", 2)
opaque("P04-inst-other", b"(imine\nNet\n")
opaque("P04-obj-other", b"(" + name("mine", "Net") + b"o")
opaque("P04-newobj-other", name("mine", "Net") + b")\x81")
opaque("P04-newobj-ex-other", name("mine", "Net") + b")}\x92")
opaque("P04-reduce-other", name("mine", "make") + b")R")

for n, op in enumerate((b"\x82\x05", b"\x83\x05\0", b"\x84\x05\0\0\0")):
    p(f"P05-{n}", b"\x80\x02" + op + b".", "pickle-ext", 2)
p("P05-added", b"\x80\x02" + name("copyreg", "add_extension") + b"0\x82\x05.", "pickle-runs-code", 2)

for key in ("__setstate__", "__class__", "__dict__"):
    p(f"P06-{key.strip('_')}", state_dict(("w", W), tail=b"}" + text(key) + b"Nsb"),
      "pickle-build-key")
opaque("P06-opaque", name("mine", "Net") + b")\x81}" + text("__setstate__") + b"Nsb")

p("P08-bytes", state_dict(("w", W)) + b"\0", "pickle-tail", len(state_dict(("w", W))))
p("P08-second", state_dict(("w", W)) * 2, "pickle-tail", len(state_dict(("w", W))))

for n, line in enumerate((b"I0x10\n", b"I1_0\n", b"L5\n", b"F1e999\n",
                          b"I" + b"7" * 100000 + b"\n", b"I 5\n", b"I+5\n", b"F0x1p0\n")):
    p(f"P09-{n}", b"\x80\x02}" + text("w") + line + b"s.",
      "pickle-length" if len(line) > 1000 else "pickle-number", 9)

for n, op in enumerate((b"\x8d", b"\x8e", b"\x96")):
    p(f"P10-{n}", b"\x80\x05" + op + struct.pack("<Q", 1 << 40) + b"abc.", "pickle-length", 2)
for n, op in enumerate((b"U\x50", b"C\x50", b"\x8c\x50", b"X\x50\0\0\0", b"B\x50\0\0\0",
                        b"T\x50\0\0\0", b"\x8a\x50", b"\x8b\x50\0\0\0")):
    p(f"P10-short-{n}", b"\x80\x02" + op + b"abc.", "pickle-length", 2)
p("P10-negative", b"\x80\x02T\xff\xff\xff\xffabc.", "pickle-length", 2)

p("P12-frame", b"\x80\x04\x95" + struct.pack("<Q", 1 << 63) + b"N.", "pickle-frame", 2)
p("P12-cut", b"\x80\x04\x95" + struct.pack("<Q", 2) + b"M\1\2.", "pickle-frame", 11)
p("P12-proto", b"\x80\x06N.", "pickle-proto", 0)
p("P12-twice", b"\x80\x02\x80\x02N.", "pickle-proto", 2)

p("P13-put", b"\x80\x02Nr\xff\xff\xff\xff.", "pickle-memo", 3)
p("P13-get", b"\x80\x02h\x05.", "pickle-memo", 2)
POPS = [b"0", b"1", b"2", b"R", b"b", b"a", b"e", b"s", b"u", b"t", b"l", b"d", b"o", b"Q", b"q\0",
        b"r\0\0\0\0", b"p0\n", b"ia\nb\n", b"\x81", b"\x85", b"\x86", b"\x87", b"\x90", b"\x91",
        b"\x92", b"\x93", b"\x94", b"NR", b"Ns", b"N\x86"]
for n, op in enumerate(POPS):
    code = "pickle-mark" if op in (b"1", b"e", b"u", b"t", b"l", b"d", b"o", b"ia\nb\n", b"\x90",
                                   b"\x91") else "pickle-underflow"
    p(f"P13-pop-{n:02}", b"\x80\x02" + op + b".", code, 2 + (len(op) > 1 and op[:1] == b"N"))

DEEP = 100_000
p("P14-lists", b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".", "pickle-depth")
p("P14-tuples", b"\x80\x02)" + b"\x85" * DEEP + b".", "pickle-depth")
p("P14-marks", b"\x80\x02" + b"(" * DEEP + b".", "pickle-depth")

p("P16-list", b"\x80\x02]q\0h\0a.", "pickle-cycle")
p("P16-dict", b"\x80\x02}q\0" + text("w") + b"h\0s.", "pickle-cycle")
p("P16-tuple", b"\x80\x02]q\0(h\0ta.", "pickle-cycle")
p("P16-unfold", b"\x80\x02(Nl" + b"".join(
    b"q" + bytes([i]) + b"0(h" + bytes([i]) + b"h" + bytes([i]) + b"l" for i in range(60)) + b".",
  "nodes")


def colliding(n):
    """Integers that are equal modulo the prime of CPython's hash: one bucket for them all."""
    prime = (1 << 61) - 1
    return b"\x80\x02}(" + b"".join(
        b"\x8a\x08" + struct.pack("<q", (i * prime) % (1 << 62)) + b"N" for i in range(1, 4)) + b"".join(
        integer(i << 20) + b"N" for i in range(1, n)) + b"u."


BIG = colliding(1_000_000)
case("P17-collide", "m.pt", {"inspect": 8}, None, False, build=lambda d: torch_zip(BIG), twin=GOOD,
     args=(("inspect", "{file}"),), metadata_bytes=len(BIG))
p("P17-twice", state_dict(("w", W), ("w", W)), "pickle-key-twice")

p("P18-numel", state_dict(("w", tensor(persid(numel=10**9), shape=(10**9,)))), "torch-storage-size")
p("P18-longer", state_dict(("w", tensor(persid(numel=1), shape=(1,)))), "torch-storage-size")
p("P18-wraps", state_dict(("w", tensor(persid(numel=1 << 62)))), "torch-storage-size")
p("P18-view", state_dict(("w", tensor(shape=(3,)))), "out-of-bounds")
p("P18-offset", state_dict(("w", tensor(offset=1))), "out-of-bounds")
p("P18-stride", state_dict(("w", tensor(stride=(-1,)))), "torch-stride")
p("P18-shape", state_dict(("w", tensor(shape=(1 << 40, 1 << 40), stride=(0, 0)))), None)

wide = torch_zip(state_dict(("w", tensor(shape=(10**6, 10**6), stride=(0, 0)))))
case("P20", "m.pt", {"convert": 3}, {"convert": "output-too-big"}, False, build=wide, twin=GOOD,
     args=(("convert", "{file}", "-o", "{out}/OUT.safetensors"),))
case("P20-tied", "m.pt", 0, build=torch_zip(state_dict(("v", W), ("w", W))),
     expect_tensors={"v": DATA, "w": DATA})
case("P20-overlap", "m.pt", 0,
     build=torch_zip(state_dict(("v", tensor(shape=(1,))), ("w", W))),
     expect_tensors={"v": DATA[:4], "w": DATA})
case("P20-expand", "m.pt", 0, build=torch_zip(state_dict(("w", tensor(shape=(3, 2), stride=(0, 1))))),
     expect_tensors={"w": DATA * 3})

full = (text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), integer(2))
for n, (parts, code) in enumerate((
        (full[:4], "torch-persid"), (full + (b"N",), "torch-persid"),
        ((text("module"),) + full[1:], "torch-persid"),
        (full[:2] + (text("../0"),) + full[3:], "torch-key"),
        (full[:2] + (text("0\0x"),) + full[3:], "torch-key"),
        (full[:2] + (text("7"),) + full[3:], "torch-record-missing"),
        ((full[0], name("torch", "FancyStorage")) + full[2:], "torch-storage"),
        (full[:3] + (text("toaster:0"),) + full[4:], "torch-device"),
        (full[:4] + (integer(-2),), "torch-storage-size"),
        (full[:4] + (text("2"),), "torch-storage-size"))):
    p(f"P21-{n}", state_dict(("w", tensor(persid(parts=parts)))), code)
p("P21-text", state_dict(("w", tensor(b"Pstorage\n"))), "torch-persid")

from_type = ("torch._tensor", "_rebuild_from_type_v2")
v2 = (persid(), integer(0), tup(integer(2)), tup(integer(1)), b"\x89", ORDERED)
p("P22-type", state_dict(("w", tensor(func=from_type, args=(
    name("torch._utils", "_rebuild_tensor_v2"), text("no class"), tup(*v2), b"}")))), "torch-args")
p("P22-three", state_dict(("w", tensor(args=v2[:3]))), "torch-args")
p("P22-quantised", state_dict(("w", tensor(
    persid(cls=("torch", "QInt8Storage"), numel=8), shape=(8,),
    func=("torch._utils", "_rebuild_qtensor"),
    args=(persid(cls=("torch", "QInt8Storage"), numel=8), integer(0), tup(integer(8)),
          tup(integer(1)), tup(name("torch", "per_tensor_affine")), b"\x89", ORDERED)))),
  "torch-quantised")
case("P22-from-type", "m.pt", 0, build=torch_zip(state_dict(("w", tensor(func=from_type, args=(
    name("torch._utils", "_rebuild_tensor_v2"), name("torch.nn.parameter", "Parameter"), tup(*v2),
    b"}"))))), expect_tensors=TENSORS)
p("P22-conj", state_dict(("w", tensor(args=v2 + (b"}" + text("conj") + b"\x88s",)))), "torch-conj")


def numpy_array(shape=(2,), data=DATA, dtype=b"f4", cls=("numpy", "ndarray")):
    d = (name("numpy", "dtype") + tup(text(dtype), b"\x89", b"\x88") + b"R" +
         tup(integer(3), text("<"), b"N", b"N", b"N", integer(-1), integer(-1), integer(0)) + b"b")
    return (name("numpy.core.multiarray", "_reconstruct") +
            tup(name(*cls), tup(integer(0)), b"C\x01b") + b"R" +
            tup(integer(1), tup(*map(integer, shape)), d, b"\x89",
                b"C" + bytes([len(data)]) + data) + b"b")


case("P26-good", "m.pt", 0, build=torch_zip(state_dict(("w", numpy_array()))),
     expect_tensors=TENSORS)
p("P26-bytes", state_dict(("w", numpy_array(shape=(3,)))), "numpy-array")
p("P26-class", state_dict(("w", numpy_array(cls=("mine", "array")))), "numpy-array")
opaque("P26-object", numpy_array(dtype=b"O8"))

case("P24-version", "m.pt", 3, "torch-version", None, twin=GOOD,
     build=zips.zip_bytes(zips.torch_members()[:3] + [zips.Member("a/version", b"99\n")]))
case("P24-big", "m.pt", 0, expect_tensors={"w": DATA}, build=zips.zip_bytes(
    [zips.torch_members()[0], zips.Member("a/byteorder", b"big"),
     zips.Member("a/data/0", DATA[3::-1] + DATA[7:3:-1]), zips.torch_members()[3]]))
case("P24-order", "m.pt", 3, "torch-byteorder", None, twin=GOOD, build=zips.zip_bytes(
    [zips.torch_members()[0], zips.Member("a/byteorder", b"middle"), *zips.torch_members()[2:]]))
