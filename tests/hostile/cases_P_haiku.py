"""Pickles of Haiku and joblib: the same lies as in PyTorch's, in a file that is stepped through where
it lies, and those about arrays: sizes, spelled bytes, raw data between opcodes, wrappings."""

import gzip
import struct
import zlib

from lib import case
from zips import integer, name, text, tup

DATA = struct.pack("<2f", 1, 2)
RECONSTRUCT = ("numpy.core.multiarray", "_reconstruct")


def dtype(kind=b"f4", order="<", state=None):
    return (name("numpy", "dtype") + tup(text(kind), b"\x89", b"\x88") + b"R" +
            (state or tup(integer(3), text(order), b"N", b"N", b"N", integer(-1), integer(-1),
                          integer(0))) + b"b")


def raw(data):
    if len(data) < 256:
        return b"C" + bytes([len(data)]) + data
    return b"B" + struct.pack("<I", len(data)) + data


def array(shape=(2,), data=None, d=None, cls=("numpy", "ndarray"), body=None, fn=RECONSTRUCT):
    state = tup(integer(1), tup(*map(integer, shape)), d or dtype(), b"\x89",
                raw(DATA if data is None else data) if body is None else body)
    return name(*fn) + tup(name(*cls), tup(integer(0)), b"C\x01b") + b"R" + state + b"b"


def params(value, proto=3, tail=b""):
    return (bytes([0x80, proto]) + b"}" + text("m") + b"}" + text("w") + value + b"ss" + tail + b".")


GOOD = params(array())
W = len(params(b"")) - 3  # where the value stands


def p(id, blob, code, offset=None, exit=3, **kw):
    kw.setdefault("twin", GOOD)
    case("hk-" + id, "m.pkl", exit, code, offset, build=blob, metadata_bytes=len(blob), **kw)


def value(id, v, code, **kw):
    p(id, params(v), code, **kw)


def opaque(id, v):
    """Kept as data beside a good array: 4 unless the drop is allowed."""
    case("hk-" + id, "m.pkl", {"inspect": 0, "convert": 4}, None, False,
         build=b"\x80\x03}(" + text("w") + array() + text("x") + v + b"u.", twin=GOOD)


case("hk-good", "m.pkl", 0, build=GOOD, expect_tensors={"m.w": DATA})

# ---- P01 to P06: names ----
p("P01", b"\x80\x03cposix\nsystem\n" + text("true") + b"\x85R.", "pickle-runs-code", 2)
p("P01-text", b"cposix\nsystem\n(Vtrue\ntR.", "pickle-runs-code", 0)
p("P02", b"\x8c\x05posix\x8c\x06system\x93" + text("true") + b"\x85R.", "pickle-runs-code", 15)
for i, (module, what) in enumerate((
        ("os", "system"), ("subprocess", "Popen"), ("builtins", "eval"), ("importlib", "import_module"),
        ("ctypes", "CDLL"), ("joblib", "load"), ("joblib.memory", "Memory"), ("numpy", "load"),
        ("numpy", "memmap"), ("numpy.testing", "runstring"), ("jax._src.os", "system"),
        ("dill", "loads"), ("cloudpickle", "loads"), ("pickle", "loads"), ("operator", "attrgetter"))):
    p(f"P01-{i:02}", params(name(module, what) + b")R"), "pickle-runs-code", W)
p("P04-inst", b"\x80\x03(ios\nsystem\n.", "pickle-runs-code", 3)
p("P04-newobj", b"\x80\x03" + name("os", "system") + b")\x81.", "pickle-runs-code", 2)
opaque("P04-inst-other", b"(imine\nNet\n")
opaque("P04-newobj-other", name("mine", "Net") + b")\x81")
opaque("P04-reduce-other", name("mine", "make") + b")R")
opaque("P04-treedef", name("jaxlib.xla_extension.pytree", "PyTreeDef") + b")\x81")
opaque("P04-optax-fields", name("optax._src.transform", "ScaleByAdamState") + tup(b"N") + b"\x81")
for n, op in enumerate((b"\x82\x05", b"\x83\x05\0", b"\x84\x05\0\0\0")):
    p(f"P05-{n}", b"\x80\x03" + op + b".", "pickle-ext", 2)
for key in ("__setstate__", "__class__", "__dict__"):
    value(f"P06-{key.strip('_')}", name("collections", "OrderedDict") + b")R}" + text(key) + b"Nsb",
          "pickle-build-key")

# ---- P08 to P17: the machine, in a file ----
p("P08-bytes", GOOD + b"\0", "pickle-tail", len(GOOD))
p("P08-second", GOOD * 2, "pickle-tail", len(GOOD))
for n, line in enumerate((b"I0x10\n", b"I1_0\n", b"L5\n", b"F1e999\n", b"I" + b"7" * 100000 + b"\n")):
    value(f"P09-{n}", line, "pickle-length" if len(line) > 1000 else "pickle-number", offset=W)
for n, op in enumerate((b"\x8d", b"\x8e", b"\x96")):
    p(f"P10-{n}", b"\x80\x05" + op + struct.pack("<Q", 1 << 40) + b"abc.", "pickle-length", 2)
    p(f"P10-wrap-{n}", b"\x80\x05" + op + struct.pack("<Q", (1 << 64) - 1) + b"abc.",
      "pickle-length", 2)
p("P10-array", params(array(shape=(1 << 38,), body=b"\x8e" + struct.pack("<Q", 1 << 40) + DATA)),
  "pickle-length")
p("P10-line", b"(dp0\nV" + b"a" * 100000, "pickle-truncated", 5)
p("P12-frame", b"\x80\x04\x95" + struct.pack("<Q", 1 << 63) + b"N.", "pickle-frame", 2)
p("P12-cut", b"\x80\x04\x95" + struct.pack("<Q", 2) + b"M\1\2.", "pickle-frame", 11)
p("P12-proto", b"\x80\x06N.", None, None)
p("P13-put", b"\x80\x03Nr\xff\xff\xff\xff.", "pickle-memo", 3)
p("P13-get", b"\x80\x03h\x05.", "pickle-memo", 2)
p("P13-pop", b"\x80\x030.", "pickle-underflow", 2)
DEEP = 100_000
p("P14-lists", b"\x80\x03" + b"]" * DEEP + b"a" * (DEEP - 1) + b".", "pickle-depth")
p("P14-marks", b"\x80\x03" + b"(" * DEEP + b".", "pickle-depth")
p("P14-mappings", b"\x80\x03" + (name("haiku._src.data_structures", "FlatMapping")) * 2000 + b"}" +
  b"\x85R" * 2000 + b".", "pickle-depth")
p("P16-dict", b"\x80\x03}q\0" + text("w") + b"h\0s.", "pickle-cycle")
p("P16-unfold", b"\x80\x03(Nl" + b"".join(
    b"q" + bytes([i]) + b"0(h" + bytes([i]) + b"h" + bytes([i]) + b"l" for i in range(60)) + b".",
  "nodes")
p("P17-twice", b"\x80\x03}(" + text("w") + array() + text("w") + array() + b"u.", "pickle-key-twice")
p("P17-one", b"\x80\x03}(K\1" + array() + text("1") + array() + b"u.", "name-twice")
p("name-nul", b"\x80\x03}" + text("a\0b") + array() + b"s.", "bad-name")
p("name-long", b"\x80\x03}" + text("a" * 70000) + array() + b"s.", "bad-name")

# ---- P26: arrays ----
value("P26-bytes", array(shape=(3,)), "numpy-array")
value("P26-fewer", array(shape=(1,)), "numpy-array")
value("P26-wrap", array(shape=(1 << 32, 1 << 31, 2), data=b""), "numpy-array")
value("P26-zero", array(shape=(0, 1 << 62, 1 << 62), data=b""), None)
value("P26-negative", array(shape=(-2,)), "numpy-array")
value("P26-axes", array(shape=(1,) * 70, data=DATA[:4]), "numpy-array")
value("P26-object", array(d=dtype(b"O8"), body=b"](NNe"), "numpy-object")
value("P26-object-bytes", array(d=dtype(b"O8"), data=bytes(16)), "numpy-object")
value("P26-class", array(cls=("mine", "array")), "numpy-array")
value("P26-matrix", array(cls=("numpy", "matrix")), "numpy-array")
value("P26-state", name(*RECONSTRUCT) + tup(name("numpy", "ndarray"), tup(integer(0)), b"C\x01b") +
      b"R", "numpy-array")
value("P26-order", array(d=dtype(order="!")), "numpy-dtype")
value("P26-dtype", array(d=integer(4)), "numpy-dtype")
value("P26-size", array(d=name("numpy", "dtype") + tup(name("ml_dtypes", "bfloat16"), b"\x89", b"\x88") +
                        b"R" + tup(integer(3), text("<"), b"N", b"N", b"N", integer(4), integer(2),
                                   integer(0)) + b"b"), "numpy-dtype")
opaque("P26-text", array(d=dtype(b"U1")))
opaque("P26-date", array(shape=(1,), d=dtype(b"M8")))
value("P26-scalar", name("numpy.core.multiarray", "scalar") + tup(dtype(), raw(DATA)) + b"R",
      "numpy-array")
value("P26-frombuffer", name("numpy.core.numeric", "_frombuffer") +
      tup(raw(DATA), dtype(), tup(integer(3)), text("C")) + b"R", "numpy-array")
value("P26-frombuffer-order", name("numpy.core.numeric", "_frombuffer") +
      tup(raw(DATA), dtype(), tup(integer(2)), text("K")) + b"R", "numpy-array")
p("P26-buffer", params(b"\x97", proto=5), "pickle-buffer", W)
JAX = name("jax._src.array", "_reconstruct_array")
value("jax-fun", JAX + tup(name("numpy.core.multiarray", "scalar"), tup(), tup(), b"}") + b"R",
      "jax-array")
value("jax-state", JAX + tup(name(*RECONSTRUCT), tup(name("numpy", "ndarray"), tup(integer(0)),
                                                     b"C\x01b"), tup(integer(1)), b"}") + b"R",
      "numpy-array")
value("mapping", name("haiku._src.data_structures", "FlatMapping") + tup(integer(1)) + b"R",
      "haiku-mapping")


# ---- bytes spelled as text ----
def spelled(s):
    return name("_codecs", "encode") + tup(s, text("latin1")) + b"R"


def utf8(data):
    return text(data.decode("latin1"))


LONG = bytes(range(256)) * 16
A = array(shape=(1024,), body=spelled(utf8(LONG)))
GOOD_LONG = params(A, proto=2)
READ = (("convert", "{file}", "-o", "{out}/OUT.safetensors"),)
case("hk-long", "m.pkl", 0, build=GOOD_LONG, expect_tensors={"m.w": LONG})
for tag, body in (("short", utf8(LONG[:-1] + b"A")[:-1] + b""), ("more", utf8(LONG + b"A")),
                  ("far", text("\u0100" + LONG[1:].decode("latin1")))):
    blob = params(array(shape=(1024,), body=spelled(
        body if tag != "short" else utf8(LONG[:-1]))), proto=2)
    case(f"hk-latin1-{tag}", "m.pkl", 3, {"short": "pickle-bytes", "more": "pickle-bytes",
                                          "far": "pickle-latin1"}[tag], None, build=blob,
         twin=GOOD_LONG, args=READ)
case("hk-latin1-broken", "m.pkl", 3, "pickle-latin1", None, twin=GOOD_LONG, args=READ,
     build=GOOD_LONG.replace("\u00e9".encode(), b"\xc3A", 1))
value("latin1-few", array(shape=(4096,), body=spelled(utf8(LONG[:2000]))), "numpy-array")
value("latin1-many", array(shape=(100,), body=spelled(utf8(LONG))), "numpy-array")
value("latin1-other", array(body=name("_codecs", "encode") + tup(utf8(DATA), text("utf8")) + b"R"),
      "pickle-latin1")


# ---- joblib ----
def wrapped(shape=(2,), kind=b"f4", data=DATA, pad=b"\x02\xff\xff", order="C", cls=("numpy", "ndarray"),
            align=integer(16)):
    state = (b"}(" + text("subclass") + name(*cls) + text("shape") + tup(*map(integer, shape)) +
             text("order") + text(order) + text("dtype") + dtype(kind) + text("allow_mmap") + b"\x88" +
             (text("numpy_array_alignment_bytes") + align if align else b"") + b"u")
    return name("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81" + state + b"b" + pad + data


GOOD_J = params(wrapped())
case("hk-joblib", "m.joblib", 0, build=GOOD_J, expect_tensors={"m.w": DATA})
case("hk-joblib-old", "m.joblib", 0, build=params(wrapped(pad=b"", align=None)),
     expect_tensors={"m.w": DATA})
for tag, v, code in (
        ("longer", wrapped(data=DATA + b"\0"), None), ("shorter", wrapped(data=DATA[:-1]), None),
        ("size", wrapped(shape=(1 << 40,)), "pickle-length"),
        ("wrap", wrapped(shape=(1 << 62, 1 << 62)), None),
        ("object", wrapped(kind=b"O8"), "numpy-object"),
        ("class", wrapped(cls=("numpy", "matrix")), "numpy-array"),
        ("order", wrapped(order="K"), "numpy-array")):
    case(f"hk-joblib-{tag}", "m.joblib", 3, code, None, build=params(v), twin=GOOD_J)
opaque("joblib-kind", wrapped(kind=b"x4"))
case("hk-joblib-end", "m.joblib", 3, "pickle-length", None, twin=GOOD_J,
     build=GOOD_J[:GOOD_J.rindex(b"\x02\xff\xff") + 2])
case("hk-joblib-files", "m.joblib", 3, "joblib-files", None, twin=GOOD_J,
     build=params(name("joblib.numpy_pickle", "NDArrayWrapper") + b")\x81}b"))

# ---- wrappings ----
Z, G = zlib.compress(GOOD_J), gzip.compress(GOOD_J, mtime=0)
for tag, good in (("zlib", Z), ("gzip", G)):
    case(f"hk-{tag}", "m.joblib", 0, build=good, expect_tensors={"m.w": DATA})
    case(f"hk-{tag}-cut", "m.joblib", 3, "deflate-short", None, build=good[:-1], twin=good)
    case(f"hk-{tag}-tail", "m.joblib", 3, "deflate-tail", None, build=good + b"\0", twin=good)
    case(f"hk-{tag}-sum", "m.joblib", 3, "deflate-bad", None, twin=good,
         build=good[:-5] + bytes([good[-5] ^ 1]) + good[-4:] if tag == "gzip"
         else good[:-1] + bytes([good[-1] ^ 1]))
    case(f"hk-{tag}-bad", "m.joblib", 3, None, None, twin=good,
         build=good[:20] + bytes([good[20] ^ 0x55]) + good[21:])
    case(f"hk-{tag}-code", "m.joblib", 3, "pickle-runs-code", None, twin=good,
         build=(zlib.compress if tag == "zlib" else gzip.compress)(
             b"\x80\x03cposix\nsystem\n" + text("true") + b"\x85R."))
for tag, magic in (("bz2", b"BZh91AY&SY"), ("xz", b"\xfd7zXZ\0\0\4"), ("lzma", b"\x5d\0\0\x80\0"),
                   ("lz4", b"\x04\x22\x4d\x18@@")):
    case(f"hk-{tag}", "m.joblib", 3, "joblib-compression", 0, build=magic + bytes(64), twin=GOOD_J)
case("hk-zfile", "m.joblib", 3, "joblib-zfile", 0, build=b"ZF0x1                x\x9c", twin=GOOD_J)
