#!/usr/bin/env python3
"""Makes the Orbax goldens: gen_orbax.py FOLDER [OLD].

OLD is a folder that `pip install --no-deps --target` filled with an old orbax-checkpoint (0.5.20
with nest_asyncio, or 0.2.3); without it the installed one is taken, and zarr-python for arrays
that Orbax itself never writes. Arrays are sharded over eight simulated devices on two axes.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys

PROCESS = os.environ.get("GEN_ORBAX_PROCESS")  # one of two, with half of the devices each
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={4 if PROCESS else 8}"
os.environ["JAX_PLATFORMS"] = "cpu"
if len(sys.argv) > 2:
    sys.path.insert(0, sys.argv[2])

import jax  # noqa: E402

if PROCESS:
    jax.distributed.initialize(os.environ["GEN_ORBAX_ADDRESS"], 2, int(PROCESS))
import jax.numpy as jnp  # noqa: E402
import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import orbax.checkpoint as ocp  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P  # noqa: E402

import expected  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from checkpoints import path_text  # noqa: E402

VERSION = getattr(ocp, "__version__", "old")
if len(sys.argv) > 2:
    found = sorted(pathlib.Path(sys.argv[2]).glob("orbax_checkpoint-*.dist-info"))
    VERSION = found[0].name.split("-")[1].removesuffix(".dist")
MADE_BY = f"orbax-checkpoint {VERSION}, jax {jax.__version__}"
MASK = {"int4": 15, "uint4": 15, "int2": 3, "float4_e2m1fn": 15}
NUMBERS = (bool, int, float, complex)


def canonical(a):
    raw = np.ascontiguousarray(a).tobytes()
    mask = MASK.get(a.dtype.name)
    return bytes(b & mask for b in raw) if mask else raw


def leaves(tree, where=()):
    """(path, value) of everything; lists and tuples by number."""
    if isinstance(tree, dict):
        items = tree.items()
    elif hasattr(tree, "_fields"):
        items = zip(tree._fields, tree)
    elif isinstance(tree, (list, tuple)):
        items = ((str(i), v) for i, v in enumerate(tree))
    else:
        yield where, tree
        return
    if not tree:
        yield where, tree
    for k, v in items:
        yield from leaves(v, where + (k,))


def as_array(v):
    if isinstance(v, jax.Array) and jnp.issubdtype(v.dtype, jax.dtypes.prng_key):
        v = jax.random.key_data(v)
    return np.asarray(v)


def record(path, tree, made_by=MADE_BY):
    tensors, values = [], False
    for where, v in leaves(tree):
        # what Orbax gives back as a number of Python's is a value, not a tensor
        number = isinstance(v, NUMBERS)
        values = values or number or isinstance(v, str)
        if number or v is None or isinstance(v, (str, dict, list, tuple)):
            continue
        a = as_array(v)
        tensors.append((path_text(where), a.dtype.name, a.shape, canonical(a)))
    expected.write(path, made_by, tensors, values=values)


def trees(old):
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))

    def put(a, *spec):
        return jax.device_put(a, NamedSharding(mesh, P(*spec)))
    rng = np.random.default_rng(5)
    w = rng.normal(size=(4, 8)).astype(np.float32)
    tree = {
        "params": {
            "both": put(w, "x", "y"), "turned": put(w, "y", "x"), "one": put(w, None, "y"),
            "cube": put(np.asarray(rng.normal(size=(2, 3, 4)), ml_dtypes.bfloat16), "x", None, "y"),
            "whole": put(w[:3, :5], None, None),
            "zeros": put(np.zeros((4, 8), np.float32), "x", "y"),
        },
        "opt_state": [{"count": jnp.asarray(3, jnp.int32)}, {}],
        "step": 7, "rate": 0.1, "none": None, "empty": {}, "list": [],
        "numpy": np.arange(6).reshape(2, 3), "wide": np.array([1.5, -0.0]),
        "pair": (jnp.arange(2, dtype=jnp.uint8), jnp.asarray([True, False])),
        "half": jnp.asarray([1, 2], jnp.float16), "complex": np.array([1 + 2j], np.complex64),
    }
    if not old:
        tree |= {
            "a.b": {"c/d": jnp.arange(2, dtype=jnp.int8)}, "text": "caf\u00e9",
            "int4": jnp.asarray([-8, 7, 1, 0], jnp.int4), "key": jax.random.key(3),
            "e4m3": jnp.asarray([1, -2], jnp.float8_e4m3fn), "scalar": np.float32(2.5),
        }
    return tree


def clean(path):
    """Times of saving would make every run differ."""
    for f in path.rglob("commit_success.txt"):
        f.unlink()
    return path


def save_current(out):
    tree = trees(False)
    plain = {k: v for k, v in tree.items() if k != "text"}

    def fresh(name):
        shutil.rmtree(out / name, ignore_errors=True)
        return out / name

    path = fresh("standard")
    with ocp.StandardCheckpointer() as c:
        c.save(path.absolute(), plain)
    record(clean(path), plain)

    some = {k: plain["params"][k] for k in ("both", "turned", "cube")}
    small = {"params": some, "text": tree["text"], "key": tree["key"],
             "int4": tree["int4"], "step": 7, "list": [jnp.ones(1), jnp.zeros((2, 1))]}
    for name, kw in (("zarr2", {"use_ocdbt": False}), ("zarr3", {"use_ocdbt": False,
                                                                 "use_zarr3": True}),
                     ("ocdbt_zarr3", {"use_zarr3": True})):
        path = fresh(name)
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**kw)) as c:
            c.save(path.absolute(), args=ocp.args.PyTreeSave(small))
        record(clean(path), small)

    # as it stands when the stores of the processes were never merged
    path = fresh("unmerged")
    shutil.copytree(out / "standard", path)
    (path / "manifest.ocdbt").unlink()
    shutil.rmtree(path / "d")
    record(path, plain)

    path = fresh("manager")
    with ocp.CheckpointManager(path.absolute()) as m:
        m.save(5, args=ocp.args.Composite(
            state=ocp.args.StandardSave({"params": tree["params"], "step": 7}),
            extra=ocp.args.JsonSave({"note": 1})))
    record(clean(path), {"params": tree["params"], "step": 7})

    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)])
            self.norm = nnx.BatchNorm(3, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

    state = nnx.state(Net(nnx.Rngs(0)))
    path = fresh("nnx_state")
    with ocp.StandardCheckpointer() as c:
        c.save(path.absolute(), state)
    as_dict = jax.tree_util.tree_map(
        lambda v: {"value": v}, {k: v for k, v in nnx.to_pure_dict(state).items()})
    record(clean(path), numbered(as_dict))
    path = fresh("nnx_pure")
    with ocp.StandardCheckpointer() as c:
        c.save(path.absolute(), nnx.to_pure_dict(state))
    record(clean(path), numbered(nnx.to_pure_dict(state)))
    save_processes(out)
    save_zarr(out)


def of_two_processes():
    rng = np.random.default_rng(9)
    return {"both": rng.normal(size=(8, 6)).astype(np.float32),
            "turned": rng.normal(size=(4, 8)).astype(np.float32),
            "copied": rng.integers(0, 9, size=(3, 2)).astype(np.int32)}


def one_of_two(folder):
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
    spec = {"both": P("x", "y"), "turned": P("y", "x"), "copied": P()}
    tree = {k: jax.make_array_from_callback(a.shape, NamedSharding(mesh, spec[k]),
                                            lambda at, a=a: a[at])
            for k, a in of_two_processes().items()}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as c:
        c.save(pathlib.Path(folder).absolute(), args=ocp.args.PyTreeSave(tree))


def save_processes(out):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        address = f"localhost:{s.getsockname()[1]}"
    path = out / "processes"
    shutil.rmtree(path, ignore_errors=True)
    two = [subprocess.Popen([sys.executable, __file__, str(path)],
                            env=os.environ | {"GEN_ORBAX_PROCESS": str(i),
                                              "GEN_ORBAX_ADDRESS": address}) for i in (0, 1)]
    assert [p.wait() for p in two] == [0, 0]
    record(clean(path), of_two_processes())
    apart = out / "processes_unmerged"
    shutil.rmtree(apart, ignore_errors=True)
    shutil.copytree(path, apart)
    (apart / "manifest.ocdbt").unlink()
    shutil.rmtree(apart / "d")
    record(apart, of_two_processes())


def numbered(tree):
    return {str(k): numbered(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def save_zarr(out):
    """Arrays of zarr-python: what Orbax reads and others write."""
    import numcodecs
    import zarr
    from zarr.codecs import (BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec,
                             ZstdCodec)
    path = out / "zarr_python"
    shutil.rmtree(path, ignore_errors=True)
    rng = np.random.default_rng(6)
    # repeats, so that streams are really compressed
    a = np.tile(rng.integers(0, 50, size=(6, 5)).astype(np.int32), (4, 3))
    made = {}

    def v2(name, data, **kw):
        z = zarr.create_array(path / name, shape=data.shape, dtype=data.dtype, zarr_format=2,
                              **{"chunks": (13, 9), "compressors": None} | kw)
        z[...] = data
        made[name] = data

    # one chunk is enough where the grid is not the point
    for inner in ("lz4", "zstd", "zlib", "blosclz"):
        for shuffle in (0, 1, 2):
            v2(f"blosc_{inner}_{shuffle}", a, chunks=a.shape,
               compressors=numcodecs.Blosc(inner, clevel=5, shuffle=shuffle))
    v2("blosc_wide", np.arange(3000, dtype=np.float64).reshape(60, 50), chunks=(60, 50),
       compressors=numcodecs.Blosc("lz4", clevel=5, shuffle=1))
    v2("gzip", a, compressors=numcodecs.GZip())
    v2("zlib", a, compressors=numcodecs.Zlib())
    v2("fortran", a, order="F", compressors=numcodecs.Zstd())
    v2("big", a.astype(">i4"))
    v2("slash", a, chunk_key_encoding={"name": "v2", "separator": "/"})
    v2("scalar", np.array(2.5), chunks=())
    for name, dtype, fill in (("fill_f4", "f4", 0.1), ("fill_nan", "f8", float("nan")),
                              ("fill_i8", "i8", -5), ("fill_f2", "f2", 1.1),
                              ("fill_b", "?", True), ("fill_c8", "c8", 1.5 + 2j)):
        z = zarr.create_array(path / name, shape=(4, 3), chunks=(2, 2), dtype=dtype,
                              zarr_format=2, compressors=None, fill_value=fill)
        if name != "fill_c8":
            z[:2, :2] = np.zeros((2, 2), dtype)
        made[name] = z[...]

    def v3(name, data, **kw):
        z = zarr.create_array(path / name, shape=data.shape, dtype=data.dtype, zarr_format=3,
                              **{"chunks": (13, 9), "compressors": None} | kw)
        z[...] = data
        made[name] = data

    v3("v3_blosc", a, compressors=BloscCodec(cname="zstd", shuffle="bitshuffle"))
    v3("v3_gzip", a, compressors=GzipCodec())
    v3("v3_crc", a, compressors=[ZstdCodec(), Crc32cCodec()])
    v3("v3_crc_raw", a, compressors=[Crc32cCodec()])
    v3("v3_turned", a, filters=[TransposeCodec(order=(1, 0))], serializer=BytesCodec(endian="big"))
    v3("v3_shards", a, chunks=(5, 4), shards=(15, 8), compressors=ZstdCodec(checksum=True))
    z = zarr.create_array(path / "v3_fill", shape=(9, 9), chunks=(2, 2), shards=(4, 4),
                          dtype="f4", zarr_format=3, fill_value=float("-inf"))
    z[:3, :3] = 1
    made["v3_fill"] = z[...]
    made = {n: d.astype(d.dtype.newbyteorder("=")) for n, d in sorted(made.items())}
    record(path, made, f"zarr {zarr.__version__}, numcodecs {numcodecs.__version__}")


def save_old(out):
    tree = trees(True)
    handler = ocp.PyTreeCheckpointHandler
    if VERSION.startswith("0.2"):
        # what this version takes from JAX had one more key in its time
        from jax.experimental.array_serialization import serialization
        now = serialization._get_metadata
        serialization._get_metadata = lambda a: dict(now(a), dtype=0)
        ocp.Checkpointer(handler(use_ocdbt=False)).save((out / "placeholders").absolute(), tree)
        record(out / "placeholders", {**tree, "step": np.asarray(7), "rate": np.asarray(0.1)})
        packed = jax.tree_util.tree_map(lambda x: ocp.SaveArgs(aggregate=True), tree)
        packed["params"]["both"] = ocp.SaveArgs(aggregate=False)
        ocp.Checkpointer(handler(use_ocdbt=False)).save((out / "aggregate").absolute(), tree,
                                                        save_args=packed)
        record(out / "aggregate", tree)
        return
    for name, ocdbt in (("zarr", False), ("ocdbt", True)):
        ocp.Checkpointer(handler(use_ocdbt=ocdbt)).save((out / name).absolute(), tree)
        record(out / name, tree)


def main(folder):
    out = pathlib.Path(folder)
    if PROCESS:
        one_of_two(folder)
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if len(sys.argv) > 2:
        save_old(out)
    else:
        save_current(out)


if __name__ == "__main__":
    main(sys.argv[1])
