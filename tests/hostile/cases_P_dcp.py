"""Folders of torch.distributed.checkpoint: what .metadata says against what the blobs hold."""

import json
import struct

from lib import case
from zips import DATA, integer, name, state_dict, tensor, text, torch_zip, tup

META = "torch.distributed.checkpoint.metadata"
EVIL = b"cposix\nsystem\n" + text("true") + b"\x85R"
TENSORS = {"w": DATA * 2}


def obj(module, cls, *fields):
    return name(module, cls) + b")\x81}(" + b"".join(text(k) + v for k, v in fields) + b"ub"


def size(*dims):
    return name("torch", "Size") + tup(tup(*map(integer, dims))) + b"R"


def properties(dtype="float32", home=META, encoding="_MEM_FORMAT_ENCODING", strides=(b"N",)):
    return (name(home, "TensorProperties") + b")\x81" + tup(
        name("torch", dtype), name("torch.serialization", "_get_layout") +
        tup(text("torch.strided")) + b"R", b"\x89", name(home, encoding) + tup(integer(0)) + b"R",
        b"\x89", *strides) + b"b")


def chunk(lo, n):
    return obj(META, "ChunkStorageMetadata", ("offsets", size(*lo)), ("sizes", size(*n)))


def storage_metadata(dims=(4,), chunks=(((0,), (2,)), ((2,), (2,))), props=None):
    return obj(META, "TensorStorageMetadata", ("properties", props or properties()),
               ("size", size(*dims)), ("chunks", b"](" + b"".join(chunk(*c) for c in chunks) + b"e"))


def index(fqn="w", lo=None):
    return obj(META, "MetadataIndex", ("fqn", text(fqn)), ("offset", b"N" if lo is None else size(*lo)),
               ("index", b"N"))


def place(path="__0_0.distcp", offset=0, length=None, more=()):
    return obj("torch.distributed.checkpoint.filesystem", "_StorageInfo", ("relative_path", text(path)),
               ("offset", integer(offset)), ("length", integer(len(BLOB) if length is None else length)),
               *more)


BLOB = torch_zip(b"\x80\x02" + tensor() + b".")  # a float32 tensor of two
VALUE = torch_zip(b"\x80\x02" + integer(5) + b".")


def dictionary(*pairs):
    return b"}(" + b"".join(k + v for k, v in pairs) + b"u"


def metadata(items=None, planner=b"N", places=None):
    items = dictionary((text("w"), storage_metadata())) if items is None else items
    if places is None:
        places = [(index(lo=(0,)), place()), (index(lo=(2,)), place(offset=len(BLOB)))]
    return b"\x80\x02" + obj(META, "Metadata", ("state_dict_metadata", items),
                             ("planner_data", planner), ("storage_data", dictionary(*places)),
                             ("storage_meta", b"N")) + b"."


def folder(meta=None, blobs=BLOB * 2, more=()):
    def build(d):
        root = d / "m"
        root.mkdir()
        (root / ".metadata").write_bytes(metadata() if meta is None else meta)
        (root / "__0_0.distcp").write_bytes(blobs)
        for n, data in more:
            (root / n).write_bytes(data)
    return build


GOOD = folder()


def d(id, code, exit=3, offset=None, **kw):
    case(id, "m", exit, code, offset, build=folder(**kw), twin=GOOD)


def tensors(*args, **kw):
    return metadata(dictionary((text("w"), storage_metadata(*args, **kw))))


case("P30-good", "m", 0, build=GOOD, expect_tensors=TENSORS)
case("P30-old-home", "m", 0, expect_tensors=TENSORS, build=folder(tensors(props=properties(
    home="torch.distributed._shard.sharded_tensor.metadata", encoding="MEM_FORMAT_ENCODING",
    strides=()))))
case("P30-empty-part", "m", 0, expect_tensors=TENSORS, build=folder(tensors(
    chunks=(((0,), (2,)), ((2,), (2,)), ((4,), (0,))))))
d("P30-code", "pickle-runs-code", meta=b"\x80\x02" + EVIL + b".")
d("P30-code-blob", "pickle-runs-code",
  blobs=torch_zip(b"\x80\x02" + EVIL + b".").ljust(len(BLOB), b"\0") + BLOB,
  meta=metadata(places=[(index(lo=(0,)), place(length=len(torch_zip(b"\x80\x02" + EVIL + b".")))),
                        (index(lo=(2,)), place(offset=len(BLOB)))]))
d("P30-class", "dcp-metadata", meta=b"\x80\x02" + obj("mine", "Metadata") + b".")
d("P30-empty", "truncated", meta=b"")
d("P30-tail", "pickle-tail", meta=metadata() + b"\0")
d("P31-overlap", "dcp-overlap", meta=metadata(
    dictionary((text("w"), storage_metadata((3,), (((0,), (2,)), ((1,), (2,)))))),
    places=[(index(lo=(0,)), place()), (index(lo=(1,)), place())]))
d("P31-hole", "dcp-hole", meta=tensors((5,)))
d("P31-outside", "dcp-bounds", meta=tensors((3,)))
d("P31-wraps", "dcp-bounds", meta=metadata(
    dictionary((text("w"), storage_metadata(chunks=(((2**63 - 1,), (2,)), ((2,), (2,)))))),
    places=[(index(lo=(2**63 - 1,)), place()), (index(lo=(2,)), place())]))
d("P31-huge", "shape-overflow", meta=metadata(
    dictionary((text("w"), storage_metadata((2**62, 8), (((0, 0), (2**62, 8)),)))),
    places=[(index(lo=(0, 0)), place())]))
d("P31-ranks", "dcp-metadata", meta=tensors((4,), (((0, 0), (2, 1)),)))
d("P31-shape", "dcp-shape", meta=metadata(
    dictionary((text("w"), storage_metadata((3,), (((0,), (3,)),)))),
    places=[(index(lo=(0,)), place())]))
d("P31-type", "dcp-type", meta=tensors(props=properties("int32")))
d("P31-unknown-type", "dcp-metadata", meta=tensors(props=properties("qint8")))
d("P31-negative", "dcp-metadata", meta=tensors((-4,)))
d("P31-same-part", "dcp-overlap", meta=tensors(chunks=(((0,), (2,)), ((0,), (2,)))))
d("P31-no-place", "dcp-place", meta=metadata(places=[(index(lo=(0,)), place())]))
d("P31-place-twice", "dcp-place-twice", meta=metadata(
    places=[(index(lo=(0,)), place()), (index(lo=(0,)), place())]))
d("P32-path", "path-escape", meta=metadata(places=[(index(lo=(0,)), place("../outside/x"))]))
d("P32-absolute", "path-escape", meta=metadata(places=[(index(lo=(0,)), place("/etc/passwd"))]))
d("P32-dots", "path-escape", meta=metadata(places=[(index(lo=(0,)), place(".."))]), offset=False)
d("P32-missing", None, meta=metadata(places=[(index(lo=(0,)), place("__9_9.distcp"))]), offset=False)
d("P32-range", "truncated", meta=metadata(places=[(index(lo=(0,)), place(offset=10**9)),
                                                  (index(lo=(2,)), place())]))
d("P32-wraps", "truncated", meta=metadata(places=[(index(lo=(0,)), place(offset=2**64 - 8)),
                                                  (index(lo=(2,)), place())]))
d("P32-length", None, meta=metadata(places=[(index(lo=(0,)), place(length=len(BLOB) - 1)),
                                            (index(lo=(2,)), place())]))
d("P32-transform", "dcp-transform", meta=metadata(places=[
    (index(lo=(0,)), place(more=(("transform_descriptors", b"](" + text("zstd") + b"e"),)))]))
d("P32-value", "dcp-blob", meta=metadata(
    places=[(index(lo=(0,)), place(length=len(VALUE))), (index(lo=(2,)), place())]),
  blobs=VALUE + BLOB * 2)
d("P32-gaps", "dcp-gaps", blobs=torch_zip(b"\x80\x02" + tensor(shape=(2,), stride=(0,)) + b".") * 2,
  meta=metadata(places=[
      (index(lo=(2 * k,)), place(offset=k * n, length=n)) for k, n in
      ((k, len(torch_zip(b"\x80\x02" + tensor(shape=(2,), stride=(0,)) + b"."))) for k in range(2))]))
d("P33-clash", "dcp-metadata", meta=metadata(
    dictionary((text("w"), storage_metadata()), (text("v"), storage_metadata())),
    dictionary((text("w"), tup(text("a"))), (text("v"), tup(text("a")))),
    [(index(f, (lo,)), place(offset=lo // 2 * len(BLOB))) for f in "wv" for lo in (0, 2)]))
d("P33-through", "dcp-metadata", meta=metadata(
    dictionary((text("w"), storage_metadata()), (text("v"), storage_metadata())),
    dictionary((text("w"), tup(text("a"))), (text("v"), tup(text("a"), text("b")))),
    [(index(f, (lo,)), place(offset=lo // 2 * len(BLOB))) for f in "wv" for lo in (0, 2)]))
d("P33-path", "dcp-metadata", meta=metadata(planner=dictionary((text("w"), tup(b"N", text("x"))))))


# ---- enum members as early releases of Python 3.11 pickle them: getattr(class, name) ----

OLD = "torch.distributed._shard.sharded_tensor.metadata"
CONTIGUOUS = text("TORCH_CONTIGUOUS_FORMAT")


def member(args, getattr=name("builtins", "getattr"), home=OLD):
    return tensors(props=name(home, "TensorProperties") + b")\x81" + tup(
        name("torch", "float32"), name("torch.serialization", "_get_layout") +
        tup(text("torch.strided")) + b"R", b"\x89", getattr + args + b"R", b"\x89") + b"b")


ENUM, NEW_ENUM = name(OLD, "MEM_FORMAT_ENCODING"), name(META, "_MEM_FORMAT_ENCODING")
MEMBER = folder(member(tup(ENUM, CONTIGUOUS)))
for n, (args, kw) in enumerate(((tup(ENUM, CONTIGUOUS), {}),
                                (tup(ENUM, text("TORCH_CHANNELS_LAST")), {}),
                                (tup(NEW_ENUM, text("TORCH_PRESERVE_FORMAT")), {"home": META}),
                                (tup(ENUM, CONTIGUOUS),
                                 {"getattr": name("__builtin__", "getattr")}))):
    case(f"P35-member-{n}", "m", 0, build=folder(member(args, **kw)), expect_tensors=TENSORS)
for n, (args, kw) in enumerate((
        (tup(ENUM, text("mro")), {}), (tup(ENUM, text("__class__")), {}),
        (tup(ENUM, text("TORCH_CONTIGUOUS_FORMAT.__class__")), {}),
        (tup(ENUM, text("torch_contiguous_format")), {}),
        (tup(ENUM, CONTIGUOUS, b"N"), {}), (tup(ENUM), {}), (b")", {}),
        (tup(name("torch", "Size"), CONTIGUOUS), {}),  # known, but no enum
        (tup(name("torch", "serialization"), text("os")), {}),
        (tup(ENUM + tup(integer(0)) + b"R", CONTIGUOUS), {}),  # an instance's attribute
        (tup(name("builtins", "getattr") + tup(ENUM, CONTIGUOUS) + b"R", CONTIGUOUS), {}),
        (tup(ENUM, CONTIGUOUS), {"getattr": name("builtins", "setattr")}))):
    case(f"P35-getattr-{n}", "m", 3, "pickle-runs-code", None, build=folder(member(args, **kw)),
         twin=MEMBER)
case("P35-getattr-value", "m", 3, "pickle-runs-code", None, twin=MEMBER, build=folder(metadata(
    planner=dictionary((text("x"), name("builtins", "getattr"))))))
case("P35-getattr-dropped", "m", 3, "pickle-runs-code", None, twin=MEMBER, build=folder(
    b"\x80\x02" + name("builtins", "getattr") + tup(ENUM, text("mro")) + b"R0" +
    member(tup(ENUM, CONTIGUOUS))[2:]))
case("P35-getattr-state", "m", 3, "pickle-runs-code", None, twin=MEMBER, build=folder(member(
    tup(ENUM, CONTIGUOUS) + b"R" + dictionary((text("x"), b"N")) + b"b" + b"0" +
    name("builtins", "getattr") + tup(ENUM, CONTIGUOUS))))


def rank_metadata(d):
    GOOD(d)
    (d / "m" / ".metadata").rename(d / "m" / "__0.metadata")


case("P30-rank", "m", 3, "dcp-rank-metadata", False, build=rank_metadata, twin=GOOD)

# ---- Hugging Face's shards ----


def shard(offsets, info=None, data=DATA):
    info = json.dumps({"w": {"saved_offsets": offsets}}) if info is None else info
    head = json.dumps({"__metadata__": {"DCP_SHARDING_INFO": info}, "w": {
        "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(head)) + head + data


def shards(*files):
    def build(d):
        (d / "m").mkdir()
        for i, blob in enumerate(files):
            (d / "m" / f"shard-{i + 1:05}-model-00001-of-00001.safetensors").write_bytes(blob)
    return build


HF = shards(shard([0]), shard([2]))
case("P34-good", "m", 0, build=HF, expect_tensors=TENSORS)
for n, (code, second) in enumerate((
        ("dcp-overlap", shard([1])), ("dcp-hole", shard([3])),
        ("dcp-sharding-info", shard([-1])), ("dcp-sharding-info", shard([0, 0])),
        ("dcp-sharding-info", shard([])), ("dcp-sharding-info", shard([2**63])),
        ("dcp-sharding-info", shard(0, "{}")), (None, shard(0, "[]")), (None, shard(0, "{")),
        ("dcp-sharding-info", shard(0, '{"x": {"saved_offsets": [2]}}')),
        ("dcp-sharding-info", shard(0, '{"w": {"saved_offsets": [2]}, "w": {"saved_offsets": [2]}}')))):
    case(f"P34-{n}", "m", 3, code, None, build=shards(shard([0]), second), twin=HF)
