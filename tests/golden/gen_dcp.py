#!/usr/bin/env python3
"""Makes the goldens of torch.distributed.checkpoint with whatever torch the interpreter has:
gen_dcp.py FOLDER. Four processes over gloo on one machine are the cluster.

  dcp         a mesh of 2 by 2: tensors cut on both axes, unevenly, on one, twice on the same, not
              at all (DTensor); three files a process
  dcp_train   a step of Adam by names; numbers, texts, lists
  dcp_boxes   uneven boxes (ShardedTensor)
  dcp_st      the tensors of dcp where each .distcp is a safetensors file
  dcp_hf      and as Hugging Face's shards, without .metadata

What is expected is what every process put in, as whole tensors; torch reads the first three back to
the same (the others have no reader for whole tensors). Older torch writes only those three; by an
early release of Python 3.11 enum members stand in them as getattr(class, name).
"""

import os
import pathlib
import shutil
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint
import torch.multiprocessing as mp

import expected
import gen_torch

WORLD = 4
NEW = hasattr(torch.distributed.checkpoint, "HuggingFaceStorageWriter")


def whole_tensors():
    g = torch.Generator().manual_seed(23)
    return {
        "both": torch.randn(5, 6, generator=g),
        "rows": torch.randn(7, 3, generator=g).to(torch.bfloat16),
        "columns": torch.arange(24).reshape(4, 6),
        "twice": torch.randn(9, 2, generator=g, dtype=torch.float64),
        "few": torch.tensor([[1.5], [2.5], [-0.0]]).to(torch.float16),
        "flag": torch.tensor([True, False, True]),
        "cube": torch.randn(3, 4, 5, generator=g),
        "turned": torch.randn(6, 4, generator=g).t(),
        "whole": torch.tensor([[7, -7]], dtype=torch.int8),
        "count": torch.tensor(3),
    }


def parts():
    """The package of DTensor, what makes a mesh, and of how many axes, in this torch."""
    try:
        import torch.distributed.tensor as tensor
        from torch.distributed.device_mesh import init_device_mesh
        return tensor, init_device_mesh, 2
    except ImportError:  # torch 2.1
        import torch.distributed._tensor as tensor

        # which saves only what was cut on one axis of at least as many as there are processes
        return tensor, lambda device, *a, **kw: tensor.DeviceMesh(device, list(range(WORLD))), 1


def save(state, where, thread_count=1):
    import torch.distributed.checkpoint as dcp
    writer = dcp.FileSystemWriter(where, thread_count=thread_count)
    if hasattr(dcp, "save"):
        dcp.save(state, storage_writer=writer)
    else:
        dcp.save_state_dict(state, writer)


def load(state, where):
    import torch.distributed.checkpoint as dcp
    reader = dcp.FileSystemReader(where)
    if hasattr(dcp, "load"):
        dcp.load(state, storage_reader=reader)
    else:
        dcp.load_state_dict(state, reader)


def cuts():
    Replicate, Shard = parts()[0].Replicate, parts()[0].Shard
    how = {"both": [Shard(0), Shard(1)], "rows": [Shard(0), Replicate()],
           "columns": [Replicate(), Shard(1)], "twice": [Shard(0), Shard(0)],
           "few": [Shard(0), Shard(0)], "flag": [Shard(0), Replicate()],
           "cube": [Shard(2), Shard(1)], "turned": [Shard(1), Shard(0)],
           "whole": [Replicate(), Replicate()]}
    if parts()[2] == 2:
        return how
    return {n: sorted(h, key=str)[-1:] for n, h in how.items() if n not in ("few", "flag")}


def make_new(rank, out):
    import torch.distributed.checkpoint as dcp
    tensor, init_device_mesh, _ = parts()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
    how = cuts()
    odd = (torch.bool, torch.bfloat16)  # gloo does not carry them in torch 2.1

    def cut(n, t):
        if n not in how:
            return t
        d = tensor.distribute_tensor(t.float() if t.dtype in odd else t, mesh, how[n])
        return d.to(t.dtype)

    state = {n: cut(n, t) for n, t in whole_tensors().items()}
    save({"model": state}, f"{out}/dcp", 3)
    double = {n: tensor.distribute_tensor(whole_tensors()[n] * 2, mesh, how[n]) for n in TRAINED}
    square = {n: tensor.distribute_tensor(whole_tensors()[n] ** 2, mesh, how[n]) for n in TRAINED}
    adam = {n: {"step": torch.tensor(4.0), "exp_avg": double[n], "exp_avg_sq": square[n]}
            for n in TRAINED}
    train = {"model": {n: state[n] for n in TRAINED},
             "optim": {"state": adam, "param_groups": [{"lr": 0.25, "params": list(TRAINED)}]},
             "epoch": 5, "note": "caf\u00e9", "list": [1, torch.tensor([2.5]), (3, "x")],
             "empty": [], "raw": {"blob": b"\0\xff"}}
    save(train, f"{out}/dcp_train", 3)
    if NEW:
        from torch.distributed.checkpoint import FileSystemWriter, HuggingFaceStorageWriter
        from torch.distributed.checkpoint.filesystem import SerializationFormat
        plain = {n: t.contiguous() for n, t in state.items() if n != "turned"}
        dcp.save(plain, storage_writer=FileSystemWriter(
            f"{out}/dcp_st", serialization_format=SerializationFormat.SAFETENSORS))
        dcp.save(plain, storage_writer=HuggingFaceStorageWriter(
            f"{out}/dcp_hf", save_distributed=True))
    back = {"model": {n: torch.zeros_like(t) for n, t in whole_tensors().items()}}
    load(back, f"{out}/dcp")
    for n, t in whole_tensors().items():
        assert torch.equal(back["model"][n], t), n


TRAINED = ("both", "columns")

# boxes of [offsets, sizes] for each rank
BOXES = {"both": [([0, 0], [2, 4]), ([0, 4], [3, 2]), ([2, 0], [3, 4]), ([3, 4], [2, 2])],
         "cube": [([0, 0, 0], [3, 1, 5]), ([0, 1, 0], [3, 3, 2]), ([0, 1, 2], [1, 3, 3]),
                  ([1, 1, 2], [2, 3, 3])]}


def make_boxes(rank, out):
    from torch.distributed._shard.sharded_tensor import Shard, init_from_local_shards
    from torch.distributed._shard.metadata import ShardMetadata
    whole = whole_tensors()

    def sharded(name, data=None):
        lo, n = BOXES[name][rank]
        t = (whole[name] if data is None else data)[tuple(slice(a, a + b) for a, b in zip(lo, n))]
        return init_from_local_shards(
            [Shard(t.contiguous(), ShardMetadata(lo, n, f"rank:{rank}/cpu"))], whole[name].size())

    state = {n: sharded(n) for n in BOXES}
    state.update({n: whole[n] for n in ("turned", "flag", "count", "whole")})
    state["epoch"] = 5
    save(state, f"{out}/dcp_boxes")
    back = {n: sharded(n, torch.zeros_like(whole[n])) for n in BOXES}
    load(back, f"{out}/dcp_boxes")
    for n in BOXES:
        for a, b in zip(back[n].local_shards(), state[n].local_shards()):
            assert torch.equal(a.tensor, b.tensor), n


def process(rank, out):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29650")
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    make_new(rank, out)
    make_boxes(rank, out)
    dist.barrier()
    dist.destroy_process_group()


def record(path, tensors, values=False):
    rows = [(n, gen_torch.NAME_OF[t.dtype], tuple(t.shape), gen_torch.canonical(t))
            for n, t in tensors.items()]
    expected.write(path, gen_torch.MADE_BY, rows, values=values)


def main(folder):
    out = pathlib.Path(folder).resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in ("dcp", "dcp_train", "dcp_boxes") + (("dcp_st", "dcp_hf") if NEW else ()):
        shutil.rmtree(out / name, ignore_errors=True)
    mp.spawn(process, args=(str(out),), nprocs=WORLD)
    whole = whole_tensors()
    record(out / "dcp", {f"model.{n}": t for n, t in whole.items()})
    tensors = {f"model.{n}": whole[n] for n in TRAINED}
    for n in TRAINED:
        tensors[f"optim.state.{n}.step"] = torch.tensor(4.0)
        tensors[f"optim.state.{n}.exp_avg"] = whole[n] * 2
        tensors[f"optim.state.{n}.exp_avg_sq"] = whole[n] * whole[n]
    tensors["list.1"] = torch.tensor([2.5])
    record(out / "dcp_train", tensors, values=True)
    record(out / "dcp_boxes", {n: whole[n] for n in [*BOXES, "turned", "flag", "count", "whole"]},
           values=True)
    plain = {n: t for n, t in whole.items() if n != "turned"}
    if NEW:
        record(out / "dcp_st", plain)
        record(out / "dcp_hf", plain)


if __name__ == "__main__":
    main(sys.argv[1])
