#!/usr/bin/env python3
"""Makes the PyTorch goldens with whatever torch the interpreter has: gen_torch.py FOLDER.

Each .pt is written by torch.save; NAME.pt.json beside it says what torch reads back.
The big-endian file alone is rewritten: torch cannot be asked to save one here, so the
records of a little-endian file are swapped and the byteorder record says so; torch
itself then loads it again (where it knows that record).
"""

import argparse
import collections
import io
import pathlib
import sys
import zipfile

import torch

import expected

HERE = pathlib.Path(__file__).resolve().parent
MADE_BY = f"torch {torch.__version__.split('+')[0]}"

# dtype name of the contract -> (torch dtype, bytes per element)
DTYPES = {}
for _name, _attr, _item in [
        ("float64", "float64", 8), ("float32", "float32", 4), ("float16", "float16", 2),
        ("bfloat16", "bfloat16", 2), ("float8_e4m3fn", "float8_e4m3fn", 1),
        ("float8_e5m2", "float8_e5m2", 1), ("float8_e4m3fnuz", "float8_e4m3fnuz", 1),
        ("float8_e5m2fnuz", "float8_e5m2fnuz", 1), ("float8_e8m0fnu", "float8_e8m0fnu", 1),
        ("int64", "int64", 8), ("int32", "int32", 4), ("int16", "int16", 2), ("int8", "int8", 1),
        ("uint64", "uint64", 8), ("uint32", "uint32", 4), ("uint16", "uint16", 2),
        ("uint8", "uint8", 1), ("bool", "bool", 1), ("complex32", "complex32", 4),
        ("complex64", "complex64", 8), ("complex128", "complex128", 16)]:
    if hasattr(torch, _attr) and (_name != "complex32" or hasattr(torch, "uint16")):
        # torch 1.13 has complex32 but cannot save it
        DTYPES[_name] = (getattr(torch, _attr), _item)
NAME_OF = {dt: name for name, (dt, _) in DTYPES.items()}
SWAP = {"complex32": 2, "complex64": 4, "complex128": 8}

# what the legacy stream has storages for (torch 2.15 writes the others, too, but cannot read them)
LEGACY = {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
          "bool", "complex64", "complex128"}

# Bit patterns that arithmetic would not leave alone: signed zeros, subnormals, infinities,
# quiet and signalling NaNs with payloads.
PATTERNS = {
    8: [0x8000000000000000, 1, 0x7ff0000000000000, 0x7ff8000000001234, 0xfff0000000000001,
        0x3ff0000000000000],
    4: [0x80000000, 1, 0x7f800000, 0x7fc01234, 0xff800001, 0x3f800000],
    2: [0x8000, 1, 0x7c00, 0x7e12, 0xfc01, 0x3f80],
}


def raw_bytes(name, item, n=6):
    if name == "bool":
        return bytes([0, 1, 1, 0, 1, 0])
    if name.startswith("complex"):
        part = item // 2
        values = PATTERNS[part]
        return b"".join(v.to_bytes(part, "little") for v in (values + values[::-1]))
    if item == 1:
        return bytes([0x80, 0x01, 0x7f, 0xff, 0x38, 0x7c])
    return b"".join(v.to_bytes(item, "little") for v in PATTERNS[item])[:n * item]


def from_bytes(raw, dtype, shape):
    if dtype is torch.bool:
        t = torch.frombuffer(bytearray(raw), dtype=torch.uint8).to(torch.bool)
    else:
        t = torch.frombuffer(bytearray(raw), dtype=dtype)
    # frombuffer's storage is borrowed; a plain owned copy of the same bits is wanted
    return t.view(torch.uint8).clone().view(dtype).reshape(shape)


def canonical(t):
    t = t.detach()
    if t.dtype not in NAME_OF:
        raise ValueError(f"no name for {t.dtype}")
    data = t.contiguous().clone(memory_format=torch.contiguous_format)
    if data.numel() == 0:
        return b""
    if data.dim() == 0:
        data = data.reshape(1)
    return data.view(torch.uint8).numpy().tobytes()


def walk(x, where=()):
    if isinstance(x, torch.Tensor):
        yield ".".join(map(str, where)), x
    elif isinstance(x, dict):
        for k, v in x.items():
            yield from walk(v, where + (k,))
    elif isinstance(x, (list, tuple)):
        for i, v in enumerate(x):
            yield from walk(v, where + (i,))
    elif isinstance(x, argparse.Namespace):  # arrays inside opaque objects are found
        yield from walk(vars(x), where)
    elif isinstance(x, torch.nn.Module):  # under the names of its state_dict
        yield from walk(x.state_dict(), where)


def has_values(x):
    """Leaves that are no tensors, or containers with nothing in them."""
    if isinstance(x, (dict, list, tuple)):
        inner = list(x.values()) if isinstance(x, dict) else list(x)
        return not inner or any(has_values(v) for v in inner)
    return not isinstance(x, torch.Tensor)


def describe(path, obj, opaque=False, refused=None):
    tensors, groups = [], collections.defaultdict(list)
    for name, t in walk(obj):
        tensors.append((name, NAME_OF[t.dtype], tuple(t.shape), canonical(t)))
        st = t.untyped_storage() if hasattr(t, "untyped_storage") else t.storage()
        key = (st.data_ptr() if st.nbytes() else id(t), t.storage_offset(), tuple(t.shape),
               t.stride(), t.dtype)
        groups[key].append(name)
    expected.write(path, MADE_BY, tensors, [g for g in groups.values() if len(g) > 1], opaque,
                   has_values(obj), refused)


def save(path, obj, opaque=False, refused=None, **kw):
    torch.save(obj, path, **kw)
    # what counts is what torch reads back from the file
    kw = {"weights_only": False} if "weights_only" in torch.load.__code__.co_varnames else {}
    back = torch.load(path, map_location="cpu", **kw)
    for (name, a), (_, b) in zip(walk(obj), walk(back)):
        assert canonical(a) == canonical(b), name
    describe(path, back, opaque, refused)


def views():
    base = torch.arange(24, dtype=torch.float32)
    other = torch.arange(12, dtype=torch.float16) * 0.5
    d = collections.OrderedDict()
    d["whole"] = base.view(4, 6)
    d["at_offset"] = base[7:13]
    d["transposed"] = base.view(4, 6).t()
    d["expanded"] = torch.tensor([1.5, -2.5]).unsqueeze(1).expand(2, 5)
    d["overlap_a"] = base[0:16].view(4, 4)
    d["overlap_b"] = base[8:24].view(4, 4)
    d["strided"] = base[1::3]
    d["permuted"] = base.view(2, 3, 4).permute(2, 0, 1)
    d["tied_1"] = other.view(3, 4)
    d["tied_2"] = d["tied_1"]
    d["a_tied_3"] = other.view(3, 4)
    d["same_storage_other_shape"] = other.view(4, 3)
    d["scalar"] = base[5]
    d["zero_size"] = torch.empty(0, 7)
    d["zero_size_2"] = torch.empty(3, 0, 2, dtype=torch.int64)
    d["zero_d"] = torch.tensor(-3, dtype=torch.int16)
    d["one"] = torch.ones(1, 1, 1)
    d["window"] = base.as_strided((5, 4), (2, 1), 3)  # sliding, overlaps itself
    return d


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
        self.register_buffer("seen", torch.tensor([4, 5]))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 3)
        self.bn = torch.nn.BatchNorm2d(3)
        self.fc = torch.nn.Linear(3, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def trained(make_optimizer, steps=3):
    torch.manual_seed(20)
    net = Net()
    opt = make_optimizer(net)
    for _ in range(steps):
        opt.zero_grad()
        net(torch.randn(4, 2, 5, 5)).pow(2).sum().backward()
        opt.step()
    return net, opt


def big_endian(source, target):
    """source with every storage swapped and the byteorder record saying big."""
    seen = {}

    class Ids(__import__("pickle").Unpickler):
        def find_class(self, module, name):
            if name.endswith("Storage"):
                return name
            if module == "collections":
                return collections.OrderedDict
            if name == "_rebuild_tensor_v3":
                return lambda st, *r: seen.__setitem__(st, r[5])
            return name if module == "torch" else (lambda *a: None)

        def persistent_load(self, pid):
            seen.setdefault(pid[2], pid[1])
            return pid[2]

    unit_of = {"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2,
               "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1,
               "ByteStorage": 1, "BoolStorage": 1, "ComplexFloatStorage": 4,
               "ComplexDoubleStorage": 8, "uint16": 2, "uint32": 4, "uint64": 8, "complex32": 2}
    with zipfile.ZipFile(source) as z, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as out:
        prefix = z.namelist()[0].split("/")[0]
        Ids(io.BytesIO(z.read(f"{prefix}/data.pkl"))).load()
        names = z.namelist()
        if f"{prefix}/byteorder" not in names:
            names.append(f"{prefix}/byteorder")
        for name in names:
            data = b"big" if name.endswith("/byteorder") else z.read(name)
            key = name.split("/data/")[-1]
            if "/data/" in name and data:
                unit = unit_of.get(seen[key], 1)
                data = b"".join(data[i:i + unit][::-1] for i in range(0, len(data), unit))
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            if not name.endswith((".format_version", ".storage_alignment")):
                out.writestr(info, data)


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(19)

    every = collections.OrderedDict(
        (name, from_bytes(raw_bytes(name, item), dt, (2, 3)))
        for name, (dt, item) in DTYPES.items())
    save(out / "dtypes.pt", every)
    if hasattr(torch, "float4_e2m1fn_x2"):
        packed = torch.arange(8, dtype=torch.uint8).mul(17).reshape(2, 4)
        t = packed.view(torch.float4_e2m1fn_x2)
        torch.save({"w": t}, out / "float4.pt")
        raw = packed.numpy().tobytes()
        expected.write(out / "float4.pt", MADE_BY, [
            ("w", "float4_e2m1fn", (2, 8), bytes(v for b in raw for v in (b & 15, b >> 4)))])
    save(out / "views.pt", views())
    torch.manual_seed(21)
    tied = torch.nn.Parameter(torch.randn(3, 2))
    save(out / "nested.pt", {
        "weights": {"enc": {"w": tied, "b": torch.nn.Parameter(torch.zeros(2), False)},
                    "dec": {"w": tied}},
        "stages": [torch.arange(3), (torch.tensor([True, False]), {"deep": torch.ones(2)})],
        "empty_dict": {}, "empty_list": [], "empty_tuple": (),
        "none": None, "flag": True, "count": 7, "big": 2 ** 70, "minus": -5, "rate": 0.1,
        "text": "caf\u00e9", 3: torch.tensor([3.0]), "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16, "device": torch.device("cpu"),
    })

    net, opt = trained(lambda n: torch.optim.Adam(n.parameters(), lr=0.01, amsgrad=True))
    save(out / "state_dict.pt", net.state_dict())
    save(out / "adam.pt", {"model": net.state_dict(), "optimizer": opt.state_dict(),
                           "epoch": 3, "loss": 0.25})
    net, opt = trained(lambda n: torch.optim.SGD(
        [{"params": n.conv.parameters(), "lr": 0.1}, {"params": n.fc.parameters()}],
        lr=0.01, momentum=0.9, nesterov=True))
    save(out / "sgd.pt", {"model": net.state_dict(), "optimizer": opt.state_dict()})
    save(out / "legacy.pt", views(), _use_new_zipfile_serialization=False)
    save(out / "legacy_dtypes.pt", {k: v for k, v in every.items() if k in LEGACY},
         _use_new_zipfile_serialization=False)
    # a module, with the source text of its class
    save(out / "legacy_module.pt", Tiny(), opaque=True, _use_new_zipfile_serialization=False)
    save(out / "protocol4.pt", {"a": torch.arange(4), "b": {"c": torch.ones(2, 2)}},
         pickle_protocol=4)
    # a class off every allow-list: an opaque node, a drop that must be allowed by name
    save(out / "opaque.pt", {"w": torch.arange(3.0), "args": argparse.Namespace(lr=0.1),
                             "inside": argparse.Namespace(t=torch.ones(2))},
         opaque=True)
    big_endian(out / "dtypes.pt", out / "big_endian.pt")
    describe(out / "big_endian.pt", every)
    if hasattr(torch.serialization, "set_default_load_endianness"):
        back = torch.load(out / "big_endian.pt", weights_only=True)
        wrong = [n for (n, a), (_, b) in zip(walk(every), walk(back))
                 if canonical(a) != canonical(b)]
        # torch (2.15 at least) does not swap what _rebuild_tensor_v3 makes
        print("big endian, not swapped by torch:", wrong)
        assert all(n in ("uint16", "uint32", "uint64", "complex32") for n in wrong), wrong
    if hasattr(torch.serialization, "set_crc32_options"):
        torch.serialization.set_crc32_options(False)
        save(out / "no_crc.pt", {"w": torch.arange(5.0), "b": torch.tensor([7])})
        torch.serialization.set_crc32_options(True)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main(sys.argv[1])
