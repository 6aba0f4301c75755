#!/usr/bin/env python3
"""Makes files as PyTorch wrote them before 0.4, by hand: gen_torch_old.py FOLDER.

No torch that old runs here, so the bytes are laid out as torch/serialization.py of today still
reads them (legacy_load, and views of storages in the stream). What counts is what the torch at
hand reads back from them.

  old_tar.pt      the tar of before 0.1.10: shared and partial storages, a storage by itself,
                  Parameters, a class with its source text
  old_stream.pt   the stream with views of storages, as up to 0.3, from a big-endian machine: its
                  numbers are little-endian all the same
"""

import collections
import io
import pathlib
import pickle
import struct
import sys
import tarfile

import torch

import gen_torch

MAGIC = 0x1950a86a20f9469cfc6c
Storages = {torch.float32: "FloatStorage", torch.int64: "LongStorage", torch.uint8: "ByteStorage"}


class Named:
    """A name to be pickled as a global."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Pickler(pickle._Pickler):
    """Python's pickler in Python: globals by name, persistent ids by what the caller says."""

    def __init__(self, file, ids=()):
        super().__init__(file, 2)
        self.ids = ids

    def persistent_id(self, obj):
        return self.ids.get(id(obj)) if self.ids else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        else:
            super().save(obj, save_persistent_id)


def dump(obj, ids=()):
    out = io.BytesIO()
    Pickler(out, ids).dump(obj)
    return out.getvalue()


class Call:
    def __init__(self, name, args, state=None):
        self.parts = (name, args) if state is None else (name, args, state)


def _save_call(self, obj):
    self.save(obj.parts[0])
    self.save(obj.parts[1])
    self.write(b"R")
    if len(obj.parts) > 2:
        self.save(obj.parts[2])
        self.write(b"b")


Pickler.dispatch = dict(pickle._Pickler.dispatch)
Pickler.dispatch[Call] = _save_call


def old_tar(path):
    base = torch.arange(24, dtype=torch.float32)
    whole, part, count = 94210, 94211, 94300
    storages = [(whole, "cpu", base), (count, "cuda:0", torch.tensor([7, -8, 9]))]
    body = dump(len(storages))
    for key, location, data in storages:
        body += dump((key, location, Named("torch", Storages[data.dtype])))
        body += struct.pack("<q", data.numel()) + data.numpy().tobytes()
    body += dump([(part, whole, 6, 12)])
    # key, storage, size, stride, first element
    rows = [(1, whole, (4, 6), (6, 1), 0), (2, part, (3, 2), (1, 3), 2), (3, count, (3,), (1,), 0),
            (4, whole, (2, 3), (0, 1), 5), (5, part, (1,), (1,), 11)]
    tensors = dump(len(rows))
    for key, storage, size, stride, first in rows:
        tensors += dump((key, storage, Named("torch", "FloatTensor")))
        tensors += struct.pack("<i4x", len(size)) + struct.pack(f"<{len(size)}q", *size)
        tensors += struct.pack(f"<{len(size)}q", *stride) + struct.pack("<q", first)
    t = {k: object() for k in (1, 2, 3, 4, 5, whole)}
    ids = {id(v): str(k) for k, v in t.items()}
    parameter = Named("torch.nn.parameter", "Parameter")
    obj = collections.OrderedDict()
    obj["w"] = t[1]
    obj["again"] = t[1]
    obj["part"] = t[2]
    obj["count"] = t[3]
    obj["p"] = Call(parameter, (t[4],))
    obj["last"] = t[5]
    obj["epoch"] = 3
    kind = object()
    ids[id(kind)] = (Named("torch.nn.modules.linear", "Linear"), "linear.py",
                     "class Linear(Module):\n    pass\n")
    obj["class"] = kind
    main = dump(obj, ids)
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (("sys_info", dump({"little_endian": True})), ("pickle", main),
                           ("tensors", tensors), ("storages", body)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1484000000.25  # a fraction takes a pax header
            tar.addfile(info, io.BytesIO(data))


def old_stream(path):
    base = torch.arange(24, dtype=torch.float32)

    def tensor(view, first, size, stride, requires_grad=None):
        storage = object()
        ids[id(storage)] = ("storage", Named("torch", "FloatStorage"), "31", "cuda:0", 24, view)
        kept.append(storage)
        return Call(Named("torch._utils", "_rebuild_tensor"), (storage, first, size, stride))

    ids, kept = {}, []
    obj = collections.OrderedDict()
    obj["whole"] = tensor(None, 0, (4, 6), (6, 1))
    obj["part"] = tensor(("32", 6, 12), 2, (2, 5), (5, 1))
    obj["same_part"] = tensor(("32", 6, 12), 2, (2, 5), (5, 1))
    obj["turned"] = tensor(("33", 20, 4), 0, (2, 2), (1, 2))
    with open(path, "wb") as f:
        f.write(dump(MAGIC) + dump(1001))
        f.write(dump({"protocol_version": 1001, "little_endian": False,
                      "type_sizes": {"short": 2, "int": 4, "long": 8}}))
        f.write(dump(obj, ids) + dump(["31"]))
        f.write(struct.pack("<q", 24) + base.numpy().tobytes())


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    gen_torch.MADE_BY = f"hand, read by {gen_torch.MADE_BY}"
    for make, name in ((old_tar, "old_tar.pt"), (old_stream, "old_stream.pt")):
        make(out / name)
        kw = {"weights_only": False} if "weights_only" in torch.load.__code__.co_varnames else {}
        back = torch.load(out / name, map_location="cpu", **kw)
        back.pop("class", None)
        gen_torch.describe(out / name, back, opaque=name == "old_tar.pt")


if __name__ == "__main__":
    main(sys.argv[1])
