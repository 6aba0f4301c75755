"""What torch writes besides its zip, read by nnferry and compared with what torch reads back: the
stream of before 1.6, TorchScript, Lightning checkpoints, torch.distributed.checkpoint of a mesh of
two by two processes whose parts are larger than a tile. Then again as a .pt that torch loads with
weights_only=True."""

import ast
import json
import logging
import os
import warnings

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import safetensors.torch
from common import Failure, fresh, need, nnferry

WORLD = 4


def same(want, path, room, *options):
    """path holds exactly the tensors `want`, through safetensors and through a .pt."""
    nnferry("convert", path, "-o", room / "x.safetensors", "-f", "--allow-drop", "*", *options)
    nnferry("convert", path, "-o", room / "x.pt", "-f", "--allow-drop", "*", *options)
    loaded = torch.load(room / "x.pt", weights_only=True)
    for got in (safetensors.torch.load_file(room / "x.safetensors"), dict(flat(loaded))):
        need(set(got) == set(want), f"other names: {sorted(set(got) ^ set(want))[:4]}")
        for name, t in want.items():
            if got[name].dtype != t.dtype or got[name].shape != t.shape:
                raise Failure(f"{name}: {got[name].dtype} {tuple(got[name].shape)}")
            a, b = (x.detach().contiguous().reshape(-1).view(torch.uint8) for x in (got[name], t))
            need(torch.equal(a, b), f"{name}: other bits")


def flat(x, path=""):
    if isinstance(x, torch.Tensor):
        yield path[1:], x
    elif isinstance(x, dict):
        for k, v in x.items():
            yield from flat(v, f"{path}.{k}")
    elif isinstance(x, (list, tuple)):
        for i, v in enumerate(x):
            yield from flat(v, f"{path}.{i}")


def stream():
    room = fresh("torch_stream")
    base = torch.randn(300, 40)
    obj = {"w": base, "t": base.t(), "part": base[7:90, 3:9], "ints": [torch.arange(9), 3],
           "half": torch.randn(5).half(), "flag": torch.tensor([True, False])}
    torch.save(obj, room / "m.pt", _use_new_zipfile_serialization=False)
    same(dict(flat(torch.load(room / "m.pt", weights_only=True))), room / "m.pt", room)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.bn = torch.nn.BatchNorm2d(8)
        self.fc = torch.nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def script(kind):
    room = fresh("torch_script")
    net = Net()
    m = torch.jit.script(net) if kind == "script" else torch.jit.trace(net, torch.randn(2, 3, 6, 6))
    torch.jit.save(m, str(room / "m.pt"))
    want = {n: t.detach() for n, t in torch.jit.load(str(room / "m.pt")).state_dict().items()}
    listed = nnferry("inspect", room / "m.pt", "--json").stdout
    seen = {t["name"]: t["role"] for t in json.loads(listed)["tensors"]}
    names = [n for n in seen if not n.startswith("CONSTANTS.")]
    need(names == list(want), f"names or order: {names[:3]}")
    parameters = [n for n, _ in m.named_parameters()]
    need([n for n in names if seen[n] == "parameter"] == parameters, "other parameters")
    nnferry("convert", room / "m.pt", "-o", room / "x.safetensors")
    got = safetensors.torch.load_file(room / "x.safetensors")
    for n, t in want.items():
        need(torch.equal(got[n], t.contiguous()), f"{n}: other bits")


class Settings(torch.nn.Module):
    """Layers whose numbers are no framework's defaults; square kernels of either convolution."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 4, 3, padding=2, dilation=2, bias=False)
        self.bn = torch.nn.BatchNorm2d(4, eps=0.3)
        self.up = torch.nn.ConvTranspose2d(4, 4, 3, bias=False)
        self.gn = torch.nn.GroupNorm(2, 4, eps=0.2)
        self.low = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.norm = torch.nn.LayerNorm(6, eps=0.1)

    def forward(self, x):
        x = torch.nn.functional.leaky_relu(self.bn(self.conv(x)), 0.4)
        x = torch.nn.functional.gelu(self.gn(self.up(x)))
        return self.norm(self.low(x).mean((2, 3)))


def settings(kind):
    """What the notes say to set is what makes Flax's layers compute what torch's did."""
    import flax.linen as nn
    import flax.serialization
    import numpy as np

    class Flax(nn.Module):
        set: dict

        @nn.compact
        def __call__(self, x):
            def of(layer):
                return dict(self.set.get(layer, {}), name=layer)

            def called(*names):
                return {n: v for n, v in self.set.get("forward", {}).items() if n in names}

            x = nn.Conv(4, (3, 3), kernel_dilation=(2, 2), use_bias=False, **of("conv"))(x)
            x = nn.BatchNorm(use_running_average=True, **of("bn"))(x)
            x = nn.leaky_relu(x, **called("negative_slope"))
            x = nn.ConvTranspose(4, (3, 3), use_bias=False, **of("up"))(x)
            x = nn.gelu(nn.GroupNorm(**of("gn"))(x), **called("approximate"))
            x = nn.Conv(6, (3, 3), 2, **of("low"))(x)
            return nn.LayerNorm(**of("norm"))(x.mean((1, 2)))

    room, x = fresh("torch_settings"), torch.randn(2, 4, 8, 8)
    net = Settings().eval()
    with torch.no_grad():
        for t in list(net.parameters()) + [net.bn.running_mean, net.bn.running_var]:
            t.copy_(torch.rand(t.shape) + 0.1)
        want = net(x).numpy()
        m = torch.jit.script(net) if kind == "script" else torch.jit.trace(net, x)
    torch.jit.save(m, str(room / "m.pt"))
    said = json.loads(nnferry("convert", room / "m.pt", "-o", room / "m.msgpack", "--to", "flax",
                              "--json").stdout)
    told = {}
    for note in said["notes"]:
        name, _, value = note["set"].partition("=")
        need(note["known"] and value, f"not known: {note}")
        told.setdefault(note["layer"], {})[name] = ast.literal_eval(value)
    state = flax.serialization.msgpack_restore((room / "m.msgpack").read_bytes())
    there = x.permute(0, 2, 3, 1).numpy()
    got = np.asarray(Flax(told).apply(state, there))
    need(np.allclose(got, want, rtol=1e-4, atol=1e-4), f"outputs differ by {abs(got - want).max()}")
    for layer in told:
        less = {k: v for k, v in told.items() if k != layer}
        try:
            other = np.asarray(Flax(less).apply(state, there))
        except (TypeError, ValueError):  # no groups of 32
            continue
        need(not np.allclose(other, want, rtol=1e-4, atol=1e-4), f"the note on {layer} tells nothing")


def lightning():
    import pytorch_lightning as pl
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Tiny(pl.LightningModule):
        def __init__(self, width=4):
            super().__init__()
            self.save_hyperparameters()
            self.model = torch.nn.Linear(3, width)

        def training_step(self, batch, index):
            return self.model(batch[0]).pow(2).sum()

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.1)

    room = fresh("torch_lightning")
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 3)), 4)
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
                         enable_model_summary=False, enable_checkpointing=False)
    trainer.fit(Tiny(), data)
    trainer.save_checkpoint(room / "m.ckpt")
    same(dict(flat(torch.load(room / "m.ckpt", weights_only=False))), room / "m.ckpt", room)


def whole():
    g = torch.Generator().manual_seed(31)
    return {"both": torch.randn(1501, 903, generator=g), "rows": torch.randn(7, 5, generator=g),
            "turned": torch.randn(903, 1201, generator=g).t(),
            "cube": torch.randint(0, 99, (6, 400, 301), generator=g),
            "half": torch.randn(2049, 77, generator=g).to(torch.bfloat16), "few": torch.ones(3, 2)}


def process(rank, folder, port):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
    how = {"both": [Shard(0), Shard(1)], "rows": [Shard(0), Shard(0)], "few": [Shard(0), Shard(0)],
           "turned": [Shard(1), Shard(0)], "cube": [Shard(2), Shard(1)],
           "half": [Replicate(), Shard(0)]}
    state = {n: distribute_tensor(t, mesh, how[n]) for n, t in whole().items()}
    dcp.save({"model": state}, checkpoint_id=f"{folder}/m")
    dcp.save({n: t.contiguous() for n, t in state.items() if n != "turned"},
             storage_writer=dcp.HuggingFaceStorageWriter(f"{folder}/hf", save_distributed=True))
    dist.barrier()
    dist.destroy_process_group()


def distributed():
    import torch.distributed.checkpoint as dcp
    room = fresh("torch_dcp")
    mp.spawn(process, args=(str(room), 29660), nprocs=WORLD)
    want = whole()
    back = {"model": {n: torch.zeros(t.shape, dtype=t.dtype) for n, t in want.items()}}
    dcp.load(back, checkpoint_id=room / "m", no_dist=True)
    same({f"model.{n}": t for n, t in back["model"].items()}, room / "m", room, "--memory", "64M")
    for n, t in want.items():
        need(torch.equal(back["model"][n], t), f"torch itself reads another {n}")
    same({n: t for n, t in want.items() if n != "turned"}, room / "hf", room)


def run(tally):
    tally.run("the stream of before 1.6", stream)
    tally.run("TorchScript: scripted", script, "script")
    tally.run("TorchScript: traced", script, "trace")
    tally.run("TorchScript: what a scripted program says", settings, "script")
    tally.run("TorchScript: what a traced program says", settings, "trace")
    tally.run("Lightning checkpoint", lightning)
    tally.run("distributed checkpoint, 2 by 2 processes", distributed)
