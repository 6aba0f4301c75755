"""Small readers of the checkpoint formats, independent of src and of every framework.

read(path) gives a list of Entry, one per tensor: flat path text, dtype name as
`inspect --json` spells it, shape, canonical bytes (little-endian, C order, sub-byte
values one a byte with zero above them), a role and the exact view it is (for aliases). Standard library
and numpy only; meant for valid files, not hostile ones. Layouts: the safetensors
README, torch/serialization.py, numpy/lib/_format_impl.py, flax/serialization.py.
"""

import ast
import collections
import io
import json
import pathlib
import pickle
import struct
import zipfile

import numpy as np

Entry = collections.namedtuple("Entry", "path dtype shape data role view")

SAFETENSORS = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16",
    "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F4": "float4_e2m1fn", "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
}
TORCH_STORAGE = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
ITEM = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1,
    "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
    "float4_e2m1fn": 1, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8,
    "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "complex32": 4, "complex64": 8,
    "complex128": 16, "int4": 1, "uint4": 1, "int2": 1, "uint2": 1,
}
SUBBYTE_MASK = {"int4": 15, "uint4": 15, "float4_e2m1fn": 15, "int2": 3, "uint2": 3}
SWAP_UNIT = {"complex32": 2, "complex64": 4, "complex128": 8}  # else the item


def segment_text(key):
    """One segment of a tree format's path: '.' is '\\.', and '\\' is '\\\\' where it stands
    before '.' or '\\' or at the end."""
    out = []
    for i, c in enumerate(key):
        if c == ".":
            out.append("\\.")
        elif c == "\\" and (i + 1 == len(key) or key[i + 1] in ".\\"):
            out.append("\\\\")
        else:
            out.append(c)
    return "".join(out)


def path_text(segments):
    return ".".join(segment_text(str(s)) for s in segments)


def unpack_nibbles(data):
    """Two values a byte, low nibble first, to one value a byte."""
    raw = np.frombuffer(data, np.uint8)
    return np.stack([raw & 15, raw >> 4], axis=-1).tobytes()


def unpack_sixes(data):
    """Four values in three bytes, lowest bits first, to one value a byte."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").reshape(-1, 6)
    return np.packbits(bits, axis=1, bitorder="little").tobytes()


# ---- roles: what the paths say -------------------------------------------------------

def role_of(path):
    first, last = path.split(".")[0], path.split(".")[-1]
    if last == "num_batches_tracked" or path in ("step", "n_averaged", "global_step",
                                                 "save_counter"):
        return "counter"
    leaf = last.partition(":")[0] if last.partition(":")[2].isdigit() else last
    if first == "optimizer_weights" and "." in path or leaf == "seed_generator_state" \
            or ".seed_generator.vars." in "." + path:
        return "train"
    if first == "metrics" and ".vars." in path:
        return "train"
    if "\\.OPTIMIZER_SLOT" in path or last in ("beta1_power", "beta2_power"):
        return "train"
    if "." in path and last in ("Adam", "Adam_1", "adam_m", "adam_v"):  # of a tensor before it
        return "train"
    if first in ("opt_state", "optimizer", "optimizer_states", "state", "lr_scheduler") or \
            path.startswith("optim.state."):
        return "train"
    if first in ("ema", "ema_params", "rng", "rngs", "cache") and "." in path:
        return "train"
    if ".rngs." in path:
        return "train"
    if last in ("running_mean", "running_var") or leaf in ("moving_mean", "moving_variance") \
            or first == "batch_stats":
        return "statistic"
    return "parameter"


# ---- safetensors ---------------------------------------------------------------------

def read_safetensors(blob):
    (n,) = struct.unpack_from("<Q", blob)
    header = json.loads(blob[8:8 + n].decode("utf-8"))
    metadata = header.pop("__metadata__", {})
    ties = json.loads(metadata.get("nnferry.aliases", "{}"))
    out = {}
    for name, t in header.items():
        lo, hi = t["data_offsets"]
        dtype, data = SAFETENSORS[t["dtype"]], blob[8 + n + lo:8 + n + hi]
        if dtype == "float4_e2m1fn":
            data = unpack_nibbles(data)
        if dtype.startswith("float6_"):
            data = unpack_sixes(data)
        out[name] = Entry(name, dtype, tuple(t["shape"]), data, role_of(name),
                          (lo, hi) if hi > lo else None)
    # the package's own save_model leaves a tied name out: metadata REMOVED -> KEPT
    for name, kept in metadata.items():
        if name not in header and kept in header and name != "format":
            out[name] = out[kept]._replace(path=name, role=role_of(name))
    for name, kept in ties.items():
        if out[name][1:4] == out[kept][1:4]:
            out[name] = out[name]._replace(view=out[kept].view)
    return list(out.values())


def read_safetensors_index(path):
    index = json.loads(path.read_text())
    out = []
    for shard in sorted(set(index["weight_map"].values())):
        for e in read_safetensors((path.parent / shard).read_bytes()):
            assert index["weight_map"][e.path] == shard
            out.append(e if e.view is None else e._replace(view=(shard,) + e.view))
    assert len(out) == len(index["weight_map"])
    return out


# ---- npy, npz ------------------------------------------------------------------------

NPY = {"b1": "bool", "V2": "bfloat16", "V1": "uint8",
       "f2": "float16", "f4": "float32", "f8": "float64", "f1": "float8_e5m2",
       "c8": "complex64", "c16": "complex128"}
for _k, _n in (("i", "int"), ("u", "uint")):
    for _b in (1, 2, 4, 8):
        NPY[f"{_k}{_b}"] = f"{_n}{8 * _b}"


def read_npy(blob):
    assert blob[:6] == b"\x93NUMPY"
    if blob[6] == 1:
        (n,), at = struct.unpack_from("<H", blob, 8), 10
    else:
        (n,), at = struct.unpack_from("<I", blob, 8), 12
    h = ast.literal_eval(blob[at:at + n].decode("latin-1" if blob[6] < 3 else "utf-8"))
    order, dtype = h["descr"][0], NPY[h["descr"][1:]]
    item, shape = ITEM[dtype], tuple(h["shape"])
    count = int(np.prod(shape, dtype=object)) if shape else 1
    data = blob[at + n:at + n + count * item]
    if order == ">":
        data = swap(data, SWAP_UNIT.get(dtype, item))
    if h["fortran_order"] and count:
        raw = np.frombuffer(data, np.dtype((np.void, item))).reshape(shape[::-1])
        data = np.ascontiguousarray(raw.T).tobytes()
    return dtype, shape, data


def swap(data, unit):
    return np.frombuffer(data, np.uint8).reshape(-1, unit)[:, ::-1].tobytes()


def read_npz(path):
    out = []
    with zipfile.ZipFile(path) as z:
        for name in z.namelist():
            key = name[:-4] if name.endswith(".npy") else name
            dtype, shape, data = read_npy(z.read(name))
            out.append(Entry(key, dtype, shape, data, role_of(key), None))
    return out


# ---- PyTorch zip ---------------------------------------------------------------------

class Tag:
    """A global that the pickle names; calling it keeps what it was called with."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, *args):
        return Made(self, args)


class Opaque:
    """Any class that is built without its constructor."""

    def __setstate__(self, state):
        self.state = state


class Made:
    def __init__(self, tag, args):
        self.tag, self.args, self.state = tag, args, None

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, k, v):  # a dict subclass that we do not know
        self.args += ((k, v),)


class Dict(dict):
    def __setstate__(self, state):
        self.state = state


Storage = collections.namedtuple("Storage", "dtype key numel")
Tensor = collections.namedtuple("Tensor", "storage offset shape stride dtype")


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return Dict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return lambda st, off, size, stride, *r: Tensor(st, off, size, stride, st.dtype)
        if module == "torch._utils" and name == "_rebuild_tensor_v3":
            return lambda st, off, size, stride, rg, hooks, dt, *r: Tensor(
                st, off, size, stride, dt.name)
        if module == "torch._utils" and name.startswith("_rebuild_parameter"):
            return lambda t, *r: t
        return Tag(module, name) if module.split(".")[0] == "torch" else Opaque

    def persistent_load(self, pid):
        kind, tag, key, _, numel = pid[:5]
        assert kind == "storage" and (len(pid) == 5 or pid[5] is None)
        dtype = TORCH_STORAGE.get(tag.name, "uint8")
        if hasattr(self, "sizes"):  # the legacy stream says it nowhere else
            self.sizes[key] = ITEM[dtype]
        return Storage(dtype, key, numel)


def tensor_bytes(t, raw):
    """Canonical bytes of a strided tensor over its storage's little-endian bytes."""
    dtype = "float4_e2m1fn" if t.dtype == "float4_e2m1fn_x2" else t.dtype
    item = ITEM[dtype]
    if 0 in t.shape:
        return b""
    flat = np.frombuffer(raw, np.dtype((np.void, item)))
    last = t.offset + sum((n - 1) * s for n, s in zip(t.shape, t.stride))
    assert last < len(flat), "view outside its storage"
    view = np.lib.stride_tricks.as_strided(flat[t.offset:], tuple(t.shape),
                                           tuple(s * item for s in t.stride), writeable=False)
    data = np.ascontiguousarray(view).tobytes()
    return unpack_nibbles(data) if t.dtype == "float4_e2m1fn_x2" else data


def member(z, name):
    """A member's bytes; torch may have been told to write no CRC."""
    with z.open(name) as f:
        if z.getinfo(name).CRC == 0:
            f._expected_crc = None
        return f.read()


def read_torch(path):
    with zipfile.ZipFile(path) as z:
        prefix = z.namelist()[0].split("/")[0]
        names = set(z.namelist())
        top = Unpickler(io.BytesIO(member(z, f"{prefix}/data.pkl"))).load()
        order = member(z, f"{prefix}/byteorder") if f"{prefix}/byteorder" in names else b"little"
        return harvest(top, lambda key: member(z, f"{prefix}/data/{key}"), order == b"big")


def read_torch_legacy(blob):
    f, top = io.BytesIO(blob), []
    for _ in range(5):
        up = Unpickler(f)
        up.sizes = {}
        top.append(up.load())
        if len(top) == 4:
            sizes = up.sizes
    assert top[0] == 0x1950a86a20f9469cfc6c and top[1] == 1001
    raw = {}
    for key in top[4]:
        (count,) = struct.unpack("<q", f.read(8))
        raw[key] = f.read(count * sizes[key])
    assert not f.read(1)
    return harvest(top[3], raw.__getitem__, not top[2]["little_endian"])


def harvest(top, storage, big):
    """Every tensor of an unpickled object, in its order."""
    out, raw, todo = [], {}, [((), top)]
    while todo:
        where, x = todo.pop()
        if isinstance(x, Tensor):
            text = ".".join(map(str, where))
            if x.storage.key not in raw:
                data = storage(x.storage.key)
                if big:
                    data = swap(data, SWAP_UNIT.get(x.dtype, ITEM[x.dtype]))
                raw[x.storage.key] = data
            dtype, shape = x.dtype, tuple(x.shape)
            if dtype == "float4_e2m1fn_x2":
                dtype, shape = "float4_e2m1fn", shape[:-1] + (2 * shape[-1],)
            view = (x.storage.key, x.offset, shape, tuple(x.stride), dtype)
            out.append(Entry(text, dtype, shape, tensor_bytes(x, raw[x.storage.key]),
                             role_of(text), view))
        elif isinstance(x, dict):
            todo.extend((where + (k,), v) for k, v in reversed(list(x.items())))
        elif isinstance(x, (list, tuple)):
            todo.extend((where + (i,), v) for i, v in reversed(list(enumerate(x))))
    return out


# ---- Flax msgpack --------------------------------------------------------------------

class Msgpack:
    def __init__(self, blob):
        self.b, self.at = blob, 0

    def take(self, n):
        assert self.at + n <= len(self.b), "short msgpack"
        self.at += n
        return self.b[self.at - n:self.at]

    def uint(self, n):
        return int.from_bytes(self.take(n), "big")

    def value(self):
        c = self.uint(1)
        if c < 0x80:
            return c
        if c < 0x90:
            return self.map(c & 15)
        if c < 0xa0:
            return [self.value() for _ in range(c & 15)]
        if c < 0xc0:
            return self.take(c & 31).decode()
        if c == 0xc0:
            return None
        if c in (0xc2, 0xc3):
            return c == 0xc3
        if 0xc4 <= c <= 0xc6:
            return self.take(self.uint(1 << (c - 0xc4)))
        if 0xc7 <= c <= 0xc9:
            return self.ext(self.uint(1 << (c - 0xc7)))
        if c == 0xca:
            return struct.unpack(">f", self.take(4))[0]
        if c == 0xcb:
            return struct.unpack(">d", self.take(8))[0]
        if 0xcc <= c <= 0xcf:
            return self.uint(1 << (c - 0xcc))
        if 0xd0 <= c <= 0xd3:
            return int.from_bytes(self.take(1 << (c - 0xd0)), "big", signed=True)
        if 0xd4 <= c <= 0xd8:
            return self.ext(1 << (c - 0xd4))
        if 0xd9 <= c <= 0xdb:
            return self.take(self.uint(1 << (c - 0xd9))).decode()
        if c in (0xdc, 0xdd):
            return [self.value() for _ in range(self.uint(2 << (c - 0xdc)))]
        if c in (0xde, 0xdf):
            return self.map(self.uint(2 << (c - 0xde)))
        return c - 0x100  # negative fixint

    def map(self, n):
        out = {}
        for _ in range(n):
            k = self.value()
            assert k not in out
            out[k] = self.value()
        return out

    def ext(self, n):
        code, body = self.uint(1), self.take(n)
        if code in (1, 3):
            shape, dtype, data = Msgpack(body).value()
            return np.array((tuple(shape), dtype if isinstance(dtype, str) else dtype.decode(),
                             data, code), dtype=object)
        return ("ext", code, body)


def read_msgpack(blob):
    m = Msgpack(blob)
    top = m.value()
    assert m.at == len(blob), "bytes after the map"
    out, todo = [], [((), top)]
    while todo:
        where, x = todo.pop()
        if isinstance(x, dict) and x.get("__msgpack_chunked_array__"):
            shape = tuple(x["shape"][str(i)] for i in range(len(x["shape"])))
            parts = [x["chunks"][str(i)] for i in range(len(x["chunks"]))]
            x = np.array((shape, parts[0][1], b"".join(p[2] for p in parts), 1), dtype=object)
        if isinstance(x, dict):
            todo.extend((where + (k,), v) for k, v in reversed(list(x.items())))
        elif isinstance(x, np.ndarray):
            text = path_text(where)
            data, mask = bytes(x[2]), SUBBYTE_MASK.get(x[1])
            if mask:
                data = bytes(b & mask for b in data)
            out.append(Entry(text, x[1], x[0], data, role_of(text), None))
    return out


def read(path):
    path = pathlib.Path(path)
    if path.is_dir():
        (index,) = path.glob("*.index.json")
        return read_safetensors_index(index)
    if path.name.endswith(".index.json"):
        return read_safetensors_index(path)
    head = path.read_bytes()[:16]
    if head[:6] == b"\x93NUMPY":
        return [Entry("", *read_npy(path.read_bytes()), "parameter", None)]
    if head[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as z:
            torch = any(n.endswith("/data.pkl") for n in z.namelist())
        return read_torch(path) if torch else read_npz(path)
    if head[:15] == b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.":
        return read_torch_legacy(path.read_bytes())
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return read_safetensors(path.read_bytes())
    return read_msgpack(path.read_bytes())
