"""Orbax restores what we write, bit for bit, and we read what Orbax and zarr wrote.

Arrays are sharded over eight simulated devices, which JAX must know of before it starts, so all of
this runs in a process of its own: orbax_files.py as a program prints a line of JSON a test.
"""

import json
import os
import subprocess
import sys

from common import ROOT, SCRATCH, Failure, convert, entries, fresh, need, same_tensors

MASK = {"int4": 15, "int2": 3, "float4_e2m1fn": 15}


def run(tally):
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8",
                        "JAX_PLATFORMS": "cpu", "NNFERRY_SCRATCH": str(SCRATCH)}
    got = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True,
                         timeout=900)
    lines = [json.loads(s) for s in got.stdout.splitlines() if s.startswith('{"test"')]
    for line in lines:
        def told(line=line):
            need(line["ok"], line["text"])
            return line["text"]
        tally.run(line["test"], told)
    if got.returncode != 0 or not lines:
        tally.fail("(process)", f"exit {got.returncode}: {got.stderr[-1500:]}")


# ---- in the other process ----

def bits(a):
    import numpy as np
    raw = np.ascontiguousarray(a).tobytes()
    mask = MASK.get(a.dtype.name)
    return bytes(b & mask for b in raw) if mask else raw


def flat(tree, where=()):
    """{path: leaf}; lists by number."""
    items = tree.items() if isinstance(tree, dict) else (
        enumerate(tree) if isinstance(tree, (list, tuple)) else None)
    if items is None:
        return {where: tree}
    out = {} if tree else {where: tree}
    for k, v in items:
        out |= flat(v, where + (str(k),))
    return out


def same_tree(got, want, what):
    import numpy as np
    got, want = flat(got), flat(want)
    need(list(sorted(got)) == list(sorted(want)),
         f"{what}: other paths: {sorted(set(got) ^ set(want))[:4]}")
    for path, v in want.items():
        g = got[path]
        if isinstance(v, (np.ndarray, np.generic)):
            need(g.dtype == v.dtype and g.shape == v.shape, f"{what}: {path}: {g.dtype} {g.shape}")
            need(bits(np.asarray(g)) == bits(v), f"{what}: {path}: other bytes")
        else:
            need(type(g) is type(v) and repr(g) == repr(v), f"{what}: {path}: {g!r}, not {v!r}")
    return f"{len(want)} leaves"


def example():
    import ml_dtypes
    import numpy as np
    rng = np.random.default_rng(3)
    tree = {"params": {}, "step": 12, "rate": 0.1, "big": 2 ** 63 + 5, "yes": True,
            "text": "caf\u00e9 \"quoted\"", "none": None, "empty": {}, "n": -7,
            "list": [np.arange(2), {"w": np.ones((1, 2), np.float32)}],
            "a.b": {"c/d": np.arange(3)}, "zero_d": np.array(3, np.int32),
            "none_in": np.zeros((2, 0, 3), np.float32), "w\u00f6rter": np.arange(2)}
    for name in ("float64", "float32", "float16", "bfloat16", "complex64", "complex128", "int8",
                 "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
                 "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
                 "float8_e8m0fnu"):
        dt = np.dtype(getattr(ml_dtypes, name, None) or name)
        raw = rng.integers(0, 256, size=12 * dt.itemsize, dtype=np.uint8)
        tree["params"][name] = (raw % 2 if name == "bool" else raw).view(dt).reshape(3, 4)
    for name, lo, hi in (("int4", -8, 8), ("int2", -2, 2)):
        tree["params"][name] = rng.integers(lo, hi, size=5).astype(getattr(ml_dtypes, name))
    return tree


def as_msgpack(tree, path):
    import msgpack
    import numpy as np

    def pack(x):
        if isinstance(x, (np.ndarray, np.generic)):
            return msgpack.ExtType(1, msgpack.packb([list(x.shape), x.dtype.name, x.tobytes()]))
        if isinstance(x, dict):
            return {k: pack(v) for k, v in x.items()}
        if isinstance(x, list):
            return {str(i): pack(v) for i, v in enumerate(x)}
        return x
    path.write_bytes(msgpack.packb(pack(tree)))


def write_and_restore(how):
    import orbax.checkpoint as ocp
    folder = fresh(f"orbax-write-{how}")
    tree = example()
    as_msgpack(tree, folder / "in.msgpack")
    tree["list"] = dict(enumerate(tree["list"]))
    out = folder / "root" / "3" / "default"
    out.parent.mkdir(parents=True)
    convert(folder / "in.msgpack", out, "--format", "orbax", "--as-is")
    if how == "standard":
        got = ocp.StandardCheckpointer().restore(out.absolute())
    elif how == "pytree":
        got = ocp.PyTreeCheckpointer().restore(out.absolute())
    else:
        with ocp.CheckpointManager((folder / "root").absolute()) as m:
            need(m.latest_step() == 3, f"latest step is {m.latest_step()}")
            got = m.restore(3, args=ocp.args.StandardRestore())
    return same_tree(got, tree, how)


def restore_sharded():
    """What we wrote goes straight onto devices that an abstract target names."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    folder = fresh("orbax-target")
    w = np.arange(64, dtype=np.float32).reshape(8, 8)
    as_msgpack({"w": w, "b": w[0].astype(np.int32)}, folder / "in.msgpack")
    convert(folder / "in.msgpack", folder / "o", "--format", "orbax", "--as-is")
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))
    target = {"w": jax.ShapeDtypeStruct((8, 8), np.float32, sharding=NamedSharding(mesh, P("y", "x"))),
              "b": jax.ShapeDtypeStruct((8,), np.int32, sharding=NamedSharding(mesh, P("x")))}
    got = ocp.StandardCheckpointer().restore((folder / "o").absolute(), target)
    need(len(got["w"].sharding.device_set) == 8, "not on eight devices")
    return same_tree({k: np.asarray(v) for k, v in got.items()},
                     {"w": w, "b": w[0].astype(np.int32)}, "sharded")


def many_leaves():
    """More keys than one node of the store takes."""
    import numpy as np
    import orbax.checkpoint as ocp
    folder = fresh("orbax-many")
    tree = {"layers": {f"l{i}": {"w": np.full((2,), i, np.int32)} for i in range(9000)}}
    as_msgpack(tree, folder / "in.msgpack")
    convert(folder / "in.msgpack", folder / "o", "--format", "orbax", "--as-is")
    return same_tree(ocp.PyTreeCheckpointer().restore((folder / "o").absolute()), tree, "many")


def sharded(spec):
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))
    return lambda a: jax.device_put(a, NamedSharding(mesh, P(*spec)))


def save_and_read(kw):
    import ml_dtypes
    import numpy as np
    import orbax.checkpoint as ocp
    rng = np.random.default_rng(4)
    plain = {"w": rng.normal(size=(16, 24)).astype(np.float32),
             "h": rng.normal(size=(8, 4, 2)).astype(ml_dtypes.bfloat16),
             "i": rng.integers(-9, 9, size=(8,)).astype(np.int32),
             "zeros": np.zeros((8, 8), np.float32)}
    spec = {"w": ("x", "y"), "h": ("y", None, "x"), "i": (("x", "y"),), "zeros": ("y", "x")}
    tree = {k: sharded(spec[k])(v) for k, v in plain.items()}
    folder = fresh("orbax-read")
    handler = ocp.PyTreeCheckpointHandler(**kw)
    with ocp.Checkpointer(handler) as c:
        c.save((folder / "in").absolute(), args=ocp.args.PyTreeSave(tree))
    convert(folder / "in", folder / "out.safetensors", "--as-is")
    got = entries(folder / "out.safetensors")
    same_tensors(got, {k: (v.dtype.name, v.shape, v.tobytes()) for k, v in plain.items()}, str(kw))
    return f"{len(plain)} arrays on 8 devices"


def optimizer_round_trip():
    """A train state of optax through Orbax, our archive and back."""
    import jax
    import numpy as np
    import optax
    import orbax.checkpoint as ocp
    params = {"dense": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    tx = optax.chain(optax.clip(1.0), optax.adam(1e-2))
    state = {"params": params, "opt_state": tx.init(params), "step": 5}
    folder = fresh("orbax-state")
    with ocp.StandardCheckpointer() as c:
        c.save((folder / "in").absolute(), state)
    convert(folder / "in", folder / "a.tar.zst", "--as-is")
    convert(folder / "a.tar.zst", folder / "out", "--format", "orbax", "--as-is")
    a = ocp.StandardCheckpointer().restore((folder / "in").absolute())
    b = ocp.StandardCheckpointer().restore((folder / "out").absolute())
    return same_tree(jax.tree_util.tree_map(lambda x: np.asarray(x) if hasattr(x, "dtype") else x, b),
                     jax.tree_util.tree_map(lambda x: np.asarray(x) if hasattr(x, "dtype") else x, a),
                     "train state")


def goldens_restore():
    """Every golden that Orbax can hold, written by us, is restored with the bits of its record."""
    import hashlib
    import numpy as np
    import orbax.checkpoint as ocp
    n = 0
    for record in sorted((ROOT / "tests" / "golden").glob("orbax*/*.json")):
        want = json.loads(record.read_text())
        folder = fresh("orbax-golden")
        convert(record.parent / want["file"], folder / "o", "--format", "orbax", "--as-is")
        got = flat(ocp.PyTreeCheckpointer().restore((folder / "o").absolute()))
        import checkpoints
        by_name = {checkpoints.path_text(k): v for k, v in got.items()}
        for t in want["tensors"]:
            v = np.asarray(by_name[t["name"]])
            if v.dtype.name != t["dtype"]:  # a numpy scalar comes back as Python's float
                need(v.shape == () and not t["shape"], f"{record.stem}: {t['name']}: {v.dtype}")
                v = v.astype(t["dtype"])
            need(hashlib.sha256(bits(v)).hexdigest() == t["sha256"],
                 f"{record.stem}: {t['name']}: other bytes")
            n += 1
    return f"{n} arrays"


def main():
    sys.path.insert(0, str(ROOT / "tests" / "lib"))
    tests = {f"write, {h}": (write_and_restore, h) for h in ("standard", "pytree", "manager")}
    tests |= {"write, onto devices": (restore_sharded,), "write, 9000 arrays": (many_leaves,),
              "goldens written": (goldens_restore,), "train state": (optimizer_round_trip,)}
    for name, kw in (("ocdbt", {}), ("zarr 2", {"use_ocdbt": False}),
                     ("zarr 3", {"use_ocdbt": False, "use_zarr3": True}),
                     ("ocdbt, zarr 3", {"use_zarr3": True})):
        tests[f"read, {name}"] = (save_and_read, kw)
    for name, (test, *args) in tests.items():
        ok = True
        try:
            text = test(*args)
        except Failure as e:
            ok, text = False, str(e)
        except Exception as e:
            ok, text = False, f"{type(e).__name__}: {e}"[:1500]
        print(json.dumps({"test": name, "ok": ok, "text": text}), flush=True)


if __name__ == "__main__":
    main()
