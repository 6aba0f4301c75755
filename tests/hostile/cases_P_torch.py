"""PyTorch of before 1.6: the stream of pickles and the tar, each lie about a count, a key or a
size, and code in whichever pickle. TorchScript archives."""

import io
import struct
import tarfile

import zips
from lib import case
from zips import DATA, Member, integer, name, persid, state_dict, tensor, text, tup

TENSORS = {"w": DATA}
EVIL = b"cposix\nsystem\n" + text("true") + b"\x85R"

# ---- the stream ----

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def system(little=b"\x88", version=integer(1001)):
    return (b"\x80\x02}(" + text("protocol_version") + version + text("little_endian") + little +
            text("type_sizes") + b"}u.")


def stored(key="0", numel=integer(2), view=b"N", cls=("torch", "FloatStorage"), device="cpu"):
    return tup(text("storage"), name(*cls), text(key), text(device), numel, view) + b"Q"


def stream(obj=None, magic=MAGIC, protocol=b"\x80\x02M\xe9\x03.", info=system(), keys=None,
           tail=None):
    obj = state_dict(("w", tensor(stored()))) if obj is None else obj
    keys = b"\x80\x02](" + text("0") + b"e." if keys is None else keys
    tail = struct.pack("<q", 2) + DATA if tail is None else tail
    return magic + protocol + info + obj + keys + tail


GOOD = stream()
HEAD = len(MAGIC + b"\x80\x02M\xe9\x03." + system())
OBJECT = state_dict(("w", tensor(stored())))
LIST = HEAD + len(OBJECT)
TAIL = len(GOOD) - 16


def s(id, blob, code, offset=None, exit=3, **kw):
    case(id, "m.pt", exit, code, offset, build=blob, twin=GOOD, **kw)


case("P24-good", "m.pt", 0, build=GOOD, expect_tensors=TENSORS)
# torch writes little-endian numbers on every machine and never looks at the flag
case("P24-other-order", "m.pt", 0, build=stream(info=system(b"\x89")), expect_tensors=TENSORS)
s("P24-magic", stream(magic=MAGIC[:12] + b"\x50\x18."), "torch-magic", 0)
s("P24-protocol", stream(protocol=b"\x80\x02M\xea\x03."), "torch-protocol", 15)
s("P24-system", stream(info=b"\x80\x02}."), "torch-system", 21)
s("P24-system-version", stream(info=system(version=integer(1002))), "torch-system", 21)
for n, blob in enumerate((stream(magic=b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9" + EVIL + b"."),
                          stream(protocol=b"\x80\x02" + EVIL + b"."),
                          stream(info=b"\x80\x02" + EVIL + b"."),
                          stream(obj=b"\x80\x02" + EVIL + b"."),
                          stream(keys=b"\x80\x02](" + EVIL + b"e."))):
    # the first is cut into its own ten bytes: what follows is no opcode
    s(f"P24-code-{n}", blob, None if n == 0 else "pickle-runs-code")
s("P24-object-tail", stream(obj=OBJECT + b"\0"), "pickle-opcode", LIST)
s("P24-persid", stream(obj=state_dict(("w", tensor(tup(text("storage"), text("x")) + b"Q"))),
                       keys=b"\x80\x02].", tail=b""), "torch-persid")
s("P24-view", stream(obj=state_dict(("w", tensor(stored(view=tup(text("1"), integer(1),
                                                                 integer(2))))))), "torch-persid")
s("P24-view-short", stream(obj=state_dict(("w", tensor(stored(view=tup(
    text("1"), integer(0), integer(1))))))), "out-of-bounds")
case("P24-view-good", "m.pt", 0, expect_tensors={"w": DATA[4:]}, build=stream(obj=state_dict(
    ("w", tensor(stored(view=tup(text("1"), integer(1), integer(1))), shape=(1,))))))
s("P24-device", stream(obj=state_dict(("w", tensor(stored(device="/dev/sda"))))), "torch-device")
s("P24-class", stream(obj=state_dict(("w", tensor(stored(cls=("torch", "MyStorage")))))),
  "torch-keys")
s("P24-two-types", stream(obj=state_dict(("w", tensor(stored())), (
    "v", tensor(stored(cls=("torch", "IntStorage")))))), "torch-storage")

s("P25-keys", stream(keys=b"\x80\x02}."), "torch-keys", LIST)
s("P25-unknown-key", stream(keys=b"\x80\x02](" + text("7") + b"e."), "torch-keys", TAIL)
s("P25-no-key", stream(keys=b"\x80\x02].", tail=b""), "torch-record-missing")
s("P25-key-twice", stream(keys=b"\x80\x02](" + text("0") * 2 + b"e.",
                          tail=(struct.pack("<q", 2) + DATA) * 2), "torch-keys")
s("P25-count-less", stream(tail=struct.pack("<q", 1) + DATA[:4]), "torch-storage-size")
s("P25-count-more", stream(tail=struct.pack("<q", 3) + DATA + b"\0\0\0\0"), "torch-storage-size")
s("P25-numel", stream(obj=state_dict(("w", tensor(stored(numel=integer(10**9)))))),
  "torch-storage-size")
s("P25-negative", stream(tail=struct.pack("<q", -1) + DATA), "torch-storage-size", TAIL)
s("P25-wraps", stream(tail=struct.pack("<q", 2**62 + 2) + DATA), "torch-storage-size", TAIL)
s("P25-truncated", GOOD[:-1], "truncated", TAIL + 8)
s("P25-tail", GOOD + b"\0", "torch-tail", len(GOOD))
s("P25-second", GOOD * 2, "torch-tail", len(GOOD))
s("P25-no-stop", GOOD[:LIST - 1], "truncated")
s("P25-long", stream(obj=b"\x80\x02\x8d" + struct.pack("<Q", 2**40) + b"abc."), "truncated")
s("P25-frame", stream(obj=b"\x80\x04\x95" + b"\xff" * 8 + b"N."), "pickle-frame")

# ---- the tar ----


def entry(key=1, location=b"cpu", cls=("torch", "FloatStorage"), count=2, data=DATA):
    return (b"\x80\x02" + integer(key) + text(location) + name(*cls) + b"\x87." +
            struct.pack("<q", count) + data)


def storages(n=1, body=None, parts=b"\x80\x02]."):
    return b"\x80\x02" + integer(n) + b"." + (entry() if body is None else body) + parts


def row(key=2, storage=integer(1), shape=(2,), stride=(1,), first=0, ndim=None):
    return (b"\x80\x02" + integer(key) + storage + name("torch", "FloatTensor") + b"\x87." +
            struct.pack("<i4x", len(shape) if ndim is None else ndim) +
            struct.pack(f"<{len(shape) + len(stride) + 1}q", *shape, *stride, first))


def tensors(n=1, body=None):
    return b"\x80\x02" + integer(n) + b"." + (row() if body is None else body)


def obj(key="2"):
    return state_dict(("w", text(key) + b"Q"))


def tar(members=None, kinds=None, fmt=tarfile.USTAR_FORMAT, pax=None, **parts):
    out = io.BytesIO()
    default = {"storages": storages(), "tensors": tensors(), "pickle": obj()}
    with tarfile.open(fileobj=out, mode="w", format=fmt) as t:
        for n in members or default:
            data = parts.get(n, default.get(n, b""))
            info = tarfile.TarInfo(n)
            info.size = len(data)
            info.type = (kinds or {}).get(n, tarfile.REGTYPE)
            info.linkname = "/etc/passwd" if info.type != tarfile.REGTYPE else ""
            info.pax_headers = pax or {}
            t.addfile(info, io.BytesIO(data) if info.type == tarfile.REGTYPE else None)
    return out.getvalue()


OLD = tar()


def t(id, code, offset=None, build=None, **parts):
    case(id, "m.tar", 3, code, offset, build=build or tar(**parts), twin=OLD)


case("P25-tar-good", "m.tar", 0, build=OLD, expect_tensors=TENSORS)
case("P25-tar-pax", "m.tar", 0, expect_tensors=TENSORS,
     build=tar(fmt=tarfile.PAX_FORMAT, pax={"mtime": "1.5"}))
t("P25-tar-pax-size", "tar-pax", fmt=tarfile.PAX_FORMAT, pax={"size": "4"})
t("P25-tar-pax-path", "tar-pax", fmt=tarfile.PAX_FORMAT, pax={"path": "other"})
t("P25-tar-link", "tar-type", kinds={"tensors": tarfile.SYMTYPE})
t("P25-tar-device", "tar-type", kinds={"pickle": tarfile.CHRTYPE})
t("P25-tar-member", "torch-tar-member", members=("storages", "pickle"))
t("P25-tar-twice", "tar-name-twice", members=("storages", "tensors", "pickle", "pickle"))
t("P25-tar-checksum", "tar-checksum", 148, build=OLD[:108] + b"7" + OLD[109:])
t("P25-tar-end", "tar-end", build=OLD[:-1] + b"x")
t("P25-tar-cut", "truncated", build=OLD[:1500])
t("P25-tar-count", "torch-tar-count", storages=storages(10**6))
t("P25-tar-count-float", "torch-tar-count", storages=b"\x80\x02G" + bytes(8) + b"." + entry())
t("P25-tar-class", "torch-storage", storages=storages(body=entry(cls=("mine", "FloatStorage"))))
t("P25-tar-size", "truncated", storages=storages(body=entry(count=10**9)))
t("P25-tar-negative", "torch-storage-size", storages=storages(body=entry(count=-2)))
t("P25-tar-key", "torch-key", storages=storages(2, entry() + entry()))
t("P25-tar-part", "torch-storage-size", storages=storages(
    parts=b"\x80\x02](" + tup(*map(integer, (9, 1, 1, 2))) + b"e."))
t("P25-tar-part-key", "torch-key", storages=storages(
    parts=b"\x80\x02](" + tup(*map(integer, (9, 1, 1))) + b"e."))
t("P25-tar-storages-tail", "torch-tail", storages=storages() + b"\0")
t("P25-tar-tensors-tail", "torch-tail", tensors=tensors() + b"\0")
t("P25-tar-storage", "torch-record-missing", tensors=tensors(body=row(storage=integer(8))))
t("P25-tar-no-storage", "torch-record-missing", tensors=tensors(body=row(storage=b"N")))
t("P25-tar-ndim", "torch-shape", tensors=tensors(body=row(ndim=10**6)))
t("P25-tar-ndim-negative", "torch-shape", tensors=tensors(body=row(ndim=-1)))
t("P25-tar-bounds", "out-of-bounds", tensors=tensors(body=row(first=1)))
t("P25-tar-stride", "torch-stride", tensors=tensors(body=row(stride=(-1,))))
t("P25-tar-object-key", "torch-record-missing", pickle=obj("3"))
t("P25-tar-rebuild", "torch-persid", pickle=state_dict(("w", tensor(text("2") + b"Q"))))
t("P25-tar-object-text", "torch-persid", pickle=obj("../x"))
for n, where in enumerate(("storages", "tensors", "pickle")):
    t(f"P25-tar-code-{n}", "pickle-runs-code", **{where: b"\x80\x02" + EVIL + b"."})

# ---- TorchScript ----


def module(*items, cls=("__torch__.net", "Net")):
    return (name(*cls) + b")\x81}(" + b"".join(text(k) + v for k, v in items) + b"ub")


def script(data=None, constants=b"\x80\x02).", source=b"class Net(Module):\n  __parameters__ = "
           b"[\"w\", ]\n  __buffers__ = []\n", more=()):
    data = b"\x80\x02" + module(("w", tensor())) + b"." if data is None else data
    return zips.zip_bytes(zips.torch_members(data, more=(
        Member("a/constants.pkl", constants), Member("a/code/__torch__/net.py", source, 8), *more)))


SCRIPT = script()


def j(id, code, offset=None, exit=3, **kw):
    case(id, "m.pt", exit, code, offset, build=script(**kw), twin=SCRIPT)


case("P24-script", "m.pt", 0, build=SCRIPT, expect_tensors=TENSORS)
case("P24-script-constant", "m.pt", 0, expect_tensors={"w": DATA, "CONSTANTS.c0": DATA},
     build=script(constants=b"\x80\x02" + tensor() + b"\x85.", more=(Member("a/constants/0", DATA),)))
case("P24-script-list", "m.pt", 0, expect_tensors={"w.0": DATA}, build=script(
    b"\x80\x02" + module(("w", name("torch.jit._pickle", "build_tensorlist") + b"(](" + tensor() +
                          b"etR")) + b"."))
j("P24-script-constants", "torchscript-constants", constants=b"\x80\x02}.")
j("P24-script-record", "torch-record-missing", constants=b"\x80\x02" + tensor() + b"\x85.")
j("P24-script-code", "pickle-runs-code", data=b"\x80\x02" + EVIL + b".")
j("P24-script-constants-code", "pickle-runs-code", constants=b"\x80\x02" + EVIL + b"\x85.")
j("P24-script-os", "pickle-runs-code", data=b"\x80\x02" + module(cls=("__torch__.os", "system")) + b".")
j("P24-script-bomb", "torchscript-code", exit=8, source=bytes(40 << 20))
j("P24-script-deep", "torch-args", data=b"\x80\x02" + module(("w", name(
    "torch._utils", "_rebuild_tensor_v2") + tup(persid()) + b"R")) + b".")

# ---- the program of a TorchScript archive: text that is compared with what torch writes ----

METHOD = (b"class Net(Module):\n  def forward(self: __torch__.net.Net,\n    x: Tensor) -> Tensor:\n"
          b"    w = self.w\n")
PROGRAM_ARGS = (("inspect", "{file}"),
                ("convert", "{file}", "--dry-run", "--to", "flax", "--format", "npz"))


def p(id, source, data=None, more=()):
    """Whatever the text is, it harms nothing and the weights are what they are."""
    case("P24-program-" + id, "m.pt", 0, args=PROGRAM_ARGS,
         build=lambda d: script(data, source=source() if callable(source) else source, more=more))


p("good", METHOD + b"    return torch.layer_norm(x, [2], w, None, 0.5)\n")
p("nested", lambda: METHOD + b"    y = " + b"torch.gelu(" * 700000)
p("brackets", lambda: METHOD + b"    y = " + b"[(" * 4000000)
p("string", lambda: METHOD + b"    y = \"" + b"\\" * 8000001)
p("arguments", lambda: METHOD + b"    y = torch.linear(" + b"w, " * 2500000 + b")\n")
p("chain", lambda: METHOD + b"    y = self" + b".w" * 4000000 + b"\n")
p("calls", lambda: METHOD + b"    y = torch.linear(x, w, None)\n" * 250000)
p("functions", lambda: METHOD + b"    y = torch.gelu(x)\n" * 400000)
p("names", lambda: METHOD + b"".join(b"    v%d = w\n" % i for i in range(500000)))
p("attributes", lambda: METHOD + b"    y = self.w\n" * 500000)
p("classes", lambda: METHOD + b"class C(Module):\n" * 400000)
p("constants", lambda: b"class Net(Module):\n" + b"  eps : Final[float] = 1.\n" * 300000)
p("blanks", lambda: METHOD + b" " * 8000000)
p("bytes", METHOD + b"    " + bytes(range(256)) * 512)
p("zeros", METHOD + b"    w\0 = self.w\0\n    y = torch.linear(x, w\0, None)\n")
p("name", lambda: b"class " + b"C" * 8000000 + b"(Module):\n" + METHOD)
p("unended", METHOD + b"    y = torch.linear(x, getattr(self, \"w")
p("itself", METHOD + b"    y = self.y.y.y.y.w\n    return torch.linear(x, y, None)\n",
  b"\x80\x02" + module(("w", tensor()), ("y", module(("w", tensor()), cls=("__torch__.net", "M")))) +
  b".", more=(Member("a/code/__torch__/m.py", METHOD),))
j("P24-program-cycle", "pickle-cycle", source=METHOD, data=b"\x80\x02" + name("__torch__.net", "Net") +
  b")\x81q\x01}(" + text("w") + tensor() + text("y") + b"h\x01ub.")
